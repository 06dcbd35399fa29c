/**
 * Africa's Talking (docs/contract.md section 4): every curl of its reference with the printed answer, its demo
 * menu, and the notices by which it says that a session is over.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'kysely';
import t, { type Test } from 'tap';
import { deadlineIn } from '../src/deadline.ts';
import { openKeeping } from '../src/engine.ts';
import { COMMANDS } from '../src/operator/commands.ts';
import { type KeyRing, parseKeyRing } from '../src/seal/keys.ts';
import { ask } from './support/ask.ts';
import { dump, foundIn, pinsIn, tables } from './support/canary.ts';
import { embeddedDirectory } from './support/embedded.ts';
import { engineOn, menuOf, openDatabase } from './support/engine.ts';
import { type Gateway, post, startGateway } from './support/gateway.ts';
import { inTime } from './support/in-time.ts';
import { eventually, freshNumber, type Query, queryOn } from './support/phone.ts';
import { database, startPostgres } from './support/postgres.ts';
import { LONG_TIER, scaled } from './support/scale.ts';

const FORM = { 'content-type': 'application/x-www-form-urlencoded' };
const JSON_TYPE = { 'content-type': 'application/json' };

const MAIN = 'CON What would you want to check\n1. My Account\n2. My phone number';
const ACCOUNT = 'CON Choose account information you want to view\n1. Account number';
const NUMBER = 'END Your account number is ACC1001';
const INVALID_CHOICE = 'END Invalid choice';
const INVALID = 'END Invalid input. Please try again.';
const EXPIRED = 'END Session expired. Please dial again.';

type Way = 'form' | 'json';
type Fields = Record<string, unknown>;

/** What `curl -d a=b -d c=d` sends; or the same fields as JSON. */
function body(way: Way, curl: string[]): { headers: Record<string, string>; body: string } {
  const joined = curl.join('&');
  if (way === 'form') return { headers: FORM, body: joined };
  return { headers: JSON_TYPE, body: JSON.stringify(Object.fromEntries(new URLSearchParams(joined))) };
}

async function curl(url: string, path: string, way: Way, ...fields: string[]) {
  const told = await ask(url + path, { method: 'POST', ...body(way, fields) });
  const { 'content-type': type, 'cache-control': cache, 'x-ussd-outcome': outcome } = told.headers;
  const hop = told.headers['at-ussd-hop-metadata'];
  return { status: told.status, type, cache, outcome, hop, body: told.body.toString() };
}

let sessions = 0;
function newSession(): string {
  sessions += 1;
  return `ATUid_${process.pid}_${sessions}`;
}

/** A phone on Africa's Talking: `type` sends all that was typed so far. */
function dialler(url: () => string, phoneNumber = freshNumber(), serviceCode = '*123#') {
  const session = { sessionId: newSession(), phoneNumber, serviceCode };
  const say = (text: string) => post(url(), { ...session, text }, '/ussd/session');
  return { ...session, say };
}

/** A good notice; fields may be replaced, and `undefined` leaves one out. */
function noticeOf(session: { sessionId: string; phoneNumber: string }, fields: Fields = {}): Fields {
  const { sessionId, phoneNumber } = session;
  return {
    date: atSecond(0),
    sessionId,
    serviceCode: '*123#',
    networkCode: '63902',
    phoneNumber,
    status: 'Success',
    cost: 'KES 0.10',
    durationInMillis: '12345',
    hopsCount: '3',
    ...fields,
  };
}

/** As Africa's Talking writes it, so many seconds from now. */
function atSecond(from: number): string {
  return new Date(Date.now() + from * 1000).toISOString().slice(0, 19).replace('T', ' ');
}

async function tell(url: string, fields: Fields, way: Way = 'json') {
  const kept = Object.entries(fields).filter(([, value]) => value !== undefined) as [string, string][];
  const sent = way === 'json' ? JSON.stringify(fields) : new URLSearchParams(kept).toString();
  const headers = way === 'json' ? JSON_TYPE : FORM;
  return told(await ask(`${url}/ussd/status`, { method: 'POST', headers, body: sent }));
}

function told({ status, headers, body }: Awaited<ReturnType<typeof ask>>) {
  return { status, type: headers['content-type'], body: body.toString() };
}

/** A line is written once the answer is out. */
function logged(gateway: Gateway, line: RegExp): Promise<void> {
  return eventually(String(line), async () => line.test(gateway.output()), 5_000);
}

