/**
 * Menus as structure (docs/contract.md section 6, decision 31): the shape of json-menu-response to the key, turns that
 * happen once and one after the other, and the keys of partners.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import t, { type Test } from 'tap';
import { z } from 'zod';
import type { Database } from '../src/db/database.ts';
import { EFFECTS, NEED_PHONE } from '../src/effects/effect.ts';
import type { Known } from '../src/flow/plan.ts';
import { parseMenu } from '../src/menus.ts';
import { COMMANDS } from '../src/operator/commands.ts';
import type { Fact } from '../src/services/facts.ts';
import { ask } from './support/ask.ts';
import { dump, foundIn, tables } from './support/canary.ts';
import { embeddedDirectory } from './support/embedded.ts';
import { menuOf, openDatabase } from './support/engine.ts';
import { type Gateway, startGateway } from './support/gateway.ts';
import {
  bearing,
  FORM,
  type Json,
  json,
  opened,
  PROCESS,
  SESSION,
  type Served,
  serve,
} from './support/json.ts';
import { eventually, freshNumber, queryOn } from './support/phone.ts';
import { database } from './support/postgres.ts';
import { SCALE, scaled } from './support/scale.ts';
import { credit, openShop } from './support/shop.ts';

/** The shape, written from the reference: every key that it names, and no other. */
const Screen = z.strictObject({
  message: z.string().min(1),
  data: z.strictObject({
    sessionId: z.string().regex(/^ussd_[0-9a-f]{32}$/),
    currentState: z.string().min(1),
    menu: z.strictObject({
      state: z.string().min(1),
      text: z.string(),
      options: z.array(
        z.strictObject({
          key: z.string().regex(/^(\d{1,3}|[\p{L}\p{N}]{1,20}|\*)$/u),
          label: z.string().min(1),
          nextState: z.string().min(1).optional(),
          data: z.record(z.string(), z.string()).optional(),
        }),
      ),
      isEndState: z.boolean(),
    }),
    ussdText: z.string().min(1),
    expiresAt: z.string().regex(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
  }),
});

/** The keys of an object and of what is in it, in order. */
function keysOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(keysOf);
  if (typeof value !== 'object' || value === null) return typeof value;
  return Object.entries(value).map(([key, inner]) => [key, keysOf(inner)]);
}

/** A screen as the reference has it: shape, order, and text that says what the structure says. */
function isScreen(t: Test, { body, headers }: Json, message: string): z.infer<typeof Screen>['data'] {
  const read = Screen.safeParse(body);
  t.same(read.error?.issues, undefined, `${message}: the shape`);
  const order = ['sessionId', 'currentState', 'menu', 'ussdText', 'expiresAt'];
  t.same([Object.keys(body), Object.keys(body.data)], [['message', 'data'], order], `${message}: the order`);
  t.same(Object.keys(body.data.menu), ['state', 'text', 'options', 'isEndState'], message);
  for (const option of body.data.menu.options) {
    const order = ['key', 'label', 'nextState', 'data'].filter((key) => key in option);
    t.same(Object.keys(option), order, message);
  }
  const { menu, currentState, ussdText } = body.data;
  const lines = menu.options.map(({ key, label }: { key: string; label: string }) => `${key}. ${label}`);
  t.equal(ussdText, [menu.text, lines.join('\n')].filter(Boolean).join('\n\n'), `${message}: the same page`);
  t.equal(menu.state, currentState, message);
  if (menu.isEndState) t.same(menu.options, [], `${message}: nothing to choose at an end`);
  t.equal(headers['cache-control'], 'no-store', message);
  return body.data;
}

function isError(t: Test, { status, body, headers }: Json, wanted: [number, string], message: string): void {
  t.same([status, body?.error?.code], wanted, message);
  t.same(
    keysOf(body),
    [
      ['message', 'string'],
      ['error', [['code', 'string']]],
    ],
    `${message}: the shape`,
  );
  t.equal(headers['cache-control'], 'no-store', message);
}

const INVEST = `
service: stocks
needsPhone: false
root: HOME
nodes:
  HOME:
    choose: "Select an investment option:"
    options:
      - { key: 1, label: Stocks, to: STOCKS }
      - { key: 2, label: My Portfolio, to: MY_PORTFOLIO }
  STOCKS:
    list: "Select Stock:"
    from: stocks
    label: "{row.symbol}"
    per: 2
    set: { stockId: "{row.stockId}", symbol: "{row.symbol}", name: "{row.name}" }
    to: SELECT_STOCK
    more: { key: 7, label: Next Page }
    previous: { key: 9, label: Previous Page }
    empty: There are no stocks.
    options:
      - { key: 8, label: Search Stock, to: SEARCH_STOCK }
      - { key: 0, label: Back to Home, to: home }
  SELECT_STOCK:
    choose: "{symbol}: {name}"
    options:
      - { key: 1, label: Buy, to: [{ when: { symbol: AAPL }, to: BOUGHT }, { to: REFUSED }] }
      - { key: 2, label: Forget it, to: [{ when: { symbol: AAPL }, to: GOODBYE }, { to: GOODBYE }] }
      - { key: 0, label: Back, to: back }
  SEARCH_STOCK:
    ask: Enter a symbol
    answer: { kind: text, min: 2, max: 24 }
    save: wanted
    to: SEARCHED
    options:
      - { key: "*", label: Home, to: home }
  SEARCHED:
    say: "Nothing for {wanted}"
    options:
      - { key: 0, label: Back, to: back }
      - { key: Exit, label: Leave, to: GOODBYE }
  MY_PORTFOLIO:
    say: "The portfolio of {owner.name}"
    options:
      - { key: 0, label: Back, to: back }
  BOUGHT:
    end: Bought.
  REFUSED:
    end: Not that one.
  GOODBYE:
    end: Goodbye.
`;

const STOCKS = [
  { stockId: 'cmhkp4jkw0005zxfok9m0kiwg', symbol: 'AAPL', name: 'Apple Inc.' },
  { stockId: 'cmhkp4kcp0008zxfohlxjtvd7', symbol: 'AMZN', name: 'Amazon.com Inc.' },
  { stockId: 'cmhkp4kcp0009zxfohlxjtvd8', symbol: 'GOOG', name: 'Alphabet Inc.' },
];

