/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Signature Version 4 against the examples that Amazon publishes: those of the S3 manual
 * ("Authenticating Requests: Using the Authorization Header") and of the general test suite.
 */
#include <string.h>

#include "store/sigv4.h"
#include "tap.h"

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define WELCOME "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"
#define S3_HOST "examplebucket.s3.amazonaws.com"
#define S3_DATE "20130524T000000Z"
#define SUITE_DATE "20150830T123600Z"
#define UNRESERVED "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

typedef struct SignCase
{
    const char *label, *method, *path;
    SigV4Pair query[4], headers[6];
    const char *payload, *signed_names, *signature;
} SignCase;

/* Headers are given out of order on purpose: signing sorts them. */
static const SignCase s3_cases[] = {
    {
        "GET object, with a range",
        "GET",
        "/test.txt",
        {{NULL, NULL}},
        {{"x-amz-date", S3_DATE},
         {"range", "bytes=0-9"},
         {"x-amz-content-sha256", EMPTY},
         {"host", S3_HOST}},
        EMPTY,
        "host;range;x-amz-content-sha256;x-amz-date",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    },
    {
        "PUT object, a '$' in its name",
        "PUT",
        "/test%24file.text",
        {{NULL, NULL}},
        {{"date", "Fri, 24 May 2013 00:00:00 GMT"},
         {"host", S3_HOST},
         {"x-amz-storage-class", "REDUCED_REDUNDANCY"},
         {"x-amz-date", S3_DATE},
         {"x-amz-content-sha256", WELCOME}},
        WELCOME,
        "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    },
    {
        "a parameter without a value",
        "GET",
        "/",
        {{"lifecycle", ""}},
        {{"host", S3_HOST}, {"x-amz-content-sha256", EMPTY}, {"x-amz-date", S3_DATE}},
        EMPTY,
        "host;x-amz-content-sha256;x-amz-date",
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    },
    {
        "a listing",
        "GET",
        "/",
        {{"prefix", "J"}, {"max-keys", "2"}},
        {{"host", S3_HOST}, {"x-amz-date", S3_DATE}, {"x-amz-content-sha256", EMPTY}},
        EMPTY,
        "host;x-amz-content-sha256;x-amz-date",
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    },
};

static const SignCase suite_cases[] = {
    {
        "get-vanilla",
        "GET",
        "/",
        {{NULL, NULL}},
        {{"host", "example.amazonaws.com"}, {"x-amz-date", SUITE_DATE}},
        EMPTY,
        "host;x-amz-date",
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    },
    {
        "post-vanilla",
        "POST",
        "/",
        {{NULL, NULL}},
        {{"x-amz-date", SUITE_DATE}, {"host", "example.amazonaws.com"}},
        EMPTY,
        "host;x-amz-date",
        "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
    },
    {
        "get-vanilla-query-order-key-case",
        "GET",
        "/",
        {{"Param2", "value2"}, {"Param1", "value1"}},
        {{"host", "example.amazonaws.com"}, {"x-amz-date", SUITE_DATE}},
        EMPTY,
        "host;x-amz-date",
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    },
    {
        "get-vanilla-query-unreserved",
        "GET",
        "/",
        {{UNRESERVED, UNRESERVED}},
        {{"host", "example.amazonaws.com"}, {"x-amz-date", SUITE_DATE}},
        EMPTY,
        "host;x-amz-date",
        "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
    },
    {
        "get-utf8",
        "GET",
        "/%E1%88%B4",
        {{NULL, NULL}},
        {{"host", "example.amazonaws.com"}, {"x-amz-date", SUITE_DATE}},
        EMPTY,
        "host;x-amz-date",
        "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
    },
    {
        "get-header-value-trim",
        "GET",
        "/",
        {{NULL, NULL}},
        {{"host", "example.amazonaws.com"},
         {"my-header1", " value1"},
         {"my-header2", " \"a   b   c\""},
         {"x-amz-date", SUITE_DATE}},
        EMPTY,
        "host;my-header1;my-header2;x-amz-date",
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    },
};

static size_t
pair_count(const SigV4Pair *pairs, size_t max)
{
    size_t n = 0;

    while (n < max && pairs[n].name != NULL)
        n++;
    return n;
}

static void
test_sign(const SignCase *cases, size_t count, const Credentials *credentials, const char *service)
{
    for (size_t i = 0; i < count; i++)
    {
        const SignCase *c = &cases[i];
        AUTO(strbuf_reset) StrBuf query;
        AUTO(strbuf_reset) StrBuf got;
        char want[512];
        Error err = {.kind = ERROR_NONE};

        strbuf_init(&query, 4096);
        strbuf_init(&got, 4096);
        if (!ok(sigv4_encode_query(
                    &query, c->query, pair_count(c->query, ARRAY_COUNT(c->query)), &err) == 0,
                "%s: query", c->label))
            continue;

        SigV4Request request = {
            .method = c->method,
            .path = c->path,
            .query = strbuf_text(&query),
            .headers = c->headers,
            .header_count = pair_count(c->headers, ARRAY_COUNT(c->headers)),
            .payload_sha256 = c->payload,
            .region = "us-east-1",
            .service = service,
            .date = strcmp(service, "s3") == 0 ? S3_DATE : SUITE_DATE,
        };

        (void) snprintf(
            want, sizeof want,
            "AWS4-HMAC-SHA256 Credential=%s/%.8s/us-east-1/%s/aws4_request, SignedHeaders=%s, "
            "Signature=%s",
            credentials->access_key, request.date, service, c->signed_names, c->signature);
        if (!ok(sigv4_sign(&request, credentials, &got, &err) == 0 &&
                    strcmp(strbuf_text(&got), want) == 0,
                "%s", c->label))
            diag("got  %s\n# want %s", strbuf_text(&got), want);
    }
}

static const struct
{
    const char *label, *text;
    bool keep_slash;
    const char *want;
} encode_cases[] = {
    {"nothing", "", false, ""},
    {"unreserved bytes stay", UNRESERVED, false, UNRESERVED},
    {"a slash of a path", "a/b//c", true, "a/b//c"},
    {"a slash of a value", "a/b", false, "a%2Fb"},
    {"blank, plus, percent", " +%", false, "%20%2B%25"},
    {"upper-case digits", "\xff\x0a", false, "%FF%0A"},
    {"dot segments stay", "./../x", true, "./../x"},
    {"equals and ampersand", "=&", false, "%3D%26"},
};

static void
test_encode(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(encode_cases); i++)
    {
        AUTO(strbuf_reset) StrBuf got;

        strbuf_init(&got, 4096);
        sigv4_encode(&got, encode_cases[i].text, encode_cases[i].keep_slash);
        if (!ok(strcmp(strbuf_text(&got), encode_cases[i].want) == 0, "encode: %s",
                encode_cases[i].label))
            diag("got %s", strbuf_text(&got));
    }
}

