/* OpenAI Responses: a request's body into the neutral form. */
#include "dialect/request_priv.h"
#include "dialect/responses_priv.h"
#include "dialect/value_priv.h"

#include "base/hash.h"

struct parser {
    struct arena *a;
    struct msg_request *m;
    const char **why;
    struct json instructions, input, tools, tool_choice; /* read in this order, wherever they stood */
    struct msg_turn *turn;                               /* that items may still be added to; NULL: none */
    unsigned item;                                       /* where we are, for sentences */
};

static const char no_memory[] = "out of memory while reading the request";

static pd_err invalid(struct parser *p, const char *why)
{
    *p->why = why;
    return PD_INVALID;
}

static pd_err out_of_memory(struct parser *p)
{
    *p->why = no_memory;
    return PD_NOMEM;
}

/* A sentence about the item we are at. */
static pd_err at_item(struct parser *p, pd_err e, const char *what)
{
    char *text = arena_printf(p->a, "input[%u]: %s", p->item, what);
    *p->why = text ? text : what;
    return e;
}

static pd_err unknown_kind(struct parser *p, const char *noun, struct json type)
{
    struct span word = span_upto(json_inner(type), 64);
    char *text =
        arena_printf(p->a, "input[%u]: %s of type \"%.*s\" cannot be carried to a target of another format",
                     p->item, noun, SPAN_FMT(word));
    *p->why = text ? text : "the input holds something that cannot be carried to a target of another format";
    return PD_UNSUPPORTED;
}

static pd_err drop(struct parser *p, struct span name)
{
    return msg_drop_span(p->m, p->a, name) ? out_of_memory(p) : PD_OK;
}

/* ---- words shared with the writer and the encoder --------------------------------- */

struct span responses_joined_name(struct arena *a, struct span space, struct span name)
{
    char *joined;
    if (space.n + 2 + name.n <= TOOL_NAME_MAX) {
        joined = arena_printf(a, "%.*s__%.*s", SPAN_FMT(space), SPAN_FMT(name));
    } else { /* the end of the name says more than its beginning */
        uint64_t hash = hash_bytes(name, hash_bytes(space, 0));
        size_t room = TOOL_NAME_MAX - 10, keep = name.n < room ? name.n : room;
        joined = arena_printf(a, "n%08x_%.*s", (unsigned)hash, (int)keep, name.p + (name.n - keep));
    }
    return span_str(joined);
}

const struct msg_tool *responses_tool(const struct msg_request *m, struct span name)
{
    for (const struct msg_tool *t = m ? m->tools : NULL; t; t = t->next)
        if (t->kind != MSG_TOOL_HOSTED &&
            (span_eq(t->name, name) || (t->client_name.n && span_eq(t->client_name, name))))
            return t;
    return NULL;
}

/* ---- parts ------------------------------------------------------------------------- */

/* Where parts go: into a turn, or into the content of a tool's result. */
struct place {
    struct msg_turn *turn;
    struct msg_part *result;
};

static struct msg_part *add_part(struct parser *p, const struct place *at, enum msg_part_kind kind)
{
    return at->result ? msg_content_add(at->result, p->a, kind) : msg_part_add(at->turn, p->a, kind);
}

static pd_err add_text(struct parser *p, const struct place *at, enum msg_part_kind kind, struct span text)
{
    struct msg_part *part = add_part(p, at, kind);
    if (!part)
        return out_of_memory(p);
    part->text = text;
    return PD_OK;
}

static pd_err add_image(struct parser *p, const struct place *at, struct json v)
{
    struct json url = json_get(v, "image_url"), file = json_get(v, "file_id");
    struct msg_part *part = add_part(p, at, MSG_PART_MEDIA);
    if (!part)
        return out_of_memory(p);
    part->media = MSG_IMAGE;
    part->detail = json_inner(json_get(v, "detail"));
    if (url.type == JSON_OBJECT) { /* chat's way of saying it, which some clients send */
        part->detail = json_inner(json_get(url, "detail"));
        url = json_get(url, "url");
    }
    if (json_inner(url).n)
        value_take_url(part, json_inner(url));
    else if (json_inner(file).n)
        part->file_id = json_inner(file);
    else
        return at_item(p, PD_INVALID, "an input_image needs image_url or file_id");
    if (part->file_id.n)
        part->maker = MSG_MAKER_OPENAI;
    return PD_OK;
}

