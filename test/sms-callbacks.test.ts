/**
 * What Africa's Talking tells us of messages (africastalking-sms): every curl of its reference with the printed
 * answer, messages that come in and are answered once, STOP and START, reports, subscriptions.
 */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { sql } from 'kysely';
import t, { type Test } from 'tap';
import { openKeeping } from '../src/engine.ts';
import { COMMANDS } from '../src/operator/commands.ts';
import { type KeyRing, parseKeyRing } from '../src/seal/keys.ts';
import { ask } from './support/ask.ts';
import { dump, foundIn, tables } from './support/canary.ts';
import { embeddedDirectory } from './support/embedded.ts';
import { openDatabase } from './support/engine.ts';
import { fakeAfricasTalking } from './support/fake-africastalking.ts';
import { environment, type Gateway, refusalOf, startGateway, temporaryDirectory } from './support/gateway.ts';
import { inTime } from './support/in-time.ts';
import { eventually, freshNumber, queryOn } from './support/phone.ts';
import { database, startPostgres } from './support/postgres.ts';
import { LONG_TIER } from './support/scale.ts';

const MAIN = join(import.meta.dirname, '..', 'src', 'main.ts');
const FORM = { 'content-type': 'application/x-www-form-urlencoded' };
const JSON_TYPE = { 'content-type': 'application/json' };
const SECRET = 'a-secret-of-callbacks';
const TOKEN = 'a-token-of-operators';

const TWOWAY = '/sms/twoway';
const REPORTS = '/sms/delivery-reports';
const OPT_OUT = '/sms/opt-out';
const SUBSCRIPTION = '/sms/subscription';

const PLAIN = 'text/plain; charset=utf-8';
const GOOD = { status: 200, type: PLAIN, body: 'GOOD' };
const BAD = { status: 400, type: PLAIN, body: 'BAD' };
const OK = { status: 200, type: PLAIN, body: 'OK' };
const AWAY = { status: 503, type: PLAIN, body: 'Service unavailable' };

const CONFIRMED_STOP = /^You will get no more messages from 12345\./;
const CONFIRMED_START = /^You will get messages from 12345 again\./;

type Way = 'form' | 'json';
type Fields = Record<string, unknown>;
const WAYS: Way[] = ['form', 'json'];

async function tell(url: string, path: string, fields: Fields, way: Way = 'form') {
  const kept = Object.entries(fields).filter(([, value]) => value !== undefined) as [string, string][];
  const body = way === 'json' ? JSON.stringify(fields) : new URLSearchParams(kept).toString();
  return raw(url, path, way === 'json' ? JSON_TYPE : FORM, body);
}

async function raw(url: string, path: string, headers: Record<string, string>, body: string | Buffer) {
  const { status, headers: said, body: words } = await ask(url + path, { method: 'POST', headers, body });
  return { status, type: said['content-type'], body: words.toString() };
}

/** `curl -d a=b -d c=d`, or the same fields as JSON. */
async function curl(url: string, path: string, way: Way, ...fields: string[]) {
  const joined = fields.join('&');
  if (way === 'form') return raw(url, path, FORM, joined);
  return raw(url, path, JSON_TYPE, JSON.stringify(Object.fromEntries(new URLSearchParams(joined))));
}

let ids = 0;
/** A message from a phone to the short code; fields may be replaced, and `undefined` leaves one out. */
function messageOf(from: string, text: string, more: Fields = {}): Fields {
  ids += 1;
  const id = `ATSid_${process.pid}_${ids}`;
  return { linkId: `link-${ids}`, text, to: '12345', id, date: '2026-03-04 10:30:00', from, ...more };
}

/** A gateway in front of a fake vendor that keeps what it is sent. */
async function shop(t: Test, processes = 1, settings: Record<string, string> = {}) {
  const { url: DATABASE_URL } = await database(t);
  const fake = await fakeAfricasTalking(t);
  const all = { DATABASE_URL, OPERATOR_TOKEN: TOKEN, ...fake.environment, ...settings };
  const gateways = await Promise.all(Array.from({ length: processes }, () => startGateway(t, all)));
  const query = await queryOn(t, DATABASE_URL);
  const [gateway] = gateways as [Gateway];
  const { url } = gateway;
  const write = async (from: string, text: string, more: Fields = {}) => {
    t.match(await tell(url, TWOWAY, messageOf(from, text, more)), GOOD, text);
  };
  /** What was sent to a phone, once nothing is queued any more. */
  const told = async (phone: string) => {
    await eventually('all is sent', async () => {
      const [row] = await query<{ count: number }>(
        `select count(*)::int as count from outbox where state = 'queued'`,
      );
      return row?.count === 0;
    });
    return fake.messages.filter(({ number }) => number === phone);
  };
  const texts = async (phone: string) => (await told(phone)).map(({ text }) => text);
  const answers = async () =>
    (await query<{ answer: string }>('select answer from sms_incoming order by at')).map(
      ({ answer }) => answer,
    );
  return { DATABASE_URL, gateway, gateways, url, fake, query, write, told, texts, answers };
}

async function counted(url: string, route: string, outcome: string): Promise<number> {
  const headers = { authorization: `Bearer ${TOKEN}` };
  const text = await (await fetch(`${url}/metrics`, { headers })).text();
  const found = new RegExp(`ussd_callbacks_total\\{route="${route}",outcome="${outcome}"\\} (\\d+)`).exec(
    text,
  );
  return Number(found?.[1] ?? 0);
}

