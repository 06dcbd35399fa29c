import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { inspect } from 'node:util';
import t, { type Test } from 'tap';
import { africasTalking } from '../src/providers/africastalking.ts';
import { chooseProviders, PATIENCE_MS } from '../src/providers/choose.ts';
import { ProviderError, type SmsBatch, type SmsVerdict } from '../src/providers/provider.ts';
import { type FakeAfricasTalking, fakeAfricasTalking } from './support/fake-africastalking.ts';
import type { Exactly } from './support/far-side.ts';
import { DEFAULTS, post, startGateway } from './support/gateway.ts';
import { database } from './support/postgres.ts';
import fc from './support/property.ts';
import { scaled } from './support/scale.ts';

/** The far side over a real socket: what is asked, how each answer is judged, and what no error may say. */

const PHONE = '+254711000111';
const OTHER = '+254733000222';
const TEXT = 'your code is 90210';
const KEY = 'a5b0a3a0-9d1f-4b44-8d4e-000000000001';
/** Long enough for a busy machine to answer at once; calls that hang take this long. */
const TIMEOUT_MS = 1_500;

const order = { key: KEY, to: PHONE, currency: 'KES', amountMinor: 10_000n };
const batch: SmsBatch = { key: KEY, text: TEXT, to: [PHONE] };

function clientOf(fake: FakeAfricasTalking, more: { timeoutMs?: number; contentUrl?: string } = {}) {
  const { username, apiKey, url } = fake;
  return africasTalking({ username, apiKey, baseUrl: url, timeoutMs: TIMEOUT_MS, ...more });
}

/** The error of a call that must fail; it says nothing that is secret, in whatever way one looks at it. */
async function failureOf(t: Test, call: Promise<unknown>): Promise<{ code: string; retryable: boolean }> {
  const error = await call.then(
    (value) => t.fail(`it did not fail: ${inspect(value)}`),
    (error: unknown) => error,
  );
  if (!(error instanceof ProviderError)) throw error;
  const { code, retryable } = error;
  t.match(code, /^[a-z0-9_]{1,40}$/);
  const all = [
    JSON.stringify(error),
    error.message,
    error.stack,
    `${error.cause}`,
    inspect(error, { depth: 9 }),
  ];
  for (const secret of ['atsk_hush_hush', '711000111', 'code is', '90210', KEY, 'hush-body'])
    t.notOk(all.join('\n').includes(secret), `it does not say ${secret}`);
  return { code, retryable };
}

/** Both endpoints, as calls of one kind. */
function bothOf(fake: FakeAfricasTalking) {
  const { airtime, sms } = clientOf(fake);
  return { airtime: () => airtime.send(order), sms: () => sms.send(batch) };
}

/** An answer of the messaging endpoint, word for word. */
function recipients(...Recipients: unknown[]): Exactly {
  return { status: 201, body: JSON.stringify({ SMSMessageData: { Message: 'Sent', Recipients } }) };
}
const responses = (...list: unknown[]): Exactly => ({
  status: 201,
  body: JSON.stringify({ errorMessage: 'None', numSent: 1, responses: list }),
});

t.test('an order of airtime, as it is asked', async (t) => {
  const fake = await fakeAfricasTalking(t);
  const { airtime, by } = clientOf(fake);
  const taken = await airtime.send(order);
  t.equal(by, "Africa's Talking (sandbox)");
  const [asked] = fake.requests;
  t.equal(asked?.path, 'POST /version1/airtime/send');
  t.same(asked?.fields, {
    username: 'sandbox',
    recipients: `[{"phoneNumber":"${PHONE}","amount":"KES 100"}]`,
  });
  t.match(asked?.headers, {
    apikey: 'atsk_hush_hush',
    accept: 'application/json',
    'idempotency-key': KEY,
    'content-type': /^application\/x-www-form-urlencoded/,
  });
  t.same(taken, { providerId: fake.purchases[0]?.requestId, code: 'sent' });
  t.same(await airtime.send(order), taken, 'the same key has the same answer');
  t.equal(fake.purchasesOf(KEY).length, 1);
  await airtime.send({ ...order, key: 'another' });
  t.equal(fake.purchases.length, 2);
});

