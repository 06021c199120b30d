// A client that speaks HTTP/2 by prior knowledge, as the AWS SDK for JavaScript does: node's own http2. Started by test_h2c.py with its
// story as JSON; says a line of JSON for each thing seen, and waits for a line where a story needs one.
import http2 from 'node:http2';
import readline from 'node:readline';

const want = JSON.parse(process.argv[2]);
const say = (what) => console.log(JSON.stringify(what));
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const told = () => lines.next();

let connections = 0;
const session = http2.connect(`http://127.0.0.1:${want.port}`);
session.on('connect', () => { connections += 1; });
session.once('goaway', (code) => { if (want.story === 'drain') say({ goaway: code }); });
session.on('error', (e) => { console.error(e); process.exitCode = 1; });

function ask(text = 'hello') {
  const stream = session.request({ ':method': 'POST', ':path': '/v1/chat/completions', 'content-type': 'application/json' });
  stream.setEncoding('utf8');
  stream.text = '';
  stream.end(JSON.stringify({ model: 'main', stream: true, messages: [{ role: 'user', content: text }] }));
  return stream;
}
const begun = (stream) => new Promise((resolve) => stream.once('data', (piece) => { stream.text += piece; resolve(); }));
const whole = (stream) => new Promise((resolve, reject) => {
  stream.on('data', (piece) => { stream.text += piece; });
  stream.on('error', reject);
  stream.on('close', () => resolve(stream.rstCode === 0 && stream.text.trimEnd().endsWith('data: [DONE]')));
});

const stories = {
  async many() {
    const all = await Promise.all(Array.from({ length: want.count }, () => whole(ask())));
    say({ whole: all.filter(Boolean).length, connections });
  },
  async leave() {
    const leaves = ask(), stays = ask();
    const rest = whole(stays);
    await Promise.all([begun(leaves), begun(stays)]);
    say({ both: 'begun' });
    await told();
    leaves.on('error', () => {});
    leaves.close(http2.constants.NGHTTP2_CANCEL);
    say({ other: await rest ? 'whole' : 'cut' });
  },
  async drain() {
    const stream = ask();
    const rest = whole(stream);
    await begun(stream);
    say({ stream: 'begun' });
    say({ stream: await rest ? 'whole' : 'cut' });
  },
  async slow() {
    const stream = ask();
    await begun(stream);
    stream.pause();
    say({ stream: 'begun' });
    await told();
    const rest = whole(stream);
    stream.resume();
    say({ stream: await rest ? 'whole' : 'cut' });
  },
};

await stories[want.story]();
session.close();
lines.return?.();
process.stdin.destroy();
