/* known.h - contents that were scanned before, and their names.
 *
 * A turn has the whole conversation again, and nearly all of it was in the turn before. A message that is found here is valid JSON and UTF-8, and its SHA-256 is
 * known: looking it up reads it once, at the speed of memory. It is found by 128 bits under a secret of this process (hash.h) and its length, so whoever
 * writes messages cannot make one that is taken for another.
 *
 * What is found here says nothing of the database: it may never have been stored, or be gone. A full set forgets what was not asked for longest. One
 * thread's. */
#ifndef PERDURE_CHECKPOINT_KNOWN_H
#define PERDURE_CHECKPOINT_KNOWN_H

#include "base/hash.h"
#include "checkpoint/checkpoint_priv.h"

struct known;
struct known *known_new(void) PD_CHECKED;  /* NULL: out of memory */
struct known *known_free(struct known *k); /* NULL is fine; returns NULL */
/* The name of a content that is valid. PD_INVALID: it is no JSON; PD_NOMEM. */
pd_err known_name(struct known *k, struct span content, char ret_name[NAME_BYTES]) PD_CHECKED;
struct known_stats {
    uint64_t found, scanned, scanned_bytes;
};
void known_stats(const struct known *k, struct known_stats *ret);

#endif