t.test('what cannot be asked is not asked', async (t) => {
  const fake = await fakeAfricasTalking(t);
  const { airtime, sms } = clientOf(fake);
  const final = (code: string) => ({ code, retryable: false });
  for (const to of ['254711000111', '+254711000111\n', '+254711000111,+254733000222', '+0711', '', '+']) {
    t.same(await failureOf(t, airtime.send({ ...order, to })), final('refused_number'));
    t.same(await sms.send({ ...batch, to: [to] }), [
      { to, outcome: 'refused', code: 'invalid_phone_number' },
    ]);
  }
  for (const amountMinor of [0n, -100n])
    t.same(await failureOf(t, airtime.send({ ...order, amountMinor })), final('refused_amount'));
  for (const currency of ['kes', 'KE', 'KES 1', ''])
    t.same(await failureOf(t, airtime.send({ ...order, currency })), final('refused_amount'));
  for (const key of ['', 'two words', 'ключ', 'a\r\nb', 'x'.repeat(256)]) {
    t.same(await failureOf(t, airtime.send({ ...order, key })), final('refused_key'));
    t.same(await failureOf(t, sms.send({ ...batch, key })), final('refused_key'));
  }
  const crowd = Array.from({ length: sms.most + 1 }, (_, index) => `+2547110${10_000 + index}`);
  t.same(await failureOf(t, sms.send({ ...batch, to: crowd })), final('refused_batch'));
  t.same(await sms.send({ ...batch, to: [] }), []);
  t.equal(fake.requestCount, 0);
  t.equal(
    (await sms.send({ ...batch, to: crowd.slice(1) })).length,
    sms.most,
    'the most that one call may have',
  );
});

t.test(
  'a call ends before the queue gives its job to somebody else, and before a process has to leave',
  async (t) => {
    t.ok(PATIENCE_MS <= 8_000, `${PATIENCE_MS} ms`);
  },
);

t.test('amounts are exact', async (t) => {
  const fake = await fakeAfricasTalking(t);
  const { airtime } = clientOf(fake);
  const known: [bigint, string][] = [
    [1n, 'KES 0.01'],
    [10n, 'KES 0.10'],
    [99n, 'KES 0.99'],
    [100n, 'KES 1'],
    [10_050n, 'KES 100.50'],
    [9_007_199_254_740_993_01n, 'KES 9007199254740993.01'],
  ];
  for (const [index, [amountMinor, amount]] of known.entries()) {
    await airtime.send({ ...order, key: `known-${index}`, amountMinor });
    t.equal(fake.purchases.at(-1)?.amount, amount);
  }
  let index = 0;
  await fc.assert(
    fc.asyncProperty(fc.bigInt({ min: 1n, max: 10n ** 30n }), async (amountMinor) => {
      const key = `any-${++index}`;
      await airtime.send({ ...order, key, amountMinor });
      const [, whole = '', hundredths = '00'] =
        /^KES (0|[1-9]\d*)(?:\.(\d\d))?$/.exec(fake.purchasesOf(key)[0]?.amount ?? '') ?? [];
      return BigInt(`${whole}${hundredths}`) === amountMinor;
    }),
    { numRuns: scaled(100) },
  );
});

