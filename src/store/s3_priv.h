/* s3_priv.h - a bucket: how it is asked (s3_ask.c, s3_send.c), where it is and who we are there (s3_setup.c), large objects (s3_multipart.c). */
#ifndef PERDURE_STORE_S3_PRIV_H
#define PERDURE_STORE_S3_PRIV_H

#include "base/arena.h"
#include "provider/sigv4.h"
#include "store/loaded.h"
#include "store/objects_priv.h"

#include <pthread.h>

enum {
    S3_TRIES = 8,
    S3_PAUSE_LEAST_MS = 100, /* before the second try; doubled with each, half of it by chance */
    S3_PAUSE_MOST_MS = 5000,
    S3_RETRY_AFTER_MOST_MS = 30 * 1000,
    S3_CONNECT_MS = 10 * 1000,
    S3_SILENCE_MS = 30 * 1000,       /* without a byte in either direction */
    S3_JOIN_SILENCE_MS = 120 * 1000, /* the same while parts are put together */
    S3_LONGEST_MS = 5 * 60 * 1000,   /* after it nothing is tried again */
    S3_SKEW_LEAST_MS = 60 * 1000,    /* a server that minds our clock is not believed below this */
    S3_TEXT_MAX = 8 << 20,           /* of what is not an object: a page of a list, an error */
    S3_BUCKET_MAX = BUCKET_NAME_MAX,
    S3_HOST_MAX = 512,
    S3_TARGET_MAX = 3 * (S3_BUCKET_MAX + OBJECTS_WHERE_MAX + OBJECT_KEY_MAX) + 4096,
    S3_FIELDS_MAX = 10,
    S3_HANDLES_MAX = 8, /* idle connections that are kept */
    S3_PAGE_KEYS = 1000,
    S3_UPLOAD_ID_MAX = 1024,
    S3_HASH_HEX_BYTES = 65,
    S3_HASH_TEXT_BYTES = 45, /* in base64 */
    S3_PUT_ID_BYTES = 33
};

/* What a test makes shorter. */
struct s3_pace {
    unsigned tries, page_keys;
    uint64_t pause_least_ms, pause_most_ms, connect_ms, silence_ms;
    size_t part_bytes;
};

/* Does the server keep to If-None-Match and If-Match? */
enum s3_conditions { S3_CONDITIONS_UNKNOWN, S3_CONDITIONS_KEPT, S3_CONDITIONS_NOT };

struct s3 {
    struct objects o;
    const struct curl_library *curl;
    struct s3_pace pace;
    char bucket[S3_BUCKET_MAX + 1];
    char prefix[OBJECTS_WHERE_MAX + 2]; /* with its '/' at the end, or empty */
    bool amazon, tls, path_style, may_make;
    char host[S3_HOST_MAX + 1]; /* of an endpoint that was given, with its port; empty: Amazon's */
    char base[S3_HOST_MAX + 1]; /* what an endpoint's URL has as a path */
    char *ca_file;
    char *access, *secret, *token; /* token may be NULL */

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t woken; /* a cancel */
    char region[SIGV4_SCOPE_MAX + 1];
    struct sigv4_key key;
    CURL *idle[S3_HANDLES_MAX];
    unsigned idle_count;

    atomic_llong skew_ms; /* ours minus the server's */
    atomic_int conditions;
};

struct s3_request {
    const char *method;
    const char *key;   /* without the prefix; NULL: the bucket */
    const char *query; /* encoded; NULL: none */
    struct http1_field fields[S3_FIELDS_MAX];
    unsigned fields_count;
    struct span body;
    const char *body_hash;   /* in hex; NULL: it is made */
    struct buf *out;         /* gets a good answer's body; NULL: the answer's `text` does */
    bool joins;              /* may answer 200 and an error in the body, after a long time */
    bool although_cancelled; /* what cleans up */
    bool once;               /* is not tried again */
};

struct s3_answer {
    int status; /* 0: none came */
    char etag[OBJECT_ETAG_BYTES];
    char checksum[S3_HASH_TEXT_BYTES + 8], meta_hash[S3_HASH_HEX_BYTES], meta_put[S3_PUT_ID_BYTES];
    char request_id[80], region[SIGV4_SCOPE_MAX + 1];
    char code[64], message[160];
    bool key_encrypted;      /* the etag is no MD5 then */
    uint64_t date_ms;        /* 0: not said */
    uint64_t retry_after_ms; /* 0: not said */
    struct buf text;
    unsigned tries;
    bool uncertain; /* a try before the last one may have been carried out without our seeing it */
};

static inline struct s3 *s3_of(struct objects *o)
{
    return (struct s3 *)o;
}

void s3_answer_init(struct s3_answer *a);
void s3_answer_done(struct s3_answer *a);
void s3_field(struct s3_request *rq, const char *name, const char *value);

/* Asks until there is an answer that counts. PD_OK: 2xx. PD_NOTFOUND: 404 (not of the bucket). PD_EXISTS: 412. PD_UNSUPPORTED: 501. PD_TIMEOUT, PD_IO,
 * PD_NOSPACE, PD_NOMEM, PD_TOOBIG, PD_CANCELLED: objects_why() has the sentence. */
pd_err s3_ask(struct s3 *s, const struct s3_request *rq, struct s3_answer *a) PD_CHECKED;

/* One try; s3_send.c. PD_OK: a->status came with all of its body. Else what libcurl met; *ret_sent: the server may have got it. */
pd_err s3_send(struct s3 *s, const struct s3_request *rq, struct s3_answer *a, bool *ret_sent) PD_CHECKED;
/* Code and Message of an error's body. */
void s3_read_error(struct s3_answer *a);

/* "a=b" into a query or a path: all but unreserved bytes are encoded, and '/' where it is kept. False: no room. */
bool s3_encode(char *out, size_t room, size_t *at, struct span s, bool keep_slash);

/* Fills what says where and who. On failure `why` says what to do. */
pd_err s3_setup(struct s3 *s, const char *where, conf_env_fn *env, void *env_ctx, char *why,
                size_t why_bytes) PD_CHECKED;

/* What is put, with what is known of it. */
struct s3_put {
    const char *key;
    struct span bytes;
    enum object_when when; /* as a header; OBJECT_ALWAYS where the server has none */
    const char *etag;
    char hash_hex[S3_HASH_HEX_BYTES];
    char hash_text[S3_HASH_TEXT_BYTES];
    char put_id[S3_PUT_ID_BYTES]; /* tells our own write from another's of the same bytes */
    char quoted[OBJECT_ETAG_BYTES + 2];
};
bool s3_hash(struct span bytes, char hex[S3_HASH_HEX_BYTES], char text[S3_HASH_TEXT_BYTES]);
/* The header of its condition, if it has one. */
void s3_condition(struct s3_request *rq, struct s3_put *p);
/* As s3_ask; *ret_joined: it was asked to put the parts together. */
pd_err s3_multipart(struct s3 *s, struct s3_put *p, struct s3_answer *a, bool *ret_joined) PD_CHECKED;

#endif
