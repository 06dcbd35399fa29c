import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, readlinkSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import pg from 'pg';
import t, { type Test } from 'tap';
import { ConfigError, readConfig } from '../src/config.ts';
import { hold } from '../src/db/embedded.ts';
import { inWords } from '../src/in-words.ts';
import { embeddedDirectory } from './support/embedded.ts';
import {
  environment,
  type GatewayProcess,
  post,
  refusalOf,
  startGateway,
  startProcess,
  TEST_KEY,
  temporaryDirectory,
} from './support/gateway.ts';
import { queryOn } from './support/phone.ts';
import { database } from './support/postgres.ts';

const MAIN = join(import.meta.dirname, '..', 'src', 'main.ts');
const KEY = '0123456789abcdef0123456789abcdef';
const OTHER_KEY = 'fedcba9876543210fedcba9876543210';
const SERVER = { DATABASE_URL: 'postgres://user:hush@localhost/ussd', PIN_ENCRYPTION_KEY: KEY };
const SERVICES = ['ixo', 'demo', 'airtime', 'invest', 'support'];

const WHOLE = (least: number, most: number) => `must be a whole number from ${least} to ${most}`;
const NO_NETWORK = /is no network: write 196\.201\.214\.0\/24 or a single address$/;
const KEY_FORMS = 'a key is 32 characters, 64 hex digits or base64 of 32 bytes';
const OPERATOR = 'an entry is name:scope+scope:token, with scopes of read, send, money, desk, support, admin';
const TOKEN = 'a token has at least 8 characters, printable ASCII and no space';
const GATEWAY =
  'an entry is name=cumulative or name=latest, with :secret of 8 or more letters, digits, - or _';
const AT_URL = 'must be a URL that begins with https:// or http://, without user, query or fragment';
const AT_SENDER =
  'must be 1 to 11 printable characters of the GSM alphabet with at least one letter, such as M-TIBA, or a number of 3 to 15 digits';
const AT_SHORTCODE = 'must be a short code, such as 20880, or another number of 3 to 15 digits';

