#include "parse/utf8.h"
#include "simulate/sim.h"

#include <stdio.h>

static const char html_page[] =
    "<!DOCTYPE html>\n<html><head><title>%d %s</title></head><body><center><h1>%d %s</h1></center><hr>"
    "<center>cloudflare</center></body></html>\n";

static pd_err put_html(struct put *out, int status)
{
    const char *reason = http1_reason(status);
    put_printf(out, html_page, status, reason, status, reason);
    return out->err;
}

/* ---- before the answer ---------------------------------------------------- */

static struct style_fault error_of(const struct sim_dialect *d, const struct fault *f, int status)
{
    struct style_fault e = {.status = f->status >= 0 ? (int)f->status : status,
                            .message = f->message,
                            .type = f->type,
                            .code = f->code};
    if (f->like.p && f->status < 0)
        e.status = 0;
    dialect_fault_fill(d, &e, f->like);
    return e;
}

/* The whole error answer. */
static pd_err put_error(const struct fault *f, const struct script_provider *conf, const struct endpoint *at,
                        struct style_fault *e, struct buf *body, struct span *ret_type)
{
    const struct sim_dialect *d = sim_dialects[at->dialect];
    struct put out = put_into(body);
    *ret_type = f->html == 1   ? SPAN_LIT("text/html; charset=UTF-8")
                : d->json_type ? span_str(d->json_type)
                               : SPAN_LIT("application/json");
    if (f->content_type.p)
        *ret_type = f->content_type;
    if (f->html == 1)
        return put_html(&out, e->status);
    if (f->body.p)
        put_span(&out, f->body);
    else
        d->put_error(&out, conf, at, e);
    return out.err;
}

void strike_early(struct provider *p, struct request *rq, const struct endpoint *at, const struct fault *f)
{
    struct buf body;
    struct span type;
    struct header headers[WIRE_HEADERS_MAX];
    size_t n = 0;
    char error_type[200];
    struct style_fault e = error_of(sim_dialects[at->dialect], f, 500);
    buf_init(&body, 0);
    pd_err err = put_error(f, p->conf, at, &e, &body, &type);
    headers[n++] = (struct header){SPAN_LIT("content-type"), type};
    if (at->platform == PLATFORM_BEDROCK) { /* the body does not name it */
        snprintf(error_type, sizeof(error_type), "%.*s:http://internal.amazon.com/coral/com.amazon.bedrock/",
                 SPAN_FMT(span_upto(e.type, 80)));
        headers[n++] = (struct header){SPAN_LIT("x-amzn-errortype"), span_str(error_type)};
    }
    for (unsigned i = 0; i < f->headers.count && n < WIRE_HEADERS_MAX; i++)
        headers[n++] = (struct header){f->headers.at[i].name, f->headers.at[i].value};
    if (err == PD_OK)
        reply_simple(rq, e.status, headers, n, buf_span(&body));
    else
        reply_abort(rq);
    buf_done(&body);
}

static pd_err answer_error(struct play *r, int status)
{
    struct span type;
    struct style_fault e = error_of(r->dialect, r->fault, status);
    e.request_id = r->request_id;
    pd_err err = put_error(r->fault, r->provider->conf, &r->at, &e, &r->body, &type);
    r->status = r->fault->kind == FAULT_ERROR_IN_200 ? 200 : e.status;
    r->failed = true;
    r->error_type = arena_span(&r->mem, e.type);
    if (err == PD_OK)
        err = play_add_header(r, SPAN_LIT("content-type"), type);
    if (err == PD_OK)
        err = play_begin(r, (int64_t)buf_size(&r->body));
    return err == PD_OK ? wire_write(&r->wire, buf_span(&r->body)) : err;
}

/* A reset or a hold that comes before anything is said. */
static bool waits_before(const struct fault *f)
{
    return (f->kind == FAULT_RESET || f->kind == FAULT_HOLD) && f->after < 0 && f->after_bytes < 0 &&
           f->at == FAULT_AT_ANY;
}

