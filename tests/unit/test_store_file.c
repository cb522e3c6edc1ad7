/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What is special about files: temporary names, folders that come and go, what an administrator may
 * have put there, limits, and writers that are killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "conformance/store_conformance.h"
#include "tap.h"

static char top[256];

static Deadline
soon(void)
{
    return deadline_after_ms(600000, NULL);
}

static int
folder_remove_one(const char *path, const struct stat *sb, int type, struct FTW *ftw)
{
    (void) sb;
    (void) type;
    (void) ftw;
    return remove(path);
}

/* top/name; valid until the next call but three. */
static const char *
path_of(const char *name)
{
    static char paths[4][512];
    static unsigned next;
    char *path = paths[next++ % ARRAY_COUNT(paths)];

    (void) snprintf(path, sizeof paths[0], "%s/%s", top, name);
    return path;
}

static Store *
store_new(const char *name)
{
    Store *st = NULL;
    Error err;

    if (store_file_new(path_of(name), true, &st, &err) < 0)
    {
        diag("%s", err.msg);
        abort();
    }
    return st;
}

static bool
put(Store *st, const char *key, const char *text)
{
    Error err;

    if (store_put_bytes(st, key, text, strlen(text), &err) == 0)
        return true;
    diag("put %s: %s", key, err.msg);
    return false;
}

/* Writes a file under top, as somebody else would. */
static void
file_write(const char *name, const char *text)
{
    int fd = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t) strlen(text) || close(fd) < 0)
        abort();
}

static void
must(int rc)
{
    if (rc < 0)
    {
        diag("%s", strerror(errno));
        abort();
    }
}

typedef struct Names
{
    char text[1024];
    size_t count, temps;
} Names;

static int
names_add(void *ctx, const StoreEntry *entry, Error *err)
{
    Names *names = ctx;
    size_t len = strlen(names->text);

    (void) err;
    (void) snprintf(names->text + len, sizeof names->text - len, "%s ", entry->key);
    names->count++;
    names->temps += strstr(entry->key, ".tmp.") != NULL;
    return 0;
}

static bool
list_is(Store *st, const char *prefix, bool by_folder, const char *want)
{
    StoreListOptions options = {.prefix = prefix, .by_folder = by_folder};
    Names names = {0};
    Deadline dl = soon();
    Error err = {0};
    int rc = store_list(st, &options, names_add, &names, &dl, &err);

    if (rc == 0 && strcmp(names.text, want) == 0)
        return true;
    diag("%s; want %s; %s", names.text, want, rc < 0 ? err.msg : "success");
    return false;
}

static bool
remove_key(Store *st, const char *key)
{
    StoreRemoved removed = {.key = key};
    Deadline dl = soon();
    Error err = {0};

    if (store_remove(st, &removed, 1, &dl, &err) == 0 && removed.err.kind == ERROR_NONE)
        return true;
    diag("remove %s: %s %s", key, err.msg, removed.err.msg);
    return false;
}

static bool
exists(const char *name)
{
    struct stat sb;

    return lstat(path_of(name), &sb) == 0;
}

/* ---- the root ---- */

static void
test_root(void)
{
    static const struct
    {
        const char *label, *root;
        bool create;
        ErrorKind want;
    } cases[] = {
        {"missing", "none", false, ERROR_NOT_FOUND},
        {"below a missing one", "none/none", false, ERROR_NOT_FOUND},
        {"a file", "file", false, ERROR_IO},
        {"a file to be created", "file", true, ERROR_NONE}, /* any kind but success */
    };
    Store *st = NULL;
    Error err = {0};

    file_write("file", "x");
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        int rc = store_file_new(path_of(cases[i].root), cases[i].create, &st, &err);

        ok(rc < 0 && (cases[i].want == ERROR_NONE || err.kind == cases[i].want), "root is %s: %s",
           cases[i].label, rc < 0 ? err.msg : "success");
    }
    ok(store_file_new("relative/path", true, &st, &err) < 0 && err.kind == ERROR_USAGE,
       "a relative root is refused");
    ok(store_file_new("", false, &st, &err) < 0 && err.kind == ERROR_USAGE,
       "an empty root is refused");

    st = store_new("made/on/the/way");
    ok(exists("made/on/the/way") && put(st, "a", "x"), "missing folders above it are made");
    store_free(st);
    ok(store_file_new(path_of("made/on/the/way"), false, &st, &err) == 0 &&
           store_holds(st, "a", "x", 1),
       "opened again, the objects are there");
    store_free(st);
}

