/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The text of an age header: version line, stanzas, MAC line. Reading takes no memory of its own:
 * a stanza points into the text, which must outlive it.
 */
#ifndef WALSTREAM_AGE_HEADER_H
#define WALSTREAM_AGE_HEADER_H

#include "common/error.h"

#define AGE_INTRO "age-encryption.org/v1\n"
#define AGE_INTRO_BYTES (sizeof AGE_INTRO - 1)
#define AGE_MAC_BYTES 32
#define AGE_MAC_CHARS 43
#define AGE_STANZA_BODY_BYTES 32 /* of X25519 and scrypt stanzas: a file key and its tag */

typedef struct AgeText
{
    const char *data; /* not terminated */
    size_t len;
} AgeText;

typedef struct AgeStanza
{
    AgeText args;      /* all arguments, one blank between them; the first is the type */
    AgeText body;      /* base64 lines, each with its line feed */
    size_t body_bytes; /* decoded */
} AgeStanza;

typedef struct AgeHeader
{
    const char *text;
    size_t len;          /* with the MAC line */
    size_t covered_len;  /* what the MAC is computed over: through "---" */
    size_t stanzas_end;  /* where the MAC line begins */
    size_t stanza_count; /* at least 1 */
    uint8_t mac[AGE_MAC_BYTES];
} AgeHeader;

/*
 * Checks the whole syntax. text is a complete header, whose last line is the first one that begins
 * with "---". CORRUPT tells what is wrong.
 */
MUST_CHECK int age_header_parse(const char *text, size_t len, AgeHeader *out, Error *err);

/* Stanzas in order: *at is 0 at first; false behind the last one. */
bool age_header_next(const AgeHeader *header, size_t *at, AgeStanza *stanza);

/* The stanza that begins at *at, which moves behind it. CORRUPT when it does not end within len. */
MUST_CHECK int
age_stanza_parse(const char *text, size_t len, size_t *at, AgeStanza *out, Error *err);

/* The line that begins at text: its arguments behind "-> ". CORRUPT when there is no such line. */
MUST_CHECK int age_stanza_parse_args(const char *text, size_t len, AgeText *args, Error *err);

/* The i-th argument, counted from 0 (the type); false if there are fewer. */
bool age_stanza_arg(AgeText args, size_t i, AgeText *arg);
size_t age_stanza_arg_count(AgeText args);
bool age_stanza_is(AgeText args, const char *type);

/* CORRUPT unless the body has exactly 32 bytes, which go to out. */
MUST_CHECK int
age_stanza_body(const AgeStanza *stanza, uint8_t out[AGE_STANZA_BODY_BYTES], Error *err);

#endif
