#include "test.h"

#include "base/mem.h"
#include "task/doing.h"
#include "torture.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LONG_MS = 10 * 1000, TASKS_MAX = 3 };

/* A queue that gives what a test says, and in which a beat can be held. Each of its functions needs memory, as all queues' do. */
struct queue {
    struct work_queue q; /* first */
    pthread_mutex_t lock;
    pthread_cond_t moved;
    const char *runs[TASKS_MAX]; /* one task "a" of epoch 1 of each */
    unsigned claimed, beats, finished;
    bool holds, fences, checks_disk;
    char ended[TASKS_MAX][RUN_ID_BYTES];
    enum task_outcome outcomes[TASKS_MAX];
    struct task_worker *worker;
    const char *spec, *inputs;
    const char *effects; /* how the key of "run" begins */
    unsigned steps;
    char error[300]; /* of the newest that was not done */
};

static struct queue *of(struct work_queue *q)
{
    return (struct queue *)q;
}

static pd_err has_memory(void)
{
    void *p = mem_alloc(1);
    mem_free(p);
    return p ? PD_OK : PD_NOMEM;
}

static pd_err claim(struct work_queue *q, const struct claim_wish *w, uint64_t wait_ms, struct claimed *ret)
{
    struct queue *k = of(q);
    (void)w, (void)wait_ms;
    if (k->claimed == TASKS_MAX || !k->runs[k->claimed]) {
        worker_stop(k->worker);
        return PD_CANCELLED;
    }
    *ret = (struct claimed){.epoch = 1, .attempt = 1, .kind = TASK_COMMAND};
    snprintf(ret->run, sizeof(ret->run), "%s", k->runs[k->claimed]);
    snprintf(ret->task, sizeof(ret->task), "a");
    pd_err e = buf_puts(&ret->spec, k->spec ? k->spec : "{}");
    if (!e)
        e = buf_puts(&ret->inputs, k->inputs ? k->inputs : "{}");
    k->claimed += !e;
    return e;
}

static pd_err beat(struct work_queue *q, const struct held_task *h, struct span progress, uint64_t limit_ms,
                   struct beat_answer *ret)
{
    struct queue *k = of(q);
    (void)h, (void)progress, (void)limit_ms, (void)ret;
    if (has_memory() != PD_OK)
        return PD_NOMEM;
    pthread_mutex_lock(&k->lock);
    bool fenced = k->fences && k->beats == 0;
    k->beats++;
    pthread_cond_broadcast(&k->moved);
    while (k->holds)
        pthread_cond_wait(&k->moved, &k->lock);
    pthread_mutex_unlock(&k->lock);
    return fenced ? RUNS_FENCED : PD_OK;
}

static pd_err finish(struct work_queue *q, const struct held_task *h, const struct task_end *end,
                     enum task_state *ret_state)
{
    struct queue *k = of(q);
    if (has_memory() != PD_OK)
        return PD_NOMEM;
    assert_true(k->finished < TASKS_MAX);
    if (end->outcome != OUTCOME_DONE)
        snprintf(k->error, sizeof(k->error), "%.*s", SPAN_FMT(span_upto(end->error, sizeof(k->error) - 1)));
    snprintf(k->ended[k->finished], RUN_ID_BYTES, "%s", h->run);
    k->outcomes[k->finished++] = end->outcome;
    *ret_state = TASK_DONE;
    return PD_OK;
}

static pd_err step_begin(struct work_queue *q, const struct held_task *h, const struct step *s,
                         enum step_found *ret, struct buf *result)
{
    (void)h, (void)result;
    *ret = STEP_NEW;
    if (of(q)->effects && strcmp(s->name, "run") == 0) /* without its key the other side would not know it again */
        assert_true(s->kind == STEP_EFFECT && span_starts(s->key, of(q)->effects));
    return has_memory();
}

static void check_disk(void);

static pd_err step_end(struct work_queue *q, const struct held_task *h, const char *step, struct span result)
{
    (void)h, (void)step, (void)result;
    if (has_memory() != PD_OK)
        return PD_NOMEM;
    if (of(q)->checks_disk)
        check_disk();
    of(q)->steps++;
    return PD_OK;
}

static void stop(struct work_queue *q)
{
    (void)q;
}

static const struct work_ops ops = {
    .claim = claim, .beat = beat, .step_begin = step_begin, .step_end = step_end, .finish = finish, .stop = stop};

static void wait_for_beats(struct queue *k, unsigned n)
{
    pthread_mutex_lock(&k->lock);
    while (k->beats < n)
        pthread_cond_wait(&k->moved, &k->lock);
    pthread_mutex_unlock(&k->lock);
}