function problems(settings: Record<string, string>): string[] {
  try {
    readConfig(settings, SERVICES);
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
}

t.test('where nothing is set', async (t) => {
  const nothing = readConfig({}, SERVICES);
  t.match(nothing, {
    environment: 'development',
    port: 3000,
    host: '127.0.0.1',
    logLevel: 'info',
    dataDir: '.data',
    operators: [],
    sessionTtlMs: 180_000,
    inputMode: 'cumulative',
    defaultService: 'ixo',
    trustedProxies: [],
    rateLimit: { max: 100, windowMs: 60_000, phoneMax: 60, allow: { empty: true } },
    gatewayAllow: { empty: true },
    gateways: [],
  });
  for (const name of [
    'databaseUrl',
    'keyRing',
    'digestKey',
    'callbackSecret',
    'redisUrl',
    'smsReplies',
    'africasTalking',
  ])
    t.notOk(name in nothing, name);
  t.same(nothing.smsFrom, {});
  t.same(Object.fromEntries(nothing.serviceCodes), {
    '*1234#': 'ixo',
    '*123#': 'demo',
    '*144#': 'airtime',
    '*384#': 'invest',
    '*555#': 'support',
  });
  const blank = readConfig(
    { PORT: '', RATE_LIMIT_MAX: '  ', OPERATOR_TOKEN: '\t', GATEWAY_ALLOW: '' },
    SERVICES,
  );
  t.same(blank.port, 3000, 'set to nothing is not set');
  t.same(blank.operators, []);
  t.equal(readConfig({ ...SERVER, NODE_ENV: 'production' }, SERVICES).host, '0.0.0.0');
  t.equal(readConfig({ ...SERVER, NODE_ENV: 'production', HOST: '127.0.0.1' }, SERVICES).host, '127.0.0.1');
});

t.test('good values', async (t) => {
  const good: [Record<string, string>, Record<string, unknown>][] = [
    [{ PORT: '0' }, { port: 0 }],
    [{ PORT: ' 65535 ' }, { port: 65_535 }],
    [{ HOST: '::' }, { host: '::' }],
    [{ NODE_ENV: 'test' }, { environment: 'test' }],
    [{ LOG_LEVEL: 'silent' }, { logLevel: 'silent' }],
    [SERVER, { databaseUrl: SERVER.DATABASE_URL }],
    [{ ...SERVER, DATABASE_URL: 'postgresql:///ussd?host=/run/postgresql' }, {}],
    [{ DATA_DIR: '/srv/ussd' }, { dataDir: '/srv/ussd' }],
    [{ PIN_ENCRYPTION_KEY: `new:${KEY},old:${OTHER_KEY}` }, { keyRing: { active: 'new' } }],
    [{ PIN_ENCRYPTION_KEY: Buffer.alloc(32, 1).toString('base64') }, { keyRing: {} }],
    [{ DIGEST_KEY: '01'.repeat(32) }, { digestKey: Buffer.alloc(32, 1) }],
    [{ OPERATOR_TOKEN: 'eight888' }, { operators: [{ name: 'operator', token: 'eight888' }] }],
    [
      { OPERATOR_TOKEN: 'ann:read:anns-token, bob:send+money:bobs:token,' },
      {
        operators: [
          { name: 'ann', scopes: new Set(['read']), token: 'anns-token' },
          { name: 'bob', scopes: new Set(['send', 'money']), token: 'bobs:token' },
        ],
      },
    ],
    [{ SESSION_TTL_SECONDS: '3600' }, { sessionTtlMs: 3_600_000 }],
    [{ USSD_INPUT_MODE: 'latest' }, { inputMode: 'latest' }],
    [
      { SERVICE_CODES: '*1#=demo, *1*2#=ixo', DEFAULT_SERVICE: 'demo' },
      {
        serviceCodes: new Map([
          ['*1#', 'demo'],
          ['*1*2#', 'ixo'],
        ]),
        defaultService: 'demo',
      },
    ],
    [{ TRUST_PROXY_ENABLED: 'false', TRUSTED_PROXIES: '10.0.0.0/8' }, { trustedProxies: [] }],
    [
      { TRUST_PROXY_ENABLED: 'true', TRUSTED_PROXIES: '10.0.0.1, fd00::/8' },
      { trustedProxies: ['10.0.0.1', 'fd00::/8'] },
    ],
    [
      { RATE_LIMIT_MAX: '1', RATE_LIMIT_WINDOW_SECONDS: '86400', RATE_LIMIT_PHONE_MAX: '1000000' },
      { rateLimit: { max: 1, windowMs: 86_400_000, phoneMax: 1_000_000 } },
    ],
    [
      { GATEWAYS: 'abc=cumulative,x-1=latest:secret_-8' },
      {
        gateways: [
          { name: 'abc', mode: 'cumulative' },
          { name: 'x-1', mode: 'latest', secret: 'secret_-8' },
        ],
      },
    ],
    [{ CALLBACK_SECRET: 'x'.repeat(128) }, { callbackSecret: 'x'.repeat(128) }],
    [{ REDIS_URL: 'rediss://:hush@redis:6380/1' }, { redisUrl: 'rediss://:hush@redis:6380/1' }],
    [
      { AT_SENDER_ID: 'Shop2', AT_SHORTCODE: '20880', AT_KEYWORD: 'NEWS' },
      { smsFrom: { senderId: 'Shop2', shortCode: '20880', keyword: 'NEWS' } },
    ],
    [{ SMS_REPLIES: '/srv/replies.yaml' }, { smsReplies: '/srv/replies.yaml' }],
    [{ AT_SENDER_ID: '20880' }, { smsFrom: { senderId: '20880' } }],
    [{ SOMETHING_ELSE: 'x' }, {}],
  ];
  for (const [settings, expected] of good)
    t.match(readConfig(settings, SERVICES), expected, JSON.stringify(settings));

  const { operators } = readConfig({ OPERATOR_TOKEN: 'eight888' }, SERVICES);
  t.same(
    [...(operators[0]?.scopes ?? [])],
    ['read', 'send', 'money', 'desk', 'support', 'admin'],
    'a bare token has all scopes',
  );
  t.ok(readConfig({ TRUST_PROXY_ENABLED: 'true' }, SERVICES).trustedProxies.includes('127.0.0.0/8'));
  const lists = readConfig(
    { GATEWAY_ALLOW: '196.201.214.0/24,2001:db8::1', RATE_LIMIT_ALLOW: '0.0.0.0/0' },
    SERVICES,
  );
  const inside = ['196.201.214.0', '196.201.214.255', '::ffff:196.201.214.9', '2001:db8::1'];
  const outside = ['196.201.215.0', '2001:db8::2', '::1', 'x', '', '196.201.214', 'localhost'];
  for (const address of inside) t.ok(lists.gatewayAllow.has(address), address);
  for (const address of outside) t.notOk(lists.gatewayAllow.has(address), `not ${address}`);
  t.ok(lists.rateLimit.allow.has('8.8.8.8'));
});

t.test('Twilio: all of an account, or nothing', async (t) => {
  const account = { TWILIO_ACCOUNT_SID: 'AC1', TWILIO_AUTH_TOKEN: 'hush-hush', TWILIO_WORKSPACE_SID: 'WS1' };
  t.notOk('twilio' in readConfig({}, SERVICES));
  t.same(readConfig(account, SERVICES).twilio, {
    accountSid: 'AC1',
    authToken: 'hush-hush',
    workspaceSid: 'WS1',
    taskChannel: 'default',
    baseUrl: 'https://taskrouter.twilio.com',
  });
  const more = {
    TWILIO_WORKFLOW_SID: 'WW1',
    TWILIO_TASK_CHANNEL: 'callback',
    TWILIO_BASE_URL: 'http://127.0.0.1:9000/',
    TWILIO_EVENTS_URL: 'https://help.example/twilio/task-events',
  };
  t.match(readConfig({ ...account, ...more }, SERVICES).twilio, {
    workflowSid: 'WW1',
    taskChannel: 'callback',
    baseUrl: 'http://127.0.0.1:9000',
    eventsUrl: 'https://help.example/twilio/task-events',
  });
  t.same(problems({ TWILIO_ACCOUNT_SID: 'AC1' }), [
    'TWILIO_AUTH_TOKEN: is required with TWILIO_ACCOUNT_SID',
    'TWILIO_WORKSPACE_SID: is required with TWILIO_ACCOUNT_SID',
  ]);
  t.same(problems({ TWILIO_WORKFLOW_SID: 'WW1' }), [
    'TWILIO_ACCOUNT_SID: is required with TWILIO_WORKFLOW_SID',
  ]);
  t.same(problems({ ...account, TWILIO_ACCOUNT_SID: 'WS1', TWILIO_AUTH_TOKEN: 'short' }), [
    'TWILIO_ACCOUNT_SID: must be an id that begins with AC',
    'TWILIO_AUTH_TOKEN: must be 8 to 200 printable ASCII characters',
  ]);
  t.same(problems({ TELERIVET_SECRET: 'short' }), [
    'TELERIVET_SECRET: must be 8 to 200 printable ASCII characters',
  ]);
  t.same(problems({ DESK_RETENTION_DAYS: '0' }), [`DESK_RETENTION_DAYS: ${WHOLE(1, 3_650)}`]);
});

t.test("where Africa's Talking is", async (t) => {
  const LIVE = 'https://api.africastalking.com';
  const SANDBOX = 'https://api.sandbox.africastalking.com';
  const CONTENT = 'https://content.africastalking.com';
  const cases: [settings: Record<string, string>, username: string, baseUrl: string, contentUrl: string][] = [
    [{}, 'shop', LIVE, CONTENT],
    [{}, 'sandbox', SANDBOX, SANDBOX],
    [{ AT_BASE_URL: `${LIVE}/` }, 'shop', LIVE, CONTENT],
    [
      { AT_BASE_URL: 'http://127.0.0.1:9000/at//' },
      'shop',
      'http://127.0.0.1:9000/at',
      'http://127.0.0.1:9000/at',
    ],
    [{ AT_BASE_URL: 'http://fake:9000' }, 'sandbox', 'http://fake:9000', 'http://fake:9000'],
    [{ AT_CONTENT_URL: 'https://c.example/' }, 'shop', LIVE, 'https://c.example'],
    [{ AT_CONTENT_URL: 'https://c.example' }, 'sandbox', SANDBOX, 'https://c.example'],
  ];
  for (const [settings, username, baseUrl, contentUrl] of cases) {
    const { africasTalking } = readConfig(
      { AT_USERNAME: username, AT_API_KEY: ' atsk_hush ', ...settings },
      SERVICES,
    );
    t.same(africasTalking, { username, apiKey: 'atsk_hush', baseUrl, contentUrl });
  }
  t.notOk('africasTalking' in readConfig({ AT_BASE_URL: LIVE }, SERVICES), 'an address is no account');
  t.same(problems({ AT_USERNAME: 'shop' }), ['AT_API_KEY: is required with AT_USERNAME']);
  t.same(problems({ AT_API_KEY: 'atsk_hush' }), ['AT_USERNAME: is required with AT_API_KEY']);
  t.same(problems({ AT_API_KEY: 'atsk hush', AT_USERNAME: 'shop' }), [
    'AT_API_KEY: must be 1 to 500 printable ASCII characters',
  ]);
  t.same(problems({ AT_KEYWORD: 'NEWS' }), ['AT_SHORTCODE: is required with AT_KEYWORD']);
  t.same(problems({ AT_KEYWORD: '--', AT_SHORTCODE: '20880' }), [
    'AT_KEYWORD: must be 1 to 40 printable characters with at least one letter or digit, such as MY SHOP',
  ]);
});

t.test('every bad value has a line of its own', async (t) => {
  const bad: [name: string, value: string, problem: string | RegExp][] = [
    ['NODE_ENV', 'prod', 'must be development, test or production'],
    ['NODE_ENV', 'Production', 'must be development, test or production'],
    ['PORT', 'x', WHOLE(0, 65_535)],
    ['PORT', '65536', WHOLE(0, 65_535)],
    ['PORT', '-1', WHOLE(0, 65_535)],
    ['PORT', '3000.5', WHOLE(0, 65_535)],
    ['PORT', '3e3', WHOLE(0, 65_535)],
    ['PORT', '0x10', WHOLE(0, 65_535)],
    ['PORT', '٣٠٠٠', WHOLE(0, 65_535)],
    ['LOG_LEVEL', 'loud', 'must be a level of pino, such as info'],
    ['PIN_ENCRYPTION_KEY', 'short', KEY_FORMS],
    ['PIN_ENCRYPTION_KEY', `${KEY}0`, KEY_FORMS],
    ['PIN_ENCRYPTION_KEY', `${KEY},${OTHER_KEY}`, 'every key of a ring needs an id: kid:key,kid:key'],
    ['PIN_ENCRYPTION_KEY', `a:${KEY},a:${OTHER_KEY}`, 'the key id a stands twice'],
    ['PIN_ENCRYPTION_KEY', `:${KEY}`, 'a key id is 1 to 16 letters, digits, - or _'],
    ['PIN_ENCRYPTION_KEY', `seventeen-letters:${KEY}`, 'a key id is 1 to 16 letters, digits, - or _'],
    ['DIGEST_KEY', 'short', KEY_FORMS],
    ['DIGEST_KEY', `a:${KEY}`, KEY_FORMS],
    ['OPERATOR_TOKEN', 'seven77', TOKEN],
    ['OPERATOR_TOKEN', 'with a space', TOKEN],
    ['OPERATOR_TOKEN', 'ünicode-token', TOKEN],
    ['OPERATOR_TOKEN', ',', TOKEN],
    ['OPERATOR_TOKEN', 'ann:read:seven77', TOKEN],
    ['OPERATOR_TOKEN', 'ann:fly:anns-token', OPERATOR],
    ['OPERATOR_TOKEN', 'ann::anns-token', OPERATOR],
    ['OPERATOR_TOKEN', 'ann:read+:anns-token', OPERATOR],
    ['OPERATOR_TOKEN', '1ann:read:anns-token', OPERATOR],
    ['OPERATOR_TOKEN', 'ann:read', OPERATOR],
    ['OPERATOR_TOKEN', 'two-tokens,without-names', OPERATOR],
    ['OPERATOR_TOKEN', 'ann:read:the-token,bob:send:the-token', 'a token stands twice'],
    ['SESSION_TTL_SECONDS', '0', WHOLE(1, 3600)],
    ['SESSION_TTL_SECONDS', '3601', WHOLE(1, 3600)],
    ['USSD_INPUT_MODE', 'both', 'must be cumulative or latest'],
    ['SERVICE_CODES', '*1#', '*1# is no entry: write *1234#=ixo'],
    ['SERVICE_CODES', '1#=ixo', '1#=ixo is no entry: write *1234#=ixo'],
    ['SERVICE_CODES', '*1*#=ixo', '*1*#=ixo is no entry: write *1234#=ixo'],
    ['SERVICE_CODES', '*1#=ixo,*1#=demo', '*1# stands twice: for ixo and for demo'],
    ['SERVICE_CODES', '*1#=ixo,*2#=nope', '*2# names nope, which is none of ixo, demo, airtime'],
    ['DEFAULT_SERVICE', 'nope', 'nope is none of ixo, demo, airtime'],
    ['TRUST_PROXY_ENABLED', 'yes', 'must be true or false'],
    ['TRUST_PROXY_ENABLED', '1', 'must be true or false'],
    ['TRUSTED_PROXIES', 'proxy', NO_NETWORK],
    ['TRUSTED_PROXIES', ',', 'names no network'],
    ['RATE_LIMIT_MAX', '0', WHOLE(1, 1_000_000)],
    ['RATE_LIMIT_WINDOW_SECONDS', '86401', WHOLE(1, 86_400)],
    ['RATE_LIMIT_PHONE_MAX', '1.5', WHOLE(1, 1_000_000)],
    ['RATE_LIMIT_ALLOW', '196.201.214', NO_NETWORK],
    ['GATEWAY_ALLOW', '196.201.214.0/33', NO_NETWORK],
    ['GATEWAY_ALLOW', '196.201.214.0/', NO_NETWORK],
    ['GATEWAY_ALLOW', '196.201.214.0/-1', NO_NETWORK],
    ['GATEWAY_ALLOW', '196.201.214.0/24/1', NO_NETWORK],
    ['GATEWAY_ALLOW', '::/129', NO_NETWORK],
    ['GATEWAY_ALLOW', '196.201.214.0/24,*', NO_NETWORK],
    ['GATEWAY_ALLOW', ' , ', 'names no network'],
    ['GATEWAYS', 'abc', GATEWAY],
    ['GATEWAYS', 'abc=both', GATEWAY],
    ['GATEWAYS', '1abc=latest', GATEWAY],
    ['GATEWAYS', 'abc=latest:short', GATEWAY],
    ['GATEWAYS', 'abc=latest:with/slash', GATEWAY],
    [
      'GATEWAYS',
      'abc=latest,abc=cumulative',
      'the name abc stands twice, as entry 1 and as entry 2: choose another name for one',
    ],
    ['GATEWAYS', 'ixo=latest', 'ixo is a gateway of our own: choose another name'],
    ['CALLBACK_SECRET', 'fifteen-letters', 'must be 16 to 128 letters, digits, - or _'],
    ['CALLBACK_SECRET', 'x'.repeat(129), 'must be 16 to 128 letters, digits, - or _'],
    ['CALLBACK_SECRET', 'sixteen/letters/', 'must be 16 to 128 letters, digits, - or _'],
    ['REDIS_URL', 'localhost:6379', 'must be a URL that begins with redis:// or rediss://'],
    ['AT_BASE_URL', 'api.africastalking.com', AT_URL],
    ['AT_BASE_URL', 'ftp://api.africastalking.com', AT_URL],
    ['AT_BASE_URL', 'https://user:hush@api.africastalking.com', AT_URL],
    ['AT_BASE_URL', 'https://api.africastalking.com?x=1', AT_URL],
    ['AT_CONTENT_URL', 'https://content.africastalking.com/#x', AT_URL],
    ['AT_SENDER_ID', 'Twelve-Chars', AT_SENDER],
    ['AT_SENDER_ID', 'TwelveChars2', AT_SENDER],
    ['AT_SENDER_ID', '20', AT_SENDER],
    ['AT_SHORTCODE', '20', AT_SHORTCODE],
    ['AT_SHORTCODE', 'NEWS', AT_SHORTCODE],
    ['DATABASE_URL', 'mysql://x/y', 'must be a URL that begins with postgres:// or postgresql://'],
  ];
  for (const [name, value, problem] of bad) {
    const key: Record<string, string> = name === 'DATABASE_URL' ? { PIN_ENCRYPTION_KEY: KEY } : {};
    const lines = problems({ ...key, [name]: value });
    t.equal(lines.length, 1, `${name}=${value}`);
    const [line = ''] = lines;
    t.ok(line.startsWith(`${name}: `));
    t.match(line.slice(name.length + 2), problem);
    t.notMatch(line, /\n/);
    if (/KEY|TOKEN|SECRET|URL/.test(name) && value.length > 5)
      t.notOk(line.includes(value), 'no secret is quoted');
  }
  t.same(problems({ DATABASE_URL: SERVER.DATABASE_URL }), [
    'PIN_ENCRYPTION_KEY: is required with DATABASE_URL, because all instances must share it',
  ]);
  t.same(problems({ NODE_ENV: 'production', PIN_ENCRYPTION_KEY: KEY }), [
    'DATABASE_URL: is required in production; the embedded database is for trying things out',
  ]);
});

/** Starts the process, which is to end by itself; 1 is the code of a refusal. */
async function run(t: Test, settings: Record<string, string>) {
  const child = spawn(process.execPath, [MAIN], {
    env: environment(settings),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const read = async (stream: Readable) => Buffer.concat((await stream.toArray()) as Buffer[]).toString();
  t.teardown(() => child.kill('SIGKILL'));
  const code = new Promise<number | null>((done) => child.on('exit', done));
  const [stdout, stderr] = await Promise.all([read(child.stdout), read(child.stderr)]);
  return { code: await code, stdout, stderr };
}

/** What every refusal is like: its lines, and neither a stack nor a secret. */
function saidOnly(t: Test, said: string[], output: string, lines: (string | RegExp)[]): void {
  t.match(said, lines);
  t.equal(said.length, lines.length, said.join('\n'));
  t.notMatch(output + said, /^\s+at |node:internal|"level":"fatal"/m, 'no stack');
  t.notMatch(output + said, /hush|0123456789abcdef|fedcba9876543210/, 'and no secret');
}

/** A start inside this process that is refused with these lines. */
async function refused(
  t: Test,
  settings: Record<string, string>,
  ...lines: (string | RegExp)[]
): Promise<void> {
  const { said, output } = await refusalOf(t, settings);
  saidOnly(t, said ?? [`not in words: ${output}`], output, lines);
}

t.test('a start that is refused says why', async (t) => {
  await t.test('all that is wrong at once', async (t) => {
    const { code, stdout, stderr } = await run(t, {
      NODE_ENV: 'prod',
      PORT: 'x',
      DATABASE_URL: 'mysql://user:hush@localhost/ussd',
      OPERATOR_TOKEN: 'hush',
      SERVICE_CODES: '*1234#=ixo,*9#=nope',
      GATEWAY_ALLOW: 'everybody',
    });
    t.equal(code, 1, 'exit code 1');
    const [title, ...said] = stderr.trimEnd().split('\n');
    t.equal(title, 'ussd gateway cannot start:');
    saidOnly(
      t,
      said.map((line) => line.trim()),
      stdout + stderr,
      [
        /^NODE_ENV: /,
        /^PORT: /,
        /^DATABASE_URL: /,
        /^OPERATOR_TOKEN: /,
        /^GATEWAY_ALLOW: /,
        /^PIN_ENCRYPTION_KEY: is required/,
        /^SERVICE_CODES: \*9# names nope/,
      ],
    );
  });
  await t.test('the settings of its environment', async (t) => {
    const cases: [Record<string, string>, ...RegExp[]][] = [
      [{ NODE_ENV: 'production' }, /^DATABASE_URL: is required in production/],
      [{ DATABASE_URL: SERVER.DATABASE_URL }, /^PIN_ENCRYPTION_KEY: is required with DATABASE_URL/],
      [
        { SERVICE_CODES: '*1234#=ixo,*7#=lottery', DEFAULT_SERVICE: 'casino' },
        /^SERVICE_CODES: \*7# names lottery, which is none of .*ixo/,
        /^DEFAULT_SERVICE: casino is none of .*ixo/,
      ],
    ];
    for (const [settings, ...lines] of cases) saidOnly(t, problems(environment(settings)), '', lines);
  });
  await t.test('a data directory that cannot be', async (t) => {
    const file = join(temporaryDirectory(t), 'file');
    writeFileSync(file, '');
    await refused(
      t,
      { DATA_DIR: join(file, 'data') },
      /^DATA_DIR: \S+ cannot be used: \S+\/file is not a directory; name a directory/,
    );
  });
});

t.test('a server: its users, its keys, its port', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const there = new URL(DATABASE_URL);
  const settings = { DATABASE_URL, PIN_ENCRYPTION_KEY: `k1:${KEY}` };

  await t.test('a database that there is not', async (t) => {
    const nowhere = new URL(there);
    nowhere.pathname = '/no_such_database';
    await refused(
      t,
      { ...settings, DATABASE_URL: nowhere.href },
      'database "no_such_database" does not exist',
    );
  });
  await t.test('a user that there is not', async (t) => {
    const nobody = new URL(there);
    [nobody.username, nobody.password] = ['nobody_here', 'hush'];
    await refused(t, { ...settings, DATABASE_URL: nobody.href }, /nobody_here/);
  });

  await t.test('a role that may not create', async (t) => {
    const { url } = await database(t, { empty: true });
    const query = await queryOn(t, url);
    const [{ name } = { name: '' }] = await query<{ name: string }>('select current_database() as name');
    const role = `guest_of_${name}`;
    await query(`create role ${role} login password 'hush'`);
    t.teardown(async () => {
      await query(`drop owned by ${role} cascade`);
      await query(`drop role ${role}`);
    });
    await query('revoke create on schema public from public');
    const guest = new URL(url);
    [guest.username, guest.password] = [role, 'hush'];
    const grants = [
      `grant create on database ${name} to ${role}`,
      `grant create on schema public to ${role}`,
    ];
    const asked = 'DATABASE_URL: a superuser has to run:';
    await refused(t, { ...settings, DATABASE_URL: guest.href }, `${asked} ${grants.join('; ')}`);
    await query(grants[0] as string);
    await refused(t, { ...settings, DATABASE_URL: guest.href }, `${asked} ${grants[1]}`);
    t.same(
      await query(`select tablename from pg_tables where schemaname = 'public'`),
      [],
      'nothing was made',
    );
    await query(grants[1] as string);
    const gateway = await startGateway(t, { ...settings, DATABASE_URL: guest.href });
    await query(`revoke create on database ${name} from ${role}`);
    await gateway.stop();
    const again = await startGateway(t, { ...settings, DATABASE_URL: guest.href });
    t.match(await post(again.url, {}), { outcome: 'ok' }, 'of the database it is wanted once');
    await again.stop();
  });

  await t.test('a role that may write, and owns nothing', async (t) => {
    const { url } = await database(t);
    const query = await queryOn(t, url);
    const [{ name, owner } = { name: '', owner: '' }] = await query<{ name: string; owner: string }>(
      'select current_database() as name, quote_ident(current_user) as owner',
    );
    const role = `Writer-of-${name}`;
    await (await startGateway(t, { ...settings, DATABASE_URL: url })).stop();
    await query(`create role "${role}" login password 'hush'`);
    t.teardown(async () => {
      await query(`drop owned by "${role}" cascade`);
      await query(`drop role "${role}"`);
    });
    await query(`grant create on database ${name} to "${role}"`);
    await query(`grant create on schema public to "${role}"`);
    await query(`grant all on all tables in schema public to "${role}"`);
    const writer = new URL(url);
    [writer.username, writer.password] = [encodeURIComponent(role), 'hush'];
    const grant = `grant ${owner} to "${role}"`;
    const { href } = writer;
    await refused(t, { ...settings, DATABASE_URL: href }, `DATABASE_URL: a superuser has to run: ${grant}`);
    await query(grant);
    // A week is missing, as on a Monday: who may not attach it would not start.
    await query(`do $$ declare furthest text := (select max(relname) from pg_class where relname ~ '^turns_\\d{8}$');
      begin execute format('drop table %I', furthest); end $$`);
    const gateway = await startGateway(t, { ...settings, DATABASE_URL: href });
    t.match(await post(gateway.url, {}), { outcome: 'ok' }, 'what it prints suffices');
    await gateway.stop();
  });

  await t.test('a search_path that leads nowhere, or not to pg_trgm', async (t) => {
    const { url } = await database(t, { empty: true });
    const query = await queryOn(t, url);
    const [{ name } = { name: '' }] = await query<{ name: string }>('select current_database() as name');
    const role = `strayed_in_${name}`;
    await query(`create role ${role} login password 'hush'`);
    t.teardown(async () => {
      await query(`drop owned by ${role} cascade`);
      await query(`drop role ${role}`);
    });
    const strayed = new URL(url);
    [strayed.username, strayed.password] = [role, 'hush'];
    const there = { ...settings, DATABASE_URL: strayed.href };
    const asked = 'DATABASE_URL: a superuser has to run:';
    const path = `alter role ${role} in database ${name} set search_path =`;

    await query(`${path} nowhere`);
    const home = [`grant usage, create on schema public to ${role}`, `${path} public`];
    await refused(t, there, `${asked} ${home.join('; ')}`);
    for (const statement of home) await query(statement);
    await query(`grant create on database ${name} to ${role}`);
    await query('create extension pg_trgm schema public');
    await query(`create schema app authorization ${role}`);
    await query(`${path} app`);
    await refused(t, there, `${asked} ${path} app, public`);
    await query(`${path} app, public`);
    await (await startGateway(t, there)).stop();
    await query(`${path} app`);
    const again = await startGateway(t, there);
    t.match(await post(again.url, {}), { outcome: 'ok' }, 'only the making of its index names it');
    await again.stop();
  });

  await t.test('a database that takes a connection and says nothing, at first', async (t) => {
    const { url } = await database(t);
    const { hostname, port } = new URL(url);
    const sockets: Socket[] = [];
    const door = createServer((client) => {
      const first = sockets.length === 0;
      sockets.push(client.on('error', () => {}));
      if (first) return;
      const server = connect(Number(port || 5432), hostname).on('error', () => {});
      sockets.push(server);
      client.pipe(server).pipe(client);
    });
    door.listen(0, '127.0.0.1');
    await once(door, 'listening');
    t.teardown(() => {
      for (const socket of sockets) socket.destroy();
      door.close();
    });
    const late = new URL(url);
    [late.hostname, late.port] = ['127.0.0.1', String((door.address() as AddressInfo).port)];
    const gateway = await startGateway(t, { ...settings, DATABASE_URL: late.href }, { connectMs: 200 });
    t.match(await post(gateway.url, {}), { outcome: 'ok' });
    t.match(gateway.output(), 'waiting for the database');
    await gateway.stop();
  });

  await t.test('two keys at once on a new database: the first one wins', async (t) => {
    const both = await Promise.allSettled([
      startGateway(t, settings),
      startGateway(t, { ...settings, PIN_ENCRYPTION_KEY: `k1:${OTHER_KEY}` }),
    ]);
    const [failed, more] = both.flatMap((each) =>
      each.status === 'rejected' ? [inWords(each.reason.cause)] : [],
    );
    t.match(failed, [/^PIN_ENCRYPTION_KEY has another key/]);
    t.equal(more, undefined, 'only one is refused');
    for (const each of both) if (each.status === 'fulfilled') await each.value.stop();
  });
});

t.test('keys belong to a database', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const settings = { DATABASE_URL, PIN_ENCRYPTION_KEY: TEST_KEY };
  const first = await startGateway(t, settings);
  t.equal((await post(first.url, {})).outcome, 'ok');

  await t.test('a port that is taken', (t) =>
    refused(
      t,
      { ...settings, PORT: `${first.port}` },
      /^port \d+ is in use, set PORT to another one \(or stop the process that listens on 127\.0\.0\.1:\d+\)$/,
    ),
  );
  await t.test('another key', (t) =>
    refused(
      t,
      { ...settings, PIN_ENCRYPTION_KEY: `k2:${OTHER_KEY}` },
      'PIN_ENCRYPTION_KEY lacks the key that this database was set up with',
    ),
  );
  await t.test('another key under the same id', (t) =>
    refused(
      t,
      { ...settings, PIN_ENCRYPTION_KEY: `k1:${OTHER_KEY}` },
      'PIN_ENCRYPTION_KEY has another key under an id that this database knows',
    ),
  );
  await t.test('a digest key where there was none', (t) =>
    refused(
      t,
      { ...settings, DIGEST_KEY: OTHER_KEY },
      'this database was set up without DIGEST_KEY: unset it',
    ),
  );
  t.equal((await post(first.url, {})).outcome, 'replay', 'the first goes on');

  await t.test('a ring that holds the key', async (t) => {
    const ring = await startGateway(t, {
      ...settings,
      PIN_ENCRYPTION_KEY: `k2:${OTHER_KEY},${TEST_KEY}`,
      AT_USERNAME: 'shop',
      AT_API_KEY: 'atsk_hush_hush',
      AT_BASE_URL: 'http://127.0.0.1:9000',
    });
    t.match(ring.output(), "SMS and airtime by Africa's Talking |", 'the start line says who serves');
    t.notMatch(ring.output(), 'atsk_hush_hush');
    t.match(first.output(), 'SMS and airtime by the simulator: nothing leaves |');
    t.equal((await post(ring.url, {})).outcome, 'replay', 'reads what the other wrote');
    t.equal((await post(ring.url, { text: '1' })).outcome, 'ok');
    await ring.stop();
  });
  await t.test('a third key under the id that the ring brought in', (t) =>
    refused(
      t,
      { ...settings, PIN_ENCRYPTION_KEY: `${TEST_KEY},k2:${'x'.repeat(32)}` },
      'PIN_ENCRYPTION_KEY has another key under the id k2 than this database knows',
    ),
  );
});

t.test('a digest key belongs to a database', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const settings = { DATABASE_URL, PIN_ENCRYPTION_KEY: TEST_KEY };
  const first = await startGateway(t, { ...settings, DIGEST_KEY: KEY });
  t.equal((await post(first.url, {})).outcome, 'ok');
  await first.stop();
  await t.test('changed', (t) =>
    refused(
      t,
      { ...settings, DIGEST_KEY: OTHER_KEY },
      'DIGEST_KEY is not the one this database was set up with',
    ),
  );
  await t.test('removed', (t) =>
    refused(t, settings, 'this database was set up with DIGEST_KEY: set the same one'),
  );
  const client = new pg.Client({ connectionString: DATABASE_URL });
  await client.connect();
  const { rows } = await client.query('select source, wrapped from digest_key');
  await client.end();
  t.match(rows, [{ source: 'given' }]);
  t.notOk(
    rows.some(({ wrapped }) => wrapped.includes(KEY)),
    'the key is not in the database',
  );
  const same = await startGateway(t, { ...settings, DIGEST_KEY: KEY });
  t.equal((await post(same.url, {})).outcome, 'replay', 'the same one finds the session');
});

