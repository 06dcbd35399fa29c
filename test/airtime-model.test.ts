/**
 * Airtime against a model: any interleaving of orders, answers, losses, reports, retries and messages for one phone.
 * The model is the list of what the provider sold. TEST_SCALE multiplies the number of runs.
 */
import t from 'tap';
import type { Fate, MadeSale } from './support/counter.ts';
import { openStand } from './support/counter.ts';
import fc from './support/property.ts';
import { unlessRefused, wrongs } from './support/stage.ts';

const RUNS = Math.max(1, Math.round(12 * Number(process.env.TEST_SCALE ?? 1)));
const START = 100_000;
const MOST_ORDERS = 4;

const FATES: Fate[] = ['sold', 'lost', 'unheard', 'refused', 'duplicate', 'other', 'nameless'];

/** Orders and sales are named by a number, taken modulo how many there are. */
type Step =
  | { do: 'order'; amount: bigint; away: boolean }
  | { do: 'try'; order: number; fate: Fate }
  | { do: 'giveUp'; order: number }
  | { do: 'revive'; order: number }
  | { do: 'report'; sale: number }
  | { do: 'messages' };

const index = fc.nat({ max: MOST_ORDERS - 1 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 1, arbitrary: fc.constant<Step>({ do: 'messages' }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('giveUp' as const), order: index }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('revive' as const), order: index }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('report' as const), sale: index }) },
  {
    weight: 7,
    arbitrary: fc.record({ do: fc.constant('try' as const), order: index, fate: fc.constantFrom(...FATES) }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('order' as const),
      amount: fc.constantFrom(5_000n, 5_000n, 5_000n, 10_000n),
      away: fc.nat({ max: 3 }).map((one) => one === 0),
    }),
  },
);

/** Which sales fail after all, by their number: what the provider reports of them in the end. */
const failing = fc.array(fc.boolean(), { minLength: MOST_ORDERS, maxLength: MOST_ORDERS });

const stand = await openStand(t);

t.test(`${RUNS} histories of two to four orders`, { timeout: 600_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 16 }), failing, async (steps, fails) => {
      await history(
        [
          { do: 'order', amount: 5_000n, away: false },
          { do: 'order', amount: 5_000n, away: false },
          ...steps,
        ],
        fails.map((fail, at) => fail && at % 2 === 1),
      );
    }),
    { numRuns: RUNS },
  );
});

t.test('the ledger of all of them', async (t) => {
  t.same(await wrongs(stand.db), []);
});

