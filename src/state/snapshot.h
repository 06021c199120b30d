/* snapshot.h - a small document that is replaced as a whole: what the gateway knows of its targets, for the next start.
 *
 * Written to a file beside it, fsynced, renamed, and the folder fsynced: whoever reads sees the old one or the new one, whatever happens in
 * between. A first line holds its length and hash, so that a damaged file is not believed.
 *
 * A saver writes again and again: every SNAPSHOT_EVERY_MS it asks for the document and, when it has changed, writes it
 * off the loop. */
#ifndef PERDURE_STATE_SNAPSHOT_H
#define PERDURE_STATE_SNAPSHOT_H

#include "base/buf.h"
#include "loop/loop.h"

enum { SNAPSHOT_EVERY_MS = 2000, SNAPSHOT_MAX = 64 << 20 };

/* Blocks. PD_IO (errno says why), PD_NOFD, PD_NOMEM. */
pd_err snapshot_write(const char *folder, const char *name, struct span document) PD_CHECKED;
/* PD_NOTFOUND: none there; PD_SYNTAX: damaged; PD_TOOBIG; PD_IO; PD_NOMEM. */
pd_err snapshot_read(const char *folder, const char *name, struct buf *ret) PD_CHECKED;

/* Removes what writers of it that were killed left beside it. Only for who holds a lock that all its writers hold. */
void snapshot_sweep(const char *folder, const char *name);

/* Writes the document into `out`; on the loop, so it is brief. What it returns but PD_OK: nothing is saved this time. */
typedef pd_err snapshot_fn(void *ctx, struct buf *out);

struct saver;
/* The loop must run until saver_free(). folder and name are copied. */
struct saver *saver_new(struct loop *l, const char *folder, const char *name, snapshot_fn *fn,
                        void *ctx) PD_CHECKED;
/* Stops, waits for a write that is under way, and saves a last time, before it returns. NULL is fine; returns NULL. */
struct saver *saver_free(struct saver *s);

#endif
