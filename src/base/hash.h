/* hash.h - xxHash, for tables and session keys. Not for secrets. */
#ifndef PERDURE_BASE_HASH_H
#define PERDURE_BASE_HASH_H

#include "base/span.h"

uint64_t hash_bytes(struct span s, uint64_t seed);

#endif
