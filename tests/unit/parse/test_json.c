#include "base/mem.h"
#include "parse/json.h"
#include "torture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "test.h"

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

/* ---- json_check -------------------------------------------------------------- */

static const struct doc {
    const char *text;
    pd_err check;
} docs[] = {
    {"{}", PD_OK},
    {"[]", PD_OK},
    {" \t\r\n{ \"a\" : [ 1 , 2 ] , \"b\" : { } } \n", PD_OK},
    {"null", PD_OK},
    {"true", PD_OK},
    {"false", PD_OK},
    {"\"\"", PD_OK},
    {"\"a\"", PD_OK},
    {"0", PD_OK},
    {"-0", PD_OK},
    {"-1.25e-7", PD_OK},
    {"1E+400", PD_OK},
    {"[0,10,0.5,1e5]", PD_OK},
    {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83D\\uDE00\"", PD_OK},
    {"\"\\ud800\"", PD_OK}, /* the grammar allows half a pair */
    {"\"0123456789abcdef0123456789abcdef\\\"0123456789abcdef\"", PD_OK},
    {"\"\x7f\xc3\xa9\xff\"", PD_OK}, /* UTF-8 is not this check's matter */
    {"{\"a\":{\"b\":[[],[{}],{\"c\":null}]},\"a\":1}", PD_OK},
    {"[[[[[]]]]]", PD_OK},

    {"", PD_SYNTAX},
    {"  ", PD_SYNTAX},
    {"{", PD_SYNTAX},
    {"[", PD_SYNTAX},
    {"}", PD_SYNTAX},
    {"{]", PD_SYNTAX},
    {"[}", PD_SYNTAX},
    {"[1}", PD_SYNTAX},
    {"{\"a\":[1,2}", PD_SYNTAX},
    {"[1,]", PD_SYNTAX},
    {"[,1]", PD_SYNTAX},
    {"[1 2]", PD_SYNTAX},
    {"[1,,2]", PD_SYNTAX},
    {"{,}", PD_SYNTAX},
    {"{\"a\":1,}", PD_SYNTAX},
    {"{\"a\"}", PD_SYNTAX},
    {"{\"a\":}", PD_SYNTAX},
    {"{\"a\" 1}", PD_SYNTAX},
    {"{\"a\":1 \"b\":2}", PD_SYNTAX},
    {"{a:1}", PD_SYNTAX},
    {"{1:1}", PD_SYNTAX},
    {"{'a':1}", PD_SYNTAX},
    {"{} {}", PD_SYNTAX},
    {"[]]", PD_SYNTAX},
    {"1 2", PD_SYNTAX},
    {"\"a", PD_SYNTAX},
    {"\"a\\", PD_SYNTAX},
    {"\"a\\\"", PD_SYNTAX},
    {"\"\\x\"", PD_SYNTAX},
    {"\"\\u12\"", PD_SYNTAX},
    {"\"\\u123", PD_SYNTAX},
    {"\"\\u12g4\"", PD_SYNTAX},
    {"\"\\u\"", PD_SYNTAX},
    {"\"a\nb\"", PD_SYNTAX},
    {"\"a\x1f\"", PD_SYNTAX},
    {"\"a tab and more than sixteen bytes: \t\"", PD_SYNTAX},
    {"01", PD_SYNTAX},
    {"-", PD_SYNTAX},
    {"+1", PD_SYNTAX},
    {"1.", PD_SYNTAX},
    {".5", PD_SYNTAX},
    {"1e", PD_SYNTAX},
    {"1e+", PD_SYNTAX},
    {"-a", PD_SYNTAX},
    {"0x10", PD_SYNTAX},
    {"NaN", PD_SYNTAX},
    {"Infinity", PD_SYNTAX},
    {"tru", PD_SYNTAX},
    {"truex", PD_SYNTAX},
    {"nul", PD_SYNTAX},
    {"True", PD_SYNTAX},
    {"\xef\xbb\xbf{}", PD_SYNTAX},
    {"[1]\f", PD_SYNTAX},
    {"\v1", PD_SYNTAX},
    {"// note\n1", PD_SYNTAX},
};

