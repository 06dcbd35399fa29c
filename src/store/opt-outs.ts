import { sql } from 'kysely';
import { type Db, lockDigest } from '../db/db.ts';
import { bytes } from '../db/sql.ts';
import type { Digests } from '../seal/digests.ts';

/** What one phone refuses and wants again, one behind the other: else the order of two changes would be chance. */
const OPT_OUT_LOCK = 7_007;

/** Sender ids and short codes, as they are kept in words. Anything else could be a phone number. */
const SENDER = /^(?=\P{C}{1,14}$)(?!.*@).*\p{L}.*$|^\d{3,8}$/u;
/** So many digits could be a number, whatever stands between them. */
const NUMBER_DIGITS = 9;

/**
 * Who wants nothing more, and from whom. One row for each phone and sender: any that has not ended stops bulk
 * messages to that phone, and the phone's START ends them all (docs/contract.md section 5).
 */
export class OptOuts {
  readonly #digests: Digests;

  constructor(digests: Digests) {
    this.#digests = digests;
  }

  /**
   * The phone wants nothing more of this sender; of anyone, where it is empty. `saidAt` is when, where a message says so by the provider's
   * clock: one that comes behind a later START changes nothing. False where it was so already.
   */
  async optOut(tx: Db, msisdn: string, sender: string, saidAt: Date | null = null): Promise<boolean> {
    const phone = this.#digests.phone(msisdn);
    await lockDigest(tx, OPT_OUT_LOCK, phone);
    if (saidAt !== null && (await this.#startedAfter(tx, phone, saidAt))) return false;
    const row = { phone, sender: this.nameOf(sender), said_at: saidAt };
    const { rows } = await sql`
      insert into sms_opt_outs (phone, sender, said_at) values (${row.phone}, ${row.sender}, ${row.said_at})
      on conflict (phone, sender) do update
        set since = clock_timestamp(), said_at = excluded.said_at, ended_at = null
        where sms_opt_outs.ended_at is not null
      returning 1`.execute(tx);
    if (rows.length === 0 && saidAt !== null) {
      // Said again: a START from in between is not the last word either.
      await tx
        .updateTable('sms_opt_outs')
        .set({ said_at: sql<Date>`greatest(said_at, ${saidAt}::timestamptz)` })
        .where('phone', '=', phone)
        .where('sender', '=', row.sender)
        .execute();
    }
    return rows.length > 0;
  }

  /**
   * The phone wants messages again, of everybody. `ended`: how many opt-outs that ends, all but those that a
   * later message asked for; `before`: whether there ever was one.
   */
  async optIn(
    tx: Db,
    msisdn: string,
    saidAt: Date | null = null,
  ): Promise<{ ended: number; before: boolean }> {
    const phone = this.#digests.phone(msisdn);
    await lockDigest(tx, OPT_OUT_LOCK, phone);
    const ended = await tx
      .updateTable('sms_opt_outs')
      .set({ ended_at: sql<Date>`clock_timestamp()` })
      .where('phone', '=', phone)
      .where('ended_at', 'is', null)
      .where(sql<boolean>`coalesce(said_at <= ${saidAt}::timestamptz, true)`)
      .returning('sender')
      .execute();
    if (ended.length > 0) return { ended: ended.length, before: true };
    const any = await tx
      .selectFrom('sms_opt_outs')
      .select('sender')
      .where('phone', '=', phone)
      .executeTakeFirst();
    return { ended: 0, before: any !== undefined };
  }

  /** Which of these phones (digests) want no bulk messages; in hex. */
  async optedOut(db: Db, phones: Buffer[]): Promise<Set<string>> {
    const { rows } = await sql<{ phone: Uint8Array }>`
      select distinct phone from sms_opt_outs
      where ended_at is null and phone = any (${phones}::bytea[])`.execute(db);
    return new Set(rows.map(({ phone }) => bytes(phone).toString('hex')));
  }

  /** What a sender is called in the tables: its name, nothing where none was named, or a digest where that could be a number of somebody's. */
  nameOf(sender: string): string {
    const isWord = SENDER.test(sender) && (sender.match(/\p{N}/gu)?.length ?? 0) < NUMBER_DIGITS;
    return isWord || sender === '' ? sender : `#${this.#digests.key('sender', sender).toString('hex')}`;
  }

  async #startedAfter(tx: Db, phone: Buffer, saidAt: Date): Promise<boolean> {
    const later = await tx
      .selectFrom('sms_incoming')
      .select('word')
      .where('phone', '=', phone)
      .where('word', '=', 'start')
      .where('sent_at', '>', saidAt)
      .executeTakeFirst();
    return later !== undefined;
  }
}
