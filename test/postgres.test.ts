import pg from 'pg';
import t from 'tap';
import { database, startPostgres } from './support/postgres.ts';

async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
  client.on('error', () => {});
  await client.connect();
  return client;
}

async function rows(url: string, sql: string): Promise<unknown[]> {
  const client = await connect(url);
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

t.test('a database of its own is created, answers, and is gone afterwards', async (t) => {
  const { url, drop } = await database(t);
  await rows(url, 'CREATE TABLE dials (text text)');
  await rows(url, `INSERT INTO dials VALUES ('*1234#')`);
  t.same(await rows(url, 'SELECT text FROM dials'), [{ text: '*1234#' }]);

  const open = await connect(url);
  await drop();
  await t.rejects(rows(url, 'SELECT 1'), { code: '3D000' }, 'dropped although a connection was open');
  await open.end().catch(() => {});
});

t.test('a server of our own can be killed, restarted, paused and resumed', async (t) => {
  const server = await startPostgres({ own: true, fsync: true, settings: { deadlock_timeout: '100ms' } });
  t.teardown(() => server.stop());
  const { url } = await database(t, { server: server.url });
  t.same(await rows(url, 'SHOW fsync'), [{ fsync: 'on' }]);
  t.same(await rows(url, 'SHOW deadlock_timeout'), [{ deadlock_timeout: '100ms' }]);
  await rows(url, 'CREATE TABLE turns (n int)');
  await rows(url, 'INSERT INTO turns VALUES (1)');

  const first = server.pid;
  await server.kill();
  t.equal(server.pid, undefined);
  await t.rejects(rows(url, 'SELECT 1'), { code: 'ECONNREFUSED' }, 'killed');
  await server.restart();
  t.not(server.pid, first);
  t.same(await rows(url, 'SELECT n FROM turns'), [{ n: 1 }], 'an acknowledged row outlives SIGKILL');

  const client = await connect(url);
  await server.pause();
  let answered = false;
  const answer = client.query('SELECT 1').finally(() => {
    answered = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 300));
  t.notOk(answered, 'a paused server says nothing');
  await server.resume();
  await answer;
  t.pass('and goes on where it was');
  await client.end();

  await server.pause();
  await server.kill();
  await server.restart();
  t.same(await rows(url, 'SELECT n FROM turns'), [{ n: 1 }], 'a paused server can be killed');

  await server.pause();
  await server.stop();
  await server.stop();
  await t.rejects(rows(url, 'SELECT 1'), { code: 'ECONNREFUSED' }, 'stopped, even from a pause');
});
