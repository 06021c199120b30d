/* loaded.h - libraries that few need: libcurl (a bucket) and libpq (PostgreSQL), loaded when one is used.
 *
 * Linked, they and what they bring along would cost every gateway 4 MB of memory. Each is a struct of function pointers whose types are
 * those of the library's own header, filled at the first use and kept until the process ends. */
#ifndef PERDURE_STORE_LOADED_H
#define PERDURE_STORE_LOADED_H

#include "base/err.h"

#include <curl/curl.h>
#include <libpq-fe.h>
#include <stddef.h>

#define CURL_FUNCTIONS(X)   \
    X(curl_global_init_mem) \
    X(curl_easy_init)       \
    X(curl_easy_cleanup)    \
    X(curl_easy_reset)      \
    X(curl_easy_setopt)     \
    X(curl_easy_perform)    \
    X(curl_easy_getinfo)    \
    X(curl_easy_strerror)   \
    X(curl_slist_append)    \
    X(curl_slist_free_all)
#define PQ_FUNCTIONS(X)     \
    X(PQconnectStartParams) \
    X(PQconninfoParse)      \
    X(PQconninfoFree)       \
    X(PQfreemem)            \
    X(PQconnectPoll)        \
    X(PQsocket)             \
    X(PQstatus)             \
    X(PQfinish)             \
    X(PQerrorMessage)       \
    X(PQsetnonblocking)     \
    X(PQsetNoticeProcessor) \
    X(PQserverVersion)      \
    X(PQsendQuery)          \
    X(PQsendPrepare)        \
    X(PQsendQueryPrepared)  \
    X(PQflush)              \
    X(PQconsumeInput)       \
    X(PQisBusy)             \
    X(PQgetResult)          \
    X(PQresultStatus)       \
    X(PQresultErrorField)   \
    X(PQclear)              \
    X(PQntuples)            \
    X(PQnfields)            \
    X(PQgetisnull)          \
    X(PQgetvalue)           \
    X(PQgetlength)          \
    X(PQftype)              \
    X(PQcmdStatus)          \
    X(PQcmdTuples)

struct curl_library {
#define X(name) __typeof__(&(name)) name;
    CURL_FUNCTIONS(X)
#undef X
};
struct pq_library {
#define X(name) __typeof__(&(name)) name;
    PQ_FUNCTIONS(X)
#undef X
};

/* Any thread. PD_NOTFOUND: `why` names the package to install. */
pd_err loaded_curl(const struct curl_library **ret, char *why, size_t why_bytes) PD_CHECKED;
pd_err loaded_pq(const struct pq_library **ret, char *why, size_t why_bytes) PD_CHECKED;

#endif
