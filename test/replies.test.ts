/** The document of automatic answers: how long an answer may be, and words that have two meanings. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { cutToSegments, segmentsOf } from '../src/flow/text.ts';
import { RepliesError, readReplies } from '../src/sms/replies.ts';
import { temporaryDirectory } from './support/gateway.ts';

const OWN = join(import.meta.dirname, '..', 'src', 'sms', 'replies.yaml');
const file = join(temporaryDirectory(t), 'replies.yaml');

const COMMANDS = `stop: { first: [STOP], alone: [QUIT], reply: Bye. }
start: { first: [START], alone: [YES], reply: "" }
`;

function made(text: string, shared = {}) {
  writeFileSync(file, text);
  return readReplies(file, shared);
}

function problems(text: string): string[] {
  try {
    made(text);
    return [];
  } catch (error) {
    if (error instanceof RepliesError)
      return error.problems.map((line) => line.replace(file, 'replies.yaml'));
    throw error;
  }
}

/** How a word with two meanings ends, and a key that stands twice in one map. */
const TWICE = /keep one of the two$|rename one of them, or remove it$/;

t.test('an answer that quotes takes one or two SMS, whatever was written', async (t) => {
  const replies = readReplies(OWN);
  const texts = [
    'x'.repeat(1_600),
    'ሰላም '.repeat(400),
    '🎉'.repeat(1_600),
    '👩‍👩‍👧‍👦'.repeat(200),
    '€'.repeat(1_600),
    '[]{}'.repeat(400),
    `${'x'.repeat(300)}ሰ`,
    `ሰ${'x'.repeat(1_599)}`,
    'e\u0301'.repeat(800),
    ' '.repeat(1_600),
    '\n'.repeat(1_600),
    '{text}'.repeat(266),
    'a\u202e'.repeat(800),
  ];
  for (const text of texts) {
    const answer = replies.answerTo(text, '12345', true);
    t.ok(segmentsOf(answer) <= 2, `${text.slice(0, 12)}: ${segmentsOf(answer)} SMS`);
    t.match(answer, /^This is a response to: ".*"$/s);
    t.ok(answer.isWellFormed());
    const [, quoted = ''] = /^This is a response to: "(.*)\.\.\."$/s.exec(answer) ?? [];
    t.ok(text.replaceAll('\u202e', '').startsWith(quoted), 'the beginning of it');
  }
  // As much as there is room for: two joined SMS are 306 septets or 134 code units.
  t.equal(replies.answerTo('x'.repeat(1_600), '12345', true).length, 306);
  t.equal(replies.answerTo('ሰ'.repeat(1_600), '12345', true).length, 134);
  t.equal(replies.answerTo('🎉'.repeat(1_600), '12345', true).length, 132, 'no character is cut in two');
  for (const text of ['Hello', 'x'.repeat(281), 'ሰ'.repeat(109), ' ', ''])
    t.equal(replies.answerTo(text, '12345', true), `This is a response to: "${text}"`, 'all of what fits');
  const family = replies.answerTo('👩‍👩‍👧‍👦'.repeat(200), '12345', true);
  t.match(family, /"(👩‍👩‍👧‍👦)+\.\.\."$/u, 'a sign of several characters stays whole');
});

t.test('a quotation adds no SMS to words that take several', async (t) => {
  const reply = `{text}${'x'.repeat(400)}{text}`;
  const own = made(`${COMMANDS}replies: { "*": { "*": { reply: "${reply}", unquoted: "" } } }`);
  for (const text of ['y'.repeat(1_600), 'ሰ'.repeat(100), '€'.repeat(30)]) {
    const answer = own.answerTo(text, '12345', true);
    t.ok(segmentsOf(answer) <= 3, `${segmentsOf(answer)} SMS`);
    t.ok(answer.includes('x'.repeat(400)), 'the words stay whole');
  }
});

t.test('words of its own take four SMS at the most, in any script', async (t) => {
  const say = (words: string) =>
    problems(
      `${COMMANDS}replies: { "*": { "*": { reply: "${words}", unquoted: "" }, HI: "${words.replace('{text}', '')}" } }`,
    );
  t.same(say('x'.repeat(612)), []);
  t.same(say('ሰ'.repeat(268)), []);
  for (const [words, segments] of [
    ['x'.repeat(613), 5],
    ['ሰ'.repeat(269), 5],
    ['ሰ'.repeat(612), 10],
    ['[]'.repeat(200), 6],
    [`${'x'.repeat(600)}{shortCode}`, 5],
    [`${'x'.repeat(611)}ü{text}ሰ`, 10],
  ] as [string, number][]) {
    const lines = say(words);
    t.equal(lines.length, 2, words.slice(0, 9));
    const problem = `takes ${segments} SMS, at most 4: one SMS of several has 153 characters, or 67`;
    t.match(lines[0], /^replies\.yaml:\d+: replies\.\*\.\*\.reply: /);
    t.ok(lines[0]?.includes(problem), problem);
  }
  const stop = `stop: { first: [STOP], alone: [], reply: "${'ሰ'.repeat(300)}" }\n${COMMANDS.split('\n')[1]}\nreplies: {}`;
  t.match(problems(stop), [/^replies\.yaml:1: stop\.reply: .*takes 5 SMS/]);
  for (const command of ['stop', 'start'] as const)
    t.ok(segmentsOf(readReplies(OWN).confirmation(command, '20880')) <= 2, `our own ${command}`);
});

