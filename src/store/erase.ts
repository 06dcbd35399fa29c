import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'kysely';
import { type Db, lockDigest } from '../db/db.ts';
import { SqlState, sqlState } from '../db/sql.ts';
import { SealError } from '../seal/box.ts';
import { type AirtimeOrder, cutOrders, cutStockOrders, cutWallets, type StockOrder } from './erase-orders.ts';
import {
  BY_PHONE,
  nobodies,
  removeAccounts,
  removeByPhone,
  removeCounters,
  removeJobs,
  removeMessages,
  removeOutbox,
  removeTasks,
} from './erase-own.ts';
import { add, ChangedMeanwhile, type Person } from './erase-person.ts';
import { removeTraces, removeTurns, sweep } from './erase-turns.ts';
import { cutLookups } from './lookups.ts';

/** Two of one phone, one behind the other. */
const ERASE_LOCK = 7_020;

/**
 * No lock is waited for longer than this, in milliseconds: then everything is given back and begun again. Postgres
 * looks for deadlocks after a second (`deadlock_timeout`), so one that this is part of costs nobody else a transaction,
 * whatever order others take their locks in, unless they had waited for most of that second before. The order is kept
 * all the same, the outbox before the order before the wallet, so that it rarely comes to this.
 */
const LOCK_MS = 200;
/** Beginnings before it is given up, and the longest pause between two of them, in milliseconds. */
const TRIES = 60;
const PAUSE_MS = 250;

/** A report that tells how an order went is waited for so long (decision 32). */
const REPORT_HOURS = 24;
/** Reports nothing, ever. */
const SIMULATOR = 'simulator';

/** Something of the phone's is under way: nothing was changed. What is said is for a person. */
export class EraseRefused extends Error {
  readonly code = 'erase_refused';
}

/** What a person is found and cut out with. */
export type Erasing = Pick<Person, 'digests' | 'columns' | 'ring'> & {
  /** Waits until nothing that was under way can be written any more. */
  pause?(milliseconds: number): Promise<unknown>;
  /** Told what is `elsewhere`, where there is any, as soon as the rows that say so are gone. */
  left?(elsewhere: string[]): void;
};

/** What was found, by kind: removed, or cut from what stays. */
export type Erased = {
  removed: Record<string, number>;
  cut: Record<string, number>;
  /** Open tasks that a task router has, or may have: by its id, or by our reference. They are to be deleted there. */
  elsewhere: string[];
  /** A session that was open goes on: it is answered as a first dial. */
  stillTyping: boolean;
  /** Tables whose dead rows the server is to take away when it comes to it. */
  unswept: string[];
};

/**
 * Removes a person (decision 34): what is theirs alone goes, what others need stays without them. One transaction,
 * beside the running service; a delivery that is under way finds its row gone and ends. Then, outside of it, what a
 * turn wrote that had been looked up before, and the dead rows. Safe to run twice. Throws `EraseRefused` where money
 * is under way, or the key of something that is to be cut has left the ring.
 */
export async function erase(db: Db, erasing: Erasing, msisdn: string): Promise<Erased> {
  const { pause = sleep, left, ...parts } = erasing;
  const phone = parts.digests.phone(msisdn);
  const { person, dials, gone, partitions } = await patiently(async () => {
    const person: Person = { ...parts, msisdn, phone, removed: {}, cut: {}, elsewhere: [] };
    return db.transaction().execute(async (tx) => ({ person, ...(await eraseIn(tx, person)) }));
  });
  if (person.elsewhere.length > 0) left?.(person.elsewhere);
  await removeJobs(db, gone);
  const stillTyping = await sweep(db, person, dials, pause);
  const unswept = await vacuum(db, [...TOUCHED, ...partitions]);
  const { removed, cut, elsewhere } = person;
  return { removed, cut, elsewhere, stillTyping, unswept };
}

/** Begins again where a lock was not free, or another transaction added to or changed what was being removed. */
async function patiently<T>(run: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await run();
    } catch (error) {
      if (error instanceof SealError) throw new EraseRefused(KEY_MISSING);
      const state = sqlState(error);
      const isRaced = state === SqlState.lockNotAvailable || error instanceof ChangedMeanwhile;
      if (!isRaced && state !== FOREIGN_KEY) throw error;
      // Rows are added again and again, or there is a table that this does not know of.
      if (attempt === TRIES && state === FOREIGN_KEY) throw error;
      if (attempt === TRIES) throw new EraseRefused('this phone is busy: say it again in a minute');
      await sleep(Math.min(PAUSE_MS, 20 * attempt));
    }
  }
}

/** What is to be cut has to be read first. */
const KEY_MISSING =
  'an order of this phone, or what somebody was told who bought for it, is sealed under a key that PIN_ENCRYPTION_KEY has no more: put that key back, behind the others';

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
  // Purchases lock the wallet first: from here on none can begin.
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
  // Of orders too: what is given up could be tried again, and its subscriber is erased.
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
    // Of a table of somebody else's the server only warns, and does nothing.
    const { rows } = await sql<{ owns: boolean }>`
      select pg_has_role(relowner, 'usage') as owns from pg_class where oid = to_regclass(${table})`.execute(
      db,
    );
    if (rows[0]?.owns === false) left.push(table);
    else await sql`vacuum (analyze) ${sql.table(table)}`.execute(db).catch(() => left.push(table));
  }
  return left;
}
