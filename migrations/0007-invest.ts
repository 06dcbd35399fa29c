import { type Kysely, sql } from 'kysely';

/**
 * What can be invested in, and orders for it. Money is a whole number of hundredths, shares are a whole number of
 * millionths; who holds what stands in the ledger, in accounts of the currency `stock:<SYMBOL>`.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  // A trusted extension: whoever may create in the database may create it.
  await sql`create extension if not exists pg_trgm`.execute(db);
  await sql`
    create table instruments (
      id text primary key,
      symbol text not null unique check (symbol = upper(symbol) and char_length(symbol) between 1 and 10),
      name text not null check (char_length(name) between 1 and 40),
      detail text not null check (char_length(detail) <= 40),   -- the sector
      currency text not null default 'USD' check (currency = 'USD'),
      price_minor bigint not null check (price_minor between 1 and 999999999),
      searched text not null,                  -- symbol and name, as a search spells them
      updated_at timestamptz not null default clock_timestamp()
    )`.execute(db);
  await sql`create index instruments_searched on instruments using gin (searched gin_trgm_ops)`.execute(db);

  await sql`
    create table stock_orders (
      id uuid primary key,                     -- the idempotency key at the exchange
      ref text not null unique,                -- what the subscriber is told
      owner bytea not null,                    -- digest of whoever orders
      sealed bytea not null,                   -- their number, where they have one, and the words of either outcome
      instrument text not null references instruments,
      side text not null check (side in ('buy', 'sell')),
      units bigint not null check (units > 0),              -- millionths of a share
      price_minor bigint not null check (price_minor > 0),
      amount_minor bigint not null check (amount_minor > 0),
      hold_id uuid not null references holds,  -- of money, or of shares
      message_id uuid references messages,     -- the SMS that tells the outcome, counted when it was ordered
      state text not null default 'queued' check (state in ('queued', 'filled', 'rejected')),
      provider text,
      code text,                               -- what the exchange said
      ordered_at timestamptz not null default clock_timestamp(),
      ended_at timestamptz,
      check ((state = 'queued') = (ended_at is null))
    )`.execute(db);
  await sql`create index stock_orders_owner on stock_orders (owner, ordered_at desc)`.execute(db);
}