const OK = { status: 200, type: 'text/plain; charset=utf-8', body: 'OK' };

async function counted(url: string, outcome: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const found = new RegExp(`ussd_callbacks_total\\{route="/ussd/status",outcome="${outcome}"\\} (\\d+)`).exec(
    text,
  );
  return Number(found?.[1] ?? 0);
}

const NOTICES = `
  select day::text, dial, closed, service_code, network, status, cost::text, currency, duration_ms, hops,
    error is not null as error, to_char(ended_at at time zone 'utc', 'YYYY-MM-DD HH24:MI:SS') as date
  from ussd_notices order by id`;

t.test('the reference, its demo, and how it is answered', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const gateway = await startGateway(t, {
    DATABASE_URL,
    CALLBACK_SECRET: 'a-secret-of-callbacks',
    GATEWAY_ALLOW: '127.0.0.1',
  });
  const { url } = gateway;

  await t.test('the curls as they are printed', async (t) => {
    const welcome = await fetch(`${url}/ussd/`);
    t.equal(welcome.status, 200);
    t.match(welcome.headers.get('content-type'), /^text\/plain/);
    t.equal(await welcome.text(), 'Welcome to the USSD service');
    t.equal(
      await (await fetch(`${url}/ussd`)).text(),
      'Welcome to the USSD service',
      'without the slash too',
    );

    const screen = (text: string, hop: string) => ({
      status: 200,
      type: 'text/plain; charset=utf-8',
      cache: 'no-store',
      outcome: 'ok',
      hop,
      body: text,
    });
    for (const way of ['form', 'json'] as const) {
      const session = (id: string, text: string) =>
        curl(
          url,
          '/ussd/session',
          way,
          `sessionId=${id}-${way}`,
          'serviceCode=*123#',
          'phoneNumber=%2B254711000111',
          `text=${text}`,
        );
      t.strictSame(await session('ATUid_123', ''), screen(MAIN, 'start'), `the first curl, as ${way}`);
      t.strictSame(await session('test-123', ''), screen(MAIN, 'start'), 'main menu');
      t.strictSame(await session('test-123', '1'), screen(ACCOUNT, 'account'), 'option 1');
      t.strictSame(await session('test-123', '1*1'), screen(NUMBER, 'accountNumber'), 'option 1, then 1');
      await session('test-124', '');
      const phone = screen('END Your phone number is +254711000111', 'phoneNumber');
      t.strictSame(await session('test-124', '2'), phone, 'option 2');
      t.strictSame(await session('test-124', '2'), { ...phone, outcome: 'replay' }, 'and again');

      const status = await curl(
        url,
        '/ussd/status',
        way,
        'date=2025-09-29+12:00:00',
        `sessionId=ATUid_123-${way}`,
        'serviceCode=*123#',
        'networkCode=63902',
        'phoneNumber=%2B254711000111',
        'status=Success',
        'cost=KES+0.10',
        'durationInMillis=12345',
        'hopsCount=3',
        'input=1*1',
        'lastAppResponse=END+Your+account+number+is+ACC1001',
      );
      t.match(status, OK, `the notice, as ${way}`);
    }
  });

  await t.test('what is not on a screen ends at once, as the `else` of the reference', async (t) => {
    const others = [
      '0',
      '00',
      '3',
      '12',
      '*',
      '#',
      '98',
      '99',
      'a',
      '1*2',
      '1*0',
      '1*00',
      '1*',
      '1**',
      '3*1',
    ];
    for (const text of others) {
      const walked = dialler(() => url);
      await walked.say('');
      const pieces = text.split('*');
      let before = pieces[0] ?? '';
      if (before === '1') await walked.say(before);
      before = (await walked.say(text)).body;
      t.equal(before, INVALID_CHOICE, `typed ${JSON.stringify(text)}`);
      t.match(await walked.say(text), { outcome: 'replay', body: INVALID_CHOICE });
      t.match(await walked.say(`${text}*1`), { outcome: 'replay', body: INVALID_CHOICE }, 'and behind it');
      const through = dialler(() => url);
      t.equal((await through.say(text)).body, INVALID_CHOICE, `dialled through ${JSON.stringify(text)}`);
    }
  });

  await t.test('dialled through, in the text and behind the code', async (t) => {
    t.equal((await dialler(() => url).say('1')).body, ACCOUNT);
    t.equal((await dialler(() => url).say('1*1')).body, NUMBER);
    t.equal(
      (await dialler(() => url, '+254711000111').say('2')).body,
      'END Your phone number is +254711000111',
    );
    t.equal((await dialler(() => url, freshNumber(), '*123*1#').say('')).body, ACCOUNT);
    const through = dialler(() => url, freshNumber(), '*123*1#');
    await through.say('');
    t.match(await through.say('1'), { outcome: 'ok', body: NUMBER });
  });

  await t.test('a session space of its own, and the rules of /api/ussd', async (t) => {
    const phone = dialler(() => url);
    const { say, ...session } = phone;
    await say('');
    t.match(
      await post(url, { ...session, text: '1' }),
      { body: ACCOUNT, outcome: 'ok' },
      'no session of ixo',
    );
    t.match(await say('2'), { outcome: 'ok', body: `END Your phone number is ${phone.phoneNumber}` });

    const { text: _, ...bare } = { ...session, text: '', sessionId: newSession() };
    const sent = (fields: Fields, way = JSON_TYPE) =>
      ask(`${url}/ussd/session`, { method: 'POST', headers: way, body: JSON.stringify(fields) });
    t.equal((await sent(bare)).body.toString(), MAIN, 'a missing text is empty, in JSON');
    t.equal((await sent({ ...bare, text: null })).body.toString(), MAIN, 'and so is null (decision 39)');
    const form = new URLSearchParams({ ...bare, sessionId: newSession() } as Record<string, string>);
    const inForm = await ask(`${url}/ussd/session`, { method: 'POST', headers: FORM, body: `${form}` });
    t.equal(inForm.body.toString(), MAIN, 'and in a form');
    t.equal(
      (await sent({ ...bare, sessionId: newSession(), networkCode: '63902', more: 1 })).body.toString(),
      MAIN,
    );
    for (const wrong of [
      { text: 1 },
      { text: ['1'] },
      { text: '1\n' },
      { text: '1'.repeat(183) },
      { sessionId: 'a b' },
      { phoneNumber: '254711000111' },
      { serviceCode: '123' },
    ]) {
      const answer = await sent({ ...bare, ...wrong });
      t.equal(answer.status, 200);
      t.match(answer.headers, { 'x-ussd-outcome': 'invalid', 'at-ussd-hop-metadata': undefined });
      t.equal(answer.body.toString(), INVALID, JSON.stringify(wrong));
    }
    for (const [headers, body] of [
      [JSON_TYPE, '{'],
      [FORM, '%FF'],
      [{ 'content-type': 'text/xml' }, '<'],
      [JSON_TYPE, JSON.stringify({ more: 'x'.repeat(9_000) })],
      [{}, ''],
    ] as [Record<string, string>, string][]) {
      const answer = await ask(`${url}/ussd/session`, { method: 'POST', headers, body });
      t.match([answer.status, answer.body.toString()], [200, INVALID], body.slice(0, 20));
    }
    const metrics = await (await fetch(`${url}/metrics`)).text();
    t.match(
      metrics,
      /ussd_turns_total\{gateway="africastalking",outcome="invalid"\} 12/,
      'counted as its own',
    );
  });

  await t.test('operators find its sessions', async (t) => {
    const phone = dialler(() => url);
    await phone.say('');
    await phone.say('1');
    const seen = await fetch(`${url}/api/ussd/debug/${phone.sessionId}`);
    t.match(await seen.json(), {
      sessionId: phone.sessionId,
      debugInfo: { state: 'account', status: 'active', context: { message: ACCOUNT.slice(4) } },
    });
  });

  await t.test('other methods, HEAD, and the OpenAPI', async (t) => {
    for (const path of ['/ussd/session', '/ussd/status']) {
      for (const method of ['GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS']) {
        const answer = await ask(url + path, { method });
        t.match(answer, { status: 405, headers: { allow: 'POST' } }, `${method} ${path}`);
      }
      t.match(await ask(url + path, { method: 'PUT', headers: JSON_TYPE, body: '{' }), { status: 405 });
    }
    t.match(await ask(`${url}/ussd/`, { method: 'HEAD' }), { status: 200, body: Buffer.alloc(0) });
    for (const path of ['/ussd/', '/ussd']) {
      t.match(await ask(url + path, { method: 'POST' }), { status: 405, headers: { allow: 'GET, HEAD' } });
    }
    const openapi = (await (await fetch(`${url}/docs/json`)).json()) as { paths: Record<string, Fields> };
    t.match(openapi.paths, {
      '/ussd/': { get: {} },
      '/ussd/session': { post: { requestBody: { content: { 'application/x-www-form-urlencoded': {} } } } },
      '/ussd/status': { post: { requestBody: { content: { 'application/json': {} } } } },
    });
    t.notMatch(JSON.stringify(openapi.paths['/ussd/status']), /hopsMetadata|lastAppResponse|"input"/);
    t.strictSame(
      (
        openapi.paths['/ussd/session'] as {
          post: { requestBody: { content: Record<string, { schema: { required: string[] } }> } };
        }
      ).post.requestBody.content['application/json']?.schema.required,
      ['sessionId', 'serviceCode', 'phoneNumber'],
      'text is not required',
    );
  });

  await t.test('under the secret of callbacks', async (t) => {
    const secret = `${url}/c/a-secret-of-callbacks`;
    t.equal(await (await fetch(`${secret}/ussd/`)).text(), 'Welcome to the USSD service');
    const phone = dialler(() => secret);
    t.equal((await phone.say('')).body, MAIN);
    t.match(await tell(secret, noticeOf(phone)), OK);
    await logged(gateway, /"route":"\/ussd\/status","outcome":"stored","authenticated":true/);
    await logged(gateway, /"route":"\/ussd\/status","outcome":"unmatched","authenticated":true/);
    t.equal((await fetch(`${url}/c/another-secret-of-callbacks/ussd/`)).status, 404);
  });
});

