/**
 * `npm test`: one Postgres and one migrated template for all test files, then the files side by side, then one line
 * that a machine can read. docs/testing.md has the commands.
 *
 *   npm test                                     every file outside test/long
 *   npm test -- test/turn.test.ts test/flow      these files, and those of these folders
 *   npm test -- test/turn.test.ts --grep=replay  the tests whose name has this word
 *   npm test -- --shuffle=7                       in an order that the number decides
 *   npm run test:long                            test/long, and every file that scales, at full size
 *   npm test -- --jobs=1 --times                 one file after the other, and the time of each
 *   npm run test:watch -- test/turn.test.ts      again whenever the file or what it imports changes
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, globSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { openPostgres } from '../../src/db/database.ts';
import { migrateServer } from '../../src/db/migrate.ts';
import { startQueue } from '../../src/queue.ts';
import { MIGRATIONS } from '../../src/serve.ts';
import {
  makeTemplate,
  memoryDirectory,
  type Postgres,
  signal,
  startPostgres,
  whenWeDie,
} from './postgres.ts';

/** How long the files may take to end after a signal; in milliseconds. */
const GRACE_MS = 10_000;
/** How long one file may take, and one test of it; in milliseconds. */
const LIMITS = { short: { file: 240_000, test: 60_000 }, long: { file: 900_000, test: 600_000 } };
/** How the line with the counts begins. */
const SUMMARY = '# { total:';
/** What takes longest is begun first, so that no long file is left alone at the end. */
const SLOW_FIRST = [
  'erase.test.ts',
  'tools.test.ts',
  'pins.test.ts',
  'help.test.ts',
  'config.test.ts',
  'drain.test.ts',
  'sms-callbacks.test.ts',
  'doctor.test.ts',
  'embedded.test.ts',
  'providers.test.ts',
  'outage.test.ts',
  'invest-store.test.ts',
  'sms-many.test.ts',
  'airtime-once.test.ts',
  'json.test.ts',
  'accounts.test.ts',
  'metrics.test.ts',
];
/** Between a file and the tests of it that run alone. */
const ONLY = '::';
/** More files than this that fail are not the machine's fault. */
const MOST_AGAIN = 8;
/** How many of the slowest files are told. */
const SLOWEST = 10;

const root = join(import.meta.dirname, '..', '..');
const SCRATCH = 'ussd-tests-';

type Options = {
  files: string[];
  long: boolean;
  watch: boolean;
  /** Tells the time of every file, not only of the slowest. */
  times: boolean;
  /** Runs the files that failed a second time, alone; .ci/run asks for it. */
  again: boolean;
  jobs: number;
  grep?: string;
  timeout: number;
};

let options: Options;
try {
  options = readOptions(process.argv.slice(2));
} catch (error) {
  console.error(
    `${(error as Error).message}\nnpm test -- [file …] [--grep=word] [--jobs=N] [--timeout=seconds] [--shuffle=N]`,
  );
  process.exit(2);
}

removeLeftovers();
/** Everything temporary of this run is below it, also what a test file leaves that is killed. */
const scratch = mkdtempSync(join(memoryDirectory() ?? tmpdir(), `${SCRATCH}${process.pid}-`));
// Postgres runs under another account than root's and has to get to its files.
chmodSync(scratch, 0o711);
// Of the server that is started here too.
process.env.TMPDIR = scratch;
process.once('exit', () => rmSync(scratch, { recursive: true, force: true }));

let stopping: NodeJS.Signals | undefined;
let forward = (_: NodeJS.Signals) => {};
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(name, () => {
    stopping ??= name;
    forward(name);
  });
}

let server: Postgres | undefined;
try {
  server = await startPostgres();
  console.log(`# Postgres ${server.version} (${server.kind})`);
  const template = await makeTemplate(server.url, `${process.pid}`, prepare);
  const environment = {
    ...process.env,
    // Each file compiles the same modules, and strips their types: a third of what importing them costs.
    NODE_COMPILE_CACHE: join(scratch, 'compiled'),
    USSD_TEST_SERVER: server.url,
    USSD_TEST_TEMPLATE: template.name,
    USSD_TEST_RUN: `${process.pid}`,
    USSD_TEST_LIMIT_MS: `${options.long ? LIMITS.long.test : LIMITS.short.test}`,
    ...(options.long && { TEST_SCALE: process.env.TEST_SCALE ?? '1' }),
    ...(options.grep !== undefined && { USSD_TEST_GREP: options.grep }),
  };
  try {
    if (stopping) process.exitCode = 1;
    else process.exitCode = await (options.watch ? watch(options, environment) : run(options, environment));
  } finally {
    await template.drop();
  }
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  console.log('0 passed, 1 failed');
  process.exitCode = 1;
} finally {
  await server?.stop();
}
if (stopping) process.exitCode = 128 + constants.signals[stopping];
// Nothing that still runs in here may hold up whoever waits for the answer.
process.exit();

