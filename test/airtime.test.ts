/**
 * Airtime is bought exactly once (CONTRACT.md section 4): two processes, a provider that fails, hangs and
 * answers twice, a process that is killed; and the ledger afterwards.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import t, { type Test } from 'tap';
import { ask } from './support/ask.ts';
import {
  type FakeAfricasTalking,
  type FakeOptions,
  fakeAfricasTalking,
} from './support/fake-africastalking.ts';
import { type Gateway, post, startGateway } from './support/gateway.ts';
import { database } from './support/postgres.ts';

const TOKEN = 'a-token-for-this-test';
const BODY = { 'content-type': 'application/json', authorization: `Bearer ${TOKEN}` };
/** Longer than a busy machine takes for anything here. */
const PATIENCE_MS = 240_000;

type Shop = {
  urls: string[];
  gateways: Gateway[];
  fake: FakeAfricasTalking;
  rows<T extends object>(sql: string): Promise<T[]>;
};

async function openShop(t: Test, processes: number, options: FakeOptions = {}): Promise<Shop> {
  const { url: DATABASE_URL } = await database(t);
  const fake = await fakeAfricasTalking(t, options);
  const gateways = await Promise.all(
    Array.from({ length: processes }, () =>
      startGateway(t, { DATABASE_URL, OPERATOR_TOKEN: TOKEN, ...fake.environment }),
    ),
  );
  const client = new pg.Client({ connectionString: DATABASE_URL });
  client.on('error', () => {});
  await client.connect();
  t.teardown(() => client.end());
  return {
    urls: gateways.map(({ url }) => url),
    gateways,
    fake,
    rows: async <T extends object>(sql: string) => (await client.query(sql)).rows as T[],
  };
}

const phoneOf = (index: number) => `+2547110${String(index).padStart(5, '0')}`;

async function credit({ urls: [url = ''] }: Shop, phoneNumber: string, amountMinor: number): Promise<void> {
  const idempotencyKey = `credit-of-${phoneNumber}-${amountMinor}`;
  const body = JSON.stringify({ phoneNumber, currency: 'KES', amountMinor, idempotencyKey, reason: 'test' });
  const told = await ask(`${url}/api/wallet/credits`, { method: 'POST', headers: BODY, body });
  if (told.status !== 201) throw new Error(`not credited: ${told.status} ${told.body.toString()}`);
}

/** One text, three times over all processes, until somebody has answered; nobody may answer otherwise. */
async function say(
  t: Test,
  { urls }: Shop,
  phoneNumber: string,
  sessionId: string,
  text: string,
): Promise<string> {
  for (let round = 0; round < 20; round += 1) {
    const fields = { sessionId, serviceCode: '*144#', phoneNumber, text };
    const replies = await Promise.all(
      [0, 1, 2].map((copy) => post(urls[(copy + round) % urls.length] ?? '', fields).catch(() => undefined)),
    );
    const told = replies.flatMap((reply) =>
      reply?.outcome === 'ok' || reply?.outcome === 'replay' ? [reply.body] : [],
    );
    if (told.length > 0) {
      if (new Set(told).size > 1) t.fail(`${text} was answered in two ways: ${told.join(' / ')}`);
      return told[0] ?? '';
    }
  }
  throw new Error(`nobody answers ${text}`);
}

/** KES 50 for one's own number; the last words. */
async function buy(
  t: Test,
  shop: Shop,
  phoneNumber: string,
  sessionId = `buy-${phoneNumber}`,
): Promise<string> {
  for (const text of ['', '2', '2*1']) await say(t, shop, phoneNumber, sessionId, text);
  return say(t, shop, phoneNumber, sessionId, '2*1*1');
}

/** Until nothing is under way any more. */
async function settled(shop: Shop): Promise<void> {
  const until = performance.now() + PATIENCE_MS;
  for (;;) {
    const [row] = await shop.rows<{ n: number }>(
      `select count(*)::int as n from outbox where state = 'queued'`,
    );
    if (row?.n === 0) return;
    if (performance.now() > until) throw new Error(`${row?.n} are still under way`);
    await sleep(200);
  }
}

