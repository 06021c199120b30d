/* The keeper: does what supervise.h decides. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/asker.h"
#include "parse/put.h"
#include "task/keep.h"
#include "task/pass.h"
#include "task/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { WORDS_MAX = KEEP_WORDS_MAX + 100, TAIL_BYTES = 2000, WHY_BYTES = 3000 };

struct keeper {
    const struct keep_rules *r;
    struct supervise s;
    struct keep_record record;
    struct asker *asker;                 /* NULL: no gateway */
    struct process *p;                   /* the agent, the check or the alert */
    struct pass passes[PROCESS_STREAMS]; /* its outputs, to ours */
    bool listens[PROCESS_STREAMS];       /* wake_fd says when ours takes something */
    bool unread[PROCESS_STREAMS];        /* which was said */
    bool checks;                         /* p is the check */
    bool overdue;                        /* it was ended at its time: whatever it says, it has not passed */
    bool noted;                          /* this end of it is written down */
    bool ended_by_user;                  /* in a terminal: Ctrl-C reached the agent alone */
    uint64_t check_until_ms, beat_ms, checkpoint_ms, said;
    uint64_t read_ms; /* the newest reading */
    int readings_fd, beats_fd, signal_fd, wake_fd, hold_fd;
    char why[WHY_BYTES]; /* why it is started again, in words */
    enum keep_end end;
    bool over;
};

/* ---- telling --------------------------------------------------------------------------------------- */

static void beat(struct keeper *k, uint64_t now)
{
    const struct keep_beat b = {(int)k->s.state, k->s.starts};
    if (now - k->beat_ms < KEEP_BEAT_MS / 2)
        return;
    k->beat_ms = now;
    ssize_t n = write(k->beats_fd, &b, sizeof(b)); /* full: it has not looked for a while, and has enough */
    (void)n;
}

static void write_record(struct keeper *k)
{
    uint64_t now = clock_mono_ms(), wall = clock_wall_ms();
    struct keep_record *w = &k->record;
    w->starts = k->s.starts;
    w->restarted = supervise_recent(&k->s, now);
    for (unsigned i = 0; i < w->restarted; i++)
        w->restarted_wall_ms[i] = wall - (now - k->s.restarted_ms[i]);
    snprintf(w->state, sizeof(w->state), "%s", supervise_state_name(k->s.state));
    pd_err e = keep_record_write(k->r, w);
    if (e)
        LOG(NULL, LOG_WARN, "supervise.unrecorded", "agent=%s err=%s", k->r->name, pd_err_name(e));
}

static void checkpoint(struct keeper *k, const char *reason, const char *milestone)
{
    snprintf(k->record.state, sizeof(k->record.state), "%s", supervise_state_name(k->s.state));
    k->record.starts = k->s.starts;
    keep_checkpoint(k->r, k->asker, &k->record, reason, milestone);
    k->checkpoint_ms = clock_mono_ms();
}

/* ---- what the agent is given --------------------------------------------------------------------------- */

/* "{resume}" in a word; what it was alone in, and is empty, is left out. NULL: no memory. */
static char *fill_word(const char *word, struct span resume)
{
    struct buf b = {0};
    pd_err e = PD_OK;
    const char *at;
    while (!e && (at = strstr(word, "{resume}"))) {
        e = buf_add(&b, span_of(word, (size_t)(at - word)));
        if (!e)
            e = buf_add(&b, resume);
        word = at + strlen("{resume}");
    }
    if (!e)
        e = buf_puts(&b, word);
    char *out = e ? NULL : mem_strndup(buf_span(&b).p ? buf_span(&b).p : "", buf_size(&b));
    buf_done(&b);
    return out;
}

static char **fill_words(const struct keep_rules *r, bool again, struct span resume)
{
    char **out = mem_calloc(WORDS_MAX + 1, sizeof(*out));
    unsigned n = 0;
    bool fine = out != NULL;
    for (unsigned i = 0; fine && r->argv[i] && n < WORDS_MAX; i++) {
        if (!again && strcmp(r->argv[i], "{resume}") == 0)
            continue;
        fine = (out[n] = fill_word(r->argv[i], resume)) != NULL;
        n += fine;
    }
    for (unsigned i = 0; fine && again && r->resume_args && r->resume_args[i] && n < WORDS_MAX; i++) {
        fine = (out[n] = mem_strdup(r->resume_args[i])) != NULL;
        n += fine;
    }
    if (fine && n)
        return out;
    keep_words_free(out);
    return NULL;
}

