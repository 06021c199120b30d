#include "base/mem.h"
#include "s3_server.h"
#include "store/objects.h"
#include "store/s3_priv.h"
#include "test.h"
#include "torture.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* The same promises for a folder and for a bucket of a real server (tests/lib/s3_server). */
static struct store {
    const char *name;
    struct objects *o;
} now;
static char folder[] = "/tmp/perdure-objects-XXXXXX";

static const char *server_url;
static char server_bucket[200];

static const char *server_env(void *ctx, const char *name)
{
    static const char *const keys[][2] = {{"MINIO_ACCESS_KEY", "perdure-test"},
                                          {"MINIO_SECRET_KEY", "perdure-secret"}};
    if (strcmp(name, "MINIO_ENDPOINT") == 0)
        return server_url;
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (strcmp(name, keys[i][0]) == 0)
            return keys[i][1];
    return NULL;
}

static const char *no_env(void *ctx, const char *name)
{
    return NULL;
}

static struct objects *opened(const char *where, conf_env_fn *env)
{
    char why[400] = "";
    struct objects *o = NULL;
    if (objects_open(where, env, NULL, &o, why, sizeof(why)))
        fail_msg("%s: %s", where, why);
    return o;
}

static void fine(pd_err e)
{
    if (e)
        fail_msg("%s: %s: %s", now.name, pd_err_name(e), objects_why());
}

static void put(const char *key, const char *text)
{
    fine(objects_put(now.o, key, span_str(text), OBJECT_ALWAYS, NULL, NULL));
}

static void holds(const char *key, struct span bytes)
{
    struct buf b;
    buf_init(&b, 0);
    fine(objects_get(now.o, key, &b, NULL));
    assert_int_equal(buf_size(&b), bytes.n);
    assert_true(span_eq(buf_span(&b), bytes));
    buf_done(&b);
}

static void is_gone(const char *key)
{
    struct buf b;
    buf_init(&b, 0);
    fine(buf_puts(&b, "before"));
    assert_int_equal(objects_get(now.o, key, &b, NULL), PD_NOTFOUND);
    assert_true(span_is(buf_span(&b), "before"));
    buf_done(&b);
}

static pd_err add_key(void *ctx, const struct object_info *i)
{
    return buf_printf(ctx, "%s:%llu ", i->key, (unsigned long long)i->bytes);
}

static void lists(const char *prefix, const char *want)
{
    struct buf b;
    buf_init(&b, 0);
    fine(buf_puts(&b, ""));
    fine(objects_list(now.o, prefix, add_key, &b));
    fine(buf_add(&b, span_of("", 1)));
    assert_string_equal(buf_span(&b).p, want);
    buf_done(&b);
}

/* ---- promises of both -------------------------------------------------------------------- */

static void what_was_put_comes_back(void **state)
{
    static const size_t sizes[] = {0, 1, 4096, 1 << 20, (4 << 20) + 3};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char *p = malloc(sizes[i] + 1), etag[OBJECT_ETAG_BYTES] = "", again[OBJECT_ETAG_BYTES] = "";
        for (size_t k = 0; k < sizes[i]; k++)
            p[k] = (char)(k * 31 + (k >> 8));
        fine(objects_put(now.o, "back/object=1.bin", span_of(p, sizes[i]), OBJECT_ALWAYS, NULL, etag));
        holds("back/object=1.bin", span_of(p, sizes[i]));
        struct buf b;
        buf_init(&b, 0);
        fine(buf_puts(&b, "before")); /* which is no part of it */
        fine(objects_get(now.o, "back/object=1.bin", &b, again));
        assert_true(span_eq(span_from(buf_span(&b), strlen("before")), span_of(p, sizes[i])));
        buf_done(&b);
        assert_true(etag[0]);
        assert_string_equal(etag, again);
        free(p);
    }
}

