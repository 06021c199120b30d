/* The body as it came, with a few spans replaced, removed or inserted: all other bytes stay as they are. */
#include "dialect/request_priv.h"

#include "parse/put.h"

#include <assert.h>

/* One change: n bytes at `at` give way to `text`. */
struct edit {
    size_t at, n;
    struct span text;
};

/* Every site of every kind, the insertion and a format's own changes are 29. */
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

/* Values whose members go, in order of place. */
struct removals {
    struct span sites[EDITS_MAX];
    unsigned count;
};

static void add_removal(struct removals *r, struct span site)
{
    assert(r->count < EDITS_MAX);
    unsigned i = r->count++;
    for (; i > 0 && r->sites[i - 1].p > site.p; i--)
        r->sites[i] = r->sites[i - 1];
    r->sites[i] = site;
}

static void add_removals(struct removals *r, const struct request_facts *f, const struct request_site *sites,
                         unsigned count)
{
    for (unsigned k = 0; k < count; k++)
        add_removal(r, request_site(f, sites[k]));
}

static void remove_all(struct edits *es, const struct removals *r)
{
    size_t from = 0;
    for (unsigned i = 0; i < r->count; i++)
        from = remove_member(es, r->sites[i], from);
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
struct front {
    struct span model;   /* the whole member; empty: it is there */
    const char *version; /* NULL: nothing */
    struct span betas;   /* empty: nothing */
    bool stream, options;
};

/* "a, b" as a list. */
static void put_list(struct put *p, struct span words)
{
    bool any = false;
    while (words.p && words.n) {
        struct span one = span_trim(span_cut(&words, ','));
        if (!one.n)
            continue;
        put_text(p, any ? "," : "[");
        any = true;
        put_json(p, one);
    }
    put_text(p, any ? "]" : "[]");
}

static pd_err insert_front(struct edits *es, struct arena *a, const struct front *in)
{
    if (!in->model.n && !in->version && !in->betas.n && !in->stream && !in->options)
        return PD_OK;
    const char *comma = "";
    struct buf b;
    buf_init(&b, 0);
    struct put p = put_into(&b);
    if (in->model.n) {
        put_span(&p, in->model);
        comma = ",";
    }
    if (in->version) {
        put_text(&p, comma);
        put_text(&p, "\"anthropic_version\":");
        put_json(&p, span_str(in->version));
        comma = ",";
    }
    if (in->betas.n) {
        put_text(&p, comma);
        put_text(&p, "\"anthropic_beta\":");
        put_list(&p, in->betas);
        comma = ",";
    }
    if (in->stream) {
        put_text(&p, comma);
        put_text(&p, "\"stream\":true");
        comma = ",";
    }
    if (in->options) {
        put_text(&p, comma);
        put_text(&p, "\"stream_options\":{\"include_usage\":true}");
    }
    put_text(&p, members_left(es) ? "," : "");
    struct span text = p.err ? SPAN_NONE : arena_span(a, buf_span(&b));
    buf_done(&b);
    if (!text.p)
        return PD_NOMEM;
    add_edit(es, es->f->open_at, 0, text);
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

static void edit_stream(struct edits *es, const struct request_edit *e, struct removals *gone)
{
    const struct request_facts *f = es->f;
    if (e->drop_model)
        add_removals(gone, f, f->streams, f->streams_count);
    else
        for (unsigned i = 0; (e->force_stream || e->forbid_stream) && i < f->streams_count; i++)
            replace(es, request_site(f, f->streams[i]), e->force_stream ? SPAN_LIT("true") : SPAN_LIT("false"));
}

static pd_err edit_model(struct edits *es, const struct request_edit *e, struct arena *a, struct removals *gone,
                         struct front *in)
{
    const struct request_facts *f = es->f;
    if (e->drop_model) {
        add_removals(gone, f, f->models, f->models_count);
        return PD_OK;
    }
    if (!e->model.p)
        return PD_OK;
    struct span member;
    pd_err err = model_member(a, e->model, &member);
    if (err)
        return err;
    for (unsigned i = 0; i < f->models_count; i++)
        replace(es, request_site(f, f->models[i]), span_from(member, strlen("\"model\":")));
    if (!f->models_count)
        in->model = member;
    return PD_OK;
}

pd_err request_edit_also(const struct request_facts *f, const struct request_edit *e,
                         const struct request_change *changes, unsigned change_count, struct arena *a,
                         struct span parts[REQUEST_PARTS_MAX], unsigned *ret_count)
{
    assert(!(e->force_stream && e->forbid_stream) && change_count <= REQUEST_CHANGES_MAX);
    struct edits es = {.f = f};
    struct removals gone = {.count = 0};
    struct front in = {.version = e->version};
    if (e->betas.n && json_get((struct json){JSON_OBJECT, f->body}, "anthropic_beta").type == JSON_NONE)
        in.betas = e->betas;
    bool streamed = e->force_stream || (f->stream && !e->forbid_stream);
    bool ask = e->want_usage && streamed; /* providers refuse stream_options without a stream */

    pd_err err = edit_model(&es, e, a, &gone, &in);
    if (err)
        return err;
    edit_stream(&es, e, &gone);
    for (unsigned i = 0; ask && i < f->options_count; i++)
        ask_in(&es, request_site(f, f->options[i]));
    if (e->forbid_stream)
        add_removals(&gone, f, f->options, f->options_count);
    for (unsigned i = 0; i < change_count; i++) {
        if (changes[i].remove)
            add_removal(&gone, changes[i].site);
        else
            replace(&es, changes[i].site, changes[i].text);
    }
    remove_all(&es, &gone);

    in.stream = e->force_stream && !e->drop_model && !f->streams_count;
    in.options = ask && !f->options_count;
    err = insert_front(&es, a, &in);
    if (err)
        return err;
    *ret_count = cut_parts(&es, parts);
    return PD_OK;
}

pd_err request_edit(const struct request_facts *f, const struct request_edit *e, struct arena *a,
                    struct span parts[REQUEST_PARTS_MAX], unsigned *ret_count)
{
    return request_edit_also(f, e, NULL, 0, a, parts, ret_count);
}
