/* What a client had of its answer, through the journal and back: in any pieces, of two writers, with pieces missing, and never more than there was. */
#include "relay/recall.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "state/folder.h"
#include "torture.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test.h"

enum { KEEP_MS = 60000 };

static char folder[64];

static void each_file(void (*fn)(const char *path))
{
    DIR *d = opendir(folder);
    struct dirent *e;
    char path[400];
    assert_non_null(d);
    while ((e = readdir(d)))
        if (e->d_name[0] != '.') {
            snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
            fn(path);
        }
    closedir(d);
}

static void remove_file(const char *path)
{
    (void)unlink(path);
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/perdure-recall-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    each_file(remove_file);
    return rmdir(folder);
}

static struct journal *open_journal(void)
{
    struct journal_rules rules;
    struct journal *j;
    journal_rules_default(&rules);
    assert_int_equal(journal_open(folder, &rules, 0, &j), PD_OK);
    return j;
}

static void say(struct kept_answer *a, const char *text)
{
    struct msg_delta d = {.kind = MSG_TEXT, .tool = -1, .text = span_str(text)};
    assert_int_equal(shown_add(&a->shown, &d), PD_OK);
}

static struct kept_answer *begin(struct kept_table *k, const char *id, uint64_t n)
{
    struct kept_answer *a = kept_begin(k, id, &codec_openai_chat);
    assert_non_null(a);
    a->key = (struct kept_key){n, n + 1, 0};
    a->began_wall_ms = 1234;
    a->include_usage = true;
    assert_int_equal(shown_identity(&a->shown, SPAN_LIT("chatcmpl-1"), SPAN_LIT("big-model"), 77), PD_OK);
    return a;
}

static void on_record(void *ctx, const struct journal_record *r)
{
    recall_record(ctx, r);
}

/* All that the folder holds, as after a start. */
static unsigned recall(struct kept_table *k, uint64_t keep_ms, uint64_t wall_ms)
{
    struct recall_search *s = recall_search_new(k);
    struct journal_reader *r = journal_reader_new(folder);
    assert_non_null(s);
    assert_non_null(r);
    assert_int_equal(journal_read(r, on_record, s), PD_OK);
    unsigned n = recall_take(s, NULL, keep_ms, true, wall_ms, 10);
    recall_search_free(s);
    journal_reader_free(r);
    return n;
}

static bool text_is(const struct kept_answer *a, const char *want)
{
    struct buf b = {0};
    assert_int_equal(shown_text(&a->shown, &b), PD_OK);
    bool same = span_is(buf_span(&b), want);
    buf_done(&b);
    return same;
}

static struct kept_answer *find(struct kept_table *k, uint64_t n)
{
    bool taken;
    return kept_find(k, &(struct kept_key){n, n + 1, 0}, 20, &taken);
}

static void what_was_written_in_pieces_comes_back_as_one(void **state)
{
    (void)state;
    static const enum kept_state ends[] = {KEPT_RUNNING, KEPT_PART, KEPT_WHOLE, KEPT_GONE};
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        struct kept_table *k = kept_new(1 << 20, KEEP_MS), *later = kept_new(1 << 20, KEEP_MS);
        struct journal *j = open_journal();
        struct kept_answer *a = begin(k, "c-0000000000000001", 5);
        struct recall c = {0};
        say(a, "one ");
        recall_write(&c, j, a, RECALL_FROM_MS, 1000);
        say(a, "two ");
        recall_write(&c, j, a, RECALL_FROM_MS + 10, 1010); /* too early: it waits */
        assert_true(c.at < shown_end(&a->shown));
        recall_write(&c, j, a, 2 * RECALL_FROM_MS, 1000 + RECALL_EVERY_MS);
        assert_int_equal(c.at, shown_end(&a->shown));
        if (ends[i] != KEPT_RUNNING) {
            say(a, "three");
            a->finish = MSG_FINISH_STOP;
            a->usage.output_total = 9;
            recall_ended(&c, j, a, ends[i]);
        }
        assert_true(journal_flush(j));
        journal_close(j);
        unsigned n = recall(later, KEEP_MS, clock_wall_ms());
        assert_int_equal(n, ends[i] == KEPT_GONE ? 0 : 1);
        struct kept_answer *b = find(later, 5);
        assert_int_equal(b != NULL, ends[i] != KEPT_GONE);
        if (b) {
            assert_true(text_is(b, ends[i] == KEPT_RUNNING ? "one two " : "one two three"));
            assert_string_equal(b->id, "c-0000000000000001");
            assert_true(span_is(shown_id(&b->shown), "chatcmpl-1"));
            assert_true(span_is(shown_model(&b->shown), "big-model"));
            assert_int_equal(b->shown.created, 77);
            assert_int_equal(b->began_wall_ms, 1234);
            assert_true(b->include_usage && b->codec == &codec_openai_chat);
            assert_int_equal(b->state, ends[i] == KEPT_WHOLE ? KEPT_WHOLE : KEPT_RUNNING); /* a part: taken */
        }
        if (b && ends[i] == KEPT_WHOLE) {
            assert_int_equal(b->finish, MSG_FINISH_STOP);
            assert_int_equal(b->usage.output_total, 9);
        }
        kept_unref(b);
        kept_unref(a);
        kept_free(k);
        kept_free(later);
        each_file(remove_file);
    }
}

