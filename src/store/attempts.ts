import { sql } from 'kysely';
import { olderThan, removeOld, type Sweep } from '../db/batches.ts';
import type { Db } from '../db/db.ts';
import { Unavailable } from '../db/sql.ts';
import type { Deadline } from '../flow/heard.ts';

/** After so many tries without a right one in between, nothing is checked until then (docs/contract.md section 2). */
const LOCKS = sql<Date | null>`case
  when pin_counters.tries + 1 >= 10 then 'infinity'::timestamptz
  when pin_counters.tries + 1 = 6 then clock_timestamp() + interval '24 hours'
  when pin_counters.tries + 1 = 3 then clock_timestamp() + interval '15 minutes'
  else pin_counters.locked_until end`;

/** Days that attempts, and counters of IDs that are no account, are kept: longer than any dial lives. */
const ATTEMPT_DAYS = 3;

/** What tries are counted by; `nobody`: an ID that is no account this phone may log in to. */
export type CounterKey = { key: Buffer; nobody: boolean };

/**
 * Tries at PINs. An attempt is a row keyed by its turn, and only who inserts it raises the counters, before
 * the PIN is checked: so copies of one request count once and reach the same verdict, and however many
 * come at once, no more are checked than the lock allows (decision 15).
 */
export class Attempts {
  readonly #db: Db;

  constructor(db: Db) {
    this.#db = db;
  }

  /**
   * Counts a try of this turn against every key, unless one of them is locked: then it counts nothing.
   * Commits before it returns. Returns true where the PIN may be checked. Throws `Unavailable`, and counts nothing,
   * where the database let it wait past the deadline: its PIN is not checked, and the subscriber tries again.
   */
  async begin(turn: Buffer, keys: CounterKey[], deadline?: Deadline): Promise<boolean> {
    return this.#db.transaction().execute(async (tx) => {
      const mine = await tx
        .insertInto('pin_attempts')
        .values({ turn, locked: false })
        .onConflict((conflict) => conflict.doNothing())
        .returning('turn')
        .executeTakeFirst();
      if (mine === undefined) {
        const copy = await tx
          .selectFrom('pin_attempts')
          .select('locked')
          .where('turn', '=', turn)
          .executeTakeFirst();
        return copy?.locked === false;
      }
      const counters = [...keys].sort((a, b) => Buffer.compare(a.key, b.key));
      const ordered = counters.map(({ key }) => key);
      await tx
        .insertInto('pin_counters')
        .values(counters.map(({ key, nobody }) => ({ key, nobody, locked_until: null })))
        .onConflict((conflict) => conflict.doNothing())
        .execute();
      const held = await tx
        .selectFrom('pin_counters')
        .select(sql<boolean>`coalesce(locked_until > clock_timestamp(), false)`.as('locked'))
        .where('key', 'in', ordered)
        .orderBy('key')
        .forUpdate()
        .execute();
      // Nothing is waited for behind these locks.
      if (deadline !== undefined && deadline.left() <= 0) throw new Unavailable('deadline');
      if (held.some(({ locked }) => locked)) {
        await tx.updateTable('pin_attempts').set({ locked: true }).where('turn', '=', turn).execute();
        return false;
      }
      await tx
        .updateTable('pin_counters')
        .set({ tries: sql<number>`tries + 1`, locked_until: LOCKS, at: sql<Date>`clock_timestamp()` })
        .where('key', 'in', ordered)
        .execute();
      return true;
    });
  }

  /** Whether nothing is checked for this key now. */
  async isLocked(key: Buffer): Promise<boolean> {
    const row = await this.#db
      .selectFrom('pin_counters')
      .select(sql<boolean>`coalesce(locked_until > clock_timestamp(), false)`.as('locked'))
      .where('key', '=', key)
      .executeTakeFirst();
    return row?.locked === true;
  }

  /** A right PIN, or support, clears the counts. */
  async clear(tx: Db, keys: Buffer[]): Promise<void> {
    // Held in the order in which a try holds them: two of them could wait for each other otherwise.
    await tx
      .selectFrom('pin_counters')
      .select('key')
      .where('key', 'in', keys)
      .orderBy('key')
      .forUpdate()
      .execute();
    await tx
      .updateTable('pin_counters')
      .set({ tries: 0, locked_until: null })
      .where('key', 'in', keys)
      .execute();
  }

  /** Attempts older than any dial, and counters of IDs that are nobody's, are not asked for again. */
  async forget(db: Db, within?: Sweep): Promise<void> {
    const old = olderThan('at', ATTEMPT_DAYS);
    await removeOld(db, { table: 'pin_attempts', by: 'at', where: old }, within);
    const where = sql<boolean>`nobody and ${old}`;
    await removeOld(db, { table: 'pin_counters', by: 'at', where }, within);
  }
}