/* Each document in memory of exactly its size, so that a sanitizer sees one byte too far. */
static pd_err check_exactly(struct span s)
{
    char *p = malloc(s.n ? s.n : 1);
    memcpy(p, s.p, s.n);
    pd_err e = json_check(span_of(p, s.n));
    free(p);
    return e;
}

static void the_check_takes_json_and_nothing_else(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(docs); i++)
        if (check_exactly(span_str(docs[i].text)) != docs[i].check)
            fail_msg("%s", docs[i].text);
}

/* A container or string that is cut anywhere is no document; a document within an array is one. */
static void no_part_of_a_document_is_one(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(docs); i++) {
        struct span s = span_trim(span_str(docs[i].text));
        if (docs[i].check != PD_OK || !strchr("{[\"tfn", s.p[0]))
            continue;
        for (size_t cut = 0; cut < s.n; cut++)
            assert_int_equal(check_exactly(span_upto(s, cut)), PD_SYNTAX);
    }
}

static void a_control_byte_in_a_string_is_refused_at_every_place(void **state)
{
    (void)state;
    for (size_t at = 1; at < 40; at++) {
        char text[42];
        memset(text, 'x', sizeof(text));
        text[0] = text[40] = '"';
        assert_int_equal(json_check(span_of(text, 41)), PD_OK);
        text[at] = '\n';
        assert_int_equal(json_check(span_of(text, 41)), at < 40 ? PD_SYNTAX : PD_OK);
        text[at] = '\0';
        assert_int_equal(json_check(span_of(text, 41)), PD_SYNTAX);
    }
}

static void nesting_is_limited(void **state)
{
    (void)state;
    char text[2 * (JSON_DEPTH_MAX + 1)];
    struct json v;
    for (size_t depth = JSON_DEPTH_MAX - 1; depth <= JSON_DEPTH_MAX + 1; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        struct span s = span_of(text, 2 * depth);
        pd_err want = depth > JSON_DEPTH_MAX ? PD_TOOBIG : PD_OK;
        assert_int_equal(json_check(s), want);
        assert_int_equal(json_first(s, &v, NULL), want);
    }
}

/* ---- reading ------------------------------------------------------------------- */

/* Writes a value as it is walked: what was read, without the white space. */
static pd_err rewrite(struct json v, struct buf *out)
{
    struct json_walk w;
    struct json item;
    struct span key;
    if (v.type != JSON_OBJECT && v.type != JSON_ARRAY)
        return buf_add(out, v.raw);
    const char *sep = v.type == JSON_OBJECT ? "{" : "[";
    json_walk_init(&w, v);
    pd_err e = PD_OK;
    while (!e && json_walk_next(&w, &key, &item)) {
        e = buf_puts(out, sep);
        if (!e && w.object)
            e = buf_printf(out, "\"%.*s\":", SPAN_FMT(key));
        if (!e)
            e = rewrite(item, out);
        sep = ",";
    }
    if (!e && *sep != ',')
        e = buf_puts(out, sep);
    if (!e)
        e = w.err;
    return e ? e : buf_puts(out, v.type == JSON_OBJECT ? "}" : "]");
}

static pd_err read_all(struct span doc, struct buf *out)
{
    struct json v;
    struct span rest;
    pd_err e = json_first(doc, &v, &rest);
    if (!e)
        e = rewrite(v, out);
    if (!e && span_trim(rest).n)
        e = PD_SYNTAX;
    return e;
}

static void what_the_check_takes_can_be_read_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(docs); i++) {
        struct buf out;
        buf_init(&out, 0);
        pd_err e = read_all(span_str(docs[i].text), &out);
        if (docs[i].check == PD_OK && (e || json_check(buf_span(&out))))
            fail_msg("%s", docs[i].text);
        buf_done(&out);
    }
}

