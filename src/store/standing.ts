import { bytes } from '../db/sql.ts';
import { Outcome } from '../flow/dial.ts';
import { Reserved } from './turn-rows.ts';

/** How a dial stands: what operators count, list and look up by. */
export type Standing = 'ended' | 'gave_up' | 'continued' | 'closed' | 'left' | 'open';

const CLAIM = `'\\x${Reserved.claim.toString('hex')}'::bytea`;

/** The turns of a caller, without what only says something of the dial. */
export const TAKEN = (t: string) => `${t}.outcome < ${Outcome.expired}`;

/**
 * How the dial of a group of turns `t` stands. `ended`: the service said END; `gave_up`: after too many invalid
 * answers; `continued`: in a later dial; `closed`: by a notice, without an END; `left`: idle for longer than `ttl`
 * milliseconds.
 */
export const STANDING = (t: string, ttl: string) => `case
  when bool_or(${t}.ended and ${t}.outcome = ${Outcome.gaveUp}) then 'gave_up'
  when bool_or(${t}.ended and ${TAKEN(t)}) then 'ended'
  when bool_or(${t}.address = ${CLAIM}) then 'continued'
  when bool_or(${t}.outcome = ${Outcome.closed}) then 'closed'
  when max(${t}.at) filter (where ${TAKEN(t)}) < clock_timestamp() - ${ttl}::float8 * interval '1 ms' then 'left'
  else 'open' end`;

/** SQL: whether a version of a service is private, so that its name says something of its callers. */
export const PRIVATE_DOCUMENT = `coalesce((m.document ->> 'private')::boolean, false)`;

/** The names of the nodes that turns count, by version; of private versions none. `$1` is the service, null for all. */
export const NODES = `
  select m.id as menu, k.name, k.n::int - 1 as node
  from menus m, json_object_keys(m.document -> 'nodes') with ordinality k(name, n)
  where ($1::text is null or m.service = $1) and not ${PRIVATE_DOCUMENT}`;

/** A time as ISO 8601, in milliseconds. */
export const ISO = (time: string) => `to_char(${time} at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`;

/** A name for a keyed digest: enough of it to tell rows apart, and nothing that is found by it. */
export function nameOf(kind: 's' | 'p', digest: unknown): string {
  return `${kind}_${bytes(digest).toString('hex').slice(0, 16)}`;
}
