import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'tap';
import { CheckedMenus } from '../src/checked-menus.ts';
import { readConfig } from '../src/config.ts';
import { readAnswer } from '../src/flow/answer.ts';
import { fill, fillLines, fillShown } from '../src/flow/format.ts';
import { Menu } from '../src/flow/menu.ts';
import type { Known } from '../src/flow/plan.ts';
import { screenText } from '../src/flow/screen.ts';
import type { Step, World } from '../src/flow/state.ts';
import { begin } from '../src/flow/step.ts';
import { type MenuError, Menus, parseMenu, readMenus } from '../src/menus.ts';
import { RepliesError, readReplies } from '../src/sms/replies.ts';
import { temporaryDirectory } from './support/gateway.ts';
import fc from './support/property.ts';

/** What is said of documents that are wrong: file, line, what was found, what to write instead. */

const KNOWN: Known = {
  facts: { goods: { values: { name: 20, price: 6 }, rows: 3 } },
  effects: { sms: ['text'], logIn: [] },
  messages: new Map([['sms', ['text']]]),
};

/** A document whose first node is the given lines, from line 5 on. */
function documentOf(node: string): string {
  const lines = node.split('\n').map((line) => `    ${line}`);
  return `service: s\nroot: a\nnodes:\n  a:\n${lines.join('\n')}\n  b:\n    end: Bye\n`;
}

function problemsOf(source: string | Uint8Array, known = KNOWN): string[] {
  const read = parseMenu(source, 'm.yaml', known);
  return read.menu === undefined ? read.problems : [];
}

const options = (...lines: string[]) =>
  `choose: Pick\noptions:\n${lines.map((line) => `  - ${line}`).join('\n')}`;
const asking = (to: string) => `ask: Hi\nanswer: { kind: text, max: 5 }\nsave: x\nto: ${to}`;

