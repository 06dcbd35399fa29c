/** What is kept of messages and for how long, what is nowhere to be read, and what an older version left behind. */

import { randomUUID } from 'node:crypto';
import * as fs from 'node:fs/promises';
import * as path from 'node:path';
import { Kysely, PostgresDialect } from 'kysely';
import { FileMigrationProvider, Migrator } from 'kysely/migration';
import pg from 'pg';
import t, { type Test } from 'tap';
import { openPostgres } from '../src/db/database.ts';
import { migrateServer } from '../src/db/migrate.ts';
import { openKeeping } from '../src/engine.ts';
import { startQueue } from '../src/queue.ts';
import { Box } from '../src/seal/box.ts';
import { parseKeyRing } from '../src/seal/keys.ts';
import { ask } from './support/ask.ts';
import { dump, foundIn, tables } from './support/canary.ts';
import { MIGRATIONS } from './support/engine.ts';
import { fakeAfricasTalking } from './support/fake-africastalking.ts';
import { startGateway, TEST_KEY, TRIED_SOON } from './support/gateway.ts';
import { eventually, queryOn } from './support/phone.ts';
import { database } from './support/postgres.ts';

t.jobs = 2;

const PATIENCE_MS = 90_000;
const OPERATOR_TOKEN = 'a-token-for-this-test';
const HEADERS = { authorization: `Bearer ${OPERATOR_TOKEN}`, 'content-type': 'application/json' };

async function keepingOf(t: Test, url: string) {
  const opened = openPostgres(url, () => {});
  t.teardown(() => opened.close());
  const { messages, messageView, digests } = await openKeeping(opened, {
    ring: parseKeyRing(TEST_KEY),
    messages: { dailyMax: 1_000, prefixes: [] },
    book: 'real',
  });
  return { opened, db: opened.kysely, messages, messageView, digests };
}

t.test('texts are dropped after their days', async (t) => {
  const { url } = await database(t);
  await migrateServer(url, MIGRATIONS);
  const { db, messages, messageView } = await keepingOf(t, url);
  const query = await queryOn(t, url);
  const write = (to: string[]) =>
    db
      .transaction()
      .execute((tx) => messages.write(tx, { kind: 'bulk', body: 'A text', to, cause: 'operator' }));
  const put = (call: string, states: string[], days: number) =>
    Promise.all([
      query(
        `update messages m set state = ($2::text[])[n] from (select id, row_number() over (order by id)::int as n
         from messages where call_id = $1) numbered where numbered.id = m.id`,
        [call, states],
      ),
      query(`update sms_calls set created_at = now() - $2 * interval '1 day' where id = $1`, [call, days]),
    ]);
  const phones = ['+254755000001', '+254755000002'];
  const calls: [string, string[], number, boolean][] = [];
  for (const [states, days, kept] of [
    [['sent', 'delivered'], 31, false],
    [['failed', 'rejected'], 400, false],
    [['expired', 'buffered'], 31, false],
    [['sent', 'delivered'], 29, true],
    [['sent', 'queued'], 31, true],
    [['queued', 'queued'], 3_000, true],
    [['promised', 'failed'], 400, true],
  ] as const) {
    const { call } = await write(phones);
    await put(call, [...states], days);
    calls.push([call, [...states], days, kept]);
  }
  const asked = Buffer.alloc(16);
  for (const [name, days] of [
    ['old', 31],
    ['young', 29],
  ] as const) {
    await query(
      `insert into sms_requests (key, id, asked, at) values ($1, $2, $3, now() - $4 * interval '1 day')`,
      [Buffer.from(name), randomUUID(), asked, days],
    );
  }
  await messages.forget(db, 30);
  await messages.forget(db, 30);
  for (const [call, states, days, kept] of calls) {
    const [row] = await query<{ has: boolean }>(
      'select body is not null as has from sms_calls where id = $1',
      [call],
    );
    t.equal(row?.has, kept, `${states} of ${days} days`);
    const waiting = states.filter((state) => state === 'queued').length;
    const call_ = await messages.toSend(db, call);
    t.equal(call_?.to.length ?? 0, waiting, 'what is queued can be sent');
    if (waiting > 0) t.equal(call_?.text, 'A text');
  }
  t.same(await query(`select convert_from(key, 'utf8') as key from sms_requests`), [{ key: 'young' }]);
  t.equal((await messageView.list(db, {}, 100)).length, 14, 'the rows stay');
  t.equal((await messageView.list(db, { msisdn: phones[0] }, 100)).length, 7, 'by number too');
  t.match(await messageView.find(db, calls[0]?.[0] ?? ''), { phoneNumber: phones[0], segments: 1 });
  t.equal(await messages.reseal(db), 0, 'rotation passes over what is gone');
});

