import { execFile } from 'node:child_process';
import { existsSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import pg from 'pg';
import { type Test, test } from 'tap';
import { report } from '../src/checkup.ts';
import { readConfig } from '../src/config.ts';
import { inWords } from '../src/in-words.ts';
import { startQueue } from '../src/queue.ts';
import { MIGRATIONS } from '../src/serve.ts';
import { embeddedDirectory } from './support/embedded.ts';
import { openDatabase } from './support/engine.ts';
import { environment, shippedMenus, startGateway, TEST_KEY, temporaryDirectory } from './support/gateway.ts';
import { inTime } from './support/in-time.ts';
import { queryOn } from './support/phone.ts';
import { database, freePort, startPostgres } from './support/postgres.ts';

const MAIN = join(import.meta.dirname, '..', 'src', 'main.ts');
const HOUR_OFF = join(import.meta.dirname, 'support', 'hour-off.ts');
const OTHER_KEY = 'k1:fedcba9876543210fedcba9876543210';

type Ran = { code: number; said: string; took: number };

/** A busy machine makes the database slow, which the doctor warns of: not what a test of the others is about. */
const unhurried = (said: string) =>
  said.replace(/^warn( +database +\S.* answers in [\d.]+ ms)\n +-> put it nearer.*$/m, 'ok  $1');

/** What `npm run doctor` says, inside this process; `databaseMs` is for a test with a database that hangs. */
async function doctor(settings: Record<string, string>, databaseMs?: number): Promise<Ran> {
  const began = performance.now();
  const services = shippedMenus().map((menu) => menu.service);
  const read = () => ({
    ...readConfig(environment({ PIN_ENCRYPTION_KEY: TEST_KEY, ...settings }), services),
    settings: [],
  });
  const ran = await report({ read, inWords, migrations: MIGRATIONS }, databaseMs);
  return { ...ran, said: unhurried(ran.said), took: performance.now() - began };
}

/** `npm run doctor` as a process of its own; `node` is said to node itself. */
function program(settings: Record<string, string>, node: string[] = []): Promise<Ran> {
  const began = performance.now();
  const env = environment({ PIN_ENCRYPTION_KEY: TEST_KEY, ...settings });
  return new Promise((resolve) => {
    execFile(process.execPath, [...node, MAIN, 'doctor'], { env }, (error, stdout, stderr) =>
      resolve({
        code: Number(error?.code ?? 0),
        said: unhurried(stdout + stderr),
        took: performance.now() - began,
      }),
    );
  });
}

test('beside a running gateway all is well, twice, and nothing is changed', async (t) => {
  const { url } = await database(t);
  await startGateway(t, { DATABASE_URL: url });
  for (let time = 1; time <= 2; time += 1) {
    const run = time === 1 ? program : doctor;
    const { code, said } = await run({ DATABASE_URL: url });
    t.equal(code, 0, said);
    t.notMatch(said, /^(FAIL|warn)/m);
    for (const name of [
      'configuration',
      'database',
      'clock',
      'rights',
      'migrations',
      'keys',
      'partitions',
      'housekeeping',
      'queue',
    ])
      t.match(said, new RegExp(`^ok +${name} `, 'm'));
    t.notMatch(said, /0123456789abcdef/, 'no key is printed');
  }
});

test('what fails is said with a remedy, and the exit code is 1', async (t) => {
  const { url } = await database(t, { empty: true });
  const query = await queryOn(t, url);

  await t.test('an empty database', async (t) => {
    const { code, said } = await doctor({ DATABASE_URL: url });
    t.equal(code, 1);
    t.match(said, /^FAIL +migrations +missing: 0001-turns, .*\n +-> npm run migrate$/m);
    t.same(await query(`select 1 from information_schema.tables where table_schema = 'public'`), []);
  });

  await startGateway(t, { DATABASE_URL: url });

  await t.test('a role that owns nothing', async (t) => {
    const [{ name, owner } = { name: '', owner: '' }] = await query<{ name: string; owner: string }>(
      'select current_database() as name, quote_ident(current_user) as owner',
    );
    const role = `reader_of_${name}`;
    await query(`create role ${role} login password 'hush'`);
    t.teardown(() => query(`drop role ${role}`));
    const reader = new URL(url);
    [reader.username, reader.password] = [role, 'hush'];
    const { code, said } = await doctor({ DATABASE_URL: reader.href });
    t.equal(code, 1);
    t.match(said, `a superuser has to run: grant ${owner} to ${role}`);
  });

  await t.test('another key', async (t) => {
    const { code, said } = await doctor({ DATABASE_URL: url, PIN_ENCRYPTION_KEY: OTHER_KEY });
    t.equal(code, 1);
    t.match(said, /^FAIL +keys +PIN_ENCRYPTION_KEY has another key .*\n +-> set PIN_ENCRYPTION_KEY/m);
  });

  await t.test('a database that is newer, and a week that is missing', async (t) => {
    await query(`insert into kysely_migration (name, timestamp) values ('9999-later', 'now')`);
    const [last] = await query<{ name: string }>(
      `select max(inhrelid::regclass::text) as name from pg_inherits where inhparent = 'turns'::regclass`,
    );
    await query(`drop table ${last?.name}`);
    const { code, said } = await doctor({
      DATABASE_URL: url,
      REDIS_URL: `redis://127.0.0.1:${await freePort()}`,
    });
    t.equal(code, 1);
    t.match(said, /^FAIL +migrations +the database is newer than this code: 9999-later$/m);
    t.match(said, new RegExp(`^warn +partitions +of turns are missing: ${last?.name}$`, 'm'));
    t.match(said, /^warn +redis +does not answer$/m);
  });

  await t.test('a configuration that is wrong', async (t) => {
    const { code, said } = await doctor({ DATABASE_URL: url, PORT: 'none' });
    t.equal(code, 1);
    t.match(said, /^FAIL +configuration +PORT: must be a whole number/m);
  });
});

test('a database that is away or hangs is told of in time', async (t) => {
  const gone = await doctor({ DATABASE_URL: `postgres://ussd@127.0.0.1:${await freePort()}/ussd` });
  t.equal(gone.code, 1);
  t.match(gone.said, /^FAIL +database +cannot be asked \(ECONNREFUSED\)\n +-> start it/m);
  const server = await startPostgres({ own: true });
  t.teardown(() => server.stop());
  await server.pause();
  const hung = await doctor({ DATABASE_URL: server.url }, 500);
  t.equal(hung.code, 1);
  t.match(hung.said, /^FAIL +database /m);
  inTime(t, hung.took, 60_000, 'a database that hangs');
});

/** One warning and nothing worse: what is named is said so, everything else is well. */
function warnsOnly(t: Test, { code, said }: Ran, name: string, words: RegExp, remedy: RegExp): void {
  t.equal(code, 0, 'a warning fails nothing');
  t.same(
    said.match(/^(warn|FAIL) +\w+/gm)?.map((start) => start.replace(/ +/, ' ')),
    [`warn ${name}`],
    said,
  );
  const [line = '', next = ''] = said.slice(said.indexOf('\nwarn') + 1).split('\n');
  t.match(line, words);
  t.match(next, remedy);
}

test('what is not well yet nothing fails: a warning each, with a remedy', async (t) => {
  const { url } = await database(t);
  const gateway = await startGateway(t, { DATABASE_URL: url });

  await t.test('a clock that is an hour off', async (t) => {
    const ran = await program({ DATABASE_URL: url }, [`--import=${HOUR_OFF}`]);
    warnsOnly(t, ran, 'clock', /the database is 3(600|599)\.\d s behind$/, /-> keep both machines by NTP$/);
  });

  await t.test('a Redis that is not there, and one that takes the call and says nothing', async (t) => {
    const sockets: Socket[] = [];
    const silent = createServer((socket) => void sockets.push(socket));
    const listening = Promise.withResolvers<void>();
    silent.listen(0, '127.0.0.1', listening.resolve);
    await listening.promise;
    t.teardown(() => {
      for (const socket of sockets) socket.destroy();
      silent.close();
    });
    for (const port of [await freePort(), (silent.address() as { port: number }).port]) {
      const ran = await doctor({ DATABASE_URL: url, REDIS_URL: `redis://127.0.0.1:${port}` });
      warnsOnly(t, ran, 'redis', /does not answer$/, /-> start it, or mend REDIS_URL; until then every/);
      inTime(t, ran.took, 60_000, 'a Redis that says nothing');
    }
    t.ok(sockets.length > 0, 'the silent one was called');
  });

  await gateway.stop();
});

test('a queue that nobody works on, and what was given up', async (t) => {
  const { url, db } = await openDatabase(t);
  await (await startGateway(t, { DATABASE_URL: url })).stop();
  const query = await queryOn(t, url);
  const queue = await startQueue(db, () => {});
  t.teardown(() => queue.stop());
  const id = '00000000-0000-4000-8000-000000000001';
  await db.kysely.transaction().execute((tx) => queue.enqueue(tx, 'sms', { id }));

  const young = await doctor({ DATABASE_URL: url });
  t.match(young.said, /^ok +queue +1 jobs are due, the oldest for \d+ s; 0 were given up$/m);
  await query(`update pgboss.job set start_after = start_after - interval '301 seconds' where name = 'sms'`);
  const ran = await doctor({ DATABASE_URL: url });
  warnsOnly(
    t,
    ran,
    'queue',
    /1 jobs are due, the oldest for 3\d\d s; 0 were given up$/,
    /-> no instance works on them: start one/,
  );
  await query(`update pgboss.job set start_after = now() + interval '1 hour' where name = 'sms'`);
  const later = await doctor({ DATABASE_URL: url });
  t.match(later.said, /^ok +queue +0 jobs are due, the oldest for 0 s/m, 'what comes later is not due');
  await query(`update outbox set state = 'dead', ended_at = now()`);
  const dead = await doctor({ DATABASE_URL: url });
  warnsOnly(t, dead, 'queue', /; 1 were given up$/, /-> GET \/api\/effects\?state=dead lists them/);
});

test('a server whose connections are nearly all used', async (t) => {
  const server = await startPostgres({ own: true, settings: { max_connections: '40' } });
  t.teardown(() => server.stop());
  const { url } = await database(t, { server: server.url });
  await (await startGateway(t, { DATABASE_URL: url })).stop();
  const held: pg.Client[] = [];
  t.teardown(() => Promise.all(held.map((client) => client.end())));
  const hold = async (count: number) => {
    while (held.length < count) {
      const client = new pg.Client({ connectionString: url });
      client.on('error', () => {});
      await client.connect();
      held.push(client);
    }
  };
  await hold(24);
  const before = await doctor({ DATABASE_URL: url });
  t.match(before.said, /^ok +connections +2\d of 40 are used$/m);
  await hold(33);
  const ran = await doctor({ DATABASE_URL: url });
  warnsOnly(
    t,
    ran,
    'connections',
    /3\d of 40 are used$/,
    /-> fewer instances, a pooler, or a higher max_conn/,
  );
});

test('an embedded database that cannot be made', async (t) => {
  const file = join(temporaryDirectory(t), 'file');
  writeFileSync(file, '');
  const link = join(temporaryDirectory(t), 'link');
  symlinkSync(join(file, 'nowhere'), link);
  for (const DATA_DIR of [file, join(file, 'data'), link]) {
    const ran = await doctor({ DATA_DIR, PIN_ENCRYPTION_KEY: '' });
    t.equal(ran.code, 1, ran.said);
    t.match(
      ran.said,
      /^FAIL +database +embedded, and cannot be made in .*: .*\/(file|link) is no directory\n +-> name a/m,
    );
  }
  if (existsSync('/proc/self')) {
    const { code, said } = await doctor({ DATA_DIR: '/proc/x', PIN_ENCRYPTION_KEY: '' });
    t.equal(code, 1, said);
    t.match(
      said,
      /cannot be made in \/proc\/x: \/proc (is a file system of the kernel's|cannot be written)$/m,
    );
  }
  const further = await doctor({ DATA_DIR: join(temporaryDirectory(t), 'a', 'b'), PIN_ENCRYPTION_KEY: '' });
  t.equal(further.code, 0, further.said);
});

test('the embedded database, before its first start and while it is held', async (t) => {
  const before = await doctor({ DATA_DIR: temporaryDirectory(t), PIN_ENCRYPTION_KEY: '' });
  t.equal(before.code, 0, before.said);
  t.match(before.said, /^ok +database +embedded; the first start makes it/m);
  const DATA_DIR = await embeddedDirectory(t);
  const gateway = await startGateway(t, { DATA_DIR });
  // Its own process may open the directory again: another one asks.
  const held = await program({ DATA_DIR, PIN_ENCRYPTION_KEY: '' });
  t.equal(held.code, 0, held.said);
  t.match(held.said, /^warn +database +the data directory .* is in use by process \d+\n +-> /m);
  await gateway.stop();
  const free = await doctor({ DATA_DIR, PIN_ENCRYPTION_KEY: '' });
  t.equal(free.code, 0, free.said);
  t.match(free.said, /^ok +keys +fit the database$/m);
});
