#include "base/clock.h"
#include "s3_server.h"
#include "store/s3_priv.h"
#include "test.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

/* A server that fails as it is told (tests/lib/s3_faulty): each fault must happen, and end as its row says. */
static struct s3_server server;
static char url[200];
static char home[] = "/tmp/perdure-home-XXXXXX";

static char answer_line[500];
static const char *tell(const char *fmt, ...) PD_PRINTF(1, 2);
static const char *tell(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vdprintf(server.in, fmt, args);
    va_end(args);
    if (write(server.in, "\n", 1) != 1 || !fgets(answer_line, sizeof(answer_line), server.out))
        abort();
    answer_line[strcspn(answer_line, "\n")] = '\0';
    return answer_line;
}

static unsigned counted(const char *name)
{
    char want[60];
    snprintf(want, sizeof(want), "%s=", name);
    const char *counts = tell("counts"), *at = strstr(counts, want);
    return at ? (unsigned)atoi(at + strlen(want)) : 0;
}

static const char *const *vars; /* name, value, ..., NULL */
static const char *env(void *ctx, const char *name)
{
    for (const char *const *v = vars; v && *v; v += 2)
        if (strcmp(*v, name) == 0)
            return v[1];
    return NULL;
}

static const char *faulty_vars[] = {"MINIO_ENDPOINT", url, "MINIO_ACCESS_KEY", "key", "MINIO_SECRET_KEY",
                                    "secret",         NULL};

static struct objects *open_faulty(void)
{
    char why[400] = "";
    struct objects *o = NULL;
    vars = faulty_vars;
    if (objects_open("s3://bucket/p", env, NULL, &o, why, sizeof(why)))
        fail_msg("%s", why);
    s3_of(o)->pace = (struct s3_pace){.tries = 4,
                                      .page_keys = 2,
                                      .pause_least_ms = 2,
                                      .pause_most_ms = 10,
                                      .connect_ms = 2000,
                                      .silence_ms = 300,
                                      .part_bytes = 1000};
    return o;
}

static void is(pd_err got, pd_err want, const char *what)
{
    if (got != want)
        fail_msg("%s: %s instead of %s: %s", what, pd_err_name(got), pd_err_name(want), objects_why());
}

/* ---- faults ------------------------------------------------------------------------------ */

enum op { PUT, PUT_NEW, PUT_SAME, PUT_LARGE, PUT_LARGE_NEW, GET, DELETE, LIST };
static const struct row {
    const char *name;
    enum op op;
    const char *method, *kind;
    unsigned count; /* how many requests fail */
    pd_err e;
    const char *says; /* what objects_why() has */
} rows[] = {
    {"a 500 passes", PUT, "PUT", "500", 2, PD_OK, ""},
    {"a server that is slow is asked again", PUT, "PUT", "503", 3, PD_OK, ""},
    {"one that stays slow is told of", PUT, "PUT", "503", 4, PD_IO, "s3://bucket/p at http://127.0.0.1:"},
    {"with its status, code, message, request", PUT, "PUT", "503", 4, PD_IO,
     "PUT a/b: 503 SlowDown: Please reduce your request rate. (request REQUEST-4, 4 tries)"},
    {"a timeout of the server's", PUT, "PUT", "400", 1, PD_OK, ""},
    {"a proxy's page in between", PUT, "PUT", "html", 1, PD_OK, ""},
    {"a proxy's page to the end", PUT, "PUT", "html", 4, PD_IO, "PUT a/b: 502 (request REQUEST-4, 4 tries)"},
    {"what is forbidden is not tried again", PUT, "PUT", "403", 1, PD_IO, "403 AccessDenied: Access Denied"},
    {"a full disk is told at once", PUT, "PUT", "507", 1, PD_NOSPACE, "507 XMinioStorageFull"},
    {"an answer that is lost", PUT, "PUT", "lost", 1, PD_OK, ""},
    {"a 500 after it was done", PUT, "PUT", "lost500", 1, PD_OK, ""},
    {"a connection reset in the middle", PUT, "PUT", "reset", 1, PD_OK, ""},
    {"silence", PUT, "PUT", "silent", 1, PD_OK, ""},
    {"silence to the end", PUT, "PUT", "silent", 4, PD_TIMEOUT, "nothing came for too long"},

    {"a conflict of conditions is asked again", PUT_NEW, "PUT", "409", 1, PD_OK, ""},
    {"conflicts without end", PUT_NEW, "PUT", "409", 4, PD_IO, "409 ConditionalRequestConflict"},
    {"another one was quicker", PUT_NEW, "PUT", "conflict", 1, PD_EXISTS, "another one is there"},
    {"a condition that does not hold is told at once", PUT_NEW, "PUT", "412", 1, PD_EXISTS,
     "another one is there"},
    {"its own success is no conflict: a lost answer", PUT_NEW, "PUT", "lost", 1, PD_OK, ""},
    {"its own success is no conflict: a 500", PUT_NEW, "PUT", "lost500", 1, PD_OK, ""},
    {"its own success is no conflict: silence", PUT_NEW, "PUT", "silent", 1, PD_OK, ""},
    {"a 500 before it was done, then it is", PUT_NEW, "PUT", "500", 1, PD_OK, ""},
    {"reset before it was done, then it is", PUT_NEW, "PUT", "reset", 2, PD_OK, ""},
    {"the same with what is replaced: a lost answer", PUT_SAME, "PUT", "lost", 1, PD_OK, ""},
    {"the same with what is replaced: a 500", PUT_SAME, "PUT", "lost500", 1, PD_OK, ""},
    {"another one replaced it", PUT_SAME, "PUT", "conflict", 1, PD_EXISTS, "another one is there"},

    {"a part is sent again", PUT_LARGE, "PUT", "500", 2, PD_OK, ""},
    {"a part whose answer is lost", PUT_LARGE, "PUT", "lost", 1, PD_OK, ""},
    {"a part that cannot be sent", PUT_LARGE, "PUT", "503", 4, PD_IO, "503 SlowDown"},
    {"a part without its etag", PUT_LARGE, "PUT", "noetag", 1, PD_IO, "part 1 has no ETag"},
    {"it cannot begin", PUT_LARGE, "POST", "500", 4, PD_IO, "500 InternalError"},
    {"it begins at the second time", PUT_LARGE, "POST", "500", 1, PD_OK, ""},
    {"a large new one", PUT_LARGE_NEW, "ANY", "none", 0, PD_OK, ""},

    {"a get after a 503", GET, "GET", "503", 2, PD_OK, ""},
    {"a get that is cut", GET, "GET", "cut", 2, PD_OK, ""},
    {"a get that is always cut", GET, "GET", "cut", 4, PD_IO, "GET a/b"},
    {"a get that is damaged on the way", GET, "GET", "damage", 1, PD_OK, ""},
    {"a get that is damaged for good", GET, "GET", "damage", 3, PD_INVALID, "damaged"},
    {"a get whose answer is lost", GET, "GET", "lost", 1, PD_OK, ""},
    {"a get and silence", GET, "GET", "silent", 1, PD_OK, ""},

    {"a delete whose answer is lost", DELETE, "DELETE", "lost", 1, PD_OK, ""},
    {"a delete after a 503", DELETE, "DELETE", "503", 1, PD_OK, ""},

    {"a page of a list fails", LIST, "GET", "500", 1, PD_OK, ""},
    {"a list that is no XML", LIST, "GET", "badxml", 1, PD_IO, "its list cannot be read"},
    {"a list that begins again and again", LIST, "GET", "loop", 9, PD_IO, "not in order"},
    {"a list that does not get on", LIST, "GET", "still", 9, PD_IO, "does not say where it goes on"},
    {"a list that does not say where it goes on", LIST, "GET", "noway", 1, PD_IO, "does not say where it goes on"},
};

