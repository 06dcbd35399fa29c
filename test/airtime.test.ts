/** Airtime, from the balance that pays for it to what the provider says later (docs/contract.md section 4). */
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import t from 'tap';
import { airtimeDelivery } from '../src/effects/buy-airtime.ts';
import { smsDelivery } from '../src/effects/sms.ts';
import { africasTalking } from '../src/providers/africastalking.ts';
import { smsSimulator } from '../src/providers/simulator.ts';
import { startQueue } from '../src/queue.ts';
import { listDeliveries } from '../src/store/outbox.ts';
import { ask } from './support/ask.ts';
import { engineOn, openDatabase } from './support/engine.ts';
import { fakeAfricasTalking } from './support/fake-africastalking.ts';
import { post, startGateway } from './support/gateway.ts';
import { database } from './support/postgres.ts';
import { scaled } from './support/scale.ts';
import { buy, choose, confirm, credit, openShop, phoneOf, reconciles, say, settled } from './support/shop.ts';

/** Subscribers with two dials at once, and rounds of three confirmations at once. */
const BUYERS = scaled(10, 4);
const ROUNDS = scaled(5, 2);

t.test('a balance that is spent in two dials at once buys once', async (t) => {
  const shop = await openShop(t, 2);
  const phones = Array.from({ length: BUYERS }, (_, index) => phoneOf(index));
  await Promise.all(phones.map((phone) => credit(shop, phone, 9_999)));
  const ends = await Promise.all(
    phones.map(async (phone) => {
      const dials = ['one', 'two'].map((dial) => `${dial}-${phone}`);
      // Both stand at the question before either has bought.
      await Promise.all(dials.map((dial) => choose(t, shop, phone, dial)));
      return Promise.all(dials.map((dial) => confirm(t, shop, phone, dial)));
    }),
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
  t.equal(shop.fake.purchases.length, BUYERS);
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
      await sleep(20);
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
  await report({ ...of(one, 'Success'), description: '\u{1F600}'.repeat(1_000) });
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
  await shop.fake.down('503');
  const [{ requestId = '' } = {}] = shop.fake.purchases;
  await ask(`${shop.urls[0]}/airtime/status`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ phoneNumber: phone, status: 'Failed', requestId }),
  });
  await shop.fake.up();
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
  await shop.fake.when(() => shop.fake.requestCount > 0);
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
  t.equal(await validate(asked), '{"status":"Validated"}', 'it may ask when it has said that it sends');
  await shop.rows(`update airtime_orders set state = 'confirmed'`);
  t.equal(await validate(asked), '{"status":"Failed"}', 'it has arrived');
});

