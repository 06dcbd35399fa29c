/**
 * The storm that every run of the tests has: two processes on one Postgres, one of them killed and started again,
 * connections terminated in between (docs/faults.md). The other faults are in test/faults/storm.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { checkAll } from '../support/checker.ts';
import { TRIED_SOON } from '../support/gateway.ts';
import { scaled } from '../support/scale.ts';
import { answers, setStage, unleash } from '../support/storm.ts';

const SUBSCRIBERS = scaled(40, 12);
/** More than there is time for: the storm ends when the faults are over. */
const DIALS = 40;

t.test('kill -9 of a process and lost connections, in a storm', async (t) => {
  const stage = await setStage(t, { serve: TRIED_SOON });
  const storm = await unleash(stage, SUBSCRIBERS, DIALS);
  await answers(storm, scaled(300, 60));
  await stage.gateways[0]?.kill();
  await stage.restart(0);
  for (const _ of [1, 2, 3]) {
    await answers(storm, scaled(100, 20));
    const terminated = await stage.rows(`
      select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and application_name like 'ussd-gateway%'`);
    t.ok(terminated.length > 0, `${terminated.length} connections were terminated`);
    await sleep(200);
  }
  storm.stop();
  await storm.over;
  stage.fake.chaos({});
  await checkAll(t, stage, storm, { losses: /^(ECONNREFUSED|ECONNRESET|closed|truncated)$/ });
});
