/* What is progress, of calls and of files; and what is none. */
#include "test.h"
#include "torture.h"

#include "base/mem.h"
#include "task/watch.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- calls ------------------------------------------------------------------------------------------- */

#define CALL(id, key, agent, state, bytes) \
    "{\"id\":\"" id "\",\"key\":\"" key "\"," agent "\"state\":\"" state "\",\"output_bytes\":" bytes "}"
#define OF(name) "\"agent\":\"" name "\","
#define ANSWER(running, recent) "{\"running\":[" running "],\"recent\":[" recent "]}"

static const struct watch_whose mine = {NULL, "me", false}, only_mine = {NULL, "me", true},
                                of_key = {"team", "me", false};

static const struct row {
    const char *name, *answer;
    const struct watch_whose *whose;
    unsigned running, waiting, recent, own;
} rows[] = {
    {"nothing", ANSWER("", ""), &mine, 0, 0, 0, 0},
    {"a call that says nothing may be its own",
     ANSWER(CALL("c-1", "", OF(""), "relaying", "1"), CALL("c-2", "", "", "over", "1")), &mine, 1, 0, 1, 0},
    {"and is not, once its own are known",
     ANSWER(CALL("c-1", "", OF(""), "relaying", "1"), CALL("c-2", "", "", "over", "1")), &only_mine, 0, 0, 0, 0},
    {"another agent's is never its own",
     ANSWER(CALL("c-1", "", OF("you"), "trying", "1"), CALL("c-2", "", OF("me2"), "over", "1")), &mine, 0, 0, 0,
     0},
    {"its own is", ANSWER(CALL("c-1", "", OF("me"), "holding", "0"), CALL("c-2", "", OF("me"), "over", "1")),
     &only_mine, 1, 1, 1, 2},
    {"a key alone decides, where one is given",
     ANSWER(CALL("c-1", "team", OF("you"), "trying", "0") "," CALL("c-2", "other", OF("me"), "trying", "0"), ""),
     &of_key, 1, 1, 0, 1},
    {"who waits, is on hold, is tried or collected is explained; who relays is not",
     ANSWER(CALL("1", "", "", "waiting", "0") "," CALL("2", "", "", "holding", "0") "," CALL(
                "3", "", "", "trying", "0") "," CALL("4", "", "", "collecting", "0") "," CALL("5", "", "",
                                                                                              "relaying", "0"),
            CALL("6", "", "", "waiting", "0")),
     &mine, 5, 4, 1, 0},
    {"no list of ended calls", "{\"running\":[" CALL("1", "", "", "trying", "0") "]}", &mine, 1, 1, 0, 0},
    {"calls that are none", ANSWER("1,null,[],\"x\",{}", "{}"), &mine, 5, 0, 1, 0},
    {"an agent that is no text is none", ANSWER("{\"id\":1,\"agent\":7,\"state\":\"trying\"}", ""), &mine, 1, 1, 0,
     0},
    {"space around it", " \n" ANSWER("", "") "\n", &mine, 0, 0, 0, 0},
};

static void whose_calls_are_looked_at(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *r = &rows[i];
        struct watch_calls c;
        bool fine = watch_calls(span_str(r->answer), r->whose, &c);
        if (!fine || c.running != r->running || c.waiting != r->waiting || c.recent != r->recent ||
            c.own != r->own || c.marks_count != c.running + c.recent)
            fail_msg("%s: %d, running %u, waiting %u, recent %u, own %u", r->name, fine, c.running, c.waiting,
                     c.recent, c.own);
    }
}

static void what_is_no_answer_is_refused(void **state)
{
    (void)state;
    static const char *const no[] = {"",
                                     "x",
                                     "[]",
                                     "{}",
                                     "{\"running\":{}}",
                                     "{\"running\":[}",
                                     "{\"recent\":[]}",
                                     "{\"running\":[]} {}",
                                     "<html>",
                                     "null"};
    struct watch_calls c;
    for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++)
        if (watch_calls(span_str(no[i]), &mine, &c))
            fail_msg("taken: %s", no[i]);
}

