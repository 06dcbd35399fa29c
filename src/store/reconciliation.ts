import { sql } from 'kysely';
import type { Db } from '../db/db.ts';

/** A sale as the provider lists it: `amountMinor` in hundredths; `sold`: it says that it was carried out. */
export type Sale = { providerId: string; currency: string; amountMinor: bigint; at?: Date; sold: boolean };

/** Where sales are read: the provider's own list, its reports to `/airtime/status`, or a statement that it exported. */
export type SaleSource = 'list' | 'reports' | 'statement';

/** Orders that were asked for from `from` to before `until` are compared. */
export type Window = { from: Date; until: Date };

/** An order that is paid for and of which the provider lists no sale of that amount. */
export type OrderWithoutSale = {
  id: string;
  ref: string;
  state: string;
  providerId: string | null;
  currency: string;
  amountMinor: bigint;
  at: Date;
};

/** What a comparison came to; `orders` and `sales` count what was compared. */
export type Reconciliation = Window & {
  provider: string;
  source: SaleSource;
  orders: number;
  sales: number;
  ordersWithoutSale: OrderWithoutSale[];
  salesWithoutOrder: Sale[];
};

/** Days that the outcomes of comparisons, and reported sales without an order, are kept. */
const KEPT_DAYS = 400;
/** Days that the simulator remembers what it sold. */
const SIMULATED_DAYS = 35;

/** What an instance of the version before calls the provider of an order whose id it found by a report. */
const BY_REPORT = 'report';

/**
 * Compares orders with the sales that the provider lists (decision 41) and keeps the counts. `sales` may reach beyond
 * the window, so that clocks may differ: a sale beyond it is looked for by no one, and found by the order it is of.
 */
export async function reconcile(
  db: Db,
  of: { provider: string; source: 'list' | 'statement'; sales: readonly Sale[] } & Window,
): Promise<Reconciliation> {
  const { provider, source, from, until } = of;
  const sold = of.sales.filter((sale) => sale.sold);
  const { rows: ordersWithoutSale } = await sql<OrderRow>`
    select o.id, o.ref, o.state, o.provider_id as "providerId", o.currency, o.amount::text as amount,
      coalesce(o.asked_at, o.ordered_at) as at
    from airtime_orders o
    where ${paidFor(provider, of)} and not exists (
      select 1 from unnest(${sold.map(({ providerId }) => providerId)}::text[],
        ${sold.map(({ currency }) => currency)}::text[],
        ${sold.map(({ amountMinor }) => `${amountMinor}`)}::bigint[]) s(provider_id, currency, amount)
      where s.provider_id = o.provider_id and s.currency = o.currency and s.amount = o.amount)
    order by at`.execute(db);
  const wanted = sold.filter(({ at }) => at === undefined || (at >= from && at < until));
  const { rows: strange } = await sql<{ id: string }>`
    select id from unnest(${wanted.map(({ providerId }) => providerId)}::text[]) s(id)
    where not exists (
      select 1 from airtime_orders o where o.provider_id = s.id and o.provider in (${provider}, ${BY_REPORT})
        and o.state in ('queued', 'sent', 'confirmed'))`.execute(db);
  const unknown = new Set(strange.map(({ id }) => id));
  return keep(db, {
    ...{ provider, source, from, until },
    orders: await countPaid(db, provider, of),
    sales: wanted.length,
    ordersWithoutSale: ordersWithoutSale.map(orderOf),
    salesWithoutOrder: wanted.filter(({ providerId }) => unknown.has(providerId)),
  });
}

/**
 * The same where the provider has no list: with what it has reported to `/airtime/status`. An order has a sale where
 * its `Success` was heard. Returns undefined, and keeps nothing, where there are orders and no report at all: then
 * reports do not reach us, and say nothing.
 */
