/* How long a checkpoint takes until it is acknowledged, and how many bytes a conversation needs:
 *   bench_checkpoints DATABASE FOLDER [COUNT]
 * DATABASE: a SQLite file or postgres://; FOLDER: for snapshots. Prints a table; nothing passes or fails. */
#include "base/clock.h"
#include "base/mem.h"
#include "checkpoint/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>

enum { TURNS = 200, TALK_BYTES = 400 * 1000 };

static struct checkpoints *c;
static char why[DB_WHY_BYTES];

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void must(pd_err e, const char *what)
{
    if (!e)
        return;
    fprintf(stderr, "bench_checkpoints: %s: %s\n", what, *why ? why : pd_err_text(e));
    exit(1);
}

/* Words that compress as text does. */
static char *text_of(size_t n, unsigned seed)
{
    static const char *const words[] = {"read", "the",   "file",   "and",   "found", "that", "buffer",
                                        "is",   "freed", "twice",  "while", "error", "path", "line",
                                        "test", "fix",   "return", "value", "loop",  "state"};
    char *out = mem_alloc(n + 40);
    uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    if (!out)
        exit(1);
    size_t at = 0;
    out[at++] = '"';
    while (at < n - 1) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        int k = x % 5 == 0 ? snprintf(out + at, 30, "%x ", (unsigned)(x >> 40))
                           : snprintf(out + at, 30, "%s ", words[(x >> 8) % 20]);
        at += (size_t)k;
    }
    out[n - 1] = '"';
    out[n] = '\0';
    return out;
}

static void states(const char *name, size_t bytes, unsigned count)
{
    uint64_t *us = mem_calloc(count, sizeof(*us));
    char id[CHECKPOINT_ID_BYTES];
    for (unsigned i = 0; us && i < count; i++) {
        char *state = text_of(bytes, i + 1);
        struct checkpoint cp = {
            .agent = span_str(name), .step_index = i, .state = span_str(state), .reason = SPAN_LIT("step")};
        uint64_t began = clock_mono_us();
        must(checkpoint_create(c, &cp, id, why, sizeof(why)), "create");
        us[i] = clock_mono_us() - began;
        mem_free(state);
    }
    if (!us)
        exit(1);
    qsort(us, count, sizeof(*us), by_size);
    printf("%-8s %8zu bytes  %4u made  p50 %6.2f ms  p99 %6.2f ms  worst %6.2f ms\n", name, bytes, count,
           (double)us[count / 2] / 1e3, (double)us[count * 99 / 100] / 1e3, (double)us[count - 1] / 1e3);
    mem_free(us);
}

static void conversation(void)
{
    struct span messages[2 * TURNS];
    struct checkpoints_stats before, after;
    struct buf whole = {0}, packed = {0};
    uint64_t naive = 0, naive_packed = 0, began = 0, took = 0;
    char id[CHECKPOINT_ID_BYTES];
    for (unsigned i = 0; i < 2 * TURNS; i++)
        messages[i] = span_str(text_of(TALK_BYTES / (2 * TURNS), 1000 + i));
    checkpoints_stats(c, &before);
    for (unsigned i = 1; i <= TURNS; i++) {
        struct checkpoint cp = {
            .agent = SPAN_LIT("session:s-bench"), .step_index = -1, .reason = SPAN_LIT("turn")};
        cp.messages = messages;
        cp.messages_count = 2 * (size_t)i;
        began = clock_mono_us();
        must(checkpoint_create(c, &cp, id, why, sizeof(why)), "create");
        took += clock_mono_us() - began;
        must(buf_add(&whole, messages[2 * i - 2]) ? PD_NOMEM : buf_add(&whole, messages[2 * i - 1]), "memory");
        naive += buf_size(&whole);
        buf_clear(&packed);
        must(content_pack(buf_span(&whole), &packed), "pack");
        naive_packed += buf_size(&packed);
    }
    checkpoints_stats(c, &after);
    printf(
        "turns    %8zu bytes  %4d made  mean %5.2f ms  stored %.2f MB; full copies %.1f MB, compressed %.1f MB\n",
        buf_size(&whole), TURNS, (double)took / TURNS / 1e3,
        (double)(after.stored_bytes - before.stored_bytes) / 1e6, (double)naive / 1e6, (double)naive_packed / 1e6);
    for (unsigned i = 0; i < 2 * TURNS; i++)
        mem_free((void *)(uintptr_t)messages[i].p);
    buf_done(&whole);
    buf_done(&packed);
}

int main(int argc, char **argv)
{
    struct db_rules r;
    struct checkpoints_rules rules;
    struct db *db = NULL;
    struct objects *o = NULL;
    uint64_t count = 300;
    if (argc < 3 || (argc > 3 && !span_u64(span_str(argv[3]), &count)) || count < 1)
        return 2;
    db_rules_default(&r);
    checkpoints_rules_default(&rules);
    must(db_open(argv[1], &r, &db, why, sizeof(why)), argv[1]);
    must(objects_open(argv[2], conf_getenv, NULL, &o, why, sizeof(why)), argv[2]);
    must(checkpoints_open(db, o, &rules, &c), "open");
    states("10-KB", 10 * 1000, (unsigned)count);
    states("1-MB", 1000 * 1000, (unsigned)count);
    conversation();
    uint64_t began = clock_mono_us();
    bool settled = checkpoints_settle(c, 120 * 1000);
    printf("the object store is %s %.2f s later\n", settled ? "as far as the database" : "behind",
           (double)(clock_mono_us() - began) / 1e6);
    checkpoints_close(c);
    db_close(db);
    objects_close(o);
    return 0;
}
