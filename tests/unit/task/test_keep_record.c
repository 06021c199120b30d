/* What a keeper writes down, and what of it is believed. */
#include "test.h"
#include "torture.h"

#include "state/snapshot.h"
#include "task/keep.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64], state_dir[80];
static const char *const argv[] = {"agent", "do it", NULL};
static struct keep_rules rules;

static int open_folder(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/perdure-keep-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(state_dir, sizeof(state_dir), "%s/.perdure", dir);
    keep_rules_default(&rules);
    rules.argv = argv;
    rules.folder = dir;
    rules.name = "night";
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[100];
    snprintf(command, sizeof(command), "rm -r %s", dir);
    return system(command);
}

static struct keep_record some(void)
{
    struct keep_record k = {.starts = 3,
                            .restarted = 2,
                            .began_wall_ms = 1795463114346,
                            .restarted_wall_ms = {1795463114999, 1795463114400},
                            .command_hash = keep_command_hash(&rules),
                            .state = "running"};
    return k;
}

static bool same(const struct keep_record *a, const struct keep_record *b)
{
    return a->starts == b->starts && a->restarted == b->restarted && a->began_wall_ms == b->began_wall_ms &&
           a->command_hash == b->command_hash && strcmp(a->state, b->state) == 0 &&
           memcmp(a->restarted_wall_ms, b->restarted_wall_ms, a->restarted * sizeof(a->restarted_wall_ms[0])) == 0;
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    struct keep_record k = some(), read;
    assert_int_equal(keep_record_read(&rules, &read), PD_NOTFOUND);
    assert_int_equal(keep_record_write(&rules, &k), PD_OK);
    assert_int_equal(keep_record_read(&rules, &read), PD_OK);
    assert_true(same(&k, &read));
    k = (struct keep_record){.starts = UINT_MAX,
                             .restarted = SUPERVISE_RESTARTS_MAX,
                             .began_wall_ms = INT64_MAX,
                             .command_hash = k.command_hash,
                             .state = "paused"};
    for (unsigned i = 0; i < k.restarted; i++)
        k.restarted_wall_ms[i] = INT64_MAX - i;
    assert_int_equal(keep_record_write(&rules, &k), PD_OK);
    assert_int_equal(keep_record_read(&rules, &read), PD_OK);
    assert_true(same(&k, &read));
    keep_record_remove(&rules);
    assert_int_equal(keep_record_read(&rules, &read), PD_NOTFOUND);
    keep_record_remove(&rules);
}

static void a_record_is_of_one_name_one_command_and_one_folder(void **state)
{
    (void)state;
    static const char *const words[] = {"agent", "do", "it", NULL}, *const other[] = {"agent", "do it!", NULL},
                             *const more[] = {"agent", "do it", "", NULL}, *const less[] = {"agent", NULL};
    static const char *const *const commands[] = {words, other, more, less};
    struct keep_record k = some(), read;
    struct keep_rules r = rules;
    uint64_t hash = keep_command_hash(&rules);
    assert_int_equal(keep_record_write(&rules, &k), PD_OK);
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        r.argv = commands[i];
        assert_true(keep_command_hash(&r) != hash);
        assert_int_equal(keep_record_read(&r, &read), PD_NOTFOUND);
    }
    r = rules;
    r.name = "day";
    assert_int_equal(keep_record_read(&r, &read), PD_NOTFOUND);
    r.folder = "/tmp";
    assert_true(keep_command_hash(&r) != hash);
    r = rules; /* how it is gone on with is not what it is */
    r.check = "make test";
    r.rules.stall_ms = 7;
    assert_int_equal(keep_record_read(&r, &read), PD_OK);
}

#define HASH "\"command\":\"%016llx\""
#define BEGINS "{\"starts\":3,\"state\":\"running\",\"began_ms\":5," HASH

