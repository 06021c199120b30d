#include "task/process.h"
#include "task/terminal.h"

#include "base/clock.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* What the guard says, and through a pipe of its own, which exec closes, the program before it is one; each in one write. */
enum news_kind { NEWS_STARTED = 1, NEWS_FAILED, NEWS_NO_FOLDER, NEWS_ENDED };
struct news {
    int kind, value, strays;
};
enum order { ORDER_END = 'e', ORDER_KILL = 'k', ORDER_SIGNAL = 's' };

struct kept_output {
    struct buf first, last;
    size_t half; /* of what is kept: so much of the beginning, so much of the end */
    uint64_t total;
    int fd;
    bool starved; /* some of it was not kept for want of memory */
    bool held;    /* not read meanwhile */
};

struct process {
    struct process_rules rules;
    struct kept_output out[PROCESS_STREAMS];
    int in_fd, orders, news; /* -1: closed */
    struct span input;       /* not written yet */
    pid_t guard, pid;
    struct terminal terminal; /* through: as it was before */
    bool ended, over;         /* over: the guard is gone, nothing is left */
    struct process_result result;
};

/* ---- the guard: after fork(), so nothing here may allocate or lock ------------------------------------------- */

struct guard {
    int orders, news;
    pid_t program;
    uint64_t grace_ms;
    uint64_t kill_at_ms; /* 0: not asked to end */
    int status, strays;
    bool ended;
    struct terminal terminal;
};

static void on_child(int signum)
{
    (void)signum;
}

static void close_from(int from)
{
    struct rlimit limit;
#ifdef SYS_close_range
    if (syscall(SYS_close_range, from, ~0U, 0) == 0)
        return;
#endif
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > 65536)
        limit.rlim_cur = 65536;
    for (int fd = from; fd < (int)limit.rlim_cur; fd++)
        close(fd);
}

static void say(int fd, enum news_kind kind, int value, int strays)
{
    struct news n = {(int)kind, value, strays};
    ssize_t done;
    do
        done = write(fd, &n, sizeof(n));
    while (done < 0 && errno == EINTR);
}

/* Where the kernel keeps no list of children: everyone's parent is looked at. */
static int kill_children_slowly(void)
{
    DIR *all = opendir("/proc");
    struct dirent *d;
    int killed = 0;
    while (all && (d = readdir(all))) {
        char path[64], text[512];
        uint64_t pid, parent;
        if (!span_u64(span_str(d->d_name), &pid))
            continue; /* no process */
        snprintf(path, sizeof(path), "/proc/%llu/stat", (unsigned long long)pid);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
        if (fd >= 0)
            close(fd);
        if (n <= 0)
            continue;
        text[n] = '\0';
        const char *after = strrchr(text, ')'); /* its name may have any byte; then ") S PARENT ..." */
        struct span rest = span_from(span_str(after), 4);
        if (span_u64(span_cut(&rest, ' '), &parent) && parent == (uint64_t)getpid())
            killed += kill((pid_t)pid, SIGKILL) == 0;
    }
    if (all)
        closedir(all);
    return killed;
}

/* Every child we have, by the kernel's own list: whatever it did to get away, an orphan is ours. */
static int kill_children(void)
{
    char path[64], text[4096];
    int killed = 0, pid = 0;
    snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return kill_children_slowly();
    ssize_t n = read(fd, text, sizeof(text));
    close(fd);
    for (ssize_t i = 0; i < n; i++) {
        if (text[i] >= '0' && text[i] <= '9') {
            pid = pid * 10 + (text[i] - '0');
        } else if (pid) { /* the last one of a full buffer is cut, and comes the next time */
            killed += kill(pid, SIGKILL) == 0;
            pid = 0;
        }
    }
    return killed;
}

/* True: there was no child left. */
static bool reap(struct guard *g)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == g->program) {
            g->ended = true;
            g->status = status;
        } else if (g->ended || g->kill_at_ms) {
            g->strays++; /* one that ended by itself before is nobody's concern */
        }
    }
    return pid < 0 && errno == ECHILD;
}

/* Until none is left. A child that is killed may leave us its own children, so it is done again. */
static void kill_all(struct guard *g)
{
    const struct timespec pause = {0, 2 * 1000 * 1000};
    while (!reap(g)) {
        if (!g->ended)
            kill(-g->program, SIGKILL);
        kill_children();
        nanosleep(&pause, NULL);
    }
}

