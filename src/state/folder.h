/* folder.h - the state folder: made, and held by one process at a time.
 *
 * Held by an flock on its file `lock`, so that the end of the process, however it comes, lets go of it. A successor inherits the
 * descriptor (an upgrade): the lock is the open file's, and lasts until both have closed it. */
#ifndef PERDURE_STATE_FOLDER_H
#define PERDURE_STATE_FOLDER_H

#include "base/err.h"

enum { FOLDER_PATH_MAX = 4096 };

/* Makes it, and what is missing above it, for its owner alone (0700); their names outlast a loss of power. PD_IO (errno says why), PD_TOOBIG. */
pd_err folder_make(const char *folder) PD_CHECKED;
/* "folder/name" into out[FOLDER_PATH_MAX]. PD_TOOBIG. */
pd_err folder_path(const char *folder, const char *name, char *out) PD_CHECKED;
/* Makes renames and new names in it last. */
pd_err folder_sync(const char *folder) PD_CHECKED;
/* PD_EXISTS: another process holds it. PD_IO, PD_NOFD, PD_TOOBIG. The descriptor is closed by the caller, or by the end of the process. */
pd_err folder_hold(const char *folder, int *ret_fd) PD_CHECKED;

#endif
