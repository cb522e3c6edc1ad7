/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Reading objects back for `walctl verify`; see verify.h. Nothing is kept of what is read: an
 * object runs through decryption, decompression and digest, and on its way through the check of WAL
 * pages, whose state is small and is put back when the object turns out to be damaged.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fs.h"
#include "pg/page.h"
#include "walctl/verify.h"

#define VERIFY_FINDINGS_MAX 10000
#define VERIFY_GIVE_UP 3 /* objects in a row that the store did not give */
#define VERIFY_SMALL_MAX (1024 * 1024)

void
verify_add_finding(Verify *v, const VerifyFinding *finding)
{
    (void) pthread_mutex_lock(&v->lock);
    switch (finding->verdict)
    {
        case VERIFY_DAMAGED:
            v->damaged++;
            break;
        case VERIFY_MISSING:
            v->missing++;
            break;
        case VERIFY_UNREAD:
            v->unread++;
            break;
        case VERIFY_LOCKED:
            v->locked++;
            break;
    }
    if (v->finding_count == v->finding_cap && v->finding_cap < VERIFY_FINDINGS_MAX)
    {
        size_t cap = v->finding_cap == 0 ? 16 : v->finding_cap * 2;
        VerifyFinding *grown = reallocarray(v->findings, cap, sizeof *grown);

        if (grown != NULL)
        {
            v->findings = grown;
            v->finding_cap = cap;
        }
        else
            v->out_of_memory = true;
    }
    if (v->finding_count < v->finding_cap)
        v->findings[v->finding_count++] = *finding;
    (void) pthread_mutex_unlock(&v->lock);
}

/* ---- the sink ---- */

/*
 * Takes the plain bytes. What the page check says is kept and not returned: whether the object
 * itself is damaged is the first question, and its digest answers that.
 */
typedef struct VerifySink
{
    Stage stage;
    WalCheck *check; /* borrowed; NULL: the digest only */
    uint64_t skip;   /* bytes that the check has seen already, from another object */
    bool page_failed;
    Error page_err;
} VerifySink;

static int
verify_sink_write(Stage *st, const void *buf, size_t len, Error *err UNUSED)
{
    VerifySink *sink = (VerifySink *) st;
    const uint8_t *from = buf;
    size_t n = (size_t) MIN(sink->skip, len);

    sink->skip -= n;
    if (sink->check == NULL || sink->page_failed || n == len)
        return 0;
    if (wal_check_write(sink->check, from + n, len - n, &sink->page_err) < 0)
        sink->page_failed = true;
    return 0;
}

static const StageOps verify_sink_ops = {
    .name = "verification",
    .write = verify_sink_write,
};

/* ---- one object ---- */

/*
 * Reads key. CORRUPT is only said when it was found so twice: what a network did to it is gone the
 * second time. check is as it was before when this fails.
 *
 * expected_bytes  of plain data; 0: any number up to max_bytes
 * page_err        kind NONE, or what the page check said of bytes that have the right digest
 */
static int
verify_object(
    Verify *v, const char *key, uint64_t max_bytes, uint64_t expected_bytes, WalCheck *check,
    uint64_t skip, uint64_t *plain_bytes, Error *page_err, Error *err)
{
    WalCheck before = {0};

    if (check != NULL)
        before = *check;
    page_err->kind = ERROR_NONE;
    for (int round = 0;; round++)
    {
        Deadline dl = deadline_after_ms(v->timeout_ms, NULL);
        VerifySink sink = {.check = check, .skip = skip};
        ObjectLabel label;

        stage_init(&sink.stage, &verify_sink_ops, NULL);
        if (object_get(
                v->repo->store, key, v->repo->identities, max_bytes, &sink.stage, &dl, &label,
                err) == 0)
        {
            *plain_bytes = label.plain_bytes;
            if (sink.page_failed)
                *page_err = sink.page_err;
            if (expected_bytes == 0 || label.plain_bytes == expected_bytes)
                return 0;
            (void) error_set(
                err, ERROR_CORRUPT, "it holds %" PRIu64 " bytes instead of %" PRIu64,
                label.plain_bytes, expected_bytes);
        }
        if (check != NULL)
            *check = before;
        if (err->kind != ERROR_CORRUPT || round > 0)
            return -1;
    }
}