/* An answer without content, or without anything, in the words of its dialect. */
static void say_nothing(struct play *r)
{
    struct answer *a = &r->answer;
    *a = (struct answer){.choices = 1,
                         .texts = {SPAN_LIT("")},
                         .finish = "stop",
                         .blank = r->fault->shape == FAULT_SHAPE_NO_CHOICES,
                         .prompt_tokens = a->prompt_tokens};
    r->spoiled = true;
}

static pd_err answer_empty(struct play *r)
{
    struct put out = put_into(&r->body);
    bool streamed = r->in.streamed && !r->fixed;
    struct span type = streamed
                           ? span_upto(span_str(r->dialect->stream_type), strcspn(r->dialect->stream_type, ";"))
                           : SPAN_LIT("application/json");
    if (r->fault->shape == FAULT_SHAPE_NO_CHOICES || r->fault->shape == FAULT_SHAPE_NO_CONTENT) {
        put_text(&out, streamed ? "data: " : "");
        put_printf(
            &out,
            "{\"id\":\"empty\",\"object\":\"chat.completion%s\",\"created\":1,\"model\":\"empty\",\"choices\":[%s]"
            "}",
            streamed ? ".chunk" : "",
            r->fault->shape == FAULT_SHAPE_NO_CHOICES ? ""
            : streamed
                ? "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":\"stop\"}"
                : "{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":"
                  "\"stop\"}");
        put_text(&out, streamed ? "\n\ndata: [DONE]\n\n" : "");
    }
    pd_err err = out.err != PD_OK ? out.err
                                  : play_add_header(r, SPAN_LIT("content-type"),
                                                    r->fault->content_type.p ? r->fault->content_type : type);
    if (err == PD_OK)
        err = play_begin(r, streamed ? -1 : (int64_t)buf_size(&r->body));
    return err == PD_OK ? wire_write(&r->wire, buf_span(&r->body)) : err;
}

void strike_counted(struct play *r)
{
    r->provider->struck++;
    fault_struck(r->faults, r->fault_row);
}

bool strike_before(struct play *r)
{
    pd_err err = PD_OK;
    struct provider *p = r->provider;
    if (fault_kinds[r->fault->kind].where == FAULT_ACTS_BEFORE || waits_before(r->fault))
        strike_counted(r);
    switch ((enum fault_kind)r->fault->kind) {
    case FAULT_STATUS:
        err = answer_error(r, 500);
        break;
    case FAULT_ERROR_IN_200:
        err = answer_error(r, 500);
        break;
    case FAULT_EMPTY:
        if (r->at.dialect != SIM_CHAT && !r->fixed && r->fault->shape > FAULT_SHAPE_BODY) {
            say_nothing(r);
            return false;
        }
        err = answer_empty(r);
        break;
    case FAULT_SILENT:
        r->stage = PLAY_STALLED;
        r->resume = PLAY_STARTING;
        r->struck = true;
        r->comment_every_us = 0;
        p->stalls++;
        r->until_us = r->fault->for_us > 0 ? loop_now_us(p->sim->loop) + (uint64_t)r->fault->for_us : 0;
        if (r->until_us)
            play_wake(r, r->until_us);
        control_changed(p->sim);
        return true;
    case FAULT_REFUSE: {
        int64_t for_us = r->fault->for_us;
        wire_reset(&r->wire);
        play_over(r, OUTCOME_FAULTED);
        provider_shut(p, true, for_us);
        return true;
    }
    case FAULT_RESET:
        if (!waits_before(r->fault))
            return false;
        wire_reset(&r->wire);
        play_over(r, OUTCOME_FAULTED);
        return true;
    case FAULT_HOLD:
        if (!waits_before(r->fault))
            return false;
        r->struck = true;
        r->stage = PLAY_HELD;
        r->resume = PLAY_STARTING;
        p->held++;
        r->until_us = r->fault->for_us > 0 ? loop_now_us(p->sim->loop) + (uint64_t)r->fault->for_us : 0;
        if (r->until_us)
            play_wake(r, r->until_us);
        control_changed(p->sim);
        return true;
    case FAULT_NONE:
    case FAULT_SLOW:
    case FAULT_KEEPALIVE:
    case FAULT_SLOW_HEAD:
    case FAULT_INTERIM:
    case FAULT_WRONG_TYPE:
    case FAULT_CUT:
    case FAULT_EARLY_END:
    case FAULT_EARLY_DONE:
    case FAULT_FINISH:
    case FAULT_STALL:
    case FAULT_ERROR_IN_STREAM:
    case FAULT_MALFORMED:
    case FAULT_HUGE:
    case FAULT_BAD_CHUNK:
    case FAULT_UNFIT:
    case FAULT_SHORT_LENGTH:
    case FAULT_UNTIL_CLOSE:
    case FAULT_CLOSE_IDLE:
    case FAULT_KIND_COUNT:
        return false;
    }
    if (err != PD_OK) {
        play_fail(r);
        return true;
    }
    wire_end(&r->wire);
    play_over(r, OUTCOME_FAULTED);
    return true;
}

