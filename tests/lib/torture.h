/* torture.h - fails the 1st, 2nd, 3rd ... allocation of a piece of work in turn. */
#ifndef PERDURE_TESTS_TORTURE_H
#define PERDURE_TESTS_TORTURE_H

#include "base/err.h"

/* `work` does everything from nothing to nothing and returns how it went. It is run with the nth allocation failing, n = 1, 2, ...,
 * until a run in which none failed. Each failed run must return something but PD_OK, and every run must free all it took.
 * Returns the number of allocations that were failed; prints and aborts when a promise is broken. */
unsigned torture(pd_err (*work)(void *ctx), void *ctx);

/* As torture(), for work that may absorb a failure (a cache that stays empty): the result may be PD_OK. Leaks still abort. */
unsigned torture_lenient(pd_err (*work)(void *ctx), void *ctx);

#endif
