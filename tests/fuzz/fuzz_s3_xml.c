/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * XML answers of a store: any bytes give an answer whose parts are all there and bounded, or a
 * CORRUPT error and nothing.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/s3_xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
fuzz_check(bool good, const char *what)
{
    if (good)
        return;
    (void) fprintf(stderr, "broken: %s\n", what);
    abort();
}

static bool
fuzz_one_line(const char *text, size_t size)
{
    size_t len = strnlen(text, size);

    for (size_t i = 0; i < len; i++)
        if ((unsigned char) text[i] < ' ' || text[i] == 0x7f)
            return false;
    return len < size;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(s3_xml_reset) S3XmlAnswer answer;
    Error err = {.kind = ERROR_NONE};
    int rc = s3_xml_parse(data, size, &answer, &err);

    if (rc < 0)
    {
        fuzz_check(err.kind == ERROR_CORRUPT, "the kind is CORRUPT");
        fuzz_check(
            answer.entries == NULL && answer.deleted == NULL && answer.next_token == NULL,
            "nothing is handed out on failure");
        return 0;
    }
    fuzz_check(answer.entry_count <= S3_XML_MAX_ENTRIES, "entries are bounded");
    for (size_t i = 0; i < answer.entry_count; i++)
        fuzz_check(
            answer.entries[i].key != NULL && strlen(answer.entries[i].key) <= size,
            "every entry has a key");
    fuzz_check(answer.deleted_count <= S3_XML_MAX_ENTRIES, "deletions are bounded");
    for (size_t i = 0; i < answer.deleted_count; i++)
    {
        const S3XmlDeleted *deleted = &answer.deleted[i];

        fuzz_check(deleted->key != NULL, "every deletion has a key");
        fuzz_check(
            fuzz_one_line(deleted->code, sizeof deleted->code) &&
                fuzz_one_line(deleted->message, sizeof deleted->message),
            "texts are one line");
    }
    fuzz_check(
        fuzz_one_line(answer.error.code, sizeof answer.error.code) &&
            fuzz_one_line(answer.error.message, sizeof answer.error.message) &&
            fuzz_one_line(answer.error.region, sizeof answer.error.region) &&
            fuzz_one_line(answer.error.request_id, sizeof answer.error.request_id),
        "texts are one line");
    fuzz_check(
        answer.kind == S3_XML_LIST || (answer.entry_count == 0 && answer.next_token == NULL),
        "only a list has entries");
    fuzz_check(answer.kind == S3_XML_DELETE || answer.deleted_count == 0, "only a result has keys");
    return 0;
}
