/** PINs: tries that are counted, locks, support's commands, phones that are added, keys, and silence. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { Box } from '../src/seal/box.ts';
import { parseKeyRing } from '../src/seal/keys.ts';
import { Attempts } from '../src/store/attempts.ts';
import { foundIn, pinsIn, tables } from './support/canary.ts';
import { type Ran, command as run } from './support/command.ts';
import { openDatabase } from './support/engine.ts';
import { environment, type Gateway, post, refusalOf, startGateway, TEST_KEY } from './support/gateway.ts';
import {
  eventually,
  logIn,
  openAccount,
  type Phone,
  PIN,
  phoneOn,
  type Query,
  queryOn,
} from './support/phone.ts';
import { database } from './support/postgres.ts';
import { scaled } from './support/scale.ts';

const MAIN = join(import.meta.dirname, '..', 'src', 'main.ts');

const ACCOUNT = /^CON Your account\n/;
const ASKED = 'CON Enter your PIN\n0. Back';
const WRONG = `CON The Customer ID or PIN is wrong.\n${ASKED.slice(4)}`;
const FAREWELL = 'END Too many invalid answers. Please dial again.';
const LOCKED = 'END Too many tries. Please try again later or ask support.';
const UNAVAILABLE = 'END Service temporarily unavailable. Please try again later.';
const NEW_PIN = 'CON Choose a new PIN of 5 digits';
const AGAIN = 'CON Enter the same PIN again\n0. Back';

/** Wrong, and no two alike. */
const wrongPins = (count: number) => Array.from({ length: count }, (_, i) => String(60_000 + i * 7));

type Pair = { gateways: [Gateway, Gateway]; url: string; query: Query };

async function startPair(t: Test): Promise<Pair> {
  const { url } = await database(t);
  const settings = { DATABASE_URL: url, GATEWAYS: 'latest=latest' };
  const gateways = await Promise.all([startGateway(t, settings), startGateway(t, settings)]);
  return { gateways, url, query: await queryOn(t, url) };
}

/** A command of support beside the running service: what it says, and its exit code. */
const command = (url: string, words: string[], key = TEST_KEY) =>
  run({ DATABASE_URL: url, PIN_ENCRYPTION_KEY: key }, words);

/** The same by the program. */
function program(url: string, words: string[]): Promise<Ran> {
  const env = environment({ DATABASE_URL: url, PIN_ENCRYPTION_KEY: TEST_KEY });
  return new Promise((resolve) => {
    execFile(process.execPath, [MAIN, ...words], { env }, (error, said, complained) =>
      resolve({ code: error === null ? 0 : Number(error.code), said, complained }),
    );
  });
}

/** The newest message, opened as the service would. */
async function newestMessage(query: Query, key = TEST_KEY): Promise<string> {
  const [row] = await query<{ id: string; body: Buffer }>(
    'select id, body from sms_calls order by created_at desc limit 1',
  );
  const box = new Box(parseKeyRing(key), 'columns');
  return box.open(row?.body as Buffer, Buffer.from(`messages.body\0${row?.id}`)).toString();
}

/** How many tries were let through to the PIN, and how many were not. */
async function attempts(query: Query): Promise<{ checked: number; locked: number }> {
  const [row] = await query<{ checked: number; locked: number }>(`select
    count(*) filter (where not locked)::int as checked, count(*) filter (where locked)::int as locked
    from pin_attempts`);
  return row ?? { checked: -1, locked: -1 };
}

/** One try in a session of its own. */
async function tryPin(phone: Phone, id: string, pin: string): Promise<string> {
  await phone.dial();
  await phone.type(`2*1*${id}`);
  return phone.type(pin);
}