/* ---- starting --------------------------------------------------------------------------------------------- */

/* After something was done with it: a reader that is slow holds up the agent, as any would; one that has stopped reading does not. */
static void look_at_pass(struct keeper *k, enum process_stream s)
{
    const struct pass *p = &k->passes[s];
    bool waits = pass_waits(p), unread = p->state == PASS_UNREAD;
    const char *output = s == PROCESS_STDOUT ? "stdout" : "stderr";
    struct epoll_event ev = {.events = EPOLLOUT};
    if (k->p)
        process_hold(k->p, s, p->state == PASS_HELD);
    if (waits != k->listens[s] && epoll_ctl(k->wake_fd, waits ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, p->to.fd, &ev) == 0)
        k->listens[s] = waits;
    if (unread && !k->unread[s])
        LOG(NULL, LOG_WARN, "supervise.unread", "agent=%s output=%s ms=%llu", k->r->name, output,
            (unsigned long long)p->patience_ms);
    else if (!unread && k->unread[s])
        LOG(NULL, LOG_WARN, "supervise.read_again", "agent=%s output=%s lost_bytes=%llu", k->r->name, output,
            (unsigned long long)p->lost_all);
    k->unread[s] = unread;
}

static void pass_all_on(struct keeper *k)
{
    for (int s = 0; s < PROCESS_STREAMS; s++) {
        pass_on(&k->passes[s], clock_mono_ms());
        look_at_pass(k, (enum process_stream)s);
    }
}

/* Its last words: as long as they are read. A signal: whoever ends us has no more patience. */
static void pass_the_rest(struct keeper *k)
{
    pass_all_on(k);
    while (k->passes[PROCESS_STDOUT].state == PASS_HELD || k->passes[PROCESS_STDERR].state == PASS_HELD) {
        struct pollfd fds[PROCESS_STREAMS + 1] = {[PROCESS_STREAMS] = {k->signal_fd, POLLIN, 0}};
        for (int s = 0; s < PROCESS_STREAMS; s++)
            fds[s] = (struct pollfd){pass_waits(&k->passes[s]) ? k->passes[s].to.fd : -1, POLLOUT, 0};
        (void)poll(fds, PROCESS_STREAMS + 1, KEEP_BEAT_MS / 2);
        if (fds[PROCESS_STREAMS].revents)
            return;
        beat(k, clock_mono_ms());
        pass_all_on(k);
    }
}

static void on_output(void *ctx, enum process_stream from, struct span piece)
{
    struct keeper *k = ctx;
    k->said += piece.n;
    pass_put(&k->passes[from], piece, clock_mono_ms());
    look_at_pass(k, from);
}

static pd_err start(struct keeper *k, const char *const *argv, bool through, const char *resume_path,
                    char why[PROCESS_WHY_BYTES])
{
    char **env = keep_env(k->r, environ, k->s.starts, resume_path);
    const struct process_rules r = {.argv = argv,
                                    .env = (const char *const *)env,
                                    .dir = k->r->folder,
                                    .through = through,
                                    .output_bytes = 2 * TAIL_BYTES,
                                    .grace_ms = k->r->grace_ms,
                                    .hold_fd = k->hold_fd,
                                    .on_output = through ? NULL : on_output,
                                    .ctx = k};
    snprintf(why, PROCESS_WHY_BYTES, "out of memory");
    pd_err e = env ? process_start(&r, &k->p, why) : PD_NOMEM;
    keep_words_free(env);
    return e;
}

