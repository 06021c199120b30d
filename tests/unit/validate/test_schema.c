/* What fits is never refused, and what is refused is told where and why. */
#include "base/buf.h"
#include "torture.h"
#include "validate/schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "test.h"

#define NEW "'$schema':'https://json-schema.org/draft/2020-12/schema',"
#define OLD "'$schema':'http://json-schema.org/draft-07/schema#',"

/* In each row: values that fit, and values that do not, split by spaces outside of strings. Written with ' for ". */
static const struct row {
    const char *schema, *fit, *not ;
} rows[] = {
    /* schemas that are no objects */
    {"true", "1 null {}", ""},
    {"false", "", "1 null {}"},
    {"{}", "1 'a' [] null", ""},
    {"3", "1 'a'", ""},
    /* type */
    {"{'type':'string'}", "'' '3'", "3 null true [] {}"},
    {"{'type':'number'}", "3 3.5 -1e9", "'3' null true [] {}"},
    {"{'type':'integer'}", "3 3.0 1e3 -0 0.5e1", "3.5 '3' 1e-1 null"},
    {"{'type':'boolean'}", "true false", "0 'true' null"},
    {"{'type':'null'}", "null", "0 '' false"},
    {"{'type':'array'}", "[] [1]", "{} 'a'"},
    {"{'type':'object'}", "{} {'a':1}", "[] 'a'"},
    {"{'type':['string','null']}", "'a' null", "1 [] {}"},
    {"{'type':[]}", "", "1"},
    {"{'type':'any'}", "1 'a' null", ""},
    {"{'type':['any','string']}", "1 'a'", ""},
    {"{'type':7}", "1 'a'", ""},
    {"{'type':'STRING'}", "'a'", "1"},
    {"{'type':'OBJECT','properties':{'n':{'type':'INTEGER'}}}", "{'n':1}", "{'n':'1'} 3"},
    {"{'type':'string','nullable':true}", "'a' null", "1"},
    {"{'type':'string','nullable':false}", "'a'", "1 null"},
    {"{'type':'string','nullable':true,'enum':['a']}", "'a' null", "'b'"},
    /* enum, const: by meaning */
    {"{'enum':[1,'a',null,{'x':[1,2]}]}", "1 1.0 10e-1 'a' '\\u0061' null {'x':[1.0,2]}",
     "2 'b' false {'x':[2,1]} {'x':[1,2],'y':1} {} [1] '1'"},
    {"{'enum':[9007199254740993]}", "9007199254740993", "9007199254740992"},
    {"{'enum':[{'a':1,'b':2}]}", "{'b':2,'a':1} {'\\u0061':1,'b':2}", "{'a':1} {'a':1,'b':2,'c':3}"},
    {"{'enum':[]}", "", "1"},
    {"{'enum':1}", "1 2", ""},
    {"{'const':1}", "1 1.0", "2 '1' true"},
    {"{'const':null}", "null", "0"},
    {"{'const':[false]}", "[false]", "[0] [] [false,false]"},
    /* objects */
    {"{'properties':{'a':{'type':'integer'},'b':false}}", "{} {'a':1} {'a':1,'c':2} 5 []",
     "{'a':'x'} {'b':1} {'\\u0061':'x'}"},
    {"{'properties':{'a\\nb':{'type':'integer'}}}", "{'a\\nb':1}", "{'a\\nb':'x'} {'a\\u000ab':'x'}"},
    {"{'properties':{'a':{'type':'integer'}}}", "{'a':'x','a':1}", "{'a':1,'a':'x'}"},
    {"{'required':['a','b']}", "{'a':1,'b':null} {'a':1,'b':2,'c':3} [] 'x'", "{} {'a':1} {'b':1}"},
    {"{'required':[]}", "{}", ""},
    {"{'required':true}", "{}", ""},
    {"{'required':[1]}", "{}", ""},
    {"{'properties':{'a':{}},'additionalProperties':false}", "{} {'a':1} 3", "{'b':1} {'a':1,'b':2}"},
    {"{'properties':{'a':{}},'additionalProperties':{'type':'string'}}", "{'a':1,'b':'x'}", "{'b':1}"},
    {"{'additionalProperties':true}", "{'b':1}", ""},
    {"{'additionalProperties':false}", "{}", "{'b':1}"},
    {"{'patternProperties':{'^f.*o$':{'type':'integer'}}}", "{'foo':1} {'bar':'x'} {'foooo':2}",
     "{'foo':'x'} {'fo':[]}"},
    {"{'patternProperties':{'^x-':{}},'additionalProperties':false}", "{'x-a':1} {}", "{'y':1}"},
    {"{'patternProperties':{'(':{}},'additionalProperties':false}", "{'y':1}", ""},
    {"{'propertyNames':{'maxLength':2}}", "{} {'ab':1}", "{'abc':1}"},
    {"{'propertyNames':false}", "{} 3", "{'a':1}"},
    {"{'minProperties':1,'maxProperties':2}", "{'a':1} {'a':1,'b':2} {'a':1,'a':2,'b':1} 5",
     "{} {'a':1,'b':2,'c':3}"},
    {"{'dependentRequired':{'a':['b']}}", "{} {'b':1} {'a':1,'b':2} 3", "{'a':1}"},
    {"{'dependentSchemas':{'a':{'required':['b']}}}", "{} {'a':1,'b':2}", "{'a':1}"},
    {"{" OLD "'dependencies':{'a':['b'],'c':{'required':['d']}}}", "{} {'a':1,'b':2} {'c':1,'d':1}",
     "{'a':1} {'c':1}"},
    {"{" NEW "'dependencies':{'a':['b']}}", "{'a':1}", ""},
    /* arrays */
    {"{'items':{'type':'integer'}}", "[] [1,2] {}", "[1,'a']"},
    {"{'items':false}", "[]", "[1]"},
    {"{'prefixItems':[{'type':'integer'},{'type':'string'}]}", "[] [1] [1,'a'] [1,'a',null]", "['a'] [1,2]"},
    {"{'prefixItems':[{}],'items':false}", "[] [1]", "[1,2]"},
    {"{'items':[{'type':'integer'}],'additionalItems':{'type':'string'}}", "[] [1] [1,'a']", "['a'] [1,2]"},
    {"{'items':{},'additionalItems':false}", "[1,2]", ""},
    {"{'minItems':1,'maxItems':2}", "[1] [1,2] 'x' {}", "[] [1,2,3]"},
    {"{'minItems':1.0}", "[1]", "[]"},
    {"{'minItems':'3'}", "[] [1]", ""},
    {"{'contains':{'minimum':5}}", "[5] [1,2,6] {}", "[] [1,2]"},
    {"{'contains':{'minimum':5},'minContains':2,'maxContains':3}", "[5,6] [5,1,6,7]", "[5] [5,6,7,8] []"},
    {"{'contains':{'minimum':5},'minContains':0}", "[] [1]", ""},
    {"{'contains':{'x-new':1}}", "[1]", "[]"},
    {"{" OLD "'contains':{'minimum':5},'minContains':2}", "[5]", "[]"},
    {"{'uniqueItems':true}", "[] [1,2] [1,'1'] [{'a':1},{'a':2}] [true,1] [9007199254740993,9007199254740992]",
     "[1,1.0] ['a','\\u0061'] [{'a':1,'b':2},{'b':2,'a':1}] [[1],[2],[1]] [3,2,1,2]"},
    {"{'uniqueItems':false}", "[1,1]", ""},
    /* strings */
    {"{'minLength':2,'maxLength':3}", "'ab' 'abc' '\xc3\xa4\xc3\xb6\xc3\xbc' '\\u00e4\\n' 5 []",
     "'a' 'abcd' '\xc3\xa4' '\\u00e4'"},
    {"{'minLength':2}", "'\\ud83d\\ude00x'", "'\\ud83d\\ude00'"},
    {"{'pattern':'^a+$'}", "'aa' 5 null", "'ab' ''"},
    {"{'pattern':'^\\\\d+$'}", "'12'", "'x'"},
    {"{'pattern':'('}", "'ab'", ""},
    {"{'pattern':5}", "'ab'", ""},
    {"{'format':'email'}", "'no' 5", ""},
    /* numbers */
    {"{'minimum':1.5}", "1.5 2 'a'", "1.4 -3"},
    {"{'maximum':300}", "300 300.0 3e2 'a'", "300.5 3e3"},
    {"{'exclusiveMinimum':1}", "1.1 2", "1 1.0 0"},
    {"{'exclusiveMaximum':3}", "2.9", "3 3.5"},
    {"{'minimum':1,'exclusiveMinimum':true}", "2", "1 0"},
    {"{'maximum':3,'exclusiveMaximum':true}", "2", "3 4"},
    {"{'maximum':3,'exclusiveMaximum':false}", "3", "4"},
    {"{'minimum':-2}", "-1 -2.0 0", "-2.0001 -3"},
    {"{'minimum':'1'}", "0", ""},
    {"{'multipleOf':0.01}", "4.35 0 1 'a'", "4.355 0.001"},
    {"{'multipleOf':2}", "4 -4 0", "3"},
    {"{'multipleOf':0}", "4", ""},
    /* schemas of schemas */
    {"{'allOf':[{'minimum':1},{'maximum':3}]}", "2 'a'", "0 4"},
    {"{'allOf':[]}", "1", ""},
    {"{'anyOf':[{'type':'integer'},{'minimum':2}]}", "1 2.5 'a'", "1.5"},
    {"{'anyOf':[{'type':'string'},{'type':'null'}]}", "'a' null", "1"},
    {"{'anyOf':[{'type':'string'},{'x-new':1}]}", "'a' 1", ""},
    {"{'anyOf':3}", "1", ""},
    {"{'oneOf':[{'type':'integer'},{'minimum':2}]}", "1 2.5", "3 1.5"},
    {"{'oneOf':[{'type':'integer'},{'minimum':2},{'x-new':1}]}", "1 1.5 2.5", "3"},
    {"{'oneOf':[true,true]}", "", "1"},
    {"{'not':{'type':'integer'}}", "'a' 1.5", "1"},
    {"{'not':{}}", "", "1 {}"},
    {"{'not':{'x-new':1}}", "1", ""},
    {"{'not':{'format':'email'}}", "'a'", ""},
    {"{'not':{'$ref':'other.json'}}", "'a'", ""},
    {"{'not':{'not':{'type':'integer'}}}", "1", "'a'"},
    {"{'if':{'minimum':10},'then':{'multipleOf':2},'else':{'maximum':5}}", "10 12 3", "11 7"},
    {"{'if':{'minimum':10}}", "1 11", ""},
    {"{'then':false,'else':false}", "1", ""},
    {"{'if':{'x-new':1},'then':false}", "1", ""},
    {"{'if':{'properties':{'k':{'const':'a'}},'required':['k']},'then':{'required':['x']}}",
     "{'k':'b'} {'k':'a','x':1} {}", "{'k':'a'}"},
    /* references */
    {"{'$ref':'#/$defs/n','$defs':{'n':{'type':'integer'}}}", "1", "'a'"},
    {"{'properties':{'a':{'$ref':'#/definitions/n'}},'definitions':{'n':{'type':'integer'}}}", "{'a':1}",
     "{'a':'x'}"},
    {"{'properties':{'c':{'$ref':'#'}},'additionalProperties':false}", "{'c':{'c':{}}}", "{'c':{'d':1}} {'d':1}"},
    {"{'$ref':'#/$defs/a~1b~0c%25d','$defs':{'a/b~c%d':{'type':'integer'}}}", "1", "'a'"},
    {"{'$ref':'#/$defs/l/1','$defs':{'l':[true,{'type':'integer'}]}}", "1", "'a'"},
    {"{'$ref':'#/$defs/none'}", "1 'a'", ""},
    {"{'$ref':'#none'}", "1 'a'", ""},
    {"{'$ref':'http://example.com/x'}", "1 'a'", ""},
    {"{'$ref':7}", "1 'a'", ""},
    {"{'$ref':'#here','$defs':{'x':{'$anchor':'here','type':'integer'}}}", "1", "'a'"},
    {"{'$ref':'#here','definitions':{'x':{'$id':'#here','type':'integer'}}}", "1", "'a'"},
    {"{'$ref':'#here','$defs':{'x':{'$anchor':'here'},'y':{'$anchor':'here','type':'integer'}}}", "1 'a'", ""},
    {"{'$ref':'#'}", "1 'a'", ""}, /* leads nowhere */
    {"{'$ref':'#/$defs/a','$defs':{'a':{'$ref':'#/$defs/b'},'b':{'$ref':'#/$defs/a'}}}", "1", ""},
    {"{" OLD "'$ref':'#/definitions/s','maxLength':1,'definitions':{'s':{'type':'string'}}}", "'abc'", "3"},
    {"{" NEW "'$ref':'#/$defs/s','maxLength':1,'$defs':{'s':{'type':'string'}}}", "'a'", "'abc' 3"},
    {"{'$ref':'#/$defs/s','maxLength':1,'$defs':{'s':{'type':'string'}}}", "'abc' 'a'",
     "3"}, /* which draft is not known */
    {"{'properties':{'a':{'$id':'http://x/in','$ref':'#/$defs/"
     "s','$defs':{'s':{'type':'integer'}}}},'$defs':{'s':{'type':'string'}}}",
     "{'a':1}", "{'a':'x'}"},
    {"{'$ref':'#/$defs/in/$defs/t','$defs':{'s':{'type':'string'},'in':{'$id':'http://x/"
     "in','$defs':{'s':{'type':'integer'},"
     "'t':{'$ref':'#/$defs/s'}}}}}",
     "1", "'x'"},
    {"{'properties':{'$ref':{'type':'string'}}}", "{'$ref':'a'}", "{'$ref':1}"},
    /* what is not known */
    {"{'title':'t','description':'d','default':1,'examples':[],'$comment':'c','deprecated':true,'type':'integer'}",
     "1", "'a'"},
    {"{'x-new':1,'type':'integer'}", "1", "'a'"},
    {"{'unevaluatedProperties':false,'properties':{'a':{}}}", "{'a':1} {'b':1}", ""},
    {"{'$dynamicRef':'#x'}", "1", ""},
    {"{'type':'integer'", "'a'", ""}, /* a schema that is cut off */
};

