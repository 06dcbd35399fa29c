import { randomUUID } from 'node:crypto';
import { type RawBuilder, type Selectable, sql } from 'kysely';
import type { Box } from '../seal/box.ts';
import type { Digests } from '../seal/digests.ts';
import { type Db, GuardFailed, lockDigest } from './accounts.ts';
import { olderThan, removeOld, type Sweep } from './batches.ts';
import type { Book, Ledger } from './ledger.ts';
import type { Messages } from './messages.ts';
import { resealColumn } from './reseal.ts';
import { bytes } from './sql.ts';
import type { Tables } from './tables.ts';

/** A report that came before its order knew its provider's id is waited for so long (RULINGS.md 32). */
const REPORT_HOURS = 24;

/** An order that is sent and the report on it, one behind the other: else neither would see the other. */
const REPORT_LOCK = 7_005;

/** What a subscriber orders, and the words by which they are told how it went. */
export type NewOrder = {
  ref: string;
  /** Who pays, and who gets it; E.164. */
  buyer: string;
  recipient: string;
  currency: string;
  /** Hundredths. */
  amount: bigint;
  sent: string;
  failed: string;
};

/** An order as the provider is asked for it. */
export type Order = { id: string; book: Book; recipient: string; currency: string; amountMinor: bigint };

/** How an order went on: `tell` is the message that now has its words and is to be sent. */
export type Moved = { moved: boolean; tell?: string };

/** What the provider says of an order in a callback. */
export type Report = {
  providerId: string;
  recipient: string;
  status: 'Success' | 'Failed';
  /** What was bought, where it says so. */
  value?: { currency: string; amount: bigint } | undefined;
  /** It came by a way that only the provider has: others move no money (RULINGS.md 29). */
  authenticated: boolean;
};

type Sealed = { buyer: string; recipient: string; sent: string; failed: string };
type Row = Selectable<Tables['airtime_orders']>;

/**
 * Airtime that was ordered. `queued` holds the money; `sent` has spent it, and a report may confirm it or bring
 * it back (`refunded`); `failed` has released it. Every step is taken by one statement that names the state
 * before it, so it is taken once.
 */
export class Airtime {
  readonly #box: Box;
  readonly #digests: Digests;
  readonly #ledger: Ledger;
  readonly #messages: Messages;

  constructor(box: Box, digests: Digests, ledger: Ledger, messages: Messages) {
    this.#box = box;
    this.#digests = digests;
    this.#ledger = ledger;
    this.#messages = messages;
  }

  /** Whose money is spent: the simulator's demonstration money, or real money. */
  get book(): Book {
    return this.#ledger.book;
  }

  /**
   * Orders airtime: the money is held, the message that will tell how it went is promised. Throws `GuardFailed`
   * where there is not enough money, the reference is taken, or the phone can be sent no more messages.
   */
  async order(tx: Db, wanted: NewOrder, tell: boolean): Promise<string> {
    const { ref, buyer, recipient, currency, amount, sent, failed } = wanted;
    const owner = this.#digests.phone(buyer);
    const hold = await this.#ledger.hold(tx, owner, currency, amount);
    const message = tell ? await this.#messages.promise(tx, buyer) : null;
    const id = randomUUID();
    const made = await tx
      .insertInto('airtime_orders')
      .values({
        id,
        ref,
        buyer: owner,
        recipient: this.#digests.phone(recipient),
        sealed: this.#seal(id, { buyer, recipient, sent, failed }),
        currency,
        amount: String(amount),
        hold_id: hold,
        message_id: message,
        provider: null,
        provider_id: null,
        ended_at: null,
      })
      .onConflict((conflict) => conflict.column('ref').doNothing())
      .returning('id')
      .executeTakeFirst();
    if (made === undefined) throw new GuardFailed();
    return id;
  }

  /** An order that is to be bought, and in whose money it is paid; undefined where it has gone on. */
  async toBuy(db: Db, id: string): Promise<Order | undefined> {
    const row = await db
      .selectFrom('airtime_orders')
      .innerJoin('holds', 'holds.id', 'airtime_orders.hold_id')
      .innerJoin('ledger_accounts', 'ledger_accounts.id', 'holds.account_id')
      .selectAll('airtime_orders')
      .select('ledger_accounts.book')
      .where('airtime_orders.id', '=', id)
      .where('airtime_orders.state', '=', 'queued')
      .executeTakeFirst();
    if (row === undefined) return undefined;
    const { recipient } = this.#open(row);
    return { id, book: row.book, recipient, currency: row.currency, amountMinor: BigInt(row.amount) };
  }

  /** The provider is asked now: whatever becomes of that, it may have done it. */
  async asked(db: Db, id: string): Promise<void> {
    await db.updateTable('airtime_orders').set({ asked_at: now() }).where('id', '=', id).execute();
  }

