/** Airtime, from the balance that pays for it to what the provider says later (CONTRACT.md section 4). */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { ask } from './support/ask.ts';
import { buy, credit, openShop, phoneOf, reconciles, say, settled } from './support/shop.ts';

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
