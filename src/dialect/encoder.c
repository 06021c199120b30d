/* The encoders' driver: deltas into blocks, one open at a time in each choice. */
#include "dialect/encoder_priv.h"
#include "dialect/shown.h"

#include "base/mem.h"

#include <assert.h>

struct encoder *encoder_new(const struct codec *to, const struct encode_want *want, size_t limit_bytes)
{
    assert(to->encoder);
    struct encoder *en = mem_zalloc(sizeof(*en));
    if (!en)
        return NULL;
    en->to = to;
    en->ops = to->encoder;
    en->want = *want;
    en->limit_bytes = limit_bytes;
    arena_init(&en->arena, 1024, limit_bytes);
    buf_init(&en->out, limit_bytes);
    buf_init(&en->logprobs, limit_bytes);
    en->put = put_into(&en->out);
    return en;
}

struct encoder *encoder_free(struct encoder *en)
{
    if (!en)
        return NULL;
    for (struct block *b = en->first; b; b = b->next)
        buf_done(&b->text);
    buf_done(&en->out);
    buf_done(&en->logprobs);
    arena_done(&en->arena);
    mem_free(en);
    return NULL;
}

static void failed(struct encoder *en, pd_err e)
{
    if (!en->err)
        en->err = e;
}

void encoder_drop(struct encoder *en, const char *name)
{
    enum { MOST = sizeof(en->dropped) / sizeof(en->dropped[0]) - 1 };
    for (unsigned i = 0; i < en->dropped_count; i++)
        if (strcmp(en->dropped[i], name) == 0)
            return;
    if (en->dropped_count < MOST)
        en->dropped[en->dropped_count++] = name;
}

