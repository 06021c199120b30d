/* What turns.h promises: a request is taken apart and put together again in every format, several at once, and what waits is bounded. */
#include "checkpoint/turns.h"

#include "base/clock.h"
#include "base/mem.h"
#include "checkpoint/left.h"
#include "dialect/codec.h"
#include "dialect/shown.h"
#include "parse/json.h"
#include "state/snapshot.h"
#include "test.h"
#include "torture.h"

#include <dirent.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char folder[64], why[DB_WHY_BYTES];
static struct db *db;
static struct checkpoints *c;
static unsigned released;
static sem_t gate;

static int make(void **state)
{
    (void)state;
    char where[100];
    struct db_rules r;
    struct checkpoints_rules rules;
    snprintf(folder, sizeof(folder), "/tmp/test_turns.XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(where, sizeof(where), "%s/perdure.db", folder);
    db_rules_default(&r);
    checkpoints_rules_default(&rules);
    assert_int_equal(db_open(where, &r, &db, why, sizeof(why)), PD_OK);
    assert_int_equal(checkpoints_open(db, NULL, &rules, &c), PD_OK);
    released = 0;
    return 0;
}

static int drop(void **state)
{
    (void)state;
    char command[200];
    c = checkpoints_close(c);
    db = db_close(db);
    snprintf(command, sizeof(command), "rm -r %s", folder);
    return system(command);
}

static void on_release(struct turn *t)
{
    released++;
    mem_free(t);
}

static struct turn *turn_of(const struct codec *codec, const char *body, const char *answer)
{
    struct turn *t = mem_zalloc(sizeof(*t));
    assert_non_null(t);
    *t = (struct turn){.codec = codec,
                       .body = span_str(body),
                       .answer = span_str(answer),
                       .usage = MSG_USAGE_NONE,
                       .bytes = strlen(body),
                       .release = on_release};
    snprintf(t->agent, sizeof(t->agent), "session:s-1");
    snprintf(t->provider, sizeof(t->provider), "alpha");
    snprintf(t->call, sizeof(t->call), "c-1");
    return t;
}

static void has(const char *const *members)
{
    struct buf out = {0}, notes = {0};
    pd_err e = checkpoint_restore(c, SPAN_LIT("session:s-1"), NULL, &out, &notes);
    if (e)
        fail_msg("%s: %.*s", pd_err_name(e), SPAN_FMT(buf_span(&notes)));
    assert_int_equal(json_check(buf_span(&out)), PD_OK);
    for (; members[0]; members += 2) {
        struct span is = json_path((struct json){JSON_OBJECT, buf_span(&out)}, members[0]).raw;
        if (!span_is(is, members[1]))
            fail_msg("%s is %.*s in %.*s", members[0], SPAN_FMT(is), SPAN_FMT(buf_span(&out)));
    }
    buf_done(&out);
    buf_done(&notes);
}

static void a_request_of_each_format_is_taken_apart(void **state)
{
    (void)state;
    static const struct {
        const struct codec *codec;
        const char *body, *answer, *members[9];
    } rows[] = {
        {&codec_openai_chat,
         " {\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"} , "
         "{\"role\":\"user\"}],\"stream\":true}\n",
         "{\"choices\":[]}",
         {"request", "{\"model\":\"m\",\"messages\":[],\"stream\":true}", "messages",
          "[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"user\"}]", "answer", "{\"choices\":[]}",
          "conversation.answer", "true"}},
        {&codec_anthropic,
         "{\"messages\":[1],\"system\":\"s\",\"messages\":[{\"role\":\"user\",\"content\":\"b\"}]}",
         "",
         {"messages", "[{\"role\":\"user\",\"content\":\"b\"}]", "conversation.answer", "false"}},
        {&codec_gemini,
         "{\"contents\":[{\"parts\":[{\"text\":\"x\"}]}]}",
         "not json",
         {"messages", "[{\"parts\":[{\"text\":\"x\"}]}]", "request", "{\"contents\":[]}", "conversation.answer",
          "false"}},
        {&codec_openai_responses,
         "{\"input\":\"only a text\"}",
         "{\"output\":[]}",
         {"request", "{\"input\":\"only a text\"}", "messages", "[]", "answer", "{\"output\":[]}"}},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct turns *t = turns_new(c, 1 << 20);
        struct turns_stats s;
        assert_non_null(t);
        print_message("    %s\n", rows[i].codec->name);
        assert_true(turns_give(t, turn_of(rows[i].codec, rows[i].body, rows[i].answer)));
        uint64_t until = clock_mono_ms() + 10000;
        do
            turns_stats(t, &s);
        while (!s.made && !s.failed && clock_mono_ms() < until);
        assert_int_equal(s.made, 1);
        turns_free(t);
        assert_int_equal(released, i + 1);
        has(rows[i].members);
    }
}

