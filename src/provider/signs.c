#include "provider/signs.h"

enum { CODE_MAX = 64 };

unsigned signs_at(int status)
{
    switch (status) {
    case 401:
        return AT_401;
    case 402:
        return AT_402;
    case 403:
        return AT_403;
    case 404:
    case 405:
    case 410:
        return AT_404;
    case 413:
        return AT_413;
    case 429:
        return AT_429;
    case 498:
    case 503:
    case 529:
        return AT_503;
    case 408:
    case 504:
    case 524:
    case 598:
    case 599:
        return AT_TIMEOUT;
    default:
        return status < 400 ? AT_OK : status < 500 ? AT_400 : AT_500;
    }
}

/* ---- codes ------------------------------------------------------------------- */

struct code_sign {
    const char *code; /* lower case, letters and digits only */
    struct sign sign;
};

/* clang-format off */
static const struct code_sign codes[] = {
    {"insufficientquota",               {AT_ANY, FAILURE_QUOTA}},
    {"creditbalanceexhausted",          {AT_ANY, FAILURE_QUOTA}},
    {"exceededcurrentquotaerror",       {AT_ANY, FAILURE_QUOTA}},
    {"insufficientuserquota",           {AT_ANY, FAILURE_QUOTA}},
    {"enforcedspendlimitreached",       {AT_ANY, FAILURE_QUOTA}},
    {"spendlimitreached",               {AT_ANY, FAILURE_QUOTA}},
    {"spendlimitexceeded",              {AT_ANY, FAILURE_QUOTA}},
    {"servicequotaexceededexception",   {AT_ANY, FAILURE_QUOTA}},       /* AWS, with 400 */
    {"usagelimitreached",               {AT_ANY, FAILURE_QUOTA}},
    {"quotaexceeded",                   {AT_400 | AT_402 | AT_403 | AT_429 | AT_OK, FAILURE_QUOTA}},

    {"billinghardlimitreached",         {AT_ANY, FAILURE_BILLING}},
    {"billingnotactive",                {AT_ANY, FAILURE_BILLING}},
    {"billingerror",                    {AT_ANY, FAILURE_BILLING}},
    {"insufficientbalance",             {AT_ANY, FAILURE_BILLING}},
    {"insufficientcredits",             {AT_ANY, FAILURE_BILLING}},
    {"arrearage",                       {AT_ANY, FAILURE_BILLING}},

    {"contextlengthexceeded",           {AT_ANY, FAILURE_CONTEXT}},
    {"contextwindowexceeded",           {AT_ANY, FAILURE_CONTEXT}},
    {"contextwindowexceedederror",      {AT_ANY, FAILURE_CONTEXT}},
    {"modelcontextwindowexceeded",      {AT_ANY, FAILURE_CONTEXT}},
    {"exceedcontextsizeerror",          {AT_ANY, FAILURE_CONTEXT}},
    {"tokenslimitreached",              {AT_400 | AT_413 | AT_OK, FAILURE_CONTEXT}},
    {"prompttoolong",                   {AT_ANY, FAILURE_CONTEXT}},
    {"inputtoolong",                    {AT_ANY, FAILURE_CONTEXT}},

    {"contentfilter",                   {AT_ANY, FAILURE_FILTER}},
    {"contentfiltered",                 {AT_ANY, FAILURE_FILTER}},
    {"contentpolicyviolation",          {AT_ANY, FAILURE_FILTER}},
    {"contentpolicyviolationerror",     {AT_ANY, FAILURE_FILTER}},
    {"responsibleaipolicyviolation",    {AT_ANY, FAILURE_FILTER}},
    {"moderationblocked",               {AT_ANY, FAILURE_FILTER}},
    {"datainspectionfailed",            {AT_ANY, FAILURE_FILTER}},
    {"sensitivecontentdetected",        {AT_ANY, FAILURE_FILTER}},
    {"imagecontentpolicyviolation",     {AT_ANY, FAILURE_FILTER}},

    {"toolusefailed",                   {AT_ANY, FAILURE_TOOL}},
    {"jsonvalidatefailed",              {AT_ANY, FAILURE_TOOL}},      /* Groq: the model's JSON did not fit; like a bad tool call */
    {"outputparsefailed",               {AT_ANY, FAILURE_TOOL}},

    {"invalidapikey",                   {AT_400 | AT_401 | AT_403 | AT_OK, FAILURE_AUTH}},
    {"incorrectapikey",                 {AT_400 | AT_401 | AT_403 | AT_OK, FAILURE_AUTH}},
    {"apikeyinvalid",                   {AT_400 | AT_401 | AT_403 | AT_OK, FAILURE_AUTH}},
    {"apikeyexpired",                   {AT_400 | AT_401 | AT_403 | AT_OK, FAILURE_AUTH}},
    {"invalidauthentication",           {AT_400 | AT_401 | AT_403 | AT_OK, FAILURE_AUTH}},
    {"invalidauthenticationerror",      {AT_400 | AT_401 | AT_403 | AT_OK, FAILURE_AUTH}},
    {"accountdeactivated",              {AT_400 | AT_401 | AT_403 | AT_OK, FAILURE_AUTH}},
    {"tokenexpired",                    {AT_400 | AT_401 | AT_403 | AT_OK, FAILURE_AUTH}},
    {"unrecognizedclientexception",     {AT_ANY, FAILURE_AUTH}},        /* AWS: 403, with permission's status */
    {"expiredtokenexception",           {AT_ANY, FAILURE_AUTH}},
    {"invalidsignatureexception",       {AT_ANY, FAILURE_AUTH}},
    {"incompletesignatureexception",    {AT_ANY, FAILURE_AUTH}},
    {"missingauthenticationtokenexception", {AT_ANY, FAILURE_AUTH}},
    {"accesstokenexpired",              {AT_ANY, FAILURE_AUTH}},        /* Google, as the reason */
    {"accesstokentypeunsupported",      {AT_ANY, FAILURE_AUTH}},
    {"credentialsmissing",              {AT_ANY, FAILURE_AUTH}},

    {"unsupportedcountryregionterritory", {AT_ANY, FAILURE_PERMISSION}},
    {"insufficientpermissions",         {AT_400 | AT_401 | AT_403 | AT_OK, FAILURE_PERMISSION}},
    {"modeltermsrequired",              {AT_ANY, FAILURE_PERMISSION}},
    {"servicedisabled",                 {AT_ANY, FAILURE_PERMISSION}},  /* Google: the API is not switched on */
    {"billingdisabled",                 {AT_ANY, FAILURE_BILLING}},

    {"modelnotfound",                   {AT_400 | AT_401 | AT_403 | AT_404 | AT_OK, FAILURE_NOT_FOUND}},
    {"modelnotfounderror",              {AT_400 | AT_401 | AT_403 | AT_404 | AT_OK, FAILURE_NOT_FOUND}},
    {"modelnotexist",                   {AT_400 | AT_404 | AT_OK, FAILURE_NOT_FOUND}},
    {"modelnotavailable",               {AT_400 | AT_403 | AT_404 | AT_OK, FAILURE_NOT_FOUND}},
    {"modelnotsupported",               {AT_400 | AT_404 | AT_OK, FAILURE_NOT_FOUND}},
    {"modeldecommissioned",             {AT_400 | AT_404 | AT_OK, FAILURE_NOT_FOUND}},
    {"modeldeprecated",                 {AT_400 | AT_404 | AT_OK, FAILURE_NOT_FOUND}},
    {"invalidmodel",                    {AT_400 | AT_404 | AT_OK, FAILURE_NOT_FOUND}},
    {"unknownmodel",                    {AT_400 | AT_404 | AT_OK, FAILURE_NOT_FOUND}},
    {"unsupportedmodel",                {AT_400 | AT_404 | AT_OK, FAILURE_NOT_FOUND}},
    {"deploymentnotfound",              {AT_ANY, FAILURE_NOT_FOUND}},
    {"20012",                           {AT_400, FAILURE_NOT_FOUND}},   /* SiliconFlow */

    {"throttlingexception",             {AT_ANY, FAILURE_RATE}},        /* AWS: its words are used for prompts that are too long as well */
    {"modelnotreadyexception",          {AT_ANY, FAILURE_RATE}},
    {"modeltimeoutexception",           {AT_ANY, FAILURE_TIMEOUT}},
    {"vectorstoretimeout",              {AT_ANY, FAILURE_TIMEOUT}},

    {"serverisoverloaded",              {AT_ANY, FAILURE_OVERLOAD}},
    {"overloadederror",                 {AT_ANY, FAILURE_OVERLOAD}},
    {"engineoverloaded",                {AT_ANY, FAILURE_OVERLOAD}},
    {"engineoverloadederror",           {AT_ANY, FAILURE_OVERLOAD}},
    {"modeloverloaded",                 {AT_ANY, FAILURE_OVERLOAD}},
    {"capacityexceeded",                {AT_429 | AT_500 | AT_503 | AT_OK, FAILURE_OVERLOAD}},
    {"insufficientsystemresource",      {AT_ANY, FAILURE_OVERLOAD}},    /* DeepSeek, as a finish reason */
    {"servicetiercapacityexceeded",     {AT_ANY, FAILURE_OVERLOAD}},
    {"3505",                            {AT_429, FAILURE_OVERLOAD}},    /* Mistral: its capacity, not our limit */
};
/* clang-format on */