static char large[4500];

static pd_err add_key(void *ctx, const struct object_info *i)
{
    return buf_printf(ctx, "%s ", i->key);
}

static pd_err do_list(struct objects *o)
{
    struct buf b;
    buf_init(&b, 0);
    pd_err e = objects_list(o, "a/", add_key, &b);
    if (!e)
        assert_true(span_is(buf_span(&b), "a/b a/c a/d a/e a/f "));
    buf_done(&b);
    return e;
}

static pd_err do_get(struct objects *o)
{
    struct buf b;
    buf_init(&b, 0);
    is(buf_puts(&b, "before "), PD_OK, "buf_puts");
    pd_err e = objects_get(o, "a/b", &b, NULL);
    assert_true(span_is(buf_span(&b), e ? "before " : "before the bytes"));
    buf_done(&b);
    return e;
}

/* What is there before the fault. */
static void prepare(struct objects *o, enum op op, char etag[OBJECT_ETAG_BYTES])
{
    static const char *const keys[] = {"a/b", "a/c", "a/d", "a/e", "a/f"};
    if (op == PUT_NEW || op == PUT_SAME || op == PUT_LARGE_NEW)
        is(objects_put(o, "other", SPAN_LIT("x"), OBJECT_IF_NEW, NULL, NULL), PD_OK, "the first condition");
    if (op == PUT_SAME || op == GET || op == DELETE)
        is(objects_put(o, "a/b", SPAN_LIT("the bytes"), OBJECT_ALWAYS, NULL, etag), PD_OK, "what is there");
    for (size_t i = 0; op == LIST && i < sizeof(keys) / sizeof(keys[0]); i++)
        is(objects_put(o, keys[i], SPAN_LIT("x"), OBJECT_ALWAYS, NULL, NULL), PD_OK, keys[i]);
}

static struct span bytes_of(enum op op)
{
    return op == PUT_LARGE || op == PUT_LARGE_NEW ? span_of(large, sizeof(large)) : SPAN_LIT("new bytes");
}

static pd_err run(struct objects *o, enum op op, const char *etag, char ret_etag[OBJECT_ETAG_BYTES])
{
    switch (op) {
    case PUT:
    case PUT_LARGE:
        return objects_put(o, "a/b", bytes_of(op), OBJECT_ALWAYS, NULL, ret_etag);
    case PUT_NEW:
    case PUT_LARGE_NEW:
        return objects_put(o, "a/b", bytes_of(op), OBJECT_IF_NEW, NULL, ret_etag);
    case PUT_SAME:
        return objects_put(o, "a/b", bytes_of(op), OBJECT_IF_SAME, etag, ret_etag);
    case GET:
        return do_get(o);
    case DELETE:
        return objects_delete(o, "a/b");
    case LIST:
        return do_list(o);
    }
    return PD_OK;
}

