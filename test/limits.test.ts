import { spawn, spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import t, { type Test } from 'tap';
import { ask } from './support/ask.ts';
import { DEFAULTS, type Gateway, post, send, startGateway, temporaryDirectory } from './support/gateway.ts';
import { inTime } from './support/in-time.ts';
import { database, freePort } from './support/postgres.ts';

const LIMITED = 'END Too many requests. Please try again later.';

/** Longer than any test here, so that no window ends in the middle of one. */
const WINDOW = { RATE_LIMIT_WINDOW_SECONDS: '3600' };

let sessions = 0;

/** The opening of a session of its own: how it ended. */
async function dial(
  { url }: Gateway,
  headers: Record<string, string> = {},
  {
    path = '/api/ussd',
    ...fields
  }: { path?: string; phoneNumber?: string; sessionId?: string; text?: string } = {},
): Promise<string> {
  sessions += 1;
  const body = JSON.stringify({ ...DEFAULTS, sessionId: `limits-${sessions}`, ...fields });
  const { status, outcome } = await send(url + path, body, {
    'content-type': 'application/json',
    ...headers,
  });
  return outcome ?? `${status}`;
}

/** How many of some dials, one after the other, ended in which way. */
async function dials(
  count: number,
  once: (index: number) => Promise<string>,
): Promise<Record<string, number>> {
  const outcomes: Record<string, number> = {};
  for (let index = 0; index < count; index += 1) {
    const outcome = await once(index);
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
  }
  return outcomes;
}

t.test('by default 100 requests in a window from one address', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const gateway = await startGateway(t, {
    DATABASE_URL,
    RATE_LIMIT_MAX: '',
    ...WINDOW,
    CALLBACK_SECRET: SECRET,
    GATEWAY_ALLOW: '127.0.0.1',
  });
  // Whatever comes from an address counts: good turns, rubbish, wrong methods, every gateway route.
  t.same(await dials(60, () => dial(gateway)), { ok: 60 });
  t.same(await dials(20, () => dial(gateway, {}, { phoneNumber: 'x' })), { invalid: 20 });
  t.same(await dials(10, async () => `${(await ask(`${gateway.url}/api/ussd`)).status}`), { 405: 10 });
  t.same(await dials(5, () => dial(gateway, {}, { path: `/c/${SECRET}/api/ussd` })), { ok: 5 });
  // All at once: not one too many gets through.
  const crowd = await Promise.all(Array.from({ length: 20 }, () => dial(gateway)));
  t.same(await dials(20, async (index) => crowd[index] ?? ''), { ok: 5, limited: 15 });

  const over = await post(gateway.url, { sessionId: 'over' });
  t.equal(over.status, 429);
  t.equal(over.body, LIMITED);
  t.equal(over.outcome, 'limited');
  t.equal(over.headers.get('content-type'), 'text/plain; charset=utf-8');
  t.equal(over.headers.get('cache-control'), 'no-store');
  const wait = Number(over.headers.get('retry-after'));
  t.ok(Number.isInteger(wait) && wait > 0 && wait <= 3600, `Retry-After: ${wait}`);
  for (const body of ['', '{', '%FF', 'x'.repeat(10_000)]) {
    const rubbish = await ask(`${gateway.url}/api/ussd`, { method: 'POST', body });
    t.match(rubbish, { status: 429, headers: { 'x-ussd-outcome': 'limited' } }, 'rubbish too');
  }

  t.same(await dials(20, (index) => dial(gateway, { 'x-forwarded-for': `203.0.113.${index}` })), {
    limited: 20,
  });
  t.same(await dials(5, (index) => dial(gateway, { forwarded: `for=203.0.113.${index}` })), { limited: 5 });
  t.same(await dials(5, (index) => dial(gateway, { 'x-real-ip': `203.0.113.${index}` })), { limited: 5 });
  for (const path of ['/', '/health']) {
    const all = await Promise.all(Array.from({ length: 120 }, () => ask(gateway.url + path)));
    t.ok(
      all.every(({ status }) => status === 200),
      `${path} is never limited`,
    );
  }
});