static void told(void *ctx, const struct msg_delta *d)
{
    assert_int_equal(shown_add(ctx, d), PD_OK);
}

static void a_streamed_answer_is_put_together(void **state)
{
    (void)state;
    struct shown shown;
    const struct msg_delta hello = {.kind = MSG_TEXT, .text = SPAN_LIT("hel")},
                           more = {.kind = MSG_TEXT, .text = SPAN_LIT("lo")};
    shown_init(&shown);
    told(&shown, &hello);
    told(&shown, &more);
    struct turns *t = turns_new(c, 1 << 20);
    struct turn *turn = turn_of(&codec_anthropic, "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}", "");
    turn->shown = &shown;
    turn->finish = MSG_FINISH_STOP;
    assert_true(turns_give(t, turn));
    turns_free(t); /* what waits is made first */
    assert_int_equal(released, 1);
    has((const char *const[]){"answer.content.0.text", "\"hello\"", "answer.role", "\"assistant\"", NULL});
    shown_done(&shown);
}

/* A job that keeps the database busy until it is told to go on. */
static pd_err wait_job(struct tx *t, void *ctx)
{
    (void)t;
    sem_post(ctx);
    sem_wait(&gate);
    return PD_OK;
}

static void *waiter(void *ctx)
{
    assert_int_equal(db_do(db, wait_job, ctx), PD_OK);
    return NULL;
}

