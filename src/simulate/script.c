#include "simulate/script.h"

#include "base/mem.h"
#include "simulate/varied.h"

#include <stdio.h>

const struct key_word prefill_words[] = {
#define X(code, name, what) {name, code},
    PREFILLS(X)
#undef X
        {NULL, 0},
};
const struct key_word going_on_words[] = {
#define X(code, name, what) {name, code},
    GOINGS_ON(X)
#undef X
        {NULL, 0},
};

#define AT(field) offsetof(struct script_provider, field)
const struct key_row provider_keys[] = {
    {"port", KEY_COUNT, AT(port), NULL, "where it listens; 0: a free port", NULL},
    {"style", KEY_TEXT, AT(style_name), NULL, "whose habits it has; openai when not given", NULL},
    {"framing", KEY_WORDS, AT(framing), frame_words,
     "how its streams are framed, several joined by \"+\"; sse when not given", NULL},
    {"models", KEY_LIST, AT(models), NULL, "the models it has; without it any name is served", NULL},
    {"answer", KEY_TEXT, AT(answer), NULL,
     "the text of every plain answer; else made from the seed and the conversation", NULL},
    {"tokens", KEY_COUNT, AT(tokens), NULL, "words of an answer; 40 when not given", NULL},
    {"varied", KEY_BOOL, AT(varied), NULL,
     "answers and arguments are numbered items of words that differ with every request, each with a checksum",
     NULL},
    {"items", KEY_COUNT, AT(items), NULL, "of a varied answer; 12 when not given", NULL},
    {"preface", KEY_BOOL, AT(preface), NULL, "a text goes before tool calls", NULL},
    {"prefill", KEY_WORD, AT(prefill), prefill_words,
     "a request that ends in the beginning of an answer: honour (goes on there), echo_all or echo_words (repeats "
     "all "
     "of it, or its last words, and goes on), ignore (answers afresh), refuse (400); as the real server when not "
     "given",
     NULL},
    {"continue", KEY_WORD, AT(going_on), going_on_words,
     "a last user turn that quotes the end of the answer before it: anchor (repeats the quoted words and goes on; "
     "when not given), plain (goes on), chatty (says something else first), afresh (begins again)",
     NULL},
    {"reasoning", KEY_COUNT, AT(reasoning), NULL,
     "words of reasoning before an answer; for models named ...reason... 12 when not given", NULL},
    {"parallel", KEY_COUNT, AT(parallel), NULL, "tool calls in one answer", NULL},
    {"dimensions", KEY_COUNT, AT(dimensions), NULL, "of embeddings; 256 when not given", NULL},
    {"concurrency", KEY_COUNT, AT(concurrency), NULL, "requests at once; over it 429", NULL},
    {"ttft", KEY_TIME, AT(ttft_us), NULL, "wait before the first token", NULL},
    {"token_delay", KEY_TIME, AT(token_delay_us), NULL, "wait between tokens", NULL},
    {"jitter", KEY_RATIO, AT(jitter), NULL, "both waits vary by this share", NULL},
    {"drift", KEY_TIME, AT(drift_us), NULL, "added to ttft with every request", NULL},
    {"key", KEY_TEXT, AT(key), NULL,
     "the API key it asks for, in the header of each dialect; without it any or none will do", NULL},
    {"aws", KEY_TEXT, AT(aws), NULL,
     "KEYID:SECRET: Bedrock requests must be signed (SigV4) with it, not longer than 5 minutes ago", NULL},
    {"headers", KEY_HEADERS, AT(headers), NULL, "headers of every answer", NULL},
    {"gemini_ids", KEY_BOOL, AT(gemini_ids), NULL, "function calls of the Gemini dialect have ids", NULL},
    {"head_early", KEY_BOOL, AT(head_early), NULL, "the head is sent at once, not with the first token", NULL},
    {"comment_every", KEY_TIME, AT(comment_every_us), NULL,
     "time between comments while the first token is awaited; 1s when not given", NULL},
    {"idle_close", KEY_TIME, AT(idle_close_us), NULL,
     "kept-alive connections are closed after this time without a request", NULL},
    {"fingerprint", KEY_TEXT, AT(fingerprint), NULL, "system_fingerprint", NULL},
    {"up", KEY_TIME, AT(flap_up_us), NULL, "flapping: how long it is good", NULL},
    {"down", KEY_TIME, AT(flap_down_us), NULL, "flapping: how long it is bad (503, or the fault of `flapping`)",
     NULL},
};
#undef AT
const unsigned provider_keys_count = sizeof(provider_keys) / sizeof(provider_keys[0]);