/** A node, and everything that is said of it. */
const SLIPS: [node: string, ...says: string[]][] = [
  [
    options(
      '{ key: 1, label: 50, to: b }',
      '{ key: 2, label: 1e3, to: b }',
      '{ key: 3, label: true, to: b }',
    ),
    ':7: nodes.a.options.0.label: 50 is a number: put it in quotes, label: "50"',
    ':8: nodes.a.options.1.label: 1e3 is a number: put it in quotes, label: "1e3"',
    ':9: nodes.a.options.2.label: true is a boolean: put it in quotes, label: "true"',
  ],
  [options('{ key: 1, label: , to: b }'), ':7: nodes.a.options.0.label: is empty: write a text'],
  [options('{ key: 1, label: ~, to: b }'), ':7: nodes.a.options.0.label: is empty: write a text'],
  [options('{ key: *, label: X, to: b }'), ':7: .*put it in quotes: key: "\\*"'],
  [options('key: *\n    label: X\n    to: b'), ':7: .*put it in quotes: key: "\\*"'],
  [options('{ key: 1, label: *144#, to: b }'), ':7: .*put it in quotes: label: "\\*144#"'],
  [
    options('{ key: 00, label: X, to: b }', '{ key: 01, label: X, to: b }', '{ key: 0x1, label: X, to: b }'),
    ':7: nodes.a.options.0.key: 00 is read as the number 0: put it in quotes, key: "00"',
    ':8: nodes.a.options.1.key: 01 is read as the number 1: put it in quotes, key: "01"',
    ':9: nodes.a.options.2.key: 0x1 is read as the number 1: put it in quotes, key: "0x1"',
  ],
  [options('{ key: 1, label: {name}, to: b }'), ':7: .*begins with a brace in quotes, label: "\\{name\\}"'],
  [
    options('{ key: 1, label: Food, drink, to: b }'),
    ':7: .*comma in it needs quotes, perhaps label: "Food, drink"',
  ],
  [options('{ key: 1, label: Say: yes, to: b }'), ':7: .*put it in quotes: label: "Say: yes"'],
  [
    options('{ key: 1, lable: X, to: b }'),
    ':7: nodes.a.options.0: lable is not a key here: did you mean label\\?',
  ],
  [
    options('Today'),
    ':7: nodes.a.options.0: "Today" is a text: write an option: \\{ key: …, label: …, to: … \\}',
  ],
  ['choose: Pick\noptions: { key: 1 }', ':6: nodes.a.options: is a map: write options, each on a line'],
  ['choose: Pick\noptions: []', ':6: nodes.a.options: is an empty list'],
  ['choose: Pick', ':5: nodes.a.options: is missing: write options'],
  [
    'chose: Pick\noptons: []',
    ':5: nodes.a: .*chose: did you mean choose\\?',
    ':6: .*did you mean options\\?',
  ],
  ['en: Bye', ':5: nodes.a: .*en: did you mean end\\?'],
  ['ned: Bye', ':5: nodes.a: .*ned: did you mean end\\?'],
  ['text: Bye', ':5: nodes.a: has none of choose, list, say, ask or end'],
  ['end: Bye\nchoose: Pick', ':5: nodes.a: is choose and end at once|:6: .*at once'],
  [
    'ask: 5\nanswer: { kind: intger }\nsav: x\ninvlid: No\nto: [b, { when: { x: 5 }, t: b }]',
    ':5: nodes.a.ask: 5 is a number',
    ':6: nodes.a.answer.kind: "intger" is none of .*did you mean integer\\?',
    ':7: nodes.a: sav is not a key here: did you mean save\\?',
    ':8: nodes.a: invlid is not a key here: did you mean invalid\\?',
    ':9: nodes.a.to.0: "b" is a text: write a way: \\{ to: … \\}',
    ':9: nodes.a.to.1: t is not a key here: did you mean to\\?',
    ':9: nodes.a.to.1.when.x: 5 is a number: put it in quotes, x: "5"',
  ],
  [
    'list: Hi\nfrom: goods\nlabel: 5\nper: 12\nset: { x: 5 }\nto: b\nempty:\noptions:\n  - { key: 0, label: B, to: b }',
    ':7: nodes.a.label: 5 is a number',
    ':8: nodes.a.per: 12 is too large: the most is 9',
    ':9: nodes.a.set.x: 5 is a number: put it in quotes, x: "5"',
    ':11: nodes.a.empty: is empty',
  ],
  [
    'say: Hi\ninvalid: x\nanswer: { kind: text }\noptions:\n  - { key: 0, label: 5, to: b }',
    ':6: nodes.a: invalid is not a key here: it belongs to choose, ask',
    ':7: nodes.a: answer is not a key here: it belongs to ask',
    ':9: nodes.a.options.0.label: 5 is a number',
  ],
  [
    'end: { EN: Hi, fra: Ho }',
    ':5: nodes.a.end.EN: .*two small letters',
    ':5: nodes.a.end.fra: .*two small letters',
  ],
  [asking('{ to: b }'), ':8: nodes.a.to: is a map: write the name of a node, or a list of ways'],
  [asking('[]'), ':8: nodes.a.to: is an empty list'],
  [asking('5'), ':8: nodes.a.to: 5 is a number: write the name of a node'],
  [asking('[{ when: { x: true }, to: b }, { to: b }]'), ':8: .*when.x: true is a boolean: put it in quotes'],
  [
    asking('[{ when: { x: { above: y } }, to: b }, { to: b }]'),
    ':8: .*above is not a key here',
    ':8: .*below: is missing',
  ],
  [asking('[{ to: b, effects: { sms: { text: Hi } } }]'), ':8: nodes.a.to.0.effects: is a map: write a list'],
  [
    asking('[{ to: b, effects: [{ sms: { text: 5 } }] }]'),
    ':8: .*effects.0.sms.text: 5 is a number: put it in quotes',
  ],
  [
    'ask: Hi\nanswer: text\nto: b',
    ':6: nodes.a.answer: "text" is a text: write what may be typed, answer: \\{ kind: text, min: 1, max: 40 \\}',
  ],
  [
    'ask: Hi\nanswer: { kind: pattern, pattern: "[", max: 5, sample: x }\nto: b',
    ':6: .*is no regular expression',
  ],
  ['<<: { end: Bye }\nsay: Hi', ':5: << \\(a merge key\\) is not read here: write the lines out'],
  ['end: Bye\nend: Again', ':6: end stands twice in the same map'],
  ['end: @x', ':5: a text cannot begin with @ in YAML: put it in quotes: end: "@x"'],
  ['end: `x`', ':5: a text cannot begin with `'],
  ['end: !Hi you', ':5: .*tag in YAML: put it in quotes: end: "!Hi you"'],
  ['end: &x', ':5: nodes.a.end: is empty, because &x is an anchor'],
  ['end: # 1', ':5: nodes.a.end: is empty, because # 1 is a comment'],
  ['end: Bye: now', ':5: .*put it in quotes: end: "Bye: now"'],
  ['end: "Bye', ':5: what begins with " in "end: "Bye" is not closed: end it with "'],
  ["end: 'Don't'", ':5: a text in single quotes ends too early'],
  ['end: "\\d"', ':5: \\\\d is not an escape: .*write a backslash as'],
  ['\tend: Bye', ':5: a tab stands where the line is indented: indent with spaces'],
  ['end: - Bye', ':5: a list cannot begin on the line of its key'],
  ['end: Bye\n---\nservice: t', ':6: '],
];

test('a wrong node is described as what it is', async (t) => {
  for (const [node, ...says] of SLIPS) {
    const problems = problemsOf(documentOf(node)).join('\n');
    for (const words of says)
      t.match(problems, new RegExp(`^m\\.yaml(?:${words})`, 'm'), `${node}\n${problems}`);
    t.notMatch(
      problems,
      /Invalid input|expected .*received|Unrecognized|Alias cannot|must be unique|Source contains/,
    );
  }
});

