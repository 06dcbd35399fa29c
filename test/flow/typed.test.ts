import { test } from 'tap';
import { readAnswer } from '../../src/flow/answer.ts';
import { type Answer, Menu, sameKey } from '../../src/flow/menu.ts';
import type { State, World } from '../../src/flow/state.ts';
import { begin, secretOf, step } from '../../src/flow/step.ts';
import { folded } from '../../src/flow/typed.ts';
import { searchable } from '../../src/store/instruments.ts';
import { typedUnits } from '../../src/store/shares.ts';
import fc from '../support/property.ts';

const CALLER = '+254711000222';

/** What is typed, and what every kind of answer reads. */
const FOLDED: Record<string, string> = {
  'McDonald’s': "McDonald's",
  'O‘Neill O`Neill OʼNeill O′Neill OʻNeill O＇Neill O´Neill':
    "O'Neill O'Neill O'Neill O'Neill O'Neill O'Neill O'Neill",
  '“a” „b‟ «c» ″': '"a" "b" "c" "',
  'a‐b‑c‒d–e—f―g−h﹣i－j־k': 'a-b-c-d-e-f-g-h-i-j-k',
  'a\u00A0b\u2007c\u202Fd\u3000e\u2009f\u205Fg\u1680h': 'a b c d e f g h',
  '\u00A0 a \u3000': 'a',
  '０１２３４５６７８９': '0123456789',
  '٠١٢٣٤٥٦٧٨٩': '0123456789',
  '۰۱۲۳۴۵۶۷۸۹': '0123456789',
  '०१२३४५६७८९': '0123456789',
  '߀߁߂߃߄߅߆߇߈߉': '0123456789',
  '𝟘𝟙𝟗': '019',
  'ＡＢｃ＠＋＊＃．': 'ABc@+*#.',
  '٫ ٬ ، ٭': '. , , *',
  'E\u0301te\u0301': 'Été',
  'a\u200Bb\uFEFFc\u2060d\u00ADe\u200Ef\u200Fg\u061Ch\uFE0Fi': 'abcdefghi',
  'a\u200Db\u200Cc': 'abc',
  '1\u20E3': '1',
  // Joiners that are part of the spelling.
  'می\u200Cخواهم': 'می\u200Cخواهم',
  'क्\u200Dष': 'क्\u200Dष',
  '👨\u200D👩\u200D👧': '👨\u200D👩\u200D👧',
  // Letters keep their case and their accents.
  'Ọláńrewájú ÇA ß': 'Ọláńrewájú ÇA ß',
  // What docs/contract.md section 1 calls invalid stays where it is.
  '\u202A+254\u202C': '\u202A+254\u202C',
  '\u2066a\u2069': '\u2066a\u2069',
  'a\tb\n': 'a\tb\n',
  '\u00001\u001B\u0085': '\u00001\u001B\u0085',
};

test('variants are folded to what a plain keypad has', async (t) => {
  for (const [typed, plain] of Object.entries(FOLDED)) t.equal(folded(typed), plain, JSON.stringify(typed));
});

test('folding twice is folding once, and control characters never become valid', async () => {
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 20 }),
    fc.string({
      unit: fc.constantFrom(...'\u200D\u200C\u0301\u200B’–٣aا क👨é\u00A0\u202E\n'),
      maxLength: 12,
    }),
  );
  fc.assert(
    fc.property(text, (typed) => {
      const once = folded(typed);
      const forbidden = (from: string) => from.match(/[\p{Cc}\u202A-\u202E\u2066-\u2069]/gu)?.length ?? 0;
      return folded(once) === once && forbidden(once) === forbidden(typed);
    }),
    { numRuns: 2_000 },
  );
});

/** Answers as a plain keypad types them, and which kind reads them. */
const PLAIN: [answer: Answer, typed: string][] = [
  [{ kind: 'text', min: 1, max: 60 }, "Don't - 5 x"],
  [{ kind: 'integer', min: -99, max: 99_999 }, '12340'],
  [{ kind: 'integer', min: -99, max: 99 }, '-42'],
  [{ kind: 'amount', min: 1, max: 99_999 }, '1250.75'],
  [
    { kind: 'pattern', pattern: "[\\p{L}\\p{N} .&'-]{1,20}", max: 20, sample: 'a', stars: false },
    "McDonald's 24-7",
  ],
  [{ kind: 'name', max: 40 }, "Anne-Marie O'Neill J."],
  [{ kind: 'email', max: 60 }, "o'neill-1@ex-ample.org"],
  [{ kind: 'phone' }, '0711 000-111'],
  [{ kind: 'customerId' }, 'C23456789'],
];

/** Ways in which a phone writes a character by itself. */
const WRITTEN: Record<string, string[]> = {
  "'": ['’', '‘', 'ʼ', '′', '＇', '´', '`'],
  '-': ['‐', '‑', '–', '—', '−', '－'],
  ' ': ['\u00A0', '\u2007', '\u202F', '\u3000', '\u2009'],
  '.': ['．', '٫'],
  '@': ['＠'],
};

