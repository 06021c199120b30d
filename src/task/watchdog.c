/* The watchdog: what the user started. It starts the keeper, measures, and ends a keeper that hangs. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/asker.h"
#include "task/keep.h"
#include "task/terminal.h"
#include "task/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORDS_MAX = KEEP_WORDS_MAX, SLEPT_MS = 5000 };

struct watchdog {
    const struct keep_rules *r;
    char *const *argv;
    struct asker *asker;
    int signal_fd;
    pid_t keeper;
    int readings_fd, beats_fd; /* the keeper's, to write and to read */
    struct keep_beat beat;     /* the newest */
    uint64_t heard_ms, measured_ms, turned_ms;
    bool again, hung;
    unsigned stops;
    struct terminal terminal; /* as it was before */
    /* what was measured */
    struct watch_files files;
    struct watch_calls calls;
    bool measured, reached;
    bool known; /* calls were seen that are its own: only they count from then on */
    bool said;  /* that calls of nobody are taken for its own */
};

/* ---- the keeper ------------------------------------------------------------------------------------- */

static _Noreturn void become(const struct watchdog *w, int readings, int beats, pid_t parent)
{
    char option[80], *argv[WORDS_MAX + 3];
    sigset_t none;
    unsigned n = 0;
    sigemptyset(&none);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* and its guard kills all of the agent when it is gone */
    if (getppid() != parent || fcntl(readings, F_SETFD, 0) < 0 || fcntl(beats, F_SETFD, 0) < 0)
        _exit(KEEP_FAILED);
    snprintf(option, sizeof(option), "--keeper=%d,%d%s", readings, beats, w->again ? ",again" : "");
    argv[n++] = (char *)(uintptr_t) "perdure";
    argv[n++] = w->argv[0];
    argv[n++] = option;
    for (unsigned i = 1; w->argv[i] && n < WORDS_MAX + 2; i++)
        argv[n++] = w->argv[i];
    argv[n] = NULL;
    sigprocmask(SIG_SETMASK, &none, NULL);
    execv("/proc/self/exe", argv);
    _exit(KEEP_FAILED);
}

static void close_pipes(struct watchdog *w)
{
    if (w->readings_fd >= 0)
        close(w->readings_fd);
    if (w->beats_fd >= 0)
        close(w->beats_fd);
    w->readings_fd = w->beats_fd = -1;
}

static pd_err start_keeper(struct watchdog *w)
{
    int readings[2], beats[2];
    if (pipe2(readings, O_CLOEXEC) != 0)
        return PD_NOFD;
    if (pipe2(beats, O_CLOEXEC) != 0) {
        close(readings[0]);
        close(readings[1]);
        return PD_NOFD;
    }
    pid_t self = getpid(), pid = fork();
    if (pid == 0)
        become(w, readings[0], beats[1], self);
    close(readings[0]);
    close(beats[1]);
    w->readings_fd = readings[1];
    w->beats_fd = beats[0];
    (void)fcntl(w->readings_fd, F_SETFL, O_NONBLOCK);
    (void)fcntl(w->beats_fd, F_SETFL, O_NONBLOCK);
    if (pid < 0) {
        close_pipes(w);
        return errno == ENOMEM ? PD_NOMEM : PD_IO;
    }
    w->keeper = pid;
    w->hung = false;
    w->heard_ms = clock_mono_ms();
    LOG(NULL, LOG_INFO, "supervise.keeper", "agent=%s pid=%d again=%d", w->r->name, (int)pid, w->again);
    return PD_OK;
}

static void hear(struct watchdog *w)
{
    while (read(w->beats_fd, &w->beat, sizeof(w->beat)) == (ssize_t)sizeof(w->beat))
        w->heard_ms = clock_mono_ms();
}

