// The official Node SDKs through perdure: one SDK, every cell of its part of the matrix. Started by tests/scenario/sdk_matrix, with what it needs as
// JSON in its first argument; prints a line of JSON for each cell.
//
// The scenarios are written once, below, against what an adapter makes of its SDK: a conversation that takes a user's message or the results of tools,
// sends all of it in the SDK's own way, and gives back what the SDK's types hand to the user. What goes into the history is what the SDK gave.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const want = JSON.parse(process.argv[2]);
// The packages are not beside this file but in the build folder.
const require = createRequire(want.packages + '/');
const load = async (name) => import(pathToFileURL(require.resolve(name)));
const { z } = await load('zod');
globalThis.AI_SDK_LOG_WARNINGS = false;

const THINKING = 1024; // tokens, where a client says how many
const Forecast = z.object({ place: z.string(), degrees: z.number(), rain: z.boolean(), days: z.array(z.string()) });
const { $schema: _, ...SCHEMA } = z.toJSONSchema(Forecast);
const TOOL = { name: 'get_weather', description: 'The weather of a place', parameters: {
  type: 'object', properties: { place: { type: 'string' }, days: { type: 'integer' } }, required: ['place', 'days'], additionalProperties: false } };

// What a turn came to: the text, its pieces when streamed, reasoning, calls ({id, name, given}), how it ended, tokens, and the parsed object.
const said = () => ({ text: '', pieces: [], reasoning: '', calls: [], finish: null, usage: null, object: undefined });
const tokens = (input, output, total = input + output) => ({ input, output, total });
// The end of the error's words that the user reads, its kind, and its Retry-After where the SDK shows one.
const failure = (kind, e, after) => ({ kind, message: String(e.message), after });
const compact = (o) => Object.fromEntries(Object.entries(o).filter(([, v]) => v !== undefined && v !== false));

// ---- OpenAI ------------------------------------------------------------------------------------

