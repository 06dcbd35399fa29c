import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { inspect } from 'node:util';
import t, { type Test } from 'tap';
import { isSigned, signatureOf } from '../src/gateways/twilio-signature.ts';
import { ProviderError } from '../src/providers/provider.ts';
import type { TaskAttributes, TaskRouter } from '../src/providers/task-router.ts';
import { twilioTaskRouter } from '../src/providers/twilio.ts';
import { type FakeTwilio, fakeTwilio, type Status } from './support/fake-twilio.ts';
import type { Exactly } from './support/far-side.ts';
import fc from './support/property.ts';
import { scaled } from './support/scale.ts';

/** TaskRouter over a real socket: what is asked, what each answer comes to, and what no error may say. */

const PHONE = '+221771230001';
const OTHER = '+221771230002';
/** Long enough for a busy machine to answer at once; calls that hang take this long. */
const TIMEOUT_MS = 1_500;

const attributes: TaskAttributes = {
  type: 'support',
  channel: 'ussd',
  to: '*555#',
  from: PHONE,
  language: 'French',
  location: 'Thiès & Touba',
  callback: 'Yes',
  support_type: 'Food and Clothing',
  reference: 'K7Q2M9',
};
const wanted = { reference: attributes.reference, from: PHONE };
const help = { attributes, priority: 10 };

type More = Partial<Parameters<typeof twilioTaskRouter>[0]>;

function routerOf(fake: FakeTwilio, more: More = {}): TaskRouter {
  const { accountSid, authToken, workspaceSid, workflowSid, url: baseUrl } = fake;
  return twilioTaskRouter({
    accountSid,
    authToken,
    workspaceSid,
    workflowSid,
    baseUrl,
    taskChannel: 'ussd',
    timeoutMs: TIMEOUT_MS,
    ...more,
  });
}

/** The error of a call that must fail; it says nothing that is secret, in whatever way one looks at it. */
async function failureOf(t: Test, call: Promise<unknown>): Promise<{ code: string; retryable: boolean }> {
  const error = await call.then(
    (value) => t.fail(`it did not fail: ${inspect(value)}`),
    (error: unknown) => error,
  );
  if (!(error instanceof ProviderError)) throw error;
  const { code, retryable } = error;
  t.match(code, /^[a-z0-9_]{1,40}$/);
  const all = [
    JSON.stringify(error),
    error.message,
    error.stack,
    `${error.cause}`,
    inspect(error, { depth: 9 }),
  ];
  const basic = Buffer.from('twilio_hush_hush').toString('base64').slice(0, 16);
  for (const secret of ['twilio_hush_hush', basic, '771230001', 'Clothing', 'K7Q2M9', 'hush-body'])
    t.notOk(all.join('\n').includes(secret), `it does not say ${secret}`);
  return { code, retryable };
}

/** The four things that can be asked, of a task that is there. */
async function allOf(fake: FakeTwilio): Promise<Record<string, () => Promise<unknown>>> {
  const router = routerOf(fake);
  const id = await router.create(help);
  return {
    create: () => router.create(help),
    find: () => router.find(wanted),
    update: () => router.update(id, attributes),
    close: () => router.close(id, 'done'),
  };
}

