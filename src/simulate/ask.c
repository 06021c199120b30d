#include "simulate/ask.h"

#include "base/hash.h"
#include "simulate/dialect.h"

#include <openssl/sha.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- base64 ---------------------------------------------------------------- */

static int digit_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+' || c == '-')
        return 62;
    return c == '/' || c == '_' ? 63 : -1;
}

pd_err base64_read(struct span text, struct arena *mem, struct span *ret)
{
    char *out = arena_alloc(mem, text.n / 4 * 3 + 3);
    size_t n = 0;
    uint32_t bits = 0;
    unsigned held = 0;
    if (!out)
        return PD_NOMEM;
    while (text.n && text.p[text.n - 1] == '=')
        text.n--;
    if (text.n % 4 == 1)
        return PD_SYNTAX;
    for (size_t i = 0; i < text.n; i++) {
        int d = digit_of(text.p[i]);
        if (d < 0)
            return PD_SYNTAX;
        bits = bits << 6 | (uint32_t)d;
        held += 6;
        if (held >= 8) {
            held -= 8;
            out[n++] = (char)(bits >> held & 0xff);
        }
    }
    *ret = span_of(out, n);
    return PD_OK;
}

void base64_put(struct put *out, struct span bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = (const unsigned char *)bytes.p;
    char group[4];
    for (size_t i = 0, n = bytes.n; i < n; i += 3) {
        uint32_t v = (uint32_t)p[i] << 16 | (uint32_t)(i + 1 < n ? p[i + 1] : 0) << 8 | (i + 2 < n ? p[i + 2] : 0);
        group[0] = digits[v >> 18 & 63];
        group[1] = digits[v >> 12 & 63];
        group[2] = i + 1 < n ? digits[v >> 6 & 63] : '=';
        group[3] = i + 2 < n ? digits[v & 63] : '=';
        put_span(out, span_of(group, 4));
    }
}

/* ---- refusing -------------------------------------------------------------- */

pd_err ask_refuse(struct reading *r, const char *like, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    r->why->like = like;
    r->why->message = arena_span(r->mem, span_str(text));
    return r->why->message.p ? PD_INVALID : PD_NOMEM;
}

/* ---- putting it together --------------------------------------------------- */

struct said *ask_say(struct reading *r, enum said_role role)
{
    struct said *m = arena_zalloc(r->mem, sizeof(*m));
    if (!m)
        return NULL;
    m->role = role;
    m->index = r->ask->said_count++;
    if (r->ask->said_last)
        r->ask->said_last->next = m;
    else
        r->ask->said = m;
    r->ask->said_last = m;
    return m;
}

struct said_part *ask_part(struct reading *r, struct said *m, enum said_kind kind)
{
    struct said_part *p = arena_zalloc(r->mem, sizeof(*p));
    if (!p)
        return NULL;
    p->kind = kind;
    if (m->last)
        m->last->next = p;
    else
        m->parts = p;
    m->last = p;
    return p;
}

pd_err ask_string(struct reading *r, struct json v, struct span *ret)
{
    *ret = SPAN_LIT("");
    if (v.type != JSON_STRING)
        return PD_OK;
    pd_err err = json_text(v, r->mem, ret);
    if (err == PD_OK && !ret->p)
        *ret = SPAN_LIT("");
    return err == PD_SYNTAX ? ask_refuse(r, "bad_request", "a string has a bad escape") : err;
}

pd_err ask_text(struct reading *r, struct said *m, enum said_kind kind, struct json text)
{
    if (text.type != JSON_STRING)
        return PD_OK;
    struct said_part *p = ask_part(r, m, kind);
    return p ? ask_string(r, text, &p->text) : PD_NOMEM;
}

pd_err ask_content_text(struct reading *r, struct json content, struct span *ret)
{
    struct json_walk w;
    struct json part;
    char *joined = NULL;
    size_t n = 0;
    if (content.type != JSON_ARRAY)
        return ask_string(r, content, ret);
    *ret = SPAN_LIT("");
    json_walk_init(&w, content);
    while (json_walk_next(&w, NULL, &part)) {
        struct span text;
        pd_err err = ask_string(r, part.type == JSON_STRING ? part : json_get(part, "text"), &text);
        if (err != PD_OK)
            return err;
        if (!text.n)
            continue;
        if (!joined && !(joined = arena_alloc(r->mem, content.raw.n)))
            return PD_NOMEM;
        memcpy(joined + n, text.p, text.n);
        n += text.n;
    }
    if (joined)
        *ret = span_of(joined, n);
    return PD_OK;
}

