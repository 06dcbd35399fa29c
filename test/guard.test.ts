import { networkInterfaces } from 'node:os';
import t from 'tap';
import { ask, type Told } from './support/ask.ts';
import { DEFAULTS, post, send, startGateway } from './support/gateway.ts';
import { queryOn } from './support/phone.ts';
import { database } from './support/postgres.ts';

/** What only operators see. */
const GUARDED = ['/api/ussd/sessions', '/api/ussd/debug/session-001', '/metrics'];

const TIMESTAMP = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

const ROOT = 'Welcome to IXO USSD\n1. Know More\n2. Account Menu\n*. Exit';

const read = ({ body }: Told): unknown => JSON.parse(body.toString());

t.test('the reference, to the letter', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const gateway = await startGateway(t, { DATABASE_URL, GATEWAYS: 'abc=cumulative' });
  const get = (path: string) => ask(gateway.url + path);
  const debug = (sessionId: string) => get(`/api/ussd/debug/${encodeURIComponent(sessionId)}`);

  t.same(read(await get('/api/ussd/sessions')), { activeSessions: [], count: 0 }, 'nobody has dialled');
  // The bodies as the reference prints them.
  const dialled = await send(
    `${gateway.url}/api/ussd`,
    `{
    "sessionId": "session-001",
    "serviceCode": "*1234#",
    "phoneNumber": "+260971234567",
    "text": ""
  }`,
    { 'Content-Type': 'application/json' },
  );
  t.equal(dialled.status, 200);
  t.equal(dialled.body, `CON ${ROOT}`);
  const seen = await debug('session-001');
  t.match(seen, { status: 200, headers: { 'content-type': 'application/json; charset=utf-8' } });
  t.strictSame(read(seen), {
    sessionId: 'session-001',
    debugInfo: {
      state: 'preMenu',
      context: {
        sessionId: 'session-001',
        phoneNumber: '+260971234567',
        message: ROOT,
        isAuthenticated: false,
      },
      status: 'active',
    },
    activeSessions: ['session-001'],
  });

  const chosen = await send(
    `${gateway.url}/api/ussd`,
    `{
    "sessionId": "session-001",
    "serviceCode": "*1234#",
    "phoneNumber": "+260971234567",
    "text": "1"
  }`,
    { 'Content-Type': 'application/json' },
  );
  t.equal(chosen.body, 'CON Information Center\n1. About this service\n2. Pricing\n3. Delivery\n*. Exit');
  t.match(read(await debug('session-001')), {
    debugInfo: {
      state: 'knowMore',
      context: { message: chosen.body.slice('CON '.length) },
      status: 'active',
    },
  });

  await post(gateway.url, { sessionId: 'session-002' });
  t.strictSame(read(await get('/api/ussd/sessions')), {
    activeSessions: ['session-002', 'session-001'],
    count: 2,
  });
  const bye = await post(gateway.url, { sessionId: 'session-002', text: '*' });
  t.match(read(await debug('session-002')), {
    debugInfo: { status: 'ended', context: { message: bye.body.slice('END '.length) } },
    activeSessions: ['session-001'],
  });
  t.strictSame(read(await get('/api/ussd/sessions')), { activeSessions: ['session-001'], count: 1 });

  // A session id may be anything printable; whichever gateway dialled last is shown.
  const odd = `${'/'.repeat(97)}%2e`;
  await post(gateway.url, { sessionId: odd });
  await post(gateway.url, { sessionId: odd, phoneNumber: '+260977777777', text: '2' }, '/api/ussd/via/abc');
  t.match(read(await debug(odd)), {
    sessionId: odd,
    debugInfo: { context: { phoneNumber: '+260977777777' } },
  });
  for (const unknown of ['session-003', 'x'.repeat(100), '%', '\u0000', 'é', 'session-001 ']) {
    const told = await debug(unknown);
    t.equal(told.status, 404, JSON.stringify(unknown));
    t.strictSame(read(told), { error: 'Session not found' });
  }
  t.equal((await debug('x'.repeat(101))).status, 404);

  const alive = read(await get('/')) as { timestamp: string };
  t.match(alive.timestamp, TIMESTAMP);
  t.strictSame(alive, {
    status: 'ok',
    message: 'ixo-ussd-server running',
    environment: 'development',
    timestamp: alive.timestamp,
  });
  const health = read(await get('/health')) as { timestamp: string; uptime: number };
  t.match(health.timestamp, TIMESTAMP);
  t.ok(Number.isInteger(health.uptime) && health.uptime >= 0);
  t.strictSame(health, {
    status: 'ok',
    environment: 'development',
    timestamp: health.timestamp,
    uptime: health.uptime,
    database: 'connected',
  });

  await t.test('every reply has the id of its request', async (t) => {
    const id = '01234567-89ab-4def-8123-456789abcdef';
    const replies: [string, string, (string | Buffer)?][] = [
      ['POST', '/api/ussd', JSON.stringify(DEFAULTS)],
      ['POST', '/api/ussd', '{'],
      ['GET', '/api/ussd'],
      ['GET', '/'],
      ['GET', '/health'],
      ['GET', '/metrics'],
      ['GET', '/docs/json'],
      ['GET', '/nowhere'],
      ['GET', '/%'],
      ...GUARDED.map((path): [string, string] => ['GET', path]),
    ];
    const ids = new Set();
    for (const [method, path, body = ''] of replies) {
      const headers = { 'content-type': 'application/json' };
      const own = await ask(gateway.url + path, { method, headers, body });
      t.match(own.headers['x-request-id'], UUID, `${method} ${path}`);
      ids.add(own.headers['x-request-id']);
      const given = await ask(gateway.url + path, {
        method,
        headers: { ...headers, 'x-request-id': id },
        body,
      });
      t.equal(given.headers['x-request-id'], id, 'a UUID is kept');
    }
    t.equal(ids.size, replies.length, 'no two are the same');
    const other = await ask(gateway.url, { headers: { 'x-request-id': '+260971234567' } });
    t.match(other.headers['x-request-id'], UUID, 'anything else is not');
  });

  await t.test('metrics count turns and name nobody', async (t) => {
    const told = await get('/metrics');
    t.match(told, { status: 200, headers: { 'content-type': /^text\/plain/ } });
    const text = told.body.toString();
    t.match(text, /^ussd_turns_total\{gateway="ixo",outcome="ok"\} 5$/m);
    t.match(text, /^ussd_turns_total\{gateway="ixo",outcome="invalid"\} 2$/m);
    t.match(text, /^ussd_turns_total\{gateway="ixo",outcome="replay"\} 2$/m);
    t.match(text, /^ussd_turns_total\{gateway="abc",outcome="ok"\} 1$/m);
    t.match(text, /^ussd_screens_total\{service="ixo",node="knowMore"\} 1$/m);
    t.match(text, /^ussd_active_sessions 3$/m);
    t.match(text, /^ussd_turn_duration_seconds_count\{outcome="ok"\} 6$/m);
    const buckets = [
      ...text.matchAll(/^ussd_turn_duration_seconds_bucket\{le="([^"]+)",outcome="ok"\} (\d+)$/gm),
    ];
    const counts = buckets.map(([, , count]) => Number(count));
    t.equal(buckets.at(-1)?.[1], '+Inf');
    t.equal(counts.length, 13, 'a bucket for each bound');
    t.same(
      counts,
      counts.toSorted((one, other) => one - other),
      'each holds those below it',
    );
    t.equal(counts.at(-1), 6, 'and the last one all');
    t.match(text, /^ussd_database_connections\{state="idle"\} \d+$/m);
    t.match(text, /^process_cpu_seconds_total /m);
    t.notMatch(
      text,
      /26097|session-0|1234#|Welcome/,
      'no phone, no session, nothing that was dialled or shown',
    );
  });
});

