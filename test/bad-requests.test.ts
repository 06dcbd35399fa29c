import { METHODS } from 'node:http';
import { connect } from 'node:net';
import { gzipSync } from 'node:zlib';
import pg from 'pg';
import t from 'tap';
import { ask, type Told } from './support/ask.ts';
import { DEFAULTS, type Gateway, startGateway } from './support/gateway.ts';
import { database } from './support/postgres.ts';

const JSON_TYPE = { 'content-type': 'application/json' };
const FORM_TYPE = { 'content-type': 'application/x-www-form-urlencoded' };

/** A request to /api/ussd: what is odd about it, its headers, its bytes. */
type Row = [name: string, headers: Record<string, string>, body: string | Buffer];

const INVALID = plainly('invalid', 'END Invalid input. Please try again.');
const ROOT = 'CON Welcome to IXO USSD\n1. Know More\n2. Account Menu\n*. Exit';

/** Everything of an answer that the contract fixes (docs/contract.md section 1). */
function plainly(outcome: string, body: string) {
  return { status: 200, type: 'text/plain; charset=utf-8', cache: 'no-store', outcome, body };
}

function seen({ status, headers, body }: Told) {
  const { 'content-type': type, 'cache-control': cache, 'x-ussd-outcome': outcome } = headers;
  return { status, type, cache, outcome, body: body.toString('latin1') };
}

/** A good body with some fields replaced; `undefined` leaves one out. */
function json(fields: Record<string, unknown>): string {
  return JSON.stringify({ ...DEFAULTS, ...fields });
}

function form(fields: Record<string, string | undefined>, more = ''): string {
  const all = Object.entries({ ...DEFAULTS, ...fields }).filter(([, value]) => value !== undefined);
  return new URLSearchParams(all as [string, string][]).toString() + more;
}

/** A good body in JSON whose text is spelled out, so that it may hold what no encoder would write. */
function spelled(text: string | Buffer): Buffer {
  const [before, after] = json({ text: '\u0001' }).split('\\u0001') as [string, string];
  return Buffer.concat([Buffer.from(before), Buffer.from(text), Buffer.from(after)]);
}

