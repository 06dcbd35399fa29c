/** Airtime is sold to numbers of the country of its currency only (RULINGS.md 41). */
import t from 'tap';
import { type ConfigError, readConfig } from '../src/config.ts';
import { USUAL_CURRENCIES } from '../src/store/airtime.ts';
import { ask } from './support/ask.ts';
import { startGateway } from './support/gateway.ts';
import { eventually, phoneOn, queryOn } from './support/phone.ts';
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

t.test('an order that is not sold any more: asked for by nobody, validated for nobody', async (t) => {
  const gateway = await startGateway(t, { DATABASE_URL, AIRTIME_CURRENCIES: 'KES=+255,UGX=+256' });
  const validate = async (phoneNumber: string) => {
    const body = JSON.stringify({ phoneNumber, currencyCode: 'KES', amount: '50.00' });
    const headers = { 'content-type': 'application/json' };
    return (
      await ask(`${gateway.url}/airtime/validation`, { method: 'POST', headers, body })
    ).body.toString();
  };
  await eventually(
    'the order',
    async () => (await query(`select 1 from outbox where state = 'queued'`)).length === 0,
  );
  await query(`update airtime_orders set state = 'sent', asked_at = now()`);
  t.equal(await validate('+254711000111'), '{"status":"Failed"}');
  await gateway.stop();
  const usual = await startGateway(t, { DATABASE_URL });
  const headers = { 'content-type': 'application/json' };
  const body = JSON.stringify({ phoneNumber: '+254711000111', currencyCode: 'KES', amount: '50.00' });
  const told = await ask(`${usual.url}/airtime/validation`, { method: 'POST', headers, body });
  t.equal(told.body.toString(), '{"status":"Validated"}');
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
