import { type Kysely, sql } from 'kysely';
import { limit, type Sweep, sweep } from '../db/batches.ts';
import { SqlState, sqlState } from '../db/sql.ts';
import type { Tables } from '../db/tables.ts';

/** Weeks of partitions that exist ahead of today: a month without housekeeping does no harm (decision 19). */
const WEEKS_AHEAD = 4;

/** Days that turns are kept; then their partition is dropped. */
export const RETENTION_DAYS = 35;

/** One instance at a time makes partitions; any number that no other lock of ours uses. */
const PARTITION_LOCK = 7_001;

const WEEK_MS = 7 * 86_400_000;

/**
 * Makes the weekly partitions of `turns` from last week to four weeks ahead. A partition is made as a
 * plain table and then attached, which locks out neither readers nor writers of the others.
 * Safe to run at any time, on several instances at once. Returns the names of those it made.
 */
export async function makePartitions(db: Kysely<Tables>): Promise<string[]> {
  const today = monday(await utcDay(db)).getTime();
  const there = await attached(db);
  const made: string[] = [];
  for (let week = -1; week <= WEEKS_AHEAD; week += 1) {
    const from = new Date(today + week * WEEK_MS);
    if (!there.includes(nameOf(from)) && (await makeWeek(db, from))) made.push(nameOf(from));
  }
  return made;
}

/** The partitions that should be there and are not, and whether today's is one of them. */
export async function missingPartitions(db: Kysely<Tables>): Promise<{ names: string[]; today: boolean }> {
  const there = await attached(db);
  const today = monday(await utcDay(db));
  const weeks = Array.from(
    { length: WEEKS_AHEAD + 1 },
    (_, week) => new Date(today.getTime() + week * WEEK_MS),
  );
  const names = weeks.map(nameOf).filter((name) => !there.includes(name));
  return { names, today: names.includes(nameOf(today)) };
}

/**
 * Weeks of turns that retention began to remove and did not finish: `pending`, where a detach was cut off, and
 * `detached`, where the table was not dropped. The next run of the housekeeping removes them.
 */
export async function leftPartitions(db: Kysely<Tables>, days: number): Promise<Week[]> {
  const today = await utcDay(db);
  return (await weeksOf(db)).filter(({ name, state }) => state !== 'attached' && isOver(name, today, days));
}

/**
 * Drops partitions that ended more than `days` ago: detached first without blocking other sessions, then dropped. Also
 * ends what an earlier run left: a detach that was cut off is finalized (while one is pending Postgres begins no
 * other), and a table that was detached and not dropped is dropped. Each week is tried whatever became of the others;
 * the first error is thrown after the last one. `alone`: the database has no other connection. Returns the names of
 * those it dropped.
 */
export async function dropPartitions(
  db: Kysely<Tables>,
  days: number,
  { within = sweep(), alone = false, lockMs = LOCK_MS }: Dropping = {},
): Promise<string[]> {
  const today = await utcDay(db);
  const weeks = await weeksOf(db);
  const errors: unknown[] = [];
  const dropped: string[] = [];
  const attempt = async (run: () => Promise<void>) => {
    if (within.over()) within.unfinished = true;
    else await run().catch((error: unknown) => errors.push(error));
  };
  // Of whatever week it is: an operator may have begun it, and it bars every other.
  for (const { name, state } of weeks)
    if (state === 'pending') await attempt(() => advance({ db, alone, lockMs }, name, 'detached'));
  for (const { name } of weeks) {
    if (!isOver(name, today, days)) continue;
    await attempt(async () => {
      await advance({ db, alone, lockMs }, name, 'gone');
      dropped.push(name);
    });
  }
  if (errors.length > 0) throw errors[0];
  return dropped;
}

type Dropping = { within?: Sweep; alone?: boolean; lockMs?: number };

/** How far the removal of a partition has come. `pending`: its detach was cut off, and readers see it no more. */
type State = 'attached' | 'pending' | 'detached' | 'gone';
type Week = { name: string; state: Exclude<State, 'gone'> };

/** Steps of one removal, and room for another instance that takes some of them at the same time. */
const MOST_STEPS = 6;