function formText(text: string | Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${form({ text: undefined })}&text=`), Buffer.from(text)]);
}

function padded(length: number, session: string): string {
  const bare = json({ sessionId: session, more: '' });
  return json({ sessionId: session, more: 'x'.repeat(length - bare.length) });
}

const named = (character: number) => `U+${character.toString(16).toUpperCase().padStart(4, '0')}`;
const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index);

/** Values of a wrong type, for every field: no coercion, so not even of what would spell a good value. */
const WRONG_TYPES: [string, unknown][] = [
  ['missing', undefined],
  ['null', null],
  ['zero', 0],
  ['a number', 1234],
  ['true', true],
  ['false', false],
  ['an empty array', []],
  ['an array of one string', ['1']],
  ['an empty object', {}],
  ['an object', { toString: '1' }],
];

const WRONG_STRINGS: Record<keyof typeof DEFAULTS, [string, string][]> = {
  sessionId: [
    ['empty', ''],
    ['of 101 characters', 's'.repeat(101)],
    ['with a space', 'session 001'],
    ['with a leading space', ' session-001'],
    ['with a trailing newline', 'session-001\n'],
    ['with a tab', 'session\t001'],
    ['with NUL', 'session\u0000'],
    ['with DEL', 'session\u007f'],
    ['in another script', 'sessión-001'],
    ['with an emoji', 'session-👍'],
    ['with a no-break space', 'session\u00a0001'],
    ['in full-width characters', 'ｓｅｓｓｉｏｎ'],
  ],
  serviceCode: [
    ['empty', ''],
    ['without its star', '1234#'],
    ['without its hash', '*1234'],
    ['of nothing', '*#'],
    ['with an empty segment', '*1234**1#'],
    ['with a trailing star', '*1234*#'],
    ['with a second hash', '*1234##'],
    ['with letters', '*12a4#'],
    ['with a leading space', ' *1234#'],
    ['with a trailing newline', '*1234#\n'],
    ['with a segment of 11 digits', '*12345678901#'],
    ['of 41 characters', `*${'1234567890*'.repeat(3)}123456#`],
    ['in Arabic-Indic digits', '*١٢٣٤#'],
    ['in full-width digits', '*１２３４#'],
    ['with a full-width star', '＊1234#'],
  ],
  phoneNumber: [
    ['empty', ''],
    ['without its plus', '260971234567'],
    ['with 00 for the plus', '00260971234567'],
    ['that begins with zero', '+0971234567'],
    ['of one digit', '+2'],
    ['of 16 digits', '+1234567890123456'],
    ['with spaces', '+260 97 1234567'],
    ['with dashes', '+260-971-234567'],
    ['with a leading space', ' +260971234567'],
    ['with a trailing space', '+260971234567 '],
    ['with a trailing newline', '+260971234567\n'],
    ['with a line before it', '1\n+260971234567'],
    ['with letters', '+26097123456x'],
    ['with two pluses', '++260971234567'],
    ['in Arabic-Indic digits', '+٢٦٠٩٧١٢٣٤٥٦٧'],
    ['in full-width digits', '+２６０９７１２３４５６７'],
    ['as a URI', 'tel:+260971234567'],
  ],
  text: [
    ['of 183 characters', '1'.repeat(183)],
    ['of 183 emoji', '👍'.repeat(183)],
    ['of 11 inputs', Array(11).fill('1').join('*')],
    ['with a trailing newline', '1\n'],
    ['with CR LF', '1\r\n2'],
    ...range(0, 0x1f).map((code): [string, string] => [
      `with ${named(code)}`,
      `1${String.fromCharCode(code)}`,
    ]),
    ...range(0x7f, 0x9f).map((code): [string, string] => [`with ${named(code)}`, String.fromCharCode(code)]),
    ...[...range(0x202a, 0x202e), ...range(0x2066, 0x2069)].map((code): [string, string] => [
      `with ${named(code)}`,
      `1*${String.fromCharCode(code)}2`,
    ]),
  ],
};

const FIELDS = Object.keys(DEFAULTS) as (keyof typeof DEFAULTS)[];

const BAD_FIELDS: Row[] = FIELDS.flatMap((field): Row[] => [
  ...WRONG_TYPES.map(([what, value]): Row => [`JSON: ${field} ${what}`, JSON_TYPE, json({ [field]: value })]),
  ...WRONG_STRINGS[field].flatMap(([what, value]): Row[] => [
    [`JSON: ${field} ${what}`, JSON_TYPE, json({ [field]: value })],
    [`form: ${field} ${what}`, FORM_TYPE, form({ [field]: value })],
  ]),
  [`form: ${field} missing`, FORM_TYPE, form({ [field]: undefined })],
  [
    `form: ${field} twice, the same`,
    FORM_TYPE,
    form({}, `&${new URLSearchParams({ [field]: DEFAULTS[field] })}`),
  ],
  [`form: ${field} twice, different`, FORM_TYPE, form({}, `&${field}=1`)],
  [`form: ${field} three times`, FORM_TYPE, form({}, `&${field}=1&${field}=2`)],
  [`form: ${field} in brackets`, FORM_TYPE, form({ [field]: undefined, [`${field}[]`]: DEFAULTS[field] })],
  [`JSON: ${field} only in a prototype`, JSON_TYPE, prototyped(field)],
]);

function prototyped(field: keyof typeof DEFAULTS): string {
  return json({ [field]: undefined }).replace('{', `{"__proto__":{"${field}":"${DEFAULTS[field]}"},`);
}

