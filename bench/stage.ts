import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { freePort, type Postgres, startPostgres, whenWeDie } from '../test/support/postgres.ts';
import { Callers } from './callers.ts';
import type { Account } from './walks.ts';

const MAIN = join(import.meta.dirname, '..', 'src', 'main.ts');
/** Where Linux says whether it has large pages; node warns where it cannot read it. */
const LARGE_PAGES = '/sys/kernel/mm/transparent_hugepage/enabled';
const SERVERS = join(import.meta.dirname, 'servers');

/** A cold start of the embedded database on a busy machine. */
const START_MS = 60_000;
/** Linux counts the time of processes in hundredths of a second. */
const TICKS = 100;
/** Of the slowed disk; a good network disk takes about as long. */
const SLOW_FSYNC_US = 2_000;

/** The key of all gateways of a run. */
const KEY = 'k1:0123456789abcdef0123456789abcdef';
/** By which the bench reads the metrics of a gateway. */
export const OPERATOR_TOKEN = 'a-token-of-the-bench';

/** A row cannot be measured on this machine. */
export class LeftOut extends Error {}

/** A program that is called; `url` of the database below it, and the process `beside` it, where it has one. */
export type Server = { port: number; pid: number; url?: string; beside?: number };

export type Cluster = 'own disk' | 'slow disk';

/** Seconds of processor time since they were started. */
export type Busy = { servers: number; database: number };

/**
 * What rows run on, started when a row first asks for it and kept to the end: every server is a process of its own,
 * as in production, and every database that a row fills is its own. `close` takes all of it away.
 */
export class Stage {
  /** Where gateways leave profiles of their processor time, for `--profile`. */
  readonly #profiles: string | undefined;
  readonly callers = new Callers();
  readonly directory = mkdtempSync(join(tmpdir(), 'ussd-bench-'));
  /** Accounts that the rows may log in to. */
  accounts: Account[] = [];
  readonly #made = new Map<string, Promise<unknown>>();
  readonly #children: ChildProcess[] = [];
  readonly #clusters = new Map<Cluster, Postgres>();
  #closing: Promise<void> | undefined;

  constructor(profiles?: string) {
    this.#profiles = profiles;
    whenWeDie('kill -KILL "$1"; rm -rf "$2"', [String(this.callers.pid), this.directory]);
  }

  bare(): Promise<Server> {
    return this.#once('bare', () => this.#program('bare'));
  }

  validated(): Promise<Server> {
    return this.#once('validated', () => this.#program('validated'));
  }

