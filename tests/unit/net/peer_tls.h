/* peer_tls.h - certificates made on the spot, and TLS for the scripted peer. */
#ifndef PERDURE_TESTS_PEER_TLS_H
#define PERDURE_TESTS_PEER_TLS_H

#include "peer.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

struct authority {
    EVP_PKEY *key;
    X509 *cert;
    char path[128]; /* its certificate as PEM */
};

PEER_FN void cert_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX x;
    X509V3_set_ctx(&x, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &x, nid, value);
    assert_non_null(e);
    X509_add_ext(cert, e, -1);
    X509_EXTENSION_free(e);
}

PEER_FN X509 *cert_make(EVP_PKEY *key, const char *name, X509 *issuer, EVP_PKEY *issuer_key, const char *san,
                        long from_s, long to_s)
{
    static long serial = 1;
    X509 *c = X509_new();
    X509_set_version(c, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(c), serial++);
    X509_gmtime_adj(X509_getm_notBefore(c), from_s);
    X509_gmtime_adj(X509_getm_notAfter(c), to_s);
    X509_set_pubkey(c, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(c), "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1,
                               0);
    X509_set_issuer_name(c, X509_get_subject_name(issuer ? issuer : c));
    cert_extension(c, issuer ? issuer : c, NID_basic_constraints, issuer ? "CA:FALSE" : "critical,CA:TRUE");
    if (san)
        cert_extension(c, issuer ? issuer : c, NID_subject_alt_name, san);
    assert_true(X509_sign(c, issuer_key ? issuer_key : key, EVP_sha256()) > 0);
    return c;
}

PEER_FN void authority_init(struct authority *a, const char *name)
{
    const char *dir = getenv("TMPDIR");
    a->key = EVP_EC_gen("P-256");
    a->cert = cert_make(a->key, name, NULL, NULL, NULL, -3600, 3600);
    snprintf(a->path, sizeof(a->path), "%.80s/perdure-test-XXXXXX", dir ? dir : "/tmp");
    int fd = mkstemp(a->path);
    assert_true(fd >= 0);
    FILE *f = fdopen(fd, "w");
    PEM_write_X509(f, a->cert);
    fclose(f);
}

PEER_FN void authority_done(struct authority *a)
{
    unlink(a->path);
    X509_free(a->cert);
    EVP_PKEY_free(a->key);
}

/* A server whose certificate has this SAN ("IP:127.0.0.1", "DNS:api.test") and is valid for these seconds from now. */
PEER_FN SSL_CTX *server_ctx(struct authority *a, const char *san, long from_s, long to_s, int newest)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = cert_make(key, "leaf", a->cert, a->key, san, from_s, to_s);
    SSL_CTX *x = SSL_CTX_new(TLS_server_method());
    assert_int_equal(SSL_CTX_use_certificate(x, cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(x, key), 1);
    if (newest)
        SSL_CTX_set_max_proto_version(x, newest);
    X509_free(cert);
    EVP_PKEY_free(key);
    return x;
}

PEER_FN void peer_init_tls(struct peer *p, SSL_CTX *tls)
{
    peer_init(p);
    p->tls = tls;
    snprintf(p->url, sizeof(p->url), "https://127.0.0.1:%u", (unsigned)p->port);
}

#endif