const BAD_TEXTS: Row[] = [
  ['JSON: a high surrogate alone', JSON_TYPE, spelled('\\ud800')],
  ['JSON: a low surrogate alone', JSON_TYPE, spelled('\\udc00')],
  ['JSON: a pair the wrong way round', JSON_TYPE, spelled('\\udc00\\ud800')],
  ['JSON: a high surrogate before a letter', JSON_TYPE, spelled('\\ud83da')],
  ['JSON: an escaped NUL', JSON_TYPE, spelled('1\\u0000')],
  ['JSON: a raw newline', JSON_TYPE, spelled('1\n')],
  ['JSON: a raw NUL', JSON_TYPE, spelled('1\0')],
  ['JSON: a byte of Latin-1', JSON_TYPE, spelled(Buffer.from('é', 'latin1'))],
  ['JSON: the byte FF', JSON_TYPE, spelled(Buffer.of(0xff))],
  ['JSON: a character cut short', JSON_TYPE, spelled(Buffer.of(0xe2, 0x82))],
  ['JSON: an overlong NUL', JSON_TYPE, spelled(Buffer.of(0xc0, 0x80))],
  ['JSON: a surrogate as three bytes', JSON_TYPE, spelled(Buffer.of(0xed, 0xa0, 0x80))],
  ['JSON: beyond Unicode', JSON_TYPE, spelled(Buffer.of(0xf4, 0x90, 0x80, 0x80))],
  ['JSON: an unknown escape', JSON_TYPE, spelled('\\x31')],
  ['form: %FF', FORM_TYPE, formText('%FF')],
  ['form: a percent sign alone', FORM_TYPE, formText('1%')],
  ['form: half an escape', FORM_TYPE, formText('%4')],
  ['form: no hex digits', FORM_TYPE, formText('%zz')],
  ['form: an escape cut short', FORM_TYPE, formText('%E2%82')],
  ['form: an overlong NUL', FORM_TYPE, formText('%C0%80')],
  ['form: a surrogate as three escapes', FORM_TYPE, formText('%ED%A0%80')],
  ['form: %00', FORM_TYPE, formText('1%00')],
  ['form: a byte of Latin-1', FORM_TYPE, formText(Buffer.from('é', 'latin1'))],
  ['form: the byte FF', FORM_TYPE, formText(Buffer.of(0xff))],
  ['form: a broken escape in a name', FORM_TYPE, form({}, '&%FF=1')],
  ['form: a broken escape in another field', FORM_TYPE, form({}, '&more=%FF')],
  ['form: a plus sign that was not escaped', FORM_TYPE, form({}).replace('%2B', '+')],
  ['form: semicolons for ampersands', FORM_TYPE, form({}).replaceAll('&', ';')],
];

const BAD_BODIES: Row[] = [
  ['JSON: no body', JSON_TYPE, ''],
  ['form: no body', FORM_TYPE, ''],
  ['no body, no type', {}, ''],
  ['JSON: white space', JSON_TYPE, ' \n'],
  ['JSON: null', JSON_TYPE, 'null'],
  ['JSON: an empty array', JSON_TYPE, '[]'],
  ['JSON: a good request in an array', JSON_TYPE, `[${json({})}]`],
  ['JSON: a string', JSON_TYPE, '"x"'],
  ['JSON: a good request in a string', JSON_TYPE, JSON.stringify(json({}))],
  ['JSON: a number', JSON_TYPE, '1'],
  ['JSON: true', JSON_TYPE, 'true'],
  ['JSON: an empty object', JSON_TYPE, '{}'],
  ['JSON: cut short', JSON_TYPE, json({}).slice(0, -1)],
  ['JSON: goes on behind its end', JSON_TYPE, `${json({})}x`],
  ['JSON: two requests', JSON_TYPE, json({}) + json({})],
  ['JSON: a trailing comma', JSON_TYPE, json({}).replace('}', ',}')],
  ['JSON: single quotes', JSON_TYPE, json({}).replaceAll('"', "'")],
  ['JSON: a comment', JSON_TYPE, `/* */${json({})}`],
  ['JSON: 8,000 open brackets', JSON_TYPE, '['.repeat(8_000)],
  ['JSON: UTF-16 little endian', JSON_TYPE, Buffer.from(json({}), 'utf16le')],
  ['JSON: UTF-16 with its mark', JSON_TYPE, Buffer.from(`\ufeff${json({})}`, 'utf16le')],
  ['JSON: UTF-16 big endian', JSON_TYPE, Buffer.from(json({}), 'utf16le').swap16()],
  ['JSON: gzip', { ...JSON_TYPE, 'content-encoding': 'gzip' }, gzipSync(json({}))],
  ['form: gzip', { ...FORM_TYPE, 'content-encoding': 'gzip' }, gzipSync(form({}))],
  ['form: UTF-16', FORM_TYPE, Buffer.from(form({}), 'utf16le')],
  ['form: JSON', FORM_TYPE, json({})],
  ['JSON: a form', JSON_TYPE, form({})],
  ['JSON: 8 KiB and a byte', JSON_TYPE, padded(8 * 1024 + 1, 'large')],
  [
    'JSON: 8 KiB and a byte, chunked',
    { ...JSON_TYPE, 'transfer-encoding': 'chunked' },
    padded(8 * 1024 + 1, 'large'),
  ],
  ['JSON: 64 KiB', JSON_TYPE, padded(64 * 1024, 'large')],
  ['form: 8 KiB and a byte', FORM_TYPE, form({}, '&more=').padEnd(8 * 1024 + 1, 'x')],
];

