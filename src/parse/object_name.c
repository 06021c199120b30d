#include "parse/object_name.h"

#include <stdio.h>
#include <string.h>

/* ---- keys ------------------------------------------------------------------------------- */

static bool key_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
           c == '.' || c == '=' || c == ':';
}

static bool name_chars(struct span name)
{
    for (size_t i = 0; i < name.n; i++)
        if (!key_char(name.p[i]))
            return false;
    return name.n > 0 && name.n <= OBJECT_NAME_MAX;
}

static bool is_dots(struct span name)
{
    return span_is(name, ".") || span_is(name, "..");
}

/* Its last part may go on: it may be dots as yet. */
bool object_prefix_fits(struct span prefix)
{
    if (prefix.n > OBJECT_KEY_MAX || span_starts(prefix, "."))
        return false;
    for (unsigned parts = 1; prefix.p && prefix.n; parts++) {
        struct span name = span_cut(&prefix, '/');
        if (parts > OBJECT_PARTS_MAX || !name_chars(name) || (prefix.p && is_dots(name)))
            return false;
    }
    return true;
}

bool object_key_fits(struct span key)
{
    if (key.n == 0 || !object_prefix_fits(key) || span_ends(key, "/"))
        return false;
    size_t at = key.n;
    while (at > 0 && key.p[at - 1] != '/')
        at--;
    return !is_dots(span_from(key, at));
}

/* ---- buckets ------------------------------------------------------------------------------ */

static bool letter_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* Four numbers with dots between them, whatever they are. */
static bool is_address(struct span name)
{
    unsigned parts = 0;
    while (name.p) {
        struct span one = span_cut(&name, '.');
        parts++;
        for (size_t i = 0; i < one.n; i++)
            if (one.p[i] < '0' || one.p[i] > '9')
                return false;
    }
    return parts == 4;
}

const char *bucket_wrong(struct span name)
{
    if (name.n < BUCKET_NAME_LEAST || name.n > BUCKET_NAME_MAX)
        return "write 3 to 63 characters";
    for (size_t i = 0; i < name.n; i++)
        if (!letter_or_digit(name.p[i]) && name.p[i] != '.' && name.p[i] != '-')
            return "write lowercase letters, digits, - and . alone";
    if (!letter_or_digit(name.p[0]) || !letter_or_digit(name.p[name.n - 1]))
        return "begin and end it with a letter or a digit";
    if (span_has(name, ".."))
        return "write no two dots side by side";
    return is_address(name) ? "it is an IP address" : NULL;
}

bool bucket_place(struct span text, struct span *bucket, struct span *prefix, char why[PLACE_WHY_BYTES])
{
    *prefix = span_starts(text, "s3://") ? span_from(text, strlen("s3://")) : text;
    *bucket = span_cut(prefix, '/');
    while (prefix->n && prefix->p[prefix->n - 1] == '/')
        prefix->n--;
    const char *wrong = bucket_wrong(*bucket);
    if (wrong)
        snprintf(why, PLACE_WHY_BYTES, "\"%.*s\" is no bucket's name: %s", SPAN_FMT(span_upto(*bucket, 100)),
                 wrong);
    else if (prefix->n && !object_key_fits(*prefix))
        snprintf(why, PLACE_WHY_BYTES,
                 "\"%.*s\" is no prefix: it is of letters, digits and - _ . = : with / between its parts",
                 SPAN_FMT(span_upto(*prefix, 100)));
    else
        return true;
    return false;
}