t.test('airtime: what was taken and what was not, and whether to ask again', async (t) => {
  const fake = await fakeAfricasTalking(t);
  const { airtime } = clientOf(fake);
  const said = { phoneNumber: PHONE, amount: 'KES 100.0000', discount: '0', errorMessage: 'None' };
  for (const status of ['Sent', 'Success', 'Queued']) {
    fake.next(responses({ ...said, status, requestId: 'ATQid_1', extra: { any: 1 } }));
    t.same(await airtime.send(order), { providerId: 'ATQid_1', code: status.toLowerCase() });
  }
  for (const phoneNumber of ['254711000111', '00254711000111', '+254 711 000-111']) {
    fake.next(responses({ ...said, phoneNumber, status: 'Sent', requestId: 'ATQid_2' }));
    t.equal((await airtime.send(order)).providerId, 'ATQid_2', `answered for ${phoneNumber}`);
  }
  for (const requestId of ['None', undefined, '', 7, 'two words']) {
    fake.next(responses({ ...said, status: 'Sent', requestId }));
    t.same(
      await airtime.send(order),
      { providerId: `unnamed-${KEY}`, code: 'sent' },
      'taken without a name is taken: to ask again could buy it twice',
    );
  }
  fake.next(
    responses(
      { ...said, status: 'Failed', requestId: 'None', errorMessage: 'duplicate' },
      { ...said, status: 'Sent', requestId: 'ATQid_3' },
    ),
  );
  t.equal((await airtime.send(order)).providerId, 'ATQid_3', 'mentioned twice, taken once');

  const refusals: [errorMessage: string, code: string, retryable: boolean][] = [
    ['A duplicate request was received within the last 5 minutes', 'refused_duplicate', true],
    ['Insufficient Credit', 'refused_balance', true],
    ['Insufficient balance: needs KES 100 for +254711000111', 'refused_balance', true],
    ['Airtime is not enabled for this account', 'refused_account', true],
    ['Invalid phone number', 'refused_number', false],
    ['InvalidPhoneNumber', 'refused_number', false],
    ['Phone number +254711000111 is not valid', 'refused_number', false],
    ['NotSupported', 'refused_number', false],
    ['Invalid amount', 'refused_amount', false],
    ['Amount must be between 5 and 10000', 'refused_amount', false],
    ['Value Outside The Allowed Limits', 'refused_amount', false],
    ['InvalidRequest', 'refused_request', false],
    ['The moon is in the wrong quarter', 'refused_unknown', true],
    ['None', 'refused_unknown', true],
  ];
  for (const [errorMessage, code, retryable] of refusals) {
    const one = { ...said, status: 'Failed', requestId: 'None', errorMessage };
    fake.next(responses(one));
    t.same(await failureOf(t, airtime.send(order)), { code, retryable }, `of the recipient: ${errorMessage}`);
    fake.next({ status: 201, body: JSON.stringify({ errorMessage, numSent: 0, responses: [] }) });
    t.same(await failureOf(t, airtime.send(order)), { code, retryable }, `of the call: ${errorMessage}`);
  }
  fake.next(responses({ ...said, status: 'InvalidRequest', errorMessage: 'None' }));
  t.same(await failureOf(t, airtime.send(order)), { code: 'refused_request', retryable: false });

  fake.airtimeErrors.set(OTHER, 'Invalid phone number');
  t.match(await failureOf(t, airtime.send({ ...order, to: OTHER })), { code: 'refused_number' });
  fake.airtimeRefusal = 'Insufficient Credit';
  t.match(await failureOf(t, airtime.send(order)), { code: 'refused_balance' });
  fake.airtimeRefusal = undefined;
  t.match(
    await airtime.send(order),
    { code: 'sent' },
    'topped up, the same order with the same key is taken',
  );

  const strange: [Exactly, string][] = [
    [responses({ ...said, phoneNumber: OTHER, status: 'Sent', requestId: 'ATQid_4' }), 'missing'],
    [responses('Sent', null, { status: 'Sent' }), 'missing'],
    [{ status: 201, body: '{}' }, 'malformed'],
    [{ status: 201, body: '[]' }, 'malformed'],
    [{ status: 201, body: 'null' }, 'malformed'],
    [{ status: 201, body: '{"errorMessage":"None","responses":"Sent"}' }, 'malformed'],
    [{ status: 201, body: '{"errorMessage":"None","responses":null}' }, 'malformed'],
  ];
  for (const [answer, code] of strange) {
    fake.next(answer);
    t.same(await failureOf(t, airtime.send(order)), { code, retryable: true }, answer.body ?? '');
  }
});

t.test('a duplicate of the same key may be told as one', async (t) => {
  const fake = await fakeAfricasTalking(t, { repeat: 'refuse' });
  const { airtime } = clientOf(fake);
  fake.next('drop');
  t.same(await failureOf(t, airtime.send(order)), { code: 'dropped', retryable: true });
  t.same(await failureOf(t, airtime.send(order)), { code: 'refused_duplicate', retryable: true });
  t.equal(fake.purchasesOf(KEY).length, 1);
});

t.test('a message, as it is asked', async (t) => {
  const fake = await fakeAfricasTalking(t);
  const content = await fakeAfricasTalking(t);
  const { sms } = clientOf(fake, { contentUrl: content.url });
  const text = 'Grüße & 100% = ok? +1\n✓';
  const verdicts = await sms.send({ key: KEY, text, to: [PHONE, OTHER], from: 'SHOP' });
  t.same(fake.requests[0]?.fields, {
    username: 'sandbox',
    to: `${PHONE},${OTHER}`,
    message: text,
    from: 'SHOP',
    bulkSMSMode: '1',
    enqueue: '1',
  });
  t.equal(fake.requests[0]?.path, 'POST /version1/messaging');
  t.match(fake.requests[0]?.headers, { apikey: 'atsk_hush_hush', 'idempotency-key': KEY });
  t.same(
    verdicts,
    [PHONE, OTHER].map((to) => ({
      to,
      outcome: 'accepted',
      code: 'sent',
      statusCode: 101,
      providerId: fake.messagesOf({ number: to })[0]?.messageId,
      cost: { currency: 'KES', amount: '0.8000' },
    })),
  );
  t.same(await sms.send({ key: KEY, text, to: [PHONE, OTHER], from: 'SHOP' }), verdicts);
  t.equal(fake.messagesOf({ key: KEY, number: PHONE }).length, 1, 'the same key sends nothing again');

  const twoWay = { keyword: 'NEWS', linkId: 'link-1', retryHours: 2 };
  await sms.send({ ...batch, key: 'two-way', from: '20880', twoWay });
  t.same(content.requests[0]?.fields, {
    username: 'sandbox',
    to: PHONE,
    message: TEXT,
    from: '20880',
    bulkSMSMode: '0',
    keyword: 'NEWS',
    linkId: 'link-1',
    retryDurationInHours: '2',
  });
  await sms.send({ ...batch, key: 'two-way-2', from: '20880', twoWay: {} });
  t.same(Object.keys(content.requests[1]?.fields ?? {}), [
    'username',
    'to',
    'message',
    'from',
    'bulkSMSMode',
  ]);
  t.equal(fake.requestCount, 2, 'two-way goes to the content host only');
  await clientOf(fake).sms.send({ ...batch, key: 'two-way-3', twoWay: {} });
  t.equal(fake.requestCount, 3, 'or to the only one there is');
});

