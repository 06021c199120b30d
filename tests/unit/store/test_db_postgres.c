/* What db.h promises, with a real PostgreSQL that is killed, cut off and in the way of itself. */
#include "db_promises.h"
#include "postgres.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

static struct postgres *server;

static pd_err forget_tables(struct tx *t, void *ctx)
{
    (void)ctx;
    pd_err e = tx_run(t, "DROP SCHEMA public CASCADE", NULL, 0, NULL, NULL);
    return e ? e : tx_run(t, "CREATE SCHEMA public", NULL, 0, NULL, NULL);
}

static int make(void **state)
{
    (void)state;
    snprintf(where, sizeof(where), "%s", postgres_url(server));
    postgres_sql(server, "DROP SCHEMA public CASCADE; CREATE SCHEMA public", NULL, 0);
    return 0;
}

static void conflicts_are_run_again(void **state)
{
    (void)state;
    assert_true(count_together(read_then_write, 50) > 0);
}

/* ---- the server dies ---- */

/* In the middle of its first run it lets the test do something to the server. */
struct middle {
    sem_t in, out;
    unsigned runs;
    bool reads, begun; /* begun: a statement was run before */
    pd_err second;     /* what the statement after it said, in the first run */
};

static void middle_init(struct middle *m)
{
    *m = (struct middle){0};
    sem_init(&m->in, 0, 0);
    sem_init(&m->out, 0, 0);
}

static pd_err insert_twice(struct tx *t, void *ctx)
{
    struct middle *m = ctx;
    pd_err e = TX_RUN(t, "INSERT INTO t (id) VALUES ($1)", NULL, NULL, DB_I(1));
    if (++m->runs == 1) {
        assert_int_equal(e, PD_OK);
        sem_post(&m->in);
        sem_wait(&m->out);
        m->second = TX_RUN(t, "INSERT INTO t (id) VALUES ($1)", NULL, NULL, DB_I(2));
        return PD_NOTFOUND; /* which nobody is told: the job was not done */
    }
    return e ? e : TX_RUN(t, "INSERT INTO t (id) VALUES ($1)", NULL, NULL, DB_I(2));
}

struct doing {
    struct db *d;
    db_job_fn *fn;
    void *ctx;
    pd_err e;
    pthread_t thread;
};

static void *do_it(void *arg)
{
    struct doing *x = arg;
    x->e = db_do(x->d, x->fn, x->ctx);
    return NULL;
}

static void begin(struct doing *x, struct db *d, db_job_fn *fn, void *ctx)
{
    *x = (struct doing){.d = d, .fn = fn, .ctx = ctx, .e = PD_UNSUPPORTED};
    assert_int_equal(pthread_create(&x->thread, NULL, do_it, x), 0);
}

static void kill_and_start(void)
{
    postgres_kill(server);
    postgres_again(server);
}

static void cut_all(void)
{
    char n[20];
    postgres_sql(
        server, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'perdure'",
        n, sizeof(n));
    assert_true(atoi(n) >= 1);
}

static void run_again_after(void (*deed)(void))
{
    struct db *d = with_table();
    struct db_stats s;
    struct middle m;
    struct doing x;
    middle_init(&m);
    begin(&x, d, insert_twice, &m);
    sem_wait(&m.in);
    deed();
    sem_post(&m.out);
    pthread_join(x.thread, NULL);
    assert_int_equal(x.e, PD_OK);
    assert_int_equal(m.second, PD_CANCELLED);
    assert_int_equal(m.runs, 2);
    assert_int_equal(rows_in(d), 2);
    db_stats(d, &s);
    assert_true(s.again >= 1);
    assert_true(s.connects >= 3); /* the first, another thread's or two, and a new one */
    db_close(d);
}

static void a_job_in_whose_middle_the_server_is_killed_is_run_again(void **state)
{
    (void)state;
    run_again_after(kill_and_start);
}

static void a_job_whose_connection_is_ended_is_run_again(void **state)
{
    (void)state;
    run_again_after(cut_all);
}

static void connections_that_were_cut_while_idle_are_made_again(void **state)
{
    (void)state;
    struct db *d = with_table();
    for (int64_t i = 0; i < 5; i++) {
        struct insert x = {.id = i};
        cut_all();
        assert_int_equal(db_do(d, insert, &x), PD_OK);
    }
    assert_int_equal(rows_in(d), 5);
    db_close(d);
}

