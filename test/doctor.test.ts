import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'tap';
import { environment, startGateway, TEST_KEY, temporaryDirectory } from './support/gateway.ts';
import { queryOn } from './support/phone.ts';
import { database, freePort, startPostgres } from './support/postgres.ts';

const MAIN = join(import.meta.dirname, '..', 'src', 'main.ts');
const OTHER_KEY = 'k1:fedcba9876543210fedcba9876543210';

type Ran = { code: number; said: string; took: number };

/** `npm run doctor` as a process of its own. */
function doctor(settings: Record<string, string>): Promise<Ran> {
  const began = performance.now();
  const env = environment({ PIN_ENCRYPTION_KEY: TEST_KEY, ...settings });
  return new Promise((resolve) => {
    execFile(process.execPath, [MAIN, 'doctor'], { env }, (error, stdout, stderr) =>
      resolve({
        code: Number(error?.code ?? 0),
        said: stdout + stderr,
        took: performance.now() - began,
      }),
    );
  });
}

test('beside a running gateway all is well, twice, and nothing is changed', async (t) => {
  const { url } = await database(t);
  await startGateway(t, { DATABASE_URL: url });
  for (let time = 1; time <= 2; time += 1) {
    const { code, said } = await doctor({ DATABASE_URL: url });
    t.equal(code, 0, said);
    t.notMatch(said, /^(FAIL|warn)/m);
    for (const name of ['configuration', 'database', 'clock', 'migrations', 'keys', 'partitions', 'queue'])
      t.match(said, new RegExp(`^ok +${name} `, 'm'));
    t.notMatch(said, /0123456789abcdef/, 'no key is printed');
  }
});

test('what fails is said with a remedy, and the exit code is 1', async (t) => {
  const { url } = await database(t);
  const query = await queryOn(t, url);

  await t.test('an empty database', async (t) => {
    const { code, said } = await doctor({ DATABASE_URL: url });
    t.equal(code, 1);
    t.match(said, /^FAIL +migrations +missing: 0001-turns, .*\n +-> npm run migrate$/m);
    t.same(await query(`select 1 from information_schema.tables where table_schema = 'public'`), []);
  });

  await startGateway(t, { DATABASE_URL: url });

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
  const hung = await doctor({ DATABASE_URL: server.url });
  t.equal(hung.code, 1);
  t.match(hung.said, /^FAIL +database /m);
  t.ok(hung.took < 15_000, `${hung.took} ms`);
});

test('the embedded database, before its first start and while it is held', async (t) => {
  const DATA_DIR = temporaryDirectory(t);
  const before = await doctor({ DATA_DIR, PIN_ENCRYPTION_KEY: '' });
  t.equal(before.code, 0, before.said);
  t.match(before.said, /^ok +database +embedded; the first start makes it/m);
  const gateway = await startGateway(t, { DATA_DIR });
  const held = await doctor({ DATA_DIR, PIN_ENCRYPTION_KEY: '' });
  t.equal(held.code, 0, held.said);
  t.match(held.said, /^warn +database +the data directory .* is in use by process \d+\n +-> /m);
  await gateway.stop();
  const free = await doctor({ DATA_DIR, PIN_ENCRYPTION_KEY: '' });
  t.equal(free.code, 0, free.said);
  t.match(free.said, /^ok +keys +fit the database$/m);
});
