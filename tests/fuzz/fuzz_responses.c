/* fuzz_responses.c - OpenAI Responses, by the promises of fuzz_dialect.h. */
#include "fuzz_dialect.h"

static const struct fuzz_dialect responses[] = {{&codec_openai_responses, FRAMING_LINES, NULL, false}};

FUZZ_DIALECTS(responses)