export async function reconcileReports(
  db: Db,
  of: { provider: string } & Window,
): Promise<Reconciliation | undefined> {
  const { provider, from, until } = of;
  const { rows: unheard } = await sql<OrderRow>`
    select o.id, o.ref, o.state, o.provider_id as "providerId", o.currency, o.amount::text as amount,
      coalesce(o.asked_at, o.ordered_at) as at
    from airtime_orders o where ${paidFor(provider, of)} and o.state = 'sent' order by at`.execute(db);
  const { rows: strays } = await sql<{
    id: string;
    currency: string | null;
    amount: string | null;
    at: Date;
  }>`
    select distinct on (id) id, currency, amount::text as amount, at from (
      select provider_id as id, currency, amount, at from airtime_strays
      union all
      select provider_id, currency, amount, at from airtime_reports where status = 'Success' and authenticated) r
    where at >= ${from} and at < ${until} and not exists (
      select 1 from airtime_orders o where o.provider_id = r.id and o.state in ('queued', 'sent', 'confirmed'))
    order by id, at`.execute(db);
  const orders = await countPaid(db, provider, of);
  const heard = orders - unheard.length;
  if (orders > 0 && heard === 0 && strays.length === 0) return undefined;
  return keep(db, {
    ...{ provider, source: 'reports', from, until, orders },
    sales: heard + strays.length,
    ordersWithoutSale: unheard.map(orderOf),
    salesWithoutOrder: strays.map(({ id, currency, amount, at }) => ({
      ...{ providerId: id, currency: currency ?? '', amountMinor: BigInt(amount ?? 0), at, sold: true },
    })),
  });
}

/** The newest outcome by source, as the metrics have it; `ranAt` in seconds since 1970. */
export type Reconciled = {
  source: SaleSource;
  ranAt: number;
  ordersWithoutSale: number;
  salesWithoutOrder: number;
};

export async function newestReconciliations(db: Db): Promise<Reconciled[]> {
  const { rows } = await sql<Reconciled>`
    select distinct on (source) source, extract(epoch from ran_at)::float8 as "ranAt",
      orders_without_sale as "ordersWithoutSale", sales_without_order as "salesWithoutOrder"
    from airtime_reconciliations order by source, ran_at desc`.execute(db);
  return rows;
}

/** Removes outcomes, strays and sales of the simulator that have been kept for long enough. */
export async function forgetReconciled(db: Db): Promise<void> {
  const older = (days: number) => sql<Date>`now() - ${days} * interval '1 day'`;
  await db.deleteFrom('airtime_reconciliations').where('ran_at', '<', older(KEPT_DAYS)).execute();
  await db.deleteFrom('airtime_strays').where('at', '<', older(KEPT_DAYS)).execute();
  await db.deleteFrom('airtime_simulated').where('at', '<', older(SIMULATED_DAYS)).execute();
}

/** What the simulator writes down of its sales, so that its list is the same for every process. */
export function simulatedTill(db: Db): {
  put(sale: Omit<Sale, 'at' | 'sold'>): Promise<void>;
  list(from: Date, until: Date): Promise<Sale[]>;
} {
  return {
    put: async ({ providerId, currency, amountMinor }) => {
      await db
        .insertInto('airtime_simulated')
        .values({ provider_id: providerId, currency, amount: String(amountMinor) })
        .onConflict((conflict) => conflict.doNothing())
        .execute();
    },
    list: async (from, until) => {
      const rows = await db
        .selectFrom('airtime_simulated')
        .select(['provider_id', 'currency', sql<string>`amount::text`.as('amount'), 'at'])
        .where('at', '>=', from)
        .where('at', '<', until)
        .execute();
      return rows.map(({ provider_id: providerId, currency, amount, at }) => ({
        ...{ providerId, currency, amountMinor: BigInt(amount), at, sold: true },
      }));
    },
  };
}

type OrderRow = Omit<OrderWithoutSale, 'amountMinor'> & { amount: string };

function orderOf({ amount, ...order }: OrderRow): OrderWithoutSale {
  return { ...order, amountMinor: BigInt(amount) };
}

/** Orders (`o`) of a provider that are paid for and were asked for in a window. */
function paidFor(provider: string, { from, until }: Window) {
  return sql<boolean>`o.provider in (${provider}, ${BY_REPORT}) and o.state in ('sent', 'confirmed')
    and coalesce(o.asked_at, o.ordered_at) >= ${from} and coalesce(o.asked_at, o.ordered_at) < ${until}
    and o.ordered_at < ${until}`;
}

async function countPaid(db: Db, provider: string, window: Window): Promise<number> {
  const { rows } = await sql<{ count: number }>`
    select count(*)::int as count from airtime_orders o where ${paidFor(provider, window)}`.execute(db);
  return rows[0]?.count ?? 0;
}

async function keep(db: Db, outcome: Reconciliation): Promise<Reconciliation> {
  const { provider, source, from, until, orders, sales } = outcome;
  await db
    .insertInto('airtime_reconciliations')
    .values({
      ...{ provider, source, orders, sales },
      orders_from: from,
      orders_until: until,
      orders_without_sale: outcome.ordersWithoutSale.length,
      sales_without_order: outcome.salesWithoutOrder.length,
    })
    .execute();
  return outcome;
}
