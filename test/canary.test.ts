/** What is never on disk, in a log, in a metric or in a debug answer (docs/contract.md section 1). */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import t, { type Test } from 'tap';
import { dump, foundIn, tables } from './support/canary.ts';
import { embeddedDirectory } from './support/embedded.ts';
import { type Gateway, post, send, startGateway } from './support/gateway.ts';
import { database, type Postgres, startPostgres } from './support/postgres.ts';

const PHONE = '+254700999111';
const OTHER_PHONE = '+254700999222';
const SESSION = 'CANARYSESSION-5b1e';
const TEXT = '48213*CANARYTEXT';
const DIGITS = '7193648213';
const CODE = '*1234*7719364#';

/** Whatever a phone number looks like on its way: without its plus, and escaped. */
const PHONES = ['254700999111', '254700999222'];
/** What was typed; short digits alone would be found in any clock. */
const TEXTS = ['CANARYTEXT', '48213*C', '48213%2A', DIGITS, '7719364'];
const SESSIONS = [SESSION];
/** What Telerivet's script proves itself with. */
const SECRET = 'CANARYSECRET-of-telerivet';

t.test('the search itself finds what is hidden', async (t) => {
  for (const before of ['', 'x', 'xy', 'xyz']) {
    const plain = `${before}${PHONE} typed ${TEXT}`;
    for (const form of ['utf8', 'hex', 'base64'] as const) {
      t.same(foundIn(Buffer.from(plain).toString(form), ['254700999111', 'CANARYTEXT']).length, 2, form);
    }
  }
  t.same(foundIn('254700999112 CANARY', ['254700999111', 'CANARYTEXT']), []);
});

const json = { 'content-type': 'application/json' };
const form = { 'content-type': 'application/x-www-form-urlencoded' };