test('a wrong document, and where nothing is wrong', async (t) => {
  const table: [text: string, says: RegExp][] = [
    ['', /^m\.yaml: document: is empty: write a map/],
    ['hello', /document: "hello" is a text/],
    ['- a', /document: is a list/],
    [
      documentOf('end: Hi').replace('nodes', 'node'),
      /:3: document: node is not a key here: did you mean nodes\?/,
    ],
    [
      documentOf('end: Hi').replace('service: s', 'service: Case'),
      /:1: service: "Case": the name of a service is/,
    ],
    [`${documentOf('end: Hi')}keys: { home: 00 }`, /:8: keys\.home: 00 is read as the number 0.*home: "00"/],
    [`${documentOf('end: Hi')}carrierKeys: [01]`, /:8: carrierKeys\.0: 01 is read as the number 1.*"01"/],
    [`${documentOf('end: Hi')}languages: en`, /:8: languages: "en" is a text: write a list/],
    [`${documentOf('end: Hi')}private: "yes"`, /:8: private: "yes" is a text: write true or false/],
    [`${documentOf('end: Hi')}tries: "3"`, /:8: tries: "3" is a text: write it without quotes/],
    [`${documentOf('end: Hi')}---\nservice: t\n`, /:8: a second document begins here/],
    [
      `${documentOf('end: Hi')}...\nservice: t\n`,
      /:8: \.\.\. ends the document, and more follows: move what follows to a file of its own$/,
    ],
    [
      documentOf(options('{ key: 1, label: X, to: b }')).replace('  b:', '...\n  b:'),
      /:8: \.\.\. ends the document, and more follows: remove the line$/,
    ],
    [
      `%YAML 1.1\n---\n${documentOf('end: Hi')}`,
      /:1: %YAML 1\.1 reads words such as yes and no as something else/,
    ],
    [
      documentOf('end: Hi').replace('  a:\n', '  a: &x\n').replace('end: Bye', '<<: *x'),
      /<< \(a merge key\)/,
    ],
    [
      'service: s\nroot: a\nnodes:\n  a:\n  c: {}\n  d: Bye\n  e: [x]\n  f: 5\n',
      /:4: nodes\.a: is empty: write a map with one of/,
    ],
  ];
  for (const [text, says] of table) t.match(problemsOf(text).join('\n'), says, text);
  const sound = documentOf(options('{ key: 1, label: yes, to: b }', '{ key: no, label: 2026-12-01, to: b }'));
  t.same(problemsOf(sound), [], 'what YAML 1.2 reads as a text is one');
  t.same(problemsOf(`\uFEFF${sound}`), []);
  t.same(problemsOf(sound.replaceAll('\n', '\r\n')), []);
});

test('what is missing or of another kind is told once, with what to write', async (t) => {
  const typed = 'write what may be typed, answer: { kind: text, min: 1, max: 40 }';
  const kinds = 'text, integer, amount, pattern, name, email, phone, customerId, pin, newPin, pinAgain';
  const table: [node: string, ...says: string[]][] = [
    ['ask: Name?\nto: b', `5: nodes.a.answer: is missing: ${typed}`],
    ['ask: Name?\nanswer:\nto: b', `6: nodes.a.answer: is empty: ${typed}`],
    ['ask: Name?\nanswer: name\nto: b', `6: nodes.a.answer: "name" is a text: ${typed}`],
    ['ask: Name?\nanswer: [name]\nto: b', `6: nodes.a.answer: is a list: ${typed}`],
    ['ask: Name?\nanswer: { max: 5 }\nto: b', `6: nodes.a.answer.kind: is missing: write one of ${kinds}`],
    ['ask: Name?\nanswer: { kind: }\nto: b', `6: nodes.a.answer.kind: is empty: write one of ${kinds}`],
    ['ask: Name?\nanswer: { kind: 5 }\nto: b', `6: nodes.a.answer.kind: 5 is none of ${kinds}`],
    [
      'ask: Name?\nanswer: { kind: text }\nto: b',
      '6: nodes.a.answer.max: is missing: write a whole number from 1 to 160',
    ],
    [
      'ask: Name?\nanswer: { kind: text, max: 5 }',
      '5: nodes.a.to: is missing: write the name of a node, or a list of ways: [{ to: … }, …]',
    ],
    [
      options('{ key: 1, label: Tea, milk, sugar, to: b }'),
      '7: nodes.a.options.0: milk is not a key here: a text with a comma in it needs quotes, perhaps label: "Tea, milk, sugar"',
    ],
    [
      asking('[{ to: b, effects: [{}] }]'),
      '8: nodes.a.to.0.effects.0: an effect is one name with its arguments: write { name: { argument: "text" } }, and each further effect in an entry of its own',
    ],
  ];
  for (const [node, ...says] of table)
    t.same(
      problemsOf(documentOf(node)),
      says.map((line) => `m.yaml:${line}`),
      node,
    );
  t.same(problemsOf(`${documentOf('end: Hi')}keys: 5`), [
    'm.yaml:8: keys: 5 is a number: write a map: { back: …, home: …, more: …, previous: … }',
  ]);
});

