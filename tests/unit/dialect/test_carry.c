/* Each row of the table: what is dropped is named, what is refused says so in a sentence, what is shaped has its shape. */
#include "dialect/carry.h"
#include "dialect/encoder.h"
#include "neutral.h"
#include "told.h"

static const struct codec *const chat = &codec_openai_chat, *const responses = &codec_openai_responses,
                                 *const anthropic = &codec_anthropic, *const converse = &codec_bedrock_converse;
/* Of formats that nothing here is read or written in: the table needs their names alone. */
static const struct codec gemini_named = {.name = "gemini"}, ollama_named = {.name = "ollama"};
static const struct codec *const gemini = &gemini_named, *const ollama = &ollama_named;

static const struct write_want plain = {.reasoning_back = false}, back = {.reasoning_back = true},
                               mistral = {.mistral = true};

/* The request that was asked in `from`, made fit for `to`, as text; then what was dropped, or the sentence. */
static pd_err fitted(const struct codec *from, struct span body, const struct codec *to,
                     const struct write_want *want, struct arena *a, struct buf *out)
{
    struct request_facts f;
    struct msg_request m;
    const char *why = NULL;
    pd_err e = from->read_request(body, &(struct request_line){0}, a, &f, &why);
    if (!e)
        e = from->parse_request(&f, a, &m, &why);
    if (!e)
        e = carry_fit(&m, to, want, a, &why);
    if (e == PD_UNSUPPORTED)
        return buf_printf(out, "refused: %s", why);
    if (!e)
        e = neutral_put(&m, out);
    for (unsigned i = 0; !e && i < m.dropped_count; i++)
        e = buf_printf(out, " -%s", m.dropped[i]);
    return e;
}

#define CHAT_USER(content) "{\"messages\":[{\"role\":\"user\",\"content\":" content "}]}"
#define CHAT_WITH(settings) "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]," settings "}"
#define RESP_USER(part) "{\"input\":[{\"role\":\"user\",\"content\":[" part "]}]}"
#define TOOL "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],"
#define CALLED(id)                                                                                          \
    "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"content\":null,\"tool_" \
    "calls\":[{"                                                                                            \
    "\"id\":\"" id                                                                                          \
    "\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},{\"role\":\"tool\","    \
    "\"tool_call_id\":\"" id "\",\"content\":\"ok\"}]}"
#define RESULT_WITH(part)                                                                                       \
    "{\"input\":[{\"role\":\"user\",\"content\":\"x\"},{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":" \
    "\"f\","                                                                                                    \
    "\"arguments\":\"{}\"},{\"type\":\"function_call_output\",\"call_id\":\"c\",\"output\":[" part "]}]}"
#define IMAGE "{\"type\":\"input_image\",\"image_url\":\"data:image/png;base64,AAAA\"}"
#define SEALED                                                                                                 \
    "{\"input\":[{\"role\":\"user\",\"content\":\"x\"},{\"type\":\"reasoning\",\"id\":\"rs_1\",\"summary\":[{" \
    "\"type\":"                                                                                                \
    "\"summary_text\",\"text\":\"hm\"}],\"encrypted_content\":\"SEAL\"},{\"role\":\"assistant\",\"content\":"  \
    "\"y\"}]}"
#define SIGNED                                                                                                    \
    "{\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"content\":[" \
    "{\"type\":"                                                                                                  \
    "\"thinking\",\"thinking\":\"hm\",\"signature\":\"SIG\"},{\"type\":\"text\",\"text\":\"y\"}]}]}"
#define CUSTOM                                                                                              \
    "{\"input\":[{\"role\":\"user\",\"content\":\"x\"},{\"type\":\"custom_tool_call\",\"call_id\":\"c\","   \
    "\"name\":\"p\","                                                                                       \
    "\"input\":\"a\\\"b\"},{\"type\":\"custom_tool_call_output\",\"call_id\":\"c\",\"output\":\"ok\"}],"    \
    "\"tools\":[{\"type\":"                                                                                 \
    "\"custom\",\"name\":\"p\",\"description\":\"d\",\"format\":{\"type\":\"grammar\",\"syntax\":\"lark\"," \
    "\"definition\":"                                                                                       \
    "\"start: x\"}}]}"

