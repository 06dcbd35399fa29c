import { type Kysely, sql } from 'kysely';

/**
 * SMS: what is sent together (one text, one call to the provider), one row per recipient, what is reported,
 * who wants nothing more, what comes in, and who subscribes. Numbers and texts are sealed; digests serve
 * look-ups.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  // One text to some phones: what one call hands to the provider, and what the outbox delivers.
  await sql`
    create table sms_calls (
      id uuid primary key,
      key uuid not null,                       -- by which the provider knows a repeat; another one for another set
      body bytea,                              -- sealed; dropped after the retention
      kind text not null check (kind in ('single', 'bulk', 'twoWay')),
      sender text,                             -- who it is from; the provider's default where there is none
      keyword text,
      link_id text,                            -- of the message that it answers
      segments smallint not null default 1,
      request_id uuid,                         -- of the operator's request that caused it
      created_at timestamptz not null default clock_timestamp()
    )`.execute(db);
  await sql`create index sms_calls_request on sms_calls (request_id) where request_id is not null`.execute(
    db,
  );
  await sql`create index sms_calls_created on sms_calls (created_at) where body is not null`.execute(db);
  // What was queued before has a call of its own, sealed where it was; nothing comes in between.
  await sql`lock table messages in share row exclusive mode`.execute(db);
  await sql`
    insert into sms_calls (id, key, body, kind, created_at)
    select id, id, body, 'single', created_at from messages`.execute(db);

  await sql`
    alter table messages
      add column call_id uuid references sms_calls,
      add column code text,                    -- what the provider said last, or why it was not sent
      add column status_code smallint,         -- the provider's own number for it
      add column cost numeric(18, 8),
      add column currency text,
      add column network int,
      add column ended_at timestamptz`.execute(db);
  await sql`update messages set call_id = id`.execute(db);
  await sql`alter table messages alter column call_id set not null, alter column body drop not null`.execute(
    db,
  );
  await sql`update messages set body = null`.execute(db);
  // An instance of the version before, beside a new one while they are rolled out, knows of no calls.
  await sql`
    create function message_of_older_instance() returns trigger language plpgsql as $$
    begin
      if new.call_id is null then
        insert into sms_calls (id, key, body, kind) values (new.id, new.id, new.body, 'single');
        new.call_id := new.id;
      elsif new.body is not null then
        -- The words of a promised message.
        update sms_calls set body = new.body where id = new.call_id;
      end if;
      new.body := null;
      return new;
    end $$`.execute(db);
  await sql`
    create trigger message_of_older_instance before insert or update of body on messages
    for each row execute function message_of_older_instance()`.execute(db);
  await sql`alter table messages drop constraint messages_state_check`.execute(db);
  await sql`
    alter table messages add constraint messages_state_check check (state in (
      'promised', 'queued', 'sent', 'submitted', 'buffered', 'delivered', 'failed', 'rejected', 'expired'))`.execute(
    db,
  );
  await sql`alter table messages drop constraint messages_cause_check`.execute(db);
  await sql`
    alter table messages add constraint messages_cause_check
    check (cause in ('subscriber', 'support', 'operator'))`.execute(db);
  await sql`create index messages_call on messages (call_id)`.execute(db);
  await sql`create index messages_provider on messages (provider_id) where provider_id is not null`.execute(
    db,
  );
  await sql`create index messages_newest on messages (created_at desc, id desc)`.execute(db);

  // The requests of operators that carried a key: the same one is the same messages.
  await sql`
    create table sms_requests (
      key bytea primary key,                   -- digest
      id uuid not null,
      asked bytea not null,                    -- digest of what was asked for with it
      at timestamptz not null default clock_timestamp()
    )`.execute(db);

  // What a provider reports, once each; one that comes before its message is heard when the message is sent.
  await sql`
    create table sms_reports (
      provider_id text not null,
      phone bytea not null,                    -- digest
      status text not null check (status in (
        'Sent', 'Submitted', 'Buffered', 'Rejected', 'Success', 'Failed', 'AbsentSubscriber', 'Expired')),
      reason text,
      network int,
      at timestamptz not null default clock_timestamp(),
      primary key (provider_id, phone, status)
    )`.execute(db);
  await sql`create index sms_reports_at on sms_reports (at)`.execute(db);

  await sql`
    create table sms_opt_outs (
      phone bytea not null,                    -- digest
      sender text not null,
      since timestamptz not null default clock_timestamp(),
      said_at timestamptz,                     -- as the provider dates the STOP, where it was a message
      ended_at timestamptz,                    -- the subscriber's START
      primary key (phone, sender)
    )`.execute(db);

  await sql`
    create table sms_incoming (
      id bytea primary key,                    -- digest of the provider's id
      phone bytea not null,                    -- digest
      sealed bytea not null,                   -- number and text
      short_code text not null,
      link_id text,
      word text check (word in ('stop', 'start')),  -- what it asks for, where it asks for that
      answer text not null,                    -- what came of it: reply, stop, start, none and why
      sent_at timestamptz,                     -- as the provider says
      at timestamptz not null default clock_timestamp()
    )`.execute(db);
  await sql`create index sms_incoming_phone on sms_incoming (phone, at)`.execute(db);
  await sql`create index sms_incoming_at on sms_incoming (at)`.execute(db);

  // The newest row says whether somebody subscribes now; the others are the history.
  await sql`
    create table sms_subscriptions (
      id bigint generated always as identity primary key,
      phone bytea not null,                    -- digest
      msisdn bytea not null,                   -- sealed
      short_code text not null,
      keyword text not null,
      active boolean not null,
      at timestamptz not null default clock_timestamp()
    )`.execute(db);
  await sql`
    create index sms_subscriptions_newest on sms_subscriptions (phone, short_code, keyword, id desc)`.execute(
    db,
  );
}
