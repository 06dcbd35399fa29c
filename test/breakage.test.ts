/** What breaks at the edges is nobody else's trouble: connections that go away, rows that do not open. */
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import t from 'tap';
import { DEFAULTS, post, startGateway } from './support/gateway.ts';
import { database } from './support/postgres.ts';
import { scaled } from './support/scale.ts';

t.test('a caller that is gone before it is answered is no fault of ours', async (t) => {
  const { url } = await database(t);
  const gateway = await startGateway(t, { DATABASE_URL: url });
  const body = JSON.stringify({ ...DEFAULTS, sessionId: 'gone' });
  const request = `POST /api/ussd HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  await Promise.all(
    Array.from({ length: scaled(200, 40) }, async () => {
      const socket = connect(gateway.port, '127.0.0.1');
      socket.on('error', () => {});
      await new Promise((resolve) => socket.once('connect', resolve));
      socket.write(request.repeat(5), () => socket.resetAndDestroy());
      await new Promise((resolve) => socket.once('close', resolve));
    }),
  );
  await sleep(200);
  t.equal((await post(gateway.url, { sessionId: 'still-here' })).outcome, 'ok');
  t.notMatch(gateway.output(), /TypeError/, 'nothing is thrown');
  t.notMatch(gateway.output(), /a turn failed/, 'and no turn is said to have failed');
});

t.test('a row that does not open takes down its own session only', async (t) => {
  const { url } = await database(t);
  const gateway = await startGateway(t, { DATABASE_URL: url });
  await post(gateway.url, { sessionId: 'good' });
  await post(gateway.url, { sessionId: 'broken' });
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query(
    `update turns set sealed = set_byte(sealed, 39, get_byte(sealed, 39) # 1) where at = (select max(at) from turns)`,
  );
  await client.end();
  const get = async (path: string) => {
    const response = await fetch(gateway.url + path);
    return { status: response.status, body: (await response.json()) as unknown };
  };
  t.same((await get('/api/ussd/sessions')).body, { activeSessions: ['good'], count: 2 });
  t.equal((await get('/api/ussd/debug/good')).status, 200);
  t.same(await get('/api/ussd/debug/broken'), { status: 404, body: { error: 'Session not found' } });
  const again = await post(gateway.url, { sessionId: 'broken' });
  t.match(again, { status: 200, outcome: 'unavailable' }, 'its own turns are answered politely');
  // Another instance knows it by its row only; this one has taken it a moment ago.
  const other = await startGateway(t, { DATABASE_URL: url });
  const reply = await post(other.url, { sessionId: 'broken', text: '1' });
  t.match(reply, { status: 200, outcome: 'unavailable' });
  t.equal((await post(gateway.url, { sessionId: 'good', text: '1' })).outcome, 'ok');
});
