/* s3_xml.h - reads what an S3 server answers: small XML documents in which an element holds either elements or text.
 *
 * Pure. Attributes, comments and processing instructions are stepped over; a document type is refused, so that there are no entities but
 * XML's own five and numbers. Depth, names and texts are bounded. */
#ifndef PERDURE_STORE_S3_XML_H
#define PERDURE_STORE_S3_XML_H

#include "base/err.h"
#include "base/span.h"

enum {
    S3_XML_PATH_MAX = 256, /* the names of the elements around a text, together */
    S3_XML_TEXT_MAX = 8192 /* of one element */
};

/* At each element's end: its path ("ListBucketResult/Contents/Key", without namespaces) and its text, empty where it holds elements. Both live
 * until it returns; anything but PD_OK ends the reading. */
typedef pd_err s3_xml_fn(void *ctx, const char *path, struct span text);

/* PD_SYNTAX, PD_TOOBIG, or what fn returned. */
pd_err s3_xml_read(struct span document, s3_xml_fn *fn, void *ctx) PD_CHECKED;

#endif
