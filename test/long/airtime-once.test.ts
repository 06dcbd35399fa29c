/**
 * Airtime is bought exactly once (docs/contract.md section 4): two processes, a provider that fails, hangs and
 * answers twice, a process that is killed; and the ledger afterwards.
 */
import t, { type Test } from 'tap';
import type { ServeOptions } from '../../src/serve.ts';
import type { FakeOptions } from '../support/fake-africastalking.ts';
import { scaled } from '../support/scale.ts';
import {
  buy,
  credit,
  openShop,
  openShopOfProcesses,
  phoneOf,
  reconciles,
  type Shop,
  settled,
} from '../support/shop.ts';

/**
 * Makes so many purchases at once; `kill` ends an instance in the middle. The provider is a bad one for two and a half
 * times as many calls; then it calms down.
 */
async function buyThrough(
  t: Test,
  shop: Shop,
  purchases: number,
  kill: () => Promise<unknown> = async () => {},
): Promise<Shop> {
  const phones = Array.from({ length: purchases }, (_, index) => phoneOf(index));
  for (let at = 0; at < phones.length; at += 20)
    await Promise.all(phones.slice(at, at + 20).map((phone) => credit(shop, phone, 8_000)));
  // Killed in the middle of selling: what it had under way is for the other one to finish.
  const killed = shop.fake.when(() => shop.fake.purchases.length >= purchases / 4).then(kill);
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

const CHAOS: FakeOptions = { seed: 7, chaos: { fail: 0.3, hang: 0.1, twice: 0.1 } };
/** A call that hangs is given up soon, and what a killed process had under way is looked for soon. */
const SOON: ServeOptions = {
  providerMs: 1_000,
  queue: { wakeMs: 100, expireSeconds: 3, lookSeconds: 1, backoff: { retryDelayMax: 0 }, retries: 1_000 },
};
const PURCHASES = scaled(200, 24);

t.test(
  `${PURCHASES} purchases, each sent three times over two processes, one killed: each is bought once`,
  async (t) => {
    const shop = await openShopOfProcesses(t, 2, CHAOS, {}, SOON);
    await buyThrough(t, shop, PURCHASES, () => shop.gateways[0]?.kill() ?? Promise.resolve());
    const { fake, rows } = shop;
    t.equal(fake.purchases.length, PURCHASES, 'so many were bought');
    t.equal(new Set(fake.purchases.map(({ key }) => key)).size, PURCHASES, 'by so many keys');
    t.equal(
      new Set(fake.purchases.map(({ phoneNumber }) => phoneNumber)).size,
      PURCHASES,
      'for so many phones',
    );
    t.ok(
      fake.purchases.every(({ amount }) => amount === 'KES 50.00' || amount === 'KES 50'),
      'of the amount that was confirmed',
    );
    t.same(await rows('select state, count(*)::int from airtime_orders group by 1'), [
      { state: 'sent', count: PURCHASES },
    ]);
    t.same(await rows(`select state, count(*)::int from holds group by 1`), [
      { state: 'settled', count: PURCHASES },
    ]);
    t.same(
      await rows(
        `select kind, balance::text, count(*)::int from ledger_accounts where balance is not null group by 1, 2 order by 1`,
      ),
      [
        { kind: 'cash', balance: '3000', count: PURCHASES },
        { kind: 'held', balance: '0', count: PURCHASES },
      ],
      'every balance is right',
    );
    await reconciles(t, shop);
    t.same(
      await rows('select count(*)::int as rows, count(distinct phone)::int as phones from messages'),
      [{ rows: PURCHASES, phones: PURCHASES }],
      'one SMS each',
    );
    t.same(await rows('select distinct state from messages'), [{ state: 'sent' }]);
  },
);

t.test('without the key at the provider the same is bought more than once', async (t) => {
  const purchases = scaled(40, 20);
  const shop = await openShop(t, 2, { ...CHAOS, ignoreKeys: true }, {}, SOON);
  const { fake } = await buyThrough(t, shop, purchases);
  t.ok(fake.purchases.length > purchases, `${fake.purchases.length} were bought`);
});
