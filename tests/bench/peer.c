/* peer - the provider of the benchmarks: as little work as possible, so that what is measured is the proxy.
 *
 *   peer PORT CHUNKS RATE      a path with "stream" in it: CHUNKS events of 250 bytes, RATE a second, each with the time it was sent;
 *                              any other: a chat completion of 600 bytes. Prints "ready". */
#include "bench.h"

enum { IN = 65536, TICKS_PER_SECOND = 1000 };

struct conn {
    int fd;
    size_t got, need; /* of the request; need 0: its head is not there yet */
    bool stream, busy;
    unsigned left;     /* chunks to send */
    struct conn *next; /* in its slot */
    char head[2048];
};

static struct conn *slots[10000];
static unsigned slots_count, slot_next, chunks, slot_now;
static int ep;

static char unary[2048];
static size_t unary_size;

static void build_unary(void)
{
    char body[1024], text[300];
    memset(text, 'x', sizeof(text));
    text[260] = '\0';
    int n = snprintf(
        body, sizeof(body),
        "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"m\","
        "\"choices\":[{\"index\":0,"
        "\"message\":{\"role\":\"assistant\",\"content\":\"%s\"},\"logprobs\":null,\"finish_reason\":\"stop\"}],"
        "\"usage\":{\"prompt_tokens\":100,\"completion_tokens\":60,\"total_tokens\":160,\"prompt_tokens_details\":"
        "{\"cached_tokens\":0}},"
        "\"system_fingerprint\":\"fp_bench\"}",
        text);
    while (n < 600)
        body[n++] = ' ';
    unary_size = (size_t)snprintf(
        unary, sizeof(unary),
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%.*s", n, n, body);
}

static void drop(struct conn *c)
{
    close(c->fd);
    c->fd = -1;
    if (!c->busy)
        free(c); /* otherwise its slot does */
}

static void send_all(struct conn *c, const char *p, size_t n)
{
    ssize_t sent = send(c->fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent != (ssize_t)n && errno != EAGAIN)
        c->left = 0;
}

static void send_chunk(struct conn *c)
{
    char event[300], out[340];
    memset(event, 'y', sizeof(event));
    int n = snprintf(
        event, sizeof(event),
        "data: "
        "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"m\","
        "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"t%020llu",
        (unsigned long long)now_ns());
    event[n] = 'y';
    static const char tail[] = "\"},\"finish_reason\":null}]}\n\n";
    memcpy(event + 250 - (sizeof(tail) - 1), tail, sizeof(tail) - 1);
    int size = snprintf(out, sizeof(out), "fa\r\n%.*s\r\n", 250, event);
    send_all(c, out, (size_t)size);
}

static void end_stream(struct conn *c)
{
    static const char last[] =
        "data: "
        "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"m\","
        "\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    char out[400];
    int n = snprintf(out, sizeof(out), "%zx\r\n%s\r\n0\r\n\r\n", sizeof(last) - 1, last);
    send_all(c, out, (size_t)n);
    c->busy = false;
    c->got = c->need = 0;
}

static void answer(struct conn *c)
{
    if (!c->stream) {
        c->got = c->need = 0;
        send_all(c, unary, unary_size);
        return;
    }
    static const char head[] =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    send_all(c, head, sizeof(head) - 1);
    c->left = chunks;
    c->busy = true;
    send_chunk(c);
    c->left--;
    c->next = slots[slot_next];
    slots[slot_next] = c;
    slot_next = (slot_next + 1) % slots_count;
}

static void on_read(struct conn *c)
{
    static char scratch[IN];
    for (;;) {
        ssize_t n = recv(c->fd, scratch, sizeof(scratch), MSG_DONTWAIT);
        if (n <= 0) {
            if (n == 0 || errno != EAGAIN)
                drop(c);
            return;
        }
        if (!c->need) {
            size_t room = sizeof(c->head) - 1 - c->got, take = (size_t)n < room ? (size_t)n : room;
            memcpy(c->head + c->got, scratch, take);
            c->head[c->got + take] = '\0';
            char *end = strstr(c->head, "\r\n\r\n");
            if (end) {
                char *length = strcasestr(c->head, "content-length:");
                c->need = (size_t)(end + 4 - c->head) + (length ? strtoul(length + 15, NULL, 10) : 0);
                char *line = strstr(c->head, "\r\n");
                *line = '\0';
                c->stream = strstr(c->head, "stream") != NULL;
            }
        }
        c->got += (size_t)n;
        if (c->need && c->got >= c->need)
            answer(c);
        if ((size_t)n < sizeof(scratch))
            return;
    }
}

static void tick(void)
{
    struct conn **at = &slots[slot_now];
    slot_now = (slot_now + 1) % slots_count;
    while (*at) {
        struct conn *c = *at;
        bool over = c->fd < 0 || c->left == 0;
        if (!over) {
            send_chunk(c);
            over = --c->left == 0;
        }
        if (!over) {
            at = &c->next;
            continue;
        }
        *at = c->next;
        if (c->fd >= 0)
            end_stream(c);
        else
            free(c);
    }
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    all_descriptors();
    build_unary();
    chunks = (unsigned)atoi(argv[2]);
    slots_count = TICKS_PER_SECOND / (unsigned)atoi(argv[3]);
    ep = epoll_create1(0);
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)atoi(argv[1])),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    no_delay(fd);
    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, 4096))
        die("peer: listen");
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL}, seen[512];
    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
    printf("ready\n");
    fflush(stdout);
    uint64_t due = now_ns();
    for (;;) {
        uint64_t now = now_ns();
        while (now >= due) {
            tick();
            due += 1000000000u / TICKS_PER_SECOND;
        }
        int n = epoll_wait(ep, seen, 512, 1);
        for (int i = 0; i < n; i++) {
            if (seen[i].data.ptr) {
                on_read(seen[i].data.ptr);
                continue;
            }
            int got;
            while ((got = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                struct conn *c = calloc(1, sizeof(*c));
                c->fd = got;
                struct epoll_event add = {.events = EPOLLIN, .data.ptr = c};
                epoll_ctl(ep, EPOLL_CTL_ADD, got, &add);
            }
        }
    }
}
