import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { test } from 'tap';

/** Who may import whom: the table of docs/architecture.md, held by reading the imports. */

const SRC = join(import.meta.dirname, '..', 'src');

/** What a place may import besides itself and packages. A place is a folder, or a file of the top level. */
const MAY: Record<string, string[]> = {
  flow: [],
  seal: ['recent.ts'],
  'recent.ts': [],
  http: [],
  'networks.ts': ['recent.ts'],
  'log.ts': [],
  'wire.ts': [],
  services: ['flow', 'db', 'store'],
  'deadline.ts': ['flow'],
  gateways: ['flow', 'http', 'deadline.ts'],
  db: ['flow', 'directories.ts'],
  store: ['db', 'flow', 'seal'],
  'documents.ts': ['flow'],
  'respelt.ts': ['documents.ts'],
  'slips.ts': ['flow', 'documents.ts', 'respelt.ts'],
  'directories.ts': [],
  'checked-menus.ts': ['directories.ts'],
  'menus.ts': ['flow', 'db', 'store', 'documents.ts', 'slips.ts', 'checked-menus.ts'],
  providers: [],
  effects: ['flow', 'seal', 'db', 'store', 'providers'],
  'queue.ts': ['db', 'store', 'effects'],
  'judge.ts': ['flow', 'seal', 'db', 'store'],
  'resume.ts': ['flow', 'db', 'store', 'menus.ts'],
  'hear.ts': ['flow', 'resume.ts', 'seal', 'services', 'db', 'store', 'judge.ts', 'locate.ts'],
  'commit.ts': ['flow', 'seal', 'db', 'store', 'effects', 'hear.ts', 'locate.ts'],
  'limits.ts': [],
  'guard.ts': ['flow', 'http', 'limits.ts', 'networks.ts'],
  'listed.ts': ['db', 'store'],
  sms: ['flow', 'db', 'store', 'effects', 'guard.ts', 'listed.ts', 'documents.ts', 'slips.ts'],
  desk: ['db', 'store', 'guard.ts', 'listed.ts'],
  operator: ['flow', 'seal', 'db', 'store', 'effects', 'guard.ts', 'listed.ts'],
  'bindings.ts': ['flow', 'seal', 'db', 'store', 'effects', 'sms', 'queue.ts', 'engine.ts'],
  'misspelt.ts': [],
  'urls.ts': [],
  'env-file.ts': [],
  'listening.ts': [],
  'start-table.ts': [],
  'config.ts': ['flow', 'seal', 'networks.ts', 'misspelt.ts', 'urls.ts'],
  'locate.ts': ['flow', 'seal', 'db', 'store'],
  'turn.ts': ['flow', 'seal', 'db', 'store', 'menus.ts', 'locate.ts', 'hear.ts', 'commit.ts', 'resume.ts'],
  'engine.ts': ['flow', 'services', 'db', 'store', 'effects', 'seal', 'menus.ts', 'judge.ts', 'turn.ts'],
  'housekeeping.ts': ['db', 'store', 'engine.ts'],
  'kept.ts': ['directories.ts'],
  'opening.ts': ['seal', 'db', 'store', 'kept.ts', 'queue.ts'],
  'leaving.ts': ['db', 'store', 'queue.ts'],
  // What `npm ci` runs: loads what a start loads.
  'prepare.ts': [
    'menus.ts',
    'checked-menus.ts',
    'serve.ts',
    'command.ts',
    'checkup.ts',
    'leaving.ts',
    'env-file.ts',
    'in-words.ts',
    'log.ts',
    'tools',
  ],
  'checkup.ts': ['seal', 'db', 'store', 'providers', 'operator', 'deadline.ts', 'kept.ts', 'opening.ts'],
  // What people use beside the running service: `main.ts` imports none of it.
  tools: [
    'directories.ts',
    'networks.ts',
    'queue.ts',
    'flow',
    'services',
    'gateways',
    'deadline.ts',
    'db',
    'store',
    'effects',
    'providers',
    'seal',
    'menus.ts',
    'engine.ts',
  ],
};

/** The top, which puts everything together; it may import whatever it likes, and the configuration. */
const TOP = ['command.ts', 'in-words.ts', 'main.ts', 'serve.ts', 'start-line.ts'];

/** Packages that a place may import; a place that is not named may import any. */
const PACKAGES: Record<string, RegExp> = {
  flow: /^(zod|any-ascii|libphonenumber-js\/max|re2js)$/,
  seal: /^(node:crypto|@noble\/hashes\/(hmac|sha2)\.js)$/,
  gateways: /^(zod|fastify|fastify-type-provider-zod|node:crypto)$/,
};

type Import = { from: string; to: string };

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => join(folder, file));
}

function importsOf(file: string): Import[] {
  const text = readFileSync(file, 'utf8');
  const from = relative(SRC, file);
  return [...text.matchAll(/(?:^|\n)\s*(?:import|export)\b[^;]*?from '([^']+)'|import\('([^']+)'\)/g)].map(
    (match) => {
      const to = match[1] ?? match[2] ?? '';
      return { from, to: to.startsWith('.') ? relative(SRC, join(dirname(file), to)) : to };
    },
  );
}

const files = filesBelow(SRC);
const imports = files.flatMap(importsOf);
const inside = imports.filter(({ to }) => to.endsWith('.ts'));
const place = (file: string) => (file.includes('/') ? (file.split('/')[0] ?? '') : file);

test('every import goes one way', async (t) => {
  t.ok(inside.length > 50, 'the imports were read');
  for (const { from, to } of inside) {
    const here = place(from);
    if (here === place(to) || TOP.includes(here)) continue;
    if (here === 'app.ts') {
      t.not(to, 'config.ts', `${from} imports ${to}`);
      continue;
    }
    t.ok(MAY[here]?.includes(place(to)), `${from} imports ${to}`);
  }
});

test('only the top imports the configuration, and only the configuration is given the environment', async (t) => {
  t.same(
    inside
      .filter(({ to }) => to === 'config.ts')
      .map(({ from }) => from)
      .sort(),
    TOP,
  );
  for (const file of files) {
    const uses = readFileSync(file, 'utf8').includes('process.env');
    t.equal(uses, relative(SRC, file) === 'main.ts', `${relative(SRC, file)} and process.env`);
  }
});

test('the core is pure: no packages but zod, no clock, no randomness, no process', async (t) => {
  for (const { from, to } of imports) {
    const packages = PACKAGES[place(from)];
    if (packages !== undefined && !to.endsWith('.ts')) t.match(to, packages, `${from} imports ${to}`);
  }
  for (const file of filesBelow(join(SRC, 'flow'))) {
    const text = readFileSync(file, 'utf8');
    t.notMatch(
      text,
      /\b(Date\b|Math\.random|process\b|set(Timeout|Interval|Immediate)|performance\.|crypto|globalThis|fetch\(|Intl\.|toLocale|console\.)/,
      relative(SRC, file),
    );
  }
});

test('no import cycles', async (t) => {
  const graph = new Map<string, string[]>();
  for (const { from, to } of inside) graph.set(from, [...(graph.get(from) ?? []), to]);
  const done = new Set<string>();
  const visit = (file: string, path: string[]) => {
    if (path.includes(file)) return t.fail(`a cycle: ${[...path, file].join(' > ')}`);
    if (done.has(file)) return;
    for (const next of graph.get(file) ?? []) visit(next, [...path, file]);
    done.add(file);
  };
  for (const file of graph.keys()) visit(file, []);
  t.ok(done.size > 20);
});
