/* preset.h - what is known of a provider before anyone configures it: one row each.
 *
 * The rows are provider/presets.c; they are declared here so that the config can be checked against them. */
#ifndef PERDURE_CONF_PRESET_H
#define PERDURE_CONF_PRESET_H

#include <stdbool.h>
#include <stddef.h>

enum preset_auth { AUTH_BEARER, AUTH_API_KEY /* "api-key:", Azure */, AUTH_OPTIONAL_BEARER };

struct preset {
    const char *name;      /* "openai" */
    const char *title;     /* "OpenAI" */
    const char *otel_name; /* gen_ai.provider.name: "openai", "deepseek", "azure.ai.openai", ... */
    const char *base_url;  /* NULL: must be given */
    const char *key_env;   /* the key's variable; NULL: none */
    const char *url_env;   /* a variable that gives base_url; NULL: none */
    enum preset_auth auth;
    const char *dialect; /* "openai-chat" */
    bool asks_usage;     /* stream_options.include_usage is understood */
    bool local;          /* a server of one's own: no key needed, only used when its URL is given */
    bool lists_models;   /* GET base_url/models works */
    const char *query;   /* added to each request, such as "api-version=..."; NULL: none */
    const char *
        url_path; /* what a base_url of this kind ends in, where its variable often stops at the host: "/openai/v1" */
};

struct preset_table {
    const struct preset *rows;
    size_t count;
};
const struct preset *preset_find(const struct preset_table *t, const char *name); /* NULL when unknown */

/* A value of url_env as a base_url: OLLAMA_HOST is "127.0.0.1:11434" or a bare host, AZURE_OPENAI_ENDPOINT stops at the host. Adds
 * http://, the preset's usual port and url_path where they are missing, and drops trailing slashes; a value with a path of its
 * own keeps that path. Returns `out`, or NULL when it is empty or does not fit. */
const char *preset_base_url(const struct preset *p, const char *given, char *out, size_t out_bytes);

#endif