static const struct row {
    const char *name, *in, *out; /* out: rewritten; NULL: refused somewhere on the way */
} rows[] = {
    {"white space goes", " { \"a\" : [ 1 , \"x y\" ] } ", "{\"a\":[1,\"x y\"]}"},
    {"numbers keep their spelling", "[1.0,1e5,-0,12345678901234567890123]",
     "[1.0,1e5,-0,12345678901234567890123]"},
    {"brackets in strings are text", "{\"a]}\":\"]}{[\",\"b\":[\"}\"]}", "{\"a]}\":\"]}{[\",\"b\":[\"}\"]}"},
    {"an escaped quote does not end a string", "[\"a\\\"]\",\"\\\\\",\"\\\\\\\"\"]",
     "[\"a\\\"]\",\"\\\\\",\"\\\\\\\"\"]"},
    {"escaped keys stay escaped", "{\"\\u0061\\\"\":1}", "{\"\\u0061\\\"\":1}"},
    {"empty ones", "[[],{},\"\"]", "[[],{},\"\"]"},
    {"a comma too many", "[1,]", NULL},
    {"a comma too few", "[1 22]", NULL},
    {"no key", "{1}", NULL},
    {"no colon", "{\"a\" 11}", NULL},
    {"no value", "{\"a\":}", NULL},
    {"the wrong bracket", "[1}", NULL},
    {"the wrong bracket within", "[{\"a\":1],2}", NULL},
    {"a string that does not end", "[\"a]", NULL},
    {"an object that does not end", "{\"a\":1", NULL},
    {"a word that is none", "[nil]", NULL},
    {"a word with more behind", "[nullx]", NULL},
    {"text", "oops", NULL},
    {"nothing", "", NULL},
    {"blanks", "   ", NULL},
};

/* A fault shows at every offset to the blocks in which the reader works. */
static void walking_reads_every_row_at_every_offset(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++)
        for (size_t offset = 0; offset < 130; offset++) {
            struct buf in, out;
            buf_init(&in, 0);
            buf_init(&out, 0);
            assert_int_equal(buf_printf(&in, "[\"%*s\",%s]", (int)offset, "", rows[i].in), PD_OK);
            pd_err e = read_all(buf_span(&in), &out);
            struct span got = e ? SPAN_LIT(" ") : span_from(buf_span(&out), offset + 4);
            if (rows[i].out ? e || !span_is(span_upto(got, got.n - 1), rows[i].out) : e != PD_SYNTAX)
                fail_msg("%s at %zu: %s", rows[i].name, offset, pd_err_name(e));
            buf_done(&in);
            buf_done(&out);
        }
}

static void the_first_value_leaves_the_rest(void **state)
{
    (void)state;
    struct json v;
    struct span rest;
    assert_int_equal(json_first(SPAN_LIT(" {\"a\":1} [2]"), &v, &rest), PD_OK);
    assert_int_equal(v.type, JSON_OBJECT);
    assert_true(span_is(v.raw, "{\"a\":1}") && span_is(rest, " [2]"));
    assert_int_equal(json_first(rest, &v, &rest), PD_OK);
    assert_true(span_is(v.raw, "[2]") && rest.n == 0);
    assert_int_equal(json_first(rest, &v, &rest), PD_SYNTAX);
    assert_int_equal(json_first(SPAN_LIT("[1}"), &v, &rest), PD_SYNTAX);
    assert_int_equal(json_first(SPAN_LIT("{\"a\":[1,2}]"), &v, &rest), PD_SYNTAX);
    assert_int_equal(json_first(SPAN_LIT("-1.5e3,"), &v, &rest), PD_OK);
    assert_true(v.type == JSON_NUMBER && span_is(v.raw, "-1.5e3") && span_is(rest, ","));
}

static void walking_a_document_finds_its_end_without_a_first_pass(void **state)
{
    (void)state;
    struct json_walk w;
    struct json v;
    struct span key;
    json_walk_doc(&w, SPAN_LIT(" {\"a\":{\"b\":[1]},\"c\":2} tail"));
    assert_true(json_walk_next(&w, &key, &v));
    assert_true(span_is(key, "a") && span_is(v.raw, "{\"b\":[1]}"));
    assert_true(json_walk_next(&w, &key, &v));
    assert_true(span_is(key, "c") && span_is(v.raw, "2"));
    assert_false(json_walk_next(&w, &key, &v));
    assert_int_equal(w.err, PD_OK);
    assert_true(span_is(w.rest, " tail"));
    assert_false(json_walk_next(&w, &key, &v));
    assert_true(w.err == PD_OK && span_is(w.rest, " tail"));

    static const char *const bad[] = {"", "  ", "1", "\"a\"", "{\"a\":1", "[1", "{", "[1,", "{\"a\"", "{\"a\":"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        json_walk_doc(&w, span_str(bad[i]));
        while (json_walk_next(&w, &key, &v))
            ;
        assert_int_equal(w.err, PD_SYNTAX);
    }
    json_walk_doc(&w, SPAN_NONE);
    assert_false(json_walk_next(&w, &key, &v));
    assert_int_equal(w.err, PD_SYNTAX);
}