/* clang-format off */
static const struct code_sign weak_codes[] = {
    {"slowdown",                        {AT_429 | AT_500 | AT_503 | AT_OK, FAILURE_RATE}},
    {"ratelimitexceeded",               {AT_400 | AT_403 | AT_429 | AT_500 | AT_OK, FAILURE_RATE}},
    {"ratelimiterror",                  {AT_400 | AT_403 | AT_429 | AT_500 | AT_OK, FAILURE_RATE}},
    {"ratelimited",                     {AT_400 | AT_403 | AT_429 | AT_500 | AT_OK, FAILURE_RATE}},
    {"ratelimitreached",                {AT_400 | AT_403 | AT_429 | AT_500 | AT_OK, FAILURE_RATE}},
    {"ratelimitreachederror",           {AT_400 | AT_403 | AT_429 | AT_500 | AT_OK, FAILURE_RATE}},
    {"toomanyrequests",                 {AT_400 | AT_403 | AT_429 | AT_500 | AT_OK, FAILURE_RATE}},
    {"resourceexhausted",               {AT_429 | AT_500 | AT_503 | AT_OK, FAILURE_RATE}},

    {"overloaded",                      {AT_429 | AT_500 | AT_503 | AT_OK, FAILURE_OVERLOAD}},
    {"serviceunavailable",              {AT_500 | AT_503 | AT_OK, FAILURE_OVERLOAD}},
    {"serviceunavailableexception",     {AT_500 | AT_503 | AT_OK, FAILURE_OVERLOAD}},
    {"serviceunavailableerror",         {AT_500 | AT_503 | AT_OK, FAILURE_OVERLOAD}},
    {"unavailable",                     {AT_500 | AT_503 | AT_OK, FAILURE_OVERLOAD}},
    {"unavailableerror",                {AT_500 | AT_503 | AT_OK, FAILURE_OVERLOAD}},

    {"authenticationerror",             {AT_400 | AT_401 | AT_403 | AT_OK, FAILURE_AUTH}},
    {"unauthenticated",                 {AT_400 | AT_401 | AT_403 | AT_OK, FAILURE_AUTH}},
    {"unauthorized",                    {AT_400 | AT_401 | AT_403 | AT_OK, FAILURE_AUTH}},
    {"permissionerror",                 {AT_400 | AT_401 | AT_403 | AT_OK, FAILURE_PERMISSION}},
    {"permissiondenied",                {AT_400 | AT_401 | AT_403 | AT_OK, FAILURE_PERMISSION}},
    {"accessdeniedexception",           {AT_400 | AT_401 | AT_403 | AT_OK, FAILURE_PERMISSION}},
    {"accessdenied",                    {AT_400 | AT_401 | AT_403 | AT_OK, FAILURE_PERMISSION}},
    {"forbidden",                       {AT_403 | AT_OK, FAILURE_PERMISSION}},

    {"timeout",                         {AT_500 | AT_OK, FAILURE_TIMEOUT}},
    {"timeouterror",                    {AT_500 | AT_OK, FAILURE_TIMEOUT}},
    {"requesttimeout",                  {AT_500 | AT_OK, FAILURE_TIMEOUT}},
    {"gatewaytimeout",                  {AT_500 | AT_OK, FAILURE_TIMEOUT}},
    {"deadlineexceeded",                {AT_500 | AT_OK, FAILURE_TIMEOUT}},

    {"servererror",                     {AT_OK, FAILURE_SERVER}},
    {"internalservererror",             {AT_OK, FAILURE_SERVER}},
    {"internalerror",                   {AT_OK, FAILURE_SERVER}},
    {"internal",                        {AT_OK, FAILURE_SERVER}},
    {"apierror",                        {AT_OK, FAILURE_SERVER}},
    {"internalserverexception",         {AT_OK, FAILURE_SERVER}},
    {"modelerrorexception",             {AT_OK, FAILURE_SERVER}},
    {"modelstreamerrorexception",       {AT_OK, FAILURE_SERVER}},
    {"notfounderror",                   {AT_OK, FAILURE_NOT_FOUND}},
    {"notfound",                        {AT_OK, FAILURE_NOT_FOUND}},
    {"resourcenotfoundexception",       {AT_OK, FAILURE_NOT_FOUND}},
    {"invalidrequesterror",             {AT_OK, FAILURE_BAD}},
    {"badrequesterror",                 {AT_OK, FAILURE_BAD}},
    {"badrequest",                      {AT_OK, FAILURE_BAD}},
    {"invalidargument",                 {AT_OK, FAILURE_BAD}},
    {"validationerror",                 {AT_OK, FAILURE_BAD}},
    {"validationexception",             {AT_OK, FAILURE_BAD}},
    {"failedprecondition",              {AT_OK, FAILURE_BAD}},
    {"requesttoolarge",                 {AT_OK, FAILURE_BAD}},
    {"invalidprompt",                   {AT_OK, FAILURE_BAD}},
    {"invalidimage",                    {AT_OK, FAILURE_BAD}},          /* and its relatives, of a Response that failed */
    {"invalidimageformat",              {AT_OK, FAILURE_BAD}},
    {"invalidimagemode",                {AT_OK, FAILURE_BAD}},
    {"invalidimageurl",                 {AT_OK, FAILURE_BAD}},
    {"invalidbase64image",              {AT_OK, FAILURE_BAD}},
    {"imagetoolarge",                   {AT_OK, FAILURE_BAD}},
    {"imagetoosmall",                   {AT_OK, FAILURE_BAD}},
    {"imageparseerror",                 {AT_OK, FAILURE_BAD}},
    {"imagefiletoolarge",               {AT_OK, FAILURE_BAD}},
    {"imagefilenotfound",               {AT_OK, FAILURE_BAD}},
    {"emptyimagefile",                  {AT_OK, FAILURE_BAD}},
    {"unsupportedimagemediatype",       {AT_OK, FAILURE_BAD}},
    {"failedtodownloadimage",           {AT_OK, FAILURE_BAD}},
    {"unprocessableentity",             {AT_OK, FAILURE_BAD}},
};
/* clang-format on */