void
verify_count_good(Verify *v, uint64_t stored_bytes, uint64_t plain_bytes)
{
    progress_add(&v->progress, stored_bytes, 1);
    (void) pthread_mutex_lock(&v->lock);
    v->objects++;
    v->stored_bytes += stored_bytes;
    v->plain_bytes += plain_bytes;
    v->unread_in_a_row = 0;
    (void) pthread_mutex_unlock(&v->lock);
}

bool
verify_stopped(Verify *v)
{
    bool stop;

    (void) pthread_mutex_lock(&v->lock);
    stop = v->stop;
    (void) pthread_mutex_unlock(&v->lock);
    return stop;
}

/* Keeps the key ids of an object that is locked; without any identity the rest is locked too. */
static void
verify_note_locked(Verify *v, const ObjectLabel *label)
{
    bool known = false;

    (void) pthread_mutex_lock(&v->lock);
    for (size_t i = 0; i < v->key_id_count; i++)
        known = known || strcmp(v->key_ids[i], label->key_ids) == 0;
    if (!known && v->key_id_count < VERIFY_KEY_IDS_MAX)
        (void) snprintf(v->key_ids[v->key_id_count++], OBJECT_KEY_IDS_MAX, "%s", label->key_ids);
    v->stop = v->stop || v->repo->identities == NULL;
    (void) pthread_mutex_unlock(&v->lock);
}

VerifyVerdict
verify_judge(Verify *v, const char *key, const Error *err)
{
    if (err->kind == ERROR_CORRUPT)
        return VERIFY_DAMAGED;
    if (err->kind == ERROR_DENIED)
    {
        Deadline dl = deadline_after_ms(v->timeout_ms, NULL);
        ObjectLabel label;
        Error unused = {0};

        /* the store may refuse access, too: the object itself tells */
        if (object_peek(v->repo->store, key, &dl, &label, &unused) == 0 && label.encrypted)
        {
            verify_note_locked(v, &label);
            return VERIFY_LOCKED;
        }
    }
    (void) pthread_mutex_lock(&v->lock);
    /* what expired since it was listed says nothing about the store */
    if (err->kind != ERROR_NOT_FOUND)
        v->unread_in_a_row++;
    if (v->unread_in_a_row >= VERIFY_GIVE_UP || err->kind == ERROR_NOMEM)
        v->stop = true;
    (void) pthread_mutex_unlock(&v->lock);
    return VERIFY_UNREAD;
}

void
verify_describe(VerifyFinding *f, const Error *err)
{
    if (f->verdict == VERIFY_UNREAD && err->kind == ERROR_NOT_FOUND)
        (void) snprintf(
            f->message, sizeof f->message,
            "it was listed, but the store does not have it any more");
    else
        (void) snprintf(f->message, sizeof f->message, "%.600s", err->msg);
    if (f->verdict == VERIFY_UNREAD)
        (void) snprintf(
            f->consequence, sizeof f->consequence,
            "nothing is known about it: run this again when the store answers");
    if (f->verdict == VERIFY_LOCKED)
        (void) snprintf(
            f->consequence, sizeof f->consequence,
            "nothing is known about it: add the identity to [encryption] identity-file");
}

/* ---- objects of a segment ---- */

static char *
verify_extent_key(const Verify *v, const VerifyTask *t, const VerifyExtent *e, char *key)
{
    uint32_t segment_bytes = v->repo->description.segment_bytes;
    WalExtent extent = {.tli = t->tli, .segno = t->segno, .start = e->start, .end = e->end};

    return e->part ? layout_part_key(&extent, segment_bytes, key)
                   : layout_piece_key(&extent, segment_bytes, key);
}

static Lsn
verify_base(const Verify *v, const VerifyTask *t)
{
    return wal_segment_start(t->segno, v->repo->description.segment_bytes);
}

static void
verify_check_begin(const Verify *v, const VerifyTask *t, WalCheck *check)
{
    WalExpect expect = {
        .system_identifier = v->repo->description.system_identifier,
        .segment_bytes = v->repo->description.segment_bytes,
        .tli = t->tli,
        .segno = t->segno,
    };

    wal_check_init(check, &expect);
}