/** Every way in which a request can carry the canaries, and its answers. */
async function sing(gateway: Gateway): Promise<void> {
  const { url } = gateway;
  const fields = { sessionId: SESSION, phoneNumber: PHONE };
  const body = { ...fields, serviceCode: '*1234#', text: TEXT };
  const encoded = encodeURIComponent(PHONE);
  const ask = (path: string, init: RequestInit = {}) =>
    fetch(url + path, init).then((response) => response.text());

  // Taken, replayed, walked, wrong, ended, expired nothing: turns.
  for (const text of ['', '1', '1*2', `1*2*${DIGITS}`, `1*2*${TEXT}`, `1*2*${TEXT}*${DIGITS}`]) {
    await post(url, { ...fields, text });
    await post(url, { ...fields, text });
  }
  await post(url, { ...fields, sessionId: `${SESSION}-through`, text: TEXT });
  await post(url, { ...fields, sessionId: `${SESSION}-code`, serviceCode: CODE });
  await post(url, { ...fields, sessionId: `${SESSION}-${DIGITS}`, text: `${DIGITS}*${DIGITS}*${DIGITS}*9` });
  await post(url, { ...fields, sessionId: `${SESSION}-end`, text: '*' });
  await post(url, { ...fields, sessionId: `${SESSION}-end`, text: `*${TEXT}` });
  // Somebody else's, and more than a walk hears.
  await post(url, { ...fields, phoneNumber: OTHER_PHONE, text: TEXT });
  await post(url, { ...fields, sessionId: `${SESSION}-long`, text: `${TEXT}${'*1'.repeat(20)}` });
  await send(`${url}/api/ussd`, new URLSearchParams(body), form);
  // Gateways of their own, by input and by id.
  for (const more of [{}, { requestId: DIGITS }]) {
    await post(url, { ...fields, ...more, text: '' }, '/api/ussd/via/newest');
    await post(url, { ...fields, ...more, text: TEXT }, '/api/ussd/via/newest');
  }
  // Invalid fields and bodies.
  for (const wrong of [
    { phoneNumber: PHONE.slice(1) },
    { phoneNumber: `${PHONE}\n` },
    { phoneNumber: Number(PHONE) },
    { phoneNumber: [PHONE] },
    { phoneNumber: { number: PHONE } },
    { text: null },
    { text: [TEXT] },
    { text: `${TEXT}\u0000` },
    { text: TEXT.repeat(20) },
    { serviceCode: TEXT },
    { sessionId: `${SESSION} ${PHONE}` },
  ]) {
    await send(`${url}/api/ussd`, JSON.stringify({ ...body, ...wrong }), json);
  }
  const whole = JSON.stringify(body);
  await send(`${url}/api/ussd`, whole.slice(0, -1), json);
  await send(`${url}/api/ussd`, `${whole}${PHONE}`, json);
  await send(`${url}/api/ussd`, `{"${PHONE}":${TEXT}`, json);
  await send(`${url}/api/ussd`, JSON.stringify(`${PHONE} ${TEXT}`), json);
  await send(`${url}/api/ussd`, whole.replace('{', `{"__proto__":{"a":"${TEXT}"},`), json);
  await send(`${url}/api/ussd`, whole, { 'content-type': 'text/plain' });
  await send(`${url}/api/ussd`, whole, { 'content-type': `application/x-${DIGITS}` });
  await send(`${url}/api/ussd`, whole, { 'content-type': `application/json; charset=${DIGITS}` });
  await send(`${url}/api/ussd`, `phoneNumber=${PHONE}&text=${TEXT}&text=%FF`, form);
  await send(`${url}/api/ussd`, `${whole}${' '.repeat(9_000)}`, json);
  await send(`${url}/api/ussd?phoneNumber=${encoded}`, whole, { ...json, 'x-request-id': PHONE });
  await send(`${url}/api/ussd`, whole, {
    ...json,
    'idempotency-key': PHONE,
    'user-agent': `${PHONE} ${TEXT}`,
    'x-forwarded-for': PHONE,
    referer: `http://${DIGITS}/`,
  });
  // Somebody who asks for help, by phone and through Telerivet; and who only pretends to.
  for (const text of ['', '1', '1*2', '1*2*3', `1*2*3*${DIGITS}`, `1*2*3*${DIGITS}*1`])
    await post(url, { ...fields, sessionId: `${SESSION}-help`, serviceCode: '*555#', text });
  const help = {
    from_number: PHONE,
    to_number: '*555#',
    secret: SECRET,
    language_option: 1,
    location_option: 2,
    support_type_option: 3,
    callback_option: 1,
  };
  for (const wrong of [{}, { secret: `${TEXT}${PHONE}` }, { location_option: DIGITS }, { to_number: TEXT }])
    await send(`${url}/telerivet/ussd-listener`, JSON.stringify({ ...help, ...wrong }), json);
  await send(`${url}/twilio/task-events`, new URLSearchParams({ TaskAttributes: `${PHONE} ${TEXT}` }), {
    ...form,
    'x-twilio-signature': SECRET,
  });
  // Nowhere, and by other methods.
  for (const path of [
    `/${PHONE}`,
    `/${encoded}/${TEXT}`,
    `/api/ussd/${PHONE}`,
    `/api/ussd/via/${DIGITS}`,
    `/%${PHONE}`,
  ]) {
    await ask(path);
    await ask(path, { method: 'POST', body: whole, headers: json });
  }
  const query = `phoneNumber=${encoded}&text=${encodeURIComponent(TEXT)}&sessionId=${SESSION}`;
  for (const path of ['/api/ussd', '/', '/health', '/metrics', '/docs', '/api/ussd/sessions']) {
    await ask(`${path}?${query}`);
    await ask(`${path}?${query}`, { method: 'DELETE' });
  }
  await ask(`/api/ussd/debug/${encoded}?${query}`);
  await ask(`/api/ussd/debug/${TEXT.repeat(10)}`);
  await ask(`/api/ussd/debug/%E0%A4${DIGITS}`);
}

/** What operators see: never what was typed. */
async function checkAnswers(t: Test, gateway: Gateway): Promise<void> {
  const read = async (path: string) => (await fetch(gateway.url + path)).text();
  const metrics = await read('/metrics');
  t.match(metrics, /ussd_turns_total\{gateway="ixo",outcome="invalid"\} \d/, 'the metrics count');
  t.same(foundIn(metrics, [...PHONES, ...TEXTS, ...SESSIONS]), [], 'and name nobody');
  const debug = await read(`/api/ussd/debug/${SESSION}`);
  t.match(
    JSON.parse(debug),
    { debugInfo: { context: { phoneNumber: PHONE } } },
    'an operator sees whose it is',
  );
  // Ids of sessions are listed, and one of them holds the digits.
  t.same(
    foundIn(
      debug,
      TEXTS.filter((text) => text !== DIGITS),
    ),
    [],
    'and not what was typed',
  );
}

function checkOutput(t: Test, gateway: Gateway): void {
  t.same(foundIn(gateway.output(), [...PHONES, ...TEXTS, SECRET]), [], 'nothing of it is in the output');
  t.match(gateway.output(), /"msisdn":"m_[0-9a-f]{12}"/, 'the pseudonym is');
}

/** Every file below a directory. */
function files(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

async function query(url: string, sql: string): Promise<number> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(sql)).rowCount ?? 0;
  } finally {
    await client.end();
  }
}

