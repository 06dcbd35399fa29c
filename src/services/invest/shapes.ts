import type { Shape } from '../../flow/plan.ts';

export const INVEST_FACTS = {
  stocks: { values: { stockId: 36, symbol: 10, name: 40 }, rows: 100 },
  found: { values: { stockId: 36, symbol: 10, name: 40 }, rows: 30 },
  stock: { values: { symbol: 10, name: 40, detail: 40, price: 9 } },
  quote: { values: { price: 9, units: 16, unitsText: 16, enough: 3, same: 3 } },
  sale: { values: { price: 9, units: 16, unitsText: 16, amount: 12, enough: 3, same: 3 } },
  cash: { values: { balance: 12, book: 4 } },
  portfolio: { values: { cash: 12, value: 14, count: 3 } },
  assets: { values: { stockId: 36, symbol: 10, name: 40, unitsText: 16, value: 14 }, rows: 100 },
  asset: { values: { symbol: 10, name: 40, unitsText: 16, value: 14, price: 9 } },
  pending: { values: { ref: 8, label: 32, amount: 12 }, rows: 30 },
  history: { values: { ref: 8, label: 32, amount: 12, date: 20, state: 8 }, rows: 30 },
  holder: { values: { customerId: 9, is: 3 } },
  order: { values: { ref: 8 } },
  sms: { values: { room: 3 } },
} satisfies Record<string, Shape>;
