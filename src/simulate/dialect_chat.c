#include "simulate/dialect.h"
#include "simulate/sign.h"

/* ---- usage ---------------------------------------------------------------- */

static void usage_put(const struct speech *speech, uint64_t completion, struct put *out)
{
    const struct answer *a = speech->answer;
    const struct style *style = speech->conf->style;
    uint64_t reasoning = a->reasoning_tokens < completion ? a->reasoning_tokens : completion;
    put_text(out, "{\"prompt_tokens\":");
    put_uint(out, a->prompt_tokens);
    put_text(out, ",\"completion_tokens\":");
    put_uint(out, completion);
    put_text(out, ",\"total_tokens\":");
    put_uint(out, a->prompt_tokens + completion);
    put_text(
        out,
        ",\"prompt_tokens_details\":{\"cached_tokens\":0},\"completion_tokens_details\":{\"reasoning_tokens\":");
    put_uint(out, reasoning);
    put_text(out, "}");
    if (style->error == ERROR_OPENAI && style->usage == USAGE_FINISH) { /* DeepSeek counts its cache here too */
        put_text(out, ",\"prompt_cache_hit_tokens\":0,\"prompt_cache_miss_tokens\":");
        put_uint(out, a->prompt_tokens);
    }
    if (style->usage == USAGE_REPEAT)
        put_text(out, ",\"cost\":0.0001,\"is_byok\":false");
    put_text(out, "}");
}

/* ---- a stream ------------------------------------------------------------- */

static pd_err keep(struct buf *text, struct arena *mem, pd_err err, struct span *ret)
{
    *ret = err == PD_OK ? arena_span(mem, buf_span(text)) : SPAN_NONE;
    buf_done(text);
    return err != PD_OK ? err : ret->p ? PD_OK : PD_NOMEM;
}

static void put_head(const struct speech *speech, const char *object, struct put *out)
{
    put_text(out, "{\"id\":");
    put_json(out, speech->id);
    put_text(out, ",\"object\":\"");
    put_text(out, object);
    put_text(out, "\",\"created\":");
    put_uint(out, speech->created);
    put_text(out, ",\"model\":\"");
    put_span(out, speech->rq->model); /* with its escapes, as it came */
    put_text(out, "\",\"system_fingerprint\":");
    put_json(out, speech->conf->fingerprint);
    put_text(out, speech->conf->style->chunk_extra);
}

static bool usage_null(const struct speech *speech)
{
    const struct style *style = speech->conf->style;
    return style->usage_null && (speech->rq->usage_asked || style->usage == USAGE_FINISH);
}

pd_err chat_begin(struct stream *s)
{
    const struct speech *speech = s->speech;
    struct buf text;
    buf_init(&text, 0);
    struct put out = put_into(&text);
    put_head(speech, "chat.completion.chunk", &out);
    pd_err err = keep(&text, speech->mem, out.err, &s->head);
    if (err != PD_OK)
        return err;
    buf_init(&text, 0);
    out = put_into(&text);
    put_text(&out, "}");
    put_text(&out, speech->conf->style->choice_extra);
    put_text(&out, ",\"finish_reason\":null}]");
    if (usage_null(speech))
        put_text(&out, ",\"usage\":null");
    return keep(&text, speech->mem, out.err, &s->tail);
}

static void put_padding(struct stream *s, struct put *out)
{
    put_text(out, ",\"obfuscation\":\"");
    put_random(out, s->speech->rnd, alphabet_alnum, (unsigned)rnd_below(s->speech->rnd, 16) + 1);
    put_text(out, "\"");
}

static void put_end(struct stream *s, struct put *out)
{
    const struct style *style = s->speech->conf->style;
    if (style->usage == USAGE_EVERY) {
        put_text(out, ",\"usage\":");
        usage_put(s->speech, s->tokens, out);
    }
    if (style->obfuscation)
        put_padding(s, out);
    put_text(out, "}");
}

static void begin_delta(struct stream *s, unsigned choice, struct put *out)
{
    put_span(out, s->head);
    put_text(out, ",\"choices\":[{\"index\":");
    put_uint(out, choice);
    put_text(out, ",\"delta\":{");
    if (s->speech->conf->style->role_each)
        put_text(out, "\"role\":\"assistant\",");
}

static void end_delta(struct stream *s, struct put *out)
{
    put_span(out, s->tail);
    put_end(s, out);
}

