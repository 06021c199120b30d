/* json_priv.h - what the files of json share. */
#ifndef PERDURE_PARSE_JSON_PRIV_H
#define PERDURE_PARSE_JSON_PRIV_H

#include "parse/json.h"

static inline const char *json_space(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    return p;
}

/* The four hex digits at p as a number; -1 when they are not. */
int32_t json_hex4(const char *p);

/* One character of a string's inside, taken from [p, end), p < end. */
struct json_char {
    const char *next; /* NULL: a bad escape */
    char utf8[4];     /* what an escape stands for; unused when plain */
    unsigned n;
};
struct json_char json_escape(const char *p, const char *end); /* *p is the backslash */

#endif
