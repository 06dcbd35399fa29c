/** Files that a Postgres URL names, TLS and the directory of a Unix socket: told at once, not waited for. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { report } from '../src/checkup.ts';
import { readConfig } from '../src/config.ts';
import { fileProblems } from '../src/db/url-files.ts';
import { inWords } from '../src/in-words.ts';
import { makeLog } from '../src/log.ts';
import { migrateAlone, openDatabase, StartRefused } from '../src/opening.ts';
import { parseKeyRing } from '../src/seal/keys.ts';
import { MIGRATIONS } from '../src/serve.ts';
import { environment, shippedMenus, TEST_KEY, temporaryDirectory } from './support/gateway.ts';

/** What a URL may name, by what is said of it. */
async function places(t: Test): Promise<[string, RegExp][]> {
  const base = temporaryDirectory(t);
  const [junk, folder, socket] = ['junk.pem', 'folder', '.s.PGSQL.5432'].map((name) => join(base, name)) as [
    string,
    string,
    string,
  ];
  writeFileSync(junk, 'hello');
  mkdirSync(folder);
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  t.teardown(() => new Promise((resolve) => server.close(resolve)));
  const tls = 'postgres://user:hush@127.0.0.1:1/x?sslmode=require&';
  return [
    [
      `${tls}sslrootcert=/nowhere.pem`,
      /sslrootcert=\/nowhere\.pem is not there: write the path of a certificate/,
    ],
    [`${tls}sslcert=/nowhere.pem`, /sslcert=\/nowhere\.pem is not there: write the path of a certificate/],
    [`${tls}sslkey=/nowhere.pem`, /sslkey=\/nowhere\.pem is not there: write the path of a key in PEM/],
    [`${tls}sslrootcert=${folder}`, /sslrootcert=\S+\/folder is a directory: write the path/],
    [`${tls}sslrootcert=${junk}/ca.pem`, /is not there, because a part of its path is a file/],
    [`${tls}sslrootcert=${junk}`, /junk\.pem is not a certificate in PEM/],
    [`${tls}sslcert=${junk}`, /junk\.pem is not a certificate in PEM/],
    [`${tls}sslkey=${junk}`, /junk\.pem is not a key in PEM/],
    [`${tls}sslrootcert=system`, /is a word of libpq's: leave it out/],
    [
      'postgres:///x?host=/nowhere&user=u',
      /the host \/nowhere is not there: write the directory of the socket/,
    ],
    ['postgres://user:hush@%2Fnowhere/x', /the host \/nowhere is not there/],
    ['postgres://user:hush@/x?host=/nowhere', /the host \/nowhere is not there/],
    [`postgres:///x?host=${socket}&user=u`, /5432 is the socket itself: write the directory/],
    [`postgres:///x?host=${junk}&user=u`, /junk\.pem is not a directory: write the directory/],
  ];
}

const place = (databaseUrl: string) => ({
  databaseUrl,
  databasePooler: 'none' as const,
  dataDir: '.data',
  keyRing: parseKeyRing(TEST_KEY),
  migrations: MIGRATIONS,
});

t.test('every file is told with its setting, its parameter and what to write', async (t) => {
  const log = makeLog('silent');
  for (const [url, said] of await places(t)) {
    const [problem = '', ...more] = fileProblems('DATABASE_ADMIN_URL', url);
    t.match(problem, said, url);
    t.ok(problem.startsWith('DATABASE_ADMIN_URL: '), url);
    t.notMatch(problem, 'hush');
    t.same(more, []);
    const began = performance.now();
    for (const run of [() => openDatabase(place(url), log), () => migrateAlone(place(url), log)]) {
      const error = await run().then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      t.ok(error instanceof StartRefused, url);
      t.match((error as Error).message, said);
    }
    t.ok(performance.now() - began < 5_000, 'at once');
  }
  const two = 'postgres://u@127.0.0.1/x?sslcert=/no.crt&sslkey=/no.key';
  t.equal(fileProblems('DATABASE_URL', two).length, 2, 'both are told');
});

t.test('the doctor tells the same', async (t) => {
  const services = shippedMenus().map((menu) => menu.service);
  for (const [url, said] of await places(t)) {
    const settings = environment({ PIN_ENCRYPTION_KEY: TEST_KEY, DATABASE_URL: url });
    const read = () => ({ ...readConfig(settings, services), settings: [] });
    const ran = await report({ read, inWords, migrations: MIGRATIONS }, 2_000);
    t.equal(ran.code, 1);
    t.match(ran.said, /^FAIL +database +DATABASE_URL: /m);
    t.match(ran.said, said);
  }
});

t.test('what is in order, and a server that is away', async (t) => {
  const base = temporaryDirectory(t);
  for (const url of [
    'postgres://u@127.0.0.1:1/x',
    'postgres://u@db.invalid/x?sslmode=require',
    `postgres:///x?host=${base}&user=u`,
    `postgres://u@${encodeURIComponent(base)}/x`,
  ])
    t.same(fileProblems('DATABASE_URL', url), [], url);
  const lines: string[] = [];
  const log = makeLog('warn', { write: (line) => void lines.push(line) });
  const controller = new AbortController();
  const waiting = openDatabase(place(`postgres:///x?host=${base}&user=u`), log).catch((error) => error);
  while (lines.length === 0 && !controller.signal.aborted) {
    const ended = await Promise.race([waiting, new Promise((resolve) => setTimeout(resolve, 50, 'on'))]);
    if (ended !== 'on') controller.abort();
  }
  t.match(lines.join(), 'waiting for the database', 'a directory without its socket is waited for');
  // It answers with what is no Postgres: the wait is over.
  const server = createServer((socket) => socket.end('Ehush\0'));
  await new Promise<void>((resolve) => server.listen(join(base, '.s.PGSQL.5432'), resolve));
  t.ok((await waiting) instanceof Error);
  server.close();
});
