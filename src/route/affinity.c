#include "base/hash.h"
#include "base/mem.h"
#include "route/fleet_priv.h"

pd_err affinity_init(struct affinity *a)
{
    a->slots = mem_calloc(FLEET_SESSIONS_MAX, sizeof(*a->slots));
    return a->slots ? PD_OK : PD_NOMEM;
}

void affinity_done(struct affinity *a)
{
    mem_free(a->slots);
    a->slots = NULL;
}

/* Sessions come from clients: the hash spreads ids that were chosen to meet. */
static unsigned first_slot(uint64_t session)
{
    return (unsigned)(hash_bytes(span_of((const char *)&session, sizeof(session)), 0) % FLEET_SESSIONS_MAX);
}

static struct affinity_slot *neighbour(const struct affinity *a, unsigned first, unsigned i)
{
    return &a->slots[(first + i) % FLEET_SESSIONS_MAX];
}

int affinity_get(const struct affinity *a, uint64_t session, uint64_t now)
{
    if (session == 0)
        return -1;
    unsigned first = first_slot(session);
    for (unsigned i = 0; i < AFFINITY_NEIGHBOURS; i++) {
        const struct affinity_slot *s = neighbour(a, first, i);
        if (s->session == session)
            return s->until_ms > now ? (int)s->target : -1;
    }
    return -1;
}

void affinity_set(struct affinity *a, uint64_t session, unsigned target, uint64_t keep_ms, uint64_t now)
{
    if (session == 0 || keep_ms == 0)
        return;
    unsigned first = first_slot(session);
    struct affinity_slot *into = neighbour(a, first, 0);
    for (unsigned i = 0; i < AFFINITY_NEIGHBOURS; i++) {
        struct affinity_slot *s = neighbour(a, first, i);
        if (s->session == session) {
            into = s;
            break;
        }
        if (s->until_ms < into->until_ms)
            into = s;
    }
    a->used[(into - a->slots) / AFFINITY_STRETCH] = true;
    *into = (struct affinity_slot){session, now + keep_ms, target};
}
