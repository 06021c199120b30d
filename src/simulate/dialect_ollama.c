/* Ollama's own API: JSON lines, streamed unless asked otherwise, tool calls whole and with arguments as objects. */
#include "simulate/dialect.h"

static const struct error_like errors[] = {
    {"bad_request", 400, "", NULL, "invalid request"},
    {"context_length", 400, "", NULL, "prompt too long; exceeded max context length by 809 tokens"},
    {"auth", 401, "", NULL, "unauthorized"},
    {"billing", 402, "", NULL, "you have run out of credits"},
    {"permission", 403, "", NULL, "this model requires a subscription"},
    {"model_not_found", 404, "", NULL, "model not found, try pulling it first"},
    {"timeout", 408, "", NULL, "request timed out"},
    {"too_large", 413, "", NULL, "http: request body too large"},
    {"rate_limit", 429, "", NULL, "too many requests"},
    {"quota", 429, "", NULL, "you've reached your weekly usage limit"},
    {"server_error", 500, "", NULL, "llama runner process has terminated"},
    {"bad_gateway", 502, "", NULL, "bad gateway"},
    {"overloaded", 503, "", NULL, "server busy, please try again.  maximum pending requests exceeded"},
    {"unavailable", 503, "", NULL, "loading model"},
    {"gateway_timeout", 504, "", NULL, "the model did not answer in time"},
};

/* A call of tools ends with "stop" too. */
static const struct finish_word finishes[] = {
    {"tool_calls", "stop"}, {"stop_sequence", "stop"}, {"content_filter", "stop"}, {"refusal", "stop"},
    {NULL, NULL},
};

/* ---- reading --------------------------------------------------------------- */

static pd_err read_images(struct reading *r, struct said *m, struct json images)
{
    struct json_walk w;
    struct json image;
    pd_err err = PD_OK;
    json_walk_init(&w, images);
    while (err == PD_OK && json_walk_next(&w, NULL, &image)) {
        err = ask_media(r, m, SPAN_LIT("image"), image);
        if (err == PD_INVALID)
            return ask_refuse(r, "bad_request", "illegal base64 data at input byte 0");
    }
    return err;
}

static pd_err read_calls(struct reading *r, struct said *m, struct json calls)
{
    struct json_walk w;
    struct json call;
    pd_err err = PD_OK;
    json_walk_init(&w, calls);
    while (err == PD_OK && json_walk_next(&w, NULL, &call)) {
        struct said_part *p = ask_part(r, m, SAID_CALL);
        struct json arguments = json_path(call, "function.arguments");
        err = p ? ask_string(r, json_path(call, "function.name"), &p->name) : PD_NOMEM;
        if (err == PD_OK)
            err = ask_string(r, json_get(call, "id"), &p->id);
        if (err == PD_OK && arguments.type != JSON_OBJECT && arguments.type != JSON_NONE)
            return ask_refuse(r, "bad_request",
                              "json: cannot unmarshal string into Go struct field "
                              "ChatRequest.messages.tool_calls.function.arguments of type "
                              "api.ToolCallFunctionArguments");
    }
    return err;
}

static pd_err read_message(struct reading *r, struct json message)
{
    struct json role = json_get(message, "role"), content = json_get(message, "content");
    bool assistant = json_is(role, "assistant"), tool = json_is(role, "tool");
    if (!assistant && !tool && !json_is(role, "user") && !json_is(role, "system"))
        return ask_refuse(r, "bad_request",
                          "invalid role: %.*s, role must be one of [system, user, assistant, tool]",
                          SPAN_FMT(span_upto(json_inner(role), 40)));
    if (content.type != JSON_STRING && content.type != JSON_NONE && content.type != JSON_NULL)
        return ask_refuse(r, "bad_request",
                          "json: cannot unmarshal array into Go struct field ChatRequest.messages.content of type "
                          "string");
    struct said *m = ask_say(r, assistant ? SAID_ASSISTANT : json_is(role, "system") ? SAID_SYSTEM : SAID_USER);
    if (!m)
        return PD_NOMEM;
    pd_err err;
    if (tool) {
        struct said_part *p = ask_part(r, m, SAID_RESULT);
        err = p ? ask_string(r, content, &p->text) : PD_NOMEM;
        if (err == PD_OK)
            err = ask_string(r, json_get(message, "tool_name"), &p->name);
        if (err == PD_OK)
            err = ask_string(r, json_get(message, "tool_call_id"), &p->id);
    } else {
        err = ask_text(r, m, SAID_TEXT, content);
    }
    if (err == PD_OK)
        err = read_images(r, m, json_get(message, "images"));
    return err == PD_OK && assistant ? read_calls(r, m, json_get(message, "tool_calls")) : err;
}

