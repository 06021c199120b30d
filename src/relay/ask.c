#include "relay/ask.h"

#include "dialect/carry.h"
#include "dialect/keep.h"
#include "parse/url.h"
#include "relay/relay_priv.h"

#include <pthread.h>

/* ---- the wire format -------------------------------------------------------------- */

/* The codec this wire has for calls of such a client about that model; NULL: none. */
static const struct codec *codec_of(const struct wire *w, struct span model, const struct codec *client)
{
    return !w || (w->serves && !w->serves(model)) ? NULL : wire_codec(w, client);
}

static bool is_mistral(const struct conf_provider *p)
{
    return strcmp(p->preset->name, "mistral") == 0;
}

/* Is the client's format the target's? Mistral takes OpenAI's but for its own ids, words and reasoning, and refuses members that it does not know: to
 * it requests are written anew, but for those of its own clients. */
static bool is_same(const struct conf_provider *p, const struct codec *c, const struct codec *client)
{
    if (c == &codec_openai_chat && is_mistral(p))
        return client == &codec_mistral;
    return c == client;
}

bool ask_wire(const struct conf_provider *p, struct span model, const struct codec *client, struct ask *ret)
{
    *ret = (struct ask){0};
    for (const char *const *entry = p->wires; *entry; entry++) {
        const struct wire *w = wire_by_name(preset_wire_name(*entry));
        const struct codec *c = codec_of(w, model, client);
        if (!c || (ret->codec && c != client))
            continue;
        ret->wire = w;
        ret->codec = c;
        if (c == client)
            break;
    }
    ret->same = ret->codec && is_same(p, ret->codec, client);
    return ret->codec != NULL;
}

/* ---- the body --------------------------------------------------------------------- */

static struct write_want want_of(const struct conf_provider *p, struct span model, const struct ask *a)
{
    bool named = !a->wire->model_in_path || (a->codec->kind == CODEC_COUNT && a->wire->count_by_name);
    return (struct write_want){
        .model = model,
        .stream = a->stream,
        .ask_usage = a->stream && p->preset->asks_usage,
        .drop_model = !named,
        .version = a->wire->version,
        .reasoning_back = p->preset->reasoning_back,
        .mistral = is_mistral(p),
        .continues = a->continues && a->given ? (int)a->way : CONTINUE_ASK,
    };
}

bool ask_may_continue(const struct conf_provider *p)
{
    return strcmp(p->continues, "off") != 0;
}

/* How this provider is asked to go on, in the format that was chosen. */
static void choose_way(const struct relay *r, const struct conf_provider *p, struct span model, struct ask *a,
                       struct continuation *k)
{
    if (k->way == CONTINUE_WAY_COUNT) {
        k->way = CONTINUE_ASK;
        continue_way_find(span_str(p->continues), &k->way);
        k->way = continue_way_for(k->way, a->codec, model, &r->facts);
    }
    k->given = k->way == CONTINUE_REPEAT ? 0 : join_givable(k->seen);
    a->continues = true;
    a->way = k->way;
    a->given = k->given;
}

static pd_err edit_body(struct relay *r, const struct conf_provider *p, struct span model, struct ask *a,
                        struct span parts[REQUEST_PARTS_MAX])
{
    struct request_edit edit = {
        .model = a->wire->model_in_path ? SPAN_NONE : model,
        .force_stream = a->stream && !a->wire->model_in_path,
        .want_usage = a->stream && p->preset->asks_usage,
        .forbid_stream = !a->stream && r->facts.stream && !a->wire->model_in_path,
        .drop_model = a->wire->model_in_path,
        .version = a->wire->version,
        .strip_foreign = r->mixed || atomic_load(&r->w->gateway->marked),
    };
    if (a->wire->betas_in_body)
        edit.betas = request_header(r->asked, "anthropic-beta");
    return a->codec->edit_request(&r->facts, &edit, &r->arena, parts, &a->parts_count);
}

static pd_err restore(struct relay *r, const struct ask *a, struct msg_request *m)
{
    struct gateway *g = r->w->gateway;
    if (a->codec->maker == MSG_MAKER_NONE || !g->keep)
        return PD_OK;
    pthread_mutex_lock(&g->keep_lock);
    pd_err e = keep_restore(g->keep, r->keep_scope, a->codec->maker, m, &r->arena);
    pthread_mutex_unlock(&g->keep_lock);
    return e;
}

