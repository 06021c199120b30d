#include "provider/redact.h"

#include "parse/utf8.h"

enum { KEY_LEAST = 6, NAMED_KEY_LEAST = 16 };

/* How keys begin. Before one there is no letter and no digit: "task-specific" holds no sk- key. */
static const char *const prefixes[] = {
    "sk-", "sk_",  "bearer ", "cpk_", "nvapi-", "gsk_",  "fw_",  "tgp_",
    "hf_", "xai-", "pplx-",   "aiza", "sess-",  "ya29.", "absk", "bedrock-api-key-"};
/* After these words a long run of key characters is a key, whatever it looks like. */
static const char *const names[] = {
    "key: ", "key:", "key=", "key provided: ", "token: ", "token=", "authorization: ", "password="};

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_key_char(char c)
{
    return is_alnum(c) || (c && strchr("-_*.+/=~", c));
}

/* A run of key characters; the dot that ends the sentence is no part of it. */
static size_t key_run(struct span s)
{
    size_t n = 0;
    while (n < s.n && is_key_char(s.p[n]))
        n++;
    while (n > 0 && s.p[n - 1] == '.')
        n--;
    return n;
}

static size_t prefixed(struct span s, const char *const *list, size_t count, size_t least, bool whole)
{
    for (size_t i = 0; i < count; i++) {
        size_t n = strlen(list[i]);
        if (!span_iis(span_upto(s, n), list[i]))
            continue;
        size_t run = key_run(span_from(s, n));
        if (run >= least)
            return whole ? n + run : n;
    }
    return 0;
}

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

/* Bytes at `at` that are a key; 0: none. */
static size_t key_at(struct span text, size_t at)
{
    struct span s = span_from(text, at);
    if (at == 0 || !is_alnum(text.p[at - 1])) {
        size_t n = prefixed(s, prefixes, COUNT(prefixes), KEY_LEAST, true);
        if (n > 0)
            return n;
    }
    return 0;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct copy {
    char *out;
    size_t n, room;
};

/* All of it or nothing. */
static bool put(struct copy *c, const char *p, size_t n)
{
    if (n > c->room - c->n)
        return false;
    memcpy(c->out + c->n, p, n);
    c->n += n;
    return true;
}

/* One key, run of blanks, or character; returns the bytes of the text that it took, 0 when it does not fit any more. */
static size_t copy_one(struct copy *c, struct span text, size_t at)
{
    size_t n = key_at(text, at);
    if (n > 0)
        return put(c, "***", 3) ? n : 0;

    struct span s = span_from(text, at);
    while (n < s.n && is_blank(s.p[n]))
        n++;
    if (n > 0)
        return put(c, " ", 1) ? n : 0;

    n = utf8_next(s);
    if (n == 0 || (n == 1 && ((unsigned char)s.p[0] < 0x20 || s.p[0] == 0x7f)))
        return put(c, "?", 1) ? 1 : 0;
    return put(c, s.p, n) ? n : 0;
}

size_t redact_copy(struct span text, char *out, size_t out_bytes)
{
    struct copy c = {out, 0, out_bytes - 1};
    text = span_trim(text);
    for (size_t at = 0; at < text.n;) {
        size_t name = prefixed(span_from(text, at), names, COUNT(names), NAMED_KEY_LEAST, false);
        size_t took = copy_one(&c, text, at);
        if (took == 0)
            break;
        at += took;
        if (name == 0)
            continue;
        /* The name itself, then stars for what it names. */
        for (size_t end = at - took + name; at < end && took > 0; at += took)
            took = copy_one(&c, text, at);
        if (took == 0 || !put(&c, "***", 3))
            break;
        at += key_run(span_from(text, at));
    }
    out[c.n] = '\0';
    return c.n;
}
