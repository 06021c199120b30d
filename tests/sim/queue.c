/* A binary heap: the earliest event is on top; events of one moment come in the order of their random number. */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>

static bool before(const struct ev *a, const struct ev *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

void queue_push(struct queue *q, const struct ev *e)
{
    if (q->count == q->capacity) {
        q->capacity = q->capacity ? q->capacity * 2 : 1024;
        q->heap = realloc(q->heap, q->capacity * sizeof(*q->heap));
        if (!q->heap) {
            fprintf(stderr, "sim: out of memory for %zu events\n", q->capacity);
            exit(2);
        }
    }
    size_t i = q->count++;
    for (; i > 0 && before(e, &q->heap[(i - 1) / 2]); i = (i - 1) / 2)
        q->heap[i] = q->heap[(i - 1) / 2];
    q->heap[i] = *e;
}

bool queue_pop(struct queue *q, struct ev *ret)
{
    if (q->count == 0)
        return false;
    *ret = q->heap[0];
    struct ev last = q->heap[--q->count];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < q->count; i = child) {
        if (child + 1 < q->count && before(&q->heap[child + 1], &q->heap[child]))
            child++;
        if (!before(&q->heap[child], &last))
            break;
        q->heap[i] = q->heap[child];
    }
    q->heap[i] = last;
    return true;
}

void queue_done(struct queue *q)
{
    free(q->heap);
    *q = (struct queue){0};
}
