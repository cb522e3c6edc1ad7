/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Labels: read strictly, written as FORMAT.md says.
 */
#include "repo/label.h"

#include <stdio.h>
#include <string.h>

#include "tap.h"

#define KEY "wal/00000001/00000000/000000010000000000000001"
#define SIZE "0000000001000000"
#define SHA "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define ID "0123456789abcdef"
#define ID8 ID "," ID "," ID "," ID "," ID "," ID "," ID "," ID

static const struct
{
    const char *label, *text;
    bool encrypted;
    int rc;
} cases[] = {
    {"plain", "1 " KEY " " SIZE " " SHA, false, 0},
    {"one recipient", "1 " KEY " " SIZE " " SHA " " ID, true, 0},
    {"two recipients", "1 " KEY " " SIZE " " SHA " " ID "," ID, true, 0},
    {"16 recipients", "1 " KEY " " SIZE " " SHA " " ID8 "," ID8, true, 0},
    {"passphrase", "1 " KEY " " SIZE " " SHA " scrypt", true, -1},
    {"key at the root", "1 a " SIZE " " SHA, false, 0},
    {"largest size", "1 a ffffffffffffffff " SHA, false, 0},
    {"empty", "", false, -1},
    {"version only", "1", false, -1},
    {"version 2", "2 " KEY " " SIZE " " SHA, false, 0},
    {"version 2, encrypted", "2 " KEY " " SIZE " " SHA " " ID "," ID, true, 0},
    {"version 2, no key ids", "2 " KEY " " SIZE " " SHA, true, -1},
    {"version 2 only", "2", false, -1},
    {"version 0", "0 " KEY " " SIZE " " SHA, false, -1},
    {"version 3", "3 " KEY " " SIZE " " SHA, false, -1},
    {"version 02", "02 " KEY " " SIZE " " SHA, false, -1},
    {"no version", KEY " " SIZE " " SHA, false, -1},
    {"version 10", "10 " KEY " " SIZE " " SHA, false, -1},
    {"no digest", "1 " KEY " " SIZE, false, -1},
    {"two blanks", "1  " KEY " " SIZE " " SHA, false, -1},
    {"blank in front", " 1 " KEY " " SIZE " " SHA, false, -1},
    {"blank at the end", "1 " KEY " " SIZE " " SHA " ", false, -1},
    {"line feed at the end", "1 " KEY " " SIZE " " SHA "\n", false, -1},
    {"key ids on a plain object", "1 " KEY " " SIZE " " SHA " " ID, false, -1},
    {"no key ids on an encrypted one", "1 " KEY " " SIZE " " SHA, true, -1},
    {"empty key ids", "1 " KEY " " SIZE " " SHA " ", true, -1},
    {"short key id", "1 " KEY " " SIZE " " SHA " 0123456789abcde", true, -1},
    {"long key id", "1 " KEY " " SIZE " " SHA " " ID "0", true, -1},
    {"comma at the end", "1 " KEY " " SIZE " " SHA " " ID ",", true, -1},
    {"17 recipients", "1 " KEY " " SIZE " " SHA " " ID8 "," ID8 "," ID, true, -1},
    {"field behind the key ids", "1 " KEY " " SIZE " " SHA " " ID " x", true, -1},
    {"upper-case digest",
     "1 " KEY " " SIZE " "
     "BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
     false, -1},
    {"short digest", "1 " KEY " " SIZE " ba78", false, -1},
    {"long digest", "1 " KEY " " SIZE " " SHA "00", false, -1},
    {"short size", "1 " KEY " 1000000 " SHA, false, -1},
    {"size with a sign", "1 " KEY " +000000001000000 " SHA, false, -1},
    {"key with a blank line", "1 a\nb " SIZE " " SHA, false, -1},
    {"key with an empty component", "1 a//b " SIZE " " SHA, false, -1},
    {"key from the root", "1 /a " SIZE " " SHA, false, -1},
    {"folder", "1 a/ " SIZE " " SHA, false, -1},
};