t.test('a new task, as it is asked', async (t) => {
  const fake = await fakeTwilio(t);
  const { accountSid, authToken, workspaceSid, workflowSid } = fake;
  const careless = { ...attributes, pin: '90210', note: 'she is alone' };
  const id = await routerOf(fake).create({ attributes: careless, priority: 10 });
  const [asked] = fake.requests;
  t.equal(fake.requests.length, 1);
  t.equal(asked?.path, `POST /v1/Workspaces/${workspaceSid}/Tasks`);
  t.same(asked?.query, {});
  t.match(asked?.headers, {
    authorization: `Basic ${Buffer.from(`${accountSid}:${authToken}`).toString('base64')}`,
    accept: 'application/json',
    'content-type': /^application\/x-www-form-urlencoded/,
  });
  const said =
    '{"type":"support","channel":"ussd","to":"*555#","from":"+221771230001","language":"French",' +
    '"location":"Thiès & Touba","callback":"Yes","support_type":"Food and Clothing","reference":"K7Q2M9"}';
  t.strictSame(Object.entries(asked?.fields ?? {}), [
    ['Attributes', said],
    ['WorkflowSid', workflowSid],
    ['TaskChannel', 'ussd'],
    ['Priority', '10'],
    ['Timeout', '1209600'],
  ]);
  t.match(asked?.body, /^Attributes=%7B%22type%22%3A%22support%22.*Thi%C3%A8s\+%26\+Touba.*&WorkflowSid=WW/);
  t.match(id, /^WT[0-9a-f]{32}$/);
  t.same(fake.task(id).attributes, attributes, 'the nine and no others');
  t.match(fake.task(id), { priority: 10, taskChannel: 'ussd', workflowSid, timeout: 1_209_600 });

  await routerOf(fake, { workflowSid: undefined }).create({ ...help, priority: 0 });
  t.same(Object.keys(fake.requests[1]?.fields ?? {}), ['Attributes', 'TaskChannel', 'Priority', 'Timeout']);
  t.equal(fake.tasks.length, 2, 'it knows no keys: twice is two tasks');
  t.equal(routerOf(fake).name, 'twilio');
});

t.test('a task is found by its reference and its number, and only while it is under way', async (t) => {
  for (const barren of [false, true]) {
    const fake = await fakeTwilio(t, { barren });
    const router = routerOf(fake);
    t.equal(await router.find(wanted), undefined, 'none yet');
    await router.create({ attributes: { ...attributes, from: OTHER }, priority: 0 });
    await router.create({ attributes: { ...attributes, reference: 'K7Q2M8' }, priority: 0 });
    t.equal(await router.find(wanted), undefined, 'neither of another phone nor of another reference');
    const first = await router.create(help);
    const second = await router.create(help);
    for (const status of ['pending', 'reserved', 'assigned', 'wrapping'] as const) {
      fake.setStatus(first, status);
      t.equal(await router.find(wanted), first, `the older one, ${status}`);
    }
    for (const status of ['completed', 'canceled'] as const) {
      fake.setStatus(first, status);
      t.equal(await router.find(wanted), second, `${status} is over`);
    }
    fake.setStatus(second, 'completed');
    t.equal(await router.find(wanted), undefined);
    fake.remove(second);
    t.equal(await router.find(wanted), undefined);
  }
});

t.test('a task is looked for without its number in a URL', async (t) => {
  const fake = await fakeTwilio(t);
  await routerOf(fake).find(wanted);
  const [asked] = fake.requests;
  t.equal(asked?.path, `GET /v1/Workspaces/${fake.workspaceSid}/Tasks`);
  t.same(asked?.query, {
    EvaluateTaskAttributes: 'reference == "K7Q2M9"',
    Ordering: 'DateCreated:asc',
  });
  t.equal(asked?.authorized, true);
  t.equal(asked?.body, '');
});

t.test('what cannot be looked for is not asked, nor made', async (t) => {
  const fake = await fakeTwilio(t);
  const router = routerOf(fake);
  const final = { code: 'refused_reference', retryable: false };
  for (const reference of [
    '',
    'a"b',
    "a' OR '1' == '1",
    'K7 Q2',
    'K7Q2M9"',
    'é',
    'K7Q2M9\n',
    'x'.repeat(65),
  ]) {
    t.same(await failureOf(t, router.find({ reference, from: PHONE })), final, reference);
    const strange = { ...attributes, reference };
    t.same(await failureOf(t, router.create({ attributes: strange, priority: 0 })), final);
  }
  t.equal(fake.requests.length, 0);
  const injected = ['" OR "1" == "1', "'", '\\', '+221771230001" OR from != "'];
  await router.create(help);
  for (const from of injected) t.equal(await router.find({ ...wanted, from }), undefined);
});

