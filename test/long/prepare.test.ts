/** What `npm ci` leaves for the first start (src/prepare.ts), in a copy of the project. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { temporaryDirectory } from '../support/gateway.ts';

const ROOT = join(import.meta.dirname, '..', '..');

/** The run of the tests names a place for compiled code; a start names none. */
const SETTINGS = { PATH: process.env.PATH ?? '', HOME: process.env.HOME ?? '' };

/** Copies the program; its packages are links, so that what is made below `node_modules/.cache` is its own. */
function copyProject(t: Test): string {
  const project = join(temporaryDirectory(t), 'project');
  mkdirSync(join(project, 'node_modules'), { recursive: true });
  for (const name of ['package.json', 'src', 'migrations'])
    cpSync(join(ROOT, name), join(project, name), { recursive: true });
  for (const name of readdirSync(join(ROOT, 'node_modules')).filter((name) => name !== '.cache'))
    symlinkSync(join(ROOT, 'node_modules', name), join(project, 'node_modules', name));
  return project;
}

function prepare(project: string) {
  const { status, stdout, stderr } = spawnSync('npm', ['run', '--silent', 'prepare'], {
    cwd: project,
    env: SETTINGS,
    encoding: 'utf8',
  });
  return { status, said: stdout + stderr };
}

const cached = (project: string, ...names: string[]) =>
  readdirSync(join(project, 'node_modules', '.cache', 'ussd-gateway', ...names)).sort();

t.test('`npm ci` leaves what a first start would make', async (t) => {
  const project = copyProject(t);
  t.same(prepare(project), { status: 0, said: '' });
  const [code, embedded = '', ...rest] = cached(project);
  t.same([code, rest], ['code', ['menus']]);
  t.match(embedded, /^embedded-[0-9a-f]{16}$/);
  t.ok(cached(project, embedded).includes('PG_VERSION'), 'a data directory of Postgres');
  const services = readdirSync(join(project, 'src', 'services'), { withFileTypes: true });
  const documents = services.filter((entry) => entry.isDirectory());
  t.equal(cached(project, 'menus').length, documents.length, 'every document passed');
  const compiled = () =>
    readdirSync(join(project, 'node_modules/.cache/ussd-gateway/code'), { recursive: true });
  const before = compiled();
  t.ok(before.length > 500, `${before.length} modules`);

  const start = spawnSync(process.execPath, ['-r', './src/preflight.cjs', 'src/main.ts', 'retention', 'x'], {
    cwd: project,
    env: { ...SETTINGS, DATA_DIR: join(project, 'data') },
    encoding: 'utf8',
  });
  t.equal(start.status, 1, start.stderr);
  // src/main.ts itself and src/preflight.cjs.
  t.ok(compiled().length - before.length <= 2, `${compiled().length} modules, and all but two were there`);
  t.same(prepare(project), { status: 0, said: '' }, 'a second time');
});

t.test('an installation that can prepare nothing is sound all the same', async (t) => {
  const project = copyProject(t);
  rmSync(join(project, 'src'), { recursive: true });
  t.same(prepare(project), { status: 0, said: '' });
});
