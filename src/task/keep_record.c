#include "base/hash.h"
#include "parse/put.h"
#include "state/folder.h"
#include "state/snapshot.h"
#include "task/keep.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

void keep_rules_default(struct keep_rules *r)
{
    *r = (struct keep_rules){
        .checkpoint_ms = KEEP_CHECKPOINT_MS, .hang_ms = KEEP_HANG_MS, .check_ms = KEEP_CHECK_MS};
    supervise_rules_default(&r->rules);
}

/* A stall is seen to a tenth. */
uint64_t keep_measure_ms(const struct keep_rules *r)
{
    uint64_t ms = r->rules.stall_ms / 10;
    return ms < 200 ? 200 : ms > KEEP_MEASURE_MOST_MS ? KEEP_MEASURE_MOST_MS : ms;
}

uint64_t keep_command_hash(const struct keep_rules *r)
{
    uint64_t h = hash_bytes(span_str(r->folder), 1);
    for (unsigned i = 0; r->argv[i]; i++)
        h = hash_bytes(span_str(r->argv[i]), h);
    return h;
}

static bool places(const struct keep_rules *r, char folder[PATH_MAX], char name[KEEP_NAME_BYTES + 20])
{
    snprintf(name, KEEP_NAME_BYTES + 20, "supervise-%s", r->name);
    return (size_t)snprintf(folder, PATH_MAX, "%s/.perdure", r->folder) < PATH_MAX;
}

static pd_err put_record(const struct keep_record *k, struct buf *out)
{
    struct put p = put_into(out);
    put_printf(&p, "{\"starts\":%u,\"state\":\"%s\",\"began_ms\":%llu,\"command\":\"%016llx\",\"restarts_ms\":[",
               k->starts, k->state, (unsigned long long)k->began_wall_ms, (unsigned long long)k->command_hash);
    for (unsigned i = 0; i < k->restarted; i++)
        put_printf(&p, "%s%llu", i ? "," : "", (unsigned long long)k->restarted_wall_ms[i]);
    put_text(&p, "]}\n");
    return p.err;
}

pd_err keep_record_write(const struct keep_rules *r, const struct keep_record *k)
{
    char folder[PATH_MAX], name[KEEP_NAME_BYTES + 20];
    struct buf b = {0};
    if (!places(r, folder, name))
        return PD_TOOBIG;
    pd_err e = folder_make(folder);
    if (!e)
        e = put_record(k, &b);
    if (!e)
        e = snapshot_write(folder, name, buf_span(&b));
    buf_done(&b);
    return e;
}

static bool read_record(struct span text, struct keep_record *ret)
{
    struct json whole = {JSON_OBJECT, span_trim(text)}, v;
    struct json_walk w;
    int64_t starts = 0, began = 0, at;
    char hex[20];
    *ret = (struct keep_record){0};
    if (!span_starts(whole.raw, "{") || json_check(whole.raw) != PD_OK ||
        !json_i64(json_get(whole, "starts"), &starts) || !json_i64(json_get(whole, "began_ms"), &began) ||
        starts < 0 || starts > UINT_MAX || began < 0)
        return false;
    ret->starts = (unsigned)starts;
    ret->began_wall_ms = (uint64_t)began;
    snprintf(ret->state, sizeof(ret->state), "%.*s", SPAN_FMT(json_inner(json_get(whole, "state"))));
    snprintf(hex, sizeof(hex), "%.*s", SPAN_FMT(json_inner(json_get(whole, "command"))));
    char *end;
    ret->command_hash = strtoull(hex, &end, 16);
    if (end == hex || *end)
        return false;
    json_walk_init(&w, json_get(whole, "restarts_ms"));
    while (ret->restarted < SUPERVISE_RESTARTS_MAX && json_walk_next(&w, NULL, &v))
        if (json_i64(v, &at) && at >= 0)
            ret->restarted_wall_ms[ret->restarted++] = (uint64_t)at;
    return true;
}

pd_err keep_record_read(const struct keep_rules *r, struct keep_record *ret)
{
    char folder[PATH_MAX], name[KEEP_NAME_BYTES + 20];
    struct buf b = {0};
    if (!places(r, folder, name))
        return PD_TOOBIG;
    pd_err e = snapshot_read(folder, name, &b);
    if (!e && (!read_record(buf_span(&b), ret) || ret->command_hash != keep_command_hash(r)))
        e = PD_NOTFOUND;
    buf_done(&b);
    return e == PD_SYNTAX ? PD_NOTFOUND : e; /* a damaged one tells nothing */
}

void keep_record_remove(const struct keep_rules *r)
{
    char folder[PATH_MAX], name[KEEP_NAME_BYTES + 20], path[FOLDER_PATH_MAX];
    if (places(r, folder, name) && folder_path(folder, name, path) == PD_OK && unlink(path) == 0)
        (void)!folder_sync(folder);
}

void keep_record_sweep(const struct keep_rules *r)
{
    char folder[PATH_MAX], name[KEEP_NAME_BYTES + 20], checkpoint[sizeof(name) + sizeof(".checkpoint")];
    if (!places(r, folder, name))
        return;
    snapshot_sweep(folder, name);
    snprintf(checkpoint, sizeof(checkpoint), "%s.checkpoint", name);
    snapshot_sweep(folder, checkpoint);
}

pd_err keep_hold(const struct keep_rules *r, const char *what, int *ret_fd)
{
    char folder[PATH_MAX], name[KEEP_NAME_BYTES + 20], path[FOLDER_PATH_MAX];
    if (!places(r, folder, name))
        return PD_TOOBIG;
    strcat(name, what);
    pd_err e = folder_make(folder);
    if (!e)
        e = folder_path(folder, name, path);
    if (e)
        return e;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno == EMFILE || errno == ENFILE ? PD_NOFD : PD_IO;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        close(fd);
        return errno == EWOULDBLOCK ? PD_EXISTS : PD_IO;
    }
    *ret_fd = fd;
    return PD_OK;
}
