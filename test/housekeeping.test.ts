/** The housekeeping beside whatever else holds the database, and after what interrupted it. */
import { sql } from 'kysely';
import pg from 'pg';
import t, { type Test } from 'tap';
import { type Database, openEmbeddedDatabase, openPostgres } from '../src/db/database.ts';
import { migrate } from '../src/db/migrate.ts';
import { keepHouse } from '../src/housekeeping.ts';
import { stepStates } from '../src/store/housekeeping.ts';
import { dropPartitions, leftPartitions, makePartitions } from '../src/store/partitions.ts';
import { engineOn, MIGRATIONS, menuOf, openDatabase } from './support/engine.ts';
import { startPooler } from './support/pooler.ts';

/** Multiplies the rows of the backlog: 100 makes millions of them. */
const SCALE = Number(process.env.TEST_SCALE ?? 1);

const HALL = menuOf(`
service: ixo
root: hall
nodes:
  hall:
    choose: Hall
    options: [{ key: 1, label: Out, to: out }]
  out: { end: Bye }
`);
const SETTINGS = {
  documents: [HALL],
  codes: { codes: new Map<string, string>(), fallback: 'ixo' },
  ttl: 180_000,
};

const OLD = 'turns_20200106';
const OLDER = 'turns_20191230';

const { url, db } = await openDatabase(t);
const engine = await engineOn(db, SETTINGS);

/** One run, which waits for locks for 100 ms. */
const keep = (on: Database = db, limits = {}) =>
  keepHouse({ ...engine, house: () => on.house(100), messageDays: 30, deskDays: 90, limits });

/** Apart from the pools, whose limits a backlog of millions would not keep when it is made. */
const client = new pg.Client({ connectionString: url });
await client.connect();
t.teardown(() => client.end());
const run = async (text: string) => (await client.query(text)).rows;

/** Weeks that are past retention, attached, with a turn in each. */
async function oldWeeks(...names: string[]): Promise<void> {
  for (const name of names) {
    const day = `date '${name.slice(6)}'`;
    await run(`create table ${name} (like turns including defaults including constraints)`);
    await run(`do $$ begin execute format('alter table turns attach partition ${name} for values from (%L) to (%L)',
      ${day}, ${day} + 7); end $$`);
    await run(`insert into turns (session_key, day, dial, address, hop, ended, outcome, node, menu, phone, service, sealed)
      values ('s', ${day}, 1, 'a', 0, true, 0, 0, 1, 'p', 'ixo', 'x')`);
  }
}

/** One row in each of the other tables that is past its retention. */
const oldRows = (times = 1) =>
  run(`
    with n as (select n from generate_series(1, ${times}) n),
      a as (insert into pin_attempts (turn, locked, at) select gen_random_uuid()::text::bytea, false, now() - interval '9 days' from n),
      b as (insert into pin_counters (key, nobody, at) select gen_random_uuid()::text::bytea, true, now() - interval '9 days' from n),
      c as (insert into outbox (id, kind, state, ended_at) select gen_random_uuid(), 'sms', 'done', now() - interval '9 days' from n),
      d as (insert into sms_reports (provider_id, phone, status, at) select gen_random_uuid()::text, 'p', 'Sent', now() - interval '9 days' from n),
      e as (insert into airtime_reports (provider_id, recipient, status, authenticated, at)
        select gen_random_uuid()::text, 'p', 'Success', true, now() - interval '9 days' from n),
      f as (insert into sms_calls (id, key, body, kind, created_at)
        select gen_random_uuid(), gen_random_uuid(), 'b', 'single', now() - interval '99 days' from n),
      g as (insert into sms_requests (key, id, asked, at)
        select gen_random_uuid()::text::bytea, gen_random_uuid(), 'a', now() - interval '99 days' from n),
      h as (insert into sms_incoming (id, phone, sealed, short_code, answer, at)
        select gen_random_uuid()::text::bytea, 'p', 's', '1', 'none', now() - interval '99 days' from n),
      i as (insert into lookups (id, at, operator, phone, sealed)
        select gen_random_uuid(), now() - interval '2 years', 'sue', 'p', 's' from n),
      j as (insert into tasks (id, reference, phone, matter, sealed, source, priority, changed_at)
        select gen_random_uuid(), gen_random_uuid()::text, 'p', 'm', 's', 'ussd', 0, now() - interval '99 days' from n),
      k as (insert into ussd_notices (gateway, session_key, phone, ended_at, received_at, closed, status)
        select 'ixo', gen_random_uuid()::text::bytea, 'p', now(), now() - interval '99 days', false, 'Success' from n),
      l as (insert into accounts (customer, customer_id, name, pin)
        values (gen_random_uuid()::text::bytea, 'c', 'n', 'p') returning id),
      m as (insert into link_codes (code, account_id, phone, expires_at)
        select gen_random_uuid()::text::bytea, l.id, 'p', now() - interval '9 days' from n, l)
    insert into effects (shown, ordinal, kind, session_key, day, dial, address, at)
      select gen_random_uuid()::text::bytea, 0, 'sms', 's', current_date - 99, 1, 'a', now() - interval '99 days' from n`);

