#include "task/doing.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rnd.h"
#include "parse/put.h"
#include "state/folder.h"
#include "store/content.h"
#include "task/checks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ENV_MAX = 4096, CHECKPOINT_ASK_MS = 30 * 1000, CHECKPOINT_OUTPUT_MAX = 64 << 10 };

/* ---- stopping ----------------------------------------------------------------------------------------------------- */

pd_err doing_stopped(struct doing *d)
{
    int s = atomic_load(&d->stop);
    return s == DOING_GOES ? PD_OK : s == DOING_FENCED ? RUNS_FENCED : PD_CANCELLED;
}

uint64_t doing_left_ms(const struct doing *d)
{
    uint64_t now = clock_mono_ms();
    return d->until_ms == CLOCK_NEVER ? CLOCK_NEVER : d->until_ms > now ? d->until_ms - now : 0;
}

/* ---- progress ------------------------------------------------------------------------------------------------------ */

void doing_at(struct doing *d, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    pthread_mutex_lock(&d->lock);
    vsnprintf(d->at, sizeof(d->at), fmt, ap);
    pthread_mutex_unlock(&d->lock);
    va_end(ap);
}

void doing_count(struct doing *d, uint64_t tokens_in, uint64_t tokens_out, uint64_t bytes)
{
    pthread_mutex_lock(&d->lock);
    d->tokens_in += tokens_in;
    d->tokens_out += tokens_out;
    d->bytes += bytes;
    pthread_mutex_unlock(&d->lock);
}

void doing_coming(struct doing *d, uint64_t bytes)
{
    pthread_mutex_lock(&d->lock);
    d->coming = bytes;
    pthread_mutex_unlock(&d->lock);
}

/* ---- what the plan says ---------------------------------------------------------------------------------------------- */

static const char *text_in(struct doing *d, struct json v)
{
    struct span s;
    pd_err e = v.type == JSON_STRING ? json_text(v, &d->arena, &s) : PD_INVALID;
    const char *text = e ? NULL : arena_strndup(&d->arena, s.p ? s.p : "", s.n);
    d->starved |= !text && (!e || e == PD_NOMEM);
    return text;
}

pd_err doing_fed(const struct doing *d)
{
    return d->starved ? PD_NOMEM : PD_OK;
}

const char *doing_text(struct doing *d, const char *member)
{
    return text_in(d, json_get(d->spec, member));
}

const char *const *doing_argv(struct doing *d, struct json program)
{
    struct json_walk w;
    struct json word;
    unsigned n = 0;
    json_walk_init(&w, program);
    while (json_walk_next(&w, NULL, &word))
        n++;
    const char **argv = arena_zalloc(&d->arena, (n + 4) * sizeof(*argv));
    if (!argv || (program.type != JSON_STRING && !n))
        return NULL;
    if (program.type == JSON_STRING) {
        argv[0] = "sh";
        argv[1] = "-c";
        argv[2] = text_in(d, program);
        return argv[2] ? argv : NULL;
    }
    json_walk_init(&w, program);
    for (unsigned i = 0; json_walk_next(&w, NULL, &word); i++)
        if (!(argv[i] = text_in(d, word)))
            return NULL;
    return argv;
}

/* NAME=VALUE goes over an earlier one of that name. */
static bool env_set(const char **env, unsigned *n, const char *pair)
{
    if (!pair)
        return false;
    size_t name = (size_t)(strchr(pair, '=') - pair) + 1;
    for (unsigned i = 0; i < *n; i++)
        if (strncmp(env[i], pair, name) == 0) {
            env[i] = pair;
            return true;
        }
    if (*n + 1 >= ENV_MAX)
        return false;
    env[(*n)++] = pair;
    return true;
}

struct filled {
    struct filled *next;
    const char *pair;
};

unsigned doing_fill(struct doing *d, struct span value)
{
    struct filled *x = arena_zalloc(&d->arena, sizeof(*x));
    if (!x)
        return 0;
    *x = (struct filled){d->filled,
                         arena_printf(&d->arena, DOING_FILLED "%u=%.*s", d->filled_count + 1, SPAN_FMT(value))};
    if (!x->pair)
        return 0;
    d->filled = x;
    return ++d->filled_count;
}

static bool is_admin_key(const struct doing *d, const char *pair)
{
    const char *name = d->rules->key_variable;
    size_t n = name ? strlen(name) : 0;
    return n && strncmp(pair, name, n) == 0 && pair[n] == '=';
}

