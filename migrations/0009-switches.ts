import { type Kysely, sql } from 'kysely';

/** A row for every service that an operator has switched off: new dials of it end at once. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table service_switches (
      service text primary key,
      off_at timestamptz not null              -- since when
    )`.execute(db);
}
