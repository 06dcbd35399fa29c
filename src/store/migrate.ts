import * as fs from 'node:fs/promises';
import * as path from 'node:path';
import { Kysely, PostgresDialect } from 'kysely';
import { FileMigrationProvider, Migrator } from 'kysely/migration';
import pg from 'pg';
import type { Pooler } from './database.ts';
import { SqlState, sqlState } from './sql.ts';

/** Migrations may take long on a large database; everything else waits behind them only at a start. */
const MIGRATION_MS = 300_000;
/** How long a second instance waits for the first one's migrations before it gives the start up. */
const LOCK_MS = 120_000;

/**
 * Applies the migrations in `folder` that are not applied yet; several instances may do so at once.
 * Returns the names of those it applied. Throws the first error.
 */
export async function migrate<T>(db: Kysely<T>, folder: string): Promise<string[]> {
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

/** The same on a Postgres server by URL, with limits of its own; through a pooler, with those of the role. */
export async function migrateServer(url: string, folder: string, pooler: Pooler = 'none'): Promise<string[]> {
  const pool = new pg.Pool({
    connectionString: url,
    max: 1,
    connectionTimeoutMillis: 5_000,
    ...(pooler === 'none' && { statement_timeout: MIGRATION_MS, lock_timeout: LOCK_MS }),
    application_name: 'ussd-gateway migrations',
  });
  pool.on('error', () => {});
  const db = new Kysely<unknown>({ dialect: new PostgresDialect({ pool }) });
  try {
    return await again(() => migrate(db, folder));
  } finally {
    await db.destroy();
  }
}

/**
 * Kysely makes its own two tables before it takes its lock, so two first starts at once can meet there
 * (`create table if not exists` is not safe against itself): the later one tries again.
 */
async function again<T>(run: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await run();
    } catch (error) {
      const state = sqlState(error);
      const raced = state === SqlState.uniqueViolation || state === '42P07' || state === '42710';
      if (!raced || attempt === 3) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200 * attempt));
    }
  }
}