t.test('one process on one data directory', async (t) => {
  const DATA_DIR = await embeddedDirectory(t);
  const started = await Promise.allSettled([1, 2].map(() => startProcess(t, { DATA_DIR })));
  const [first, ...others] = started.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
  t.same(others, [], 'of two that start at once');
  t.ok(first, 'one does');
  const { url, child, kill } = first as GatewayProcess;
  const inUse = `the data directory ${DATA_DIR} is in use by process ${child.pid}`;
  for (const each of started) {
    if (each.status === 'rejected') {
      const message = `the gateway ended with 1:\nussd gateway cannot start:\n  ${inUse}\n`;
      t.equal(each.reason.message, message);
    }
  }
  t.equal((await post(url, {})).outcome, 'ok');
  await t.test('one that comes later', (t) => refused(t, { DATA_DIR }, inUse));
  t.equal((await post(url, { text: '1' })).outcome, 'ok', 'the first goes on');

  await kill();
  t.match(readFileSync(join(DATA_DIR, 'lock'), 'utf8'), `${child.pid} `, 'kill -9 leaves the lock behind');
  await t.test('which blocks nobody', async (t) => {
    const second = await startGateway(t, { DATA_DIR });
    t.equal((await post(second.url, { text: '1' })).outcome, 'replay', 'and what was answered is there');
    await second.stop();
  });
  const key = join(DATA_DIR, 'key');
  const kept = readFileSync(key, 'utf8');
  rmSync(key);
  await t.test('a key that is missing is not made anew', (t) => refused(t, { DATA_DIR }, /key is missing/));
  writeFileSync(key, '');
  await t.test('an empty one is said to be none', (t) => refused(t, { DATA_DIR }, /^a key is 32 characters/));
  writeFileSync(key, kept);
  await t.test('another key than the one that is kept there', (t) =>
    refused(t, { DATA_DIR, PIN_ENCRYPTION_KEY: `k1:${OTHER_KEY}` }, /^PIN_ENCRYPTION_KEY lacks the key/),
  );
});

t.test('the lock of a data directory', { skip: process.platform !== 'linux' }, async (t) => {
  const directory = temporaryDirectory(t);
  const lock = join(directory, 'lock');
  const mine = () => readFileSync(lock, 'utf8').startsWith(`${process.pid} `);
  // The id of a killed holder may be anybody's by now: that of this test's parent, for example.
  writeFileSync(lock, `${process.ppid} 1 ${readlinkSync('/proc/self/ns/pid')}\n`);
  hold(lock, directory);
  t.ok(mine(), 'another process has the id of its holder');
  // A container on the same volume: its process cannot be seen from here, only that it touches the lock.
  writeFileSync(lock, '1 1 pid:[1]\n');
  t.throws(() => hold(lock, directory), {
    name: 'Error',
    message: `the data directory ${directory} is in use by process 1`,
  });
  t.equal(readFileSync(lock, 'utf8'), '1 1 pid:[1]\n', 'one of another namespace that is alive keeps it');
  const longAgo = new Date(Date.now() - 3_600_000);
  utimesSync(lock, longAgo, longAgo);
  hold(lock, directory);
  t.ok(mine(), 'one that was left does not');
});
