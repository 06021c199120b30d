/* serving.c: where the holder of a state folder serves is found as long as it lives, and no longer. */
#include "test.h"

#include "state/serving.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64], path[80];

static int make(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/perdure-serving-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof(path), "%s/serving", folder);
    return 0;
}

static int drop(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder); /* nothing else was left */
}

static struct serving a_serving(const char *url, uint64_t pid)
{
    struct serving s = {.pid = pid, .brief = pid % 2};
    snprintf(s.url, sizeof(s.url), "%s", url);
    return s;
}

static void assert_serves(const char *url, uint64_t pid)
{
    struct serving s;
    assert_int_equal(serving_read(folder, &s), PD_OK);
    assert_string_equal(s.url, url);
    assert_int_equal(s.pid, pid);
    assert_int_equal(s.brief, pid % 2);
}

static void assert_nobody(void)
{
    struct serving s;
    assert_int_equal(serving_read(folder, &s), PD_NOTFOUND);
}

static void it_is_found_until_it_ends(void **state)
{
    (void)state;
    int fd;
    struct serving s = a_serving("http://127.0.0.1:8080", 4711);
    assert_nobody();
    assert_int_equal(serving_write(folder, &s, &fd), PD_OK);
    for (int i = 0; i < 3; i++)
        assert_serves("http://127.0.0.1:8080", 4711);
    serving_end(folder, fd);
    assert_nobody();
    assert_int_equal(access(path, F_OK), -1);
    serving_end(folder, -1);
}

static void a_file_whose_writer_was_killed_says_nothing(void **state)
{
    (void)state;
    int told[2], fd;
    char byte;
    assert_int_equal(pipe(told), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct serving s = a_serving("http://127.0.0.1:1", 6);
        if (serving_write(folder, &s, &fd) != PD_OK || write(told[1], "x", 1) != 1)
            _exit(1);
        pause();
        _exit(0);
    }
    assert_int_equal(read(told[0], &byte, 1), 1);
    assert_serves("http://127.0.0.1:1", 6);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(access(path, F_OK), 0);
    assert_nobody();
    struct serving next = a_serving("http://127.0.0.1:2", 7);
    assert_int_equal(serving_write(folder, &next, &fd), PD_OK);
    assert_serves("http://127.0.0.1:2", 7);
    serving_end(folder, fd);
    close(told[0]), close(told[1]);
}

static void a_successor_takes_its_place_and_its_end_does_not_touch_it(void **state)
{
    (void)state;
    int old, now;
    struct serving s = a_serving("http://127.0.0.1:1", 2), t = a_serving("http://[::1]:1", 4);
    assert_int_equal(serving_write(folder, &s, &old), PD_OK);
    assert_int_equal(serving_write(folder, &t, &now), PD_OK);
    assert_serves("http://[::1]:1", 4);
    serving_end(folder, old);
    assert_serves("http://[::1]:1", 4);
    assert_int_equal(serving_write(folder, &s, &old), PD_OK); /* it did not get ready: the old one says it again */
    serving_end(folder, now);
    assert_serves("http://127.0.0.1:1", 2);
    serving_end(folder, old);
    assert_nobody();
}

/* Whoever looks has it open for a moment, and a lock on it: the next writer has a file of its own. */
static void who_looks_stands_in_nobodys_way(void **state)
{
    (void)state;
    int fd;
    struct serving s = a_serving("http://127.0.0.1:1", 2);
    assert_int_equal(serving_write(folder, &s, &fd), PD_OK);
    close(fd); /* as when it is killed */
    int looks = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(looks >= 0);
    assert_nobody();
    assert_int_equal(serving_write(folder, &s, &fd), PD_OK);
    assert_serves("http://127.0.0.1:1", 2);
    close(looks);
    serving_end(folder, fd);
}

static void what_is_not_whole_says_nothing(void **state)
{
    (void)state;
    static const char *const texts[] = {"",
                                        "\n",
                                        "http://127.0.0.1:8080 1 serve",
                                        "http://x 1x serve\n",
                                        "http://x",
                                        " 1 serve\n",
                                        "http://x  serve\n"};
    int fd;
    struct serving s = a_serving("http://127.0.0.1:1", 2);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_int_equal(serving_write(folder, &s, &fd), PD_OK);
        assert_int_equal(truncate(path, 0), 0);
        assert_int_equal(pwrite(fd, texts[i], strlen(texts[i]), 0), strlen(texts[i]));
        assert_nobody();
        serving_end(folder, fd);
    }
}

static void what_cannot_be_written_is_said_and_leaves_nothing(void **state)
{
    (void)state;
    int fd = -1;
    struct serving s = a_serving("http://127.0.0.1:1", 2);
    assert_int_equal(serving_write("/nowhere/at/all", &s, &fd), PD_IO);
    assert_int_equal(mkdir(path, 0700), 0); /* in the place of the file */
    assert_int_equal(serving_write(folder, &s, &fd), PD_IO);
    assert_int_equal(fd, -1);
    assert_nobody();
    assert_int_equal(rmdir(path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_is_found_until_it_ends, make, drop),
        cmocka_unit_test_setup_teardown(a_file_whose_writer_was_killed_says_nothing, make, drop),
        cmocka_unit_test_setup_teardown(a_successor_takes_its_place_and_its_end_does_not_touch_it, make, drop),
        cmocka_unit_test_setup_teardown(who_looks_stands_in_nobodys_way, make, drop),
        cmocka_unit_test_setup_teardown(what_is_not_whole_says_nothing, make, drop),
        cmocka_unit_test_setup_teardown(what_cannot_be_written_is_said_and_leaves_nothing, make, drop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
