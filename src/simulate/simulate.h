/* simulate.h - `perdure simulate`: providers that do wrong what real ones do wrong, on demand.
 *
 * Several simulated providers in one process, each on its own port and in every dialect (the path decides), with scripted and seeded faults and with events to
 * wait for. Users test their own clients and gateways with it; docs/simulate.md is for them.
 *
 *   script.h   what the providers are           fault.h   what they do wrong, and to which request
 *   endpoint.h what a path asks for             ask.h     a request, whatever its dialect
 *   answer.h   what they say                    speak.h   how that looks, by dialect.h  style.h  whose habits they have
 *   sign.h     what they sign                   auth.h    who may ask
 *   frame.h    how a stream is framed           wire.h    how it goes to the socket     sim.h    the running simulation */
#ifndef PERDURE_SIMULATE_SIMULATE_H
#define PERDURE_SIMULATE_SIMULATE_H

/* argv[0] is "simulate". Runs until SIGTERM or SIGINT; returns the exit status: 0 ended, 1 could not run, 2 wrong options. */
int simulate_main(int argc, char **argv);

/* The tables of keys and faults, as --help (plain) or as the reference part of docs/simulate.md. */
void simulate_print_reference(int markdown);

#endif
