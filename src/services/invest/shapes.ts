import type { Shape } from '../../flow/plan.ts';

/** The longest of each value: what a catalogue may hold, and what one order may be. */
const stock = { stockId: 28, symbol: 10, name: 40 };
const price = 9;
const amount = 12;
const units = 15;
const unitsText = 16;
/** `SELL 999999999.999999 ABCDEFGHIJ`. */
const order = { ref: 8, label: 32, amount };

/** What the facts of the investment service promise: the longest of each value, and the most rows. */
export const INVEST_FACTS = {
  stocks: { values: stock, rows: 100 },
  found: { values: stock, rows: 30 },
  stock: { values: { symbol: 10, name: 40, detail: 40, price } },
  quote: { values: { price, units, unitsText, enough: 3, same: 3 } },
  sale: { values: { price, units, unitsText, amount, enough: 3, same: 3 } },
  cash: { values: { balance: amount, book: 4 } },
  portfolio: { values: { cash: amount, value: amount, count: 3 } },
  assets: { values: { ...stock, unitsText, value: amount }, rows: 100 },
  asset: { values: { symbol: 10, name: 40, unitsText, value: amount, price } },
  pending: { values: order, rows: 30 },
  history: { values: { ...order, date: 10, state: 8 }, rows: 30 },
  holder: { values: { customerId: 9, is: 3 } },
  order: { values: { ref: 8 } },
  sms: { values: { room: 3 } },
} satisfies Record<string, Shape>;