t.test('a list may hold anything', async (t) => {
  const fake = await fakeTwilio(t);
  const router = routerOf(fake);
  const id = await router.create(help);
  const entry = { sid: id, assignment_status: 'pending', attributes: JSON.stringify(attributes) };
  const list = (...tasks: unknown[]): Exactly => ({ status: 200, body: JSON.stringify({ tasks }) });
  const odd = [null, 7, 'x', [], {}, { ...entry, sid: 'WT1' }, { ...entry, sid: `../${id}` }];
  const others = ['{', 'null', '[]', '"x"', '7', '{}', '{"reference":"K7Q2M9"}', '{"from":7}'];
  const strangers = others.map((each) => ({ ...entry, attributes: each }));
  fake.next(list(...odd, ...strangers));
  t.equal(await router.find(wanted), undefined);
  fake.next(list(...odd, ...strangers, entry));
  t.equal(await router.find(wanted), id);
  fake.next(list({ ...entry, assignment_status: 'transferring' }));
  t.equal(await router.find(wanted), id, 'a status that is new to us is not the end');
  fake.next(list({ ...entry, attributes: undefined, sid: `WT${'f'.repeat(32)}` }));
  t.equal(await router.find(wanted), undefined, 'gone between the list and the look');
  for (const body of ['{}', 'null', '[]', '{"tasks":null}', '{"tasks":{}}']) {
    fake.next({ status: 200, body });
    t.same(await failureOf(t, router.find(wanted)), { code: 'malformed', retryable: true }, body);
  }
});

t.test('an update says what is known by now, and keeps what others wrote', async (t) => {
  const fake = await fakeTwilio(t);
  const router = routerOf(fake);
  const id = await router.create(help);
  const changed: TaskAttributes = { ...attributes, location: 'Dakar', language: 'English' };
  for (const status of ['pending', 'reserved', 'assigned', 'wrapping'] as const) {
    fake.setStatus(id, status);
    fake.annotate(id, { conversations: { outcome: status }, location: 'Touba' });
    const { version } = fake.task(id);
    t.equal(await router.update(id, { ...changed, pin: '90210' } as TaskAttributes), true, status);
    t.same(fake.task(id).attributes, { ...changed, conversations: { outcome: status } });
    t.equal(fake.task(id).status, status, 'its status is not touched');
    const asked = fake.requests.at(-1);
    t.equal(asked?.path, `POST /v1/Workspaces/${fake.workspaceSid}/Tasks/${id}`);
    t.same(Object.keys(asked?.fields ?? {}), ['Attributes']);
    t.equal(asked?.headers['if-match'], `"${version}"`);
  }
  for (const status of ['completed', 'canceled'] as const) {
    fake.setStatus(id, status);
    const before = fake.requests.length;
    t.equal(await router.update(id, attributes), false, `${status} is over`);
    t.equal(fake.requests.length - before, 1, 'and stays as it is');
    t.match(fake.task(id).attributes, { location: 'Dakar' });
  }
  fake.remove(id);
  t.equal(await router.update(id, attributes), false, 'gone');
});

t.test('an update that meets another one looks again', async (t) => {
  const fake = await fakeTwilio(t);
  const router = routerOf(fake);
  const id = await router.create(help);
  /** Between the look and the write of the next update, once for each step. */
  const meanwhile = (...steps: (() => void)[]) => {
    fake.before = () => {
      fake.before = () => {
        steps[0]?.();
        if (steps.length > 1) meanwhile(...steps.slice(1));
      };
    };
  };
  meanwhile(() => fake.annotate(id, { note: 1 }));
  t.equal(await router.update(id, { ...attributes, location: 'Dakar' }), true);
  t.match(fake.task(id).attributes, { note: 1, location: 'Dakar' });
  meanwhile(() => fake.setStatus(id, 'completed'));
  t.equal(await router.update(id, { ...attributes, location: 'Thies' }), false, 'over in between');
  t.match(fake.task(id).attributes, { location: 'Dakar' });
  fake.setStatus(id, 'assigned');
  meanwhile(() => fake.remove(id));
  t.equal(await router.update(id, attributes), false, 'gone in between');

  const busy = await router.create(help);
  const again = () => fake.annotate(busy, { note: fake.requests.length });
  meanwhile(again, again, again);
  t.same(await failureOf(t, router.update(busy, attributes)), { code: 'http_412', retryable: true });
  const late = { sid: busy, assignment_status: 'completed', attributes: '{}' };
  const live = { ...late, assignment_status: 'assigned' };
  fake.next({ status: 200, body: JSON.stringify(live) }, { status: 200, body: JSON.stringify(late) });
  t.equal(await router.update(busy, attributes), false, 'without versions the answer to the write decides');
});

