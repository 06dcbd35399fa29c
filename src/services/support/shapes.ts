import type { Shape } from '../../flow/plan.ts';

/** What the facts of the support service promise: the longest of each value. */
export const SUPPORT_FACTS = {
  help: { values: { reference: 7 }, needsPhone: true },
} satisfies Record<string, Shape>;
