/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The members of one line of a manifest, by their letters.
 *
 * A restore reads a line for each file of each backup of its chain. So a line in the plain form in
 * which they are written (one object, members of one letter, texts of ASCII without escapes,
 * integers, the list "z") is read where it lies. Every other line is jansson's, which also says
 * what is wrong with it; both give the same members.
 */
#ifndef WALSTREAM_MANIFEST_MEMBERS_H
#define WALSTREAM_MANIFEST_MEMBERS_H

#include <jansson.h>

#include "repo/backup_format.h"

typedef enum MemberType
{
    MEMBER_NONE,
    MEMBER_TEXT,
    MEMBER_INTEGER,
    MEMBER_LIST, /* of integers from 0 to UINT32_MAX; "z" only */
    MEMBER_OTHER
} MemberType;

typedef struct ManifestMember
{
    MemberType type;
    const char *text; /* len bytes, without NUL; borrowed from the line or from doc */
    size_t len;
    int64_t number;
} ManifestMember;

/* {0} before its first use. */
typedef struct ManifestMembers
{
    ManifestMember letters['z' - 'A' + 1];
    uint32_t list[BACKUP_PART_MAX_FRAMES];
    size_t list_count;
    json_t *doc; /* owned; NULL: the line is plain, and has no members of longer names */
} ManifestMembers;

void manifest_members_reset(ManifestMembers *m); /* fit for AUTO */

/* text stays where it is until the next call. CORRUPT or NOMEM as json_read_object. */
MUST_CHECK int manifest_members_read(ManifestMembers *m, const char *text, size_t len, Error *err);

/* As if every line were jansson's; for tests. */
MUST_CHECK int
manifest_members_read_any(ManifestMembers *m, const char *text, size_t len, Error *err);

/* Type MEMBER_NONE when the line has none. */
static inline const ManifestMember *
manifest_member(const ManifestMembers *m, char letter)
{
    assert(letter >= 'A' && letter <= 'z');
    return &m->letters[letter - 'A'];
}

static inline bool
manifest_has_member(const ManifestMembers *m, char letter)
{
    return manifest_member(m, letter)->type != MEMBER_NONE;
}

/* False as those of json_read.h: missing, of another type, out of range. */
MUST_CHECK bool manifest_member_u64(const ManifestMembers *m, char letter, uint64_t *out);
MUST_CHECK bool manifest_member_u32(const ManifestMembers *m, char letter, uint32_t *out);
MUST_CHECK bool manifest_member_text(const ManifestMembers *m, char letter, char *out, size_t cap);
MUST_CHECK bool
manifest_member_hex(const ManifestMembers *m, char letter, uint8_t *out, size_t len);

#endif