static const struct carry_row {
    const char *name;
    const struct codec *const *from;
    const char *in;
    const struct codec *const *to;
    const struct write_want *want;
    const char *has, *lacks; /* NULL: nothing to look for */
} rows[] = {
    {"a name is kept", &chat, "{\"messages\":[{\"role\":\"user\",\"name\":\"Al\",\"content\":\"x\"}]}", &chat,
     &plain, "name=Al", " -name"},
    {"a name is dropped", &chat, "{\"messages\":[{\"role\":\"user\",\"name\":\"Al\",\"content\":\"x\"}]}",
     &responses, &plain, " -name", "name=Al"},
    {"a tool's name that the target refuses", &chat,
     "{\"messages\":[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c\",\"type\":\"function\","
     "\"function\":{\"name\":\"files.read/"
     "all\",\"arguments\":\"{}\"}}]}],\"tools\":[{\"type\":\"function\",\"function\":{"
     "\"name\":\"files.read/all\"}}],\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"files.read/"
     "all\"}}}",
     &anthropic, &plain, "files_read_all_", "files.read/all\""},
    {"and one that it takes", &chat,
     "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"tools\":[{\"type\":\"function\",\"function\":{"
     "\"name\":"
     "\"files.read\"}}]}",
     &gemini, &plain, "files.read", "files_read"},
    {"a refusal stays one", &chat, "{\"messages\":[{\"role\":\"assistant\",\"content\":null,\"refusal\":\"no\"}]}",
     &responses, &plain, "{refusal text=no}", NULL},
    {"a refusal becomes a text", &chat,
     "{\"messages\":[{\"role\":\"assistant\",\"content\":null,\"refusal\":\"no\"}]}", &anthropic, &plain,
     "{text text=no}", " -"},

    {"sealed reasoning goes back to its maker", &responses, SEALED, &responses, &plain,
     "{reasoning text=hm sealed=SEAL seal_id=rs_1 of openai}", "-reasoning"},
    {"sealed reasoning goes to no other", &responses, SEALED, &anthropic, &plain, " -reasoning", "{reasoning"},
    {"nor to Gemini", &responses, SEALED, &gemini, &plain, " -reasoning", "{reasoning"},
    {"nor to Converse", &responses, SEALED, &converse, &plain, " -reasoning", "{reasoning"},
    {"nor to a chat target", &responses, SEALED, &chat, &plain, " -reasoning", "{reasoning"},
    {"in the open to whoever wants it", &responses, SEALED, &chat, &back, "{reasoning text=hm}", "-reasoning "},
    {"in the open to Ollama", &responses, SEALED, &ollama, &plain, "{reasoning text=hm}", "sealed"},
    {"signed reasoning goes back to its maker", &anthropic, SIGNED, &anthropic, &plain,
     "{reasoning text=hm signature=SIG of anthropic}", "-reasoning"},
    {"by way of Bedrock too", &anthropic, SIGNED, &converse, &plain, "signature=SIG", "-reasoning"},
    {"signed reasoning goes to no other", &anthropic, SIGNED, &responses, &plain, " -reasoning", "{reasoning"},
    {"a turn of which nothing is left is none", &responses,
     "{\"input\":[{\"role\":\"user\",\"content\":\"x\"},{\"type\":\"reasoning\",\"summary\":[],\"encrypted_"
     "content\":\"S\"}]}",
     &chat, &back, "-reasoning", "assistant"},
    {"a signature on a call is Gemini's", &chat,
     "{\"messages\":[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c\",\"function\":{"
     "\"name\":\"f\","
     "\"arguments\":\"{}\"},\"extra_content\":{\"google\":{\"thought_signature\":\"SIG\"}}}]}]}",
     &gemini, &plain, "signature=SIG of gemini", "-signature"},
    {"and nobody else's", &chat,
     "{\"messages\":[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c\",\"function\":{"
     "\"name\":\"f\","
     "\"arguments\":\"{}\"},\"extra_content\":{\"google\":{\"thought_signature\":\"SIG\"}}}]}]}",
     &anthropic, &plain, " -signature", "SIG"},

    {"a picture in a result stays there", &responses, RESULT_WITH(IMAGE), &anthropic, &plain,
     "{result id=c name=f{media image type=image/png data=AAAA}}", NULL},
    {"a picture in a result moves behind the results", &responses, RESULT_WITH(IMAGE), &chat, &plain,
     "{result id=c name=f}{media image type=image/png data=AAAA}", NULL},
    {"with Ollama too", &responses, RESULT_WITH(IMAGE), &ollama, &plain,
     "{result id=c name=f}{media image type=image/png data=AAAA}", NULL},
    {"a sound in a result moves too", &responses,
     RESULT_WITH("{\"type\":\"input_audio\",\"input_audio\":{\"data\":\"AAAA\",\"format\":\"wav\"}}"), &responses,
     &plain, "{result id=c name=f}{media audio", NULL},
    {"a sound in a result of Anthropic", &responses,
     RESULT_WITH("{\"type\":\"input_audio\",\"input_audio\":{\"data\":\"AAAA\",\"format\":\"wav\"}}"), &anthropic,
     &plain,
     "refused: audio or video in a tool's result cannot be given to a target that speaks Anthropic Messages",
     NULL},
    {"a picture of the assistant's", &chat,
     "{\"messages\":[{\"role\":\"assistant\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"https:/"
     "/x\"}}]}]}",
     &anthropic, &plain, " -media", "{media"},
    {"a picture in a system turn", &responses, "{\"input\":[{\"role\":\"system\",\"content\":[" IMAGE "]}]}",
     &chat, &plain, "refused: media in a system turn cannot", NULL},
    {"a file at its maker", &responses, RESP_USER("{\"type\":\"input_file\",\"file_id\":\"file-1\"}"), &chat,
     &plain, "file=file-1 of openai", NULL},
    {"a file at another maker", &responses, RESP_USER("{\"type\":\"input_file\",\"file_id\":\"file-1\"}"),
     &anthropic, &plain, "refused: a file that is kept at another maker's cannot", NULL},
    {"an image that is a file, in chat", &responses,
     RESP_USER("{\"type\":\"input_image\",\"file_id\":\"file-1\"}"), &chat, &plain,
     "refused: an image that is kept as a file cannot", NULL},
    {"an image's address", &responses, RESP_USER("{\"type\":\"input_image\",\"image_url\":\"https://x\"}"),
     &anthropic, &plain, "url=https://x", NULL},
    {"an image's address with Bedrock", &responses,
     RESP_USER("{\"type\":\"input_image\",\"image_url\":\"https://x\"}"), &converse, &plain,
     "refused: an image at a web address cannot", NULL},
    {"an image's address with Ollama", &responses,
     RESP_USER("{\"type\":\"input_image\",\"image_url\":\"https://x\"}"), &ollama, &plain,
     "refused: an image at a web address cannot", NULL},
    {"a document's address", &responses, RESP_USER("{\"type\":\"input_file\",\"file_url\":\"https://x\"}"), &chat,
     &plain, "refused: a document at a web address cannot", NULL},
    {"a sound's address", &chat, CHAT_USER("[{\"type\":\"video_url\",\"video_url\":{\"url\":\"https://x\"}}]"),
     &responses, &plain, "refused: audio or video at a web address cannot", NULL},
    {"at Google's", &responses, RESP_USER("{\"type\":\"input_image\",\"image_url\":\"gs://x\"}"), &gemini, &plain,
     "url=gs://x", NULL},
    {"at Google's, for others", &responses, RESP_USER("{\"type\":\"input_image\",\"image_url\":\"gs://x\"}"),
     &anthropic, &plain, "refused: media at a \"gs:\" address cannot", NULL},
    {"at Amazon's", &responses, RESP_USER("{\"type\":\"input_image\",\"image_url\":\"s3://x\"}"), &converse,
     &plain, "url=s3://x", NULL},
    {"at Amazon's, for others", &responses, RESP_USER("{\"type\":\"input_image\",\"image_url\":\"s3://x\"}"),
     &chat, &plain, "refused: media at an \"s3:\" address cannot", NULL},
    {"somewhere else", &responses, RESP_USER("{\"type\":\"input_image\",\"image_url\":\"file:///x\"}"), &chat,
     &plain, "refused: media at an address of another kind cannot", NULL},
    {"a document with Ollama", &responses, RESP_USER("{\"type\":\"input_file\",\"file_data\":\"AAAA\"}"), &ollama,
     &plain, "refused: a document cannot be given to a target that speaks Ollama", NULL},
    {"audio with Anthropic", &chat,
     CHAT_USER("[{\"type\":\"input_audio\",\"input_audio\":{\"data\":\"AAAA\",\"format\":\"wav\"}}]"), &anthropic,
     &plain, "refused: audio cannot", NULL},
    {"video with Responses", &chat,
     CHAT_USER("[{\"type\":\"video_url\",\"video_url\":{\"url\":\"data:video/mp4;base64,AAAA\"}}]"), &responses,
     &plain, "refused: video cannot", NULL},

    {"marks are kept", &anthropic,
     "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"x\",\"cache_control\":{"
     "\"type\":"
     "\"ephemeral\",\"ttl\":\"1h\"}}]}]}",
     &converse, &plain, "{text text=x cache ttl=1h}", "-cache"},
    {"marks are dropped", &anthropic,
     "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"x\",\"cache_control\":{"
     "\"type\":"
     "\"ephemeral\"}}]}],\"tools\":[{\"name\":\"f\",\"input_schema\":{},\"cache_control\":{\"type\":\"ephemeral\"}"
     "}]}",
     &responses, &plain, " -cache_control", " cache"},

    {"hosted tools are dropped by name", &responses,
     "{\"input\":\"x\",\"tools\":[{\"type\":\"web_search\"},{\"type\":\"mcp\"}]}", &anthropic, &plain,
     " -tools.web_search -tools.mcp", "tool hosted"},
    {"free text tools stay", &responses, CUSTOM, &responses, &plain, "tool custom name=p", NULL},
    {"free text tools become functions", &responses, CUSTOM, &chat, &plain,
     "{call id=c name=p arguments={\"input\":\"a\\\"b\"}}", " -"},
    {"with their grammar", &responses, CUSTOM, &anthropic, &plain,
     "tool function name=p description=d\\n\\n\\\"input\\\" must follow this lark grammar:\\nstart: x "
     "schema={\"type\":\"object\",\"properties\":{\"input\":",
     "raw="},
    {"strict is kept", &responses,
     "{\"input\":\"x\",\"tools\":[{\"type\":\"function\",\"name\":\"f\",\"strict\":true}]}", &chat, &plain,
     "strict=1", NULL},
    {"strict is dropped", &responses,
     "{\"input\":\"x\",\"tools\":[{\"type\":\"function\",\"name\":\"f\",\"strict\":true}]}", &gemini, &plain,
     " -tools.strict", "strict=1"},
    {"a forced tool", &chat, CHAT_WITH(TOOL "\"tool_choice\":\"required\""), &ollama, &plain, " -tool_choice",
     "choice required"},
    {"no tool at all", &chat, CHAT_WITH(TOOL "\"tool_choice\":\"none\""), &ollama, &plain, "choice unsaid",
     "tool function"},
    {"a choice without tools says nothing", &chat,
     CHAT_WITH("\"tool_choice\":\"auto\",\"parallel_tool_calls\":true"), &responses, &plain, "choice unsaid\n",
     NULL},
    {"a choice of a tool that is gone", &responses,
     "{\"input\":\"x\",\"tools\":[{\"type\":\"function\",\"name\":\"f\"}],\"tool_choice\":{\"type\":\"function\","
     "\"name\":\"g\"}}",
     &chat, &plain, " -tool_choice", "named"},
    {"one call at a time", &chat, CHAT_WITH(TOOL "\"parallel_tool_calls\":false"), &anthropic, &plain,
     "parallel=0", NULL},
    {"one call at a time, where that cannot be said", &chat, CHAT_WITH(TOOL "\"parallel_tool_calls\":false"),
     &gemini, &plain, " -parallel_tool_calls", "parallel=0"},
    {"a failed result", &anthropic,
     "{\"messages\":[{\"role\":\"assistant\",\"content\":[{\"type\":\"tool_use\",\"id\":\"c\",\"name\":\"f\","
     "\"input\":{}}]},{"
     "\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"c\",\"is_error\":true,"
     "\"content\":\"no\"}]}]}",
     &chat, &plain, " -tool_result.is_error", "failed"},

    {"an id that fits", &chat, CALLED("call_a-B9"), &anthropic, &plain, "{call id=call_a-B9 ", NULL},
    {"an id with a colon", &chat, CALLED("functions.f:0"), &anthropic, &plain, "{call id=call_", "functions.f:0"},
    {"which Bedrock takes", &chat, CALLED("functions.f:0"), &converse, &plain, "{call id=functions.f:0 ", NULL},
    {"an id of 65 bytes", &chat, CALLED("aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffggggg"),
     &converse, &plain, "{call id=call_", "ggggg"},
    {"one of 41 bytes in chat", &chat, CALLED("aaaaaaaaaabbbbbbbbbbccccccccccddddddddddg"), &chat, &plain,
     "{call id=call_", "ddg"},
    {"Gemini takes any", &chat, CALLED("functions.f:0"), &gemini, &plain, "{call id=functions.f:0 ", NULL},
    {"nine letters and digits", &chat, CALLED("abcdefgh1"), &chat, &mistral, "{call id=abcdefgh1 ", NULL},

    {"a small limit", &chat, CHAT_WITH("\"max_tokens\":5"), &responses, &plain, "max_tokens=16", " -"},
    {"a high temperature", &chat, CHAT_WITH("\"temperature\":1.5"), &anthropic, &plain, "temperature=1\n", NULL},
    {"a temperature of 1", &chat, CHAT_WITH("\"temperature\":1.0"), &converse, &plain, "temperature=1.0\n", NULL},
    {"top_k", &chat, CHAT_WITH("\"top_k\":5"), &responses, &plain, " -top_k", "top_k=5"},
    {"top_k with Anthropic", &chat, CHAT_WITH("\"top_k\":5"), &anthropic, &plain, "top_k=5", " -"},
    {"min_p", &chat, CHAT_WITH("\"min_p\":0.1"), &gemini, &plain, " -min_p", "min_p=0.1"},
    {"min_p with Ollama", &chat, CHAT_WITH("\"min_p\":0.1"), &ollama, &plain, "min_p=0.1", " -"},
    {"a seed", &chat, CHAT_WITH("\"seed\":5"), &converse, &plain, " -seed", "seed=5"},
    {"penalties", &chat, CHAT_WITH("\"presence_penalty\":1,\"frequency_penalty\":2"), &responses, &plain,
     " -presence_penalty -frequency_penalty", "presence=1"},
    {"penalties with Gemini", &chat, CHAT_WITH("\"presence_penalty\":1,\"frequency_penalty\":2"), &gemini, &plain,
     "presence=1 frequency=2", " -"},
    {"several answers", &chat, CHAT_WITH("\"n\":2"), &anthropic, &plain,
     "refused: several answers at once (`n`) cannot be given to a target that speaks Anthropic Messages", NULL},
    {"one answer", &chat, CHAT_WITH("\"n\":1"), &anthropic, &plain, "choice", "n=1"},
    {"log probabilities", &chat, CHAT_WITH("\"logprobs\":true,\"top_logprobs\":2"), &anthropic, &plain,
     " -logprobs", "logprobs="},
    {"log probabilities with Responses", &chat, CHAT_WITH("\"logprobs\":true,\"top_logprobs\":2"), &responses,
     &plain, "logprobs=1 top_logprobs=2", " -"},
    {"log probabilities with Ollama", &chat, CHAT_WITH("\"logprobs\":true,\"top_logprobs\":2"), &ollama, &plain,
     "logprobs=1 top_logprobs=2", " -"},
    {"log probabilities with Mistral", &chat, CHAT_WITH("\"logprobs\":true"), &chat, &mistral, " -logprobs", NULL},
    {"stops", &chat, CHAT_WITH("\"stop\":[\"a\"]"), &responses, &plain, " -stop", "stop=a"},
    {"five stops", &chat, CHAT_WITH("\"stop\":[\"a\",\"b\",\"c\",\"d\",\"e\"]"), &chat, &plain, "stop=d\n",
     "stop=e"},
    {"five stops with Gemini", &chat, CHAT_WITH("\"stop\":[\"a\",\"b\",\"c\",\"d\",\"e\"]"), &gemini, &plain,
     "stop=e", " -"},
    {"any JSON", &chat, CHAT_WITH("\"response_format\":{\"type\":\"json_object\"}"), &converse, &plain,
     " -response_format", "format="},
    {"any JSON with Anthropic", &chat, CHAT_WITH("\"response_format\":{\"type\":\"json_object\"}"), &anthropic,
     &plain, "format=2", " -"},
    {"a budget becomes an effort", &anthropic,
     "{\"max_tokens\":9000,\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":8000},\"messages\":[]}",
     &responses, &plain, "effort=4", "reasoning_tokens"},
    {"a user", &chat, CHAT_WITH("\"user\":\"u\""), &gemini, &plain, " -user", "user=u"},
    {"a tier", &chat, CHAT_WITH("\"service_tier\":\"flex\""), &ollama, &plain, " -service_tier", "tier=flex"},
    {"a cache key", &chat, CHAT_WITH("\"prompt_cache_key\":\"k\""), &anthropic, &plain, " -prompt_cache_key",
     "key=k"},
    {"a cache key with Mistral", &chat, CHAT_WITH("\"prompt_cache_key\":\"k\""), &chat, &mistral,
     " -prompt_cache_key", "key=k"},
    {"a cache key with Responses", &chat, CHAT_WITH("\"prompt_cache_key\":\"k\""), &responses, &plain,
     "cache_key=k", " -"},
    {"verbosity", &chat, CHAT_WITH("\"verbosity\":\"low\""), &converse, &plain, " -verbosity", "verbosity=low"},
};

