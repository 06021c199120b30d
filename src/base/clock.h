/* clock.h - what time it is. Only the outer rooms ask; decisions are passed `now`.
 *
 * Monotonic time starts at an arbitrary moment and never goes back. */
#ifndef PERDURE_BASE_CLOCK_H
#define PERDURE_BASE_CLOCK_H

#include <stdint.h>

#define CLOCK_NEVER UINT64_MAX

uint64_t clock_mono_us(void);
uint64_t clock_mono_ms(void);
uint64_t clock_wall_ms(void); /* since 1970-01-01 UTC */
uint64_t clock_wall_us(void);

#endif
