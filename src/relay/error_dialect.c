#include "relay/error_dialect.h"

#include <assert.h>

/* What a client is told to wait at least: without it some would stop, others ask again at once. */
enum { TOLD_WAIT_LEAST_MS = 1000 };

static const struct {
    const char *word;
    int busy;
    enum break_style style;
} rows[] = {
#define X(code, word, busy, style, why) [code] = {word, busy, style},
    CLIENTS(X)
#undef X
};

enum client_kind client_kind_of(struct span user_agent)
{
    unsigned k = 0;
    while (k < CLIENT_OTHER && !span_ihas(user_agent, rows[k].word))
        k++;
    return (enum client_kind)k;
}

enum break_style client_break_style(enum client_kind k)
{
    assert((unsigned)k < CLIENT_KIND_COUNT);
    return rows[k].style;
}

bool failure_heals(enum failure f)
{
    const struct failure_row *row = failure_row(f);
    return row->blame != BLAME_PARK && row->client_status >= 429;
}

/* Clients ask again after 408, 409, 429 and all from 500 on, whatever the body says. */
static bool invites(int status)
{
    return status == 408 || status == 409 || status == 429 || status >= 500;
}

static int status_of(enum client_kind k, enum failure f, int provider_status)
{
    int status = failure_row(f)->client_status;
    if (status == 0)
        return provider_status < 400 || invites(provider_status) ? 400 : provider_status;
    return f == FAILURE_RATE ? rows[k].busy : status;
}

struct error_form error_form_of(enum client_kind k, enum failure f, int provider_status, uint64_t retry_after_ms)
{
    assert((unsigned)k < CLIENT_KIND_COUNT);
    struct error_form form = {status_of(k, f, provider_status), failure_heals(f), retry_after_ms};
    if (form.retry && retry_after_ms < TOLD_WAIT_LEAST_MS)
        form.retry_after_ms = TOLD_WAIT_LEAST_MS;
    return form;
}
