/* load - the client of the benchmarks.
 *
 *   load unary PORT PATH CONNECTIONS SECONDS BODY_BYTES     requests one after the other on each connection
 *   load stream PORT PATH STREAMS SECONDS 0                 streams at once; each event tells when it was sent
 *
 * With BENCH_TALK each connection has a conversation of its own, of messages of 4 KB each; its requests are turns of it, which differ in their last message.
 *
 * Prints one JSON object: requests or chunks, their rate, p50 and p99 in microseconds, errors. */
#include "bench.h"

struct conn {
    int fd;
    uint64_t sent_ns;
    size_t got, need;
    bool first, head_done;
    char tail[64]; /* the end of the last read: a time stamp may be split */
    size_t tail_size;
};

static uint64_t *times, *firsts;
static size_t times_count, times_room, firsts_count, errors, done, chunks;
static char *request;
static size_t request_size;
static int port;

static void note(uint64_t ns)
{
    if (times_count < times_room)
        times[times_count++] = ns;
}

/* Each request asks something else: the same asked again by a client that left would be gone on with. */
static char *question, *talk;
static void vary(int conn)
{
    static unsigned asked;
    if (!asked)
        asked = (unsigned)now_ns(); /* another process has other questions */
    char number[9];
    if (!question)
        return;
    if (talk) {
        snprintf(number, sizeof(number), "%08x", (unsigned)conn);
        memcpy(talk, number, 8);
    }
    snprintf(number, sizeof(number), "%08x", asked++);
    memcpy(question, number, 8);
}

/* Every MESSAGE bytes another speaks, and the last is another question. */
static void cut_into_messages(char *text, size_t n)
{
    enum { MESSAGE = 4096 };
    static const char user[] = "\"},{\"role\":\"user\",\"content\":\"",
                      assistant[] = "\"},{\"role\":\"assistant\",\"content\":\"";
    size_t count = n / MESSAGE;
    for (size_t i = 1; i < count; i++) {
        const char *cut = i % 2 && i + 1 < count ? assistant : user;
        char *at = text + i * MESSAGE;
        at[-1] = 'a'; /* no escape is cut in two */
        if (at[-2] == '\\')
            at[-2] = 'a';
        memcpy(at, cut, strlen(cut));
        at[strlen(cut)] = 'a';
        question = at + strlen(cut) + 1;
    }
    if (count > 1)
        memcpy(question, "00000000", 8);
}

static void build(const char *path, size_t body_bytes, bool stream)
{
    const char *model = getenv("BENCH_MODEL");
    bool gemini = strstr(path, ":streamGenerateContent") || strstr(path, ":generateContent");
    char front[256];
    snprintf(front, sizeof(front),
             gemini ? "{\"generationConfig\":{\"temperature\":0.5},\"contents\":[{\"role\":\"user\",\"parts\":[{"
                      "\"text\":\"00000000 "
                    : "{\"model\":\"%s\",\"messages\":[{\"role\":\"system\",\"content\":\"You are helpful "
                      "assistant 00000000.\"},{\"role\":\"user\",\"content\":\"",
             model ? model : "m");
    const char *back = gemini   ? "\"}]}]}"
                       : stream ? "\"}],\"stream\":true,\"temperature\":0.5}"
                                : "\"}],\"temperature\":0.5,\"max_tokens\":100}";
    size_t least = strlen(front) + strlen(back);
    if (body_bytes < least)
        body_bytes = least;
    request = malloc(body_bytes + 1024);
    int n = sprintf(request,
                    "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\nAuthorization: "
                    "Bearer bench\r\n"
                    "User-Agent: bench\r\nContent-Length: %zu\r\n\r\n%s",
                    path, port, body_bytes, front);
    size_t fill = body_bytes - least;
    for (size_t i = 0; i < fill; i++) /* text with an escape here and there, as code has */
        request[(size_t)n + i] = i % 61 == 59 && i + 1 < fill ? '\\' : i % 61 == 60 ? 'n' : (char)('a' + i % 26);
    if (fill && request[(size_t)n + fill - 1] == '\\')
        request[(size_t)n + fill - 1] = 'a';
    strcpy(request + n + fill, back);
    request_size = (size_t)n + fill + strlen(back);
    question = strstr(request, "00000000");
    talk = getenv("BENCH_TALK") ? question : NULL;
    if (talk)
        cut_into_messages(request + n, fill);
}

static int dial(void)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)))
        die("load: connect");
    no_delay(fd);
    return fd;
}

