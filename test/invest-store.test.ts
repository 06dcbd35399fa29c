/** Shares, from the catalogue to the ledger: nothing is made, lost, or traded twice. */
import { randomUUID } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PGlite } from '@electric-sql/pglite';
import { Kysely, PGliteDialect, sql } from 'kysely';
import { FileMigrationProvider, Migrator } from 'kysely/migration';
import t, { type Test } from 'tap';
import { openEmbeddedDatabase } from '../src/db/database.ts';
import type { Db } from '../src/db/db.ts';
import { migrate } from '../src/db/migrate.ts';
import { SMS } from '../src/effects/sms.ts';
import { buyStock, sellStock, tradeDelivery } from '../src/effects/trade.ts';
import { type Keeping, openKeeping } from '../src/engine.ts';
import { measure } from '../src/flow/text.ts';
import { exchangeSimulator } from '../src/providers/exchange.ts';
import { Box } from '../src/seal/box.ts';
import { parseKeyRing } from '../src/seal/keys.ts';
import type { Asking } from '../src/services/facts.ts';
import { shippedCatalogue } from '../src/services/invest/catalogue.ts';
import { investFacts } from '../src/services/invest/facts.ts';
import { INVEST_FACTS } from '../src/services/invest/shapes.ts';
import { CatalogueError, parseCsv, readCatalogue } from '../src/store/catalogue.ts';
import {
  findInstruments,
  type Instrument,
  instrumentById,
  type Listing,
  listInstruments,
  loadInstruments,
  seedInstruments,
} from '../src/store/instruments.ts';
import { DEMO_MINOR } from '../src/store/ledger.ts';
import { Orders } from '../src/store/orders.ts';
import { endDelivery, putOut, reviveDelivery } from '../src/store/outbox.ts';
import {
  amountFor,
  MOST_MINOR,
  MOST_UNITS,
  ONE_SHARE,
  typedUnits,
  unitsFor,
  writtenUnits,
} from '../src/store/shares.ts';
import { command } from './support/command.ts';
import { engineOn, MIGRATIONS, openDatabase } from './support/engine.ts';
import { type FakeExchange, fakeExchange, type Mood } from './support/fake-exchange.ts';
import { TEST_KEY, temporaryDirectory } from './support/gateway.ts';
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

const RING = parseKeyRing(TEST_KEY);
const DOCUMENT = join(import.meta.dirname, '..', 'docs', 'invest.md');
const MESSAGES = { dailyMax: 1_000_000, prefixes: [] };

const listing = (symbol: string, priceMinor: bigint, name = `${symbol} Company`): Listing => ({
  symbol,
  name,
  detail: 'Things',
  priceMinor,
});
const bytesOf = (text: string) => new TextEncoder().encode(text);
const phoneOf = (index: number) => `+2609${String(index).padStart(8, '0')}`;
let refs = 0;
const newRef = () => (refs++).toString(36).toUpperCase().padStart(8, 'A');

/** The parts of one stage, and a delivery to an exchange of its own. */
type Desk = Stage & Keeping & { exchange: FakeExchange; enqueued: { kind: string; id: string }[] };

async function openDesk(stage: Stage, book: 'real' | 'demo' = 'real'): Promise<Desk> {
  const keeping = await openKeeping(at(stage.databases, 0), { ring: RING, messages: MESSAGES, book });
  return { ...stage, ...keeping, exchange: fakeExchange(), enqueued: [] };
}

const enqueueOf =
  ({ enqueued }: Pick<Desk, 'enqueued'>) =>
  async (tx: Db, kind: string, { id }: { id: string }) => {
    await putOut(tx, kind, id);
    enqueued.push({ kind, id });
  };

const deliveryOf = (desk: Desk, lane = 0, patienceMs = 100) =>
  tradeDelivery(at(desk.databases, lane).kysely, desk.orders, desk.exchange, enqueueOf(desk), patienceMs);

/** An order through its effect, as a turn commits it: its id; nothing where it was refused. */
async function commit(
  desk: Desk,
  side: 'buy' | 'sell',
  args: Record<string, string>,
  caller: string,
  lane = 0,
): Promise<string | undefined> {
  const effect = side === 'buy' ? buyStock(desk.orders) : sellStock(desk.orders);
  const ids: string[] = [];
  await unlessRefused(
    inTransaction(desk, lane, (tx) =>
      effect.commit(args, {
        tx,
        msisdn: caller,
        caller: desk.digests.phone(caller),
        serviceCode: '*384#',
        enqueue: async (kind, data) => {
          ids.push(data.id);
          await enqueueOf(desk)(tx, kind, data);
        },
      }),
    ).catch((error: unknown) => {
      ids.length = 0;
      throw error;
    }),
  );
  return ids[0];
}

const argsOf = (stock: Pick<Instrument, 'id' | 'priceMinor'>, rest: Record<string, string>) => ({
  ref: newRef(),
  stockId: stock.id,
  price: String(stock.priceMinor),
  filled: 'It was filled.',
  rejected: 'It was rejected.',
  tell: 'no',
  ...rest,
});

const buying = (stock: Instrument, amount: bigint, rest: Record<string, string> = {}) =>
  argsOf(stock, { amount: String(amount), units: String(unitsFor(amount, stock.priceMinor)), ...rest });

const selling = (stock: Instrument, units: bigint, rest: Record<string, string> = {}) =>
  argsOf(stock, { units: String(units), amount: String(amountFor(units, stock.priceMinor)), ...rest });

async function stockOf(db: Db, symbol: string): Promise<Instrument> {
  const found = (await findInstruments(db, symbol, 30)).find((one) => one.symbol === symbol);
  if (found === undefined) throw new Error(`there is no ${symbol}`);
  return found;
}

/** As the queue does with what was tried for the last time. */
async function giveUp(desk: Desk, id: string, lane = 0): Promise<void> {
  await inTransaction(desk, lane, async (tx) => {
    if (await endDelivery(tx, id, 'dead')) await deliveryOf(desk, lane).giveUp?.(tx, id);
  });
}