test('every kind of answer reads variants as it reads the plain text', async () => {
  const digits = (digit: number) =>
    ['٠', '۰', '０', '०'].map((zero) => String.fromCodePoint((zero.codePointAt(0) ?? 0) + digit));
  fc.assert(
    fc.property(fc.constantFrom(...PLAIN), fc.infiniteStream(fc.nat(1_000)), ([answer, plain], picks) => {
      const next = () => picks.next().value ?? 0;
      const typed = [...plain]
        .map((character) => {
          const forms = /\d/.test(character) ? digits(Number(character)) : (WRITTEN[character] ?? []);
          const form = [character, ...forms][next() % (forms.length + 1)] ?? character;
          return next() % 5 === 0 ? `${form}\u200B` : form;
        })
        .join('');
      const read = readAnswer(answer, typed, CALLER);
      return read !== undefined && read === readAnswer(answer, plain, CALLER);
    }),
    { numRuns: 1_000 },
  );
});

test('a pattern that asks for what is folded is matched as it was typed', async (t) => {
  const bengali: Answer = { kind: 'pattern', pattern: '[০-৯]+', max: 5, sample: '১', stars: false };
  t.equal(readAnswer(bengali, ' ১২ ', CALLER), '১২');
  t.equal(readAnswer(bengali, '12', CALLER), undefined);
});

test('keys, searches and shares are folded too', async (t) => {
  for (const [key, typed] of [
    ['1', '１'],
    ['1', '١'],
    ['00', '٠٠'],
    ['*', '＊'],
    ['*', '٭'],
    ['été', 'E\u0301TE\u0301'],
    ['98', '\u200B98\u00A0'],
  ] as const)
    t.ok(sameKey(key, typed), `${key} ${typed}`);
  t.notOk(sameKey('1', '2'));
  t.notOk(sameKey('1', '1\n'), 'a control character is no key');
  t.equal(searchable('McDonald\u200B’s –٣'), searchable("McDonald's -3"));
  t.equal(typedUnits('١٫٥'), 1_500_000n);

  const menu = Menu.parse({
    service: 's',
    root: 'a',
    nodes: {
      a: { ask: 'PIN', answer: { kind: 'pin' }, to: 'b', options: [{ key: '9', label: 'Back', to: 'b' }] },
      b: { end: 'Bye' },
    },
  });
  const world: World = { facts: {}, msisdn: CALLER };
  const first = begin(menu, world) as { state: State };
  t.equal(
    secretOf(menu, first.state, '٩'),
    undefined,
    'a key beside a secret is a key however it is written',
  );
  t.ok(secretOf(menu, first.state, '٤٨٢١٣'));
  t.match(step(menu, first.state, '９', world), { screen: { words: 'Bye' } });
});

/** What callers type, and whose number it is. */
const NUMBERS: [caller: string, typed: Record<string, string | undefined>][] = [
  [
    '+254711000222',
    {
      '254711000111': '+254711000111',
      '0711000111': '+254711000111',
      '711000111': '+254711000111',
      '+254711000111': '+254711000111',
      '+254 0711 000111': '+254711000111',
      '00254711000111': '+254711000111',
      '000254711000111': '+254711000111',
      '(0711) 000-111': '+254711000111',
      '0711/000.111': '+254711000111',
      '٠٧١١٠٠٠١١١': '+254711000111',
      '＋２５４７１１０００１１１': '+254711000111',
      '\u200E0711\u00A0000\u2011111': '+254711000111',
      '0110000111': '+254110000111',
      '+442079460000': '+442079460000',
      '+221771234567': '+221771234567',
      // No country has these: a digit too few, too many, or a range that is given to nobody.
      '071100011': undefined,
      '07110001111': undefined,
      '25471100011': undefined,
      '2547110001111': undefined,
      '+254999000111': undefined,
      '+999123456789': undefined,
      '0000000000': undefined,
      '+1234567890': undefined,
      '0711000111 ext 5': undefined,
      '0711000111;x': undefined,
      '0711+000111': undefined,
      '++254711000111': undefined,
      '\u202A0711000111\u202C': undefined,
      '0711000111\n': undefined,
      '': undefined,
      '+': undefined,
    },
  ],
  // Countries without a leading zero, with one that belongs to the number, and several under one code.
  [
    '+221770000001',
    { '771234567': '+221771234567', '0771234567': undefined, '221771234567': '+221771234567' },
  ],
  ['+2250707123456', { '0505123456': '+2250505123456', '2250505123456': '+2250505123456' }],
  [
    '+12133734253',
    { '(213) 373-4254': '+12133734254', '12133734254': '+12133734254', '011254711000111': '+254711000111' },
  ],
  ['+77012345678', { '8 701 234 56 79': '+77012345679' }],
  // The caller's own number exists, whatever the list says of it.
  [
    '+254999000111',
    { '0999000111': '+254999000111', '254999000111': '+254999000111', '0999000112': undefined },
  ],
  // A caller of a partner has no phone, so no country either.
  ['', { '0711000111': undefined, '+254711000111': '+254711000111' }],
];

test('a typed phone number is one that a country has', async (t) => {
  for (const [caller, table] of NUMBERS)
    for (const [typed, number] of Object.entries(table))
      t.equal(readAnswer({ kind: 'phone' }, typed, caller), number, `${caller}: ${JSON.stringify(typed)}`);
});
