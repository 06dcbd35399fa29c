import { type Kysely, sql } from 'kysely';

/** Keys by which partners use the JSON routes. Whoever reads the table cannot use any of them. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table api_keys (
      id int generated always as identity primary key,
      name text not null,                      -- the partner: several keys of one name share their customers
      digest bytea not null unique,            -- keyed digest of 256 random bits
      may_assert_phone boolean not null,       -- a phone number that it names is believed
      created_at timestamptz not null default clock_timestamp(),
      revoked_at timestamptz
    )`.execute(db);
}