static void put_logprobs(struct stream *s, struct span token, struct put *out)
{
    put_text(out, "},\"logprobs\":{\"content\":[{\"token\":");
    put_json(out, token);
    put_text(out,
             ",\"logprob\":-0.25,\"bytes\":null,\"top_logprobs\":[]}],\"refusal\":null},\"finish_reason\":null}]");
    if (usage_null(s->speech))
        put_text(out, ",\"usage\":null");
    put_end(s, out);
}

static void put_token(struct stream *s, unsigned choice, struct span token, bool thinking, struct put *out)
{
    const struct style *style = s->speech->conf->style;
    bool lists = !style->reasoning_field && s->speech->answer->reasoning.n;
    begin_delta(s, choice, out);
    if (thinking && lists) {
        put_text(out, "\"content\":[{\"type\":\"thinking\",\"thinking\":[{\"type\":\"text\",\"text\":\"");
        put_json_inner(out, token);
        put_text(out, "\"}]}]");
    } else if (lists) {
        put_text(out, "\"content\":[{\"type\":\"text\",\"text\":\"");
        put_json_inner(out, token);
        put_text(out, "\"}]");
    } else {
        put_text(out, "\"");
        put_text(out, thinking ? style->reasoning_field : "content");
        put_text(out, "\":\"");
        put_json_inner(out, token);
        put_text(out, "\"");
        if (thinking && style->usage == USAGE_REPEAT) {
            put_text(out, ",\"reasoning_details\":[{\"type\":\"reasoning.text\",\"text\":\"");
            put_json_inner(out, token);
            put_text(out, "\",\"index\":0,\"format\":null}]");
        }
    }
    if (s->speech->rq->logprobs && !thinking)
        put_logprobs(s, token, out);
    else
        end_delta(s, out);
}

static void put_role(struct stream *s, unsigned choice, struct put *out)
{
    put_span(out, s->head);
    put_text(out, ",\"choices\":[{\"index\":");
    put_uint(out, choice);
    put_text(out, ",\"delta\":{\"role\":\"assistant\",\"content\":");
    put_text(out, (s->speech->answer->calls_count || s->speech->answer->refusal.p) &&
                          !s->speech->answer->texts[choice].n
                      ? "null"
                      : "\"\"");
    put_span(out, s->tail);
    if (s->speech->conf->style->groq_extra) {
        put_text(out, ",\"x_groq\":{\"id\":\"req_");
        put_random(out, s->speech->rnd, alphabet_alnum, 26);
        put_text(out, "\"}");
    }
    put_end(s, out);
}

static void put_call(struct stream *s, unsigned choice, struct put *out)
{
    struct stream_choice *c = &s->choices[choice];
    const struct answer_call *call = &s->speech->answer->calls[c->call];
    bool whole = s->speech->conf->style->call_whole;
    begin_delta(s, choice, out);
    put_text(out, "\"tool_calls\":[{\"index\":");
    put_uint(out, c->call);
    size_t piece = 0;
    if (!c->call_begun) {
        put_text(out, ",\"id\":");
        put_json(out, call->id);
        put_text(out, ",\"type\":\"function\",\"function\":{\"name\":");
        put_json(out, call->name);
        put_text(out, ",\"arguments\":");
        piece = whole ? call->arguments.n : 0;
    } else {
        put_text(out, ",\"function\":{\"arguments\":");
        piece = frame_piece(span_from(call->arguments, c->at));
    }
    put_json(out, span_upto(span_from(call->arguments, c->at), piece));
    put_text(out, "}}]");
    end_delta(s, out);
    c->call_begun = true;
    c->at += piece;
    if (c->at >= call->arguments.n) {
        c->call++;
        c->at = 0;
        c->call_begun = false;
    }
}

static void put_finish(struct stream *s, unsigned choice, bool repeat, struct put *out)
{
    const struct style *style = s->speech->conf->style;
    put_span(out, s->head);
    put_text(out, ",\"choices\":[{\"index\":");
    put_uint(out, choice);
    put_text(out, style->usage == USAGE_FINISH || style->role_each
                      ? ",\"delta\":{\"role\":\"assistant\",\"content\":\"\"}"
                      : ",\"delta\":{}");
    put_text(out, style->finish_extra ? style->finish_extra : style->choice_extra);
    put_text(out, ",\"finish_reason\":");
    put_json(out, span_str(dialect_finish(&sim_chat, s->finish)));
    put_text(out, "}]");
    if (repeat || style->usage == USAGE_FINISH) {
        put_text(out, ",\"usage\":");
        usage_put(s->speech, s->tokens, out);
    } else if (usage_null(s->speech)) {
        put_text(out, ",\"usage\":null");
    }
    if (style->groq_extra) {
        put_text(out, ",\"x_groq\":{\"usage\":");
        usage_put(s->speech, s->tokens, out);
        put_text(out, "}");
    }
    put_end(s, out);
}

