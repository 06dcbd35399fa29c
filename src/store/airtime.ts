import { randomUUID } from 'node:crypto';
import { type RawBuilder, type Selectable, sql, type UpdateObject } from 'kysely';
import { olderThan, removeOld, type Sweep } from '../db/batches.ts';
import { type Db, GuardFailed, lockDigest } from '../db/db.ts';
import { bytes } from '../db/sql.ts';
import type { Tables } from '../db/tables.ts';
import type { Box } from '../seal/box.ts';
import type { Digests } from '../seal/digests.ts';
import type { Book, Ledger } from './ledger.ts';
import type { Messages } from './messages.ts';
import { resealColumn } from './reseal.ts';
import { certainlySold } from './sale-match.ts';

/** A report that came before its order knew its provider's id is waited for so long (decision 32). */
const REPORT_HOURS = 24;

/** An order that is sent and the report on it, one behind the other: else neither would see the other. */
const REPORT_LOCK = 7_005;
/** All that is heard of orders for one phone, one behind the other; taken after `REPORT_LOCK`. */
const RECIPIENT_LOCK = 7_010;

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
export type Order = {
  id: string;
  book: Book;
  recipient: string;
  currency: string;
  amountMinor: bigint;
  /** The provider was asked before: what became of that is to be learnt. */
  asked: boolean;
};

/** By currency: what the numbers begin with that airtime is sold to, such as `+254` (decision 41). */
export type AirtimeCurrencies = ReadonlyMap<string, readonly string[]>;

/** Where nothing is set. */
export const USUAL_CURRENCIES: AirtimeCurrencies = new Map([['KES', ['+254']]]);

/** How an order went on, and others with it: `tell` are the messages that have their words and are to be sent. */
export type Moved = { moved: boolean; tell: string[] };

/** The provider answered with an id that it had answered another order with: not a sale of this one. */
export class SaleTaken extends Error {
  readonly code = 'sale_taken';
}

/** What the provider says of an order in a callback. */
export type Report = {
  providerId: string;
  recipient: string;
  status: 'Success' | 'Failed';
  /** What was bought, where it says so. */
  value?: { currency: string; amount: bigint } | undefined;
  /** It came by a way that only the provider has: others move no money (decision 29). */
  authenticated: boolean;
};

type Sealed = { buyer: string; recipient: string; sent: string; failed: string };
type Row = Selectable<Tables['airtime_orders']>;
type Outcome = 'sent' | 'failed';
type Change = UpdateObject<Tables, 'airtime_orders'>;

/** The id of a sale, and whether it was found by phone and amount. */
type Sale = { provider: string; providerId: string; attributed: boolean };

/** Orders of one recipient, currency and amount (hundredths, in digits), locked. */
type Group = { recipient: Buffer; currency: string; amount: string; orders: Row[] };

/** No money has moved, and no subscriber is told. */
const STILL: Moved = { moved: false, tell: [] };

/** The provider whose reports `/airtime/status` takes. */
const REPORTING = 'africastalking';
/** What an instance of the version before calls the provider of an order whose id it found by a report. */
const BY_REPORT = 'report';

function joined(one: Moved, other: Moved): Moved {
  return { moved: one.moved || other.moved, tell: [...one.tell, ...other.tell] };
}

/** Whether the id of an order was found by phone and amount: what is answered to a key is stronger. */
function isGuess({ attributed, provider }: Row): boolean {
  return attributed || provider === BY_REPORT;
}

/** The id of an order that was taken without one. */
function unnamed(id: string): string {
  return `unnamed-${id}`;
}