/* The literal for it: a delta that was kept and is told again has a copy, without an end, which may be gone when the names are asked for. */
static const char *hosted_name(struct span name)
{
    static const char *const names[] = {"code_execution", "media"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (span_is(name, names[i]))
            return names[i];
    return "hosted_tools";
}

const char *const *encoder_dropped(const struct encoder *en)
{
    return en->dropped; /* one place is always left NULL */
}

uint64_t encoder_sequence(const struct encoder *en)
{
    return en->sequence;
}

uint64_t encoder_count(int64_t n)
{
    return n > 0 ? (uint64_t)n : 0;
}

enum msg_finish encoder_finish(const struct answer_facts *f, int choice)
{
    if (choice == 0)
        return f->finish;
    bool known = choice < ANSWER_CHOICES && f->finishes[choice] != MSG_FINISH_NONE;
    return known ? (enum msg_finish)f->finishes[choice] : MSG_FINISH_STOP;
}

/* ---- arguments ------------------------------------------------------------------ */

/* A tool's arguments with their escapes undone; *ret_object: they are one JSON object. */
static pd_err plain_arguments(struct arena *a, struct span escaped, struct span *ret, bool *ret_object)
{
    *ret = escaped;
    if (memchr(escaped.p, '\\', escaped.n)) {
        struct buf quoted;
        buf_init(&quoted, 0);
        pd_err e = buf_puts(&quoted, "\"");
        if (!e)
            e = buf_add(&quoted, escaped);
        if (!e)
            e = buf_puts(&quoted, "\"");
        struct span text = SPAN_NONE;
        if (!e)
            e = json_text((struct json){JSON_STRING, buf_span(&quoted)}, a, &text);
        if (!e) {
            *ret = arena_span(a, text);
            e = ret->p || !text.n ? PD_OK : PD_NOMEM;
        }
        buf_done(&quoted);
        if (e == PD_NOMEM || e == PD_TOOBIG)
            return e;
        if (e) {
            *ret_object = false;
            return PD_OK;
        }
    }
    struct span trimmed = span_trim(*ret);
    *ret_object = trimmed.n && trimmed.p[0] == '{' && json_check(trimmed) == PD_OK;
    return PD_OK;
}

void encoder_put_arguments(struct put *p, struct encoder *en, struct span escaped)
{
    struct span plain;
    bool object;
    if (span_trim(escaped).n == 0) {
        put_text(p, "{}");
        return;
    }
    struct arena a;
    arena_init(&a, 0, 0);
    pd_err e = plain_arguments(&a, escaped, &plain, &object);
    if (e) {
        failed(en, e);
    } else if (object) {
        put_one_line(p, span_trim(plain));
    } else {
        put_text(p, "{\"input\":\"");
        put_span(p, escaped);
        put_text(p, "\"}");
    }
    arena_done(&a);
}

/* ---- blocks --------------------------------------------------------------------- */

static struct span kept(struct encoder *en, struct span s)
{
    struct span copy = s.n ? arena_span(&en->arena, s) : SPAN_LIT("");
    if (s.n && !copy.p)
        failed(en, PD_NOMEM);
    return s.n && !copy.p ? SPAN_LIT("") : copy;
}

static struct block *last_of(const struct encoder *en, int choice)
{
    struct block *found = NULL;
    if (en->last && en->last->choice == choice)
        return en->last;
    for (struct block *b = en->first; b; b = b->next)
        if (b->choice == choice)
            found = b;
    return found;
}

static bool is_tool(const struct block *b, int choice, int tool)
{
    return b->kind == BLOCK_TOOL && b->choice == choice && b->tool == tool;
}

/* The block that has that place on the wire. */
static struct block *block_at(const struct encoder *en, int place)
{
    struct block *found = NULL;
    if (!place || (en->last && en->last->place == place))
        return place ? en->last : NULL;
    for (struct block *b = en->first; b; b = b->next)
        if (b->place == place)
            found = b;
    return found;
}

static struct block *tool_of(struct encoder *en, int choice, int tool)
{
    if (en->tool && is_tool(en->tool, choice, tool))
        return en->tool;
    for (struct block *b = en->first; b; b = b->next)
        if (is_tool(b, choice, tool))
            return en->tool = b;
    return NULL;
}

static bool keeps_text(const struct encoder *en, const struct block *b)
{
    return !en->want.stream || en->ops->gathers || b->kind == BLOCK_TOOL || b->kind == BLOCK_SEALED ||
           b->kind == BLOCK_MEDIA || b->kind == BLOCK_REASONING || !b->opened;
}

static void gather(struct encoder *en, struct block *b, struct span piece)
{
    en->gathered_bytes += piece.n;
    if (en->gathered_bytes > en->limit_bytes) {
        failed(en, PD_TOOBIG);
        return;
    }
    pd_err e = buf_add(&b->text, piece);
    if (e)
        failed(en, e);
}

static void open_block(struct encoder *en, struct block *b)
{
    b->opened = true;
    if (en->ops->open)
        en->ops->open(en, b);
    bool streams = b->kind != BLOCK_SEALED && b->kind != BLOCK_MEDIA;
    if (streams && buf_size(&b->text) && en->ops->add)
        en->ops->add(en, b, buf_span(&b->text)); /* what had to wait */
}

static void close_block(struct encoder *en, struct block *b)
{
    if (b->kind == BLOCK_TOOL && buf_size(&b->text) == 0) {
        gather(en, b, SPAN_LIT("{}"));
        b->complete = true;
        if (en->ops->add && en->want.stream)
            en->ops->add(en, b, SPAN_LIT("{}"));
    }
    if (en->want.stream && en->ops->close)
        en->ops->close(en, b);
    b->closed = true;
    /* Reasoning is kept: its maker may want it back with a call (keep.h). */
    if (en->want.stream && !en->ops->gathers && b->kind != BLOCK_REASONING && b->kind != BLOCK_SEALED) {
        en->gathered_bytes -= buf_size(&b->text);
        buf_done(&b->text);
    }
}

/* May the format be told that nothing more comes for it? A tool's arguments may come in turn with those of another: only a whole
 * value is their end. */
static bool may_close(struct encoder *en, struct block *b)
{
    struct span plain;
    if (b->kind != BLOCK_TOOL || b->complete)
        return true;
    if (buf_size(&b->text) == 0 || en->looked_bytes > en->limit_bytes)
        return false;
    struct arena a;
    arena_init(&a, 0, 0);
    en->looked_bytes += buf_size(&b->text);
    pd_err e = plain_arguments(&a, buf_span(&b->text), &plain, &b->complete);
    if (e)
        failed(en, e);
    arena_done(&a);
    return b->complete;
}

/* Closes what is over and opens what comes next. `all`: the answer is over. */
static void advance(struct encoder *en, int choice, bool all)
{
    struct block *last = last_of(en, choice);
    while (en->unclosed && en->unclosed->closed)
        en->unclosed = en->unclosed->next;
    for (struct block *b = en->unclosed; b && !en->err; b = b->next) {
        if (b->choice != choice || b->closed)
            continue;
        if (!b->opened && en->want.stream)
            open_block(en, b);
        if (!all && b == last)
            return;
        if (!may_close(en, b) && !all) /* also at the end: whether the arguments are whole is told */
            return;
        close_block(en, b);
    }
}

static struct block *add_block(struct encoder *en, enum block_kind kind, int choice)
{
    bool full = en->block_count == ENCODER_BLOCKS_MAX;
    struct block *before = last_of(en, choice), *b = full ? NULL : arena_zalloc(&en->arena, sizeof(*b));
    if (!b) {
        failed(en, full ? PD_TOOBIG : PD_NOMEM);
        return NULL;
    }
    b->kind = kind;
    b->choice = choice;
    b->tool = -1;
    b->shown = en->replaying;
    b->index = before ? before->index + 1 : 0;
    buf_init(&b->text, en->limit_bytes);
    if (en->last)
        en->last->next = b;
    else
        en->first = b;
    en->last = b;
    if (!en->unclosed)
        en->unclosed = b;
    en->block_count++;
    return b;
}

static void add_text(struct encoder *en, struct block *b, struct span piece)
{
    if (keeps_text(en, b))
        gather(en, b, piece);
    if (!en->err && en->want.stream && b->opened && en->ops->add)
        en->ops->add(en, b, piece);
}

/* Where a text begins on the wire. */
static void place_block(struct encoder *en, struct block *b, const struct msg_delta *d)
{
    if (!en->replaying || !b)
        return;
    b->place = d->place;
    b->item = kept(en, d->item);
}

/* Can the text that is told go on in this block? */
static bool takes_text(const struct encoder *en, const struct block *b, enum block_kind kind,
                       const struct msg_delta *d)
{
    if (!b || b->kind != kind || b->closed || (kind == BLOCK_REASONING && b->signature.n))
        return false;
    return en->replaying ? b->place == d->place : b->step < MSG_STEP_TEXT_DONE;
}

static void take_text(struct encoder *en, enum block_kind kind, const struct msg_delta *d)
{
    struct block *b = en->replaying && d->place ? block_at(en, d->place) : last_of(en, d->choice);
    if (!takes_text(en, b, kind, d)) {
        b = add_block(en, kind, d->choice);
        place_block(en, b, d);
        if (!b)
            return;
        advance(en, d->choice, false);
    }
    if (en->replaying && b->step == MSG_STEP_OPENED) /* of a server that does not say that a part begins */
        b->step = MSG_STEP_PART;
    add_text(en, b, d->text);
}

/* ---- tools ---------------------------------------------------------------------- */

/* What the client calls the tool: its name may have been made to fit the target. */
static struct span client_name(const struct encoder *en, struct span name)
{
    for (const struct msg_tool *t = en->want.asked ? en->want.asked->tools : NULL; t; t = t->next)
        if (t->client_name.n && span_eq(t->name, name))
            return t->client_name;
    return name;
}

/* Some providers number their calls from the beginning in each answer: behind another's calls such an id is no name any more. */
static bool is_used(const struct encoder *en, const struct block *by, struct span id)
{
    for (const struct block *b = en->first; b; b = b->next)
        if (b != by && b->kind == BLOCK_TOOL && b->choice == by->choice &&
            (span_eq(b->id, id) || span_eq(b->given_id, id)))
            return true;
    return false;
}

static void start_tool(struct encoder *en, const struct msg_delta *d)
{
    struct block *b = add_block(en, BLOCK_TOOL, d->choice);
    if (!b)
        return;
    b->tool = d->tool + en->tool_base;
    place_block(en, b, d);
    b->space = kept(en, en->replaying ? d->type : SPAN_NONE);
    b->name = kept(en, en->replaying ? d->text : client_name(en, d->text));
    b->legacy_function = d->legacy_function;
    if (d->id.n && !(en->tool_base && is_used(en, b, d->id))) {
        b->id = b->given_id = kept(en, d->id);
    } else {
        char *id = arena_printf(&en->arena, MSG_MADE_ID "%.*s_%u", SPAN_FMT(en->want.id), en->block_count);
        if (!id)
            failed(en, PD_NOMEM);
        b->id = id ? span_str(id) : SPAN_LIT("");
    }
    advance(en, d->choice, false);
}

static bool only_space(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != ' ' && s.p[i] != '\n' && s.p[i] != '\t' && s.p[i] != '\r')
            return false;
    return true;
}

