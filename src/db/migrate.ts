import * as fs from 'node:fs/promises';
import * as path from 'node:path';
import { Kysely, PostgresAdapter, PostgresDialect, sql } from 'kysely';
import { FileMigrationProvider, Migrator } from 'kysely/migration';
import pg from 'pg';
import { missingGrants, missingRights } from './rights.ts';

/** Migrations may take long on a large database; everything else waits behind them only at a start. */
const MIGRATION_MS = 300_000;
/** How long a second instance waits for the first one's migrations before it gives the start up. */
const LOCK_MS = 120_000;
/** How long one attempt to connect may take. */
const CONNECT_MS = 5_000;
/** The number of Kysely's own lock, which an instance of an older version takes. */
const MIGRATION_LOCK = 3853314791062309107n;

/** The role may not make what a database of ours consists of; the message says what to grant, and where. */
export class RightsMissing extends Error {
  readonly code = 'rights_missing';
}

/**
 * Applies the migrations in `folder` that are not applied yet; several instances may do so at once.
 * Returns the names of those it applied. Throws the first error.
 */
export async function migrate<T>(db: Kysely<T>, folder: string): Promise<string[]> {
  if (await isCurrent(db as Kysely<unknown>, folder)) return [];
  const migrator = new Migrator({
    db: db as Kysely<unknown>,
    provider: new FileMigrationProvider({ fs, path, migrationFolder: folder }),
  });
  const { error, results } = await migrator.migrateToLatest();
  if (error !== undefined) throw error;
  return (results ?? [])
    .filter((result) => result.status === 'Success')
    .map((result) => result.migrationName);
}

/**
 * Tells whether exactly the migrations in `folder` are applied: one small query in place of Kysely's look at every
 * table, which is a third of a second of each start on the embedded database. Anything else is Kysely's to judge.
 */
async function isCurrent(db: Kysely<unknown>, folder: string): Promise<boolean> {
  const { rows } = await sql<{
    there: string | null;
  }>`select to_regclass('kysely_migration') as there`.execute(db);
  if (rows[0]?.there == null) return false;
  const applied = await sql<{ name: string }>`select name from kysely_migration order by name`.execute(db);
  const names = (await fs.readdir(folder)).map((name) => path.parse(name).name).sort();
  return applied.rows.map(({ name }) => name).join() === names.join();
}

/**
 * The same on a Postgres server by URL, also through a pooler in transaction mode: all of it is one transaction, and
 * its limits and its lock are that transaction's. (Kysely's own lock is a session's, which a pooler leaves behind on
 * a connection of somebody else, so that the next instance waits for ever.) A role that may only read and write
 * migrates nothing, and needs not where all of it is applied. `name`: of the variable that the URL is from. One attempt
 * to connect takes `connectMs` at the most. Throws `RightsMissing`.
 */
export async function migrateServer(
  url: string,
  folder: string,
  { name = 'DATABASE_URL', connectMs = CONNECT_MS }: { name?: string; connectMs?: number | undefined } = {},
): Promise<string[]> {
  const pool = new pg.Pool({
    connectionString: url,
    max: 1,
    connectionTimeoutMillis: connectMs,
    application_name: 'ussd-gateway migrations',
  });
  pool.on('error', () => {});
  const db = new Kysely<unknown>({ dialect: new LockedBefore({ pool }) });
  try {
    return await db.transaction().execute(async (tx) => {
      await sql`select set_config('statement_timeout', ${String(MIGRATION_MS)}, true),
        set_config('lock_timeout', ${String(LOCK_MS)}, true)`.execute(tx);
      await sql`select pg_advisory_xact_lock(${sql.lit(MIGRATION_LOCK)})`.execute(tx);
      const wanted = await missingRights(tx);
      if (wanted.length > 0 && (await isReady(tx, folder))) return [];
      if (wanted.length > 0) throw new RightsMissing(`${name}: a superuser has to run: ${wanted.join('; ')}`);
      return migrate(tx, folder);
    });
  } finally {
    await db.destroy();
  }
}

/** Whether a role that may make nothing can serve: nothing is left to migrate, and it may read and write all of it. */
async function isReady(db: Kysely<unknown>, folder: string): Promise<boolean> {
  const grants = await missingGrants(db);
  if (grants === undefined || grants.length > 0) return false;
  const { rows } = await sql<{ name: string }>`select name from kysely_migration`.execute(db);
  const applied = new Set(rows.map(({ name }) => name));
  const files = (await fs.readdir(folder)).filter((file) => file.endsWith('.ts'));
  return files.every((file) => applied.has(file.slice(0, -'.ts'.length)));
}

/** Takes no lock of its own: the migration that uses it holds one already. */
class LockedBefore extends PostgresDialect {
  override createAdapter(): PostgresAdapter {
    return new LockedBeforeAdapter();
  }
}

class LockedBeforeAdapter extends PostgresAdapter {
  override async acquireMigrationLock(): Promise<void> {}
  override async releaseMigrationLock(): Promise<void> {}
}
