/** A request is answered within 5 s whatever the database does (docs/contract.md section 1). */
import pg from 'pg';
import t, { type Test } from 'tap';
import { ANSWER_MS as DEADLINE_MS } from '../src/gateways/screens.ts';
import { type Fields, type Gateway, post, type Reply, startGateway } from './support/gateway.ts';
import { inTime } from './support/in-time.ts';
import { database, type Postgres, startPostgres } from './support/postgres.ts';
import { scaled } from './support/scale.ts';

// Most of it is waiting, each on a database of its own.
t.jobs = 2;

/** The promise. */
const ANSWER_MS = 5_000;

const ROOT = 'CON Welcome to IXO USSD\n1. Know More\n2. Account Menu\n*. Exit';
const KNOW_MORE = 'CON Information Center\n1. About this service\n2. Pricing\n3. Delivery\n*. Exit';
const POLITE = {
  status: 200,
  outcome: 'unavailable',
  body: 'END Service temporarily unavailable. Please try again later.',
};

const wait = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

let names = 0;
function newSession(): string {
  names += 1;
  return `outage-${names}`;
}

/** One turn and how long it took, which is never longer than promised. */
async function timed(t: Test, gateway: Gateway, fields: Fields): Promise<Reply & { ms: number }> {
  const began = performance.now();
  const reply = await post(gateway.url, fields);
  const ms = performance.now() - began;
  inTime(t, ms, ANSWER_MS, `"${fields.text}"`);
  return { ...reply, ms };
}

/** Many turns at once: the slowest one, and how they ended. */
async function timedAll(t: Test, gateway: Gateway, all: Fields[]) {
  const replies = await Promise.all(all.map((fields) => timed(t, gateway, fields)));
  return { replies, slowest: Math.round(Math.max(...replies.map((reply) => reply.ms))) };
}

/** Forty turns at once, fewer in `npm test`: the gateway is in the same process. */
const forty = (text = '') =>
  Array.from({ length: scaled(40, 16) }, () => ({ sessionId: newSession(), text }));

/** Asks until the answer is a screen; fails where that takes longer than promised. */
async function answersAgain(t: Test, gateway: Gateway, fields: Fields, screen: string): Promise<void> {
  const began = performance.now();
  for (let tries = 1; ; tries += 1) {
    const reply = await timed(t, gateway, fields);
    const ms = Math.round(performance.now() - began);
    if (reply.outcome !== 'unavailable') {
      t.match(reply, { status: 200, body: screen }, `answers again after ${ms} ms and ${tries} tries`);
      inTime(t, ms, ANSWER_MS, 'the next screen');
      return;
    }
    if (ms > 60_000) return void t.fail(`no screen for ${ms} ms`);
    await wait(50);
  }
}

async function health(gateway: Gateway): Promise<{ status: number; database: string; ms: number }> {
  const began = performance.now();
  const response = await fetch(`${gateway.url}/health`);
  const body = (await response.json()) as { database: string };
  return { status: response.status, database: body.database, ms: performance.now() - began };
}

/** `/health` says so, as soon as its cached answer is over. */
async function healthBecomes(t: Test, gateway: Gateway, status: number, database: string): Promise<void> {
  const end = performance.now() + 60_000;
  for (;;) {
    const seen = await health(gateway);
    inTime(t, seen.ms, 2_000, '/health');
    if (seen.status === status || performance.now() > end) {
      t.match(seen, { status, database }, `/health is ${status}`);
      return;
    }
    await wait(50);
  }
}

async function lives(t: Test, gateway: Gateway): Promise<void> {
  const response = await fetch(gateway.url);
  t.equal(response.status, 200, '/ is 200');
}

type Stage = { url: string; gateway: Gateway };

/** A database, on `server` or on the one that all tests share, and one instance that has answered a turn. */
async function stage(t: Test, server?: Postgres): Promise<Stage> {
  const { url } = await database(t, server === undefined ? {} : { server: server.url });
  const gateway = await startGateway(t, { DATABASE_URL: url });
  t.match(await post(gateway.url, { sessionId: newSession() }), { outcome: 'ok', body: ROOT });
  return { url, gateway };
}