t.test('shares and money', async (t) => {
  const price = fc.bigInt(1n, 999_999_999n);
  const amount = fc.bigInt(1n, MOST_MINOR);
  fc.assert(
    fc.property(amount, price, (paid, each) => {
      const units = unitsFor(paid, each);
      const back = amountFor(units, each);
      const [cost, worth] = [units * each, paid * ONE_SHARE];
      // No more than is paid for, and not a millionth less than that.
      return cost <= worth && worth - cost < each && back <= paid;
    }),
    { numRuns: scaled(5_000, 500) },
  );
  fc.assert(
    fc.property(fc.bigInt(1n, MOST_UNITS), fc.bigInt(1n, MOST_UNITS), price, (one, other, each) => {
      const apart = amountFor(one, each) + amountFor(other, each);
      return apart <= amountFor(one + other, each);
    }),
    { numRuns: scaled(5_000, 500) },
  );
  fc.assert(
    fc.property(fc.bigInt(0n, MOST_UNITS), (units) => {
      const text = writtenUnits(units);
      return text.length <= 16 && typedUnits(text) === units && typedUnits(text.replace('.', ',')) === units;
    }),
    { numRuns: scaled(5_000, 500) },
  );
  t.same(
    [527_704n, 500_000n, 1_250_000n, 3_000_000n, 1n, 0n].map(writtenUnits),
    ['0.527704', '0.5', '1.25', '3', '0.000001', '0'],
    'as people read them',
  );
  t.same(['0,5', '1.25', ' 2 ', '.5', ',25', '7.'].map(typedUnits), [
    500_000n,
    1_250_000n,
    2_000_000n,
    500_000n,
    250_000n,
    undefined,
  ]);
  for (const text of ['', ' ', '.', ',', '-1', '+1', '1e3', '1,2,3', '1.0000001', '1234567890', 'all'])
    t.equal(typedUnits(text), undefined, `"${text}" is no number of shares`);
});

t.test('a catalogue', async (t) => {
  const HEAD = 'symbol,name,sector,price_minor';
  const read = (text: string) => readCatalogue(bytesOf(text));
  const problemsOf = (file: Uint8Array): string[] => {
    try {
      readCatalogue(file);
      return [];
    } catch (error) {
      if (error instanceof CatalogueError) return error.problems;
      throw error;
    }
  };

  const apple = { symbol: 'AAPL', name: 'Apple, the "big" one', detail: 'Tech', priceMinor: 18950n };
  const line = 'AAPL,"Apple, the ""big"" one",Tech,18950';
  for (const text of [
    `${HEAD}\n${line}\n`,
    `${HEAD}\n${line}`,
    `\uFEFF${HEAD}\r\n${line}\r\n`,
    `${HEAD}\r${line}\r`,
    `${HEAD}\n\n${line}\n\n\n`,
    `"symbol","name","sector","price_minor"\n"AAPL","Apple, the ""big"" one","Tech","18950"`,
  ])
    t.same(read(text), [apple], JSON.stringify(text));
  t.same(read(`${HEAD}\nNES,Nestlé,,10000`)[0]?.name, 'Nestlé', 'letters of every handset');

  t.same(parseCsv('a,"b\r\nc",\n,"",d'), [
    { line: 1, fields: ['a', 'b\r\nc', ''] },
    { line: 3, fields: ['', '', 'd'] },
  ]);
  fc.assert(
    fc.property(
      fc.array(fc.array(fc.string({ minLength: 1, unit: 'grapheme' }), { minLength: 2, maxLength: 4 })),
      fc.constantFrom('\n', '\r\n', '\r'),
      (records, newline) => {
        const text = records
          .map((fields) => fields.map((field) => `"${field.replaceAll('"', '""')}"`).join(','))
          .join(newline);
        return JSON.stringify(parseCsv(text).map(({ fields }) => fields)) === JSON.stringify(records);
      },
    ),
  );

  for (const [text, problem] of [
    ['', 'line 1: the first line has to be symbol,name,sector,price_minor'],
    ['AAPL,Apple,Tech,1', 'line 1: the first line has to be symbol,name,sector,price_minor'],
    [HEAD, 'there is nothing in it'],
    [`${HEAD}\nAAPL,Apple,Tech`, 'line 2: 4 columns are wanted, 3 are there'],
    [`${HEAD}\nAAPL,Apple, Inc.,Tech,1`, 'line 2: 4 columns are wanted, 5 are there'],
    [`${HEAD}\n"A\nB",Apple,Tech,1\nX,"Y`, 'line 4: a quote is missing, or one too many'],
    [`${HEAD}\nA,B"C,Tech,1`, 'line 2: a quote is missing, or one too many'],
    [`${HEAD}\nA,"B" C,Tech,1`, 'line 2: a quote is missing, or one too many'],
    [`${HEAD}\nA,B,C,1\n\nA,B,C,2`, 'line 4: A stands in line 2 already'],
    ...['aapl', 'ABCDEFGHIJK', '', 'A B', '-A'].map((symbol) => [
      `${HEAD}\n${symbol},B,C,1`,
      'line 2: symbol: 1 to 10 of A-Z, 0-9, dot and hyphen',
    ]),
    ...['', ' B', 'x'.repeat(41), '[]'.repeat(15), 'B\u0007', 'B\u202e'].map((name) => [
      `${HEAD}\nA,${name},C,1`,
      'line 2: name: 1 to 40 characters that a screen can show',
    ]),
    [`${HEAD}\nA,B,${'x'.repeat(41)},1`, 'line 2: sector: at most 40 characters that a screen can show'],
    ...['0', '-1', '1.5', '1e3', '', '1000000000', '٣', '0x10', ' 1'].map((price) => [
      `${HEAD}\nA,B,C,${price}`,
      'line 2: price_minor: a whole number of cents from 1 to 999999999',
    ]),
  ] as [string, string][])
    t.same(problemsOf(bytesOf(text)), [problem], JSON.stringify(text));
  t.same(problemsOf(Uint8Array.from([...bytesOf(`${HEAD}\nA,`), 0xe9, 0x0a])), [
    'line 2: the file is not in UTF-8: byte 3 of the line is 0xE9: save it as UTF-8',
  ]);
  const many = problemsOf(bytesOf(`${HEAD}\n${'a,B,C,1\n'.repeat(50)}`));
  t.equal(many.length, 21);
  t.equal(many.at(-1), 'and 30 more like these');

  const shipped = shippedCatalogue();
  t.ok(shipped.length >= 64, `${shipped.length} companies come with it`);
  for (const { name, detail, symbol } of shipped) {
    t.ok(measure(`${symbol}${name}${detail}`).alphabet === 'gsm', `${symbol}: every handset has its letters`);
  }
});

