/* claude_priv.h - what Claude takes, wherever it is served: at Anthropic's own format and at Bedrock's. */
#ifndef PERDURE_DIALECT_CLAUDE_PRIV_H
#define PERDURE_DIALECT_CLAUDE_PRIV_H

#include "dialect/msg.h"

/* What a generation of Claude takes, wherever it is served. */
struct claude_generation {
    int from; /* 100 * major + minor: this version and later */
    int64_t
        answer; /* max_tokens when the client does not say, since the format wants a number: other formats let the model go
                        to its own limit, and agents write whole files, so this is what all models of the row take */
    bool thinks; /* has extended thinking, with a budget */
    bool
        adapts; /* thinking is {"type":"adaptive"} with an effort in place of a budget, and an assistant turn at the end is refused */
    bool formats;    /* output_config.format and strict tools */
    bool one_sample; /* not both temperature and top_p */
    bool no_sample;  /* no temperature, top_p or top_k at all */
};
/* By the model's name, however it is decorated; of a name without "claude" little is taken for granted. */
const struct claude_generation *claude_generation(struct span model);

enum { CLAUDE_BUDGET_LEAST = 1024 };           /* tokens to think with; less is refused */
int64_t claude_budget(enum msg_effort effort); /* tokens; 0: not to think, or not said */
/* As it was said; a budget alone is the effort nearest to it, for models that have no budgets. */
enum msg_effort claude_effort(const struct msg_request *m);
const char *claude_effort_word(enum msg_effort effort); /* "low" ... "max"; NULL: not to think, or not said */

#endif
