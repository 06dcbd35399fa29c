/** The scale of `npm test`. */
const SMALL = 0.1;

/**
 * How much of its full size a property, a storm or a load has. `npm test` runs a tenth; `npm run test:long` and
 * `TEST_SCALE=1` run all of it, more than 1 runs longer (docs/testing.md).
 */
export const SCALE = scaleOf(process.env.TEST_SCALE);

function scaleOf(given: string | undefined): number {
  const scale = given === undefined ? SMALL : Number(given);
  if (!(scale > 0 && scale <= 1_000))
    throw new Error(`TEST_SCALE="${given}": a number above 0, at most 1000`);
  return scale;
}

/** Scales a number of runs, people or messages: `full` at scale 1, at least `least`. */
export function scaled(full: number, least = 1): number {
  return Math.max(least, Math.ceil(full * SCALE));
}

/**
 * Options of a test of the long tier only. A file that has no other reason to be in that tier runs only such tests
 * there; they are known by the words "embedded database" in their name (test/support/run.ts).
 */
export const LONG_TIER = SCALE < 1 ? { skip: 'only in npm run test:long' } : {};
