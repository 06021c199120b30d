/* preset.h - what is known of a provider before anyone configures it: one row each.
 *
 * The rows are provider/presets.c; they are declared here so that the config can be checked against them. */
#ifndef PERDURE_CONF_PRESET_H
#define PERDURE_CONF_PRESET_H

#include "base/span.h"

#include <stdbool.h>
#include <stddef.h>

/* How a request is signed. */
enum preset_auth {
    AUTH_BEARER,          /* "authorization: Bearer KEY" */
    AUTH_OPTIONAL_BEARER, /* the same, or nothing when there is no key */
    AUTH_API_KEY,         /* "api-key: KEY", Azure */
    AUTH_X_API_KEY,       /* "x-api-key: KEY", Anthropic */
    AUTH_GOOG_KEY,        /* "x-goog-api-key: KEY", Gemini */
    AUTH_GOOGLE,          /* "authorization: Bearer TOKEN", a token of Google's OAuth made from credentials */
    AUTH_SIGV4,           /* AWS Signature 4 with AWS credentials; with a key: "authorization: Bearer KEY" */
};

/* The wire formats a provider can be spoken to in. The embeddings and token counts of a dialect come with it, but for OpenAI's
 * embeddings, which providers have or have not on their own. */
#define PRESET_WIRES(X)     \
    X("openai-chat")        \
    X("openai-responses")   \
    X("openai-embeddings")  \
    X("anthropic-messages") \
    X("vertex-anthropic")   \
    X("gemini")             \
    X("vertex-gemini")      \
    X("bedrock-converse")   \
    X("bedrock-invoke")     \
    X("ollama")
enum { PRESET_WIRES_MAX = 6 }; /* of one preset, the NULL at the end counted */
extern const char *const preset_wire_names[];
extern const unsigned preset_wire_names_count;

/* How a provider is asked to go on where an answer broke off; dialect/continuation.h has what each word means. "off" is for the config alone. */
#define PRESET_CONTINUES(X) \
    X("ask")                \
    X("trailing")           \
    X("prefix")             \
    X("final")              \
    X("repeat")             \
    X("off")
extern const char *const preset_continues_names[];
extern const unsigned preset_continues_names_count;

struct preset {
    const char *name;      /* "openai" */
    const char *title;     /* "OpenAI" */
    const char *otel_name; /* gen_ai.provider.name: "openai", "deepseek", "azure.ai.openai", ... */
    const char *base_url; /* NULL: must be given. "{region}" and "{location}" in it stand for the provider's own */
    const char *key_env;  /* the key's variable; NULL: none */
    const char *key_env_too; /* another one, read when key_env is not set; NULL: none */
    const char *url_env;     /* a variable that gives base_url; NULL: none */
    enum preset_auth auth;
    /* The wire formats that it speaks, preferred first, NULL at the end: "NAME", or "NAME@PREFIX" where PREFIX stands between base_url
     * and the wire's own path ("ollama" and "openai-chat@/v1" on one host). */
    const char *wires[PRESET_WIRES_MAX];
    bool asks_usage;         /* stream_options.include_usage is understood */
    bool local;              /* a server of one's own: no key needed, only used when its URL is given */
    const char *models_path; /* below base_url, what lists its models; NULL: no list, or one that says too much */
    /* In a tool loop the assistant's reasoning_content has to be sent back, or the request is refused. */
    bool reasoning_back;
    /* It refuses nobody: who asks for too much is answered ever more slowly. Its speed is watched for that (route/pace.h). */
    bool throttles_by_latency;
    const char *query; /* added to each request, such as "api-version=..."; NULL: none */
    const char *
        url_path; /* what a base_url of this kind ends in, where its variable often stops at the host: "/openai/v1" */
    const char *continues; /* how it takes the beginning of its own answer: one of PRESET_CONTINUES; NULL: "ask" */
    const char *
        beta_path; /* stands in place of the end of base_url's path (url_path) where "prefix" is used; NULL: nothing changes */
    const char *url_drop; /* what users write at its end although the wires' paths have it: "/v1"; NULL: nothing */
};

/* The part of a `wires` entry before '@'. */
struct span preset_wire_name(const char *entry);
/* Whether the wire format `name` is among `wires` (NULL at the end), and the prefix of its path; "" when it has none. */
bool preset_wire_find(const char *const *wires, const char *name, struct span *ret_prefix);

struct preset_table {
    const struct preset *rows;
    size_t count;
    bool none_is_fine; /* a configuration without any provider: runs of programs need none */
};
const struct preset *preset_find(const struct preset_table *t, const char *name); /* NULL when unknown */

/* A value of url_env as a base_url: OLLAMA_HOST is "127.0.0.1:11434" or a bare host, AZURE_OPENAI_ENDPOINT stops at the host. Adds
 * http://, the preset's usual port and url_path where they are missing, and drops trailing slashes; a value with a path of its
 * own keeps that path. Returns `out`, or NULL when it is empty or does not fit. */
const char *preset_base_url(const struct preset *p, const char *given, char *out, size_t out_bytes);

/* Whether a base_url has "{region}" or "{location}" in it. */
bool preset_url_has_place(const char *url);
/* The base_url of one region or location: `place` put in for "{region}" or "{location}". Hosts that are named otherwise are known: Google's
 * "global", "us" and "eu", and AWS's "cn-" regions. Returns `out`, or NULL when it does not fit. */
const char *preset_place_url(const char *url, const char *place, char *out, size_t out_bytes);

#endif
