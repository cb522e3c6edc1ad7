/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What the programs `age` and `age-keygen` write we read, and the other way about: keys, files for
 * recipients, armored ones, files and identity files under a passphrase. Without them the test
 * fails.
 */
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fs.h"
#include "crypto/age.h"
#include "tap.h"
#include "tempdir.h"

#define PASSPHRASE "correct horse battery staple"
#define FILE_MAX_BYTES (1 << 20)

extern char **environ;

/* The file's content; an empty one if it cannot be read, which no test expects. */
static char *
read_file(const char *path, size_t *len)
{
    char *text = NULL;
    Error err;

    *len = 0;
    if (fs_read_file(path, FILE_MAX_BYTES, &text, len, &err) < 0)
        diag("%s", err.msg);
    return text;
}

/* Runs a program without terminal; its output goes to the file out. Exit status, -1 for no exit. */
static int
run(const char *const *argv, const char *out)
{
    union
    {
        const char *const *in;
        char *const *out;
    } args = {argv};
    posix_spawn_file_actions_t actions;
    pid_t pid;
    int status = -1;

    if (posix_spawn_file_actions_init(&actions) != 0 ||
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0) != 0 ||
        posix_spawn_file_actions_addopen(
            &actions, 1, out == NULL ? "/dev/null" : out, O_WRONLY | O_CREAT | O_TRUNC, 0600) != 0)
        abort();
    if (posix_spawnp(&pid, argv[0], &actions, NULL, args.out, environ) == 0)
        (void) waitpid(pid, &status, 0);
    (void) posix_spawn_file_actions_destroy(&actions);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Runs a program on a terminal of its own and answers each prompt with the passphrase. */
static int
run_with_passphrase(const char *const *argv)
{
    union
    {
        const char *const *in;
        char *const *out;
    } args = {argv};
    char said[4096];
    size_t len = 0;
    int terminal = -1, status = -1;
    pid_t pid = forkpty(&terminal, NULL, NULL, NULL);

    if (pid < 0)
        return -1;
    if (pid == 0)
    {
        (void) execvp(argv[0], args.out);
        _exit(127);
    }
    for (;;)
    {
        ssize_t n = read(terminal, said + len, sizeof said - 1 - len);

        if (n <= 0)
            break; /* the program has ended */
        len += (size_t) n;
        said[len] = '\0';
        if (strstr(said, ": ") == NULL)
            continue;
        len = 0;
        if (write(terminal, PASSPHRASE "\n", sizeof PASSPHRASE) != sizeof PASSPHRASE)
            break;
    }
    (void) close(terminal);
    (void) waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* ---- our side ---- */

static int
encrypt_to_file(
    const AgeRecipients *r, const char *own_args, const char *plain, size_t len, const char *path,
    Error *err)
{
    AUTO(age_encryption_freep) AgeEncryption *e = NULL;
    AUTO(fd_close) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    AUTO(stage_freep) Stage *chain = NULL;
    uint8_t header[4096];

    if (fd < 0 || age_encryption_begin(r, &e, err) < 0)
        return -1;

    size_t header_len = age_encryption_header_bytes(e, own_args == NULL ? 0 : strlen(own_args));

    if (header_len > sizeof header ||
        age_encryption_header(e, own_args, header, header_len, err) < 0 ||
        fs_write_all(fd, header, header_len, path, err) < 0 ||
        stage_fd_sink_new(fd, path, &chain, err) < 0 ||
        age_encryptor_new(e, chain, &chain, err) < 0 || stage_write(chain, plain, len, err) < 0)
        return -1;
    return stage_finish(chain, err);
}

/* Whether the file opens to exactly these bytes. */
static bool
decrypts_to(const AgeIdentities *ids, const char *path, const char *want, size_t want_len)
{
    AUTO(stage_freep) Stage *chain = NULL;
    AUTO(free_text) char *file = NULL;
    AUTO(free_text) char *plain = malloc(FILE_MAX_BYTES);
    size_t file_len, plain_len = 0;
    Error err;

    file = read_file(path, &file_len);
    if (file == NULL || plain == NULL ||
        stage_memory_sink_new(plain, FILE_MAX_BYTES, &plain_len, &chain, &err) < 0 ||
        age_decryptor_new(ids, chain, NULL, &chain, &err) < 0)
        return false;
    if (stage_write(chain, file, file_len, &err) < 0 || stage_finish(chain, &err) < 0)
    {
        diag("%s", err.msg);
        return false;
    }
    return plain_len == want_len && memcmp(plain, want, want_len) == 0;
}

static bool
file_holds(const char *path, const char *want, size_t want_len)
{
    AUTO(free_text) char *text = NULL;
    size_t len;

    text = read_file(path, &len);
    return text != NULL && len == want_len && memcmp(text, want, len) == 0;
}

/* ---- tests ---- */

static void
test_keys(void)
{
    AUTO(age_identities_freep) AgeIdentities *ids = NULL;
    AUTO(free_text) char *theirs = NULL;
    char recipient[64], identity[80], line[128];
    size_t len;
    Error err = {0};

    if (age_identities_new(&ids, &err) < 0)
        abort();
    ok(run((const char *const[]){"age-keygen", "-o", tempdir_name("theirs"), NULL}, NULL) == 0,
       "age-keygen makes an identity file");
    ok(age_identities_load(ids, tempdir_name("theirs"), &err) == 0 &&
           age_identities_count(ids) == 1,
       "we read it%s%s", err.kind == ERROR_NONE ? "" : ": ", err.msg);
    ok(age_identities_recipient(ids, 0, recipient, sizeof recipient, &err) == 0 &&
           run((const char *const[]){"age-keygen", "-y", tempdir_name("theirs"), NULL},
               tempdir_name("out")) == 0,
       "both tell its recipient");
    theirs = read_file(tempdir_name("out"), &len);
    (void) snprintf(line, sizeof line, "%s\n", recipient);
    ok(theirs != NULL && strcmp(theirs, line) == 0, "the same");

    if (age_keygen(recipient, identity, &err) < 0)
        abort();
    (void) snprintf(line, sizeof line, "# ours\n%s\n", identity);
    (void) tempdir_write("ours", line, strlen(line));
    if (chmod(tempdir_name("ours"), 0600) < 0)
        abort();
    (void) snprintf(line, sizeof line, "%s\n", recipient);
    ok(run((const char *const[]){"age-keygen", "-y", tempdir_name("ours"), NULL},
           tempdir_name("out")) == 0 &&
           file_holds(tempdir_name("out"), line, strlen(line)),
       "age-keygen -y of our key tells our recipient");
}

static void
test_files(const char *plain)
{
    static const size_t sizes[] = {0, 1, 65535, 65536, 65537, 131072, 200000};
    AUTO(age_identities_freep) AgeIdentities *ids = NULL;
    AUTO(age_recipients_freep) AgeRecipients *r = NULL;
    char ours[64], theirs[64];
    Error err = {0};

    if (age_identities_new(&ids, &err) < 0 || age_recipients_new(&r, &err) < 0 ||
        age_identities_load(ids, tempdir_name("ours"), &err) < 0 ||
        age_identities_load(ids, tempdir_name("theirs"), &err) < 0 ||
        age_identities_recipient(ids, 0, ours, sizeof ours, &err) < 0 ||
        age_identities_recipient(ids, 1, theirs, sizeof theirs, &err) < 0 ||
        age_recipients_add(r, ours, &err) < 0 || age_recipients_add(r, theirs, &err) < 0)
        abort();
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++)
    {
        const char *label =
            "1 wal/00000001/00000000/000000010000000000000001 0000000001000000 00ff 12,34";

        ok(encrypt_to_file(r, label, plain, sizes[i], tempdir_name("sealed"), &err) == 0 &&
               run(
                   (const char *const[]){
                       "age", "-d", "-i", tempdir_name("theirs"), tempdir_name("sealed"), NULL},
                   tempdir_name("out")) == 0 &&
               file_holds(tempdir_name("out"), plain, sizes[i]),
           "age opens our file of %zu bytes, with our stanza, for two recipients", sizes[i]);
        (void) tempdir_write("plain", plain, sizes[i]);
        ok(run((const char *const[]){"age", "-r", ours, tempdir_name("plain"), NULL},
               tempdir_name("sealed")) == 0 &&
               decrypts_to(ids, tempdir_name("sealed"), plain, sizes[i]),
           "we open a file of age of %zu bytes", sizes[i]);
        ok(run((const char *const[]){"age", "-a", "-r", theirs, tempdir_name("plain"), NULL},
               tempdir_name("sealed")) == 0 &&
               decrypts_to(ids, tempdir_name("sealed"), plain, sizes[i]),
           "we open an armored file of age of %zu bytes", sizes[i]);
    }
}

