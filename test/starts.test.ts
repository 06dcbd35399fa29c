/** Which requests open a dial and which repeat one: the dialled code as a text, ids, expired dials (decisions 4, 7, 38). */
import { randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import t from 'tap';
import { deadlineIn } from '../src/deadline.ts';
import type { Heard } from '../src/flow/heard.ts';
import { isDialledCode } from '../src/flow/service-code.ts';
import { written } from '../src/gateways/screens.ts';
import { engineOn, menuOf, openDatabase } from './support/engine.ts';

const MENU = (service: string, root: string) =>
  menuOf(`
service: ${service}
root: hall
nodes:
  hall:
    choose: ${root}
    options:
      - { key: 1, label: Room, to: room }
      - { key: 3, label: Out, to: out }
  room:
    choose: Room
    options:
      - { key: 2, label: Hall, to: hall }
  out:
    end: Bye
`);
const NOTE = menuOf(`
service: note
root: desk
nodes:
  desk:
    ask: Write
    answer: { kind: text, min: 1, max: 20 }
    save: note
    to: read
  read:
    end: 'You wrote: {note}'
`);

const TTL = 100_000;
const HALL = 'CON Hall\n1. Room\n3. Out';
const OTHER = 'CON Other\n1. Room\n3. Out';
const ROOM = 'CON Room\n2. Hall';
const EXPIRED = 'END Session expired. Please dial again.';
const PHONE = '+260970000001';

const codes = new Map([
  ['*384#', 'hall'],
  ['*385#', 'other'],
  ['*386#', 'note'],
  ['*384*7*1#', 'other'],
]);

const { db } = await openDatabase(t);
const settings = {
  documents: [MENU('hall', 'Hall'), MENU('other', 'Other'), NOTE],
  codes: { codes, fallback: 'hall' },
  ttl: TTL,
};
const engines = [await engineOn(db, settings), await engineOn(db, { ...settings, midnightSeconds: 86_400 })];

type Request = { text: string; code?: string; id?: string; phone?: string };

/** A session of its own; what is asked in it, and how its rows are made older. */
function session(mode: Heard['mode'], engine = engines[0]) {
  if (engine === undefined) throw new Error('no engine');
  const sessionId = randomUUID();
  const gateway = mode === 'latest' ? 'xyz' : 'ixo';
  return {
    ask: async ({ text, code = '*384#', id, phone = PHONE }: Request) => {
      const heard = { gateway, mode, sessionId, msisdn: phone, serviceCode: code, text };
      const answer = await engine.takeTurn({ ...heard, ...(id && { requestId: id }) }, deadlineIn(20_000));
      return answer.outcome === 'invalid'
        ? `invalid ${answer.fault}`
        : `${answer.outcome} ${written(answer.screen)}`;
    },
    pass: async (milliseconds: number) => {
      const key = engine.digests.session(gateway, sessionId);
      await sql`update turns set at = at - ${milliseconds} * interval '1 ms' where session_key = ${key}`.execute(
        db.kysely,
      );
    },
  };
}

t.test('the dialled code is told from other texts', (t) => {
  for (const code of ['*384#', '*384*1#', '*1*384#']) {
    const inner = code.slice(1, -1);
    for (const text of [code, inner, `*${inner}`, `${inner}#`]) t.ok(isDialledCode(text, code), text);
    for (const text of [`${code} `, ` ${inner}`, code.replaceAll('*', '＊')])
      t.ok(isDialledCode(text, code), text);
    const others = [
      '',
      '*',
      '#',
      '*#',
      `${inner}*`,
      `*${code}`,
      `${code}#`,
      inner.slice(1),
      inner.slice(0, -1),
    ];
    for (const text of [...others, `${inner}1`, `${code}1`, '385', '384*', `${code} 1`])
      t.notOk(isDialledCode(text, code), `${text} of ${code}`);
  }
  t.end();
});

for (const [name, engine] of [
  ['', engines[0]],
  [', around midnight', engines[1]],
] as const) {
  t.test(`a first text that is the code opens a dial, and its repeats are replays${name}`, async (t) => {
    for (const mode of ['cumulative', 'latest'] as const) {
      for (const text of ['*384#', '384', '*384', '384#']) {
        const { ask, pass } = session(mode, engine);
        t.equal(await ask({ text }), `ok ${HALL}`, `${mode} ${text}`);
        t.equal(await ask({ text }), `replay ${HALL}`, 'at once');
        await pass(20_000);
        t.equal(await ask({ text }), `replay ${HALL}`, 'and later');
        t.equal(await ask({ text: '1' }), `ok ${ROOM}`, 'then the menu as always');
        if (mode === 'cumulative') t.equal(await ask({ text }), `replay ${HALL}`, 'a late start');
        t.equal(await ask({ text: mode === 'latest' ? '2' : '1*2' }), `ok ${HALL}`);
        await pass(31_000);
        if (mode === 'cumulative') t.equal(await ask({ text }), `ok ${HALL}`, 'a new dial after 30 s');
      }
    }
  });
}

t.test('what is dialled through with the code stays dialled through', async (t) => {
  for (const text of ['*384*1#', '384*1', '*384*1', '384*1#']) {
    for (const mode of ['cumulative', 'latest'] as const) {
      const { ask, pass } = session(mode);
      const code = '*384*1#';
      t.equal(await ask({ text, code }), `ok ${ROOM}`, `${mode} ${text}`);
      t.equal(await ask({ text, code }), `replay ${ROOM}`);
      await pass(2_000);
      t.equal(await ask({ text, code }), `replay ${ROOM}`, 'and later');
      t.equal(await ask({ text: '2', code }), `ok ${HALL}`);
    }
  }
  const empty = session('latest');
  t.equal(await empty.ask({ text: '', code: '*384*1#' }), `ok ${ROOM}`);
  t.equal(await empty.ask({ text: '', code: '*384*1#' }), `replay ${ROOM}`, 'a repeat is told the same');
  await empty.pass(2_000);
  t.equal(await empty.ask({ text: '', code: '*384*1#' }), `replay ${ROOM}`);
  const registered = session('cumulative');
  t.equal(
    await registered.ask({ text: '384*7*1', code: '*384*7*1#' }),
    `ok ${OTHER}`,
    'a code with segments',
  );
  t.equal(await registered.ask({ text: '384*7*1', code: '*384*7*1#' }), `replay ${OTHER}`);
  const through = session('cumulative');
  t.match(await through.ask({ text: '384', code: '*385#' }), /^ok CON Invalid/, 'another code is an input');
});

t.test('a gateway that goes on behind the code is heard', async (t) => {
  for (const first of ['*384#', '384']) {
    const { ask } = session('cumulative');
    t.equal(await ask({ text: first }), `ok ${HALL}`);
    t.equal(await ask({ text: `${first}*1` }), `ok ${ROOM}`);
    t.equal(await ask({ text: `${first}*1*2` }), `ok ${HALL}`);
    t.equal(await ask({ text: `${first}*1` }), `replay ${ROOM}`);
  }
});

t.test('in a dial that was opened otherwise the code is an input', async (t) => {
  for (const mode of ['cumulative', 'latest'] as const) {
    const { ask } = session(mode);
    const code = '*386#';
    t.equal(await ask({ text: '', code }), 'ok CON Write');
    t.equal(await ask({ text: '386', code }), 'ok END You wrote: 386', mode);
    t.equal(await ask({ text: '386', code }), 'replay END You wrote: 386');
  }
});

t.test('the code opens anew where the dial before is over', async (t) => {
  for (const mode of ['cumulative', 'latest'] as const) {
    for (const start of ['', '*384#']) {
      const { ask, pass } = session(mode);
      await ask({ text: start });
      t.equal(await ask({ text: '3' }), 'ok END Bye');
      await pass(6_000);
      t.equal(await ask({ text: '*384#' }), `ok ${HALL}`, `${mode}, after an END`);
      await pass(TTL + 1_000);
      t.equal(await ask({ text: '*384#' }), `ok ${HALL}`, 'expired');
      await pass(TTL + 1_000);
      t.equal(
        await ask({ text: '*384#', phone: '+260970000002' }),
        `ok ${HALL}`,
        'expired, by another phone',
      );
      await pass(25 * 3_600_000);
      t.equal(await ask({ text: '384', phone: '+260970000002' }), `ok ${HALL}`, 'after a day');
    }
  }
});

t.test('an id is looked up first: for an empty input, and once the dial is over', async (t) => {
  const { ask, pass } = session('latest');
  t.equal(await ask({ text: '', id: 'a1' }), `ok ${HALL}`);
  t.equal(await ask({ text: '1', id: 'a2' }), `ok ${ROOM}`);
  t.match(await ask({ text: '', id: 'a3' }), /^ok CON Invalid choice/, 'an empty input of an open dial');
  t.match(await ask({ text: '', id: 'a3' }), /^replay CON Invalid choice/);
  t.match(await ask({ text: '', id: 'a4' }), /^ok CON Invalid choice/);
  t.match(await ask({ text: '', id: 'a5' }), /^ok END/, 'the third one ends it');
  t.match(await ask({ text: '', id: 'a5' }), /^replay END/);
  await pass(10_000);
  t.match(await ask({ text: '', id: 'a5' }), /^replay END/, 'also long after the END');
  t.equal(await ask({ text: '', id: 'a1' }), `replay ${HALL}`, 'its first screen too');
  t.equal(await ask({ text: '1', id: 'a2' }), `replay ${ROOM}`);
  await pass(TTL + 1_000);
  t.match(await ask({ text: '', id: 'a5' }), /^replay END/, 'and when it has expired');
  t.match(await ask({ text: '', id: 'a3' }), /^replay CON Invalid choice/);
  t.equal(
    await ask({ text: '', id: 'a5', phone: '+260970000002' }),
    `ok ${HALL}`,
    'but not for another phone',
  );

  const code = session('latest');
  t.equal(await code.ask({ text: '384', id: 'b1' }), `ok ${HALL}`);
  t.equal(await code.ask({ text: '3', id: 'b2' }), 'ok END Bye');
  await code.pass(10_000);
  t.equal(await code.ask({ text: '384', id: 'b1' }), `replay ${HALL}`, 'the code with a known id');
  t.equal(await code.ask({ text: '384', id: 'b3' }), `ok ${HALL}`, 'and with a new one');
  t.match(
    await code.ask({ text: '', id: 'b3', code: '*385#' }),
    'invalid serviceCode',
    'binding comes before it',
  );
});

t.test('after expiry another service code is shown nothing of the dial before', async (t) => {
  for (const mode of ['cumulative', 'latest'] as const) {
    const known = mode === 'latest' ? { text: '3', id: 'k2' } : { text: '1*9' };
    const dial = async (end: boolean) => {
      const it = session(mode);
      t.equal(await it.ask({ text: '', id: 'k0' }), `ok ${HALL}`);
      t.equal(await it.ask({ text: '1', id: 'k1' }), `ok ${ROOM}`);
      if (end) t.match(await it.ask({ ...known, text: mode === 'latest' ? '9' : '1*9' }), /^ok CON Invalid/);
      await it.pass(TTL + 1_000);
      return it;
    };
    for (const text of mode === 'latest' ? ['1', '9'] : ['1', '1*9', '1*9*9', '7']) {
      const { ask } = await dial(true);
      t.equal(await ask({ text, id: 'k1', code: '*385#' }), `ok ${EXPIRED}`, `${mode} ${text}`);
      t.equal(await ask({ text, id: 'k9', code: '*385#' }), `ok ${EXPIRED}`);
      t.match(await ask({ text: '1', id: 'k1' }), `replay ${ROOM}`, 'the opener is told what it was told');
      t.equal(await ask({ text: '', code: '*385#', id: 'k0' }), `ok ${OTHER}`, 'an empty text opens');
      t.equal(await ask({ text: '1', code: '*385#', id: 'n1' }), `ok ${ROOM}`);
    }
    const { ask } = await dial(false);
    t.equal(await ask({ text: '*385#', code: '*385#' }), `ok ${OTHER}`, 'and so does the code');
  }
});

t.test('an END within a time to live of seconds is not shown to another service code either', async (t) => {
  const short = await engineOn(db, { ...settings, ttl: 1_000 });
  const { ask, pass } = session('cumulative', short);
  t.equal(await ask({ text: '' }), `ok ${HALL}`);
  t.equal(await ask({ text: '3' }), 'ok END Bye');
  await pass(2_000);
  t.equal(await ask({ text: '', code: '*385#' }), `ok ${OTHER}`);
});

t.test('a request that is not of its session is named by the field that says so', async (t) => {
  for (const mode of ['cumulative', 'latest'] as const) {
    const { ask } = session(mode);
    await ask({ text: '' });
    t.equal(await ask({ text: '1', phone: '+260970000009' }), 'invalid phoneNumber');
    t.equal(await ask({ text: '1', code: '*385#' }), 'invalid serviceCode');
  }
  const { ask } = session('cumulative');
  t.equal(await ask({ text: '1*2*1*2*1*2*1*2*1*2*1' }), 'invalid text');
});
