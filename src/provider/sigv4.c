#include "provider/sigv4.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <time.h>

enum { HASH_BYTES = 32, HEX_BYTES = 2 * HASH_BYTES };

#define ALGORITHM "AWS4-HMAC-SHA256"

/* What is signed goes straight into the hash; a failure of OpenSSL, which can only be memory, sticks. */
struct hasher {
    EVP_MD_CTX *md;
    bool failed;
};

static bool hasher_begin(struct hasher *h)
{
    h->failed = EVP_DigestInit_ex(h->md, EVP_sha256(), NULL) != 1;
    return !h->failed;
}

static void hash_add(struct hasher *h, struct span s)
{
    if (s.n && !h->failed)
        h->failed = EVP_DigestUpdate(h->md, s.p, s.n) != 1;
}

static void hash_str(struct hasher *h, const char *s)
{
    hash_add(h, span_str(s));
}

static bool hasher_end(struct hasher *h, unsigned char ret[HASH_BYTES])
{
    return !h->failed && EVP_DigestFinal_ex(h->md, ret, NULL) == 1;
}

static void to_hex(const unsigned char hash[HASH_BYTES], char ret[HEX_BYTES + 1])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < HASH_BYTES; i++) {
        ret[2 * i] = digits[hash[i] >> 4];
        ret[2 * i + 1] = digits[hash[i] & 15];
    }
    ret[HEX_BYTES] = '\0';
}

/* ---- the canonical request -------------------------------------------------------------- */

static bool unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
           c == '_' || c == '~';
}

/* Percent-encodes all but unreserved bytes, and those of `kept`. */
static void hash_encoded(struct hasher *h, struct span s, const char *kept)
{
    size_t from = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (unreserved(s.p[i]) || (s.p[i] && strchr(kept, s.p[i])))
            continue;
        char code[4];
        hash_add(h, span_of(s.p + from, i - from));
        snprintf(code, sizeof(code), "%%%02X", (unsigned char)s.p[i]);
        hash_str(h, code);
        from = i + 1;
    }
    hash_add(h, span_from(s, from));
}

/* Steps back over the path's last segment. */
static struct span last_segment(struct span *path)
{
    size_t end = path->n, start = end;
    while (start > 0 && path->p[start - 1] != '/')
        start--;
    path->n = start > 0 ? start - 1 : 0;
    return span_of(path->p + start, end - start);
}

/* Without ".", ".." and empty segments, the rest encoded once more. */
static pd_err hash_path(struct hasher *h, struct span path)
{
    struct span kept[SIGV4_SEGMENTS_MAX], rest = path;
    size_t count = 0, dropped = 0;
    while (rest.n) {
        struct span segment = last_segment(&rest);
        if (segment.n == 0 || span_is(segment, "."))
            continue;
        if (span_is(segment, "..")) {
            dropped++;
        } else if (dropped) {
            dropped--;
        } else if (count == SIGV4_SEGMENTS_MAX) {
            return PD_TOOBIG;
        } else {
            kept[count++] = segment;
        }
    }
    bool slash_ends = count == 0 || span_ends(path, "/");
    while (count) {
        hash_str(h, "/");
        hash_encoded(h, kept[--count], "");
    }
    if (slash_ends)
        hash_str(h, "/");
    return PD_OK;
}

static int span_order(struct span a, struct span b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int order = n ? memcmp(a.p, b.p, n) : 0;
    return order ? order : (a.n > b.n) - (a.n < b.n);
}