t.test('a comment behind a text is refused', async (t) => {
  const own = readFileSync(OWN, 'utf8');
  const cut = problems(own.replace('received your message.', 'received your message. Call #5'));
  t.match(cut, [
    /^replies\.yaml:\d+: replies\.\*\.\*\.unquoted: what follows # is a comment, and "#5" is not shown: put all of the text in quotes/,
  ]);
  t.same(
    problems(own.replace('stop:\n', 'stop: # of messages\n').replace('CANCEL]', 'CANCEL] # as ever')),
    [],
  );
});

t.test('what stands below a misspelt key is checked in the same run', async (t) => {
  const own = (first: string) =>
    `${COMMANDS.replace('first: [STOP]', `${first}: [STOP, ""]`)}replies: { "*": { A: "{text}" } }`;
  const rest = problems(own('first'));
  t.equal(rest.length, 2);
  t.same(problems(own('frist')), [
    'replies.yaml:1: stop: frist is not a key here: did you mean first?',
    ...rest,
  ]);
  const twice = `${COMMANDS.replace('first:', 'frist:')}replies: { "*": { stop: Words } }`;
  t.match(problems(twice), [
    /did you mean first\?$/,
    /STOP \(stop\.first\) and stop .* line 3\) are one word/,
  ]);
});

t.test('advice on words and numbers that YAML reads as numbers passes the next check', async (t) => {
  const words = `${COMMANDS}replies: { "*": { ~: One } }`;
  const codes = `${COMMANDS}replies: { ~: { A: One } }`;
  const first = `${COMMANDS.replace('[STOP]', '[~]')}replies: {}`;
  const quotes = /put it in quotes, ("[^"]*"):?$/;
  const table: [document: string, ...slips: string[]][] = [
    [words, '01', '+1', '1.0', '.5', '1e3', '0x1', '007', '12345678901234567890123'],
    [words.replace('~', '1: Two, ~'), '01', '1.0', '0x1', '001'],
    [codes, '020', '+20880', '012345'],
    [codes.replace('~', '20880: { A: One }, ~'), '020880'],
    [first, '1', '01', '+1', '.5', 'true', '1e3'],
  ];
  for (const [document, ...slips] of table)
    for (const slip of slips) {
      const [said = '', ...more] = problems(document.replace('~', slip));
      t.match(said, quotes, slip);
      t.same(more, [], `${slip} is told once`);
      const [, spelling = ''] = quotes.exec(said) ?? [];
      t.same(problems(document.replace('~', spelling)), [], `${slip}: ${said}`);
    }
  for (const code of ['01', '+1', '0x20', '1e3', '.5', '12345678901234567890'])
    t.match(
      problems(codes.replace('~', code)),
      [
        /^replies\.yaml:3: .* cannot be a key here: must be a short code .* 3 to 15 digits, in quotes, or "\*"$/,
      ],
      `${code} is no number of a phone in quotes either`,
    );
  t.match(problems(words.replace('~', '1: Two, +1')), [
    /the key \+1 is read as the number 1: put it in quotes, "\+1":$/,
    /1 \(replies\.\*\) and \+1 .* are one word, with two meanings: keep one of the two$/,
  ]);
  t.match(
    problems(words.replace('~: One', 'A: {text}')),
    [/A: "\{text\}": what quotes the \{text\} is written \{ reply: …, unquoted: … \}/],
    'a placeholder without quotes',
  );
  t.same(problems(`${COMMANDS}replies: { "*": Hi, A: Hi }`), [
    'replies.yaml:3: replies.*: "Hi" is a text: write a map: WORD: reply, or "*": reply for any text',
    'replies.yaml:3: replies.A: "A" cannot be a key here: must be a short code or another number of 3 to 15 digits, in quotes, or "*"',
  ]);
  t.same(problems(words.replace('~: One', 'A: {shortCode}')), [
    'replies.yaml:3: replies.*.A: {shortCode} is a map in YAML: put a text that begins with a brace in quotes, A: "{shortCode}"',
  ]);
});

