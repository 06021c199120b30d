#include "relay/wakes.h"

#include "base/mem.h"

struct wakes {
    pthread_mutex_t lock;
    struct list told;
    struct waker *waker;
    void (*wake)(struct list *node);
};

static void on_woken(void *ctx)
{
    struct wakes *k = ctx;
    for (;;) {
        pthread_mutex_lock(&k->lock);
        struct list *node = list_first(&k->told);
        if (node)
            list_remove(node);
        pthread_mutex_unlock(&k->lock);
        if (!node)
            return;
        k->wake(node);
    }
}

struct wakes *wakes_new(struct worker *w, void (*wake)(struct list *node))
{
    struct wakes *k = mem_zalloc(sizeof(*k));
    if (!k)
        return NULL;
    k->wake = wake;
    list_init(&k->told);
    pthread_mutex_init(&k->lock, NULL);
    k->waker = waker_new(w->loop, on_woken, k);
    return k->waker ? k : wakes_free(k);
}

struct wakes *wakes_free(struct wakes *k)
{
    if (!k)
        return NULL;
    waker_free(k->waker);
    pthread_mutex_destroy(&k->lock);
    mem_free(k);
    return NULL;
}

void wakes_tell(struct wakes *k, struct list *node)
{
    pthread_mutex_lock(&k->lock);
    bool fresh = list_empty(node);
    if (fresh)
        list_push(&k->told, node);
    pthread_mutex_unlock(&k->lock);
    if (fresh)
        waker_wake(k->waker);
}

void wakes_forget(struct wakes *k, struct list *node)
{
    pthread_mutex_lock(&k->lock);
    list_remove(node);
    pthread_mutex_unlock(&k->lock);
}