t.test(
  'given up after the last try: the money is back once, and an operator has it tried again',
  async (t) => {
    const { db } = await openDatabase(t);
    const fake = await fakeAfricasTalking(t);
    await fake.down();
    const faults: unknown[] = [];
    const queue = await startQueue(db, (error) => faults.push(error), {
      retries: 1,
      backoff: { retryDelayMax: 0 },
      wakeMs: 50,
    });
    t.teardown(() => queue.stop());
    const { airtime, ledger, messages, digests } = await engineOn(db, {
      documents: [],
      codes: { codes: new Map(), fallback: '' },
      ttl: 180_000,
      book: 'real',
      enqueue: queue.enqueue,
    });
    const { username, apiKey, url: baseUrl } = fake;
    const { airtime: seller } = africasTalking({ username, apiKey, baseUrl, timeoutMs: 2_000 });
    await queue.work([
      airtimeDelivery(db.kysely, airtime, seller, queue.enqueue),
      smsDelivery(db.kysely, messages, smsSimulator()),
    ]);
    const owner = digests.phone(phoneOf(1));
    const balance = async () => {
      const { free, held } = await ledger.balance(db.kysely, owner, 'KES');
      return [free, held].map(Number);
    };
    const outbox = async () => (await listDeliveries(db.kysely, { kind: 'airtime' }, 1))[0];
    const until = async (state: string) => {
      while ((await outbox())?.state !== state) await sleep(20);
    };
    const id = await db.kysely.transaction().execute(async (tx) => {
      await ledger.fund(tx, owner, 'KES', 8_000n);
      const order = await airtime.order(
        tx,
        {
          ref: 'ABCDEFGH',
          buyer: phoneOf(1),
          recipient: phoneOf(2),
          currency: 'KES',
          amount: 5_000n,
          sent: 'It was sent.',
          failed: 'It was not sent.',
        },
        true,
      );
      await queue.enqueue(tx, 'airtime', { id: order });
      return order;
    });
    t.same(await balance(), [3_000, 5_000], 'held');
    await until('dead');
    t.match(await outbox(), { id, state: 'dead', attempts: 2, error: 'unreachable' });
    t.same(await balance(), [8_000, 0], 'free again');
    t.same(await queue.retry('00000000-0000-4000-8000-000000000000'), 'unknown');

    await fake.up();
    const tried = await Promise.all([queue.retry(id), queue.retry(id), queue.retry(id)]);
    t.same(tried.toSorted(), ['queued', 'unknown', 'unknown'], 'once, however many ask');
    await until('done');
    t.same(await balance(), [3_000, 0], 'paid for');
    t.equal(fake.purchases.length, 1);
    t.equal(await queue.retry(id), 'unknown', 'what is done is not done again');
    const told = await db.kysely.selectFrom('messages').select('cause').orderBy('created_at').execute();
    t.same(
      told.map(({ cause }) => cause),
      ['subscriber', 'support'],
      'told of either',
    );

    // What was given up and cannot be paid for any more stays where it is.
    await fake.down();
    const other = await db.kysely.transaction().execute(async (tx) => {
      const order = await airtime.order(
        tx,
        {
          ref: 'HGFEDCBA',
          buyer: phoneOf(1),
          recipient: phoneOf(2),
          currency: 'KES',
          amount: 3_000n,
          sent: '',
          failed: '',
        },
        false,
      );
      await queue.enqueue(tx, 'airtime', { id: order });
      return order;
    });
    await until('dead');
    await db.kysely.transaction().execute((tx) => ledger.hold(tx, owner, 'KES', 2_000n));
    t.equal(await queue.retry(other), 'refused');
    t.match(await outbox(), { id: other, state: 'dead' });
    t.same(faults, []);
  },
);

t.test(
  'two confirmations of one dial, shown one after the other and answered at once, buy once',
  async (t) => {
    const shop = await openShop(t, 2);
    for (let round = 0; round < ROUNDS; round += 1) {
      const phone = phoneOf(round);
      await credit(shop, phone, 50_000);
      const shown = ['', '2', '2*1', '2*1*0', '2*1*0*1', '2*1*0*1*2', '2*1*0*1*2*0711000222'];
      for (const text of shown) await say(t, shop, phone, `siblings-${round}`, text);
      const ends = await Promise.all(
        ['2*1*1', '2*1*0*1*1', '2*1*0*1*2*0711000222*1'].map((text) =>
          say(t, shop, phone, `siblings-${round}`, text),
        ),
      );
      t.equal(new Set(ends).size, 1, 'everybody gets the END that there is');
    }
    await settled(shop);
    t.equal(shop.fake.purchases.length, ROUNDS);
    await reconciles(t, shop);
  },
);