static void
test_root_removed(void)
{
    AUTO(store_freep) Store *st = store_new("vanishing");
    AUTO(collect_reset) CollectSink sink;
    StoreListOptions options = {.prefix = ""};
    StoreRemoved removed = {.key = "a/b"};
    Names names = {0};
    Deadline dl = soon();
    StoreStat stat;
    Error err = {0};

    collect_init(&sink);
    must(rmdir(path_of("vanishing")));
    ok(store_get(st, "a", (ByteRange){0}, &sink.stage, &dl, &err) < 0 && err.kind == ERROR_IO,
       "root removed: get cannot tell");
    ok(store_stat(st, "a/b", &dl, &stat, &err) < 0 && err.kind == ERROR_IO,
       "root removed: stat cannot tell");
    ok(store_list(st, &options, names_add, &names, &dl, &err) < 0 && err.kind == ERROR_IO,
       "root removed: list cannot tell");
    options.prefix = "a/b";
    ok(store_list(st, &options, names_add, &names, &dl, &err) < 0 && err.kind == ERROR_IO,
       "root removed: list of a folder cannot tell");
    ok(store_put_bytes(st, "a/b", "x", 1, &err) < 0 && err.kind == ERROR_IO,
       "root removed: put fails: %s", err.msg);
    ok(store_remove(st, &removed, 1, &dl, &err) < 0 || removed.err.kind == ERROR_IO,
       "root removed: remove cannot tell");
}

/* ---- what is in the folder ---- */

static void
test_layout(void)
{
    AUTO(store_freep) Store *st = store_new("layout");
    mode_t mask = umask(0);
    struct stat sb;

    ok(put(st, "wal/00000001/seg", "x"), "put");
    (void) umask(mask);
    must(stat(path_of("layout/wal/00000001/seg"), &sb));
    ok(S_ISREG(sb.st_mode) && (sb.st_mode & 07777) == 0640 && sb.st_nlink == 1,
       "the object is a file of mode 0640 with one name");
    must(stat(path_of("layout/wal/00000001"), &sb));
    ok((sb.st_mode & 07777) == 0750, "its folder has mode 0750");
    ok(strncmp(st->url, "file:///", 8) == 0, "URL");
}

static void
test_strangers(void)
{
    AUTO(store_freep) Store *st = store_new("strangers");
    AUTO(collect_reset) CollectSink sink;
    StoreListOptions linked = {.prefix = "loop/"};
    Names names = {0};
    Deadline dl = soon();
    StoreStat stat;
    Error err = {0};

    collect_init(&sink);
    ok(put(st, "a/object", "x") && put(st, "b", "x"), "put");
    must(mkdir(path_of("strangers/empty"), 0755));
    must(mkdir(path_of("strangers/empty/below"), 0755));
    must(mkdir(path_of("strangers/lost+found"), 0755));
    file_write("strangers/lost+found/x", "x");
    file_write("strangers/with blank", "x");
    file_write("strangers/a/.tmp.host.1.1", "x");
    file_write("strangers/.nfs0000000000000001", "x");
    file_write("strangers/empty/.tmp.host.1.1", "x");
    must(symlink("b", path_of("strangers/c")));
    must(symlink("a", path_of("strangers/d")));
    must(symlink(".", path_of("strangers/loop")));
    must(mkfifo(path_of("strangers/fifo"), 0600));
    ok(list_is(st, "", false, "a/object b "), "only objects are listed");
    ok(list_is(st, "", true, "a/ b "), "by folder: folders without an object are not there");
    ok(list_is(st, "empty/", true, ""), "below an empty folder there is nothing");
    ok(store_list(st, &linked, names_add, &names, &dl, &err) < 0 && err.kind == ERROR_IO,
       "a link is not listed as a folder: %s", err.msg);
    ok(store_get(st, "c", (ByteRange){0}, &sink.stage, &dl, &err) < 0 &&
           err.kind != ERROR_NOT_FOUND,
       "a link is not followed, nor taken for nothing: %s", err.msg);
    ok(store_stat(st, "d/object", &dl, &stat, &err) < 0 && err.kind != ERROR_NOT_FOUND,
       "the same for a folder: %s", err.msg);
    ok(store_put_bytes(st, "d/new", "x", 1, &err) < 0 && !exists("strangers/a/new"),
       "nothing is put through it: %s", err.msg);
    ok(store_get(st, "fifo", (ByteRange){0}, &sink.stage, &dl, &err) < 0 && err.kind == ERROR_IO,
       "a pipe is not waited for: %s", err.msg);
}

