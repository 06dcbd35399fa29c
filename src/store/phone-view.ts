import type { Sql } from '../db/sql.ts';
import { ISO, NODES, nameOf, PRIVATE_DOCUMENT, STANDING, type Standing, TAKEN } from './standing.ts';

/** A dial of a phone, as support staff see it. */
export type SeenDial = {
  session: string;
  service: string;
  began: string;
  last: string;
  /** The names of the nodes in the order in which they were shown. */
  nodes: string[];
  outcome: Standing;
  ended: string | null;
};

/** What a dial made happen: where it is. */
export type SeenOrder = {
  kind: 'airtime' | 'shares';
  ref: string;
  state: string;
  orderedAt: string;
  endedAt: string | null;
};
export type SeenText = {
  id: string;
  state: string;
  cause: string;
  createdAt: string;
  endedAt: string | null;
};

/** What is shown of a phone. */
export type PhoneView = { dials: SeenDial[]; orders: SeenOrder[]; messages: SeenText[] };

/** Of each kind, the newest. */
const MOST = 50;

/**
 * The newest dials of a phone: the index on openings (phone, service, at) finds them in each partition. What is private
 * is left out before it is counted.
 */
const DIALS = `
  with nodes as materialized (${NODES}),
  opened as (
    select o.session_key, o.day, o.dial, o.service from turns o
    where o.phone = $2 and o.hop = 0 and not exists (
      select from menus m where m.id = o.menu and ${PRIVATE_DOCUMENT})
    order by o.at desc limit $3)
  select o.session_key, o.service, d.*
  from opened o, lateral (
    select ${ISO('min(t.at)')} as began, ${ISO(`max(t.at) filter (where ${TAKEN('t')})`)} as last,
      ${ISO(`min(t.at) filter (where t.ended and ${TAKEN('t')})`)} as ended, ${STANDING('t', '$4')} as standing,
      array_agg(n.name order by t.at, t.hop) filter (where n.name is not null and ${TAKEN('t')}) as names
    from turns t left join nodes n on n.menu = t.menu and n.node = t.node
    where t.session_key = o.session_key and t.day = o.day and t.dial = o.dial) d
  order by d.began desc`;

const ORDERS = `
  select * from (
    (select 'airtime' as kind, ref, state, ${ISO('ordered_at')} as ordered_at, ${ISO('ended_at')} as ended_at
      from airtime_orders where buyer = $1 order by airtime_orders.ordered_at desc limit $2)
    union all
    (select 'shares', ref, state, ${ISO('ordered_at')}, ${ISO('ended_at')}
      from stock_orders where owner = $1 order by stock_orders.ordered_at desc limit $2)) both_kinds
  order by ordered_at desc limit $2`;

const MESSAGES = `
  select id, state, cause, ${ISO('created_at')} as created_at, ${ISO('ended_at')} as ended_at
  from messages where phone = $1 order by messages.created_at desc limit $2`;

/** The newest of what a phone did and of what came of it, without a word of it; `ttl` is in milliseconds. */
export async function viewOf(sql: Sql, phone: Buffer, ttl: number): Promise<PhoneView> {
  const [dials, orders, messages] = await Promise.all([
    sql('view_dials', DIALS, [null, phone, MOST, ttl]),
    sql('view_orders', ORDERS, [phone, MOST]),
    sql('view_messages', MESSAGES, [phone, MOST]),
  ]);
  return {
    dials: dials.map((row) => ({
      session: nameOf('s', row.session_key),
      service: row.service as string,
      began: row.began as string,
      last: row.last as string,
      nodes: (row.names as string[] | null) ?? [],
      outcome: row.standing as Standing,
      ended: row.ended as string | null,
    })),
    orders: orders.map((row) => ({
      kind: row.kind as SeenOrder['kind'],
      ref: row.ref as string,
      state: row.state as string,
      orderedAt: row.ordered_at as string,
      endedAt: row.ended_at as string | null,
    })),
    messages: messages.map((row) => ({
      id: row.id as string,
      state: row.state as string,
      cause: row.cause as string,
      createdAt: row.created_at as string,
      endedAt: row.ended_at as string | null,
    })),
  };
}
