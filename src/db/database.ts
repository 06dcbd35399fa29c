import {
  CompiledQuery,
  Kysely,
  PGliteAdapter,
  PGliteDriver,
  PostgresDialect,
  PostgresIntrospector,
  PostgresQueryCompiler,
} from 'kysely';
import pg from 'pg';
import { Column } from './column.ts';
import { openEmbedded } from './embedded.ts';
import { type Row, type Sql, SqlState, sqlState } from './sql.ts';
import type { Tables } from './tables.ts';

/** Every wait on the database is bounded; in milliseconds. A request has 4.5 s in all (decision 8). */
const CONNECT_MS = 2_000;
const STATEMENT_MS = 3_000;
/** Behind the server's own limit: for a server that does not even answer that it gave up. */
const QUERY_MS = 3_500;
const IDLE_TRANSACTION_MS = 5_000;
/** A stranger's open transaction must not stall the lane, nor the rows that go singly beside it (decision 21). */
const QUICK_LOCK_MS = 250;
const LOCK_MS = 2_000;
const CONNECTIONS = 6;
const SINGLE_CONNECTIONS = 4;
/** Statements that may wait for a lock at length at a time, so that one key held cannot hold everybody. */
const PATIENT = 3;
/** One batch of reads and one of writes at a time: more lanes shrink the batches and lose. */
const LANE_CONNECTIONS = 2;
/**
 * The housekeeping's own connection. It waits longer for a lock than a turn may, because nothing waits behind it
 * meanwhile: a detach that waits for a dump holds no lock that a turn wants. Batches have limits of their own.
 */
const HOUSE_STATEMENT_MS = 60_000;
const HOUSE_LOCK_MS = 10_000;
const HOUSE = {
  max: 1,
  query_timeout: HOUSE_STATEMENT_MS + 5_000,
  application_name: 'ussd-gateway housekeeping',
};
const HOUSE_LIMITS = {
  statement_timeout: HOUSE_STATEMENT_MS,
  idle_in_transaction_session_timeout: HOUSE_STATEMENT_MS,
};
/** The pool may hold several dead connections that it has not heard of yet. */
const ATTEMPTS = 3;

export type Database = {
  kind: 'postgres' | 'embedded';
  kysely: Kysely<Tables>;
  /** Single statements of the hot path. */
  sql: Sql;
  /** The same for whole batches: own connections, a short lock limit. */
  laneSql: Sql;
  /** Runs single statements in a transaction that is open. */
  within(tx: Kysely<Tables>): Sql;
  /** What the queue connects through. */
  boss: { connectionString: string; pooler: Pooler } | { embedded: Embedded };
  /** Runs as the owner of the tables, where one is named; else through the pool. */
  asOwner<T>(run: (db: Kysely<Tables>) => Promise<T>): Promise<T>;
  /** Opens the connection of the housekeeping; to be closed after it. `lockMs`: its longest wait for a lock. */
  house(lockMs?: number): House;
  connections(): { total: number; idle: number; waiting: number };
  close(): Promise<void>;
};

/**
 * A connection apart from the pools, without their limits: removing what is old may take longer than a turn may.
 * Every wait has a limit all the same. It is the owner's of the tables, where one is named (`DATABASE_ADMIN_URL`).
 */
export type House = {
  db: Kysely<Tables>;
  /** The database has no other connection. */
  alone: boolean;
  /** Longest wait for a lock, in milliseconds. */
  lockMs: number;
  close(): Promise<void>;
};

type Embedded = Awaited<ReturnType<typeof openEmbedded>>['pglite'];

/**
 * What stands between us and the server. `transaction`: a pooler (PgBouncer) that hands every transaction to another
 * connection, so that none of them keeps a prepared statement or a setting of ours for us. The limits of the server
 * are the role's then (docs/postgres.md); our own waiting ends all the same.
 */
export type Pooler = 'none' | 'transaction';

/**
 * Opens a Postgres server by URL. Nothing is connected yet; a terminated connection is only replaced. `adminUrl`: as
 * the owner of the tables, and never through a pooler.
 */
