import type { Logger } from 'pino';
import { type Database, openEmbeddedDatabase, openPostgres, type Pooler } from './db/database.ts';
import { migrate, migrateServer } from './db/migrate.ts';
import { fileProblems } from './db/url-files.ts';
import { keptKey, keyFile } from './kept.ts';
import { type KeyRing, parseKeyRing } from './seal/keys.ts';
import { hasDigestKey } from './store/keyring.ts';
import { installQueue } from './store/queue-schema.ts';

/** How long a start waits for a database that is not up yet; in milliseconds. */
const PATIENCE_MS = 30_000;

/** A start that cannot be: what is said of it is for a person, without a stack. */
export class StartRefused extends Error {}

/** Where the database is, and with what it is opened. */
export type Place = {
  /** Absent: the embedded database in `dataDir`. */
  databaseUrl?: string;
  /** The same server as the owner of the tables, never through a pooler; absent: `databaseUrl` is the owner's. */
  databaseAdminUrl?: string;
  databasePooler: Pooler;
  dataDir: string;
  /** A server's is always given; that of the embedded database is made where none is. */
  keyRing?: KeyRing;
  /** The folder of the migrations of this code. */
  migrations: string;
  /** Tells a person at a terminal what is being done, before it is begun: the first start takes seconds. */
  progress?: Progress;
};

/** Shows one line to a person who waits. */
export type Progress = (said: string) => void;

/** `notes` say to a person what was opened. */
export type Opened = { database: Database; ring: KeyRing; notes: string[] };

/**
 * Opens the database, migrated; waits while it is not up yet, for `connectMs` at each attempt (default: that of
 * `migrateServer`). Throws `StartRefused`.
 */
export async function openDatabase(place: Place, log: Logger, connectMs?: number): Promise<Opened> {
  const onLost = (error: Error) => log.warn({ err: error }, 'a database connection was lost');
  if (place.databaseUrl !== undefined && place.keyRing !== undefined) {
    refuseFiles(place);
    place.progress?.(CONNECTING);
    await patiently(log, () => migrateOn(place, place.databaseUrl as string, connectMs));
    if (place.databaseAdminUrl !== undefined) await installQueue(place.databaseAdminUrl);
    return {
      database: openPostgres(place.databaseUrl, onLost, place.databasePooler, place.databaseAdminUrl),
      ring: place.keyRing,
      notes: ['Postgres by DATABASE_URL'],
    };
  }
  place.progress?.(preparing(place.dataDir));
  const database = await openEmbeddedDatabase(place.dataDir);
  await migrate(database.kysely, place.migrations);
  const isNew = !(await hasDigestKey(database.kysely));
  const ring = place.keyRing ?? parseKeyRing(keptKey(place.dataDir, isNew));
  const notes = [
    `embedded Postgres in ${place.dataDir} (survives a crash of the process, not a power loss; one process only)`,
  ];
  if (place.keyRing !== undefined) return { database, ring, notes };
  return {
    database,
    ring,
    notes: [...notes, `key in ${keyFile(place.dataDir)}`],
  };
}

const CONNECTING = 'connecting to the database of DATABASE_URL …';

/** What is shown while the embedded database is opened. */
export function preparing(dataDir: string): string {
  return `preparing the embedded database in ${dataDir} …`;
}

/** Migrates, and nothing else. Throws `StartRefused`. */
export async function migrateAlone(place: Place, log: Logger): Promise<void> {
  const { databaseUrl } = place;
  refuseFiles(place);
  place.progress?.(databaseUrl === undefined ? preparing(place.dataDir) : CONNECTING);
  const applied =
    databaseUrl === undefined
      ? await migrateEmbedded(place)
      : await patiently(log, () => migrateOn(place, databaseUrl));
  // The service may then be of a role that makes nothing.
  if (databaseUrl !== undefined) await installQueue(place.databaseAdminUrl ?? databaseUrl);
  log.info({ applied }, applied.length === 0 ? 'nothing to migrate' : 'migrated');
}

/** Throws `StartRefused` where a URL of the database names a file that cannot be used. */
function refuseFiles(place: Place): void {
  const problems = urlFileProblems(place);
  if (problems.length > 0) throw new StartRefused(problems.join('; '));
}

/** Says which files that the URLs of the database name cannot be used. */
export function urlFileProblems({
  databaseUrl,
  databaseAdminUrl,
}: Pick<Place, 'databaseUrl' | 'databaseAdminUrl'>): string[] {
  return [
    ...(databaseUrl === undefined ? [] : fileProblems('DATABASE_URL', databaseUrl)),
    ...(databaseAdminUrl === undefined ? [] : fileProblems('DATABASE_ADMIN_URL', databaseAdminUrl)),
  ];
}

/** As the owner, where one is named. */
function migrateOn(
  { databaseAdminUrl, migrations }: Place,
  databaseUrl: string,
  connectMs?: number,
): Promise<string[]> {
  return databaseAdminUrl === undefined
    ? migrateServer(databaseUrl, migrations, { connectMs })
    : migrateServer(databaseAdminUrl, migrations, { name: 'DATABASE_ADMIN_URL', connectMs });
}

async function migrateEmbedded({ dataDir, migrations }: Place): Promise<string[]> {
  const database = await openEmbeddedDatabase(dataDir);
  try {
    return await migrate(database.kysely, migrations);
  } finally {
    await database.close();
  }
}

/** Refused, not found, not answering; or a server that is just starting (57P03). A file that is missing is none of these. */
const AWAY =
  /^(ECONN(REFUSED|RESET|ABORTED)|EPIPE|ETIMEDOUT|ENOTFOUND|EAI_[A-Z]+|E(HOST|NET)(UNREACH|DOWN)|EADDRNOTAVAIL|57P03)$/;

/** Tries again while the database is not up yet: in a compose file or a pod everything starts at once. */
async function patiently<T>(log: Logger, run: () => Promise<T>): Promise<T> {
  const until = performance.now() + PATIENCE_MS;
  let said: string | undefined;
  for (;;) {
    try {
      return await run();
    } catch (error) {
      const { code = '', syscall } = error as NodeJS.ErrnoException;
      // A socket that is not there in a directory that is: the server is just starting.
      const isAway = AWAY.test(code) || (code === 'ENOENT' && syscall === 'connect');
      const away = isAway || (error as Error).message.includes('timeout');
      // Neither a code of the system nor of the server: what the driver itself has to say of the address.
      if (code === '' && !away)
        throw new StartRefused(`the database of DATABASE_URL cannot be used: ${(error as Error).message}`);
      if (!away && syscall !== undefined)
        throw new StartRefused(`the database of DATABASE_URL cannot be reached: ${(error as Error).message}`);
      if (!away) throw error;
      if (performance.now() > until)
        throw new StartRefused(`the database of DATABASE_URL does not answer (${code || 'timeout'})`);
      // Once for each reason: a line for every try would hide what it says.
      if (code !== said) log.warn({ err: error }, 'waiting for the database');
      said = code;
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    }
  }
}