static enum supervise_action start_agent(struct keeper *k)
{
    char why[PROCESS_WHY_BYTES] = "out of memory", path[PATH_MAX] = "";
    struct buf resume = {0};
    bool again = k->s.starts > 1;
    k->noted = false;
    write_record(k);
    if (again && keep_resume(k->r, k->asker, k->why, &resume, path, sizeof(path)) != PD_OK)
        LOG(NULL, LOG_WARN, "supervise.no_resume", "agent=%s", k->r->name);
    char **words = fill_words(k->r, again, buf_span(&resume));
    pd_err e = words ? start(k, (const char *const *)words, k->r->through, again ? path : NULL, why) : PD_NOMEM;
    keep_words_free(words);
    buf_done(&resume);
    k->checkpoint_ms = clock_mono_ms();
    if (!e) {
        LOG(NULL, again ? LOG_WARN : LOG_INFO, "supervise.start", "agent=%s start=%u why=%s pid=%d", k->r->name,
            k->s.starts, supervise_why_name(k->s.why), (int)process_pid(k->p));
        return SUPERVISE_NOTHING;
    }
    snprintf(k->why, sizeof(k->why), "it could not be started: %.400s", why);
    if (k->s.starts == 1 && (e == PD_NOTFOUND || e == PD_TOOBIG)) { /* does not become right by trying */
        log_say("perdure supervise: %s", why);
        keep_record_remove(k->r);
        k->end = KEEP_FAILED;
        k->over = true;
        return SUPERVISE_NOTHING;
    }
    return supervise_ended(&k->s, false, clock_mono_ms());
}

static enum supervise_action start_check(struct keeper *k)
{
    const char *const argv[] = {"sh", "-c", k->r->check, NULL};
    char why[PROCESS_WHY_BYTES];
    k->check_until_ms = clock_mono_ms() + k->r->check_ms;
    if (start(k, argv, false, NULL, why) == PD_OK) {
        k->checks = true;
        k->overdue = false;
        return SUPERVISE_NOTHING;
    }
    snprintf(k->why, sizeof(k->why), "its check could not be made: %.400s", why);
    return supervise_checked(&k->s, false, clock_mono_ms());
}

/* ---- the end of one --------------------------------------------------------------------------------------- */

static void tail_of(const struct process *p, char out[TAIL_BYTES])
{
    struct buf b = {0};
    struct span tail = SPAN_NONE;
    for (int s = PROCESS_STDERR; s >= 0 && !tail.n; s--) {
        buf_clear(&b);
        if (process_output(p, (enum process_stream)s, &b) == PD_OK)
            tail = span_trim(buf_span(&b));
    }
    tail = span_from(tail, tail.n > TAIL_BYTES - 1 ? tail.n - (TAIL_BYTES - 1) : 0);
    snprintf(out, TAIL_BYTES, "%.*s", SPAN_FMT(tail));
    buf_done(&b);
}

static void say_how(struct keeper *k, struct process_result how)
{
    char text[100], tail[TAIL_BYTES];
    snprintf(text, sizeof(text),
             how.how == PROCESS_EXITED      ? "ended with status %d"
             : how.how == PROCESS_SIGNALLED ? "was ended by signal %d"
                                            : "was lost with its guard",
             how.status);
    LOG(NULL, how.how == PROCESS_EXITED && how.status == 0 ? LOG_INFO : LOG_WARN, "supervise.ended",
        "agent=%s start=%u how=%s status=%d strays=%u check=%d", k->r->name, k->s.starts,
        how.how == PROCESS_EXITED      ? "exit"
        : how.how == PROCESS_SIGNALLED ? "signal"
                                       : "lost",
        how.status, how.strays, k->checks);
    if (k->s.state == SUPERVISE_ENDING) {
        snprintf(k->why, sizeof(k->why), "it made no progress for %llu s and was ended.",
                 (unsigned long long)(k->r->rules.stall_ms / 1000));
        return;
    }
    tail_of(k->p, tail);
    if (k->checks && k->overdue)
        snprintf(text, sizeof(text), "was not over after %llu s and was ended",
                 (unsigned long long)(k->r->check_ms / 1000));
    snprintf(k->why, sizeof(k->why), "%s %s%s%s", k->checks ? "it said that it was done, and the check" : "it",
             text, tail[0] ? ". Its last words:\n" : ".", tail);
}