t.test('a task is ended in the way that its state allows', async (t) => {
  const fake = await fakeTwilio(t);
  const router = routerOf(fake);
  const ends: [Status, Status][] = [
    ['pending', 'canceled'],
    ['reserved', 'canceled'],
    ['assigned', 'completed'],
    ['wrapping', 'completed'],
  ];
  for (const [status, end] of ends) {
    const id = await router.create(help);
    fake.setStatus(id, status);
    await router.close(id, 'closed at the desk');
    t.match(fake.task(id), { status: end, reason: 'closed at the desk' }, status);
    t.same(fake.requests.at(-1)?.fields, { AssignmentStatus: end, Reason: 'closed at the desk' });
    t.equal(fake.requests.at(-1)?.path, `POST /v1/Workspaces/${fake.workspaceSid}/Tasks/${id}`);
    const before = fake.requests.length;
    await router.close(id, 'again');
    t.match(fake.task(id), { status: end, reason: 'closed at the desk' }, 'one that is over stays so');
    t.equal(fake.requests.length - before, 1);
    fake.remove(id);
    t.equal(await router.close(id, 'again'), undefined, 'gone is fine');
  }
  const between: [Status, Status, Status][] = [
    ['reserved', 'assigned', 'completed'],
    ['wrapping', 'completed', 'completed'],
    ['pending', 'canceled', 'canceled'],
    ['assigned', 'pending', 'canceled'],
  ];
  for (const [seen, meant, end] of between) {
    const id = await router.create(help);
    fake.setStatus(id, seen);
    fake.before = () => {
      fake.before = () => fake.setStatus(id, meant);
    };
    await router.close(id, 'done');
    t.equal(fake.task(id).status, end, `${seen}, and ${meant} in between`);
  }
  const stuck = await router.create(help);
  const not = { status: 400, body: '{"code":20001,"message":"hush-body","status":400}' };
  const look = { status: 200, body: JSON.stringify({ sid: stuck, assignment_status: 'assigned' }) };
  fake.next(look, not, look, not, look, not);
  t.same(await failureOf(t, router.close(stuck, 'done')), { code: 'http_400_20001', retryable: true });
});

t.test('an id that is none of theirs is not asked for', async (t) => {
  const fake = await fakeTwilio(t);
  const router = routerOf(fake);
  for (const id of [
    '',
    '..',
    '.',
    'sim-1',
    `WT${'0'.repeat(31)}`,
    `../Workers/WT${'0'.repeat(32)}`,
    '%2e%2e',
  ]) {
    t.equal(await router.update(id, attributes), false, id);
    t.equal(await router.close(id, 'done'), undefined, id);
  }
  t.equal(fake.requests.length, 0);
});

