/** Who may look a phone up, what they see of it, and that nobody looks unrecorded: on a started gateway. */
import { randomUUID } from 'node:crypto';
import t from 'tap';
import { Box } from '../src/seal/box.ts';
import { Digests } from '../src/seal/digests.ts';
import { parseKeyRing } from '../src/seal/keys.ts';
import { Lookups } from '../src/store/lookups.ts';
import { ask } from './support/ask.ts';
import { dump, foundIn, tables } from './support/canary.ts';
import { embeddedDirectory } from './support/embedded.ts';
import { openDatabase } from './support/engine.ts';
import { startGateway } from './support/gateway.ts';
import { eventually, logIn, openAccount, PIN, phoneOn, queryOn } from './support/phone.ts';
import { database } from './support/postgres.ts';
import { LONG_TIER } from './support/scale.ts';

const OPERATOR_TOKEN =
  'sue:support:sues-token,roy:read+send+money+desk:roys-token,ada:admin:adas-token,eve:read+support:eves-token';
const by = (name: string) => ({ authorization: `Bearer ${name}s-token` });
const REASON = 'CANARYREASON: Bwalya says no airtime came';
const NAME = 'Mutinta Canary';

type Dial = { service: string; nodes: string[]; outcome: string; began: string };
type View = {
  phone: string;
  dials: Dial[];
  orders: { kind: string; state: string }[];
  messages: { state: string }[];
};
type Trail = { lookups: { operator: string; phone: string; reason: string }[]; next: string | null };

async function call<T>(url: string, who: string, body?: unknown) {
  const headers = { ...by(who), ...(body !== undefined && { 'content-type': 'application/json' }) };
  const sent = body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) };
  const told = await ask(url, { headers, ...sent });
  const text = told.body.toString();
  return { status: told.status, text, body: JSON.parse(text) as T, headers: told.headers };
}

t.test('a phone is looked up', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const gateway = await startGateway(t, { DATABASE_URL, OPERATOR_TOKEN, AIRTIME_CURRENCIES: 'KES=+260' });
  const { url } = gateway;
  const query = await queryOn(t, DATABASE_URL);
  const phone = phoneOn(url);
  const look = (msisdn = phone.number, who = 'sue', reason = REASON) =>
    call<View>(`${url}/api/support/lookup`, who, { msisdn, reason });
  const trail = async (more = '') => (await call<Trail>(`${url}/api/support/lookups${more}`, 'ada')).body;
  const recorded = async () => (await query('select 1 from lookups')).length;

  const customer = await openAccount(phone, { name: NAME });
  t.match(await logIn(phone, customer), /^CON/);
  await phone.dial('*144#');
  t.match(await phone.type('2', '1', '1'), /^END/, 'airtime is bought');
  await phone.dial('*555#');
  await phone.type('1', '1');
  await phoneOn(url).dial();
  await eventually(
    'all is delivered',
    async () => (await query(`select 1 from outbox where state = 'queued'`)).length === 0,
  );

  await t.test('what is seen', async (t) => {
    const { status, body, text, headers } = await look();
    t.equal(status, 200, text);
    t.equal(headers['cache-control'], 'no-store');
    t.match(body.phone, /^m_[0-9a-f]{12}$/);
    t.match(
      body.dials.map(({ service, outcome }) => `${service} ${outcome}`),
      ['airtime ended', 'ixo open', 'ixo ended'],
      'newest first, and nothing of the private service',
    );
    t.strictSame(body.dials[0]?.nodes.slice(0, 3), ['welcome', 'amounts', 'confirm']);
    t.match(body.orders, [{ kind: 'airtime', state: /sent|confirmed/ }]);
    t.ok(body.messages.length >= 2, 'the Customer ID, and the airtime');
    t.strictSame(
      foundIn(text, [phone.number.slice(1), NAME, customer, PIN, 'on its way', 'support']),
      [],
      'no number, nothing typed, no text',
    );
  });

  await t.test('somebody who never dialled', async (t) => {
    const { status, body } = await look('+260970000001');
    t.equal(status, 200);
    t.match(body, { dials: [], orders: [], messages: [] });
  });

  await t.test('at most 50 dials', async (t) => {
    const busy = phoneOn(url);
    for (let n = 0; n < 53; n += 1) await busy.dial();
    t.equal((await look(busy.number)).body.dials.length, 50);
  });

  await t.test('who may', async (t) => {
    const before = await recorded();
    t.equal((await look(phone.number, 'roy')).status, 403, 'reading is not enough, nor the desk');
    t.equal((await look(phone.number, 'ada')).status, 403);
    t.equal((await call(`${url}/api/support/lookups`, 'sue')).status, 403, 'who looks does not audit');
    const open = await ask(`${url}/api/support/lookup`, { method: 'POST', body: '{}' });
    t.equal(open.status, 401, 'and nobody without a token');
    t.equal(await recorded(), before);
  });

  await t.test('what is refused is not repeated', async (t) => {
    const before = await recorded();
    for (const [msisdn, reason] of [
      ['260971234567', REASON],
      ['+26097123456x', REASON],
      [phone.number, ''],
      [phone.number, '   '],
      [phone.number, 'x'.repeat(201)],
      [phone.number, 'two\nlines'],
    ] as const) {
      const { status, text } = await look(msisdn, 'sue', reason);
      t.equal(status, 400);
      t.strictSame(foundIn(text, ['97123456', 'CANARYREASON']), []);
    }
    t.equal(await recorded(), before);
  });

  await t.test('the trail', async (t) => {
    await look(phone.number, 'eve', 'again');
    const { lookups } = await trail();
    const pseudonym = (await look()).body.phone;
    t.match(lookups[0], { operator: 'eve', phone: pseudonym, reason: 'again' });
    t.match(lookups.at(-1), { operator: 'sue', phone: pseudonym, reason: REASON });
    const all = await recorded();
    let [seen, more] = [0, ''];
    for (;;) {
      const page = await trail(`?limit=2${more}`);
      seen += page.lookups.length;
      if (page.next === null) break;
      more = `&cursor=${page.next}`;
    }
    t.equal(seen, all, 'page by page, each once');
    t.equal((await call(`${url}/api/support/lookups?cursor=nonsense`, 'ada')).status, 400);
  });

  await t.test('what cannot be recorded is not shown', async (t) => {
    await query('alter table lookups rename to lookups_away');
    const { status, text } = await look();
    t.equal(status, 503);
    t.notMatch(text, /dials|airtime|m_/);
    await query('alter table lookups_away rename to lookups');
    t.equal((await look()).status, 200);
  });

  await t.test('recorded also where nothing can be shown', async (t) => {
    const before = await recorded();
    await query('alter table messages rename to messages_away');
    t.equal((await look()).status, 503);
    t.equal(await recorded(), before + 1);
    await query('alter table messages_away rename to messages');
  });

  await t.test('nobody is named in the log, nor in what is stored', async (t) => {
    const needles = [phone.number.slice(1), NAME, 'CANARYREASON', 'Bwalya'];
    await eventually('the log has it', async () => gateway.output().includes('"lookup"'), 5_000);
    t.strictSame(foundIn(gateway.output(), needles), []);
    t.strictSame(foundIn(dump(DATABASE_URL) ?? (await tables(DATABASE_URL)), needles), []);
  });
});

