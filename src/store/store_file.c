/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Objects as files below a folder, local or on NFS.
 *
 * What a crash of put leaves behind, by the step it comes after:
 *
 *   mkdir of the folders      empty folders: not told by list; used by the next put, or swept
 *   create, write, fsync      a temporary name: not told by list, swept when old
 *   link                      the object, complete, perhaps not durable; nobody was told that it
 *                             is there, and a put that finds it makes it durable before EXISTS
 *   unlink of the temporary   before it, a second, hidden name of the object, swept when old
 *   fsync of the folder       the object; put has not returned, so it is repeated: EXISTS
 *
 * remove takes emptied folders away, so a folder may vanish under a put until its temporary file is
 * in it; the put then starts over.
 */
#include "store/store_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fs.h"

#define FILE_MAX_PUT_BYTES ((uint64_t) 1 << 40)
#define FILE_MODE 0640
#define FOLDER_MODE 0750
#define FILE_READ_BYTES ((size_t) 256 * 1024)
#define FILE_WRITE_BYTES ((size_t) 8 * 1024 * 1024) /* between two looks at the deadline */
/* larger objects, which are parts of backups, do not stay in the page cache */
#define FILE_CACHE_BYTES (8 * 1024 * 1024)
#define FILE_WRITE_PARTS 64
#define FILE_RACES_MAX 100 /* with folders that others remove */

/* ---- errors ---- */

ErrorKind
store_file_kind(int sys_errno)
{
    switch (sys_errno)
    {
        case ENOENT:
            return ERROR_NOT_FOUND;
        case EACCES:
        case EPERM:
            return ERROR_DENIED;
        case ENOMEM:
            return ERROR_NOMEM;

        /* a server that is away, or gave out a new handle; descriptors that run out */
        case ESTALE:
        case ETIMEDOUT:
        case EAGAIN:
        case EINTR:
        case EHOSTDOWN:
        case EHOSTUNREACH:
        case ENETDOWN:
        case ENETUNREACH:
        case ENOTCONN:
        case ECONNABORTED:
        case ECONNREFUSED:
        case ECONNRESET:
        case EREMOTEIO:
        case EMFILE:
        case ENFILE:
        case ENOBUFS:
            return ERROR_TRANSIENT;
        default:
            return ERROR_IO;
    }
}

/* in parentheses: not the macro for analyzers */
int(store_file_error)(Error *err, const char *fmt, ...)
{
    int saved = errno;
    char text[sizeof err->msg];
    va_list ap;

    va_start(ap, fmt);
    (void) vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    errno = saved;
    (void) error_sys(err, "%.900s", text);
    err->kind = store_file_kind(saved);
    if (saved == ENOSPC || saved == EDQUOT)
        (void) error_hint(
            err, "Make room in the file system of the repository, or raise the quota.");
    if (saved == EFBIG)
        (void) error_hint(err, "Raise the limit of file size (ulimit -f) of this process.");
    return -1;
}

/* ---- names ---- */

bool
store_file_name_reserved(const char *name)
{
    /* ".nfs...": what an NFS client leaves for a file that was removed while it was open */
    return strncmp(name, FILE_TEMP_PREFIX, strlen(FILE_TEMP_PREFIX)) == 0 ||
           strncmp(name, ".nfs", 4) == 0;
}

bool
store_file_reserved(const char *key)
{
    for (const char *name = key; name != NULL; name = strchr(name, '/'))
    {
        name += *name == '/';
        if (store_file_name_reserved(name))
            return true;
    }
    return false;
}

static int
file_not_found(const char *key, Error *err)
{
    return error_set(err, ERROR_NOT_FOUND, "object \"%s\" does not exist", key);
}

/* ---- folders ---- */

static bool
file_folder_synced(StoreFile *st, const struct stat *sb)
{
    bool found = false;

    (void) pthread_mutex_lock(&st->lock);
    for (size_t i = 0; i < MIN(st->synced_count, FILE_SYNCED_MAX); i++)
        if (st->synced[i].dev == sb->st_dev && st->synced[i].ino == sb->st_ino)
            found = true;
    (void) pthread_mutex_unlock(&st->lock);
    return found;
}

