/* fuzz_schema.c - whatever the schema and the value are, the check ends, its sentence fits, and it says the same twice. The first line is the
 * schema, the rest the value. */
#include "base/span.h"
#include "validate/schema.h"

#include <stdlib.h>

#define MUST(x)      \
    do {             \
        if (!(x))    \
            abort(); \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span value = span_of((const char *)data, size), schema = span_cut(&value, '\n');
    char why[64], again[64];
    bool fits = false, same = false;
    MUST(schema_check(schema, value, &fits, why, sizeof(why)) == PD_OK);
    MUST(memchr(why, '\0', sizeof(why)) && fits == (why[0] == '\0'));
    MUST(schema_check(schema, value, &same, again, sizeof(again)) == PD_OK);
    MUST(same == fits && strcmp(why, again) == 0);
    return 0;
}
