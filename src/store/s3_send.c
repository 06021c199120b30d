/* One try of one request: signed, sent with libcurl, its answer read. */
#include "base/clock.h"
#include "base/mem.h"
#include "parse/date.h"
#include "store/s3_priv.h"
#include "store/s3_xml.h"

#include <stdio.h>
#include <strings.h>

#undef curl_easy_setopt /* a macro that checks types, where the compiler can: ours is a pointer */
#undef curl_easy_getinfo

struct
try {
    struct s3 *s;
    const struct s3_request *rq;
    struct s3_answer *a;
    CURL *handle;
    struct arena arena;
    struct curl_slist *fields;
    char target[S3_TARGET_MAX];
    char host[S3_BUCKET_MAX + S3_HOST_MAX + SIGV4_SCOPE_MAX + 40];
    char error[CURL_ERROR_SIZE];
    pd_err failed;    /* in a callback */
    uint64_t last_ms; /* when a byte went either way */
    curl_off_t bytes;
    size_t body_bytes;
    bool silent;
    unsigned requests; /* that libcurl made of it */
};

/* ---- where it goes ----------------------------------------------------------------------- */

static bool unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
           c == '_' || c == '~';
}

bool s3_encode(char *out, size_t room, size_t *at, struct span s, bool keep_slash)
{
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < s.n; i++) {
        if (room - *at < 4)
            return false;
        unsigned char c = (unsigned char)s.p[i];
        if (unreserved(s.p[i]) || (c == '/' && keep_slash)) {
            out[(*at)++] = s.p[i];
        } else {
            out[(*at)++] = '%';
            out[(*at)++] = digits[c >> 4];
            out[(*at)++] = digits[c & 15];
        }
    }
    out[*at] = '\0';
    return true;
}

