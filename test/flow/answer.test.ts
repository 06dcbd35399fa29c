import { test } from 'tap';
import { longestAnswer, longestShown, readAnswer } from '../../src/flow/answer.ts';
import { fill, fillLines, fillShown, longestValue } from '../../src/flow/format.ts';
import type { Answer } from '../../src/flow/menu.ts';
import { measure, spelt, speltAtMost } from '../../src/flow/text.ts';
import { folded } from '../../src/flow/typed.ts';
import fc from '../support/property.ts';
import { scaled } from '../support/scale.ts';

const CALLER = '+260971234567';

/** What each answer makes of what is typed; undefined where it is none of its kind. */
const READ: [answer: Answer, typed: Record<string, string | undefined>][] = [
  [
    { kind: 'amount', min: 1, max: 1_000 },
    {
      '50': '5000',
      '50.5': '5050',
      '50,50': '5050',
      '50.55': '5055',
      ' 50 ': '5000',
      '0050': '5000',
      '1000': '100000',
      '1000.00': '100000',
      '1000.01': undefined,
      '0.99': undefined,
      '0.001': undefined,
      '50.': undefined,
      '.5': undefined,
      '-5': undefined,
      '+5': undefined,
      '1e3': undefined,
      '1,000': undefined,
      '1 000': undefined,
      '٥٠': '5000',
      '０５': '500',
      '0x10': undefined,
      Infinity: undefined,
      '': undefined,
      [String(10n ** 40n)]: undefined,
    },
  ],
  [
    { kind: 'amount', min: 0, max: 999_999_999_999 },
    // Beyond what a floating-point number can hold to the cent.
    { '999999999999': '99999999999900', '90071992547.41': '9007199254741', '0': '0', '0.01': '1' },
  ],
  [
    { kind: 'integer', min: -5, max: 1_000 },
    {
      '7': '7',
      '007': '7',
      '-5': '-5',
      '-0': '0',
      '-6': undefined,
      '1000': '1000',
      '1001': undefined,
      '7.0': undefined,
      '1e3': undefined,
      '0x7': undefined,
      '': undefined,
      ' 7 ': '7',
      ['9'.repeat(16)]: undefined,
    },
  ],
  [
    { kind: 'phone' },
    {
      '+260971234568': '+260971234568',
      '00260971234568': '+260971234568',
      '0971234568': '+260971234568',
      '097 123-45.68': '+260971234568',
      '+254 (711) 082-231': '+254711082231',
      '971234568': '+260971234568',
      '260971234568': '+260971234568',
      '97123456': undefined,
      '9712345678': undefined,
      '+0971234568': undefined,
      '+12345': undefined,
      '+1234567890123456': undefined,
      '00': undefined,
      '0123456789012': undefined,
      'call me': undefined,
      '': undefined,
    },
  ],
  [
    { kind: 'name', max: 40 },
    {
      Ann: 'Ann',
      "  Anne-Marie   O'Neill ": "Anne-Marie O'Neill",
      'J. R. Müller': 'J. R. Müller',
      'Нгози Адичи': 'Нгози Адичи',
      'አበበ በቂላ': 'አበበ በቂላ',
      'محمد علي': 'محمد علي',
      'Ελένη Παππά': 'Ελένη Παππά',
      山田太郎: '山田太郎',
      김민수: '김민수',
      'राम शर्मा': 'राम शर्मा',
      'สมชาย ใจดี': 'สมชาย ใจดี',
      'דוד לוי': 'דוד לוי',
      Ọláńrewájú: 'Ọláńrewájú',
      Արամ: 'Արամ',
      'Ann 2': undefined,
      '-Ann': '-Ann',
      'Ann; drop': undefined,
      '<b>': undefined,
      '🙂': undefined,
      '': undefined,
      ['a'.repeat(41)]: undefined,
    },
  ],
  [
    { kind: 'email', max: 60 },
    {
      'ann@example.org': 'ann@example.org',
      'ann.b+tag@mail.example.co.zm': 'ann.b+tag@mail.example.co.zm',
      "o'neill_1@ex-ample.org": "o'neill_1@ex-ample.org",
      'ann@example': undefined,
      'ann@.org': undefined,
      'ann..b@example.org': undefined,
      '.ann@example.org': undefined,
      'ann.@example.org': undefined,
      'ann@-example.org': undefined,
      'ann@example.o': undefined,
      'ann@@example.org': undefined,
      'ann example@x.org': undefined,
      '"ann"@example.org': undefined,
      'änn@example.org': undefined,
      'ann{}@example.org': undefined,
      '@example.org': undefined,
      [`${'a'.repeat(50)}@example.org`]: undefined,
    },
  ],
  [
    { kind: 'pattern', pattern: 'A|B\\d{2}', max: 3, sample: 'A', stars: false },
    {
      A: 'A',
      B12: 'B12',
      // From the first character to the last, whatever the alternatives are.
      AX: undefined,
      XB12: undefined,
      'A\nA': undefined,
      B123: undefined,
      a: undefined,
    },
  ],
  [
    { kind: 'customerId' },
    {
      CABCDEFGH: 'CABCDEFGH',
      cabcdefgh: 'CABCDEFGH',
      ' cAbCdEfG1 ': 'CABCDEFG1',
      CABCDEFG: undefined,
      CABCDEFGHI: undefined,
      'CABC-EFGH': undefined,
      ÇABCDEFGH: undefined,
    },
  ],
  [
    { kind: 'text', min: 2, max: 5 },
    {
      ab: 'ab',
      abcde: 'abcde',
      ' ab ': 'ab',
      '*#': '*#',
      a: undefined,
      abcdef: undefined,
      '🙂🙂🙂': '🙂🙂🙂',
    },
  ],
  [
    { kind: 'text', min: 0, max: 5 },
    { '': '', '   ': '' },
  ],
  // A secret is never read here.
  [{ kind: 'pin' }, { '48213': undefined }],
  [{ kind: 'newPin' }, { '48213': undefined }],
  [{ kind: 'pinAgain', of: 'pin' }, { '48213': undefined }],
];

