import { sql } from 'kysely';
import { countRemoved, olderThan, type Sweep } from '../db/batches.ts';
import type { Db } from '../db/db.ts';
import { bytes } from '../db/sql.ts';

/** What an effect is one of: the turn that first showed the screen being answered, and its place in the answer. */
export type EffectKey = { shown: Buffer; ordinal: number };

/** A turn by its row's key. */
export type Doer = { sessionKey: Buffer; day: string; dial: number; address: Buffer };

/** Claims an effect for a turn; false where another turn has done it (decision 9). */
export async function claimEffect(
  tx: Db,
  { shown, ordinal }: EffectKey,
  kind: string,
  by: Doer,
): Promise<boolean> {
  const { sessionKey: session_key, day, dial, address } = by;
  const claimed = await tx
    .insertInto('effects')
    .values({ shown, ordinal, kind, session_key, day, dial, address })
    .onConflict((conflict) => conflict.doNothing())
    .returning('ordinal')
    .executeTakeFirst();
  return claimed !== undefined;
}

/** The turn that did what answering a screen does. */
export async function whoDid(db: Db, { shown, ordinal }: EffectKey): Promise<Doer | undefined> {
  const row = await db
    .selectFrom('effects')
    .select((select) => ['session_key', select.cast<string>('day', 'text').as('day'), 'dial', 'address'])
    .where('shown', '=', shown)
    .where('ordinal', '=', ordinal)
    .executeTakeFirst();
  return (
    row && { sessionKey: bytes(row.session_key), day: row.day, dial: row.dial, address: bytes(row.address) }
  );
}

/**
 * Removes what dials of more than `days` ago made happen: their turns are gone, and nothing is answered there. By the
 * time first, because a day may hold more rows than a batch; then what the day of the dial still names. Returns how
 * many rows.
 */
export async function forgetEffects(db: Db, days: number, within?: Sweep): Promise<number> {
  const old = sql<boolean>`day < (now() at time zone 'utc')::date - ${days}::int`;
  const backlog = sql<boolean>`${old} and ${olderThan('at', days)}`;
  return (
    (await countRemoved(db, { table: 'effects', by: 'at', where: backlog }, within)) +
    (await countRemoved(db, { table: 'effects', by: 'day', where: old }, within))
  );
}
