/** Who may credit and retry, and what they are told: over real sockets, on a started gateway. */
import { randomUUID } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import t, { type Test } from 'tap';
import { ask } from './support/ask.ts';
import { dump, foundIn, tables } from './support/canary.ts';
import { type Gateway, post, startGateway, temporaryDirectory } from './support/gateway.ts';
import { database } from './support/postgres.ts';

t.jobs = 2;

const JSON_TYPE = { 'content-type': 'application/json' };
const FORM_TYPE = { 'content-type': 'application/x-www-form-urlencoded' };
const MONEY = { authorization: 'Bearer marys-token' };
const READ = { authorization: 'Bearer roys-token' };
const ADMIN = { authorization: 'Bearer adas-token' };
const OPERATOR_TOKEN = 'mary:read+money:marys-token,roy:read:roys-token,ada:read+admin:adas-token';

/** Neither is to be found anywhere but sealed. */
const PHONE = '+254711222333';
const REASON = 'CANARYREASON for the broken phone';

type Answer = { status: number; body: Record<string, unknown>; text: string };

async function call(
  url: string,
  method: string,
  headers: Record<string, string>,
  body?: string,
): Promise<Answer> {
  const told = await ask(url, { method, headers, ...(body !== undefined && { body }) });
  const text = told.body.toString();
  return { status: told.status, body: JSON.parse(text) as Record<string, unknown>, text };
}

async function connect(t: Test, url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => {});
  await client.connect();
  t.teardown(() => client.end().catch(() => {}));
  return client;
}

let keys = 0;
function newKey(): string {
  keys += 1;
  return `test-key-${keys}`;
}

const wanted = (fields: Record<string, unknown> = {}): Record<string, unknown> => ({
  phoneNumber: PHONE,
  currency: 'KES',
  amountMinor: 5_000,
  idempotencyKey: newKey(),
  reason: REASON,
  ...fields,
});