test('answers, as they are typed and as they are kept', async (t) => {
  for (const [answer, table] of READ) {
    for (const [typed, kept] of Object.entries(table)) {
      t.equal(readAnswer(answer, typed, CALLER), kept, `${answer.kind}: "${typed.slice(0, 50)}"`);
    }
  }
});

test('an amount is exact to the cent, whatever it is', async () => {
  const answer: Answer = { kind: 'amount', min: 0, max: 999_999_999_999 };
  fc.assert(
    fc.property(fc.bigInt(0n, 99_999_999_999_900n), fc.constantFrom('.', ','), (minor, point) => {
      const typed = `${minor / 100n}${point}${String(minor % 100n).padStart(2, '0')}`;
      return readAnswer(answer, typed, CALLER) === String(minor);
    }),
  );
});

test('what is kept of an answer is never longer on a screen than lint counts', async () => {
  const typed = fc.string({ unit: 'binary', maxLength: 60 });
  const answers: Answer[] = [
    { kind: 'text', min: 0, max: 9 },
    { kind: 'text', min: 0, max: 60 },
    { kind: 'name', max: 5 },
    { kind: 'name', max: 40 },
    { kind: 'email', max: 60 },
    { kind: 'pattern', pattern: '.*', max: 20, sample: 'a', stars: false },
    { kind: 'pattern', pattern: '[A-Z0-9-]+|\\d*', max: 20, sample: 'A', stars: false },
    { kind: 'pattern', pattern: '[!-~]+', max: 20, sample: 'A', stars: false },
    { kind: 'phone' },
    { kind: 'customerId' },
    { kind: 'amount', min: 1, max: 70_000 },
    { kind: 'integer', min: -50, max: 100 },
  ];
  const likely = fc.oneof(
    typed,
    fc.string({ unit: fc.constantFrom('日', '€', '[', 'ж', 'a', 'ß', '𒀀', '1', ' '), maxLength: 60 }),
    fc.string({ unit: fc.constantFrom('A', '0', '-', '~', '{'), maxLength: 20 }),
    fc.string({ unit: fc.constantFrom('0', '9', '.', '+'), maxLength: 14 }),
  );
  fc.assert(
    fc.property(fc.constantFrom(...answers), likely, (answer, text) => {
      const kept = readAnswer(answer, text, CALLER);
      if (kept === undefined) return true;
      return (
        measure(spelt(kept)).units <= longestShown(answer) &&
        (answer.kind === 'phone' ||
          [...folded(text)].length <= longestAnswer(answer) ||
          // A pattern that asks for what folding replaces is read as it was typed.
          answer.kind === 'pattern' ||
          /^[-0]/.test(folded(text)))
      );
    }),
    { numRuns: scaled(5_000) },
  );
});

