/* models.h - the names in a provider's list of models, whatever its shape.
 *
 * OpenAI {"data":[{"id"}]}, Anthropic and Mistral the same, Gemini {"models":[{"name"}]}, Ollama, bare lists of objects or of names. */
#ifndef PERDURE_DIALECT_MODELS_H
#define PERDURE_DIALECT_MODELS_H

#include "base/err.h"
#include "base/span.h"

/* `id` is text and lives until the callback returns. An error ends the reading. */
typedef pd_err models_fn(void *ctx, struct span id);

/* PD_SYNTAX: no JSON. PD_INVALID: JSON without a list of models, such as an error. PD_NOMEM, or what the callback returned. */
pd_err models_read(struct span body, models_fn *on_model, void *ctx) PD_CHECKED;

#endif