/* Inserts row after row; counts what was told done. */
struct writer {
    struct db *d;
    int64_t first;
    _Atomic int64_t told;
    atomic_bool *end;
    _Atomic pd_err failed;
};

static pd_err insert_once(struct tx *t, void *ctx)
{
    return TX_RUN(t, "INSERT INTO t (id) VALUES ($1) ON CONFLICT (id) DO NOTHING", NULL, NULL,
                  DB_I(*(int64_t *)ctx));
}

static void *write_many(void *arg)
{
    struct writer *w = arg;
    while (!atomic_load(w->end) && !w->failed) {
        int64_t id = w->first + w->told;
        w->failed = db_do(w->d, insert_once, &id);
        w->told += !w->failed;
    }
    return NULL;
}

static void what_was_told_done_survives_the_servers_end(void **state)
{
    (void)state;
    enum { WRITERS = 4, KILLS = 3 };
    struct db *d = with_table();
    struct writer w[WRITERS];
    pthread_t threads[WRITERS];
    atomic_bool end = false;
    int64_t told = 0;
    for (int i = 0; i < WRITERS; i++) {
        w[i] = (struct writer){.d = d, .first = i * 1000000, .end = &end};
        pthread_create(&threads[i], NULL, write_many, &w[i]);
    }
    for (int k = 0; k < KILLS; k++) {
        int64_t seen = w[0].told; /* while they write */
        while (w[0].told < seen + 5 && !w[0].failed)
            usleep(1000);
        kill_and_start();
    }
    atomic_store(&end, true);
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(w[i].failed, PD_OK);
        told += w[i].told;
    }
    struct db_stats s;
    db_stats(d, &s);
    assert_true(s.again >= KILLS);
    assert_int_equal(rows_in(d), told);
    db_close(d);
}

static void a_server_that_stays_away_is_told_and_comes_back(void **state)
{
    (void)state;
    struct db_rules r;
    struct insert x = {.id = 1};
    char trouble[DB_WHY_BYTES];
    db_rules_default(&r);
    r.patience_ms = 300;
    r.connections = 1;
    struct db *d = open_with(&r);
    assert_int_equal(db_do(d, make_table, NULL), PD_OK);
    postgres_kill(server);
    assert_int_equal(db_do(d, insert, &x), PD_IO);
    db_trouble(d, trouble, sizeof(trouble));
    assert_true(trouble[0]);
    postgres_again(server);
    assert_int_equal(db_do(d, insert, &x), PD_OK);
    db_trouble(d, trouble, sizeof(trouble));
    assert_string_equal(trouble, "");
    assert_int_equal(rows_in(d), 1);
    db_close(d);
}

static void closing_does_not_wait_for_a_server_that_is_gone(void **state)
{
    (void)state;
    struct db *d = with_table();
    struct insert in = {.id = 1};
    struct doing x;
    char trouble[DB_WHY_BYTES];
    postgres_kill(server);
    begin(&x, d, insert, &in);
    do { /* it is tried again and again */
        usleep(1000);
        db_trouble(d, trouble, sizeof(trouble));
    } while (!trouble[0]);
    uint64_t before = clock_mono_ms();
    db_close(d);
    assert_true(clock_mono_ms() - before < 10000);
    pthread_join(x.thread, NULL);
    assert_int_equal(x.e, PD_IO);
    postgres_again(server);
}

/* ---- opening ---- */

static const struct row {
    const char *name, *url;
    pd_err e;
    const char *says;
} absent[] = {
    {"nobody listens", "postgres://perdure:secret@127.0.0.1:1/postgres", PD_CONNECT, "check the address"},
    {"no such host", "postgres://perdure:secret@nobody.invalid/postgres", PD_CONNECT, "check the address"},
    {"no socket", "postgres://perdure:secret@/postgres?host=/nonexistent", PD_CONNECT, "check the address"},
    {"not an address", "postgres://perdure:secret@127.0.0.1:port/x?y", PD_INVALID, "postgres://USER@HOST"},
    {"not an address at all", "postgresql://perdure:secret@[::1", PD_INVALID, "postgres://USER@HOST"},
};

