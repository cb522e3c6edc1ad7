/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The bundles of a backup on their way into the repository; see bundle_write.h and
 * bundle_internal.h.
 *
 * Uploaders take parts in the order in which they came, seal and put them. When the last part of an
 * ended bundle is durable, an uploader puts the index, and after that the bundle's lines go to the
 * manifest. So an index says that all of its bundle is there.
 *
 * Buffers: one for each writer, and two for each uploader (being put, waiting), or one when parts
 * are encrypted, since then the uploader has the sealed part in memory of its own and the buffer is
 * free before the put. A writer that finds none waits: that is the back-pressure.
 *
 * What a crash leaves: parts, and indexes of bundles that are complete. Nobody takes a bundle
 * without its index for one.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/fs.h"
#include "repo/bundle_internal.h"
#include "stream/codec_frame.h"

/* An index is text: about 150 bytes a file, and bundle_write.c ends a bundle early that has many.
 */
#define BUNDLE_LINES_MAX (256u * 1024u * 1024u)
#define BUNDLE_UPLOADERS_MAX 64u

struct BundleSet
{
    BundleOptions options;
    char label[BACKUP_LABEL_NAME_MAX];
    ObjectFormat index_format;
    size_t part_bytes; /* of each buffer */
    atomic_bool stop;  /* ends puts that are under way */

    pthread_mutex_t lock;   /* guards everything below, and what Bundle says */
    pthread_cond_t work;    /* for uploaders */
    pthread_cond_t changed; /* for those who wait: a buffer came back, a bundle is done, failure */
    BundlePartBuf *pool;
    unsigned buffers; /* in being: in the pool or not */
    unsigned in_use;
    unsigned writers;
    BundlePartBuf *head, *tail; /* parts to put */
    Bundle *index_head, *index_tail;
    uint32_t next_bundle;
    unsigned open;    /* bundles begun and not ended */
    unsigned unready; /* bundles that are not durable and told to the manifest, nor given up */
    bool ending;
    bool failed;
    Error failure;
    BundleCounts counts;

    pthread_t threads[BUNDLE_UPLOADERS_MAX];
    unsigned thread_count;
};

/* ---- bundles ---- */

static void
bundle_free(Bundle *bundle)
{
    if (bundle == NULL)
        return;
    strbuf_reset(&bundle->folders);
    strbuf_reset(&bundle->files);
    free(bundle->frame_bytes);
    free(bundle->parts);
    free(bundle);
}

static void
bundle_part_buf_free(BundlePartBuf *buf)
{
    if (buf == NULL)
        return;
    free(buf->payload);
    free(buf);
}

/* ---- failure ---- */

/* Lock held. The first failure stays, and wakes everybody. */
static void
bundle_set_fail_locked(BundleSet *set, const Error *err)
{
    if (!set->failed)
    {
        set->failed = true;
        set->failure = *err;
        atomic_store(&set->stop, true);
    }
    (void) pthread_cond_broadcast(&set->work);
    (void) pthread_cond_broadcast(&set->changed);
}

/* Lock held. Also takes notice of the caller's cancel flag, which wakes nobody. */
static int
bundle_set_check_locked(BundleSet *set, Error *err)
{
    if (!set->failed && set->options.cancel != NULL && atomic_load(set->options.cancel))
    {
        Error canceled = {0};

        (void) error_set(&canceled, ERROR_CANCELED, "could not store the backup: canceled");
        bundle_set_fail_locked(set, &canceled);
    }
    if (!set->failed)
        return 0;
    *err = set->failure;
    return -1;
}

int
bundle_set_check(BundleSet *set, Error *err)
{
    (void) pthread_mutex_lock(&set->lock);

    int rc = bundle_set_check_locked(set, err);

    (void) pthread_mutex_unlock(&set->lock);
    return rc;
}

/* Lock held. Waits for a change, a little; the caller's cancel flag is seen. */
static void
bundle_set_wait(BundleSet *set)
{
    const Deadline never = {.at_ms = INT64_MAX, .cancel = set->options.cancel};

    deadline_cond_wait(&never, &set->changed, &set->lock);
}

