#include "store/db_priv.h"

#include <stdio.h>

static pd_err pg_open(struct db *d, const char *where, char *why, size_t why_bytes)
{
    (void)d;
    (void)where;
    snprintf(why, why_bytes, "PostgreSQL is not there yet");
    return PD_UNSUPPORTED;
}

const struct db_backend db_postgres = {.postgres = true, .open = pg_open};
