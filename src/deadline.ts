import type { Deadline } from './flow/heard.ts';

/** A deadline `milliseconds` from now. */
export function deadlineIn(milliseconds: number, now: () => number = () => performance.now()): Deadline {
  const began = now();
  const elapsed = () => now() - began;
  return { elapsed, left: () => Math.max(0, milliseconds - elapsed()) };
}
