import { type Db, lockDigest } from '../db/db.ts';
import { bytes } from '../db/sql.ts';
import type { Box } from '../seal/box.ts';
import type { Digests } from '../seal/digests.ts';
import { resealColumn } from './reseal.ts';

/** Changes of one phone, one behind the other: of two that say the same, the later one finds it so. */
const SUBSCRIPTION_LOCK = 7_009;

/** A phone subscribes to a keyword of a short code, or unsubscribes. */
export type Change = { msisdn: string; shortCode: string; keyword: string; active: boolean };

/** Subscriptions to premium messages: a row for every change, of which the newest says how it is. */
export class Subscriptions {
  readonly #box: Box;
  readonly #digests: Digests;

  constructor(box: Box, digests: Digests) {
    this.#box = box;
    this.#digests = digests;
  }

  /** Keeps a change; `repeated` where it is so already. */
  async change(tx: Db, change: Change): Promise<'stored' | 'repeated'> {
    const { msisdn, shortCode: short_code, active } = change;
    const keyword = change.keyword.toUpperCase();
    const phone = this.#digests.phone(msisdn);
    await lockDigest(tx, SUBSCRIPTION_LOCK, phone);
    const now = await tx
      .selectFrom('sms_subscriptions')
      .select('active')
      .where('phone', '=', phone)
      .where('short_code', '=', short_code)
      .where('keyword', '=', keyword)
      .orderBy('id', 'desc')
      .limit(1)
      .executeTakeFirst();
    if (now?.active === active) return 'repeated';
    const sealed = this.#box.seal(Buffer.from(msisdn), place(phone));
    await tx
      .insertInto('sms_subscriptions')
      .values({ phone, msisdn: sealed, short_code, keyword, active })
      .execute();
    return 'stored';
  }

  /** Seals again, under the active key, what another key sealed. Returns how many rows. */
  async reseal(db: Db): Promise<number> {
    return resealColumn(
      db,
      this.#box,
      { table: 'sms_subscriptions', key: 'id', column: 'msisdn', boundBy: 'phone' },
      (phone: Uint8Array) => place(bytes(phone)),
    );
  }
}

function place(phone: Buffer): Buffer {
  return Buffer.concat([Buffer.from('sms_subscriptions.msisdn\0'), phone]);
}
