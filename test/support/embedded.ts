import { cpSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import { openEmbeddedDatabase } from '../../src/db/database.ts';
import { migrate } from '../../src/db/migrate.ts';
import { startQueue } from '../../src/queue.ts';
import { MIGRATIONS } from '../../src/serve.ts';
import { temporaryDirectory } from './gateway.ts';

/**
 * Makes a data directory (`DATA_DIR`) with a migrated embedded database in which nothing is stored yet; it goes with
 * the test. It is a copy of one that is made once in each run of `npm test`: to make the first cluster takes ten
 * seconds of CPU, to open a copy one. For tests of the very first start use an empty directory instead.
 */
export async function embeddedDirectory(t: Test): Promise<string> {
  const directory = temporaryDirectory(t);
  cpSync(await template(t), directory, { recursive: true });
  return directory;
}

async function template(t: Test): Promise<string> {
  const run = process.env.USSD_TEST_RUN;
  // Without a run that removes it afterwards, the template is this test's own.
  const made = run === undefined ? join(temporaryDirectory(t), 'made') : join(tmpdir(), `embedded-of-${run}`);
  const claim = `${made}.claim`;
  for (;;) {
    if (existsSync(made)) return made;
    try {
      mkdirSync(claim);
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      // Another test file makes it.
      await sleep(100);
    }
  }
  try {
    const aside = mkdtempSync(`${made}.`);
    const database = await openEmbeddedDatabase(aside);
    await migrate(database.kysely, MIGRATIONS);
    const queue = await startQueue(database, () => {});
    await queue.stop();
    await database.close();
    renameSync(aside, made);
    return made;
  } finally {
    rmSync(claim, { recursive: true, force: true });
  }
}