static void a_server_that_is_not_there_is_told_at_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++) {
        struct db *d = NULL;
        uint64_t before = clock_mono_ms();
        snprintf(where, sizeof(where), "%s", absent[i].url);
        assert_int_equal(try_open(NULL, &d), absent[i].e);
        assert_non_null(strstr(why, absent[i].says));
        assert_null(strstr(why, "secret"));
        assert_true(clock_mono_ms() - before < 9000);
    }
}

static void another_database_or_user_is_told(void **state)
{
    (void)state;
    struct db *d = NULL;
    char port[20];
    postgres_sql(server, "SHOW port", port, sizeof(port));
    snprintf(where, sizeof(where), "postgres://perdure@127.0.0.1:%s/nothing", port);
    assert_int_equal(try_open(NULL, &d), PD_CONNECT);
    assert_non_null(strstr(why, "\"nothing\" does not exist"));
}

static void a_socket_in_a_folder_will_do(void **state)
{
    (void)state;
    char port[20], folder[100];
    postgres_sql(server, "SHOW port", port, sizeof(port));
    postgres_sql(server, "SHOW unix_socket_directories", folder, sizeof(folder));
    snprintf(where, sizeof(where), "postgresql://perdure@/postgres?host=%s&port=%s", folder, port);
    struct db *d = with_table();
    assert_true(db_is_postgres(d));
    assert_int_equal(rows_in(d), 0);
    db_close(d);
}

/* A listener whose queue is full: what else comes is not answered. */
static int silent_host(int fill[3], unsigned *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, n), 0);
    assert_int_equal(listen(fd, 0), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &n), 0);
    for (int i = 0; i < 3; i++) {
        fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)!connect(fill[i], (struct sockaddr *)&at, n);
    }
    *port = ntohs(at.sin_port);
    return fd;
}

static void a_host_that_says_nothing_is_passed_over(void **state)
{
    (void)state;
    int fill[3];
    unsigned silent;
    char port[20];
    int fd = silent_host(fill, &silent);
    postgres_sql(server, "SHOW port", port, sizeof(port));
    snprintf(where, sizeof(where), "postgres://perdure@127.0.0.1:%u,127.0.0.1:%s/postgres", silent, port);
    uint64_t before = clock_mono_ms();
    struct db *d = one_connection(10);
    assert_in_range(clock_mono_ms() - before, 5000, 15000); /* the first was tried */
    assert_int_equal(rows_in(d), 0);
    db_close(d);
    for (int i = 0; i < 3; i++)
        close(fill[i]);
    close(fd);
}

static void *open_and_close(void *arg)
{
    struct db_rules r;
    struct db *d = NULL;
    char text[DB_WHY_BYTES];
    db_rules_default(&r);
    *(pd_err *)arg = db_open(where, &r, &d, text, sizeof(text));
    db_close(d);
    return NULL;
}

static void several_may_start_at_once(void **state)
{
    (void)state;
    pthread_t threads[8];
    pd_err e[8];
    char n[20];
    for (int i = 0; i < 8; i++)
        pthread_create(&threads[i], NULL, open_and_close, &e[i]);
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(e[i], PD_OK);
    }
    postgres_sql(server, "SELECT count(*) - count(DISTINCT version) FROM perdure_schema", n, sizeof(n));
    assert_string_equal(n, "0");
}

static void what_is_told_done_is_on_the_disk_whatever_the_servers_default(void **state)
{
    (void)state;
    char is[20];
    postgres_sql(server, "ALTER ROLE perdure SET synchronous_commit = off", NULL, 0);
    postgres_sql(server, "SHOW synchronous_commit", is, sizeof(is));
    assert_string_equal(is, "off");
    struct db *d = open_with(NULL);
    struct asked a = {.sql = "SELECT current_setting('synchronous_commit')"};
    assert_int_equal(db_do(d, ask_it, &a), PD_OK);
    assert_string_equal(a.is, "text on");
    a.sql = "SELECT current_setting('application_name')";
    assert_int_equal(db_do(d, ask_it, &a), PD_OK);
    assert_string_equal(a.is, "text perdure");
    db_close(d);
    postgres_sql(server, "ALTER ROLE perdure RESET ALL", NULL, 0);
}

