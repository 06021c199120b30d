/* redact.h - a provider's text made fit for a log, a page and a client. */
#ifndef PERDURE_PROVIDER_REDACT_H
#define PERDURE_PROVIDER_REDACT_H

#include "base/span.h"

/* Copies as much of `text` as fits, NUL-terminated: keys become "***" (providers like to quote the one they refused), white space
 * becomes one blank, control bytes and broken UTF-8 become '?', and no character is cut in two. Returns the length. */
size_t redact_copy(struct span text, char *out, size_t out_bytes);

#endif
