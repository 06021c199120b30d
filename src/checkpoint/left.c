#include "checkpoint/left.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "parse/json.h"
#include "parse/put.h"
#include "state/folder.h"
#include "state/snapshot.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SUFFIX ".turn"

/* ---- written ------------------------------------------------------------------------------- */

static void put_value(struct put *p, const char *name, struct span json)
{
    if (json.n)
        put_printf(p, ",\"%s\":%.*s", name, SPAN_FMT(json));
}

static void put_string(struct put *p, const char *name, struct span text)
{
    put_printf(p, ",\"%s\":", name);
    put_json(p, text);
}

pd_err left_write(const char *folder, const struct made *m)
{
    struct buf text = {.limit_bytes = SNAPSHOT_MAX};
    struct put p = put_into(&text);
    char name[CHECKPOINT_ID_BYTES + 40];
    put_text(&p, "{\"agent\":");
    put_json(&p, m->cp.agent);
    put_string(&p, "task", m->cp.task);
    put_string(&p, "provider", m->cp.provider);
    put_value(&p, "token_usage", m->cp.token_usage);
    put_value(&p, "conversation", m->cp.conversation);
    put_text(&p, ",\"messages\":[");
    for (size_t i = 0; i < m->cp.messages_count; i++) {
        put_text(&p, i ? "," : "");
        put_span(&p, m->cp.messages[i]);
    }
    put_text(&p, "]}");
    /* in the order of their names */
    snprintf(name, sizeof(name), "%020llu-%s" SUFFIX, (unsigned long long)clock_mono_us(), m->id);
    for (char *c = name; *c; c++)
        *c = *c == ':' ? '-' : *c;
    pd_err e = p.err ? p.err : folder_make(folder);
    if (!e)
        e = snapshot_write(folder, name, buf_span(&text));
    buf_done(&text);
    return e;
}

/* ---- read ---------------------------------------------------------------------------------- */

static pd_err take_messages(struct json list, struct span **ret, size_t *ret_count)
{
    struct json_walk w;
    struct json v;
    size_t n = 0, room = 0;
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &v)) {
        if (n == room) {
            room = room ? 2 * room : 64;
            void *more = mem_realloc(*ret, room * sizeof(**ret));
            if (!more)
                return PD_NOMEM;
            *ret = more;
        }
        (*ret)[n++] = v.raw;
    }
    *ret_count = n;
    return w.err ? PD_INVALID : PD_OK;
}

static pd_err make_one(struct checkpoints *c, struct span text)
{
    struct json doc = {JSON_OBJECT, text};
    struct arena arena;
    struct span *messages = NULL;
    char id[CHECKPOINT_ID_BYTES], why[CHECKPOINT_WHY_BYTES];
    struct checkpoint cp = {.step_index = -1,
                            .reason = SPAN_LIT("turn"),
                            .token_usage = json_get(doc, "token_usage").raw,
                            .conversation = json_get(doc, "conversation").raw};
    arena_init(&arena, 1024, 0);
    pd_err e = json_check(text) ? PD_INVALID : json_text(json_get(doc, "agent"), &arena, &cp.agent);
    if (!e)
        e = json_text(json_get(doc, "task"), &arena, &cp.task);
    if (!e)
        e = json_text(json_get(doc, "provider"), &arena, &cp.provider);
    if (!e)
        e = take_messages(json_get(doc, "messages"), &messages, &cp.messages_count);
    cp.messages = messages;
    if (!e)
        e = checkpoint_create(c, &cp, id, why, sizeof(why));
    mem_free(messages);
    arena_done(&arena);
    return e;
}

static int turns_alone(const struct dirent *d)
{
    return d->d_name[0] != '.' && span_ends(span_str(d->d_name), SUFFIX);
}

static bool read_one(struct checkpoints *c, const char *folder, const char *name)
{
    char path[FOLDER_PATH_MAX];
    struct buf text = {.limit_bytes = SNAPSHOT_MAX};
    pd_err e = folder_path(folder, name, path);
    if (!e)
        e = snapshot_read(folder, name, &text);
    bool damaged = e == PD_SYNTAX;
    if (!e)
        e = make_one(c, buf_span(&text));
    damaged |= e == PD_INVALID;
    buf_done(&text);
    if (damaged)
        LOG(NULL, LOG_WARN, "turn.not_kept", "file=%s why=%s remedy=\"the file is deleted: it is damaged\"", name,
            pd_err_name(e));
    if (!e || damaged)
        (void)unlink(path);
    return !e;
}

unsigned left_read(struct checkpoints *c, const char *folder)
{
    struct dirent **list = NULL;
    unsigned made = 0;
    int n = scandir(folder, &list, turns_alone, alphasort);
    for (int i = 0; i < n; i++) {
        made += read_one(c, folder, list[i]->d_name);
        free(list[i]); /* scandir's own */
    }
    free(list);
    return made;
}