const KNOWN: Known = {
  facts: {
    stocks: { values: { stockId: 25, symbol: 5, name: 30 }, rows: 9 },
    owner: { values: { name: 32 } },
  },
  effects: EFFECTS,
  needPhone: NEED_PHONE,
};

/** Whose things they are, as a service sees it. */
const FACTS: Record<string, Record<string, Fact>> = {
  stocks: {
    stocks: async () => STOCKS,
    owner: async ({ phone }) => ({ name: phone.toString('hex') }),
  },
};

/** A service that wants a phone, and one that is read in pages. */
const CALLED = menuOf(`
service: called
root: start
nodes:
  start:
    choose: You are {phone}
    options:
      - { key: 1, label: End, to: end }
  end:
    end: Goodbye.
`);

const LONG = menuOf(`
service: long
needsPhone: false
root: start
nodes:
  start:
    say: |-
      ${Array.from({ length: 8 }, (_, line) => `Line ${line} of something to read at length.`).join('\n      ')}
    options:
      - { key: 1, label: On, to: end }
      - { key: "*", label: Out, to: end }
  end:
    end: Goodbye.
`);

const DOCUMENTS = [menuOf(INVEST, KNOWN), CALLED, LONG];

async function shop(t: Test, serving: Partial<Parameters<typeof serve>[2]> = {}) {
  const { url: databaseUrl, db } = await openDatabase(t);
  const served = await serve(t, db, { documents: DOCUMENTS, facts: FACTS, ...serving });
  return { ...served, db, databaseUrl };
}

/** A key, as an operator makes it beside the running service. */
async function keys({ engine }: Served, db: Database, ...words: string[]): Promise<string> {
  const command = COMMANDS.keys;
  if (command === undefined) throw new Error('there is no command keys');
  const parts = { ...engine, db: db.kysely } as unknown as Parameters<typeof command>[0];
  return command(parts, words);
}

async function newKey(served: Served, db: Database, ...words: string[]): Promise<string> {
  return (await keys(served, db, 'create', ...words)).split('\n')[0] ?? '';
}

t.test('the examples of the reference, key for key', async (t) => {
  const { url } = await shop(t);
  const before = Date.now();
  const session = await opened(url, { customerId: 12345 });
  const after = Date.now();
  const first = isScreen(t, session.first, 'HOME');
  t.strictSame(session.first.body, {
    message: 'USSD session created successfully',
    data: {
      sessionId: session.sessionId,
      currentState: 'HOME',
      menu: {
        state: 'HOME',
        text: 'Select an investment option:',
        options: [
          { key: '1', label: 'Stocks', nextState: 'STOCKS' },
          { key: '2', label: 'My Portfolio', nextState: 'MY_PORTFOLIO' },
        ],
        isEndState: false,
      },
      ussdText: 'Select an investment option:\n\n1. Stocks\n2. My Portfolio',
      expiresAt: first.expiresAt,
    },
  });
  const expires = Date.parse(first.expiresAt) - 60_000;
  t.ok(expires >= before - 1_000 && expires <= after + 1_000, 'expires the time to live after its turn');

  const stocks = await session.choose(1);
  const second = isScreen(t, stocks, 'STOCKS');
  t.strictSame(stocks.body, {
    message: 'USSD request processed successfully',
    data: {
      sessionId: session.sessionId,
      currentState: 'STOCKS',
      menu: {
        state: 'STOCKS',
        text: 'Select Stock:',
        options: [
          { key: '1', label: 'AAPL', nextState: 'SELECT_STOCK', data: STOCKS[0] },
          { key: '2', label: 'AMZN', nextState: 'SELECT_STOCK', data: STOCKS[1] },
          { key: '7', label: 'Next Page' },
          { key: '8', label: 'Search Stock', nextState: 'SEARCH_STOCK' },
          { key: '0', label: 'Back to Home', nextState: 'HOME' },
        ],
        isEndState: false,
      },
      ussdText: 'Select Stock:\n\n1. AAPL\n2. AMZN\n7. Next Page\n8. Search Stock\n0. Back to Home',
      expiresAt: second.expiresAt,
    },
  });
  t.ok(second.expiresAt > first.expiresAt, 'a new turn prolongs the session');
});

