/* misuse.h - what is said to someone who called a command wrongly: one line that tells what was wrong and what was probably meant, and one that
 * tells where the help is. The help itself is not printed: what was wrong would be above it, out of sight.
 *
 * The options of a command are those that its help names, so that there is no second list of them.
 * `command` is as it is typed ("perdure serve"). All print to stderr and return MISUSE_WRONG, the process's exit status. */
#ifndef PERDURE_CONF_MISUSE_H
#define PERDURE_CONF_MISUSE_H

#include "base/err.h"
#include "base/span.h"

enum { MISUSE_WRONG = 2, MISUSE_WORDS_MAX = 80, MISUSE_HINT_BYTES = 80 };

/* The sentence is the caller's: "--limit is \"x\": write a number from 1 on". */
int misuse(const char *command, const char *format, ...) PD_PRINTF(2, 3);
/* An argument that begins with "-" and is none of the options that `help` names: misspelled, or with a value that it does not take. */
int misuse_option(const char *command, const char *help, const char *arg);
/* A word that is none of `words`, or, where there are none (NULL), one too many. */
int misuse_word(const char *command, const char *word, const char *const *words, unsigned count);
/* An option with a value that it does not take: "--limit is \"x\": write a number from 1 on"; with NULL, since it stands last: that it needs one. */
int misuse_value(const char *command, const char *option, const char *value, const char *remedy);

/* The options that a help names, each once: returns how many of `max` were written. Those in quotes belong to other programs. */
unsigned misuse_known(const char *help, struct span *ret, unsigned max);
bool misuse_knows(const char *help, const char *option);
/* ": did you mean \"--listen\"?", or "" when none of `help` is near. What stands behind a "=" in `arg` does not count. Returns out. */
const char *misuse_near(const char *help, const char *arg, char out[MISUSE_HINT_BYTES]);

#endif
