/* content.h - bytes named by what they are: the SHA-256 of a content is its name, and it is stored compressed (zstd).
 *
 * The hash is of the plain bytes, so that the same content has one name whatever compressed it, and a restore can prove that it is
 * what was stored. A short or random content is stored as it is when zstd would not make it smaller: a zstd frame is told
 * by its magic number, and plain bytes that begin like one are always compressed. */
#ifndef PERDURE_STORE_CONTENT_H
#define PERDURE_STORE_CONTENT_H

#include "base/buf.h"

enum {
    CONTENT_NAME_BYTES = 65,      /* 64 hex digits and a NUL */
    CONTENT_BYTES_MAX = 64 << 20, /* plain; larger is PD_TOOBIG */
    CONTENT_LEVEL = 3,            /* zstd's: about 500 MB/s, and most of what more would give */
};

struct content_name {
    char hex[CONTENT_NAME_BYTES];
};

/* SHA-256 of the bytes. PD_NOMEM. */
pd_err content_name_of(struct span plain, struct content_name *ret) PD_CHECKED;
/* 64 lower-case hex digits. */
bool content_name_read(struct span text, struct content_name *ret);
/* Adds the stored form. PD_NOMEM, PD_TOOBIG. */
pd_err content_pack(struct span plain, struct buf *out) PD_CHECKED;
/* What zstd works in, for who packs one small content after another: making it costs more than they do. One thread's at a time. */
struct packer;
struct packer *packer_new(void) PD_CHECKED;   /* NULL: out of memory */
struct packer *packer_free(struct packer *p); /* NULL is fine; returns NULL */
/* content_pack() with it; NULL: without. */
pd_err packer_pack(struct packer *p, struct span plain, struct buf *out) PD_CHECKED;
/* Adds the plain bytes, and proves that they are `name`'s (NULL: what they say proves itself). PD_INVALID: damaged, or another content; PD_TOOBIG; PD_NOMEM. */
pd_err content_unpack(struct span stored, const struct content_name *name, struct buf *out) PD_CHECKED;

#endif