static void put_filter(struct stream *s, struct put *out)
{
    put_text(out, "{\"id\":\"\",\"object\":\"\",\"created\":0,\"model\":\"\",\"choices\":[],\"prompt_filter_"
                  "results\":[{\"prompt_index\":0,"
                  "\"content_filter_results\":{\"hate\":{\"filtered\":false,\"severity\":\"safe\"},\"jailbreak\":{"
                  "\"detected\":false,"
                  "\"filtered\":false}}}]}");
    (void)s;
}

static void put_usage_chunk(struct stream *s, struct put *out)
{
    const struct style *style = s->speech->conf->style;
    put_span(out, s->head);
    put_text(out, ",\"choices\":[],\"usage\":");
    usage_put(s->speech, s->tokens, out);
    if (style->usage == USAGE_EXTRA && style->error == ERROR_INT_CODE && style->call_id == CALL_ID_32)
        put_text(out, ",\"timings\":{\"prompt_ms\":1.0,\"predicted_ms\":1.0,\"predicted_per_second\":1000.0}");
    if (style->obfuscation)
        put_padding(s, out);
    put_text(out, "}");
}

/* What a choice says next is decided here, so that a phase without content is passed over. */
static void settle(struct stream *s, unsigned choice)
{
    struct stream_choice *c = &s->choices[choice];
    const struct answer *a = s->speech->answer;
    if (c->phase == CHOICE_REASONING && c->at >= a->reasoning.n) {
        c->phase = CHOICE_TEXT;
        c->at = 0;
    }
    if (c->phase == CHOICE_TEXT && c->at >= a->texts[choice].n) {
        c->phase = CHOICE_REFUSAL;
        c->at = 0;
    }
    if (c->phase == CHOICE_REFUSAL && c->at >= a->refusal.n) {
        c->phase = CHOICE_CALLS;
        c->at = 0;
    }
    if (c->phase == CHOICE_CALLS && c->call >= a->calls_count)
        c->phase = CHOICE_FINISH;
}

static void put_refusal(struct stream *s, unsigned choice, struct span token, struct put *out)
{
    begin_delta(s, choice, out);
    put_text(out, "\"refusal\":");
    put_json(out, token);
    end_delta(s, out);
}

static enum stream_piece next_of(struct stream *s, unsigned choice, struct put *out)
{
    struct stream_choice *c = &s->choices[choice];
    const struct answer *a = s->speech->answer;
    struct span rest;
    size_t n;
    settle(s, choice);
    switch (c->phase) {
    case CHOICE_ROLE:
        put_role(s, choice, out);
        c->phase = CHOICE_REASONING;
        return PIECE_START;
    case CHOICE_REASONING:
    case CHOICE_TEXT:
        rest = span_from(c->phase == CHOICE_TEXT ? a->texts[choice] : a->reasoning, c->at);
        n = frame_piece(rest);
        c->at += n;
        s->tokens++;
        put_token(s, choice, span_upto(rest, n), c->phase == CHOICE_REASONING, out);
        return PIECE_TOKEN;
    case CHOICE_REFUSAL:
        rest = span_from(a->refusal, c->at);
        n = frame_piece(rest);
        c->at += n;
        s->tokens++;
        put_refusal(s, choice, span_upto(rest, n), out);
        return PIECE_TOKEN;
    case CHOICE_CALLS:
        s->tokens += 1 + (s->speech->conf->style->call_whole ? frame_pieces(a->calls[c->call].arguments) : 0);
        put_call(s, choice, out);
        return PIECE_TOKEN;
    case CHOICE_FINISH:
        c->phase = CHOICE_OVER;
        put_finish(s, choice, false, out);
        return PIECE_FINISH;
    case CHOICE_OVER:
        break;
    }
    return PIECE_NONE;
}