t.test('one word with two meanings is refused, with both lines', async (t) => {
  for (const [one, two] of [
    ['HELP', 'help'],
    ['HELP', 'Help!'],
    ['HELP', '"HELP "'],
    ['HELP', '" help"'],
    ['HELP', '"ＨＥＬＰ"'],
    ['STRASSE', 'straße'],
    ['Café', 'CAFE'],
    ['Café', '"cafe\\u0301"'],
    ['MY BALANCE', '"my   balance"'],
    ['MY BALANCE', '"My\\u00a0Balance"'],
    ["DON'T", 'dont'],
    ['HELP', 'HELP'],
  ]) {
    const lines = problems(`${COMMANDS}replies:
  "*":
    ${one}: First
    OTHER: Other
    ${two}: Second
`);
    t.equal(lines.length, 1, `${one} and ${two}`);
    t.match(lines[0], /^replies\.yaml:(5: .*line 7|7: .*line 5)/);
    t.match(lines[0], TWICE);
  }
  const stops = problems(`stop:
  first: [STOP]
  alone:
    - END
  reply: ""
start:
  first:
    - START
    - Stop
  alone: [end.]
  reply: ""
replies:
  "*":
    stop: Stopped
    "End": Ended
    START: What you can do
`);
  t.same(stops, [
    'replies.yaml:2: STOP (stop.first) and Stop (start.first, line 9) are one word, with two meanings: keep one of the two',
    'replies.yaml:4: END (stop.alone) and end. (start.alone, line 10) are one word, with two meanings: keep one of the two',
    'replies.yaml:2: STOP (stop.first) and stop (replies.*, line 14) are one word, with two meanings: keep one of the two',
    'replies.yaml:4: END (stop.alone) and End (replies.*, line 15) are one word, with two meanings: keep one of the two',
  ]);
  for (const twice of [
    'stop: { first: [HALT], alone: [], reply: "" }\nreplies: {}',
    'replies:\n  "20880": { A: B }\n  20880: { A: C }',
    'replies:\n  "20880": { A: B }\n  "+20880": { A: C }',
    'replies:\n  "*": { A: B }\n  "*": { A: C }',
    'replies:\n  "*":\n    A: { reply: B, unquoted: C, reply: D }',
  ]) {
    const lines = problems(COMMANDS + twice);
    t.match(lines, [/line \d+/], twice);
    t.match(lines, [TWICE], twice);
  }
  const apart = `${COMMANDS}replies: { "*": { HELP: A }, "20880": { help: B, HELPER: C, "HELP ME": D } }`;
  t.same(problems(apart), [], 'one word on two numbers, and longer words');
  t.same(
    problems(`${COMMANDS.replace('[STOP]', '[STOP, stop, Stop]')}replies: {}`),
    [],
    'one meaning, several spellings',
  );
  t.doesNotThrow(() => readReplies(OWN));
});

t.test('a keyword that begins with a word that ends messages is refused, with both lines', async (t) => {
  for (const keyword of ['Stop it', 'STOP NOW PLEASE', 'stop. it', 'Stóp it', '"ＳＴＯＰ it"'])
    for (const code of ['"*"', '"20880"']) {
      const [line = '', ...more] = problems(`${COMMANDS}replies:\n  ${code}:\n    ${keyword}: Words\n`);
      t.match(
        line,
        /^replies\.yaml:1: STOP \(stop\.first\) begins the keyword .* line 5\): .* never sent: choose/,
        keyword,
      );
      t.ok(line.includes(keyword.replaceAll('"', '')), keyword);
      t.same(more, []);
    }
  const two = `stop: { first: [GO AWAY], alone: [QUIT], reply: "" }
start: { first: [START, GO AWAY NOT], alone: [], reply: "" }
replies: { "*": { KEY: Words } }`;
  t.match(problems(two.replace('KEY', 'Go away now')), [
    /GO AWAY \(stop\.first\) begins the keyword Go away now/,
  ]);
  // The longer command holds, and a START that ends nothing is answered by keyword.
  for (const keyword of ['GO', 'GO ON', 'QUIT IT', 'GO AWAY NOT', 'START HERE', 'STOPPING'])
    t.same(problems(two.replace('KEY', keyword)), [], keyword);
  const shared = { shortCode: '20880', keyword: 'MY SHOP' };
  const behind = `${COMMANDS}replies: { "20880": { MY SHOP STOP IT: Words } }`;
  t.throws(() => made(behind, shared), /STOP \(stop\.first\) begins the keyword MY SHOP STOP IT/);
  t.doesNotThrow(() => made(behind), 'no shared short code');
  t.doesNotThrow(() => made(behind.replace('"20880"', '"*"'), shared), 'given on other short codes');
});

