import type { Test } from 'tap';

/**
 * What a busy machine may add to a promised time; in milliseconds. That a wait has a limit is seen here, because what
 * hangs in these tests hangs until the test lets go of it; the limits that the code sets itself are compared with the
 * promise where they are exported; and how well they are kept, in milliseconds, is for the benchmarks.
 */
const BUSY_MS = 5_000;

/** Fails where something took longer than was promised, and a busy machine does not account for it. Times in ms. */
export function inTime(t: Test, took: number, promised: number, what: string): void {
  if (took >= promised) t.comment(`${what}: ${Math.round(took)} ms of ${promised}`);
  if (took >= promised + BUSY_MS) t.fail(`${what}: ${Math.round(took)} ms of ${promised}`);
}
