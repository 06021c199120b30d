/* sql.h - one text for two databases: "{pg:...}" and "{lite:...}" are kept for one and left out for the other, and `$1` becomes `?1` for
 * SQLite, which knows no `$1` by number. What stands in quotes or comments is left alone. Pure. */
#ifndef PERDURE_STORE_SQL_H
#define PERDURE_STORE_SQL_H

#include "base/buf.h"

enum { SQL_ARGS_MAX = 100, SQL_BYTES_MAX = 64 << 10 };

/* Adds the text, and a NUL behind it that is counted. *ret_args: the highest argument's number. PD_SYNTAX: an open quote or brace, braces of
 * another kind, an argument over SQL_ARGS_MAX; PD_TOOBIG; PD_NOMEM. */
pd_err sql_expand(const char *sql, bool postgres, struct buf *out, unsigned *ret_args) PD_CHECKED;

#endif
