/* What makers want back with a call is kept for clients that cannot send it. */
#include "dialect/keep.h"
#include "told.h"

#include "base/mem.h"

static struct span kept(struct keep *k, uint64_t scope, const char *id, enum msg_maker maker, struct arena *a)
{
    struct span blob = SPAN_NONE;
    if (!keep_get(k, scope, span_str(id), maker, a, &blob))
        assert_null(blob.p);
    return blob;
}

static void a_blob_is_found_by_its_id_scope_and_maker(void **state)
{
    (void)state;
    struct arena a;
    struct keep *k = keep_new(1 << 20);
    assert_non_null(k);
    arena_init(&a, 0, 0);
    keep_put(k, 1, SPAN_LIT("t1"), MSG_MAKER_ANTHROPIC, SPAN_LIT("one"));
    keep_put(k, 1, SPAN_LIT("t2"), MSG_MAKER_GEMINI, SPAN_LIT(""));
    assert_true(span_is(kept(k, 1, "t1", MSG_MAKER_ANTHROPIC, &a), "one"));
    assert_null(kept(k, 1, "t1", MSG_MAKER_GEMINI, &a).p);
    assert_null(kept(k, 2, "t1", MSG_MAKER_ANTHROPIC, &a).p); /* another client's */
    assert_null(kept(k, 1, "t3", MSG_MAKER_ANTHROPIC, &a).p);
    assert_non_null(kept(k, 1, "t2", MSG_MAKER_GEMINI, &a).p);
    keep_put(k, 2, SPAN_LIT("t1"), MSG_MAKER_ANTHROPIC, SPAN_LIT("two"));
    keep_put(k, 1, SPAN_LIT("t1"), MSG_MAKER_OPENAI, SPAN_LIT("three")); /* replaces */
    assert_null(kept(k, 1, "t1", MSG_MAKER_ANTHROPIC, &a).p);
    assert_true(span_is(kept(k, 1, "t1", MSG_MAKER_OPENAI, &a), "three"));
    assert_true(span_is(kept(k, 2, "t1", MSG_MAKER_ANTHROPIC, &a), "two"));
    arena_done(&a);
    keep_free(k);
    keep_free(NULL);
}

struct copy {
    struct keep *to;
    struct buf record;
    unsigned seen;
};

static void copy_one(void *ctx, uint64_t scope, struct span tool_id, enum msg_maker maker, struct span blob)
{
    struct copy *c = ctx;
    buf_clear(&c->record);
    assert_int_equal(keep_write(&c->record, scope, tool_id, maker, blob), PD_OK);
    assert_int_equal(keep_read(c->to, buf_span(&c->record)), PD_OK);
    c->seen++;
}

static void all_of_it_goes_out_and_comes_back(void **state)
{
    (void)state;
    struct arena a;
    struct keep *k = keep_new(1 << 20);
    struct copy c = {.to = keep_new(1 << 20)};
    arena_init(&a, 0, 0);
    buf_init(&c.record, 0);
    keep_put(k, 7, SPAN_LIT("before it was watched"), MSG_MAKER_OPENAI, SPAN_LIT("0"));
    keep_each(k, copy_one, &c);
    keep_watch(k, copy_one, &c);
    keep_put(k, UINT64_MAX, SPAN_LIT("an id\nof two lines"), MSG_MAKER_ANTHROPIC, SPAN_LIT("one\0two\n"));
    keep_put(k, 0, SPAN_LIT("t2"), MSG_MAKER_GEMINI, SPAN_LIT(""));
    keep_watch(k, NULL, NULL);
    keep_put(k, 0, SPAN_LIT("t3"), MSG_MAKER_GEMINI, SPAN_LIT("unseen"));
    assert_int_equal(c.seen, 3);
    assert_true(span_is(kept(c.to, 7, "before it was watched", MSG_MAKER_OPENAI, &a), "0"));
    assert_true(
        span_eq(kept(c.to, UINT64_MAX, "an id\nof two lines", MSG_MAKER_ANTHROPIC, &a), SPAN_LIT("one\0two\n")));
    assert_non_null(kept(c.to, 0, "t2", MSG_MAKER_GEMINI, &a).p);
    assert_null(kept(c.to, 0, "t3", MSG_MAKER_GEMINI, &a).p);

    /* A record that is none, and every beginning of one, is refused or has a shorter blob; nothing is read beyond it. */
    static const char *const none[] = {"",
                                       "\n",
                                       "1\n",
                                       "1 openai\n",
                                       "1 nobody 1\nx",
                                       "x openai 1\nx",
                                       "1 openai 2\nx",
                                       "1 openai -1\nx",
                                       "1 openai 18446744073709551615\nx",
                                       "1 none 1\nx"};
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
        assert_int_equal(keep_read(c.to, span_str(none[i])), PD_SYNTAX);
    buf_done(&c.record);
    arena_done(&a);
    keep_free(k);
    keep_free(c.to);
}

