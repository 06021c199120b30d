/* terminal.h - the terminal that a program was given (process_rules.through), as it was before.
 *
 * A program that is killed leaves it as it had it: no echo, no lines, mouse movements as input, another screen. Whoever sees it end first puts that right: the
 * guard, which outlives us; we, when the guard was lost; the watchdog, when its keeper was killed. None takes it from a shell that has it again already.
 *
 * Nothing here allocates, locks or waits: the guard calls it, and a terminal may be stopped (Ctrl-S). */
#ifndef PERDURE_TASK_TERMINAL_H
#define PERDURE_TASK_TERMINAL_H

#include <stdbool.h>
#include <sys/types.h>
#include <termios.h>

struct terminal {
    int fd; /* its own, which does not wait; -1: there is none, and nothing is done */
    struct termios modes;
};
/* Is descriptor 0 one, and ours to give: we are in its foreground? */
bool terminal_ours(void);
/* Opens ours, and notes how it is. Without one, or without a descriptor: none. */
void terminal_open(struct terminal *t);
void terminal_close(struct terminal *t);
/* Makes it as it was noted, if `group` has it, or a group of which nobody lives; 0: whoever has it. `broke`: not by the program's own end, so what it told the
 * terminal by escape sequences is taken back too. */
void terminal_mend(const struct terminal *t, pid_t group, bool broke);
/* And we are in its foreground again. */
void terminal_take(const struct terminal *t, pid_t group, bool broke);

#endif
