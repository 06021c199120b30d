/* Where an agent is, as far as it can be seen from outside: which files it changed, and what they are now. */
#include "base/log.h"
#include "base/mem.h"
#include "checkpoint/checkpoint.h"
#include "net/asker.h"
#include "parse/put.h"
#include "parse/url.h"
#include "state/folder.h"
#include "state/snapshot.h"
#include "store/content.h"
#include "task/keep.h"
#include "task/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

enum { HASHED_MAX = 64 << 20, NAME_ROOM = KEEP_NAME_BYTES + 40, TASK_SHOWN = 300 };

/* ---- changed files --------------------------------------------------------------------------------- */

struct changed {
    char *path;
    int64_t bytes;
    uint64_t mtime_ms;
};
struct changes {
    struct changed files[KEEP_FILES_MAX];
    unsigned count, all;
    uint64_t since_ms;
    pd_err err;
};

static uint64_t mtime_of(const struct stat *st)
{
    return (uint64_t)st->st_mtim.tv_sec * 1000 + (uint64_t)st->st_mtim.tv_nsec / 1000000;
}

/* The newest are kept. */
static bool take(void *ctx, const char *path, const struct stat *st)
{
    struct changes *c = ctx;
    uint64_t at = mtime_of(st);
    unsigned place = 0;
    if (at < c->since_ms)
        return true;
    c->all++;
    if (c->count < KEEP_FILES_MAX) {
        place = c->count++;
    } else {
        for (unsigned i = 1; i < c->count; i++)
            if (c->files[i].mtime_ms < c->files[place].mtime_ms)
                place = i;
        if (c->files[place].mtime_ms >= at)
            return true;
        mem_free(c->files[place].path);
    }
    c->files[place] = (struct changed){mem_strdup(path), (int64_t)st->st_size, at};
    if (!c->files[place].path)
        c->err = PD_NOMEM;
    return !c->err;
}

static void changes_free(struct changes *c)
{
    for (unsigned i = 0; c && i < c->count; i++)
        mem_free(c->files[i].path);
    mem_free(c);
}

static bool hash_file(const char *folder, const char *name, struct content_name *ret)
{
    char path[PATH_MAX];
    struct buf b = {.limit_bytes = KEEP_HASH_MAX + 65536};
    ssize_t n = -1;
    if ((size_t)snprintf(path, sizeof(path), "%s/%s", folder, name) >= sizeof(path))
        return false;
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    while (fd >= 0 && buf_reserve(&b, 65536) == PD_OK && (n = read(fd, b.p + b.tail, 65536)) > 0)
        buf_added(&b, (size_t)n);
    if (fd >= 0)
        close(fd);
    bool fine = n == 0 && content_name_of(buf_span(&b), ret) == PD_OK;
    buf_done(&b);
    return fine;
}

static void put_files(const struct keep_rules *r, const struct changes *c, struct put *p)
{
    int64_t left = HASHED_MAX;
    struct content_name name;
    put_printf(p, "{\"files_changed\":%u,\"files\":[", c->all);
    for (unsigned i = 0; i < c->count; i++) {
        const struct changed *f = &c->files[i];
        put_text(p, i ? ",{\"path\":" : "{\"path\":");
        put_json(p, span_str(f->path));
        put_printf(p, ",\"bytes\":%lld,\"mtime_ms\":%llu", (long long)f->bytes, (unsigned long long)f->mtime_ms);
        if (f->bytes <= KEEP_HASH_MAX && f->bytes <= left && hash_file(r->folder, f->path, &name)) {
            put_printf(p, ",\"sha256\":\"%s\"", name.hex);
            left -= f->bytes;
        }
        put_text(p, "}");
    }
    put_text(p, "]}");
}

/* ---- the document ------------------------------------------------------------------------------------- */