static pd_err read_tools(struct reading *r)
{
    struct json_walk w;
    struct json tool;
    pd_err err = PD_OK;
    json_walk_init(&w, json_get(r->ask->root, "tools"));
    while (err == PD_OK && json_walk_next(&w, NULL, &tool)) {
        struct span name;
        err = ask_string(r, json_path(tool, "function.name"), &name);
        if (err == PD_OK && name.n)
            err = ask_tool(r, name, json_path(tool, "function.parameters"));
    }
    return err;
}

static pd_err read_prompt(struct reading *r)
{
    struct said *m = ask_say(r, SAID_USER);
    pd_err err = m ? ask_text(r, m, SAID_TEXT, json_get(r->ask->root, "prompt")) : PD_NOMEM;
    return err == PD_OK ? read_images(r, m, json_get(r->ask->root, "images")) : err;
}

static pd_err ollama_read(struct reading *r)
{
    struct ask *a = r->ask;
    struct json messages = json_get(a->root, "messages"), stream = json_get(a->root, "stream"),
                format = json_get(a->root, "format"), think = json_get(a->root, "think"), m;
    struct json_walk w;
    pd_err err = PD_OK;
    a->model = json_inner(json_get(a->root, "model"));
    if (!a->model.n)
        return ask_refuse(r, "bad_request", "model is required");
    a->streamed = stream.type != JSON_BOOL || json_is_true(stream);
    (void)json_i64(json_path(a->root, "options.num_predict"), &a->max_tokens);
    a->stops = json_path(a->root, "options.stop");
    a->json_wanted = json_is(format, "json") || format.type == JSON_OBJECT;
    a->schema = format.type == JSON_OBJECT ? format : (struct json){0};
    a->thinks = json_is_true(think) || think.type == JSON_STRING;
    a->thinks_never = think.type == JSON_BOOL && !json_is_true(think);
    if (a->at.bare)
        return read_prompt(r);
    if (messages.type != JSON_ARRAY && messages.type != JSON_NONE)
        return ask_refuse(r, "bad_request",
                          "json: cannot unmarshal string into Go struct field ChatRequest.messages of type "
                          "[]api.Message");
    a->prompt_tokens = messages.raw.n / 4 + 1;
    json_walk_init(&w, messages);
    while (err == PD_OK && json_walk_next(&w, NULL, &m))
        err = read_message(r, m);
    return err == PD_OK ? read_tools(r) : err;
}

/* ---- writing --------------------------------------------------------------- */

static void put_head(const struct speech *speech, struct put *out)
{
    char when[32];
    time_text(speech->created, when);
    put_text(out, "{\"model\":\"");
    put_span(out, speech->rq->model);
    put_printf(out, "\",\"created_at\":\"%.19s.000000Z\"", when);
}

static void put_content(const struct speech *speech, struct span text, struct put *out)
{
    put_text(out, speech->rq->at.bare ? ",\"response\":" : ",\"message\":{\"role\":\"assistant\",\"content\":");
    put_json(out, text);
}

static void put_thinking(const struct speech *speech, struct span text, struct put *out)
{
    if (!text.n)
        return;
    put_text(out, ",\"thinking\":");
    put_json(out, text);
    (void)speech;
}

static void put_call(const struct block *b, struct put *out)
{
    put_text(out, "{\"id\":");
    put_json(out, b->call->id);
    put_printf(out, ",\"function\":{\"index\":%u,\"name\":", b->number);
    put_json(out, b->call->name);
    put_text(out, ",\"arguments\":");
    put_span(out, json_check(b->text) == PD_OK ? b->text : SPAN_LIT("{}"));
    put_text(out, "}}");
}