t.test('tries are counted before the PIN is checked, once each', async (t) => {
  const pair = await startPair(t);
  const { query } = pair;
  const [one, two] = pair.gateways;
  const url = (i: number) => (i % 2 ? one.url : two.url);
  const tries = async () =>
    (await query('select tries from pin_counters where tries > 0')).map((row) => row.tries);
  const fresh = () => query('truncate pin_attempts, pin_counters');

  await t.test('ten copies of one wrong PIN', async (t) => {
    const phone = phoneOn(one.url);
    const id = await openAccount(phone);
    await phone.dial();
    await phone.type('2', '1', id);
    const wrong = { ...phone.session, text: `${phone.session.text}*60000` };
    const replies = await Promise.all(Array.from({ length: 10 }, (_, i) => post(url(i), wrong)));
    t.same([...new Set(replies.map(({ body }) => body))], [WRONG], 'one verdict');
    t.same(await tries(), [1, 1], 'counted once for the account and once for the phone');
    t.same(await attempts(query), { checked: 1, locked: 0 });
    t.match(await post(two.url, wrong), { outcome: 'replay', body: WRONG });
    t.same(await tries(), [1, 1], 'nor is a late copy');

    await query(`update pin_counters set locked_until = now() + interval '1 hour'`);
    const rounds = scaled(5, 2);
    for (let round = 0; round < rounds; round += 1) {
      await phone.dial();
      await phone.type('2', '1', id);
      const right = { ...phone.session, text: `${phone.session.text}*${PIN}` };
      const refused = await Promise.all(Array.from({ length: 10 }, (_, i) => post(url(i), right)));
      t.same([...new Set(refused.map(({ body }) => body))], [LOCKED], 'of the right one, while it is locked');
    }
    t.same(await attempts(query), { checked: 1, locked: rounds });
    await fresh();
  });

  for (const way of [
    'of one screen',
    'in sessions of their own',
    'in the session of a gateway without ids',
    'under one id',
  ]) {
    await t.test(`many different wrong PINs at once, ${way}`, async (t) => {
      const phone = phoneOn(one.url);
      const id = await openAccount(phone);
      const pins = wrongPins(scaled(50, 20));
      const fields = { sessionId: `many ${way}`.replaceAll(' ', '-'), phoneNumber: phone.number };
      const latest = (i: number, text: string, requestId?: string) =>
        post(url(i), { ...fields, text, ...(requestId && { requestId }) }, '/api/ussd/via/latest');
      let bodies: string[];
      if (way === 'of one screen') {
        await phone.dial();
        await phone.type('2', '1', id);
        const { session } = phone;
        const asked = pins.map((pin, i) => post(url(i), { ...session, text: `${session.text}*${pin}` }));
        bodies = (await Promise.all(asked)).map(({ body }) => body);
      } else if (way === 'in sessions of their own') {
        bodies = await Promise.all(pins.map((pin, i) => tryPin(phoneOn(url(i), phone.number), id, pin)));
      } else {
        const named = way === 'under one id';
        for (const [i, text] of ['', '2', '1', id].entries())
          await latest(i, text, named ? `step-${i}` : undefined);
        const asked = pins.map((pin, i) => latest(i, pin, named ? 'the-pin' : undefined));
        bodies = (await Promise.all(asked)).map(({ body }) => body);
      }
      t.same(
        bodies.filter((body) => ![WRONG, LOCKED, FAREWELL, UNAVAILABLE].includes(body)),
        [],
        'nobody got in',
      );
      const { checked, locked } = await attempts(query);
      t.equal(checked, 3, 'three were checked');
      t.comment(
        `${locked} were refused, ${bodies.filter((body) => body === UNAVAILABLE).length} unavailable`,
      );
      t.same(await tries(), [3, 3]);
      t.equal(await tryPin(phoneOn(one.url, phone.number), id, PIN), LOCKED, 'the right PIN is refused now');
      t.equal(await tryPin(phoneOn(two.url, phone.number), id, PIN), LOCKED, 'by both');
      await fresh();
    });
  }
});

t.test('a copy of a try hears what the first was told, whatever has happened since', async (t) => {
  const { db, url } = await openDatabase(t);
  const query = await queryOn(t, url);
  const tries = new Attempts(db.kysely);
  const keys = [{ key: Buffer.alloc(16, 1), nobody: false }];
  const turn = (n: number) => Buffer.alloc(16, n);
  for (const n of [1, 2, 3]) t.equal(await tries.begin(turn(n), keys), true, `try ${n}`);
  t.equal(await tries.begin(turn(4), keys), false, 'locked');
  t.equal(await tries.begin(turn(3), keys), true, 'the third is checked again all the same');
  await query('update pin_counters set locked_until = null');
  t.equal(await tries.begin(turn(4), keys), false, 'and what was refused stays refused');
  t.same(await query('select tries from pin_counters'), [{ tries: 3 }], 'nothing of it was counted');
});