t.test('behind proxies', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const settings = { DATABASE_URL, RATE_LIMIT_MAX: '3', ...WINDOW, TRUST_PROXY_ENABLED: 'true' };

  await t.test('a client that is no trusted proxy gains nothing', async (t) => {
    const gateway = await startGateway(t, { ...settings, TRUSTED_PROXIES: '10.0.0.0/8' });
    const rotated = await dials(8, (index) => dial(gateway, { 'x-forwarded-for': `203.0.113.${index}` }));
    t.same(rotated, { ok: 3, limited: 5 });
    t.same(await dials(2, (index) => dial(gateway, { 'x-forwarded-for': `10.0.0.${index}` })), {
      limited: 2,
    });
  });

  await t.test('clients behind a trusted one are told apart, whatever they put in front', async (t) => {
    const gateway = await startGateway(t, settings);
    const from = (forwarded: string) => dial(gateway, { 'x-forwarded-for': forwarded });
    t.same(await dials(5, (index) => from(`198.51.100.${index}, 203.0.113.7`)), { ok: 3, limited: 2 });
    t.same(await dials(5, (index) => from(`10.0.0.${index}, 203.0.113.8`)), { ok: 3, limited: 2 }, 'another');
    t.equal(await from('203.0.113.7'), 'limited');
    t.equal(await from('203.0.113.7, 10.1.2.3'), 'limited', 'through one proxy more');
    t.equal(await from('203.0.113.9'), 'ok', 'a third');
    // One client owns a /64 whole.
    t.same(await dials(5, (index) => from(`2001:db8:1:2::${index}`)), { ok: 3, limited: 2 });
    t.equal(await from('2001:db8:1:3::1'), 'ok');
    // What no address is does not break anything.
    for (const rubbish of ['x', ',', '203.0.113.7:443', '::1%eth0', '1.2.3.999', 'unknown', '"']) {
      t.match(await from(rubbish), /^(ok|limited)$/, rubbish);
    }
  });
});

t.test('networks in RATE_LIMIT_ALLOW are limited per phone number', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const gateway = await startGateway(t, {
    DATABASE_URL,
    ...WINDOW,
    RATE_LIMIT_MAX: '4',
    RATE_LIMIT_PHONE_MAX: '2',
    RATE_LIMIT_ALLOW: '203.0.113.0/24,2001:db8::/32',
    TRUST_PROXY_ENABLED: 'true',
  });
  const from = (forwarded: string, phoneNumber: string) =>
    dial(gateway, { 'x-forwarded-for': forwarded }, { phoneNumber });
  t.same(await dials(10, (index) => from('203.0.113.7', `+26097123400${index}`)), { ok: 10 }, 'ten phones');
  t.same(
    await dials(5, (index) => from(`203.0.113.${index}`, '+260971234599')),
    { ok: 2, limited: 3 },
    'one phone',
  );
  t.equal(await from('2001:db8::1', '+260971234599'), 'limited', 'through another address of the aggregator');
  t.equal(await from('2001:db8::1', '+260971234598'), 'ok');
  // Everybody else is counted by address.
  t.same(await dials(6, (index) => from('198.51.100.1', `+26097123410${index}`)), { ok: 4, limited: 2 });

  const over = await send(
    `${gateway.url}/api/ussd`,
    JSON.stringify({ ...DEFAULTS, phoneNumber: '+260971234599' }),
    {
      'content-type': 'application/json',
      'x-forwarded-for': '203.0.113.7',
    },
  );
  t.match(over, { status: 429, outcome: 'limited', body: LIMITED });
  t.ok(Number(over.headers.get('retry-after')) > 0);
});

t.test('with Redis the instances count together, and without it each for itself', async (t) => {
  if (spawnSync('redis-server', ['--version']).status !== 0) {
    t.comment('there is no redis-server on this machine: counting together is not tested');
    return;
  }
  const { url: DATABASE_URL } = await database(t);
  const redis = await startRedis(t);
  const settings = {
    DATABASE_URL,
    ...WINDOW,
    RATE_LIMIT_MAX: '10',
    TRUST_PROXY_ENABLED: 'true',
    REDIS_URL: redis.url,
  };
  const [one, two] = await Promise.all([
    startGateway(t, settings, { redisRestMs: 300 }),
    startGateway(t, settings, { redisRestMs: 300 }),
  ]);
  let clients = 0;
  const client = () => {
    clients += 1;
    return { 'x-forwarded-for': `203.0.113.${clients}` };
  };
  /** An address of its own asks both instances in turn. */
  const alternating = () => {
    const headers = client();
    return dials(24, (index) => dial(index % 2 === 0 ? one : two, headers));
  };
  /** A busy machine may make an instance think for a while that Redis is away: so until it does not. */
  const together = async () => {
    const until = performance.now() + 30_000;
    let outcomes = await alternating();
    while (outcomes.limited !== 14 && performance.now() < until) {
      await sleep(100);
      outcomes = await alternating();
    }
    return outcomes;
  };
  /** The longest turn, in milliseconds. */
  const slowest = async (run: () => Promise<unknown>) => {
    let most = 0;
    await dials(5, async () => {
      const began = performance.now();
      await run();
      most = Math.max(most, performance.now() - began);
      return 'ok';
    });
    return most;
  };
  const APART = { ok: 20, limited: 4 };

  t.same(await together(), { ok: 10, limited: 14 }, 'ten for both');

  redis.signal('SIGSTOP');
  for (const gateway of [one, two]) {
    const ms = await slowest(async () => t.equal(await dial(gateway, client()), 'ok'));
    inTime(t, ms, 2_000, 'a turn while Redis is silent');
  }
  t.same(await alternating(), APART, 'ten for each');
  redis.signal('SIGCONT');
  t.same(await together(), { ok: 10, limited: 14 }, 'together again');

  await redis.kill();
  t.ok(
    (await slowest(async () => t.equal(await dial(one, client()), 'ok'))) < 2_000,
    'a dead Redis delays no turn',
  );
  t.same(await alternating(), APART, 'ten for each');

  await t.test('an instance starts without it', async (t) => {
    const three = await startGateway(t, settings);
    const headers = client();
    t.same(await dials(12, () => dial(three, headers)), { ok: 10, limited: 2 });
  });
  await redis.start();
  t.same(await together(), { ok: 10, limited: 14 }, 'together again with a new one');
});