t.test('POST /api/wallet/credits', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const gateway = await startGateway(t, { DATABASE_URL, OPERATOR_TOKEN, RATE_LIMIT_WINDOW_SECONDS: '1' });
  const client = await connect(t, DATABASE_URL);
  const credits = `${gateway.url}/api/wallet/credits`;
  const post = (fields: unknown, headers: Record<string, string> = MONEY) =>
    call(credits, 'POST', { ...JSON_TYPE, ...headers }, JSON.stringify(fields));
  const form = (fields: Record<string, unknown>) =>
    call(
      credits,
      'POST',
      { ...FORM_TYPE, ...MONEY },
      new URLSearchParams(fields as Record<string, string>).toString(),
    );
  const made = async () => {
    const { rows } = await client.query<{ entries: number; credits: number }>(`
      select (select count(*)::int from ledger_entries) as entries,
        (select count(*)::int from wallet_credits) as credits`);
    return rows[0];
  };

  await t.test('once per key', async (t) => {
    const asked = wanted();
    const first = await post(asked);
    t.match(first, { status: 201, body: { currency: 'KES', amountMinor: 5_000, balanceMinor: 105_000 } });
    t.same(Object.keys(first.body), ['id', 'currency', 'amountMinor', 'balanceMinor']);
    await post(wanted());
    for (const again of [asked, { ...asked, reason: `  ${REASON} ` }]) {
      const second = await post(again);
      t.equal(second.status, 200, 'again');
      t.equal(second.text, first.text, 'the same body, whatever came in between');
    }
    for (const other of [
      { amountMinor: 5_001 },
      { reason: 'another' },
      { currency: 'UGX' },
      { phoneNumber: '+254711222334' },
    ]) {
      const refused = await post({ ...asked, ...other });
      t.match(
        refused,
        { status: 409, body: { error: /^idempotencyKey/ } },
        `another ${Object.keys(other).join()}`,
      );
    }
    t.match(await post(wanted()), { status: 201, body: { balanceMinor: 115_000 } }, 'nothing of those');
  });

  await t.test('ten copies at once', async (t) => {
    const asked = wanted({ phoneNumber: '+254711222335' });
    const all = await Promise.all(Array.from({ length: 10 }, () => post(asked)));
    t.same(all.map(({ status }) => status).toSorted(), [...Array(9).fill(200), 201]);
    t.equal(new Set(all.map(({ text }) => text)).size, 1);
    t.match(all[0], { body: { balanceMinor: 105_000 } });
  });

  await t.test('as a form', async (t) => {
    const asked = wanted({ phoneNumber: '+254711222336' });
    const first = await form(asked);
    t.match(first, { status: 201, body: { amountMinor: 5_000, balanceMinor: 105_000 } });
    t.same(await form(asked), { ...first, status: 200 });
    t.same(await post(asked), { ...first, status: 200 }, 'the same credit in either form');
    const before = await made();
    for (const amountMinor of [
      '',
      '5e3',
      '0x10',
      '50.00',
      '-5',
      '0',
      ' 5',
      '5 ',
      '+5',
      '١',
      '9'.repeat(15),
    ]) {
      const refused = await form(wanted({ amountMinor }));
      t.equal(refused.status, 400, amountMinor);
      t.same(refused.body, { error: 'Out of rule or missing: amountMinor' });
    }
    const twice = `${new URLSearchParams(wanted() as Record<string, string>)}&amountMinor=5`;
    t.equal((await call(credits, 'POST', { ...FORM_TYPE, ...MONEY }, twice)).status, 400, 'two amounts');
    t.same(await made(), before);
  });

  await t.test('what is out of rule', async (t) => {
    const before = await made();
    const bad: Record<string, unknown[]> = {
      phoneNumber: [
        '',
        '254711222333',
        '+0254711222333',
        `${PHONE}\n`,
        ` ${PHONE}`,
        '+1234567890123456',
        254,
      ],
      currency: ['kes', 'KE', 'KESH', 'KES\n', '', 404],
      amountMinor: ['5000', 50.5, -1, 0, 1_000_000_001, 1e300, 2 ** 53, true, [5], {}],
      idempotencyKey: ['short', 'with a space', 'x'.repeat(101), 'newline-\n', 'größere-key', 12345678],
      reason: ['', '   ', 'x'.repeat(201), 7],
    };
    for (const [field, values] of Object.entries(bad)) {
      for (const value of [...values, null, undefined]) {
        const { status, body, text } = await post(wanted({ [field]: value }));
        const shown = JSON.stringify(value)?.slice(0, 30);
        t.equal(status, 400, `${field}: ${shown}`);
        t.same(body, { error: `Out of rule or missing: ${field}` }, 'which one is said');
        t.notMatch(text, /2547|kes|CANARY/, 'nothing of it is quoted');
      }
    }
    t.same(await post({}), {
      status: 400,
      body: { error: `Out of rule or missing: ${Object.keys(bad).join(', ')}` },
      text: JSON.stringify({ error: `Out of rule or missing: ${Object.keys(bad).join(', ')}` }),
    });
    const bodies: [number, string, Record<string, string>][] = [
      [400, '{', JSON_TYPE],
      [400, 'null', JSON_TYPE],
      [400, '[]', JSON_TYPE],
      [400, '"x"', JSON_TYPE],
      [400, '', JSON_TYPE],
      [400, '', FORM_TYPE],
      [400, '', {}],
      [400, JSON.stringify(wanted()), { 'content-type': 'application/json; charset=latin1' }],
      [400, JSON.stringify(wanted()), { 'content-type': 'text/plain' }],
      [415, JSON.stringify(wanted()), { 'content-type': 'application/xml' }],
      [413, JSON.stringify(wanted({ reason: 'x'.repeat(9_000) })), JSON_TYPE],
    ];
    for (const [expected, body, headers] of bodies) {
      const told = await call(credits, 'POST', { ...headers, ...MONEY }, body);
      t.equal(told.status, expected, `${JSON.stringify(headers)} ${body.slice(0, 20)}`);
      t.match(told.body, { error: /^(The (body|request) |Out of rule)/ }, 'in words');
    }
    t.equal((await post(wanted(), {})).status, 401, 'no token');
    t.equal((await post(wanted(), { authorization: 'Bearer wrong' })).status, 401, 'a wrong one');
    t.equal((await post(wanted(), READ)).status, 403, 'one that may not');
    t.equal((await post(wanted(), ADMIN)).status, 403, 'nor this one');
    t.equal((await call(credits, 'GET', MONEY)).status, 404);
    t.same(await made(), before, 'nothing was credited');
  });

  await t.test('neither number nor reason are told', async (t) => {
    const needles = [PHONE.slice(1), 'CANARYREASON'];
    t.same(foundIn(gateway.output(), needles), [], 'in the log');
    t.match(gateway.output(), /"operator":"mary","msisdn":"m_[^"]+","currency":"KES"/, 'who did it is');
    t.notMatch(gateway.output(), /marys-token|test-key-/);
    t.same(foundIn(await tables(DATABASE_URL), needles), [], 'in the tables');
    const whole = dump(DATABASE_URL);
    if (whole === undefined) t.comment('no pg_dump here');
    else t.same(foundIn(whole, needles), [], 'in a dump');
  });
});

