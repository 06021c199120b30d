/* work_http.h - tasks from a perdure that is asked over HTTP (docs/runs-api.md). See work.h. */
#ifndef PERDURE_TASK_WORK_HTTP_H
#define PERDURE_TASK_WORK_HTTP_H

#include "task/work.h"

enum { WORK_HTTP_ASKERS = 16 /* threads inside at once; more wait */ };

struct work_http_rules {
    const char *url;      /* scheme, host and port */
    const char *base;     /* the path before /api; may be "" */
    const char *key;      /* NULL: none is sent */
    uint64_t patience_ms; /* 0: 60 s */
};
/* Everything is copied. PD_SYNTAX: the URL; PD_NOMEM. */
pd_err work_http_open(const struct work_http_rules *r, struct work_queue **ret) PD_CHECKED;
/* The sentence of the newest refusal or failure. */
void work_http_why(struct work_queue *q, char *out, size_t out_bytes);

#endif