static void hash_media(struct said_part *p, struct span bytes)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    SHA256((const unsigned char *)(bytes.n ? bytes.p : ""), bytes.n, digest);
    for (size_t i = 0; i < sizeof(digest); i++) {
        p->sha256[2 * i] = alphabet_hex[digest[i] >> 4];
        p->sha256[2 * i + 1] = alphabet_hex[digest[i] & 15];
    }
    p->media_bytes = bytes.n;
}

pd_err ask_media(struct reading *r, struct said *m, struct span type, struct json base64)
{
    struct said_part *p = ask_part(r, m, SAID_MEDIA);
    struct span text, bytes;
    if (!p)
        return PD_NOMEM;
    p->media_type = type;
    pd_err err = ask_string(r, base64, &text);
    if (err != PD_OK)
        return err;
    err = base64_read(text, r->mem, &bytes);
    if (err != PD_OK)
        return err == PD_SYNTAX ? ask_refuse(r, "bad_request", "media data is no base64") : err;
    hash_media(p, bytes);
    return PD_OK;
}

pd_err ask_media_url(struct reading *r, struct said *m, struct json url)
{
    struct span text, bytes, type;
    struct said_part *p = ask_part(r, m, SAID_MEDIA);
    pd_err err = p ? ask_string(r, url, &text) : PD_NOMEM;
    if (err != PD_OK)
        return err;
    p->media_type = SPAN_LIT("url");
    p->text = text;
    if (!span_starts(text, "data:"))
        return PD_OK;
    struct span rest = span_from(text, 5);
    type = span_cut(&rest, ',');
    if (!span_ends(type, ";base64"))
        return PD_OK; /* text that is what it is */
    err = base64_read(rest, r->mem, &bytes);
    if (err != PD_OK)
        return err == PD_SYNTAX ? PD_OK : err;
    p->media_type = span_upto(type, type.n - strlen(";base64"));
    p->text = SPAN_NONE;
    hash_media(p, bytes);
    return PD_OK;
}

pd_err ask_tool(struct reading *r, struct span name, struct json schema)
{
    struct ask *a = r->ask;
    if (!a->tools && !(a->tools = arena_alloc(r->mem, sizeof(*a->tools) * 8)))
        return PD_NOMEM;
    if (a->tools_count >= 8 && (a->tools_count & (a->tools_count - 1)) == 0) { /* full at each power of two */
        struct ask_tool *more = arena_alloc(r->mem, sizeof(*more) * a->tools_count * 2);
        if (!more)
            return PD_NOMEM;
        memcpy(more, a->tools, sizeof(*more) * a->tools_count);
        a->tools = more;
    }
    if (a->tools_count == ASK_TOOLS_MAX)
        return ask_refuse(r, "bad_request", "more than %d tools", ASK_TOOLS_MAX);
    a->tools[a->tools_count++] = (struct ask_tool){name, schema};
    return PD_OK;
}

/* ---- looking back ---------------------------------------------------------- */

const struct said_part *ask_call_of(const struct said *m, struct span id, struct span name)
{
    for (const struct said_part *p = m ? m->parts : NULL; p; p = p->next)
        if (p->kind == SAID_CALL && (id.n ? span_eq(p->id, id) : span_eq(p->name, name)))
            return p;
    return NULL;
}

const struct said *ask_before(const struct ask *a, const struct said *m)
{
    const struct said *before = NULL;
    for (const struct said *s = a->said; s && s != m; s = s->next)
        before = s;
    return before;
}

unsigned ask_count(const struct said *m, enum said_kind kind)
{
    unsigned n = 0;
    for (const struct said_part *p = m ? m->parts : NULL; p; p = p->next)
        n += p->kind == kind;
    return n;
}

/* ---- models ---------------------------------------------------------------- */

pd_err ask_path_model(struct reading *r)
{
    struct span in = r->ask->at.model;
    struct buf text;
    char *plain = arena_alloc(r->mem, in.n + 1);
    size_t n = 0;
    if (!plain)
        return PD_NOMEM;
    for (size_t i = 0; i < in.n; i++) {
        char hex[3] = {0};
        char *end;
        if (in.p[i] == '%' && i + 2 < in.n) {
            memcpy(hex, in.p + i + 1, 2);
            long c = strtol(hex, &end, 16);
            if (*end == '\0') {
                plain[n++] = (char)c;
                i += 2;
                continue;
            }
        }
        plain[n++] = in.p[i];
    }
    buf_init(&text, 0);
    struct put out = put_into(&text);
    put_json_inner(&out, span_of(plain, n));
    r->ask->model = out.err == PD_OK ? arena_span(r->mem, buf_span(&text)) : SPAN_NONE;
    buf_done(&text);
    return r->ask->model.p ? PD_OK : PD_NOMEM;
}

bool ask_model_is_claude(struct span model)
{
    return span_ihas(model, "claude") || span_ihas(model, "anthropic");
}

