/**
 * A turn that follows one which the same instance has just taken needs no look-up: the insert asks what that would
 * have been asked (decision 22). Here two instances, and the database itself, do in between whatever it asks for.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'kysely';
import t, { type Test } from 'tap';
import { Column, date, float8 } from '../src/db/column.ts';
import type { Database } from '../src/db/database.ts';
import { deadlineIn } from '../src/deadline.ts';
import { EFFECTS } from '../src/effects/effect.ts';
import type { Engine } from '../src/engine.ts';
import type { Heard } from '../src/flow/heard.ts';
import type { Menu } from '../src/flow/menu.ts';
import { written } from '../src/gateways/screens.ts';
import { Parents } from '../src/store/parents.ts';
import { Reserved } from '../src/store/turn-rows.ts';
import { engineOn, menuOf, openDatabase } from './support/engine.ts';
import { CumulativeModel } from './support/model.ts';
import fc from './support/property.ts';
import { scaled } from './support/scale.ts';

const MAZE = (room = 'Room') =>
  menuOf(`
service: maze
root: hall
nodes:
  hall:
    choose: Hall
    options:
      - { key: 1, label: Room, to: room }
      - { key: '*', label: Out, to: out }
  room:
    choose: ${room}
    options:
      - { key: 1, label: Hall, to: hall }
      - { key: 2, label: Desk, to: desk }
  desk:
    ask: Write
    answer: { kind: text, min: 0, max: 12 }
    save: note
    to: read
  read:
    say: 'You wrote: {note}'
    options:
      - { key: 1, label: Hall, to: hall }
  out:
    end: Bye
`);

const CODES = { codes: new Map([['*7#', 'maze']]), fallback: 'maze' };
const PHONE = '+260970000001';
const TTL = 100_000;
const WROTE = 'ok CON Write';
const EXPIRED = 'ok END Session expired. Please dial again.';

/** An instance, and the names of the statements that it sends in batches. */
type Instance = { engine: Engine; sent: string[] };

async function instance(db: Database, settings: { menu?: Menu; ttl?: number } = {}): Promise<Instance> {
  const sent: string[] = [];
  const laneSql: Database['laneSql'] = (name, text, values) => {
    sent.push(name);
    return db.laneSql(name, text, values);
  };
  const { menu = MAZE(), ttl = TTL } = settings;
  const codes = { codes: new Map([['*7#', menu.service]]), fallback: menu.service };
  return { engine: await engineOn({ ...db, laneSql }, { documents: [menu], codes, ttl }), sent };
}

/** One session; both instances can be asked in it. */
function session() {
  const base = { gateway: 'ixo', mode: 'cumulative', sessionId: randomUUID() } as const;
  const ask = async ({ engine }: Instance, text: string, more: Partial<Heard> = {}): Promise<string> => {
    const heard: Heard = { ...base, msisdn: PHONE, serviceCode: '*7#', text, ...more };
    const answer = await engine.takeTurn(heard, deadlineIn(20_000));
    return answer.outcome === 'invalid' ? 'invalid' : `${answer.outcome} ${written(answer.screen)}`;
  };
  return { ...base, ask };
}