function isUnnamed({ id, provider_id }: Row): boolean {
  return provider_id === unnamed(id);
}

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
  readonly #currencies: AirtimeCurrencies;

  constructor(
    box: Box,
    digests: Digests,
    ledger: Ledger,
    messages: Messages,
    currencies: AirtimeCurrencies = USUAL_CURRENCIES,
  ) {
    this.#currencies = currencies;
    this.#box = box;
    this.#digests = digests;
    this.#ledger = ledger;
    this.#messages = messages;
  }

  /** Whose money is spent: the simulator's demonstration money, or real money. */
  get book(): Book {
    return this.#ledger.book;
  }

  /** What the numbers begin with that airtime of a currency is sold to; none where it is not sold. */
  prefixesOf(currency: string): readonly string[] {
    return this.#currencies.get(currency) ?? [];
  }

  /** Whether airtime of a currency is sold to a number in E.164: to those of its country (decision 41). */
  sellsTo(currency: string, msisdn: string): boolean {
    return this.prefixesOf(currency).some((prefix) => msisdn.startsWith(prefix));
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
    const { book, currency, asked_at } = row;
    return { id, book, recipient, currency, amountMinor: BigInt(row.amount), asked: asked_at !== null };
  }

  /**
   * Notes that a provider is asked now: whatever becomes of that, it may have sold. Returns false where the order has
   * gone on meanwhile and is not to be asked for.
   */
  async asked(db: Db, id: string, provider: string): Promise<boolean> {
    const asked = await db
      .updateTable('airtime_orders')
      .set({
        asked_at: now(),
        provider,
        // An instance of the version before notes the time only: that try is counted with this one.
        asked_times: sql<number>`asked_times + case when asked_times = 0 and asked_at is not null then 2 else 1 end`,
      })
      .where('id', '=', id)
      .where('state', '=', 'queued')
      .returning('id')
      .executeTakeFirst();
    return asked !== undefined;
  }

  /** Notes that the provider answered a try: it sold nothing by it. */
  async denied(db: Db, id: string): Promise<void> {
    await db
      .updateTable('airtime_orders')
      .set({ denied_times: sql<number>`denied_times + 1` })
      .where('id', '=', id)
      .execute();
  }

  /**
   * Takes the provider's answer that it sold an order, under an id of its own: the money is spent, and a report that
   * came first is heard. The answer to the order's own key is certain: an order that was given this id by phone and
   * amount loses it, and is given back where it is not certainly sold under another one. Throws `SaleTaken`, and
   * changes nothing, where another order was answered with the same id.
   */
  async sent(tx: Db, id: string, provider: string, providerId: string): Promise<Moved> {
    const group = await this.#lockGroup(tx, { id }, providerId);
    const order = group?.orders.find((row) => row.id === id);
    if (group === undefined || order === undefined) return STILL;
    if (order.state !== 'queued' && order.provider_id !== null) {
      if (order.provider_id === providerId) {
        await this.#set(tx, order.id, { attributed: false, provider });
        return STILL;
      }
      // A second sale under one key, or an answer without an id: neither takes the place of the id that was answered.
      if (providerId === unnamed(order.id) || !(isGuess(order) || isUnnamed(order))) return STILL;
    }
    const holder = await this.#holderOf(tx, provider, providerId, order.id);
    if (holder !== undefined && !isGuess(holder)) throw new SaleTaken();
    const bereft = holder && (await this.#set(tx, holder.id, { provider_id: null, attributed: false }));
    const told = await this.#sold(tx, order, { provider, providerId, attributed: false });
    return joined(told, await this.#settleGroup(tx, group, bereft ? [bereft] : []));
  }

  /**
   * Gives an order up that was refused or tried for the last time: the money is free again. Where it is certain by
   * reports that it was sold, it was.
   */
  async failed(tx: Db, id: string): Promise<Moved> {
    const group = await this.#lockGroup(tx, { id });
    const order = group?.orders.find((row) => row.id === id);
    if (group === undefined || order?.state !== 'queued') return STILL;
    const sold = await this.#certain(tx, group, order);
    if (sold.moved) return sold;
    const row = await this.#move(tx, id, 'queued', { state: 'failed', ended_at: now() });
    if (row === undefined) return STILL;
    await this.#ledger.release(tx, row.hold_id);
    return joined(await this.#tell(tx, row, 'failed'), await this.#settleGroup(tx, group));
  }

  /**
   * Takes an order for sold whose answer never came, where that is certain by what was reported (`sale-match.ts`).
   * Not moved where it is not.
   */
  async soldUnheard(tx: Db, id: string): Promise<Moved> {
    const group = await this.#lockGroup(tx, { id });
    const order = group?.orders.find((row) => row.id === id);
    if (group === undefined || order?.state !== 'queued') return STILL;
    return this.#certain(tx, group, order);
  }

  /** An operator tries a failed order again: the money is held once more. Throws `GuardFailed` where it is gone. */
  async revive(tx: Db, id: string): Promise<void> {
    const row = await this.#move(tx, id, 'failed', { state: 'queued', ended_at: null });
    if (row === undefined) throw new GuardFailed();
    const hold_id = await this.#ledger.hold(tx, bytes(row.buyer), row.currency, BigInt(row.amount));
    if (row.message_id !== null) await this.#messages.withdraw(tx, row.message_id);
    const message_id = await this.#messages.promise(tx, this.#open(row).buyer, 'support');
    await this.#set(tx, id, { hold_id, message_id, told: null, told_before: null });
  }

  /**
   * Hears what the provider says later (or sooner). A report moves the order whose provider's id, phone and state
   * match, and only where it came by a way that only the provider has. One that names no order is kept: it is heard
   * when its order is sent, or once it is certain which order it means. `repeated`: it was said before.
   */
  async report(tx: Db, report: Report): Promise<Moved & { repeated: boolean }> {
    const { providerId, status, authenticated, value } = report;
    const recipient = this.#digests.phone(report.recipient);
    await lockDigest(tx, REPORT_LOCK, this.#digests.key('airtime', providerId));
    const { rows } = await sql<{ fresh: boolean }>`
      insert into airtime_reports (provider_id, recipient, status, authenticated, currency, amount)
      values (${providerId}, ${recipient}, ${status}, ${authenticated}, ${value?.currency ?? null},
        ${value === undefined ? null : String(value.amount)}::bigint)
      on conflict (provider_id, recipient, status) do update set authenticated = true, at = clock_timestamp()
        where not airtime_reports.authenticated and excluded.authenticated
      returning true as fresh`.execute(tx);
    if (rows.length === 0) return { ...STILL, repeated: true };
    if (!authenticated) return { ...STILL, repeated: false };
    const named = await tx
      .selectFrom('airtime_orders')
      .selectAll()
      .where('provider_id', '=', providerId)
      .where('recipient', '=', recipient)
      .executeTakeFirst();
    if (named !== undefined) return { ...(await this.#heard(tx, named.id, report)), repeated: false };
    if (value === undefined) return { ...STILL, repeated: false };
    const { currency, amount } = value;
    const group = await this.#lockGroup(tx, { recipient, currency, amount: String(amount) });
    return { ...(group === undefined ? STILL : await this.#settleGroup(tx, group)), repeated: false };
  }

  /**
   * Gives back what a migration found charged under the id of another order (`displaced_id`): the money returns to
   * the wallet and the subscriber is told. Returns how many orders, and the messages that are to be sent.
   */
  async giveBackDisplaced(tx: Db): Promise<{ count: number; tell: string[] }> {
    const displaced = await tx
      .selectFrom('airtime_orders')
      .select('id')
      .where('displaced_id', 'is not', null)
      .where('provider_id', 'is', null)
      .where('state', 'in', ['sent', 'confirmed'])
      .orderBy('id')
      .execute();
    let moved: Moved = STILL;
    for (const { id } of displaced) {
      const group = await this.#lockGroup(tx, { id });
      const order = group?.orders.find((row) => row.id === id);
      if (order !== undefined) moved = joined(moved, await this.#giveBack(tx, order));
    }
    return { count: displaced.length, tell: moved.tell };
  }

  /** What a report says of the order that has its id. */
  async #heard(tx: Db, id: string, { providerId, status }: Report): Promise<Moved> {
    const group = await this.#lockGroup(tx, { id });
    const order = group?.orders.find((row) => row.id === id);
    if (order?.provider_id !== providerId) return STILL;
    // An answer came after the order was given up, and its money was not there then.
    if (order.state === 'failed' && status === 'Success') return this.#pay(tx, order);
    if (order.state !== 'sent') return STILL;
    if (status === 'Failed') return this.#refund(tx, order);
    const row = await this.#move(tx, id, 'sent', { state: 'confirmed', ended_at: now() });
    return { moved: row !== undefined, tell: [] };
  }

  /** Takes an order that waits for its answer for sold, where that is certain. */
  async #certain(tx: Db, group: Group, order: Row): Promise<Moved> {
    // An id that it has already was answered when its money was gone, before an operator had it tried again.
    const known = order.provider_id ?? undefined;
    const providerId = known ?? (await this.#match(tx, group)).get(order.id);
    if (providerId === undefined) return STILL;
    const provider = order.provider ?? REPORTING;
    const told = await this.#sold(tx, order, { provider, providerId, attributed: known === undefined });
    return joined(told, await this.#settleGroup(tx, group));
  }

  /** Gives an order the id of its sale, and moves the money as the sale and its report say. */
  async #sold(tx: Db, order: Row, sale: Sale): Promise<Moved> {
    const { provider, providerId: provider_id, attributed } = sale;
    const said = await this.#saidOf(tx, provider_id, order.recipient);
    const row = await this.#set(tx, order.id, { provider, provider_id, attributed });
    if (order.state === 'queued') {
      await this.#ledger.settle(tx, order.hold_id, 'airtime');
      const sent = await this.#set(tx, order.id, { state: 'sent' });
      if (said === 'Failed') return this.#refund(tx, sent);
      if (said === 'Success') await this.#set(tx, order.id, { state: 'confirmed', ended_at: now() });
      return this.#tell(tx, sent, 'sent');
    }
    if (order.state === 'failed') return said === 'Failed' ? STILL : this.#pay(tx, row);
    // It is paid for already, under an id that was another's or none.
    if (order.state === 'sent' || order.state === 'confirmed') {
      if (said === 'Failed') return this.#refund(tx, row);
      const to = said === 'Success' ? ('confirmed' as const) : ('sent' as const);
      await this.#set(tx, order.id, { state: to, ended_at: said === 'Success' ? now() : null });
    }
    return { moved: true, tell: [] };
  }

  /** Pays for an order that was given up and was sold all the same, where there still is the money. */
  async #pay(tx: Db, order: Row): Promise<Moved> {
    const amount = BigInt(order.amount);
    const { free } = await this.#ledger.balance(tx, bytes(order.buyer), order.currency);
    if (free < amount) return STILL;
    const hold_id = await this.#ledger.hold(tx, bytes(order.buyer), order.currency, amount);
    await this.#ledger.settle(tx, hold_id, 'airtime');
    const said =
      order.provider_id === null ? undefined : await this.#saidOf(tx, order.provider_id, order.recipient);
    const state = said === 'Success' ? ('confirmed' as const) : ('sent' as const);
    const row = await this.#set(tx, order.id, {
      hold_id,
      state,
      ended_at: state === 'confirmed' ? now() : null,
    });
    return this.#tell(tx, row, 'sent');
  }

  /** The order that has an id of the provider, other than the one that is spoken of; locked. */
  #holderOf(tx: Db, provider: string, providerId: string, id: string): Promise<Row | undefined> {
    return tx
      .selectFrom('airtime_orders')
      .selectAll()
      .where('provider_id', '=', providerId)
      .where('provider', 'in', [provider, BY_REPORT])
      .where('id', '<>', id)
      .orderBy('attributed')
      .forUpdate()
      .executeTakeFirst();
  }

  /**
   * Locks the orders that a report by phone and amount may mean, and the way of those that would move them: answers
   * and reports for one recipient come one behind the other. Rows before wallets, in the order of their ids.
   */
  async #lockGroup(
    tx: Db,
    of: { id: string } | { recipient: Buffer; currency: string; amount: string },
    providerId?: string,
  ): Promise<Group | undefined> {
    if (providerId !== undefined) await lockDigest(tx, REPORT_LOCK, this.#digests.key('airtime', providerId));
    const found =
      'id' in of
        ? await tx
            .selectFrom('airtime_orders')
            .select(['recipient', 'currency', sql<string>`amount::text`.as('amount')])
            .where('id', '=', of.id)
            .executeTakeFirst()
        : of;
    if (found === undefined) return undefined;
    const recipient = bytes(found.recipient);
    await lockDigest(tx, RECIPIENT_LOCK, recipient);
    const { currency, amount } = found;
    const orders = await tx
      .selectFrom('airtime_orders')
      .selectAll()
      .where('recipient', '=', recipient)
      .where('currency', '=', currency)
      .where(sql<boolean>`amount = ${amount}::bigint`)
      .where((either) =>
        either.or([
          either.and([
            either('asked_at', '>', sql<Date>`now() - ${2 * REPORT_HOURS} * interval '1 hour'`),
            either('state', 'in', ['queued', 'failed', 'sent', 'confirmed']),
          ]),
          ...('id' in of ? [either('id', '=', of.id)] : []),
        ]),
      )
      .orderBy('id')
      .forUpdate()
      .execute();
    return { recipient, currency, amount, orders };
  }

  /** Orders of a group that are certainly sold though no answer said so, with the id of a sale for each. */
  async #match(tx: Db, group: Group): Promise<Map<string, string>> {
    const { recipient, currency, amount } = group;
    const { rows: sales } = await sql<{ providerId: string; at: number }>`
      select r.provider_id as "providerId", extract(epoch from r.at)::float8 * 1000 as at from airtime_reports r
      where r.recipient = ${recipient} and r.currency = ${currency} and r.amount = ${amount}::bigint
        and r.status = 'Success' and r.authenticated
        and not exists (
          select 1 from airtime_reports f where f.provider_id = r.provider_id and f.recipient = r.recipient
            and f.status = 'Failed' and f.authenticated and f.at < r.at)
        and not exists (
          select 1 from airtime_orders o where o.provider_id = r.provider_id or o.displaced_id = r.provider_id)
      order by r.at`.execute(tx);
    if (sales.length === 0) return new Map();
    const ids = group.orders.map(({ id }) => id);
    const { rows: orders } = await sql<{ id: string; from: number; until: number }>`
      select id, extract(epoch from ordered_at)::float8 * 1000 as from,
        extract(epoch from asked_at + ${REPORT_HOURS} * interval '1 hour')::float8 * 1000 as until
      from airtime_orders
      where id = any (${ids}::uuid[]) and asked_at is not null and (
        -- Its answer never came, or it came without an id, or its id turned out to be another's.
        (provider_id is null and state in ('queued', 'failed') and (asked_times = 0 or asked_times > denied_times))
        or (provider_id is null and state in ('sent', 'confirmed') and displaced_id is null)
        or (state = 'sent' and provider_id = 'unnamed-' || id::text))
      order by id`.execute(tx);
    return certainlySold(orders, sales);
  }

  /**
   * Brings a group in line with what is known of it now: orders that were given up and are certainly sold are paid
   * for, one that was answered without an id gets it, and one of `bereft`, whose id is another's, gets a sale of its
   * own or is given back. One that waits for its answer is left to it.
   */
  async #settleGroup(tx: Db, group: Group, bereft: Row[] = []): Promise<Moved> {
    const certain = await this.#match(tx, group);
    let moved: Moved = STILL;
    for (const { id } of group.orders) {
      const providerId = certain.get(id);
      const order = await tx
        .selectFrom('airtime_orders')
        .selectAll()
        .where('id', '=', id)
        .executeTakeFirstOrThrow();
      if (providerId === undefined || order.state === 'queued') continue;
      // Without the money the sale stays free, and the order one that may be meant.
      if (order.state === 'failed' && !(await this.#canPay(tx, order))) continue;
      const provider = order.provider ?? REPORTING;
      moved = joined(moved, await this.#sold(tx, order, { provider, providerId, attributed: true }));
    }
    for (const order of bereft)
      if (!certain.has(order.id)) moved = joined(moved, await this.#giveBack(tx, order));
    return moved;
  }

  async #canPay(tx: Db, { buyer, currency, amount }: Row): Promise<boolean> {
    return (await this.#ledger.balance(tx, bytes(buyer), currency)).free >= BigInt(amount);
  }

  /** What was reported first of a sale, by a way that only the provider has. */
  async #saidOf(tx: Db, providerId: string, recipient: Uint8Array): Promise<Report['status'] | undefined> {
    const first = await tx
      .selectFrom('airtime_reports')
      .select('status')
      .where('provider_id', '=', providerId)
      .where('recipient', '=', bytes(recipient))
      .where('authenticated', '=', true)
      .orderBy('at')
      .limit(1)
      .executeTakeFirst();
    return first?.status;
  }

  /** Whether we have ordered this, as a provider asks before it sends (decision 29). */
  async isExpected(db: Db, recipient: string, currency: string, amount: bigint): Promise<boolean> {
    if (!this.sellsTo(currency, recipient)) return false;
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

  /**
   * Removes reports that nothing waits for any more. A sale that was reported and is of no order is kept as a stray,
   * without the phone, for the reconciliation; strays first, so that a run that is cut off loses none.
   */
  async forgetReports(db: Db, within?: Sweep): Promise<void> {
    await sql`
      insert into airtime_strays (provider_id, currency, amount, at)
      select distinct on (provider_id) provider_id, currency, amount, at from airtime_reports gone
      where at < now() - ${REPORT_HOURS} * interval '1 hour' and status = 'Success' and authenticated
        and not exists (select 1 from airtime_orders o where o.provider_id = gone.provider_id)
      order by provider_id, at
      on conflict do nothing`.execute(db);
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
    await this.#ledger.refund(tx, order.hold_id, 'airtime');
    return this.#tell(tx, await this.#set(tx, order.id, { state: 'refunded', ended_at: now() }), 'failed');
  }

  /** Gives an order back that was paid for under the id of another one: it is one whose answer never came. */
  async #giveBack(tx: Db, order: Row): Promise<Moved> {
    if (order.state !== 'sent' && order.state !== 'confirmed') return STILL;
    await this.#ledger.refund(tx, order.hold_id, 'airtime');
    return this.#tell(tx, await this.#set(tx, order.id, { state: 'failed', ended_at: now() }), 'failed');
  }

  /**
   * Tells an outcome, once: gives the promised message its words, or adds another message where they were sent
   * already. A message that waits and is no longer true is withdrawn; then the one before it stands.
   */
  async #tell(tx: Db, row: Row, outcome: Outcome): Promise<Moved> {
    const { id, message_id, told } = row;
    if (message_id === null || told === outcome) return { moved: true, tell: [] };
    const { buyer, ...words } = this.#open(row);
    const withdrawn = await this.#messages.withdraw(tx, message_id);
    const before = withdrawn ? row.told_before : told;
    if (withdrawn && before === outcome) {
      await this.#set(tx, id, { told: outcome, told_before: null });
      return { moved: true, tell: [] };
    }
    const kept = await this.#messages.keep(tx, message_id, words[outcome]);
    const message = kept
      ? message_id
      : await this.#messages.add(tx, { msisdn: buyer, body: words[outcome], cause: 'support' });
    await this.#set(tx, id, { message_id: message, told: outcome, told_before: before });
    return { moved: true, tell: [message] };
  }

  #move(
    tx: Db,
    id: string,
    from: Row['state'],
    to: { state: Row['state']; ended_at: RawBuilder<Date> | null },
  ): Promise<Row | undefined> {
    return tx
      .updateTable('airtime_orders')
      .set(to)
      .where('id', '=', id)
      .where('state', '=', from)
      .returningAll()
      .executeTakeFirst();
  }

  /** Changes a row that is locked. */
  #set(tx: Db, id: string, to: Change): Promise<Row> {
    return tx
      .updateTable('airtime_orders')
      .set(to)
      .where('id', '=', id)
      .returningAll()
      .executeTakeFirstOrThrow();
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
