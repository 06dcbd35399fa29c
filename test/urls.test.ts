/** Passwords that are not percent-encoded, and Unix sockets, in the URLs of settings. */
import { test } from 'tap';
import { ConfigError, readConfig } from '../src/config.ts';
import { urlProblem } from '../src/urls.ts';

const KEY = '0123456789abcdef0123456789abcdef';
const POSTGRES = ['postgres:', 'postgresql:'];
const REDIS = ['redis:', 'rediss:'];

/** Passwords that a URL does not carry as they are. */
const CUT = [
  'p#ss',
  '#',
  '12#34',
  'p/ss',
  '12/34',
  '/',
  'p?ss',
  '12?34',
  'p@/ss',
  'p#s@s',
  '50%off',
  '%',
  'p%fa',
  'a/b#c?d',
];
/** Passwords that are read as they are meant. */
const WHOLE = ['p@ss', 'p:ss', ':', '@', 'p!$&*+,;=ss', 'p[ss]', 'p ss', 'p^|`ss', 'p\\ss', 'hush', ''];

test('a password that has to be percent-encoded is told so, without the password', async (t) => {
  for (const password of CUT) {
    for (const [name, url, protocols] of [
      ['DATABASE_URL', `postgres://user:${password}@host:5432/ussd`, POSTGRES],
      ['DATABASE_URL', `postgresql://user:${password}@host/ussd?sslmode=require`, POSTGRES],
      ['REDIS_URL', `redis://:${password}@redis:6379/1`, REDIS],
      ['REDIS_URL', `rediss://user:${password}@redis`, REDIS],
    ] as const) {
      const problem = urlProblem(url, protocols) ?? '';
      t.match(problem, /percent-encoded: write # as %23, \/ as %2F/, `${name} with ${password}`);
      if (password.length > 2) t.notMatch(problem, password, 'is not repeated');
      const encoded = url.replace(`:${password}@`, `:${encodeURIComponent(password)}@`);
      t.equal(urlProblem(encoded, protocols), undefined, encoded);
    }
  }
  for (const password of WHOLE) {
    t.equal(urlProblem(`postgres://user:${password}@host/ussd`, POSTGRES), undefined, password);
    t.equal(urlProblem(`redis://:${password}@redis:6379`, REDIS), undefined, password);
  }
});

test('the URL of events, which may have a user and a password', async (t) => {
  const web = ['https:', 'http:'];
  for (const password of ['p#ss', '12#34', 'p/ss', 'p?ss', '50%off'])
    t.match(urlProblem(`https://user:${password}@help.example/events`, web), /percent-encoded/, password);
  for (const url of [
    'https://help.example/@desk/events?to=a@b',
    'https://user:p%23ss@help.example:8443/events',
    'http://[::1]:3000/x',
  ])
    t.equal(urlProblem(url, web), undefined, url);
});

test('another fault of a URL is named as what it is', async (t) => {
  const begins = /^must be a URL that begins with postgres:\/\/ or postgresql:\/\/$/;
  for (const url of [
    'mysql://user:p#ss@host/x',
    'localhost:5432',
    'postgres:ussd',
    '/var/run/postgresql',
    '//host/x',
    'user:p#ss@host',
  ])
    t.match(urlProblem(url, POSTGRES), begins, url);
  const host = /^its host or port cannot be read: write postgres:\/\/user:password@host:port\/name$/;
  for (const url of [
    'postgres://host:port/ussd',
    'postgres://user:hush@host:99999/ussd',
    'postgres://h1:1,h2:2/ussd',
    'postgres://user@:5432/ussd',
  ])
    t.match(urlProblem(url, POSTGRES), host, url);
});

test('a Unix socket may be named in every form that Postgres has for it', async (t) => {
  for (const url of [
    'postgres:///ussd?host=/var/run/postgresql',
    'postgresql:///ussd?host=/var/run/postgresql&user=app&password=p%23ss&port=5433',
    'postgresql:///ussd?host=%2Fvar%2Frun%2Fpostgresql',
    'postgres://app@/ussd?host=/var/run/postgresql',
    'postgres://app:hush@/ussd?host=/var/run/postgresql',
    'postgres://app@%2Fvar%2Frun%2Fpostgresql/ussd',
    'postgres://app:p%40ss@%2Fvar%2Frun%2Fpostgresql:5433/ussd',
    'postgres://%2Fvar%2Frun%2Fpostgresql/ussd',
    'postgres:///ussd',
    'postgres://host/ussd?user=app@server&password=hush',
  ])
    t.equal(urlProblem(url, POSTGRES), undefined, url);
});

test('the configuration says it with the name of the setting, and encodes a space', async (t) => {
  const read = (settings: Record<string, string>) =>
    readConfig({ PIN_ENCRYPTION_KEY: KEY, ...settings }, ['ixo', 'demo', 'airtime', 'invest', 'support']);
  for (const [name, url] of [
    ['DATABASE_URL', 'postgres://user:se#cret@host/ussd'],
    ['REDIS_URL', 'redis://:se#cret@redis:6379'],
    ['TWILIO_EVENTS_URL', 'https://user:se#cret@help.example/events'],
  ] as const) {
    try {
      read({ [name]: url });
      t.fail(`${name} is refused`);
    } catch (error) {
      const said = (error as ConfigError).problems.join('\n');
      t.ok(error instanceof ConfigError);
      t.match(said, new RegExp(`^${name}: a character of its user name or password must be percent-encoded`));
      t.notMatch(said, /se#|cret/);
    }
  }
  t.equal(
    read({ DATABASE_URL: 'postgres://u:a b%2Fc@host/ussd' }).databaseUrl,
    'postgres://u:a%20b%2Fc@host/ussd',
  );
});
