/* Where what must last is kept: the database, and the object store of checkpoints. */
#include "conf/conf_priv.h"
#include "parse/object_name.h"

#include <stdio.h>

#define AGENT_DEFAULT "default-agent"

static bool is_postgres(struct span s)
{
    return span_starts(s, "postgres://") || span_starts(s, "postgresql://");
}

static bool is_off(const char *s)
{
    return strcmp(s, "off") == 0;
}

/* A file in the state folder, unless there is none. */
static const char *beside_state(struct conf_reader *r, const char *name)
{
    char path[4200];
    if (is_off(r->c->state))
        return "off";
    size_t n = strlen(r->c->state);
    bool slash = n && r->c->state[n - 1] == '/';
    if ((size_t)snprintf(path, sizeof(path), "%s%s%s", r->c->state, slash ? "" : "/", name) >= sizeof(path))
        return "off";
    return conf_copy(r, span_str(path));
}

static void read_database(struct conf_reader *r, const struct node *n)
{
    struct conf_value v;
    if (!conf_text(r, n, "database", &v))
        return;
    if (v.text.n == 0 || (span_has(v.text, "://") && !is_postgres(v.text))) {
        conf_error(
            r, n->line,
            "database is to be postgres://USER@HOST/NAME, the path of a SQLite file, or off; without it a file "
            "in the state folder is taken");
        return;
    }
    r->c->database = conf_copy(r, v.text);
    r->c->database_said = true;
}

/* Other programs read this variable too: what is no PostgreSQL is meant for them. */
static void database_variable(struct conf_reader *r)
{
    struct span text = span_str(conf_env(r, "DATABASE_URL"));
    if (text.n == 0)
        return;
    if (!is_postgres(text)) {
        conf_warn(r, 0,
                  "DATABASE_URL is no postgres:// address: it is not used; name another database with database:");
        return;
    }
    r->c->database = conf_copy(r, text);
    r->c->database_said = true;
}

static void read_snapshots(struct conf_reader *r, const struct node *n)
{
    struct conf_value v;
    if (!conf_text(r, n, "snapshots", &v))
        return;
    struct span bucket, prefix;
    char why[PLACE_WHY_BYTES];
    bool s3 = span_starts(v.text, "s3://");
    if (v.text.n == 0 || (span_has(v.text, "://") && !s3) || (s3 && v.text.n == strlen("s3://")))
        conf_error(r, n->line,
                   "snapshots is to be s3://BUCKET/PREFIX, a folder, or off; without it one in the state folder "
                   "is taken");
    else if (s3 && !bucket_place(v.text, &bucket, &prefix, why))
        conf_error(r, n->line, "snapshots: %s", why);
    else
        r->c->snapshots = conf_copy(r, v.text);
}

/* "llm-checkpoints", as in the guide; with a prefix; or s3:// and all. */
static void bucket_variable(struct conf_reader *r)
{
    char where[600], why[PLACE_WHY_BYTES];
    struct span bucket, prefix;
    struct span text = span_str(conf_env(r, "CHECKPOINT_BUCKET"));
    if (text.n == 0)
        return;
    if (text.n > 500 || (span_has(text, "://") && !span_starts(text, "s3://"))) {
        conf_error(r, 0, "CHECKPOINT_BUCKET is to be the name of an S3 bucket, as in llm-checkpoints");
        return;
    }
    if (!bucket_place(text, &bucket, &prefix, why)) {
        conf_error(r, 0, "CHECKPOINT_BUCKET: %s", why);
        return;
    }
    snprintf(where, sizeof(where), "%s%.*s", span_starts(text, "s3://") ? "" : "s3://", SPAN_FMT(text));
    r->c->snapshots = conf_copy(r, span_str(where));
}

static bool agent_fine(struct span s)
{
    if (s.n == 0 || s.n > CONF_AGENT_MAX || s.p[0] == '.')
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-_.:", c)))
            return false;
    }
    return true;
}

static void agent_variable(struct conf_reader *r)
{
    struct span text = span_str(conf_env(r, "AGENT_ID"));
    if (text.n == 0)
        return;
    if (agent_fine(text))
        r->c->agent = conf_copy(r, text);
    else
        conf_error(r, 0, "AGENT_ID is \"%.*s\": write up to %d letters, digits, '-', '_', '.' and ':'",
                   SPAN_FMT(span_upto(text, 60)), CONF_AGENT_MAX);
}

void conf_read_store(struct conf_reader *r, const struct node *database, const struct node *snapshots)
{
    struct conf *c = r->c;
    c->agent = AGENT_DEFAULT;
    if (database)
        read_database(r, database);
    else
        database_variable(r);
    if (snapshots)
        read_snapshots(r, snapshots);
    else
        bucket_variable(r);
    agent_variable(r);
    if (!r->interval_said)
        conf_seconds(r, "CHECKPOINT_INTERVAL", "checkpoint_interval",
                     "the seconds between checkpoints, as in 300");
    if (!c->database)
        c->database = beside_state(r, "perdure.db");
    if (!c->snapshots)
        c->snapshots = beside_state(r, "snapshots");
}

const char *conf_database_shown(const char *database, char *out, size_t out_bytes)
{
    struct span s = span_str(database);
    const char *at = is_postgres(s) ? strchr(database, '@') : NULL;
    const char *user = at ? strstr(database, "://") + 3 : NULL;
    const char *colon = user ? memchr(user, ':', (size_t)(at - user)) : NULL;
    /* A password may also stand behind the '?', where other options of the connection do. */
    const char *end = is_postgres(s) ? strchr(database, '?') : NULL;
    int n = (int)(end ? (size_t)(end - database) : s.n);
    if (colon && colon < at)
        snprintf(out, out_bytes, "%.*s%.*s", (int)(colon - database), database, n - (int)(at - database), at);
    else
        snprintf(out, out_bytes, "%.*s", n, database);
    return out;
}
