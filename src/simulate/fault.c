#include "simulate/fault.h"

#include "base/mem.h"

#include <stdio.h>

const struct fault_kind_row fault_kinds[FAULT_KIND_COUNT] = {
#define X(code, name, where, what) [FAULT_##code] = {name, what, FAULT_ACTS_##where},
    FAULT_KINDS(X)
#undef X
};

static const struct key_word kind_words[] = {
#define X(code, name, where, what) {name, FAULT_##code},
    FAULT_KINDS(X)
#undef X
        {NULL, 0},
};
static const struct key_word on_words[] = {
    {"chat", FAULT_ON_CHAT},
    {"embeddings", FAULT_ON_EMBEDDINGS},
    {"models", FAULT_ON_MODELS},
    {"count", FAULT_ON_COUNT},
    {"any", FAULT_ON_CHAT | FAULT_ON_EMBEDDINGS | FAULT_ON_MODELS | FAULT_ON_COUNT},
    {NULL, 0},
};
static const struct key_word dialect_words[] = {
    {"any", 0},
#define X(code, name, what) {#name, 1 + SIM_##code},
    SIM_DIALECTS(X)
#undef X
        {NULL, 0},
};
static const struct key_word when_words[] = {
    {"any", FAULT_WHEN_ANY},       {"streamed", FAULT_WHEN_STREAMED}, {"whole", FAULT_WHEN_WHOLE},
    {"reused", FAULT_WHEN_REUSED}, {"fresh", FAULT_WHEN_FRESH},       {NULL, 0},
};
static const struct key_word shape_words[] = {
    {"json", FAULT_SHAPE_JSON},
    {"truncated", FAULT_SHAPE_TRUNCATED},
    {"html", FAULT_SHAPE_HTML},
    {"binary", FAULT_SHAPE_BINARY},
    {"text", FAULT_SHAPE_TEXT},
    {"crc", FAULT_SHAPE_CRC},
    {"field", FAULT_SHAPE_FIELD},
    {"body", FAULT_SHAPE_BODY},
    {"no_choices", FAULT_SHAPE_NO_CHOICES},
    {"no_content", FAULT_SHAPE_NO_CONTENT},
    {"size", FAULT_SHAPE_SIZE},
    {"line", FAULT_SHAPE_LINE},
    {"overflow", FAULT_SHAPE_OVERFLOW},
    {"nothing", FAULT_SHAPE_NOTHING},
    {"comments", FAULT_SHAPE_COMMENTS},
    {"pings", FAULT_SHAPE_PINGS},
    {"blank", FAULT_SHAPE_BLANK},
    {"missing", FAULT_SHAPE_MISSING},
    {"type", FAULT_SHAPE_TYPE},
    {"name", FAULT_SHAPE_NAME},
    {"object", FAULT_SHAPE_ERROR + SHAPE_OBJECT},
    {"event", FAULT_SHAPE_ERROR + SHAPE_EVENT},
    {"bare", FAULT_SHAPE_ERROR + SHAPE_BARE},
    {"done", FAULT_SHAPE_ERROR + SHAPE_DONE},
    {"chunk", FAULT_SHAPE_ERROR + SHAPE_CHUNK},
    {"string", FAULT_SHAPE_ERROR + SHAPE_STRING},
    {NULL, 0},
};

static const struct key_word at_words[] = {
    {"reasoning", FAULT_AT_REASONING},
    {"text", FAULT_AT_TEXT},
    {"character", FAULT_AT_CHARACTER},
    {"id", FAULT_AT_ID},
    {"name", FAULT_AT_NAME},
    {"arguments", FAULT_AT_ARGUMENTS},
    {"calls", FAULT_AT_CALLS},
    {"finish", FAULT_AT_FINISH},
    {NULL, 0},
};

