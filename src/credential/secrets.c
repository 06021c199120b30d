#include "credential/secrets.h"

#include "base/clock.h"
#include "parse/date.h"
#include "parse/json.h"

struct member {
    const char *name;
    struct span *place;
};

/* An answer's object; a body that is not JSON, or not an object, is none. */
static pd_err object_of(struct span body, struct json *ret)
{
    pd_err e = json_check(body);
    if (!e)
        e = json_first(body, ret, NULL);
    if (e == PD_TOOBIG || (!e && ret->type != JSON_OBJECT))
        e = PD_SYNTAX;
    return e;
}

/* The members that are texts; null is as good as absent. */
static pd_err texts_of(struct json object, const struct member *members, size_t count, struct arena *a)
{
    for (size_t i = 0; i < count; i++) {
        struct json v = json_get(object, members[i].name);
        if (v.type == JSON_NONE || v.type == JSON_NULL)
            continue;
        pd_err e = v.type == JSON_STRING ? json_text(v, a, members[i].place) : PD_SYNTAX;
        if (e)
            return e;
    }
    return PD_OK;
}

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

pd_err secrets_aws_read(struct span body, struct arena *a, struct secrets_aws *ret)
{
    struct json object;
    struct span expires = SPAN_NONE;
    *ret = (struct secrets_aws){.expires_ms = CLOCK_NEVER};
    const struct member members[] = {
        {"AccessKeyId", &ret->access_key_id},
        {"SecretAccessKey", &ret->secret_access_key},
        {"Token", &ret->session_token},
        {"Expiration", &expires},
        {"Code", &ret->code},
        {"Message", &ret->message},
        {"code", &ret->code},
        {"message", &ret->message},
    };
    pd_err e = object_of(body, &object);
    if (!e)
        e = texts_of(object, members, COUNT(members), a);
    if (!e && expires.n && !date_parse_iso(expires, &ret->expires_ms))
        e = PD_SYNTAX;
    return e;
}

/* "expires_in": a number, which some send as a text. */
static pd_err lifetime_of(struct json object, struct arena *a, uint64_t *ret_ms)
{
    struct json v = json_get(object, "expires_in");
    int64_t seconds = 0;
    uint64_t from_text = 0;
    struct span text;
    if (v.type == JSON_STRING) {
        pd_err e = json_text(v, a, &text);
        if (e)
            return e;
        if (!span_u64(text, &from_text) || from_text > INT32_MAX)
            return PD_SYNTAX;
        seconds = (int64_t)from_text;
    } else if (v.type != JSON_NONE && v.type != JSON_NULL && !json_i64(v, &seconds)) {
        return PD_SYNTAX;
    }
    if (seconds < 0 || seconds > INT32_MAX)
        return PD_SYNTAX;
    *ret_ms = (uint64_t)seconds * 1000;
    return PD_OK;
}

pd_err secrets_token_read(struct span body, struct arena *a, struct secrets_token *ret)
{
    struct json object;
    *ret = (struct secrets_token){.lifetime_ms = 0};
    const struct member members[] = {{"access_token", &ret->access_token}, {"error_description", &ret->message}};
    pd_err e = object_of(body, &object);
    if (!e)
        e = texts_of(object, members, COUNT(members), a);
    if (!e)
        e = lifetime_of(object, a, &ret->lifetime_ms);
    if (e)
        return e;
    /* An API of Google's answers an object where a token endpoint answers a word. */
    struct json error = json_get(object, "error");
    if (error.type == JSON_STRING)
        return json_text(error, a, &ret->code);
    const struct member in_error[] = {{"status", &ret->code}, {"message", &ret->message}};
    return error.type == JSON_OBJECT ? texts_of(error, in_error, COUNT(in_error), a) : PD_OK;
}

pd_err secrets_google_read(struct span body, struct arena *a, struct secrets_google *ret)
{
    struct json object;
    *ret = (struct secrets_google){.type = SPAN_NONE};
    const struct member members[] = {
        {"type", &ret->type},
        {"client_email", &ret->client_email},
        {"private_key", &ret->private_key},
        {"private_key_id", &ret->private_key_id},
        {"token_uri", &ret->token_uri},
        {"client_id", &ret->client_id},
        {"client_secret", &ret->client_secret},
        {"refresh_token", &ret->refresh_token},
        {"project_id", &ret->project},
        {"quota_project_id", &ret->quota_project},
    };
    pd_err e = object_of(body, &object);
    return e ? e : texts_of(object, members, COUNT(members), a);
}
