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
