/* fuzz_ollama.c - Ollama's two formats, by the promises of fuzz_dialect.h. */
#include "fuzz_dialect.h"

static const char *const models[] = {"llama3.2", "gpt-oss:20b", NULL};
static const struct fuzz_dialect ollama[] = {{&codec_ollama, FRAMING_LINES, models, false},
                                             {&codec_ollama_generate, FRAMING_LINES, models, false}};

FUZZ_DIALECTS(ollama)
