/* A reader that has stopped reading holds nobody up. */
#include "test.h"

#include "base/log.h"
#include "base/outlet.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FAR_MORE = 4 << 20, ALARM_S = 20 };

static char piece[16384];

/* Who waits is ended, and the test with it. */
static int no_waiting(void **state)
{
    (void)state;
    memset(piece, 'x', sizeof(piece));
    signal(SIGPIPE, SIG_IGN);
    alarm(ALARM_S);
    return 0;
}

static size_t fill(const struct outlet *o)
{
    size_t all = 0;
    ssize_t n;
    while (all < FAR_MORE && (n = outlet_write(o, span_of(piece, sizeof(piece)))) > 0)
        all += (size_t)n;
    return all;
}

static char said[8 << 20];

static size_t hear(int fd)
{
    size_t n = 0;
    ssize_t got;
    struct pollfd p = {fd, POLLIN, 0};
    while (poll(&p, 1, 0) > 0 && (got = read(fd, said + n, sizeof(said) - 1 - n)) > 0)
        n += (size_t)got;
    said[n] = '\0';
    return n;
}

static void make_pipe(int fds[2])
{
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
}
static void make_sockets(int fds[2])
{
    int both[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, both), 0);
    fds[0] = both[1];
    fds[1] = both[0];
}
static void make_terminal(int fds[2])
{
    fds[0] = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(fds[0] >= 0 && grantpt(fds[0]) == 0 && unlockpt(fds[0]) == 0);
    fds[1] = open(ptsname(fds[0]), O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(fds[1] >= 0);
}

static const struct row {
    const char *name;
    void (*make)(int fds[2]);
    enum outlet_kind kind;
    size_t least; /* that it holds without a reader */
} rows[] = {
    {"a pipe is made larger, and then takes no more", make_pipe, OUTLET_OWN, OUTLET_PIPE_BYTES / 2},
    {"a socket takes what it holds", make_sockets, OUTLET_SOCKET, 4096},
    {"a terminal takes what it holds", make_terminal, OUTLET_OWN, 100},
};

static void what_nobody_reads_is_not_waited_for(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int fds[2];
        struct outlet o;
        rows[i].make(fds);
        int before = fcntl(fds[1], F_GETFL);
        outlet_open(&o, fds[1]);
        size_t took = fill(&o);
        if (o.kind != rows[i].kind || took < rows[i].least || took >= FAR_MORE)
            fail_msg("%s: kind %d, took %zu", rows[i].name, (int)o.kind, took);
        assert_false(outlet_wait(&o, 0));
        assert_int_equal(fcntl(fds[1], F_GETFL), before); /* the shell has it too */
        assert_true(hear(fds[0]) >= rows[i].least);
        assert_true(outlet_wait(&o, ALARM_S * 1000));
        assert_true(outlet_write(&o, SPAN_LIT("y")) == 1);
        outlet_close(&o);
        close(fds[0]);
        if (rows[i].make != make_terminal) {
            outlet_open(&o, fds[1]);
            assert_int_equal(outlet_write(&o, SPAN_LIT("y")), -1); /* nobody reads it any more */
            outlet_close(&o);
        }
        close(fds[1]);
    }
}

/* As another user's, or without /proc: here without a descriptor to open it by. */
static void a_pipe_that_cannot_be_opened_again_is_looked_at(void **state)
{
    (void)state;
    int fds[2];
    struct outlet o;
    struct rlimit had, none;
    make_pipe(fds);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &had), 0);
    none = had;
    none.rlim_cur = (rlim_t)fds[0];
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    outlet_open(&o, fds[1]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &had), 0);
    assert_true(o.kind == OUTLET_LOOKED && o.fd == fds[1]);
    assert_true(outlet_write(&o, SPAN_LIT("x")) == 1); /* so that no piece fits into what is left at the end */
    size_t took = fill(&o);
    assert_true(took >= OUTLET_PIPE_BYTES / 2 && took < FAR_MORE);
    outlet_close(&o);
    assert_int_equal(fcntl(fds[1], F_GETFD), FD_CLOEXEC); /* the caller's is open */
    close(fds[0]);
    close(fds[1]);
}

/* Two writers of one file go on where the other is: opened anew it would begin at its beginning. */
static void a_file_is_written_where_its_others_are(void **state)
{
    (void)state;
    char path[] = "/tmp/perdure-outlet-XXXXXX", text[20] = "";
    struct outlet o;
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, "a", 1) == 1);
    outlet_open(&o, fd);
    assert_true(o.kind == OUTLET_TAKES && outlet_write(&o, SPAN_LIT("b")) == 1);
    outlet_close(&o);
    assert_true(write(fd, "c", 1) == 1);
    assert_int_equal(pread(fd, text, sizeof(text) - 1, 0), 3);
    assert_string_equal(text, "abc");
    close(fd);
    unlink(path);
}

/* ---- the log --------------------------------------------------------------------------------------------- */

static unsigned count(const char *what)
{
    unsigned n = 0;
    for (const char *at = said; (at = strstr(at, what)); at += strlen(what))
        n++;
    return n;
}

/* What the lines say that were left out, together: one that says it is shorter, and fits where others do not. */
static uint64_t told_lost(void)
{
    uint64_t all = 0;
    const char *mark = log_json ? "\"event\":\"log.lost\",\"lines\":\"" : " warn log.lost lines=";
    for (const char *at = said; (at = strstr(at, mark));) {
        at += strlen(mark);
        all += strtoull(at, NULL, 10);
    }
    return all;
}

static void a_log_is_lost_and_counted(void (*make)(int fds[2]))
{
    enum { LINES = 20000 };
    int fds[2], real = dup(STDERR_FILENO);
    make(fds);
    uint64_t before = log_lost();
    assert_true(real >= 0 && dup2(fds[1], STDERR_FILENO) >= 0);
    log_open();
    for (unsigned i = 0; i < LINES; i++)
        LOG(NULL, LOG_INFO, "row.of_lines", "n=%u text=\"%0200u\"", i, i);
    uint64_t lost = log_lost() - before;
    (void)hear(fds[0]);
    unsigned whole = count("row.of_lines");
    uint64_t told = told_lost();
    LOG(NULL, LOG_INFO, "row.after", "n=1");
    log_say("a person");
    size_t n = hear(fds[0]);
    dup2(real, STDERR_FILENO);
    log_open();
    close(real);
    close(fds[0]);
    close(fds[1]);
    assert_true(lost > 0 && whole + lost >= LINES && whole + lost <= LINES + 1); /* one may be torn */
    assert_int_equal(told + told_lost(), lost);
    assert_true(n > 0 && count("log.lost") == 1 && count("row.after") == 1 && !strstr(said, "row.of_lines"));
    assert_string_equal(said + n - 9, "a person\n");
}

static void a_log_that_nobody_reads_is_lost_in_lines_and_counted(void **state)
{
    (void)state;
    for (int json = 0; json < 2; json++) {
        log_json = json;
        a_log_is_lost_and_counted(make_pipe);
        a_log_is_lost_and_counted(make_sockets);
    }
    log_json = 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_nobody_reads_is_not_waited_for, no_waiting),
        cmocka_unit_test_setup(a_pipe_that_cannot_be_opened_again_is_looked_at, no_waiting),
        cmocka_unit_test_setup(a_file_is_written_where_its_others_are, no_waiting),
        cmocka_unit_test_setup(a_log_that_nobody_reads_is_lost_in_lines_and_counted, no_waiting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