/* Letters and digits, in lower case; false when it is too long to be a code that we know. */
static bool plain_code(struct span code, char *out, size_t *ret_n)
{
    size_t n = 0;
    for (size_t i = 0; i < code.n; i++) {
        char c = code.p[i];
        if (c >= 'A' && c <= 'Z')
            c = (char)(c + 32);
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')))
            continue;
        if (n == CODE_MAX)
            return false;
        out[n++] = c;
    }
    *ret_n = n;
    return n > 0;
}

static const struct sign *find_code(const struct code_sign *table, size_t count, struct span code, unsigned at)
{
    char plain[CODE_MAX];
    size_t n;
    if (!plain_code(code, plain, &n))
        return NULL;
    for (size_t i = 0; i < count; i++)
        if (span_is(span_of(plain, n), table[i].code))
            return table[i].sign.at & at ? &table[i].sign : NULL;
    return NULL;
}

const struct sign *sign_of_code(struct span code, unsigned at)
{
    return find_code(codes, sizeof codes / sizeof codes[0], code, at);
}

const struct sign *sign_of_weak_code(struct span code, unsigned at)
{
    return find_code(weak_codes, sizeof weak_codes / sizeof weak_codes[0], code, at);
}

/* ---- words ------------------------------------------------------------------------ */