static enum msg_media media_of(struct span type)
{
    return span_starts(type, "image")   ? MSG_IMAGE
           : span_starts(type, "audio") ? MSG_AUDIO
           : span_starts(type, "video") ? MSG_VIDEO
                                        : MSG_DOCUMENT;
}

static pd_err add_file(struct parser *p, const struct place *at, struct json v)
{
    struct span data = json_inner(json_get(v, "file_data")), url = json_inner(json_get(v, "file_url"));
    struct msg_part *part = add_part(p, at, MSG_PART_MEDIA);
    if (!part)
        return out_of_memory(p);
    part->media = MSG_DOCUMENT;
    part->file_name = json_inner(json_get(v, "filename"));
    if (span_starts(data, "data:")) {
        value_take_url(part, data);
        part->media = media_of(part->media_type);
    } else if (
        data.n) { /* bare base64: OpenAI takes it for what the name says, and that is a PDF unless it says so */
        part->data = data;
        part->media_type = SPAN_LIT("application/pdf");
    } else if (url.n) {
        part->url = url;
    } else {
        part->file_id = json_inner(json_get(v, "file_id"));
        part->maker = MSG_MAKER_OPENAI;
        if (!part->file_id.n)
            return at_item(p, PD_INVALID, "an input_file needs file_data, file_url or file_id");
    }
    return PD_OK;
}

static pd_err add_audio(struct parser *p, const struct place *at, struct json v)
{
    struct json audio = json_get(v, "input_audio"), format = json_get(audio, "format");
    struct msg_part *part = add_part(p, at, MSG_PART_MEDIA);
    if (!part)
        return out_of_memory(p);
    part->media = MSG_AUDIO;
    part->data = json_inner(json_get(audio, "data"));
    if (!part->data.n)
        return at_item(p, PD_INVALID, "an input_audio needs data");
    if (json_inner(format).n) {
        char *type = json_is(format, "mp3") ? arena_printf(p->a, "audio/mpeg")
                                            : arena_printf(p->a, "audio/%.*s", SPAN_FMT(json_inner(format)));
        if (!type)
            return out_of_memory(p);
        part->media_type = span_str(type);
    }
    return PD_OK;
}

static pd_err take_part(struct parser *p, const struct place *at, struct json v)
{
    struct json type = json_get(v, "type");
    if (v.type == JSON_STRING)
        return add_text(p, at, MSG_PART_TEXT, json_inner(v));
    if (json_is(type, "input_text") || json_is(type, "output_text") || json_is(type, "text"))
        return add_text(p, at, MSG_PART_TEXT, json_inner(json_get(v, "text")));
    if (json_is(type, "refusal") && !at->result)
        return add_text(p, at, MSG_PART_REFUSAL, json_inner(json_get(v, "refusal")));
    if (json_is(type, "input_image") || json_is(type, "computer_screenshot"))
        return add_image(p, at, v);
    if (json_is(type, "input_file"))
        return add_file(p, at, v);
    if (json_is(type, "input_audio"))
        return add_audio(p, at, v);
    return unknown_kind(p, "a content part", type);
}

static pd_err take_content(struct parser *p, const struct place *at, struct json v)
{
    struct json_walk w;
    struct json part;
    if (v.type == JSON_STRING)
        return json_inner(v).n ? add_text(p, at, MSG_PART_TEXT, json_inner(v)) : PD_OK;
    if (v.type == JSON_OBJECT)
        return take_part(p, at, v);
    if (v.type != JSON_ARRAY)
        return value_is_nothing(v) ? PD_OK
                                   : at_item(p, PD_INVALID, "\"content\" must be a string or an array of parts");
    json_walk_init(&w, v);
    while (json_walk_next(&w, NULL, &part)) {
        pd_err e = take_part(p, at, part);
        if (e)
            return e;
    }
    return w.err ? at_item(p, PD_SYNTAX, "its content is not valid JSON") : PD_OK;
}

/* ---- items ------------------------------------------------------------------------- */

/* The assistant's items follow each other in one turn. */
static struct msg_turn *assistant_turn(struct parser *p)
{
    if (!p->turn || p->turn->role != MSG_ASSISTANT)
        p->turn = msg_turn_add(p->m, p->a, MSG_ASSISTANT);
    return p->turn;
}

