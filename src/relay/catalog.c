#include "relay/catalog.h"

#include "base/mem.h"

#include <stdlib.h>

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void catalog_free_models(char **models, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        mem_free(models[i]);
    mem_free(models);
}

static struct catalog_provider *find(struct catalog *c, const char *provider)
{
    for (unsigned i = 0; i < c->count; i++)
        if (strcmp(c->providers[i].name, provider) == 0)
            return &c->providers[i];
    return NULL;
}

static struct catalog_provider *add(struct catalog *c, const char *provider)
{
    if (c->count == CATALOG_PROVIDERS_MAX)
        return NULL;
    struct catalog_provider *more = mem_realloc(c->providers, (c->count + 1) * sizeof(*more));
    if (!more)
        return NULL;
    c->providers = more;
    char *name = mem_strdup(provider);
    if (!name)
        return NULL;
    more[c->count] = (struct catalog_provider){.name = name};
    return &more[c->count++];
}

static bool same_models(const struct catalog_provider *p, char **models, unsigned count)
{
    if (!p->known || p->count != count)
        return false;
    for (unsigned i = 0; i < count; i++)
        if (strcmp(p->models[i], models[i]) != 0)
            return false;
    return true;
}

pd_err catalog_set(struct catalog *c, const char *provider, char **models, unsigned count)
{
    struct catalog_provider *p = find(c, provider);
    if (!p)
        p = add(c, provider);
    if (!p)
        return PD_NOMEM;
    if (count)
        qsort(models, count, sizeof(*models), by_name);
    if (!same_models(p, models, count))
        c->generation++;
    catalog_free_models(p->models, p->count);
    p->models = models;
    p->count = count;
    p->known = true;
    return PD_OK;
}

const struct catalog_provider *catalog_find(const struct catalog *c, const char *provider)
{
    for (unsigned i = 0; i < c->count; i++)
        if (strcmp(c->providers[i].name, provider) == 0)
            return &c->providers[i];
    return NULL;
}

bool catalog_lists(const struct catalog_provider *p, struct span model)
{
    unsigned low = 0, high = p->count;
    while (low < high) {
        unsigned mid = low + (high - low) / 2;
        struct span at = span_str(p->models[mid]);
        size_t n = at.n < model.n ? at.n : model.n;
        int order = n ? memcmp(at.p, model.p, n) : 0;
        if (order == 0 && at.n == model.n)
            return true;
        if (order < 0 || (order == 0 && at.n < model.n))
            low = mid + 1;
        else
            high = mid;
    }
    return false;
}

void catalog_done(struct catalog *c)
{
    for (unsigned i = 0; i < c->count; i++) {
        catalog_free_models(c->providers[i].models, c->providers[i].count);
        mem_free(c->providers[i].name);
    }
    mem_free(c->providers);
    *c = (struct catalog){0};
}
