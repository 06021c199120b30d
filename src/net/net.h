/* net.h - what the room needs once, before anything else of it. */
#ifndef PERDURE_NET_NET_H
#define PERDURE_NET_NET_H

#include "base/err.h"

/* Once at start, before any other call that might reach OpenSSL: it takes our allocator, its tables are built
 * while memory is surely there, and SIGPIPE is ignored (OpenSSL writes with write(2)). Calling it again is fine.
 * PD_EXISTS: OpenSSL was used before, so its memory is not counted. PD_NOMEM. */
pd_err net_process_init(void) PD_CHECKED;

#endif
