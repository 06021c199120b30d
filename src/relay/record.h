/* record.h - what is known of a call afterwards: for /api/calls and support tickets. No prompt, no answer. */
#ifndef PERDURE_RELAY_RECORD_H
#define PERDURE_RELAY_RECORD_H

#include "call/call.h"
#include "checkpoint/checkpoint.h"

struct record_attempt {
    const char *target;     /* the fleet's string: "provider/model" */
    uint8_t state, failure; /* enum attempt_state, enum failure */
    uint16_t status;
    bool hedge, hedged;                       /* started beside another; another was started beside it */
    uint32_t started_ms, output_ms, ended_ms; /* from the call's start; output 0: none */
    char request_id[64];                      /* the provider's */
};
struct call_record {
    char id[24];
    char route[64], key[32];
    char agent[CHECKPOINT_AGENT_BYTES]; /* by its client's own word */
    uint64_t began_wall_ms;
    uint32_t took_ms, overhead_us;
    uint64_t waited_ms, held_ms; /* for a target; for recovery */
    uint64_t since_ms, until_ms,
        next_ms;                /* while it waits (struct call_pause), from the call's start; 0: no such moment */
    unsigned breaks, continued; /* streams of it that broke, and that were gone on with */
    enum failure broke_by;      /* the last of them; FAILURE_NONE: none did */
    bool continuing;            /* it broke, and is not whole yet */
    bool streamed;
    enum call_outcome outcome;
    uint64_t output_bytes;
    int64_t tokens_in, tokens_out; /* -1: not reported */
    unsigned attempts_count;
    struct record_attempt attempts[];
};

#endif