t.test('who may call, and how often', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const shut = await startGateway(t, { DATABASE_URL, GATEWAY_ALLOW: '10.9.9.9' });
  for (const path of ['/ussd/', '/ussd/session', '/ussd/status']) {
    const method = path === '/ussd/' ? 'GET' : 'POST';
    t.equal((await ask(shut.url + path, { method })).status, 403, path);
  }
  const few = await startGateway(t, { DATABASE_URL, RATE_LIMIT_MAX: '4', GATEWAY_ALLOW: '127.0.0.1' });
  const phone = dialler(() => few.url);
  await phone.say('');
  t.match(await tell(few.url, noticeOf(phone)), OK);
  await logged(few, /"outcome":"stored","authenticated":true/);
  t.match(await tell(few.url, {}), OK);
  await phone.say('1');
  t.match(await phone.say('1'), { status: 429, outcome: 'limited', body: /^END Too many requests/ });
  const late = await ask(`${few.url}/ussd/status`, { method: 'POST', headers: JSON_TYPE, body: '{}' });
  t.match(told(late), { status: 429, type: 'text/plain; charset=utf-8', body: 'Too many requests' });
  t.match(Number(late.headers['retry-after']), Number);
  t.equal((await ask(`${few.url}/ussd/`)).body.toString(), 'Too many requests');
  t.equal(await counted(few.url, 'limited'), 1);
});