/* ---- for writers ---- */

const BundleOptions *
bundle_set_options(const BundleSet *set)
{
    return &set->options;
}

void
bundle_set_add_writer(BundleSet *set)
{
    (void) pthread_mutex_lock(&set->lock);
    set->writers++;
    (void) pthread_mutex_unlock(&set->lock);
}

void
bundle_set_remove_writer(BundleSet *set)
{
    (void) pthread_mutex_lock(&set->lock);
    assert(set->writers > 0);
    set->writers--;
    (void) pthread_mutex_unlock(&set->lock);
}

int
bundle_set_begin(BundleSet *set, Bundle **out, Error *err)
{
    Bundle *bundle = calloc(1, sizeof *bundle);

    if (bundle == NULL)
        return error_nomem(err);
    strbuf_init(&bundle->folders, BUNDLE_LINES_MAX);
    strbuf_init(&bundle->files, BUNDLE_LINES_MAX);

    (void) pthread_mutex_lock(&set->lock);

    int rc = bundle_set_check_locked(set, err);

    if (rc == 0 && set->next_bundle >= BACKUP_BUNDLES_MAX)
        rc = error_set(
            err, ERROR_USAGE, "a backup cannot have more than %u bundles", BACKUP_BUNDLES_MAX);
    if (rc == 0)
    {
        bundle->no = set->next_bundle++;
        set->open++;
        set->unready++;
    }
    (void) pthread_mutex_unlock(&set->lock);
    if (rc < 0)
    {
        bundle_free(bundle);
        return -1;
    }
    *out = bundle;
    return 0;
}

/* Lock held. */
static unsigned
bundle_set_buffer_limit(const BundleSet *set)
{
    return set->writers + (set->options.repo->recipients != NULL ? 1 : 2) * set->options.uploaders;
}

static BundlePartBuf *
bundle_part_buf_new(size_t bytes)
{
    BundlePartBuf *buf = calloc(1, sizeof *buf);

    if (buf == NULL)
        return NULL;
    buf->payload = fs_alloc_io(bytes);
    if (buf->payload == NULL)
    {
        free(buf);
        return NULL;
    }
    return buf;
}

int
bundle_set_take_part(BundleSet *set, BundlePartBuf **out, Error *err)
{
    BundlePartBuf *buf = NULL;
    bool make = false;
    int rc;

    (void) pthread_mutex_lock(&set->lock);
    while ((rc = bundle_set_check_locked(set, err)) == 0 &&
           set->in_use >= bundle_set_buffer_limit(set))
        bundle_set_wait(set);
    if (rc == 0)
    {
        set->in_use++;
        buf = set->pool;
        if (buf != NULL)
            set->pool = buf->next;
        else
            make = true;
    }
    if (make)
        set->buffers++;
    (void) pthread_mutex_unlock(&set->lock);
    if (rc < 0)
        return -1;
    if (make && (buf = bundle_part_buf_new(set->part_bytes)) == NULL)
    {
        (void) pthread_mutex_lock(&set->lock);
        set->in_use--;
        set->buffers--;
        (void) pthread_mutex_unlock(&set->lock);
        return error_nomem(err);
    }
    buf->next = NULL;
    buf->bundle = NULL;
    buf->len = 0;
    *out = buf;
    return 0;
}

void
bundle_set_give_back(BundleSet *set, BundlePartBuf *buf)
{
    (void) pthread_mutex_lock(&set->lock);
    buf->next = set->pool;
    set->pool = buf;
    assert(set->in_use > 0);
    set->in_use--;
    (void) pthread_cond_broadcast(&set->changed);
    (void) pthread_mutex_unlock(&set->lock);
}