/** A server of our own, to be broken. */
async function ownServer(t: Test, settings: Record<string, string> = {}): Promise<Postgres> {
  const server = await startPostgres({ own: true, settings });
  t.teardown(() => server.stop());
  return server;
}

async function connect(t: Test, url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => {});
  await client.connect();
  t.teardown(() => client.end().catch(() => {}));
  return client;
}

t.test('a turn that ends at its deadline leaves time to say so', (t) => {
  t.ok(DEADLINE_MS <= ANSWER_MS - 500);
  t.end();
});

t.test('the database goes away and comes back', async (t) => {
  const server = await ownServer(t);
  const { gateway } = await stage(t, server);
  const away: [string, () => Promise<void>, () => Promise<void>][] = [
    ['killed', () => server.kill(), () => server.restart()],
    ['stopped by SIGSTOP', () => server.pause(), () => server.resume()],
  ];
  for (const [name, leave, comeBack] of away) {
    await t.test(name, async (t) => {
      const sessionId = newSession();
      t.match(await timed(t, gateway, { sessionId }), { body: ROOT });
      await leave();
      const [{ replies, slowest }, replay] = await Promise.all([
        timedAll(t, gateway, [{ sessionId, text: '1' }, ...forty()]),
        timed(t, gateway, { sessionId, text: '' }),
      ]);
      for (const reply of replies) if (reply.outcome !== 'unavailable') t.match(reply, POLITE);
      t.match(replies[0], POLITE, `the polite END, the slowest in ${slowest} ms`);
      t.match(replay, POLITE, 'a replay cannot be known');
      await healthBecomes(t, gateway, 503, 'disconnected');
      const later = await timed(t, gateway, { sessionId, text: '1' });
      t.match(later, POLITE, `still, in ${Math.round(later.ms)} ms`);
      await lives(t, gateway);

      await comeBack();
      await answersAgain(t, gateway, { sessionId, text: '1' }, KNOW_MORE);
      await healthBecomes(t, gateway, 200, 'connected');
      const after = await timedAll(t, gateway, forty());
      t.same([...new Set(after.replies.map((reply) => reply.body))], [ROOT], 'and so does everybody');
    });
  }
});

t.test('terminated connections are only replaced', async (t) => {
  const { url, gateway } = await stage(t);
  const admin = await connect(t, url);
  const terminate = async () => {
    const { rows } = await admin.query<{ count: number }>(`
      select count(pg_terminate_backend(pid))::int as count from pg_stat_activity
      where datname = current_database() and pid <> pg_backend_pid() and application_name like 'ussd-gateway%'`);
    return rows[0]?.count ?? 0;
  };
  for (const round of [1, 2, 3]) {
    const sessionId = newSession();
    t.match(await timed(t, gateway, { sessionId }), { body: ROOT });
    t.ok((await terminate()) > 0, `round ${round}: connections were terminated`);
    await answersAgain(t, gateway, { sessionId, text: '1' }, KNOW_MORE);
  }

  await t.test('while turns are under way', async (t) => {
    const sessions = forty();
    const asked = timedAll(t, gateway, sessions);
    await terminate();
    const { replies } = await asked;
    const odd = replies.filter((reply) => reply.body !== ROOT && reply.outcome !== 'unavailable');
    t.same(odd, [], 'a screen or the polite END');
    t.comment(
      `${replies.filter((reply) => reply.outcome === 'unavailable').length} of ${sessions.length} saw it`,
    );
    const again = await timedAll(t, gateway, sessions);
    t.same([...new Set(again.replies.map((reply) => reply.body))], [ROOT], 'the same text gives the screen');
  });
  await lives(t, gateway);
});

