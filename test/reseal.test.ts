/** The rotation reads page after page, whatever the rows are told apart by (src/store/reseal.ts). */
import { randomBytes, randomUUID } from 'node:crypto';
import { type RawBuilder, sql } from 'kysely';
import t from 'tap';
import type { Db } from '../src/db/db.ts';
import { bytes } from '../src/db/sql.ts';
import { openKeeping } from '../src/engine.ts';
import { Box } from '../src/seal/box.ts';
import { parseKeyRing } from '../src/seal/keys.ts';
import { TEST_KEY } from './support/gateway.ts';
import { LONG_TIER } from './support/scale.ts';
import { embedded, onPostgres } from './support/stage.ts';

const OLD = parseKeyRing(TEST_KEY);
const BOTH = parseKeyRing(`k2:fedcba9876543210fedcba9876543210,${TEST_KEY}`);
const NEW = parseKeyRing('k2:fedcba9876543210fedcba9876543210');
/** Two whole pages and a bit: numbers of four digits follow those of three. */
const ROWS = 1_001;

/** Rows that are told apart by a number, by bytes, and by a UUID. */
async function fill(db: Db): Promise<void> {
  const box = new Box(OLD, 'columns');
  const seal = (place: string, key: Buffer) =>
    box.seal(Buffer.from('kept'), Buffer.concat([Buffer.from(place), key]));
  const rows = Array.from({ length: ROWS }, () => ({ phone: randomBytes(16), id: randomUUID() }));
  for (let from = 0; from < ROWS; from += 200) {
    const some = rows.slice(from, from + 200);
    const values = (row: (each: { phone: Buffer; id: string }) => RawBuilder<unknown>) =>
      sql.join(some.map(row));
    await sql`insert into sms_subscriptions (phone, msisdn, short_code, keyword, active) values ${values(
      ({ phone }) => sql`(${phone}, ${seal('sms_subscriptions.msisdn\0', phone)}, '1', 'A', true)`,
    )}`.execute(db);
    await sql`insert into sms_incoming (id, phone, sealed, short_code, answer) values ${values(
      ({ phone }) => sql`(${phone}, ${phone}, ${seal('sms_incoming.sealed\0', phone)}, '1', 'none')`,
    )}`.execute(db);
    await sql`insert into lookups (id, operator, phone, sealed) values ${values(
      ({ phone, id }) => sql`(${id}::uuid, 'sue', ${phone}, ${seal('lookups.sealed\0', Buffer.from(id))})`,
    )}`.execute(db);
  }
}

for (const [name, open] of Object.entries({
  'on Postgres': onPostgres,
  'on the embedded database': embedded,
})) {
  t.test(name, open === embedded ? LONG_TIER : {}, async (t) => {
    const { db, databases } = await open(t);
    const [database] = databases;
    if (database === undefined) throw new Error('there is no database');
    await fill(db);
    const keeping = await openKeeping(database, {
      ring: BOTH,
      digestKey: Buffer.alloc(32, 7),
      messages: { dailyMax: 1, prefixes: [] },
      book: 'demo',
    });
    const all = [keeping.subscriptions, keeping.incoming, keeping.lookups];
    for (const each of all) t.equal(await each.reseal(db), ROWS);
    for (const each of all) t.equal(await each.reseal(db), 0, 'once');
    const box = new Box(NEW, 'columns');
    const { rows } = await sql<{ sealed: Uint8Array; bound: Uint8Array }>`
      select msisdn as sealed, convert_to('sms_subscriptions.msisdn', 'UTF8') || '\\x00'::bytea || phone as bound
      from sms_subscriptions
      union all select sealed, convert_to('sms_incoming.sealed', 'UTF8') || '\\x00'::bytea || id from sms_incoming
      union all select sealed, convert_to('lookups.sealed', 'UTF8') || '\\x00'::bytea || convert_to(id::text, 'UTF8')
      from lookups`.execute(db);
    t.equal(rows.length, 3 * ROWS);
    const read = rows.map(({ sealed, bound }) => box.open(sealed, bytes(bound)).toString());
    t.same([...new Set(read)], ['kept'], 'the older key may leave the ring');
  });
}