/* Lock held. */
static int
bundle_add_part(Bundle *bundle, const BundlePartInfo *info, Error *err)
{
    if (bundle->part_count == bundle->part_cap)
    {
        size_t cap = bundle->part_cap == 0 ? 16 : 2 * bundle->part_cap;
        BundlePartInfo *parts = reallocarray(bundle->parts, cap, sizeof *parts);

        if (parts == NULL)
            return error_nomem(err);
        bundle->parts = parts;
        bundle->part_cap = cap;
    }
    bundle->parts[bundle->part_count++] = *info;
    return 0;
}

int
bundle_set_submit(
    BundleSet *set, Bundle *bundle, const BundlePartInfo *info, BundlePartBuf *buf, Error *err)
{
    (void) pthread_mutex_lock(&set->lock);

    int rc = bundle_set_check_locked(set, err);

    if (rc == 0)
        rc = bundle_add_part(bundle, info, err);
    if (rc == 0)
    {
        buf->bundle = bundle;
        buf->part = (uint32_t) (bundle->part_count - 1);
        buf->next = NULL;
        if (set->tail != NULL)
            set->tail->next = buf;
        else
            set->head = buf;
        set->tail = buf;
        bundle->pending++;
        (void) pthread_cond_signal(&set->work);
    }
    (void) pthread_mutex_unlock(&set->lock);
    if (rc < 0)
        bundle_set_give_back(set, buf);
    return rc;
}

/* Lock held. If nothing is left to be put of an ended bundle: its index is next, or its end. */
static void
bundle_set_settle(BundleSet *set, Bundle *bundle)
{
    if (!bundle->ended || bundle->pending > 0)
        return;
    if (bundle->discarded)
    {
        set->unready--;
        (void) pthread_cond_broadcast(&set->changed);
        bundle_free(bundle);
        return;
    }
    bundle->next = NULL;
    if (set->index_tail != NULL)
        set->index_tail->next = bundle;
    else
        set->index_head = bundle;
    set->index_tail = bundle;
    (void) pthread_cond_signal(&set->work);
}

void
bundle_set_end(BundleSet *set, Bundle *bundle, bool discard)
{
    (void) pthread_mutex_lock(&set->lock);
    bundle->ended = true;
    bundle->discarded = discard;
    set->open--;
    bundle_set_settle(set, bundle);
    (void) pthread_mutex_unlock(&set->lock);
}

void
bundle_set_count_file(BundleSet *set, uint64_t plain_bytes)
{
    (void) pthread_mutex_lock(&set->lock);
    set->counts.files++;
    set->counts.plain_bytes += plain_bytes;
    (void) pthread_mutex_unlock(&set->lock);
}

/* ---- uploaders ---- */

/* Seals and puts one part; sealed is the uploader's, kept from part to part. Gives buf back. */
static int
bundle_set_put_part(BundleSet *set, BundlePartBuf *buf, ObjectSealed *sealed, Error *err)
{
    const AgeRecipients *recipients = set->options.repo->recipients;
    char key[LAYOUT_KEY_MAX];
    ObjectPutResult result;
    int rc;

    (void) backup_part_key(set->label, buf->bundle->no, buf->part, key);
    rc = object_seal(recipients, key, buf->payload, buf->len, sealed, err);
    if (recipients != NULL || rc < 0)
        bundle_set_give_back(set, steal(buf));
    if (rc == 0)
    {
        Deadline dl = deadline_after_ms(set->options.put_timeout_ms, &set->stop);

        /* the same bytes under the name: our own put, whose answer was lost */
        rc = object_put_sealed(set->options.repo->store, sealed, &dl, &result, err);
    }
    if (buf != NULL)
        bundle_set_give_back(set, buf);
    return rc < 0 ? error_wrap(err, "could not store part \"%s\"", key) : 0;
}

