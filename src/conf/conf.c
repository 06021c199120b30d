#include "conf/conf_priv.h"

#include "base/mem.h"

#include <arpa/inet.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

const char *conf_getenv(void *ctx, const char *name)
{
    (void)ctx;
    return getenv(name);
}

/* ---- addresses ------------------------------------------------------------------- */

/* "127.0.0.1:80", "[::1]:80": what stands before the last colon, without brackets, and what after it. */
static bool split_address(struct span in, struct span *ret_host, struct span *ret_port)
{
    const char *colon = in.n ? memrchr(in.p, ':', in.n) : NULL;
    if (!colon)
        return false;
    struct span host = span_of(in.p, (size_t)(colon - in.p));
    *ret_port = span_from(in, host.n + 1);
    bool bracket = host.n >= 2 && host.p[0] == '[' && host.p[host.n - 1] == ']';
    *ret_host = bracket ? span_of(host.p + 1, host.n - 2) : host;
    return bracket || !memchr(host.p, ':', host.n);
}

static bool numeric(struct span host, int family, unsigned char out[16])
{
    char text[INET6_ADDRSTRLEN];
    if (host.n == 0 || host.n >= sizeof(text) || memchr(host.p, '\0', host.n))
        return false;
    memcpy(text, host.p, host.n);
    text[host.n] = '\0';
    return inet_pton(family, text, out) == 1;
}

bool conf_is_loopback(const char *address)
{
    static const unsigned char v6[16] = {[15] = 1}, mapped[13] = {[10] = 0xff, 0xff, 127};
    struct span host, port;
    unsigned char bytes[16];
    if (!split_address(span_str(address), &host, &port))
        return false;
    if (span_iis(host, "localhost"))
        return true;
    if (numeric(host, AF_INET, bytes))
        return bytes[0] == 127;
    return numeric(host, AF_INET6, bytes) && (memcmp(bytes, v6, 16) == 0 || memcmp(bytes, mapped, 13) == 0);
}

const char *conf_listen_form(struct conf_reader *r, struct span text, const char **ret_why)
{
    struct span host, port;
    unsigned char bytes[16];
    uint64_t number;
    char out[INET6_ADDRSTRLEN + 16];
    if (!split_address(text, &host, &port)) {
        *ret_why = "write an address and a port, as in 127.0.0.1:8080 or [::1]:8080";
        return NULL;
    }
    if (!span_u64(port, &number) || number > 65535) {
        *ret_why = "after the ':' comes a port from 0 to 65535 (0 takes a free one)";
        return NULL;
    }
    if (span_iis(host, "localhost"))
        host = SPAN_LIT("127.0.0.1");
    else if (host.n == 0 || span_is(host, "*"))
        host = SPAN_LIT("0.0.0.0");
    if (numeric(host, AF_INET, bytes))
        snprintf(out, sizeof(out), "%.*s:%u", SPAN_FMT(host), (unsigned)number);
    else if (numeric(host, AF_INET6, bytes))
        snprintf(out, sizeof(out), "[%.*s]:%u", SPAN_FMT(host), (unsigned)number);
    else {
        *ret_why = "before the ':' comes a numeric address of this machine, as in 127.0.0.1, 0.0.0.0 or [::]";
        return NULL;
    }
    return conf_copy(r, span_str(out));
}

/* ---- client keys ------------------------------------------------------------------ */

/* All keys are compared, each in constant time: how long it takes tells nothing of which came near. */
const struct conf_key *conf_find_key(const struct conf *c, struct span key)
{
    unsigned char sha256[32];
    const struct conf_key *found = NULL;
    if (EVP_Digest(key.n ? key.p : "", key.n, sha256, NULL, EVP_sha256(), NULL) != 1)
        return NULL;
    for (unsigned i = 0; i < c->keys_count; i++)
        if (CRYPTO_memcmp(sha256, c->keys[i].sha256, sizeof(sha256)) == 0)
            found = &c->keys[i];
    OPENSSL_cleanse(sha256, sizeof(sha256));
    return found;
}

/* ---- loading ------------------------------------------------------------------------ */

struct conf *conf_free(struct conf *c)
{
    if (!c)
        return NULL;
    struct conf_owned *owned = (struct conf_owned *)(void *)c;
    arena_done(&owned->arena);
    mem_free(owned);
    return NULL;
}