/* Sorted by name, then by value. It was encoded when it was sent: '%' stays. */
static pd_err hash_query(struct hasher *h, struct span query)
{
    struct {
        struct span name, value;
    } sorted[SIGV4_QUERY_MAX];
    size_t count = 0;
    while (query.n) {
        struct span value = span_cut(&query, '&'), name = span_cut(&value, '=');
        if (name.n == 0 && value.n == 0)
            continue;
        if (count == SIGV4_QUERY_MAX)
            return PD_TOOBIG;
        size_t at = count++;
        for (; at > 0; at--) {
            int order = span_order(name, sorted[at - 1].name);
            if (order > 0 || (order == 0 && span_order(value, sorted[at - 1].value) >= 0))
                break;
            sorted[at] = sorted[at - 1];
        }
        sorted[at].name = name;
        sorted[at].value = value;
    }
    for (size_t i = 0; i < count; i++) {
        if (i)
            hash_str(h, "&");
        hash_encoded(h, sorted[i].name, "%");
        hash_str(h, "=");
        hash_encoded(h, sorted[i].value, "%");
    }
    return PD_OK;
}

/* Headers to sign, sorted by name; of one name in the order in which they are sent. */
struct signed_fields {
    struct http1_field fields[SIGV4_SIGNED_MAX]; /* names in lower case */
    size_t count;
};

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static pd_err add_field(struct signed_fields *s, struct arena *a, struct span name, struct span value)
{
    if (s->count == SIGV4_SIGNED_MAX)
        return PD_TOOBIG;
    char *copy = arena_strndup(a, name.p, name.n);
    if (!copy)
        return PD_NOMEM;
    for (size_t i = 0; i < name.n; i++)
        copy[i] = lower(copy[i]);
    struct http1_field field = {span_of(copy, name.n), value};
    size_t at = s->count++;
    for (; at > 0 && span_order(field.name, s->fields[at - 1].name) < 0; at--)
        s->fields[at] = s->fields[at - 1];
    s->fields[at] = field;
    return PD_OK;
}

static bool blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Several blanks count as one, those at the ends not at all. */
static void hash_value(struct hasher *h, struct span value)
{
    value = span_trim(value);
    size_t from = 0;
    for (size_t i = 0; i + 1 < value.n; i++)
        if (blank(value.p[i]) && blank(value.p[i + 1])) {
            hash_add(h, span_of(value.p + from, i - from));
            from = i + 1;
        }
    hash_add(h, span_from(value, from));
}

/* The i-th has the name of the one before it. */
static bool same_name(const struct http1_field *fields, size_t i)
{
    return i > 0 && span_eq(fields[i - 1].name, fields[i].name);
}

static void hash_fields(struct hasher *h, const struct signed_fields *s)
{
    for (size_t i = 0; i < s->count; i++) {
        if (same_name(s->fields, i)) {
            hash_str(h, ",");
        } else {
            hash_str(h, i ? "\n" : "");
            hash_add(h, s->fields[i].name);
            hash_str(h, ":");
        }
        hash_value(h, s->fields[i].value);
    }
    hash_str(h, "\n");
}

/* "content-type;host;x-amz-date" */
static pd_err signed_names(const struct signed_fields *s, struct arena *a, struct span *ret)
{
    size_t n = 0;
    for (size_t i = 0; i < s->count; i++)
        n += s->fields[i].name.n + 1;
    char *names = arena_alloc(a, n);
    if (!names)
        return PD_NOMEM;
    size_t at = 0;
    for (size_t i = 0; i < s->count; i++) {
        if (same_name(s->fields, i))
            continue;
        if (at)
            names[at++] = ';';
        memcpy(names + at, s->fields[i].name.p, s->fields[i].name.n);
        at += s->fields[i].name.n;
    }
    *ret = span_of(names, at);
    return PD_OK;
}

static pd_err hash_request(struct hasher *h, const struct sigv4_request *rq, const struct signed_fields *fields,
                           struct span names, const char *body_hex, unsigned char ret[HASH_BYTES])
{
    struct span query = rq->target, path = span_cut(&query, '?');
    if (!hasher_begin(h))
        return PD_NOMEM;
    hash_add(h, rq->method);
    hash_str(h, "\n");
    pd_err e = PD_OK;
    if (rq->path_as_sent)
        hash_encoded(h, path, "/%");
    else
        e = hash_path(h, path);
    hash_str(h, "\n");
    if (!e)
        e = hash_query(h, query);
    hash_str(h, "\n");
    hash_fields(h, fields);
    hash_str(h, "\n");
    hash_add(h, names);
    hash_str(h, "\n");
    hash_str(h, body_hex);
    if (e)
        return e;
    return hasher_end(h, ret) ? PD_OK : PD_NOMEM;
}