/** Plays one history, and then lets everything come to its end. Throws where a promise is broken. */
async function history(steps: Step[], fails: boolean[]): Promise<void> {
  const counter = await stand.counter(BigInt(START));
  const { seller } = counter;
  const ids: string[] = [];
  const [nameless, revived] = [new Set<string>(), new Set<string>()];
  /** A phone that is bought for; one of each history, because reports are by phone. */
  const away = counter.recipient.replace('+2547', '+2541');
  const statusOf = (sale: MadeSale) =>
    fails[seller.sales.indexOf(sale)] === true ? ('Failed' as const) : ('Success' as const);

  /** What must hold whatever has happened so far. */
  const holds = async () => {
    const orders = await counter.orders();
    const named = orders.flatMap(({ provider_id }) => provider_id ?? []);
    must(new Set(named).size === named.length, 'two orders have one provider id');
    const charged = orders.filter(({ state }) => state === 'sent' || state === 'confirmed');
    for (const { id } of charged) {
      const sale = seller.sales.find(({ key }) => key === id);
      must(sale !== undefined, 'an order is paid for that was not sold');
    }
    const held = orders.filter(({ state }) => state === 'queued');
    const sum = (some: { amount: string }[]) => some.reduce((total, { amount }) => total + Number(amount), 0);
    const [free, kept] = await counter.balance();
    must(kept === sum(held), 'what is held is what is under way');
    must(free === START - sum(charged) - sum(held), 'the balance is what the orders say');
    return orders;
  };

  for (const step of steps) {
    const id = 'order' in step ? ids[step.order % Math.max(1, ids.length)] : undefined;
    const sale = 'sale' in step ? seller.sales[step.sale % Math.max(1, seller.sales.length)] : undefined;
    if (step.do === 'order' && ids.length < MOST_ORDERS) {
      ids.push(await counter.order(step.amount, step.away ? away : counter.recipient));
    } else if (step.do === 'try' && id !== undefined) {
      const last = seller.sales.at(-1);
      // A provider may repeat the id of a sale that it has answered; for one that it has not, nobody could tell.
      const fate =
        step.fate === 'other' && (last === undefined || !seller.answered.has(last.key)) ? 'sold' : step.fate;
      await counter.attempt(id, fate);
      if (fate === 'nameless') nameless.add(id);
    } else if (step.do === 'giveUp' && id !== undefined) {
      await counter.giveUp(id);
    } else if (step.do === 'revive' && id !== undefined) {
      await unlessRefused(counter.revive(id));
      revived.add(id);
    } else if (step.do === 'report' && sale !== undefined) {
      await counter.report(sale, statusOf(sale));
    } else if (step.do === 'messages') {
      await counter.sendMessages();
    }
    await holds();
  }

  // Everything that waits is answered, and every sale reported, twice.
  for (const { id, state } of await counter.orders())
    if (state === 'queued') must((await counter.attempt(id, 'sold')) === undefined, 'an answer is not taken');
  for (const sale of [...seller.sales, ...seller.sales]) await counter.report(sale, statusOf(sale));
  const settled = await holds();
  must(
    settled.every(({ state }) => state !== 'queued'),
    'an order was answered and is still under way',
  );
  // What is sold and not paid for is one of several orders that were given up, of which some were not sold.
  const sold = seller.sales.filter((sale) => statusOf(sale) === 'Success');
  const unpaid = sold.filter(({ key }) => settled.find(({ id }) => id === key)?.state === 'failed');
  for (const { to, amountMinor } of unpaid) {
    const alike = settled.filter(
      ({ id, state, amount }) =>
        (state === 'failed' || (state === 'sent' && nameless.has(id))) &&
        amount === `${amountMinor}` &&
        goesTo(id) === to,
    );
    must(alike.length > 1, 'an order is certainly sold and is not paid for');
  }

  // People ask for the rest by its key; then every sale is paid for, and nothing else.
  for (const { id } of [...settled, ...settled]) {
    const state = (await counter.orders()).find((order) => order.id === id)?.state;
    if (state !== 'failed' || !seller.sales.some(({ key }) => key === id)) continue;
    await counter.revive(id);
    revived.add(id);
    must((await counter.attempt(id, 'sold')) === undefined, 'an answer is not taken');
  }
  for (const sale of seller.sales) await counter.report(sale, statusOf(sale));
  const orders = await holds();
  for (const { id, state, provider_id } of orders) {
    const sale = seller.sales.find(({ key }) => key === id);
    const wanted =
      sale === undefined ? ['failed'] : statusOf(sale) === 'Success' ? ['confirmed'] : ['refunded', 'failed'];
    // Without an id a report cannot name it, and may mean others as well.
    if (nameless.has(id)) wanted.push('sent');
    must(wanted.includes(state), `an order is ${state}, and should be ${wanted.join(' or ')}`);
    if (state === 'confirmed' && seller.answered.has(id))
      must(provider_id === sale?.providerId, 'an order that was answered has the id of another sale');
  }

  // Each outcome is told once, and the last message of an order is true.
  await counter.sendMessages();
  for (const [at, { state }] of orders.entries()) {
    const words = counter.told.filter((text) => new RegExp(`^R\\d+-${at} `).test(text));
    const outcomes = words.map((text) => text.replace(/^\S+ /, ''));
    must(
      outcomes.at(-1) === (state === 'sent' || state === 'confirmed' ? 'was sent' : 'failed'),
      'the last message is not true',
    );
    must(
      revived.has(ids[at] ?? '') || outcomes.every((outcome, index) => outcome !== outcomes[index - 1]),
      'an outcome is told twice',
    );
  }

  function goesTo(id: string): string {
    return steps.filter((step) => step.do === 'order')[ids.indexOf(id)]?.away ? away : counter.recipient;
  }
}

function must(holds: boolean, otherwise: string): asserts holds {
  if (!holds) throw new Error(otherwise);
}
