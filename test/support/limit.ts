/** Loaded in front of every test file: no test runs for longer than a minute, and a file that hung ends. */
import t from 'tap';

/** A test that takes longer hangs; in milliseconds. The long tier allows more (test/support/run.ts). */
const TEST_MS = Number(process.env.USSD_TEST_LIMIT_MS ?? 60_000);
/** How long a file that failed may go on after its last test, for its teardown; in milliseconds. */
const AFTER_MS = 10_000;

// The file as a whole has no limit of its own here; its runner has one.
t.setTimeout(0);

let running = 0;
t.beforeEach((test) => {
  running += 1;
  test.setTimeout(TEST_MS);
});
t.afterEach(() => {
  running -= 1;
  // What a hung test left open (a timer, a socket) would keep the process until the runner's limit.
  setTimeout(() => {
    if (running === 0 && !t.passing()) process.exit(1);
  }, AFTER_MS).unref();
});
