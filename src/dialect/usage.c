/* Token counts under the names that providers use for them. */
#include "dialect/openai_chat_priv.h"

/* The first of the paths that holds a number; a path is "key" or "key.key". */
static bool count_at(struct json usage, const char *const *paths, int64_t *ret)
{
    for (; *paths; paths++) {
        int64_t n;
        if (json_i64(json_path(usage, *paths), &n) && n >= 0) {
            *ret = n;
            return true;
        }
    }
    return false;
}

bool usage_read(struct json usage, struct msg_usage *ret)
{
    static const char *const input[] = {"prompt_tokens", "input_tokens", NULL};
    static const char *const output[] = {"completion_tokens", "output_tokens", NULL};
    static const char *const cache_read[] = {"prompt_tokens_details.cached_tokens",
                                             "input_tokens_details.cached_tokens",
                                             "prompt_cache_hit_tokens",
                                             "cached_tokens",
                                             "cache_read_input_tokens",
                                             NULL};
    static const char *const cache_write[] = {"prompt_tokens_details.cache_write_tokens",
                                              "cache_creation_input_tokens", NULL};
    static const char *const reasoning[] = {"completion_tokens_details.reasoning_tokens",
                                            "output_tokens_details.reasoning_tokens", "reasoning_tokens", NULL};
    if (usage.type != JSON_OBJECT)
        return false;
    struct msg_usage u = MSG_USAGE_NONE;
    bool any = count_at(usage, input, &u.input_total);
    any |= count_at(usage, output, &u.output_total);
    any |= count_at(usage, cache_read, &u.cache_read);
    any |= count_at(usage, cache_write, &u.cache_write);
    any |= count_at(usage, reasoning, &u.reasoning);
    if (any)
        *ret = u;
    return any;
}
