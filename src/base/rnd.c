#include "base/rnd.h"

#include "base/clock.h"

#include <sys/random.h>

uint64_t rnd_seed(void)
{
    uint64_t seed;
    if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != (ssize_t)sizeof(seed))
        seed = clock_mono_us() ^ (clock_wall_ms() << 20);
    return seed;
}