static void
test_conflicts(void)
{
    static const struct
    {
        const char *label, *key;
        ErrorKind want;
    } puts[] = {
        {"a key that is a folder of others", "a", ERROR_CONFLICT},
        {"a key below an object", "a/b/c", ERROR_CONFLICT},
        {"far below an object", "a/b/c/d/e", ERROR_CONFLICT},
        {"a link of that name", "link", ERROR_CONFLICT},
        {"a broken link of that name", "broken", ERROR_CONFLICT},
        {"a pipe of that name", "fifo", ERROR_CONFLICT},
        {"a reserved name", ".tmp.x", ERROR_USAGE},
        {"a reserved name below a folder", "a/.tmp.host.1.1", ERROR_USAGE},
        {"a reserved folder", "q/.nfs1/x", ERROR_USAGE},
    };
    AUTO(store_freep) Store *st = store_new("conflicts");
    Deadline dl = soon();
    StoreStat stat;
    Error err = {0};
    char name[300];

    ok(put(st, "a/b", "x"), "put");
    must(symlink("a/b", path_of("conflicts/link")));
    must(symlink("nothing", path_of("conflicts/broken")));
    must(mkfifo(path_of("conflicts/fifo"), 0600));
    file_write("conflicts/a/.tmp.host.1.1", "x");
    for (size_t i = 0; i < ARRAY_COUNT(puts); i++)
    {
        int rc = store_put_bytes(st, puts[i].key, "y", 1, &err);

        ok(rc < 0 && err.kind == puts[i].want, "put: %s: %s", puts[i].label,
           rc < 0 ? err.msg : "success");
    }
    ok(!exists("conflicts/nothing") && !exists("conflicts/q"), "nothing came into being");

    memset(name, 'n', sizeof name);
    name[256] = '\0';
    ok(store_put_bytes(st, name, "x", 1, &err) < 0 && err.kind == ERROR_USAGE,
       "a name longer than the file system takes");
    ok(store_stat(st, name, &dl, &stat, &err) < 0 && err.kind == ERROR_NOT_FOUND,
       "it is certain that it does not exist");
    memcpy(name + 256, "/x", 3);
    ok(store_put_bytes(st, name, "x", 1, &err) < 0 && err.kind == ERROR_USAGE, "as a folder");
    ok(store_stat(st, name, &dl, &stat, &err) < 0 && err.kind == ERROR_NOT_FOUND,
       "as a folder, it does not exist");
    ok(remove_key(st, name) && remove_key(st, "a") && remove_key(st, "a/b/c"),
       "what cannot be there is removed with success");
    ok(remove_key(st, "a/.tmp.host.1.1") && exists("conflicts/a/.tmp.host.1.1"),
       "somebody's temporary file is not removed");
    ok(store_stat(st, "a/.tmp.host.1.1", &dl, &stat, &err) < 0 && err.kind == ERROR_NOT_FOUND,
       "nor is it an object");
    ok(store_holds(st, "a/b", "x", 1), "the object is as it was");
}