/* What was written is there as it was written, under the etag that was told. */
static void check_written(struct objects *o, const struct row *r, const char *etag)
{
    struct buf b;
    char now[OBJECT_ETAG_BYTES];
    if (r->op == GET || r->op == LIST || r->op == DELETE)
        return;
    buf_init(&b, 0);
    is(objects_get(o, "a/b", &b, now), PD_OK, r->name);
    if (!span_eq(buf_span(&b), bytes_of(r->op)) || strcmp(etag, now) != 0)
        fail_msg("%s: %.*s, %s and %s", r->name, SPAN_FMT(buf_span(&b)), etag, now);
    buf_done(&b);
}

static void each_fault_happens_and_ends_as_its_row_says(void **state)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *r = &rows[i];
        char etag[OBJECT_ETAG_BYTES] = "", got[OBJECT_ETAG_BYTES] = "";
        tell("reset");
        struct objects *o = open_faulty();
        prepare(o, r->op, etag);
        if (r->count)
            tell("fault %s %s %u", r->method, r->kind, r->count);
        is(run(o, r->op, etag, got), r->e, r->name);
        unsigned happened = counted(r->kind), most = r->op == LIST && r->e ? 2 : r->count;
        if (happened < (r->count && most == 2 ? 1 : r->count))
            fail_msg("%s: it happened %u times: void", r->name, happened);
        if (r->e && !strstr(objects_why(), r->says))
            fail_msg("%s: says %s", r->name, objects_why());
        if (r->op == GET && !r->e &&
            counted("requests") != r->count + 2) /* what is there, each fault, the bytes */
            fail_msg("%s: %s", r->name, tell("counts"));
        if (!r->e)
            check_written(o, r, got);
        if (atoi(tell("uploads")) != 0)
            fail_msg("%s: parts lie about", r->name);
        objects_close(o);
    }
}

static void parts_that_were_put_together_are_found_when_the_answer_is_lost(void **state)
{
    static const char *const kinds[] = {"lost", "lost500", "silent", "join200", "500", "409"};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        for (int new = 0; new < 2; new ++) {
            struct row r = {kinds[i], new ? PUT_LARGE_NEW : PUT_LARGE, "POST", kinds[i], 1, PD_OK, ""};
            char etag[OBJECT_ETAG_BYTES];
            tell("reset");
            struct objects *o = open_faulty();
            prepare(o, r.op, etag);
            tell("fault POST none 1"); /* the beginning is let through */
            tell("fault POST %s 1", kinds[i]);
            is(run(o, r.op, NULL, etag), PD_OK, kinds[i]);
            assert_int_equal(counted(kinds[i]), 1);
            check_written(o, &r, etag);
            assert_int_equal(atoi(tell("uploads")), 0);
            objects_close(o);
        }
}

static void parts_that_cannot_be_put_together_are_taken_back(void **state)
{
    tell("reset");
    struct objects *o = open_faulty();
    tell("fault POST none 1");
    tell("fault POST join200 4");
    is(objects_put(o, "a/b", bytes_of(PUT_LARGE), OBJECT_ALWAYS, NULL, NULL), PD_IO, "join");
    assert_int_equal(counted("join200"), 4);
    assert_non_null(strstr(objects_why(), "InternalError: later"));
    assert_string_equal(tell("uploads"), "0");
    assert_string_equal(tell("object p/a/b"), "-");
    objects_close(o);
}

static void what_was_not_asked_for_is_in_no_list(void **state)
{
    static const char *const keys[] = {"a/b", "a/c", "a.b", "b"};
    char why[400];
    struct objects *o, *other = NULL;
    struct buf b;
    tell("reset");
    o = open_faulty();
    is(objects_open("s3://bucket/q", env, NULL, &other, why, sizeof(why)), PD_OK, why);
    is(objects_put(other, "a/other", SPAN_LIT("x"), OBJECT_IF_NEW, NULL, NULL), PD_OK,
       "q"); /* and .perdure/conditions */
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        is(objects_put(o, keys[i], SPAN_LIT("x"), OBJECT_ALWAYS, NULL, NULL), PD_OK, keys[i]);
    tell("fault GET allkeys 9");
    buf_init(&b, 0);
    is(objects_list(o, "a/", add_key, &b), PD_OK, "all keys");
    assert_true(counted("allkeys") >= 3);
    assert_true(span_is(buf_span(&b), "a/b a/c "));
    buf_clear(&b);
    is(objects_list(other, "", add_key, &b), PD_OK, "all keys");
    assert_true(span_is(buf_span(&b), "a/other "));
    buf_done(&b);
    objects_close(o);
    objects_close(other);
}

static void a_large_one_that_is_there_is_not_sent(void **state)
{
    tell("reset");
    struct objects *o = open_faulty();
    is(objects_put(o, "a/b", SPAN_LIT("x"), OBJECT_IF_NEW, NULL, NULL), PD_OK, "first");
    unsigned before = counted("requests");
    is(objects_put(o, "a/b", bytes_of(PUT_LARGE), OBJECT_IF_NEW, NULL, NULL), PD_EXISTS, "large");
    assert_int_equal(counted("requests"), before + 1);
    objects_close(o);
}

