/* routing.h - a config made usable by one worker: origins, targets, routes; and which route a model name means.
 *
 * A snapshot never changes; a reload makes another, and calls keep the one they
 * began with. Routes for plain model names are made when first asked for. */
#ifndef PERDURE_RELAY_ROUTING_H
#define PERDURE_RELAY_ROUTING_H

#include "relay/gateway.h"

struct routing;
struct credential;

/* Origins come from the worker's client. *ret_why is a sentence on failure. */
pd_err routing_new(struct worker *w, struct conf_ref *conf, struct routing **ret, const char **ret_why) PD_CHECKED;
struct routing *routing_ref(struct routing *r);
struct routing *routing_unref(struct routing *r); /* NULL is fine; returns NULL */
const struct conf *routing_conf(const struct routing *r);

/* A route in use by a call: it stays until route_release(). */
struct route_use;
/* What a client's `model` means: a route's name, provider/model, or a model that some provider lists; empty: the default (the route called
 * "default", else the first route, else the first model of each provider). PD_NOTFOUND (also for names with control characters or over MODEL_NAME_MAX); PD_NOMEM. Takes the fleet's lock itself. */
pd_err routing_resolve(struct routing *r, struct worker *w, struct span model, struct route_use **ret) PD_CHECKED;
const struct route *route_used(const struct route_use *u);
/* For metrics and logs: a configured route's name; of routes made for a client's model name always "model", since clients choose those. */
const char *route_label(const struct route_use *u);
struct route_use *route_release(struct route_use *u); /* NULL is fine; returns NULL */

enum { MODEL_NAME_MAX = 300 };
/* A model's name that can stand in a log line, a header and a path: no control characters, no "." or ".." between its slashes (some wires
 * have it in their path, where it would lead elsewhere), at most MODEL_NAME_MAX bytes. */
bool routing_name_ok(struct span name);

/* Of a target of this snapshot: its provider's config and origin. */
const struct conf_provider *routing_provider(const struct routing *r, const struct target *t);
/* Where its requests' signatures come from; NULL: its key is all there is. Shared by the regions of a group. */
struct credential *routing_credential(const struct routing *r, const struct conf_provider *p);
struct origin *routing_origin(const struct routing *r, const struct conf_provider *p);
/* The path of base_url, the prefix that the provider has for this wire format (NULL: none), `below`, and the provider's query:
 * "/v1/chat/completions?api-version=x". Bytes from the arena. */
pd_err routing_path(const struct conf_provider *p, const char *wire, const char *below, struct arena *a,
                    struct span *ret) PD_CHECKED;

#endif