static void a_scalar_has_no_members(void **state)
{
    (void)state;
    struct json_walk w;
    struct json v, none = {0};
    assert_int_equal(json_first(SPAN_LIT("\"{}\""), &v, NULL), PD_OK);
    json_walk_init(&w, v);
    assert_false(json_walk_next(&w, NULL, &v));
    assert_int_equal(w.err, PD_OK);
    json_walk_init(&w, none);
    assert_false(json_walk_next(&w, NULL, &v));
    assert_int_equal(json_get(none, "a").type, JSON_NONE);
}

static struct json value(const char *text)
{
    struct json v = {0};
    assert_int_equal(json_first(span_str(text), &v, NULL), PD_OK);
    return v;
}

static void members_are_found_by_key_and_path(void **state)
{
    (void)state;
    static const struct {
        const char *in, *path, *raw; /* raw NULL: not there */
    } paths[] = {
        {"{\"a\":1,\"b\":2}", "b", "2"},
        {"{\"a\":1,\"a\":2,\"b\":3}", "a", "2"},
        {"{\"a\":1}", "b", NULL},
        {"{\"a\":1}", "", NULL},
        {"{\"ab\":1}", "a", NULL},
        {"{\"\\u0061\":1}", "a", "1"},
        {"{\"a\\\\\":1}", "a\\", "1"},
        {"{\"a\\\\\":1}", "a\\\\", NULL},
        {"{\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}", "choices.0.delta.content", "\"hi\""},
        {"{\"choices\":[]}", "choices.0.delta", NULL},
        {"[[1,2],[3,4]]", "1.0", "3"},
        {"[1]", "1", NULL},
        {"[1]", "-1", NULL},
        {"[1]", "x", NULL},
        {"{\"0\":7}", "0", "7"},
        {"{\"a\":5}", "a.b", NULL},
        {"7", "a", NULL},
        {"{\"a\":1,\"b\" 2}", "a", "1"}, /* a fault behind it does not hide it */
    };
    for (size_t i = 0; i < COUNT(paths); i++) {
        struct json v = json_path(value(paths[i].in), paths[i].path);
        if (paths[i].raw ? !span_is(v.raw, paths[i].raw) : v.type != JSON_NONE)
            fail_msg("%s in %s", paths[i].path, paths[i].in);
    }
    assert_true(span_is(json_get(value("{\"a\":1,\"a\":[2]}"), "a").raw, "[2]"));
}

/* ---- strings --------------------------------------------------------------------- */

static void strings_are_read_as_text(void **state)
{
    (void)state;
    static const struct {
        const char *in, *text;
        size_t n;
        pd_err err;
    } texts[] = {
        {"\"\"", "", 0, PD_OK},
        {"\"abc\"", "abc", 3, PD_OK},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 8, PD_OK},
        {"\"a\\u00e9\\u20AC\\ud83d\\ude00z\"", "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z", 11, PD_OK},
        {"\"\\u0000\"", "\0", 1, PD_OK},
        {"\"\\ud800\"", "\xef\xbf\xbd", 3, PD_OK},
        {"\"\\udc00x\"", "\xef\xbf\xbdx", 4, PD_OK},
        {"\"\\ud800\\ud83d\\ude00\"", "\xef\xbf\xbd\xf0\x9f\x98\x80", 7, PD_OK},
        {"\"\\ud83d\\n\"", "\xef\xbf\xbd\n", 4, PD_OK},
        {"\"\\ud83d\\u0041\"", "\357\277\275A", 4, PD_OK},
        {"\"\\uffff\"", "\xef\xbf\xbf", 3, PD_OK},
        {"\"\\x\"", NULL, 0, PD_SYNTAX},
        {"\"\\u12\"", NULL, 0, PD_SYNTAX},
        {"\"a\\u12\"", NULL, 0, PD_SYNTAX},
        {"\"\\ud83d\\u12\"", NULL, 0, PD_SYNTAX},
        {"7", NULL, 0, PD_INVALID},
        {"[\"a\"]", NULL, 0, PD_INVALID},
    };
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct arena a;
        struct span got = SPAN_NONE;
        arena_init(&a, 0, 0);
        pd_err e = json_text(value(texts[i].in), &a, &got);
        if (e != texts[i].err || (!e && !span_eq(got, span_of(texts[i].text, texts[i].n))))
            fail_msg("%s", texts[i].in);
        arena_done(&a);
    }
}