static char *quoted(const char *s)
{
    char *copy = strdup(s);
    for (char *p = copy; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    return copy;
}

static void check_values(const char *written, char *schema, const char *values, bool wanted)
{
    char *list = quoted(values), *next = list;
    while (*next) {
        char *end = next, why[200] = "x";
        for (bool in = false; *end && (in || *end != ' '); end++)
            in ^= *end == '"';
        bool more = *end, fits = !wanted;
        *end = '\0';
        assert_int_equal(schema_check(span_str(schema), span_str(next), &fits, why, sizeof(why)), PD_OK);
        if (fits != wanted || fits != (why[0] == '\0'))
            fail_msg("%s: %s %s (%s)", written, next, fits ? "fits" : "does not fit", why);
        next = end + more;
    }
    free(list);
}

static void values_fit_or_do_not_by_every_keyword(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *schema = quoted(rows[i].schema);
        check_values(rows[i].schema, schema, rows[i].fit, true);
        check_values(rows[i].schema, schema, rows[i].not, false);
        free(schema);
    }
}

static const struct why_row {
    const char *schema, *value, *why;
} why_rows[] = {
    {"{'properties':{'count':{'type':'number'}}}", "{'count':'3'}",
     "arguments.count: a number is wanted, '3' is a string"},
    {"{'items':{'properties':{'a':{'type':['string','null']}}}}", "[{},{'a':{}}]",
     "arguments[1].a: a string or null is wanted, {} is an object"},
    {"{'required':['path']}", "{'pat':1}", "arguments: 'path' is missing"},
    {"{'additionalProperties':false}", "{'x':1}", "arguments: there is no 'x' in the schema"},
    {"{'enum':['a']}", "'a long text of which only the beginning is shown'",
     "arguments: 'a long text of which on... is none of the values that are allowed"},
    {"{'const':5}", "6", "arguments: 5 is wanted, it is 6"},
    {"{'minimum':5}", "4", "arguments: 4 is less than 5"},
    {"{'maximum':5}", "6", "arguments: 6 is more than 5"},
    {"{'exclusiveMaximum':5}", "5", "arguments: 5 is not less than 5"},
    {"{'exclusiveMinimum':5}", "5", "arguments: 5 is not more than 5"},
    {"{'multipleOf':5}", "6", "arguments: 6 is no multiple of 5"},
    {"{'minItems':2}", "[1]", "arguments: 1 items, 2 at least are wanted"},
    {"{'maxLength':2}", "'abc'", "arguments: 3 characters, 2 at most are wanted"},
    {"{'pattern':'^a$'}", "'b'", "arguments: 'b' does not match the pattern '^a$'"},
    {"{'anyOf':[{'type':'string'},{'type':'null'}]}", "1",
     "arguments: 1 fits none of the 2 schemas that are allowed"},
    {"{'oneOf':[true,true]}", "1", "arguments: 1 fits 2 schemas of which one alone is allowed"},
    {"{'not':{}}", "1", "arguments: 1 is what is not allowed here"},
    {"{'properties':{'a':false}}", "{'a':1}", "arguments.a: nothing is allowed here"},
    {"{'uniqueItems':true}", "[1,1]", "arguments: 1 is in it twice"},
    {"{'contains':{'const':1}}", "[2]", "arguments: too few of its items are what it has to contain"},
    {"{'allOf':[{'minimum':5},{'minimum':6}]}", "4", "arguments: 4 is less than 5"},
};

