/**
 * Makes a migrated, empty data directory for the embedded database, so that the first start copies it instead of
 * running initdb and the migrations. It holds no key and nothing of a person.
 */
import { existsSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { openEmbeddedDatabase } from '../db/database.ts';
import { snapshotDirectory } from '../db/embedded.ts';
import { migrate } from '../db/migrate.ts';
import { startQueue } from '../queue.ts';

const MIGRATIONS = join(import.meta.dirname, '..', '..', 'migrations');

/** Makes the snapshot unless it is there; older ones go. Returns where it is. */
export async function makeSnapshot(): Promise<string> {
  const snapshot = snapshotDirectory(MIGRATIONS);
  if (existsSync(snapshot)) return snapshot;
  const work = `${snapshot}.${process.pid}`;
  try {
    const database = await openEmbeddedDatabase(work);
    await migrate(database.kysely, MIGRATIONS);
    const queue = await startQueue(database, () => {});
    await queue.stop();
    await database.close();
    for (const name of readdirSync(dirname(snapshot)))
      if (/^embedded-[0-9a-f]{16}$/.test(name) && name !== basename(snapshot))
        rmSync(join(dirname(snapshot), name), { recursive: true, force: true });
    renameSync(join(work, 'postgres'), snapshot);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return snapshot;
}
