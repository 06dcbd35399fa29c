import { bool, bytea, Column, date, float8, int2, int4, text } from '../db/column.ts';
import type { Row } from '../db/sql.ts';
import { hasEnded } from '../flow/dial.ts';
import type { NewTurn } from './new-turn.ts';

/** What the insert of turns is asked besides the rows: when a session is expired, and how near midnight is near. */
export type InsertSettings = { ttl: number; midnightSeconds: number };

/** The parameters of `INSERT` (src/store/turns-sql.ts): the rows by column, and the settings. */
export function insertParameters(turns: NewTurn[], sealed: Buffer[], settings: InsertSettings): unknown[] {
  return [
    new Column(
      bytea,
      turns.map((turn) => turn.sessionKey),
    ),
    new Column(
      date,
      turns.map((turn) => turn.day),
    ),
    new Column(
      int4,
      turns.map((turn) => turn.dial),
    ),
    new Column(
      bytea,
      turns.map((turn) => turn.address),
    ),
    new Column(
      int2,
      turns.map((turn) => turn.hop),
    ),
    new Column(
      bool,
      turns.map((turn) => hasEnded(turn.outcome)),
    ),
    new Column(
      int2,
      turns.map((turn) => turn.outcome),
    ),
    new Column(
      int2,
      turns.map((turn) => turn.node),
    ),
    new Column(
      int4,
      turns.map((turn) => turn.menu),
    ),
    new Column(
      int4,
      turns.map((turn) => turn.network),
    ),
    new Column(
      bytea,
      turns.map((turn) => turn.phone),
    ),
    new Column(
      text,
      turns.map((turn) => turn.service),
    ),
    new Column(bytea, sealed),
    new Column(
      float8,
      turns.map((turn) => turn.asked),
    ),
    new Column(
      bytea,
      turns.map((turn) => turn.behind?.address ?? null),
    ),
    new Column(
      float8,
      turns.map((turn) => turn.behind?.at ?? null),
    ),
    settings.ttl,
    settings.midnightSeconds,
    new Column(
      bool,
      turns.map((turn) => turn.opens === true),
    ),
  ];
}

/** The key of a row as `INSERT` writes it. */
export function keyOf({
  sessionKey,
  day,
  dial,
  address,
}: Pick<NewTurn, 'sessionKey' | 'day' | 'dial' | 'address'>): string {
  return `${sessionKey.toString('hex')} ${day} ${dial} ${address.toString('hex')}`;
}

/** What `INSERT` says of a batch: when its rows were written, in seconds since 1970, and which of them were. */
export type Written = { any: boolean; at: number; has(turn: NewTurn): boolean };

/** Reads the one row that `INSERT` returns. */
export function readWritten(row: Row): Written {
  const at = row.epoch as number;
  if (row.keys !== null || row.written === 0) {
    const keys = new Set(((row.keys ?? '') as string).split(','));
    return { any: row.written !== 0, at, has: (turn) => keys.has(keyOf(turn)) };
  }
  return { any: true, at, has: () => true };
}
