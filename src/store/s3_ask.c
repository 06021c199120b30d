/* One request until its answer counts: tried again with pauses, corrected where the server says what is wrong. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/rnd.h"
#include "parse/date.h"
#include "store/s3_priv.h"

#include <stdio.h>
#include <time.h>

enum verdict { VERDICT_DONE, VERDICT_AGAIN, VERDICT_AT_ONCE };

/* What was put right already in this call: each is done once. */
struct corrected {
    bool region, clock, bucket;
};

void s3_answer_init(struct s3_answer *a)
{
    *a = (struct s3_answer){.status = 0};
    buf_init(&a->text, S3_TEXT_MAX);
}

void s3_answer_done(struct s3_answer *a)
{
    buf_done(&a->text);
}

void s3_field(struct s3_request *rq, const char *name, const char *value)
{
    rq->fields[rq->fields_count++] = (struct http1_field){span_str(name), span_str(value)};
}

static bool is_code(const struct s3_answer *a, const char *const *codes)
{
    for (; *codes; codes++)
        if (strcmp(a->code, *codes) == 0)
            return true;
    return false;
}

/* "s3://b at http://…: PUT key: 503 SlowDown: Please reduce your request rate. (request 4711, 8 tries)" */
static pd_err say(struct s3 *s, const struct s3_request *rq, const struct s3_answer *a, pd_err e, const char *hint)
{
    char id[100] = "", tries[40] = "";
    if (a->request_id[0])
        snprintf(id, sizeof(id), "request %s", a->request_id);
    if (a->tries > 1)
        snprintf(tries, sizeof(tries), "%s%u tries", id[0] ? ", " : "", a->tries);
    return objects_fail(e, "%s: %s%s%s: %d%s%s%s%s%s%s%s%s%s%s", s->o.where, rq->method, rq->key ? " " : "",
                        rq->key ? rq->key : "", a->status, a->code[0] ? " " : "", a->code,
                        a->message[0] ? ": " : "", a->message, id[0] || tries[0] ? " (" : "", id, tries,
                        id[0] || tries[0] ? ")" : "", hint[0] ? ": " : "", hint);
}

/* ---- what the server says is wrong ------------------------------------------------------- */

static bool take_region(struct s3 *s, const struct s3_answer *a, struct corrected *done)
{
    bool status = a->status == 301 || a->status == 307 || a->status == 400 || a->status == 403;
    if (!status || !a->region[0] || done->region)
        return false;
    pthread_mutex_lock(&s->lock);
    bool other = strcmp(s->region, a->region) != 0;
    if (other)
        memcpy(s->region, a->region, sizeof(s->region));
    pthread_mutex_unlock(&s->lock);
    done->region = other;
    return other;
}

/* A refusal by a server whose clock is far from the one we signed with: its own is taken. */
static bool take_clock(struct s3 *s, const struct s3_answer *a, struct corrected *done)
{
    if (a->status != 403 || !a->date_ms || done->clock)
        return false;
    long long skew = (long long)clock_wall_ms() - (long long)a->date_ms;
    long long off = skew - atomic_load(&s->skew_ms);
    if (off < S3_SKEW_LEAST_MS && off > -S3_SKEW_LEAST_MS)
        return false;
    atomic_store(&s->skew_ms, skew);
    done->clock = true;
    return true;
}

static pd_err make_bucket(struct s3 *s)
{
    char body[200] = "";
    struct s3_answer a;
    pthread_mutex_lock(&s->lock);
    if (strcmp(s->region, "us-east-1") != 0)
        snprintf(
            body, sizeof(body),
            "<CreateBucketConfiguration><LocationConstraint>%s</LocationConstraint></CreateBucketConfiguration>",
            s->region);
    pthread_mutex_unlock(&s->lock);
    struct s3_request rq = {.method = "PUT", .body = span_str(body)};
    s3_answer_init(&a);
    pd_err e = s3_ask(s, &rq, &a);
    if (e && (strcmp(a.code, "BucketAlreadyOwnedByYou") == 0 || strcmp(a.code, "BucketAlreadyExists") == 0))
        e = PD_OK;
    s3_answer_done(&a);
    return e;
}

