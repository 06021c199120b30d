#include "base/buf.h"
#include "parse/json.h"
#include "provider/jwt.h"
#include "rsa_key.h"
#include "test.h"
#include "torture.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

static void base64url_is_that_of_the_rfc(void **state)
{
    (void)state;
    /* RFC 4648 section 10, without padding; RFC 7515 appendix C. */
    static const struct {
        const char *in, *out;
        size_t n;
    } rows[] = {
        {"", "", 0},
        {"f", "Zg", 1},
        {"fo", "Zm8", 2},
        {"foo", "Zm9v", 3},
        {"foob", "Zm9vYg", 4},
        {"fooba", "Zm9vYmE", 5},
        {"foobar", "Zm9vYmFy", 6},
        {"\x03\xec\xff\xe0\xc1", "A-z_4ME", 5},
    };
    struct arena a;
    arena_init(&a, 0, 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct span got;
        assert_int_equal(jwt_base64url(span_of(rows[i].in, rows[i].n), &a, &got), PD_OK);
        if (!span_is(got, rows[i].out))
            fail_msg("%s: got %.*s", rows[i].out, SPAN_FMT(got));
    }
    arena_done(&a);
}

/* RFC 7515 A.2. */
#define A2_HEADER "{\"alg\":\"RS256\"}"
#define A2_CLAIMS "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}"
#define A2_TOKEN                                                                                              \
    "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb"  \
    "290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2" \
    "Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K" \
    "0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9F" \
    "s98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"

static void the_rfcs_example_is_signed_as_published(void **state)
{
    (void)state;
    static const char *const keys[] = {RSA_KEY_PKCS8, RSA_KEY_PKCS1};
    for (size_t i = 0; i < 2; i++) {
        struct arena a;
        struct span got;
        arena_init(&a, 0, 0);
        assert_int_equal(jwt_sign_rs256(SPAN_LIT(A2_HEADER), SPAN_LIT(A2_CLAIMS), span_str(keys[i]), &a, &got),
                         PD_OK);
        assert_true(span_is(got, A2_TOKEN));
        arena_done(&a);
    }
}

static void a_key_that_cannot_be_used_says_which_way(void **state)
{
    (void)state;
    static const struct {
        const char *pem;
        pd_err err;
    } rows[] = {
        {"", PD_SYNTAX},
        {"no PEM", PD_SYNTAX},
        {RSA_KEY_PUBLIC, PD_SYNTAX},
        {RSA_KEY_ENCRYPTED, PD_SYNTAX},
        {EC_KEY_PKCS8, PD_INVALID},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct arena a;
        struct span got;
        arena_init(&a, 0, 0);
        assert_int_equal(jwt_sign_rs256(SPAN_LIT(A2_HEADER), SPAN_LIT(A2_CLAIMS), span_str(rows[i].pem), &a, &got),
                         rows[i].err);
        arena_done(&a);
    }
    struct arena a;
    struct span got, whole = SPAN_LIT(RSA_KEY_PKCS8);
    arena_init(&a, 0, 0);
    assert_int_equal(
        jwt_sign_rs256(SPAN_LIT(A2_HEADER), SPAN_LIT(A2_CLAIMS), span_upto(whole, whole.n / 2), &a, &got),
        PD_SYNTAX);
    arena_done(&a);
}

/* ---- Google's assertion ----------------------------------------------------------------- */

static const struct jwt_grant grant = {
    .issuer = {"robot@p.iam.gserviceaccount.com", 31},
    .audience = {"https://oauth2.googleapis.com/token", 35},
    .scope = {"https://www.googleapis.com/auth/cloud-platform", 46},
    .key_id = {"k\"1", 3},
    .key_pem = {RSA_KEY_PKCS8, sizeof(RSA_KEY_PKCS8) - 1},
    .wall_ms = 1795504089999,
};

