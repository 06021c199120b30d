#include "store/objects_priv.h"

#include <stdio.h>

pd_err objects_s3_open(const char *where, conf_env_fn *env, void *env_ctx, struct objects **ret, char *why,
                       size_t why_bytes)
{
    snprintf(why, why_bytes, "%.200s: buckets are not there yet", where);
    return PD_UNSUPPORTED;
}
