/** A person is erased everywhere, and nobody else loses anything by it (decision 34, docs/privacy.md). */
import { execFile, execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'kysely';
import t, { type Test } from 'tap';
import { type Database, openEmbeddedDatabase } from '../src/db/database.ts';
import type { Db } from '../src/db/db.ts';
import { bytes } from '../src/db/sql.ts';
import { smsDelivery } from '../src/effects/sms.ts';
import { type Keeping, openKeeping } from '../src/engine.ts';
import type { SmsProvider } from '../src/providers/provider.ts';
import { smsSimulator } from '../src/providers/simulator.ts';
import { startQueue } from '../src/queue.ts';
import { Box } from '../src/seal/box.ts';
import { parseKeyRing } from '../src/seal/keys.ts';
import { forgetEffects } from '../src/store/effects.ts';
import { EraseRefused, erase } from '../src/store/erase.ts';
import { resealCredits } from '../src/store/ledger.ts';
import { rowKey } from '../src/store/turn-rows.ts';
import { ask } from './support/ask.ts';
import { dump, foundIn } from './support/canary.ts';
import { command, type Ran } from './support/command.ts';
import { embeddedDirectory } from './support/embedded.ts';
import { openDatabase } from './support/engine.ts';
import { environment, type Gateway, post, startGateway, TEST_KEY } from './support/gateway.ts';
import { eventually, logIn, openAccount, type Phone, PIN, phoneOn } from './support/phone.ts';
import { LONG_TIER, scaled } from './support/scale.ts';
import { wrongs } from './support/stage.ts';

const MAIN = join(import.meta.dirname, '..', 'src', 'main.ts');
const TOKEN = 'a-token-of-operators';
const RING = parseKeyRing(TEST_KEY);
const NOW = { pause: async () => {} };

const A = {
  number: '+221770000001',
  name: 'Awa Canaryname',
  email: 'awa.canary@example.com',
  wrote: 'CANARYWORDS of Awa',
};
const B = { number: '+221770000002', name: 'Ben Otherwise', email: 'ben@example.com', wrote: 'Words of Ben' };
type Person = typeof A;

/**
 * Every table, with every column of it that is bytes, and which rows of it are of a phone: where somebody adds a table
 * or such a column, this list does not hold any more, and whoever adds it has to think of `src/store/erase.ts`.
 *
 * `opens`: a sealed column, and what binds it to its row; `holds`: what else is in it. `of`: whose rows they are, `$1`
 * the digest of a phone; of nobody where it is not there.
 */
type Column = { opens: (row: Row, box: Boxes) => string } | { holds: string };
type Row = Record<string, unknown>;
type Boxes = { columns: Box; pins: Box; turns: Box; wrap: Box };

const at = (row: Row, column: string) => bytes(row[column]);
const opens = (column: string, bound: (row: Row) => Buffer): Column => ({
  opens: (row, { columns }) => columns.open(at(row, column), bound(row)).toString(),
});
const byText = (place: string, key: string) => (row: Row) => Buffer.from(`${place}\0${row[key]}`);
const byBytes = (place: string, key: string) => (row: Row) =>
  Buffer.concat([Buffer.from(`${place}\0`), at(row, key)]);
const DIGEST: Column = { holds: 'a digest' };

const TABLES: Record<string, { of?: string; columns: Record<string, Column> }> = {
  turns: {
    of: `phone = $1`,
    columns: {
      session_key: DIGEST,
      address: DIGEST,
      phone: DIGEST,
      sealed: {
        opens: (row, { turns }) => {
          const dial = { day: row.day as string, dial: row.dial as number };
          const bound = rowKey(at(row, 'session_key'), dial, at(row, 'address'));
          return turns.open(at(row, 'sealed'), bound, dial.day).toString();
        },
      },
    },
  },
  effects: {
    of: `session_key in (select session_key from turns where phone = $1)`,
    columns: { shown: DIGEST, session_key: DIGEST, address: DIGEST },
  },
  menus: { columns: {} },
  digest_key: { columns: { wrapped: { holds: 'the key of all digests' } } },
  key_checks: { columns: { check_value: { holds: 'a digest of a key' } } },
  api_keys: { columns: { digest: DIGEST } },
  accounts: {
    of: `id in (select account_id from account_phones where phone = $1)`,
    columns: {
      customer: DIGEST,
      customer_id: opens('customer_id', byBytes('accounts.customer_id', 'customer')),
      name: opens('name', byBytes('accounts.name', 'customer')),
      email: opens('email', byBytes('accounts.email', 'customer')),
      pin: { holds: 'a slow hash' },
    },
  },
  account_phones: {
    of: `phone = $1`,
    columns: {
      phone: DIGEST,
      msisdn: opens('msisdn', (row) =>
        Buffer.concat([Buffer.from(`accounts.msisdn of ${row.account_id}\0`), at(row, 'phone')]),
      ),
    },
  },
  link_codes: {
    of: `phone = $1 and account_id in (select account_id from account_phones where phone = $1)`,
    columns: { code: DIGEST, phone: DIGEST },
  },
  pin_attempts: {
    of: `substr(turn, 1, 16) in (select session_key from turns where phone = $1)`,
    columns: { turn: { holds: 'the key of a turn' } },
  },
  pin_counters: { of: `key = $1`, columns: { key: DIGEST } },
  subscribers: { of: `phone = $1`, columns: { phone: DIGEST } },
  messages: {
    of: `phone = $1`,
    columns: {
      phone: DIGEST,
      body: { holds: 'nothing any more' },
      msisdn: opens('msisdn', byText('messages.msisdn', 'id')),
    },
  },
  sms_days: { columns: {} },
  sms_counts: { columns: {} },
  sms_calls: {
    of: `id in (select call_id from messages where phone = $1)`,
    columns: { body: opens('body', byText('messages.body', 'id')) },
  },
  sms_requests: { columns: { key: DIGEST, asked: DIGEST } },
  sms_reports: { of: `phone = $1`, columns: { phone: DIGEST } },
  sms_opt_outs: { of: `phone = $1`, columns: { phone: DIGEST } },
  sms_incoming: {
    of: `phone = $1`,
    columns: { id: DIGEST, phone: DIGEST, sealed: opens('sealed', byBytes('sms_incoming.sealed', 'id')) },
  },
  sms_subscriptions: {
    of: `phone = $1`,
    columns: { phone: DIGEST, msisdn: opens('msisdn', byBytes('sms_subscriptions.msisdn', 'phone')) },
  },
  ussd_notices: {
    of: `phone = $1`,
    columns: {
      session_key: DIGEST,
      phone: DIGEST,
      error: opens('error', (row) => {
        const date = (row.ended_at as Date).toISOString().replace('.000Z', 'Z');
        return Buffer.concat([
          Buffer.from(`ussd_notices.error\0${date}\0`),
          at(row, 'session_key'),
          at(row, 'phone'),
        ]);
      }),
    },
  },
  outbox: { columns: {} },
  ledger_accounts: { of: `owner = $1`, columns: { owner: DIGEST } },
  ledger_entries: { columns: {} },
  ledger_postings: { of: `account_id in (select id from ledger_accounts where owner = $1)`, columns: {} },
  holds: { of: `account_id in (select id from ledger_accounts where owner = $1)`, columns: {} },
  wallet_credits: {
    of: `id in (select entry_id from ledger_postings p join ledger_accounts a on a.id = p.account_id where a.owner = $1)`,
    columns: { key: DIGEST, asked: DIGEST, reason: opens('reason', byBytes('wallet_credits.reason', 'key')) },
  },
  airtime_orders: {
    of: `buyer = $1`,
    columns: {
      buyer: DIGEST,
      recipient: DIGEST,
      sealed: opens('sealed', byText('airtime_orders.sealed', 'id')),
    },
  },
  airtime_reports: { of: `recipient = $1`, columns: { recipient: DIGEST } },
  instruments: { columns: {} },
  stock_orders: {
    of: `owner = $1`,
    columns: { owner: DIGEST, sealed: opens('sealed', byText('stock_orders.sealed', 'id')) },
  },
  lookups: {
    of: `phone = $1`,
    columns: { phone: DIGEST, sealed: opens('sealed', byText('lookups.sealed', 'id')) },
  },
  // Sales without a phone, comparisons and housekeeping: nothing of a person.
  airtime_strays: { columns: {} },
  airtime_simulated: { columns: {} },
  airtime_reconciliations: { columns: {} },
  housekeeping: { columns: {} },
  service_switches: { columns: {} },
  tasks: {
    of: `phone = $1`,
    columns: { phone: DIGEST, matter: DIGEST, sealed: opens('sealed', byText('tasks.sealed', 'id')) },
  },
  task_events: {
    of: `task_id in (select id from tasks where phone = $1)`,
    columns: { sealed: opens('sealed', byText('task_events.sealed', 'id')) },
  },
};

/** The queue's own, in which nothing but ids stands: an archive, as other versions have one, would be a new place. */
const OF_THE_QUEUE =
  'bam job job_common job_dependency queue queue_stats schedule subscription version warning'.split(' ');

type Asker = <T extends Row = Row>(text: string, values?: unknown[]) => Promise<T[]>;

function askerOf(db: Db): Asker {
  return async <T extends Row>(text: string, values: unknown[] = []) => {
    const parts = text.split(/\$\d/);
    const numbers = [...text.matchAll(/\$(\d)/g)].map(([, n]) => Number(n));
    const pieces = parts.map((part, i) =>
      i === 0 ? sql.raw(part) : sql`${values[(numbers[i - 1] ?? 1) - 1]}${sql.raw(part)}`,
    );
    return (await sql<T>`${sql.join(pieces, sql``)}`.execute(db)).rows;
  };
}

/** Everything that is stored, in every table of every schema: text, and bytes in hex, base64 and as they are. */
async function everything(rows: Asker): Promise<string> {
  const columns = await rows<{ name: string; column: string; binary: boolean }>(`
    select format('%I.%I', table_schema, table_name) as name, format('%I', column_name) as column,
      data_type = 'bytea' as binary
    from information_schema.columns where table_schema not in ('pg_catalog', 'information_schema')`);
  const found: string[] = [];
  for (const { name, column, binary } of columns) {
    const text = binary
      ? `encode(${column}, 'hex') || ' ' || encode(${column}, 'base64') || ' ' || encode(${column}, 'escape')`
      : `${column}::text`;
    const [row] = await rows<{ all: string | null }>(
      `select string_agg(${text}, chr(10)) as all from ${name}`,
    );
    found.push(`${name}.${column}\n${row?.all ?? ''}`);
  }
  return found.join('\n');
}

/** Bytes as hex, and as base64 wherever they may begin. */
function binaryFoundIn(text: string, needles: ReadonlyMap<string, Buffer>): string[] {
  return [...needles].flatMap(([name, needle]) => {
    const forms = [0, 1, 2].map((before) => {
      const base64 = Buffer.concat([Buffer.alloc(before), needle]).toString('base64');
      return base64.slice(before === 0 ? 0 : 4, Math.floor((before + needle.length) / 3) * 4);
    });
    return [needle.toString('hex'), ...forms].some((form) => text.includes(form)) ? [name] : [];
  });
}

/** Every sealed column of every row, opened: a line for each, and the table that it is of. */
async function opened(rows: Asker): Promise<{ table: string; row: Row; text: string }[]> {
  const boxes = {
    columns: new Box(RING, 'columns'),
    pins: new Box(RING, 'pins'),
    turns: new Box(RING, 'turns'),
    wrap: new Box(RING, 'wrap'),
  };
  const found = [];
  for (const [table, { columns }] of Object.entries(TABLES)) {
    const sealed = Object.entries(columns).filter(([, column]) => 'opens' in column);
    if (sealed.length === 0) continue;
    const all = await rows(`select *${table === 'turns' ? ', day::text as day' : ''} from ${table}`);
    for (const row of all) {
      for (const [name, column] of sealed) {
        if (row[name] === null || !('opens' in column)) continue;
        found.push({ table, row, text: column.opens(row, boxes) });
      }
    }
  }
  return found;
}

/** A sum of every row of a phone, table by table, but for what names another one. */
async function sums(rows: Asker, phone: Buffer, other: Buffer): Promise<Record<string, string[]>> {
  const found: Record<string, string[]> = {};
  for (const [table, { of }] of Object.entries(TABLES)) {
    if (of === undefined) continue;
    const named =
      table === 'airtime_orders'
        ? ' and recipient <> $2'
        : table === 'sms_calls'
          ? ` and id not in (select o.message_id from airtime_orders o where o.recipient = $2 and o.message_id is not null)`
          : '';
    const all = await rows<{ sum: string }>(
      `select md5(x::text) as sum from ${table} x where ${of}${named} order by 1`,
      [phone, other],
    );
    found[table] = all.map(({ sum }) => sum);
  }
  return found;
}

const FORM = { 'content-type': 'application/x-www-form-urlencoded' };
const JSON_TYPE = { 'content-type': 'application/json' };

async function tell(url: string, path: string, fields: Record<string, string>, headers = FORM) {
  const told = await ask(url + path, {
    method: 'POST',
    headers,
    body: headers === FORM ? new URLSearchParams(fields).toString() : JSON.stringify(fields),
  });
  if (told.status >= 300) throw new Error(`${path}: ${told.status} ${told.body.toString()}`);
}

async function walk(t: Test, phone: Phone, code: string, inputs: string[], last: RegExp): Promise<void> {
  let screen = await phone.dial(code);
  for (const input of inputs) screen = await phone.type(input);
  t.match(screen, last, `${code} ${inputs.join('*')}`);
}

/** Does everything that leaves a trace. Returns the Customer ID. */
async function live(t: Test, url: string, person: Person, other: Person): Promise<string> {
  const phone = phoneOn(url, person.number);
  const customer = await openAccount(phone, person);
  t.match(await logIn(phone, customer), /^CON Your account/);
  t.match(await logIn(phone, customer, '60001'), /^CON The Customer ID or PIN is wrong/, 'a wrong PIN');
  t.match(
    await logIn(phone, 'CZZZZZZZZ', '60001'),
    /^CON The Customer ID or PIN is wrong/,
    'of an ID that is nobody’s',
  );
  t.match(await logIn(phone, customer), /^CON Your account/);
  await walk(t, phone, '*123#', ['1', '1'], /^END/);
  await walk(t, phone, '*144#', ['2', '1', '1'], /^END KES 50 airtime is on its way/);
  await walk(
    t,
    phone,
    '*144#',
    ['2', '1', '2', other.number, '1'],
    /^END KES 50 airtime is on its way to \+/,
  );
  await walk(t, phone, '*384#', ['1', '8', 'AAPL', '1', '1', '1', '1', PIN], /^END Your order is placed/);
  await walk(t, phone, '*555#', ['1', '2', '3', '1'], /^END Thank you/);
  const id = person.number.slice(-4);
  const headers = { ...JSON_TYPE, authorization: `Bearer ${TOKEN}` };
  const credited = {
    phoneNumber: person.number,
    currency: 'KES',
    amountMinor: 700,
    idempotencyKey: `credit-${id}`,
    reason: `for ${person.number}, who rang`,
  };
  await tell(url, '/api/wallet/credits', credited as never, headers);
  const wrote = { text: person.wrote, to: '12345', date: '2026-03-04 10:30:00', from: person.number };
  await tell(url, '/sms/twoway', { ...wrote, id: `in-${id}`, linkId: `link-${id}` });
  await tell(url, '/sms/twoway', { ...wrote, id: `stop-${id}`, text: 'STOP' });
  await tell(url, '/sms/opt-out', { senderId: 'MyBrand', phoneNumber: person.number });
  const subscription = { phoneNumber: person.number, shortCode: '12345', keyword: 'NEWS' };
  await tell(url, '/sms/subscription', { ...subscription, updateType: 'addition' });
  const report = { id: `unknown-${id}`, status: 'Success', phoneNumber: person.number, networkCode: '63902' };
  await tell(url, '/sms/delivery-reports', report);
  const sessionId = `notice-${id}`;
  const fields = { sessionId, serviceCode: '*123#', phoneNumber: person.number, text: '' };
  await post(url, fields, '/ussd/session');
  await tell(url, '/ussd/status', {
    date: new Date().toISOString().slice(0, 19).replace('T', ' '),
    sessionId,
    serviceCode: '*123#',
    phoneNumber: person.number,
    status: 'Failed',
    errorMessage: `lost ${person.number}`,
  });
  return customer;
}

/** What no walk of this test leaves, by the stores themselves. */
async function liveOn(keeping: Keeping, db: Db, person: Person, other: Person): Promise<void> {
  const { accounts, digests, tasks, airtime, lookups } = keeping;
  const phone = digests.phone(person.number);
  await lookups.add(db, { operator: 'sue', msisdn: person.number, reason: `${person.name} asked` });
  await db.transaction().execute(async (tx) => {
    const [own] = await sql<{ id: string }>`
      select account_id::text as id from account_phones where phone = ${phone}`
      .execute(tx)
      .then(({ rows }) => rows);
    await accounts.addLinkCode(tx, own?.id ?? '', `L${person.number.slice(-7)}`, other.number);
    await accounts.addLinkCode(tx, own?.id ?? '', `M${person.number.slice(-7)}`, person.number);
    await sql`insert into subscribers (phone, language) values (${phone}, 'en')`.execute(tx);
    // As a later dial claims this one, to go on with it.
    const { rows: openings } = await sql<Row>`
      select *, day::text as day from turns where phone = ${phone} and hop = 0 and service = 'demo' limit 1`.execute(
      tx,
    );
    const [opening = {}] = openings;
    const dial = { day: opening.day as string, dial: opening.dial as number };
    const claim = Buffer.alloc(16, 1);
    const box = new Box(RING, 'turns');
    const boundTo = (address: Buffer) => rowKey(at(opening, 'session_key'), dial, address);
    const memory = box.open(at(opening, 'sealed'), boundTo(at(opening, 'address')), dial.day);
    await sql`
      insert into turns (session_key, day, dial, address, hop, ended, outcome, node, menu, phone, service, sealed)
      values (${at(opening, 'session_key')}, ${dial.day}::date, ${dial.dial}, ${claim}, 1, true, 6, -1, ${opening.menu},
        ${phone}, 'demo', ${box.seal(memory, boundTo(claim), dial.day)})`.execute(tx);
    const closed = await sql<{
      reference: string;
    }>`select reference from tasks where phone = ${phone}`.execute(tx);
    const note = { note: `called ${person.number} back`, by: 'desk' };
    await tasks.close(tx, closed.rows[0]?.reference ?? '', note);
    await airtime.report(tx, {
      providerId: `early-${person.number.slice(-4)}`,
      recipient: person.number,
      status: 'Success',
      authenticated: true,
    });
  });
}

async function settled(rows: Asker): Promise<void> {
  await eventually('nothing is under way', async () => {
    const [row] = await rows<{ n: number }>(`select count(*)::int as n from outbox where state = 'queued'`);
    return row?.n === 0;
  });
}

const SETTINGS = {
  OPERATOR_TOKEN: TOKEN,
  PIN_ENCRYPTION_KEY: TEST_KEY,
  AIRTIME_CURRENCIES: 'KES=+221',
};

function keepingOn(db: Database, ring = RING): Promise<Keeping> {
  const messages = { dailyMax: 1_000, prefixes: [] };
  return openKeeping(db, { ring, digestKey: undefined, messages, book: 'demo' });
}

/** The command as a program. */
function program(settings: Record<string, string>, words: string[]): Promise<Ran> {
  const env = environment({ ...settings, LOG_LEVEL: 'info', PIN_ENCRYPTION_KEY: TEST_KEY });
  return new Promise((resolve) => {
    execFile(process.execPath, [MAIN, ...words], { env }, (error, said, complained) =>
      resolve({ code: error === null ? 0 : Number(error.code), said, complained }),
    );
  });
}

/** All by which somebody could be known: bytes, and what may stand anywhere as it is. */
async function marksOf(rows: Asker, { digests }: Keeping, person: Person, customer: string) {
  const phone = digests.phone(person.number);
  const sessions = await rows<{ key: Uint8Array }>(
    'select distinct session_key as key from turns where phone = $1',
    [phone],
  );
  const matters = await rows<{ key: Uint8Array }>('select matter as key from tasks where phone = $1', [
    phone,
  ]);
  const credits = await rows<{ key: Uint8Array }>(
    `select asked as key from wallet_credits c join ledger_postings p on p.entry_id = c.id
     join ledger_accounts a on a.id = p.account_id where a.owner = $1`,
    [phone],
  );
  const binary = new Map<string, Buffer>([
    ['phone', phone],
    ['customer', digests.customer(customer)],
    ['nobody', digests.customer(`nobody\0CZZZZZZZZ\0${person.number}`)],
    ['session of the notice', digests.session('africastalking', `notice-${person.number.slice(-4)}`)],
    ...sessions.map(({ key }, i): [string, Buffer] => [`session ${i}`, bytes(key)]),
    ...matters.map(({ key }): [string, Buffer] => ['matter', bytes(key)]),
    ...credits.map(({ key }): [string, Buffer] => ['credit', bytes(key)]),
  ]);
  const clear = [
    person.number.slice(1),
    digests.pseudonym(person.number),
    person.name,
    person.email,
    person.wrote,
    customer,
    `notice-${person.number.slice(-4)}`,
  ];
  return { phone, binary, clear };
}

t.test('every table and every column of bytes is thought of', async (t) => {
  const { db } = await openDatabase(t);
  const queue = await startQueue(db, () => {});
  t.teardown(() => queue.stop());
  const rows = askerOf(db.kysely);
  const found = await rows<{ table: string; columns: string[] }>(`
    select t.table_name::text as table,
      coalesce(array_agg(c.column_name::text order by c.column_name) filter (where c.data_type = 'bytea'), '{}') as columns
    from information_schema.tables t
    join information_schema.columns c using (table_schema, table_name)
    where t.table_schema = 'public' and t.table_name !~ '^(turns_[0-9]{8}|kysely_migration.*)$'
    group by 1 order by 1`);
  t.strictSame(
    Object.fromEntries(found.map(({ table, columns }) => [table, columns])),
    Object.fromEntries(
      Object.entries(TABLES).map(([table, { columns }]) => [table, Object.keys(columns).toSorted()]),
    ),
    'src/store/erase.ts and the list in this test know of each',
  );
  const other = await rows<{ name: string }>(`
    select table_schema || '.' || table_name as name from information_schema.tables
    where table_schema not in ('public', 'pg_catalog', 'information_schema')
      and table_name !~ '^queue_stats_' order by 1`);
  t.strictSame(
    other.map(({ name }) => name),
    OF_THE_QUEUE.map((name) => `pgboss.${name}`),
    'and nothing of the queue is new',
  );
});

t.test('beside the running service, on Postgres', async (t) => {
  const { url, db } = await openDatabase(t);
  const gateway = await startGateway(t, { ...SETTINGS, DATABASE_URL: url });
  const rows = askerOf(db.kysely);
  const keeping = await keepingOn(db);
  const customer = await live(t, gateway.url, A, B);
  await live(t, gateway.url, B, A);
  const bulk = { phone: `${A.number},${B.number}`, message: 'To both' };
  await settled(rows);
  await liveOn(keeping, db.kysely, A, B);
  await liveOn(keeping, db.kysely, B, A);
  await sendBulk(gateway, bulk);
  await settled(rows);
  const open = phoneOn(gateway.url, B.number);
  t.match(await open.dial(), /Know More/);
  t.match(await open.type('1'), /^CON Information Center/);

  const { phone, binary, clear } = await marksOf(rows, keeping, A, customer);
  const other = keeping.digests.phone(B.number);
  const before = await sums(rows, other, phone);
  for (const [table, { of }] of Object.entries(TABLES))
    if (of !== undefined) t.ok((before[table]?.length ?? 0) > 0, `${table} has something of the other one`);
  t.strictSame(
    binaryFoundIn(await everything(rows), binary),
    [...binary.keys()],
    'all of it is there before',
  );
  const known = [A.number, A.name, A.email, A.wrote, customer];
  const readable = (await opened(rows)).map(({ text }) => text).join('\n');
  t.strictSame(
    known.filter((mark) => !readable.includes(mark)),
    [],
    'and readable with the keys',
  );

  const { code, said, complained } = await command({ DATABASE_URL: url }, ['erase', '--phone', A.number]);
  t.equal(code, 0, complained);
  t.comment(said);
  t.match(said, /^Removed: .*\d+ turns.*\nCut out of what stays: .*\n.*Backups/s);
  t.notMatch(said, A.number.slice(1), 'the number is not said');

  const after = await everything(rows);
  t.strictSame(binaryFoundIn(after, binary), [], 'no digest of the person is left');
  t.strictSame(foundIn(after, clear), [], 'nor anything in clear');
  const dumped = dump(url);
  if (dumped === undefined) t.comment('no pg_dump of this version here: the tables were read instead');
  else {
    t.match(dumped, 'COPY public.turns_', 'pg_dump wrote the turns');
    t.strictSame(binaryFoundIn(dumped, binary), [], 'a dump has no digest');
    t.strictSame(foundIn(dumped, clear), [], 'and nothing in clear');
  }
  t.strictSame(foundIn(gateway.output(), [A.number.slice(1)]), [], 'and the log never had the number');

  const left = (await opened(rows)).filter(({ text }) => known.some((mark) => text.includes(mark)));
  t.strictSame([...new Set(left.map(({ table }) => table))], ['turns'], 'what still names it are turns');
  t.ok(
    left.every(({ row }) => bytes(row.phone).equals(other)),
    'of others, who typed the number themselves: they go with the retention',
  );
  t.ok(left.every(({ text }) => text.includes(A.number)));
  const [bought] = await rows(
    `select o.amount::text as amount, o.state from airtime_orders o where o.buyer = $1 and o.recipient <> $1`,
    [other],
  );
  t.match(bought, { amount: '5000', state: 'sent' }, 'what was bought for it keeps its buyer and its money');

  t.strictSame(
    await sums(rows, other, await recipientsOf(rows, other)),
    before,
    'the other one lost nothing',
  );
  t.match(await open.type('0'), /Know More/, 'and goes on');
  t.strictSame(await wrongs(db.kysely), [], 'the ledger reconciles');
  const [owners] = await rows<{ n: number }>(
    `select count(distinct owner)::int as n from ledger_accounts where owner <> ''`,
  );
  t.equal(owners?.n, 2, 'all that one person had is still of one');

  await t.test('once more', async (t) => {
    const again = await command({ DATABASE_URL: url }, ['erase', '--phone', A.number]);
    t.equal(again.code, 0);
    t.match(again.said, /^Nothing of this phone was found\./);
    t.strictSame(await sums(rows, other, await recipientsOf(rows, other)), {
      ...before,
      ...(await only(rows, other, ['turns'])),
    });
  });

  await t.test('words that are wrong', async (t) => {
    for (const words of [
      [],
      ['--phone'],
      [A.number],
      ['--phone', '221770000001'],
      ['--phone', '+0770000001'],
      ['--phone', A.number, B.number],
      ['--phone', `${A.number};`],
      ['--all', A.number],
    ]) {
      const wrong = await command({ DATABASE_URL: url }, ['erase', ...words]);
      t.equal(wrong.code, 1, words.join(' '));
      t.match(wrong.complained, /^say `erase --phone <number>`[^\n]*$/);
    }
    const { code, complained } = await program({ DATABASE_URL: url }, ['erase']);
    t.equal(code, 1);
    t.match(complained, /^this cannot be done:\n {2}say `erase --phone <number>`[^\n]*\n$/);
  });

  await t.test('who dials again is a stranger', async (t) => {
    const stranger = phoneOn(gateway.url, A.number);
    t.notMatch(await logIn(stranger, customer), /^CON Your account/, 'there is no such account');
    await stranger.dial('*144#');
    t.match(await stranger.type('1'), /KES 1,000/, 'a wallet as everybody begins with');
    t.ok(await keeping.messages.hasRoom(db.kysely, A.number));
    const next = await openAccount(stranger, A);
    t.not(next, customer);
    t.match(await logIn(stranger, next), /^CON Your account/);
    const messages = await rows(`select id from messages where phone = $1`, [phone]);
    t.equal(messages.length, 1, 'and the room of a whole day');
    await settled(rows);
  });
  t.notMatch(gateway.output(), /deadlock|40P01/);
  await gateway.stop();

  await t.test('what is cut while the ring turns stays cut', async (t) => {
    const ring = parseKeyRing(`k2:fedcba9876543210fedcba9876543210,${TEST_KEY}`);
    const turned = await keepingOn(db, ring);
    const own = db.kysely;
    const turns: [table: string, column: string, reseal: () => Promise<number>][] = [
      ['airtime_orders', 'sealed', () => turned.airtime.reseal(own)],
      ['stock_orders', 'sealed', () => turned.orders.reseal(own)],
      ['wallet_credits', 'reason', () => resealCredits(own, turned.columns)],
      ['sms_calls', 'body', () => turned.messages.reseal(own)],
      ['lookups', 'sealed', () => turned.lookups.reseal(own)],
      ['task_events', 'sealed', () => turned.tasks.reseal(own)],
    ];
    // Whatever it says, it is no older than the ring.
    const cut = new Box(ring, 'columns').seal(Buffer.from('cut'), Buffer.from('anywhere'));
    for (const [table, column, reseal] of turns) {
      const name = sql.table(table);
      const place = sql.ref(column);
      const { rows: found } = await sql<{ ctid: string }>`
        select ctid::text as ctid from ${name} where ${place} is not null limit 1`.execute(own);
      const turning = await own.transaction().execute(async (tx) => {
        await sql`update ${name} set ${place} = ${cut} where ctid = ${found[0]?.ctid}::tid`.execute(tx);
        const resealing = reseal();
        await eventually(`${table} is being sealed again`, async () => {
          const waiting = await rows(`select 1 from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock'`);
          return waiting.length > 0;
        });
        return { resealing };
      });
      t.ok((await turning.resealing) > 0, `${table} was sealed again`);
      const kept = await rows(`select 1 from ${table} where ${column} = $1`, [cut]);
      t.equal(kept.length, 1, 'and what was cut meanwhile was not undone');
    }
  });

  await t.test('an order that does not open is not cut, and the operator is told', async (t) => {
    const { code, complained } = await command({ DATABASE_URL: url }, ['erase', '--phone', B.number]);
    t.equal(code, 1);
    t.match(complained, /^nothing was erased: .* put that key back, behind the others$/);
    t.ok((await rows('select 1 from account_phones where phone = $1', [other])).length > 0);
  });
});

t.test('a text that goes while it is being cut does not come back', async (t) => {
  const { url, db } = await openDatabase(t);
  const gateway = await startGateway(t, { ...SETTINGS, DATABASE_URL: url });
  const rows = askerOf(db.kysely);
  const phone = phoneOn(gateway.url, B.number);
  await walk(t, phone, '*144#', ['2', '1', '2', A.number, '1'], /^END KES 50 airtime is on its way to \+/);
  await settled(rows);
  await gateway.stop();
  const keeping = await keepingOn(db);
  // Another process forgets it, at once, between the reading and the writing.
  let forgotten = 0;
  const forget = `
    import pg from 'pg';
    const client = new pg.Client(process.argv[1]);
    await client.connect();
    await client.query('update sms_calls set body = null');
    await client.end();`;
  const columns = {
    seal: (plain: Buffer, bound: Buffer) => keeping.columns.seal(plain, bound),
    open: (sealed: Uint8Array, bound: Buffer) => {
      if (bound.toString().startsWith('messages.body') && forgotten++ === 0)
        execFileSync(process.execPath, ['--input-type=module', '--eval', forget, url], {
          cwd: import.meta.dirname,
        });
      return keeping.columns.open(sealed, bound);
    },
  } as unknown as Box;
  await erase(db.kysely, { ...keeping, columns, ring: RING, ...NOW }, A.number);
  t.equal(forgotten, 1, 'it was read once');
  t.same(await rows('select body from sms_calls where body is not null'), []);
});

t.test('what the task router has is told before anything is waited for', async (t) => {
  const { url, db } = await openDatabase(t);
  const gateway = await startGateway(t, { ...SETTINGS, DATABASE_URL: url });
  await phoneOn(gateway.url, A.number).dial();
  const keeping = await keepingOn(db);
  await db.kysely.transaction().execute(async (tx) => {
    const asked = {
      from: A.number,
      to: '*555#',
      language: 'English',
      location: 'Touba',
      source: 'ussd',
    } as const;
    for (const [reference, supportType] of [
      ['1000001', 'Legal'],
      ['1000002', 'Shelter'],
    ] as const)
      await keeping.tasks.ask(tx, { ...asked, supportType, reference, priority: 0 });
    const { rows: found } = await sql<{
      id: string;
    }>`select id from tasks where reference = '1000001'`.execute(tx);
    await keeping.farTasks.handed(tx, found[0]?.id ?? '', 'a router', 'WT1');
  });
  const told: string[][] = [];
  const killed = erase(
    db.kysely,
    {
      ...keeping,
      ring: RING,
      left: (elsewhere) => told.push(elsewhere),
      pause: () => Promise.reject(new Error('killed while it waited')),
    },
    A.number,
  );
  await t.rejects(killed, /killed while it waited/);
  t.same(told, [['WT1']], 'by its id there; what was never handed over is nowhere else');

  const asked = {
    from: B.number,
    to: '*555#',
    language: 'English',
    location: 'Touba',
    source: 'ussd',
  } as const;
  await db.kysely.transaction().execute(async (tx) => {
    await keeping.tasks.ask(tx, { ...asked, supportType: 'Legal', reference: '1000003', priority: 0 });
    await sql`update tasks set tried_at = now() where reference = '1000003'`.execute(tx);
  });
  const { said } = await command({ DATABASE_URL: url }, ['erase', '--phone', B.number]);
  t.match(
    said,
    /^The task router has, or may have: reference 1000003\. Delete them there\.\nRemoved: 1 tasks/,
  );
  await gateway.stop();
});

/** Of what somebody bought for the one who was erased, nobody knows any more for whom. */
async function recipientsOf(rows: Asker, buyer: Buffer): Promise<Buffer> {
  const [row] = await rows<{ recipient: Uint8Array }>(
    `select recipient from airtime_orders where buyer = $1 and recipient <> $1`,
    [buyer],
  );
  return bytes(row?.recipient);
}

async function only(rows: Asker, phone: Buffer, tables: string[]): Promise<Record<string, string[]>> {
  const all = await sums(rows, phone, Buffer.alloc(0));
  return Object.fromEntries(tables.map((table) => [table, all[table] ?? []]));
}

async function sendBulk({ url }: Gateway, fields: Record<string, string>): Promise<void> {
  const headers = { ...JSON_TYPE, authorization: `Bearer ${TOKEN}` };
  await tell(url, '/sms/invoke-bulk-sms', fields, headers);
}

t.test('while money is under way nothing is changed', async (t) => {
  const { db } = await openDatabase(t);
  const { kysely } = db;
  const keeping = await keepingOn(db);
  const { airtime, digests } = keeping;
  const rows = askerOf(kysely);
  const order = (buyer: string, recipient: string) =>
    kysely.transaction().execute((tx) => {
      const ref = randomUUID().slice(0, 8);
      const words = { sent: `sent to ${recipient}`, failed: `not sent to ${recipient}` };
      return airtime.order(tx, { ref, buyer, recipient, currency: 'KES', amount: 100n, ...words }, true);
    });
  const refused = async (what: RegExp) => {
    const before = await everything(rows);
    const tried = erase(kysely, { ...keeping, ring: RING, ...NOW }, A.number);
    await t.rejects(tried, { code: 'erase_refused', message: what });
    t.ok((await everything(rows)) === before, 'not a row is another one');
  };
  const own = await order(A.number, A.number);
  await refused(/held for 1 order under way: wait/);
  await kysely.transaction().execute((tx) => airtime.failed(tx, own));
  const coming = await order(B.number, A.number);
  await refused(/somebody else is buying airtime for this phone \(1 order\): wait/);
  await kysely.transaction().execute((tx) => airtime.sent(tx, coming, 'africastalking', 'ATQid_1'));
  await refused(/has yet to report .* 24 hours at the most/);
  await kysely.transaction().execute((tx) =>
    airtime.report(tx, {
      providerId: 'ATQid_1',
      recipient: A.number,
      status: 'Failed',
      authenticated: true,
    }),
  );
  const { removed, cut } = await erase(kysely, { ...keeping, ring: RING, ...NOW }, A.number);
  t.match(removed, { messages: 1 });
  t.match(cut, { 'airtime orders': 2, 'texts to others': 2, wallets: 2 });
  t.strictSame(await wrongs(kysely), []);
  t.match(await keeping.ledger.balance(kysely, digests.phone(B.number), 'KES'), { free: 100_000n, held: 0n });
  const texts = (await opened(rows)).map(({ text }) => text);
  t.strictSame(
    texts.filter((text) => text.includes(A.number)),
    [],
  );
  t.ok(texts.includes('not sent to (erased)'), 'the buyer was told, and of whom is cut');
});

t.test('accounts of several phones, and sessions under one id', async (t) => {
  const { url, db } = await openDatabase(t);
  const gateway = await startGateway(t, { ...SETTINGS, DATABASE_URL: url });
  const keeping = await keepingOn(db);
  const { accounts, digests } = keeping;
  const rows = askerOf(db.kysely);
  const [first, second] = [phoneOn(gateway.url, A.number), phoneOn(gateway.url, B.number)];
  const own = await openAccount(first, A);
  const others = await openAccount(second, B);
  await db.kysely.transaction().execute(async (tx) => {
    for (const [id, code, msisdn] of [
      [own, 'LAAAAAAA', B.number],
      [others, 'LBBBBBBB', A.number],
    ] as const) {
      const found = await accounts.forSupport(tx, id);
      await accounts.addLinkCode(tx, found?.account.id ?? '', code, msisdn);
      await accounts.link(tx, code, msisdn);
    }
  });
  t.match(await logIn(second, own), /^CON Your account/, 'the second phone of the one');
  t.match(await logIn(first, others), /^CON Your account/, 'and of the other');
  // The gateway gives one id to both, one after the other: the second dial is of somebody else.
  const shared = { sessionId: 'shared', serviceCode: '*123#' };
  await post(gateway.url, { ...shared, phoneNumber: A.number, text: '' });
  // (Its first dial, and of it the first turn, once more as the other's second.)
  await sql`
    insert into turns (session_key, day, dial, address, hop, ended, outcome, node, menu, phone, service, sealed)
    select session_key, day, dial + 1, address, hop, ended, outcome, node, menu, ${digests.phone(B.number)}, service, sealed
    from turns where session_key = ${digests.session('ixo', 'shared')} and hop = 0`.execute(db.kysely);

  const { removed, cut } = await erase(db.kysely, { ...keeping, ring: RING, ...NOW }, A.number);
  t.match(removed, { accounts: 1 });
  t.match(cut, { 'accounts of others': 1 });
  t.match(await logIn(second, others), /^CON Your account/, 'the account of the other one stays');
  t.notMatch(await logIn(second, own), /^CON Your account/, 'the one of the person is gone for every phone');
  t.equal((await rows('select 1 as one from account_phones')).length, 1);
  const left = await rows<{ phone: Uint8Array }>('select phone from turns where session_key = $1', [
    digests.session('ixo', 'shared'),
  ]);
  t.strictSame(
    left.map((row) => bytes(row.phone)),
    [digests.phone(B.number)],
  );
});

t.test('while one of its messages is being sent', async (t) => {
  const { db } = await openDatabase(t);
  const { kysely } = db;
  const keeping = await keepingOn(db);
  const { messages } = keeping;
  const errors: Error[] = [];
  const queue = await startQueue(db, (error) => errors.push(error), { wakeMs: 25 });
  t.teardown(() => queue.stop());
  const asked: string[][] = [];
  const gate = Promise.withResolvers<void>();
  const provider: SmsProvider = {
    ...smsSimulator(),
    send: async (batch) => {
      asked.push(batch.to);
      await gate.promise;
      return smsSimulator().send(batch);
    },
  };
  await queue.work([smsDelivery(kysely, messages, provider)]);
  await kysely.transaction().execute(async (tx) => {
    const one = await messages.add(tx, { msisdn: A.number, body: 'To one', cause: 'support' });
    await queue.enqueue(tx, 'sms', { id: one });
    const to = [A.number, B.number];
    const both = await messages.write(tx, { kind: 'bulk', body: 'To both', to, cause: 'operator' });
    await queue.enqueue(tx, 'sms', { id: both.call });
  });
  await eventually('both are with the provider', async () => asked.length === 2);
  const { removed } = await erase(kysely, { ...keeping, ring: RING, ...NOW }, A.number);
  t.match(removed, { messages: 2, deliveries: 1 });
  gate.resolve();
  const rows = askerOf(kysely);
  await settled(rows);
  // The workers look for more all the while.
  await sleep(300);
  t.strictSame(errors, [], 'nobody complains');
  t.equal(asked.length, 2, 'and nothing is sent twice');
  const left = await rows('select state from messages');
  t.match(left, [{ state: 'sent' }]);
  t.equal(left.length, 1);
  t.strictSame(
    await rows(`select state::text as state, name from pgboss.job where data ? 'id'`),
    [{ state: 'completed', name: 'sms' }],
    'the job of the other one, and no more',
  );
});

t.test('while both are typing', async (t) => {
  const { url, db } = await openDatabase(t);
  const gateways = [
    await startGateway(t, { ...SETTINGS, DATABASE_URL: url }),
    await startGateway(t, { ...SETTINGS, DATABASE_URL: url }),
  ];
  const keeping = await keepingOn(db);
  const rows = askerOf(db.kysely);
  const { digests } = keeping;
  let over = false;
  let turn = 0;
  const anyone = () => {
    turn += 1;
    return gateways[turn % 2]?.url ?? '';
  };
  const wrong: string[] = [];
  const lives: Record<string, number> = {};
  const type = async (number: string, strict: boolean) => {
    while (!over) {
      const phone = phoneOn(anyone, number);
      const screens = [await phone.dial('*144#')];
      for (const input of ['2', '1', '0', '0', '1']) screens.push(await phone.type(input));
      lives[number] = (lives[number] ?? 0) + 1;
      const good = /^END Your balance is KES 1,000/.test(screens.at(-1) ?? '');
      if (
        (strict && !good) ||
        screens.some((screen) => !/^(CON|END) ./.test(screen) || /unavailable/.test(screen))
      )
        wrong.push(`${number}: ${screens.join(' | ')}`);
    }
  };
  // Money that comes and goes meanwhile, of the person and of a third one: deliveries, and messages about them.
  const buy = async (number: string) => {
    while (!over) {
      const phone = phoneOn(anyone, number);
      await phone.dial('*144#');
      await phone.type('2', '1', '1');
      await sleep(100);
    }
  };
  const typing = [type(A.number, false), type(A.number, false), type(B.number, true), type(B.number, true)];
  const crowd = [...typing, buy(A.number), buy('+221770000003')];
  await eventually('both have typed', async () => [A, B].every(({ number }) => (lives[number] ?? 0) > 1));
  const before = await rows<{ n: number }>('select count(*)::int as n from turns where phone = $1', [
    digests.phone(B.number),
  ]);
  let [found, refused] = [0, 0];
  const once = async () => {
    try {
      found += (await erase(db.kysely, { ...keeping, ring: RING }, A.number)).removed.turns ?? 0;
    } catch (error) {
      if (!(error instanceof EraseRefused)) throw error;
      refused += 1;
    }
  };
  const erased: Promise<void>[] = [];
  for (let round = 0; round < scaled(12, 4); round += 1) {
    erased.push(once());
    await sleep(200);
  }
  over = true;
  await Promise.all([...crowd, ...erased]);
  await settled(rows);
  const refusedBefore = refused;
  await once();
  t.equal(refused, refusedBefore, `refused ${refused} times while money was under way, and not in the end`);
  t.strictSame(wrong.slice(0, 3), [], `${JSON.stringify(lives)} dials, ${found} turns erased`);
  t.ok((lives[B.number] ?? 0) > 1 && found > 1);
  t.strictSame(await rows('select hop from turns where phone = $1', [digests.phone(A.number)]), []);
  const [after] = await rows<{ n: number }>('select count(*)::int as n from turns where phone = $1', [
    digests.phone(B.number),
  ]);
  t.ok((after?.n ?? 0) > (before[0]?.n ?? 0));
  t.equal(after?.n, (lives[B.number] ?? 0) * 6, 'every turn of the other one is there');
  const [{ deadlocks } = { deadlocks: '' }] = await rows<{ deadlocks: string }>(
    `select deadlocks::text as deadlocks from pg_stat_database where datname = current_database()`,
  );
  t.equal(deadlocks, '0');
  for (const gateway of gateways) {
    t.notMatch(gateway.output(), /deadlock|40P01/);
    t.notMatch(gateway.output(), /"level":(50|60)/);
  }
  t.strictSame(await wrongs(db.kysely), []);
});

t.test('what was looked up before is written behind, and found', async (t) => {
  const { url, db } = await openDatabase(t);
  const gateway = await startGateway(t, { ...SETTINGS, DATABASE_URL: url });
  const keeping = await keepingOn(db);
  const rows = askerOf(db.kysely);
  const phone = phoneOn(gateway.url, A.number);
  await phone.dial('*123#');
  await phone.type('1');
  const [late] = await rows<Row>(`select * from turns where hop = 1`);
  let looks = 0;
  const pause = async (milliseconds: number) => {
    t.equal(milliseconds, 11_000, 'longer than a turn, and what it waits for, may take');
    looks += 1;
    if (looks > 2) return;
    const { session_key, address, sealed, phone } = late as Record<string, Buffer>;
    await sql`
      insert into turns (session_key, day, dial, address, hop, ended, outcome, node, menu, phone, service, sealed)
      values (${session_key}, (now() at time zone 'utc')::date, 1, ${address}, 1, false, 0, 0, 1, ${phone}, 'demo', ${sealed})`.execute(
      db.kysely,
    );
  };
  const { removed, stillTyping } = await erase(db.kysely, { ...keeping, ring: RING, pause }, A.number);
  t.equal(looks, 3, 'it looks again until nothing is found');
  t.match(removed, { turns: 4, sessions: 1 });
  t.equal(stillTyping, false);
  t.strictSame(await rows('select hop from turns'), []);
});

t.test('on the embedded database', LONG_TIER, async (t) => {
  const directory = await embeddedDirectory(t);
  const gateway = await startGateway(t, { ...SETTINGS, DATA_DIR: directory });
  const customer = await live(t, gateway.url, A, B);
  await live(t, gateway.url, B, A);
  await eventually('nothing is under way', async () => {
    const headers = { authorization: `Bearer ${TOKEN}` };
    const listed = await fetch(`${gateway.url}/api/effects?state=queued`, { headers });
    return ((await listed.json()) as { effects: unknown[] }).effects.length === 0;
  });
  await gateway.stop();
  const on = async <T>(run: (db: Database, rows: Asker, keeping: Keeping) => Promise<T>): Promise<T> => {
    const db = await openEmbeddedDatabase(directory);
    try {
      return await run(db, askerOf(db.kysely), await keepingOn(db));
    } finally {
      await db.close();
    }
  };
  const marks = await on(async (db, rows, keeping) => {
    await liveOn(keeping, db.kysely, A, B);
    return { ...(await marksOf(rows, keeping, A, customer)), other: keeping.digests.phone(B.number) };
  });
  const before = await on((_, rows) => sums(rows, marks.other, marks.phone));
  const { code, said, complained } = await command({ DATA_DIR: directory }, ['erase', '--phone', A.number]);
  t.equal(code, 0, complained);
  t.notMatch(said, /autovacuum/, 'and the dead rows are out of the files');
  await on(async (db, rows) => {
    const after = await everything(rows);
    t.strictSame(binaryFoundIn(after, marks.binary), []);
    t.strictSame(foundIn(after, marks.clear), []);
    t.strictSame(await sums(rows, marks.other, await recipientsOf(rows, marks.other)), before);
    t.strictSame(await wrongs(db.kysely), []);
  });
});

t.test('what turns made happen goes when the turns are gone', async (t) => {
  const { db } = await openDatabase(t);
  for (const days of [43, 42, 0])
    await sql`insert into effects (shown, ordinal, kind, session_key, day, dial, address)
      values (${Buffer.of(days)}, 0, 'sms', 'x', (now() at time zone 'utc')::date - ${days}::int, 1, 'x')`.execute(
      db.kysely,
    );
  await forgetEffects(db.kysely, 42);
  const left = await db.kysely.selectFrom('effects').select('shown').execute();
  t.same(left.map(({ shown }) => shown[0]).sort(), [0, 42]);
});