struct script *script_new(void)
{
    struct script *s = mem_zalloc(sizeof(*s));
    if (!s)
        return NULL;
    arena_init(&s->mem, 4096, 0);
    s->control = -1;
    s->seed = 1;
    s->host = SPAN_LIT("127.0.0.1");
    s->providers = arena_zalloc(&s->mem, sizeof(*s->providers) * SCRIPT_PROVIDERS_MAX);
    return s->providers ? s : script_free(s);
}

struct script *script_free(struct script *s)
{
    if (!s)
        return NULL;
    for (unsigned i = 0; i < s->regexes_count; i++)
        regfree(s->regexes[i]);
    arena_done(&s->mem);
    mem_free(s);
    return NULL;
}

/* ---- turns ---------------------------------------------------------------- */

static pd_err read_calls(struct reader *r, struct json v, struct turn *t)
{
    struct json_walk w;
    struct json item;
    if (v.type != JSON_ARRAY)
        return reader_fail(
            r, v.raw, "tool_calls is no list: write [{\"name\": \"read\", \"arguments\": {\"path\": \"a.txt\"}}]");
    t->calls = arena_alloc(r->mem, sizeof(*t->calls) * SCRIPT_CALLS_MAX);
    if (!t->calls)
        return PD_NOMEM;
    json_walk_init(&w, v);
    while (json_walk_next(&w, NULL, &item)) {
        if (t->calls_count == SCRIPT_CALLS_MAX)
            return reader_fail(r, item.raw, "more than %d tool calls in one turn: use another turn",
                               SCRIPT_CALLS_MAX);
        struct script_call *c = &t->calls[t->calls_count++];
        struct json name = json_get(item, "name"), arguments = json_get(item, "arguments");
        if (name.type != JSON_STRING)
            return reader_fail(r, item.raw,
                               "a tool call without a name: write {\"name\": \"read\", \"arguments\": {...}}");
        pd_err err = read_text(r, "name", name, &c->name);
        c->arguments = arguments.type == JSON_NONE ? SPAN_LIT("{}") : arguments.raw;
        if (err == PD_OK && arguments.type == JSON_STRING) /* as it goes over the wire, broken JSON included */
            err = read_text(r, "arguments", arguments, &c->arguments);
        if (err != PD_OK)
            return err;
    }
    return PD_OK;
}

static pd_err read_regex(struct script *s, struct reader *r, struct json v, struct turn *t)
{
    char why[100];
    struct span text;
    pd_err err = read_text(r, "regex", v, &text);
    if (err != PD_OK)
        return err;
    char *pattern = arena_strndup(r->mem, text.p, text.n);
    t->regex = arena_alloc(r->mem, sizeof(*t->regex));
    if (s->regexes_count == s->regexes_room) {
        unsigned room = s->regexes_room ? s->regexes_room * 2 : 16;
        regex_t **more = arena_alloc(r->mem, room * sizeof(*more));
        if (!more)
            return PD_NOMEM;
        if (s->regexes_count)
            memcpy(more, s->regexes, s->regexes_count * sizeof(*more));
        s->regexes = more;
        s->regexes_room = room;
    }
    if (!pattern || !t->regex)
        return PD_NOMEM;
    int code = regcomp(t->regex, pattern, REG_EXTENDED | REG_NOSUB);
    if (code != 0) {
        regerror(code, t->regex, why, sizeof(why));
        return reader_fail(r, v.raw, "regex does not compile (%s): write a POSIX extended regular expression",
                           why);
    }
    s->regexes[s->regexes_count++] = t->regex;
    t->matched = true;
    return PD_OK;
}