/* In three parts, where it is a bucket. */
static void a_large_one_comes_back(void **state)
{
    const size_t n = 2 * OBJECT_PART_BYTES + 5;
    char *p = malloc(n), etag[OBJECT_ETAG_BYTES], second[OBJECT_ETAG_BYTES];
    for (size_t k = 0; k < n; k++)
        p[k] = (char)(k * 7 + (k >> 12));
    fine(objects_put(now.o, "large", span_of(p, n), OBJECT_IF_NEW, NULL, etag));
    holds("large", span_of(p, n));
    assert_int_equal(objects_put(now.o, "large", span_of(p, n), OBJECT_IF_NEW, NULL, NULL), PD_EXISTS);
    p[n - 1] ^= 1;
    fine(objects_put(now.o, "large", span_of(p, n), OBJECT_IF_SAME, etag, second));
    assert_int_equal(objects_put(now.o, "large", span_of(p, n - 1), OBJECT_IF_SAME, etag, NULL), PD_EXISTS);
    holds("large", span_of(p, n));
    fine(objects_delete(now.o, "large"));
    free(p);
}

static void what_is_not_there_is_not_found(void **state)
{
    is_gone("missing");
    is_gone("missing/deep/er");
    put("gone/a", "x");
    is_gone("gone");
    fine(objects_delete(now.o, "gone/a"));
    is_gone("gone/a");
    fine(objects_delete(now.o, "gone/a"));
    fine(objects_delete(now.o, "never/was"));
}

static void a_new_one_is_written_once(void **state)
{
    fine(objects_put(now.o, "new/one", SPAN_LIT("first"), OBJECT_IF_NEW, NULL, NULL));
    assert_int_equal(objects_put(now.o, "new/one", SPAN_LIT("second"), OBJECT_IF_NEW, NULL, NULL), PD_EXISTS);
    assert_int_equal(objects_put(now.o, "new/one", SPAN_LIT("first"), OBJECT_IF_NEW, NULL, NULL), PD_EXISTS);
    holds("new/one", SPAN_LIT("first"));
    fine(objects_delete(now.o, "new/one"));
    fine(objects_put(now.o, "new/one", SPAN_LIT("third"), OBJECT_IF_NEW, NULL, NULL));
    holds("new/one", SPAN_LIT("third"));
}

static void one_that_changed_is_not_replaced(void **state)
{
    char first[OBJECT_ETAG_BYTES], second[OBJECT_ETAG_BYTES], third[OBJECT_ETAG_BYTES];
    fine(objects_put(now.o, "same/latest", SPAN_LIT("1"), OBJECT_ALWAYS, NULL, first));
    fine(objects_put(now.o, "same/latest", SPAN_LIT("2"), OBJECT_IF_SAME, first, second));
    assert_string_not_equal(first, second);
    assert_int_equal(objects_put(now.o, "same/latest", SPAN_LIT("3"), OBJECT_IF_SAME, first, third), PD_EXISTS);
    holds("same/latest", SPAN_LIT("2"));
    fine(objects_put(now.o, "same/latest", SPAN_LIT("3"), OBJECT_IF_SAME, second, third));
    fine(objects_delete(now.o, "same/latest"));
    assert_int_equal(objects_put(now.o, "same/latest", SPAN_LIT("4"), OBJECT_IF_SAME, third, first), PD_EXISTS);
    is_gone("same/latest");
}

static void a_list_is_in_order_of_its_keys(void **state)
{
    static const char *const keys[] = {"l/b/z", "l/a.b", "l/a/x", "l/a-b", "l/a0", "l/b/a", "l/B", "l/a/x.y", "m"};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        put(keys[i], "12345");
    put("l/a/x", "123");
    lists("l/", "l/B:5 l/a-b:5 l/a.b:5 l/a/x:3 l/a/x.y:5 l/a0:5 l/b/a:5 l/b/z:5 ");
    lists("l/a", "l/a-b:5 l/a.b:5 l/a/x:3 l/a/x.y:5 l/a0:5 ");
    lists("l/a/", "l/a/x:3 l/a/x.y:5 ");
    lists("l/a/x", "l/a/x:3 l/a/x.y:5 ");
    lists("l/b/z", "l/b/z:5 ");
    lists("l/c", "");
    lists("nothing/here", "");
}

static pd_err stop_at_second(void *ctx, const struct object_info *i)
{
    unsigned *seen = ctx;
    assert_true(i->modified_ms > 1700000000000ull);
    assert_true(i->etag[0]);
    return ++*seen == 2 ? PD_CUT : PD_OK;
}