static void
file_folder_remember(StoreFile *st, int fd, const struct stat *sb)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    if (copy < 0)
        return; /* then it is synced again next time */
    (void) pthread_mutex_lock(&st->lock);

    struct FileSynced *slot = &st->synced[st->synced_count % FILE_SYNCED_MAX];

    if (st->synced_count >= FILE_SYNCED_MAX)
        (void) close(slot->fd);
    *slot = (struct FileSynced){.dev = sb->st_dev, .ino = sb->st_ino, .fd = copy};
    st->synced_count++;
    (void) pthread_mutex_unlock(&st->lock);
}

/*
 * Makes the name of the open folder fd durable: whoever created it may not have come to that, or
 * may be about to.
 */
static int
file_folder_sync_name(StoreFile *st, int parent, int fd, const char *path, size_t len, Error *err)
{
    struct stat sb;

    if (fstat(fd, &sb) < 0)
        return store_file_error(err, "could not look up folder \"%.*s\"", (int) len, path);
    if (file_folder_synced(st, &sb))
        return 0;
    if (fsync(parent) < 0)
        return store_file_error(err, "could not sync the name of folder \"%.*s\"", (int) len, path);
    file_folder_remember(st, fd, &sb);
    return 0;
}

/* The same for root, whose parent may be closed to us: then it is not we who made it. */
static int
file_root_sync_name(StoreFile *st, Error *err)
{
    struct stat sb;

    if (fstat(st->root_fd, &sb) < 0)
        return store_file_error(err, "could not look up folder \"%s\"", st->root);
    if (file_folder_synced(st, &sb))
        return 0;

    AUTO(fd_close) int parent = openat(st->root_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (parent < 0)
    {
        if (errno == EACCES)
            return 0;
        return store_file_error(err, "could not open the folder that holds \"%s\"", st->root);
    }
    return file_folder_sync_name(st, parent, st->root_fd, st->root, strlen(st->root), err);
}

int
store_file_check_root(const StoreFile *st, Error *err)
{
    struct stat sb;

    if (fstat(st->root_fd, &sb) < 0)
        return store_file_error(err, "could not look up folder \"%s\"", st->root);
    if (sb.st_nlink == 0)
        return error_set(err, ERROR_IO, "folder \"%s\" was removed while in use", st->root);
    return 0;
}

/* What is in the place of a folder and cannot be opened as one. */
static int
file_explain_folder(int parent, const char *name, const char *path, size_t len, Error *err)
{
    int saved = errno;
    struct stat sb;

    if ((saved != ENOTDIR && saved != ELOOP) || fstatat(parent, name, &sb, AT_SYMLINK_NOFOLLOW) < 0)
    {
        errno = saved;
        return store_file_error(err, "could not open folder \"%.*s\"", (int) len, path);
    }
    if (S_ISLNK(sb.st_mode))
        return error_set(
            err, ERROR_IO, "cannot use folder \"%.*s\": it is a symbolic link", (int) len, path);
    return error_set(
        err, ERROR_CONFLICT, "cannot use folder \"%.*s\": an object has that name", (int) len,
        path);
}

/*
 * What root makes belongs to the owner of the folder that it is in: otherwise one run by root would
 * keep the programs of the server's user from listing the repository. Where root has no such right
 * (NFS), it stays as it is.
 */
static void
file_give(int folder, int fd)
{
    struct stat sb;

    if (geteuid() == 0 && fstat(folder, &sb) == 0 && sb.st_uid != 0 &&
        fchown(fd, sb.st_uid, sb.st_gid) < 0)
        return;
}

/* One step down, from parent to its folder name; path[0..len) is the place reached. */
static int
file_step(
    StoreFile *st, int parent, const char *name, bool create, const char *path, size_t len,
    int *out, Error *err)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    AUTO(fd_close) int fd = openat(parent, name, flags);

    if (fd < 0 && errno == ENOENT && create)
    {
        if (mkdirat(parent, name, FOLDER_MODE) < 0 && errno != EEXIST)
            return store_file_error(err, "could not create folder \"%.*s\"", (int) len, path);
        fd = openat(parent, name, flags);
        if (fd >= 0)
            file_give(parent, fd);
    }
    if (fd < 0)
        return file_explain_folder(parent, name, path, len, err);
    if (create && file_folder_sync_name(st, parent, fd, path, len, err) < 0)
        return -1;
    *out = fd_steal(&fd);
    return 0;
}