static struct conf *conf_new(const char *path)
{
    static const char *const listen[] = {"127.0.0.1:8080"};
    struct conf_owned *owned = mem_zalloc(sizeof(*owned));
    if (!owned)
        return NULL;
    struct conf *c = &owned->conf;
    arena_init(&owned->arena, 4096, CONF_MEMORY_MAX);
    c->listen = arena_zalloc(&owned->arena, sizeof(*c->listen));
    if (!c->listen)
        return conf_free(c);
    c->listen[0] = listen[0];
    c->listen_count = 1;
    c->state = "./perdure-state";
    c->log_level = LOG_INFO;
    settings_default(&c->settings);
    if (path && !(c->path = arena_strndup(&owned->arena, path, strlen(path))))
        return conf_free(c);
    return c;
}

static const struct tree_rules yaml_rules = {
    .what = "config",
    .empty = "write at least `listen: 127.0.0.1:8080`, or start without a file",
    .depth = 16,
    .values = 50000,
    .anchors = 100,
    .entries = 2000,
};

static void say_yaml(void *ctx, unsigned line, const char *why)
{
    conf_error((struct conf_reader *)ctx, line, "%s", why);
}

/* `text` p NULL: the environment alone. */
static pd_err build(struct span text, const char *path, const struct preset_table *presets, conf_env_fn *env,
                    void *env_ctx, struct conf_report *report, struct conf **ret)
{
    struct conf *c = conf_new(path);
    if (!c)
        return PD_NOMEM;
    struct conf_reader r = {
        .c = c,
        .arena = &((struct conf_owned *)(void *)c)->arena,
        .name = path ? path : "environment",
        .presets = presets,
        .env = env,
        .env_ctx = env_ctx,
        .report = report,
    };
    arena_init(&r.scratch, 16384, CONF_MEMORY_MAX);
    if (text.p) {
        struct tree_reader tree = {.rules = &yaml_rules, .arena = &r.scratch, .say = say_yaml, .ctx = &r};
        const struct node *root = tree_yaml(&tree, text);
        r.nomem |= tree.nomem;
        if (root)
            conf_read_file(&r, root);
    } else
        conf_env_all(&r);
    arena_done(&r.scratch);

    pd_err e = r.nomem ? PD_NOMEM : report->errors ? PD_INVALID : PD_OK;
    if (e)
        conf_free(c);
    else
        *ret = c;
    return e;
}

/* For remarks about the file itself. */
static void say_file(struct conf_report *report, const char *name, const char *why)
{
    struct conf_reader r = {.name = name, .report = report};
    conf_error(&r, 0, "%s", why);
}

pd_err conf_parse(struct span text, const char *name, const struct preset_table *presets, conf_env_fn *env,
                  void *env_ctx, struct conf_report *report, struct conf **ret)
{
    *report = (struct conf_report){0};
    if (text.n > CONF_FILE_MAX) {
        say_file(report, name, "the file is larger than 4 MB: a config is not");
        return PD_TOOBIG;
    }
    return build(text.p ? text : SPAN_LIT(""), name, presets, env, env_ctx, report, ret);
}

static pd_err read_all(int fd, struct buf *out)
{
    for (;;) {
        pd_err e = buf_reserve(out, 16384);
        if (e)
            return e;
        ssize_t n = read(fd, out->p + out->tail, 16384);
        if (n == 0)
            return PD_OK;
        if (n < 0 && errno != EINTR)
            return PD_IO;
        if (n > 0)
            buf_added(out, (size_t)n);
        if (buf_size(out) > CONF_FILE_MAX)
            return PD_TOOBIG;
    }
}

static pd_err read_file(const char *path, struct buf *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? PD_NOTFOUND : PD_IO;
    pd_err e = read_all(fd, out);
    int why = errno;
    close(fd);
    errno = why;
    return e;
}

pd_err conf_load(const char *path, const struct preset_table *presets, conf_env_fn *env, void *env_ctx,
                 struct conf_report *report, struct conf **ret)
{
    *report = (struct conf_report){0};
    if (!path)
        return build(SPAN_NONE, NULL, presets, env, env_ctx, report, ret);
    struct buf text;
    buf_init(&text, CONF_FILE_MAX + 32768);
    pd_err e = read_file(path, &text);
    if (!e)
        e = conf_parse(buf_size(&text) ? buf_span(&text) : SPAN_LIT(""), path, presets, env, env_ctx, report, ret);
    else if (e == PD_NOTFOUND || e == PD_IO) {
        char why[200];
        snprintf(why, sizeof(why), "cannot be read: %s", strerror(errno));
        say_file(report, path, why);
    } else if (e == PD_TOOBIG)
        say_file(report, path, "the file is larger than 4 MB: a config is not");
    buf_done(&text);
    return e;
}
