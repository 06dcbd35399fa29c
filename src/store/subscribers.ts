import { sql } from 'kysely';
import type { Db } from './accounts.ts';
import type { Sql } from './sql.ts';

/** The language that a phone chose last; undefined where it never chose. */
export async function languageOf(run: Sql, phone: Buffer): Promise<string | undefined> {
  const [row] = await run('subscriber_language', 'select language from subscribers where phone = $1', [
    phone,
  ]);
  return row?.language as string | undefined;
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
