#include "base/mem.h"
#include "relay/gateway.h"

struct conf_ref *conf_ref_new(struct conf *c)
{
    struct conf_ref *r = mem_alloc(sizeof(*r));
    if (!r)
        return NULL;
    atomic_init(&r->refs, 1);
    r->conf = c;
    return r;
}

struct conf_ref *conf_ref_take(struct conf_ref *r)
{
    atomic_fetch_add(&r->refs, 1);
    return r;
}

struct conf_ref *conf_ref_drop(struct conf_ref *r)
{
    if (r && atomic_fetch_sub(&r->refs, 1) == 1) {
        conf_free(r->conf);
        mem_free(r);
    }
    return NULL;
}
