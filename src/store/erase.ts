import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Selectable, sql } from 'kysely';
import { unpackState } from '../flow/memory.ts';
import { Box } from '../seal/box.ts';
import type { Digests } from '../seal/digests.ts';
import type { KeyRing } from '../seal/keys.ts';
import { type Db, lockDigest } from './accounts.ts';
import { cutLookups } from './lookups.ts';
import { bytes, SqlState, sqlState } from './sql.ts';
import type { Tables } from './tables.ts';
import { rowKey } from './turns.ts';

/** Two of one phone, one behind the other. */
const ERASE_LOCK = 7_020;

/**
 * No lock is waited for longer than this, in milliseconds: then everything is given back and begun again. Postgres
 * looks for deadlocks after a second (`deadlock_timeout`), so none that this is part of lives long enough to cost
 * anybody a transaction, whatever order others take their locks in. That order is kept all the same, the outbox
 * before the order before the wallet, so that it rarely comes to this.
 */
const LOCK_MS = 200;
/** Beginnings before it is given up, and the longest pause between two of them, in milliseconds. */
const TRIES = 60;
const PAUSE_MS = 250;

/** Rows of one statement: every message that goes is looked for in the orders (their foreign keys). */
const PAGE = 200;

/** No session is open for longer after its last turn (RULINGS.md 4). */
const LONGEST_TTL = '1 hour';
/** A turn whose look-up is older is not written (turns-sql.ts): a little more than that; in milliseconds. */
const UNDER_WAY_MS = 11_000;
/** A session that somebody goes on typing in is given up on after so many looks. */
const LOOKS = 6;

/** A report that tells how an order went is waited for so long (RULINGS.md 32). */
const REPORT_HOURS = 24;
/** Reports nothing, ever. */
const SIMULATOR = 'simulator';

/** The message that is to tell of an order is written before it, in the same transaction. */
const BEFORE_ORDER = '1 minute';

/** What stands in somebody else's text where the number was. */
const ERASED = '(erased)';

/** Something of the phone's is under way: nothing was changed. What is said is for a person. */
export class EraseRefused extends Error {
  readonly code = 'erase_refused';
}

export type Erasing = {
  digests: Digests;
  /** Seals columns. */
  columns: Box;
  ring: KeyRing;
  /** Waits until nothing that was under way can be written any more. */
  pause?(milliseconds: number): Promise<unknown>;
};

/** What was found, by kind: removed, or cut from what stays. */
export type Erased = {
  removed: Record<string, number>;
  cut: Record<string, number>;
  /** Open tasks that a task router has, or may have: by its id, or by our reference. They are to be deleted there. */
  elsewhere: string[];
  /** Somebody goes on in a session that was open: they are heard as whoever dials for the first time. */
  stillTyping: boolean;
  /** Tables whose dead rows the server is to take away when it comes to it. */
  unswept: string[];
};

/** `shown`: what effects call its turns by. */
type Dial = { session_key: Buffer; day: string; dial: number; isLive: boolean; shown: Buffer[] };
type Person = Omit<Erasing, 'pause'> & {
  msisdn: string;
  phone: Buffer;
  removed: Count;
  cut: Count;
  elsewhere: string[];
};
type Count = Record<string, number>;
type ErasedTask = {
  id: string;
  state: string;
  router_id: string | null;
  reference: string;
  tried: boolean;
  former_ids: string[];
};
type AirtimeOrder = Selectable<Tables['airtime_orders']>;
type StockOrder = Selectable<Tables['stock_orders']>;

/**
 * Removes a person (RULINGS.md 34): what is theirs alone goes, what others need stays without them. One transaction,
 * beside the running service; a delivery that is under way finds its row gone and ends. Then, outside of it, what a
 * turn wrote that had been looked up before, and the dead rows. Safe to run twice. Throws `EraseRefused` where money
 * is under way.
 */
export async function erase(db: Db, erasing: Erasing, msisdn: string): Promise<Erased> {
  const { pause = sleep, ...parts } = erasing;
  const phone = parts.digests.phone(msisdn);
  const { person, dials, gone, partitions } = await patiently(async () => {
    const person: Person = { ...parts, msisdn, phone, removed: {}, cut: {}, elsewhere: [] };
    return db.transaction().execute(async (tx) => ({ person, ...(await eraseIn(tx, person)) }));
  });
  await removeJobs(db, gone);
  const stillTyping = await sweep(db, person, dials, pause);
  const unswept = await vacuum(db, [...TOUCHED, ...partitions]);
  const { removed, cut, elsewhere } = person;
  return { removed, cut, elsewhere, stillTyping, unswept };
}

