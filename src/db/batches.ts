import { type RawBuilder, sql } from 'kysely';
import type { Db } from './db.ts';
import type { Tables } from './tables.ts';

/** Rows per statement. 10,000 deletes take well under a second, so that no lock and no snapshot is held for long. */
const ROWS = 10_000;
/** Limits of one batch, in milliseconds. They are the transaction's, so that they hold behind a pooler too. */
const BATCH_MS = 30_000;
const BATCH_LOCK_MS = 2_000;

/** The time that one run of a step may take, and how many rows one of its statements changes. */
export type Sweep = {
  rows: number;
  /** True when no further batch may begin. */
  over(): boolean;
  /** Set where `over` ended the run with rows left. */
  unfinished: boolean;
};

/** Makes a sweep that ends when `over` says so; without it only when nothing is left. */
export function sweep(over: () => boolean = () => false, rows = ROWS): Sweep {
  return { rows, over, unfinished: false };
}

/** The rows of a table that retention removes, or changes with `set`. */
export type Old = {
  table: keyof Tables;
  /** Column with a btree index, a time or a day; the oldest rows go first. */
  by: string;
  where: RawBuilder<boolean>;
  /** Assignments of an update that makes `where` false; absent: the rows are deleted. */
  set?: RawBuilder<unknown>;
  /** Column by whose value the removed rows are counted. */
  kind?: string;
};

/**
 * Removes old rows in batches, one transaction each, until none is left or the sweep is over. Each batch continues at
 * the time where the last one ended: starting at the oldest entry again would read the dead entries of all earlier
 * batches for as long as an old snapshot (a dump) keeps them. Rows that another transaction holds locked are left to
 * the next run. Returns how many rows were removed, by the value of `kind`.
 */
export async function removeOld(db: Db, old: Old, within: Sweep = sweep()): Promise<Map<string, number>> {
  const removed = new Map<string, number>();
  let after = '-infinity';
  for (;;) {
    const batch = await inTransaction(db, (tx) => removeBatch(tx, old, after, within.rows));
    for (const [kind, count] of Object.entries(batch.removed))
      removed.set(kind, (removed.get(kind) ?? 0) + count);
    const { seen, last } = batch;
    if (last === null || seen < within.rows) return removed;
    // Only rows of one moment, and none of them could be removed: nothing further would be.
    if (last === after && Object.keys(batch.removed).length === 0) return removed;
    after = last;
    if (within.over()) {
      within.unfinished = true;
      return removed;
    }
  }
}

/** True for rows whose time in `column` is more than `days` days ago. */
export function olderThan(column: string, days: number): RawBuilder<boolean> {
  return sql<boolean>`${sql.ref(column)} < now() - ${days}::float8 * interval '1 day'`;
}

/** The same, as one number. */
export async function countRemoved(db: Db, old: Old, within?: Sweep): Promise<number> {
  let count = 0;
  for (const each of (await removeOld(db, old, within)).values()) count += each;
  return count;
}

type Batch = { seen: number; last: string | null; removed: Record<string, number> };

async function removeBatch(tx: Db, old: Old, after: string, rows: number): Promise<Batch> {
  const table = sql.table(old.table);
  const by = sql.ref(old.by);
  const kind = old.kind === undefined ? sql`''` : sql.ref(`${old.table}.${old.kind}`);
  // An array, not a join: of a join the planner may make one that reads the whole table for every batch.
  const places = sql`${sql.ref(`${old.table}.ctid`)} = any (array(select place from old))`;
  const change =
    old.set === undefined
      ? sql`delete from ${table} where ${places}`
      : sql`update ${table} set ${old.set} where ${places}`;
  const { rows: said } = await sql<Batch>`
    with old as materialized (
      select ctid as place, ${by} as moment from ${table}
      where ${old.where} and ${by} >= ${after}
      order by ${by} limit ${rows} for update skip locked),
    gone as (${change} returning ${kind}::text as kind)
    select (select count(*)::int from old) as seen, (select max(moment)::text from old) as last,
      coalesce((select json_object_agg(kind, count) from
        (select kind, count(*)::int as count from gone group by kind) kinds), '{}') as removed`.execute(tx);
  return said[0] ?? { seen: 0, last: null, removed: {} };
}

/** Runs in a transaction with the limits of a batch; in the one that is open already where `db` is one. */
async function inTransaction<T>(db: Db, run: (tx: Db) => Promise<T>): Promise<T> {
  if (db.isTransaction) return run(db);
  return db.transaction().execute(async (tx) => {
    await limit(tx, BATCH_MS, BATCH_LOCK_MS);
    // In the order of the index: without statistics the planner would sort the whole backlog for every batch.
    await sql`select set_config('enable_sort', 'off', true)`.execute(tx);
    return run(tx);
  });
}

/** Limits of this transaction alone, in milliseconds: a pooler hands its connection to another client afterwards. */
export async function limit(tx: Db, statementMs: number, lockMs: number): Promise<void> {
  await sql`select set_config('statement_timeout', ${String(statementMs)}, true),
    set_config('lock_timeout', ${String(lockMs)}, true)`.execute(tx);
}