t.test('the reference, and how it is answered', async (t) => {
  const closed = { CALLBACK_SECRET: SECRET, GATEWAY_ALLOW: '127.0.0.1' };
  const { url, gateway, fake, told, query } = await shop(t, 1, closed);

  await t.test('the status, with and without the slash', async (t) => {
    for (const path of ['/sms/', '/sms', `/c/${SECRET}/sms/`]) {
      const answer = await fetch(url + path);
      t.equal(answer.status, 200, path);
      t.match(answer.headers.get('content-type'), /^application\/json/);
      t.equal(await answer.text(), '{"service":"sms","status":"ready"}');
    }
    t.match(await ask(`${url}/sms/`, { method: 'HEAD' }), { status: 200 });
    t.match(await ask(`${url}/sms/`, { method: 'POST' }), { status: 405, headers: { allow: 'GET, HEAD' } });
  });

  await t.test('the curls as they are printed', async (t) => {
    for (const way of WAYS) {
      const id = way === 'form' ? 'ATSid_123' : 'ATSid_124';
      const twoway = [
        'linkId=SampleLinkId123',
        'text=Hello',
        'to=12345',
        `id=${id}`,
        'date=2026-03-04+10:30:00',
        'from=%2B254711000111',
      ];
      t.strictSame(await curl(url, TWOWAY, way, ...twoway), GOOD, `twoway as ${way}`);
      t.strictSame(await curl(url, TWOWAY, way, ...twoway), GOOD, 'and again');
      const report = [
        'id=ATXid_123',
        'status=Success',
        'phoneNumber=%2B254711000111',
        'networkCode=63902',
        'failureReason=',
        'retryCount=0',
      ];
      t.strictSame(await curl(url, REPORTS, way, ...report), OK, `report as ${way}`);
      const optOut = ['senderId=MyBrand', 'phoneNumber=%2B254711000111'];
      t.strictSame(await curl(url, OPT_OUT, way, ...optOut), OK, `opt-out as ${way}`);
      const subscription = [
        'phoneNumber=%2B254711000111',
        'shortCode=12345',
        'keyword=NEWS',
        'updateType=addition',
      ];
      t.strictSame(await curl(url, SUBSCRIPTION, way, ...subscription), OK, `subscription as ${way}`);
    }
    const sent = await told('+254711000111');
    t.equal(sent.length, 2, 'one answer each');
    for (const { text, from, fields } of sent) {
      t.equal(text, 'This is a response to: "Hello"');
      t.equal(from, '12345');
      t.match(fields, { linkId: 'SampleLinkId123', bulkSMSMode: '0' });
    }
    t.match(await query('select status, reason, network from sms_reports'), [
      { status: 'Success', reason: null, network: 63902 },
    ]);
    t.match(await query('select sender, ended_at from sms_opt_outs'), [
      { sender: 'MyBrand', ended_at: null },
    ]);
    t.match(await query('select short_code, keyword, active from sms_subscriptions'), [
      { short_code: '12345', keyword: 'NEWS', active: true },
    ]);
    t.match(await query('select short_code, link_id, answer, sent_at from sms_incoming limit 1'), [
      {
        short_code: '12345',
        link_id: 'SampleLinkId123',
        answer: 'reply',
        sent_at: new Date('2026-03-04T10:30:00Z'),
      },
    ]);
    for (const [route, outcome, count] of [
      [TWOWAY, 'stored', 2],
      [TWOWAY, 'repeated', 2],
      [REPORTS, 'unmatched', 1],
      [REPORTS, 'repeated', 1],
      [OPT_OUT, 'stored', 1],
      [OPT_OUT, 'repeated', 1],
      [SUBSCRIPTION, 'stored', 1],
      [SUBSCRIPTION, 'repeated', 1],
    ] as [string, string, number][]) {
      t.equal(await counted(url, route, outcome), count, `${route} ${outcome}`);
    }
  });

  await t.test('without a linkId, and a number with and without its plus', async (t) => {
    const phone = '+254711000222';
    for (const from of [phone, phone.slice(1), ` ${phone.slice(1)}`]) {
      t.match(await tell(url, TWOWAY, messageOf(from, 'Hi', { linkId: undefined })), GOOD, from);
    }
    const sent = await told(phone);
    t.equal(sent.length, 3);
    t.notOk(sent.some(({ fields }) => 'linkId' in fields));
    for (const linkId of ['', null, 12, ['a']]) {
      t.match(await tell(url, TWOWAY, messageOf(freshNumber(), 'Hi', { linkId }), 'json'), GOOD);
    }
    for (const phoneNumber of [phone, phone.slice(1)]) {
      t.match(await tell(url, OPT_OUT, { senderId: 'Plus', phoneNumber }), OK);
    }
    t.equal((await query(`select from sms_opt_outs where sender = 'Plus'`)).length, 1);
  });

  await t.test('under the secret of callbacks, with one line in the log for each', async (t) => {
    const secret = `${url}/c/${SECRET}`;
    t.match(await tell(secret, TWOWAY, messageOf(freshNumber(), 'Hi')), GOOD);
    for (const path of [REPORTS, OPT_OUT, SUBSCRIPTION]) t.match(await tell(secret, path, {}), OK);
    t.match(await tell(secret, TWOWAY, {}), BAD);
    t.match(await tell(`${url}/c/another-secret-of-them`, TWOWAY, {}), { status: 404 });
    const line =
      /"route":"\/sms\/twoway","outcome":"stored","authenticated":true,"msisdn":"m_\w{12}","answer":"reply"/;
    await eventually('the line', async () => line.test(gateway.output()));
    t.match(gateway.output(), /"route":"\/sms\/opt-out","outcome":"rubbish","authenticated":true/);
  });

  await t.test('other methods, and the OpenAPI', async (t) => {
    for (const path of [TWOWAY, REPORTS, OPT_OUT, SUBSCRIPTION]) {
      for (const method of ['GET', 'PUT', 'DELETE']) {
        t.match(await ask(url + path, { method }), { status: 405, headers: { allow: 'POST' } }, path);
      }
    }
    const openapi = (await (await fetch(`${url}/docs/json`)).json()) as { paths: Record<string, Fields> };
    const post = { requestBody: { content: { 'application/json': {}, [FORM['content-type']]: {} } } };
    for (const path of [TWOWAY, REPORTS, OPT_OUT, SUBSCRIPTION]) {
      t.match(openapi.paths[path], { post }, path);
    }
    t.match(openapi.paths['/sms/'], { get: {} });
    const schema = JSON.stringify(openapi.paths[TWOWAY]);
    t.match(schema, '"required":["text","to","id","date","from"]', 'linkId is not required');
  });

  t.equal(fake.messages.filter(({ number }) => !number.startsWith('+')).length, 0);
});

