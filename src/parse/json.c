/* Finding where values start and end, without looking at what is in them. */
#include "parse/json_priv.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* ---- the end of a value ------------------------------------------------------ */

/* Where the bytes that matter are in a block of 64: bit i is byte i. */
enum { BLOCK = 64 };
struct marks {
    uint64_t quote, slash, open, close;
};

#ifdef __SSE2__
static inline uint64_t eq(__m128i v, char c)
{
    return (uint64_t)(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_set1_epi8(c)));
}

static inline struct marks marks_of(const char *p)
{
    struct marks m = {0};
    for (unsigned i = 0; i < BLOCK; i += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(p + i));
        __m128i folded = _mm_or_si128(v, _mm_set1_epi8(0x20)); /* '[' becomes '{', and ']' becomes '}' */
        m.quote |= eq(v, '"') << i;
        m.slash |= eq(v, '\\') << i;
        m.open |= eq(folded, '{') << i;
        m.close |= eq(folded, '}') << i;
    }
    return m;
}
#else
/* Bit i says whether byte i of the word is c. */
static inline uint64_t eq(uint64_t word, char c)
{
    const uint64_t ones = 0x0101010101010101u, low = 0x7f7f7f7f7f7f7f7fu;
    uint64_t x = word ^ (ones * (unsigned char)c);
    uint64_t zero = ~(((x & low) + low) | x | low) >> 7; /* 1 in each byte that was equal, and exactly there */
    return (zero * 0x0102040810204080u) >> 56;
}

static inline struct marks marks_of(const char *p)
{
    struct marks m = {0};
    for (unsigned i = 0; i < BLOCK; i += 8) {
        uint64_t v;
        memcpy(&v, p + i, sizeof(v));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        v = __builtin_bswap64(v);
#endif
        uint64_t folded = v | 0x2020202020202020u; /* '[' becomes '{', and ']' becomes '}' */
        m.quote |= eq(v, '"') << i;
        m.slash |= eq(v, '\\') << i;
        m.open |= eq(folded, '{') << i;
        m.close |= eq(folded, '}') << i;
    }
    return m;
}
#endif

/* Which of the bytes that are no backslash are escaped: those after an odd number of them. *carry: the first byte of the
 * block is; then of the next block. A run that starts at an even place and ends before an odd one is odd, and the other
 * way round; adding the start of a run to the run carries into the place after it (Langdale and Lemire 2019). */
static inline uint64_t escaped_of(uint64_t slash, uint64_t *carry)
{
    const uint64_t even = 0x5555555555555555u;
    uint64_t escaped = *carry;
    slash &= ~escaped;
    *carry = 0;
    if (slash == 0)
        return escaped;
    uint64_t starts = slash & ~(slash << 1);
    uint64_t after_even = slash + (starts & even), after_odd = slash + (starts & ~even);
    *carry = after_odd < slash; /* it ran over: an odd run reaches the block's end */
    return escaped | (after_even & ~even & ~slash) | (after_odd & even & ~slash);
}

/* Bit i is the parity of the bits 0 to i: set from an opening quote up to before the closing one. */
static inline uint64_t parity_of(uint64_t x)
{
    for (unsigned shift = 1; shift < BLOCK; shift *= 2)
        x ^= x << shift;
    return x;
}

/* The block at p, with blanks behind `end`; `padded` is where that is put together when it must be. */
static inline const char *block_at(const char *p, const char *end, char *padded)
{
    if (end - p >= BLOCK)
        return p;
    memset(padded, ' ', BLOCK);
    memcpy(padded, p, (size_t)(end - p));
    return padded;
}

/* string_end() from p on, which is inside the string and not escaped: for strings with many escaped quotes. */
static const char *string_end_by_blocks(const char *p, const char *end)
{
    uint64_t carry = 0;
    for (; p < end; p += BLOCK) {
        char padded[BLOCK];
        struct marks m = marks_of(block_at(p, end, padded));
        uint64_t quotes = m.quote & ~escaped_of(m.slash, &carry);
        if (quotes)
            return p + __builtin_ctzll(quotes) + 1;
        if (end - p <= BLOCK)
            break;
    }
    return NULL;
}