/** Where else a task is to be looked for: by the ids that it had there, or by the reference that it may stand under. */
function elsewhereOf({ router_id: id, reference, tried, former_ids: former }: ErasedTask): string[] {
  const current = id ?? (tried ? `reference ${reference}` : undefined);
  return [...former, ...(current === undefined ? [] : [current])];
}

/** Begins again where a lock was not to be had, or somebody added to what was being removed. */
async function patiently<T>(run: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await run();
    } catch (error) {
      const state = sqlState(error);
      if (state !== SqlState.lockNotAvailable && state !== FOREIGN_KEY) throw error;
      // Somebody adds to it again and again; or there is a table that this does not know of.
      if (attempt === TRIES && state === FOREIGN_KEY) throw error;
      if (attempt === TRIES) throw new EraseRefused('this phone is busy: say it again in a minute');
      await sleep(Math.min(PAUSE_MS, 20 * attempt));
    }
  }
}

/** A code for linking, or a phone, was added at this moment. */
const FOREIGN_KEY = '23503';

async function eraseIn(tx: Db, person: Person) {
  await sql`set local lock_timeout = ${sql.lit(LOCK_MS)}`.execute(tx);
  await lockDigest(tx, ERASE_LOCK, person.phone);
  await refuseUnderWay(tx, person);
  // The outbox before the rows, as where a delivery ends, is given up, or is tried again.
  await lockOutbox(tx, person);
  const { orders, stockOrders } = await lockOrders(tx, person);
  const wallets = await lockWallets(tx, person);
  // Whoever buys takes the wallet first: from here on nothing new can be under way.
  await refuseUnderWay(tx, person);

  const random = randomBytes(16);
  await cutOrders(tx, person, orders, random);
  await cutStockOrders(tx, person, stockOrders, random);
  await cutWallets(tx, person, wallets, random);
  const calls = await removeMessages(tx, person);
  const tasks = await removeTasks(tx, person);
  await removeByPhone(tx, person);
  add(person.cut, 'look-ups by operators', await cutLookups(tx, person.columns, person.phone));
  const customers = await removeAccounts(tx, person);
  const { dials, typed, partitions } = await removeTurns(tx, person);
  await removeCounters(tx, person, [...customers, ...nobodies(person, typed)]);
  await removeTraces(tx, person, dials);
  // Of orders too: what is given up could be tried again, and there is nobody any more to buy for.
  const gone = [...calls, ...tasks, ...orders.map(({ id }) => id), ...stockOrders.map(({ id }) => id)];
  await removeOutbox(tx, person, gone);
  await removeJobs(tx, gone);
  return { dials, gone, partitions };
}

/** Money of this phone, or meant for it, that is neither spent nor back. Throws `EraseRefused`. */
async function refuseUnderWay(tx: Db, { phone }: Person): Promise<void> {
  const { rows } = await sql<{ holds: number; coming: number; reports: number }>`
    select
      (select count(*)::int from holds h join ledger_accounts a on a.id = h.account_id
        where a.owner = ${phone} and h.state = 'open')
      + (select count(*)::int from airtime_orders o join holds h on h.id = o.hold_id
        where o.buyer = ${phone} and h.state = 'open'
          and not exists (select 1 from ledger_accounts a where a.id = h.account_id and a.owner = ${phone}))
      + (select count(*)::int from stock_orders o join holds h on h.id = o.hold_id
        where o.owner = ${phone} and h.state = 'open'
          and not exists (select 1 from ledger_accounts a where a.id = h.account_id and a.owner = ${phone}))
        as holds,
      (select count(*)::int from airtime_orders
        where recipient = ${phone} and buyer <> ${phone} and state = 'queued') as coming,
      (select count(*)::int from airtime_orders
        where recipient = ${phone} and buyer <> ${phone} and state = 'sent' and provider <> ${SIMULATOR}
          and ordered_at > now() - ${REPORT_HOURS} * interval '1 hour') as reports`.execute(tx);
  const { holds = 0, coming = 0, reports = 0 } = rows[0] ?? {};
  if (holds > 0)
    throw new EraseRefused(
      `money of this phone is held for ${ordersIn(holds)} under way: wait until they have ended, about two hours at the most`,
    );
  if (coming > 0)
    throw new EraseRefused(
      `somebody else is buying airtime for this phone (${ordersIn(coming)}): wait until that has ended, about two hours at the most`,
    );
  if (reports > 0)
    throw new EraseRefused(
      `the provider has yet to report on airtime that somebody else bought for this phone (${ordersIn(reports)}), and their money may come back: wait for it, ${REPORT_HOURS} hours at the most`,
    );
}