static void a_refusal_says_where_and_why(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(why_rows) / sizeof(why_rows[0]); i++) {
        char *schema = quoted(why_rows[i].schema), *value = quoted(why_rows[i].value),
             *wanted = quoted(why_rows[i].why);
        char why[200];
        bool fits;
        assert_int_equal(schema_check(span_str(schema), span_str(value), &fits, why, sizeof(why)), PD_OK);
        assert_false(fits);
        assert_string_equal(why, wanted);
        for (size_t room = 0; room <= strlen(wanted) + 1; room++) { /* cut to fit */
            char *small = malloc(room + 1);
            small[room] = 'G';
            assert_int_equal(schema_check(span_str(schema), span_str(value), &fits, small, room), PD_OK);
            assert_false(fits);
            assert_int_equal(small[room], 'G');
            if (room)
                assert_true(strlen(small) < room && strncmp(small, wanted, strlen(small)) == 0);
            free(small);
        }
        assert_int_equal(schema_check(span_str(schema), span_str(value), &fits, NULL, 0), PD_OK);
        assert_false(fits);
        free(schema);
        free(value);
        free(wanted);
    }
}

static void a_sentence_is_not_cut_inside_a_character(void **state)
{
    (void)state;
    for (size_t room = 1; room < 120; room++) {
        char why[120];
        bool fits;
        assert_int_equal(schema_check(SPAN_LIT("{\"type\":\"number\"}"),
                                      SPAN_LIT("\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\xc3\xa4\xe2\x82\xac\xf0\x9f"
                                               "\x98\x80\xc3\xa4\xe2\x82\xac\""),
                                      &fits, why, room),
                         PD_OK);
        size_t n = strlen(why);
        unsigned need = 0;
        for (size_t i = 0; i < n; i++) {
            unsigned char ch = (unsigned char)why[i];
            assert_true((need > 0) == ((ch & 0xc0) == 0x80));
            need = need ? need - 1 : ch >= 0xf0 ? 3 : ch >= 0xe0 ? 2 : ch >= 0xc0 ? 1 : 0;
        }
        assert_int_equal(need, 0);
    }
}

