/** Accounts are opened once, whoever hears the confirmation, and messages are within their limits. */
import t, { type Test } from 'tap';
import { type Database, openEmbeddedDatabase } from '../src/db/database.ts';
import { migrate } from '../src/db/migrate.ts';
import { deadlineIn } from '../src/deadline.ts';
import type { Engine, openEngine } from '../src/engine.ts';
import { written } from '../src/gateways/screens.ts';
import { parseKeyRing } from '../src/seal/keys.ts';
import { embeddedDirectory } from './support/embedded.ts';
import { engineOn, MIGRATIONS, openDatabase } from './support/engine.ts';
import {
  type Gateway,
  post,
  type Reply,
  shippedMenus,
  startGateway,
  startQuickProcess,
  TEST_KEY,
} from './support/gateway.ts';
import {
  customerIdIn,
  eventually,
  freshNumber,
  logIn,
  openAccount,
  type Phone,
  PIN,
  phoneOn,
  type Query,
  queryOn,
} from './support/phone.ts';
import { database } from './support/postgres.ts';
import { LONG_TIER, scaled } from './support/scale.ts';

const OPEN = /^END Your account is open\.\nCustomer ID: C[A-HJ-NP-Z2-9]{8}\nWe send it to you by SMS\.$/;
const SILENT = /^END Your account is open\.\nCustomer ID: C.{8}\nWrite it down: no more SMS/;
const FULL = 'END This phone has 3 accounts already. Log in to one of them.';
const ACCOUNT = /^CON Your account\n/;
const SENT = 'CON The SMS is on its way.\n0. Home\n*. Exit';
const NO_MORE = 'CON No more SMS can be sent to this number today.\n0. Back\n*. Exit';

/** Customers who open accounts while the process is killed. */
const STORM = scaled(16, 8);
/** Accounts that are open before it is. */
const OPENED = scaled(40, 12);

type Pair = { gateways: [Gateway, Gateway]; url: string; query: Query };

async function startPair(t: Test, settings: Record<string, string> = {}): Promise<Pair> {
  const { url } = await database(t);
  const gateways = await Promise.all([
    startGateway(t, { DATABASE_URL: url, ...settings }),
    startGateway(t, { DATABASE_URL: url, ...settings }),
  ]);
  return { gateways, url, query: await queryOn(t, url) };
}

async function counts(query: Query): Promise<{ accounts: number; messages: number; jobs: number }> {
  const [row] = await query<{ accounts: number; messages: number; jobs: number }>(`select
    (select count(*)::int from accounts) as accounts, (select count(*)::int from messages) as messages,
    (select count(*)::int from pgboss.job where name = 'sms') as jobs`);
  return row ?? { accounts: -1, messages: -1, jobs: -1 };
}

/** These texts behind what was typed, at once, each on both processes. */
function race({ gateways }: Pair, { session }: Phone, inputs: string[]): Promise<Reply[]> {
  return Promise.all(
    inputs.map((input, i) =>
      post((gateways[i % 2] as Gateway).url, { ...session, text: `${session.text}*${input}` }),
    ),
  );
}

/** At the screen that asks for the PIN once more. */
async function almostOpen(phone: Phone): Promise<Phone> {
  await phone.dial();
  t.equal(await phone.type('2', '2', 'Ann Phiri', '00', PIN), 'CON Enter the same PIN again\n0. Back');
  return phone;
}