t.test('every code of a recipient', async (t) => {
  const fake = await fakeAfricasTalking(t);
  const { sms } = clientOf(fake);
  const codes: [statusCode: number, outcome: SmsVerdict['outcome'], code: string][] = [
    [100, 'accepted', 'processed'],
    [101, 'accepted', 'sent'],
    [102, 'accepted', 'queued'],
    [401, 'later', 'risk_hold'],
    [402, 'refused', 'invalid_sender_id'],
    [403, 'refused', 'invalid_phone_number'],
    [404, 'refused', 'unsupported_number_type'],
    [405, 'later', 'insufficient_balance'],
    [406, 'refused', 'user_in_blacklist'],
    [407, 'refused', 'could_not_route'],
    [409, 'refused', 'do_not_disturb'],
    [500, 'later', 'internal_server_error'],
    [501, 'later', 'gateway_error'],
    [502, 'later', 'rejected_by_gateway'],
    [599, 'later', 'status_599'],
    [408, 'later', 'status_408'],
    [103, 'accepted', 'status_103'],
  ];
  const numbers = codes.map(([statusCode]) => `+254711000${statusCode}`);
  for (const [index, [statusCode]] of codes.entries()) fake.smsCodes.set(numbers[index] ?? '', statusCode);
  const verdicts = await sms.send({ ...batch, to: numbers });
  for (const [index, [statusCode, outcome, code]] of codes.entries()) {
    const verdict = verdicts[index];
    t.match(verdict, { to: numbers[index], outcome, code }, `${statusCode}`);
    t.equal(verdict?.providerId !== undefined, outcome === 'accepted', 'an id only where it was taken');
    t.equal(verdict?.cost !== undefined, outcome === 'accepted', 'and a cost');
  }

  const one = { number: PHONE, messageId: 'ATXid_1', cost: 'KES 0.8000' };
  const spellings: [unknown, Partial<SmsVerdict>][] = [
    [
      { ...one, statusCode: '101' },
      { outcome: 'accepted', code: 'sent', providerId: 'ATXid_1' },
    ],
    [
      { ...one, status: 'Success' },
      { outcome: 'accepted', code: 'sent' },
    ],
    [
      { ...one, status: 'UserInBlacklist' },
      { outcome: 'refused', code: 'user_in_blacklist' },
    ],
    [{ ...one, statusCode: 406, status: 'Success' }, { outcome: 'refused' }],
    [
      { ...one, statusCode: 103, messageId: 'None' },
      { outcome: 'later', code: 'status_103' },
    ],
    [
      { ...one, statusCode: {} },
      { outcome: 'later', code: 'status_unknown' },
    ],
    [
      { ...one, statusCode: 1.5 },
      { outcome: 'later', code: 'status_unknown' },
    ],
    [{ ...one }, { outcome: 'later', code: 'status_unknown' }],
    [
      { number: PHONE, statusCode: 101 },
      { outcome: 'accepted', code: 'sent' },
    ],
  ];
  for (const [recipient, expected] of spellings) {
    fake.next(recipients(recipient));
    t.match((await sms.send(batch))[0], expected, JSON.stringify(recipient));
  }
  for (const messageId of ['None', undefined, '', 5, 'x'.repeat(201)]) {
    fake.next(recipients({ ...one, statusCode: 101, messageId }));
    const [verdict] = await sms.send(batch);
    t.equal(verdict?.outcome, 'accepted');
    t.notHas(verdict, { providerId: '' });
  }
  for (const cost of ['0', 0, 'KES', 'KES 1e3', 'kes 1', { toString: 1 }, 'KES -1', undefined]) {
    fake.next(recipients({ ...one, statusCode: 101, cost }));
    t.notHas((await sms.send(batch))[0], { cost: {} }, `no cost: ${JSON.stringify(cost)}`);
  }
});