async function openai() {
  const { default: OpenAI } = await load('openai');
  const { zodResponseFormat, zodTextFormat } = await load('openai/helpers/zod');
  const client = new OpenAI({ baseURL: `${want.url}/v1`, apiKey: want.key, maxRetries: 0 });
  const failed = (e) => failure(e instanceof OpenAI.BadRequestError ? 'bad request' : e instanceof OpenAI.RateLimitError ? 'rate limit' : e.constructor.name,
    e, e.headers?.get('retry-after'));

  class Chat {
    static ends = { text: 'stop', tools: 'tool_calls' };
    static failed = failed;
    messages = [];
    constructor(model) { this.model = model; }
    user(text, image) {
      this.messages.push({ role: 'user', content: image ? [{ type: 'text', text },
        { type: 'image_url', image_url: { url: `data:image/png;base64,${image}` } }] : text });
    }
    results(list) { for (const { call, output } of list) this.messages.push({ role: 'tool', tool_call_id: call.id, content: output }); }
    async send({ stream, tools, schema, think }) {
      const body = compact({ model: this.model, messages: this.messages, tools: tools && [{ type: 'function', function: TOOL }],
        parallel_tool_calls: tools, response_format: schema && zodResponseFormat(Forecast, 'forecast'), reasoning_effort: think && 'low' });
      const s = said();
      let done;
      if (stream) {
        const run = client.chat.completions.stream({ ...body, stream_options: { include_usage: true } });
        for await (const chunk of run) {
          const delta = chunk.choices[0]?.delta ?? {};
          if (delta.content) s.pieces.push(delta.content);
          s.reasoning += delta.reasoning_content ?? delta.reasoning ?? '';
        }
        done = await run.finalChatCompletion();
      } else {
        done = await client.chat.completions[schema ? 'parse' : 'create'](body);
        s.reasoning = done.choices[0].message.reasoning_content ?? done.choices[0].message.reasoning ?? '';
      }
      const { message, finish_reason } = done.choices[0];
      this.messages.push(message);
      return { ...s, text: message.content ?? '', finish: finish_reason, object: message.parsed,
        calls: (message.tool_calls ?? []).map((c) => ({ id: c.id, name: c.function.name, given: JSON.parse(c.function.arguments) })),
        usage: tokens(done.usage.prompt_tokens, done.usage.completion_tokens, done.usage.total_tokens) };
    }
  }

  class Responses {
    static ends = { text: 'completed', tools: 'completed' };
    static failed = failed;
    input = [];
    constructor(model) { this.model = model; }
    user(text, image) {
      this.input.push({ role: 'user', content: image ? [{ type: 'input_text', text },
        { type: 'input_image', detail: 'auto', image_url: `data:image/png;base64,${image}` }] : text });
    }
    results(list) { for (const { call, output } of list) this.input.push({ type: 'function_call_output', call_id: call.id, output }); }
    async send({ stream, tools, schema, think }) {
      const body = compact({ model: this.model, input: this.input, store: null, tools: tools && [{ type: 'function', strict: true, ...TOOL }],
        text: schema && { format: zodTextFormat(Forecast, 'forecast') }, reasoning: think && { effort: 'low', summary: 'auto' },
        include: think && ['reasoning.encrypted_content'] });
      body.store = false; // nothing is kept: the conversation goes along
      const s = said();
      let done;
      if (stream) {
        const run = client.responses.stream(body);
        for await (const event of run) {
          if (event.type === 'response.output_text.delta') s.pieces.push(event.delta);
          if (event.type === 'response.reasoning_summary_text.delta' || event.type === 'response.reasoning_text.delta') s.reasoning += event.delta;
        }
        done = await run.finalResponse();
      } else {
        done = await client.responses[schema ? 'parse' : 'create'](body);
      }
      const shown = done.output.filter((i) => i.type === 'reasoning').flatMap((i) => [...i.summary, ...(i.content ?? [])]).map((p) => p.text).join('');
      if (stream) assert.equal(s.reasoning, shown, 'reasoning, streamed and whole');
      this.input.push(...done.output);
      return { ...s, text: done.output_text, reasoning: shown, finish: done.status, object: done.output_parsed ?? undefined,
        calls: done.output.filter((i) => i.type === 'function_call').map((c) => ({ id: c.call_id, name: c.name, given: JSON.parse(c.arguments) })),
        usage: tokens(done.usage.input_tokens, done.usage.output_tokens, done.usage.total_tokens) };
    }
  }
  return { Chat, Responses };
}

// ---- Anthropic ------------------------------------------------------------------------------------

async function anthropic() {
  const { default: Anthropic } = await load('@anthropic-ai/sdk');
  const { zodOutputFormat } = await load('@anthropic-ai/sdk/helpers/zod');
  const client = new Anthropic({ baseURL: want.url, apiKey: want.key, maxRetries: 0 });
  return class {
    static ends = { text: 'end_turn', tools: 'tool_use' };
    static failed = (e) => failure(e instanceof Anthropic.BadRequestError ? 'bad request' : e instanceof Anthropic.RateLimitError ? 'rate limit' :
      e.constructor.name, e, e.headers?.get('retry-after'));
    messages = [];
    constructor(model) { this.model = model; }
    user(text, image) {
      this.messages.push({ role: 'user', content: image ? [{ type: 'image', source: { type: 'base64', media_type: 'image/png', data: image } },
        { type: 'text', text }] : text });
    }
    results(list) {
      this.messages.push({ role: 'user', content: list.map(({ call, output }) => ({ type: 'tool_result', tool_use_id: call.id, content: output })) });
    }
    async send({ stream, tools, schema, think }) {
      const { parameters, ...named } = TOOL;
      const body = compact({ model: this.model, max_tokens: 4096, messages: this.messages, tools: tools && [{ ...named, input_schema: parameters }],
        output_config: schema && { format: zodOutputFormat(Forecast) }, thinking: think && { type: 'enabled', budget_tokens: THINKING } });
      const s = said();
      let done;
      if (stream) {
        const run = client.messages.stream(body).on('text', (delta) => s.pieces.push(delta));
        done = await run.finalMessage();
      } else {
        done = await client.messages[schema ? 'parse' : 'create'](body);
      }
      this.messages.push({ role: 'assistant', content: done.content });
      const of = (type) => done.content.filter((b) => b.type === type);
      return { ...s, text: of('text').map((b) => b.text).join(''), reasoning: of('thinking').map((b) => b.thinking).join(''), finish: done.stop_reason,
        calls: of('tool_use').map((b) => ({ id: b.id, name: b.name, given: b.input })), object: done.parsed_output ?? undefined,
        usage: tokens(done.usage.input_tokens, done.usage.output_tokens) };
    }
  };
}