static void put_done(const struct speech *speech, const char *finish, uint64_t tokens, struct put *out)
{
    put_text(out, ",\"done\":true,\"done_reason\":");
    put_json(out, span_str(dialect_finish(&sim_ollama, finish)));
    put_printf(out,
               ",\"total_duration\":120000000,\"load_duration\":1000000,\"prompt_eval_count\":%llu,"
               "\"prompt_eval_duration\":20000000,\"eval_count\":%llu,\"eval_duration\":99000000}",
               (unsigned long long)speech->answer->prompt_tokens, (unsigned long long)tokens);
}

static void put_line(struct stream *s, const struct block *b, struct span text)
{
    bool thinking = b->kind == SAID_THINKING;
    struct put *out = event_begin(s);
    put_head(s->speech, out);
    put_content(s->speech, b->kind == SAID_TEXT ? text : SPAN_LIT(""), out);
    if (thinking)
        put_thinking(s->speech, text, out);
    if (b->kind == SAID_CALL) {
        put_text(out, ",\"tool_calls\":[");
        put_call(b, out);
        put_text(out, "]");
    }
    put_text(out, s->speech->rq->at.bare ? ",\"done\":false}" : "},\"done\":false}");
    event_end(s, "");
}

static enum stream_piece ollama_next(struct stream *s)
{
    uint64_t before = s->tokens;
    steps_next(&s->steps, true, &s->tokens);
    const struct block *b = &s->steps.blocks[s->steps.block < s->steps.count ? s->steps.block : 0];
    struct put *out;
    switch (s->steps.step) {
    case STEP_BEGIN:
    case STEP_OPEN:
    case STEP_END:
        return PIECE_START;
    case STEP_CLOSE:
        if (b->kind == SAID_CALL && !b->text.n)
            put_line(s, b, SPAN_NONE);
        return PIECE_START;
    case STEP_PIECE:
        put_line(s, b, s->steps.piece);
        break;
    case STEP_FINISH:
        out = event_begin(s);
        put_head(s->speech, out);
        put_content(s->speech, SPAN_LIT(""), out);
        put_text(out, s->speech->rq->at.bare ? "" : "}");
        put_done(s->speech, s->finish, s->tokens, out);
        event_end(s, "");
        return PIECE_FINISH;
    case STEP_OVER:
        return PIECE_NONE;
    }
    return s->tokens > before ? PIECE_TOKEN : PIECE_START;
}

static void frame(struct stream *s, struct span type, struct span json)
{
    (void)type;
    put_span(s->out, json);
    put_text(s->out, "\n");
}

static void token(struct stream *s, struct span text)
{
    static const struct block block = {.kind = SAID_TEXT};
    put_line(s, &block, text);
}

/* Ollama has none; an empty line, or a line that says nothing. */
static void ping(struct stream *s, enum ping_kind kind)
{
    if (kind == PING_PING)
        token(s, SPAN_LIT(""));
    else
        put_text(s->out, "\n");
}

static void ollama_whole(const struct speech *speech, struct put *out)
{
    const struct answer *a = speech->answer;
    struct steps steps;
    bool first = true;
    steps_init(&steps, a, false);
    put_head(speech, out);
    put_content(speech, a->texts[0].n ? a->texts[0] : a->refusal, out);
    put_thinking(speech, a->reasoning, out);
    for (unsigned i = 0; i < steps.count; i++) {
        if (steps.blocks[i].kind != SAID_CALL)
            continue;
        put_text(out, first ? ",\"tool_calls\":[" : ",");
        put_call(&steps.blocks[i], out);
        first = false;
    }
    put_text(out, first ? "" : "]");
    put_text(out, speech->rq->at.bare ? "" : "}");
    put_done(speech, a->finish, a->completion_tokens, out);
}

/* ---- errors ---------------------------------------------------------------- */

static void put_error(struct put *out, const struct script_provider *conf, const struct endpoint *at,
                      const struct style_fault *f)
{
    (void)conf;
    (void)at;
    put_text(out, "{\"error\":");
    put_json(out, f->message);
    put_text(out, "}");
}

/* A line with the error alone, and no "done". */
static void stream_error(struct stream *s, const struct style_fault *f, unsigned shape)
{
    (void)shape;
    put_error(event_begin(s), s->speech->conf, &s->speech->rq->at, f);
    event_end(s, "");
}

/* ---- embeddings, lists ------------------------------------------------------- */

