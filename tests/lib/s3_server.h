/* s3_server.h - a real S3 server for C tests: tests/lib/s3_server, as a child. */
#ifndef PERDURE_TESTS_S3_SERVER_H
#define PERDURE_TESTS_S3_SERVER_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

struct s3_server {
    pid_t pid;
    int in;    /* closed, it ends */
    FILE *out; /* what it says */
    char url[200], access[100], secret[100], bucket[100];
};

/* False: it cannot be had here (no Go), which it said. Aborts when it should start and does not. */
bool s3_server_start(struct s3_server *s);
void s3_server_stop(struct s3_server *s);

/* A program whose standard input ends it; its first line, without the line's end, into `line`. False: it ended with 77. */
bool helper_start(const char *const *argv, struct s3_server *s, char *line, int line_bytes);

#endif
