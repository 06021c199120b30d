/* A generateContent request into the neutral form. */
#include "dialect/gemini_priv.h"
#include "dialect/request_priv.h"
#include "dialect/value_priv.h"

struct parse {
    struct msg_request *m;
    struct arena *a;
    const char **why;
};

static pd_err wrong(struct parse *p, pd_err e, const char *sentence)
{
    *p->why = sentence;
    return e;
}

/* Notes each member that a walk found no row for. */
static pd_err note_other(void *ctx, struct span key, struct json v)
{
    struct parse *p = ctx;
    (void)v;
    return msg_drop_span(p->m, p->a, key);
}

#define TAKE(p, obj, rows, ret) \
    gemini_read((obj), &(struct gemini_fields){(rows), sizeof(rows) / sizeof((rows)[0]), note_other, (p)}, (ret))

static pd_err drop_if(struct parse *p, struct json v, const char *name)
{
    if (v.type != JSON_NONE)
        msg_drop(p->m, name);
    return PD_OK;
}

/* ---- media ------------------------------------------------------------------------ */

static bool other_alphabet(struct span s)
{
    return memchr(s.p, '-', s.n) || memchr(s.p, '_', s.n);
}

pd_err gemini_base64(struct json v, struct arena *a, struct span *ret)
{
    struct span text;
    pd_err e = json_text(v, a, &text);
    if (e)
        return e;
    size_t missing = text.n % 4 ? 4 - text.n % 4 : 0;
    if (text.n == 0 || (!missing && !other_alphabet(text))) {
        *ret = text;
        return PD_OK;
    }
    char *copy = arena_alloc(a, text.n + missing);
    if (!copy)
        return PD_NOMEM;
    for (size_t i = 0; i < text.n; i++)
        copy[i] = text.p[i] == '-' ? '+' : text.p[i] == '_' ? '/' : text.p[i];
    memset(copy + text.n, '=', missing);
    *ret = span_of(copy, text.n + missing);
    return PD_OK;
}

struct blob {
    struct json mimeType, data, fileUri, displayName;
};

static pd_err fill_media(struct parse *p, struct msg_part *part, struct json v)
{
    static const struct gemini_field rows[] = {
        GEMINI_FIELD(struct blob, mimeType),
        GEMINI_FIELD(struct blob, data),
        GEMINI_FIELD(struct blob, fileUri),
        GEMINI_FIELD(struct blob, displayName),
    };
    struct blob b = {0};
    pd_err e = TAKE(p, v, rows, &b);
    if (e)
        return e;
    struct span uri = json_inner(b.fileUri);
    part->media_type = json_inner(b.mimeType);
    part->media = value_media(part->media_type);
    part->file_name = json_inner(b.displayName);
    if (span_has(uri, "generativelanguage.googleapis.com")) { /* its own Files API: nobody else can read it */
        part->file_id = uri;
        part->maker = MSG_MAKER_GEMINI;
    } else if (uri.n) {
        part->url = uri;
        if (!part->media_type.n && (span_has(uri, "youtube.com/") || span_has(uri, "youtu.be/")))
            part->media = MSG_VIDEO;
    } else if (b.data.type == JSON_STRING) {
        e = gemini_base64(b.data, p->a, &part->data);
    } else {
        return wrong(p, PD_INVALID, "\"inlineData\" has no \"data\", or \"fileData\" no \"fileUri\"");
    }
    return e == PD_NOMEM ? e : e ? wrong(p, PD_INVALID, "\"data\" is not base64") : PD_OK;
}

/* ---- calls and results ------------------------------------------------------------ */

struct call {
    struct json id, name, args, response, parts, partialArgs, willContinue, scheduling;
};
static const struct gemini_field call_rows[] = {
    GEMINI_FIELD(struct call, id),           GEMINI_FIELD(struct call, name),
    GEMINI_FIELD(struct call, args),         GEMINI_FIELD(struct call, response),
    GEMINI_FIELD(struct call, parts),        GEMINI_FIELD(struct call, partialArgs),
    GEMINI_FIELD(struct call, willContinue), GEMINI_FIELD(struct call, scheduling),
};

