#include "provider/presets.h"

/* clang-format off */
static const struct preset rows[] = {
    /* No url_env: OPENAI_BASE_URL is what users set to bring their clients to perdure; reading it would make a ring. */
    {.name = "openai", .title = "OpenAI", .otel_name = "openai",
     .base_url = "https://api.openai.com/v1", .key_env = "OPENAI_API_KEY",
     .auth = AUTH_BEARER, .dialect = "openai-chat", .asks_usage = true, .lists_models = true},

    {.name = "deepseek", .title = "DeepSeek", .otel_name = "deepseek",
     .base_url = "https://api.deepseek.com/v1", .key_env = "DEEPSEEK_API_KEY",
     .auth = AUTH_BEARER, .dialect = "openai-chat", .asks_usage = true, .lists_models = true},

    /* Two sites with separate accounts: .cn is the usual one, .com is reached with the variable. */
    {.name = "siliconflow", .title = "SiliconFlow", .otel_name = "siliconflow",
     .base_url = "https://api.siliconflow.cn/v1", .key_env = "SILICONFLOW_API_KEY", .url_env = "SILICONFLOW_BASE_URL", .url_path = "/v1",
     .auth = AUTH_BEARER, .dialect = "openai-chat", .asks_usage = true, .lists_models = true},

    {.name = "chutes", .title = "Chutes", .otel_name = "chutes",
     .base_url = "https://llm.chutes.ai/v1", .key_env = "CHUTES_API_KEY",
     .auth = AUTH_BEARER, .dialect = "openai-chat", .asks_usage = true, .lists_models = true},

    {.name = "nvidia", .title = "NVIDIA NIM", .otel_name = "nvidia",
     .base_url = "https://integrate.api.nvidia.com/v1", .key_env = "NVIDIA_API_KEY",
     .auth = AUTH_BEARER, .dialect = "openai-chat", .asks_usage = true, .lists_models = true},

    /* Reports usage unasked, and answers 422 to members it does not know: so it is not asked. */
    {.name = "mistral", .title = "Mistral AI", .otel_name = "mistral_ai",
     .base_url = "https://api.mistral.ai/v1", .key_env = "MISTRAL_API_KEY",
     .auth = AUTH_BEARER, .dialect = "openai-chat", .asks_usage = false, .lists_models = true},

    {.name = "groq", .title = "Groq", .otel_name = "groq",
     .base_url = "https://api.groq.com/openai/v1", .key_env = "GROQ_API_KEY",
     .auth = AUTH_BEARER, .dialect = "openai-chat", .asks_usage = true, .lists_models = true},

    {.name = "openrouter", .title = "OpenRouter", .otel_name = "openrouter",
     .base_url = "https://openrouter.ai/api/v1", .key_env = "OPENROUTER_API_KEY",
     .auth = AUTH_BEARER, .dialect = "openai-chat", .asks_usage = true, .lists_models = true},

    {.name = "together", .title = "Together AI", .otel_name = "together_ai",
     .base_url = "https://api.together.ai/v1", .key_env = "TOGETHER_API_KEY",
     .auth = AUTH_BEARER, .dialect = "openai-chat", .asks_usage = true, .lists_models = true},

    {.name = "fireworks", .title = "Fireworks AI", .otel_name = "fireworks_ai",
     .base_url = "https://api.fireworks.ai/inference/v1", .key_env = "FIREWORKS_API_KEY",
     .auth = AUTH_BEARER, .dialect = "openai-chat", .asks_usage = true, .lists_models = true},

    /* The v1 API: no api-version, the deployment's name as the model. Its model list is the catalogue of what could be
     * deployed, not of what is: routing by it would call deployments that do not exist. */
    {.name = "azure-openai", .title = "Azure OpenAI", .otel_name = "azure.ai.openai",
     .base_url = NULL, .key_env = "AZURE_OPENAI_API_KEY", .url_env = "AZURE_OPENAI_ENDPOINT", .url_path = "/openai/v1",
     .auth = AUTH_API_KEY, .dialect = "openai-chat", .asks_usage = true, .lists_models = false},

    /* Servers of one's own: the addresses are their defaults, used when the config names the preset without a base_url. */
    {.name = "vllm", .title = "vLLM", .otel_name = "vllm",
     .base_url = "http://127.0.0.1:8000/v1", .key_env = "VLLM_API_KEY", .url_env = "VLLM_BASE_URL", .url_path = "/v1",
     .auth = AUTH_OPTIONAL_BEARER, .dialect = "openai-chat", .asks_usage = true, .local = true, .lists_models = true},

    /* Its usual port is our own: an assumed address would lead back to us. */
    {.name = "llamacpp", .title = "llama.cpp", .otel_name = "llama_cpp",
     .base_url = NULL, .key_env = "LLAMACPP_API_KEY", .url_env = "LLAMACPP_BASE_URL", .url_path = "/v1",
     .auth = AUTH_OPTIONAL_BEARER, .dialect = "openai-chat", .asks_usage = true, .local = true, .lists_models = true},

    {.name = "ollama", .title = "Ollama", .otel_name = "ollama",
     .base_url = "http://127.0.0.1:11434/v1", .key_env = "OLLAMA_API_KEY", .url_env = "OLLAMA_HOST", .url_path = "/v1",
     .auth = AUTH_OPTIONAL_BEARER, .dialect = "openai-chat", .asks_usage = true, .local = true, .lists_models = true},

    /* Anything else. No url_path: nobody knows where its API starts. */
    {.name = "openai-compatible", .title = "OpenAI-compatible server", .otel_name = "openai",
     .base_url = NULL, .key_env = "OPENAI_COMPATIBLE_API_KEY", .url_env = "OPENAI_COMPATIBLE_BASE_URL",
     .auth = AUTH_OPTIONAL_BEARER, .dialect = "openai-chat", .asks_usage = true, .local = true, .lists_models = true},
};
/* clang-format on */

const struct preset_table presets = {rows, sizeof rows / sizeof rows[0]};