static void add_arguments(struct encoder *en, const struct msg_delta *d)
{
    struct block *b = tool_of(en, d->choice, d->tool + en->tool_base);
    if (!b || d->text.n == 0)
        return;
    if (b->closed) {
        if (!only_space(d->text) && !en->replaying)
            failed(en, PD_SYNTAX); /* more behind a whole value */
        return;
    }
    b->complete = false;
    add_text(en, b, d->text);
}

/* ---- what belongs to a block ------------------------------------------------------ */

static void sign(struct encoder *en, const struct msg_delta *d)
{
    struct block *b = d->tool >= 0                ? tool_of(en, d->choice, d->tool + en->tool_base)
                      : en->replaying && d->place ? block_at(en, d->place)
                                                  : last_of(en, d->choice);
    bool on_text = b && b->kind == BLOCK_TEXT && d->maker == MSG_MAKER_GEMINI;
    bool on_reasoning = b && b->kind == BLOCK_REASONING && !b->signature.n;
    if (d->tool < 0 && !on_text && !on_reasoning) { /* reasoning of which nothing but the signature is shown */
        b = add_block(en, BLOCK_REASONING, d->choice);
        place_block(en, b, d);
        if (b)
            advance(en, d->choice, false);
    }
    if (!b)
        return;
    b->signature = kept(en, d->text);
    b->maker = d->maker;
}

