import { execFile } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** What the runbook says to type, without the file and the URL. */
export const BACK_UP = ['pg_dump', '--format=custom', '--no-owner'];
export const RESTORE = ['pg_restore', '--no-owner', '--exit-on-error'];

/**
 * Backs a database up beside whoever uses it. Returns where the programs are that can read this server, and nothing
 * where there are none (the npm package of the server binaries comes without them).
 */
export async function backUp(url: string, file: string): Promise<string | undefined> {
  const installed = '/usr/lib/postgresql';
  const versions = existsSync(installed) ? readdirSync(installed) : [];
  // Newest first: a program reads servers of its own version and of those before it.
  const newest = versions.sort((a, b) => Number(b) - Number(a));
  const [program = '', ...flags] = BACK_UP;
  for (const directory of [...newest.map((version) => join(installed, version, 'bin')), '']) {
    const done = await run(join(directory, program), [...flags, `--file=${file}`, url]).then(
      () => true,
      () => false,
    );
    if (done) return directory;
  }
  return undefined;
}

/** Restores into an empty database, with the programs that made the backup. Throws what they say. */
export async function restore(directory: string, file: string, url: string): Promise<void> {
  const [program = '', ...flags] = RESTORE;
  await run(join(directory, program), [...flags, `--dbname=${url}`, file]);
}