/* Amazon's hosts say the region; those of China are others. */
static void make_host(struct try *t, const char *region)
{
    struct s3 *s = t->s;
    if (!s->amazon)
        snprintf(t->host, sizeof(t->host), "%s", s->host);
    else
        snprintf(t->host, sizeof(t->host), "%s%ss3.%s.amazonaws.com%s", s->path_style ? "" : s->bucket,
                 s->path_style ? "" : ".", region, strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
}

static pd_err make_target(struct try *t)
{
    struct s3 *s = t->s;
    const size_t room = sizeof(t->target);
    size_t at = (size_t)snprintf(t->target, room, "%s/", s->amazon ? "" : s->base);
    bool fits = true;
    if (s->path_style)
        fits = s3_encode(t->target, room, &at, span_str(s->bucket), false);
    if (fits && t->rq->key) {
        if (s->path_style)
            t->target[at++] = '/';
        fits = s3_encode(t->target, room, &at, span_str(s->prefix), true) &&
               s3_encode(t->target, room, &at, span_str(t->rq->key), true);
    }
    if (fits && t->rq->query) {
        size_t n = strlen(t->rq->query);
        fits = n + 2 < room - at;
        if (fits)
            snprintf(t->target + at, room - at, "?%s", t->rq->query);
    }
    return fits ? PD_OK : PD_TOOBIG;
}

/* ---- the head ---------------------------------------------------------------------------- */

static pd_err add_field(struct try *t, struct span name, struct span value)
{
    const char *line = arena_printf(&t->arena, "%.*s: %.*s", SPAN_FMT(name), SPAN_FMT(value));
    struct curl_slist *more = line ? t->s->curl->curl_slist_append(t->fields, line) : NULL;
    if (!more)
        return PD_NOMEM;
    t->fields = more;
    return PD_OK;
}

static pd_err sign(struct try *t, const char *region, struct sigv4_key *key)
{
    struct s3 *s = t->s;
    struct http1_field made[SIGV4_FIELDS_MAX];
    unsigned count = 0;
    struct sigv4_credentials who = {span_str(s->access), span_str(s->secret), span_str(s->token)};
    struct sigv4_request rq = {.method = span_str(t->rq->method),
                               .target = span_str(t->target),
                               .host = span_str(t->host),
                               .fields = t->rq->fields,
                               .fields_count = t->rq->fields_count,
                               .body = &t->rq->body,
                               .body_count = 1,
                               .body_hash = t->rq->body_hash,
                               .shows_hash = true,
                               .path_as_sent = true};
    uint64_t now = (uint64_t)((int64_t)clock_wall_ms() - atomic_load(&s->skew_ms));
    pd_err e = sigv4_sign(&rq, &who, span_str(region), SPAN_LIT("s3"), now, key, &t->arena, made, &count);
    if (!e)
        e = add_field(t, SPAN_LIT("Host"), span_str(t->host));
    for (unsigned i = 0; i < count && !e; i++)
        e = add_field(t, made[i].name, made[i].value);
    for (unsigned i = 0; i < t->rq->fields_count && !e; i++)
        e = add_field(t, t->rq->fields[i].name, t->rq->fields[i].value);
    if (!e)
        e = add_field(t, SPAN_LIT("Expect"), SPAN_NONE); /* a server that does not know it would let us wait */
    return e;
}

static pd_err make_head(struct try *t)
{
    struct s3 *s = t->s;
    char region[SIGV4_SCOPE_MAX + 1];
    pthread_mutex_lock(&s->lock);
    struct sigv4_key key = s->key;
    memcpy(region, s->region, sizeof(region));
    pthread_mutex_unlock(&s->lock);
    make_host(t, region);
    pd_err e = make_target(t);
    if (!e)
        e = sign(t, region, &key);
    if (!e) {
        pthread_mutex_lock(&s->lock);
        s->key = key;
        pthread_mutex_unlock(&s->lock);
    }
    return e;
}

/* ---- the answer -------------------------------------------------------------------------- */

static void keep(char *to, size_t room, struct span value)
{
    snprintf(to, room, "%.*s", SPAN_FMT(span_upto(value, room - 1)));
}

static void keep_etag(struct s3_answer *a, struct span value)
{
    if (value.n >= 2 && value.p[0] == '"' && value.p[value.n - 1] == '"')
        value = span_of(value.p + 1, value.n - 2);
    keep(a->etag, sizeof(a->etag), value);
}

static void read_field(struct s3_answer *a, struct span name, struct span value)
{
    uint64_t seconds;
    if (span_iis(name, "etag"))
        keep_etag(a, value);
    else if (span_iis(name, "x-amz-checksum-sha256"))
        keep(a->checksum, sizeof(a->checksum), value);
    else if (span_iis(name, "x-amz-meta-sha256"))
        keep(a->meta_hash, sizeof(a->meta_hash), value);
    else if (span_iis(name, "x-amz-meta-put"))
        keep(a->meta_put, sizeof(a->meta_put), value);
    else if (span_iis(name, "x-amz-request-id"))
        keep(a->request_id, sizeof(a->request_id), value);
    else if (span_iis(name, "x-amz-bucket-region"))
        keep(a->region, sizeof(a->region), value);
    else if (span_iis(name, "x-amz-server-side-encryption"))
        a->key_encrypted = !span_is(value, "AES256");
    else if (span_iis(name, "x-amz-server-side-encryption-customer-algorithm"))
        a->key_encrypted = true;
    else if (span_iis(name, "date") && !date_parse_http(value, clock_wall_ms(), &a->date_ms))
        a->date_ms = 0;
    else if (span_iis(name, "retry-after") && span_u64(value, &seconds))
        a->retry_after_ms = seconds > 3600 ? 3600000 : seconds * 1000;
}

static void forget(struct s3_answer *a)
{
    struct buf text = a->text;
    unsigned tries = a->tries;
    bool uncertain = a->uncertain;
    buf_clear(&text);
    *a = (struct s3_answer){.text = text, .tries = tries, .uncertain = uncertain};
}

static size_t on_header(char *p, size_t size, size_t count, void *ctx)
{
    struct try *t = ctx;
    struct span line = span_trim(span_of(p, size * count)), value = line;
    uint64_t status;
    if (span_starts(line, "HTTP/")) {
        span_cut(&value, ' ');
        forget(t->a); /* what came before it was a 100 */
        if (span_u64(span_cut(&value, ' '), &status) && status < 1000)
            t->a->status = (int)status;
    } else {
        struct span name = span_cut(&value, ':');
        read_field(t->a, name, span_trim(value));
    }
    return size * count;
}

static size_t on_body(char *p, size_t size, size_t count, void *ctx)
{
    struct try *t = ctx;
    size_t n = size * count;
    bool good = t->a->status >= 200 && t->a->status < 300 && t->rq->out;
    struct buf *out = good ? t->rq->out : &t->a->text;
    if (n == 0)
        return 0;
    t->body_bytes += n;
    t->failed = t->body_bytes > OBJECT_BYTES_MAX ? PD_TOOBIG : buf_add(out, span_of(p, n));
    return t->failed ? n + 1 : n;
}

/* Where a kept connection turns out to be dead, libcurl asks again on another one without a word: the first may have been carried out. */
static int on_request(void *ctx, char *to, char *from, int to_port, int from_port)
{
    struct try *t = ctx;
    t->requests++;
    return CURL_PREREQFUNC_OK;
}

/* Called at least once a second: ends what was cancelled, and what is silent. */
static int on_progress(void *ctx, curl_off_t down_all, curl_off_t down, curl_off_t up_all, curl_off_t up)
{
    struct try *t = ctx;
    uint64_t now = clock_mono_ms();
    if (atomic_load(&t->s->o.cancelled) && !t->rq->although_cancelled) {
        t->failed = PD_CANCELLED;
        return 1;
    }
    if (down + up != t->bytes) {
        t->bytes = down + up;
        t->last_ms = now;
    }
    uint64_t most =
        t->rq->joins && t->s->pace.silence_ms == S3_SILENCE_MS ? S3_JOIN_SILENCE_MS : t->s->pace.silence_ms;
    t->silent = now - t->last_ms >= most;
    return t->silent;
}

/* ---- the error in a body ----------------------------------------------------------------- */

static pd_err on_error_text(void *ctx, const char *path, struct span text)
{
    struct s3_answer *a = ctx;
    if (strcmp(path, "Error/Code") == 0)
        keep(a->code, sizeof(a->code), text);
    else if (strcmp(path, "Error/Message") == 0)
        keep(a->message, sizeof(a->message), text);
    else if (strcmp(path, "Error/Region") == 0 && !a->region[0])
        keep(a->region, sizeof(a->region), text);
    else if (strcmp(path, "Error/RequestId") == 0 && !a->request_id[0])
        keep(a->request_id, sizeof(a->request_id), text);
    return PD_OK;
}

void s3_read_error(struct s3_answer *a)
{
    /* A body that is none of S3's (a proxy's) leaves the code empty. */
    if (s3_xml_read(buf_span(&a->text), on_error_text, a) != PD_OK && !a->code[0])
        a->message[0] = '\0';
}

/* ---- libcurl ----------------------------------------------------------------------------- */

static CURL *take_handle(struct s3 *s)
{
    pthread_mutex_lock(&s->lock);
    CURL *h = s->idle_count ? s->idle[--s->idle_count] : NULL;
    pthread_mutex_unlock(&s->lock);
    return h ? h : s->curl->curl_easy_init();
}

/* Its connections stay; what points into this try does not. */
static void give_handle(struct s3 *s, CURL *h)
{
    s->curl->curl_easy_reset(h);
    pthread_mutex_lock(&s->lock);
    bool kept = s->idle_count < S3_HANDLES_MAX;
    if (kept)
        s->idle[s->idle_count++] = h;
    pthread_mutex_unlock(&s->lock);
    if (!kept)
        s->curl->curl_easy_cleanup(h);
}

#define SET(option, value)                                                  \
    do {                                                                    \
        if (c == CURLE_OK)                                                  \
            c = t->s->curl->curl_easy_setopt(t->handle, (option), (value)); \
    } while (0)

static CURLcode set_up(struct try *t)
{
    const struct s3_request *rq = t->rq;
    CURLcode c = CURLE_OK;
    const char *url = arena_printf(&t->arena, "%s://%s%s", t->s->tls ? "https" : "http", t->host, t->target);
    if (!url)
        return CURLE_OUT_OF_MEMORY;
    SET(CURLOPT_URL, url);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_PATH_AS_IS, 1L);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_HTTPHEADER, t->fields);
    SET(CURLOPT_USERAGENT, "perdure/" PERDURE_VERSION);
    SET(CURLOPT_ERRORBUFFER, t->error);
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)t->s->pace.connect_ms);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, t);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, t);
    SET(CURLOPT_PREREQFUNCTION, on_request);
    SET(CURLOPT_PREREQDATA, t);
    SET(CURLOPT_XFERINFOFUNCTION, on_progress);
    SET(CURLOPT_XFERINFODATA, t);
    SET(CURLOPT_NOPROGRESS, 0L);
    if (t->s->ca_file)
        SET(CURLOPT_CAINFO, t->s->ca_file);
    if (strcmp(rq->method, "HEAD") == 0) {
        SET(CURLOPT_NOBODY, 1L);
    } else if (strcmp(rq->method, "GET") != 0) {
        if (strcmp(rq->method, "DELETE") != 0) {
            SET(CURLOPT_POSTFIELDS, rq->body.n ? rq->body.p : "");
            SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)rq->body.n);
        }
        SET(CURLOPT_CUSTOMREQUEST, rq->method);
    }
    return c;
}

