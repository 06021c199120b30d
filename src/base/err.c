#include "base/err.h"

const char *pd_err_text(pd_err e)
{
    static const char *const text[] = {
#define X(code, sentence) sentence,
        PD_ERRORS(X)
#undef X
    };
    return (unsigned)e < PD_ERR_COUNT ? text[e] : "unknown error";
}

const char *pd_err_name(pd_err e)
{
    static const char *const name[] = {
#define X(code, sentence) #code,
        PD_ERRORS(X)
#undef X
    };
    return (unsigned)e < PD_ERR_COUNT ? name[e] : "PD_UNKNOWN";
}
