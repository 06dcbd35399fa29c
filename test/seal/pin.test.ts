import { test } from 'tap';
import { deadlineIn } from '../../src/deadline.ts';
import { UNAMBIGUOUS } from '../../src/flow/answer.ts';
import { Box } from '../../src/seal/box.ts';
import { parseKeyRing } from '../../src/seal/keys.ts';
import {
  hashPin,
  isWeakPin,
  matchesPin,
  oneTimePin,
  PendingPins,
  PIN_COST,
  PinSlots,
  randomCode,
  unmatchable,
} from '../../src/seal/pin.ts';
import { TEST_PIN_COST as CHEAP } from '../support/gateway.ts';
import fc from '../support/property.ts';
import { scaled } from '../support/scale.ts';

const PHONE = '+260971206837';

const pin = fc.integer({ min: 0, max: 99_999 }).map((number) => String(number).padStart(5, '0'));

test('a verifier matches its own PIN, and no other', async (t) => {
  await fc.assert(
    fc.asyncProperty(pin, pin, async (own, other) => {
      const verifier = await hashPin(own, CHEAP);
      return (
        verifier.length === 49 &&
        !verifier.includes(own) &&
        (await matchesPin(own, verifier)) &&
        (await matchesPin(other, verifier)) === (own === other)
      );
    }),
    { numRuns: scaled(200) },
  );
  const [one, other] = [await hashPin('48213'), await hashPin('48213')];
  t.notSame(one, other, 'equal PINs have different verifiers');
  t.ok(await matchesPin('48213', one), 'at the production cost too');
  t.notOk(await matchesPin('48214', one));
});

test('a PIN is hashed at the cost of OWASP ASVS 5.0 (11.4.2), and a verifier names its own cost', async (t) => {
  t.equal(PIN_COST, 14);
  t.equal((await hashPin('48213'))[0], 1, 'the production cost is written as the first layout wrote it');
  const cheap = await hashPin('48213', 4);
  t.equal(cheap[0], 4);
  t.ok(await matchesPin('48213', cheap));
  t.notOk(await matchesPin('48214', cheap));
  t.notOk(
    await matchesPin('48213', Buffer.concat([Buffer.of(5), cheap.subarray(1)])),
    'a changed cost matches nothing',
  );
});

test('what is no verifier matches nothing', async (t) => {
  const verifier = await hashPin('48213');
  const older = Buffer.from(verifier);
  older[0] = 21;
  const bent = Buffer.from(verifier);
  bent[48] = (bent[48] ?? 0) ^ 1;
  const resalted = Buffer.from(verifier);
  resalted[1] = (resalted[1] ?? 0) ^ 1;
  for (const wrong of [
    older,
    bent,
    resalted,
    verifier.subarray(0, 48),
    Buffer.alloc(0),
    Buffer.alloc(49),
    unmatchable(),
  ]) {
    t.equal(await matchesPin('48213', wrong), false);
  }
  t.equal(unmatchable().length, verifier.length, 'an unknown ID is checked against one like any other');
  t.equal(unmatchable()[0], verifier[0]);
});

test('PINs that are tried first are refused', async (t) => {
  const classes: Record<string, string[]> = {
    repeats: ['00000', '11111', '77777', '99999'],
    'two digits only': ['12121', '11222', '90909', '55455', '47747'],
    'runs up and down': ['01234', '12345', '56789', '98765', '43210', '54321'],
    'runs over the end': ['67890', '78901', '89012', '10987', '21098'],
    'even steps': ['02468', '13579', '97531', '86420', '36925', '14703'],
    palindromes: ['12321', '45654', '80108', '37973'],
    'years, in front or behind': ['19840', '19999', '20051', '20391', '01987', '72024', '51940'],
    'the tail of the phone, both ways': ['06837', '73860'],
    'the commonest': [
      '90210',
      '69420',
      '13131',
      '42069',
      '12369',
      '74123',
      '80085',
      '07734',
      '12344',
      '10010',
    ],
  };
  for (const [name, pins] of Object.entries(classes)) {
    t.same(
      pins.filter((weak) => !isWeakPin(weak, PHONE)),
      [],
      name,
    );
  }
  const good = ['48213', '70529', '82637', '93745', '68192', '30718', '59264', '20481', '19352', '83961'];
  t.same(
    good.filter((strong) => isWeakPin(strong, PHONE)),
    [],
    'others are taken',
  );
  t.notOk(isWeakPin('06837', '+260971206838'), 'the tail of another phone is not known to be one');
});

