#include "app/upgrade.h"

#include "base/mem.h"
#include "net/server.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#define LISTEN_VARIABLE "PERDURE_LISTEN_FDS"
#define ACTIVATED_VARIABLE "PERDURE_LISTEN_ACTIVATED"
#define LINE_VARIABLE "PERDURE_UPGRADE_FD"
#define STATE_VARIABLE "PERDURE_STATE_FD"

enum { SYSTEMD_FIRST_FD = 3, VARIABLE_BYTES = 512 };
enum { SAYS_READY = 'r', SAYS_LEAVES = 'e' }; /* on the line, by the new process */

/* ---- the new process ---------------------------------------------------------------------- */

static bool number(struct span text, uint64_t *ret)
{
    return text.n > 0 && span_u64(text, ret);
}

/* Of a child of the new process they are not. */
static void keep_to_ourselves(int fd)
{
    int flags = fcntl(fd, F_GETFD);
    if (flags >= 0)
        (void)fcntl(fd, F_SETFD, flags | FD_CLOEXEC);
}

static bool listens(int fd)
{
    int yes = 0;
    socklen_t n = sizeof(yes);
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &yes, &n) == 0 && yes;
}

static void take_socket(struct inherited *in, uint64_t fd)
{
    if (fd <= STDERR_FILENO || fd > INT32_MAX || in->count == INHERITED_MAX || !listens((int)fd))
        return;
    keep_to_ourselves((int)fd);
    int flags = fcntl((int)fd, F_GETFL);
    (void)fcntl((int)fd, F_SETFL, flags | O_NONBLOCK);
    in->fds[in->count++] = (int)fd;
}

static int take_fd(const char *variable)
{
    const char *text = getenv(variable);
    uint64_t fd;
    if (!text || !number(span_str(text), &fd) || fd <= STDERR_FILENO || fd > INT32_MAX ||
        fcntl((int)fd, F_GETFD) < 0)
        return -1;
    keep_to_ourselves((int)fd);
    return (int)fd;
}

static void take_listed(struct inherited *in, const char *list)
{
    struct span rest = span_str(list);
    uint64_t fd;
    while (rest.n)
        if (number(span_cut(&rest, ','), &fd))
            take_socket(in, fd);
}

/* sd_listen_fds(3): meant for the process LISTEN_PID, from descriptor 3 on. */
static void take_activated(struct inherited *in)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    uint64_t p, n;
    if (!pid || !count || !number(span_str(pid), &p) || p != (uint64_t)getpid() || !number(span_str(count), &n))
        return;
    for (uint64_t i = 0; i < n && i < INHERITED_MAX; i++)
        take_socket(in, SYSTEMD_FIRST_FD + i);
    in->activated = in->count > 0;
}

