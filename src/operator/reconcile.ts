import { readFileSync } from 'node:fs';
import type { Db } from '../db/db.ts';
import type { Enqueue } from '../effects/delivery.ts';
import { SMS } from '../effects/sms.ts';
import type { Airtime } from '../store/airtime.ts';
import {
  forgetReconciled,
  type Reconciliation,
  reconcile,
  reconcileReports,
  type Sale,
  type Window,
} from '../store/reconciliation.ts';
import { readStatement, StatementError, timeOf } from './statement.ts';

const HOUR_MS = 3_600_000;
/** An order is tried for two hours: what is younger than this may still be under way. */
const SETTLED_HOURS = 3;
/** A day, and what a daily run may be late by. */
const WINDOW_HOURS = 25;
/** How far a list reaches beyond the window on either side, because clocks differ. */
const SLACK_HOURS = 1;
/** What a command prints of each kind. */
const MOST_PRINTED = 100;

/** The provider's own list of what it sold, where it has one. */
export type SaleList = {
  provider: string;
  listSales?: ((from: Date, until: Date) => Promise<Sale[]>) | undefined;
};

export type ReconcileParts = { db: Db; airtime: Airtime; sales: SaleList; enqueue: Enqueue };

/** What a run came to: `outcome` is undefined where there was nothing to compare with. */
export type Ran = { outcome: Reconciliation | undefined; givenBack: number };

/**
 * Compares orders with sales (decision 41): with the provider's list, with a statement, or where there is neither
 * with what it has reported. Gives back first what a migration found charged under the id of another order. Throws
 * what `listSales` throws.
 */
export async function runReconciliation(
  { db, airtime, sales, enqueue }: ReconcileParts,
  window: Window = lastDay(),
  statement?: Sale[],
): Promise<Ran> {
  const givenBack = await db.transaction().execute(async (tx) => {
    const { count, tell } = await airtime.giveBackDisplaced(tx);
    for (const id of tell) await enqueue(tx, SMS, { id });
    return count;
  });
  await forgetReconciled(db);
  const { provider, listSales } = sales;
  if (statement !== undefined) {
    const outcome = await reconcile(db, { provider, source: 'statement', sales: statement, ...window });
    return { outcome, givenBack };
  }
  if (listSales === undefined)
    return { outcome: await reconcileReports(db, { provider, ...window }), givenBack };
  const [from, until] = [moved(window.from, -SLACK_HOURS), moved(window.until, SLACK_HOURS)];
  const listed = await listSales(from, until);
  return { outcome: await reconcile(db, { provider, source: 'list', sales: listed, ...window }), givenBack };
}

/** The 25 hours that ended three hours ago. */
function lastDay(): Window {
  const until = moved(new Date(), -SETTLED_HOURS);
  return { from: moved(until, -WINDOW_HOURS), until };
}

function moved(time: Date, hours: number): Date {
  return new Date(time.getTime() + hours * HOUR_MS);
}

/** The words of a command that are wrong, with what to write instead. */
export class WordsRefused extends Error {}

const USAGE = 'write: reconcile [--from 2026-11-29 --until 2026-11-30] [--statement file.csv]';

/** `reconcile [--from TIME --until TIME] [--statement FILE]`: returns what to tell. Throws `WordsRefused`. */
export async function reconcileCommand(parts: ReconcileParts, words: string[]): Promise<string> {
  const given = new Map<string, string>();
  for (let index = 0; index < words.length; index += 2) {
    const [name = '', value] = words.slice(index, index + 2);
    if (!['--from', '--until', '--statement'].includes(name) || value === undefined || given.has(name))
      throw new WordsRefused(USAGE);
    given.set(name, value);
  }
  const file = given.get('--statement');
  const statement = file === undefined ? undefined : statementIn(file);
  const { outcome, givenBack } = await runReconciliation(parts, windowOf(given), statement);
  const back =
    givenBack === 0 ? [] : [`${counted(givenBack, 'order')} given back that had the id of another order.`];
  return [...back, ...inWords(outcome, parts.sales.provider)].join('\n');
}

function windowOf(given: ReadonlyMap<string, string>): Window | undefined {
  const [one, other] = [given.get('--from'), given.get('--until')];
  if (one === undefined && other === undefined) return undefined;
  const [from, until] = [timeOf(one ?? ''), timeOf(other ?? '')];
  if (from === null || until === null || from >= until)
    throw new WordsRefused(`${USAGE} (both times or neither, in UTC, the earlier one first)`);
  const settled = moved(new Date(), -SETTLED_HOURS);
  if (from >= settled)
    throw new WordsRefused(
      `orders younger than ${SETTLED_HOURS} hours may still be under way: write an earlier --from`,
    );
  return { from, until: new Date(Math.min(until.getTime(), settled.getTime())) };
}

function statementIn(file: string): Sale[] {
  try {
    return readStatement(readFileSync(file));
  } catch (error) {
    const { syscall, message } = error as NodeJS.ErrnoException;
    if (syscall !== undefined) throw new WordsRefused(message);
    if (!(error instanceof StatementError)) throw error;
    throw new WordsRefused([`${file}: nothing was compared`, ...error.problems].join('\n  '));
  }
}

function inWords(outcome: Reconciliation | undefined, provider: string): string[] {
  if (outcome === undefined)
    return [
      `Nothing was compared: ${provider} has no list of sales, and none of its reports came (docs/airtime.md).`,
      'Export its statement as CSV and write: reconcile --statement file.csv',
    ];
  const { source, from, until, orders, sales, ordersWithoutSale, salesWithoutOrder } = outcome;
  return [
    `${counted(orders, 'order')} from ${from.toISOString()} to ${until.toISOString()} compared with ${counted(sales, 'sale')} of ${provider} (${source}).`,
    ...listed(
      counted(ordersWithoutSale.length, 'order'),
      'without a sale',
      ordersWithoutSale.map(
        ({ ref, state, providerId, at, ...money }) =>
          `Ref ${ref}  ${moneyIn(money)}  ${state}  ${at.toISOString()}  ${providerId ?? 'no id'}`,
      ),
    ),
    ...listed(
      counted(salesWithoutOrder.length, 'sale'),
      'without an order that is paid for',
      salesWithoutOrder.map(
        ({ providerId, at, ...money }) =>
          `${providerId}  ${moneyIn(money)}  ${at?.toISOString() ?? 'no time'}`,
      ),
    ),
  ];
}

function listed(count: string, what: string, lines: string[]): string[] {
  const more = lines.length - MOST_PRINTED;
  const printed = lines.slice(0, MOST_PRINTED).map((line) => `  ${line}`);
  return [
    `${count} ${what}${lines.length === 0 ? '.' : ':'}`,
    ...printed,
    ...(more > 0 ? [`  and ${more} more`] : []),
  ];
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

function moneyIn({ currency, amountMinor }: { currency: string; amountMinor: bigint }): string {
  const digits = `${amountMinor}`.padStart(3, '0');
  return `${currency} ${digits.slice(0, -2)}.${digits.slice(-2)}`;
}