static bool only_results(const struct msg_turn *t)
{
    for (const struct msg_part *part = t->first; part; part = part->next)
        if (part->kind != MSG_PART_TOOL_RESULT)
            return false;
    return true;
}

/* A user's turn that results may go to, or what follows them. */
static struct msg_turn *user_turn(struct parser *p)
{
    if (!p->turn || p->turn->role != MSG_USER || !only_results(p->turn))
        p->turn = msg_turn_add(p->m, p->a, MSG_USER);
    return p->turn;
}

static pd_err take_message(struct parser *p, struct json v)
{
    struct json role = json_get(v, "role");
    struct msg_turn *turn;
    if (json_is(role, "assistant"))
        turn = assistant_turn(p);
    else if (json_is(role, "user"))
        turn = user_turn(p);
    else if (json_is(role, "system") || json_is(role, "developer"))
        turn = p->turn = msg_turn_add(p->m, p->a, json_is(role, "system") ? MSG_SYSTEM : MSG_DEVELOPER);
    else
        return at_item(p, PD_INVALID, "\"role\" must be user, assistant, system or developer");
    if (!turn)
        return out_of_memory(p);
    return take_content(p, &(struct place){.turn = turn}, json_get(v, "content"));
}

/* A call of the assistant's, by its call_id. */
static pd_err add_call(struct parser *p, struct json v, struct span name, struct msg_part **ret)
{
    struct msg_turn *turn = assistant_turn(p);
    struct msg_part *part = turn ? msg_part_add(turn, p->a, MSG_PART_TOOL_CALL) : NULL;
    if (!part)
        return out_of_memory(p);
    part->id = json_inner(json_get(v, "call_id"));
    part->name = name;
    struct span space = json_inner(json_get(v, "namespace"));
    if (space.n) {
        part->name = responses_joined_name(p->a, space, name);
        if (!part->name.p)
            return out_of_memory(p);
    }
    *ret = part;
    return PD_OK;
}

static pd_err take_function_call(struct parser *p, struct json v)
{
    struct msg_part *part;
    struct span name = json_inner(json_get(v, "name"));
    if (!name.n)
        return at_item(p, PD_INVALID, "a function_call needs a name");
    pd_err e = add_call(p, v, name, &part);
    if (e)
        return e;
    return value_take_arguments(json_get(v, "arguments"), p->a, part) ? out_of_memory(p) : PD_OK;
}

static pd_err take_custom_call(struct parser *p, struct json v)
{
    struct msg_part *part;
    struct span name = json_inner(json_get(v, "name"));
    if (!name.n)
        return at_item(p, PD_INVALID, "a custom_tool_call needs a name");
    pd_err e = add_call(p, v, name, &part);
    if (e)
        return e;
    part->custom = true;
    part->text = json_inner(json_get(v, "input"));
    return PD_OK;
}

/* Calls of tools that the maker knows and the client runs: what they say is in one object. */
static pd_err take_built_in_call(struct parser *p, struct json v, const char *name, const char *member)
{
    struct msg_part *part;
    struct json said = json_get(v, member);
    pd_err e = add_call(p, v, span_str(name), &part);
    if (!e)
        part->arguments = said.type == JSON_OBJECT ? said.raw : SPAN_LIT("{}");
    return e;
}

static pd_err take_result(struct parser *p, struct json v, bool custom)
{
    struct msg_turn *turn = user_turn(p);
    struct msg_part *part = turn ? msg_part_add(turn, p->a, MSG_PART_TOOL_RESULT) : NULL;
    struct json output = json_get(v, "output");
    if (!part)
        return out_of_memory(p);
    part->id = json_inner(json_get(v, "call_id"));
    part->custom = custom;
    if (!part->id.n)
        return at_item(p, PD_INVALID, "a call's output needs a call_id");
    return take_content(p, &(struct place){.result = part}, output);
}

