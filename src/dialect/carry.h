/* carry.h - what of a request each format can carry: the table behind docs/translation.md.
 *
 * Every part of the neutral form that not all formats have is a row: carried, carried in another shape,
 * dropped (named in x-perdure-dropped and counted), or refused with a sentence. */
#ifndef PERDURE_DIALECT_CARRY_H
#define PERDURE_DIALECT_CARRY_H

#include "dialect/codec.h"

/* Makes `m` fit `to`: drops what cannot be carried and notes it, refuses (PD_UNSUPPORTED, *ret_why a sentence) what must not be lost,
 * takes out reasoning of other makers, puts tool ids into the form that the format allows, moves what has to stand elsewhere. Where turns must
 * alternate the format's writer merges neighbours. What the maker wants back (keep.h) has been put back before: ids change here. PD_NOMEM. */
pd_err carry_fit(struct msg_request *m, const struct codec *to, const struct write_want *want, struct arena *a,
                 const char **ret_why) PD_CHECKED;
/* The table as markdown. */
pd_err carry_write_markdown(struct buf *out) PD_CHECKED;

#endif
