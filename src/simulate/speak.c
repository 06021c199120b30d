#include "simulate/speak.h"

/* ---- usage ---------------------------------------------------------------- */

void usage_put(const struct speech *speech, uint64_t completion, struct put *out)
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

pd_err stream_init(struct stream *s, const struct speech *speech)
{
    struct buf text;
    *s = (struct stream){.speech = speech};
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

void stream_put_text(struct stream *s, struct put *out, struct span text)
{
    put_token(s, 0, text, false, out);
}

static void put_role(struct stream *s, unsigned choice, struct put *out)
{
    put_span(out, s->head);
    put_text(out, ",\"choices\":[{\"index\":");
    put_uint(out, choice);
    put_text(out, ",\"delta\":{\"role\":\"assistant\",\"content\":");
    put_text(out, s->speech->answer->calls_count && !s->speech->answer->texts[choice].n ? "null" : "\"\"");
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
    put_json(out, span_str(s->speech->answer->finish));
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
        c->phase = CHOICE_CALLS;
        c->at = 0;
    }
    if (c->phase == CHOICE_CALLS && c->call >= a->calls_count)
        c->phase = CHOICE_FINISH;
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

enum stream_piece stream_next(struct stream *s, struct put *out)
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

bool stream_said(struct stream *s)
{
    for (unsigned i = 0; i < s->speech->answer->choices; i++) {
        settle(s, i);
        if (s->choices[i].phase < CHOICE_FINISH)
            return false;
    }
    return true;
}

void stream_finish(struct stream *s)
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
    } else if (a->calls_count && !a->texts[choice].n) {
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
    if (style->obfuscation) /* OpenAI and Azure name it always */
        put_text(out, ",\"refusal\":null");
    if (a->calls_count)
        put_calls(a, out);
    put_text(out, "}");
}

void whole_put(const struct speech *speech, struct put *out)
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
        put_json(out, span_str(speech->answer->finish));
        put_text(out, "}");
    }
    put_text(out, "],\"usage\":");
    usage_put(speech, speech->answer->completion_tokens, out);
    put_text(out, "}");
}