/** What must hold of any ledger. */
async function reconciles(t: Test, shop: Shop): Promise<void> {
  const sums = await shop.rows<{ sum: string }>(
    'select sum(amount)::text as sum from ledger_postings p join ledger_accounts a on a.id = p.account_id group by a.currency, a.book',
  );
  t.ok(sums.length > 0 && sums.every(({ sum }) => sum === '0'), 'the ledger sums to zero');
  t.same(
    await shop.rows(
      `select a.id from ledger_accounts a left join ledger_postings p on p.account_id = a.id
       where a.balance is not null group by a.id having a.balance <> coalesce(sum(p.amount), 0)`,
    ),
    [],
    'every balance is the sum of its postings',
  );
}

async function buyThrough(t: Test, purchases: number, options: FakeOptions): Promise<Shop> {
  const shop = await openShop(t, 2, options);
  const phones = Array.from({ length: purchases }, (_, index) => phoneOf(index));
  for (let at = 0; at < phones.length; at += 20)
    await Promise.all(phones.slice(at, at + 20).map((phone) => credit(shop, phone, 8_000)));
  // Killed in the middle of selling: what it had under way is for the other one to finish.
  const killed = shop.fake
    .when(() => shop.fake.purchases.length >= purchases / 4)
    .then(() => shop.gateways[0]?.kill());
  const ends = await Promise.all(phones.map((phone) => buy(t, shop, phone)));
  t.ok(
    ends.every((end) => /^END KES 50 airtime is on its way to your number\. Ref [A-Z2-9]{8}$/.test(end)),
    'everybody was told so',
  );
  await killed;
  await settled(shop);
  return shop;
}

const CHAOS = { fail: 0.3, hang: 0.1, twice: 0.1 };

t.test(
  '200 purchases, each sent three times over two processes, one killed: each is bought once',
  async (t) => {
    const shop = await buyThrough(t, 200, { seed: 7, chaos: CHAOS });
    const { fake, rows } = shop;
    t.equal(fake.purchases.length, 200, 'so many were bought');
    t.equal(new Set(fake.purchases.map(({ key }) => key)).size, 200, 'by so many keys');
    t.equal(new Set(fake.purchases.map(({ phoneNumber }) => phoneNumber)).size, 200, 'for so many phones');
    t.ok(
      fake.purchases.every(({ amount }) => amount === 'KES 50.00' || amount === 'KES 50'),
      'of the amount that was confirmed',
    );
    t.same(await rows('select state, count(*)::int from airtime_orders group by 1'), [
      { state: 'sent', count: 200 },
    ]);
    t.same(await rows(`select state, count(*)::int from holds group by 1`), [
      { state: 'settled', count: 200 },
    ]);
    t.same(
      await rows(
        `select kind, balance::text, count(*)::int from ledger_accounts where balance is not null group by 1, 2 order by 1`,
      ),
      [
        { kind: 'cash', balance: '3000', count: 200 },
        { kind: 'held', balance: '0', count: 200 },
      ],
      'every balance is right',
    );
    await reconciles(t, shop);
    t.same(
      await rows('select count(*)::int as rows, count(distinct phone)::int as phones from messages'),
      [{ rows: 200, phones: 200 }],
      'one SMS each',
    );
    t.same(await rows('select distinct state from messages'), [{ state: 'sent' }]);
  },
);

t.test('without the key at the provider the same is bought more than once', async (t) => {
  const { fake } = await buyThrough(t, 60, { seed: 7, chaos: CHAOS, ignoreKeys: true });
  t.ok(fake.purchases.length > 60, `${fake.purchases.length} were bought`);
});

