/* What an agent says reaches a reader that reads, however slowly, and holds nobody up when it does not. */
#include "test.h"
#include "torture.h"

#include "base/mem.h"
#include "task/pass.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { PATIENCE = 1000, ROOM = 65536 };

static int ends[2];
static struct pass pass;
static char heard[4 << 20];
static size_t heard_bytes;
static unsigned line;

static int open_pipe(void **state)
{
    (void)state;
    heard_bytes = line = 0;
    signal(SIGPIPE, SIG_IGN);
    alarm(60); /* who waits is ended */
    if (pipe2(ends, O_CLOEXEC) != 0 || fcntl(ends[1], F_SETPIPE_SZ, OUTLET_PIPE_BYTES) < 0)
        return -1;
    pass_open(&pass, ends[1], PATIENCE);
    return 0;
}

static int close_pipe(void **state)
{
    (void)state;
    pass_close(&pass);
    if (ends[0] >= 0)
        close(ends[0]);
    close(ends[1]);
    return 0;
}

static void hear(size_t most)
{
    struct pollfd p = {ends[0], POLLIN, 0};
    while (most && poll(&p, 1, 0) > 0) {
        size_t room = sizeof(heard) - 1 - heard_bytes;
        ssize_t n = read(ends[0], heard + heard_bytes, most < room ? most : room);
        assert_true(n > 0);
        heard_bytes += (size_t)n;
        most -= (size_t)n;
    }
    heard[heard_bytes] = '\0';
}

/* Numbered lines of 8 bytes, so that a gap shows. */
static void say(unsigned lines, uint64_t now)
{
    char text[10];
    while (lines--) {
        snprintf(text, sizeof(text), "%07u\n", line++ % 10000000);
        pass_put(&pass, span_of(text, 8), now);
    }
}

static unsigned fill(uint64_t now)
{
    while (pass.state == PASS_READ)
        say(1, now);
    return line;
}

/* Heard are the lines from..to. */
static const char *lines_of(const char *at, unsigned from, unsigned to)
{
    char text[10];
    for (unsigned i = from; i < to; i++, at += 8) {
        snprintf(text, sizeof(text), "%07u\n", i);
        if (memcmp(at, text, 8) != 0)
            fail_msg("line %u is \"%.20s\"", i, at);
    }
    return at;
}

static void a_slow_reader_loses_nothing(void **state)
{
    (void)state;
    uint64_t now = 5;
    for (unsigned i = 0; i < 300; i++) {
        if (pass.state == PASS_READ)
            say(4000, now);
        if (pass.state == PASS_HELD)
            hear(10000);
        now += PATIENCE - 1; /* the time is up, but for one millisecond */
        pass_on(&pass, now);
        assert_true(pass.state != PASS_UNREAD);
    }
    while (pass_waits(&pass)) {
        hear(ROOM);
        pass_on(&pass, now);
    }
    hear(SIZE_MAX);
    assert_true(pass.state == PASS_READ && pass.lost_all == 0 && line > 20000);
    assert_ptr_equal(lines_of(heard, 0, line), heard + heard_bytes);
}

static void who_does_not_read_is_told_how_much_is_left_out(void **state)
{
    (void)state;
    char want[100];
    unsigned held = fill(5);
    say(100, 6); /* as at its end: all that it left */
    pass_on(&pass, 5 + PATIENCE - 1);
    assert_int_equal(pass.state, PASS_HELD);
    pass_on(&pass, 5 + PATIENCE);
    assert_int_equal(pass.state, PASS_UNREAD);
    say(1000, 5 + PATIENCE);
    assert_int_equal(pass.lost, 8000);
    hear(ROOM); /* it reads again */
    say(10, 5 + PATIENCE);
    assert_int_equal(pass.state, PASS_READ);
    hear(SIZE_MAX);
    const char *at = lines_of(heard, 0, held + 100);
    snprintf(want, sizeof(want), "\n[perdure supervise: 8000 bytes left out here, which nobody read]\n");
    assert_memory_equal(at, want, strlen(want));
    at = lines_of(at + strlen(want), held + 1100, held + 1110);
    assert_ptr_equal(at, heard + heard_bytes);
    assert_int_equal(pass.lost_all, 8000);
    fill(9000); /* and the next time it has all its patience again */
    pass_on(&pass, 9000 + PATIENCE - 1);
    assert_int_equal(pass.state, PASS_HELD);
}