test('what stands below a misspelt key is checked in the same run', async (t) => {
  /** A document with a misspelt key, what the key means, and the place of the slip. */
  const table: [wrong: string, slip: string, right: string, place: string][] = [
    [
      documentOf('choose: Pick\noptions:\n  - { key: 1, to: b }\n  - { key: 00, label: 5, to: b }'),
      'optoins',
      'options',
      '6: nodes.a',
    ],
    [
      documentOf('choose: Pick\noptions:\n  - { key: 1, label: X, to: nowhere }'),
      'optoins',
      'options',
      '6: nodes.a',
    ],
    [documentOf(options('{ key: 1, label: "A\\nB", to: b }')), 'optoins', 'options', '6: nodes.a'],
    [documentOf(options('key: 1\n    label: Room #2\n    to: b')), 'lable', 'label', '8: nodes.a.options.0'],
    [documentOf(options('{ key: 1, label: X, to: [{ to: nowhere }, 5] }')), 'nodse', 'nodes', '3: document'],
    [documentOf('ask: Name?\nanswer: { kind: text, max: 500 }\nto: b'), 'anser', 'answer', '6: nodes.a'],
    [
      documentOf('ask: Name?\nanswer: { kind: text, max: 5 }\nsave: x\nto: nowhere'),
      'knd',
      'kind',
      '6: nodes.a.answer',
    ],
    [
      documentOf(asking('[{ when: { x: a }, to: b, effects: [{ sms: { text: 5 } }] }, { to: b }]')),
      'efects',
      'effects',
      '8: nodes.a.to.0',
    ],
    [`${documentOf('end: Hi')}keys: { home: 00, back: 0 }`, 'hom', 'home', '8: keys'],
  ];
  for (const [right, slip, meant, place] of table) {
    const wrong = right.replace(`${meant}:`, `${slip}:`);
    const told = problemsOf(wrong);
    t.ok(problemsOf(right).length > 0, `${meant} hides something`);
    const spelling = `m.yaml:${place}: ${slip} is not a key here: did you mean ${meant}?`;
    t.same(told.toSorted(), [...problemsOf(right), spelling].toSorted(), `${slip}\n${wrong}`);
  }
  t.same(
    problemsOf(documentOf('chose: Pick\noptoins:\n  - { key: 1, label: X, to: nowhere }')).map(
      (line) => line.split(': ')[0],
    ),
    ['m.yaml:5', 'm.yaml:6', 'm.yaml:5'],
    'two misspelt keys, and what the sound document would be told',
  );
  t.match(
    problemsOf(documentOf('ask: Name?\nanswer: { kind: intger }\nto: b')),
    [/kind: "intger" is none of/, /answer\.max: is missing/],
    'a misspelt kind',
  );
  const misspelt = documentOf(options('{ key: 1, label: X, to: b }')).replace('options', 'optoins');
  t.same(
    problemsOf(misspelt),
    ['m.yaml:6: nodes.a: optoins is not a key here: did you mean options?'],
    'it stays an error',
  );
  for (const unclear of [
    'choose: Pick\noptions:\n  - { key: 1, label: X, to: b }\noptoins: 5',
    'choose: Pick\noptoins: 5\noptins: 6',
  ])
    t.notMatch(problemsOf(documentOf(unclear)).join('\n'), /is a number/, `not taken for one: ${unclear}`);
  t.match(
    problemsOf(documentOf('end: Hi').replace('  b:\n', '  "b c":\n').replace('end: Bye', 'end: 5')),
    [/nodes\.b c: .*a name is/, /nodes\.b c\.end: 5 is a number/],
    'below a name that cannot be one',
  );
});

