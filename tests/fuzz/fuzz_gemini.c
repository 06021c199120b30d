/* fuzz_gemini.c - Gemini's format, as events and as one array, by the promises of fuzz_dialect.h. */
#include "fuzz_dialect.h"

static const char *const models[] = {"gemini-3-flash", "gemini-2.5-pro", "gemini-2.5-flash-lite", "gemma", NULL};
static const struct fuzz_dialect gemini[] = {{&codec_gemini, FRAMING_LINES, models, true},
                                             {&codec_gemini, FRAMING_ARRAY, models, true},
                                             {&codec_gemini_count, FRAMING_LINES, models, true}};

FUZZ_DIALECTS(gemini)
