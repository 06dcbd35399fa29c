import type { Answer } from './menu.ts';
import { matchesWhole } from './pattern.ts';
import { readPhone } from './phone.ts';
import { speltAtMost } from './text.ts';
import { folded } from './typed.ts';

/** Letters and digits that are not mistaken for one another when read out or written down. */
export const UNAMBIGUOUS = 'ABCDEFGHJKMNPQRSTUVWXYZ23456789';

/**
 * Letters of any script with their marks, and what stands inside names and before them, as in 't Hooft
 * (docs/contract.md section 2).
 */
const NAME = /^(?=.*\p{L})(?:[\p{L}\p{M} '.-]|\u200C|\u200D)+$/u;

/**
 * What providers accept in practice: no quoting, no comments, a dot in the domain (RFC 5321 §4.1.2), and
 * none of the characters that cost two septets on a screen.
 */
const EMAIL =
  /^[A-Za-z0-9!#$%&'+/=?_-]+(\.[A-Za-z0-9!#$%&'+/=?_-]+)*@([A-Za-z0-9](-*[A-Za-z0-9])*\.)+[A-Za-z]{2,}$/;

/**
 * A typed answer as it is kept, or undefined where it is none of its kind. Every kind reads it folded
 * (`typed.ts`). Secrets are not read here: the core never hears them.
 */
export function readAnswer(answer: Answer, typed: string, msisdn: string): string | undefined {
  const text = folded(typed);
  const length = [...text].length;
  switch (answer.kind) {
    case 'text':
      return length >= answer.min && length <= answer.max ? text : undefined;
    case 'integer':
      return readWhole(text, answer.min, answer.max);
    case 'amount':
      return readAmount(text, answer.min, answer.max);
    case 'pattern':
      return readPattern(answer, typed);
    case 'name':
      return length <= answer.max && NAME.test(text) ? text.replaceAll(/ +/g, ' ') : undefined;
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

/** As it is folded; as it was typed where the document asks for characters that folding would replace. */
function readPattern({ pattern, max }: Answer & { kind: 'pattern' }, typed: string): string | undefined {
  const spellings = [folded(typed), typed.trim().normalize('NFC')];
  return spellings.find((text) => [...text].length <= max && matchesWhole(pattern, text));
}

/** docs/contract.md section 2. */
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