static void what_is_too_large_is_not_kept_and_what_it_replaces_goes(void **state)
{
    (void)state;
    static char large[KEEP_BLOB_MAX + 1], id[KEEP_ID_MAX + 2];
    struct arena a;
    struct keep *k = keep_new(64 << 20);
    arena_init(&a, 0, 0);
    memset(id, 'i', sizeof(id) - 1);
    keep_put(k, 1, span_str(id), MSG_MAKER_ANTHROPIC, SPAN_LIT("x"));
    assert_null(kept(k, 1, id, MSG_MAKER_ANTHROPIC, &a).p);
    id[KEEP_ID_MAX] = '\0';
    keep_put(k, 1, span_str(id), MSG_MAKER_ANTHROPIC, SPAN_LIT("x"));
    assert_non_null(kept(k, 1, id, MSG_MAKER_ANTHROPIC, &a).p);
    keep_put(k, 1, SPAN_NONE, MSG_MAKER_ANTHROPIC, SPAN_LIT("x"));
    assert_null(kept(k, 1, "", MSG_MAKER_ANTHROPIC, &a).p);
    keep_put(k, 1, SPAN_LIT("t"), MSG_MAKER_ANTHROPIC, span_of(large, KEEP_BLOB_MAX));
    assert_int_equal(kept(k, 1, "t", MSG_MAKER_ANTHROPIC, &a).n, KEEP_BLOB_MAX);
    keep_put(k, 1, SPAN_LIT("t"), MSG_MAKER_ANTHROPIC, span_of(large, KEEP_BLOB_MAX + 1));
    assert_null(kept(k, 1, "t", MSG_MAKER_ANTHROPIC, &a).p);
    keep_free(k);
    k = keep_new(100);
    keep_put(k, 1, SPAN_LIT("t"), MSG_MAKER_ANTHROPIC, span_of(large, 100));
    assert_null(kept(k, 1, "t", MSG_MAKER_ANTHROPIC, &a).p);
    arena_done(&a);
    keep_free(k);
}

static void the_oldest_go_first_and_use_makes_young(void **state)
{
    (void)state;
    enum { MANY = 4000, BLOB = 1000, LIMIT = 1 << 20 };
    static char blob[BLOB];
    struct arena a;
    size_t before = mem_blocks();
    struct keep *k = keep_new(LIMIT);
    unsigned alive = 0;
    arena_init(&a, 0, 0);
    for (int i = 0; i < MANY; i++) {
        char id[16];
        snprintf(id, sizeof(id), "t%d", i);
        keep_put(k, 1, span_str(id), MSG_MAKER_ANTHROPIC, span_of(blob, BLOB));
        assert_non_null(kept(k, 1, "t0", MSG_MAKER_ANTHROPIC, &a).p); /* used again and again */
        arena_reset(&a);
    }
    for (int i = 1; i < MANY; i++) {
        char id[16];
        snprintf(id, sizeof(id), "t%d", i);
        bool there = kept(k, 1, id, MSG_MAKER_ANTHROPIC, &a).p != NULL;
        assert_true(there || !alive); /* no gap: the youngest are there */
        alive += there;
        arena_reset(&a);
    }
    assert_in_range(alive, LIMIT / (BLOB + 200), LIMIT / BLOB);
    arena_done(&a);
    keep_free(k);
    assert_int_equal(mem_blocks(), before);
}

