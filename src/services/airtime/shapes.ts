import type { Shape } from '../../flow/plan.ts';

/** What the facts of the airtime service promise: the longest of each value. */
export const AIRTIME_FACTS = {
  wallet: { values: { balance: 16, book: 4 } },
  order: { values: { ref: 8 } },
  sms: { values: { room: 3 }, needsPhone: true },
} satisfies Record<string, Shape>;
