/* fuzz_s3_xml.c - whatever an S3 server sends: paths and texts keep to their limits, and a document that reads well ends with its root. */
#include "store/s3_xml.h"

#include <stdlib.h>

#define MUST(x)      \
    do {             \
        if (!(x))    \
            abort(); \
    } while (0)

struct seen {
    unsigned count;
    bool root; /* the last one */
};

static pd_err look(void *ctx, const char *path, struct span text)
{
    struct seen *seen = ctx;
    MUST(!seen->root);
    MUST(*path && strlen(path) <= S3_XML_PATH_MAX);
    MUST(text.n <= S3_XML_TEXT_MAX);
    unsigned sum = 0;
    for (size_t i = 0; i < text.n; i++) /* each byte is there */
        sum += (unsigned char)text.p[i];
    seen->root = strchr(path, '/') == NULL;
    seen->count += sum ? 1 : 2;
    return PD_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct seen seen = {.count = 0};
    pd_err e = s3_xml_read(span_of((const char *)data, size), look, &seen);
    MUST(e == PD_OK || e == PD_SYNTAX || e == PD_TOOBIG);
    MUST(e || seen.root);
    return 0;
}
