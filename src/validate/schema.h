/* schema.h - does a JSON value fit a JSON Schema?
 *
 * Drafts 7 and 2020-12 read as one, with what model APIs add: OpenAPI's "nullable",
 * Gemini's upper-case types. It never refuses what fits: a keyword that is not known, a
 * reference that leads nowhere, a format, a pattern that cannot be compiled, and work beyond
 * the limits below all count as fitting, because they cannot be told.
 *
 * Pure: spans in, a yes or no and a sentence out. */
#ifndef PERDURE_VALIDATE_SCHEMA_H
#define PERDURE_VALIDATE_SCHEMA_H

#include "base/err.h"
#include "base/span.h"

enum {
    SCHEMA_DEPTH_MAX = 128,       /* of schemas within schemas, references followed included */
    SCHEMA_WORK_MAX = 500 * 1000, /* schemas, members and comparisons looked at: a hostile schema ends here */
    SCHEMA_MEMORY_MAX = 16 << 20, /* scratch, for texts with escapes */
};

/* Both are raw JSON and well formed (json_check() took them; a schema that is not is one that everything fits). `why`, when not
 * NULL, gets where and why it does not fit, in one sentence with a NUL, cut to fit: `arguments.count: a number is wanted, "3" is a string`. It
 * shows no more of a value than its first few bytes. Empty when it fits. PD_NOMEM. */
pd_err schema_check(struct span schema, struct span value, bool *ret_fits, char *why, size_t why_bytes) PD_CHECKED;

#endif
