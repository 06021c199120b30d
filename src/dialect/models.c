#include "dialect/models.h"

#include "parse/json.h"

/* The list itself, under whichever name. */
static struct json list_of(struct json v)
{
    static const char *const keys[] = {"data", "models", "model_list", "result"};
    struct json none = {0};
    if (v.type == JSON_ARRAY)
        return v;
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        struct json list = json_get(v, keys[i]);
        if (list.type == JSON_ARRAY)
            return list;
    }
    return none;
}

static struct json name_of(struct json item)
{
    static const char *const keys[] = {"id", "name", "model"};
    struct json none = {0};
    if (item.type == JSON_STRING)
        return item;
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        struct json name = json_get(item, keys[i]);
        if (json_inner(name).n)
            return name;
    }
    return none;
}

static pd_err read_list(struct json list, struct arena *a, models_fn *on_model, void *ctx)
{
    struct json_walk w;
    struct json item;
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &item)) {
        struct json name = name_of(item);
        struct span id;
        if (name.type != JSON_STRING)
            continue;
        pd_err e = json_text(name, a, &id);
        if (!e)
            e = on_model(ctx, id);
        if (e)
            return e;
        arena_reset(a);
    }
    return PD_OK;
}

pd_err models_read(struct span body, models_fn *on_model, void *ctx)
{
    struct json v;
    if (json_doc(body, &v))
        return PD_SYNTAX;
    struct json list = list_of(v);
    if (list.type != JSON_ARRAY)
        return PD_INVALID;
    struct arena a;
    arena_init(&a, 256, 0);
    pd_err e = read_list(list, &a, on_model, ctx);
    arena_done(&a);
    return e;
}