t.test('between a turn and the next', async (t) => {
  const { db } = await openDatabase(t);
  const a = await instance(db);
  const b = await instance(db);

  /** Both instances, a session in which the first has taken `''` and `1`, and its rows. */
  const stage = async (first = a) => {
    const { ask, gateway, sessionId } = session();
    await ask(first, '');
    await ask(first, '1');
    const key = a.engine.digests.session(gateway, sessionId);
    const rows = async () => {
      const { rows } = await sql<{ dial: number }>`
        select dial from turns where session_key = ${key} order by dial, hop`.execute(db.kysely);
      return rows.map(({ dial }) => dial);
    };
    first.sent.length = 0;
    return { ask, key, rows, gateway, sessionId };
  };

  await t.test('nothing has happened: one insert and no look-up', async (t) => {
    const { ask, rows } = await stage();
    t.equal(await ask(a, '1*2'), WROTE);
    t.equal(await ask(a, '1*2*a'), 'ok CON You wrote: a\n1. Hall');
    t.same(a.sent, ['turns_insert_many', 'turns_insert_many']);
    t.same(await rows(), [1, 1, 1, 1]);
    t.equal(await ask(b, '1*2*a*1'), 'ok CON Hall\n1. Room\n*. Out', 'another instance looks it up');
    t.same(b.sent.slice(-2), ['turns_look_up', 'turns_insert_many']);
  });

  await t.test('the same text has been heard', async (t) => {
    for (const other of [a, b]) {
      const { ask, rows } = await stage();
      t.equal(await ask(other, '1*2'), WROTE);
      t.equal(await ask(a, '1*2'), 'replay CON Write');
      t.same(await rows(), [1, 1, 1], 'and is a replay');
    }
  });

  await t.test('ten copies at once over both', async (t) => {
    const { ask, rows } = await stage();
    const all = await Promise.all(Array.from({ length: 10 }, (_, i) => ask(i % 2 ? a : b, '1*2')));
    t.same(all.sort(), [WROTE, ...Array.from({ length: 9 }, () => 'replay CON Write')]);
    t.same(await rows(), [1, 1, 1]);
  });

  await t.test('several inputs have come', async (t) => {
    const { ask, rows } = await stage();
    t.equal(await ask(a, '1*2*x'), 'ok CON You wrote: x\n1. Hall');
    t.same(await rows(), [1, 1, 1, 1], 'each has its row');
    t.equal(a.sent[0], 'turns_look_up');
  });

  await t.test('another phone asks, or another code', async (t) => {
    const { ask, rows } = await stage();
    t.equal(await ask(a, '1*2', { msisdn: '+260970000002' }), 'invalid');
    t.equal(await ask(a, '1*2', { serviceCode: '*8#' }), 'invalid');
    t.same(await rows(), [1, 1]);
  });

  await t.test('the dial has ended', async (t) => {
    const { ask } = await stage();
    t.equal(await ask(b, '*'), 'ok END Bye');
    t.equal(await ask(a, '1*2'), 'replay END Bye');
  });

  await t.test('the dial was closed', async (t) => {
    const { ask, gateway, sessionId } = await stage();
    const date = new Date(Date.now() + 1000).toISOString().replace(/\.\d+/, '');
    const notice = {
      gateway,
      sessionId,
      msisdn: PHONE,
      serviceCode: '*7#',
      status: 'Success' as const,
      date,
    };
    t.equal(await b.engine.takeNotice(notice, deadlineIn(20_000)), 'stored');
    t.equal(await ask(a, '1*2'), EXPIRED);
  });

  await t.test('there is a newer dial', async (t) => {
    const { ask, key, rows } = await stage();
    const older = sql`update turns set at = at - interval '40 s' where session_key = ${key} and hop = 0`;
    await older.execute(db.kysely);
    t.match(await ask(b, ''), 'ok CON Hall');
    t.equal(await ask(a, '1*2'), WROTE);
    t.same(await rows(), [1, 1, 2, 2, 2], 'the text is heard in that one');
  });

  await t.test('the dial was opened over a day ago', async (t) => {
    const { ask, key, rows } = await stage();
    const older = sql`update turns set at = at - interval '25 h' where session_key = ${key} and hop = 0`;
    await older.execute(db.kysely);
    t.equal(await ask(a, '1*2'), WROTE);
    t.same(await rows(), [1, 1, 2, 2, 2], 'a new one was dialled through');
  });

  await t.test('the dial has been idle for too long', async (t) => {
    const short = await instance(db, { ttl: 400 });
    const { ask } = await stage(short);
    await sleep(500);
    t.equal(await ask(short, '1*2'), EXPIRED);
  });

  await t.test('the turn is gone', async (t) => {
    const { ask, key, rows } = await stage();
    await sql`delete from turns where session_key = ${key} and hop = 1`.execute(db.kysely);
    t.equal(await ask(a, '1*2'), WROTE);
    t.same(await rows(), [1, 1, 1], 'it was heard again');
  });

  await t.test('another turn stands in its place', async (t) => {
    const { ask, key } = await stage();
    await sql`delete from turns where session_key = ${key}`.execute(db.kysely);
    const other = await instance(db, { menu: MAZE('Another room') });
    await ask(other, '');
    t.match(await ask(other, '1'), 'ok CON Another room');
    t.match(await ask(a, '1*7'), /^ok CON Invalid choice.*\nAnother room/, 'that one is followed');
  });

  await t.test('the process has slept', async (t) => {
    let slept = 0;
    const laneSql: Database['laneSql'] = (name, text, values) => {
      // As if what is sent now had been asked for before a pause.
      const late = values.map((value, i) =>
        i === 13
          ? new Column(
              float8,
              (value as Column<number>).values.map((at) => at - slept),
            )
          : value,
      );
      return db.laneSql(name, text, name === 'turns_insert_many' ? late : values);
    };
    const settings = { documents: [MAZE()], codes: CODES, ttl: TTL };
    const sleeper = { engine: await engineOn({ ...db, laneSql }, settings), sent: [] };
    const { ask, rows } = await stage(sleeper);
    slept = 12;
    await t.rejects(ask(sleeper, '1*2'), { code: 'contested' }, 'what it knew is not written');
    t.same(await rows(), [1, 1]);
  });
});