/* ---- restoring -------------------------------------------------------------------------- */

#define CALL(id) "{\"id\":\"" id "\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}"
#define USER "{\"role\":\"user\",\"content\":\"hi\"}"
#define RESULT(id) "{\"role\":\"tool\",\"tool_call_id\":\"" id "\",\"content\":\"r\"}"

/* The turns of the assistant in words. */
static pd_err put_turns(const struct msg_request *m, struct buf *out)
{
    static const char *const kinds[] = {"text", "refusal", "reasoning", "media", "call", "result"};
    pd_err e = PD_OK;
    for (const struct msg_turn *t = m->first; !e && t; t = t->next) {
        if (t->role != MSG_ASSISTANT)
            continue;
        e = buf_puts(out, "[");
        for (const struct msg_part *p = t->first; !e && p; p = p->next) {
            assert_true(p->next || p == t->last);
            e = buf_printf(out, "%s(%.*s%.*s%s%.*s%s%.*s)", kinds[p->kind],
                           SPAN_FMT(p->kind == MSG_PART_TOOL_CALL ? SPAN_NONE : p->text),
                           SPAN_FMT(p->kind == MSG_PART_TOOL_CALL ? p->id : p->seal_id),
                           p->signature.n ? " s=" : "", SPAN_FMT(p->signature), p->sealed.n ? " e=" : "",
                           SPAN_FMT(p->sealed));
        }
        if (!e)
            e = buf_puts(out, "]");
    }
    return e;
}

struct restoring {
    const char *name, *messages; /* of a chat request */
    enum msg_maker maker;
    const char *want;
};

static const struct restoring restorings[] = {
    {"thinking comes first, its maker's own alone",
     USER ",{\"role\":\"assistant\",\"content\":\"x\",\"tool_calls\":[" CALL("t1") "]}," RESULT("t1"),
     MSG_MAKER_ANTHROPIC, "[reasoning(hm s=sig)reasoning( e=enc)text(x)call(t1)]"},
    {"nothing for another maker",
     USER ",{\"role\":\"assistant\",\"content\":\"x\",\"tool_calls\":[" CALL("t1") "]}," RESULT("t1"),
     MSG_MAKER_OPENAI, "[text(x)call(t1)]"},
    {"parallel calls that share it",
     USER ",{\"role\":\"assistant\",\"tool_calls\":[" CALL("t1") "," CALL("t2") "]}", MSG_MAKER_ANTHROPIC,
     "[reasoning(hm s=sig)reasoning( e=enc)reasoning(more s=sig2)call(t1)call(t2)]"},
    {"a signature on the call", USER ",{\"role\":\"assistant\",\"tool_calls\":[" CALL("g1") "," CALL("g2") "]}",
     MSG_MAKER_GEMINI, "[call(g1 s=gsig)call(g2)]"},
    {"an answer that was cut into turns",
     USER ",{\"role\":\"assistant\",\"content\":\"x\"},{\"role\":\"assistant\",\"tool_calls\":[" CALL("o1") "]}",
     MSG_MAKER_OPENAI, "[reasoning(rs_1 e=oenc)text(x)][call(o1)]"},
    {"every answer of a conversation",
     USER ",{\"role\":\"assistant\",\"tool_calls\":[" CALL("t1") "]}," RESULT(
         "t1") ",{\"role\":\"assistant\",\"tool_calls\":[" CALL("t2") "]}," RESULT("t2") ",{\"role\":"
                                                                                         "\"assistant\","
                                                                                         "\"content\":\"x\"}",
     MSG_MAKER_ANTHROPIC,
     "[reasoning(hm s=sig)reasoning( e=enc)call(t1)][reasoning(hm s=sig)reasoning(more s=sig2)call(t2)][text(x)]"},
    {"a blob that is broken", USER ",{\"role\":\"assistant\",\"tool_calls\":[" CALL("b1") "]}",
     MSG_MAKER_ANTHROPIC, "[call(b1)]"},
};

