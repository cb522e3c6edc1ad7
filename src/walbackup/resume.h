/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Taking up what an unfinished backup has stored: a file whose content has the digests that an
 * index of it names is not stored again; the manifest refers to that bundle. A date proves nothing
 * and is not asked.
 *
 * Bundles taken up have the numbers from 0 on in this backup's manifest, new ones those behind.
 */
#ifndef WALBACKUP_RESUME_H
#define WALBACKUP_RESUME_H

#include "walbackup/backup_run.h"

/*
 * Finds the newest unfinished backup that may be taken up, and reads its indexes. *out NULL: there
 * is none. A bundle of which a part is missing, or which is encrypted for others than we encrypt
 * for, is passed over.
 */
MUST_CHECK int resume_open(BackupRun *run, const BackupList *list, Resume **out, Error *err);
void resume_free(Resume *resume);
DEFINE_AUTO(Resume, resume_free);

const char *resume_label(const Resume *resume);
/* How many numbers of bundles are taken. */
uint32_t resume_bundles(const Resume *resume);

/* A file that could be taken up: the same path and size, whole; NULL: none. Borrowed. */
const BackupFile *resume_find(const Resume *resume, const char *path, uint64_t bytes);

/*
 * The content was found to be entry's: takes it up with what file says beside the content (mode,
 * owner, time, damaged blocks). From any thread.
 */
MUST_CHECK int
resume_take(Resume *resume, const BackupFile *entry, const BackupFile *file, Error *err);

/* When all files are done: the lines of what was taken up go into the manifest, and the label into
 * run->header.uses. */
MUST_CHECK int resume_finish(Resume *resume, BackupRun *run, Error *err);

#endif