static pd_err translate_chat(struct relay *r, const struct conf_provider *p, struct span model, struct ask *a,
                             const struct continuation *k, const char **ret_why)
{
    struct write_want want = want_of(p, model, a);
    struct msg_request *m = arena_zalloc(&r->arena, sizeof(*m));
    if (!m)
        return PD_NOMEM;
    a->neutral = m;
    pd_err e = r->what.codec->parse_request(&r->facts, &r->arena, m, ret_why);
    if (!e) {
        *ret_why = NULL; /* parsers begin with the sentence for want of memory */
        e = restore(r, a, m);
    }
    if (!e && k)
        e = continuation_add(m, k, &r->arena);
    if (!e)
        e = carry_fit(m, a->codec, &want, &r->arena, ret_why);
    if (!e)
        e = a->codec->write_request(m, &want, &r->arena, &a->body);
    return e == PD_SYNTAX || e == PD_INVALID ? PD_UNSUPPORTED : e;
}

static pd_err translate_embeddings(struct relay *r, const struct conf_provider *p, struct span model,
                                   struct ask *a, const char **ret_why)
{
    struct write_want want = want_of(p, model, a);
    struct embed_request *m = arena_zalloc(&r->arena, sizeof(*m));
    if (!m)
        return PD_NOMEM;
    a->embeds = m;
    pd_err e = r->what.codec->embed->parse(&r->facts, &r->arena, m, ret_why);
    if (!e) {
        *ret_why = "several inputs in one request cannot be carried to this provider: send one at a time";
        e = a->codec->embed->write(m, &want, &r->arena, &a->body);
    }
    return e == PD_SYNTAX || e == PD_INVALID ? PD_UNSUPPORTED : e;
}

enum { ASK_BODY_MORE = 2048 }; /* a translated body is about as long as its source */

static pd_err keep_parts(struct relay *r, struct ask *a, const struct span *parts)
{
    a->parts = arena_alloc(&r->arena, a->parts_count * sizeof(*parts));
    if (!a->parts)
        return PD_NOMEM;
    memcpy(a->parts, parts, a->parts_count * sizeof(*parts));
    return PD_OK;
}

pd_err ask_body(struct relay *r, const struct conf_provider *p, struct span model, struct ask *a,
                const struct continuation *k, const char **ret_why)
{
    *ret_why = NULL;
    buf_init(&a->body, ASK_BODY_MAX);
    a->batch = r->facts.line.batch;
    struct continuation chosen = k ? *k : (struct continuation){0};
    if (k && !a->codec->turns_member) { /* one prompt and no turns: the same wire's turns are asked instead */
        a->codec = a->wire->chat;
        a->same = false;
    }
    if (k)
        choose_way(r, p, model, a, &chosen);
    if (a->same) {
        struct span parts[REQUEST_PARTS_MAX];
        pd_err e = edit_body(r, p, model, a, parts);
        if (!e && k)
            e = continuation_splice(a->codec, &r->facts, &chosen, &r->arena, parts, &a->parts_count);
        if (!e)
            e = keep_parts(r, a, parts);
        if (e != PD_UNSUPPORTED || !k)
            return e;
        a->same = false; /* no list of turns to put any in: it is written anew */
    }
    pd_err e = buf_reserve(&a->body,
                           r->facts.body.n + ASK_BODY_MORE); /* at once: growing would copy it again and again */
    if (!e)
        e = a->codec->kind == CODEC_EMBED ? translate_embeddings(r, p, model, a, ret_why)
                                          : translate_chat(r, p, model, a, k ? &chosen : NULL, ret_why);
    struct span whole = buf_span(&a->body);
    a->parts_count = 1;
    return e ? e : keep_parts(r, a, &whole);
}

void ask_done(struct ask *a)
{
    buf_done(&a->body);
}

/* ---- the path --------------------------------------------------------------------- */

/* Credentials of the client's, in all ways in which Google takes them from a query, and what the path says already. */
static bool withheld_query(struct span one)
{
    static const char *const names[] = {"key", "access_token", "oauth_token", "alt"};
    char room[64];
    struct span name = span_cut(&one, '=');
    if (name.n > sizeof(room))
        return false;
    struct span plain = span_of(room, url_unescape(name, room));
    if (span_starts(plain, "$"))
        plain = span_from(plain, 1);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (span_iis(plain, names[i]))
            return true;
    return false;
}