static void a_stream_that_ends_soon_is_never_written(void **state)
{
    (void)state;
    struct kept_table *k = kept_new(1 << 20, KEEP_MS), *later = kept_new(1 << 20, KEEP_MS);
    struct journal *j = open_journal();
    struct kept_answer *a = begin(k, "c-1", 5);
    struct recall c = {0};
    say(a, "secret");
    recall_write(&c, j, a, RECALL_FROM_MS - 1, 1000);
    recall_ended(&c, j, a, KEPT_GONE);
    recall_write(&c, NULL, a, 10000, 10000); /* there may be no journal at all */
    recall_ended(&c, NULL, a, KEPT_PART);
    struct journal_stats st;
    journal_stats(j, &st);
    assert_true(journal_flush(j));
    journal_stats(j, &st);
    assert_int_equal(st.records, 0);
    journal_close(j);
    kept_unref(a);
    kept_free(k);
    kept_free(later);
}

static void much_at_once_does_not_wait_for_its_time(void **state)
{
    (void)state;
    struct kept_table *k = kept_new(1 << 20, KEEP_MS);
    struct journal *j = open_journal();
    struct kept_answer *a = begin(k, "c-1", 5);
    struct recall c = {0};
    char piece[512];
    memset(piece, 'y', sizeof(piece) - 1);
    piece[sizeof(piece) - 1] = '\0';
    say(a, "a");
    recall_write(&c, j, a, RECALL_FROM_MS, 1000);
    for (size_t n = 0; n < RECALL_PIECE_BYTES; n += sizeof(piece) - 1)
        say(a, piece);
    recall_write(&c, j, a, RECALL_FROM_MS + 1, 1001);
    assert_int_equal(c.at, shown_end(&a->shown));
    journal_close(j);
    kept_unref(a);
    kept_free(k);
}

/* ---- records by hand ---- */

struct heard {
    uint32_t kind[16];
    uint64_t id[16], time_us[16];
    struct buf payload[16];
    unsigned count;
};

static void hear(void *ctx, const struct journal_record *r)
{
    struct heard *h = ctx;
    if (h->count == 16)
        return;
    h->kind[h->count] = r->kind;
    h->id[h->count] = r->id;
    h->time_us[h->count] = r->time_us;
    assert_int_equal(buf_add(&h->payload[h->count++], r->payload), PD_OK);
}

static void done(struct heard *h)
{
    for (unsigned i = 0; i < h->count; i++)
        buf_done(&h->payload[i]);
}

/* Begin, three pieces, an end. */
static void write_five(struct heard *h, enum kept_state as)
{
    struct kept_table *k = kept_new(1 << 20, KEEP_MS);
    struct journal *j = open_journal();
    struct kept_answer *a = begin(k, "c-1", 5);
    struct recall c = {0};
    static const char *const pieces[] = {"one ", "two ", "three"};
    for (unsigned i = 0; i < 3; i++) {
        say(a, pieces[i]);
        recall_write(&c, j, a, 1000 + i * 1000, 1000 + i * 1000);
    }
    recall_ended(&c, j, a, as);
    assert_true(journal_flush(j));
    journal_close(j);
    struct journal_reader *r = journal_reader_new(folder);
    assert_int_equal(journal_read(r, hear, h), PD_OK);
    journal_reader_free(r);
    assert_int_equal(h->count, 5);
    kept_unref(a);
    kept_free(k);
}

static struct journal_record record(const struct heard *h, unsigned i)
{
    return (struct journal_record){
        .kind = h->kind[i], .id = h->id[i], .time_us = h->time_us[i], .payload = buf_span(&h->payload[i])};
}

/* What comes of these records when those whose bit is set in `lost` are missing. NULL: nothing. */
static struct kept_answer *without(const struct heard *h, unsigned lost, struct kept_table *k)
{
    struct recall_search *s = recall_search_new(k);
    assert_non_null(s);
    for (unsigned i = 0; i < h->count; i++) {
        struct journal_record r = record(h, i);
        if (!(lost & (1u << i)))
            recall_record(s, &r);
    }
    recall_take(s, NULL, KEEP_MS, true, clock_wall_ms(), 10);
    recall_search_free(s);
    return find(k, 5);
}

