import type { Shape } from '../../flow/plan.ts';

/** What the facts of the IXO service promise: the longest of each value. */
export const IXO_FACTS = {
  newAccount: { values: { customerId: 9, room: 3 } },
  details: { values: { customerId: 9, name: 40, email: 60 } },
  sms: { values: { room: 3 }, needsPhone: true },
  link: { values: { code: 9 } },
} satisfies Record<string, Shape>;
