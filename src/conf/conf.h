/* conf.h - the configuration: YAML (DESIGN 4) or the environment alone.
 *
 * A loaded config is a value that never changes; a reload makes another one. Keys are kept in memory only and are never printed:
 * messages and `perdure check` show names and variables, not values. */
#ifndef PERDURE_CONF_CONF_H
#define PERDURE_CONF_CONF_H

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "base/span.h"
#include "conf/preset.h"

enum setting_where { SETTING_RESILIENCE, SETTING_SERVER };
enum setting_type { SETTING_COUNT, SETTING_DURATION, SETTING_BYTES, SETTING_RATIO, SETTING_BOOL };

/* Durations in milliseconds, sizes in bytes, ratios in millionths, booleans 0 or 1. */
struct settings {
#define SETTING(field, type, dflt, least, most, where, what) uint64_t field;
#include "conf/settings.def"
#undef SETTING
};
struct setting_row {
    const char *name, *dflt, *least, *most, *what;
    enum setting_type type;
    enum setting_where where;
    size_t offset; /* of its uint64_t in struct settings */
};
extern const struct setting_row setting_rows[]; /* at most 64: a set of them is a uint64_t */
extern const unsigned setting_rows_count;
const struct setting_row *setting_find(struct span name); /* NULL: no such setting */
static inline uint64_t *setting_at(struct settings *s, const struct setting_row *row)
{
    return (uint64_t *)(void *)((char *)s + row->offset);
}
static inline uint64_t setting_of(const struct settings *s, const struct setting_row *row)
{
    return *(const uint64_t *)(const void *)((const char *)s + row->offset);
}
void settings_default(struct settings *ret);
/* Parses one value ("2s", "500ms", "64MB", "0.2", "off") and checks its bounds. On failure *ret_why is a sentence saying what to write. */
pd_err setting_parse(const struct setting_row *row, struct span text, uint64_t *ret, char *ret_why,
                     size_t why_bytes) PD_CHECKED;
/* As one would write it: "2s", "64MB", "0.2", "true". Returns out, which 32 bytes are enough for. */
const char *setting_format(const struct setting_row *row, uint64_t value, char *out, size_t out_bytes);
/* The table of all settings, for docs/settings.md. */
pd_err settings_write_markdown(struct buf *out) PD_CHECKED;

enum conf_strategy { STRATEGY_WEIGHTED, STRATEGY_PRIORITY, STRATEGY_LATENCY };
const char *conf_strategy_name(enum conf_strategy s);

struct conf_header {
    const char *name, *value;
};

/* How a provider of AWS or Google is signed in to, beside its key. What is NULL comes from the surroundings: variables, files, the machine. */
struct conf_cloud {
    const char *profile;                           /* AWS: of ~/.aws/config and credentials */
    const char *access_key_id, *secret_access_key; /* AWS: both or none; the second is secret */
    const char *session_token;                     /* AWS: secret */
    const char *credentials_file;                  /* Google: a service account's or a user's */
    const char *project;                           /* Google: its requests are this project's */
};

/* What a model's tokens cost, in millionths of a dollar for a million of them: so many picodollars for one. */
struct conf_price {
    const char *model;
    uint64_t input, output, cache_read,
        cache_write; /* without prices of their own cached tokens cost what input does */
};

/* A provider in several regions is several of these, one behind the other, which differ in name, region and base_url:
 * "bedrock@us-east-1", "bedrock@us-west-2", both of the group "bedrock". */
struct conf_provider {
    const char *name;  /* what targets are called by: "local/qwen3" */
    const char *group; /* the name in the file; that of the provider itself when it has one region or none */
    const struct preset *preset;
    const char *const
        *wires;           /* the wire formats it is spoken to in, as in struct preset: its own or the preset's */
    const char *base_url; /* without a trailing '/' */
    const char *region;   /* AWS region or Google location; NULL: none */
    struct conf_cloud cloud;
    const char *key;        /* secret; NULL: none */
    const char *key_source; /* "OPENAI_API_KEY", or "the config file" */
    struct conf_header *headers;
    unsigned headers_count;
    const char **models; /* names given; none: what the provider lists */
    unsigned models_count;
    const char *query; /* added to each request, without '?': its own or the preset's; NULL: none */
    const char
        *proxy; /* NULL: from the environment; "": none, whatever the environment says ("off" in the file) */
    const char *ca_file; /* NULL: the system's */
    bool tls_insecure;
    int stream;                /* upstream requests are streamed: -1 as the preset, 0 never, 1 always */
    bool throttles_by_latency; /* its pace is watched: as the preset, or as the file says */
    const char *
        continues; /* how it goes on with a broken answer, one of PRESET_CONTINUES: as the preset, or as the file says */
    struct conf_price *prices;
    unsigned prices_count;
    uint64_t weight;          /* for routes made by model name; default 1 */
    struct settings settings; /* resilience with this provider's own over the general */
    unsigned line;            /* in the file; 0: from the environment */
};

