/* checks.h - was it done? Looked at by perdure, not believed.
 *
 *   {"command": "make test" | ["make", "test"], "cwd": ".", "timeout_ms": 120000, "pin": {"tests/a.txt": SHA-256, ...}}
 *   {"file": "wc", "exists": true, "contains": "...", "matches": REGEX, "sha256": "..."}
 *   {"output": {"member": "a.b", "contains": "...", "matches": REGEX, "equals": VALUE, "schema": {...}}}
 *
 * All as plan.h makes them of a plan. `pin`: files that decide, and that the task must not have touched: `perdure run` puts their hashes in when it
 * reads the plan, and they are compared before the command runs. An expression is PCRE2's, over lines (^ and $ at each), on the text of a
 * string and on any other output as JSON.
 *
 * A check that cannot be made (a program that is not there, a pin without a hash, an expression that does not compile) is not passed and
 * not failed: nobody knows. */
#ifndef PERDURE_TASK_CHECKS_H
#define PERDURE_TASK_CHECKS_H

#include "base/buf.h"
#include "parse/json.h"

enum {
    CHECKS_TIMEOUT_DEFAULT_MS = 10 * 60 * 1000,
    CHECKS_FILE_MAX = 64 << 20, /* a file that is hashed or matched */
    CHECKS_SAID_MAX = 4 << 10,  /* of what a command said, in evidence and messages */
    CHECKS_WHY_BYTES = 1024,
    CHECKS_MATCH_LIMIT = 10 * 1000 * 1000, /* steps of one expression */
};

enum checks_found {
    CHECKS_NONE,    /* there are none */
    CHECKS_WAIVED,  /* the plan says that there are none: `checks: none` */
    CHECKS_PASSED,  /* all of them */
    CHECKS_FAILED,  /* one at least; `why` says which and of what */
    CHECKS_UNMADE,  /* none failed, one at least could not be made */
    CHECKS_STOPPED, /* `wake_fd` could be read before the end */
};
struct checks_ask {
    struct json checks;     /* a list (empty: waived), or not there */
    struct span output;     /* JSON: what the task gave */
    const char *dir;        /* paths are relative to it; NULL: where we are */
    const char *root;       /* pinned files are relative to it; NULL: where we are */
    const char *const *env; /* of commands; NULL: ours */
    int wake_fd;            /* -1: none */
};
/* `evidence`: a JSON list, one object for each check: {"check": {...}, "passed": true | false | null, "said": "..."}. PD_NOMEM. */
pd_err checks_run(const struct checks_ask *a, struct buf *evidence, enum checks_found *ret,
                  char why[CHECKS_WHY_BYTES]) PD_CHECKED;

/* SHA-256 of a file, as 64 hex digits. PD_NOTFOUND, PD_TOOBIG, PD_IO, PD_NOMEM. */
pd_err checks_hash_file(const char *dir, const char *path, char ret[65]) PD_CHECKED;
/* All of a file. The same. */
pd_err checks_read_file(const char *dir, const char *path, size_t most, struct buf *out) PD_CHECKED;
#endif
