import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { command } from './support/command.ts';
import { environment, type Gateway, post, startGateway, TEST_KEY } from './support/gateway.ts';
import { eventually, freshNumber, phoneOn, queryOn } from './support/phone.ts';
import { database } from './support/postgres.ts';

const MAIN = join(import.meta.dirname, '..', 'src', 'main.ts');
/** How soon a switch is seen; in production it is looked at every second. */
const QUICK = { lookMs: 50 };
const OFF = 'END This service is switched off for now. Please try again later.';

type Ran = { code: number; said: string };

/** `npm run service -- …`, inside this process. */
function service(url: string, ...words: string[]): Promise<Ran> {
  return run(url, 'service', ...words);
}

async function run(url: string, ...words: string[]): Promise<Ran> {
  const { code, said, complained } = await command({ DATABASE_URL: url }, words);
  return { code, said: said + complained };
}

/** The same as a process of its own. */
function program(url: string, ...words: string[]): Promise<Ran> {
  const settings = { DATABASE_URL: url, PIN_ENCRYPTION_KEY: TEST_KEY, LOG_LEVEL: 'silent' };
  return new Promise((resolve) => {
    execFile(process.execPath, [MAIN, ...words], { env: environment(settings) }, (error, stdout, stderr) =>
      resolve({ code: Number(error?.code ?? 0), said: stdout + stderr }),
    );
  });
}

/** Both instances answer new dials of a code with an END, or neither does. */
async function seen(gateways: Gateway[], code: string, off: boolean): Promise<void> {
  for (const { url } of gateways) {
    const phone = phoneOn(url);
    await eventually(
      `${code} to be ${off ? 'off' : 'on'}`,
      async () => ((await phone.dial(code)) === OFF) === off,
      10_000,
    );
  }
}

async function startPair(t: Test) {
  const { url } = await database(t);
  const gateways = [
    await startGateway(t, { DATABASE_URL: url, OPERATOR_TOKEN: 'token-of-the-test' }, QUICK),
    await startGateway(t, { DATABASE_URL: url, OPERATOR_TOKEN: 'token-of-the-test' }, QUICK),
  ] as [Gateway, Gateway];
  return { url, gateways };
}

test('a service is switched off and on again under two running instances', async (t) => {
  const { url, gateways } = await startPair(t);
  const [one, two] = gateways;
  const open = phoneOn(one.url);
  t.match(await open.dial('*144#'), /^CON /);

  const off = await program(url, 'service', 'off', 'airtime');
  t.equal(off.code, 0, off.said);
  await seen(gateways, '*144#', true);

  await t.test('a session that is open goes on, on either instance', async (t) => {
    t.match(await open.type('1'), /^END Your balance/);
    const request = { ...open.session, serviceCode: '*144#' };
    t.equal((await post(two.url, request)).outcome, 'replay');
  });

  await t.test('a retry of the first request gets the same bytes, once kept', async (t) => {
    const dial = { sessionId: 'switched-off', phoneNumber: freshNumber(), serviceCode: '*144#' };
    const first = await post(one.url, dial);
    const again = await post(two.url, dial);
    t.same([first.body, first.outcome, first.status], [OFF, 'ok', 200]);
    t.same([again.body, again.outcome, again.status], [OFF, 'replay', 200]);
    t.equal(
      (await post(two.url, { ...dial, text: '1' })).body,
      OFF,
      'what comes behind it gets the END again',
    );
  });

  await t.test('a code that is dialled through is refused too, and its retry replayed', async (t) => {
    const dial = { sessionId: 'dialled-through', phoneNumber: freshNumber(), serviceCode: '*144*1#' };
    t.equal((await post(one.url, dial)).body, OFF);
    t.equal((await post(two.url, dial)).body, OFF);
    const late = { sessionId: 'late', phoneNumber: freshNumber(), serviceCode: '*144#', text: '1*2' };
    t.equal((await post(one.url, late)).body, OFF, 'a first request that was lost changes nothing');
    t.equal((await post(two.url, late)).outcome, 'replay');
  });

  await t.test("by Africa's Talking and in JSON sessions the same", async (t) => {
    const dial = { sessionId: 'ATUid_off', phoneNumber: freshNumber(), serviceCode: '*144#' };
    t.equal((await post(one.url, dial, '/ussd/session')).body, OFF);
    const created = await post(one.url, { customerId: 'off-1', serviceCode: '*144#' }, '/v1/ussd/session');
    t.match(created.body, /switched off for now.*"isEndState":true/);
  });

  await t.test('other services are not touched, and operators see which is off', async (t) => {
    t.match(await phoneOn(one.url).dial('*1234#'), /^CON /);
    const metrics = await fetch(`${two.url}/metrics`, {
      headers: { authorization: 'Bearer token-of-the-test' },
    });
    const text = await metrics.text();
    t.match(text, /^ussd_service_off\{service="airtime"\} 1$/m);
    t.match(text, /^ussd_service_off\{service="ixo"\} 0$/m);
  });

  await t.test('said twice it stays off since when it was', async (t) => {
    const before = await service(url);
    t.match(before.said, /^airtime +off since \d{4}-\d\d-\d\dT/m);
    t.match(before.said, /^ixo +on$/m);
    t.equal((await service(url, 'off', 'airtime')).code, 0);
    t.equal((await service(url)).said, before.said);
  });

  await t.test('on again, twice', async (t) => {
    t.equal((await service(url, 'on', 'airtime')).code, 0);
    t.equal((await service(url, 'on', 'airtime')).code, 0);
    await seen(gateways, '*144#', false);
    t.match((await service(url)).said, /^airtime +on$/m);
  });
});