t.test('choices, pages, ways back, notices and ends', async (t) => {
  const { url } = await shop(t);

  await t.test('string, integer and form are one and the same', async (t) => {
    const bodies = [];
    for (const choice of ['1', 1, '  1 ']) {
      const session = await opened(url);
      bodies.push(isScreen(t, await session.choose(choice), JSON.stringify(choice)).menu);
    }
    const made = await json(url + SESSION, 'customerId=7&more=1', { headers: FORM });
    t.equal(made.status, 201, 'opened by a form');
    const { sessionId } = isScreen(t, made, 'a form');
    const chosen = await json(url + PROCESS, `sessionId=${sessionId}&choice=1`, { headers: FORM });
    bodies.push(isScreen(t, chosen, 'a form').menu);
    for (const body of bodies) t.strictSame(body, bodies[0]);
  });

  await t.test('pages: options and text of the same one, and what turns them leads nowhere', async (t) => {
    const session = await opened(url);
    await session.choose(1);
    const next = isScreen(t, await session.choose(7), 'the next page');
    t.strictSame(next.menu.options, [
      { key: '1', label: 'GOOG', nextState: 'SELECT_STOCK', data: STOCKS[2] },
      { key: '9', label: 'Previous Page' },
      { key: '8', label: 'Search Stock', nextState: 'SEARCH_STOCK' },
      { key: '0', label: 'Back to Home', nextState: 'HOME' },
    ]);
    const chosen = isScreen(t, await session.choose('1', 'goog'), 'an item of it');
    t.equal(chosen.menu.text, 'GOOG: Alphabet Inc.');
    t.strictSame(
      chosen.menu.options,
      [
        { key: '1', label: 'Buy' },
        { key: '2', label: 'Forget it', nextState: 'GOODBYE' },
        { key: '0', label: 'Back', nextState: 'STOCKS' },
      ],
      'conditional ways have no state, but where they all lead to one; back leads where it leads now',
    );

    const long = await opened(url, { serviceCode: '*3#' });
    const first = isScreen(t, long.first, 'a long text');
    t.strictSame(
      first.menu.options.filter(({ key }) => key !== '*'),
      [{ key: '98', label: 'More' }],
    );
    const middle = isScreen(t, await long.choose(98), 'its next page');
    t.match(middle.menu.options, [{ key: '98' }, { key: '99' }, { key: '*', nextState: 'end' }]);
    t.not(middle.menu.text, first.menu.text);
    const end = isScreen(t, await long.choose('*'), 'an end');
    t.strictSame([end.menu.isEndState, end.ussdText], [true, end.menu.text]);
  });

  await t.test('what is not on the screen: a notice is the first line, and the third try ends', async (t) => {
    const session = await opened(url);
    await session.choose(1);
    for (const [index, wrong] of ['x', '55'].entries()) {
      const again = isScreen(t, await session.choose(wrong), wrong);
      t.equal(again.menu.text, 'Invalid choice. Reply with one of:\nSelect Stock:', `try ${index + 1}`);
      t.equal(again.menu.options.length, 5);
    }
    const end = isScreen(t, await session.choose('y'), 'the third');
    t.match(end, { currentState: 'STOCKS', menu: { isEndState: true, options: [] } });
  });

  await t.test('typed text, also what a key could be; words as keys', async (t) => {
    const session = await opened(url);
    await session.choose(1);
    const search = isScreen(t, await session.choose(8), 'a question');
    t.equal(search.ussdText, 'Enter a symbol\n\n*. Home');
    const found = isScreen(t, await session.choose('A*1*2# é', 'typed'), 'an answer');
    t.equal(found.menu.text, 'Nothing for A*1*2# é', 'is one input, never cut');
    t.match(found.menu.options[1], { key: 'Exit', nextState: 'GOODBYE' });
    const end = isScreen(t, await session.choose('exit'), 'a word in either case');
    t.match(end, { currentState: 'GOODBYE', ussdText: 'Goodbye.', menu: { isEndState: true } });
  });

  await t.test('reading shows the present screen and changes nothing', async (t) => {
    const session = await opened(url);
    const stocks = await session.choose(1);
    for (const _ of [1, 2]) {
      const read = await session.read();
      t.equal(read.status, 200);
      t.strictSame(isScreen(t, read, 'read'), stocks.body.data, 'the same, and nothing prolonged');
    }
    t.equal((await ask(`${url}${SESSION}/${session.sessionId}`, { method: 'HEAD' })).status, 200);
    await session.choose(1, 'a');
    const end = await session.choose(1, 'b');
    t.match(end.body.data, { currentState: 'BOUGHT', menu: { isEndState: true } });
    t.strictSame((await session.read()).body.data, end.body.data, 'the last words, while they are fresh');
  });

  await t.test('a code with segments behind it is dialled through, once', async (t) => {
    const session = await opened(url, { serviceCode: '*1*1#' });
    t.equal(isScreen(t, session.first, 'dialled through').currentState, 'STOCKS');
    t.equal(isScreen(t, await session.choose(8), 'and goes on').currentState, 'SEARCH_STOCK');
    const elsewhere = await opened(url, { serviceCode: '*999#' });
    t.equal(elsewhere.first.body.data.currentState, 'HOME', 'a code of none: the default service');
  });
});

t.test('over: ended, closed, expired, unknown', async (t) => {
  const { url, db, engine, databaseUrl } = await shop(t);
  const query = await queryOn(t, databaseUrl);
  const rows = async () => (await query<{ n: number }>('select count(*)::int as n from turns'))[0]?.n;
  const older = (sessionId: string, seconds: number) =>
    query(`update turns set at = at - $1 * interval '1 s' where session_key = $2`, [
      seconds,
      engine.digests.session('json', sessionId),
    ]);
  t.ok(db);

  const ended = await opened(url);
  for (const [choice, id] of [
    [1, 'a'],
    [1, 'b'],
    [1, 'c'],
  ] as const)
    await ended.choose(choice, id);
  t.equal((await ended.choose(1, 'c')).body.data.currentState, 'BOUGHT', 'the end is said again to its id');
  for (const _ of [1, 2])
    isError(t, await ended.choose(2, 'd'), [409, 'session_ended'], 'a choice after the end');
  isError(t, await ended.choose(2), [409, 'session_ended'], 'and without an id');
  await older(ended.sessionId, 120);
  isError(t, await ended.choose(2), [409, 'session_ended'], 'and later');
  isError(t, await ended.read(), [410, 'session_expired'], 'its last words are not kept at hand for ever');
  t.equal((await ended.choose(1, 'c')).body.data.currentState, 'BOUGHT', 'but a repeat is a repeat');

  const closed = await opened(url);
  const stocks = await closed.choose(1, 'a');
  for (const _ of [1, 2]) {
    const done = await closed.close();
    t.same([done.status, done.text], [204, ''], 'closed, and again');
  }
  isError(t, await closed.choose(1, 'b'), [409, 'session_ended'], 'a choice after that');
  isError(t, await closed.choose(1, 'b'), [409, 'session_ended'], 'and again');
  isError(t, await closed.read(), [409, 'session_ended'], 'nor is it read');
  t.equal((await closed.choose(1, 'a')).text, stocks.text, 'what happened before is repeated');

  const expired = await opened(url);
  const answered = await expired.choose(1, 'a');
  await older(expired.sessionId, 61);
  for (const _ of [1, 2])
    isError(t, await expired.choose(1, 'b'), [410, 'session_expired'], 'a choice too late');
  isError(t, await expired.choose('', 'c'), [410, 'session_expired'], 'an empty one opens nothing');
  isError(t, await expired.choose(''), [410, 'session_expired'], 'nor without an id');
  isError(t, await expired.read(), [410, 'session_expired'], 'nor is it read');
  t.equal((await expired.close()).status, 204);
  isError(t, await expired.read(), [410, 'session_expired'], 'closing it changes nothing');
  const before = await rows();
  const again = await expired.choose(1, 'a');
  t.same([again.status, again.headers['x-ussd-outcome']], [200, 'replay']);
  t.equal(
    Date.parse(answered.body.data.expiresAt) - Date.parse(again.body.data.expiresAt),
    61_000,
    'not moved',
  );
  t.equal(await rows(), before, 'a repeat adds nothing');

  const unknown = `ussd_${'0'.repeat(32)}`;
  for (const sessionId of [unknown, 'session-001', "';--", 'ussd_']) {
    isError(t, await json(url + PROCESS, { sessionId, choice: 1 }), [404, 'session_not_found'], sessionId);
    const path = `${url}${SESSION}/${encodeURIComponent(sessionId)}`;
    isError(t, await json(path, undefined, { method: 'GET' }), [404, 'session_not_found'], 'read');
    isError(t, await json(path, undefined, { method: 'DELETE' }), [404, 'session_not_found'], 'closed');
  }
  t.equal(await rows(), before, 'and nothing came of any of it');
});

