#include "base/buf.h"
#include "store/s3_xml.h"
#include "test.h"

#include <stdlib.h>

static pd_err show(void *ctx, const char *path, struct span text)
{
    return buf_printf(ctx, "[%s|%.*s]", path, SPAN_FMT(text));
}

static const struct row {
    const char *name, *in, *out;
    pd_err e;
} rows[] = {
    {"elements end in their order", "<a><b>1</b><c>2</c></a>", "[a/b|1][a/c|2][a|]", PD_OK},
    {"an element with elements has no text", "<a>x<b/>y</a>", "[a/b|][a|]", PD_OK},
    {"an empty one, closed at once", "<a><b/><c /><d></d></a>", "[a/b|][a/c|][a/d|][a|]", PD_OK},
    {"a declaration, comments, an instruction",
     "<?xml version=\"1.0\"?>\n<!-- <x> --><a><!-- > --><?y z?><b>1</b></a>\n", "[a/b|1][a|]", PD_OK},
    {"a byte order mark", "\xef\xbb\xbf<a>1</a>", "[a|1]", PD_OK},
    {"namespaces go, attributes are stepped over", "<s:a xmlns:s='u>' k=\"/>\"><s:b>1</s:b></s:a>", "[a/b|1][a|]",
     PD_OK},
    {"blanks in tags", "<a ><b\n>1</b\t></a >", "[a/b|1][a|]", PD_OK},
    {"entities", "<a>&lt;&amp;&quot;&apos;&gt;</a>", "[a|<&\"'>]", PD_OK},
    {"numbers, of each length", "<a>&#65;&#xe9;&#x20ac;&#x1f600;</a>", "[a|A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80]",
     PD_OK},
    {"CDATA is text as it is", "<a>1<![CDATA[<&amp;]]>2</a>", "[a|1<&amp;2]", PD_OK},
    {"blanks of a text stay", "<a> 1\n</a>", "[a| 1\n]", PD_OK},
    {"an entity nobody knows", "<a>&x;</a>", "", PD_SYNTAX},
    {"an entity without its end", "<a>&amp</a>", "", PD_SYNTAX},
    {"no character", "<a>&#0;</a>", "", PD_SYNTAX},
    {"a surrogate", "<a>&#xd800;</a>", "", PD_SYNTAX},
    {"beyond the last character", "<a>&#x110000;</a>", "", PD_SYNTAX},
    {"a number that overflows", "<a>&#99999999999999999999;</a>", "", PD_SYNTAX},
    {"a document type", "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>", "", PD_SYNTAX},
    {"another one's end", "<a><b>1</a></b>", "", PD_SYNTAX},
    {"an end without its beginning", "</a>", "", PD_SYNTAX},
    {"text outside", "<a/>x", "[a|]", PD_SYNTAX},
    {"text before", "x<a/>", "", PD_SYNTAX},
    {"a second root", "<a/><b/>", "[a|]", PD_SYNTAX},
    {"cut in a text", "<a>1", "", PD_SYNTAX},
    {"cut in a tag", "<a><b", "", PD_SYNTAX},
    {"cut in a comment", "<a><!-- ", "", PD_SYNTAX},
    {"no name", "<>1</>", "", PD_SYNTAX},
    {"nothing", "", "", PD_SYNTAX},
    {"blanks alone", " \n", "", PD_SYNTAX},
    {"not XML", "{\"a\": 1}", "", PD_SYNTAX},
};

static void each_document_reads_as_its_row_says(void **state)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf out;
        buf_init(&out, 0);
        assert_int_equal(buf_puts(&out, ""), PD_OK);
        /* A copy of exactly its length, so that a byte too many is seen. */
        size_t n = strlen(rows[i].in);
        char *exact = malloc(n ? n : 1);
        memcpy(exact, rows[i].in, n);
        pd_err e = s3_xml_read(span_of(exact, n), show, &out);
        if (e != rows[i].e || !span_is(buf_span(&out), rows[i].out))
            fail_msg("%s: %s, %.*s", rows[i].name, pd_err_name(e), SPAN_FMT(buf_span(&out)));
        free(exact);
        buf_done(&out);
    }
}

/* A prefix of a document is never a document, and never crashes. */
static void what_is_cut_anywhere_is_no_document(void **state)
{
    static const char whole[] = "<?xml version='1.0'?><a x='1'><b>&amp;<![CDATA[y]]>&#x41;</b><!-- z --><c/></a>";
    for (size_t n = 0; n < sizeof(whole) - 1; n++) {
        struct buf out;
        buf_init(&out, 0);
        char *exact = malloc(n ? n : 1);
        memcpy(exact, whole, n);
        assert_int_equal(s3_xml_read(span_of(exact, n), show, &out), PD_SYNTAX);
        free(exact);
        buf_done(&out);
    }
}

static pd_err repeated(const char *before, const char *middle, unsigned count, const char *after)
{
    struct buf in, out;
    buf_init(&in, 0);
    buf_init(&out, 0);
    assert_int_equal(buf_puts(&in, before), PD_OK);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(buf_puts(&in, middle), PD_OK);
    assert_int_equal(buf_puts(&in, after), PD_OK);
    pd_err e = s3_xml_read(buf_span(&in), show, &out);
    buf_done(&in);
    buf_done(&out);
    return e;
}

static void limits_are_kept(void **state)
{
    assert_int_equal(repeated("<a>", "x", S3_XML_TEXT_MAX, "</a>"), PD_OK);
    assert_int_equal(repeated("<a>", "x", S3_XML_TEXT_MAX + 1, "</a>"), PD_TOOBIG);
    assert_int_equal(repeated("<a>", "&lt;", S3_XML_TEXT_MAX + 1, "</a>"), PD_TOOBIG);
    assert_int_equal(repeated("", "<a>", 1000, ""), PD_TOOBIG);
    assert_int_equal(repeated("<", "a", S3_XML_PATH_MAX + 1, "/>"), PD_TOOBIG);
    assert_int_equal(repeated("<a>", "<b>1</b>", 5000, "</a>"), PD_OK);
}

static pd_err stop(void *ctx, const char *path, struct span text)
{
    return PD_CUT;
}

static void the_reader_ends_when_told_to(void **state)
{
    assert_int_equal(s3_xml_read(SPAN_LIT("<a><b/><"), stop, NULL), PD_CUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_document_reads_as_its_row_says),
        cmocka_unit_test(what_is_cut_anywhere_is_no_document),
        cmocka_unit_test(limits_are_kept),
        cmocka_unit_test(the_reader_ends_when_told_to),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
