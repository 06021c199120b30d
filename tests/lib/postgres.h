/* postgres.h - a PostgreSQL server of a test's own, that can be killed and started again (tests/lib/postgres_server). Tests run in the
 * repository's folder. */
#ifndef PERDURE_TESTS_POSTGRES_H
#define PERDURE_TESTS_POSTGRES_H

#include <stdbool.h>

struct postgres;
/* NULL: no server is installed. Aborts when one is and does not start. Ends with the process, however that ends. */
struct postgres *postgres_start(void);
const char *postgres_url(const struct postgres *p);
void postgres_kill(struct postgres *p);  /* kill -9 of all its processes; returns when they are gone */
void postgres_again(struct postgres *p); /* the same data and port; returns when it answers */
/* Aborts when it fails. `out`: the first line of what it gives; NULL is fine. */
void postgres_sql(struct postgres *p, const char *sql, char *out, int room);
struct postgres *postgres_end(struct postgres *p);

#endif