static void what_waits_has_a_limit_and_a_gap_comes_before_what_follows(void **state)
{
    (void)state;
    fill(5);
    say(2 * PASS_KEPT_MAX / 8, 6);
    assert_true(buf_size(&pass.waits) <= PASS_KEPT_MAX && pass.state == PASS_HELD && pass.lost > 0);
    unsigned long long lost = pass.lost;
    hear(8192);
    say(1, 7); /* there would be room for it, but not before the line that tells of the gap */
    while (pass_waits(&pass)) {
        hear(ROOM);
        pass_on(&pass, 8);
    }
    say(1, 8);
    hear(SIZE_MAX);
    const char *at = lines_of(heard, 0, line - 2 - (unsigned)lost / 8);
    assert_int_equal(strtoull(strchr(at, ':') + 1, NULL, 10), lost + 8);
    (void)lines_of(heard + heard_bytes - 8, line - 1, line);
}

static void the_line_that_tells_of_a_gap_waits_for_room_too(void **state)
{
    (void)state;
    enum { PAGE = 4096 }; /* the kernel gives a pipe room by pages */
    fill(5);
    say(PAGE / 8 - 1, 5);
    assert_int_equal(buf_size(&pass.waits), PAGE);
    pass_on(&pass, 5 + PATIENCE);
    say(10, 5 + PATIENCE);
    assert_int_equal(pass.state, PASS_UNREAD);
    hear(PAGE);
    pass_on(&pass, 6 + PATIENCE);
    assert_true(pass.state == PASS_HELD && pass_waits(&pass) && pass.lost == 0);
    hear(SIZE_MAX);
    pass_on(&pass, 6 + PATIENCE);
    hear(SIZE_MAX);
    assert_true(pass.state == PASS_READ && strstr(heard, "80 bytes left out"));
}

static void a_reader_that_is_gone_holds_nobody_up(void **state)
{
    (void)state;
    fill(5);
    close(ends[0]);
    ends[0] = -1;
    pass_on(&pass, 6);
    say(1000, 7);
    assert_true(pass.state == PASS_READ && !pass_waits(&pass) && pass.lost_all == 0);
}

static pd_err held_and_read(void *ctx)
{
    (void)ctx;
    void *none = NULL;
    assert_int_equal(open_pipe(&none), 0);
    char big[8192];
    memset(big, 'x', sizeof(big));
    size_t all = 0;
    for (unsigned i = 0; i < 140; i++, all += sizeof(big))
        pass_put(&pass, span_of(big, sizeof(big)), 5);
    bool lost = pass.lost_all > 0;
    for (unsigned i = 0; i < 40; i++) {
        hear(ROOM);
        pass_on(&pass, 6);
    }
    hear(SIZE_MAX);
    bool told = strstr(heard, "left out") != NULL;
    assert_true(heard_bytes >= all - pass.lost_all);
    assert_true(told == lost);
    close_pipe(&none);
    return lost ? PD_NOMEM : PD_OK;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    assert_true(torture(held_and_read, NULL) >= 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_pipe, close_pipe)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_slow_reader_loses_nothing),
        TEST(who_does_not_read_is_told_how_much_is_left_out),
        TEST(what_waits_has_a_limit_and_a_gap_comes_before_what_follows),
        TEST(the_line_that_tells_of_a_gap_waits_for_room_too),
        TEST(a_reader_that_is_gone_holds_nobody_up),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
