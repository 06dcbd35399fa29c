/** JSON bodies: a key that stands twice is invalid, `null` is absent, and the log names what is out of rule (decision 39). */
import { fastify } from 'fastify';
import t from 'tap';
import { readStrictly } from '../src/wire.ts';
import { ask } from './support/ask.ts';
import { DEFAULTS, type Gateway, startGateway } from './support/gateway.ts';
import { database } from './support/postgres.ts';

const JSON_TYPE = { 'content-type': 'application/json' };

t.test('what is read of a JSON body', async (t) => {
  const app = fastify();
  await readStrictly(app);
  app.post('/', async ({ body }) => ({ read: body ?? 'nothing' }));
  app.setErrorHandler((error: Error & { code?: string; keys?: string[] }, _request, reply) =>
    reply.code(400).send({ code: error.code, keys: error.keys }),
  );
  const read = async (payload: string) =>
    (await app.inject({ method: 'POST', url: '/', headers: JSON_TYPE, payload })).json();

  for (const [body, keys] of [
    ['{"a":1,"a":1}', ['a']],
    ['{"a":1,"b":2,"a":3}', ['a']],
    ['{ "te\\u0078t" : "1" , "text" : "2" }', ['text']],
    ['{"\\u0061":1,"a":2}', ['a']],
    ['{"":1,"":2}', ['']],
    ['{"a":null,"a":1}', ['a']],
    ['{"a":null,"a":null}', ['a']],
    ['{"x":{"a":1,"a":2}}', ['x']],
    ['{"x":[{"a":1},{"a":1,"a":2}]}', ['x']],
    ['{"x":[[{"y":{"a":1,\n"a"\t:2}}]],"z":1}', ['x']],
    ['{"a\\"b":1,"a\\"b":2}', ['a"b']],
    ['{"a\\\\":1,"a\\\\":2}', ['a\\']],
    ['{"a":1,"a":2,"b":1,"b":2}', ['a', 'b']],
    ['{"__proto__":1,"a":1,"a":2}', ['a']],
    ['[{"a":1,"a":2}]', ['']],
  ] as const)
    t.same(await read(body), { code: 'key_twice', keys }, body);

  for (const [body, value] of [
    ['{}', {}],
    ['[]', []],
    ['"a"', 'a'],
    ['{"a":"a:","b":"\\"a\\":"}', { a: 'a:', b: '"a":' }],
    ['{"a":"{\\"a\\":1,\\"a\\":2}"}', { a: '{"a":1,"a":2}' }],
    ['{"a":{"a":{"a":1}}}', { a: { a: { a: 1 } } }],
    ['[{"a":1},{"a":2}]', [{ a: 1 }, { a: 2 }]],
    ['{"a":"\\\\","b":":"}', { a: '\\', b: ':' }],
    ['{"A":1,"a":2}', { A: 1, a: 2 }],
    ['{"a":null,"b":0,"c":{"d":null}}', { b: 0, c: {} }],
    ['{"a":[null,1]}', { a: [null, 1] }],
    ['{"__proto__":{"x":1},"a":1}', { a: 1 }],
    ['{"constructor":{"prototype":{"x":1}},"a":1}', { a: 1 }],
    ['\uFEFF{"a":1}', { a: 1 }],
  ] as const)
    t.same(await read(body), { read: value }, body);

  const deep = `${'['.repeat(4_000)}${']'.repeat(4_000)}`;
  t.equal(
    (await app.inject({ method: 'POST', url: '/', headers: JSON_TYPE, payload: deep })).statusCode,
    200,
  );
  t.match(await read('{"a":1,"a"'), { code: /./ }, 'what is not JSON is not searched');
});