static unsigned number_at(struct span *s)
{
    unsigned v = 0;
    while (s->n && s->p[0] >= '0' && s->p[0] <= '9' && v < 100000000) {
        v = v * 10 + (unsigned)(s->p[0] - '0');
        *s = span_from(*s, 1);
    }
    return v;
}

/* claude-FAMILY-MAJOR[-MINOR][-DATE]: what stands after the family; older names have the number first. */
bool ask_model_refuses_prefill(struct span model)
{
    const char *at = model.n ? memmem(model.p, model.n, "claude-", 7) : NULL;
    if (!at)
        return false;
    struct span rest = span_from(model, (size_t)(at - model.p) + 7);
    if (rest.n && rest.p[0] >= '0' && rest.p[0] <= '9')
        return false; /* claude-3-5-sonnet */
    (void)span_cut(&rest, '-');
    if (!rest.p)
        return false;
    unsigned major = number_at(&rest), minor = 0;
    if (rest.n && (rest.p[0] == '-' || rest.p[0] == '.')) {
        rest = span_from(rest, 1);
        minor = number_at(&rest);
    }
    if (minor > 99) /* that was the date */
        minor = 0;
    return major > 4 || (major == 4 && minor >= 6);
}

/* ---- reading --------------------------------------------------------------- */

static uint64_t hash_said(uint64_t h, const struct said *m)
{
    for (const struct said_part *p = m->parts; p; p = p->next) {
        if (p->kind == SAID_TEXT && p->text.n)
            h = hash_bytes(p->text, h + m->role);
        else if (p->kind == SAID_RESULT)
            h = hash_bytes(SPAN_LIT("result"), h);
    }
    return h;
}

static pd_err join_texts(struct reading *r, const struct said *m, struct span *ret)
{
    size_t n = 0;
    const struct said_part *only = NULL;
    for (const struct said_part *p = m->parts; p; p = p->next)
        if (p->kind == SAID_TEXT) {
            only = p;
            n += p->text.n;
        }
    *ret = only ? only->text : SPAN_LIT("");
    if (!only || only->text.n == n)
        return PD_OK;
    char *text = arena_alloc(r->mem, n + 1);
    if (!text)
        return PD_NOMEM;
    *ret = span_of(text, n);
    for (const struct said_part *p = m->parts; p; p = p->next)
        if (p->kind == SAID_TEXT && p->text.n) {
            memcpy(text, p->text.p, p->text.n);
            text += p->text.n;
        }
    return PD_OK;
}

static pd_err settle_user(struct reading *r, const struct said *m)
{
    struct ask *a = r->ask;
    bool results = ask_count(m, SAID_RESULT) > 0, texts = ask_count(m, SAID_TEXT) > 0;
    if (texts || !results) {
        pd_err err = join_texts(r, m, &a->last_user);
        if (err != PD_OK)
            return err;
    }
    if (!results) {
        a->tool_results = false;
        a->last_tool = SPAN_NONE;
        a->media = NULL;
    }
    for (const struct said_part *p = m->parts; p; p = p->next) {
        if (p->kind == SAID_RESULT) {
            a->tool_results = true;
            a->last_tool = p->text.p ? p->text : SPAN_LIT("");
        } else if (p->kind == SAID_MEDIA) {
            a->media = m;
        }
    }
    return PD_OK;
}

/* The longest end of `text` that is quoted in `in`. */
static struct span quoted_end(struct span text, struct span in)
{
    size_t least = text.n < ASK_ANCHOR_LEAST ? text.n : ASK_ANCHOR_LEAST;
    size_t n = text.n < ASK_ANCHOR_MOST ? text.n : ASK_ANCHOR_MOST;
    for (; n >= least && n > 0; n--)
        if (in.n >= n && memmem(in.p, in.n, text.p + text.n - n, n))
            return span_from(text, text.n - n);
    return SPAN_NONE;
}

/* Does the last turn, the user's, quote the end of the answer before it? */
static pd_err find_going_on(struct reading *r, const struct said *answer, const struct ask *then)
{
    struct ask *a = r->ask;
    struct span text;
    if (!answer || answer->next != a->said_last || a->said_last->role != SAID_USER ||
        ask_count(a->said_last, SAID_RESULT) || ask_count(answer, SAID_CALL))
        return PD_OK;
    pd_err err = join_texts(r, answer, &text);
    if (err != PD_OK || !text.n)
        return err;
    a->anchor = quoted_end(text, a->last_user);
    if (!a->anchor.n) { /* blanks at its end do not count */
        size_t n = text.n;
        while (n && memchr(" \t\r\n", text.p[n - 1], 4))
            n--;
        a->anchor = quoted_end(span_upto(text, n), a->last_user);
    }
    if (!a->anchor.n)
        return PD_OK;
    struct ask *copy = arena_alloc(r->mem, sizeof(*copy));
    if (!copy)
        return PD_NOMEM;
    *copy = *then;
    copy->last = copy->last_tool.p ? copy->last_tool : copy->last_user;
    a->so_far = text;
    a->then = copy;
    return PD_OK;
}

