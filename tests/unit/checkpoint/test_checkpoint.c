/* What checkpoint.h promises: what was acknowledged comes back, from either side, proven, and what cannot be proven is passed over and said. */
#include "checkpoint/checkpoint_priv.h"

#include "base/clock.h"
#include "base/mem.h"
#include "parse/json.h"
#include "postgres.h"
#include "s3_server.h"
#include "test.h"
#include "torture.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- a world: a database and an object store, fresh for each test ---- */

static char folder[64], database[400], snapshots[400], why[OBJECTS_WHY_BYTES], id[CHECKPOINT_ID_BYTES];
static struct postgres *server;
static struct s3_server s3;
static bool has_s3, with_postgres, with_s3;
static unsigned worlds;

static const char *s3_env(void *ctx, const char *name)
{
    (void)ctx;
    return strcmp(name, "MINIO_ENDPOINT") == 0     ? s3.url
           : strcmp(name, "MINIO_ACCESS_KEY") == 0 ? s3.access
           : strcmp(name, "MINIO_SECRET_KEY") == 0 ? s3.secret
                                                   : NULL;
}

static int make(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/test_checkpoint.XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(database, sizeof(database), "%s/perdure.db", folder);
    snprintf(snapshots, sizeof(snapshots), "%s/snapshots", folder);
    worlds++;
    if (with_postgres) {
        char sql[200];
        snprintf(sql, sizeof(sql), "CREATE SCHEMA w%u", worlds);
        postgres_sql(server, sql, NULL, 0);
        snprintf(database, sizeof(database), "%s%soptions=-csearch_path%%3Dw%u", postgres_url(server),
                 strchr(postgres_url(server), '?') ? "&" : "?", worlds);
    }
    if (with_s3)
        snprintf(snapshots, sizeof(snapshots), "s3://%s/w%u", s3.bucket, worlds);
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind, (void)at;
    return remove(path);
}