static enum supervise_action ended(struct keeper *k)
{
    struct process_result how = process_result(k->p);
    bool checks = k->checks, well = how.how == PROCESS_EXITED && how.status == 0 && !(checks && k->overdue);
    uint64_t now = clock_mono_ms();
    say_how(k, how);
    if (k->r->through && !checks &&
        ((how.how == PROCESS_SIGNALLED && how.status == SIGINT) ||
         (how.how == PROCESS_EXITED && how.status == 130)))
        k->ended_by_user = true;
    k->p = process_free(k->p);
    k->checks = false;
    if (k->ended_by_user)
        (void)supervise_stop(&k->s, now);
    return checks ? supervise_checked(&k->s, well, now) : supervise_ended(&k->s, well, now);
}

/* ---- a person is told ------------------------------------------------------------------------------------- */

static void alert(struct keeper *k)
{
    char text[WHY_BYTES + 300], why[PROCESS_WHY_BYTES];
    const char *const argv[] = {"sh", "-c", k->r->alert, NULL};
    uint64_t until = clock_mono_ms() + KEEP_ALERT_MS;
    snprintf(text, sizeof(text), "agent %s is paused: restarted %u times within %llu s, and the last time %s",
             k->r->name, k->r->rules.restarts, (unsigned long long)(k->r->rules.window_ms / 1000), k->why);
    LOG(NULL, LOG_ERROR, "supervise.paused", "agent=%s starts=%u restarts=%u window_ms=%llu", k->r->name,
        k->s.starts, k->r->rules.restarts, (unsigned long long)k->r->rules.window_ms);
    log_say("perdure supervise: %s\nperdure supervise: look what is wrong, then give the same command again: it "
            "goes on where it was",
            text);
    if (!k->r->alert || setenv("PERDURE_ALERT", text, 1) != 0 || start(k, argv, false, NULL, why) != PD_OK)
        return;
    while (!process_wait(k->p, KEEP_BEAT_MS / 2, -1) && clock_mono_ms() < until) {
        beat(k, clock_mono_ms());
        pass_all_on(k);
    }
    k->p = process_free(k->p);
}

/* ---- what is decided, done -------------------------------------------------------------------------------- */

static void leave(struct keeper *k)
{
    k->over = true;
    if (k->s.state == SUPERVISE_DONE) {
        k->end = KEEP_DONE;
        write_record(k); /* the watchdog removes it */
        checkpoint(k, "milestone", k->s.verified ? "done, verified" : "done, not verified");
        LOG(NULL, LOG_INFO, "supervise.done", "agent=%s starts=%u verified=%s", k->r->name, k->s.starts,
            k->s.verified ? "yes" : "no");
        if (!k->s.verified)
            log_say("perdure supervise: it ended with status 0; not verified: --check COMMAND would");
        return;
    }
    k->end = KEEP_STOPPED;
    write_record(k);
    LOG(NULL, LOG_INFO, "supervise.stopped", "agent=%s starts=%u", k->r->name, k->s.starts);
}

static void act(struct keeper *k, enum supervise_action a)
{
    while (a != SUPERVISE_NOTHING && !k->over) {
        enum supervise_action next = SUPERVISE_NOTHING;
        switch (a) {
        case SUPERVISE_START:
            next = start_agent(k);
            break;
        case SUPERVISE_END:
            LOG(NULL, LOG_WARN, "supervise.end", "agent=%s start=%u why=%s", k->r->name, k->s.starts,
                k->s.state == SUPERVISE_ENDING ? "stalled" : "stopping");
            if (k->p)
                process_end(k->p);
            break;
        case SUPERVISE_CHECK:
            next = start_check(k);
            break;
        case SUPERVISE_ALERT:
            write_record(k);
            checkpoint(k, "interval", NULL);
            alert(k);
            k->end = KEEP_PAUSED;
            k->over = true;
            break;
        case SUPERVISE_LEAVE:
            leave(k);
            break;
        case SUPERVISE_NOTHING:
            break;
        }
        a = next;
    }
    if (!k->over && k->s.state == SUPERVISE_WAITING && !k->noted) {
        k->noted = true;
        write_record(k);
        checkpoint(k, "interval", NULL);
    }
}

