/* translation_rows.h - tests/fixtures/translation/NAME.json: requests as they come in, in which format, and as they go out, for tests of this
 * room. Keys are spelled plainly there; texts may have escapes. */
#ifndef PERDURE_TESTS_TRANSLATION_ROWS_H
#define PERDURE_TESTS_TRANSLATION_ROWS_H

#include "told.h"

struct translation {
    char *name;
    const struct codec *from, *to;
    struct span model, in, out;
    struct span why;     /* p NULL: it is taken */
    struct span dropped; /* names with commas between them */
    bool drop_model;
    char *version;
};
typedef void translation_fn(const struct translation *t);

static inline pd_err translation_put_dropped(const struct msg_request *m, struct buf *out)
{
    pd_err e = PD_OK;
    for (unsigned i = 0; !e && i < m->dropped_count; i++)
        e = buf_printf(out, "%s%s", i ? "," : "", m->dropped[i]);
    return e;
}

static inline pd_err translation_write(const struct translation *t, struct arena *a, struct buf *out,
                                       struct buf *dropped, const char **ret_why)
{
    struct request_line line = {0};
    struct request_facts f;
    struct msg_request m;
    pd_err e = t->from->read_request(t->in, &line, a, &f, ret_why);
    if (!e)
        e = t->from->parse_request(&f, a, &m, ret_why);
    if (!e)
        e = translation_put_dropped(&m, dropped);
    struct write_want want = {
        .model = t->model, .stream = f.stream, .drop_model = t->drop_model, .version = t->version};
    return e ? e : t->to->write_request(&m, &want, a, out);
}

static inline bool translation_refuses(pd_err e)
{
    return e == PD_UNSUPPORTED || e == PD_INVALID || e == PD_SYNTAX;
}

static inline void translation_check(const struct translation *t)
{
    struct arena a;
    struct buf out, dropped;
    const char *why = "";
    arena_init(&a, 0, 0);
    buf_init(&out, 0);
    buf_init(&dropped, 0);
    pd_err e = translation_write(t, &a, &out, &dropped, &why);
    if (t->why.p) {
        if (!translation_refuses(e))
            fail_msg("%s: %s", t->name, pd_err_name(e));
        if (!span_eq(span_str(why), t->why))
            fail_msg("%s:\nexpected %.*s\ngot      %s", t->name, SPAN_FMT(t->why), why);
    } else {
        if (e)
            fail_msg("%s: %s: %s", t->name, pd_err_name(e), why);
        if (!span_eq(buf_span(&out), t->out))
            fail_msg("%s:\nexpected %.*s\ngot      %.*s", t->name, SPAN_FMT(t->out), SPAN_FMT(buf_span(&out)));
        assert_int_equal(json_check(buf_span(&out)), PD_OK);
        if (!span_eq(buf_span(&dropped), t->dropped))
            fail_msg("%s: dropped %.*s", t->name, SPAN_FMT(buf_span(&dropped)));
    }
    buf_done(&out);
    buf_done(&dropped);
    arena_done(&a);
}

static inline pd_err translation_once(void *ctx)
{
    const struct translation *t = ctx;
    struct arena a;
    struct buf out, dropped;
    const char *why = NULL;
    arena_init(&a, 0, 0);
    buf_init(&out, 0);
    buf_init(&dropped, 0);
    pd_err e = translation_write(t, &a, &out, &dropped, &why);
    if (t->why.p && translation_refuses(e))
        e = PD_OK; /* as it has to be */
    buf_done(&out);
    buf_done(&dropped);
    arena_done(&a);
    return e;
}

static inline void translation_torture(const struct translation *t)
{
    struct translation copy = *t;
    if (t->why.p) /* a sentence that finds no room is a shorter one */
        torture_lenient(translation_once, &copy);
    else
        assert_true(torture(translation_once, &copy) >= 2);
}

static inline struct span text_at(struct json row, const char *key, struct arena *a)
{
    struct span text = SPAN_NONE;
    struct json v = json_get(row, key);
    if (v.type == JSON_STRING)
        assert_int_equal(json_text(v, a, &text), PD_OK);
    return text;
}

/* The rows of that file, one after the other. */
static inline void translations_each(const char *path, translation_fn *fn)
{
    struct buf text;
    struct arena a;
    struct json rows, row;
    struct json_walk w;
    FILE *in = fopen(path, "rb");
    assert_non_null(in);
    buf_init(&text, 0);
    arena_init(&a, 0, 0);
    size_t n;
    do {
        assert_int_equal(buf_reserve(&text, 64 * 1024), PD_OK);
        n = fread(text.p + text.tail, 1, 64 * 1024, in);
        buf_added(&text, n);
    } while (n);
    fclose(in);
    assert_int_equal(json_check(buf_span(&text)), PD_OK);
    assert_int_equal(json_first(buf_span(&text), &rows, NULL), PD_OK);
    json_walk_init(&w, rows);
    while (json_walk_next(&w, NULL, &row)) {
        struct span name = text_at(row, "name", &a), version = text_at(row, "version", &a);
        struct translation t = {.name = arena_strndup(&a, name.p, name.n),
                                .from = codec_by_name(text_at(row, "from", &a)),
                                .to = codec_by_name(text_at(row, "to", &a)),
                                .model = text_at(row, "model", &a),
                                .in = json_get(row, "in").raw,
                                .out = json_get(row, "out").raw,
                                .why = text_at(row, "why", &a),
                                .dropped = text_at(row, "dropped", &a),
                                .drop_model = json_is_true(json_get(row, "drop_model")),
                                .version = version.p ? arena_strndup(&a, version.p, version.n) : NULL};
        fn(&t);
    }
    arena_done(&a);
    buf_done(&text);
}

#endif
