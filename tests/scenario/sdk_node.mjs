// The official Node SDK through perdure: one condition of the first provider, every kind of call. Started by tests/scenario/sdk.
// Reads what it needs as JSON from its first argument; prints a line for each promise and a last line of JSON for the caller.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const want = JSON.parse(process.argv[2]);
// The packages are not beside this file but in the build folder.
const require = createRequire(want.packages + '/');
const load = async (name) => import(pathToFileURL(require.resolve(name)));
const { default: OpenAI } = await load('openai');
const { zodResponseFormat } = await load('openai/helpers/zod');
const { z } = await load('zod');
const { VERSION } = await load('openai/version');

const client = new OpenAI({ baseURL: want.base_url, apiKey: want.key, maxRetries: 0, timeout: 30000 });
const direct = new OpenAI({ baseURL: want.direct, apiKey: 'test-key', maxRetries: 0 });
const messages = [{ role: 'user', content: 'Say something, please.' }];
const tools = [
  { type: 'function', function: { name: 'get_weather', description: 'The weather of a place', parameters: {
    type: 'object', properties: { place: { type: 'string' }, days: { type: 'integer' } }, required: ['place', 'days'] } } },
  { type: 'function', function: { name: 'get_time', parameters: {
    type: 'object', properties: { zone: { type: 'string' } }, required: ['zone'] } } },
];
const Forecast = z.object({ place: z.string(), degrees: z.number(), rain: z.boolean(), days: z.array(z.string()) });
let met = 0; // calls that must have met the fault of the first provider

// The right provider answered, and not at the first attempt when the first one is at fault.
function served(response) {
  met++;
  const head = (name) => response.headers.get(name);
  assert.equal(head('x-perdure-provider'), want.provider);
  assert.equal(Number(head('x-perdure-attempts')) === 1, want.provider === 'first', `${head('x-perdure-attempts')} attempts`);
  assert.ok(head('x-perdure-model'));
  assert.ok(head('x-request-id'));
  assert.match(head('server-timing'), /perdure;dur=/);
}

function argumentsFit(call) {
  const given = JSON.parse(call.function.arguments);
  if (call.function.name === 'get_weather') {
    assert.equal(typeof given.place, 'string');
    assert.ok(Number.isInteger(given.days));
  } else {
    assert.equal(call.function.name, 'get_time');
    assert.equal(typeof given.zone, 'string');
  }
}

async function fails(kind, call, { status, says, code } = {}) {
  try {
    await call();
  } catch (e) {
    assert.ok(e instanceof kind, `${e?.constructor?.name} in place of ${kind.name}: ${e}`);
    if (status) assert.equal(e.status, status);
    if (says) assert.ok(e.message.includes(says), e.message);
    if (code) assert.equal(e.code, code);
    return e;
  }
  throw new Error(`no ${kind.name}`);
}

const ask = (model, content, more = {}) => () => client.chat.completions.create({ model, messages: [{ role: 'user', content }], ...more });

