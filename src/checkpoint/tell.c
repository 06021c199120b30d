/* A document for a reader: an agent that is to go on from it, or a person who wants to know what changed. */
#include "base/arena.h"
#include "checkpoint/checkpoint.h"
#include "parse/put.h"

#include <stdio.h>

enum {
    STATE_SHOWN = 16 * 1024, /* of the state in a text for an agent */
    VALUE_SHOWN = 160,
    DIFF_LINES = 2000,
    DIFF_DEPTH = 24,
    LAST_MESSAGES = 4,
    MESSAGE_SHOWN = 2000,
    PATH_MAX_BYTES = 400,
};

/* ---- going on --------------------------------------------------------------------------------- */

static void put_plain(struct put *p, struct json v)
{
    struct arena a;
    struct span s;
    arena_init(&a, 1024, 0); /* of one value */
    if (v.type == JSON_STRING && json_text(v, &a, &s) == PD_OK)
        put_span(p, s);
    else
        put_one_line(p, v.raw);
    arena_done(&a);
}

static bool is_given(struct json v)
{
    return v.type != JSON_NONE && v.type != JSON_NULL && !span_is(v.raw, "\"\"") && !span_is(v.raw, "{}") &&
           !span_is(v.raw, "[]");
}

static void put_line(struct put *p, struct json doc, const char *member, const char *before)
{
    struct json v = json_get(doc, member);
    if (!is_given(v))
        return;
    put_text(p, before);
    put_plain(p, v);
    put_text(p, "\n");
}

static void put_cut(struct put *p, struct json v, size_t most)
{
    put_span(p, span_upto(v.raw, most));
    if (v.raw.n > most)
        put_printf(p, " ... (%zu bytes in all)", v.raw.n);
}

static void put_files(struct put *p, struct json files)
{
    struct json_walk w;
    struct json f;
    if (!is_given(files))
        return;
    put_text(p, "Open files:\n");
    json_walk_init(&w, files);
    while (json_walk_next(&w, NULL, &f)) {
        struct json path = json_get(f, "path"), cursor = json_get(f, "cursor");
        put_text(p, "- ");
        put_plain(p, path.type == JSON_STRING ? path : f);
        if (is_given(cursor)) {
            put_text(p, ", cursor at ");
            put_plain(p, cursor);
        }
        put_text(p, "\n");
    }
}

static void put_last_messages(struct put *p, struct json doc)
{
    struct json list = json_get(doc, "messages"), v;
    struct json_walk w;
    size_t count = 0, at = 0;
    if (list.type != JSON_ARRAY)
        return;
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &v))
        count++;
    put_printf(p, "The conversation has %zu message%s; the last of them:\n", count, count == 1 ? "" : "s");
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &v))
        if (++at + LAST_MESSAGES > count) {
            put_cut(p, v, MESSAGE_SHOWN);
            put_text(p, "\n");
        }
    struct json answer = json_get(doc, "answer");
    if (answer.type == JSON_OBJECT) {
        put_text(p, "It was answered with:\n");
        put_cut(p, answer, MESSAGE_SHOWN);
        put_text(p, "\n");
    }
}

pd_err checkpoint_resume_text(struct span document, struct buf *out)
{
    struct json doc = {JSON_OBJECT, span_trim(document)};
    if (!span_starts(doc.raw, "{") || json_check(doc.raw))
        return PD_INVALID;
    struct put p = put_into(out);
    put_text(&p, "This work was begun earlier and is to be gone on with, not begun again.\n");
    put_line(&p, doc, "agent_id", "Agent: ");
    put_line(&p, doc, "checkpoint_id", "Checkpoint: ");
    put_line(&p, doc, "timestamp", "Made: ");
    put_line(&p, doc, "task", "Task: ");
    put_line(&p, doc, "step_index", "Steps done up to: ");
    put_line(&p, doc, "milestone", "Milestone reached: ");
    put_line(&p, doc, "progress", "Progress: ");
    put_line(&p, doc, "output_hash", "SHA-256 of the last good output: ");
    put_files(&p, json_get(doc, "open_files"));
    put_line(&p, doc, "memory", "Memory (ids, to be looked up): ");
    put_line(&p, doc, "token_usage", "Tokens used so far: ");
    if (is_given(json_get(doc, "state"))) {
        put_text(&p, "State:\n");
        put_cut(&p, json_get(doc, "state"), STATE_SHOWN);
        put_text(&p, "\n");
    }
    put_last_messages(&p, doc);
    struct json reason = json_get(doc, "reason");
    if (json_is(reason, "before_risky"))
        put_text(&p, "A risky operation was about to begin, and nothing says that it ended: find out what of it "
                     "was done before "
                     "doing it again.\n");
    put_text(&p, "What was done after this checkpoint is not in it: look at the files and at the last results "
                 "before going on. "
                 "Then go on with the next open step.\n");
    return p.err;
}