for (const [name, open] of [
  ['Postgres', onPostgres],
  ['the embedded database', embedded],
] as const) {
  t.test(name, open === embedded ? LONG_TIER : {}, async (t) => {
    const stage = await open(t);
    const { db } = stage;

    await t.test('the catalogue is taken over', async (t) => {
      const seeds = await Promise.all(
        stage.databases.map(({ kysely }) => seedInstruments(kysely, shippedCatalogue)),
      );
      t.equal(
        seeds.reduce((sum, one) => sum + one, 0),
        shippedCatalogue().length,
        'once, however many start at a time',
      );
      t.equal(await seedInstruments(db, () => t.fail('read again') as never), 0, 'into an empty table only');
      t.same(await loadInstruments(db, shippedCatalogue()), { added: 0, changed: 0 }, 'safe to run twice');
      const before = await stockOf(db, 'AAPL');
      const [fresh] = await Promise.all(
        [0, 1, 2].map((lane) =>
          loadInstruments(at(stage.databases, lane).kysely, [
            listing('ZZZ', 5n),
            { ...before, priceMinor: before.priceMinor + 1n },
          ]),
        ),
      );
      t.ok(fresh);
      t.same(
        await instrumentById(db, before.id),
        { ...before, priceMinor: before.priceMinor + 1n },
        'a price is changed, its id stays',
      );
      await t.rejects(loadInstruments(db, [listing('AAPL', 7n), listing('bad', 1n)]), { code: '23514' });
      t.equal((await stockOf(db, 'AAPL')).priceMinor, before.priceMinor + 1n, 'all or nothing');
      await loadInstruments(db, shippedCatalogue());
      t.equal((await stockOf(db, 'ZZZ')).priceMinor, 5n, 'what is not named stays');
      const large = Array.from({ length: 1_201 }, (_, index) => listing(`L${index}`, 1n));
      t.same(await loadInstruments(db, large), { added: 1_201, changed: 0 });
      t.same(await loadInstruments(db, large), { added: 0, changed: 0 });
      await sql`delete from instruments where symbol ~ '^L[0-9]|^ZZZ'`.execute(db);
    });

    await t.test('a search', async (t) => {
      await loadInstruments(db, [
        listing('PCT', 100n, '100% Cotton'),
        listing('UND', 100n, 'Under_score \\ Slash'),
        listing('NES', 100n, 'Nestlé S.A.'),
        listing('OER', 100n, 'Ørsted'),
      ]);
      const symbols = async (fragment: string, most = 30) =>
        (await findInstruments(db, fragment, most)).map(({ symbol }) => symbol);
      t.same(await symbols('AAPL'), ['AAPL']);
      t.same(await symbols('aapl'), ['AAPL'], 'in any case');
      t.same(await symbols('aPp'), ['AAPL'], 'by the name');
      t.same(await symbols('cola'), ['KO'], 'by a part of it');
      t.same((await symbols('v'))[0], 'V', 'the symbol itself comes first');
      t.same((await symbols('MA'))[0], 'MA');
      t.ok((await symbols('ma')).length > 1, 'and the others behind it');
      t.same(await symbols('a', 3), (await symbols('a')).slice(0, 3), 'so many at the most');
      t.same(await symbols('%'), ['PCT'], 'a percent sign is itself');
      t.same(await symbols('_'), ['UND'], 'an underscore too');
      t.same(await symbols('\\'), ['UND'], 'and a backslash');
      t.same(await symbols('0% c'), ['PCT']);
      for (const nestle of ['nestle', 'NESTLÉ', 'Nestle\u0301', '  nestlé  '])
        t.same(await symbols(nestle), ['NES'], nestle);
      t.same(await symbols('orsted'), ['OER'], 'what a handset cannot type is found all the same');
      for (const nothing of ['', '  ', '\n', '\u0000', 'no such company', 'aapl\napple', '\ud800', "'; --"])
        t.same(await symbols(nothing), [], JSON.stringify(nothing));
      const all = await listInstruments(db, 1_000);
      t.same(
        all.map(({ symbol }) => symbol),
        all.map(({ symbol }) => symbol).toSorted(),
        'all of them, by symbol',
      );
      t.equal((await listInstruments(db, 10)).length, 10);
      t.equal(await instrumentById(db, 'no such one'), undefined);
      const plan = await db.transaction().execute(async (tx) => {
        await sql`set local enable_seqscan = off`.execute(tx);
        return (
          await sql<Record<string, string>>`
            explain select * from instruments where searched like '%apple%'`.execute(tx)
        ).rows;
      });
      t.match(JSON.stringify(plan), 'instruments_searched', 'by the index');
    });

    await t.test('a life of an order', async (t) => {
      const desk = await openDesk(stage);
      const { ledger, orders, digests } = desk;
      await loadInstruments(db, [listing('LIFE', 300n)]);
      const stock = await stockOf(db, 'LIFE');
      const phone = phoneOf(100);
      const owner = digests.phone(phone);
      await inTransaction(desk, 0, (tx) => ledger.fund(tx, owner, 'USD', 1_000n));
      const cash = async () => Object.values(await orders.cash(db, owner));
      const shares = async () => Object.values(await ledger.balance(db, owner, 'stock:LIFE'));

      const bought = (await commit(desk, 'buy', buying(stock, 100n, { tell: 'yes' }), phone)) ?? '';
      t.same(await cash(), [900n, 100n], 'the amount shown is held');
      t.match(await orders.pending(db, owner, 30), [
        { side: 'buy', symbol: 'LIFE', units: 333_333n, amountMinor: 100n, state: 'queued' },
      ]);
      t.same(await orders.history(db, owner, 30), []);
      t.same(await orders.toPlace(db, bought), {
        key: bought,
        symbol: 'LIFE',
        side: 'buy',
        units: 333_333n,
        priceMinor: 300n,
      });
      t.same(await deliveryOf(desk).deliver([bought]), new Map());
      t.same(await cash(), [900n, 0n], 'paid');
      t.same(await shares(), [333_333n, 0n], 'and got');
      t.match(await orders.history(db, owner, 30), [{ state: 'filled', date: /^\d{4}-\d\d-\d\d$/ }]);
      t.same(await orders.pending(db, owner, 30), []);
      const told = desk.enqueued.filter(({ kind }) => kind === SMS);
      t.equal(told.length, 1);
      t.match(await desk.messages.toSend(db, told[0]?.id ?? ''), {
        to: [{ msisdn: phone }],
        text: 'It was filled.',
      });

      const sold = (await commit(desk, 'sell', selling(stock, 333_333n), phone)) ?? '';
      t.same(await shares(), [0n, 333_333n], 'the shares are held');
      t.same(await orders.holdings(db, owner), [], 'and can be sold by nobody else');
      t.equal(await commit(desk, 'sell', selling(stock, 4_000n), phone), undefined);
      t.equal(await orders.toPlace(db, randomUUID()), undefined);
      await deliveryOf(desk).deliver([sold]);
      t.same(await cash(), [999n, 0n], 'a cent is lost by rounding, to the house');
      t.same(await shares(), [0n, 0n]);

      // Turned down, once in so many words and once by a provider that never will.
      desk.exchange.decide = () => ({ outcome: 'rejected', code: 'halted' });
      const refused = (await commit(desk, 'buy', buying(stock, 999n, { tell: 'yes' }), phone)) ?? '';
      t.equal(await commit(desk, 'buy', buying(stock, 1n), phone), undefined, 'all of it is held');
      await deliveryOf(desk).deliver([refused]);
      t.same(await cash(), [999n, 0n], 'it is free again');
      desk.exchange.mood = () => 'unwilling';
      const other = (await commit(desk, 'buy', buying(stock, 999n), phone)) ?? '';
      await deliveryOf(desk).deliver([other]);
      t.same(await cash(), [999n, 0n]);
      const { rows } = await sql`select state, error from outbox where id in (${refused}, ${other})
        order by error`.execute(db);
      t.same(rows, [
        { state: 'refused', error: 'halted' },
        { state: 'refused', error: 'refused_symbol' },
      ]);
      t.same(
        (await orders.history(db, owner, 30)).map(({ side, state }) => `${side} ${state}`),
        ['buy rejected', 'buy rejected', 'sell filled', 'buy filled'],
        'newest first',
      );
      t.equal((await orders.history(db, owner, 2)).length, 2);
      t.same(await orders.history(db, digests.phone(phoneOf(101)), 30), [], 'nobody sees those of others');
      t.same(await wrongs(db), []);
    });

    await t.test('what a turn was told is checked when it is committed', async (t) => {
      const desk = await openDesk(stage);
      const { ledger, digests } = desk;
      await loadInstruments(db, [listing('CHK', 250n), listing('CHEAP', 1n)]);
      const stock = await stockOf(db, 'CHK');
      const cheap = await stockOf(db, 'CHEAP');
      const phone = phoneOf(110);
      const owner = digests.phone(phone);
      await inTransaction(desk, 0, (tx) => ledger.fund(tx, owner, 'USD', 8n * 10n ** 15n));
      const good = (await commit(desk, 'buy', buying(stock, 1_000n), phone)) ?? '';
      await deliveryOf(desk).deliver([good]);
      const refused = async (side: 'buy' | 'sell', args: Record<string, string>, why: string) =>
        t.equal(await commit(desk, side, args, phone), undefined, why);
      await refused('buy', buying({ ...stock, priceMinor: 249n }, 1_000n), 'another price');
      await refused('buy', buying(stock, 1_000n, { stockId: 'stk_none' }), 'no such share');
      await refused('buy', buying(stock, 1_000n, { units: '4000001' }), 'a millionth too many');
      await refused('buy', buying(stock, 1_000n, { units: '3999999' }), 'a millionth too few');
      await refused('sell', selling(stock, 1_000_000n, { amount: '251' }), 'a cent too many');
      await refused('sell', selling(stock, 4_000_001n), 'more than there are');
      await refused('sell', selling(stock, 3_999n), 'what brings nothing');
      await refused('buy', buying(cheap, MOST_MINOR), 'more shares than may be traded');
      for (const units of ['', '0', '-1', '1.5', '1e3', '٣', '99999999999999999'])
        await refused('sell', selling(stock, 1_000_000n, { units }), `units "${units}"`);
      const ref = newRef();
      t.ok(await commit(desk, 'buy', buying(stock, 100n, { ref }), phone));
      await refused('buy', buying(stock, 100n, { ref }), 'a reference that is taken');
      const before = stock.priceMinor;
      await loadInstruments(db, [listing('CHK', 260n)]);
      await refused('buy', buying({ ...stock, priceMinor: before }, 100n), 'the price has just changed');
      t.ok(await commit(desk, 'buy', buying(await stockOf(db, 'CHK'), 100n), phone), 'the new one is good');
      t.same(await wrongs(db), []);
    });

    await t.test('whoever has no number is told nothing, and may invest', async (t) => {
      const desk = await openDesk(stage, 'demo');
      const { ledger, orders, digests } = desk;
      const stock = await stockOf(db, 'KO');
      const caller = 'partner customer-17';
      const owner = digests.phone(caller);
      const id = (await commit(desk, 'buy', buying(stock, 5_000n, { tell: 'yes' }), caller)) ?? '';
      const row = await db
        .selectFrom('stock_orders')
        .selectAll()
        .where('id', '=', id)
        .executeTakeFirstOrThrow();
      t.equal(row.message_id, null);
      t.notOk(Buffer.from(row.sealed).includes('filled'), 'its words are sealed');
      await deliveryOf(desk).deliver([id]);
      t.notOk(desk.enqueued.some(({ kind }) => kind === SMS));
      t.same(await orders.cash(db, owner), { free: DEMO_MINOR - 5_000n, held: 0n }, 'of demonstration money');
      t.same(await ledger.balance(db, owner, 'stock:AAPL'), { free: 0n, held: 0n }, 'shares begin at none');
      t.same(await ledger.balance(db, owner, `stock:${stock.symbol}`), {
        free: unitsFor(5_000n, stock.priceMinor),
        held: 0n,
      });
      const real = await openDesk(stage, 'real');
      t.same(await real.orders.history(db, owner, 30), [], 'which the real book knows nothing of');
      t.same(await real.orders.holdings(db, owner), []);
      t.same(await wrongs(db), []);
    });

    await t.test('two orders that spend one balance at once: one of them', async (t) => {
      const desk = await openDesk(stage);
      const stock = await stockOf(db, 'AAPL');
      for (let round = 0; round < 10; round += 1) {
        const phone = phoneOf(200 + round);
        const owner = desk.digests.phone(phone);
        await inTransaction(desk, 0, (tx) => desk.ledger.fund(tx, owner, 'USD', 1_500n));
        const both = await Promise.all(
          [0, 1].map((lane) => commit(desk, 'buy', buying(stock, 1_000n), phone, lane)),
        );
        t.equal(both.filter((id) => id !== undefined).length, 1);
        t.same(await desk.orders.cash(db, owner), { free: 500n, held: 1_000n });
        const [id = ''] = both.filter((id) => id !== undefined);
        await deliveryOf(desk).deliver([id]);
        const units = unitsFor(1_000n, stock.priceMinor);
        const sales = await Promise.all(
          [0, 1].map((lane) => commit(desk, 'sell', selling(stock, units), phone, lane)),
        );
        t.equal(sales.filter((sold) => sold !== undefined).length, 1, 'and of shares');
      }
      t.same(await wrongs(db), []);
    });

    await t.test('20 deliveries of one order at once: it is traded once', async (t) => {
      const desk = await openDesk(stage);
      const stock = await stockOf(db, 'MSFT');
      const phone = phoneOf(300);
      const owner = desk.digests.phone(phone);
      await inTransaction(desk, 0, (tx) => desk.ledger.fund(tx, owner, 'USD', 10_000n));
      const id = (await commit(desk, 'buy', buying(stock, 10_000n, { tell: 'yes' }), phone)) ?? '';
      const ends = await Promise.all(
        Array.from({ length: 20 }, (_, lane) => deliveryOf(desk, lane, 10_000).deliver([id])),
      );
      t.ok(ends.every((again) => again.size === 0));
      t.same(await desk.orders.cash(db, owner), { free: 0n, held: 0n });
      t.same(await desk.ledger.balance(db, owner, 'stock:MSFT'), {
        free: unitsFor(10_000n, stock.priceMinor),
        held: 0n,
      });
      t.ok(desk.exchange.asked.length >= 1);
      t.same([...new Set(desk.exchange.asked.map(({ key }) => key))], [id], 'by one key');
      t.equal(desk.enqueued.filter(({ kind }) => kind === SMS).length, 1, 'and told once');
      t.same(await wrongs(db), []);
    });

    await t.test('an exchange that is not well', async (t) => {
      const desk = await openDesk(stage);
      const { orders, exchange, ledger } = desk;
      const stock = await stockOf(db, 'NVDA');
      const phone = phoneOf(310);
      const owner = desk.digests.phone(phone);
      await inTransaction(desk, 0, (tx) => ledger.fund(tx, owner, 'USD', 5_000n));
      const id = (await commit(desk, 'buy', buying(stock, 5_000n, { tell: 'yes' }), phone)) ?? '';
      for (const [mood, code] of [
        ['down', 'unreachable'],
        ['broken', 'TypeError'],
        ['lost', 'dropped'],
        ['hangs', 'timeout'],
        ['lost', 'dropped'],
      ] as [Mood, string][]) {
        exchange.mood = () => mood;
        t.same(await deliveryOf(desk).deliver([id]), new Map([[id, code]]), `${mood}: tried again`);
        t.same(await orders.cash(db, owner), { free: 0n, held: 5_000n });
      }
      exchange.decide = () => t.fail('decided twice') as never;

      // Given up, though the exchange has done it: an operator has it asked again, and it says so.
      await giveUp(desk, id);
      await giveUp(desk, id);
      t.same(await orders.cash(db, owner), { free: 5_000n, held: 0n }, 'free once');
      t.match(await orders.history(db, owner, 30), [{ state: 'rejected' }]);
      const revive = () =>
        inTransaction(desk, 0, async (tx) => {
          const row = await reviveDelivery(tx, id);
          if (row !== undefined) await deliveryOf(desk).revive?.(tx, row.id);
          return row !== undefined;
        });
      t.same((await Promise.all([revive(), revive()])).toSorted(), [false, true], 'once');
      t.same(await orders.cash(db, owner), { free: 0n, held: 5_000n }, 'held once more');
      exchange.mood = () => 'well';
      t.same(await deliveryOf(desk).deliver([id]), new Map());
      t.same(await orders.cash(db, owner), { free: 0n, held: 0n });
      t.match(await orders.history(db, owner, 30), [{ state: 'filled' }]);
      const told = await Promise.all(
        desk.enqueued.filter(({ kind }) => kind === SMS).map((one) => desk.messages.toSend(db, one.id)),
      );
      t.same(
        told.map((one) => one?.text),
        [undefined, 'It was filled.'],
        'what is not so any more is not told',
      );

      // What was given up and cannot be paid for any more stays where it is.
      exchange.decide = () => ({ outcome: 'filled', code: 'ok' });
      await inTransaction(desk, 0, (tx) => ledger.fund(tx, owner, 'USD', 100n));
      const poor = (await commit(desk, 'buy', buying(stock, 100n), phone)) ?? '';
      await giveUp(desk, poor);
      await inTransaction(desk, 0, (tx) => ledger.hold(tx, owner, 'USD', 1n));
      await t.rejects(
        inTransaction(desk, 0, async (tx) => {
          await reviveDelivery(tx, poor);
          await deliveryOf(desk).revive?.(tx, poor);
        }),
        { code: 'guard_failed' },
      );
      t.same(await wrongs(db), []);
    });

    await t.test('any orders in any interleaving', async (t) => {
      await anyOrders(t, await openDesk(stage), name === 'Postgres' ? scaled(2_000) : scaled(300));
    });

    await t.test('facts', (t) => facts(t, stage));

    await t.test('a rotation', async (t) => {
      const desk = await openDesk(stage);
      const ring = parseKeyRing(`k9:fedcba9876543210fedcba9876543210,${TEST_KEY}`);
      const box = new Box(ring, 'columns');
      const { rows } = await sql<{ count: number }>`select count(*)::int as count from stock_orders`.execute(
        db,
      );
      const rotated = new Orders(box, desk.ledger, desk.messages);
      t.equal(await rotated.reseal(db), rows[0]?.count);
      t.equal(await rotated.reseal(db), 0);
    });
  });
}