static void read_orders(struct guard *g, uint64_t now_ms)
{
    char order[2];
    ssize_t n = read(g->orders, order, sizeof(order));
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0 || order[0] == ORDER_KILL) {
        g->kill_at_ms = now_ms;
    } else if (order[0] == ORDER_SIGNAL) {
        if (!g->ended)
            kill(-g->program, (int)order[1]);
    } else if (!g->kill_at_ms) {
        g->kill_at_ms = now_ms + g->grace_ms + 1;
        if (!g->ended) {
            kill(-g->program, SIGTERM);
            kill(-g->program, SIGCONT); /* one that is stopped could not hear it */
        }
    }
}

static _Noreturn void guard_run(struct guard *g)
{
    sigset_t none;
    sigemptyset(&none);
    for (;;) {
        reap(g);
        uint64_t now = clock_mono_ms();
        if (g->ended || (g->kill_at_ms && now >= g->kill_at_ms))
            break;
        struct timespec wait = {0, 0};
        if (g->kill_at_ms) {
            wait.tv_sec = (time_t)((g->kill_at_ms - now) / 1000);
            wait.tv_nsec = (long)((g->kill_at_ms - now) % 1000) * 1000 * 1000;
        }
        struct pollfd fd = {g->orders, POLLIN, 0};
        if (ppoll(&fd, 1, g->kill_at_ms ? &wait : NULL, &none) > 0)
            read_orders(g, clock_mono_ms());
    }
    kill_all(g);
    terminal_mend(&g->terminal, g->program, g->status != 0);
    say(g->news, NEWS_ENDED, g->status, g->strays);
    _exit(0);
}

/* In the program's process, before it is the program. */
static _Noreturn void become(const struct process_rules *r, const int fds[3], int news, pid_t guard)
{
    sigset_t none;
    sigemptyset(&none);
    setpgid(0, 0);
    if (r->through && isatty(0))
        tcsetpgrp(0, getpid()); /* SIGTTOU is still ignored */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != guard)
        _exit(127);
    for (int i = 1; i < NSIG; i++)
        if (i != SIGKILL && i != SIGSTOP)
            signal(i, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (r->dir && chdir(r->dir) != 0) {
        say(news, NEWS_NO_FOLDER, errno, 0);
        _exit(127);
    }
    int keep = fcntl(news, F_DUPFD, 16);
    for (int i = 0; i < 3; i++)
        if (fds[i] == i ? fcntl(i, F_SETFD, 0) < 0 && !r->through : dup2(fds[i], i) < 0)
            _exit(127);
    if (dup2(keep, 3) < 0 || fcntl(3, F_SETFD, FD_CLOEXEC) != 0)
        _exit(127);
    close_from(4);
    execvpe(r->argv[0], (char *const *)r->argv, r->env ? (char *const *)r->env : environ);
    say(3, NEWS_FAILED, errno, 0);
    _exit(127);
}

/* In the guard's process, from its first moment on. */
static _Noreturn void guard_main(const struct process_rules *r, const struct terminal *terminal, const int fds[3],
                                 int orders, int news, int exec)
{
    static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGTTIN, SIGTTOU, SIGTSTP};
    struct sigaction act = {.sa_handler = on_child};
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_SETMASK, &child, NULL);
    sigaction(SIGCHLD, &act, NULL);
    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
        signal(ignored[i], SIG_IGN);
    setpgid(0, 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    struct guard g = {.orders = orders,
                      .news = news,
                      .terminal = *terminal,
                      .grace_ms = r->grace_ms ? r->grace_ms : PROCESS_GRACE_DEFAULT_MS};
    pid_t self = getpid();
    g.program = fork();
    if (g.program == 0)
        become(r, fds, exec, self);
    if (g.program < 0) {
        say(news, NEWS_FAILED, errno, 0);
        _exit(1);
    }
    setpgid(g.program, g.program);
    say(news, NEWS_STARTED, (int)g.program, 0);
    close(exec); /* its end is the exec */
    /* Only what it needs: an output is at its end when the program and all it started have closed it. */
    int o = fcntl(orders, F_DUPFD, 16), n = fcntl(news, F_DUPFD, 16);
    int t = g.terminal.fd >= 0 ? fcntl(g.terminal.fd, F_DUPFD, 16) : -1;
    int h = r->hold_fd > 0 ? fcntl(r->hold_fd, F_DUPFD, 16) : -1, kept = 2;
    if (o >= 0 && n >= 0 && dup2(o, 0) == 0 && dup2(n, 1) == 1) {
        g.terminal.fd = t >= 0 ? dup2(t, kept) : -1;
        kept += g.terminal.fd >= 0;
        kept += h >= 0 && dup2(h, kept) == kept;
        close_from(kept);
        g.orders = 0;
        g.news = 1;
    }
    guard_run(&g);
}