static void the_same_bytes_of_another_writer_are_a_conflict(void **state)
{
    /* Both write the same; the other one's came first, and ours met a 500 before. */
    tell("reset");
    struct objects *o = open_faulty(), *other = open_faulty();
    is(objects_put(o, "x", SPAN_LIT("x"), OBJECT_IF_NEW, NULL, NULL), PD_OK, "x");
    is(objects_put(other, "a/b", SPAN_LIT("same"), OBJECT_ALWAYS, NULL, NULL), PD_OK, "other");
    tell("fault PUT 500 1");
    is(objects_put(o, "a/b", SPAN_LIT("same"), OBJECT_IF_NEW, NULL, NULL), PD_EXISTS, "same bytes");
    assert_int_equal(counted("500"), 1);
    /* A server that keeps no metadata can only be asked for the checksum. */
    tell("set meta off");
    is(objects_put(other, "a/c", SPAN_LIT("same"), OBJECT_ALWAYS, NULL, NULL), PD_OK, "other");
    tell("fault PUT 500 1");
    is(objects_put(o, "a/c", SPAN_LIT("different"), OBJECT_IF_NEW, NULL, NULL), PD_EXISTS, "other bytes");
    tell("fault PUT lost 1");
    is(objects_put(o, "a/d", SPAN_LIT("mine"), OBJECT_IF_NEW, NULL, NULL), PD_OK, "lost");
    assert_int_equal(counted("lost"), 1);
    objects_close(o);
    objects_close(other);
}

/* Without metadata the bytes tell; but only where an answer was lost: on a kept connection libcurl asks again by itself, on a new one it does not. */
static void a_lost_answer_is_known_of_whatever_the_connection(void **state)
{
    static const char *const kinds[] = {"lost", "lost500", "silent"};
    for (size_t i = 0; i < 3; i++)
        for (int kept = 0; kept < 2; kept++) {
            tell("reset");
            tell("set meta off");
            struct objects *o = open_faulty();
            atomic_store(&s3_of(o)->conditions, S3_CONDITIONS_KEPT);
            if (kept)
                is(objects_put(o, "x", SPAN_LIT("x"), OBJECT_ALWAYS, NULL, NULL), PD_OK, "x");
            tell("fault PUT %s 1", kinds[i]);
            is(objects_put(o, "a", SPAN_LIT("mine"), OBJECT_IF_NEW, NULL, NULL), PD_OK, kinds[i]);
            assert_int_equal(counted(kinds[i]), 1);
            is(objects_put(o, "a", SPAN_LIT("mine"), OBJECT_IF_NEW, NULL, NULL), PD_EXISTS, "nothing was lost");
            objects_close(o);
        }
}

/* ---- servers that are another way -------------------------------------------------------- */

static void a_server_without_conditions_is_looked_at_first(void **state)
{
    static const char *const modes[] = {"ignore", "refuse"};
    for (size_t i = 0; i < 2; i++) {
        char etag[OBJECT_ETAG_BYTES], second[OBJECT_ETAG_BYTES];
        tell("reset");
        tell("set conditions %s", modes[i]);
        struct objects *o = open_faulty();
        is(objects_put(o, "a/b", SPAN_LIT("1"), OBJECT_IF_NEW, NULL, etag), PD_OK, modes[i]);
        assert_non_null(strstr(objects_note(o), "no conditional writes"));
        is(objects_put(o, "a/b", SPAN_LIT("2"), OBJECT_IF_NEW, NULL, NULL), PD_EXISTS, modes[i]);
        is(objects_put(o, "a/b", SPAN_LIT("2"), OBJECT_IF_SAME, etag, second), PD_OK, modes[i]);
        is(objects_put(o, "a/b", SPAN_LIT("3"), OBJECT_IF_SAME, etag, NULL), PD_EXISTS, modes[i]);
        is(objects_delete(o, "a/b"), PD_OK, modes[i]);
        is(objects_put(o, "a/b", SPAN_LIT("3"), OBJECT_IF_SAME, second, NULL), PD_EXISTS, modes[i]);
        is(objects_put(o, "a/b", span_of(large, sizeof(large)), OBJECT_IF_NEW, NULL, NULL), PD_OK, modes[i]);
        assert_string_equal(tell("last if-none-match"), "-");
        objects_close(o);
    }
}

static void a_server_with_conditions_gets_no_note_and_is_asked_once(void **state)
{
    tell("reset");
    struct objects *o = open_faulty();
    is(objects_put(o, "a", SPAN_LIT("1"), OBJECT_ALWAYS, NULL, NULL), PD_OK, "a");
    assert_int_equal(counted("requests"), 1);
    is(objects_put(o, "b", SPAN_LIT("1"), OBJECT_IF_NEW, NULL, NULL), PD_OK, "b");
    assert_int_equal(counted("requests"), 5); /* three to learn, one to write */
    assert_string_equal(tell("last if-none-match"), "*");
    is(objects_put(o, "c", SPAN_LIT("1"), OBJECT_IF_NEW, NULL, NULL), PD_OK, "c");
    assert_int_equal(counted("requests"), 6);
    assert_string_equal(objects_note(o), "");
    objects_close(o);
}

