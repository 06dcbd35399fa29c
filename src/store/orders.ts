import { randomUUID } from 'node:crypto';
import { type Selectable, sql } from 'kysely';
import { type Db, GuardFailed } from '../db/db.ts';
import { bytes } from '../db/sql.ts';
import type { Tables } from '../db/tables.ts';
import type { Box } from '../seal/box.ts';
import { instrumentById } from './instruments.ts';
import type { Balance, Book, Ledger } from './ledger.ts';
import type { Messages } from './messages.ts';
import { resealColumn } from './reseal.ts';
import { amountFor, MOST_MINOR, MOST_UNITS, unitsFor } from './shares.ts';

/** What everything is priced in. */
const MONEY = 'USD';

/** Who dials has a number; who comes by another way may have none. */
const NUMBER = /^\+[1-9]\d{1,14}$/;

export type Side = 'buy' | 'sell';

/** What a subscriber orders, and the words by which they are told how it went. */
export type NewOrder = {
  ref: string;
  /** Who orders: their number, or what stands for one. */
  caller: string;
  /** The digest by which they are known and own things. */
  owner: Buffer;
  side: Side;
  stockId: string;
  /** Millionths of a share. */
  units: bigint;
  /** Hundredths. */
  amountMinor: bigint;
  priceMinor: bigint;
  filled: string;
  rejected: string;
};

/** An order as the exchange is asked for it. */
export type Order = { key: string; symbol: string; side: Side; units: bigint; priceMinor: bigint };

/** How an order went on: `tell` is the message that now has its words and is to be sent. */
export type Ended = { moved: boolean; tell?: string };

/** An order as its owner sees it; `date` is of its end, in UTC. */
export type Listed = {
  ref: string;
  side: Side;
  symbol: string;
  units: bigint;
  amountMinor: bigint;
  state: 'queued' | 'filled' | 'rejected';
  date: string;
};

/** A holding of one company that may be sold, at its present price. */
export type Holding = { stockId: string; symbol: string; name: string; units: bigint; priceMinor: bigint };

type Sealed = { caller: string | null; filled: string; rejected: string };
type Row = Selectable<Tables['stock_orders']>;

/**
 * Orders for shares. `queued` holds what they are paid with, money or shares; `filled` has traded it, `rejected` has
 * released it. Every step is taken by one statement that names the state before it, so it is taken once.
 */
export class Orders {
  readonly #box: Box;
  readonly #ledger: Ledger;
  readonly #messages: Messages;

  constructor(box: Box, ledger: Ledger, messages: Messages) {
    this.#box = box;
    this.#ledger = ledger;
    this.#messages = messages;
  }

  /** Whose money is invested: the simulator's demonstration money, or real money. */
  get book(): Book {
    return this.#ledger.book;
  }

  /** The money of an investor. */
  cash(db: Db, owner: Buffer): Promise<Balance> {
    return this.#ledger.balance(db, owner, MONEY);
  }

  /**
   * Orders shares, or their sale: what pays is held, the message that will tell how it went is promised to whoever
   * has a number. Throws `GuardFailed` where the price is another one now, units and amount are not what it gives,
   * there is not enough, the reference is taken, or the phone can be sent no more messages.
   */
  async order(tx: Db, wanted: NewOrder, tell: boolean): Promise<string> {
    const { ref, owner, caller, side, stockId, units, amountMinor, priceMinor, filled, rejected } = wanted;
    const stock = await instrumentById(tx, stockId);
    if (stock?.priceMinor !== priceMinor || !isFair(wanted)) throw new GuardFailed();
    const hold = await this.#hold(tx, owner, stock.symbol, { side, units, amountMinor });
    const hasNumber = NUMBER.test(caller);
    const message = tell && hasNumber ? await this.#messages.promise(tx, caller) : null;
    const id = randomUUID();
    const made = await tx
      .insertInto('stock_orders')
      .values({
        id,
        ref,
        owner,
        sealed: this.#seal(id, { caller: hasNumber ? caller : null, filled, rejected }),
        instrument: stockId,
        side,
        units: String(units),
        price_minor: String(priceMinor),
        amount_minor: String(amountMinor),
        hold_id: hold,
        message_id: message,
        provider: null,
        code: null,
        ended_at: null,
      })
      .onConflict((conflict) => conflict.column('ref').doNothing())
      .returning('id')
      .executeTakeFirst();
    if (made === undefined) throw new GuardFailed();
    return id;
  }

