/* base64.h - bytes as text and back (RFC 4648, section 4).
 *
 * Reading is strict: the alphabet with '+' and '/', padding in full, nothing between the characters and no bits left over, so
 * that a text has one reading only. */
#ifndef PERDURE_PARSE_BASE64_H
#define PERDURE_PARSE_BASE64_H

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

/* Appends the bytes of `text`. PD_SYNTAX (nothing is added then), PD_NOMEM, PD_TOOBIG. */
pd_err base64_decode(struct span text, struct buf *out) PD_CHECKED;
/* Appends the text of `bytes`, padded. PD_NOMEM, PD_TOOBIG. */
pd_err base64_encode(struct span bytes, struct buf *out) PD_CHECKED;

#endif