t.test('nowhere to be read', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const fake = await fakeAfricasTalking(t);
  const settings = { DATABASE_URL, OPERATOR_TOKEN, AT_SHORTCODE: '12345', ...fake.environment };
  // Everything that is logged is read here.
  const gateway = await startGateway(t, { ...settings, LOG_LEVEL: 'trace' }, TRIED_SOON);
  const query = await queryOn(t, DATABASE_URL);
  const digits = '254766987651';
  const number = `+${digits}`;
  const other = '254766987652';
  const text = 'CANARYTEXT sings: grün 😀';
  const key = 'CANARYKEY-of-a-request';
  const send = (path: string, fields: Record<string, unknown>, more: Record<string, string> = {}) =>
    ask(`${gateway.url}/sms/invoke-${path}-sms`, {
      method: 'POST',
      headers: { ...HEADERS, ...more },
      body: JSON.stringify(fields),
    });
  const query_ = `phone=${digits}&message=${encodeURIComponent(text)}`;
  // Sent, both ways; told twice; refused by one, by all and for good; late, broken, and never answered.
  for (const path of ['bulk', 'twoway']) {
    await ask(`${gateway.url}/sms/invoke-${path}-sms?${query_}`, { headers: HEADERS });
    await send(path, { phone: [digits, other], message: text }, { 'idempotency-key': key + path });
    await send(path, { phone: [digits, other], message: text }, { 'idempotency-key': key + path });
    await send(path, { phone: [digits], message: `${text}?` }, { 'idempotency-key': key + path });
  }
  fake.smsCodes.set(number, 406);
  await send('bulk', { phone: [digits, other], message: text });
  fake.next({ status: 400, body: `${number} ${text}` });
  await send('bulk', { phone: digits, message: text });
  fake.smsCodes.clear();
  fake.next(
    { status: 500, body: `${number} ${text}` },
    { status: 201, body: `${number} ${text}` },
    'truncated',
  );
  await send('bulk', { phone: digits, message: text });
  // What is wrong with a request is told to whoever made it, and to nobody else.
  await send('bulk', { phone: [digits, `0${digits}x`], message: text });
  await send('bulk', { phone: digits, message: `${text}\u0000` });
  await send('bulk', { phone: Number(digits), message: [text] });
  await send('bulk', { phone: digits, message: text.repeat(200) });
  await ask(`${gateway.url}/sms/invoke-bulk-sms?${query_}`);
  await ask(`${gateway.url}/sms/invoke-bulk-sms?${query_}&phone=x`, { headers: HEADERS });
  await ask(`${gateway.url}/sms/invoke-no-sms?${query_}`, { headers: HEADERS });
  await ask(`${gateway.url}/sms/invoke-bulk-sms?${query_}`, { method: 'DELETE', headers: HEADERS });
  for (const words of [`?phoneNumber=${digits}`, `?phoneNumber=${digits}&state=x`, `/${digits}`, `/${text}`])
    await ask(`${gateway.url}/api/sms/messages${encodeURI(words)}`, { headers: HEADERS });
  // A fault of the database quotes the row.
  await query(`alter table messages add constraint canary check (cause <> 'operator') not valid`);
  t.equal((await send('bulk', { phone: digits, message: text })).status, 503);
  await query('alter table messages drop constraint canary');
  await query('alter table messages rename column code to code_');
  t.equal((await send('bulk', { phone: digits, message: text })).status, 503);
  await query('alter table messages rename column code_ to code');
  await eventually(
    'the queue to be empty',
    async () => (await query(`select id from outbox where state = 'queued'`)).length === 0,
    PATIENCE_MS,
  );
  t.ok(fake.messagesOf({ number }).length >= 5, 'it was sent');

  const needles = [digits.slice(2), other.slice(2), 'CANARYTEXT', 'sings', 'CANARYKEY'];
  const everywhere = async (what: string) => {
    t.same(foundIn(await tables(DATABASE_URL), needles), [], `${what}: in no table`);
    const dumped = dump(DATABASE_URL);
    if (dumped === undefined) t.comment('no pg_dump of this version here: the tables were read instead');
    else {
      t.match(dumped, 'COPY public.sms_calls', 'pg_dump wrote the calls');
      t.same(foundIn(dumped, needles), [], `${what}: nor in a dump`);
    }
    t.same(foundIn(gateway.output(), needles), [], `${what}: nor in the log`);
  };
  await everywhere('while it runs');
  t.match(gateway.output(), /"kind":"twoWay","count":1,"msisdn":"m_[0-9a-f]{12}"/, 'the pseudonym is');
  const metrics = await ask(`${gateway.url}/metrics`, { headers: HEADERS });
  t.same(foundIn(metrics.body, needles), [], 'nor in the metrics');
  const effects = await ask(`${gateway.url}/api/effects?limit=100`, { headers: HEADERS });
  t.same(foundIn(effects.body, needles), [], 'nor in the list of what leaves');
  const list = await ask(`${gateway.url}/api/sms/messages?limit=100`, { headers: HEADERS });
  t.same(foundIn(list.body, needles), [digits.slice(2), other.slice(2)], 'support sees whose they are only');
  await gateway.stop();
  await everywhere('when it has stopped');
});

