/** What a person meets at the first start: the address, the token, `.env`, the Node that runs it, the terminal. */
import { spawn, spawnSync } from 'node:child_process';
import { lookup } from 'node:dns/promises';
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import esbuild from 'esbuild';
import pg from 'pg';
import t, { type Test } from 'tap';
import { readConfig } from '../src/config.ts';
import { AddressRefused, asRefusal, lookAt } from '../src/listening.ts';
import { makeLog } from '../src/log.ts';
import { readMenus } from '../src/menus.ts';
import { knownOf, SERVICES, type ServeOptions, serve } from '../src/serve.ts';
import { environment, post, startGateway, TEST_KEY, temporaryDirectory } from './support/gateway.ts';
import { database } from './support/postgres.ts';
import { hasTerminal } from './support/terminal.ts';

const ROOT = join(import.meta.dirname, '..');
const MAIN = join(ROOT, 'src', 'main.ts');
/** What runs before any TypeScript is loaded. */
const BEFORE = ['preflight.cjs', 'code-cache.cjs'];
const documents = readMenus(SERVICES, knownOf);
const { url: DATABASE_URL } = await database(t);
const SERVER = { DATABASE_URL, PIN_ENCRYPTION_KEY: TEST_KEY };
const TOKEN = /all of them with the token (\S+) of/;

/** Starts a gateway in this process and stops it; returns the records of its log. */
async function startOnce(settings: Record<string, string>, options: ServeOptions = {}): Promise<string[]> {
  const lines: string[] = [];
  const config = readConfig(
    environment(settings),
    documents.map(({ service }) => service),
  );
  const log = makeLog(config.logLevel, { write: (line) => void lines.push(line) });
  const served = await serve(config, documents, log, { pinCost: 4, ...options });
  const said = [...lines];
  await served.shutDown({ goodbyeMs: 0, lastAnswerMs: 0 });
  return said;
}

/** Listens on a free port of this machine until the test ends. */
async function occupied(t: Test, port = 0): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  t.teardown(() => new Promise((resolve) => server.close(resolve)));
  return (server.address() as AddressInfo).port;
}

t.test('the start record carries the token at every level', async (t) => {
  const directory = temporaryDirectory(t);
  for (const LOG_LEVEL of ['info', 'warn', 'silent']) {
    const lines = await startOnce(
      { ...SERVER, LOG_LEVEL, DATA_DIR: directory, DATABSE_URL: 'x' },
      { settings: ['.env'] },
    );
    const records = lines.filter((line) => line.includes('ussd gateway on http://'));
    t.equal(records.length, 1, `one at ${LOG_LEVEL}`);
    const { level, msg } = JSON.parse(records[0] ?? '{}');
    t.equal(level, 'info');
    t.match(
      msg,
      /^ussd gateway on http:\/\/127\.0\.0\.1:\d+ \| development \| Postgres by DATABASE_URL \| SMS and airtime by /,
    );
    t.equal(TOKEN.exec(msg)?.[1], readFileSync(join(directory, 'operator-token'), 'utf8').trim());
    t.match(msg, ' | settings of .env | DATABSE_URL is not a setting: did you mean DATABASE_URL?');
    if (LOG_LEVEL !== 'info') t.equal(lines.length, 1, 'and nothing else');
  }
});

t.test('on a terminal a table stands in its place', async (t) => {
  const directory = temporaryDirectory(t);
  const shown: string[] = [];
  const said: string[] = [];
  const lines = await startOnce(
    {
      ...SERVER,
      LOG_LEVEL: 'silent',
      DATA_DIR: directory,
      SERVICE_CODES: '*7#=ixo,*1234*5#=demo',
      REDIS_URI: 'x',
    },
    {
      screen: (table) => void shown.push(table),
      progress: (line) => void said.push(line),
      settings: ['.env'],
    },
  );
  t.same(lines, [], 'no record');
  t.same(said, ['connecting to the database of DATABASE_URL …']);
  const table = shown.join();
  const token = readFileSync(join(directory, 'operator-token'), 'utf8').trim();
  for (const row of [
    /^ussd gateway on http:\/\/127\.0\.0\.1:\d+ /m,
    /^ {2}address +http:\/\/127\.0\.0\.1:\d+$/m,
    /^ {2}environment +development$/m,
    /^ {2}settings +\.env and the environment$/m,
    /^ {2}services +\*7# +ixo\n +\*1234\*5# +demo\n +any other code +ixo$/m,
    /^ {2}database +Postgres by DATABASE_URL$/m,
    /^ {2}providers +SMS and airtime by /m,
    new RegExp(`^ {2}operator token +${token}$`, 'm'),
    /^ {2}warnings +REDIS_URI is not a setting: did you mean REDIS_URL\?$/m,
  ])
    t.match(table, row);
  t.notOk(
    table.split('\n').some((line) => line.length > 130),
    'no line is long',
  );
});