static pd_err try_run(struct queue *k, struct worker_rules r, worker_kind_fn *fn)
{
    struct worker_done done;
    pthread_mutex_init(&k->lock, NULL);
    pthread_cond_init(&k->moved, NULL);
    k->q.ops = &ops;
    r.queue = &k->q;
    r.name = "w";
    pd_err e = worker_new(&r, &k->worker);
    if (!e && fn)
        worker_set_kind(k->worker, TASK_COMMAND, fn);
    if (!e) {
        assert_int_equal(worker_run(k->worker, &done), PD_OK);
        worker_free(k->worker);
    }
    pthread_cond_destroy(&k->moved);
    pthread_mutex_destroy(&k->lock);
    return e;
}

static void run(struct queue *k, struct worker_rules r, worker_kind_fn *fn)
{
    assert_int_equal(try_run(k, r, fn), PD_OK);
}

/* ---- what a beat hears is of the task that it told of --------------------------------------------- */

/* The first ends while its beat is under way; its answer comes amid the second, and a third beat shows that it was heard. */
static pd_err across_two_runs(struct doing *d)
{
    struct queue *k = of(d->rules->queue);
    d->end.outcome = OUTCOME_DONE;
    if (strcmp(d->held.run, "r-1") == 0) {
        wait_for_beats(k, 1);
        return PD_OK;
    }
    pthread_mutex_lock(&k->lock);
    k->holds = false;
    pthread_cond_broadcast(&k->moved);
    pthread_mutex_unlock(&k->lock);
    wait_for_beats(k, 2);
    return doing_stopped(d);
}

static void an_answer_about_one_run_stops_no_task_of_another(void **state)
{
    (void)state;
    struct queue k = {.runs = {"r-1", "r-2"}, .holds = true, .fences = true};
    run(&k, (struct worker_rules){.lease_ms = 1000}, across_two_runs);
    assert_int_equal(k.finished, 2);
    assert_string_equal(k.ended[1], "r-2");
    assert_int_equal(k.outcomes[1], OUTCOME_DONE);
}

/* ---- the end of the drain ---------------------------------------------------------------------------- */

static pd_err goes_on_for_ever(struct doing *d)
{
    struct queue *k = of(d->rules->queue);
    struct pollfd fd = {d->wake_fd, POLLIN, 0};
    wait_for_beats(k, 1); /* the next one is due in twenty seconds */
    worker_stop(k->worker);
    assert_int_equal(poll(&fd, 1, LONG_MS), 1);
    return doing_stopped(d);
}

static void a_task_is_given_back_when_the_drain_ends_and_not_with_the_next_beat(void **state)
{
    (void)state;
    struct queue k = {.runs = {"r-1"}};
    run(&k, (struct worker_rules){.lease_ms = 60 * 1000, .drain_ms = 50}, goes_on_for_ever);
    assert_int_equal(k.finished, 1);
    assert_int_equal(k.outcomes[0], OUTCOME_RELEASED);
}

/* ---- what is written ------------------------------------------------------------------------------------ */

static char folder[] = "/tmp/perdure-written-XXXXXX";
static ino_t synced[16]; /* folders, in the order of their syncs */
static unsigned synced_count;

int __real_fsync(int fd);
int __wrap_fsync(int fd);

int __wrap_fsync(int fd)
{
    struct stat st;
    if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode) && synced_count < 16)
        synced[synced_count++] = st.st_ino;
    return __real_fsync(fd);
}

/* At the moment at which it is recorded as written. */
static void check_disk(void)
{
    static const char *const folders[] = {"", "new", "new/deep"};
    for (size_t i = 0; i < 3; i++) {
        char path[200];
        struct stat st;
        bool found = false;
        snprintf(path, sizeof(path), "%s/%s", folder, folders[i]);
        assert_int_equal(stat(path, &st), 0);
        for (unsigned n = 0; n < synced_count; n++)
            found |= synced[n] == st.st_ino;
        if (!found)
            fail_msg("the names in \"%s\" may be lost with the power", folders[i]);
    }
}

static pd_err writes(struct doing *d)
{
    pd_err e = doing_output(d, SPAN_LIT("\"what is given\""));
    return e ? e : doing_write(d, 1);
}

static void is_text(const char *path, const char *want)
{
    char text[100] = "";
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_non_null(fgets(text, sizeof(text), f));
    fclose(f);
    assert_string_equal(text, want);
}

