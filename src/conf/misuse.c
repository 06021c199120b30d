#include "conf/misuse.h"

#include "parse/nearest.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { OPTION_MAX = 40, SHOWN_MAX = 200 };

static bool option_char(char c)
{
    return (c >= 'a' && c <= 'z') || c == '-';
}

static bool is_known(const struct span *options, unsigned count, struct span word)
{
    for (unsigned i = 0; i < count; i++)
        if (span_eq(options[i], word))
            return true;
    return false;
}

unsigned misuse_known(const char *help, struct span *ret, unsigned max)
{
    unsigned n = 0;
    for (const char *at = strstr(help, "--"); at; at = strstr(at, "--")) {
        struct span word = {at, 2};
        while (option_char(word.p[word.n]))
            word.n++;
        bool begins = at > help && strchr(" [", at[-1]);
        at += word.n;
        if (begins && word.n > 2 && n < max && !is_known(ret, n, word))
            ret[n++] = word;
    }
    return n;
}

bool misuse_knows(const char *help, const char *option)
{
    struct span options[MISUSE_WORDS_MAX];
    return is_known(options, misuse_known(help, options, MISUSE_WORDS_MAX), span_str(option));
}

static struct span name_of(const char *arg)
{
    return span_of(arg, strcspn(arg, "="));
}

const char *misuse_near(const char *help, const char *arg, char out[MISUSE_HINT_BYTES])
{
    struct span options[MISUSE_WORDS_MAX];
    char texts[MISUSE_WORDS_MAX][OPTION_MAX];
    const char *words[MISUSE_WORDS_MAX];
    unsigned count = misuse_known(help, options, MISUSE_WORDS_MAX);
    for (unsigned i = 0; i < count; i++) {
        snprintf(texts[i], sizeof(texts[i]), "%.*s", SPAN_FMT(options[i]));
        words[i] = texts[i];
    }
    nearest_hint(name_of(arg), words, count, out, MISUSE_HINT_BYTES);
    for (unsigned i = 0; i < count && !*out && name_of(arg).n > 3; i++) /* "--log": it was meant to be completed */
        if (strncmp(texts[i], arg, name_of(arg).n) == 0)
            snprintf(out, MISUSE_HINT_BYTES, ": did you mean \"%s\"?", texts[i]);
    return out;
}

static int say_help(const char *command)
{
    fprintf(stderr, "`%s --help` tells how it is called\n", command);
    return MISUSE_WRONG;
}

int misuse(const char *command, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s: ", command);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return say_help(command);
}

int misuse_option(const char *command, const char *help, const char *arg)
{
    struct span options[MISUSE_WORDS_MAX], name = name_of(arg);
    char hint[MISUSE_HINT_BYTES];
    unsigned count = misuse_known(help, options, MISUSE_WORDS_MAX);
    if (arg[name.n] && is_known(options, count, name))
        return misuse(command, "%.*s takes no value", SPAN_FMT(name));
    return misuse(command, "there is no option \"%.*s\"%s", SPAN_FMT(span_upto(name, SHOWN_MAX)),
                  misuse_near(help, arg, hint));
}

int misuse_word(const char *command, const char *word, const char *const *words, unsigned count)
{
    char hint[MISUSE_HINT_BYTES];
    return misuse(command, "\"%.*s\" is not understood%s", SHOWN_MAX, word,
                  nearest_hint(span_str(word), words, count, hint, sizeof(hint)));
}

int misuse_value(const char *command, const char *option, const char *value, const char *remedy)
{
    if (!value)
        return misuse(command, "%s needs a value", option);
    return misuse(command, "%s is \"%.*s\": %s", option, SHOWN_MAX, value, remedy);
}
