#include "parse/nearest.h"

#include <ctype.h>
#include <stdio.h>

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

const char *nearest_word(struct span word, const char *const *words, unsigned count)
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

const char *nearest_hint(struct span word, const char *const *words, unsigned count, char *out, size_t out_bytes)
{
    const char *best = nearest_word(word, words, count);
    snprintf(out, out_bytes, best ? ": did you mean \"%s\"?" : "%s", best ? best : "");
    return out;
}