t.test('a balance that is spent in two dials at once buys once', async (t) => {
  const shop = await openShop(t, 2);
  const phones = Array.from({ length: 10 }, (_, index) => phoneOf(index));
  await Promise.all(phones.map((phone) => credit(shop, phone, 9_999)));
  const ends = await Promise.all(
    phones.map(async (phone) =>
      Promise.all(['one', 'two'].map((dial) => buy(t, shop, phone, `${dial}-${phone}`))),
    ),
  );
  for (const both of ends) {
    const [refused = '', bought = ''] = both.toSorted();
    t.match(bought, /^END KES 50 airtime is on its way/);
    t.equal(
      refused,
      'CON Your balance is KES 49.99. That is not enough for KES 50.\n1. Another amount\n*. Exit',
    );
  }
  await settled(shop);
  t.equal(shop.fake.purchases.length, 10);
  await reconciles(t, shop);
});

t.test('a number that gets no airtime: the money is back, the subscriber knows', async (t) => {
  const shop = await openShop(t, 1);
  const phone = phoneOf(1);
  shop.fake.airtimeErrors.set(phone, 'Invalid phone number');
  await credit(shop, phone, 5_000);
  t.match(await buy(t, shop, phone), /^END KES 50 airtime is on its way/);
  await settled(shop);
  t.same(await shop.rows('select state from airtime_orders'), [{ state: 'failed' }]);
  t.same(await shop.rows('select state from holds'), [{ state: 'released' }]);
  t.same(await shop.rows('select kind, state, error from outbox order by kind'), [
    { kind: 'airtime', state: 'refused', error: 'refused_number' },
    { kind: 'sms', state: 'done', error: null },
  ]);
  t.match(
    shop.fake.messages[0]?.text,
    /^KES 50 airtime for \+254711000001 could not be bought\. The money is back/,
  );
  t.match(await say(t, shop, phone, 'again', ''), /^CON Welcome!/);
  t.equal(await say(t, shop, phone, 'again', '1'), 'END Your balance is KES 50');
  await reconciles(t, shop);
});

t.test(
  'the provider is down for a while: screens do not notice, and it is bought when it is back',
  async (t) => {
    const shop = await openShop(t, 1);
    const phone = phoneOf(1);
    await credit(shop, phone, 5_000);
    await shop.fake.down();
    t.match(await buy(t, shop, phone), /^END KES 50 airtime is on its way/);
    for (;;) {
      const [row] = await shop.rows<{ attempts: number; error: string }>(
        `select attempts, error from outbox where kind = 'airtime'`,
      );
      if ((row?.attempts ?? 0) >= 2) {
        t.equal(row?.error, 'unreachable');
        break;
      }
      await sleep(200);
    }
    await shop.fake.up();
    await settled(shop);
    t.equal(shop.fake.purchases.length, 1);
    await reconciles(t, shop);
  },
);