/* ---- in each other's way ---- */

struct crossing {
    pthread_barrier_t *both;
    int64_t first, second;
    unsigned runs;
};

static pd_err cross(struct tx *t, void *ctx)
{
    struct crossing *c = ctx;
    pd_err e = TX_RUN(t, "UPDATE t SET n = n + 1 WHERE id = $1", NULL, NULL, DB_I(c->first));
    if (++c->runs == 1)
        pthread_barrier_wait(c->both);
    return e ? e : TX_RUN(t, "UPDATE t SET n = n + 1 WHERE id = $1", NULL, NULL, DB_I(c->second));
}

static pd_err sum_n(struct tx *t, void *ctx)
{
    return tx_run(t, "SELECT SUM(n) FROM t", NULL, 0, take_number, ctx);
}

static void a_deadlock_is_run_again(void **state)
{
    (void)state;
    struct db *d = with_table();
    pthread_barrier_t both;
    struct insert one = {.id = 1}, two = {.id = 2};
    assert_int_equal(db_do(d, insert, &one), PD_OK);
    assert_int_equal(db_do(d, insert, &two), PD_OK);
    pthread_barrier_init(&both, NULL, 2);
    struct crossing a = {&both, 1, 2, 0}, b = {&both, 2, 1, 0};
    struct doing x, y;
    begin(&x, d, cross, &a);
    begin(&y, d, cross, &b);
    pthread_join(x.thread, NULL);
    pthread_join(y.thread, NULL);
    int64_t n = 0;
    assert_int_equal(x.e, PD_OK);
    assert_int_equal(y.e, PD_OK);
    assert_true(a.runs + b.runs >= 3); /* the one that is run again may meet the other once more */
    assert_int_equal(db_do(d, sum_n, &n), PD_OK);
    assert_int_equal(n, 4);
    pthread_barrier_destroy(&both);
    db_close(d);
}

/* What the server's codes mean: once it says so, then it does not. */
static const struct code {
    const char *state;
    pd_err e; /* PD_OK: the job is run again, and done */
    bool connects;
} codes[] = {
    {"40001", PD_OK, false},      {"40P01", PD_OK, false},      {"40003", PD_OK, false},
    {"57P01", PD_OK, true},       {"57P02", PD_OK, true},       {"57P03", PD_OK, true},
    {"08006", PD_OK, true},       {"08003", PD_OK, true},       {"08P01", PD_INVALID, false},
    {"25P03", PD_OK, true},       {"25006", PD_OK, true},       {"26000", PD_OK, true},
    {"0A000", PD_OK, true},       {"53100", PD_NOSPACE, false}, {"53200", PD_NOMEM, false},
    {"53400", PD_IO, false},      {"57014", PD_TIMEOUT, false}, {"55P03", PD_TIMEOUT, false},
    {"54000", PD_TOOBIG, false},  {"58030", PD_IO, false},      {"XX001", PD_IO, false},
    {"23505", PD_EXISTS, false},  {"23503", PD_INVALID, false}, {"42P01", PD_INVALID, false},
    {"22003", PD_INVALID, false},
};

struct coded {
    const char *state;
    unsigned runs;
};

static pd_err say_code(struct tx *t, void *ctx)
{
    struct coded *c = ctx;
    pd_err e = TX_RUN(t, "INSERT INTO t (id) VALUES ($1)", NULL, NULL, DB_I(1));
    return e || ++c->runs == 2 ? e : TX_RUN(t, "SELECT say_code($1)", NULL, NULL, DB_S(c->state));
}

static void each_code_means_what_it_says(void **state)
{
    (void)state;
    struct db *d = one_connection(10);
    postgres_sql(server,
                 "CREATE FUNCTION say_code(s text) RETURNS int LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''x'' "
                 "USING ERRCODE = "
                 "s; END'",
                 NULL, 0);
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        struct db_stats before, after;
        struct coded c = {.state = codes[i].state};
        postgres_sql(server, "DELETE FROM t", NULL, 0);
        db_stats(d, &before);
        pd_err e = db_do(d, say_code, &c);
        db_stats(d, &after);
        if (e != codes[i].e)
            fprintf(stderr, "%s: %s\n", c.state, pd_err_name(e));
        assert_int_equal(e, codes[i].e);
        assert_int_equal(c.runs, e ? 1 : 2);
        assert_int_equal(after.again - before.again, e ? 0 : 1);
        assert_int_equal(after.connects - before.connects, codes[i].connects);
        assert_int_equal(rows_in(d), e ? 0 : 1);
    }
    db_close(d);
}

