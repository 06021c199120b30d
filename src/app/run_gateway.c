#include "app/run_gateway.h"

#include "app/load.h"
#include "app/service.h"
#include "base/clock.h"
#include "base/mem.h"
#include "parse/json.h"
#include "state/serving.h"

#include <errno.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    LISTENS_MAX_BYTES = 4096, /* of what it says before it listens */
    HELD_AGAIN_MS = 50,       /* another one was quicker, and is about to say where it serves */
    WRONG_AGAIN_MS = 500,
    WRONG_LATER_MS = 5000, /* when it has served before */
};

void run_gateway_init(struct run_gateway *g, struct ask_where *where, const char *config, const sigset_t *signals)
{
    *g =
        (struct run_gateway){.where = where, .config = config, .signals = signals, .log_fd = -1, .child = {0, -1}};
    if (!where->said)
        g->state = load_state_folder(config);
}

bool run_gateway_pause(const struct run_gateway *g, unsigned ms)
{
    const struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000 * 1000};
    int signum = sigtimedwait(g->signals, NULL, &t);
    return signum <= 0 || signum == SIGCHLD;
}

static bool answers(const struct ask_where *where)
{
    struct ask_answer a;
    const struct ask_question q = {.path = "/api/runs?limit=1"};
    ask(where, &q, &a);
    bool well = a.status == 200 && !a.err &&
                json_get((struct json){JSON_OBJECT, buf_span(&a.body)}, "runs").type == JSON_ARRAY;
    buf_done(&a.body);
    return well;
}

/* ---- ours ------------------------------------------------------------------------------------------------------- */

/* "perdure 0.1.0 listens on http://127.0.0.1:4711/v1" */
static bool read_port(int fd, char port[12])
{
    char text[LISTENS_MAX_BYTES];
    size_t n = 0;
    uint64_t until = clock_mono_ms() + RUN_GATEWAY_START_MS;
    while (n + 1 < sizeof(text) && clock_mono_ms() < until) {
        ssize_t got = read(fd, text + n, sizeof(text) - 1 - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        n += (size_t)got;
        text[n] = '\0';
        const char *at = strstr(text, " listens on http://127.0.0.1:"), *end = strstr(text, "/v1\n");
        if (at && end && sscanf(at, " listens on http://127.0.0.1:%11[0-9]", port) == 1)
            return true;
    }
    return false;
}

/* It has ended, or is ended: was it because another one holds the folder? */
static bool was_held(struct child *c)
{
    int status = 0;
    uint64_t until = clock_mono_ms() + 1000;
    while (c->pid && clock_mono_ms() < until) {
        if (child_ended(c, &status))
            return WIFEXITED(status) && WEXITSTATUS(status) == SERVICE_HELD;
        (void)usleep(1000);
    }
    child_wait(c, 0);
    return false;
}

static bool start(struct run_gateway *g)
{
    char listen[40];
    const char *words[8] = {"serve",   "--for-run", "--listen", listen, g->config ? "--config" : NULL,
                            g->config, NULL};
    snprintf(listen, sizeof(listen), "127.0.0.1:%s", g->port[0] ? g->port : "0");
    g->wrong = false;
    pd_err e = child_start(words, true, g->log_fd, &g->child);
    if (!e && read_port(g->child.out, g->port)) {
        snprintf(listen, sizeof(listen), "http://127.0.0.1:%s", g->port);
        g->brief = true;
        return ask_url(g->where, listen);
    }
    if (!e && was_held(&g->child)) {
        g->again_ms = clock_mono_ms() + HELD_AGAIN_MS;
        return false;
    }
    g->wrong = true;
    g->again_ms = clock_mono_ms() + (g->brief ? WRONG_LATER_MS : WRONG_AGAIN_MS);
    g->port[0] = '\0'; /* another program may have it */
    return false;
}

/* ---- whoever serves ---------------------------------------------------------------------------------------------- */

/* Where the one that holds the folder serves. */
static bool found_in_folder(struct run_gateway *g)
{
    struct serving s;
    if (!g->state || serving_read(g->state, &s) != PD_OK || !ask_url(g->where, s.url))
        return false;
    const char *colon = strrchr(g->where->url, ':');
    g->brief = s.brief;
    if (s.brief && colon)
        snprintf(g->port, sizeof(g->port), "%s", colon + 1);
    return true;
}

/* One that has no state folder, where this configuration listens. */
static bool found_by_address(struct run_gateway *g)
{
    struct conf *c = NULL;
    bool found = false;
    if (load_config(g->config, true, &c) != PD_OK)
        return false;
    const struct ask_where before = *g->where;
    for (unsigned i = 0; i < c->listen_count && !found; i++)
        if (conf_is_loopback(c->listen[i]) && !span_ends(span_str(c->listen[i]), ":0"))
            found = ask_url(g->where, c->listen[i]) && answers(g->where);
    if (!found)
        *g->where = before;
    conf_free(c);
    return found;
}

static bool say_none(const struct run_gateway *g)
{
    fprintf(stderr, "perdure run: its own perdure could not be started; what it said stands %s\n",
            g->said_log ? "in the file of --log" : "above");
    return false;
}

bool run_gateway_find(struct run_gateway *g)
{
    uint64_t until = clock_mono_ms() + RUN_GATEWAY_START_MS;
    if (g->where->said || found_in_folder(g) || found_by_address(g))
        return true;
    while (!start(g)) {
        if (clock_mono_ms() > until || !run_gateway_pause(g, g->wrong ? WRONG_AGAIN_MS : HELD_AGAIN_MS))
            return say_none(g);
        if (found_in_folder(g))
            return true;
    }
    return true;
}

void run_gateway_look(struct run_gateway *g)
{
    int status;
    (void)child_ended(&g->child, &status);
    if (g->where->said || g->child.pid || found_in_folder(g))
        return;
    if (g->brief && clock_mono_ms() >= g->again_ms)
        (void)start(g);
}

void run_gateway_end(struct run_gateway *g, unsigned ms)
{
    child_signal(&g->child, SIGTERM);
    child_wait(&g->child, ms);
    mem_free(g->state);
    g->state = NULL;
}