/* ---- our side ------------------------------------------------------------------------------------------------- */

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

struct pipes {
    int in[2], out[2], err[2], orders[2], news[2], exec[2];
};

static void pipes_close(struct pipes *p)
{
    int *all[] = {p->in, p->out, p->err, p->orders, p->news, p->exec};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        close_fd(&all[i][0]);
        close_fd(&all[i][1]);
    }
}

static pd_err pipes_open(const struct process_rules *r, struct pipes *p)
{
    *p = (struct pipes){{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}};
    bool ok = pipe2(p->orders, O_CLOEXEC) == 0 && pipe2(p->news, O_CLOEXEC) == 0 && pipe2(p->exec, O_CLOEXEC) == 0;
    if (ok && !r->through) {
        ok = pipe2(p->out, O_CLOEXEC) == 0 && pipe2(p->err, O_CLOEXEC) == 0;
        if (ok && r->input.n)
            ok = pipe2(p->in, O_CLOEXEC) == 0;
        else if (ok)
            ok = (p->in[0] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;
    }
    if (ok)
        return PD_OK;
    pipes_close(p);
    return errno == EMFILE || errno == ENFILE ? PD_NOFD : PD_IO;
}

static bool read_news(int fd, struct news *n)
{
    ssize_t got;
    do
        got = read(fd, n, sizeof(*n));
    while (got < 0 && errno == EINTR);
    return got == (ssize_t)sizeof(*n);
}

static void lost(struct process *p)
{
    if (!p->ended && p->pid > 0) {
        kill(-p->pid, SIGKILL); /* the program itself dies with its guard; its group is asked for by name */
        p->result = (struct process_result){PROCESS_LOST, 0, 0};
    }
    p->ended = true;
    close_fd(&p->news);
}

static void take_news(struct process *p, const struct news *n)
{
    if (n->kind != NEWS_ENDED)
        return;
    int s = n->value;
    p->ended = true;
    p->result.how = WIFEXITED(s) ? PROCESS_EXITED : PROCESS_SIGNALLED;
    p->result.status = WIFEXITED(s) ? WEXITSTATUS(s) : WTERMSIG(s);
    p->result.strays = (unsigned)n->strays;
}

static void set_nonblocking(int fd)
{
    if (fd >= 0)
        (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static void take_pipes(struct process *p, struct pipes *pipes)
{
    p->in_fd = pipes->in[1];
    p->orders = pipes->orders[1];
    p->news = pipes->news[0];
    p->out[PROCESS_STDOUT].fd = pipes->out[0];
    p->out[PROCESS_STDERR].fd = pipes->err[0];
    pipes->in[1] = pipes->orders[1] = pipes->news[0] = pipes->out[0] = pipes->err[0] = -1;
    set_nonblocking(p->in_fd);
    set_nonblocking(p->out[PROCESS_STDOUT].fd);
    set_nonblocking(p->out[PROCESS_STDERR].fd);
    pipes_close(pipes);
}

static struct process *process_new(const struct process_rules *r)
{
    struct process *p = mem_zalloc(sizeof(*p));
    if (!p)
        return NULL;
    p->rules = *r;
    p->in_fd = p->orders = p->news = -1;
    p->input = r->input;
    for (int i = 0; i < PROCESS_STREAMS; i++) {
        p->out[i].fd = -1;
        p->out[i].half = (r->output_bytes ? r->output_bytes : PROCESS_OUTPUT_DEFAULT) / 2;
    }
    p->terminal.fd = -1;
    return p;
}

/* *ret_exec: closed without a word when the program runs. */
static pd_err fork_guard(struct process *p, const struct process_rules *r, int *ret_exec)
{
    struct pipes pipes;
    sigset_t all, before;
    pd_err e = pipes_open(r, &pipes);
    if (e)
        return e;
    const int own[3] = {0, 1, 2}, piped[3] = {pipes.in[0], pipes.out[1], pipes.err[1]};
    if (r->through)
        terminal_open(&p->terminal);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before); /* no handler of ours runs in the guard */
    p->guard = fork();
    if (p->guard == 0)
        guard_main(r, &p->terminal, r->through ? own : piped, pipes.orders[0], pipes.news[1], pipes.exec[1]);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (p->guard < 0) {
        pipes_close(&pipes);
        return errno == ENOMEM ? PD_NOMEM : PD_IO;
    }
    *ret_exec = pipes.exec[0];
    pipes.exec[0] = -1;
    take_pipes(p, &pipes);
    return PD_OK;
}

static pd_err not_started(const struct process_rules *r, const struct news *n, char why[PROCESS_WHY_BYTES])
{
    bool folder = n->kind == NEWS_NO_FOLDER;
    if (!n->kind) {
        snprintf(why, PROCESS_WHY_BYTES, "\"%.200s\" cannot be run: its guard was killed", r->argv[0]);
        return PD_IO;
    }
    snprintf(why, PROCESS_WHY_BYTES,
             folder ? "the folder \"%.200s\" cannot be entered: %s" : "\"%.200s\" cannot be run: %s",
             folder ? r->dir : r->argv[0], strerror(n->value));
    switch (n->value) {
    case ENOENT:
    case ENOTDIR:
    case EACCES:
        return PD_NOTFOUND;
    case ENOMEM:
    case EAGAIN:
        return PD_NOMEM;
    default:
        return n->value == E2BIG ? PD_TOOBIG : PD_IO;
    }
}

pd_err process_start(const struct process_rules *r, struct process **ret, char why[PROCESS_WHY_BYTES])
{
    struct news n = {0};
    int exec = -1;
    why[0] = '\0';
    struct process *p = process_new(r);
    if (!p)
        return PD_NOMEM;
    pd_err e = fork_guard(p, r, &exec);
    if (e) {
        snprintf(why, PROCESS_WHY_BYTES, "\"%.200s\" cannot be run: %s", r->argv[0], strerror(errno));
    } else {
        bool failed = read_news(exec, &n);
        if (failed)
            e = not_started(r, &n, why);
        if (read_news(p->news, &n) && n.kind == NEWS_STARTED)
            p->pid = n.value;
        else if (!e)
            e = not_started(r, &n, why);
        close_fd(&exec);
    }
    if (e) {
        process_free(p);
        return e;
    }
    *ret = p;
    return PD_OK;
}

/* ---- what it says ------------------------------------------------------------------------------------------------- */

/* The end of an output is kept in up to twice its room, and cut back when that is full. Without memory less is kept: the
 * program goes on. */
static void keep_output(struct kept_output *k, struct span piece)
{
    size_t first = k->half > buf_size(&k->first) ? k->half - buf_size(&k->first) : 0;
    struct span begin = span_upto(piece, first), rest = span_from(piece, begin.n);
    k->total += piece.n;
    if (k->starved || (begin.n && buf_add(&k->first, begin) != PD_OK)) {
        k->starved = true;
        return;
    }
    if (rest.n > k->half)
        rest = span_from(rest, rest.n - k->half);
    if (buf_size(&k->last) + rest.n > 2 * k->half)
        buf_take(&k->last, buf_size(&k->last) + rest.n - k->half);
    if (rest.n && buf_add(&k->last, rest) != PD_OK)
        k->starved = true;
}

/* All that is there; closes at the end. */
static void read_output(struct process *p, enum process_stream s, bool all)
{
    struct kept_output *k = &p->out[s];
    char bytes[16384];
    while (k->fd >= 0) {
        ssize_t n = read(k->fd, bytes, sizeof(bytes));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            close_fd(&k->fd);
            return;
        }
        struct span piece = span_of(bytes, (size_t)n);
        keep_output(k, piece);
        if (p->rules.on_output)
            p->rules.on_output(p->rules.ctx, s, piece);
        if (!all)
            return;
    }
}

static void write_input(struct process *p)
{
    ssize_t n = write(p->in_fd, p->input.p, p->input.n);
    if (n > 0)
        p->input = span_from(p->input, (size_t)n);
    if (p->input.n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        close_fd(&p->in_fd); /* it has all, or wants no more */
}

/* ---- waiting -------------------------------------------------------------------------------------------------------- */

static void finish(struct process *p)
{
    read_output(p, PROCESS_STDOUT, true);
    read_output(p, PROCESS_STDERR, true);
    close_fd(&p->out[PROCESS_STDOUT].fd);
    close_fd(&p->out[PROCESS_STDERR].fd);
    close_fd(&p->in_fd);
    close_fd(&p->news);
    close_fd(&p->orders);
    terminal_take(&p->terminal, p->pid, p->result.how == PROCESS_LOST);
    while (waitpid(p->guard, NULL, 0) < 0 && errno == EINTR)
        ;
    p->over = true;
}

static void hear(struct process *p)
{
    struct news n;
    if (read_news(p->news, &n))
        take_news(p, &n);
    else
        lost(p);
}

enum { POLL_MOST_MS = 60 * 1000 };
enum { SEEN_NEWS, SEEN_OUT, SEEN_ERR, SEEN_IN, SEEN_WAKE, SEEN_COUNT };

static int readable(const struct kept_output *k)
{
    return k->held ? -1 : k->fd;
}

void process_hold(struct process *p, enum process_stream s, bool hold)
{
    p->out[s].held = hold;
}

/* One poll. False: a signal, or wake_fd. */
static bool step(struct process *p, int ms, int wake_fd)
{
    struct pollfd fds[SEEN_COUNT] = {{p->news, POLLIN, 0},
                                     {readable(&p->out[PROCESS_STDOUT]), POLLIN, 0},
                                     {readable(&p->out[PROCESS_STDERR]), POLLIN, 0},
                                     {p->in_fd, POLLOUT, 0},
                                     {wake_fd, POLLIN, 0}}; /* -1 is passed over */
    int n = poll(fds, SEEN_COUNT, ms);
    if (n <= 0)
        return n == 0;
    if (fds[SEEN_OUT].revents)
        read_output(p, PROCESS_STDOUT, false);
    if (fds[SEEN_ERR].revents)
        read_output(p, PROCESS_STDERR, false);
    if (fds[SEEN_IN].revents)
        write_input(p);
    if (fds[SEEN_NEWS].revents)
        hear(p);
    return !fds[SEEN_WAKE].revents;
}

bool process_wait(struct process *p, uint64_t ms, int wake_fd)
{
    uint64_t now = clock_mono_ms(), until = ms > UINT64_MAX - now ? UINT64_MAX : now + ms;
    while (!p->over) {
        if (p->ended) {
            finish(p);
            break;
        }
        uint64_t left = until > now ? until - now : 0;
        bool goes_on = step(p, left > POLL_MOST_MS ? POLL_MOST_MS : (int)left, wake_fd);
        now = clock_mono_ms();
        if (!p->ended && (!goes_on || now >= until)) /* one poll's time may be over long before the caller's */
            return false;
    }
    return true;
}

bool process_woken(int wake_fd)
{
    struct pollfd fd = {wake_fd, POLLIN, 0};
    return wake_fd >= 0 && poll(&fd, 1, 0) == 1;
}

/* ---- orders ----------------------------------------------------------------------------------------------------------- */

static void give_order(struct process *p, enum order o, int signum)
{
    const char bytes[2] = {(char)o, (char)signum};
    if (p->orders >= 0 && !p->ended && write(p->orders, bytes, sizeof(bytes)) < 0)
        close_fd(&p->orders); /* which says to kill */
}

void process_end(struct process *p)
{
    give_order(p, ORDER_END, 0);
}

void process_kill(struct process *p)
{
    give_order(p, ORDER_KILL, 0);
}

void process_signal(struct process *p, int signum)
{
    give_order(p, ORDER_SIGNAL, signum);
}

struct process *process_free(struct process *p)
{
    if (!p)
        return NULL;
    if (!p->over && p->guard > 0) {
        close_fd(&p->orders);
        finish(p);
    }
    for (int i = 0; i < PROCESS_STREAMS; i++) {
        buf_done(&p->out[i].first);
        buf_done(&p->out[i].last);
    }
    terminal_close(&p->terminal);
    mem_free(p);
    return NULL;
}

/* ---- looking ------------------------------------------------------------------------------------------------------------ */

struct process_result process_result(const struct process *p)
{
    return p->result;
}

pid_t process_pid(const struct process *p)
{
    return p->pid;
}

uint64_t process_output_total(const struct process *p, enum process_stream s)
{
    return p->out[s].total;
}

pd_err process_output(const struct process *p, enum process_stream s, struct buf *out)
{
    const struct kept_output *k = &p->out[s];
    struct span first = buf_span(&k->first), last = buf_span(&k->last);
    last = span_from(last, last.n > k->half ? last.n - k->half : 0);
    pd_err e = buf_add(out, first);
    if (!e && first.n + last.n < k->total)
        e = buf_printf(out, "\n[... %llu bytes left out ...]\n",
                       (unsigned long long)(k->total - first.n - last.n));
    if (!e)
        e = buf_add(out, last);
    return e ? e : k->starved ? PD_NOMEM : PD_OK;
}