  naive(cluster: Cluster = 'own disk'): Promise<Server> {
    return this.#once(`naive on ${cluster}`, async () => {
      const url = await this.#database('naive', cluster);
      return this.#program('naive', { DATABASE_URL: url });
    });
  }

  /** Sessions in a Redis of this run, which keeps nothing on disk. */
  redis(): Promise<Server> {
    return this.#once('redis', async () => {
      if (spawnSync('redis-server', ['--version']).status !== 0)
        throw new LeftOut('there is no redis-server here');
      const port = await freePort();
      const settings = ['--port', `${port}`, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'];
      const child = spawn('redis-server', settings, { cwd: this.directory, stdio: 'ignore' });
      this.#children.push(child);
      whenWeDie('kill -KILL "$1"', [String(child.pid)]);
      const server = await this.#program('redis', { REDIS_URL: `redis://127.0.0.1:${port}` });
      return { ...server, beside: child.pid ?? 0 };
    });
  }

  /** A gateway on a database; gateways of different names on one database are instances of one service. */
  gateway(
    database = 'ours',
    cluster: Cluster = 'own disk',
    instance = 'first',
    main = MAIN,
  ): Promise<Server> {
    return this.#once(`${instance} on ${database} on ${cluster}`, async () => {
      const url = await this.#database(database, cluster);
      return this.#run([...this.#profiling(), main], {
        NODE_ENV: 'production',
        DATABASE_URL: url,
        PIN_ENCRYPTION_KEY: KEY,
        OPERATOR_TOKEN,
        ...OPEN_LIMITS,
      });
    });
  }

  /** The embedded database, which production refuses. */
  embedded(): Promise<Server> {
    return this.#once('embedded', () =>
      this.#run([MAIN], { NODE_ENV: 'development', DATA_DIR: join(this.directory, 'data'), ...OPEN_LIMITS }),
    );
  }

  /** Of the databases that this run has started. */
  async versions(): Promise<{ postgres?: string; embedded?: string }> {
    const postgres = this.#clusters.get('own disk');
    return {
      ...(postgres && { postgres: `${postgres.version} (${postgres.kind} binaries)` }),
      ...(this.#made.has('embedded') && { embedded: `PGlite ${pgliteVersion()}` }),
    };
  }

  /** One line that says where the run is; on a terminal the next one takes its place. */
  tell(line: string): void {
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${line}`);
    else if (line !== '') process.stderr.write(`${Math.round(performance.now() / 1000)} s ${line}\n`);
  }

  /** Processor time of the servers and of all Postgres processes; undefined where there is no /proc. */
  busy(servers: Server[]): Busy | undefined {
    if (process.platform !== 'linux') return undefined;
    const stats = statsOfAll();
    const ownOf = (pid = 0) => stats.get(pid)?.own ?? 0;
    const own = servers.reduce((sum, { pid }) => sum + ownOf(pid), 0);
    let database = servers.reduce((sum, { beside }) => sum + ownOf(beside), 0);
    for (const { pid = 0 } of this.#clusters.values()) {
      database += (stats.get(pid)?.own ?? 0) + (stats.get(pid)?.reaped ?? 0);
      for (const { parent, own } of stats.values()) if (parent === pid) database += own;
    }
    return { servers: own / TICKS, database: database / TICKS };
  }

  /** Refuses a row that would fill the disk. */
  needsDisk(bytes: number): void {
    const { bavail, bsize } = statfsSync(this.directory);
    if (bavail * bsize < bytes) throw new LeftOut(`needs ${Math.ceil(bytes / 1e9)} GB of disk`);
  }

  async query<Row extends pg.QueryResultRow>(url: string, text: string): Promise<Row[]> {
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    try {
      return (await client.query<Row>(text)).rows;
    } finally {
      await client.end();
    }
  }

  /** Ends every process and removes every file. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /**
   * Stops all servers but these: a gateway at rest asks its queue every second, and a dozen of them take a quarter of
   * a processor and much of Postgres, which in production nobody shares. Not where they are profiled: the time that a
   * process stands still would be that of its last line.
   */
  only(servers: Server[]): void {
    if (this.#profiles !== undefined) return;
    const wanted = new Set(servers.flatMap(({ pid, beside = 0 }) => [pid, beside]));
    this.#goOn(this.#children.filter((child) => wanted.has(child.pid ?? 0)));
    if (process.platform !== 'win32')
      for (const child of this.#children) if (!wanted.has(child.pid ?? 0)) child.kill('SIGSTOP');
  }

  #goOn(children: ChildProcess[]): void {
    if (process.platform !== 'win32') for (const child of children) child.kill('SIGCONT');
  }

  async #close(): Promise<void> {
    this.callers.stop();
    this.#goOn(this.#children);
    // A profile is written by a process that ends well.
    for (const child of this.#children) child.kill(this.#profiles === undefined ? 'SIGKILL' : 'SIGTERM');
    await Promise.all(
      this.#children.map(
        (child) =>
          child.exitCode !== null ||
          child.signalCode !== null ||
          new Promise((gone) => child.once('exit', gone)),
      ),
    );
    await Promise.all([...this.#clusters.values()].map((postgres) => postgres.stop()));
    rmSync(this.directory, { recursive: true, force: true });
  }

  #profiling(): string[] {
    return this.#profiles === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${this.#profiles}`];
  }

  #once<T>(name: string, make: () => Promise<T>): Promise<T> {
    const made = this.#made.get(name) ?? make();
    this.#made.set(name, made);
    return made as Promise<T>;
  }

  #database(name: string, cluster: Cluster): Promise<string> {
    return this.#once(`database ${name} on ${cluster}`, async () => {
      const postgres = await this.#cluster(cluster);
      await this.query(postgres.url, `create database "${name}"`);
      const url = new URL(postgres.url);
      url.pathname = `/${name}`;
      return url.href;
    });
  }

  #cluster(cluster: Cluster): Promise<Postgres> {
    return this.#once(cluster, async () => {
      const preload = cluster === 'slow disk' ? this.#slowDisk() : undefined;
      if (preload !== undefined) process.env.LD_PRELOAD = preload;
      try {
        // As many connections as all gateways of a run may open; everything else as Postgres comes.
        const settings = { max_connections: '400' };
        const postgres = await startPostgres({ own: true, fsync: true, settings });
        this.#clusters.set(cluster, postgres);
        if (this.#closing !== undefined) await postgres.stop();
        return postgres;
      } finally {
        delete process.env.LD_PRELOAD;
      }
    });
  }

  /**
   * A library that is loaded in front of the C library and takes its time to flush. No setting of Postgres does
   * this (`commit_delay` waits before the flush, and only among several that commit), no device has to be made,
   * and Postgres itself stays as it is.
   */
  #slowDisk(): string {
    if (process.platform !== 'linux')
      throw new LeftOut('the disk is slowed by LD_PRELOAD, which is of Linux');
    const library = join(this.directory, 'slow-fsync.so');
    const source = join(SERVERS, 'slow-fsync.c');
    const made = spawnSync('cc', ['-shared', '-fPIC', '-O2', '-o', library, source, '-ldl']);
    if (made.status !== 0)
      throw new LeftOut('the disk is slowed by a few lines of C, and there is no cc here');
    // The server runs as somebody else where we are root.
    chmodSync(this.directory, 0o711);
    chmodSync(library, 0o755);
    process.env.SLOW_FSYNC_US = String(SLOW_FSYNC_US);
    return library;
  }

  #program(
    name: 'bare' | 'validated' | 'naive' | 'redis',
    settings: Record<string, string> = {},
  ): Promise<Server> {
    return this.#run([join(SERVERS, `${name}.ts`)], { NODE_ENV: 'production', ...settings });
  }

  /** Starts a server and waits until its port answers. Its log goes to /dev/null, its complaints to a file. */
  async #run(command: string[], settings: Record<string, string>): Promise<Server> {
    const port = await freePort();
    const complaints = join(this.directory, `${port}.err`);
    const errors = openSync(complaints, 'a');
    const { PATH = '', HOME = '', TMPDIR } = process.env;
    // As `npm start` does.
    const pages = existsSync(LARGE_PAGES) ? ['--use-largepages=silent'] : [];
    const child = spawn(process.execPath, [...pages, ...command], {
      env: { PATH, HOME, ...(TMPDIR && { TMPDIR }), PORT: String(port), HOST: '127.0.0.1', ...settings },
      stdio: ['ignore', 'ignore', errors],
      cwd: this.directory,
    });
    closeSync(errors);
    this.#children.push(child);
    if (this.#closing !== undefined) child.kill('SIGKILL');
    whenWeDie('kill -KILL "$1"', [String(child.pid)]);
    const until = Date.now() + START_MS;
    while (!(await answers(port))) {
      if (child.exitCode !== null || child.signalCode !== null || Date.now() > until)
        throw new Error(
          `${command.at(-1)} did not start:\n${readFileSync(complaints, 'utf8').slice(-2_000)}`,
        );
      await sleep(50);
    }
    return { port, pid: child.pid ?? 0, ...(settings.DATABASE_URL && { url: settings.DATABASE_URL }) };
  }
}