/* Did it end before a byte of the request was sent? */
static bool never_sent(CURLcode c)
{
    return c == CURLE_COULDNT_RESOLVE_HOST || c == CURLE_COULDNT_RESOLVE_PROXY || c == CURLE_COULDNT_CONNECT ||
           c == CURLE_SSL_CONNECT_ERROR || c == CURLE_PEER_FAILED_VERIFICATION || c == CURLE_SSL_CACERT_BADFILE;
}

static pd_err code_of(const struct try *t, CURLcode c)
{
    if (t->failed)
        return t->failed;
    if (t->silent || c == CURLE_OPERATION_TIMEDOUT)
        return PD_TIMEOUT;
    switch ((int)c) {
    case CURLE_OK:
        return PD_OK;
    case CURLE_OUT_OF_MEMORY:
        return PD_NOMEM;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return PD_TLS;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        return PD_DNS;
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
        return PD_CONNECT;
    case CURLE_PARTIAL_FILE:
        return PD_CUT;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return PD_INVALID;
    default:
        return PD_RESET;
    }
}

static pd_err perform(struct try *t, bool *ret_sent)
{
    CURLcode c = set_up(t);
    if (c == CURLE_OK) {
        t->last_ms = clock_mono_ms();
        c = t->s->curl->curl_easy_perform(t->handle);
    } else if (c != CURLE_OUT_OF_MEMORY) {
        return objects_fail(PD_UNSUPPORTED, "%s: libcurl is too old: %s", t->s->o.where,
                            t->s->curl->curl_easy_strerror(c));
    }
    *ret_sent = !never_sent(c);
    if (t->requests > 1)
        t->a->uncertain = true;
    pd_err e = code_of(t, c);
    if (e == PD_CANCELLED)
        return objects_fail(e, "%s: it is being closed", t->s->o.where);
    if (e)
        return objects_fail(e, "%s: %s%s%s: %s", t->s->o.where, t->rq->method, t->rq->key ? " " : "",
                            t->rq->key ? t->rq->key : "",
                            t->silent     ? "nothing came for too long"
                            : t->failed   ? pd_err_text(t->failed)
                            : t->error[0] ? t->error
                                          : t->s->curl->curl_easy_strerror(c));
    return PD_OK;
}

pd_err s3_send(struct s3 *s, const struct s3_request *rq, struct s3_answer *a, bool *ret_sent)
{
    struct try *t = mem_zalloc(sizeof(*t));
    *ret_sent = false;
    forget(a);
    if (!t)
        return objects_fail(PD_NOMEM, "%s: out of memory", s->o.where);
    t->s = s;
    t->rq = rq;
    t->a = a;
    arena_init(&t->arena, 0, 0);
    t->handle = take_handle(s);
    pd_err e = t->handle ? make_head(t) : PD_NOMEM;
    if (e)
        e = objects_fail(e, "%s: %s", s->o.where, pd_err_text(e));
    else
        e = perform(t, ret_sent);
    if (!e && a->status >= 300)
        s3_read_error(a);
    if (t->handle)
        give_handle(s, t->handle);
    s->curl->curl_slist_free_all(t->fields);
    arena_done(&t->arena);
    mem_free(t);
    return e;
}
