/* simulate.h - `perdure simulate`: providers that do wrong what real ones do wrong, on demand.
 *
 * Several simulated providers of the OpenAI dialect in one process, each on its own port, with scripted and seeded faults and with events to
 * wait for. Users test their own clients and gateways with it; docs/simulate.md is for them.
 *
 *   script.h   what the providers are           fault.h   what they do wrong, and to which request
 *   answer.h   what they say                    speak.h   how that looks as JSON        style.h  whose habits they have
 *   frame.h    how a stream is framed           wire.h    how it goes to the socket     sim.h    the running simulation */
#ifndef PERDURE_SIMULATE_SIMULATE_H
#define PERDURE_SIMULATE_SIMULATE_H

/* argv[0] is "simulate". Runs until SIGTERM or SIGINT; returns the exit status: 0 ended, 1 could not run, 2 wrong options. */
int simulate_main(int argc, char **argv);

/* The tables of keys and faults, as --help (plain) or as the reference part of docs/simulate.md. */
void simulate_print_reference(int markdown);

#endif
