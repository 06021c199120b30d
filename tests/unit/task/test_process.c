#include "test.h"
#include "torture.h"

#include "base/clock.h"
#include "base/mem.h"
#include "task/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LONG_MS = 30 * 1000 };

static struct process *start(const char *script, struct process_rules r)
{
    const char *argv[] = {"sh", "-c", script, NULL};
    char why[PROCESS_WHY_BYTES];
    struct process *p = NULL;
    r.argv = argv;
    assert_int_equal(process_start(&r, &p, why), PD_OK);
    assert_string_equal(why, "");
    return p;
}

static char *text_of(struct process *p, enum process_stream s)
{
    struct buf out = {0};
    assert_int_equal(process_output(p, s, &out), PD_OK);
    char *text = mem_strndup(buf_span(&out).p, buf_size(&out));
    assert_non_null(text);
    buf_done(&out);
    return text;
}

static const struct row {
    const char *name, *script;
    enum process_how how;
    int status;
    const char *out, *err;
} rows[] = {
    {"status and both outputs", "echo a; echo b >&2; exit 3", PROCESS_EXITED, 3, "a\n", "b\n"},
    {"a signal is no status", "kill -9 $$", PROCESS_SIGNALLED, SIGKILL, "", ""},
    {"no input is an empty input", "cat; echo end", PROCESS_EXITED, 0, "end\n", ""},
    {"signals are as at the start", "trap 'exit 7' TERM; kill -TERM $$; sleep 9", PROCESS_EXITED, 7, "", ""},
    {"broken pipes end it", "yes | head -1", PROCESS_EXITED, 0, "y\n", NULL},
};

static void each_program_ends_as_it_ended(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *r = &rows[i];
        struct process *p = start(r->script, (struct process_rules){0});
        assert_true(process_wait(p, LONG_MS, -1));
        struct process_result got = process_result(p);
        char *out = text_of(p, PROCESS_STDOUT), *err = text_of(p, PROCESS_STDERR);
        if (got.how != r->how || got.status != r->status || (r->out && strcmp(out, r->out) != 0) ||
            (r->err && strcmp(err, r->err) != 0) || got.strays)
            fail_msg("%s: how %d status %d strays %u out \"%s\" err \"%s\"", r->name, got.how, got.status,
                     got.strays, out, err);
        mem_free(out);
        mem_free(err);
        process_free(p);
    }
}

static void it_has_no_descriptor_but_three(void **state)
{
    (void)state;
    int leak = open("/dev/null", O_RDONLY); /* not close-on-exec */
    assert_true(leak > 2);
    struct process *p = start("ls /proc/self/fd", (struct process_rules){0});
    assert_true(process_wait(p, LONG_MS, -1));
    char *out = text_of(p, PROCESS_STDOUT);
    assert_string_equal(out, "0\n1\n2\n3\n"); /* 3 is ls's own, of the folder */
    mem_free(out);
    process_free(p);
    close(leak);
}

static void what_cannot_be_started_says_why(void **state)
{
    (void)state;
    char why[PROCESS_WHY_BYTES];
    struct process *p = NULL;
    const char *none[] = {"no-such-program-at-all", NULL}, *yes[] = {"true", NULL};
    struct process_rules r = {.argv = none};
    assert_int_equal(process_start(&r, &p, why), PD_NOTFOUND);
    assert_non_null(strstr(why, "no-such-program-at-all"));
    assert_non_null(strstr(why, "No such file"));
    r = (struct process_rules){.argv = yes, .dir = "/no/such/folder"};
    assert_int_equal(process_start(&r, &p, why), PD_NOTFOUND);
    assert_non_null(strstr(why, "folder \"/no/such/folder\""));
    assert_null(p);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no guard is left */
}

static void folder_environment_and_input_are_given(void **state)
{
    (void)state;
    const char *env[] = {"PATH=/usr/bin:/bin", "WORD=seen", NULL};
    struct process *p = start("pwd; echo $WORD $HOME; cat",
                              (struct process_rules){.dir = "/tmp", .env = env, .input = SPAN_LIT("in\n")});
    assert_true(process_wait(p, LONG_MS, -1));
    char *out = text_of(p, PROCESS_STDOUT);
    assert_string_equal(out, "/tmp\nseen\nin\n");
    mem_free(out);
    process_free(p);
}

/* More than a pipe holds in both directions: nobody waits for the other. */
static void large_input_and_output_pass(void **state)
{
    (void)state;
    size_t n = 3 << 20;
    char *big = mem_alloc(n);
    assert_non_null(big);
    memset(big, 'x', n);
    struct process *p = start("cat", (struct process_rules){.input = {big, n}, .output_bytes = 8 << 20});
    assert_true(process_wait(p, LONG_MS, -1));
    assert_int_equal(process_output_total(p, PROCESS_STDOUT), n);
    process_free(p);
    p = start("exec true", (struct process_rules){.input = {big, n}}); /* it does not want its input */
    assert_true(process_wait(p, LONG_MS, -1));
    assert_int_equal(process_result(p).status, 0);
    process_free(p);
    mem_free(big);
}

