import type { Db } from '../db/db.ts';

/**
 * How one kind of effect leaves the house: at least once each, with the row's id as the key by which the far
 * side tells a repeat.
 */
export type Delivery = {
  kind: string;
  /** How many are handed over at a time, and by how many workers of one instance side by side. */
  batch: number;
  workers: number;
  /** Tries before it is given up, after the first. */
  retries: number;
  /**
   * Delivers these rows, and ends in the outbox those that came to an end. Returns why, as a code, for each
   * that is to be tried again.
   */
  deliver(ids: string[]): Promise<ReadonlyMap<string, string>>;
  /** What follows when it is given up, in the transaction that marks it dead. */
  giveUp?(tx: Db, id: string): Promise<void>;
  /** An operator has it tried again. Throws `GuardFailed` where that cannot be. */
  revive?(tx: Db, id: string): Promise<void>;
};

/** Queues one row for its kind, in a transaction: it is there when the transaction is. */
export type Enqueue = (tx: Db, kind: string, data: { id: string }) => Promise<void>;

/**
 * Delivers each row by itself, so that one that fails does not hold up the others. `deliverOne` returns why a row is
 * to be tried again, and nothing where it came to an end.
 */
export async function eachAlone(
  ids: string[],
  deliverOne: (id: string) => Promise<string | undefined>,
): Promise<ReadonlyMap<string, string>> {
  const again = new Map<string, string>();
  await Promise.all(
    ids.map(async (id) => {
      const code = await deliverOne(id).catch(codeOf);
      if (code !== undefined) again.set(id, code);
    }),
  );
  return again;
}

/** Why an attempt failed, as operators see it: a code, never the words of the error. */
export function codeOf(error: unknown): string {
  const { code, name } = (error ?? {}) as { code?: unknown; name?: unknown };
  return String(code ?? name ?? 'error').slice(0, 60);
}
