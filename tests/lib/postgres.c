#include "postgres.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NO_SERVER = 77 };

struct postgres {
    pid_t pid;
    FILE *in, *out; /* its stdin and stdout */
    char url[200];
};

static void broken(const char *what)
{
    fprintf(stderr, "postgres: %s\n", what);
    abort();
}

/* A line of its stdout, without its end. False: there is none. */
static bool read_line(struct postgres *p, char *out, int room)
{
    if (!fgets(out, room, p->out))
        return false;
    out[strcspn(out, "\n")] = '\0';
    return true;
}

static void tell(struct postgres *p, const char *word, const char *answer)
{
    char line[100];
    fprintf(p->in, "%s\n", word);
    fflush(p->in);
    if (!read_line(p, line, sizeof(line)) || strcmp(line, answer) != 0)
        broken(word);
}

static int reap(struct postgres *p)
{
    int status = 0;
    fclose(p->in);
    while (fgetc(p->out) != EOF)
        ;
    fclose(p->out);
    waitpid(p->pid, &status, 0);
    free(p);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

struct postgres *postgres_start(void)
{
    int in[2], out[2];
    struct postgres *p = calloc(1, sizeof(*p));
    if (!p || pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0)
        broken("no pipe");
    p->pid = fork();
    if (p->pid == 0) {
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        execl("tests/lib/postgres_server", "postgres_server", (char *)NULL);
        _exit(1);
    }
    close(in[0]);
    close(out[1]);
    p->in = fdopen(in[1], "w");
    p->out = fdopen(out[0], "r");
    if (p->pid < 0 || !p->in || !p->out)
        broken("no process");
    if (read_line(p, p->url, sizeof(p->url)))
        return p;
    if (reap(p) != NO_SERVER)
        broken("the server does not start");
    return NULL;
}

const char *postgres_url(const struct postgres *p)
{
    return p->url;
}

void postgres_kill(struct postgres *p)
{
    tell(p, "kill", "killed");
}

void postgres_again(struct postgres *p)
{
    tell(p, "start", "started");
}

void postgres_sql(struct postgres *p, const char *sql, char *out, int room)
{
    char line[1000];
    bool first = true;
    fprintf(p->in, "sql %s\n", sql);
    fflush(p->in);
    if (out)
        out[0] = '\0';
    while (read_line(p, line, sizeof(line)) && strcmp(line, "done") != 0) {
        if (strcmp(line, "failed") == 0)
            broken(sql);
        if (first && out)
            snprintf(out, (size_t)room, "%s", line);
        first = false;
    }
}

struct postgres *postgres_end(struct postgres *p)
{
    if (p)
        reap(p);
    return NULL;
}