static void output_over_its_limit_keeps_both_ends(void **state)
{
    (void)state;
    struct process *p = start("seq 1 200000; echo the end", (struct process_rules){.output_bytes = 100});
    assert_true(process_wait(p, LONG_MS, -1));
    char *out = text_of(p, PROCESS_STDOUT);
    assert_true(strncmp(out, "1\n2\n3\n", 6) == 0);
    assert_non_null(strstr(out, "bytes left out"));
    assert_string_equal(out + strlen(out) - 8, "the end\n");
    assert_true(strlen(out) < 200);
    size_t out_of = 0;
    assert_int_equal(sscanf(strstr(out, "[..."), "[... %zu", &out_of), 1);
    assert_int_equal(out_of + 100, process_output_total(p, PROCESS_STDOUT));
    mem_free(out);
    process_free(p);
}

static void one_that_does_not_end_when_asked_is_killed(void **state)
{
    (void)state;
    struct process *p =
        start("trap '' TERM; echo ready; while :; do sleep 1; done", (struct process_rules){.grace_ms = 50});
    while (process_output_total(p, PROCESS_STDOUT) == 0)
        assert_false(process_wait(p, 20, -1));
    process_end(p);
    assert_true(process_wait(p, LONG_MS, -1));
    assert_int_equal(process_result(p).how, PROCESS_SIGNALLED);
    assert_int_equal(process_result(p).status, SIGKILL);
    process_free(p);
}

static void one_that_is_stopped_hears_that_it_should_end(void **state)
{
    (void)state;
    struct process *p = start("trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done",
                              (struct process_rules){.grace_ms = LONG_MS});
    while (process_output_total(p, PROCESS_STDOUT) == 0)
        assert_false(process_wait(p, 20, -1));
    process_signal(p, SIGSTOP);
    process_end(p);
    assert_true(process_wait(p, LONG_MS, -1));
    assert_int_equal(process_result(p).status, 5);
    process_free(p);
}

/* ---- nothing is left ---------------------------------------------------------------------------------- */

static const char runaways[] =
    "exec 8>$FIFO; sleep 1000 & setsid sleep 1000 & (setsid sh -c 'sleep 1000 & sleep 1000' &) & "
    "echo ready; ";

struct fifo {
    char dir[64], path[80], env[100];
    int fd;
    const char *vars[3];
};