static void with_any_records_missing_what_comes_back_is_a_beginning_of_what_was_shown(void **state)
{
    (void)state;
    struct heard h = {.count = 0};
    write_five(&h, KEPT_WHOLE);
    unsigned whole = 0, part = 0;
    for (unsigned lost = 0; lost < 32; lost++) {
        struct kept_table *k = kept_new(1 << 20, KEEP_MS);
        struct kept_answer *a = without(&h, lost, k);
        if (a && a->state == KEPT_WHOLE) {
            assert_true(text_is(a, "one two three"));
            whole++;
        } else if (a) {
            assert_true(text_is(a, "one ") || text_is(a, "one two ") || text_is(a, "one two three"));
            part++;
        }
        kept_unref(a);
        kept_free(k);
    }
    assert_int_equal(whole, 1);
    assert_true(part >= 3); /* without the end: after one, two and three pieces */
    done(&h);
}

static void a_torn_record_spoils_its_answer_alone(void **state)
{
    (void)state;
    struct heard h = {.count = 0};
    write_five(&h, KEPT_PART);
    for (unsigned i = 0; i < 5; i++)
        for (size_t n = 0; n < buf_size(&h.payload[i]); n++) {
            struct kept_table *k = kept_new(1 << 20, KEEP_MS);
            struct recall_search *s = recall_search_new(k);
            struct heard other = {.count = 0};
            for (unsigned m = 0; m < 5; m++) {
                struct journal_record r = record(&h, m);
                if (m == i)
                    r.payload = span_upto(r.payload, n);
                recall_record(s, &r);
                r = record(&h, m); /* the same, of another call */
                r.id++;
                recall_record(s, &r);
            }
            unsigned count = recall_take(s, NULL, KEEP_MS, true, clock_wall_ms(), 10);
            assert_int_equal(count, 1); /* the other one */
            struct kept_answer *a = find(k, 5);
            assert_true(a && text_is(a, "one two three"));
            kept_unref(a);
            done(&other);
            recall_search_free(s);
            kept_free(k);
        }
    done(&h);
}

static void two_processes_write_at_once(void **state)
{
    (void)state;
    struct kept_table *k = kept_new(1 << 20, KEEP_MS), *later = kept_new(1 << 20, KEEP_MS);
    struct journal *old = open_journal(), *fresh = open_journal();
    struct kept_answer *a = begin(k, "c-1", 5), *b = begin(k, "c-2", 6);
    struct recall ca = {0}, cb = {0};
    for (uint64_t i = 1; i <= 3; i++) {
        say(a, "old ");
        say(b, "new ");
        recall_write(&ca, old, a, 1000 * i, 1000 * i);
        recall_write(&cb, fresh, b, 1000 * i, 1000 * i);
    }
    recall_ended(&ca, old, a, KEPT_PART);
    assert_true(journal_flush(old) && journal_flush(fresh));
    struct recall_search *s = recall_search_new(later);
    struct journal_reader *r = journal_reader_new(folder);
    assert_int_equal(journal_read(r, on_record, s), PD_OK);
    /* while the other process may still write, only what has ended is taken */
    assert_int_equal(recall_take(s, NULL, KEEP_MS, false, clock_wall_ms(), 10), 1);
    struct kept_answer *found = find(later, 5);
    assert_true(found && text_is(found, "old old old "));
    assert_null(find(later, 6));
    say(b, "end");
    recall_ended(&cb, fresh, b, KEPT_WHOLE);
    assert_true(journal_flush(fresh));
    assert_int_equal(journal_read(r, on_record, s), PD_OK);
    assert_int_equal(recall_take(s, NULL, KEEP_MS, false, clock_wall_ms(), 10), 1);
    kept_unref(found);
    found = find(later, 6);
    assert_true(found && text_is(found, "new new new end") && found->state == KEPT_WHOLE);
    kept_unref(found);
    recall_search_free(s);
    journal_reader_free(r);
    journal_close(old);
    journal_close(fresh);
    kept_unref(a);
    kept_unref(b);
    kept_free(k);
    kept_free(later);
}

static void one_that_is_older_than_what_is_kept_is_left(void **state)
{
    (void)state;
    struct heard h = {.count = 0};
    struct kept_table *k = kept_new(1 << 20, KEEP_MS);
    write_five(&h, KEPT_PART);
    uint64_t last_ms = h.time_us[4] / 1000;
    assert_int_equal(recall(k, KEEP_MS, last_ms + KEEP_MS), 0);
    assert_int_equal(recall(k, KEEP_MS, last_ms + KEEP_MS - 1), 1);
    done(&h);
    kept_free(k);
}