/* The outputs of shell_call: a list of {"stdout", "stderr", "outcome"}, told as the JSON that they are. */
static pd_err take_shell_result(struct parser *p, struct json v)
{
    struct json output = json_get(v, "output");
    if (output.type != JSON_ARRAY)
        return take_result(p, v, false);
    struct msg_turn *turn = user_turn(p);
    struct msg_part *part = turn ? msg_part_add(turn, p->a, MSG_PART_TOOL_RESULT) : NULL, *text;
    struct buf b;
    if (!part)
        return out_of_memory(p);
    part->id = json_inner(json_get(v, "call_id"));
    text = msg_content_add(part, p->a, MSG_PART_TEXT);
    if (!text)
        return out_of_memory(p);
    buf_init(&b, 0);
    pd_err e = json_put_str(&b, output.raw);
    if (!e) {
        text->text = arena_span(p->a, span_of(buf_span(&b).p + 1, buf_size(&b) - 2));
        e = text->text.p ? PD_OK : PD_NOMEM;
    }
    buf_done(&b);
    return e ? out_of_memory(p) : PD_OK;
}

/* The texts of a list of parts, with an empty line between two. */
static pd_err joined_texts(struct parser *p, struct json list, struct span *ret)
{
    struct json_walk w;
    struct json part;
    struct span text = SPAN_NONE;
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &part)) {
        struct span piece = json_inner(json_get(part, "text"));
        if (!piece.n)
            continue;
        if (text.n) {
            char *both = arena_printf(p->a, "%.*s\\n\\n%.*s", SPAN_FMT(text), SPAN_FMT(piece));
            if (!both)
                return out_of_memory(p);
            text = span_str(both);
        } else {
            text = piece;
        }
    }
    *ret = text;
    return PD_OK;
}

/* Its own text where a model shows that, else the summary. */
static pd_err take_reasoning(struct parser *p, struct json v)
{
    struct span text, id = json_inner(json_get(v, "id"));
    pd_err e = joined_texts(p, json_get(v, "content"), &text);
    if (!e && !text.n)
        e = joined_texts(p, json_get(v, "summary"), &text);
    if (e)
        return e;
    struct span sealed = json_inner(json_get(v, "encrypted_content"));
    if (!text.n && !sealed.n)
        return PD_OK;
    struct msg_turn *turn = assistant_turn(p);
    struct msg_part *part = turn ? msg_part_add(turn, p->a, MSG_PART_REASONING) : NULL;
    if (!part)
        return out_of_memory(p);
    part->text = text;
    part->sealed = sealed;
    if (sealed.n) { /* its name alone is of no use: what it names is kept at the maker, if anywhere */
        part->seal_id = id;
        part->maker = MSG_MAKER_OPENAI;
    }
    return PD_OK;
}

static pd_err state_at_maker(struct parser *p, const char *what)
{
    char *text = arena_printf(p->a,
                              "%s names what is kept at its provider, and this target is of another format: "
                              "send the whole conversation in \"input\"",
                              what);
    *p->why = text ? text : "the request names what is kept at another provider";
    return PD_UNSUPPORTED;
}

/* What the provider's own tools did: the answer that came of it follows as text. */
static bool is_history_of_hosted(struct json type)
{
    static const char *const words[] = {
        "web_search_call",  "file_search_call",   "code_interpreter_call", "image_generation_call",
        "mcp_list_tools",   "mcp_call",           "mcp_approval_request",  "mcp_approval_response",
        "tool_search_call", "tool_search_output", "additional_tools",      "program",
        "program_output",
    };
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (json_is(type, words[i]))
            return true;
    return false;
}

/* Tools that the maker knows and the client runs. */
static const struct built_in {
    const char *call, *output, *name, *member;
} built_ins[] = {
    {"local_shell_call", "local_shell_call_output", "local_shell", "action"},
    {"shell_call", "shell_call_output", "shell", "action"},
    {"apply_patch_call", "apply_patch_call_output", "apply_patch", "operation"},
    {"computer_call", "computer_call_output", "computer", "action"},
};

static pd_err take_item(struct parser *p, struct json v)
{
    struct json type = json_get(v, "type");
    if (v.type != JSON_OBJECT)
        return at_item(p, PD_INVALID, "an item must be an object");
    if (json_is(type, "message") || (value_is_nothing(type) && !value_is_nothing(json_get(v, "role"))))
        return take_message(p, v);
    if (json_is(type, "function_call"))
        return take_function_call(p, v);
    if (json_is(type, "function_call_output"))
        return take_result(p, v, false);
    if (json_is(type, "custom_tool_call"))
        return take_custom_call(p, v);
    if (json_is(type, "custom_tool_call_output"))
        return take_result(p, v, true);
    if (json_is(type, "reasoning"))
        return take_reasoning(p, v);
    if (json_is(type, "item_reference") || (value_is_nothing(type) && !value_is_nothing(json_get(v, "id"))))
        return state_at_maker(p, "an item_reference");
    for (size_t i = 0; i < sizeof(built_ins) / sizeof(built_ins[0]); i++) {
        if (json_is(type, built_ins[i].call))
            return take_built_in_call(p, v, built_ins[i].name, built_ins[i].member);
        if (json_is(type, built_ins[i].output))
            return take_shell_result(p, v);
    }
    return is_history_of_hosted(type) ? drop(p, json_inner(type)) : unknown_kind(p, "an item", type);
}