static void ask(struct conn *c)
{
    vary(c->fd);
    size_t n = 0;
    c->sent_ns = now_ns();
    c->got = c->need = 0;
    c->first = true;
    while (n < request_size) {
        ssize_t sent = send(c->fd, request + n, request_size - n, MSG_NOSIGNAL);
        if (sent <= 0)
            die("load: send");
        n += (size_t)sent;
    }
}

/* Whole answers of known length. Returns false when the connection is over. */
static bool on_unary(struct conn *c)
{
    char in[65536];
    ssize_t n = recv(c->fd, in, sizeof(in) - 1, MSG_DONTWAIT);
    if (n <= 0)
        return n < 0 && errno == EAGAIN;
    if (c->need == 0) {
        in[n] = '\0';
        char *end = strstr(in, "\r\n\r\n"), *length = strcasestr(in, "content-length:");
        if (!end || !length || memcmp(in + 9, "200", 3) != 0) {
            errors++;
            return false;
        }
        c->need = (size_t)(end + 4 - in) + strtoul(length + 15, NULL, 10);
    }
    c->got += (size_t)n;
    if (c->got >= c->need) {
        note(now_ns() - c->sent_ns);
        done++;
        ask(c);
    }
    return true;
}

static bool on_stream(struct conn *c)
{
    char in[65536 + 128];
    memcpy(in, c->tail, c->tail_size);
    ssize_t n = recv(c->fd, in + c->tail_size, 65536, MSG_DONTWAIT);
    if (n <= 0)
        return n < 0 && errno == EAGAIN;
    uint64_t now = now_ns();
    size_t size = c->tail_size + (size_t)n;
    in[size] = '\0';
    if (c->first && c->got == 0 && memcmp(in + 9, "200", 3) != 0)
        errors++;
    c->got += (size_t)n;
    char *at = in, *used = in;
    while ((at = memmem(at, size - (size_t)(at - in), "\"t0", 3)) && (size_t)(at - in) + 22 <= size) {
        uint64_t sent = strtoull(at + 2, NULL, 10);
        note(now - sent);
        if (c->first) /* the first token, not the head: that may come long before */
            firsts[firsts_count++] = now - c->sent_ns;
        c->first = false;
        chunks++;
        at += 22;
        used = at;
    }
    bool over = memmem(in, size, "[DONE]", 6) != NULL;
    size_t left = size - (size_t)(used - in);
    c->tail_size = left < 40 ? left : 40;
    memcpy(c->tail, in + size - c->tail_size, c->tail_size);
    if (over) {
        done++;
        c->tail_size = 0;
        ask(c);
    }
    return true;
}

int main(int argc, char **argv)
{
    if (argc != 7)
        return 2;
    bool stream = strcmp(argv[1], "stream") == 0;
    port = atoi(argv[2]);
    int conns = atoi(argv[4]);
    double seconds = atof(argv[5]);
    all_descriptors();
    build(argv[3], (size_t)atol(argv[6]), stream);
    times_room = 20000000;
    times = malloc(times_room * sizeof(*times));
    firsts = malloc(times_room / 4 * sizeof(*firsts));
    int ep = epoll_create1(0);
    struct conn *list = calloc((size_t)conns, sizeof(*list));
    for (int i = 0; i < conns; i++) {
        list[i].fd = dial();
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &list[i]};
        epoll_ctl(ep, EPOLL_CTL_ADD, list[i].fd, &ev);
    }
    for (int i = 0; i < conns; i++) {
        ask(&list[i]);
        if (stream && i % 50 == 49)
            usleep(2000); /* arrivals, not one burst */
    }
    uint64_t begin = now_ns(), end = begin + (uint64_t)(seconds * 1e9);
    struct epoll_event seen[512];
    while (now_ns() < end) {
        int n = epoll_wait(ep, seen, 512, 20);
        for (int i = 0; i < n; i++) {
            struct conn *c = seen[i].data.ptr;
            if (!(stream ? on_stream(c) : on_unary(c))) {
                errors++;
                epoll_ctl(ep, EPOLL_CTL_DEL, c->fd, NULL);
                close(c->fd);
            }
        }
    }
    double took = (double)(now_ns() - begin) / 1e9;
    qsort(times, times_count, sizeof(*times), by_value);
    qsort(firsts, firsts_count, sizeof(*firsts), by_value);
    printf("{\"done\":%zu,\"chunks\":%zu,\"per_second\":%.0f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"first_p50_us\":%."
           "1f,\"first_p99_us\":%.1f,\"errors\":%zu}\n",
           done, chunks, (double)(stream ? chunks : done) / took, percentile(times, times_count, 0.5),
           percentile(times, times_count, 0.99), percentile(firsts, firsts_count, 0.5),
           percentile(firsts, firsts_count, 0.99), errors);
    return 0;
}
