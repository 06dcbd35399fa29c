import { bytes, type Sql } from '../db/sql.ts';
import { Outcome } from '../flow/dial.ts';
import { type Memory, type Unshown, unpack, unpackState } from '../flow/memory.ts';
import { type Box, SealError } from '../seal/box.ts';
import { type Documents, rowKey } from './turn-rows.ts';

/** A dial as it stands: its first and its newest turn. */
export type Session = {
  opening: Unshown;
  last: Memory;
  /** It is over, whatever the reason. */
  ended: boolean;
  /** It was closed without an END. */
  closed: boolean;
  /** Milliseconds since the newest turn, and when that was: since 1970. */
  age: number;
  at: number;
  /** Of the newest turn. */
  address: Buffer;
  service: string;
  menu: number;
};

const TODAY = `(now() at time zone 'utc')::date`;

/**
 * Dials with a turn within the time to live that have not ended, newest first; of a session id only its
 * newest dial counts. The BRIN index on \`at\` bounds the scan to the newest blocks.
 */
const ACTIVE = (columns: string, tail: string) => `
  with recent as (
    select t.session_key, t.day, t.dial, max(t.at) as last_at, bool_or(t.ended) as ended
    from turns t
    where t.at > now() - $1::float8 * interval '1 ms' and t.day between ${TODAY} - 1 and ${TODAY}
    group by 1, 2, 3),
  newest as (
    select distinct on (session_key) * from recent order by session_key, day desc, dial desc)
  select ${columns} from newest n where not n.ended ${tail}`;

const COUNT_ACTIVE = ACTIVE('count(*)::int as count', '');

const LIST_ACTIVE = `
  select a.session_key, a.day::text as day, a.dial, o.address, o.sealed
  from (${ACTIVE('n.session_key, n.day, n.dial, n.last_at', 'order by n.last_at desc limit $2')}) a
  join lateral (
    select t.address, t.sealed from turns t
    where t.session_key = a.session_key and t.day = a.day and t.dial = a.dial and t.hop = 0 limit 1) o on true
  order by a.last_at desc`;

/** The newest dial of any of the session keys, with its first and its newest turn. */
const SESSION = `
  select d.session_key, d.day::text as day, d.dial, d.ended, d.closed,
    extract(epoch from clock_timestamp() - d.last_at)::float8 * 1000 as age_ms,
    extract(epoch from l.at)::float8 as epoch, l.service, l.menu, f.address as first_address, f.sealed as first_sealed, l.address as last_address, l.sealed as last_sealed
  from (
    select t.session_key, t.day, t.dial, min(t.at) as opened, bool_or(t.ended) as ended,
      bool_or(t.outcome = ${Outcome.closed}) as closed, max(t.at) filter (where t.outcome < ${Outcome.expired}) as last_at
    from turns t
    where t.session_key = any($1::bytea[]) and t.day between ${TODAY} - 1 and ${TODAY}
    group by 1, 2, 3 order by 4 desc, 2 desc, 3 desc limit 1) d
  join lateral (
    select t.address, t.sealed from turns t
    where t.session_key = d.session_key and t.day = d.day and t.dial = d.dial and t.hop = 0 limit 1) f on true
  join lateral (
    select t.address, t.sealed, t.at, t.service, t.menu from turns t
    where t.session_key = d.session_key and t.day = d.day and t.dial = d.dial and t.outcome < ${Outcome.expired}
    order by t.at desc, t.hop desc limit 1) l on true`;

/** What operators ask of the turns; `ttl` is in milliseconds. */
export class Sessions {
  readonly #sql: Sql;
  readonly #box: Box;
  readonly #documents: Pick<Documents, 'pinned'>;

  constructor(sql: Sql, box: Box, documents: Pick<Documents, 'pinned'>) {
    this.#sql = sql;
    this.#box = box;
    this.#documents = documents;
  }

  /** How many sessions are active. */
  async count(ttl: number): Promise<number> {
    const [row] = await this.#sql('sessions_count', COUNT_ACTIVE, [ttl]);
    return (row?.count as number | undefined) ?? 0;
  }

  /** The ids of active sessions, newest first, at most `limit`. */
  async active(ttl: number, limit: number): Promise<string[]> {
    const rows = await this.#sql('sessions_active', LIST_ACTIVE, [ttl, limit]);
    return rows.flatMap((row) => {
      const plain = this.#open(row.session_key, row, row.address, row.sealed);
      const opening = plain && unpackState(plain).opening;
      return opening === undefined ? [] : [opening.sessionId];
    });
  }

  /** The newest dial among these session keys. */
  async newest(sessionKeys: Buffer[]): Promise<Session | undefined> {
    const [row] = await this.#sql('sessions_newest', SESSION, [sessionKeys]);
    if (row === undefined) return undefined;
    const opening = this.#open(row.session_key, row, row.first_address, row.first_sealed);
    const last = this.#open(row.session_key, row, row.last_address, row.last_sealed);
    if (opening === undefined || last === undefined) return undefined;
    const menu = row.menu as number;
    return {
      opening: unpackState(opening),
      last: unpack(last, await this.#documents.pinned(menu)),
      ended: row.ended as boolean,
      closed: row.closed as boolean,
      age: row.age_ms as number,
      at: Math.round((row.epoch as number) * 1000),
      address: bytes(row.last_address),
      service: row.service as string,
      menu,
    };
  }

  /** Undefined where it does not open (its key left the ring, it was changed): it must not hide all the others. */
  #open(
    sessionKey: unknown,
    row: Record<string, unknown>,
    address: unknown,
    sealed: unknown,
  ): Buffer | undefined {
    const dial = { day: row.day as string, dial: row.dial as number };
    const bound = rowKey(bytes(sessionKey), dial, bytes(address));
    try {
      return this.#box.open(bytes(sealed), bound, dial.day);
    } catch (error) {
      if (error instanceof SealError) return undefined;
      throw error;
    }
  }
}
