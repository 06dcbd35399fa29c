import { RE2JS } from 're2js';

/**
 * Patterns of answers run on RE2, whose time grows with the length of the text alone. The engine of JavaScript takes
 * exponential time on patterns such as `(a+)+b`: one answer would hold up every other subscriber.
 */

/** Returns whether a pattern is a regular expression at all. */
export function isRegExp(pattern: string): boolean {
  try {
    new RegExp(pattern, 'u');
    return true;
  } catch {
    return false;
  }
}

/** Returns whether every answer is matched in a time that its length bounds. */
export function isBounded(pattern: string): boolean {
  return linear(pattern) !== undefined;
}

/** Returns whether a pattern matches a text from its first to its last character. */
export function matchesWhole(pattern: string, text: string): boolean {
  const compiled = linear(pattern);
  if (compiled !== undefined) return compiled.matches(text);
  // A document that was published before patterns had to be linear, and that open sessions still have.
  return new RegExp(`^(?:${pattern})$`, 'u').test(text);
}

/** By pattern; the patterns are those of documents, few and checked. */
const compiled = new Map<string, RE2JS | undefined>();
const MOST = 1_000;

function linear(pattern: string): RE2JS | undefined {
  if (compiled.has(pattern)) return compiled.get(pattern);
  let made: RE2JS | undefined;
  try {
    // A back-reference by name would be read as letters.
    if (/^(?:[^\\]|\\[^k])*\\k/.test(pattern)) throw new Error('a back-reference');
    made = RE2JS.compile(RE2JS.translateRegExp(pattern));
  } catch {
    made = undefined;
  }
  if (compiled.size >= MOST) compiled.clear();
  compiled.set(pattern, made);
  return made;
}