static void each_row_of_the_table(void **state)
{
    (void)state;
    unsigned faults = 0;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct carry_row *r = &rows[i];
        struct arena a;
        struct buf out;
        arena_init(&a, 0, 0);
        buf_init(&out, 0);
        assert_int_equal(fitted(*r->from, span_str(r->in), *r->to, r->want, &a, &out), PD_OK);
        struct span got = buf_span(&out);
        if ((r->has && !span_has(got, r->has)) || (r->lacks && span_has(got, r->lacks))) {
            print_error("%s: should have %s, should not have %s, is\n%.*s\n", r->name, r->has,
                        r->lacks ? r->lacks : "-", SPAN_FMT(got));
            faults++;
        }
        buf_done(&out);
        arena_done(&a);
    }
    assert_int_equal(faults, 0);
}

/* The id that the call got, out of the text. */
static struct span id_of(struct span text)
{
    for (; text.n; text = span_from(text, 1))
        if (span_starts(text, "{call id="))
            break;
    text = span_from(text, strlen("{call id="));
    return span_cut(&text, ' ');
}

static void a_call_and_its_result_keep_one_id(void **state)
{
    (void)state;
    static const struct {
        const struct codec *const *to;
        const struct write_want *want;
        size_t n;
    } forms[] = {{&anthropic, &plain, 21}, {&chat, &mistral, 9}};
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        struct arena a;
        struct buf one, again, other;
        arena_init(&a, 0, 0);
        buf_init(&one, 0);
        buf_init(&again, 0);
        buf_init(&other, 0);
        const struct codec *to = *forms[i].to;
        assert_int_equal(fitted(chat, SPAN_LIT(CALLED("f:0")), to, forms[i].want, &a, &one), PD_OK);
        assert_int_equal(fitted(chat, SPAN_LIT(CALLED("f:0")), to, forms[i].want, &a, &again), PD_OK);
        assert_int_equal(fitted(chat, SPAN_LIT(CALLED("f:1")), to, forms[i].want, &a, &other), PD_OK);
        struct span id = id_of(buf_span(&one));
        assert_int_equal(id.n, forms[i].n);
        assert_true(span_has(buf_span(&one), arena_printf(&a, "{result id=%.*s ", SPAN_FMT(id))));
        assert_true(span_eq(id, id_of(buf_span(&again))));
        assert_false(span_eq(id, id_of(buf_span(&other))));
        buf_done(&one);
        buf_done(&again);
        buf_done(&other);
        arena_done(&a);
    }
}