/* Of a block whose beginning was shown: what it holds. */
static bool fill_shown(struct encoder *en, enum block_kind kind, const struct msg_delta *d)
{
    struct block *b = en->replaying ? block_at(en, d->place) : NULL;
    if (b && b->kind == BLOCK_REASONING && kind == BLOCK_SEALED) {
        b->sealed = kept(en, d->text);
        return true;
    }
    if (!b || b->kind != BLOCK_HOSTED)
        return false;
    b->kind = kind;
    b->name = kept(en, d->type);
    b->maker = d->maker;
    gather(en, b, d->text);
    return true;
}

static void take_whole(struct encoder *en, enum block_kind kind, const struct msg_delta *d)
{
    if (fill_shown(en, kind, d))
        return;
    struct block *b = add_block(en, kind, d->choice);
    place_block(en, b, d);
    if (!b)
        return;
    b->id = kept(en, d->id);
    b->name = kept(en, d->type);
    b->maker = d->maker;
    gather(en, b, d->text);
    advance(en, d->choice, false);
}

static void cite(struct encoder *en, const struct msg_delta *d)
{
    struct block *b = en->replaying && d->place ? block_at(en, d->place) : last_of(en, d->choice);
    if (en->replaying && d->place && !b) { /* a block of citations alone */
        b = add_block(en, BLOCK_TEXT, d->choice);
        place_block(en, b, d);
        if (b)
            advance(en, d->choice, false);
    }
    struct block_citation *c = b && b->kind == BLOCK_TEXT ? arena_zalloc(&en->arena, sizeof(*c)) : NULL;
    if (!c) {
        if (b && b->kind == BLOCK_TEXT)
            failed(en, PD_NOMEM);
        else
            encoder_drop(en, "citations");
        return;
    }
    c->url = kept(en, d->text);
    c->title = kept(en, d->id);
    c->cited = kept(en, d->type);
    if (b->last_citation)
        b->last_citation->next = c;
    else
        b->citations = c;
    b->last_citation = c;
}