static const struct
{
    const char *label;
    SigV4Pair query[5];
    const char *want;
} query_cases[] = {
    {"empty", {{NULL, NULL}}, ""},
    {"by name", {{"b", "1"}, {"a", "2"}}, "a=2&b=1"},
    {"same name: by value", {{"a", "2"}, {"a", "1"}}, "a=1&a=2"},
    {"a name that begins another", {{"ab", "1"}, {"a", "2"}, {"a-b", "3"}}, "a=2&a-b=3&ab=1"},
    {"a byte below '=' behind a name", {{"a.", "1"}, {"a", "2"}}, "a=2&a.=1"},
    {"encoded before it is sorted", {{"a~", "1"}, {"a b", "2"}}, "a%20b=2&a~=1"},
    {"no value", {{"delete", ""}}, "delete="},
};

static void
test_query(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(query_cases); i++)
    {
        AUTO(strbuf_reset) StrBuf got;
        Error err = {.kind = ERROR_NONE};
        const SigV4Pair *query = query_cases[i].query;
        size_t count = pair_count(query, ARRAY_COUNT(query_cases[i].query));

        strbuf_init(&got, 4096);
        if (!ok(sigv4_encode_query(&got, query, count, &err) == 0 &&
                    strcmp(strbuf_text(&got), query_cases[i].want) == 0,
                "query: %s", query_cases[i].label))
            diag("got %s", strbuf_text(&got));
    }
}

static void
test_limits(const Credentials *credentials)
{
    AUTO(strbuf_reset) StrBuf got;
    Error err = {.kind = ERROR_NONE};
    char date[SIGV4_DATE_SIZE];
    SigV4Pair header = {"host", "h"};
    SigV4Request request = {
        .method = "GET",
        .path = "/",
        .query = "",
        .headers = &header,
        .header_count = 1,
        .payload_sha256 = EMPTY,
        .region = "r",
        .service = "s3",
        .date = S3_DATE,
    };

    strbuf_init(&got, 20);
    ok(sigv4_sign(&request, credentials, &got, &err) < 0 && err.kind == ERROR_CORRUPT,
       "an authorization that does not fit is an error");
    ok(strcmp(sigv4_format_date(INT64_C(1369353600) * 1000000 + 999999, date), S3_DATE) == 0,
       "date: whole seconds, UTC");
}

int
main(void)
{
    Credentials s3 = {
        .access_key = "AKIAIOSFODNN7EXAMPLE",
        .secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    };
    Credentials suite = {
        .access_key = "AKIDEXAMPLE",
        .secret_key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    };

    test_encode();
    test_query();
    test_sign(s3_cases, ARRAY_COUNT(s3_cases), &s3, "s3");
    test_sign(suite_cases, ARRAY_COUNT(suite_cases), &suite, "service");
    test_limits(&s3);
    return done_testing();
}
