#include "simulate/sign.h"

#include "simulate/ask.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

static const struct {
    const char *key;
    unsigned char mark;
    const char *prefix; /* before the base64 */
} makers[] = {
    [MAKER_ANTHROPIC] = {"perdure simulate, anthropic", 0x12, ""},
    [MAKER_GOOGLE] = {"perdure simulate, google", 0x0a, ""},
    [MAKER_OPENAI] = {"perdure simulate, openai", 0x80, "gAAAAAB"},
};

static void mac(enum maker maker, const char *what, struct span nonce, struct span text,
                unsigned char out[EVP_MAX_MD_SIZE])
{
    unsigned char digest[32];
    unsigned n = 0;
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    memset(out, 0, EVP_MAX_MD_SIZE);
    memset(digest, 0, sizeof(digest));
    if (c && EVP_DigestInit_ex(c, EVP_sha256(), NULL) == 1) {
        (void)EVP_DigestUpdate(c, what, strlen(what) + 1);
        (void)EVP_DigestUpdate(c, nonce.n ? nonce.p : "", nonce.n);
        (void)EVP_DigestUpdate(c, text.n ? text.p : "", text.n);
        (void)EVP_DigestFinal_ex(c, digest, NULL);
    }
    EVP_MD_CTX_free(c);
    (void)HMAC(EVP_sha256(), makers[maker].key, (int)strlen(makers[maker].key), digest, sizeof(digest), out, &n);
}

void sign_put(struct put *out, enum maker maker, const char *what, struct span text, struct span seed)
{
    unsigned char nonce[EVP_MAX_MD_SIZE], code[EVP_MAX_MD_SIZE], filler[EVP_MAX_MD_SIZE], all[SIGN_BYTES];
    mac(maker, "nonce", seed, text, nonce);
    struct span n = {(const char *)nonce, SIGN_NONCE};
    mac(maker, what, n, text, code);
    mac(maker, "filler", n, text, filler);
    all[0] = makers[maker].mark;
    memcpy(all + 1, nonce, SIGN_NONCE);
    memcpy(all + 1 + SIGN_NONCE, code, SIGN_MAC);
    memcpy(all + 1 + SIGN_NONCE + SIGN_MAC, filler, 32);
    put_text(out, makers[maker].prefix);
    base64_put(out, span_of((const char *)all, sizeof(all)));
}

bool sign_fits(enum maker maker, const char *what, struct span text, struct span signature, struct arena *mem)
{
    unsigned char code[EVP_MAX_MD_SIZE];
    struct span bytes;
    if (!signature.n || !span_starts(signature, makers[maker].prefix))
        return false;
    signature = span_from(signature, strlen(makers[maker].prefix));
    if (base64_read(signature, mem, &bytes) != PD_OK || bytes.n != SIGN_BYTES ||
        (unsigned char)bytes.p[0] != makers[maker].mark)
        return false;
    mac(maker, what, span_of(bytes.p + 1, SIGN_NONCE), text, code);
    return memcmp(code, bytes.p + 1 + SIGN_NONCE, SIGN_MAC) == 0;
}

static void put_letters(struct put *out, const unsigned char *bytes, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++)
        put_span(out, span_of(&digits[bytes[i / 2] >> (i % 2 ? 0 : 4) & 15], 1));
}

void sign_id_put(struct put *out, struct span first_half, const char *what)
{
    unsigned char code[EVP_MAX_MD_SIZE];
    mac(MAKER_OPENAI, what, first_half, SPAN_NONE, code);
    put_span(out, first_half);
    put_letters(out, code, first_half.n < 64 ? first_half.n : 64);
}

bool sign_id_fits(struct span id, const char *what)
{
    struct buf text;
    buf_init(&text, 0);
    struct put out = put_into(&text);
    sign_id_put(&out, span_upto(id, id.n / 2), what);
    bool fits = out.err == PD_OK && id.n && id.n % 2 == 0 && span_eq(buf_span(&text), id);
    buf_done(&text);
    return fits;
}
