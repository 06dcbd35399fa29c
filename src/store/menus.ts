import type { Kysely } from 'kysely';
import { sql } from 'kysely';
import type { Tables } from '../db/tables.ts';

/**
 * Stores a document under its hash, once, and returns its number. The row exists before any dial opens
 * on it, so that every instance can load it (decision 24).
 */
export async function storeMenu(
  db: Kysely<Tables>,
  hash: string,
  service: string,
  document: unknown,
): Promise<number> {
  await db
    .insertInto('menus')
    .values({ hash, service, document: sql`${JSON.stringify(document)}::json` })
    .onConflict((conflict) => conflict.column('hash').doNothing())
    .execute();
  const row = await db.selectFrom('menus').select('id').where('hash', '=', hash).executeTakeFirstOrThrow();
  return row.id;
}

/** A stored document by its number. */
export async function loadMenu(db: Kysely<Tables>, id: number): Promise<unknown> {
  const row = await db.selectFrom('menus').select('document').where('id', '=', id).executeTakeFirst();
  return row?.document;
}