static void
test_folders_go(void)
{
    AUTO(store_freep) Store *st = store_new("folders");

    ok(put(st, "a/b/c/1", "x") && put(st, "a/b/c/2", "x") && put(st, "a/d", "x"), "put");
    ok(remove_key(st, "a/b/c/1") && exists("folders/a/b/c"), "a folder with an object stays");
    ok(remove_key(st, "a/b/c/2") && !exists("folders/a/b"), "emptied folders go");
    ok(exists("folders/a/d"), "up to the one with an object");
    ok(put(st, "a/b/c/1", "y") && store_holds(st, "a/b/c/1", "y", 1), "and come back");
    ok(remove_key(st, "a/b/c/1") && remove_key(st, "a/d") && !exists("folders/a") &&
           exists("folders"),
       "root stays");
}

/* ---- leftovers ---- */

static void
make_old(const char *name, int64_t age_s)
{
    struct timespec times[2] = {{.tv_sec = time(NULL) - age_s}, {.tv_sec = time(NULL) - age_s}};

    must(utimensat(AT_FDCWD, path_of(name), times, AT_SYMLINK_NOFOLLOW));
}

static void
test_sweep(void)
{
    AUTO(store_freep) Store *st = NULL;
    Store *file = store_new("sweep");
    AUTO(store_freep) Store *memory = NULL;
    Error err = {0};
    uint64_t removed = 77;

    if (store_prefix_new(file, "p/", &st, &err) < 0 || store_memory_new(&memory, &err) < 0)
        abort();
    ok(put(st, "a/object", "x"), "put");
    must(mkdir(path_of("sweep/empty"), 0755));
    must(mkdir(path_of("sweep/empty/below"), 0755));
    file_write("sweep/.tmp.host.1.1", "x");
    file_write("sweep/p/a/.tmp.host.1.2", "x");
    file_write("sweep/p/a/.tmp.host.1.3", "x");
    file_write("sweep/empty/below/.tmp.host.1.4", "x");
    make_old("sweep/.tmp.host.1.1", 4000);
    make_old("sweep/p/a/.tmp.host.1.2", 4000);
    make_old("sweep/p/a/object", 4000);
    make_old("sweep/empty/below/.tmp.host.1.4", 3000);
    ok(store_file_sweep(st, 3600, &removed, &err) == 0 && removed == 2, "old ones are removed");
    ok(!exists("sweep/.tmp.host.1.1") && !exists("sweep/p/a/.tmp.host.1.2"), "they are gone");
    ok(exists("sweep/p/a/.tmp.host.1.3") && exists("sweep/empty/below/.tmp.host.1.4"),
       "younger ones stay");
    ok(store_file_sweep(st, 0, &removed, &err) == 0 && removed == 2, "age 0 removes all");
    ok(!exists("sweep/empty"), "folders left empty go");
    ok(store_holds(st, "a/object", "x", 1), "the object stays");
    ok(store_file_sweep(memory, 0, &removed, &err) == 0 && removed == 0,
       "another store has nothing to sweep");
}

/* ---- reading what changes ---- */

typedef struct CuttingSink
{
    Stage stage;
    const char *path;
} CuttingSink;

static int
cutting_write(Stage *st, const void *buf, size_t len, Error *err)
{
    (void) buf;
    (void) len;
    if (truncate(((CuttingSink *) st)->path, 300000) < 0)
        return error_sys(err, "could not cut");
    return 0;
}

static int
cutting_finish(Stage *st, Error *err)
{
    (void) st;
    (void) err;
    return 0;
}

static void
cutting_destroy(Stage *st)
{
    (void) st;
}

static void
test_cut(void)
{
    static const StageOps ops = {
        .name = "cut",
        .write = cutting_write,
        .finish = cutting_finish,
        .destroy = cutting_destroy};
    static char data[1000000];
    AUTO(store_freep) Store *st = store_new("cut");
    CuttingSink sink = {.path = path_of("cut/object")};
    Deadline dl = soon();
    Error err = {0};

    ok(store_put_bytes(st, "object", data, sizeof data, &err) == 0, "put");
    stage_init(&sink.stage, &ops, NULL);
    ok(store_get(st, "object", (ByteRange){0}, &sink.stage, &dl, &err) < 0 &&
           err.kind == ERROR_CORRUPT,
       "an object that is cut while it is read: %s", err.msg);
}