const BAD_TYPES: Row[] = [
  ...[
    'text/plain',
    'text/json',
    'application/jsonp',
    'application/xml',
    'application/octet-stream',
    'application/json-patch+json',
    'multipart/form-data; boundary=x',
    'json',
    ';;;',
    '*/*',
  ].map((type): Row => [`type ${type}`, { 'content-type': type }, json({})]),
  ['no type', {}, json({})],
  ...[
    'utf-16',
    'utf-16le',
    'utf-32',
    'iso-8859-1',
    'ISO-8859-1',
    'us-ascii',
    'windows-1252',
    '"utf-7"',
    'x',
  ].flatMap((charset): Row[] => [
    [`JSON: charset ${charset}`, { 'content-type': `application/json; charset=${charset}` }, json({})],
    [
      `form: charset ${charset}`,
      { 'content-type': `application/x-www-form-urlencoded;charset=${charset}` },
      form({}),
    ],
  ]),
  [
    'JSON: UTF-16 that says so',
    { 'content-type': 'application/json; charset=utf-16le' },
    Buffer.from(json({}), 'utf16le'),
  ],
];

const BAD = [...BAD_FIELDS, ...BAD_TEXTS, ...BAD_BODIES, ...BAD_TYPES];

/** Texts that are plain input, however odd: no menu of ours has a choice of that name. */
const PLAIN_INPUTS = [
  '9',
  'ALICE',
  'é',
  'ሰላም',
  'مرحبا',
  '你好',
  '👍',
  '👩‍👩‍👧‍👦',
  'e\u0301',
  ' 1',
  '\u00a0',
  '\u200b',
  '\u200e',
  '\u2028',
  '\ufeff',
  '\ufffd',
  '\uffff',
  '\ue000',
  '１',
  "'; drop table turns; --",
  '%31',
  '\\',
  '"',
  '$(1)',
  '<b>1</b>',
];

