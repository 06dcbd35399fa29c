import type { Db } from './accounts.ts';
import { bytes } from './sql.ts';

/** What an effect is one of: the turn that showed the screen being answered, and its place in the answer. */
export type EffectKey = { sessionKey: Buffer; day: string; dial: number; shown: Buffer; ordinal: number };

/** Claims an effect for a turn; false where another turn has done it (RULINGS.md 9). */
export async function claimEffect(tx: Db, key: EffectKey, kind: string, address: Buffer): Promise<boolean> {
  const { sessionKey, day, dial, shown, ordinal } = key;
  const claimed = await tx
    .insertInto('effects')
    .values({ session_key: sessionKey, day, dial, shown, ordinal, kind, address })
    .onConflict((conflict) => conflict.doNothing())
    .returning('ordinal')
    .executeTakeFirst();
  return claimed !== undefined;
}

/** The address of the turn that did what answering a screen does. */
export async function whoDid(
  db: Db,
  { sessionKey, day, dial, shown }: EffectKey,
): Promise<Buffer | undefined> {
  const row = await db
    .selectFrom('effects')
    .select('address')
    .where('session_key', '=', sessionKey)
    .where('day', '=', day)
    .where('dial', '=', dial)
    .where('shown', '=', shown)
    .executeTakeFirst();
  return row && bytes(row.address);
}
