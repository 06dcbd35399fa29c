import type { Answer } from './menu.ts';
import { speltAtMost } from './text.ts';

/** Letters and digits that are not mistaken for one another when read out or written down. */
export const UNAMBIGUOUS = 'ABCDEFGHJKMNPQRSTUVWXYZ23456789';

/**
 * Letters of any script with their marks, and what stands inside names and before them, as in 't Hooft
 * (CONTRACT.md section 2).
 */
const NAME = /^(?=.*\p{L})(?:[\p{L}\p{M} '’.-]|\u200C|\u200D)+$/u;

/**
 * What providers accept in practice: no quoting, no comments, a dot in the domain (RFC 5321 §4.1.2), and
 * none of the characters that cost two septets on a screen.
 */
const EMAIL =
  /^[A-Za-z0-9!#$%&'+/=?_-]+(\.[A-Za-z0-9!#$%&'+/=?_-]+)*@([A-Za-z0-9](-*[A-Za-z0-9])*\.)+[A-Za-z]{2,}$/;

/**
 * A typed answer as it is kept, or undefined where it is none of its kind. Secrets are not read here:
 * the core never hears them.
 */
export function readAnswer(answer: Answer, typed: string, msisdn: string): string | undefined {
  const text = typed.trim().normalize('NFC');
  const length = [...text].length;
  switch (answer.kind) {
    case 'text':
      return length >= answer.min && length <= answer.max ? text : undefined;
    case 'integer':
      return readWhole(text, answer.min, answer.max);
    case 'amount':
      return readAmount(text, answer.min, answer.max);
    case 'pattern':
      return length <= answer.max && new RegExp(`^(?:${answer.pattern})$`, 'u').test(text) ? text : undefined;
    case 'name':
      return length <= answer.max && NAME.test(text) ? text.replaceAll(/\s+/g, ' ') : undefined;
    case 'email':
      return length <= answer.max && EMAIL.test(text) ? text : undefined;
    case 'phone':
      return readPhone(text, msisdn);
    case 'customerId':
      return /^[A-Za-z0-9]{9}$/.test(text) ? text.toUpperCase() : undefined;
    default:
      return undefined;
  }
}

/** The longest text that an answer of this kind can be, in characters as they are typed. */
export function longestAnswer(answer: Answer): number {
  switch (answer.kind) {
    case 'text':
    case 'name':
    case 'email':
    case 'pattern':
      return answer.max;
    case 'integer':
      return Math.max(String(answer.min).length, String(answer.max).length);
    case 'amount':
      return String(answer.max).length + '.00'.length;
    case 'phone':
      return 16;
    case 'customerId':
      return 9;
    default:
      return PIN_DIGITS;
  }
}

/** The longest that an answer of this kind can be on a screen, in septets. */
export function longestShown(answer: Answer): number {
  const typed = longestAnswer(answer);
  if (answer.kind === 'name') return speltAtMost(typed);
  // What may hold characters of the extension table takes two septets for each.
  if (answer.kind === 'text') return speltAtMost(2 * typed);
  if (answer.kind === 'pattern' && !isBasic(answer.pattern)) return speltAtMost(2 * typed);
  // Kept in minor units, so without the point.
  return answer.kind === 'amount' ? typed - '.'.length : typed;
}

/**
 * Whether a pattern is seen to match nothing but characters of one septet: letters, digits and signs that it
 * names, ranges of letters or digits, `\d` and `\w`.
 */
function isBasic(pattern: string): boolean {
  const left = pattern
    .replaceAll(/\\[dwbB.*+?$()/-]/g, '')
    .replaceAll(/\{\d+(,\d*)?\}/g, '')
    .replaceAll(/[A-Z]-[A-Z]|[a-z]-[a-z]|\d-\d|-(?=\])/g, '');
  return /^[\w ,:;@#&'"()[\]*+?|/=<>%!$]*$/.test(left) && !/\[[^\]]*\|/.test(pattern);
}

/** CONTRACT.md section 2. */
export const PIN_DIGITS = 5;

function readWhole(text: string, min: number, max: number): string | undefined {
  const value = /^-?\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  return value >= min && value <= max ? String(value) : undefined;
}

/** `50`, `50.5` or `50,50` as minor units, without ever being a floating-point number. */
function readAmount(text: string, min: number, max: number): string | undefined {
  const [, units, cents = ''] = /^(\d{1,12})(?:[.,](\d{1,2}))?$/.exec(text) ?? [];
  if (units === undefined) return undefined;
  const minor = BigInt(units) * 100n + BigInt(cents.padEnd(2, '0'));
  return minor >= BigInt(min) * 100n && minor <= BigInt(max) * 100n ? String(minor) : undefined;
}

/** Country codes of one and two digits (ITU-T E.164 Annex, list of assigned codes); all others have three. */
const SHORT_CODES = new Set(
  '1 7 20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 81 82 84 86 90 91 92 93 94 95 98'.split(
    ' ',
  ),
);

/** North American numbers have ten digits behind the 1. */
const NORTH_AMERICAN = 11;

/** The country code with which the digits of a number in E.164 begin. */
function countryOf(digits: string): string {
  const length = [1, 2].find((size) => SHORT_CODES.has(digits.slice(0, size)));
  return digits.slice(0, length ?? 3);
}

/**
 * A number as it is dialled at home or abroad, in E.164. A national one (with its leading 0) is of the caller's
 * country. Numbers of that country are as long as the caller's own: a digit too few or too many must not become
 * the number of somebody else, who then gets what was bought.
 */
function readPhone(text: string, msisdn: string): string | undefined {
  const typed = text.replaceAll(/[ .()-]/g, '');
  const own = msisdn.slice(1);
  const country = countryOf(own);
  const national = /^0([1-9]\d{4,12})$/.exec(typed)?.[1];
  const abroad = /^(?:\+|00)([1-9]\d{7,14})$/.exec(typed)?.[1];
  const digits = national === undefined ? abroad : country + national;
  if (digits === undefined) return undefined;
  const wanted =
    countryOf(digits) === country ? own.length : digits.startsWith('1') ? NORTH_AMERICAN : undefined;
  return wanted === undefined || digits.length === wanted ? `+${digits}` : undefined;
}