static pd_err read_turn(struct script *s, struct reader *r, struct json v, struct turn *t)
{
    static const struct key_word who_words[] = {
        {"tools", TURN_FOR_TOOLS}, {"plain", TURN_FOR_PLAIN}, {"any", TURN_FOR_ANY}, {NULL, 0}};
    static const struct key_row rows[] = {
        {"match", KEY_TEXT, offsetof(struct turn, match), NULL, "", NULL},
        {"text", KEY_TEXT, offsetof(struct turn, text), NULL, "", NULL},
        {"reasoning", KEY_TEXT, offsetof(struct turn, reasoning), NULL, "", NULL},
        {"finish", KEY_TEXT, offsetof(struct turn, finish), NULL, "", NULL},
        {"refusal", KEY_TEXT, offsetof(struct turn, refusal), NULL, "", NULL},
        {"redacted", KEY_BOOL, offsetof(struct turn, redacted), NULL, "", NULL},
        {"for", KEY_WORD, offsetof(struct turn, who), who_words, "", NULL},
        {"step", KEY_COUNT, offsetof(struct turn, step), NULL, "", NULL},
    };
    struct json_walk w;
    struct json value;
    struct span key;
    if (v.type != JSON_OBJECT)
        return reader_fail(r, v.raw,
                           "a turn is an object: write {\"text\": \"Done.\"} or {\"tool_calls\": [...]}");
    json_walk_init(&w, v);
    while (json_walk_next(&w, &key, &value)) {
        const struct key_row *row = key_find(rows, sizeof(rows) / sizeof(rows[0]), key);
        pd_err err = PD_OK;
        if (row)
            err = read_value(r, row, value, (char *)t + row->offset);
        else if (json_key_is(key, "tool_calls"))
            err = read_calls(r, value, t);
        else if (json_key_is(key, "regex"))
            err = read_regex(s, r, value, t);
        else
            err = reader_fail(r, key,
                              "\"%.*s\" is no key of a turn: write match, regex, text, tool_calls, reasoning, "
                              "redacted, refusal, finish, for or step",
                              SPAN_FMT(span_upto(key, 40)));
        if (err != PD_OK)
            return err;
    }
    t->matched |= t->match.p != NULL;
    if (!t->text.p && !t->calls_count && !t->reasoning.p && !t->refusal.p)
        return reader_fail(r, v.raw, "a turn that says nothing: write text or tool_calls");
    return PD_OK;
}

static pd_err read_turns(struct script *s, struct reader *r, struct script_provider *p, struct json v)
{
    struct json_walk w;
    struct json item;
    int64_t step = 0;
    char where[READ_WHERE];
    memcpy(where, r->where, sizeof(where));
    if (v.type != JSON_ARRAY)
        return reader_fail(r, v.raw, "turns is no list: write [{\"tool_calls\": [...]}, {\"text\": \"Done.\"}]");
    p->turns = arena_zalloc(r->mem, sizeof(*p->turns) * SCRIPT_TURNS_MAX);
    if (!p->turns)
        return PD_NOMEM;
    p->turns_count = 0;
    json_walk_init(&w, v);
    while (json_walk_next(&w, NULL, &item)) {
        if (p->turns_count == SCRIPT_TURNS_MAX)
            return reader_fail(r, item.raw, "more than %d turns: use another provider", SCRIPT_TURNS_MAX);
        struct turn *t = &p->turns[p->turns_count++];
        t->step = -1;
        snprintf(r->where, sizeof(r->where), "%.150s, turn %u", where, p->turns_count);
        pd_err err = read_turn(s, r, item, t);
        if (err != PD_OK)
            return err;
        if (!t->matched && t->step < 0)
            t->step = step;
        if (!t->matched)
            step = t->step + 1;
        p->scripted_tools |= t->calls_count > 0;
    }
    memcpy(r->where, where, sizeof(where));
    return PD_OK;
}

/* ---- providers ------------------------------------------------------------ */