static pd_err always_in_conflict(struct tx *t, void *ctx)
{
    ++*(unsigned *)ctx;
    return TX_RUN(t, "SELECT say_code($1)", NULL, NULL, DB_S("40001"));
}

static pd_err sleep_job(struct tx *t, void *ctx)
{
    (void)ctx;
    return tx_run(t, "SELECT pg_sleep(20)", NULL, 0, NULL, NULL);
}

static void *sleep_main(void *d)
{
    struct db_job job = {.fn = sleep_job, .limit_ms = 3000};
    return db_do_job(d, &job) ? NULL : d;
}

/* Neither where it runs nor where it waits for the only connection. */
static void a_job_with_a_limit_is_waited_for_no_longer(void **state)
{
    (void)state;
    struct db_rules r;
    pthread_t busy;
    db_rules_default(&r);
    r.connections = 1;
    struct db *d = open_with(&r);
    struct db_job job = {.fn = sleep_job, .limit_ms = 300};
    uint64_t before = clock_mono_ms();
    assert_int_equal(db_do_job(d, &job), PD_IO);
    assert_in_range(clock_mono_ms() - before, 300, 2500);
    assert_int_equal(pthread_create(&busy, NULL, sleep_main, d), 0);
    struct db_stats stats;
    do
        db_stats(d, &stats);
    while (stats.connects < 2); /* the first was given up */
    before = clock_mono_ms();
    assert_int_equal(db_do_job(d, &job), PD_TIMEOUT);
    assert_in_range(clock_mono_ms() - before, 300, 2000);
    void *slept;
    pthread_join(busy, &slept);
    assert_null(slept);
    db_close(d);
}

static void a_job_that_is_always_in_conflict_ends_when_patience_does(void **state)
{
    (void)state;
    struct db_rules r;
    unsigned runs = 0;
    db_rules_default(&r);
    r.patience_ms = 500;
    struct db *d = open_with(&r);
    postgres_sql(server,
                 "CREATE FUNCTION say_code(s text) RETURNS int LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''x'' "
                 "USING ERRCODE = "
                 "s; END'",
                 NULL, 0);
    assert_int_equal(db_do(d, always_in_conflict, &runs), PD_IO);
    assert_in_range(runs, 3, 400); /* with pauses */
    db_close(d);
}

static pd_err always_not_supported(struct tx *t, void *ctx)
{
    (void)ctx;
    return TX_RUN(t, "SELECT say_code($1)", NULL, NULL, DB_S("0A000"));
}

static void what_a_new_connection_does_not_know_either_is_a_mistake_of_ours(void **state)
{
    (void)state;
    struct db *d = one_connection(10);
    postgres_sql(server,
                 "CREATE FUNCTION say_code(s text) RETURNS int LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''x'' "
                 "USING ERRCODE = "
                 "s; END'",
                 NULL, 0);
    uint64_t before = clock_mono_ms();
    assert_int_equal(db_do(d, always_not_supported, NULL), PD_INVALID);
    assert_true(clock_mono_ms() - before < 10000);
    db_close(d);
}

static pd_err columns_of(void *ctx, const struct db_value *v, unsigned n)
{
    (void)v;
    *(unsigned *)ctx = n;
    return PD_OK;
}

static pd_err select_all(struct tx *t, void *ctx)
{
    return tx_run(t, "SELECT * FROM t", NULL, 0, columns_of, ctx);
}

static void a_table_may_change_under_a_prepared_statement(void **state)
{
    (void)state;
    struct db *d = one_connection(10);
    struct insert x = {.id = 1};
    unsigned before = 0, after = 0;
    assert_int_equal(db_do(d, insert, &x), PD_OK);
    assert_int_equal(db_do(d, select_all, &before), PD_OK);
    postgres_sql(server, "ALTER TABLE t ADD COLUMN more BIGINT", NULL, 0);
    assert_int_equal(db_do(d, select_all, &after), PD_OK);
    assert_int_equal(after, before + 1);
    db_close(d);
}

