/* fuzz_snapshot.c - whatever an object store gives back: a snapshot that is proven holds what its seal says, a pointer names an id that makes a key, and
 * any document can be told to an agent and compared. */
#include "checkpoint/checkpoint_priv.h"

#include <stdlib.h>

#define MUST(x)      \
    do {             \
        if (!(x))    \
            abort(); \
    } while (0)

static void open_it(struct span in)
{
    struct buf document = {0}, names = {0}, again = {0};
    struct seal seal;
    if (sealed_open(in, &document, &names, &seal) == PD_OK) {
        MUST(buf_size(&names) % NAME_BYTES == 0);
        MUST(names_fit(buf_span(&document), buf_span(&names)));
        MUST(sealed_write(buf_span(&document), &seal, buf_span(&names), &again) == PD_OK);
        MUST(sealed_open(buf_span(&again), &document, &names, &seal) == PD_OK);
    }
    buf_done(&document);
    buf_done(&names);
    buf_done(&again);
}

static void point(struct span in)
{
    char id[CHECKPOINT_ID_BYTES], key[OBJECT_KEY_MAX + 1];
    struct seal seal;
    if (!latest_open(in, id, &seal))
        return;
    struct span agent = agent_of_id(span_str(id));
    MUST(agent.n && snapshot_key(agent, id, key) && latest_key(agent, key));
}

/* What a checkpoint was made of, sealed as we would: so that the fuzzer comes behind the proof. */
static void seal_it(struct span in)
{
    struct buf sealed = {0};
    struct seal seal = {.line = "l", .seq = 1};
    if (content_name_of(in, &seal.hash) == PD_OK && sealed_write(in, &seal, SPAN_NONE, &sealed) == PD_OK)
        open_it(buf_span(&sealed));
    buf_done(&sealed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span in = span_of((const char *)data, size), half = span_upto(in, size / 2);
    struct buf out = {0};
    open_it(in);
    seal_it(in);
    point(in);
    (void)!checkpoint_resume_text(in, &out);
    buf_clear(&out);
    (void)!checkpoint_diff(half, span_from(in, half.n), &out);
    buf_clear(&out);
    if (checkpoint_diff(in, in, &out) == PD_OK)
        MUST(buf_size(&out) == 0);
    buf_done(&out);
    return 0;
}