static const struct row {
    const char *name, *document;
    bool read;
    unsigned starts, restarted;
} rows[] = {
    {"as it is written", BEGINS ",\"restarts_ms\":[7,6]}\n", true, 3, 2},
    {"no restarts", BEGINS ",\"restarts_ms\":[]}", true, 3, 0},
    {"no list of them", BEGINS "}", true, 3, 0},
    {"a list that is none", BEGINS ",\"restarts_ms\":7}", true, 3, 0},
    {"what is no time is passed over", BEGINS ",\"restarts_ms\":[7,-1,\"x\",null,1e99,6]}", true, 3, 2},
    {"what a later version adds", BEGINS ",\"more\":{\"a\":[1]},\"restarts_ms\":[7]}", true, 3, 1},
    {"nothing", "", false, 0, 0},
    {"no document", "x", false, 0, 0},
    {"a list", "[]", false, 0, 0},
    {"half of one", "{\"starts\":3,\"began_ms\":5," HASH ",\"restarts_ms\":[7", false, 0, 0},
    {"starts less than none", "{\"starts\":-1,\"began_ms\":5," HASH "}", false, 0, 0},
    {"more starts than can be counted", "{\"starts\":4294967296,\"began_ms\":5," HASH "}", false, 0, 0},
    {"starts that are a text", "{\"starts\":\"3\",\"began_ms\":5," HASH "}", false, 0, 0},
    {"no beginning", "{\"starts\":3," HASH "}", false, 0, 0},
    {"a beginning before all time", "{\"starts\":3,\"began_ms\":-5," HASH "}", false, 0, 0},
    {"no command", "{\"starts\":3,\"began_ms\":5}", false, 0, 0},
    {"a command that is no hash", "{\"starts\":3,\"began_ms\":5,\"command\":\"what\"}", false, 0, 0},
    {"a hash and more", "{\"starts\":3,\"began_ms\":5,\"command\":\"%016llxz\"}", false, 0, 0},
    {"a state too long is cut",
     "{\"starts\":3,\"state\":\"0123456789012345678901234567890\",\"began_ms\":5," HASH "}", true, 3, 0},
};

static void write_document(const char *form)
{
    char text[400];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(text, sizeof(text), form, (unsigned long long)keep_command_hash(&rules));
#pragma GCC diagnostic pop
    assert_int_equal(mkdir(state_dir, 0700) != 0 && access(state_dir, F_OK) != 0, 0);
    assert_int_equal(snapshot_write(state_dir, "supervise-night", span_str(text)), PD_OK);
}

static void what_is_no_record_is_as_none(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct keep_record read;
        write_document(rows[i].document);
        pd_err e = keep_record_read(&rules, &read);
        if (e != (rows[i].read ? PD_OK : PD_NOTFOUND) ||
            (!e && (read.starts != rows[i].starts || read.restarted != rows[i].restarted)))
            fail_msg("%s: %s", rows[i].name, pd_err_name(e));
    }
}

static void more_restarts_than_are_kept_are_the_newest(void **state)
{
    (void)state;
    char text[SUPERVISE_RESTARTS_MAX * 8 + 400];
    struct keep_record read;
    int n = snprintf(text, sizeof(text), "{\"starts\":3,\"began_ms\":5,\"command\":\"%016llx\",\"restarts_ms\":[9",
                     (unsigned long long)keep_command_hash(&rules));
    for (unsigned i = 0; i < SUPERVISE_RESTARTS_MAX + 20; i++)
        n += snprintf(text + n, sizeof(text) - (size_t)n, ",%u", i);
    snprintf(text + n, sizeof(text) - (size_t)n, "]}");
    assert_int_equal(mkdir(state_dir, 0700), 0);
    assert_int_equal(snapshot_write(state_dir, "supervise-night", span_str(text)), PD_OK);
    assert_int_equal(keep_record_read(&rules, &read), PD_OK);
    assert_int_equal(read.restarted, SUPERVISE_RESTARTS_MAX);
    assert_true(read.restarted_wall_ms[0] == 9 && read.restarted_wall_ms[1] == 0);
}

static size_t read_file(char *out, size_t room, char path[PATH_MAX])
{
    snprintf(path, PATH_MAX, "%s/supervise-night", state_dir);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    ssize_t n = read(fd, out, room);
    close(fd);
    assert_true(n > 0 && (size_t)n < room);
    return (size_t)n;
}

static void write_file(const char *path, const char *bytes, size_t n)
{
    int fd = open(path, O_WRONLY | O_TRUNC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), (ssize_t)n);
    close(fd);
}

/* A disk that lost some of it, or gave another's bytes. */
static void a_damaged_file_is_as_none(void **state)
{
    (void)state;
    char whole[1000], path[PATH_MAX];
    struct keep_record k = some(), read;
    assert_int_equal(keep_record_write(&rules, &k), PD_OK);
    size_t n = read_file(whole, sizeof(whole), path);
    for (size_t cut = 0; cut < n; cut++) {
        write_file(path, whole, cut);
        assert_int_equal(keep_record_read(&rules, &read), PD_NOTFOUND);
    }
    for (size_t at = 0; at < n; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            whole[at] = (char)(whole[at] ^ 1 << bit);
            write_file(path, whole, n);
            pd_err e = keep_record_read(&rules, &read);
            if (e != PD_NOTFOUND && !(e == PD_OK && same(&k, &read)))
                fail_msg("byte %zu, bit %u: %s", at, bit, pd_err_name(e));
            whole[at] = (char)(whole[at] ^ 1 << bit);
        }
    write_file(path, whole, n);
    assert_int_equal(keep_record_read(&rules, &read), PD_OK);
}