#define AT(field) offsetof(struct fault, field)
const struct key_row fault_keys[] = {
    /* which requests get it */
    {"fault", KEY_WORD, AT(kind), kind_words, "which fault: one of the names above", NULL},
    {"times", KEY_COUNT, AT(times), NULL,
     "how many requests get it; 0: all that it applies to. When not given 0 beside rate, from, to, since, until "
     "or match, else 1",
     NULL},
    {"rate", KEY_RATIO, AT(rate), NULL, "the share of the requests that get it, drawn from the seed", NULL},
    {"from", KEY_COUNT, AT(from), NULL, "from this request on, counted from 1 since the list was set", NULL},
    {"to", KEY_COUNT, AT(to), NULL, "up to this request", NULL},
    {"since", KEY_TIME, AT(since_us), NULL, "from this time on, since the list was set", NULL},
    {"until", KEY_TIME, AT(until_us), NULL, "up to this time", NULL},
    {"match", KEY_TEXT, AT(match), NULL, "only requests whose body contains this text", NULL},
    {"on", KEY_WORDS, AT(on), on_words,
     "chat (answers, in every dialect), embeddings, models, count or any; chat+embeddings when not given", NULL},
    {"dialect", KEY_WORD, AT(dialect), dialect_words, "only requests in this dialect; any when not given", NULL},
    {"when", KEY_WORD, AT(when), when_words, "streamed or whole answers; reused or fresh connections", NULL},
    /* speed: of any fault that answers */
    {"ttft", KEY_TIME, AT(ttft_us), NULL, "wait before the first token", NULL},
    {"token_delay", KEY_TIME, AT(token_delay_us), NULL, "wait between tokens", NULL},
    {"jitter", KEY_RATIO, AT(jitter), NULL, "both waits vary by this share", NULL},
    /* what it does */
    {"drift", KEY_TIME, AT(drift_us), NULL, "added to ttft with every request that gets this fault", " slow "},
    {"after", KEY_COUNT, AT(after), NULL,
     "tokens before it strikes; 10 when not given (hold and reset: before the answer)",
     " hold reset cut early_end early_done finish stall error_in_stream malformed huge bad_chunk "},
    {"after_bytes", KEY_COUNT, AT(after_bytes), NULL, "bytes of the body before it strikes, in place of `after`",
     " hold reset cut early_end early_done finish stall error_in_stream malformed huge bad_chunk "},
    {"at", KEY_WORD, AT(at), at_words,
     "where it strikes: within the reasoning, the text, a character of several bytes, the id, name or arguments "
     "of a "
     "tool call, before a further one (calls), or between the reason of the end and its mark (finish)",
     " hold reset cut early_end early_done finish stall error_in_stream malformed huge bad_chunk "},
    {"call", KEY_COUNT, AT(call), NULL, "which tool call `at` speaks of; 1 when not given (calls: 2)",
     " hold reset cut early_end early_done finish stall error_in_stream malformed huge bad_chunk "},
    {"status", KEY_COUNT, AT(status), NULL, "HTTP status; in errors inside a 200 the status they speak of",
     " status error_in_200 error_in_stream interim "},
    {"like", KEY_TEXT, AT(like), NULL, "an error by name: rate_limit, quota, context_length, overloaded, ...",
     " status error_in_200 error_in_stream "},
    {"message", KEY_TEXT, AT(message), NULL, "error text", " status error_in_200 error_in_stream "},
    {"type", KEY_TEXT, AT(type), NULL, "error type", " status error_in_200 error_in_stream "},
    {"code", KEY_TEXT, AT(code), NULL, "error code", " status error_in_200 error_in_stream "},
    {"headers", KEY_HEADERS, AT(headers), NULL, "headers added to the answer", NULL},
    {"body", KEY_BODY, AT(body), NULL, "the whole body, in place of the style's envelope",
     " status error_in_200 malformed "},
    {"html", KEY_BOOL, AT(html), NULL, "an HTML page as body, as an edge proxy sends it", " status error_in_200 "},
    {"before_body", KEY_BOOL, AT(before_body), NULL, "answers as soon as the request's head is there", " status "},
    {"content_type", KEY_TEXT, AT(content_type), NULL, "the content type of the answer",
     " status error_in_200 wrong_type empty "},
    {"shape", KEY_WORD, AT(shape), shape_words, "which form of it; see the fault",
     " stall error_in_stream malformed empty bad_chunk unfit "},
    {"for", KEY_TIME, AT(for_us), NULL, "how long; without it for ever (keepalive: 3s)",
     " stall hold refuse keepalive silent "},
    {"every", KEY_TIME, AT(every_us), NULL, "time between two comments, pings or bytes",
     " stall keepalive slow_head "},
    {"text", KEY_TEXT, AT(text), NULL, "text of the comment", " stall keepalive "},
    {"count", KEY_COUNT, AT(count), NULL, "how many frames or heads; 1 when not given", " malformed interim "},
    {"bytes", KEY_COUNT, AT(bytes), NULL,
     "size of the event (1000000), how much is missing (100), or bytes of the character that are sent (1)",
     " huge short_length cut reset early_end stall "},
    {"reason", KEY_TEXT, AT(reason), NULL, "finish_reason; length when not given", " finish "},
};
#undef AT
const unsigned fault_keys_count = sizeof(fault_keys) / sizeof(fault_keys[0]);