function ordersIn(count: number): string {
  return count === 1 ? '1 order' : `${count} orders`;
}

async function lockOutbox(tx: Db, { phone }: Person): Promise<void> {
  await sql`
    select id from outbox where id in (
      select call_id from messages where phone = ${phone}
      union select id from airtime_orders where buyer = ${phone} or recipient = ${phone}
      union select id from stock_orders where owner = ${phone}
      union select id from tasks where phone = ${phone}
      union select e.id from task_events e join tasks t on t.id = e.task_id where t.phone = ${phone})
    order by id for update`.execute(tx);
}

async function lockOrders(
  tx: Db,
  { phone }: Person,
): Promise<{ orders: AirtimeOrder[]; stockOrders: StockOrder[] }> {
  const orders = await tx
    .selectFrom('airtime_orders')
    .selectAll()
    .where((either) => either.or([either('buyer', '=', phone), either('recipient', '=', phone)]))
    .orderBy('id')
    .forUpdate()
    .execute();
  const stockOrders = await tx
    .selectFrom('stock_orders')
    .selectAll()
    .where('owner', '=', phone)
    .orderBy('id')
    .forUpdate()
    .execute();
  return { orders, stockOrders };
}

async function lockWallets(tx: Db, { phone }: Person): Promise<string[]> {
  const { rows } = await sql<{ id: string }>`
    select id::text as id from ledger_accounts where owner = ${phone} order by ledger_accounts.id for update`.execute(
    tx,
  );
  return rows.map(({ id }) => id);
}

/**
 * Orders stay: they are half of what the ledger says. As the buyer the person becomes `random`, with their wallet; as
 * somebody else's recipient a random id for each order, or the wallet would be known by who bought for it.
 */
async function cutOrders(tx: Db, person: Person, orders: AirtimeOrder[], random: Buffer): Promise<void> {
  const { columns, phone, msisdn, cut } = person;
  for (const order of orders) {
    const bought = bytes(order.buyer).equals(phone);
    const got = bytes(order.recipient).equals(phone);
    const bound = Buffer.from(`airtime_orders.sealed\0${order.id}`);
    const was = JSON.parse(columns.open(order.sealed, bound).toString()) as Record<string, string>;
    // The words of the outcome were told to the buyer; what they are still needed for is a refund.
    const words = (text = '') => (bought ? '' : withoutNumber(text, msisdn));
    const sealed = {
      buyer: bought ? '' : was.buyer,
      recipient: got ? '' : was.recipient,
      sent: words(was.sent),
      failed: words(was.failed),
    };
    await tx
      .updateTable('airtime_orders')
      .set({
        ...(bought && { buyer: random, message_id: null }),
        ...(got && { recipient: bought ? random : randomBytes(16) }),
        sealed: columns.seal(Buffer.from(JSON.stringify(sealed)), bound),
      })
      .where('id', '=', order.id)
      .execute();
    if (!bought) await cutTexts(tx, person, order);
  }
  add(cut, 'airtime orders', orders.length);
}

/** What a buyer was told of an order for this phone: the message of the order, and those that followed it. */
async function cutTexts(
  tx: Db,
  { columns, msisdn, cut }: Person,
  { buyer, ordered_at }: AirtimeOrder,
): Promise<void> {
  const told = await tx
    .selectFrom('sms_calls')
    .innerJoin('messages', 'messages.call_id', 'sms_calls.id')
    .select(['sms_calls.id', 'sms_calls.body'])
    .where('messages.phone', '=', buyer)
    .where(sql<boolean>`messages.created_at >= ${ordered_at}::timestamptz - ${BEFORE_ORDER}::interval`)
    .where('sms_calls.body', 'is not', null)
    .execute();
  for (const { id, body } of told) {
    const bound = Buffer.from(`messages.body\0${id}`);
    const text = columns.open(body as Uint8Array, bound).toString();
    const without = withoutNumber(text, msisdn);
    if (without === text) continue;
    await tx
      .updateTable('sms_calls')
      .set({ body: columns.seal(Buffer.from(without), bound) })
      .where('id', '=', id)
      .execute();
    add(cut, 'texts to others', 1);
  }
}