#define RUNS CALL("c-1", "", OF("me"), "relaying", "7")
#define ENDED CALL("c-1", "", OF("me"), "over", "7")
#define OTHER CALL("c-0", "", OF("me"), "over", "7")

static const struct move {
    const char *name, *before, *now;
    bool moved;
} moves[] = {
    {"the same", ANSWER(RUNS, OTHER), ANSWER(RUNS, OTHER), false},
    {"in another order", ANSWER("", ENDED "," OTHER), ANSWER("", OTHER "," ENDED), false},
    {"one begins", ANSWER("", OTHER), ANSWER(RUNS, OTHER), true},
    {"one ends", ANSWER(RUNS, ""), ANSWER("", ENDED), true},
    {"bytes come", ANSWER(RUNS, ""), ANSWER(CALL("c-1", "", OF("me"), "relaying", "8"), ""), true},
    {"another state alone is none", ANSWER(CALL("c-1", "", OF("me"), "trying", "7"), ""), ANSWER(RUNS, ""), false},
    {"an ended one is forgotten", ANSWER("", OTHER "," ENDED), ANSWER("", ENDED), false},
    {"all are forgotten, as by a gateway that died", ANSWER(RUNS, OTHER), ANSWER("", ""), false},
    {"one is forgotten as another comes", ANSWER("", OTHER), ANSWER("", ENDED), true},
    {"another agent's come and go", ANSWER(RUNS, ""), ANSWER(RUNS, CALL("c-9", "", OF("you"), "over", "7")),
     false},
};

static void a_call_that_was_not_there_before_is_progress_and_one_that_is_gone_is_not(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(moves) / sizeof(moves[0]); i++) {
        struct watch_calls before, now;
        assert_true(watch_calls(span_str(moves[i].before), &mine, &before));
        assert_true(watch_calls(span_str(moves[i].now), &mine, &now));
        if (watch_calls_moved(&before, &now) != moves[i].moved)
            fail_msg("%s", moves[i].name);
    }
}

static void many_calls_answer(struct buf *out, unsigned from, unsigned running, unsigned recent)
{
    buf_clear(out);
    assert_int_equal(buf_puts(out, "{\"running\":["), PD_OK);
    for (unsigned i = 0; i < running + recent; i++) {
        if (i == running)
            assert_int_equal(buf_puts(out, "],\"recent\":["), PD_OK);
        assert_int_equal(
            buf_printf(out, "%s{\"id\":\"c-%u\",\"output_bytes\":0}", i && i != running ? "," : "", from + i),
            PD_OK);
    }
    assert_int_equal(buf_puts(out, "]}"), PD_OK);
}

static void more_calls_than_are_told_apart_are_counted_and_those_that_run_are_seen(void **state)
{
    (void)state;
    struct buf b = {0};
    struct watch_calls before, now;
    many_calls_answer(&b, 0, WATCH_CALLS_MAX - 1, 500);
    assert_true(watch_calls(buf_span(&b), &mine, &before));
    assert_int_equal(before.marks_count, WATCH_CALLS_MAX);
    assert_int_equal(before.running + before.recent, WATCH_CALLS_MAX + 499);
    assert_true(watch_calls(buf_span(&b), &mine, &now));
    assert_false(watch_calls_moved(&before, &now));
    many_calls_answer(&b, 1, WATCH_CALLS_MAX - 1, 500);
    assert_true(watch_calls(buf_span(&b), &mine, &now));
    assert_true(watch_calls_moved(&before, &now));
    buf_done(&b);
}

