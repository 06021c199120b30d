/* What a checkpoint says, as bytes: the document in its one order of members, the snapshot with its seal, names and keys. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/rnd.h"
#include "checkpoint/checkpoint_priv.h"
#include "parse/date.h"
#include "parse/put.h"
#include "parse/utf8.h"

#include <stdio.h>

enum { ID_TIME_DIGITS = 13, ID_RANDOM_DIGITS = 8 };

/* ---- names ------------------------------------------------------------------------------- */

static int digit(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

void name_to_bytes(const struct content_name *name, char out[NAME_BYTES])
{
    for (int i = 0; i < NAME_BYTES; i++)
        out[i] = (char)(digit(name->hex[2 * i]) << 4 | digit(name->hex[2 * i + 1]));
}

void name_from_bytes(const char *bytes, struct content_name *ret)
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < NAME_BYTES; i++) {
        ret->hex[2 * i] = digits[(unsigned char)bytes[i] >> 4];
        ret->hex[2 * i + 1] = digits[(unsigned char)bytes[i] & 15];
    }
    ret->hex[CONTENT_NAME_BYTES - 1] = '\0';
}

bool checkpoint_agent_fine(struct span s)
{
    if (s.n == 0 || s.n >= CHECKPOINT_AGENT_BYTES || s.p[0] == '.')
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
              c == '.' || c == ':'))
            return false;
    }
    return true;
}

struct span agent_of_id(struct span id)
{
    for (int cut = 0; cut < 2; cut++) {
        const char *at = id.n ? memrchr(id.p, '_', id.n) : NULL;
        if (!at)
            return SPAN_NONE;
        id.n = (size_t)(at - id.p);
    }
    return checkpoint_agent_fine(id) ? id : SPAN_NONE;
}

static bool id_fine(struct span id)
{
    if (id.n >= CHECKPOINT_ID_BYTES || !agent_of_id(id).n)
        return false;
    for (size_t i = 0; i < id.n; i++)
        if (!checkpoint_agent_fine(span_of(id.p + i, 1)) && id.p[i] != '.')
            return false;
    return true;
}

static struct text key_of(struct span agent, char out[OBJECT_KEY_MAX + 1])
{
    struct text t = text_in(out, OBJECT_KEY_MAX + 1);
    text_str(&t, "checkpoints/");
    text_add(&t, agent);
    text_str(&t, "/");
    return t;
}

bool snapshot_key(struct span agent, const char *id, char out[OBJECT_KEY_MAX + 1])
{
    struct span s = span_str(id);
    if (!checkpoint_agent_fine(agent) || (id && !id_fine(s)))
        return false;
    struct text t = key_of(agent, out);
    if (id) {
        text_add(&t, s);
        text_str(&t, ".json.zst");
    }
    return true;
}

bool latest_key(struct span agent, char out[OBJECT_KEY_MAX + 1])
{
    if (!checkpoint_agent_fine(agent))
        return false;
    struct text t = key_of(agent, out);
    text_str(&t, "latest");
    return true;
}

void blob_key(const struct content_name *name, char out[OBJECT_KEY_MAX + 1])
{
    snprintf(out, OBJECT_KEY_MAX + 1, "blobs/%.2s/%s", name->hex, name->hex);
}

/* ---- what is allowed ---------------------------------------------------------------------- */

static pd_err wrong(char *why, size_t why_bytes, pd_err e, const char *what, const char *remedy)
{
    snprintf(why, why_bytes, "%s%s", what, remedy);
    return e;
}

static pd_err check_json(struct span s, const char *what, char *why, size_t why_bytes)
{
    if (s.n && (json_check(s) || !utf8_valid(s)))
        return wrong(why, why_bytes, PD_INVALID, what, " is no JSON");
    return PD_OK;
}