t.test('bad input: 400 and the field, nothing executed', async (t) => {
  const { url, databaseUrl } = await shop(t);
  const query = await queryOn(t, databaseUrl);
  const session = await opened(url);
  const count = async () => (await query<{ n: number }>('select count(*)::int as n from turns'))[0]?.n;
  const before = await count();
  const CANARY = 'CANARYVALUE';
  const customers = [
    null,
    true,
    '',
    'x'.repeat(65),
    ' a',
    'a\n',
    'é',
    [CANARY],
    { id: CANARY },
    1.5,
    2 ** 60,
  ];
  const wrong: [path: string, field: string, fields: unknown][] = [
    ...customers.map((customerId): [string, string, unknown] => [SESSION, 'customerId', { customerId }]),
    [SESSION, 'customerId', {}],
    ...['*1', '123', CANARY, 1, `*${'1'.repeat(11)}#`, ''].map((serviceCode): [string, string, unknown] => [
      SESSION,
      'serviceCode',
      { customerId: 1, serviceCode },
    ]),
    ...['260971234567', '+0971', 260971234567, `+260971234567\n`, ''].map(
      (phoneNumber): [string, string, unknown] => [SESSION, 'phoneNumber', { customerId: 1, phoneNumber }],
    ),
    ...[null, 1, ['x'], '', 'a b', 'x'.repeat(101)].map((sessionId): [string, string, unknown] => [
      PROCESS,
      'sessionId',
      { sessionId, choice: 1 },
    ]),
    ...[
      null,
      true,
      1.5,
      [1],
      { key: 1 },
      `${CANARY}\n`,
      'x'.repeat(183),
      '\uD800',
      'a\u202Eb',
      undefined,
    ].map((choice): [string, string, unknown] => [
      PROCESS,
      'choice',
      { sessionId: session.sessionId, choice },
    ]),
    ...['', 'a b', 1.5, 'x'.repeat(101), [1]].map((requestId): [string, string, unknown] => [
      PROCESS,
      'requestId',
      { sessionId: session.sessionId, choice: 1, requestId },
    ]),
  ];
  for (const [path, field, fields] of wrong) {
    const told = await json(url + path, fields);
    const what = `${path} ${JSON.stringify(fields)?.slice(0, 60)}`;
    isError(t, told, [400, 'bad_request'], what);
    t.equal(told.body.message, `Out of rule or missing: ${field}`, what);
  }
  for (const path of [SESSION, PROCESS]) {
    for (const [body, headers] of [
      ['{', {}],
      ['[]', {}],
      ['1', {}],
      [`"${CANARY}"`, {}],
      ['null', {}],
      [`{"customerId":"${CANARY}","x":"${'x'.repeat(9_000)}"}`, {}],
      ['<a/>', { 'content-type': 'text/xml' }],
      ['a=%FF', FORM],
      ['customerId=1&customerId=2&sessionId=1&sessionId=2', FORM],
      ['{"customerId":1}', { 'content-type': 'application/json; charset=latin1' }],
    ] as [string, Record<string, string>][]) {
      const told = await json(url + path, body, { headers });
      isError(t, told, [400, 'bad_request'], `${path} ${body.slice(0, 30)}`);
      t.notMatch(told.text, CANARY, 'nothing is quoted');
    }
    const bare = await ask(url + path, { method: 'POST' });
    t.equal(bare.status, 400, 'no body at all');
  }
  const key = await json(
    url + PROCESS,
    { sessionId: session.sessionId, choice: 1 },
    { headers: { 'idempotency-key': 'a b' } },
  );
  isError(t, key, [400, 'bad_request'], 'a key that is none must not be taken for none');
  t.equal(await count(), before, 'no row came of it');
  t.equal((await session.read()).body.data.currentState, 'HOME');

  for (const [path, allow] of [
    [SESSION, 'POST'],
    [PROCESS, 'POST'],
    [`${SESSION}/x`, 'GET, HEAD, DELETE'],
  ] as const) {
    for (const method of ['PUT', 'PATCH', 'OPTIONS', allow === 'POST' ? 'GET' : 'POST']) {
      const told = await json(url + path, undefined, { method });
      isError(t, told, [405, 'method_not_allowed'], `${method} ${path}`);
      t.equal(told.headers.allow, allow);
    }
  }
  const limits = await opened(url, { customerId: 'x'.repeat(64) });
  await limits.choose(1);
  await limits.choose(8);
  t.equal((await limits.choose('😀'.repeat(182))).status, 200, 'code points are counted');
});