/* ---- differences ---------------------------------------------------------------------------------- */

struct diff {
    struct put p;
    unsigned lines;
    char path[PATH_MAX_BYTES];
};

static void line(struct diff *d, const char *sign, struct json older, struct json newer)
{
    if (d->lines++ >= DIFF_LINES)
        return;
    if (d->lines == DIFF_LINES) {
        put_text(&d->p, "... and more\n");
        return;
    }
    put_printf(&d->p, "%s %s: ", sign, *d->path ? d->path : "(all)");
    if (older.type != JSON_NONE) {
        put_one_line(&d->p, span_upto(older.raw, VALUE_SHOWN));
        put_text(&d->p, older.raw.n > VALUE_SHOWN ? "..." : "");
    }
    if (older.type != JSON_NONE && newer.type != JSON_NONE)
        put_text(&d->p, " -> ");
    if (newer.type != JSON_NONE) {
        put_one_line(&d->p, span_upto(newer.raw, VALUE_SHOWN));
        put_text(&d->p, newer.raw.n > VALUE_SHOWN ? "..." : "");
    }
    put_text(&d->p, "\n");
}

static void differ(struct diff *d, struct json older, struct json newer, unsigned depth);

static size_t deeper(struct diff *d, struct span key, size_t index)
{
    size_t n = strlen(d->path);
    if (key.p)
        snprintf(d->path + n, sizeof(d->path) - n, "%s%.*s", n ? "." : "", SPAN_FMT(span_upto(key, 100)));
    else
        snprintf(d->path + n, sizeof(d->path) - n, "[%zu]", index);
    return n;
}

/* Raw keys: the same program writes both. */
static struct json member(struct json object, struct span key)
{
    struct json_walk w;
    struct json v, found = {JSON_NONE, SPAN_NONE};
    struct span k;
    json_walk_init(&w, object);
    while (json_walk_next(&w, &k, &v))
        if (span_eq(k, key))
            found = v;
    return found;
}

static void differ_objects(struct diff *d, struct json older, struct json newer, unsigned depth)
{
    static const char *const own[] = {"checkpoint_id", "timestamp", "messages_sha256", "messages_count", "parent"};
    static const struct json none = {JSON_NONE, {NULL, 0}};
    struct json_walk w;
    struct json v;
    struct span key;
    for (int turn = 0; turn < 2; turn++) {
        json_walk_init(&w, turn ? newer : older);
        while (json_walk_next(&w, &key, &v)) {
            struct json other = member(turn ? older : newer, key);
            bool skip = turn && other.type != JSON_NONE;
            for (size_t i = 0; i < sizeof(own) / sizeof(own[0]) && !depth; i++)
                skip |= span_is(key, own[i]);
            if (skip)
                continue;
            size_t n = deeper(d, key, 0);
            if (turn)
                line(d, "+", none, v);
            else if (other.type == JSON_NONE)
                line(d, "-", v, none);
            else
                differ(d, v, other, depth + 1);
            d->path[n] = '\0';
        }
    }
}

static void differ_arrays(struct diff *d, struct json older, struct json newer, unsigned depth)
{
    static const struct json none = {JSON_NONE, {NULL, 0}};
    struct json_walk a, b;
    struct json x, y;
    json_walk_init(&a, older);
    json_walk_init(&b, newer);
    for (size_t i = 0;; i++) {
        bool more_a = json_walk_next(&a, NULL, &x), more_b = json_walk_next(&b, NULL, &y);
        if (!more_a && !more_b)
            return;
        size_t n = deeper(d, SPAN_NONE, i);
        if (more_a && more_b)
            differ(d, x, y, depth + 1);
        else
            line(d, more_a ? "-" : "+", more_a ? x : none, more_b ? y : none);
        d->path[n] = '\0';
    }
}

static void differ(struct diff *d, struct json older, struct json newer, unsigned depth)
{
    if (span_eq(older.raw, newer.raw))
        return;
    if (depth < DIFF_DEPTH && older.type == JSON_OBJECT && newer.type == JSON_OBJECT)
        differ_objects(d, older, newer, depth);
    else if (depth < DIFF_DEPTH && older.type == JSON_ARRAY && newer.type == JSON_ARRAY)
        differ_arrays(d, older, newer, depth);
    else
        line(d, "~", older, newer);
}

pd_err checkpoint_diff(struct span older, struct span newer, struct buf *out)
{
    struct json a = {JSON_OBJECT, span_trim(older)}, b = {JSON_OBJECT, span_trim(newer)};
    struct diff d = {.p = put_into(out)};
    if (!span_starts(a.raw, "{") || !span_starts(b.raw, "{") || json_check(a.raw) || json_check(b.raw))
        return PD_INVALID;
    differ(&d, a, b, 0);
    return d.p.err;
}