const char *const *doing_env(struct doing *d)
{
    const char **env = arena_zalloc(&d->arena, ENV_MAX * sizeof(*env));
    unsigned n = 0;
    struct json_walk w;
    struct json v;
    struct span key;
    const char *effect = doing_text(d, "idempotency_key");
    bool ok = env != NULL;
    for (char **e = environ; ok && *e; e++)
        if (strchr(*e, '=') && !is_admin_key(d, *e))
            ok = env_set(env, &n, *e);
    json_walk_init(&w, json_get(d->spec, "env"));
    while (ok && json_walk_next(&w, &key, &v)) {
        const char *text = text_in(d, v);
        ok = text && env_set(env, &n, arena_printf(&d->arena, "%.*s=%s", SPAN_FMT(key), text));
    }
    ok = ok && env_set(env, &n, arena_printf(&d->arena, "PERDURE_RUN=%s", d->held.run)) &&
         env_set(env, &n, arena_printf(&d->arena, "PERDURE_TASK=%s", d->held.task)) &&
         env_set(env, &n, arena_printf(&d->arena, "PERDURE_ATTEMPT=%lld", (long long)d->claim->attempt));
    if (ok && d->rules->url)
        ok = env_set(
            env, &n,
            arena_printf(&d->arena, "PERDURE_URL=%s%s", d->rules->url, d->rules->base ? d->rules->base : ""));
    if (ok && effect)
        ok = env_set(env, &n, arena_printf(&d->arena, "PERDURE_IDEMPOTENCY_KEY=%s", effect));
    for (const struct filled *x = d->filled; ok && x; x = x->next)
        ok = env_set(env, &n, x->pair);
    return ok ? env : NULL;
}

static const char *below(struct doing *d, const char *path)
{
    const char *dir = d->rules->dir;
    if (!path || !dir || path[0] == '/')
        return path ? path : dir;
    const char *whole = arena_printf(&d->arena, "%s/%s", dir, path);
    d->starved |= !whole;
    return whole;
}

const char *doing_dir(struct doing *d)
{
    return below(d, doing_text(d, "cwd"));
}

/* ---- steps ------------------------------------------------------------------------------------------------------------ */

/* Nobody was reached for as long as the queue tries: the lease is over by then. */
static pd_err heard(struct doing *d, pd_err e)
{
    if (e == PD_IO || e == PD_PROTO) {
        atomic_store(&d->stop, DOING_LOST);
        return PD_CANCELLED;
    }
    if (e == RUNS_FENCED)
        atomic_store(&d->stop, DOING_FENCED);
    return e;
}

pd_err doing_begin(struct doing *d, const char *step, enum step_kind kind, const char *key, enum step_found *ret,
                   struct buf *result)
{
    const struct step s = {step, kind, key ? span_str(key) : SPAN_NONE};
    pd_err e = doing_stopped(d);
    if (!e)
        e = doing_fed(d);
    if (!e)
        e = heard(d, d->rules->queue->ops->step_begin(d->rules->queue, &d->held, &s, ret, result));
    return e ? e : doing_stopped(d); /* the answer may have come late: then nothing is begun */
}

pd_err doing_end(struct doing *d, const char *step, struct span result)
{
    pd_err e = heard(d, d->rules->queue->ops->step_end(d->rules->queue, &d->held, step, result));
    pthread_mutex_lock(&d->lock);
    d->steps += !e;
    pthread_mutex_unlock(&d->lock);
    return e;
}

/* ---- the end ------------------------------------------------------------------------------------------------------------- */

pd_err doing_fail(struct doing *d, const char *class, bool final, const char *fmt, ...)
{
    char text[4096];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    buf_clear(&d->error);
    struct put p = put_into(&d->error);
    put_text(&p, "{\"class\":");
    put_json(&p, span_str(class));
    put_text(&p, ",\"message\":");
    put_json(&p, span_str(text));
    put_printf(&p, ",\"worker\":");
    put_json(&p, span_str(d->rules->name));
    put_printf(&p, ",\"took_ms\":%llu", (unsigned long long)(clock_mono_ms() - d->began_ms));
    if (d->provider[0]) {
        put_text(&p, ",\"provider\":");
        put_json(&p, span_str(d->provider));
    }
    put_text(&p, "}");
    d->end.outcome = OUTCOME_FAILED;
    d->end.final = final;
    return p.err;
}

pd_err doing_output(struct doing *d, struct span json)
{
    buf_clear(&d->output);
    if (json.n > RUNS_VALUE_MAX)
        return PD_TOOBIG;
    return buf_add(&d->output, json);
}

/* ---- write ------------------------------------------------------------------------------------------------------------------ */

