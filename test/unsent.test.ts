/** Requests that never left are told as such, and a queue that only fails is seen in the log. */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { type Failing, failures } from '../src/effects/failing.ts';
import { africasTalking } from '../src/providers/africastalking.ts';
import { exchange } from '../src/providers/call.ts';
import { ProviderError } from '../src/providers/provider.ts';

const TIMEOUT_MS = 400;

/** A server of bytes on a port of its own, which handles each connection as it is told. */
async function serving(t: Test, handle: (socket: Socket) => void): Promise<number> {
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    handle(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

async function codeOf(url: string, headers: Record<string, string> = {}, timeoutMs = TIMEOUT_MS) {
  try {
    await exchange({ url, headers, fields: { a: 'b' }, timeoutMs });
    return 'done';
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error;
    return `${error.code}${error.retryable ? '' : ' for good'}`;
  }
}

t.test('what never left is unreachable', async (t) => {
  for (const port of [1, 22, 4190, 6000, 6666, 10_080])
    t.equal(await codeOf(`http://127.0.0.1:${port}/`), 'unreachable', `port ${port}`);
  t.equal(await codeOf('http://nowhere.invalid/', {}, 10_000), 'unreachable', 'no such host');
  t.equal(await codeOf('gopher://127.0.0.1/'), 'unreachable', 'another scheme');
  t.equal(await codeOf('http://a b/'), 'unreachable', 'no URL');
  t.equal(await codeOf('http://user:hush@127.0.0.1:8080/'), 'unreachable', 'a URL with a user');
  t.equal(await codeOf('http://127.0.0.1:8080/', { key: 'ሰ' }), 'unreachable', 'a header that cannot be');
  const closed = await serving(t, (socket) => socket.destroy());
  const silent = await serving(t, () => {});
  const plain = await serving(t, (socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
  t.equal(await codeOf(`https://127.0.0.1:${closed}/`), 'unreachable', 'a connection that ends before TLS');
  t.equal(await codeOf(`https://127.0.0.1:${silent}/`), 'unreachable', 'TLS that hangs');
  t.equal(await codeOf(`https://127.0.0.1:${plain}/`), 'unreachable', 'TLS that is none');
});

t.test('what may have been done is not', async (t) => {
  const heard = (say: (socket: Socket) => void) =>
    serving(t, (socket) => void socket.once('data', () => say(socket)));
  const cases: [code: string, say: (socket: Socket) => void][] = [
    ['dropped', (socket) => socket.destroy()],
    ['dropped', (socket) => socket.resetAndDestroy()],
    ['dropped', (socket) => socket.end('not HTTP\r\n\r\n')],
    ['timeout', () => {}],
    ['truncated', (socket) => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}')],
    ['malformed', (socket) => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{')],
    ['done', (socket) => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}')],
  ];
  for (const [code, say] of cases) t.equal(await codeOf(`http://127.0.0.1:${await heard(say)}/`), code);
  // A connection that is used again: each request is judged by itself.
  let requests = 0;
  const kept = await serving(t, (socket) =>
    socket.on('data', () => {
      requests += 1;
      if (requests === 3) socket.destroy();
      else socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}');
    }),
  );
  const codes: string[] = [];
  for (let request = 1; request <= 4; request += 1) codes.push(await codeOf(`http://127.0.0.1:${kept}/`));
  t.same(codes, ['done', 'done', 'dropped', 'done']);
});

t.test('messages and airtime', async (t) => {
  const there = await serving(t, (socket) => void socket.once('data', () => socket.destroy()));
  const account = { username: 'u', apiKey: 'atsk_hush_hush', timeoutMs: TIMEOUT_MS };
  const good = `http://127.0.0.1:${there}`;
  const { sms, airtime } = africasTalking({ ...account, baseUrl: 'http://127.0.0.1:4190', contentUrl: good });
  const batch = { key: 'key', text: 'Hello', to: ['+254711000111'] };
  await t.rejects(sms.send(batch), { code: 'unreachable', retryable: true });
  await t.rejects(sms.send({ ...batch, twoWay: {} }), { code: 'dropped', retryable: true });
  const order = { key: 'key', to: '+254711000111', currency: 'KES', amountMinor: 5000n };
  await t.rejects(airtime.send(order), { code: 'unreachable', retryable: true });
});

t.test('failures are told once a minute by kind and code', (t) => {
  let now = 0;
  const told: Failing[] = [];
  const note = failures(
    (failing) => told.push(failing),
    () => now,
  );
  note('sms', ['unreachable', 'unreachable', 'http_503']);
  t.same(told.splice(0), [
    { kind: 'sms', code: 'unreachable', failed: 1 },
    { kind: 'sms', code: 'http_503', failed: 1 },
  ]);
  for (now = 1_000; now < 60_000; now += 1_000) note('sms', ['unreachable']);
  t.same(told.splice(0), []);
  note('airtime', ['unreachable']);
  t.same(told.splice(0), [{ kind: 'airtime', code: 'unreachable', failed: 1 }], 'another kind');
  now = 60_000;
  note('sms', ['unreachable', 'unreachable']);
  t.same(told.splice(0), [{ kind: 'sms', code: 'unreachable', failed: 61 }], 'with those in between');
  note('sms', []);
  now = 120_000;
  note('sms', ['unreachable']);
  t.same(told.splice(0), [{ kind: 'sms', code: 'unreachable', failed: 2 }]);
  t.end();
});