test('advice that is followed passes the next check', async (t) => {
  const key = documentOf(options('{ key: ~, label: X, to: b }'));
  const label = documentOf(options('{ key: 1, label: ~, to: b }'));
  const home = `${label.replace('~', 'X')}keys: { home: ~ }\n`;
  const tries = `${label.replace('~', 'X')}tries: ~\n`;
  const answer = documentOf('ask: Hi\nanswer: ~\nsave: x\nto: b');
  const kind = documentOf('ask: Hi\nanswer: { kind: ~, max: 5 }\nsave: x\nto: b');
  /** Slips that stand in place of `~`, and the advised spelling in what is said of them. */
  const table: [document: string, advised: RegExp, ...slips: string[]][] = [
    [key, /key: ("[^"]*")$/, '+2', '.5', '3.0', '1234567890123456789012', '1e3', '0x1F', '-0', '-1', '1.5'],
    [key, /key: ("[^"]*")$/, '.inf', '+.5e3', '01', '-01', '12345678901234567', '12345678901234567890'],
    [home, /home: ("[^"]*")$/, '+5', '3.0', '0.50', '123456789012345678901234'],
    [
      label,
      /label: ("[^"]*")$/,
      '+2',
      '.5',
      '50',
      'true',
      '0x1F',
      '{phone}',
      'Tea, milk',
      'Tea, milk, sugar',
    ],
    [answer, /answer: (\{ .* \})$/, '', 'text', '[text]'],
    [kind, /write one of (text)/, ''],
    [kind, /did you mean (text)\?$/, 'txet'],
    [tries, /"(2)" is a text: write it without quotes$/, '"2"'],
    [tries, /write a whole number from 1 to (3)$/, '"9"', 'two', '1.5'],
  ];
  for (const [document, advised, ...slips] of table)
    for (const slip of slips) {
      const [said = '', ...more] = problemsOf(document.replace('~', slip));
      t.match(said, advised, slip);
      t.same(more, [], `${slip} is told once`);
      const [, spelling = ''] = advised.exec(said) ?? [];
      t.same(problemsOf(document.replace('~', () => spelling)), [], `${slip}: ${said}`);
    }
  t.same(problemsOf(key.replace('~', '+2')), [
    'm.yaml:7: nodes.a.options.0.key: +2 is read as the number 2, and "+2" is no key either: write a key: digits, "*" or one word of up to 20 letters and digits; for example key: "2"',
  ]);
  const cut = label.replace('~', 'X').replace('  b:', '...\n  b:');
  t.match(problemsOf(cut), [/remove the line$/]);
  t.same(problemsOf(cut.replace('...\n', '')), []);
});

test('words of the engine are asked for where they can be shown', async (t) => {
  const swahili = (more: string, words: string) =>
    `service: s\nlanguages: [sw]\nroot: a\nfarewell: { sw: Kwaheri }\ninvalid: { sw: Jibu }\n${more}nodes:\n  a:\n    choose: ${words}\n    options:\n      - { key: 1, label: Toka, to: b }\n  b:\n    end: Kwaheri\n`;
  t.same(problemsOf(swahili('', 'Karibu')), []);
  t.same(
    problemsOf(swahili('resume: 300\n', 'Karibu')).map((problem) => problem.split(': ')[1]),
    ['cutOff', 'goOn', 'startAgain'],
    'where a dial can be gone on with',
  );
  const paged = problemsOf(swahili('', 'x '.repeat(200))).join('\n');
  t.match(paged, /more: no sw for "More": add it, more: \{ en: …, sw: … \}/, 'where a screen has pages');
  t.match(paged, /previous: no sw/);
});

/** Characters that must not reach a handset, as YAML escapes. */
const HIDDEN = [
  '\\r',
  '\\0',
  '\\e',
  '\\x07',
  '\\t',
  '\\x7F',
  '\\x9B',
  '\\N',
  '\\u202E',
  '\\u2066',
  '\\L',
  '\\P',
  '\\uD800',
  '\\uFFFD',
  '\\uFFFF',
  '\\f',
];

test('nothing hidden goes out, in whatever text of a document it stands', async (t) => {
  const whole = [
    'service: s\nroot: a\nresume: 60\ninvalid: "~"\nfarewell: "~"\nmore: "~"\nprevious: "~"\ncutOff: "~"\ngoOn: "~"\nstartAgain: "~"',
    'nodes:\n  a:\n    choose: "~"\n    invalid: "~"\n    farewell: "~"\n    options:\n      - { key: 1, label: "~", to: c, set: { x: "~" } }',
    '  c:\n    list: "~"\n    from: goods\n    label: "~"\n    set: { g: "~" }\n    to: d\n    empty: "~"\n    more: { key: 7, label: "~" }\n    previous: { key: 8, label: "~" }\n    options:\n      - { key: 0, label: "~", to: back }',
    '  d:\n    ask: "~"\n    answer: { kind: text, max: 5 }\n    save: y\n    invalid: "~"\n    to:\n      - { when: { y: "~" }, to: d, invalid: "~" }\n      - { to: e, set: { z: "~" }, effects: [{ sms: { text: "~" } }] }',
    '  e:\n    say: { en: "~" }\n    options:\n      - { key: 1, label: { en: "~" }, to: b }\n  b:\n    end: "~"\n',
  ].join('\n');
  const places = whole.split('~').length - 1;
  const withAt = (place: number, text: string) =>
    whole
      .split('~')
      .reduce((before, after, index) => before + (index - 1 === place ? text : 'Words') + after);
  t.same(problemsOf(withAt(-1, '')), []);
  for (let place = 0; place < places; place += 1) {
    const hidden = HIDDEN[place % HIDDEN.length] ?? '';
    const text = withAt(place, `One${hidden}Two`);
    const line = text.slice(0, text.indexOf(`One${hidden}`)).split('\n').length;
    const says = new RegExp(`^m\\.yaml:${line}: .*U\\+[0-9A-F]{4}.*take it out`);
    t.match(problemsOf(text).join('\n'), says, `place ${place}`);
  }
  for (const hidden of HIDDEN)
    t.match(problemsOf(withAt(8, `One${hidden}Two`)).join('\n'), /^m\.yaml:\d+: .*U\+[0-9A-F]{4}/, hidden);
  // As the characters themselves, a comment included.
  for (const raw of ['\u0000', '\u001B', '\u009B', '\u202E', '\u2028', '\uFFFD', '\r'])
    t.match(
      problemsOf(`${documentOf('end: Hi')}# a${raw}b\n`).join('\n'),
      /^m\.yaml:8: the line holds /,
      `U+${raw.charCodeAt(0)}`,
    );
});

test('a pattern that takes unbounded time is refused, and a session that is pinned to one goes on', async (t) => {
  const asked = (pattern: string) =>
    documentOf(
      `ask: Hi\nanswer: { kind: pattern, pattern: "${pattern}", max: 9, sample: ab }\nsave: x\nto: b`,
    );
  t.match(problemsOf(asked('(?=a)ab')), [
    /^m\.yaml:\d+: a: the pattern cannot be checked in bounded time: write it/,
  ]);
  const read = parseMenu(asked('a?ab'), 'm.yaml', KNOWN);
  t.ok(read.menu, 'another one is sound');
  const stored = JSON.parse(JSON.stringify(read.menu).replace('a?ab', '(?=a)ab'));
  const menus = await Menus.open({ store: async () => 1, load: async () => stored }, []);
  const pinned = await menus.pinned(2);
  t.match(pinned.nodes.a, { answer: { pattern: '(?=a)ab' } }, 'a document that was published before');
  const { answer } = pinned.nodes.a as { answer: Parameters<typeof readAnswer>[0] };
  t.equal(readAnswer(answer, 'ab', ''), 'ab');
});

test('a label or a message that can be blank', async (t) => {
  const blank = ': is values alone, and they can be blank: add words';
  const after = (min: number, node: string) =>
    documentOf(`ask: Hi\nanswer: { kind: text, min: ${min}, max: 5 }\nsave: n\nto: c`).replace(
      '  b:\n',
      `  c:\n${node}\n  b:\n`,
    );
  const label = (words: string, set = '') =>
    `    choose: Hello\n    options:\n      - { key: 1, label: "${words}", to: b${set} }`;
  const send =
    '    choose: Hello\n    options:\n      - { key: 1, label: Go, to: [{ to: b, effects: [{ sms: { text: "{n}" } }] }] }';
  t.same(problemsOf(after(0, label('{n}'))), [`m.yaml:12: nodes.c.options.0.label${blank}`]);
  t.same(problemsOf(after(1, label('{n}', ', set: { n: "" }'))), [
    `m.yaml:12: nodes.c.options.0.label${blank}`,
  ]);
  t.same(problemsOf(after(0, send)), [`m.yaml:12: nodes.c.options.0.to.0.effects.0.sms.text${blank}`]);
  t.same(problemsOf(after(1, label('{n}'))), []);
  t.same(problemsOf(after(0, label('For {n}'))), []);
});

test('a comment behind a text is refused, because its writer may have meant it as text', async (t) => {
  const cut = (line: number, path: string, comment: string) =>
    `m.yaml:${line}: ${path}: what follows # is a comment, and "${comment}" is not shown: put all of the text in quotes, or the comment on a line of its own`;
  const option = 'key: 1\n    label: Room #2\n    to: b # why';
  t.same(problemsOf(documentOf(options(option))), [cut(8, 'nodes.a.options.0.label', '#2')]);
  t.same(problemsOf(documentOf('end: Call us # 555')), [cut(5, 'nodes.a.end', '# 555')]);
  t.same(problemsOf(documentOf('end:\n  en: Call us  # 555')), [cut(6, 'nodes.a.end.en', '# 555')]);
  t.same(problemsOf(documentOf(options('{ key: 1, label: A, to: b }').replace('Pick', 'Pick #1'))), [
    cut(5, 'nodes.a.choose', '#1'),
  ]);
  t.same(problemsOf(`${documentOf('end: Hi')}more: More #3`), [cut(8, 'more', '#3')]);
  for (const good of [
    'end: "Call us" # 555',
    "end: 'Room #2'",
    'end: Room#2',
    'end: Hi\n# a line of its own',
    '# before\nend: Hi',
    `${options('{ key: 1, label: A, to: b } # the first')} # all`,
  ])
    t.notMatch(problemsOf(documentOf(good)).join('\n'), /comment/, good);
});

test('a blank text, and a line that breaks', async (t) => {
  for (const blank of [' ', '\\u00a0', '\\u200b', '\\u2800', '\\n', '\\u3164'])
    t.match(
      problemsOf(documentOf(`end: "${blank}"`)).join('\n'),
      /:5: nodes\.a\.end: is blank: write the words/,
      blank,
    );
  const broken = /:\d+: .*: holds a line break: write it on one line/;
  t.match(problemsOf(documentOf(options('{ key: 1, label: "Pay\\n9. Free", to: b }'))).join('\n'), broken);
  t.match(problemsOf(documentOf(options('key: 1\n    to: b\n    label: |\n      Pay'))).join('\n'), broken);
  t.match(problemsOf(documentOf(options('{ key: 1, label: { en: "A\\nB" }, to: b }'))).join('\n'), broken);
  t.match(
    problemsOf(documentOf(options('{ key: 1, label: A, to: b, set: { x: "A\\nB" } }'))).join('\n'),
    broken,
  );
  t.match(problemsOf(`${documentOf('end: Hi')}more: "A\\nB"`).join('\n'), /:8: more: holds a line break/);
  t.same(problemsOf(documentOf(options('{ key: 1, label: A, to: b }').replace('Pick', '"Two\\nlines"'))), []);
  const values = documentOf(asking('c')).replace('b:\n    end: Bye', 'c:\n    end: "{x}\\n{x}"');
  t.match(problemsOf(values).join('\n'), /c: the last words are values alone/);
});

test('a value never breaks a screen, whatever a fact or a caller has put into it', async (t) => {
  const forged = 'Ann\n9. Free\r\u2028\u202Eb\u0000\uD800';
  t.equal(fillShown('1. {x}', { x: forged }), '1. Ann 9. Free b');
  t.equal(fill('Hello {x}', { x: 'Ann\r\nPay' }), 'Hello Ann Pay', 'nor a message');
  t.equal(fillLines('{x}\nend', { x: '\n' }), 'end');
  const menu = Menu.parse({
    service: 's',
    root: 'a',
    budget: 182,
    nodes: {
      a: {
        list: 'For {who.name}',
        from: 'goods',
        label: '{row.name}',
        set: {},
        to: 'b',
        empty: 'None',
        options: [{ key: '0', label: 'Back {who.name}', to: 'back' }],
      },
      b: { end: 'Bye' },
    },
  });
  fc.assert(
    fc.property(
      fc.string({ unit: 'binary', maxLength: 12 }),
      fc.constantFrom('\n', '\r\n', '\u0085', '\u2028', '\f'),
      (text, end) => {
        const name = `${text}${end}9. Free`;
        const world: World = { facts: { who: { name }, goods: [{ name }] }, msisdn: '+254711000222' };
        const { screen } = begin(menu, world) as Step;
        const shown = screenText(screen);
        return (
          shown.split('\n').length === 3 && !/(?!\n)\p{Cc}|\p{Cs}|[\u202A-\u202E\u2066-\u2069]/u.test(shown)
        );
      },
    ),
    { numRuns: 30 },
  );
});

test('files that are not in UTF-8 are refused with line and byte', async (t) => {
  const text = documentOf('choose: Café Ümit\noptions:\n  - { key: 1, label: X, to: b }');
  t.match(problemsOf(Buffer.from(text, 'latin1')), [
    'm.yaml:5: the file is not in UTF-8: byte 16 of the line is 0xE9: save it as UTF-8',
  ]);
  t.match(problemsOf(Buffer.from(`\uFEFF${text}`, 'utf16le')), [
    'm.yaml:1: the file is in UTF-16, not in UTF-8: save it as UTF-8',
  ]);
  // Without a mark, in both orders of bytes.
  for (const wide of [Buffer.from(text, 'utf16le'), Buffer.from(text, 'utf16le').swap16()])
    t.match(problemsOf(wide), ['m.yaml:1: the file is in UTF-16, not in UTF-8: save it as UTF-8']);
  t.same(problemsOf(Buffer.from(`\uFEFF${text}`)), [], 'a byte order mark is accepted');
  for (const bytes of [[0xc0, 0xaf], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xe2, 0x82], [0x80]])
    t.match(
      problemsOf(Buffer.concat([Buffer.from(`${text}# `), Buffer.from(bytes)])).join(),
      /^m\.yaml:10: the file is not in UTF-8: byte 3/,
    );

  const file = join(temporaryDirectory(t), 'replies.yaml');
  const replies = (reply: string) =>
    `stop: { first: [STOP], alone: [], reply: "" }\nstart: { first: [START], alone: [], reply: ${reply} }\nreplies: {}\n`;
  const refused = (content: string | Uint8Array) => {
    writeFileSync(file, content);
    try {
      readReplies(file);
      return '';
    } catch (error) {
      if (!(error instanceof RepliesError)) throw error;
      return error.problems.join('\n');
    }
  };
  t.equal(refused(replies('Café')), '');
  t.equal(refused(`\uFEFF${replies('Café')}`), '');
  t.match(refused(Buffer.from(replies('Café'), 'latin1')), /replies\.yaml:2: the file is not in UTF-8/);
  for (const hidden of HIDDEN)
    t.match(refused(replies(`"a${hidden}b"`)), /replies\.yaml:2: .*U\+[0-9A-F]{4}/, hidden);
  t.match(refused(replies('" "')), /replies\.yaml:2: start\.reply: .*is blank/);
  t.match(
    refused(replies('5')),
    /replies\.yaml:2: start\.reply: 5 is a number: put it in quotes, reply: "5"/,
  );
  t.match(refused(replies('*')), /replies\.yaml:2: .*put it in quotes: reply: "\*"/);
  t.match(
    refused(replies('Hi').replace('alone', 'alon')),
    /:1: stop: alon is not a key here: did you mean alone\?/,
  );
  t.match(
    refused(replies('Hi').replace('replies: {}', 'replies: { 020: { "*": Hi } }')),
    /:3: replies: the key 020 is read as the number 20: put it in quotes, "020":/,
  );

  t.throws(() => readConfig({ AT_SENDER_ID: 'Caf\uFFFD' }, ['ixo']), /AT_SENDER_ID: is not in UTF-8/);
  t.throws(() => readConfig({ DATA_DIR: 'a\u202Eb' }, ['ixo']), /DATA_DIR: holds a bidirectional control/);
});

test('folders that cannot be services', async (t) => {
  const folder = temporaryDirectory(t);
  const put = (name: string, file: string, text: string) => {
    mkdirSync(join(folder, name));
    writeFileSync(join(folder, name, file), text);
  };
  put('Case', 'menu.yaml', documentOf('end: Hi').replace('service: s', 'service: Case'));
  put('my shop', 'menu.yaml', documentOf('end: Hi'));
  put('other', 'menu.yaml', documentOf(options('{ key: 1, label: X, to: b }')));
  put('wrong', 'menu.yml', documentOf('end: Hi'));
  mkdirSync(join(folder, 'none'));
  mkdirSync(join(folder, '.git'));
  let problems: string[] = [];
  try {
    readMenus(folder, () => KNOWN);
  } catch (error) {
    problems = (error as MenuError).problems;
  }
  t.match(
    problems.join('\n'),
    /^Case\/menu\.yaml: the folder Case cannot be a service: .*rename the folder to case$/m,
  );
  t.match(problems.join('\n'), /^my shop\/menu\.yaml: .*rename the folder to my-shop$/m);
  t.match(problems.join('\n'), /^other\/menu\.yaml:1: service: is s: name it other, like its folder$/m);
  t.match(problems.join('\n'), /^wrong\/menu\.yaml: there is no such file: rename menu\.yml to menu\.yaml$/m);
  t.match(problems.join('\n'), /^none\/menu\.yaml: there is no such file: write it, or remove the folder$/m);
  t.notMatch(problems.join('\n'), '.git');
});

test('a document that passed is not checked again; one that differs, or another program, is', async (t) => {
  const [services, program, kept] = [1, 2, 3].map(() => temporaryDirectory(t)) as [string, string, string];
  const file = join(services, 's', 'menu.yaml');
  mkdirSync(join(services, 's'));
  writeFileSync(join(program, 'lint.ts'), 'one');
  const good = 'service: s\nroot: a\nnodes:\n  a:\n    end: Hi\n';
  let checks = 0;
  const read = () =>
    readMenus(
      services,
      () => {
        const facts = KNOWN.facts;
        return {
          ...KNOWN,
          get facts() {
            checks += 1;
            return facts;
          },
        };
      },
      new CheckedMenus(kept, program),
    );
  const checksOf = (step: () => unknown) => {
    checks = 0;
    const result = step();
    return { checked: checks > 0, result };
  };

  writeFileSync(file, good);
  const first = checksOf(read);
  t.equal(first.checked, true, 'the first time');
  t.strictSame(
    checksOf(read),
    { checked: false, result: first.result },
    'the second time it is the same document',
  );

  writeFileSync(file, good.replace('end: Hi', 'end: Bye'));
  t.equal(checksOf(read).checked, true, 'an edited one');
  writeFileSync(file, good.replace('service: s', 'service: other'));
  t.throws(read, { code: 'menu_refused' }, 'one under the wrong name');
  t.throws(read, { code: 'menu_refused' }, 'and again');
  writeFileSync(file, documentOf(options('{ key: 1, label: X, to: nowhere }')));
  t.throws(read, { code: 'menu_refused' }, 'a bad one');
  t.throws(read, { code: 'menu_refused' }, 'and again');

  writeFileSync(file, good);
  t.equal(checksOf(read).checked, false, 'the good one again');
  writeFileSync(join(program, 'lint.ts'), 'other');
  t.equal(checksOf(read).checked, true, 'by another program');

  for (const name of readdirSync(kept)) writeFileSync(join(kept, name), '{"service":"s","root":');
  t.strictSame(checksOf(read), { checked: true, result: first.result }, 'what was kept is damaged');
  rmSync(kept, { recursive: true });
  writeFileSync(kept, 'a file');
  t.strictSame(checksOf(read), { checked: true, result: first.result }, 'nothing can be kept');
});