static void what_waits_is_bounded_and_is_all_made(void **state)
{
    (void)state;
    enum { BODY = 60, ROOM = 10 };
    static const char body[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"aaaaaaaaaaaaaaa\"}]}";
    struct turns *t = turns_new(c, ROOM * (sizeof(body) - 1));
    struct turns_stats s;
    sem_t busy;
    pthread_t thread;
    sem_init(&gate, 0, 0);
    sem_init(&busy, 0, 0);
    assert_int_equal(pthread_create(&thread, NULL, waiter, &busy), 0);
    sem_wait(&busy);
    unsigned given = 0;
    for (unsigned i = 0; i < 3 * ROOM; i++) {
        struct turn *turn = turn_of(&codec_openai_chat, body, "");
        if (turns_give(t, turn))
            given++;
        else
            mem_free(turn); /* it is ours still */
    }
    assert_int_equal(given, ROOM);
    turns_stats(t, &s);
    assert_int_equal(s.left_out, 2 * ROOM);
    sem_post(&gate);
    pthread_join(thread, NULL);
    turns_free(t);
    assert_int_equal(released, ROOM);
    struct checkpoints_stats made;
    checkpoints_stats(c, &made);
    assert_int_equal(made.created, ROOM);
    assert_int_equal(made.failed, 0);
}

static sem_t inside;

static void hold(struct turn *t, bool lock)
{
    (void)t;
    if (!lock)
        return;
    sem_post(&inside);
    sem_wait(&gate);
}

/* Turns whose thread has one of `agent`, and no other, until the gate is opened. */
static struct turns *held_at(struct shown *shown, const char *agent)
{
    const struct msg_delta hello = {.kind = MSG_TEXT, .text = SPAN_LIT("hello")};
    shown_init(shown);
    told(shown, &hello);
    sem_init(&gate, 0, 0);
    sem_init(&inside, 0, 0);
    struct turns *t = turns_new(c, 1 << 20);
    struct turn *first = turn_of(&codec_anthropic, "{\"messages\":[]}", "");
    snprintf(first->agent, sizeof(first->agent), "%s", agent);
    first->shown = shown;
    first->lock = hold;
    assert_true(turns_give(t, first));
    sem_wait(&inside);
    return t;
}

static void one_that_is_overtaken_while_it_waits_is_left_out(void **state)
{
    (void)state;
    static const struct {
        uint64_t begins;
        const struct codec *codec;
        const char *agent, *body;
    } rows[] = {
        {1, &codec_openai_chat, "session:s-1", "{\"messages\":[{\"a\":1}]}"},           /* overtaken */
        {2, &codec_openai_chat, "session:s-1", "{\"messages\":[{\"a\":2}]}"},           /* another conversation */
        {1, &codec_openai_chat, "session:s-2", "{\"messages\":[{\"a\":1}]}"},           /* another session */
        {1, &codec_anthropic, "session:s-1", "{\"messages\":[{\"a\":1}]}"},             /* another format */
        {0, &codec_openai_chat, "session:s-1", "{\"messages\":[{\"a\":1}]}"},           /* not known which */
        {1, &codec_openai_chat, "session:s-1", "{\"messages\":[{\"a\":1},{\"b\":2}]}"}, /* overtaken */
        {1, &codec_openai_chat, "session:s-1", "{\"messages\":[{\"a\":1},{\"b\":2},{}]}"}, /* the newest */
        {1, &codec_openai_chat, "session:s-1", "{\"messages\":[{\"a\":1}]}"}, /* shorter: it went back */
        {0, &codec_openai_chat, "session:s-1", "{\"messages\":[{\"a\":1}]}"},
    };
    enum { ROWS = sizeof(rows) / sizeof(rows[0]), OVERTAKEN = 2 };
    struct turns_stats s;
    struct shown shown;
    struct turns *t = held_at(&shown, "session:s-1");
    for (unsigned i = 0; i < ROWS; i++) {
        struct turn *turn = turn_of(rows[i].codec, rows[i].body, "");
        turn->begins = rows[i].begins;
        snprintf(turn->agent, sizeof(turn->agent), "%s", rows[i].agent);
        assert_true(turns_give(t, turn));
    }
    sem_post(&gate);
    uint64_t until = clock_mono_ms() + 10000;
    do
        turns_stats(t, &s);
    while (s.made < 1 + ROWS - OVERTAKEN && clock_mono_ms() < until);
    assert_int_equal(s.overtaken, OVERTAKEN);
    assert_int_equal(s.made, 1 + ROWS - OVERTAKEN);
    struct turn *large = turn_of(&codec_openai_chat, rows[0].body, "");
    large->bytes = 1 << 20; /* all there is room for: nothing of the others is still counted */
    bool fits = false;
    while (!fits && clock_mono_ms() < until)
        fits = turns_give(t, large);
    assert_true(fits);
    turns_free(t);
    assert_int_equal(released, 2 + ROWS);
    shown_done(&shown);
}

static void one_that_cannot_be_a_checkpoint_takes_none_with_it(void **state)
{
    (void)state;
    struct turns *t = turns_new(c, 1 << 20);
    struct turns_stats s;
    assert_true(turns_give(t, turn_of(&codec_openai_chat, "{\"messages\":[{\"a\":}]}", "")));
    assert_true(turns_give(t, turn_of(&codec_openai_chat, "{\"messages\":[{\"a\":1}]}", "")));
    assert_true(turns_give(t, turn_of(&codec_openai_chat, "{\"messages\":[{\"a\":1}", "")));
    uint64_t until = clock_mono_ms() + 10000;
    do
        turns_stats(t, &s);
    while (s.made + s.failed < 3 && clock_mono_ms() < until);
    assert_int_equal(s.made, 1);
    assert_int_equal(s.failed, 2);
    turns_free(t);
    has((const char *const[]){"messages", "[{\"a\":1}]", NULL});
}

static pd_err refuse_job(struct tx *t, void *ctx)
{
    static const char refuse[] =
        "CREATE TRIGGER refused BEFORE INSERT ON checkpoints WHEN NEW.agent_id = 'session:s-1' "
        "BEGIN SELECT RAISE(ABORT, 'refused'); END";
    return tx_run(t, *(bool *)ctx ? refuse : "DROP TRIGGER refused", NULL, 0, NULL, NULL);
}

static void refuse(bool on)
{
    assert_int_equal(db_do(db, refuse_job, &on), PD_OK);
}

/* One of three that are written at once is refused by the database. */
static void one_that_cannot_be_written_takes_none_with_it_and_is_not_made(void **state)
{
    (void)state;
    static const char *const agents[] = {"session:s-a", "session:s-1", "session:s-c"};
    static const char one[] = "{\"messages\":[{\"a\":1}]}", two[] = "{\"messages\":[{\"a\":1},{\"b\":2}]}";
    struct checkpoints_stats made;
    struct turns_stats s;
    struct shown shown;
    struct turns *t = held_at(&shown, "session:s-0");
    refuse(true);
    for (unsigned i = 0; i < 3; i++) {
        struct turn *turn = turn_of(&codec_openai_chat, one, "");
        snprintf(turn->agent, sizeof(turn->agent), "%s", agents[i]);
        assert_true(turns_give(t, turn));
    }
    sem_post(&gate);
    uint64_t until = clock_mono_ms() + 10000;
    do
        turns_stats(t, &s);
    while (s.made + s.failed < 4 && clock_mono_ms() < until);
    assert_int_equal(s.made, 3);
    assert_int_equal(s.failed, 1);
    refuse(false);
    /* nobody takes it for the one before the next */
    assert_true(turns_give(t, turn_of(&codec_openai_chat, two, "")));
    turns_free(t);
    has((const char *const[]){"messages", "[{\"a\":1},{\"b\":2}]", NULL});
    checkpoints_stats(c, &made);
    assert_int_equal(made.created, 4);
    assert_int_equal(made.failed, 1);
    shown_done(&shown);
}

/* ---- turn after turn ---- */

static struct buf conversation;

/* `n` messages; those from `from` on are of another branch. */
static struct turn *turn_with(unsigned n, unsigned from)
{
    buf_clear(&conversation);
    assert_int_equal(buf_puts(&conversation, "{\"model\":\"m\",\"messages\":["), PD_OK);
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(
            buf_printf(&conversation, "%s{\"content\":\"%u%s\"}", i ? "," : "", i, i < from ? "" : " again"),
            PD_OK);
    assert_int_equal(buf_puts(&conversation, "]}"), PD_OK);
    char *body = mem_strndup(buf_span(&conversation).p, buf_size(&conversation));
    assert_non_null(body);
    return turn_of(&codec_openai_chat, body, "{\"answer\":true}");
}

static void release_body(struct turn *t)
{
    mem_free((void *)(uintptr_t)t->body.p);
    on_release(t);
}

static void is_made(struct turns *t, struct turn *turn, unsigned made)
{
    struct turns_stats s;
    turn->release = release_body;
    assert_true(turns_give(t, turn));
    uint64_t until = clock_mono_ms() + 10000;
    do {
        usleep(1000);
        turns_stats(t, &s);
    } while (s.made + s.failed < made && clock_mono_ms() < until);
    assert_int_equal(s.made, made);
}

static void has_turn(unsigned n, unsigned from)
{
    struct turn *want = turn_with(n, from);
    struct json list = json_get((struct json){JSON_OBJECT, want->body}, "messages");
    char *raw = mem_strndup(list.raw.p, list.raw.n);
    assert_non_null(raw);
    has((const char *const[]){"messages", raw, "answer", "{\"answer\":true}", NULL});
    mem_free(raw);
    mem_free((void *)(uintptr_t)want->body.p);
    mem_free(want);
}

static pd_err on_number(void *ctx, const struct db_value *columns, unsigned n)
{
    (void)n;
    *(int64_t *)ctx = columns[0].n;
    return PD_OK;
}

static pd_err kept_job(struct tx *t, void *ctx)
{
    return tx_run(t, "SELECT kept FROM checkpoints ORDER BY seq DESC LIMIT 1", NULL, 0, on_number, ctx);
}

/* Longer than a chain may be; another process has made one in between; it goes back, and on from there. */
static void each_turn_keeps_what_the_one_before_had(void **state)
{
    (void)state;
    enum { TURNS = CHECKPOINT_WHOLE_EVERY + 8 };
    struct turns *t = turns_new(c, 1 << 20);
    unsigned made = 0, whole = 0;
    int64_t kept = 0;
    assert_non_null(t);
    for (unsigned n = 1; n <= TURNS; n++) {
        is_made(t, turn_with(n, n), ++made);
        has_turn(n, n);
        assert_int_equal(db_do(db, kept_job, &kept), PD_OK);
        assert_true(kept == 0 ||
                    kept ==
                        (int64_t)n); /* the request without its messages is one, too; the answer is behind them */
        whole += kept == 0;
    }
    assert_int_equal(whole, 2); /* the first, and the one that begins another chain */
    struct checkpoint cp = {.agent = SPAN_LIT("session:s-1"), .step_index = -1};
    char id[CHECKPOINT_ID_BYTES];
    assert_int_equal(checkpoint_create(c, &cp, id, why, sizeof(why)), PD_OK);
    is_made(t, turn_with(TURNS + 1, TURNS + 1), ++made);
    has_turn(TURNS + 1, TURNS + 1);
    assert_int_equal(db_do(db, kept_job, &kept), PD_OK);
    assert_int_equal(kept, 0); /* the newest was another's, which has no messages */
    is_made(t, turn_with(5, 3), ++made);
    has_turn(5, 3);
    assert_int_equal(db_do(db, kept_job, &kept), PD_OK);
    assert_int_equal(kept, 1 + 3);
    is_made(t, turn_with(6, 3), ++made);
    has_turn(6, 3);
    turns_free(t);
    buf_done(&conversation);
}

/* ---- left for a successor ---- */

static struct turns *begin(const char *left, bool follows)
{
    const struct turns_rules r = {1 << 20, left, follows};
    struct turns *t = turns_begin(c, &r);
    assert_non_null(t);
    return t;
}

static unsigned files_in(const char *left)
{
    DIR *d = opendir(left);
    unsigned n = 0;
    for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d))
        n += span_ends(span_str(e->d_name), ".turn");
    if (d)
        closedir(d);
    return n;
}

