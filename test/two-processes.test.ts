/** Two instances on one database: a turn happens once, whoever hears it (docs/contract.md section 1). */
import pg from 'pg';
import t, { type Test } from 'tap';
import {
  type Fields,
  type Gateway,
  post,
  type Reply,
  startGateway,
  startProcess,
} from './support/gateway.ts';
import { database } from './support/postgres.ts';
import { scaled } from './support/scale.ts';

/** How often two processes are started on an empty database. */
const ROUNDS = scaled(3);
/** Sessions that press their keys at the same time. */
const CROWD = 5;
/** How often a gateway repeats itself in these tests. */
const COPIES = 10;

const ROOT = 'CON Welcome to IXO USSD\n1. Know More\n2. Account Menu\n*. Exit';
const KNOW_MORE = 'CON Information Center\n1. About this service\n2. Pricing\n3. Delivery\n*. Exit';
const PRICING = /^CON Pricing\n/;
const GOODBYE = 'END Thank you for using IXO USSD. Goodbye.';
const INVALID = 'END Invalid input. Please try again.';

type Pair<Instance extends Gateway = Gateway> = {
  gateways: [Instance, Instance];
  url: string;
  count(): Promise<number>;
};

/** Two instances started at the same moment, on an empty database where they are processes. */
async function startPair<Instance extends Gateway>(
  t: Test,
  start: (t: Test, settings: Record<string, string>) => Promise<Instance>,
  settings: Record<string, string> = {},
): Promise<Pair<Instance>> {
  const { url } = await database(t, { empty: start === (startProcess as unknown) });
  const all = { ...settings, DATABASE_URL: url };
  const gateways = await Promise.all([start(t, all), start(t, all)]);
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => {});
  await client.connect();
  t.teardown(() => client.end());
  const count = async () => {
    const { rows } = await client.query<{ count: number }>('select count(*)::int as count from turns');
    return rows[0]?.count ?? -1;
  };
  return { gateways, url, count };
}

let shared: Promise<Pair> | undefined;
/** Two instances inside this process, for all tests that are not about processes. */
function sharedPair(): Promise<Pair> {
  shared ??= startPair(t, startGateway, { GATEWAYS: 'lat=latest' });
  return shared;
}

/** The same request `copies` times at once, spread over both instances. */
function atOnce({ gateways }: Pair, fields: Fields, copies = COPIES): Promise<Reply[]> {
  return Promise.all(
    Array.from({ length: copies }, (_, i) => post((gateways[i % 2] as Gateway).url, fields)),
  );
}

/** One of them happened, the others are told the same. Returns what they were told. */
function onceOnly(t: Test, replies: Reply[], message: string): string {
  t.same(
    replies.map((reply) => reply.outcome).sort(),
    ['ok', ...Array.from({ length: replies.length - 1 }, () => 'replay')],
    `${message}: happened once`,
  );
  t.equal(new Set(replies.map((reply) => reply.body)).size, 1, `${message}: the same bytes`);
  t.ok(
    replies.every((reply) => reply.status === 200),
    `${message}: status 200`,
  );
  return replies[0]?.body ?? '';
}

t.test('both come up on an empty database, every time', async (t) => {
  for (let round = 1; round <= ROUNDS; round += 1) {
    const pair = await startPair(t, startProcess);
    for (const { url } of pair.gateways) {
      t.equal((await fetch(`${url}/health`)).status, 200, `round ${round}`);
      t.equal((await post(url, { sessionId: `up-${url}` })).body, ROOT);
    }
    if (round === ROUNDS) {
      const [one, two] = pair.gateways;
      t.not(one.child.pid, two.child.pid, 'two processes');
      t.equal(onceOnly(t, await atOnce(pair, { sessionId: 'p', text: '' }), 'opening'), ROOT);
      t.equal(onceOnly(t, await atOnce(pair, { sessionId: 'p', text: '1' }), 'step'), KNOW_MORE);
      t.equal(onceOnly(t, await atOnce(pair, { sessionId: 'p', text: '1**' }), 'end'), GOODBYE);
    }
    await Promise.all(pair.gateways.map((gateway) => gateway.kill()));
  }
});

