/** What is a person's alone and found by their phone goes; so do the deliveries of all that was theirs. */
import { sql } from 'kysely';
import type { Db } from '../db/db.ts';
import { bytes } from '../db/sql.ts';
import { add, PAGE, type Person } from './erase-person.ts';

type ErasedTask = {
  id: string;
  state: string;
  router_id: string | null;
  reference: string;
  tried: boolean;
  former_ids: string[];
};

/** Returns the calls that have nobody left. A call that others are part of goes on without this phone. */
export async function removeMessages(tx: Db, { phone, removed }: Person): Promise<string[]> {
  const { rows: own } = await sql<{ id: string; call_id: string }>`
    select id, call_id from messages where phone = ${phone} order by id for update`.execute(tx);
  const calls = [...new Set(own.map(({ call_id }) => call_id))];
  for (let at = 0; at < own.length; at += PAGE) {
    const ids = own.slice(at, at + PAGE).map(({ id }) => id);
    await sql`delete from messages where id = any (${ids}::uuid[])`.execute(tx);
  }
  // What was asked for with a key is a digest of the numbers too. Another one: asked for again it is refused.
  await sql`
    update sms_requests set asked = substr(sha256(uuid_send(gen_random_uuid())), 1, 16) where id in (
      select request_id from sms_calls where id = any (${calls}::uuid[]) and request_id is not null)`.execute(
    tx,
  );
  const { rows: gone } = await sql<{ id: string }>`
    delete from sms_calls c where c.id = any (${calls}::uuid[])
      and not exists (select 1 from messages m where m.call_id = c.id) returning c.id`.execute(tx);
  add(removed, 'messages', own.length);
  return gone.map(({ id }) => id);
}

/** Returns what of them the queue delivers. */
export async function removeTasks(tx: Db, { phone, removed, elsewhere }: Person): Promise<string[]> {
  const { rows: tasks } = await sql<ErasedTask>`
    select id, state, router_id, reference, tried_at is not null as tried, former_ids
    from tasks where phone = ${phone} order by id for update`.execute(tx);
  elsewhere.push(...tasks.filter(({ state }) => state !== 'closed').flatMap(elsewhereOf));
  const ids = tasks.map(({ id }) => id);
  const { rows: events } = await sql<{ id: string }>`
    delete from task_events where task_id = any (${ids}::uuid[]) returning id`.execute(tx);
  await sql`delete from tasks where id = any (${ids}::uuid[])`.execute(tx);
  add(removed, 'tasks', ids.length);
  return [...ids, ...events.map(({ id }) => id)];
}

/** Where else a task is to be looked for: by the ids that it had there, or by the reference that it may stand under. */
function elsewhereOf({ router_id: id, reference, tried, former_ids: former }: ErasedTask): string[] {
  const current = id ?? (tried ? `reference ${reference}` : undefined);
  return [...former, ...(current === undefined ? [] : [current])];
}

/** Tables whose rows go where one column is the phone: that column, and what they are counted as. */
export const BY_PHONE = {
  sms_reports: ['phone', 'reports on messages'],
  sms_incoming: ['phone', 'incoming messages'],
  sms_opt_outs: ['phone', 'opt-outs'],
  sms_subscriptions: ['phone', 'subscriptions'],
  subscribers: ['phone', 'languages'],
  ussd_notices: ['phone', 'notices of sessions'],
  airtime_reports: ['recipient', 'reports on airtime'],
} as const;

/** What nothing else hangs on, table by table. */
export async function removeByPhone(tx: Db, { phone, removed }: Person): Promise<void> {
  for (const [table, [column, kind]] of Object.entries(BY_PHONE)) {
    const { numAffectedRows } = await sql`
      delete from ${sql.table(table)} where ${sql.ref(column)} = ${phone}`.execute(tx);
    add(removed, kind, Number(numAffectedRows ?? 0));
  }
}

/**
 * Accounts that are this person's: whose only phone this is, or whose first. Of others only the binding goes. Codes
 * before accounts, as where a phone is linked. Returns the digests of the Customer IDs.
 */
export async function removeAccounts(tx: Db, { phone, removed, cut }: Person): Promise<Buffer[]> {
  const { rows: bound } = await sql<{ id: string; own: boolean }>`
    select a.account_id::text as id, (
      select f.phone = ${phone} from account_phones f where f.account_id = a.account_id
      order by f.bound_at, f.phone limit 1) as own
    from account_phones a where a.phone = ${phone}`.execute(tx);
  const own = bound.filter((account) => account.own).map(({ id }) => id);
  const codes = await sql`
    delete from link_codes where phone = ${phone} or account_id = any (${own}::bigint[])`.execute(tx);
  const { rows: accounts } = await sql<{ customer: Uint8Array }>`
    select customer from accounts where id = any (${own}::bigint[]) order by id for update`.execute(tx);
  await sql`
    delete from account_phones where phone = ${phone} or account_id = any (${own}::bigint[])`.execute(tx);
  await sql`delete from accounts where id = any (${own}::bigint[])`.execute(tx);
  add(removed, 'accounts', own.length);
  add(removed, 'codes for linking', Number(codes.numAffectedRows ?? 0));
  add(cut, 'accounts of others', bound.length - own.length);
  return accounts.map(({ customer }) => bytes(customer));
}

/** As `judge` names what is counted of IDs that are nobody's. */
export function nobodies({ digests, msisdn }: Person, typed: ReadonlySet<string>): Buffer[] {
  return [...typed].map((id) => digests.customer(`nobody\0${id}\0${msisdn}`));
}

/** In the order in which a try holds them. */
export async function removeCounters(tx: Db, { phone, removed }: Person, customers: Buffer[]): Promise<void> {
  const keys = [phone, ...customers];
  await sql`select key from pin_counters where key = any (${keys}::bytea[]) order by key for update`.execute(
    tx,
  );
  const { numAffectedRows } = await sql`
    delete from pin_counters where key = any (${keys}::bytea[])`.execute(tx);
  add(removed, 'counts of PINs', Number(numAffectedRows ?? 0));
}

/** A delivery that is under way finds its row gone, and ends. */
export async function removeOutbox(tx: Db, { removed }: Person, ids: string[]): Promise<void> {
  const { numAffectedRows } = await sql`delete from outbox where id = any (${ids}::uuid[])`.execute(tx);
  add(removed, 'deliveries', Number(numAffectedRows ?? 0));
}

/**
 * The queue's own jobs, which hold ids and nothing else. Those that it holds at this moment are passed over: it takes
 * several in an order of its own. A job whose row is gone ends by itself, and the queue deletes it within the hour.
 */
export async function removeJobs(db: Db, ids: string[]): Promise<void> {
  const { rows } = await sql<{
    there: boolean;
  }>`select to_regclass('pgboss.job') is not null as there`.execute(db);
  if (rows[0]?.there !== true || ids.length === 0) return;
  await sql`
    delete from pgboss.job j using (
      select name, id from pgboss.job where data ->> 'id' = any (${ids}::text[]) for update skip locked) gone
    where j.name = gone.name and j.id = gone.id`.execute(db);
}