static void put_task(const struct keep_rules *r, struct put *p)
{
    char text[TASK_SHOWN];
    size_t n = 0;
    for (unsigned i = 0; r->argv[i] && n < sizeof(text) - 1; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s", i ? " " : "", r->argv[i]);
    put_json(p, r->task ? span_str(r->task) : span_upto(span_str(text), sizeof(text) - 1));
}

static pd_err put_document(const struct keep_rules *r, const struct keep_record *k, const char *reason,
                           const char *milestone, struct buf *out)
{
    struct watch_files seen;
    struct put p = put_into(out);
    struct changes *c = mem_zalloc(sizeof(*c));
    if (!c)
        return PD_NOMEM;
    c->since_ms = k->began_wall_ms;
    watch_files(r->folder, take, c, &seen);
    put_text(&p, "{\"agent_id\":");
    put_json(&p, span_str(r->name));
    put_text(&p, ",\"task\":");
    put_task(r, &p);
    put_printf(&p, ",\"reason\":\"%s\"", reason);
    if (milestone) {
        put_text(&p, ",\"milestone\":");
        put_json(&p, span_str(milestone));
    }
    put_printf(&p, ",\"progress\":{\"starts\":%u,\"state\":\"%s\",\"files_changed\":%u},\"state\":", k->starts,
               k->state, c->all);
    put_files(r, c, &p);
    put_text(&p, "}");
    pd_err e = c->err ? c->err : p.err;
    changes_free(c);
    return e;
}

static pd_err ask_gateway(const struct keep_rules *r, struct asker *a, const char *method, const char *path,
                          struct span body, struct asker_answer *ret)
{
    char whole[600], bearer[600];
    struct http1_field fields[2] = {{SPAN_LIT("Content-Type"), SPAN_LIT("application/json")}};
    snprintf(whole, sizeof(whole), "%s%s", r->base ? r->base : "", path);
    snprintf(bearer, sizeof(bearer), "Bearer %s", r->key ? r->key : "");
    fields[1] = (struct http1_field){SPAN_LIT("Authorization"), span_str(bearer)};
    const struct asker_question q = {.method = method,
                                     .path = whole,
                                     .fields = fields,
                                     .fields_count = r->key ? 2 : 1,
                                     .body = body,
                                     .limit_ms = KEEP_ASK_MS,
                                     .answer_bytes = 1 << 20};
    *ret = (struct asker_answer){0};
    return asker_ask(a, &q, ret);
}

/* Beside the agent's own work: one that cannot be made stops nothing. */
void keep_checkpoint(const struct keep_rules *r, struct asker *a, const struct keep_record *k, const char *reason,
                     const char *milestone)
{
    char folder[PATH_MAX], name[NAME_ROOM];
    struct buf doc = {0};
    struct asker_answer answer = {0};
    snprintf(name, sizeof(name), "supervise-%s.checkpoint", r->name);
    pd_err e = put_document(r, k, reason, milestone, &doc);
    bool kept = !e && (size_t)snprintf(folder, sizeof(folder), "%s/.perdure", r->folder) < sizeof(folder) &&
                snapshot_write(folder, name, buf_span(&doc)) == PD_OK;
    if (!e && a && ask_gateway(r, a, "POST", "/api/checkpoints", buf_span(&doc), &answer))
        answer.status = 0; /* it was not told */
    LOG(NULL, kept ? LOG_INFO : LOG_WARN, "supervise.checkpoint", "agent=%s reason=%s kept=%d status=%d", r->name,
        reason, kept, answer.status);
    buf_done(&answer.body);
    buf_done(&doc);
}

/* ---- going on ------------------------------------------------------------------------------------------- */

static bool resume_of_gateway(const struct keep_rules *r, struct asker *a, struct buf *out)
{
    char path[300];
    struct asker_answer answer = {0};
    snprintf(path, sizeof(path), "/api/checkpoints/latest/resume?agent=%s", r->name); /* a name needs no escape */
    bool found = a && ask_gateway(r, a, "GET", path, SPAN_NONE, &answer) == PD_OK && answer.status == 200 &&
                 buf_add(out, buf_span(&answer.body)) == PD_OK;
    buf_done(&answer.body);
    return found;
}

static bool resume_of_ours(const struct keep_rules *r, struct buf *out)
{
    char folder[PATH_MAX], name[NAME_ROOM];
    struct buf doc = {0};
    snprintf(name, sizeof(name), "supervise-%s.checkpoint", r->name);
    bool found = (size_t)snprintf(folder, sizeof(folder), "%s/.perdure", r->folder) < sizeof(folder) &&
                 snapshot_read(folder, name, &doc) == PD_OK &&
                 checkpoint_resume_text(buf_span(&doc), out) == PD_OK;
    buf_done(&doc);
    return found;
}

static pd_err write_text(const char *path, struct span text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return PD_IO;
    while (text.n) {
        ssize_t n = write(fd, text.p, text.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        text = span_from(text, (size_t)n);
    }
    return close(fd) == 0 && !text.n ? PD_OK : PD_IO;
}

pd_err keep_resume(const struct keep_rules *r, struct asker *a, const char *why, struct buf *out, char *ret_path,
                   size_t path_bytes)
{
    struct buf text = {.limit_bytes = 4 << 20};
    pd_err e = PD_OK;
    if (!resume_of_gateway(r, a, &text)) {
        buf_clear(&text);
        if (!resume_of_ours(r, &text)) {
            buf_clear(&text);
            e = buf_puts(&text, "This work was begun earlier and is to be gone on with, not begun again.\n");
        }
    }
    if (!e)
        e = buf_add(out, span_upto(buf_span(&text), KEEP_RESUME_MAX - 4096));
    if (!e && why[0])
        e = buf_printf(out, "It was started again since %.3000s\n", why);
    if (!e && (size_t)snprintf(ret_path, path_bytes, "%s/.perdure/supervise-%s.resume", r->folder, r->name) >=
                  path_bytes)
        e = PD_TOOBIG;
    if (!e)
        e = write_text(ret_path, buf_span(out));
    buf_done(&text);
    return e;
}
