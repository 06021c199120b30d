/* shell.h - what is filled into a text for sh -c is never read as shell: it may be what a model wrote.
 *
 * A reference becomes a variable of the environment, which the shell puts in without looking for commands in it:
 *
 *   grep ${a.output} f      grep ${PERDURE_FILLED_1} f
 *   grep "${a.output}" f    grep "${PERDURE_FILLED_1}" f
 *   grep '${a.output}' f    grep ''"${PERDURE_FILLED_1}"'' f
 *
 * Pure. Only where it stands within single quotes is looked for: a text that is misread (quotes within backquotes) gives a wrong word, and no command. */
#ifndef PERDURE_TASK_SHELL_H
#define PERDURE_TASK_SHELL_H

#include "base/span.h"

enum shell_place {
    SHELL_EXPANDS, /* as a word, within double quotes, in a here-document */
    SHELL_SINGLE,  /* within single quotes */
    SHELL_AS_IS /* in a here-document whose mark is quoted: what stands there is no shell, but for its last line */
};
/* Where the end of this text is. *ret_mark: of a here-document; points into the text. */
enum shell_place shell_place(struct span text, struct span *ret_mark);
/* Has the value a line that would end such a here-document? */
bool shell_ends_here(struct span value, struct span mark);

#endif