t.test('a try and a log-in do not wait for each other in a ring', async (t) => {
  const { db, url } = await openDatabase(t);
  const query = await queryOn(t, url);
  const tries = new Attempts(db.kysely);
  const [low, high] = [Buffer.alloc(16, 1), Buffer.alloc(16, 2)];
  // In the table the higher key stands first.
  for (const key of [high, low]) await tries.begin(key, [{ key, nobody: false }]);
  const waiting = (count: number) =>
    eventually(`${count} to wait`, async () => {
      const rows = await query(`select 1 from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'`);
      return rows.length === count;
    });
  const holder = await queryOn(t, url);
  await holder('begin');
  await holder('select 1 from pin_counters where key = $1 for update', [low]);
  const both = [low, high].map((key) => ({ key, nobody: false }));
  const trying = tries.begin(Buffer.alloc(16, 3), both);
  await waiting(1);
  const clearing = db.kysely.transaction().execute((tx) => tries.clear(tx, [low, high]));
  await waiting(2);
  await holder('commit');
  t.equal(await trying, true);
  await clearing;
  t.same(await query('select tries from pin_counters'), [{ tries: 0 }, { tries: 0 }]);
});

t.test('locks', async (t) => {
  const { url } = await database(t);
  const query = await queryOn(t, url);
  const start = () => startGateway(t, { DATABASE_URL: url });
  let gateway = await start();
  const here = () => gateway.url;
  const phone = phoneOn(here);
  const id = await openAccount(phone);
  const pins = wrongPins(40);

  const counters = (where = 'true') =>
    query<{ tries: number; minutes: number }>(`select tries,
      case when locked_until = 'infinity' then -1
        else ceil(extract(epoch from locked_until - now()) / 60)::int end as minutes
      from pin_counters where tries > 0 and ${where}`);
  const wrong = async () => tryPin(phone, id, pins.pop() as string);
  const later = () =>
    query(
      `update pin_counters set locked_until = now() - interval '1 second' where locked_until < 'infinity'`,
    );
  /** Both counters, of the account and of the phone. */
  const stand = async (tries: number, minutes: number | null, said: string) =>
    t.same(
      await counters(),
      [
        { tries, minutes },
        { tries, minutes },
      ],
      said,
    );

  await t.test('a right PIN clears', async (t) => {
    t.equal(await wrong(), WRONG);
    t.equal(await wrong(), WRONG);
    t.match(await tryPin(phone, id, PIN), ACCOUNT);
    t.same(await counters(), []);
    t.equal(await wrong(), WRONG);
    t.equal(await wrong(), WRONG);
    t.match(await tryPin(phone, id, PIN), ACCOUNT);
  });

  await t.test('3: for 15 minutes, whatever the subscriber does', async (t) => {
    await phone.dial();
    t.equal(await phone.type('2', '1', id, pins.pop() as string), WRONG);
    t.equal(await phone.type(pins.pop() as string), WRONG);
    t.equal(await phone.type(pins.pop() as string), FAREWELL);
    await stand(3, 15, 'locked');
    t.equal(await logIn(phone, id), LOCKED, 'a new dial does not unlock, and the right PIN is refused');
    t.equal(await logIn(phone, id.toLowerCase()), LOCKED);
    await gateway.stop();
    gateway = await start();
    t.equal(await logIn(phone, id), LOCKED, 'nor does a restart');
    t.equal(await wrong(), LOCKED);
    await stand(3, 15, 'while it is locked nothing is counted');
    await later();
    t.match(await logIn(phone, id), ACCOUNT, 'after that it is heard');
    t.same(await counters(), []);
  });

  await t.test('6: for a day; 10: until support unlocks', async (t) => {
    for (let n = 1; n <= 3; n += 1) await wrong();
    await later();
    for (let n = 4; n <= 6; n += 1) t.equal(await wrong(), WRONG);
    await stand(6, 24 * 60, 'six');
    t.equal(await logIn(phone, id), LOCKED);
    await later();
    for (let n = 7; n <= 9; n += 1) t.equal(await wrong(), WRONG);
    await stand(9, 0, 'nine');
    t.equal(await wrong(), WRONG);
    await stand(10, -1, 'ten');
    await later();
    t.equal(await logIn(phone, id), LOCKED, 'time does not help');

    t.match(await program(url, ['unlock', id.toLowerCase()]), { code: 0, said: /unlocked/ });
    t.same(await counters(), []);
    t.match(await logIn(phone, id), ACCOUNT, 'support does');
  });

  await t.test('support is told what it mistyped', async (t) => {
    for (const words of [
      ['unlock'],
      ['unlock', 'C1'],
      ['unlock', 'C99999999'],
      ['unlock', id, 'C99999999'],
      ['unlock', '+260971234567', '+260971234568'],
      ['pins:reset', 'C99999999'],
      ['pins:reset', id, id],
      ['pins:rotate', 'now'],
      ['unlokc', id],
      ['constructor'],
      ['__proto__'],
    ]) {
      const { code, said, complained } = await command(url, words);
      t.equal(code, 1, words.join(' '));
      t.equal(said, '');
      t.match(
        complained,
        /^(name the account|there is no such account|there is no command|say `[a-z:]+` alone)/,
      );
    }
    const programs = [
      ['migrate', 'again'],
      ['doctor', 'please'],
      ['unlock', 'C99999999'],
    ].map((words) => program(url, words));
    for (const { code, said, complained } of await Promise.all(programs)) {
      t.match({ code, said }, { code: 1, said: '' });
      t.match(complained, /no such account|say `[a-z:]+` alone/);
      t.notMatch(complained, / at .*\.ts/, 'in words');
    }
  });

  await t.test('a stranger cannot lock an account, and learns nothing', async (t) => {
    const unknown = 'C23456789';
    const walk = async (who: Phone, typed: string, all: string[]) => {
      const bodies: string[] = [];
      for (const pin of all) bodies.push(await tryPin(who, typed, pin));
      return bodies;
    };
    const stranger = () => phoneOn(here);
    const right = stranger();
    const own = await openAccount(right, { pin: '70529' });
    const told = await walk(right, id, [PIN, PIN, PIN, PIN]);
    t.same(told, [WRONG, WRONG, WRONG, LOCKED], 'with the right PIN');
    t.same(await walk(stranger(), id, wrongPins(4)), told, 'with wrong ones');
    t.same(await walk(stranger(), unknown, wrongPins(4)), told, 'and with an ID that nobody has');
    t.equal(await logIn(right, own, '70529'), LOCKED, 'the phone itself is locked');
    for (let n = 0; n < 4; n += 1) await walk(stranger(), id, wrongPins(3));
    t.match(await logIn(phone, id), ACCOUNT, 'the account is not');
    t.equal((await counters('not nobody')).length, 7, 'seven phones are');
    t.match(await command(url, ['unlock', own]), { code: 0 });
    t.match(await logIn(right, own, '70529'), ACCOUNT);
  });

  await t.test(
    'a session that an old PIN let in is out when it is changed, or the account is locked',
    async (t) => {
      await query('truncate pin_counters');
      const owner = phoneOn(here);
      const account = await openAccount(owner);
      const waiting = phoneOn(here, owner.number);
      const atNewPin = async (phone: Phone) => {
        await logIn(phone, account);
        return phone.type('2', PIN);
      };
      t.equal(await atNewPin(waiting), NEW_PIN, 'the thief waits where a new PIN is chosen');
      const reading = phoneOn(here, owner.number);
      t.match(await logIn(reading, account), ACCOUNT);
      const again = phoneOn(here, owner.number);
      await atNewPin(again);
      t.equal(await again.type('70529'), 'CON Enter the new PIN again');
      t.match(await command(url, ['pins:reset', account]), { code: 0 });
      const oneTime = / (\d{5})\./.exec(await newestMessage(query))?.[1] as string;
      t.equal(await waiting.type(oneTime), LOCKED, 'it can neither be tried there');
      t.equal(await again.type('70529'), LOCKED, 'nor be replaced');
      t.notMatch(await reading.type('1'), /Ann Phiri/, 'nor are the details shown any more');
      t.equal(await logIn(owner, account, oneTime), NEW_PIN, 'the one-time PIN stands');
      t.match(await owner.type('80417', '80417', '1', '1'), /Ann Phiri/, 'who has changed it goes on');

      const second = phoneOn(here, owner.number);
      await logIn(second, account, '80417');
      t.equal(await second.type('2', '80417'), NEW_PIN);
      for (let n = 0; n < 3; n += 1) await tryPin(owner, account, pins.pop() as string);
      t.equal(await second.type('61839'), LOCKED, 'nor is a PIN changed while the account is locked');
      t.match(await command(url, ['unlock', owner.number]), { code: 0, said: /The phone is unlocked/ });
      t.match(await command(url, ['unlock', account]), { code: 0 });
      t.match(await logIn(owner, account, '80417'), ACCOUNT);
    },
  );

  await t.test('pins:reset', async (t) => {
    await query('truncate pin_counters');
    const sent = phoneOn(here);
    const account = await openAccount(sent);
    for (let n = 0; n < 3; n += 1) await tryPin(sent, account, pins.pop() as string);
    const { code, said } = await command(url, ['pins:reset', account]);
    t.match({ code, said }, { code: 0, said: /one-time PIN is on its way/ });
    const oneTime = / (\d{5})\./.exec(await newestMessage(query))?.[1] as string;
    t.match(oneTime, /^\d{5}$/);
    t.notMatch(said, oneTime, 'support does not see it');
    await eventually(
      'the message to be sent',
      async () =>
        (await query(`select 1 from messages where cause = 'support' and state = 'queued'`)).length === 0,
    );
    t.equal(await logIn(sent, account), WRONG, 'the old PIN is no longer one');
    t.equal(
      await logIn(sent, account, oneTime),
      NEW_PIN,
      'the lock is gone, and a new PIN is asked for at once',
    );
    t.match(await sent.type('0'), NEW_PIN.slice(4), 'there is no way round it');
    t.match(await sent.type('00'), NEW_PIN.slice(4));
    t.equal(await sent.type(''), FAREWELL);
    t.equal(await logIn(sent, account, oneTime), NEW_PIN, 'nor by a new dial');
    t.equal(await sent.type(oneTime), `CON That is your PIN now. Choose another.\n${NEW_PIN.slice(4)}`);
    t.match(await sent.type('70529', '70529'), /^CON Your PIN has been changed/);
    t.match(await sent.type('1'), ACCOUNT);
    t.equal(await logIn(sent, account, oneTime), WRONG);
    t.match(await logIn(sent, account, '70529'), ACCOUNT, 'the new PIN is one for good');
  });

  await t.test('a second phone, by a code sent to the first', async (t) => {
    await query('truncate pin_counters');
    const owner = phoneOn(here);
    const account = await openAccount(owner);
    const second = phoneOn(here);
    const makeCode = async (typed: string) => {
      await logIn(owner, account);
      t.match(await owner.type('4', typed), /^CON We send you a code by SMS/);
      const text = await newestMessage(query);
      t.match(text, `from ${second.number},`, 'the message names the phone');
      return /Your code is (L[A-HJ-NP-Z2-9]{8})\./.exec(text)?.[1] as string;
    };
    // As it is dialled at home: the rest is the caller's own.
    const code = await makeCode(`0${second.number.slice(4)}`);
    t.equal(await logIn(phoneOn(here), code), WRONG, 'another phone cannot use it');
    t.equal(await logIn(owner, code), WRONG, 'nor the first one');
    t.equal(await logIn(second, code, '60000'), WRONG, 'the PIN must be right');
    t.equal(await logIn(second, account), WRONG, 'the Customer ID is not enough yet');
    const raced = await Promise.all(
      [0, 1].map(() => logIn(phoneOn(here, second.number), code.toLowerCase())),
    );
    t.equal(raced.filter((body) => ACCOUNT.test(body)).length, 1, 'once');
    t.equal(await logIn(second, code), WRONG, 'and not again');
    t.match(await logIn(second, account), ACCOUNT, 'the phone is bound');
    t.match(await logIn(owner, account), ACCOUNT, 'as is the first one');

    await query('truncate pin_counters');
    const late = await makeCode(second.number);
    await query(`update link_codes set expires_at = now() - interval '1 second' where used_at is null`);
    t.equal(await logIn(second, late), WRONG, 'a code is good for a while only');

    const full = phoneOn(here);
    for (let n = 0; n < 3; n += 1) await openAccount(full);
    await logIn(owner, account);
    await owner.type('4', full.number);
    const fourth = /L[A-HJ-NP-Z2-9]{8}/.exec(await newestMessage(query))?.[0] as string;
    t.equal(await logIn(full, fourth), 'END This phone has 3 accounts already. Log in to one of them.');

    await query('truncate pin_counters');
    const third = phoneOn(here);
    await query(`update messages set created_at = created_at - interval '1 day'`);
    await logIn(owner, account);
    await owner.type('4', third.number);
    const linking = /L[A-HJ-NP-Z2-9]{8}/.exec(await newestMessage(query))?.[0] as string;
    await command(url, ['pins:reset', account]);
    const oneTime = / (\d{5})\./.exec(await newestMessage(query))?.[1] as string;
    t.equal(await logIn(third, linking, oneTime), NEW_PIN, 'a one-time PIN is to be changed here too');
  });
});

