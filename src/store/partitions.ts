import { type Kysely, sql } from 'kysely';
import { SqlState, sqlState } from './sql.ts';
import type { Tables } from './tables.ts';

/** Weeks of partitions that exist ahead of today: a month in which nobody has to look (RULINGS.md 19). */
const WEEKS_AHEAD = 4;

/** One instance at a time makes partitions; any number that no other lock of ours uses. */
const PARTITION_LOCK = 7_001;

const WEEK_MS = 7 * 86_400_000;

/**
 * Makes the weekly partitions of `turns` from last week to four weeks ahead. A partition is made as a
 * plain table and then attached, which locks out neither readers nor writers of the others.
 * Safe to run at any time, on several instances at once. Returns the names of those it made.
 */
export async function makePartitions(db: Kysely<Tables>): Promise<string[]> {
  const today = await utcDay(db);
  const made: string[] = [];
  for (let week = -1; week <= WEEKS_AHEAD; week += 1) {
    const from = new Date(monday(today).getTime() + week * WEEK_MS);
    if (await makeWeek(db, from)) made.push(nameOf(from));
  }
  return made;
}

/** The partitions that should be there and are not, and whether today's is one of them. */
export async function missingPartitions(db: Kysely<Tables>): Promise<{ names: string[]; today: boolean }> {
  const there = await partitions(db);
  const today = monday(await utcDay(db));
  const weeks = Array.from(
    { length: WEEKS_AHEAD + 1 },
    (_, week) => new Date(today.getTime() + week * WEEK_MS),
  );
  const names = weeks.map(nameOf).filter((name) => !there.includes(name));
  return { names, today: names.includes(nameOf(today)) };
}

/**
 * Drops partitions that ended more than `days` ago: detached first without locking anybody out, then
 * dropped. Returns the names of those it dropped.
 */
export async function dropPartitions(db: Kysely<Tables>, days: number): Promise<string[]> {
  const today = await utcDay(db);
  const dropped: string[] = [];
  for (const name of await partitions(db)) {
    const from = dayOf(name);
    if (from === undefined || from.getTime() + WEEK_MS > today.getTime() - days * 86_400_000) continue;
    await sql`alter table turns detach partition ${sql.table(name)} concurrently`.execute(db);
    await sql`drop table ${sql.table(name)}`.execute(db);
    dropped.push(name);
  }
  return dropped;
}

async function makeWeek(db: Kysely<Tables>, from: Date): Promise<boolean> {
  const name = nameOf(from);
  const first = isoDay(from);
  const after = isoDay(new Date(from.getTime() + WEEK_MS));
  if ((await partitions(db)).includes(name)) return false;
  try {
    return await db.transaction().execute(async (tx) => {
      await sql`select pg_advisory_xact_lock(${PARTITION_LOCK})`.execute(tx);
      if ((await partitions(tx)).includes(name)) return false;
      await sql`create table ${sql.table(name)} (like turns including defaults including constraints)`.execute(
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

async function partitions(db: Kysely<Tables>): Promise<string[]> {
  const { rows } = await sql<{ name: string }>`
    select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'turns'::regclass order by 1`.execute(db);
  return rows.map((row) => row.name);
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
