/* script.h - what the simulated providers are: a JSON file, options, or nothing at all.
 *
 * {"seed": 7, "control": 9100, "providers": {"alpha": {"port": 9101, "style": "deepseek", "faults": [...], "turns": [...]}}}
 *
 * Ownership: a script owns all its texts; they live until script_free(). */
#ifndef PERDURE_SIMULATE_SCRIPT_H
#define PERDURE_SIMULATE_SCRIPT_H

#include "simulate/fault.h"
#include "simulate/frame.h"

#include <regex.h>

enum {
    SCRIPT_BYTES_MAX = 16 << 20,
    SCRIPT_PROVIDERS_MAX = 64,
    SCRIPT_TURNS_MAX = 1000,
    SCRIPT_CALLS_MAX = 32,
    SCRIPT_PORT_FIRST = 9101
};

struct script_call {
    struct span name, arguments; /* arguments: JSON text */
};

enum turn_for { TURN_FOR_DEFAULT, TURN_FOR_TOOLS, TURN_FOR_PLAIN, TURN_FOR_ANY };

/* One scripted answer. Turns without match are taken by the number of assistant messages before, so that any provider can take over
 * a conversation at the step it has reached. */
struct turn {
    bool matched; /* has match or regex */
    struct span match;
    regex_t *regex; /* NULL: plain match */
    struct span text, reasoning, finish, refusal;
    int redacted; /* some of the reasoning is kept from the caller */
    unsigned who; /* enum turn_for */
    struct script_call *calls;
    unsigned calls_count;
    int64_t step; /* of the unmatched */
};

/* A request that ends in the beginning of an answer. */
#define PREFILLS(X)                                                           \
    X(PREFILL_HONOUR, "honour", "goes on from there")                         \
    X(PREFILL_ECHO_ALL, "echo_all", "repeats all of it and goes on")          \
    X(PREFILL_ECHO_WORDS, "echo_words", "repeats its last words and goes on") \
    X(PREFILL_IGNORE, "ignore", "answers afresh")                             \
    X(PREFILL_REFUSE, "refuse", "400, in the words of the dialect")
/* A last user turn that quotes the end of the answer before it: a request to go on there. */
#define GOINGS_ON(X)                                                              \
    X(GO_ON_ANCHOR, "anchor", "repeats the words that were quoted and goes on")   \
    X(GO_ON_PLAIN, "plain", "goes on without repeating them")                     \
    X(GO_ON_CHATTY, "chatty", "says something of its own before it repeats them") \
    X(GO_ON_AFRESH, "afresh", "begins again, with other words")

enum prefill_way {
    PREFILL_DEFAULT, /* as the dialect and the style do it */
#define X(code, name, what) code,
    PREFILLS(X)
#undef X
};
enum going_on {
#define X(code, name, what) code,
    GOINGS_ON(X)
#undef X
};

struct script_provider {
    struct span name;
    const struct style *style;
    unsigned framing; /* FRAME_ bits */
    int64_t port;     /* -1: not given; 0: a free one */
    struct read_list models;
    bool models_given;
    struct span answer, key, aws, fingerprint, style_name;
    int64_t tokens, items, reasoning, parallel, dimensions, concurrency;
    int64_t ttft_us, token_delay_us, drift_us, comment_every_us, idle_close_us;
    double jitter;
    int varied;        /* words differ with every request: varied.h */
    int preface;       /* a text goes before tool calls */
    unsigned prefill;  /* enum prefill_way */
    unsigned going_on; /* enum going_on */
    int head_early;    /* -1: as the style does */
    int gemini_ids;    /* function calls have ids */
    struct read_headers headers;
    struct turn *turns;
    unsigned turns_count;
    bool scripted_tools; /* some turn calls tools */
    /* the faults it starts with */
    struct fault *faults;
    unsigned faults_count;
    /* in turn good and bad; up_us 0: never */
    int64_t flap_up_us, flap_down_us;
    struct fault flap;
};

struct script {
    struct arena mem;
    int64_t seed;
    int64_t control; /* port; -1: not given, 0: a free one */
    struct span host;
    struct script_provider *providers;
    unsigned providers_count;
    regex_t **regexes; /* to free */
    unsigned regexes_count, regexes_room;
};

struct script *script_new(void) PD_CHECKED;
struct script *script_free(struct script *s); /* NULL is fine; returns NULL */

/* Adds what `text` says. PD_INVALID or PD_SYNTAX: `why` (READ_WHY bytes) has the message. */
pd_err script_read(struct script *s, struct span text, const char *name, char *why) PD_CHECKED;
/* The value of --provider: "name[:port][,key=value...]"; keys of a fault after fault=KIND belong to it. */
pd_err script_option(struct script *s, const char *option, char *why) PD_CHECKED;
/* One key of a provider; the value is kept, not copied. */
pd_err script_set(struct script *s, struct script_provider *p, const char *key, const char *value,
                  char *why) PD_CHECKED;
/* Three providers, if there is none; ports that were not given. */
pd_err script_complete(struct script *s) PD_CHECKED;

extern const struct key_word prefill_words[], going_on_words[];
extern const struct key_row provider_keys[];
extern const unsigned provider_keys_count;

#endif