static struct script_provider *provider_for(struct script *s, struct span name)
{
    for (unsigned i = 0; i < s->providers_count; i++)
        if (span_eq(s->providers[i].name, name))
            return &s->providers[i];
    if (s->providers_count == SCRIPT_PROVIDERS_MAX)
        return NULL;
    struct script_provider *p = &s->providers[s->providers_count++];
    *p = (struct script_provider){.name = name,
                                  .style = &styles[0],
                                  .port = -1,
                                  .tokens = 40,
                                  .items = 12,
                                  .reasoning = -1,
                                  .parallel = 1,
                                  .dimensions = 256,
                                  .comment_every_us = 1000000,
                                  .head_early = -1,
                                  .fingerprint = SPAN_LIT("fp_simulated")};
    return p;
}

static pd_err read_flapping(struct reader *r, struct script_provider *p, struct json v)
{
    static const struct key_row rows[] = {
        {"up", KEY_TIME, offsetof(struct script_provider, flap_up_us), NULL, "", NULL},
        {"down", KEY_TIME, offsetof(struct script_provider, flap_down_us), NULL, "", NULL},
    };
    struct json_walk w;
    struct json value;
    struct span key;
    if (v.type != JSON_OBJECT)
        return reader_fail(r, v.raw, "flapping is no object: write {\"up\": \"5s\", \"down\": \"5s\"}");
    json_walk_init(&w, v);
    while (json_walk_next(&w, &key, &value)) {
        const struct key_row *row = key_find(rows, 2, key);
        pd_err err = PD_OK;
        if (row)
            err = read_value(r, row, value, (char *)p + row->offset);
        else if (json_key_is(key, "fault"))
            err = fault_read(r, value, &p->flap);
        else
            err = reader_fail(r, key, "\"%.*s\" is no key of flapping: write up, down and fault",
                              SPAN_FMT(span_upto(key, 40)));
        if (err != PD_OK)
            return err;
    }
    return PD_OK;
}

static pd_err check_provider(struct reader *r, struct json v, struct script_provider *p)
{
    if (p->style_name.p) {
        const struct style *style = style_find(p->style_name);
        if (!style) {
            char list[200];
            size_t n = 0;
            for (unsigned i = 0; i < styles_count && n < sizeof(list) - 20; i++)
                n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", n ? ", " : "", styles[i].name);
            return reader_fail(r, v.raw, "no style is named \"%.*s\": write one of %s",
                               SPAN_FMT(span_upto(p->style_name, 40)), list);
        }
        p->style = style;
    }
    if (p->port > 65535)
        return reader_fail(r, v.raw, "port is %lld: write 0 (a free one) to 65535", (long long)p->port);
    if (p->tokens > 1000000 || p->reasoning > 1000000)
        return reader_fail(r, v.raw, "more than 1000000 tokens: write fewer");
    if (p->items > VARIED_ITEMS_MAX)
        return reader_fail(r, v.raw, "more than %d items: write fewer", VARIED_ITEMS_MAX);
    if (p->dimensions < 1 || p->dimensions > 16384)
        return reader_fail(r, v.raw, "dimensions is %lld: write 1 to 16384", (long long)p->dimensions);
    if ((p->flap_up_us > 0) != (p->flap_down_us > 0))
        return reader_fail(r, v.raw, "flapping needs both times: write \"up\": \"5s\" and \"down\": \"5s\"");
    if (p->flap_down_us > 0 && p->flap.kind == FAULT_NONE)
        p->flap = (struct fault){.kind = FAULT_STATUS,
                                 .status = 503,
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
    p->models_given = p->models.count > 0;
    return PD_OK;
}

static pd_err read_provider(struct script *s, struct reader *r, struct script_provider *p, struct json v)
{
    struct json_walk w;
    struct json value;
    struct span key;
    if (v.type != JSON_OBJECT)
        return reader_fail(r, v.raw,
                           "a provider is an object: write {\"style\": \"openai\", \"ttft\": \"200ms\"}");
    json_walk_init(&w, v);
    while (json_walk_next(&w, &key, &value)) {
        const struct key_row *row = key_find(provider_keys, provider_keys_count, key);
        pd_err err;
        if (row)
            err = read_value(r, row, value, (char *)p + row->offset);
        else if (json_key_is(key, "faults"))
            err = fault_read_list(r, value, &p->faults, &p->faults_count);
        else if (json_key_is(key, "turns"))
            err = read_turns(s, r, p, value);
        else if (json_key_is(key, "flapping"))
            err = read_flapping(r, p, value);
        else {
            char list[400];
            err = reader_fail(r, key, "\"%.*s\" is no key of a provider: write %s, faults, turns or flapping",
                              SPAN_FMT(span_upto(key, 40)),
                              key_names(provider_keys, provider_keys_count, NULL, list, sizeof(list)));
        }
        if (err != PD_OK)
            return err;
    }
    return check_provider(r, v, p);
}

static bool name_fine(struct span name)
{
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
              c == '.'))
            return false;
    }
    return name.n > 0 && name.n <= 64;
}