static pd_err embed(struct reading *r, const struct endpoint *at, uint64_t seed, struct put *out)
{
    struct json root, input, v;
    struct json_walk w;
    uint64_t tokens = 0;
    int64_t dimensions = 0;
    pd_err err = PD_OK;
    (void)at;
    if (json_check(r->body) != PD_OK || json_first(r->body, &root, NULL) != PD_OK)
        return ask_refuse(r, "bad_request", "invalid character in the body");
    input = json_get(root, "input");
    (void)json_i64(json_get(root, "dimensions"), &dimensions);
    if (input.type != JSON_STRING && input.type != JSON_ARRAY)
        return ask_refuse(r, "bad_request", "invalid input type");
    put_text(out, "{\"model\":\"");
    put_span(out, json_inner(json_get(root, "model")));
    put_text(out, "\",\"embeddings\":[");
    json_walk_init(&w, input);
    if (input.type == JSON_STRING) {
        tokens = input.raw.n / 4 + 1;
        err = put_embedding(out, r, seed, input.raw, dimensions);
    }
    while (err == PD_OK && input.type == JSON_ARRAY && json_walk_next(&w, NULL, &v)) {
        put_text(out, tokens ? "," : "");
        tokens += v.raw.n / 4 + 1;
        err = put_embedding(out, r, seed, v.raw, dimensions);
    }
    put_printf(out, "],\"total_duration\":14000000,\"load_duration\":1000000,\"prompt_eval_count\":%llu}",
               (unsigned long long)tokens);
    return err == PD_OK ? out->err : err;
}

static const char details[] =
    "\"details\":{\"parent_model\":\"\",\"format\":\"gguf\",\"family\":\"sim\",\"families\":["
    "\"sim\"],\"parameter_size\":\"8B\",\"quantization_level\":\"Q4_K_M\"}";

static pd_err about(struct reading *r, struct span path, struct put *out)
{
    struct json root;
    struct span model;
    const struct span *at;
    if (span_ends(path, "/api/version")) {
        put_text(out, "{\"version\":\"0.12.0\"}");
        return out->err;
    }
    if (json_check(r->body) != PD_OK || json_first(r->body, &root, NULL) != PD_OK)
        return ask_refuse(r, "bad_request", "missing request body");
    model =
        json_inner(json_get(root, "model").type == JSON_STRING ? json_get(root, "model") : json_get(root, "name"));
    bool found = !r->conf->models_given && model.n;
    for (unsigned i = 0, n = model_names(r->conf, &at); i < n; i++)
        found |= span_eq(at[i], model);
    if (!found)
        return ask_refuse(r, "model_not_found", "model '%.*s' not found", SPAN_FMT(span_upto(model, 100)));
    put_text(out, "{\"modelfile\":\"# simulated\",\"parameters\":\"\",\"template\":\"{{ .Prompt }}\",");
    put_text(out, details);
    put_text(out,
             ",\"model_info\":{\"general.architecture\":\"sim\",\"sim.context_length\":131072},\"capabilities\":["
             "\"completion\",\"tools\",\"vision\",\"thinking\"],\"modified_at\":\"2026-01-02T03:04:05Z\"}");
    return out->err;
}

static bool models(const struct script_provider *conf, struct span id, struct put *out)
{
    const struct span *at;
    unsigned n = model_names(conf, &at);
    (void)id;
    put_text(out, "{\"models\":[");
    for (unsigned i = 0; i < n; i++) {
        put_text(out, i ? ",{\"name\":" : "{\"name\":");
        put_json(out, at[i]);
        put_text(out, ",\"model\":");
        put_json(out, at[i]);
        put_text(out,
                 ",\"modified_at\":\"2026-01-02T03:04:05Z\",\"size\":4000000000,\"digest\":\"0000000000000000\",");
        put_text(out, details);
        put_text(out, "}");
    }
    put_text(out, "]}");
    return true;
}

const struct sim_dialect sim_ollama = {
    .stream_type = "application/x-ndjson",
    .json_type = "application/json; charset=utf-8",
    .errors = errors,
    .errors_count = sizeof(errors) / sizeof(errors[0]),
    .finishes = finishes,
    .calls_whole = true,
    .delta_type = "",
    .read = ollama_read,
    .next = ollama_next,
    .frame = frame,
    .token = token,
    .ping = ping,
    .whole = ollama_whole,
    .put_error = put_error,
    .stream_error = stream_error,
    .embed = embed,
    .about = about,
    .models = models,
};
