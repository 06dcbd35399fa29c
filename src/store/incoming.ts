import { sql } from 'kysely';
import { countRemoved, olderThan, type Sweep } from '../db/batches.ts';
import { type Db, lockDigest } from '../db/db.ts';
import { bytes } from '../db/sql.ts';
import type { Box } from '../seal/box.ts';
import type { Digests } from '../seal/digests.ts';
import { resealColumn } from './reseal.ts';

/** What one phone writes is answered one by one: two at once would each take the last place of the hour. */
const INCOMING_LOCK = 7_008;

/** How far the provider's clock may be ahead: a message from the future would outlast every later one. */
const AHEAD_MINUTES = 10;

/** Answers that were sent: what the limit of an hour counts. */
const SENT = ['reply', 'stop', 'start'] as const;

/** What somebody sent us. `shortCode` is as the tables call it (`OptOuts.nameOf`). */
export type NewIncoming = {
  /** The provider's: a repeat of the message has the same. */
  id: string;
  /** Who it is from, as the provider says, and the number where that is one; E.164. */
  from: string;
  msisdn?: string | undefined;
  to: string;
  shortCode: string;
  text: string;
  linkId?: string | undefined;
  sentAt?: Date | undefined;
  word?: 'stop' | 'start' | undefined;
};

/** Messages that come in, each once by the provider's id; who wrote what is sealed. */
export class IncomingMessages {
  readonly #box: Box;
  readonly #digests: Digests;

  constructor(box: Box, digests: Digests) {
    this.#box = box;
    this.#digests = digests;
  }

  /**
   * Keeps a message, and makes others of the same phone wait until `tx` ends. Returns its key and when it was
   * sent, as far as that can be; undefined where it was kept before.
   */
  async add(tx: Db, message: NewIncoming): Promise<{ key: Buffer; sentAt: Date | null } | undefined> {
    const { from, to, text, msisdn, shortCode, linkId, sentAt, word } = message;
    const key = this.#digests.key('sms incoming', message.id);
    const phone = this.#digests.phone(msisdn ?? from);
    const sealed = this.#box.seal(Buffer.from(JSON.stringify({ from, to, text })), place(key));
    const kept = await tx
      .insertInto('sms_incoming')
      .values({
        id: key,
        phone,
        sealed,
        short_code: shortCode,
        link_id: linkId ?? null,
        word: word ?? null,
        answer: 'none',
        sent_at: sql<Date | null>`case when ${sentAt ?? null}::timestamptz
          < clock_timestamp() + ${AHEAD_MINUTES} * interval '1 minute' then ${sentAt ?? null}::timestamptz end`,
      })
      .onConflict((conflict) => conflict.doNothing())
      .returning('sent_at')
      .executeTakeFirst();
    if (kept === undefined) return undefined;
    await lockDigest(tx, INCOMING_LOCK, phone);
    return { key, sentAt: kept.sent_at };
  }

  /** What came of a message. */
  async answered(tx: Db, key: Buffer, answer: string): Promise<void> {
    await tx.updateTable('sms_incoming').set({ answer }).where('id', '=', key).execute();
  }

  /** How many answers a phone was sent within the hour. */
  async answersOfHour(tx: Db, msisdn: string): Promise<number> {
    const { rows } = await sql<{ count: number }>`
      select count(*)::int as count from sms_incoming
      where phone = ${this.#digests.phone(msisdn)} and at > clock_timestamp() - interval '1 hour'
        and answer in (${sql.join(SENT)})`.execute(tx);
    return rows[0]?.count ?? 0;
  }

  /** Deletes what came more than `days` ago. */
  async forget(db: Db, days: number, within?: Sweep): Promise<number> {
    return countRemoved(db, { table: 'sms_incoming', by: 'at', where: olderThan('at', days) }, within);
  }

  /** Seals again, under the active key, what another key sealed. Returns how many rows. */
  async reseal(db: Db): Promise<number> {
    return resealColumn(
      db,
      this.#box,
      { table: 'sms_incoming', key: 'id', column: 'sealed', boundBy: 'id' },
      (id: Uint8Array) => place(bytes(id)),
    );
  }
}

function place(key: Buffer): Buffer {
  return Buffer.concat([Buffer.from('sms_incoming.sealed\0'), key]);
}