/** How many rows past their retention are left, by table. */
const rowsLeft = async () => {
  const [counts] = await run(`select
    (select count(*)::int from pin_attempts) as pin_attempts, (select count(*)::int from pin_counters) as pin_counters,
    (select count(*)::int from link_codes) as link_codes,
    (select count(*)::int from outbox) as outbox, (select count(*)::int from sms_reports) as sms_reports,
    (select count(*)::int from airtime_reports) as airtime_reports,
    (select count(*)::int from sms_calls where body is not null) as texts,
    (select count(*)::int from sms_requests) as sms_requests, (select count(*)::int from sms_incoming) as sms_incoming,
    (select count(*)::int from lookups) as lookups, (select count(*)::int from tasks) as tasks,
    (select count(*)::int from ussd_notices) as ussd_notices, (select count(*)::int from effects) as effects`);
  return Object.fromEntries(Object.entries(counts as object).filter(([, count]) => count > 0));
};

const tables = async () =>
  (await run(`select relname from pg_class where relname in ('${OLD}', '${OLDER}') order by 1`)).map(
    (row) => (row as { relname: string }).relname,
  );

/** A transaction that reads `turns` as `pg_dump` does, and stays open. */
async function dump(t: Test): Promise<() => Promise<void>> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query('begin isolation level repeatable read read only');
  const { rows } = await client.query(`select inhrelid::regclass::text as name from pg_inherits
    where inhparent = 'turns'::regclass union all select 'turns'`);
  for (const { name } of rows) await client.query(`lock table ${name} in access share mode`);
  const end = () => client.end();
  t.teardown(end);
  return end;
}

t.test('a dump that holds turns: everything else goes, and turns go the night after', async (t) => {
  await oldWeeks(OLDER, OLD);
  await oldRows();
  const end = await dump(t);
  const beside = await keep();
  t.match(beside.failures, [{ step: 'turns', code: '55P03' }], 'the step is told of');
  t.equal(beside.failures.length, 1);
  t.same(await rowsLeft(), {}, 'and holds up no other');
  const again = await keep();
  t.same(
    again.failures.map(({ step }) => step),
    ['turns'],
    'as long as the dump lasts',
  );
  t.same(await tables(), [OLDER, OLD]);
  t.match(await leftPartitions(db.kysely, 35), [{ name: OLDER, state: 'pending' }]);
  const failing = (await stepStates(db.kysely)).find(({ step }) => step === 'turns');
  t.equal(failing?.code, '55P03', 'kept for the metric and the doctor');

  await end();
  const after = await keep();
  t.match(after, { failures: [], removed: { 'weeks of turns': 2 } });
  t.same(await tables(), []);
  const states = await stepStates(db.kysely);
  t.ok(states.length >= 12);
  t.same(
    states.filter(({ code }) => code !== null),
    [],
  );
  t.same((await keep()).removed['weeks of turns'], 0, 'twice');
});

t.test('what a kill leaves: a detach that is pending, and a table that is not dropped', async (t) => {
  await oldWeeks(OLDER, OLD);
  const end = await dump(t);
  const killed = new pg.Client({ connectionString: url });
  killed.on('error', () => {});
  await killed.connect();
  const detach = killed.query(`alter table turns detach partition ${OLDER} concurrently`).catch(() => {});
  for (;;) {
    const [waits] = await run(
      `select pid from pg_stat_activity where wait_event_type = 'Lock' and query ~ 'concurrently'`,
    );
    if (waits !== undefined) break;
  }
  const [{ pid }] = (await run(
    `select pid from pg_stat_activity where wait_event_type = 'Lock' and query ~ '^alter table turns detach'`,
  )) as [{ pid: number }];
  await run(`select pg_terminate_backend(${pid})`);
  await detach;
  await end();
  await t.rejects(
    run(`alter table turns detach partition ${OLD} concurrently`),
    { code: '55000' },
    'while one is pending Postgres begins no other',
  );
  t.match(await keep(), { failures: [], removed: { 'weeks of turns': 2 } }, 'it is finalized');
  t.same(await tables(), []);

  await oldWeeks(OLD);
  await run(`alter table turns detach partition ${OLD}`);
  await run(`create table turns_20190107 (keep int)`);
  t.match(await leftPartitions(db.kysely, 35), [{ name: OLD, state: 'detached' }]);
  t.match(await keep(), { failures: [], removed: { 'weeks of turns': 1 } }, 'it is dropped');
  t.same(await tables(), []);
  t.same(await run('select * from turns_20190107'), [], 'a table that is not of turns is left alone');
  await run('drop table turns_20190107');
});

