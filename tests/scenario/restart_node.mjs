// Clients as their users write them: the official Node SDKs, and a loop around the call that asks the same again when it fails. Started by
// tests/scenario/restart_sdk; reads a line of JSON for each story ({url, again, retries, clients}) and prints one for each answer.
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const require = createRequire(process.argv[2] + '/'); // the packages are in the build folder
const load = async (name) => import(pathToFileURL(require.resolve(name)));
const { default: OpenAI } = await load('openai');
const { default: Anthropic } = await load('@anthropic-ai/sdk');
const { GoogleGenAI } = await load('@google/genai');
const MAX_TOKENS = 4096;

const SDKS = {
  chat: {
    make: (o) => new OpenAI({ baseURL: `${o.url}/v1`, apiKey: 'any', maxRetries: o.retries }),
    async ask(client, c) {
      const body = { model: c.model, messages: [{ role: 'user', content: c.text }] };
      if (!c.stream) return (await client.chat.completions.create(body)).choices[0].message.content;
      let text = '', finish = null;
      for await (const chunk of await client.chat.completions.create({ ...body, stream: true })) {
        text += chunk.choices[0]?.delta?.content ?? '';
        finish = chunk.choices[0]?.finish_reason ?? finish;
      }
      if (finish !== 'stop') throw new Error(`the stream ended with ${finish}`);
      return text;
    },
  },
  responses: {
    make: (o) => new OpenAI({ baseURL: `${o.url}/v1`, apiKey: 'any', maxRetries: o.retries }),
    async ask(client, c) {
      const body = { model: c.model, input: c.text, store: false };
      if (!c.stream) return (await client.responses.create(body)).output_text;
      let text = '', done = null;
      for await (const event of await client.responses.create({ ...body, stream: true })) {
        if (event.type === 'response.output_text.delta') text += event.delta;
        if (event.type === 'response.completed') done = event.response;
        if (event.type === 'error' || event.type === 'response.failed') throw new Error(JSON.stringify(event));
      }
      if (!done) throw new Error('the stream ended early');
      const whole = done.output.filter((i) => i.type === 'message').flatMap((i) => i.content).map((p) => p.text).join('');
      if (whole !== text) throw Object.assign(new Error('the end tells another text than the deltas'), { fatal: true });
      return text;
    },
  },
  messages: {
    make: (o) => new Anthropic({ baseURL: o.url, apiKey: 'any', maxRetries: o.retries }),
    async ask(client, c) {
      const body = { model: c.model, max_tokens: MAX_TOKENS, messages: [{ role: 'user', content: c.text }] };
      const done = c.stream ? await client.messages.stream(body).finalMessage() : await client.messages.create(body);
      if (done.stop_reason !== 'end_turn') throw new Error(`the answer ended with ${done.stop_reason}`);
      return done.content.map((b) => b.text).join('');
    },
  },
  gemini: {
    make: (o) => new GoogleGenAI({ apiKey: 'any', httpOptions: { baseUrl: o.url } }),
    async ask(client, c) {
      const body = { model: c.model, contents: c.text };
      if (!c.stream) return (await client.models.generateContent(body)).text;
      let text = '', finish = null;
      for await (const chunk of await client.models.generateContentStream(body)) {
        text += chunk.text ?? '';
        finish = chunk.candidates?.[0]?.finishReason ?? finish;
      }
      if (finish !== 'STOP') throw new Error(`the stream ended with ${finish}`);
      return text;
    },
  },
};

const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const say = (line) => process.stdout.write(JSON.stringify(line) + '\n');

async function answer(story, client, c, round) {
  const errors = [], asked = { ...c, text: c.rounds > 1 ? `${c.text} Again, the ${round}th time.` : c.text };
  for (let tries = 1; ; tries++) {
    try {
      return say({ id: c.id, round, errors, text: await SDKS[c.sdk].ask(client, asked) });
    } catch (e) {
      errors.push(`${e.constructor.name}: ${e.message}`.slice(0, 200));
      if (tries >= story.again || e.fatal) return say({ id: c.id, round, errors, text: null });
      await pause(Math.min(50 * tries, 500));
    }
  }
}

async function run(story) {
  const made = {};
  for (const c of story.clients) made[c.sdk] ??= SDKS[c.sdk].make(story);
  await Promise.all(story.clients.map(async (c) => {
    for (let round = 1; round <= c.rounds; round++) await answer(story, made[c.sdk], c, round);
  }));
  say({ end: true });
}

say({ ready: true });
for await (const line of createInterface({ input: process.stdin })) await run(JSON.parse(line));