t.test('what the provider says later: confirmed once, or the money comes back once', async (t) => {
  const shop = await openShop(t, 1);
  const [url = ''] = shop.urls;
  const phones = [phoneOf(1), phoneOf(2), phoneOf(3)];
  for (const phone of phones) {
    await credit(shop, phone, 5_000);
    await buy(t, shop, phone);
  }
  await settled(shop);
  const idOf = (phone: string) =>
    shop.fake.purchases.find(({ phoneNumber }) => phoneNumber === phone)?.requestId ?? '';
  const report = async (fields: Record<string, string>, type = 'application/x-www-form-urlencoded') => {
    const body =
      type === 'application/json' ? JSON.stringify(fields) : new URLSearchParams(fields).toString();
    const told = await ask(`${url}/airtime/status`, {
      method: 'POST',
      headers: { 'content-type': type },
      body,
    });
    t.equal(`${told.status} ${told.body.toString()}`, '200 OK');
  };
  const [one = '', two = '', three = ''] = phones;
  const of = (phone: string, status: string) => ({
    phoneNumber: phone,
    description: 'Airtime',
    status,
    requestId: idOf(phone),
    discount: 'KES 0.6000',
    value: 'KES 50.0000',
  });
  await report(of(one, 'Success'));
  await report(of(one, 'Success'), 'application/json');
  await report(of(one, 'Failed'));
  await Promise.all(Array.from({ length: 10 }, () => report(of(two, 'Failed'))));
  // Another's id, an id that nobody has, no id, another word, rubbish: nothing moves.
  await report({ ...of(three, 'Failed'), requestId: idOf(one) });
  await report({ ...of(three, 'Failed'), requestId: 'ATQid_nobody' });
  await report({ phoneNumber: three, status: 'Failed' });
  await report({ ...of(three, 'Failed'), status: 'Perhaps' });
  for (const body of ['{', 'null', '%FF', '']) {
    const told = await ask(`${url}/airtime/status`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
    });
    t.equal(`${told.status} ${told.body.toString()}`, '200 OK', body);
  }
  await settled(shop);
  t.same(await shop.rows('select state from airtime_orders order by ordered_at'), [
    { state: 'confirmed' },
    { state: 'refunded' },
    { state: 'sent' },
  ]);
  t.same(await shop.rows(`select balance::int from ledger_accounts where kind = 'cash' order by id`), [
    { balance: 0 },
    { balance: 5_000 },
    { balance: 0 },
  ]);
  t.same(
    shop.fake.messages.filter(({ number }) => number === two).map(({ text }) => text.replace(/Ref .*/, '')),
    [
      `KES 50 airtime was sent to ${two}. `,
      `KES 50 airtime for ${two} could not be bought. The money is back in your wallet. `,
    ],
  );
  await reconciles(t, shop);
});

t.test('a report that overtakes the answer of the order is heard when the order is sent', async (t) => {
  const shop = await openShop(t, 1, { chaos: {} });
  const phone = phoneOf(1);
  await credit(shop, phone, 5_000);
  // Done, and then nobody hears of it: the report comes while the order knows no provider's id.
  shop.fake.next('drop');
  await buy(t, shop, phone);
  await shop.fake.when(() => shop.fake.purchases.length === 1);
  const [{ requestId = '' } = {}] = shop.fake.purchases;
  await ask(`${shop.urls[0]}/airtime/status`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ phoneNumber: phone, status: 'Failed', requestId }),
  });
  await settled(shop);
  t.same(await shop.rows('select state from airtime_orders'), [{ state: 'refunded' }]);
  t.equal(shop.fake.purchases.length, 1);
  await reconciles(t, shop);
});

t.test('the provider asks before it sends: only what we are buying is validated', async (t) => {
  const shop = await openShop(t, 1);
  const phone = phoneOf(1);
  await credit(shop, phone, 5_000);
  await shop.fake.down('503');
  await buy(t, shop, phone);
  const validate = async (fields: object) => {
    const told = await ask(`${shop.urls[0]}/airtime/validation`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(fields),
    });
    t.equal(told.status, 200);
    return told.body.toString();
  };
  const asked = {
    transactionId: 'SomeTransactionID',
    phoneNumber: phone,
    sourceIpAddress: '127.12.32.24',
    currencyCode: 'KES',
    amount: 50,
  };
  t.equal(await validate(asked), '{"status":"Validated"}');
  t.equal(await validate({ ...asked, amount: '50.00' }), '{"status":"Validated"}');
  t.equal(await validate({ ...asked, amount: 51 }), '{"status":"Failed"}');
  t.equal(await validate({ ...asked, currencyCode: 'UGX' }), '{"status":"Failed"}');
  t.equal(await validate({ ...asked, phoneNumber: phoneOf(2) }), '{"status":"Failed"}');
  t.equal(await validate({}), '{"status":"Failed"}');
  await shop.fake.up();
  await settled(shop);
  t.equal(await validate(asked), '{"status":"Failed"}', 'it has been bought');
});
