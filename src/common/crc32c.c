/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * CRC-32C: eight tables, eight bytes a step ("slicing by 8"), or SSE 4.2 found at run time.
 */
#include "common/crc32c.h"

#include <pthread.h>
#include <string.h>

#include "common/bytes.h"
#include "common/compiler.h"

#define CRC32C_POLYNOMIAL 0x82F63B78u /* reflected */

static uint32_t crc32c_tables[8][256];
static pthread_once_t crc32c_tables_once = PTHREAD_ONCE_INIT;

/* crc32c_tables[k][b]: what byte b does to the CRC when k more bytes follow it in the step. */
static void
crc32c_make_tables(void)
{
    for (uint32_t b = 0; b < 256; b++)
    {
        uint32_t crc = b;

        for (int bit = 0; bit < 8; bit++)
            crc = (crc & 1) != 0 ? crc >> 1 ^ CRC32C_POLYNOMIAL : crc >> 1;
        crc32c_tables[0][b] = crc;
    }
    for (size_t k = 1; k < 8; k++)
        for (size_t b = 0; b < 256; b++)
        {
            uint32_t before = crc32c_tables[k - 1][b];

            crc32c_tables[k][b] = before >> 8 ^ crc32c_tables[0][before & 0xFF];
        }
}

uint32_t
crc32c_portable(uint32_t crc, const void *data, size_t len)
{
    const uint8_t *p = data;

    (void) pthread_once(&crc32c_tables_once, crc32c_make_tables);
    crc = ~crc;
    for (; len >= 8; p += 8, len -= 8)
    {
        uint32_t low = get_u32le(p) ^ crc;
        uint32_t high = get_u32le(p + 4);

        crc = crc32c_tables[7][low & 0xFF] ^ crc32c_tables[6][low >> 8 & 0xFF] ^
              crc32c_tables[5][low >> 16 & 0xFF] ^ crc32c_tables[4][low >> 24] ^
              crc32c_tables[3][high & 0xFF] ^ crc32c_tables[2][high >> 8 & 0xFF] ^
              crc32c_tables[1][high >> 16 & 0xFF] ^ crc32c_tables[0][high >> 24];
    }
    for (; len > 0; p++, len--)
        crc = crc >> 8 ^ crc32c_tables[0][(crc ^ *p) & 0xFF];
    return ~crc;
}

#if defined(__x86_64__)

#include <nmmintrin.h>

__attribute__((target("sse4.2"))) static uint32_t
crc32c_sse42(uint32_t crc, const void *data, size_t len)
{
    const uint8_t *p = data;
    uint64_t state = ~crc;

    for (; len >= 8; p += 8, len -= 8)
        state = _mm_crc32_u64(state, get_u64le(p));

    uint32_t last = (uint32_t) state;

    for (; len > 0; p++, len--)
        last = _mm_crc32_u8(last, *p);
    return ~last;
}

uint32_t
crc32c(uint32_t crc, const void *data, size_t len)
{
    if (__builtin_cpu_supports("sse4.2"))
        return crc32c_sse42(crc, data, len);
    return crc32c_portable(crc, data, len);
}

#else

uint32_t
crc32c(uint32_t crc, const void *data, size_t len)
{
    return crc32c_portable(crc, data, len);
}

#endif

/* ---- putting CRCs together ---- */

/* [k][n]: x^(8 * n * 256^k), what n * 256^k bytes of zeros do: a product for each digit of a
 * length. */
static uint32_t crc32c_powers[8][256];
static pthread_once_t crc32c_powers_once = PTHREAD_ONCE_INIT;

/* The product of two polynomials; the highest bit is x^0. No branches: the bits are random. */
static uint32_t
crc32c_multiply(uint32_t a, uint32_t b)
{
    uint32_t product = 0;

    for (; a != 0; a <<= 1)
    {
        product ^= b & (0u - (a >> 31));
        b = b >> 1 ^ (CRC32C_POLYNOMIAL & (0u - (b & 1)));
    }
    return product;
}

static void
crc32c_make_powers(void)
{
    uint32_t step = 1u << (31 - 8);

    for (size_t k = 0; k < ARRAY_COUNT(crc32c_powers); k++)
    {
        crc32c_powers[k][0] = 1u << 31;
        for (size_t n = 1; n < ARRAY_COUNT(crc32c_powers[k]); n++)
            crc32c_powers[k][n] = crc32c_multiply(crc32c_powers[k][n - 1], step);
        step = crc32c_multiply(crc32c_powers[k][ARRAY_COUNT(crc32c_powers[k]) - 1], step);
    }
}

/* The remainder when that many zero bytes follow. */
static uint32_t
crc32c_shift(uint32_t remainder, uint64_t zeros)
{
    (void) pthread_once(&crc32c_powers_once, crc32c_make_powers);
    for (size_t k = 0; zeros != 0 && remainder != 0; k++, zeros >>= 8)
        if ((zeros & 0xff) != 0)
            remainder = crc32c_multiply(crc32c_powers[k][zeros & 0xff], remainder);
    return remainder;
}

uint32_t
crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t len_b)
{
    return crc32c_shift(crc_a, len_b) ^ crc_b;
}

uint32_t
crc32c_piece(const void *data, size_t len, uint64_t bytes_behind)
{
    return crc32c_shift(~crc32c(UINT32_MAX, data, len), bytes_behind);
}

uint32_t
crc32c_whole(uint32_t pieces, uint64_t total_bytes)
{
    return ~(pieces ^ crc32c_shift(UINT32_MAX, total_bytes));
}