static enum stream_piece chunk_next(struct stream *s, struct put *out)
{
    const struct style *style = s->speech->conf->style;
    unsigned count = s->speech->answer->choices;
    if (style->filter_first && !s->filter_sent) {
        s->filter_sent = true;
        put_filter(s, out);
        return PIECE_START;
    }
    for (unsigned i = 0; i < count; i++) {
        unsigned choice = s->turn;
        s->turn = s->turn + 1 == count ? 0 : s->turn + 1;
        if (s->choices[choice].phase != CHOICE_OVER)
            return next_of(s, choice, out);
    }
    if (s->usage_sent || style->usage == USAGE_FINISH || style->usage == USAGE_EVERY)
        return PIECE_NONE;
    if (style->usage == USAGE_EXTRA && !s->speech->rq->usage_asked)
        return PIECE_NONE;
    s->usage_sent = true;
    if (style->usage == USAGE_REPEAT)
        put_finish(s, 0, true, out);
    else
        put_usage_chunk(s, out);
    return PIECE_USAGE;
}

static enum stream_piece chat_next(struct stream *s)
{
    enum stream_piece piece = chunk_next(s, event_begin(s));
    if (piece != PIECE_NONE)
        event_end(s, "");
    return piece;
}

/* Plain text lines have only what is text. */
static void chat_frame(struct stream *s, struct span type, struct span json)
{
    struct json doc;
    if (!(s->framing & FRAME_TEXT)) {
        frame_event(s->out, s->framing, type, json);
        return;
    }
    struct span text = SPAN_NONE;
    if (json_first(json, &doc, NULL) == PD_OK)
        text = json_inner(json_path(doc, "choices.0.delta.content"));
    put_span(s->out, text);
    put_text(s->out, text.n ? "\n" : "");
}

static void chat_end(struct stream *s)
{
    frame_done(s->out, s->framing);
}

static void chat_token(struct stream *s, struct span text)
{
    put_token(s, 0, text, false, event_begin(s));
    event_end(s, "");
}

static void chat_ping(struct stream *s, enum ping_kind kind)
{
    if (kind == PING_PING)
        frame_event(s->out, s->framing, SPAN_LIT("ping"), SPAN_LIT("{\"type\":\"ping\"}"));
    else
        ping_comment(s, kind);
}

struct stream_place chat_place(const struct stream *s)
{
    const struct stream_choice *c = &s->choices[0];
    const struct answer *a = s->speech->answer;
    struct stream_place p = {.where = WHERE_ELSE, .call = c->call, .at = c->at};
    if (c->phase == CHOICE_REASONING && c->at && c->at < a->reasoning.n)
        p.where = WHERE_REASONING;
    else if (c->phase == CHOICE_TEXT && c->at && c->at < a->texts[0].n)
        p.where = WHERE_TEXT;
    else if (c->phase == CHOICE_OVER)
        p.where = WHERE_FINISHED;
    else if (c->phase == CHOICE_CALLS && c->call < a->calls_count) {
        p.where = c->call_begun ? WHERE_CALL : c->call ? WHERE_BETWEEN_CALLS : WHERE_ELSE;
        p.size = a->calls[c->call].arguments.n;
    }
    return p;
}

bool chat_said(struct stream *s)
{
    for (unsigned i = 0; i < s->speech->answer->choices; i++) {
        settle(s, i);
        if (s->choices[i].phase < CHOICE_FINISH)
            return false;
    }
    return true;
}

void chat_finish(struct stream *s)
{
    for (unsigned i = 0; i < s->speech->answer->choices; i++)
        s->choices[i].phase = CHOICE_FINISH;
}

/* ---- whole ---------------------------------------------------------------- */

static void put_calls(const struct answer *a, struct put *out)
{
    put_text(out, ",\"tool_calls\":[");
    for (unsigned i = 0; i < a->calls_count; i++) {
        put_text(out, i ? ",{\"id\":" : "{\"id\":");
        put_json(out, a->calls[i].id);
        put_text(out, ",\"type\":\"function\",\"function\":{\"name\":");
        put_json(out, a->calls[i].name);
        put_text(out, ",\"arguments\":");
        put_json(out, a->calls[i].arguments);
        put_text(out, "}}");
    }
    put_text(out, "]");
}

