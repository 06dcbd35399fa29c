/**
 * The investment service from outside (docs/contract.md section 6): as structure and dialled, bought once however often it
 * is asked for, and reconciled with the ledger.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import t, { type Test } from 'tap';
import { z } from 'zod';
import { type Gateway, post, startGateway } from './support/gateway.ts';
import { database } from './support/postgres.ts';

const State = z.string().regex(/^[A-Z_]+$/);

/** The reference's response structure (json-menu-response), key for key and in its order. */
const Answer = z.strictObject({
  message: z.enum(['USSD session created successfully', 'USSD request processed successfully']),
  data: z.strictObject({
    sessionId: z.string().regex(/^ussd_[0-9a-f]{32}$/),
    currentState: State,
    menu: z.strictObject({
      state: State,
      text: z.string().min(1),
      options: z.array(
        z.strictObject({
          key: z.string().regex(/^(\d+|\*|\w+)$/),
          label: z.string().min(1),
          nextState: State.optional(),
          data: z.record(z.string(), z.string()).optional(),
        }),
      ),
      isEndState: z.boolean(),
    }),
    ussdText: z.string(),
    expiresAt: z.iso.datetime(),
  }),
});
type Answer = z.infer<typeof Answer>;

type House = { urls: string[]; gateways: Gateway[]; rows<T extends object>(sql: string): Promise<T[]> };

async function open(t: Test, processes = 1): Promise<House> {
  const { url: DATABASE_URL } = await database(t);
  const gateways: Gateway[] = [];
  for (let index = 0; index < processes; index += 1) gateways.push(await startGateway(t, { DATABASE_URL }));
  const client = new pg.Client({ connectionString: DATABASE_URL });
  client.on('error', () => {});
  await client.connect();
  t.teardown(() => client.end());
  return {
    urls: gateways.map(({ url }) => url),
    gateways,
    rows: async <T extends object>(sql: string) => (await client.query(sql)).rows as T[],
  };
}

