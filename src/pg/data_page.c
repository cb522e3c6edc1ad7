/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Pages; see data_page.h. The checksum is computed in 32 lanes, each over every 32nd word of the
 * page. They are independent of each other, so that a processor can do them side by side, with AVX2
 * where it is found at run time.
 */
#include "pg/data_page.h"

#include <string.h>

#include "common/bytes.h"

#define DATA_PAGE_CHECKSUM_AT 8
#define DATA_PAGE_UPPER_AT 14
#define DATA_PAGE_LANES 32
#define DATA_PAGE_ROW_BYTES (DATA_PAGE_LANES * 4)
#define DATA_PAGE_ROWS (DATA_PAGE_BYTES / DATA_PAGE_ROW_BYTES)
#define DATA_PAGE_PRIME 16777619u /* of FNV-1a */

Lsn
data_page_lsn(const void *page)
{
    const uint8_t *p = page;

    return (Lsn) get_u32le(p) << 32 | get_u32le(p + 4);
}

bool
data_page_is_new(const void *page)
{
    return get_u16le((const uint8_t *) page + DATA_PAGE_UPPER_AT) == 0;
}

bool
data_page_is_zero(const void *page)
{
    const uint8_t *p = page;

    return p[0] == 0 && memcmp(p, p + 1, DATA_PAGE_BYTES - 1) == 0;
}

uint16_t
data_page_stored_checksum(const void *page)
{
    return get_u16le((const uint8_t *) page + DATA_PAGE_CHECKSUM_AT);
}

/* ---- checksum ---- */

/* What the lanes begin with: any 32 numbers would do, these are PostgreSQL's. */
static const uint32_t data_page_seeds[DATA_PAGE_LANES] = {
    0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
    0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
    0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
    0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
};

static inline uint32_t
data_page_mix_word(uint32_t lane, uint32_t word)
{
    uint32_t mixed = lane ^ word;

    return mixed * DATA_PAGE_PRIME ^ mixed >> 17;
}

/*
 * Inlined into both functions below, each of which is compiled for its own processor; the loops
 * over the lanes become a few vector instructions. Words are as in the memory of a little-endian
 * machine.
 */
__attribute__((always_inline)) static inline uint32_t
data_page_mix(const uint8_t *page)
{
    uint32_t lanes[DATA_PAGE_LANES];
    uint32_t words[DATA_PAGE_LANES];
    uint32_t folded = 0;

    memcpy(lanes, data_page_seeds, sizeof lanes);
    memcpy(words, page, sizeof words);
    /* the checksum's own place, the lower half of a word, counts as zero */
    words[DATA_PAGE_CHECKSUM_AT / 4] &= 0xFFFF0000u;
    for (size_t i = 0; i < DATA_PAGE_LANES; i++)
        lanes[i] = data_page_mix_word(lanes[i], words[i]);
    for (size_t row = 1; row < DATA_PAGE_ROWS; row++)
    {
        memcpy(words, page + row * DATA_PAGE_ROW_BYTES, sizeof words);
        for (size_t i = 0; i < DATA_PAGE_LANES; i++)
            lanes[i] = data_page_mix_word(lanes[i], words[i]);
    }
    /* two rows of zeros, so that the last words reach all bits */
    for (size_t i = 0; i < DATA_PAGE_LANES; i++)
        folded ^= data_page_mix_word(data_page_mix_word(lanes[i], 0), 0);
    return folded;
}

static uint32_t
data_page_mix_portable(const uint8_t *page)
{
    return data_page_mix(page);
}

#if defined(__x86_64__)

__attribute__((target("avx2"))) static uint32_t
data_page_mix_avx2(const uint8_t *page)
{
    return data_page_mix(page);
}

static uint32_t
data_page_mix_best(const uint8_t *page)
{
    return __builtin_cpu_supports("avx2") ? data_page_mix_avx2(page) : data_page_mix_portable(page);
}

#else

static uint32_t
data_page_mix_best(const uint8_t *page)
{
    return data_page_mix_portable(page);
}

#endif

uint16_t
data_page_checksum(const void *page, uint32_t block)
{
    /* never 0, which stands for a page without a checksum */
    return (uint16_t) ((data_page_mix_best(page) ^ block) % 65535 + 1);
}

bool
data_page_good(const void *page, uint32_t block, Lsn start_lsn)
{
    if (data_page_is_new(page))
        return data_page_is_zero(page);
    if (start_lsn != LSN_INVALID && data_page_lsn(page) >= start_lsn)
        return true;
    return data_page_stored_checksum(page) == data_page_checksum(page, block);
}
