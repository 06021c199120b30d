#include "dialect/codec.h"
#include "front/front_priv.h"
#include "parse/url.h"
#include "relay/relay.h"

#include <stdio.h>
#include <string.h>

#define PREFIX "/agent/"
#define KEY_PREFIX "perdure-agent-"

/* False: it is no name. */
static bool take(struct span name, struct agent *ret)
{
    *ret = (struct agent){0};
    if (!checkpoint_agent_fine(name))
        return false;
    memcpy(ret->name, name.p, name.n);
    return true;
}

/* "/agent/NAME" with escapes undone, as "run%3Atask" has one. */
static bool of_prefix(struct span prefix, struct agent *ret)
{
    char plain[3 * CHECKPOINT_AGENT_BYTES];
    struct span name = span_from(prefix, strlen(PREFIX));
    *ret = (struct agent){0};
    return name.n <= sizeof(plain) && take(span_of(plain, url_unescape(name, plain)), ret);
}

bool agent_skip(struct request *rq)
{
    struct span path = request_path(rq);
    struct agent a;
    if (!span_starts(path, PREFIX))
        return false;
    struct span rest = span_from(path, strlen(PREFIX)), name = span_cut(&rest, '/');
    size_t n = strlen(PREFIX) + name.n;
    if (n == path.n || !of_prefix(span_upto(path, n), &a)) /* nothing stands behind it */
        return false;
    request_skip(rq, n);
    return true;
}

bool agent_of(struct request *rq, const struct endpoint *at, const struct conf_key *key, struct agent *ret)
{
    struct span prefix = request_prefix(rq), said = request_header(rq, "x-perdure-agent"), sent;
    if (prefix.n)
        return of_prefix(prefix, ret);
    if (said.p) {
        if (take(said, ret))
            return true;
        relay_refuse(rq, endpoint_codec(at), 400, "bad_wish",
                     "header x-perdure-agent: write up to 128 letters, digits, '-', '_', '.' and ':'", 0);
        return false;
    }
    *ret = (struct agent){0};
    sent = key ? SPAN_NONE : sent_key(rq);
    if (span_starts(sent, KEY_PREFIX)) /* else it is any word */
        (void)take(span_from(sent, strlen(KEY_PREFIX)), ret);
    return true;
}
