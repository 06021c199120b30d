/* left.h - turns that a process ends after it has given its database up to a successor: files in a folder of the state, which the successor reads.
 *
 * A file is a whole checkpoint (snapshot.h: all of it or none, with its hash), and is deleted when the database has committed it. So what a process left that was
 * killed in the middle is read too, by whoever opens the folder next; one that is read twice is made twice, which loses nothing. */
#ifndef PERDURE_CHECKPOINT_LEFT_H
#define PERDURE_CHECKPOINT_LEFT_H

#include "checkpoint/checkpoint_priv.h"

/* Blocks. PD_IO, PD_NOMEM, PD_TOOBIG: it is not kept. */
pd_err left_write(const char *folder, const struct made *m) PD_CHECKED;
/* Makes what is there checkpoints, oldest first. Blocks; how many it made. A damaged file is deleted, and that is said; one that
 * cannot be read now, or that the database does not take, stays. */
unsigned left_read(struct checkpoints *c, const char *folder);

#endif