const WAITING = `select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;

/** Requests of one session, all under way before any of them is taken: inserts wait behind a lock. */
async function allAtOnce<T>(databaseUrl: string, send: () => Promise<T>[]): Promise<T[]> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  await client.query('begin; lock table turns in share mode');
  const sent = send();
  await eventually('they wait', async () => {
    const { rows } = await client.query(WAITING);
    return rows.length > 0;
  });
  // The others have had the time to come as far.
  await sleep(50);
  await client.query('commit');
  await client.end();
  return Promise.all(sent);
}

t.test('a turn happens once, and one after the other', async (t) => {
  const { url, db, databaseUrl } = await shop(t);
  const second = await serve(t, db, { documents: DOCUMENTS, facts: FACTS });
  const urls = [url, second.url];
  const query = await queryOn(t, databaseUrl);

  await t.test('different choices at the same moment: one is heard', async (t) => {
    for (let round = 0; round < 5; round += 1) {
      const session = await opened(url);
      const choices = ['1', '2', '9', 'x', '1 ', '2 '];
      const told = await allAtOnce(databaseUrl, () =>
        choices.map((choice, index) =>
          session.choose(choice, round % 2 === 0 ? `id-${index}` : undefined, urls[index % 2]),
        ),
      );
      const heard = told.filter(({ status }) => status === 200);
      t.equal(heard.length, 1, `round ${round}: exactly one`);
      for (const each of told.filter(({ status }) => status !== 200))
        isError(t, each, [409, 'busy'], 'the others');
      t.strictSame((await session.read()).body.data, heard[0]?.body.data, 'and that is where the session is');
      t.equal((await session.choose('0')).status, 200, 'and it goes on');
    }
  });

  await t.test('without a lock that holds them: whatever was not heard has done nothing', async (t) => {
    for (let round = 0; round < 10; round += 1) {
      const session = await opened(url);
      const ids = ['a', 'b', 'c', 'd'];
      const told = await Promise.all(
        ids.map((id, index) => session.choose(1 + (index % 2), id, urls[index % 2])),
      );
      const heard = told.filter(({ status }) => status === 200).length;
      const key = (
        await query<{ n: number }>(
          'select count(distinct at)::int as n from turns where session_key = (select session_key from turns order by at desc limit 1)',
        )
      )[0]?.n;
      t.equal(key, heard + 1, `round ${round}: ${heard} heard`);
      t.ok(told.every(({ status }) => status === 200 || status === 409));
    }
  });

  await t.test('one after the other, as fast as it goes: nobody is busy', async (t) => {
    const session = await opened(url);
    for (let turn = 0; turn < 60; turn += 1) {
      const told = await session.choose(
        turn % 2 === 0 ? 1 : 0,
        turn % 3 === 0 ? `turn-${turn}` : undefined,
        urls[turn % 2],
      );
      if (told.status !== 200) return t.fail(`turn ${turn}: ${told.text}`);
    }
    t.pass('60 turns over two instances');
  });

  await t.test('the same choice without an id: a repeat within 1.5 s, a second choice later', async (t) => {
    const session = await opened(url);
    const first = await session.choose(1);
    t.equal((await session.choose(1)).text, first.text);
    await query(`update turns set at = at - interval '1501 ms'`);
    t.equal((await session.choose(1)).body.data.currentState, 'SELECT_STOCK');
  });

  await t.test('an id names one request, whatever it holds; in the header too', async (t) => {
    const session = await opened(url);
    const first = await session.choose(1, 7);
    t.equal((await session.choose(2, '7')).text, first.text);
    const fields = { sessionId: session.sessionId, choice: 8 };
    const headers = { 'idempotency-key': 'k-1' };
    const typed = await json(url + PROCESS, fields, { headers });
    t.equal(typed.body.data.currentState, 'SEARCH_STOCK');
    t.equal((await json(url + PROCESS, fields, { headers })).text, typed.text);
  });
});

t.test('at once to one process, with nothing to hold them: the second has not seen the first', async (t) => {
  for (const kind of SCALE < 1 ? ['postgres'] : ['embedded', 'postgres']) {
    const { url } = await startGateway(
      t,
      kind === 'embedded' ? { DATA_DIR: await embeddedDirectory(t) } : {},
    );
    const rounds = scaled(10, 5);
    let one = 0;
    for (let round = 0; round < rounds; round += 1) {
      const session = await opened(url, { phoneNumber: '+260971234567' });
      const told = await Promise.all(['a', 'b', 'c', 'd'].map((id, i) => session.choose(1 + (i % 2), id)));
      t.ok(told.every(({ status, body }) => status === 200 || body.error.code === 'busy'));
      if (told.filter(({ status }) => status === 200).length === 1) one += 1;
    }
    // On a busy machine one of them may leave here after another was answered: that one was not under way.
    t.ok(one >= 0.8 * rounds, `${kind}: exactly one was heard in ${one} of ${rounds} rounds`);
    const session = await opened(url, { phoneNumber: '+260971234567' });
    for (let turn = 0; turn < 30; turn += 1)
      t.equal(
        (await session.choose(turn % 2 === 0 ? 1 : 0, `turn-${turn}`)).status,
        200,
        'and nobody who waits',
      );
  }
});

t.test('over two processes', async (t) => {
  const market = await openShop(t, 2);
  const [one = '', two = ''] = market.urls;
  const phoneNumber = freshNumber().replace('+260', '+254');

  await t.test('20 copies of each request: one execution, the same bytes', async (t) => {
    await credit(market, phoneNumber, 100_000);
    const session = await opened(one, { serviceCode: '*144#', phoneNumber });
    t.equal(session.first.body.data.menu.text, 'Welcome! Choose a service');
    const steps: [unknown, string][] = [
      [2, 'amounts'],
      ['1', 'confirm'],
      [1, 'ordered'],
    ];
    for (const [choice, state] of steps) {
      const told = await Promise.all(
        Array.from({ length: 20 }, (_, copy) =>
          session.choose(choice, `to-${state}`, copy % 2 === 0 ? one : two),
        ),
      );
      t.same(new Set(told.map(({ status }) => status)), new Set([200]), state);
      t.equal(new Set(told.map(({ text }) => text)).size, 1, `${state}: the same bytes`);
      const outcomes = told.map(({ headers }) => headers['x-ussd-outcome']);
      t.equal(outcomes.filter((outcome) => outcome === 'ok').length, 1, `${state}: once`);
      t.equal(isScreen(t, told[0] as Json, state).currentState, state);
    }
    const orders = await market.rows<{ n: number }>('select count(*)::int as n from airtime_orders');
    t.equal(orders[0]?.n, 1, 'one order');
  });

  await t.test('the other services, by structure', async (t) => {
    const ixo = await opened(two, { phoneNumber, serviceCode: '*1234#' });
    t.equal(isScreen(t, ixo.first, 'ixo').currentState, 'preMenu');
    t.match(ixo.first.body.data.menu.options, [
      { key: '1', label: 'Know More', nextState: /./ },
      { key: '2', label: 'Account Menu', nextState: /./ },
      { key: '*', label: 'Exit', nextState: /./ },
    ]);
    const demo = await opened(one, { phoneNumber, serviceCode: '*123#' });
    const number = isScreen(t, await demo.choose(2, undefined, two), 'demo');
    t.same([number.ussdText, number.menu.isEndState], [`Your phone number is ${phoneNumber}`, true]);
    const bare = await json(one + SESSION, { customerId: 1, serviceCode: '*123#' });
    isError(t, bare, [400, 'phone_required'], 'a service that needs a phone');
  });

  await t.test('operators see and count them', async (t) => {
    const headers = { authorization: 'Bearer a-token-for-this-test' };
    const session = await opened(one, { phoneNumber, serviceCode: '*1234#' });
    const seen = await fetch(`${one}/api/ussd/debug/${session.sessionId}`, { headers });
    t.match(await seen.json(), {
      sessionId: session.sessionId,
      debugInfo: { status: 'active', state: 'preMenu' },
    });
    const metrics = await (await fetch(`${one}/metrics`, { headers })).text();
    t.match(metrics, /ussd_turns_total\{gateway="json",outcome="ok"\} \d/);
    t.match(metrics, /ussd_turns_total\{gateway="json",outcome="replay"\} \d/);
    t.match(metrics, /ussd_turns_total\{gateway="json",outcome="invalid"\} 1/);
    const openapi = (await (await fetch(`${one}/docs/json`)).json()) as { paths: Record<string, object> };
    t.match(openapi.paths, {
      '/v1/ussd/session': {
        post: { security: [{ partner: [] }], requestBody: {}, responses: { 201: {}, 401: {} } },
      },
      '/v1/ussd/process': { post: { responses: { 200: {}, 404: {}, 409: {}, 410: {} } } },
      '/v1/ussd/session/{sessionId}': { get: {}, delete: {} },
    });
  });
});

t.test('customers without a phone', async (t) => {
  const served = await shop(t);
  const { url, db } = served;
  const ownerOf = async (fields: Record<string, unknown>, key?: string) => {
    const session = await opened(url, fields, key);
    return (await session.choose(2)).body.data.menu.text as string;
  };
  const owner = await ownerOf({ customerId: 5 });
  t.match(owner, /^The portfolio of [0-9a-f]{32}$/, 'known by a digest');
  t.equal(await ownerOf({ customerId: '5' }), owner, 'a number and its digits are one customer');
  t.not(await ownerOf({ customerId: 6 }), owner);
  const phoneNumber = freshNumber();
  const called = await ownerOf({ customerId: 5, phoneNumber });
  t.not(called, owner, 'who is known by a phone owns what the phone owns');
  t.equal(await ownerOf({ customerId: 6, phoneNumber }), called);
  isError(
    t,
    await json(url + SESSION, { customerId: 5, serviceCode: '*2#' }),
    [400, 'phone_required'],
    'a service that needs a phone',
  );
  const acme = await newKey(served, db, 'acme');
  const other = await newKey(served, db, 'other');
  const again = await newKey(served, db, 'acme');
  const atAcme = await ownerOf({ customerId: 5 }, acme);
  t.not(atAcme, owner, 'customers are the own of a partner');
  t.not(await ownerOf({ customerId: 5 }, other), atAcme);
  t.equal(await ownerOf({ customerId: 5 }, again), atAcme, 'and stay with another key of the same partner');
});

t.test('what a document for callers without a phone may not name', async (t) => {
  const known: Known = {
    facts: {
      sms: { values: { room: 3 }, needsPhone: true },
      rows: { values: { id: 3 }, rows: 3, needsPhone: true },
    },
    effects: EFFECTS,
    needPhone: NEED_PHONE,
  };
  const document = (more: string, node: string) => `