static struct keep *filled(void)
{
    struct keep *k = keep_new(1 << 20);
    if (!k)
        return NULL;
    keep_put(
        k, 1, SPAN_LIT("t1"), MSG_MAKER_ANTHROPIC,
        SPAN_LIT("{\"reasoning\":[{\"text\":\"hm\",\"signature\":\"sig\"},{\"sealed\":\"enc\",\"id\":\"\"}]}"));
    keep_put(k, 1, SPAN_LIT("t2"), MSG_MAKER_ANTHROPIC,
             SPAN_LIT("{\"reasoning\":[{\"text\":\"hm\",\"signature\":\"sig\"},{\"text\":\"more\",\"signature\":"
                      "\"sig2\"}]}"));
    keep_put(k, 1, SPAN_LIT("g1"), MSG_MAKER_GEMINI, SPAN_LIT("{\"signature\":\"gsig\"}"));
    keep_put(k, 1, SPAN_LIT("o1"), MSG_MAKER_OPENAI,
             SPAN_LIT("{\"reasoning\":[{\"sealed\":\"oenc\",\"id\":\"rs_1\"}]}"));
    keep_put(k, 1, SPAN_LIT("b1"), MSG_MAKER_ANTHROPIC, SPAN_LIT("{\"reasoning\":[{"));
    return k;
}

static pd_err parse(const char *messages, struct arena *a, struct msg_request *m)
{
    struct request_line line = {0};
    struct request_facts f;
    const char *why;
    char *body = arena_printf(a, "{\"model\":\"m\",\"messages\":[%s]}", messages);
    if (!body)
        return PD_NOMEM;
    pd_err e = codec_openai_chat.read_request(span_str(body), &line, a, &f, &why);
    return e ? e : codec_openai_chat.parse_request(&f, a, m, &why);
}

static void makers_get_back_what_they_want(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(restorings) / sizeof(restorings[0]); i++) {
        const struct restoring *r = &restorings[i];
        struct keep *k = filled();
        struct arena a;
        struct msg_request m;
        struct buf out;
        arena_init(&a, 0, 0);
        buf_init(&out, 0);
        assert_int_equal(parse(r->messages, &a, &m), PD_OK);
        assert_int_equal(keep_restore(k, 1, r->maker, &m, &a), PD_OK);
        assert_int_equal(put_turns(&m, &out), PD_OK);
        if (!span_is(buf_span(&out), r->want))
            fail_msg("%s: %.*s", r->name, SPAN_FMT(buf_span(&out)));
        /* Once more changes nothing: it is there. */
        buf_clear(&out);
        assert_int_equal(keep_restore(k, 1, r->maker, &m, &a), PD_OK);
        assert_int_equal(put_turns(&m, &out), PD_OK);
        assert_true(span_is(buf_span(&out), r->want));
        buf_done(&out);
        arena_done(&a);
        keep_free(k);
    }
}

static pd_err restore_once(void *ctx)
{
    const struct restoring *r = ctx;
    struct arena a;
    struct msg_request m;
    struct keep *k = filled();
    if (!k)
        return PD_NOMEM;
    arena_init(&a, 16, 0);
    pd_err e = parse(r->messages, &a, &m);
    if (!e)
        e = keep_restore(k, 1, r->maker, &m, &a);
    arena_done(&a);
    keep_free(k);
    return e;
}

