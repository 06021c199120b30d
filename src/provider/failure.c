#include "provider/failure.h"

#include <assert.h>

static const struct failure_row rows[] = {
#define X(code, name, same, elsewhere, blame, status, client_code, what) \
    [code] = {name, same, elsewhere, blame, status, client_code, what},
    FAILURES(X)
#undef X
};

const struct failure_row *failure_row(enum failure f)
{
    assert((unsigned)f < FAILURE_COUNT);
    return &rows[f];
}

const char *limit_kind_name(enum limit_kind k)
{
    switch (k) {
    case LIMIT_UNKNOWN:
        return "unknown";
    case LIMIT_REQUESTS:
        return "requests";
    case LIMIT_TOKENS:
        return "tokens";
    case LIMIT_DAILY:
        return "daily";
    case LIMIT_CONCURRENCY:
        return "concurrency";
    case LIMIT_RAMP:
        return "ramp";
    }
    return "unknown";
}