// ---- Google ------------------------------------------------------------------------------------

async function google() {
  const { ApiError, GoogleGenAI } = await load('@google/genai');
  const client = new GoogleGenAI({ apiKey: want.key, httpOptions: { baseUrl: want.url } });
  // The SDK's chat keeps the history itself.
  return class {
    static ends = { text: 'STOP', tools: 'STOP' };
    static failed = (e) => failure(e instanceof ApiError ? { 400: 'bad request', 429: 'rate limit' }[e.status] : e.constructor.name, e);
    constructor(model) { this.chat = client.chats.create({ model }); }
    user(text, image) { this.message = image ? [{ text }, { inlineData: { mimeType: 'image/png', data: image } }] : text; }
    results(list) { this.message = list.map(({ call, output }) => ({ functionResponse: compact({ id: call.id, name: call.name, response: { output } }) })); }
    async send({ stream, tools, schema, think }) {
      const { parameters, ...named } = TOOL;
      const config = compact({ tools: tools && [{ functionDeclarations: [{ ...named, parametersJsonSchema: parameters }] }],
        responseMimeType: schema && 'application/json', responseJsonSchema: schema && SCHEMA,
        thinkingConfig: think && { includeThoughts: true, thinkingBudget: THINKING } });
      const s = said();
      const take = (answer) => {
        for (const part of answer.candidates?.[0]?.content?.parts ?? []) {
          if (part.thought) s.reasoning += part.text ?? '';
          else if (part.text) s.pieces.push(part.text);
        }
        for (const c of answer.functionCalls ?? []) s.calls.push({ id: c.id, name: c.name, given: c.args });
        s.finish = answer.candidates?.[0]?.finishReason ?? s.finish;
        const u = answer.usageMetadata;
        if (u) s.usage = tokens(u.promptTokenCount, (u.candidatesTokenCount ?? 0) + (u.thoughtsTokenCount ?? 0), u.totalTokenCount);
      };
      if (stream) for await (const answer of await this.chat.sendMessageStream({ message: this.message, config })) take(answer);
      else take(await this.chat.sendMessage({ message: this.message, config }));
      s.text = s.pieces.join('');
      if (schema) s.object = JSON.parse(s.text);
      return s;
    }
  };
}

// ---- AWS ------------------------------------------------------------------------------------

