/* A stream of chunks, collected into the chat.completion that an unstreamed request would have had. */
#include "dialect/merge_priv.h"
#include "dialect/openai_chat_priv.h"

struct choice {
    struct choice *next; /* in order of index */
    int64_t index;
    struct merge_node *message, *logprobs, *finish, *others;
};

enum { COLLECT_CHOICES_MAX = 1024 };

struct chat_collector {
    struct collector base;
    struct merge merge;
    struct merge_node *top, *usage;
    struct choice *choices;
    unsigned choice_count;
};

static pd_err init(struct collector *base, size_t limit_bytes)
{
    struct chat_collector *k = (struct chat_collector *)base;
    merge_init(&k->merge, limit_bytes);
    k->top = merge_node(&k->merge, MERGE_OBJECT);
    k->usage = k->top ? merge_node(&k->merge, MERGE_NONE) : NULL;
    return k->usage ? PD_OK : PD_NOMEM;
}

static void done(struct collector *base)
{
    merge_done(&((struct chat_collector *)base)->merge);
}

/* ---- choices ---------------------------------------------------------------------- */

static struct choice *choice_new(struct chat_collector *k, int64_t index)
{
    static const enum merge_kind kinds[] = {MERGE_OBJECT, MERGE_NONE, MERGE_NONE, MERGE_OBJECT};
    struct choice *c = merge_take(&k->merge, sizeof(*c));
    if (!c)
        return NULL;
    *c = (struct choice){.index = index};
    struct merge_node **parts[] = {&c->message, &c->logprobs, &c->finish, &c->others};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        *parts[i] = merge_node(&k->merge, kinds[i]);
        if (!*parts[i])
            return NULL;
    }
    return c;
}

/* NULL: too many, no memory, or over the limit. */
static struct choice *choice_at(struct chat_collector *k, int64_t index)
{
    struct choice **at = &k->choices;
    while (*at && (*at)->index < index)
        at = &(*at)->next;
    struct choice *found = *at;
    if (found && found->index == index)
        return found;
    struct choice *c = k->choice_count < COLLECT_CHOICES_MAX ? choice_new(k, index) : NULL;
    if (!c)
        return NULL;
    k->choice_count++;
    c->next = *at;
    *at = c;
    return c;
}

static pd_err add_choice_member(struct chat_collector *k, struct choice *c, struct span key, struct json v)
{
    if (json_key_is(key, "index"))
        return PD_OK;
    if (json_key_is(key, "delta") || json_key_is(key, "message"))
        return v.type == JSON_OBJECT ? merge_object(&k->merge, c->message, v, MERGE_DELTA) : PD_OK;
    if (json_key_is(key, "finish_reason"))
        return json_inner(v).n ? merge_set(&k->merge, c->finish, v) : PD_OK;
    if (json_key_is(key, "logprobs"))
        return v.type == JSON_OBJECT ? merge_object(&k->merge, c->logprobs, v, MERGE_APPEND) : PD_OK;
    /* Together repeats the delta's text beside it; vLLM lists the tokens of each chunk. */
    bool text = json_key_is(key, "text"), tokens = json_key_is(key, "token_ids");
    return merge_member(&k->merge, c->others, key, v, text ? MERGE_PART : tokens ? MERGE_APPEND : MERGE_PLAIN);
}

static pd_err add_choice(struct chat_collector *k, struct json v)
{
    int64_t index;
    struct json_walk w;
    struct span key;
    struct json member;
    if (v.type != JSON_OBJECT)
        return PD_OK;
    if (!json_i64(json_get(v, "index"), &index) || index < 0 || index > INT32_MAX)
        index = 0;
    struct choice *c = choice_at(k, index);
    if (!c)
        return k->choice_count == COLLECT_CHOICES_MAX ? PD_TOOBIG : merge_failure(&k->merge);
    pd_err e = PD_OK;
    json_walk_init(&w, v);
    while (!e && json_walk_next(&w, &key, &member))
        e = add_choice_member(k, c, key, member);
    return e;
}

static pd_err add_choices(struct chat_collector *k, struct json list)
{
    struct json_walk w;
    struct json item;
    pd_err e = PD_OK;
    json_walk_init(&w, list);
    while (!e && json_walk_next(&w, NULL, &item))
        e = add_choice(k, item);
    return e;
}

