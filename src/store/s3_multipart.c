/* Large objects, part by part. What fails is taken back, so that no parts lie about that are paid for. */
#include "base/mem.h"
#include "store/s3_priv.h"
#include "store/s3_xml.h"

#include <stdio.h>

enum { PARTS_MAX = 10000, PART_XML_BYTES = 300 };

struct upload {
    struct s3 *s;
    struct s3_put *p;
    char id[S3_UPLOAD_ID_MAX];
    char query[3 * S3_UPLOAD_ID_MAX + 64];
    struct buf list; /* what completes it */
};

static pd_err on_begun(void *ctx, const char *path, struct span text)
{
    struct upload *u = ctx;
    if (strcmp(path, "InitiateMultipartUploadResult/UploadId") == 0) {
        if (text.n >= sizeof(u->id))
            return PD_TOOBIG;
        snprintf(u->id, sizeof(u->id), "%.*s", SPAN_FMT(text));
    }
    return PD_OK;
}

static pd_err make_query(struct upload *u, unsigned part)
{
    size_t at = part ? (size_t)snprintf(u->query, sizeof(u->query), "partNumber=%u&uploadId=", part)
                     : (size_t)snprintf(u->query, sizeof(u->query), "uploadId=");
    return s3_encode(u->query, sizeof(u->query), &at, span_str(u->id), false) ? PD_OK : PD_TOOBIG;
}

static pd_err begin(struct upload *u, struct s3_answer *a)
{
    struct s3_request rq = {.method = "POST", .key = u->p->key, .query = "uploads="};
    s3_field(&rq, "Content-Type", "application/octet-stream");
    s3_field(&rq, "x-amz-checksum-algorithm", "SHA256");
    s3_field(&rq, "x-amz-meta-sha256", u->p->hash_hex);
    s3_field(&rq, "x-amz-meta-put", u->p->put_id);
    pd_err e = s3_ask(u->s, &rq, a);
    if (e)
        return e;
    e = s3_xml_read(buf_span(&a->text), on_begun, u);
    if (e || !u->id[0])
        return objects_fail(PD_IO, "%s: POST %s?uploads: the answer has no UploadId", u->s->o.where, u->p->key);
    return PD_OK;
}

static pd_err send_part(struct upload *u, unsigned number, struct span bytes, struct s3_answer *a)
{
    char hex[S3_HASH_HEX_BYTES], text[S3_HASH_TEXT_BYTES];
    pd_err e = make_query(u, number);
    if (e || !s3_hash(bytes, hex, text))
        return objects_fail(e ? e : PD_NOMEM, "%s: %s", u->p->key, pd_err_text(e ? e : PD_NOMEM));
    struct s3_request rq = {.method = "PUT", .key = u->p->key, .query = u->query, .body = bytes, .body_hash = hex};
    s3_field(&rq, "Content-Type", "application/octet-stream");
    s3_field(&rq, "x-amz-checksum-sha256", text);
    e = s3_ask(u->s, &rq, a);
    if (e)
        return e;
    if (!a->etag[0] || strpbrk(a->etag, "<>&"))
        return objects_fail(PD_IO, "%s: PUT %s: part %u has no ETag", u->s->o.where, u->p->key, number);
    e = buf_printf(
        &u->list, "<Part><PartNumber>%u</PartNumber><ETag>\"%s\"</ETag><ChecksumSHA256>%s</ChecksumSHA256></Part>",
        number, a->etag, text);
    return e ? objects_fail(e, "%s: %s", u->p->key, pd_err_text(e)) : PD_OK;
}

static pd_err send_parts(struct upload *u, struct s3_answer *a)
{
    struct span rest = u->p->bytes;
    pd_err e = buf_puts(&u->list, "<CompleteMultipartUpload>");
    for (unsigned number = 1; rest.n && !e; number++) {
        struct span part = span_upto(rest, u->s->pace.part_bytes);
        e = send_part(u, number, part, a);
        rest = span_from(rest, part.n);
    }
    return e ? e : buf_puts(&u->list, "</CompleteMultipartUpload>");
}

static pd_err on_joined(void *ctx, const char *path, struct span text)
{
    struct s3_answer *a = ctx;
    if (strcmp(path, "CompleteMultipartUploadResult/ETag") == 0) {
        if (text.n >= 2 && text.p[0] == '"')
            text = span_of(text.p + 1, text.n - 2);
        snprintf(a->etag, sizeof(a->etag), "%.*s", SPAN_FMT(text));
    }
    return PD_OK;
}

static pd_err join(struct upload *u, struct s3_answer *a)
{
    pd_err e = make_query(u, 0);
    if (e)
        return objects_fail(e, "%s: %s", u->p->key, pd_err_text(e));
    struct s3_request rq = {
        .method = "POST", .key = u->p->key, .query = u->query, .body = buf_span(&u->list), .joins = true};
    s3_field(&rq, "Content-Type", "application/xml");
    s3_condition(&rq, u->p);
    e = s3_ask(u->s, &rq, a);
    if (!e && s3_xml_read(buf_span(&a->text), on_joined, a) != PD_OK)
        e = objects_fail(PD_IO, "%s: POST %s: its parts were put together, but the answer is no XML",
                         u->s->o.where, u->p->key);
    return e;
}

/* Whatever the failure was stays the one that is told. */
static void take_back(struct upload *u)
{
    char why[OBJECTS_WHY_BYTES];
    struct s3_answer a;
    snprintf(why, sizeof(why), "%s", objects_why());
    if (make_query(u, 0) == PD_OK) {
        struct s3_request rq = {.method = "DELETE",
                                .key = u->p->key,
                                .query = u->query,
                                .although_cancelled = true,
                                .once = atomic_load(&u->s->o.cancelled)};
        s3_answer_init(&a);
        pd_err ignored PD_UNUSED = s3_ask(u->s, &rq, &a);
        s3_answer_done(&a);
    }
    objects_fail(PD_OK, "%s", why);
}

pd_err s3_multipart(struct s3 *s, struct s3_put *p, struct s3_answer *a, bool *ret_joined)
{
    struct upload *u = mem_zalloc(sizeof(*u));
    *ret_joined = false;
    if (!u)
        return objects_fail(PD_NOMEM, "%s: out of memory", p->key);
    u->s = s;
    u->p = p;
    buf_init(&u->list, PARTS_MAX * PART_XML_BYTES);
    pd_err e = begin(u, a);
    if (!e)
        e = send_parts(u, a);
    if (!e) {
        *ret_joined = true;
        e = join(u, a);
    }
    if (e && u->id[0])
        take_back(u);
    buf_done(&u->list);
    mem_free(u);
    return e;
}
