#include "test.h"

#include "front/front_priv.h"

static const struct row {
    const char *host;
    bool local;
} hosts[] = {
    {"localhost", true},
    {"localhost:8080", true},
    {"LocalHost.", true},
    {"app.localhost:80", true},
    {"127.0.0.1", true},
    {"127.0.0.1:8080", true},
    {"127.1.2.3", true},
    {"[::1]", true},
    {"[::1]:8080", true},
    {"", false},
    {"127.evil.com", false}, /* a name that its owner may let point here */
    {"127.a.io:8080", false},
    {"127.0.0.1.evil.com", false},
    {"127.0.0.1a", false},
    {"127", false},
    {"128.0.0.1", false},
    {"0.0.0.0", false},
    {"localhost.evil.com", false},
    {"evillocalhost", false},
    {".localhost", false},
    {"[::2]", false},
    {"[::1", false},
    {"[::1].evil.com", false},
    {"[::1]x:80", false},
    {"10.0.0.1", false},
};

static void a_name_of_this_machine_is_no_name_that_others_own(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++)
        if (guard_is_local_name(span_str(hosts[i].host)) != hosts[i].local)
            fail_msg("\"%s\"", hosts[i].host);
}

static void pages_of_this_machine_are_served_and_no_others(void **state)
{
    (void)state;
    static const struct row origins[] = {
        {"http://localhost:3000", true},
        {"https://127.0.0.1", true},
        {"http://[::1]:80", true},
        {"null", false},
        {"", false},
        {"http://", false},
        {"http://127.evil.com", false},
        {"https://evil.com", false},
        {"file://", false},
        {"localhost", false},
        {"chrome-extension://x", false},
    };
    for (size_t i = 0; i < sizeof(origins) / sizeof(origins[0]); i++)
        if (guard_is_local_origin(span_str(origins[i].host)) != origins[i].local)
            fail_msg("\"%s\"", origins[i].host);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_of_this_machine_is_no_name_that_others_own),
        cmocka_unit_test(pages_of_this_machine_are_served_and_no_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