static void
test_texts(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        ObjectLabel label = {0};
        Error err = {0};
        char buf[OBJECT_LABEL_MAX];
        size_t len = strlen(cases[i].text);
        int rc = label_parse(cases[i].text, len, cases[i].encrypted, &label, &err);

        ok(rc == cases[i].rc &&
               (rc < 0 ? err.kind == ERROR_CORRUPT
                       : label.version == cases[i].text[0] - '0' &&
                             strcmp(label_format(&label, buf), cases[i].text) == 0 &&
                             label_text_len(&label) == len),
           "label: %s", cases[i].label);
    }

    Error err = {0};
    ObjectLabel label;
    static const char nul[] = "1 a " SIZE "\0" SHA;

    ok(label_parse(nul, sizeof nul - 1, false, &label, &err) < 0, "label: NUL within");

    char longest[2000];

    memset(longest, 'a', sizeof longest);
    ok(label_parse(longest, sizeof longest, false, &label, &err) < 0, "label: 2000 bytes");

    /* the key's own bound, at it and one beyond */
    for (size_t key_len = LAYOUT_KEY_MAX - 1; key_len <= LAYOUT_KEY_MAX; key_len++)
    {
        int len = snprintf(
            longest, sizeof longest, "1 %.*s " SIZE " " SHA, (int) key_len,
            "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
            "kkkkkk"
            "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk");

        ok((label_parse(longest, (size_t) len, false, &label, &err) == 0) ==
               (key_len < LAYOUT_KEY_MAX),
           "label: key of %zu bytes", key_len);
    }
}

static void
test_frames(void)
{
    ObjectLabel label = {0};
    ObjectLabel back = {0};
    Error err = {0};
    uint8_t frame[LABEL_FRAME_MAX + 10];
    char again[OBJECT_LABEL_MAX];
    static const char text[] = "1 " KEY " " SIZE " " SHA;
    size_t frame_bytes = 0;
    bool good = label_parse(text, sizeof text - 1, false, &label, &err) == 0;
    size_t len = label_frame_format(&label, frame);

    ok(good && len == 18 + sizeof text - 1 && len == label_frame_bytes(&label) &&
           memcmp(frame, "\x50\x2A\x4D\x18", 4) == 0 && frame[4] == len - 8 && frame[5] == 0 &&
           memcmp(frame + 8, "walstream 1 wal/", 16) == 0,
       "frame: bytes as in FORMAT.md");
    for (size_t n = 0; n < len; n++)
        good = label_frame_parse(frame, n, &back, &frame_bytes, &err) == 0 && good;
    ok(good, "frame: asks for more at every length");
    memset(frame + len, 'x', 10);
    ok(label_frame_parse(frame, len + 10, &back, &frame_bytes, &err) == 1 && frame_bytes == len &&
           strcmp(label_format(&back, again), text) == 0,
       "frame: read, and what follows is left");

    /* none of its bytes can change unseen but the key's, size's and digest's own */
    for (size_t at = 0; at < 20; at++)
    {
        frame[at] ^= 0x80;
        good = label_frame_parse(frame, len, &back, &frame_bytes, &err) != 1 && good;
        frame[at] ^= 0x80;
    }
    ok(good, "frame: damage in front is seen");
    memset(frame + 4, 0xFF, 4);
    ok(label_frame_parse(frame, sizeof frame, &back, &frame_bytes, &err) < 0 &&
           err.kind == ERROR_CORRUPT,
       "frame: absurd length");
    memset(frame + 4, 0, 4);
    ok(label_frame_parse(frame, sizeof frame, &back, &frame_bytes, &err) < 0 &&
           err.kind == ERROR_CORRUPT,
       "frame: no length");
}

int
main(void)
{
    test_texts();
    test_frames();
    return done_testing();
}
