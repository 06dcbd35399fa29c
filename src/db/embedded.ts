import { createHash } from 'node:crypto';
import {
  chmodSync,
  cpSync,
  existsSync,
  constants as fsConstants,
  linkSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { PGlite } from '@electric-sql/pglite';
import { inDirectory, makeDirectory } from '../directories.ts';

/** Another process holds the directory: two on one embedded database corrupt it. */
export class DirectoryInUse extends Error {
  readonly code = 'directory_in_use';
  constructor(directory: string, pid: number) {
    super(`the data directory ${directory} is in use by process ${pid}`);
  }
}

/**
 * Opens PGlite with what the migrations make use of besides Postgres itself. The package is loaded here, not above: a
 * gateway on a Postgres server does without it.
 */
async function openPGlite(data: string): Promise<PGlite> {
  const [{ PGlite }, { pg_trgm }] = await Promise.all([
    import('@electric-sql/pglite'),
    import('@electric-sql/pglite/contrib/pg_trgm'),
  ]);
  return PGlite.create(data, { extensions: { pg_trgm } });
}

/**
 * Opens PGlite under `directory`, made if missing, held by a lock file; without one in memory, for a player
 * that leaves nothing behind. Throws `DirectoryInUse`, `DirectoryRefused`.
 */
export async function openEmbedded(
  directory?: string,
): Promise<{ pglite: PGlite; release(): Promise<void> }> {
  if (directory === undefined) return openTemporary();
  const lock = join(directory, 'lock');
  makeDirectory('DATA_DIR', directory, 0o700);
  inDirectory('DATA_DIR', directory, () => {
    makePrivate(directory);
    hold(lock, directory);
  });
  const beat = setInterval(() => touch(lock), BEAT_MS).unref();
  const release = async () => {
    clearInterval(beat);
    rmSync(lock, { force: true });
  };
  const data = join(directory, 'postgres');
  try {
    if (!existsSync(data)) copySnapshot(data);
    const pglite = await openPGlite(data);
    makePrivate(directory);
    return { pglite, release };
  } catch (error) {
    await release();
    throw error;
  }
}

/** Opens a database that leaves nothing behind: a copy of the snapshot in a temporary directory, else in memory. */
async function openTemporary(): Promise<{ pglite: PGlite; release(): Promise<void> }> {
  const directory = mkdtempSync(join(tmpdir(), 'ussd-embedded-'));
  const remove = () => rmSync(directory, { recursive: true, force: true });
  process.once('exit', remove);
  const data = join(directory, 'postgres');
  copySnapshot(data);
  const pglite = await openPGlite(existsSync(data) ? data : 'memory://');
  return { pglite, release: async () => remove() };
}

/** Where `npm ci` leaves a migrated data directory (src/prepare.ts); what was made of it stands in its name. */
const SNAPSHOTS = join(import.meta.dirname, '..', '..', 'node_modules', '.cache', 'ussd-gateway');

/**
 * Names the snapshot that suits this code: by the version of PGlite, which ties the files to its build of Postgres,
 * and by the migrations. Another version or an edited migration has another name, and is not found.
 */
export function snapshotDirectory(migrations: string): string {
  const hash = createHash('sha256').update(pgliteVersion());
  for (const name of readdirSync(migrations).sort())
    hash.update(name).update(readFileSync(join(migrations, name)));
  return join(SNAPSHOTS, `embedded-${hash.digest('hex').slice(0, 16)}`);
}

const MIGRATIONS = join(import.meta.dirname, '..', '..', 'migrations');

function pgliteVersion(): string {
  const entry = fileURLToPath(import.meta.resolve('@electric-sql/pglite'));
  return readFileSync(join(dirname(entry), '..', 'package.json'), 'utf8');
}

/**
 * Begins a data directory with the snapshot, where there is one: initdb in WebAssembly and the migrations take two
 * thirds of a first start. Whole or not at all; without a snapshot PGlite makes the directory itself.
 */
function copySnapshot(data: string): void {
  const aside = `${data}.${process.pid}`;
  try {
    const snapshot = snapshotDirectory(MIGRATIONS);
    if (!existsSync(snapshot)) return;
    cpSync(snapshot, aside, { recursive: true, mode: fsConstants.COPYFILE_FICLONE });
    renameSync(aside, data);
  } catch {
    // A full disk or a half-removed snapshot: PGlite begins from nothing, and says what is wrong if it cannot.
    rmSync(aside, { recursive: true, force: true });
  }
}

/**
 * Closes a directory to everybody but this user: PGlite makes its files as the
 * umask says, so that the directory is what keeps other users of the machine out. Throws where it belongs to another
 * user.
 */
function makePrivate(directory: string): void {
  if ((statSync(directory).mode & 0o077) !== 0) chmodSync(directory, 0o700);
  const files = join(directory, 'postgres');
  if (((statSync(files, { throwIfNoEntry: false })?.mode ?? 0) & 0o077) !== 0) chmodSync(files, 0o700);
}

/** How often a holder touches its lock, and after what time an untouched lock is free; in milliseconds. */
const BEAT_MS = 2_000;
const STALE_MS = 20_000;

/** Where process ids mean what they mean here; empty where there is no /proc. */
const NAMESPACE = linkOf('/proc/self/ns/pid');

/**
 * Takes the lock file of a data directory; the lock of a process that is gone is taken over. Throws `DirectoryInUse`.
 */
export function hold(lock: string, directory: string, again = true): void {
  // Written whole before it is there: a lock that is read while it is still empty looks free.
  const mine = `${lock}.${process.pid}`;
  writeFileSync(mine, `${process.pid} ${startOf(process.pid)} ${NAMESPACE}\n`, { mode: 0o600 });
  try {
    linkSync(mine, lock);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    const seen = read(lock);
    const pid = Number.parseInt(seen, 10);
    if (isHeld(lock, seen)) throw new DirectoryInUse(directory, pid);
    if (!again) throw error;
    setAside(lock, seen);
    hold(lock, directory, false);
  } finally {
    rmSync(mine, { force: true });
  }
}

/**
 * Whether the process that a lock names is there. A process id comes again, with the moment of its start it
 * does not; of another namespace (a container on the same volume) neither can be seen, only that its holder
 * touches the lock.
 */
function isHeld(lock: string, seen: string): boolean {
  const [pid = '', start = '', namespace = ''] = seen.trim().split(' ');
  if (namespace !== NAMESPACE)
    return Date.now() - (statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? 0) < STALE_MS;
  return Number(pid) !== process.pid && isRunning(Number(pid)) && Number(start) === startOf(Number(pid));
}

function touch(lock: string): void {
  try {
    const now = new Date();
    utimesSync(lock, now, now);
  } catch {
    // The directory was taken away under us; the database will say so.
  }
}

/** Takes away the lock of a holder that was killed, unless another process has just replaced it. */
function setAside(lock: string, seen: string): void {
  const aside = `${lock}.aside.${process.pid}`;
  try {
    renameSync(lock, aside);
    if (read(aside) !== seen) linkSync(aside, lock);
    rmSync(aside, { force: true });
  } catch {
    // Another process was faster; the exclusive link that follows decides.
  }
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

function linkOf(file: string): string {
  try {
    return readlinkSync(file);
  } catch {
    return '-';
  }
}

function isRunning(pid: number): boolean {
  if (Number.isNaN(pid)) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Clock ticks from boot to the start of a process (proc(5), stat field 22); 0 where there is no /proc. */
function startOf(pid: number): number {
  const fields = read(`/proc/${pid}/stat`).split(') ').at(-1)?.split(' ') ?? [];
  return Number(fields[19] ?? 0);
}
