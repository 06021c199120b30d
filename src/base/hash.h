/* hash.h - xxHash, for tables and session keys. Not for secrets. */
#ifndef PERDURE_BASE_HASH_H
#define PERDURE_BASE_HASH_H

#include "base/span.h"

uint64_t hash_bytes(struct span s, uint64_t seed);

/* 128 bits that nobody can aim at who does not know the secret, which a process makes for itself: two texts that have the same are the same. For what
 * is thought to be known already, in memory; what is stored is named by its SHA-256. */
struct hash_secret {
    uint64_t words[24];
};
struct hash_wide {
    uint64_t low, high;
};
void hash_secret_make(struct hash_secret *ret);
struct hash_wide hash_wide(struct span s, const struct hash_secret *secret);

#endif
