#include "base/clock.h"
#include "base/mem.h"
#include "base/rnd.h"
#include "parse/base64.h"
#include "parse/date.h"
#include "store/s3_priv.h"
#include "store/s3_xml.h"

#include <openssl/evp.h>
#include <stdio.h>

enum { HASH_BYTES = 32, MD5_BYTES = 16, GET_TRIES = 3, JOIN_TRIES = 3 };

/* No key of ours: it is in no list. Never deleted, so that two processes may ask at once. */
#define CONDITIONS_KEY ".perdure/conditions"
#define CONDITIONS_TEXT "perdure asks with this object whether the server keeps to If-None-Match and If-Match.\n"

static pd_err no_memory(const char *key)
{
    return objects_fail(PD_NOMEM, "%s: out of memory", key);
}

/* ---- checksums --------------------------------------------------------------------------- */

static void to_hex(const unsigned char *bytes, size_t n, char *ret)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        ret[2 * i] = digits[bytes[i] >> 4];
        ret[2 * i + 1] = digits[bytes[i] & 15];
    }
    ret[2 * n] = '\0';
}

bool s3_hash(struct span bytes, char hex[S3_HASH_HEX_BYTES], char text[S3_HASH_TEXT_BYTES])
{
    unsigned char hash[HASH_BYTES];
    if (EVP_Digest(bytes.n ? bytes.p : "", bytes.n, hash, NULL, EVP_sha256(), NULL) != 1)
        return false;
    to_hex(hash, sizeof(hash), hex);
    EVP_EncodeBlock((unsigned char *)text, hash, sizeof(hash));
    return true;
}

static bool is_hex(const char *s, size_t n)
{
    return strlen(s) == n && strspn(s, "0123456789abcdef") == n;
}

/* Are these the bytes that the answer's head tells of? What does not tell of them is taken as it is. */
static pd_err check_bytes(const struct s3_answer *a, struct span bytes)
{
    char hex[S3_HASH_HEX_BYTES], text[S3_HASH_TEXT_BYTES], md5_hex[2 * MD5_BYTES + 1];
    unsigned char md5[MD5_BYTES];
    bool told = false, damaged = false;
    if (!s3_hash(bytes, hex, text))
        return PD_NOMEM;
    if (is_hex(a->meta_hash, HASH_BYTES * 2)) {
        told = true;
        damaged = strcmp(a->meta_hash, hex) != 0;
    }
    if (strlen(a->checksum) == S3_HASH_TEXT_BYTES - 1) { /* "…-3" is of three parts' sums, not of the bytes */
        told = true;
        damaged = damaged || strcmp(a->checksum, text) != 0;
    }
    if (!told && !a->key_encrypted && is_hex(a->etag, MD5_BYTES * 2)) {
        if (EVP_Digest(bytes.n ? bytes.p : "", bytes.n, md5, NULL, EVP_md5(), NULL) != 1)
            return PD_OK; /* a machine whose rules forbid MD5 */
        to_hex(md5, sizeof(md5), md5_hex);
        damaged = strcmp(a->etag, md5_hex) != 0;
    }
    return damaged ? PD_INVALID : PD_OK;
}

/* ---- conditions -------------------------------------------------------------------------- */

void s3_condition(struct s3_request *rq, struct s3_put *p)
{
    if (p->when == OBJECT_IF_NEW)
        s3_field(rq, "If-None-Match", "*");
    if (p->when == OBJECT_IF_SAME) {
        snprintf(p->quoted, sizeof(p->quoted), "\"%s\"", p->etag);
        s3_field(rq, "If-Match", p->quoted);
    }
}

static pd_err head(struct s3 *s, const char *key, struct s3_answer *a)
{
    struct s3_request rq = {.method = "HEAD", .key = key};
    s3_field(&rq, "x-amz-checksum-mode", "ENABLED");
    return s3_ask(s, &rq, a);
}

static pd_err put_once(struct s3 *s, struct s3_put *p, struct s3_answer *a)
{
    struct s3_request rq = {.method = "PUT", .key = p->key, .body = p->bytes, .body_hash = p->hash_hex};
    s3_field(&rq, "Content-Type", "application/octet-stream");
    s3_field(&rq, "x-amz-checksum-sha256", p->hash_text);
    s3_field(&rq, "x-amz-meta-sha256", p->hash_hex);
    s3_field(&rq, "x-amz-meta-put", p->put_id);
    s3_condition(&rq, p);
    return s3_ask(s, &rq, a);
}