async function bedrock() {
  const sdk = await load('@aws-sdk/client-bedrock-runtime');
  // As it comes: over http:// its own handler speaks HTTP/2 by prior knowledge.
  const client = new sdk.BedrockRuntimeClient({ endpoint: want.url, region: 'us-east-1', maxAttempts: 1,
    credentials: { accessKeyId: want.key, secretAccessKey: 'any' } });
  return class {
    static ends = { text: 'end_turn', tools: 'tool_use' };
    static failed = (e) => failure(e instanceof sdk.ValidationException ? 'bad request' : e instanceof sdk.ThrottlingException ? 'rate limit' :
      e.constructor.name, e, e.$response?.headers['retry-after']);
    static done = () => client.destroy();
    messages = [];
    constructor(model) { this.model = model; }
    user(text, image) {
      this.messages.push({ role: 'user', content: image ? [{ text }, { image: { format: 'png', source: { bytes: Buffer.from(image, 'base64') } } }] : [{ text }] });
    }
    results(list) {
      this.messages.push({ role: 'user', content: list.map(({ call, output }) => ({ toolResult: { toolUseId: call.id, content: [{ text: output }] } })) });
    }
    async send({ stream, tools, schema, think }) {
      const { parameters, ...named } = TOOL;
      const input = compact({ modelId: this.model, messages: this.messages,
        toolConfig: tools && { tools: [{ toolSpec: { ...named, inputSchema: { json: parameters } } }] },
        outputConfig: schema && { textFormat: { type: 'json_schema', structure: { jsonSchema: { name: 'forecast', schema: JSON.stringify(SCHEMA) } } } },
        additionalModelRequestFields: think && { thinking: { type: 'enabled', budget_tokens: THINKING } } });
      const s = said();
      let done;
      if (stream) done = await this.streamed(await client.send(new sdk.ConverseStreamCommand(input)), s);
      else done = await client.send(new sdk.ConverseCommand(input));
      const { message } = done.output;
      this.messages.push(message);
      s.text = message.content.map((b) => b.text ?? '').join('');
      if (schema) s.object = JSON.parse(s.text);
      return { ...s, reasoning: message.content.map((b) => b.reasoningContent?.reasoningText?.text ?? '').join(''), finish: done.stopReason,
        calls: message.content.filter((b) => b.toolUse).map(({ toolUse: t }) => ({ id: t.toolUseId, name: t.name, given: t.input })),
        usage: tokens(done.usage.inputTokens, done.usage.outputTokens, done.usage.totalTokens) };
    }
    // The SDK hands out events; putting the message together is its user's.
    async streamed(answer, s) {
      const blocks = [];
      const done = { output: { message: { role: 'assistant', content: blocks } } };
      for await (const event of answer.stream) {
        if (event.contentBlockStart) blocks[event.contentBlockStart.contentBlockIndex] = { toolUse: { ...event.contentBlockStart.start.toolUse, input: '' } };
        if (event.contentBlockDelta) {
          const { contentBlockIndex: at, delta } = event.contentBlockDelta;
          const block = blocks[at] ??= delta.reasoningContent ? { reasoningContent: {} } : { text: '' };
          if (delta.text !== undefined) { block.text += delta.text; s.pieces.push(delta.text); }
          if (delta.toolUse) block.toolUse.input += delta.toolUse.input;
          if (delta.reasoningContent?.redactedContent) block.reasoningContent.redactedContent = delta.reasoningContent.redactedContent;
          else if (delta.reasoningContent) {
            const r = block.reasoningContent.reasoningText ??= { text: '' };
            r.text += delta.reasoningContent.text ?? '';
            if (delta.reasoningContent.signature) r.signature = (r.signature ?? '') + delta.reasoningContent.signature;
          }
        }
        if (event.messageStop) done.stopReason = event.messageStop.stopReason;
        if (event.metadata) done.usage = event.metadata.usage;
      }
      for (const b of blocks) if (b.toolUse) b.toolUse.input = JSON.parse(b.toolUse.input || '{}');
      return done;
    }
  };
}

// ---- Mistral ------------------------------------------------------------------------------------

async function mistral() {
  const { Mistral } = await load('@mistralai/mistralai');
  const { MistralError } = await load('@mistralai/mistralai/models/errors');
  const client = new Mistral({ apiKey: want.key, serverURL: want.url, retryConfig: { strategy: 'none' } });
  const texts = (content) => typeof content === 'string' ? content : (content ?? []).map((c) => c.text ?? '').join('');
  const thoughts = (content) => typeof content === 'string' ? '' :
    (content ?? []).filter((c) => c.type === 'thinking').flatMap((c) => c.thinking).map((t) => t.text).join('');
  return class {
    static ends = { text: 'stop', tools: 'tool_calls' };
    static failed = (e) => failure(e instanceof MistralError ? { 400: 'bad request', 429: 'rate limit' }[e.statusCode] : e.constructor.name, e,
      e.headers?.get('retry-after'));
    messages = [];
    constructor(model) { this.model = model; }
    user(text, image) {
      this.messages.push({ role: 'user', content: image ? [{ type: 'text', text }, { type: 'image_url', imageUrl: `data:image/png;base64,${image}` }] : text });
    }
    results(list) { for (const { call, output } of list) this.messages.push({ role: 'tool', toolCallId: call.id, name: call.name, content: output }); }
    async send({ stream, tools, schema, think }) {
      const body = compact({ model: this.model, messages: this.messages, tools: tools && [{ type: 'function', function: TOOL }],
        reasoningEffort: think && 'high' });
      const s = said();
      let message, usage;
      if (stream) {
        message = { role: 'assistant', content: '', toolCalls: [] };
        for await (const { data } of await client.chat.stream(body)) {
          usage = data.usage ?? usage;
          const [choice] = data.choices;
          if (!choice) continue;
          const text = texts(choice.delta.content);
          if (text) s.pieces.push(text);
          s.reasoning += thoughts(choice.delta.content);
          for (const c of choice.delta.toolCalls ?? []) {
            const had = message.toolCalls[c.index ?? 0];
            if (had) had.function.arguments += c.function.arguments;
            else message.toolCalls[c.index ?? 0] = { ...c, function: { ...c.function } };
          }
          s.finish = choice.finishReason ?? s.finish;
        }
        message.content = s.pieces.join('');
        if (!message.toolCalls.length) delete message.toolCalls;
      } else {
        const done = await client.chat[schema ? 'parse' : 'complete'](schema ? { ...body, responseFormat: Forecast } : body);
        ({ message, finishReason: s.finish } = done.choices[0]);
        s.reasoning = thoughts(message.content);
        ({ usage } = done);
      }
      this.messages.push(message);
      return { ...s, text: texts(message.content), object: message.parsed,
        calls: (message.toolCalls ?? []).map((c) => ({ id: c.id, name: c.function.name,
          given: typeof c.function.arguments === 'string' ? JSON.parse(c.function.arguments) : c.function.arguments })),
        usage: tokens(usage.promptTokens, usage.completionTokens, usage.totalTokens) };
    }
  };
}