/* ---- along the answer ----------------------------------------------------- */

/* {"KEY":{"unfit":true}} for the first member of some arguments. */
static pd_err wrong_type(struct span arguments, struct arena *mem, struct span *ret)
{
    struct json v;
    struct json_walk w;
    struct span key = SPAN_LIT("unfit");
    if (json_first(arguments, &v, NULL) == PD_OK && v.type == JSON_OBJECT) {
        json_walk_init(&w, v);
        (void)json_walk_next(&w, &key, &v);
    }
    *ret = span_str(arena_printf(mem, "{\"%.*s\":{\"unfit\":true}}", SPAN_FMT(key)));
    return ret->p ? PD_OK : PD_NOMEM;
}

/* Broken JSON cannot stand where arguments are no text: there it is an object without its members. */
static pd_err make_unfit(struct play *r)
{
    struct answer_call *c = &r->answer.calls[0];
    bool text = r->at.dialect == SIM_CHAT || r->at.dialect == SIM_RESPONSES ||
                (r->in.streamed && !r->dialect->calls_whole);
    if (!r->answer.calls_count)
        return PD_OK;
    if (r->fault->shape == FAULT_SHAPE_NAME) {
        c->name = span_str(arena_printf(&r->mem, "%.*s_x", SPAN_FMT(c->name)));
        return c->name.p ? PD_OK : PD_NOMEM;
    }
    if (r->fault->shape == FAULT_SHAPE_TYPE)
        return wrong_type(c->arguments, &r->mem, &c->arguments);
    if (r->fault->shape == FAULT_SHAPE_TRUNCATED && text)
        c->arguments = span_upto(c->arguments, utf8_whole(span_upto(c->arguments, c->arguments.n / 2)));
    else
        c->arguments = SPAN_LIT("{}");
    return PD_OK;
}