/** What a lane does next. */
type Op = {
  what: 'buy' | 'sell' | 'deliver' | 'giveUp' | 'revive' | 'price';
  owner: number;
  stock: number;
  amount: bigint;
  pick: number;
  lane: number;
};

const OWNERS = 5;
const SYMBOLS = ['RND.A', 'RND.B', 'RND.C'];

const OP: fc.Arbitrary<Op> = fc.record({
  what: fc.constantFrom(
    'buy',
    'buy',
    'sell',
    'sell',
    'deliver',
    'deliver',
    'deliver',
    'giveUp',
    'revive',
    'price',
  ),
  owner: fc.nat(OWNERS - 1),
  stock: fc.nat(SYMBOLS.length - 1),
  // Small ones, and some that a few of are more than there is.
  amount: fc.oneof(fc.bigInt(1n, 500n), fc.bigInt(20_000n, 70_000n)),
  pick: fc.nat(1_000_000),
  lane: fc.nat(5),
});

/** Takes steps side by side until so many orders were made; then the rest is delivered, and the books are compared. */
async function anyOrders(t: Test, desk: Desk, wanted: number): Promise<void> {
  const { db, digests, ledger, exchange, orders } = desk;
  await loadInstruments(
    db,
    SYMBOLS.map((symbol, index) => listing(symbol, BigInt(137 + 4_711 * index))),
  );
  const stocks = await Promise.all(SYMBOLS.map((symbol) => stockOf(db, symbol)));
  const owners = Array.from({ length: OWNERS }, (_, index) => phoneOf(400 + index));
  const funded = 100_000n;
  for (const phone of owners)
    await inTransaction(desk, 0, (tx) => ledger.fund(tx, digests.phone(phone), 'USD', funded));
  // By the key alone, so that a repeat is answered alike; and every mood comes by turns.
  exchange.decide = ({ key }) =>
    Number.parseInt(key.slice(0, 2), 16) % 4 === 0
      ? { outcome: 'rejected', code: 'halted' }
      : { outcome: 'filled', code: 'ok' };
  const moods: Mood[] = ['well', 'well', 'lost', 'well', 'down', 'well', 'hangs', 'well', 'broken'];
  exchange.mood = (call) => at(moods, call);
  const ids: string[] = [];
  const refusals = { orders: 0 };

  const order = async (side: 'buy' | 'sell', { owner, stock, amount, lane }: Op) => {
    // What a screen showed a moment ago: the price may have changed since, and the balance too.
    const shown = await instrumentById(db, at(stocks, stock).id);
    const phone = at(owners, owner);
    if (shown === undefined) throw new Error('it is gone');
    const units = unitsFor(amount, shown.priceMinor);
    if (units === 0n || amountFor(units, shown.priceMinor) === 0n) return;
    const args = side === 'buy' ? buying(shown, amount) : selling(shown, units);
    const id = await commit(desk, side, args, phone, lane);
    if (id === undefined) refusals.orders += 1;
    else ids.push(id);
  };
  const take = async (op: Op) => {
    const { what, stock, amount, pick, lane } = op;
    if (what === 'buy' || what === 'sell') return order(what, op);
    if (what === 'price') {
      await loadInstruments(at(desk.databases, lane).kysely, [
        listing(at(SYMBOLS, stock), (amount % 9_000n) + 1n),
      ]);
      return;
    }
    if (ids.length === 0) return;
    // One of the newest, so that it is probably under way; and two others may be at it at this moment.
    const id = at(ids, Math.max(0, ids.length - 1 - (pick % 25)));
    if (what === 'deliver') await deliveryOf(desk, lane, 20).deliver([id, at(ids, pick)]);
    else if (what === 'giveUp') await giveUp(desk, id, lane);
    else {
      await unlessRefused(
        inTransaction(desk, lane, async (tx) => {
          const row = await reviveDelivery(tx, id);
          if (row !== undefined) await deliveryOf(desk, lane).revive?.(tx, row.id);
        }),
      );
    }
  };

  for (const ops of fc.sample(fc.array(OP, { minLength: 60, maxLength: 60 }), {
    numRuns: scaled(500, 40),
    seed: 4_711,
  })) {
    if (ids.length >= wanted) break;
    const lanes = [0, 1, 2, 3, 4, 5].map((own) => ops.filter(({ lane }) => lane === own));
    const ends = await Promise.allSettled(
      lanes.map(async (own) => {
        for (const op of own) await take(op);
      }),
    );
    for (const end of ends) if (end.status === 'rejected') throw end.reason;
    // Whoever has spent all can go on after some have sold.
    const odd = await wrongs(db);
    if (odd.length > 0) throw new Error(JSON.stringify(odd));
  }

  exchange.mood = () => 'well';
  for (let first = 0; first < ids.length; first += 20) {
    const some = await deliveryOf(desk, 0, 10_000).deliver(ids.slice(first, first + 20));
    if (some.size > 0) t.fail(`not delivered: ${[...some.values()].join(', ')}`);
  }

  const rows = await db
    .selectFrom('stock_orders')
    .innerJoin('instruments', 'instruments.id', 'stock_orders.instrument')
    .select(['stock_orders.id', 'owner', 'symbol', 'side', 'state'])
    .select([sql<string>`units::text`.as('units'), sql<string>`amount_minor::text`.as('amount')])
    .where('stock_orders.id', 'in', ids)
    .execute();
  t.comment(`${ids.length} orders, ${refusals.orders} refused, ${exchange.asked.length} calls`);
  t.equal(rows.length, ids.length);
  t.ok(ids.length >= wanted, 'so many were made');
  t.notOk(
    rows.some(({ state }) => state === 'queued'),
    'all have ended',
  );
  for (const state of ['filled', 'rejected'] as const)
    for (const side of ['buy', 'sell'] as const)
      t.ok(
        rows.some((row) => row.state === state && row.side === side),
        `some ${side} ${state}`,
      );
  for (const { id, state } of rows) {
    // What was given up in the end may have been done over there; what is filled here was done there.
    if (state === 'filled' && exchange.decided.get(id)?.outcome !== 'filled') t.fail(`${id} was not filled`);
  }
  for (const phone of owners) {
    const owner = digests.phone(phone);
    const own = rows.filter((row) => Buffer.from(row.owner).equals(owner) && row.state === 'filled');
    const sum = (side: string, what: 'units' | 'amount', symbol?: string) =>
      own
        .filter((row) => row.side === side && (symbol === undefined || row.symbol === symbol))
        .reduce((all, row) => all + BigInt(row[what]), 0n);
    t.same(
      await orders.cash(db, owner),
      { free: funded - sum('buy', 'amount') + sum('sell', 'amount'), held: 0n },
      'cash is what the orders make it',
    );
    for (const symbol of SYMBOLS) {
      t.same(
        await ledger.balance(db, owner, `stock:${symbol}`),
        { free: sum('buy', 'units', symbol) - sum('sell', 'units', symbol), held: 0n },
        'and so are shares',
      );
    }
    const held = await orders.holdings(db, owner);
    t.ok(held.every(({ units }) => units > 0n));
  }
  const query = /```sql\n(.*?)```/s.exec(readFileSync(DOCUMENT, 'utf8'))?.[1]?.replace(/;\s*$/, '') ?? '';
  t.same((await sql.raw(query).execute(db)).rows, [], 'by the query of the document too');
  t.same(await wrongs(db), []);
}

