/* profile.h - one profile of AWS's shared files, ~/.aws/credentials and ~/.aws/config.
 *
 * Pure: the file's text is handed in. A key given twice counts as it stands last, and so does a section that comes twice; text
 * after " #" or " ;" is a comment; lines that are indented below a key belong to it and are stepped over.
 *
 * Source: "Shared config and credentials files", AWS SDKs and Tools Reference Guide. */
#ifndef PERDURE_CREDENTIAL_PROFILE_H
#define PERDURE_CREDENTIAL_PROFILE_H

#include "base/err.h"
#include "base/span.h"

enum profile_file {
    PROFILE_CREDENTIALS, /* sections are called [name] */
    PROFILE_CONFIG,      /* sections are called [profile name], but for [default] */
};

/* Spans point into the text; empty when absent. */
struct profile {
    bool found;
    struct span access_key_id, secret_access_key, session_token;
    /* What says that the credentials have to be fetched in a way that we do not know. */
    struct span role_arn, sso, credential_process, login;
};

/* PD_SYNTAX: a line of this profile is none; *ret_line (from 1) says which. */
pd_err profile_read(struct span text, enum profile_file file, struct span name, struct profile *ret,
                    unsigned *ret_line) PD_CHECKED;

#endif