static bool make_put(struct s3_put *p, const char *key, struct span bytes, enum object_when when, const char *etag)
{
    struct rnd r = {rnd_seed()};
    uint64_t one = rnd_next(&r), other = rnd_seed();
    *p = (struct s3_put){.key = key, .bytes = bytes, .when = when, .etag = etag};
    snprintf(p->put_id, sizeof(p->put_id), "%016llx%016llx", (unsigned long long)one, (unsigned long long)other);
    return s3_hash(bytes, p->hash_hex, p->hash_text);
}

/* *ret_kept: the server refused what the condition forbids. */
static pd_err try_condition(struct s3 *s, enum object_when when, bool *ret_kept)
{
    struct s3_put p;
    struct s3_answer a;
    if (!make_put(&p, CONDITIONS_KEY, SPAN_LIT(CONDITIONS_TEXT), when, "00000000000000000000000000000000"))
        return no_memory(CONDITIONS_KEY);
    s3_answer_init(&a);
    pd_err e = put_once(s, &p, &a);
    s3_answer_done(&a);
    *ret_kept = e == PD_EXISTS;
    return e == PD_EXISTS || e == PD_UNSUPPORTED ? PD_OK : e;
}

/* Asked once: the first write makes the object if it is not there, the second is refused by a server that looks. */
static pd_err learn_conditions(struct s3 *s)
{
    bool kept = false;
    if (atomic_load(&s->conditions) != S3_CONDITIONS_UNKNOWN)
        return PD_OK;
    pd_err e = try_condition(s, OBJECT_IF_NEW, &kept);
    if (!e && !kept)
        e = try_condition(s, OBJECT_IF_NEW, &kept);
    if (!e && kept)
        e = try_condition(s, OBJECT_IF_SAME, &kept);
    if (e)
        return e;
    if (!kept)
        atomic_store(&s->o.note,
                     "the S3 server has no conditional writes (If-None-Match, If-Match): each object is looked at "
                     "before it is written, which is safe only while one process alone writes to the bucket");
    atomic_store(&s->conditions, kept ? S3_CONDITIONS_KEPT : S3_CONDITIONS_NOT);
    return PD_OK;
}

/* Before a write without conditions, and before a long one. */
static pd_err look_first(struct s3 *s, const struct s3_put *p)
{
    struct s3_answer a;
    s3_answer_init(&a);
    pd_err e = head(s, p->key, &a);
    bool there = e == PD_OK;
    if (e == PD_NOTFOUND)
        e = PD_OK;
    if (!e && p->when == OBJECT_IF_NEW && there)
        e = objects_fail(PD_EXISTS, "%s: %s: it is there already", s->o.where, p->key);
    if (!e && p->when == OBJECT_IF_SAME && (!there || strcmp(a.etag, p->etag) != 0))
        e = objects_fail(PD_EXISTS, "%s: %s: it is another one by now", s->o.where, p->key);
    s3_answer_done(&a);
    return e;
}

/* ---- put --------------------------------------------------------------------------------- */

/* What was refused because it is there: was that our own write, whose answer was lost? Its id tells, and it is always asked: what is between us
 * and the server may try again too. Where a server keeps no metadata the bytes tell, if an answer was lost at all. */
static pd_err was_it_ours(struct s3 *s, const struct s3_put *p, pd_err refused, bool uncertain,
                          char ret_etag[OBJECT_ETAG_BYTES])
{
    struct s3_answer a;
    s3_answer_init(&a);
    pd_err e = head(s, p->key, &a);
    bool ours = a.meta_put[0]    ? strcmp(a.meta_put, p->put_id) == 0
                : !uncertain     ? false
                : a.meta_hash[0] ? strcmp(a.meta_hash, p->hash_hex) == 0
                : a.checksum[0]  ? strcmp(a.checksum, p->hash_text) == 0
                                 : false;
    if (!e && ours)
        memcpy(ret_etag, a.etag, OBJECT_ETAG_BYTES);
    if (e == PD_NOTFOUND || (!e && !ours))
        e = objects_fail(refused, "%s: %s: %s", s->o.where, p->key,
                         refused == PD_EXISTS ? "another one is there, or it is gone" : "its parts were lost");
    s3_answer_done(&a);
    return e;
}