static void ends_in(struct turns *t, uint64_t made, uint64_t failed)
{
    struct turns_stats s;
    uint64_t until = clock_mono_ms() + 10000;
    do {
        usleep(1000);
        turns_stats(t, &s);
    } while (s.made + s.failed < made + failed && clock_mono_ms() < until);
    assert_int_equal(s.made, made);
    assert_int_equal(s.failed, failed);
}

/* Of one that was given. */
static void ends_whichever(struct turns *t, struct turns_stats *ret)
{
    uint64_t until = clock_mono_ms() + 10000;
    do {
        usleep(1000);
        turns_stats(t, ret);
    } while (ret->made + ret->failed < 1 && clock_mono_ms() < until);
}

static void what_is_ended_after_the_hand_over_is_left_and_read(void **state)
{
    (void)state;
    char left[100], file[200];
    struct checkpoints_stats s;
    snprintf(left, sizeof(left), "%s/turns", folder);
    struct turns *old = begin(left, false);
    is_made(old, turn_with(2, 2), 1);
    turns_leave(old);
    is_made(old, turn_with(3, 3), 2);
    is_made(old, turn_with(4, 4), 3);
    assert_int_equal(files_in(left), 2);
    has_turn(2, 2);
    struct turns *next = begin(left, true);
    uint64_t until = clock_mono_ms() + 20000;
    while (files_in(left) && clock_mono_ms() < until)
        usleep(1000);
    has_turn(4, 4);                   /* in their order */
    is_made(old, turn_with(5, 5), 4); /* it is at work still */
    while (files_in(left) && clock_mono_ms() < until)
        usleep(1000);
    has_turn(5, 5);
    checkpoints_stats(c, &s);
    assert_int_equal(s.created, 4);
    turns_free(next);
    /* The successor has died. */
    turns_return(old, c);
    is_made(old, turn_with(6, 6), 5);
    has_turn(6, 6);
    assert_int_equal(files_in(left), 0);
    turns_leave(old);
    is_made(old, turn_with(7, 7), 6);
    turns_free(old);
    /* What is damaged is put away and keeps nothing waiting. */
    snprintf(file, sizeof(file), "%s/0.turn", left);
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    fputs("damaged", f);
    fclose(f);
    assert_int_equal(snapshot_write(left, "1.turn", SPAN_LIT("{}")), PD_OK); /* whole, and no turn */
    next = begin(left, false); /* reads once, whoever was there before */
    while (files_in(left) && clock_mono_ms() < until)
        usleep(1000);
    assert_int_equal(files_in(left), 0);
    has_turn(7, 7);
    turns_free(next);
    buf_done(&conversation);
}