t.test('every status is worth another try, and says in numbers why', async (t) => {
  const fake = await fakeTwilio(t);
  const all = await allOf(fake);
  const hush = `hush-body ${PHONE} ${fake.authToken}`;
  const said = (status: number, code: unknown): Exactly => ({
    status,
    body: JSON.stringify({ code, message: hush, more_info: hush, status }),
  });
  for (const [name, call] of Object.entries(all)) {
    for (const status of [
      300, 304, 401, 402, 403, 404, 405, 406, 408, 409, 410, 412, 413, 415, 418, 422, 425, 429, 451, 500, 502,
      503, 504, 599,
    ]) {
      fake.next({ status, ...(status !== 304 && { body: hush }) });
      const expected = { code: `http_${status}`, retryable: true };
      t.same(await failureOf(t, call()), expected, `${name} ${status}, not by Twilio`);
    }
    fake.next(said(400, 20001));
    t.same(await failureOf(t, call()), { code: 'http_400_20001', retryable: true }, name);
    fake.next(said(401, 20003));
    t.same(await failureOf(t, call()), { code: 'http_401_20003', retryable: true }, name);
    fake.next(said(429, 20429));
    t.same(await failureOf(t, call()), { code: 'http_429_20429', retryable: true }, name);
    for (const code of ['20001', null, 1.5, {}, 'hush-body', 1e300]) {
      fake.next(said(400, code));
      t.same(await failureOf(t, call()), { code: 'http_400', retryable: true }, `${name} ${code}`);
    }
    if (name === 'create' || name === 'find') {
      fake.next(said(404, 20404));
      t.same(
        await failureOf(t, call()),
        { code: 'http_404_20404', retryable: true },
        'there is no workspace',
      );
    }
  }
  t.equal(fake.tasks.length, 1, 'none of it was done');
  const { accountSid, workspaceSid, url: baseUrl } = fake;
  const stranger = routerOf(fake, { accountSid, workspaceSid, baseUrl, authToken: 'twilio_hush_hush_2' });
  t.same(await failureOf(t, stranger.create(help)), { code: 'http_401_20003', retryable: true });
  t.equal(fake.requests.at(-1)?.authorized, false);
});

t.test('connections that end, answers that do not come, and bodies that are not whole', async (t) => {
  const fake = await fakeTwilio(t);
  const all = await allOf(fake);
  const fates = [
    ['fail', 'http_500_20500'],
    ['busy', 'http_429_20429'],
    ['drop', 'dropped'],
    ['hang', 'timeout'],
    ['malformed', 'malformed'],
    ['truncated', 'truncated'],
  ] as const;
  for (const [fate, code] of fates) {
    for (const [name, call] of Object.entries(all)) {
      const before = fake.tasks.length;
      fake.next(fate);
      t.same(await failureOf(t, call()), { code, retryable: true }, `${name}: ${fate}`);
      const done = name === 'create' && fate !== 'fail' && fate !== 'busy' ? 1 : 0;
      t.equal(fake.tasks.length - before, done, `${name}: ${fate}: ${done} made`);
    }
  }
  const [, ...rest] = fake.tasks;
  for (const { sid } of rest) fake.remove(sid);
  fake.next('drop');
  const router = routerOf(fake);
  const lost = { attributes: { ...attributes, reference: 'LOST1' }, priority: 1 };
  t.same(await failureOf(t, router.create(lost)), { code: 'dropped', retryable: true });
  const found = await router.find({ reference: 'LOST1', from: PHONE });
  t.equal(found, fake.tasksOf({ reference: 'LOST1' })[0]?.sid, 'a lost answer is learnt by looking');
  for (const body of ['{}', 'null', '{"sid":"WT1","assignment_status":"pending"}', `{"sid":"${found}"}`]) {
    fake.next({ status: 201, body, does: true });
    t.same(await failureOf(t, router.create(help)), { code: 'malformed', retryable: true }, body);
  }
});

t.test('a write that was done and not answered can be asked again', async (t) => {
  const fake = await fakeTwilio(t);
  const router = routerOf(fake);
  const id = await router.create(help);
  for (const fate of ['drop', 'malformed', 'truncated'] as const) {
    fake.next('answer', fate);
    await failureOf(t, router.update(id, { ...attributes, location: fate }));
    t.match(fake.task(id).attributes, { location: fate });
    t.equal(await router.update(id, { ...attributes, location: fate }), true);
  }
  fake.next('answer', 'drop');
  await failureOf(t, router.close(id, 'done'));
  t.match(fake.task(id), { status: 'canceled', reason: 'done' });
  t.equal(await router.close(id, 'done'), undefined);
});

