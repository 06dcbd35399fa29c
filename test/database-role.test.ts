/** A role that may only read and write serves; the owner migrates, and makes and drops weeks (docs/postgres.md). */
import { sql } from 'kysely';
import pg from 'pg';
import t from 'tap';
import { openPostgres } from '../src/db/database.ts';
import { migrateServer } from '../src/db/migrate.ts';
import { missingGrants } from '../src/db/rights.ts';
import { deadlineIn } from '../src/deadline.ts';
import { keepHouse } from '../src/housekeeping.ts';
import { startQueue } from '../src/queue.ts';
import { makePartitions, missingPartitions } from '../src/store/partitions.ts';
import { installQueue } from '../src/store/queue-schema.ts';
import { engineOn, MIGRATIONS, menuOf } from './support/engine.ts';
import { database } from './support/postgres.ts';

const HALL = menuOf(`
service: hall
root: hall
nodes:
  hall:
    choose: Hall
    options: [{ key: 1, label: Out, to: out }]
  out: { end: Bye }
`);
const SETTINGS = {
  documents: [HALL],
  codes: { codes: new Map<string, string>(), fallback: 'hall' },
  ttl: 180_000,
};

const { url: superuser } = await database(t, { empty: true });
const name = new URL(superuser).pathname.slice(1);
const [owner, app] = [`owner_${name}`, `app_${name}`];
const as = (role: string) => {
  const url = new URL(superuser);
  [url.username, url.password] = [role, 'hush'];
  return url.href;
};
const client = new pg.Client({ connectionString: superuser });
await client.connect();
t.teardown(async () => {
  for (const role of [app, owner]) await client.query(`drop owned by ${role} cascade; drop role ${role}`);
  await client.end();
});
// As docs/postgres.md has it: before the first migration.
await client.query(`
  create role ${owner} login password 'hush';
  create role ${app} login password 'hush';
  grant create on database ${name} to ${owner};
  grant create on schema public to ${owner};
  revoke create on schema public from public;
  alter default privileges for role ${owner} grant usage on schemas to ${app};
  alter default privileges for role ${owner} grant select, insert, update, delete on tables to ${app};`);

t.test('before the owner has migrated nothing is made', async (t) => {
  await t.rejects(migrateServer(as(app), MIGRATIONS), { code: 'rights_missing' });
});

