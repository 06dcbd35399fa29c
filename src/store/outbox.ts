import { sql } from 'kysely';
import { countRemoved, olderThan, type Sweep } from '../db/batches.ts';
import { type Cursor, isoTime } from '../db/cursor.ts';
import type { Db } from '../db/db.ts';

/** `done`: delivered. `refused`: the far side said no for good. `dead`: given up after the last try. */
export type OutboxState = 'queued' | 'done' | 'refused' | 'dead';

/** One thing that leaves the house, as operators see it. Times are ISO 8601 in UTC. */
export type Outgoing = {
  id: string;
  kind: string;
  state: OutboxState;
  attempts: number;
  /** Code of the last attempt, where that failed. */
  error: string | null;
  queuedAt: string;
  triedAt: string | null;
  endedAt: string | null;
};

/** Days that what was delivered is kept for operators to see. */
const DONE_DAYS = 2;

/** The row of what is to be delivered; the queue's job goes into the same transaction. */
export async function putOut(tx: Db, kind: string, id: string): Promise<void> {
  await tx.insertInto('outbox').values({ id, kind }).execute();
}

/** Ends a delivery; false where it had ended before: whoever is told true, and nobody else, does what follows. */
export async function endDelivery(
  tx: Db,
  id: string,
  state: Exclude<OutboxState, 'queued'>,
  error: string | null = null,
): Promise<boolean> {
  const ended = await tx
    .updateTable('outbox')
    .set({
      state,
      ended_at: sql<Date>`clock_timestamp()`,
      tried_at: sql<Date>`clock_timestamp()`,
      // What is given up has been counted, try by try, but for those of which nobody came back to tell.
      ...(state === 'dead'
        ? { error: sql<string>`coalesce(error, 'expired')` }
        : { attempts: sql<number>`attempts + 1` }),
      // What has been delivered has no error, whatever earlier attempts met.
      ...((error !== null || state === 'done') && { error }),
    })
    .where('id', '=', id)
    .where('state', '=', 'queued')
    .returning('id')
    .executeTakeFirst();
  return ended !== undefined;
}

/** An attempt that failed and comes again. */
export async function noteAttempts(db: Db, ids: string[], error: string): Promise<void> {
  if (ids.length === 0) return;
  await db
    .updateTable('outbox')
    .set({ attempts: sql<number>`attempts + 1`, tried_at: sql<Date>`clock_timestamp()`, error })
    .where('id', 'in', ids)
    .where('state', '=', 'queued')
    .execute();
}

/** What kind of delivery this is; undefined where there is none or it has ended. */
export async function kindOf(db: Db, id: string): Promise<string | undefined> {
  const row = await db
    .selectFrom('outbox')
    .select('kind')
    .where('id', '=', id)
    .where('state', '=', 'queued')
    .executeTakeFirst();
  return row?.kind;
}

/** Queues what was given up or refused once more; undefined where it is neither. */
export async function reviveDelivery(tx: Db, id: string): Promise<{ id: string; kind: string } | undefined> {
  return tx
    .updateTable('outbox')
    .set({ state: 'queued', attempts: 0, error: null, tried_at: null, ended_at: null })
    .where('id', '=', id)
    .where('state', 'in', ['dead', 'refused'])
    .returning(['id', 'kind'])
    .executeTakeFirst();
}

/** Deliveries, newest first. */
export async function listDeliveries(
  db: Db,
  wanted: { state?: OutboxState | undefined; kind?: string | undefined; after?: Cursor | undefined },
  limit: number,
): Promise<Outgoing[]> {
  const { state, kind, after } = wanted;
  let query = db
    .selectFrom('outbox')
    .select([
      'id',
      'kind',
      'state',
      'attempts',
      'error',
      isoTime('queued_at').as('queuedAt'),
      isoTime('tried_at').as('triedAt'),
      isoTime('ended_at').as('endedAt'),
    ]);
  if (state !== undefined) query = query.where('state', '=', state);
  if (kind !== undefined) query = query.where('kind', '=', kind);
  if (after !== undefined)
    query = query.where(sql<boolean>`(queued_at, id) < (${after.at}::timestamptz, ${after.id}::uuid)`);
  const rows = await query.orderBy('queued_at', 'desc').orderBy('id', 'desc').limit(limit).execute();
  return rows.map((row) => ({ ...row, queuedAt: row.queuedAt ?? '' }));
}

/**
 * How many deliveries there are that have not been made, by kind and state, and for how long the oldest has been
 * there; in seconds.
 */
export async function countDeliveries(
  db: Db,
): Promise<{ kind: string; state: OutboxState; count: number; oldest: number }[]> {
  return db
    .selectFrom('outbox')
    .select([
      'kind',
      'state',
      sql<number>`count(*)::int`.as('count'),
      sql<number>`extract(epoch from clock_timestamp() - min(queued_at))::float8`.as('oldest'),
    ])
    .where('state', '<>', 'done')
    .groupBy(['kind', 'state'])
    .execute();
}

/** Removes what was delivered a while ago. Returns how many rows. */
export async function forgetDelivered(db: Db, within?: Sweep): Promise<number> {
  const where = sql<boolean>`state = 'done' and ${olderThan('ended_at', DONE_DAYS)}`;
  return countRemoved(db, { table: 'outbox', by: 'ended_at', where }, within);
}
