import { type Kysely, sql } from 'kysely';

/** Adds the index by which the housekeeping removes codes for linking a phone: each is of use for 15 minutes. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`create index if not exists link_codes_expires on link_codes (expires_at)`.execute(db);
}
