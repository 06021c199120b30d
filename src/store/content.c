#include "store/content.h"

#include "base/mem.h"

#include <openssl/evp.h>
#include <zstd.h>

enum { ZSTD_MAGIC_BYTES = 4 };

pd_err content_name_of(struct span plain, struct content_name *ret)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char hash[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (!EVP_Digest(plain.n ? plain.p : "", plain.n, hash, &n, EVP_sha256(), NULL))
        return PD_NOMEM;
    for (unsigned i = 0; i < n; i++) {
        ret->hex[2 * i] = digits[hash[i] >> 4];
        ret->hex[2 * i + 1] = digits[hash[i] & 15];
    }
    ret->hex[2 * n] = '\0';
    return PD_OK;
}

bool content_name_read(struct span text, struct content_name *ret)
{
    if (text.n != CONTENT_NAME_BYTES - 1)
        return false;
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
    }
    memcpy(ret->hex, text.p, text.n);
    ret->hex[text.n] = '\0';
    return true;
}

static bool looks_packed(struct span s)
{
    static const unsigned char magic[ZSTD_MAGIC_BYTES] = {0x28, 0xb5, 0x2f, 0xfd};
    return s.n >= sizeof(magic) && memcmp(s.p, magic, sizeof(magic)) == 0;
}

struct packer {
    ZSTD_CCtx *zstd;
};

struct packer *packer_new(void)
{
    struct packer *p = mem_zalloc(sizeof(*p));
    if (p)
        p->zstd = ZSTD_createCCtx();
    return p && !p->zstd ? packer_free(p) : p;
}

struct packer *packer_free(struct packer *p)
{
    if (p)
        ZSTD_freeCCtx(p->zstd);
    mem_free(p);
    return NULL;
}

pd_err content_pack(struct span plain, struct buf *out)
{
    return packer_pack(NULL, plain, out);
}

pd_err packer_pack(struct packer *p, struct span plain, struct buf *out)
{
    const char *from = plain.n ? plain.p : "";
    if (plain.n > CONTENT_BYTES_MAX)
        return PD_TOOBIG;
    size_t room = ZSTD_compressBound(plain.n);
    pd_err e = buf_reserve(out, room);
    if (e)
        return e;
    size_t n = p ? ZSTD_compressCCtx(p->zstd, out->p + out->tail, room, from, plain.n, CONTENT_LEVEL)
                 : ZSTD_compress(out->p + out->tail, room, from, plain.n, CONTENT_LEVEL);
    if (ZSTD_isError(n))
        return PD_NOMEM;
    if (n >= plain.n && !looks_packed(plain))
        return buf_add(out, plain);
    buf_added(out, n);
    return PD_OK;
}

static pd_err unpack(struct span stored, struct buf *out)
{
    unsigned long long n = ZSTD_getFrameContentSize(stored.p, stored.n);
    if (n == ZSTD_CONTENTSIZE_ERROR || n == ZSTD_CONTENTSIZE_UNKNOWN)
        return PD_INVALID;
    if (n > CONTENT_BYTES_MAX)
        return PD_TOOBIG;
    pd_err e = buf_reserve(out, (size_t)n);
    if (e)
        return e;
    if (ZSTD_decompress(out->p + out->tail, (size_t)n, stored.p, stored.n) != n)
        return PD_INVALID;
    buf_added(out, (size_t)n);
    return PD_OK;
}

pd_err content_unpack(struct span stored, const struct content_name *name, struct buf *out)
{
    size_t before = buf_size(out);
    if (stored.n > CONTENT_BYTES_MAX)
        return PD_TOOBIG;
    pd_err e = looks_packed(stored) ? unpack(stored, out) : buf_add(out, stored);
    if (e || !name)
        return e;
    struct content_name is;
    e = content_name_of(span_from(buf_span(out), before), &is);
    if (!e && memcmp(is.hex, name->hex, sizeof(is.hex)) != 0)
        e = PD_INVALID;
    if (e)
        out->tail -= buf_size(out) - before; /* nobody is to use what is not proven */
    return e;
}
