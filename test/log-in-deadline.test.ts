/** Every wait on the way of a log-in ends with the request's deadline, and holds no slot for longer. */
import { randomBytes } from 'node:crypto';
import pg from 'pg';
import t from 'tap';
import { deadlineIn } from '../src/deadline.ts';
import { openKeeping } from '../src/engine.ts';
import { type Heard, makeJudge } from '../src/judge.ts';
import { Box } from '../src/seal/box.ts';
import { parseKeyRing } from '../src/seal/keys.ts';
import { PendingPins, PinSlots } from '../src/seal/pin.ts';
import { openDatabase } from './support/engine.ts';
import { TEST_KEY } from './support/gateway.ts';

t.test('a database that does not answer', async (t) => {
  const { url, db } = await openDatabase(t);
  const ring = parseKeyRing(TEST_KEY);
  const limits = { dailyMax: 1_000, prefixes: [] };
  const keeping = await openKeeping(db, { ring, digestKey: undefined, messages: limits, book: 'demo' });
  const judge = makeJudge({
    ...keeping,
    db: db.kysely,
    slots: new PinSlots(1, 64, 20),
    pending: new PendingPins(new Box(ring, 'pins')),
    checked: () => {},
  });
  const logIn = (milliseconds: number) =>
    judge({
      ask: { answer: { kind: 'pin' } },
      typed: '48213',
      state: { vars: { customerId: 'CABCDEFGH' } },
      msisdn: '+260971234567',
      caller: keeping.digests.phone('+260971234567'),
      turn: randomBytes(16),
      deadline: deadlineIn(milliseconds),
    } as unknown as Heard);
  const stranger = new pg.Client({ connectionString: url });
  await stranger.connect();
  t.teardown(() => stranger.end());

  for (const table of ['pin_counters', 'pin_attempts', 'accounts']) {
    await stranger.query(`begin; lock table ${table} in access exclusive mode`);
    const began = performance.now();
    const asked = [logIn(300), logIn(300), logIn(300)].map((one) => one.catch(({ code }) => code));
    const codes = await Promise.all(asked);
    t.ok(
      codes.includes('deadline') && codes.every((code) => /^(deadline|pins_busy)$/.test(code)),
      `${table}: ${codes}`,
    );
    // A lock of the database is waited for 2 s.
    t.ok(performance.now() - began < 1_500, 'they are told by their deadline');
    t.equal(await logIn(50).catch(({ code }) => code), 'deadline', 'and the slot is free at once');
    await stranger.query('rollback');
    t.same(await logIn(20_000), { verdict: 'wrong' });
    const counted = await db.kysely.selectFrom('pin_counters').select('tries').orderBy('tries').execute();
    t.same(counted, [{ tries: 1 }, { tries: 1 }], 'what was not checked was not counted');
    await db.kysely.deleteFrom('pin_counters').where('nobody', 'is not', null).execute();
  }
});