pd_err checkpoint_check_members(const struct checkpoint *cp, char *why, size_t why_bytes)
{
    const struct {
        struct span s;
        const char *what;
    } texts[] = {{cp->task, "task"},           {cp->output_hash, "output_hash"}, {cp->provider, "provider"},
                 {cp->milestone, "milestone"}, {cp->reason, "reason"},           {cp->parent, "parent"}},
      values[] = {{cp->memory, "memory"},     {cp->open_files, "open_files"}, {cp->token_usage, "token_usage"},
                  {cp->progress, "progress"}, {cp->state, "state"},           {cp->conversation, "conversation"}};
    size_t total = 0;
    pd_err e = PD_OK;
    if (!checkpoint_agent_fine(cp->agent))
        return wrong(why, why_bytes, PD_INVALID, "agent_id",
                     " is to be up to 128 letters, digits, '-', '_', '.' and ':'");
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (texts[i].s.n > CHECKPOINT_TEXT_MAX || !utf8_valid(texts[i].s) ||
            (texts[i].s.n && memchr(texts[i].s.p, '\0', texts[i].s.n)))
            return wrong(why, why_bytes, PD_INVALID, texts[i].what,
                         " is to be a text of up to 1,000 bytes, without NUL");
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
        total += values[i].s.n;
    if (total > CHECKPOINT_STATE_MAX - (1 << 20))
        return wrong(why, why_bytes, PD_TOOBIG, "state", " is larger than 63 MB");
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]) && !e; i++)
        e = check_json(values[i].s, values[i].what, why, why_bytes);
    if (!e && cp->messages_count > CHECKPOINT_MESSAGES_MAX)
        e = wrong(why, why_bytes, PD_TOOBIG, "messages", " are more than 100,000");
    return e;
}

pd_err checkpoint_check(const struct checkpoint *cp, char *why, size_t why_bytes)
{
    pd_err e = checkpoint_check_members(cp, why, why_bytes);
    for (size_t i = 0; i < cp->messages_count && !e; i++)
        e = cp->messages[i].n ? check_json(cp->messages[i], "messages", why, why_bytes)
                              : wrong(why, why_bytes, PD_INVALID, "messages", " has an empty one");
    return e;
}

/* ---- the document -------------------------------------------------------------------------- */

static void put_text_member(struct put *p, const char *name, struct span s)
{
    if (!s.n)
        return;
    put_printf(p, ",\"%s\":", name);
    put_json(p, s);
}

static void put_raw_member(struct put *p, const char *name, struct span s, const char *without)
{
    if (!s.n && !without)
        return;
    put_printf(p, ",\"%s\":", name);
    if (s.n)
        put_span(p, span_trim(s));
    else
        put_text(p, without);
}

static void put_document(struct put *p, const struct made *m, const struct content_name *messages)
{
    const struct checkpoint *cp = &m->cp;
    put_text(p, "{\"agent_id\":");
    put_json(p, cp->agent);
    put_printf(p, ",\"checkpoint_id\":\"%s\",\"timestamp\":\"%s\",\"milestone\":", m->id, m->timestamp);
    put_json(p, cp->milestone);
    put_text_member(p, "task", cp->task);
    if (cp->step_index >= 0)
        put_printf(p, ",\"step_index\":%lld", (long long)cp->step_index);
    put_text_member(p, "output_hash", cp->output_hash);
    put_raw_member(p, "memory", cp->memory, NULL);
    put_raw_member(p, "open_files", cp->open_files, NULL);
    put_text_member(p, "provider", cp->provider);
    put_text_member(p, "reason", cp->reason);
    put_text_member(p, "parent", cp->parent);
    put_raw_member(p, "token_usage", cp->token_usage, "{}");
    put_raw_member(p, "progress", cp->progress, "{}");
    put_raw_member(p, "state", cp->state, "null");
    put_raw_member(p, "conversation", cp->conversation, NULL);
    if (cp->messages_count)
        put_printf(p, ",\"messages_count\":%zu,\"messages_sha256\":\"%s\"", cp->messages_count, messages->hex);
    put_text(p, "}");
}

static pd_err name_messages(struct made *m)
{
    buf_clear(&m->names);
    for (size_t i = 0; i < m->cp.messages_count; i++) {
        struct content_name name;
        char bytes[NAME_BYTES];
        pd_err e = content_name_of(m->cp.messages[i], &name);
        if (e)
            return e;
        name_to_bytes(&name, bytes);
        e = buf_add(&m->names, span_of(bytes, NAME_BYTES));
        if (e)
            return e;
    }
    return PD_OK;
}

