#include "task/pass.h"

#include <assert.h>

void pass_open(struct pass *p, int fd, uint64_t patience_ms)
{
    *p = (struct pass){.patience_ms = patience_ms < PASS_PATIENCE_MS ? patience_ms : PASS_PATIENCE_MS};
    buf_init(&p->waits, PASS_KEPT_MAX);
    outlet_open(&p->to, fd);
}

void pass_close(struct pass *p)
{
    buf_done(&p->waits);
    outlet_close(&p->to);
}

bool pass_waits(const struct pass *p)
{
    return buf_size(&p->waits) > 0;
}

/* The only place that writes p->state: what entering a state means is here. */
static void enter(struct pass *p, enum pass_state to, uint64_t now)
{
    switch (to) {
    case PASS_READ:
        if (p->lost &&
            buf_printf(&p->waits, "\n[perdure supervise: %llu bytes left out here, which nobody read]\n",
                       (unsigned long long)p->lost) == PD_OK)
            p->lost = 0;
        break;
    case PASS_HELD:
        p->taken_ms = now;
        break;
    case PASS_UNREAD:
        break;
    }
    p->state = to;
}

static void lose(struct pass *p, size_t bytes)
{
    p->lost += bytes;
    p->lost_all += bytes;
}

/* What is taken at once. Nobody reads any more: all of it, since it is nobody's loss. */
static size_t write_some(struct pass *p, struct span s)
{
    size_t all = 0;
    while (s.n) {
        ssize_t n = outlet_write(&p->to, s);
        if (n < 0)
            return all + s.n;
        if (n == 0)
            break;
        all += (size_t)n;
        s = span_from(s, (size_t)n);
    }
    return all;
}

static void keep(struct pass *p, struct span s, uint64_t now)
{
    if (buf_size(&p->waits) + s.n > PASS_KEPT_MAX || buf_add(&p->waits, s) != PD_OK)
        lose(p, s.n);
    else if (p->state == PASS_READ)
        enter(p, PASS_HELD, now);
}

void pass_put(struct pass *p, struct span piece, uint64_t now)
{
    pass_on(p, now);
    if (p->state == PASS_UNREAD || p->lost) {
        lose(p, piece.n); /* after a gap nothing is put before the line that tells of it */
        return;
    }
    size_t took = pass_waits(p) ? 0 : write_some(p, piece);
    if (took < piece.n)
        keep(p, span_from(piece, took), now);
}

void pass_on(struct pass *p, uint64_t now)
{
    size_t took = write_some(p, buf_span(&p->waits));
    buf_take(&p->waits, took);
    if (took)
        p->taken_ms = now;
    if (p->state == PASS_HELD && pass_waits(p) && now - p->taken_ms >= p->patience_ms)
        enter(p, PASS_UNREAD, now);
    if ((p->state == PASS_READ && !p->lost) || pass_waits(p))
        return;
    enter(p, PASS_READ, now);
    took = write_some(p, buf_span(&p->waits)); /* the line */
    buf_take(&p->waits, took);
    if (pass_waits(p))
        enter(p, PASS_HELD, now);
}
