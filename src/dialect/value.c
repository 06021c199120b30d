/* Small values that several formats spell alike. */
#include "dialect/value_priv.h"

bool value_is_nothing(struct json v)
{
    return v.type == JSON_NONE || v.type == JSON_NULL;
}

bool value_has_items(struct json v)
{
    struct json_walk w;
    struct json item;
    json_walk_init(&w, v);
    return json_walk_next(&w, NULL, &item);
}

int value_tristate(struct json v)
{
    return v.type == JSON_BOOL ? json_is_true(v) : -1;
}

struct span value_number(struct json v)
{
    return v.type == JSON_NUMBER ? v.raw : SPAN_NONE;
}

/* ---- messages --------------------------------------------------------------------- */

pd_err value_messages(struct json list, value_message_fn *take, void *ctx, const char **ret_why)
{
    struct json_walk w;
    struct json message;
    if (list.type != JSON_ARRAY) {
        *ret_why = "\"messages\" must be a list";
        return PD_INVALID;
    }
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &message)) {
        pd_err e = take(ctx, message);
        if (e)
            return e;
    }
    if (w.err)
        *ret_why = "\"messages\" is not valid JSON";
    return w.err ? PD_INVALID : PD_OK;
}

/* ---- media and calls -------------------------------------------------------------- */

enum msg_media value_media(struct span media_type)
{
    return span_starts(media_type, "image/")   ? MSG_IMAGE
           : span_starts(media_type, "audio/") ? MSG_AUDIO
           : span_starts(media_type, "video/") ? MSG_VIDEO
                                               : MSG_DOCUMENT;
}

/* "data:image/png;base64,...": taken apart. Anything else is an address. */
void value_take_url(struct msg_part *part, struct span url)
{
    struct span rest = url;
    if (!span_starts(url, "data:")) {
        part->url = url;
        return;
    }
    rest = span_from(rest, 5);
    struct span type = span_cut(&rest, ',');
    if (!rest.p) {
        part->url = url;
        return;
    }
    part->media_type = span_cut(&type, ';');
    part->data = rest;
}

/* Arguments are JSON text in a string, or, from some clients, the object itself. */
pd_err value_take_arguments(struct json v, struct arena *a, struct msg_part *part)
{
    struct span text;
    if (v.type == JSON_OBJECT) {
        part->arguments = v.raw;
        return PD_OK;
    }
    part->text = json_inner(v);
    pd_err e = v.type == JSON_STRING ? json_text(v, a, &text) : PD_INVALID;
    if (e == PD_NOMEM)
        return e;
    text = e ? SPAN_NONE : span_trim(text);
    if (!e && text.n == 0)
        part->arguments = SPAN_LIT("{}");
    else if (!e && text.p[0] == '{' && json_check(text) == PD_OK)
        part->arguments = text;
    else
        part->arguments = SPAN_NONE;
    return PD_OK;
}

/* ---- words ------------------------------------------------------------------------ */

enum msg_finish value_finish(const struct value_finish *rows, size_t count, struct json word)
{
    for (size_t i = 0; i < count; i++)
        if (json_is(word, rows[i].word))
            return rows[i].finish;
    return MSG_FINISH_OTHER;
}

enum msg_effort value_effort(struct json v)
{
    static const struct {
        const char *word;
        enum msg_effort effort;
    } rows[] = {
        {"none", MSG_EFFORT_NONE},     {"minimal", MSG_EFFORT_MINIMAL}, {"low", MSG_EFFORT_LOW},
        {"medium", MSG_EFFORT_MEDIUM}, {"high", MSG_EFFORT_HIGH},       {"xhigh", MSG_EFFORT_MAX},
        {"max", MSG_EFFORT_MAX},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (json_is(v, rows[i].word))
            return rows[i].effort;
    return MSG_EFFORT_UNSAID;
}

const char *value_effort_word(enum msg_effort e)
{
    static const char *const words[] = {NULL, "none", "minimal", "low", "medium", "high", "xhigh"};
    return words[e];
}