static pd_err hash_body(struct hasher *h, const struct sigv4_request *rq, unsigned char ret[HASH_BYTES])
{
    if (!hasher_begin(h))
        return PD_NOMEM;
    for (unsigned i = 0; i < rq->body_count; i++)
        hash_add(h, rq->body[i]);
    return hasher_end(h, ret) ? PD_OK : PD_NOMEM;
}

/* ---- the key ---------------------------------------------------------------------------- */

static bool hmac(struct span key, struct span text, unsigned char ret[HASH_BYTES])
{
    unsigned n = HASH_BYTES;
    return HMAC(EVP_sha256(), key.p, (int)key.n, (const unsigned char *)text.p, text.n, ret, &n) != NULL;
}

static struct span hash_span(const unsigned char hash[HASH_BYTES])
{
    return span_of((const char *)hash, HASH_BYTES);
}

/* What a derived key is made from, so that another secret, day, region or service makes another. */
static bool key_tag(struct hasher *h, struct span secret, struct span day, struct span region, struct span service,
                    unsigned char ret[HASH_BYTES])
{
    const struct span parts[] = {day, region, service, secret};
    hasher_begin(h);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        hash_add(h, parts[i]);
        hash_add(h, span_of("", 1));
    }
    return hasher_end(h, ret);
}

static pd_err derive_key(struct hasher *h, struct span secret, struct span day, struct span region,
                         struct span service, struct sigv4_key *key, struct arena *a)
{
    unsigned char tag[HASH_BYTES];
    if (!key_tag(h, secret, day, region, service, tag))
        return PD_NOMEM;
    if (key->made && CRYPTO_memcmp(key->tag, tag, HASH_BYTES) == 0)
        return PD_OK;
    char *start = arena_alloc(a, 4 + secret.n);
    if (!start)
        return PD_NOMEM;
    memcpy(start, "AWS4", 4);
    memcpy(start + 4, secret.p, secret.n);

    key->made = hmac(span_of(start, 4 + secret.n), day, key->key) && hmac(hash_span(key->key), region, key->key) &&
                hmac(hash_span(key->key), service, key->key) &&
                hmac(hash_span(key->key), SPAN_LIT("aws4_request"), key->key);
    memcpy(key->tag, tag, HASH_BYTES);
    OPENSSL_cleanse(start, 4 + secret.n);
    return key->made ? PD_OK : PD_NOMEM;
}

/* ---- the signature ---------------------------------------------------------------------- */

/* "20150830T123600Z" */
static pd_err format_time(uint64_t wall_ms, struct arena *a, struct span *ret)
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;
    char text[32];
    if (!gmtime_r(&seconds, &tm) || strftime(text, sizeof(text), "%Y%m%dT%H%M%SZ", &tm) != 16)
        return PD_INVALID;
    *ret = arena_span(a, span_str(text));
    return ret->p ? PD_OK : PD_NOMEM;
}

