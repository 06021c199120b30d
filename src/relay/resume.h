/* resume.h - a client that comes back: the same request asked again while its first try still runs, or after it broke off. */
#ifndef PERDURE_RELAY_RESUME_H
#define PERDURE_RELAY_RESUME_H

#include "relay/relay_priv.h"

/* What the request at hand is for. True: its answer is another call's, and it was handed over to a follower: this relay has nothing left to do. Otherwise r->kept
 * is what this call shows its answer in; where it holds something already, the call goes on from there (resume_replay()). */
bool resume_join(struct relay *r);
/* Does the call go on from what an earlier one has shown? */
bool resume_is(const struct relay *r);
/* Makes the call's writer, which has what there is and shows it with the first that is new: until then the call may still begin afresh. PD_NOMEM. */
pd_err resume_replay(struct relay *r) PD_CHECKED;
/* Nobody goes on with it, and its client has seen nothing of it: the call begins afresh. */
void resume_give_up(struct relay *r);
/* An attempt begins that does not go on with what a client who does not stream might have had: that is forgotten. */
void resume_afresh(struct relay *r);
/* Is the answer, now that it is whole, for others too? Then all of it has to be in r->kept. */
bool resume_wants_all(struct relay *r);
/* The client leaves, or is told that its stream broke; the request's bytes are still there. It may come back for the answer. */
void resume_expect(struct relay *r);
/* It could not be given it: what it came back for is there for its next try. */
void resume_give_back(struct relay *r);
/* The client left: does the answer go on without it? */
bool resume_lingers(struct relay *r);
/* It did so for as long as was meant: does it still, since somebody follows it? */
bool resume_lingers_on(struct relay *r);
/* More was shown: followers are told, and the journal. */
void resume_progress(struct relay *r);
uint64_t resume_due(const struct relay *r); /* when it is to be called although nothing came; CLOCK_NEVER */
/* Was this request on hold when an earlier process ended? Then that goes on. */
void resume_hold(struct relay *r, struct call_want *want);
/* The call is on hold now, or no longer: the journal is told. */
void resume_holds(struct relay *r);
/* The call is over. */
void resume_settle(struct relay *r);

#endif