const char *fault_name(unsigned kind)
{
    return kind < FAULT_KIND_COUNT ? fault_kinds[kind].name : "";
}

bool fault_key_known(struct span key)
{
    return key_find(fault_keys, fault_keys_count, key) != NULL;
}

/* ---- reading -------------------------------------------------------------- */

static pd_err check(struct reader *r, struct json v, const struct fault *f)
{
    bool framed = f->kind == FAULT_INTERIM;
    if (f->status >= 0 && (framed ? f->status < 102 || f->status > 199 : f->status < 200 || f->status > 599))
        return reader_fail(r, v.raw, "status is %lld: write %s", (long long)f->status,
                           framed ? "102 to 199" : "200 to 599");
    if (f->kind == FAULT_STATUS && f->status < 0 && !f->like.p)
        return reader_fail(
            r, v.raw, "the fault \"status\" needs a status: write \"status\": 529 or \"like\": \"overloaded\"");
    if (f->like.p && !error_like_find(f->like)) {
        char list[400];
        size_t n = 0;
        for (unsigned i = 0; i < error_likes_count && n < sizeof(list) - 40; i++)
            n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", n ? ", " : "", error_likes[i].name);
        return reader_fail(r, v.raw, "no error is named \"%.*s\": write one of %s",
                           SPAN_FMT(span_upto(f->like, 40)), list);
    }
    if (f->bytes > FAULT_BYTES_MAX)
        return reader_fail(r, v.raw, "bytes is %lld: write at most %d", (long long)f->bytes, FAULT_BYTES_MAX);
    if (f->to && f->to < f->from)
        return reader_fail(r, v.raw, "to is before from: write from first, as \"from\": 3, \"to\": 7");
    if (f->before_body && (f->match.p || f->when == FAULT_WHEN_STREAMED || f->when == FAULT_WHEN_WHOLE))
        return reader_fail(r, v.raw,
                           "before_body cannot go with match or when: the body is not read then; take one out");
    return PD_OK;
}

static pd_err shape_fits(struct reader *r, struct json v, const struct fault *f)
{
    static const struct {
        unsigned kind, first, last;
        const char *expected;
    } rows[] = {
        {FAULT_MALFORMED, FAULT_SHAPE_JSON, FAULT_SHAPE_FIELD,
         "json, truncated, html, binary, text, crc or field"},
        {FAULT_EMPTY, FAULT_SHAPE_BODY, FAULT_SHAPE_NO_CONTENT, "body, no_choices or no_content"},
        {FAULT_BAD_CHUNK, FAULT_SHAPE_SIZE, FAULT_SHAPE_OVERFLOW, "size, line or overflow"},
        {FAULT_UNFIT, FAULT_SHAPE_TRUNCATED, FAULT_SHAPE_TRUNCATED, "truncated, missing, type or name"},
        {FAULT_STALL, FAULT_SHAPE_NOTHING, FAULT_SHAPE_BLANK, "nothing, comments, pings or blank"},
        {FAULT_ERROR_IN_STREAM, FAULT_SHAPE_ERROR + SHAPE_OBJECT, FAULT_SHAPE_ERROR + SHAPE_STRING,
         "object, event, bare, done, chunk or string"},
    };
    for (size_t i = 0; f->shape && i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i].kind == f->kind && (f->shape < rows[i].first || f->shape > rows[i].last) &&
            !(f->kind == FAULT_UNFIT && f->shape >= FAULT_SHAPE_MISSING && f->shape <= FAULT_SHAPE_NAME))
            return reader_fail(r, v.raw, "this shape is not one of \"%s\": write %s", fault_name(f->kind),
                               rows[i].expected);
    return PD_OK;
}

