#include "simulate/auth.h"

#include "simulate/dialect.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* ---- AWS Signature Version 4 ------------------------------------------------- */

struct sigv4 {
    struct span key_id, date, region, service; /* of the credential scope */
    struct span scope;                         /* DATE/REGION/SERVICE/aws4_request */
    struct span signed_headers, signature;
};

static void put_hex(struct put *out, const unsigned char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        put_printf(out, "%02x", bytes[i]);
}

static void put_sha256(struct put *out, struct span text)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    SHA256((const unsigned char *)(text.n ? text.p : ""), text.n, digest);
    put_hex(out, digest, sizeof(digest));
}

static bool parse_header(struct span in, struct sigv4 *s)
{
    if (!span_starts(in, "AWS4-HMAC-SHA256 "))
        return false;
    in = span_from(in, 17);
    while (in.p) {
        struct span value = span_trim(span_cut(&in, ',')), name = span_cut(&value, '=');
        if (span_is(name, "Credential")) {
            s->key_id = span_cut(&value, '/');
            s->scope = value;
            s->date = span_cut(&value, '/');
            s->region = span_cut(&value, '/');
            s->service = span_cut(&value, '/');
            if (!span_is(value, "aws4_request"))
                return false;
        } else if (span_is(name, "SignedHeaders")) {
            s->signed_headers = value;
        } else if (span_is(name, "Signature")) {
            s->signature = value;
        }
    }
    return s->key_id.n && s->date.n && s->region.n && s->service.n && s->signed_headers.n && s->signature.n == 64;
}

