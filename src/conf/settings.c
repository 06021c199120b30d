#include "conf/conf.h"

#include <assert.h>
#include <stdio.h>

const struct setting_row setting_rows[] = {
#define SETTING(field, type, dflt, least, most, where, what) \
    {#field, dflt, least, most, what, SETTING_##type, SETTING_##where, offsetof(struct settings, field)},
#include "conf/settings.def"
#undef SETTING
};
enum { ROWS = sizeof(setting_rows) / sizeof(setting_rows[0]) };
_Static_assert(ROWS <= 64, "a set of settings is a uint64_t");
const unsigned setting_rows_count = ROWS;

const struct setting_row *setting_find(struct span name)
{
    for (unsigned i = 0; i < ROWS; i++)
        if (span_is(name, setting_rows[i].name))
            return &setting_rows[i];
    return NULL;
}

/* Numbers are read in millionths, so that "1.5h" and "0.2" are exact. Whole parts above this are refused: no overflow anywhere. */
enum { FRACTION_DIGITS = 6 };
static const uint64_t millionths = 1000000, whole_max = 1000000000;

/* Digits, and a '.' with up to six more, from the front of *s. False: there are none, or too many. */
static bool take_number(struct span *s, uint64_t *ret)
{
    uint64_t whole = 0, fraction = 0, scale = millionths;
    size_t i = 0;
    for (; i < s->n && s->p[i] >= '0' && s->p[i] <= '9'; i++) {
        whole = whole * 10 + (uint64_t)(s->p[i] - '0');
        if (whole > whole_max)
            return false;
    }
    if (i == 0)
        return false;
    if (i < s->n && s->p[i] == '.') {
        size_t first = ++i;
        for (; i < s->n && s->p[i] >= '0' && s->p[i] <= '9'; i++) {
            if (i - first >= FRACTION_DIGITS)
                return false;
            scale /= 10;
            fraction += (uint64_t)(s->p[i] - '0') * scale;
        }
        if (i == first)
            return false;
    }
    *s = span_from(*s, i);
    *ret = whole * millionths + fraction;
    return true;
}

struct unit {
    const char *name;
    uint64_t of; /* milliseconds, or bytes */
};
static const struct unit durations[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
static const struct unit sizes[] = {{"GB", 1 << 30},  {"MB", 1 << 20},  {"KB", 1 << 10},  {"B", 1},
                                    {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"G", 1 << 30},
                                    {"M", 1 << 20},   {"K", 1 << 10}};
enum { DURATIONS = sizeof(durations) / sizeof(durations[0]), SIZES = sizeof(sizes) / sizeof(sizes[0]) };

/* Letters from the front of *s; NULL: they name no unit. */
static const struct unit *take_unit(struct span *s, const struct unit *units, unsigned count, bool any_case)
{
    size_t n = 0;
    while (n < s->n && ((s->p[n] >= 'a' && s->p[n] <= 'z') || (s->p[n] >= 'A' && s->p[n] <= 'Z')))
        n++;
    struct span word = span_upto(*s, n);
    for (unsigned i = 0; i < count; i++)
        if (any_case ? span_iis(word, units[i].name) : span_is(word, units[i].name)) {
            *s = span_from(*s, n);
            return &units[i];
        }
    return NULL;
}

/* How values of a type are written, for messages and docs. */
static const char *spelling(enum setting_type type)
{
    switch (type) {
    case SETTING_COUNT:
        return "write a whole number, as in 3";
    case SETTING_DURATION:
        return "write a number and a unit (ms, s, m, h, d), as in \"2s\" or \"1m30s\"";
    case SETTING_BYTES:
        return "write a number and a unit (B, KB, MB, GB), as in \"64MB\"";
    case SETTING_RATIO:
        return "write a number or a percentage, as in 0.2 or 20%";
    case SETTING_BOOL:
        return "write true or false";
    }
    return "";
}

static bool parse_duration(struct span s, uint64_t *ret)
{
    uint64_t sum = 0;
    if (span_is(s, "0"))
        return *ret = 0, true;
    if (s.n == 0)
        return false;
    while (s.n) {
        uint64_t number;
        const struct unit *unit;
        if (!take_number(&s, &number) || !(unit = take_unit(&s, durations, DURATIONS, false)))
            return false;
        /* The product needs more than 64 bits for no value that the rows allow: refuse what would not fit. */
        if (number > UINT64_MAX / unit->of)
            return false;
        number *= unit->of;
        if (number % millionths != 0 || sum + number / millionths < sum)
            return false;
        sum += number / millionths;
    }
    *ret = sum;
    return true;
}

static bool parse_bytes(struct span s, uint64_t *ret)
{
    uint64_t number;
    if (!take_number(&s, &number))
        return false;
    s = span_trim(s);
    const struct unit *unit = s.n ? take_unit(&s, sizes, SIZES, true) : &sizes[3];
    if (!unit || s.n || number > UINT64_MAX / unit->of || number * unit->of % millionths != 0)
        return false;
    *ret = number * unit->of / millionths;
    return true;
}

static bool parse_ratio(struct span s, uint64_t *ret)
{
    if (!take_number(&s, ret))
        return false;
    if (span_is(s, "%")) {
        *ret /= 100;
        return true;
    }
    return s.n == 0;
}

static bool parse_bool(struct span s, uint64_t *ret)
{
    if (span_iis(s, "true") || span_iis(s, "yes") || span_iis(s, "on"))
        *ret = 1;
    else if (span_iis(s, "false") || span_iis(s, "no") || span_iis(s, "off"))
        *ret = 0;
    else
        return false;
    return true;
}

static bool parse_value(enum setting_type type, struct span s, uint64_t *ret)
{
    if (type != SETTING_BOOL && span_iis(s, "off"))
        return *ret = 0, true;
    switch (type) {
    case SETTING_COUNT:
        return span_u64(s, ret);
    case SETTING_DURATION:
        return parse_duration(s, ret);
    case SETTING_BYTES:
        return parse_bytes(s, ret);
    case SETTING_RATIO:
        return parse_ratio(s, ret);
    case SETTING_BOOL:
        return parse_bool(s, ret);
    }
    return false;
}

static uint64_t row_value(const struct setting_row *row, const char *text)
{
    uint64_t v = 0;
    bool fine = parse_value(row->type, span_str(text), &v);
    assert(fine && "settings.def has a value that does not parse");
    return fine ? v : 0;
}

pd_err setting_parse(const struct setting_row *row, struct span text, uint64_t *ret, char *ret_why,
                     size_t why_bytes)
{
    uint64_t v, digits;
    text = span_trim(text);
    if (!parse_value(row->type, text, &v)) {
        if (row->type == SETTING_DURATION && text.n < 12 && span_u64(text, &digits))
            snprintf(ret_why, why_bytes, "write a unit, as in \"%.*ss\"", SPAN_FMT(text));
        else
            snprintf(ret_why, why_bytes, "%s", spelling(row->type));
        return PD_INVALID;
    }
    if (row->type == SETTING_BOOL) {
        *ret = v;
        return PD_OK;
    }
    uint64_t least = row_value(row, row->least), most = row_value(row, row->most);
    if (v == 0 && least > 0 && row->type == SETTING_DURATION)
        snprintf(ret_why, why_bytes, "it cannot be switched off: write at least %s", row->least);
    else if (v < least)
        snprintf(ret_why, why_bytes, "write at least %s", row->least);
    else if (v > most)
        snprintf(ret_why, why_bytes, "write at most %s", row->most);
    else {
        *ret = v;
        return PD_OK;
    }
    return PD_INVALID;
}

static const char *in_units(uint64_t v, const struct unit *units, unsigned count, char *out, size_t out_bytes)
{
    unsigned i = 0;
    while (i + 1 < count && (v < units[i].of || v % units[i].of))
        i++;
    snprintf(out, out_bytes, "%llu%s", (unsigned long long)(v / units[i].of), units[i].name);
    return out;
}

const char *setting_format(const struct setting_row *row, uint64_t value, char *out, size_t out_bytes)
{
    switch (row->type) {
    case SETTING_COUNT:
        snprintf(out, out_bytes, "%llu", (unsigned long long)value);
        break;
    case SETTING_DURATION:
        if (value == 0)
            snprintf(out, out_bytes, "off");
        else
            in_units(value, durations, DURATIONS, out, out_bytes);
        break;
    case SETTING_BYTES:
        in_units(value, sizes, 4, out, out_bytes);
        break;
    case SETTING_RATIO:
        snprintf(out, out_bytes, "%.10g", (double)value / (double)millionths);
        break;
    case SETTING_BOOL:
        snprintf(out, out_bytes, "%s", value ? "true" : "false");
        break;
    }
    return out;
}

void settings_default(struct settings *ret)
{
    for (unsigned i = 0; i < ROWS; i++)
        *setting_at(ret, &setting_rows[i]) = row_value(&setting_rows[i], setting_rows[i].dflt);
}

void settings_overlay(const struct conf_route *r, const struct conf_provider *p, struct settings *ret)
{
    *ret = p->settings;
    if (!r)
        return;
    for (unsigned i = 0; i < ROWS; i++)
        if (r->settings_given >> i & 1)
            *setting_at(ret, &setting_rows[i]) = setting_of(&r->settings, &setting_rows[i]);
}

static const char *type_name(enum setting_type type)
{
    switch (type) {
    case SETTING_COUNT:
        return "number";
    case SETTING_DURATION:
        return "duration";
    case SETTING_BYTES:
        return "size";
    case SETTING_RATIO:
        return "ratio";
    case SETTING_BOOL:
        return "true or false";
    }
    return "";
}

static pd_err write_table(struct buf *out, enum setting_where where)
{
    pd_err e = buf_puts(out, "| setting | default | from | to | kind | what it is |\n|---|---|---|---|---|---|\n");
    for (unsigned i = 0; i < ROWS && !e; i++) {
        const struct setting_row *row = &setting_rows[i];
        if (row->where == where)
            e = buf_printf(out, "| `%s` | %s | %s | %s | %s | %s |\n", row->name, row->dflt, row->least, row->most,
                           type_name(row->type), row->what);
    }
    return e;
}

pd_err settings_write_markdown(struct buf *out)
{
    pd_err e = buf_puts(out, "## Under `resilience:`, and again in a route or a provider (the nearest wins)\n\n");
    if (!e)
        e = write_table(out, SETTING_RESILIENCE);
    if (!e)
        e = buf_puts(out, "\n## At the top level\n\n");
    if (!e)
        e = write_table(out, SETTING_SERVER);
    if (!e)
        e = buf_printf(out,
                       "\n## How values are written\n\n- duration: %s. `0` or `off` switches a mechanism off "
                       "where the range starts at 0.\n"
                       "- size: %s; a KB is 1024 bytes.\n- ratio: %s.\n- number: %s.\n",
                       spelling(SETTING_DURATION), spelling(SETTING_BYTES), spelling(SETTING_RATIO),
                       spelling(SETTING_COUNT));
    return e;
}