static pd_err take_input(struct parser *p, struct json v)
{
    struct json_walk w;
    struct json item;
    if (v.type == JSON_STRING) {
        struct msg_turn *turn = msg_turn_add(p->m, p->a, MSG_USER);
        return turn ? add_text(p, &(struct place){.turn = turn}, MSG_PART_TEXT, json_inner(v)) : out_of_memory(p);
    }
    if (v.type != JSON_ARRAY)
        return value_is_nothing(v) ? PD_OK : invalid(p, "\"input\" must be a string or an array of items");
    json_walk_init(&w, v);
    for (; json_walk_next(&w, NULL, &item); p->item++) {
        pd_err e = take_item(p, item);
        if (e)
            return e;
    }
    return w.err ? at_item(p, PD_SYNTAX, "not valid JSON") : PD_OK;
}

static pd_err take_instructions(struct parser *p, struct json v)
{
    if (value_is_nothing(v) || (v.type == JSON_STRING && !json_inner(v).n))
        return PD_OK;
    if (v.type != JSON_STRING)
        return invalid(p, "\"instructions\" must be a string");
    struct msg_turn *turn = msg_turn_add(p->m, p->a, MSG_SYSTEM);
    return turn ? add_text(p, &(struct place){.turn = turn}, MSG_PART_TEXT, json_inner(v)) : out_of_memory(p);
}

/* ---- tools ------------------------------------------------------------------------- */

/* `space`: the namespace that it stands in, empty: none. */
static pd_err take_tool(struct parser *p, struct json v, struct span space)
{
    struct json type = json_get(v, "type"), schema = json_get(v, "parameters");
    bool function = json_is(type, "function"), custom = json_is(type, "custom");
    struct span name = json_inner(json_get(v, "name"));
    struct msg_tool *t = msg_tool_add(p->m, p->a,
                                      function ? MSG_TOOL_FUNCTION
                                      : custom ? MSG_TOOL_CUSTOM
                                               : MSG_TOOL_HOSTED);
    if (!t)
        return out_of_memory(p);
    if (!function && !custom) {
        t->name = json_inner(type);
        t->raw = v.raw;
        return PD_OK;
    }
    if (!name.n)
        return invalid(p, "a tool needs a name");
    t->name = name;
    t->description = json_inner(json_get(v, "description"));
    if (space.n) {
        t->space = space;
        t->plain_name = name;
        t->name = responses_joined_name(p->a, space, name);
        if (!t->name.p)
            return out_of_memory(p);
    }
    if (function) {
        t->strict = value_tristate(json_get(v, "strict"));
        if (schema.type == JSON_OBJECT)
            t->schema = schema.raw;
    } else if (json_get(v, "format").type == JSON_OBJECT) {
        t->raw = json_get(v, "format").raw;
    }
    return PD_OK;
}

static pd_err take_tools(struct parser *p, struct json list, struct span space)
{
    struct json_walk w;
    struct json tool;
    if (list.type != JSON_ARRAY)
        return value_is_nothing(list) ? PD_OK : invalid(p, "\"tools\" must be an array");
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &tool)) {
        if (tool.type != JSON_OBJECT)
            return invalid(p, "a tool must be an object");
        bool group = !space.n && json_is(json_get(tool, "type"), "namespace");
        struct span name = json_inner(json_get(tool, "name"));
        if (group && !name.n)
            return invalid(p, "a namespace of tools needs a name");
        pd_err e = group ? take_tools(p, json_get(tool, "tools"), name) : take_tool(p, tool, space);
        if (e)
            return e;
    }
    return w.err ? invalid(p, "\"tools\" is not valid JSON") : PD_OK;
}

