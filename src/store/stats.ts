import type { Row, Sql } from '../db/sql.ts';
import { NODES, STANDING, TAKEN } from './standing.ts';

/** What became of dials: of those that reached a node, or of all. */
export type Counts = {
  reached: number;
  /** The service said END here. */
  ended: number;
  /** It said so after too many invalid answers. */
  gaveUp: number;
  /** It was the last that the caller saw: idle for longer than the time to live, or closed by a notice. */
  left: number;
  /** Gone on with in a later dial. */
  continued: number;
  open: number;
};

/** By the name of the node; `dials` is all of them. */
export type Funnel = { dials: Counts; nodes: Map<string, Counts> };

const HERE = (standing: string) =>
  `count(*) filter (where standing in (${standing}) and c.place in (last, 0))::int`;

/**
 * Each dial once, with the names of the nodes that it came to, and one more for all dials; of one UTC day, `$4`, which
 * is that of the opening. What was opened before `$2` has no opening here and is left out, so that the index on time
 * helps. Names come from the document of each turn, because a resumed session goes on with the older one. The newest
 * turn is the largest of arrays, and names are made distinct behind the group: ordered and distinct inside of it, a
 * day took half as long again.
 */
const FUNNEL = `
  with nodes as materialized (${NODES}),
  places as materialized (
    select n.menu, n.node, n.name, dense_rank() over (order by n.name)::float8 as place from nodes n),
  dials as (
    select ${STANDING('t', '$5')} as standing,
      array_agg(n.place) filter (where ${TAKEN('t')}) as places,
      (max(array[extract(epoch from t.at)::float8, t.hop, n.place]) filter (where ${TAKEN('t')}))[3] as last
    from turns t left join places n on n.menu = t.menu and n.node = t.node
    where t.service = $1 and t.day = $4::date and t.at >= $2::timestamptz
    group by t.session_key, t.day, t.dial
    having bool_or(t.hop = 0) and min(t.at) < $3::timestamptz),
  counted as (
    select c.place, count(*)::int as reached, ${HERE(`'ended'`)} as ended, ${HERE(`'gave_up'`)} as gave_up,
      ${HERE(`'left', 'closed'`)} as left_here, ${HERE(`'continued'`)} as continued, ${HERE(`'open'`)} as still_open
    from dials, lateral (select distinct place from unnest(array_append(places, 0)) one(place)) c
    where c.place is not null
    group by 1)
  select coalesce(n.name, '') as name, c.*
  from counted c left join (select distinct name, place from places) n on n.place = c.place`;

const DAY_MS = 86_400_000;

/**
 * How far the dials of a service came that were opened between two times; `ttl` is in milliseconds. A day at a time:
 * the server ends each statement after 3 s, as every other one.
 */
export async function funnelOf(
  sql: Sql,
  { service, from, until, ttl }: { service: string; from: Date; until: Date; ttl: number },
): Promise<Funnel> {
  const nodes = new Map<string, Counts>();
  const [first, last] = [from, until].map((time) => Math.floor(time.getTime() / DAY_MS)) as [number, number];
  for (let day = first; day <= last; day += 1) {
    const rows = await sql('stats_funnel', FUNNEL, [
      service,
      from.toISOString(),
      until.toISOString(),
      new Date(day * DAY_MS).toISOString().slice(0, 10),
      ttl,
    ]);
    for (const row of rows) {
      const name = row.name as string;
      nodes.set(name, sum(nodes.get(name) ?? NOBODY, countsIn(row)));
    }
  }
  const dials = nodes.get('') ?? NOBODY;
  nodes.delete('');
  return { dials, nodes };
}

export const NOBODY: Counts = { reached: 0, ended: 0, gaveUp: 0, left: 0, continued: 0, open: 0 };

function countsIn(row: Row): Counts {
  return {
    reached: row.reached as number,
    ended: row.ended as number,
    gaveUp: row.gave_up as number,
    left: row.left_here as number,
    continued: row.continued as number,
    open: row.still_open as number,
  };
}

function sum(one: Counts, other: Counts): Counts {
  return {
    reached: one.reached + other.reached,
    ended: one.ended + other.ended,
    gaveUp: one.gaveUp + other.gaveUp,
    left: one.left + other.left,
    continued: one.continued + other.continued,
    open: one.open + other.open,
  };
}
