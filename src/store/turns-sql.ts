import { FORGOTTEN_MS, Outcome } from '../flow/dial.ts';

/**
 * A look-up is for openings and parents alike, so a turn whose process slept in between must not be
 * written on what was true then; longer than any deadline, so that no request in time is refused.
 */
const FRESH_SECONDS = 10;

const TODAY = `(now() at time zone 'utc')::date`;

const CLOCK = `${TODAY}::text as today, extract(epoch from clock_timestamp())::float8 as asked`;

/** The newest dial of one session. Both bounds on \`day\` matter: partitions are pruned by them. */
const NEWEST_DIAL = (key: string) => `
  select t.day, t.dial, min(t.at) as opened,
    max(t.at) filter (where t.outcome < ${Outcome.expired}) as last_at,
    max(t.at) filter (where t.ended and t.outcome < ${Outcome.expired}) as ended_at,
    bool_or(t.outcome = ${Outcome.closed}) as closed
  from turns t
  where t.session_key = ${key} and t.day between ${TODAY} - 1 and ${TODAY}
  group by t.day, t.dial order by t.day desc, t.dial desc limit 1`;

const DIAL_COLUMNS = `d.day::text as day, d.dial, d.closed,
  extract(epoch from clock_timestamp() - d.opened)::float8 * 1000 as age_ms,
  extract(epoch from clock_timestamp() - d.last_at)::float8 * 1000 as idle_ms,
  extract(epoch from clock_timestamp() - d.ended_at)::float8 * 1000 as since_end_ms`;

/** In seconds since 1970: the same number for the same row, whoever reads it. */
const EPOCH = (at: string) => `extract(epoch from ${at})::float8`;

const TURN_COLUMNS = (t: string) => `${t}.address, ${t}.hop, ${t}.phone, ${t}.service, ${t}.menu, ${t}.sealed,
  ${t}.ended as turn_ended, ${t}.outcome as turn_outcome, ${t}.at as turn_at,
  ${EPOCH(`${t}.at`)} as turn_epoch`;

/**
 * One look-up for a whole batch (decision 18). The candidate addresses of a request travel as one
 * value, 16 bytes each, so that a batch costs the sum of its candidates and not their square. What an opening wants to
 * know besides, the language that the caller chose last, comes with it: asked for by itself it cost as much again.
 */
export const LOOK_UP = `
  select r.i, ${CLOCK}, s.language, ${DIAL_COLUMNS}, p.*, p.turn_at = d.last_at as untouched,
    extract(epoch from clock_timestamp() - p.turn_at)::float8 * 1000 as turn_age_ms
  from unnest($1::int[], $2::bytea[], $3::bytea[], $4::bytea[]) r(i, session_key, addresses, caller)
  left join subscribers s on s.phone = r.caller
  left join lateral (${NEWEST_DIAL('r.session_key')}) d on true
  left join lateral (
    select n.n as rank, ${TURN_COLUMNS('t')}
    from generate_series(1, length(r.addresses) / 16) n(n)
    join turns t on t.session_key = r.session_key and t.day = d.day and t.dial = d.dial
      and t.address = substr(r.addresses, n.n * 16 - 15, 16)
    order by n.n desc limit 1) p on true`;

/** For gateways that send the newest input only: the newest turn, and every address of its dial. */
export const NEWEST = `
  select ${CLOCK}, s.language, ${DIAL_COLUMNS}, p.*, p.hop = 0 or p.turn_at = d.opened as untouched, a.addresses,
    extract(epoch from clock_timestamp() - p.turn_at)::float8 * 1000 as turn_age_ms
  from (select 1) one
  left join subscribers s on s.phone = $2
  left join lateral (${NEWEST_DIAL('$1::bytea')}) d on true
  left join lateral (
    select ${TURN_COLUMNS('t')} from turns t
    where t.session_key = $1 and t.day = d.day and t.dial = d.dial and t.outcome < ${Outcome.expired}
    order by t.at desc, t.hop desc limit 1) p on true
  left join lateral (
    select array_agg(t.address order by t.hop, t.at) as addresses from turns t
    where t.session_key = $1 and t.day = d.day and t.dial = d.dial) a on true`;

const ONE = `
  select ${TURN_COLUMNS('t')}, extract(epoch from clock_timestamp() - t.at)::float8 * 1000 as turn_age_ms
  from turns t where t.session_key = $1 and t.day = $2::date and t.dial = $3`;

export const READ = `${ONE} and t.address = $4`;

export const THE_END = `${ONE} and t.ended and t.outcome < ${Outcome.expired} order by t.at limit 1`;

/**
 * The newest dial of a session where this phone opened it, no later than \`date\`: by whole seconds, which is all
 * that a notice has.
 */
export const DIAL_AT = `
  select ${CLOCK}, d.day::text as day, d.dial, d.ended_at is not null or d.closed as over,
    o.menu, o.service, (select max(t.hop) from turns t
      where t.session_key = $1 and t.day = d.day and t.dial = d.dial) as hop
  from (${NEWEST_DIAL('$1::bytea')}) d
  join lateral (
    select t.phone, t.menu, t.service from turns t
    where t.session_key = $1 and t.day = d.day and t.dial = d.dial and t.hop = 0 limit 1) o on o.phone = $2
  where date_trunc('second', d.opened) <= $3::timestamptz`;