/* *ret_again: parts that were lost, or met another write when they were put together, are to be sent anew. */
static pd_err send_put(struct s3 *s, struct s3_put *p, char ret_etag[OBJECT_ETAG_BYTES], bool *ret_again)
{
    struct s3_answer a;
    bool joined = false;
    s3_answer_init(&a);
    pd_err e = p->bytes.n > s->pace.part_bytes ? s3_multipart(s, p, &a, &joined) : put_once(s, p, &a);
    bool gone = e == PD_NOTFOUND;
    if (!e && !a.etag[0])
        e = head(s, p->key, &a);
    if (!e)
        memcpy(ret_etag, a.etag, OBJECT_ETAG_BYTES);
    if (gone) /* If-Match where nothing is; or parts that are not there, any more perhaps */
        e = p->when == OBJECT_IF_SAME && strcmp(a.code, "NoSuchUpload") != 0 ? PD_EXISTS : PD_IO;
    if (e == PD_EXISTS || (gone && joined))
        e = was_it_ours(s, p, e, a.uncertain, ret_etag);
    *ret_again = joined && e == PD_IO && (gone || a.status == 409);
    s3_answer_done(&a);
    return e;
}

static pd_err s3_put_object(struct objects *o, const char *key, struct span bytes, enum object_when when,
                            const char *etag, char ret_etag[OBJECT_ETAG_BYTES])
{
    struct s3 *s = s3_of(o);
    struct s3_put p;
    pd_err e = when == OBJECT_ALWAYS ? PD_OK : learn_conditions(s);
    if (e)
        return e;
    if (!make_put(&p, key, bytes, when, etag))
        return no_memory(key);
    bool blind = when != OBJECT_ALWAYS && atomic_load(&s->conditions) == S3_CONDITIONS_NOT;
    if (blind || (when != OBJECT_ALWAYS && bytes.n > s->pace.part_bytes))
        e = look_first(s, &p);
    if (blind)
        p.when = OBJECT_ALWAYS;
    bool again = !e;
    for (int i = 0; again && i < JOIN_TRIES; i++)
        e = send_put(s, &p, ret_etag, &again);
    return e;
}

/* ---- get, delete ------------------------------------------------------------------------- */

static pd_err get_once(struct s3 *s, const char *key, struct buf *out, char ret_etag[OBJECT_ETAG_BYTES])
{
    struct s3_request rq = {.method = "GET", .key = key, .out = out};
    struct s3_answer a;
    size_t before = buf_size(out);
    s3_field(&rq, "x-amz-checksum-mode", "ENABLED");
    s3_answer_init(&a);
    pd_err e = s3_ask(s, &rq, &a);
    if (!e) {
        e = check_bytes(&a, span_from(buf_span(out), before));
        if (e)
            objects_fail(e, "%s: %s: %s", s->o.where, key,
                         e == PD_INVALID ? "damaged: its bytes do not fit its checksum" : pd_err_text(e));
    }
    if (!e)
        memcpy(ret_etag, a.etag, OBJECT_ETAG_BYTES);
    else
        out->tail = out->head + before;
    s3_answer_done(&a);
    return e;
}

/* Bytes that do not fit may have been damaged on the way: they are asked for again. */
static pd_err s3_get_object(struct objects *o, const char *key, struct buf *out, char ret_etag[OBJECT_ETAG_BYTES])
{
    pd_err e = PD_INVALID;
    for (int i = 0; e == PD_INVALID && i < GET_TRIES; i++)
        e = get_once(s3_of(o), key, out, ret_etag);
    return e;
}

static pd_err s3_delete_object(struct objects *o, const char *key)
{
    struct s3_request rq = {.method = "DELETE", .key = key};
    struct s3_answer a;
    s3_answer_init(&a);
    pd_err e = s3_ask(s3_of(o), &rq, &a);
    s3_answer_done(&a);
    return e == PD_NOTFOUND ? PD_OK : e;
}

