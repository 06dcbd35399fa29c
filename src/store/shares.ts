import { folded } from '../flow/typed.ts';

/**
 * Shares and what they cost, in whole numbers: money in hundredths, shares in millionths of one. What does not
 * come out even is rounded down, for us or for the house, so that nothing is paid for twice.
 */

/** So many millionths are one share. */
export const ONE_SHARE = 1_000_000n;

/** The largest trade: what a screen has room for, `999999999.999999`. */
export const MOST_UNITS = 999_999_999_999_999n;

/** The same of money: `9,999,999,999.99`. */
export const MOST_MINOR = 999_999_999_999n;

/** The shares that an amount buys: never more than are paid for. */
export function unitsFor(amountMinor: bigint, priceMinor: bigint): bigint {
  return (amountMinor * ONE_SHARE) / priceMinor;
}

/** The money that shares bring: never more than they are worth. */
export function amountFor(units: bigint, priceMinor: bigint): bigint {
  return (units * priceMinor) / ONE_SHARE;
}

/** Shares as people read them: `0.527704`, without zeros that say nothing. */
export function writtenUnits(units: bigint): string {
  const part = String(units % ONE_SHARE)
    .padStart(6, '0')
    .replace(/0+$/, '');
  return part === '' ? String(units / ONE_SHARE) : `${units / ONE_SHARE}.${part}`;
}

/** Shares as people type them, `0,5` or `1.25`; undefined for what is no number, or finer than a millionth. */
export function typedUnits(text: string): bigint | undefined {
  const [, whole = '', part = ''] = /^(\d{0,9})(?:[.,](\d{1,6}))?$/.exec(folded(text)) ?? [];
  if (whole === '' && part === '') return undefined;
  return BigInt(whole || '0') * ONE_SHARE + BigInt(part.padEnd(6, '0'));
}
