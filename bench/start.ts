/**
 * `npm run bench:start`: how long a person waits for the first screen after `npm start`, and what memory the process
 * then has. Each round starts it three times in a folder of its own: with nothing set, the same again, and on Postgres.
 *
 *     npm run bench:start -- [rounds=5]
 *
 * Prints medians. Everything is on 127.0.0.1 and in temporary folders, and gone at the end.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort, startPostgres } from '../test/support/postgres.ts';
import { describeMachine } from './machine.ts';
import { median } from './rows.ts';

const ROOT = join(import.meta.dirname, '..');
const ROUNDS = Number(process.argv[2] ?? 5);
/** For a start that never answers; in milliseconds. */
const MOST_MS = 60_000;
/** How often the first screen is asked for; in milliseconds. */
const EVERY_MS = 10;
/** How long after the first screen the memory is read; in milliseconds. */
const SETTLED_MS = 2_000;

type Started = { ms: number; mb: number };

async function start(settings: Record<string, string>): Promise<Started> {
  const port = await freePort();
  const began = performance.now();
  const child = spawn('npm', ['start', '--silent'], {
    cwd: ROOT,
    env: { PATH: process.env.PATH ?? '', HOME: process.env.HOME ?? '', PORT: String(port), ...settings },
    stdio: 'ignore',
    detached: true,
  });
  const gone = once(child, 'exit');
  try {
    while (!(await isAnswered(port))) {
      if (performance.now() - began > MOST_MS) throw new Error(`no screen within ${MOST_MS} ms`);
      if (child.exitCode !== null) throw new Error('`npm start` ended');
      await sleep(EVERY_MS);
    }
    const ms = performance.now() - began;
    await sleep(SETTLED_MS);
    return { ms, mb: residentOfGroup(child.pid ?? 0) };
  } finally {
    // npm hands no signal on to what it started: to the whole group.
    process.kill(-(child.pid ?? 0), 'SIGTERM');
    await gone;
  }
}

async function isAnswered(port: number): Promise<boolean> {
  const body = JSON.stringify({
    sessionId: 'start',
    serviceCode: '*1234#',
    phoneNumber: '+254711000111',
    text: '',
  });
  const headers = { 'content-type': 'application/json' };
  const url = `http://127.0.0.1:${port}/api/ussd`;
  const answer = await fetch(url, { method: 'POST', headers, body }).catch(() => undefined);
  return (await answer?.text())?.startsWith('CON ') ?? false;
}

/** The resident memory of the gateway in a process group, in MB. */
function residentOfGroup(group: number): number {
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    const read = (file: string) => readFileSync(`/proc/${pid}/${file}`, 'utf8');
    try {
      const [, , , ofGroup] = read('stat')
        .replace(/\(.*\)/, '()')
        .split(' ')
        .map(Number)
        .slice(1);
      if (ofGroup !== group || !read('cmdline').includes('src/main.ts\0')) continue;
      if (!read('cmdline').startsWith('node\0')) continue;
      return Number(/VmRSS:\s+(\d+)/.exec(read('status'))?.[1] ?? 0) / 1024;
    } catch {
      // It has ended.
    }
  }
  throw new Error('the gateway is gone');
}

const postgres = await startPostgres({ own: true });
const rounds: Record<'first' | 'again' | 'postgres', Started>[] = [];
const folder = mkdtempSync(join(tmpdir(), 'ussd-bench-start-'));
const machine = await describeMachine(folder);
try {
  const onPostgres = {
    DATABASE_URL: postgres.url,
    PIN_ENCRYPTION_KEY: 'k1:0123456789abcdef0123456789abcdef',
  };
  // Makes the tables.
  await start({ ...onPostgres, DATA_DIR: join(folder, 'none') });
  for (let round = 0; round < ROUNDS; round += 1) {
    const DATA_DIR = join(folder, String(round));
    const first = await start({ DATA_DIR });
    const again = await start({ DATA_DIR });
    rounds.push({ first, again, postgres: await start({ ...onPostgres, DATA_DIR }) });
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
  await postgres.stop();
}
const row = (name: string, kind: 'first' | 'again' | 'postgres') => {
  const all = rounds.map((round) => round[kind]);
  const ms = all.map((each) => each.ms);
  return `| ${name} | ${Math.round(median(ms))} | ${Math.round(Math.min(...ms))}–${Math.round(Math.max(...ms))} | ${Math.round(median(all.map(({ mb }) => mb)))} |`;
};
console.log(`${machine.cpu}, ${machine.cores} cores, ${machine.system}, Node ${machine.node}, load before ${machine.loadBefore.toFixed(1)}; ${ROUNDS} rounds\n
| \`npm start\` | first screen after ms | range | memory in MB |
|---|--:|--:|--:|
${row('with nothing set, the first', 'first')}
${row('with nothing set, again', 'again')}
${row('on Postgres', 'postgres')}`);