static void a_list_ends_when_told_to(void **state)
{
    unsigned seen = 0;
    put("stop/a", "x");
    put("stop/b", "x");
    put("stop/c", "x");
    assert_int_equal(objects_list(now.o, "stop/", stop_at_second, &seen), PD_CUT);
    assert_int_equal(seen, 2);
}

static void a_key_that_is_none_is_refused(void **state)
{
    static const char *const keys[] = {
        "",    "/a",   "a/",  "a//b", ".",       "..",     "../a",  "a/../b", "a/./b", "a/..",
        "a b", "a\\b", "a\n", "a%2e", ".hidden", ".new/x", ".lock", "ä",      "a?b",
    };
    char longest[OBJECT_KEY_MAX + 2], name[OBJECT_NAME_MAX + 2], deep[2 * OBJECT_PARTS_MAX + 2] = "";
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        struct buf b;
        buf_init(&b, 0);
        assert_int_equal(objects_put(now.o, keys[i], SPAN_LIT("x"), OBJECT_ALWAYS, NULL, NULL), PD_INVALID);
        assert_int_equal(objects_get(now.o, keys[i], &b, NULL), PD_INVALID);
        assert_int_equal(objects_delete(now.o, keys[i]), PD_INVALID);
        buf_done(&b);
    }
    memset(longest, 'a', sizeof(longest));
    for (size_t i = 200; i < sizeof(longest); i += 200)
        longest[i] = '/';
    longest[OBJECT_KEY_MAX + 1] = '\0';
    assert_int_equal(objects_put(now.o, longest, SPAN_LIT("x"), OBJECT_ALWAYS, NULL, NULL), PD_INVALID);
    longest[OBJECT_KEY_MAX] = '\0';
    put(longest, "x");
    holds(longest, SPAN_LIT("x"));
    fine(objects_delete(now.o, longest));
    memset(name, 'b', sizeof(name));
    name[OBJECT_NAME_MAX + 1] = '\0';
    assert_int_equal(objects_put(now.o, name, SPAN_LIT("x"), OBJECT_ALWAYS, NULL, NULL), PD_INVALID);
    for (int i = 0; i <= OBJECT_PARTS_MAX; i++)
        strcat(deep, i ? "/d" : "d");
    assert_int_equal(objects_put(now.o, deep, SPAN_LIT("x"), OBJECT_ALWAYS, NULL, NULL), PD_INVALID);
    deep[strlen(deep) - 2] = '\0';
    put(deep, "x");
    lists("d/", strcat(strcpy(longest, deep), ":1 "));
    fine(objects_delete(now.o, deep));
    assert_int_equal(objects_list(now.o, "../", add_key, NULL), PD_INVALID);
}

struct racer {
    pthread_t thread;
    char text[20];
    unsigned won;
};

static void *race_for_new(void *ctx)
{
    struct racer *r = ctx;
    for (int i = 0; i < 20; i++) {
        char key[40];
        snprintf(key, sizeof(key), "race/%d", i);
        pd_err e = objects_put(now.o, key, span_str(r->text), OBJECT_IF_NEW, NULL, NULL);
        if (e == PD_OK)
            r->won++;
        else if (e != PD_EXISTS)
            abort();
    }
    return NULL;
}

/* Each adds one to a counter, again and again until its own replacement is taken. */
static void *count_up(void *ctx)
{
    struct racer *r = ctx;
    while (r->won < 10) {
        struct buf b;
        char etag[OBJECT_ETAG_BYTES], text[30];
        buf_init(&b, 0);
        if (objects_get(now.o, "race/counter", &b, etag))
            abort();
        snprintf(text, sizeof(text), "%d", atoi(buf_span(&b).p) + 1);
        pd_err e = objects_put(now.o, "race/counter", span_of(text, strlen(text) + 1), OBJECT_IF_SAME, etag, NULL);
        buf_done(&b);
        if (e == PD_OK)
            r->won++;
        else if (e != PD_EXISTS)
            abort();
    }
    return NULL;
}