static void damage_is_seen_whatever_the_server_tells(void **state)
{
    static const char *const kept[][2] = {{"on", "on"}, {"on", "off"}, {"off", "on"}, {"off", "off"}};
    for (size_t i = 0; i < 4; i++) {
        struct buf b;
        buf_init(&b, 0);
        tell("reset");
        tell("set meta %s", kept[i][0]);
        tell("set checksums %s", kept[i][1]);
        struct objects *o = open_faulty();
        is(objects_put(o, "a/b", SPAN_LIT("bytes"), OBJECT_ALWAYS, NULL, NULL), PD_OK, "put");
        is(objects_get(o, "a/b", &b, NULL), PD_OK, "sound");
        tell("fault GET damage 3");
        is(objects_get(o, "a/b", &b, NULL), PD_INVALID, kept[i][0]);
        assert_true(span_is(buf_span(&b), "bytes"));
        assert_int_equal(counted("damage"), 3);
        buf_done(&b);
        objects_close(o);
    }
}

static void what_is_put_has_its_checksums(void **state)
{
    tell("reset");
    struct objects *o = open_faulty();
    is(objects_put(o, "a=1/b:c", SPAN_LIT("bytes"), OBJECT_ALWAYS, NULL, NULL), PD_OK, "put");
    assert_string_equal(tell("last x-amz-checksum-sha256"), "J3CJ2RwL308uaGK6fkoHYFEZQx9dE/cm3TUrBvGyBqk=");
    assert_string_equal(tell("last x-amz-meta-sha256"),
                        "277089d91c0bdf4f2e6862ba7e4a07605119431f5d13f726dd352b06f1b206a9");
    assert_string_equal(tell("last target"), "/bucket/p/a%3D1/b%3Ac");
    assert_string_equal(tell("last expect"), "-");
    objects_close(o);
}

static void the_region_that_a_server_names_is_taken(void **state)
{
    tell("reset");
    tell("set region eu-central-1");
    struct objects *o = open_faulty();
    is(objects_put(o, "a", SPAN_LIT("1"), OBJECT_ALWAYS, NULL, NULL), PD_OK, "region");
    assert_int_equal(counted("region"), 1);
    is(objects_put(o, "b", SPAN_LIT("1"), OBJECT_ALWAYS, NULL, NULL), PD_OK, "region");
    assert_int_equal(counted("region"), 1);
    assert_string_equal(s3_of(o)->region, "eu-central-1");
    objects_close(o);
}

static void the_servers_clock_is_taken_when_ours_is_wrong(void **state)
{
    static const int off[] = {7200, -86400};
    for (size_t i = 0; i < 2; i++) {
        tell("reset");
        tell("set clock %d", off[i]);
        struct objects *o = open_faulty();
        is(objects_put(o, "a", SPAN_LIT("1"), OBJECT_ALWAYS, NULL, NULL), PD_OK, "clock");
        assert_int_equal(counted("skewed"), 1);
        is(objects_delete(o, "a"), PD_OK, "clock");
        assert_int_equal(counted("skewed"), 1);
        /* It is put right while we run. */
        tell("set clock 0");
        is(objects_put(o, "a", SPAN_LIT("1"), OBJECT_ALWAYS, NULL, NULL), PD_OK, "clock");
        assert_int_equal(counted("skewed"), 2);
        objects_close(o);
    }
}

static void a_refusal_that_has_to_do_with_no_clock_says_what_it_is(void **state)
{
    tell("reset");
    struct objects *o = open_faulty();
    tell("fault PUT 403 9");
    is(objects_put(o, "a", SPAN_LIT("1"), OBJECT_ALWAYS, NULL, NULL), PD_IO, "403");
    assert_int_equal(counted("403"), 1);
    assert_null(strstr(objects_why(), "clock"));
    objects_close(o);
}

static void a_bucket_is_made_where_it_may_be(void **state)
{
    tell("reset");
    tell("set bucket no");
    struct objects *o = open_faulty();
    is(objects_check(o), PD_OK, "check");
    assert_int_equal(counted("nobucket"), 1);
    tell("set bucket no");
    is(objects_put(o, "a", SPAN_LIT("1"), OBJECT_ALWAYS, NULL, NULL), PD_OK, "put");
    assert_int_equal(counted("nobucket"), 2);
    s3_of(o)->may_make = false;
    tell("set bucket no");
    is(objects_check(o), PD_NOTFOUND, "check");
    assert_non_null(strstr(objects_why(), "make it"));
    struct buf b;
    buf_init(&b, 0);
    is(objects_get(o, "a", &b, NULL), PD_IO, "no bucket is not: no object");
    is(objects_delete(o, "a"), PD_IO, "no bucket is not: no object");
    is(objects_list(o, "", add_key, &b), PD_NOTFOUND, "no bucket is not: an empty one");
    assert_int_equal(buf_size(&b), 0);
    buf_done(&b);
    objects_close(o);
}

static void a_server_that_says_when_is_waited_for(void **state)
{
    tell("reset");
    struct objects *o = open_faulty();
    tell("fault PUT retry 1");
    uint64_t begun = clock_mono_ms();
    is(objects_put(o, "a", SPAN_LIT("1"), OBJECT_ALWAYS, NULL, NULL), PD_OK, "retry-after");
    assert_int_equal(counted("retry"), 1);
    assert_true(clock_mono_ms() - begun >= 1000);
    objects_close(o);
}