/** Requests that are good although they look odd; all of them are first requests of a session. */
const GOOD: Row[] = [
  ['a session id of 100 characters', JSON_TYPE, json({ sessionId: '~'.repeat(100) })],
  ['a session id of one character', JSON_TYPE, json({ sessionId: '!' })],
  ['a session id that looks like a path', JSON_TYPE, json({ sessionId: '../%2e%2e/;"\'' })],
  [
    'a service code of 40 characters',
    JSON_TYPE,
    json({ sessionId: 'g1', serviceCode: `*${'1234567890*'.repeat(3)}12345#` }),
  ],
  ['a service code of two segments', JSON_TYPE, json({ sessionId: 'g2', serviceCode: '*321*456#' })],
  ['the longest phone number', JSON_TYPE, json({ sessionId: 'g3', phoneNumber: '+123456789012345' })],
  ['the shortest phone number', JSON_TYPE, json({ sessionId: 'g4', phoneNumber: '+12' })],
  ['8 KiB to the byte', JSON_TYPE, padded(8 * 1024, 'g5')],
  ['a form of 8 KiB to the byte', FORM_TYPE, form({ sessionId: 'g6' }, '&more=').padEnd(8 * 1024, 'x')],
  ['JSON with a byte order mark', JSON_TYPE, `\ufeff${json({ sessionId: 'g7' })}`],
  ['a form with a byte order mark', FORM_TYPE, `\ufeff${form({ sessionId: 'g8' })}`],
  ['charset UTF-8', { 'content-type': 'application/json; charset=UTF-8' }, json({ sessionId: 'g9' })],
  [
    'charset "utf-8" quoted',
    { 'content-type': 'Application/JSON;charset="utf-8"' },
    json({ sessionId: 'g10' }),
  ],
  [
    'a form with a charset',
    { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' },
    form({ sessionId: 'g11' }),
  ],
  ['chunked', { ...JSON_TYPE, 'transfer-encoding': 'chunked' }, json({ sessionId: 'g12' })],
  ['JSON with white space', JSON_TYPE, JSON.stringify({ ...DEFAULTS, sessionId: 'g13' }, null, '\t')],
  ['an extra field', JSON_TYPE, json({ sessionId: 'g14', pin: '12345', nested: [{ deep: null }] })],
  ['__proto__', JSON_TYPE, json({ sessionId: 'g15' }).replace('{', '{"__proto__":{"text":"1","x":1},')],
  ['constructor', JSON_TYPE, json({ sessionId: 'g16', constructor: { prototype: { text: '1' } } })],
  ['constructor, a string', JSON_TYPE, json({ sessionId: 'g17', constructor: '1' })],
  [
    'names of Object.prototype',
    JSON_TYPE,
    json({ sessionId: 'g18', toString: null, hasOwnProperty: 0, valueOf: '' }),
  ],
  ['a form with __proto__', FORM_TYPE, form({ sessionId: 'g19' }, '&__proto__=1&__proto__[text]=1')],
  [
    'a form with constructor',
    FORM_TYPE,
    form({ sessionId: 'g20' }, '&constructor=1&toString=1&hasOwnProperty=1'),
  ],
  ['a form with stray ampersands', FORM_TYPE, `&&${form({ sessionId: 'g21' })}&`],
  ['a form with a field without a value', FORM_TYPE, form({ sessionId: 'g22' }, '&more')],
  ['a form whose text has no equals sign', FORM_TYPE, form({ sessionId: 'g23', text: undefined }, '&text')],
  [
    'deep nesting in a field that is dropped',
    JSON_TYPE,
    json({ sessionId: 'g24' }).replace('{', `{"x":${'['.repeat(3_900)}${']'.repeat(3_900)},`),
  ],
  ...[
    null,
    62120,
    true,
    [],
    {},
    '',
    'x',
    '621 20',
    '62120\n',
    '٦٢١٢٠',
    '9'.repeat(50),
    ['62120'],
    '-1',
    '1e3',
    '62120',
  ].map(
    (networkCode, index): Row => [
      `networkCode ${JSON.stringify(networkCode)}`,
      JSON_TYPE,
      json({ sessionId: `n${index}`, networkCode }),
    ],
  ),
  ['networkCode twice in a form', FORM_TYPE, form({ sessionId: 'n99' }, '&networkCode=62120&networkCode=1')],
];

t.test('bad requests, good ones and broken connections', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const gateway = await startGateway(t, { DATABASE_URL, GATEWAYS: 'abc=cumulative', LOG_LEVEL: 'info' });
  const ussd = `${gateway.url}/api/ussd`;
  const post = (headers: Record<string, string>, body: string | Buffer) =>
    ask(ussd, { method: 'POST', headers, body });
  const client = new pg.Client({ connectionString: DATABASE_URL });
  await client.connect();
  t.teardown(() => client.end());
  const turns = async () => Number((await client.query('select count(*) from turns')).rows[0].count);
  // Beside the table: these take as long as the server has patience.
  const slow = Promise.all(SLOW.map(([, first, drip]) => untilClosed(gateway, first, drip)));

  t.ok(BAD.length >= 100, `${BAD.length} bad requests`);
  for (const [name, headers, body] of BAD) t.strictSame(seen(await post(headers, body)), INVALID, name);
  t.equal(await turns(), 0, 'not one of them is a turn');

  for (const [name, headers, body] of GOOD) {
    t.strictSame(seen(await post(headers, body)), plainly('ok', ROOT), name);
  }
  const stored = await client.query('select network from turns where network is not null');
  t.same(stored.rows, [{ network: 62120 }], 'of the network codes only digits are kept');

  await t.test('other Unicode is plain input, the same in JSON and in a form', async (t) => {
    const longest = ['1'.repeat(182), '👍'.repeat(182), `${'é'.repeat(181)}x`];
    for (const [index, text] of [...PLAIN_INPUTS, ...longest].entries()) {
      const fields = { sessionId: `u${index}`, text };
      const first = seen(await post(JSON_TYPE, json(fields)));
      t.match(
        first,
        { status: 200, outcome: 'ok', body: /^CON / },
        `${encodeURIComponent(text).slice(0, 40)}, JSON`,
      );
      const again = seen(await post(FORM_TYPE, form(fields)));
      t.strictSame(again, { ...first, outcome: 'replay' }, 'and as a form');
    }
    // Nothing is folded together: what looks alike is not the same turn.
    const [plain, wide] = [json({ sessionId: 'u', text: '1' }), json({ sessionId: 'u', text: '１' })];
    t.match(seen(await post(JSON_TYPE, plain)).body, /^CON Information Center/);
    t.match(seen(await post(JSON_TYPE, wide)), { outcome: 'ok', body: /^CON / });
    t.equal(seen(await post(FORM_TYPE, formText('é'))).outcome, 'ok', 'raw UTF-8 in a form');
  });

  await t.test('other methods: 405 and Allow, whatever comes with them', async (t) => {
    for (const method of METHODS.filter((method) => method !== 'POST' && method !== 'CONNECT')) {
      for (const body of ['', '{', Buffer.of(0xff)]) {
        const told = await ask(ussd, { method, ...(body !== '' && { headers: JSON_TYPE, body }) });
        t.match(told, { status: 405, headers: { allow: 'POST', 'x-ussd-outcome': undefined } }, method);
      }
    }
    const large = await ask(ussd, { method: 'PUT', headers: JSON_TYPE, body: padded(9_000, 'large') });
    t.match(large, { status: 405, headers: { allow: 'POST' } });
    t.equal((await ask(ussd, { method: 'HEAD' })).body.length, 0);
    for (const path of ['/via/abc', '/via/abc/secret', '/via/unknown']) {
      t.match(await ask(ussd + path), { status: 405, headers: { allow: 'POST' } }, path);
    }
  });

  await t.test('unknown routes: 404 in JSON, whatever comes with them', async (t) => {
    const paths = [
      '/nowhere',
      '/api',
      '/api/ussd/via',
      '/api/ussd/via/unknown',
      '/api/ussd/via/unknown/secret',
      '/api/ussd/via/abc/secret',
      '/api/ussd/via/__proto__',
      '/api/ussd/via/constructor',
      '/API/USSD',
      '/api/ussd%00',
      '/api/ussd/via/%zz',
      '/%',
      '/c/secret/api/ussd',
      `/api/ussd/via/${'x'.repeat(2_000)}`,
      `/${'x'.repeat(5_000)}`,
      '/.env',
      '/api/ussd/../../etc/passwd',
    ];
    const bodies: [Record<string, string>, string | Buffer][] = [
      [JSON_TYPE, json({ sessionId: 'nowhere' })],
      [JSON_TYPE, '{'],
      [{ 'content-type': 'text/xml' }, '<'],
      [FORM_TYPE, '%FF'],
      [JSON_TYPE, padded(9_000, 'nowhere')],
    ];
    for (const path of paths) {
      for (const [headers, body] of bodies) {
        const told = await ask(gateway.url + path, { method: 'POST', headers, body });
        t.match(told, { status: 404, headers: { 'content-type': /^application\/json/ } }, path);
        t.same(JSON.parse(told.body.toString()), { error: 'Not found' });
        t.ok(told.headers['x-request-id'], 'with the id of the request');
      }
    }
    t.equal((await ask(`${gateway.url}/nowhere`)).status, 404, 'GET');
  });

  await t.test('what is no HTTP is cut off', async (t) => {
    for (const [name, bytes] of MALFORMED) {
      const { closed, answer } = await untilClosed(gateway, bytes);
      t.ok(closed, `${name}: closed`);
      t.notMatch(answer, /\{/, 'and not in JSON');
      t.notMatch(answer, /HTTP\/1.1 (200|5)/);
    }
  });

  for (const [index, { closed, seconds, answer }] of (await slow).entries()) {
    const [name = ''] = SLOW[index] ?? [];
    t.ok(closed, `${name}: closed after ${seconds.toFixed(1)} s`);
    t.notMatch(answer, /\{/, 'and not in JSON');
  }
  t.equal(seen(await post(JSON_TYPE, json({ sessionId: 'after' }))).outcome, 'ok', 'and it still answers');
});

const HEAD = 'POST /api/ussd HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n';

/** Requests that do not come to an end: what is sent at once, and what then drips every half second. */
const SLOW: [name: string, first: string, drip: string][] = [
  ['nothing at all', '', ''],
  ['half a request line', 'POST /api', ''],
  ['half the headers', HEAD, ''],
  ['headers without an end', HEAD, 'x'],
  ['a body that does not come', `${HEAD}Content-Length: 100\r\n\r\n`, ''],
  ['a body that stops', `${HEAD}Content-Length: 100\r\n\r\n{"sessionId":`, ''],
  ['a body that drips', `${HEAD}Content-Length: 1000\r\n\r\n`, ' '],
  ['chunks that drip', `${HEAD}Transfer-Encoding: chunked\r\n\r\n`, '1\r\n \r\n'],
];

const MALFORMED: [name: string, bytes: string][] = [
  ['no HTTP', 'HELLO\r\n\r\n'],
  ['TLS', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'],
  ['an unknown version', 'POST /api/ussd HTTP/9.9\r\nHost: x\r\n\r\n'],
  ['an unknown method', 'DIAL /api/ussd HTTP/1.1\r\nHost: x\r\n\r\n'],
  ['no host', 'POST /api/ussd HTTP/1.1\r\n\r\n'],
  ['a length that is no number', `${HEAD}Content-Length: x\r\n\r\n`],
  ['a negative length', `${HEAD}Content-Length: -1\r\n\r\n`],
  ['two lengths', `${HEAD}Content-Length: 1\r\nContent-Length: 2\r\n\r\n`],
  ['a length and chunks', `${HEAD}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`],
  ['a broken chunk', `${HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\n`],
  ['a space in a header name', `${HEAD}X Y: 1\r\n\r\n`],
  ['NUL in a header', `${HEAD}X-Y: \0\r\n\r\n`],
  ['headers of 32 KiB', `${HEAD}X-Y: ${'x'.repeat(32 * 1024)}\r\n\r\n`],
  ['CONNECT', 'CONNECT /api/ussd HTTP/1.1\r\nHost: x\r\n\r\n'],
];

/** Well over the 10 s of the contract: a busy machine is no failure, an open connection is. */
const PATIENCE_MS = 20_000;

type Closed = { closed: boolean; seconds: number; answer: string };

/** Sends bytes, and waits until the other side closes the connection; ours stays open. */
function untilClosed({ port }: Gateway, first: string, drip = ''): Promise<Closed> {
  const { promise, resolve } = Promise.withResolvers<Closed>();
  const began = performance.now();
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  let answer = '';
  const dripping = setInterval(() => socket.write(drip), 500);
  const end = (closed: boolean) => {
    clearInterval(dripping);
    clearTimeout(patience);
    socket.destroy();
    resolve({ closed, seconds: (performance.now() - began) / 1000, answer });
  };
  const patience = setTimeout(() => end(false), PATIENCE_MS);
  socket.on('data', (chunk) => {
    answer += chunk.toString('latin1');
  });
  socket.on('end', () => end(true));
  // A reset is a closed connection too.
  socket.on('error', () => end(true));
  socket.write(Buffer.from(first, 'latin1'));
  return promise;
}
