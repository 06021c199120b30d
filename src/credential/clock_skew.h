/* clock_skew.h - whether this machine's clock is wrong, told by a server's Date header.
 *
 * A signature and a token carry our time, and a server that refuses them often does not say that it is the time it minds. */
#ifndef PERDURE_CREDENTIAL_CLOCK_SKEW_H
#define PERDURE_CREDENTIAL_CLOCK_SKEW_H

#include "parse/http1.h"

enum { CLOCK_SKEW_LEAST_MS = 5 * 60 * 1000 /* AWS refuses from here on */, CLOCK_SKEW_TEXT_BYTES = 160 };

/* Milliseconds that our clock is ahead of the server's, negative when it is behind; 0 within CLOCK_SKEW_LEAST_MS, and when the
 * server says no time. */
int64_t clock_skew_of(const struct http1_head *head, uint64_t wall_ms);
/* "the clock of this machine may be wrong: it says 2026-11-24T07:08:09Z, the server says 2026-11-24T09:08:10Z", or "" for 0. Returns
 * out, of CLOCK_SKEW_TEXT_BYTES. */
const char *clock_skew_text(int64_t skew_ms, uint64_t wall_ms, char *out);

#endif
