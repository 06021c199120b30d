/* fuzz_url.c - what url_parse takes, put together again, is the same URL. */
#include "base/buf.h"
#include "parse/url.h"

#include <stdlib.h>

#define MUST(x)      \
    do {             \
        if (!(x))    \
            abort(); \
    } while (0)

static void within(struct span part, struct span in)
{
    MUST(part.n == 0 || (part.p >= in.p && part.p + part.n <= in.p + in.n));
}

static void again(const struct url *u)
{
    struct buf text;
    struct url back;
    const char *why;
    buf_init(&text, 0);
    MUST(buf_puts(&text, u->tls ? "https://" : "http://") == PD_OK);
    MUST(buf_add(&text, u->user_info) == PD_OK);
    MUST(buf_puts(&text, u->user_info.p ? "@" : "") == PD_OK);
    MUST(buf_puts(&text, u->ipv6 ? "[" : "") == PD_OK);
    MUST(buf_add(&text, u->host) == PD_OK);
    MUST(buf_puts(&text, u->ipv6 ? "]" : "") == PD_OK);
    MUST(buf_printf(&text, ":%u", (unsigned)u->port) == PD_OK);
    MUST(buf_add(&text, u->path) == PD_OK);
    MUST(buf_puts(&text, u->query.p ? "?" : "") == PD_OK);
    MUST(buf_add(&text, u->query) == PD_OK);
    MUST(url_parse(buf_span(&text), &back, &why) == PD_OK);
    MUST(back.tls == u->tls && back.ipv6 == u->ipv6 && back.port == u->port);
    MUST(span_eq(back.host, u->host) && span_eq(back.user_info, u->user_info));
    MUST(span_eq(back.path, u->path) && span_eq(back.query, u->query));
    buf_done(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span in = span_of((const char *)data, size);
    struct url u;
    const char *why = NULL;
    if (url_parse(in, &u, &why)) {
        MUST(why && *why);
        return 0;
    }
    MUST(u.host.n && u.port);
    within(u.host, in);
    within(u.user_info, in);
    within(u.path, in);
    within(u.query, in);
    again(&u);
    return 0;
}