t.test('the trail is kept, sealed again, and forgotten', async (t) => {
  const { db } = await openDatabase(t);
  const digests = new Digests(Buffer.alloc(32, 7));
  const [older, newer] = ['a'.repeat(32), 'b'.repeat(32)];
  const under = (ring: string) => new Lookups(new Box(parseKeyRing(ring), 'columns'), digests);
  const msisdn = '+254711000301';
  await under(`k1:${older}`).add(db.kysely, { operator: 'sue', msisdn, reason: 'first' });
  const rotated = under(`k2:${newer},k1:${older}`);
  t.equal(await rotated.reseal(db.kysely), 1);
  t.equal(await rotated.reseal(db.kysely), 0, 'and nothing is left to be sealed again');
  t.match(await under(`k2:${newer}`).list(db.kysely, undefined, 10), [
    { operator: 'sue', phone: digests.pseudonym(msisdn), reason: 'first' },
  ]);
  await under(`k2:${newer}`).add(db.kysely, { operator: 'eve', msisdn, reason: 'second' });
  t.match(
    await under(`k3:${'c'.repeat(32)},k1:${older}`).list(db.kysely, undefined, 10),
    [
      { operator: 'eve', phone: null, reason: null },
      { operator: 'sue', phone: null, reason: null },
    ],
    'a key that is gone hides what it sealed, and that only',
  );
  t.equal(await rotated.forget(db.kysely, 1), 0);
  await db.kysely
    .updateTable('lookups')
    .set({ at: new Date(Date.now() - 2 * 86_400_000) })
    .execute();
  t.equal(await rotated.forget(db.kysely, 1), 2);
});

t.test('on the embedded database', LONG_TIER, async (t) => {
  const { url } = await startGateway(t, { OPERATOR_TOKEN, DATA_DIR: await embeddedDirectory(t) });
  const phone = phoneOn(url);
  await phone.dial();
  const { body } = await call<View>(`${url}/api/support/lookup`, 'sue', {
    msisdn: phone.number,
    reason: randomUUID(),
  });
  t.match(body.dials, [{ service: 'ixo', nodes: ['preMenu'], outcome: 'open' }]);
});