/* What names the answer is said once: the first that is not empty stays, whatever later chunks call it. */
static bool named_already(const struct chat_collector *k, struct span key)
{
    static const char *const names[] = {"id", "created", "model"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (json_key_is(key, names[i]))
            return merge_says(merge_get(k->top, names[i]));
    return false;
}

static pd_err add_member(struct chat_collector *k, struct span key, struct json v)
{
    if (named_already(k, key))
        return PD_OK;
    if (json_key_is(key, "choices"))
        return add_choices(k, v);
    /* "object" is ours to say; the other two are padding that hides the length of chunks. */
    if (json_key_is(key, "object") || json_key_is(key, "obfuscation") || json_key_is(key, "p"))
        return PD_OK;
    if (json_key_is(key, "usage"))
        return v.type == JSON_OBJECT ? merge_set(&k->merge, k->usage, v)
                                     : PD_OK; /* reports replace each other, whole */
    return merge_member(&k->merge, k->top, key, v, MERGE_PLAIN);
}

static pd_err add(struct collector *base, struct span type, struct json chunk)
{
    struct chat_collector *k = (struct chat_collector *)base;
    (void)type;
    struct json_walk w;
    struct span key;
    struct json v;
    json_walk_init(&w, chunk);
    while (json_walk_next(&w, &key, &v)) {
        pd_err e = add_member(k, key, v);
        if (e)
            return e;
    }
    return w.err;
}

/* ---- writing ---------------------------------------------------------------------- */

/* An empty text beside tool calls is none: that is how unstreamed answers say it. */
static bool no_content(const struct merge_node *message, const struct merge_node *content)
{
    if (merge_is_null(content))
        return true;
    const struct merge_node *tools = merge_get(message, "tool_calls"), *call = merge_get(message, "function_call");
    return content->kind == MERGE_TEXT && content->text_n == 0 &&
           ((tools && tools->first) || !merge_is_null(call));
}

static pd_err write_message(const struct merge_node *message, struct buf *out)
{
    const struct merge_node *content = merge_get(message, "content"), *role = merge_get(message, "role");
    bool first = false;
    pd_err e = buf_puts(out, "{\"role\":");
    if (!e)
        e = merge_is_null(role) ? buf_puts(out, "\"assistant\"") : merge_write(role, out);
    if (!e)
        e = buf_puts(out, ",\"content\":");
    if (!e)
        e = no_content(message, content) ? buf_puts(out, "null") : merge_write(content, out);
    for (const struct merge_node *n = message->first; !e && n; n = n->next)
        if (n != content && n != role)
            e = merge_write_member(n, &first, out);
    return e ? e : buf_puts(out, "}");
}

static pd_err write_choice(const struct choice *c, struct buf *out)
{
    bool first = false;
    pd_err e = buf_printf(out, "{\"index\":%lld,\"message\":", (long long)c->index);
    if (!e)
        e = write_message(c->message, out);
    for (const struct merge_node *n = c->others->first; !e && n; n = n->next)
        e = merge_write_member(n, &first, out);
    if (!e)
        e = buf_puts(out, ",\"logprobs\":");
    if (!e)
        e = merge_write(c->logprobs, out);
    if (!e)
        e = buf_puts(out, ",\"finish_reason\":");
    if (!e)
        e = merge_write(c->finish, out);
    return e ? e : buf_puts(out, "}");
}

static pd_err write_choices(const struct chat_collector *k, struct buf *out)
{
    pd_err e = buf_puts(out, "[");
    for (const struct choice *c = k->choices; !e && c; c = c->next) {
        e = write_choice(c, out);
        if (!e && c->next)
            e = buf_puts(out, ",");
    }
    return e ? e : buf_puts(out, "]");
}

static pd_err write_all(struct collector *base, struct buf *out)
{
    const struct chat_collector *k = (const struct chat_collector *)base;
    bool first = true;
    pd_err e = buf_puts(out, "{");
    for (const struct merge_node *n = k->top->first; !e && n; n = n->next)
        e = merge_write_member(n, &first, out);
    if (!e)
        e = buf_puts(out, first ? "\"object\":\"chat.completion\",\"choices\":"
                                : ",\"object\":\"chat.completion\",\"choices\":");
    if (!e)
        e = write_choices(k, out);
    if (!e && k->usage->kind != MERGE_NONE) {
        e = buf_puts(out, ",\"usage\":");
        if (!e)
            e = merge_write(k->usage, out);
    }
    return e ? e : buf_puts(out, "}");
}

const struct collector_ops chat_collector = {sizeof(struct chat_collector), init, done, add, write_all};