static void put_message(const struct speech *speech, unsigned choice, struct put *out)
{
    const struct answer *a = speech->answer;
    const struct style *style = speech->conf->style;
    put_text(out, "{\"role\":\"assistant\",\"content\":");
    if (a->reasoning.n && !style->reasoning_field) {
        put_text(out, "[{\"type\":\"thinking\",\"thinking\":[{\"type\":\"text\",\"text\":");
        put_json(out, a->reasoning);
        put_text(out, "}]},{\"type\":\"text\",\"text\":");
        put_json(out, a->texts[choice]);
        put_text(out, "}]");
    } else if ((a->calls_count || a->refusal.p) && !a->texts[choice].n) {
        put_text(out, "null");
    } else {
        put_json(out, a->texts[choice]);
    }
    if (a->reasoning.n && style->reasoning_field) {
        put_text(out, ",\"");
        put_text(out, style->reasoning_field);
        put_text(out, "\":");
        put_json(out, a->reasoning);
    }
    if (a->refusal.p) {
        put_text(out, ",\"refusal\":");
        put_json(out, a->refusal);
    } else if (style->obfuscation) { /* OpenAI and Azure name it always */
        put_text(out, ",\"refusal\":null");
    }
    if (a->calls_count)
        put_calls(a, out);
    put_text(out, "}");
}

static void chat_whole(const struct speech *speech, struct put *out)
{
    const struct style *style = speech->conf->style;
    put_head(speech, "chat.completion", out);
    put_text(out, ",\"choices\":[");
    for (unsigned i = 0; i < speech->answer->choices; i++) {
        put_text(out, i ? ",{\"index\":" : "{\"index\":");
        put_uint(out, i);
        put_text(out, ",\"message\":");
        put_message(speech, i, out);
        put_text(out, style->finish_extra ? style->finish_extra : style->choice_extra);
        put_text(out, ",\"finish_reason\":");
        put_json(out, span_str(dialect_finish(&sim_chat, speech->answer->finish)));
        put_text(out, "}");
    }
    put_text(out, "],\"usage\":");
    usage_put(speech, speech->answer->completion_tokens, out);
    put_text(out, "}");
}

/* ---- reading --------------------------------------------------------------- */

/* What Mistral knows of a request: it refuses the rest. */
static const char *const mistral_fields[] = {"model",
                                             "temperature",
                                             "top_p",
                                             "max_tokens",
                                             "stream",
                                             "stop",
                                             "random_seed",
                                             "messages",
                                             "tools",
                                             "response_format",
                                             "tool_choice",
                                             "presence_penalty",
                                             "n",
                                             "frequency_penalty",
                                             "prediction",
                                             "parallel_tool_calls",
                                             "prompt_mode",
                                             "safe_prompt",
                                             "guardrails",
                                             "metadata",
                                             "stream_options",
                                             "reasoning_effort",
                                             "prompt_cache_key"};

static pd_err refuse_field(struct reading *r, struct span key)
{
    struct buf text;
    buf_init(&text, 0);
    struct put out = put_into(&text);
    put_text(&out, "{\"detail\":[{\"type\":\"extra_forbidden\",\"loc\":[\"body\",\"");
    put_span(&out, key);
    put_text(&out, "\"],\"msg\":\"Extra inputs are not permitted\",\"input\":null}]}");
    r->why->like = "bad_request";
    r->why->status = 422;
    r->why->body = out.err == PD_OK ? arena_span(r->mem, buf_span(&text)) : SPAN_NONE;
    buf_done(&text);
    return r->why->body.p ? PD_INVALID : PD_NOMEM;
}

static pd_err check_field(struct reading *r, struct span key)
{
    for (size_t i = 0; i < sizeof(mistral_fields) / sizeof(mistral_fields[0]); i++)
        if (json_key_is(key, mistral_fields[i]))
            return PD_OK;
    return r->conf->style->error == ERROR_MISTRAL ? refuse_field(r, key) : PD_OK;
}

static pd_err read_parts(struct reading *r, struct said *m, struct json content)
{
    struct json_walk w;
    struct json part;
    if (content.type == JSON_STRING)
        return ask_text(r, m, SAID_TEXT, content);
    json_walk_init(&w, content);
    pd_err err = PD_OK;
    while (err == PD_OK && json_walk_next(&w, NULL, &part)) {
        struct json type = json_get(part, "type"), file = json_get(part, "file"), url;
        if (json_is(type, "image_url")) {
            url = json_get(part, "image_url");
            err = ask_media_url(r, m, url.type == JSON_STRING ? url : json_get(url, "url"));
        } else if (json_is(type, "file")) {
            err = ask_media_url(r, m, json_get(file, "file_data"));
        } else if (json_is(type, "input_audio")) {
            err = ask_media(r, m, SPAN_LIT("audio"), json_path(part, "input_audio.data"));
        } else {
            err = ask_text(r, m, SAID_TEXT, json_get(part, "text"));
        }
    }
    return err;
}