  /** An order that is to be placed; undefined where it has gone on. */
  async toPlace(db: Db, id: string): Promise<Order | undefined> {
    const { rows } = await sql<{ symbol: string; side: Side; units: string; price: string }>`
      select i.symbol, o.side, o.units::text as units, o.price_minor::text as price
      from stock_orders o join instruments i on i.id = o.instrument
      where o.id = ${id} and o.state = 'queued'`.execute(db);
    const [row] = rows;
    if (row === undefined) return undefined;
    const { symbol, side, units, price } = row;
    return { key: id, symbol, side, units: BigInt(units), priceMinor: BigInt(price) };
  }

  /** The exchange has done it: what was held is traded. */
  async filled(tx: Db, id: string, provider: string, code: string): Promise<Ended> {
    const row = await this.#end(tx, id, 'filled', provider, code);
    if (row === undefined) return { moved: false };
    const comes =
      row.side === 'buy'
        ? { currency: await this.#currencyOf(tx, row), amount: BigInt(row.units) }
        : { currency: MONEY, amount: BigInt(row.amount_minor) };
    await this.#ledger.trade(tx, row.hold_id, 'exchange', comes);
    return this.#tell(tx, row, 'filled');
  }

  /** It will not be done, by the word of the exchange or because it was given up: what was held is free again. */
  async rejected(tx: Db, id: string, provider: string | null, code: string | null): Promise<Ended> {
    const row = await this.#end(tx, id, 'rejected', provider, code);
    if (row === undefined) return { moved: false };
    await this.#ledger.release(tx, row.hold_id);
    return this.#tell(tx, row, 'rejected');
  }

  /**
   * An operator tries an order again that was given up, at its own price: what pays is held once more. Throws
   * `GuardFailed` where that is gone.
   */
  async revive(tx: Db, id: string): Promise<void> {
    const row = await tx
      .updateTable('stock_orders')
      .set({ state: 'queued', provider: null, code: null, ended_at: null })
      .where('id', '=', id)
      .where('state', '=', 'rejected')
      .returningAll()
      .executeTakeFirst();
    if (row === undefined) throw new GuardFailed();
    if (row.message_id !== null) await this.#messages.withdraw(tx, row.message_id);
    const { side, units, amount_minor } = row;
    const stock = await this.#stockOf(tx, row);
    const hold_id = await this.#hold(tx, bytes(row.owner), stock.symbol, {
      side,
      units: BigInt(units),
      amountMinor: BigInt(amount_minor),
    });
    const { caller } = this.#open(row);
    const message_id =
      row.message_id === null || caller === null ? null : await this.#messages.promise(tx, caller, 'support');
    await tx.updateTable('stock_orders').set({ hold_id, message_id }).where('id', '=', id).execute();
  }

  /** Orders that are under way, newest first. */
  pending(db: Db, owner: Buffer, most: number): Promise<Listed[]> {
    return this.#list(db, owner, ['queued'], most);
  }

  /** Orders that have ended, newest first. */
  history(db: Db, owner: Buffer, most: number): Promise<Listed[]> {
    return this.#list(db, owner, ['filled', 'rejected'], most);
  }

  /** Returns the holdings that may be sold, by symbol, without those of open sales. */
  async holdings(db: Db, owner: Buffer): Promise<Holding[]> {
    const { rows } = await sql<{ id: string; symbol: string; name: string; units: string; price: string }>`
      select i.id, i.symbol, i.name, a.balance::text as units, i.price_minor::text as price
      from ledger_accounts a join instruments i on a.currency = 'stock:' || i.symbol
      where a.book = ${this.book} and a.kind = 'cash' and a.owner = ${owner} and a.balance > 0
      order by i.symbol`.execute(db);
    return rows.map(({ id, symbol, name, units, price }) => ({
      stockId: id,
      symbol,
      name,
      units: BigInt(units),
      priceMinor: BigInt(price),
    }));
  }

  /** Seals again, under the active key, what another key sealed. Returns how many rows. */
  async reseal(db: Db): Promise<number> {
    return resealColumn(
      db,
      this.#box,
      { table: 'stock_orders', key: 'id', column: 'sealed', boundBy: 'id' },
      place,
    );
  }

  #hold(tx: Db, owner: Buffer, symbol: string, { side, units, amountMinor }: Paid): Promise<string> {
    return side === 'buy'
      ? this.#ledger.hold(tx, owner, MONEY, amountMinor)
      : this.#ledger.hold(tx, owner, currencyOf(symbol), units);
  }

  async #list(db: Db, owner: Buffer, states: Listed['state'][], most: number): Promise<Listed[]> {
    // Of this book: what was tried with demonstration money is no part of what follows.
    const { rows } = await sql<Omit<Listed, 'units' | 'amountMinor'> & { units: string; amount: string }>`
      select o.ref, o.side, i.symbol, o.units::text as units, o.amount_minor::text as amount, o.state,
        to_char(coalesce(o.ended_at, o.ordered_at) at time zone 'utc', 'YYYY-MM-DD') as date
      from stock_orders o
      join instruments i on i.id = o.instrument
      join holds h on h.id = o.hold_id
      join ledger_accounts a on a.id = h.account_id
      where o.owner = ${owner} and o.state in (${sql.join(states)}) and a.book = ${this.book}
      order by o.ordered_at desc, o.id limit ${most}`.execute(db);
    return rows.map(({ amount, ...row }) => ({
      ...row,
      units: BigInt(row.units),
      amountMinor: BigInt(amount),
    }));
  }

  #end(
    tx: Db,
    id: string,
    state: 'filled' | 'rejected',
    provider: string | null,
    code: string | null,
  ): Promise<Row | undefined> {
    return tx
      .updateTable('stock_orders')
      .set({ state, provider, code, ended_at: sql<Date>`clock_timestamp()` })
      .where('id', '=', id)
      .where('state', '=', 'queued')
      .returningAll()
      .executeTakeFirst();
  }

  async #stockOf(tx: Db, { instrument }: Row) {
    const stock = await instrumentById(tx, instrument);
    if (stock === undefined) throw new Error('an order of no instrument');
    return stock;
  }

  async #currencyOf(tx: Db, row: Row): Promise<string> {
    return currencyOf((await this.#stockOf(tx, row)).symbol);
  }

  /** Gives the promised message its words. Where it was sent with others already, there is a second one to send. */
  async #tell(tx: Db, row: Row, outcome: 'filled' | 'rejected'): Promise<Ended> {
    const { caller, ...words } = this.#open(row);
    if (row.message_id === null || caller === null) return { moved: true };
    // What was to be told before and has not been is not so any more.
    await this.#messages.withdraw(tx, row.message_id);
    if (await this.#messages.keep(tx, row.message_id, words[outcome]))
      return { moved: true, tell: row.message_id };
    const second = await this.#messages.add(tx, { msisdn: caller, body: words[outcome], cause: 'support' });
    return { moved: true, tell: second };
  }

  #seal(id: string, sealed: Sealed): Buffer {
    return this.#box.seal(Buffer.from(JSON.stringify(sealed)), place(id));
  }

  #open({ id, sealed }: Row): Sealed {
    return JSON.parse(this.#box.open(sealed, place(id)).toString()) as Sealed;
  }
}

type Paid = Pick<NewOrder, 'side' | 'units' | 'amountMinor'>;

/** Whether units and amount are what the price gives, and no more than may be traded at a time. */
function isFair({ side, units, amountMinor, priceMinor }: NewOrder): boolean {
  const small = units > 0n && units <= MOST_UNITS && amountMinor > 0n && amountMinor <= MOST_MINOR;
  const given =
    side === 'buy'
      ? units === unitsFor(amountMinor, priceMinor)
      : amountMinor === amountFor(units, priceMinor);
  return small && given;
}

/** The ledger's name for the shares of a company. */
function currencyOf(symbol: string): string {
  return `stock:${symbol}`;
}

function place(id: string): Buffer {
  return Buffer.from(`stock_orders.sealed\0${id}`);
}
