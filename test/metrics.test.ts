/** What operators count beside turns and screens: how old the outbox is, why turns failed, what PINs came to. */
import { connect } from 'node:net';
import { fastify } from 'fastify';
import { sql } from 'kysely';
import t, { type Test } from 'tap';
import { makeMetrics } from '../src/operator/metrics.ts';
import { countDeliveries } from '../src/store/outbox.ts';
import { openDatabase } from './support/engine.ts';
import { DEFAULTS, type Gateway, post, startGateway } from './support/gateway.ts';
import { eventually, freshNumber, logIn, openAccount, PIN, phoneOn, queryOn } from './support/phone.ts';
import { database, startPostgres } from './support/postgres.ts';

const UNAVAILABLE = 'END Service temporarily unavailable. Please try again later.';
const LOCKED = 'END Too many tries. Please try again later or ask support.';
const REASONS = ['shed', 'deadline', 'database_away', 'contested', 'pins_busy', 'other'];

async function metricsOf(gateway: Gateway): Promise<string> {
  return (await fetch(`${gateway.url}/metrics`)).text();
}

/** The values of one metric by one of its labels, summed over the others. */
function valuesOf(metrics: string, name: string, label: string): Record<string, number> {
  const values: Record<string, number> = {};
  for (const [, labels = '', value] of metrics.matchAll(new RegExp(`^${name}\\{(.*)\\} (\\S+)$`, 'gm'))) {
    const key = new RegExp(`${label}="([^"]*)"`).exec(labels)?.[1] ?? '';
    values[key] = (values[key] ?? 0) + Number(value);
  }
  return values;
}

/** The reasons that have been counted. Every one has a number, and together they are the turns that failed. */
async function reasonsOf(t: Test, gateway: Gateway): Promise<Record<string, number>> {
  const metrics = await metricsOf(gateway);
  const reasons = valuesOf(metrics, 'ussd_unavailable_total', 'reason');
  t.same(Object.keys(reasons).toSorted(), REASONS.toSorted(), 'every reason, and none besides');
  const { unavailable = 0 } = valuesOf(metrics, 'ussd_turns_total', 'outcome');
  const sum = Object.values(reasons).reduce((some, count) => some + count, 0);
  t.equal(sum, unavailable, 'as many as there were turns');
  return Object.fromEntries(Object.entries(reasons).filter(([, count]) => count > 0));
}

t.test('how long the oldest delivery of each kind has waited', async (t) => {
  const { db, url } = await openDatabase(t);
  const query = await queryOn(t, url);
  let asked = 0;
  const { routes } = makeMetrics({
    guard: () => async () => undefined,
    activeSessions: async () => 0,
    deliveries: () => {
      asked += 1;
      return countDeliveries(db.kysely);
    },
    tasks: async () => [],
    connections: () => ({ total: 0, idle: 0, waiting: 0 }),
    services: () => [],
    pinChecks: () => new Map(),
  });
  const app = fastify();
  await app.register(routes);
  t.teardown(() => app.close());
  const address = await app.listen({ host: '127.0.0.1', port: 0 });
  const scrape = async () => (await fetch(`${address}/metrics`)).text();
  const ages = async () => valuesOf(await scrape(), 'ussd_outbox_oldest_seconds', 'kind');

  t.same(await ages(), {}, 'nothing waits');
  await query(`insert into outbox (id, kind, state, attempts, queued_at, tried_at, ended_at)
    select gen_random_uuid(), kind, state, attempts, now() - age * interval '1 second', tried, ended
    from (values
      ('sms', 'queued', 3, 600, now(), null::timestamptz),
      ('sms', 'queued', 0, 10, null, null),
      ('sms', 'dead', 451, 90000, now(), now()),
      ('airtime', 'queued', 0, 5, null, null),
      ('trade', 'done', 1, 7000, now(), now()),
      ('task', 'refused', 1, 7000, now(), now())) as rows (kind, state, attempts, age, tried, ended)`);
  asked = 0;
  const { sms = 0, airtime = 0, ...others } = await ages();
  t.equal(asked, 1, 'one question a scrape');
  t.ok(sms >= 600 && sms < 3_600, `${sms} s: from when it was first queued, however often it was tried`);
  t.ok(airtime >= 5 && airtime < 600, `${airtime} s`);
  t.same(others, {}, 'what has ended does not wait');
  t.match(await scrape(), /^ussd_outbox\{kind="sms",state="queued"\} 2$/m, 'and they are counted as before');

  await query(`update outbox set state = 'done', ended_at = now() where kind = 'sms' and state = 'queued'`);
  t.same(Object.keys(await ages()), ['airtime'], 'nor what has been delivered since');
  await query('alter table outbox rename to away');
  t.same(await ages(), {}, 'no number where it cannot be asked');
  await query('alter table away rename to outbox');
  t.same(Object.keys(await ages()), ['airtime'], 'and again one where it can');
});