static pd_err check_id(struct reading *r, struct span id)
{
    bool fine = id.n == 9;
    for (size_t i = 0; i < id.n && fine; i++)
        fine = memchr(alphabet_alnum, id.p[i], 62) != NULL;
    if (fine || !style_is_mistral(r->conf->style, r->ask->model))
        return PD_OK;
    r->why->type = SPAN_LIT("invalid_function_call");
    return ask_refuse(r, "bad_request", "Tool call id was %.*s but must be a-z, A-Z, 0-9, with a length of 9.",
                      SPAN_FMT(span_upto(id, 100)));
}

static pd_err read_calls(struct reading *r, struct said *m, struct json calls)
{
    struct json_walk w;
    struct json call;
    pd_err err = PD_OK;
    json_walk_init(&w, calls);
    while (err == PD_OK && json_walk_next(&w, NULL, &call)) {
        struct said_part *p = ask_part(r, m, SAID_CALL);
        if (!p)
            return PD_NOMEM;
        err = ask_string(r, json_get(call, "id"), &p->id);
        if (err == PD_OK)
            err = ask_string(r, json_path(call, "function.name"), &p->name);
        if (err == PD_OK)
            err = check_id(r, p->id);
    }
    return err;
}

/* The message that asked for tools: before m and the results that stand beside it. */
static const struct said *asked_in(const struct ask *a, const struct said *m)
{
    const struct said *caller = NULL;
    for (const struct said *s = a->said; s && s != m; s = s->next)
        if (s->role == SAID_ASSISTANT)
            caller = s;
        else if (!ask_count(s, SAID_RESULT))
            caller = NULL;
    return caller;
}

static pd_err read_result(struct reading *r, struct said *m, struct json message)
{
    struct json content = json_get(message, "content");
    struct said_part *p = ask_part(r, m, SAID_RESULT);
    pd_err err = p ? ask_string(r, json_get(message, "tool_call_id"), &p->id) : PD_NOMEM;
    if (err == PD_OK)
        err = ask_content_text(r, content, &p->text);
    if (err == PD_OK && content.type == JSON_ARRAY) { /* images of the result */
        struct said images = {0};
        err = read_parts(r, &images, content);
        for (struct said_part *i = images.parts; i; i = i->next)
            if (i->kind == SAID_MEDIA) {
                struct said_part *media = err == PD_OK ? ask_part(r, m, SAID_MEDIA) : NULL;
                if (!media)
                    return err == PD_OK ? PD_NOMEM : err;
                media->media_type = i->media_type;
                media->text = i->text;
                media->media_bytes = i->media_bytes;
                memcpy(media->sha256, i->sha256, sizeof(i->sha256));
            }
    }
    if (err == PD_OK)
        err = check_id(r, p->id);
    if (err != PD_OK || ask_call_of(asked_in(r->ask, m), p->id, SPAN_NONE))
        return err;
    r->why->param = arena_span(r->mem, span_str(arena_printf(r->mem, "messages.[%u].role", m->index)));
    if (style_is_mistral(r->conf->style, SPAN_NONE))
        return ask_refuse(r, "bad_request", "Unexpected tool call id %.*s in tool results",
                          SPAN_FMT(span_upto(p->id, 100)));
    return ask_refuse(
        r, "bad_request",
        "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
        "'tool_calls'.");
}