struct word_sign {
    const char *has, *also; /* both occur; `also` may be NULL */
    struct sign sign;
};

enum {
    AT_BAD = AT_400 | AT_OK,
    AT_LONG = AT_400 | AT_413 | AT_429 | AT_500 | AT_OK,
    AT_POLICY = AT_400 | AT_403 | AT_OK,
    AT_KEY = AT_400 | AT_403 | AT_OK,
    AT_MONEY = AT_400 | AT_402 | AT_403 | AT_OK,
    AT_BUSY = AT_429 | AT_500 | AT_503 | AT_OK,
    AT_MODEL = AT_400 | AT_403 | AT_404 | AT_OK,
};

/* The first that fits holds. Never a bare "too long": requests take too long as well. */
/* clang-format off */
static const struct word_sign words[] = {
    {"maximum context length", NULL,                  {AT_LONG, FAILURE_CONTEXT}},
    {"max context length", NULL,                      {AT_LONG, FAILURE_CONTEXT}},
    {"context length exceeded", NULL,                 {AT_LONG, FAILURE_CONTEXT}},
    {"context_length_exceeded", NULL,                 {AT_LONG, FAILURE_CONTEXT}},
    {"exceed", "context window",                      {AT_LONG, FAILURE_CONTEXT}},
    {"exceed", "context limit",                       {AT_LONG, FAILURE_CONTEXT}},
    {"exceeds the context length", NULL,              {AT_LONG, FAILURE_CONTEXT}},
    {"available context size", NULL,                  {AT_LONG, FAILURE_CONTEXT}},
    {"longer than the model's context length", NULL,  {AT_LONG, FAILURE_CONTEXT}},
    {"longer than the maximum model length", NULL,    {AT_LONG, FAILURE_CONTEXT}},
    {"prompt is too long", NULL,                      {AT_LONG, FAILURE_CONTEXT}},
    {"prompt too long", NULL,                         {AT_LONG, FAILURE_CONTEXT}},
    {"input is too long", NULL,                       {AT_LONG, FAILURE_CONTEXT}},
    {"length of all messages is too long", NULL,      {AT_LONG, FAILURE_CONTEXT}},
    {"input token count", "exceeds the maximum",      {AT_LONG, FAILURE_CONTEXT}},
    {"input tokens exceeded", NULL,                   {AT_LONG, FAILURE_CONTEXT}},
    {"maximum prompt length", NULL,                   {AT_LONG, FAILURE_CONTEXT}},
    {"less than max_seq_len", NULL,                   {AT_LONG, FAILURE_CONTEXT}},
    {"inputs` must have less than", "tokens",         {AT_LONG, FAILURE_CONTEXT}},
    {"inputs` tokens + `max_new_tokens` must be", NULL, {AT_LONG, FAILURE_CONTEXT}},
    {"range of input length should be", NULL,         {AT_LONG, FAILURE_CONTEXT}},
    {"request too large for", NULL,                   {AT_400 | AT_413 | AT_429 | AT_OK, FAILURE_CONTEXT}},
    {"request body too large for", "model",           {AT_400 | AT_413 | AT_OK, FAILURE_CONTEXT}},
    {"tokens per min", NULL,                          {AT_413, FAILURE_CONTEXT}},
    {"too many tokens", NULL,                         {AT_BAD | AT_413, FAILURE_CONTEXT}},
    {"reduce the length of the messages", NULL,       {AT_BAD | AT_413, FAILURE_CONTEXT}},

    {"tool call validation failed", NULL,             {AT_BAD, FAILURE_TOOL}},
    {"failed to call a function", NULL,               {AT_BAD, FAILURE_TOOL}},

    {"content management policy", NULL,               {AT_POLICY, FAILURE_FILTER}},
    {"content_filter", NULL,                          {AT_POLICY, FAILURE_FILTER}},
    {"requires moderation", NULL,                     {AT_POLICY, FAILURE_FILTER}},
    {"flagged", "moderation",                         {AT_POLICY, FAILURE_FILTER}},
    {"flagged", "polic",                              {AT_POLICY, FAILURE_FILTER}},
    {"content exists risk", NULL,                     {AT_POLICY, FAILURE_FILTER}},
    {"safety system", NULL,                           {AT_POLICY, FAILURE_FILTER}},
    {"blocked by", "guardrail",                       {AT_POLICY, FAILURE_FILTER}},
    {"content filtering policy", NULL,                {AT_POLICY, FAILURE_FILTER}},
    {"inappropriate content", NULL,                   {AT_POLICY, FAILURE_FILTER}},
    {"sensitive content", NULL,                       {AT_POLICY, FAILURE_FILTER}},
    {"violat", "content policy",                      {AT_POLICY, FAILURE_FILTER}},
    {"violat", "usage policies",                      {AT_POLICY, FAILURE_FILTER}},

    {"incorrect api key", NULL,                       {AT_KEY, FAILURE_AUTH}},
    {"invalid api key", NULL,                         {AT_KEY, FAILURE_AUTH}},
    {"invalid api-key", NULL,                         {AT_KEY, FAILURE_AUTH}},
    {"api key not valid", NULL,                       {AT_KEY, FAILURE_AUTH}},
    {"api key is invalid", NULL,                      {AT_KEY, FAILURE_AUTH}},
    {"api key not found", NULL,                       {AT_KEY, FAILURE_AUTH}},
    {"api key expired", NULL,                         {AT_KEY, FAILURE_AUTH}},
    {"api key has expired", NULL,                     {AT_KEY, FAILURE_AUTH}},
    {"missing api key", NULL,                         {AT_KEY, FAILURE_AUTH}},
    {"no api key", NULL,                              {AT_KEY, FAILURE_AUTH}},
    {"authentication fail", NULL,                     {AT_KEY, FAILURE_AUTH}},
    {"invalid authentication", NULL,                  {AT_KEY, FAILURE_AUTH}},
    {"invalid token", NULL,                           {AT_403 | AT_OK, FAILURE_AUTH}},

    {"missing scopes", NULL,                          {AT_400 | AT_401 | AT_403 | AT_OK, FAILURE_PERMISSION}},
    {"insufficient permissions", NULL,                {AT_400 | AT_401 | AT_403 | AT_OK, FAILURE_PERMISSION}},
    {"user location is not supported", NULL,          {AT_400 | AT_403 | AT_OK, FAILURE_PERMISSION}},
    {"don't have access to the model", NULL,          {AT_400 | AT_403 | AT_404 | AT_OK, FAILURE_PERMISSION}},
    {"country, region, or territory", NULL,           {AT_400 | AT_401 | AT_403 | AT_OK, FAILURE_PERMISSION}},
    {"must be verified to use", NULL,                 {AT_400 | AT_401 | AT_403 | AT_404 | AT_OK, FAILURE_PERMISSION}},

    {"balance", "insufficient",                       {AT_MONEY, FAILURE_BILLING}},
    {"balance", "too low",                            {AT_MONEY, FAILURE_BILLING}},
    {"balance", "recharge",                           {AT_MONEY, FAILURE_BILLING}},
    {"balance is $0", NULL,                           {AT_MONEY, FAILURE_BILLING}},
    {"balance", "not enough",                         {AT_MONEY, FAILURE_BILLING}},
    {"insufficient credit", NULL,                     {AT_MONEY, FAILURE_BILLING}},
    {"insufficient funds", NULL,                      {AT_MONEY, FAILURE_BILLING}},
    {"payment required", NULL,                        {AT_MONEY, FAILURE_BILLING}},
    {"\xe4\xbd\x99\xe9\xa2\x9d\xe4\xb8\x8d\xe8\xb6\xb3", NULL, {AT_MONEY | AT_429, FAILURE_BILLING}},   /* yu'e buzu: too little balance */

    {"worker local total request limit", NULL,        {AT_ANY, FAILURE_RATE}},      /* NIM: one worker's queue is full */
    {"resource_exhausted", "per",                     {AT_429, FAILURE_RATE}},
    {"generativelanguage.googleapis.com", NULL,       {AT_429, FAILURE_RATE}},      /* Gemini says "quota" to each of its limits */

    {"exceeded your current quota", NULL,             {AT_400 | AT_402 | AT_403 | AT_429 | AT_OK, FAILURE_QUOTA}},
    {"credit balance", NULL,                          {AT_429, FAILURE_QUOTA}},
    {"insufficient balance", NULL,                    {AT_429, FAILURE_QUOTA}},
    {"insufficient_quota", NULL,                      {AT_403 | AT_429 | AT_OK, FAILURE_QUOTA}},
    {"api usage limits", NULL,                        {AT_400 | AT_403 | AT_429 | AT_OK, FAILURE_QUOTA}},
    {"spend limit", NULL,                             {AT_400 | AT_403 | AT_429 | AT_OK, FAILURE_QUOTA}},
    {"spending limit", NULL,                          {AT_400 | AT_403 | AT_429 | AT_OK, FAILURE_QUOTA}},
    {"quota", "exceeded",                             {AT_403, FAILURE_QUOTA}},
    {"quota", "exhausted",                            {AT_403, FAILURE_QUOTA}},
    {"free tier", "exhausted",                        {AT_403, FAILURE_QUOTA}},

    {"maximum capacity", NULL,                        {AT_BUSY, FAILURE_OVERLOAD}},
    {"capacity exceeded", NULL,                       {AT_BUSY, FAILURE_OVERLOAD}},
    {"at capacity", NULL,                             {AT_BUSY, FAILURE_OVERLOAD}},
    {"no capacity", NULL,                             {AT_BUSY, FAILURE_OVERLOAD}},
    {"insufficient capacity", NULL,                   {AT_BUSY, FAILURE_OVERLOAD}},
    {"no instances available", NULL,                  {AT_BUSY, FAILURE_OVERLOAD}},
    {"under maintenance", NULL,                       {AT_BUSY, FAILURE_OVERLOAD}},
    {"overloaded", NULL,                              {AT_BUSY, FAILURE_OVERLOAD}},
    {"infra_overload", NULL,                          {AT_BUSY, FAILURE_OVERLOAD}},
    {"high demand", NULL,                             {AT_BUSY, FAILURE_OVERLOAD}},
    {"heavy load", NULL,                              {AT_BUSY, FAILURE_OVERLOAD}},
    {"too busy", NULL,                                {AT_BUSY, FAILURE_OVERLOAD}},
    {"server is busy", NULL,                          {AT_BUSY, FAILURE_OVERLOAD}},
    {"loading model", NULL,                           {AT_BUSY, FAILURE_OVERLOAD}},
    {"model is loading", NULL,                        {AT_BUSY, FAILURE_OVERLOAD}},
    {"currently loading", NULL,                       {AT_BUSY, FAILURE_OVERLOAD}},
    {"no healthy upstream", NULL,                     {AT_BUSY, FAILURE_OVERLOAD}},
    {"temporarily unavailable", NULL,                 {AT_BUSY, FAILURE_OVERLOAD}},

    {"rate limit", NULL,                              {AT_403 | AT_500 | AT_OK, FAILURE_RATE}},
    {"rate-limit", NULL,                              {AT_403 | AT_500 | AT_OK, FAILURE_RATE}},
    {"too many requests", NULL,                       {AT_403 | AT_500 | AT_OK, FAILURE_RATE}},

    {"no endpoints found that support", NULL,         {AT_404 | AT_OK, FAILURE_BAD}},   /* the model is there, the request's feature is not */
    {"previous response", "not found",                {AT_404, FAILURE_BAD}},
    {"plain http request was sent to https", NULL,    {AT_400, FAILURE_TLS}},

    {"is not a valid model", NULL,                    {AT_MODEL, FAILURE_NOT_FOUND}},
    {"model does not exist", NULL,                    {AT_MODEL, FAILURE_NOT_FOUND}},
    {"model not exist", NULL,                         {AT_MODEL, FAILURE_NOT_FOUND}},
    {"model not found", NULL,                         {AT_MODEL, FAILURE_NOT_FOUND}},
    {"invalid model:", NULL,                          {AT_MODEL, FAILURE_NOT_FOUND}},
    {"invalid model name", NULL,                      {AT_MODEL, FAILURE_NOT_FOUND}},
    {"unknown model", NULL,                           {AT_MODEL, FAILURE_NOT_FOUND}},
    {"no such model", NULL,                           {AT_MODEL, FAILURE_NOT_FOUND}},
    {"unsupported model", NULL,                       {AT_MODEL, FAILURE_NOT_FOUND}},
    {"model identifier is invalid", NULL,             {AT_MODEL, FAILURE_NOT_FOUND}},
    {"non-serverless model", NULL,                    {AT_MODEL, FAILURE_NOT_FOUND}},
    {"\xe6\xa8\xa1\xe5\x9e\x8b\xe4\xb8\x8d\xe5\xad\x98\xe5\x9c\xa8", NULL, {AT_MODEL, FAILURE_NOT_FOUND}},   /* moxing bu cunzai: no such model */

    {"timed out", NULL,                               {AT_500 | AT_OK, FAILURE_TIMEOUT}},
    {"deadline exceeded", NULL,                       {AT_500 | AT_OK, FAILURE_TIMEOUT}},
};
/* clang-format on */

