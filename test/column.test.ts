/** Columns of a batch: what is sent in binary, and to the embedded database as values, is what comes back. */
import t, { type Test } from 'tap';
import { bool, bytea, Column, date, float8, int2, int4, text } from '../src/db/column.ts';
import { type Database, openEmbeddedDatabase } from '../src/db/database.ts';
import { embeddedDirectory } from './support/embedded.ts';
import { openDatabase } from './support/engine.ts';
import fc from './support/property.ts';
import { scaled } from './support/scale.ts';

const nullable = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: null });
const DAY = fc
  .integer({ min: -400_000, max: 800_000 })
  .map((days) => new Date(days * 86_400_000))
  .filter((day) => day.getUTCFullYear() >= 1)
  .map((day) => day.toISOString().slice(0, 10))
  .filter((day) => day.length === 10);

/** By type: its name, its values, and how the database is asked for them. */
const TYPES = [
  ['bytea', bytea, nullable(fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)))],
  // No NUL in a text of Postgres.
  ['text', text, fc.string({ unit: 'binary', maxLength: 60 }).map((value) => value.replaceAll('\0', ''))],
  ['boolean', bool, fc.boolean()],
  ['smallint', int2, fc.integer({ min: -32_768, max: 32_767 })],
  ['int', int4, nullable(fc.integer({ min: -2_147_483_648, max: 2_147_483_647 }))],
  ['float8', float8, nullable(fc.double({ noNaN: true }))],
  ['date', date, DAY],
] as const;

async function comeBack(t: Test, db: Database): Promise<void> {
  for (const [name, type, values] of TYPES) {
    const shown = name === 'bytea' ? `encode(v, 'hex')` : 'v::text';
    await t.resolves(
      fc.assert(
        fc.asyncProperty(fc.array(values as fc.Arbitrary<unknown>, { maxLength: 20 }), async (list) => {
          const column = new Column<unknown>(type as never, list);
          const rows = await db.sql(
            `column_${name}`,
            `select ${shown} as v from unnest($1::${name}[]) with ordinality u(v, n) order by n`,
            [column],
          );
          const got = rows.map(({ v }) => v);
          const expected = list.map((value) => {
            if (value === null) return null;
            return Buffer.isBuffer(value) ? value.toString('hex') : String(value);
          });
          const same =
            name === 'float8'
              ? got.every((value, i) => (value === null ? list[i] === null : Number(value) === list[i]))
              : JSON.stringify(got) === JSON.stringify(expected);
          if (!same || got.length !== list.length)
            throw new Error(`${name}: ${JSON.stringify(expected)}\n${JSON.stringify(got)}`);
        }),
        { numRuns: scaled(400) },
      ),
      name,
    );
  }
}

t.test('on Postgres', async (t) => comeBack(t, (await openDatabase(t)).db));

t.test('on the embedded database', async (t) => {
  const db = await openEmbeddedDatabase(await embeddedDirectory(t));
  t.teardown(() => db.close());
  await comeBack(t, db);
});
