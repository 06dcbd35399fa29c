import { type Kysely, sql } from 'kysely';

/**
 * Turns are rows that are inserted and never updated; a session is the chain of its turns
 * (decision 18). Partitions are weeks of `day`, made ahead by housekeeping, so that retention is
 * dropping a table.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table turns (
      session_key bytea not null,
      day date not null,
      dial int not null,
      address bytea not null,
      hop smallint not null,
      at timestamptz not null default clock_timestamp(),
      ended boolean not null,
      outcome smallint not null,
      node smallint not null,
      menu int not null,
      network int,
      phone bytea not null,
      service text not null,
      sealed bytea not null,
      primary key (session_key, day, dial, address)
    ) partition by range (day)`.execute(db);
  await sql`create index turns_resume on turns (phone, service, at desc) where hop = 0`.execute(db);
  await sql`
    create index turns_active on turns using brin (at) with (pages_per_range = 16, autosummarize = on)`.execute(
    db,
  );

  // Documents by content: a session stays on the version it began on (decision 24).
  await sql`
    create table menus (
      id int generated always as identity primary key,
      hash text not null unique,
      service text not null,
      -- json, not jsonb: the order of its nodes is their number
      document json not null,
      stored_at timestamptz not null default now()
    )`.execute(db);

  // The digest key, wrapped by a key of the ring, and what tells a process that it holds other keys.
  await sql`
    create table digest_key (
      single boolean primary key default true check (single),
      source text not null check (source in ('made', 'given')),
      wrapped bytea not null
    )`.execute(db);
  await sql`
    create table key_checks (
      kid text primary key,
      check_value bytea not null
    )`.execute(db);
}
