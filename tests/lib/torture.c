#include "torture.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>

static unsigned run(pd_err (*work)(void *ctx), void *ctx, int lenient)
{
    for (unsigned n = 1;; n++) {
        size_t before = mem_blocks();
        mem_fail_at(n);
        pd_err e = work(ctx);
        int failed = mem_failed();
        mem_fail_at(0);
        if (mem_blocks() != before) {
            fprintf(stderr, "torture: %zu blocks leaked when allocation %u failed\n", mem_blocks() - before, n);
            abort();
        }
        if (!failed)
            return n - 1;
        if (!lenient && e == PD_OK) {
            fprintf(stderr, "torture: allocation %u failed and the work still reports success\n", n);
            abort();
        }
    }
}

unsigned torture(pd_err (*work)(void *ctx), void *ctx)
{
    return run(work, ctx, 0);
}

unsigned torture_lenient(pd_err (*work)(void *ctx), void *ctx)
{
    return run(work, ctx, 1);
}