/* Sentences that begin with the model: "The model `x` does not exist". Elsewhere in a text the words may be about anything. */
static const char *const model_starts[] = {"model ", "the model ", "the requested model ", "requested model "};
static const char *const model_ends[] = {"does not exist",      "not found",           "decommissioned",
                                         "has been deprecated", "no longer available", "no longer supported",
                                         "is not available",    "end of its life",     "end of life"};

static bool has(struct span said, const char *word)
{
    return memmem(said.p, said.n, word, strlen(word)) != NULL;
}

static bool has_one_of(struct span said, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (has(said, list[i]))
            return true;
    return false;
}

static bool starts_with_one_of(struct span said, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (span_starts(said, list[i]))
            return true;
    return false;
}

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

const struct sign *sign_of_words(struct span said, unsigned at)
{
    static const struct sign no_model = {AT_MODEL, FAILURE_NOT_FOUND};
    if (said.n == 0)
        return NULL;
    for (size_t i = 0; i < COUNT(words); i++)
        if ((words[i].sign.at & at) && has(said, words[i].has) && (!words[i].also || has(said, words[i].also)))
            return &words[i].sign;
    if ((no_model.at & at) && starts_with_one_of(said, model_starts, COUNT(model_starts)) &&
        has_one_of(said, model_ends, COUNT(model_ends)))
        return &no_model;
    return NULL;
}