export function openPostgres(
  url: string,
  onLost: (error: Error) => void,
  pooler: Pooler = 'none',
  adminUrl?: string,
): Database {
  const connectTo = (max: number, lockMs: number) =>
    connect(url, { max, ...(pooler === 'none' && limits(lockMs)) }, onLost);
  const pool = connectTo(CONNECTIONS, LOCK_MS);
  const single = connectTo(SINGLE_CONNECTIONS, QUICK_LOCK_MS);
  const lane = connectTo(LANE_CONNECTIONS, QUICK_LOCK_MS);
  const prepared = pooler === 'none';
  const pools = [pool, single, lane];
  const kysely = new Kysely<Tables>({ dialect: new PostgresDialect({ pool }) });
  const house = (lockMs = HOUSE_LOCK_MS): House => {
    const direct = adminUrl !== undefined || pooler === 'none';
    const own = { ...HOUSE, ...(direct && { ...HOUSE_LIMITS, lock_timeout: lockMs }) };
    const db = new Kysely<Tables>({
      dialect: new PostgresDialect({ pool: connect(adminUrl ?? url, own, onLost) }),
    });
    return { db, alone: false, lockMs, close: () => db.destroy() };
  };
  return {
    kind: 'postgres',
    kysely,
    sql: patiently(statements(single, prepared), statements(pool, prepared)),
    laneSql: statements(lane, prepared),
    within: (tx) => async (_name, text, values) => raw(tx, text, values.map(asBinary)),
    boss: { connectionString: url, pooler },
    house,
    asOwner: async (run) => {
      if (adminUrl === undefined) return run(kysely);
      const owner = house();
      try {
        return await run(owner.db);
      } finally {
        await owner.close();
      }
    },
    connections: () => {
      const sum = (count: (pool: pg.Pool) => number) => pools.reduce((all, pool) => all + count(pool), 0);
      return {
        total: sum(({ totalCount }) => totalCount),
        idle: sum(({ idleCount }) => idleCount),
        // pg counts those too who are given a connection in the next tick: the queries of every scrape itself.
        waiting: sum(({ waitingCount, idleCount, totalCount, options }) =>
          Math.max(0, waitingCount - idleCount - (options.max - totalCount)),
        ),
      };
    },
    close: async () => {
      await Promise.all(pools.map((each) => each.end()));
    },
  };
}

/**
 * Opens the embedded Postgres in a directory, or in memory without one. It has one connection, and no
 * statement limit is enforced in it: callers stop waiting at their deadline instead. Throws
 * `DirectoryInUse`.
 */
export async function openEmbeddedDatabase(directory?: string): Promise<Database> {
  const { pglite, release } = await openEmbedded(directory);
  const sql: Sql = async (_name, text, values) => {
    // It answers without a turn of the event loop, so a whole request could pass before the next one is even read.
    // Whoever asks at the same time is to be known to have done so.
    await new Promise((resolve) => setImmediate(resolve));
    return (await pglite.query<Record<string, unknown>>(text, values.map(asValues))).rows;
  };
  const kysely = new Kysely<Tables>({
    dialect: {
      createAdapter: () => new PGliteAdapter(),
      createDriver: () => new OneAtATime({ pglite }),
      createIntrospector: (db) => new PostgresIntrospector(db),
      createQueryCompiler: () => new PostgresQueryCompiler(),
    },
  });
  return {
    kind: 'embedded',
    kysely,
    sql,
    laneSql: sql,
    within: (tx) => async (_name, text, values) => raw(tx, text, values.map(asValues)),
    boss: { embedded: pglite },
    asOwner: (run) => run(kysely),
    house: (lockMs = HOUSE_LOCK_MS) => ({ db: kysely, alone: true, lockMs, close: async () => {} }),
    connections: () => ({ total: 1, idle: 0, waiting: 0 }),
    close: async () => {
      await pglite.close();
      await release();
    },
  };
}