/* Adds the lines of the parts to those of the files. */
static void
bundle_format_parts(Bundle *bundle)
{
    for (size_t i = 0; i < bundle->part_count; i++)
    {
        const BundlePartInfo *info = &bundle->parts[i];
        const BackupPart part = {
            .bundle = bundle->no,
            .part = (uint32_t) i,
            .first_frame = info->first_frame,
            .frame_count = info->frame_count,
            .frame_bytes = bundle->frame_bytes + info->first_frame,
            .last_plain_bytes = info->last_plain_bytes,
            .stored_bytes = info->stored_bytes};

        manifest_format_part(&part, &bundle->files);
    }
}

/* All parts are durable: says so, first in the repository, then to the manifest. */
static int
bundle_set_put_index(BundleSet *set, Bundle *bundle, Error *err)
{
    char key[LAYOUT_KEY_MAX];
    ObjectPutResult result;

    bundle_format_parts(bundle);
    if (strbuf_finish(&bundle->files, err) < 0 || strbuf_finish(&bundle->folders, err) < 0)
        return error_wrap(err, "could not write the index of bundle %u", (unsigned) bundle->no);

    Deadline dl = deadline_after_ms(set->options.put_timeout_ms, &set->stop);

    if (object_put_bytes(
            set->options.repo->store, &set->index_format,
            backup_index_key(set->label, bundle->no, key), strbuf_text(&bundle->files),
            bundle->files.len, &dl, &result, err) < 0)
        return error_wrap(err, "could not store index \"%s\"", key);
    if (bundle->folders.len > 0 &&
        manifest_writer_add(
            set->options.manifest, strbuf_text(&bundle->folders), bundle->folders.len, err) < 0)
        return -1;
    if (bundle->files.len > 0 &&
        manifest_writer_add(
            set->options.manifest, strbuf_text(&bundle->files), bundle->files.len, err) < 0)
        return -1;
    return 0;
}

/* Lock held; released in between. */
static void
bundle_set_do_part(BundleSet *set, ObjectSealed *sealed)
{
    BundlePartBuf *buf = set->head;
    Bundle *bundle = buf->bundle;
    uint32_t part = buf->part;
    Error err = {0};

    set->head = buf->next;
    if (set->head == NULL)
        set->tail = NULL;
    (void) pthread_mutex_unlock(&set->lock);

    int rc = bundle_set_put_part(set, buf, sealed, &err);

    (void) pthread_mutex_lock(&set->lock);
    bundle->pending--;
    if (rc < 0)
        bundle_set_fail_locked(set, &err);
    else
    {
        bundle->parts[part].stored_bytes = sealed->bytes;
        set->counts.parts++;
        set->counts.stored_bytes += sealed->bytes;
    }
    bundle_set_settle(set, bundle);
}

/* Lock held; released in between. */
static void
bundle_set_do_index(BundleSet *set)
{
    Bundle *bundle = set->index_head;
    Error err = {0};

    set->index_head = bundle->next;
    if (set->index_head == NULL)
        set->index_tail = NULL;
    (void) pthread_mutex_unlock(&set->lock);

    int rc = bundle_set_put_index(set, bundle, &err);

    bundle_free(bundle);
    (void) pthread_mutex_lock(&set->lock);
    if (rc < 0)
        bundle_set_fail_locked(set, &err);
    else
    {
        set->counts.bundles++;
        set->unready--;
        (void) pthread_cond_broadcast(&set->changed);
    }
}

static void *
bundle_uploader_main(void *arg)
{
    BundleSet *set = arg;
    AUTO(object_sealed_reset) ObjectSealed sealed = {0};

    (void) pthread_mutex_lock(&set->lock);
    while (!set->ending && !set->failed)
    {
        if (set->index_head != NULL)
            bundle_set_do_index(set);
        else if (set->head != NULL)
            bundle_set_do_part(set, &sealed);
        else
            (void) pthread_cond_wait(&set->work, &set->lock);
    }
    (void) pthread_mutex_unlock(&set->lock);
    return NULL;
}

/* ---- the set ---- */