static bool key_fits(const struct key_row *row, unsigned kind)
{
    char pattern[40];
    snprintf(pattern, sizeof(pattern), " %s ", fault_name(kind));
    return !row->kinds || strstr(row->kinds, pattern) != NULL;
}

static pd_err key_unknown(struct reader *r, struct span key, unsigned kind)
{
    char own[300];
    return reader_fail(r, key,
                       "\"%.*s\" is no key of the fault \"%s\": its own are %s; for all: times, rate, from, to, "
                       "since, until, match, on, dialect, "
                       "when, headers, ttft, token_delay, jitter",
                       SPAN_FMT(span_upto(key, 40)), fault_name(kind),
                       key_names(fault_keys, fault_keys_count, fault_name(kind), own, sizeof(own))[0] ? own
                                                                                                      : "none");
}

pd_err fault_read(struct reader *r, struct json v, struct fault *ret)
{
    struct fault f = {.times = -1,
                      .status = -1,
                      .after = -1,
                      .after_bytes = -1,
                      .call = -1,
                      .count = -1,
                      .bytes = -1,
                      .for_us = -1,
                      .every_us = -1,
                      .ttft_us = -1,
                      .token_delay_us = -1,
                      .drift_us = -1,
                      .jitter = -1,
                      .on = FAULT_ON_CHAT | FAULT_ON_EMBEDDINGS};
    if (v.type == JSON_STRING) { /* "cut" is short for {"fault": "cut"} */
        pd_err err = read_value(r, &fault_keys[0], v, &f.kind);
        f.times = 1;
        *ret = f;
        return err != PD_OK ? err : check(r, v, &f);
    }
    if (v.type != JSON_OBJECT)
        return reader_fail(r, v.raw, "a fault is an object: write {\"fault\": \"cut\", \"after\": 10}");
    struct json kind = json_get(v, "fault");
    if (kind.type == JSON_NONE)
        return reader_fail(
            r, v.raw, "a fault without a name: write \"fault\": \"cut\", or another of `perdure simulate --help`");
    pd_err err = read_value(r, &fault_keys[0], kind, &f.kind);

    struct json_walk w;
    struct json value;
    struct span key;
    json_walk_init(&w, v);
    while (err == PD_OK && json_walk_next(&w, &key, &value)) {
        const struct key_row *row = key_find(fault_keys, fault_keys_count, key);
        if (!row || !key_fits(row, f.kind))
            return key_unknown(r, key, f.kind);
        err = read_value(r, row, value, (char *)&f + row->offset);
    }
    if (err != PD_OK)
        return err;
    if (w.err != PD_OK)
        return reader_fail(r, w.rest, "this is not JSON: look for a missing comma, quote or brace");
    if (f.times < 0)
        f.times = f.rate > 0 || f.from || f.to || f.since_us || f.until_us || f.match.p ? 0 : 1;
    err = shape_fits(r, v, &f);
    *ret = f;
    return err != PD_OK ? err : check(r, v, &f);
}

pd_err fault_read_list(struct reader *r, struct json v, struct fault **ret_rows, unsigned *ret_count)
{
    struct json_walk w;
    struct json item;
    unsigned count = 0;
    char where[READ_WHERE];
    snprintf(where, sizeof(where), "%s", r->where);

    if (v.type == JSON_ARRAY) {
        json_walk_init(&w, v);
        while (json_walk_next(&w, NULL, &item))
            count++;
    } else {
        count = 1;
    }
    if (count > FAULT_ROWS_MAX)
        return reader_fail(r, v.raw, "more than %d faults: use times, rate or from and to", FAULT_ROWS_MAX);
    struct fault *rows = arena_alloc(r->mem, sizeof(*rows) * (count ? count : 1));
    if (!rows)
        return PD_NOMEM;
    json_walk_init(&w, v);
    for (unsigned i = 0; i < count; i++) {
        item = v;
        if (v.type == JSON_ARRAY && !json_walk_next(&w, NULL, &item))
            break;
        snprintf(r->where, sizeof(r->where), "%.150s%sfault %u", where, where[0] ? ", " : "", i + 1);
        pd_err err = fault_read(r, item, &rows[i]);
        if (err != PD_OK)
            return err;
    }
    memcpy(r->where, where, sizeof(where));
    *ret_rows = rows;
    *ret_count = count;
    return PD_OK;
}

