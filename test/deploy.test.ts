/** What operators are handed (deploy/, docs/operations.md, docs/errors.md) speaks of what there is. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parse, parseAllDocuments } from 'yaml';
import { z } from 'zod';
import { readConfig } from '../src/config.ts';
import { startGateway } from './support/gateway.ts';

const ROOT = join(import.meta.dirname, '..');
const RULES = 'deploy/prometheus-rules.yml';
const DASHBOARD = 'deploy/grafana-dashboard.json';
const RUNBOOK = 'docs/operations.md';
/** The contract: from SIGTERM to the exit. */
const DRAIN_SECONDS = 10;

const read = (path: string) => readFileSync(join(ROOT, path), 'utf8');

const Rules = z.object({
  groups: z.array(
    z.object({
      rules: z.array(
        z.object({
          alert: z.string(),
          expr: z.string(),
          labels: z.object({ severity: z.enum(['page', 'warn']) }),
          annotations: z.object({ summary: z.string(), runbook: z.string() }),
        }),
      ),
    }),
  ),
});
const rules = Rules.parse(parse(read(RULES))).groups.flatMap((group) => group.rules);

const Dashboard = z.object({
  templating: z.object({ list: z.array(z.object({ name: z.string(), type: z.string() })) }),
  panels: z.array(
    z.object({
      id: z.int(),
      title: z.string(),
      datasource: z.object({ type: z.literal('prometheus'), uid: z.literal(`\${datasource}`) }),
      targets: z.array(z.object({ expr: z.string() })).min(1),
    }),
  ),
});
const dashboard = Dashboard.parse(JSON.parse(read(DASHBOARD)));

const Probe = z.object({ httpGet: z.object({ path: z.string(), port: z.literal('http') }) });
const Container = z.object({
  envFrom: z.array(z.object({ configMapRef: z.object({ name: z.string() }) })),
  env: z.array(
    z.object({ name: z.string(), valueFrom: z.object({ secretKeyRef: z.object({ key: z.string() }) }) }),
  ),
  startupProbe: Probe,
  livenessProbe: Probe,
  readinessProbe: Probe,
  lifecycle: z.object({
    preStop: z.object({ exec: z.object({ command: z.tuple([z.literal('sleep'), z.string()]) }) }),
  }),
  securityContext: z.object({
    allowPrivilegeEscalation: z.literal(false),
    readOnlyRootFilesystem: z.literal(true),
    capabilities: z.object({ drop: z.tuple([z.literal('ALL')]) }),
  }),
  resources: z.object({ requests: z.object({ cpu: z.string(), memory: z.string() }) }),
});
const Deployment = z.object({
  spec: z.object({
    replicas: z.int().min(2),
    strategy: z.object({ rollingUpdate: z.object({ maxUnavailable: z.literal(0) }) }),
    selector: z.object({ matchLabels: z.record(z.string(), z.string()) }),
    template: z.object({
      metadata: z.object({ labels: z.record(z.string(), z.string()) }),
      spec: z.object({
        terminationGracePeriodSeconds: z.int(),
        securityContext: z.object({ runAsNonRoot: z.literal(true) }),
        containers: z.tuple([Container]),
      }),
    }),
  }),
});
const manifest = new Map(
  parseAllDocuments(read('deploy/kubernetes.yaml')).map((document) => {
    t.same(document.errors, []);
    return [String(document.get('kind')), document.toJS() as unknown];
  }),
);
const pod = Deployment.parse(manifest.get('Deployment')).spec.template.spec;
const [container] = pod.containers;
const settings = z.object({ data: z.record(z.string(), z.string()) }).parse(manifest.get('ConfigMap')).data;

/** Metrics that a text names; what Prometheus says of a scrape itself is not ours. */
const metricsIn = (text: string) => [...new Set(text.match(/\b(ussd|nodejs|process)_[a-z0-9_]*[a-z0-9]\b/g))];

const gateway = await startGateway(t);

