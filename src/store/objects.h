/* objects.h - the object store: immutable objects in a folder or in an S3 bucket, behind one table of functions.
 *
 * Keys are paths with '/' in them ("checkpoints/agent-1/….json.zst"): letters, digits and - _ . = : only, no empty, "." or ".." part, and
 * the first part does not begin with a '.'. No key is a folder of another one ("a" and "a/b"): a folder cannot hold both.
 *
 * Folder: a file in ROOT/.new, fsync, rename (link for IF_NEW), fsync of the folders from there to the root. What checks and what
 * publishes is one step to all processes (a lock on ROOT/.lock, held for that step alone). The SHA-256 is kept in an attribute of the file where
 * the file system has such.
 * S3: libcurl, signed by provider/sigv4 (path style for other servers than Amazon's, virtual hosts for Amazon's), a checksum with each
 * object (x-amz-checksum-sha256, and x-amz-meta-sha256 for servers that do not keep it), If-None-Match: * and If-Match for conditional writes,
 * multipart over OBJECT_PART_BYTES. 429, 500, 503 and timeouts are tried again with growing pauses; a conditional write whose answer
 * was lost is looked up, so that its own success is not taken for a conflict. A server that has no conditional writes is found out at the
 * first one; then the object is looked at before it is written, which is safe with one writer only: objects_note() says so.
 * Credentials: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, else a profile's (AWS_PROFILE); AWS_REGION, AWS_ENDPOINT_URL_S3;
 * or the guide's MINIO_ENDPOINT, MINIO_ACCESS_KEY, MINIO_SECRET_KEY.
 *
 * After a put that failed, the object is the old one or the new one, never half of one.
 *
 * All of it blocks: it is for threads that may (loop_offload, the catching up of checkpoints), never for a loop. A struct objects may be
 * used by several threads at once. */
#ifndef PERDURE_STORE_OBJECTS_H
#define PERDURE_STORE_OBJECTS_H

#include "base/buf.h"
#include "conf/conf.h"
#include "parse/object_name.h"

enum {
    OBJECT_BYTES_MAX = 1 << 30,
    OBJECT_PART_BYTES = 16 << 20,
    OBJECT_ETAG_BYTES = 100,
    OBJECTS_WHERE_MAX = 2048, /* of a folder's path, or a bucket with its prefix */
    OBJECTS_WHY_BYTES = 400,
};

struct objects;
struct object_info {
    char key[OBJECT_KEY_MAX + 1];
    uint64_t bytes, modified_ms;
    char etag[OBJECT_ETAG_BYTES];
};

enum object_when { OBJECT_ALWAYS, OBJECT_IF_NEW, OBJECT_IF_SAME };

/* `where`: "s3://BUCKET/PREFIX" or a folder, which is made. Variables are asked of `env`. A bucket is not asked anything yet, so that it
 * may be down at the start: objects_check() does. On failure `why` says what to do. */
pd_err objects_open(const char *where, conf_env_fn *env, void *env_ctx, struct objects **ret, char *why,
                    size_t why_bytes) PD_CHECKED;
struct objects *objects_close(struct objects *o); /* NULL is fine; returns NULL */
bool objects_is_s3(const struct objects *o);
/* "s3://BUCKET/PREFIX at https://…" or the folder: for messages. */
const char *objects_where(const struct objects *o);
/* Is it there, and may we? A bucket that is missing is made where MINIO_ENDPOINT is set and it may be. PD_NOTFOUND, PD_IO, PD_TIMEOUT. */
pd_err objects_check(struct objects *o) PD_CHECKED;
/* What a user should know of a store that works: a sentence, or "". It may come with any call. */
const char *objects_note(const struct objects *o);
/* From any thread: what is under way on others ends soon, with PD_CANCELLED, and so does what is begun later. */
void objects_cancel(struct objects *o);

/* OBJECT_IF_NEW: PD_EXISTS when there is one; OBJECT_IF_SAME: PD_EXISTS when its etag is not `etag` any more, or it is gone. `ret_etag` may
 * be NULL. PD_IO, PD_TIMEOUT, PD_NOSPACE, PD_NOFD, PD_TOOBIG, PD_INVALID (the key), PD_NOMEM. objects_why() has the sentence of this
 * thread's last failure. */
pd_err objects_put(struct objects *o, const char *key, struct span bytes, enum object_when when, const char *etag,
                   char ret_etag[OBJECT_ETAG_BYTES]) PD_CHECKED;
/* Adds its bytes; on failure `out` is as it was. PD_NOTFOUND; PD_INVALID: damaged (its checksum does not fit). ret_etag may be NULL. */
pd_err objects_get(struct objects *o, const char *key, struct buf *out,
                   char ret_etag[OBJECT_ETAG_BYTES]) PD_CHECKED;
/* Not there is fine. */
pd_err objects_delete(struct objects *o, const char *key) PD_CHECKED;
/* Those whose key begins with `prefix`, in order of their keys; what is there and is no key of ours is left out. Anything but PD_OK from fn
 * ends it and is returned. */
typedef pd_err object_fn(void *ctx, const struct object_info *i);
pd_err objects_list(struct objects *o, const char *prefix, object_fn *fn, void *ctx) PD_CHECKED;
const char *objects_why(void);

#endif