/* The path as it was sent, encoded once more. */
static void put_canonical_path(struct put *out, struct span path)
{
    for (size_t i = 0; i < path.n; i++) {
        char c = path.p[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     (c && strchr("-._~/", c));
        if (plain)
            put_span(out, span_of(&c, 1));
        else
            put_printf(out, "%%%02X", (unsigned)(unsigned char)c);
    }
}

static int pair_order(const void *a, const void *b)
{
    const struct span *x = a, *y = b;
    size_t n = x->n < y->n ? x->n : y->n;
    int order = n ? memcmp(x->p, y->p, n) : 0;
    return order ? order : (x->n > y->n) - (x->n < y->n);
}

/* The pairs, sorted; they are taken as encoded. */
static void put_canonical_query(struct put *out, struct span query)
{
    struct span pairs[SIGV4_HEADERS_MAX] = {SPAN_NONE};
    size_t n = 0;
    while (query.p && query.n && n < SIGV4_HEADERS_MAX)
        pairs[n++] = span_cut(&query, '&');
    qsort(pairs, n, sizeof(*pairs), pair_order);
    for (size_t i = 0; i < n; i++) {
        put_text(out, i ? "&" : "");
        put_span(out, pairs[i]);
        if (!memchr(pairs[i].p, '=', pairs[i].n))
            put_text(out, "=");
    }
}

/* A header's value with its inner blanks joined. */
static void put_value(struct put *out, struct span value)
{
    bool blank = false;
    value = span_trim(value);
    for (size_t i = 0; i < value.n; i++) {
        if (value.p[i] == ' ' && blank)
            continue;
        blank = value.p[i] == ' ';
        put_span(out, span_of(&value.p[i], 1));
    }
}

static bool put_headers(struct put *out, const struct sigv4 *s, const struct caller *c)
{
    struct span rest = s->signed_headers;
    char name[100];
    bool host = false;
    while (rest.p) {
        struct span key = span_cut(&rest, ';');
        if (!key.n || key.n >= sizeof(name))
            return false;
        memcpy(name, key.p, key.n);
        name[key.n] = '\0';
        struct span value = c->header(c->ctx, name);
        if (!value.p)
            return false;
        host |= strcmp(name, "host") == 0;
        put_text(out, name);
        put_text(out, ":");
        put_value(out, value);
        put_text(out, "\n");
    }
    return host; /* must be signed */
}

static bool canonical(struct put *out, const struct sigv4 *s, const struct caller *c)
{
    struct span hash = c->header(c->ctx, "x-amz-content-sha256");
    struct buf body_hash;
    buf_init(&body_hash, 0);
    struct put hashed = put_into(&body_hash);
    put_sha256(&hashed, c->body);
    put_span(out, c->method);
    put_text(out, "\n");
    put_canonical_path(out, c->path.n ? c->path : SPAN_LIT("/"));
    put_text(out, "\n");
    put_canonical_query(out, c->query);
    put_text(out, "\n");
    bool fine = put_headers(out, s, c);
    put_text(out, "\n");
    put_span(out, s->signed_headers);
    put_text(out, "\n");
    if (hash.p && !span_is(hash, "UNSIGNED-PAYLOAD"))
        fine &= span_eq(hash, buf_span(&body_hash));
    put_span(out, hash.p && span_is(hash, "UNSIGNED-PAYLOAD") ? hash : buf_span(&body_hash));
    fine &= hashed.err == PD_OK;
    buf_done(&body_hash);
    return fine;
}

static void hmac(const void *key, size_t key_n, struct span text, unsigned char out[EVP_MAX_MD_SIZE])
{
    unsigned n = 0;
    memset(out, 0, EVP_MAX_MD_SIZE);
    (void)HMAC(EVP_sha256(), key, (int)key_n, (const unsigned char *)(text.n ? text.p : ""), text.n, out, &n);
}

/* The signature that this request should have. */
static bool put_signature(struct put *out, const struct sigv4 *s, struct span secret, struct span when,
                          const struct caller *c)
{
    unsigned char a[EVP_MAX_MD_SIZE], b[EVP_MAX_MD_SIZE];
    struct buf request, text;
    buf_init(&request, 0);
    buf_init(&text, 0);
    struct put rq = put_into(&request), t = put_into(&text);
    bool fine = canonical(&rq, s, c);
    put_text(&t, "AWS4");
    put_span(&t, secret);
    hmac(buf_span(&text).p, buf_size(&text), s->date, a);
    hmac(a, 32, s->region, b);
    hmac(b, 32, s->service, a);
    hmac(a, 32, SPAN_LIT("aws4_request"), b);
    buf_clear(&text);
    put_text(&t, "AWS4-HMAC-SHA256\n");
    put_span(&t, when);
    put_text(&t, "\n");
    put_span(&t, s->scope);
    put_text(&t, "\n");
    put_sha256(&t, buf_span(&request));
    hmac(b, 32, buf_span(&text), a);
    put_hex(out, a, 32);
    fine &= rq.err == PD_OK && t.err == PD_OK && out->err == PD_OK;
    buf_done(&request);
    buf_done(&text);
    return fine;
}

/* "20260102T030405Z" as seconds since 1970; 0: it is none. */
static uint64_t amz_time(struct span text)
{
    char copy[17];
    struct tm tm = {0};
    if (text.n != 16)
        return 0;
    memcpy(copy, text.p, 16);
    copy[16] = '\0';
    const char *end = strptime(copy, "%Y%m%dT%H%M%SZ", &tm);
    time_t t = end && !*end ? timegm(&tm) : 0;
    return t > 0 ? (uint64_t)t : 0;
}

static bool refused(struct refusal *why, const char *type, const char *message)
{
    *why = (struct refusal){.like = "auth", .type = span_str(type), .message = span_str(message)};
    return false;
}

static bool sigv4_check(struct span keys, const struct caller *c, uint64_t now_s, struct refusal *why)
{
    struct sigv4 s = {0};
    struct span header = c->header(c->ctx, "authorization"), when = c->header(c->ctx, "x-amz-date"), secret = keys,
                key_id = span_cut(&secret, ':');
    if (!header.p)
        return refused(why, "MissingAuthenticationTokenException", "Missing Authentication Token");
    if (!parse_header(header, &s))
        return refused(why, "IncompleteSignatureException",
                       "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' parameters.");
    if (!span_eq(s.key_id, key_id))
        return refused(why, "UnrecognizedClientException",
                       "The security token included in the request is invalid.");
    if (!span_is(s.service, "bedrock"))
        return refused(why, "InvalidSignatureException",
                       "Credential should be scoped to correct service: 'bedrock'.");
    uint64_t then = amz_time(when);
    if (!then || !span_eq(span_upto(when, 8), s.date))
        return refused(why, "IncompleteSignatureException",
                       "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP");
    if (then > now_s + SIGV4_WINDOW_S || then + SIGV4_WINDOW_S < now_s)
        return refused(why, "InvalidSignatureException", "Signature expired: it is not within 5 minutes of now.");
    struct buf text;
    buf_init(&text, 0);
    struct put out = put_into(&text);
    bool fine = put_signature(&out, &s, secret, when, c) && span_eq(buf_span(&text), s.signature);
    buf_done(&text);
    return fine ||
           refused(why, "InvalidSignatureException",
                   "The request signature we calculated does not match the signature you provided. Check your "
                   "AWS Secret Access Key and signing method. Consult the service documentation for details.");
}

/* ---- keys ---------------------------------------------------------------------- */

static struct span bearer(const struct caller *c)
{
    struct span given = c->header(c->ctx, "authorization");
    return span_starts(given, "Bearer ") ? span_from(given, 7) : SPAN_NONE;
}

static struct span query_value(struct span query, const char *name)
{
    while (query.p) {
        struct span value = span_cut(&query, '&'), key = span_cut(&value, '=');
        if (span_is(key, name))
            return value;
    }
    return SPAN_NONE;
}

/* The key that the caller gives, where this dialect's clients give it. */
static struct span given_key(const struct endpoint *at, const struct caller *c)
{
    static const char *const names[SIM_DIALECT_COUNT] = {
        [SIM_CHAT] = "api-key",
        [SIM_RESPONSES] = "api-key",
        [SIM_MESSAGES] = "x-api-key",
        [SIM_GEMINI] = "x-goog-api-key",
    };
    struct span given =
        names[at->dialect] && at->platform != PLATFORM_VERTEX ? c->header(c->ctx, names[at->dialect]) : SPAN_NONE;
    if (!given.p && at->dialect == SIM_GEMINI)
        given = query_value(c->query, "key");
    if (!given.p && at->platform == PLATFORM_VERTEX)
        given = c->header(c->ctx, "x-goog-api-key"); /* express mode */
    struct span token = bearer(c);
    return token.p ? token : given;
}

bool auth_check(const struct script_provider *conf, const struct endpoint *at, const struct caller *c,
                uint64_t now_s, struct refusal *why)
{
    bool bedrock = at->platform == PLATFORM_BEDROCK;
    if (bedrock && conf->aws.p && (!conf->key.p || !bearer(c).p))
        return sigv4_check(conf->aws, c, now_s, why);
    if (!conf->key.p || span_eq(given_key(at, c), conf->key))
        return true;
    *why = (struct refusal){.like = at->platform == PLATFORM_VERTEX && at->dialect == SIM_GEMINI ? "auth_401"
                                                                                                 : "auth"};
    if (bedrock) {
        why->type = SPAN_LIT("AccessDeniedException");
        why->message = SPAN_LIT("Bearer Token is invalid");
    }
    return false;
}
