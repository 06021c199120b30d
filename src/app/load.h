/* load.h - reading the configuration as every command does, with its remarks on standard error. */
#ifndef PERDURE_APP_LOAD_H
#define PERDURE_APP_LOAD_H

#include "conf/conf.h"

#include <stdbool.h>

/* path NULL: $PERDURE_CONFIG, else ./perdure.yaml if it is there, else the environment alone. On failure everything has been said.
 * `without_providers`: none is fine. */
pd_err load_config(const char *path, bool without_providers, struct conf **ret) PD_CHECKED;
/* The state folder that this configuration names, without a word about what is wrong with it. NULL: none is to be had. The caller's (mem_free()). */
char *load_state_folder(const char *path);
/* Its checkpoint_interval, likewise; `without` where it cannot be read. */
uint64_t load_checkpoint_ms(const char *path, uint64_t without);

#endif
