/* fuzz_bedrock.c - Bedrock's formats, by the promises of fuzz_dialect.h: Converse, the families of InvokeModel, and Claude in chunks. */
#include "fuzz_dialect.h"

static const char *const models[] = {"us.anthropic.claude-sonnet-4-5",
                                     "anthropic.claude-opus-4-8",
                                     "amazon.nova-2-lite",
                                     "openai.gpt-oss-120b",
                                     "meta.llama4",
                                     NULL};
static const struct fuzz_dialect bedrock[] = {{&codec_bedrock_converse, FRAMING_EVENTSTREAM, models, true},
                                              {&codec_bedrock_invoke, FRAMING_CHUNKS, NULL, true},
                                              {&codec_anthropic, FRAMING_CHUNKS, models, true}};

FUZZ_DIALECTS(bedrock)
