/* fuzz_shell.c - whatever text a plan has for the shell: where its end is is one of the places, the mark is a part of it, and a text that goes on
 * within single quotes is out of them behind one more. */
#include "base/mem.h"
#include "task/shell.h"

#include <stdlib.h>

#define MUST(x)      \
    do {             \
        if (!(x))    \
            abort(); \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = span_of((const char *)data, size), mark, none;
    enum shell_place place = shell_place(text, &mark);
    MUST(!mark.n || (mark.p >= text.p && mark.p + mark.n <= text.p + text.n));
    MUST(place != SHELL_AS_IS || mark.p);
    (void)shell_ends_here(text, mark);
    if (place != SHELL_SINGLE)
        return 0;
    char *closed = mem_alloc(size + 1);
    if (!closed)
        return 0;
    memcpy(closed, data, size);
    closed[size] = '\'';
    MUST(shell_place(span_of(closed, size + 1), &none) == SHELL_EXPANDS);
    mem_free(closed);
    return 0;
}