static void race(void *(*work)(void *), unsigned want)
{
    struct racer racers[4];
    unsigned won = 0;
    for (int i = 0; i < 4; i++) {
        racers[i] = (struct racer){.won = 0};
        snprintf(racers[i].text, sizeof(racers[i].text), "racer %d", i);
        assert_int_equal(pthread_create(&racers[i].thread, NULL, work, &racers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(racers[i].thread, NULL);
        won += racers[i].won;
    }
    assert_int_equal(won, want);
}

static void of_several_who_write_at_once_one_wins(void **state)
{
    race(race_for_new, 20);
    fine(objects_put(now.o, "race/counter", span_of("0", 2), OBJECT_ALWAYS, NULL, NULL));
    race(count_up, 40);
    holds("race/counter", span_of("40", 3));
}

static void after_a_cancel_nothing_is_done(void **state)
{
    struct objects *o = now.o == NULL ? NULL
                                      : opened(objects_is_s3(now.o) ? server_bucket : folder,
                                               objects_is_s3(now.o) ? server_env : no_env);
    objects_cancel(o);
    assert_int_equal(objects_put(o, "cancel/a", SPAN_LIT("x"), OBJECT_ALWAYS, NULL, NULL), PD_CANCELLED);
    assert_int_equal(objects_check(o), PD_CANCELLED);
    objects_close(o);
    is_gone("cancel/a");
}

static void the_check_finds_it_well(void **state)
{
    fine(objects_check(now.o));
    assert_string_equal(objects_note(now.o), "");
    assert_true(objects_where(now.o)[0]);
}

static pd_err everything(void *ctx)
{
    struct buf b;
    char etag[OBJECT_ETAG_BYTES];
    buf_init(&b, 0);
    struct objects *o = NULL;
    char why[400];
    pd_err e = objects_open(objects_is_s3(now.o) ? server_bucket : folder,
                            objects_is_s3(now.o) ? server_env : no_env, NULL, &o, why, sizeof(why));
    if (!e)
        e = objects_put(o, "torture/a", SPAN_LIT("bytes"), OBJECT_ALWAYS, NULL, etag);
    if (!e)
        e = objects_put(o, "torture/a", SPAN_LIT("bytes"), OBJECT_IF_SAME, etag, NULL);
    if (!e)
        e = objects_get(o, "torture/a", &b, NULL);
    if (!e)
        e = objects_list(o, "torture/", add_key, &b);
    if (!e)
        e = objects_delete(o, "torture/a");
    objects_close(o);
    buf_done(&b);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    fine(everything(NULL));
    assert_true(torture(everything, NULL) >= 4);
}

/* ---- the folder alone -------------------------------------------------------------------- */

static void where_it_cannot_be_is_said(void **state)
{
    static const struct row {
        const char *where, *says;
        pd_err e;
    } rows[] = {
        {"", "1 to 2048", PD_TOOBIG},
        {"gs://bucket/x", "s3://BUCKET/PREFIX or into a folder", PD_INVALID},
        {"/proc/nowhere", "/proc/nowhere", PD_IO},
        {"/dev/null/x", "/dev/null/x", PD_IO},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct objects *o = NULL;
        char why[400] = "";
        assert_int_equal(objects_open(rows[i].where, no_env, NULL, &o, why, sizeof(why)), rows[i].e);
        assert_true(strstr(why, rows[i].says) != NULL);
        assert_null(o);
    }
}

static void path_of(const char *name, char out[300])
{
    snprintf(out, 300, "%s/%s", folder, name);
}

static void no_link_leads_out(void **state)
{
    char path[300];
    path_of("out", path);
    assert_int_equal(symlink("/tmp", path), 0);
    path_of("file", path);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    assert_int_equal(objects_put(now.o, "out/x", SPAN_LIT("x"), OBJECT_ALWAYS, NULL, NULL), PD_INVALID);
    is_gone("out/x");
    is_gone("file");
    assert_int_equal(objects_put(now.o, "file", SPAN_LIT("x"), OBJECT_ALWAYS, NULL, NULL), PD_INVALID);
    lists("out", "");
    lists("file", "");
    unlink(path);
    path_of("out", path);
    unlink(path);
}

static void a_key_in_another_is_refused(void **state)
{
    put("nest/a", "x");
    assert_int_equal(objects_put(now.o, "nest/a/b", SPAN_LIT("x"), OBJECT_ALWAYS, NULL, NULL), PD_INVALID);
    assert_int_equal(objects_put(now.o, "nest", SPAN_LIT("x"), OBJECT_ALWAYS, NULL, NULL), PD_INVALID);
    assert_int_equal(objects_put(now.o, "nest", SPAN_LIT("x"), OBJECT_IF_NEW, NULL, NULL), PD_INVALID);
    is_gone("nest/a/b");
    fine(objects_delete(now.o, "nest"));
    fine(objects_delete(now.o, "nest/a/b"));
    holds("nest/a", SPAN_LIT("x"));
}

static bool has_attributes(const char *path)
{
    char line[500];
    snprintf(line, sizeof(line),
             "python3 -c 'import os,sys; os.getxattr(sys.argv[1],\"user.perdure.sha256\")' %s 2>/dev/null", path);
    return system(line) == 0;
}

static void damage_is_seen(void **state)
{
    char path[300];
    put("damage/a", "sound bytes");
    path_of("damage/a", path);
    if (!has_attributes(path))
        skip();
    FILE *f = fopen(path, "r+");
    assert_non_null(f);
    fputc('S', f);
    fclose(f);
    struct buf b;
    buf_init(&b, 0);
    assert_int_equal(objects_get(now.o, "damage/a", &b, NULL), PD_INVALID);
    assert_int_equal(buf_size(&b), 0);
    assert_true(strstr(objects_why(), "damaged") != NULL);
    assert_int_equal(truncate(path, 3), 0);
    assert_int_equal(objects_get(now.o, "damage/a", &b, NULL), PD_INVALID);
    buf_done(&b);
    fine(objects_delete(now.o, "damage/a"));
}

static void a_get_keeps_to_the_limit_of_its_buffer(void **state)
{
    struct buf b;
    buf_init(&b, 5);
    put("limit/a", "12345");
    put("limit/b", "123456");
    fine(objects_get(now.o, "limit/a", &b, NULL));
    buf_clear(&b);
    assert_int_equal(objects_get(now.o, "limit/b", &b, NULL), PD_TOOBIG);
    assert_int_equal(buf_size(&b), 0);
    buf_done(&b);
}

/* A link's first name, a refused one's bytes: nothing stays in .new. */
static void nothing_is_left_over(void **state)
{
    char line[400];
    snprintf(line, sizeof(line), "test -d %s/.new && test -z \"$(ls %s/.new)\"", folder, folder);
    assert_int_equal(system(line), 0);
}

static void what_a_dead_one_left_is_cleaned_up(void **state)
{
    char line[600], path[300];
    snprintf(line, sizeof(line), "touch -d '2 hours ago' %s/.new/old; touch %s/.new/young", folder, folder);
    assert_int_equal(system(line), 0);
    objects_close(opened(folder, no_env));
    path_of(".new/old", path);
    assert_int_not_equal(access(path, F_OK), 0);
    path_of(".new/young", path);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(unlink(path), 0);
}

static void a_folder_that_went_away_is_not_made_again(void **state)
{
    char away[300];
    snprintf(away, sizeof(away), "%s.away", folder);
    put("away/a", "x");
    assert_int_equal(rename(folder, away), 0);
    assert_int_equal(objects_put(now.o, "away/b", SPAN_LIT("x"), OBJECT_ALWAYS, NULL, NULL), PD_IO);
    assert_int_equal(objects_check(now.o), PD_IO);
    assert_true(strstr(objects_why(), folder) != NULL);
    assert_int_not_equal(access(folder, F_OK), 0);
    assert_int_equal(rename(away, folder), 0);
    holds("away/a", SPAN_LIT("x"));
}

/* ---- the bucket alone -------------------------------------------------------------------- */

static void a_list_has_many_pages(void **state)
{
    s3_of(now.o)->pace.page_keys = 3;
    a_list_is_in_order_of_its_keys(state);
    s3_of(now.o)->pace.page_keys = S3_PAGE_KEYS;
}

static void a_real_server_names_its_region_and_minds_the_clock(void **state)
{
    struct s3 *s = s3_of(now.o);
    memcpy(s->region, "eu-west-1", sizeof("eu-west-1"));
    put("corrected/region", "x");
    assert_string_equal(s->region, "us-east-1");
    atomic_store(&s->skew_ms, 2 * 60 * 60 * 1000);
    put("corrected/clock", "x");
    assert_true(llabs(atomic_load(&s->skew_ms)) < 5000);
}

static void a_real_server_keeps_conditions(void **state)
{
    fine(objects_put(now.o, "conditions", SPAN_LIT("x"), OBJECT_IF_NEW, NULL, NULL));
    assert_int_equal(atomic_load(&s3_of(now.o)->conditions), S3_CONDITIONS_KEPT);
    assert_string_equal(objects_note(now.o), "");
}

static void a_wrong_secret_is_said(void **state)
{
    struct s3 *s = s3_of(now.o);
    s->secret[0] ^= 1;
    assert_int_equal(objects_put(now.o, "secret", SPAN_LIT("x"), OBJECT_ALWAYS, NULL, NULL), PD_IO);
    assert_non_null(strstr(objects_why(), "403 SignatureDoesNotMatch"));
    assert_non_null(strstr(objects_why(), "the access key, its secret"));
    assert_null(strstr(objects_why(), "perdure-secret"));
    s->secret[0] ^= 1;
}

/* ---- both -------------------------------------------------------------------------------- */

static const struct CMUnitTest both[] = {
    cmocka_unit_test(the_check_finds_it_well),          cmocka_unit_test(what_was_put_comes_back),
    cmocka_unit_test(a_large_one_comes_back),           cmocka_unit_test(what_is_not_there_is_not_found),
    cmocka_unit_test(a_new_one_is_written_once),        cmocka_unit_test(one_that_changed_is_not_replaced),
    cmocka_unit_test(a_list_is_in_order_of_its_keys),   cmocka_unit_test(a_list_ends_when_told_to),
    cmocka_unit_test(a_key_that_is_none_is_refused),    cmocka_unit_test(of_several_who_write_at_once_one_wins),
    cmocka_unit_test(after_a_cancel_nothing_is_done),   cmocka_unit_test(a_get_keeps_to_the_limit_of_its_buffer),
    cmocka_unit_test(survives_every_failed_allocation),
};

static const struct CMUnitTest folder_alone[] = {
    cmocka_unit_test(where_it_cannot_be_is_said),
    cmocka_unit_test(no_link_leads_out),
    cmocka_unit_test(a_key_in_another_is_refused),
    cmocka_unit_test(damage_is_seen),
    cmocka_unit_test(nothing_is_left_over),
    cmocka_unit_test(what_a_dead_one_left_is_cleaned_up),
    cmocka_unit_test(a_folder_that_went_away_is_not_made_again),
};

static const struct CMUnitTest bucket_alone[] = {
    cmocka_unit_test(a_list_has_many_pages),
    cmocka_unit_test(a_real_server_names_its_region_and_minds_the_clock),
    cmocka_unit_test(a_real_server_keeps_conditions),
    cmocka_unit_test(a_wrong_secret_is_said),
};

static int run_for(const char *name, const char *where, conf_env_fn *env)
{
    now = (struct store){name, opened(where, env)};
    int failed = env == no_env ? cmocka_run_group_tests_name("folder", both, NULL, NULL) +
                                     cmocka_run_group_tests_name("folder alone", folder_alone, NULL, NULL)
                               : cmocka_run_group_tests_name("s3", both, NULL, NULL) +
                                     cmocka_run_group_tests_name("s3 alone", bucket_alone, NULL, NULL);
    now.o = objects_close(now.o);
    return failed;
}

int main(void)
{
    struct s3_server server;
    char line[300];
    if (!mkdtemp(folder))
        return 1;
    int failed = run_for("folder", folder, no_env);
    snprintf(line, sizeof(line), "rm -rf %s", folder);
    if (system(line))
        failed++;
    if (s3_server_start(&server)) {
        server_url = server.url;
        snprintf(server_bucket, sizeof(server_bucket), "s3://%s/some/prefix", server.bucket);
        failed += run_for("s3", server_bucket, server_env);
        s3_server_stop(&server);
    }
    return failed;
}
