import { type Kysely, sql } from 'kysely';

/**
 * What gateways say of sessions that are over: a row for each, by which an operator compares a bill with the
 * sessions of a day. Nothing that was typed is in it.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table ussd_notices (
      id bigint generated always as identity primary key,
      gateway text not null,
      session_key bytea not null,              -- digest of gateway and session id, as in turns
      phone bytea not null,                    -- digest
      ended_at timestamptz not null,           -- by the gateway's clock, whole seconds
      received_at timestamptz not null default clock_timestamp(),
      day date,                                -- the dial that it is of; null where it is of none of ours
      dial int,
      closed boolean not null,                 -- the dial had not ended until then
      service_code text,                       -- as registered, without what was dialled behind it
      network int,
      status text not null check (status in ('Success', 'Incomplete', 'Failed')),
      cost numeric,                            -- to the digit that was written
      currency text,
      duration_ms int,
      hops int,
      error bytea,                             -- sealed
      unique (gateway, session_key, phone, ended_at),
      check ((day is null) = (dial is null))
    )`.execute(db);
  await sql`create index ussd_notices_phone on ussd_notices (phone)`.execute(db);
  // Rows come in the order of both: a day of the bill, and what is old, are few blocks.
  await sql`
    create index ussd_notices_time on ussd_notices
      using brin (ended_at, received_at) with (pages_per_range = 16, autosummarize = on)`.execute(db);
}
