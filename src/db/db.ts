import { type Kysely, sql } from 'kysely';
import type { Tables } from './tables.ts';

/** A connection, or an open transaction. */
export type Db = Kysely<Tables>;

/** Thrown in an effect's transaction where a condition of the effect does not hold any more. The turn runs again. */
export class GuardFailed extends Error {
  readonly code = 'guard_failed';
}

/**
 * Locks a digest until the transaction ends, by `pg_advisory_xact_lock(purpose, first 4 bytes)`. Every purpose has a
 * number of its own. Two digests that begin with the same 4 bytes share a lock.
 */
export async function lockDigest(tx: Db, purpose: number, digest: Buffer): Promise<void> {
  await sql`select pg_advisory_xact_lock(${purpose}, ${digest.readInt32BE(0)})`.execute(tx);
}