const stories = {
  async chat() {
    const { data, response, request_id } = await client.chat.completions.create({ model: 'chat', messages }).withResponse();
    served(response);
    assert.equal(data.choices[0].message.content, want.text);
    assert.equal(data.choices[0].finish_reason, 'stop');
    assert.equal(data.usage.total_tokens, data.usage.prompt_tokens + data.usage.completion_tokens);
    assert.equal(data._request_id, response.headers.get('x-request-id'));
    assert.equal(request_id, data._request_id);
  },
  async stream() {
    const { data, response } = await client.chat.completions.create({ model: 'stream', messages, stream: true }).withResponse();
    served(response);
    let text = '', finish = null, pieces = 0;
    const ids = new Set();
    for await (const chunk of data) {
      ids.add(chunk.id);
      assert.ok(!chunk.usage, 'usage that nobody asked for');
      for (const choice of chunk.choices) {
        text += choice.delta.content ?? '';
        pieces += choice.delta.content ? 1 : 0;
        finish = choice.finish_reason ?? finish;
      }
    }
    assert.equal(text, want.text);
    assert.equal(finish, 'stop');
    assert.equal(ids.size, 1);
    assert.ok(pieces > 1);
  },
  async stream_with_usage() {
    const { data, response } = await client.chat.completions.create({ model: 'stream_with_usage', messages, stream: true,
      stream_options: { include_usage: true } }).withResponse();
    served(response);
    const chunks = [];
    for await (const chunk of data) chunks.push(chunk);
    assert.equal(chunks.map((c) => c.choices[0]?.delta.content ?? '').join(''), want.text);
    assert.equal(chunks.filter((c) => c.usage).length, 1);
    const { usage } = chunks.at(-1);
    assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
  },
  async stream_helper() {
    met++;
    let text = '';
    const runner = client.chat.completions.stream({ model: 'stream_helper', messages }).on('content', (delta) => { text += delta; });
    const done = await runner.finalChatCompletion();
    assert.equal(text, want.text);
    assert.equal(done.choices[0].message.content, want.text);
  },
  async whole_equals_streamed() {
    met += 2;
    const long = { model: 'whole_equals_streamed', messages: [{ role: 'user', content: '[[sim tokens=400]] A long story.' }] };
    const whole = (await client.chat.completions.create(long)).choices[0].message.content;
    let streamed = '';
    for await (const chunk of await client.chat.completions.create({ ...long, stream: true })) streamed += chunk.choices[0]?.delta.content ?? '';
    const itself = (await direct.chat.completions.create({ ...long, model: 'any' })).choices[0].message.content;
    assert.ok(whole.length > 1500);
    assert.equal(streamed, whole);
    assert.equal(itself, whole);
  },
  async image() {
    const { data, response } = await client.chat.completions.create({ model: 'image', messages: [{ role: 'user', content: [
      { type: 'text', text: 'What is this?' },
      { type: 'image_url', image_url: { url: 'data:image/png;base64,' + 'iVBORw0KGgo'.repeat(2000), detail: 'low' } }] }] }).withResponse();
    served(response);
    assert.equal(data.choices[0].message.content, want.text);
  },
  async reasoning() {
    const { data, response } = await client.chat.completions.create({ model: 'reasoning', messages, stream: true }).withResponse();
    served(response);
    let thought = '', text = '';
    for await (const { choices: [{ delta }] } of data) {
      thought += delta.reasoning_content ?? delta.reasoning ?? '';
      text += delta.content ?? '';
    }
    assert.ok(thought.split(' ').length >= 5, thought);
    assert.equal(text, want.text);
  },
  async tools() {
    const { data, response } = await client.chat.completions.create({ model: 'tools', messages, tools: tools.slice(0, 1) }).withResponse();
    served(response);
    assert.equal(data.choices[0].finish_reason, 'tool_calls');
    assert.equal(data.choices[0].message.tool_calls.length, 1);
    argumentsFit(data.choices[0].message.tool_calls[0]);
  },
  async tools_streamed() {
    met++;
    const done = await client.chat.completions.stream({ model: 'tools_streamed', messages, tools: tools.slice(0, 1) }).finalChatCompletion();
    assert.equal(done.choices[0].finish_reason, 'tool_calls');
    argumentsFit(done.choices[0].message.tool_calls[0]);
  },
  async tools_parallel() {
    const { data, response } = await client.chat.completions.create({ model: 'tools_parallel', messages, tools, parallel_tool_calls: true }).withResponse();
    served(response);
    const calls = data.choices[0].message.tool_calls;
    assert.deepEqual(calls.map((c) => c.function.name), ['get_weather', 'get_time']);
    assert.notEqual(calls[0].id, calls[1].id);
    calls.forEach(argumentsFit);
  },
  async tools_parallel_streamed() {
    met++;
    const done = await client.chat.completions.stream({ model: 'tools_parallel_streamed', messages, tools, parallel_tool_calls: true }).finalChatCompletion();
    const calls = done.choices[0].message.tool_calls;
    assert.deepEqual(calls.map((c) => c.function.name), ['get_weather', 'get_time']);
    calls.forEach(argumentsFit);
  },
  // The SDK's own loop: it calls the function, sends the result, and returns the final answer.
  async tool_loop() {
    met++;
    let asked;
    const runner = client.chat.completions.runTools({ model: 'tool_loop', messages, tools: [{ type: 'function', function: {
      ...tools[0].function, parse: JSON.parse, function: (given) => { asked = given; return 'sunny, 21 degrees'; } } }] });
    const text = await runner.finalContent();
    assert.equal(typeof asked.place, 'string');
    assert.ok(text.includes('sunny, 21 degrees'), text);
  },
  async structured() {
    met++;
    const done = await client.chat.completions.parse({ model: 'structured', messages, response_format: zodResponseFormat(Forecast, 'forecast') });
    Forecast.parse(done.choices[0].message.parsed);
  },
  async structured_streamed() {
    met++;
    const done = await client.chat.completions.stream({ model: 'structured_streamed', messages,
      response_format: zodResponseFormat(Forecast, 'forecast') }).finalChatCompletion();
    Forecast.parse(done.choices[0].message.parsed);
  },
  // The SDK asks for base64 by itself and decodes it; floats are the same numbers.
  async embeddings() {
    const input = ['one text', 'another'];
    const { data, response } = await client.embeddings.create({ model: 'embeddings', input }).withResponse();
    served(response);
    const plain = await direct.embeddings.create({ model: 'any', input, encoding_format: 'float' });
    assert.deepEqual(data.data.map((e) => e.embedding.length), [256, 256]);
    data.data.forEach((e, i) => e.embedding.forEach((x, k) => assert.ok(Math.abs(x - plain.data[i].embedding[k]) < 1e-5)));
  },
  async embeddings_float() {
    const { data, response } = await client.embeddings.create({ model: 'embeddings_float', input: 'one text', encoding_format: 'float' }).withResponse();
    served(response);
    assert.equal(data.data[0].embedding.length, 256);
  },
  async models() {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    for (const id of ['chat', 'first/chat', 'second/chat']) assert.ok(ids.includes(id), id);
    assert.equal((await client.models.retrieve('chat')).id, 'chat');
    assert.equal((await client.models.retrieve('second/chat')).id, 'second/chat');
    await fails(OpenAI.NotFoundError, () => client.models.retrieve('nobody-has-this'), { status: 404 });
  },
  async error_unknown_model() {
    await fails(OpenAI.NotFoundError, ask('nobody-has-this', 'hello'), { status: 404, says: 'nobody-has-this', code: 'model_not_found' });
    await fails(OpenAI.NotFoundError, ask('nobody-has-this', 'hello', { stream: true }), { status: 404 });
  },
  async error_bad_request() {
    const text = '[[sim fault=status status=400 message="temperature is 9: it must be in 0 to 2" code=out_of_range times=0]]';
    for (const [model, more] of [['error_bad_request', {}], ['error_bad_request_streamed', { stream: true }]]) {
      const e = await fails(OpenAI.BadRequestError, ask(model, text, more),
        { status: 400, says: 'temperature is 9: it must be in 0 to 2', code: 'out_of_range' });
      assert.ok(e.requestID, 'an error without a request id');
      assert.equal(e.type, 'invalid_request_error');
    }
  },
  async error_content_filter() {
    await fails(OpenAI.BadRequestError, ask('error_content_filter', '[[sim fault=status like=content_filter times=0]]'), { status: 400, code: 'content_filter' });
  },
  async error_rate_limit() {
    const e = await fails(OpenAI.RateLimitError, ask('error_rate_limit', '[[sim fault=status like=rate_limit times=0]]'), { status: 429, code: 'rate_limit_exceeded' });
    assert.ok(Number(e.headers.get('retry-after')) >= 1, 'a 429 always says when to come again');
  },
  async error_all_down() {
    await fails(OpenAI.InternalServerError, ask('error_all_down', '[[sim fault=status status=500 times=0]]'));
  },
  async error_wrong_key() {
    const stranger = new OpenAI({ baseURL: want.base_url, apiKey: 'not-the-key', maxRetries: 0 });
    await fails(OpenAI.AuthenticationError, () => stranger.chat.completions.create({ model: 'chat', messages }), { status: 401, code: 'invalid_api_key' });
    await fails(OpenAI.AuthenticationError, () => stranger.models.list(), { status: 401 });
  },
  // What was shown cannot be taken back; the SDK sees an error and no end.
  async error_after_output() {
    let text = '';
    try {
      for await (const chunk of await ask('error_after_output', '[[sim tokens=30 fault=cut after=8 times=0]]', { stream: true })()) {
        text += chunk.choices[0]?.delta.content ?? '';
        assert.ok(!chunk.choices[0]?.finish_reason, 'a cut stream ended as if it were whole');
      }
    } catch (e) {
      assert.ok(e instanceof OpenAI.APIError, String(e));
      assert.match(e.message, /broke off/);
      assert.ok(text, 'nothing had been shown: another provider should have answered');
      return;
    }
    throw new Error(`a cut stream ended without an error: ${text}`);
  },
};

const results = [];
for (const [name, story] of Object.entries(stories)) {
  try {
    await story();
    results.push([name, true]);
  } catch (e) {
    results.push([name, false]);
    console.log(`FAIL  ${name}\n${e?.stack ?? e}`);
  }
}
console.log(JSON.stringify({ sdk: `openai ${VERSION} (Node ${process.versions.node})`, met, results }));
