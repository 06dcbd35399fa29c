import { type Kysely, sql } from 'kysely';

/**
 * Who looked a phone up, when and why: written before anything is shown. The reason may name anybody, and is sealed
 * with the pseudonym, which cannot be made of the digest again.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table lookups (
      id uuid primary key,
      at timestamptz not null default clock_timestamp(),
      operator text not null,                  -- the name of the token, as the guard knows it
      phone bytea not null,                    -- digest
      sealed bytea not null                    -- the phone's pseudonym, and the reason
    )`.execute(db);
  await sql`create index lookups_newest on lookups (at desc, id desc)`.execute(db);
  await sql`create index lookups_phone on lookups (phone)`.execute(db);
}
