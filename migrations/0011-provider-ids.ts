import { type Kysely, sql } from 'kysely';

/**
 * One sale belongs to one order: `(provider, provider_id)` is unique. Rows of earlier layouts stay readable; a row that
 * shares its id with another one keeps it in `displaced_id` and is given back by the next reconciliation, which moves
 * its money and writes its message (a migration has neither the ledger nor the keys).
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    alter table airtime_orders
      add column asked_times int not null default 0,   -- how often the provider was asked
      add column denied_times int not null default 0,  -- how often it answered that it did nothing
      add column attributed boolean not null default false, -- the id was found by phone and amount, not answered
      add column displaced_id text,                    -- an id that it had and that is another order's
      add column told text check (told in ('sent', 'failed')),        -- what the newest message says
      add column told_before text check (told_before in ('sent', 'failed'))  -- and the one before it`.execute(
    db,
  );
  await sql`
    update airtime_orders set told = case when state in ('failed', 'refunded') then 'failed' else 'sent' end
    where state <> 'queued' and message_id is not null`.execute(db);
  // An id that was found by a report was kept under the name "report": the provider is the one that reports.
  await sql`
    update airtime_orders set attributed = (provider is not null), provider = 'africastalking'
    where provider_id is not null and (provider is null or provider = 'report')`.execute(db);
  // Which of several keeps the id: the one that was answered with it, then one that is paid for, then the oldest.
  await sql`
    update airtime_orders o set displaced_id = o.provider_id, provider_id = null, attributed = false
    from (
      select id, row_number() over (
        partition by provider, provider_id
        order by attributed, state in ('failed', 'refunded'), ordered_at, id) as place
      from airtime_orders where provider_id is not null) ranked
    where ranked.id = o.id and ranked.place > 1`.execute(db);
  await sql`
    create unique index airtime_orders_sale on airtime_orders (provider, provider_id)
    where provider_id is not null`.execute(db);
  await sql`
    create index airtime_orders_displaced on airtime_orders (id)
    where displaced_id is not null and state in ('sent', 'confirmed')`.execute(db);
  // What is looked for by every report and every reconciliation.
  await sql`create index if not exists airtime_orders_asked on airtime_orders (asked_at)`.execute(db);
  await sql`create index if not exists airtime_orders_hold on airtime_orders (hold_id)`.execute(db);
  await sql`create index if not exists airtime_reports_recipient on airtime_reports (recipient, at)`.execute(
    db,
  );

  // Sales that a provider reported and no order was found for, when their reports were removed. No phone number.
  await sql`
    create table airtime_strays (
      provider_id text primary key,
      currency text,
      amount bigint,
      at timestamptz not null
    )`.execute(db);
  await sql`create index airtime_strays_at on airtime_strays (at)`.execute(db);

  // What the simulator has sold: its own list, apart from the orders.
  await sql`
    create table airtime_simulated (
      provider_id text primary key,
      currency text not null,
      amount bigint not null,
      at timestamptz not null default clock_timestamp()
    )`.execute(db);
  await sql`create index airtime_simulated_at on airtime_simulated (at)`.execute(db);
  await sql`
    insert into airtime_simulated (provider_id, currency, amount, at)
    select provider_id, currency, amount, coalesce(asked_at, ordered_at) from airtime_orders
    where provider = 'simulator' and provider_id is not null`.execute(db);

  // What each comparison of orders with sales came to.
  await sql`
    create table airtime_reconciliations (
      id bigint generated always as identity primary key,
      ran_at timestamptz not null default clock_timestamp(),
      provider text not null,
      source text not null check (source in ('list', 'reports', 'statement')),
      orders_from timestamptz not null,
      orders_until timestamptz not null,
      orders int not null,
      sales int not null,
      orders_without_sale int not null,
      sales_without_order int not null
    )`.execute(db);
  await sql`create index airtime_reconciliations_newest on airtime_reconciliations (source, ran_at)`.execute(
    db,
  );
}
