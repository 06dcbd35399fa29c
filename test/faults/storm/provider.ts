/** A storm in which the provider is slow, away, or says what is not so. */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { checkAll } from '../../support/checker.ts';
import type { FakeOptions } from '../../support/fake-africastalking.ts';
import { answers, type Stage, setStage, unleash } from '../../support/storm.ts';

t.setTimeout(600_000);

const SUBSCRIBERS = 25;
const DIALS = 5;

/** No screen waits for a provider: no request may be lost, and nothing is unavailable. */
function withProvider(name: string, fake: FakeOptions, fault: (stage: Stage) => Promise<void>): void {
  t.test(name, async (t) => {
    const stage = await setStage(t, { fake });
    const storm = await unleash(stage, SUBSCRIBERS, DIALS);
    await answers(storm, 100);
    await fault(stage);
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

withProvider(
  'it lies: does what it says it did not, and says nothing, half or nonsense of what it did',
  { chaos: { fail: 0.1, drop: 0.2, twice: 0.2, malformed: 0.2, truncated: 0.2 } },
  async () => {},
);