t.test('money of one book buys nothing in another', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const fake = await fakeAfricasTalking(t);
  await fake.down();
  const phone = phoneOf(1);
  const settings = { DATABASE_URL, OPERATOR_TOKEN: 'a-token-for-this-test' };
  const client = new pg.Client({ connectionString: DATABASE_URL });
  await client.connect();
  t.teardown(() => client.end());
  const rows = async (sql: string) => (await client.query(sql)).rows as { state: string; error: string }[];
  const dial = async (url: string) => {
    const fields = { serviceCode: '*144#', phoneNumber: phone, sessionId: `dial-${Math.random()}` };
    for (const text of ['', '2', '2*1']) await post(url, { ...fields, text });
    return (await post(url, { ...fields, text: '2*1*1' })).body;
  };

  // Demonstration money, bought and not yet delivered; then there are credentials.
  const demo = await startGateway(t, settings);
  t.match(await dial(demo.url), /^END KES 50 airtime/);
  await demo.stop();
  await client.query(`update outbox set state = 'queued', ended_at = null where kind = 'airtime'`);
  await client.query(
    `update airtime_orders set state = 'queued', provider = null, provider_id = null, ended_at = null`,
  );
  await client.query(`update holds set state = 'open', closed_at = null`);
  await client.query(`update pgboss.job set state = 'created', started_on = null, completed_on = null
    where name = 'airtime'`);
  const live = await startGateway(t, { ...settings, ...fake.environment });
  await fake.up();
  for (;;) {
    const [row] = await rows(`select state, error from outbox where kind = 'airtime'`);
    if (row?.state !== 'queued') {
      t.same(row, { state: 'refused', error: 'demonstration' });
      break;
    }
    await sleep(20);
  }
  t.equal(fake.purchases.length, 0, 'nothing real is bought with it');
  const balance = await post(live.url, { serviceCode: '*144#', phoneNumber: phone, sessionId: 'balance' });
  t.match(balance.body, /^CON Welcome/);
  t.equal(
    (await post(live.url, { serviceCode: '*144#', phoneNumber: phone, sessionId: 'balance', text: '1' }))
      .body,
    'END Your balance is KES 0',
  );
});

t.test('sold, the answer lost, and every repeat called a duplicate: the report is heard', async (t) => {
  const shop = await openShop(t, 1, { repeat: 'refuse' });
  const phone = phoneOf(1);
  await credit(shop, phone, 5_000);
  shop.fake.next('drop');
  await buy(t, shop, phone);
  await shop.fake.when(() => shop.fake.purchases.length === 1);
  const [{ requestId = '' } = {}] = shop.fake.purchases;
  await ask(`${shop.urls[0]}/airtime/status`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ phoneNumber: phone, status: 'Success', requestId, value: 'KES 50.0000' }),
  });
  await settled(shop);
  t.same(await shop.rows('select state, provider_id from airtime_orders'), [
    { state: 'confirmed', provider_id: requestId },
  ]);
  t.equal(shop.fake.purchases.length, 1);
  t.match(shop.fake.messages.map(({ text }) => text).join(), /^KES 50 airtime was sent to/);
  await reconciles(t, shop);
});

t.test('in production a report that anybody could have sent moves nothing', async (t) => {
  const CALLBACK_SECRET = 'a-secret-of-callbacks';
  const shop = await openShop(t, 1, {}, { NODE_ENV: 'production', CALLBACK_SECRET });
  const phone = phoneOf(1);
  await credit(shop, phone, 5_000);
  const secretly = { ...shop, urls: shop.urls.map((url) => `${url}/c/${CALLBACK_SECRET}`) };
  await buy(t, secretly, phone);
  await settled(shop);
  const [{ requestId = '' } = {}] = shop.fake.purchases;
  const report = async (path: string, status: string) => {
    const told = await ask(`${shop.urls[0]}${path}/airtime/status`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ phoneNumber: phone, status, requestId, value: 'KES 50.0000' }),
    });
    t.equal(told.status, path === '' ? 403 : 200);
    return (await shop.rows<{ state: string }>('select state from airtime_orders'))[0]?.state;
  };
  t.equal(await report('', 'Failed'), 'sent', 'no money comes back');
  t.equal(await report('', 'Success'), 'sent', 'and nobody can say that it never will');
  t.equal(await report(`/c/${CALLBACK_SECRET}`, 'Failed'), 'refunded', 'the provider can');
  await reconciles(t, shop);
});
