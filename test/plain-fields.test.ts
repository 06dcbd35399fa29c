/** Fields that are read by hand are read as the schema reads them; what is not plainly right is left to it. */
import t from 'tap';
import { readPlainly, UssdRequest } from '../src/gateways/screens.ts';
import fc from './support/property.ts';
import { scaled } from './support/scale.ts';

/** Right, nearly right, and anything. */
const near = (right: fc.Arbitrary<unknown>, ...wrong: unknown[]) =>
  fc.oneof(
    { weight: 8, arbitrary: right },
    { weight: 1, arbitrary: fc.constantFrom(undefined, null, 0, 5, '', ' ', true, [], {}, ['1'], ...wrong) },
    { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 200 }) },
  );
const digits = (minLength: number, maxLength: number) =>
  fc.array(fc.constantFrom(...'0123456789'), { minLength, maxLength }).map((all) => all.join(''));
const BODY = fc.record(
  {
    sessionId: near(fc.string({ minLength: 1, maxLength: 101 }), 'a b', 'a\n', '\u007f', 'x'.repeat(101)),
    serviceCode: near(
      fc.array(digits(1, 11), { minLength: 1, maxLength: 4 }).map((parts) => `*${parts.join('*')}#`),
      '*1234#\n',
      '*1**2#',
      '1234',
      `*${'1*'.repeat(20)}1#`,
    ),
    phoneNumber: near(
      digits(1, 16).map((number) => `+${number}`),
      '+0123',
      '254711',
      '+2547\n',
    ),
    text: near(
      fc.oneof(
        fc.string({ maxLength: 190 }),
        fc.array(fc.constantFrom('1', '2', '00', 'Ann'), { maxLength: 60 }).map((parts) => parts.join('*')),
      ),
      '\u202e1',
      '1\n',
      '\ud800',
      '\u{1f600}'.repeat(182),
      'é'.repeat(183),
    ),
    networkCode: near(digits(1, 10), '63902x'),
    requestId: near(fc.oneof(fc.string(), fc.integer())),
    extra: fc.constantFrom('more', 1, null),
  },
  { requiredKeys: [] },
);

t.test('by hand and by the schema', (t) => {
  let plain = 0;
  const numRuns = scaled(100_000);
  fc.assert(
    fc.property(BODY, (body) => {
      const value = readPlainly(body);
      if (value === undefined) return;
      plain += 1;
      const parsed = UssdRequest.safeParse(body);
      if (!parsed.success || JSON.stringify(parsed.data) !== JSON.stringify(value))
        throw new Error(`${JSON.stringify(body)}\n${JSON.stringify(value)}\n${JSON.stringify(parsed)}`);
    }),
    { numRuns },
  );
  t.ok(plain > numRuns / 1_000, `${plain} of ${numRuns} were read by hand`);
  const most = { sessionId: 'ATUid_1', serviceCode: '*1234#', phoneNumber: '+260971234567' };
  for (const text of ['', '1*2', 'Ann Phiri']) t.same(readPlainly({ ...most, text }), { ...most, text });
  const whole = { ...most, text: '1', networkCode: '63902' };
  t.same(readPlainly({ ...whole, more: 'dropped' }), whole);
  for (const body of [undefined, null, 'text', 5, [], { ...most }, { ...whole, requestId: 1 }])
    t.equal(readPlainly(body), undefined, 'left to the schema');
  t.end();
});
