/* run_plan.h - a plan file, as `perdure run` hands it over. What is wrong with it is said on stderr. */
#ifndef PERDURE_APP_RUN_PLAN_H
#define PERDURE_APP_RUN_PLAN_H

#include "base/buf.h"

struct run_plan {
    struct buf body; /* JSON */
    char path[600];  /* of the question, with the plan's name */
    unsigned tasks;  /* 0: a model makes them */
    char key[80];    /* the same for the same plan and name: it asks for the same run */
};
/* False: it was said why not. Either way ret is run_plan_done(). */
bool run_plan_read(const char *plan, const char *name, const char *dir, bool again, struct run_plan *ret);
void run_plan_done(struct run_plan *p);

#endif