static void take_logprobs(struct encoder *en, const struct msg_delta *d)
{
    struct span items = span_trim(d->text);
    if (d->choice != 0 || items.n < 2)
        return;
    items = span_trim(span_of(items.p + 1, items.n - 2)); /* without the brackets */
    struct put p = put_into(&en->logprobs);
    put_text(&p, items.n && buf_size(&en->logprobs) ? "," : "");
    put_one_line(&p, items);
    if (p.err)
        failed(en, p.err);
}

void encoder_delta(void *ctx, const struct msg_delta *d)
{
    struct encoder *en = ctx;
    if (en->err || en->ended || d->kind == MSG_STEP)
        return;
    if (d->choice != 0 && !en->ops->choices) {
        encoder_drop(en, "choices");
        return;
    }
    if (en->want.stream && !en->started) {
        en->started = true;
        if (en->ops->start)
            en->ops->start(en, NULL);
    }
    switch (d->kind) {
    case MSG_TEXT:
        take_text(en, BLOCK_TEXT, d);
        break;
    case MSG_REASONING:
        take_text(en, BLOCK_REASONING, d);
        break;
    case MSG_REFUSAL:
        take_text(en, BLOCK_REFUSAL, d);
        break;
    case MSG_TOOL_START:
        start_tool(en, d);
        break;
    case MSG_TOOL_ARGUMENTS:
        add_arguments(en, d);
        break;
    case MSG_SIGNATURE:
        sign(en, d);
        break;
    case MSG_SEALED:
        take_whole(en, BLOCK_SEALED, d);
        break;
    case MSG_MEDIA:
        take_whole(en, BLOCK_MEDIA, d);
        break;
    case MSG_CITATION:
        cite(en, d);
        break;
    case MSG_LOGPROBS:
        take_logprobs(en, d);
        break;
    case MSG_HOSTED:
        encoder_drop(en, hosted_name(d->text));
        break;
    case MSG_STEP:
        break;
    }
    if (en->put.err)
        failed(en, en->put.err);
}

/* ---- going on with what was shown --------------------------------------------------- */

const struct block_citation *encoder_citations(const struct block *b)
{
    return b->shown_citation ? b->shown_citation->next : b->citations;
}

struct block *encoder_open_block(const struct encoder *en)
{
    struct block *open = NULL;
    for (struct block *b = en->first; b; b = b->next)
        if (b->opened && !b->closed)
            open = b;
    return open;
}

void encoder_put_id(struct encoder *en, struct put *p, const char *prefix)
{
    if (en->known_id.n) {
        put_json_inner(p, en->known_id);
        return;
    }
    put_text(p, prefix);
    put_span(p, en->want.id);
}

void encoder_next_answer(struct encoder *en)
{
    for (const struct block *b = en->first; b; b = b->next) {
        int wire = en->ops->kind_of ? 0 : b->place; /* where blocks have no places, a call's is its own number */
        int behind = b->tool + 1 > wire ? b->tool + 1 : wire;
        if (b->kind == BLOCK_TOOL && behind > en->tool_base)
            en->tool_base = behind;
    }
}

/* The block of a step; where nothing was told of it yet it begins here. */
static struct block *step_block(struct encoder *en, const struct msg_delta *d)
{
    struct block *b = block_at(en, d->place);
    if (b || (d->step != MSG_STEP_OPENED && d->step != MSG_STEP_PART))
        return b;
    b = add_block(en, en->ops->kind_of(d->type), 0);
    place_block(en, b, d);
    if (b)
        advance(en, 0, false);
    return b;
}