/* What answers may be anything. */
static void a_damaged_answer_is_refused_or_counted_within_its_size(void **state)
{
    (void)state;
    static const char whole[] = ANSWER(RUNS "," CALL("c-2", "k", "", "holding", "12"), OTHER);
    char text[sizeof(whole)];
    struct watch_calls c;
    unsigned refused = 0;
    for (size_t n = 0; n < sizeof(whole) - 1; n++) {
        char *cut = malloc(n + 1); /* of its own, so that a look behind it is seen */
        assert_non_null(cut);
        memcpy(cut, whole, n);
        assert_false(watch_calls(span_of(cut, n), &mine, &c));
        free(cut);
    }
    static const char put[] = "\0\"\\{}[],:0x\x80\xff ";
    for (size_t at = 0; at < sizeof(whole) - 1; at++)
        for (size_t i = 0; i < sizeof(put) - 1; i++) {
            memcpy(text, whole, sizeof(whole));
            text[at] = put[i];
            bool fine = watch_calls(span_of(text, sizeof(whole) - 1), &mine, &c);
            refused += !fine;
            assert_true(!fine || (c.running + c.recent <= 3 && c.waiting <= c.running &&
                                  c.marks_count == c.running + c.recent));
        }
    assert_true(refused > 500);
}

/* ---- files --------------------------------------------------------------------------------------------- */

static char dir[64];

static int open_folder(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/perdure-watch-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[100];
    snprintf(command, sizeof(command), "chmod -R u+rwx %s; rm -r %s", dir, dir);
    return system(command);
}

static const char *at(const char *name)
{
    static char path[4][PATH_MAX];
    static unsigned n;
    char *p = path[n++ % 4];
    snprintf(p, PATH_MAX, "%s/%s", dir, name);
    return p;
}

