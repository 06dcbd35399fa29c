/** A storm in which Postgres stands still, dies, has no places left, takes no writes, or is locked by a stranger. */
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import t, { type Test } from 'tap';
import { checkAll } from '../../support/checker.ts';
import type { Postgres } from '../../support/postgres.ts';
import { answers, ownServer, type Stage, setStage, stranger, unleash } from '../../support/storm.ts';

t.setTimeout(600_000);

const SUBSCRIBERS = 25;
const DIALS = 5;
const FAULT_MS = 8_000;

type Break = (stage: Stage, server: Postgres, t: Test) => Promise<void>;

/** One storm with its fault in the middle; no instance dies, so no request may be lost. */
function inAStorm(name: string, fault: Break, settings: Record<string, string> = {}): void {
  t.test(name, async (t) => {
    const server = await ownServer(t, settings);
    const stage = await setStage(t, { server });
    const storm = await unleash(stage, SUBSCRIBERS, DIALS);
    await answers(storm, 100);
    await fault(stage, server, t);
    const { status } = await fetch(`${stage.urls[0]}/`);
    t.equal(status, 200, 'the process lives');
    stage.fake.chaos({});
    await checkAll(t, stage, storm);
    t.ok(
      storm.history.some(({ outcome }) => outcome === 'unavailable'),
      'the fault was noticed',
    );
  });
}

inAStorm('Postgres is stopped for eight seconds', async (_stage, server) => {
  await server.pause();
  await sleep(FAULT_MS);
  await server.resume();
});

inAStorm('Postgres is killed, and started again', async (_stage, server) => {
  await server.kill();
  await sleep(2_000);
  await server.restart();
});

inAStorm(
  'a stranger takes every connection',
  async ({ url }, server, t) => {
    const admin = await stranger(t, server.url);
    const held: pg.Client[] = [];
    const end = performance.now() + FAULT_MS;
    while (performance.now() < end) {
      await admin.query(
        `select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'ussd-gateway%'`,
      );
      const client = new pg.Client({ connectionString: url });
      client.on('error', () => {});
      const taken = await client.connect().then(
        () => held.push(client) > 0,
        () => false,
      );
      if (!taken) await sleep(100);
    }
    t.ok(held.length > 10, `${held.length} connections were taken`);
    await Promise.all(held.map((client) => client.end()));
  },
  { max_connections: '40', superuser_reserved_connections: '0' },
);

inAStorm('the database takes no writes', async ({ url }, server, t) => {
  const admin = await stranger(t, server.url);
  const name = new URL(url).pathname.slice(1);
  const anew = `select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'ussd-gateway%'`;
  await admin.query(`alter database ${name} set default_transaction_read_only = on`);
  // It holds for connections that begin from now on.
  await admin.query(anew);
  await sleep(FAULT_MS);
  await admin.query(`alter database ${name} reset default_transaction_read_only`);
  await admin.query(anew);
});

inAStorm('a stranger locks tables and rows', async ({ url }, _server, t) => {
  const client = await stranger(t, url);
  await client.query('begin');
  // In the order in which we lock them: otherwise it may be the stranger whom a deadlock ends.
  await client.query('select 1 from ledger_accounts order by id for update');
  await sleep(4_000);
  await client.query('rollback');
  await client.query('begin');
  await client.query('lock table turns in access exclusive mode');
  await sleep(6_000);
  await client.query('rollback');
});
