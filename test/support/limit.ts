/** Loaded in front of every test file: no test runs for longer than a minute, and a file that hung ends. */
import t from 'tap';

/** A test that takes longer hangs; in milliseconds. The long tier allows more (test/support/run.ts). */
const TEST_MS = Number(process.env.USSD_TEST_LIMIT_MS ?? 60_000);
/** How long a file with a hung test may go on after its last test, for its teardown; in milliseconds. */
const AFTER_MS = 20_000;

// The file as a whole has no limit of its own here; its runner has one.
t.setTimeout(0);

/** How many tests have begun. */
let begun = 0;
let hung = false;
t.beforeEach((test) => {
  begun += 1;
  test.setTimeout(TEST_MS);
  test.on('timeout', () => {
    hung = true;
  });
});
t.afterEach(() => {
  if (!hung) return;
  const seen = begun;
  // What a hung test left open (a timer, a socket) would keep the process until the runner's limit.
  setTimeout(() => {
    if (begun === seen) process.exit(1);
  }, AFTER_MS).unref();
});