/* ---- hostile ones ----------------------------------------------------------------------------- */

static void assert_accepted(struct span schema, struct span value)
{
    bool fits = false;
    assert_int_equal(schema_check(schema, value, &fits, NULL, 0), PD_OK);
    assert_true(fits);
}

static void a_schema_that_would_take_for_ever_is_given_up_and_accepts(void **state)
{
    (void)state;
    struct buf b;
    assert_accepted(SPAN_LIT("{\"anyOf\":[{\"$ref\":\"#\"},{\"$ref\":\"#\"}],\"type\":\"string\"}"),
                    SPAN_LIT("\"1\""));
    assert_accepted(SPAN_LIT("{\"allOf\":[{\"$ref\":\"#\"},{\"$ref\":\"#\"}]}"), SPAN_LIT("1"));
    assert_accepted(SPAN_LIT("{\"not\":{\"$ref\":\"#\"}}"), SPAN_LIT("1"));
    assert_accepted(SPAN_LIT("{\"oneOf\":[{\"$ref\":\"#\"},{\"$ref\":\"#\"},{\"$ref\":\"#\"}]}"), SPAN_LIT("1"));

    buf_init(&b, 0); /* more comparisons than are made */
    for (int i = 0; i < 3000; i++)
        assert_int_equal(buf_printf(&b, "%s%d", i ? "," : "[", i), PD_OK);
    assert_int_equal(buf_puts(&b, ",2999]"), PD_OK);
    assert_accepted(SPAN_LIT("{\"uniqueItems\":true}"), buf_span(&b));
    buf_clear(&b); /* more matches than are tried */
    for (int i = 0; i < 3000; i++)
        assert_int_equal(buf_printf(&b, "%s\"%040d\":1", i ? "," : "{", i), PD_OK);
    assert_int_equal(buf_puts(&b, "}"), PD_OK);
    assert_accepted(SPAN_LIT("{\"patternProperties\":{\"^(0+)+1$\":{}},\"maxProperties\":1}"), buf_span(&b));
    buf_clear(&b); /* deeper than is looked */
    for (int i = 0; i < 200; i++)
        assert_int_equal(buf_puts(&b, "{\"not\":"), PD_OK);
    assert_int_equal(buf_puts(&b, "false"), PD_OK);
    for (int i = 0; i < 200; i++)
        assert_int_equal(buf_puts(&b, "}"), PD_OK);
    assert_accepted(buf_span(&b), SPAN_LIT("1"));
    buf_done(&b);
}