static int write_all(int fd, struct span s)
{
    while (s.n) {
        ssize_t n = write(fd, s.p, s.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        s = span_from(s, (size_t)n);
    }
    return 0;
}

/* Each name that is made here lasts. */
static void make_folders(char *path)
{
    char above[FOLDER_PATH_MAX + 4];
    for (char *p = path + 1; (p = strchr(p, '/')); p++) {
        *p = '\0';
        snprintf(above, sizeof(above), "%s/..", path);
        if (mkdir(path, 0777) == 0) /* what is really wrong shows itself when the file is made */
            (void)!folder_sync(above);
        *p = '/';
    }
}

static pd_err sync_folder_of(const char *path)
{
    char folder[FOLDER_PATH_MAX];
    snprintf(folder, sizeof(folder), "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder] = '\0';
    return folder_sync(slash ? folder : ".");
}

/* Errno of what went wrong, or 0. The mode is that of the file that was there. The temporary name is nobody else's, and none that can be foretold: workers
 * of two machines may have the same process id, and programs of the run may write in this folder. */
static int replace_file(const char *path, struct span bytes)
{
    char temporary[FOLDER_PATH_MAX];
    struct stat st;
    mode_t mode = stat(path, &st) == 0 ? st.st_mode & 07777 : 0;
    if ((size_t)snprintf(temporary, sizeof(temporary), "%s.perdure-%016llx", path,
                         (unsigned long long)rnd_seed()) >= sizeof(temporary))
        return ENAMETOOLONG;
    make_folders(temporary);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0)
        return errno;
    int bad = write_all(fd, bytes) || (mode && fchmod(fd, mode)) || fsync(fd) ? errno : 0;
    if (close(fd) != 0 && !bad)
        bad = errno;
    if (!bad && (rename(temporary, path) != 0 || sync_folder_of(path) != PD_OK))
        bad = errno;
    if (bad)
        unlink(temporary);
    return bad;
}

/* The output, or the member of it that `from` names; a string as its text. */
static pd_err what_to_write(struct doing *d, struct json write, struct span *ret)
{
    struct json output;
    const char *from = text_in(d, json_get(write, "from"));
    pd_err e = doing_fed(d);
    if (!e)
        e = json_first(buf_span(&d->output), &output, NULL);
    if (e)
        return e;
    if (from && (output = json_path(output, from)).type == JSON_NONE)
        return doing_fail(d, "no_member", false, "the output has no member \"%.200s\", which is to be written",
                          from);
    *ret = output.raw;
    return output.type == JSON_STRING ? json_text(output, &d->arena, ret) : PD_OK;
}

pd_err doing_write(struct doing *d, unsigned nth)
{
    char step[20];
    struct json write = json_get(d->spec, "write");
    struct buf result = {0};
    struct span bytes = SPAN_NONE;
    enum step_found found;
    if (write.type == JSON_NONE)
        return PD_OK;
    const char *path = below(d, text_in(d, json_get(write, "path")));
    if (!path)
        return PD_NOMEM;
    d->end.outcome = OUTCOME_DONE;
    pd_err e = what_to_write(d, write, &bytes);
    if (e || d->end.outcome == OUTCOME_FAILED)
        return e;
    doing_at(d, "writes %.60s", path);
    snprintf(step, sizeof(step), "write-%u", nth);
    e = doing_begin(d, step, STEP_FILES, NULL, &found, &result);
    int bad = e || found == STEP_DONE ? 0 : replace_file(path, bytes); /* the same bytes again are no harm */
    if (!e && bad)
        e = doing_fail(d, "write", false, "%.300s cannot be written: %s", path, strerror(bad));
    else if (!e && found != STEP_DONE) {
        struct content_name name;
        char json[100];
        e = content_name_of(bytes, &name);
        if (!e) {
            snprintf(json, sizeof(json), "\"%s\"", name.hex);
            e = doing_end(d, step, span_str(json));
        }
    }
    buf_done(&result);
    return e;
}

/* ---- checks ------------------------------------------------------------------------------------------------------------------- */

pd_err doing_check(struct doing *d, bool proven, char ret_why[DOING_WHY_BYTES])
{
    enum checks_found found;
    const struct checks_ask ask = {.checks = json_get(d->spec, "checks"),
                                   .output = buf_span(&d->output),
                                   .dir = doing_dir(d),
                                   .root = d->rules->dir,
                                   .env = doing_env(d),
                                   .wake_fd = d->wake_fd};
    ret_why[0] = '\0';
    if (!ask.env || d->starved)
        return PD_NOMEM;
    doing_at(d, "is checked");
    buf_clear(&d->evidence);
    pd_err e = checks_run(&ask, &d->evidence, &found, ret_why);
    if (e)
        return e;
    switch (found) {
    case CHECKS_NONE:
        d->end.outcome = proven ? OUTCOME_DONE : OUTCOME_INCONCLUSIVE;
        if (proven)
            return PD_OK;
        buf_clear(&d->error);
        return buf_puts(
            &d->error,
            "{\"class\":\"unchecked\",\"message\":\"nothing was checked: give it checks or a schema, or say "
            "`checks: none`\"}");
    case CHECKS_WAIVED:
    case CHECKS_PASSED:
        d->end.outcome = OUTCOME_DONE;
        return PD_OK;
    case CHECKS_FAILED:
        return doing_fail(d, "check", false, "%s", ret_why);
    case CHECKS_UNMADE:
        e = doing_fail(d, "check_unmade", false, "%s", ret_why);
        d->end.outcome = OUTCOME_INCONCLUSIVE;
        return e;
    case CHECKS_STOPPED:
        break;
    }
    e = doing_stopped(d);
    return e ? e : PD_CANCELLED;
}

/* ---- checkpoints ------------------------------------------------------------------------------------------------------------------ */

static pd_err put_checkpoint(struct doing *d, const char *reason, const char *milestone, struct span state,
                             struct buf *out)
{
    struct put p = put_into(out);
    struct content_name name;
    put_text(&p, "{\"agent_id\":");
    put_json(&p, span_str(d->held.run));
    put_printf(&p, ",\"task\":\"%s/%s\",\"step_index\":%u,\"reason\":\"%s\"", d->held.run, d->held.task, d->steps,
               reason);
    if (milestone) {
        put_text(&p, ",\"milestone\":");
        put_json(&p, span_str(milestone));
    }
    if (buf_size(&d->output) && content_name_of(buf_span(&d->output), &name) == PD_OK)
        put_printf(&p, ",\"output_hash\":\"%s\"", name.hex);
    if (d->provider[0]) {
        put_text(&p, ",\"provider\":");
        put_json(&p, span_str(d->provider));
    }
    pthread_mutex_lock(&d->lock);
    uint64_t bytes = d->bytes + d->coming;
    put_printf(&p,
               ",\"token_usage\":{\"input\":%llu,\"output\":%llu},\"progress\":{\"attempt\":%lld,\"epoch\":%lld,"
               "\"bytes\":%llu,\"at\":",
               (unsigned long long)d->tokens_in, (unsigned long long)d->tokens_out, (long long)d->claim->attempt,
               (long long)d->held.epoch, (unsigned long long)bytes);
    put_json(&p, span_str(d->at));
    pthread_mutex_unlock(&d->lock);
    put_text(&p, "}");
    if (state.n) {
        put_text(&p, ",\"state\":");
        put_span(&p, state);
    } else if (buf_size(&d->output) && buf_size(&d->output) <= CHECKPOINT_OUTPUT_MAX) {
        put_text(&p, ",\"state\":{\"output\":");
        put_span(&p, buf_span(&d->output));
        put_text(&p, "}");
    }
    put_text(&p, "}");
    return p.err;
}

/* What was said where the worker was started holds; else what the configuration says of the perdure that gave the task. */
uint64_t doing_checkpoint_ms(const struct doing *d)
{
    return d->rules->checkpoint_ms   ? d->rules->checkpoint_ms
           : d->claim->checkpoint_ms ? d->claim->checkpoint_ms
                                     : WORKER_CHECKPOINT_MS;
}

/* Beside the run's own record, which is what a run goes on from: so one that cannot be made stops nothing. */
void doing_checkpoint(struct doing *d, const char *reason, const char *milestone)
{
    doing_checkpoint_state(d, reason, milestone, SPAN_NONE);
}

void doing_checkpoint_state(struct doing *d, const char *reason, const char *milestone, struct span state)
{
    struct buf body = {0};
    struct asker_answer a;
    char path[400], bearer[600];
    struct http1_field fields[2] = {{SPAN_LIT("Content-Type"), SPAN_LIT("application/json")}};
    if (!d->aside || doing_stopped(d) != PD_OK)
        return;
    snprintf(path, sizeof(path), "%s/api/checkpoints", d->rules->base ? d->rules->base : "");
    snprintf(bearer, sizeof(bearer), "Bearer %s", d->rules->key ? d->rules->key : "");
    fields[1] = (struct http1_field){SPAN_LIT("Authorization"), span_str(bearer)};
    pd_err e = put_checkpoint(d, reason, milestone, state, &body);
    if (!e) {
        const struct asker_question q = {.method = "POST",
                                         .path = path,
                                         .fields = fields,
                                         .fields_count = d->rules->key ? 2 : 1,
                                         .body = buf_span(&body),
                                         .limit_ms = CHECKPOINT_ASK_MS,
                                         .answer_bytes = 1 << 20};
        e = asker_ask(d->aside, &q, &a);
    }
    if (e || a.status >= 300)
        LOG(NULL, LOG_WARN, "worker.checkpoint", "run=%s task=%s status=%d why=\"%s\"", d->held.run, d->held.task,
            e ? 0 : a.status, e ? pd_err_text(e) : "refused");
    if (!e)
        buf_done(&a.body);
    buf_done(&body);
}
