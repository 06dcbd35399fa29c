import { test } from 'tap';
import { parse } from 'yaml';
import { nextPiece } from '../../src/flow/address.ts';
import type { Finding } from '../../src/flow/finding.ts';
import { factOf } from '../../src/flow/format.ts';
import { lint } from '../../src/flow/lint.ts';
import { isSecret, Menu, nodeNamed, waysFrom } from '../../src/flow/menu.ts';
import { pathsOf } from '../../src/flow/paths.ts';
import { edgesOf, type Known, reachable, VERDICTS, worstWorld } from '../../src/flow/plan.ts';
import { isRows } from '../../src/flow/show.ts';
import type { FactValue, Needs, State, Step, World } from '../../src/flow/state.ts';
import { begin, hearing, isWalkable, secretOf, step } from '../../src/flow/step.ts';
import { parseMenu } from '../../src/menus.ts';
import { meeting } from '../support/engine.ts';
import { DEMO, DEMO_KNOWN, IXO, IXO_KNOWN, RICH, RICH_KNOWN } from '../support/rich.ts';
import { SCALE } from '../support/scale.ts';

const DOCUMENTS: [text: string, known: Known][] = [
  [RICH, RICH_KNOWN],
  [IXO, IXO_KNOWN],
  [DEMO, DEMO_KNOWN],
];

/** A way to break a document: its name, what is replaced, and what lint has to say. */
type Mutation = [name: string, from: string | RegExp, to: string, node: string, says: RegExp];