t.test('the time is for all calls of one thing together', async (t) => {
  const fake = await fakeTwilio(t, { barren: true, delayMs: 1_000 });
  const router = routerOf(fake, { timeoutMs: 1_700 });
  const id = await router.create(help);
  const calls = [
    () => router.find(wanted),
    () => router.update(id, attributes),
    () => router.close(id, 'done'),
  ];
  for (const call of calls) {
    const before = fake.requests.length;
    const began = performance.now();
    t.same(await failureOf(t, call()), { code: 'timeout', retryable: true });
    t.ok(performance.now() - began >= 1_650);
    t.ok(fake.requests.length - before <= 2, 'each of its calls alone would have been in time');
  }
});

t.test('a far side that is away, and one that sends elsewhere', async (t) => {
  const fake = await fakeTwilio(t);
  const elsewhere = await fakeTwilio(t);
  const all = await allOf(fake);
  await fake.down('refuse');
  for (const [name, call] of Object.entries(all))
    t.same(await failureOf(t, call()), { code: 'unreachable', retryable: true }, name);
  await fake.up();
  await fake.down('503');
  for (const call of Object.values(all))
    t.same(await failureOf(t, call()), { code: 'http_503_20500', retryable: true });
  await fake.up();
  for (const status of [301, 302, 307, 308]) {
    for (const call of Object.values(all)) {
      fake.next({
        status,
        headers: { location: `${elsewhere.url}/v1/Workspaces/${fake.workspaceSid}/Tasks` },
      });
      t.same(await failureOf(t, call()), { code: `http_${status}`, retryable: true });
    }
  }
  t.equal(elsewhere.requests.length, 0, 'our key is not carried to a stranger');
  t.equal(fake.tasks.length, 1);
});

t.test('chaos: whoever looks before making again makes one task of one request', async (t) => {
  const chaos = { fail: 0.2, busy: 0.1, drop: 0.2, malformed: 0.1, truncated: 0.1 };
  const play = async (looks: boolean) => {
    const fake = await fakeTwilio(t, { seed: 11, chaos });
    // None may time out: what arrives after it was looked for is there twice, and no fake is to blame.
    const router = routerOf(fake, { timeoutMs: 60_000 });
    const references = Array.from({ length: 40 }, (_, index) => `R${index}`);
    await Promise.all(
      references.map(async (reference) => {
        const one = { ...attributes, reference };
        for (let tried = false; ; tried = true) {
          try {
            const found = tried && looks ? await router.find(one) : undefined;
            return found ?? (await router.create({ attributes: one, priority: 0 }));
          } catch (error) {
            if (!(error instanceof ProviderError && error.retryable)) throw error;
          }
        }
      }),
    );
    return { fake, references };
  };
  const { fake, references } = await play(true);
  for (const reference of references) t.equal(fake.tasksOf({ reference }).length, 1, reference);
  t.same(
    [...new Set(fake.requests.map(({ fate }) => fate))].sort(),
    ['answer', ...Object.keys(chaos)].sort(),
  );
  t.ok((await play(false)).fake.tasks.length > 40, 'one that does not look would be noticed');
});

/** The example of Twilio's documentation, and those of its own libraries' tests (twilio-node, twilio-php). */
const TOKEN = '12345';
const URL_SIGNED = 'https://mycompany.com/myapp.php?foo=1&bar=2';
const FIELDS = {
  CallSid: 'CA1234567890ABCDE',
  Caller: '+14158675309',
  Digits: '1234',
  From: '+14158675309',
  To: '+18005551212',
};