t.test('what is looked up all the same', async (t) => {
  const { db } = await openDatabase(t);
  const looksUp = async (menu: Menu, texts: string[], more: Partial<Heard> = {}) => {
    const one = await instance(db, { menu });
    const { ask } = session();
    for (const text of texts.slice(0, -1)) await ask(one, text, more);
    one.sent.length = 0;
    await ask(one, texts.at(-1) ?? '', more);
    return one.sent[0] === 'turns_look_up';
  };
  const pin = menuOf(`
service: safe
root: ask
nodes:
  ask:
    choose: Hello
    options: [{ key: 1, label: PIN, to: pin }, { key: 2, label: Out, to: out }]
  pin:
    ask: PIN
    answer: { kind: newPin }
    save: pin
    to: [{ when: { verdict: good }, to: out }, { to: out }]
  out: { end: Bye }
`);
  t.notOk(await looksUp(pin, ['', '1']), 'a plain step is not');
  t.ok(await looksUp(pin, ['', '1', '1*73952']), 'a secret');
  const tongues = menuOf(
    `
service: tongues
languages: [en, fr]
root: ask
nodes:
  ask:
    choose: { en: Hello, fr: Bonjour }
    options: [{ key: 1, label: Language, to: tongue }, { key: 2, label: Out, to: out }]
  tongue:
    choose: { en: Language, fr: Langue }
    options:
      - { key: 1, label: Francais, to: [{ to: out, effects: [{ rememberLanguage: { language: fr } }] }] }
      - { key: 2, label: Out, to: out }
  out: { end: { en: Bye, fr: Adieu } }
`,
    { facts: {}, effects: EFFECTS },
  );
  t.notOk(await looksUp(tongues, ['', '1']), 'a plain step is not');
  t.ok(await looksUp(tongues, ['', '1', '1*1']), 'what makes something happen');
  t.ok(await looksUp(pin, ['', '']), 'an opening');
});