pd_err strike_prepare(struct play *r)
{
    const struct fault *f = r->fault;
    int64_t count = f->count > 0 ? f->count : 1;
    pd_err err = PD_OK;
    bool calls = f->kind != FAULT_UNFIT || r->answer.calls_count;
    if (fault_kinds[f->kind].where == FAULT_ACTS_ALL && calls)
        strike_counted(r);
    switch ((enum fault_kind)f->kind) {
    case FAULT_KEEPALIVE: {
        const struct span usual = SPAN_LIT("keep-alive");
        int64_t wait = f->for_us >= 0 ? f->for_us : 3000000;
        r->ttft_us += wait;
        r->comment = f->text.p ? f->text : usual;
        r->comment_every_us = f->every_us > 0 ? f->every_us : 500000;
        break;
    }
    case FAULT_INTERIM:
        for (int64_t i = 0; i < count && i < 1000 && err == PD_OK; i++)
            err = wire_interim(&r->wire, f->status >= 0 ? (int)f->status : 103);
        reply_flush(r->wire.rq);
        break;
    case FAULT_SLOW_HEAD:
    case FAULT_BAD_CHUNK:
        r->wire.form = WIRE_RAW;
        break;
    case FAULT_SHORT_LENGTH:
        r->wire.form = WIRE_SHORT;
        r->wire.missing = f->bytes >= 0 ? (uint64_t)f->bytes : 100;
        break;
    case FAULT_UNTIL_CLOSE:
        r->wire.form = WIRE_UNTIL_CLOSE;
        break;
    case FAULT_CLOSE_IDLE:
        r->wire.form = WIRE_KEEP_THEN_CLOSE;
        break;
    case FAULT_UNFIT:
        err = make_unfit(r);
        break;
    case FAULT_FINISH:
        r->answer.finish = f->reason.p ? arena_strndup(&r->mem, f->reason.p, f->reason.n) : "length";
        err = r->answer.finish ? PD_OK : PD_NOMEM;
        r->struck = !r->in.streamed;
        if (r->struck)
            strike_counted(r);
        if (r->struck && r->after < r->answer.completion_tokens)
            r->answer.completion_tokens = r->after;
        if (!r->in.streamed)
            for (unsigned i = 0; i < r->answer.choices; i++)
                r->answer.texts[i] =
                    span_upto(r->answer.texts[i], frame_pieces_size(r->answer.texts[i], r->after));
        break;
    case FAULT_HUGE:
        r->struck = !r->in.streamed;
        if (!r->in.streamed) {
            strike_counted(r);
            size_t n = f->bytes >= 0 ? (size_t)f->bytes : 1000000;
            char *text = arena_alloc(&r->mem, n + 1);
            if (!text)
                return PD_NOMEM;
            memset(text, 'x', n);
            r->answer.texts[0] = span_of(text, n);
        }
        break;
    case FAULT_NONE:
    case FAULT_STATUS:
    case FAULT_ERROR_IN_200:
    case FAULT_SILENT:
    case FAULT_HOLD:
    case FAULT_RESET:
    case FAULT_REFUSE:
    case FAULT_EMPTY:
    case FAULT_SLOW:
    case FAULT_WRONG_TYPE:
    case FAULT_CUT:
    case FAULT_EARLY_END:
    case FAULT_EARLY_DONE:
    case FAULT_STALL:
    case FAULT_ERROR_IN_STREAM:
    case FAULT_MALFORMED:
    case FAULT_KIND_COUNT:
        break;
    }
    return err;
}

pd_err strike_body(struct play *r)
{
    size_t n = buf_size(&r->body);
    uint64_t tokens = r->answer.completion_tokens;
    unsigned kind = r->fault->kind;
    if (kind != FAULT_EARLY_END && kind != FAULT_EARLY_DONE && kind != FAULT_MALFORMED)
        return PD_OK;
    struct put out = put_into(&r->body);
    r->struck = r->spoiled = true;
    strike_counted(r);
    if (kind != FAULT_MALFORMED || r->fault->shape == FAULT_SHAPE_TRUNCATED) {
        size_t part = tokens > r->after ? n * r->after / tokens : n / 2;
        r->body.tail = r->body.head + (r->fault->at || r->fault->after_bytes >= 0 ? strike_part(r) : part);
        return PD_OK;
    }
    buf_clear(&r->body);
    if (r->fault->body.p)
        put_span(&out, r->fault->body);
    else if (r->fault->shape == FAULT_SHAPE_HTML)
        return put_html(&out, 502);
    else if (r->fault->shape == FAULT_SHAPE_BINARY)
        put_span(&out, SPAN_LIT("\x00\x01\xff\xfe\x80"));
    else if (r->fault->shape == FAULT_SHAPE_TEXT)
        put_text(&out, "upstream connect error or disconnect/reset before headers");
    else
        put_text(&out, "{\"id\":\"x\",\"object\":\"chat.completion\",\"choices\":[{\"message\":{]}");
    return out.err;
}

/* ---- where ------------------------------------------------------------------ */

static unsigned call_meant(const struct fault *f)
{
    return f->call > 0 ? (unsigned)f->call - 1 : f->at == FAULT_AT_CALLS ? 1 : 0;
}

/* The calls of these are told in one piece: what is within them is within a frame. */
static bool calls_are_whole(const struct play *r)
{
    return r->dialect->calls_whole || (r->at.dialect == SIM_CHAT && r->provider->conf->style->call_whole);
}

