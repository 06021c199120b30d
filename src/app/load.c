#include "app/load.h"

#include "base/mem.h"
#include "provider/presets.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *which(const char *path)
{
    if (!path)
        path = getenv("PERDURE_CONFIG");
    return !path && access("perdure.yaml", R_OK) == 0 ? "perdure.yaml" : path;
}

/* Without a word about what is wrong with it. NULL: there is none to be had. */
static struct conf *load_quietly(const char *path)
{
    struct conf *c = NULL;
    struct preset_table table = presets;
    table.none_is_fine = true;
    struct conf_report *report = mem_zalloc(sizeof(*report));
    if (report && conf_load(which(path), &table, conf_getenv, NULL, report, &c) != PD_OK)
        c = NULL;
    mem_free(report);
    return c;
}

char *load_state_folder(const char *path)
{
    struct conf *c = load_quietly(path);
    char *folder = c && strcmp(c->state, "off") != 0 ? mem_strdup(c->state) : NULL;
    conf_free(c);
    return folder;
}

uint64_t load_checkpoint_ms(const char *path, uint64_t without)
{
    struct conf *c = load_quietly(path);
    uint64_t ms = c ? c->settings.checkpoint_interval : without;
    conf_free(c);
    return ms;
}

pd_err load_config(const char *path, bool without_providers, struct conf **ret)
{
    path = which(path);
    struct conf_report *report = mem_zalloc(sizeof(*report));
    if (!report)
        return PD_NOMEM;
    struct preset_table table = presets;
    table.none_is_fine = without_providers;
    pd_err e = conf_load(path, &table, conf_getenv, NULL, report, ret);
    for (unsigned i = 0; i < report->count; i++)
        fprintf(stderr, "perdure: %s: %s\n", report->remarks[i].error ? "error" : "warning",
                report->remarks[i].text);
    if (e && report->errors == 0)
        fprintf(stderr, "perdure: error: %s: %s\n", path ? path : "environment", pd_err_text(e));
    mem_free(report);
    return e;
}
