import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import type { Kysely } from 'kysely';
import { bytes } from '../db/sql.ts';
import type { Tables } from '../db/tables.ts';
import { Box, SealError } from '../seal/box.ts';
import { type KeyRing, subkey } from '../seal/keys.ts';

/** The process holds other keys than the ones this database was written with. */
export class WrongKeys extends Error {
  readonly code = 'wrong_keys';
}

const BOUND = Buffer.from('digest_key');

/**
 * The root of all keyed digests (decision 26). Without a given key a random one is made once and kept
 * in the database, wrapped by the active key. Refuses a process that has other keys, before it could
 * write anything that nobody else can read. Throws `WrongKeys`.
 */
export async function digestRoot(
  db: Kysely<Tables>,
  ring: KeyRing,
  given: Buffer | undefined,
): Promise<Buffer> {
  const box = new Box(ring, 'wrap');
  const root = given ?? randomBytes(32);
  const source = given === undefined ? 'made' : 'given';
  // A given key stays outside the database; what is wrapped then only proves that it is the same one.
  const secret = given === undefined ? root : proof(given);
  await db
    .insertInto('digest_key')
    .values({ source, wrapped: box.seal(secret, BOUND) })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  const stored = await db.selectFrom('digest_key').selectAll().executeTakeFirstOrThrow();
  const kept = await rootIn(db, ring, given, stored);
  await addChecks(db, ring);
  // Another process may have been first with an id.
  await compareChecks(db, ring);
  return kept;
}

/** Whether these keys are those of the database, changing nothing; false where none was set up yet. Throws `WrongKeys`. */
export async function keysFit(
  db: Kysely<Tables>,
  ring: KeyRing,
  given: Buffer | undefined,
): Promise<boolean> {
  const stored = await db.selectFrom('digest_key').selectAll().executeTakeFirst();
  if (stored === undefined) return false;
  await rootIn(db, ring, given, stored);
  return true;
}

type Stored = { source: 'made' | 'given'; wrapped: Uint8Array };

async function rootIn(
  db: Kysely<Tables>,
  ring: KeyRing,
  given: Buffer | undefined,
  stored: Stored,
): Promise<Buffer> {
  const kept = unwrap(new Box(ring, 'wrap'), bytes(stored.wrapped));
  await compareChecks(db, ring);
  if (stored.source !== (given === undefined ? 'made' : 'given')) {
    throw new WrongKeys(
      given === undefined
        ? 'this database was set up with DIGEST_KEY: set the same one'
        : 'this database was set up without DIGEST_KEY: unset it',
    );
  }
  if (given === undefined) return kept;
  if (!timingSafeEqual(kept, proof(given)))
    throw new WrongKeys('DIGEST_KEY is not the one this database was set up with');
  return given;
}

/** Whether anything can have been sealed in this database yet. */
export async function hasDigestKey(db: Kysely<Tables>): Promise<boolean> {
  return (await db.selectFrom('digest_key').select('source').executeTakeFirst()) !== undefined;
}

/** Wraps the digest key again under the active key; false where it is already. */
export async function rewrapDigestKey(db: Kysely<Tables>, ring: KeyRing): Promise<boolean> {
  const stored = await db.selectFrom('digest_key').selectAll().executeTakeFirstOrThrow();
  const wrapped = new Box(ring, 'wrap').reseal(stored.wrapped, BOUND);
  if (wrapped === undefined) return false;
  await db.updateTable('digest_key').set({ wrapped }).where('wrapped', '=', stored.wrapped).execute();
  return true;
}

function unwrap(box: Box, wrapped: Buffer): Buffer {
  try {
    return box.open(wrapped, BOUND);
  } catch (error) {
    if (!(error instanceof SealError)) throw error;
    throw new WrongKeys(
      error.code === 'key_missing'
        ? 'PIN_ENCRYPTION_KEY lacks the key that this database was set up with'
        : 'PIN_ENCRYPTION_KEY has another key under an id that this database knows',
    );
  }
}

/** One value per key id, so that two instances cannot use one id for two keys. */
async function addChecks(db: Kysely<Tables>, ring: KeyRing): Promise<void> {
  for (const [kid, key] of ring.keys) {
    await db
      .insertInto('key_checks')
      .values({ kid, check_value: proof(key) })
      .onConflict((conflict) => conflict.doNothing())
      .execute();
  }
}

async function compareChecks(db: Kysely<Tables>, ring: KeyRing): Promise<void> {
  for (const [kid, key] of ring.keys) {
    const row = await db.selectFrom('key_checks').selectAll().where('kid', '=', kid).executeTakeFirst();
    if (row !== undefined && !timingSafeEqual(bytes(row.check_value), proof(key))) {
      throw new WrongKeys(`PIN_ENCRYPTION_KEY has another key under the id ${kid} than this database knows`);
    }
  }
}

function proof(key: Buffer): Buffer {
  return createHmac('sha256', subkey(key, 'check')).update('ussd').digest();
}