static pd_err take_call(struct parse *p, struct msg_part *part, struct json v)
{
    struct call c = {0};
    pd_err e = TAKE(p, v, call_rows, &c);
    part->id = json_inner(c.id);
    part->name = json_inner(c.name);
    part->arguments = c.args.type == JSON_OBJECT ? c.args.raw : SPAN_LIT("{}");
    return e;
}

/* The one member of a result that stands for all of it: {"result": ...}, {"output": ...}, {"error": ...}. */
static struct json only_member(struct json response, bool *ret_failed)
{
    static const char *const keys[] = {"result", "output", "error", "content"};
    struct json_walk w;
    struct json v, more;
    struct span key;
    *ret_failed = false;
    json_walk_init(&w, response);
    if (!json_walk_next(&w, &key, &v) || json_walk_next(&w, NULL, &more))
        return response;
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (json_key_is(key, keys[i])) {
            *ret_failed = i == 2;
            return v;
        }
    return response;
}

/* Any value as escaped text: a string's own, else its JSON. */
static pd_err text_of(struct parse *p, struct json v, struct span *ret)
{
    struct buf b;
    if (v.type == JSON_STRING || v.type == JSON_NONE) {
        *ret = json_inner(v);
        return PD_OK;
    }
    buf_init(&b, 0);
    pd_err e = json_put_str(&b, v.raw);
    if (!e) {
        *ret = arena_span(p->a, span_of(b.p + 1, buf_size(&b) - 2));
        e = ret->p ? PD_OK : PD_NOMEM;
    }
    buf_done(&b);
    return e;
}

static pd_err take_result_media(struct parse *p, struct msg_part *result, struct json list)
{
    struct json_walk w;
    struct json item;
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &item)) {
        struct json blob = gemini_get(item, "inlineData");
        if (blob.type != JSON_OBJECT)
            blob = gemini_get(item, "fileData");
        if (blob.type != JSON_OBJECT)
            return wrong(
                p, PD_UNSUPPORTED,
                "a part of a \"functionResponse\" is of a kind that cannot be translated: only inlineData and "
                "fileData can");
        struct msg_part *part = msg_content_add(result, p->a, MSG_PART_MEDIA);
        pd_err e = part ? fill_media(p, part, blob) : PD_NOMEM;
        if (e)
            return e;
    }
    return PD_OK;
}

static pd_err take_result(struct parse *p, struct msg_turn *t, struct json v)
{
    struct call c = {0};
    struct msg_part *part = msg_part_add(t, p->a, MSG_PART_TOOL_RESULT);
    pd_err e = part ? TAKE(p, v, call_rows, &c) : PD_NOMEM;
    if (e)
        return e;
    part->id = json_inner(c.id);
    part->name = json_inner(c.name);
    struct json said = only_member(c.response, &part->failed);
    struct msg_part *text = msg_content_add(part, p->a, MSG_PART_TEXT);
    if (!text)
        return PD_NOMEM;
    e = text_of(p, said, &text->text);
    return e ? e : take_result_media(p, part, c.parts);
}

/* ---- parts ------------------------------------------------------------------------ */

struct part {
    struct json text, thought, thoughtSignature, inlineData, fileData, functionCall, functionResponse;
    struct json executableCode, codeExecutionResult, videoMetadata, mediaResolution;
    struct json toolCall, toolResponse, partMetadata;
};
static const struct gemini_field part_rows[] = {
    GEMINI_FIELD(struct part, text),
    GEMINI_FIELD(struct part, thought),
    GEMINI_FIELD(struct part, thoughtSignature),
    GEMINI_FIELD(struct part, inlineData),
    GEMINI_FIELD(struct part, fileData),
    GEMINI_FIELD(struct part, functionCall),
    GEMINI_FIELD(struct part, functionResponse),
    GEMINI_FIELD(struct part, executableCode),
    GEMINI_FIELD(struct part, codeExecutionResult),
    GEMINI_FIELD(struct part, videoMetadata),
    GEMINI_FIELD(struct part, mediaResolution),
    GEMINI_FIELD(struct part, toolCall),
    GEMINI_FIELD(struct part, toolResponse),
    GEMINI_FIELD(struct part, partMetadata),
};

