/** The ring turns while people log in: `k1`, `k1,k2`, `k2,k1`, `k2`, every step a roll-out under load. */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { command } from './support/command.ts';
import { startGateway } from './support/gateway.ts';
import { logIn, openAccount, phoneOn } from './support/phone.ts';
import { database } from './support/postgres.ts';
import { scaled } from './support/scale.ts';

const K1 = 'k1:0123456789abcdef0123456789abcdef';
const K2 = 'k2:fedcba9876543210fedcba9876543210';
const CUSTOMERS = 4;
/** Log-ins that each step of the rotation is to see at the least. */
const ROUNDS = scaled(20, 4);

t.test('log-ins, look-ups and open sessions go on at every step', async (t) => {
  const { url } = await database(t);
  const start = (ring: string) =>
    startGateway(t, { DATABASE_URL: url, PIN_ENCRYPTION_KEY: ring, LOG_LEVEL: 'info' });
  let gateway = await start(K1);
  const wrong: string[] = [];
  let rounds = 0;
  let over = false;
  const here = () => gateway.url;
  const round = async (what: string, good: RegExp, ask: Promise<string>) => {
    const screen = await ask.catch(String);
    if (!good.test(screen)) wrong.push(`${what}: ${screen}`);
  };
  const customers = await Promise.all(
    Array.from({ length: CUSTOMERS }, async () => {
      const phone = phoneOn(here);
      return { phone, id: await openAccount(phone) };
    }),
  );
  const load = customers.map(async ({ phone, id }) => {
    const open = phoneOn(here);
    await open.dial();
    while (!over) {
      await round('log-in', /^CON Your account/, logIn(phone, id));
      await round('look-up', /Ann Phiri/, phone.type('1'));
      await round('open session', /Welcome/, open.type('1', '0'));
      if (open.session.text.length > 150) await open.dial();
      rounds += 1;
    }
  });
  const seen = async () => {
    const enough = rounds + ROUNDS;
    for (let tries = 0; rounds < enough && tries < 2_000; tries += 1) await sleep(20);
  };
  for (const ring of [`${K1},${K2}`, `${K2},${K1}`, K2]) {
    await seen();
    const old = gateway;
    gateway = await start(ring);
    await seen();
    await old.stop();
    if (ring !== `${K2},${K1}`) continue;
    const rotated = await command({ DATABASE_URL: url, PIN_ENCRYPTION_KEY: ring }, ['pins:rotate']);
    t.match(rotated, { code: 0, said: /under k2 now/ });
  }
  await seen();
  over = true;
  await Promise.all(load);
  t.same(wrong.slice(0, 5), [], `${rounds} rounds`);
});