static void
test_passphrase(const char *plain)
{
    AUTO(age_recipients_freep) AgeRecipients *r = NULL;
    AUTO(age_identities_freep) AgeIdentities *ids = NULL;
    Error err = {0};

    if (age_recipients_new(&r, &err) < 0 || age_identities_new(&ids, &err) < 0 ||
        age_recipients_set_passphrase(r, PASSPHRASE, 12, &err) < 0)
        abort();
    ok(encrypt_to_file(r, NULL, plain, 70000, tempdir_name("sealed"), &err) == 0 &&
           run_with_passphrase((const char *const[]){
               "age", "-d", "-o", tempdir_name("opened"), tempdir_name("sealed"), NULL}) == 0 &&
           file_holds(tempdir_name("opened"), plain, 70000),
       "age opens our file under a passphrase");

    ok(run_with_passphrase((const char *const[]){
           "age", "-p", "-a", "-o", tempdir_name("protected"), tempdir_name("ours"), NULL}) == 0 &&
           chmod(tempdir_name("protected"), 0600) == 0,
       "age protects an identity file by a passphrase");
    ok(age_identities_load_protected(ids, tempdir_name("protected"), PASSPHRASE, &err) == 0 &&
           age_identities_count(ids) == 1,
       "we open it%s%s", err.kind == ERROR_NONE ? "" : ": ", err.msg);
}

int
main(void)
{
    AUTO(free_text) char *plain = malloc(200000);

    if (plain == NULL)
        abort();
    (void) tempdir_make();
    for (size_t i = 0; i < 200000; i++)
        plain[i] = (char) (i * i >> 7);
    (void) alarm(600); /* a program that waits for an answer must not hang the tests */
    if (ok(run((const char *const[]){"age", "--version", NULL}, NULL) == 0,
           "the program age is here"))
    {
        test_keys();
        test_files(plain);
        test_passphrase(plain);
    }
    return done_testing();
}
