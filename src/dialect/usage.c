/* Token counts under the names that providers use for them. */
#include "dialect/openai_chat_priv.h"

enum count { INPUT, OUTPUT, CACHE_READ, CACHE_WRITE, REASONING, COUNT_COUNT };

/* Where providers say it: a member of usage, or of an object inside it. Of several for one count that which stands first here is taken. */
static const struct place {
    enum count count;
    struct span in, key;
} places[] = {
/* clang-format off */
#define KEY(s) {s, sizeof(s) - 1}
    {INPUT, KEY(""), KEY("prompt_tokens")},
    {INPUT, KEY(""), KEY("input_tokens")},
    {OUTPUT, KEY(""), KEY("completion_tokens")},
    {OUTPUT, KEY(""), KEY("output_tokens")},
    {CACHE_READ, KEY("prompt_tokens_details"), KEY("cached_tokens")},
    {CACHE_READ, KEY("input_tokens_details"), KEY("cached_tokens")},
    {CACHE_READ, KEY(""), KEY("prompt_cache_hit_tokens")},
    {CACHE_READ, KEY(""), KEY("cached_tokens")},
    {CACHE_READ, KEY(""), KEY("cache_read_input_tokens")},
    {CACHE_WRITE, KEY("prompt_tokens_details"), KEY("cache_write_tokens")},
    {CACHE_WRITE, KEY(""), KEY("cache_creation_input_tokens")},
    {REASONING, KEY("completion_tokens_details"), KEY("reasoning_tokens")},
    {REASONING, KEY("output_tokens_details"), KEY("reasoning_tokens")},
    {REASONING, KEY(""), KEY("reasoning_tokens")},
#undef KEY
    /* clang-format on */
};
enum { PLACES = sizeof(places) / sizeof(places[0]) };

struct found {
    int64_t n;
    unsigned place; /* PLACES: none yet */
};

/* The numbers of one object; `in`: the name under which it stands in usage, "" for usage itself. */
static void read_members(struct json object, struct span in, struct found *counts)
{
    struct json_walk w;
    struct json v;
    struct span key;
    json_walk_init(&w, object);
    while (json_walk_next(&w, &key, &v)) {
        if (v.type == JSON_OBJECT && in.n == 0 && key.n)
            read_members(v, key, counts);
        for (unsigned i = 0; i < PLACES && v.type == JSON_NUMBER; i++) {
            struct found *f = &counts[places[i].count];
            int64_t n;
            if (i <= f->place && json_key_eq(key, places[i].key) && json_key_eq(in, places[i].in) &&
                json_i64(v, &n) && n >= 0)
                *f = (struct found){n, i};
        }
    }
}

bool usage_read(struct json usage, struct msg_usage *ret)
{
    if (usage.type != JSON_OBJECT)
        return false;
    struct found counts[COUNT_COUNT];
    bool any = false;
    for (unsigned i = 0; i < COUNT_COUNT; i++)
        counts[i] = (struct found){-1, PLACES};
    read_members(usage, SPAN_NONE, counts);
    for (unsigned i = 0; i < COUNT_COUNT; i++)
        any |= counts[i].place < PLACES;
    if (any)
        *ret = (struct msg_usage){.input_total = counts[INPUT].n,
                                  .cache_read = counts[CACHE_READ].n,
                                  .cache_write = counts[CACHE_WRITE].n,
                                  .output_total = counts[OUTPUT].n,
                                  .reasoning = counts[REASONING].n};
    return any;
}
