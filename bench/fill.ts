import { randomFillSync } from 'node:crypto';
import pg from 'pg';

/** What a real turn of the walk is like: everything but its keys, its time and what is sealed in it. */
type Pattern = {
  hop: number;
  ended: boolean;
  outcome: number;
  node: number;
  menu: number;
  service: string;
  sealed: number;
};

const DAY_MS = 86_400_000;
/** Where Postgres counts dates and times from. */
const EPOCH_MS = Date.UTC(2000, 0, 1);
/** Rows of one COPY. */
const BATCH = 250_000;
const CHUNK_BYTES = 256 * 1024;
/** Subscribers that dial again and again. */
const PHONES = 1_000_000;

/**
 * Fills the partition of the current week with so many turns, by COPY in binary: sessions of five turns as the
 * newest real ones are, with random keys and random bytes where those are sealed, and times in order from Monday to
 * a minute ago. Returns the bytes that a turn takes with its indexes.
 */
export async function fill(url: string, turns: number, told: (done: number) => void): Promise<number> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const partition = await partitionOfToday(client);
    const patterns = await patternsOf(client);
    await client.query('truncate turns');
    const end = Date.now() - 60_000;
    const from = Math.min(mondayOf(end), end - 1);
    for (let done = 0; done < turns; done += BATCH) {
      const rows = rowsOf(
        patterns,
        Math.min(BATCH, turns - done),
        (row) => from + ((done + row) / turns) * (end - from),
      );
      await copy(client, `copy ${partition} (${COLUMNS}) from stdin (format binary)`, rows);
      told(Math.min(turns, done + BATCH));
    }
    // Autovacuum would do both in a while; it never analyses the table above the partitions, so neither do we.
    await client.query(`vacuum (analyze) ${partition}`);
    const { rows } = await client.query<{ bytes: string }>(
      `select pg_total_relation_size('${partition}') as bytes`,
    );
    // What a large table has left to write is not to be written while something is measured.
    if (turns >= BATCH) await client.query('checkpoint');
    return Number(rows[0]?.bytes) / turns;
  } finally {
    await client.end();
  }
}

async function partitionOfToday(client: pg.Client): Promise<string> {
  const { rows } = await client.query<{ name: string }>(
    'select tableoid::regclass::text as name from turns order by at desc limit 1',
  );
  const [row] = rows;
  if (row === undefined) throw new Error('there is no real turn to take the pattern from');
  return row.name;
}

/** The rows of one real session, in order. */
async function patternsOf(client: pg.Client): Promise<Pattern[]> {
  const { rows } = await client.query<Pattern>(`
    select hop, ended, outcome, node, menu, service, length(sealed) as sealed from turns
    where session_key = (select session_key from turns group by 1 order by count(*) desc limit 1) order by hop`);
  if (rows.length < 5) throw new Error('no whole walk is there to take the pattern from');
  return rows;
}

const COLUMNS =
  'session_key, day, dial, address, hop, at, ended, outcome, node, menu, network, phone, service, sealed';
const FIELDS = 14;

/** The stream of a binary COPY, in chunks. */
function* rowsOf(patterns: Pattern[], rows: number, atOf: (row: number) => number): Generator<Buffer> {
  const random = Buffer.alloc(64 * 1024);
  const chunk = Buffer.alloc(CHUNK_BYTES + 4_096);
  const sessionKey = Buffer.alloc(16);
  const phone = Buffer.alloc(16);
  let fresh = random.length;
  // The signature, no flags, no extension.
  let at = chunk.write('PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0', 'latin1');

  const randomBytes = (bytes: number): Buffer => {
    if (fresh + bytes > random.length) {
      randomFillSync(random);
      fresh = 0;
    }
    fresh += bytes;
    return random.subarray(fresh - bytes, fresh);
  };
  const bytes = (value: Buffer) => {
    at = chunk.writeInt32BE(value.length, at);
    at += value.copy(chunk, at);
  };
  const int32 = (value: number) => {
    at = chunk.writeInt32BE(value, chunk.writeInt32BE(4, at));
  };
  const int16 = (value: number) => {
    at = chunk.writeInt16BE(value, chunk.writeInt32BE(2, at));
  };

  let day = 0;
  for (let row = 0; row < rows; row += 1) {
    const pattern = patterns[row % patterns.length] as Pattern;
    const time = atOf(row);
    if (row % patterns.length === 0) {
      randomBytes(16).copy(sessionKey);
      // The digest of a phone is as random as that, but the same phone comes again.
      phone.fill(0).writeUInt32BE(Math.imul(Math.floor(Math.random() * PHONES), 0x9e3779b1) >>> 0);
      day = Math.floor((time - EPOCH_MS) / DAY_MS);
    }
    at = chunk.writeInt16BE(FIELDS, at);
    bytes(sessionKey);
    int32(day);
    int32(1);
    bytes(randomBytes(16));
    int16(pattern.hop);
    at = chunk.writeBigInt64BE(BigInt(Math.floor((time - EPOCH_MS) * 1000)), chunk.writeInt32BE(8, at));
    at = chunk.writeInt8(pattern.ended ? 1 : 0, chunk.writeInt32BE(1, at));
    int16(pattern.outcome);
    int16(pattern.node);
    int32(pattern.menu);
    at = chunk.writeInt32BE(-1, at);
    bytes(phone);
    bytes(Buffer.from(pattern.service));
    bytes(randomBytes(pattern.sealed));
    if (at >= CHUNK_BYTES) {
      yield chunk.subarray(0, at);
      at = 0;
    }
  }
  at = chunk.writeInt16BE(-1, at);
  yield chunk.subarray(0, at);
}

/** What of a connection of pg a COPY speaks to; its types do not say it. */
type Wire = {
  stream: { writableNeedDrain: boolean; once(event: 'drain', then: () => void): void };
  query(text: string): void;
  sendCopyFromChunk(chunk: Buffer): void;
  endCopyFrom(): void;
};

/** `COPY … FROM STDIN` on pg's own protocol; a chunk may be written over once the next one is asked for. */
function copy(client: pg.Client, text: string, chunks: Iterable<Buffer>): Promise<void> {
  return new Promise((resolve, reject) => {
    const submitted = {
      submit: (connection: unknown) => (connection as Wire).query(text),
      handleCopyInResponse: (wire: Wire) => {
        const source = chunks[Symbol.iterator]();
        const more = () => {
          for (;;) {
            const { value, done } = source.next();
            if (done) return wire.endCopyFrom();
            wire.sendCopyFromChunk(value);
            if (wire.stream.writableNeedDrain) return void wire.stream.once('drain', more);
          }
        };
        more();
      },
      handleCommandComplete: () => {},
      handleReadyForQuery: () => resolve(),
      handleError: (error: Error) => reject(error),
    };
    client.query(submitted as pg.Submittable);
  });
}

function mondayOf(time: number): number {
  const day = Math.floor(time / DAY_MS);
  // 1970 began on a Thursday.
  return (day - ((day + 3) % 7)) * DAY_MS;
}