/** A Redis of our own on a free port, which keeps nothing. */
async function startRedis(t: Test) {
  const port = await freePort();
  const directory = temporaryDirectory(t);
  const start = async () => {
    const options = [
      '--port',
      `${port}`,
      '--bind',
      '127.0.0.1',
      '--dir',
      directory,
      '--save',
      '',
      '--appendonly',
      'no',
    ];
    const child = spawn('redis-server', options, { stdio: 'ignore' });
    const gone = new Promise<void>((done) => child.on('exit', () => done()));
    const client = new Redis(port, '127.0.0.1', { retryStrategy: () => 50, maxRetriesPerRequest: null });
    client.on('error', () => {});
    await client.ping();
    client.disconnect();
    return { child, gone };
  };
  let running = await start();
  const kill = async () => {
    running.child.kill('SIGKILL');
    await running.gone;
  };
  t.teardown(kill);
  return {
    url: `redis://127.0.0.1:${port}`,
    signal: (name: NodeJS.Signals) => running.child.kill(name),
    kill,
    start: async () => {
      running = await start();
    },
  };
}

/** As long as a secret may be. */
const SECRET = 'sec-ret_'.repeat(16);

t.test('who may call: networks, the secret path, named gateways', async (t) => {
  const { url: DATABASE_URL } = await database(t);

  await t.test('GATEWAY_ALLOW refuses everybody else, but not who knows the secret path', async (t) => {
    const settings = { DATABASE_URL, CALLBACK_SECRET: SECRET, GATEWAYS: 'abc=cumulative' };
    const gateway = await startGateway(t, { ...settings, GATEWAY_ALLOW: '196.201.214.0/24' });
    const refused = await post(gateway.url, {});
    t.equal(refused.status, 403);
    t.equal(refused.body, '{"error":"Forbidden"}');
    t.equal(await dial(gateway, {}, { path: '/api/ussd/via/abc' }), '403');
    t.equal(await dial(gateway, { 'x-forwarded-for': '196.201.214.9' }), '403', 'nobody is believed');
    t.equal((await ask(`${gateway.url}/health`)).status, 200);

    const secret = await post(gateway.url, {}, `/c/${SECRET}/api/ussd`);
    t.match(secret, { status: 200, outcome: 'ok', body: /^CON Welcome/ });
    t.equal(await dial(gateway, {}, { path: `/c/${SECRET}/api/ussd/via/abc` }), 'ok');
    const wrongs = [
      SECRET.slice(1),
      `${SECRET}x`,
      SECRET.toUpperCase(),
      'x',
      '%00',
      '__proto__',
      'x'.repeat(5_000),
    ];
    for (const wrong of wrongs) {
      for (const path of ['api/ussd', 'api/ussd/via/abc']) {
        const told = await post(gateway.url, {}, `/c/${wrong}/${path}`);
        t.match(told, { status: 404, body: '{"error":"Not found"}', outcome: null }, wrong.slice(0, 20));
      }
    }
    t.equal((await ask(`${gateway.url}/c/${wrongs[0]}/api/ussd`)).status, 404, 'GET, and a wrong secret');
    t.equal((await ask(`${gateway.url}/c/${SECRET}/api/ussd`)).status, 405);
    t.equal((await ask(`${gateway.url}/c/${SECRET}/health`)).status, 404, 'gateway routes only');
    t.notMatch(gateway.output(), SECRET, 'the secret is in no log');
  });

  await t.test('GATEWAY_ALLOW lets its networks in', async (t) => {
    const gateway = await startGateway(t, {
      DATABASE_URL,
      GATEWAY_ALLOW: '196.201.214.0/24',
      TRUST_PROXY_ENABLED: 'true',
      TRUSTED_PROXIES: '127.0.0.1',
      CALLBACK_SECRET: 'sixteen-letters-',
    });
    t.equal(await dial(gateway, { 'x-forwarded-for': '196.201.214.9' }), 'ok');
    t.equal(await dial(gateway, { 'x-forwarded-for': '::ffff:196.201.214.9' }), 'ok', 'in IPv6 writing');
    t.equal(await dial(gateway, { 'x-forwarded-for': '196.201.215.9' }), '403');
    t.equal(
      await dial(gateway, { 'x-forwarded-for': '196.201.214.9, 203.0.113.7' }),
      '403',
      'a fake in front',
    );
    t.equal(await dial(gateway, { 'x-forwarded-for': 'x' }), '403');
    t.equal(await dial(gateway), '403');
  });

  await t.test('named gateways have session spaces, input modes and secrets of their own', async (t) => {
    const gateway = await startGateway(t, {
      DATABASE_URL,
      GATEWAYS: 'abc=cumulative,xyz=latest:secretsecret',
    });
    const xyz = { 'x-gateway-secret': 'secretsecret' };
    const turn = (path: string, text: string, headers = {}, more = {}) =>
      send(gateway.url + path, JSON.stringify({ ...DEFAULTS, sessionId: 'shared', text, ...more }), {
        'content-type': 'application/json',
        ...headers,
      });
    // One session id, three sessions; another phone's is no stranger in a space of its own.
    t.match(await turn('/api/ussd', ''), { outcome: 'ok', body: /^CON Welcome/ });
    t.match(await turn('/api/ussd', '1'), { outcome: 'ok', body: /^CON Information Center/ });
    const other = { phoneNumber: '+260977777777' };
    t.match(await turn('/api/ussd/via/abc', '', {}, other), { outcome: 'ok', body: /^CON Welcome/ });
    t.match(await turn('/api/ussd/via/abc', '2', {}, other), {
      outcome: 'ok',
      body: /^CON Do you have an account/,
    });
    t.match(await turn('/api/ussd/via/abc', '2'), { outcome: 'invalid' }, 'which is bound to its own opener');
    const third = { phoneNumber: '+260966666666' };
    const press = (text: string, requestId?: string) =>
      turn('/api/ussd/via/xyz', text, xyz, { ...third, requestId });
    t.match(await press(''), { outcome: 'ok', body: /^CON Welcome/ });
    t.match(await press('1', 'first'), { outcome: 'ok', body: /^CON Information Center/ });
    t.match(
      await press('1', 'second'),
      { outcome: 'ok', body: /^CON About/ },
      'only the newest input is sent',
    );
    t.match(
      await turn('/api/ussd', '1*2'),
      { outcome: 'ok', body: /^CON Pricing/ },
      'the others are where they were',
    );
    t.match(await turn('/api/ussd/via/abc', '2*0', {}, other), { outcome: 'ok', body: /^CON Welcome/ });

    const dialled = (path: string, headers = {}) => dial(gateway, headers, { path });
    t.equal(await dialled('/api/ussd/via/xyz', xyz), 'ok', 'the secret in a header');
    t.equal(await dialled('/api/ussd/via/xyz/secretsecret'), 'ok', 'the secret in the path');
    const refused: [string, Record<string, string>?][] = [
      ['/api/ussd/via/xyz'],
      ['/api/ussd/via/xyz', { 'x-gateway-secret': '' }],
      ['/api/ussd/via/xyz', { 'x-gateway-secret': 'secretsecreT' }],
      ['/api/ussd/via/xyz', { 'x-gateway-secret': 'secretsecret,secretsecret' }],
      ['/api/ussd/via/xyz/'],
      ['/api/ussd/via/xyz/secret'],
      ['/api/ussd/via/xyz/wrong', xyz],
      ['/api/ussd/via/xyz/secretsecret/more'],
      ['/api/ussd/via/abc/secretsecret'],
      ['/api/ussd/via/abc', xyz],
      ['/api/ussd/via/ABC'],
      ['/api/ussd/via/ixo'],
      ['/api/ussd/via/none', xyz],
    ];
    for (const [path, headers = {}] of refused) {
      t.equal(await dialled(path, headers), '404', `${path} ${JSON.stringify(headers)}`);
    }
  });
});
