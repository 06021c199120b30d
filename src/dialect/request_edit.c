/* The body as it came, with a few spans replaced, removed or inserted: all other bytes stay as they are. */
#include "dialect/request_priv.h"

#include <assert.h>

/* One change: n bytes at `at` give way to `text`. */
struct edit {
    size_t at, n;
    struct span text;
};

/* Every site of every kind and the insertion are 25. */
enum { EDITS_MAX = (REQUEST_PARTS_MAX - 1) / 2 };

struct edits {
    const struct request_facts *f;
    struct edit list[EDITS_MAX];
    unsigned count;
};

/* Kept in order of place, an insertion before what is removed there: edits are few. */
static void add_edit(struct edits *es, size_t at, size_t n, struct span text)
{
    assert(es->count < EDITS_MAX);
    unsigned i = es->count++;
    for (; i > 0 && (es->list[i - 1].at > at || (es->list[i - 1].at == at && n == 0)); i--)
        es->list[i] = es->list[i - 1];
    es->list[i] = (struct edit){at, n, text};
}

static void replace(struct edits *es, struct span site, struct span text)
{
    if (!span_eq(site, text))
        add_edit(es, (size_t)(site.p - es->f->body.p), site.n, text);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static size_t skip_space(struct span body, size_t at)
{
    while (at < body.n && is_space(body.p[at]))
        at++;
    return at;
}

/* The first byte that is no space, going left from before `at`. */
static size_t back_over_space(struct span body, size_t at)
{
    while (is_space(body.p[at - 1]))
        at--;
    return at - 1;
}

/* Takes the whole member away whose value is `site`, and one comma with it. `from` is where the last removal ended.
 * Members are removed in order. Returns where this one ended. */
static size_t remove_member(struct edits *es, struct span site, size_t from)
{
    struct span body = es->f->body;
    size_t value_at = (size_t)(site.p - body.p), value_end = value_at + site.n;
    size_t colon = back_over_space(body, value_at);
    size_t key = back_over_space(body, colon); /* the closing quote */
    do
        key--;
    while (body.p[key] != '"'); /* the key's text has no quote: it equals a plain word */
    size_t before = back_over_space(body, key);
    if (body.p[before] == ',' && before >= from) {
        add_edit(es, before, value_end - before, SPAN_LIT(""));
        return value_end;
    }
    size_t comma = skip_space(body, value_end);
    size_t end = body.p[comma] == ',' ? comma + 1 : value_end;
    add_edit(es, key, end - key, SPAN_LIT(""));
    return end;
}

static void remove_options(struct edits *es)
{
    size_t from = 0;
    for (unsigned i = 0; i < es->f->options_count; i++)
        from = remove_member(es, es->f->options[i], from);
}

static const struct span include_usage_object = {"{\"include_usage\":true}",
                                                 sizeof("{\"include_usage\":true}") - 1};

/* Makes one stream_options ask for usage, whatever else it holds. */
static void ask_in(struct edits *es, struct span site)
{
    struct json v = {.type = site.p[0] == '{' ? JSON_OBJECT : JSON_NULL, .raw = site}, member, found = {0};
    struct json_walk w;
    struct span key;
    unsigned members = 0, times = 0;
    json_walk_init(&w, v);
    while (json_walk_next(&w, &key, &member)) {
        members++;
        if (json_key_is(key, "include_usage")) {
            found = member;
            times++;
        }
    }
    if (v.type != JSON_OBJECT || w.err || times > 1) {
        replace(es, site, include_usage_object);
        return;
    }
    if (times) {
        replace(es, found.raw, SPAN_LIT("true"));
        return;
    }
    size_t behind = (size_t)(site.p - es->f->body.p) + 1;
    add_edit(es, behind, 0, members ? SPAN_LIT("\"include_usage\":true,") : SPAN_LIT("\"include_usage\":true"));
}

/* Is any member left? Only then does an insertion at the front need a comma. */
static bool members_left(const struct edits *es)
{
    struct span body = es->f->body;
    size_t at = skip_space(body, es->f->open_at);
    for (unsigned i = 0; i < es->count; i++) {
        const struct edit *ed = &es->list[i];
        if (ed->at != at || ed->text.n || !ed->n)
            continue;
        at = skip_space(body, at + ed->n);
    }
    return at < body.n && body.p[at] != '}';
}

static pd_err put_model(struct buf *b, struct span model)
{
    pd_err e = buf_puts(b, "\"model\":");
    return e ? e : json_put_str(b, model);
}

/* `"model":"..."` in the arena; what is behind the colon is the value alone. */
static pd_err model_member(struct arena *a, struct span model, struct span *ret)
{
    struct buf b;
    buf_init(&b, 0);
    pd_err e = put_model(&b, model);
    if (!e) {
        *ret = arena_span(a, buf_span(&b));
        e = ret->p ? PD_OK : PD_NOMEM;
    }
    buf_done(&b);
    return e;
}

/* What goes behind the '{': members that are not there yet. */
static pd_err insert_front(struct edits *es, struct arena *a, struct span model, bool stream, bool options)
{
    if (!model.n && !stream && !options)
        return PD_OK;
    bool more = members_left(es);
    char *text = arena_printf(a, "%.*s%s%s%s%s%s", SPAN_FMT(model), model.n && (stream || options) ? "," : "",
                              stream ? "\"stream\":true" : "", stream && options ? "," : "",
                              options ? "\"stream_options\":{\"include_usage\":true}" : "", more ? "," : "");
    if (!text)
        return PD_NOMEM;
    add_edit(es, es->f->open_at, 0, span_str(text));
    return PD_OK;
}

static void add_part(struct span *parts, unsigned *count, struct span s)
{
    if (s.n)
        parts[(*count)++] = s;
}

static unsigned cut_parts(const struct edits *es, struct span *parts)
{
    struct span body = es->f->body;
    unsigned count = 0;
    size_t at = 0;
    for (unsigned i = 0; i < es->count; i++) {
        const struct edit *ed = &es->list[i];
        assert(ed->at >= at);
        add_part(parts, &count, span_of(body.p + at, ed->at - at));
        add_part(parts, &count, ed->text);
        at = ed->at + ed->n;
    }
    add_part(parts, &count, span_from(body, at));
    return count;
}

pd_err request_edit(const struct request_facts *f, const struct request_edit *e, struct arena *a,
                    struct span parts[REQUEST_PARTS_MAX], unsigned *ret_count)
{
    assert(!(e->force_stream && e->forbid_stream));
    struct edits es = {.f = f};
    struct span model = SPAN_NONE;
    if (e->model.p) {
        pd_err err = model_member(a, e->model, &model);
        if (err)
            return err;
        for (unsigned i = 0; i < f->models_count; i++)
            replace(&es, f->models[i], span_from(model, strlen("\"model\":")));
        if (f->models_count)
            model = SPAN_NONE;
    }
    for (unsigned i = 0; (e->force_stream || e->forbid_stream) && i < f->streams_count; i++)
        replace(&es, f->streams[i], e->force_stream ? SPAN_LIT("true") : SPAN_LIT("false"));

    bool streamed = e->force_stream || (f->stream && !e->forbid_stream);
    bool ask = e->want_usage && streamed; /* providers refuse stream_options without a stream */
    for (unsigned i = 0; ask && i < f->options_count; i++)
        ask_in(&es, f->options[i]);
    if (e->forbid_stream)
        remove_options(&es);

    pd_err err = insert_front(&es, a, model, e->force_stream && !f->streams_count, ask && !f->options_count);
    if (err)
        return err;
    *ret_count = cut_parts(&es, parts);
    return PD_OK;
}