/** An opening is presumed to be new where the database's clock is known, and the insert asks (decision 22). */
t.test('an opening', async (t) => {
  const { db } = await openDatabase(t);
  const HALL = 'ok CON Hall\n1. Room\n*. Out';
  const a = await instance(db);
  const b = await instance(db);
  for (const one of [a, b]) await session().ask(one, '');
  const ONE_INSERT = ['turns_insert_many'];
  const LOOKED_UP = ['turns_insert_many', 'turns_look_up', 'turns_insert_many'];
  /** What an opening is answered, and by which statements; `before`: what has happened in its session. */
  const opens = async (
    before: (one: ReturnType<typeof session>) => Promise<void>,
    more: Partial<Heard> = {},
  ) => {
    const one = session();
    await before(one);
    a.sent.length = 0;
    const answer = await one.ask(a, '', more);
    return { answer, sent: [...a.sent] };
  };
  const nothing = async () => {};
  const keyOf = ({ gateway, sessionId }: { gateway: string; sessionId: string }) =>
    a.engine.digests.session(gateway, sessionId);

  t.same(await opens(nothing), { answer: HALL, sent: ONE_INSERT }, 'of a new session: one insert');

  await t.test('of a session that another instance has opened', async (t) => {
    const opened = async (one: ReturnType<typeof session>) => void (await one.ask(b, ''));
    t.same(await opens(opened), { answer: HALL.replace('ok', 'replay'), sent: LOOKED_UP.slice(0, 2) });
    const ended = async (one: ReturnType<typeof session>) => {
      await one.ask(b, '');
      await one.ask(b, '*');
      await sql`update turns set at = at - interval '1 minute' where session_key = ${keyOf(one)}`.execute(
        db.kysely,
      );
    };
    t.same(await opens(ended), { answer: HALL, sent: LOOKED_UP }, 'and that is over: a second dial');
    const yesterday = async (one: ReturnType<typeof session>) => {
      await one.ask(b, '');
      await sql`update turns set day = day - 1 where session_key = ${keyOf(one)}`.execute(db.kysely);
    };
    // A seal opens on its own day only: that it is tried is what shows that the dial was found.
    await t.rejects(opens(yesterday), { code: 'seal_broken' }, 'yesterday');
    t.same(a.sent, LOOKED_UP.slice(0, 2));
  });

  await t.test('of a session of which there is a reserved row only', async (t) => {
    for (const address of Object.values(Reserved)) {
      const reserved = async (one: ReturnType<typeof session>) => {
        await one.ask(b, '');
        await sql`update turns set address = ${address}, outcome = 9, ended = true
          where session_key = ${keyOf(one)}`.execute(db.kysely);
      };
      const { sent } = await opens(reserved);
      t.same(sent.slice(0, 2), LOOKED_UP.slice(0, 2), 'is looked up');
    }
  });

  await t.test('of a caller who has chosen a language', async (t) => {
    const msisdn = '+260970000077';
    const phone = a.engine.digests.phone(msisdn);
    await sql`insert into subscribers (phone, language) values (${phone}, 'fr')`.execute(db.kysely);
    t.same(await opens(nothing, { msisdn }), { answer: HALL, sent: LOOKED_UP });
  });

  await t.test('ten copies at once over both', async (t) => {
    const one = session();
    const all = await Promise.all(Array.from({ length: 10 }, (_, i) => one.ask(i % 2 ? a : b, '')));
    t.same(all.sort(), [HALL, ...Array.from({ length: 9 }, () => HALL.replace('ok', 'replay'))]);
    const { rows } = await sql`select 1 from turns where session_key = ${keyOf(one)}`.execute(db.kysely);
    t.equal(rows.length, 1, 'one row');
  });

  await t.test('near midnight, or when no clock is known, is looked up', async (t) => {
    const sent: string[] = [];
    const laneSql: Database['laneSql'] = (name, text, values) => {
      sent.push(name);
      return db.laneSql(name, text, values);
    };
    const settings = { documents: [MAZE()], codes: CODES, ttl: TTL };
    const careful = {
      engine: await engineOn({ ...db, laneSql }, { ...settings, midnightSeconds: 43_200 }),
      sent,
    };
    for (const when of ['at first', 'near midnight']) {
      sent.length = 0;
      t.equal(await session().ask(careful, ''), HALL);
      t.equal(sent[0], 'turns_look_up', when);
    }
  });

  await t.test('of another day, or asked for too long ago, is not written as it was presumed', async (t) => {
    for (const [index, change] of [
      [1, () => new Column(date, ['2026-01-01'])],
      [
        13,
        (value: unknown) =>
          new Column(
            float8,
            (value as Column<number>).values.map((at) => at - 12),
          ),
      ],
    ] as [number, (value: unknown) => unknown][]) {
      let changed = 0;
      const laneSql: Database['laneSql'] = (name, text, values) => {
        const presumed = name === 'turns_insert_many' && (values[18] as Column<boolean>).values[0] === true;
        if (!presumed) return db.laneSql(name, text, values);
        changed += 1;
        return db.laneSql(
          name,
          text,
          values.map((value, i) => (i === index ? change(value) : value)),
        );
      };
      const wrong = {
        engine: await engineOn({ ...db, laneSql }, { documents: [MAZE()], codes: CODES, ttl: TTL }),
        sent: [],
      };
      await session().ask(wrong, '');
      const one = session();
      t.equal(await one.ask(wrong, ''), HALL);
      t.equal(changed, 1);
      const { rows } = await sql<{ today: boolean }>`select day = (now() at time zone 'utc')::date as today
        from turns where session_key = ${keyOf(one)}`.execute(db.kysely);
      t.same(rows, [{ today: true }], 'but as it was looked up');
    }
  });
});