/** Reads the command line. Throws an Error that names the word that is not understood. */
function readOptions(words: string[]): Options {
  const text = { type: 'string' } as const;
  const flag = { type: 'boolean', default: false } as const;
  const { values, positionals } = parseArgs({
    args: words,
    allowPositionals: true,
    options: {
      grep: text,
      jobs: text,
      timeout: text,
      shuffle: text,
      long: flag,
      watch: flag,
      times: flag,
      again: flag,
    },
  });
  const { grep, long, watch, times, again } = values;
  const number = (name: string, given: string | undefined, otherwise: number) => {
    if (given === undefined) return otherwise;
    if (!/^[1-9]\d{0,4}$/.test(given)) throw new Error(`--${name}=${given}: a whole number from 1 to 99999`);
    return Number(given);
  };
  const named = positionals.flatMap((name) => {
    const inside = globSync(join(name, '**', '*.test.ts'), { cwd: root }).sort();
    return inside.length > 0 ? inside : [name];
  });
  const inOrder = named.length > 0 ? named : chosenFiles(long);
  const seed = values.shuffle === undefined ? undefined : number('shuffle', values.shuffle, 1);
  const files = seed === undefined ? inOrder : shuffled(inOrder, seed);
  const missing = files.filter((file) => globSync(file.split(ONLY)[0] ?? '', { cwd: root }).length === 0);
  if (missing.length > 0) throw new Error(`${missing.join(', ')}: no such test file`);
  if (watch && files.length !== 1) throw new Error('test:watch: name one test file');
  return {
    files,
    long,
    watch,
    times,
    again,
    // Files wait now and then, so that two more than there are cores keep all of them busy.
    jobs: number('jobs', values.jobs, availableParallelism() + 2),
    timeout: number('timeout', values.timeout, (long ? LIMITS.long : LIMITS.short).file / 1000) * 1000,
    ...(grep !== undefined && { grep: `/${grep}/i` }),
  };
}

/** The files of a tier, those first that are known to take longest. */
function chosenFiles(long: boolean): string[] {
  const all = globSync('test/**/*.test.ts', { cwd: root }).sort();
  const isLong = (file: string) => file.startsWith(join('test', 'long'));
  // What scales is run again in the long tier, at its full size.
  const scales = (file: string) =>
    /\b(scaled|SCALE)\b.*support\/scale\.ts'|support\/property\.ts'/.test(
      readFileSync(join(root, file), 'utf8'),
    );
  const hasLongTests = (file: string) => /\bLONG_TIER\b/.test(readFileSync(join(root, file), 'utf8'));
  const chosen = long
    ? all.flatMap((file) => {
        if (isLong(file) || scales(file)) return [file];
        return hasLongTests(file) ? [`${file}${ONLY}embedded database`] : [];
      })
    : all.filter((file) => !isLong(file));
  const rank = (file: string) => SLOW_FIRST.findIndex((name) => file.includes(name)) + 1 || 99;
  return chosen.sort((one, other) => rank(one) - rank(other));
}

/** Returns the files in an order that the seed alone decides. */
function shuffled(files: string[], seed: number): string[] {
  const place = (file: string) => createHash('sha256').update(`${seed}\0${file}`).digest('hex');
  return files.toSorted((one, other) => (place(one) < place(other) ? -1 : 1));
}

/** Migrates the template: our tables and the queue's. */
async function prepare(url: string): Promise<void> {
  await migrateServer(url, MIGRATIONS);
  const database = openPostgres(url, () => {});
  const queue = await startQueue(database, () => {});
  await queue.stop();
  await database.close();
}

/** Removes the temporary directories of runs that were killed. */
function removeLeftovers(): void {
  for (const parent of [tmpdir(), memoryDirectory() ?? tmpdir()]) {
    for (const name of readdirSync(parent)) {
      const pid = new RegExp(`^${SCRATCH}(\\d+)-`).exec(name)?.[1];
      if (pid !== undefined && !signal(Number(pid), 0 as unknown as NodeJS.Signals))
        rmSync(join(parent, name), { recursive: true, force: true });
    }
  }
}

/** Starts a program of this run in a process group of its own, which signals reach and which dies with us. */
function start(words: string[], environment: NodeJS.ProcessEnv, output: 'pipe' | 'inherit'): ChildProcess {
  const child = spawn(process.execPath, words, {
    cwd: root,
    // A group of its own: the runner ends at a signal without its files, and those would go on unwatched.
    detached: process.platform !== 'win32',
    stdio: ['ignore', output, 'inherit'],
    env: environment,
  });
  if (!child.pid) throw new Error(`${words[0]} could not be started`);
  const group = process.platform === 'win32' ? child.pid : -child.pid;
  const sentry = whenWeDie('kill -s KILL -- "$1"; rm -rf "$2"', [`${group}`, scratch]);
  forward = (name) => {
    signal(group, name);
    setTimeout(() => signal(group, 'SIGKILL'), GRACE_MS).unref();
  };
  if (stopping) forward(stopping);
  child.once('exit', () => {
    signal(group, 'SIGKILL');
    sentry?.kill('SIGKILL');
  });
  return child;
}