/* Recovery along the task's timeline stops at stop, which is in what the finding is about. */
static void
verify_describe_stop(const Verify *v, const VerifyTask *t, VerifyFinding *f, Lsn stop)
{
    bool dead = wal_report_is_dead(v->inv, v->report, t->tli, stop);

    (void) wal_report_format_consequence(
        t->tli, stop, f->end, v->inv->segment_bytes, dead, f->consequence);
    if (!dead)
        verify_describe_wal_loss(v, f);
}

/* A finding about [start, end) of the task's segment whose consequence is that recovery stops. */
static void
verify_add_segment_finding(
    Verify *v, const VerifyTask *t, VerifyFinding *f, uint32_t start, uint32_t end)
{
    Lsn base = verify_base(v, t);

    f->tli = t->tli;
    f->start = base + start;
    f->end = base + end;
    if (f->consequence[0] == '\0' && t->superseded)
    {
        f->harmless = true;
        (void) snprintf(
            f->consequence, sizeof f->consequence,
            "nothing is lost: the complete segment is in the repository");
    }
    if (f->consequence[0] == '\0')
        verify_describe_stop(v, t, f, f->start);
    verify_add_finding(v, f);
}

/* What the page check says of good objects: they hold something else than WAL of this place. */
static void
verify_add_page_finding(
    Verify *v, const VerifyTask *t, const char *key, const Error *page_err, uint32_t start,
    uint32_t end)
{
    VerifyFinding f = {.verdict = VERIFY_DAMAGED};

    (void) snprintf(f.key, sizeof f.key, "%s", key);
    (void) snprintf(
        f.message, sizeof f.message,
        "it was stored like this, but is not the WAL of its name: %.500s", page_err->msg);
    verify_add_segment_finding(v, t, &f, start, end);
}

/*
 * A piece that is damaged does no harm if others hold the same bytes, so what it means is only
 * known when all are read.
 */
static void
verify_add_piece_findings(
    Verify *v, const VerifyTask *t, VerifyFinding *pending, size_t count, uint32_t reached)
{
    Lsn base = verify_base(v, t);

    for (size_t i = 0; i < count; i++)
    {
        VerifyFinding *f = &pending[i];
        uint32_t start = (uint32_t) (f->start - base);
        uint32_t end = (uint32_t) (f->end - base);

        if (f->verdict == VERIFY_DAMAGED && !t->superseded && reached >= end)
        {
            f->harmless = true;
            (void) snprintf(
                f->consequence, sizeof f->consequence,
                "nothing is lost: other objects hold the same WAL");
        }
        else if (f->verdict == VERIFY_DAMAGED && !t->superseded && start < reached)
        {
            f->tli = t->tli;
            verify_describe_stop(v, t, f, base + reached);
        }
        verify_add_segment_finding(v, t, f, start, end);
    }
}

/*
 * All objects of a task, in the order of their starts. With a check, what continues the run from
 * the segment's beginning is looked at as WAL.
 */
static void
verify_run_extents(Verify *v, const VerifyTask *t)
{
    bool with_pages = t->kind != VERIFY_OBJECTS;
    VerifyFinding *pending = NULL;
    size_t pending_count = 0;
    uint32_t reached = 0;
    bool complete = true;
    WalCheck check;
    char key[LAYOUT_KEY_MAX] = "";
    Error err = {0};

    verify_check_begin(v, t, &check);
    for (size_t i = 0; i < t->extent_count && !verify_stopped(v); i++)
    {
        const VerifyExtent *e = &t->extents[i];
        bool fits = with_pages && e->start <= reached && e->end > reached;
        Error page_err = {0};
        uint64_t plain;

        if (verify_object(
                v, verify_extent_key(v, t, e, key), e->end - e->start, e->end - e->start,
                fits ? &check : NULL, fits ? reached - e->start : 0, &plain, &page_err, &err) == 0)
        {
            verify_count_good(v, e->stored_bytes, plain);
            if (fits && page_err.kind != ERROR_NONE)
            {
                verify_add_page_finding(v, t, key, &page_err, e->start, e->end);
                with_pages = false;
            }
            if (fits)
                reached = e->end;
            continue;
        }

        VerifyFinding f = {.verdict = verify_judge(v, key, &err)};
        VerifyFinding *grown = reallocarray(pending, pending_count + 1, sizeof *grown);

        progress_add(&v->progress, e->stored_bytes, 1);
        verify_describe(&f, &err);
        (void) snprintf(f.key, sizeof f.key, "%s", key);
        f.start = verify_base(v, t) + e->start;
        f.end = verify_base(v, t) + e->end;
        if (grown == NULL)
            verify_add_finding(v, &f);
        else
        {
            pending = grown;
            pending[pending_count++] = f;
        }
    }
    if (t->kind == VERIFY_SEGMENT && with_pages && reached == v->repo->description.segment_bytes)
    {
        if (wal_check_finish(&check, &complete, &err) < 0)
            verify_add_page_finding(v, t, key, &err, 0, reached);
        else if (!complete)
        {
            (void) error_set(
                &err, ERROR_CORRUPT,
                "it is stored as a complete segment, but its WAL ends at byte %" PRIu64,
                check.data_end);
            verify_add_page_finding(v, t, key, &err, 0, reached);
        }
    }
    verify_add_piece_findings(v, t, pending, pending_count, reached);
    free(pending);
}