t.test("a stranger's open transaction", async (t) => {
  const { url, gateway } = await stage(t);
  const stranger = await connect(t, url);

  for (const end of ['rollback', 'commit']) {
    await t.test(`holds the key of one turn, until its ${end}`, async (t) => {
      const sessionId = newSession();
      await timed(t, gateway, { sessionId });
      const expected = await timed(t, gateway, { sessionId, text: '1' });
      // The row goes and comes back inside a transaction: its key is held, and nobody can see it.
      await stranger.query('create temp table held as select * from turns order by at desc limit 1');
      await stranger.query('delete from turns t using held h where t.address = h.address');
      await stranger.query('begin');
      await stranger.query('insert into turns select * from held');

      // A gateway that retries sends copies, and all of them wait: not at the cost of other sessions.
      const copies = Array.from({ length: 12 }, () => timed(t, gateway, { sessionId, text: '1' }));
      const { replies, slowest } = await timedAll(t, gateway, [...forty(), ...forty('2')]);
      t.same(
        replies.filter((reply) => reply.outcome !== 'ok'),
        [],
        'other sessions are answered',
      );
      inTime(t, slowest, 4_000, 'the slowest of the others');
      const blocked = await Promise.all(copies);
      const slowestCopy = Math.max(...blocked.map(({ ms }) => Math.round(ms)));
      for (const reply of blocked) t.match(reply, POLITE);
      inTime(t, slowestCopy, ANSWER_MS, 'those that are held are answered too');
      await stranger.query(end);
      await stranger.query('drop table held');
      t.match(
        await timed(t, gateway, { sessionId, text: '1' }),
        // A copy that was told to try again may have gone through since.
        { outcome: end === 'commit' ? 'replay' : /^(ok|replay)$/, body: expected.body },
        'and gets its screen when asked again',
      );
    });
  }

  await t.test('holds the whole table', async (t) => {
    const sessionId = newSession();
    await timed(t, gateway, { sessionId });
    await stranger.query('begin');
    await stranger.query('lock table turns in access exclusive mode');
    const { replies, slowest } = await timedAll(t, gateway, [
      { sessionId, text: '1' },
      ...forty(),
      ...forty('1'),
    ]);
    for (const reply of replies) if (reply.outcome !== 'unavailable') t.match(reply, POLITE);
    t.match(replies[0], POLITE, `the polite END, the slowest in ${slowest} ms`);
    await lives(t, gateway);
    await stranger.query('rollback');
    await answersAgain(t, gateway, { sessionId, text: '1' }, KNOW_MORE);
  });

  await t.test('holds the whole table for a second', async (t) => {
    await stranger.query('begin');
    await stranger.query('lock table turns in access exclusive mode');
    const asked = timedAll(
      t,
      gateway,
      Array.from({ length: 8 }, () => ({ sessionId: newSession() })),
    );
    await wait(1_000);
    await stranger.query('rollback');
    const { replies, slowest } = await asked;
    t.same([...new Set(replies.map((reply) => reply.body))], [ROOT], `it is waited for: ${slowest} ms`);
  });
});

t.test('a server that is out of connections', async (t) => {
  const { url, gateway } = await stage(
    t,
    await ownServer(t, { max_connections: '30', superuser_reserved_connections: '0' }),
  );
  const admin = await connect(t, url);
  const held: pg.Client[] = [];
  const ours = async () => {
    const { rows } = await admin.query<{ count: number }>(
      `select count(*)::int as count from pg_stat_activity where application_name like 'ussd-gateway%'`,
    );
    return rows[0]?.count ?? 0;
  };
  const sessionId = newSession();
  await timed(t, gateway, { sessionId });

  // Others take every place, also those from which the gateway is thrown out.
  const end = performance.now() + 15_000;
  for (let full = false; !full || (await ours()) > 0; ) {
    if (performance.now() > end) throw new Error('the places could not be taken');
    await admin.query(
      `select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'ussd-gateway%'`,
    );
    const client = new pg.Client({ connectionString: url });
    client.on('error', () => {});
    full = await client.connect().then(
      () => held.push(client) === 0,
      (error: { code?: string }) => error.code === '53300',
    );
  }
  t.comment(`others hold ${held.length} places`);
  const { replies, slowest } = await timedAll(t, gateway, [{ sessionId, text: '1' }, ...forty()]);
  t.same(
    replies.filter((reply) => reply.outcome !== 'unavailable'),
    [],
    `the polite END, the slowest in ${slowest} ms`,
  );
  t.match(replies[0], POLITE);
  await healthBecomes(t, gateway, 503, 'disconnected');
  await lives(t, gateway);
  await Promise.all(held.map((client) => client.end()));
  await answersAgain(t, gateway, { sessionId, text: '1' }, KNOW_MORE);
  await healthBecomes(t, gateway, 200, 'connected');
});
