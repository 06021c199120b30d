/* call_fixture.h - one call on a route of a few targets, for the tests of this folder. */
#ifndef PERDURE_TESTS_CALL_FIXTURE_H
#define PERDURE_TESTS_CALL_FIXTURE_H

#include "call/call.h"

#include <stdio.h>

enum { S = 1000, MIN = 60 * S, NOW = 1000 * 1000, TARGETS = 3 };

struct fixture {
    struct fleet *fleet;
    struct settings settings;
    struct route route;
    struct call_want want;
    struct call call;
    struct attempt room[CALL_ATTEMPTS_MAX];
    struct target *t[TARGETS];
};

static inline void begin(struct fixture *f)
{
    *f = (struct fixture){0};
    settings_default(&f->settings);
    f->settings.ttft_adaptive = 0;
    f->fleet = fleet_new(9);
    assert_non_null(f->fleet);
    f->route = (struct route){.name = "r", .strategy = STRATEGY_PRIORITY, .count = TARGETS};
    f->want = (struct call_want){.route = &f->route, .streamed = true, .ttft_ms = UINT64_MAX};
}

/* Before an event, as the call's owner does. */
static inline void make_room(struct fixture *f)
{
    if (call_wants_room(&f->call))
        call_give_room(&f->call, f->room);
}

static inline void settle(struct fixture *f)
{
    f->route.settings = f->settings;
    for (unsigned i = 0; i < f->route.count; i++) {
        char name[16];
        snprintf(name, sizeof(name), "p%u", i);
        assert_int_equal(fleet_target(f->fleet, name, "m", &f->settings, &f->t[i]), PD_OK);
        f->route.targets[i] = (struct route_target){.target = f->t[i], .weight = 1, .settings = f->settings};
    }
}

#endif