static void nobody_there_is_told(void **state)
{
    static const char *nobody[] = {
        "MINIO_ENDPOINT", "http://127.0.0.1:9", "MINIO_ACCESS_KEY", "k", "MINIO_SECRET_KEY", "s", NULL};
    struct objects *o = NULL;
    char why[400];
    vars = nobody;
    is(objects_open("s3://bucket", env, NULL, &o, why, sizeof(why)), PD_OK,
       "a server that is down is no reason not to open");
    s3_of(o)->pace.tries = 2;
    s3_of(o)->pace.pause_least_ms = 1;
    is(objects_check(o), PD_IO, "nobody");
    assert_non_null(strstr(objects_why(), "s3://bucket at http://127.0.0.1:9"));
    objects_close(o);
}

/* When the first try has given back its connection. */
/* A certificate that nobody vouches for is refused at once, and not tried again. */
static void a_certificate_is_checked(void **state)
{
    static char tls_url[200], ca[300], why[400];
    const char *const argv[] = {"tests/lib/s3_faulty", "--tls", home, NULL};
    const char *trusting[] = {"AWS_ENDPOINT_URL",
                              tls_url,
                              "AWS_ACCESS_KEY_ID",
                              "k",
                              "AWS_SECRET_ACCESS_KEY",
                              "s",
                              "AWS_CA_BUNDLE",
                              ca,
                              NULL};
    struct s3_server plain = server;
    struct objects *o = NULL;
    if (!helper_start(argv, &server, tls_url, sizeof(tls_url))) {
        server = plain;
        skip();
    }
    snprintf(ca, sizeof(ca), "%s/cert.pem", home);
    for (int trusts = 0; trusts < 2; trusts++) {
        vars = trusting;
        trusting[6] = trusts ? "AWS_CA_BUNDLE" : "NO_CA_BUNDLE";
        is(objects_open("s3://bucket", env, NULL, &o, why, sizeof(why)), PD_OK, why);
        is(objects_put(o, "a", SPAN_LIT("1"), OBJECT_ALWAYS, NULL, NULL), trusts ? PD_OK : PD_IO, "TLS");
        if (!trusts)
            assert_non_null(strstr(objects_why(), "certificate"));
        assert_int_equal(counted("requests"), trusts);
        objects_close(o);
    }
    s3_server_stop(&server);
    server = plain;
}

static void *cancel_it(void *ctx)
{
    struct s3 *s = s3_of(ctx);
    for (unsigned idle = 0; !idle; sched_yield()) {
        pthread_mutex_lock(&s->lock);
        idle = s->idle_count;
        pthread_mutex_unlock(&s->lock);
    }
    objects_cancel(ctx);
    return NULL;
}

/* It waits for its next try for ten seconds and more: the cancel comes while it does, or just before. */
static void a_cancel_ends_a_wait(void **state)
{
    tell("reset");
    struct objects *o = open_faulty();
    pthread_t thread;
    s3_of(o)->pace.pause_least_ms = s3_of(o)->pace.pause_most_ms = 20000;
    tell("fault PUT 503 9");
    uint64_t begun = clock_mono_ms();
    assert_int_equal(pthread_create(&thread, NULL, cancel_it, o), 0);
    pd_err e = objects_put(o, "a", SPAN_LIT("1"), OBJECT_ALWAYS, NULL, NULL);
    pthread_join(thread, NULL);
    is(e, PD_CANCELLED, "cancel");
    assert_int_equal(counted("503"), 1);
    assert_true(clock_mono_ms() - begun < 8000);
    objects_close(o);
}

/* ---- where and who ----------------------------------------------------------------------- */