t.test('routes', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const gateway = await startGateway(t, { DATABASE_URL, TELERIVET_SECRET: 'a-secret-of-telerivet' });
  let number = 0;
  /** What a body is answered, and what the log says of it. */
  const say = async (path: string, body: string | object, headers: Record<string, string> = JSON_TYPE) => {
    number += 1;
    const before = lines(gateway).length;
    const sent = typeof body === 'string' ? body : JSON.stringify(body);
    const told = await ask(gateway.url + path, { method: 'POST', headers, body: sent });
    for (let tries = 0; lines(gateway).length === before && tries < 400; tries += 1)
      await new Promise((resolve) => setTimeout(resolve, 5));
    const line: Partial<Line> = lines(gateway)[before] ?? {};
    return { status: told.status, body: told.body.toString(), fault: line.fault, outcome: line.outcome };
  };
  const turn = (more: object) => JSON.stringify({ ...DEFAULTS, sessionId: `bodies-${number}`, ...more });

  const twice = turn({}).replace('"text":""', '"text":"1","te\\u0078t":""');
  for (const path of ['/api/ussd', '/ussd/session']) {
    t.match(await say(path, twice), { status: 200, body: /^END Invalid input/, fault: ['text'] }, path);
    t.match(await say(path, turn({ phoneNumber: '260971234567' })), { fault: ['phoneNumber'] });
    t.match(await say(path, turn({ phoneNumber: 1, serviceCode: '1' })), {
      fault: ['serviceCode', 'phoneNumber'],
    });
    t.match(await say(path, turn({ sessionId: null })), { outcome: 'invalid', fault: ['sessionId'] });
    t.match(await say(path, '{'), { outcome: 'invalid', fault: ['body'] });
    t.match(await say(path, '[]'), { outcome: 'invalid', fault: ['body'] });
    t.match(await say(path, 'text=1', {}), { outcome: 'invalid', fault: ['body'] });
    t.match(await say(path, 'x'.repeat(70_000)), { outcome: 'invalid', fault: ['body'] });
    t.match(await say(path, `{"48213":1,"48213":2}`), { outcome: 'invalid', fault: ['body'] });
    t.match(await say(path, turn({ networkCode: null, requestId: null, other: null })), {
      outcome: 'ok',
      body: /^CON Welcome/,
      fault: undefined,
    });
  }
  t.match(await say('/api/ussd', turn({ text: null })), { outcome: 'invalid', fault: ['text'] });
  t.match(await say('/ussd/session', turn({ text: null })), { outcome: 'ok', body: /^CON Welcome/ });
  const own = { ...DEFAULTS, sessionId: 'bound' };
  await say('/api/ussd', own);
  t.match(await say('/api/ussd', { ...own, phoneNumber: '+260971234568' }), { fault: ['phoneNumber'] });
  t.match(await say('/api/ussd', { ...own, serviceCode: '*144#' }), { fault: ['serviceCode'] });
  const form = { 'content-type': 'application/x-www-form-urlencoded' };
  const fields = `${new URLSearchParams({ ...DEFAULTS, sessionId: 'form' })}`;
  t.match(await say('/api/ussd', `${fields}&text=1`, form), { outcome: 'invalid', fault: ['text'] });

  const message = {
    id: 'm1',
    from: '+254711000111',
    to: '12345',
    text: 'Hello',
    date: '2026-03-04 10:30:00',
  };
  t.match(await say('/sms/twoway', { ...message, linkId: null }), { status: 200, outcome: 'stored' });
  t.match(await say('/sms/twoway', { ...message, from: [4] }), { outcome: 'rubbish', fault: ['from'] });
  t.match(await say('/sms/opt-out', { phoneNumber: 'Ann' }), {
    outcome: 'rubbish',
    fault: ['phoneNumber'],
  });
  t.match(await say('/ussd/status', '{"date":"x"}'), { outcome: 'rubbish', fault: /date/ });
  t.match(await say('/airtime/status', '{"status":"Success","status":"Failed"}'), {
    outcome: 'rubbish',
    fault: ['status'],
  });
  const asked = { phoneNumber: '+254711000111', currencyCode: null, currency: 'KES', amount: '50.00' };
  t.match(await say('/airtime/validation', asked), { outcome: 'unmatched', fault: undefined });
  t.match(await say('/airtime/validation', { ...asked, amount: null }), {
    outcome: 'rubbish',
    fault: ['amount'],
  });
  const help = { secret: 'a-secret-of-telerivet', from_number: 'Ann', to_number: '*555#' };
  t.match(await say('/telerivet/ussd-listener', help), { outcome: 'rubbish', fault: /from_number/ });

  const opened = await say('/v1/ussd/session', { customerId: 'c1', serviceCode: null, phoneNumber: null });
  t.match(opened, { status: 201, outcome: 'ok' });
  const { sessionId } = (JSON.parse(opened.body) as { data: { sessionId: string } }).data;
  t.match(await say('/v1/ussd/process', { sessionId, choice: '1', requestId: null }), { status: 200 });
  t.match(await say('/v1/ussd/process', { sessionId, choice: null }), { status: 400, fault: ['choice'] });
  t.match(await say('/v1/ussd/process', `{"sessionId":"${sessionId}","choice":"1","choice":"2"}`), {
    status: 400,
    body: /A key stands twice/,
    fault: ['choice'],
  });
  t.match(await say('/v1/ussd/session', { customerId: 'c1', serviceCode: '*1234#' }), {
    status: 400,
    fault: ['phoneNumber'],
  });
  t.notMatch(
    gateway.output(),
    /48213|260971234567|"Ann"/,
    'no value, and no key of somebody else, is in the log',
  );
});

type Line = { msg: string; outcome?: string; fault?: string[] };

/** The lines of turns and callbacks. */
function lines(gateway: Gateway): Line[] {
  return gateway
    .output()
    .split('\n')
    .filter((line) => /"msg":"(turn|callback)"/.test(line))
    .map((line) => JSON.parse(line) as Line);
}
