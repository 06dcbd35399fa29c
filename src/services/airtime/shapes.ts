import type { Shape } from '../../flow/plan.ts';

/** The longest list of country codes on a screen, in characters. */
export const CODES = 34;

/** What the facts of the airtime service promise: the longest of each value. */
export const AIRTIME_FACTS = {
  wallet: { values: { balance: 16, book: 4 } },
  order: { values: { ref: 8 } },
  sms: { values: { room: 3 }, needsPhone: true },
  country: { values: { own: 3, recipient: 3, codes: CODES }, needsPhone: true },
} satisfies Record<string, Shape>;