static pd_err named_tool(struct parser *p, struct json v, struct span *ret)
{
    struct span space = json_inner(json_get(v, "namespace"));
    *ret = json_inner(json_get(v, "name"));
    if (space.n)
        *ret = responses_joined_name(p->a, space, *ret);
    return ret->p || !space.n ? PD_OK : out_of_memory(p);
}

static pd_err is_allowed(struct parser *p, const struct msg_tool *t, struct json list, bool *ret)
{
    struct json_walk w;
    struct json item;
    *ret = false;
    json_walk_init(&w, list);
    while (!*ret && json_walk_next(&w, NULL, &item)) {
        struct span name;
        pd_err e = named_tool(p, item, &name);
        if (e)
            return e;
        *ret = t->kind == MSG_TOOL_HOSTED ? span_eq(json_inner(json_get(item, "type")), t->name)
                                          : span_eq(name, t->name);
    }
    return PD_OK;
}

/* Only these may be called: the others are left out. */
static pd_err keep_allowed(struct parser *p, struct json list)
{
    struct msg_tool *t = p->m->tools;
    p->m->tools = p->m->last_tool = NULL;
    for (struct msg_tool *next; t; t = next) {
        bool allowed;
        pd_err e = is_allowed(p, t, list, &allowed);
        if (e)
            return e;
        next = t->next;
        t->next = NULL;
        if (!allowed)
            continue;
        if (p->m->last_tool)
            p->m->last_tool->next = t;
        else
            p->m->tools = t;
        p->m->last_tool = t;
    }
    return PD_OK;
}

static pd_err take_choice_word(struct parser *p, struct json v)
{
    if (json_is(v, "auto"))
        p->m->choice = MSG_CHOICE_AUTO;
    else if (json_is(v, "none"))
        p->m->choice = MSG_CHOICE_NONE;
    else if (json_is(v, "required"))
        p->m->choice = MSG_CHOICE_REQUIRED;
    else
        return invalid(p, "\"tool_choice\" must be none, auto, required or an object");
    return PD_OK;
}

static pd_err take_choice(struct parser *p, struct json v)
{
    struct json type = json_get(v, "type");
    if (value_is_nothing(v))
        return PD_OK;
    if (v.type == JSON_STRING)
        return take_choice_word(p, v);
    if (json_is(type, "allowed_tools")) {
        pd_err e = value_is_nothing(json_get(v, "mode")) ? PD_OK : take_choice_word(p, json_get(v, "mode"));
        return e ? e : keep_allowed(p, json_get(v, "tools"));
    }
    if (!json_is(type, "function") && !json_is(type, "custom"))
        return drop(p, SPAN_LIT("tool_choice")); /* a hosted tool, which is not there elsewhere */
    if (!json_inner(json_get(v, "name")).n)
        return invalid(p, "\"tool_choice\" needs a name");
    p->m->choice = MSG_CHOICE_NAMED;
    return named_tool(p, v, &p->m->choice_name);
}

/* ---- settings ---------------------------------------------------------------------- */

static pd_err take_number(struct parser *p, struct json v, struct span *ret, const char *why)
{
    if (v.type != JSON_NUMBER)
        return invalid(p, why);
    *ret = v.raw;
    return PD_OK;
}

static pd_err take_max_tokens(struct parser *p, struct json v)
{
    if (!json_i64(v, &p->m->max_tokens) || p->m->max_tokens < 0) {
        p->m->max_tokens = -1;
        return invalid(p, "\"max_output_tokens\" must be a whole number");
    }
    return PD_OK;
}
static pd_err take_temperature(struct parser *p, struct json v)
{
    return take_number(p, v, &p->m->temperature, "\"temperature\" must be a number");
}
static pd_err take_top_p(struct parser *p, struct json v)
{
    return take_number(p, v, &p->m->top_p, "\"top_p\" must be a number");
}
static pd_err take_top_k(struct parser *p, struct json v)
{
    return take_number(p, v, &p->m->top_k, "\"top_k\" must be a number");
}
static pd_err take_min_p(struct parser *p, struct json v)
{
    return take_number(p, v, &p->m->min_p, "\"min_p\" must be a number");
}
static pd_err take_seed(struct parser *p, struct json v)
{
    return take_number(p, v, &p->m->seed, "\"seed\" must be a number");
}
static pd_err take_presence(struct parser *p, struct json v)
{
    return take_number(p, v, &p->m->presence_penalty, "\"presence_penalty\" must be a number");
}
static pd_err take_frequency(struct parser *p, struct json v)
{
    return take_number(p, v, &p->m->frequency_penalty, "\"frequency_penalty\" must be a number");
}
static pd_err take_top_logprobs(struct parser *p, struct json v)
{
    if (!json_i64(v, &p->m->top_logprobs) || p->m->top_logprobs < 0) {
        p->m->top_logprobs = -1;
        return invalid(p, "\"top_logprobs\" must be a whole number");
    }
    return PD_OK;
}
static pd_err take_parallel(struct parser *p, struct json v)
{
    p->m->parallel = value_tristate(v);
    return p->m->parallel < 0 ? invalid(p, "\"parallel_tool_calls\" must be true or false") : PD_OK;
}
static pd_err take_user(struct parser *p, struct json v)
{
    if (!p->m->user.n)
        p->m->user = json_inner(v);
    return PD_OK;
}
static pd_err take_safety_identifier(struct parser *p, struct json v)
{
    p->m->user = json_inner(v);
    return PD_OK;
}
static pd_err take_service_tier(struct parser *p, struct json v)
{
    p->m->service_tier = json_inner(v);
    return PD_OK;
}
static pd_err take_cache_key(struct parser *p, struct json v)
{
    p->m->cache_key = json_inner(v);
    return PD_OK;
}

