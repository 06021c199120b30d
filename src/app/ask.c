#include "app/ask.h"

#include "app/load.h"
#include "base/mem.h"
#include "conf/misuse.h"
#include "net/client.h"
#include "net/net.h"
#include "parse/json.h"
#include "parse/url.h"
#include "state/serving.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- a question ------------------------------------------------------------------------------ */

struct asking {
    const struct ask_question *q;
    struct ask_answer *ret;
    struct loop *loop;
    struct client *client;
    struct origin *origin;
    struct exchange *exchange;
    struct timer limit;
    uint64_t limit_ms;
};

static void on_head(void *ctx, const struct http1_head *head)
{
    ((struct asking *)ctx)->ret->status = head->status;
}

static bool is_well(int status)
{
    return status >= 200 && status < 300;
}

static void on_body(void *ctx, struct span bytes)
{
    struct asking *k = ctx;
    if (k->ret->err)
        return;
    if (k->q->piece && is_well(k->ret->status))
        k->ret->err = k->q->piece(k->q->ctx, bytes);
    else
        k->ret->err = buf_add(&k->ret->body, bytes);
}

static void on_end(void *ctx, pd_err err, const char *why)
{
    struct asking *k = ctx;
    k->exchange = NULL;
    if (err && !k->ret->err)
        k->ret->err = err;
    snprintf(k->ret->why, sizeof(k->ret->why), "%s", why ? why : "");
    loop_stop(k->loop);
}

static void on_limit(void *ctx)
{
    struct asking *k = ctx;
    exchange_cancel(k->exchange);
    k->exchange = NULL;
    k->ret->err = PD_TIMEOUT;
    snprintf(k->ret->why, sizeof(k->ret->why), "it says nothing for %llu s",
             (unsigned long long)(k->limit_ms / 1000));
    loop_stop(k->loop);
}

static void on_closed(void *ctx)
{
    loop_stop(((struct asking *)ctx)->loop);
}

static pd_err begin(struct asking *k, const struct ask_where *a)
{
    static const struct exchange_handler handler = {NULL, on_head, on_body, NULL, on_end};
    struct client_rules rules;
    struct http1_field fields[3];
    unsigned n = 0;
    char bearer[600], path[ASK_BASE_MAX + ASK_PATH_MAX];
    client_rules_default(&rules);
    k->loop = loop_new();
    k->client = k->loop ? client_new(k->loop, &rules) : NULL;
    if (!k->client)
        return PD_NOMEM;
    timer_init(&k->limit, on_limit, k);
    struct origin_config origin = {.base_url = a->url, .proxy = ""};
    pd_err e = client_origin(k->client, &origin, &k->origin);
    if (e)
        return e;
    if (a->key && (size_t)snprintf(bearer, sizeof(bearer), "Bearer %s", a->key) >= sizeof(bearer))
        return PD_TOOBIG;
    if ((size_t)snprintf(path, sizeof(path), "%s%s", a->base, k->q->path) >= sizeof(path))
        return PD_TOOBIG;
    if (a->key)
        fields[n++] = (struct http1_field){SPAN_LIT("Authorization"), span_str(bearer)};
    if (k->q->key)
        fields[n++] = (struct http1_field){SPAN_LIT("Idempotency-Key"), span_str(k->q->key)};
    if (k->q->body.n)
        fields[n++] = (struct http1_field){SPAN_LIT("Content-Type"), SPAN_LIT("application/json")};
    struct exchange_request rq = {.method = k->q->method ? k->q->method : "GET",
                                  .path = span_str(path),
                                  .fields = fields,
                                  .fields_count = n,
                                  .body = &k->q->body,
                                  .body_count = k->q->body.n ? 1 : 0};
    return exchange_start(k->client, k->origin, &rq, &handler, k, &k->exchange);
}

static void end(struct asking *k)
{
    if (k->exchange)
        exchange_cancel(k->exchange);
    origin_unref(k->origin);
    if (k->client) {
        client_close(k->client, on_closed, k);
        loop_run(k->loop);
        client_free(k->client);
    }
    loop_free(k->loop);
}

void ask(const struct ask_where *a, const struct ask_question *q, struct ask_answer *ret)
{
    struct asking k = {.q = q, .ret = ret, .limit_ms = q->limit_ms ? q->limit_ms : ASK_MS};
    *ret = (struct ask_answer){.body = {.limit_bytes = ASK_ANSWER_MAX}};
    ret->err = begin(&k, a);
    if (!ret->err) {
        timer_arm(k.loop, &k.limit, loop_now_ms(k.loop) + k.limit_ms);
        loop_run(k.loop);
        timer_stop(k.loop, &k.limit);
    }
    end(&k);
}

/* ---- what was wrong ------------------------------------------------------------------------------ */

static void say_nobody(const struct ask_where *a, const struct ask_answer *w)
{
    fprintf(stderr,
            "%s: no perdure answers at %s (%s): start one with `perdure serve`, or say with --url where it runs\n",
            a->command, a->url, w->why[0] ? w->why : pd_err_text(w->err));
}