/* ---- permissions and limits ---- */

static void
test_permissions(void)
{
    AUTO(store_freep) Store *st = store_new("permissions");
    AUTO(collect_reset) CollectSink sink;
    StoreListOptions options = {.prefix = ""};
    StoreRemoved removed = {.key = "closed/object"};
    Names names = {0};
    Deadline dl = soon();
    StoreStat stat;
    Error err = {0};

    collect_init(&sink);
    if (geteuid() == 0)
    {
        ok(true, "# SKIP nothing is denied to root");
        return;
    }
    ok(put(st, "closed/object", "x") && put(st, "unreadable", "x"), "put");
    must(chmod(path_of("permissions/unreadable"), 0));
    ok(store_get(st, "unreadable", (ByteRange){0}, &sink.stage, &dl, &err) < 0 &&
           err.kind == ERROR_DENIED,
       "get: %s", err.msg);
    must(chmod(path_of("permissions/closed"), 0500));
    ok(store_put_bytes(st, "closed/new", "x", 1, &err) < 0 && err.kind == ERROR_DENIED, "put: %s",
       err.msg);
    ok(store_remove(st, &removed, 1, &dl, &err) == 0 && removed.err.kind == ERROR_DENIED,
       "remove: %s", removed.err.msg);
    must(chmod(path_of("permissions/closed"), 0));
    ok(store_stat(st, "closed/object", &dl, &stat, &err) < 0 && err.kind == ERROR_DENIED,
       "stat is not told as missing: %s", err.msg);
    ok(store_list(st, &options, names_add, &names, &dl, &err) < 0 && err.kind == ERROR_DENIED,
       "list is not told as empty: %s", err.msg);
    must(chmod(path_of("permissions/closed"), 0750));
}

/* One run as root must not lock the server's user out. */
static void
test_owner(void)
{
    AUTO(store_freep) Store *st = store_new("owner");
    struct stat file, folder;

    if (geteuid() != 0)
    {
        ok(true, "# SKIP only root can give files away");
        return;
    }
    must(chown(path_of("owner"), 12345, 23456));
    ok(put(st, "a/b/object", "x"), "put");
    must(stat(path_of("owner/a/b/object"), &file));
    must(stat(path_of("owner/a"), &folder));
    ok(file.st_uid == 12345 && file.st_gid == 23456, "the file is its folder's owner's");
    ok(folder.st_uid == 12345 && folder.st_gid == 23456, "and so is a folder");
}

static void
test_size_limit(void)
{
    static char data[200000];
    AUTO(store_freep) Store *st = store_new("limit");
    struct rlimit old, limit;
    Error err = {0};

    (void) signal(SIGXFSZ, SIG_IGN);
    must(getrlimit(RLIMIT_FSIZE, &old));
    limit = old;
    limit.rlim_cur = 100000;
    must(setrlimit(RLIMIT_FSIZE, &limit));

    int rc = store_put_bytes(st, "a/big", data, sizeof data, &err);

    ok(rc < 0 && err.kind == ERROR_IO && err.sys_errno == EFBIG && err.hint[0] != '\0',
       "a file that may not grow: %s", rc < 0 ? err.msg : "success");
    ok(store_put_bytes(st, "a/small", data, 1000, &err) == 0, "a small one is put");
    must(setrlimit(RLIMIT_FSIZE, &old));
    ok(list_is(st, "", false, "a/small "), "only that one is there");
    (void) remove_key(st, "a/small");
    ok(!exists("limit/a"), "the temporary file of the other is gone");
    ok(store_put_bytes(st, "a/big", data, sizeof data, &err) == 0 &&
           store_holds(st, "a/big", data, sizeof data),
       "without the limit it is put");
}

