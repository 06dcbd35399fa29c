import { spelt } from './text.ts';

/** Everything that a text may name: the session's values, facts as `fact.value`, a list's as `row.value`. */
export type Scope = Readonly<Record<string, string>>;

/** `{name}`, `{fact.value}`, `{amount|money:KES}`. */
const PLACEHOLDER = /\{([A-Za-z]\w*(?:\.[A-Za-z]\w*)?)(?:\|([a-z]+)(?::([\w-]+))?)?\}/g;

/** How a value is written: its formatter, and what that is given. */
type Formatter = (value: string, argument: string) => string;

/** The formatters by name, and the longest that each writes of a value of any length. */
const FORMATTERS: Record<string, { write: Formatter; longest?: number }> = {
  /** Minor units as an amount of a currency: `money:KES` writes 5000 as KES 50 and 5050 as KES 50.50. */
  money: { write: money, longest: 22 },
  /** Thousands apart. */
  number: { write: (value) => grouped(value), longest: 20 },
  /** An ISO date or time as day, month and year. */
  date: { write: (value) => value.slice(0, 10).split('-').reverse().join('/'), longest: 10 },
  /** A phone number of which only the ends are shown. */
  masked: { write: masked, longest: 16 },
};

/** Whether there is such a formatter. */
export function isFormatter(name: string): boolean {
  return name in FORMATTERS;
}

/** A text with its placeholders filled, as something that is kept or handed on. */
export function fill(text: string, scope: Scope): string {
  return text.replaceAll(PLACEHOLDER, (_, name: string, formatter?: string, argument?: string) =>
    formatted(scope[name] ?? '', formatter, argument),
  );
}

/** The same for a screen: values are spelt in letters that handsets have. */
export function fillShown(text: string, scope: Scope): string {
  return text.replaceAll(PLACEHOLDER, (_, name: string, formatter?: string, argument?: string) =>
    spelt(formatted(scope[name] ?? '', formatter, argument)),
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

/** A text at its longest: every placeholder replaced by as many letters as its value can have. */
export function longest(text: string, lengthOf: (name: string) => number): string {
  return text.replaceAll(PLACEHOLDER, (_, name: string, formatter?: string) => {
    const most = lengthOf(name);
    return 'm'.repeat(Math.min(most, FORMATTERS[formatter ?? '']?.longest ?? most) || most);
  });
}

function formatted(value: string, formatter: string | undefined, argument = ''): string {
  if (formatter === undefined || value === '') return value;
  return FORMATTERS[formatter]?.write(value, argument) ?? value;
}

function money(value: string, currency: string): string {
  const minor = BigInt(value);
  const sign = minor < 0n ? '-' : '';
  const size = minor < 0n ? -minor : minor;
  const cents = size % 100n;
  const whole = grouped(String(size / 100n));
  return `${currency} ${sign}${whole}${cents === 0n ? '' : `.${String(cents).padStart(2, '0')}`}`.trimStart();
}

function grouped(digits: string): string {
  return digits.replace(/\B(?=(\d{3})+(?!\d))/g, ',');
}

function masked(msisdn: string): string {
  return msisdn.length < 8 ? '***' : `${msisdn.slice(0, 4)}***${msisdn.slice(-3)}`;
}