/* ---- list -------------------------------------------------------------------------------- */

struct lister {
    struct s3 *s;
    struct span prefix; /* that was asked for: what else a server tells of is left out */
    object_fn *fn;
    void *ctx;
    struct object_info info;
    bool is_ours, more;
    char last[OBJECT_KEY_MAX + 1];
    char token[S3_UPLOAD_ID_MAX], before[S3_UPLOAD_ID_MAX]; /* of the next page, and of this one */
    char query[3 * (OBJECTS_WHERE_MAX + OBJECT_KEY_MAX + S3_UPLOAD_ID_MAX) + 100];
    pd_err stopped; /* what fn returned */
};

static void read_key(struct lister *l, struct span text)
{
    size_t prefix_n = strlen(l->s->prefix);
    l->is_ours = text.n > prefix_n && memcmp(text.p, l->s->prefix, prefix_n) == 0;
    text = span_from(text, prefix_n);
    l->is_ours = l->is_ours && object_key_fits(text) && text.n >= l->prefix.n &&
                 memcmp(text.p, l->prefix.p, l->prefix.n) == 0;
    if (l->is_ours)
        snprintf(l->info.key, sizeof(l->info.key), "%.*s", SPAN_FMT(text));
}

static pd_err tell(struct lister *l)
{
    if (!l->is_ours)
        return PD_OK;
    if (l->last[0] && strcmp(l->last, l->info.key) >= 0)
        return objects_fail(PD_IO, "%s: its list is not in order: \"%.100s\" comes after \"%.100s\"",
                            l->s->o.where, l->info.key, l->last);
    memcpy(l->last, l->info.key, sizeof(l->last));
    l->stopped = l->fn(l->ctx, &l->info);
    l->info = (struct object_info){.bytes = 0};
    return l->stopped;
}

static pd_err on_listed(void *ctx, const char *path, struct span text)
{
    struct lister *l = ctx;
    if (strcmp(path, "ListBucketResult/Contents/Key") == 0) {
        read_key(l, text);
    } else if (strcmp(path, "ListBucketResult/Contents/Size") == 0) {
        if (!span_u64(text, &l->info.bytes))
            return PD_SYNTAX;
    } else if (strcmp(path, "ListBucketResult/Contents/LastModified") == 0) {
        if (!date_parse_iso(text, &l->info.modified_ms))
            l->info.modified_ms = 0;
    } else if (strcmp(path, "ListBucketResult/Contents/ETag") == 0) {
        if (text.n >= 2 && text.p[0] == '"')
            text = span_of(text.p + 1, text.n - 2);
        snprintf(l->info.etag, sizeof(l->info.etag), "%.*s", SPAN_FMT(text));
    } else if (strcmp(path, "ListBucketResult/Contents") == 0) {
        return tell(l);
    } else if (strcmp(path, "ListBucketResult/IsTruncated") == 0) {
        l->more = span_is(text, "true");
    } else if (strcmp(path, "ListBucketResult/NextContinuationToken") == 0) {
        if (text.n >= sizeof(l->token))
            return PD_TOOBIG;
        snprintf(l->token, sizeof(l->token), "%.*s", SPAN_FMT(text));
    }
    return PD_OK;
}

/* Its parameters in the order of their names. */
static pd_err make_query(struct lister *l, const char *prefix)
{
    const size_t room = sizeof(l->query);
    size_t at = 0;
    bool fits = true;
    l->query[0] = '\0';
    if (l->token[0]) {
        at = (size_t)snprintf(l->query, room, "continuation-token=");
        fits = s3_encode(l->query, room, &at, span_str(l->token), false);
    }
    at += (size_t)snprintf(l->query + at, room - at, "%slist-type=2&max-keys=%u&prefix=", at ? "&" : "",
                           l->s->pace.page_keys);
    fits = fits && s3_encode(l->query, room, &at, span_str(l->s->prefix), false) &&
           s3_encode(l->query, room, &at, span_str(prefix), false);
    return fits ? PD_OK : PD_TOOBIG;
}

