import { type SelectType, sql } from 'kysely';
import type { Db } from '../db/db.ts';
import type { Tables } from '../db/tables.ts';
import type { Box } from '../seal/box.ts';
import { inPages } from './pages.ts';

/** Rows that a rotation reads at a time. */
const PAGE = 500;

/** A sealed column of a table whose rows are told apart by `key`; what binds a seal to its row is made of `boundBy`. */
type Sealed<T extends keyof Tables, B extends keyof Tables[T]> = {
  table: T;
  key: keyof Tables[T] & string;
  column: keyof Tables[T] & string;
  boundBy: B & string;
};

/**
 * Seals a column again, under the active key, wherever another key sealed it. Only what was read is written: a person
 * who is erased meanwhile, or a text that gets its words, stays as it is by then, and is found by the next pass.
 * Returns how many rows were to be sealed.
 */
export async function resealColumn<T extends keyof Tables, B extends keyof Tables[T]>(
  db: Db,
  box: Box,
  { table, key, column, boundBy }: Sealed<T, B>,
  bound: (value: SelectType<Tables[T][B]>) => Buffer,
): Promise<number> {
  const [from, at, place, by] = [sql.table(table), sql.ref(key), sql.ref(column), sql.ref(boundBy)];
  const page = async (after: { at: unknown } | undefined) => {
    const behind = after === undefined ? sql`true` : sql`${at} > ${after.at}`;
    const { rows } = await sql<{ at: unknown; by: SelectType<Tables[T][B]>; sealed: Uint8Array }>`
      select ${at} as at, ${by} as by, ${place} as sealed from ${from}
      where ${place} is not null and ${behind} order by ${at} limit ${PAGE}`.execute(db);
    return rows;
  };
  let count = 0;
  for await (const row of inPages(PAGE, page)) {
    const again = box.reseal(row.sealed, bound(row.by));
    if (again === undefined) continue;
    await sql`update ${from} set ${place} = ${again} where ${at} = ${row.at} and ${place} = ${row.sealed}`.execute(
      db,
    );
    count += 1;
  }
  return count;
}
