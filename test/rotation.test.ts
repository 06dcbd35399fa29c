/** The ring turns while people log in: `k1`, `k1,k2`, `k2,k1`, `k2`, every step a roll-out under load. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { environment, startGateway } from './support/gateway.ts';
import { logIn, openAccount, phoneOn } from './support/phone.ts';
import { database } from './support/postgres.ts';

const MAIN = join(import.meta.dirname, '..', 'src', 'main.ts');
const K1 = 'k1:0123456789abcdef0123456789abcdef';
const K2 = 'k2:fedcba9876543210fedcba9876543210';
const CUSTOMERS = 4;
/** Log-ins that each step of the rotation is to see at the least. */
const ROUNDS = 20;

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
    for (let tries = 0; rounds < enough && tries < 600; tries += 1) await sleep(100);
  };
  for (const ring of [`${K1},${K2}`, `${K2},${K1}`, K2]) {
    await seen();
    const old = gateway;
    gateway = await start(ring);
    await seen();
    t.equal(await old.stop(), 0, 'the instance before it leaves');
    if (ring !== `${K2},${K1}`) continue;
    const env = environment({ DATABASE_URL: url, PIN_ENCRYPTION_KEY: ring });
    t.match(execFileSync(process.execPath, [MAIN, 'pins:rotate'], { env, encoding: 'utf8' }), /under k2 now/);
  }
  await seen();
  over = true;
  await Promise.all(load);
  t.same(wrong.slice(0, 5), [], `${rounds} rounds`);
});