static void what_is_written_outlasts_the_power_and_follows_no_link(void **state)
{
    (void)state;
    char path[200], link[240], other[200];
    struct queue k = {.runs = {"r-1"}, .spec = "{\"write\":{\"path\":\"new/deep/file\"}}", .checks_disk = true};
    assert_non_null(mkdtemp(folder));
    synced_count = 0;
    run(&k, (struct worker_rules){.dir = folder}, writes);
    assert_int_equal(k.steps, 1);
    assert_int_equal(k.outcomes[0], OUTCOME_DONE);
    snprintf(path, sizeof(path), "%s/new/deep/file", folder);
    is_text(path, "what is given");

    /* a name that a program of the run can foretell */
    snprintf(other, sizeof(other), "%s/other", folder);
    FILE *f = fopen(other, "w");
    assert_non_null(f);
    fputs("of others", f);
    fclose(f);
    snprintf(link, sizeof(link), "%s.perdure-%d", path, (int)getpid());
    assert_int_equal(symlink(other, link), 0);
    k = (struct queue){.runs = {"r-2"}, .spec = k.spec, .checks_disk = true};
    run(&k, (struct worker_rules){.dir = folder}, writes);
    assert_int_equal(k.outcomes[0], OUTCOME_DONE);
    is_text(other, "of others");
    is_text(path, "what is given");
    unlink(link);
    unlink(path);
    unlink(other);
    snprintf(path, sizeof(path), "%s/new/deep", folder);
    assert_int_equal(rmdir(path), 0); /* nothing else is left there */
    snprintf(path, sizeof(path), "%s/new", folder);
    rmdir(path);
    rmdir(folder);
}

/* ---- memory ------------------------------------------------------------------------------------------------ */

/* Two tasks: what each needs is filled in, a program runs, a file is written, checks are made. Whatever fails, the worker goes on: each task is told about
 * once, as done or with the reason, and at most one suffers. */
static pd_err two_tasks(void *ctx)
{
    char here[2001] = "", xs[4001] = ""; /* each of them more than is left of a block of an arena */
    static char spec[24000], inputs[5000];
    for (size_t i = 0; i + 2 < sizeof(here); i += 2)
        memcpy(here + i, "./", 2);
    memset(xs, 'x', sizeof(xs) - 1);
    snprintf(inputs, sizeof(inputs), "{\"b\":\"gave %s\"}", xs);
    snprintf(spec, sizeof(spec),
             "{\"command\":\"test -f mark && test \\\"$(cat)\\\" = '\\u00e9%s' && echo '${b.output}'\","
             "\"cwd\":\"%s\\u0073ub\",\"env\":{\"OF\":\"${run}/${task}\"},\"stdin\":\"\\u00e9%s\","
             "\"idempotency_key\":\"\\u00e9%s\",\"write\":{\"path\":\"%s\\u0073ub/given\"},"
             "\"checks\":[{\"command\":[\"test\",\"-s\",\"given\"]},{\"file\":\"given\",\"contains\":\"\\u0067ave "
             "%s\"}]}",
             xs, here, xs, xs, here, xs);
    struct queue k = {.runs = {"r-1", "r-2"}, .spec = spec, .inputs = inputs, .effects = "\u00e9xx"};
    unsigned *suffered = ctx;
    if (try_run(&k, (struct worker_rules){.dir = folder, .lease_ms = 60 * 1000}, NULL) != PD_OK) {
        assert_int_equal(k.claimed, 0);
        return PD_NOMEM;
    }
    assert_int_equal(k.finished, 2);
    for (unsigned i = 0; i < 2; i++)
        assert_string_equal(k.ended[i], k.runs[i]);
    *suffered = 0;
    for (unsigned i = 0; i < 2; i++)
        *suffered += k.outcomes[i] != OUTCOME_DONE;
    if (*suffered > (unsigned)mem_failed())
        fail_msg("%u tasks suffered: %s", *suffered, k.error);
    if (k.error[0] && !strstr(k.error, "\"out_of_memory\"")) /* anything else would be a lie */
        fail_msg("%s", k.error);
    return PD_OK;
}

static void a_worker_survives_every_failed_allocation(void **state)
{
    (void)state;
    char command[100];
    unsigned suffered;
    strcpy(folder, "/tmp/perdure-written-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(command, sizeof(command), "mkdir %s/sub && touch %s/sub/mark", folder, folder);
    assert_int_equal(system(command), 0);
    assert_int_equal(two_tasks(&suffered), PD_OK); /* what libraries keep for the whole process */
    assert_int_equal(suffered, 0);
    assert_true(torture_lenient(two_tasks, &suffered) > 60);
    assert_int_equal(suffered, 0);
    snprintf(command, sizeof(command), "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN); /* as the program does */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_about_one_run_stops_no_task_of_another),
        cmocka_unit_test(a_task_is_given_back_when_the_drain_ends_and_not_with_the_next_beat),
        cmocka_unit_test(what_is_written_outlasts_the_power_and_follows_no_link),
        cmocka_unit_test(a_worker_survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
