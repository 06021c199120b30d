/* spent.h - what each attempt of a call has used: tokens, of which the client may have seen nothing, and dollars.
 *
 * Providers are paid for what they made, also where it broke off, or lost against another one. What they report is taken; where they did not get to it,
 * tokens are estimated from bytes, and flagged. An attempt that was refused, or never reached its provider, costs nothing. */
#ifndef PERDURE_RELAY_SPENT_H
#define PERDURE_RELAY_SPENT_H

#include "base/span.h"

struct run;
struct relay;
struct answer_facts;
struct conf_price;

enum { BYTES_A_TOKEN = 4 }; /* about, where a provider did not say */

struct spent {
    struct spent *next; /* of an attempt before it */
    int attempt;
    bool continues; /* it was asked to go on with what another had begun */
    bool estimated;
    int64_t tokens_in, tokens_out;   /* in: with what came from a cache or went into one */
    int64_t cache_read, cache_write; /* -1: not reported */
    int64_t cost_pico;               /* picodollars; -1: its price is not known */
};

/* The output tokens of an answer that broke off. Some formats report a count at the beginning, too: one that is far below what came is none. */
int64_t spent_output(const struct answer_facts *f, bool *ret_estimated);
/* What tokens_in and tokens_out of it cost, in picodollars; -1: no price (NULL), or numbers that make no sense. */
int64_t spent_cost(const struct spent *s, const struct conf_price *p);
/* The attempt is over; once for each. `whole`: its answer is. Out of memory nothing is noted. */
void spent_note(struct relay *r, struct run *run, bool whole);
/* What an attempt that runs has used so far, as far as anyone can tell. */
void spent_so_far(const struct relay *r, const struct run *run, struct spent *ret);
/* NULL: nothing was noted, it did not begin. */
const struct spent *spent_find(const struct relay *r, int attempt);

#endif