t.test('notices of the end of a session', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const gateway = await startGateway(t, { DATABASE_URL });
  const other = await startGateway(t, { DATABASE_URL });
  const { url } = gateway;
  const query = await queryOn(t, DATABASE_URL);
  const notices = () => query(NOTICES);
  const newest = async () => (await notices()).at(-1);
  const turns = async () => (await query<{ count: string }>('select count(*) from turns'))[0]?.count;
  const fresh = () => dialler(() => url);

  await t.test('what is kept', async (t) => {
    const phone = fresh();
    await phone.say('');
    await phone.say('1');
    const date = atSecond(1);
    const notice = noticeOf(phone, { date, status: 'Failed', errorMessage: 'Timed out 48213'.repeat(99) });
    t.match(await tell(url, notice, 'form'), OK);
    const [kept] = await notices();
    const [dial] = await query('select distinct day::text, dial from turns');
    t.equal(kept?.cost, '0.10', 'to the last digit');
    t.match(kept, {
      ...dial,
      date,
      closed: true,
      service_code: '*123#',
      network: 63902,
      status: 'Failed',
      currency: 'KES',
      duration_ms: 12345,
      hops: 3,
      error: true,
    });
    const [{ length } = { length: 0 }] = await query<{ length: number }>(
      'select length(error) from ussd_notices',
    );
    t.ok(length < 400, 'the error message is cut short');
    t.equal(await counted(url, 'stored'), 1);

    const numbers = fresh();
    await numbers.say('');
    await tell(
      url,
      noticeOf(numbers, { networkCode: 63902, durationInMillis: 0, hopsCount: 12, cost: 'UGX 10' }),
    );
    t.match(await newest(), {
      network: 63902,
      duration_ms: 0,
      hops: 12,
      cost: '10',
      currency: 'UGX',
      error: false,
    });
    const odd = {
      networkCode: 'x',
      cost: 'None',
      durationInMillis: '-1',
      hopsCount: '1e3',
      errorMessage: [1],
    };
    const bad = fresh();
    await bad.say('');
    await tell(url, noticeOf(bad, odd));
    const none = { network: null, cost: null, currency: null, duration_ms: null, hops: null, error: false };
    t.match(
      await newest(),
      { ...none, closed: true },
      'what cannot be read of the bill is left out, the end stands',
    );
    const through = dialler(() => url, freshNumber(), '*123*1*48213#');
    await through.say('');
    await tell(url, noticeOf(through, { serviceCode: '*123*1*48213#', cost: 'KES 123456789012.123456' }));
    t.match(
      await newest(),
      { service_code: '*123#', cost: '123456789012.123456' },
      'not what was dialled behind',
    );
    const nobody = fresh();
    await tell(url, noticeOf(nobody, { serviceCode: '*48213#' }));
    t.match(await newest(), { service_code: null, day: null });
  });

  await t.test('the day of a bill, as the docs ask for it', async (t) => {
    const page = readFileSync(join(import.meta.dirname, '..', 'docs', 'africastalking.md'), 'utf8');
    const asked = /```sql\n([\s\S]*?)```/.exec(page)?.[1] ?? '';
    const day = (from: number) => new Date(Date.now() + from * 86_400_000).toISOString().slice(0, 10);
    const days = [day(-1), day(2)];
    const rows = await query(asked.replaceAll(/2026-11-2\d/g, () => days.shift() ?? ''));
    t.match(
      rows.filter(({ service_code, network }) => service_code === '*123#' && network === 63902),
      [{ sessions: '2' }, { sessions: '1' }],
      'by currency',
    );
    t.match(
      rows.find(({ currency }) => currency === 'UGX'),
      { hops: '12', cost: '10', unmatched: '0', broken_off: '1' },
    );
  });

  await t.test('it closes the dial', async (t) => {
    const phone = fresh();
    await phone.say('');
    await phone.say('1');
    await tell(url, noticeOf(phone));
    t.match(await phone.say('1*1'), { status: 200, outcome: 'ok', body: EXPIRED }, 'a new text');
    t.match(await phone.say('1*1'), { outcome: 'replay', body: EXPIRED }, 'and its copy');
    t.match(await phone.say('1'), { outcome: 'replay', body: ACCOUNT }, 'a known one is a replay');
    t.match(await phone.say(''), { outcome: 'ok', body: MAIN }, 'an empty one is a new dial');
    t.match(await phone.say('2'), { outcome: 'ok', body: /^END Your phone/ });
    const seen = await (await fetch(`${url}/api/ussd/debug/${phone.sessionId}`)).json();
    t.match(seen, { debugInfo: { status: 'ended' } });

    const ended = fresh();
    await ended.say('');
    await ended.say('2');
    await tell(url, noticeOf(ended));
    t.match(await newest(), { closed: false, dial: 1 }, 'what has ended is only matched');
    t.match(await ended.say('2*1'), { outcome: 'replay', body: /^END Your phone/ });
  });

  await t.test('the first stands, a repeat is acknowledged', async (t) => {
    const phone = fresh();
    await phone.say('');
    const notice = noticeOf(phone, { date: atSecond(2) });
    const before = (await notices()).length;
    t.match(await tell(url, notice), OK);
    const repeated = await counted(url, 'repeated');
    t.match(await tell(url, { ...notice, status: 'Failed', cost: 'KES 9.99' }), OK);
    t.equal(await counted(url, 'repeated'), repeated + 1);
    t.equal((await notices()).length, before + 1);
    t.match(await newest(), { status: 'Success', cost: '0.10' });
    // The session id was used again; what is repeated now is of the dial before.
    await phone.say('');
    await tell(url, notice);
    t.match(await phone.say('1'), { outcome: 'ok', body: ACCOUNT }, 'it does not close the next dial');
  });

  await t.test('what is not of a dial of ours is stored and closes nothing', async (t) => {
    const phone = fresh();
    await phone.say('');
    const before = await turns();
    const unmatched = await counted(url, 'unmatched');
    const stranger = { ...phone, phoneNumber: freshNumber() };
    for (const [name, notice] of [
      ['of an unknown session', noticeOf({ ...phone, sessionId: newSession() })],
      ['of another phone', noticeOf(stranger)],
      ['from before the opening', noticeOf(phone, { date: atSecond(-5) })],
    ] as [string, Fields][]) {
      t.match(await tell(url, notice), OK, name);
      t.match(await newest(), { day: null, dial: null, closed: false }, name);
    }
    t.equal(await counted(url, 'unmatched'), unmatched + 3);
    t.equal(await turns(), before, 'no row more');
    t.match(await phone.say('1'), { outcome: 'ok', body: ACCOUNT }, 'the session goes on');
    const { say: _, ...session } = phone;
    await post(url, { ...session, sessionId: 'of-ixo' });
    await tell(url, noticeOf({ ...phone, sessionId: 'of-ixo' }));
    t.match(await newest(), { day: null }, 'a session of another gateway is none of its own');
    t.match(await post(url, { ...session, sessionId: 'of-ixo', text: '1' }), {
      outcome: 'ok',
      body: ACCOUNT,
    });
  });

  await t.test('the second of the opening belongs to the dial', async (t) => {
    const phone = fresh();
    await phone.say('');
    const [{ date } = { date: '' }] = await query<{ date: string }>(
      `select to_char(date_trunc('second', max(at)) at time zone 'utc', 'YYYY-MM-DD HH24:MI:SS') as date from turns`,
    );
    await tell(url, noticeOf(phone, { date }));
    t.match(await newest(), { closed: true });
  });

  await t.test('rubbish is acknowledged, counted, and changes nothing', async (t) => {
    const phone = fresh();
    await phone.say('');
    const good = noticeOf(phone);
    const rows = async () => [await turns(), (await notices()).length];
    const before = await rows();
    const rubbish = await counted(url, 'rubbish');
    const fields = (more: Fields) => [JSON_TYPE, JSON.stringify({ ...good, ...more })];
    const all = [
      [JSON_TYPE, ''],
      [{}, ''],
      [JSON_TYPE, '{"date":'],
      [JSON_TYPE, 'null'],
      [JSON_TYPE, '[]'],
      [JSON_TYPE, '"OK"'],
      [FORM, ''],
      [FORM, 'date=%FF'],
      [FORM, JSON.stringify(good)],
      [{ 'content-type': 'text/xml' }, '<status/>'],
      [{ 'content-type': 'multipart/form-data; boundary=x' }, '--x'],
      [{ 'content-type': 'application/json; charset=utf-16' }, JSON.stringify(good)],
      [{ ...JSON_TYPE, 'content-encoding': 'gzip' }, JSON.stringify(good)],
      [JSON_TYPE, Buffer.from([0xff, 0xfe])],
      fields({ input: 'x'.repeat(70_000) }),
      fields({ date: undefined }),
      fields({ date: 'yesterday' }),
      fields({ date: '2026-02-30 12:00:00' }),
      fields({ date: '0000-01-01 00:00:00' }),
      fields({ date: '2026-01-01T12:00:00X' }),
      fields({ date: 1_767_000_000 }),
      fields({ sessionId: undefined }),
      fields({ sessionId: 'a b' }),
      fields({ sessionId: '' }),
      fields({ sessionId: 12 }),
      fields({ phoneNumber: '20880' }),
      fields({ phoneNumber: [phone.phoneNumber] }),
      fields({ status: ' ' }),
      fields({ status: null }),
      fields({ serviceCode: '123' }),
      [FORM, `${new URLSearchParams(good as Record<string, string>)}&sessionId=again`],
    ] as [Record<string, string>, string | Buffer][];
    for (const [headers, body] of all) {
      const answer = await ask(`${url}/ussd/status`, { method: 'POST', headers, body });
      t.match(told(answer), OK, body.toString().slice(0, 60));
    }
    t.equal(await counted(url, 'rubbish'), rubbish + all.length, `${all.length} kinds`);
    t.same(await rows(), before);
    t.match(await phone.say('1'), { outcome: 'ok', body: ACCOUNT });
  });

  await t.test('two at once, on two instances: one is stored, one row closes', async (t) => {
    for (let round = 0; round < 10; round += 1) {
      const phone = fresh();
      await phone.say('');
      const notice = noticeOf(phone);
      const before = (await notices()).length;
      const another = { ...notice, date: atSecond(3) };
      const answers = await Promise.all([
        tell(url, notice),
        tell(other.url, notice),
        tell(url, notice),
        tell(other.url, another),
        tell(url, another),
      ]);
      for (const answer of answers) t.match(answer, OK);
      const stored = (await notices()).slice(before);
      t.equal(stored.length, 2, 'each once');
      t.equal(stored.filter(({ closed }) => closed).length, 1, 'one of them closed it');
      t.match(await phone.say('1'), { body: EXPIRED });
    }
  });

  await t.test('copies of a turn that race the closing agree', async (t) => {
    const seen = new Set<string>();
    for (let round = 0; round < scaled(40, 20); round += 1) {
      const phone = fresh();
      await phone.say('');
      const { say, ...session } = phone;
      const elsewhere = () => post(other.url, { ...session, text: '1' }, '/ussd/session');
      const closing = tell(url, noticeOf(phone));
      // From well before the closing is committed to well after.
      await sleep(round % 10);
      const answers = await Promise.all([say('1'), elsewhere(), say('1'), elsewhere()]);
      await closing;
      const bodies = new Set([...answers, await say('1')].map(({ body }) => body));
      t.equal(bodies.size, 1, [...bodies].join(' | '));
      for (const each of bodies) seen.add(each);
    }
    // Which of the two it is depends on the moment; on a busy machine one of them may not come at all.
    t.ok(
      [...seen].every((body) => body === ACCOUNT || body === EXPIRED),
      [...seen].join(' | '),
    );
  });
});