// ---- Ollama ------------------------------------------------------------------------------------

async function ollama() {
  const { Ollama } = await load('ollama');
  const client = new Ollama({ host: want.url, headers: { Authorization: `Bearer ${want.key}` } });
  return class {
    static ends = { text: 'stop', tools: 'stop' };
    static failed = (e) => failure(e.name === 'ResponseError' ? { 400: 'bad request', 429: 'rate limit' }[e.status_code] : e.constructor.name, e);
    messages = [];
    constructor(model) { this.model = model; }
    user(text, image) { this.messages.push(compact({ role: 'user', content: text, images: image && [image] })); }
    results(list) { for (const { call, output } of list) this.messages.push({ role: 'tool', content: output, tool_name: call.name }); }
    async send({ stream, tools, schema, think }) {
      const body = compact({ model: this.model, messages: this.messages, stream, tools: tools && [{ type: 'function', function: TOOL }],
        format: schema && SCHEMA, think });
      const s = said();
      let message, end;
      if (stream) {
        message = { role: 'assistant', content: '', thinking: '', tool_calls: [] };
        for await (const part of await client.chat(body)) {
          if (part.message.content) s.pieces.push(part.message.content);
          message.content += part.message.content ?? '';
          message.thinking += part.message.thinking ?? '';
          message.tool_calls.push(...(part.message.tool_calls ?? []));
          if (part.done) end = part;
        }
      } else {
        end = await client.chat(body);
        ({ message } = end);
      }
      this.messages.push(message);
      return { ...s, text: message.content, reasoning: message.thinking ?? '', finish: end.done_reason, object: schema ? JSON.parse(message.content) : undefined,
        calls: (message.tool_calls ?? []).map((c) => ({ name: c.function.name, given: c.function.arguments })),
        usage: tokens(end.prompt_eval_count, end.eval_count) };
    }
  };
}

// ---- Vercel's AI SDK ------------------------------------------------------------------------------------

