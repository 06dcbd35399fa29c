/** Orders are compared daily with what the provider says it sold (decision 41); and the database of a version before. */
import { mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sql } from 'kysely';
import t from 'tap';
import { migrateServer } from '../src/db/migrate.ts';
import { reconcileCommand, runReconciliation } from '../src/operator/reconcile.ts';
import { readStatement } from '../src/operator/statement.ts';
import { airtimeSimulator } from '../src/providers/simulator.ts';
import { newestReconciliations, type Sale, simulatedTill } from '../src/store/reconciliation.ts';
import { openStand } from './support/counter.ts';
import { MIGRATIONS } from './support/engine.ts';
import { wrongs } from './support/stage.ts';

const stand = await openStand(t);
const { db, keeping } = stand;
const parts = { db, airtime: keeping.airtime, enqueue: async () => {} };
const provider = 'africastalking';
const bytesOf = (text: string) => new TextEncoder().encode(text);

/** Everything so far happened yesterday: what is young is not compared. */
const age = async () => {
  await sql`update airtime_orders set ordered_at = ordered_at - interval '10 hours', asked_at = asked_at - interval '10 hours'
    where ordered_at > now() - interval '5 hours'`.execute(db);
  await sql`update airtime_reports set at = at - interval '10 hours' where at > now() - interval '5 hours'`.execute(
    db,
  );
};