pd_err made_write(struct made *m)
{
    struct rnd rnd = {rnd_seed()};
    struct content_name messages;
    char seconds[DATE_ISO_BYTES];
    m->made_ms = clock_wall_ms();
    date_format_iso(m->made_ms, seconds);
    snprintf(m->timestamp, sizeof(m->timestamp), "%.19s.%03uZ", seconds, (unsigned)(m->made_ms % 1000));
    snprintf(m->id, sizeof(m->id), "%.*s_%0*llu_%0*x", SPAN_FMT(m->cp.agent), ID_TIME_DIGITS,
             (unsigned long long)m->made_ms, ID_RANDOM_DIGITS, (unsigned)(rnd_next(&rnd) >> 32));
    pd_err e = m->names.tail ? PD_OK : name_messages(m);
    if (!e)
        e = content_name_of(buf_span(&m->names), &messages);
    if (e)
        return e;
    buf_clear(&m->document);
    buf_clear(&m->packed);
    struct put p = put_into(&m->document);
    put_document(&p, m, &messages);
    e = p.err;
    if (!e)
        e = content_name_of(buf_span(&m->document), &m->hash);
    return e ? e : packer_pack(m->packer, buf_span(&m->document), &m->packed);
}

static struct span copy(struct arena *a, struct span s, bool *fine)
{
    if (!s.n)
        return SPAN_NONE;
    char *p = arena_strndup(a, s.p, s.n);
    *fine &= p != NULL;
    return p ? span_of(p, s.n) : SPAN_NONE;
}

static bool copy_all(struct made *m, const struct checkpoint *cp)
{
    bool fine = true;
    struct checkpoint *to = &m->cp;
    const struct span *const from[] = {&cp->agent,       &cp->task,     &cp->output_hash, &cp->memory,
                                       &cp->open_files,  &cp->provider, &cp->milestone,   &cp->token_usage,
                                       &cp->progress,    &cp->state,    &cp->reason,      &cp->parent,
                                       &cp->conversation};
    struct span *const into[] = {&to->agent,    &to->task,      &to->output_hash, &to->memory,   &to->open_files,
                                 &to->provider, &to->milestone, &to->token_usage, &to->progress, &to->state,
                                 &to->reason,   &to->parent,    &to->conversation};
    for (size_t i = 0; i < sizeof(from) / sizeof(from[0]); i++)
        *into[i] = copy(&m->arena, *from[i], &fine);
    struct span *messages =
        cp->messages_count ? arena_alloc(&m->arena, cp->messages_count * sizeof(*messages)) : NULL;
    if (cp->messages_count && !messages)
        return false;
    for (size_t i = 0; i < cp->messages_count; i++)
        messages[i] = copy(&m->arena, cp->messages[i], &fine);
    to->messages = messages;
    return fine;
}

struct made *made_new(const struct checkpoint *cp, bool copied)
{
    struct made *m = mem_zalloc(sizeof(*m));
    if (!m)
        return NULL;
    arena_init(&m->arena, 4096, 0); /* a checkpoint's size, which is limited */
    buf_init(&m->document, 2 * (size_t)CHECKPOINT_STATE_MAX);
    buf_init(&m->packed, 2 * (size_t)CHECKPOINT_STATE_MAX);
    buf_init(&m->names, (size_t)CHECKPOINT_MESSAGES_MAX * NAME_BYTES);
    m->cp = *cp;
    return copied && !copy_all(m, cp) ? made_free(m) : m;
}

struct made *made_free(struct made *m)
{
    if (!m)
        return NULL;
    buf_done(&m->document);
    buf_done(&m->packed);
    buf_done(&m->names);
    arena_done(&m->arena);
    mem_free(m);
    return NULL;
}

/* ---- the snapshot ---------------------------------------------------------------------------- */

static const char seal_key[] = ",\"seal\":";

pd_err sealed_write(struct span document, const struct seal *s, struct span names, struct buf *out)
{
    struct put p = put_into(out);
    if (!span_ends(document, "}"))
        return PD_INVALID;
    put_span(&p, span_upto(document, document.n - 1));
    put_printf(&p, "%s{\"sha256\":\"%s\",\"line\":\"%s\",\"seq\":%lld,\"made_ms\":%llu,\"messages\":[", seal_key,
               s->hash.hex, s->line, (long long)s->seq, (unsigned long long)s->made_ms);
    for (size_t at = 0; at + NAME_BYTES <= names.n; at += NAME_BYTES) {
        struct content_name name;
        name_from_bytes(names.p + at, &name);
        put_printf(&p, "%s\"%s\"", at ? "," : "", name.hex);
    }
    put_text(&p, "]}}");
    return p.err;
}

static bool seal_read(struct json v, struct seal *ret)
{
    int64_t made;
    struct span line = json_inner(json_get(v, "line"));
    *ret = (struct seal){0};
    if (!content_name_read(json_inner(json_get(v, "sha256")), &ret->hash) || line.n >= LINE_BYTES ||
        !json_i64(json_get(v, "seq"), &ret->seq) || !json_i64(json_get(v, "made_ms"), &made))
        return false;
    ret->made_ms = (uint64_t)made;
    text_copy(ret->line, sizeof(ret->line), line);
    return true;
}