/* Another part of its item: what follows is its text. */
static void add_part(struct encoder *en, struct block *b, const struct msg_delta *d)
{
    struct block_part *part = arena_zalloc(&en->arena, sizeof(*part));
    size_t size = buf_size(&b->text);
    if (!part) {
        failed(en, PD_NOMEM);
        return;
    }
    if (!size && !b->part_count && en->ops->kind_of(d->type) == BLOCK_REFUSAL)
        b->kind = BLOCK_REFUSAL;
    if (b->kind == BLOCK_REASONING)
        b->word = kept(en, d->type);
    if (b->last_part)
        b->last_part->end = size;
    part->at =
        size && b->kind == BLOCK_REASONING ? size + ENCODER_BREAK : size; /* an empty line is told between */
    part->end = SIZE_MAX;
    part->before = b->last_citation;
    if (b->last_part)
        b->last_part->next = part;
    else
        b->parts = part;
    b->last_part = part;
    b->part_count++;
}

static void take_step(struct encoder *en, const struct msg_delta *d)
{
    if (d->step == MSG_STEP_FINISHED)
        en->finished = true;
    struct block *b = en->ops->kind_of && d->place ? step_block(en, d) : NULL;
    if (!b || b->closed)
        return;
    b->step = d->step;
    if (d->step == MSG_STEP_OPENED) {
        b->word = kept(en, d->type);
        b->phase = kept(en, d->id);
    } else if (d->step == MSG_STEP_PART) {
        add_part(en, b, d);
    } else if (d->step == MSG_STEP_CLOSED) {
        if (!b->opened)
            open_block(en, b);
        if (b->kind == BLOCK_HOSTED)
            gather(en, b, d->text);
        (void)may_close(en, b); /* notes whether arguments are whole */
        close_block(en, b);
    }
}

static void replay(void *ctx, const struct msg_delta *d)
{
    struct encoder *en = ctx;
    if (en->err)
        return;
    if (d->place > en->highest_place)
        en->highest_place = d->place;
    if (d->kind == MSG_STEP)
        take_step(en, d);
    else if (d->kind != MSG_HOSTED) /* it was shown: nothing is dropped */
        encoder_delta(en, d);
    buf_clear(&en->out);
}

/* All that was told was shown, however the driver would have ordered it. */
static void settle(struct encoder *en)
{
    for (struct block *b = en->first; b && !en->err; b = b->next) {
        if (!b->opened)
            open_block(en, b);
        b->shown_signature = b->signature.n > 0;
        b->shown_citation = b->last_citation;
        bool text = b->kind == BLOCK_TEXT || b->kind == BLOCK_REASONING || b->kind == BLOCK_REFUSAL;
        if (!en->ops->kind_of && !b->closed && !text && may_close(en, b))
            close_block(en, b);
        buf_clear(&en->out);
    }
}

static void take_names(struct encoder *en, const struct shown *s)
{
    if (shown_id(s).n)
        en->known_id = kept(en, shown_id(s));
    if (shown_model(s).n)
        en->want.model = kept(en, shown_model(s));
    if (s->created || shown_id(s).n) /* 0 where the provider said none */
        en->want.created = s->created;
}

pd_err encoder_resume(struct encoder *en, const struct shown *s)
{
    if (en->err)
        return en->err;
    if (en->started || !en->want.stream)
        return PD_INVALID;
    en->started = en->resumed = en->replaying = true;
    take_names(en, s);
    (void)shown_tell(s, 0, replay, en);
    settle(en);
    en->replaying = false;
    buf_clear(&en->out);
    buf_clear(&en->logprobs);
    en->dropped_count = 0;
    memset(en->dropped, 0, sizeof(en->dropped));
    en->sequence = s->sequence;
    if (!en->err && en->ops->resumed)
        en->ops->resumed(en);
    encoder_next_answer(en);
    if (en->put.err)
        failed(en, en->put.err);
    return en->err;
}