/* A client of Responses is told the free text that a function's arguments stand for. */
static void a_tool_for_free_text_is_known_when_it_answers(void **state)
{
    (void)state;
    struct arena a;
    struct request_facts f;
    struct msg_request m;
    struct buf out;
    struct json v;
    const char *why;
    arena_init(&a, 0, 0);
    buf_init(&out, 0);
    assert_int_equal(responses->read_request(SPAN_LIT(CUSTOM), &(struct request_line){0}, &a, &f, &why), PD_OK);
    assert_int_equal(responses->parse_request(&f, &a, &m, &why), PD_OK);
    assert_int_equal(carry_fit(&m, anthropic, &plain, &a, &why), PD_OK);
    struct encode_want want = {.model = SPAN_LIT("m"), .id = SPAN_LIT("A"), .asked = &m};
    struct encoder *en = encoder_new(responses, &want, 1 << 20);
    assert_non_null(en);
    encoder_delta(en, &(struct msg_delta){.kind = MSG_TOOL_START, .text = SPAN_LIT("p"), .id = SPAN_LIT("c")});
    encoder_delta(en,
                  &(struct msg_delta){.kind = MSG_TOOL_ARGUMENTS, .text = SPAN_LIT("{\\\"input\\\":\\\"x\\\"}")});
    struct answer_facts facts = {.usage = MSG_USAGE_NONE, .finish = MSG_FINISH_TOOL_CALLS};
    assert_int_equal(encoder_whole(en, &facts, &out), PD_OK);
    assert_int_equal(json_first(buf_span(&out), &v, NULL), PD_OK);
    assert_true(json_is(json_path(v, "output.0.type"), "custom_tool_call"));
    assert_true(json_is(json_path(v, "output.0.input"), "x"));
    encoder_free(en);
    buf_done(&out);
    arena_done(&a);
}

static void the_table_is_markdown(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, 0);
    assert_int_equal(carry_write_markdown(&out), PD_OK);
    struct span text = buf_span(&out);
    unsigned lines = 0;
    while (text.n) {
        struct span line = span_cut(&text, '\n');
        unsigned bars = 0;
        for (size_t i = 0; i < line.n; i++)
            bars += line.p[i] == '|';
        assert_int_equal(bars, 9);
        lines++;
    }
    assert_true(lines > 40);
    buf_done(&out);
}

static pd_err fit_one(void *ctx)
{
    const struct carry_row *r = ctx;
    struct arena a;
    struct buf out;
    arena_init(&a, 0, 0);
    buf_init(&out, 0);
    pd_err e = fitted(*r->from, span_str(r->in), *r->to, r->want, &a, &out);
    buf_done(&out);
    arena_done(&a);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        torture_lenient(fit_one, (void *)(uintptr_t)&rows[i]); /* a sentence may be a shorter one */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_row_of_the_table),
        cmocka_unit_test(a_call_and_its_result_keep_one_id),
        cmocka_unit_test(a_tool_for_free_text_is_known_when_it_answers),
        cmocka_unit_test(the_table_is_markdown),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