t.test('who may call, and how often', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const shut = await startGateway(t, { DATABASE_URL, GATEWAY_ALLOW: '10.9.9.9' });
  t.equal((await ask(`${shut.url}/sms/`)).status, 403);
  for (const path of [TWOWAY, REPORTS, OPT_OUT, SUBSCRIPTION]) {
    t.equal((await ask(shut.url + path, { method: 'POST' })).status, 403, path);
  }
  const few = await startGateway(t, { DATABASE_URL, OPERATOR_TOKEN: TOKEN, RATE_LIMIT_MAX: '1' });
  t.match(await tell(few.url, OPT_OUT, {}), OK);
  for (const path of [TWOWAY, REPORTS, OPT_OUT, SUBSCRIPTION]) {
    t.match(await tell(few.url, path, {}), { status: 429, type: PLAIN, body: 'Too many requests' });
    t.equal(await counted(few.url, path, 'limited'), 1, path);
  }
  t.equal((await ask(`${few.url}/sms/`)).status, 429);
});

/** Bodies that nobody can read, whatever the route. */
const UNREADABLE: [Record<string, string>, string | Buffer][] = [
  [JSON_TYPE, ''],
  [{}, ''],
  [JSON_TYPE, '{"id":'],
  [JSON_TYPE, 'null'],
  [JSON_TYPE, '[]'],
  [JSON_TYPE, '"OK"'],
  [FORM, ''],
  [FORM, 'id=%FF'],
  [{ 'content-type': 'text/xml' }, '<sms/>'],
  [{ 'content-type': 'multipart/form-data; boundary=x' }, '--x'],
  [JSON_TYPE, Buffer.from([0xff, 0xfe])],
];

t.test('rubbish is counted, dropped, and changes nothing', async (t) => {
  const { url, query } = await shop(t);
  const phoneNumber = '+254711000111';
  const message = messageOf(phoneNumber, 'Hello');
  const report = { id: 'ATXid_1', status: 'Success', phoneNumber };
  const optOut = { phoneNumber, senderId: 'MyBrand' };
  const subscription = { phoneNumber, shortCode: '12345', keyword: 'NEWS', updateType: 'addition' };
  const numbers = [
    undefined,
    '',
    'Safaricom',
    '12345',
    '+0711000111',
    254_711_000_111.5,
    ['+254711000111'],
    null,
  ];
  const badNumbers = numbers.map((bad) => ({ phoneNumber: bad }));
  const cases: [path: string, good: Fields, answer: object, wrong: Fields[]][] = [
    [
      TWOWAY,
      message,
      BAD,
      ['text', 'to', 'id', 'date', 'from'].flatMap((name) =>
        [undefined, '', null, 1.5, true, ['a'], { a: 1 }].map((bad) => ({ [name]: bad })),
      ),
    ],
    [
      REPORTS,
      report,
      OK,
      [
        ...badNumbers,
        ...[undefined, '', 'a b', 1.5, ['ATXid_1'], 'x'.repeat(101)].map((id) => ({ id })),
        ...[undefined, '', 'Delivered', 'Succes', 1, ['Success'], '__proto__'].map((status) => ({ status })),
      ],
    ],
    [OPT_OUT, optOut, OK, badNumbers],
    [
      SUBSCRIPTION,
      subscription,
      OK,
      [
        ...badNumbers,
        ...[undefined, '', '12', 'a code', 12].map((shortCode) => ({ shortCode })),
        ...[undefined, '', 'x'.repeat(41), '254711000111', 'a\tb', ['NEWS']].map((keyword) => ({ keyword })),
        ...[undefined, '', 'added', 'renewal', 1].map((updateType) => ({ updateType })),
      ],
    ],
  ];
  for (const [path, good, answer, wrong] of cases) {
    for (const fields of wrong) {
      t.match(
        await tell(url, path, { ...good, ...fields }, 'json'),
        answer,
        `${path} ${JSON.stringify(fields)}`,
      );
    }
    for (const [headers, body] of UNREADABLE) {
      t.match(await raw(url, path, headers, body), answer, `${path} ${body.toString().slice(0, 20)}`);
    }
    const [name = ''] = Object.keys(good).filter((each) => each !== 'linkId');
    const twice = `${new URLSearchParams(good as Record<string, string>)}&${name}=again`;
    t.match(await raw(url, path, FORM, twice), answer, `${path} twice ${name}`);
    const all = wrong.length + UNREADABLE.length + 1;
    t.equal(await counted(url, path, 'rubbish'), all, `${path}: ${all} kinds`);
  }
  for (const table of ['messages', 'sms_incoming', 'sms_reports', 'sms_opt_outs', 'sms_subscriptions']) {
    t.equal((await query(`select from ${table}`)).length, 0, table);
  }
  for (const [path, good, answer] of cases) {
    t.match(await tell(url, path, good, 'json'), path === TWOWAY ? GOOD : answer, `${path}, a good one`);
  }
});