t.test('a secret is typed, never walked, and never confirmed by its own copy', async (t) => {
  const pair = await startPair(t);
  const { query } = pair;
  const [one, two] = pair.gateways;
  const phone = phoneOn(one.url);
  const id = await openAccount(phone);
  const none = { checked: 0, locked: 0 };
  const say = (text: string, more: Record<string, string> = {}) =>
    post(two.url, { sessionId: phone.session.sessionId, phoneNumber: phone.number, text, ...more });
  const begin = async () => {
    await phone.dial();
    return say;
  };

  phone.session = { ...phone.session, sessionId: 'walk-1' };
  t.match(await say(`2*1*${id}*${PIN}`), { body: ASKED }, 'dialled through');
  t.match(await say(`2*1*${id}*${PIN}`), { outcome: 'replay', body: ASKED });
  t.same(await attempts(query), none);
  t.match((await say(`2*1*${id}*${PIN}*${PIN}`)).body, ACCOUNT, 'and then typed');
  await query('truncate pin_attempts, pin_counters');

  phone.session = { ...phone.session, sessionId: 'walk-2' };
  const code = { serviceCode: '*1234*2*1#' };
  t.match(await say(`${id}*${PIN}`, code), { body: ASKED }, 'behind a longer code');
  phone.session = { ...phone.session, sessionId: 'walk-3' };
  t.match(
    await say('', { serviceCode: `*1234*2*1*${id}*${PIN}#` }),
    { outcome: 'invalid' },
    'an ID is not dialled',
  );
  phone.session = { ...phone.session, sessionId: 'walk-4' };
  t.match(await say('2*2*Ann*00*48213*48213'), { body: 'CON Choose a PIN of 5 digits\n0. Back' });
  t.same(await attempts(query), none);

  await begin();
  await say('2');
  t.match(await say(`2*1*${id}*${PIN}*1`), { body: ASKED }, 'behind a request that was lost');
  t.same(await attempts(query), none);
  await begin();
  await say(`2*1*${id}`);
  t.match((await say(`2*1*${id}*${PIN}*1`)).body, /^CON Ann Phiri\n/, 'the first that is new is heard');
  await begin();
  await say('2*2*Ann*00');
  t.match(await say(`2*2*Ann*00*${PIN}*${PIN}`), { body: AGAIN }, 'and only the first');

  const before = (await query('select 1 from accounts')).length;
  await begin();
  await say('2*2*Ann*00');
  const copies = await Promise.all(
    Array.from({ length: 10 }, (_, i) =>
      post(pair.gateways[i % 2]?.url ?? '', { ...phone.session, text: `2*2*Ann*00*${PIN}` }),
    ),
  );
  t.same([...new Set(copies.map(({ body }) => body))], [AGAIN], 'ten copies of a new PIN');
  t.match(await say(`2*2*Ann*00*${PIN}`), { outcome: 'replay', body: AGAIN }, 'and a late one');
  for (const named of [true, false]) {
    const sessionId = `latest-${named}`;
    const press = (i: number, text: string) =>
      post(
        pair.gateways[i % 2]?.url ?? '',
        { sessionId, phoneNumber: phone.number, text, ...(named && { requestId: `press-${text}` }) },
        '/api/ussd/via/latest',
      );
    for (const text of ['', '2', ...(named ? [] : ['2']), 'Ann', '00']) {
      if (named && text === 'Ann') {
        await post(
          one.url,
          { sessionId, phoneNumber: phone.number, text: '2', requestId: 'again' },
          '/api/ussd/via/latest',
        );
      }
      // A second press of one key: later than a repeat would come.
      await query(`update turns set at = at - interval '2 seconds'`);
      await press(0, text);
    }
    const replies = await Promise.all(Array.from({ length: 10 }, (_, i) => press(i, PIN)));
    t.same(
      [...new Set(replies.map(({ body }) => body))],
      [AGAIN],
      `the newest input only, ${named ? 'with' : 'without'} an id`,
    );
  }
  t.equal((await query('select 1 from accounts')).length, before, 'no account came of it');
});

