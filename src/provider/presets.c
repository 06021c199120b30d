#include "provider/presets.h"

/* clang-format off */
static const struct preset rows[] = {
    /* No url_env: OPENAI_BASE_URL is what users set to bring their clients to perdure; reading it would make a ring. The same holds for
     * ANTHROPIC_BASE_URL, GOOGLE_GEMINI_BASE_URL and their relatives below. */
    {.name = "openai", .title = "OpenAI", .otel_name = "openai",
     .base_url = "https://api.openai.com/v1", .key_env = "OPENAI_API_KEY",
     .auth = AUTH_BEARER, .wires = {"openai-chat", "openai-responses", "openai-embeddings"},
     .asks_usage = true, .models_path = "/models"},

    {.name = "anthropic", .title = "Anthropic", .otel_name = "anthropic",
     .base_url = "https://api.anthropic.com", .url_drop = "/v1", .key_env = "ANTHROPIC_API_KEY",
     .auth = AUTH_X_API_KEY, .wires = {"anthropic-messages"}, .models_path = "/v1/models?limit=1000",
     .continues = "trailing"},

    {.name = "gemini", .title = "Google Gemini", .otel_name = "gcp.gemini",
     .base_url = "https://generativelanguage.googleapis.com", .url_drop = "/v1beta",
     .key_env = "GEMINI_API_KEY", .key_env_too = "GOOGLE_API_KEY",
     .auth = AUTH_GOOG_KEY, .wires = {"gemini"}, .models_path = "/v1beta/models?pageSize=1000"},

    /* One host for each location. Which models a project may call there no list tells. */
    {.name = "vertex", .title = "Google Vertex AI", .otel_name = "gcp.vertex_ai",
     .base_url = "https://{location}-aiplatform.googleapis.com",
     .auth = AUTH_GOOGLE, .wires = {"vertex-gemini", "vertex-anthropic"}, .continues = "trailing"},

    /* The key is one of Bedrock's own API keys; without it requests are signed with AWS credentials. */
    {.name = "bedrock", .title = "Amazon Bedrock", .otel_name = "aws.bedrock",
     .base_url = "https://bedrock-runtime.{region}.amazonaws.com", .key_env = "AWS_BEARER_TOKEN_BEDROCK",
     .auth = AUTH_SIGV4, .wires = {"bedrock-converse", "bedrock-invoke"}, .continues = "trailing"},

    {.name = "deepseek", .title = "DeepSeek", .otel_name = "deepseek",
     .base_url = "https://api.deepseek.com/v1", .key_env = "DEEPSEEK_API_KEY",
     .auth = AUTH_BEARER, .wires = {"openai-chat", "openai-responses"}, .asks_usage = true, .models_path = "/models",
     .reasoning_back = true, .throttles_by_latency = true, .continues = "prefix", .url_path = "/v1", .beta_path = "/beta"},

    /* Two sites with separate accounts: .cn is the usual one, .com is reached with the variable. */
    {.name = "siliconflow", .title = "SiliconFlow", .otel_name = "siliconflow",
     .base_url = "https://api.siliconflow.cn/v1", .key_env = "SILICONFLOW_API_KEY", .url_env = "SILICONFLOW_BASE_URL", .url_path = "/v1",
     .auth = AUTH_BEARER, .wires = {"openai-chat", "openai-embeddings"}, .asks_usage = true, .models_path = "/models",
     .throttles_by_latency = true},

    {.name = "chutes", .title = "Chutes", .otel_name = "chutes",
     .base_url = "https://llm.chutes.ai/v1", .key_env = "CHUTES_API_KEY",
     .auth = AUTH_BEARER, .wires = {"openai-chat", "openai-embeddings"}, .asks_usage = true, .models_path = "/models"},

    {.name = "nvidia", .title = "NVIDIA NIM", .otel_name = "nvidia",
     .base_url = "https://integrate.api.nvidia.com/v1", .key_env = "NVIDIA_API_KEY",
     .auth = AUTH_BEARER, .wires = {"openai-chat", "openai-embeddings"}, .asks_usage = true, .models_path = "/models"},

    /* Reports usage unasked, and answers 422 to members it does not know: so it is not asked. */
    {.name = "mistral", .title = "Mistral AI", .otel_name = "mistral_ai",
     .base_url = "https://api.mistral.ai/v1", .key_env = "MISTRAL_API_KEY",
     .auth = AUTH_BEARER, .wires = {"openai-chat", "openai-embeddings"}, .asks_usage = false, .models_path = "/models",
     .continues = "prefix"},

    {.name = "groq", .title = "Groq", .otel_name = "groq",
     .base_url = "https://api.groq.com/openai/v1", .key_env = "GROQ_API_KEY",
     .auth = AUTH_BEARER, .wires = {"openai-chat", "openai-responses"}, .asks_usage = true, .models_path = "/models"},

    {.name = "xai", .title = "xAI", .otel_name = "x_ai",
     .base_url = "https://api.x.ai/v1", .key_env = "XAI_API_KEY",
     .auth = AUTH_BEARER, .wires = {"openai-chat", "openai-responses"}, .asks_usage = true, .models_path = "/models"},

    {.name = "openrouter", .title = "OpenRouter", .otel_name = "openrouter",
     .base_url = "https://openrouter.ai/api/v1", .key_env = "OPENROUTER_API_KEY",
     .auth = AUTH_BEARER, .wires = {"openai-chat", "openai-responses", "openai-embeddings"},
     .asks_usage = true, .models_path = "/models"},

    {.name = "together", .title = "Together AI", .otel_name = "together_ai",
     .base_url = "https://api.together.ai/v1", .key_env = "TOGETHER_API_KEY",
     .auth = AUTH_BEARER, .wires = {"openai-chat", "openai-embeddings"}, .asks_usage = true, .models_path = "/models"},

    {.name = "fireworks", .title = "Fireworks AI", .otel_name = "fireworks_ai",
     .base_url = "https://api.fireworks.ai/inference/v1", .key_env = "FIREWORKS_API_KEY",
     .auth = AUTH_BEARER, .wires = {"openai-chat", "openai-embeddings"}, .asks_usage = true, .models_path = "/models"},

    /* The v1 API: no api-version, the deployment's name as the model. Its model list is the catalogue of what could be
     * deployed, not of what is: routing by it would call deployments that do not exist. */
    {.name = "azure-openai", .title = "Azure OpenAI", .otel_name = "azure.ai.openai",
     .base_url = NULL, .key_env = "AZURE_OPENAI_API_KEY", .url_env = "AZURE_OPENAI_ENDPOINT", .url_path = "/openai/v1",
     .auth = AUTH_API_KEY, .wires = {"openai-chat", "openai-responses", "openai-embeddings"}, .asks_usage = true},

    /* Servers of one's own: the addresses are their defaults, used when the config names the preset without a base_url. */
    {.name = "vllm", .title = "vLLM", .otel_name = "vllm",
     .base_url = "http://127.0.0.1:8000/v1", .key_env = "VLLM_API_KEY", .url_env = "VLLM_BASE_URL", .url_path = "/v1",
     .auth = AUTH_OPTIONAL_BEARER, .wires = {"openai-chat", "openai-responses", "openai-embeddings"},
     .asks_usage = true, .local = true, .models_path = "/models", .continues = "final"},

    /* Its usual port is our own: an assumed address would lead back to us. */
    {.name = "llamacpp", .title = "llama.cpp", .otel_name = "llama_cpp",
     .base_url = NULL, .key_env = "LLAMACPP_API_KEY", .url_env = "LLAMACPP_BASE_URL", .url_path = "/v1",
     .auth = AUTH_OPTIONAL_BEARER, .wires = {"openai-chat", "openai-embeddings"},
     .asks_usage = true, .local = true, .models_path = "/models", .continues = "trailing"},

    {.name = "ollama", .title = "Ollama", .otel_name = "ollama",
     .base_url = "http://127.0.0.1:11434", .url_drop = "/v1", .key_env = "OLLAMA_API_KEY", .url_env = "OLLAMA_HOST",
     .auth = AUTH_OPTIONAL_BEARER,
     .wires = {"ollama", "openai-chat@/v1", "openai-responses@/v1", "openai-embeddings@/v1"},
     .asks_usage = true, .local = true, .models_path = "/v1/models",
     .continues = "trailing"},

    /* Anything else. No url_path: nobody knows where its API starts. */
    {.name = "openai-compatible", .title = "OpenAI-compatible server", .otel_name = "openai",
     .base_url = NULL, .key_env = "OPENAI_COMPATIBLE_API_KEY", .url_env = "OPENAI_COMPATIBLE_BASE_URL",
     .auth = AUTH_OPTIONAL_BEARER, .wires = {"openai-chat", "openai-embeddings"},
     .asks_usage = true, .local = true, .models_path = "/models"},

    {.name = "anthropic-compatible", .title = "Anthropic-compatible server", .otel_name = "anthropic",
     .base_url = NULL, .url_drop = "/v1", .key_env = "ANTHROPIC_COMPATIBLE_API_KEY", .url_env = "ANTHROPIC_COMPATIBLE_BASE_URL",
     .auth = AUTH_X_API_KEY, .wires = {"anthropic-messages"}, .local = true, .models_path = "/v1/models"},
};
/* clang-format on */

const struct preset_table presets = {.rows = rows, .count = sizeof rows / sizeof rows[0]};
