/* rnd.h - random numbers from a seed, so that a decision can be replayed.
 *
 * splitmix64 (Steele, Lea, Flood 2014). Not for keys: those come from OpenSSL. */
#ifndef PERDURE_BASE_RND_H
#define PERDURE_BASE_RND_H

#include <stdint.h>

struct rnd {
    uint64_t state;
};

static inline uint64_t rnd_next(struct rnd *r)
{
    uint64_t z = (r->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
/* Evenly in [0, n); n is at least 1. */
__extension__ typedef unsigned __int128 rnd_wide;
static inline uint64_t rnd_below(struct rnd *r, uint64_t n)
{
    return (uint64_t)(((rnd_wide)rnd_next(r) * n) >> 64);
}
/* Evenly in [0, 1). */
static inline double rnd_unit(struct rnd *r)
{
    return (double)(rnd_next(r) >> 11) * 0x1.0p-53;
}

uint64_t rnd_seed(void); /* from the operating system */

#endif