static pd_err take_format(struct parser *p, struct json v)
{
    struct json type = json_get(v, "type");
    if (value_is_nothing(v))
        return PD_OK;
    if (json_is(type, "text")) {
        p->m->format = MSG_FORMAT_TEXT;
    } else if (json_is(type, "json_object")) {
        p->m->format = MSG_FORMAT_JSON;
    } else if (json_is(type, "json_schema")) {
        struct json schema = json_get(v, "schema");
        if (schema.type != JSON_OBJECT)
            return invalid(p, "\"text.format.schema\" must be an object");
        p->m->format = MSG_FORMAT_SCHEMA;
        p->m->format_schema = schema.raw;
        p->m->format_name = json_inner(json_get(v, "name"));
        p->m->format_description = json_inner(json_get(v, "description"));
        p->m->format_strict = value_tristate(json_get(v, "strict"));
    } else {
        return drop(p, SPAN_LIT("text.format"));
    }
    return PD_OK;
}

static pd_err take_text(struct parser *p, struct json v)
{
    p->m->verbosity = json_inner(json_get(v, "verbosity"));
    return take_format(p, json_get(v, "format"));
}

static pd_err take_reasoning_wish(struct parser *p, struct json v)
{
    struct json effort = json_get(v, "effort"), summary = json_get(v, "summary");
    if (value_is_nothing(summary))
        summary = json_get(v, "generate_summary"); /* its old name */
    if (json_inner(summary).n)
        p->m->reasoning_shown = !json_is(summary, "none");
    if (json_i64(json_get(v, "max_tokens"), &p->m->reasoning_tokens) && p->m->reasoning_tokens < 0)
        p->m->reasoning_tokens = -1; /* OpenRouter's */
    if (value_is_nothing(effort))
        return PD_OK;
    p->m->effort = value_effort(effort);
    if (p->m->effort != MSG_EFFORT_UNSAID)
        return PD_OK;
    return drop(p, SPAN_LIT("reasoning.effort"));
}

/* What more to tell: reasoning comes sealed wherever a target has that, the rest is of hosted tools. */
static pd_err take_include(struct parser *p, struct json v)
{
    struct json_walk w;
    struct json word;
    json_walk_init(&w, v);
    while (json_walk_next(&w, NULL, &word)) {
        if (json_is(word, "message.output_text.logprobs"))
            p->m->logprobs = true;
        else if (!json_is(word, "reasoning.encrypted_content")) {
            pd_err e = drop(p, SPAN_LIT("include"));
            if (e)
                return e;
        }
    }
    return PD_OK;
}

