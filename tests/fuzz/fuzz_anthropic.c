/* fuzz_anthropic.c - Anthropic Messages, by the promises of fuzz_dialect.h. */
#include "fuzz_dialect.h"

static const char *const models[] = {"claude-sonnet-4-5", "claude-opus-4-8", "claude-sonnet-4",
                                     "claude-3-haiku",    "glm-4.6",         NULL};
static const struct fuzz_dialect anthropic[] = {{&codec_anthropic, FRAMING_LINES, models, false}};

FUZZ_DIALECTS(anthropic)
