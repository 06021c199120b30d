/* fuzz_base64.c - base64 that is read is written the same. */
#include "parse/base64.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span in = span_of((const char *)data, size);
    struct buf bytes, text;
    buf_init(&bytes, 0);
    buf_init(&text, 0);
    if (base64_decode(in, &bytes) == PD_OK &&
        (base64_encode(buf_span(&bytes), &text) != PD_OK || !span_eq(buf_span(&text), in)))
        abort();
    buf_done(&bytes);
    buf_done(&text);
    return 0;
}