static int
bundle_set_start(BundleSet *set, Error *err)
{
    for (; set->thread_count < set->options.uploaders; set->thread_count++)
    {
        int rc = pthread_create(&set->threads[set->thread_count], NULL, bundle_uploader_main, set);

        if (rc != 0)
        {
            errno = rc;
            return error_sys(err, "could not start an upload thread");
        }
        (void) pthread_setname_np(set->threads[set->thread_count], "bundle-upload");
    }
    return 0;
}

int
bundle_set_new(const BundleOptions *options, BundleSet **out, Error *err)
{
    assert(options->uploaders >= 1 && options->uploaders <= BUNDLE_UPLOADERS_MAX);
    if (!backup_label_name_valid(options->label))
        return error_set(
            err, ERROR_USAGE, "\"%s\" cannot be the label of a backup", options->label);

    AUTO(codec_frame_encoder_freep) CodecFrameEncoder *enc = NULL;
    BundleSet *set = calloc(1, sizeof *set);

    if (set == NULL)
        return error_nomem(err);
    set->options = *options;
    memcpy(set->label, options->label, strlen(options->label) + 1);
    set->options.label = set->label;
    set->next_bundle = options->first_bundle;
    set->index_format.codec = options->repo->format.codec;
    (void) pthread_mutex_init(&set->lock, NULL);
    (void) pthread_cond_init(&set->work, NULL);
    if (clock_cond_init(&set->changed) != 0)
    {
        (void) pthread_cond_destroy(&set->work);
        (void) pthread_mutex_destroy(&set->lock);
        free(set);
        return error_nomem(err);
    }
    if (codec_frame_encoder_new(options->repo->format.codec, BACKUP_FRAME_BYTES, &enc, err) < 0)
    {
        bundle_set_free(set);
        return -1;
    }
    /* a part is closed behind the frame with which it reaches its size */
    set->part_bytes = BACKUP_PART_BYTES + codec_frame_bound(enc);
    if (bundle_set_start(set, err) < 0)
    {
        bundle_set_free(set);
        return -1;
    }
    *out = set;
    return 0;
}

/* The uploaders are gone. A bundle hangs on its parts in the queue, or on the index queue. */
static void
bundle_set_discard(BundleSet *set)
{
    while (set->head != NULL)
    {
        BundlePartBuf *buf = set->head;
        Bundle *bundle = buf->bundle;

        set->head = buf->next;
        if (--bundle->pending == 0 && bundle->ended)
            bundle_free(bundle);
        bundle_part_buf_free(buf);
    }
    while (set->index_head != NULL)
    {
        Bundle *bundle = set->index_head;

        set->index_head = bundle->next;
        bundle_free(bundle);
    }
    while (set->pool != NULL)
    {
        BundlePartBuf *buf = set->pool;

        set->pool = buf->next;
        bundle_part_buf_free(buf);
    }
}

void
bundle_set_free(BundleSet *set)
{
    if (set == NULL)
        return;
    (void) pthread_mutex_lock(&set->lock);
    assert(set->writers == 0 && set->open == 0);
    set->ending = true;
    atomic_store(&set->stop, true);
    (void) pthread_cond_broadcast(&set->work);
    (void) pthread_mutex_unlock(&set->lock);
    for (unsigned i = 0; i < set->thread_count; i++)
        (void) pthread_join(set->threads[i], NULL);
    bundle_set_discard(set);
    (void) pthread_cond_destroy(&set->changed);
    (void) pthread_cond_destroy(&set->work);
    (void) pthread_mutex_destroy(&set->lock);
    free(set);
}

BundleCounts
bundle_set_counts(BundleSet *set)
{
    (void) pthread_mutex_lock(&set->lock);

    BundleCounts counts = set->counts;

    (void) pthread_mutex_unlock(&set->lock);
    return counts;
}

int
bundle_set_finish(BundleSet *set, Error *err)
{
    int rc;

    (void) pthread_mutex_lock(&set->lock);
    assert(set->open == 0);
    while ((rc = bundle_set_check_locked(set, err)) == 0 && set->unready > 0)
        bundle_set_wait(set);
    (void) pthread_mutex_unlock(&set->lock);
    return rc;
}