async function raw(tx: Kysely<Tables>, text: string, values: unknown[]): Promise<Row[]> {
  return (await tx.executeQuery<Row>(CompiledQuery.raw(text, values))).rows;
}

/** A column as Postgres reads arrays in binary; pg sends a Buffer as that. */
function asBinary(value: unknown): unknown {
  return value instanceof Column ? value.toBinary() : value;
}

/** A column as an array, which the embedded database writes in its own way. */
function asValues(value: unknown): unknown {
  return value instanceof Column ? value.values : value;
}

/**
 * Kysely's PGlite driver hands the same connection to everybody at once, so that a query made beside an
 * open transaction becomes part of it. Here the connection has one holder at a time.
 */
class OneAtATime extends PGliteDriver {
  #last: Promise<void> = Promise.resolve();
  #release: (() => void) | undefined;

  override async acquireConnection() {
    const before = this.#last;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#last = promise;
    await before;
    this.#release = resolve;
    return super.acquireConnection();
  }

  override async releaseConnection() {
    this.#release?.();
  }
}

/** Settings of a session, sent when it begins; a pooler refuses them. */
function limits(lockMs: number): pg.PoolConfig {
  return {
    statement_timeout: STATEMENT_MS,
    lock_timeout: lockMs,
    idle_in_transaction_session_timeout: IDLE_TRANSACTION_MS,
  };
}

function connect(url: string, settings: pg.PoolConfig, onLost: (error: Error) => void): pg.Pool {
  const pool = new pg.Pool({
    connectionString: url,
    connectionTimeoutMillis: CONNECT_MS,
    query_timeout: QUERY_MS,
    idleTimeoutMillis: 30_000,
    keepAlive: true,
    application_name: 'ussd-gateway',
    ...settings,
  });
  // Without both listeners a backend that is terminated ends the process: the pool's covers idle
  // clients only, a client's its time outside the pool.
  pool.on('error', onLost);
  pool.on('connect', (client) => client.on('error', onLost));
  return pool;
}

/**
 * One statement on any connection of the pool. A connection that the server ended is tried again on another
 * one, at once: every statement of ours may be repeated, because a row that exists already is not written.
 */
function statements(pool: pg.Pool, prepared: boolean): Sql {
  return async (name, text, given) => {
    // Before anything is sent: what cannot be written fails alone, and leaves a good connection.
    const values = given.map(asBinary);
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await runOn(pool, prepared ? { name, text, values } : { text, values });
      } catch (error) {
        if (attempt === ATTEMPTS || !wasEnded(error)) throw error;
      }
    }
  };
}

/** Quickly first; what finds a lock held then waits for it at length, a few at a time. */
function patiently(quick: Sql, patient: Sql): Sql {
  let waiting: Promise<unknown>[] = [];
  return async (name, text, values) => {
    try {
      return await quick(name, text, values);
    } catch (error) {
      if (sqlState(error) !== SqlState.lockNotAvailable) throw error;
      while (waiting.length >= PATIENT) await Promise.race(waiting);
      const rows = patient(name, text, values);
      const settled = rows.then(noop, noop);
      waiting.push(settled);
      void settled.then(() => {
        waiting = waiting.filter((other) => other !== settled);
      });
      return await rows;
    }
  };
}

function noop(): void {}

async function runOn(pool: pg.Pool, query: pg.QueryConfig<unknown[]>): Promise<Row[]> {
  const client = await pool.connect();
  try {
    const { rows } = await client.query(query);
    client.release();
    return rows;
  } catch (error) {
    // A statement that failed leaves a good connection; anything else is not to be used again.
    client.release(sqlState(error) === undefined);
    throw error;
  }
}

/** The connection was closed under us (class 57P: an operator did), rather than slow or never made. */
function wasEnded(error: unknown): boolean {
  const { code, message } = error as { code?: string; message?: string };
  return (
    /^(57P01|57P02|ECONNRESET|EPIPE)$/.test(code ?? '') || message === 'Connection terminated unexpectedly'
  );
}
