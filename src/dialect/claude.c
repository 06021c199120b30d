/* What the generations of Claude take, and how effort is spelled for them. */
#include "dialect/claude_priv.h"

/* ---- what models take ------------------------------------------------------------------
 *
 * By the version in their name, as the documentation of thinking, effort, structured outputs and of each release has it. A name with
 * "claude" and no number is taken for a new one, anything else (other makers' models behind this format) for UNKNOWN. */
static const struct claude_generation generations[] = {
    /* from  answer  thinks  adapts  formats  one_sample  no_sample */
    {407, 32000, true, true, true, true, true},     {406, 32000, true, true, true, true, false},
    {405, 32000, true, false, true, true, false},   {401, 32000, true, false, false, true, false},
    {307, 32000, true, false, false, false, false}, {305, 8192, false, false, false, false, false},
    {0, 4096, false, false, false, false, false},
};
static const struct claude_generation unknown = {0, 8192, true, false, false, false, false};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* "claude-3-5-sonnet-20241022" is 305, "us.anthropic.claude-opus-4-6-v1" 406, "claude-sonnet-4@20250514" 400, "claude-opus-latest" INT32_MAX. */
static int version_in(struct span name)
{
    int parts[2] = {0, 0};
    unsigned count = 0;
    for (size_t i = 0; i < name.n && count < 2;) {
        size_t n = 0;
        while (i + n < name.n && is_digit(name.p[i + n]))
            n++;
        bool word = i > 0 && name.p[i - 1] != '-' && name.p[i - 1] != '.'; /* "v1" */
        if (n && n <= 2 && !word)
            parts[count++] = n == 1 ? name.p[i] - '0' : 10 * (name.p[i] - '0') + name.p[i + 1] - '0';
        else if (n && count)
            break; /* a date */
        else if (count && name.p[i] != '-' && name.p[i] != '.')
            break; /* the minor number follows at once */
        i += n ? n : 1;
    }
    return count ? 100 * parts[0] + parts[1] : INT32_MAX;
}

const struct claude_generation *claude_generation(struct span model)
{
    for (size_t i = 0; i + 6 <= model.n; i++) {
        if (!span_iis(span_of(model.p + i, 6), "claude"))
            continue;
        int version = version_in(span_from(model, i + 6));
        const struct claude_generation *g = generations;
        while (version < g->from)
            g++;
        return g;
    }
    return &unknown;
}

/* ---- thinking -------------------------------------------------------------------------- */

int64_t claude_budget(enum msg_effort effort)
{
    switch (effort) {
    case MSG_EFFORT_UNSAID:
    case MSG_EFFORT_NONE:
        return 0;
    case MSG_EFFORT_MINIMAL:
        return CLAUDE_BUDGET_LEAST;
    case MSG_EFFORT_LOW:
        return 2048;
    case MSG_EFFORT_MEDIUM:
        return 8192;
    case MSG_EFFORT_HIGH:
        return 16384;
    case MSG_EFFORT_MAX:
        return 24576;
    }
    return 0;
}

const char *claude_effort_word(enum msg_effort effort)
{
    switch (effort) {
    case MSG_EFFORT_UNSAID:
    case MSG_EFFORT_NONE:
        return NULL;
    case MSG_EFFORT_MINIMAL:
    case MSG_EFFORT_LOW:
        return "low";
    case MSG_EFFORT_MEDIUM:
        return "medium";
    case MSG_EFFORT_HIGH:
        return "high";
    case MSG_EFFORT_MAX:
        return "max";
    }
    return NULL;
}

enum msg_effort claude_effort(const struct msg_request *m)
{
    if (m->effort != MSG_EFFORT_UNSAID || m->reasoning_tokens < 0)
        return m->effort;
    return m->reasoning_tokens == 0                                  ? MSG_EFFORT_NONE
           : m->reasoning_tokens <= claude_budget(MSG_EFFORT_LOW)    ? MSG_EFFORT_LOW
           : m->reasoning_tokens <= claude_budget(MSG_EFFORT_MEDIUM) ? MSG_EFFORT_MEDIUM
                                                                     : MSG_EFFORT_HIGH;
}