/* Lenient: an entry that finds no memory is not kept, and that is no failure. */
/* A request of many turns with this one call. */
static void calls(struct msg_request *m, struct arena *a, unsigned turns, unsigned in_a_turn)
{
    msg_request_init(m);
    for (unsigned i = 0; i < turns; i++) {
        struct msg_turn *t = msg_turn_add(m, a, MSG_ASSISTANT);
        assert_non_null(t);
        for (unsigned k = 0; k < in_a_turn; k++) {
            struct msg_part *p = msg_part_add(t, a, MSG_PART_TOOL_CALL);
            assert_non_null(p);
            p->id = SPAN_LIT("t");
        }
        assert_non_null(msg_turn_add(m, a, MSG_USER));
    }
}

static void what_a_request_gets_back_has_a_limit(void **state)
{
    (void)state;
    static char blob[KEEP_BLOB_MAX];
    struct msg_request m;
    struct arena a;
    struct keep *k = keep_new(64 << 20);
    unsigned restored = 0;
    arena_init(&a, 0, 0);
    memset(blob, ' ', sizeof(blob));
    memcpy(blob, "{\"signature\":\"s\"}", 17);
    blob[16] = ' ';
    blob[sizeof(blob) - 1] = '}';
    keep_put(k, 1, SPAN_LIT("t"), MSG_MAKER_GEMINI, span_of(blob, sizeof(blob)));
    calls(&m, &a, 10, 10);
    assert_int_equal(keep_restore(k, 1, MSG_MAKER_GEMINI, &m, &a), PD_OK);
    for (const struct msg_turn *t = m.first; t; t = t->next)
        for (const struct msg_part *p = t->first; p; p = p->next)
            restored += p->signature.n > 0;
    assert_int_equal(restored, KEEP_RESTORED_MAX / KEEP_BLOB_MAX);
    assert_true(a.used_bytes < KEEP_RESTORED_MAX + (1 << 20));
    arena_done(&a);
    keep_free(k);
}

static void the_reasoning_before_an_answer_has_a_limit(void **state)
{
    (void)state;
    struct msg_request m;
    struct arena a;
    struct buf blob;
    struct keep *k = keep_new(64 << 20);
    unsigned count = 0;
    arena_init(&a, 0, 0);
    buf_init(&blob, 0);
    assert_int_equal(buf_puts(&blob, "{\"reasoning\":["), PD_OK);
    for (unsigned i = 0; i <= KEEP_REASONING_MAX; i++)
        assert_int_equal(buf_printf(&blob, "%s{\"sealed\":\"%u\"}", i ? "," : "", i), PD_OK);
    assert_int_equal(buf_puts(&blob, "]}"), PD_OK);
    keep_put(k, 1, SPAN_LIT("t"), MSG_MAKER_ANTHROPIC, buf_span(&blob));
    calls(&m, &a, 1, 1);
    assert_int_equal(keep_restore(k, 1, MSG_MAKER_ANTHROPIC, &m, &a), PD_OK);
    for (const struct msg_part *p = m.first->first; p; p = p->next)
        count += p->kind == MSG_PART_REASONING;
    assert_int_equal(count, KEEP_REASONING_MAX);
    buf_done(&blob);
    arena_done(&a);
    keep_free(k);
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(restorings) / sizeof(restorings[0]); i++) {
        struct restoring r = restorings[i];
        assert_true(torture_lenient(restore_once, &r) >= 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_blob_is_found_by_its_id_scope_and_maker),
        cmocka_unit_test(all_of_it_goes_out_and_comes_back),
        cmocka_unit_test(what_is_too_large_is_not_kept_and_what_it_replaces_goes),
        cmocka_unit_test(the_oldest_go_first_and_use_makes_young),
        cmocka_unit_test(makers_get_back_what_they_want),
        cmocka_unit_test(what_a_request_gets_back_has_a_limit),
        cmocka_unit_test(the_reasoning_before_an_answer_has_a_limit),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