/** Every fact by itself, within what it promises. */
async function facts(t: Test, stage: Stage): Promise<void> {
  const desk = await openDesk(stage);
  const { db, orders, accounts, messages, digests, ledger } = desk;
  await loadInstruments(db, [listing('FACT', 18_950n, 'Facts Inc.'), listing('DEAR', 999_999_999n)]);
  const stock = await stockOf(db, 'FACT');
  const phone = phoneOf(900);
  const known = investFacts(orders, accounts, messages, (_, length) => 'R'.repeat(length));
  const asking = (vars: Record<string, string>, msisdn = phone): Asking => ({
    db,
    msisdn,
    phone: digests.phone(msisdn),
    vars,
  });
  const ask = async (name: keyof typeof INVEST_FACTS, vars: Record<string, string> = {}, msisdn = phone) => {
    const value = await known[name](asking(vars, msisdn));
    const shape = INVEST_FACTS[name] as { values: Record<string, number>; rows?: number };
    const rows = Array.isArray(value) ? value : [value];
    t.equal(Array.isArray(value), shape.rows !== undefined, `${name}: rows or values`);
    t.ok(rows.length <= (shape.rows ?? 1), `${name}: no more rows than promised`);
    for (const row of rows as Record<string, string>[]) {
      t.same(Object.keys(row).toSorted(), Object.keys(shape.values).toSorted(), name);
      for (const [key, most] of Object.entries(shape.values))
        t.ok((row[key] ?? '').length <= most, `${name}.${key} is at most ${most}: ${row[key]}`);
    }
    return value as never;
  };
  const stockId = stock.id;

  await loadInstruments(
    db,
    Array.from({ length: 120 }, (_, index) => listing(`MANY${index}`, 1n)),
  );
  t.equal(((await ask('stocks')) as unknown[]).length, 100);
  t.equal(((await ask('found', { query: 'many' })) as unknown[]).length, 30);
  t.same(await ask('found'), []);
  t.same(await ask('found', { query: 'fact' }), [{ stockId, symbol: 'FACT', name: 'Facts Inc.' }]);
  await sql`delete from instruments where symbol like 'MANY%'`.execute(db);
  t.same(await ask('stock', { stockId }), {
    symbol: 'FACT',
    name: 'Facts Inc.',
    detail: 'Things',
    price: '18950',
  });
  t.match(await ask('stock', { stockId: 'none' }), { symbol: '', price: '0' });

  t.same(await ask('quote', { stockId, amount: '10000' }), {
    price: '18950',
    units: '527704',
    unitsText: '0.527704',
    enough: 'yes',
    same: 'yes',
  });
  t.match(await ask('quote', { stockId, amount: '10000', price: '18950' }), { same: 'yes' });
  t.match(await ask('quote', { stockId, amount: '10000', price: '18949' }), { price: '18950', same: 'no' });
  const dear = (await stockOf(db, 'DEAR')).id;
  t.match(await ask('quote', { stockId: dear, amount: '999' }), { units: '0', enough: 'no' });
  t.match(await ask('quote', { stockId: dear, amount: '1000' }), { units: '1', enough: 'yes' });
  for (const amount of ['', '0', '-5', '1.5', 'ten', '9'.repeat(13), '9'.repeat(40)])
    t.match(await ask('quote', { stockId, amount }), { units: '0', enough: 'no' }, amount);
  t.match(await ask('quote', { stockId: 'none', amount: '100' }), { enough: 'no', same: 'no' });
  t.match(await ask('quote'), { enough: 'no' });

  t.same(await ask('cash'), { balance: '0', book: 'real' });
  t.same(await ask('portfolio'), { cash: '0', value: '0', count: '0' });
  t.same(await ask('assets'), []);
  t.match(await ask('asset', { stockId }), { unitsText: '0', value: '0' });
  t.match(await ask('sale', { stockId, typedUnits: 'all' }), { units: '0', enough: 'no' });
  await inTransaction(stage, 0, (tx) => ledger.fund(tx, digests.phone(phone), 'USD', 100_000n));
  t.same(await ask('cash'), { balance: '100000', book: 'real' });
  const id = (await commit(desk, 'buy', buying(stock, 10_000n, { ref: 'BUYERREF' }), phone)) ?? '';
  const order = { ref: 'BUYERREF', label: 'BUY 0.527704 FACT', amount: '10000' };
  t.same(await ask('pending'), [order]);
  await deliveryOf(desk).deliver([id]);
  const date = new Date().toISOString().slice(0, 10);
  t.match(await ask('history'), [{ ...order, state: 'filled', date }]);
  t.same(await ask('pending'), []);
  t.same(await ask('assets'), [
    { stockId, symbol: 'FACT', name: 'Facts Inc.', unitsText: '0.527704', value: '9999' },
  ]);
  t.same(await ask('portfolio'), { cash: '90000', value: '9999', count: '1' });
  await loadInstruments(db, [listing('FACT', 20_000n, 'Facts Inc.')]);
  t.same(await ask('asset', { stockId }), {
    symbol: 'FACT',
    name: 'Facts Inc.',
    unitsText: '0.527704',
    value: '10554',
    price: '20000',
  });
  t.same(await ask('portfolio'), { cash: '90000', value: '10554', count: '1' }, 'at present prices');

  const sale = (typedUnits: string, price = '') => ask('sale', { stockId, typedUnits, price });
  t.same(await sale('all'), {
    price: '20000',
    units: '527704',
    unitsText: '0.527704',
    amount: '10554',
    enough: 'yes',
    same: 'yes',
  });
  for (const half of ['0,5', '0.5', '.5', '0.500000'])
    t.match(await sale(half), { units: '500000', unitsText: '0.5', amount: '10000', enough: 'yes' }, half);
  t.match(await sale('ALL'), { enough: 'yes' });
  t.match(await sale('0.527705'), { enough: 'no' }, 'a millionth more than there is');
  t.match(await sale('0.000049'), { amount: '0', enough: 'no' }, 'what brings nothing');
  t.match(await sale('999999999.999999'), { enough: 'no' });
  for (const text of ['', 'half', '-1', '0']) t.match(await sale(text), { units: '0', enough: 'no' }, text);
  t.match(await sale('all', '18950'), { same: 'no' });
  t.match(await sale('all', '20000'), { same: 'yes' });

  t.same(await ask('holder'), { customerId: '', is: 'no' });
  for (const customerId of ['CAAAAAAAA', 'CBBBBBBBB']) {
    await inTransaction(stage, 0, (tx) =>
      accounts.create(tx, {
        customerId,
        name: 'Ann',
        email: '',
        msisdn: phone,
        verifier: Buffer.from('none'),
      }),
    );
  }
  t.same(await ask('holder'), { customerId: 'CAAAAAAAA', is: 'yes' }, 'the oldest one');
  t.same(await ask('holder', {}, phoneOf(901)), { customerId: '', is: 'no' });
  t.same(await ask('order'), { ref: 'RRRRRRRR' });
  t.same(await ask('sms'), { room: 'yes' });
}

