/* commands.h - what `perdure WORD` does. Each returns the process's exit status: 0, 1 it failed, 2 it was called wrongly. */
#ifndef PERDURE_APP_COMMANDS_H
#define PERDURE_APP_COMMANDS_H

int command_serve(int argc, char **argv);
int command_check(int argc, char **argv);
int command_run(int argc, char **argv);
int command_runs(int argc, char **argv);
int command_review(int argc, char **argv);
int command_worker(int argc, char **argv);
int command_supervise(int argc, char **argv);
int command_sessions(int argc, char **argv);
int command_checkpoints(int argc, char **argv);
int command_docs(int argc, char **argv);
int command_version(int argc, char **argv);
int command_help(int argc, char **argv);

#endif