t.test('signatures that Twilio publishes', async (t) => {
  t.equal(signatureOf(URL_SIGNED, FIELDS, TOKEN), 'RSOYDt4T1cUTdK1PDd93/VVr8B8=');
  const repeated = { Sid: 'CA123', SidAccount: 'AC123', Digits: ['5678', '1234', '1234'] };
  t.equal(signatureOf(URL_SIGNED, repeated, TOKEN), 'IK+Dwps556ElfBT0I3Rgjkr1wJU=');
  const addresses = { 'MessagingBinding.Address': ['+1415xxxxxxx', '+1325xxxxxxx'] };
  t.equal(signatureOf(URL_SIGNED, addresses, TOKEN), '83O6e2vORAoJHUNzJjDWN1jz+BA=');

  const http = URL_SIGNED.replace('https', 'http');
  const published: [url: string, signature: string][] = [
    [URL_SIGNED, 'RSOYDt4T1cUTdK1PDd93/VVr8B8='],
    [URL_SIGNED.replace('.com', '.com:1234'), 'RSOYDt4T1cUTdK1PDd93/VVr8B8='],
    [http.replace('.com', '.com:1234'), 'Zmvh+3yNM1Phv2jhDCwEM3q5ebU='],
    [URL_SIGNED, 'kvajT1Ptam85bY51eRf/AJRuM3w='],
    [http, '0ZXoZLH/DfblKGATFgpif+LLRf4='],
    [URL_SIGNED.replace('//', '//user:pass@'), 'CukzLTc1tT5dXEDIHm/tKBanW10='],
    [URL_SIGNED.replace('//', '//user@'), '2YRLlVAflCqxaNicjMpJcSTgzSs='],
    [URL_SIGNED.replace('//', '//user:pass@'), 'ZQFR1PTIZXF2MXB8ZnKCvnnA+rI='],
    [`${URL_SIGNED}&Body=It's+amazing`, 'dsq4Ehbj6cs+KdTkpF5sSSplOWw='],
    ['https://MyCompany.com/myapp.php?foo=1&bar=2', 'g9IN/x4Cft2g517EjYvEvM/W7LU='],
  ];
  for (const [url, signature] of published)
    t.ok(isSigned(signature, url, FIELDS, TOKEN), `${url} ${signature}`);
  const backwards = Object.fromEntries(Object.entries(FIELDS).reverse());
  t.ok(isSigned('RSOYDt4T1cUTdK1PDd93/VVr8B8=', URL_SIGNED, backwards, TOKEN), 'whatever their order');
});

t.test('signatures that are none', async (t) => {
  const good = 'RSOYDt4T1cUTdK1PDd93/VVr8B8=';
  for (const given of [
    undefined,
    null,
    '',
    7,
    [good],
    {},
    'FAIL',
    good.slice(1),
    `${good} `,
    good.toLowerCase(),
    `${good}${good}`,
    'é'.repeat(14),
  ])
    t.notOk(isSigned(given, URL_SIGNED, FIELDS, TOKEN), inspect(given));
  t.notOk(isSigned(good, 'nowhere', FIELDS, TOKEN));
  t.notOk(isSigned(good, '', FIELDS, TOKEN));
  t.notOk(isSigned(good, URL_SIGNED, {}, TOKEN));
});

t.test('any change of the URL, of a field or of the token is noticed', async () => {
  const fields = fc.dictionary(
    fc.string({ minLength: 1, maxLength: 8 }),
    fc.oneof(fc.string(), fc.array(fc.string({ minLength: 1 }), { minLength: 1, maxLength: 3 })),
    { minKeys: 1, maxKeys: 6, noNullPrototype: true },
  );
  const path = fc.webPath().map((path) => `/${path.replace(/^\/*/, '')}`);
  fc.assert(
    fc.property(
      fields,
      path,
      fc.string({ minLength: 1 }),
      fc.string({ minLength: 1 }),
      fc.nat(),
      (all, path, token, junk, at) => {
        const url = `https://ussd.example${path}`;
        const signature = signatureOf(url, all, token);
        const holds = (...[url, fields, token]: Parameters<typeof signatureOf>) =>
          isSigned(signature, url, fields, token);
        const names = Object.keys(all);
        const name = names[at % names.length] ?? '';
        const { [name]: value, ...without } = all;
        const values = [value ?? ''].flat();
        return (
          holds(url, all, token) &&
          holds(url, Object.fromEntries(Object.entries(all).reverse()), token) &&
          holds(url.replace('.example', '.example:443'), all, token) &&
          !holds(`${url}${junk}`, all, token) &&
          !holds(url.replace('https', 'http'), all, token) &&
          !holds(url.replace('.example', '.example.org'), all, token) &&
          !holds(url, all, `${token}${junk}`) &&
          !holds(url, all, token.slice(1)) &&
          !holds(url, without, token) &&
          !holds(url, { ...all, [name]: values.map((each) => `${each}${junk}`) }, token) &&
          !holds(url, { ...without, [`${name}${junk}x`]: `${junk}${values.join('')}` }, token) &&
          !holds(url, { ...all, [`${name}x${junk}${names.join('')}`]: junk }, token)
        );
      },
    ),
    { numRuns: scaled(200) },
  );
});

