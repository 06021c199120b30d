#include "peer.h"

#include "net/asker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNKED "HTTP/1.1 %d x\r\nTransfer-Encoding: chunked\r\n\r\n"

/* Answers with a status, one piece, and after a word another one and the end. */
static void two_pieces(struct peer *p, void *arg)
{
    char head[100];
    struct link *k = peer_accept(p);
    peer_check(p, link_request(k, NULL));
    snprintf(head, sizeof(head), CHUNKED "3\r\none\r\n", *(const int *)arg);
    link_send(k, head);
    peer_wait(p);
    link_send(k, "3\r\ntwo\r\n0\r\n\r\n");
    link_close(k);
}

struct heard {
    struct peer *peer;
    struct buf text;
    unsigned pieces, looks;
    pd_err err; /* what a piece is answered with */
    struct asker *other;
};

static pd_err on_piece(void *ctx, struct span bytes)
{
    struct heard *h = ctx;
    h->pieces++;
    assert_int_equal(buf_add(&h->text, bytes), PD_OK);
    return h->err;
}

static void on_look(void *ctx)
{
    struct heard *h = ctx;
    if (h->pieces == 1 && ++h->looks == 2)
        peer_go(h->peer);
}

static pd_err ask(struct heard *h, struct asker_answer *ret)
{
    struct asker *a;
    const struct asker_question q = {.method = "GET",
                                     .path = "/",
                                     .limit_ms = PEER_PATIENCE_MS,
                                     .answer_bytes = 1000,
                                     .piece = on_piece,
                                     .look = on_look,
                                     .look_ms = 10,
                                     .ctx = h};
    assert_int_equal(asker_new(h->peer->url, &a), PD_OK);
    pd_err e = asker_ask(a, &q, ret);
    asker_free(a);
    return e;
}

static void pieces_come_as_they_do_and_looks_between_them(void **state)
{
    (void)state;
    int status = 200;
    struct peer p;
    struct asker_answer answer;
    peer_init(&p);
    struct heard h = {.peer = &p};
    peer_run(&p, two_pieces, &status);
    assert_int_equal(ask(&h, &answer), PD_OK);
    assert_true(span_is(buf_span(&h.text), "onetwo"));
    assert_true(h.pieces >= 2 && h.looks >= 2);
    assert_int_equal(buf_size(&answer.body), 0);
    buf_done(&h.text);
    peer_join(&p);
}

static void what_is_no_success_is_collected(void **state)
{
    (void)state;
    int status = 503;
    struct peer p;
    struct asker_answer answer;
    peer_init(&p);
    struct heard h = {.peer = &p};
    peer_go(&p);
    peer_run(&p, two_pieces, &status);
    assert_int_equal(ask(&h, &answer), PD_OK);
    assert_int_equal(answer.status, 503);
    assert_true(span_is(buf_span(&answer.body), "onetwo"));
    assert_int_equal(h.pieces, 0);
    buf_done(&answer.body);
    peer_join(&p);
}

static void a_piece_that_is_not_taken_ends_the_question_at_once(void **state)
{
    (void)state;
    int status = 200;
    struct peer p;
    struct asker_answer answer;
    peer_init(&p);
    struct heard h = {.peer = &p, .err = PD_PROTO};
    peer_run(&p, two_pieces, &status);
    assert_int_equal(ask(&h, &answer), PD_PROTO); /* the second piece has not been sent */
    assert_int_equal(h.pieces, 1);
    peer_go(&p);
    buf_done(&h.text);
    peer_join(&p);
}

/* The other side of the second asker. */
static void one_answer(struct peer *p, void *arg)
{
    (void)arg;
    struct link *k = peer_accept(p);
    peer_check(p, link_request(k, NULL));
    link_send(k, "HTTP/1.1 201 x\r\nContent-Length: 2\r\n\r\nok");
    link_close(k);
}

static void ask_the_other(void *ctx)
{
    struct heard *h = ctx;
    struct asker_answer answer;
    const struct asker_question q = {
        .method = "POST", .path = "/", .limit_ms = PEER_PATIENCE_MS, .answer_bytes = 1000};
    if (h->pieces != 1 || h->looks)
        return;
    h->looks++;
    assert_int_equal(asker_ask(h->other, &q, &answer), PD_OK);
    assert_int_equal(answer.status, 201);
    buf_done(&answer.body);
    peer_go(h->peer);
}

static void a_look_may_ask_another_asker(void **state)
{
    (void)state;
    int status = 200;
    struct peer p, other;
    struct asker *a;
    struct asker_answer answer;
    peer_init(&p);
    peer_init(&other);
    struct heard h = {.peer = &p};
    peer_run(&p, two_pieces, &status);
    peer_run(&other, one_answer, NULL);
    assert_int_equal(asker_new(other.url, &h.other), PD_OK);
    assert_int_equal(asker_new(p.url, &a), PD_OK);
    const struct asker_question q = {.method = "GET",
                                     .path = "/",
                                     .limit_ms = PEER_PATIENCE_MS,
                                     .answer_bytes = 1000,
                                     .piece = on_piece,
                                     .look = ask_the_other,
                                     .look_ms = 10,
                                     .ctx = &h};
    assert_int_equal(asker_ask(a, &q, &answer), PD_OK);
    assert_true(span_is(buf_span(&h.text), "onetwo"));
    assert_int_equal(h.looks, 1);
    asker_free(a);
    asker_free(h.other);
    buf_done(&h.text);
    peer_join(&p);
    peer_join(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_come_as_they_do_and_looks_between_them),
        cmocka_unit_test(what_is_no_success_is_collected),
        cmocka_unit_test(a_piece_that_is_not_taken_ends_the_question_at_once),
        cmocka_unit_test(a_look_may_ask_another_asker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