t.test('an address that cannot be listened on is told before a database is made', async (t) => {
  const port = await occupied(t);
  const DATA_DIR = join(temporaryDirectory(t), 'data');
  await t.rejects(startOnce({ PORT: `${port}`, DATA_DIR }), {
    message: new RegExp(`^port ${port} is in use, set PORT to another one`),
  });
  await t.rejects(startOnce({ HOST: '203.0.113.1', DATA_DIR }), {
    message: /^this machine does not have the address 203\.0\.113\.1, set HOST/,
  });
  t.notOk(existsSync(DATA_DIR), 'nothing was made');
  await lookAt({ host: '127.0.0.1', port: 0 });
  // A root file system without /etc/hosts does not know the name.
  if (await lookup('localhost').catch(() => undefined)) await lookAt({ host: 'localhost', port: 0 });
});

t.test('a port that is taken after the look gives the same message', async (t) => {
  const free = await new Promise<number>((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
  let taken: Promise<number> | undefined;
  const progress = () => {
    taken = occupied(t, free);
  };
  await t.rejects(startOnce({ ...SERVER, PORT: `${free}`, DATA_DIR: temporaryDirectory(t) }, { progress }), {
    message: new RegExp(`^port ${free} is in use, set PORT`),
  });
  t.equal(await taken, free, 'the look found it free');
});

t.test('what the system says of an address, in words', async (t) => {
  const said = (code: string, port: number, host = 'gateway.example', syscall = 'listen') => {
    const error = asRefusal(Object.assign(new Error(`${syscall} ${code}`), { code, syscall }), {
      host,
      port,
    });
    t.ok(error instanceof AddressRefused, code);
    return (error as Error).message;
  };
  t.equal(said('EACCES', 80), 'port 80 is for root only, set PORT to 1024 or above');
  t.match(said('EACCES', 5000), /^port 5000 is closed to this user by the system, set PORT/);
  t.match(said('ENOTFOUND', 3000, 'nowhere', 'getaddrinfo'), /^nowhere is the name of no machine, set HOST/);
  t.match(said('EAFNOSUPPORT', 3000, '::'), /^this machine has no addresses like ::, set HOST/);
  t.match(
    said('EINVAL', 3000, 'fe80::1'),
    /^fe80::1:3000 cannot be listened on \(EINVAL\), set HOST and PORT/,
  );
  const other = Object.assign(new Error('connect'), { code: 'ECONNREFUSED', syscall: 'connect' });
  t.equal(asRefusal(other, { host: 'x', port: 1 }), other, 'an error of something else stays');
});

/** Runs a command of the gateway in a directory with this `.env`. */
function runIn(t: Test, envFile: string, words: string[], settings: Record<string, string> = {}) {
  const cwd = temporaryDirectory(t);
  writeFileSync(join(cwd, '.env'), envFile);
  const { PATH = '', HOME = '' } = process.env;
  const child = spawn(process.execPath, [MAIN, ...words], { cwd, env: { PATH, HOME, ...settings } });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk));
  return new Promise<{ code: number | null; output: string }>((resolve) =>
    child.on('close', (code) => resolve({ code, output })),
  );
}

t.test('every command reads .env of the working directory; the environment wins', async (t) => {
  const own = 'DATA_DIR=./own\nNODE_ENV=production\nDATABSE_URL=x\n';
  const [doctor, broken, keys, refused] = await Promise.all([
    runIn(t, own, ['doctor'], { NODE_ENV: 'test' }),
    runIn(t, 'PORT=1\nse-cret\n', ['doctor']),
    runIn(t, 'PORT="1\n', ['keys']),
    runIn(t, own, ['migrate']),
  ]);
  t.match(
    doctor.output,
    /warn +configuration +is readable \(test\), with the settings of \.env\n +-> DATABSE_URL is not/,
  );
  t.match(doctor.output, 'the first start makes it in ./own');
  t.match(broken.output, /FAIL +configuration +\.env line 2: expected NAME=value/);
  t.notMatch(broken.output, 'cret');
  t.match(keys, {
    code: 1,
    output: /cannot start:\n {2}\.env line 1: the quote that begins the value of PORT/,
  });
  t.match(refused, {
    code: 1,
    output: /DATABASE_URL: is required in production.*\n {2}DATABSE_URL is not a setting/,
  });
});

t.test('on a terminal the start says what it waits for, and shows the table', async (t) => {
  if (!hasTerminal()) return t.comment('no script(1) here');
  const settings = environment({ ...SERVER, DATA_DIR: temporaryDirectory(t), LOG_LEVEL: 'error' });
  const line = `exec '${process.execPath}' -r '${join(ROOT, 'src', 'preflight.cjs')}' '${MAIN}'`;
  const child = spawn('script', ['-qefc', line, '/dev/null'], { env: settings, detached: true });
  t.teardown(() => child.kill('SIGKILL'));
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk));
  const closed = new Promise<number | null>((resolve) => child.on('close', resolve));
  await new Promise<void>((resolve) => {
    child.stdout.on('data', () => /operator token/.test(output) && resolve());
    child.on('close', () => resolve());
  });
  t.match(output, /^loading the gateway …\r\nconnecting to the database of DATABASE_URL …\r\n/);
  t.match(output, /ussd gateway on http:\/\/127\.0\.0\.1:\d+ .*\r\n/);
  t.match(output, /operator token +\S{24}\r\n/);
  t.notMatch(output, '{"level"');
  child.stdin.write('\x03');
  t.equal(await closed, 0, 'Ctrl-C ends it');
});