t.test('recipients that the answer leaves out, repeats, adds, or spells in its own way', async (t) => {
  const fake = await fakeAfricasTalking(t);
  const { sms } = clientOf(fake);
  const sent = (number: unknown, statusCode = 101, messageId = 'ATXid_1') => ({
    number,
    statusCode,
    messageId,
  });
  const missing = (to: string) => ({ to, outcome: 'later', code: 'missing' });
  const ask = (answer: Exactly, to = [PHONE, OTHER]) => {
    fake.next(answer);
    return sms.send({ ...batch, to });
  };
  t.match(await ask(recipients(sent(OTHER))), [missing(PHONE), { to: OTHER, outcome: 'accepted' }]);
  t.match(await ask(recipients(sent('+15550001'))), [missing(PHONE), missing(OTHER)]);
  t.match(await ask(recipients(null, 7, 'x', [], {}, sent(null), sent(PHONE))), [
    { to: PHONE, outcome: 'accepted' },
    missing(OTHER),
  ]);
  t.match(await ask(recipients(sent(OTHER, 406), sent(PHONE, 405))), [
    { to: PHONE, outcome: 'later' },
    { to: OTHER, outcome: 'refused' },
  ]);
  const spelled = ['254711000111', 254711000111, '00254711000111', ' +254 711-000-111 ', '0711000111'];
  for (const number of spelled)
    t.match(
      await ask(recipients(sent(number))),
      [{ to: PHONE, outcome: 'accepted', providerId: 'ATXid_1' }, missing(OTHER)],
      `as ${number}`,
    );
  const twins = ['+254711000111', '+255711000111'];
  t.match(
    await ask(recipients(sent('0711000111')), twins),
    twins.map(missing),
    'two could be meant: neither is',
  );
  for (const [first, second, outcome] of [
    [406, 101, 'accepted'],
    [101, 406, 'accepted'],
    [500, 406, 'later'],
    [406, 500, 'later'],
    [500, 101, 'accepted'],
  ] as const) {
    const answer = recipients(sent(PHONE, first), sent(PHONE, second), sent(PHONE, first));
    t.equal((await ask(answer, [PHONE]))[0]?.outcome, outcome, `${first}, then ${second}`);
  }
  const again = await sms.send({ ...batch, to: [PHONE, OTHER, PHONE] });
  t.equal(fake.requests.at(-1)?.fields.to, `${PHONE},${OTHER}`, 'one text once to one phone');
  t.same(again[0], again[2]);
  t.equal(again.length, 3);

  const empty = (Message: string): Exactly => ({
    status: 201,
    body: JSON.stringify({ SMSMessageData: { Message, Recipients: [] } }),
  });
  t.match(await ask(empty('InvalidSenderId')), [
    { to: PHONE, outcome: 'refused', code: 'invalid_sender_id' },
    { to: OTHER, outcome: 'refused', code: 'invalid_sender_id' },
  ]);
  t.match(await ask(empty('InvalidPhoneNumber'), [PHONE]), [{ outcome: 'refused' }]);
  t.match(await ask(empty('InvalidPhoneNumber')), [
    { outcome: 'later', code: 'invalid_phone_number' },
    { outcome: 'later', code: 'invalid_phone_number' },
  ]);
  t.match(await ask(empty('InsufficientBalance'), [PHONE]), [{ outcome: 'later' }]);
  for (const Message of ['', 'Sent to 0/1 Total Cost: 0', 'Success', 'Sent'])
    t.same(await ask(empty(Message), [PHONE]), [missing(PHONE)]);
  t.match(await ask({ status: 201, body: '{"SMSMessageData":{"Message":"Sent"}}' }, [PHONE]), [
    missing(PHONE),
  ]);
  for (const body of [
    '{}',
    'null',
    '[]',
    '{"SMSMessageData":null}',
    '{"SMSMessageData":{"Recipients":null}}',
  ])
    t.same(await failureOf(t, ask({ status: 201, body }, [PHONE])), { code: 'malformed', retryable: true });
});

t.test('whatever is answered, there is one verdict for each that was asked for, in that order', async (t) => {
  const fake = await fakeAfricasTalking(t);
  const { sms } = clientOf(fake);
  const number = fc.constantFrom(PHONE, OTHER, '+254711000112', '+255711000111', 'nobody', '+1');
  const said = fc.oneof(
    number,
    number.map((each) => each.slice(1)),
    fc.constantFrom('0711000111', '00254711000111', '711000111', 254711000111, null),
  );
  const recipient = fc.oneof(
    fc.record(
      {
        number: said,
        statusCode: fc.oneof(fc.constantFrom(100, 101, 102, 402, 406, 500, '101'), fc.jsonValue()),
        status: fc.oneof(fc.constantFrom('Success', 'UserInBlacklist'), fc.jsonValue()),
        messageId: fc.oneof(fc.constantFrom('ATXid_1', 'None'), fc.jsonValue()),
        cost: fc.oneof(fc.constantFrom('KES 0.8000', '0'), fc.jsonValue()),
      },
      { requiredKeys: [] },
    ),
    fc.jsonValue(),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(number, { maxLength: 8 }),
      fc.array(recipient, { maxLength: 12 }),
      fc.oneof(fc.constantFrom('Sent', 'InvalidSenderId', 'InvalidPhoneNumber'), fc.string()),
      async (to, Recipients, Message) => {
        const asks = to.some((each) => /^\+\d\d/.test(each));
        if (asks)
          fake.next({ status: 201, body: JSON.stringify({ SMSMessageData: { Message, Recipients } }) });
        const verdicts = await sms.send({ ...batch, to });
        t.same(
          verdicts.map((verdict) => verdict.to),
          to,
        );
        for (const { outcome, code, providerId, cost } of verdicts) {
          if (!['accepted', 'refused', 'later'].includes(outcome)) t.fail(outcome);
          if (!/^[a-z0-9_]{1,40}$/.test(code)) t.fail(code);
          if (providerId !== undefined && outcome !== 'accepted') t.fail('an id of what was not taken');
          if (cost !== undefined && !/^\d+(\.\d+)?$/.test(cost.amount)) t.fail(cost.amount);
        }
        // Nobody is taken whom the answer does not name as taken.
        if (Recipients.length === 0 && verdicts.some(({ outcome }) => outcome === 'accepted'))
          t.fail('taken');
      },
    ),
    { numRuns: scaled(300) },
  );
});