t.test('vowel signs are letters; accents and points are not', async (t) => {
  for (const [one, two] of [
    ['काम', 'कम'], // Devanagari, a spacing sign
    ['कि', 'कु'], // signs alone
    ['কাম', 'কম'], // Bengali
    ['பால்', 'பல்'], // Tamil
    ['กิน', 'กัน'], // Thai, non-spacing signs
    ['がき', 'かき'], // Japanese, the voiced mark that NFKD sets apart
    ['ກິນ', 'ກັນ'], // Lao
    ['ការ', 'ករ'], // Khmer
    ['ကား', 'ကး'], // Burmese
    ['ગામ', 'ગમ'], // Gujarati
    ['ಕಾಲ', 'ಕಲ'], // Kannada
  ] as const) {
    const text = `${COMMANDS}replies: { "*": { ${one}: First, ${two}: Second } }`;
    t.same(problems(text), [], `${one} and ${two}`);
    const own = made(text);
    t.equal(own.answerTo(`${one} x`, '12345', true), 'First', one);
    t.equal(own.answerTo(`${two}!`, '12345', true), 'Second', two);
  }
  for (const [one, two] of [
    ['Café', 'cafe'],
    ['Стои\u0306', 'стои'],
    ['Άλφα', 'αλφα'],
    ['שָׁלוֹם', 'שלום'],
    ['مَرْحَبًا', 'مرحبا'],
    ['Tiếng', 'tieng'],
    ['Ọjà', 'oja'],
  ] as const)
    t.match(problems(`${COMMANDS}replies: { "*": { ${one}: First, ${two}: Second } }`), [TWICE], one);
  const joined = made(`${COMMANDS}replies: { "*": { "क्\u200Dष": Joined } }`);
  t.equal(joined.answerTo('क्ष', '12345', true), 'Joined', 'with or without a joiner');
});

t.test('commands and keywords of several words', async (t) => {
  const replies = readReplies(OWN);
  for (const text of [
    'REVOKE',
    'revoke.',
    'OPT OUT',
    'opt  out',
    'Opt-out',
    'OPTOUT',
    'opt out please',
    'Opt\nout',
    'STOP',
  ])
    t.equal(replies.commandIn(text, '12345'), 'stop', text);
  for (const text of ['OPT', 'opt in', 'out', 'outopt', 'please revoke', 'optional', 'Hello', ''])
    t.equal(replies.commandIn(text, '12345'), undefined, text);
  const own = made(
    `stop: { first: [STOP, GO AWAY], alone: [NO MORE], reply: "" }
start: { first: [START, STOP BEING SILENT], alone: [], reply: "" }
replies: { "*": { MY BALANCE: Nothing, MY: Yours, "*": Any } }`,
    { shortCode: '+254711000999', keyword: 'MY SHOP' },
  );
  for (const [text, command] of [
    ['Go away!', 'stop'],
    ['go', undefined],
    ['no more', 'stop'],
    ['no more of this', undefined],
    ['stop being silent', 'start'],
    ['stop being', 'stop'],
  ] as const)
    t.equal(own.commandIn(text, '12345'), command, text);
  t.equal(own.commandIn('my shop stop', '254711000999'), 'stop', 'behind a keyword of two words');
  t.equal(own.commandIn('my shop stop', '12345'), undefined, 'which is that of one number');
  t.equal(own.commandIn('My stop', '+254711000999'), undefined, 'half of it is not it');
  for (const [text, answer] of [
    ['my balance', 'Nothing'],
    ['My Balance now', 'Nothing'],
    ['my order', 'Yours'],
    ['Hi', 'Any'],
  ])
    t.equal(own.answerTo(`${text}`, '12345', true), answer, `${text}`);
  t.ok(own.canAnswerFrom('254711000999') && own.canAnswerFrom('12345'));
  t.notOk(own.canAnswerFrom('+254711000111') || own.canAnswerFrom('MyBrand'));
});

t.test('a text that the product writes takes ten SMS at the most', (t) => {
  for (const [text, most, length] of [
    ['x'.repeat(5_000), 10, 1_530],
    ['ሰ'.repeat(5_000), 10, 670],
    ['€'.repeat(5_000), 1, 80 - 1],
    ['x'.repeat(1_530), 10, 1_530],
    ['', 1, 0],
  ] as const) {
    const cut = cutToSegments(text, most);
    t.ok(segmentsOf(cut) <= most);
    t.ok(Math.abs(cut.length - length) <= 3, `${cut.length} of ${length}`);
  }
  t.equal(cutToSegments('Hello', 1), 'Hello');
  t.end();
});