test('weak is weak both ways round, and few are', async (t) => {
  const steps = (text: string) =>
    [...text].slice(1).map((digit, i) => (Number(digit) - Number(text[i]) + 10) % 10);
  let weak = 0;
  for (let number = 0; number < 100_000; number += 1) {
    const each = String(number).padStart(5, '0');
    const is = isWeakPin(each, PHONE);
    if (is) weak += 1;
    const reversed = [...each].reverse().join('');
    const must = new Set(each).size <= 2 || each === reversed || new Set(steps(each)).size === 1;
    if (must && !is) t.fail(`${each} is weak`);
  }
  t.ok(weak > 3_000 && weak < 6_000, `${weak} of 100,000 are refused`);
  for (let n = 0; n < 200; n += 1) {
    const one = oneTimePin(PHONE);
    if (!/^\d{5}$/.test(one) || isWeakPin(one, PHONE)) t.fail(`${one} is no one-time PIN`);
  }
});

test('a new PIN between two turns is sealed, and opens nowhere else', async (t) => {
  const ring = parseKeyRing('k1:0123456789abcdef0123456789abcdef');
  const pending = new PendingPins(new Box(ring, 'pins'));
  const verifier = await hashPin('48213');
  const kept = pending.seal(verifier);
  t.same(pending.open(kept), verifier);
  t.notOk(Buffer.from(kept, 'base64').includes(verifier.subarray(1)));
  t.not(kept, pending.seal(verifier));
  for (const broken of ['', 'AA', kept.slice(4), `${kept.slice(0, -8)}AAAAAAA=`]) {
    t.throws(() => pending.open(broken), { code: /^(seal_broken|key_missing)$/ });
  }
  const stored = new Box(ring, 'pins').seal(verifier, Buffer.from('C23456789'));
  t.throws(
    () => pending.open(stored.toString('base64')),
    { code: 'seal_broken' },
    'a stored PIN is no pending one',
  );
});

test('PIN work has few slots, a short queue, and order', async (t) => {
  const slots = new PinSlots(2, 3);
  const begun: number[] = [];
  const gates = Array.from({ length: 8 }, () => Promise.withResolvers<void>());
  let most = 0;
  let held = 0;
  const run = (n: number) =>
    slots.run(async () => {
      begun.push(n);
      held += 1;
      most = Math.max(most, held);
      try {
        await gates[n]?.promise;
        return n;
      } finally {
        held -= 1;
      }
    });
  const first = [0, 1, 2, 3, 4].map(run);
  const shed = run(5);
  await t.rejects(shed, { code: 'pins_busy' }, 'the sixth is told at once');
  t.same(begun, [0, 1], 'two run');
  gates[1]?.resolve();
  t.equal(await first[1], 1);
  t.same(begun, [0, 1, 2], 'the next one follows');
  const late = run(6);
  gates[2]?.reject(new Error('broken'));
  await t.rejects(first[2] as Promise<number>, /broken/);
  t.same(begun, [0, 1, 2, 3], 'a fault gives its slot back');
  for (const gate of gates) gate.resolve();
  t.same(await Promise.all([first[0], first[3], first[4], late]), [0, 3, 4, 6]);
  t.same(begun, [0, 1, 2, 3, 4, 6], 'first come, first served');
  t.equal(most, 2);
  t.equal(await run(7), 7, 'and then there is room again');
});

test('random codes hold only what cannot be mistaken', async (t) => {
  const codes = Array.from({ length: 2_000 }, () => randomCode(UNAMBIGUOUS, 8));
  t.equal(new Set(codes).size, codes.length);
  const used = new Set(codes.join(''));
  t.same([...used].sort().join(''), [...UNAMBIGUOUS].sort().join(''), 'all of the alphabet');
  t.notMatch(UNAMBIGUOUS, /[IO01]/);
});

test('nobody waits for a slot longer than can be answered in time', async (t) => {
  const slots = new PinSlots(1, 64, 50);
  const due = (milliseconds: number) => deadlineIn(milliseconds);
  const { promise: held, resolve: release } = Promise.withResolvers<void>();
  const first = slots.run(() => held, due(10_000));
  const ran: string[] = [];
  const work = (name: string) => async () => void ran.push(name);
  await t.rejects(slots.run(work('too late'), due(40)), { code: 'pins_busy' }, 'at once');
  const began = performance.now();
  await t.rejects(
    slots.run(work('later'), due(80)),
    { code: 'pins_busy' },
    'when no time is left for the work',
  );
  t.ok(performance.now() - began >= 25, 'and not before');
  const patient = slots.run(work('patient'), due(60_000));
  release();
  await Promise.all([first, patient]);
  t.same(ran, ['patient'], 'what was refused is never run');
  await slots.run(work('next'));
  t.same(ran, ['patient', 'next'], 'and every slot is free again');
});
