/** An order that may have been sold without our knowing the id of its sale; times in milliseconds. */
export type Doubtful = {
  id: string;
  /** The sale was reported no earlier than this (the order) and before that (the last time it was asked for, and a day). */
  from: number;
  until: number;
};

/** A sale that was reported and belongs to no order yet; `at` in milliseconds. */
export type FreeSale = { providerId: string; at: number };

/**
 * Finds the orders of one recipient, currency and amount that are certainly sold, each with a sale of its own.
 * Every free sale is of one of the doubtful orders, and an order is sold at most once, so an order is certainly sold
 * where the sales cannot all be placed without it: one order and one sale, two orders and two sales; of two orders and
 * one sale neither is (decision 29). Returns provider ids by the id of the order. Which of several sales an order
 * gets is a guess where several fit; that it gets one is not.
 */
export function certainlySold(orders: readonly Doubtful[], sales: readonly FreeSale[]): Map<string, string> {
  const placed = place(orders, sales);
  const certain = new Map<string, string>();
  for (const [id, providerId] of placed) {
    const others = orders.filter((order) => order.id !== id);
    if (place(others, sales).size < placed.size) certain.set(id, providerId);
  }
  return certain;
}

/**
 * Places as many sales as can be placed: in the order of their times, each with the order whose time ends first
 * (points to intervals, for which that is the largest number).
 */
function place(orders: readonly Doubtful[], sales: readonly FreeSale[]): Map<string, string> {
  const waiting = orders.toSorted((one, other) => one.until - other.until || one.from - other.from);
  const placed = new Map<string, string>();
  for (const { providerId, at } of sales.toSorted((one, other) => one.at - other.at)) {
    const found = waiting.find(({ id, from, until }) => !placed.has(id) && from <= at && at < until);
    if (found !== undefined) placed.set(found.id, providerId);
  }
  return placed;
}