async function call(url: string, path: string, fields: object): Promise<{ status: number; text: string }> {
  const response = await fetch(`${url}/v1/ussd/${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(fields),
    signal: AbortSignal.timeout(30_000),
  });
  return { status: response.status, text: await response.text() };
}

function read(text: string): Answer {
  const { success, data } = Answer.safeParse(JSON.parse(text));
  if (!success) throw new Error(`not a screen: ${text}`);
  return data;
}

async function session(url: string, customerId: number | string): Promise<Answer['data']> {
  return read((await call(url, 'session', { customerId })).text).data;
}

async function choose(
  url: string,
  sessionId: string,
  ...choices: (string | number)[]
): Promise<Answer['data']> {
  let last: Answer['data'] | undefined;
  for (const choice of choices) {
    last = read((await call(url, 'process', { sessionId, choice, requestId: `${Math.random()}` })).text).data;
  }
  return last as Answer['data'];
}

async function settled({ rows }: House): Promise<void> {
  for (let tries = 0; tries < 2_000; tries += 1) {
    const [row] = await rows<{ n: number }>(`select count(*)::int as n from outbox where state = 'queued'`);
    if (row?.n === 0) return;
    await sleep(30);
  }
  throw new Error('work is still queued');
}

async function reconciles(t: Test, { rows }: House): Promise<void> {
  t.same(
    await rows(
      `select entry_id from ledger_postings p join ledger_accounts a on a.id = p.account_id
       group by entry_id, book, currency having sum(amount) <> 0`,
    ),
    [],
    'every entry sums to zero in every currency',
  );
  t.same(
    await rows(
      `select a.id from ledger_accounts a left join ledger_postings p on p.account_id = a.id
       where a.balance is not null group by a.id having a.balance <> coalesce(sum(p.amount), 0)`,
    ),
    [],
    'every balance is the sum of its postings',
  );
}

t.test("the reference's two examples, from the service itself", async (t) => {
  const { urls } = await open(t);
  const [url = ''] = urls;
  const created = await call(url, 'session', { customerId: 17 });
  t.equal(created.status, 201);
  const first = read(created.text);
  const { sessionId, expiresAt } = first.data;
  t.equal(
    created.text,
    JSON.stringify({
      message: 'USSD session created successfully',
      data: {
        sessionId,
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
        expiresAt,
      },
    }),
    'the first, byte for byte',
  );
  const second = read((await call(url, 'process', { sessionId, choice: 1 })).text);
  const { menu, ussdText } = second.data;
  t.equal(second.message, 'USSD request processed successfully');
  t.equal(menu.text, 'Select Stock:');
  t.equal(menu.options.length, 9, 'six a page, and three that stay');
  for (const [index, option] of menu.options.slice(0, 6).entries()) {
    t.match(option, {
      key: String(index + 1),
      label: option.data?.symbol,
      nextState: 'SELECT_STOCK',
      data: { stockId: /./, symbol: /./, name: /./ },
    });
    t.same(Object.keys(option.data ?? {}), ['stockId', 'symbol', 'name']);
  }
  t.same(menu.options.slice(6), [
    { key: '7', label: 'Next Page' },
    { key: '8', label: 'Search Stock', nextState: 'SEARCH_STOCK' },
    { key: '0', label: 'Back to Home', nextState: 'HOME' },
  ]);
  t.equal(
    ussdText,
    `Select Stock:\n\n${menu.options.map(({ key, label }) => `${key}. ${label}`).join('\n')}`,
    'the same page',
  );
});

t.test('the same service dialled, by two gateways', async (t) => {
  const { urls } = await open(t);
  const [url = ''] = urls;
  for (const path of ['/api/ussd', '/ussd/session']) {
    const fields = { sessionId: `dial${path}`, serviceCode: '*384#', phoneNumber: '+254711000111' };
    t.equal(
      (await post(url, fields, path)).body,
      'CON Select an investment option:\n1. Stocks\n2. My Portfolio',
    );
    t.match(
      (await post(url, { ...fields, text: '1' }, path)).body,
      /^CON Select Stock:\n1\. [\s\S]*0\. Back to Home$/,
    );
    t.match((await post(url, { ...fields, text: '1*8' }, path)).body, /^CON Enter a symbol/);
    t.match((await post(url, { ...fields, text: '1*8*apple' }, path)).body, /^CON Select Stock:\n1\. AAPL\n/);
    t.match((await post(url, { ...fields, text: '1*8*apple*1' }, path)).body, /^CON AAPL Apple Inc\.\n/);
  }
});

t.test('a buy that is confirmed by 20 copies over two processes is one order', async (t) => {
  const house = await open(t, 2);
  const [one = '', two = ''] = house.urls;
  const { sessionId } = await session(one, 'copies');
  const asked = await choose(one, sessionId, 1, 8, 'AAPL', 1, 1, 3);
  t.equal(asked.currentState, 'PURCHASE_CONFIRMATION');
  t.match(asked.menu.text, /^Buy [\d.]+ AAPL\nfor USD 100\nat USD [\d.,]+ each\?$/);
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, index) =>
      call(index % 2 === 0 ? one : two, 'process', { sessionId, choice: 1, requestId: 'confirm' }),
    ),
  );
  t.equal(new Set(answers.map(({ text }) => text)).size, 1, 'the same bytes');
  const [{ text = '' } = {}] = answers;
  const { data } = read(text);
  t.equal(data.menu.isEndState, true);
  t.same(data.menu.options, []);
  t.match(
    data.menu.text,
    /^Your order is placed: [\d.]+ AAPL for USD 100\.\nRef [A-Z2-9]{8}\. No SMS will follow\.$/,
  );
  await settled(house);
  t.same(await house.rows('select side, state, amount_minor::int as amount from stock_orders'), [
    { side: 'buy', state: 'filled', amount: 10_000 },
  ]);
  const seen = await choose(two, (await session(two, 'copies')).sessionId, 2);
  t.match(seen.menu.text, /^My Portfolio\nCash USD 900\nAssets USD (99\.99|100)$/);
  const gone = await call(one, 'process', { sessionId, choice: 1, requestId: 'once-more' });
  t.equal(gone.status, 409);
  await reconciles(t, house);
});

t.test('two sessions that spend one balance: one order, one polite refusal', async (t) => {
  const house = await open(t, 2);
  const [one = '', two = ''] = house.urls;
  const sessions = await Promise.all([session(one, 'both'), session(two, 'both')]);
  for (const [index, { sessionId }] of sessions.entries())
    await choose(house.urls[index] ?? '', sessionId, 1, 8, 'AAPL', 1, 1, 4, 600);
  const ends = await Promise.all(
    sessions.map(({ sessionId }, index) => choose(house.urls[index] ?? '', sessionId, 1)),
  );
  const states = ends.map(({ currentState }) => currentState).toSorted();
  t.same(states, ['ORDER_PLACED_SILENTLY', 'TOO_LITTLE']);
  t.match(
    ends.find(({ currentState }) => currentState === 'TOO_LITTLE')?.menu.text,
    /^You have USD 400: not enough\.$/,
  );
  await settled(house);
  t.equal((await house.rows('select 1 from stock_orders')).length, 1);
  await reconciles(t, house);
});

t.test('bought, sold in part and whole, and read again', async (t) => {
  const house = await open(t);
  const [url = ''] = house.urls;
  await choose(url, (await session(url, 'life')).sessionId, 1, 8, 'MSFT', 1, 1, 2, 1);
  await settled(house);
  const { sessionId } = await session(url, 'life');
  const detail = await choose(url, sessionId, 2, 1, 1);
  t.equal(detail.currentState, 'ASSET_DETAIL');
  const [, units = ''] = /You have ([\d.]+)/.exec(detail.menu.text) ?? [];
  t.match(await choose(url, sessionId, 1, 2, '999'), { currentState: 'NOT_THAT_MANY' });
  const asked = await choose(url, sessionId, 1, 2, '0,05');
  t.match(asked, { currentState: 'SELL_CONFIRMATION', menu: { text: /^Sell 0\.05 MSFT\nfor USD/ } });
  t.match(await choose(url, sessionId, 1), { currentState: 'ORDER_PLACED_SILENTLY' });
  await settled(house);
  const again = await session(url, 'life');
  const all = await choose(url, again.sessionId, 2, 1, 1, 1, 1);
  const left = (Number(units) * 1e6 - 0.05 * 1e6) / 1e6;
  t.match(all.menu.text, new RegExp(`^Sell ${left} MSFT\\n`));
  await choose(url, again.sessionId, 1);
  await settled(house);
  const last = await session(url, 'life');
  t.match(await choose(url, last.sessionId, 2, 1), { menu: { text: 'You have no assets yet.' } });
  const history = await choose(url, last.sessionId, 0, 3);
  t.equal(history.menu.options.filter(({ data }) => data !== undefined).length, 3);
  t.match(await choose(url, last.sessionId, 1), {
    currentState: 'FILLED_DETAIL',
    menu: { text: /^SELL .*MSFT\n/ },
  });
  await reconciles(t, house);
});

t.test('whoever has an account confirms with its PIN', async (t) => {
  const house = await open(t);
  const [url = ''] = house.urls;
  const phoneNumber = '+254711000777';
  const dial = async (sessionId: string, serviceCode: string, ...texts: string[]) => {
    let body = '';
    for (const text of ['', ...texts])
      body = (await post(url, { sessionId, serviceCode, phoneNumber, text })).body;
    return body;
  };
  t.match(
    await dial(
      'account',
      '*1234#',
      '2',
      '2*2',
      '2*2*Ann',
      '2*2*Ann*00',
      '2*2*Ann*00*48213',
      '2*2*Ann*00*48213*48213',
    ),
    /^END Your account is open/,
  );
  const walk = ['1', '1*8', '1*8*AAPL', '1*8*AAPL*1', '1*8*AAPL*1*1', '1*8*AAPL*1*1*1', '1*8*AAPL*1*1*1*1'];
  t.match(await dial('buy', '*384#', ...walk), /^CON Enter your PIN to confirm/);
  const text = `${walk.at(-1)}`;
  t.match(await dial('buy', '*384#', ...walk, `${text}*11223`), /^CON That PIN is wrong\./);
  t.match(
    await dial('buy', '*384#', ...walk, `${text}*11223`, `${text}*11223*48213`),
    /^END Your order is placed: [\d.]+ AAPL for USD 10\./,
  );
  await settled(house);
  t.same(await house.rows('select side, state from stock_orders'), [{ side: 'buy', state: 'filled' }]);
  await reconciles(t, house);
});

t.test('nobody confirms what they have not been shown, and a right PIN is no wrong one', async (t) => {
  const house = await open(t);
  const [url = ''] = house.urls;
  const phoneNumber = '+254711000778';
  const say = async (sessionId: string, serviceCode: string, text: string) =>
    (await post(url, { sessionId, serviceCode, phoneNumber, text })).body;
  for (const text of ['', '2', '2*2', '2*2*Bo', '2*2*Bo*00', '2*2*Bo*00*48213'])
    await say('account', '*1234#', text);
  t.match(await say('account', '*1234#', '2*2*Bo*00*48213*48213'), /^END Your account is open/);

  t.match(await say('walk', '*384#', '1*1*1*1*1'), /^CON Buy [\d.]+ /, 'a walk stops at the confirmation');
  t.match(await say('walk', '*384#', '1*1*1*1*1*1'), /^CON Enter your PIN/);

  await house.rows('update instruments set price_minor = price_minor + 1');
  t.match(await say('walk', '*384#', '1*1*1*1*1*1*48213'), /^CON The price has changed\. Buy /);
  t.match(await say('walk', '*384#', '1*1*1*1*1*1*48213*1'), /^CON Enter your PIN/);
  t.same(await house.rows('select sum(tries)::int as tries from pin_counters where tries > 0'), [
    { tries: null },
  ]);
  await house.rows('update instruments set price_minor = 999999999');
  t.match(
    await say('walk', '*384#', '1*1*1*1*1*1*48213*1*48213'),
    /^CON The price has changed\. Buy 0\.000001 /,
    'as often as it does, and never for what was not shown',
  );
  t.same(await house.rows('select 1 from stock_orders'), []);
});