static pd_err list_page(struct lister *l, const char *prefix)
{
    struct s3_request rq = {.method = "GET", .query = l->query};
    struct s3_answer a;
    pd_err e = make_query(l, prefix);
    if (e)
        return objects_fail(e, "%s: listing: %s", l->s->o.where, pd_err_text(e));
    bool first = !l->token[0];
    memcpy(l->before, l->token, sizeof(l->before));
    l->more = false;
    l->token[0] = '\0';
    s3_answer_init(&a);
    e = s3_ask(l->s, &rq, &a);
    if (!e) {
        e = s3_xml_read(buf_span(&a.text), on_listed, l);
        if (e == PD_SYNTAX || e == PD_TOOBIG)
            e = l->stopped ? l->stopped
                           : objects_fail(PD_IO, "%s: its list cannot be read: %s", l->s->o.where, pd_err_text(e));
        if (!e && l->more && (!l->token[0] || strcmp(l->token, l->before) == 0)) /* half a list is none */
            e = objects_fail(PD_IO, "%s: its list does not say where it goes on", l->s->o.where);
    } else if (e == PD_NOTFOUND && !first) {
        e = PD_IO;
    }
    s3_answer_done(&a);
    return e;
}

static pd_err s3_list_objects(struct objects *o, const char *prefix, object_fn *fn, void *ctx)
{
    struct lister *l = mem_zalloc(sizeof(*l));
    if (!l)
        return no_memory(prefix);
    l->s = s3_of(o);
    l->prefix = span_str(prefix);
    l->fn = fn;
    l->ctx = ctx;
    pd_err e;
    do
        e = list_page(l, prefix);
    while (!e && l->more);
    mem_free(l);
    return e;
}

/* ---- open -------------------------------------------------------------------------------- */

static pd_err s3_check(struct objects *o)
{
    struct s3_request rq = {.method = "HEAD"};
    struct s3_answer a;
    s3_answer_init(&a);
    pd_err e = s3_ask(s3_of(o), &rq, &a);
    s3_answer_done(&a);
    return e;
}

static void s3_cancel(struct objects *o)
{
    struct s3 *s = s3_of(o);
    pthread_mutex_lock(&s->lock);
    pthread_cond_broadcast(&s->woken);
    pthread_mutex_unlock(&s->lock);
}

static void free_secret(char *secret)
{
    if (secret)
        explicit_bzero(secret, strlen(secret));
    mem_free(secret);
}

static void s3_close(struct objects *o)
{
    struct s3 *s = s3_of(o);
    while (s->idle_count)
        s->curl->curl_easy_cleanup(s->idle[--s->idle_count]);
    mem_free(s->ca_file);
    mem_free(s->access);
    free_secret(s->secret);
    free_secret(s->token);
    explicit_bzero(&s->key, sizeof(s->key));
    pthread_cond_destroy(&s->woken);
    pthread_mutex_destroy(&s->lock);
    mem_free(s);
}

static const struct objects_table s3_table = {
    .close = s3_close,
    .cancel = s3_cancel,
    .check = s3_check,
    .put = s3_put_object,
    .get = s3_get_object,
    .remove = s3_delete_object,
    .list = s3_list_objects,
};

pd_err objects_s3_open(const char *where, conf_env_fn *env, void *env_ctx, struct objects **ret, char *why,
                       size_t why_bytes)
{
    struct s3 *s = mem_zalloc(sizeof(*s));
    if (!s) {
        snprintf(why, why_bytes, "out of memory");
        return PD_NOMEM;
    }
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->woken, &monotonic);
    pthread_condattr_destroy(&monotonic);
    s->o.table = &s3_table;
    s->o.s3 = true;
    s->pace = (struct s3_pace){
        .tries = S3_TRIES,
        .page_keys = S3_PAGE_KEYS,
        .pause_least_ms = S3_PAUSE_LEAST_MS,
        .pause_most_ms = S3_PAUSE_MOST_MS,
        .connect_ms = S3_CONNECT_MS,
        .silence_ms = S3_SILENCE_MS,
        .part_bytes = OBJECT_PART_BYTES,
    };
    pd_err e = s3_setup(s, where, env, env_ctx, why, why_bytes);
    if (!e)
        e = loaded_curl(&s->curl, why, why_bytes);
    if (e) {
        s3_close(&s->o);
        return e;
    }
    *ret = &s->o;
    return PD_OK;
}
