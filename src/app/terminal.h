/* terminal.h - what standard output can show. */
#ifndef PERDURE_APP_TERMINAL_H
#define PERDURE_APP_TERMINAL_H

#include <stdbool.h>

bool terminal_is(void);         /* one that moves its cursor */
bool terminal_has_colour(void); /* and NO_COLOR is not set (no-color.org) */
unsigned terminal_width(void);  /* in cells; 0: it is no terminal, or does not tell */
bool terminal_is_utf8(void);    /* by LC_ALL, LC_CTYPE, LANG; also where it is no terminal */

#endif
