import { bool, bytea, Column, type ColumnType, date, float8, int2, int4, text } from '../db/column.ts';
import type { Row } from '../db/sql.ts';
import { hasEnded } from '../flow/dial.ts';
import type { NewTurn } from './new-turn.ts';

/** What the insert of turns is asked besides the rows: when a session is expired, and how near midnight is near. */
export type InsertSettings = { ttl: number; midnightSeconds: number };

/** The parameters of `INSERT` (src/store/turns-sql.ts): the rows by column, and the settings. */
export function insertParameters(turns: NewTurn[], sealed: Buffer[], settings: InsertSettings): unknown[] {
  const column = <T>(type: ColumnType<T>, of: (turn: NewTurn) => T) => new Column(type, turns.map(of));
  return [
    column(bytea, (turn) => turn.sessionKey),
    column(date, (turn) => turn.day),
    column(int4, (turn) => turn.dial),
    column(bytea, (turn) => turn.address),
    column(int2, (turn) => turn.hop),
    column(bool, (turn) => hasEnded(turn.outcome)),
    column(int2, (turn) => turn.outcome),
    column(int2, (turn) => turn.node),
    column(int4, (turn) => turn.menu),
    column(int4, (turn) => turn.network),
    column(bytea, (turn) => turn.phone),
    column(text, (turn) => turn.service),
    new Column(bytea, sealed),
    column(float8, (turn) => turn.asked),
    column(bytea, (turn) => turn.behind?.address ?? null),
    column(float8, (turn) => turn.behind?.at ?? null),
    settings.ttl,
    settings.midnightSeconds,
    column(bool, (turn) => turn.opens === true),
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
