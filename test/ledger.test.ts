/** The wallet against a real Postgres and the embedded one: money is neither made, lost nor spent twice. */
import { randomBytes, randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import t from 'tap';
import { type Db, GuardFailed } from '../src/db/db.ts';
import { Box } from '../src/seal/box.ts';
import { parseKeyRing } from '../src/seal/keys.ts';
import { type Book, credit, DEMO_MINOR, Ledger } from '../src/store/ledger.ts';
import { TEST_KEY } from './support/gateway.ts';
import fc from './support/property.ts';
import { LONG_TIER, scaled } from './support/scale.ts';
import {
  at,
  embedded,
  inTransaction,
  onPostgres,
  type Stage,
  unlessRefused,
  wrongs,
} from './support/stage.ts';

const CURRENCIES = ['KES', 'UGX'];
const BOOKS: Book[] = ['real', 'demo'];
const DEMO = new Ledger('demo');
const REAL = new Ledger('real');

const newOwner = () => randomBytes(16);

type Op = {
  what: 'credit' | 'hold' | 'settle' | 'release' | 'refund';
  wallet: number;
  currency: number;
  amount: bigint;
  pick: number;
  lane: number;
};

const OP: fc.Arbitrary<Op> = fc.record({
  what: fc.constantFrom('credit', 'hold', 'hold', 'settle', 'release', 'refund'),
  wallet: fc.nat(2),
  currency: fc.nat(1),
  // Small ones, and some that a few of are more than there is.
  amount: fc.oneof(fc.bigInt(1n, 500n), fc.bigInt(20_000n, 120_000n)),
  pick: fc.nat(1_000),
  lane: fc.nat(5),
});

type Wallet = { owner: Buffer; currency: string; ledger: Ledger; cash: bigint; held: bigint; used: boolean };
type Held = { id: string; wallet: Wallet; amount: bigint };

/** Takes the steps, each lane one after the other and the lanes side by side; the model follows what came of each. */
async function play(stage: Stage, book: Book, ops: Op[]): Promise<void> {
  const ledger = new Ledger(book);
  const start = book === 'demo' ? DEMO_MINOR : 0n;
  const owners = [newOwner(), newOwner(), newOwner()];
  const wallets: Wallet[] = owners.flatMap((owner) =>
    CURRENCIES.map((currency) => ({ owner, currency, ledger, cash: start, held: 0n, used: false })),
  );
  const holds: Held[] = [];
  const settled: Held[] = [];

  const take = async ({ what, wallet, currency, amount, pick, lane }: Op) => {
    if (what === 'credit' || what === 'hold') {
      const own = wallets[wallet * CURRENCIES.length + currency] as Wallet;
      if (what === 'credit') {
        await inTransaction(stage, lane, (tx) => ledger.fund(tx, own.owner, own.currency, amount));
        own.cash += amount;
        return;
      }
      const id = await unlessRefused(
        inTransaction(stage, lane, (tx) => ledger.hold(tx, own.owner, own.currency, amount)),
      );
      if (id === undefined) return;
      own.cash -= amount;
      own.held += amount;
      holds.push({ id, wallet: own, amount });
      return;
    }
    if (what === 'refund') {
      const [one] = settled.length === 0 ? [] : settled.splice(pick % settled.length, 1);
      if (one === undefined) return;
      await inTransaction(stage, lane, (tx) => ledger.refund(tx, one.id, 'airtime'));
      one.wallet.cash += one.amount;
      return;
    }
    // Any hold, closed or not: two lanes may be at it at once, and one of them is told that it closed it.
    const one = holds.length === 0 ? undefined : at(holds, pick);
    if (one === undefined) return;
    const closed = await inTransaction(stage, lane, (tx) =>
      what === 'settle' ? ledger.settle(tx, one.id, 'airtime') : ledger.release(tx, one.id),
    );
    if (!closed) return;
    one.wallet.held -= one.amount;
    if (what === 'release') one.wallet.cash += one.amount;
    else settled.push(one);
  };

  const lanes = [0, 1, 2, 3, 4, 5].map((lane) => ops.filter((op) => op.lane === lane));
  const ends = await Promise.allSettled(
    lanes.map(async (own) => {
      for (const op of own) await take(op);
    }),
  );
  for (const end of ends) if (end.status === 'rejected') throw end.reason;

  const odd = await wrongs(stage.db);
  if (odd.length > 0) throw new Error(JSON.stringify(odd));
  for (const { owner, currency, cash, held } of wallets) {
    const seen = await ledger.balance(stage.db, owner, currency);
    if (seen.free !== cash || seen.held !== held)
      throw new Error(`${currency}: ${seen.free} free and ${seen.held} held, not ${cash} and ${held}`);
  }
}

async function codeOfRefusal(run: Promise<unknown>): Promise<string> {
  try {
    await run;
    return 'done';
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}

for (const [name, open, numRuns] of [
  ['Postgres', onPostgres, scaled(25, 4)],
  ['the embedded database', embedded, scaled(8, 2)],
] as const) {
  t.test(name, open === embedded ? LONG_TIER : {}, async (t) => {
    const stage = await open(t);
    const { db } = stage;

    await t.test('any steps in any interleaving', async (t) => {
      for (const book of BOOKS) {
        await fc.assert(
          fc.asyncProperty(fc.array(OP, { minLength: 10, maxLength: 60 }), (ops) => play(stage, book, ops)),
          { numRuns, endOnFailure: true },
        );
      }
      t.same(await wrongs(db), [], 'and over all of them together');
    });

    await t.test('a new wallet', async (t) => {
      const owner = newOwner();
      t.same(await REAL.balance(db, owner, 'KES'), { free: 0n, held: 0n }, 'real money begins at nothing');
      t.equal(
        await unlessRefused(inTransaction(stage, 0, (tx) => REAL.hold(tx, owner, 'KES', 1n))),
        undefined,
        'nothing of it can be held',
      );
      const { free } = await inTransaction(stage, 0, (tx) => REAL.fund(tx, owner, 'KES', 7n));
      t.equal(free, 7n, 'a credit is all there is');
      t.same(await DEMO.balance(db, owner, 'KES'), { free: DEMO_MINOR, held: 0n }, 'the books are apart');
      t.same(await REAL.balance(db, owner, 'UGX'), { free: 0n, held: 0n }, 'and so are currencies');
      t.type(free, 'bigint');
    });

    await t.test('the first use of a demonstration wallet, from everywhere at once', async (t) => {
      const owner = newOwner();
      const holds = await Promise.all(
        Array.from({ length: 12 }, (_, lane) =>
          inTransaction(stage, lane, (tx) => DEMO.hold(tx, owner, 'KES', 100n)),
        ),
      );
      t.equal(new Set(holds).size, 12);
      t.same(
        await DEMO.balance(db, owner, 'KES'),
        { free: DEMO_MINOR - 1_200n, held: 1_200n },
        'funded once',
      );
      t.same(await wrongs(db), []);
    });

    await t.test('one balance, spent from everywhere at once', async (t) => {
      const owner = newOwner();
      await inTransaction(stage, 0, (tx) => REAL.fund(tx, owner, 'KES', 250n));
      const holds = await Promise.all(
        Array.from({ length: 12 }, (_, lane) =>
          unlessRefused(inTransaction(stage, lane, (tx) => REAL.hold(tx, owner, 'KES', 100n))),
        ),
      );
      t.equal(holds.filter((hold) => hold !== undefined).length, 2, 'twice, and no more');
      t.same(await REAL.balance(db, owner, 'KES'), { free: 50n, held: 200n });
    });

    await t.test('one hold, closed from everywhere at once', async (t) => {
      const owner = newOwner();
      await inTransaction(stage, 0, (tx) => REAL.fund(tx, owner, 'KES', 100n));
      const hold = await inTransaction(stage, 0, (tx) => REAL.hold(tx, owner, 'KES', 100n));
      const closed = await Promise.all(
        Array.from({ length: 12 }, (_, lane) =>
          inTransaction(stage, lane, (tx) =>
            lane % 2 === 0 ? REAL.settle(tx, hold, 'airtime') : REAL.release(tx, hold),
          ),
        ),
      );
      t.equal(closed.filter(Boolean).length, 1, 'one of them closed it');
      t.same(await wrongs(db), []);
      t.equal(
        await inTransaction(stage, 0, (tx) => REAL.release(tx, randomUUID())),
        false,
        'a hold that never was is not closed',
      );
    });

    await t.test('big amounts stay exact', async (t) => {
      const owner = newOwner();
      const big = 2n ** 53n + 1n;
      const { free } = await inTransaction(stage, 0, (tx) => REAL.fund(tx, owner, 'KES', big));
      t.equal(free, big);
      const hold = await inTransaction(stage, 0, (tx) => REAL.hold(tx, owner, 'KES', big - 2n));
      t.same(await REAL.balance(db, owner, 'KES'), { free: 2n, held: big - 2n });
      await inTransaction(stage, 0, (tx) => REAL.settle(tx, hold, 'airtime'));
      await inTransaction(stage, 0, (tx) => REAL.refund(tx, hold, 'airtime'));
      t.same(await REAL.balance(db, owner, 'KES'), { free: big, held: 0n });
      t.equal(
        await codeOfRefusal(inTransaction(stage, 0, (tx) => REAL.fund(tx, owner, 'KES', 2n ** 63n - 1n))),
        '22003',
        'what does not fit is refused, not rounded',
      );
      t.same(await REAL.balance(db, owner, 'KES'), { free: big, held: 0n });
    });

    await t.test('the database itself refuses', async (t) => {
      const owner = newOwner();
      await inTransaction(stage, 0, (tx) => REAL.fund(tx, owner, 'KES', 100n));
      await inTransaction(stage, 0, (tx) => REAL.fund(tx, owner, 'UGX', 100n));
      await inTransaction(stage, 0, (tx) => DEMO.fund(tx, owner, 'KES', 100n));
      const idOf = async (book: Book, kind: string, currency = 'KES') => {
        const { rows } = await sql<{ id: string }>`
          select id::text as id from ledger_accounts where book = ${book} and kind = ${kind}
            and currency = ${currency} and owner in (${owner}, '')`.execute(db);
        return rows[0]?.id ?? '';
      };
      const cash = await idOf('real', 'cash');
      const held = await idOf('real', 'held');
      const entry = (postings: [account: string, amount: number][], then?: (tx: Db) => Promise<unknown>) =>
        codeOfRefusal(
          inTransaction(stage, 0, async (tx) => {
            const id = randomUUID();
            await sql`insert into ledger_entries (id, kind) values (${id}, 'test')`.execute(tx);
            for (const [account, amount] of postings)
              await sql`insert into ledger_postings values (${id}, ${account}, ${amount})`.execute(tx);
            await then?.(tx);
          }),
        );

      let reached = false;
      const code = await entry([[cash, 5]], async () => {
        reached = true;
      });
      t.equal(code, '23000', 'an entry of one side');
      t.ok(reached, 'at the commit: its postings come one by one');
      t.equal(
        await entry([
          [cash, -5],
          [held, 4],
        ]),
        '23000',
        'one that is one off',
      );
      t.equal(
        await entry([
          [cash, -5],
          [await idOf('real', 'cash', 'UGX'), 5],
        ]),
        '23000',
        'two currencies',
      );
      t.equal(
        await entry([
          [cash, -5],
          [await idOf('demo', 'cash'), 5],
        ]),
        '23000',
        'two books',
      );
      t.equal(
        await entry([
          [cash, 0],
          [held, 0],
        ]),
        '23514',
        'a posting of nothing',
      );
      t.equal(
        await entry([
          [cash, -101],
          [held, 101],
        ]),
        '23514',
        'more than there is',
      );
      t.equal(
        await entry([
          [cash, -1],
          [held, 1],
        ]),
        'done',
        'and takes what is right',
      );
      t.equal(
        await entry([
          [held, -1],
          [cash, 1],
        ]),
        'done',
      );

      // An entry that was right when it was committed stays so.
      const late = await codeOfRefusal(
        sql`
          insert into ledger_postings
          select p.entry_id, ${held}, 5 from ledger_postings p join ledger_entries e on e.id = p.entry_id
          where p.account_id = ${cash} and e.kind = 'credit' limit 1`.execute(db),
      );
      t.equal(late, '23000', 'a posting that comes late');
      for (const change of [
        sql`update ledger_postings set amount = amount + 1`,
        sql`update ledger_postings set amount = -amount`,
        sql`delete from ledger_postings`,
        sql`delete from ledger_postings where account_id = ${cash}`,
      ]) {
        t.equal(await codeOfRefusal(change.execute(db)), '23000', 'postings stay as they are');
      }
      t.match(
        await codeOfRefusal(sql`update ledger_accounts set balance = -1 where id = ${cash}`.execute(db)),
        '23514',
        'nobody owes us',
      );
      t.equal(
        await codeOfRefusal(sql`update ledger_accounts set balance = null where id = ${cash}`.execute(db)),
        '23514',
        'a subscriber has a balance',
      );
      for (const amount of [0n, -5n]) {
        t.equal(
          await codeOfRefusal(inTransaction(stage, 0, (tx) => REAL.hold(tx, owner, 'KES', amount))),
          '23514',
          `a hold of ${amount}`,
        );
      }
      t.same(await REAL.balance(db, owner, 'KES'), { free: 100n, held: 0n }, 'nothing of it happened');
      t.same(await wrongs(db), []);
    });

    await t.test('a credit, once per key', async (t) => {
      const box = new Box(parseKeyRing(TEST_KEY), 'columns');
      const owner = newOwner();
      const wanted = {
        key: randomBytes(16),
        asked: randomBytes(16),
        owner,
        currency: 'KES',
        amountMinor: 500n,
        reason: 'a gift',
        operator: 'ann',
      };
      const all = await Promise.all(
        Array.from({ length: 10 }, (_, lane) => credit(at(stage.databases, lane).kysely, box, REAL, wanted)),
      );
      const outcomes = all.map((one) => (typeof one === 'string' ? one : one.outcome)).sort();
      t.same(outcomes, ['made', ...Array(9).fill('repeated')]);
      const ids = new Set(all.map((one) => (typeof one === 'string' ? '' : `${one.id} ${one.balanceMinor}`)));
      t.equal(ids.size, 1, 'and all are told the same');
      await inTransaction(stage, 0, (tx) => REAL.fund(tx, owner, 'KES', 1n));
      t.match(await credit(db, box, REAL, wanted), { outcome: 'repeated', balanceMinor: 500n }, 'also later');
      t.equal(await credit(db, box, REAL, { ...wanted, asked: randomBytes(16) }), 'other');
      t.same(await REAL.balance(db, owner, 'KES'), { free: 501n, held: 0n });
    });
  });
}

t.test('two connections, one behind the other', async (t) => {
  const stage = await onPostgres(t);
  const { db } = stage;

  await t.test('spend one balance', async (t) => {
    const owner = newOwner();
    await inTransaction(stage, 0, (tx) => REAL.fund(tx, owner, 'KES', 100n));
    for (const end of ['commit', 'rollback'] as const) {
      const { promise: go, resolve: finish } = Promise.withResolvers<void>();
      const { promise: has, resolve: holds } = Promise.withResolvers<void>();
      const first = inTransaction(stage, 0, async (tx) => {
        await REAL.hold(tx, owner, 'KES', 60n);
        holds();
        await go;
        if (end === 'rollback') throw new GuardFailed();
      });
      await has;
      const second = unlessRefused(inTransaction(stage, 1, (tx) => REAL.hold(tx, owner, 'KES', 60n)));
      await isWaiting(db);
      finish();
      await unlessRefused(first);
      const hold = await second;
      t.equal(hold !== undefined, end === 'rollback', `the second one after a ${end}`);
      await sql`select 1`.execute(db);
      if (end === 'commit') {
        const { rows } = await sql<{
          id: string;
        }>`select id::text as id from holds where state = 'open'`.execute(db);
        for (const { id } of rows) await inTransaction(stage, 0, (tx) => REAL.release(tx, id));
      }
    }
    t.same(await REAL.balance(db, owner, 'KES'), { free: 40n, held: 60n });
    t.same(await wrongs(db), []);
  });

  await t.test('open one wallet, and the one that opened it takes it back', async (t) => {
    const owner = newOwner();
    const { promise: go, resolve: finish } = Promise.withResolvers<void>();
    const { promise: has, resolve: holds } = Promise.withResolvers<void>();
    const first = inTransaction(stage, 0, async (tx) => {
      await DEMO.hold(tx, owner, 'KES', 60n);
      holds();
      await go;
      throw new GuardFailed();
    });
    await has;
    const second = inTransaction(stage, 1, (tx) => DEMO.hold(tx, owner, 'KES', 50n));
    await isWaiting(db);
    finish();
    await unlessRefused(first);
    await second;
    t.same(await DEMO.balance(db, owner, 'KES'), { free: DEMO_MINOR - 50n, held: 50n });
    t.same(await wrongs(db), []);
  });

  await t.test('two wallets in opposite orders: nobody waits in a circle', async (t) => {
    const [one, other] = [newOwner(), newOwner()];
    const steps: Record<string, (owner: Buffer, lane: number) => Promise<unknown>> = {
      fund: (owner, lane) => inTransaction(stage, lane, (tx) => REAL.fund(tx, owner, 'KES', 10n)),
      hold: (owner, lane) => inTransaction(stage, lane, (tx) => REAL.hold(tx, owner, 'KES', 10n)),
      settle: async (owner, lane) => {
        const hold = await inTransaction(stage, lane, (tx) => REAL.hold(tx, owner, 'KES', 10n));
        await inTransaction(stage, lane, async (tx) => {
          await REAL.settle(tx, hold, 'airtime');
          await REAL.refund(tx, hold, 'airtime');
        });
      },
      release: async (owner, lane) => {
        const hold = await inTransaction(stage, lane, (tx) => REAL.hold(tx, owner, 'KES', 10n));
        await inTransaction(stage, lane, (tx) => REAL.release(tx, hold));
      },
    };
    for (const owner of [one, other]) {
      await inTransaction(stage, 0, (tx) => REAL.fund(tx, owner, 'KES', 1_000_000n));
    }
    const ends = await Promise.allSettled(
      Array.from({ length: 12 }, async (_, lane) => {
        for (let round = 0; round < 12; round += 1) {
          const order = lane % 2 === 0 ? [one, other] : [other, one];
          for (const owner of order) await at(Object.values(steps), lane + round)(owner, lane);
        }
      }),
    );
    const codes = ends.map((end) =>
      end.status === 'rejected' ? (end.reason as { code: string }).code : 'ok',
    );
    t.same([...new Set(codes)], ['ok']);
    t.same(await wrongs(db), []);
  });

  await t.test(
    'where a transaction of somebody does wait in a circle, one is refused and nothing is lost',
    async (t) => {
      const [one, other] = [newOwner(), newOwner()];
      for (const owner of [one, other])
        await inTransaction(stage, 0, (tx) => REAL.fund(tx, owner, 'KES', 100n));
      const met = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
      const both = (lane: number, owners: Buffer[]) =>
        inTransaction(stage, lane, async (tx) => {
          await REAL.hold(tx, owners[0] as Buffer, 'KES', 10n);
          met[lane]?.resolve();
          await Promise.all(met.map(({ promise }) => promise));
          await REAL.hold(tx, owners[1] as Buffer, 'KES', 10n);
        });
      const ends = await Promise.allSettled([both(0, [one, other]), both(1, [other, one])]);
      const refused = ends.filter((end) => end.status === 'rejected');
      t.ok(refused.length >= 1);
      for (const { reason } of refused as PromiseRejectedResult[]) t.match(reason.code, /^(40P01|55P03)$/);
      t.same(await wrongs(db), []);
    },
  );
});

/** Until somebody waits for a lock; 10 s at most. */
async function isWaiting(db: Db): Promise<void> {
  for (let tries = 0; tries < 1_000; tries += 1) {
    const { rows } = await sql<{ waits: boolean }>`
      select exists (select 1 from pg_stat_activity where datname = current_database()
        and wait_event_type = 'Lock') as waits`.execute(db);
    if (rows[0]?.waits) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error('nobody waits');
}