static int drop(void **state)
{
    (void)state;
    return nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

struct opened {
    struct db *db;
    struct objects *objects;
    struct checkpoints *c;
    struct checkpoints_rules rules;
};

static struct objects *open_objects(const char *where)
{
    struct objects *o = NULL;
    pd_err e = objects_open(where, s3_env, NULL, &o, why, sizeof(why));
    if (e)
        fail_msg("%s: %s", pd_err_name(e), why);
    return o;
}

static struct db *open_db(void)
{
    struct db *d = NULL;
    struct db_rules r;
    db_rules_default(&r);
    pd_err e = db_open(database, &r, &d, why, sizeof(why));
    if (e)
        fail_msg("%s: %s", pd_err_name(e), why);
    return d;
}

enum { NO_DB = 1, NO_OBJECTS = 2 };

static struct opened world(int without)
{
    struct opened w = {0};
    checkpoints_rules_default(&w.rules);
    w.rules.prune_every_ms = 0;
    w.db = without & NO_DB ? NULL : open_db();
    w.objects = without & NO_OBJECTS ? NULL : open_objects(snapshots);
    assert_int_equal(checkpoints_open(w.db, w.objects, &w.rules, &w.c), PD_OK);
    return w;
}

static void end(struct opened *w)
{
    checkpoints_close(w->c);
    db_close(w->db);
    objects_close(w->objects);
}

static struct checkpoint simple(const char *agent, const char *state)
{
    return (struct checkpoint){.agent = span_str(agent), .step_index = -1, .state = span_str(state)};
}

static void create(struct opened *w, const struct checkpoint *cp)
{
    pd_err e = checkpoint_create(w->c, cp, id, why, sizeof(why));
    if (e)
        fail_msg("%s: %s", pd_err_name(e), why);
}

static struct buf out, notes;

static pd_err restore(struct opened *w, const char *agent, const char *which)
{
    buf_clear(&out);
    buf_clear(&notes);
    pd_err e = checkpoint_restore(w->c, span_str(agent), which, &out, &notes);
    assert_int_equal(buf_puts(&out, ""), PD_OK);
    if (!e)
        assert_int_equal(json_check(buf_span(&out)), PD_OK);
    return e;
}

static struct span member(const char *path)
{
    return json_path((struct json){JSON_OBJECT, buf_span(&out)}, path).raw;
}

static void restores(struct opened *w, const char *agent, const char *which, const char *state)
{
    pd_err e = restore(w, agent, which);
    if (e)
        fail_msg("%s: %.*s", pd_err_name(e), SPAN_FMT(buf_span(&notes)));
    if (!span_is(member("state"), state))
        fail_msg("state is %.*s, not %s", SPAN_FMT(span_upto(member("state"), 200)), state);
}

static bool noted(const char *text)
{
    return span_has(buf_span(&notes), text);
}

static void settle(struct opened *w)
{
    if (!checkpoints_settle(w->c, 20000)) {
        checkpoints_trouble(w->c, why, sizeof(why));
        fail_msg("not settled: %s", why);
    }
}

static pd_err run_sql(struct tx *t, void *ctx)
{
    return tx_run(t, ctx, NULL, 0, NULL, NULL);
}

static void sql(struct opened *w, const char *text)
{
    assert_int_equal(db_do(w->db, run_sql, (void *)text), PD_OK);
}

static pd_err on_int(void *ctx, const struct db_value *columns, unsigned n)
{
    (void)n;
    *(int64_t *)ctx = columns[0].n;
    return PD_OK;
}

struct asked {
    const char *sql;
    int64_t got;
};

static pd_err ask_job(struct tx *t, void *ctx)
{
    struct asked *a = ctx;
    return tx_run(t, a->sql, NULL, 0, on_int, &a->got);
}

static int64_t count_of(struct opened *w, const char *text)
{
    struct asked a = {text, -1};
    assert_int_equal(db_do(w->db, ask_job, &a), PD_OK);
    return a.got;
}

static void outbox_empties(struct opened *w)
{
    uint64_t until = clock_mono_ms() + 20000;
    while (count_of(w, "SELECT COUNT(*) FROM uploads")) {
        if (clock_mono_ms() > until)
            fail_msg("the outbox does not empty");
        usleep(1000);
    }
}

/* A text of n bytes that does not compress. */
static char *noise(size_t n, unsigned seed)
{
    static char text[3 << 20];
    assert_true(n < sizeof(text));
    uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    text[0] = '"';
    for (size_t i = 1; i + 1 < n; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        text[i] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"[x >> 58];
    }
    text[n - 1] = '"';
    text[n] = '\0';
    return text;
}

/* ---- what comes back ---- */

static void everything_given_comes_back(void **state)
{
    (void)state;
    struct opened w = world(0);
    const struct checkpoint cp = {
        .agent = SPAN_LIT("coder:1"),
        .task = SPAN_LIT("run-1/build \"all\""),
        .step_index = 7,
        .output_hash = SPAN_LIT("ab12"),
        .memory = SPAN_LIT("[\"m-1\",\"m-2\"]"),
        .open_files = SPAN_LIT("[{\"path\":\"src/a.c\",\"cursor\":{\"line\":10,\"column\":2}}]"),
        .provider = SPAN_LIT("openai"),
        .milestone = SPAN_LIT("tests pass"),
        .token_usage = SPAN_LIT("{\"input\":10,\"output\":5}"),
        .progress = SPAN_LIT("{\"done\":3,\"of\":9}"),
        .state = SPAN_LIT("{\"files\":[1,2,3],\"name\":\"\\u00e9\"}"),
        .reason = SPAN_LIT("milestone"),
    };
    create(&w, &cp);
    static const char *const rows[][2] = {
        {"agent_id", "\"coder:1\""},
        {"task", "\"run-1/build \\\"all\\\"\""},
        {"step_index", "7"},
        {"output_hash", "\"ab12\""},
        {"memory", "[\"m-1\",\"m-2\"]"},
        {"open_files.0.cursor.line", "10"},
        {"provider", "\"openai\""},
        {"milestone", "\"tests pass\""},
        {"token_usage", "{\"input\":10,\"output\":5}"},
        {"progress", "{\"done\":3,\"of\":9}"},
        {"state", "{\"files\":[1,2,3],\"name\":\"\\u00e9\"}"},
        {"reason", "\"milestone\""},
    };
    for (int from = 0; from < 3; from++) {
        if (from == 1) {
            settle(&w);
            end(&w);
            w = world(NO_OBJECTS);
        } else if (from == 2) {
            end(&w);
            w = world(NO_DB);
        }
        for (int by_id = 0; by_id < 2; by_id++) {
            assert_int_equal(restore(&w, by_id ? "" : "coder:1", by_id ? id : NULL), PD_OK);
            for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
                if (!span_is(member(rows[i][0]), rows[i][1]))
                    fail_msg("%d: %s is %.*s", from, rows[i][0], SPAN_FMT(member(rows[i][0])));
            assert_true(span_eq(json_inner((struct json){JSON_STRING, member("checkpoint_id")}), span_str(id)));
            assert_int_equal(buf_size(&notes) != 0, from == 2);
        }
    }
    end(&w);
}

static void the_newest_is_restored_whatever_the_clock_says(void **state)
{
    (void)state;
    struct opened w = world(NO_OBJECTS);
    for (int i = 0; i < 5; i++) {
        char text[20];
        snprintf(text, sizeof(text), "%d", i);
        struct checkpoint cp = simple("a", text);
        create(&w, &cp);
    }
    struct checkpoint cp = simple("b", "\"other\"");
    create(&w, &cp);
    sql(&w, "UPDATE checkpoints SET made_ms = 1000 - seq"); /* the clock ran backwards */
    restores(&w, "a", NULL, "4");
    restores(&w, "b", NULL, "\"other\"");
    assert_int_equal(restore(&w, "c", NULL), PD_NOTFOUND);
    assert_int_equal(restore(&w, "", "a_1700000000000_00000000"), PD_NOTFOUND);
    assert_int_equal(restore(&w, "", "../../etc/passwd"), PD_NOTFOUND);
    end(&w);
}

static void what_cannot_be_a_checkpoint_is_refused_with_its_member(void **state)
{
    (void)state;
    struct opened w = world(NO_OBJECTS);
    char long_text[CHECKPOINT_TEXT_MAX + 2];
    memset(long_text, 'x', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = '\0';
    const struct span empty_message = SPAN_NONE, bad_message = SPAN_LIT("{");
    const struct {
        struct checkpoint cp;
        const char *says;
    } rows[] = {
        {{.agent = SPAN_LIT("a/b"), .step_index = -1}, "agent_id"},
        {{.agent = SPAN_LIT(".."), .step_index = -1}, "agent_id"},
        {{.agent = SPAN_NONE, .step_index = -1}, "agent_id"},
        {{.agent = SPAN_LIT("a"), .state = SPAN_LIT("{"), .step_index = -1}, "state"},
        {{.agent = SPAN_LIT("a"), .state = SPAN_LIT("1,\"x\":2"), .step_index = -1}, "state"},
        {{.agent = SPAN_LIT("a"), .progress = SPAN_LIT("x"), .step_index = -1}, "progress"},
        {{.agent = SPAN_LIT("a"), .state = SPAN_LIT("\"\xff\""), .step_index = -1}, "state"},
        {{.agent = SPAN_LIT("a"), .milestone = SPAN_LIT("\xff"), .step_index = -1}, "milestone"},
        {{.agent = SPAN_LIT("a"), .task = span_str(long_text), .step_index = -1}, "task"},
        {{.agent = SPAN_LIT("a"), .task = SPAN_LIT("a\0b"), .step_index = -1}, "task is to be a text"},
        {{.agent = SPAN_LIT("a"), .parent = SPAN_LIT("\0"), .step_index = -1}, "parent is to be a text"},
        {{.agent = SPAN_LIT("a"), .messages = &empty_message, .messages_count = 1, .step_index = -1}, "messages"},
        {{.agent = SPAN_LIT("a"), .messages = &bad_message, .messages_count = 1, .step_index = -1}, "messages"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(checkpoint_create(w.c, &rows[i].cp, id, why, sizeof(why)), PD_INVALID);
        if (!strstr(why, rows[i].says))
            fail_msg("%zu: %s", i, why);
    }
    struct checkpoints_stats s;
    checkpoints_stats(w.c, &s);
    assert_int_equal(s.failed, sizeof(rows) / sizeof(rows[0]));
    assert_int_equal(s.created, 0);
    assert_int_equal(count_of(&w, "SELECT COUNT(*) FROM checkpoints"), 0);
    end(&w);
}

static void a_large_state_stands_beside_its_row(void **state)
{
    (void)state;
    struct opened w = world(0);
    struct checkpoint cp = simple("big", noise(1 << 20, 1));
    create(&w, &cp);
    assert_int_equal(count_of(&w, "SELECT COUNT(*) FROM checkpoints WHERE document IS NULL AND state IS NULL"), 1);
    restores(&w, "big", NULL, noise(1 << 20, 1));
    settle(&w);
    end(&w);
    w = world(NO_DB);
    restores(&w, "big", NULL, noise(1 << 20, 1));
    end(&w);
}

/* ---- either side alone, and damage ---- */

static void a_lost_database_is_found_again_in_the_object_store(void **state)
{
    (void)state;
    struct opened w = world(0);
    struct checkpoint cp;
    for (int i = 0; i < 3; i++) {
        char text[20];
        snprintf(text, sizeof(text), "%d", i);
        cp = simple("a", text);
        create(&w, &cp);
    }
    settle(&w);
    sql(&w, "DELETE FROM checkpoints");
    sql(&w, "DELETE FROM checkpoint_agents");
    sql(&w, "DELETE FROM blobs");
    restores(&w, "a", NULL, "2");
    assert_true(noted("the object store is asked"));
    /* and the new one's checkpoints are newer than what the lost one left, though it counts from 1 */
    cp = simple("a", "\"new\"");
    create(&w, &cp);
    settle(&w);
    end(&w);
    w = world(NO_DB);
    restores(&w, "a", NULL, "\"new\"");
    end(&w);
}

static void without_a_pointer_the_list_tells_the_newest(void **state)
{
    (void)state;
    static const char *const pointers[] = {NULL, "{\"checkpoint_id\":", "nonsense"};
    for (size_t i = 0; i < 3; i++) {
        char agent[20], key[OBJECT_KEY_MAX + 1];
        snprintf(agent, sizeof(agent), "agent-%zu", i);
        struct opened w = world(0);
        struct checkpoint cp = simple(agent, "1");
        create(&w, &cp);
        usleep(2000); /* ids are ordered by the millisecond */
        cp = simple(agent, "2");
        create(&w, &cp);
        settle(&w);
        assert_true(latest_key(span_str(agent), key));
        if (pointers[i])
            assert_int_equal(objects_put(w.objects, key, span_str(pointers[i]), OBJECT_ALWAYS, NULL, NULL), PD_OK);
        else
            assert_int_equal(objects_delete(w.objects, key), PD_OK);
        end(&w);
        w = world(NO_DB);
        restores(&w, agent, NULL, "2");
        assert_int_equal(noted("latest is damaged"), pointers[i] != NULL);
        end(&w);
    }
}

static void the_pointer_never_goes_back(void **state)
{
    (void)state;
    struct opened w = world(0);
    char key[OBJECT_KEY_MAX + 1], at[CHECKPOINT_ID_BYTES], newest[CHECKPOINT_ID_BYTES];
    struct checkpoint cp = simple("a", "1");
    create(&w, &cp);
    cp = simple("a", "2");
    create(&w, &cp);
    memcpy(newest, id, sizeof(newest));
    settle(&w);
    /* An upload of the first comes late, by a process that thinks that it is the newest. */
    sql(&w, "UPDATE checkpoint_agents SET newest = (SELECT checkpoint_id FROM checkpoints WHERE seq = 1)");
    sql(&w, "INSERT INTO uploads (kind, item, taken_by, taken_ms) SELECT 0, checkpoint_id, '', 0 FROM checkpoints "
            "WHERE seq = 1");
    checkpoints_kick(w.c);
    outbox_empties(&w);
    struct buf b = {0};
    struct seal seal;
    assert_true(latest_key(SPAN_LIT("a"), key));
    assert_int_equal(objects_get(w.objects, key, &b, NULL), PD_OK);
    assert_true(latest_open(buf_span(&b), at, &seal));
    assert_string_equal(at, newest);
    buf_done(&b);
    end(&w);
}

static void a_damaged_newest_comes_from_the_other_side(void **state)
{
    (void)state;
    static const char *const damages[] = {
        "UPDATE checkpoints SET document = {lite:X'00'}{pg:'\\x00'::bytea} WHERE seq = 2",
        "UPDATE checkpoints SET sha256 = {lite:X'00'}{pg:'\\x00'::bytea} WHERE seq = 2",
        "UPDATE checkpoints SET document = (SELECT document FROM checkpoints WHERE seq = 1) WHERE seq = 2",
    };
    for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
        struct opened w = world(0);
        sql(&w, "DELETE FROM checkpoints");
        sql(&w, "DELETE FROM checkpoint_agents");
        struct checkpoint cp = simple("a", "1");
        create(&w, &cp);
        cp = simple("a", "2");
        create(&w, &cp);
        settle(&w);
        restores(&w, "a", NULL, "2");
        assert_int_equal(buf_size(&notes), 0);
        sql(&w, damages[i]);
        restores(&w, "a", NULL, "2");
        assert_true(noted("the database's copy is damaged"));
        assert_true(noted("taken from the snapshot"));
        end(&w);
    }
}

static void with_both_sides_damaged_the_one_before_is_restored_and_it_says_so(void **state)
{
    (void)state;
    struct opened w = world(0);
    char key[OBJECT_KEY_MAX + 1];
    struct checkpoint cp = simple("a", "1");
    create(&w, &cp);
    cp = simple("a", "2");
    create(&w, &cp);
    settle(&w);
    sql(&w, "UPDATE checkpoints SET document = {lite:X'00'}{pg:'\\x00'::bytea} WHERE seq = 2");
    assert_true(snapshot_key(SPAN_LIT("a"), id, key));
    assert_int_equal(objects_put(w.objects, key, SPAN_LIT("{\"agent_id\":\"a\"}"), OBJECT_ALWAYS, NULL, NULL),
                     PD_OK);
    restores(&w, "a", NULL, "1");
    assert_true(noted("passed over"));
    assert_int_equal(restore(&w, "", id), PD_INVALID); /* asked for by name it is not replaced by another */
    assert_int_equal(buf_size(&out), 0);
    end(&w);
    w = world(NO_DB);
    restores(&w, "a", NULL, "1");
    assert_true(noted("passed over"));
    end(&w);
}

static void a_snapshot_under_another_name_is_not_taken(void **state)
{
    (void)state;
    struct opened w = world(0);
    char key1[OBJECT_KEY_MAX + 1], key2[OBJECT_KEY_MAX + 1];
    struct buf b = {0};
    struct checkpoint cp = simple("a", "1");
    create(&w, &cp);
    assert_true(snapshot_key(SPAN_LIT("a"), id, key1));
    cp = simple("a", "2");
    create(&w, &cp);
    assert_true(snapshot_key(SPAN_LIT("a"), id, key2));
    settle(&w);
    assert_int_equal(objects_get(w.objects, key1, &b, NULL), PD_OK);
    assert_int_equal(objects_put(w.objects, key2, buf_span(&b), OBJECT_ALWAYS, NULL, NULL), PD_OK);
    buf_done(&b);
    end(&w);
    w = world(NO_DB);
    restores(&w, "a", NULL, "1");
    assert_true(noted("it is damaged"));
    end(&w);
}

static void no_byte_of_a_snapshot_can_change_unseen(void **state)
{
    (void)state;
    const struct span texts[] = {SPAN_LIT("{\"role\":\"user\",\"content\":\"hello\"}")};
    struct checkpoint cp = simple("a", "{\"x\":[1,2]}");
    cp.messages = texts;
    cp.messages_count = 1;
    struct made *m = made_new(&cp, true);
    struct buf sealed = {0}, document = {0}, names = {0};
    struct seal seal = {.line = "0123456789abcdef", .seq = 5, .made_ms = 1000}, back;
    assert_non_null(m);
    assert_int_equal(made_write(m), PD_OK);
    seal.hash = m->hash;
    assert_int_equal(sealed_write(buf_span(&m->document), &seal, buf_span(&m->names), &sealed), PD_OK);
    assert_int_equal(sealed_open(buf_span(&sealed), &document, &names, &back), PD_OK);
    assert_true(span_eq(buf_span(&document), buf_span(&m->document)));
    assert_true(span_eq(buf_span(&names), buf_span(&m->names)));
    unsigned passed = 0;
    for (size_t i = 0; i < buf_size(&sealed); i++)
        for (int bit = 0; bit < 8; bit++) {
            sealed.p[sealed.head + i] ^= (char)(1 << bit);
            if (sealed_open(buf_span(&sealed), &document, &names, &back) == PD_OK) {
                assert_true(span_eq(buf_span(&document), buf_span(&m->document)));
                assert_true(span_eq(buf_span(&names), buf_span(&m->names)));
                passed++; /* a name of the seal's own, or its line or number */
            }
            sealed.p[sealed.head + i] ^= (char)(1 << bit);
        }
    assert_true(passed < 8 * 80);
    for (size_t n = 0; n < buf_size(&sealed); n++)
        assert_int_not_equal(sealed_open(span_upto(buf_span(&sealed), n), &document, &names, &back), PD_OK);
    made_free(m);
    buf_done(&sealed);
    buf_done(&document);
    buf_done(&names);
}

/* ---- conversations ---- */

enum { TURNS = 70, TALK_MESSAGES = 2 * TURNS };
static char talk[TALK_MESSAGES][400];
static struct span talk_spans[TALK_MESSAGES];

static void make_talk(void)
{
    for (int i = 0; i < TALK_MESSAGES; i++) {
        snprintf(talk[i], sizeof(talk[i]), "{\"role\":\"%s\",\"content\":%s}", i % 2 ? "assistant" : "user",
                 noise(200 + (size_t)(i % 7) * 20, (unsigned)i + 1));
        talk_spans[i] = span_str(talk[i]);
    }
}

static struct checkpoint turn(size_t messages)
{
    struct checkpoint cp = {.agent = SPAN_LIT("session:s-1"), .step_index = -1, .reason = SPAN_LIT("turn")};
    cp.messages = talk_spans;
    cp.messages_count = messages;
    return cp;
}

static void has_messages(const char *which, struct opened *w, size_t n)
{
    pd_err e = restore(w, "session:s-1", which);
    if (e)
        fail_msg("%s: %.*s", pd_err_name(e), SPAN_FMT(buf_span(&notes)));
    struct json_walk walk;
    struct json v;
    size_t i = 0;
    json_walk_init(&walk, json_get((struct json){JSON_OBJECT, buf_span(&out)}, "messages"));
    while (json_walk_next(&walk, NULL, &v))
        assert_true(i < n && span_eq(v.raw, talk_spans[i++]));
    assert_int_equal(i, n);
}

static void each_message_is_stored_once_and_every_turn_comes_back(void **state)
{
    (void)state;
    static char ids[TURNS + 1][CHECKPOINT_ID_BYTES];
    struct opened w = world(0);
    make_talk();
    for (size_t i = 1; i <= TURNS; i++) {
        struct checkpoint cp = turn(2 * i);
        create(&w, &cp);
        memcpy(ids[i], id, sizeof(id));
    }
    assert_int_equal(count_of(&w, "SELECT COUNT(*) FROM blobs"), TALK_MESSAGES);
    assert_int_equal(count_of(&w, "SELECT MAX(links) FROM checkpoints"), CHECKPOINT_WHOLE_EVERY - 1);
    assert_int_equal(count_of(&w, "SELECT COUNT(*) FROM checkpoints WHERE kept = 0"),
                     (TURNS + CHECKPOINT_WHOLE_EVERY - 1) / CHECKPOINT_WHOLE_EVERY);
    for (size_t i = 1; i <= TURNS; i++)
        has_messages(ids[i], &w, 2 * i);
    has_messages(NULL, &w, TALK_MESSAGES);
    settle(&w);
    end(&w);
    w = world(NO_DB);
    has_messages(NULL, &w, TALK_MESSAGES);
    end(&w);
}

static void a_conversation_that_was_cut_and_begun_again_is_what_it_is(void **state)
{
    (void)state;
    struct opened w = world(0);
    char first[CHECKPOINT_ID_BYTES];
    make_talk();
    struct checkpoint cp = turn(20);
    create(&w, &cp);
    memcpy(first, id, sizeof(first));
    cp.messages = talk_spans; /* an edit: the same beginning, another end */
    struct span edited[10];
    memcpy(edited, talk_spans, sizeof(edited));
    edited[9] = SPAN_LIT("{\"role\":\"user\",\"content\":\"no, rather so\"}");
    cp.messages = edited;
    cp.messages_count = 10;
    create(&w, &cp);
    assert_int_equal(count_of(&w, "SELECT kept FROM checkpoints WHERE seq = 2"), 9);
    assert_int_equal(restore(&w, "session:s-1", NULL), PD_OK);
    assert_true(span_eq(member("messages.9"), edited[9]));
    assert_int_equal(member("messages.10").n, 0);
    has_messages(first, &w, 20);
    cp.messages = &edited[9]; /* nothing of the parent's */
    cp.messages_count = 1;
    create(&w, &cp);
    assert_int_equal(count_of(&w, "SELECT COUNT(*) FROM checkpoints WHERE parent = ''"), 2);
    end(&w);
}

static pd_err write_made(struct tx *t, void *ctx)
{
    return write_job(t, ctx, true);
}

static void a_job_that_is_run_again_writes_nothing_twice(void **state)
{
    (void)state;
    struct opened w = world(NO_OBJECTS);
    struct checkpoint cp = simple("a", "{\"x\":1}"), other = simple("a", "{\"x\":2}");
    struct made *m = made_new(&cp, true), *n = made_new(&other, true);
    assert_true(m && n && made_write(m) == PD_OK && made_write(n) == PD_OK);
    for (int i = 0; i < 3; i++) /* its commit was lost, or its answer was */
        assert_int_equal(db_do(w.db, write_made, m), PD_OK);
    assert_int_equal(count_of(&w, "SELECT COUNT(*) FROM checkpoints"), 1);
    assert_int_equal(count_of(&w, "SELECT COUNT(*) FROM uploads"), 1);
    assert_int_equal(count_of(&w, "SELECT seq FROM checkpoint_agents"), 1);
    memcpy(n->id, m->id, sizeof(n->id)); /* the same name, for another */
    assert_int_equal(db_do(w.db, write_made, n), PD_EXISTS);
    restores(&w, "", m->id, "{\"x\":1}");
    made_free(m);
    made_free(n);
    end(&w);
}

static void a_damaged_message_comes_from_the_object_store_or_the_turn_is_passed_over(void **state)
{
    (void)state;
    struct opened w = world(0);
    struct content_name name;
    char key[OBJECT_KEY_MAX + 1];
    make_talk();
    struct checkpoint cp = turn(4);
    create(&w, &cp);
    settle(&w); /* the object store has this turn */
    cp = turn(6);
    create(&w, &cp);
    settle(&w);
    sql(&w, "UPDATE blobs SET stored = {lite:X'00'}{pg:'\\x00'::bytea}");
    has_messages(NULL, &w, 6);
    assert_true(noted("6 of its 6 messages were taken from the object store"));
    assert_int_equal(content_name_of(talk_spans[5], &name), PD_OK);
    blob_key(&name, key);
    assert_int_equal(objects_delete(w.objects, key), PD_OK);
    has_messages(NULL, &w, 4);
    assert_true(noted("message 6 of 6 cannot be restored"));
    assert_true(noted("passed over"));
    /* a list of its messages in another order is not its own */
    cp = turn(8);
    create(&w, &cp);
    settle(&w);
    sql(&w, "UPDATE checkpoints SET names = SUBSTR(names, 33, 32) || SUBSTR(names, 1, 32) WHERE seq = 3");
    assert_int_equal(restore(&w, "", id), PD_INVALID); /* of the contents one is gone */
    assert_true(noted("the database's list of its messages is damaged"));
    end(&w);
}

static void a_parent_that_is_gone_costs_nothing_but_the_list(void **state)
{
    (void)state;
    struct opened w = world(NO_OBJECTS);
    make_talk();
    struct checkpoint cp = turn(4);
    create(&w, &cp);
    sql(&w, "DELETE FROM checkpoints");
    cp = turn(6);
    create(&w, &cp);
    has_messages(NULL, &w, 6);
    sql(&w, "UPDATE checkpoints SET names = {lite:X'00'}{pg:'\\x00'::bytea}"); /* a damaged list is no parent */
    cp = turn(8);
    create(&w, &cp);
    has_messages(NULL, &w, 8);
    sql(&w, "UPDATE checkpoints SET kept = 1000000"); /* more than there are */
    cp = turn(10);
    create(&w, &cp);
    has_messages(NULL, &w, 10);
    end(&w);
}

/* ---- catching up ---- */

/* It rests for a later one; and the store hears of a session that is always at work. */
static void a_turn_goes_to_the_object_store_for_those_it_overtook(void **state)
{
    (void)state;
    struct opened w = world(0);
    struct checkpoints_stats s;
    unsigned made = 0;
    make_talk();
    struct checkpoint cp = turn(4);
    uint64_t until = clock_mono_ms() + 20000;
    do {
        create(&w, &cp);
        made++;
        usleep(20000);
        checkpoints_stats(w.c, &s);
    } while (!count_of(&w, "SELECT COUNT(*) FROM checkpoints WHERE uploaded = 1") && clock_mono_ms() < until);
    assert_true(made > 3); /* each is as quick as the machine is */
    assert_true(count_of(&w, "SELECT COUNT(*) FROM checkpoints WHERE uploaded = 1") >= 1);
    assert_true(count_of(&w, "SELECT COUNT(*) FROM checkpoints WHERE uploaded = 3") >= 1);
    assert_true(count_of(&w, "SELECT COUNT(*) FROM uploads") > 0); /* those that rest still */
    settle(&w);                                                    /* nothing rests while somebody waits */
    assert_int_equal(count_of(&w, "SELECT COUNT(*) FROM uploads"), 0);
    assert_true(count_of(&w, "SELECT COUNT(*) FROM checkpoints WHERE uploaded = 1") <= 3);
    assert_true(count_of(&w, "SELECT COUNT(*) FROM checkpoints WHERE uploaded = 3") >= made - 3);
    end(&w);
    w = world(NO_DB);
    has_messages(NULL, &w, 4);
    end(&w);
}

/* Beside a turn that rests another agent's checkpoint goes at once. */
static void what_rests_keeps_nobody_waiting(void **state)
{
    (void)state;
    struct opened w = world(0);
    make_talk();
    struct checkpoint cp = turn(4), other = simple("b", "{}");
    create(&w, &cp);
    create(&w, &other);
    uint64_t until = clock_mono_ms() + 20000;
    while (!count_of(&w, "SELECT COUNT(*) FROM checkpoints WHERE agent_id = 'b' AND uploaded = 1") &&
           clock_mono_ms() < until)
        usleep(1000);
    assert_int_equal(count_of(&w, "SELECT COUNT(*) FROM checkpoints WHERE uploaded = 1"), 1);
    /* A clock that was set back: it does not rest for years. */
    sql(&w, "UPDATE uploads SET taken_ms = taken_ms + 1000000000");
    create(&w, &other);
    while (count_of(&w, "SELECT COUNT(*) FROM uploads") && clock_mono_ms() < until)
        usleep(1000);
    assert_int_equal(count_of(&w, "SELECT COUNT(*) FROM checkpoints WHERE uploaded = 1"), 3);
    end(&w);
}

static void an_object_store_that_is_down_is_caught_up_with_in_order(void **state)
{
    (void)state;
    if (with_s3)
        return; /* the folder is easier taken away */
    struct opened w = world(0);
    struct checkpoints_stats s;
    struct checkpoint cp;
    char file[500];
    /* A file where the folder of checkpoints should be: nothing can be put. */
    snprintf(file, sizeof(file), "%s/checkpoints", snapshots);
    int fd = open(file, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
    for (int i = 0; i < 5; i++) {
        char text[20];
        snprintf(text, sizeof(text), "%d", i);
        cp = simple("a", text);
        create(&w, &cp);
    }
    uint64_t until = clock_mono_ms() + 20000;
    do {
        usleep(1000);
        checkpoints_stats(w.c, &s);
    } while (!s.upload_failures && clock_mono_ms() < until);
    assert_true(s.upload_failures > 0);
    assert_false(checkpoints_settle(w.c, 0));
    checkpoints_trouble(w.c, why, sizeof(why));
    assert_true(why[0] != '\0');
    restores(&w, "a", NULL, "4"); /* from the database */
    end(&w);
    /* The outbox outlives the process. */
    assert_int_equal(unlink(file), 0);
    w = world(0);
    outbox_empties(&w);
    assert_int_equal(count_of(&w, "SELECT COUNT(*) FROM checkpoints WHERE uploaded = 1"), 5);
    end(&w);
    w = world(NO_DB);
    restores(&w, "a", NULL, "4");
    end(&w);
}

/* ---- pruning ---- */

static struct checkpoints_pruned prune(struct opened *w, bool dry)
{
    struct checkpoints_pruned p;
    assert_int_equal(checkpoints_prune(w->c, dry, &p), PD_OK);
    return p;
}

static struct opened pruning_world(unsigned keep, uint64_t ahead_ms)
{
    struct opened w = {0};
    checkpoints_rules_default(&w.rules);
    w.rules.prune_every_ms = 0;
    w.rules.keep_last = keep;
    w.rules.ahead_ms = ahead_ms;
    w.db = open_db();
    w.objects = open_objects(snapshots);
    assert_int_equal(checkpoints_open(w.db, w.objects, &w.rules, &w.c), PD_OK);
    return w;
}

static pd_err count_object(void *ctx, const struct object_info *i)
{
    (void)i;
    ++*(unsigned *)ctx;
    return PD_OK;
}

static unsigned objects_under(struct opened *w, const char *prefix)
{
    unsigned n = 0;
    assert_int_equal(objects_list(w->objects, prefix, count_object, &n), PD_OK);
    return n;
}

static void the_rules_say_what_goes_and_both_sides_lose_it(void **state)
{
    (void)state;
    enum { DAY = 24 * 3600 * 1000 };
    struct opened w = pruning_world(3, 0);
    for (unsigned i = 0; i < 10; i++) {
        struct checkpoint cp = simple("a", noise(8000, i));
        cp.milestone = i == 2 ? SPAN_LIT("alpha") : SPAN_NONE;
        create(&w, &cp);
    }
    settle(&w);
    assert_int_equal(prune(&w, false).checkpoints, 0); /* all are young */
    end(&w);
    w = pruning_world(3, 8 * (uint64_t)DAY);
    struct checkpoints_pruned dry = prune(&w, true);
    assert_int_equal(dry.checkpoints, 6);
    assert_int_equal(count_of(&w, "SELECT COUNT(*) FROM checkpoints"), 10);
    struct checkpoints_pruned did = prune(&w, false);
    assert_int_equal(did.checkpoints, 6);
    assert_int_equal(did.blobs, 6); /* their documents */
    assert_int_equal(count_of(&w, "SELECT COUNT(*) FROM checkpoints"), 4);
    assert_int_equal(count_of(&w, "SELECT COUNT(*) FROM checkpoints WHERE seq IN (3, 8, 9, 10)"), 4);
    assert_int_equal(count_of(&w, "SELECT COUNT(*) FROM blobs"), 4);
    outbox_empties(&w);
    assert_int_equal(objects_under(&w, "checkpoints/a/"), 5); /* and latest */
    restores(&w, "a", NULL, noise(8000, 9));
    end(&w);
    w = world(NO_DB);
    restores(&w, "a", NULL, noise(8000, 9));
    end(&w);
}

static void a_parent_that_is_needed_stays_and_a_session_goes_as_a_whole(void **state)
{
    (void)state;
    struct opened w = pruning_world(2, 0);
    make_talk();
    for (size_t i = 1; i <= 6; i++) {
        struct checkpoint cp = turn(2 * i);
        cp.agent = SPAN_LIT("talker");
        create(&w, &cp);
        cp = turn(2 * i);
        create(&w, &cp);
    }
    settle(&w);
    end(&w);
    w = pruning_world(2, 8 * UINT64_C(86400000));
    struct checkpoints_pruned p = prune(&w, false);
    assert_int_equal(p.checkpoints, 6); /* the session's; the talker's last two need the four before */
    assert_int_equal(count_of(&w, "SELECT COUNT(*) FROM checkpoints WHERE agent_id = 'talker'"), 6);
    assert_int_equal(p.blobs, 0); /* the talker says the same */
    assert_int_equal(restore(&w, "talker", NULL), PD_OK);
    assert_true(span_eq(member("messages.11"), talk_spans[11]));
    outbox_empties(&w);
    assert_int_equal(objects_under(&w, "checkpoints/session"), 0);
    assert_int_equal(restore(&w, "session:s-1", NULL), PD_NOTFOUND);
    end(&w);
}

static void a_content_that_is_wanted_again_is_put_again(void **state)
{
    (void)state;
    struct opened w = pruning_world(1, 8 * UINT64_C(86400000));
    const struct span text = span_str(noise(6000, 77));
    struct checkpoint cp = turn(0);
    cp.agent = SPAN_LIT("session:s-2");
    cp.messages = &text;
    cp.messages_count = 1;
    create(&w, &cp);
    settle(&w);
    assert_int_equal(prune(&w, false).blobs, 1);
    outbox_empties(&w);
    assert_int_equal(objects_under(&w, "blobs/"), 0);
    create(&w, &cp);
    settle(&w);
    assert_int_equal(prune(&w, false).blobs, 1);
    create(&w, &cp); /* its deletion may still be in the outbox */
    outbox_empties(&w);
    end(&w);
    w = world(NO_DB);
    assert_int_equal(restore(&w, "session:s-2", NULL), PD_OK);
    assert_true(span_eq(member("messages.0"), span_str(noise(6000, 77))));
    end(&w);
}

static void what_was_in_the_object_store_before_is_not_ours_to_delete(void **state)
{
    (void)state;
    struct opened w = pruning_world(1, 8 * UINT64_C(86400000));
    const struct span text = SPAN_LIT("{\"role\":\"user\"}");
    struct content_name name;
    struct buf packed = {0};
    char key[OBJECT_KEY_MAX + 1];
    assert_int_equal(content_name_of(text, &name), PD_OK);
    blob_key(&name, key);
    assert_int_equal(content_pack(text, &packed), PD_OK);
    assert_int_equal(objects_put(w.objects, key, buf_span(&packed), OBJECT_IF_NEW, NULL, NULL), PD_OK);
    struct checkpoint cp = turn(0);
    cp.messages = &text;
    cp.messages_count = 1;
    create(&w, &cp);
    settle(&w);
    assert_int_equal(prune(&w, false).blobs, 1);
    outbox_empties(&w);
    assert_int_equal(objects_under(&w, "blobs/"), 1); /* a database that was lost may have wanted it */
    buf_done(&packed);
    end(&w);
}

/* ---- without waiting ---- */

struct told {
    struct loop *loop;
    unsigned left;
    pd_err err;
    char id[CHECKPOINT_ID_BYTES], why[CHECKPOINT_WHY_BYTES];
};

static void on_told(void *ctx, pd_err e, const char *made, const char *reason)
{
    struct told *t = ctx;
    t->err = e;
    snprintf(t->id, sizeof(t->id), "%s", made);
    snprintf(t->why, sizeof(t->why), "%s", reason);
    if (--t->left == 0)
        loop_stop(t->loop);
}

static void what_is_submitted_is_told_on_its_loop(void **state)
{
    (void)state;
    struct opened w = world(NO_OBJECTS);
    struct told t = {.loop = loop_new(), .left = 50};
    struct db_queue *q = db_queue_new(w.db, t.loop);
    for (unsigned i = 0; i < 50; i++) {
        char text[40];
        snprintf(text, sizeof(text), "{\"i\":%u}", i);
        struct checkpoint cp = simple("a", text); /* copied: text is another's soon */
        assert_int_equal(checkpoint_submit(w.c, q, &cp, on_told, &t), PD_OK);
    }
    loop_run(t.loop);
    assert_int_equal(t.err, PD_OK);
    assert_int_equal(restore(&w, "", t.id),
                     PD_OK); /* the last that was told: with several connections any may be it */
    assert_true(span_starts(member("state"), "{\"i\":"));
    assert_int_equal(count_of(&w, "SELECT COUNT(DISTINCT state) FROM checkpoints WHERE agent_id = 'a'"), 50);
    t.left = 1;
    struct checkpoint bad = simple("a", "{");
    assert_int_equal(checkpoint_submit(w.c, q, &bad, on_told, &t), PD_OK);
    loop_run(t.loop);
    assert_int_equal(t.err, PD_INVALID);
    assert_non_null(strstr(t.why, "state"));
    /* what is under way at the end is made, and told */
    struct checkpoint cp = simple("a", "\"last\"");
    t.left = 2;
    assert_int_equal(checkpoint_submit(w.c, q, &cp, on_told, &t), PD_OK);
    checkpoints_close(w.c);
    db_close(w.db);
    db_queue_settle(q);
    assert_int_equal(t.left, 1);
    assert_int_equal(t.err, PD_OK);
    memcpy(id, t.id, sizeof(id));
    db_queue_free(q);
    loop_free(t.loop);
    w = world(NO_OBJECTS);
    restores(&w, "", id, "\"last\"");
    end(&w);
}

/* ---- for readers ---- */

static void what_differs_is_told_in_lines(void **state)
{
    (void)state;
    static const struct {
        const char *older, *newer, *lines;
    } rows[] = {
        {"{\"a\":1}", "{\"a\":1}", ""},
        {"{\"a\":1,\"checkpoint_id\":\"x\"}", "{\"a\":2,\"checkpoint_id\":\"y\"}", "~ a: 1 -> 2\n"},
        {"{\"a\":{\"b\":[1,2]}}", "{\"a\":{\"b\":[1,3,4],\"c\":null}}",
         "~ a.b[1]: 2 -> 3\n+ a.b[2]: 4\n+ a.c: null\n"},
        {"{\"a\":[1,2]}", "{\"a\":[1]}", "- a[1]: 2\n"},
        {"{\"a\":{}}", "{\"a\":[]}", "~ a: {} -> []\n"},
    };
    struct buf b = {0};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        buf_clear(&b);
        assert_int_equal(checkpoint_diff(span_str(rows[i].older), span_str(rows[i].newer), &b), PD_OK);
        if (!span_is(buf_span(&b), rows[i].lines))
            fail_msg("%zu: %.*s", i, SPAN_FMT(buf_span(&b)));
    }
    assert_int_equal(checkpoint_diff(SPAN_LIT("{"), SPAN_LIT("{}"), &b), PD_INVALID);
    buf_done(&b);
}

static void an_agent_is_told_where_it_was(void **state)
{
    (void)state;
    struct buf b = {0};
    assert_int_equal(
        checkpoint_resume_text(
            SPAN_LIT(
                "{\"agent_id\":\"coder\",\"checkpoint_id\":\"coder_1_2\",\"timestamp\":\"T\",\"milestone\":\"\","
                "\"task\":\"build "
                "\\\"it\\\"\",\"step_index\":4,\"open_files\":[{\"path\":\"a.c\",\"cursor\":12},\"b.c\"],"
                "\"progress\":{},\"state\":{\"next\":\"link\"},\"reason\":\"before_risky\","
                "\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}"),
            &b),
        PD_OK);
    static const char *const has[] = {
        "Agent: coder\n",      "Task: build \"it\"\n", "Steps done up to: 4\n", "- a.c, cursor at 12\n", "- b.c\n",
        "{\"next\":\"link\"}", "risky operation",      "has 1 message;",        "\"content\":\"x\"",
    };
    for (size_t i = 0; i < sizeof(has) / sizeof(has[0]); i++)
        if (!span_has(buf_span(&b), has[i]))
            fail_msg("%s\n%.*s", has[i], SPAN_FMT(buf_span(&b)));
    assert_false(span_has(buf_span(&b), "Milestone"));
    assert_false(span_has(buf_span(&b), "Progress"));
    assert_int_equal(checkpoint_resume_text(SPAN_LIT("[]"), &b), PD_INVALID);
    buf_done(&b);
}

static void ids_and_keys_are_what_they_say(void **state)
{
    (void)state;
    char key[OBJECT_KEY_MAX + 1];
    assert_true(span_is(agent_of_id(SPAN_LIT("my_agent_1700000000000_0a1b2c3d")), "my_agent"));
    assert_int_equal(agent_of_id(SPAN_LIT("nothing")).n, 0);
    assert_int_equal(agent_of_id(SPAN_LIT("a/b_1_2")).n, 0);
    assert_true(snapshot_key(SPAN_LIT("a:b"), "a:b_1_2", key));
    assert_string_equal(key, "checkpoints/a:b/a:b_1_2.json.zst");
    assert_false(snapshot_key(SPAN_LIT("a"), "a_1_/../x", key));
    assert_false(snapshot_key(SPAN_LIT("../a"), NULL, key));
}

/* ---- memory ---- */

static pd_err make_one(void *ctx)
{
    (void)ctx;
    struct span messages[] = {SPAN_LIT("{\"a\":1}"), SPAN_LIT("{\"b\":2}")};
    struct checkpoint cp = simple("a", "{\"x\":1}");
    struct buf sealed = {0}, document = {0}, names = {0}, whole = {0};
    struct seal seal = {.line = "x", .seq = 1}, back;
    cp.messages = messages;
    cp.messages_count = 2;
    struct made *m = made_new(&cp, true);
    pd_err e = m ? made_write(m) : PD_NOMEM;
    if (!e) {
        seal.hash = m->hash;
        e = sealed_write(buf_span(&m->document), &seal, buf_span(&m->names), &sealed);
    }
    if (!e)
        e = sealed_open(buf_span(&sealed), &document, &names, &back);
    if (!e)
        e = document_whole(buf_span(&document), messages, 2, &whole);
    made_free(m);
    buf_done(&sealed);
    buf_done(&document);
    buf_done(&names);
    buf_done(&whole);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    assert_true(torture(make_one, NULL) >= 6);
}

struct restoring {
    struct opened *w;
    unsigned whole;
};

/* From what is open, so that only the restore's own fail. */
static pd_err restore_one(void *ctx)
{
    struct restoring *r = ctx;
    struct buf document = {0}, said = {0};
    pd_err e = checkpoint_restore(r->w->c, SPAN_LIT("session:s-1"), NULL, &document, &said);
    if (e && e != PD_NOMEM)
        fail_msg("told as %s: %.*s", pd_err_name(e), SPAN_FMT(buf_span(&said)));
    if (!e && json_path((struct json){JSON_OBJECT, buf_span(&document)}, "messages.5").type == JSON_NONE)
        fail_msg("the one before was given: %.*s", SPAN_FMT(buf_span(&said)));
    r->whole += !e;
    buf_done(&document);
    buf_done(&said);
    return e;
}

/* Whichever allocation of it fails, it fails or is whole, and another try restores all. */
static void a_restore_survives_every_failed_allocation(void **state)
{
    (void)state;
    if (with_postgres || with_s3)
        return; /* what others do beside it is not counted */
    struct opened w = world(0);
    make_talk();
    struct checkpoint cp = turn(4);
    create(&w, &cp);
    cp = turn(6);
    create(&w, &cp);
    settle(&w);
    for (int side = 0; side < 2; side++) {
        struct restoring r = {&w, 0};
        for (int i = 0; i < 20; i++)
            assert_int_equal(restore_one(&r), PD_OK);
        assert_true(torture_lenient(restore_one, &r) > 10);
        assert_int_equal(restore_one(&r), PD_OK);
        assert_true(r.whole > 21);
        end(&w);
        w = world(NO_DB);
    }
    end(&w);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make, drop)
static const struct CMUnitTest stored[] = {
    TEST(everything_given_comes_back),
    TEST(the_newest_is_restored_whatever_the_clock_says),
    TEST(what_cannot_be_a_checkpoint_is_refused_with_its_member),
    TEST(a_large_state_stands_beside_its_row),
    TEST(a_lost_database_is_found_again_in_the_object_store),
    TEST(without_a_pointer_the_list_tells_the_newest),
    TEST(the_pointer_never_goes_back),
    TEST(a_damaged_newest_comes_from_the_other_side),
    TEST(with_both_sides_damaged_the_one_before_is_restored_and_it_says_so),
    TEST(a_snapshot_under_another_name_is_not_taken),
    TEST(each_message_is_stored_once_and_every_turn_comes_back),
    TEST(a_conversation_that_was_cut_and_begun_again_is_what_it_is),
    TEST(a_job_that_is_run_again_writes_nothing_twice),
    TEST(what_was_in_the_object_store_before_is_not_ours_to_delete),
    TEST(a_damaged_message_comes_from_the_object_store_or_the_turn_is_passed_over),
    TEST(a_parent_that_is_gone_costs_nothing_but_the_list),
    TEST(a_turn_goes_to_the_object_store_for_those_it_overtook),
    TEST(what_rests_keeps_nobody_waiting),
    TEST(an_object_store_that_is_down_is_caught_up_with_in_order),
    TEST(the_rules_say_what_goes_and_both_sides_lose_it),
    TEST(a_parent_that_is_needed_stays_and_a_session_goes_as_a_whole),
    TEST(a_content_that_is_wanted_again_is_put_again),
    TEST(what_is_submitted_is_told_on_its_loop),
    TEST(a_restore_survives_every_failed_allocation),
};

static const struct CMUnitTest pure[] = {
    cmocka_unit_test(no_byte_of_a_snapshot_can_change_unseen), cmocka_unit_test(what_differs_is_told_in_lines),
    cmocka_unit_test(an_agent_is_told_where_it_was),           cmocka_unit_test(ids_and_keys_are_what_they_say),
    cmocka_unit_test(survives_every_failed_allocation),
};

int main(void)
{
    int failed = cmocka_run_group_tests_name("checkpoint, pure", pure, NULL, NULL);
    failed += cmocka_run_group_tests_name("checkpoint, SQLite and a folder", stored, NULL, NULL);
    if (getenv("TEST_SQLITE_ALONE")) /* to try many changes of the code soon */
        return failed;
    server = postgres_start();
    with_postgres = server != NULL;
    if (with_postgres)
        failed += cmocka_run_group_tests_name("checkpoint, PostgreSQL and a folder", stored, NULL, NULL);
    has_s3 = s3_server_start(&s3);
    with_s3 = has_s3;
    if (has_s3)
        failed += cmocka_run_group_tests_name("checkpoint, a bucket", stored, NULL, NULL);
    if (has_s3)
        s3_server_stop(&s3);
    if (server)
        postgres_end(server);
    buf_done(&out);
    buf_done(&notes);
    return failed;
}
