import type { Answer } from './menu.ts';

/** Letters and digits that are not mistaken for one another when read out or written down. */
export const UNAMBIGUOUS = 'ABCDEFGHJKMNPQRSTUVWXYZ23456789';

/**
 * Letters of any script with their marks, and what stands inside names and before them, as in 't Hooft
 * (CONTRACT.md section 2).
 */
const NAME = /^(?=.*\p{L})(?:[\p{L}\p{M} '’.-]|\u200C|\u200D)+$/u;

/** What providers accept in practice: no quoting, no comments, a dot in the domain (RFC 5321 §4.1.2). */
const EMAIL =
  /^[A-Za-z0-9!#$%&'+/=?^_{|}~-]+(\.[A-Za-z0-9!#$%&'+/=?^_{|}~-]+)*@([A-Za-z0-9](-*[A-Za-z0-9])*\.)+[A-Za-z]{2,}$/;

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

/** The longest text that an answer of this kind can be, in characters. */
export function longestAnswer(answer: Answer): number {
  switch (answer.kind) {
    case 'text':
    case 'name':
    case 'email':
      return answer.max;
    case 'phone':
      return 16;
    case 'customerId':
      return 9;
    default:
      return PIN_DIGITS;
  }
}

/** CONTRACT.md section 2. */
export const PIN_DIGITS = 5;

/**
 * A number as it is dialled at home or abroad, in E.164. A national one (with its leading 0) is read with
 * the first digits of the caller's own number, which has the same length in the same country.
 */
function readPhone(text: string, msisdn: string): string | undefined {
  const digits = text.replaceAll(/[ .()-]/g, '');
  if (/^(\+|00)[1-9]\d{6,14}$/.test(digits)) return `+${digits.replace(/^(\+|00)/, '')}`;
  const national = /^0([1-9]\d{5,11})$/.exec(digits)?.[1];
  if (national === undefined || national.length >= msisdn.length - 1) return undefined;
  return msisdn.slice(0, msisdn.length - national.length) + national;
}