t.test('an idle session is not shown', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const gateway = await startGateway(t, { DATABASE_URL, SESSION_TTL_SECONDS: '100' });
  const query = await queryOn(t, DATABASE_URL);
  await post(gateway.url, {});
  await query(`update turns set at = at - interval '90 seconds'`);
  t.equal((await ask(`${gateway.url}/api/ussd/debug/session-001`)).status, 200);
  await query(`update turns set at = at - interval '11 seconds'`);
  const told = await ask(`${gateway.url}/api/ussd/debug/session-001`);
  t.equal(told.status, 404);
  t.strictSame(read(told), { error: 'Session not found' });
  t.strictSame(read(await ask(`${gateway.url}/api/ussd/sessions`)), { activeSessions: [], count: 0 });
});

t.test('with OPERATOR_TOKEN', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const gateway = await startGateway(t, {
    DATABASE_URL,
    NODE_ENV: 'production',
    OPERATOR_TOKEN: 'ann:read:anns-token,bob:send+money:bobs-token,eve:read+desk:eves:token:with:colons',
    TRUST_PROXY_ENABLED: 'true',
    RATE_LIMIT_WINDOW_SECONDS: '3600',
    HOST: '127.0.0.1',
  });
  await post(gateway.url, {});
  let clients = 0;
  /** From an address of its own, so that wrong tokens do not add up; behind a proxy, from any page. */
  const from = (authorization?: string, path = '/api/ussd/sessions', address = '') => {
    clients += 1;
    const headers = { 'x-forwarded-for': address || `203.0.113.${clients}`, 'sec-fetch-site': 'cross-site' };
    return ask(gateway.url + path, {
      headers: { ...headers, ...(authorization !== undefined && { authorization }) },
    });
  };
  const REFUSED = {
    status: 401,
    headers: { 'www-authenticate': /^Bearer/, 'content-type': /^application\/json/ },
  };

  for (const path of GUARDED) {
    t.match(await from(undefined, path), REFUSED, `${path} without a token`);
    t.match(await from('Bearer anns-tokem', path), REFUSED, 'a wrong one');
    t.equal((await from('Bearer bobs-token', path)).status, 403, 'one that may not read');
    t.equal((await from('Bearer anns-token', path)).status, 200, 'the right one');
  }
  t.strictSame(read(await from()), { error: 'Unauthorized' });
  t.strictSame(read(await from('Bearer bobs-token')), { error: 'Forbidden' });
  for (const right of ['bearer anns-token', 'BEARER  anns-token', 'Bearer eves:token:with:colons']) {
    t.equal((await from(right)).status, 200, right);
  }
  const wrongs = [
    '',
    'Bearer',
    'Bearer ',
    'anns-token',
    'Basic anns-token',
    'Bearer anns-token x',
    'Bearer anns-toke',
    'Bearer anns-token,bobs-token',
    'Bearer ANNS-TOKEN',
    'Bearer ann:read:anns-token',
    'Bearer eves',
    `Bearer ${'x'.repeat(4_000)}`,
  ];
  for (const wrong of wrongs) t.match(await from(wrong), REFUSED, wrong.slice(0, 30));
  t.match(await from(undefined, '/api/ussd/sessions?access_token=anns-token'), REFUSED, 'not in the address');
  t.match(await from(undefined, '/api/ussd/debug/nobody'), REFUSED, 'whether a session exists is not said');

  const tried: number[] = [];
  for (let count = 0; count < 14; count += 1) {
    tried.push((await from(`Bearer guess-${count}`, GUARDED[count % GUARDED.length], '198.51.100.1')).status);
  }
  t.same(tried, [...Array(10).fill(401), ...Array(4).fill(429)], 'wrong tokens are counted');
  const limited = await from('Bearer guess', GUARDED[0], '198.51.100.1');
  t.ok(Number(limited.headers['retry-after']) > 0, 'Retry-After');
  t.equal(
    (await from('Bearer anns-token', GUARDED[0], '198.51.100.1')).status,
    200,
    'the right one still opens',
  );
  t.equal((await from('Bearer guess', GUARDED[0], '198.51.100.2')).status, 401, 'others are not affected');
  t.equal((await post(gateway.url, { sessionId: 'after' })).outcome, 'ok');
  t.notMatch(gateway.output(), /anns-token|bobs-token|guess-|eves/, 'no token is in the log');

  await t.test('a bare token may do everything', async (t) => {
    const bare = await startGateway(t, { DATABASE_URL, OPERATOR_TOKEN: 'eight888' });
    for (const path of GUARDED) {
      t.equal((await ask(bare.url + path)).status, 401, 'also on this machine');
      const told = await ask(bare.url + path, { headers: { authorization: 'Bearer eight888' } });
      t.equal(told.status, 200, path);
    }
  });
});

