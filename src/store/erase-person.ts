import type { Box } from '../seal/box.ts';
import type { Digests } from '../seal/digests.ts';
import type { KeyRing } from '../seal/keys.ts';

/** Who is being removed, what they are found and cut out with, and what was found of them so far. */
export type Person = {
  digests: Digests;
  /** Seals columns. */
  columns: Box;
  ring: KeyRing;
  msisdn: string;
  /** The digest of `msisdn`. */
  phone: Buffer;
  removed: Count;
  cut: Count;
  /** Open tasks that a task router has, or may have. */
  elsewhere: string[];
};

/** How many, by kind, as the operator is told them. */
export type Count = Record<string, number>;

/** Rows of one statement: every message that goes is looked for in the orders (their foreign keys). */
export const PAGE = 200;

/** A row changed between being read and being cut: it is read again. */
export class ChangedMeanwhile extends Error {}

/** A kind of which there is nothing is not counted at all. */
export function add(count: Count, kind: string, more: number): void {
  if (more > 0) count[kind] = (count[kind] ?? 0) + more;
}