t.test('every class of HTTP status', async (t) => {
  const fake = await fakeAfricasTalking(t);
  const body = `hush-body ${PHONE} ${TEXT} atsk_hush_hush`;
  const classes: [retryable: boolean, statuses: number[]][] = [
    [true, [500, 501, 502, 503, 504, 520, 599]],
    [true, [401, 402, 403, 404, 405, 408, 409, 425, 429]],
    [false, [400, 406, 410, 413, 415, 418, 422, 451]],
    [true, [300, 304, 399]],
  ];
  for (const [name, call] of Object.entries(bothOf(fake))) {
    for (const [retryable, statuses] of classes) {
      for (const status of statuses) {
        fake.next({ status, ...(status !== 304 && { body }) });
        t.same(await failureOf(t, call()), { code: `http_${status}`, retryable }, `${name} ${status}`);
      }
    }
    for (const status of [200, 201]) {
      fake.next({ status, body });
      t.same(
        await failureOf(t, call()),
        { code: 'malformed', retryable: true },
        `${name}: ${status}, no JSON`,
      );
    }
    fake.next({ status: 204 });
    t.same(await failureOf(t, call()), { code: 'malformed', retryable: true }, 'and an empty one');
  }
  fake.next(
    { ...responses({ phoneNumber: PHONE, status: 'Sent', requestId: 'ATQid_1' }), status: 200 },
    { ...recipients({ number: PHONE, statusCode: 101 }), status: 200 },
  );
  t.match(await clientOf(fake).airtime.send(order), { code: 'sent' }, '200 is as good as 201');
  t.match(await clientOf(fake).sms.send(batch), [{ code: 'sent' }]);

  const { username, url: baseUrl } = fake;
  const strangers = africasTalking({ username, apiKey: 'atsk_hush_other', baseUrl, timeoutMs: TIMEOUT_MS });
  t.same(await failureOf(t, strangers.airtime.send(order)), { code: 'http_401', retryable: true });
  t.same(await failureOf(t, strangers.sms.send(batch)), { code: 'http_401', retryable: true });
});

t.test('a redirect is not followed', async (t) => {
  const fake = await fakeAfricasTalking(t);
  const elsewhere = await fakeAfricasTalking(t);
  for (const status of [301, 302, 303, 307, 308]) {
    for (const call of Object.values(bothOf(fake))) {
      fake.next({ status, headers: { location: `${elsewhere.url}/version1/messaging` } });
      t.same(await failureOf(t, call()), { code: `http_${status}`, retryable: true });
    }
  }
  t.equal(elsewhere.requestCount, 0);
});

t.test('connections that end, answers that do not come, and bodies that are not whole', async (t) => {
  const fake = await fakeAfricasTalking(t);
  const fates = [
    ['fail', 'http_500', 0],
    ['drop', 'dropped', 1],
    ['hang', 'timeout', 1],
    ['malformed', 'malformed', 1],
    ['truncated', 'truncated', 1],
    ['answer', undefined, 1],
  ] as const;
  for (const [fate, code, done] of fates) {
    const { airtime, sms } = clientOf(fake);
    const bought = fake.purchases.length;
    const sent = fake.messages.length;
    const key = `fate-${fate}`;
    fake.next(fate, fate);
    if (code === undefined) {
      t.match(await airtime.send({ ...order, key }), { code: 'sent' });
      t.match(await sms.send({ ...batch, key }), [{ code: 'sent' }]);
    } else {
      t.same(await failureOf(t, airtime.send({ ...order, key })), { code, retryable: true }, fate);
      t.same(await failureOf(t, sms.send({ ...batch, key })), { code, retryable: true }, fate);
    }
    t.equal(fake.purchases.length - bought, done, `${fate}: ${done} done`);
    t.equal(fake.messages.length - sent, done);
    t.match(await airtime.send({ ...order, key }), { code: 'sent' }, 'the same key learns what became of it');
    t.match(await sms.send({ ...batch, key }), [{ outcome: 'accepted' }]);
    t.equal(fake.purchasesOf(key).length, 1, 'and does it at most once');
    t.equal(fake.messagesOf({ key }).length, 1);
  }
});