static void text_without_escapes_points_into_the_source(void **state)
{
    (void)state;
    struct arena a;
    struct span got;
    struct json v = value("\"plain\"");
    arena_init(&a, 0, 0);
    assert_int_equal(json_text(v, &a, &got), PD_OK);
    assert_ptr_equal(got.p, v.raw.p + 1);
    assert_int_equal(a.used_bytes, 0);
    arena_done(&a);
}

static void every_byte_of_a_string_is_looked_at(void **state)
{
    (void)state;
    char doc[100];
    for (unsigned at = 0; at < 80; at++)
        for (int c = 0; c < 256; c++) {
            memset(doc, 'a', sizeof(doc));
            doc[0] = doc[81] = '"';
            doc[1 + at] = (char)c;
            bool plain = c >= 0x20 && c != '"' && c != '\\';
            /* 'a' is no escape; before the closing quote a backslash takes it away */
            assert_int_equal(json_check(span_of(doc, 82)) == PD_OK, plain);
        }
}

static void a_document_s_value_is_what_stands_between_its_white_space(void **state)
{
    (void)state;
    static const struct {
        const char *doc, *raw;
        enum json_type type;
    } documents[] = {{" {\"a\":1}\r\n", "{\"a\":1}", JSON_OBJECT},
                     {"\t[1] ", "[1]", JSON_ARRAY},
                     {"\" a \"", "\" a \"", JSON_STRING},
                     {"true", "true", JSON_BOOL},
                     {" false", "false", JSON_BOOL},
                     {"null\n", "null", JSON_NULL},
                     {"-1.5e3", "-1.5e3", JSON_NUMBER},
                     {"0", "0", JSON_NUMBER}};
    for (size_t i = 0; i < sizeof(documents) / sizeof(documents[0]); i++) {
        struct json v;
        assert_int_equal(json_doc(span_str(documents[i].doc), &v), PD_OK);
        assert_true(span_is(v.raw, documents[i].raw));
        assert_int_equal(v.type, documents[i].type);
    }
    struct json v;
    assert_int_equal(json_doc(SPAN_LIT(" "), &v), PD_SYNTAX);
    assert_int_equal(json_doc(SPAN_LIT("{} {}"), &v), PD_SYNTAX);
}

static void text_is_compared_without_being_unescaped(void **state)
{
    (void)state;
    assert_true(json_is(value("\"stop\""), "stop"));
    assert_true(json_is(value("\"\\u0073top\""), "stop"));
    assert_true(json_is(value("\"\\\"\""), "\""));
    assert_true(json_is(value("\"\\u00e9\""), "\xc3\xa9"));
    assert_true(json_is(value("\"\""), ""));
    assert_false(json_is(value("\"\\n\""), "\\n"));
    assert_false(json_is(value("\"stops\""), "stop"));
    assert_false(json_is(value("\"sto\\x\""), "stop"));
    assert_false(json_is(value("\"\\u0073to\""), "stop"));
    assert_false(json_is(value("7"), "7"));
    assert_true(json_key_is(SPAN_NONE, ""));
    assert_false(json_key_is(SPAN_LIT("stop"), ""));
    assert_true(json_key_is(SPAN_LIT("st\\u006fp"), "stop"));
    assert_true(json_key_is(SPAN_LIT("\\u0073top"), "stop"));
    assert_false(json_key_is(SPAN_LIT("stops"), "stop"));
    assert_false(json_key_is(SPAN_LIT("stopped"), "step"));
    assert_false(json_key_is(SPAN_LIT("a\\b"), "a\\b"));
    assert_true(span_is(json_inner(value("\"a\\n\"")), "a\\n"));
    assert_int_equal(json_inner(value("7")).n, 0);
}

