/* varied.h - texts that nobody can know beforehand and anybody can check.
 *
 *   [1] amber слово "quoted" 連続した流れ #1b2e9a07; [2] ...
 *
 * Numbered items of random words in many scripts. Each ends with a checksum of its own words, and what stands between two items
 * follows from their numbers: from the text alone it can be told whether every item is there once, in order and uncut. The words of
 * an item may come from two models: the one that completes it puts the checksum of the whole.
 *
 * Pure. */
#ifndef PERDURE_SIMULATE_VARIED_H
#define PERDURE_SIMULATE_VARIED_H

#include "base/rnd.h"
#include "parse/put.h"

enum { VARIED_ITEMS_MAX = 20000 };

/* The rest of a text of that many items, behind `so_far` (empty: all of it). PD_SYNTAX: so_far is no beginning of such a text. */
pd_err varied_go_on(struct put *out, struct span so_far, int64_t items, struct rnd *rnd) PD_CHECKED;
/* One item without its number: for an argument of a tool call. */
void varied_put_line(struct put *out, struct rnd *rnd);
/* A whole text of that many items. */
bool varied_whole(struct span text, int64_t items);
/* A whole item of varied_put_line(). */
bool varied_line_whole(struct span text);

#endif