t.test('without OPERATOR_TOKEN', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const gateway = await startGateway(t, { DATABASE_URL, HOST: '0.0.0.0', TRUST_PROXY_ENABLED: 'true' });
  await post(gateway.url, {});
  const statuses = async (headers: Record<string, string>) =>
    Promise.all(GUARDED.map(async (path) => (await ask(gateway.url + path, { headers })).status));
  const OPEN = [200, 200, 200];
  const SHUT = [403, 403, 403];

  for (const host of [
    'localhost',
    `localhost:${gateway.port}`,
    'LOCALHOST',
    '127.0.0.1',
    '127.0.0.2:80',
    '[::1]:3000',
  ]) {
    t.same(await statuses({ host }), OPEN, `Host: ${host}`);
  }
  for (const site of ['none', 'same-origin']) t.same(await statuses({ 'sec-fetch-site': site }), OPEN, site);
  // One was made (decision 28): who offers a token is held to it.
  t.same(await statuses({ authorization: 'Bearer whatever' }), [401, 401, 401], 'a wrong token is not none');

  // A page that was lured here by DNS knows its own name only.
  const strange = [
    'evil.example',
    'localhost.evil.example',
    '127.0.0.1.evil.example',
    '127.0.0.1@evil.example',
  ];
  for (const host of [...strange, '203.0.113.1', '0.0.0.0', '[::]', 'evil.example:80', 'xlocalhost']) {
    t.same(await statuses({ host }), SHUT, `Host: ${host}`);
  }
  t.same(await statuses({ 'sec-fetch-site': 'cross-site' }), SHUT, 'a page from elsewhere');
  const forwarded = {
    'x-forwarded-for': '127.0.0.1',
    'x-forwarded-host': 'localhost',
    'x-forwarded-proto': 'http',
    'x-forwarded-port': '80',
    'x-forwarded-server': 'localhost',
    forwarded: 'for=127.0.0.1',
    via: '1.1 proxy',
    'x-real-ip': '127.0.0.1',
    'x-client-ip': '127.0.0.1',
    'x-cluster-client-ip': '127.0.0.1',
    'true-client-ip': '127.0.0.1',
    'cf-connecting-ip': '127.0.0.1',
  };
  for (const [name, value] of Object.entries(forwarded)) {
    t.same(await statuses({ [name]: value }), SHUT, name);
    t.same(await statuses({ [name]: '' }), SHUT, `${name}, empty`);
  }

  const outside = Object.values(networkInterfaces())
    .flat()
    .find((each) => each?.family === 'IPv4' && !each.internal)?.address;
  if (outside === undefined) t.comment('this machine has no address but loopback');
  for (const path of outside === undefined ? [] : GUARDED) {
    const told = await ask(`http://${outside}:${gateway.port}${path}`, { headers: { host: 'localhost' } });
    t.equal(told.status, 403, `${path} from an address that is not loopback`);
    t.strictSame(read(told), { error: 'Forbidden' });
  }

  await t.test('in production the routes are not there', async (t) => {
    const production = await startGateway(t, { DATABASE_URL, NODE_ENV: 'production', HOST: '127.0.0.1' });
    for (const path of GUARDED) {
      for (const headers of [{}, { authorization: 'Bearer whatever' }] as Record<string, string>[]) {
        const told = await ask(production.url + path, { headers });
        t.equal(told.status, 404, path);
        t.strictSame(read(told), { error: 'Not found' });
      }
    }
    t.match(read(await ask(production.url)), { environment: 'production' });
    t.match(production.output(), /WARNING anybody may call the gateway routes/);
  });
});