pd_err encoder_bytes(const struct encoder *en, struct span *ret)
{
    if (en->err)
        return en->err;
    *ret = buf_span(&en->out);
    return PD_OK;
}

void encoder_clear(struct encoder *en)
{
    buf_clear(&en->out);
}

/* ---- the end ---------------------------------------------------------------------- */

static void close_all(struct encoder *en)
{
    int highest = 0;
    for (const struct block *b = en->first; b; b = b->next)
        if (b->choice > highest)
            highest = b->choice;
    for (int choice = 0; choice <= highest; choice++)
        advance(en, choice, true);
}

pd_err encoder_end(struct encoder *en, const struct answer_facts *f)
{
    if (en->err || en->ended)
        return en->err;
    if (!en->started && en->ops->start)
        en->ops->start(en, f);
    en->started = true;
    close_all(en);
    if (!en->err && en->ops->end)
        en->ops->end(en, f);
    en->ended = true;
    if (en->put.err)
        failed(en, en->put.err);
    return en->err;
}

pd_err encoder_whole(struct encoder *en, const struct answer_facts *f, struct buf *out)
{
    if (en->err)
        return en->err;
    close_all(en);
    struct put p = put_into(out);
    if (!en->err)
        en->ops->whole(en, f, &p);
    en->ended = true;
    return en->err ? en->err : p.err;
}

/* ---- what makers want back ---------------------------------------------------------- */

static void put_member(struct put *p, bool *first, const char *name, struct span escaped)
{
    put_text(p, *first ? "" : ",");
    *first = false;
    put_field(p, name, escaped);
}

static bool wanted_back(const struct block *b)
{
    return b->kind == BLOCK_SEALED || (b->kind == BLOCK_REASONING && b->signature.n);
}

/* The reasoning from `from` up to the call. */
static void put_reasoning(struct put *p, const struct block *from, const struct block *call)
{
    bool any = false;
    for (const struct block *b = from; b != call; b = b->next) {
        bool first = true;
        if (b->choice != call->choice || !wanted_back(b))
            continue;
        put_text(p, any ? ",{" : "\"reasoning\":[{");
        any = true;
        if (b->kind == BLOCK_SEALED) {
            put_member(p, &first, "sealed", buf_span(&b->text));
            put_member(p, &first, "id", b->id);
        } else {
            put_member(p, &first, "text", buf_span(&b->text));
            put_member(p, &first, "signature", b->signature);
        }
        put_text(p, "}");
    }
    if (any)
        put_text(p, "]");
}

static enum msg_maker maker_of(const struct block *from, const struct block *call)
{
    if (call->signature.n)
        return call->maker;
    for (const struct block *b = from; b != call; b = b->next)
        if (b->choice == call->choice && wanted_back(b))
            return b->maker;
    return MSG_MAKER_NONE;
}

pd_err encoder_each_kept(const struct encoder *en, encoder_keep_fn *fn, void *ctx)
{
    struct buf blob;
    const struct block *from = en->first;
    pd_err e = PD_OK;
    buf_init(&blob, 0);
    for (const struct block *b = en->first; b && !e; b = b->next) {
        if (b->kind != BLOCK_TOOL || b->choice != 0)
            continue;
        enum msg_maker maker = maker_of(from, b);
        if (maker != MSG_MAKER_NONE) {
            buf_clear(&blob);
            struct put p = put_into(&blob);
            put_text(&p, "{");
            put_reasoning(&p, from, b);
            if (b->signature.n) {
                bool first = buf_size(&blob) == 1;
                put_member(&p, &first, "signature", b->signature);
            }
            put_text(&p, "}");
            e = p.err;
            if (!e)
                fn(ctx, b->id, maker, buf_span(&blob));
        }
        from = b->next;
    }
    buf_done(&blob);
    return e;
}

int encoder_highest_choice(const struct encoder *en)
{
    int highest = 0;
    for (const struct block *b = en->first; b; b = b->next)
        if (b->choice > highest)
            highest = b->choice;
    return highest;
}
