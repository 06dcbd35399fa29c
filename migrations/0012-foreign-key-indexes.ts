import { type Kysely, sql } from 'kysely';

/**
 * Adds the indexes that foreign keys and retention need, and the table in which the housekeeping records its steps.
 * `if not exists`: on a large database they may be built beforehand with `create index concurrently`
 * (docs/operations.md, Upgrade), because an index that is built here blocks writes to its table meanwhile.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  // Foreign keys: without an index every delete of a referenced row reads the whole referring table.
  await sql`create index if not exists link_codes_account on link_codes (account_id)`.execute(db);
  await sql`create index if not exists holds_account on holds (account_id)`.execute(db);
  await sql`create index if not exists airtime_orders_hold on airtime_orders (hold_id)`.execute(db);
  await sql`create index if not exists stock_orders_hold on stock_orders (hold_id)`.execute(db);
  await sql`create index if not exists stock_orders_instrument on stock_orders (instrument)`.execute(db);
  // A report is looked up by the phone that it is about, within hours.
  await sql`
    create index if not exists airtime_reports_recipient on airtime_reports (recipient, at)`.execute(db);

  // Retention removes the oldest rows first, in batches: each batch starts where the last one ended.
  await sql`create index if not exists effects_at on effects (at)`.execute(db);
  await sql`create index if not exists ussd_notices_received on ussd_notices (received_at)`.execute(db);
  await sql`create index if not exists airtime_reports_at on airtime_reports (at)`.execute(db);
  await sql`create index if not exists sms_requests_at on sms_requests (at)`.execute(db);
  await sql`create index if not exists pin_counters_nobody on pin_counters (at) where nobody`.execute(db);

  await sql`
    create table housekeeping (
      step text primary key,
      succeeded_at timestamptz not null,       -- when it last left nothing undone; its first run where it never did
      failed_at timestamptz,                   -- when it last failed; null where the newest run succeeded
      code text                                -- why: an SQLSTATE or an error code, never a message
    )`.execute(db);
}
