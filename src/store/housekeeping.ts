import { sql } from 'kysely';
import type { Db } from '../db/db.ts';

/** How a step of the housekeeping stands. Times are milliseconds since 1970 by the database's clock. */
export type StepState = {
  step: string;
  /** When it last left nothing undone; the time of its first run where it never did. */
  succeededAt: number;
  /** Why the newest run failed: an SQLSTATE or an error code; null where it succeeded. */
  code: string | null;
};

/** Records steps that are run for the first time: from then on their success is waited for. */
export async function beginSteps(db: Db, steps: string[]): Promise<void> {
  await sql`insert into housekeeping (step, succeeded_at) select step, clock_timestamp()
    from unnest(${steps}::text[]) step on conflict do nothing`.execute(db);
}

export async function succeeded(db: Db, step: string): Promise<void> {
  await db
    .updateTable('housekeeping')
    .set({ succeeded_at: sql<Date>`clock_timestamp()`, failed_at: null, code: null })
    .where('step', '=', step)
    .execute();
}

export async function failed(db: Db, step: string, code: string): Promise<void> {
  await db
    .updateTable('housekeeping')
    .set({ failed_at: sql<Date>`clock_timestamp()`, code })
    .where('step', '=', step)
    .execute();
}

/** All steps that were ever run, the one that has waited longest for a success first. */
export async function stepStates(db: Db): Promise<StepState[]> {
  return db
    .selectFrom('housekeeping')
    .select([
      'step',
      sql<number>`(extract(epoch from succeeded_at) * 1000)::float8`.as('succeededAt'),
      'code',
    ])
    .orderBy('succeeded_at')
    .execute();
}

/** The code of an error, which is kept and logged; never its message, which may quote values. */
export function codeOf(error: unknown): string {
  const { code, name } = (error ?? {}) as { code?: unknown; name?: unknown };
  return (typeof code === 'string' ? code : String(name ?? 'error')).slice(0, 60);
}