static const struct setup_row {
    const char *name, *where;
    const char *vars[9];
    pd_err e;
    const char *why;                                  /* of a failure */
    const char *host, *prefix, *access, *region, *at; /* else */
    bool path_style, tls;
} setups[] = {
    {"Amazon",
     "s3://some-bucket/x/y/",
     {"AWS_ACCESS_KEY_ID", "A", "AWS_SECRET_ACCESS_KEY", "S", "AWS_REGION", "eu-west-1"},
     PD_OK,
     NULL,
     "",
     "x/y/",
     "A",
     "eu-west-1",
     "s3://some-bucket/x/y/",
     false,
     true},
    {"a dot in the name",
     "s3://some.bucket",
     {"AWS_ACCESS_KEY_ID", "A", "AWS_SECRET_ACCESS_KEY", "S"},
     PD_OK,
     NULL,
     "",
     "",
     "A",
     "us-east-1",
     "s3://some.bucket",
     true,
     true},
    {"the guide's variables",
     "s3://bucket",
     {"MINIO_ENDPOINT", "http://minio:9000", "MINIO_ACCESS_KEY", "A", "MINIO_SECRET_KEY", "S"},
     PD_OK,
     NULL,
     "minio:9000",
     "",
     "A",
     "us-east-1",
     "s3://bucket at http://minio:9000",
     true,
     false},
    {"without a scheme",
     "s3://bucket",
     {"MINIO_ENDPOINT", "minio:9000", "MINIO_ACCESS_KEY", "A", "MINIO_SECRET_KEY", "S"},
     PD_OK,
     NULL,
     "minio:9000",
     "",
     "A",
     "us-east-1",
     "s3://bucket at http://minio:9000",
     true,
     false},
    {"with a path, TLS and the usual port",
     "s3://bucket",
     {"AWS_ENDPOINT_URL_S3", "https://h:443/s3/", "AWS_ACCESS_KEY_ID", "A", "AWS_SECRET_ACCESS_KEY", "S",
      "AWS_DEFAULT_REGION", "r"},
     PD_OK,
     NULL,
     "h",
     "",
     "A",
     "r",
     "s3://bucket at https://h/s3",
     true,
     true},
    {"IPv6",
     "s3://bucket",
     {"MINIO_ENDPOINT", "http://[::1]:9000", "MINIO_ACCESS_KEY", "A", "MINIO_SECRET_KEY", "S"},
     PD_OK,
     NULL,
     "[::1]:9000",
     "",
     "A",
     "us-east-1",
     "s3://bucket at http://[::1]:9000",
     true,
     false},
    {"MinIO's server with Amazon's names",
     "s3://bucket",
     {"MINIO_ENDPOINT", "minio", "AWS_ACCESS_KEY_ID", "B", "AWS_SECRET_ACCESS_KEY", "S"},
     PD_OK,
     NULL,
     "minio",
     "",
     "B",
     "us-east-1",
     "s3://bucket at http://minio",
     true,
     false},
    {"empty is not set",
     "s3://bucket",
     {"MINIO_ENDPOINT", "", "AWS_ACCESS_KEY_ID", "A", "AWS_SECRET_ACCESS_KEY", "S"},
     PD_OK,
     NULL,
     "",
     "",
     "A",
     "us-east-1",
     "s3://bucket",
     false,
     true},
    {"a profile",
     "s3://bucket",
     {"HOME", home},
     PD_OK,
     NULL,
     "",
     "",
     "of-default",
     "us-east-1",
     "s3://bucket",
     false,
     true},
    {"another profile",
     "s3://bucket",
     {"HOME", home, "AWS_PROFILE", "work"},
     PD_OK,
     NULL,
     "",
     "",
     "of-work",
     "us-east-1",
     "s3://bucket",
     false,
     true},
    {"a profile that is not there",
     "s3://bucket",
     {"HOME", home, "AWS_PROFILE", "none"},
     PD_NOTFOUND,
     "AWS_ACCESS_KEY_ID",
     NULL,
     NULL,
     NULL,
     NULL,
     NULL,
     false,
     false},
    {"no keys",
     "s3://bucket",
     {NULL},
     PD_NOTFOUND,
     "set AWS_ACCESS_KEY_ID",
     NULL,
     NULL,
     NULL,
     NULL,
     NULL,
     false,
     false},
    {"no keys of MinIO's",
     "s3://bucket",
     {"MINIO_ENDPOINT", "minio"},
     PD_NOTFOUND,
     "set MINIO_ACCESS_KEY",
     NULL,
     NULL,
     NULL,
     NULL,
     NULL,
     false,
     false},
    {"half of them",
     "s3://bucket",
     {"AWS_ACCESS_KEY_ID", "A"},
     PD_NOTFOUND,
     "AWS_ACCESS_KEY_ID is set, but not AWS_SECRET_ACCESS_KEY",
     NULL,
     NULL,
     NULL,
     NULL,
     NULL,
     false,
     false},
    {"a key with a line end",
     "s3://bucket",
     {"AWS_ACCESS_KEY_ID", "A\n", "AWS_SECRET_ACCESS_KEY", "S"},
     PD_INVALID,
     "line ends",
     NULL,
     NULL,
     NULL,
     NULL,
     NULL,
     false,
     false},
    {"no bucket", "s3://", {NULL}, PD_INVALID, "no bucket's name", NULL, NULL, NULL, NULL, NULL, false, false},
    {"no bucket's name",
     "s3://b$d",
     {NULL},
     PD_INVALID,
     "no bucket's name",
     NULL,
     NULL,
     NULL,
     NULL,
     NULL,
     false,
     false},
    {"one slash",
     "s3:/bucket",
     {NULL},
     PD_INVALID,
     "s3://BUCKET/PREFIX",
     NULL,
     NULL,
     NULL,
     NULL,
     NULL,
     false,
     false},
    {"a prefix that leads out",
     "s3://bucket/../x",
     {NULL},
     PD_INVALID,
     "is no prefix: it is of",
     NULL,
     NULL,
     NULL,
     NULL,
     NULL,
     false,
     false},
    {"an endpoint that is none",
     "s3://bucket",
     {"MINIO_ENDPOINT", "http://"},
     PD_INVALID,
     "MINIO_ENDPOINT is",
     NULL,
     NULL,
     NULL,
     NULL,
     NULL,
     false,
     false},
    {"an endpoint with a password, which is not repeated",
     "s3://bucket",
     {"MINIO_ENDPOINT", "http://u:p@h"},
     PD_INVALID,
     "MINIO_ENDPOINT is \"...\"",
     NULL,
     NULL,
     NULL,
     NULL,
     NULL,
     false,
     false},
    {"an endpoint with a query",
     "s3://bucket",
     {"MINIO_ENDPOINT", "http://h?x"},
     PD_INVALID,
     "MINIO_ENDPOINT is",
     NULL,
     NULL,
     NULL,
     NULL,
     NULL,
     false,
     false},
};

