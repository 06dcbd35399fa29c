/**
 * Whatever comes in, the answer is one of the contract's and the process lives; whatever a menu document holds, it is
 * read or refused in words. fast-check prints the seed and the smallest case of a failure; what it has found is kept
 * in test/fuzz-found.ts.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type Ear, nextPiece, piecesLeft, prefixes } from '../src/flow/address.ts';
import { parseMenu } from '../src/menus.ts';
import { knownOf, SERVICES } from '../src/tools/project.ts';
import { DOCUMENTS } from './fuzz-found.ts';
import { ask } from './support/ask.ts';
import { DEFAULTS, type Gateway, startGateway } from './support/gateway.ts';
import { database } from './support/postgres.ts';
import fc from './support/property.ts';
import { scaled } from './support/scale.ts';

/** Processor time in which any document is read or refused: the largest of ours takes a second. */
const READ_MS = 10_000;

type Posted = { type: string; body: Uint8Array };

/** Fields that a route knows, each as it should be. */
type Good = Record<string, string>;

const PHONE = '+254711000111';
const GOOD: Record<string, Good> = {
  '/api/ussd': DEFAULTS,
  '/ussd/session': { ...DEFAULTS, networkCode: '63902' },
  '/ussd/status': {
    date: '2025-09-29 12:00:00',
    sessionId: 'session-001',
    serviceCode: '*1234#',
    phoneNumber: PHONE,
    status: 'Success',
    networkCode: '63902',
    cost: 'KES 0.10',
    durationInMillis: '1200',
    hopsCount: '3',
    input: '1*2',
    errorMessage: 'none',
  },
  '/sms/delivery-reports': {
    id: 'ATXid_1',
    status: 'Failed',
    phoneNumber: PHONE,
    failureReason: 'DeliveryFailure',
  },
  '/sms/opt-out': { senderId: 'MyBrand', phoneNumber: PHONE },
  '/sms/subscription': { phoneNumber: PHONE, shortCode: '12345', keyword: 'news', updateType: 'addition' },
  '/sms/twoway': {
    text: 'STOP',
    to: '12345',
    id: 'm-1',
    date: '2026-03-04 10:30:00',
    from: PHONE,
    linkId: 'l-1',
  },
  '/airtime/status': { phoneNumber: PHONE, status: 'Success', requestId: 'ATQid_1', value: 'KES 50.0000' },
  '/airtime/validation': { transactionId: 'x', phoneNumber: PHONE, currencyCode: 'KES', amount: '50.00' },
};

/** What may be answered, status and body: docs/contract.md sections 1, 4 and 5. */
const SCREEN = /^200 (CON|END) (?!Service temporarily)/;
const ANSWERS: Record<string, RegExp> = {
  '/api/ussd': SCREEN,
  '/ussd/session': SCREEN,
  '/sms/twoway': /^(200 GOOD|400 BAD)$/,
  '/airtime/validation': /^200 \{"status":"(Validated|Failed)"\}$/,
};
const ACKNOWLEDGED = /^200 OK$/;
const INVALID = 'END Invalid input. Please try again.';

const TYPES = ['application/json', 'application/x-www-form-urlencoded'] as const;
const OTHER_TYPES = [
  'application/json; charset=utf-8',
  'application/json; charset=latin1',
  'text/plain',
  'multipart/form-data',
];