t.test('a week of these days that an operator has detached is attached again', async (t) => {
  const made = (await run(
    `select relname from pg_class where relname ~ '^turns_2' and relkind = 'r' order by 1`,
  )) as {
    relname: string;
  }[];
  const last = made.at(-1)?.relname ?? '';
  await run(`alter table turns detach partition ${last}`);
  t.same(await makePartitions(db.kysely), [last]);
});

t.test('one step that fails keeps no other from its own', async (t) => {
  await oldWeeks(OLD);
  await oldRows();
  await run('alter table effects rename to effects_away');
  await run('alter table lookups rename to lookups_away');
  const { failures } = await keep();
  await run('alter table effects_away rename to effects');
  await run('alter table lookups_away rename to lookups');
  t.same(failures, [
    { step: 'effects', code: '42P01' },
    { step: 'lookups', code: '42P01' },
  ]);
  t.same(await rowsLeft(), { lookups: 1, effects: 1 });
  t.match((await keep()).failures, []);
  t.same(await rowsLeft(), {});
});

t.test('rows that somebody holds are left to the next run', async (t) => {
  await oldRows(3);
  const held = new pg.Client({ connectionString: url });
  await held.connect();
  t.teardown(() => held.end());
  await held.query('begin');
  await held.query('select 1 from tasks limit 1 for update');
  t.match(await keep(), { failures: [], removed: { tasks: 2 }, unclosed: 2 });
  t.same(await rowsLeft(), { tasks: 1 });
  await held.query('rollback');
  t.match(await keep(), { failures: [], removed: { tasks: 1 }, unclosed: 1 });
});

t.test('a backlog goes in batches, and none of its tables keeps the others waiting', async (t) => {
  // More than one batch of each.
  const rows = 2_500 * SCALE;
  const batch = SCALE === 1 ? { rows: 1_000 } : {};
  await oldRows(rows);
  const short = await keep(db, { sliceMs: 0, runMs: 0, ...batch });
  t.ok(short.failures.length >= 10, 'a run without time says what it has not finished');
  t.same(new Set(short.failures.map(({ code }) => code)), new Set(['unfinished']));
  const left = await rowsLeft();
  t.same(
    Object.values(left).filter((count) => count === rows),
    [],
    'but has begun each',
  );
  const began = performance.now();
  const whole = await keep(db, batch);
  t.comment(`${rows} rows in each of 12 tables: ${Math.round(performance.now() - began)} ms`);
  t.match(whole, { failures: [], removed: { tasks: left.tasks, notices: left.ussd_notices } });
  t.same(await rowsLeft(), {});
});

t.test('two runs at once', async (t) => {
  await oldWeeks(OLDER, OLD);
  await oldRows(1_000);
  const runs = await Promise.all([keep(), keep()]);
  const failures = runs.flatMap((each) => each.failures);
  // One may find the other at work on a week for longer than it waits.
  t.same(
    failures.filter(({ step }) => step !== 'turns'),
    [],
  );
  t.same((await keep()).failures, []);
  t.same(await tables(), []);
  t.same(await rowsLeft(), {});
});

t.test('behind a pooler in transaction mode', async (t) => {
  const pooled = openPostgres(await startPooler(t, url), () => {}, 'transaction');
  t.teardown(() => pooled.close());
  await oldWeeks(OLDER, OLD);
  await oldRows();
  t.match(await keep(pooled), { failures: [], removed: { 'weeks of turns': 2, tasks: 1 } });
  t.same(await tables(), []);
  t.same(await rowsLeft(), {});
});

t.test('on a database without another connection, as the embedded one is', async (t) => {
  await oldWeeks(OLDER, OLD);
  await run(`alter table turns detach partition ${OLDER}`);
  t.same(await dropPartitions(db.kysely, 35, { alone: true }), [OLDER, OLD]);
  t.same(await tables(), []);
});

// Making one takes longer than all the rest here.
t.test('in the embedded database', { skip: SCALE === 1 && 'only with TEST_SCALE' }, async (t) => {
  const embedded = await openEmbeddedDatabase();
  t.teardown(() => embedded.close());
  await migrate(embedded.kysely, MIGRATIONS);
  await makePartitions(embedded.kysely);
  await sql`create table turns_20200106 partition of turns for values from ('2020-01-06') to ('2020-01-13')`.execute(
    embedded.kysely,
  );
  await sql`create table turns_20191230 (like turns including defaults including constraints)`.execute(
    embedded.kysely,
  );
  t.match(await keep(embedded), { failures: [], removed: { 'weeks of turns': 2 } });
  t.same(await leftPartitions(embedded.kysely, 35), []);
});
