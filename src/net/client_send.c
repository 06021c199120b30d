#include "net/client_priv.h"

#include "base/mem.h"

/* Empty parts are passed over: the position always stands at a byte to send, or at the end. */
static void step_over(struct exchange *x, size_t n)
{
    x->part_at += n;
    while (x->part < x->parts_count && x->part_at >= x->parts[x->part].n) {
        x->part_at -= x->parts[x->part].n;
        x->part++;
    }
}

void exchange_drop_head(struct exchange *x)
{
    if (!x->head || !x->sent || !x->answered)
        return;
    mem_free(x->head);
    x->head = NULL;
    x->parts[0] = SPAN_NONE;
}

static void all_sent(struct exchange *x)
{
    x->sent = true;
    exchange_drop_head(x);
    x->send_blocked = false;
    x->info.sent_us = loop_now_us(x->c->loop);
    timer_stop(x->c->loop, &x->deadline);
    if (x->info.phase == EXCHANGE_SENDING)
        x->info.phase = EXCHANGE_WAITING;
    exchange_watch(x);
    if (!x->told_sent && x->h.on_sent) {
        x->told_sent = true;
        x->h.on_sent(x->ctx);
    }
}

/* The peer takes nothing more. It may have said why before it left ("413"): what can be read decides. */
static void refused(struct exchange *x)
{
    x->no_more = true;
    x->send_blocked = false;
    timer_stop(x->c->loop, &x->deadline);
    x->conn->unwatched = true;
    if (x->paused)
        x->conn->gone = true;
    else
        exchange_receive(x);
}

void exchange_send(struct exchange *x)
{
    struct client *c = x->c;
    struct conn *k = x->conn;
    size_t turn = 0;
    bool moved = false, full = false;
    while (!x->no_more && !full && x->part < x->parts_count && turn < CLIENT_SEND_TURN) {
        size_t n = conn_write(k, x->parts + x->part, x->parts_count - x->part, x->part_at, &full);
        if (k->send_end) {
            refused(x);
            return;
        }
        if (n == 0)
            break;
        moved = true;
        turn += n;
        step_over(x, n);
    }
    if (x->no_more) {
        x->send_blocked = false;
        timer_stop(c->loop, &x->deadline);
        exchange_watch(x);
        return;
    }
    if (x->part == x->parts_count) {
        all_sent(x);
        return;
    }
    if (moved || !x->send_blocked)
        timer_arm(c->loop, &x->deadline, loop_now_ms(c->loop) + c->rules.send_stall_ms);
    x->send_blocked = true;
    exchange_watch(x);
}