t.test('a PIN in a notice is found nowhere', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const gateway = await startGateway(t, { DATABASE_URL, LOG_LEVEL: 'trace' });
  const { url } = gateway;
  const pin = '73916';
  const words = 'CANARYWORDS';
  const phone = dialler(() => url, '+254700777333');
  await phone.say('');
  const secrets = {
    input: `1*${pin}*${words}`,
    lastAppResponse: `CON ${words} ${pin}`,
    hopsMetadata: `${words}|${pin}`,
    errorMessage: `failed at ${pin} ${words}`,
    pin,
  };
  for (const [way, date] of [
    ['json', atSecond(0)],
    ['form', atSecond(1)],
  ] as const) {
    await tell(url, noticeOf(phone, { ...secrets, date }), way);
    await tell(url, noticeOf({ ...phone, sessionId: `unknown-${way}` }, { ...secrets, date }), way);
    await tell(url, noticeOf(phone, { ...secrets, date: words }), way);
    // The session, phone and date of one that is stored: a second one later it would be another notice.
    await tell(url, noticeOf(phone, { ...secrets, date, status: `${pin} ${words}` }), way);
  }
  const whole = JSON.stringify(noticeOf(phone, secrets));
  for (const [headers, body] of [
    [JSON_TYPE, whole.slice(0, -2)],
    [JSON_TYPE, whole.padEnd(9_000)],
    [{ 'content-type': `text/${words}` }, whole],
    [FORM, `${words}=%FF&input=${pin}`],
  ] as [Record<string, string>, string][]) {
    t.match(told(await ask(`${url}/ussd/status`, { method: 'POST', headers, body })), OK);
  }
  // An error of the statement, whose message would quote the row.
  const query: Query = await queryOn(t, DATABASE_URL);
  await query(`alter table ussd_notices add constraint canary check (status <> 'Failed') not valid`);
  const failed = await tell(url, noticeOf(phone, { ...secrets, status: 'Failed', date: atSecond(5) }));
  t.match(failed, { status: 503, body: 'Service unavailable' }, 'what could not be stored is to come again');
  await query(`alter table ussd_notices drop constraint canary`);

  t.equal((await query('select * from ussd_notices')).length, 4, 'notices were stored');
  const everything = `${await tables(DATABASE_URL)}\n${dump(DATABASE_URL) ?? ''}`;
  t.match(everything, /ussd_notices/);
  const metrics = await (await fetch(`${url}/metrics`)).text();
  for (const [where, text] of [
    ['the database', everything],
    ['the log', gateway.output()],
    ['the metrics', metrics],
  ] as [string, string][]) {
    t.same(foundIn(text, [words, '254700777333']), [], where);
    t.same(pinsIn(text, [pin]), [], where);
  }
  t.match(gateway.output(), /"msisdn":"m_[0-9a-f]{12}"/);
});

