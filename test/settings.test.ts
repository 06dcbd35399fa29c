/** Settings as people write them: names of the world, duplicates, files of settings, addresses that cannot be fetched. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseEnv } from 'node:util';
import t from 'tap';
import { parse } from 'yaml';
import { type Config, ConfigError, readConfig } from '../src/config.ts';
import { isBlockedPort } from '../src/networks.ts';

const ROOT = join(import.meta.dirname, '..');
const SERVICES = ['ixo', 'demo', 'airtime', 'invest', 'support'];
const ACCOUNT = { AT_USERNAME: 'shop', AT_API_KEY: 'atsk_hush' };

const read = (settings: Record<string, string | undefined>): Config => readConfig(settings, SERVICES);

function problems(settings: Record<string, string>): string[] {
  try {
    read(settings);
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
}

t.test('sender ids that brands have', async (t) => {
  const brands = [
    'M-TIBA',
    'MY_BANK',
    'My Brand',
    'Kwik.Co',
    "O'Brien",
    'A&B',
    'Café',
    '24/7 Taxi',
    'X',
    '4U',
    'ELEVENCHARS',
    'Nandu+',
    'ÅNGSTRÖM',
  ];
  for (const AT_SENDER_ID of brands)
    t.equal(read({ AT_SENDER_ID }).smsFrom.senderId, AT_SENDER_ID, AT_SENDER_ID);
  for (const number of ['208', '20880', '254711000111', '+254711000111'])
    t.equal(read({ AT_SENDER_ID: number }).smsFrom.senderId, number, number);
  t.equal(read({ AT_SENDER_ID: 'Cafe\u0301' }).smsFrom.senderId, 'Café', 'composed');
  for (const bad of ['TWELVECHARSX', 'Ten{chars}', 'ብራንድ', '---', 'a\tb', 'a\nb', '🎉x', '12', '+12']) {
    const [line, ...more] = problems({ AT_SENDER_ID: bad });
    t.match(line, /^AT_SENDER_ID: must be 1 to 11 printable characters of the GSM alphabet/, bad);
    t.same(more, []);
  }
});

t.test('keywords, short codes, prefixes and names', async (t) => {
  for (const AT_KEYWORD of ['MY SHOP', 'NEW-S', 'my_key', 'ሰላም', 'नमस्ते', 'C++', 'a']) {
    t.equal(read({ AT_SHORTCODE: '20880', AT_KEYWORD }).smsFrom.keyword, AT_KEYWORD, AT_KEYWORD);
  }
  for (const AT_SHORTCODE of ['208', '20880', '2088012345', '+254711000999', '254711000999'])
    t.equal(read({ AT_SHORTCODE }).smsFrom.shortCode, AT_SHORTCODE);
  t.same(read({ SMS_PREFIXES: '260, +254,00256, +1 (684),255-7' }).messages.prefixes, [
    '+260',
    '+254',
    '+256',
    '+1684',
    '+2557',
  ]);
  t.match(problems({ SMS_PREFIXES: '0711' }), [/^SMS_PREFIXES: "0711" is not the beginning of/]);
  const names = 'wigal_v1=latest,Hubtel=cumulative,at.ke=latest:secretsecret';
  t.same(
    read({ GATEWAYS: names }).gateways.map(({ name }) => name),
    ['wigal_v1', 'Hubtel', 'at.ke'],
  );
  const operators =
    'Ann B:read:anns-token,bob@shop.example:send:bobs-token,ops_2:desk:ops2-token,Zoë:read:zoes-token';
  t.same(
    read({ OPERATOR_TOKEN: operators }).operators.map(({ name }) => name),
    ['Ann B', 'bob@shop.example', 'ops_2', 'Zoë'],
  );
});

t.test('two meanings of one name', async (t) => {
  t.same(problems({ SERVICE_CODES: '*1#=ixo,*2#=demo,*1#=demo' }), [
    'SERVICE_CODES: *1# stands twice: for ixo and for demo',
  ]);
  for (const [one, two] of [
    ['abc', 'abc'],
    ['abc', 'ABC'],
    ['Hubtel', 'hubtel'],
  ]) {
    t.same(problems({ GATEWAYS: `x=latest,${one}=latest,${two}=cumulative:secretsecret` }), [
      `GATEWAYS: the name ${two} stands twice, as entry 2 and as entry 3: choose another name for one`,
    ]);
    const [line = '', ...more] = problems({ OPERATOR_TOKEN: `${one}:read:token-one,${two}:send:token-two` });
    t.equal(
      line,
      `OPERATOR_TOKEN: the name ${two} stands twice, as entry 1 and as entry 2: choose another name for one`,
    );
    t.same(more, []);
  }
  t.match(problems({ GATEWAYS: 'IXO=latest' }), [/^GATEWAYS: IXO is a gateway of our own/]);
});

t.test('.env.example is read by Node as it is meant', async (t) => {
  const text = readFileSync(join(ROOT, '.env.example'), 'utf8');
  const settings = parseEnv(text);
  t.ok(Object.keys(settings).length > 40, 'every variable stands in it');
  t.same(read(settings), read({}), 'what it sets is the default');
  for (const [name, line] of text.split('\n').flatMap((line): [string, string][] => {
    const [, name = '', value = ''] = /^([A-Z][A-Z0-9_]*)=(.*)$/.exec(line) ?? [];
    return name === '' ? [] : [[name, value]];
  })) {
    t.equal(settings[name], line.replace(/^(["'])(.*)\1$/, '$2'), `${name} arrives whole`);
    // What a comment begins with, and what shells, Compose and systemd take apart.
    if (/[#\s$`\\*?;&|<>()]/.test(line)) t.match(line, /^(["']).*\1$/, `${name} stands in quotes`);
  }
  t.match(settings.SERVICE_CODES, /#=support$/);
});

t.test('quotes that a reader leaves around a value are taken away', async (t) => {
  const codes = [...read({ SERVICE_CODES: '"*1234#=ixo"' }).serviceCodes];
  t.same(codes, [['*1234#', 'ixo']]);
  t.same([...read({ SERVICE_CODES: " '*1#=demo' " }).serviceCodes], [['*1#', 'demo']]);
  t.equal(read({ PORT: '"3001"' }).port, 3001);
  t.equal(read({ GATEWAYS: '""' }).gateways.length, 0, 'nothing in quotes is nothing');
  t.equal(read({ AT_SENDER_ID: "O'B'" }).smsFrom.senderId, "O'B'", 'a quote inside stays');
});

t.test('the files for Compose and Kubernetes name the same codes', async (t) => {
  const usual = [...read({}).serviceCodes];
  const documents = readFileSync(join(ROOT, 'deploy/kubernetes.yaml'), 'utf8').split(/^---$/m);
  const settings = documents
    .map((each) => parse(each) as { kind?: string; data?: Record<string, string> } | null)
    .find((each) => each?.kind === 'ConfigMap')?.data;
  t.same([...read({ SERVICE_CODES: settings?.SERVICE_CODES }).serviceCodes], usual);
  for (const [name, value] of Object.entries(settings ?? {})) t.type(value, 'string', name);
});

t.test('ports that fetch refuses are refused at the start', async (t) => {
  for (const port of [0, 1, 22, 25, 4190, 6000, 6566, 6666, 10_080]) {
    const url = `http://127.0.0.1:${port}/at`;
    for (const name of ['AT_BASE_URL', 'AT_CONTENT_URL', 'TWILIO_BASE_URL']) {
      t.same(problems({ ...ACCOUNT, [name]: url }), [
        `${name}: port ${port} is blocked by the Fetch standard, so no request would leave: serve the API on another port, such as 8080`,
      ]);
    }
  }
  for (const url of [
    'https://at.example',
    'http://at.example:8080',
    'https://at.example:443',
    'http://[::1]:3001',
  ])
    t.same(problems({ ...ACCOUNT, AT_BASE_URL: url }), [], url);
  // The list is that of the fetch that sends: what it refuses is refused without a connection.
  const signal = AbortSignal.timeout(20_000);
  const refuses = async (port: number) => {
    const cause = await fetch(`http://127.0.0.1:${port}/`, { signal }).catch(
      (error: Error) => (error.cause as Error | undefined)?.message,
    );
    return cause === 'bad port';
  };
  const listed = Array.from({ length: 11_000 }, (_, port) => port).filter((port) => isBlockedPort(port));
  for (const port of listed.filter((port) => port !== 0)) t.ok(await refuses(port), `${port}`);
  t.equal(listed.length, 83);
  t.notOk(isBlockedPort(80) || isBlockedPort(443) || isBlockedPort(8080) || isBlockedPort(3000));
});