test('what is no service is refused with words', async (t) => {
  const { url } = await database(t);
  const unknown = await service(url, 'off', 'nonsense');
  t.equal(unknown.code, 1);
  t.match(unknown.said, /there is no such service: airtime, demo/);
  const odd = await service(url, 'away');
  t.equal(odd.code, 1);
  t.match(odd.said, /service off <name>/);
});

test('an instance that cannot look keeps what it knew', async (t) => {
  const { url } = await database(t);
  const query = await queryOn(t, url);
  await startGateway(t, { DATABASE_URL: url }, QUICK);
  await service(url, 'off', 'airtime');
  const gateway = await startGateway(t, { DATABASE_URL: url }, QUICK);
  t.equal(await phoneOn(gateway.url).dial('*144#'), OFF, 'seen at the start');
  await query('alter table service_switches rename to service_switches_away');
  await eventually(
    'a look that failed',
    async () => gateway.output().includes('what was known stays'),
    10_000,
  );
  t.equal(await phoneOn(gateway.url).dial('*144#'), OFF);
});

test('the housekeeping of the night, at once and twice', async (t) => {
  const { url } = await database(t);
  const query = await queryOn(t, url);
  await startGateway(t, { DATABASE_URL: url }, QUICK);
  await query(`create table turns_20200106 (like turns including defaults including constraints)`);
  await query(
    `alter table turns attach partition turns_20200106 for values from ('2020-01-06') to ('2020-01-13')`,
  );
  await query(`insert into lookups (id, at, operator, phone, sealed)
    values (gen_random_uuid(), now() - interval '2 years', 'sue', '', '')`);
  await query(`insert into sms_reports (provider_id, phone, status, at)
    values ('old', '\\x01', 'Success', now() - interval '25 hours'), ('new', '\\x01', 'Success', now() - interval '23 hours')`);
  await query(`insert into airtime_reports (provider_id, recipient, status, authenticated, at)
    values ('old', '\\x01', 'Success', true, now() - interval '25 hours'), ('new', '\\x01', 'Success', true, now())`);
  await query(`insert into sms_calls (id, key, body, kind, segments, created_at)
    select gen_random_uuid(), gen_random_uuid(), '\\x01', 'single', 1, now() - days * interval '1 day' from unnest(array[29, 31]) days`);
  await query(`insert into sms_requests (key, id, asked, at)
    select days::text::bytea, gen_random_uuid(), '\\x01', now() - days * interval '1 day' from unnest(array[29, 31]) days`);
  const first = await run(url, 'retention');
  t.equal(first.code, 0, first.said);
  t.same(
    await query('select provider_id from sms_reports union all select provider_id from airtime_reports'),
    [{ provider_id: 'new' }, { provider_id: 'new' }],
  );
  t.same(await query('select body is null as gone from sms_calls order by created_at'), [
    { gone: true },
    { gone: false },
  ]);
  t.same(await query(`select convert_from(key, 'UTF8') as key from sms_requests`), [{ key: '29' }]);
  t.match(first.said, /^Removed: 1 weeks of turns, .* 1 look-ups, /m);
  t.match((await run(url, 'retention')).said, /^Removed: 0 weeks of turns, .* 0 look-ups, /m);
});
