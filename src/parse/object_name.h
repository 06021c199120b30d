/* object_name.h - the names of objects and of the buckets that they are in, as S3 takes them and a folder can have them as files. */
#ifndef PERDURE_PARSE_OBJECT_NAME_H
#define PERDURE_PARSE_OBJECT_NAME_H

#include "base/span.h"

enum {
    OBJECT_KEY_MAX = 900,
    OBJECT_NAME_MAX = 255, /* of one part of a key: what a file's name may have */
    OBJECT_PARTS_MAX = 32,
    BUCKET_NAME_LEAST = 3,
    BUCKET_NAME_MAX = 63,
    PLACE_WHY_BYTES = 300,
};

/* A key of ours: parts with / between them, none of them empty, . or .., and the first begins with no dot. */
bool object_key_fits(struct span key);
/* What a key can begin with. */
bool object_prefix_fits(struct span prefix);

/* Why S3 refuses this name of a bucket, as in "write no two dots side by side"; NULL: it does not. Names that it only keeps for purposes of its
 * own are none of these: an access point's alias is used as a bucket's name. */
const char *bucket_wrong(struct span name);

/* "s3://BUCKET/PREFIX" taken apart; slashes at the end of the prefix are left out. False: `why` says what is wrong, and names the part. */
bool bucket_place(struct span text, struct span *bucket, struct span *prefix, char why[PLACE_WHY_BYTES]);

#endif
