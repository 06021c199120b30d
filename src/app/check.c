/* perdure check: what a configuration says, or what is wrong with it. Nothing is started and nobody is asked. */
#include "app/ask.h"
#include "app/commands.h"
#include "app/load.h"
#include "base/buf.h"
#include "conf/misuse.h"
#include "dialect/carry.h"
#include "meter/meter.h"
#include "provider/failure.h"

#include <stdio.h>
#include <string.h>

static const char check_help[] = "usage: perdure check [FILE]\n\n"
                                 "  --config FILE  the same as FILE\n"
                                 "  --help\n\n"
                                 "Reads a configuration (FILE, else $PERDURE_CONFIG, else ./perdure.yaml, else "
                                 "the environment alone) as `perdure serve` would,\n"
                                 "and prints what it means. Errors and warnings name the line, the reason and the "
                                 "remedy. Keys are never printed.\n\n"
                                 "exit status: 0 it can be served; 1 it cannot; 2 called wrongly\n";

/* -1: go on; else the exit status. */
static int read_one(int argc, char **argv, int *i, const char **path)
{
    static const char command[] = "perdure check";
    bool named = *path != NULL;
    if (ask_option(argc, argv, i, "--config", path))
        return *path ? -1 : misuse_value(command, "--config", NULL, NULL);
    if (argv[*i][0] == '-')
        return misuse_option(command, check_help, argv[*i]);
    if (named)
        return misuse(command, "one file at a time: \"%.200s\" is a second one", argv[*i]);
    *path = argv[*i];
    return -1;
}

int command_check(int argc, char **argv)
{
    const char *path = NULL;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(check_help, stdout);
            return 0;
        }
        int status = read_one(argc, argv, &i, &path);
        if (status >= 0)
            return status;
    }
    struct conf *c = NULL;
    if (load_config(path, false, &c) != PD_OK)
        return 1;
    struct buf out = {0};
    pd_err e = conf_describe(c, &out);
    if (!e)
        fwrite(buf_span(&out).p, 1, buf_size(&out), stdout);
    else
        fprintf(stderr, "perdure check: %s\n", pd_err_text(e));
    buf_done(&out);
    conf_free(c);
    return e ? 1 : 0;
}

/* ---- perdure docs ------------------------------------------------------------------------ */

static pd_err put_failures(struct buf *out)
{
    static const char *const same[] = {"no", "if there is nowhere else", "once first"};
    static const char *const blame[] = {"nothing", "a failure", "a timeout", "busy: rests", "parked"};
    pd_err e = buf_puts(
        out,
        "| class | what it is | same target | elsewhere | says of the target | client status | client code |\n"
        "|---|---|---|---|---|---|---|\n");
    for (int f = FAILURE_NONE + 1; f < FAILURE_COUNT && !e; f++) {
        const struct failure_row *row = failure_row((enum failure)f);
        char status[24];
        snprintf(status, sizeof(status), row->client_status ? "%d" : "the provider's%.0d", row->client_status);
        e = buf_printf(out, "| %s | %s | %s | %s | %s | %s | %s |\n", row->name, row->what, same[row->same],
                       row->elsewhere ? "yes" : "no", blame[row->blame], status, row->client_code);
    }
    return e;
}

static const char docs_help[] = "usage: perdure docs settings|metrics|failures|translation\n\n"
                                "  --help\n\n"
                                "Prints the table as Markdown, made from the rows that the program itself uses.\n";

static const struct {
    const char *name;
    pd_err (*put)(struct buf *out);
} tables[] = {
    {"settings", settings_write_markdown},
    {"metrics", metrics_write_markdown},
    {"failures", put_failures},
    {"translation", carry_write_markdown},
};
enum { TABLES = sizeof(tables) / sizeof(tables[0]) };

static int no_table(const char *word)
{
    static const char command[] = "perdure docs";
    const char *names[TABLES];
    for (unsigned i = 0; i < TABLES; i++)
        names[i] = tables[i].name;
    if (!word)
        return misuse(command, "which table? Write settings, metrics, failures or translation");
    return *word == '-' ? misuse_option(command, docs_help, word) : misuse_word(command, word, names, TABLES);
}

int command_docs(int argc, char **argv)
{
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        fputs(docs_help, stdout);
        return 0;
    }
    for (unsigned i = 0; argc == 2 && i < TABLES; i++) {
        if (strcmp(argv[1], tables[i].name) != 0)
            continue;
        struct buf out = {0};
        pd_err e = tables[i].put(&out);
        if (!e)
            fwrite(buf_span(&out).p, 1, buf_size(&out), stdout);
        buf_done(&out);
        return e ? 1 : 0;
    }
    return no_table(argc > 2 ? argv[2] : argc == 2 ? argv[1] : NULL);
}
