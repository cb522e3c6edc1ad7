/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Restoring over what is there: a data directory of the cluster (--delta), or a restore that was
 * interrupted. Links are never followed out of the directory; of a tablespace only the folder of
 * this version of PostgreSQL is looked at.
 */
#ifndef WALRESTORE_DELTA_H
#define WALRESTORE_DELTA_H

#include "walrestore/place.h"

typedef struct DeltaCounts
{
    uint64_t compared_bytes;
    uint64_t removed_files; /* and links; what is replaced counts too */
} DeltaCounts;

/*
 * Without writing: files of whole content whose length and checksums are those of the backup become
 * PLAN_KEEP. place->reclaimed_bytes is what the others there take.
 */
MUST_CHECK int delta_compare(
    Place *place, Plan *plan, unsigned jobs, const atomic_bool *cancel, DeltaCounts *counts,
    Error *err);

/* Removes everything that is not kept. After place_begin. */
MUST_CHECK int delta_clean(const Place *place, const Plan *plan, DeltaCounts *counts, Error *err);

#endif