  /** The provider took it: the money is spent. A report that came first is heard now. */
  async sent(tx: Db, id: string, provider: string, providerId: string): Promise<Moved> {
    await lockDigest(tx, REPORT_LOCK, this.#digests.key('airtime', providerId));
    const row = await this.#move(tx, id, 'queued', { state: 'sent', provider, provider_id: providerId });
    if (row === undefined) return { moved: false };
    await this.#ledger.settle(tx, row.hold_id, 'airtime');
    const early = await tx
      .selectFrom('airtime_reports')
      .selectAll()
      .where('provider_id', '=', providerId)
      .where('recipient', '=', row.recipient)
      .execute();
    const said = (wanted: Report['status']) =>
      early.some(({ status, authenticated }) => status === wanted && authenticated);
    if (said('Failed')) return this.#refund(tx, row);
    if (said('Success')) {
      await this.#move(tx, id, 'sent', { state: 'confirmed', ended_at: now() });
    }
    return this.#tell(tx, row, 'sent');
  }

  /**
   * It will not be bought: the money is free again. Where the provider has been asked and its answer was lost, a
   * report may have told meanwhile that it was sold: then it was.
   */
  async failed(tx: Db, id: string): Promise<Moved> {
    const sold = await this.soldUnheard(tx, id);
    if (sold !== undefined) return this.sent(tx, id, sold.provider, sold.providerId);
    const row = await this.#move(tx, id, 'queued', { state: 'failed', ended_at: now() });
    if (row === undefined) return { moved: false };
    await this.#ledger.release(tx, row.hold_id);
    return this.#tell(tx, row, 'failed');
  }

  /**
   * What a report says of an order whose answer never came: sold to this phone for this amount, since it was
   * ordered, under an id that no order has. Undefined where there is none.
   */
  async soldUnheard(tx: Db, id: string): Promise<{ provider: string; providerId: string } | undefined> {
    const { rows } = await sql<{ provider_id: string }>`
      select r.provider_id from airtime_orders o
      join airtime_reports r on r.recipient = o.recipient and r.currency = o.currency and r.amount = o.amount
        and r.status = 'Success' and r.authenticated and r.at >= o.ordered_at
      where o.id = ${id} and o.provider_id is null and o.asked_at is not null
        and not exists (select 1 from airtime_orders other where other.provider_id = r.provider_id)
      order by r.at limit 1`.execute(tx);
    const [row] = rows;
    return row && { provider: 'report', providerId: row.provider_id };
  }

  /** An operator tries a failed order again: the money is held once more. Throws `GuardFailed` where it is gone. */
  async revive(tx: Db, id: string): Promise<void> {
    const row = await this.#move(tx, id, 'failed', { state: 'queued', ended_at: null });
    if (row === undefined) throw new GuardFailed();
    const hold_id = await this.#ledger.hold(tx, bytes(row.buyer), row.currency, BigInt(row.amount));
    if (row.message_id !== null) await this.#messages.withdraw(tx, row.message_id);
    const message_id = await this.#messages.promise(tx, this.#open(row).buyer, 'support');
    await tx.updateTable('airtime_orders').set({ hold_id, message_id }).where('id', '=', id).execute();
  }

  /**
   * What the provider says later (or sooner). It moves only an order whose provider's id, phone and state match,
   * and only where it came by a way that only the provider has; otherwise it is kept, and heard when its order is
   * sent, or given up. `repeated`: it was said before.
   */
  async report(tx: Db, report: Report): Promise<Moved & { repeated: boolean }> {
    const { providerId, status, authenticated, value } = report;
    const recipient = this.#digests.phone(report.recipient);
    await lockDigest(tx, REPORT_LOCK, this.#digests.key('airtime', providerId));
    const { rows } = await sql<{ fresh: boolean }>`
      insert into airtime_reports (provider_id, recipient, status, authenticated, currency, amount)
      values (${providerId}, ${recipient}, ${status}, ${authenticated}, ${value?.currency ?? null},
        ${value === undefined ? null : String(value.amount)}::bigint)
      on conflict (provider_id, recipient, status) do update set authenticated = true
        where not airtime_reports.authenticated and excluded.authenticated
      returning true as fresh`.execute(tx);
    if (rows.length === 0) return { moved: false, repeated: true };
    if (!authenticated) return { moved: false, repeated: false };
    const order = await tx
      .selectFrom('airtime_orders')
      .selectAll()
      .where('provider_id', '=', providerId)
      .where('recipient', '=', recipient)
      .where('state', '=', 'sent')
      .forUpdate()
      .executeTakeFirst();
    if (order === undefined) {
      const late = status === 'Success' ? await this.#soldAfterAll(tx, report, recipient) : { moved: false };
      return { ...late, repeated: false };
    }
    if (status === 'Failed') return { ...(await this.#refund(tx, order)), repeated: false };
    const moved = await this.#move(tx, order.id, 'sent', { state: 'confirmed', ended_at: now() });
    return { moved: moved !== undefined, repeated: false };
  }

  /** An order that was given up, and was sold all the same: it is paid for, where there still is the money. */
  async #soldAfterAll(tx: Db, { providerId, value }: Report, recipient: Buffer): Promise<Moved> {
    if (value === undefined) return { moved: false };
    const order = await tx
      .selectFrom('airtime_orders')
      .selectAll()
      .where('recipient', '=', recipient)
      .where('state', '=', 'failed')
      .where('provider_id', 'is', null)
      .where('asked_at', 'is not', null)
      .where('ordered_at', '>', sql<Date>`now() - ${REPORT_HOURS} * interval '1 hour'`)
      .where('currency', '=', value.currency)
      .where(sql<boolean>`amount = ${String(value.amount)}::bigint`)
      .orderBy('ordered_at')
      .limit(1)
      .forUpdate()
      .executeTakeFirst();
    if (order === undefined) return { moved: false };
    const { free } = await this.#ledger.balance(tx, bytes(order.buyer), order.currency);
    if (free < value.amount) return { moved: false };
    const hold_id = await this.#ledger.hold(tx, bytes(order.buyer), order.currency, value.amount);
    await this.#ledger.settle(tx, hold_id, 'airtime');
    await tx.updateTable('airtime_orders').set({ hold_id }).where('id', '=', order.id).execute();
    const row = await this.#move(tx, order.id, 'failed', {
      state: 'confirmed',
      provider: 'report',
      provider_id: providerId,
      ended_at: now(),
    });
    return row === undefined ? { moved: false } : this.#tell(tx, row, 'sent');
  }

  /** Whether we have ordered this, as a provider asks before it sends (RULINGS.md 29). */
  async isExpected(db: Db, recipient: string, currency: string, amount: bigint): Promise<boolean> {
    const row = await db
      .selectFrom('airtime_orders')
      .select('id')
      .where('recipient', '=', this.#digests.phone(recipient))
      // It may say that it sends before it asks whether to.
      .where('state', 'in', ['queued', 'sent'])
      .where('asked_at', '>', sql<Date>`now() - ${REPORT_HOURS} * interval '1 hour'`)
      .where('currency', '=', currency)
      .where(sql<boolean>`amount = ${String(amount)}::bigint`)
      .limit(1)
      .executeTakeFirst();
    return row !== undefined;
  }

  /** Removes reports that nothing waits for any more. */
  async forgetReports(db: Db, within?: Sweep): Promise<void> {
    const where = olderThan('at', REPORT_HOURS / 24);
    await removeOld(db, { table: 'airtime_reports', by: 'at', where }, within);
  }

  /** Seals again, under the active key, what another key sealed. Returns how many rows. */
  async reseal(db: Db): Promise<number> {
    return resealColumn(
      db,
      this.#box,
      { table: 'airtime_orders', key: 'id', column: 'sealed', boundBy: 'id' },
      place,
    );
  }

  async #refund(tx: Db, order: Row): Promise<Moved> {
    const row = await this.#move(tx, order.id, 'sent', { state: 'refunded', ended_at: now() });
    if (row === undefined) return { moved: false };
    await this.#ledger.refund(tx, row.hold_id, 'airtime');
    return this.#tell(tx, row, 'failed');
  }

  /** Gives the promised message its words. Where it was sent with others already, there is a second one to send. */
  async #tell(tx: Db, row: Row, outcome: 'sent' | 'failed'): Promise<Moved> {
    if (row.message_id === null) return { moved: true };
    const { buyer, ...words } = this.#open(row);
    // What was to be told before and has not been is not so any more.
    await this.#messages.withdraw(tx, row.message_id);
    if (await this.#messages.keep(tx, row.message_id, words[outcome]))
      return { moved: true, tell: row.message_id };
    const second = await this.#messages.add(tx, { msisdn: buyer, body: words[outcome], cause: 'support' });
    return { moved: true, tell: second };
  }

  #move(
    tx: Db,
    id: string,
    from: Row['state'],
    to: { state: Row['state']; provider?: string; provider_id?: string; ended_at?: RawBuilder<Date> | null },
  ): Promise<Row | undefined> {
    return tx
      .updateTable('airtime_orders')
      .set(to)
      .where('id', '=', id)
      .where('state', '=', from)
      .returningAll()
      .executeTakeFirst();
  }

  #seal(id: string, sealed: Sealed): Buffer {
    return this.#box.seal(Buffer.from(JSON.stringify(sealed)), place(id));
  }

  #open({ id, sealed }: Row): Sealed {
    return JSON.parse(this.#box.open(sealed, place(id)).toString()) as Sealed;
  }
}

function place(id: string): Buffer {
  return Buffer.from(`airtime_orders.sealed\0${id}`);
}

function now(): RawBuilder<Date> {
  return sql<Date>`clock_timestamp()`;
}
