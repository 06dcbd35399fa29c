/** A storm in which an instance stands still, is told to end, has a wrong clock, or loses Redis. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { checkAll } from '../../support/checker.ts';
import { temporaryDirectory } from '../../support/gateway.ts';
import { eventually } from '../../support/phone.ts';
import { freePort } from '../../support/postgres.ts';
import { answers, setStage, unleash } from '../../support/storm.ts';

t.setTimeout(600_000);

const SUBSCRIBERS = 25;
const DIALS = 5;
const HOUR_OFF = join(import.meta.dirname, '..', '..', 'support', 'hour-off.ts');
/** Who asks a process that is ending or gone. */
const GONE = /^(ECONNREFUSED|ECONNRESET|closed|truncated)$/;

t.test('an instance is stopped for twelve seconds beside a live one, and goes on', async (t) => {
  const stage = await setStage(t);
  const storm = await unleash(stage, SUBSCRIBERS, DIALS);
  await answers(storm, 100);
  stage.gateways[0]?.child.kill('SIGSTOP');
  await sleep(12_000);
  stage.gateways[0]?.child.kill('SIGCONT');
  stage.fake.chaos({});
  await checkAll(t, stage, storm, { losses: /^silent$/ });
});

t.test('both instances are told to end, one after the other', async (t) => {
  const stage = await setStage(t);
  // More dials than there is time for: the storm ends when both are back.
  const storm = await unleash(stage, SUBSCRIBERS, 8 * DIALS);
  for (const instance of [0, 1]) {
    await answers(storm, 100);
    t.equal(await stage.gateways[instance]?.stop(), 0, 'ends with 0');
    await stage.restart(instance);
  }
  storm.stop();
  stage.fake.chaos({});
  await checkAll(t, stage, storm, { losses: GONE });
});

t.test('the clock of one instance is an hour ahead', async (t) => {
  const stage = await setStage(t);
  await stage.gateways[0]?.kill();
  await stage.restart(0, { NODE_OPTIONS: `--import=${HOUR_OFF}` });
  const health = (await (await fetch(`${stage.urls[0]}/`)).json()) as { timestamp?: string };
  const ahead = Date.parse(health.timestamp ?? '') - Date.now();
  t.ok(ahead > 3_500_000, `its clock is ${Math.round(ahead / 1_000)} s ahead`);
  const storm = await unleash(stage, SUBSCRIBERS, DIALS);
  await storm.over;
  stage.fake.chaos({});
  await checkAll(t, stage, storm);
});

t.test('Redis is killed', async (t) => {
  const port = await freePort();
  const words = ['--port', `${port}`, '--save', '', '--dir', temporaryDirectory(t)];
  const redis = spawn('redis-server', words, { stdio: ['ignore', 'pipe', 'ignore'] });
  const gone = new Promise((resolve) => redis.once('exit', resolve));
  const missing = await Promise.race([
    new Promise<boolean>((resolve) => redis.once('error', () => resolve(true))),
    new Promise<boolean>((resolve) => redis.stdout.once('data', () => resolve(false))),
  ]);
  if (missing)
    return void t.pass('there is no redis-server on this machine: nothing was killed', { skip: true });
  t.teardown(async () => {
    redis.kill('SIGKILL');
    await gone;
  });
  const stage = await setStage(t, { settings: { REDIS_URL: `redis://127.0.0.1:${port}` } });
  const storm = await unleash(stage, SUBSCRIBERS, DIALS);
  await answers(storm, 100);
  redis.kill('SIGKILL');
  await eventually('the end of Redis', async () => redis.signalCode !== null);
  stage.fake.chaos({});
  await checkAll(t, stage, storm);
});
