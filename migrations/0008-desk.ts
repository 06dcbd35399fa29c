import { type Kysely, sql } from 'kysely';

/**
 * Requests for help, as the desk works on them. Whoever asks may be in danger: numbers and answers are sealed, and
 * what a row can be found by is a keyed digest.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table tasks (
      id uuid primary key,
      reference text not null unique,          -- what the caller is told
      phone bytea not null,                    -- digest
      matter bytea not null,                   -- digest of the phone and the support type: what a repeat is told by
      sealed bytea not null,                   -- both numbers and the answers, as they were given last
      source text not null check (source in ('ussd', 'telerivet')),
      priority smallint not null,
      state text not null default 'open' check (state in ('open', 'assigned', 'closed')),
      requests int not null default 1,         -- how often help was asked for
      opened_at timestamptz not null default clock_timestamp(),
      asked_at timestamptz not null default clock_timestamp(),   -- for the last time
      changed_at timestamptz not null default clock_timestamp(), -- retention counts from here
      assignee text,                           -- who has taken it: a name the desk chose
      closed_at timestamptz,
      router text,                             -- the far side that it was handed to, and its id there
      router_id text,
      tried_at timestamptz,                    -- when creating it there was begun last: it may be there since
      leased_until timestamptz,                -- until then one process is telling the far side of it
      version int not null default 1,          -- counts what the far side is to know; told: what it does know
      told int not null default 0,
      former_ids text[] not null default '{}', -- ids that it had there: nothing that is said of them counts any more
      heard_at timestamptz,                    -- the newest event of the far side that moved it, by its clock
      check ((state = 'closed') = (closed_at is not null)),
      check (router_id is null or router is not null)
    )`.execute(db);
  await sql`create index tasks_matter on tasks (matter, opened_at desc)`.execute(db);
  await sql`create index tasks_phone on tasks (phone)`.execute(db);
  await sql`create index tasks_oldest on tasks (state, opened_at, id)`.execute(db);
  await sql`create index tasks_changed on tasks (changed_at)`.execute(db);
  await sql`create unique index tasks_router on tasks (router_id) where router_id is not null`.execute(db);
  await sql`create index tasks_former on tasks using gin (former_ids)`.execute(db);
  await sql`create index tasks_untold on tasks (id) where told < version`.execute(db);

  // What became of each, and who did it. What the far side is to know of is delivered by the queue under this id.
  await sql`
    create table task_events (
      id uuid primary key,
      task_id uuid not null references tasks on delete cascade,
      at timestamptz not null default clock_timestamp(),
      kind text not null
        check (kind in ('opened', 'repeated', 'handed', 'assigned', 'released', 'closed', 'reopened', 'queued')),
      version int not null,                    -- of the task, when it happened
      by text not null,                        -- an operator, or the gateway or far side that told
      sealed bytea                             -- a note
    )`.execute(db);
  await sql`create index task_events_task on task_events (task_id, at, id)`.execute(db);

  // A message is deleted with the person it is of, and who refers to it is looked for then.
  await sql`
    create index airtime_orders_message on airtime_orders (message_id) where message_id is not null`.execute(
    db,
  );
  await sql`
    create index stock_orders_message on stock_orders (message_id) where message_id is not null`.execute(db);
  // What turns made happen goes with them: by the day of the dial.
  await sql`create index effects_day on effects (day)`.execute(db);
}
