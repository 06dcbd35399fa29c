/**
 * Run by `npm ci` (the script `prepare`): leaves below `node_modules/.cache` what a first start would make. A migrated
 * data directory for the embedded database, the shipped documents as passed by the check, and the compiled code of all
 * that a start loads. The script swallows every error: an old Node (`npm ci --omit=dev`) or a folder without sources (a
 * Dockerfile that copies package.json first) cannot run this, and the first start then makes all of it itself.
 */
import { CheckedMenus } from './checked-menus.ts';
import { readMenus } from './menus.ts';
import { knownOf, SERVICES } from './serve.ts';
import { makeSnapshot } from './tools/snapshot.ts';

/** Makes what is missing; each part by itself. */
export async function prepare(): Promise<void> {
  await makeSnapshot().catch(() => {});
  readMenus(SERVICES, knownOf, new CheckedMenus());
  // What src/main.ts loads besides.
  await Promise.all([
    import('./checkup.ts'),
    import('./command.ts'),
    import('./env-file.ts'),
    import('./in-words.ts'),
    import('./leaving.ts'),
    import('./log.ts'),
  ]);
}