static void put_bytes(const char *name, const char *text, int flags)
{
    int fd = open(at(name), O_WRONLY | O_CREAT | flags, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void date(const char *name, long seconds, long nanoseconds)
{
    const struct timespec times[2] = {{1000000, 0}, {seconds, nanoseconds}};
    assert_int_equal(utimensat(AT_FDCWD, at(name), times, AT_SYMLINK_NOFOLLOW), 0);
}

static void folder(const char *name)
{
    assert_int_equal(mkdir(at(name), 0700), 0);
}

static uint64_t signature(void)
{
    struct watch_files f;
    watch_files(dir, NULL, NULL, &f);
    assert_false(f.cut);
    return f.signature;
}

static void begin(void)
{
    folder("src");
    folder("src/deep");
    folder(".git");
    folder("src/.git");
    put_bytes("a", "one", 0);
    put_bytes("src/b", "two", 0);
    put_bytes("src/deep/c", "three", 0);
    assert_int_equal(symlink("a", at("link")), 0);
    date("a", 1700000000, 5);
    date("src/b", 1700000000, 5);
}

/* What is dated anew is dated back: only what the row says differs. */
static void append(void)
{
    put_bytes("a", "x", O_APPEND), date("a", 1700000000, 5);
}
static void rewrite(void)
{
    put_bytes("a", "eno", O_TRUNC);
}
static void touch(void)
{
    date("src/deep/c", 1800000000, 0);
}
static void touch_by_a_nanosecond(void)
{
    date("src/b", 1700000000, 6);
}
static void create(void)
{
    put_bytes("src/deep/new", "", 0);
}
static void create_folder(void)
{
    folder("src/deep/more");
}
static void take_away(void)
{
    assert_int_equal(unlink(at("src/b")), 0);
}
static void rename_one(void)
{
    assert_int_equal(rename(at("src/b"), at("src/d")), 0);
}
static void rename_folder(void)
{
    assert_int_equal(rename(at("src/deep"), at("src/low")), 0);
}
static void exchange(void)
{
    assert_int_equal(rename(at("a"), at("t")), 0);
    assert_int_equal(rename(at("src/b"), at("a")), 0);
    assert_int_equal(rename(at("t"), at("src/b")), 0);
}
static void replace_by_its_like(void)
{
    put_bytes("t", "two", 0);
    date("t", 1700000000, 5);
    assert_int_equal(rename(at("t"), at("src/b")), 0);
}
static void point_elsewhere(void)
{
    assert_int_equal(unlink(at("link")), 0);
    assert_int_equal(symlink("src/b", at("link")), 0);
}
static void file_for_a_folder(void)
{
    assert_int_equal(rename(at("src/deep/c"), at("c")), 0);
    assert_int_equal(rmdir(at("src/deep")), 0);
    assert_int_equal(rename(at("c"), at("src/deep")), 0);
}
static void nothing(void) {}
static void read_it(void)
{
    char text[10];
    int fd = open(at("a"), O_RDONLY);
    assert_int_equal(read(fd, text, sizeof(text)), 3);
    close(fd);
}
static void change_mode(void)
{
    assert_int_equal(chmod(at("a"), 0640), 0);
}
static void write_into_git(void)
{
    put_bytes(".git/index", "x", 0);
    put_bytes("src/.git/index", "x", 0);
}
static void write_our_own(void)
{
    folder(".perdure");
    put_bytes(".perdure/supervise-x", "x", 0);
    folder("perdure-state");
    put_bytes("perdure-state/journal", "x", 0);
}
static void come_and_go(void)
{
    put_bytes("lock", "x", 0);
    assert_int_equal(unlink(at("lock")), 0);
}

static const struct change {
    const char *name;
    void (*make)(void);
    bool seen;
} changes[] = {
    {"more in a file", append, true},
    {"the same size, another time", rewrite, true},
    {"another time", touch, true},
    {"a nanosecond", touch_by_a_nanosecond, true},
    {"an empty file", create, true},
    {"an empty folder", create_folder, true},
    {"one is gone", take_away, true},
    {"another name", rename_one, true},
    {"a folder of another name", rename_folder, true},
    {"two that change places", exchange, true},
    {"one in the place of its like", replace_by_its_like, true},
    {"a link to elsewhere", point_elsewhere, true},
    {"a file where a folder was", file_for_a_folder, true},
    {"nothing", nothing, false},
    {"reading", read_it, false},
    {"who may read", change_mode, false},
    {"git's own", write_into_git, false},
    {"perdure's own", write_our_own, false},
    {"what came and went between two looks", come_and_go, false},
};

static void files_that_change_are_seen_and_nothing_else(void **state)
{
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        assert_int_equal(open_folder(state), 0);
        begin();
        uint64_t before = signature();
        assert_int_equal(signature(), before);
        changes[i].make();
        if ((signature() != before) != changes[i].seen)
            fail_msg("%s", changes[i].name);
        assert_int_equal(remove_folder(state), 0);
    }
}

static bool note_path(void *ctx, const char *path, const struct stat *st)
{
    struct buf *b = ctx;
    assert_true(S_ISREG(st->st_mode));
    return buf_printf(b, "%s|", path) == PD_OK && buf_size(b) < 10000;
}

/* None of these is opened: a pipe would hold us for ever. */
static void odd_names_and_kinds_are_files_like_others(void **state)
{
    (void)state;
    static const char *const names[] = {"two words", "line\nend", "\"quoted\"", "\xff\xfe not UTF-8",
                                        "..git",     "-rf",       "%s%n"};
    char longest[256] = "";
    struct buf paths = {0};
    struct watch_files f;
    struct sockaddr_un where = {.sun_family = AF_UNIX};
    memset(longest, 'n', 255);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        uint64_t before = signature();
        put_bytes(names[i], "x", 0);
        assert_true(signature() != before);
    }
    put_bytes(longest, "x", 0);
    assert_int_equal(mkfifo(at("pipe"), 0600), 0);
    assert_int_equal(symlink(".", at("round")), 0);
    assert_int_equal(symlink("/no/such", at("nowhere")), 0);
    snprintf(where.sun_path, sizeof(where.sun_path), "%s/socket", dir);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&where, sizeof(where)), 0);
    watch_files(dir, note_path, &paths, &f);
    assert_int_equal(f.seen, 7 + 1 + 4);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        assert_true(span_has(buf_span(&paths), names[i]));
    assert_true(span_has(buf_span(&paths), longest));
    assert_false(span_has(buf_span(&paths), "pipe"));
    assert_false(span_has(buf_span(&paths), "round"));
    buf_done(&paths);
    close(fd);
}

static bool first_only(void *ctx, const char *path, const struct stat *st)
{
    (void)path, (void)st;
    ++*(unsigned *)ctx;
    return false;
}