static bool bucket_is_missing(const struct s3_request *rq, const struct s3_answer *a)
{
    return a->status == 404 && (strcmp(a->code, "NoSuchBucket") == 0 || !rq->key);
}

/* ---- what an answer means ---------------------------------------------------------------- */

static enum verdict judge_refusal(struct s3 *s, const struct s3_request *rq, struct s3_answer *a, pd_err *ret)
{
    static const char *const passing[] = {"RequestTimeout",
                                          "IncompleteBody",
                                          "BadDigest",
                                          "InvalidDigest",
                                          "XAmzContentSHA256Mismatch",
                                          "XAmzContentChecksumMismatch",
                                          NULL};
    static const char *const keys[] = {"ExpiredToken",         "InvalidAccessKeyId",    "InvalidToken",
                                       "TokenRefreshRequired", "SignatureDoesNotMatch", NULL};
    char skew[200] = "";
    long long off = (long long)clock_wall_ms() - (long long)a->date_ms;
    if (is_code(a, passing)) {
        *ret = say(s, rq, a, PD_IO, "");
        return VERDICT_AGAIN;
    }
    if (a->date_ms && a->status == 403 && (off > S3_SKEW_LEAST_MS || off < -S3_SKEW_LEAST_MS))
        snprintf(skew, sizeof(skew), "this machine's clock is %lld s from the server's", off / 1000);
    *ret = say(s, rq, a, PD_IO,
               skew[0]            ? skew
               : is_code(a, keys) ? "the access key, its secret or the session token is not (or no longer) good"
                                  : "");
    return VERDICT_DONE;
}

static enum verdict judge(struct s3 *s, const struct s3_request *rq, struct s3_answer *a, pd_err *ret)
{
    *ret = PD_OK;
    if (rq->joins && a->status == 200) { /* begun before it was known how it ends */
        s3_read_error(a);
        if (a->code[0])
            a->status = strcmp(a->code, "PreconditionFailed") == 0 ? 412
                        : strcmp(a->code, "NoSuchUpload") == 0     ? 404
                                                                   : 500;
    }
    if (a->status >= 200 && a->status < 300)
        return VERDICT_DONE;
    switch (a->status) {
    case 404:
        *ret = bucket_is_missing(rq, a) ? say(s, rq, a, rq->key ? PD_IO : PD_NOTFOUND,
                                              "there is no such bucket: make it, or name another")
                                        : say(s, rq, a, PD_NOTFOUND, "");
        return VERDICT_DONE;
    case 412:
        *ret = say(s, rq, a, PD_EXISTS, "");
        return VERDICT_DONE;
    case 501:
        *ret = say(s, rq, a, PD_UNSUPPORTED, "");
        return VERDICT_DONE;
    case 507:
        *ret = say(s, rq, a, PD_NOSPACE, "");
        return VERDICT_DONE;
    case 409:
        *ret = say(s, rq, a, PD_IO, "");
        /* Parts that met a conflict are to be sent anew; a bucket that is there already is none. */
        return rq->joins || strncmp(a->code, "Bucket", 6) == 0 ? VERDICT_DONE : VERDICT_AGAIN;
    case 408:
    case 429:
        *ret = say(s, rq, a, PD_IO, "");
        return VERDICT_AGAIN;
    }
    if (a->status >= 500) {
        *ret = say(s, rq, a, PD_IO, "");
        return VERDICT_AGAIN;
    }
    return judge_refusal(s, rq, a, ret);
}

