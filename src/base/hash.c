#include "base/hash.h"

#include "base/rnd.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t hash_bytes(struct span s, uint64_t seed)
{
    return XXH3_64bits_withSeed(s.p, s.n, seed);
}

void hash_secret_make(struct hash_secret *ret)
{
    for (size_t i = 0; i < sizeof(ret->words) / sizeof(ret->words[0]); i++)
        ret->words[i] = rnd_seed(); /* each is the operating system's */
}

struct hash_wide hash_wide(struct span s, const struct hash_secret *secret)
{
    XXH128_hash_t h = XXH3_128bits_withSecret(s.p, s.n, secret->words, sizeof(secret->words));
    return (struct hash_wide){h.low64, h.high64};
}