/** As a version before would have left the database. */
async function migrateTo(url: string, name: string): Promise<void> {
  const pool = new pg.Pool({ connectionString: url, max: 1 });
  const db = new Kysely<unknown>({ dialect: new PostgresDialect({ pool }) });
  try {
    const provider = new FileMigrationProvider({ fs, path, migrationFolder: MIGRATIONS });
    const { error } = await new Migrator({ db, provider }).migrateTo(name);
    if (error !== undefined) throw error;
  } finally {
    await db.destroy();
  }
}

t.test('what the version before has written', async (t) => {
  const { url: DATABASE_URL } = await database(t, { empty: true });
  await migrateTo(DATABASE_URL, '0004-wallet');
  const query = await queryOn(t, DATABASE_URL);
  const { digests, opened, db } = await keepingOf(t, DATABASE_URL);
  const box = new Box(parseKeyRing(TEST_KEY), 'columns');
  /** As the version before seals and writes it. */
  const older = (column: string, id: string, value: string) =>
    box.seal(Buffer.from(value), Buffer.from(`messages.${column}\0${id}`));
  const insert = async (number: string, text: string, state: string) => {
    const id = randomUUID();
    await query(
      `insert into messages (id, phone, msisdn, body, cause, state) values ($1, $2, $3, $4, 'subscriber', $5)`,
      [id, digests.phone(number), older('msisdn', id, number), older('body', id, text), state],
    );
    return id;
  };
  const before = await insert('+254777000001', 'Written before', 'queued');
  const promised = await insert('+254777000002', '', 'promised');
  const sent = await insert('+254777000003', 'Sent before', 'sent');
  const failed = await insert('+254777000004', 'Failed before', 'failed');

  t.equal((await migrateServer(DATABASE_URL, MIGRATIONS))[0], '0005-sms');
  const beside = await insert('+254777000005', 'Written beside', 'queued');
  const promisedBeside = await insert('+254777000006', '', 'promised');
  for (const [id, text] of [
    [promised, 'Kept beside'],
    [promisedBeside, 'Promised and kept beside'],
  ] as const)
    await query(`update messages set state = 'queued', body = $2 where id = $1 and state = 'promised'`, [
      id,
      older('body', id, text),
    ]);
  t.same(
    await query('select id from messages where body is not null'),
    [],
    'a text stands in one place only',
  );
  t.same(await query('select id from messages where call_id is distinct from id'), []);

  const fake = await fakeAfricasTalking(t);
  const gateway = await startGateway(t, { DATABASE_URL, OPERATOR_TOKEN, ...fake.environment });
  const queue = await startQueue(opened, (error) => t.fail(error.message));
  t.teardown(() => queue.stop());
  await db.transaction().execute(async (tx) => {
    for (const id of [before, promised, sent, beside, promisedBeside]) await queue.enqueue(tx, 'sms', { id });
  });
  await eventually(
    'all to be sent',
    async () => (await query(`select id from outbox where state = 'queued'`)).length === 0,
    PATIENCE_MS,
  );
  t.same(
    fake.messages.map(({ number, text }) => `${number} ${text}`).toSorted(),
    [
      '+254777000001 Written before',
      '+254777000002 Kept beside',
      '+254777000005 Written beside',
      '+254777000006 Promised and kept beside',
    ],
    'each of them, and nothing that was sent before',
  );
  t.same(
    fake.messages.map(({ key }) => key).toSorted(),
    [before, promised, beside, promisedBeside].toSorted(),
    'by the key that the version before would have used',
  );
  // What had failed before can still be tried again.
  await query(`insert into outbox (id, kind, state) values ($1, 'sms', 'dead')`, [failed]);
  const revived = await ask(`${gateway.url}/api/effects/${failed}/retry`, {
    method: 'POST',
    headers: HEADERS,
  });
  t.equal(revived.status, 202, revived.body.toString());
  await eventually(
    'it to be sent',
    async () => fake.messagesOf({ number: '+254777000004' }).length === 1,
    PATIENCE_MS,
  );
  const list = await ask(`${gateway.url}/api/sms/messages`, { headers: HEADERS });
  const { messages } = JSON.parse(list.body.toString()) as {
    messages: { phoneNumber: string; kind: string }[];
  };
  t.equal(messages.length, 6);
  t.ok(
    messages.every(({ kind, phoneNumber }) => kind === 'single' && phoneNumber.startsWith('+25477700000')),
  );
});
