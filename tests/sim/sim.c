/* sim - lives through thousands of hours of faults in a minute.
 *
 *   sim [--seeds 1..600] [--hours 24]   runs each seed, prints what happened and one line an invariant
 *   sim --replay SEED [--hours 24]      the events of one seed, as they come
 *
 * Exit status 0: every invariant held, each was checked, and each kind of fault happened. */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_tally(const struct tally *t)
{
    printf("%.0f hours, %llu events, %llu calls, %llu attempts (%llu hedges, %llu retries, %llu denied by a "
           "budget), %llu probes (%llu of them early), "
           "breakers opened %llu times, throttling found %llu times, %llu late events\n",
           t->hours, (unsigned long long)t->events, (unsigned long long)t->calls, (unsigned long long)t->attempts,
           (unsigned long long)t->hedges, (unsigned long long)t->retries, (unsigned long long)t->denied,
           (unsigned long long)t->probes, (unsigned long long)t->early_probes,
           (unsigned long long)t->breaker_opened, (unsigned long long)t->throttled,
           (unsigned long long)t->late_events);
    printf("streams broke %llu times, %llu were gone on with; %llu holds of %.1f hours together, %llu released; "
           "%llu told of their turn; concurrency cut "
           "%llu times\n",
           (unsigned long long)t->breaks, (unsigned long long)t->bridged, (unsigned long long)t->holds,
           (double)t->held_hours_ms / 3600e3, (unsigned long long)t->released, (unsigned long long)t->told,
           (unsigned long long)t->cuts);
    printf("outcomes:");
    for (int i = 0; i < CALL_OUTCOME_COUNT; i++)
        printf(" %s %llu", call_outcome_name((enum call_outcome)i), (unsigned long long)t->outcomes[i]);
    printf("\nfaults:\n");
    for (int i = FAULT_NO_FAULT + 1; i < FAULT_COUNT; i++)
        printf("  %12llu  %s\n", (unsigned long long)t->faults[i], fault_name((enum fault)i));
}

/* A fault that never happened proves nothing. */
static unsigned faults_missing(const struct tally *t)
{
    unsigned missing = 0;
    for (int i = FAULT_NO_FAULT + 1; i < FAULT_COUNT; i++)
        missing += t->faults[i] == 0;
    return missing;
}

static int usage(void)
{
    fprintf(stderr, "usage: sim [--seeds FROM..TO] [--hours H] [--replay SEED]\n");
    return 2;
}

int main(int argc, char **argv)
{
    unsigned long long from = 1, to = 600, replay = 0;
    double hours = 24;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!value)
            return usage();
        if (strcmp(argv[i], "--seeds") == 0 && sscanf(value, "%llu..%llu", &from, &to) == 2 && from <= to)
            i++;
        else if (strcmp(argv[i], "--hours") == 0 && (hours = strtod(value, NULL)) > 0)
            i++;
        else if (strcmp(argv[i], "--replay") == 0 && (replay = strtoull(value, NULL, 10)) > 0)
            i++;
        else
            return usage();
    }
    struct tally tally = {0};
    if (replay)
        return world_run(replay, hours, true, &tally) ? 0 : 1;

    for (unsigned long long seed = from; seed <= to; seed++)
        if (!world_run(seed, hours, false, &tally))
            fflush(stdout);
    print_tally(&tally);
    unsigned missing = faults_missing(&tally), passed;
    printf("invariants:\n");
    unsigned failed = invariants_report(&passed);
    if (missing)
        printf("void: %u kinds of fault never happened\n", missing);
    printf("%u passed, %u failed\n", passed, failed + (missing > 0));
    return failed || missing ? 1 : 0;
}