t.test('a provider without a list: its reports, and a statement', async (t) => {
  const counter = await stand.counter(100_000n);
  const ids: string[] = [];
  for (const amount of [5_000n, 10_000n, 20_000n]) ids.push(await counter.order(amount));
  for (const id of ids) await counter.attempt(id, 'sold');
  await age();
  const sales = { provider };
  const silent = await runReconciliation({ ...parts, sales });
  t.equal(silent.outcome, undefined, 'without any report nothing can be said');
  t.same(await newestReconciliations(db), []);
  t.match(await reconcileCommand({ ...parts, sales }, []), /^Nothing was compared: .*\n.*--statement/);

  const [one, two, three] = counter.seller.sales;
  if (one === undefined || two === undefined || three === undefined) throw new Error('not sold');
  await counter.report(one);
  await counter.report({ ...three, providerId: 'ATQid_strange', to: '+254799999999' });
  await age();
  const heard = await runReconciliation({ ...parts, sales });
  t.match(heard.outcome, { source: 'reports', orders: 3, sales: 2 });
  t.same(
    heard.outcome?.ordersWithoutSale.map(({ id }) => id),
    ids.slice(1),
  );
  t.same(
    heard.outcome?.salesWithoutOrder.map(({ providerId }) => providerId),
    ['ATQid_strange'],
  );
  t.match(await newestReconciliations(db), [
    { source: 'reports', ordersWithoutSale: 2, salesWithoutOrder: 1 },
  ]);

  // Its report is removed after a day; the sale is not forgotten.
  await sql`update airtime_reports set at = now() - interval '25 hours' where provider_id = 'ATQid_strange'`.execute(
    db,
  );
  await keeping.airtime.forgetReports(db);
  t.same((await sql`select provider_id from airtime_strays`.execute(db)).rows, [
    { provider_id: 'ATQid_strange' },
  ]);
  const later = await runReconciliation({ ...parts, sales });
  t.same(
    later.outcome?.salesWithoutOrder.map(({ providerId }) => providerId),
    ['ATQid_strange'],
  );

  const folder = mkdtempSync(join(tmpdir(), 'statement-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'november.csv');
  writeFileSync(
    file,
    [
      'Date,Transaction ID,Phone Number,Amount,Status',
      `${new Date(Date.now() - 36_000_000).toISOString()},${one.providerId},+254711000111,KES 50.0000,Success`,
      `,${two.providerId},+254711000111,KES 100.00,Failed`,
      `,${three.providerId},+254711000111,KES 100.00,Success`,
      ',ATQid_other,+254711000111,KES 75.50,Sent',
    ].join('\n'),
  );
  const said = await reconcileCommand({ ...parts, sales }, ['--statement', file]);
  t.match(said, /^3 orders from \S+ to \S+ compared with 3 sales of africastalking \(statement\)\.$/m);
  t.match(said, /^2 orders without a sale:$/m, 'one failed, one was sold for another amount');
  t.match(said, /^1 sale without an order that is paid for:\n {2}ATQid_other {2}KES 75\.50 {2}no time$/m);
  t.notMatch(said, /254/, 'no phone number is said');
  t.equal((await newestReconciliations(db)).length, 2, 'one outcome by source');
});

t.test('words that are wrong', async (t) => {
  const sales = { provider };
  for (const words of [
    ['--statement'],
    ['november'],
    ['--from', '2026-11-31', '--until', '2026-12-02'],
    ['--from', '2026-11-29'],
  ])
    await t.rejects(reconcileCommand({ ...parts, sales }, words), /^write: reconcile/, words.join(' '));
  await t.rejects(reconcileCommand({ ...parts, sales }, ['--statement', '/nowhere/at-all.csv']), /ENOENT/);
});

t.test('the simulator lists what it sold, whichever process asks', async (t) => {
  const seller = airtimeSimulator(simulatedTill(db));
  const order = {
    key: '11111111-1111-4111-8111-111111111111',
    to: '+254711000111',
    currency: 'KES',
    amountMinor: 5_000n,
  };
  await seller.send(order);
  await seller.send(order);
  const from = new Date(Date.now() - 60_000);
  const until = new Date(Date.now() + 60_000);
  const listed = await airtimeSimulator(simulatedTill(db)).listSales?.(from, until);
  t.match(listed, [{ providerId: `sim-${order.key}`, currency: 'KES', amountMinor: 5_000n, sold: true }]);
  t.equal(listed?.length, 1);
  await sql`update airtime_simulated set at = at - interval '10 hours'`.execute(db);
  const sales = {
    provider: 'simulator',
    listSales: seller.listSales as (a: Date, b: Date) => Promise<Sale[]>,
  };
  const { outcome } = await runReconciliation({ ...parts, sales });
  t.match(outcome, {
    source: 'list',
    orders: 0,
    sales: 1,
    salesWithoutOrder: [{ providerId: `sim-${order.key}` }],
  });
});

t.test('a statement', async (t) => {
  t.match(readStatement(bytesOf('\uFEFFrequestId,value\nATQid_1,KES 1.5\n')), [
    { providerId: 'ATQid_1', currency: 'KES', amountMinor: 150n, sold: true },
  ]);
  const refused = (file: Uint8Array) => {
    try {
      readStatement(file);
    } catch (error) {
      return (error as { problems: string[] }).problems.join('\n');
    }
    return 'taken';
  };
  t.match(refused(bytesOf('a,b\n1,2')), /line 1: names of columns are wanted/);
  t.match(refused(Uint8Array.of(0xff, 0x41)), /not in UTF-8/);
  const wrong = refused(
    bytesOf(
      'id,amount,currency,status,date\nx y,50,KES,,\nA,fifty,KES,,\nB,50,KES,Perhaps,\nC,50,KES,,yesterday\nD,50,KES,,\nD,50,KES,,\nE,50,,,',
    ),
  );
  t.match(
    wrong,
    /line 2: the id.*\nline 3: the amount.*\nline 4: the status.*\nline 5: the time.*\nline 7: the id stands.*\nline 8: the amount/s,
  );
  t.notMatch(wrong, /fifty|Perhaps|yesterday/, 'no value of the file');
});

t.test('a database that holds two orders of one sale', async (t) => {
  const counter = await stand.counter(100_000n);
  const ids: string[] = [];
  for (let index = 0; index < 4; index += 1) ids.push(await counter.order(5_000n));
  for (const id of ids.slice(0, 3)) await counter.attempt(id, 'sold');
  await counter.attempt(ids[3] as string, 'refused');
  await counter.sendMessages();
  const id = counter.seller.sales[1]?.providerId;
  // As the version before left it: no new columns, and three orders of one sale.
  await sql`drop index airtime_orders_sale, airtime_orders_displaced, airtime_orders_asked, airtime_orders_hold,
    airtime_reports_recipient`.execute(db);
  await sql`drop table airtime_strays, airtime_simulated, airtime_reconciliations`.execute(db);
  await sql`alter table airtime_orders drop column asked_times, drop column denied_times, drop column attributed,
    drop column displaced_id, drop column told, drop column told_before`.execute(db);
  await sql`update airtime_orders set state = 'confirmed', provider = 'report', provider_id = ${id} where id = ${ids[0]}`.execute(
    db,
  );
  await sql`update airtime_orders set provider = 'report', provider_id = ${id} where id = ${ids[3]}`.execute(
    db,
  );
  await sql`delete from kysely_migration where name >= '0011'`.execute(db);
  t.same(await migrateServer(stand.url, upTo0011(t)), ['0011-provider-ids']);
  t.same(
    (await counter.orders()).map(({ state, provider_id }) => [state, provider_id]),
    [
      ['confirmed', null],
      ['sent', id],
      ['sent', counter.seller.sales[2]?.providerId],
      ['failed', null],
    ],
    'the order that was answered with the id keeps it',
  );
  const { rows } = await sql`select displaced_id from airtime_orders where displaced_id is not null`.execute(
    db,
  );
  t.same(rows, [{ displaced_id: id }, { displaced_id: id }], 'nothing is lost');
  t.same(await counter.balance(), [85_000, 0], 'as it was');

  t.match(await runReconciliation({ ...parts, sales: { provider } }), { givenBack: 1 });
  t.match(await runReconciliation({ ...parts, sales: { provider } }), { givenBack: 0 }, 'once');
  await counter.sendMessages();
  t.same(
    (await counter.orders()).map(({ state }) => state),
    ['failed', 'sent', 'sent', 'failed'],
  );
  t.same(await counter.balance(), [90_000, 0]);
  t.match(counter.told.at(-1), /-0 failed$/);
  await t.rejects(
    sql`update airtime_orders set provider_id = ${id} where id = ${ids[2]}`.execute(db),
    /airtime_orders_sale/,
    'the database refuses a second order of one sale',
  );
  t.same(await wrongs(db), []);
});

/** The migrations up to that of this file, whatever has come after it. */
function upTo0011(t: { teardown(step: () => void): void }): string {
  const folder = mkdtempSync(join(tmpdir(), 'migrations-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  for (const name of readdirSync(MIGRATIONS).filter((name) => name < '0012'))
    symlinkSync(join(MIGRATIONS, name), join(folder, name));
  return folder;
}
