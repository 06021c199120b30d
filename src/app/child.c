#include "app/child.h"
#include "base/span.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORDS_MAX = 40 };

static _Noreturn void become(char *const *argv, int out, int log_fd, pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(127);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0 || dup2(null, 0) < 0 || (out >= 0 && dup2(out, 1) < 0) ||
        (out < 0 && log_fd >= 0 && dup2(log_fd, 1) < 0) || (log_fd >= 0 && dup2(log_fd, 2) < 0))
        _exit(127);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execv("/proc/self/exe", argv);
    _exit(127);
}

pd_err child_start(const char *const *words, bool want_out, int log_fd, struct child *ret)
{
    char *argv[WORDS_MAX + 2] = {(char *)(uintptr_t) "perdure"};
    int out[2] = {-1, -1};
    for (int i = 0; words[i]; i++) {
        if (i == WORDS_MAX)
            return PD_TOOBIG;
        argv[i + 1] = (char *)(uintptr_t)words[i];
    }
    if (want_out && pipe2(out, O_CLOEXEC) != 0)
        return PD_NOFD;
    pid_t self = getpid();
    pid_t pid = fork();
    if (pid == 0)
        become(argv, out[1], log_fd, self);
    if (want_out)
        close(out[1]);
    if (pid < 0) {
        if (want_out)
            close(out[0]);
        return errno == ENOMEM ? PD_NOMEM : PD_IO;
    }
    *ret = (struct child){pid, out[0]};
    return PD_OK;
}

static void forget(struct child *c)
{
    if (c->out >= 0)
        close(c->out);
    *c = (struct child){0, -1};
}

bool child_ended(struct child *c, int *ret_status)
{
    if (!c->pid || waitpid(c->pid, ret_status, WNOHANG) != c->pid)
        return false;
    forget(c);
    return true;
}

void child_signal(const struct child *c, int signum)
{
    if (c->pid)
        kill(c->pid, signum);
}

void child_wait(struct child *c, unsigned ms)
{
    int status;
    uint64_t until = clock_mono_ms() + ms;
    while (c->pid && !child_ended(c, &status) && clock_mono_ms() < until)
        poll(NULL, 0, 10);
    if (!c->pid)
        return;
    kill(c->pid, SIGKILL);
    while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
        ;
    forget(c);
}

void child_adopt(void)
{
    prctl(PR_SET_CHILD_SUBREAPER, 1);
}

bool child_strangers(const struct child *const *known, unsigned count)
{
    char path[64], text[4096]; /* more children than it holds are looked at when some have ended */
    snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text)) : -1;
    if (fd >= 0)
        close(fd);
    struct span rest = n > 0 ? span_of(text, (size_t)n) : SPAN_NONE;
    bool found = false;
    while (rest.n && !found) {
        uint64_t pid;
        if (!span_u64(span_cut(&rest, ' '), &pid))
            continue;
        found = true;
        for (unsigned i = 0; i < count && found; i++)
            found = known[i]->pid != (pid_t)pid;
        if (found && waitpid((pid_t)pid, NULL, WNOHANG) == (pid_t)pid)
            found = false; /* it had ended */
    }
    return found;
}