static pd_err read_providers(struct script *s, struct reader *r, struct json v)
{
    struct json_walk w;
    struct json value;
    struct span key;
    if (v.type != JSON_OBJECT)
        return reader_fail(r, v.raw, "providers is no object: write {\"alpha\": {...}, \"beta\": {...}}");
    json_walk_init(&w, v);
    while (json_walk_next(&w, &key, &value)) {
        if (!name_fine(key))
            return reader_fail(r, key, "\"%.*s\" is no name for a provider: use letters, digits, - _ and .",
                               SPAN_FMT(span_upto(key, 40)));
        struct script_provider *p = provider_for(s, key);
        if (!p)
            return reader_fail(r, key, "more than %d providers: leave some out, or start another process",
                               SCRIPT_PROVIDERS_MAX);
        snprintf(r->where, sizeof(r->where), "provider %.*s", SPAN_FMT(key));
        pd_err err = read_provider(s, r, p, value);
        if (err != PD_OK)
            return err;
        r->where[0] = '\0';
    }
    return PD_OK;
}

pd_err script_read(struct script *s, struct span text, const char *name, char *why)
{
    static const struct key_row rows[] = {
        {"seed", KEY_COUNT, offsetof(struct script, seed), NULL, "", NULL},
        {"control", KEY_COUNT, offsetof(struct script, control), NULL, "", NULL},
        {"host", KEY_TEXT, offsetof(struct script, host), NULL, "", NULL},
    };
    struct reader r;
    struct json doc, value;
    struct json_walk w;
    struct span key, copy = arena_span(&s->mem, text);
    if (!copy.p)
        return PD_NOMEM;
    reader_init(&r, name, copy, true, &s->mem, why);
    if (json_check(copy) != PD_OK || json_first(copy, &doc, NULL) != PD_OK) {
        struct span at = copy; /* the first value that does not close is the nearest place there is */
        json_walk_doc(&w, copy);
        while (json_walk_next(&w, NULL, &value))
            at = value.raw;
        return reader_fail(&r, w.rest.p ? w.rest : at,
                           "this is not JSON: look for a missing comma, quote or brace at or after this line");
    }
    if (doc.type != JSON_OBJECT)
        return reader_fail(&r, doc.raw, "a script is an object: write {\"providers\": {\"alpha\": {...}}}");
    json_walk_init(&w, doc);
    while (json_walk_next(&w, &key, &value)) {
        const struct key_row *row = key_find(rows, sizeof(rows) / sizeof(rows[0]), key);
        pd_err err;
        if (row)
            err = read_value(&r, row, value, (char *)s + row->offset);
        else if (json_key_is(key, "providers"))
            err = read_providers(s, &r, value);
        else if (json_key_is(key, "comment"))
            err = PD_OK;
        else
            err = reader_fail(&r, key,
                              "\"%.*s\" is no key of a script: write providers, seed, control, host or comment",
                              SPAN_FMT(span_upto(key, 40)));
        if (err != PD_OK)
            return err;
    }
    return PD_OK;
}

