/* fuzz_profile.c - any text is a profile file: what is found lies in it, and reading its copy with CRLF line ends finds the same. */
#include "base/buf.h"
#include "credential/profile.h"

#include <stdlib.h>

#define MUST(x)      \
    do {             \
        if (!(x))    \
            abort(); \
    } while (0)

static void lies_in(struct span part, struct span whole)
{
    MUST(part.n == 0 || (part.p >= whole.p && part.p + part.n <= whole.p + whole.n));
}

static void same(struct span a, struct span b)
{
    MUST(span_eq(a, b));
}

static void check(struct span text, enum profile_file file, struct span name)
{
    struct profile p, q;
    unsigned line = 0, crlf_line = 0;
    pd_err e = profile_read(text, file, name, &p, &line);
    MUST(e == PD_OK || (e == PD_SYNTAX && line > 0));
    if (!e) {
        lies_in(p.access_key_id, text);
        lies_in(p.secret_access_key, text);
        lies_in(p.session_token, text);
    }
    struct buf crlf;
    buf_init(&crlf, 0);
    for (struct span rest = text; rest.n;) {
        struct span one = span_cut(&rest, '\n');
        MUST(buf_add(&crlf, one) == PD_OK);
        if (rest.p)
            MUST(buf_puts(&crlf, "\r\n") == PD_OK);
    }
    MUST(profile_read(buf_span(&crlf), file, name, &q, &crlf_line) == e);
    MUST(crlf_line == line);
    if (!e) {
        MUST(p.found == q.found);
        same(p.access_key_id, q.access_key_id);
        same(p.secret_access_key, q.secret_access_key);
        same(p.session_token, q.session_token);
        same(p.role_arn, q.role_arn);
        same(p.sso, q.sso);
    }
    buf_done(&crlf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = span_of((const char *)data, size);
    check(text, PROFILE_CREDENTIALS, SPAN_LIT("default"));
    check(text, PROFILE_CREDENTIALS, SPAN_LIT("a"));
    check(text, PROFILE_CONFIG, SPAN_LIT("default"));
    check(text, PROFILE_CONFIG, SPAN_LIT("a"));
    return 0;
}