/* What of a client's query goes on. */
static pd_err query_for(struct span query, struct arena *a, struct span *ret)
{
    char *out = arena_alloc(a, query.n + 1);
    size_t n = 0;
    if (!out)
        return PD_NOMEM;
    while (query.p && query.n) {
        struct span one = span_cut(&query, '&');
        if (!one.n || withheld_query(one))
            continue;
        if (n)
            out[n++] = '&';
        memcpy(out + n, one.p, one.n);
        n += one.n;
    }
    *ret = span_of(out, n);
    return PD_OK;
}

/* The provider as it is asked for continuing: at another path, where "prefix" has one of its own. PD_NOMEM. */
static pd_err at_beta(const struct ask *a, const struct conf_provider *p, struct arena *arena,
                      struct conf_provider *ret)
{
    *ret = *p;
    const char *beta = p->preset->beta_path, *usual = p->preset->url_path;
    if (!a->continues || a->way != CONTINUE_PREFIX || !beta)
        return PD_OK;
    struct span url = span_str(p->base_url);
    if (usual && span_ends(url, usual))
        url.n -= strlen(usual);
    else if (strchr(strstr(p->base_url, "://") + 3, '/'))
        return PD_OK; /* a path that is not its maker's: what is there instead nobody knows */
    ret->base_url = arena_printf(arena, "%.*s%s", SPAN_FMT(url), beta);
    return ret->base_url ? PD_OK : PD_NOMEM;
}

pd_err ask_path(const struct ask *a, const struct conf_provider *p, struct span model, const char *project,
                struct span client_query, struct arena *arena, struct span *ret)
{
    struct wire_place at = {.model = model,
                            .stream = a->stream,
                            .batch = a->embeds ? a->embeds->list : a->batch,
                            .prompt = a->codec == a->wire->prompt,
                            .project = project,
                            .location = p->region};
    struct span below, query = SPAN_NONE;
    pd_err e = a->wire->path(a->codec->kind, &at, arena, &below);
    if (!e && a->same && !a->wire->version) /* other hosts of a format do not know its parameters */
        e = query_for(client_query, arena, &query);
    if (e)
        return e;
    const char *joint = !query.n ? "" : memchr(below.p, '?', below.n) ? "&" : "?";
    const struct span parts[] = {below, span_str(joint), query};
    char *path = arena_join(arena, parts, sizeof(parts) / sizeof(parts[0]));
    struct conf_provider there;
    e = path ? at_beta(a, p, arena, &there) : PD_NOMEM;
    return e ? e : routing_path(&there, a->wire->name, path, arena, ret);
}

/* ---- the head --------------------------------------------------------------------- */

/* What of a client's head is not the provider's business: the connection's own fields, credentials, and what we set ourselves. */
static bool withheld(struct span name)
{
#define NAME(s)             \
    {                       \
        "" s, sizeof(s) - 1 \
    }
    static const struct span exact[] = {
        NAME("host"),
        NAME("connection"),
        NAME("keep-alive"),
        NAME("proxy-connection"),
        NAME("proxy-authorization"),
        NAME("te"),
        NAME("trailer"),
        NAME("upgrade"),
        NAME("transfer-encoding"),
        NAME("content-length"),
        NAME("content-type"),
        NAME("content-encoding"),
        NAME("expect"),
        NAME("accept"),
        NAME("accept-encoding"),
        NAME("authorization"),
        NAME("x-api-key"),
        NAME("api-key"),
        NAME("x-goog-api-key"),
        NAME("x-goog-user-project"),
        NAME("cookie"),
        NAME("origin"),
        NAME("referer"),
        NAME("forwarded"),
        NAME("via"),
        NAME("x-real-ip"),
        NAME("openai-organization"),
        NAME("openai-project"),
        NAME("idempotency-key"),
        NAME("x-request-id"),
    };
    static const struct span beginnings[] = {
        NAME("x-perdure-"), NAME("x-forwarded-"), NAME("x-stainless-"), NAME("sec-"),
        NAME("x-amz-"),     NAME("amz-sdk-"),     NAME("x-amzn-"),
    };
#undef NAME
    for (size_t i = 0; i < sizeof(exact) / sizeof(exact[0]); i++)
        if (name.n == exact[i].n && span_ieq(name, exact[i]))
            return true;
    for (size_t i = 0; i < sizeof(beginnings) / sizeof(beginnings[0]); i++)
        if (span_ieq(span_upto(name, beginnings[i].n), beginnings[i]))
            return true;
    return false;
}

