/* client_priv.h - what the files of the client share.
 *
 *   client.c           the client: rules, figures, graveyard, closing
 *   client_origin.c    origins, their idle connections and TLS contexts
 *   client_dial.c      name -> addresses -> the first connected socket (RFC 8305)
 *   client_conn.c      one connection: read, write, close
 *   client_exchange.c  one exchange: its phases, deadlines and end
 *   client_request.c   its request's head, and its beginning
 *   client_send.c      sending                  client_recv.c   its answer
 *
 * Lifetimes. A connection ends by upstream_close() and is freed in its watch's closed callback, a later turn. An exchange that ended
 * goes to the graveyard and is freed at the end of the turn. So no callback frees what its caller still holds, and whoever
 * called out only has to ask "is it still mine?" (x->ended, k->state) before going on. */
#ifndef PERDURE_NET_CLIENT_PRIV_H
#define PERDURE_NET_CLIENT_PRIV_H

#include "base/buf.h"
#include "net/client.h"
#include "net/dns.h"
#include "net/proxy.h"
#include "net/tls.h"

enum {
    CLIENT_SCRATCH = 64 * 1024,   /* read at once, shared by all connections of a client */
    CLIENT_WHY = 400,             /* longest sentence */
    CLIENT_INTERIM_MAX = 32,      /* 1xx heads before the answer */
    CLIENT_SEND_TURN = 1 << 20,   /* bytes sent before others have their turn */
    CLIENT_NEXT_ADDRESS_MS = 250, /* RFC 8305, section 5 */
    CLIENT_REQUEST_HEAD_MAX = 256 * 1024
};

struct trust { /* one TLS context for all origins that trust alike */
    struct list node;
    struct tls_ctx *tls;
    unsigned refs;
    bool insecure;
    char *ca_file; /* NULL: the system's */
};

struct client {
    struct loop *loop;
    struct client_rules rules;
    struct client_stats stats;
    struct dns *dns;
    struct list origins, trusts;
    struct list exchanges; /* running */
    struct list graveyard; /* ended, freed by reap */
    struct later reap;
    unsigned conns;            /* every struct conn that is not freed yet */
    void (*closed)(void *ctx); /* set: closing */
    void *closed_ctx;
    char why[CLIENT_WHY];
    char scratch[CLIENT_SCRATCH];
};

struct origin {
    struct list node;
    struct client *c;
    unsigned refs; /* callers and exchanges */
    bool tls;
    uint16_t port;
    char *host, *authority;
    char *proxy_given; /* as configured, to recognise the same origin; NULL: from the environment */
    struct proxy proxy;
    struct trust *trust;
    struct tls_sessions sessions;
    struct list idle; /* the last used first */
    unsigned idle_count;
    struct timer idle_timer; /* due when the last of `idle` is */
};

/*   CONNECTING --connected--> BUSY --answer complete--> IDLE --taken--> BUSY
 *   each of them --closed by either side, or lost a race--> CLOSING */
enum conn_state { CONN_CONNECTING, CONN_BUSY, CONN_IDLE, CONN_CLOSING };
struct conn {
    struct watch watch;
    struct list node; /* dial->tries or origin->idle */
    struct client *c;
    struct origin *o;
    struct exchange *x; /* BUSY */
    struct dial *dial;  /* CONNECTING */
    struct tls tls;
    struct buf held; /* read, but not handed over: part of a head, or what came before a pause */
    uint64_t idle_since_ms;
    union dns_address address;
    enum conn_state state;
    pd_err read_end; /* how reading ended; PD_OK: it goes on */
    pd_err send_end;
    bool gone;      /* the peer's end was seen while paused: no need to be told again */
    bool unwatched; /* libuv stopped polling after an error: read until the end is seen */
    bool counted;
};

struct dial {
    struct client *c;
    struct exchange *x;
    struct dns_ask ask;
    struct dns_addresses to;
    unsigned next, failed;
    struct list tries; /* conn->node */
    struct timer stagger;
    pd_err err; /* of the first that failed */
    char why[160];
    const char *host; /* the origin's or its proxy's */
    uint16_t port;
};

struct exchange {
    struct list node; /* client->exchanges or ->graveyard */
    struct client *c;
    struct origin *o;
    struct conn *conn;
    struct dial *dial;
    struct exchange_handler h;
    void *ctx;
    struct exchange_info info;
    struct timer deadline;
    uint64_t connect_ms, tls_ms;
    struct later kick; /* begin, or read on after a resume */
    struct http1_body body;
    struct span *parts;         /* the head, then the caller's body */
    char *head;                 /* parts[0]; NULL: all is sent and it will not be sent anew */
    unsigned parts_count, part; /* all, and the one being sent */
    size_t part_at;
    unsigned interim;
    size_t head_seen;
    bool begun, ended, paused, fresh, head_request;
    bool sent, told_sent, answered; /* answered: the first byte of an answer came */
    bool no_more;                   /* refused before all was sent: the rest stays here */
    bool send_blocked, keep;
};

/* client.c */
void client_bury(struct client *c, struct exchange *x);
void client_check_closed(struct client *c);

/* client_origin.c */
void origin_put_idle(struct origin *o, struct conn *k);
struct conn *origin_take_idle(struct origin *o);
void origin_lost_idle(struct origin *o, struct conn *k);
void origin_close_idle(struct origin *o);

/* client_conn.c */
struct conn *upstream_new(struct client *c, struct origin *o) PD_CHECKED;
/* Starts connecting. On an error the connection is closed and freed. */
pd_err conn_connect(struct conn *k, const union dns_address *a, uint16_t port) PD_CHECKED;
/* After the first event: did it connect? *ret_errno is the system's answer. */
bool conn_connected(struct conn *k, int *ret_errno);
void upstream_close(struct conn *k);
/* *ret bytes, 0 when it would block; when reading ended k->read_end says how, and bytes may still have come. */
size_t conn_read(struct conn *k, char *p, size_t n);
/* As writev; 0 when it would block. *ret_full: the kernel took less than it was given, so trying again is in vain until WATCH_WRITE.
 * An error is in k->send_end. */
size_t conn_write(struct conn *k, const struct span *parts, unsigned count, size_t skip, bool *ret_full);
pd_err conn_errno(int code);

/* client_dial.c */
pd_err dial_start(struct exchange *x) PD_CHECKED;
void dial_abort(struct dial *d);
void dial_event(struct conn *k);

/* client_exchange.c */
void exchange_set_out(struct exchange *x); /* begins in the turn's end, never inside exchange_start */
void exchange_connected(struct exchange *x, struct conn *k);
void exchange_event(struct exchange *x, int events, pd_err err);
/* Ends it: on_end is called (not for a cancel), the connection is closed or kept. `why` NULL: the error's own sentence. */
void exchange_end(struct exchange *x, pd_err err, const char *why);
/* The connection failed with `err` before, in or after the answer: tries again, or ends. */
void exchange_lost(struct exchange *x, pd_err err);
/* What its connection should be watched for now. */
void exchange_watch(struct exchange *x);
void exchange_abort(struct exchange *x);
const char *exchange_where(struct exchange *x, char *out, size_t n);

/* client_send.c */
void exchange_send(struct exchange *x);
/* Its head goes once it is not sent any more: an answer may take hours. */
void exchange_drop_head(struct exchange *x);
/* client_recv.c */
void exchange_receive(struct exchange *x);
void exchange_proxy_receive(struct exchange *x);

#endif