const odd = fc.oneof(
  fc.jsonValue({ maxDepth: 2 }),
  fc.string({ unit: 'binary', maxLength: 200 }),
  fc.stringMatching(/^[0-9*#+ -]{0,40}$/),
  fc.constantFrom('\0', '\ud800', '‮', '__proto__', "'; drop table turns; --", '٣', '1'.repeat(200), '+1\n'),
);

/** Sessions that go on, beside one that everybody is in, and ways through the menus. */
const usual: Record<string, fc.Arbitrary<string>> = {
  sessionId: fc.stringMatching(/^s-[0-9]{1,2}$/),
  text: fc.stringMatching(/^([0-9*]{1,2}(\*[0-9*]{1,2}){0,6})?$/),
  serviceCode: fc.constantFrom('*1234#', '*144#', '*123#', '*384*1#', '*555#'),
};

/** Mostly good fields, some of them odd or away, and some that nobody knows. */
function almost(good: Good): fc.Arbitrary<Record<string, unknown>> {
  const fields = Object.entries(good).map(([name, value]) => [
    name,
    fc.oneof(
      { weight: 8, arbitrary: fc.constant<unknown>(value) },
      { weight: 8, arbitrary: usual[name] ?? fc.constant(value) },
      { weight: 1, arbitrary: odd },
      { weight: 1, arbitrary: fc.constant(undefined) },
    ),
  ]);
  const more = fc.dictionary(fc.string({ maxLength: 8 }), odd, { maxKeys: 2 });
  return fc
    .tuple(fc.record(Object.fromEntries(fields) as Record<string, fc.Arbitrary<unknown>>), more)
    .map(([own, more]) => ({ ...more, ...own }));
}

function inBytes(type: string, fields: Record<string, unknown>): Uint8Array {
  if (type.startsWith('application/json')) return Buffer.from(JSON.stringify(fields));
  const there = Object.entries(fields).filter(([, value]) => value !== undefined);
  const words = there.map(([name, value]): [string, string] => [
    name.toWellFormed(),
    // Not by its own words: among what is thrown at us are objects whose `toString` is none.
    (typeof value === 'string' ? value : JSON.stringify(value)).toWellFormed(),
  ]);
  return Buffer.from(new URLSearchParams(words).toString());
}

/** A body that is good in part: other bytes written over it, or its end cut off. */
const spoilt = (bytes: Uint8Array): fc.Arbitrary<Uint8Array> =>
  fc
    .tuple(fc.nat(bytes.length), fc.uint8Array({ maxLength: 6 }), fc.boolean())
    .map(([at, other, cut]) =>
      cut ? bytes.slice(0, at) : Buffer.concat([bytes.slice(0, at), other, bytes.slice(at + other.length)]),
    );

function posted(good: Good): fc.Arbitrary<Posted> {
  const type = fc.oneof(
    { weight: 8, arbitrary: fc.constantFrom<string>(...TYPES) },
    { weight: 1, arbitrary: fc.constantFrom(...OTHER_TYPES) },
  );
  const like = fc.tuple(type, almost(good)).map(([type, fields]) => ({ type, body: inBytes(type, fields) }));
  return fc.oneof(
    { weight: 5, arbitrary: like },
    { weight: 2, arbitrary: like.chain(({ type, body }) => spoilt(body).map((body) => ({ type, body }))) },
    { weight: 1, arbitrary: fc.record({ type, body: fc.uint8Array({ maxLength: 300 }) }) },
    { weight: 1, arbitrary: fc.record({ type, body: fc.json().map((json) => Buffer.from(json)) }) },
  );
}

t.test('requests', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const gateway = await startGateway(t, { DATABASE_URL });
  for (const [route, good] of Object.entries(GOOD)) {
    await t.test(route, async (t) => {
      const seen = new Set<string>();
      const property = fc.asyncProperty(posted(good), async (request) => {
        seen.add(await answered(gateway, route, request));
      });
      const runs = scaled(route === '/api/ussd' ? 1_500 : 300);
      await fc.assert(property, { numRuns: runs });
      t.ok(seen.size > 0, `answered: ${[...seen].sort().slice(0, 4).join(' | ').replaceAll('\n', '/')}`);
      await lives(t, gateway);
    });
  }
});

/** The answer in short. Throws where the contract has no such answer. */
async function answered(gateway: Gateway, route: string, { type, body }: Posted): Promise<string> {
  const headers = { 'content-type': type };
  const told = await ask(gateway.url + route, { method: 'POST', headers, body: Buffer.from(body) });
  const words = `${told.status} ${told.body.toString()}`;
  if (!(ANSWERS[route] ?? ACKNOWLEDGED).test(words)) throw new Error(`answered ${words}`);
  const { 'x-ussd-outcome': outcome } = told.headers;
  if (outcome === 'invalid' && words !== `200 ${INVALID}`)
    throw new Error(`invalid, in other words: ${words}`);
  return words.slice(0, 30);
}

async function lives(t: Test, gateway: Gateway): Promise<void> {
  t.equal((await fetch(gateway.url)).status, 200);
  const errors = gateway.output().match(/^.*"level":"(error|fatal)",.*$/gm) ?? [];
  t.same(errors.slice(0, 2), [], 'and has nothing to complain of');
}

/** The large one, which takes as long as all the others together, is tried less often. */
const SERVICE = fc.oneof(
  { weight: 15, arbitrary: fc.constantFrom('ixo', 'airtime', 'demo', 'support') },
  { weight: 1, arbitrary: fc.constant('invest') },
);
const textOf = (service: string) => readFileSync(join(SERVICES, service, 'menu.yaml'), 'utf8');

/** What YAML, JavaScript and the documents themselves find special. */
const TOKENS = [
  ...[
    '*x',
    '&a ',
    '<<: *a',
    '!!binary ',
    '!x ',
    '{',
    '}',
    '[',
    ']',
    '"',
    "'",
    '- ',
    ': ',
    '#',
    '\t',
    '|',
    '>',
    '%',
  ],
  ...[
    'null',
    '~',
    '.inf',
    '1e999',
    '0x1F',
    '99999999999999999999',
    '2001-01-01',
    '__proto__: 1',
    'constructor',
  ],
  ...[
    '{phone}',
    '{',
    '{nobody}',
    '{amount|money:KES}',
    '{amount|nothing}',
    'to: back',
    'end: x',
    '\u0000',
    '\ud83d',
  ],
];

type Change = { kind: 'drop' | 'double' | 'swap' | 'token' | 'byte' | 'word'; at: number; to: number };

/** One change to a document, at a place given as a share of its length. */
function changed(text: string, { kind, at, to }: Change): string {
  const lines = text.split('\n');
  const [here, there] = [Math.floor(at * lines.length), Math.floor(to * lines.length)];
  const offset = Math.floor(at * text.length);
  if (kind === 'drop') return lines.toSpliced(here, 1).join('\n');
  if (kind === 'double') return lines.toSpliced(there, 0, lines[here] ?? '').join('\n');
  if (kind === 'swap')
    return lines
      .with(here, lines[there] ?? '')
      .with(there, lines[here] ?? '')
      .join('\n');
  if (kind === 'byte')
    return text.slice(0, offset) + String.fromCharCode(to * 0x300) + text.slice(offset + 1);
  if (kind === 'token')
    return text.slice(0, offset) + TOKENS[Math.floor(to * TOKENS.length)] + text.slice(offset);
  const words = text.match(/\w+/g) ?? [];
  const [old = 'x', other = 'y'] = [
    words[Math.floor(at * words.length)],
    words[Math.floor(to * words.length)],
  ];
  return text.replace(new RegExp(`\\b${old}\\b`), other);
}

const share = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
const change: fc.Arbitrary<Change> = fc.record({
  kind: fc.constantFrom('drop', 'double', 'swap', 'token', 'byte', 'word'),
  at: share,
  to: share,
});

t.test('menu documents are read, or refused in words', async (t) => {
  const count = { read: 0, refused: 0 };
  const read = (service: string, text: string) => {
    const began = process.cpuUsage();
    const parsed = parseMenu(text, 'menu.yaml', knownOf(service));
    const { user, system } = process.cpuUsage(began);
    const ms = (user + system) / 1_000;
    if (ms > READ_MS) throw new Error(`took ${ms} ms`);
    if (parsed.menu !== undefined) count.read += 1;
    else {
      count.refused += 1;
      const odd = parsed.problems.filter((problem) => !/^menu\.yaml(:\d+)?: \S/.test(problem));
      if (parsed.problems.length === 0 || odd.length > 0) throw new Error(`refused with: ${odd.join('\n')}`);
    }
  };
  for (const { name, text } of DOCUMENTS) {
    t.doesNotThrow(() => read('demo', text), name);
  }
  const changes = fc.array(change, { minLength: 1, maxLength: 4 });
  const property = fc.property(SERVICE, changes, (service, changes) =>
    read(service, changes.reduce(changed, textOf(service))),
  );
  fc.assert(property, { numRuns: scaled(400) });
  t.ok(count.read + count.refused > DOCUMENTS.length, `${count.read} were read, ${count.refused} refused`);
});

t.test('the text as an address', async (t) => {
  const text = fc.stringMatching(/^[12*]{0,24}$/);
  await t.test('prefixes are those of the ruling', async () => {
    const named = (whole: string) =>
      Array.from({ length: whole.length + 1 }, (_, length) => whole.slice(0, length)).filter(
        (part) => part === '' || part === whole || whole.startsWith(`${part}*`),
      );
    fc.assert(
      fc.property(text, (whole) => {
        t.same(prefixes(whole), named(whole));
      }),
    );
  });

  await t.test('what was typed one by one is what is heard', async (t) => {
    const ear = { through: false, whole: false };
    // Where `*` is a key nothing is typed empty, where it is none, nothing is a star: else two walks had one text.
    const typed = fc.oneof(
      fc.record({
        star: fc.constant(true),
        inputs: fc.array(fc.constantFrom('1', '22', '*'), { minLength: 1 }),
      }),
      fc.record({
        star: fc.constant(false),
        inputs: fc.array(fc.constantFrom('1', '22', ''), { minLength: 1 }),
      }),
    );
    fc.assert(
      fc.property(typed, ({ star, inputs }) => {
        const whole = inputs.join('*');
        // No text, no input; and a lone star is the key, whatever the screen offers (decision 2).
        fc.pre(whole !== '' && !(whole === '*' && !star));
        t.same(heard(whole, { ...ear, star }), inputs);
      }),
    );
  });

  await t.test('every text comes to its end, and nothing of it is left out', async () => {
    const ears = fc.record({ star: fc.boolean(), whole: fc.boolean(), through: fc.boolean() });
    fc.assert(
      fc.property(text, ears, (whole, ear) => {
        const inputs = heard(whole, ear);
        t.ok(
          inputs.length <= whole.length + 1 &&
            inputs.join('').replaceAll('*', '').length === whole.replaceAll('*', '').length,
        );
        t.equal(piecesLeft(whole, whole.length), 0);
      }),
    );
  });
});

/** The inputs of a text, cut one by one from its start. */
function heard(text: string, ear: Omit<Ear, 'first'>): string[] {
  const inputs: string[] = [];
  for (let from = 0, first = true; from < text.length || (first && text !== ''); first = false) {
    const { input, end } = nextPiece(text, from, { ...ear, first });
    inputs.push(input);
    if (inputs.length > text.length + 1) throw new Error(`"${text}" has no end`);
    from = end;
  }
  return inputs;
}
