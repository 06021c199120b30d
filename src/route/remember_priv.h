/* remember_priv.h - what writing (remember.c) and reading (remember_read.c) of what was learned share. */
#ifndef PERDURE_ROUTE_REMEMBER_PRIV_H
#define PERDURE_ROUTE_REMEMBER_PRIV_H

#include "route/fleet_priv.h"

/* Figures are written as whole numbers: parts of a million, and what a bucket fills by in parts of a thousand millions for each ms. */
#define REMEMBER_UNITS 1e6
#define REMEMBER_PER_MS 1e9
#define REMEMBER_MOST 1e18
enum { REMEMBER_END_BYTES = 4 + 16 + 1 };

/* The last line of a document of which this is all before it. */
void remember_end(struct span doc, char ret[REMEMBER_END_BYTES + 1]);
/* "since WRITTEN" */
bool remember_since(struct span line, uint64_t *ret);

#endif