/** What is changed in the rich document, and how lint answers. */
const MUTATIONS: Mutation[] = [
  // where ways lead
  ['unknown root', 'root: start', 'root: begin', 'begin', /root is no node: name one/],
  [
    'unknown target of a key',
    'to: terms }',
    'to: term }',
    'start',
    /key 5 leads to term, which is no node: add it/,
  ],
  [
    'unknown target of an answer',
    'to: sendNote\n',
    'to: sendNotes\n',
    'sendTo',
    /the answer leads to sendNotes/,
  ],
  ['unknown target behind a condition', 'to: harvest }', 'to: winter }', 'planned', /key 1 leads to winter/],
  [
    'a target that every object has',
    'to: terms }',
    'to: toString }',
    'start',
    /leads to toString, which is no node/,
  ],
  ['unknown target of a list', '- { to: loan }', '- { to: lone }', 'loans', /leads to lone/],
  ['a node named like a place', /terms:\n {4}say/, 'home:\n    say', 'home', /home is a place of the engine/],
  [
    'unreachable node',
    / {6}- \{ key: 5, label: \{ en: Terms.*\n/,
    '',
    'terms',
    /nothing leads here: remove it or lead to it/,
  ],
  ['a node whose only key leads elsewhere', /to: noSms \}/, 'to: locked }', 'noSms', /nothing leads here/],
  [
    'a node to which only the way back from the next one leads',
    '{ when: { kind: car, language: fr }, to: car }',
    '{ when: { kind: car, language: fr }, to: loan }',
    'car',
    /nothing leads here/,
  ],
  [
    'dead end',
    /paid:\n {4}say(.*)\n {4}options:\n.*\n.*\n/,
    'paid:\n    say$1\n    options:\n      - { key: 1, label: { en: Again, fr: Encore }, to: paid }\n',
    'paid',
    /no way leads out of here to an end: add an exit/,
  ],
  [
    'a circle without a way out',
    /(\n {2}school:[\s\S]*?)to: loan([\s\S]*?to: )back([\s\S]*?)to: loan/,
    '$1to: car$2car$3to: school',
    'car',
    /no way leads out of here/,
  ],
  [
    'an invalid answer that leads back',
    '- { to: pin, invalid',
    '- { to: back, invalid',
    'pin',
    /the answer is invalid and leads to back: ask again/,
  ],
  [
    'an invalid answer that leads to an end',
    '- { to: pin, invalid',
    '- { to: locked, invalid',
    'pin',
    /is invalid and leads to locked/,
  ],
  [
    'an effect with an invalid answer',
    '{ to: newPin, invalid: { en: Easy',
    '{ to: newPin, effects: [{ logIn: {} }], invalid: { en: Easy',
    'newPin',
    /is invalid and has an effect: remove one/,
  ],

  // conditions
  [
    'no unconditional last way',
    '          - { to: exit }\n',
    '',
    'planned',
    /no way holds .* end with one that has no when/,
  ],
  [
    'a way behind an unconditional one',
    '{ when: { kind: school }, to: school }',
    '{ to: school }',
    'loans',
    /are never taken: put it last/,
  ],
  [
    'a way behind an empty condition',
    '{ when: { kind: school }, to: school }',
    '{ when: {}, to: school }',
    'loans',
    /are never taken/,
  ],
  [
    'a condition on nothing',
    'when: { kind: school }',
    'when: { sort: school }',
    'loans',
    /\{sort\} is kept by no node: save or set it/,
  ],
  [
    'a condition on a row',
    'when: { kind: school }',
    'when: { row.kind: school }',
    'loans',
    /\{row\.kind\} has no row here: set it/,
  ],
  [
    'a condition on an unknown fact',
    'sms.room: "no"',
    'text.room: "no"',
    'loan',
    /there is no fact text: there is loans/,
  ],
  [
    'a condition on an unknown value',
    'sms.room: "no"',
    'sms.rooms: "no"',
    'loan',
    /the fact sms has no rooms: it has room/,
  ],
  [
    'a condition on a list',
    'terms.rate: "5"',
    'loans.left: "5"',
    'planned',
    /the fact loans is a list: name one value/,
  ],
  ['unknown verdict', 'verdict: right', 'verdict: ok', 'pin', /ok is no verdict here: use right, change/],
  [
    'a verdict on another secret',
    'verdict: good',
    'verdict: right',
    'newPin',
    /right is no verdict here: use good, weak/,
  ],
  [
    'a verdict where nothing is secret',
    'when: { plan: harvest }',
    'when: { verdict: right }',
    'planned',
    /nothing is secret/,
  ],

  // keys
  [
    'a key twice',
    '- { key: 2, label: { en: Send money',
    '- { key: 1, label: { en: Send money',
    'start',
    /key 1 stands twice: choose another/,
  ],
  [
    'a key twice in another case',
    '- { key: 2, label: { en: Send money',
    '- { key: l, label: { en: Send money',
    'start',
    /key l stands twice/,
  ],
  [
    'a key is an item',
    /(empty:.*\n {4}options:\n {6}- \{ key: )0/,
    '$14',
    'loans',
    /key 4 is an item or turns the page: choose another/,
  ],
  [
    'a key turns the page',
    '- { key: 6, label: { en: Plans',
    '- { key: N, label: { en: Plans',
    'start',
    /key n is an item or turns the page/,
  ],
  [
    'a key turns the page of a list',
    /(empty:.*\n {4}options:\n {6}- \{ key: )0/,
    '$18',
    'loans',
    /key 8 is an item or turns the page/,
  ],
  [
    'an item turns the page',
    'key: 8, label: { en: More',
    'key: 4, label: { en: More',
    'loans',
    /key 4 is an item or turns the page, and is something else: rename/,
  ],
  [
    'a pager of a list is back',
    'key: 9, label: { en: Loans',
    'key: 0, label: { en: Loans',
    'loans',
    /key 0 .* is something else: rename/,
  ],
  [
    'a pager of a list is the carrier’s',
    'key: 8, label: { en: More',
    'key: 98, label: { en: More',
    'loans',
    /key 98 is the carrier's/,
  ],
  [
    'an option is the carrier’s',
    'key: 5, label: { en: Terms',
    'key: 99, label: { en: Terms',
    'start',
    /key 99 is the carrier's: choose another/,
  ],
  [
    'an engine key is the carrier’s',
    'more: n,',
    'more: 98,',
    'start',
    /98 is the carrier's: rename it in keys/,
  ],
  [
    'two engine keys are one',
    'home: H',
    'home: "0"',
    'start',
    /0 is two of the service's own keys: rename one/,
  ],
  [
    'two engine keys are one in another case',
    'home: H',
    'home: N',
    'start',
    /n is two of the service's own keys/,
  ],
  [
    'an option shadows back',
    '- { key: 1, label: { en: A little',
    '- { key: h, label: { en: A little',
    'plans',
    /key h is back or home everywhere: choose another/,
  ],
  ['back is an item', 'keys: { home', 'keys: { back: 1, home', 'loans', /key 1 is an item .* something else/],
  [
    'a key could be an amount',
    /(save: amount[\s\S]*?key: )0/,
    '$150',
    'amount',
    /key 50 could be an answer: choose another/,
  ],
  ['a key could be a text', 'key: x,', 'key: skip,', 'sendNote', /key skip could be an answer/],
  [
    'a key could be a name',
    /(save: who\n {4}to: sendMail\n {4}options:\n {6}- \{ key: )0/,
    '$1B',
    'sendName',
    /key B could be an answer/,
  ],
  [
    'a key could be a number',
    /(save: days\n {4}to: sendId\n {4}options:\n {6}- \{ key: )0/,
    '$19',
    'sendDays',
    /key 9 could be an answer/,
  ],
  [
    'a key could be a PIN',
    /(answer: \{ kind: pin \}[\s\S]*?key: )0/,
    '$1"12345"',
    'pin',
    /key 12345 could be an answer/,
  ],
  // texts
  [
    'no translation of words',
    '{ en: Language, fr: Langue }\n    options',
    '{ en: Language }\n    options',
    'language',
    /no fr for "Language": add it/,
  ],
  ['no translation of a label', '{ en: Loans, fr: Crédits }', '{ en: Loans }', 'start', /no fr for "Loans"/],
  [
    'no translation of an invalid line',
    '{ en: Five digits., fr: Cinq chiffres. }',
    '{ en: Five digits. }',
    'pin',
    /no fr for "Five/,
  ],
  [
    'no translation of an invalid way',
    '{ en: Easy to guess., fr: Facile à deviner. }',
    '{ fr: Facile à deviner. }',
    'newPin',
    /no en for "Facile/,
  ],
  [
    'no translation of an effect',
    '{ en: "You owe {left|money:KES}.", fr: "Vous devez {left|money:KES}." }',
    '{ en: "You owe {left|money:KES}." }',
    'loan',
    /no fr for "You owe/,
  ],
  [
    'no translation of an empty list',
    "{ en: You have no loan., fr: Vous n'avez pas de crédit. }",
    '{ en: You have no loan. }',
    'loans',
    /no fr for "You have/,
  ],
  [
    'no translation of a row',
    '{ en: "{row.name} {row.left|money:KES}", fr: "{row.name} {row.left|money:KES}" }',
    '{ en: "{row.name}" }',
    'loans',
    /no fr/,
  ],
  [
    'no translation of a pager',
    '{ en: More loans, fr: Autres crédits }',
    '{ en: More loans }',
    'loans',
    /no fr for "More loans"/,
  ],
  [
    'no translation of the engine’s words',
    'more: { en: Next, fr: Suite }',
    'more: { en: Next }',
    'more',
    /no fr for "Next"/,
  ],
  [
    'no translation of the farewell',
    /farewell: .*\n/,
    'farewell: { en: Bye }\n',
    'farewell',
    /no fr for "Bye"/,
  ],
  [
    'a language without the engine’s words',
    /languages: \[en, fr\]\nroot: start\nbudget: 182\nresume: 600\ninvalid: .*\n/,
    'languages: [en, fr, sw]\nroot: start\n',
    'invalid',
    /no sw for "Invalid choice/,
  ],
  [
    'a placeholder in a notice',
    '{ en: From 10 to 70000.',
    '{ en: "From 10 to {amount}."',
    'amount',
    /is written as it is: take the braces out/,
  ],
  [
    'a placeholder in the service’s notice',
    '{ en: "Not a choice.',
    '{ en: "{phone}, not a choice.',
    'start',
    /is written as it is/,
  ],
  [
    'a brace that opens nothing',
    'en: Your loans,',
    'en: "Your {loans",',
    'loans',
    /a brace in "Your \{loans" is no placeholder: mend it/,
  ],

  // names
  ['unknown fact', 'Hello {owner.name}', 'Hello {user.name}', 'start', /there is no fact user/],
  ['unknown fact that is loaded', 'facts: [sms]', 'facts: [smses]', 'loan', /there is no fact smses/],
  [
    'unknown value of a fact',
    'Hello {owner.name}',
    'Hello {owner.nick}',
    'start',
    /the fact owner has no nick: it has name/,
  ],
  [
    'a value that every object has',
    'Hello {owner.name}',
    'Hello {owner.constructor}',
    'start',
    /the fact owner has no constructor/,
  ],
  [
    'unknown value of the session',
    '{code} {customerId} at',
    '{code} {clientId} at',
    'sendAll',
    /\{clientId\} is kept by no node/,
  ],
  [
    'unknown value of a row',
    'set: { loan: "{row.name}"',
    'set: { loan: "{row.title}"',
    'loans',
    /\{row\.title\} is no value of what is listed: it has name/,
  ],
  [
    'a row outside its list',
    '"{loan} is a school',
    '"{row.name} is a school',
    'school',
    /\{row\.name\} has no row here/,
  ],
  [
    'a list over a fact without rows',
    'from: loans',
    'from: owner',
    'loans',
    /the fact owner has no rows to list: list another/,
  ],
  ['a list over nothing', 'from: loans', 'from: debts', 'loans', /there is no fact debts/],
  [
    'unknown formatter',
    '{amount|money:KES} of',
    '{amount|cash:KES} of',
    'confirm',
    /there is no formatter cash: there are money/,
  ],
  [
    'a formatter that every object has',
    '{amount|money:KES} of',
    '{amount|constructor} of',
    'confirm',
    /there is no formatter constructor/,
  ],
  [
    'unknown effect',
    '{ changePin: { pin',
    '{ setPin: { pin',
    'again',
    /there is no effect setPin: there is createAccount/,
  ],
  [
    'an effect that every object has',
    '{ changePin: { pin',
    '{ constructor: { pin',
    'again',
    /there is no effect constructor/,
  ],
  [
    'an effect lacks an argument',
    '{ send: { to: "{other}", note: "{note}" } }',
    '{ send: { to: "{other}" } }',
    'sendAll',
    /the effect send wants note: add it/,
  ],
  [
    'an effect has an argument too many',
    '{ changePin: { pin',
    '{ changePin: { now: "1", pin',
    'again',
    /the effect changePin takes no now: it takes pin/,
  ],
  [
    'an effect names nothing',
    'note: "{note}" }',
    'note: "{remark}" }',
    'sendAll',
    /\{remark\} is kept by no node/,
  ],
  [
    'an effect takes what may be another than was shown',
    'note: "{note}" }',
    'note: "{terms.rate}" }',
    'sendAll',
    /may be another than the screen showed: set it/,
  ],
  [
    'a language that the document has not',
    'language: fr } }',
    'language: sw } }',
    'language',
    /takes one of en, fr: name one/,
  ],
  ['pinAgain of nothing', 'of: pin }', 'of: pan }', 'again', /no new PIN is kept under pan: save one/],
  [
    'an effect on the root',
    'to: terms }',
    'to: [{ to: terms, effects: [{ logIn: {} }] }] }',
    'start',
    /an option of the root has an effect: put a screen before it/,
  ],
  [
    'a secret on a screen',
    '"Paid {amount|money:KES} for',
    '"Paid by {pin} for',
    'paid',
    /\{pin\} is a secret: only an effect may have it/,
  ],
  [
    'a secret under another name',
    'set: { plan: weekly }',
    'set: { plan: "{pin}" }',
    'plans',
    /\{pin\} is a secret/,
  ],
  [
    'a PIN that is kept',
    'answer: { kind: pin }\n',
    'answer: { kind: pin }\n    save: pin\n',
    'pin',
    /judged and not kept: remove save/,
  ],
  [
    'a value under a name that is given',
    'save: other',
    'save: phone',
    'sendTo',
    /phone is given already: keep it under another name/,
  ],
  [
    'a value that grows',
    'set: { plan: weekly }',
    'set: { plan: "{plan} weekly" }',
    'plans',
    /plan is set from itself and grows/,
  ],

  // answers
  [
    'a sample that is no answer',
    'sample: AB1234',
    'sample: ab1234',
    'sendCode',
    /the sample ab1234 is no answer: write one/,
  ],
  [
    'no number is an answer',
    'min: 1, max: 30 }',
    'min: 31, max: 30 }',
    'sendDays',
    /no answer is long enough and short enough: mend min and max/,
  ],
  ['no text is an answer', 'min: 2, max: 20', 'min: 21, max: 20', 'sendNote', /mend min and max/],

  // lengths
  [
    'an END too long',
    'en: We wish you a good harvest.',
    `en: ${'We wish you a good harvest. '.repeat(7)}`,
    'harvest',
    /the screen in en takes 195 septets of 182: shorten it/,
  ],
  [
    'an END too long in one language',
    'fr: Bonne récolte.',
    `fr: ${'Bonne récolte. '.repeat(13)}`,
    'harvest',
    /the screen in fr takes 194 septets of 182/,
  ],
  [
    'an END too long for UCS-2',
    'fr: Bonne récolte.',
    `fr: ${'Bonne fête. '.repeat(8)}`,
    'harvest',
    /the screen in fr takes 95 UCS-2 characters of 80, ê/,
  ],
  [
    'a question too long',
    'en: In how many days?',
    `en: ${'In how many days? '.repeat(10)}`,
    'sendDays',
    /the screen in en takes \d+ septets of 182/,
  ],
  [
    'a question too long in UCS-2',
    'fr: Dans combien de jours?',
    `fr: ${'Dès quand? Même? '.repeat(5)}`,
    'sendDays',
    /the screen in fr takes \d+ UCS-2/,
  ],
  [
    'a question too long with its notice',
    'fr: De 10 à 70000.',
    `fr: ${'De 10 à 70000. '.repeat(12)}`,
    'amount',
    /the screen in fr takes/,
  ],
  [
    'a question too long with a notice that costs double',
    'en: Five digits.',
    `en: "${'[5 |]'.repeat(21)}"`,
    'pin',
    /the screen in en takes \d+ septets/,
  ],
  [
    'an END too long with its values',
    'en: "Sent to {who}."',
    `en: "${'Sent to {who}. '.repeat(5)}"`,
    'sent',
    /the screen in en takes 200 septets/,
  ],
  [
    'an END too long with money',
    'en: We wish you a good harvest.',
    `en: "${'You owe {left|money:KES}! '.repeat(8)}"`,
    'harvest',
    /the screen in en takes \d+ septets/,
  ],
  [
    'a label too long for any page',
    'en: More loans,',
    `en: ${'More loans '.repeat(18)},`,
    'loans',
    /the screen in en takes \d+ septets of 182/,
  ],
  [
    'a row too long for any page',
    'label: { en: "{row.name} ',
    `label: { en: "${'{row.name} '.repeat(15)}`,
    'loans',
    /the screen in en takes \d+ septets/,
  ],
  [
    'fixed options too long for any page',
    'label: { en: Exit, fr: Quitter }, to: exit }\n\n  plans',
    `label: { en: ${'Exit '.repeat(35)}, fr: Quitter }, to: exit }\n\n  plans`,
    'terms',
    /the screen in en takes \d+ septets/,
  ],
  [
    'a notice too long for any page',
    'invalid: { en: "Not a choice. Reply with one of:"',
    `invalid: { en: "${'Not a choice. '.repeat(12)}"`,
    'start',
    /the screen in en takes \d+ septets/,
  ],
  [
    'a farewell too long',
    'farewell: { en: Too many wrong',
    `farewell: { en: ${'Too many wrong '.repeat(12)}`,
    'start',
    /the farewell in en takes \d+ septets of 182/,
  ],
  [
    'an offer to go on too long',
    'resume: 600',
    `resume: 600\ncutOff: { en: "${'You were cut off. '.repeat(9)}", fr: Coupé. }`,
    'start',
    /the offer to go on in en takes \d+ septets of 182/,
  ],
  [
    'no translation of the offer to go on',
    'resume: 600',
    'resume: 600\ngoOn: { en: Go on }',
    'goOn',
    /no fr for "Go on": add it/,
  ],
  [
    'a conversation too long for a request',
    'kind: email, max: 40',
    'kind: email, max: 100',
    'sent',
    /a conversation can take \d+ characters of 182: ask for less/,
  ],
  [
    'more pages than can be turned to',
    'A payment counts',
    `${'A payment counts. '.repeat(900)}A payment counts`,
    'terms',
    /the screen in en has \d+ pages, the last of them behind \d+ characters of 182: shorten it/,
  ],

  // the shape of the document
  ['no kind of node', 'say: { en: No more', 'tell: { en: No more', 'noSms', /./],
  ['an unknown kind of answer', 'kind: customerId', 'kind: accountId', 'sendId', /./],
  ['no options', /(noSms:\n {4}say.*\n {4}options:)\n.*\n/, '$1 []\n', 'noSms', /./],
  [
    'a key of two words',
    'key: 5, label: { en: Terms',
    'key: "a b", label: { en: Terms',
    'start',
    /a key is digits, \* or one word/,
  ],
  ['no regular expression', '[A-Z]{2}', '[A-Z{2}', 'sendCode', /is no regular expression/],
  ['an empty word', 'en: "Yes"', 'en: ""', 'confirm', /./],
  ['a word that nobody knows', 'per: 4', 'perPage: 4', 'loans', /perPage/],
  [
    'two effects in one',
    '[{ changePin: { pin: "{pin}" } }]',
    '[{ changePin: { pin: "{pin}" }, logIn: {} }]',
    'again',
    /an effect is one name/,
  ],
  ['a budget beyond the limit', 'budget: 182', 'budget: 183', 'budget', /./],
];

/** The broken documents whose paths are played: a third of them in `npm test`, another third each time. */
const THIRD = Math.floor(Math.random() * 3);
const PLAYED = new Set(MUTATIONS.filter((_, at) => SCALE >= 1 || at % 3 === THIRD).map(([name]) => name));

test('the good documents have no error, and every screen has a path that can be played', async (t) => {
  for (const [text, known] of DOCUMENTS) {
    const menu = menuOf(text, known);
    t.same(lint(menu, known), []);
    const paths = pathsOf(menu, known);
    t.same([...paths.keys()].sort(), Object.keys(menu.nodes).sort(), 'every screen is reached');
    for (const [node, path] of paths) t.ok(replays(menu, known, path, node), `${path} leads to ${node}`);
  }
});

test(`${MUTATIONS.length} broken documents: each is refused with file, line, node and remedy, and its path replays`, async (t) => {
  t.comment(`paths from document ${THIRD}`);
  t.ok(MUTATIONS.length >= 50);
  t.equal(new Set(MUTATIONS.map(([name]) => name)).size, MUTATIONS.length, 'every way has its own name');
  for (const [name, from, to, node, says] of MUTATIONS) {
    const broken = RICH.replace(from, to);
    t.not(broken, RICH, `${name}: the document is changed`);
    const parsed = parseMenu(broken, 'rich.yaml', RICH_KNOWN);
    const problems = parsed.menu === undefined ? parsed.problems : [];
    const named = new RegExp(`^rich\\.yaml:\\d+: (nodes\\.)?${node}[.:]`);
    const line = problems.find((problem) => says.test(problem) && named.test(problem));
    t.ok(line, `${name}: ${line ?? `not among ${problems.join('\n') || 'nothing'}`}`);
    const menu = PLAYED.has(name) ? readable(broken) : undefined;
    for (const { path, node } of menu === undefined ? [] : findingsOf(broken, menu)) {
      if (menu === undefined || path === undefined) continue;
      t.ok(replays(menu, RICH_KNOWN, path, node), `${name}: ${path} leads to ${node}`);
    }
  }
});

test('every finding about a screen that can be reached says how', async (t) => {
  for (const [name, from, to] of MUTATIONS) {
    const broken = RICH.replace(from, to);
    const menu = PLAYED.has(name) ? readable(broken) : undefined;
    if (menu === undefined) continue;
    const reached = reachable(menu, edgesOf(menu));
    for (const { node, path, problem } of findingsOf(broken, menu)) {
      if (nodeNamed(menu, node) !== undefined && reached.has(node))
        t.type(path, 'string', `${name}: ${node}: ${problem}`);
    }
  }
});

test('warnings: a message that can take more than four SMS, with every value at its longest', async (t) => {
  const saying = (en: string) => {
    const text = RICH.replace('You owe {left|money:KES}.', en);
    t.not(text, RICH);
    const parsed = parseMenu(text, 'rich.yaml', RICH_KNOWN);
    return parsed.menu === undefined ? parsed.problems : parsed.warnings;
  };
  // One of several has 153 letters of GSM; what a value adds counts at its longest.
  t.same(saying('x'.repeat(4 * 153)), []);
  t.match(saying('x'.repeat(4 * 153 + 1)), [
    /^rich\.yaml:\d+: \w+: the message in en can take 5 SMS, over 4: shorten it/,
  ]);
  t.match(saying(`${'x'.repeat(4 * 153 - 3)}{left}`), [/in en can take 5 SMS/]);
  t.match(saying('x'.repeat(10 * 153)), [/in en can take 10 SMS, over 4/]);
  t.match(saying('x'.repeat(10 * 153 + 1)), [/in en can take 11 SMS, and 10 are sent at most: shorten it/]);
  t.same(saying('ሀ'.repeat(4 * 67)), []);
  t.match(saying('ሀ'.repeat(4 * 67 + 1)), [/in en can take 5 SMS/]);
});

test('warnings: too deep, too many choices; ways back do not count', async (t) => {
  const warningsOf = (text: string) => {
    const parsed = parseMenu(text, 'rich.yaml', RICH_KNOWN);
    return parsed.menu === undefined ? parsed.problems : parsed.warnings;
  };
  const many = RICH.replace(
    /( {6}- \{ key: 5, label: \{ en: Terms.*\n)/,
    (option) => option + option.replace('key: 5', 'key: 7'),
  );
  t.match(warningsOf(many).join('\n'), /^rich\.yaml:\d+: start: has 8 choices, over 7: group them$/);
  const chain = Array.from(
    { length: 8 },
    (_, index) =>
      `  c${index}:\n    choose: C\n    options: [{ key: 1, label: On, to: c${index + 1} }, { key: 0, label: Back, to: back }]\n`,
  );
  const deep = `service: deep\nroot: c0\nnodes:\n${chain.join('')}  c8:\n    end: Bye\n`.replace(
    'to: c1 }, { key: 0, label: Back, to: back }',
    'to: c1 }',
  );
  t.same(warningsOf(deep), [
    'rich.yaml:23: c6: is 7 choices deep, over 6: bring it nearer (reached by 1*1*1*1*1*1)',
    'rich.yaml:26: c7: is 8 choices deep, over 6: bring it nearer (reached by 1*1*1*1*1*1*1)',
    'rich.yaml:29: c8: is 8 choices deep, over 6: bring it nearer (reached by 1*1*1*1*1*1*1*1)',
  ]);
});

test('no wrong document throws: whatever line is left out or exchanged, it is read or refused', async (t) => {
  const lines = RICH.split('\n');
  const without = lines.map((_, at) => [...lines.slice(0, at), ...lines.slice(at + 1)]);
  const exchanged = lines.map((line, at) => lines.toSpliced(at, 2, lines[at + 1] ?? '', line));
  // Every line, and every third exchange: a document takes 20 ms. In `npm test` every fourth of those, another fourth
  // each time.
  const all = [...without, ...exchanged.filter((_, at) => at % 3 === 0)];
  const every = SCALE < 1 ? 4 : 1;
  const first = Math.floor(Math.random() * every);
  t.comment(`from document ${first}`);
  const broken = all.filter((_, at) => at % every === first);
  const read = broken.map((changed) => parseMenu(changed.join('\n'), 'rich.yaml', RICH_KNOWN));
  const refused = read.flatMap((parsed) => (parsed.menu === undefined ? [parsed.problems] : []));
  t.ok(refused.length > read.length / 3, `${refused.length} of ${read.length} refused`);
  t.ok(
    refused.every(
      (problems) => problems.every((problem) => /^rich\.yaml(:\d+)?: ./.test(problem)) && problems[0],
    ),
    'each with words',
  );
});

test('no walk answers a secret: the pieces of a text stop before it (decision 35)', async (t) => {
  let stopped = 0;
  for (const [text, known] of DOCUMENTS) {
    const menu = menuOf(text, known);
    for (const [node, path] of pathsOf(menu, known)) {
      const content = menu.nodes[node];
      if (content === undefined || !('ask' in content) || !isSecret(content.answer)) continue;
      // Through the shell's own cutting: what stands behind the question is a PIN and more.
      const walk = walked(menu, known, `${path}*48213*48213*1`);
      t.same(walk.judged, [], `${path}: nothing is judged on the way to ${node}`);
      t.notMatch(JSON.stringify(walk.states), /48213/, `${path}: nothing of it is kept`);
      if (walk.stopped) stopped += 1;
    }
  }
  t.ok(stopped >= 6, `${stopped} walks came to a secret`);
});

/** Hears the pieces of a dialled-through text one by one, as the shell does: it stops before a secret. */
function walked(
  menu: Menu,
  known: Known,
  text: string,
): { judged: string[]; states: State[]; stopped: boolean } {
  const world = worldOf(menu, known);
  const states = [settled(world, (all) => begin(menu, all)).state];
  for (let at = 0; at < text.length; ) {
    const state = states.at(-1) as State;
    const ear = { ...hearing(menu, state), first: states.length === 1, through: true };
    const { input, end } = nextPiece(text, at, ear);
    if (secretOf(menu, state, input) !== undefined) return { judged: [], states, stopped: true };
    // The core throws where it is given a verdict that it did not ask for; here it is given what was typed.
    const next = settled(world, (all) => step(menu, state, input, all));
    if (!isWalkable(next.effects)) break;
    states.push(next.state);
    if (next.course !== 'moved') break;
    at = end;
  }
  return { judged: [], states, stopped: false };
}

function menuOf(text: string, known: Known): Menu {
  const parsed = parseMenu(text, 'menu.yaml', known);
  if (parsed.menu === undefined) throw new Error(parsed.problems.join('\n'));
  return parsed.menu;
}

const read = new Map<string, Menu | undefined>();
/** Returns the document where it has the shape of one, sound or not; read once for all tests of this file. */
function readable(text: string): Menu | undefined {
  if (!read.has(text)) read.set(text, Menu.safeParse(parse(text)).data);
  return read.get(text);
}

const found = new Map<string, Finding[]>();
/** What lint finds in a document, looked for once for all tests of this file. */
function findingsOf(text: string, menu: Menu): Finding[] {
  const known = found.get(text) ?? lint(menu, RICH_KNOWN);
  found.set(text, known);
  return known;
}

/** The worst world, with a school loan and a car loan among the rows. */
function worldOf(menu: Menu, known: Known): World {
  const world = worstWorld(known);
  const facts: Record<string, FactValue> = { ...world.facts };
  for (const node of Object.values(menu.nodes)) {
    if (!('list' in node)) continue;
    const rows = facts[node.from] ?? {};
    const kinds = ['school', 'car'];
    facts[node.from] = isRows(rows)
      ? rows.map((row, index) => ({ ...row, kind: kinds[index] ?? row.kind ?? '' }))
      : [];
  }
  return { ...world, facts };
}

/** Whether there are facts and verdicts with which the inputs of a path lead to a node. */
function replays(menu: Menu, known: Known, path: string, node: string): boolean {
  const world = worldOf(menu, known);
  const { state } = settled(world, (all) => begin(menu, all));
  return path === '' ? state.node === node : leads(menu, world, state, path, 0, node);
}

function leads(menu: Menu, world: World, state: State, path: string, at: number, node: string): boolean {
  if (at >= path.length) return state.node === node;
  // Samples have no star, so what a path joins comes apart again, whatever the screen may be answered with.
  const ear = { ...hearing(menu, state), whole: false, first: at === 0, through: false };
  const { input, end } = nextPiece(path, at, ear);
  const content = nodeNamed(menu, state.node);
  if (content === undefined) return false;
  const secret = secretOf(menu, state, input);
  const verdicts = secret === undefined ? [] : (VERDICTS[secret.answer.kind] ?? []);
  const heard = secret === undefined ? [input] : verdicts.map((verdict) => ({ verdict, keep: 'sealed' }));
  const worlds = waysFrom(content).map(({ when }) => withValues(world, meeting(when)));
  return [world, ...worlds].some((each) =>
    heard.some((said) => {
      const next = settled(each, (all) => step(menu, state, said, all));
      return next.course !== 'gaveUp' && leads(menu, world, next.state, path, end, node);
    }),
  );
}

function withValues(world: World, values: Record<string, string>): World {
  const facts: Record<string, FactValue> = { ...world.facts };
  for (const [name, value] of Object.entries(values)) {
    const [fact] = factOf(name);
    const known = fact === undefined ? [] : (facts[fact] ?? {});
    if (fact !== undefined && !isRows(known))
      facts[fact] = { ...known, [name.slice(fact.length + 1)]: value };
  }
  return { ...world, facts };
}

/** Facts that a broken document invents have no values. */
function settled(world: World, run: (world: World) => Step | Needs): Step {
  const result = run(world);
  if (!('needs' in result)) return result;
  const facts = { ...world.facts, ...Object.fromEntries(result.needs.map((fact) => [fact, {}])) };
  return settled({ ...world, facts }, run);
}