static void fifo_open(struct fifo *f)
{
    strcpy(f->dir, "/tmp/perdure-process-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof(f->path), "%s/f", f->dir);
    snprintf(f->env, sizeof(f->env), "FIFO=%s", f->path);
    assert_int_equal(mkfifo(f->path, 0600), 0);
    f->fd = open(f->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_true(f->fd >= 0);
    f->vars[0] = f->env;
    f->vars[1] = "PATH=/usr/bin:/bin";
    f->vars[2] = NULL;
}

/* Every process that has it open has ended. */
static bool fifo_is_alone(struct fifo *f, int ms)
{
    struct pollfd fd = {f->fd, POLLIN, 0};
    return poll(&fd, 1, ms) == 1 && (fd.revents & POLLHUP);
}

static void fifo_done(struct fifo *f)
{
    close(f->fd);
    unlink(f->path);
    rmdir(f->dir);
}

static void wait_ready(struct process *p)
{
    while (process_output_total(p, PROCESS_STDOUT) == 0 && !process_wait(p, 20, -1))
        ;
}

static void what_a_program_leaves_is_killed(void **state)
{
    (void)state;
    static const char *const ends[] = {"exit 0", "kill -9 $$", "sleep 1000"};
    for (int i = 0; i < 3; i++) {
        struct fifo f;
        char script[400];
        fifo_open(&f);
        snprintf(script, sizeof(script), "%s %s", runaways, ends[i]);
        struct process *p = start(script, (struct process_rules){.env = f.vars});
        wait_ready(p);
        if (i == 2)
            process_kill(p);
        assert_true(process_wait(p, LONG_MS, -1));
        assert_true(fifo_is_alone(&f, 0)); /* not soon: now */
        assert_true(process_result(p).strays >= 2);
        process_free(p);
        fifo_done(&f);
    }
}

static void freed_while_it_runs_nothing_is_left(void **state)
{
    (void)state;
    struct fifo f;
    char script[400];
    fifo_open(&f);
    snprintf(script, sizeof(script), "%s sleep 1000", runaways);
    struct process *p = start(script, (struct process_rules){.env = f.vars});
    wait_ready(p);
    assert_false(fifo_is_alone(&f, 0));
    process_free(p);
    assert_true(fifo_is_alone(&f, 0));
    fifo_done(&f);
}

static void when_we_are_killed_nothing_is_left(void **state)
{
    (void)state;
    struct fifo f;
    char script[400], ready;
    int said[2];
    fifo_open(&f);
    assert_int_equal(pipe2(said, O_CLOEXEC), 0);
    snprintf(script, sizeof(script), "trap '' TERM; %s while :; do sleep 1; done", runaways);
    pid_t us = fork();
    if (us == 0) {
        struct process *p = start(script, (struct process_rules){.env = f.vars});
        wait_ready(p);
        if (write(said[1], "r", 1) != 1)
            _exit(1);
        for (;;)
            process_wait(p, LONG_MS, -1);
    }
    assert_int_equal(read(said[0], &ready, 1), 1);
    assert_false(fifo_is_alone(&f, 0));
    kill(us, SIGKILL);
    assert_int_equal(waitpid(us, NULL, 0), us);
    assert_true(fifo_is_alone(&f, PROCESS_GRACE_DEFAULT_MS / 2)); /* nobody is asked first */
    close(said[0]);
    close(said[1]);
    fifo_done(&f);
}

static void a_guard_that_is_killed_is_known_to_be_lost(void **state)
{
    (void)state;
    struct process *p = start("echo $PPID; sleep 1000", (struct process_rules){0});
    wait_ready(p);
    char *out = text_of(p, PROCESS_STDOUT);
    pid_t guard = atoi(out), pid = process_pid(p);
    mem_free(out);
    assert_true(guard > 1 && pid > 1);
    kill(guard, SIGKILL);
    assert_true(process_wait(p, LONG_MS, -1));
    assert_int_equal(process_result(p).how, PROCESS_LOST);
    process_free(p);
    while (kill(pid, 0) == 0) /* it dies with its guard; init, or whoever is it here, takes it away */
        poll(NULL, 0, 5);
}

static void a_wait_ends_when_it_is_woken(void **state)
{
    (void)state;
    int wake[2];
    assert_int_equal(pipe2(wake, O_CLOEXEC), 0);
    struct process *p = start("sleep 1000", (struct process_rules){0});
    assert_int_equal(write(wake[1], "x", 1), 1);
    uint64_t before = clock_mono_ms();
    assert_false(process_wait(p, LONG_MS, wake[0]));
    assert_true(clock_mono_ms() - before < LONG_MS / 2);
    process_free(p);
    close(wake[0]);
    close(wake[1]);
}

/* Polls that are over long before the caller's time is, as those of a minute are in a wait of ten. */
static int polls_most_ms = -1;
int __real_poll(struct pollfd *fds, nfds_t n, int ms);
int __wrap_poll(struct pollfd *fds, nfds_t n, int ms);

int __wrap_poll(struct pollfd *fds, nfds_t n, int ms)
{
    return __real_poll(fds, n, polls_most_ms >= 0 && (ms < 0 || ms > polls_most_ms) ? polls_most_ms : ms);
}

static void a_silent_program_has_all_of_its_time(void **state)
{
    (void)state;
    struct process *p = start("sleep 0.2; exit 5", (struct process_rules){0});
    polls_most_ms = 1;
    bool ended = process_wait(p, LONG_MS, -1);
    polls_most_ms = -1;
    assert_true(ended);
    assert_int_equal(process_result(p).status, 5);
    process_free(p);
}

static pd_err run_one(void *ctx)
{
    (void)ctx;
    const char *argv[] = {"sh", "-c", "seq 1 1000; seq 1 1000 >&2", NULL};
    struct process_rules r = {.argv = argv, .output_bytes = 200};
    char why[PROCESS_WHY_BYTES];
    struct process *p;
    struct buf out = {0};
    pd_err e = process_start(&r, &p, why);
    if (e)
        return e;
    assert_true(process_wait(p, LONG_MS, -1));
    assert_int_equal(process_output_total(p, PROCESS_STDOUT), 3893);
    e = process_output(p, PROCESS_STDOUT, &out);
    if (!e) {
        struct span text = buf_span(&out);
        assert_true(span_starts(text, "1\n2\n3\n") && span_ends(text, "999\n1000\n"));
        assert_int_equal(text.n, 200 + strlen("\n[... 3693 bytes left out ...]\n"));
    }
    buf_done(&out);
    process_free(p);
    return e;
}

/* Output for which there is no memory is left out, and whoever takes it is told; the program runs to its end all the same. */
static void survives_every_failed_allocation(void **state)
{
    (void)state;
    assert_true(torture_lenient(run_one, NULL) >= 3);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_program_ends_as_it_ended),
        cmocka_unit_test(it_has_no_descriptor_but_three),
        cmocka_unit_test(what_cannot_be_started_says_why),
        cmocka_unit_test(folder_environment_and_input_are_given),
        cmocka_unit_test(large_input_and_output_pass),
        cmocka_unit_test(output_over_its_limit_keeps_both_ends),
        cmocka_unit_test(one_that_does_not_end_when_asked_is_killed),
        cmocka_unit_test(one_that_is_stopped_hears_that_it_should_end),
        cmocka_unit_test(what_a_program_leaves_is_killed),
        cmocka_unit_test(freed_while_it_runs_nothing_is_left),
        cmocka_unit_test(when_we_are_killed_nothing_is_left),
        cmocka_unit_test(a_guard_that_is_killed_is_known_to_be_lost),
        cmocka_unit_test(a_wait_ends_when_it_is_woken),
        cmocka_unit_test(a_silent_program_has_all_of_its_time),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
