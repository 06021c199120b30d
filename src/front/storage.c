/* /api/storage: the database and the object store, and how they are. No password. */
#include "checkpoint/checkpoint.h"
#include "front/front_priv.h"
#include "parse/put.h"
#include "relay/routing.h"
#include "store/objects.h"

enum { SHOWN_BYTES = 1000 };

static bool is_off(const char *where)
{
    return strcmp(where, "off") == 0;
}

static void put_place(struct put *p, const char *kind, const char *where, const char *state, const char *why)
{
    put_printf(p, "{\"kind\":\"%s\",\"where\":", kind);
    put_json(p, span_str(where));
    put_printf(p, ",\"state\":\"%s\",\"why\":", state);
    put_json(p, span_str(why));
}

static void put_database(struct put *p, struct worker *w, const struct conf *c)
{
    char where[SHOWN_BYTES], why[DB_WHY_BYTES] = "";
    struct db *db = atomic_load(&w->gateway->db);
    struct db_stats s = {0};
    bool postgres = strstr(c->database, "://") != NULL;
    if (db)
        db_stats(db, &s);
    if (db && s.failing)
        db_trouble(db, why, sizeof(why));
    else if (!db && !is_off(c->database))
        snprintf(why, sizeof(why), "it is tried again; the log says what is wrong (database.not_open)");
    put_place(p,
              is_off(c->database) ? "off"
              : postgres          ? "postgres"
                                  : "sqlite",
              conf_database_shown(c->database, where, sizeof(where)),
              is_off(c->database) ? "off"
              : !db               ? "not_open"
              : s.failing         ? "failing"
                                  : "open",
              why);
    put_printf(p, ",\"waiting\":%u,\"jobs\":%llu,\"failed\":%llu,\"again\":%llu,\"connects\":%llu}", s.waiting,
               (unsigned long long)s.jobs, (unsigned long long)s.failed, (unsigned long long)s.again,
               (unsigned long long)s.connects);
}

/* Without the database nobody catches up with it: it is not asked then. */
static void put_objects(struct put *p, struct worker *w, const struct conf *c)
{
    char why[OBJECTS_WHY_BYTES] = "";
    struct checkpoints *k = atomic_load(&w->gateway->checkpoints);
    struct checkpoints_stats s = {0};
    bool off = is_off(c->snapshots) || is_off(c->database);
    if (k) {
        checkpoints_stats(k, &s);
        checkpoints_trouble(k, why, sizeof(why));
    }
    put_place(p,
              off                           ? "off"
              : strstr(c->snapshots, "://") ? "s3"
                                            : "folder",
              c->snapshots,
              off          ? "off"
              : !s.objects ? "not_open"
              : why[0]     ? "failing"
                           : "open",
              why);
    put_printf(p, ",\"uploads_waiting\":%llu,\"uploaded\":%llu,\"upload_failures\":%llu}",
               (unsigned long long)s.uploads_waiting, (unsigned long long)s.uploaded,
               (unsigned long long)s.upload_failures);
}

void serve_storage(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key *key)
{
    (void)at, (void)key;
    const struct conf *c = routing_conf(w->routing);
    struct buf out = {0};
    struct put p = put_into(&out);
    put_text(&p, "{\"database\":");
    put_database(&p, w, c);
    put_text(&p, ",\"objects\":");
    put_objects(&p, w, c);
    put_text(&p, "}");
    answer_json(rq, 200, &out, p.err);
}
