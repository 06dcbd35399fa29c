import type { SessionRecord } from '../store/records.ts';

/** The columns of a record, in order: what they are called, and where they are. */
const COLUMNS: [string, keyof SessionRecord][] = [
  ['day', 'day'],
  ['dial', 'dial'],
  ['session', 'session'],
  ['phone', 'phone'],
  ['service', 'service'],
  ['network', 'network'],
  ['began', 'began'],
  ['last', 'last'],
  ['hops', 'hops'],
  ['outcome', 'outcome'],
  ['ended', 'ended'],
  ['their_status', 'theirStatus'],
  ['their_end', 'theirEnd'],
  ['their_hops', 'theirHops'],
  ['their_ms', 'theirMs'],
  ['cost', 'cost'],
  ['currency', 'currency'],
  ['reconciled', 'reconciled'],
];

/** The first line (RFC 4180 §2.3). */
export const headerLine = csvLine(COLUMNS.map(([name]) => name));

/** A record as a line. */
export function lineOf(record: SessionRecord): string {
  return csvLine(COLUMNS.map(([, key]) => record[key]));
}

/** A line with its end (RFC 4180 §2.1, §2.5 to 2.7); what is not known is empty. */
export function csvLine(cells: (string | number | null)[]): string {
  return `${cells.map(cellOf).join(',')}\r\n`;
}

/** A text that a spreadsheet would run as a formula is given an apostrophe (OWASP, CSV Injection). */
function cellOf(value: string | number | null): string {
  if (value === null) return '';
  if (typeof value === 'number') return String(value);
  const safe = /^[=+\-@\t\r\n]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