// `make` gives its model; `options` are those of the provider that switch reasoning on.
async function ai(make, options = {}, always = undefined) {
  const { APICallError, generateText, jsonSchema, Output, streamText, tool } = await load('ai');
  return class {
    static ends = { text: 'stop', tools: 'tool-calls' };
    static failed = (e) => failure(APICallError.isInstance(e) ? { 400: 'bad request', 429: 'rate limit' }[e.statusCode] : e.constructor.name, e,
      e.responseHeaders?.['retry-after']);
    messages = [];
    constructor(model) { this.model = make(model); }
    user(text, image) {
      this.messages.push({ role: 'user', content: image ? [{ type: 'text', text }, { type: 'image', image: Buffer.from(image, 'base64'), mediaType: 'image/png' }] : text });
    }
    results(list) {
      this.messages.push({ role: 'tool', content: list.map(({ call, output }) =>
        ({ type: 'tool-result', toolCallId: call.id, toolName: call.name, output: { type: 'text', value: output } })) });
    }
    async send({ stream, tools, schema, think }) {
      const body = compact({ model: this.model, messages: this.messages, maxRetries: 0,
        tools: tools && { [TOOL.name]: tool({ description: TOOL.description, inputSchema: jsonSchema(TOOL.parameters) }) },
        output: schema && Output.object({ schema: Forecast }), providerOptions: think ? Object.fromEntries(Object.entries(options).map(([k, v]) => [k, { ...always?.[k], ...v }])) : always });
      const s = said();
      let done;
      if (stream) {
        let broke;
        const run = streamText({ ...body, onError: ({ error }) => { broke = error; } });
        for await (const part of run.fullStream) {
          if (part.type === 'text-delta') s.pieces.push(part.text);
          if (part.type === 'reasoning-delta') s.reasoning += part.text;
        }
        if (broke) throw broke;
        done = Object.fromEntries(await Promise.all(['text', 'reasoningText', 'toolCalls', 'finishReason', 'usage', 'response', ...(schema ? ['output'] : [])]
          .map(async (name) => [name, await run[name]])));
        assert.equal(s.reasoning, done.reasoningText ?? '', 'reasoning, streamed and whole');
      } else {
        done = await generateText(body);
      }
      this.messages.push(...done.response.messages);
      return { ...s, text: done.text, reasoning: done.reasoningText ?? '', finish: done.finishReason, object: schema ? done.output : undefined,
        calls: done.toolCalls.map((c) => ({ id: c.toolCallId, name: c.toolName, given: c.input })),
        usage: tokens(done.usage.inputTokens, done.usage.outputTokens, done.usage.totalTokens) };
    }
  };
}

const settings = { baseURL: `${want.url}/v1`, apiKey: want.key };
const aiOpenAI = async () => (await load('@ai-sdk/openai')).createOpenAI(settings);
const forOpenAI = { openai: { forceReasoning: true, reasoningEffort: 'low', reasoningSummary: 'auto' } };
// Kept answers are named and not sent again, so they could only go back to the provider that keeps them.
const nothingKept = { openai: { store: false } };

const SDKS = {
  'openai chat': async () => (await openai()).Chat,
  'openai responses': async () => (await openai()).Responses,
  anthropic,
  'google-genai': google,
  'bedrock-runtime': bedrock,
  mistral,
  ollama,
  'ai openai': async () => ai(await aiOpenAI(), forOpenAI, nothingKept),
  'ai openai chat': async () => ai((await aiOpenAI()).chat, forOpenAI),
  'ai anthropic': async () => ai((await load('@ai-sdk/anthropic')).createAnthropic(settings), { anthropic: { thinking: { type: 'enabled', budgetTokens: THINKING } } }),
  'ai google': async () => ai((await load('@ai-sdk/google')).createGoogleGenerativeAI({ ...settings, baseURL: `${want.url}/v1beta` }),
    { google: { thinkingConfig: { includeThoughts: true, thinkingBudget: THINKING } } }),
  'ai openai-compatible': async () => ai((await load('@ai-sdk/openai-compatible')).createOpenAICompatible({ ...settings, name: 'perdure', includeUsage: true,
    supportsStructuredOutputs: true }), { perdure: { reasoningEffort: 'low' } }),
};

// ---- the scenarios ------------------------------------------------------------------------------------

const Adapter = await SDKS[want.sdk]();
const { texts } = want;

// What must hold of every turn.
function check(cell, s, { stream, text, ends }) {
  if (text !== undefined) assert.equal(s.text, text);
  if (stream && s.text) assert.equal(s.pieces.join(''), s.text, 'the pieces of the stream');
  assert.equal(s.finish, Adapter.ends[ends]);
  const { input, output, total } = s.usage;
  assert.ok(input > 0 && output > 0, `usage ${JSON.stringify(s.usage)}`);
  assert.equal(total, input + output, `usage ${JSON.stringify(s.usage)}`);
  cell.usages.push([input, output]);
  return s;
}