/** What is written of a value. */
const WRITTEN: [text: string, value: string, written: string][] = [
  ['{x|money:KES}', '5000', 'KES 50'],
  ['{x|money:KES}', '5050', 'KES 50.50'],
  ['{x|money:KES}', '5005', 'KES 50.05'],
  ['{x|money:KES}', '5', 'KES 0.05'],
  ['{x|money:KES}', '0', 'KES 0'],
  ['{x|money:KES}', '-5', 'KES -0.05'],
  ['{x|money:KES}', '-123456', 'KES -1,234.56'],
  ['{x|money:KES}', '100000000', 'KES 1,000,000'],
  // One more than a floating-point number could tell apart.
  ['{x|money:KES}', '9007199254740993', 'KES 90,071,992,547,409.93'],
  ['{x|money:ZMW}', '123456789012345678901234567890', 'ZMW 1,234,567,890,123,456,789,012,345,678.90'],
  ['{x|money}', '5000', '50'],
  ['{x|money:KES}', '', ''],
  ['{x|money:KES}', 'much', 'much'],
  ['{x|money:KES}', '1e3', '1e3'],
  ['{x|money:KES}', '50.5', '50.5'],
  ['{x|number}', '1', '1'],
  ['{x|number}', '999', '999'],
  ['{x|number}', '1000', '1,000'],
  ['{x|number}', '-1000', '-1,000'],
  ['{x|number}', '-999', '-999'],
  ['{x|number}', '1234567', '1,234,567'],
  ['{x|number}', 'abc1234', 'abc1234'],
  ['{x|date}', '2026-11-09', '09/11/2026'],
  ['{x|date}', '2026-11-09T23:59:59.999Z', '09/11/2026'],
  ['{x|date}', 'soon', 'soon'],
  ['{x|date}', '', ''],
  ['{x|masked}', '+260971234567', '+260***567'],
  ['{x|masked}', '12345678', '1234***678'],
  ['{x|masked}', '1234567', '***'],
  ['{x|masked}', 'nobody in particular', '***'],
  ['{x}', '5000', '5000'],
  ['{x|constructor}', '5000', '5000'],
  ['{y}', '5000', ''],
  ['{toString}', '5000', ''],
];

test('formatters', async (t) => {
  for (const [text, value, written] of WRITTEN)
    t.equal(fill(text, { x: value }), written, `${text} of ${value}`);
});

test('money is what it was in minor units, and no value is written longer than the longest', async () => {
  fc.assert(
    fc.property(fc.bigInt(-(10n ** 25n), 10n ** 25n), (minor) => {
      const written = fill('{x|money:KES}', { x: String(minor) });
      const [units = '', cents = '00'] = written.slice('KES '.length).replaceAll(',', '').split('.');
      return (
        BigInt(units.replace('-', '') + cents) === (minor < 0n ? -minor : minor) &&
        units.includes('-') === minor < 0n
      );
    }),
  );
  const value = fc.oneof(
    fc.string({ unit: fc.constantFrom(...'0123456789-+.TZ €['), maxLength: 30 }),
    fc.bigInt(-(10n ** 28n), 10n ** 28n).map(String),
    fc.date({ noInvalidDate: true }).map((date) => date.toISOString()),
  );
  fc.assert(
    fc.property(value, fc.constantFrom('', '|money:KES', '|number', '|date', '|masked'), (x, formatter) => {
      const length = (text: string) => measure(fillShown(`{x${formatter}}`, { x: text })).units;
      return length(x) <= length(longestValue(measure(x).units));
    }),
    { numRuns: scaled(5_000) },
  );
});

test('a line of values that are all empty is left out', async (t) => {
  t.equal(fillLines('{a}\n{b}\n\nend {a}', { a: '', b: 'B' }), 'B\n\nend ');
  t.equal(fillLines('{a} {a}\nx', { a: '' }), 'x');
});

test('spelling: always in the GSM alphabet, always the same, never longer than was counted', async (t) => {
  const names: Record<string, string> = {
    'Нгози Адичи': 'Ngozi Adichi',
    Ελένη: 'Eleni',
    Ọláńrewájú: 'Olanrewaju',
    Français: 'Francais',
    'Łukasz Żółć': 'Lukasz Zolc',
    'O’Neill': "O'Neill",
    'a`b': "a'b",
    'tab\there': 'tabhere',
    'Ann Müller': 'Ann Müller',
    '[€]': '[€]',
  };
  for (const [value, letters] of Object.entries(names)) t.equal(spelt(value), letters, value);
  const anything = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 80 }),
    fc.string({ unit: 'grapheme', maxLength: 40 }),
    fc.string({ unit: fc.constantFrom('€', '[', '日', 'ж', '`', '\t', 'ǀ', '🙂', 'a'), maxLength: 80 }),
  );
  fc.assert(
    fc.property(anything, (value) => {
      const letters = spelt(value);
      const { alphabet, units } = measure(letters);
      const typed = [...value.normalize('NFC')].reduce(
        (sum, one) => sum + (measure(one).alphabet === 'gsm' ? measure(one).units : 1),
        0,
      );
      return (
        alphabet === 'gsm' &&
        spelt(value) === letters &&
        spelt(letters) === letters &&
        units <= speltAtMost(typed)
      );
    }),
    { numRuns: scaled(5_000) },
  );
});