/* A file of a megabyte in an argument is what agents send. */
static void a_large_argument_is_judged(void **state)
{
    (void)state;
    struct buf b;
    bool fits;
    char why[100];
    struct span schema =
        SPAN_LIT("{\"type\":\"object\",\"properties\":{\"path\":{\"type\":\"string\"},\"content\":{\"type\":"
                 "\"string\"},\"n\":{\"type\":\"integer\"}},\"required\":[\"path\",\"content\",\"n\"],"
                 "\"additionalProperties\":false}");
    buf_init(&b, 0);
    assert_int_equal(buf_puts(&b, "{\"path\":\"a\",\"content\":\""), PD_OK);
    for (int i = 0; i < 100 * 1000; i++)
        assert_int_equal(buf_puts(&b, "line \\\"of\\\" code\\n"), PD_OK);
    assert_int_equal(buf_puts(&b, "\",\"n\":\"1\"}"), PD_OK);
    assert_int_equal(schema_check(schema, buf_span(&b), &fits, why, sizeof(why)), PD_OK);
    assert_false(fits);
    assert_string_equal(why, "arguments.n: an integer is wanted, \"1\" is a string");
    buf_done(&b);
}

static pd_err check_one(void *ctx)
{
    const char *const *both = ctx;
    bool fits;
    char why[100];
    return schema_check(span_str(both[0]), span_str(both[1]), &fits, why, sizeof(why));
}

static void it_survives_every_failed_allocation(void **state)
{
    (void)state;
    const char *both[] = {
        "{\"properties\":{\"\\u0061\":{\"pattern\":\"^x\",\"$ref\":\"#/$defs/t\"}},\"$defs\":{\"t\":{\"enum\":"
        "[\"\\u0078\"]}},\"patternProperties\":{\"a\":{\"minLength\":1}}}",
        "{\"\\u0061\":\"\\u0078\"}"};
    assert_true(torture(check_one, (void *)both) >= 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_fit_or_do_not_by_every_keyword),
        cmocka_unit_test(a_refusal_says_where_and_why),
        cmocka_unit_test(a_sentence_is_not_cut_inside_a_character),
        cmocka_unit_test(a_schema_that_would_take_for_ever_is_given_up_and_accepts),
        cmocka_unit_test(a_large_argument_is_judged),
        cmocka_unit_test(it_survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