const GATEWAYS = 'newest=latest';

async function throughFaults(t: Test, server: Postgres, url: string, gateway: Gateway): Promise<void> {
  const polite = { status: 200, outcome: 'unavailable' };
  const fields = { sessionId: `${SESSION}-fault`, phoneNumber: PHONE };
  await post(gateway.url, { ...fields, text: '' });

  // A check that fails: the driver's error quotes the whole row.
  await query(url, `alter table turns add constraint canary check (outcome <> 2) not valid`);
  t.match(await post(gateway.url, { ...fields, text: TEXT }), polite, 'a check violation');
  t.match(
    await post(gateway.url, { ...fields, sessionId: `${SESSION}-x`, text: `1*${TEXT}` }),
    polite,
    'in a walk',
  );
  await query(url, `alter table turns drop constraint canary`);
  // A column that is missing: an error of the statement, not of the row.
  await query(url, `alter table turns rename column network to network_`);
  t.match(await post(gateway.url, { ...fields, text: TEXT }), polite, 'a statement that fails');
  await query(url, `alter table turns rename column network_ to network`);
  t.match(await post(gateway.url, { ...fields, text: TEXT }), { outcome: 'ok' }, 'and then it is taken');
  // Rows that do not open: cut, of an unknown key, turned over.
  for (const sealed of [
    `substr(sealed, 1, 20)`,
    `convert_to('${PHONE} ${TEXT} is no record at all', 'utf8')`,
    `sealed || '\\x00'::bytea`,
    `''::bytea`,
  ]) {
    await query(url, `create table kept as select * from turns`);
    t.ok((await query(url, `update turns set sealed = ${sealed}`)) > 10);
    t.match(
      await post(gateway.url, { ...fields, text: TEXT }),
      polite,
      `a row that does not open: ${sealed}`,
    );
    t.match(await post(gateway.url, { ...fields, text: `${TEXT}*1` }), polite, 'and one below it');
    await fetch(`${gateway.url}/api/ussd/debug/${SESSION}`);
    await fetch(`${gateway.url}/api/ussd/sessions`);
    await query(url, `truncate turns`);
    await query(url, `insert into turns select * from kept`);
    await query(url, `drop table kept`);
  }
  t.match(await post(gateway.url, { ...fields, text: TEXT }), { outcome: 'replay' }, 'restored');

  await server.kill();
  await sing(gateway);
  t.match(await post(gateway.url, { ...fields, text: TEXT }), polite, 'the database is away');
  await server.restart();
}

t.test('on Postgres', async (t) => {
  const server = await startPostgres({ own: true });
  t.teardown(() => server.stop());
  const { url } = await database(t, { server: server.url });
  const gateway = await startGateway(t, { DATABASE_URL: url, GATEWAYS, TELERIVET_SECRET: SECRET });
  await sing(gateway);
  await checkAnswers(t, gateway);
  await throughFaults(t, server, url, gateway);
  await sing(gateway);
  await checkAnswers(t, gateway);
  checkOutput(t, gateway);

  const secrets = [...PHONES, ...TEXTS, ...SESSIONS];
  const all = await tables(url);
  t.match(all, /turns\.sealed\n[0-9a-f]{100}/, 'the tables were read');
  t.same(foundIn(all, secrets), [], 'no table holds any of it');
  const dumped = dump(url);
  if (dumped === undefined) t.comment('no pg_dump of this version here: the tables were read instead');
  else {
    t.match(dumped, 'COPY public.turns_', 'pg_dump wrote the turns');
    t.same(foundIn(dumped, secrets), [], 'nor does a dump');
  }

  await gateway.stop();
  checkOutput(t, gateway);
});

t.test('on the embedded database', async (t) => {
  const directory = await embeddedDirectory(t);
  const began = Date.now();
  const gateway = await startGateway(t, { DATA_DIR: directory, GATEWAYS, TELERIVET_SECRET: SECRET });
  await sing(gateway);
  await checkAnswers(t, gateway);
  checkOutput(t, gateway);
  for (const when of ['while it runs', 'after it stopped']) {
    const all = files(directory);
    // What has not been written since the cluster was copied cannot hold any of it.
    const written = all.filter((file) => statSync(file).mtimeMs >= began - 1_000);
    const found = written.filter(
      (file) => foundIn(readFileSync(file), [...PHONES, ...TEXTS, ...SESSIONS]).length > 0,
    );
    t.ok(all.length > 500 && written.length > 5, `${written.length} of ${all.length} files ${when}`);
    t.same(found, [], 'none of them holds any of it');
    if (when === 'while it runs') await gateway.stop();
  }
});