/* ---- sets ----------------------------------------------------------------- */

struct fault_set *fault_set_new(uint64_t now_us)
{
    struct fault_set *s = mem_zalloc(sizeof(*s));
    if (!s)
        return NULL;
    s->refs = 1;
    s->began_us = now_us;
    arena_init(&s->mem, 0, 0);
    return s;
}

struct fault_set *fault_set_ref(struct fault_set *s)
{
    s->refs++;
    return s;
}

struct fault_set *fault_set_unref(struct fault_set *s)
{
    if (s && --s->refs == 0) {
        arena_done(&s->mem);
        mem_free(s);
    }
    return NULL;
}

void fault_struck(struct fault_set *s, const struct fault *f)
{
    for (unsigned i = 0; s && i < s->count; i++)
        if (f == &s->rows[i])
            s->rows[i].struck++;
}

/* ---- picking -------------------------------------------------------------- */

static bool in_time(const struct fault *f, uint64_t number, int64_t age_us)
{
    if ((int64_t)number < f->from || (f->to && (int64_t)number > f->to))
        return false;
    return age_us >= f->since_us && (!f->until_us || age_us < f->until_us);
}

static bool fits(const struct fault *f, const struct fault_query *ask)
{
    if (!(f->on & ask->on) || (ask->head_only && !f->before_body))
        return false;
    if (f->dialect && f->dialect != 1 + (unsigned)ask->dialect)
        return false;
    switch ((enum fault_when)f->when) {
    case FAULT_WHEN_ANY:
        break;
    case FAULT_WHEN_STREAMED:
        if (!ask->streamed)
            return false;
        break;
    case FAULT_WHEN_WHOLE:
        if (ask->streamed)
            return false;
        break;
    case FAULT_WHEN_REUSED:
        if (!ask->reused)
            return false;
        break;
    case FAULT_WHEN_FRESH:
        if (ask->reused)
            return false;
        break;
    }
    return !f->match.n ||
           (ask->body.n >= f->match.n && memmem(ask->body.p, ask->body.n, f->match.p, f->match.n) != NULL);
}

/* The same for the same seed, request and row, so that a question asked twice has one answer. */
static bool drawn(const struct fault *f, uint64_t seed, uint64_t number, unsigned row)
{
    if (f->rate <= 0)
        return true;
    struct rnd rnd = {seed ^ (number * 0x9e3779b97f4a7c15u) ^ ((uint64_t)row << 48)};
    (void)rnd_next(&rnd);
    return rnd_unit(&rnd) < f->rate;
}

const struct fault *fault_pick(struct fault_set *s, const struct fault_query *ask)
{
    uint64_t number = s->requests + 1;
    int64_t age_us = ask->now_us > s->began_us ? (int64_t)(ask->now_us - s->began_us) : 0;
    for (unsigned i = 0; i < s->count; i++) {
        struct fault *f = &s->rows[i];
        if ((f->times && f->used >= f->times) || !in_time(f, number, age_us) || !drawn(f, ask->seed, number, i))
            continue;
        if (!fits(f, ask)) {
            /* An entry that waits for its turn keeps later ones from overtaking it while only the head is known. */
            if (ask->head_only && (f->on & ask->on) && !f->match.n && f->when == FAULT_WHEN_ANY)
                return NULL;
            continue;
        }
        f->used++;
        s->requests = number;
        return f;
    }
    if (!ask->head_only)
        s->requests = number;
    return NULL;
}
