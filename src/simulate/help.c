#include "simulate/script.h"
#include "simulate/simulate.h"

#include <stdio.h>
#include <string.h>

static void print_row(int markdown, const char *name, const char *what)
{
    if (markdown)
        printf("| `%s` | %s |\n", name, what);
    else
        printf("  %-16s %s\n", name, what);
}

static void print_title(int markdown, const char *title, const char *left)
{
    if (markdown)
        printf("\n### %s\n\n| %s | |\n|---|---|\n", title, left);
    else
        printf("\n%s:\n", title);
}

static void print_faults(int markdown)
{
    char keys[400];
    print_title(markdown, "Faults", "`fault`");
    for (unsigned i = 0; i < FAULT_KIND_COUNT; i++) {
        key_names(fault_keys, fault_keys_count, fault_kinds[i].name, keys, sizeof(keys));
        if (markdown)
            printf("| `%s` | %s%s%s%s |\n", fault_kinds[i].name, fault_kinds[i].what, keys[0] ? ". Keys: " : "",
                   keys, keys[0] ? "." : "");
        else if (keys[0])
            printf("  %-16s %s\n                     keys: %s\n", fault_kinds[i].name, fault_kinds[i].what, keys);
        else
            print_row(0, fault_kinds[i].name, fault_kinds[i].what);
    }
}

static void print_words(int markdown)
{
    print_title(markdown, "Framings", "`framing`");
    for (const struct frame_row *row = frame_rows; row->name; row++)
        print_row(markdown, row->name, row->what);
    print_title(markdown, "Errors by name", "`like`");
    for (unsigned i = 0; i < error_likes_count; i++) {
        char what[200];
        snprintf(what, sizeof(what), "%d, type %s, code %s", error_likes[i].status, error_likes[i].type,
                 error_likes[i].code);
        print_row(markdown, error_likes[i].name, what);
    }
}

static const struct {
    const char *name, *what;
} dialects[] = {
#define X(code, name, what) {#name, what},
    SIM_DIALECTS(X)
#undef X
};

void simulate_print_reference(int markdown)
{
    print_title(markdown, "Keys of a provider", "key");
    for (unsigned i = 0; i < provider_keys_count; i++)
        print_row(markdown, provider_keys[i].name, provider_keys[i].what);
    print_row(markdown, "faults", "(in a script) a list of faults");
    print_row(markdown, "turns", "(in a script) what it says, step by step");
    print_row(markdown, "flapping", "(in a script) {up, down, fault}");
    print_title(markdown, "Dialects", "dialect");
    for (size_t i = 0; i < sizeof(dialects) / sizeof(dialects[0]); i++)
        print_row(markdown, dialects[i].name, dialects[i].what);
    print_title(markdown, "Styles", "`style`");
    for (unsigned i = 0; i < styles_count; i++)
        print_row(markdown, styles[i].name, styles[i].what);
    print_faults(markdown);
    print_title(markdown, "Keys of a fault", "key");
    for (unsigned i = 0; i < fault_keys_count; i++)
        print_row(markdown, fault_keys[i].name, fault_keys[i].what);
    print_words(markdown);
}