t.test('one confirmation, two processes', async (t) => {
  const pair = await startPair(t);
  const { query } = pair;
  const { url } = pair.gateways[0];

  await t.test('twelve copies at once: one account', async (t) => {
    const before = await counts(query);
    const phone = await almostOpen(phoneOn(url));
    const replies = await race(
      pair,
      phone,
      Array.from({ length: 12 }, () => PIN),
    );
    t.equal(new Set(replies.map(({ body }) => body)).size, 1, 'identical bytes');
    t.match(replies[0]?.body, OPEN);
    t.equal(replies.filter(({ outcome }) => outcome === 'ok').length, 1, 'one of them happened');
    t.match(await counts(query), { accounts: before.accounts + 1, messages: before.messages + 1 });
    t.match(await logIn(phone, customerIdIn(replies[0]?.body ?? '')), ACCOUNT, 'and it can be used');
  });

  await t.test('answers to the same shown screen in different texts: one account', async (t) => {
    for (let round = 0; round < scaled(8, 2); round += 1) {
      const before = await counts(query);
      const phone = await almostOpen(phoneOn(url));
      const siblings = [PIN, `9*${PIN}`, `*${PIN}`, `9*8*${PIN}`, `abc*${PIN}`, ` ${PIN}`];
      const detours = ['9', '', '9*8', 'abc'];
      await race(pair, phone, round % 2 === 0 ? detours : []);
      const replies = await race(pair, phone, [...siblings, ...siblings]);
      const opened = replies.filter(({ body }) => OPEN.test(body));
      t.ok(opened.length > 0, `round ${round}: it was opened`);
      t.equal(new Set(opened.map(({ body }) => body)).size, 1, 'whoever is told so is told one ID');
      t.match(await counts(query), { accounts: before.accounts + 1, messages: before.messages + 1 });
      const again = await race(pair, phone, [...siblings, ...siblings]);
      t.same(
        again.map(({ body }) => body),
        replies.map(({ body }) => body),
        'and hears it again',
      );
    }
  });

  await t.test('a phone has three accounts at most, over sessions that race', async (t) => {
    const number = freshNumber();
    const before = await counts(query);
    const sessions = await Promise.all(
      Array.from({ length: 8 }, (_, i) => almostOpen(phoneOn((pair.gateways[i % 2] as Gateway).url, number))),
    );
    // Held up where the account is written, so that all of them have counted before one has.
    const holder = await queryOn(t, pair.url);
    await holder('begin');
    await holder('lock table accounts in share mode');
    const ending = Promise.all(sessions.map((session) => session.type(PIN)));
    const waiting = `select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
    await eventually('all of them to wait', async () => (await query(waiting)).length === sessions.length);
    await holder('commit');
    const ends = await ending;
    t.equal(ends.filter((body) => OPEN.test(body)).length, 3);
    t.equal(ends.filter((body) => body === FULL).length, 5, 'the others are told so');
    t.match(await counts(query), { accounts: before.accounts + 3, messages: before.messages + 3 });
    t.equal(await (await almostOpen(phoneOn(url, number))).type(PIN), FULL, 'and so is a later one');
    for (const body of ends.filter((body) => OPEN.test(body))) {
      t.match(await logIn(phoneOn(url, number), customerIdIn(body)), ACCOUNT);
    }
  });

  await t.test('what was queued is sent, by the simulator', async (t) => {
    const unsent = `select 1 from messages where state <> 'sent' or provider <> 'simulator' or sent_at is null
      or provider_id <> 'sim-' || id`;
    await eventually('all messages to be sent', async () => (await query(unsent)).length === 0);
    const { messages, jobs } = await counts(query);
    t.equal(jobs, messages, 'one job each');
    const states = await query('select distinct state from messages');
    t.same(states, [{ state: 'sent' }]);
  });

  await t.test('many log-ins to one account at once wait for nobody for ever', async (t) => {
    const phone = phoneOn(url);
    const id = await openAccount(phone);
    for (let round = 0; round < scaled(5, 2); round += 1) {
      const sessions = Array.from({ length: 8 }, (_, i) =>
        phoneOn((pair.gateways[i % 2] as Gateway).url, phone.number),
      );
      const screens = await Promise.all(sessions.map((session) => logIn(session, id)));
      const known = screens.filter((body) => ACCOUNT.test(body) || body.startsWith('END Too many tries'));
      t.equal(known.length, screens.length, 'each is let in, or told that too many try');
      await query('update pin_counters set tries = 0, locked_until = null');
    }
  });

  for (const gateway of pair.gateways)
    t.notMatch(gateway.output(), /"level":"(error|fatal)"/, 'no fault was logged');
});

t.test('messages that subscribers cause (decision 14)', async (t) => {
  const pair = await startPair(t, { SMS_DAILY_MAX: '12', SMS_PREFIXES: '+26097,+254' });
  const { query } = pair;
  const [one, two] = pair.gateways;

  const page = async (phone: Phone): Promise<string> => {
    await phone.dial();
    return phone.type('1', '1', '1');
  };

  await t.test('five to a phone in a day, over sessions that race', async (t) => {
    const number = freshNumber();
    const screens = await Promise.all(
      Array.from({ length: 9 }, (_, i) => page(phoneOn(i % 2 ? one.url : two.url, number))),
    );
    t.equal(screens.filter((body) => body === SENT).length, 5);
    t.equal(screens.filter((body) => body === NO_MORE).length, 4, 'the screen says so');
    t.equal((await query('select 1 from messages')).length, 5);
    const phone = await almostOpen(phoneOn(one.url, number));
    t.match(await phone.type(PIN), SILENT, 'an account is opened all the same');
    const logged = phoneOn(two.url, number);
    t.match(await logIn(logged, customerIdIn(await phone.type('again'))), ACCOUNT);
    t.equal(await logged.type('4', '+254700000001'), NO_MORE, 'no code either');
    t.equal((await query('select 1 from link_codes')).length, 0);
    await query(`update messages set created_at = created_at - interval '1 day'`);
    t.equal(await page(phoneOn(one.url, number)), SENT, 'tomorrow there is room again');
  });

  await t.test('and none by a code that is dialled through', async (t) => {
    const phone = phoneOn(one.url);
    await phone.dial();
    const before = (await query('select 1 from messages')).length;
    t.match(await phoneOn(one.url).dial('*1234*1*1*1#'), /^CON About this service\n/);
    t.match(await phone.type('1*1*1'), /^CON About this service\n/);
    t.equal((await query('select 1 from messages')).length, before);
  });

  await t.test('only to numbers that begin as they may', async (t) => {
    const before = (await query('select 1 from messages')).length;
    t.equal(await page(phoneOn(one.url, '+447700900123')), NO_MORE);
    t.match(await (await almostOpen(phoneOn(one.url, '+447700900124'))).type(PIN), SILENT);
    t.equal((await query('select 1 from messages')).length, before);
    t.equal(await page(phoneOn(one.url, '+254700000002')), SENT);
  });

  await t.test('so many in all in a day', async (t) => {
    const screens = await Promise.all(
      Array.from({ length: 12 }, (_, i) => page(phoneOn(i % 2 ? one.url : two.url))),
    );
    t.equal(screens.filter((body) => body === SENT).length, 5, 'seven were sent before');
    t.equal(screens.filter((body) => body === NO_MORE).length, 7);
    t.same(await query('select sum(count)::int as count from sms_counts'), [{ count: 12 }]);
    await query(`update sms_counts set day = day - 1`);
    t.equal(await page(phoneOn(two.url)), SENT, 'tomorrow there is room again');
  });
});

t.test('kill -9 in the middle of a storm of new accounts', async (t) => {
  const { url } = await database(t);
  const query = await queryOn(t, url);
  const storming = await startQuickProcess(t, { DATABASE_URL: url });
  const ended: { phone: Phone; body: string }[] = [];
  const open: Phone[] = [];

  const customer = async () => {
    for (;;) {
      const phone = phoneOn(storming.url);
      try {
        await phone.dial();
        const body = await phone.type('2', '2', 'Ann Phiri', '00', PIN, PIN);
        ended.push({ phone, body });
      } catch {
        return void open.push(phone);
      }
    }
  };
  const storm = Promise.all(Array.from({ length: STORM }, customer));
  await eventually('the first accounts', async () => ended.length >= OPENED);
  await storming.kill();
  await storm;
  t.ok(ended.every(({ body }) => OPEN.test(body)));
  t.equal(open.length, STORM, 'everybody was cut off');
  const before = await counts(query);
  t.ok(before.accounts >= ended.length, `${ended.length} answered, ${before.accounts} accounts`);
  t.ok(before.accounts <= ended.length + STORM);
  t.match(before, { messages: before.accounts, jobs: before.accounts }, 'a message and a job each');
  const queued = await query(`select 1 from messages where state = 'queued'`);
  // A job that was taken when the process died is given out again when its time is up: now.
  const taken = await query(`update pgboss.job set state = 'retry', start_after = now()
    where name = 'sms' and state = 'active' returning 1`);
  t.comment(`${queued.length} messages were not sent, ${taken.length} of them taken`);

  const gateway = await startGateway(t, { DATABASE_URL: url });
  for (const { phone, body } of ended) {
    const reply = await post(gateway.url, phone.session);
    if (reply.outcome !== 'replay' || reply.body !== body) t.fail('another answer', { body, reply });
  }
  // Whoever was cut off asks again, and is told the same account where there is one.
  const later = await Promise.all(
    open.map(async (phone) => {
      const again = phoneOn(gateway.url, phone.number);
      again.session = phone.session;
      const { body } = await post(gateway.url, phone.session);
      return { phone, body };
    }),
  );
  const confirmed = later.filter(({ body }) => body.startsWith('END'));
  t.ok(confirmed.every(({ body }) => OPEN.test(body)));
  const after = await counts(query);
  const all = [...ended, ...confirmed];
  t.equal(after.accounts, all.length, 'every END has exactly one account');
  t.match(after, { messages: all.length, jobs: all.length }, 'and exactly one message');
  t.equal(new Set(all.map(({ body }) => customerIdIn(body))).size, all.length, 'of its own');
  const phones = await query('select phone from account_phones group by phone having count(*) > 1');
  t.equal(phones.length, 0, 'no phone has two');
  for (const { phone, body } of all.slice(-8)) {
    t.match(await logIn(phoneOn(gateway.url, phone.number), customerIdIn(body)), ACCOUNT);
  }
  await eventually(
    'what was queued to be sent',
    async () => (await query(`select 1 from messages where state <> 'sent'`)).length === 0,
  );
});

t.test('on the embedded database', LONG_TIER, async (t) => {
  const gateway = await startGateway(t, { DATA_DIR: await embeddedDirectory(t) });
  const phones = Array.from({ length: 6 }, () => phoneOn(gateway.url));
  const ids = await Promise.all(phones.map((phone) => openAccount(phone)));
  t.equal(new Set(ids).size, phones.length, 'at once');
  for (const [i, phone] of phones.entries()) t.match(await logIn(phone, ids[i] as string), ACCOUNT);
  const phone = phoneOn(gateway.url);
  await phone.dial();
  t.equal(await phone.type('1', '1', '1'), SENT);
  t.notMatch(gateway.output(), /"level":"(error|fatal)"/, 'no fault was logged');
  await gateway.stop();
  t.match(gateway.output(), '"msg":"stopped"');
});

/** An engine of the IXO service in this process, and who types into it. */
async function ixo(
  db: Database,
  settings: Partial<Parameters<typeof openEngine>[1]>,
): Promise<{ engine: Engine; type(msisdn: string, ...texts: string[]): Promise<string> }> {
  const engine = await engineOn(db, {
    documents: shippedMenus(),
    codes: { codes: new Map([['*1234#', 'ixo']]), fallback: 'ixo' },
    ttl: 180_000,
    ...settings,
  });
  let sessions = 0;
  return {
    engine,
    type: async (msisdn, ...inputs) => {
      sessions += 1;
      const sessionId = `in-process-${sessions}`;
      let body = '';
      for (let n = 0; n <= inputs.length; n += 1) {
        const text = inputs.slice(0, n).join('*');
        const heard = { gateway: 'ixo', mode: 'cumulative' as const, sessionId, serviceCode: '*1234#' };
        const answer = await engine.takeTurn({ ...heard, msisdn, text }, deadlineIn(60_000));
        body = answer.outcome === 'invalid' ? 'invalid' : written(answer.screen);
      }
      return body;
    },
  };
}

const OPENING = ['2', '2', 'Ann Phiri', '00', PIN, PIN];

t.test('a Customer ID that is taken is drawn again', async (t) => {
  const { db, url } = await openDatabase(t);
  const drawn: string[] = [];
  const draws = ['AAAAAAAA', 'AAAAAAAA', 'AAAAAAAA', 'BBBBBBBB', 'AAAAAAAA', 'BBBBBBBB', 'CCCCCCCC'];
  const { type } = await ixo(db, {
    randomCode: (_alphabet, length) => {
      t.equal(length, 8);
      const next = draws[drawn.length] ?? 'DDDDDDDD';
      drawn.push(next);
      return next;
    },
  });
  const first = freshNumber();
  t.equal(customerIdIn(await type(first, ...OPENING)), 'CAAAAAAAA');
  t.equal(customerIdIn(await type(freshNumber(), ...OPENING)), 'CBBBBBBBB');
  t.equal(customerIdIn(await type(freshNumber(), ...OPENING)), 'CCCCCCCCC');
  t.same(drawn, draws, 'each was tried in turn');
  const query = await queryOn(t, url);
  t.equal((await query('select 1 from accounts')).length, 3);
  t.equal((await query('select 1 from messages')).length, 3, 'and what was drawn in vain left nothing');
  t.equal((await query('select 1 from effects')).length, 6);
  t.match(await type(first, '2', '1', 'caaaaaaaa', PIN), ACCOUNT);
});

t.test('around midnight, where openings hold a lock', async (t) => {
  const always = { midnightSeconds: 86_400 };
  const dials = async (type: (msisdn: string, ...texts: string[]) => Promise<string>) => {
    const screens = await Promise.all(Array.from({ length: scaled(40, 12) }, () => type(freshNumber(), '1')));
    t.same([...new Set(screens.map((screen) => screen.split('\n')[0]))], ['CON Information Center']);
    t.match(await type(freshNumber(), ...OPENING), OPEN);
  };
  await t.test('on Postgres', async (t) => {
    const { db } = await openDatabase(t);
    await dials((await ixo(db, always)).type);
  });
  await t.test('on the embedded database', LONG_TIER, async (t) => {
    const db = await openEmbeddedDatabase(await embeddedDirectory(t));
    t.teardown(() => db.close());
    await migrate(db.kysely, MIGRATIONS);
    await dials((await ixo(db, { ...always, ring: parseKeyRing(TEST_KEY) })).type);
  });
});
