/** kill -9 at any moment loses no answered turn and doubles none (docs/contract.md section 1). */
import t, { type Test } from 'tap';
import { embeddedDirectory } from './support/embedded.ts';
import { type GatewayProcess, post, type Reply, startQuickProcess } from './support/gateway.ts';
import { database, startPostgres } from './support/postgres.ts';
import { LONG_TIER, SCALE, scaled } from './support/scale.ts';

/** Subscribers who dial at the same time. */
const SUBSCRIBERS = scaled(40, 20);
/** Turns to be answered before the plug is pulled. */
const ANSWERED = scaled(1_000, 150);

/** What each of them types, turn by turn; the third code dials through. None of the screens depends on luck. */
const JOURNEYS = [
  ['', '1', '1*2', '1*2*0', '1*2*0*3', '1*2*0*3*9', '1*2*0*3*9*0'],
  ['', '2', '2*0', '2*0*1', '2*0*1*1', '2*0*1*1**'],
  ['1*3', '1*3*0', '1*3*0*2', '1*3*0*2*7', '1*3*0*2*7*7', '1*3*0*2*7*7*7'],
];

type Turn = { sessionId: string; phoneNumber: string; text: string };
type Answered = Turn & { body: string };

type Load = {
  answered: Answered[];
  /** Asked, and never answered. */
  open: Turn[];
  outcomes: Set<string | null>;
  /** Resolves when every subscriber has given up, because nobody answers any more. */
  over: Promise<unknown>;
};

/** Many subscribers step through their journeys, one session after the other, until the process is gone. */
function load(url: string, name: string): Load {
  const answered: Answered[] = [];
  const open: Turn[] = [];
  const outcomes = new Set<string | null>();
  const subscriber = async (who: number) => {
    for (let session = 0; ; session += 1) {
      const journey = JOURNEYS[(who + session) % JOURNEYS.length] ?? [];
      for (const text of journey) {
        const phoneNumber = `+2547000${String(who).padStart(5, '0')}`;
        const turn = { sessionId: `${name}-${who}-${session}`, phoneNumber, text };
        let reply: Reply;
        try {
          reply = await post(url, turn);
        } catch {
          open.push(turn);
          return;
        }
        outcomes.add(reply.outcome);
        // The outage of a database that was killed: not an answer to be kept.
        if (reply.outcome === 'unavailable') {
          open.push(turn);
          return;
        }
        answered.push({ ...turn, body: reply.body });
      }
    }
  };
  return {
    answered,
    open,
    outcomes,
    over: Promise.all(Array.from({ length: SUBSCRIBERS }, (_, i) => subscriber(i))),
  };
}

async function until(condition: () => boolean, milliseconds: number, what: string): Promise<void> {
  const end = performance.now() + milliseconds;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`waited ${milliseconds} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Asks again where a busy machine was not in time: that says nothing of what was kept. */
async function patient(url: string, turn: Turn): Promise<Reply> {
  let reply = await post(url, turn);
  for (let tries = 1; reply.outcome === 'unavailable' && tries < 5; tries += 1) reply = await post(url, turn);
  return reply;
}

/** Everything that was answered is answered again with the same bytes; what was open can be asked again. */
async function checkReplays(t: Test, url: string, { answered, open }: Load): Promise<void> {
  const screens = new Map<string, string>();
  const strange: unknown[] = [];
  // After an END, or half a minute, a start is a new dial: only where nothing followed it can it be asked again
  // at any time. The others are there as well, or what followed them would not be replayed.
  const followed = new Set(
    [...answered, ...open].filter(({ text }) => text !== '').map(({ sessionId }) => sessionId),
  );
  const turns = answered.filter(({ sessionId, text }) => text !== '' || !followed.has(sessionId));
  for (let at = 0; at < turns.length; at += SUBSCRIBERS) {
    await Promise.all(
      turns.slice(at, at + SUBSCRIBERS).map(async ({ body, ...turn }) => {
        const reply = await patient(url, turn);
        const good = reply.body === body && reply.outcome === 'replay';
        if (!good) strange.push({ turn, body, reply: { outcome: reply.outcome, body: reply.body } });
        const same = screens.get(turn.text) ?? body;
        if (same !== body) strange.push({ turn, body, elsewhere: same });
        screens.set(turn.text, body);
      }),
    );
  }
  t.same(strange.slice(0, 3), [], `${answered.length} answered turns are replayed byte for byte`);

  const lost: unknown[] = [];
  for (const turn of open) {
    const reply = await patient(url, turn);
    const good = reply.outcome === 'ok' || reply.outcome === 'replay';
    const right = reply.body === (screens.get(turn.text) ?? reply.body);
    if (!good || !right) lost.push({ turn, reply: { outcome: reply.outcome, body: reply.body } });
  }
  t.same(lost.slice(0, 3), [], `${open.length} turns without an answer can be asked again`);
}

/** One round: load, the plug, a new start, and the same questions. Returns the new process. */
async function round(
  t: Test,
  name: string,
  gateway: GatewayProcess,
  pull: () => Promise<void>,
  start: () => Promise<GatewayProcess>,
): Promise<GatewayProcess> {
  const under = load(gateway.url, name);
  await until(() => under.answered.length >= ANSWERED, 30_000, `${ANSWERED} answers`);
  await pull();
  await under.over;
  t.ok(under.open.length > 0, 'the plug was pulled in the middle of turns');
  t.notOk(under.outcomes.has('replay'), 'nothing was a replay before');
  const began = performance.now();
  const next = await start();
  t.comment(
    `${name}: ${under.answered.length} answered, up again in ${Math.round(performance.now() - began)} ms`,
  );
  await checkReplays(t, next.url, under);
  return next;
}

t.test('on Postgres', async (t) => {
  const server = await startPostgres({ own: true, fsync: true });
  t.teardown(() => server.stop());
  const { url } = await database(t, { server: server.url });
  const start = () => startQuickProcess(t, { DATABASE_URL: url, SESSION_TTL_SECONDS: '3600' });
  let gateway = await start();

  await t.test('the process is killed', async (t) => {
    gateway = await round(t, 'process', gateway, () => gateway.kill(), start);
  });

  await t.test('Postgres is killed, and the process goes on', async (t) => {
    const again = async () => {
      await server.restart();
      return gateway;
    };
    gateway = await round(
      t,
      'server',
      gateway,
      () => server.kill(),
      async () => {
        const same = await again();
        // Within 5 s of its return the database is used again; test/outage.test.ts measures it.
        for (let tries = 0; tries < 50; tries += 1) {
          if ((await post(same.url, { sessionId: `awake-${tries}` })).outcome === 'ok') break;
          await new Promise((resolve) => setTimeout(resolve, 100));
        }
        return same;
      },
    );
    t.equal(gateway.child.exitCode, null, 'it is the same process');
  });

  await t.test('both are killed', async (t) => {
    const pull = async () => {
      await Promise.all([server.kill(), gateway.kill()]);
    };
    gateway = await round(t, 'both', gateway, pull, async () => {
      await server.restart();
      return start();
    });
  });
});

t.test('on the embedded database', LONG_TIER, async (t) => {
  const directory = await embeddedDirectory(t);
  const start = () => startQuickProcess(t, { DATA_DIR: directory, SESSION_TTL_SECONDS: '3600' });
  let gateway = await start();
  for (const name of SCALE < 1 ? ['first'] : ['first', 'second']) {
    await t.test(`the process is killed: ${name} time`, async (t) => {
      gateway = await round(t, name, gateway, () => gateway.kill(), start);
    });
  }
});