t.test('a message that comes in', async (t) => {
  const { url, gateways, fake, query, write, told, texts, answers } = await shop(t, 2);

  await t.test('twenty copies over two processes: stored once, answered once', async (t) => {
    for (const round of [1, 2, 3, 4, 5]) {
      const phone = freshNumber();
      const message = messageOf(phone, `Round ${round}`);
      const before = (await query('select from sms_incoming')).length;
      const all = await Promise.all(
        Array.from({ length: 20 }, (_, index) =>
          tell((gateways[index % 2] as Gateway).url, TWOWAY, message, WAYS[index % 2]),
        ),
      );
      for (const answer of all) t.match(answer, GOOD);
      t.equal((await query('select from sms_incoming')).length, before + 1, 'stored once');
      t.same(await texts(phone), [`This is a response to: "Round ${round}"`], 'answered once');
      t.match(await tell(url, TWOWAY, { ...message, text: 'Other words' }), GOOD, 'much later');
      t.equal((await texts(phone)).length, 1, 'the first one stands');
    }
    const outcomes = await Promise.all(
      gateways.map(async (each) => [
        await counted(each.url, TWOWAY, 'stored'),
        await counted(each.url, TWOWAY, 'repeated'),
      ]),
    );
    t.same(
      outcomes.reduce(([a = 0, b = 0], [c = 0, d = 0]) => [a + c, b + d], [0, 0]),
      [5, 100],
    );
  });

  await t.test('any text is quoted as it is, as far as there is room', async (t) => {
    for (const text of ['a "quoted" $& $1 word', 'two\nlines', 'Ça marche 🎉', '{text} {shortCode}', ' ']) {
      const phone = freshNumber();
      await write(phone, text);
      t.same(await texts(phone), [`This is a response to: "${text}"`]);
    }
    const [odd, long] = [freshNumber(), freshNumber()];
    t.match(await tell(url, TWOWAY, messageOf(odd, 'a\ud800b\u0000c\u202ed'), 'json'), GOOD);
    t.same(await texts(odd), ['This is a response to: "a\ufffdbcd"'], 'well-formed, and nothing hides in it');
    t.match(await tell(url, TWOWAY, messageOf(long, '🎉'.repeat(1_700)), 'json'), GOOD);
    const [cut] = await texts(long);
    t.equal(cut, `This is a response to: "${'🎉'.repeat(52)}..."`, 'two SMS, cut between characters');
  });

  await t.test('nobody is answered who is no phone', async (t) => {
    const before = fake.messages.length;
    const senders = ['12345', 'Safaricom', '+12345', 'INFO-SMS', '0711000111', '+0711000111', 'nobody'];
    for (const from of senders) await write(from, 'STOP');
    for (const from of senders) await write(from, 'Hello');
    await write(freshNumber(), 'Hello', { to: 'MyBrand' });
    await write(freshNumber(), 'Hello', { to: '+254711000999' });
    await told('');
    t.equal(fake.messages.length, before);
    t.same((await answers()).slice(-16), [...Array(14).fill('no_number'), 'no_sender', 'no_sender']);
    t.equal((await query('select from sms_opt_outs')).length, 0);
  });

  await t.test('an answer of ours is not answered', async (t) => {
    for (const text of [
      'This is a response to: "Hello"',
      'THIS IS A  RESPONSE\nTO: "Hello" and more',
      'Auto reply: This is a response to: "Hello"',
      'This is a response to',
      'Thank you. We have received your message.',
      'You will get no more messages from 12345. To get them again, text START to 12345.',
      'You will get messages from 12345 again. To stop them, text STOP to 12345.',
    ]) {
      const phone = freshNumber();
      await write(phone, text);
      t.same(await texts(phone), [], text);
      t.same((await answers()).slice(-1), ['loop']);
    }
    // Two robots: each answers what the other says, for as long as it says something.
    const robot = freshNumber();
    let says = 'Hello';
    for (let round = 1; round <= 5; round += 1) {
      await write(robot, says);
      says = (await texts(robot)).at(-1) ?? '';
    }
    t.equal((await texts(robot)).length, 1);
  });

  await t.test('three answers an hour for a phone, five a day', async (t) => {
    const phone = freshNumber();
    await Promise.all(
      Array.from({ length: 8 }, (_, index) =>
        tell((gateways[index % 2] as Gateway).url, TWOWAY, messageOf(phone, `Number ${index}`)),
      ),
    );
    t.equal((await texts(phone)).length, 3, 'also when they come at once');
    t.same((await answers()).slice(-8).sort(), [...Array(5).fill('over_hour'), ...Array(3).fill('reply')]);
    await write(phone, 'STOP');
    t.match((await texts(phone)).slice(3), [CONFIRMED_STOP], 'a STOP is confirmed all the same');
    await query(`update sms_incoming set at = at - interval '2 hours'`);
    await write(phone, 'Hello');
    await write(phone, 'Hello');
    t.equal((await texts(phone)).length, 5, 'five in a day, of all kinds');
    t.same((await answers()).slice(-1), ['over_day']);
    await write(phone, 'START');
    await write(phone, 'STOP');
    t.equal((await texts(phone)).length, 5, 'without a word');
    const rows = await query(`select from sms_opt_outs where ended_at is null`);
    t.equal(rows.length, 1, 'but done');
  });
});

