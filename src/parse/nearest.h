/* nearest.h - what was probably meant by a word that is none of those that are known. */
#ifndef PERDURE_PARSE_NEAREST_H
#define PERDURE_PARSE_NEAREST_H

#include "base/span.h"

/* The word that is meant, most likely; NULL when none is near. */
const char *nearest_word(struct span word, const char *const *words, unsigned count);
/* ": did you mean \"x\"?", or "" when none is near. Returns out. */
const char *nearest_hint(struct span word, const char *const *words, unsigned count, char *out, size_t out_bytes);

#endif