t.test('old notices go, and a rotation seals the others again', async (t) => {
  const { db } = await openDatabase(t);
  const [one, two] = ['k1:0123456789abcdef0123456789abcdef', 'k2:fedcba9876543210fedcba9876543210'];
  const kept = (keys: { ring: KeyRing; digestKey: Buffer }) =>
    openKeeping(db, { ...keys, book: 'demo' as const, messages: { dailyMax: 1, prefixes: [] } });
  const { takeNotice } = await engineOn(db, {
    ring: parseKeyRing(one),
    digestKey: Buffer.alloc(32, 7),
    documents: [menuOf('{ service: x, root: a, nodes: { a: { end: Bye } } }')],
    codes: { codes: new Map(), fallback: 'x' },
    ttl: 1_000,
  });
  for (const [index, error] of [undefined, 'first', 'second'].entries()) {
    const date = `2026-01-0${index + 1}T00:00:00Z`;
    const said = { gateway: 'africastalking', sessionId: 's', msisdn: '+260970000001', serviceCode: '*1#' };
    await takeNotice({ ...said, date, status: 'Failed', ...(error && { error }) }, deadlineIn(5_000));
  }
  const both = { ring: parseKeyRing(`${two},${one}`), digestKey: Buffer.alloc(32, 7) };
  const rotating = {
    ...(await kept(both)),
    ...both,
    db: db.kysely,
    services: [],
    house: async () => ({ removed: {}, unclosed: 0 }),
    say: () => {},
    enqueue: async () => {},
  };
  t.match(await COMMANDS['pins:rotate']?.(rotating, []), /^3 records .* under k2 now/, 'with the digest key');
  const { notices } = await kept({ ...both, ring: parseKeyRing(two) });
  t.equal(await notices.reseal(db.kysely), 0, 'the older key may leave the ring');
  await sql`update ussd_notices set received_at = now() - interval '36 days' where error is null`.execute(
    db.kysely,
  );
  t.equal(await notices.forget(db.kysely, 35), 1);
  t.equal((await sql`select from ussd_notices`.execute(db.kysely)).rows.length, 2);
});