static pd_err ask_settle(struct reading *r)
{
    struct ask *a = r->ask;
    const struct said *trailing = NULL;
    uint64_t before = 0;
    const struct said *answer = NULL; /* the last one */
    struct ask then = *a;
    for (const struct said *m = a->said; m; m = m->next) {
        trailing = m->role == SAID_ASSISTANT ? m : NULL;
        if (trailing) {
            answer = m;
            then = *a;
        }
        before = trailing ? a->conversation : before;
        if (m->role == SAID_ASSISTANT)
            a->steps++;
        else if (m->role == SAID_USER) {
            pd_err err = settle_user(r, m);
            if (err != PD_OK)
                return err;
        }
        if (m->role != SAID_SYSTEM)
            a->conversation = hash_said(a->conversation, m);
    }
    a->last = a->last_tool.p ? a->last_tool : a->last_user;
    if (!trailing)
        return find_going_on(r, answer, &then);
    a->conversation = before;
    if (ask_count(trailing, SAID_CALL))
        return PD_OK;
    a->steps--;
    return join_texts(r, trailing, &a->prefill);
}

enum prefill_way ask_prefill_way(const struct script_provider *conf, const struct ask *a)
{
    if (conf->prefill != PREFILL_DEFAULT)
        return (enum prefill_way)conf->prefill;
    if (a->at.dialect == SIM_RESPONSES || a->at.dialect == SIM_GEMINI)
        return PREFILL_IGNORE;
    if (a->at.dialect != SIM_CHAT)
        return PREFILL_HONOUR;
    switch (conf->style->continues) {
    case CONTINUES_TRAILING:
        return PREFILL_HONOUR;
    case CONTINUES_PREFIX:
        if (style_is_mistral(conf->style, SPAN_NONE))
            return a->prefixed ? PREFILL_HONOUR : PREFILL_REFUSE;
        return a->prefixed && a->at.beta ? PREFILL_HONOUR : a->prefixed ? PREFILL_REFUSE : PREFILL_IGNORE;
    case CONTINUES_FINAL:
        return a->final ? PREFILL_HONOUR : PREFILL_IGNORE;
    case CONTINUES_NOT:
        break;
    }
    return PREFILL_IGNORE;
}

static pd_err check_prefill(struct reading *r)
{
    static const char *const says[SIM_DIALECT_COUNT] = {
        [SIM_RESPONSES] = "Invalid input: the last item must not be an assistant message.",
        [SIM_MESSAGES] = "This model does not support assistant message prefill. The conversation must end with a "
                         "user message.",
        [SIM_GEMINI] = "Please ensure that multiturn requests end with a user role or a function response.",
        [SIM_CONVERSE] = "The model returned the following errors: This model does not support assistant message "
                         "prefill. The conversation must end with a user message.",
    };
    const struct style *style = r->conf->style;
    const char *text = says[r->ask->at.dialect];
    if (!r->ask->prefill.p || ask_prefill_way(r->conf, r->ask) != PREFILL_REFUSE)
        return PD_OK;
    if (r->ask->at.dialect == SIM_CHAT && style_is_mistral(style, SPAN_NONE))
        text = "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant";
    else if (r->ask->at.dialect == SIM_CHAT && style->continues == CONTINUES_PREFIX)
        text = "prefix is only supported at the beta endpoint: set base_url to https://api.deepseek.com/beta";
    return ask_refuse(r, "bad_request", "%s", text ? text : "The last message must be from the user.");
}

pd_err ask_read(struct reading *r, const struct endpoint *at)
{
    *r->ask = (struct ask){.at = *at, .n = 1, .max_tokens = -1, .parallel = -1, .streamed = at->streamed};
    *r->why = (struct refusal){.like = "bad_request"};
    if (json_check(r->body) != PD_OK || json_first(r->body, &r->ask->root, NULL) != PD_OK ||
        r->ask->root.type != JSON_OBJECT)
        return ask_refuse(r, "bad_request", "the body is not JSON");
    pd_err err = sim_dialects[at->dialect]->read(r);
    if (err == PD_OK && r->ask->prompt_tokens == 0)
        r->ask->prompt_tokens = r->body.n / 4 + 1;
    if (err == PD_OK)
        err = ask_settle(r);
    return err == PD_OK ? check_prefill(r) : err;
}
