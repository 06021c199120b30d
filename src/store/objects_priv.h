/* objects_priv.h - what the two kinds of object stores have in common. */
#ifndef PERDURE_STORE_OBJECTS_PRIV_H
#define PERDURE_STORE_OBJECTS_PRIV_H

#include "store/objects.h"

#include <stdatomic.h>

/* Keys, prefixes and sizes were looked at before these are called. */
struct objects_table {
    void (*close)(struct objects *o);
    void (*cancel)(struct objects *o); /* wakes who waits; NULL: nobody does */
    pd_err (*check)(struct objects *o);
    pd_err (*put)(struct objects *o, const char *key, struct span bytes, enum object_when when, const char *etag,
                  char ret_etag[OBJECT_ETAG_BYTES]);
    pd_err (*get)(struct objects *o, const char *key, struct buf *out, char ret_etag[OBJECT_ETAG_BYTES]);
    pd_err (*remove)(struct objects *o, const char *key);
    pd_err (*list)(struct objects *o, const char *prefix, object_fn *fn, void *ctx);
};

struct objects {
    const struct objects_table *table;
    bool s3;
    char where[OBJECTS_WHERE_MAX + 600];
    _Atomic(const char *) note; /* a literal, or NULL */
    atomic_bool cancelled;
};

/* Keeps the sentence for this thread, and returns e. */
pd_err objects_fail(pd_err e, const char *fmt, ...) PD_PRINTF(2, 3);

pd_err objects_folder_open(const char *folder, struct objects **ret, char *why, size_t why_bytes) PD_CHECKED;
pd_err objects_s3_open(const char *where, conf_env_fn *env, void *env_ctx, struct objects **ret, char *why,
                       size_t why_bytes) PD_CHECKED;

#endif
