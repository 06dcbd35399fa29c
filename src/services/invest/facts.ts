import { UNAMBIGUOUS } from '../../flow/answer.ts';
import type { Accounts } from '../../store/accounts.ts';
import { findInstruments, instrumentById, listInstruments } from '../../store/instruments.ts';
import type { Messages } from '../../store/messages.ts';
import type { Listed, Orders } from '../../store/orders.ts';
import { amountFor, MOST_MINOR, MOST_UNITS, typedUnits, unitsFor, writtenUnits } from '../../store/shares.ts';
import { type Asking, type Fact, smsRoom } from '../facts.ts';
import { INVEST_FACTS } from './shapes.ts';

/** What the investment service asks of the database. The name and shape of a published fact never change. */
export function investFacts(
  orders: Orders,
  accounts: Accounts,
  messages: Messages,
  randomCode: (alphabet: string, length: number) => string,
): Record<keyof typeof INVEST_FACTS, Fact> {
  const holdingOf = async ({ db, phone, vars }: Asking) =>
    (await orders.holdings(db, phone)).find(({ stockId }) => stockId === vars.stockId);
  return {
    /** Rows of `stockId`, `symbol`, `name`: what there is, by symbol. */
    stocks: async ({ db }) => (await listInstruments(db, INVEST_FACTS.stocks.rows)).map(rowOf),
    /** The same of those of whose symbol or name `query` is a part. */
    found: async ({ db, vars }) =>
      (await findInstruments(db, vars.query ?? '', INVEST_FACTS.found.rows)).map(rowOf),
    /** The one of `stockId`; `detail` is its sector, `price` in hundredths. */
    stock: async ({ db, vars }) => {
      const stock = await instrumentById(db, vars.stockId ?? '');
      return {
        symbol: stock?.symbol ?? '',
        name: stock?.name ?? '',
        detail: stock?.detail ?? '',
        price: String(stock?.priceMinor ?? 0),
      };
    },
    /**
     * What `amount` buys of `stockId`: `units` in millionths, `unitsText` for people; `enough`: at least one of
     * them, and no more than may be traded at a time; `same`: `price` is empty, or the price still.
     */
    quote: async ({ db, vars }) => {
      const price = (await instrumentById(db, vars.stockId ?? ''))?.priceMinor ?? 0n;
      const amount = wholeOf(vars.amount);
      const bought = price === 0n || amount > MOST_MINOR ? 0n : unitsFor(amount, price);
      const units = bought > MOST_UNITS ? 0n : bought;
      return { ...unitsOf(units), price: String(price), enough: yes(units > 0n), same: isSame(vars, price) };
    },
    /**
     * What `typedUnits` (a number, or `all`) of `stockId` bring; `enough`: there are so many, and they bring
     * something.
     */
    sale: async (asking) => {
      const { db, vars } = asking;
      const price = (await instrumentById(db, vars.stockId ?? ''))?.priceMinor ?? 0n;
      const own = (await holdingOf(asking))?.units ?? 0n;
      const typed = vars.typedUnits ?? '';
      const wanted = /^\s*all\s*$/i.test(typed) ? own : (typedUnits(typed) ?? 0n);
      const units = wanted > MOST_UNITS ? MOST_UNITS : wanted;
      const brings = amountFor(units, price);
      const amount = brings > MOST_MINOR ? 0n : brings;
      return {
        ...unitsOf(units),
        price: String(price),
        amount: String(amount),
        enough: yes(units <= own && amount > 0n),
        same: isSame(vars, price),
      };
    },
    /** `balance`: what may be spent, in hundredths; `book`: `demo` where it is demonstration money. */
    cash: async ({ db, phone }) => ({
      balance: String((await orders.cash(db, phone)).free),
      book: orders.book,
    }),
    /** `value`: what all that is held is worth at present prices. */
    portfolio: async ({ db, phone }) => {
      const holdings = await orders.holdings(db, phone);
      const value = holdings.reduce((sum, { units, priceMinor }) => sum + amountFor(units, priceMinor), 0n);
      const { free } = await orders.cash(db, phone);
      return { cash: String(free), value: String(value), count: String(holdings.length) };
    },
    /** Rows of what is held, by symbol. */
    assets: async ({ db, phone }) =>
      (await orders.holdings(db, phone))
        .slice(0, INVEST_FACTS.assets.rows)
        .map(({ stockId, symbol, name, units, priceMinor }) => ({
          stockId,
          symbol,
          name,
          unitsText: writtenUnits(units),
          value: String(amountFor(units, priceMinor)),
        })),
    /** What is held of `stockId`. */
    asset: async (asking) => {
      const held = await holdingOf(asking);
      const { units, priceMinor } = held ?? { units: 0n, priceMinor: 0n };
      return {
        symbol: held?.symbol ?? '',
        name: held?.name ?? '',
        unitsText: writtenUnits(units),
        value: String(amountFor(units, priceMinor)),
        price: String(priceMinor),
      };
    },
    /** Rows of orders under way, newest first; `label` like `BUY 0.5 AAPL`. */
    pending: async ({ db, phone }) =>
      (await orders.pending(db, phone, INVEST_FACTS.pending.rows)).map(orderOf),
    /** Rows of orders that have ended; `date` in ISO 8601, `state` `filled` or `rejected`. */
    history: async ({ db, phone }) =>
      (await orders.history(db, phone, INVEST_FACTS.history.rows)).map((order) => ({
        ...orderOf(order),
        date: order.date,
        state: order.state,
      })),
    /** `customerId` of the oldest account of this phone; `is`: whether it has one. */
    holder: async ({ db, phone }) => {
      const customerId = await accounts.oldestOf(db, phone);
      return { customerId: customerId ?? '', is: yes(customerId !== undefined) };
    },
    /** `ref`: a fresh one, by which subscriber and support speak of an order. */
    order: async () => ({ ref: randomCode(UNAMBIGUOUS, 8) }),
    sms: smsRoom(messages),
  };
}

function rowOf({ id: stockId, symbol, name }: { id: string; symbol: string; name: string }) {
  return { stockId, symbol, name };
}

function orderOf({ ref, side, symbol, units, amountMinor }: Listed) {
  return {
    ref,
    label: `${side.toUpperCase()} ${writtenUnits(units)} ${symbol}`,
    amount: String(amountMinor),
  };
}

function unitsOf(units: bigint) {
  return { units: String(units), unitsText: writtenUnits(units) };
}

/** What a session holds is text; what is no whole number is nothing. */
function wholeOf(text = ''): bigint {
  return /^\d{1,15}$/.test(text) ? BigInt(text) : 0n;
}

function isSame({ price = '' }: Asking['vars'], present: bigint): string {
  return yes(present > 0n && (price === '' || price === String(present)));
}

function yes(is: boolean): string {
  return is ? 'yes' : 'no';
}
