/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Taking up what unfinished backups have stored: content that is in a finished bundle of one is not
 * stored again, and the manifest refers to that bundle.
 *
 * What proves it. The backup decides what it stores of a file, all of it or which blocks, as if
 * there were nothing to take up. Then it reads exactly those bytes and computes their digests. An
 * entry of an index is taken when path, kind, length, XXH128 and checksum are the same: the bundle
 * holds, byte for byte, what would be stored now, and it makes no difference who stored it, when,
 * and for which kind of backup. A date proves nothing and is not asked. From this follows:
 *
 * - Files that are stored whole pass from full backups to incremental ones and back.
 * - An incremental file begins with its truncation length and the list of its blocks, so that the
 *   digests speak of them too. Both were found now, from our parent and the server as it is. An
 *   entry made on another parent is as good where the bytes are the same, and nowhere else; which
 *   parent it had need not be asked.
 * - Of an entry only the place (bundle, offset) and the digests go into the manifest. Size, mode,
 *   owner, time, blocks and damaged blocks are those of now.
 * - A digest that is wrong in an index fits no content: the file is stored. That a bundle holds
 *   what its index says is known from its writer, who put the index behind the last part; to read
 *   it again would need the secret key, which this host need not have. Its parts must be there, in
 *   their sizes, and encrypted for those that we encrypt for.
 *
 * Incremental files without blocks are not taken up: they are stored as quickly.
 *
 * From whom. A run that has taken up from another and is killed has bundles of its own and refers
 * to the other's; the next one takes up from both. Fit is an unfinished backup whose newest object
 * is younger than BACKUP_RESUMABLE_MS, and one that the start object of a fit one names, however
 * old: retention keeps it as long as that one. Of the fit ones with finished bundles the
 * BACKUP_RESUMES_MAX with most bytes are taken up. Our start object names them, so that expire
 * keeps them, and what they resume, while we run; "uses" of the manifest names those of which
 * something was taken. An unfinished backup may still be running, on another server of the cluster:
 * that does no harm, as an index speaks of a finished bundle. What expire removes all the same is
 * found missing before the manifest is put (stored.h).
 *
 * Backups by BASE_BACKUP take up nothing, though what they have stored is taken up by others. What
 * the server sends is known when its last byte has come. Until then it would have to lie on this
 * host's disk, a gibibyte for each worker, which may not be there; and all that is saved is the
 * way to the store, as the server sends everything in any case.
 *
 * A run that takes up everything for longer than BACKUP_ABANDONED_MS (at a low rate limit) stores
 * nothing meanwhile, and counts as abandoned: where expire runs then, it fails in the end.
 *
 * Bundles taken up have the numbers from 0 on in this backup's manifest, whosever they are; new
 * ones have those behind. An index of ours lists ours only, under its number here.
 */
#ifndef WALBACKUP_RESUME_H
#define WALBACKUP_RESUME_H

#include "repo/file_digest.h"
#include "walbackup/backup_run.h"

/*
 * Finds the unfinished backups that are fit, and reads their indexes. *out NULL: there is nothing
 * to take up. A bundle whose index is gone or damaged, or of another checksum, of which a part is
 * missing, or which is encrypted for others than we encrypt for, is passed over.
 */
MUST_CHECK int resume_open(BackupRun *run, const BackupList *list, Resume **out, Error *err);
void resume_free(Resume *resume);
DEFINE_AUTO(Resume, resume_free);

/* All of them take a resume of NULL for one in which there is nothing. */

/* Those that bundles may be taken of, at most BACKUP_RESUMES_MAX. */
size_t resume_count(const Resume *resume);
const char *resume_label(const Resume *resume, size_t i);
/* How many numbers of bundles are taken. */
uint32_t resume_bundles(const Resume *resume);

/* Whether it is worth while to compute digests: there is something of this path, kind and
 * stored_bytes. */
bool resume_has(const Resume *resume, const BackupFile *file);

/*
 * Takes it up if it is there with this digest. From any thread.
 *
 * file   what its line would be beside digests, bundle and offset
 * taken  false: it has to be stored
 */
MUST_CHECK int resume_take(
    Resume *resume, const BackupFile *file, const FileDigest *digest, bool *taken, Error *err);

/* When all files are done: the lines of what was taken up go into the manifest, and the labels into
 * run->header.uses. */
MUST_CHECK int resume_finish(Resume *resume, BackupRun *run, Error *err);

#endif
