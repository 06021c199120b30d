#include "conf/conf_priv.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>

/* Remarks are one line each, whatever the file's names hold; a character cut in two at the end goes whole. */
static void tidy(char *text, size_t n, size_t room)
{
    if (n >= room) {
        n = room - 1;
        while (n && ((unsigned char)text[n - 1] & 0xc0) == 0x80)
            n--;
        if (n && (unsigned char)text[n - 1] >= 0xc0)
            n--;
        text[n] = '\0';
    }
    for (size_t i = 0; i < n; i++)
        if (iscntrl((unsigned char)text[i]))
            text[i] = '?';
}

void conf_say(struct conf_reader *r, bool error, unsigned line, const char *fmt, ...)
{
    struct conf_report *report = r->report;
    if (error)
        report->errors++;
    if (report->count == CONF_REMARKS_MAX)
        return;
    struct conf_remark *remark = &report->remarks[report->count++];
    remark->error = error;
    remark->line = line;
    size_t room = sizeof(remark->text);
    int n = line ? snprintf(remark->text, room, "%s line %u: ", r->name, line)
                 : snprintf(remark->text, room, "%s: ", r->name);
    if (n >= 0 && (size_t)n < room) {
        va_list args;
        va_start(args, fmt);
        int more = vsnprintf(remark->text + n, room - (size_t)n, fmt, args);
        va_end(args);
        n += more > 0 ? more : 0;
    }
    tidy(remark->text, n > 0 ? (size_t)n : 0, room);
}

enum { WORD_MAX = 40 };

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* How many letters must be changed, added, left out or swapped with their neighbour. Case does not count. */
static unsigned distance(struct span a, struct span b)
{
    unsigned rows[3][WORD_MAX + 1];
    for (unsigned j = 0; j <= b.n; j++)
        rows[0][j] = j;
    for (unsigned i = 1; i <= a.n; i++) {
        unsigned *now = rows[i % 3], *last = rows[(i - 1) % 3], *before = rows[(i + 1) % 3];
        now[0] = i;
        for (unsigned j = 1; j <= b.n; j++) {
            int x = tolower((unsigned char)a.p[i - 1]), y = tolower((unsigned char)b.p[j - 1]);
            now[j] = least(least(last[j], now[j - 1]) + 1, last[j - 1] + (x != y));
            if (i > 1 && j > 1 && x == tolower((unsigned char)b.p[j - 2]) &&
                y == tolower((unsigned char)a.p[i - 2]))
                now[j] = least(now[j], before[j - 2] + 1);
        }
    }
    return rows[a.n % 3][b.n];
}

const char *conf_nearest(struct span word, const char *const *words, unsigned count)
{
    if (word.n == 0 || word.n > WORD_MAX)
        return NULL;
    const char *best = NULL;
    unsigned best_distance = word.n < 4 ? 1 : (unsigned)word.n / 3 + 1;
    for (unsigned i = 0; i < count; i++) {
        struct span w = span_str(words[i]);
        if (w.n == 0 || w.n > WORD_MAX)
            continue;
        unsigned d = distance(word, w);
        if (d < best_distance || (d == best_distance && !best && d < w.n)) {
            best = words[i];
            best_distance = d;
        }
    }
    return best;
}

const char *conf_hint(struct span word, const char *const *words, unsigned count, char *out, size_t out_bytes)
{
    const char *best = conf_nearest(word, words, count);
    snprintf(out, out_bytes, best ? ": did you mean \"%s\"?" : "%s", best ? best : "");
    return out;
}

void *conf_take(struct conf_reader *r, size_t count, size_t size)
{
    void *p = count <= CONF_MEMORY_MAX / (size ? size : 1) ? arena_zalloc(r->arena, count * size) : NULL;
    if (!p)
        r->nomem = true;
    return p;
}

const char *conf_copy(struct conf_reader *r, struct span s)
{
    const char *p = arena_strndup(r->arena, s.p, s.n);
    if (!p)
        r->nomem = true;
    return p;
}

const char *conf_env(struct conf_reader *r, const char *name)
{
    struct span s = span_trim(span_str(r->env(r->env_ctx, name)));
    if (s.n == 0)
        return "";
    const char *p = arena_strndup(&r->scratch, s.p, s.n);
    if (!p)
        r->nomem = true;
    return p ? p : "";
}
