import { sql } from 'kysely';
import type { Db } from '../db/db.ts';

/** Remembers a language for the next dial, whose look-up finds it. */
export async function rememberLanguage(db: Db, phone: Buffer, language: string): Promise<void> {
  await db
    .insertInto('subscribers')
    .values({ phone, language })
    .onConflict((conflict) =>
      conflict.column('phone').doUpdateSet({ language, updated_at: sql<Date>`now()` }),
    )
    .execute();
}
