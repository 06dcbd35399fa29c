import { sql } from 'kysely';

/** A place in a list, newest first: a time of the database (ISO 8601, microseconds) and the row's id. */
export type Cursor = { at: string; id: string };

// There is no year 0 in Postgres.
const AT = /^(?!0000)\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$/;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** The cursor as clients hand it back, unread. */
export function writeCursor({ at, id }: Cursor): string {
  return Buffer.from(`${at} ${id}`).toString('base64url');
}

/** The reverse; undefined where it is none of ours. */
export function readCursor(text: string): Cursor | undefined {
  const [at = '', id = '', more] = Buffer.from(text, 'base64url').toString().split(' ');
  const day = Number.isNaN(Date.parse(at)) ? undefined : new Date(at).toISOString().slice(0, 10);
  // 31 February has the form of a date and is none: the database would refuse the whole statement.
  return AT.test(at) && at.startsWith(day ?? '-') && UUID.test(id) && more === undefined
    ? { at, id }
    : undefined;
}

/** One page of rows that were read with one more than asked for, and where the next begins. */
export function pageOf<T>(
  rows: T[],
  limit: number,
  cursor: (row: T) => Cursor,
): { page: T[]; next: string | null } {
  const page = rows.slice(0, limit);
  const last = page.at(-1);
  return { page, next: rows.length > limit && last !== undefined ? writeCursor(cursor(last)) : null };
}

/** A time as ISO 8601, to the microsecond as cursors need it: a Date of JavaScript would lose what tells rows apart. */
export function isoTime(column: string) {
  return sql<string | null>`to_char(${sql.ref(column)} at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;
}