t.test('ten copies at once over two instances', async (t) => {
  const pair = await sharedPair();
  const [one, two] = pair.gateways;

  await t.test('of an opening, of a step and of an END', async (t) => {
    const before = await pair.count();
    t.equal(onceOnly(t, await atOnce(pair, { sessionId: 'a', text: '' }), 'opening'), ROOT);
    t.equal(onceOnly(t, await atOnce(pair, { sessionId: 'a', text: '1' }), 'step'), KNOW_MORE);
    t.match(onceOnly(t, await atOnce(pair, { sessionId: 'a', text: '1*2' }), 'step'), PRICING);
    t.equal(onceOnly(t, await atOnce(pair, { sessionId: 'a', text: '1*2**' }), 'end'), GOODBYE);
    t.equal((await pair.count()) - before, 4, 'four turns, four rows');
    const late = await post(two.url, { sessionId: 'a', text: '1' });
    t.match(late, { outcome: 'replay', body: KNOW_MORE }, 'a late duplicate, after the END');
    t.match(
      await post(one.url, { sessionId: 'a', text: '1*3' }),
      { outcome: 'replay', body: GOODBYE },
      'a new text after the END',
    );
  });

  await t.test('of a code that is dialled through', async (t) => {
    const before = await pair.count();
    t.match(onceOnly(t, await atOnce(pair, { sessionId: 'b', text: '1*2' }), 'walk'), PRICING);
    t.equal((await pair.count()) - before, 3, 'one row for every text that was passed');
    for (const { url } of pair.gateways) {
      t.match(await post(url, { sessionId: 'b', text: '1' }), { outcome: 'replay', body: KNOW_MORE });
    }
    t.match(
      await post(two.url, { sessionId: 'b', text: '1*2*0' }),
      { outcome: 'ok', body: KNOW_MORE },
      'and goes on',
    );
  });

  await t.test('of a walk over a request that was lost', async (t) => {
    const before = await pair.count();
    await post(one.url, { sessionId: 'c', text: '' });
    t.match(onceOnly(t, await atOnce(pair, { sessionId: 'c', text: '1*2' }), 'walk'), PRICING);
    t.equal((await pair.count()) - before, 3);
    t.match(
      await post(two.url, { sessionId: 'c', text: '1' }),
      { outcome: 'replay', body: KNOW_MORE },
      'the lost one comes late',
    );
    t.equal((await pair.count()) - before, 3, 'and adds nothing');
  });

  await t.test('of forty sessions in parallel', async (t) => {
    const before = await pair.count();
    const sessions = Array.from({ length: scaled(40, 8) }, (_, i) => `many-${i}`);
    const steps = [
      { text: '', rows: 1 },
      { text: '2', rows: 1 },
      { text: '2*0*1*3', rows: 3 },
      { text: '2*0*1*3*7', rows: 1 },
    ];
    for (const { text } of steps) {
      const all = await Promise.all(sessions.map((sessionId) => atOnce(pair, { sessionId, text })));
      const outcomes = all.map((replies) => replies.filter((reply) => reply.outcome === 'ok').length);
      t.same([...new Set(outcomes)], [1], `"${text}": every session took it once`);
      const replays = all.flat().filter((reply) => reply.outcome === 'replay').length;
      t.equal(replays, sessions.length * (COPIES - 1), `"${text}": and replayed the rest`);
      t.equal(new Set(all.flat().map((reply) => reply.body)).size, 1, `"${text}": the same bytes`);
    }
    const rows = steps.reduce((sum, step) => sum + step.rows, 0) * sessions.length;
    t.equal((await pair.count()) - before, rows);
  });
});

t.test('different texts of one session at once', async (t) => {
  const pair = await sharedPair();
  const urls = pair.gateways.map((gateway) => gateway.url);
  const url = (i: number) => urls[i % 2] as string;

  await t.test('a text, and texts that go on from it', async (t) => {
    const longest = '1*2*0*3*0*1*0*2*0';
    const texts = ['', ...Array.from({ length: 9 }, (_, i) => longest.slice(0, 2 * i + 1))];
    const expected = new Map<string, string>();
    for (const text of texts) expected.set(text, (await post(url(0), { sessionId: 'in-order', text })).body);
    const sessions = Array.from({ length: scaled(15, 4) }, (_, i) => `mixed-${i}`);
    const before = await pair.count();
    await Promise.all(
      sessions.map(async (sessionId, s) => {
        const replies = await Promise.all(
          [...texts, ...texts].map((text, i) => post(url(i + s), { sessionId, text })),
        );
        const bodies = replies.map((reply) => reply.body);
        t.same(
          bodies,
          [...texts, ...texts].map((text) => expected.get(text)),
          sessionId,
        );
      }),
    );
    t.equal((await pair.count()) - before, sessions.length * texts.length, 'one row each');
  });

  await t.test('choices that exclude each other, an END among them', async (t) => {
    const sessions = Array.from({ length: scaled(30, 6) }, (_, i) => `torn-${i}`);
    for (const [s, sessionId] of sessions.entries()) {
      await post(url(s), { sessionId, text: '' });
      const race = ['1', '2', '*', '9'].flatMap((text) => [text, text]);
      const replies = await Promise.all(
        race.map(async (text, i) => ({ text, ...(await post(url(i), { sessionId, text })) })),
      );
      for (const { text, outcome, body } of replies) {
        if (!['ok', 'replay'].includes(outcome ?? '')) t.fail(`${sessionId} "${text}": ${outcome}`);
        const again = await post(url(s), { sessionId, text });
        if (again.body !== body || again.outcome !== 'replay') {
          t.fail(`${sessionId} "${text}" was answered in two ways`, { before: body, after: again.body });
        }
      }
    }
    t.pass('whatever was answered once is answered again');
  });

  await t.test('two phones want the same session id', async (t) => {
    const sessions = Array.from({ length: scaled(30, 6) }, (_, i) => `wanted-${i}`);
    const before = await pair.count();
    const phones = ['+254711000001', '+254711000002'];
    const all = await Promise.all(
      sessions.map((sessionId, s) =>
        Promise.all(
          Array.from({ length: COPIES }, async (_, i) => {
            const phoneNumber = phones[(i >> 1) % 2] as string;
            return { phoneNumber, ...(await post(url(i + s), { sessionId, phoneNumber, text: '' })) };
          }),
        ),
      ),
    );
    for (const [s, replies] of all.entries()) {
      const [winner] = replies.filter((reply) => reply.outcome === 'ok');
      const own = replies.filter((reply) => reply.phoneNumber === winner?.phoneNumber);
      const other = replies.filter((reply) => reply.phoneNumber !== winner?.phoneNumber);
      onceOnly(t, own, sessions[s] as string);
      t.ok(
        other.every((reply) => reply.body === INVALID && reply.outcome === 'invalid'),
        'the other phone learns nothing',
      );
    }
    t.equal((await pair.count()) - before, sessions.length);
  });
});