/* True: all is over. */
static bool keeper_ended(struct watchdog *w, enum keep_end *ret)
{
    int status;
    if (waitpid(w->keeper, &status, WNOHANG) != w->keeper)
        return false;
    w->keeper = 0;
    close_pipes(w);
    *ret = WIFEXITED(status) ? (enum keep_end)WEXITSTATUS(status) : KEEP_STOPPED;
    if (!WIFEXITED(status))
        terminal_take(&w->terminal, 0, true);
    if (WIFEXITED(status) || w->stops)
        return true;
    LOG(NULL, LOG_ERROR, "supervise.keeper_died", "agent=%s signal=%d hung=%d", w->r->name, WTERMSIG(status),
        w->hung);
    w->again = true;
    *ret = KEEP_FAILED;
    return start_keeper(w) != PD_OK;
}

static void look_at_keeper(struct watchdog *w)
{
    hear(w);
    uint64_t now = clock_mono_ms(); /* not before what was just heard */
    /* Whoever slept (a stopped terminal, a suspended machine) cannot blame the other for having slept too. */
    if (now - w->turned_ms > SLEPT_MS + KEEP_ASK_MS)
        w->heard_ms = now;
    w->turned_ms = now;
    if (w->hung || now - w->heard_ms < w->r->hang_ms)
        return;
    LOG(NULL, LOG_ERROR, "supervise.keeper_hangs", "agent=%s pid=%d silent_ms=%llu", w->r->name, (int)w->keeper,
        (unsigned long long)(now - w->heard_ms));
    w->hung = true;
    kill(w->keeper, SIGKILL);
}

/* ---- measuring ------------------------------------------------------------------------------------------ */

/* In words, once, since without it the agent may find no model either. It is begun all the same: a gateway may come later. */
static void say_no_gateway(const struct watchdog *w, int status)
{
    const char *base = w->r->base ? w->r->base : "";
    if (!status)
        log_say(
            "perdure supervise: no perdure answers at %s%s: start one with `perdure serve`, say with --url where "
            "it runs, or --no-gateway when the agent needs none; until then its files and its output are all that "
            "is seen",
            w->r->url, base);
    else
        log_say("perdure supervise: %s%s answers to GET /api/calls with status %d%s; until then its files and its "
                "output are all that is seen of the agent",
                w->r->url, base, status,
                status == 401 || status == 403 ? ": name the variable of an admin key with --key-env"
                                               : ": say with --url where perdure runs");
}

static bool ask_calls(struct watchdog *w, struct watch_calls *ret)
{
    char path[300], bearer[600];
    struct asker_answer a = {0};
    snprintf(path, sizeof(path), "%s/api/calls", w->r->base ? w->r->base : "");
    snprintf(bearer, sizeof(bearer), "Bearer %s", w->r->key ? w->r->key : "");
    const struct http1_field field = {SPAN_LIT("Authorization"), span_str(bearer)};
    const struct asker_question q = {.method = "GET",
                                     .path = path,
                                     .fields = &field,
                                     .fields_count = w->r->key ? 1 : 0,
                                     .limit_ms = KEEP_ASK_MS,
                                     .answer_bytes = WATCH_ANSWER_MAX};
    const struct watch_whose whose = {w->r->client, w->r->name, w->known};
    bool fine =
        asker_ask(w->asker, &q, &a) == PD_OK && a.status == 200 && watch_calls(buf_span(&a.body), &whose, ret);
    if (!fine && !w->measured)
        say_no_gateway(w, a.status);
    if (fine != w->reached || !w->measured)
        LOG(NULL, fine ? LOG_INFO : LOG_WARN, fine ? "supervise.gateway" : "supervise.no_gateway",
            "agent=%s url=%s status=%d", w->r->name, w->r->url, a.status);
    buf_done(&a.body);
    w->reached = fine;
    return fine;
}