t.test('the simulator fills every order', async (t) => {
  const order = { key: 'k', symbol: 'A', side: 'buy', units: 1n, priceMinor: 1n } as const;
  t.match(await exchangeSimulator().place(order), { outcome: 'filled' });
});

t.test('an engine that opens on an empty table has something to invest in', async (t) => {
  const { db } = await openDatabase(t);
  const settings = { documents: [], codes: { codes: new Map(), fallback: '' }, ttl: 180_000 };
  await engineOn(db, settings);
  t.equal((await listInstruments(db.kysely, 1_000)).length, shippedCatalogue().length);
  await loadInstruments(db.kysely, [listing('AAPL', 1n)]);
  await engineOn(db, settings);
  t.equal((await stockOf(db.kysely, 'AAPL')).priceMinor, 1n, 'and leaves alone what is there');
});

t.test('an operator loads a catalogue beside the service', async (t) => {
  const { url, db } = await openDatabase(t);
  const directory = temporaryDirectory(t);
  const file = join(directory, 'prices.csv');
  const run = async (...words: string[]) => {
    const { code, said, complained } = await command({ DATABASE_URL: url }, ['instruments', ...words]);
    return code === 0 ? said : `${code}: ${complained}`;
  };
  const HEAD = 'symbol,name,sector,price_minor';
  writeFileSync(
    file,
    `${HEAD}\r\nMTNG,MTN Group,Communication,750\r\nSCOM,"Safaricom, PLC",Communication,12\r\n`,
  );
  t.match(await run('load', file), '2 instruments read: 2 added, 0 changed.');
  t.match(await run('load', file), '2 instruments read: 0 added, 0 changed.');
  writeFileSync(file, `${HEAD}\nMTNG,MTN Group,Communication,751\nSCOM,Safaricom PLC,,cheap\n,,,\n`);
  const refused = await run('load', file);
  t.match(refused, /^1: .*prices\.csv: nothing of it was loaded\n/);
  t.match(refused, '\n  line 3: price_minor: a whole number of cents');
  t.match(refused, '\n  line 4: symbol:');
  t.equal((await stockOf(db.kysely, 'MTNG')).priceMinor, 750n, 'nothing of it');
  t.match(await run('load', join(directory, 'none.csv')), /^1: .*ENOENT/s);
  t.match(await run('lod', file), /^1: .*say `instruments load <file.csv>`/s);
});

t.test('a data directory of a version before opens', async (t) => {
  const directory = temporaryDirectory(t);
  const old = await PGlite.create(join(directory, 'postgres'));
  const before = new Kysely<unknown>({ dialect: new PGliteDialect({ pglite: old }) });
  const { error } = await new Migrator({
    db: before,
    provider: new FileMigrationProvider({
      fs: await import('node:fs/promises'),
      path: await import('node:path'),
      migrationFolder: MIGRATIONS,
    }),
  }).migrateTo('0004-wallet');
  t.equal(error, undefined);
  await sql`insert into sms_days (day, count) values ('2026-01-01', 7)`.execute(before);
  await old.close();
  const now = await openEmbeddedDatabase(directory);
  t.ok((await migrate(now.kysely, MIGRATIONS)).includes('0007-invest'));
  t.match(await now.kysely.selectFrom('sms_days').select('count').execute(), [{ count: 7 }]);
  await seedInstruments(now.kysely, shippedCatalogue);
  await now.close();
  const again = await openEmbeddedDatabase(directory);
  t.match(await findInstruments(again.kysely, 'apple', 5), [{ symbol: 'AAPL' }]);
  await again.close();
});