static void strings_are_written_so_that_reading_gives_them_back(void **state)
{
    (void)state;
    struct buf out;
    struct arena a;
    struct span back;
    buf_init(&out, 0);
    arena_init(&a, 0, 0);
    for (unsigned c = 0; c < 0x110000; c += c < 0x900 ? 1 : 251) {
        if (c >= 0xd800 && c <= 0xdfff)
            continue;
        char utf8[8];
        char spelled[32];
        snprintf(spelled, sizeof(spelled), c < 0x10000 ? "\"x\\u%04x\"" : "\"x\\u%04x\\u%04x\"",
                 c < 0x10000 ? c : 0xd800 + ((c - 0x10000) >> 10), 0xdc00 + (c & 0x3ff));
        assert_int_equal(json_text(value(spelled), &a, &back), PD_OK);
        assert_true(back.n <= sizeof(utf8));
        memcpy(utf8, back.p, back.n);
        struct span text = span_of(utf8, back.n);
        assert_int_equal(json_put_str(&out, text), PD_OK);
        assert_int_equal(json_check(buf_span(&out)), PD_OK);
        struct json v;
        assert_int_equal(json_first(buf_span(&out), &v, NULL), PD_OK);
        assert_int_equal(json_text(v, &a, &back), PD_OK);
        assert_true(span_eq(back, text));
        buf_clear(&out);
        arena_reset(&a);
    }
    arena_done(&a);
    buf_done(&out);
}

static void strings_are_written_as_valid_json_and_utf8(void **state)
{
    (void)state;
    static const struct {
        struct span in;
        const char *out;
    } puts[] = {
        {{"", 0}, "\"\""},
        {{NULL, 0}, "\"\""},
        {{"a\"b\\c/", 6}, "\"a\\\"b\\\\c/\""},
        {{"\b\f\n\r\t\x01\x1f\x7f\0", 9}, "\"\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\\u0000\""},
        {{"\xc3\xa9\xf0\x9f\x98\x80", 6}, "\"\xc3\xa9\xf0\x9f\x98\x80\""},
        {{"a\377b\303", 4}, "\"a\357\277\275b\357\277\275\""},
        {{"\xed\xa0\x80", 3}, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
    };
    for (size_t i = 0; i < COUNT(puts); i++) {
        struct buf out;
        buf_init(&out, 0);
        assert_int_equal(json_put_str(&out, puts[i].in), PD_OK);
        if (!span_is(buf_span(&out), puts[i].out))
            fail_msg("row %zu: %.*s", i, (int)buf_size(&out), out.p);
        buf_done(&out);
    }
}

static void a_string_that_does_not_fit_leaves_nothing_behind(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, 12);
    assert_int_equal(buf_puts(&out, "12345"), PD_OK);
    assert_int_equal(json_put_str(&out, SPAN_LIT("abcdef")), PD_TOOBIG);
    assert_int_equal(json_put_str(&out, SPAN_LIT("a\n\n\n")), PD_TOOBIG);
    assert_true(span_is(buf_span(&out), "12345"));
    assert_int_equal(json_put_str(&out, SPAN_LIT("abcde")), PD_OK);
    buf_done(&out);
}

/* ---- numbers --------------------------------------------------------------------- */

static void whole_numbers_are_read_whatever_their_spelling(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        bool is;
        int64_t value;
    } numbers[] = {
        {"0", true, 0},
        {"-0", true, 0},
        {"0.0", true, 0},
        {"0e99999999999999999999", true, 0},
        {"42", true, 42},
        {"-42", true, -42},
        {"1e3", true, 1000},
        {"5.0", true, 5},
        {"1.5e1", true, 15},
        {"1500e-2", true, 15},
        {"0.001e3", true, 1},
        {"100.00e-2", true, 1},
        {"9223372036854775807", true, INT64_MAX},
        {"-9223372036854775808", true, INT64_MIN},
        {"9223372036854775.807e3", true, INT64_MAX},
        {"1e18", true, 1000000000000000000},
        {"9223372036854775808", false, 0},
        {"-9223372036854775809", false, 0},
        {"1e19", false, 0},
        {"1e99999999999999999999", false, 0},
        {"1e-99999999999999999999", false, 0},
        {"18446744073709551617", false, 0},
        {"0.5", false, 0},
        {"15e-1", false, 0},
        {"1.5", false, 0},
        {"01", false, 0},
        {"1.", false, 0},
        {"1e", false, 0},
        {"1-2", false, 0},
        {"-", false, 0},
        {"\"1\"", false, 0},
        {"true", false, 0},
    };
    for (size_t i = 0; i < COUNT(numbers); i++) {
        int64_t got = 77;
        bool is = json_i64(value(numbers[i].in), &got);
        if (is != numbers[i].is || got != (is ? numbers[i].value : 77))
            fail_msg("%s", numbers[i].in);
    }
}