t.test('a session belongs to the phone and the service code that opened it', async (t) => {
  const pair = await sharedPair();
  const [one, two] = pair.gateways;
  const strangers: [string, Fields][] = [
    ['another phone', { phoneNumber: '+260971234568' }],
    ['another service code', { serviceCode: '*999#' }],
    ['the same service by another code', { serviceCode: '*1234*1#' }],
    ['another phone and code', { phoneNumber: '+254700000000', serviceCode: '*999#' }],
  ];
  for (const state of ['open', 'ended'] as const) {
    for (const [name, stranger] of strangers) {
      await t.test(`${name} on a session that is ${state}`, async (t) => {
        const sessionId = `${state}-${name.replaceAll(' ', '-')}`;
        await post(one.url, { sessionId, text: '' });
        await post(one.url, { sessionId, text: '1' });
        const last = { sessionId, text: state === 'open' ? '1*2' : '1**' };
        const { body } = await post(one.url, last);
        t.match(body, state === 'open' ? PRICING : GOODBYE);
        const before = await pair.count();
        for (const text of ['', '1', last.text, '1*2*0', '2', '*', '9*9*9', '1*2*3*4*5*6*7*8*9*0*1*2']) {
          for (const { url } of [one, two]) {
            const reply = await post(url, { sessionId, ...stranger, text });
            t.match(reply, { status: 200, outcome: 'invalid', body: INVALID }, `"${text}"`);
          }
        }
        t.equal(await pair.count(), before, 'no row came of it');
        t.match(await post(two.url, last), { outcome: 'replay', body }, 'the owner notices nothing');
        const next = await post(two.url, { sessionId, text: `${last.text}*0` });
        t.equal(next.outcome, state === 'open' ? 'ok' : 'replay');
      });
    }
  }
});

t.test(
  'gateways that send the newest input only: an id happens once, and inputs one after the other',
  async (t) => {
    const { gateways } = await sharedPair();
    const press = (instance: number, sessionId: string, text: string, requestId?: string) =>
      post((gateways[instance % 2] as Gateway).url, { sessionId, text, requestId }, '/api/ussd/via/lat');
    const ids = ['i1', 'i2', 'i1', 'i2', 'i1', 'i2', 'i1', 'i1'];
    const wrong: unknown[] = [];
    const oneSession = async (number: number) => {
      const sessionId = `linear-${number}`;
      await press(0, sessionId, '');
      const replies = await Promise.all(ids.map((id, i) => press(i, sessionId, '1', id)));
      const bodies = ['i1', 'i2'].map((id) => {
        const own = replies.filter((_, i) => ids[i] === id);
        const happened = own.filter(({ outcome }) => outcome === 'ok').length;
        const said = new Set(own.map(({ body }) => body));
        if (happened !== 1 || said.size !== 1) wrong.push({ sessionId, id, happened, said: [...said] });
        return [...said][0] ?? '';
      });
      // Two presses of 1, one after the other: the Information Center, and then its first page.
      const [first = '', second = ''] = bodies.sort((a, b) =>
        a.startsWith(KNOW_MORE) ? -1 : b.startsWith(KNOW_MORE) ? 1 : 0,
      );
      if (first !== KNOW_MORE || !second.startsWith('CON About')) wrong.push({ sessionId, first, second });
    };
    const sessions = scaled(120, 20);
    for (let from = 0; from < sessions; from += CROWD) {
      await Promise.all(Array.from({ length: CROWD }, (_, i) => oneSession(from + i)));
    }
    t.same(wrong.slice(0, 3), [], `in ${sessions} sessions`);
  },
);