t.test('why turns were answered that the service is unavailable', async (t) => {
  await t.test('the database hangs, and more comes than can wait', async (t) => {
    const server = await startPostgres({ own: true });
    t.teardown(() => server.stop());
    const { url } = await database(t, { server: server.url });
    const gateway = await startGateway(t, { DATABASE_URL: url, LOG_LEVEL: 'info' }, { mostWaiting: 50 });
    t.match(await post(gateway.url, {}), { outcome: 'ok' });
    t.same(await reasonsOf(t, gateway), {});
    await server.pause();
    const answers = await flood(gateway, 440);
    await server.resume();
    t.same(answers, { unavailable: 440 });
    const reasons = await reasonsOf(t, gateway);
    const { shed = 0, deadline = 0, database_away: away = 0, ...others } = reasons;
    t.ok(shed > 0, `${shed} were turned away at once`);
    // Which of the two limits ends a turn that waits depends on when its batch was sent.
    t.ok(deadline + away > 0, JSON.stringify(reasons));
    t.same(others, {});
    t.ok(
      /"outcome":"unavailable",.*"reason":"shed",.*"msg":"turn"/.test(gateway.output()),
      'the log says it',
    );
    await server.kill();
    t.match(await post(gateway.url, {}), { outcome: 'unavailable' });
    const { database_away: gone = 0 } = await reasonsOf(t, gateway);
    t.equal(gone, away + 1, 'nobody there at all');
  });

  await t.test('more PINs at once than can be checked', async (t) => {
    const { url } = await database(t);
    const gateway = await startGateway(t, { DATABASE_URL: url });
    const phones = Array.from({ length: 120 }, () => phoneOn(gateway.url, freshNumber()));
    await Promise.all(phones.map((phone) => phone.dial().then(() => phone.type('2*1*CABCDEFGH'))));
    const replies = await Promise.all(phones.map((phone) => phone.type(PIN)));
    const failed = replies.filter((body) => body === UNAVAILABLE).length;
    // On a busy machine those that are let in may be too late.
    const { pins_busy: busy = 0, deadline: late = 0 } = await reasonsOf(t, gateway);
    t.ok(busy > 0, `${busy} of 120 were turned away`);
    t.equal(busy + late, failed);
  });

  await t.test('a race that does not end, and what nobody thought of', async (t) => {
    const { url } = await database(t);
    const gateway = await startGateway(t, { DATABASE_URL: url });
    const query = await queryOn(t, url);
    // Whoever inserts a turn is told that somebody was first, and nobody is there.
    await query(`create function never() returns trigger language plpgsql as 'begin return null; end'`);
    await query('create trigger never before insert on turns for each row execute function never()');
    t.match(await post(gateway.url, { sessionId: 'contested' }), { body: UNAVAILABLE });
    t.same(await reasonsOf(t, gateway), { contested: 1 });
    const told = await fetch(`${gateway.url}/v1/ussd/session`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ customerId: 'one' }),
    });
    t.equal(told.status, 503);
    t.same(await reasonsOf(t, gateway), { contested: 2 }, 'on JSON routes too');
    await query('drop trigger never on turns');

    const phone = phoneOn(gateway.url);
    await phone.dial();
    await phone.type('2*1*CABCDEFGH');
    await query('alter table pin_counters rename to away');
    t.equal(await phone.type(PIN), UNAVAILABLE);
    t.same(await reasonsOf(t, gateway), { contested: 2, other: 1 });
  });
});

t.test('what checks of PINs came to', async (t) => {
  const { url } = await database(t);
  const gateway = await startGateway(t, { DATABASE_URL: url });
  const checks = async () => valuesOf(await metricsOf(gateway), 'ussd_pin_checks_total', 'verdict');
  const none = { right: 0, change: 0, link: 0, linkAndChange: 0, wrong: 0, locked: 0, malformed: 0 };
  t.strictSame(await checks(), none, 'all of them are there from the start');
  const phone = phoneOn(gateway.url);
  const id = await openAccount(phone);
  t.strictSame(await checks(), none, 'new PINs are none of them');
  await logIn(phone, id);
  t.strictSame(await checks(), { ...none, right: 1 });
  await post(gateway.url, phone.session);
  t.strictSame(await checks(), { ...none, right: 1 }, 'a repeat is not checked');
  await logIn(phone, id, 'not a PIN');
  t.strictSame(await checks(), { ...none, right: 1, malformed: 1 });
  for (const pin of ['60000', '60007', '60014']) await logIn(phone, id, pin);
  t.equal(await logIn(phone, id), LOCKED);
  t.strictSame(await checks(), { ...none, right: 1, malformed: 1, wrong: 3, locked: 1 });
});

t.test('who waits for a connection', async (t) => {
  const { url } = await database(t);
  const gateway = await startGateway(t, { DATABASE_URL: url });
  const waiting = async () =>
    valuesOf(await metricsOf(gateway), 'ussd_database_connections', 'state').waiting;
  for (const scrape of [1, 2, 3, 4]) t.equal(await waiting(), 0, `nobody, also not scrape ${scrape} itself`);

  const { db } = await openDatabase(t);
  const slow = Array.from({ length: 10 }, () => sql`select pg_sleep(0.5)`.execute(db.kysely));
  await eventually('those who find every connection taken', async () => db.connections().waiting > 0);
  await Promise.all(slow);
  t.equal(db.connections().waiting, 0);
});

/**
 * Dials so often at once, on few sockets, each request sent before the ones before it are answered; returns how the
 * turns went.
 */
async function flood({ port }: Gateway, count: number): Promise<Record<string, number>> {
  const SOCKETS = 44;
  const outcomes: Record<string, number> = {};
  const each = Array.from({ length: SOCKETS }, async (_, at) => {
    const socket = connect(port, '127.0.0.1');
    let heard = '';
    socket.on('data', (chunk: Buffer) => {
      heard += chunk.toString();
    });
    const wanted = count / SOCKETS;
    const requests = Array.from({ length: wanted }, (_, i) => {
      const body = JSON.stringify({ ...DEFAULTS, sessionId: `flood-${at}-${i}` });
      return `POST /api/ussd HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
    });
    socket.write(requests.join(''));
    const said = () => [...heard.matchAll(/^x-ussd-outcome: (\w+)/gm)];
    await eventually(`${wanted} answers`, async () => said().length === wanted, 60_000);
    socket.destroy();
    for (const [, outcome = ''] of said()) outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
  });
  await Promise.all(each);
  return outcomes;
}
