#include "parse/object_name.h"
#include "test.h"

#include <string.h>

#define A20 "aaaaaaaaaaaaaaaaaaaa"

static const struct row {
    const char *name, *bucket, *wrong; /* NULL: it is taken */
} rows[] = {
    {"three letters", "abc", NULL},
    {"digits alone", "123", NULL},
    {"dots and dashes between", "a.b-c.d", NULL},
    {"a dash beside a dot, which S3 takes", "a-.b", NULL},
    {"63", A20 A20 A20 "abc", NULL},
    {"64", A20 A20 A20 "abcd", "3 to 63"},
    {"two", "ab", "3 to 63"},
    {"none", "", "3 to 63"},
    {"a capital", "Abc", "lowercase"},
    {"an underscore", "a_c", "lowercase"},
    {"a blank", "a c", "lowercase"},
    {"no ASCII", "a\xc3\xa4z", "lowercase"},
    {"a dollar", "b$d", "lowercase"},
    {"a dash at the beginning", "-ab", "begin and end"},
    {"a dot at the beginning", ".ab", "begin and end"},
    {"a dash at the end", "ab-", "begin and end"},
    {"a dot at the end", "ab.", "begin and end"},
    {"two dots", "a..b", "side by side"},
    {"an IP address", "192.168.5.4", "IP address"},
    {"what looks like one", "999.1.1.1", "IP address"},
    {"a dash in a number", "1-2.3.4.5", NULL},
    {"three numbers", "1.2.3", NULL},
    {"five numbers", "1.2.3.4.5", NULL},
    {"nearly one", "1.2.3.x4", NULL},
    {"an access point's alias", "my-ap-abcdefg12345-s3alias", NULL},
};

static void a_bucket_is_named_as_s3_takes_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *wrong = bucket_wrong(span_str(rows[i].bucket));
        if (!wrong != !rows[i].wrong || (wrong && !strstr(wrong, rows[i].wrong)))
            fail_msg("%s: \"%s\": %s", rows[i].name, rows[i].bucket, wrong ? wrong : "taken");
    }
}

static const struct {
    const char *text, *bucket, *prefix, *why;
} places[] = {
    {"s3://bucket", "bucket", "", NULL},
    {"s3://bucket/", "bucket", "", NULL},
    {"s3://bucket/a/b//", "bucket", "a/b", NULL},
    {"bucket/a", "bucket", "a", NULL},
    {"s3://", "", "", "\"\" is no bucket's name: write 3 to 63 characters"},
    {"s3:///a", "", "a", "\"\" is no bucket's name"},
    {"s3://Bucket/a", "Bucket", "a", "\"Bucket\" is no bucket's name: write lowercase"},
    {"s3://bucket/a b", "bucket", "a b", "\"a b\" is no prefix"},
    {"s3://bucket/../a", "bucket", "../a", "\"../a\" is no prefix"},
    {"s3://bucket//a", "bucket", "/a", "\"/a\" is no prefix"},
    {"s3://bucket/.hidden", "bucket", ".hidden", "is no prefix"},
};

static void a_place_is_taken_apart(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        struct span bucket, prefix;
        char why[PLACE_WHY_BYTES] = "";
        bool fine = bucket_place(span_str(places[i].text), &bucket, &prefix, why);
        if (fine != !places[i].why || (!fine && !strstr(why, places[i].why)) ||
            !span_is(bucket, places[i].bucket) || !span_is(prefix, places[i].prefix))
            fail_msg("%s: %s", places[i].text, why);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bucket_is_named_as_s3_takes_it),
        cmocka_unit_test(a_place_is_taken_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
