/* fuzz_shown.c - what can be loaded is saved and loaded the same, and is told from every position within its bytes. */
#include "dialect/shown.h"

#include <stdlib.h>

static void on_told(void *ctx, const struct msg_delta *d)
{
    size_t *bytes = ctx;
    const struct span all[] = {d->id, d->type, d->item, d->text};
    for (size_t i = 0; i < 4; i++)
        for (size_t k = 0; k < all[i].n; k++)
            *bytes += (unsigned char)all[i].p[k] | 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct shown s, again;
    struct buf file, same;
    size_t sum = 0;
    shown_init(&s);
    shown_init(&again);
    buf_init(&file, 0);
    buf_init(&same, 0);
    pd_err e = shown_load(&s, span_of((const char *)data, size));
    if (e != PD_OK && e != PD_SYNTAX)
        abort();
    size_t cut = size ? data[size / 2] : 0;
    if (shown_save(&s, 0, &file) || shown_load(&again, buf_span(&file)) || shown_save(&again, 0, &same) ||
        buf_size(&file) != shown_end(&s) || !span_eq(buf_span(&file), buf_span(&same)))
        abort();
    for (size_t from = 0; from <= shown_end(&s); from += 1 + cut)
        if (shown_tell(&s, from, on_told, &sum) != shown_end(&s))
            abort();
    buf_clear(&file);
    e = shown_text(&s, &file);
    if (e != PD_OK && e != PD_SYNTAX)
        abort();
    shown_done(&s);
    shown_done(&again);
    buf_done(&file);
    buf_done(&same);
    return 0;
}
