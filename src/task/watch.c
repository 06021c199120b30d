#include "task/watch.h"

#include "base/hash.h"
#include "base/mem.h"
#include "parse/json.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- files ------------------------------------------------------------------------------------------- */

/* A folder that is still to be read. */
struct todo {
    struct todo *next;
    unsigned depth;
    char path[];
};

/* What lies near is seen before what lies deep: a tree of libraries must not hide the sources beside it. */
struct walk {
    watch_file_fn *fn;
    void *ctx;
    struct watch_files *ret;
    struct todo *first, **last;
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

/* Without memory it is passed over. */
static void read_later(struct walk *w, const char *path, unsigned depth)
{
    size_t n = strlen(path) + 1;
    struct todo *t = depth <= WATCH_DEPTH_MAX ? mem_alloc(sizeof(*t) + n) : NULL;
    if (!t)
        return;
    *t = (struct todo){.depth = depth};
    memcpy(t->path, path, n);
    *w->last = t;
    w->last = &t->next;
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

static void take_entry(struct walk *w, int dir_fd, const char *name, const char *path, unsigned depth)
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
    read_later(w, path, depth + 1);
}

static void read_folder(struct walk *w, DIR *d, const char *path, unsigned depth)
{
    struct dirent *e;
    char below[PATH_MAX];
    while (!w->enough && (e = readdir(d))) {
        if (!is_work(e->d_name))
            continue;
        if (w->ret->seen == WATCH_FILES_MAX) {
            w->ret->cut = w->enough = true;
            break;
        }
        int n = snprintf(below, sizeof(below), "%s%s%s", path, *path ? "/" : "", e->d_name);
        if ((size_t)n < sizeof(below))
            take_entry(w, dirfd(d), e->d_name, below, depth);
    }
}

static void open_folder(struct walk *w, int root_fd, const struct todo *t)
{
    int fd = openat(root_fd, *t->path ? t->path : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (d) {
        read_folder(w, d, t->path, t->depth);
        closedir(d);
    } else if (fd >= 0) {
        close(fd);
    }
}

void watch_files(const char *folder, watch_file_fn *fn, void *ctx, struct watch_files *ret)
{
    struct walk w = {.fn = fn, .ctx = ctx, .ret = ret, .last = &w.first};
    *ret = (struct watch_files){0};
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    read_later(&w, "", 0);
    while (w.first) {
        struct todo *t = w.first;
        if (!w.enough)
            open_folder(&w, fd, t);
        w.first = t->next;
        if (!w.first)
            w.last = &w.first;
        mem_free(t);
    }
    close(fd);
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
