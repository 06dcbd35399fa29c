import { type Kysely, sql } from 'kysely';

/**
 * What leaves the house, the ledger, and airtime. Money is a whole number of hundredths; every entry of the
 * ledger sums to zero per currency, which the database itself holds.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  // One row for everything that is delivered later, as operators see it. The queue's own jobs come and go.
  await sql`
    create table outbox (
      id uuid primary key,                     -- of the row that it delivers
      kind text not null,
      state text not null default 'queued' check (state in ('queued', 'done', 'refused', 'dead')),
      attempts int not null default 0,
      error text,                              -- code of the last attempt that failed
      queued_at timestamptz not null default clock_timestamp(),
      tried_at timestamptz,
      ended_at timestamptz
    )`.execute(db);
  await sql`create index outbox_open on outbox (state, queued_at, id) where state <> 'done'`.execute(db);
  await sql`create index outbox_newest on outbox (queued_at, id)`.execute(db);
  await sql`create index outbox_ended on outbox (ended_at) where state = 'done'`.execute(db);

  await sql`
    create table ledger_accounts (
      id bigint generated always as identity primary key,
      book text not null check (book in ('real', 'sandbox', 'demo')),  -- the one never becomes the other
      kind text not null,
      owner bytea not null default '',         -- digest of a phone; empty for accounts of the house
      currency text not null,
      balance bigint,                          -- kept for subscribers only: one of the house would be everybody's row
      created_at timestamptz not null default clock_timestamp(),
      unique (book, kind, owner, currency),
      check ((owner = '') = (balance is null)),
      check (balance >= 0)
    )`.execute(db);
  await sql`
    create table ledger_entries (
      id uuid primary key,
      kind text not null,
      at timestamptz not null default clock_timestamp()
    )`.execute(db);
  await sql`
    create table ledger_postings (
      entry_id uuid not null references ledger_entries,
      account_id bigint not null references ledger_accounts,
      amount bigint not null check (amount <> 0),
      primary key (entry_id, account_id)
    )`.execute(db);
  await sql`create index ledger_postings_account on ledger_postings (account_id)`.execute(db);
  await sql`
    create function ledger_post() returns trigger language plpgsql as $$
    begin
      update ledger_accounts set balance = balance + new.amount where id = new.account_id and balance is not null;
      return new;
    end $$`.execute(db);
  await sql`
    create trigger ledger_post after insert on ledger_postings for each row execute function ledger_post()`.execute(
    db,
  );
  await sql`
    create function ledger_zero() returns trigger language plpgsql as $$
    begin
      if exists (
        select 1 from ledger_postings p join ledger_accounts a on a.id = p.account_id
        where p.entry_id = new.entry_id group by a.book, a.currency having sum(p.amount) <> 0
      ) then
        raise exception 'a ledger entry does not sum to zero' using errcode = 'integrity_constraint_violation';
      end if;
      return null;
    end $$`.execute(db);
  // At the commit: the postings of an entry come one by one.
  await sql`
    create constraint trigger ledger_zero after insert on ledger_postings
    deferrable initially deferred for each row execute function ledger_zero()`.execute(db);
  await sql`
    create function ledger_stays() returns trigger language plpgsql as $$
    begin
      raise exception 'postings are never changed' using errcode = 'integrity_constraint_violation';
    end $$`.execute(db);
  await sql`
    create trigger ledger_stays before update or delete on ledger_postings
    for each row execute function ledger_stays()`.execute(db);

  await sql`
    create table holds (
      id uuid primary key,
      account_id bigint not null references ledger_accounts,  -- the money it is kept from
      amount bigint not null check (amount > 0),
      state text not null default 'open' check (state in ('open', 'settled', 'released')),
      opened_at timestamptz not null default clock_timestamp(),
      closed_at timestamptz
    )`.execute(db);
  await sql`create index holds_open on holds (account_id) where state = 'open'`.execute(db);

  await sql`
    create table wallet_credits (
      key bytea primary key,                   -- digest of the idempotency key
      id uuid not null,                        -- of the ledger's entry
      asked bytea not null,                    -- digest of what was asked for with it
      reason bytea not null,                   -- sealed
      operator text not null,
      balance bigint not null,                 -- after it
      at timestamptz not null default clock_timestamp()
    )`.execute(db);

  await sql`
    create table airtime_orders (
      id uuid primary key,                     -- the idempotency key at the provider
      ref text not null unique,                -- what the subscriber is told
      buyer bytea not null,                    -- digest of the phone that pays
      recipient bytea not null,                -- digest of the phone that gets it
      sealed bytea not null,                   -- both numbers, and the words of either outcome
      currency text not null,
      amount bigint not null check (amount > 0),
      hold_id uuid not null references holds,
      message_id uuid references messages,     -- the SMS that tells the outcome, counted when it was ordered
      state text not null default 'queued'
        check (state in ('queued', 'sent', 'confirmed', 'failed', 'refunded')),
      asked_at timestamptz,                    -- when the provider was asked last: from then on it may have done it
      provider text,
      provider_id text,
      ordered_at timestamptz not null default clock_timestamp(),
      ended_at timestamptz
    )`.execute(db);
  await sql`
    create index airtime_orders_provider on airtime_orders (provider_id) where provider_id is not null`.execute(
    db,
  );
  await sql`create index airtime_orders_buyer on airtime_orders (buyer, ordered_at desc)`.execute(db);
  await sql`
    create index airtime_orders_recipient on airtime_orders (recipient, ordered_at)`.execute(db);
  // What a provider says of an order later, or before it has answered us.
  await sql`
    create table airtime_reports (
      provider_id text not null,
      recipient bytea not null,                -- digest
      status text not null check (status in ('Success', 'Failed')),
      authenticated boolean not null,
      currency text,
      amount bigint,                           -- hundredths, where it says so
      at timestamptz not null default clock_timestamp(),
      primary key (provider_id, recipient, status)
    )`.execute(db);

  // What subscribers cause in a day, in parts: one row would be everybody's.
  await sql`
    create table sms_counts (
      day date not null,
      part smallint not null,
      count int not null,
      primary key (day, part)
    )`.execute(db);
  await sql`insert into sms_counts (day, part, count) select day, 0, count from sms_days`.execute(db);

  // A message may be promised before its words are known: how an order went.
  await sql`alter table messages drop constraint messages_state_check`.execute(db);
  await sql`
    alter table messages add constraint messages_state_check
    check (state in ('promised', 'queued', 'sent', 'failed'))`.execute(db);
}