/* ---- the option ----------------------------------------------------------- */

/* Writes the option as the JSON it stands for, so that there is one reader. */
static pd_err option_json(struct script *s, struct span name, struct span port, struct span rest, struct buf *out,
                          char *why)
{
    struct put put = put_into(out);
    bool in_fault = false;
    put_text(&put, "{\"providers\":{");
    put_json(&put, name);
    put_text(&put, ":{");
    if (port.p) {
        put_text(&put, "\"port\":");
        put_json(&put, port);
    }
    bool first = !port.p;
    while (rest.p) {
        struct span value = span_cut(&rest, ',');
        struct span key = span_trim(span_cut(&value, '='));
        if (!value.p) {
            snprintf(why, READ_WHY, "--provider %.*s: \"%.*s\" has no value: write key=value, as in ttft=200ms",
                     SPAN_FMT(name), SPAN_FMT(span_upto(key, 40)));
            return PD_INVALID;
        }
        bool begins = span_is(key, "fault");
        bool of_fault = begins || (in_fault && fault_key_known(key));
        if (begins)
            put_text(&put, in_fault ? "},{" : first ? "\"faults\":[{" : ",\"faults\":[{");
        else if (of_fault || !first)
            put_text(&put, in_fault && !of_fault ? "}]," : ",");
        if (in_fault && !of_fault) {
            snprintf(
                why, READ_WHY,
                "--provider %.*s: \"%.*s\" comes after fault= and is no key of a fault: write it before fault=",
                SPAN_FMT(name), SPAN_FMT(span_upto(key, 40)));
            return PD_INVALID;
        }
        in_fault |= begins;
        first = false;
        put_json(&put, key);
        put_text(&put, ":");
        put_json(&put, value);
    }
    put_text(&put, in_fault ? "}]}}}" : "}}}");
    (void)s;
    return put.err;
}

pd_err script_option(struct script *s, const char *option, char *why)
{
    struct buf text;
    struct span rest = span_str(option), port;
    struct span name = span_cut(&rest, ',');
    port = name;
    name = span_cut(&port, ':');
    buf_init(&text, 0);
    why[0] = '\0';
    pd_err err = option_json(s, name, port, rest, &text, why);
    if (err == PD_OK) {
        char label[100];
        snprintf(label, sizeof(label), "--provider %.60s", option);
        err = script_read(s, buf_span(&text), label, why);
        char *line = strstr(why, " line 1: "); /* an option is one line */
        if (err != PD_OK && line)
            memmove(line, line + strlen(" line 1"), strlen(line + strlen(" line 1")) + 1);
    }
    buf_done(&text);
    return err;
}

pd_err script_set(struct script *s, struct script_provider *p, const char *key, const char *value, char *why)
{
    struct buf text;
    struct reader r;
    struct json doc = {0};
    buf_init(&text, 0);
    struct put put = put_into(&text);
    put_text(&put, "{");
    put_json(&put, span_str(key));
    put_text(&put, ":");
    put_json(&put, span_str(value));
    put_text(&put, "}");
    struct span copy = put.err == PD_OK ? arena_span(&s->mem, buf_span(&text)) : SPAN_NONE;
    pd_err err = put.err != PD_OK ? put.err : copy.p ? json_first(copy, &doc, NULL) : PD_NOMEM;
    buf_done(&text);
    reader_init(&r, "options", copy, false, &s->mem, why);
    return err != PD_OK ? err : read_provider(s, &r, p, doc);
}

pd_err script_complete(struct script *s)
{
    static const char *const names[] = {"alpha", "beta", "gamma"};
    int64_t next = SCRIPT_PORT_FIRST;
    for (unsigned i = 0; s->providers_count == 0 || (i > 0 && i < 3 && s->providers_count == i); i++)
        if (!provider_for(s, span_str(names[i])))
            return PD_NOMEM;
    for (unsigned i = 0; i < s->providers_count; i++, next++)
        if (s->providers[i].port < 0)
            s->providers[i].port = next;
    return PD_OK;
}