/* What cannot be gone on with is not kept: a call to a tool was whole but for its end, and is asked anew. */
static void what_was_under_way_with_a_tool_call_is_left(void **state)
{
    (void)state;
    static const enum kept_state ends[] = {KEPT_RUNNING, KEPT_WHOLE};
    for (unsigned i = 0; i < 2; i++) {
        struct kept_table *k = kept_new(1 << 20, KEEP_MS), *later = kept_new(1 << 20, KEEP_MS);
        struct journal *j = open_journal();
        struct kept_answer *a = begin(k, "c-1", 5);
        struct recall c = {0};
        struct msg_delta start = {
            .kind = MSG_TOOL_START, .tool = 0, .id = SPAN_LIT("t1"), .text = SPAN_LIT("look")};
        struct msg_delta args = {.kind = MSG_TOOL_ARGUMENTS, .tool = 0, .text = SPAN_LIT("{}")};
        say(a, "let me see");
        assert_int_equal(shown_add(&a->shown, &start), PD_OK);
        assert_int_equal(shown_add(&a->shown, &args), PD_OK);
        recall_write(&c, j, a, 1000, 1000);
        if (ends[i] == KEPT_WHOLE)
            recall_ended(&c, j, a, KEPT_WHOLE);
        assert_true(journal_flush(j));
        journal_close(j);
        assert_int_equal(recall(later, KEEP_MS, clock_wall_ms()), ends[i] == KEPT_WHOLE);
        kept_unref(a);
        kept_free(k);
        kept_free(later);
        each_file(remove_file);
    }
}

static void what_is_taken_is_written_again_for_the_next_start(void **state)
{
    (void)state;
    struct heard h = {.count = 0};
    write_five(&h, KEPT_PART);
    done(&h);
    for (int start = 0; start < 3; start++) {
        struct kept_table *k = kept_new(1 << 20, KEEP_MS);
        struct recall_search *s = recall_search_new(k);
        struct journal_reader *r = journal_reader_new(folder);
        assert_int_equal(journal_read(r, on_record, s), PD_OK);
        struct journal *j = open_journal();
        assert_int_equal(recall_take(s, j, KEEP_MS, true, clock_wall_ms(), 10), 1);
        assert_int_equal(journal_settle(j, r), PD_OK);
        recall_search_free(s);
        journal_reader_free(r);
        struct kept_answer *a = find(k, 5);
        assert_true(a && text_is(a, "one two three"));
        kept_unref(a);
        journal_close(j);
        kept_free(k);
    }
}

static void seen_mode(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void only_the_owner_may_read_what_is_kept(void **state)
{
    (void)state;
    struct heard h = {.count = 0};
    mode_t before = umask(0);
    write_five(&h, KEPT_PART);
    umask(before);
    each_file(seen_mode);
    done(&h);
}

/* ---- no memory ---- */

static pd_err read_all(void *ctx)
{
    const struct heard *h = ctx;
    struct kept_table *k = kept_new(1 << 20, KEEP_MS);
    struct recall_search *s = k ? recall_search_new(k) : NULL;
    for (unsigned i = 0; s && i < h->count; i++) {
        struct journal_record r = record(h, i);
        recall_record(s, &r);
    }
    unsigned n = s ? recall_take(s, NULL, KEEP_MS, true, clock_wall_ms(), 10) : 0;
    if (n) {
        struct kept_answer *a = find(k, 5);
        assert_true(a && a->shown.text_bytes == strlen("one two three")); /* all of it, or nothing */
        kept_unref(a);
    }
    recall_search_free(s);
    kept_free(k);
    return n ? PD_OK : PD_NOMEM;
}

static void each_failed_allocation_leaves_all_or_nothing(void **state)
{
    (void)state;
    struct heard h = {.count = 0};
    write_five(&h, KEPT_WHOLE);
    mem_big_trim();
    assert_true(torture(read_all, &h) >= 5);
    done(&h);
}

int main(void)
{
    log_threshold = LOG_ERROR;
#define ROW(fn) cmocka_unit_test_setup_teardown(fn, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        ROW(what_was_written_in_pieces_comes_back_as_one),
        ROW(a_stream_that_ends_soon_is_never_written),
        ROW(much_at_once_does_not_wait_for_its_time),
        ROW(with_any_records_missing_what_comes_back_is_a_beginning_of_what_was_shown),
        ROW(a_torn_record_spoils_its_answer_alone),
        ROW(two_processes_write_at_once),
        ROW(one_that_is_older_than_what_is_kept_is_left),
        ROW(what_was_under_way_with_a_tool_call_is_left),
        ROW(what_is_taken_is_written_again_for_the_next_start),
        ROW(only_the_owner_may_read_what_is_kept),
        ROW(each_failed_allocation_leaves_all_or_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