bool strike_due(struct play *r)
{
    const struct fault *f = r->fault;
    struct stream_place p = stream_place(&r->stream);
    bool enough = r->stream.tokens >= r->after;
    if (f->after_bytes >= 0)
        return r->sent >= (uint64_t)f->after_bytes;
    switch ((enum fault_at)f->at) {
    case FAULT_AT_ANY:
        return enough || stream_said(&r->stream);
    case FAULT_AT_REASONING:
        return p.where == WHERE_REASONING && enough;
    case FAULT_AT_TEXT:
        return p.where == WHERE_TEXT && enough;
    case FAULT_AT_ARGUMENTS:
        return p.where == WHERE_CALL && p.call == call_meant(f) && p.at && p.at < p.size && p.at * 2 >= p.size;
    case FAULT_AT_CALLS:
        return p.where == WHERE_BETWEEN_CALLS && p.call == call_meant(f);
    case FAULT_AT_FINISH:
        return p.where == WHERE_FINISHED;
    case FAULT_AT_CHARACTER:
    case FAULT_AT_ID:
    case FAULT_AT_NAME:
        break;
    }
    return false;
}

/* The middle of `what`, where it stands between quotes; SIZE_MAX: it does not. */
static size_t middle_of(struct span in, struct span what)
{
    const char *at = in.p, *end = in.p + in.n;
    while (what.n > 1 && (at = memmem(at, (size_t)(end - at), what.p, what.n)) != NULL) {
        if (at > in.p && at[-1] == '"' && at + what.n < end && at[what.n] == '"')
            return (size_t)(at - in.p) + what.n / 2;
        at++;
    }
    return SIZE_MAX;
}

/* Some bytes into the first character that has more of them; SIZE_MAX: there is none. */
static size_t inside_character(struct span in, size_t bytes)
{
    const char *first = in.n ? memchr(in.p, '{', in.n) : NULL, *last = first ? memrchr(in.p, '}', in.n) : NULL;
    if (!last)
        return SIZE_MAX;
    in.n = (size_t)(last - in.p);
    for (size_t i = (size_t)(first - in.p); i < in.n; i++) { /* of the JSON: frames may be binary */
        size_t n = (unsigned char)in.p[i] < 0x80 ? 1 : utf8_next(span_from(in, i));
        if (n > bytes)
            return i + bytes;
        i += n > 1 ? n - 1 : 0;
    }
    return SIZE_MAX;
}

/* Where the fault strikes within these bytes; SIZE_MAX: not there. */
static size_t place_within(const struct play *r, struct span in)
{
    const struct fault *f = r->fault;
    unsigned call = call_meant(f);
    if (f->at == FAULT_AT_CHARACTER)
        return inside_character(in, f->bytes > 0 ? (size_t)f->bytes : 1);
    if (call >= r->answer.calls_count)
        return SIZE_MAX;
    const struct answer_call *c = &r->answer.calls[call];
    if (f->at == FAULT_AT_ID && c->id.n)
        return middle_of(in, c->id);
    size_t name = middle_of(in, c->name);
    if (f->at == FAULT_AT_NAME || f->at == FAULT_AT_ID) /* a dialect without ids */
        return name;
    return f->at == FAULT_AT_ARGUMENTS && name < in.n ? name + (in.n - name) / 2 : SIZE_MAX;
}

size_t strike_within(struct play *r, struct span frame)
{
    const struct fault *f = r->fault;
    if (f->after_bytes >= 0)
        return r->sent + frame.n > (uint64_t)f->after_bytes ? (size_t)((uint64_t)f->after_bytes - r->sent)
                                                            : frame.n;
    bool looks = f->at == FAULT_AT_ID || f->at == FAULT_AT_NAME ||
                 (f->at == FAULT_AT_CHARACTER && r->stream.tokens >= r->after) ||
                 (f->at == FAULT_AT_ARGUMENTS && calls_are_whole(r));
    size_t at =
        looks && r->stream.tokens ? place_within(r, frame) : SIZE_MAX; /* the first events may list the tools */
    return at < frame.n ? at : frame.n;
}

/* A body that is there at once has no tokens: it goes as far as they would have come. */
size_t strike_part(struct play *r)
{
    const struct fault *f = r->fault;
    size_t n = buf_size(&r->body), part = n;
    uint64_t tokens = r->answer.completion_tokens;
    if (f->after_bytes >= 0)
        part = (size_t)f->after_bytes;
    else if (f->at == FAULT_AT_FINISH)
        part = n;
    else if (f->at > FAULT_AT_TEXT)
        part = place_within(r, buf_span(&r->body));
    else if (tokens > r->after)
        part = n * r->after / tokens;
    if (part == SIZE_MAX)
        part = n / 2;
    return part >= n ? n - (n > 0) : part;
}

