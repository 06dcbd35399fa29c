import { CatalogueError, parseCsv } from '../store/catalogue.ts';
import type { Sale } from '../store/reconciliation.ts';

/** A statement that cannot be read, with every problem found: line and reason, and no value of the file. */
export class StatementError extends Error {
  readonly code = 'statement_refused';
  readonly problems: string[];
  constructor(problems: string[]) {
    super(problems.join('\n'));
    this.problems = problems;
  }
}

/** What a column may be called, in small letters and digits only. Others are not read: numbers of phones among them. */
const NAMES = {
  id: ['requestid', 'transactionid', 'id'],
  amount: ['amount', 'value'],
  currency: ['currency', 'currencycode'],
  status: ['status'],
  at: ['date', 'time', 'datetime', 'timestamp', 'created', 'createdat', 'creationtime'],
} as const;

const SOLD = new Set(['success', 'successful', 'sent', 'completed', 'delivered', 'processed', 'queued']);
const NOT_SOLD = new Set(['failed', 'rejected', 'reversed', 'refunded', 'cancelled', 'canceled', 'expired']);

/** A file of which everything is wrong has one mistake. */
const MOST_PROBLEMS = 20;

/**
 * Reads a statement of airtime sales, a CSV file in UTF-8 with a line of names: the id and the amount of each sale
 * (`KES 50.00`, or `50.00` and a currency), and its status and time where there are such columns. A time without a
 * zone is UTC. Throws `StatementError`.
 */
export function readStatement(file: Uint8Array): Sale[] {
  const [header, ...records] = recordsOf(file);
  const names = (header?.fields ?? []).map((name) => name.toLowerCase().replaceAll(/[^a-z0-9]/g, ''));
  const place = (column: keyof typeof NAMES) =>
    names.findIndex((name) => (NAMES[column] as readonly string[]).includes(name));
  const at = { id: place('id'), amount: place('amount'), currency: place('currency') };
  const [status, time] = [place('status'), place('at')];
  if (at.id < 0 || at.amount < 0)
    throw new StatementError([
      'line 1: names of columns are wanted, among them requestId (or transactionId) and amount (or value)',
    ]);
  const problems: string[] = [];
  const sales = new Map<string, Sale>();
  for (const { line, fields } of records) {
    const field = (index: number) => (index < 0 ? '' : (fields[index] ?? '').trim());
    const wrong = (reason: string) => void problems.push(`line ${line}: ${reason}`);
    const providerId = field(at.id);
    const money = moneyOf(field(at.amount), field(at.currency));
    const word = field(status).toLowerCase();
    const when = field(time) === '' ? undefined : timeOf(field(time));
    if (!/^[!-~]{1,200}$/.test(providerId)) wrong('the id is to be 1 to 200 printable characters');
    else if (sales.has(providerId)) wrong('the id stands in a line before this one already');
    if (money === undefined) wrong('the amount is to be like KES 50.00, or 50.00 with a column currency');
    if (word !== '' && !SOLD.has(word) && !NOT_SOLD.has(word))
      wrong('the status is not known: write Success or Failed');
    if (when === null) wrong('the time is to be like 2026-11-30 08:15:00 (UTC) or 2026-11-30T08:15:00+03:00');
    if (money !== undefined && when !== null) {
      const sold = !NOT_SOLD.has(word);
      sales.set(providerId, { providerId, ...money, sold, ...(when !== undefined && { at: when }) });
    }
  }
  if (problems.length > 0) {
    const more = problems.length - MOST_PROBLEMS;
    throw new StatementError([
      ...problems.slice(0, MOST_PROBLEMS),
      ...(more > 0 ? [`and ${more} more like these`] : []),
    ]);
  }
  return [...sales.values()];
}

function recordsOf(file: Uint8Array): ReturnType<typeof parseCsv> {
  try {
    return parseCsv(new TextDecoder('utf-8', { fatal: true }).decode(file));
  } catch (error) {
    if (error instanceof CatalogueError) throw new StatementError(error.problems);
    throw new StatementError(['the file is not in UTF-8: save it as CSV UTF-8']);
  }
}

/** `KES 50.0000`, or `50.00` beside a currency, exactly; undefined where it is neither. */
function moneyOf(amount: string, beside: string): { currency: string; amountMinor: bigint } | undefined {
  const [, before, units, cents = ''] = /^(?:([A-Z]{3}) )?(\d{1,12})(?:\.(\d{1,2})0*)?$/.exec(amount) ?? [];
  const currency = before ?? beside;
  if (units === undefined || !/^[A-Z]{3}$/.test(currency)) return undefined;
  return { currency, amountMinor: BigInt(units) * 100n + BigInt(cents.padEnd(2, '0')) };
}

/** A time with a zone, or in UTC; null where it is none. */
export function timeOf(text: string): Date | null {
  const [, day, clock = '00:00:00', zone = 'Z'] =
    /^(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)(Z|[+-]\d\d:\d\d)?)?$/.exec(text) ?? [];
  if (day === undefined) return null;
  const time = new Date(`${day}T${clock}${zone}`);
  // The 31st of a month of 30 days becomes the 1st of the next one.
  return Number.isNaN(time.getTime()) || new Date(`${day}T00:00Z`).toISOString().slice(0, 10) !== day
    ? null
    : time;
}
