/** A storm in which the provider is slow, away, stands still, or says what is not so. */
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { checkAll } from '../../support/checker.ts';
import type { Asked, FakeOptions } from '../../support/fake-africastalking.ts';
import { eventually } from '../../support/phone.ts';
import { answers, type Stage, setStage, unleash } from '../../support/storm.ts';

t.setTimeout(600_000);

const SUBSCRIBERS = 25;
const DIALS = 5;
/** Longer than a call waits for its answer (8 s): what is done late, nobody hears of. */
const STILL_MS = 12_000;

const keyOf = ({ headers }: Asked) => headers['idempotency-key'];

/** No screen waits for a provider: no request may be lost, and nothing is unavailable. */
function withProvider(
  name: string,
  fake: FakeOptions,
  fault: (stage: Stage, t: Test) => Promise<void>,
): void {
  t.test(name, async (t) => {
    const stage = await setStage(t, { fake });
    const storm = await unleash(stage, SUBSCRIBERS, DIALS);
    await answers(storm, 100);
    await fault(stage, t);
    await storm.over;
    stage.fake.chaos({});
    await checkAll(t, stage, storm);
    t.notOk(
      storm.history.some(({ outcome }) => outcome === 'unavailable'),
      'no screen notices',
    );
  });
}

withProvider('it is slow', { chaos: {}, delayMs: [1_000, 3_000] }, async () => {});

withProvider('it is away, and comes back', { chaos: {} }, async ({ fake }) => {
  await fake.down();
  await sleep(5_000);
  await fake.up();
  await fake.down('503');
  await sleep(3_000);
  await fake.up();
});

withProvider('it stands still, and goes on', { chaos: {} }, async ({ fake }, t) => {
  await fake.down('still');
  const before = fake.requestCount;
  await sleep(STILL_MS);
  t.equal(fake.requestCount, before, 'nothing is done meanwhile');
  await fake.up();
  const twice = () => new Set(fake.requests.map(keyOf)).size < fake.requestCount;
  await eventually('a call that was given up and asked for again', async () => twice());
});

withProvider(
  'it lies: does what it says it did not, and says nothing, half or nonsense of what it did',
  { chaos: { fail: 0.1, drop: 0.2, twice: 0.2, malformed: 0.2, truncated: 0.2 } },
  async () => {},
);
