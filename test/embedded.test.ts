/** `npm start` with no variable set: everything it needs, it makes (docs/contract.md section 8). */
import { spawn } from 'node:child_process';
import { chmodSync, existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { embeddedDirectory } from './support/embedded.ts';
import {
  environment,
  type GatewayProcess,
  post,
  refusalOf,
  startGateway,
  startProcess,
  temporaryDirectory,
} from './support/gateway.ts';

const MAIN = join(import.meta.dirname, '..', 'src', 'main.ts');
const ROOT = 'CON Welcome to IXO USSD\n1. Know More\n2. Account Menu\n*. Exit';
const KNOW_MORE = 'CON Information Center\n1. About this service\n2. Pricing\n3. Delivery\n*. Exit';

/** A variable that is set to nothing is not set. */
const BARE = { LOG_LEVEL: '', RATE_LIMIT_MAX: '' };

const start = (t: Test, directory: string): Promise<GatewayProcess> =>
  startProcess(t, { ...BARE, DATA_DIR: directory });

/** The one line that says where it runs and on what. */
function startLine(gateway: GatewayProcess): string {
  const lines = gateway.output().split('\n');
  return lines.find((line) => line.includes('ussd gateway on http://')) ?? '';
}

const mode = (path: string) => (statSync(path).mode & 0o777).toString(8);

t.test(
  'a first start makes what it needs and says so, also after one that was killed half way',
  async (t) => {
    const directory = join(temporaryDirectory(t), 'made', 'by', 'the start');
    const settings = environment({ ...BARE, DATA_DIR: directory });
    const child = spawn(process.execPath, [MAIN], { env: settings, stdio: 'ignore' });
    const gone = new Promise((resolve) => child.on('exit', resolve));
    const end = performance.now() + 30_000;
    const made = () => {
      const postgres = join(directory, 'postgres');
      return existsSync(postgres) ? readdirSync(postgres, { recursive: true }).length : 0;
    };
    // About a thousand files are written: somewhere in the middle of it.
    while (made() < 50 && performance.now() < end) await new Promise((resolve) => setTimeout(resolve, 1));
    child.kill('SIGKILL');
    await gone;
    t.comment(`killed at ${made()} files`);
    const began = performance.now();
    const gateway = await start(t, directory);
    t.match(await post(gateway.url, {}), { status: 200, outcome: 'ok', body: ROOT });
    const ms = Math.round(performance.now() - began);
    // Told and not judged: see `drain.test.ts`.
    t.comment(`the first screen came after ${ms} ms`);

    const line = startLine(gateway);
    t.match(line, `embedded Postgres in ${directory}`, 'the directory');
    t.match(line, 'survives a crash of the process, not a power loss', 'how durable it is');
    t.match(line, `key in ${join(directory, 'key')}`, 'the key file');
    t.match(line, 'http://127.0.0.1:', 'this machine only');
    const key = join(directory, 'key');
    t.equal(mode(key), '600', 'the key is for its owner');
    t.equal(mode(directory), '700', 'so is the directory');
    t.match(readFileSync(key, 'utf8'), /^[A-Za-z0-9+/]{43}=\n$/, '256 bits of it');
    t.notMatch(gateway.output(), readFileSync(key, 'utf8').trim(), 'which it does not say');
    t.same((await fetch(`${gateway.url}/health`)).status, 200);
  },
);

t.test('a restart keeps the sessions; a second process is refused and harms nothing', async (t) => {
  const directory = await embeddedDirectory(t);
  const first = await start(t, directory);
  t.match(await post(first.url, { text: '' }), { outcome: 'ok', body: ROOT });
  const error = await start(t, directory).then(
    () => undefined,
    (refused: Error) => refused,
  );
  t.match(error?.message, /ended with 1/, 'exit code 1');
  t.match(error?.message, `is in use by process ${first.child.pid}`, 'and it says by whom');
  t.match(await post(first.url, { text: '1' }), { outcome: 'ok', body: KNOW_MORE });
  const key = readFileSync(join(directory, 'key'), 'utf8');
  t.equal(await first.stop(), 0);
  t.notOk(existsSync(join(directory, 'lock')), 'the directory is let go');

  // As a directory that somebody else had made, or that was restored.
  for (const open of [directory, join(directory, 'postgres')]) chmodSync(open, 0o755);
  chmodSync(join(directory, 'key'), 0o644);
  const second = await start(t, directory);
  t.equal(mode(directory), '700', 'closed again at every open');
  t.equal(mode(join(directory, 'postgres')), '700');
  t.equal(mode(join(directory, 'key')), '600');
  t.match(await post(second.url, { text: '1' }), { outcome: 'replay', body: KNOW_MORE });
  const pricing = await post(second.url, { text: '1*2' });
  t.match(pricing, { outcome: 'ok', body: /^CON Pricing/ }, 'the session goes on');
  await second.kill();

  const third = await startGateway(t, { DATA_DIR: directory });
  t.match(await post(third.url, { text: '1*2' }), { outcome: 'replay', body: pricing.body }, 'after kill -9');
  t.equal(readFileSync(join(directory, 'key'), 'utf8'), key, 'by the same key');
});

t.test('production refuses it', async (t) => {
  const { said } = await refusalOf(t, { NODE_ENV: 'production', DATA_DIR: temporaryDirectory(t) });
  t.match(said, [/^DATABASE_URL: is required in production/]);
});