/** Brings a week of turns to a state, step by step, from whichever state it is in. Throws where a step fails. */
async function advance(
  { db, alone, lockMs }: { db: Kysely<Tables>; alone: boolean; lockMs: number },
  name: string,
  wanted: 'detached' | 'gone',
): Promise<void> {
  const table = sql.table(name);
  for (let steps = 1; ; steps += 1) {
    const state = await stateOf(db, name);
    if (state === 'gone' || state === wanted) return;
    try {
      if (state === 'attached' && alone)
        // One connection, which waits for no other: both at once, so that nothing is ever left between them.
        await db.transaction().execute(async (tx) => {
          await sql`alter table turns detach partition ${table}`.execute(tx);
          await sql`drop table ${table}`.execute(tx);
        });
      else if (state === 'attached')
        await sql`alter table turns detach partition ${table} concurrently`.execute(db);
      else if (state === 'pending')
        await inLimits(db, lockMs, (tx) =>
          sql`alter table turns detach partition ${table} finalize`.execute(tx),
        );
      else await inLimits(db, lockMs, (tx) => sql`drop table ${table}`.execute(tx));
    } catch (error) {
      // Another run may have been faster: then it has moved on.
      if (steps >= MOST_STEPS || (await stateOf(db, name)) === state) throw error;
      // A detach that was cut off waits for a transaction that is still there: so would what follows.
      if (sqlState(error) !== undefined && (await stateOf(db, name)) === 'pending') throw error;
    }
  }
}

/** Limits of a statement that waits for a table which no turn wants, in milliseconds. */
const STATEMENT_MS = 60_000;
const LOCK_MS = 10_000;

function inLimits(
  db: Kysely<Tables>,
  lockMs: number,
  run: (tx: Kysely<Tables>) => Promise<unknown>,
): Promise<unknown> {
  return db.transaction().execute(async (tx) => {
    await limit(tx, STATEMENT_MS, lockMs);
    return run(tx);
  });
}

async function makeWeek(db: Kysely<Tables>, from: Date): Promise<boolean> {
  const name = nameOf(from);
  const first = isoDay(from);
  const after = isoDay(new Date(from.getTime() + WEEK_MS));
  if ((await attached(db)).includes(name)) return false;
  try {
    return await db.transaction().execute(async (tx) => {
      await sql`select pg_advisory_xact_lock(${PARTITION_LOCK})`.execute(tx);
      if ((await attached(tx)).includes(name)) return false;
      // It may be there already, detached by an operator: then it is attached again with what is in it.
      await sql`
        create table if not exists ${sql.table(name)} (like turns including defaults including constraints)`.execute(
        tx,
      );
      await sql`alter table turns attach partition ${sql.table(name)}
        for values from (${sql.lit(first)}) to (${sql.lit(after)})`.execute(tx);
      return true;
    });
  } catch (error) {
    // Another instance held the lock for longer than we wait: it is making the same partitions.
    if (sqlState(error) === SqlState.lockNotAvailable) return false;
    throw error;
  }
}

async function attached(db: Kysely<Tables>): Promise<string[]> {
  return (await weeksOf(db)).filter(({ state }) => state === 'attached').map(({ name }) => name);
}

async function stateOf(db: Kysely<Tables>, name: string): Promise<State> {
  return (await weeksOf(db)).find((week) => week.name === name)?.state ?? 'gone';
}

/**
 * The weeks of turns by name, attached or not. A table that is not attached counts where it has the name of a week and
 * the columns of turns: to keep one, an operator renames it.
 */
async function weeksOf(db: Kysely<Tables>): Promise<Week[]> {
  const { rows } = await sql<Week>`
    select c.relname as name,
      case when i.inhrelid is null then 'detached' when i.inhdetachpending then 'pending' else 'attached' end as state
    from pg_class c left join pg_inherits i on i.inhrelid = c.oid and i.inhparent = 'turns'::regclass
    where i.inhrelid is not null or (
      c.relkind = 'r' and not c.relispartition and c.relname ~ '^turns_[0-9]{8}$'
      and c.relnamespace = (select relnamespace from pg_class where oid = 'turns'::regclass)
      and (select count(*) from pg_attribute a
        where a.attrelid = c.oid and a.attname in ('session_key', 'dial', 'address', 'sealed')) = 4)
    order by 1`.execute(db);
  return rows;
}

/** Whether a week of turns ended more than `days` before today. */
function isOver(name: string, today: Date, days: number): boolean {
  const from = dayOf(name);
  return from !== undefined && from.getTime() + WEEK_MS <= today.getTime() - days * 86_400_000;
}

async function utcDay(db: Kysely<Tables>): Promise<Date> {
  const { rows } = await sql<{ day: string }>`select (now() at time zone 'utc')::date::text as day`.execute(
    db,
  );
  return new Date(`${rows[0]?.day}T00:00:00Z`);
}

function monday(day: Date): Date {
  return new Date(day.getTime() - ((day.getUTCDay() + 6) % 7) * 86_400_000);
}

function isoDay(date: Date): string {
  return date.toISOString().slice(0, 10);
}

function nameOf(from: Date): string {
  return `turns_${isoDay(from).replaceAll('-', '')}`;
}

function dayOf(name: string): Date | undefined {
  const [, year, month, day] = /^turns_(\d{4})(\d\d)(\d\d)$/.exec(name) ?? [];
  return year === undefined ? undefined : new Date(`${year}-${month}-${day}T00:00:00Z`);
}
