/** Turns of one moment travel together, and none of them pays for another (src/store/lane.ts). */
import { sql } from 'kysely';
import t from 'tap';
import { deadlineIn } from '../src/deadline.ts';
import type { Heard } from '../src/flow/heard.ts';
import { Lane } from '../src/store/lane.ts';
import { dropPartitions, makePartitions } from '../src/store/partitions.ts';
import { engineOn, menuOf, openDatabase } from './support/engine.ts';

const HALL = menuOf(`
service: hall
root: hall
nodes:
  hall:
    choose: Hall
    options: [{ key: 1, label: Out, to: out }]
  out: { end: Bye }
`);
const CODES = { codes: new Map([['*7#', 'hall']]), fallback: 'hall' };
const SETTINGS = { documents: [HALL], codes: CODES, ttl: 100_000 };

const heard = (sessionId: string, more: Partial<Heard> = {}): Heard => ({
  gateway: 'ixo',
  mode: 'cumulative',
  sessionId,
  msisdn: '+260970000001',
  serviceCode: '*7#',
  text: '',
  ...more,
});

const soon = deadlineIn(20_000);

t.test('what waits is bounded: newcomers are shed before it grows', async (t) => {
  const { promise: answered, resolve: answer } = Promise.withResolvers<void>();
  const sizes: number[] = [];
  const lane = new Lane<number, number>(
    async (items) => {
      sizes.push(items.length);
      await answered;
      return items.map((item) => -item);
    },
    async (item) => item,
  );
  const first = lane.add(0, soon);
  await new Promise((resolve) => setImmediate(resolve));
  const waiting = Array.from({ length: 4_000 }, (_, i) => lane.add(i + 1, soon));
  await t.rejects(lane.add(4_001, soon), { code: 'shed' });
  const late = deadlineIn(0);
  answer();
  t.equal(await first, -0);
  t.same(
    await Promise.all(waiting),
    Array.from({ length: 4_000 }, (_, i) => -i - 1),
    'each gets its own',
  );
  t.equal(Math.max(...sizes), 256, 'no batch is larger');
  await t.rejects(lane.add(1, late), { code: 'deadline' }, 'who is late is not sent');
  t.equal(await lane.add(5, soon), -5, 'and newcomers are let in again');
});

t.test('a row that cannot be written fails alone', async (t) => {
  const { db } = await openDatabase(t);
  const engine = await engineOn(db, SETTINGS);
  const outcomes = await Promise.all(
    Array.from({ length: 20 }, async (_, i) => {
      // No network has such a code: no column holds it.
      const turn = heard(`many-${i}`, i === 7 ? { networkCode: 9_000_000_000 } : {});
      return engine.takeTurn(turn, soon).then(
        ({ outcome }) => outcome,
        (error: { code?: string }) => error.code,
      );
    }),
  );
  t.same(
    outcomes,
    Array.from({ length: 20 }, (_, i) => (i === 7 ? '22003' : 'ok')),
  );
});

t.test('two that want one place in one batch: only one is told that it has it', async (t) => {
  const { db } = await openDatabase(t);
  const engine = await engineOn(db, SETTINGS);
  const phones = ['+260970000001', '+260970000002'];
  const answers = await Promise.all(
    phones.map((msisdn) => engine.takeTurn(heard('wanted', { msisdn }), soon)),
  );
  t.same(answers.map(({ outcome }) => outcome).sort(), ['invalid', 'ok']);
});

t.test('a turn ends at its deadline, whatever the database does', async (t) => {
  const { db } = await openDatabase(t);
  const engine = await engineOn(db, SETTINGS);
  const { promise: over, resolve: end } = Promise.withResolvers<void>();
  const { promise: held, resolve: hold } = Promise.withResolvers<void>();
  const stranger = db.kysely.transaction().execute(async (tx) => {
    await sql`lock table turns in access exclusive mode`.execute(tx);
    hold();
    await over;
  });
  await held;
  // Long before any limit of the database's own.
  await t.rejects(engine.takeTurn(heard('late'), deadlineIn(100)), { code: 'deadline' });
  end();
  await stranger;
  t.equal((await engine.takeTurn(heard('late'), soon)).outcome, 'ok');
});

t.test('partitions', async (t) => {
  const { db } = await openDatabase(t);
  const engine = await engineOn(db, SETTINGS);
  const names = async () => {
    const { rows } = await sql<{ name: string }>`
      select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
      where i.inhparent = 'turns'::regclass order by 1`.execute(db.kysely);
    return rows.map(({ name }) => name);
  };
  const made = await names();
  t.equal(made.length, 6, 'last week, this one and four ahead');

  // As it is when nobody has made any for five weeks.
  for (const name of made) await sql`drop table ${sql.table(name)}`.execute(db.kysely);
  const outcomes = await Promise.all(
    Array.from({ length: 20 }, async (_, i) => (await engine.takeTurn(heard(`week-${i}`), soon)).outcome),
  );
  t.same(new Set(outcomes), new Set(['ok']), 'the turn that finds none makes them');
  t.same(await names(), made);

  await sql`drop table ${sql.table(made.at(-1) ?? '')}`.execute(db.kysely);
  t.same(await makePartitions(db.kysely), made.slice(-1), 'the daily job makes the week that is new');
  await sql`create table turns_20200106 partition of turns
    for values from ('2020-01-06') to ('2020-01-13')`.execute(db.kysely);
  t.same(await dropPartitions(db.kysely, 35), ['turns_20200106'], 'and drops the one that is too old');
  t.same(await names(), made);
});