t.test('the role serves once the owner has migrated', async (t) => {
  t.ok((await migrateServer(as(owner), MIGRATIONS)).includes('0012-foreign-key-indexes'));
  await installQueue(as(owner));
  await installQueue(as(owner));
  const ownerDb = openPostgres(as(owner), () => {});
  t.teardown(() => ownerDb.close());
  t.equal((await makePartitions(ownerDb.kysely)).length, 6);

  t.same(await migrateServer(as(app), MIGRATIONS), [], 'nothing is left to migrate');
  const db = openPostgres(as(app), () => {});
  t.teardown(() => db.close());
  t.same(await missingGrants(db.kysely as never), []);
  await t.rejects(sql`create table own (n int)`.execute(db.kysely), { code: '42501' });
  const faults: string[] = [];
  const queue = await startQueue(db, (error) => faults.push(error.message));
  const ran = Promise.withResolvers<void>();
  await queue.work([
    {
      kind: 'sms',
      batch: 1,
      workers: 1,
      retries: 1,
      deliver: async () => {
        ran.resolve();
        return new Map();
      },
    },
  ]);
  await queue.daily('housekeeping', async () => {});
  const engine = await engineOn(db, { ...SETTINGS, enqueue: queue.enqueue });
  await db.kysely
    .transaction()
    .execute((tx) => queue.enqueue(tx, 'sms', { id: '00000000-0000-4000-8000-000000000001' }));
  await ran.promise;
  t.same(faults, [], 'the queue wants no right that it has not');
  const heard = {
    gateway: 'ixo',
    mode: 'cumulative',
    sessionId: 's1',
    msisdn: '+260970000001',
    serviceCode: '*7#',
  };
  t.match(await engine.takeTurn({ ...heard, text: '' } as never, deadlineIn(20_000)), { outcome: 'ok' });

  const keep = (house = () => db.house(100)) =>
    keepHouse({ ...engine, house, messageDays: 30, deskDays: 90 });
  t.same((await keep()).failures, [], 'with nothing to make or drop its own housekeeping is whole');
  await sql`create table turns_20200106 partition of turns for values from ('2020-01-06') to ('2020-01-13')`.execute(
    ownerDb.kysely,
  );
  const { names } = await weeks(ownerDb.kysely);
  await sql`drop table ${sql.table(names.at(-1) ?? '')}`.execute(ownerDb.kysely);
  t.same((await keep()).failures, [
    { step: 'partitions', code: '42501' },
    { step: 'turns', code: '42501' },
  ]);

  t.comment('with the owner as DATABASE_ADMIN_URL');
  const both = openPostgres(as(app), () => {}, 'none', as(owner));
  t.teardown(() => both.close());
  t.match(await keep(() => both.house(100)), { failures: [], removed: { 'weeks of turns': 1 } });
  t.same(await missingPartitions(db.kysely), { names: [], today: false });
  await sql`drop table ${sql.table(names.at(-1) ?? '')}`.execute(ownerDb.kysely);
  await engineOn(both, SETTINGS);
  t.same(await missingPartitions(db.kysely), { names: [], today: false }, 'a start makes them as the owner');

  t.comment('a role that lacks a right on one table');
  await client.query(`revoke delete on tasks from ${app}`);
  t.match(await missingGrants(db.kysely as never), [
    /^grant usage on schema public/,
    /^grant select, insert, update, delete/,
  ]);
  await t.rejects(migrateServer(as(app), MIGRATIONS), { code: 'rights_missing' });
  await queue.stop();
});

async function weeks(db: Parameters<typeof makePartitions>[0]): Promise<{ names: string[] }> {
  const { rows } = await sql<{ name: string }>`select inhrelid::regclass::text as name from pg_inherits
    where inhparent = 'turns'::regclass order by 1`.execute(db);
  return { names: rows.map((row) => row.name) };
}

t.test('every foreign key has an index that finds its rows', async (t) => {
  const { rows } = await client.query(`
    select conrelid::regclass::text as "table", (
      select array_agg(attname::text order by at) from unnest(conkey) with ordinality k(num, at)
      join pg_attribute on attrelid = conrelid and attnum = num) as columns
    from pg_constraint f
    where contype = 'f' and connamespace = 'public'::regnamespace and not exists (
      select from pg_index i
      where i.indrelid = f.conrelid and i.indisvalid
        and (i.indkey::smallint[])[0:cardinality(f.conkey) - 1] @> f.conkey
        -- Partial: only over what refers to anything at all.
        and (i.indpred is null or pg_get_expr(i.indpred, i.indrelid) = (
          select format('(%s IS NOT NULL)', attname) from pg_attribute where attrelid = f.conrelid and attnum = f.conkey[1])))`);
  t.same(rows, []);
  const { rows: all } = await client.query(
    `select from pg_constraint where contype = 'f' and connamespace = 'public'::regnamespace`,
  );
  t.ok(all.length >= 10, `${all.length} of them`);
});

t.test('what is looked for by its time, or by a phone within hours, has an index', async (t) => {
  const { rows } =
    await client.query(`select regexp_replace(indexdef, '^.* ON public\\.(\\S+) USING btree ', '\\1 ') as has
    from pg_indexes where schemaname = 'public' and indexdef ~ 'btree'`);
  const has = new Set(rows.map((row) => row.has));
  for (const wanted of [
    'effects (at)',
    'airtime_reports (recipient, at)',
    'airtime_reports (at)',
    'sms_requests (at)',
    'ussd_notices (received_at)',
    'pin_counters (at) WHERE nobody',
  ])
    t.ok(has.has(wanted), wanted);
});
