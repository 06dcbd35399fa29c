/** Loaded in front of every test file: no test runs for longer than a minute, and a file that hung ends. */
import { pathToFileURL } from 'node:url';
import t from 'tap';

/** A test that takes longer hangs; in milliseconds. The long tier allows more (test/support/run.ts). */
const TEST_MS = Number(process.env.USSD_TEST_LIMIT_MS ?? 60_000);
/** A file that takes longer hangs; in milliseconds. */
const FILE_MS = Number(process.env.USSD_FILE_LIMIT_MS ?? 240_000);
/** How long a file may have nothing to do before it ends; in milliseconds. */
const IDLE_MS = 4_000;

// The file has a limit of its own: what is still running then is told, and the process ends.
t.setTimeout(0);
setTimeout(() => {
  t.fail(`the file has not ended after ${FILE_MS} ms`);
  process.exit(1);
}, FILE_MS).unref();

const running = new Set<object>();
/** Whether every test of the file has been declared: its module has been evaluated to the end. */
let declared = false;
setImmediate(() => {
  const file = pathToFileURL(process.argv[1] ?? '').href;
  // The same module that Node runs as the main one, not a second copy. What it throws is told by Node itself.
  import(file).then(
    () => {
      declared = true;
    },
    () => {},
  );
});
let idleSince: number | undefined;
t.beforeEach((test) => {
  running.add(test);
  test.setTimeout(TEST_MS);
  // A test of tests has the time of all of them: each of those has a limit, and is told by its own name.
  if (test.parent !== undefined && test.parent !== t) test.parent.setTimeout(FILE_MS);
  // Of a test that ran into its limit tap tells nothing here.
  setTimeout(() => running.delete(test), TEST_MS + 1_000).unref();
});
t.afterEach((test) => {
  running.delete(test);
});

/**
 * Ends the file when no test runs and nothing but timers is left. A closed PGlite keeps one of Postgres' own (its
 * statistics, every 10 s) for ever, and so may a test that hung; without this they would keep the process.
 */
setInterval(() => {
  // The pipes are the standard streams; pipes to another program come with its process.
  const timersOnly = process
    .getActiveResourcesInfo()
    .every((kind) => /^(Timeout|PipeWrap|TTYWrap)$/.test(kind));
  if (!declared || running.size > 0 || !timersOnly) {
    idleSince = undefined;
    return;
  }
  idleSince ??= performance.now();
  if (performance.now() - idleSince < IDLE_MS) return;
  t.end();
  process.exit(t.passing() ? 0 : 1);
}, 500).unref();