static void without_a_folder_they_are_counted_as_not_kept(void **state)
{
    (void)state;
    struct turns *t = turns_new(c, 1 << 20);
    turns_leave(t);
    assert_true(turns_give(t, turn_of(&codec_openai_chat, "{\"messages\":[]}", "")));
    ends_in(t, 0, 1);
    turns_free(t);
}

/* ---- memory ---- */

static int empty(const char *left)
{
    char command[200];
    snprintf(command, sizeof(command), "rm -f %s/*", left);
    return system(command);
}

/* One of the old process's is left as a whole file or not at all, and counted so. */
static pd_err a_turn_is_left(void *ctx)
{
    struct turns_stats s = {.made = 0};
    const struct turns_rules r = {1 << 20, ctx, false};
    struct turns *t = turns_begin(c, &r);
    if (!t)
        return PD_NOMEM;
    turns_leave(t);
    struct turn *turn = mem_zalloc(sizeof(*turn));
    if (turn) {
        *turn = (struct turn){.codec = &codec_anthropic,
                              .body = SPAN_LIT("{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}"),
                              .usage = MSG_USAGE_NONE,
                              .bytes = 100,
                              .release = on_release};
        snprintf(turn->agent, sizeof(turn->agent), "session:s-1");
        if (turns_give(t, turn))
            ends_whichever(t, &s);
        else
            mem_free(turn);
    }
    turns_free(t);
    assert_int_equal(files_in(ctx), s.made);
    assert_int_equal(empty(ctx), 0); /* the next finds nothing to read */
    return s.made ? PD_OK : PD_NOMEM;
}

