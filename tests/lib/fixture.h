/* fixture.h - the collections of answers with what an independent reader says they mean: index.json and the bodies beside it.
 *
 * tests/fixtures is ours. PERDURE_FIXTURES names a larger collection in the same format; without it, ../shared/fixtures is
 * taken when it is there. PERDURE_FIXTURES_REQUIRED=1 makes a missing collection a failure.
 *
 * Nothing here needs cmocka: programs use it too. */
#ifndef PERDURE_TESTS_FIXTURE_H
#define PERDURE_TESTS_FIXTURE_H

#include "base/arena.h"
#include "base/buf.h"
#include "dialect/codec.h"

#define FIXTURES_OURS "tests/fixtures"

struct fixture {
    const char *file;          /* in its collection's folder: "gemini/gemini-tool-1.sse" */
    struct span dialect;       /* "openai-chat" */
    const struct codec *codec; /* that reads it; NULL: a list of models */
    enum framing framing;      /* of a stream */
    struct json entry;         /* its object in index.json */
    struct json expected;      /* entry.expected */
    struct span body;          /* the bytes */
    bool streaming;
    struct arena *arena; /* for what lives as long as the fixture */
    unsigned faults;     /* the visitor's count */
};

typedef void fixture_fn(void *ctx, struct fixture *f);

/* Visits each fixture of a format that we read, in the index's order; everything in it lives until `fn` returns. PD_NOTFOUND: there is no index;
 * PD_IO: a body that the index names cannot be read; PD_SYNTAX: the index is no JSON. */
pd_err fixtures_each(const char *folder, fixture_fn *fn, void *ctx) PD_CHECKED;
/* The folder of the larger collection; NULL: there is none. */
const char *fixtures_recorded(void);
/* Whether it must be there. */
bool fixtures_required(void);

/* The answer's bytes as `to` has them, by way of its encoder; those of a streamed one are fed in one piece. *ret_end: whether the fixture is a
 * complete answer; only then is there anything in `out`. What reader and encoder return. */
pd_err fixture_encode(struct fixture *f, const struct codec *to, bool streamed, struct buf *out,
                      enum answer_end *ret_end) PD_CHECKED;

/* expected.NAME as text in the fixture's arena; null, absent and out of memory are the empty text. */
struct span fixture_text(struct fixture *f, const char *name);
/* An escaped text with its escapes undone; false: it cannot be. */
bool fixture_plain(struct fixture *f, struct span escaped, struct span *ret);
/* JSON without the white space between its tokens. */
struct span fixture_compact(struct fixture *f, struct span json);

#endif