t.test('metrics', async (t) => {
  const metrics = await (await fetch(`${gateway.url}/metrics`)).text();
  const families = new Set<string>();
  for (const [, name = '', kind] of metrics.matchAll(/^# TYPE (\S+) (\S+)$/gm))
    for (const end of kind === 'histogram' ? ['', '_bucket', '_sum', '_count'] : [''])
      families.add(name + end);
  t.ok(families.has('ussd_turns_total'));
  // A database and a table of the runbook are not metrics.
  const named = {
    [RULES]: metricsIn(rules.map(({ expr }) => expr).join('\n')),
    [DASHBOARD]: metricsIn(read(DASHBOARD)),
    [RUNBOOK]: metricsIn(read(RUNBOOK).replaceAll(/ussd_restored|ussd_notices/g, '')),
  };
  for (const [file, names] of Object.entries(named)) {
    t.ok(names.length >= 8, `${file} names ${names.length}`);
    t.same(
      names.filter((name) => !families.has(name)),
      [],
      `${file}: all are there`,
    );
  }
  const ours = [...families].filter((name) => /^ussd_.*(?<!_bucket|_sum|_count)$/.test(name));
  t.same(
    ours.filter((name) => !named[RUNBOOK]?.includes(name)),
    [],
    'and the runbook leaves none of ours out',
  );
});

t.test('alerts, each with what to do', async (t) => {
  const headings = [...read(RUNBOOK).matchAll(/^### (.+)$/gm)].map(([, heading = '']) => heading);
  const names = rules.map(({ alert }) => alert);
  t.equal(new Set(names).size, names.length, 'each once');
  t.same(
    names.filter((name) => !headings.includes(name)),
    [],
  );
  t.same(
    headings.filter((heading) => /^Ussd/.test(heading) && !names.includes(heading)),
    [],
    'and nothing for one that is gone',
  );
  for (const { alert, annotations } of rules)
    t.equal(annotations.runbook, `docs/operations.md#${alert.toLowerCase()}`);
  const promtool = (...words: string[]) => spawnSync('promtool', words, { cwd: ROOT, encoding: 'utf8' });
  if (promtool('--version').status !== 0) return t.comment('no promtool here: expressions were not checked');
  for (const words of [
    ['check', 'rules', RULES],
    ['test', 'rules', 'deploy/prometheus-rules.test.yml'],
  ]) {
    const { status, stdout, stderr } = promtool(...words);
    t.equal(status, 0, `promtool ${words.join(' ')}: ${status === 0 ? 'good' : stdout + stderr}`);
  }
});

t.test('the dashboard can be imported anywhere', async (t) => {
  t.match(dashboard.templating.list[0], { name: 'datasource', type: 'datasource' });
  t.equal(
    new Set(dashboard.panels.map(({ id }) => id)).size,
    dashboard.panels.length,
    'each panel has an id',
  );
});

t.test('the manifest', async (t) => {
  const documented = new Set([...read('.env.example').matchAll(/^([A-Z0-9_]+)=/gm)].map(([, name]) => name));
  const secrets = container.env.map(({ name }) => name);
  const unknown = [...Object.keys(settings), ...secrets].filter((name) => !documented.has(name));
  t.same(unknown, [], 'every variable is one');
  t.same(secrets, [
    'DATABASE_URL',
    'DATABASE_ADMIN_URL',
    'PIN_ENCRYPTION_KEY',
    'DIGEST_KEY',
    'OPERATOR_TOKEN',
  ]);
  t.same(
    container.env.map(({ valueFrom }) => valueFrom.secretKeyRef.key),
    secrets,
  );
  const services = [
    ...new Set([...(settings.SERVICE_CODES ?? '').matchAll(/=([a-z]+)/g)].map(([, name = '']) => name)),
  ];
  const whole = {
    ...settings,
    DATABASE_URL: 'postgres://user:password@host:5432/ussd?sslmode=verify-full',
    PIN_ENCRYPTION_KEY: 'k1:0123456789abcdef0123456789abcdef',
    OPERATOR_TOKEN: 'prometheus:read:0123456789,ops:read+send+money+desk+admin:9876543210',
  };
  t.match(readConfig(whole, services), { environment: 'production', host: '0.0.0.0', port: 3000 });
  t.same(
    services.filter((service) => !readdirSync(join(ROOT, 'src', 'services')).includes(service)),
    [],
    'and every service',
  );

  for (const name of ['startupProbe', 'livenessProbe', 'readinessProbe'] as const) {
    const { path } = container[name].httpGet;
    t.equal((await fetch(gateway.url + path)).status, 200, `${name} ${path}`);
  }
  const [, pause] = container.lifecycle.preStop.exec.command;
  t.ok(pod.terminationGracePeriodSeconds > Number(pause) + DRAIN_SECONDS, 'the drain has its time');
  const compose = z
    .object({ services: z.object({ app: z.object({ stop_grace_period: z.string().regex(/^\d+s$/) }) }) })
    .parse(parse(read('docker-compose.yml')));
  t.ok(Number.parseInt(compose.services.app.stop_grace_period, 10) > DRAIN_SECONDS, 'also under compose');

  const { matchLabels } = Deployment.parse(manifest.get('Deployment')).spec.selector;
  const Selects = z.object({ spec: z.object({ selector: z.unknown() }) });
  t.same(Selects.parse(manifest.get('Service')).spec.selector, matchLabels);
  t.same(Selects.parse(manifest.get('PodDisruptionBudget')).spec.selector, { matchLabels });
});

t.test('the compose file keeps its containers apart and small', async (t) => {
  const Hardened = z.object({
    restart: z.literal('unless-stopped'),
    read_only: z.literal(true),
    cap_drop: z.tuple([z.literal('ALL')]),
    security_opt: z.tuple([z.literal('no-new-privileges:true')]),
    mem_limit: z.string().regex(/^\d+[mg]$/),
    logging: z.object({
      driver: z.literal('json-file'),
      options: z.object({ 'max-size': z.string(), 'max-file': z.string() }),
    }),
    privileged: z.literal(false).optional(),
    ports: z.array(z.string().regex(/^127\.0\.0\.1:/, 'this machine only')).optional(),
  });
  const text = read('docker-compose.yml');
  const { services } = z
    .object({ services: z.record(z.string(), Hardened) })
    .parse(parse(text, { merge: true }));
  t.same(Object.keys(services), ['app', 'postgres', 'redis']);
  t.notMatch(text, /(PASSWORD|TOKEN|KEY):-/, 'no secret has a default');
  const { app } = z
    .object({ app: z.object({ environment: z.record(z.string(), z.string()) }) })
    .parse(parse(text, { merge: true }).services);
  const usual = /:-(postgres:.*)\}$/.exec(app.environment.DATABASE_URL ?? '')?.[1] ?? '';
  const whole = {
    NODE_ENV: 'production',
    DATABASE_URL: usual.replace(/\$\{.*?\}/, 'abc123'),
    PIN_ENCRYPTION_KEY: 'k1:0123456789abcdef0123456789abcdef',
    SERVICE_CODES: '*1234#=ixo',
  };
  t.match(readConfig(whole, ['ixo']), {
    databaseUrl: 'postgres://ussd:abc123@postgres:5432/ussd?sslmode=disable',
  });
});

t.test('the network policy, and whom the pods believe', async (t) => {
  const Ports = z
    .array(z.object({ protocol: z.enum(['TCP', 'UDP']), port: z.union([z.int(), z.literal('http')]) }))
    .min(1);
  const { spec } = z
    .object({
      spec: z.object({
        podSelector: z.object({ matchLabels: z.record(z.string(), z.string()) }),
        policyTypes: z.tuple([z.literal('Ingress'), z.literal('Egress')]),
        ingress: z.array(z.object({ from: z.array(z.unknown()).min(1), ports: Ports })).min(1),
        egress: z.array(z.object({ to: z.array(z.unknown()).min(1), ports: Ports })).min(1),
      }),
    })
    .parse(manifest.get('NetworkPolicy'));
  const { matchLabels } = Deployment.parse(manifest.get('Deployment')).spec.selector;
  t.same(spec.podSelector.matchLabels, matchLabels, 'it is of these pods');
  const out = spec.egress.flatMap(({ ports }) => ports.map(({ port }) => port));
  t.same([...new Set(out)].sort(), [443, 53, 5432, 6379]);
  for (const network of (settings.TRUSTED_PROXIES ?? '').split(','))
    t.ok(Number(network.split('/')[1]) >= 24, `${network} is narrower than a network of pods`);
});

t.test('the commands of the runbook', async (t) => {
  const { scripts } = z
    .object({ scripts: z.record(z.string(), z.string()) })
    .parse(JSON.parse(read('package.json')));
  const table = read(RUNBOOK).split('## Commands')[1] ?? '';
  const named = [...table.matchAll(/^\| `([a-z:]+)/gm)].map(([, name = '']) => name);
  t.ok(named.length >= 7);
  for (const name of named)
    t.equal(scripts[name], `exec node -r ./src/preflight.cjs src/main.ts ${name}`, name);
});

t.test('variables that the runbook and the page on security name', async (t) => {
  const words = /(?<![\w$.-])([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)(?![\w-])/g;
  const elsewhere = new Set(['POSTGRES_PASSWORD', 'RESTORED_URL']);
  for (const file of [RUNBOOK, 'docs/security.md']) {
    const named = [...read(file).matchAll(words)].map(([, name = '']) => name);
    const unknown = named.filter(
      (name) => !elsewhere.has(name) && !read('.env.example').includes(`${name}=`),
    );
    t.same(unknown, [], file);
  }
});

t.test('docs/security.md names tests that there are', async (t) => {
  const page = read('docs/security.md');
  const named = [...page.matchAll(/`(test\/[\w/.-]+\.test\.ts)`((?:[:,] \*[^*|]+\*)*)/g)];
  t.ok(named.length > 30, `${named.length} of them`);
  for (const [, file = '', names = ''] of named) {
    const text = read(file);
    for (const [, name = ''] of names.matchAll(/\*([^*]+)\*/g)) t.ok(text.includes(name), `${file}: ${name}`);
  }
});

/** Every file below src/, as text. */
const sources = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.ts'))
  .map((path) => read(join('src', path)));

t.test('every error code stands in docs/errors.md', async (t) => {
  const codes = new Set<string>();
  const add = (text = '') => {
    for (const [, code = ''] of text.matchAll(/'([a-z][a-z_]*)'/g)) codes.add(code);
  };
  for (const source of sources) {
    // What a class of errors always or sometimes says of itself, and what it is made with.
    for (const [, own] of source.matchAll(/readonly code(?: =|:) ((?:\| )?'[^;]+);/g)) add(own);
    for (const [, made] of source.matchAll(/new (?:ProviderError|Unavailable)\(([^()]*)\)/g)) add(made);
    // The tables of what a far side says.
    for (const [, said] of source.matchAll(/\[\d+, '\w+', '(?:later|refused)', ('\w+')\]/g)) add(said);
    for (const [, said] of source.matchAll(/\[\/.+\/i?, ('\w+'), (?:true|false)\]/g)) add(said);
    // What a message ends with.
    for (const [, set] of source.matchAll(/state(?:: | = )'(?:failed|rejected)',\s+code(?:: | = )('\w+')/g))
      add(set);
  }
  for (const code of [
    'wrong_keys',
    'shed',
    'seal_broken',
    'too_large',
    'do_not_disturb',
    'refused_balance',
    'withdrawn',
  ])
    t.ok(codes.has(code), `${code} is found`);
  const page = read('docs/errors.md');
  const written = [...page.matchAll(/`([a-z][a-z_]*)(…?)`/g)].map(([, code = '', more]) => ({ code, more }));
  const stands = (wanted: string) =>
    written.some(({ code, more }) => wanted === code || (more === '…' && wanted.startsWith(code)));
  t.same(
    [...codes].filter((code) => !stands(code)),
    [],
    `${codes.size} codes`,
  );
  for (const line of page.split('\n').filter((line) => /^\| `/.test(line)))
    t.match(line.split(' | '), { length: 4 }, `code, where, cause and remedy: ${line.slice(0, 40)}`);
});