static pd_err read_message(struct reading *r, struct json message)
{
    struct json role = json_get(message, "role");
    bool tool = json_is(role, "tool") || json_is(role, "function"), assistant = json_is(role, "assistant");
    if (role.type != JSON_STRING)
        return ask_refuse(r, "bad_request", "a message has no role");
    struct said *m = ask_say(r, assistant                                               ? SAID_ASSISTANT
                                : json_is(role, "system") || json_is(role, "developer") ? SAID_SYSTEM
                                                                                        : SAID_USER);
    if (!m)
        return PD_NOMEM;
    if (json_is(role, "tool"))
        return read_result(r, m, message);
    if (tool) { /* the old way, without ids */
        struct said_part *p = ask_part(r, m, SAID_RESULT);
        return p ? ask_content_text(r, json_get(message, "content"), &p->text) : PD_NOMEM;
    }
    pd_err err = read_parts(r, m, json_get(message, "content"));
    r->ask->prefixed = assistant && json_is_true(json_get(message, "prefix"));
    return err == PD_OK && assistant ? read_calls(r, m, json_get(message, "tool_calls")) : err;
}

/* Each call of an assistant message must have its result before anything else is said. */
static pd_err check_answered(struct reading *r)
{
    for (const struct said *m = r->ask->said; m; m = m->next)
        for (const struct said_part *c = m->parts; c; c = c->next) {
            bool answered = c->kind != SAID_CALL;
            for (const struct said *n = m->next; n && !answered && ask_count(n, SAID_RESULT); n = n->next)
                for (const struct said_part *p = n->parts; p; p = p->next)
                    answered |= p->kind == SAID_RESULT && span_eq(p->id, c->id);
            if (!answered)
                return ask_refuse(
                    r, "bad_request",
                    "An assistant message with 'tool_calls' must be followed by tool messages responding "
                    "to each 'tool_call_id'. The following tool_call_ids did not have response messages: "
                    "%.*s",
                    SPAN_FMT(span_upto(c->id, 100)));
        }
    return PD_OK;
}

static pd_err read_tools(struct reading *r, struct json tools)
{
    struct json_walk w;
    struct json tool;
    pd_err err = PD_OK;
    json_walk_init(&w, tools);
    while (err == PD_OK && json_walk_next(&w, NULL, &tool)) {
        struct json function = json_get(tool, "function");
        struct span name;
        if (function.type != JSON_OBJECT)
            continue;
        err = ask_string(r, json_get(function, "name"), &name);
        if (err == PD_OK)
            err = ask_tool(r, name, json_get(function, "parameters"));
    }
    return err;
}

static pd_err read_choice(struct reading *r, struct json choice)
{
    struct json name = json_path(choice, "function.name");
    r->ask->choice = json_is(choice, "none")                                 ? CHOOSE_NONE
                     : json_is(choice, "required") || json_is(choice, "any") ? CHOOSE_ANY
                     : name.type == JSON_STRING                              ? CHOOSE_NAMED
                                                                             : CHOOSE_AUTO;
    return ask_string(r, name, &r->ask->choice_name);
}

static pd_err read_field(struct reading *r, struct span key, struct json v)
{
    struct ask *a = r->ask;
    if (json_key_is(key, "model"))
        a->model = json_inner(v);
    else if (json_key_is(key, "stream"))
        a->streamed = json_is_true(v);
    else if (json_key_is(key, "stream_options"))
        a->usage_asked = json_is_true(json_get(v, "include_usage"));
    else if (json_key_is(key, "tools"))
        return read_tools(r, v);
    else if (json_key_is(key, "tool_choice"))
        return read_choice(r, v);
    else if (json_key_is(key, "parallel_tool_calls"))
        a->parallel = json_is_true(v);
    else if (json_key_is(key, "response_format")) {
        a->json_wanted =
            json_is(json_get(v, "type"), "json_schema") || json_is(json_get(v, "type"), "json_object");
        a->schema = json_path(v, "json_schema.schema");
    } else if (json_key_is(key, "logprobs"))
        a->logprobs = json_is_true(v);
    else if (json_key_is(key, "stop"))
        a->stops = v;
    else if (json_key_is(key, "continue_final_message"))
        a->final = json_is_true(v);
    else if (json_key_is(key, "n"))
        (void)json_i64(v, &a->n);
    else if (json_key_is(key, "max_tokens") || json_key_is(key, "max_completion_tokens"))
        (void)json_i64(v, &a->max_tokens);
    return PD_OK;
}

