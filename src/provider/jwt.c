#include "provider/jwt.h"

#include "base/buf.h"
#include "parse/json.h"

#include <inttypes.h>
#include <limits.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static size_t base64url_bytes(size_t n)
{
    return n / 3 * 4 + (n % 3 ? n % 3 + 1 : 0);
}

/* Returns the end. */
static char *put_base64url(char *out, struct span in)
{
    for (size_t i = 0; i < in.n; i += 3) {
        size_t left = in.n - i < 3 ? in.n - i : 3;
        uint32_t bits = 0;
        for (size_t k = 0; k < 3; k++)
            bits = bits << 8 | (k < left ? (unsigned char)in.p[i + k] : 0);
        for (size_t k = 0; k <= left; k++)
            *out++ = alphabet[bits >> (18 - 6 * k) & 63];
    }
    return out;
}

pd_err jwt_base64url(struct span in, struct arena *a, struct span *ret)
{
    size_t n = base64url_bytes(in.n);
    char *out = arena_alloc(a, n + 1);
    if (!out)
        return PD_NOMEM;
    *put_base64url(out, in) = '\0';
    *ret = span_of(out, n);
    return PD_OK;
}

/* An encrypted key is not asked a password for on the terminal, which OpenSSL would do. */
static int no_password(char *out, int room, int writing, void *ctx)
{
    (void)out;
    (void)room;
    (void)writing;
    (void)ctx;
    return -1;
}

static pd_err read_key(struct span pem, EVP_PKEY **ret)
{
    if (pem.n == 0 || pem.n > INT_MAX)
        return PD_SYNTAX;
    BIO *in = BIO_new_mem_buf(pem.p, (int)pem.n);
    if (!in)
        return PD_NOMEM;
    ERR_clear_error();
    EVP_PKEY *key = PEM_read_bio_PrivateKey(in, NULL, no_password, NULL);
    unsigned long code = ERR_peek_last_error();
    BIO_free(in);
    ERR_clear_error();
    if (!key)
        return ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE ? PD_NOMEM : PD_SYNTAX;
    if (!EVP_PKEY_is_a(key, "RSA")) {
        EVP_PKEY_free(key);
        return PD_INVALID;
    }
    *ret = key;
    return PD_OK;
}

static pd_err sign(EVP_PKEY *key, struct span text, struct arena *a, struct span *ret)
{
    size_t n = (size_t)EVP_PKEY_get_size(key);
    unsigned char *signature = arena_alloc(a, n);
    EVP_MD_CTX *md = signature ? EVP_MD_CTX_new() : NULL;
    if (!md)
        return PD_NOMEM;
    bool done = EVP_DigestSignInit(md, NULL, EVP_sha256(), NULL, key) == 1 &&
                EVP_DigestSign(md, signature, &n, (const unsigned char *)text.p, text.n) == 1;
    EVP_MD_CTX_free(md);
    ERR_clear_error();
    if (!done)
        return PD_NOMEM;
    *ret = span_of((const char *)signature, n);
    return PD_OK;
}

/* "header.claims" and room for ".signature". */
static pd_err begin(struct span header, struct span claims, size_t signature_n, struct arena *a, char **ret_text,
                    size_t *ret_n)
{
    size_t n = base64url_bytes(header.n) + 1 + base64url_bytes(claims.n);
    char *text = arena_alloc(a, n + 1 + base64url_bytes(signature_n));
    if (!text)
        return PD_NOMEM;
    char *at = put_base64url(text, header);
    *at++ = '.';
    put_base64url(at, claims);
    *ret_text = text;
    *ret_n = n;
    return PD_OK;
}

pd_err jwt_sign_rs256(struct span header, struct span claims, struct span key_pem, struct arena *a,
                      struct span *ret)
{
    EVP_PKEY *key = NULL;
    pd_err e = read_key(key_pem, &key);
    if (e)
        return e;
    char *text = NULL;
    size_t n = 0;
    struct span signature;
    e = begin(header, claims, (size_t)EVP_PKEY_get_size(key), a, &text, &n);
    if (!e)
        e = sign(key, span_of(text, n), a, &signature);
    EVP_PKEY_free(key);
    if (e)
        return e;
    text[n] = '.';
    char *end = put_base64url(text + n + 1, signature);
    *ret = span_of(text, (size_t)(end - text));
    return PD_OK;
}

static pd_err put_member(struct buf *out, const char *before, struct span value)
{
    pd_err e = buf_puts(out, before);
    return e ? e : json_put_str(out, value);
}

static pd_err put_header(struct buf *out, const struct jwt_grant *g)
{
    pd_err e = buf_puts(out, "{\"alg\":\"RS256\",\"typ\":\"JWT\"");
    if (!e && g->key_id.n)
        e = put_member(out, ",\"kid\":", g->key_id);
    return e ? e : buf_puts(out, "}");
}

static pd_err put_claims(struct buf *out, const struct jwt_grant *g)
{
    uint64_t now = g->wall_ms / 1000;
    pd_err e = put_member(out, "{\"iss\":", g->issuer);
    if (!e)
        e = put_member(out, ",\"scope\":", g->scope);
    if (!e)
        e = put_member(out, ",\"aud\":", g->audience);
    return e ? e : buf_printf(out, ",\"iat\":%" PRIu64 ",\"exp\":%" PRIu64 "}", now, now + JWT_GOOGLE_SECONDS);
}

pd_err jwt_google_assertion(const struct jwt_grant *g, struct arena *a, struct span *ret)
{
    struct buf header, claims;
    buf_init(&header, 0);
    buf_init(&claims, 0);
    pd_err e = put_header(&header, g);
    if (!e)
        e = put_claims(&claims, g);
    if (!e)
        e = jwt_sign_rs256(buf_span(&header), buf_span(&claims), g->key_pem, a, ret);
    buf_done(&header);
    buf_done(&claims);
    return e;
}