t.test('the embedded database keeps notices alike', LONG_TIER, async (t) => {
  const { url } = await startGateway(t, { DATA_DIR: await embeddedDirectory(t) });
  const phone = dialler(() => url);
  t.equal((await phone.say('')).body, MAIN);
  const notice = noticeOf(phone, { errorMessage: 'gone' });
  const answers = await Promise.all([
    tell(url, notice),
    tell(url, notice),
    tell(url, noticeOf({ ...phone, sessionId: 'x' })),
  ]);
  for (const answer of answers) t.match(answer, OK);
  for (const outcome of ['stored', 'repeated', 'unmatched']) t.equal(await counted(url, outcome), 1, outcome);
  t.match(await phone.say('1'), { body: EXPIRED });
});

t.test('while the database is away a notice is asked for again', async (t) => {
  const server = await startPostgres({ own: true });
  t.teardown(() => server.stop());
  const { url: DATABASE_URL } = await database(t, { server: server.url });
  const { url } = await startGateway(t, { DATABASE_URL });
  const phone = dialler(() => url);
  await phone.say('');
  const notice = noticeOf(phone);
  await server.kill();
  const began = performance.now();
  t.match(await tell(url, notice), {
    status: 503,
    type: 'text/plain; charset=utf-8',
    body: 'Service unavailable',
  });
  inTime(t, performance.now() - began, 5_000, 'with the database gone');
  t.match(await tell(url, { ...notice, status: '' }), OK, 'rubbish is rubbish all the same');
  await server.restart();
  await eventually('the notice is taken', async () => (await tell(url, notice)).status === 200);
  t.equal(await counted(url, 'stored'), 1);
  t.match(await phone.say('1'), { body: EXPIRED });
});

t.test('a lock that somebody holds makes nobody wait beyond 5 s', async (t: Test) => {
  const { url: DATABASE_URL } = await database(t);
  const gateway: Gateway = await startGateway(t, { DATABASE_URL });
  const query = await queryOn(t, DATABASE_URL);
  await query('begin');
  await query('lock table ussd_notices in access exclusive mode');
  const began = performance.now();
  const phone = dialler(() => gateway.url);
  t.match(await tell(gateway.url, noticeOf(phone)), { status: 503 });
  inTime(t, performance.now() - began, 5_000, 'behind a lock');
  await query('rollback');
  t.match(await tell(gateway.url, noticeOf(phone)), OK);
});
