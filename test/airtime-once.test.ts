/**
 * Airtime is bought exactly once (CONTRACT.md section 4): two processes, a provider that fails, hangs and
 * answers twice, a process that is killed; and the ledger afterwards.
 */
import t, { type Test } from 'tap';
import type { FakeOptions } from './support/fake-africastalking.ts';
import { buy, credit, openShopOfProcesses, phoneOf, reconciles, type Shop, settled } from './support/shop.ts';

/**
 * So many purchases at once, one process killed in the middle. The provider is a bad one for two and a half times
 * as many calls; then it calms down, because nobody waits minutes for the last of a series of growing intervals.
 */
async function buyThrough(t: Test, purchases: number, options: FakeOptions): Promise<Shop> {
  const shop = await openShopOfProcesses(t, 2, options);
  const phones = Array.from({ length: purchases }, (_, index) => phoneOf(index));
  for (let at = 0; at < phones.length; at += 20)
    await Promise.all(phones.slice(at, at + 20).map((phone) => credit(shop, phone, 8_000)));
  // Killed in the middle of selling: what it had under way is for the other one to finish.
  const killed = shop.fake
    .when(() => shop.fake.purchases.length >= purchases / 4)
    .then(() => shop.gateways[0]?.kill());
  const calm = shop.fake
    .when(() => shop.fake.requestCount >= 2.5 * purchases)
    .then(() => shop.fake.chaos({}));
  const ends = await Promise.all(phones.map((phone) => buy(t, shop, phone)));
  t.ok(
    ends.every((end) => /^END KES 50 airtime is on its way to your number\. Ref [A-Z2-9]{8}$/.test(end)),
    'everybody was told so',
  );
  await Promise.all([killed, calm]);
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
  const { fake } = await buyThrough(t, 40, { seed: 7, chaos: CHAOS, ignoreKeys: true });
  t.ok(fake.purchases.length > 40, `${fake.purchases.length} were bought`);
});