/* ---- which limit -------------------------------------------------------------------- */

/* clang-format off */
static const struct limit_words {
    enum limit_kind limit;
    const char *has;
} limits[] = {
    {LIMIT_RAMP, "increased too quickly"}, {LIMIT_RAMP, "acceleration"}, {LIMIT_RAMP, "ramp up"}, {LIMIT_RAMP, "slow_down"},
    /* a month is a long day: out until its reset */
    {LIMIT_DAILY, "per day"}, {LIMIT_DAILY, "per-day"}, {LIMIT_DAILY, "perday"}, {LIMIT_DAILY, "daily"}, {LIMIT_DAILY, "(tpd)"},
    {LIMIT_DAILY, "(rpd)"}, {LIMIT_DAILY, "tpd limit"}, {LIMIT_DAILY, "rpd limit"}, {LIMIT_DAILY, "ipd limit"},
    {LIMIT_DAILY, "per month"}, {LIMIT_DAILY, "monthly"}, {LIMIT_DAILY, "per week"}, {LIMIT_DAILY, "weekly"},
    {LIMIT_CONCURRENCY, "concurren"}, {LIMIT_CONCURRENCY, "worker local total request limit"}, {LIMIT_CONCURRENCY, "in-flight"},
    {LIMIT_CONCURRENCY, "in_flight"}, {LIMIT_CONCURRENCY, "simultaneous"}, {LIMIT_CONCURRENCY, "parallel requests"},
    {LIMIT_TOKENS, "tokens per"}, {LIMIT_TOKENS, "(tpm)"}, {LIMIT_TOKENS, "tpm limit"}, {LIMIT_TOKENS, "token rate limit"},
    {LIMIT_TOKENS, "token limit"}, {LIMIT_TOKENS, "tokens limit"}, {LIMIT_TOKENS, "input_token"}, {LIMIT_TOKENS, "too many tokens"},
    {LIMIT_REQUESTS, "requests per"}, {LIMIT_REQUESTS, "(rpm)"}, {LIMIT_REQUESTS, "rpm limit"}, {LIMIT_REQUESTS, "rph limit"},
    {LIMIT_REQUESTS, "rps limit"}, {LIMIT_REQUESTS, "ipm limit"}, {LIMIT_REQUESTS, "request limit"}, {LIMIT_REQUESTS, "call rate limit"},
    {LIMIT_REQUESTS, "too many requests"},
};
/* clang-format on */

enum limit_kind limit_of_words(struct span said)
{
    for (size_t i = 0; said.n > 0 && i < COUNT(limits); i++)
        if (has(said, limits[i].has))
            return limits[i].limit;
    return LIMIT_UNKNOWN;
}

bool says_no_such_path(struct span said)
{
    static const char *const phrases[] = {"invalid url",        "unknown request url", "unrecognized request url",
                                          "no route matched",   "cannot post",         "cannot get",
                                          "page not found",     "resource not found",  "file not found",
                                          "method not allowed", "no static resource"};
    return said.n == 0 || span_is(said, "not found") || has_one_of(said, phrases, COUNT(phrases));
}
