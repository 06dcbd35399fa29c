import type { Row, Sql } from '../db/sql.ts';
import { Outcome } from '../flow/dial.ts';
import { ISO, nameOf, PRIVATE_DOCUMENT, STANDING, type Standing, TAKEN } from './standing.ts';

/** Whether both sides know of a session, and say the same of it. */
export type Reconciled = 'both' | 'ours_only' | 'theirs_only' | 'hops_differ';

/** One session of a day, by what we and what the aggregator kept of it; null where that side does not say. */
export type SessionRecord = {
  day: string;
  dial: number | null;
  session: string;
  phone: string | null;
  service: string | null;
  network: number | null;
  began: string | null;
  last: string | null;
  hops: number | null;
  outcome: Standing | null;
  ended: string | null;
  theirStatus: string | null;
  theirEnd: string | null;
  theirHops: number | null;
  theirMs: number | null;
  cost: string | null;
  currency: string | null;
  reconciled: Reconciled;
};

/** Dials or notices of one statement: memory stays flat, and a statement short. */
const PAGE = 500;

/** Of one dial; also what has each page look its notices up by phone, instead of sorting those of all days. */
const MOST_NOTICES = 20;

/** Stands for a private service; its phones are not given at all. */
const PRIVATE = 'private';

const THEIRS = `n.status, ${ISO('n.ended_at')} as their_end, n.hops as their_hops, n.duration_ms,
  n.cost::text as cost, n.currency`;

/**
 * One page of a day's dials in the order of their keys, which is that of the primary key. A hop is a request that we
 * answered: the rows of a walk are one, because they are equally old.
 */
const OURS = `
  select d.session_key, d.dial, d.phone, d.service, coalesce(d.network, n.network) as network, d.hops, d.standing, ${ISO('d.began')} as began,
    ${ISO('d.last')} as last, ${ISO('d.ended')} as ended, d.menus && $5::int[] as hidden, ${THEIRS}
  from (
    select t.session_key, t.day, t.dial, min(t.at) as began, max(t.at) filter (where ${TAKEN('t')}) as last,
      min(t.at) filter (where t.ended and ${TAKEN('t')}) as ended, array_agg(distinct t.menu) as menus,
      count(distinct t.at) filter (where t.outcome <> ${Outcome.closed})::int as hops,
      (array_agg(t.phone order by t.hop))[1] as phone, (array_agg(t.service order by t.hop))[1] as service,
      max(t.network) as network, ${STANDING('t', '$6')} as standing
    from turns t where t.day = $1::date and (t.session_key, t.day, t.dial) > ($2::bytea, $1::date, $3::int)
    group by t.session_key, t.day, t.dial order by t.session_key, t.day, t.dial limit $4) d
  left join lateral (
    select n.* from ussd_notices n
    where n.phone = d.phone and n.session_key = d.session_key and n.day = d.day and n.dial = d.dial
    order by n.id limit ${MOST_NOTICES}) n on true
  order by d.session_key, d.dial, n.id`;

const UNMATCHED = `n.dial is null and n.ended_at >= $1::date::timestamp at time zone 'utc'
  and n.ended_at < ($1::date + 1)::timestamp at time zone 'utc'`;

/** The notices of a day that are of no dial of ours: between which ids they are, by the index on their time. */
const THEIR_IDS = `
  select (min(n.id) - 1)::text as before, max(n.id)::text as last from ussd_notices n where ${UNMATCHED}`;

const THEIR_PAGE = `
  select n.id::text as id, n.session_key, n.phone, n.network, ${THEIRS}
  from ussd_notices n
  where n.id > $2::bigint and n.id <= $3::bigint and ${UNMATCHED}
  order by n.id limit $4`;

const PRIVATE_MENUS = `select m.id from menus m where ${PRIVATE_DOCUMENT}`;

/**
 * Every session of a UTC day, a page at a time: first the dials that were opened on it, by their keys, then notices
 * that ended on it and are of no dial of ours. A dial of which there are several notices has a record for each.
 * `ttl` is in milliseconds.
 */
export async function* recordsOf(sql: Sql, day: string, ttl: number): AsyncGenerator<SessionRecord[]> {
  const hidden = (await sql('records_private', PRIVATE_MENUS, [])).map(({ id }) => id);
  let [key, dial]: [unknown, unknown] = [Buffer.alloc(0), 0];
  for (;;) {
    const rows = await sql('records_ours', OURS, [day, key, dial, PAGE, hidden, ttl]);
    yield rows.map((row) => ours(row, day));
    const last = rows.at(-1);
    if (last === undefined) break;
    [key, dial] = [last.session_key, last.dial];
  }
  const [ids] = await sql('records_their_ids', THEIR_IDS, [day]);
  if (ids === undefined || ids.last === null) return;
  let after = ids.before;
  for (;;) {
    const rows = await sql('records_theirs', THEIR_PAGE, [day, after, ids.last, PAGE]);
    yield rows.map((row) => theirs(row, day));
    after = rows.at(-1)?.id;
    if (after === undefined) break;
  }
}

function ours(row: Row, day: string): SessionRecord {
  const { hops, their_hops: their } = row;
  const noticed = row.status !== null;
  const differ = noticed && their !== null && their !== hops;
  const isHidden = row.hidden === true;
  return {
    ...known(row, day),
    dial: row.dial as number,
    phone: isHidden ? null : nameOf('p', row.phone),
    service: isHidden ? PRIVATE : (row.service as string),
    began: row.began as string,
    last: row.last as string | null,
    hops: hops as number,
    outcome: row.standing as Standing,
    ended: row.ended as string | null,
    reconciled: differ ? 'hops_differ' : noticed ? 'both' : 'ours_only',
  };
}

/** Of what was dialled nothing is said: it may have been private. */
function theirs(row: Row, day: string): SessionRecord {
  const nothing = {
    dial: null,
    service: null,
    began: null,
    last: null,
    hops: null,
    outcome: null,
    ended: null,
  };
  return { ...known(row, day), ...nothing, phone: nameOf('p', row.phone), reconciled: 'theirs_only' };
}

function known(row: Row, day: string) {
  return {
    day,
    session: nameOf('s', row.session_key),
    network: row.network as number | null,
    theirStatus: row.status as string | null,
    theirEnd: row.their_end as string | null,
    theirHops: row.their_hops as number | null,
    theirMs: row.duration_ms as number | null,
    cost: row.cost as string | null,
    currency: row.currency as string | null,
  };
}