/** Runs a program behind the check of `project`. */
function runBehind(t: Test, project: object, words: string[] = [], settings: Record<string, string> = {}) {
  const folder = temporaryDirectory(t);
  mkdirSync(join(folder, 'src'));
  for (const name of BEFORE) cpSync(join(ROOT, 'src', name), join(folder, 'src', name));
  writeFileSync(
    join(folder, 'package.json'),
    JSON.stringify({ type: 'module', devDependencies: { node: '^24.1.0' }, ...project }),
  );
  writeFileSync(
    join(folder, 'src', 'main.ts'),
    'const words: string[] = process.argv.slice(2);\nconsole.log(words.join());\n',
  );
  const { PATH = '' } = process.env;
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [...words, '-r', './src/preflight.cjs', 'src/main.ts', 'a', 'b'],
    {
      cwd: folder,
      env: { PATH, ...settings },
      encoding: 'utf8',
    },
  );
  return { status, stdout, stderr };
}

t.test('a Node or an installation that cannot run the code is told in one sentence', async (t) => {
  const engines = { node: '>=22.18' };
  t.same(runBehind(t, { engines, dependencies: {} }), { status: 0, stdout: 'a,b\n', stderr: '' });
  const begin = 'ussd gateway cannot start:\n  ';
  const old = runBehind(t, { engines: { node: '>=99.1' }, dependencies: { 'not-there': '1' } });
  t.match(old, { status: 1, stdout: '' });
  t.ok(
    old.stderr.startsWith(
      `${begin}Node 99.1 or newer is needed, and this is Node ${process.versions.node} (`,
    ),
    old.stderr,
  );
  t.match(
    old.stderr,
    /run `npm ci` without --omit=dev, which brings Node 24 for `npm start`, or install Node 24 \(https:.*\)\n$/,
  );
  const dependencies = { one: '1', '@a/two': '1', three: '1', four: '1' };
  t.same(runBehind(t, { engines, dependencies }), {
    status: 1,
    stdout: '',
    stderr: `${begin}the dependencies are not installed (missing: one, @a/two, three and 1 more): run \`npm ci\`\n`,
  });
  const [major = 0] = process.versions.node.split('.').map(Number);
  const option = major < 25 ? '--no-experimental-strip-types' : '--no-strip-types';
  t.match(runBehind(t, { engines, dependencies: {} }, [option]), {
    status: 1,
    stderr: `${begin}Node is told not to run TypeScript: take away ${option} (NODE_OPTIONS)\n`,
  });
});

t.test('the check is before every program, and Node 14 can parse it', async (t) => {
  for (const name of BEFORE) {
    const code = readFileSync(join(ROOT, 'src', name), 'utf8');
    const lowered = (target: string) => esbuild.transformSync(code, { target }).code;
    t.equal(lowered('node14'), lowered('esnext'), name);
    t.notMatch(code, /require\('node:/, name);
  }
  const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
    scripts: Record<string, string>;
  };
  const programs = Object.entries(scripts).filter(([, script]) => /\.ts\b/.test(script));
  t.ok(programs.length > 20);
  // `prepare` runs under any Node and ends without a word where it cannot.
  for (const [name, script] of programs.filter(([name]) => name !== 'prepare'))
    t.match(script, /(-r |^node )\.?\/?src\/preflight\.cjs/, name);
  const large = '$(test -r /sys/kernel/mm/transparent_hugepage/enabled && echo --use-largepages=silent)';
  t.match(
    scripts.start,
    `exec node ${large} -r`,
    'the flag only where node can read whether there are large pages',
  );
  t.match(readFileSync(join(ROOT, 'Dockerfile'), 'utf8'), `"exec node ${large} -r`);
});

t.test('a gateway on a Unix socket', async (t) => {
  const client = new pg.Client({ connectionString: DATABASE_URL });
  await client.connect();
  const { rows } = await client.query('show unix_socket_directories');
  await client.end();
  const [directory = ''] = String(rows[0]?.unix_socket_directories).split(',');
  const { pathname, port, username } = new URL(DATABASE_URL);
  if (!existsSync(join(directory, `.s.PGSQL.${port || 5432}`)))
    return t.comment('the server has no socket here');
  const place = encodeURIComponent(directory);
  for (const url of [
    `postgres://${pathname}?host=${directory}&port=${port}&user=${username}`,
    `postgresql://${username}@${pathname}?host=${directory}&port=${port}`,
    `postgres://${username}@${place}:${port}${pathname}`,
  ]) {
    const gateway = await startGateway(t, { DATABASE_URL: url });
    t.match(
      await post(gateway.url, { sessionId: `socket-${url.length}` }),
      { status: 200, outcome: 'ok' },
      url,
    );
    await gateway.stop();
  }
});