/* From after the opening quote to after the closing one; NULL when there is none. */
static inline const char *string_end(const char *p, const char *end)
{
#ifdef __SSE2__
    if (end - p >= 16) { /* most strings are short, and most have no escape */
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        uint64_t quote = eq(v, '"'), slash = eq(v, '\\');
        if (quote && (slash & (quote ^ (quote - 1))) == 0)
            return p + __builtin_ctzll(quote) + 1;
    }
#endif
    const char *quote = p < end ? memchr(p, '"', (size_t)(end - p)) : NULL;
    if (!quote)
        return NULL;
    const char *slash = quote;
    while (slash > p && slash[-1] == '\\')
        slash--;
    return (quote - slash) & 1 ? string_end_by_blocks(quote + 1, end) : quote + 1;
}

/* Where a walk through an object or array is between two blocks. */
struct scan {
    uint64_t carry;  /* the first byte is escaped */
    uint64_t inside; /* all ones: in a string */
    unsigned depth;
};

/* The closing bracket's place in the block, or BLOCK; more than that when nested too deep. */
static inline unsigned scan_block(struct scan *s, struct marks m)
{
    uint64_t quotes = m.quote & ~escaped_of(m.slash, &s->carry);
    uint64_t inside = s->inside;
    if (quotes) {
        inside ^= parity_of(quotes);
        s->inside = (uint64_t)0 - (inside >> (BLOCK - 1));
    }
    uint64_t close = m.close & ~inside;
    uint64_t brackets = (m.open & ~inside) | close;
    for (; brackets; brackets &= brackets - 1) {
        if (close & brackets & (0 - brackets)) {
            if (--s->depth == 0)
                return (unsigned)__builtin_ctzll(brackets);
        } else if (++s->depth > JSON_DEPTH_MAX) {
            return BLOCK + 1;
        }
    }
    return BLOCK;
}

/* p is inside a long text: steps to after its next quote, faster than block by block. NULL when there is none. */
static const char *over_text(struct scan *s, const char *p, const char *end)
{
    const char *quote = memchr(p, '"', (size_t)(end - p));
    if (!quote)
        return NULL;
    const char *slash = quote;
    while (slash[-1] == '\\') /* the text's opening quote ends this */
        slash--;
    s->carry = 0;
    if (((quote - slash) & 1) == 0)
        s->inside = 0;
    return quote + 1;
}

/* From after the opening bracket to after the closing one. Strings are stepped over; which kind of
 * bracket closes is not looked at but for the last. */
static pd_err bracket_end(const char *p, const char *end, const char **ret)
{
    char closes = (char)(p[-1] + 2); /* in ASCII, '}' is '{' + 2, and ']' is '[' + 2 */
    struct scan scan = {.depth = 1};
    while (p < end) {
        char padded[BLOCK];
        struct marks marks = marks_of(block_at(p, end, padded));
        unsigned at = scan_block(&scan, marks);
        if (at > BLOCK)
            return PD_TOOBIG;
        if (at < BLOCK) {
            *ret = p + at + 1;
            return p[at] == closes ? PD_OK : PD_SYNTAX;
        }
        p += end - p < BLOCK ? end - p : BLOCK;
        if (scan.inside && marks.quote == 0)
            p = over_text(&scan, p, end);
        if (!p)
            return PD_SYNTAX;
    }
    return PD_SYNTAX;
}

static const char *number_end(const char *p, const char *end)
{
    while (p < end && ((*p >= '0' && *p <= '9') || *p == '-' || *p == '+' || *p == '.' || *p == 'e' || *p == 'E'))
        p++;
    return p;
}

static const char *word_end(const char *p, const char *end, const char *word)
{
    return span_starts(span_of(p, (size_t)(end - p)), word) ? p + strlen(word) : NULL;
}

/* The value that starts at p; *ret_end is after it. */
static inline pd_err value_at(const char *p, const char *end, struct json *ret, const char **ret_end)
{
    enum json_type type = JSON_NONE;
    const char *after = NULL;
    pd_err e = PD_OK;
    if (p == end)
        return PD_SYNTAX;
    switch (*p) {
    case '"':
        type = JSON_STRING;
        after = string_end(p + 1, end);
        break;
    case '{':
    case '[':
        type = *p == '{' ? JSON_OBJECT : JSON_ARRAY;
        e = bracket_end(p + 1, end, &after);
        break;
    case 't':
        type = JSON_BOOL;
        after = word_end(p, end, "true");
        break;
    case 'f':
        type = JSON_BOOL;
        after = word_end(p, end, "false");
        break;
    case 'n':
        type = JSON_NULL;
        after = word_end(p, end, "null");
        break;
    default:
        type = JSON_NUMBER;
        if (*p == '-' || (*p >= '0' && *p <= '9'))
            after = number_end(p, end);
    }
    if (e || !after)
        return e ? e : PD_SYNTAX;
    *ret = (struct json){type, span_of(p, (size_t)(after - p))};
    *ret_end = after;
    return PD_OK;
}

