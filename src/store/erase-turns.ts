/** What was dialled goes: the turns, what is keyed by them, and what comes behind while it goes. */
import { sql } from 'kysely';
import type { Db } from '../db/db.ts';
import { bytes } from '../db/sql.ts';
import { unpackState } from '../flow/memory.ts';
import { Box } from '../seal/box.ts';
import { add, PAGE, type Person } from './erase-person.ts';
import { rowKey } from './turn-rows.ts';

/** No session is open for longer after its last turn (decision 4). */
const LONGEST_TTL = '1 hour';
/** A turn whose look-up is older is not written (turns-sql.ts): a little more than that; in milliseconds. */
const UNDER_WAY_MS = 11_000;
/** A session that somebody goes on typing in is given up on after so many looks. */
const LOOKS = 6;

/** A dial that is removed. `isLive`: its session may be open; `shown`: what effects call its turns by. */
export type Dial = { session_key: Buffer; day: string; dial: number; isLive: boolean; shown: Buffer[] };

/**
 * All dials that this phone opened, found through the index on openings, day by day so that the partitions of all
 * others are not looked at. Turns are never locked by anybody: this waits for nobody. A dial of somebody else under
 * the same session id stays. Returns the dials, the Customer IDs typed in them, and the partitions they were in.
 */
export async function removeTurns(tx: Db, person: Person) {
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

/** What is keyed by a turn: tries at PINs begin with its row's key, effects name the turn that was answered. */
export async function removeTraces(
  tx: Db,
  { removed }: Pick<Person, 'removed'>,
  dials: Dial[],
): Promise<void> {
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

/**
 * A turn that was looked up before its dial was removed is written behind it, and found by nothing any more: so its
 * dial is looked at once more when that cannot happen any longer. What has been opened anew there is left alone.
 * True where somebody goes on and on.
 */
export async function sweep(
  db: Db,
  person: Person,
  dials: Dial[],
  pause: (milliseconds: number) => Promise<unknown>,
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