t.test('the document of every route', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const CALLBACK_SECRET = 'a-secret-of-some-length';
  const settings = { DATABASE_URL, CALLBACK_SECRET, GATEWAYS: 'abc=cumulative:abcs-secret' };
  const gateway = await startGateway(t, settings);
  const page = await ask(`${gateway.url}/docs`);
  t.match(page, { status: 200, headers: { 'content-type': /^text\/html/ } });
  t.match(page.body.toString(), /<html/i);
  for (const [, asset = ''] of page.body.toString().matchAll(/(?:src|href)="(\.?\/[^"]+)"/g)) {
    const { status } = await ask(new URL(asset, `${gateway.url}/docs/`).href);
    t.equal(status, 200, asset);
  }

  const told = await ask(`${gateway.url}/docs/json`);
  t.match(told, { status: 200, headers: { 'content-type': /^application\/json/ } });
  const document = read(told) as { openapi: string; paths: Record<string, Record<string, unknown>> };
  t.match(document.openapi, /^3\.1\./);
  const routes: [string, string][] = [
    ['get', '/'],
    ['get', '/health'],
    ['get', '/metrics'],
    ['post', '/api/ussd'],
    ['post', '/api/ussd/via/{gateway}'],
    ['post', '/api/ussd/via/{gateway}/{secret}'],
    ['post', '/c/{callback}/api/ussd'],
    ['get', '/api/ussd/debug/{sessionId}'],
    ['get', '/api/ussd/sessions'],
  ];
  for (const [method, path] of routes) t.ok(document.paths[path]?.[method], `${method} ${path}`);
  t.same(Object.keys(document.paths['/api/ussd'] ?? {}), ['post'], 'what is answered with 405 is no route');
  const described = JSON.stringify(document.paths['/api/ussd']);
  for (const field of Object.keys(DEFAULTS)) t.match(described, `"${field}"`);
  t.match(document.paths['/api/ussd']?.post, {
    requestBody: {
      content: {
        'application/json': { schema: { required: Object.keys(DEFAULTS) } },
        'application/x-www-form-urlencoded': { schema: { required: Object.keys(DEFAULTS) } },
      },
    },
  });
  t.notMatch(told.body.toString(), /a-secret-of|abcs-secret/, 'no secret is in it');
});