struct conf_target {
    unsigned provider; /* index: of the first of a group's regions */
    unsigned regions;  /* so many providers from there on: 1, or all of the group */
    const char *model;
    uint64_t weight; /* 0: only when the others are down */
};

struct conf_route {
    const char *name;
    enum conf_strategy strategy;
    struct conf_target *targets;
    unsigned targets_count;
    struct settings settings;
    uint64_t
        settings_given; /* bit per RESILIENCE row that this route itself sets, so that the provider's hold otherwise */
    unsigned line;
};

/* What holds for an attempt: the provider's settings, over them those that the route itself sets. r NULL: the provider's alone. */
void settings_overlay(const struct conf_route *r, const struct conf_provider *p, struct settings *ret);

struct conf_key {
    const char *name;         /* shown in logs and /api */
    unsigned char sha256[32]; /* of the key: only this is kept */
    const char **routes;      /* allowed route names; none: all */
    unsigned routes_count;
    bool admin; /* may use /api/... from off loopback */
};

enum { CONF_PROVIDERS_MAX = 200, CONF_REGIONS_MAX = 16 };

struct conf {
    const char **listen; /* default "127.0.0.1:8080" */
    unsigned listen_count;
    const char *state;     /* folder */
    const char *database;  /* "postgres://...", the path of a SQLite file, or "off"; may hold a password */
    const char *snapshots; /* "s3://BUCKET/PREFIX", a folder, or "off" */
    const char *agent;     /* whose checkpoints those are that name no agent: AGENT_ID, "default-agent" (g) */
    bool database_said;    /* by the file or a variable: not the state folder's own */
    enum log_level log_level;
    bool log_json;
    struct conf_provider *providers; /* in order of preference; at most CONF_PROVIDERS_MAX */
    unsigned providers_count;
    struct conf_route *routes;
    unsigned routes_count;
    struct conf_key *keys; /* none: loopback only */
    unsigned keys_count;
    struct settings settings;
    const char *path; /* of the file; NULL: environment alone */
};

/* One remark about a config: "perdure.yaml line 12: ttft is \"2\": write a unit, as in \"2s\"". Warnings do not stop a start. */
struct conf_remark {
    bool error;
    unsigned line;
    char text[640];
};
enum { CONF_REMARKS_MAX = 50, CONF_FILE_MAX = 4 << 20 };
struct conf_report {
    struct conf_remark remarks[CONF_REMARKS_MAX];
    unsigned count;  /* of remarks kept */
    unsigned errors; /* of errors, those past CONF_REMARKS_MAX too */
};

typedef const char *conf_env_fn(void *ctx, const char *name); /* getenv, or a test's */
const char *conf_getenv(void *ctx, const char *name);

/* path NULL: from the environment alone (the presets' keys and URLs, PROVIDER_ORDER, CLIENT_TIMEOUT = first_token_timeout in seconds,
 * PERDURE_LISTEN and PERDURE_KEYS, both comma separated). A file without `providers:` takes the providers from there too. DATABASE_URL,
 * CHECKPOINT_BUCKET, CHECKPOINT_INTERVAL (seconds) and AGENT_ID fill in what the file leaves out, or where there is none.
 * PD_INVALID: the report says why. PD_NOTFOUND, PD_IO: the file. On success warnings may be in the report. */
pd_err conf_load(const char *path, const struct preset_table *presets, conf_env_fn *env, void *env_ctx,
                 struct conf_report *report, struct conf **ret) PD_CHECKED;
/* The same from text, for tests and `perdure check -`. */
pd_err conf_parse(struct span text, const char *name, const struct preset_table *presets, conf_env_fn *env,
                  void *env_ctx, struct conf_report *report, struct conf **ret) PD_CHECKED;
struct conf *conf_free(struct conf *c);
/* What `perdure check` prints: listen addresses, providers with the source of their key (never the key), routes, and the settings
 * that differ from their defaults. */
pd_err conf_describe(const struct conf *c, struct buf *out) PD_CHECKED;

/* Where the database is, in words for a person: without a password. Returns out. */
const char *conf_database_shown(const char *database, char *out, size_t out_bytes);

/* NULL: nobody said what it costs. */
const struct conf_price *conf_find_price(const struct conf_provider *p, const char *model);

/* How the target's provider is called: the group's name when it stands for all its regions. */
const char *conf_target_provider(const struct conf *c, const struct conf_target *t);

/* A listen address that other machines can reach. */
bool conf_is_loopback(const char *address);
/* The key sent by a client, compared in constant time against every key. NULL: none matches. */
const struct conf_key *conf_find_key(const struct conf *c, struct span key);

#endif
