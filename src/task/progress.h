/* progress.h - how far a run is, for a person: what the API answers (docs/runs-api.md), as text.
 *
 *   plan.yaml  ████████████░░░░░░░░  6/10 done  1 running  24,310 tokens  $0.0412  1m12s
 *     > compile  running  runs make              attempt 2         3.1s
 *     ~ deploy   ready    again in 4.0s          attempt 2         exit: it ended with status 2: ...
 *     ? review   review   waits for a person                       check: the check ...
 *
 * Pure. What comes from models and programs cannot move the cursor: it is printed as far as it can be printed. */
#ifndef PERDURE_TASK_PROGRESS_H
#define PERDURE_TASK_PROGRESS_H

#include "base/buf.h"

struct progress_look {
    bool utf8, colour;
    unsigned width;  /* of the terminal, in cells; lines are cut to it. 0: not cut */
    unsigned lines;  /* tasks shown at most */
    uint64_t now_ms; /* wall */
};
/* The run (GET /api/runs/ID), as lines; *ret_lines of them. PD_INVALID: it is none; PD_NOMEM. */
pd_err progress_run(struct span run, const struct progress_look *look, struct buf *out,
                    unsigned *ret_lines) PD_CHECKED;
/* One event (a line of GET /api/runs/ID/events), as a line. Of no interest: nothing is added. The same. */
pd_err progress_event(struct span event, const struct progress_look *look, struct buf *out) PD_CHECKED;

/* One line each, for `perdure runs`. `answer`: GET /api/runs. */
pd_err progress_list(struct span answer, const struct progress_look *look, struct buf *out) PD_CHECKED;
/* The run and all its tasks, each below the last one that it needs, for `perdure runs show`; of more than 500 tasks a list. */
pd_err progress_show(struct span run, const struct progress_look *look, struct buf *out) PD_CHECKED;
/* The tasks of a plan (plan_put_json()) in the same order, for `perdure run --check`. */
pd_err progress_plan(struct span plan, const struct progress_look *look, struct buf *out) PD_CHECKED;
/* What waits for a person, for `perdure review`. `answer`: GET /api/reviews. */
pd_err progress_reviews(struct span answer, const struct progress_look *look, struct buf *out) PD_CHECKED;

#endif
