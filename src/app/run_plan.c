#include "app/run_plan.h"

#include "base/clock.h"
#include "store/content.h"
#include "task/checks.h"
#include "task/plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SCHEMA_FILE_MAX = 4 << 20 };

static const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void folder_of(const char *path, char out[4096])
{
    const char *slash = strrchr(path, '/');
    snprintf(out, 4096, "%.*s", slash ? (int)(slash - path + (slash == path)) : 1, slash ? path : ".");
}

struct folders {
    char plan[4096];  /* names of schemas are relative to it */
    const char *work; /* pinned files are relative to where the tasks work; NULL: here */
};

static pd_err read_schema(void *ctx, const char *path, struct arena *a, struct span *ret)
{
    struct buf text = {0};
    pd_err e = checks_read_file(((struct folders *)ctx)->plan, path, SCHEMA_FILE_MAX, &text);
    if (!e) {
        *ret = arena_span(a, buf_span(&text));
        e = ret->p || !buf_size(&text) ? PD_OK : PD_NOMEM;
    }
    buf_done(&text);
    return e;
}

static pd_err hash_pinned(void *ctx, const char *path, char ret[65])
{
    return checks_hash_file(((struct folders *)ctx)->work, path, ret);
}

static const char *why_unreadable(const char *path, pd_err e)
{
    struct stat st;
    if (e != PD_NOTFOUND && e != PD_IO)
        return e == PD_TOOBIG ? "it is larger than a plan may be" : pd_err_text(e);
    if (stat(path, &st) != 0)
        return strerror(errno);
    return S_ISDIR(st.st_mode)       ? "it is a folder: name the file"
           : access(path, R_OK) != 0 ? strerror(errno)
           : !S_ISREG(st.st_mode)    ? "it is no file"
                                     : pd_err_text(e);
}

static bool read_text(const char *path, struct buf *out)
{
    pd_err e = checks_read_file(NULL, path, PLAN_BYTES_MAX, out);
    if (e)
        fprintf(stderr, "perdure run: the plan %s cannot be read: %s\n", path, why_unreadable(path, e));
    return !e;
}

/* What the plan is, its name, and with `again` this moment. */
static pd_err make_key(struct span body, const char *name, bool again, char out[80])
{
    struct content_name plan, whole;
    char text[600];
    pd_err e = content_name_of(body, &plan);
    if (e)
        return e;
    snprintf(text, sizeof(text), "%s %.400s %llu", plan.hex, name,
             again ? (unsigned long long)clock_wall_us() : 0ULL);
    e = content_name_of(span_str(text), &whole);
    snprintf(out, 80, "run-%.60s", e ? "" : whole.hex);
    return e;
}

static void put_path(const char *name, char out[600])
{
    size_t n = (size_t)snprintf(out, 600, "/api/runs?name=");
    for (const char *p = name; *p && n + 4 < 600; p++) {
        bool plain =
            (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || strchr("-_.", *p);
        n += (size_t)snprintf(out + n, 600 - n, plain ? "%c" : "%%%02X", (unsigned char)*p);
    }
}

static pd_err read_plan(const char *path, const char *dir, struct span text, struct run_plan *ret)
{
    struct folders folders = {.work = dir};
    const struct plan_files files = {read_schema, hash_pinned, &folders};
    struct arena a;
    struct plan plan;
    char why[PLAN_WHY_BYTES] = "";
    folder_of(path, folders.plan);
    arena_init(&a, 65536, PLAN_MEMORY_MAX);
    pd_err e = plan_parse(text, file_name(path), &files, &a, &plan, why);
    if (!e)
        e = plan_put_json(&plan, &ret->body);
    if (!e)
        ret->tasks = plan.tasks_count;
    else
        fprintf(stderr, "perdure run: %s\n", why[0] ? why : pd_err_text(e));
    arena_done(&a);
    return e;
}

bool run_plan_read(const char *path, const char *name, const char *dir, bool again, struct run_plan *ret)
{
    struct buf text = {0};
    *ret = (struct run_plan){.key = ""};
    bool well = read_text(path, &text) && read_plan(path, dir, buf_span(&text), ret) == PD_OK;
    buf_done(&text);
    if (well && make_key(buf_span(&ret->body), name ? name : file_name(path), again, ret->key) != PD_OK) {
        fprintf(stderr, "perdure run: %s\n", pd_err_text(PD_NOMEM));
        well = false;
    }
    put_path(name ? name : file_name(path), ret->path);
    return well;
}

void run_plan_done(struct run_plan *p)
{
    buf_done(&p->body);
}