t.test('a far side that is away', async (t) => {
  const fake = await fakeAfricasTalking(t);
  await fake.down('refuse');
  for (const call of Object.values(bothOf(fake)))
    t.same(await failureOf(t, call()), { code: 'unreachable', retryable: true });
  await fake.up();
  await fake.down('503');
  for (const call of Object.values(bothOf(fake)))
    t.same(await failureOf(t, call()), { code: 'http_503', retryable: true });
  t.equal(fake.purchases.length + fake.messages.length, 0);
  await fake.up();
  t.match(await bothOf(fake).airtime(), { code: 'sent' });
  const nowhere = africasTalking({
    username: 'u',
    apiKey: 'atsk_hush_hush',
    baseUrl: 'http://nowhere.invalid',
    timeoutMs: 10_000,
  });
  t.same(await failureOf(t, nowhere.airtime.send(order)), { code: 'unreachable', retryable: true });
});

/** A server that answers 201 and then writes in its own way. */
async function writing(t: Test, write: (push: (bytes: string) => boolean, ended: () => boolean) => void) {
  const server = createServer((request, response) => {
    request.resume();
    response.writeHead(201, { 'content-type': 'application/json' });
    write(
      (bytes) => response.write(bytes),
      () => response.destroyed,
    );
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return africasTalking({ username: 'u', apiKey: 'atsk_hush_hush', baseUrl, timeoutMs: TIMEOUT_MS });
}

t.test('a body without end, and one that drips', async (t) => {
  let written = 0;
  const endless = await writing(t, (push, ended) => {
    const more = () => {
      if (ended()) return;
      push(' '.repeat(65_536));
      written += 65_536;
      setImmediate(more);
    };
    more();
  });
  t.same(await failureOf(t, endless.sms.send(batch)), { code: 'too_large', retryable: true });
  t.ok(written < 64 * 1024 * 1024, 'it was not read to its end');

  const dripping = await writing(t, (push, ended) => {
    const timer = setInterval(() => (ended() ? clearInterval(timer) : push(' ')), 100);
  });
  const began = performance.now();
  t.same(await failureOf(t, dripping.airtime.send(order)), { code: 'timeout', retryable: true });
  t.ok(performance.now() - began >= TIMEOUT_MS - 50, 'the limit holds for the body too');
});

t.test('chaos: with one key, whatever happens is done once, and is learnt in the end', async (t) => {
  const chaos = { fail: 0.2, drop: 0.15, hang: 0.05, twice: 0.1, malformed: 0.1, truncated: 0.1 };
  const FATES = ['fail', 'drop', 'hang', 'twice', 'malformed', 'truncated'] as const;
  const play = async (options: { ignoreKeys?: boolean }) => {
    const fake = await fakeAfricasTalking(t, { seed: 7, chaos, delayMs: [0, 3], ...options });
    // Each of them at least once, also where there are few calls.
    fake.next(...FATES);
    const keys = Array.from({ length: scaled(40, 16) }, (_, index) => `chaos-${index}`);
    const learnt = await Promise.all(
      keys.map(async (key) => {
        // Longer each time, or a busy machine would never be in time.
        for (let timeoutMs = 300; ; timeoutMs *= 2) {
          try {
            return await clientOf(fake, { timeoutMs }).airtime.send({ ...order, key });
          } catch (error) {
            if (!(error instanceof ProviderError && error.retryable)) throw error;
          }
        }
      }),
    );
    return { fake, keys, learnt };
  };
  const { fake, keys, learnt } = await play({});
  for (const [index, key] of keys.entries()) {
    const bought = fake.purchasesOf(key);
    t.equal(bought.length, 1);
    t.equal(bought[0]?.requestId, learnt[index]?.providerId);
  }
  const met = new Set(fake.requests.map(({ fate }) => fate));
  t.same([...met].sort(), ['answer', ...Object.keys(chaos)].sort(), 'every fate was met');
  const careless = await play({ ignoreKeys: true });
  t.ok(
    careless.fake.purchases.length > careless.keys.length,
    'a far side that ignores keys would be noticed',
  );
});

t.test('the fake: notices come twice, early, late and out of order', async (t) => {
  const heard: { url: string; body: string }[] = [];
  const listener = createServer(async (request, response) => {
    heard.push({
      url: request.url ?? '',
      body: Buffer.concat((await request.toArray()) as Buffer[]).toString(),
    });
    response.end('OK');
  });
  await new Promise<void>((done) => listener.listen(0, '127.0.0.1', done));
  t.teardown(() => listener.close());
  const url = `http://127.0.0.1:${(listener.address() as AddressInfo).port}`;
  const notices = { airtimeUrl: `${url}/airtime/status`, reportsUrl: `${url}/sms/delivery-reports` };

  const early = await fakeAfricasTalking(t, { notices: { ...notices, before: 1, duplicate: 1 } });
  const { providerId } = await clientOf(early).airtime.send(order);
  t.equal(heard.length, 2, 'twice, and both before the answer');
  t.same(JSON.parse(heard[0]?.body ?? ''), {
    phoneNumber: PHONE,
    description: 'Airtime Delivered Successfully',
    status: 'Success',
    requestId: providerId,
    discount: 'KES 0.6000',
    value: 'KES 100.0000',
  });
  await early.notices.again();
  t.equal(heard.length, 3);

  heard.length = 0;
  const late = await fakeAfricasTalking(t, {
    seed: 3,
    notices: { ...notices, delayMs: [1, 20], reports: ['Sent', 'Buffered', 'Success'], shuffle: true },
  });
  late.next('twice');
  const [verdict] = await clientOf(late).sms.send(batch);
  await late.notices.settled();
  const reports = heard.map(({ body }) => Object.fromEntries(new URLSearchParams(body)));
  t.equal(reports.length, 6);
  t.equal(reports.filter(({ id }) => id === verdict?.providerId).length, 6);
  t.same(new Set(reports.map(({ status }) => status)), new Set(['Sent', 'Buffered', 'Success']));

  const unheard = await fakeAfricasTalking(t, {
    notices: { airtimeUrl: 'http://127.0.0.1:9/airtime/status', tries: 3, pauseMs: 1 },
  });
  await clientOf(unheard).airtime.send(order);
  await unheard.when(() => unheard.notices.offered.length === 3);
  t.same(
    unheard.notices.offered.map(({ status }) => status),
    [0, 0, 0],
  );
});

t.test('who serves', async (t) => {
  const none = chooseProviders(undefined);
  t.equal(none.by, 'the simulator: nothing leaves');
  t.equal(none.sms.name, 'simulator');
  t.equal(none.airtime.name, 'simulator');
  t.same(await none.airtime.send(order), { providerId: `sim-${KEY}`, code: 'simulated' });
  const to = [PHONE, OTHER, PHONE];
  const verdicts = await none.sms.send({ ...batch, to });
  t.same(
    verdicts.map((verdict) => verdict.to),
    to,
  );
  t.equal(new Set(verdicts.map(({ providerId }) => providerId)).size, 3);
  t.ok(verdicts.every(({ outcome, code }) => outcome === 'accepted' && code === 'simulated'));
  t.same(await none.sms.send({ ...batch, to }), verdicts, 'the same key has the same answer');
  t.match(await none.sms.send(batch), [{ providerId: `sim-${KEY}` }]);

  const fake = await fakeAfricasTalking(t);
  const { username, apiKey, url: baseUrl } = fake;
  const chosen = chooseProviders({ username, apiKey, baseUrl, contentUrl: baseUrl });
  t.equal(chosen.sms.name, 'africastalking');
  t.match(await chosen.airtime.send(order), { code: 'sent' });
  t.equal(chooseProviders({ username: 'shop', apiKey, baseUrl }).by, "Africa's Talking");
});

t.test(
  'a message leaves the process by whoever is configured, and the answer that was lost sends none twice',
  async (t) => {
    const fake = await fakeAfricasTalking(t);
    fake.next('fail', 'drop');
    const { url: DATABASE_URL } = await database(t);
    const gateway = await startGateway(t, { DATABASE_URL, ...fake.environment, AT_SENDER_ID: 'SHOP' });
    t.match(gateway.output(), "SMS and airtime by Africa's Talking (sandbox)");
    for (const text of ['', '1', '1*1', '1*1*1']) t.equal((await post(gateway.url, { text })).outcome, 'ok');
    await fake.when(() => fake.requestCount === 3);
    const sent = fake.messagesOf({ number: DEFAULTS.phoneNumber });
    t.equal(sent.length, 1);
    t.match(sent[0], { from: 'SHOP', text: /^About this service/ });
    t.equal(
      new Set(fake.requests.map(({ headers }) => headers['idempotency-key'])).size,
      1,
      'one key for all tries',
    );
    t.notMatch(gateway.output(), fake.apiKey);
    t.notMatch(gateway.output(), DEFAULTS.phoneNumber.slice(1));
  },
);