pd_err json_first(struct span in, struct json *ret, struct span *ret_rest)
{
    if (in.n == 0)
        return PD_SYNTAX;
    const char *end = in.p + in.n, *after;
    pd_err e = value_at(json_space(in.p, end), end, ret, &after);
    if (e)
        return e;
    if (ret_rest)
        *ret_rest = span_of(after, (size_t)(end - after));
    return PD_OK;
}

/* ---- walking ------------------------------------------------------------------- */

void json_walk_init(struct json_walk *w, struct json v)
{
    *w = (struct json_walk){.object = v.type == JSON_OBJECT, .done = true};
    if ((v.type == JSON_OBJECT || v.type == JSON_ARRAY) && v.raw.n) {
        w->done = false;
        w->rest = span_from(v.raw, 1);
    }
}

void json_walk_doc(struct json_walk *w, struct span doc)
{
    *w = (struct json_walk){.rest = doc};
    const char *p = doc.n ? json_space(doc.p, doc.p + doc.n) : doc.p;
    size_t blank = (size_t)(p - doc.p);
    if (blank == doc.n || (*p != '{' && *p != '[')) {
        w->done = true;
        w->err = PD_SYNTAX;
        return;
    }
    w->object = *p == '{';
    w->rest = span_from(doc, blank + 1);
}

static bool walk_over(struct json_walk *w, const char *p, const char *end, pd_err e)
{
    w->done = true;
    w->err = e;
    w->rest = span_of(p, (size_t)(end - p));
    return false;
}

bool json_walk_next(struct json_walk *w, struct span *ret_key, struct json *ret)
{
    if (w->done)
        return false;
    if (w->rest.n == 0)
        return walk_over(w, w->rest.p, w->rest.p, PD_SYNTAX);
    const char *end = w->rest.p + w->rest.n, *p = json_space(w->rest.p, end);
    if (p < end && *p == (w->object ? '}' : ']'))
        return walk_over(w, p + 1, end, PD_OK);
    if (w->started) {
        if (p == end || *p != ',')
            return walk_over(w, p, end, PD_SYNTAX);
        p = json_space(p + 1, end);
    }

    struct span key = SPAN_NONE;
    if (w->object) {
        const char *after = p < end && *p == '"' ? string_end(p + 1, end) : NULL;
        if (!after)
            return walk_over(w, p, end, PD_SYNTAX);
        key = span_of(p + 1, (size_t)(after - p) - 2);
        p = json_space(after, end);
        if (p == end || *p != ':')
            return walk_over(w, p, end, PD_SYNTAX);
        p = json_space(p + 1, end);
    }
    pd_err e = value_at(p, end, ret, &p);
    if (e)
        return walk_over(w, p, end, e);
    if (ret_key)
        *ret_key = key;
    w->started = true;
    w->rest = span_of(p, (size_t)(end - p));
    return true;
}

/* ---- looking up ------------------------------------------------------------------ */

static struct json member(struct json obj, struct span key)
{
    struct json found = {0}, v;
    struct json_walk w;
    struct span k;
    if (obj.type != JSON_OBJECT)
        return found;
    json_walk_init(&w, obj);
    while (json_walk_next(&w, &k, &v))
        if (json_key_eq(k, key))
            found = v;
    return found;
}

struct json json_get(struct json obj, const char *key)
{
    return member(obj, span_str(key));
}

static struct json item_at(struct json arr, uint64_t index)
{
    struct json none = {0}, v;
    struct json_walk w;
    json_walk_init(&w, arr);
    while (json_walk_next(&w, NULL, &v))
        if (index-- == 0)
            return v;
    return none;
}

struct json json_path(struct json v, const char *path)
{
    struct span rest = span_str(path);
    while (rest.p && v.type != JSON_NONE) {
        struct span part = span_cut(&rest, '.');
        uint64_t index;
        if (v.type == JSON_ARRAY)
            v = span_u64(part, &index) ? item_at(v, index) : (struct json){0};
        else
            v = member(v, part);
    }
    return v;
}