const K1 = 'k1:0123456789abcdef0123456789abcdef';
const K2 = 'k2:fedcba9876543210fedcba9876543210';

t.test('keys are rotated by two roll-outs, under load (decision 26)', async (t) => {
  const { url } = await database(t);
  const query = await queryOn(t, url);
  const start = (ring: string) => startGateway(t, { DATABASE_URL: url, PIN_ENCRYPTION_KEY: ring });
  const refused = async (ring: string, why: RegExp, said: string) => {
    const refusal = await refusalOf(t, { DATABASE_URL: url, PIN_ENCRYPTION_KEY: ring });
    t.match(refusal.said, [why], said);
    t.notMatch(refusal.output + refusal.said, ring.slice(3), 'without saying a key');
  };

  let gateway = await start(K1);
  const here = () => gateway.url;
  const accounts: { phone: Phone; id: string }[] = [];
  /** What every step leaves for the next one. */
  const leave = async () => {
    const loggedIn = phoneOn(here);
    accounts.push({ phone: loggedIn, id: await openAccount(loggedIn) });
    await logIn(loggedIn, accounts.at(-1)?.id ?? '');
    const halfWay = phoneOn(here);
    await halfWay.dial();
    t.equal(await halfWay.type('2', '2', 'Ann Phiri', 'ann@example.org', PIN), AGAIN);
    const linked = phoneOn(here);
    const linking = phoneOn(here, loggedIn.number);
    await logIn(linking, accounts.at(-1)?.id ?? '');
    await linking.type('4', linked.number);
    const code = async (ring: string) =>
      /L[A-HJ-NP-Z2-9]{8}/.exec(await newestMessage(query, ring))?.[0] as string;
    return { loggedIn, halfWay, linked, code };
  };

  let left = await leave();
  await refused(
    K1.replaceAll('0', 'x'),
    /another key under an id that this database knows/,
    'another key under the id',
  );
  await refused(K2, /lacks the key that this database was set up with/, 'another key');
  await refused('k3:0123456789abcdef0123456789abcdef', /lacks the key/, 'another id');
  for (const ring of [`${K1},${K2}`, `${K2},${K1}`, K2]) {
    await t.test(ring.replaceAll(/:[^,]*/g, ''), async (t) => {
      const code = await left.code(`${K1},${K2}`);
      const before = gateway;
      gateway = await start(ring);
      // While one is rolled out both rings are in use, and what one writes the other reads.
      for (const [writes, reads] of [
        [before, gateway],
        [gateway, before],
      ] as const) {
        const phone = phoneOn(writes.url);
        const id = await openAccount(phone);
        t.match(await logIn(phoneOn(reads.url, phone.number), id), ACCOUNT, 'beside the ring before');
        await phone.dial();
        await phone.type('2', '1', id);
        const { body } = await post(reads.url, { ...phone.session, text: `${phone.session.text}*${PIN}` });
        t.match(body, ACCOUNT, 'in one session');
      }
      await before.stop();
      for (const { phone, id } of accounts)
        t.match(await logIn(phoneOn(here, phone.number), id), ACCOUNT, 'log-in');
      t.match(await left.loggedIn.type('1'), /^CON Ann Phiri\nID: C/, 'who was logged in goes on');
      const end = await left.halfWay.type(PIN);
      t.match(end, /^END Your account is open/, 'so does who had typed the first PIN');
      accounts.push({ phone: left.halfWay, id: end.split('\n')[1]?.slice(-9) ?? '' });
      t.match(await logIn(left.linked, code), ACCOUNT, 'a code that was sent is good');
      t.match(await (await fetch(`${here()}/api/ussd/sessions`)).json(), { count: Number });
      const { sessionId } = left.loggedIn.session;
      const seen = await fetch(`${here()}/api/ussd/debug/${sessionId}`);
      t.equal(seen.status, 200, 'operators see the session of the step before');
      if (ring.startsWith(K2) && ring !== K2) {
        let done = false;
        const load = Promise.all(
          [0, 1, 2].map(async () => {
            const all: string[] = [];
            while (!done || all.length === 0) {
              const phone = phoneOn(here);
              const id = await openAccount(phone);
              all.push(await logIn(phone, id));
            }
            return all;
          }),
        );
        const { code: exit, said } = await command(url, ['pins:rotate'], ring);
        done = true;
        t.match({ exit, said }, { exit: 0, said: /\d+ records are sealed under k2 now/ });
        const screens = (await load).flat();
        t.ok(
          screens.every((body) => ACCOUNT.test(body)),
          `${screens.length} accounts were opened meanwhile`,
        );
        t.match(await command(url, ['pins:rotate'], ring), { said: /^0 records/ }, 'and once is enough');
        const under = await query<{
          kid: string;
        }>(`select distinct convert_from(substr(sealed, 2, 2), 'utf8') as kid from (
          select customer_id from accounts union all select name from accounts union all select pin from accounts
          union all select email from accounts where email is not null union all select msisdn from account_phones
          union all select msisdn from messages union all select body from sms_calls where body is not null
          union all select wrapped from digest_key) s(sealed)`);
        t.same(under, [{ kid: 'k2' }], 'nothing is left under the old key');
      }
      left = await leave();
    });
  }
  await refused(K1, /lacks the key/, 'the old ring');
});