static pd_err forget_prepared(struct tx *t, void *ctx)
{
    (void)ctx;
    return tx_run(t, "DEALLOCATE ALL", NULL, 0, NULL, NULL);
}

static void a_pooler_may_forget_what_was_prepared(void **state)
{
    (void)state;
    struct db *d = one_connection(10);
    struct insert x = {.id = 1}, y = {.id = 2};
    assert_int_equal(db_do(d, insert, &x), PD_OK);
    assert_int_equal(db_do(d, forget_prepared, NULL), PD_OK);
    assert_int_equal(db_do(d, insert, &y), PD_OK);
    assert_int_equal(rows_in(d), 2);
    db_close(d);
}

/* ---- the line in between ---- */

/* Carries bytes between the database and the server, and fails on order. */
enum fault {
    FAULT_NONE,
    FAULT_AFTER_COMMIT /* its answer is lost, and the connection */,
    FAULT_SILENT /* nothing comes back */
};
static struct {
    int fd, stop[2], port;
    pthread_t thread;
    _Atomic enum fault fault;
    _Atomic unsigned struck;
} line;

enum { PAIRS_MAX = 32 };

static int upstream(void)
{
    char port[20];
    snprintf(port, sizeof(port), "%s", strrchr(postgres_url(server), ':') + 1);
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0 ? fd : (close(fd), -1);
}

/* False: this pair is over. */
static bool carry(int from, int to, bool answers)
{
    static _Thread_local bool committed;
    char b[65536];
    ssize_t n = read(from, b, sizeof(b));
    if (n <= 0)
        return false;
    if (!answers && atomic_load(&line.fault) == FAULT_AFTER_COMMIT && memmem(b, (size_t)n, "COMMIT", 6))
        committed = true;
    if (answers && committed) { /* the server has done it */
        committed = false;
        atomic_store(&line.fault, FAULT_NONE);
        atomic_fetch_add(&line.struck, 1);
        return false;
    }
    if (answers && atomic_load(&line.fault) == FAULT_SILENT) {
        atomic_fetch_add(&line.struck, 1);
        return true;
    }
    return write(to, b, (size_t)n) == n;
}

/* Of a pair; one that is not listened to any more has its number turned round. */
static int upstream_of(const struct pollfd *pair)
{
    return pair[1].fd >= 0 ? pair[1].fd : -1 - pair[1].fd;
}

static void *line_main(void *arg)
{
    (void)arg;
    struct pollfd f[2 + 2 * PAIRS_MAX] = {{.fd = line.stop[0], .events = POLLIN},
                                          {.fd = line.fd, .events = POLLIN}};
    int n = 2;
    while (poll(f, (nfds_t)n, -1) > 0 && !f[0].revents) {
        for (int i = 2; i < n; i += 2) {
            bool answered = f[i + 1].fd >= 0 && f[i + 1].revents;
            bool over = (f[i].revents && !carry(f[i].fd, upstream_of(&f[i]), false)) ||
                        (answered && !carry(f[i + 1].fd, f[i].fd, true));
            if (answered && !over && atomic_load(&line.fault) == FAULT_SILENT)
                f[i + 1].fd = -1 - f[i + 1].fd; /* nor does its end come through */
            if (over) {
                close(f[i].fd);
                close(upstream_of(&f[i]));
                f[i].fd = f[i + 1].fd = -1;
            }
        }
        if (f[1].revents && n < 2 + 2 * PAIRS_MAX) {
            f[n] = (struct pollfd){.fd = accept(line.fd, NULL, NULL), .events = POLLIN};
            f[n + 1] = (struct pollfd){.fd = upstream(), .events = POLLIN};
            n += 2;
        }
    }
    for (int i = 2; i < n; i += 2)
        if (f[i].fd >= 0) {
            close(f[i].fd);
            close(upstream_of(&f[i]));
        }
    return NULL;
}

