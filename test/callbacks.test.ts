/**
 * Callbacks as providers send them: long texts in every encoding, dates and words of the world, reports that move a
 * message on together with its explanation, and a person who says no without saying to whom.
 */

import { once } from 'node:events';
import { createServer } from 'node:net';
import t from 'tap';
import { segmentsOf } from '../src/flow/text.ts';
import { ask } from './support/ask.ts';
import { startGateway } from './support/gateway.ts';
import { eventually, freshNumber, queryOn } from './support/phone.ts';
import { database } from './support/postgres.ts';

const FORM = { 'content-type': 'application/x-www-form-urlencoded' };
const JSON_TYPE = { 'content-type': 'application/json' };
const TOKEN = 'a-token-of-operators';
const BEARER = { authorization: `Bearer ${TOKEN}` };

type Fields = Record<string, unknown>;

const { url: DATABASE_URL } = await database(t);
const settings = { DATABASE_URL, OPERATOR_TOKEN: TOKEN, AT_SHORTCODE: '20880' };
const gateway = await startGateway(t, settings);
const { url } = gateway;
const query = await queryOn(t, DATABASE_URL);

async function raw(path: string, headers: Record<string, string>, body: string) {
  const told = await ask(url + path, { method: 'POST', headers, body });
  return `${told.status} ${told.body.toString()}`;
}
const asForm = (path: string, fields: Fields) =>
  raw(path, FORM, new URLSearchParams(fields as Record<string, string>).toString());
