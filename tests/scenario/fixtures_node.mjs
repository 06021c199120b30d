// Reads answers with the official SDKs of Node and says, one line of JSON for each, what the SDK made of them. Started by fixtures_sdk.
//   node fixtures_node.mjs '{"packages": FOLDER, "base": URL, "to": FORMAT, "cases": [{"case": N, "streamed": BOOL}, ...]}'
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const want = JSON.parse(process.argv[2]);
const require = createRequire(want.packages + "/");
const load = (name) => import(pathToFileURL(require.resolve(name)));
const user = [{ role: "user", content: "hello" }];
const said = () => ({ text: "", reasoning: "", refusal: "", tools: [], finish: null, usage: null });

const readers = {
  async "openai-chat"() {
    const { default: OpenAI } = await load("openai");
    const client = new OpenAI({ baseURL: want.base + "/v1", apiKey: "none", maxRetries: 0 });
    return async (model, streamed) => {
      const r = said();
      let answer;
      if (streamed) {
        const stream = client.chat.completions.stream({ model, messages: user, stream_options: { include_usage: true } });
        stream.on("chunk", (chunk) => {
          r.reasoning += chunk.choices[0]?.delta?.reasoning_content ?? "";
        });
        answer = await stream.finalChatCompletion();
      } else {
        answer = await client.chat.completions.create({ model, messages: user });
        r.reasoning = answer.choices[0].message.reasoning_content ?? "";
      }
      const { message, finish_reason } = answer.choices[0];
      r.text = message.content ?? "";
      r.refusal = message.refusal ?? "";
      r.tools = (message.tool_calls ?? []).map((t) => ({ id: t.id, name: t.function.name, arguments: t.function.arguments }));
      if (message.function_call) r.tools.push({ id: null, name: message.function_call.name, arguments: message.function_call.arguments });
      r.finish = finish_reason;
      r.usage = answer.usage && { input: answer.usage.prompt_tokens, output: answer.usage.completion_tokens, cached: answer.usage.prompt_tokens_details?.cached_tokens };
      return r;
    };
  },

  async "openai-responses"() {
    const { default: OpenAI } = await load("openai");
    const client = new OpenAI({ baseURL: want.base + "/v1", apiKey: "none", maxRetries: 0 });
    return async (model, streamed) => {
      const r = said();
      const answer = streamed
        ? await client.responses.stream({ model, input: "hello" }).finalResponse()
        : await client.responses.create({ model, input: "hello" });
      r.text = answer.output_text;
      for (const item of answer.output) {
        if (item.type === "reasoning") {
          r.reasoning += [...(item.summary ?? []), ...(item.content ?? [])].map((p) => p.text).join("");
        } else if (item.type === "function_call") {
          r.tools.push({ id: item.call_id, name: item.name, arguments: item.arguments });
        } else if (item.type === "message") {
          for (const part of item.content) r.refusal += part.type === "refusal" ? part.refusal : "";
        }
      }
      r.finish = answer.status === "incomplete" ? answer.incomplete_details.reason : answer.status;
      r.usage = { input: answer.usage.input_tokens, output: answer.usage.output_tokens, cached: answer.usage.input_tokens_details.cached_tokens };
      return r;
    };
  },

  async "anthropic-messages"() {
    const { default: Anthropic } = await load("@anthropic-ai/sdk");
    const client = new Anthropic({ baseURL: want.base, apiKey: "none", maxRetries: 0 });
    return async (model, streamed) => {
      const r = said();
      const ask = { model, max_tokens: 1000, messages: user };
      const answer = streamed ? await client.messages.stream(ask).finalMessage() : await client.messages.create(ask);
      for (const block of answer.content) {
        if (block.type === "text") r.text += block.text;
        else if (block.type === "thinking") r.reasoning += block.thinking;
        else if (block.type === "tool_use") r.tools.push({ id: block.id, name: block.name, arguments: block.input });
      }
      const { usage } = answer;
      r.finish = answer.stop_reason;
      r.usage = { input: usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens, output: usage.output_tokens, cached: usage.cache_read_input_tokens };
      return r;
    };
  },

  async gemini() {
    const { GoogleGenAI } = await load("@google/genai");
    const client = new GoogleGenAI({ apiKey: "none", httpOptions: { baseUrl: want.base } });
    return async (model, streamed) => {
      const r = said();
      const ask = { model, contents: "hello" };
      const chunks = streamed ? await client.models.generateContentStream(ask) : [await client.models.generateContent(ask)];
      for await (const chunk of chunks) {
        const candidate = chunk.candidates?.find((c) => !c.index);
        for (const part of candidate?.content?.parts ?? []) {
          if (part.functionCall) r.tools.push({ id: part.functionCall.id, name: part.functionCall.name, arguments: part.functionCall.args });
          else if (part.thought) r.reasoning += part.text ?? "";
          else r.text += part.text ?? "";
        }
        r.finish = candidate?.finishReason ?? r.finish;
        const usage = chunk.usageMetadata;
        if (usage) r.usage = { input: usage.promptTokenCount, output: (usage.candidatesTokenCount ?? 0) + (usage.thoughtsTokenCount ?? 0), cached: usage.cachedContentTokenCount };
      }
      return r;
    };
  },

  async "bedrock-converse"() {
    const { BedrockRuntimeClient, ConverseCommand, ConverseStreamCommand } = await load("@aws-sdk/client-bedrock-runtime");
    // over HTTP/1.1: HTTP/2 is test_h2c.py's subject
    const { NodeHttpHandler } = createRequire(require.resolve("@aws-sdk/client-bedrock-runtime"))("@smithy/node-http-handler");
    const client = new BedrockRuntimeClient({
      endpoint: want.base, region: "us-east-1", maxAttempts: 1, requestHandler: new NodeHttpHandler(), credentials: { accessKeyId: "none", secretAccessKey: "none" },
    });
    const usageOf = (u) => ({ input: u.inputTokens + (u.cacheReadInputTokens ?? 0) + (u.cacheWriteInputTokens ?? 0), output: u.outputTokens, cached: u.cacheReadInputTokens });
    return async (modelId, streamed) => {
      const r = said();
      const ask = { modelId, messages: [{ role: "user", content: [{ text: "hello" }] }] };
      if (!streamed) {
        const answer = await client.send(new ConverseCommand(ask));
        for (const block of answer.output.message.content) {
          if (block.text !== undefined) r.text += block.text;
          else if (block.citationsContent) r.text += block.citationsContent.content.map((c) => c.text).join("");
          else if (block.reasoningContent?.reasoningText) r.reasoning += block.reasoningContent.reasoningText.text;
          else if (block.toolUse) r.tools.push({ id: block.toolUse.toolUseId, name: block.toolUse.name, arguments: block.toolUse.input });
        }
        r.finish = answer.stopReason;
        r.usage = usageOf(answer.usage);
        return r;
      }
      const open = new Map(); // calls by their block's index
      for await (const event of (await client.send(new ConverseStreamCommand(ask))).stream) {
        const start = event.contentBlockStart?.start?.toolUse;
        const delta = event.contentBlockDelta?.delta;
        if (start) {
          const tool = { id: start.toolUseId, name: start.name, arguments: "" };
          open.set(event.contentBlockStart.contentBlockIndex, tool);
          r.tools.push(tool);
        }
        if (delta?.toolUse) open.get(event.contentBlockDelta.contentBlockIndex).arguments += delta.toolUse.input;
        r.text += delta?.text ?? "";
        r.reasoning += delta?.reasoningContent?.text ?? "";
        if (event.messageStop) r.finish = event.messageStop.stopReason;
        if (event.metadata) r.usage = usageOf(event.metadata.usage);
      }
      return r;
    };
  },

  async ollama() {
    const { Ollama } = await load("ollama");
    const client = new Ollama({ host: want.base });
    return async (model, streamed) => {
      const r = said();
      const answer = await client.chat({ model, messages: user, stream: streamed });
      for await (const line of streamed ? answer : [answer]) {
        r.text += line.message.content ?? "";
        r.reasoning += line.message.thinking ?? "";
        for (const call of line.message.tool_calls ?? []) r.tools.push({ id: call.id, name: call.function.name, arguments: call.function.arguments });
        if (line.done) {
          r.finish = line.done_reason;
          r.usage = { input: line.prompt_eval_count, output: line.eval_count };
        }
      }
      return r;
    };
  },
};

const read = await readers[want.to]();
for (const { case: number, streamed } of want.cases) {
  let result;
  try {
    result = await read(`case-${number}`, streamed);
  } catch (e) {
    result = { error: `${e?.name}: ${e?.message}`.slice(0, 500) };
  }
  process.stdout.write(JSON.stringify({ case: number, ...result }) + "\n");
}
process.exit(0);