/* ---- inside the answer ---------------------------------------------------- */

static pd_err stream_error(struct play *r)
{
    struct style_fault e = error_of(r->dialect, r->fault, 500);
    e.request_id = r->request_id;
    struct put out = put_into(&r->provider->sim->frame);
    buf_clear(&r->provider->sim->frame);
    r->stream.out = &out;
    r->dialect->stream_error(&r->stream, &e, r->fault->shape);
    return play_write(r, out.err);
}

/* A frame of this dialect with something in it that is none of its events. */
static void put_bad_frame(struct play *r, struct put *out, const char *json)
{
    r->stream.out = out;
    r->dialect->frame(&r->stream, span_str(r->dialect->delta_type), span_str(json));
}

static void put_malformed(struct play *r, struct put *out)
{
    static const char binary[] = "data: \x00\x01\xff\xfe\x80\x1b[0m\n\n";
    switch ((enum fault_shape)r->fault->shape) {
    case FAULT_SHAPE_TRUNCATED:
        put_bad_frame(r, out,
                      "{\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"del");
        return;
    case FAULT_SHAPE_HTML:
        put_text(out, "<html><body><h1>502 Bad Gateway</h1></body></html>\n\n");
        return;
    case FAULT_SHAPE_BINARY:
        put_span(out, span_of(binary, sizeof(binary) - 1));
        return;
    case FAULT_SHAPE_TEXT:
        put_bad_frame(r, out, "upstream connect error or disconnect/reset before headers");
        return;
    case FAULT_SHAPE_FIELD:
        put_text(out, "dat: {\"x\":1}\nnonsense\nretry: soon\n\n");
        return;
    case FAULT_SHAPE_CRC: /* where frames have one: its last byte is wrong */
        put_bad_frame(r, out, "{\"contentBlockIndex\":0,\"delta\":{\"text\":\"x\"}}");
        if (out->err == PD_OK && buf_size(out->b))
            out->b->p[out->b->tail - 1] ^= 1;
        return;
    case FAULT_SHAPE_DEFAULT:
    case FAULT_SHAPE_JSON:
    case FAULT_SHAPE_BODY:
    case FAULT_SHAPE_NO_CHOICES:
    case FAULT_SHAPE_NO_CONTENT:
    case FAULT_SHAPE_SIZE:
    case FAULT_SHAPE_LINE:
    case FAULT_SHAPE_OVERFLOW:
    case FAULT_SHAPE_NOTHING:
    case FAULT_SHAPE_COMMENTS:
    case FAULT_SHAPE_PINGS:
    case FAULT_SHAPE_BLANK:
    case FAULT_SHAPE_MISSING:
    case FAULT_SHAPE_TYPE:
    case FAULT_SHAPE_NAME:
    case FAULT_SHAPE_ERROR:
        break;
    }
    put_bad_frame(r, out, "{\"id\":\"x\",\"choices\":[{\"delta\":{]}");
}

static pd_err malformed(struct play *r)
{
    struct buf *frame = &r->provider->sim->frame;
    int64_t count = r->fault->count > 0 ? r->fault->count : 1;
    pd_err err = PD_OK;
    for (int64_t i = 0; i < count && i < 10000 && err == PD_OK; i++) {
        buf_clear(frame);
        struct put out = put_into(frame);
        if (r->fault->body.p)
            put_span(&out, r->fault->body);
        else
            put_malformed(r, &out);
        err = play_write(r, out.err);
    }
    return err;
}

static pd_err huge(struct play *r)
{
    size_t n = r->fault->bytes >= 0 ? (size_t)r->fault->bytes : 1000000;
    char *text = arena_alloc(&r->mem, n + 1);
    if (!text)
        return PD_NOMEM;
    memset(text, 'x', n);
    buf_clear(&r->provider->sim->frame);
    struct put out = put_into(&r->provider->sim->frame);
    r->stream.out = &out;
    r->dialect->token(&r->stream, span_of(text, n));
    return play_write(r, out.err);
}

static struct span bad_chunk(const struct play *r)
{
    if (r->fault->shape == FAULT_SHAPE_LINE)
        return SPAN_LIT("5\r\nhelloXX"); /* no line end after the data */
    if (r->fault->shape == FAULT_SHAPE_OVERFLOW)
        return SPAN_LIT("ffffffffffffffffff\r\nhello\r\n");
    return SPAN_LIT("zz\r\nhello\r\n");
}

static bool go_silent(struct play *r)
{
    struct provider *p = r->provider;
    uint64_t now = loop_now_us(p->sim->loop);
    wire_flush(&r->wire);
    r->stage = PLAY_STALLED;
    r->resume = PLAY_TALKING;
    r->until_us = r->fault->for_us > 0 ? now + (uint64_t)r->fault->for_us : 0;
    bool talks = r->in.streamed && r->fault->shape >= FAULT_SHAPE_COMMENTS && r->fault->shape <= FAULT_SHAPE_BLANK;
    r->comment_every_us = talks ? r->fault->every_us > 0 ? r->fault->every_us : 1000000 : 0;
    r->comment_us = now + (uint64_t)r->comment_every_us;
    p->stalls++;
    if (talks || r->until_us)
        play_wake(r, talks && (!r->until_us || r->comment_us < r->until_us) ? r->comment_us : r->until_us);
    control_changed(p->sim);
    return true;
}

bool strike_inside(struct play *r)
{
    struct provider *p = r->provider;
    pd_err err = PD_OK;
    r->struck = true;
    strike_counted(r);
    switch ((enum fault_kind)r->fault->kind) {
    case FAULT_CUT:
        wire_cut(&r->wire);
        play_over(r, OUTCOME_FAULTED);
        return true;
    case FAULT_EARLY_END:
        play_ended(r, OUTCOME_FAULTED);
        return true;
    case FAULT_EARLY_DONE:
        if (r->in.streamed) {
            buf_clear(&p->sim->frame);
            struct put out = put_into(&p->sim->frame);
            stream_end_early(&r->stream, &out);
            err = play_write(r, out.err);
        }
        break;
    case FAULT_RESET:
        wire_flush(&r->wire);
        r->stage = PLAY_RESETTING;
        play_wake(r, loop_now_us(p->sim->loop) + SIM_RESET_MS * 1000);
        return true;
    case FAULT_STALL:
        return go_silent(r);
    case FAULT_HOLD:
        wire_flush(&r->wire);
        r->stage = PLAY_HELD;
        r->resume = PLAY_TALKING;
        p->held++;
        r->until_us = r->fault->for_us > 0 ? loop_now_us(p->sim->loop) + (uint64_t)r->fault->for_us : 0;
        if (r->until_us)
            play_wake(r, r->until_us);
        control_changed(p->sim);
        return true;
    case FAULT_ERROR_IN_STREAM:
        err = stream_error(r);
        break;
    case FAULT_BAD_CHUNK:
        err = wire_raw(&r->wire, bad_chunk(r));
        if (err != PD_OK)
            break;
        wire_cut(&r->wire);
        play_over(r, OUTCOME_FAULTED);
        return true;
    case FAULT_FINISH:
        stream_finish(&r->stream, r->answer.finish);
        return false;
    case FAULT_MALFORMED:
        err = malformed(r);
        if (err == PD_OK)
            return false;
        break;
    case FAULT_HUGE:
        err = huge(r);
        if (err == PD_OK)
            return false;
        break;
    case FAULT_NONE:
    case FAULT_STATUS:
    case FAULT_ERROR_IN_200:
    case FAULT_SILENT:
    case FAULT_REFUSE:
    case FAULT_EMPTY:
    case FAULT_SLOW:
    case FAULT_KEEPALIVE:
    case FAULT_SLOW_HEAD:
    case FAULT_INTERIM:
    case FAULT_WRONG_TYPE:
    case FAULT_UNFIT:
    case FAULT_SHORT_LENGTH:
    case FAULT_UNTIL_CLOSE:
    case FAULT_CLOSE_IDLE:
    case FAULT_KIND_COUNT:
        return false;
    }
    if (err != PD_OK) {
        play_fail(r);
        return true;
    }
    play_ended(r, OUTCOME_FAULTED);
    return true;
}
