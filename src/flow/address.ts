import type { Hearing } from './step.ts';

/**
 * The accumulated text is the address of a turn (docs/contract.md section 1, decision 1 to 3).
 *
 * Gateways join what was typed with `*`, and what was typed may itself be `*` or empty, so a text
 * cannot be split by itself: it is read relative to the longest turn that is already known.
 */

/** A walk never hears more pieces than this; a text that needs more is invalid. */
export const MOST_PIECES = 10;

/**
 * Every text that could name a turn above `text`, shortest first, `text` itself last.
 * P is a prefix of T only if P is empty, or T is P, or T goes on with `*` right after P:
 * `12` is not below `1`.
 */
export function prefixes(text: string): string[] {
  const found = [''];
  for (let at = 1; at < text.length; at += 1) if (text[at] === '*') found.push(text.slice(0, at));
  if (text !== '') found.push(text);
  return found;
}

/** One input cut from a text: what was typed, and where in the whole text it ends. */
export type Piece = { input: string; end: number };

/** How a text is being heard: is a code dialled through, and is this the first piece of it? */
export type Ear = Hearing & { first: boolean; through: boolean };

/**
 * The next input of `text` behind position `from`, as the current screen hears it.
 *
 * - what is left is exactly `*` at the start of a walk: the input `*`;
 * - a screen whose answers may contain `*` hears all that is left, unless a code is dialled through;
 * - `**` on a screen that offers `*` is the input `*`;
 * - otherwise up to the next `*`, so that `**` stands for an empty input.
 */
export function nextPiece(text: string, from: number, ear: Ear): Piece {
  // Nothing is taken off in front of the very first input of a session: there `*` is typed, not joined.
  const parted = text[from] === '*' && !(ear.first && from === 0);
  const start = parted ? from + 1 : from;
  const rest = text.slice(start);
  if (ear.first && rest === '*') return { input: '*', end: text.length };
  if (ear.whole && !ear.through) return { input: rest, end: text.length };
  // `**` is a separator and the key. On the root screen there is no separator before the key.
  if (ear.star && (parted ? rest.startsWith('*') : rest.startsWith('**')))
    return { input: '*', end: start + 1 };
  const stop = text.indexOf('*', start);
  const end = stop === -1 ? text.length : stop;
  return { input: text.slice(start, end), end };
}

/** How many inputs a plain cut of what stands behind `from` would give: what a stopped walk forgets. */
export function piecesLeft(text: string, from: number): number {
  if (from >= text.length) return 0;
  return text.slice(text[from] === '*' ? from + 1 : from).split('*').length;
}