/** With its plus and without. */
function withoutNumber(text: string, msisdn: string): string {
  return text.replaceAll(msisdn, ERASED).replaceAll(msisdn.slice(1), ERASED);
}

async function cutStockOrders(tx: Db, person: Person, orders: StockOrder[], random: Buffer): Promise<void> {
  const nothing = Buffer.from(JSON.stringify({ caller: null, filled: '', rejected: '' }));
  for (const { id } of orders) {
    await tx
      .updateTable('stock_orders')
      .set({
        owner: random,
        message_id: null,
        sealed: person.columns.seal(nothing, Buffer.from(`stock_orders.sealed\0${id}`)),
      })
      .where('id', '=', id)
      .execute();
  }
  add(person.cut, 'orders for shares', orders.length);
}

/** One id for all that somebody had, so that what is held still stands beside what it was held from. */
async function cutWallets(tx: Db, person: Person, wallets: string[], random: Buffer): Promise<void> {
  if (wallets.length === 0) return;
  const { columns, cut } = person;
  const credits = await sql<{ key: Uint8Array }>`
    select c.key from wallet_credits c where c.id in (
      select p.entry_id from ledger_postings p where p.account_id = any (${wallets}::bigint[]))
    order by c.key for update`.execute(tx);
  for (const { key } of credits.rows) {
    const bound = Buffer.concat([Buffer.from('wallet_credits.reason\0'), bytes(key)]);
    // `asked` is a digest of the number too. Another one: the same request again is refused, never credited twice.
    await tx
      .updateTable('wallet_credits')
      .set({ asked: randomBytes(16), reason: columns.seal(Buffer.alloc(0), bound) })
      .where('key', '=', key)
      .execute();
  }
  await sql`update ledger_accounts set owner = ${random} where id = any (${wallets}::bigint[])`.execute(tx);
  add(cut, 'wallets', wallets.length);
  add(cut, 'credits', credits.rows.length);
}