/* ---- small files ---- */

static int
verify_history(Verify *v, const VerifyTask *t, uint64_t *plain, Error *err)
{
    AUTO(timeline_history_reset) TimelineHistory history = {0};
    Deadline dl = deadline_after_ms(v->timeout_ms, NULL);
    AUTO(free_text) char *text = NULL;
    size_t len;

    if (object_get_bytes(
            v->repo->store, t->key, v->repo->identities, TIMELINE_HISTORY_MAX_BYTES, &text, &len,
            &dl, err) < 0)
        return -1;
    *plain = len;
    return timeline_parse_history(t->tli, text, len, &history, err);
}

static int
verify_backup_file(Verify *v, const VerifyTask *t, uint64_t *plain, Error *err)
{
    Deadline dl = deadline_after_ms(v->timeout_ms, NULL);
    AUTO(free_text) char *text = NULL;
    size_t len;

    if (object_get_bytes(
            v->repo->store, t->key, v->repo->identities, VERIFY_SMALL_MAX, &text, &len, &dl, err) <
        0)
        return -1;
    *plain = len;
    if (strstr(text, "START WAL LOCATION: ") == NULL)
        return error_set(err, ERROR_CORRUPT, "it is not a backup history file");
    return 0;
}

static int
verify_file(Verify *v, const VerifyTask *t, uint64_t *plain, Error *err)
{
    Error page_err;

    switch (t->name.kind)
    {
        case WAL_FILE_HISTORY:
            return verify_history(v, t, plain, err);
        case WAL_FILE_BACKUP:
            return verify_backup_file(v, t, plain, err);
        case WAL_FILE_PARTIAL:
        case WAL_FILE_SEGMENT:
            break;
    }
    return verify_object(
        v, t->key, v->repo->description.part_bytes, v->repo->description.part_bytes, NULL, 0, plain,
        &page_err, err);
}

static void
verify_run_file(Verify *v, const VerifyTask *t)
{
    VerifyFinding f = {.tli = t->tli};
    uint64_t plain = 0;
    Error err = {0};
    int rc = verify_file(v, t, &plain, &err);

    if (rc < 0 && err.kind == ERROR_CORRUPT)
        rc = verify_file(v, t, &plain, &err);
    if (rc == 0)
    {
        verify_count_good(v, t->stored_bytes, plain);
        return;
    }
    progress_add(&v->progress, t->stored_bytes, 1);
    f.verdict = verify_judge(v, t->key, &err);
    (void) snprintf(f.key, sizeof f.key, "%s", t->key);
    verify_describe(&f, &err);
    if (f.verdict == VERIFY_DAMAGED && t->name.kind == WAL_FILE_HISTORY)
        (void) snprintf(
            f.consequence, sizeof f.consequence,
            "recovery to timeline %" PRIu32 " is not possible without its history file", t->tli);
    else if (f.verdict == VERIFY_DAMAGED)
    {
        f.harmless = true;
        (void) snprintf(f.consequence, sizeof f.consequence, "recovery does not need this file");
    }
    verify_add_finding(v, &f);
}

void
verify_task_run(Verify *v, const VerifyTask *t)
{
    if (verify_stopped(v))
        return;
    if (t->kind == VERIFY_BUNDLE)
        verify_run_bundle(v, t);
    else if (t->kind == VERIFY_FILE)
        verify_run_file(v, t);
    else
        verify_run_extents(v, t);
}