const DEAD = '2020-01-01T00:00:00.000001Z';

type Listed = {
  effects: { id: string; kind: string; state: string; queuedAt: string }[];
  next: string | null;
};

t.test('GET /api/effects', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const gateway = await startGateway(t, { DATABASE_URL, OPERATOR_TOKEN });
  const client = await connect(t, DATABASE_URL);
  const list = (query = '', headers: Record<string, string> = READ) =>
    call(`${gateway.url}/api/effects${query}`, 'GET', headers);
  const listed = async (query = '') => (await list(query)).body as unknown as Listed;
  t.strictSame(await listed(), { effects: [], next: null });

  // Many of one moment: only the id tells them apart.
  await client.query(
    `insert into outbox (id, kind, state, queued_at, error)
     select gen_random_uuid(), case when i % 2 = 0 then 'sms' else 'airtime' end,
       (array['queued', 'done', 'refused', 'dead'])[1 + i % 4],
       $1::timestamptz + (i / 25) * interval '1 microsecond', 'timeout'
     from generate_series(0, 99) i`,
    [DEAD],
  );
  const { effects: all, next } = await listed('?limit=100');
  t.equal(all.length, 100);
  t.equal(next, null);
  t.same(Object.keys(all[0] ?? {}), [
    'id',
    'kind',
    'state',
    'attempts',
    'error',
    'queuedAt',
    'triedAt',
    'endedAt',
  ]);
  t.match(all.at(-1), { queuedAt: DEAD, error: 'timeout' });
  t.equal((await listed()).effects.length, 50, 'fifty, where nothing is said');

  await t.test('filters', async (t) => {
    for (const state of ['queued', 'done', 'refused', 'dead']) {
      const { effects } = await listed(`?limit=100&state=${state}`);
      t.equal(effects.length, 25);
      t.ok(effects.every((each) => each.state === state));
    }
    t.equal((await listed('?limit=100&kind=sms')).effects.length, 50);
    t.equal((await listed('?limit=100&kind=airtime&state=dead')).effects.length, 25);
    t.equal((await listed('?limit=100&kind=sms&state=dead')).effects.length, 0);
    t.equal((await listed('?kind=nothing')).effects.length, 0);
  });

  await t.test('page by page, while more are added', async (t) => {
    for (const [query, expected] of [
      ['', 100],
      ['&state=dead', 25],
      ['&kind=sms', 50],
    ] as const) {
      const seen: string[] = [];
      const before = new Set(
        all
          .filter(
            ({ state, kind }) =>
              (!query.includes('state') || state === 'dead') && (!query.includes('kind') || kind === 'sms'),
          )
          .map(({ id }) => id),
      );
      t.equal(before.size, expected);
      let cursor = '';
      for (let pages = 0; pages < 50; pages += 1) {
        const page = await listed(`?limit=7${query}${cursor}`);
        t.ok(page.effects.length <= 7);
        seen.push(...page.effects.map(({ id }) => id));
        await client.query(`insert into outbox (id, kind, state) values ($1, 'sms', 'refused')`, [
          randomUUID(),
        ]);
        if (page.next === null) break;
        cursor = `&cursor=${encodeURIComponent(page.next)}`;
      }
      t.equal(new Set(seen).size, seen.length, 'none twice');
      t.same(seen.filter((id) => before.has(id)).toSorted(), [...before].toSorted(), 'none left out');
    }
  });

  await t.test('what is no question', async (t) => {
    const cursor = (text: string) => `?cursor=${Buffer.from(text).toString('base64url')}`;
    const id = randomUUID();
    const bad: [string, string][] = [
      ['limit', '?limit=0'],
      ['limit', '?limit=101'],
      ['limit', '?limit=-1'],
      ['limit', '?limit=1.5'],
      ['limit', '?limit=x'],
      ['limit', '?limit='],
      ['limit', '?limit=5&limit=6'],
      ['state', '?state=open'],
      ['state', '?state='],
      ['state', '?state=dead&state=done'],
      ['kind', '?kind=SMS'],
      ['kind', "?kind='"],
      ['kind', `?kind=${'x'.repeat(31)}`],
      ['cursor', '?cursor='],
      ['cursor', '?cursor=x'],
      ['cursor', `?cursor=${'x'.repeat(300)}`],
      ['cursor', cursor(id)],
      ['cursor', cursor(`${DEAD} ${id} more`)],
      ['cursor', cursor(`${DEAD} not-a-uuid`)],
      ['cursor', cursor(`2026-02-31T00:00:00.000000Z ${id}`)],
      ['cursor', cursor(`2026-01-01T24:00:00.000000Z ${id}`)],
      ['cursor', cursor(`2026-01-01T23:59:60.000000Z ${id}`)],
      ['cursor', cursor(`0000-01-01T00:00:00.000000Z ${id}`)],
      ['cursor', cursor(`infinity ${id}`)],
      ['cursor', cursor(`${DEAD.replace('Z', '+01:00')} ${id}`)],
    ];
    for (const [field, query] of bad) {
      const told = await list(query);
      t.equal(told.status, 400, query.slice(0, 60));
      t.same(told.body, { error: `Out of rule or missing: ${field}` });
    }
    for (const good of ['?limit=1', '?limit=100', cursor(`0001-01-01T00:00:00.000000Z ${id}`)])
      t.equal((await list(good)).status, 200, good);
    t.equal((await list('', {})).status, 401);
    t.equal((await list('', { authorization: 'Bearer wrong' })).status, 401);
  });
});