static void say_whose(struct watchdog *w, const struct watch_calls *calls, bool moved)
{
    if (calls->own && !w->known) {
        w->known = true;
        LOG(NULL, LOG_INFO, "supervise.calls_known", "agent=%s calls=%u", w->r->name, calls->own);
    } else if (moved && !w->known && !w->said) {
        w->said = true;
        LOG(NULL, LOG_INFO, "supervise.calls_unknown", "agent=%s taken=%u", w->r->name,
            calls->running + calls->recent);
    }
}

static void measure(struct watchdog *w)
{
    struct watch_files files;
    struct watch_calls calls;
    struct keep_reading out = {0};
    watch_files(w->r->folder, NULL, NULL, &files);
    out.progress = w->measured && files.signature != w->files.signature;
    if (files.cut && !w->files.cut)
        LOG(NULL, LOG_INFO, "supervise.files_cut", "agent=%s seen=%u", w->r->name, files.seen);
    w->files = files;
    if (w->asker && ask_calls(w, &calls)) {
        bool moved = w->measured && watch_calls_moved(&w->calls, &calls);
        say_whose(w, &calls, moved);
        out.asked = true;
        out.progress = out.progress || moved;
        out.explained = calls.waiting > 0;
        out.running = calls.running;
        w->calls = calls;
    }
    w->measured = true;
    LOG(NULL, LOG_DEBUG, "supervise.measured", "agent=%s progress=%d explained=%d running=%u files=%u", w->r->name,
        out.progress, out.explained, out.running, files.seen);
    ssize_t n = write(w->readings_fd, &out, sizeof(out)); /* full: the keeper hangs, which is seen elsewhere */
    (void)n;
}

/* ---- its turns ---------------------------------------------------------------------------------------------- */

static void hear_signals(struct watchdog *w)
{
    struct signalfd_siginfo in;
    while (read(w->signal_fd, &in, sizeof(in)) == (ssize_t)sizeof(in)) {
        if (in.ssi_signo == SIGCHLD)
            continue;
        w->stops++;
        if (w->keeper)
            kill(w->keeper, w->stops > 1 ? SIGKILL : SIGTERM);
    }
}

static bool open_signals(struct watchdog *w)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    w->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return w->signal_fd >= 0;
}

static enum keep_end watch(struct watchdog *w)
{
    enum keep_end end = KEEP_FAILED;
    uint64_t every = keep_measure_ms(w->r);
    if (start_keeper(w) != PD_OK)
        return end;
    w->turned_ms = clock_mono_ms();
    for (;;) {
        struct pollfd fds[] = {{w->signal_fd, POLLIN, 0}, {w->beats_fd, POLLIN, 0}};
        uint64_t now = clock_mono_ms(), due = w->measured_ms + every;
        uint64_t ms = due > now ? due - now : 0;
        /* the end of the beats is the end of the keeper, which SIGCHLD tells too */
        (void)poll(fds, w->hung ? 1 : 2, (int)(ms < KEEP_BEAT_MS ? ms : KEEP_BEAT_MS));
        hear_signals(w);
        if (keeper_ended(w, &end))
            return end;
        look_at_keeper(w);
        if (clock_mono_ms() >= due) {
            measure(w);
            w->measured_ms = clock_mono_ms();
        }
    }
}

enum keep_end watchdog_run(const struct keep_rules *r, char *const *argv)
{
    struct watchdog w = {
        .r = r, .argv = argv, .signal_fd = -1, .readings_fd = -1, .beats_fd = -1, .terminal = {.fd = -1}};
    enum keep_end end = KEEP_FAILED;
    if (r->through)
        terminal_open(&w.terminal);
    pd_err e = r->url ? asker_new(r->url, &w.asker) : PD_OK;
    if (e || !open_signals(&w))
        log_say("perdure supervise: cannot begin: %s", e ? pd_err_text(e) : strerror(errno));
    else
        end = watch(&w);
    if (end == KEEP_DONE)
        keep_record_remove(r);
    asker_free(w.asker);
    terminal_close(&w.terminal);
    if (w.signal_fd >= 0)
        close(w.signal_fd);
    return end;
}