/* What a running perdure says in place of an answer; without what could move the cursor. */
static void say_refused(const struct ask_where *a, const struct ask_answer *w)
{
    struct json body = {JSON_OBJECT, buf_span(&w->body)};
    struct span said = SPAN_NONE;
    if (span_starts(body.raw, "{") && !json_check(body.raw))
        said = json_inner(json_path(body, "error.message"));
    fprintf(stderr, "%s: %s answers with status %d", a->command, a->url, w->status);
    if (said.n)
        fprintf(stderr, ": %.*s", SPAN_FMT(span_upto(said, 400)));
    if (w->status == 401 || w->status == 403)
        fprintf(stderr, a->key ? "; the key in that variable is not one that may ask this"
                               : "; name the variable that holds an admin key with --key-env");
    else if (w->status == 404 && !said.n)
        fprintf(stderr, "; it may be no perdure");
    fputc('\n', stderr);
}

uint64_t ask_checkpoint_ms(uint64_t without)
{
    const char *text = getenv("CHECKPOINT_INTERVAL");
    uint64_t n;
    return text && span_u64(span_str(text), &n) && n > 0 && n < 1000000 ? n * 1000 : without;
}

void ask_no_perdure(const struct ask_where *a)
{
    fprintf(stderr, "%s: what answers at %s is no perdure, or one of another version\n", a->command, a->url);
}

bool ask_well(const struct ask_where *a, const struct ask_question *q, struct ask_answer *ret)
{
    ask(a, q, ret);
    if (ret->status == 0 || ret->err)
        say_nobody(a, ret);
    else if (!is_well(ret->status))
        say_refused(a, ret);
    else
        return true;
    buf_done(&ret->body);
    return false;
}

bool ask_json(const struct ask_where *a, const struct ask_question *q, struct ask_answer *ret)
{
    if (!ask_well(a, q, ret))
        return false;
    if (span_starts(span_trim(buf_span(&ret->body)), "{") && !json_check(buf_span(&ret->body)))
        return true;
    ask_no_perdure(a);
    buf_done(&ret->body);
    return false;
}

/* ---- where ------------------------------------------------------------------------------------------ */

void ask_init(struct ask_where *a, const char *command)
{
    *a = (struct ask_where){.command = command, .url = ASK_URL_DEFAULT};
}

bool ask_url(struct ask_where *a, const char *text)
{
    char whole[ASK_URL_MAX];
    const char *why;
    struct url u;
    int n = snprintf(whole, sizeof(whole), "%s%s", strstr(text, "://") ? "" : "http://", text);
    if ((size_t)n >= sizeof(whole) || url_parse(span_str(whole), &u, &why) || u.query.p || u.user_info.p)
        return false;
    if (span_ends(u.path, "/v1"))
        u.path.n -= 3;
    if (u.path.n >= sizeof(a->base))
        return false;
    snprintf(a->base, sizeof(a->base), "%.*s", SPAN_FMT(u.path));
    snprintf(a->url, sizeof(a->url), u.ipv6 ? "%s://[%.*s]:%u" : "%s://%.*s:%u", u.tls ? "https" : "http",
             SPAN_FMT(u.host), u.port);
    return true;
}

void ask_find(struct ask_where *a, const char *config)
{
    struct serving s;
    char *folder = a->said ? NULL : load_state_folder(config);
    if (folder && serving_read(folder, &s) == PD_OK)
        (void)ask_url(a, s.url);
    mem_free(folder);
}

bool ask_key_env(struct ask_where *a, const char *variable)
{
    a->key_variable = variable;
    a->key = getenv(variable);
    if (a->key && *a->key)
        return true;
    a->key = NULL;
    return false;
}

/* ---- options ------------------------------------------------------------------------------------------ */

bool ask_option(int argc, char **argv, int *i, const char *name, const char **ret)
{
    size_t n = strlen(name);
    if (strncmp(argv[*i], name, n) != 0 || (argv[*i][n] != '=' && argv[*i][n] != '\0'))
        return false;
    if (argv[*i][n] == '=')
        *ret = argv[*i] + n + 1;
    else
        *ret = *i + 1 < argc ? argv[++*i] : NULL;
    return true;
}

bool ask_time(const char *text, const char *least, const char *most, uint64_t *ret)
{
    char why[200];
    const struct setting_row row = {
        .name = "time", .dflt = least, .least = least, .most = most, .type = SETTING_DURATION};
    return text && setting_parse(&row, span_str(text), ret, why, sizeof(why)) == PD_OK;
}

int ask_where_option(struct ask_where *a, int argc, char **argv, int *i)
{
    const char *value;
    if (ask_option(argc, argv, i, "--url", &value)) {
        a->said = true;
        if (value && ask_url(a, value))
            return 1;
        return misuse_value(a->command, "--url", value, "write it as in " ASK_URL_DEFAULT);
    }
    if (ask_option(argc, argv, i, "--key-env", &value)) {
        if (value && ask_key_env(a, value))
            return 1;
        return value ? misuse(a->command, "--key-env names \"%.200s\", which is not set", value)
                     : misuse_value(a->command, "--key-env", NULL, NULL);
    }
    return 0;
}