t.test('POST /api/effects/:id/retry', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const gateway = await startGateway(t, { DATABASE_URL, OPERATOR_TOKEN });
  const client = await connect(t, DATABASE_URL);
  const retry = (id: string, headers: Record<string, string> = ADMIN) =>
    call(`${gateway.url}/api/effects/${id}/retry`, 'POST', headers);

  // An information page, and the page by SMS.
  for (const text of ['', '1', '1*1', '1*1*1']) await post(gateway.url, { phoneNumber: PHONE, text });
  const stateOf = async () =>
    (await client.query<{ id: string; state: string; attempts: number }>('select * from outbox')).rows[0];
  const sent = async () => {
    for (let tries = 0; tries < 600 && (await stateOf())?.state !== 'done'; tries += 1)
      await new Promise((resolve) => setTimeout(resolve, 100));
    t.match(await stateOf(), { state: 'done', attempts: 1 });
  };
  await sent();
  const id = (await stateOf())?.id ?? '';

  for (const state of ['queued', 'done']) {
    await client.query('update outbox set state = $1', [state]);
    t.match(await retry(id), { status: 404, body: { error: /dead/ } }, state);
  }
  await client.query(`update outbox set state = 'dead', attempts = 451`);
  for (const unknown of [randomUUID(), 'x', '%00', 'x'.repeat(64), `${id}0`, "'"]) {
    t.equal((await retry(unknown)).status, 404, unknown);
  }
  t.match(await retry(id), { status: 409, body: { error: 'It cannot be done any more' } }, 'it was sent');
  t.match(await stateOf(), { state: 'dead', attempts: 451 }, 'and is as dead as before');
  t.equal((await retry(id, {})).status, 401);
  t.equal((await retry(id, { authorization: 'Bearer wrong' })).status, 401);
  for (const token of [READ, MONEY]) t.equal((await retry(id, token)).status, 403);

  await client.query(`update messages set state = 'failed', provider_id = null`);
  const all = await Promise.all([retry(id.toUpperCase()), retry(id), retry(id.toUpperCase())]);
  t.same(all.map(({ status }) => status).toSorted(), [202, 404, 404], 'asked three times at once');
  t.match(all.find(({ status }) => status === 202)?.body, { id: new RegExp(id, 'i'), state: 'queued' });
  await sent();
  const { rows } = await client.query(`select state from messages`);
  t.same(rows, [{ state: 'sent' }], 'the message went out');
  t.match(gateway.output(), /"operator":"ada","effect":"[^"]+","outcome":"queued","msg":"retry"/i);
  t.same(foundIn(gateway.output(), [PHONE.slice(1)]), []);
});

