#include "store/objects_priv.h"

#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

/* As errno: the last one of this thread. */
static _Thread_local char last_why[OBJECTS_WHY_BYTES];

const char *objects_why(void)
{
    return last_why;
}

pd_err objects_fail(pd_err e, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(last_why, sizeof(last_why), fmt, args);
    va_end(args);
    return e;
}

static pd_err check_key(const char *key)
{
    if (object_key_fits(span_str(key)))
        return PD_OK;
    return objects_fail(
        PD_INVALID,
        "\"%.80s\" is no key: letters, digits and - _ . = : in at most %d parts of %d, %d in all, with "
        "/ between them; no part is empty, . or .., and the first does not begin with a dot",
        key, OBJECT_PARTS_MAX, OBJECT_NAME_MAX, OBJECT_KEY_MAX);
}

pd_err objects_open(const char *where, conf_env_fn *env, void *env_ctx, struct objects **ret, char *why,
                    size_t why_bytes)
{
    if (strncasecmp(where, "s3:", 3) == 0)
        return objects_s3_open(where, env, env_ctx, ret, why, why_bytes);
    if (strstr(where, "://")) {
        snprintf(why, why_bytes, "\"%.200s\": objects go to s3://BUCKET/PREFIX or into a folder", where);
        return PD_INVALID;
    }
    return objects_folder_open(where, ret, why, why_bytes);
}

struct objects *objects_close(struct objects *o)
{
    if (o)
        o->table->close(o);
    return NULL;
}

bool objects_is_s3(const struct objects *o)
{
    return o->s3;
}

const char *objects_where(const struct objects *o)
{
    return o->where;
}

const char *objects_note(const struct objects *o)
{
    const char *note = atomic_load(&o->note);
    return note ? note : "";
}

void objects_cancel(struct objects *o)
{
    atomic_store(&o->cancelled, true);
    if (o->table->cancel)
        o->table->cancel(o);
}

static pd_err begin(struct objects *o)
{
    return atomic_load(&o->cancelled) ? objects_fail(PD_CANCELLED, "%s: it is being closed", o->where) : PD_OK;
}

pd_err objects_check(struct objects *o)
{
    pd_err e = begin(o);
    return e ? e : o->table->check(o);
}

pd_err objects_put(struct objects *o, const char *key, struct span bytes, enum object_when when, const char *etag,
                   char ret_etag[OBJECT_ETAG_BYTES])
{
    char unused[OBJECT_ETAG_BYTES];
    pd_err e = begin(o);
    if (!e)
        e = check_key(key);
    if (e)
        return e;
    if (bytes.n > OBJECT_BYTES_MAX)
        return objects_fail(PD_TOOBIG, "%s: %zu bytes are more than the %d an object may have", key, bytes.n,
                            OBJECT_BYTES_MAX);
    if (when == OBJECT_IF_SAME && (!etag || strlen(etag) >= OBJECT_ETAG_BYTES))
        return objects_fail(PD_INVALID, "%s: no etag to compare with", key);
    return o->table->put(o, key, bytes, when, etag, ret_etag ? ret_etag : unused);
}

pd_err objects_get(struct objects *o, const char *key, struct buf *out, char ret_etag[OBJECT_ETAG_BYTES])
{
    char unused[OBJECT_ETAG_BYTES];
    pd_err e = begin(o);
    if (!e)
        e = check_key(key);
    if (e)
        return e;
    size_t before = buf_size(out);
    e = o->table->get(o, key, out, ret_etag ? ret_etag : unused);
    if (e)
        out->tail = out->head + before;
    return e;
}

pd_err objects_delete(struct objects *o, const char *key)
{
    pd_err e = begin(o);
    if (!e)
        e = check_key(key);
    return e ? e : o->table->remove(o, key);
}

pd_err objects_list(struct objects *o, const char *prefix, object_fn *fn, void *ctx)
{
    pd_err e = begin(o);
    if (e)
        return e;
    if (!object_prefix_fits(span_str(prefix)))
        return objects_fail(PD_INVALID, "\"%.80s\": no key begins like this", prefix);
    return o->table->list(o, prefix, fn, ctx);
}
