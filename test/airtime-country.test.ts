/** Airtime is sold to numbers of the country of its currency only (decision 41). */
import { sql } from 'kysely';
import t from 'tap';
import { type ConfigError, readConfig } from '../src/config.ts';
import { openKeeping } from '../src/engine.ts';
import { parseKeyRing } from '../src/seal/keys.ts';
import { USUAL_CURRENCIES } from '../src/store/airtime.ts';
import { openStand } from './support/counter.ts';
import { startGateway, TEST_KEY } from './support/gateway.ts';
import { phoneOn, queryOn } from './support/phone.ts';
import { database } from './support/postgres.ts';

const { url: DATABASE_URL } = await database(t);
const query = await queryOn(t, DATABASE_URL);

t.test('on the screen', async (t) => {
  const gateway = await startGateway(t, { DATABASE_URL });
  await t.test('a caller from elsewhere buys for a number of the country only', async (t) => {
    const phone = phoneOn(gateway.url, '+260971234567');
    await phone.dial('*144#');
    const told =
      'CON Airtime in KES is sold to numbers of +254 only. Your number is not one of them.\n1. For another number\n*. Exit';
    t.equal(await phone.type('2', '1'), told);
    t.match(await phone.type('1'), /^CON Enter the phone number/);
    t.equal(
      await phone.type('+256771000111'),
      'CON Airtime in KES is sold to numbers of +254 only.\n+256771000111 is not one of them.\n1. Another number\n*. Exit',
    );
    await phone.type('1');
    t.match(await phone.type('+254711000111'), /^CON KES 50 airtime for\n\+254711000111/);
    t.match(await phone.type('1'), /^END KES 50 airtime is on its way to \+254711000111/);
    await phone.dial('*144#');
    t.equal(await phone.type('2', '4', '75'), told, 'an amount that was typed');
  });
  await t.test('a caller of the country is not asked, and may not buy for elsewhere', async (t) => {
    const phone = phoneOn(gateway.url, '+254711000112');
    await phone.dial('*144#');
    t.match(await phone.type('2', '2'), /^CON KES 100 airtime for your number/);
    t.match(
      await phone.type('2', '+260971234567'),
      /^CON Airtime in KES .*\n\+260971234567 is not one of them/,
    );
  });
  t.equal((await query('select 1 from airtime_orders')).length, 1);
});

t.test('an order for a number that airtime is not sold to any more', async (t) => {
  const stand = await openStand(t);
  const counter = await stand.counter(20_000n);
  const elsewhere = '+260971234567';
  const asked = await counter.order(5_000n);
  await counter.attempt(asked, 'unheard');
  const refused = await counter.order(5_000n, elsewhere);
  t.equal(await counter.attempt(refused, 'sold'), undefined);
  t.equal(counter.seller.sales.length, 0, 'the provider is not asked for it');
  await counter.sendMessages();
  t.match(counter.told, [/-1 failed$/], 'the subscriber is told');
  t.same(await counter.balance(), [15_000, 5_000]);
  const { rows } = await sql`select state, error from outbox where id = ${refused}`.execute(stand.db);
  t.same(rows, [{ state: 'refused', error: 'refused_country' }]);

  // What /airtime/validation asks, where the setting has changed while an order was under way.
  const { ring, messages } = { ring: parseKeyRing(TEST_KEY), messages: { dailyMax: 10, prefixes: [] } };
  const validated = async (airtimeCurrencies: Map<string, string[]>) => {
    const keeping = await openKeeping(stand.database, { ring, messages, book: 'real', airtimeCurrencies });
    return keeping.airtime.isExpected(stand.db, counter.recipient, 'KES', 5_000n);
  };
  t.equal(await validated(new Map([['KES', ['+254']]])), true);
  t.equal(await validated(new Map([['KES', ['+255']]])), false, 'of another country');
  t.equal(await validated(new Map([['UGX', ['+254']]])), false, 'in another currency');
});

t.test('the setting', async (t) => {
  const read = (AIRTIME_CURRENCIES: string) =>
    readConfig({ AIRTIME_CURRENCIES }, ['ixo', 'demo', 'airtime', 'invest', 'support']);
  t.same(read('').airtimeCurrencies, USUAL_CURRENCIES, 'as documented where it is not set');
  t.same(
    [...read(' KES=+254 , XOF=+221,XOF=+225,JMD=+1876').airtimeCurrencies],
    [
      ['KES', ['+254']],
      ['XOF', ['+221', '+225']],
      ['JMD', ['+1876']],
    ],
  );
  for (const [wrong, said] of [
    ['KES', /^AIRTIME_CURRENCIES: "KES" is not a currency and the country code .*write KES=\+254$/],
    ['KES=254', /write KES=\+254/],
    ['kes=+254', /write KES=\+254/],
    ['KES=+25', /no country has the code \+25;/],
    ['KES=+999', /no country has the code \+999;/],
    ['KES=+254,KES=+254', /stands twice/],
    [',', /names no currency: write KES=\+254/],
  ] as const) {
    try {
      read(wrong);
      t.fail(`${wrong} is taken`);
    } catch (error) {
      t.match((error as ConfigError).problems, [said], wrong);
    }
  }
});