int
store_file_open_folder(
    StoreFile *st, const char *path, size_t len, bool create, int *out, Error *err)
{
    AUTO(fd_close) int fd = openat(st->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return store_file_error(err, "could not open folder \"%s\"", st->root);
    if (create && file_root_sync_name(st, err) < 0)
        return -1;
    for (size_t at = 0; at < len;)
    {
        const char *slash = memchr(path + at, '/', len - at);
        size_t end = slash != NULL ? (size_t) (slash - path) : len;
        char name[NAME_MAX + 1];
        int next = -1;

        if (end - at > NAME_MAX)
            return error_set(
                err, create ? ERROR_USAGE : ERROR_NOT_FOUND,
                "cannot use folder \"%.*s\": its name is longer than %d bytes", (int) end, path,
                NAME_MAX);
        memcpy(name, path + at, end - at);
        name[end - at] = '\0';
        if (file_step(st, fd, name, create, path, end, &next, err) < 0)
            return -1;
        (void) close(fd);
        fd = next;
        at = end + 1;
    }
    *out = fd_steal(&fd);
    return 0;
}

/* The folder of key, and in *name the rest of key. */
static int
file_open_parent(
    StoreFile *st, const char *key, bool create, int *dir, const char **name, Error *err)
{
    const char *slash = strrchr(key, '/');

    *name = slash != NULL ? slash + 1 : key;
    return store_file_open_folder(st, key, (size_t) (*name - key), create, dir, err);
}

/* ---- put ---- */

typedef struct FileTemp
{
    int dir; /* borrowed */
    int fd;
    char name[NAME_MAX + 1]; /* "": there is none */
} FileTemp;

/* For AUTO: nothing of an unfinished put stays, as far as we can help it. */
static void
file_temp_drop(FileTemp *temp)
{
    fd_close(&temp->fd);
    if (temp->name[0] != '\0')
        (void) unlinkat(temp->dir, temp->name, 0);
    temp->name[0] = '\0';
}

static int
file_temp_create(StoreFile *st, FileTemp *temp, const char *key, Error *err)
{
    /* a name may be taken by the leftover of an earlier process of the same number */
    for (int tries = 0; temp->fd < 0 && tries < FILE_RACES_MAX; tries++)
    {
        (void) snprintf(
            temp->name, sizeof temp->name, FILE_TEMP_PREFIX "%s.%ld.%llu", st->host,
            (long) getpid(), (unsigned long long) atomic_fetch_add(&st->temp_count, 1));
        temp->fd = openat(
            temp->dir, temp->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);
        if (temp->fd < 0)
        {
            temp->name[0] = '\0'; /* not ours */
            if (errno != EEXIST)
                break;
        }
    }
    if (temp->fd < 0)
        return store_file_error(err, "could not create a temporary file for object \"%s\"", key);
    file_give(temp->dir, temp->fd);
    return 0;
}

static int
file_write_body(int fd, const char *key, const StoreBody *body, const Deadline *dl, Error *err)
{
    size_t part = 0, at = 0; /* the next byte: offset at of iov[part] */
    uint64_t left = body->bytes;

    while (left > 0)
    {
        struct iovec out[FILE_WRITE_PARTS];
        size_t parts = 0, bytes = 0;

        for (size_t i = part; i < body->iov_count && parts < ARRAY_COUNT(out); i++)
        {
            size_t skip = i == part ? at : 0;
            size_t len = MIN(body->iov[i].iov_len - skip, FILE_WRITE_BYTES - bytes);

            if (len == 0)
                continue;
            out[parts++] = (struct iovec){
                .iov_base = (char *) body->iov[i].iov_base + skip,
                .iov_len = len,
            };
            bytes += len;
        }
        assert(bytes > 0 && bytes <= left);
        if (deadline_check(dl, "writing an object", err) < 0)
            return -1;

        ssize_t n = writev(fd, out, (int) parts);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
        {
            if (n == 0)
                errno = EIO;
            return store_file_error(err, "could not write object \"%s\"", key);
        }
        left -= (uint64_t) n;
        for (size_t done = (size_t) n; done > 0;)
        {
            size_t step = MIN(done, body->iov[part].iov_len - at);

            at += step;
            done -= step;
            if (at == body->iov[part].iov_len)
            {
                part++;
                at = 0;
            }
        }
    }
    return 0;
}

/*
 * The key is taken: EXISTS, once that is durable. NOT_FOUND if it has just been removed, CONFLICT
 * if it is no object.
 */
static int
file_answer_exists(int dir, const char *name, const char *key, Error *err)
{
    AUTO(fd_close) int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat sb;

    if (fd < 0 && errno == ELOOP)
        return error_set(
            err, ERROR_CONFLICT, "cannot create object \"%s\": a symbolic link has that name", key);
    if (fd < 0)
        return store_file_error(err, "could not open object \"%s\", which exists", key);
    if (fstat(fd, &sb) < 0)
        return store_file_error(err, "could not look up object \"%s\", which exists", key);
    if (!S_ISREG(sb.st_mode))
        return error_set(
            err, ERROR_CONFLICT, "cannot create object \"%s\": a %s has that name", key,
            S_ISDIR(sb.st_mode) ? "folder" : "special file");
    if (fdatasync(fd) < 0)
        return store_file_error(err, "could not sync object \"%s\", which exists", key);
    if (fsync(dir) < 0)
        return store_file_error(err, "could not sync the folder of object \"%s\"", key);
    return error_set(err, ERROR_EXISTS, "object \"%s\" exists", key);
}

/* Whether the temporary file has its second name, asked of the server itself where there is one. */
static bool
file_temp_linked(const FileTemp *temp)
{
    struct statx sx;

    return statx(
               temp->dir, temp->name, AT_SYMLINK_NOFOLLOW | AT_STATX_FORCE_SYNC, STATX_NLINK,
               &sx) == 0 &&
           (sx.stx_mask & STATX_NLINK) != 0 && sx.stx_nlink == 2;
}

/* Gives the complete, synced temporary file its name, unless that is taken. */
static int
file_temp_link(FileTemp *temp, const char *name, const char *key, Error *err)
{
    if (linkat(temp->dir, temp->name, temp->dir, name, 0) == 0)
        return 0;

    int saved = errno;

    /*
     * Over NFS the answer to a link that was made can be lost, and the repeated request then fails.
     * The temporary name is ours alone, so a second link to it is the one we asked for.
     */
    if (file_temp_linked(temp))
        return 0;
    if (saved == EPERM || saved == EOPNOTSUPP || saved == ENOSYS)
    {
        /* no hard links here (some FUSE and SMB file systems) */
        if (renameat2(temp->dir, temp->name, temp->dir, name, RENAME_NOREPLACE) == 0)
        {
            temp->name[0] = '\0';
            return 0;
        }
        if (errno == EEXIST)
            saved = EEXIST;
    }
    if (saved == EEXIST)
        return file_answer_exists(temp->dir, name, key, err);
    errno = saved;
    (void) store_file_error(err, "could not link object \"%s\" to its name", key);
    if (saved == ENOENT)
        err->kind = ERROR_TRANSIENT; /* somebody swept our temporary file */
    return -1;
}

/* One attempt. NOT_FOUND: dir was removed, or what took the name was; start over. */
static int
file_put_in(
    StoreFile *st, int dir, const char *name, const char *key, const StoreBody *body,
    const Deadline *dl, Error *err)
{
    AUTO(file_temp_drop) FileTemp temp = {.dir = dir, .fd = -1};
    struct stat sb;

    /* saves writing it all where the answer is known; the link below is what decides */
    if (fstatat(dir, name, &sb, AT_SYMLINK_NOFOLLOW) == 0)
        return file_answer_exists(dir, name, key, err);
    if (errno == ENAMETOOLONG)
        return error_set(
            err, ERROR_USAGE, "cannot create object \"%s\": a name in it is longer than %d bytes",
            key, NAME_MAX);
    if (errno != ENOENT)
        return store_file_error(err, "could not look up object \"%s\"", key);

    if (file_temp_create(st, &temp, key, err) < 0 ||
        file_write_body(temp.fd, key, body, dl, err) < 0)
        return -1;
    if (fsync(temp.fd) < 0)
        return store_file_error(err, "could not sync object \"%s\"", key);
    /* a backup would push all that the server uses out of the page cache */
    if (body->bytes >= FILE_CACHE_BYTES)
        (void) posix_fadvise(temp.fd, 0, 0, POSIX_FADV_DONTNEED);

    if (close(fd_steal(&temp.fd)) < 0)
        return store_file_error(err, "could not close object \"%s\"", key);
    if (file_temp_link(&temp, name, key, err) < 0)
        return -1;
    file_temp_drop(&temp);
    if (fsync(dir) < 0)
        return store_file_error(err, "could not sync the folder of object \"%s\"", key);
    return 0;
}

static int
file_put(Store *base, const char *key, const StoreBody *body, const Deadline *dl, Error *err)
{
    StoreFile *st = (StoreFile *) base;

    if (store_file_reserved(key))
        return error_set(
            err, ERROR_USAGE,
            "cannot create object \"%s\": the store keeps names that begin with "
            "\"%s\" or \".nfs\" for itself",
            key, FILE_TEMP_PREFIX);
    for (int race = 0; race < FILE_RACES_MAX; race++)
    {
        AUTO(fd_close) int dir = -1;
        const char *name;

        if (deadline_check(dl, "putting an object", err) < 0)
            return -1;
        if (file_open_parent(st, key, true, &dir, &name, err) == 0 &&
            file_put_in(st, dir, name, key, body, dl, err) == 0)
            return 0;
        if (err->kind != ERROR_NOT_FOUND)
            return -1;
        if (store_file_check_root(st, err) < 0)
            return error_wrap(err, "could not create object \"%s\"", key);
    }
    return error_set(
        err, ERROR_TRANSIENT,
        "could not create object \"%s\": its folder is removed again and again", key);
}

/* ---- get and stat ---- */

/* What a failed look at key means: NOT_FOUND only if that is certain. */
static int
file_missing(const StoreFile *st, const char *key, Error *err)
{
    if (store_file_check_root(st, err) < 0)
        return error_wrap(err, "could not look for object \"%s\"", key);
    return file_not_found(key, err);
}

/* The open file of an object. */
static int
file_open_object(StoreFile *st, const char *key, int *out, struct stat *sb, Error *err)
{
    AUTO(fd_close) int dir = -1;
    AUTO(fd_close) int fd = -1;
    const char *name;

    if (store_file_reserved(key))
        return file_not_found(key, err);
    if (file_open_parent(st, key, false, &dir, &name, err) < 0)
    {
        /* CONFLICT: there is an object where the folder would be */
        if (err->kind == ERROR_NOT_FOUND || err->kind == ERROR_CONFLICT)
            return file_missing(st, key, err);
        return error_wrap(err, "could not open object \"%s\"", key);
    }
    fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
    {
        if (errno == ENOENT || errno == ENAMETOOLONG)
            return file_missing(st, key, err);
        return store_file_error(err, "could not open object \"%s\"", key);
    }
    if (fstat(fd, sb) < 0)
        return store_file_error(err, "could not look up object \"%s\"", key);
    if (S_ISDIR(sb->st_mode))
        return file_not_found(key, err);
    if (!S_ISREG(sb->st_mode))
        return error_set(err, ERROR_IO, "could not open object \"%s\": it is a special file", key);
    *out = fd_steal(&fd);
    return 0;
}

static int
file_send(
    int fd, const char *key, uint64_t at, uint64_t left, Stage *sink, const Deadline *dl,
    Error *err)
{
    AUTO(free_text) char *buf = fs_alloc_io((size_t) MIN(MAX(left, 1), FILE_READ_BYTES));

    if (buf == NULL)
        return error_nomem(err);
    while (left > 0)
    {
        if (deadline_check(dl, "reading an object", err) < 0)
            return -1;

        ssize_t n = pread(fd, buf, (size_t) MIN(left, FILE_READ_BYTES), (off_t) at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return store_file_error(err, "could not read object \"%s\"", key);
        if (n == 0)
            return error_set(
                err, ERROR_CORRUPT, "could not read object \"%s\": it was cut short at %llu bytes",
                key, (unsigned long long) at);
        if (stage_write(sink, buf, (size_t) n, err) < 0)
            return -1;
        at += (uint64_t) n;
        left -= (uint64_t) n;
    }
    return 0;
}

static int
file_get(Store *base, const char *key, ByteRange range, Stage *sink, const Deadline *dl, Error *err)
{
    AUTO(fd_close) int fd = -1;
    struct stat sb = {0};

    if (file_open_object((StoreFile *) base, key, &fd, &sb, err) < 0)
        return -1;

    uint64_t bytes = (uint64_t) sb.st_size;
    uint64_t at = MIN(range.offset, bytes);
    uint64_t left = bytes - at;

    if (range.len > 0)
        left = MIN(left, range.len);
    return file_send(fd, key, at, left, sink, dl, err);
}

static int64_t
file_modified_us(const struct stat *sb)
{
    return (int64_t) sb->st_mtim.tv_sec * 1000000 + sb->st_mtim.tv_nsec / 1000;
}

static int
file_stat(Store *base, const char *key, const Deadline *dl, StoreStat *out, Error *err)
{
    AUTO(fd_close) int fd = -1;
    struct stat sb = {0};

    (void) dl;
    if (file_open_object((StoreFile *) base, key, &fd, &sb, err) < 0)
        return -1;
    out->bytes = (uint64_t) sb.st_size;
    out->modified_us = file_modified_us(&sb);
    return 0;
}

/* ---- remove ---- */

/* Takes away the folder of key and those above it, as far as they are empty. */
static void
file_remove_folders(StoreFile *st, const char *key)
{
    char path[STORE_KEY_MAX + 1];
    char *slash;

    memcpy(path, key, strlen(key) + 1);
    while ((slash = strrchr(path, '/')) != NULL)
    {
        AUTO(fd_close) int dir = -1;
        const char *name;
        Error ignored;

        *slash = '\0';
        if (file_open_parent(st, path, false, &dir, &name, &ignored) < 0 ||
            unlinkat(dir, name, AT_REMOVEDIR) < 0)
            return;
    }
}

/* The removals in a folder become durable: retention relies on their order. */
static void
file_remove_sync(int dir, StoreRemoved *keys, size_t begin, size_t end)
{
    if (fsync(dir) == 0)
        return;
    for (size_t i = begin; i < end; i++)
        if (keys[i].err.kind == ERROR_NONE)
            (void) store_file_error(
                &keys[i].err, "could not sync the folder of object \"%s\"", keys[i].key);
}

static void
file_remove_one(int dir, const char *name, StoreRemoved *key)
{
    /* EISDIR: a folder has the name, so the object does not exist */
    if (store_file_reserved(key->key) || unlinkat(dir, name, 0) == 0 || errno == ENOENT ||
        errno == EISDIR || errno == ENAMETOOLONG)
        return;
    (void) store_file_error(&key->err, "could not remove object \"%s\"", key->key);
}

/* The keys from begin on that lie in the same folder as the first; returns the index behind them.
 */
static size_t
file_remove_folder(
    StoreFile *st, StoreRemoved *keys, size_t begin, size_t count, const Deadline *dl, Error *err)
{
    AUTO(fd_close) int dir = -1;
    const char *name;
    size_t folder_len, i = begin;

    if (file_open_parent(st, keys[begin].key, false, &dir, &name, &keys[begin].err) < 0)
    {
        if (keys[begin].err.kind == ERROR_NOT_FOUND || keys[begin].err.kind == ERROR_CONFLICT)
        {
            keys[begin].err.kind = ERROR_NONE;
            keys[begin].err.msg[0] = '\0';
            keys[begin].err.sys_errno = 0;
            if (store_file_check_root(st, &keys[begin].err) < 0)
                return begin + 1; /* the key's own answer */
        }
        return begin + 1;
    }
    folder_len = (size_t) (name - keys[begin].key);
    for (; i < count; i++)
    {
        if (strncmp(keys[i].key, keys[begin].key, folder_len) != 0 ||
            strchr(keys[i].key + folder_len, '/') != NULL ||
            deadline_check(dl, "removing objects", err) < 0)
            break;
        file_remove_one(dir, keys[i].key + folder_len, &keys[i]);
    }
    file_remove_sync(dir, keys, begin, i);
    file_remove_folders(st, keys[begin].key);
    return i;
}

static int
file_remove(Store *base, StoreRemoved *keys, size_t count, const Deadline *dl, Error *err)
{
    for (size_t i = 0; i < count;)
    {
        if (deadline_check(dl, "removing objects", err) < 0)
            return -1;
        i = file_remove_folder((StoreFile *) base, keys, i, count, dl, err);
    }
    return 0;
}

/* ---- the store ---- */

static void
file_destroy(Store *base)
{
    StoreFile *st = (StoreFile *) base;

    for (size_t i = 0; i < MIN(st->synced_count, FILE_SYNCED_MAX); i++)
        (void) close(st->synced[i].fd);
    fd_close(&st->root_fd);
    (void) pthread_mutex_destroy(&st->lock);
    free(st->root);
    free(st->base.url);
    free(st);
}

static const StoreOps file_ops = {
    .put = file_put,
    .get = file_get,
    .stat = file_stat,
    .list = store_file_list,
    .remove = file_remove,
    .destroy = file_destroy,
};

static const StoreCaps file_caps = {
    .scheme = "file",
    .conditional_create = true,
    .max_put_bytes = FILE_MAX_PUT_BYTES,
    .max_remove_keys = 1000,
};

/* The host's name as far as it fits into keys; it only tells people whose leftover a file is. */
static void
file_read_host(char host[65])
{
    if (gethostname(host, 64) < 0)
        memcpy(host, "host", sizeof "host");
    host[64] = '\0';
    for (char *p = host; *p != '\0'; p++)
        if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9')))
            *p = '-';
}

/*
 * Makes the names of root and of all above it durable: an earlier creation may have been killed
 * half way. Folders closed to us are not ours.
 */
static int
file_sync_above(int root_fd, const char *root, Error *err)
{
    AUTO(fd_close) int fd = openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat here, above;

    if (fd < 0 || fstat(fd, &here) < 0)
        return store_file_error(err, "could not open folder \"%s\"", root);
    for (;;)
    {
        AUTO(fd_close) int parent = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (parent < 0 && errno == EACCES)
            return 0;
        if (parent < 0 || fstat(parent, &above) < 0)
            return store_file_error(err, "could not open a folder above \"%s\"", root);
        if (above.st_dev == here.st_dev && above.st_ino == here.st_ino)
            return 0;
        if (fsync(parent) < 0 && errno != EROFS && errno != EINVAL)
            return store_file_error(err, "could not sync a folder above \"%s\"", root);
        (void) close(fd);
        fd = fd_steal(&parent);
        here = above;
    }
}

static int
file_open_root(const char *root, bool create, int *out, Error *err)
{
    if (root[0] != '/')
        return error_set(
            err, ERROR_USAGE, "cannot use \"%s\" as a repository: not an absolute path", root);
    if (create && fs_make_dirs(root, FOLDER_MODE, true, err) < 0)
        return error_wrap(err, "could not create the repository");

    AUTO(fd_close) int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return store_file_error(err, "could not open repository \"%s\"", root);
    if (create && file_sync_above(fd, root, err) < 0)
        return error_wrap(err, "could not create the repository");
    *out = fd_steal(&fd);
    return 0;
}

int
store_file_new(const char *root, bool create, Store **out, Error *err)
{
    AUTO(fd_close) int root_fd = -1;
    AUTO(free_text) char *url = NULL;

    if (file_open_root(root, create, &root_fd, err) < 0)
        return -1;

    StoreFile *st = calloc(1, sizeof *st);

    if (st == NULL || asprintf(&url, "file://%s", root) < 0)
    {
        url = NULL; /* not to be trusted after a failure */
        free(st);
        return error_nomem(err);
    }
    st->root = strdup(root);
    if (st->root == NULL || store_init(&st->base, &file_ops, &file_caps, url, err) < 0 ||
        pthread_mutex_init(&st->lock, NULL) != 0)
    {
        free(st->root);
        free(st->base.url);
        free(st);
        return error_nomem(err);
    }
    st->root_fd = fd_steal(&root_fd);
    file_read_host(st->host);
    atomic_init(&st->temp_count, (uint64_t) clock_wall_us());
    *out = &st->base;
    return 0;
}

int
store_file_sweep(Store *st, int64_t age_s, uint64_t *removed, Error *err)
{
    st = store_unwrap(st);
    *removed = 0;
    if (st->ops != &file_ops)
        return 0;
    return store_file_sweep_temps((StoreFile *) st, age_s, removed, err);
}