/* Stands for no signature, or is one. */
static bool is_signature(struct span s)
{
    static const char *const dummies[] = {
        GEMINI_NO_SIGNATURE,
        "context_engineering_is_the_way_to_go",
        "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=", /* the same, as clients write them whose signatures are bytes */
        "Y29udGV4dF9lbmdpbmVlcmluZ19pc190aGVfd2F5X3RvX2dv",
    };
    for (size_t i = 0; i < sizeof(dummies) / sizeof(dummies[0]); i++)
        if (span_is(s, dummies[i]))
            return false;
    return s.n > 0;
}

/* Code that ran at the provider, and what came of it, as the text that it is. */
static pd_err take_code(struct parse *p, struct msg_turn *t, const char *open, struct span code)
{
    struct msg_part *part = msg_part_add(t, p->a, MSG_PART_TEXT);
    char *text = part ? arena_printf(p->a, "%s%.*s\\n```", open, SPAN_FMT(code)) : NULL;
    if (!text)
        return PD_NOMEM;
    part->text = span_str(text);
    return PD_OK;
}

static pd_err take_text(struct parse *p, struct msg_turn *t, const struct part *in)
{
    bool thought = json_is_true(in->thought) && t->role == MSG_ASSISTANT;
    struct msg_part *part = msg_part_add(t, p->a, thought ? MSG_PART_REASONING : MSG_PART_TEXT);
    if (!part)
        return PD_NOMEM;
    part->text = json_inner(in->text);
    return PD_OK;
}

static pd_err take_media(struct parse *p, struct msg_turn *t, struct json v)
{
    struct msg_part *part = msg_part_add(t, p->a, MSG_PART_MEDIA);
    return part ? fill_media(p, part, v) : PD_NOMEM;
}

static pd_err take_content_part(struct parse *p, struct msg_turn *t, const struct part *in)
{
    if (in->functionCall.type == JSON_OBJECT) {
        struct msg_part *part = msg_part_add(t, p->a, MSG_PART_TOOL_CALL);
        return part ? take_call(p, part, in->functionCall) : PD_NOMEM;
    }
    if (in->inlineData.type == JSON_OBJECT)
        return take_media(p, t, in->inlineData);
    if (in->fileData.type == JSON_OBJECT)
        return take_media(p, t, in->fileData);
    if (in->executableCode.type == JSON_OBJECT)
        return take_code(p, t, "```python\\n", json_inner(json_get(in->executableCode, "code")));
    if (in->codeExecutionResult.type == JSON_OBJECT)
        return take_code(p, t, "```output\\n", json_inner(json_get(in->codeExecutionResult, "output")));
    if (in->toolCall.type == JSON_OBJECT || in->toolResponse.type == JSON_OBJECT) {
        msg_drop(p->m, "toolCall"); /* of a tool that the provider ran */
        return PD_OK;
    }
    if (in->text.type == JSON_STRING || in->thoughtSignature.type == JSON_STRING)
        return take_text(p, t, in);
    return wrong(
        p, PD_UNSUPPORTED,
        "a part of \"contents\" is of a kind that cannot be translated: text, inlineData, fileData, functionCall, "
        "functionResponse, executableCode and codeExecutionResult can");
}

/* Results first: the neutral form has them in front of the turn. */
static pd_err take_part(struct parse *p, struct msg_turn *t, struct json v, bool results)
{
    struct part in = {0};
    if (v.type != JSON_OBJECT)
        return wrong(p, PD_INVALID, "an item of \"parts\" is not an object");
    pd_err e = TAKE(p, v, part_rows, &in);
    bool result = in.functionResponse.type == JSON_OBJECT;
    if (e || result != results)
        return e;
    if (in.functionCall.type == JSON_OBJECT && t->role != MSG_ASSISTANT)
        return wrong(p, PD_INVALID, "a \"functionCall\" stands in a content whose \"role\" is not model");
    if (result && t->role != MSG_USER)
        return wrong(p, PD_INVALID,
                     "a \"functionResponse\" stands in a content whose \"role\" is not user or function");
    if (result)
        return take_result(p, t, in.functionResponse);
    drop_if(p, in.videoMetadata, "videoMetadata");
    drop_if(p, in.mediaResolution, "mediaResolution");
    struct msg_part *before = t->last;
    e = take_content_part(p, t, &in);
    if (e || t->last == before || !is_signature(json_inner(in.thoughtSignature)))
        return e;
    t->last->signature = json_inner(in.thoughtSignature);
    t->last->maker = MSG_MAKER_GEMINI;
    return PD_OK;
}