static void doubles_are_read_exactly(void **state)
{
    (void)state;
    double d = 7;
    assert_true(json_f64(value("0.1"), &d) && d == 0.1);
    assert_true(json_f64(value("-1.25e2"), &d) && d == -125.0);
    assert_true(json_f64(value("1e-400"), &d) && d == 0.0);
    assert_true(json_f64(value("2.2250738585072011e-308"), &d) && d == 2.2250738585072011e-308);
    d = 7;
    assert_false(json_f64(value("1e400"), &d));
    assert_false(json_f64(value("1.e5"), &d));
    assert_false(json_f64(value("\"1\""), &d));
    assert_true(d == 7);

    char longest[1002];
    memset(longest, '1', sizeof(longest));
    longest[1] = '.';
    longest[1001] = '\0';
    assert_false(json_f64(value(longest), &d));
    longest[1000] = '\0';
    assert_true(json_f64(value(longest), &d) && d > 1.11 && d < 1.12);
}

static void only_true_is_true(void **state)
{
    (void)state;
    assert_true(json_is_true(value("true")));
    assert_false(json_is_true(value("false")));
    assert_false(json_is_true(value("1")));
    assert_false(json_is_true(value("\"true\"")));
    assert_false(json_is_true((struct json){0}));
}

/* ---- memory ------------------------------------------------------------------------ */

static pd_err unescape(void *ctx)
{
    struct arena a;
    struct buf out;
    struct span text;
    arena_init(&a, 0, 0);
    buf_init(&out, 0);
    pd_err e = json_text(value(ctx), &a, &text);
    if (!e)
        e = json_put_str(&out, text);
    arena_done(&a);
    buf_done(&out);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    char in[400];
    memset(in, 'a', sizeof(in));
    memcpy(in, "\"\\n\\n\\n\\n\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001", 45);
    for (size_t i = 0; i < 200; i += 6)
        memcpy(in + 45 + i, "\\u0002", 6);
    in[398] = '"';
    in[399] = '\0';
    assert_true(torture(unescape, in) >= 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_check_takes_json_and_nothing_else),
        cmocka_unit_test(no_part_of_a_document_is_one),
        cmocka_unit_test(a_control_byte_in_a_string_is_refused_at_every_place),
        cmocka_unit_test(nesting_is_limited),
        cmocka_unit_test(what_the_check_takes_can_be_read_whole),
        cmocka_unit_test(walking_reads_every_row_at_every_offset),
        cmocka_unit_test(the_first_value_leaves_the_rest),
        cmocka_unit_test(walking_a_document_finds_its_end_without_a_first_pass),
        cmocka_unit_test(a_scalar_has_no_members),
        cmocka_unit_test(members_are_found_by_key_and_path),
        cmocka_unit_test(strings_are_read_as_text),
        cmocka_unit_test(text_without_escapes_points_into_the_source),
        cmocka_unit_test(every_byte_of_a_string_is_looked_at),
        cmocka_unit_test(a_document_s_value_is_what_stands_between_its_white_space),
        cmocka_unit_test(text_is_compared_without_being_unescaped),
        cmocka_unit_test(strings_are_written_so_that_reading_gives_them_back),
        cmocka_unit_test(strings_are_written_as_valid_json_and_utf8),
        cmocka_unit_test(a_string_that_does_not_fit_leaves_nothing_behind),
        cmocka_unit_test(whole_numbers_are_read_whatever_their_spelling),
        cmocka_unit_test(doubles_are_read_exactly),
        cmocka_unit_test(only_true_is_true),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