t.test('STOP and START', async (t) => {
  const { url, gateways, fake, query, write, texts, answers } = await shop(t, 2);
  const open = async (sender?: string) =>
    (
      await query<{ sender: string }>(
        `select sender from sms_opt_outs where ended_at is null order by sender`,
      )
    )
      .map((row) => row.sender)
      .filter((name) => sender === undefined || name === sender);
  const bulk = async (...phones: string[]) => {
    const query = `phone=${phones.map((phone) => phone.slice(1)).join(',')}&message=News`;
    const headers = { authorization: `Bearer ${TOKEN}` };
    const told = await ask(`${url}/sms/invoke-bulk-sms?${query}`, { headers });
    const { response } = JSON.parse(told.body.toString()) as {
      response: { SMSMessageData: { Recipients: { status: string }[] } };
    };
    return response.SMSMessageData.Recipients.map(({ status }) => status);
  };

  await t.test('a story', async (t) => {
    const phone = freshNumber();
    t.same(await bulk(phone), ['Success']);
    await write(phone, 'stop');
    t.same(await open(), ['12345']);
    t.match((await texts(phone)).slice(1), [CONFIRMED_STOP]);
    t.same(await bulk(phone), ['UserInBlacklist'], 'of every sender');
    await write(phone, 'STOP');
    await write(phone, 'Unsubscribe please');
    t.same((await answers()).slice(-2), ['stop_again', 'stop_again']);
    t.equal((await texts(phone)).length, 2, 'no second confirmation');
    t.match(await tell(url, OPT_OUT, { senderId: 'MyBrand', phoneNumber: phone }), OK);
    t.same(await open(), ['12345', 'MyBrand']);
    await write(phone, 'Start');
    t.same(await open(), [], 'all of them ended');
    t.match((await texts(phone)).slice(2), [CONFIRMED_START]);
    t.same(await bulk(phone), ['Success']);
    await write(phone, 'START');
    t.same((await answers()).slice(-1), ['start_again']);
    t.match(await tell(url, OPT_OUT, { senderId: 'MyBrand', phoneNumber: phone }), OK);
    t.same(await open(), ['MyBrand'], 'a new opt-out');
    t.same(await bulk(phone), ['UserInBlacklist']);
  });

  await t.test('every word, in every spelling', async (t) => {
    const stops = [
      'STOP',
      'Stop.',
      ' stop ',
      '"STOP"',
      'STOP ALL',
      'stopall',
      'UNSUBSCRIBE',
      'Opt-out',
      'ARRET',
    ];
    for (const word of [...stops, 'Arrêt', 'arre\u0302t!', 'STOP sending me this', 'END', 'quit', 'Cancel']) {
      const phone = freshNumber();
      await write(phone, word);
      t.match(await texts(phone), [CONFIRMED_STOP], word);
    }
    for (const word of [
      'The end',
      'End of the month?',
      'Stopwatch',
      'nonstop',
      'Please stop',
      'cancel order 5',
    ]) {
      const phone = freshNumber();
      await write(phone, word);
      t.match(await texts(phone), [/^This is a response/], word);
    }
    for (const word of ['START', 'start!', 'UNSTOP', 'Yes', 'OUI', 'Start NEWS']) {
      const phone = freshNumber();
      await tell(url, OPT_OUT, { senderId: 'Words', phoneNumber: phone });
      await write(phone, 'Yes I know');
      t.match(await texts(phone), [/^This is/]);
      t.same(await open('Words'), ['Words'], 'no START');
      await write(phone, word);
      t.same(await open('Words'), [], word);
      t.match((await texts(phone)).slice(1), [CONFIRMED_START], word);
      await write(phone, word);
      t.equal((await texts(phone)).length, 2, 'once');
    }
    const never = freshNumber();
    await write(never, 'YES');
    t.same(await texts(never), ['This is a response to: "YES"'], 'nothing was refused: a text like others');
  });

  await t.test('ten STOPs at once, on two instances', async (t) => {
    const phone = freshNumber();
    const all = Array.from({ length: 10 }, (_, index) =>
      tell((gateways[index % 2] as Gateway).url, TWOWAY, messageOf(phone, 'STOP')),
    );
    for (const answer of await Promise.all(all)) t.match(answer, GOOD);
    t.match(await texts(phone), [CONFIRMED_STOP]);
    const more = Array.from({ length: 10 }, (_, index) =>
      tell((gateways[index % 2] as Gateway).url, OPT_OUT, { senderId: 'AtOnce', phoneNumber: phone }),
    );
    for (const answer of await Promise.all(more)) t.match(answer, OK);
    t.same(await open('AtOnce'), ['AtOnce']);
  });

  await t.test('what comes late does not undo what was said after it', async (t) => {
    const [one, two] = [freshNumber(), freshNumber()];
    await write(one, 'STOP', { date: '2026-03-04 10:00:00' });
    await write(one, 'START', { date: '2026-03-04 10:05:00' });
    await write(one, 'STOP', { date: '2026-03-04 10:10:00' });
    const before = await open();
    t.ok(before.includes('12345'));
    await write(one, 'START', { date: '2026-03-04 10:05:00' });
    t.same(await open(), before, 'a START from before the last STOP');
    t.same((await answers()).slice(-1), ['start_again']);

    await tell(url, OPT_OUT, { senderId: 'Late', phoneNumber: two });
    await write(two, 'START', { date: '2026-03-04 10:05:00' });
    await write(two, 'STOP', { date: '2026-03-04 10:00:00' });
    t.same(await open(), before, 'a STOP from before the START');
    await write(two, 'START', { date: '2099-01-01 00:00:00' });
    await write(two, 'STOP', { date: '2026-03-04 10:06:00' });
    t.equal((await open()).length, before.length + 1, 'the future is not believed');
  });

  await t.test('senders that could be numbers are kept as digests, and stop bulk alike', async (t) => {
    const phone = freshNumber();
    for (const senderId of ['+254711000999', '254711000999', 'A sender of more than 14', '0711-000-111 a']) {
      t.match(await tell(url, OPT_OUT, { senderId, phoneNumber: phone }), OK, senderId);
    }
    t.equal((await open()).filter((name) => /^#[0-9a-f]{32}$/.test(name)).length, 4);
    t.same(await bulk(phone), ['UserInBlacklist']);
    await write(phone, 'START');
    t.same(await bulk(phone), ['Success']);
  });

  t.ok(fake.messages.length > 30);
});

t.test('reports', async (t) => {
  const { url, query, write, told } = await shop(t);
  const phone = freshNumber();
  await write(phone, 'Hello');
  const [sent] = await told(phone);
  const id = sent?.messageId ?? '';
  const state = async () => (await query<{ state: string }>('select state from messages'))[0]?.state;
  const report = (fields: Fields) =>
    tell(url, REPORTS, { id, phoneNumber: phone, status: 'Sent', ...fields });
  const odd = { networkCode: 'x', retryCount: [1], failureReason: [1] };
  t.match(await tell(url, REPORTS, { id, phoneNumber: phone, status: 'Submitted', ...odd }, 'json'), OK);
  t.equal(await state(), 'submitted', 'what cannot be read of the rest is left out');
  for (const status of [
    'Sent',
    'Buffered',
    'Submitted',
    'AbsentSubscriber',
    'Success',
    'Rejected',
    'Expired',
  ]) {
    t.match(await report({ status, failureReason: 'UserIsAbsent' }), OK, status);
  }
  t.equal(await state(), 'failed', 'the first of the last ones stands');
  t.match(await query('select code, network from messages'), [{ code: 'UserIsAbsent' }]);
  t.match(await report({ status: 'Success', phoneNumber: freshNumber() }), OK);
  t.equal(await counted(url, REPORTS, 'unmatched'), 1, 'of another phone');
  for (const [index, [failureReason, reason]] of [
    ['A new reason', 'A new reason'],
    ['x'.repeat(99), 'x'.repeat(40)],
    ['', null],
    ['User +254711000111 is absent', null],
    ['User 254711000111 is absent', null],
    ['<b>', null],
  ].entries()) {
    const fields = { id: `ATXid_of_${index}`, status: 'Failed', networkCode: '63902', retryCount: '3' };
    t.match(await report({ ...fields, failureReason }), OK);
    const rows = await query('select reason, network from sms_reports where provider_id = $1', [fields.id]);
    t.same(rows, [{ reason, network: 63902 }], `${failureReason}`);
  }
});

t.test('subscriptions', async (t) => {
  const { url, gateways, query } = await shop(t, 2);
  const phoneNumber = freshNumber();
  const say = (updateType: string, more: Fields = {}, at = url) =>
    tell(at, SUBSCRIPTION, { phoneNumber, shortCode: '12345', keyword: 'NEWS', updateType, ...more });
  const history = async () =>
    (
      await query<{ state: string }>(
        `select keyword || ' ' || active as state from sms_subscriptions order by id`,
      )
    ).map((row) => row.state);
  for (const update of ['addition', 'addition', 'deletion', 'deletion', 'addition']) {
    t.match(await say(update), OK, update);
  }
  t.same(await history(), ['NEWS true', 'NEWS false', 'NEWS true']);
  await say('addition', { keyword: 'news', phoneNumber: phoneNumber.slice(1) });
  await say('addition', { keyword: 'SPORT' });
  t.same((await history()).slice(3), ['SPORT true']);
  for (let round = 0; round < 10; round += 1) {
    const update = round % 2 === 0 ? 'deletion' : 'addition';
    const before = (await history()).length;
    const all = Array.from({ length: 6 }, (_, index) =>
      say(update, {}, (gateways[index % 2] as Gateway).url),
    );
    for (const answer of await Promise.all(all)) t.match(answer, OK);
    t.equal((await history()).length, before + 1, 'one row for a change, however often it is said');
  }
});

t.test('production: nothing is quoted to whom anybody could name', async (t) => {
  const settings = { NODE_ENV: 'production', CALLBACK_SECRET: SECRET };
  const { url, texts } = await shop(t, 1, settings);
  const phone = freshNumber();
  t.match(await tell(url, TWOWAY, messageOf(phone, 'Send money to my new number')), { status: 403 });
  t.same(await texts(phone), []);
  t.match(await tell(`${url}/c/${SECRET}`, TWOWAY, messageOf(phone, 'Hello')), GOOD);
  t.same(await texts(phone), ['This is a response to: "Hello"'], 'by the secret');
  const listed = await shop(t, 1, { NODE_ENV: 'production', GATEWAY_ALLOW: '127.0.0.1' });
  await listed.write(phone, 'Hello');
  t.same(await listed.texts(phone), ['This is a response to: "Hello"'], 'by its network');
});

t.test("answers of one's own", async (t) => {
  const directory = temporaryDirectory(t);
  const file = join(directory, 'replies.yaml');
  const words = `
stop: { first: [STOP], alone: [], reply: "" }
start: { first: [START], alone: [], reply: "Welcome back." }
`;
  writeFileSync(
    file,
    `${words}
replies:
  "*":
    HELP: We are open from 8 to 17.
    "*": { reply: "You wrote {text} to {shortCode}.", unquoted: We have it. }
  "20880":
    info: All about 20880.
    QUIET: ""
    "*": ""
`,
  );
  await t.test('by short code and keyword', async (t) => {
    const own = { SMS_REPLIES: file, AT_SHORTCODE: '20880', AT_KEYWORD: 'SHOP' };
    const { write, texts, answers, query } = await shop(t, 1, own);
    for (const [to, text, answer] of [
      ['12345', 'help', 'We are open from 8 to 17.'],
      ['12345', 'Help! Me.', 'We are open from 8 to 17.'],
      ['12345', 'helper', 'You wrote helper to 12345.'],
      ['20880', 'Info now', 'All about 20880.'],
      ['20880', 'SHOP info', undefined],
      ['20880', 'help', undefined],
      ['20880', 'quiet', undefined],
      ['20880', 'Hello', undefined],
      ['12345', 'You wrote to', 'You wrote You wrote to to 12345.'],
    ] as [string, string, string | undefined][]) {
      const phone = freshNumber();
      await write(phone, text, { to });
      t.same(await texts(phone), answer === undefined ? [] : [answer], `${to} ${text}`);
    }
    const phone = freshNumber();
    await write(phone, 'Shop stop', { to: '20880' });
    t.same((await answers()).slice(-1), ['stop_unsaid'], 'behind the keyword that a short code is shared by');
    t.match(await query('select sender, ended_at from sms_opt_outs'), [{ sender: '20880', ended_at: null }]);
    t.same(await texts(phone), [], 'no confirmation where none is written');
    await write(phone, 'START', { to: '20880' });
    t.same(await texts(phone), ['Welcome back.']);
  });

  await t.test('a wrong document stops the start', async (t) => {
    for (const [text, ...lines] of [
      ['stop: [', /replies\.yaml:1: /],
      [`${words}replies: {}\nmore: 1`, /replies\.yaml:\d+: document: .*more/],
      [`${words}replies: { "*": { "*": "{text}" } }`, /replies\.yaml:4: replies\.\*\.\*: .*unquoted/],
      [`${words}replies: { "*": { "*": "Hi {name}" } }`, /replies\.yaml:4: replies\.\*\.\*: .*\{name\}/],
      [`${words}replies: { shop: { "*": Hi } }`, /replies\.yaml:4: replies\.shop: /],
      [
        `${words}replies: { "*": { five words are too many: Hi } }`,
        /replies\.yaml:4: replies\.\*\.five words/,
      ],
      [words.replace('[STOP]', '[]'), /replies\.yaml:2: stop\.first: /, /replies\.yaml: replies: /],
    ] as [string, ...RegExp[]][]) {
      writeFileSync(file, text);
      const { said = [] } = await refusalOf(t, { DATABASE_URL: 'postgres://nowhere', SMS_REPLIES: file });
      t.equal(said.length, lines.length, said.join('\n'));
      for (const [index, line] of lines.entries()) t.match(said[index], line);
    }
    const env = environment({ DATA_DIR: join(directory, 'data'), SMS_REPLIES: join(directory, 'none.yaml') });
    const { status, stderr, stdout } = spawnSync(process.execPath, [MAIN], { env, encoding: 'utf8' });
    t.equal(status, 1);
    const [title, ...said] = stderr.trimEnd().split('\n');
    t.equal(title, 'ussd gateway cannot start:');
    t.match(said, [/^ {2}SMS_REPLIES: .*none\.yaml cannot be read \(ENOENT\)$/]);
    t.equal(said.length, 1);
    t.notMatch(stderr + stdout, /^\s+at /m, 'no stack');
  });
});

t.test('who writes what is found nowhere', async (t) => {
  const { DATABASE_URL, url, gateway, query, told } = await shop(t);
  const [phone, digits, words] = ['+254700777444', '254700777444', 'CANARYWORDS'];
  for (const way of WAYS) {
    await tell(url, TWOWAY, messageOf(phone, `${words} is my name`), way);
    await tell(url, TWOWAY, messageOf(phone, `STOP ${words}`, { date: words, linkId: `a ${words}` }), way);
    await tell(url, TWOWAY, messageOf(phone, words, { to: phone, id: `${phone} ${words}` }), way);
    await tell(url, TWOWAY, messageOf(words, words), way);
    await tell(url, TWOWAY, messageOf(phone, words, { date: '', [words]: words }), way);
    const report = { id: 'ATXid_9', status: 'Failed', phoneNumber: phone };
    await tell(url, REPORTS, { ...report, failureReason: `${digits}`, text: words }, way);
    await tell(url, REPORTS, { ...report, id: `ATXid_8`, status: words }, way);
    await tell(url, OPT_OUT, { senderId: digits, phoneNumber: phone }, way);
    await tell(url, OPT_OUT, { senderId: phone, phoneNumber: words }, way);
    const change = { phoneNumber: phone, shortCode: '12345', keyword: 'NEWS', updateType: 'addition' };
    await tell(url, SUBSCRIPTION, change, way);
    await tell(url, SUBSCRIPTION, { ...change, keyword: digits, updateType: words }, way);
  }
  // Errors of the statement, whose message would quote the row.
  for (const [table, path, fields, answer] of [
    ['sms_incoming', TWOWAY, messageOf(phone, words), AWAY],
    ['sms_opt_outs', OPT_OUT, { senderId: 'Canary', phoneNumber: phone }, AWAY],
    [
      'sms_subscriptions',
      SUBSCRIPTION,
      { phoneNumber: phone, shortCode: '999', keyword: 'X', updateType: 'addition' },
      AWAY,
    ],
    ['sms_reports', REPORTS, { id: 'ATXid_7', status: 'Failed', phoneNumber: phone }, AWAY],
  ] as [string, string, Fields, object][]) {
    await query(`alter table ${table} add constraint canary check (phone is null) not valid`);
    t.match(await tell(url, path, fields), answer, `${path}: what could not be kept is to come again`);
    await query(`alter table ${table} drop constraint canary`);
    t.match(await tell(url, path, fields), path === TWOWAY ? GOOD : OK);
  }
  await told(phone);
  t.ok((await query('select from sms_incoming')).length >= 8);
  const everything = `${await tables(DATABASE_URL)}\n${dump(DATABASE_URL) ?? ''}`;
  t.match(everything, /sms_incoming/);
  const headers = { authorization: `Bearer ${TOKEN}` };
  const metrics = await (await fetch(`${url}/metrics`, { headers })).text();
  for (const [where, text] of [
    ['the database', everything],
    ['the log', gateway.output()],
    ['the metrics', metrics],
  ] as [string, string][]) {
    t.same(foundIn(text, [words, digits]), [], where);
  }
  t.match(gateway.output(), /"msisdn":"m_[0-9a-f]{12}"/);
  t.match(metrics, /ussd_sms_incoming_total\{answer="reply"\} \d/);
});

t.test('old messages go, and a rotation seals the others again', async (t) => {
  const { db } = await openDatabase(t);
  const [one, two] = ['k1:0123456789abcdef0123456789abcdef', 'k2:fedcba9876543210fedcba9876543210'];
  const digestKey = Buffer.alloc(32, 7);
  const keep = (ring: KeyRing) =>
    openKeeping(db, { ring, digestKey, book: 'demo' as const, messages: { dailyMax: 1, prefixes: [] } });
  const first = await keep(parseKeyRing(one));
  const from = '+260970000001';
  const message = { from, msisdn: from, to: '12345', shortCode: '12345', text: 'Hello' };
  await db.kysely.transaction().execute(async (tx) => {
    for (const id of ['a', 'b', 'c']) await first.incoming.add(tx, { ...message, id });
    await first.subscriptions.change(tx, { msisdn: from, shortCode: '1', keyword: 'a', active: true });
    t.equal(await first.optOuts.optOut(tx, from, 'MyBrand'), true);
    t.equal(await first.optOuts.optOut(tx, from, 'MyBrand'), false);
  });
  const phones = [from, '+260970000002'].map((each) => first.digests.phone(each));
  t.same([...(await first.optOuts.optedOut(db.kysely, phones))], [phones[0]?.toString('hex')]);
  t.same([...(await first.optOuts.optedOut(db.kysely, []))], []);

  const ring = parseKeyRing(`${two},${one}`);
  const rotating = {
    ...(await keep(ring)),
    ring,
    db: db.kysely,
    services: [],
    house: async () => ({ removed: {}, unclosed: 0 }),
    say: () => {},
    enqueue: async () => {},
  };
  t.match(await COMMANDS['pins:rotate']?.(rotating, []), /^5 records .* under k2 now/, 'with the digest key');
  const last = await keep(parseKeyRing(two));
  t.equal(await last.incoming.reseal(db.kysely), 0, 'the older key may leave the ring');
  t.equal(await last.subscriptions.reseal(db.kysely), 0);
  const days = (count: number) => sql`now() - ${count} * interval '1 day'`;
  await sql`update sms_incoming set at = ${days(31)} where id = (select min(id::text)::bytea from sms_incoming)`.execute(
    db.kysely,
  );
  await last.incoming.forget(db.kysely, 30);
  t.equal((await sql`select from sms_incoming`.execute(db.kysely)).rows.length, 2);
});

t.test('the embedded database does alike', LONG_TIER, async (t) => {
  const DATA_DIR = await embeddedDirectory(t);
  const { url } = await startGateway(t, { OPERATOR_TOKEN: TOKEN, DATA_DIR });
  const phone = freshNumber();
  const message = messageOf(phone, 'Hello');
  const all = await Promise.all([1, 2, 3].map(() => tell(url, TWOWAY, message)));
  for (const answer of all) t.match(answer, GOOD);
  t.equal(await counted(url, TWOWAY, 'stored'), 1);
  for (const text of ['STOP', 'START', 'STOP'])
    t.match(await tell(url, TWOWAY, messageOf(phone, text)), GOOD);
  t.match(await tell(url, OPT_OUT, { senderId: 'MyBrand', phoneNumber: phone }), OK);
  t.match(await tell(url, REPORTS, { id: 'x', status: 'Sent', phoneNumber: phone }), OK);
  const change = { phoneNumber: phone, shortCode: '12345', keyword: 'NEWS' };
  for (const updateType of ['addition', 'addition', 'deletion']) {
    t.match(await tell(url, SUBSCRIPTION, { ...change, updateType }), OK);
  }
  t.equal(await counted(url, SUBSCRIPTION, 'stored'), 2);
});

t.test('while the database is away it is all asked for again', async (t) => {
  const server = await startPostgres({ own: true });
  t.teardown(() => server.stop());
  const { url: DATABASE_URL } = await database(t, { server: server.url });
  const { url } = await startGateway(t, { DATABASE_URL, OPERATOR_TOKEN: TOKEN });
  const phoneNumber = freshNumber();
  const all: [string, Fields, object, object][] = [
    [TWOWAY, messageOf(phoneNumber, 'Hello'), GOOD, BAD],
    [REPORTS, { id: 'x', status: 'Sent', phoneNumber }, OK, OK],
    [OPT_OUT, { senderId: 'MyBrand', phoneNumber }, OK, OK],
    [SUBSCRIPTION, { phoneNumber, shortCode: '12345', keyword: 'NEWS', updateType: 'addition' }, OK, OK],
  ];
  await server.kill();
  for (const [path, fields, , rubbish] of all) {
    const began = performance.now();
    t.match(await tell(url, path, fields), AWAY, path);
    inTime(t, performance.now() - began, 5_000, path);
    t.match(await tell(url, path, {}), rubbish, 'rubbish is rubbish all the same');
    t.equal(await counted(url, path, 'unavailable'), 1);
  }
  t.match(await ask(`${url}/sms/`), { status: 200 }, 'the status does not ask the database');
  await server.restart();
  for (const [path, fields, answer] of all) {
    await eventually(path, async () => (await tell(url, path, fields)).status === 200);
    t.match(await tell(url, path, fields), answer);
  }
});

t.test('a lock that somebody holds makes nobody wait beyond 5 s', async (t) => {
  const { DATABASE_URL, url } = await shop(t);
  const query = await queryOn(t, DATABASE_URL);
  await query('begin');
  await query('lock table sms_incoming, sms_opt_outs in access exclusive mode');
  const message = messageOf(freshNumber(), 'Hello');
  const asked: [string, Fields][] = [
    [TWOWAY, message],
    [OPT_OUT, { senderId: 'MyBrand', phoneNumber: freshNumber() }],
  ];
  await Promise.all(
    asked.map(async ([path, fields]) => {
      const began = performance.now();
      t.match(await tell(url, path, fields), AWAY);
      inTime(t, performance.now() - began, 5_000, path);
    }),
  );
  await query('rollback');
  t.match(await tell(url, TWOWAY, message), GOOD);
});