static void who_has_enough_is_told_no_more(void **state)
{
    (void)state;
    unsigned told = 0;
    struct watch_files f;
    begin();
    watch_files(dir, first_only, &told, &f);
    assert_int_equal(told, 1);
    assert_false(f.cut);
}

static void folders_deeper_than_the_limit_are_not_entered(void **state)
{
    (void)state;
    char path[2 * (WATCH_DEPTH_MAX + 3)] = "", deepest[sizeof(path) + 4];
    for (unsigned depth = 1; depth <= WATCH_DEPTH_MAX + 1; depth++) {
        strcat(path, depth > 1 ? "/d" : "d");
        folder(path);
        uint64_t before = signature();
        snprintf(deepest, sizeof(deepest), "%s/f", path);
        put_bytes(deepest, "x", 0);
        assert_int_equal(signature() != before, depth <= WATCH_DEPTH_MAX);
    }
}

static void a_folder_that_is_not_there_is_empty(void **state)
{
    (void)state;
    struct watch_files f = {1, 2, true};
    watch_files(at("no"), NULL, NULL, &f);
    assert_true(f.signature == 0 && f.seen == 0 && !f.cut);
    put_bytes("file", "x", 0);
    watch_files(at("file"), NULL, NULL, &f);
    assert_int_equal(f.seen, 0);
}

static void fill(const char *name, unsigned from, unsigned to)
{
    char path[60];
    for (unsigned i = from; i < to; i++) {
        snprintf(path, sizeof(path), "%s/%u", name, i);
        int fd = open(at(path), O_WRONLY | O_CREAT, 0600);
        assert_true(fd >= 0);
        close(fd);
    }
}

/* A tree of libraries beside the work, which it must no hide whatever the order of the folder is. */
static void past_the_limit_what_lies_near_is_still_seen(void **state)
{
    (void)state;
    struct watch_files f, g;
    folder("libs");
    folder("libs/all");
    folder("src");
    put_bytes("src/a", "x", 0);
    put_bytes("plan", "x", 0);
    fill("libs/all", 0, WATCH_FILES_MAX - 5);
    watch_files(dir, NULL, NULL, &f);
    assert_int_equal(f.seen, WATCH_FILES_MAX);
    assert_false(f.cut);
    fill("libs/all", WATCH_FILES_MAX - 5, WATCH_FILES_MAX - 4);
    watch_files(dir, NULL, NULL, &f);
    assert_int_equal(f.seen, WATCH_FILES_MAX);
    assert_true(f.cut);
    watch_files(dir, NULL, NULL, &g);
    assert_int_equal(f.signature, g.signature);
    put_bytes("src/a", "y", O_APPEND);
    watch_files(dir, NULL, NULL, &g);
    assert_true(f.signature != g.signature);
}

static pd_err look(void *ctx)
{
    watch_files(ctx, NULL, NULL, &(struct watch_files){0});
    return PD_OK;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    begin();
    assert_true(torture_lenient(look, dir) >= 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whose_calls_are_looked_at),
        cmocka_unit_test(what_is_no_answer_is_refused),
        cmocka_unit_test(a_call_that_was_not_there_before_is_progress_and_one_that_is_gone_is_not),
        cmocka_unit_test(more_calls_than_are_told_apart_are_counted_and_those_that_run_are_seen),
        cmocka_unit_test(a_damaged_answer_is_refused_or_counted_within_its_size),
        cmocka_unit_test(files_that_change_are_seen_and_nothing_else),
        cmocka_unit_test_setup_teardown(odd_names_and_kinds_are_files_like_others, open_folder, remove_folder),
        cmocka_unit_test_setup_teardown(who_has_enough_is_told_no_more, open_folder, remove_folder),
        cmocka_unit_test_setup_teardown(folders_deeper_than_the_limit_are_not_entered, open_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_folder_that_is_not_there_is_empty, open_folder, remove_folder),
        cmocka_unit_test_setup_teardown(past_the_limit_what_lies_near_is_still_seen, open_folder, remove_folder),
        cmocka_unit_test_setup_teardown(survives_every_failed_allocation, open_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