/* Base64 as OpenSSL reads it; what is decoded goes into `room`. */
static struct span decode(struct span in, char *room, size_t room_n)
{
    char text[1024];
    size_t n = 0;
    assert_true(in.n + 4 < sizeof(text));
    for (size_t i = 0; i < in.n; i++)
        text[n++] = in.p[i] == '-' ? '+' : in.p[i] == '_' ? '/' : in.p[i];
    size_t pad = (4 - n % 4) % 4;
    memset(text + n, '=', pad);
    assert_true(room_n >= (n + pad) / 4 * 3);
    int got = EVP_DecodeBlock((unsigned char *)room, (const unsigned char *)text, (int)(n + pad));
    assert_true(got >= 0);
    return span_of(room, (size_t)got - pad);
}

static bool verifies(struct span text, struct span signature)
{
    BIO *in = BIO_new_mem_buf(RSA_KEY_PUBLIC, -1);
    EVP_PKEY *key = PEM_read_bio_PUBKEY(in, NULL, NULL, NULL);
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    assert_non_null(key);
    assert_int_equal(EVP_DigestVerifyInit(md, NULL, EVP_sha256(), NULL, key), 1);
    bool ok = EVP_DigestVerify(md, (const unsigned char *)signature.p, signature.n, (const unsigned char *)text.p,
                               text.n) == 1;
    EVP_MD_CTX_free(md);
    EVP_PKEY_free(key);
    BIO_free(in);
    return ok;
}

static void googles_assertion_says_who_and_for_how_long_and_verifies(void **state)
{
    (void)state;
    struct arena a;
    struct span token, header, claims;
    char header_room[256], claims_room[512], signature_room[512];
    arena_init(&a, 0, 0);
    assert_int_equal(jwt_google_assertion(&grant, &a, &token), PD_OK);
    struct span rest = token;
    header = decode(span_cut(&rest, '.'), header_room, sizeof(header_room));
    claims = decode(span_cut(&rest, '.'), claims_room, sizeof(claims_room));
    assert_true(span_is(header, "{\"alg\":\"RS256\",\"typ\":\"JWT\",\"kid\":\"k\\\"1\"}"));
    assert_true(span_is(claims, "{\"iss\":\"robot@p.iam.gserviceaccount.com\",\"scope\":"
                                "\"https://www.googleapis.com/auth/cloud-platform\",\"aud\":"
                                "\"https://oauth2.googleapis.com/token\",\"iat\":1795504089,\"exp\":1795507689}"));
    struct span signature = decode(rest, signature_room, sizeof(signature_room));
    struct span text = span_upto(token, token.n - rest.n - 1);
    assert_true(verifies(text, signature));
    signature_room[0] ^= 1;
    assert_false(verifies(text, signature));
    arena_done(&a);
}

static void without_a_key_id_none_is_written(void **state)
{
    (void)state;
    struct jwt_grant g = grant;
    struct arena a;
    struct span token;
    char room[256];
    g.key_id = SPAN_NONE;
    arena_init(&a, 0, 0);
    assert_int_equal(jwt_google_assertion(&g, &a, &token), PD_OK);
    assert_true(span_is(decode(span_cut(&token, '.'), room, sizeof(room)), "{\"alg\":\"RS256\",\"typ\":\"JWT\"}"));
    arena_done(&a);
}

static pd_err make_assertion(void *ctx)
{
    (void)ctx;
    struct arena a;
    struct span token;
    arena_init(&a, 64, 0);
    pd_err e = jwt_google_assertion(&grant, &a, &token);
    arena_done(&a);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    assert_true(torture(make_assertion, NULL) >= 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base64url_is_that_of_the_rfc),
        cmocka_unit_test(the_rfcs_example_is_signed_as_published),
        cmocka_unit_test(a_key_that_cannot_be_used_says_which_way),
        cmocka_unit_test(googles_assertion_says_who_and_for_how_long_and_verifies),
        cmocka_unit_test(without_a_key_id_none_is_written),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