static void one_holds_a_name_at_a_time(void **state)
{
    (void)state;
    int fd = -1, other = -1, status;
    struct keep_rules r = rules;
    assert_int_equal(keep_hold(&rules, KEEP_LOCK, &fd), PD_OK);
    pid_t pid = fork();
    if (pid == 0)
        _exit(keep_hold(&rules, KEEP_LOCK, &other) == PD_EXISTS ? 0 : 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(keep_hold(&rules, KEEP_LOCK, &other), PD_EXISTS);
    assert_int_equal(other, -1);
    r.name = "day";
    assert_int_equal(keep_hold(&r, KEEP_LOCK, &other), PD_OK);
    close(other);
    close(fd);
    assert_int_equal(keep_hold(&rules, KEEP_LOCK, &fd), PD_OK);
    close(fd);
}

static void the_longest_name_and_folder_have_room(void **state)
{
    (void)state;
    char name[KEEP_NAME_BYTES], far[PATH_MAX + 10];
    struct keep_record k = some(), read;
    struct keep_rules r = rules;
    int fd;
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    r.name = name;
    assert_int_equal(keep_record_write(&r, &k), PD_OK);
    assert_int_equal(keep_record_read(&r, &read), PD_OK);
    assert_int_equal(keep_hold(&r, KEEP_LOCK, &fd), PD_OK);
    close(fd);
    memset(far, 'f', sizeof(far) - 1);
    far[0] = '/';
    far[sizeof(far) - 1] = '\0';
    r.folder = far;
    assert_int_equal(keep_record_write(&r, &k), PD_TOOBIG);
    assert_int_equal(keep_record_read(&r, &read), PD_TOOBIG);
    assert_int_equal(keep_hold(&r, KEEP_LOCK, &fd), PD_TOOBIG);
    keep_record_remove(&r);
}

static void a_folder_that_cannot_be_made_is_said(void **state)
{
    (void)state;
    struct keep_record k = some(), read;
    int fd = open(state_dir, O_WRONLY | O_CREAT, 0600), held = -1; /* a file in its place */
    close(fd);
    assert_int_not_equal(keep_record_write(&rules, &k), PD_OK);
    assert_int_not_equal(keep_record_read(&rules, &read), PD_OK);
    assert_int_not_equal(keep_hold(&rules, KEEP_LOCK, &held), PD_OK);
    keep_record_remove(&rules);
    assert_int_equal(access(state_dir, F_OK), 0);
}

static void a_stall_is_measured_to_a_tenth(void **state)
{
    (void)state;
    static const struct {
        uint64_t stall, every;
    } times[] = {{1000, 200}, {2000, 200}, {3000, 300}, {100000, 10000}, {100010, 10000}, {600000, 10000}};
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        rules.rules.stall_ms = times[i].stall;
        assert_int_equal(keep_measure_ms(&rules), times[i].every);
    }
}

static pd_err write_and_read(void *ctx)
{
    struct keep_record k = some(), read;
    (void)ctx;
    pd_err e = keep_record_write(&rules, &k);
    if (!e)
        e = keep_record_read(&rules, &read);
    return e;
}

/* An older record stays whole when the newer one could not be written. */
static void survives_every_failed_allocation(void **state)
{
    (void)state;
    struct keep_record read;
    assert_int_equal(write_and_read(NULL), PD_OK);
    assert_true(torture(write_and_read, NULL) >= 2);
    assert_int_equal(keep_record_read(&rules, &read), PD_OK);
}

static void what_a_killed_keeper_left_half_written_is_removed_whatever_its_name(void **state)
{
    (void)state;
    char longest[KEEP_NAME_BYTES], path[300];
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    rules.name = longest;
    const struct keep_record k = some();
    assert_int_equal(keep_record_write(&rules, &k), PD_OK);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "%s/supervise-%s%s.123.new", state_dir, longest, i ? ".checkpoint" : "");
        int fd = open(path, O_WRONLY | O_CREAT, 0600);
        assert_true(fd >= 0);
        close(fd);
        keep_record_sweep(&rules);
        assert_int_equal(access(path, F_OK), -1);
    }
    struct keep_record there;
    assert_int_equal(keep_record_read(&rules, &there), PD_OK);
    assert_true(same(&k, &there));
}

#define HERE(test) cmocka_unit_test_setup_teardown(test, open_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        HERE(what_a_killed_keeper_left_half_written_is_removed_whatever_its_name),
        HERE(what_is_written_is_read),
        HERE(a_record_is_of_one_name_one_command_and_one_folder),
        HERE(what_is_no_record_is_as_none),
        HERE(more_restarts_than_are_kept_are_the_newest),
        HERE(a_damaged_file_is_as_none),
        HERE(one_holds_a_name_at_a_time),
        HERE(the_longest_name_and_folder_have_room),
        HERE(a_folder_that_cannot_be_made_is_said),
        HERE(a_stall_is_measured_to_a_tenth),
        HERE(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
