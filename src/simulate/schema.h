/* schema.h - a value that fits a JSON Schema: tool arguments and structured answers of a simulated model.
 *
 * Knows what tools and structured output use of draft-07 and 2020-12: type, enum, const, properties, required, items, prefixItems, $ref
 * into the same document, anyOf, oneOf, allOf, bounds, lengths and the common formats. `pattern` is not obeyed. */
#ifndef PERDURE_SIMULATE_SCHEMA_H
#define PERDURE_SIMULATE_SCHEMA_H

#include "base/rnd.h"
#include "parse/put.h"

enum { SCHEMA_DEPTH_MAX = 24, SCHEMA_DEPTH_OPTIONAL = 6, SCHEMA_VALUES_MAX = 10000 };

/* Members that are not required are left out when `required` is given; without it all are written, SCHEMA_DEPTH_OPTIONAL deep. */
void schema_put_example(struct put *out, struct json schema);
/* The same; texts without a format or a limit of their length are lines of varied.h. */
void schema_put_varied(struct put *out, struct json schema, struct rnd *rnd);

#endif
