#include "route/fleet_priv.h"

void budget_init(struct budget *b)
{
    b->tokens = BUDGET_FLOOR;
    b->filled_ms = 0;
}

/* One token for each refill time that has passed, up to the floor only. */
static void refill(struct budget *b, uint64_t now)
{
    if (b->filled_ms == 0 || b->tokens >= BUDGET_FLOOR) {
        b->filled_ms = now;
        return;
    }
    uint64_t times = now > b->filled_ms ? (now - b->filled_ms) / BUDGET_REFILL_MS : 0;
    if (times == 0)
        return;
    double tokens = b->tokens + (double)times;
    b->tokens = tokens > BUDGET_FLOOR ? BUDGET_FLOOR : tokens;
    b->filled_ms += times * BUDGET_REFILL_MS;
}

void budget_earn(struct budget *b, uint64_t ratio_millionths, uint64_t now)
{
    refill(b, now);
    double tokens = b->tokens + (double)ratio_millionths / 1e6;
    b->tokens = tokens > BUDGET_MOST ? BUDGET_MOST : tokens;
}

bool budget_spend(struct budget *b)
{
    if (b->tokens < 1)
        return false;
    b->tokens -= 1;
    return true;
}
