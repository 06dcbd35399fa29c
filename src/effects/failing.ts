/** A kind of delivery that fails with a code: how often, since it was told last. */
export type Failing = { kind: string; code: string; failed: number };

/** Between two lines about one kind and code; in milliseconds. */
const EVERY_MS = 60_000;

/**
 * Tells which deliveries fail, at most once a minute for each kind and code, so that a queue that only fails is seen in
 * the log and a thousand failures are not a thousand lines. `now` is a clock in milliseconds.
 */
export function failures(
  tell: (failing: Failing) => void,
  now: () => number = () => performance.now(),
): (kind: string, codes: Iterable<string>) => void {
  const told = new Map<string, { at: number; failed: number }>();
  return (kind, codes) => {
    for (const code of codes) {
      const key = `${kind}\0${code}`;
      const before = told.get(key);
      const failed = (before?.failed ?? 0) + 1;
      const isDue = before === undefined || now() - before.at >= EVERY_MS;
      told.set(key, isDue ? { at: now(), failed: 0 } : { at: before.at, failed });
      if (isDue) tell({ kind, code, failed });
    }
  };
}