void ask_put(struct ask_fields *f, const char *name, struct span value)
{
    if (f->count < HTTP1_FIELDS_MAX)
        f->list[f->count++] = (struct http1_field){span_str(name), value};
}

static bool configured(const struct conf_provider *p, struct span name)
{
    for (unsigned i = 0; i < p->headers_count; i++)
        if (span_iis(name, p->headers[i].name))
            return true;
    return false;
}

static struct span accepted(const struct ask *a)
{
    if (!a->stream)
        return SPAN_LIT("application/json");
    switch (a->wire->framing) {
    case FRAMING_EVENTSTREAM:
    case FRAMING_CHUNKS:
        return SPAN_LIT("application/vnd.amazon.eventstream, application/json");
    case FRAMING_LINES:
    case FRAMING_ARRAY:
        break;
    }
    return a->codec->lines ? SPAN_LIT("application/x-ndjson, application/json")
                           : SPAN_LIT("text/event-stream, application/json");
}

static const struct wire *first_wire(const struct conf_provider *p)
{
    return p->wires[0] ? wire_by_name(preset_wire_name(p->wires[0])) : NULL;
}

void ask_head(const struct relay *r, const struct conf_provider *p, const struct ask *a, struct ask_fields *f)
{
    if (a->wire)
        ask_put(f, "Content-Type", SPAN_LIT("application/json"));
    ask_put(f, "Accept", a->wire ? accepted(a) : SPAN_LIT("application/json"));
    ask_put(f, "Accept-Encoding", SPAN_LIT("identity"));
    for (unsigned i = 0; i < p->headers_count; i++)
        ask_put(f, p->headers[i].name, span_str(p->headers[i].value));
    const struct wire *w = a->wire ? a->wire : first_wire(p);
    bool said = !w || !w->header || configured(p, span_str(w->header));
    const struct http1_field *theirs = NULL;
    unsigned n = a->same ? request_headers(r->asked, &theirs) : 0;
    for (unsigned i = 0; i < n && f->count < HTTP1_FIELDS_MAX; i++) {
        bool moved = w && w->betas_in_body && span_iis(theirs[i].name, "anthropic-beta");
        if (moved || withheld(theirs[i].name) || configured(p, theirs[i].name))
            continue;
        said |= w && w->header && span_iis(theirs[i].name, w->header);
        f->list[f->count++] = theirs[i];
    }
    if (!said)
        ask_put(f, w->header, span_str(w->header_value));
}

/* ---- by ourselves ----------------------------------------------------------------- */

static pd_err probe_chat(const struct write_want *want, struct arena *a, struct ask *ask)
{
    struct msg_request m;
    msg_request_init(&m);
    m.max_tokens = PROBE_TOKENS;
    struct msg_turn *t = msg_turn_add(&m, a, MSG_USER);
    struct msg_part *part = t ? msg_part_add(t, a, MSG_PART_TEXT) : NULL;
    if (!part)
        return PD_NOMEM;
    part->text = SPAN_LIT("ping");
    return ask->codec->write_request(&m, want, a, &ask->body);
}

static pd_err probe_embeddings(const struct write_want *want, struct arena *a, struct ask *ask)
{
    static struct embed_input ping = {.text = {"ping", 4}};
    const struct embed_request m = {
        .model = want->model, .first = &ping, .last = &ping, .count = 1, .dimensions = -1};
    return ask->codec->embed->write(&m, want, a, &ask->body);
}

pd_err ask_probe(const struct conf_provider *p, struct span model, const struct codec *client, struct arena *a,
                 struct ask *ret)
{
    bool can = client && (client->kind == CODEC_EMBED || (client->kind == CODEC_CHAT && client->write_request));
    if (!ask_wire(p, model, can ? client : &codec_openai_chat, ret))
        return PD_UNSUPPORTED;
    ret->same = false; /* nothing of a client's goes along */
    ret->stream =
        ret->codec->streams && p->stream != 0; /* its first token says it all: nobody waits for the others */
    buf_init(&ret->body, ASK_BODY_MAX);
    struct write_want want = want_of(p, model, ret);
    pd_err e = ret->codec->kind == CODEC_EMBED ? probe_embeddings(&want, a, ret) : probe_chat(&want, a, ret);
    if (e)
        ask_done(ret);
    return e;
}
