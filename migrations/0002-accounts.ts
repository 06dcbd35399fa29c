import { type Kysely, sql } from 'kysely';

/**
 * Accounts, their phones and PINs, attempts at them, what happened once, and messages to be sent.
 * Phone numbers, names, e-mail addresses and message texts are sealed; keyed digests serve look-ups.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table accounts (
      id bigint generated always as identity primary key,
      customer bytea not null unique,          -- digest of the Customer ID
      customer_id bytea not null,              -- sealed
      name bytea not null,                     -- sealed
      email bytea,                             -- sealed
      pin bytea not null,                      -- sealed verifier
      pin_must_change boolean not null default false,
      pin_version int not null default 0,      -- a session that was let in by another PIN is out
      created_at timestamptz not null default now()
    )`.execute(db);
  await sql`
    create table account_phones (
      account_id bigint not null references accounts,
      phone bytea not null,                    -- digest
      msisdn bytea not null,                   -- sealed
      bound_at timestamptz not null default now(),
      primary key (account_id, phone)
    )`.execute(db);
  await sql`create index account_phones_phone on account_phones (phone)`.execute(db);
  await sql`
    create table link_codes (
      code bytea primary key,                  -- digest
      account_id bigint not null references accounts,
      phone bytea not null,                    -- digest of the phone that may use it
      expires_at timestamptz not null,
      used_at timestamptz
    )`.execute(db);

  // An attempt is keyed by the turn that made it, so that every copy of a request counts once.
  await sql`
    create table pin_attempts (
      turn bytea primary key,
      locked boolean not null,
      at timestamptz not null default clock_timestamp()
    )`.execute(db);
  await sql`create index pin_attempts_at on pin_attempts (at)`.execute(db);
  await sql`
    create table pin_counters (
      key bytea primary key,                   -- digest of an account, of a phone, or of an ID that is nobody's
      tries int not null default 0,
      locked_until timestamptz,                -- infinity: until support unlocks
      nobody boolean not null,
      at timestamptz not null default clock_timestamp()
    )`.execute(db);

  // What a turn made happen, by the turn that showed the screen being answered (decision 9).
  await sql`
    create table effects (
      shown bytea not null,                    -- identity of that turn
      ordinal smallint not null,
      kind text not null,
      session_key bytea not null,              -- the turn that did it
      day date not null,
      dial int not null,
      address bytea not null,
      at timestamptz not null default clock_timestamp(),
      primary key (shown, ordinal)
    )`.execute(db);

  // What a phone is remembered by; never part of what makes a turn unique (decision 20).
  await sql`
    create table subscribers (
      phone bytea primary key,
      language text not null,
      updated_at timestamptz not null default now()
    )`.execute(db);

  await sql`
    create table messages (
      id uuid primary key,
      phone bytea not null,                    -- digest
      msisdn bytea not null,                   -- sealed
      body bytea not null,                     -- sealed
      cause text not null check (cause in ('subscriber', 'support')),
      state text not null default 'queued' check (state in ('queued', 'sent', 'failed')),
      provider text,
      provider_id text,
      created_at timestamptz not null default clock_timestamp(),
      sent_at timestamptz
    )`.execute(db);
  await sql`create index messages_phone on messages (phone, created_at)`.execute(db);
  await sql`
    create table sms_days (
      day date primary key,
      count int not null
    )`.execute(db);
}
