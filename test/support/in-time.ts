import type { Test } from 'tap';

/**
 * What a busy machine may add to a promised time; in milliseconds. Whether a wait has a limit is tested: whatever hangs
 * in these tests hangs until the test lets go of it, so without a limit none of them would come to its end in time. How
 * well a limit is kept, in milliseconds, is for the benchmarks.
 */
const BUSY_MS = 30_000;

/** Fails where something took longer than was promised, and a busy machine does not account for it. Times in ms. */
export function inTime(t: Test, took: number, promised: number, what: string): void {
  if (took >= promised) t.comment(`${what}: ${Math.round(took)} ms of ${promised}`);
  if (took >= promised + BUSY_MS) t.fail(`${what}: ${Math.round(took)} ms of ${promised}`);
}