const tokenOf = (gateway: Gateway) => /all of them with the token (\S+) of/.exec(gateway.output())?.[1] ?? '';

t.test('the token that is made', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const DATA_DIR = temporaryDirectory(t);
  const file = join(DATA_DIR, 'operator-token');
  // Both at once on one directory: they keep one token.
  const [gateway, second] = await Promise.all([
    startGateway(t, { DATABASE_URL, DATA_DIR }),
    startGateway(t, { DATABASE_URL, DATA_DIR }),
  ]);
  const token = tokenOf(gateway);
  t.ok(token.length >= 20, 'it is on the start line');
  t.equal(readFileSync(file, 'utf8').trim(), token);
  t.equal(statSync(file).mode & 0o777, 0o600);
  t.equal(tokenOf(second), token, 'of two that start at once');
  t.same(readdirSync(DATA_DIR), ['operator-token'], 'and nothing lies about');
  t.equal(gateway.output().split(token).length, 2, 'nowhere else in the log');
  await second.stop();

  const own = { authorization: `Bearer ${token}` };
  const credits = (headers: Record<string, string>) =>
    call(`${gateway.url}/api/wallet/credits`, 'POST', { ...JSON_TYPE, ...headers }, JSON.stringify(wanted()));
  const retry = (headers: Record<string, string>) =>
    call(`${gateway.url}/api/effects/${randomUUID()}/retry`, 'POST', headers);
  const list = (headers: Record<string, string>) => call(`${gateway.url}/api/effects`, 'GET', headers);

  t.equal((await list({})).status, 200, 'this machine reads without it');
  for (const headers of [
    { 'x-forwarded-for': '127.0.0.1' },
    { forwarded: 'for=127.0.0.1' },
    { 'sec-fetch-site': 'cross-site' },
    { host: 'evil.example' },
  ] as Record<string, string>[]) {
    const name = Object.keys(headers).join();
    t.equal((await list(headers)).status, 403, `not with ${name}`);
    t.equal((await list({ ...headers, ...own })).status, 200, 'but with the token');
    t.equal((await credits(headers)).status, 401, `nothing is credited without it: ${name}`);
    t.equal((await retry(headers)).status, 401);
  }
  t.equal((await list({ authorization: 'Bearer wrong' })).status, 401, 'a wrong token is not none');
  t.equal((await credits({})).status, 401, 'crediting wants it, also here');
  t.equal((await retry({})).status, 401);
  t.equal((await credits(own)).status, 201);
  t.equal((await retry(own)).status, 404, 'there is no such effect');

  await gateway.stop();
  const again = await startGateway(t, { DATABASE_URL, DATA_DIR });
  t.equal(tokenOf(again), token, 'the same after a restart');
  await again.stop();

  await t.test('is not made where one is given', async (t) => {
    const directory = temporaryDirectory(t);
    const given = await startGateway(t, { DATABASE_URL, DATA_DIR: directory, OPERATOR_TOKEN: 'eight888' });
    t.notOk(existsSync(join(directory, 'operator-token')));
    t.notMatch(given.output(), /all of them with the token|eight888/);
    t.equal((await call(`${given.url}/api/effects`, 'GET', {})).status, 401, 'this machine wants it as well');
    t.equal((await call(`${given.url}/api/effects`, 'GET', own)).status, 401, 'an older one is over');
  });

  await t.test('is not made in production', async (t) => {
    const directory = temporaryDirectory(t);
    const settings = { DATABASE_URL, DATA_DIR: directory, NODE_ENV: 'production', HOST: '127.0.0.1' };
    const production = await startGateway(t, settings);
    t.same(readdirSync(directory), []);
    t.match(production.output(), /operator routes closed: set OPERATOR_TOKEN/);
    for (const headers of [{}, own] as Record<string, string>[]) {
      for (const [method, path] of [
        ['GET', '/api/effects'],
        ['POST', `/api/effects/${randomUUID()}/retry`],
        ['POST', '/api/wallet/credits'],
      ] as const) {
        const body = method === 'POST' ? JSON.stringify(wanted()) : undefined;
        const told = await call(production.url + path, method, { ...JSON_TYPE, ...headers }, body);
        t.match(told, { status: 404, body: { error: 'Not found' } }, `${method} ${path}`);
      }
    }
  });
});
