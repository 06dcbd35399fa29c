/**
 * Whether an unknown Customer ID and a wrong PIN can be told apart by their times (issue 3): tries of both,
 * in turn, from one phone, through the wire, on a real Postgres. The counters are cleared in between, so that no
 * lock answers instead.
 *
 *     node bench/pin-timing.ts [tries=200]
 */

import { startGateway } from '../test/support/gateway.ts';
import { openAccount, phoneOn, queryOn } from '../test/support/phone.ts';
import { database } from '../test/support/postgres.ts';

const TRIES = Number(process.argv[2] ?? 200);
const WARM_UP = 20;
/** Nobody's: the alphabet is right, and 31^8 are too many to meet somebody. */
const UNKNOWN = 'C23456789';

type Times = Record<'unknown ID' | 'wrong PIN', number[]>;

async function measure(): Promise<Times> {
  const steps: (() => unknown)[] = [];
  const t = { teardown: (step: () => unknown) => void steps.unshift(step) } as unknown as Parameters<
    typeof startGateway
  >[0];
  try {
    const { url } = await database(t);
    const query = await queryOn(t, url);
    const gateway = await startGateway(t, { DATABASE_URL: url, LOG_LEVEL: 'info' });
    const phone = phoneOn(gateway.url);
    const id = await openAccount(phone);
    const times: Times = { 'unknown ID': [], 'wrong PIN': [] };
    const answers = new Set<string>();
    for (let n = -WARM_UP; n < TRIES; n += 1) {
      // Which of the two is first changes: what comes second may find a warmer machine.
      const kinds = n % 2 ? (['unknown ID', 'wrong PIN'] as const) : (['wrong PIN', 'unknown ID'] as const);
      for (const kind of kinds) {
        await query('delete from pin_counters');
        await phone.dial();
        await phone.type('2', '1', kind === 'wrong PIN' ? id : UNKNOWN);
        const began = performance.now();
        answers.add(await phone.type('60000'));
        if (n >= 0) times[kind].push(performance.now() - began);
      }
    }
    if (answers.size !== 1)
      throw new Error(`they are told apart by what they say: ${[...answers].join(' | ')}`);
    return times;
  } finally {
    for (const step of steps) await step();
  }
}

function quantile(values: number[], at: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(at * sorted.length))] ?? Number.NaN;
}

/** Mann–Whitney: how often a value of `a` is above one of `b` (0.5: no telling), and how unlikely that is. */
function mannWhitney(a: number[], b: number[]): { above: number; z: number; p: number } {
  let u = 0;
  for (const x of a) for (const y of b) u += x > y ? 1 : x === y ? 0.5 : 0;
  const pairs = a.length * b.length;
  const z = (u - pairs / 2) / Math.sqrt((pairs * (a.length + b.length + 1)) / 12);
  return { above: u / pairs, z, p: 2 * (1 - normal(Math.abs(z))) };
}

/** The normal distribution (Abramowitz and Stegun 26.2.17). */
function normal(z: number): number {
  const k = 1 / (1 + 0.2316419 * z);
  const tail = [1.330274429, -1.821255978, 1.781477937, -0.356563782, 0.31938153].reduce(
    (sum, c) => (sum + c) * k,
    0,
  );
  return 1 - (Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI)) * tail;
}

const times = await measure();
for (const [kind, values] of Object.entries(times)) {
  const at = [0.05, 0.25, 0.5, 0.75, 0.95].map((q) => `${quantile(values, q).toFixed(2)}`);
  console.log(`${kind}: ${values.length} tries, ms at 5, 25, 50, 75, 95 %: ${at.join('  ')}`);
}
const { above, z, p } = mannWhitney(times['wrong PIN'], times['unknown ID']);
console.log(
  `a wrong PIN takes longer in ${(above * 100).toFixed(1)} % of pairs (50: no telling); z ${z.toFixed(2)}, p ${p.toFixed(3)}`,
);
