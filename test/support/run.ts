/**
 * `npm test`: one Postgres for all test files, then tap, then one line that a machine can read.
 * Further words go to tap: `npm test -- test/turn.test.ts --reporter=base`.
 */
import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { startQueue } from '../../src/queue.ts';
import { MIGRATIONS } from '../../src/serve.ts';
import { openPostgres } from '../../src/store/database.ts';
import { migrateServer } from '../../src/store/migrate.ts';
import { makeTemplate, type Postgres, signal, startPostgres, whenWeDie } from './postgres.ts';

/** How long tap may take to end after a signal. */
const GRACE_MS = 10_000;
/** How the line with the counts begins. */
const SUMMARY = '# { total:';

const root = join(import.meta.dirname, '..', '..');
const SCRATCH = 'ussd-tests-';
removeLeftovers();
/** Everything temporary of this run is below it, also what a test file leaves that is killed. */
const scratch = mkdtempSync(join(tmpdir(), `${SCRATCH}${process.pid}-`));
// Postgres runs under another account than root's and has to get to its files.
chmodSync(scratch, 0o711);
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
  const run = `${process.pid}`;
  const template = await makeTemplate(server.url, run, prepare);
  try {
    process.exitCode = stopping ? 1 : await runTap(server.url, template.name, process.argv.slice(2));
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
  for (const name of readdirSync(tmpdir())) {
    const pid = new RegExp(`^${SCRATCH}(\\d+)-`).exec(name)?.[1];
    if (pid !== undefined && !signal(Number(pid), 0 as unknown as NodeJS.Signals))
      rmSync(join(tmpdir(), name), { recursive: true, force: true });
  }
}

async function runTap(url: string, template: string, words: string[]): Promise<number> {
  const chosen = words.some((word) => /^(-R|--reporter)/.test(word));
  // Away from a terminal tap prints every assertion, and its other reporters draw over their own lines or,
  // where CI is set, lose their last page after a timeout (tap 21.8). So: its plain report, shortened here.
  const quiet = !process.stdout.isTTY && !chosen;
  const report = join(scratch, 'report.tap');
  const options = [quiet ? '--reporter=tap' : `--output-file=${report}`, ...words];
  const child = spawn(process.execPath, [join(root, 'node_modules', '.bin', 'tap'), ...options], {
    cwd: root,
    // A group of its own: tap ends at a signal without its test files, and those would go on unwatched.
    detached: process.platform !== 'win32',
    stdio: ['inherit', quiet ? 'pipe' : 'inherit', 'inherit'],
    env: {
      ...process.env,
      TMPDIR: scratch,
      // What one test file or process has compiled the next one need not: a second of CPU each.
      NODE_COMPILE_CACHE: join(scratch, 'compiled'),
      USSD_TEST_SERVER: url,
      USSD_TEST_TEMPLATE: template,
      USSD_TEST_RUN: `${process.pid}`,
    },
  });
  const { pid } = child;
  if (!pid) throw await new Promise((resolve) => child.once('error', resolve));
  const group = process.platform === 'win32' ? pid : -pid;
  const sentry = whenWeDie('kill -s KILL -- "$1"; rm -rf "$2"', [`${group}`, scratch]);
  let summary = '';
  if (child.stdout) {
    const show = shortened((line) => console.log(line));
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (line.startsWith(SUMMARY)) summary = line;
      show(line);
    });
  }
  forward = (name) => {
    signal(group, name);
    setTimeout(() => signal(group, 'SIGKILL'), GRACE_MS).unref();
  };
  if (stopping) forward(stopping);
  const code = await new Promise<number>((resolve) => {
    const end = (exited: number | null, name: NodeJS.Signals | null) =>
      resolve(exited ?? 128 + (name ? constants.signals[name] : 0));
    // The last words arrive before `close`, unless a test file that tap left behind keeps its output open.
    child.once('close', end);
    child.once('exit', (exited, name) => setTimeout(end, 500, exited, name));
  });
  signal(group, 'SIGKILL');
  sentry?.kill('SIGKILL');
  const counts = count(quiet ? summary : lastSummary(report));
  // An end that no assertion explains (a signal, an unreadable configuration) is a failure too.
  const failed = code === 0 ? counts.failed : Math.max(counts.failed, 1);
  const none = counts.passed + failed === 0;
  if (none) console.error('tap ran no test');
  console.log(`${counts.passed} passed, ${failed} failed`);
  return none ? 1 : code;
}

/** Passes on a report of tap without what passed inside a file: one line for a good file, the faults of a bad one. */
function shortened(show: (line: string) => void): (line: string) => void {
  let held: string[] = [];
  return (line) => {
    if (/^( |# Subtest|$)/.test(line)) {
      if (!/^ +(ok \d|\d+\.\.\d)/.test(line)) held.push(line);
      return;
    }
    if (!line.startsWith('ok ')) for (const each of held) show(each);
    held = [];
    show(line);
  };
}

function lastSummary(report: string): string {
  if (!existsSync(report)) return '';
  const lines = readFileSync(report, 'utf8').split('\n');
  return lines.findLast((line) => line.startsWith(SUMMARY)) ?? '';
}

/** Assertions, from the line that ends tap's report: `# { total: 4, pass: 3, fail: 1 }`. */
function count(summary: string): { passed: number; failed: number } {
  const read = (name: string) => Number(new RegExp(`\\b${name}: (\\d+)`).exec(summary)?.[1] ?? 0);
  return { passed: read('pass'), failed: read('fail') };
}