void inherited_take(struct inherited *ret)
{
    static const char *const ours[] = {LISTEN_VARIABLE, ACTIVATED_VARIABLE, LINE_VARIABLE,   STATE_VARIABLE,
                                       "LISTEN_PID",    "LISTEN_FDS",       "LISTEN_FDNAMES"};
    *ret = (struct inherited){.line_fd = -1, .tell_fd = -1, .state_fd = -1};
    const char *list = getenv(LISTEN_VARIABLE);
    if (list) {
        take_listed(ret, list);
        ret->activated = getenv(ACTIVATED_VARIABLE) != NULL;
        ret->upgrade = true;
        ret->line_fd = take_fd(LINE_VARIABLE);
        if (ret->line_fd >= 0)
            ret->tell_fd = fcntl(ret->line_fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        ret->state_fd = take_fd(STATE_VARIABLE);
    } else {
        take_activated(ret);
    }
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
        (void)unsetenv(ours[i]);
}

int inherited_find(struct inherited *in, const char *address)
{
    for (unsigned i = 0; i < in->count; i++) {
        int fd = in->fds[i];
        if (fd >= 0 && server_listens_at(fd, address)) {
            in->fds[i] = -1;
            return fd;
        }
    }
    return -1;
}

void inherited_close_rest(struct inherited *in)
{
    for (unsigned i = 0; i < in->count; i++)
        if (in->fds[i] >= 0)
            close(in->fds[i]);
    in->count = 0;
}

static void tell(const struct inherited *in, char what)
{
    if (in->tell_fd >= 0)
        (void)!send(in->tell_fd, &what, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void inherited_leaving(const struct inherited *in)
{
    tell(in, SAYS_LEAVES);
}

void inherited_ready(const struct inherited *in)
{
    char text[64];
    tell(in, SAYS_READY); /* when nobody hears it, the old one has ended: so much the more reason to serve */
    snprintf(text, sizeof(text), "READY=1\nMAINPID=%u", (unsigned)getpid());
    notify_supervisor(text);
}

/* sd_notify(3): a datagram to a Unix socket; '@' stands for one without a file. */
void notify_supervisor(const char *text)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    size_t n = path ? strlen(path) : 0;
    if (n < 2 || n >= sizeof(a.sun_path) || (path[0] != '/' && path[0] != '@'))
        return;
    memcpy(a.sun_path, path, n);
    if (path[0] == '@')
        a.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    (void)!sendto(fd, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)&a,
                  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
    close(fd);
}

/* ---- the old process ------------------------------------------------------------------------ */

void upgrade_init(struct upgrade *u, struct loop *l, upgrade_fn *told, void *ctx)
{
    *u = (struct upgrade){.loop = l, .told = told, .ctx = ctx, .kept_fd = -1};
}

/* Ends it if it has not ended yet: one that is not ready has accepted nothing, and one whose line is closed is as good as gone. */
static int reap(pid_t pid)
{
    int status = 0;
    pid_t got;
    if (waitpid(pid, &status, WNOHANG) == 0) {
        kill(pid, SIGKILL);
        do
            got = waitpid(pid, &status, 0);
        while (got < 0 && errno == EINTR);
    }
    return status;
}

static void line_closed(void *ctx)
{
    struct upgrade *u = ctx;
    u->closing = false;
    if (u->ending)
        loop_stop(u->loop);
}

static pid_t stop_watching(struct upgrade *u)
{
    pid_t pid = u->pid;
    u->pid = 0;
    u->ready = u->leaving = false;
    u->closing = true;
    timer_stop(u->loop, &u->limit);
    watch_close(&u->line, line_closed);
    return pid;
}

static void gone(struct upgrade *u, const char *why)
{
    char text[128];
    enum upgrade_news news = u->ready ? UPGRADE_DIED : UPGRADE_FAILED;
    const char *when = u->ready ? "while it served" : "before it was ready";
    bool meant = u->leaving;
    pid_t pid = stop_watching(u);
    int status = reap(pid);
    if (meant)
        return;
    if (why)
        snprintf(text, sizeof(text), "%s", why);
    else if (WIFEXITED(status))
        snprintf(text, sizeof(text), "it ended with status %d %s", WEXITSTATUS(status), when);
    else
        snprintf(text, sizeof(text), "signal %d ended it %s", WIFSIGNALED(status) ? WTERMSIG(status) : 0, when);
    u->told(u->ctx, news, pid, text);
}

static void heard(struct upgrade *u, char byte)
{
    if (byte == SAYS_READY && !u->ready) {
        u->ready = true;
        timer_stop(u->loop, &u->limit);
        if (u->kept_fd >= 0)
            close(u->kept_fd); /* of one that died */
        u->kept_fd = fcntl(u->line.fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        u->told(u->ctx, UPGRADE_READY, u->pid, NULL);
    } else if (byte == SAYS_LEAVES && u->ready && !u->leaving) {
        u->leaving = true;
        u->told(u->ctx, UPGRADE_LEAVES, u->pid, NULL);
    }
}

/* A byte at a time: the line is looked at again while there is more. */
static void on_line(void *ctx, int events, pd_err err)
{
    (void)events;
    struct upgrade *u = ctx;
    char byte;
    ssize_t n = recv(u->line.fd, &byte, 1, MSG_DONTWAIT);
    if (n < 0 && !err && (errno == EAGAIN || errno == EINTR))
        return;
    if (n == 1)
        heard(u, byte);
    else
        gone(u, NULL);
}

static void on_limit(void *ctx)
{
    gone(ctx, "it was not ready within 30 s");
}

static void fd_list(const struct upgrade_ask *ask, char *out, size_t room)
{
    size_t n = (size_t)snprintf(out, room, LISTEN_VARIABLE "=");
    for (unsigned i = 0; i < ask->count && n < room; i++)
        n += (size_t)snprintf(out + n, room - n, "%s%d", i ? "," : "", ask->fds[i]);
}

struct environment {
    char listen[VARIABLE_BYTES], line[64], state[64];
    char **list;
};

static pd_err environment_make(struct environment *env, const struct upgrade_ask *ask, int line)
{
    size_t n = 0, at = 0;
    while (environ[n])
        n++;
    env->list = mem_calloc(n + 5, sizeof(char *));
    if (!env->list)
        return PD_NOMEM;
    fd_list(ask, env->listen, sizeof(env->listen));
    snprintf(env->line, sizeof(env->line), LINE_VARIABLE "=%d", line);
    snprintf(env->state, sizeof(env->state), STATE_VARIABLE "=%d", ask->state_fd);
    static char activated[] = ACTIVATED_VARIABLE "=1";
    memcpy(env->list, environ, n * sizeof(char *));
    at = n;
    env->list[at++] = env->listen;
    env->list[at++] = env->line;
    if (ask->state_fd >= 0)
        env->list[at++] = env->state;
    if (ask->activated)
        env->list[at++] = activated;
    return PD_OK;
}

/* A descriptor put onto itself loses its close-on-exec in the child, and there only. */
static int prepare(posix_spawn_file_actions_t *files, posix_spawnattr_t *attr, const struct upgrade_ask *ask,
                   int line)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    int failed = posix_spawnattr_setsigmask(attr, &none);
    if (!failed)
        failed = posix_spawnattr_setsigdefault(attr, &all);
    if (!failed)
        failed = posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    for (unsigned i = 0; i < ask->count && !failed; i++)
        failed = posix_spawn_file_actions_adddup2(files, ask->fds[i], ask->fds[i]);
    if (!failed)
        failed = posix_spawn_file_actions_adddup2(files, line, line);
    if (!failed && ask->state_fd >= 0)
        failed = posix_spawn_file_actions_adddup2(files, ask->state_fd, ask->state_fd);
    return failed;
}

static pd_err start(const struct upgrade_ask *ask, int line, pid_t *ret)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    struct environment env;
    pd_err e = environment_make(&env, ask, line);
    if (e)
        return e;
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attr);
    int failed = prepare(&files, &attr, ask, line);
    if (!failed)
        failed = posix_spawnp(ret, ask->argv[0], &files, &attr, ask->argv, env.list);
    if (failed && ask->program)
        failed = posix_spawn(ret, ask->program, &files, &attr, ask->argv, env.list);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attr);
    mem_free(env.list);
    errno = failed;
    return failed ? PD_IO : PD_OK;
}

pd_err upgrade_begin(struct upgrade *u, const struct upgrade_ask *ask)
{
    int pair[2];
    if (u->pid || u->closing)
        return PD_EXISTS;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return errno == EMFILE || errno == ENFILE ? PD_NOFD : PD_IO;
    pd_err e = start(ask, pair[1], &u->pid);
    close(pair[1]);
    if (!e)
        e = watch_open(u->loop, &u->line, pair[0], WATCH_READ | WATCH_GONE, on_line, u);
    if (e) {
        if (u->pid)
            reap(u->pid);
        u->pid = 0;
        close(pair[0]);
        return e;
    }
    timer_init(&u->limit, on_limit, u);
    timer_arm(u->loop, &u->limit, loop_now_ms(u->loop) + UPGRADE_READY_MS);
    return PD_OK;
}

void upgrade_cancel(struct upgrade *u)
{
    if (u->pid)
        reap(stop_watching(u));
}

void upgrade_done(struct upgrade *u)
{
    if (!u->loop)
        return;
    if (u->pid)
        stop_watching(u);
    u->ending = true;
    while (u->closing)
        loop_run(u->loop);
}
