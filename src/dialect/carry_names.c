/* Names and ids of tools, made to fit a target's rules. */
#include "dialect/carry_priv.h"

#include "base/hash.h"

#include <stdio.h>

/* ---- tool names ------------------------------------------------------------------------------- */

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool is_tool_part(const struct msg_part *p)
{
    return p->kind == MSG_PART_TOOL_CALL || p->kind == MSG_PART_TOOL_RESULT;
}

enum { NAME_MAX_BYTES = 64, NAME_HASHED = 17 /* "_" and 16 digits */ };

static bool name_fits(struct span name)
{
    for (size_t i = 0; i < name.n; i++)
        if (!is_alnum(name.p[i]) && name.p[i] != '_' && name.p[i] != '-')
            return false;
    return name.n > 0 && name.n <= NAME_MAX_BYTES;
}

bool carry_has_unfit_names(const struct carry *f)
{
    for (const struct msg_tool *t = f->m->tools; t; t = t->next)
        if (t->kind != MSG_TOOL_HOSTED && !name_fits(t->name))
            return true;
    return false;
}

/* Its beginning, as far as it fits, and a hash, so that two do not become one. */
static pd_err fit_name(const struct carry *f, struct span *name)
{
    char text[NAME_MAX_BYTES + 1];
    size_t n = name->n < NAME_MAX_BYTES - NAME_HASHED ? name->n : NAME_MAX_BYTES - NAME_HASHED;
    for (size_t i = 0; i < n; i++)
        text[i] = is_alnum(name->p[i]) || name->p[i] == '-' ? name->p[i] : '_';
    snprintf(text + n, sizeof(text) - n, "_%016llx", (unsigned long long)hash_bytes(*name, 0));
    char *kept = arena_strndup(f->a, text, n + NAME_HASHED);
    if (!kept)
        return PD_NOMEM;
    *name = span_of(kept, n + NAME_HASHED);
    return PD_OK;
}

/* In tools, in calls and results of earlier turns, and in the choice: the same name always becomes the same one. */
pd_err carry_fit_names(struct carry *f)
{
    pd_err e = PD_OK;
    for (struct msg_tool *t = f->m->tools; t && !e; t = t->next) {
        if (t->kind == MSG_TOOL_HOSTED || name_fits(t->name))
            continue;
        t->client_name = t->name;
        e = fit_name(f, &t->name);
    }
    for (struct msg_turn *t = f->m->first; t && !e; t = t->next)
        for (struct msg_part *p = t->first; p && !e; p = p->next)
            if (is_tool_part(p) && p->name.n && !name_fits(p->name))
                e = fit_name(f, &p->name);
    if (!e && f->m->choice_name.n && !name_fits(f->m->choice_name))
        e = fit_name(f, &f->m->choice_name);
    return e;
}

/* ---- tool ids --------------------------------------------------------------------------------- */

enum { CHAT_ID_MAX = 40, RESPONSES_ID_MAX = 64, BEDROCK_ID_MAX = 64, MISTRAL_ID = 9 };

/* All of letters, digits and `more`, at most that long. */
static bool id_has_form(struct span id, size_t most, const char *more)
{
    for (size_t i = 0; i < id.n; i++)
        if (!is_alnum(id.p[i]) && !strchr(more, id.p[i]))
            return false;
    return id.n > 0 && id.n <= most;
}

static bool id_fits(const struct carry *f, struct span id)
{
    switch (f->to) {
    case CARRY_CHAT:
        return f->want->mistral ? id.n == MISTRAL_ID && id_has_form(id, MISTRAL_ID, "") : id.n <= CHAT_ID_MAX;
    case CARRY_RESPONSES:
        return id.n <= RESPONSES_ID_MAX;
    case CARRY_ANTHROPIC:
        return id_has_form(id, SIZE_MAX, "_-");
    case CARRY_CONVERSE:
        return id_has_form(id, BEDROCK_ID_MAX, "_.:-");
    case CARRY_GEMINI:
    case CARRY_OLLAMA:
    case CARRY_FORMATS:
        break;
    }
    return true;
}

bool carry_has_unfit_ids(const struct carry *f)
{
    for (const struct msg_turn *t = f->m->first; t; t = t->next)
        for (const struct msg_part *p = t->first; p; p = p->next)
            if (is_tool_part(p) && !id_fits(f, p->id))
                return true;
    return false;
}

/* The same id always becomes the same one, so that a call and its result agree, in every later turn too. */
static pd_err fit_id(const struct carry *f, struct span *id)
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    uint64_t hash = hash_bytes(*id, 0);
    char text[32];
    int n = MISTRAL_ID;
    if (f->to == CARRY_CHAT && f->want->mistral)
        for (int i = 0; i < MISTRAL_ID; i++, hash /= 62)
            text[i] = digits[hash % 62];
    else
        n = snprintf(text, sizeof(text), "call_%016llx", (unsigned long long)hash);
    char *kept = arena_strndup(f->a, text, (size_t)n);
    if (!kept)
        return PD_NOMEM;
    *id = span_of(kept, (size_t)n);
    return PD_OK;
}

pd_err carry_fit_ids(struct carry *f)
{
    for (struct msg_turn *t = f->m->first; t; t = t->next)
        for (struct msg_part *p = t->first; p; p = p->next)
            if (is_tool_part(p) && !id_fits(f, p->id) && fit_id(f, &p->id))
                return PD_NOMEM;
    return PD_OK;
}