static void
test_descriptors(void)
{
    AUTO(store_freep) Store *st = store_new("descriptors");
    struct rlimit old, limit;
    unsigned transient = 0, other = 0;
    Error err = {0};

    /* so few that some step of put does not get one; the first that is free is the count in use */
    int lowest = dup(0);

    must(close(lowest));
    must(getrlimit(RLIMIT_NOFILE, &old));
    for (rlim_t more = 0; more < 12; more++)
    {
        char key[32];

        (void) snprintf(key, sizeof key, "a/%u/c", (unsigned) more);
        limit = old;
        limit.rlim_cur = (rlim_t) lowest + more;
        must(setrlimit(RLIMIT_NOFILE, &limit));

        int rc = store_put_bytes(st, key, "x", 1, &err);

        must(setrlimit(RLIMIT_NOFILE, &old));
        if (rc == 0)
            other += !store_holds(st, key, "x", 1);
        else if (err.kind == ERROR_TRANSIENT)
            transient++;
        else
            other++;
    }
    ok(transient > 0 && other == 0, "no descriptor left is TRANSIENT (%u of 12), or success",
       transient);
}

/* ---- others at work ---- */

typedef struct Worker
{
    Store *st;
    const char *folder;
    atomic_bool *stop;
    atomic_uint *failures, *rounds;
} Worker;

/* Puts, reads and removes its own key in a folder that so becomes empty again and again. */
static void *
worker_run(void *arg)
{
    Worker *w = arg;
    static atomic_uint next;
    char key[64];

    (void) snprintf(
        key, sizeof key, "%s/%u", w->folder,
        atomic_fetch_add_explicit(&next, 1, memory_order_relaxed));
    while (!atomic_load(w->stop))
    {
        if (!put(w->st, key, key) || !store_holds(w->st, key, key, strlen(key)) ||
            !remove_key(w->st, key))
            atomic_fetch_add(w->failures, 1);
        atomic_fetch_add(w->rounds, 1);
    }
    return NULL;
}

static void
test_folder_race(void)
{
    AUTO(store_freep) Store *st = store_new("race");
    AUTO(store_freep) Store *other = store_new("race");
    atomic_bool stop = false;
    atomic_uint failures = 0, rounds = 0;
    Worker workers[6];
    pthread_t threads[ARRAY_COUNT(workers)];
    int64_t until = clock_monotonic_ms() + 700;
    unsigned listings = 0;

    for (size_t i = 0; i < ARRAY_COUNT(workers); i++)
    {
        workers[i] = (Worker){
            .st = i % 2 == 0 ? st : other,
            .folder = i % 3 == 0 ? "a/b/c" : "a/b",
            .stop = &stop,
            .failures = &failures,
            .rounds = &rounds,
        };
        if (pthread_create(&threads[i], NULL, worker_run, &workers[i]) != 0)
            abort();
    }
    while (clock_monotonic_ms() < until || listings < 20 || atomic_load(&rounds) < 100)
    {
        StoreListOptions options = {.prefix = "", .by_folder = listings % 2 == 0};
        Names names = {0};
        Deadline dl = soon();
        Error err = {0};

        if (store_list(st, &options, names_add, &names, &dl, &err) < 0 || names.temps > 0)
        {
            diag("%s %s", names.text, err.msg);
            atomic_fetch_add(&failures, 1);
        }
        listings++;
    }
    atomic_store(&stop, true);

    for (size_t i = 0; i < ARRAY_COUNT(workers); i++)
        (void) pthread_join(threads[i], NULL);
    ok(failures == 0,
       "writers, removers and listings of folders that come and go (%u rounds, %u listings)",
       rounds, listings);
    ok(list_is(st, "", false, "") && !exists("race/a"), "all is gone at the end");
}

/* ---- killed writers ---- */

enum
{
    KILLED_BYTES = 150000
};

static void
killed_fill(char *data, unsigned n)
{
    for (size_t i = 0; i < KILLED_BYTES; i++)
        data[i] = (char) (i * 7 + n * 13 + i / 253);
}

