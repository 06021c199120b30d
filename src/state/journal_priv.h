/* journal_priv.h - what a segment looks like, for the one who writes and the one who reads.
 *
 * All numbers are in the machine's own order: a state folder does not travel.
 *
 *   segment  magic 8, seed 8, hash of the two 8; then records
 *   record   magic 4, kind 4, payload's length 4, payload's hash 4, time 8, id 8, hash of all this 8; then the payload
 *
 * Hashes are seeded by the writer's own random number: a payload that looks like a record (an answer is its maker's to choose)
 * is not taken for one when a reader looks for where to go on behind a damaged place. */
#ifndef PERDURE_STATE_JOURNAL_PRIV_H
#define PERDURE_STATE_JOURNAL_PRIV_H

#include "state/folder.h"
#include "state/journal.h"

struct segment_head {
    char magic[8];
    uint64_t seed, hash;
};
struct record_head {
    uint32_t magic, kind, length, payload_hash;
    uint64_t time_us, id, hash;
};
#define SEGMENT_MAGIC "pdjrnl1\n"
enum { RECORD_MAGIC = 0x4a65524fu };

uint64_t segment_head_hash(const struct segment_head *h);
uint64_t record_head_hash(const struct record_head *h, uint64_t seed);
uint32_t record_payload_hash(struct span payload, uint64_t seed);

/* Which segment: "journal-BEGAN-PID-NUMBER.log". Those of one writer have one BEGAN and PID. */
struct segment_name {
    uint64_t began_us;
    uint32_t pid, number;
};
enum { SEGMENT_NAME_BYTES = 64 };
void segment_name_write(const struct segment_name *s, char *out);
bool segment_name_read(const char *text, struct segment_name *ret);
static inline bool segment_same_writer(const struct segment_name *a, const struct segment_name *b)
{
    return a->began_us == b->began_us && a->pid == b->pid;
}

/* All segments of a folder, oldest writer first, each writer's in order. *ret is the caller's (mem_free). */
pd_err segments_list(const char *folder, struct segment_name **ret, unsigned *ret_count) PD_CHECKED;
pd_err segment_path(const char *folder, const struct segment_name *s, char *out) PD_CHECKED;
/* Whether its writer has it open. What cannot be opened is held by nobody. */
bool segment_is_held(const char *folder, const struct segment_name *s);

/* How its segments are named, but for their number: for a reader that leaves them out. */
struct segment_name journal_name(const struct journal *j);
/* All that was put is written, and nothing was dropped since this was asked last. PD_IO, PD_TOOBIG. */
pd_err journal_settled(struct journal *j) PD_CHECKED;

#endif
