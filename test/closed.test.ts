/** Who may call gateway routes and callbacks (decision 29), and how often a secret may be guessed. */
import t from 'tap';
import { ask } from './support/ask.ts';
import { DEFAULTS, startGateway } from './support/gateway.ts';
import { queryOn } from './support/phone.ts';
import { database } from './support/postgres.ts';

const SECRET = 'a-secret-of-callbacks';
const TOKEN = 'a-token-for-this-test';
const JSON_TYPE = { 'content-type': 'application/json' };

const MESSAGE = {
  id: 'm1',
  from: '+254711000111',
  to: '12345',
  text: 'Hello',
  date: '2026-03-04 10:30:00',
};
const PHONE = { phoneNumber: '+254711000111' };
/** Every route that a gateway or a provider calls, with a body that it accepts. */
const ROUTES: [string, object][] = [
  ['/api/ussd', DEFAULTS],
  ['/api/ussd/via/abc', DEFAULTS],
  ['/ussd/session', DEFAULTS],
  [
    '/ussd/status',
    { ...DEFAULTS, status: 'Success', date: '2026-03-04 10:30:00', networkCode: '63902', cost: 'KES 0.10' },
  ],
  ['/sms/twoway', MESSAGE],
  ['/sms/delivery-reports', { ...PHONE, id: 'ATXid_1', status: 'Success' }],
  ['/sms/opt-out', { ...PHONE, senderId: 'MyBrand' }],
  ['/sms/subscription', { ...PHONE, shortCode: '12345', keyword: 'NEWS', updateType: 'addition' }],
  ['/airtime/status', { ...PHONE, status: 'Failed', requestId: 'ATQid_1', value: 'KES 50.0000' }],
  ['/airtime/validation', { ...PHONE, currencyCode: 'KES', amount: '50.00' }],
  [
    '/telerivet/ussd-listener',
    {
      secret: 'a-secret-of-telerivet',
      from_number: '+254711000111',
      to_number: '*555#',
      language_option: 1,
      location_option: 1,
      support_type_option: 1,
      callback_option: 2,
    },
  ],
];
const TABLES = [
  'ussd_notices',
  'sms_incoming',
  'sms_reports',
  'opt_outs',
  'sms_subscriptions',
  'airtime_reports',
];

const { url: DATABASE_URL } = await database(t);
const SETTINGS = {
  DATABASE_URL,
  OPERATOR_TOKEN: TOKEN,
  GATEWAYS: 'abc=cumulative',
  TELERIVET_SECRET: 'a-secret-of-telerivet',
};
const say = (url: string, body: object | string = {}) =>
  ask(url, {
    method: 'POST',
    headers: JSON_TYPE,
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });

for (const NODE_ENV of ['development', 'production']) {
  t.test(`with a secret nothing answers beside it: ${NODE_ENV}`, async (t) => {
    const { url } = await startGateway(t, {
      ...SETTINGS,
      NODE_ENV,
      HOST: '127.0.0.1',
      CALLBACK_SECRET: SECRET,
    });
    for (const [path, body] of ROUTES) {
      t.equal((await say(url + path, body)).status, 403, path);
      t.equal((await say(url + path, '{')).status, 403, 'before anything is read');
      t.equal((await ask(url + path)).status, 403, 'by any method');
      t.equal((await say(`${url}/c/${SECRET}${path}`, body)).status, 200, `the secret opens ${path}`);
    }
    for (const path of ['/ussd/', '/sms/']) {
      t.equal((await ask(url + path)).status, 403, path);
      t.equal((await ask(`${url}/c/${SECRET}${path}`)).status, 200);
    }
    t.equal((await ask(`${url}/health`)).status, 200);
    const headers = { authorization: `Bearer ${TOKEN}` };
    const metrics = (await ask(`${url}/metrics`, { headers })).body.toString();
    t.match(metrics, /^ussd_gateways_open 0$/m);
    t.match(metrics, /ussd_callbacks_total\{route="\/sms\/opt-out",outcome="refused"\} 3/);
  });
}

t.test('in production with neither, turns are taken and callbacks leave no row', async (t) => {
  const query = await queryOn(t, DATABASE_URL);
  const [{ names = [] } = {}] = await query<{ names: string[] }>(
    `select array_agg(table_name::text) as names from information_schema.tables
      where table_schema = 'public' and table_type = 'BASE TABLE' and table_name ~ '^(ussd_notices|sms_|opt|airtime_)'`,
  );
  t.ok(names.length >= TABLES.length - 1, names.join());
  const rows = async () => {
    const counts: string[] = [];
    for (const name of names) {
      const [{ count = '' } = {}] = await query<{ count: string }>(`select count(*) from ${name}`);
      counts.push(`${name} ${count}`);
    }
    return counts;
  };
  const before = await rows();
  const gateway = await startGateway(t, { ...SETTINGS, NODE_ENV: 'production', HOST: '127.0.0.1' });
  t.match(gateway.output(), /WARNING anybody may call the gateway routes/);
  for (const [path, body] of ROUTES.filter(([path]) => !path.startsWith('/telerivet')))
    t.equal(
      (await say(gateway.url + path, { ...body, id: 'another', requestId: 'another' })).status,
      200,
      path,
    );
  t.same(await rows(), before);
  const headers = { authorization: `Bearer ${TOKEN}` };
  const metrics = (await ask(`${gateway.url}/metrics`, { headers })).body.toString();
  t.match(metrics, /^ussd_gateways_open 1$/m);
  t.match(metrics, /ussd_callbacks_total\{route="\/sms\/twoway",outcome="unproven"\} 1/);
});

t.test('guesses at a secret in the path are limited by address; who knows it is not', async (t) => {
  const gateway = await startGateway(t, {
    DATABASE_URL,
    CALLBACK_SECRET: SECRET,
    GATEWAYS: 'xyz=latest:secretsecret',
    RATE_LIMIT_MAX: '5',
    RATE_LIMIT_ALLOW: '127.0.0.1',
  });
  const guesses: number[] = [];
  for (let guess = 0; guess < 8; guess += 1)
    guesses.push((await say(`${gateway.url}/c/${SECRET}${guess}/api/ussd`, DEFAULTS)).status);
  t.same(guesses, [404, 404, 404, 404, 404, 429, 429, 429]);
  t.equal((await say(`${gateway.url}/c/${SECRET}/api/ussd`, DEFAULTS)).status, 200, 'the right one passes');
  const named = await startGateway(t, {
    DATABASE_URL,
    GATEWAYS: 'xyz=latest:secretsecret',
    RATE_LIMIT_MAX: '5',
    RATE_LIMIT_ALLOW: '127.0.0.1',
  });
  const tries: number[] = [];
  for (let guess = 0; guess < 7; guess += 1)
    tries.push((await say(`${named.url}/api/ussd/via/xyz/secretsec${guess}`, DEFAULTS)).status);
  t.same(tries, [404, 404, 404, 404, 404, 429, 429], 'of a named gateway too');
  t.equal((await say(`${named.url}/api/ussd/via/xyz/secretsecret`, DEFAULTS)).status, 200);
  t.notMatch(gateway.output(), SECRET, 'no guess is in the log');
});