/* What is left is made a checkpoint, or waits for the next who reads: for want of memory no file is damaged. */
static pd_err a_left_turn_is_read(void *ctx)
{
    static const char text[] =
        "{\"agent\":\"session:s\\u002d1\",\"task\":\"\\u0074\",\"provider\":\"\\u0070\","
        "\"conversation\":{\"dialect\":\"x\",\"answer\":false},\"messages\":[{},{\"of\":\"it\"}]}";
    struct checkpoints_stats before, after;
    if (snapshot_write(ctx, "1.turn", span_str(text)) != PD_OK)
        return PD_NOMEM;
    checkpoints_stats(c, &before);
    unsigned made = left_read(c, ctx);
    checkpoints_stats(c, &after);
    assert_int_equal(after.created - before.created, made);
    assert_int_equal(files_in(ctx), 1 - made);
    return made ? PD_OK : PD_NOMEM;
}

static void what_is_left_survives_every_failed_allocation(void **state)
{
    (void)state;
    char left[100];
    snprintf(left, sizeof(left), "%s/turns", folder);
    for (int i = 0; i < 40; i++)
        assert_int_equal(a_turn_is_left(left), PD_OK);
    assert_true(torture_lenient(a_turn_is_left, left) > 10);
    for (int i = 0; i < 40; i++)
        assert_int_equal(a_left_turn_is_read(left), PD_OK);
    assert_true(torture_lenient(a_left_turn_is_read, left) > 20);
    assert_int_equal(a_left_turn_is_read(left), PD_OK);
    has((const char *const[]){"messages", "[{\"of\":\"it\"}]", NULL});
}

static pd_err a_turn(void *ctx)
{
    struct turns *t = turns_new(c, 1 << 20);
    struct turn *turn = t ? mem_zalloc(sizeof(*turn)) : NULL;
    if (turn) {
        *turn = (struct turn){.codec = &codec_anthropic,
                              .body = SPAN_LIT("{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}"),
                              .shown = ctx,
                              .usage = MSG_USAGE_NONE,
                              .finish = MSG_FINISH_STOP,
                              .bytes = 100,
                              .release = on_release};
        snprintf(turn->agent, sizeof(turn->agent), "session:s-1");
        if (!turns_give(t, turn))
            mem_free(turn);
        t = turns_free(t); /* ends what waits */
    }
    turns_free(t);
    return turn ? PD_OK : PD_NOMEM;
}

/* Whatever fails, a turn less is kept, and the next one is. */
static void survives_every_failed_allocation(void **state)
{
    (void)state;
    const struct msg_delta hello = {.kind = MSG_TEXT, .text = SPAN_LIT("hello")};
    struct shown shown;
    shown_init(&shown);
    told(&shown, &hello);
    for (int i = 0; i < 40; i++)
        assert_int_equal(a_turn(&shown), PD_OK); /* statements are prepared, pages are there */
    unsigned failed = torture_lenient(a_turn, &shown);
    assert_true(failed > 20);
    assert_int_equal(a_turn(&shown), PD_OK);
    has((const char *const[]){"answer.content.0.text", "\"hello\"", NULL});
    shown_done(&shown);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, drop)
    const struct CMUnitTest tests[] = {
        TEST(a_request_of_each_format_is_taken_apart),
        TEST(a_streamed_answer_is_put_together),
        TEST(what_waits_is_bounded_and_is_all_made),
        TEST(one_that_is_overtaken_while_it_waits_is_left_out),
        TEST(one_that_cannot_be_a_checkpoint_takes_none_with_it),
        TEST(one_that_cannot_be_written_takes_none_with_it_and_is_not_made),
        TEST(each_turn_keeps_what_the_one_before_had),
        TEST(what_is_ended_after_the_hand_over_is_left_and_read),
        TEST(without_a_folder_they_are_counted_as_not_kept),
        TEST(survives_every_failed_allocation),
        TEST(what_is_left_survives_every_failed_allocation),
    };
    return cmocka_run_group_tests_name("turns", tests, NULL, NULL);
}