/* Is there something to put right, so that it can be asked again at once? */
static bool put_right(struct s3 *s, const struct s3_request *rq, const struct s3_answer *a, struct corrected *done,
                      pd_err *ret)
{
    if (take_region(s, a, done) || take_clock(s, a, done))
        return true;
    if (!bucket_is_missing(rq, a) || !s->may_make || done->bucket || strcmp(rq->method, "DELETE") == 0 ||
        (!rq->key && strcmp(rq->method, "PUT") == 0))
        return false;
    done->bucket = true;
    *ret = make_bucket(s);
    return *ret == PD_OK;
}

/* No answer came: is it worth another try? */
static bool may_pass(pd_err e)
{
    return e == PD_TIMEOUT || e == PD_DNS || e == PD_CONNECT || e == PD_RESET || e == PD_CUT;
}

static enum verdict one_try(struct s3 *s, const struct s3_request *rq, struct s3_answer *a, struct corrected *done,
                            pd_err *ret)
{
    bool sent;
    *ret = s3_send(s, rq, a, &sent);
    if (*ret) {
        a->uncertain = a->uncertain || sent;
        a->status = 0;
        return may_pass(*ret) ? VERDICT_AGAIN : VERDICT_DONE;
    }
    enum verdict v = judge(s, rq, a, ret);
    if (*ret && put_right(s, rq, a, done, ret))
        return VERDICT_AT_ONCE;
    if (v == VERDICT_AGAIN && (a->status >= 500 || a->status == 408))
        a->uncertain = true; /* a gateway's 500 says nothing of what is behind it */
    return v;
}

/* ---- pauses ------------------------------------------------------------------------------ */

static uint64_t pause_ms(struct s3 *s, const struct s3_answer *a, struct rnd *r)
{
    uint64_t ms = s->pace.pause_least_ms;
    for (unsigned i = 1; i < a->tries && ms < s->pace.pause_most_ms; i++)
        ms *= 2;
    if (ms > s->pace.pause_most_ms)
        ms = s->pace.pause_most_ms;
    ms = ms / 2 + rnd_below(r, ms / 2 + 1);
    uint64_t told = a->retry_after_ms < S3_RETRY_AFTER_MOST_MS ? a->retry_after_ms : S3_RETRY_AFTER_MOST_MS;
    return told > ms ? told : ms;
}

/* False: it was cancelled. */
static bool wait_ms(struct s3 *s, uint64_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(ms / 1000);
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_mutex_lock(&s->lock);
    while (!atomic_load(&s->o.cancelled) && pthread_cond_timedwait(&s->woken, &s->lock, &until) == 0)
        ;
    pthread_mutex_unlock(&s->lock);
    return !atomic_load(&s->o.cancelled);
}

/* How it failed is in the sentence: for whoever asked it is one and the same. */
static pd_err outward(pd_err e)
{
    return e == PD_DNS || e == PD_CONNECT || e == PD_RESET || e == PD_CUT || e == PD_TLS ? PD_IO : e;
}

pd_err s3_ask(struct s3 *s, const struct s3_request *rq, struct s3_answer *a)
{
    struct rnd r = {rnd_seed()};
    struct corrected done = {.region = false};
    uint64_t begun = clock_mono_ms();
    size_t before = rq->out ? buf_size(rq->out) : 0;
    a->tries = 0;
    a->uncertain = false;
    for (;;) {
        pd_err e;
        a->tries++;
        enum verdict v = one_try(s, rq, a, &done, &e);
        if (rq->out && (e || v != VERDICT_DONE))
            rq->out->tail = rq->out->head + before;
        if (v == VERDICT_AT_ONCE)
            continue;
        bool last = rq->once || a->tries >= s->pace.tries || clock_mono_ms() - begun >= S3_LONGEST_MS;
        if (v == VERDICT_DONE || last)
            return outward(e);
        if (!wait_ms(s, pause_ms(s, a, &r)) && !rq->although_cancelled)
            return objects_fail(PD_CANCELLED, "%s: it is being closed", s->o.where);
    }
}
