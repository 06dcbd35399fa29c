import { sql } from 'kysely';
import type { Db } from './accounts.ts';

/** The language that a phone chose last; undefined where it never chose. */
export async function languageOf(db: Db, phone: Buffer): Promise<string | undefined> {
  const row = await db
    .selectFrom('subscribers')
    .select('language')
    .where('phone', '=', phone)
    .executeTakeFirst();
  return row?.language;
}

/** Remembers a language for the next dial. */
export async function rememberLanguage(db: Db, phone: Buffer, language: string): Promise<void> {
  await db
    .insertInto('subscribers')
    .values({ phone, language })
    .onConflict((conflict) =>
      conflict.column('phone').doUpdateSet({ language, updated_at: sql<Date>`now()` }),
    )
    .execute();
}