/** Returns the calls that have nobody left. A call that others are part of goes on without this phone. */
async function removeMessages(tx: Db, { phone, removed }: Person): Promise<string[]> {
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
async function removeTasks(tx: Db, { phone, removed, elsewhere }: Person): Promise<string[]> {
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

const BY_PHONE = {
  sms_reports: ['phone', 'reports on messages'],
  sms_incoming: ['phone', 'incoming messages'],
  sms_opt_outs: ['phone', 'opt-outs'],
  sms_subscriptions: ['phone', 'subscriptions'],
  subscribers: ['phone', 'languages'],
  ussd_notices: ['phone', 'notices of sessions'],
  airtime_reports: ['recipient', 'reports on airtime'],
} as const;

async function removeByPhone(tx: Db, { phone, removed }: Person): Promise<void> {
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
async function removeAccounts(tx: Db, { phone, removed, cut }: Person): Promise<Buffer[]> {
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

/**
 * All dials that this phone opened, found through the index on openings, day by day so that the partitions of all
 * others are not looked at. Turns are never locked by anybody: this waits for nobody. A dial of somebody else under
 * the same session id stays.
 */
async function removeTurns(tx: Db, person: Person) {
  const { rows: opened } = await sql<{ session_key: Uint8Array; day: string; dial: number }>`
    select session_key, day::text as day, dial from turns where phone = ${person.phone} and hop = 0`.execute(
    tx,
  );
  const box = new Box(person.ring, 'turns');
  const dials = new Map<string, Dial>();
  const [typed, partitions] = [new Set(['']), new Set<string>()];
  let count = 0;
  for (const [day, all] of byDay(opened)) {
    for (let at = 0; at < all.length; at += PAGE) {
      const some = all.slice(at, at + PAGE);
      const { rows } = await sql<Gone>`
        delete from turns t using unnest(
          ${some.map(({ session_key }) => bytes(session_key))}::bytea[], ${some.map(({ dial }) => dial)}::int[]) d(session_key, dial)
        where t.session_key = d.session_key and t.day = ${day}::date and t.dial = d.dial
        returning t.session_key, t.dial, t.address, t.sealed, t.tableoid::regclass::text as partition,
          t.at > clock_timestamp() - ${LONGEST_TTL}::interval as live`.execute(tx);
      for (const row of rows) {
        const [session_key, address] = [bytes(row.session_key), bytes(row.address)];
        const bound = rowKey(session_key, { day, dial: row.dial }, address);
        partitions.add(row.partition);
        const id = `${session_key.toString('hex')} ${day} ${row.dial}`;
        const dial = dials.get(id) ?? { session_key, day, dial: row.dial, isLive: false, shown: [] };
        dial.isLive ||= row.live;
        dial.shown.push(...namesOf(person, dial, address));
        dials.set(id, dial);
        const customerId = typedIn(box, row.sealed, bound, day);
        if (customerId !== undefined) typed.add(customerId);
      }
      count += rows.length;
    }
  }
  add(person.removed, 'sessions', dials.size);
  add(person.removed, 'turns', count);
  return { dials: [...dials.values()], typed, partitions };
}

/** What effects call a turn by: its identity, or its address where it was the first of its dial. */
function namesOf({ digests }: Pick<Person, 'digests'>, dial: Omit<Dial, 'shown'>, address: Buffer): Buffer[] {
  return [digests.identity(rowKey(dial.session_key, dial, address)), address];
}

type Gone = {
  session_key: Uint8Array;
  dial: number;
  address: Uint8Array;
  sealed: Uint8Array;
  partition: string;
  live: boolean;
};

function byDay<T extends { day: string }>(rows: T[]): Map<string, T[]> {
  return Map.groupBy(rows, ({ day }) => day);
}

/** The Customer ID that was typed before this turn: a wrong one is counted too, under a digest of it and the phone. */
function typedIn(box: Box, sealed: Uint8Array, bound: Buffer, day: string): string | undefined {
  try {
    return unpackState(box.open(sealed, bound, day)).state.vars.customerId;
  } catch {
    // Its key has left the ring, or a newer version wrote it. What is counted so is forgotten after three days.
    return undefined;
  }
}

/** As `judge` names what is counted of IDs that are nobody's. */
function nobodies({ digests, msisdn }: Person, typed: ReadonlySet<string>): Buffer[] {
  return [...typed].map((id) => digests.customer(`nobody\0${id}\0${msisdn}`));
}

/** In the order in which a try holds them. */
async function removeCounters(tx: Db, { phone, removed }: Person, customers: Buffer[]): Promise<void> {
  const keys = [phone, ...customers];
  await sql`select key from pin_counters where key = any (${keys}::bytea[]) order by key for update`.execute(
    tx,
  );
  const { numAffectedRows } = await sql`
    delete from pin_counters where key = any (${keys}::bytea[])`.execute(tx);
  add(removed, 'counts of PINs', Number(numAffectedRows ?? 0));
}

/** What is keyed by a turn: tries at PINs begin with its row's key, effects name the turn that was answered. */
async function removeTraces(tx: Db, { removed }: Pick<Person, 'removed'>, dials: Dial[]): Promise<void> {
  const shown = dials.flatMap((dial) => dial.shown);
  for (let at = 0; at < dials.length; at += PAGE) {
    const prefixes = dials
      .slice(at, at + PAGE)
      .map(({ session_key, day, dial }) => rowKey(session_key, { day, dial }, Buffer.alloc(0)));
    const { numAffectedRows } = await sql`
      delete from pin_attempts a using unnest(${prefixes}::bytea[]) p(prefix)
      where a.turn > p.prefix and a.turn <= p.prefix || ${Buffer.alloc(16, 0xff)}::bytea`.execute(tx);
    add(removed, 'tries at PINs', Number(numAffectedRows ?? 0));
  }
  for (let at = 0; at < shown.length; at += PAGE) {
    const { numAffectedRows } = await sql`
      delete from effects where shown = any (${shown.slice(at, at + PAGE)}::bytea[])`.execute(tx);
    add(removed, 'effects', Number(numAffectedRows ?? 0));
  }
}

async function removeOutbox(tx: Db, { removed }: Person, ids: string[]): Promise<void> {
  const { numAffectedRows } = await sql`delete from outbox where id = any (${ids}::uuid[])`.execute(tx);
  add(removed, 'deliveries', Number(numAffectedRows ?? 0));
}

/**
 * The queue's own jobs, which hold ids and nothing else. Those that it holds at this moment are passed over: it takes
 * several in an order of its own. A job whose row is gone ends by itself, and the queue deletes it within the hour.
 */
async function removeJobs(db: Db, ids: string[]): Promise<void> {
  const { rows } = await sql<{
    there: boolean;
  }>`select to_regclass('pgboss.job') is not null as there`.execute(db);
  if (rows[0]?.there !== true || ids.length === 0) return;
  await sql`
    delete from pgboss.job j using (
      select name, id from pgboss.job where data ->> 'id' = any (${ids}::text[]) for update skip locked) gone
    where j.name = gone.name and j.id = gone.id`.execute(db);
}

/**
 * A turn that was looked up before its dial was removed is written behind it, and found by nothing any more: so its
 * dial is looked at once more when that cannot happen any longer. What has been opened anew there is left alone.
 * True where somebody goes on and on.
 */
async function sweep(
  db: Db,
  person: Person,
  dials: Dial[],
  pause: NonNullable<Erasing['pause']>,
): Promise<boolean> {
  const live = dials.filter(({ isLive }) => isLive);
  for (let look = 1; live.length > 0; look += 1) {
    await pause(UNDER_WAY_MS);
    const found = await removeOrphans(db, person, live);
    await removeTraces(db, person, await withoutOpening(db, live));
    if (found === 0) break;
    if (look === LOOKS) return true;
  }
  return false;
}

const HAS_OPENING = sql<boolean>`exists (select 1 from turns o
  where o.session_key = d.session_key and o.day = d.day and o.dial = d.dial and o.hop = 0)`;

async function removeOrphans(db: Db, person: Person, dials: Dial[]): Promise<number> {
  const { rows } = await sql<{ n: number; address: Uint8Array }>`
    delete from turns t using ${listed(dials)}
    where t.session_key = d.session_key and t.day = d.day and t.dial = d.dial and not ${HAS_OPENING}
    returning d.n::int as n, t.address`.execute(db);
  for (const { n, address } of rows) {
    const dial = dials[n - 1];
    dial?.shown.push(...namesOf(person, dial, bytes(address)));
  }
  add(person.removed, 'turns', rows.length);
  return rows.length;
}

async function withoutOpening(db: Db, dials: Dial[]): Promise<Dial[]> {
  const { rows } = await sql<{ n: number }>`
    select d.n::int as n from ${listed(dials)} where not ${HAS_OPENING}`.execute(db);
  return rows.flatMap(({ n }) => dials[n - 1] ?? []);
}

function listed(dials: Dial[]) {
  return sql`unnest(${dials.map(({ session_key }) => session_key)}::bytea[], ${dials.map(({ day }) => day)}::date[],
    ${dials.map(({ dial }) => dial)}::int[]) with ordinality d(session_key, day, dial, n)`;
}

/** All tables but the partitions of turns. */
const TOUCHED = [
  'messages',
  'sms_calls',
  'sms_requests',
  ...Object.keys(BY_PHONE),
  'account_phones',
  'accounts',
  'link_codes',
  'pin_attempts',
  'pin_counters',
  'effects',
  'tasks',
  'task_events',
  'outbox',
  'airtime_orders',
  'stock_orders',
  'ledger_accounts',
  'wallet_credits',
  'lookups',
];

/**
 * Takes the dead rows out of the files, and their values out of the planner's statistics. What cannot be done now
 * (somebody reads an old snapshot, the table is large) the server does by itself; returns those tables.
 */
async function vacuum(db: Db, tables: string[]): Promise<string[]> {
  const left: string[] = [];
  for (const table of tables) {
    await sql`vacuum (analyze) ${sql.table(table)}`.execute(db).catch(() => left.push(table));
  }
  return left;
}

function add(count: Count, kind: string, more: number): void {
  if (more > 0) count[kind] = (count[kind] ?? 0) + more;
}
