#include "credential/profile.h"

static bool blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Cuts off a comment: '#' or ';' after a blank. */
static struct span without_comment(struct span s)
{
    for (size_t i = 1; i < s.n; i++)
        if ((s.p[i] == '#' || s.p[i] == ';') && blank(s.p[i - 1]))
            return span_trim(span_upto(s, i));
    return s;
}

/* "[profile x]" names this profile? */
static bool is_section_of(struct span line, enum profile_file file, struct span name)
{
    struct span inner = span_from(line, 1);
    inner = span_trim(span_cut(&inner, ']'));
    if (file == PROFILE_CREDENTIALS || (span_is(inner, "default") && span_is(name, "default")))
        return span_eq(inner, name);
    if (!span_starts(inner, "profile") || inner.n < 8 || !blank(inner.p[7]))
        return false;
    return span_eq(span_trim(span_from(inner, 8)), name);
}

static void keep(struct profile *p, struct span key, struct span value)
{
    const struct {
        const char *name;
        struct span *place;
    } places[] = {
        {"aws_access_key_id", &p->access_key_id},
        {"aws_secret_access_key", &p->secret_access_key},
        {"aws_session_token", &p->session_token},
        {"role_arn", &p->role_arn},
        {"sso_session", &p->sso},
        {"sso_start_url", &p->sso},
        {"credential_process", &p->credential_process},
        {"login_session", &p->login},
    };
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
        if (span_iis(key, places[i].name))
            *places[i].place = value;
}

pd_err profile_read(struct span text, enum profile_file file, struct span name, struct profile *ret,
                    unsigned *ret_line)
{
    *ret = (struct profile){.found = false};
    bool ours = false;
    size_t key_indent = SIZE_MAX; /* deeper lines belong to the key before */
    if (span_starts(text, "\xef\xbb\xbf"))
        text = span_from(text, 3);
    for (unsigned number = 1; text.n; number++) {
        struct span raw = span_cut(&text, '\n'), line = span_trim(raw);
        if (line.n == 0 || line.p[0] == '#' || line.p[0] == ';')
            continue;
        size_t indent = (size_t)(line.p - raw.p);
        if (line.p[0] == '[' && indent == 0) {
            ours = is_section_of(line, file, name);
            ret->found |= ours;
            key_indent = SIZE_MAX;
            continue;
        }
        if (!ours || indent > key_indent)
            continue;
        key_indent = indent;
        struct span value = line, key = span_trim(span_cut(&value, '='));
        if (key.n == 0 || key.n == line.n) {
            *ret_line = number;
            return PD_SYNTAX;
        }
        keep(ret, key, without_comment(span_trim(value)));
    }
    return PD_OK;
}