/* Puts objects until it is killed, and tells each acknowledged one. */
static void
killed_child(Store *st, unsigned round, int out)
{
    static char data[KILLED_BYTES];

    for (unsigned n = 0;; n++)
    {
        char key[64];
        Error err;

        (void) snprintf(key, sizeof key, "%u/%u/%u", round, n % 3, n);
        killed_fill(data, n);
        if (store_put_bytes(st, key, data, sizeof data, &err) < 0)
            _exit(1);
        if (write(out, &n, sizeof n) != sizeof n)
            _exit(2);
    }
}

typedef struct KilledCheck
{
    Store *st;
    unsigned objects, bad;
} KilledCheck;

/* Every object that can be seen is whole. */
static int
killed_check(void *ctx, const StoreEntry *entry, Error *err)
{
    static char data[KILLED_BYTES];
    KilledCheck *check = ctx;
    const char *slash = strrchr(entry->key, '/');

    (void) err;
    check->objects++;
    killed_fill(data, slash != NULL ? (unsigned) strtoul(slash + 1, NULL, 10) : 0);
    if (slash == NULL || entry->bytes != KILLED_BYTES ||
        !store_holds(check->st, entry->key, data, sizeof data))
        check->bad++;
    return 0;
}

static void
test_killed(void)
{
    AUTO(store_freep) Store *st = store_new("killed");
    KilledCheck check = {.st = st};
    StoreListOptions options = {.prefix = ""};
    const char *quick = getenv("WALTEST_QUICK");
    unsigned rounds = quick != NULL ? 15 : 60, acknowledged = 0, lost = 0, ended = 0;
    uint64_t swept = 0;
    Deadline dl = soon();
    Error err = {0};

    for (unsigned round = 0; round < rounds; round++)
    {
        int pipe_fds[2], status;
        unsigned n;
        pid_t pid;

        must(pipe2(pipe_fds, O_CLOEXEC));
        pid = fork();
        must(pid);
        if (pid == 0)
            killed_child(st, round, pipe_fds[1]);
        must(close(pipe_fds[1]));
        /* now and then behind an acknowledged one, however slow it comes */
        if (round % 8 == 0)
            (void) poll(&(struct pollfd){.fd = pipe_fds[0], .events = POLLIN}, 1, 120000);
        (void) usleep(500 + round * 7919 % 40000);
        must(kill(pid, SIGKILL));
        must(waitpid(pid, &status, 0));
        ended += !WIFSIGNALED(status);
        while (read(pipe_fds[0], &n, sizeof n) == sizeof n)
        {
            char key[64];
            StoreStat stat;

            (void) snprintf(key, sizeof key, "%u/%u/%u", round, n % 3, n);
            acknowledged++;
            lost += store_stat(st, key, &dl, &stat, &err) < 0;
        }
        must(close(pipe_fds[0]));
    }
    ok(ended == 0 && acknowledged > 0, "%u writers killed, %u objects acknowledged", rounds,
       acknowledged);
    ok(lost == 0, "no acknowledged object is lost");

    bool listed = store_list(st, &options, killed_check, &check, &dl, &err) == 0;

    ok(listed && check.bad == 0 && check.objects >= acknowledged,
       "all of %u objects are whole, and no temporary file is told", check.objects);
    listed = store_file_sweep(st, 0, &swept, &err) == 0;
    ok(listed, "swept %llu leftovers", (unsigned long long) swept);

    uint64_t again = 1;

    ok(store_file_sweep(st, 0, &again, &err) == 0 && again == 0, "nothing is left to sweep");
    check.objects = check.bad = 0;
    ok(store_list(st, &options, killed_check, &check, &dl, &err) == 0 && check.bad == 0 &&
           check.objects >= acknowledged,
       "the objects are whole after that");
}

int
main(void)
{
    const char *tmp = getenv("TMPDIR");

    (void) snprintf(top, sizeof top, "%s/test_store_file.XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(top) == NULL)
        return 1;
    test_root();
    test_root_removed();
    test_layout();
    test_strangers();
    test_conflicts();
    test_folders_go();
    test_sweep();
    test_cut();
    test_permissions();
    test_owner();
    test_size_limit();
    test_descriptors();
    test_folder_race();
    test_killed();
    (void) nftw(top, folder_remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return done_testing();
}