/** Resolves with the exit code of a program, 128 + n where signal n ended it. */
function ended(child: ChildProcess): Promise<number> {
  return new Promise((resolve) => {
    const end = (exited: number | null, name: NodeJS.Signals | null) =>
      resolve(exited ?? 128 + (name ? constants.signals[name] : 0));
    // The last words arrive before `close`, unless a test file that was left behind keeps the output open.
    child.once('close', end);
    child.once('exit', (exited, name) => setTimeout(end, 500, exited, name));
  });
}

/** Runs one file again whenever it or what it imports changes, until Control-C. */
async function watch({ files: [file = ''] }: Options, environment: NodeJS.ProcessEnv): Promise<number> {
  const limit = `--import=${new URL('limit.ts', import.meta.url)}`;
  const grep = environment.USSD_TEST_GREP;
  const child = start(
    ['--watch', '--watch-preserve-output', limit, file],
    { ...environment, ...(grep !== undefined && { TAP_GREP: grep }) },
    'inherit',
  );
  return ended(child);
}

/** Runs the files, prints the faults, the slowest files and the counts. Returns the exit code. */
async function run(options: Options, environment: NodeJS.ProcessEnv): Promise<number> {
  const { files, jobs, long } = options;
  const began = performance.now();
  let { code, passed, failed, times, faulty } = await runFiles(files, jobs, options, environment);
  if (options.again && faulty.length > 0 && faulty.length <= MOST_AGAIN) {
    // On a shared machine somebody else's load may be the fault; what fails alone as well is ours.
    console.log(`# again, one after the other: ${faulty.join(' ')}`);
    const second = await runFiles(faulty, 1, options, environment);
    ({ code, failed, faulty } = second);
    passed += second.passed;
  }
  const none = passed + failed === 0;
  if (none) console.error('no test ran');
  if (files.length > SLOWEST || options.times) {
    const slowest = [...times].sort(([, a], [, b]) => b - a).slice(0, options.times ? times.size : SLOWEST);
    console.log(`# the slowest ${slowest.length} of ${times.size} files, in seconds`);
    for (const [file, ms] of slowest) console.log(`# ${(ms / 1000).toFixed(1).padStart(6)} ${file}`);
    const seconds = Math.round((performance.now() - began) / 1000);
    console.log(`# ${long ? 'npm run test:long' : 'npm test'}: ${seconds} s, ${jobs} files at a time`);
  }
  console.log(`${passed} passed, ${failed} failed`);
  return none ? 1 : code;
}

type Ran = { code: number; passed: number; failed: number; times: Map<string, number>; faulty: string[] };

async function runFiles(
  files: string[],
  jobs: number,
  { timeout }: Options,
  environment: NodeJS.ProcessEnv,
): Promise<Ran> {
  const program = join(import.meta.dirname, 'files.ts');
  const child = start([program, `${jobs}`, `${timeout}`, ...files], environment, 'pipe');
  const times = new Map<string, number>();
  const faulty: string[] = [];
  let summary = '';
  const show = shortened((line) => console.log(line));
  if (child.stdout) {
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (line.startsWith(SUMMARY)) summary = line;
      const [, not, file, ms] = /^(not )?ok \d+ - (\S+) # time=([\d.]+)ms/.exec(line) ?? [];
      if (file !== undefined) times.set(file, Number(ms));
      if (file !== undefined && not !== undefined) faulty.push(file);
      show(line);
    });
  }
  const code = await ended(child);
  const counts = count(summary);
  // An end that no assertion explains (a signal, an unreadable file) is a failure too.
  const failed = code === 0 ? counts.failed : Math.max(counts.failed, 1);
  return { code, passed: counts.passed, failed, times, faulty };
}

/** Passes a TAP report on without what passed inside a file: one line for a good file, the faults of a bad one. */
function shortened(show: (line: string) => void): (line: string) => void {
  let held: string[] = [];
  return (line) => {
    if (/^( |# Subtest|$)/.test(line)) {
      if (!/^ +(ok \d|\d+\.\.\d)/.test(line) && line.trim() !== '') held.push(line);
      return;
    }
    if (!line.startsWith('ok ')) for (const each of held) show(each);
    held = [];
    show(line);
  };
}

/** Reads the counts of assertions from the line that ends the report: `# { total: 4, pass: 3, fail: 1 }`. */
function count(summary: string): { passed: number; failed: number } {
  const read = (name: string) => Number(new RegExp(`\\b${name}: (\\d+)`).exec(summary)?.[1] ?? 0);
  return { passed: read('pass'), failed: read('fail') };
}
