/* fuzz_json.c - json_check against the lazy reader, and strings there and back.
 *
 * A document that json_check takes can be read to the last leaf by json_first and json_walk_next, by
 * json_walk_doc as well, and every string of it has a text. What json_check refuses is read too, for
 * whatever the sanitizers see. */
#include "base/arena.h"
#include "parse/json.h"
#include "parse/utf8.h"

#include <stdlib.h>

#define MUST(x)      \
    do {             \
        if (!(x))    \
            abort(); \
    } while (0)

static void put_and_read(struct span text)
{
    struct buf out;
    struct arena arena;
    struct json v;
    struct span back, rest;
    buf_init(&out, 0);
    arena_init(&arena, 0, 0);
    MUST(json_put_str(&out, text) == PD_OK);
    MUST(json_check(buf_span(&out)) == PD_OK);
    MUST(utf8_valid(buf_span(&out)));
    MUST(json_first(buf_span(&out), &v, &rest) == PD_OK && rest.n == 0 && v.type == JSON_STRING);
    MUST(json_text(v, &arena, &back) == PD_OK);
    MUST(!utf8_valid(text) || span_eq(back, text));
    arena_done(&arena);
    buf_done(&out);
}

static void leaf(struct json v, bool sound, struct arena *arena)
{
    struct span text;
    int64_t i;
    double d;
    if (v.type == JSON_STRING) {
        pd_err e = json_text(v, arena, &text);
        MUST(!sound || e == PD_OK);
        if (!e && text.n < 64) {
            char plain[64];
            memcpy(plain, text.p, text.n);
            plain[text.n] = '\0';
            MUST(memchr(plain, '\0', text.n) || json_is(v, plain));
        }
        return;
    }
    if (json_i64(v, &i))
        MUST(json_f64(v, &d) ? (double)i == d : v.raw.n > 1000);
    (void)json_is_true(v);
}

static void read_all(struct json v, bool sound, struct arena *arena)
{
    struct json_walk w;
    struct json item;
    struct span key, text;
    if (v.type != JSON_OBJECT && v.type != JSON_ARRAY) {
        leaf(v, sound, arena);
        return;
    }
    json_walk_init(&w, v);
    while (json_walk_next(&w, &key, &item)) {
        MUST(item.raw.p >= v.raw.p && item.raw.p + item.raw.n <= v.raw.p + v.raw.n);
        read_all(item, sound, arena);
        struct json name = {JSON_STRING, w.object ? span_of(key.p - 1, key.n + 2) : SPAN_NONE};
        pd_err e = json_text(name, arena, &text);
        MUST(!sound || e == PD_OK);
    }
    MUST(!sound || (w.err == PD_OK && w.rest.n == 0));
}

/* One pass over the document gives the same members as a skip and then a walk. */
static void walks_agree(struct span doc, struct json v, bool sound)
{
    struct json_walk a, b;
    struct json x = {0}, y = {0};
    struct span k = SPAN_NONE, l = SPAN_NONE;
    json_walk_doc(&a, doc);
    json_walk_init(&b, v);
    if (v.type != JSON_OBJECT && v.type != JSON_ARRAY) {
        MUST(a.err == PD_SYNTAX && !json_walk_next(&a, &k, &x));
        return;
    }
    while (json_walk_next(&b, &l, &y)) {
        MUST(json_walk_next(&a, &k, &x));
        MUST(x.type == y.type && x.raw.p == y.raw.p && x.raw.n == y.raw.n && k.p == l.p && k.n == l.n);
    }
    while (json_walk_next(&a, &k, &x))
        MUST(!sound);
    MUST(!sound || a.err == PD_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span doc = span_of((const char *)data, size), rest = SPAN_NONE;
    struct arena arena;
    struct json v;
    arena_init(&arena, 0, 0);
    bool sound = json_check(doc) == PD_OK;
    pd_err e = json_first(doc, &v, &rest);
    MUST(!sound || (e == PD_OK && json_check(v.raw) == PD_OK));
    if (!e) {
        read_all(v, sound, &arena);
        walks_agree(doc, v, sound);
        (void)json_path(v, "choices.0.delta.content");
    }
    put_and_read(doc);
    arena_done(&arena);
    return 0;
}
