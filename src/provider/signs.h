/* signs.h - the codes and words by which failures are known.
 *
 * Status codes are coarse and some are wrong: a key is refused with 400, an empty account with 403, a full machine
 * with 429, a prompt that is too long with 429 or 413. What the body says is looked at first, most exact first: the codes
 * that can mean one thing only, then wordings, then the codes that are used for several things.
 *
 * A new quirk of a provider is a row in signs.c. */
#ifndef PERDURE_PROVIDER_SIGNS_H
#define PERDURE_PROVIDER_SIGNS_H

#include "provider/failure.h"

/* With which statuses a sign counts: words that mean something with 400 may be an echo of the prompt elsewhere. */
enum {
    AT_OK = 1 << 0,  /* no failing status: a 200 body, an event in a stream */
    AT_400 = 1 << 1, /* 400 and the other 4xx that are not named here */
    AT_401 = 1 << 2,
    AT_402 = 1 << 3,
    AT_403 = 1 << 4,
    AT_404 = 1 << 5,
    AT_413 = 1 << 6,
    AT_429 = 1 << 7,
    AT_500 = 1 << 8,      /* 500 and the other 5xx that are not named here */
    AT_503 = 1 << 9,      /* 503, 529, 498 */
    AT_TIMEOUT = 1 << 10, /* 408, 504, 524, 598, 599 */
    AT_ANY = (1 << 11) - 1,
};
unsigned signs_at(int status);

struct sign {
    unsigned at;
    enum failure failure;
};

/* A code or type that can mean one thing only / that says something when nothing better does. Case and punctuation do not
 * matter: "RateLimitReached" is "rate_limit_reached". NULL: not known, or not at this status. */
const struct sign *sign_of_code(struct span code, unsigned at);
const struct sign *sign_of_weak_code(struct span code, unsigned at);
/* What is said, in lower case. */
const struct sign *sign_of_words(struct span said, unsigned at);
/* Which limit was met, by what is said. */
enum limit_kind limit_of_words(struct span said);
/* A 404 about the URL, not about the model. */
bool says_no_such_path(struct span said);

#endif