async function turn(cell, conversation, how, what) {
  return check(cell, await conversation.send(how), { stream: how.stream, ...what });
}

// Calls of the tool, their results, and what is said after these.
async function loop(cell, how, calls, final) {
  const c = new Adapter(cell.model);
  c.user('How is the weather?');
  const first = await turn(cell, c, { tools: true, ...how }, { text: texts.before, ends: 'tools' });
  assert.deepEqual(first.calls.map(({ name, given }) => ({ name, arguments: given })), calls);
  assert.equal(new Set(first.calls.map((x) => x.id ?? x)).size, calls.length, 'ids');
  c.results(first.calls.map((call) => ({ call, output: texts.results[call.given.place] })));
  const second = await turn(cell, c, { tools: true, ...how }, { text: final, ends: 'text' });
  assert.deepEqual(second.calls, []);
  return [first, second];
}

async function fails(cell, text, how, kind, message) {
  const c = new Adapter(cell.model);
  c.user(text);
  let e = null;
  try {
    await c.send(how);
  } catch (thrown) {
    e = Adapter.failed(thrown);
  }
  assert.ok(e, 'no error');
  assert.equal(e.kind, kind, e.message);
  assert.ok(e.message.includes(message), `the error says: ${e.message}`);
  if (e.after !== undefined) assert.ok(kind !== 'rate limit' || Number(e.after) > 0, `Retry-After is ${e.after}`);
}

const SCENARIOS = {
  async text(cell) {
    const c = new Adapter(cell.model);
    c.user('Say something.');
    await turn(cell, c, {}, { text: texts.text, ends: 'text' });
    c.user('And again.');
    await turn(cell, c, {}, { text: texts.text, ends: 'text' });
  },
  async stream(cell) {
    const c = new Adapter(cell.model);
    c.user('Say something.');
    const s = await turn(cell, c, { stream: true }, { text: texts.text, ends: 'text' });
    assert.ok(s.pieces.length > 3, `${s.pieces.length} pieces`);
  },
  async tools(cell) {
    for (const stream of [false, true]) await loop(cell, { stream }, texts.calls.slice(0, 1), texts.final);
  },
  async parallel(cell) {
    for (const stream of [false, true]) await loop(cell, { stream }, texts.calls, texts.final);
  },
  async image(cell) {
    for (const stream of [false, true]) {
      const c = new Adapter(cell.model);
      c.user('What is this?', texts.image);
      await turn(cell, c, { stream }, { text: texts.image_seen[cell.upstream], ends: 'text' });
    }
  },
  async structured(cell) {
    const c = new Adapter(cell.model);
    c.user('The forecast, please.');
    const { object } = await turn(cell, c, { schema: true }, { ends: 'text' });
    assert.deepEqual(Forecast.strict().parse(object), object);
  },
  async reasoning(cell) {
    for (const stream of [false, true]) {
      const [first, second] = await loop(cell, { stream, think: true }, texts.calls.slice(0, 1), texts.final);
      for (const [got, thought] of [[first.reasoning, texts.thought], [second.reasoning, texts.second_thought]]) {
        if (!got) cell.lacks = true;
        else assert.equal(got, thought);
      }
    }
  },
  async error(cell) {
    await fails(cell, 'bad request', {}, 'bad request', texts.bad_request);
    await fails(cell, 'bad request', { stream: true }, 'bad request', texts.bad_request);
    await fails(cell, 'rate limit', {}, 'rate limit', texts.rate_limit);
  },
};

for (const [upstream, scenario] of want.cells) {
  const cell = { upstream, scenario, model: `${upstream}-${scenario}`, usages: [], lacks: false, why: null };
  const began = performance.now();
  try {
    await SCENARIOS[scenario](cell);
  } catch (e) {
    cell.why = `${e?.constructor?.name}: ${e?.message ?? e}`.slice(0, 1500);
    if (process.env.MATRIX_TRACE) cell.why += `\n${e?.stack}`;
  }
  cell.ms = Math.round(performance.now() - began);
  console.log(JSON.stringify(cell));
}
Adapter.done?.();