static void where_and_who_are_found_as_the_rows_say(void **state)
{
    for (size_t i = 0; i < sizeof(setups) / sizeof(setups[0]); i++) {
        const struct setup_row *r = &setups[i];
        struct objects *o = NULL;
        char why[400] = "";
        vars = r->vars;
        is(objects_open(r->where, env, NULL, &o, why, sizeof(why)), r->e, r->name);
        if (r->e) {
            if (!strstr(why, r->why))
                fail_msg("%s: %s", r->name, why);
            continue;
        }
        const struct s3 *s = s3_of(o);
        if (strcmp(s->host, r->host) || strcmp(s->prefix, r->prefix) || strcmp(s->access, r->access) ||
            strcmp(s->region, r->region) || strcmp(objects_where(o), r->at) || s->path_style != r->path_style ||
            s->tls != r->tls)
            fail_msg("%s: %s, %s, %s, %s, %s", r->name, s->host, s->prefix, s->access, s->region,
                     objects_where(o));
        objects_close(o);
    }
}

/* Seen by a proxy: the names that Amazon's hosts have. */
static void amazons_hosts_have_the_buckets_name_and_the_region(void **state)
{
    static const struct {
        const char *where, *region, *host, *target;
    } hosts[] = {
        {"s3://some-bucket/x", "eu-west-1", "some-bucket.s3.eu-west-1.amazonaws.com",
         "http://some-bucket.s3.eu-west-1.amazonaws.com/x/key"},
        {"s3://some-bucket", "cn-north-1", "some-bucket.s3.cn-north-1.amazonaws.com.cn",
         "http://some-bucket.s3.cn-north-1.amazonaws.com.cn/key"},
        {"s3://some.bucket/x", "us-east-1", "s3.us-east-1.amazonaws.com",
         "http://s3.us-east-1.amazonaws.com/some.bucket/x/key"},
    };
    setenv("http_proxy", url, 1);
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        const char *amazon[] = {"AWS_ACCESS_KEY_ID",
                                "A",
                                "AWS_SECRET_ACCESS_KEY",
                                "S",
                                "AWS_REGION",
                                hosts[i].region,
                                "AWS_SESSION_TOKEN",
                                "the-token",
                                NULL};
        struct objects *o = NULL;
        char why[400];
        tell("reset");
        vars = amazon;
        is(objects_open(hosts[i].where, env, NULL, &o, why, sizeof(why)), PD_OK, why);
        s3_of(o)->tls = false;
        is(objects_delete(o, "key"), PD_IO, "no such bucket there");
        assert_string_equal(tell("last host"), hosts[i].host);
        assert_string_equal(tell("last target"), hosts[i].target);
        assert_string_equal(tell("last x-amz-security-token"), "the-token");
        objects_close(o);
    }
    unsetenv("http_proxy");
}

static void write_profiles(void)
{
    char line[600];
    if (!mkdtemp(home))
        abort();
    snprintf(line, sizeof(line),
             "mkdir %s/.aws && printf '[default]\\naws_access_key_id = of-default\\naws_secret_access_key = "
             "s\\n[work]\\n"
             "aws_access_key_id = of-work\\naws_secret_access_key = s\\n' > %s/.aws/credentials",
             home, home);
    if (system(line))
        abort();
}

int main(void)
{
    static const char *const argv[] = {"tests/lib/s3_faulty", NULL};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_fault_happens_and_ends_as_its_row_says),
        cmocka_unit_test(parts_that_were_put_together_are_found_when_the_answer_is_lost),
        cmocka_unit_test(parts_that_cannot_be_put_together_are_taken_back),
        cmocka_unit_test(what_was_not_asked_for_is_in_no_list),
        cmocka_unit_test(a_large_one_that_is_there_is_not_sent),
        cmocka_unit_test(the_same_bytes_of_another_writer_are_a_conflict),
        cmocka_unit_test(a_lost_answer_is_known_of_whatever_the_connection),
        cmocka_unit_test(a_server_without_conditions_is_looked_at_first),
        cmocka_unit_test(a_server_with_conditions_gets_no_note_and_is_asked_once),
        cmocka_unit_test(damage_is_seen_whatever_the_server_tells),
        cmocka_unit_test(what_is_put_has_its_checksums),
        cmocka_unit_test(the_region_that_a_server_names_is_taken),
        cmocka_unit_test(the_servers_clock_is_taken_when_ours_is_wrong),
        cmocka_unit_test(a_refusal_that_has_to_do_with_no_clock_says_what_it_is),
        cmocka_unit_test(a_bucket_is_made_where_it_may_be),
        cmocka_unit_test(a_server_that_says_when_is_waited_for),
        cmocka_unit_test(nobody_there_is_told),
        cmocka_unit_test(a_certificate_is_checked),
        cmocka_unit_test(a_cancel_ends_a_wait),
        cmocka_unit_test(where_and_who_are_found_as_the_rows_say),
        cmocka_unit_test(amazons_hosts_have_the_buckets_name_and_the_region),
    };
    char line[600];
    for (size_t i = 0; i < sizeof(large); i++)
        large[i] = (char)('a' + i % 23);
    write_profiles();
    unsetenv("http_proxy");
    if (!helper_start(argv, &server, url, sizeof(url)))
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    s3_server_stop(&server);
    snprintf(line, sizeof(line), "rm -rf %s", home);
    return failed + (system(line) != 0);
}
