/* conf_priv.h - how a config is read: YAML to a tree (parse/tree.h), a tree node to a value (conf_value.c), values to a
 * struct conf (conf_read.c, conf_provider.c, conf_route.c, or conf_env.c without a file), and the checks that need all of it.
 *
 * Nothing stops at the first mistake: it becomes a remark and reading goes on. Running out of memory is remembered in
 * the reader (`nomem`) and ends in PD_NOMEM. */
#ifndef PERDURE_CONF_CONF_PRIV_H
#define PERDURE_CONF_CONF_PRIV_H

#include "base/arena.h"
#include "conf/conf.h"
#include "parse/nearest.h"
#include "parse/tree.h"

/* Limits of a file; those of its YAML are in conf.c. */
enum {
    CONF_NAME_MAX = 100, /* bytes of a name: provider, route, key, model's is CONF_MODEL_MAX */
    CONF_MODEL_MAX = 200,
    CONF_MEMORY_MAX = 64 << 20, /* of one config */
    CONF_REGION_MAX = 40,       /* bytes of a region */
    CONF_AGENT_MAX = 128,       /* bytes of an agent's name */
    CONF_PATH_MAX = 160,        /* "providers.openai.key" in messages; longer ones are cut */
};

/* ---- the reader --------------------------------------------------------------- */

struct conf_owned {
    struct conf conf;   /* first: a struct conf * is one of these */
    struct arena arena; /* everything the config points to */
};

struct conf_reader {
    struct conf *c;
    struct arena *arena;  /* of the config */
    struct arena scratch; /* the tree, and what is needed while reading */
    const char *name;     /* "perdure.yaml", "environment": the first word of a remark */
    const struct preset_table *presets;
    conf_env_fn *env;
    void *env_ctx;
    struct conf_report *report;
    bool nomem;
    bool interval_said; /* the file has a checkpoint_interval */
};

/* "perdure.yaml line 12: ..." goes into the report. `line` 0: none. */
void conf_say(struct conf_reader *r, bool error, unsigned line, const char *fmt, ...) PD_PRINTF(4, 5);
#define conf_error(r, line, ...) conf_say((r), true, (line), __VA_ARGS__)
#define conf_warn(r, line, ...) conf_say((r), false, (line), __VA_ARGS__)

/* From the config's arena; NULL sets nomem. */
void *conf_take(struct conf_reader *r, size_t count, size_t size);
const char *conf_copy(struct conf_reader *r, struct span s);

/* The variable's value without blanks at its ends; "" when it is not set or empty. Never NULL. */
const char *conf_env(struct conf_reader *r, const char *name);

/* ---- values -------------------------------------------------------------------- */

struct conf_value {
    struct span text;     /* with variables filled in and blanks at the ends gone; ends in NUL */
    const char *variable; /* the first that gave something; NULL: all of it stands in the file */
};
/* Each says what is wrong and returns false. `what` is the path, such as "providers.openai.key". Values are not repeated in
 * messages but where the caller does it: they may be secrets. */
bool conf_text(struct conf_reader *r, const struct node *n, const char *what, struct conf_value *ret);
bool conf_word(struct conf_reader *r, const struct node *n, const char *what,
               const char **ret); /* not empty; copied */
bool conf_bool(struct conf_reader *r, const struct node *n, const char *what, bool *ret);
bool conf_count(struct conf_reader *r, const struct node *n, const char *what, uint64_t most, uint64_t *ret);
/* A string or a list of them, each not empty, no two alike. */
bool conf_words(struct conf_reader *r, const struct node *n, const char *what, const char ***ret,
                unsigned *ret_count);
bool conf_is_kind(struct conf_reader *r, const struct node *n, enum node_kind kind, const char *what);
/* "Letters, digits, '.', '-', '_'"; says so otherwise. */
bool conf_name_fine(struct conf_reader *r, unsigned line, const char *what, struct span name);

