/**
 * A column of a batch: a parameter that a statement reads as `unnest($n::bytea[])`. A Postgres server gets it in the
 * binary format of arrays, which is made in one pass over the values; as text every bytea would be written in hex and
 * quoted, and parsed again (docs/performance.md). The embedded database takes the values as they are.
 */
export class Column<T> {
  readonly type: ColumnType<T>;
  readonly values: readonly T[];

  constructor(type: ColumnType<T>, values: readonly T[]) {
    this.type = type;
    this.values = values;
  }

  /** Returns the array in binary format. Throws `OutOfRange` where a value is none of its type. */
  toBinary(): Buffer {
    const { type, values } = this;
    let length = HEADER_BYTES;
    let hasNull = 0;
    for (const value of values) {
      if (value === null) hasNull = 1;
      length += 4 + (value === null ? 0 : type.sizeOf(value as Exclude<T, null>));
    }
    const bytes = Buffer.allocUnsafe(length);
    // One dimension, whether any is null, the type, and how many there are, the first of which is number 1.
    bytes.writeInt32BE(1, 0);
    bytes.writeInt32BE(hasNull, 4);
    bytes.writeInt32BE(type.oid, 8);
    bytes.writeInt32BE(values.length, 12);
    bytes.writeInt32BE(1, 16);
    let at = HEADER_BYTES;
    for (const value of values) {
      const size = value === null ? NULL_SIZE : type.sizeOf(value as Exclude<T, null>);
      bytes.writeInt32BE(size, at);
      at += 4;
      if (value === null) continue;
      try {
        type.write(bytes, value as Exclude<T, null>, at);
      } catch (error) {
        throw new OutOfRange(error);
      }
      at += size;
    }
    return bytes;
  }
}

/** A value that is out of the range of its type, with the SQLSTATE that a server would give. */
class OutOfRange extends Error {
  readonly code = '22003';
  constructor(cause: unknown) {
    super('a value is out of the range of its type', { cause });
  }
}

const HEADER_BYTES = 20;
/** In place of the size of a value that is null. */
const NULL_SIZE = -1;

/** How values of one type are written; `oid` as in Postgres' pg_type.dat, sizes in bytes. A null is not asked for. */
export type ColumnType<T> = {
  oid: number;
  sizeOf(value: Exclude<T, null>): number;
  write(bytes: Buffer, value: Exclude<T, null>, at: number): void;
};

const MS_A_DAY = 86_400_000;
/** Days from 1970 to 2000, where Postgres' dates begin. */
const EPOCH_DAYS = 10_957;

export const bytea: ColumnType<Buffer | null> = {
  oid: 17,
  sizeOf: (value) => value.length,
  write: (bytes, value, at) => void bytes.set(value, at),
};
export const text: ColumnType<string> = {
  oid: 25,
  sizeOf: (value) => Buffer.byteLength(value),
  write: (bytes, value, at) => void bytes.write(value, at),
};
export const bool: ColumnType<boolean> = {
  oid: 16,
  sizeOf: () => 1,
  write: (bytes, value, at) => void bytes.writeUInt8(value ? 1 : 0, at),
};
export const int2: ColumnType<number> = {
  oid: 21,
  sizeOf: () => 2,
  write: (bytes, value, at) => void bytes.writeInt16BE(value, at),
};
export const int4: ColumnType<number | null> = {
  oid: 23,
  sizeOf: () => 4,
  write: (bytes, value, at) => void bytes.writeInt32BE(value, at),
};
export const float8: ColumnType<number | null> = {
  oid: 701,
  sizeOf: () => 8,
  write: (bytes, value, at) => void bytes.writeDoubleBE(value, at),
};
/** A day as `yyyy-mm-dd`. */
export const date: ColumnType<string> = {
  oid: 1082,
  sizeOf: () => 4,
  write: (bytes, value, at) => void bytes.writeInt32BE(daysOf(value), at),
};

/** The day that was asked for last: nearly always the one that is asked for next. */
let known = { day: '2000-01-01', days: 0 };

function daysOf(day: string): number {
  if (day !== known.day) known = { day, days: Date.parse(day) / MS_A_DAY - EPOCH_DAYS };
  return known.days;
}