/* ---- what comes ---------------------------------------------------------------------------------------------- */

static void hear_readings(struct keeper *k)
{
    struct keep_reading in;
    uint64_t now = clock_mono_ms();
    while (read(k->readings_fd, &in, sizeof(in)) == (ssize_t)sizeof(in)) {
        k->read_ms = now;
        if (in.progress || in.explained)
            supervise_progress(&k->s, now);
    }
    /* A watchdog that is stopped measures nothing, so nothing can be held against the agent. */
    if (now - k->read_ms > k->r->hang_ms + keep_measure_ms(k->r) + KEEP_ASK_MS) {
        LOG(NULL, LOG_WARN, "supervise.unwatched", "agent=%s silent_ms=%llu", k->r->name,
            (unsigned long long)(now - k->read_ms));
        k->read_ms = now;
        supervise_progress(&k->s, now);
    }
}

static void hear_signals(struct keeper *k)
{
    struct signalfd_siginfo in;
    while (read(k->signal_fd, &in, sizeof(in)) == (ssize_t)sizeof(in)) {
        LOG(NULL, LOG_INFO, "supervise.signal", "agent=%s signal=%u", k->r->name, in.ssi_signo);
        act(k, supervise_stop(&k->s, clock_mono_ms()));
    }
}

static void wait_a_little(struct keeper *k)
{
    uint64_t now = clock_mono_ms(), next = supervise_next(&k->s), ms = KEEP_BEAT_MS / 2, said = k->said;
    if (next < now + ms)
        ms = next > now ? next - now : 0;
    if (k->p && process_wait(k->p, ms, k->wake_fd)) {
        act(k, ended(k));
    } else if (!k->p) {
        struct pollfd fd = {k->wake_fd, POLLIN, 0};
        (void)poll(&fd, 1, (int)ms);
    }
    if (k->said != said)
        supervise_said(&k->s, clock_mono_ms());
}

static void turn(struct keeper *k)
{
    wait_a_little(k);
    if (k->over)
        return;
    hear_signals(k);
    hear_readings(k);
    pass_all_on(k);
    uint64_t now = clock_mono_ms();
    beat(k, now);
    if (k->checks && !k->overdue && now >= k->check_until_ms) {
        k->overdue = true;
        process_end(k->p);
    }
    if (!k->over)
        act(k, supervise_wake(&k->s, now));
    if (!k->over && k->s.state == SUPERVISE_RUNNING && clock_mono_ms() - k->checkpoint_ms >= k->r->checkpoint_ms)
        checkpoint(k, "interval", NULL);
}

/* ---- its life -------------------------------------------------------------------------------------------------- */

static bool open_fds(struct keeper *k)
{
    sigset_t set;
    struct epoll_event ev = {.events = EPOLLIN};
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    (void)fcntl(k->readings_fd, F_SETFL, O_NONBLOCK);
    (void)fcntl(k->beats_fd, F_SETFL, O_NONBLOCK);
    k->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    k->wake_fd = epoll_create1(EPOLL_CLOEXEC);
    return k->signal_fd >= 0 && k->wake_fd >= 0 &&
           epoll_ctl(k->wake_fd, EPOLL_CTL_ADD, k->readings_fd, &ev) == 0 &&
           epoll_ctl(k->wake_fd, EPOLL_CTL_ADD, k->signal_fd, &ev) == 0;
}

/* Until nothing is left of an agent that another keeper had: it may wait for a disk, and cannot be ended then. False: we are to stop. */
static bool wait_for_the_last(struct keeper *k)
{
    struct signalfd_siginfo in;
    uint64_t told = clock_mono_ms() + KEEP_BEAT_MS - KEEP_TELL_MS, now; /* it may be ending just now */
    pd_err e;
    while ((e = keep_hold(k->r, KEEP_AGENT_LOCK, &k->hold_fd)) == PD_EXISTS) {
        struct pollfd fd = {k->signal_fd, POLLIN, 0};
        if (poll(&fd, 1, KEEP_FREE_MS) > 0 && read(k->signal_fd, &in, sizeof(in)) == (ssize_t)sizeof(in))
            return false;
        now = clock_mono_ms();
        beat(k, now);
        if (now - told < KEEP_TELL_MS)
            continue;
        told = now;
        LOG(NULL, LOG_WARN, "supervise.still_ending",
            "agent=%s remedy=\"what an earlier supervise ran is not gone yet, and two are not run at once: look "
            "for its processes\"",
            k->r->name);
    }
    if (e)
        LOG(NULL, LOG_WARN, "supervise.unrecorded", "agent=%s err=%s", k->r->name, pd_err_name(e));
    else
        keep_record_sweep(k->r);
    return true;
}