service: test
${more}
root: start
nodes:
  start:
    choose: Start
    options:
      - { key: 1, label: On, to: place }
  place:
${node}
  end:
    end: Goodbye.
`;
  const leading = 'options: [{ key: 1, label: On, to: end }]';
  const places: [string, string][] = [
    [`    say: "{phone}"\n    ${leading}`, '{phone}'],
    [`    say: "{phone|masked}"\n    ${leading}`, '{phone}'],
    ['    say: Words\n    options: [{ key: 1, label: On, to: end, set: { mine: "{phone}" } }]', '{phone}'],
    [
      `    say: Words\n    options: [{ key: 1, label: On, to: [{ when: { phone: "1" }, to: end }, { to: end }] }]`,
      '{phone}',
    ],
    ['    ask: Whose?\n    answer: { kind: phone }\n    save: whose\n    to: end', 'kind phone'],
    [`    say: Words\n    facts: [sms]\n    ${leading}`, 'fact sms'],
    [
      `    say: Words\n    options: [{ key: 1, label: On, to: [{ when: { sms.room: "no" }, to: end }, { to: end }] }]`,
      'fact sms',
    ],
    [
      `    list: Words\n    from: rows\n    label: "{row.id}"\n    set: {}\n    to: end\n    empty: None\n    options: [{ key: 8, label: On, to: end }]`,
      'fact rows',
    ],
    [
      `    say: Words\n    options: [{ key: 1, label: On, to: [{ to: end, effects: [{ sms: { text: Hello } }] }] }]`,
      'effect sms',
    ],
    [
      `    say: Words\n    options: [{ key: 1, label: On, to: [{ to: end, effects: [{ linkPhone: { code: A } }] }] }]`,
      'effect linkPhone',
    ],
  ];
  for (const [node, named] of places) {
    const refused = parseMenu(document('needsPhone: false', node), 'test', known);
    const problems = refused.menu === undefined ? refused.problems : [];
    t.equal(problems.length, 1, node);
    t.ok(problems[0]?.includes(named) && problems[0].includes('place'), problems.join());
    t.ok(parseMenu(document('', node), 'test', known).menu, 'and where a phone is needed it may');
  }
  t.notOk(parseMenu(document('needsPhone: 0', `    say: A\n    ${leading}`), 'test', known).menu);
});

t.test('keys', async (t) => {
  const served = await shop(t, { ttl: 60_000 });
  const { url, db, databaseUrl } = served;
  const start = (by: { headers?: Record<string, string> } = {}) => json(url + SESSION, { customerId: 1 }, by);

  await t.test('none yet: this machine itself, and nobody else', async (t) => {
    t.equal((await start()).status, 201);
    for (const headers of [
      { 'x-forwarded-for': '127.0.0.1' },
      { forwarded: 'for=127.0.0.1' },
      { host: 'gateway.example.com' },
      { 'sec-fetch-site': 'cross-site' },
      { authorization: 'Bearer nothing' },
      { authorization: 'Basic YTpi' },
    ]) {
      const told = await start({ headers: headers as unknown as Record<string, string> });
      isError(t, told, [401, 'unauthorized'], JSON.stringify(headers));
      t.equal(told.headers['www-authenticate'], 'Bearer');
    }
  });

  const keyless = await opened(url);
  const acme = await newKey(served, db, 'acme');
  t.match(acme, /^ussdkey_[A-Za-z0-9_-]{43}$/, 'shown once');
  const other = await newKey(served, db, 'other', '--may-assert-phone');

  await t.test('from then on one is needed, without a restart', async (t) => {
    isError(t, await start(), [401, 'unauthorized'], 'also here');
    isError(t, await json(url + PROCESS, '{', {}), [401, 'unauthorized'], 'before any body is read');
    isError(t, await keyless.read(), [401, 'unauthorized'], 'sessions of nobody are for no key');
    const path = `${url}${SESSION}/${keyless.sessionId}`;
    isError(
      t,
      await json(path, undefined, { method: 'GET', ...bearing(acme) }),
      [404, 'session_not_found'],
      'no key opens them',
    );
    for (const wrong of [acme.slice(0, -1), `${acme}A`, acme.toUpperCase(), 'x'])
      isError(t, await start(bearing(wrong)), [401, 'unauthorized'], 'a wrong one');
    t.equal((await start(bearing(acme))).status, 201);
    t.equal(
      (await start({ headers: { authorization: `bearer ${acme}`, 'x-forwarded-for': '1.2.3.4' } })).status,
      201,
    );
  });

  await t.test('a session is of its partner', async (t) => {
    const session = await opened(url, {}, acme);
    const foreign = { sessionId: session.sessionId, choice: 1 };
    const path = `${url}${SESSION}/${session.sessionId}`;
    isError(t, await json(url + PROCESS, foreign, bearing(other)), [404, 'session_not_found'], 'a choice');
    isError(
      t,
      await json(path, undefined, { method: 'GET', ...bearing(other) }),
      [404, 'session_not_found'],
      'read',
    );
    isError(
      t,
      await json(path, undefined, { method: 'DELETE', ...bearing(other) }),
      [404, 'session_not_found'],
      'closed',
    );
    t.equal((await session.choose(1)).body.data.currentState, 'STOCKS', 'and nothing happened');
  });

  await t.test('a phone is believed from who may say it', async (t) => {
    const fields = { customerId: 1, serviceCode: '*2#', phoneNumber: '+260971234567' };
    isError(
      t,
      await json(url + SESSION, fields, bearing(acme)),
      [403, 'phone_not_allowed'],
      'not from this key',
    );
    const told = await json(url + SESSION, fields, bearing(other));
    t.equal(told.body.data.menu.text, 'You are +260971234567');
  });

  await t.test('listed, and revoked while it runs', async (t) => {
    const listed = await keys(served, db, 'list');
    t.match(listed, /^1 {2}acme, made \d{4}-\d\d-\d\d\n2 {2}other, may assert phones, made/);
    t.same(foundIn(listed, [acme.slice(8), other.slice(8)]), [], 'without the keys');
    t.equal(await keys(served, db, 'revoke', 'acme'), 'The key is revoked.');
    isError(t, await start(bearing(acme)), [401, 'unauthorized'], 'at once');
    t.match(await keys(served, db, 'list'), /^1 {2}acme, made .*, revoked \d{4}/);
    t.equal((await start(bearing(other))).status, 201, 'the others stay');
    t.equal(await keys(served, db, 'revoke', '2'), 'The key is revoked.', 'by its number');
    isError(t, await start(bearing(other)), [401, 'unauthorized'], 'at once');
    isError(t, await start(), [401, 'unauthorized'], 'revoking the last one opens nothing');
    for (const words of [
      [],
      ['create'],
      ['create', 'Acme'],
      ['create', 'acme', '--all'],
      ['revoke', 'acme'],
      ['revoke', '9'],
      ['revoke'],
      ['list', 'acme'],
      ['steal', 'acme'],
    ])
      await t.rejects(keys(served, db, ...words), { code: 'command_refused' }, words.join(' '));
  });

  await t.test('wrong ones are counted per address', async (t) => {
    const wrong = await Promise.all(Array.from({ length: 15 }, () => start(bearing('wrong'))));
    const limited = wrong.filter(({ status }) => status === 429);
    t.ok(limited.length > 0);
    for (const each of limited) {
      isError(t, each, [429, 'limited'], 'too many');
      t.match(each.headers['retry-after'], /^\d+$/);
    }
    const third = await newKey(served, db, 'third');
    t.equal((await start(bearing(third))).status, 201, 'a right one passes all the same');
    const dumped = `${await tables(databaseUrl)}${dump(databaseUrl) ?? ''}${served.log.join('')}`;
    t.same(
      foundIn(
        dumped,
        [acme, other, third].flatMap((key) => [key, key.slice(8)]),
      ),
      [],
      'none is kept or logged',
    );
  });
});

t.test('limits: per address, or per customer where the address is shared', async (t) => {
  const { url } = await shop(t, { allow: '127.0.0.0/8', phoneMax: 5 });
  const told = [];
  for (let i = 0; i < 7; i += 1) told.push(await json(url + SESSION, { customerId: 'busy-one' }));
  t.same(
    told.map(({ status }) => status),
    [201, 201, 201, 201, 201, 429, 429],
  );
  isError(t, told[6] as Json, [429, 'limited'], 'of this customer');
  t.equal((await json(url + SESSION, { customerId: 'another' })).status, 201);

  const { url: DATABASE_URL } = await database(t);
  const gateway = await startGateway(t, { DATABASE_URL, RATE_LIMIT_MAX: '3' });
  const statuses = [];
  for (let i = 0; i < 5; i += 1) statuses.push((await json(gateway.url + SESSION, {})).status);
  t.same(statuses, [400, 400, 400, 429, 429]);
  const last = await json(`${gateway.url}${SESSION}/x`, undefined, { method: 'GET' });
  isError(t, last, [429, 'limited'], 'all routes together');
  t.match(last.headers['retry-after'], /^\d+$/);
});

t.test('in production, and beside the networks of gateways', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const settings = {
    DATABASE_URL,
    NODE_ENV: 'production',
    HOST: '127.0.0.1',
    OPERATOR_TOKEN: 'a-token-of-operators',
  };
  const gateway = await startGateway(t, {
    ...settings,
    GATEWAY_ALLOW: '192.0.2.0/24',
    CALLBACK_SECRET: 'a-secret-of-callbacks',
  });
  const fields = { customerId: 1, phoneNumber: '+260971234567' };
  isError(
    t,
    await json(gateway.url + SESSION, fields),
    [401, 'unauthorized'],
    'no key yet, and none needed is wrong',
  );
  const made = await command(t, gateway, settings, ['keys', 'create', 'acme', '--may-assert-phone']);
  const key = made.split('\n')[0] ?? '';
  const told = await json(gateway.url + SESSION, fields, bearing(key));
  t.equal(told.status, 201, 'a key made beside it opens, from any network');
  const secret = await json(`${gateway.url}/c/a-secret-of-callbacks${SESSION}`, fields, bearing(key));
  t.equal(secret.status, 404, 'nor are the routes below the secret');
  await command(t, gateway, settings, ['keys', 'revoke', 'acme']);
  isError(t, await json(gateway.url + SESSION, fields, bearing(key)), [401, 'unauthorized'], 'revoked');
});

/** `npm run keys`, as a process of its own. */
async function command(
  t: Test,
  _gateway: Gateway,
  settings: Record<string, string>,
  words: string[],
): Promise<string> {
  const { spawnSync } = await import('node:child_process');
  const { join } = await import('node:path');
  const { environment, TEST_KEY } = await import('./support/gateway.ts');
  const main = join(import.meta.dirname, '..', 'src', 'main.ts');
  const env = environment({ ...settings, PIN_ENCRYPTION_KEY: TEST_KEY, LOG_LEVEL: 'silent' });
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...words], { env, encoding: 'utf8' });
  t.equal(status, 0, `${words.join(' ')}: ${stderr}`);
  return stdout;
}

t.test('nothing of it is in a log or in the database', async (t) => {
  const served = await shop(t);
  const { url, db, databaseUrl, log } = served;
  const PHONE = '+254700999333';
  const CUSTOMER = 'CANARYCUSTOMER-77';
  const TYPED = 'CANARYTYPED 48213';
  const REQUEST = 'CANARYREQUEST-1';
  const key = await newKey(served, db, 'acme', '--may-assert-phone');
  for (const more of [{}, { phoneNumber: PHONE }]) {
    const session = await opened(url, { customerId: CUSTOMER, ...more }, key);
    await session.choose(1, `${REQUEST}-0`);
    await session.choose(8, `${REQUEST}-1`);
    await session.choose(TYPED, `${REQUEST}-2`);
    await session.choose(TYPED, `${REQUEST}-2`);
    await session.choose(`${TYPED}\u0000`);
    await session.read();
    await session.close();
    await session.choose(TYPED);
  }
  const by = bearing(key);
  for (const wrong of [
    { customerId: [CUSTOMER] },
    { customerId: CUSTOMER, phoneNumber: `${PHONE}x` },
    CUSTOMER,
  ])
    await json(url + SESSION, wrong, by);
  await json(`${url}${SESSION}/${CUSTOMER}?x=${TYPED.replace(' ', '')}`, undefined, { method: 'GET', ...by });
  await json(url + PROCESS, { sessionId: CUSTOMER, choice: TYPED }, by);
  // A row that does not open, and a statement that fails: the driver's errors quote values.
  const query = await queryOn(t, databaseUrl);
  const session = await opened(url, { customerId: CUSTOMER, phoneNumber: PHONE }, key);
  await query('alter table turns rename column network to network_');
  isError(t, await session.choose(TYPED), [503, 'unavailable'], 'our fault');
  await query('alter table turns rename column network_ to network');
  await query(`update turns set sealed = sealed || '\\x00'::bytea`);
  await session.choose(TYPED);

  const secrets = [PHONE.slice(1), CUSTOMER, TYPED, 'CANARYTYPED', REQUEST, key.slice(8)];
  await eventually('the log', async () => log.some((line) => line.includes('a request failed')), 5_000);
  const turns = log.filter((line) => line.includes('"gateway":"json"'));
  t.ok(turns.length > 15, `${turns.length} turns are logged`);
  t.match(turns[0], /"customer":"c_[0-9a-f]{12}"/);
  t.match(log.join(''), /"msisdn":"m_[0-9a-f]{12}"/);
  t.same(foundIn(log.join(''), secrets), [], 'at the level trace');
  t.same(foundIn(await tables(databaseUrl), secrets), [], 'in no table');
  const dumped = dump(databaseUrl);
  if (dumped !== undefined) t.same(foundIn(dumped, secrets), [], 'nor in a dump');
});
