/* presets.h - the providers that need nothing but a key.
 *
 * One row each, in the order in which they are tried when PROVIDER_ORDER says nothing.
 * The rows hold what no answer tells: where it is, how it wants the key, what it refuses. */
#ifndef PERDURE_PROVIDER_PRESETS_H
#define PERDURE_PROVIDER_PRESETS_H

#include "conf/preset.h"

extern const struct preset_table presets;

#endif