/* What an earlier process wrote down. A person who gives the same command again after a pause has looked: then nothing counts. */
static void recall(struct keeper *k, bool again)
{
    uint64_t ages[SUPERVISE_RESTARTS_MAX], wall = clock_wall_ms();
    unsigned n = 0;
    if (keep_record_read(k->r, &k->record) != PD_OK) {
        k->record = (struct keep_record){.began_wall_ms = wall, .command_hash = keep_command_hash(k->r)};
        if (k->r->begun)
            supervise_recall(&k->s, 1, 0, NULL, 0);
        snprintf(k->why, sizeof(k->why), "%.*s", WHY_BYTES - 1, k->r->begun ? k->r->begun : "");
        return;
    }
    if (again || strcmp(k->record.state, supervise_state_name(SUPERVISE_PAUSED)) != 0)
        for (; n < k->record.restarted; n++)
            ages[n] = wall > k->record.restarted_wall_ms[n] ? wall - k->record.restarted_wall_ms[n] : 0;
    supervise_recall(&k->s, k->record.starts, clock_mono_ms(), ages, n);
    snprintf(k->why, sizeof(k->why),
             again ? "its keeper hung or was killed." : "it was stopped, or died with the machine.");
}

static enum keep_end live(struct keeper *k, bool again)
{
    recall(k, again);
    if (strcmp(k->record.state, supervise_state_name(SUPERVISE_DONE)) == 0) {
        log_say("perdure supervise: it was done before, and a crash kept that from being said; given again, the "
                "command begins anew");
        k->s.state = SUPERVISE_DONE;
        k->s.verified = k->s.rules.check;
        leave(k);
    } else {
        act(k, again && k->record.starts ? supervise_fell(&k->s, clock_mono_ms())
                                         : supervise_begin(&k->s, clock_mono_ms()));
    }
    while (!k->over)
        turn(k);
    return k->end;
}

enum keep_end keeper_run(const struct keep_rules *r, int readings_fd, int beats_fd, bool again)
{
    struct keeper *k = mem_zalloc(sizeof(*k));
    enum keep_end end = KEEP_FAILED;
    if (!k)
        return end;
    *k = (struct keeper){.r = r,
                         .readings_fd = readings_fd,
                         .beats_fd = beats_fd,
                         .signal_fd = -1,
                         .wake_fd = -1,
                         .read_ms = clock_mono_ms()};
    for (int i = 0; i < PROCESS_STREAMS; i++)
        pass_open(&k->passes[i], i == PROCESS_STDOUT ? STDOUT_FILENO : STDERR_FILENO, r->rules.stall_ms / 4);
    supervise_init(&k->s, &r->rules);
    k->s.rules.check = r->check != NULL;
    pd_err e = r->url ? asker_new(r->url, &k->asker) : PD_OK;
    if (e || !open_fds(k)) {
        log_say("perdure supervise: cannot begin: %s", e ? pd_err_text(e) : strerror(errno));
    } else {
        beat(k, clock_mono_ms());
        end = wait_for_the_last(k) ? live(k, again) : KEEP_STOPPED;
    }
    k->p = process_free(k->p);
    pass_the_rest(k);
    for (int i = 0; i < PROCESS_STREAMS; i++)
        pass_close(&k->passes[i]);
    asker_free(k->asker);
    if (k->hold_fd > 0)
        close(k->hold_fd);
    if (k->signal_fd >= 0)
        close(k->signal_fd);
    if (k->wake_fd >= 0)
        close(k->wake_fd);
    mem_free(k);
    return end;
}