/** Whether a dial has ended by another turn than these. */
export const ENDED_BY_ANOTHER = `
  select 1 from turns t where t.session_key = $1 and t.day = $2::date and t.dial = $3
    and t.ended and t.outcome < ${Outcome.expired} and not (t.address = any($4::bytea[])) limit 1`;

/** The newest dial of a phone on a service: what the index on openings is for. */
export const LAST_DIAL = `
  select ${TURN_COLUMNS('t')}, t.session_key, t.day::text as day, t.dial,
    extract(epoch from clock_timestamp() - t.at)::float8 * 1000 as turn_age_ms
  from (
    select o.session_key, o.day, o.dial from turns o
    where o.phone = $1 and o.service = $2 and o.hop = 0 and o.day between ${TODAY} - 1 and ${TODAY}
    order by o.at desc limit 1) d
  join turns t on t.session_key = d.session_key and t.day = d.day and t.dial = d.dial
  order by t.at, t.hop`;

/**
 * Of a turn whose parent was recalled and not looked up, all that \`decide\` would have been told (decision 22):
 * the session's newest dial is still this one, opened within a day, not idle for too long, neither ended nor closed;
 * and the parent is there, the very row that is remembered.
 */
const STILL_GOES_ON = `
  exists (
    select from turns t, lateral (select (t.day, t.dial) = (r.day, r.dial) as own) dial
    where t.session_key = r.session_key and t.day between ${TODAY} - 1 and ${TODAY}
    having bool_and((t.day, t.dial) <= (r.day, r.dial))
      and bool_or(own and t.address = r.parent and ${EPOCH('t.at')} = r.parent_at)
      and min(t.at) filter (where own) >= (select clock_timestamp()) - ${FORGOTTEN_MS} * interval '1 ms'
      and max(t.at) filter (where own and t.outcome < ${Outcome.expired})
        >= (select clock_timestamp()) - $17::float8 * interval '1 ms'
      and not bool_or(own and (t.ended and t.outcome < ${Outcome.expired} or t.outcome = ${Outcome.closed})))`;

/**
 * Of an opening that was not looked up, all that the look-up would have said (decision 22): it is this day, and not near
 * midnight; the session has no dial; and the caller has chosen no language.
 */
const OPENS = `
  r.day = (select ${TODAY})
  and (select abs(extract(epoch from (clock_timestamp() at time zone 'utc')::time)::float8 - 43200) < 43200 - $18::float8)
  and (select 1 from turns t
    where t.session_key = r.session_key and t.day between ${TODAY} - 1 and ${TODAY} limit 1) is null
  and (select 1 from subscribers s where s.phone = r.phone) is null`;

/**
 * One insert for a whole batch, keys in order so that two batches cannot deadlock. `at` is one reading
 * of the clock, so that the rows of an opening are equally old. A row that is not written exists
 * already, or was asked for too long ago, or follows a parent that was recalled and is not to be followed any more, or
 * opens a dial that was not looked up and is not to be opened like that.
 *
 * One row comes back for all of them: how many were written and when, and, where not all were, the keys of those that
 * were (`keyOf` in src/store/turn-columns.ts), with commas between them.
 */
const INSERT = (conflict: string) => `
  with written as (
    insert into turns
      (session_key, day, dial, address, hop, at, ended, outcome, node, menu, network, phone, service, sealed)
    select r.session_key, r.day, r.dial, r.address, r.hop, (select clock_timestamp()),
      r.ended, r.outcome, r.node, r.menu, r.network, r.phone, r.service, r.sealed
    from unnest($1::bytea[], $2::date[], $3::int[], $4::bytea[], $5::smallint[], $6::boolean[], $7::smallint[],
      $8::smallint[], $9::int[], $10::int[], $11::bytea[], $12::text[], $13::bytea[], $14::float8[], $15::bytea[],
      $16::float8[], $19::boolean[])
      r(session_key, day, dial, address, hop, ended, outcome, node, menu, network, phone, service, sealed, asked, parent,
        parent_at, opens)
    where r.asked > extract(epoch from (select clock_timestamp()))::float8 - ${FRESH_SECONDS}
      and (r.parent is null or ${STILL_GOES_ON})
      and (not r.opens or ${OPENS})
    order by r.session_key, r.dial, r.address
    ${conflict} returning session_key, day, dial, address, at)
  select c.written, ${EPOCH('c.at')} as epoch,
    case when c.written < cardinality($3::int[]) then (
      select string_agg(concat_ws(' ', encode(w.session_key, 'hex'), w.day, w.dial, encode(w.address, 'hex')), ',')
      from written w) end as keys
  from (select count(*)::int as written, min(at) as at from written) c`;

export const INSERT_MANY = INSERT('on conflict (session_key, day, dial, address) do nothing');
/** A walk is all or nothing: the first row that exists undoes the statement. */
export const INSERT_ALL = INSERT('');
