#include "app/load.h"

#include "base/mem.h"
#include "provider/presets.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

pd_err load_config(const char *path, bool without_providers, struct conf **ret)
{
    if (!path)
        path = getenv("PERDURE_CONFIG");
    if (!path && access("perdure.yaml", R_OK) == 0)
        path = "perdure.yaml";
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