const asJson = (path: string, fields: Fields) => raw(path, JSON_TYPE, JSON.stringify(fields));
/** JSON in which every character of a text is written as an escape. */
const asEscapes = (path: string, fields: Fields) =>
  raw(
    path,
    JSON_TYPE,
    JSON.stringify(fields).replaceAll(
      /[^ -~]/g,
      (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
    ),
  );

async function counted(route: string, outcome: string): Promise<number> {
  const text = (await ask(`${url}/metrics`, { headers: BEARER })).body.toString();
  const line = new RegExp(`ussd_callbacks_total\\{route="${route}",outcome="${outcome}"\\} (\\d+)`);
  return Number(line.exec(text)?.[1] ?? 0);
}

const FAILED = '200 {"status":"Failed"}';
const NOTICE = {
  date: '2026-03-04 10:30:00',
  sessionId: 'spelt',
  serviceCode: '*1234#',
  status: 'Success',
};

let ids = 0;
function messageOf(text: string, more: Fields = {}): Fields {
  ids += 1;
  const id = `ATSid_${process.pid}_${ids}`;
  return {
    text,
    to: '20880',
    id,
    date: '2026-03-04 10:30:00',
    from: freshNumber(),
    linkId: `link-${ids}`,
    ...more,
  };
}

t.test('a text of 1,600 characters arrives in every script and encoding', async (t) => {
  const texts = [
    'ሰ'.repeat(1_000),
    'ሰ'.repeat(1_600),
    'ሰ'.repeat(17_085),
    '🎉'.repeat(700),
    '🎉'.repeat(1_600),
    'नमस्ते '.repeat(230),
    'é'.repeat(1_400),
    'Δ'.repeat(39_015),
    'x'.repeat(39_015),
  ];
  for (const text of texts) {
    for (const tell of [asForm, asJson, asEscapes]) {
      const before = await counted('/sms/twoway', 'stored');
      t.equal(
        await tell('/sms/twoway', messageOf(text)),
        '200 GOOD',
        `${text.length} of ${text.slice(0, 2)}`,
      );
      t.equal(await counted('/sms/twoway', 'stored'), before + 1);
    }
  }
  const [sent] = await query<{ most: number; count: number }>(
    `select max(segments)::int as most, count(*)::int as count from sms_calls where kind = 'twoWay'`,
  );
  t.match(sent, { most: 2, count: texts.length * 3 }, 'and no answer takes more than two SMS');
});

t.test('a body that is too long for any text is acknowledged, counted and dropped', async (t) => {
  const report = { id: 'ATXid_long', status: 'Success', phoneNumber: freshNumber() };
  const routes: [path: string, good: Fields, answer: string][] = [
    ['/sms/twoway', messageOf('Hello'), '200 GOOD'],
    ['/sms/delivery-reports', report, '200 OK'],
    ['/sms/opt-out', { senderId: 'MyBrand', phoneNumber: freshNumber() }, '200 OK'],
    [
      '/sms/subscription',
      { phoneNumber: freshNumber(), shortCode: '20880', keyword: 'NEWS', updateType: 'addition' },
      '200 OK',
    ],
    ['/ussd/status', {}, '200 OK'],
    ['/twilio/task-events', {}, '200 OK'],
    ['/airtime/status', {}, '200 OK'],
    ['/airtime/validation', {}, '200 {"status":"Failed"}'],
  ];
  for (const [path, good, answer] of routes) {
    const before = await counted(path, 'rubbish');
    t.equal(await asForm(path, { ...good, more: 'x'.repeat(300_000) }), answer, `${path} as a form`);
    t.equal(await asJson(path, { ...good, more: 'x'.repeat(2_000_000) }), answer, `${path} as JSON`);
    const chunked = { ...FORM, 'transfer-encoding': 'chunked' };
    t.equal(await raw(path, chunked, `more=${'x'.repeat(300_000)}`), answer, `${path} without a length`);
    t.equal(await counted(path, 'rubbish'), before + 3);
  }
  t.equal((await query('select from sms_opt_outs')).length, 0);
  t.equal((await query('select from sms_reports')).length, 0);
});

t.test('what is plainly meant is read, however a provider spells it', async (t) => {
  const bare = () => freshNumber().slice(1);
  const routes: [path: string, fields: Fields, answer?: string][] = [
    ['/sms/twoway', messageOf('Hello', { from: Number(bare()), to: 20_880, text: 1_234 }), '200 GOOD'],
    ['/sms/delivery-reports', { id: 12_345, status: 'success', phoneNumber: Number(bare()) }],
    ['/sms/opt-out', { senderId: 20_880, phoneNumber: Number(bare()) }],
    [
      '/sms/subscription',
      { phoneNumber: Number(bare()), shortCode: 20_880, keyword: 'NEWS', updateType: 'Addition' },
    ],
    ['/ussd/status', { ...NOTICE, phoneNumber: Number(bare()) }],
    ['/airtime/status', { phoneNumber: Number(bare()), status: 'success', requestId: 'ATQid_1' }],
    ['/airtime/validation', { phoneNumber: Number(bare()), currency: 'KES', amount: 50 }, FAILED],
  ];
  for (const [path, fields, answer = '200 OK'] of routes) {
    const before = await counted(path, 'rubbish');
    t.equal(await asJson(path, fields), answer, `${path}: numbers in JSON`);
    // A plus that is not escaped in a form is a space.
    const [phone, more] = path === '/sms/twoway' ? ['from', messageOf('Hi')] : ['phoneNumber', fields];
    const rest = new URLSearchParams({ ...(more as Record<string, string>), [phone]: '' }).toString();
    const form = rest.replace(`${phone}=`, `${phone}=+${bare()}`);
    t.equal(await raw(path, FORM, form), answer, `${path}: an unescaped plus`);
    t.equal(await counted(path, 'rubbish'), before, path);
  }
});

t.test('an empty text is BAD, and counted', async (t) => {
  const before = await counted('/sms/twoway', 'rubbish');
  for (const tell of [asForm, asJson]) t.equal(await tell('/sms/twoway', messageOf('')), '400 BAD');
  t.equal(await counted('/sms/twoway', 'rubbish'), before + 2);
});

t.test('the end of a session, with all that its fields may hold', async (t) => {
  const dial = async () => {
    const session = { sessionId: `ATUid_${freshNumber()}`, serviceCode: '*123#', phoneNumber: freshNumber() };
    t.match(await asForm('/ussd/session', { ...session, text: '' }), /^200 CON/);
    return session;
  };
  const over = async (session: Fields, more: Fields, tell = asForm) => {
    const date = new Date(Date.now() + 2_000).toISOString().replace(/\.\d+/, '');
    t.equal(await tell('/ussd/status', { ...session, date, status: 'Success', ...more }), '200 OK');
    const [row] = await query<{ status: string; closed: boolean; at: string }>(
      `select status, closed, ended_at::text as at from ussd_notices order by id desc limit 1`,
    );
    return row;
  };
  const long = 'ሰ'.repeat(182);
  const more = {
    input: long,
    lastAppResponse: long,
    errorMessage: '🎉'.repeat(200),
    hopsMetadata: long.repeat(5),
  };
  for (const tell of [asForm, asJson, asEscapes]) {
    const session = await dial();
    t.match(await over(session, more, tell), { status: 'Success', closed: true });
    t.match(await asForm('/ussd/session', { ...session, text: '1' }), '200 END Session expired');
  }
  for (const [status, kept] of [
    ['Success', 'Success'],
    ['Timed Out', 'Timed Out'],
    ['success', 'success'],
    ['Cancelled-by_user (504)', 'Cancelled-by_user (504)'],
    ['Échec', 'Échec'],
    ['x'.repeat(500), 'x'.repeat(40)],
    ['PIN 12345', 'Unknown'],
    ['+254711000111', 'Unknown'],
    ['a\u0000b', 'Unknown'],
    [7, '7'],
  ]) {
    t.match(await over(await dial(), { status }, asJson), { status: kept, closed: true }, `${status}`);
  }
  const odd = await counted('/ussd/status', 'rubbish');
  for (const status of ['', ' ', null, undefined, ['Success'], {}])
    t.equal(
      await asJson('/ussd/status', { ...(await dial()), date: '2026-03-04 10:30:00', status }),
      '200 OK',
    );
  t.equal(await counted('/ussd/status', 'rubbish'), odd + 6);
  for (const [date, at] of [
    ['2026-03-04 10:30:00', '2026-03-04 10:30:00'],
    ['2026-03-04T10:30:00Z', '2026-03-04 10:30:00'],
    ['2026-03-04T10:30:00.123Z', '2026-03-04 10:30:00'],
    ['2026-03-04T10:30:00.123456', '2026-03-04 10:30:00'],
    ['2026-03-04T10:30:00+03:00', '2026-03-04 07:30:00'],
    ['2026-03-04T10:30:00 03:00', '2026-03-04 07:30:00'],
    ['2026-03-04T22:30:00-0330', '2026-03-05 02:00:00'],
    ['2026-03-04 10:30:00 UTC', '2026-03-04 10:30:00'],
  ]) {
    const row = await over(await dial(), { date });
    t.equal(row?.at, `${at}+00`, `${date}`);
  }
  const bad = [
    '2026-02-30T10:30:00Z',
    '2026-03-04',
    'yesterday',
    '2026-03-04T25:00:00Z',
    '2026-03-04T10:30:00+99:00',
  ];
  const rows = (await query('select from ussd_notices')).length;
  for (const date of bad) await over(await dial(), { date });
  t.equal((await query('select from ussd_notices')).length, rows);
});

t.test('a message that comes in with a date of ISO 8601', async (t) => {
  const message = messageOf('Hello', { date: '2026-03-04T10:30:00.5+03:00' });
  t.equal(await asForm('/sms/twoway', message), '200 GOOD');
  const [row] = await query(`select sent_at::text as at from sms_incoming order by at desc limit 1`);
  const sent = await query(`select 1 from sms_incoming where sent_at = '2026-03-04T07:30:00Z'`);
  t.equal(sent.length, 1, JSON.stringify(row));
});

type Recipient = { number: string; statusCode: number; messageId: string };

/** One text to all of these; what is said of each, in their order. */
async function bulk(...phones: string[]): Promise<Recipient[]> {
  const path = `/sms/invoke-bulk-sms?phone=${encodeURIComponent(phones.join(','))}&message=Hi`;
  const answer = JSON.parse((await ask(url + path, { headers: BEARER })).body.toString());
  const recipients: Recipient[] = answer.response.SMSMessageData.Recipients;
  return phones.map((phone) => recipients.find(({ number }) => number === phone) as Recipient);
}

t.test('an opt-out without a sender stops bulk until START', async (t) => {
  const ways = (
    [
      [asForm, {}],
      [asForm, { senderId: '' }],
      [asForm, { senderId: '  ' }],
      [asJson, {}],
      [asJson, { senderId: null }],
      [asJson, { senderId: ['MyBrand'] }],
      [asJson, { senderId: {} }],
      [asJson, { senderId: 20880 }],
    ] as [typeof asForm, Fields][]
  ).map(([tell, more]) => ({ tell, more, phoneNumber: freshNumber() }));
  const said = async () =>
    (await bulk(...ways.map(({ phoneNumber }) => phoneNumber))).map(({ statusCode }) => statusCode);
  t.same(await said(), Array(ways.length).fill(101));
  for (const { tell, more, phoneNumber } of ways) {
    t.equal(await tell('/sms/opt-out', { phoneNumber, ...more }), '200 OK');
    t.equal(await tell('/sms/opt-out', { phoneNumber, ...more }), '200 OK', 'and again');
  }
  t.same(await said(), Array(ways.length).fill(406));
  const senders = await query<{ sender: string }>('select distinct sender from sms_opt_outs order by sender');
  t.same(
    senders.map(({ sender }) => sender),
    ['', '20880'],
  );
  for (const { phoneNumber } of ways)
    t.equal(await asForm('/sms/twoway', messageOf('START', { from: phoneNumber })), '200 GOOD');
  t.same(await said(), Array(ways.length).fill(101));
  const before = await counted('/sms/opt-out', 'rubbish');
  t.equal(await asForm('/sms/opt-out', { senderId: 'MyBrand' }), '200 OK');
  t.equal(
    await counted('/sms/opt-out', 'rubbish'),
    before + 1,
    'without a phone there is nobody who said it',
  );
});

t.test('REVOKE and OPT OUT end messages', async (t) => {
  const texts = ['REVOKE', 'opt out', 'OptOut', 'Opt-Out please', 'Hello'];
  const phones = texts.map(() => freshNumber());
  for (const [index, text] of texts.entries())
    t.equal(await asForm('/sms/twoway', messageOf(text, { from: phones[index] })), '200 GOOD');
  t.same(
    (await bulk(...phones)).map(({ statusCode }) => statusCode),
    [406, 406, 406, 406, 101],
  );
});

t.test('a report moves a message on together with its explanation', async (t) => {
  const seen = async (phone: string) => {
    const path = `/api/sms/messages?phoneNumber=${encodeURIComponent(phone)}`;
    const { messages } = JSON.parse((await ask(url + path, { headers: BEARER })).body.toString());
    return messages[0] as { state: string; code: string | null };
  };
  const reports: [status: string, reason: string | undefined, state: string, code: string][] = [
    ['Sent', undefined, 'sent', 'simulated'],
    ['Submitted', undefined, 'submitted', 'submitted'],
    ['Buffered', undefined, 'buffered', 'buffered'],
    ['Buffered', 'AbsentSubscriber', 'buffered', 'AbsentSubscriber'],
    ['Success', undefined, 'delivered', 'success'],
    ['Success', 'UserIsAbsent', 'delivered', 'success'],
    ['Failed', undefined, 'failed', 'failed'],
    ['Failed', 'InsufficientCredit', 'failed', 'InsufficientCredit'],
    ['Failed', 'User +254711000111 is absent', 'failed', 'failed'],
    ['AbsentSubscriber', undefined, 'failed', 'absent_subscriber'],
    ['AbsentSubscriber', '', 'failed', 'absent_subscriber'],
    ['Rejected', undefined, 'rejected', 'rejected'],
    ['Rejected', 'UserInBlackList', 'rejected', 'UserInBlackList'],
    ['Expired', undefined, 'expired', 'expired'],
  ];
  const phones = [...reports, undefined].map(() => freshNumber());
  const sent = await bulk(...phones);
  for (const [index, [status, failureReason, state, code]] of reports.entries()) {
    const phoneNumber = phones[index] ?? '';
    const report = { id: sent[index]?.messageId, phoneNumber, status };
    const all = failureReason === undefined ? report : { ...report, failureReason };
    t.equal(await asForm('/sms/delivery-reports', all), '200 OK');
    t.match(await seen(phoneNumber), { state, code }, `${status} ${failureReason}`);
  }
  // One after the other: what explained a state does not explain the next.
  const { number: phoneNumber, messageId: id } = sent.at(-1) as Recipient;
  const report = (more: Fields) => asForm('/sms/delivery-reports', { id, phoneNumber, ...more });
  await report({ status: 'Buffered', failureReason: 'AbsentSubscriber' });
  await report({ status: 'Success' });
  t.match(await seen(phoneNumber), { state: 'delivered', code: 'success' });
  await report({ status: 'Failed', failureReason: 'TooLate' });
  t.match(
    await seen(phoneNumber),
    { state: 'delivered', code: 'success' },
    'the first of the last ones stands',
  );
});

t.test('senders of bulk SMS: ten SMS in any script, by GET and by POST', async (t) => {
  const messages = ['ሰ'.repeat(670), 'Δ'.repeat(1_530), '🎉'.repeat(330), '€'.repeat(760)];
  const path = '/sms/invoke-bulk-sms';
  const answers = messages.flatMap((message) => {
    const form = new URLSearchParams({ phone: freshNumber(), message }).toString();
    return [
      ask(`${url + path}?${form}`, { headers: BEARER }),
      ask(url + path, { method: 'POST', headers: { ...BEARER, ...FORM }, body: form }),
    ];
  });
  for (const { status } of await Promise.all(answers)) t.equal(status, 200);
  for (const message of messages) t.equal(segmentsOf(message), 10);
  // Ten thousand phones, however they are written.
  const phone = Array.from({ length: 10_000 }, (_, index) => `+25471100${String(index).padStart(4, '0')}`);
  const wrong = { phone: [...phone, 'nobody'], message: 'x'.repeat(1_530) };
  for (const body of [
    JSON.stringify(wrong, undefined, 8),
    JSON.stringify(wrong).replaceAll('+', '\\u002b'),
  ]) {
    const headers = { ...BEARER, ...JSON_TYPE };
    const told = await ask(url + path, { method: 'POST', headers, body });
    t.equal(`${told.status} ${told.body}`, '400 {"error":"More than 10000 phones in one request"}');
  }
  const tooLong = await ask(`${url + path}?phone=${encodeURIComponent(phone.join(','))}`, {
    headers: BEARER,
  });
  t.equal(tooLong.status, 431, 'a URL that is too long is said to be');
  t.match(tooLong.body.toString(), /POST/);
});

t.test('a queue that only fails is seen in the log, once a minute', async (t) => {
  await gateway.stop();
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  await new Promise((done) => server.close(done));
  const account = { AT_USERNAME: 'shop', AT_API_KEY: 'atsk_hush', AT_BASE_URL: `http://127.0.0.1:${port}` };
  const failing = await startGateway(t, { ...settings, ...account });
  const send = `${failing.url}/sms/invoke-bulk-sms?message=Hi&phone=`;
  const asked = [freshNumber(), freshNumber()].map((phone) =>
    ask(send + encodeURIComponent(phone), { headers: BEARER }),
  );
  const lines = () =>
    failing
      .output()
      .split('\n')
      .filter((line) => /"level":"warn".*"code":"unreachable"/.test(line));
  await eventually('a line', async () => lines().length > 0);
  for (const answer of await Promise.all(asked)) t.equal(answer.status, 202);
  await eventually('two failures', async () => {
    const rows = await query(`select from outbox where error = 'unreachable' and attempts > 0`);
    return rows.length === 2;
  });
  t.equal(lines().length, 1);
  t.match(JSON.parse(lines()[0] ?? ''), { level: 'warn', kind: 'sms', code: 'unreachable', failed: 1 });
});