static int make_line(void **state)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(at);
    make(state);
    line.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(line.fd, (struct sockaddr *)&at, n) != 0 || listen(line.fd, 10) != 0 ||
        getsockname(line.fd, (struct sockaddr *)&at, &n) != 0 || pipe(line.stop) != 0)
        return -1;
    line.fault = FAULT_NONE;
    line.struck = 0;
    snprintf(where, sizeof(where), "postgres://perdure@127.0.0.1:%u/postgres?sslmode=disable&gssencmode=disable",
             ntohs(at.sin_port));
    return pthread_create(&line.thread, NULL, line_main, NULL);
}

static int drop_line(void **state)
{
    (void)state;
    close(line.stop[1]);
    pthread_join(line.thread, NULL);
    close(line.stop[0]);
    return close(line.fd);
}

static pd_err insert_or_find(struct tx *t, void *ctx)
{
    struct insert *x = ctx;
    x->runs++;
    return TX_RUN(t, "INSERT INTO t (id) VALUES ($1) ON CONFLICT (id) DO NOTHING", NULL, NULL, DB_I(x->id));
}

static void a_commit_whose_answer_is_lost_is_run_again(void **state)
{
    (void)state;
    struct db *d = one_connection(10);
    for (int64_t i = 1; i <= 3; i++) {
        struct insert x = {.id = i};
        atomic_store(&line.fault, FAULT_AFTER_COMMIT);
        assert_int_equal(db_do(d, insert_or_find, &x), PD_OK);
        assert_int_equal(x.runs, 2);
        assert_int_equal(line.struck, i);
        assert_int_equal(rows_in(d), i);
    }
    db_close(d);
}

static void a_line_that_has_gone_silent_is_given_up(void **state)
{
    (void)state;
    struct db_rules r;
    struct insert x = {.id = 1};
    db_rules_default(&r);
    r.connections = 1;
    r.timeout_ms = 100;
    r.patience_ms = 1000;
    struct db *d = open_with(&r);
    assert_int_equal(db_do(d, make_table, NULL), PD_OK);
    atomic_store(&line.fault, FAULT_SILENT);
    assert_int_equal(db_do(d, insert, &x), PD_IO);
    assert_true(line.struck > 0);
    atomic_store(&line.fault, FAULT_NONE);
    assert_int_equal(db_do(d, insert, &x), PD_OK);
    assert_int_equal(rows_in(d), 1);
    db_close(d);
}

#define POSTGRES_PROMISES(TEST)                                           \
    TEST(conflicts_are_run_again)                                         \
    TEST(a_job_in_whose_middle_the_server_is_killed_is_run_again)         \
    TEST(a_job_whose_connection_is_ended_is_run_again)                    \
    TEST(connections_that_were_cut_while_idle_are_made_again)             \
    TEST(what_was_told_done_survives_the_servers_end)                     \
    TEST(a_server_that_stays_away_is_told_and_comes_back)                 \
    TEST(closing_does_not_wait_for_a_server_that_is_gone)                 \
    TEST(a_server_that_is_not_there_is_told_at_once)                      \
    TEST(another_database_or_user_is_told)                                \
    TEST(a_socket_in_a_folder_will_do)                                    \
    TEST(a_host_that_says_nothing_is_passed_over)                         \
    TEST(several_may_start_at_once)                                       \
    TEST(what_is_told_done_is_on_the_disk_whatever_the_servers_default)   \
    TEST(a_deadlock_is_run_again)                                         \
    TEST(a_job_with_a_limit_is_waited_for_no_longer)                      \
    TEST(a_job_that_is_always_in_conflict_ends_when_patience_does)        \
    TEST(each_code_means_what_it_says)                                    \
    TEST(what_a_new_connection_does_not_know_either_is_a_mistake_of_ours) \
    TEST(a_table_may_change_under_a_prepared_statement)                   \
    TEST(a_pooler_may_forget_what_was_prepared)

int main(void)
{
    server = postgres_start();
    if (!server)
        return 77;
#define TEST(name) cmocka_unit_test_setup(name, make),
#define LINE(name) cmocka_unit_test_setup_teardown(name, make_line, drop_line),
    const struct CMUnitTest tests[] = {DB_PROMISES(TEST) POSTGRES_PROMISES(TEST) LINE(
        a_commit_whose_answer_is_lost_is_run_again) LINE(a_line_that_has_gone_silent_is_given_up)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    postgres_end(server);
    return failed;
}