/* The headers that are made before the signature, and all that are signed. */
static pd_err collect_fields(const struct sigv4_request *rq, const struct sigv4_credentials *who, struct span date,
                             const char *body_hex, struct arena *a, struct signed_fields *fields,
                             struct http1_field ret[SIGV4_FIELDS_MAX], unsigned *ret_count)
{
    unsigned count = 0;
    ret[count++] = (struct http1_field){SPAN_LIT("X-Amz-Date"), date};
    if (who->session_token.n) {
        struct span token = arena_span(a, who->session_token);
        if (!token.p)
            return PD_NOMEM;
        ret[count++] = (struct http1_field){SPAN_LIT("X-Amz-Security-Token"), token};
    }
    if (rq->shows_hash) {
        struct span hash = arena_span(a, span_str(body_hex));
        if (!hash.p)
            return PD_NOMEM;
        ret[count++] = (struct http1_field){SPAN_LIT("X-Amz-Content-Sha256"), hash};
    }
    pd_err e = add_field(fields, a, SPAN_LIT("host"), rq->host);
    for (unsigned i = 0; i < count && !e; i++)
        e = add_field(fields, a, ret[i].name, ret[i].value);
    for (unsigned i = 0; i < rq->fields_count && !e; i++)
        e = add_field(fields, a, rq->fields[i].name, rq->fields[i].value);
    *ret_count = count;
    return e;
}

static pd_err sign(struct hasher *h, const struct sigv4_request *rq, const struct sigv4_credentials *who,
                   struct span region, struct span service, uint64_t wall_ms, struct sigv4_key *key,
                   struct arena *a, struct http1_field *ret, unsigned *ret_count)
{
    unsigned char hash[HASH_BYTES];
    char hex[HEX_BYTES + 1];
    struct span date, names = SPAN_NONE;
    struct signed_fields fields = {.count = 0};
    unsigned count = 0;
    pd_err e = format_time(wall_ms, a, &date);
    if (!e && !rq->body_hash)
        e = hash_body(h, rq, hash);
    if (e)
        return e;
    if (rq->body_hash)
        snprintf(hex, sizeof(hex), "%s", rq->body_hash);
    else
        to_hex(hash, hex);
    e = collect_fields(rq, who, date, hex, a, &fields, ret, &count);
    if (!e)
        e = signed_names(&fields, a, &names);
    if (!e)
        e = hash_request(h, rq, &fields, names, hex, hash);
    if (e)
        return e;
    to_hex(hash, hex);

    struct span day = span_upto(date, 8);
    char *scope =
        arena_printf(a, "%.*s/%.*s/%.*s/aws4_request", SPAN_FMT(day), SPAN_FMT(region), SPAN_FMT(service));
    char *text = scope ? arena_printf(a, ALGORITHM "\n%.*s\n%s\n%s", SPAN_FMT(date), scope, hex) : NULL;
    if (!text)
        return PD_NOMEM;
    e = derive_key(h, who->secret_key, day, region, service, key, a);
    if (e)
        return e;
    if (!hmac(hash_span(key->key), span_str(text), hash))
        return PD_NOMEM;
    to_hex(hash, hex);
    char *value = arena_printf(a, ALGORITHM " Credential=%.*s/%s, SignedHeaders=%.*s, Signature=%s",
                               SPAN_FMT(who->access_key), scope, SPAN_FMT(names), hex);
    if (!value)
        return PD_NOMEM;
    ret[count++] = (struct http1_field){SPAN_LIT("Authorization"), span_str(value)};
    *ret_count = count;
    return PD_OK;
}

static bool name_fits(struct span name)
{
    return name.n > 0 && name.n <= SIGV4_SCOPE_MAX;
}

pd_err sigv4_sign(const struct sigv4_request *rq, const struct sigv4_credentials *who, struct span region,
                  struct span service, uint64_t wall_ms, struct sigv4_key *key, struct arena *a,
                  struct http1_field ret[SIGV4_FIELDS_MAX], unsigned *ret_count)
{
    if (!name_fits(region) || !name_fits(service) || who->access_key.n == 0 || who->secret_key.n == 0)
        return PD_INVALID;
    struct hasher h = {.md = EVP_MD_CTX_new()};
    if (!h.md)
        return PD_NOMEM;
    pd_err e = sign(&h, rq, who, region, service, wall_ms, key, a, ret, ret_count);
    EVP_MD_CTX_free(h.md);
    return e;
}