/** The model knows nothing of instances: whoever hears a request, the answer is the same. */
t.test('two instances, every conversation as the model says', async (t) => {
  const { db } = await openDatabase(t);
  const both = [await instance(db), await instance(db)] as const;
  const text = fc.constantFrom('1', '1', '2', '*', '', '9', 'again', 'start', '1*2');
  const story = fc.array(fc.record({ text, at: fc.constantFrom(0, 0, 1) }), { minLength: 2, maxLength: 12 });
  let followed = 0;
  const numRuns = scaled(300);
  await fc.assert(
    fc.asyncProperty(story, async (story) => {
      const began = performance.now();
      const { ask } = session();
      const model = new CumulativeModel(MAZE(), TTL, []);
      let last = '';
      for (const { text, at } of story) {
        const one = both[at as 0 | 1];
        const typed =
          text === 'again' ? last : text === 'start' ? '' : last === '' ? text : `${last}*${text}`;
        const expected = model.hear({ phone: PHONE, code: '*7#', text: typed });
        one.sent.length = 0;
        const got = await ask(one, typed);
        fc.pre(performance.now() - began < 4_000);
        if (got !== expected) throw new Error(`${typed}\n  expected ${expected}\n  got      ${got}`);
        if (one.sent.length === 1 && one.sent[0] === 'turns_insert_many') followed += 1;
        last = typed;
      }
    }),
    { numRuns, maxSkipsPerRun: 500 },
  );
  t.ok(followed > numRuns / 10, `${followed} turns were taken without a look-up`);
});

t.test('what is kept is little, and for a moment', async (t: Test) => {
  const turn = (sealed = 10) => ({ memory: { sealed: Buffer.alloc(sealed) } }) as never;
  const name = (n: number) => Buffer.of(n);
  const isKept = (parents: Parents, n: number) => parents.find(name(n)) !== undefined;

  const few = new Parents({ sessions: 2 });
  for (const n of [1, 2, 3, 4]) few.keep(name(n), turn());
  t.same(
    [1, 2, 3, 4, 5].map((n) => isKept(few, n)),
    [true, true, true, true, false],
    'two generations',
  );
  few.keep(name(5), turn());
  t.same(
    [1, 2, 3, 4, 5].map((n) => isKept(few, n)),
    [false, false, true, true, true],
    'the oldest goes',
  );

  const small = new Parents({ bytes: 100 });
  for (const n of [1, 2, 3, 4]) small.keep(name(n), turn(99));
  small.keep(name(5), turn(99));
  t.same(
    [1, 3, 5].map((n) => isKept(small, n)),
    [false, true, true],
    'bytes count too',
  );

  const brief = new Parents({ generationMs: 20 });
  brief.keep(name(1), turn());
  t.ok(isKept(brief, 1));
  await sleep(100);
  t.notOk(isKept(brief, 1), 'forgotten although nobody else came');
  few.forget(name(5));
  t.notOk(isKept(few, 5));
});
