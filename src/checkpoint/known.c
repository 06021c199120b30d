#include "checkpoint/known.h"

#include "base/mem.h"
#include "parse/json.h"
#include "parse/utf8.h"

enum {
    SETS = 8192,
    WAYS = 4
}; /* 2 MB when all of it is in use: the messages of some hundred long conversations */

struct entry {
    struct hash_wide hash;
    uint64_t bytes; /* 0: none */
    char name[NAME_BYTES];
};

struct known {
    struct hash_secret secret;
    struct known_stats stats;
    struct entry sets[SETS][WAYS]; /* of each set the one that was asked for last is the first */
};

struct known *known_new(void)
{
    struct known *k = mem_zalloc(sizeof(*k));
    if (k)
        hash_secret_make(&k->secret);
    return k;
}

struct known *known_free(struct known *k)
{
    mem_free(k);
    return NULL;
}

static void to_front(struct entry *set, unsigned at, struct entry e)
{
    memmove(set + 1, set, at * sizeof(*set));
    set[0] = e;
}

static pd_err scan(struct span content, char ret_name[NAME_BYTES])
{
    struct content_name name;
    if (!content.n || json_check(content) || !utf8_valid(content))
        return PD_INVALID;
    pd_err e = content_name_of(content, &name);
    if (!e)
        name_to_bytes(&name, ret_name);
    return e;
}

pd_err known_name(struct known *k, struct span content, char ret_name[NAME_BYTES])
{
    const struct hash_wide h = hash_wide(content, &k->secret);
    struct entry *set = k->sets[h.low % SETS], found = {.hash = h, .bytes = content.n};
    unsigned at = 0;
    while (at < WAYS - 1 &&
           (set[at].bytes != content.n || set[at].hash.low != h.low || set[at].hash.high != h.high))
        at++;
    if (content.n && set[at].bytes == content.n && set[at].hash.low == h.low && set[at].hash.high == h.high) {
        k->stats.found++;
        found = set[at];
    } else {
        pd_err e = scan(content, found.name);
        if (e)
            return e;
        k->stats.scanned++;
        k->stats.scanned_bytes += content.n;
    }
    to_front(set, at, found); /* in the place of what it was found in, else of the last */
    memcpy(ret_name, found.name, NAME_BYTES);
    return PD_OK;
}

void known_stats(const struct known *k, struct known_stats *ret)
{
    *ret = k->stats;
}
