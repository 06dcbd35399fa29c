import { randomBytes, randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import { countRemoved, olderThan, type Sweep } from '../db/batches.ts';
import { type Cursor, isoTime } from '../db/cursor.ts';
import type { Db } from '../db/db.ts';
import { type Box, SealError } from '../seal/box.ts';
import type { Digests } from '../seal/digests.ts';
import { resealColumn } from './reseal.ts';

/** What is sealed of a look-up: the pseudonym and the reason, empty where the person was erased. */
type Sealed = { phone: string; reason: string };

/** One look-up as the trail shows it; null where it does not open. */
export type Lookup = {
  id: string;
  at: string;
  operator: string;
  phone: string | null;
  reason: string | null;
};

/** The trail of who looked whose dials up, and why. */
export class Lookups {
  readonly #box: Box;
  readonly #digests: Digests;

  constructor(box: Box, digests: Digests) {
    this.#box = box;
    this.#digests = digests;
  }

  /** Records a look-up. It is committed before anything of the phone is shown. */
  async add(db: Db, { operator, msisdn, reason }: { operator: string; msisdn: string; reason: string }) {
    const id = randomUUID();
    const sealed = sealedOf(this.#box, id, { phone: this.#digests.pseudonym(msisdn), reason });
    await db
      .insertInto('lookups')
      .values({ id, operator, phone: this.#digests.phone(msisdn), sealed })
      .execute();
  }

  /** Newest first, behind `after`. */
  async list(db: Db, after: Cursor | undefined, limit: number): Promise<Lookup[]> {
    const all = db
      .selectFrom('lookups')
      .select(['id', 'operator', 'sealed', isoTime('at').as('time')])
      .orderBy('at', 'desc')
      .orderBy('id', 'desc')
      .limit(limit);
    const page =
      after === undefined
        ? all
        : all.where(sql<boolean>`(at, id) < (${after.at}::timestamptz, ${after.id}::uuid)`);
    return (await page.execute()).map(({ id, operator, sealed, time }) => ({
      ...{ id, at: time ?? '', operator },
      ...this.#open(id, sealed),
    }));
  }

  /** Null where it does not open (its key left the ring, it was changed): it must not hide all the others. */
  #open(id: string, sealed: Uint8Array): Pick<Lookup, 'phone' | 'reason'> {
    try {
      return JSON.parse(this.#box.open(sealed, place(id)).toString()) as Sealed;
    } catch (error) {
      if (error instanceof SealError) return { phone: null, reason: null };
      throw error;
    }
  }

  /** Deletes what is older than `days`. Returns how many. */
  async forget(db: Db, days: number, within?: Sweep): Promise<number> {
    return countRemoved(db, { table: 'lookups', by: 'at', where: olderThan('at', days) }, within);
  }

  /** Seals again, under the active key, what another key sealed. Returns how many rows. */
  async reseal(db: Db): Promise<number> {
    return resealColumn(
      db,
      this.#box,
      { table: 'lookups', key: 'id', column: 'sealed', boundBy: 'id' },
      place,
    );
  }
}

/**
 * Cuts a phone out of the trail: that somebody looked, and when, stays. Another id for each row, or the trail would
 * still say which of them are of one person. Returns how many rows.
 */
export async function cutLookups(tx: Db, box: Box, phone: Buffer): Promise<number> {
  const rows = await tx
    .selectFrom('lookups')
    .select('id')
    .where('phone', '=', phone)
    .orderBy('id')
    .forUpdate()
    .execute();
  for (const { id } of rows) {
    await tx
      .updateTable('lookups')
      .set({ phone: randomBytes(16), sealed: sealedOf(box, id, { phone: '', reason: '' }) })
      .where('id', '=', id)
      .execute();
  }
  return rows.length;
}

function sealedOf(box: Box, id: string, what: Sealed): Buffer {
  return box.seal(Buffer.from(JSON.stringify(what)), place(id));
}

function place(id: string): Buffer {
  return Buffer.from(`lookups.sealed\0${id}`);
}