/** One aggregator: limited by phone, as its network would be in production, and no phone is stopped. */
const OPEN_LIMITS = {
  LOG_LEVEL: 'info',
  RATE_LIMIT_ALLOW: '127.0.0.0/8',
  RATE_LIMIT_PHONE_MAX: '1000000',
  SMS_DAILY_MAX: '100000000',
};

/** Processor time of a process, in microseconds: of its main thread, and of all that it has now. Linux only. */
export function threadsOf(pid: number): { main: number; all: number } {
  let all = 0;
  let main = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const [nanoseconds] = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ');
    all += Number(nanoseconds) / 1000;
    if (thread === String(pid)) main = Number(nanoseconds) / 1000;
  }
  return { main, all };
}

/** Resident memory of a process, in bytes. */
export function residentOf(pid: number): number {
  if (process.platform === 'linux') {
    const kilobytes = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return Number(kilobytes) * 1024;
  }
  return Number(spawnSync('ps', ['-o', 'rss=', '-p', String(pid)], { encoding: 'utf8' }).stdout) * 1024;
}

function pgliteVersion(): string {
  const file = createRequire(import.meta.url).resolve('@electric-sql/pglite');
  const description = readFileSync(join(dirname(file), '..', 'package.json'), 'utf8');
  return (JSON.parse(description) as { version: string }).version;
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' });
    const end = (good: boolean) => {
      socket.destroy();
      resolve(good);
    };
    socket.once('connect', () => end(true));
    socket.once('error', () => end(false));
  });
}

/** Parent, own time and that of children who ended, of every process; in ticks. */
function statsOfAll(): Map<number, { parent: number; own: number; reaped: number }> {
  const stats = new Map<number, { parent: number; own: number; reaped: number }>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const line = readFileSync(`/proc/${name}/stat`, 'utf8');
      // The name in parentheses may itself hold spaces and parentheses.
      const fields = line
        .slice(line.lastIndexOf(')') + 2)
        .split(' ')
        .map(Number);
      const [parent = 0, own = 0, system = 0, reaped = 0, reapedSystem = 0] = [1, 11, 12, 13, 14].map(
        (at) => fields[at] ?? 0,
      );
      stats.set(Number(name), { parent, own: own + system, reaped: reaped + reapedSystem });
    } catch {
      // It has just ended.
    }
  }
  return stats;
}