static pd_err chat_read(struct reading *r)
{
    struct ask *a = r->ask;
    struct json messages = json_get(a->root, "messages"), v;
    struct json_walk w;
    struct span key;
    pd_err err = PD_OK;
    json_walk_init(&w, a->root);
    while (err == PD_OK && json_walk_next(&w, &key, &v)) {
        err = check_field(r, key);
        if (err == PD_OK)
            err = read_field(r, key, v);
    }
    if (err != PD_OK)
        return err;
    if (!a->model.n || messages.type != JSON_ARRAY)
        return ask_refuse(r, "bad_request", a->model.n ? "messages is missing or no list" : "model is missing");
    if (a->n < 1 || a->n > ANSWER_CHOICES_MAX)
        return ask_refuse(r, "bad_request", "n is not in 1 to 16");
    v = json_get(a->root, "add_generation_prompt"); /* true when it is not said */
    if (a->final && r->conf->style->continues == CONTINUES_FINAL && (v.type != JSON_BOOL || json_is_true(v)))
        return ask_refuse(r, "bad_request",
                          "Cannot set both `continue_final_message` and `add_generation_prompt` to True.");
    a->prompt_tokens = messages.raw.n / 4 + 1;
    json_walk_init(&w, messages);
    while (err == PD_OK && json_walk_next(&w, NULL, &v))
        err = read_message(r, v);
    bool strict = r->conf->style->obfuscation; /* OpenAI and Azure; the copies answer all the same */
    return err == PD_OK && strict ? check_answered(r) : err;
}

/* ---- errors ---------------------------------------------------------------- */

static void chat_error(struct put *out, const struct script_provider *conf, const struct endpoint *at,
                       const struct style_fault *f)
{
    (void)at;
    style_put_error(out, conf->style, f);
}

static void chat_stream_error(struct stream *s, const struct style_fault *f, unsigned wanted)
{
    const struct script_provider *conf = s->speech->conf;
    enum error_shape shape = wanted ? (enum error_shape)(wanted - FAULT_SHAPE_ERROR) : conf->style->stream_error;
    struct put *out = event_begin(s);
    switch (shape) {
    case SHAPE_STRING:
        put_text(out, "{\"error\":");
        put_json(out, f->message);
        put_text(out, "}");
        break;
    case SHAPE_CHUNK:
        put_span(out, s->head);
        put_printf(out, ",\"error\":{\"code\":%d,\"message\":", f->status);
        put_json(out, f->message);
        put_text(out, "},\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_"
                      "reason\":\"error\"}]}");
        break;
    case SHAPE_STYLE:
    case SHAPE_OBJECT:
    case SHAPE_EVENT:
    case SHAPE_BARE:
    case SHAPE_DONE:
        style_put_error(out, conf->style, f);
        break;
    }
    if (shape == SHAPE_BARE)
        put_span(s->out, buf_span(s->scratch));
    else
        event_end(s, shape == SHAPE_EVENT ? "error" : "");
    if (shape == SHAPE_DONE || shape == SHAPE_CHUNK)
        frame_done(s->out, s->framing);
}

/* ---- models ---------------------------------------------------------------- */

static bool chat_models(const struct script_provider *conf, struct span id, struct put *out)
{
    const struct span *at;
    unsigned count = model_names(conf, &at);
    bool found = !id.n;
    if (!id.n)
        put_text(out, "{\"object\":\"list\",\"data\":[");
    for (unsigned i = 0; i < count; i++) {
        if (id.n && !span_eq(id, at[i]))
            continue;
        found = true;
        put_text(out, i && !id.n ? ",{\"id\":" : "{\"id\":");
        put_json(out, at[i]);
        put_text(out, ",\"object\":\"model\",\"created\":1700000000,\"owned_by\":\"simulated\"}");
    }
    if (!id.n)
        put_text(out, "]}");
    return found;
}

static pd_err chat_headers(struct sim_headers *h)
{
    return h->of || h->failed ? h->add(h->ctx, span_str(h->conf->style->request_id_header), span_str(h->number))
                              : PD_OK;
}

static const struct finish_word finishes[] = {{"refusal", "stop"}, {"stop_sequence", "stop"}, {NULL, NULL}};

const struct sim_dialect sim_chat = {
    .stream_type = "text/event-stream; charset=utf-8",
    .errors = error_likes,
    .errors_count = ERROR_LIKES,
    .finishes = finishes,
    .delta_type = "",
    .read = chat_read,
    .headers = chat_headers,
    .next = chat_next,
    .frame = chat_frame,
    .end = chat_end,
    .token = chat_token,
    .ping = chat_ping,
    .whole = chat_whole,
    .put_error = chat_error,
    .stream_error = chat_stream_error,
    .embed = chat_embed,
    .models = chat_models,
};