t.test('the fake: events as TaskRouter posts them', async (t) => {
  const fake = await fakeTwilio(t);
  const id = await routerOf(fake).create(help);
  fake.setStatus(id, 'completed', 'resolved');
  const url = 'https://ussd.example/twilio/task-events?v=1';
  const { fields, body, headers } = fake.event(id, 'task.completed', url);
  t.match(fields, {
    EventType: 'task.completed',
    AccountSid: fake.accountSid,
    WorkspaceSid: fake.workspaceSid,
    ResourceType: 'task',
    ResourceSid: id,
    TaskSid: id,
    TaskAssignmentStatus: 'completed',
    TaskCompletedReason: 'resolved',
    Timestamp: /^\d{10}$/,
    TimestampMs: /^\d{13}$/,
  });
  t.same(JSON.parse(fields.TaskAttributes ?? ''), attributes);
  t.same(Object.fromEntries(new URLSearchParams(body)), fields);
  const signature = headers['x-twilio-signature'];
  t.ok(isSigned(signature, url, fields, fake.authToken), 'what it signs is what we check');
  t.notOk(isSigned(signature, url, { ...fields, TaskAssignmentStatus: 'pending' }, fake.authToken));
  const other = fake.event(id, 'reservation.accepted', url, {
    TaskSid: `WT${'9'.repeat(32)}`,
    TaskAge: undefined,
  });
  t.match(other.fields, { ResourceType: 'reservation', TaskSid: `WT${'9'.repeat(32)}`, WorkerName: 'amina' });
  t.notHas(other.fields, { TaskAge: '0' });
  const forged = fake.event(id, 'task.canceled', url, {}, 'another token');
  t.notOk(isSigned(forged.headers['x-twilio-signature'], url, forged.fields, fake.authToken));

  const heard: { body: string; signature: unknown; type: unknown }[] = [];
  const listener = createServer(async (request, response) => {
    const { 'x-twilio-signature': signature, 'content-type': type } = request.headers;
    heard.push({ body: Buffer.concat(await request.toArray()).toString(), signature, type });
    response.writeHead(204).end();
  });
  await new Promise<void>((done) => listener.listen(0, '127.0.0.1', done));
  t.teardown(() => listener.close());
  const to = `http://127.0.0.1:${(listener.address() as AddressInfo).port}/twilio/task-events`;
  const overrides = { TaskCompletedReason: 'Ça va & bien' };
  t.equal(await fake.tell(id, 'task.completed', to, { url, overrides }), 204);
  const posted = Object.fromEntries(new URLSearchParams(heard[0]?.body));
  t.match(heard[0]?.type, /^application\/x-www-form-urlencoded/);
  t.match(posted, { EventType: 'task.completed', TaskCompletedReason: 'Ça va & bien' });
  t.ok(
    isSigned(heard[0]?.signature, url, posted, fake.authToken),
    'posted here, signed for the address that Twilio knows',
  );
  t.notOk(isSigned(heard[0]?.signature, to, posted, fake.authToken));
});
