#include "s3_server.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CANNOT_BE_RUN = 77 };

static void check(bool fine, const char *what)
{
    if (fine)
        return;
    perror(what);
    abort();
}

bool helper_start(const char *const *argv, struct s3_server *s, char *line, int line_bytes)
{
    int in[2], out[2], status;
    check(pipe(in) == 0 && pipe(out) == 0, "pipe");
    s->pid = fork();
    check(s->pid >= 0, "fork");
    if (s->pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        for (int fd = 3; fd < 64; fd++)
            close(fd);
        execvp(argv[0], (char *const *)argv);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    s->in = in[1];
    s->out = fdopen(out[0], "r");
    check(s->out != NULL, "fdopen");
    if (fgets(line, line_bytes, s->out)) {
        line[strcspn(line, "\n")] = '\0';
        return true;
    }
    check(waitpid(s->pid, &status, 0) == s->pid, "waitpid");
    check(WIFEXITED(status) && WEXITSTATUS(status) == CANNOT_BE_RUN, argv[0]);
    close(s->in);
    fclose(s->out);
    return false;
}

bool s3_server_start(struct s3_server *s)
{
    static const char *const argv[] = {"tests/lib/s3_server", NULL};
    char line[600];
    if (!helper_start(argv, s, line, sizeof(line)))
        return false;
    check(sscanf(line, "%199s %99s %99s %99s", s->url, s->access, s->secret, s->bucket) == 4, line);
    return true;
}

void s3_server_stop(struct s3_server *s)
{
    close(s->in);
    fclose(s->out);
    waitpid(s->pid, NULL, 0);
}
