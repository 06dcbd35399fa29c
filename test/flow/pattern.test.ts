/** Patterns of answers: what they match, and that no answer takes long. */
import { test } from 'tap';
import { isBounded, isRegExp, matchesWhole } from '../../src/flow/pattern.ts';
import fc from '../support/property.ts';

const SOUND = [
  "[\\p{L}\\p{N} .&'-]{1,20}",
  '\\d{1,7}([.,]\\d{1,6})?',
  '[A-Z]{2}\\d{3}',
  'a|bc|[^x-z]{2}',
  '(?<year>20\\d\\d)-[01]\\d',
  '\\u0041[\\u{1F600}ä]*',
  '\\/\\w+ ?[\\-]?',
];

test('a pattern matches what the expressions of JavaScript match', async (t) => {
  for (const pattern of SOUND) {
    t.ok(isRegExp(pattern) && isBounded(pattern), pattern);
    const whole = new RegExp(`^(?:${pattern})$`, 'u');
    const near = fc.oneof(
      fc.stringMatching(whole),
      fc.string({ unit: fc.constantFrom(...'aAbcxyz019 .,-/_&Ää😀') }),
    );
    fc.assert(fc.property(near, (text) => matchesWhole(pattern, text) === whole.test(text)));
  }
});

test('what would take exponential time takes none', async (t) => {
  for (const pattern of ['(a+)+b', '(a|a)*b', '(a|aa)+b', '(.*a){12}b', '([a-z]+)*\\d']) {
    t.ok(isRegExp(pattern) && isBounded(pattern), pattern);
    t.equal(matchesWhole(pattern, `${'a'.repeat(159)}c`), false, pattern);
  }
});

test('what cannot be bounded is told', async (t) => {
  for (const pattern of ['(?=a)a', '(?<!b)a', '(a)\\1', '(?<y>a)\\k<y>', 'a{1,2000}'])
    t.ok(isRegExp(pattern) && !isBounded(pattern), pattern);
  for (const pattern of ['[', '(', '\\p{Nothing}', 'a{2,1}']) t.notOk(isRegExp(pattern), pattern);
  t.equal(matchesWhole('(?=a)a', 'a'), true, 'a document of before is read as it was');
});
