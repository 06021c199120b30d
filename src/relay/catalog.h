/* catalog.h - which models each provider lists. Values only; who fetches the lists is lists.c. */
#ifndef PERDURE_RELAY_CATALOG_H
#define PERDURE_RELAY_CATALOG_H

#include "base/err.h"
#include "base/span.h"

enum { CATALOG_MODELS_MAX = 5000, CATALOG_PROVIDERS_MAX = 256 };

struct catalog_provider {
    char *name;
    char **models; /* sorted */
    unsigned count;
    bool known; /* a list was read at least once */
};
struct catalog {
    struct catalog_provider *providers;
    unsigned count;
    uint64_t generation; /* changes whenever a list does */
};

/* Takes the list over (the array and its strings, from mem_*), sorted here. PD_NOMEM: nothing was taken. */
pd_err catalog_set(struct catalog *c, const char *provider, char **models, unsigned count) PD_CHECKED;
const struct catalog_provider *catalog_find(const struct catalog *c, const char *provider); /* NULL: never read */
bool catalog_lists(const struct catalog_provider *p, struct span model);
void catalog_done(struct catalog *c);
void catalog_free_models(char **models, unsigned count);

#endif