static pd_err read_names(struct json list, struct buf *names)
{
    struct json_walk w;
    struct json v;
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &v)) {
        struct content_name name;
        char bytes[NAME_BYTES];
        if (!content_name_read(json_inner(v), &name))
            return PD_INVALID;
        name_to_bytes(&name, bytes);
        pd_err e = buf_add(names, span_of(bytes, NAME_BYTES));
        if (e)
            return e;
    }
    return w.err ? PD_INVALID : PD_OK;
}

bool names_fit(struct span document, struct span names)
{
    struct json v = {JSON_OBJECT, document};
    struct content_name is, want;
    int64_t count = 0;
    struct json n = json_get(v, "messages_count");
    if (n.type == JSON_NONE)
        return names.n == 0;
    return json_i64(n, &count) && (uint64_t)count * NAME_BYTES == names.n &&
           content_name_read(json_inner(json_get(v, "messages_sha256")), &want) &&
           content_name_of(names, &is) == PD_OK && strcmp(is.hex, want.hex) == 0;
}

pd_err sealed_open(struct span snapshot, struct buf *document, struct buf *names, struct seal *ret)
{
    const size_t n = strlen(seal_key);
    struct content_name is;
    if (!span_starts(snapshot, "{") || json_check(snapshot))
        return PD_INVALID;
    struct json seal = json_get((struct json){JSON_OBJECT, snapshot}, "seal");
    size_t at = seal.raw.p ? (size_t)(seal.raw.p - snapshot.p) : 0;
    if (at < n || memcmp(snapshot.p + at - n, seal_key, n) != 0 || !seal_read(seal, ret))
        return PD_INVALID;
    buf_clear(document);
    buf_clear(names);
    pd_err e = buf_add(document, span_upto(snapshot, at - n));
    if (!e)
        e = buf_puts(document, "}");
    if (!e)
        e = content_name_of(buf_span(document), &is);
    if (!e && strcmp(is.hex, ret->hash.hex) != 0)
        e = PD_INVALID;
    if (!e)
        e = read_names(json_get(seal, "messages"), names);
    return e ? e : names_fit(buf_span(document), buf_span(names)) ? PD_OK : PD_INVALID;
}

pd_err document_whole(struct span document, const struct span *contents, size_t n, struct buf *out)
{
    struct put p = put_into(out);
    struct json talk = json_get((struct json){JSON_OBJECT, document}, "conversation");
    size_t first = 0, last = n;
    if (!n || !span_ends(document, "}")) {
        put_span(&p, document);
        return p.err;
    }
    put_span(&p, span_upto(document, document.n - 1));
    if (talk.type == JSON_OBJECT) {
        put_text(&p, ",\"request\":");
        put_span(&p, contents[first++]);
    }
    bool answered = talk.type == JSON_OBJECT && last > first && json_is_true(json_get(talk, "answer"));
    if (answered) {
        put_text(&p, ",\"answer\":");
        put_span(&p, contents[--last]);
    }
    put_text(&p, ",\"messages\":[");
    for (size_t i = first; i < last; i++) {
        put_text(&p, i > first ? "," : "");
        put_span(&p, contents[i]);
    }
    put_text(&p, "]}");
    return p.err;
}

/* ---- the pointer -------------------------------------------------------------------------------- */

pd_err latest_write(const char *id, const struct seal *s, struct buf *out)
{
    return buf_printf(
        out, "{\"checkpoint_id\":\"%s\",\"sha256\":\"%s\",\"line\":\"%s\",\"seq\":%lld,\"made_ms\":%llu}\n", id,
        s->hash.hex, s->line, (long long)s->seq, (unsigned long long)s->made_ms);
}

bool latest_open(struct span text, char ret_id[CHECKPOINT_ID_BYTES], struct seal *ret)
{
    struct json v = {JSON_OBJECT, span_trim(text)};
    if (!span_starts(v.raw, "{") || json_check(v.raw))
        return false;
    struct span id = json_inner(json_get(v, "checkpoint_id"));
    if (!id_fine(id) || !seal_read(v, ret))
        return false;
    text_copy(ret_id, CHECKPOINT_ID_BYTES, id);
    return true;
}
