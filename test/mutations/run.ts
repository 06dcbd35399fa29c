/**
 * `npm run test:mutations`: takes one safeguard after the other away, in a copy, and runs the test that is named for
 * it. A mutation that its test does not notice fails the run. `npm run test:mutations -- hold drain` runs those
 * whose safeguard has one of these words. Half a minute a mutation; not part of `npm test`.
 */
import { execFileSync, spawn } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { signal, startPostgres } from '../support/postgres.ts';
import { MUTATIONS, type Mutation } from './list.ts';

const ROOT = join(import.meta.dirname, '..', '..');
/** A test that hangs without its safeguard has noticed; in milliseconds. */
const LONGEST_MS = 10 * 60_000;

type Result = { failed: boolean; why: string; seconds: number };

const words = process.argv.slice(2);
const chosen = MUTATIONS.filter(
  ({ safeguard }) => words.length === 0 || words.some((word) => safeguard.includes(word)),
);
const server = await startPostgres();
const scratch = mkdtempSync(join(tmpdir(), 'ussd-mutations-'));
let unnoticed = 0;
try {
  console.log('| safeguard taken away | its test | noticed by | s |\n|---|---|---|--:|');
  for (const [i, mutation] of chosen.entries()) {
    const { failed, why, seconds } = await tried(mutation, join(scratch, String(i)));
    if (!failed) unnoticed += 1;
    const noticed = failed ? why : '**not noticed**';
    console.log(`| ${mutation.safeguard} | \`${mutation.test}\` | ${noticed} | ${seconds} |`);
  }
} finally {
  await server.stop();
  rmSync(scratch, { recursive: true, force: true });
}
process.exit(unnoticed === 0 ? 0 : 1);

async function tried(mutation: Mutation, copy: string): Promise<Result> {
  const files = execFileSync('git', ['ls-files', '-co', '--exclude-standard'], {
    cwd: ROOT,
    encoding: 'utf8',
  });
  for (const file of files.split('\n').filter((name) => name !== ''))
    cpSync(join(ROOT, file), join(copy, file), { recursive: true });
  symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
  const target = join(copy, mutation.file);
  const before = readFileSync(target, 'utf8');
  if (before.split(mutation.from).length !== 2)
    throw new Error(`${mutation.file} does not have this line once: ${mutation.from}`);
  writeFileSync(
    target,
    before.replace(mutation.from, () => mutation.to),
  );
  // What cannot be read at all fails every test, and proves nothing.
  execFileSync(process.execPath, ['--check', target], { stdio: ['ignore', 'ignore', 'inherit'] });
  const began = performance.now();
  const { failed, why } = await run(copy, mutation.test);
  rmSync(copy, { recursive: true, force: true });
  return { failed, why, seconds: Math.round((performance.now() - began) / 1000) };
}

/** Runs a test as `npm test` does. Fails where an assertion did, or a test that was still waiting when its time was over. */
function run(copy: string, test: string): Promise<{ failed: boolean; why: string }> {
  const child = spawn(process.execPath, [join('test', 'support', 'run.ts'), test], {
    cwd: copy,
    env: { ...process.env, TEST_DATABASE_URL: server.url },
    stdio: ['ignore', 'pipe', 'ignore'],
    detached: true,
  });
  let said = '';
  child.stdout.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  // With all that the test has started: it leaves its gateways behind when it stops at the first fault.
  const end = () => signal(-(child.pid as number), 'SIGKILL');
  const timer = setTimeout(end, LONGEST_MS);
  child.on('exit', end);
  return new Promise((resolve) =>
    child.on('close', (code) => {
      clearTimeout(timer);
      const [before = ''] = said.split(/^ *not ok/m);
      const subtest = [...before.matchAll(/^ +# Subtest: (.*)$/gm)].at(-1)?.[1];
      resolve({
        failed: code !== 0,
        why: code === null ? 'a time that was over' : (subtest ?? 'the file'),
      });
    }),
  );
}