t.test('a PIN is nowhere, and names and e-mails only sealed', async (t) => {
  const { url } = await database(t);
  const query = await queryOn(t, url);
  const gateway = await startGateway(t, { DATABASE_URL: url, GATEWAYS: 'latest=latest' });
  const pins = ['70529', '82637', '93745', '68192'];
  const names = ['Canaria Vogelsang', 'canaria.vogelsang@example.org', 'Vogelsang', 'anaria.vogel'];
  const [pin = '', changed = '', wrong = '', other = ''] = pins;
  const phone = phoneOn(gateway.url);
  const second = phoneOn(gateway.url);
  const account = { name: 'Canaria Vogelsang', email: 'canaria.vogelsang@example.org', pin };
  const id = await openAccount(phone, account);
  const same = await openAccount(second, { ...account, name: 'Vogelsang' });
  await logIn(phone, id, wrong);
  await logIn(phone, id, pin);
  await phone.type('1', '0', '2', pin, changed, other, changed, changed);
  await phone.dial();
  await phone.type(`2*1*${id}*${changed}`, changed, '2', changed, other);
  const newest = { sessionId: 'newest', phoneNumber: second.number };
  for (const text of ['', '2', '1', same, wrong, pin, '2', pin])
    await post(gateway.url, { ...newest, text }, '/api/ussd/via/latest');
  const pending = phoneOn(gateway.url);
  await pending.dial();
  await pending.type('2', '2', account.name, account.email, other);

  // The database fails in the middle: its errors quote rows.
  await query('alter table accounts add constraint canary check (id < 0) not valid');
  t.equal(await pending.type(other), UNAVAILABLE);
  await query('alter table accounts drop constraint canary');
  await query('alter table pin_attempts add constraint canary check (locked) not valid');
  t.equal(await logIn(phone, id, changed), UNAVAILABLE);
  await query('alter table pin_attempts drop constraint canary');

  const rows = await query<{ id: string; pin: Buffer }>('select id, pin from accounts order by id');
  t.equal(rows.length, 2);
  const debug: string[] = [];
  for (const { sessionId } of [phone.session, pending.session, newest]) {
    debug.push(await (await fetch(`${gateway.url}/api/ussd/debug/${sessionId}`)).text());
  }
  t.match(debug[0], /"state":/, 'operators see a session');
  t.same(pinsIn(debug.join('\n'), pins), [], 'and no PIN');
  const metrics = await (await fetch(`${gateway.url}/metrics`)).text();
  t.same([...pinsIn(metrics, pins), ...foundIn(metrics, names)], [], 'nor do the metrics say one, or a name');

  // Equal PINs; and a record that stands at another customer.
  const third = phoneOn(gateway.url);
  await openAccount(third, { pin });
  const [a, b, c] = await query<{ id: string; pin: Buffer }>('select id, pin from accounts order by id');
  t.notSame(b?.pin, c?.pin, 'equal PINs have different rows');
  await query('update accounts set pin = $1 where id = $2', [c?.pin, b?.id]);
  t.equal(await logIn(second, same, pin), UNAVAILABLE, 'a record that was moved does not open');
  t.match(await logIn(phone, id, changed), ACCOUNT, 'others do');
  await query('update accounts set pin = $1 where id = $2', [b?.pin, b?.id]);
  t.match(await logIn(second, same, pin), ACCOUNT);
  t.ok(a);

  const all = await tables(url);
  t.match(all, /accounts\.pin\n[0-9a-f]{100}/, 'the tables were read');
  t.same(foundIn(all, names), [], 'no table holds a name or an e-mail address in clear');
  t.same(pinsIn(all, pins), [], 'or a PIN');
  await gateway.stop();
  t.same(foundIn(gateway.output(), names), [], 'nor does the output');
  t.same(pinsIn(gateway.output(), pins), []);
  t.match(gateway.output(), /"level":"error"/, 'which tells of the faults');

  for (const form of ['utf8', 'hex', 'base64'] as const) {
    for (const before of ['"', '*1', 'xy', '*C2*']) {
      const hidden = Buffer.from(`${before.replace(/\d$/, '*')}${pin}*rest`).toString(form);
      t.same(pinsIn(`000${hidden}`, pins), [pin], `the search finds what is hidden as ${form}`);
    }
  }
});
