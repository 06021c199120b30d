#include "task/watch.h"

#include "base/hash.h"
#include "parse/json.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- files ------------------------------------------------------------------------------------------- */

struct walk {
    watch_file_fn *fn;
    void *ctx;
    struct watch_files *ret;
    bool enough;
};

static bool is_work(const char *name)
{
    static const char *const not_work[] = {".", "..", ".git", ".perdure", "perdure-state"};
    for (size_t i = 0; i < sizeof(not_work) / sizeof(not_work[0]); i++)
        if (strcmp(name, not_work[i]) == 0)
            return false;
    return true;
}

/* Sums do not depend on the order in which a folder is read. */
static void take_file(struct walk *w, const char *path, const struct stat *st)
{
    const int64_t facts[] = {(int64_t)st->st_size, (int64_t)st->st_mtim.tv_sec, (int64_t)st->st_mtim.tv_nsec,
                             (int64_t)st->st_ino};
    w->ret->signature += hash_bytes(span_of((const char *)facts, sizeof(facts)), hash_bytes(span_str(path), 1));
    if (w->fn && S_ISREG(st->st_mode) && !w->fn(w->ctx, path, st))
        w->enough = true;
}

static void walk_folder(struct walk *w, int dir_fd, const char *path, unsigned depth);

static void walk_entry(struct walk *w, int dir_fd, const char *name, const char *path, unsigned depth)
{
    struct stat st;
    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return;
    w->ret->seen++;
    if (!S_ISDIR(st.st_mode)) {
        take_file(w, path, &st);
        return;
    }
    w->ret->signature += hash_bytes(span_str(path), 2);
    if (depth == WATCH_DEPTH_MAX)
        return;
    int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0)
        walk_folder(w, fd, path, depth + 1);
}

/* Takes dir_fd. */
static void walk_folder(struct walk *w, int dir_fd, const char *path, unsigned depth)
{
    DIR *d = fdopendir(dir_fd);
    struct dirent *e;
    char below[PATH_MAX];
    if (!d) {
        close(dir_fd);
        return;
    }
    while (!w->enough && (e = readdir(d))) {
        if (!is_work(e->d_name))
            continue;
        if (w->ret->seen == WATCH_FILES_MAX) {
            w->ret->cut = w->enough = true;
            break;
        }
        int n = snprintf(below, sizeof(below), "%s%s%s", path, *path ? "/" : "", e->d_name);
        if ((size_t)n < sizeof(below))
            walk_entry(w, dirfd(d), e->d_name, below, depth);
    }
    closedir(d);
}

void watch_files(const char *folder, watch_file_fn *fn, void *ctx, struct watch_files *ret)
{
    struct walk w = {.fn = fn, .ctx = ctx, .ret = ret};
    *ret = (struct watch_files){0};
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        walk_folder(&w, fd, "", 0);
}

/* ---- calls ------------------------------------------------------------------------------------------------ */

static bool is_explained(struct json state)
{
    static const char *const waits[] = {"waiting", "holding", "trying", "collecting"};
    for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++)
        if (json_is(state, waits[i]))
            return true;
    return false; /* relaying: then its bytes move, or its client does not take them */
}

static void take_call(struct json call, bool runs, struct watch_calls *ret)
{
    struct span id = json_get(call, "id").raw, bytes = json_get(call, "output_bytes").raw;
    if (ret->marks_count < WATCH_CALLS_MAX)
        ret->marks[ret->marks_count++] = hash_bytes(bytes, hash_bytes(id, runs));
    if (!runs) {
        ret->recent++;
        return;
    }
    ret->running++;
    ret->waiting += is_explained(json_get(call, "state"));
}

static bool is_looked_at(struct json call, const struct watch_whose *whose, bool *ret_own)
{
    if (whose->client)
        return *ret_own = json_is(json_get(call, "key"), whose->client);
    struct json agent = json_get(call, "agent");
    *ret_own = whose->agent && json_is(agent, whose->agent);
    return *ret_own || (!whose->only_own && !json_inner(agent).n);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

bool watch_calls_moved(const struct watch_calls *before, const struct watch_calls *now)
{
    unsigned at = 0;
    for (unsigned i = 0; i < now->marks_count; i++) {
        while (at < before->marks_count && before->marks[at] < now->marks[i])
            at++;
        if (at == before->marks_count || before->marks[at] != now->marks[i])
            return true;
    }
    return false;
}

bool watch_calls(struct span answer, const struct watch_whose *whose, struct watch_calls *ret)
{
    static const char *const lists[] = {"running", "recent"};
    struct json whole = {JSON_OBJECT, span_trim(answer)}, call;
    *ret = (struct watch_calls){0};
    if (!span_starts(whole.raw, "{") || json_check(whole.raw) != PD_OK ||
        json_get(whole, "running").type != JSON_ARRAY)
        return false;
    for (int i = 0; i < 2; i++) {
        struct json_walk w;
        json_walk_init(&w, json_get(whole, lists[i]));
        while (json_walk_next(&w, NULL, &call)) {
            bool own;
            if (!is_looked_at(call, whose, &own))
                continue;
            ret->own += own;
            take_call(call, i == 0, ret);
        }
    }
    qsort(ret->marks, ret->marks_count, sizeof(ret->marks[0]), by_value);
    return true;
}
