/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Where a restore goes: the data directory and its tablespaces. What may be written to is decided
 * before the first byte; then the marker file says that the directory is incomplete, until all of
 * it is durable. A server cannot start on it meanwhile: global/pg_control has another name.
 *
 *   killed before the marker is there   a directory, at most with the marker under its temporary
 *                                       name, which counts as empty
 *   killed later                        a directory with the marker, without pg_control, which
 *                                       walrestore takes up again
 *   killed after pg_control has its     a complete restore, with the marker; the same command
 *   name, before the marker is gone     may be given again, or the marker removed
 */
#ifndef WALRESTORE_PLACE_H
#define WALRESTORE_PLACE_H

#include <sys/types.h>

#include "walrestore/options.h"
#include "walrestore/plan.h"

#define PLACE_MARKER "walrestore.incomplete"
#define PLACE_CONTROL_PENDING "global/pg_control.incomplete"
#define PLACE_PATH_MAX 4096

typedef enum PlaceState
{
    PLACE_ABSENT,
    PLACE_EMPTY,
    PLACE_INTERRUPTED, /* it has the marker of a restore of ours */
    PLACE_IN_USE       /* a data directory of this cluster, and --delta */
} PlaceState;

typedef struct PlaceTablespace
{
    uint32_t oid;
    char *path;    /* absolute, without links, as far as it exists; owned */
    char *link;    /* what pg_tblspc/<oid> points to: as given; owned */
    bool in_place; /* a folder pg_tblspc/<oid>, as the backup has it: path and link are NULL */
    bool mapped;   /* by --tablespace */
    bool exists;
    bool ours;                /* what is in its folder for this version may be replaced */
    uint64_t reclaimed_bytes; /* of files there that will be replaced or removed */
} PlaceTablespace;

typedef struct PlaceOwner
{
    const char *user, *group; /* borrowed from the manifest */
    uid_t uid;
    gid_t gid;
} PlaceOwner;

typedef struct Place
{
    char path[PLACE_PATH_MAX]; /* absolute */
    PlaceState state;
    int fd;      /* of the directory, locked; -1 before place_begin when it is not there or empty */
    mode_t mode; /* of the directory itself */
    PlaceTablespace *tablespaces; /* owned */
    size_t tablespace_count;
    char version_folder[64]; /* PG_15_202209061, in each tablespace */
    PlaceOwner *owners;      /* owned; as root: the names that exist here */
    size_t owner_count;
    size_t owner_cap;
    uint64_t reclaimed_bytes; /* the same, of the data directory */
} Place;

/* {0} with fd -1. */
void place_init(Place *place);
void place_reset(Place *place); /* fit for AUTO */

/*
 * Looks at the directory and decides, by the header of the newest backup.
 *
 * Errors  EXISTS: not empty, or in a way it may not be; CONFLICT: another system identifier;
 *         USAGE: a tablespace that the backup does not have, places inside each other; DENIED
 */
MUST_CHECK int
place_check(Place *place, const RestoreOptions *options, const BackupHeader *header, Error *err);

/*
 * What the restore needs, and must not remove with what does not belong: path is not in one of the
 * directories. Errors: USAGE, naming what it is
 */
MUST_CHECK int
place_check_outside(const Place *place, const char *path, const char *what, Error *err);

/* Whether there is room for the plan. Errors: IO, saying how much is missing. */
MUST_CHECK int place_check_space(const Place *place, const Plan *plan, Error *err);

/* As root: looks the owners of the plan's files up; what is not known here gives one warning. */
MUST_CHECK int place_find_owners(Place *place, const Plan *plan, Error *err);
/* False: it stays ours. */
bool place_owner(const Place *place, const char *user, const char *group, uid_t *uid, gid_t *gid);

/* Whether the directory is there and has the marker, of this restore or an earlier one. */
bool place_is_marked(const Place *place);

/* Makes the directory, marks it as incomplete, and takes pg_control away. */
MUST_CHECK int place_begin(Place *place, const Plan *plan, Error *err);
/* Folders and links, as the plan says. What does not belong is gone already (delta.h). */
MUST_CHECK int place_make_folders(Place *place, const Plan *plan, Error *err);
/* Everything is durable: pg_control gets its name, and the marker goes. */
MUST_CHECK int place_end(Place *place, Error *err);

/* The tablespace of a path; NULL if there is none, or it is in place. */
const PlaceTablespace *place_find_tablespace(const Place *place, uint32_t oid);
/* Absolute path of a file of the backup into buf, whether its link is there or not. */
MUST_CHECK int
place_file_path(const Place *place, const char *path, char *buf, size_t len, Error *err);

/*
 * A file of ours in the directory, in steps: it is written under another name, and made durable and
 * renamed by the commit. fd is the caller's.
 */
MUST_CHECK int place_file_begin(const Place *place, const char *name, int *fd, Error *err);
MUST_CHECK int place_file_commit(const Place *place, const char *name, int fd, Error *err);
/* The same in one. */
MUST_CHECK int
place_write_file(const Place *place, const char *name, const void *data, size_t len, Error *err);

#endif
