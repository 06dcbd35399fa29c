import { asValue } from './outgoing.ts';
import { spelt } from './text.ts';

/** Everything that a text may name: the session's values, facts as `fact.value`, a list's as `row.value`. */
export type Scope = Readonly<Record<string, string>>;

/** `{name}`, `{fact.value}`, `{amount|money:KES}`. */
const PLACEHOLDER = /\{([A-Za-z]\w*(?:\.[A-Za-z]\w*)?)(?:\|([a-z]+)(?::([\w-]+))?)?\}/g;

/** How a value is written: its formatter, and what that is given. */
type Formatter = (value: string, argument: string) => string;

/** The formatters by name. What is none of its kind is written as it is: a screen is shown all the same. */
const FORMATTERS = new Map<string, Formatter>([
  /** Minor units as an amount of a currency: `money:KES` writes 5000 as KES 50 and 5050 as KES 50.50. */
  ['money', money],
  /** Thousands apart. */
  ['number', grouped],
  /** An ISO date or time as day, month and year. */
  ['date', (value) => value.replace(/^(\d{4})-(\d{2})-(\d{2})(T.*)?$/, '$3/$2/$1')],
  /** A phone number of which only the ends are shown. */
  ['masked', masked],
]);

/** Whether there is such a formatter. */
export function isFormatter(name: string): boolean {
  return FORMATTERS.has(name);
}

/** The names of all formatters. */
export const FORMATTER_NAMES: readonly string[] = [...FORMATTERS.keys()];

function valueIn(scope: Scope, name: string): string {
  return Object.hasOwn(scope, name) ? (scope[name] ?? '') : '';
}

/** A text with its placeholders filled, as something that is kept or handed on. */
export function fill(text: string, scope: Scope): string {
  return text.replaceAll(PLACEHOLDER, (_, name: string, formatter?: string, argument?: string) =>
    formatted(valueIn(scope, name), formatter, argument),
  );
}

/** The same for a screen: values are spelt in letters that handsets have. */
export function fillShown(text: string, scope: Scope): string {
  return text.replaceAll(PLACEHOLDER, (_, name: string, formatter?: string, argument?: string) =>
    spelt(formatted(valueIn(scope, name), formatter, argument)),
  );
}

/** The words of a screen: a line of values that are all empty is left out. */
export function fillLines(text: string, scope: Scope): string {
  const lines = text.split('\n').map((line) => [line, fillShown(line, scope)] as const);
  return lines.flatMap(([line, filled]) => (filled.trim() === '' && line !== '' ? [] : [filled])).join('\n');
}

/** A placeholder as it stands in a text. */
export type Placeholder = { name: string; formatter?: string };

/** The placeholders of a text. */
export function placeholdersIn(text: string): Placeholder[] {
  return [...text.matchAll(PLACEHOLDER)].map(([, name = '', formatter]) =>
    formatter === undefined ? { name } : { name, formatter },
  );
}

/** The fact of `fact.value`; nothing for a value of the session or of a list's row. */
export function factOf(name: string): string[] {
  const dot = name.indexOf('.');
  const fact = dot === -1 ? '' : name.slice(0, dot);
  return fact === '' || fact === 'row' ? [] : [fact];
}

/**
 * A value of so many septets that no other of that length is written longer by any formatter: digits, and a
 * sign where money has none to put before the point.
 */
export function longestValue(septets: number): string {
  return septets === 2 || septets === 3 ? `-${'9'.repeat(septets - 1)}` : '9'.repeat(septets);
}

function formatted(value: string, formatter: string | undefined, argument = ''): string {
  const line = asValue(value);
  if (formatter === undefined || line === '') return line;
  return FORMATTERS.get(formatter)?.(line, argument) ?? line;
}

function money(value: string, currency: string): string {
  if (!/^-?\d+$/.test(value)) return value;
  const minor = BigInt(value);
  const sign = minor < 0n ? '-' : '';
  const size = minor < 0n ? -minor : minor;
  const cents = size % 100n;
  const whole = grouped(String(size / 100n));
  return `${currency} ${sign}${whole}${cents === 0n ? '' : `.${String(cents).padStart(2, '0')}`}`.trimStart();
}

function grouped(value: string): string {
  return /^-?\d+$/.test(value) ? value.replace(/\B(?=(\d{3})+$)/g, ',') : value;
}

function masked(msisdn: string): string {
  return msisdn.length < 8 || !/^\+?\d+$/.test(msisdn)
    ? '***'
    : `${msisdn.slice(0, 4)}***${msisdn.slice(-3)}`;
}