static pd_err take_previous(struct parser *p, struct json v)
{
    return json_inner(v).n ? state_at_maker(p, "previous_response_id") : PD_OK;
}
static pd_err take_conversation(struct parser *p, struct json v)
{
    (void)v;
    return state_at_maker(p, "conversation");
}
static pd_err take_prompt(struct parser *p, struct json v)
{
    (void)v;
    return state_at_maker(p, "prompt");
}
static pd_err take_background(struct parser *p, struct json v)
{
    if (!json_is_true(v))
        return PD_OK;
    *p->why = "\"background\" is not possible with a target of another format: wait for the answer";
    return PD_UNSUPPORTED;
}
/* Nothing is stored elsewhere: only whoever counts on it has to know. */
static pd_err take_store(struct parser *p, struct json v)
{
    return json_is_true(v) ? drop(p, SPAN_LIT("store")) : PD_OK;
}
static pd_err take_truncation(struct parser *p, struct json v)
{
    return json_is(v, "disabled") ? PD_OK : drop(p, SPAN_LIT("truncation"));
}
/* Of the stream between the client and perdure, which is never padded. */
static pd_err take_stream_options(struct parser *p, struct json v)
{
    return json_is_true(json_get(v, "include_obfuscation"))
               ? drop(p, SPAN_LIT("stream_options.include_obfuscation"))
               : PD_OK;
}
static pd_err take_nothing(struct parser *p, struct json v)
{
    (void)p;
    (void)v;
    return PD_OK;
}

static pd_err keep_instructions(struct parser *p, struct json v)
{
    p->instructions = v;
    return PD_OK;
}
static pd_err keep_input(struct parser *p, struct json v)
{
    p->input = v;
    return PD_OK;
}
static pd_err keep_tools(struct parser *p, struct json v)
{
    p->tools = v;
    return PD_OK;
}
static pd_err keep_choice(struct parser *p, struct json v)
{
    p->tool_choice = v;
    return PD_OK;
}

static const struct member {
    const char *key;
    pd_err (*take)(struct parser *p, struct json v);
} members[] = {
    {"model", take_nothing}, /* read_request() has it */
    {"stream", take_nothing},
    {"instructions", keep_instructions},
    {"input", keep_input},
    {"tools", keep_tools},
    {"tool_choice", keep_choice},
    {"max_output_tokens", take_max_tokens},
    {"temperature", take_temperature},
    {"top_p", take_top_p},
    {"top_k", take_top_k},
    {"min_p", take_min_p},
    {"seed", take_seed},
    {"presence_penalty", take_presence},
    {"frequency_penalty", take_frequency},
    {"top_logprobs", take_top_logprobs},
    {"parallel_tool_calls", take_parallel},
    {"user", take_user},
    {"safety_identifier", take_safety_identifier},
    {"service_tier", take_service_tier},
    {"prompt_cache_key", take_cache_key},
    {"text", take_text},
    {"reasoning", take_reasoning_wish},
    {"include", take_include},
    {"previous_response_id", take_previous},
    {"conversation", take_conversation},
    {"prompt", take_prompt},
    {"background", take_background},
    {"store", take_store},
    {"truncation", take_truncation},
    {"stream_options", take_stream_options},
};

static pd_err take_member(struct parser *p, struct span key, struct json v)
{
    if (v.type == JSON_NULL)
        return PD_OK;
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
        if (json_key_is(key, members[i].key))
            return members[i].take(p, v);
    return drop(p, key);
}

pd_err responses_parse_request(const struct request_facts *f, struct arena *a, struct msg_request *ret,
                               const char **ret_why)
{
    struct parser p = {.a = a, .m = ret, .why = ret_why};
    struct json_walk w;
    struct span key;
    struct json v;
    *ret_why = NULL;
    msg_request_init(ret);
    ret->model = f->model;
    ret->stream = f->stream;
    json_walk_doc(&w, f->body);
    while (json_walk_next(&w, &key, &v)) {
        pd_err e = take_member(&p, key, v);
        if (e)
            return e;
    }
    if (w.err) {
        *ret_why = "the body is not valid JSON";
        return w.err == PD_TOOBIG ? PD_SYNTAX : w.err;
    }
    pd_err e = take_instructions(&p, p.instructions);
    if (!e)
        e = take_tools(&p, p.tools, SPAN_NONE);
    if (!e)
        e = take_choice(&p, p.tool_choice);
    if (!e)
        e = take_input(&p, p.input);
    if (!e && msg_link(ret, a))
        e = out_of_memory(&p);
    return e;
}

pd_err responses_parse_tools(const struct request_facts *f, struct arena *a, struct msg_request *ret)
{
    const char *why;
    struct parser p = {.a = a, .m = ret, .why = &why};
    msg_request_init(ret);
    return request_lenient(take_tools(&p, request_member(f, "tools"), SPAN_NONE));
}
