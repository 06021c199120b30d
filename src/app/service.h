/* service.h - the running gateway: its workers, its signals, reload, drain and upgrade. */
#ifndef PERDURE_APP_SERVICE_H
#define PERDURE_APP_SERVICE_H

#include "base/log.h"

enum { SERVICE_LISTEN_MAX = 16, SERVICE_HELD = 5 };

struct service_options {
    const char *config_path; /* NULL: as load_config() */
    const char *listen[SERVICE_LISTEN_MAX];
    unsigned listen_count; /* 0: the configuration's */
    bool log_level_given;
    enum log_level log_level;
    const char *log_format; /* NULL: the configuration's */
    const char *pid_file;   /* NULL: none */
    bool without_providers; /* none is fine: runs of programs alone */
    bool for_run;           /* started by `perdure run`: useless where another one holds the state folder */
    char **argv;            /* as the program was called: an upgrade calls it so again */
};

/* Runs until a signal ends it. Returns the exit status: SERVICE_HELD when, for a run, another one holds the state folder. */
int service_run(const struct service_options *o);

#endif