static pd_err take_parts(struct parse *p, struct msg_turn *t, struct json list)
{
    struct json_walk w;
    struct json v;
    for (int results = 1; results >= 0; results--) {
        json_walk_init(&w, list.type == JSON_ARRAY ? list : (struct json){0});
        while (json_walk_next(&w, NULL, &v)) {
            pd_err e = take_part(p, t, v, results);
            if (e)
                return e;
        }
    }
    if (list.type == JSON_OBJECT) { /* one, without the list */
        pd_err e = take_part(p, t, list, true);
        return e ? e : take_part(p, t, list, false);
    }
    return PD_OK;
}

/* ---- contents --------------------------------------------------------------------- */

static bool role_of(struct json role, enum msg_role *ret)
{
    static const struct {
        const char *word;
        enum msg_role role;
    } rows[] = {
        {"user", MSG_USER}, {"model", MSG_ASSISTANT}, {"function", MSG_USER},
        {"tool", MSG_USER}, {"system", MSG_SYSTEM},   {"", MSG_USER},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (json_is(role, rows[i].word)) {
            *ret = rows[i].role;
            return true;
        }
    *ret = MSG_USER;
    return role.type == JSON_NONE || role.type == JSON_NULL;
}

/* Google's SDKs keep a stream as it came, a content for each of its pieces: these are one answer. */
static struct msg_turn *turn_for(struct parse *p, enum msg_role role)
{
    struct msg_turn *last = p->m->last;
    return role == MSG_ASSISTANT && last && last->role == role ? last : msg_turn_add(p->m, p->a, role);
}

static pd_err take_content(struct parse *p, struct json content)
{
    enum msg_role role;
    if (content.type != JSON_OBJECT)
        return wrong(p, PD_INVALID, "an item of \"contents\" is not an object");
    if (!role_of(json_get(content, "role"), &role))
        return wrong(p, PD_INVALID, "a content has a \"role\" that is none of user, model, function");
    struct msg_turn *t = turn_for(p, role);
    return t ? take_parts(p, t, json_get(content, "parts")) : PD_NOMEM;
}

static pd_err take_contents(struct parse *p, struct json v)
{
    struct json_walk w;
    struct json content;
    if (v.type == JSON_OBJECT)
        return take_content(p, v);
    if (v.type != JSON_ARRAY)
        return wrong(p, PD_INVALID, "\"contents\" must be a list");
    json_walk_init(&w, v);
    while (json_walk_next(&w, NULL, &content)) {
        pd_err e = take_content(p, content);
        if (e)
            return e;
    }
    return PD_OK;
}

static pd_err take_system(struct parse *p, struct json v)
{
    if (v.type == JSON_NONE)
        return PD_OK;
    struct msg_turn *t = msg_turn_add(p->m, p->a, MSG_SYSTEM);
    struct msg_part *part = t && v.type == JSON_STRING ? msg_part_add(t, p->a, MSG_PART_TEXT) : NULL;
    if (!t || (v.type == JSON_STRING && !part))
        return PD_NOMEM;
    if (!part)
        return take_parts(p, t, json_get(v, "parts"));
    part->text = json_inner(v);
    return PD_OK;
}

/* ---- tools ------------------------------------------------------------------------ */

struct function {
    struct json name, description, parameters, parametersJsonSchema, response, responseJsonSchema, behavior;
};

/* A schema in the arena, as JSON Schema. */
static pd_err schema_of(struct parse *p, struct json v, struct span *ret)
{
    struct buf b;
    buf_init(&b, 0);
    struct put put = put_into(&b);
    gemini_put_schema(&put, v);
    *ret = put.err ? SPAN_NONE : arena_span(p->a, buf_span(&b));
    buf_done(&b);
    return ret->p ? PD_OK : PD_NOMEM;
}

static pd_err take_function(struct parse *p, struct json v)
{
    static const struct gemini_field rows[] = {
        GEMINI_FIELD(struct function, name),       GEMINI_FIELD(struct function, description),
        GEMINI_FIELD(struct function, parameters), GEMINI_FIELD(struct function, parametersJsonSchema),
        GEMINI_FIELD(struct function, response),   GEMINI_FIELD(struct function, responseJsonSchema),
        GEMINI_FIELD(struct function, behavior),
    };
    struct function f = {0};
    pd_err e = TAKE(p, v, rows, &f);
    struct msg_tool *t = e ? NULL : msg_tool_add(p->m, p->a, MSG_TOOL_FUNCTION);
    if (!t)
        return e ? e : PD_NOMEM;
    t->name = json_inner(f.name);
    t->description = json_inner(f.description);
    drop_if(p, f.behavior, "behavior");
    if (f.parametersJsonSchema.type == JSON_OBJECT)
        t->schema = f.parametersJsonSchema.raw;
    else if (f.parameters.type == JSON_OBJECT)
        e = schema_of(p, f.parameters, &t->schema);
    return e;
}

/* {"googleSearch": {}}: run by the provider. */
static pd_err take_hosted(struct parse *p, struct span key, struct json v)
{
    struct msg_tool *t = msg_tool_add(p->m, p->a, MSG_TOOL_HOSTED);
    char *raw = t ? arena_printf(p->a, "{\"%.*s\":%.*s}", SPAN_FMT(key), SPAN_FMT(v.raw)) : NULL;
    if (!raw)
        return PD_NOMEM;
    t->name = key;
    t->raw = span_str(raw);
    return PD_OK;
}

static pd_err take_tool(struct parse *p, struct json tool)
{
    struct json_walk w, functions;
    struct span key;
    struct json v, function;
    json_walk_init(&w, tool.type == JSON_OBJECT ? tool : (struct json){0});
    while (json_walk_next(&w, &key, &v)) {
        pd_err e = PD_OK;
        if (!gemini_key(key, "functionDeclarations")) {
            e = v.type == JSON_NULL ? PD_OK : take_hosted(p, key, v);
        } else {
            json_walk_init(&functions, v);
            while (!e && json_walk_next(&functions, NULL, &function))
                e = take_function(p, function);
        }
        if (e)
            return e;
    }
    return PD_OK;
}

static pd_err take_tools(struct parse *p, struct json v)
{
    struct json_walk w;
    struct json tool;
    if (v.type == JSON_OBJECT)
        return take_tool(p, v);
    json_walk_init(&w, v);
    while (json_walk_next(&w, NULL, &tool)) {
        pd_err e = take_tool(p, tool);
        if (e)
            return e;
    }
    return PD_OK;
}

struct calling {
    struct json functionCallingConfig, mode, allowedFunctionNames, streamFunctionCallArguments;
};
static const struct gemini_field calling_rows[] = {
    GEMINI_FIELD(struct calling, functionCallingConfig),
    GEMINI_FIELD(struct calling, mode),
    GEMINI_FIELD(struct calling, allowedFunctionNames),
    GEMINI_FIELD(struct calling, streamFunctionCallArguments),
};

static pd_err take_choice(struct parse *p, struct json config)
{
    struct calling c = {0};
    pd_err e = TAKE(p, config, calling_rows, &c);
    if (!e)
        e = TAKE(p, c.functionCallingConfig, calling_rows, &c);
    if (e)
        return e;
    struct json first = json_path(c.allowedFunctionNames, "0"), second = json_path(c.allowedFunctionNames, "1");
    bool several = second.type != JSON_NONE;
    if (json_is(c.mode, "AUTO") || json_is(c.mode, "VALIDATED"))
        p->m->choice = MSG_CHOICE_AUTO;
    else if (json_is(c.mode, "NONE"))
        p->m->choice = MSG_CHOICE_NONE;
    else if (json_is(c.mode, "ANY"))
        p->m->choice = first.type == JSON_STRING && !several ? MSG_CHOICE_NAMED : MSG_CHOICE_REQUIRED;
    if (p->m->choice == MSG_CHOICE_NAMED)
        p->m->choice_name = json_inner(first);
    else if (first.type != JSON_NONE)
        msg_drop(p->m, "allowedFunctionNames");
    return PD_OK;
}

/* ---- settings --------------------------------------------------------------------- */

struct config {
    struct json maxOutputTokens, temperature, topP, topK, stopSequences, candidateCount, seed;
    struct json presencePenalty, frequencyPenalty, responseLogprobs, logprobs;
    struct json responseMimeType, responseSchema, responseJsonSchema, _responseJsonSchema, thinkingConfig;
    struct json responseModalities;
};
static const struct gemini_field config_rows[] = {
    GEMINI_FIELD(struct config, maxOutputTokens),
    GEMINI_FIELD(struct config, temperature),
    GEMINI_FIELD(struct config, topP),
    GEMINI_FIELD(struct config, topK),
    GEMINI_FIELD(struct config, stopSequences),
    GEMINI_FIELD(struct config, candidateCount),
    GEMINI_FIELD(struct config, seed),
    GEMINI_FIELD(struct config, presencePenalty),
    GEMINI_FIELD(struct config, frequencyPenalty),
    GEMINI_FIELD(struct config, responseLogprobs),
    GEMINI_FIELD(struct config, logprobs),
    GEMINI_FIELD(struct config, responseMimeType),
    GEMINI_FIELD(struct config, responseSchema),
    GEMINI_FIELD(struct config, responseJsonSchema),
    GEMINI_FIELD(struct config, _responseJsonSchema),
    GEMINI_FIELD(struct config, thinkingConfig),
    GEMINI_FIELD(struct config, responseModalities),
};

static pd_err take_format(struct parse *p, const struct config *c)
{
    struct json schema = c->responseJsonSchema.type != JSON_NONE ? c->responseJsonSchema : c->_responseJsonSchema;
    struct msg_request *m = p->m;
    if (json_is(c->responseMimeType, "text/plain"))
        m->format = MSG_FORMAT_TEXT;
    else if (json_is(c->responseMimeType, "application/json"))
        m->format = MSG_FORMAT_JSON;
    else if (json_inner(c->responseMimeType).n)
        msg_drop(m, "responseMimeType");
    if (m->format != MSG_FORMAT_JSON)
        return PD_OK;
    if (schema.type == JSON_OBJECT)
        m->format_schema = schema.raw;
    else if (c->responseSchema.type == JSON_OBJECT) {
        pd_err e = schema_of(p, c->responseSchema, &m->format_schema);
        if (e)
            return e;
    }
    if (m->format_schema.n)
        m->format = MSG_FORMAT_SCHEMA;
    return PD_OK;
}

struct thinking {
    struct json includeThoughts, thinkingBudget, thinkingLevel;
};

static pd_err take_thinking(struct parse *p, struct json v)
{
    static const struct gemini_field rows[] = {
        GEMINI_FIELD(struct thinking, includeThoughts),
        GEMINI_FIELD(struct thinking, thinkingBudget),
        GEMINI_FIELD(struct thinking, thinkingLevel),
    };
    static const struct {
        const char *word;
        enum msg_effort effort;
    } levels[] = {
        {"minimal", MSG_EFFORT_MINIMAL},
        {"low", MSG_EFFORT_LOW},
        {"medium", MSG_EFFORT_MEDIUM},
        {"high", MSG_EFFORT_HIGH},
    };
    struct thinking t = {0};
    pd_err e = TAKE(p, v, rows, &t);
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
        if (span_iis(json_inner(t.thinkingLevel), levels[i].word))
            p->m->effort = levels[i].effort;
    int64_t budget = gemini_int(t.thinkingBudget, -1); /* -1: as much as the model likes */
    if (budget == 0)
        p->m->effort = MSG_EFFORT_NONE;
    else if (budget > 0)
        p->m->reasoning_tokens = budget;
    if (t.includeThoughts.type == JSON_BOOL)
        p->m->reasoning_shown = json_is_true(t.includeThoughts);
    return e;
}

static void take_stops(struct parse *p, struct json v)
{
    struct json_walk w;
    struct json item;
    json_walk_init(&w, v);
    while (json_walk_next(&w, NULL, &item)) {
        if (item.type != JSON_STRING)
            continue;
        if (p->m->stops_count < MSG_STOPS_MAX)
            p->m->stops[p->m->stops_count++] = json_inner(item);
        else
            msg_drop(p->m, "stopSequences");
    }
}

/* Text is what all formats give; anything else cannot be asked of another. */
static void take_modalities(struct parse *p, struct json v)
{
    struct json_walk w;
    struct json item;
    json_walk_init(&w, v);
    while (json_walk_next(&w, NULL, &item))
        if (!json_is(item, "TEXT"))
            msg_drop(p->m, "responseModalities");
}

static pd_err take_config(struct parse *p, struct json v)
{
    struct config c = {0};
    struct msg_request *m = p->m;
    pd_err e = TAKE(p, v, config_rows, &c);
    if (e)
        return e;
    m->max_tokens = gemini_int(c.maxOutputTokens, -1);
    m->n = gemini_int(c.candidateCount, -1);
    m->temperature = value_number(c.temperature);
    m->top_p = value_number(c.topP);
    m->top_k = value_number(c.topK);
    m->seed = value_number(c.seed);
    m->presence_penalty = value_number(c.presencePenalty);
    m->frequency_penalty = value_number(c.frequencyPenalty);
    m->logprobs = json_is_true(c.responseLogprobs);
    m->top_logprobs = gemini_int(c.logprobs, -1);
    take_stops(p, c.stopSequences);
    take_modalities(p, c.responseModalities);
    e = take_format(p, &c);
    return e ? e : take_thinking(p, c.thinkingConfig);
}

/* ---- the request ------------------------------------------------------------------ */

struct top {
    struct json contents, systemInstruction, tools, toolConfig, generationConfig, serviceTier, cachedContent;
    struct json model, stream, generateContentRequest;
};
static const struct gemini_field top_rows[] = {
    GEMINI_FIELD(struct top, contents),
    GEMINI_FIELD(struct top, systemInstruction),
    GEMINI_FIELD(struct top, tools),
    GEMINI_FIELD(struct top, toolConfig),
    GEMINI_FIELD(struct top, generationConfig),
    GEMINI_FIELD(struct top, serviceTier),
    GEMINI_FIELD(struct top, cachedContent),
    GEMINI_FIELD(struct top, model),
    GEMINI_FIELD(struct top, stream),
    GEMINI_FIELD(struct top, generateContentRequest),
};

static void take_tier(struct msg_request *m, struct span tier)
{
    if (span_is(tier, "unspecified"))
        return;
    m->service_tier = span_is(tier, "standard") ? SPAN_LIT("default") : tier;
}

static pd_err take_top(struct parse *p, const struct top *t)
{
    if (json_inner(t->cachedContent).n)
        return wrong(
            p, PD_UNSUPPORTED,
            "\"cachedContent\" is kept at Gemini's provider and cannot be translated: send its contents, or ask "
            "for a model of that provider");
    if (t->contents.type == JSON_NONE)
        return wrong(p, PD_INVALID, "the request has no \"contents\"");
    take_tier(p->m, json_inner(t->serviceTier));
    pd_err e = take_system(p, t->systemInstruction);
    if (!e)
        e = take_contents(p, t->contents);
    if (!e)
        e = take_tools(p, t->tools);
    if (!e)
        e = take_choice(p, t->toolConfig);
    return e ? e : take_config(p, t->generationConfig);
}

pd_err gemini_parse_request(const struct request_facts *f, struct arena *a, struct msg_request *ret,
                            const char **ret_why)
{
    struct parse p = {ret, a, ret_why};
    struct top t = {0};
    struct json body;
    msg_request_init(ret);
    ret->model = f->model;
    ret->stream = f->stream;
    ret->include_usage = f->include_usage;
    if (json_doc(f->body, &body))
        return wrong(&p, PD_SYNTAX, "the body is not valid JSON");
    *ret_why = "out of memory while reading the request";
    pd_err e = TAKE(&p, body, top_rows, &t);
    if (!e && t.generateContentRequest.type == JSON_OBJECT)
        e = TAKE(&p, t.generateContentRequest, top_rows, &t);
    if (!e)
        e = take_top(&p, &t);
    return e ? e : msg_link(ret, a);
}

pd_err gemini_parse_tools(const struct request_facts *f, struct arena *a, struct msg_request *ret)
{
    static const struct gemini_field rows[] = {GEMINI_FIELD(struct top, tools)};
    const char *why;
    struct parse p = {ret, a, &why};
    struct top t = {0};
    struct json body;
    msg_request_init(ret);
    if (json_first(f->body, &body, NULL))
        return PD_OK;
    gemini_take(body, rows, 1, &t);
    return request_lenient(take_tools(&p, t.tools));
}
