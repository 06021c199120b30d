/* carry_priv.h - what the passes over a request share. */
#ifndef PERDURE_DIALECT_CARRY_PRIV_H
#define PERDURE_DIALECT_CARRY_PRIV_H

#include "dialect/carry.h"

enum carry_format {
    CARRY_CHAT,
    CARRY_RESPONSES,
    CARRY_ANTHROPIC,
    CARRY_GEMINI,
    CARRY_CONVERSE,
    CARRY_OLLAMA,
    CARRY_FORMATS
};

/* A request on its way into another format. */
struct carry {
    struct msg_request *m;
    enum carry_format to;
    enum msg_maker files; /* whose kept files the target can read */
    const struct write_want *want;
    struct arena *a;
};

/* Names that the target would refuse are cut and hashed, ids are hashed: the same one always becomes the same one. PD_NOMEM. */
bool carry_has_unfit_names(const struct carry *f);
pd_err carry_fit_names(struct carry *f) PD_CHECKED;
bool carry_has_unfit_ids(const struct carry *f);
pd_err carry_fit_ids(struct carry *f) PD_CHECKED;

#endif