/* What may stand in a mapping. */
struct conf_field {
    const char *name;
    void (*read)(struct conf_reader *r, void *into, const struct node *value, const char *what);
};
/* Where settings may stand too. */
struct conf_scope {
    struct settings *settings;
    uint64_t given; /* bits of rows that were read here */
    enum setting_where where;
};
/* Reads each entry by its field, or as a setting when `scope` is given; an unknown or repeated name is an error.
 * A NULL node is an empty mapping. */
void conf_map(struct conf_reader *r, const struct node *n, const char *what, const struct conf_field *fields,
              unsigned fields_count, struct conf_scope *scope, void *into);
/* The entry's name stands in the mapping above it already; says so. */
bool conf_repeated(struct conf_reader *r, const struct node *map, const struct entry *e, const char *what);
/* Settings that contradict each other, among those that scope->given names. */
void conf_check_sense(struct conf_reader *r, const struct conf_scope *scope, unsigned line, const char *what);

/* ---- the parts of a config ------------------------------------------------------ */

void conf_read_file(struct conf_reader *r, const struct node *root);
void conf_read_providers(struct conf_reader *r, const struct node *n);
void conf_read_routes(struct conf_reader *r, const struct node *n);
void conf_read_keys(struct conf_reader *r, const struct node *n);
void conf_env_providers(struct conf_reader *r);
/* A variable of the guide's that holds a number of seconds, with a unit or without, for the general setting of this name. `what` to write: "the seconds ..., as in 60". */
void conf_seconds(struct conf_reader *r, const char *variable, const char *setting, const char *what);
void conf_env_all(struct conf_reader *r);

/* A provider as far as it was read. */
struct provider_draft {
    struct conf_provider *p;
    struct conf_value key, url; /* an empty text: not given */
    bool key_said, url_said;    /* what is wrong with it was said: do not go on to miss it */
    int throttles;              /* throttles_by_latency: 0 as the preset, 1 no, 2 yes */
    const char *preset;         /* its name; NULL: the provider's own */
    const char **regions;       /* or locations */
    unsigned regions_count;
    bool regions_said;
    const char *regions_what, *aws_what, *google_what; /* path of a key that was given; NULL: none of this kind */
    struct conf_scope scope;
};
/* Key, address and regions of a provider, from the file, the environment or its preset; checks them. One of N regions becomes N
 * providers from d->p on, where there has to be room for them. Returns how many it became. */
unsigned conf_provider_finish(struct conf_reader *r, struct provider_draft *d);

/* conf_cloud.c: keys of a provider; `into` is a struct provider_draft. */
void conf_cloud_regions(struct conf_reader *r, void *into, const struct node *n, const char *what);
void conf_cloud_profile(struct conf_reader *r, void *into, const struct node *n, const char *what);
void conf_cloud_access_key_id(struct conf_reader *r, void *into, const struct node *n, const char *what);
void conf_cloud_secret_access_key(struct conf_reader *r, void *into, const struct node *n, const char *what);
void conf_cloud_session_token(struct conf_reader *r, void *into, const struct node *n, const char *what);
void conf_cloud_project(struct conf_reader *r, void *into, const struct node *n, const char *what);
void conf_cloud_credentials_file(struct conf_reader *r, void *into, const struct node *n, const char *what);
/* Fills in what the file leaves out and checks that all of it belongs to the preset. */
void conf_cloud_finish(struct conf_reader *r, struct provider_draft *d);
/* Whether the environment has what a provider of AWS or Google needs: NULL, or the variable that is missing. */
const char *conf_cloud_missing(struct conf_reader *r, const struct preset *p);
/* Adds a client key: the key itself or "sha256:HEX". */
void conf_key_fill(struct conf_reader *r, unsigned line, const char *what, struct span text, struct conf_key *ret);
/* A listen address in the form the server takes; NULL: *ret_why says why not. */
const char *conf_listen_form(struct conf_reader *r, struct span text, const char **ret_why);
/* conf_store.c: `database:` and `snapshots:` as the file has them (NULL: it does not), then what variables and the state folder say. */
void conf_read_store(struct conf_reader *r, const struct node *database, const struct node *snapshots);
/* What can only be seen with everything read: loopback and keys, doubled names, rings. */
void conf_check_all(struct conf_reader *r, unsigned listen_line);

#endif
