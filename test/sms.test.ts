/** The senders and the list of messages: who may, what they answer, who gets the text and who does not. */
import { randomUUID } from 'node:crypto';
import t, { type Test } from 'tap';
import { openPostgres } from '../src/db/database.ts';
import { openKeeping } from '../src/engine.ts';
import { segmentsOf } from '../src/flow/text.ts';
import { startQueue } from '../src/queue.ts';
import { parseKeyRing } from '../src/seal/keys.ts';
import { WAIT } from '../src/sms/senders.ts';
import { ask } from './support/ask.ts';
import {
  type FakeAfricasTalking,
  type FakeOptions,
  fakeAfricasTalking,
} from './support/fake-africastalking.ts';
import {
  type Gateway,
  startGateway,
  TEST_KEY,
  TRIED_SOON,
  temporaryDirectory,
  post as turn,
} from './support/gateway.ts';
import { eventually, type Query, queryOn } from './support/phone.ts';
import { database } from './support/postgres.ts';
import fc from './support/property.ts';
import { scaled } from './support/scale.ts';

t.jobs = 2;

/** For whatever has to come by itself, on a machine that does other things as well. */
const PATIENCE_MS = 90_000;

const OPERATOR_TOKEN = 'mary:read+send:marys-token,roy:read:roys-token,ada:admin+money+desk:adas-token';
const SEND = { authorization: 'Bearer marys-token' };
const READ = { authorization: 'Bearer roys-token' };
const ADMIN = { authorization: 'Bearer adas-token' };
const JSON_TYPE = { 'content-type': 'application/json' };
const FORM_TYPE = { 'content-type': 'application/x-www-form-urlencoded' };
const BULK = '/sms/invoke-bulk-sms';
const TWO_WAY = '/sms/invoke-twoway-sms';

type Recipient = { statusCode: number; number: string; cost: string; status: string; messageId: string };
type Body = {
  message?: string;
  error?: string;
  response?: { SMSMessageData: { Message: string; Recipients: Recipient[] } };
  messages?: { id: string; phoneNumber: string; state: string }[];
};
type Answer = { status: number; text: string; body: Body };
type Listed = {
  id: string;
  phoneNumber: string;
  state: string;
  code: string | null;
  createdAt: string;
} & Record<string, unknown>;

/** A call that hangs is given up after this; in milliseconds. */
const PROVIDER_MS = 2_000;
/** A sender of the hasty instance waits so long for the provider, and then says that it is queued. */
const HASTY_MS = 250;

type Desk = {
  fake: FakeAfricasTalking;
  gateway: Gateway;
  /** Posts a text to another instance, whose senders wait `HASTY_MS`: for what is to be answered 202. */
  sendHastily(fields: Record<string, unknown>, headers?: Record<string, string>): Promise<Answer>;
  query: Query;
  databaseUrl: string;
  get(path: string, headers?: Record<string, string>): Promise<Answer>;
  /** A text by POST, as JSON. */
  send(fields: Record<string, unknown>, headers?: Record<string, string>, path?: string): Promise<Answer>;
  one(id: string): Promise<Listed>;
  /** Until the messages are in this state. */
  become(ids: string[], state: string): Promise<void>;
};

async function openDesk(
  t: Test,
  settings: Record<string, string> = {},
  options: FakeOptions = {},
): Promise<Desk> {
  const { url: databaseUrl } = await database(t);
  const fake = await fakeAfricasTalking(t, options);
  const all = { DATABASE_URL: databaseUrl, OPERATOR_TOKEN, ...fake.environment, ...settings };
  // Longer than production waits, so that a busy machine answers 200 where the provider has answered.
  const seams = { ...TRIED_SOON, providerMs: PROVIDER_MS, smsWait: { forMs: 20_000, everyMs: 25 } };
  const gateway = await startGateway(t, all, seams);
  let hasty: Promise<Gateway> | undefined;
  const post = (
    to: Gateway,
    fields: Record<string, unknown>,
    headers: Record<string, string>,
    path: string,
  ) =>
    told(to.url + path, {
      method: 'POST',
      headers: { ...JSON_TYPE, ...headers },
      body: JSON.stringify(fields),
    });
  const query = await queryOn(t, databaseUrl);
  const get = (path: string, headers: Record<string, string> = SEND) => told(gateway.url + path, { headers });
  const one = async (id: string) => (await get(`/api/sms/messages/${id}`)).body as unknown as Listed;
  return {
    fake,
    gateway,
    query,
    databaseUrl,
    get,
    send: (fields, headers = SEND, path = BULK) => post(gateway, fields, headers, path),
    sendHastily: async (fields, headers = SEND) => {
      hasty ??= startGateway(t, all, { ...seams, smsWait: { forMs: HASTY_MS, everyMs: 25 } });
      return post(await hasty, fields, headers, BULK);
    },
    one,
    become: (ids, state) =>
      eventually(
        `${ids.length} messages to be ${state}`,
        async () => (await Promise.all(ids.map(one))).every((message) => message.state === state),
        PATIENCE_MS,
      ),
  };
}

async function told(url: string, asked: Parameters<typeof ask>[1]): Promise<Answer> {
  const { status, body } = await ask(url, asked);
  const text = body.toString();
  return { status, text, body: text === '' ? {} : (JSON.parse(text) as Body) };
}

const recipients = ({ body }: Answer): Recipient[] => body.response?.SMSMessageData.Recipients ?? [];
const idsOf = ({ body }: Answer): string[] => body.messages?.map(({ id }) => id) ?? [];

let phones = 0;
/** A number of its own for every call. */
function fresh(): string {
  phones += 1;
  return `+2547220${String(phones).padStart(5, '0')}`;
}
const freshMany = (count: number): string[] => Array.from({ length: count }, fresh);

/** What the provider has of a number. */
const textsOf = ({ fake }: Desk, number: string): string[] =>
  fake.messagesOf({ number }).map(({ text }) => text);

/** By what an aggregator does: nobody knows the digest but the database. */
async function optOut({ query }: Desk, number: string, id: string, sender = 'MyBrand'): Promise<void> {
  const rows = await query(
    'insert into sms_opt_outs (phone, sender) select phone, $2 from messages where id = $1 returning phone',
    [id, sender],
  );
  if (rows.length !== 1) throw new Error(`no message to ${number}`);
}

/** The id of the newest message to a number. */
async function newestTo({ get }: Desk, number: string): Promise<string> {
  const { body } = await get(`/api/sms/messages?phoneNumber=${encodeURIComponent(number)}&limit=1`);
  return body.messages?.[0]?.id ?? '';
}

t.test('the provider is waited for within the 5 s of docs/contract.md section 5', async (t) => {
  t.ok(WAIT.forMs <= 4_500, `${WAIT.forMs} ms`);
});

t.test('the senders', async (t) => {
  const content = await fakeAfricasTalking(t);
  const desk = await openDesk(t, {
    AT_SENDER_ID: 'MyBrand',
    AT_SHORTCODE: '12345',
    AT_KEYWORD: 'NEWS',
    AT_CONTENT_URL: content.url,
  });
  const { fake, gateway, query, get, send, sendHastily, one, become } = desk;
  const rows = async () => (await query<{ n: number }>('select count(*)::int as n from messages'))[0]?.n;

  await t.test('as printed', async (t) => {
    for (const [path, far] of [
      [BULK, fake],
      [TWO_WAY, content],
    ] as const) {
      const answer = await get(`${path}?phone=254711000111&message=Hello%20World`);
      const sent = far.messages.at(-1);
      t.match(sent, { number: '+254711000111', text: 'Hello World' });
      t.equal(
        answer.text,
        JSON.stringify({
          message: 'SMS sent to +254711000111',
          response: {
            SMSMessageData: {
              Message: 'Sent to 1/1 Total Cost: KES 0.8000',
              Recipients: [
                {
                  statusCode: 101,
                  number: '+254711000111',
                  cost: 'KES 0.8000',
                  status: 'Success',
                  messageId: sent?.messageId,
                },
              ],
            },
          },
        }),
        `${path} to the letter`,
      );
      t.equal(answer.status, 200);
      const same = { phone: '254711000111', message: 'Hello World' };
      const shape = { ...JSON.parse(answer.text), response: { SMSMessageData: { Recipients: [{}] } } };
      t.match(await send(same, SEND, path), { status: 200, body: shape }, 'as JSON');
      const form = new URLSearchParams(same).toString();
      t.match(
        await told(gateway.url + path, { method: 'POST', headers: { ...FORM_TYPE, ...SEND }, body: form }),
        { status: 200, body: shape },
        'as a form',
      );
      t.equal(far.messagesOf({ number: '+254711000111' }).length, 3);
    }
    t.match(fake.requests[0]?.fields, { bulkSMSMode: '1', from: 'MyBrand', to: '+254711000111' });
    t.match(content.requests[0]?.fields, { bulkSMSMode: '0', from: '12345', keyword: 'NEWS' });
    t.notOk(content.requests.some(({ fields }) => 'linkId' in fields || 'enqueue' in fields));
    t.match(await one(await newestTo(desk, '+254711000111')), { kind: 'twoWay', state: 'sent', segments: 1 });
  });

  await t.test('the text that is sent where none is given', async (t) => {
    const greeting = "Hello from Africa's Talking!";
    const ways: [string, () => Promise<Answer>, string][] = [];
    const way = (what: string, how: (phone: string) => Promise<Answer>) => {
      const phone = fresh();
      ways.push([what, () => how(phone.slice(1)), phone]);
    };
    way('GET', (phone) => get(`${BULK}?phone=${phone}`));
    way('POST', (phone) => send({ phone }));
    way('POST with a query', (phone) => send({}, SEND, `${BULK}?phone=${phone}`));
    for (const [what, how, phone] of ways) {
      t.equal((await how()).status, 200, what);
      t.same(textsOf(desk, phone), [greeting], what);
    }
  });

  await t.test('a query with a POST that says nothing itself', async (t) => {
    for (const [headers, body] of [
      [{}, ''],
      [FORM_TYPE, ''],
      [JSON_TYPE, ''],
      [JSON_TYPE, '{}'],
    ] as const) {
      const phone = fresh();
      const answer = await told(`${gateway.url}${BULK}?phone=${phone.slice(1)}&message=Said%20there`, {
        method: 'POST',
        headers: { ...headers, ...SEND },
        body,
      });
      t.equal(answer.status, 200, JSON.stringify([headers, body]));
      t.same(textsOf(desk, phone), ['Said there'], 'never another text than was meant');
    }
  });

  await t.test('spellings', async (t) => {
    const [a = '', b = '', c = ''] = freshMany(3);
    const [x, y, z] = [a, b, c].map((number) => number.slice(1));
    const queries = [
      `phone=${x},${y},${z}`,
      `phone=%2B${x},%2B${y},%2B${z}`,
      `phone=+${x},+${y},+${z}`,
      `phone=%20${x}%20,%20${y},,%20${z}%20,`,
      `phone=${x}&phone=${y}&phone=${z}`,
      `phone=${x},%2B${y}&phone=${z}&phone=%2B${x}&phone=${y},${z}`,
    ];
    const all = `SMS sent to ${a}, ${b}, ${c}`;
    for (const query of queries) {
      const text = `spelt ${query.length} ${randomUUID()}`;
      const answer = await get(`${BULK}?${query}&message=${encodeURIComponent(text)}`);
      t.equal(answer.status, 200, query);
      t.equal(answer.body.message, all);
      t.same(
        recipients(answer).map(({ number }) => number),
        [a, b, c],
        'in the order of the question',
      );
      t.equal(answer.body.response?.SMSMessageData.Message, 'Sent to 3/3 Total Cost: KES 2.4000');
      for (const number of [a, b, c])
        t.equal(textsOf(desk, number).filter((each) => each === text).length, 1, 'once each');
    }
    for (const phone of [`${x}, ${b}, ${z}`, [x, b, z], [`${x},${y}`, c], [a, x, b, y, c, z]]) {
      t.match(await send({ phone }), { status: 200, body: { message: all } }, JSON.stringify(phone));
    }
    const many = await send({ phone: freshMany(11) });
    t.equal(many.body.message, 'SMS sent to 11 phones');
    t.equal(recipients(many).length, 11);
  });

  await t.test('what is no question', async (t) => {
    const before = { rows: await rows(), requests: fake.requestCount };
    const missing = { error: "Missing 'phone' query parameter" };
    for (const [path, body] of [
      [`${BULK}`, missing],
      [`${TWO_WAY}`, missing],
      [`${BULK}?message=Hello`, missing],
      [`${BULK}?phone=`, missing],
      [`${BULK}?phone=%20,%20,`, missing],
      [`${BULK}?phone=abc`, { error: 'No phone numbers: abc' }],
      [
        `${BULK}?phone=254711000111,0711000111,12,%2B%2B254711000111,254711000112`,
        {
          error: 'No phone numbers: 0711000111, 12, ++254711000111',
        },
      ],
      [
        `${BULK}?phone=254711000111%0A254711000112`,
        { error: 'No phone numbers: 254711000111\n254711000112' },
      ],
      [`${BULK}?phone=2547110001111111`, { error: 'No phone numbers: 2547110001111111' }],
      [`${BULK}?phone=${'9'.repeat(60)}`, { error: `No phone numbers: ${'9'.repeat(40)}` }],
      [`${BULK}?phone=${encodeURIComponent('٢٥٤٧١١٠٠٠١١١')}`, { error: 'No phone numbers: ٢٥٤٧١١٠٠٠١١١' }],
      [`${BULK}?phone=254711000111&message=`, { error: "Empty 'message'" }],
      [`${BULK}?phone=254711000111&message=%20%0A`, { error: "Empty 'message'" }],
      [`${BULK}?phone=254711000111&message=a%00b`, { error: "'message' holds no text" }],
      [`${BULK}?phone=254711000111&message=a%1Bb`, { error: "'message' holds no text" }],
      [`${BULK}?phone=254711000111&message=a&message=b`, { error: 'Out of rule or missing: message' }],
    ] as const) {
      t.match(await get(path), { status: 400, body }, path.slice(0, 70));
    }
    for (const [fields, error] of [
      [{}, missing.error],
      [{ phone: [] }, missing.error],
      [{ phone: 254711000111 }, 'Out of rule or missing: phone'],
      [{ phone: null }, "Missing 'phone' query parameter"],
      [{ phone: { number: '254711000111' } }, 'Out of rule or missing: phone'],
      [{ phone: '254711000111', message: 7 }, 'Out of rule or missing: message'],
      [{ phone: '254711000111', message: 'half \ud83d' }, "'message' holds no text"],
      [{ phone: '254711000111', message: 'x'.repeat(1531) }, "'message' takes 11 SMS, at most 10"],
      [{ phone: '254711000111', message: 'ş'.repeat(671) }, "'message' takes 11 SMS, at most 10"],
      [{ phone: '254711000111', message: `${'x'.repeat(1_470)}ş` }, "'message' takes 22 SMS, at most 10"],
    ] as const) {
      t.match(await send(fields), { status: 400, body: { error } }, JSON.stringify(fields).slice(0, 60));
    }
    const tooMany = Array.from({ length: 10_001 }, (_, index) => `25471${String(index).padStart(7, '0')}`);
    t.equal((await send({ phone: tooMany })).status, 400);
    t.match(await send({ phone: tooMany.join() }), { status: 400, body: { error: /^More than 10000/ } });
    for (const body of ['{', '[]', '"x"']) {
      const headers = { ...JSON_TYPE, ...SEND };
      t.equal((await told(gateway.url + BULK, { method: 'POST', headers, body })).status, 400, body);
    }
    t.equal(
      (await ask(`${gateway.url}${BULK}?phone=254711000111`, { method: 'HEAD', headers: SEND })).status,
      404,
      'nothing is sent by asking what an answer would look like',
    );
    t.same({ rows: await rows(), requests: fake.requestCount }, before, 'nothing of it was sent');
  });

  await t.test('how long a text is', async (t) => {
    for (const [text, segments] of [
      ['x'.repeat(160), 1],
      ['x'.repeat(161), 2],
      [`${'x'.repeat(152)}€${'x'.repeat(151)}`, 2],
      [`${'x'.repeat(152)}€${'x'.repeat(152)}`, 3],
      ['x'.repeat(1530), 10],
      ['ş'.repeat(70), 1],
      ['ş'.repeat(71), 2],
      [`${'ş'.repeat(66)}😀ş`, 1],
      [`${'ş'.repeat(66)}😀ş😀`, 2],
      ['ş'.repeat(670), 10],
    ] as const) {
      const phone = fresh();
      t.equal((await send({ phone, message: text })).status, 200);
      t.match(await one(await newestTo(desk, phone)), { segments }, `${text.length} of ${text[0]}`);
      t.same(textsOf(desk, phone), [text], 'as it was given');
    }
  });

  await t.test('a provider that takes its time', async (t) => {
    const phone = freshMany(2);
    fake.next('hang');
    const key = { ...SEND, 'idempotency-key': randomUUID() };
    const answer = await sendHastily({ phone, message: 'Slowly' }, key);
    t.match(answer, {
      status: 202,
      body: {
        message: `SMS queued for ${phone.join(', ')}`,
        messages: phone.map((phoneNumber) => ({ phoneNumber, state: 'queued' })),
      },
    });
    const ids = idsOf(answer);
    await become(ids, 'sent');
    for (const [index, number] of phone.entries()) {
      t.match(await one(ids[index] ?? ''), { phoneNumber: number, cost: { currency: 'KES', amount: '0.8' } });
      t.same(textsOf(desk, number), ['Slowly'], 'once');
    }
    const asked = fake.requests.filter(({ fields }) => fields.message === 'Slowly');
    t.equal(new Set(asked.map(({ headers }) => headers['idempotency-key'])).size, 1, 'by one key');
    t.equal(new Set(asked.map(({ fields }) => fields.to)).size, 1, 'for one set');
    const again = await send({ phone, message: 'Slowly' }, key);
    t.match(again, { status: 200, body: { message: `SMS sent to ${phone.join(', ')}` } });
    t.same(
      recipients(again).map(({ number }) => number),
      phone,
    );
  });

  await t.test('Idempotency-Key', async (t) => {
    const phone = freshMany(120);
    const key = { ...SEND, 'idempotency-key': `request ${randomUUID()}` };
    const asked = { phone, message: 'Only once' };
    const all = await Promise.all(Array.from({ length: 10 }, () => send(asked, key)));
    t.same([...new Set(all.map(({ status }) => status))], [200], 'ten at once');
    t.equal(new Set(all.map(({ text }) => text)).size, 1, 'are told the same');
    t.same(
      recipients(all[0] as Answer).map(({ number }) => number),
      phone,
      'in their order',
    );
    for (const number of phone) t.same(textsOf(desk, number), ['Only once']);
    await query(`update messages set created_at = date_trunc('hour', created_at)`);
    const ordered = await Promise.all(Array.from({ length: 3 }, () => send(asked, key)));
    t.equal(new Set(ordered.map(({ text }) => text)).size, 1, 'also where the clock tells none apart');
    const before = await rows();
    for (const other of [
      { ...asked, message: 'Only twice' },
      { ...asked, phone: phone.slice(1) },
      { phone },
      { ...asked, phone: [...phone, fresh()] },
    ]) {
      t.match(await send(other, key), { status: 409, body: { error: /^Idempotency-Key/ } });
    }
    t.equal((await send(asked, key, TWO_WAY)).status, 409, 'nor the other sender');
    for (const none of ['', ' ', 'x'.repeat(300)]) {
      const headers = { ...SEND, 'idempotency-key': none };
      t.match(await send({ phone: fresh() }, headers), { status: 400, body: { error: /^Idempotency-Key/ } });
    }
    t.equal(await rows(), before, 'nothing of it was written');
    await query(`update messages set state = 'delivered', code = 'x' where state = 'sent'`);
    t.equal((await send(asked, key)).text, ordered[0]?.text, 'the same also when reports have come');
    t.equal((await send(asked)).status, 200);
    t.equal(textsOf(desk, phone[0] ?? '').length, 2, 'without the key it is another one');
  });

  await t.test('what the provider says of each', async (t) => {
    const codes: [number, string, string, string][] = [
      [100, 'sent', 'processed', 'Success'],
      [101, 'sent', 'sent', 'Success'],
      [102, 'sent', 'queued', 'Success'],
      [402, 'rejected', 'invalid_sender_id', 'InvalidSenderId'],
      [403, 'rejected', 'invalid_phone_number', 'InvalidPhoneNumber'],
      [404, 'rejected', 'unsupported_number_type', 'UnsupportedNumberType'],
      [406, 'rejected', 'user_in_blacklist', 'UserInBlacklist'],
      [407, 'rejected', 'could_not_route', 'CouldNotRoute'],
      [409, 'rejected', 'do_not_disturb', 'DoNotDisturbRejection'],
    ];
    const phone = freshMany(codes.length);
    for (const [index, [code]] of codes.entries()) fake.smsCodes.set(phone[index] ?? '', code);
    const answer = await send({ phone, message: 'One by one' });
    t.equal(answer.status, 200);
    t.equal(answer.body.response?.SMSMessageData.Message, 'Sent to 3/9 Total Cost: KES 2.4000');
    for (const [index, [statusCode, state, code, status]] of codes.entries()) {
      const number = phone[index] ?? '';
      const taken = statusCode < 200;
      t.match(
        recipients(answer)[index],
        {
          statusCode,
          number,
          status,
          cost: taken ? 'KES 0.8000' : '0',
          messageId: taken ? /^ATXid_/ : 'None',
        },
        `${statusCode} in the answer`,
      );
      const message = await one(await newestTo(desk, number));
      t.match(message, { state, code, providerId: taken ? /^ATXid_/ : null }, `${statusCode} in the list`);
      t.equal(message.endedAt === null, taken);
      t.equal(message.sentAt === null, !taken);
    }
    t.match(await query(`select state from outbox order by queued_at desc limit 1`), [{ state: 'done' }]);
  });

  await t.test('what it says of all', async (t) => {
    const [a = '', b = ''] = freshMany(2);
    for (const number of [a, b]) fake.smsCodes.set(number, 406);
    const blacklisted = { statusCode: 406, status: 'UserInBlacklist', messageId: 'None', cost: '0' };
    t.match(await send({ phone: [a, b] }), {
      status: 200,
      body: {
        response: {
          SMSMessageData: { Message: 'Sent to 0/2 Total Cost: 0', Recipients: [blacklisted, blacklisted] },
        },
      },
    });
    const newest = 'select state, error from outbox order by queued_at desc limit 1';
    t.same(await query(newest), [{ state: 'refused', error: 'user_in_blacklist' }]);

    fake.next({
      status: 201,
      body: JSON.stringify({ SMSMessageData: { Message: 'InvalidSenderId', Recipients: [] } }),
    });
    const unnamed = await send({ phone: freshMany(2) });
    t.match(
      recipients(unnamed),
      [{ statusCode: 402, status: 'InvalidSenderId' }, { statusCode: 402 }],
      'one word for all',
    );
    t.same(await query(newest), [{ state: 'refused', error: 'invalid_sender_id' }]);

    const phone = freshMany(2);
    fake.next({ status: 400, body: 'Bad' });
    const refused = await send({ phone });
    t.match(refused, {
      status: 200,
      body: { response: { SMSMessageData: { Message: 'Sent to 0/2 Total Cost: 0' } } },
    });
    for (const number of phone)
      t.match(await one(await newestTo(desk, number)), { state: 'failed', code: 'http_400', endedAt: /Z$/ });
    t.same(await query(newest), [{ state: 'refused', error: 'http_400' }]);

    const dear = fresh();
    const Recipients = [
      {
        statusCode: 101,
        number: dear,
        cost: `KES ${'9'.repeat(12)}.0000`,
        status: 'Success',
        messageId: 'ATXid_dear',
      },
    ];
    fake.next({ status: 201, body: JSON.stringify({ SMSMessageData: { Message: 'Sent', Recipients } }) });
    t.equal((await send({ phone: dear })).status, 200, 'a cost beyond any sense');
    t.match(await one(await newestTo(desk, dear)), { state: 'sent', providerId: 'ATXid_dear', cost: null });
  });

  await t.test('what may be taken later', async (t) => {
    const later: [number, string][] = [
      [401, 'risk_hold'],
      [405, 'insufficient_balance'],
      [500, 'internal_server_error'],
      [501, 'gateway_error'],
      [502, 'rejected_by_gateway'],
    ];
    const phone = freshMany(later.length + 2);
    const waiting = phone.slice(0, later.length);
    const [good = '', bad = ''] = phone.slice(later.length);
    for (const [index, [code]] of later.entries()) fake.smsCodes.set(phone[index] ?? '', code);
    fake.smsCodes.set(bad, 404);
    const key = { ...SEND, 'idempotency-key': randomUUID() };
    let answer = await sendHastily({ phone, message: 'Now or later' }, key);
    // The repeat of a request is told how far its messages are.
    const judged = () => answer.body.messages?.at(-1)?.state === 'rejected';
    for (let tries = 0; !judged() && tries < 100; tries += 1)
      answer = await sendHastily({ phone, message: 'Now or later' }, key);
    t.equal(answer.status, 202);
    t.match(
      answer.body.messages?.map(({ state }) => state),
      [...later.map(() => 'queued'), 'sent', 'rejected'],
    );
    const ids = idsOf(answer);
    for (const [index, [, code]] of later.entries())
      t.match(await one(ids[index] ?? ''), { state: 'queued', code });
    for (const number of waiting) fake.smsCodes.delete(number);
    await become(ids.slice(0, later.length), 'sent');
    const calls = fake.requests.filter(({ fields }) => fields.message === 'Now or later');
    const sets = new Map<string, Set<string>>();
    for (const { headers, fields } of calls) {
      const key = headers['idempotency-key'] ?? '';
      sets.set(key, (sets.get(key) ?? new Set()).add((fields.to ?? '').split(',').toSorted().join()));
    }
    t.ok(sets.size > 1, 'under another key');
    t.ok(
      [...sets.values()].every(({ size }) => size === 1),
      'each key for one set',
    );
    t.same(
      [...sets.values()].map(([set]) => set).slice(1),
      Array(sets.size - 1).fill(waiting.toSorted().join()),
    );
    for (const number of [...waiting, good]) t.same(textsOf(desk, number), ['Now or later'], 'once');
    t.same(textsOf(desk, bad), []);
  });

  await t.test('an answer to a message', async (t) => {
    const opened = openPostgres(desk.databaseUrl, () => {});
    const queue = await startQueue(opened, (error) => t.fail(error.message));
    t.teardown(async () => {
      await queue.stop();
      await opened.close();
    });
    const { messages } = await openKeeping(opened, {
      ring: parseKeyRing(TEST_KEY),
      messages: { dailyMax: 10, prefixes: [] },
      book: 'real',
    });
    const to = fresh();
    const id = await opened.kysely.transaction().execute(async (tx) => {
      const wanted = { kind: 'twoWay' as const, body: 'An answer', to: [to], cause: 'support' as const };
      const { call } = await messages.write(tx, {
        ...wanted,
        linkId: 'SampleLinkId123',
        keyword: 'OTHER',
        sender: '54321',
      });
      await queue.enqueue(tx, 'sms', { id: call });
      return call;
    });
    await become([id], 'sent');
    t.match(content.requests.at(-1)?.fields, {
      to,
      message: 'An answer',
      bulkSMSMode: '0',
      from: '54321',
      keyword: 'OTHER',
      linkId: 'SampleLinkId123',
    });
    t.same(textsOf(desk, to), [], 'by the content host only');
  });

  await t.test('who may', async (t) => {
    const before = { rows: await rows(), requests: fake.requestCount };
    for (const path of [BULK, TWO_WAY]) {
      for (const [headers, status] of [
        [{}, 401],
        [{ authorization: 'Bearer wrong' }, 401],
        [READ, 403],
        [ADMIN, 403],
      ] as const) {
        t.equal((await get(`${path}?phone=254711000111`, headers)).status, status, `GET ${path}`);
        t.equal((await send({ phone: '254711000111' }, headers, path)).status, status, `POST ${path}`);
      }
    }
    t.same({ rows: await rows(), requests: fake.requestCount }, before);
    t.match(
      gateway.output(),
      /"operator":"mary","kind":"bulk","count":1,"msisdn":"m_[0-9a-f]{12}"/,
      'who sent is known',
    );
  });
});

t.test('opt-outs', async (t) => {
  const desk = await openDesk(t, { AT_SHORTCODE: '12345' });
  const { fake, gateway, query, send, sendHastily, one, become } = desk;

  await t.test('one of a hundred', async (t) => {
    const phone = freshMany(100);
    const out = phone[41] ?? '';
    await send({ phone: out, message: 'Before' });
    t.same(textsOf(desk, out), ['Before']);
    await optOut(desk, out, await newestTo(desk, out), 'AnotherBrand');
    const answer = await send({ phone, message: 'News' });
    t.equal(answer.status, 200);
    t.equal(answer.body.response?.SMSMessageData.Message, 'Sent to 99/100 Total Cost: KES 79.2000');
    t.same(
      recipients(answer).filter(({ status }) => status !== 'Success'),
      [{ statusCode: 406, number: out, cost: '0', status: 'UserInBlacklist', messageId: 'None' }],
    );
    t.match(await one(await newestTo(desk, out)), {
      state: 'rejected',
      code: 'opted_out',
      sentAt: null,
      endedAt: /Z$/,
    });
    t.notOk(
      fake.requests.some(({ fields }) => fields.message === 'News' && fields.to?.includes(out)),
      'nobody was asked',
    );
    for (const number of phone)
      t.equal(textsOf(desk, number).filter((text) => text === 'News').length, number === out ? 0 : 1);

    const alone = await send({ phone: out, message: 'Alone' });
    t.match(alone, {
      status: 200,
      body: { response: { SMSMessageData: { Message: 'Sent to 0/1 Total Cost: 0' } } },
    });
    t.notOk(fake.requests.some(({ fields }) => fields.message === 'Alone'));
    await eventually(
      'its end',
      async () => (await query(`select id from outbox where state = 'queued'`)).length === 0,
      PATIENCE_MS,
    );

    t.equal(
      (await send({ phone: out, message: 'Asked for' }, SEND, TWO_WAY)).status,
      200,
      'two-way is asked for',
    );
    for (const text of ['', '1', '1*1', '1*1*1'])
      await turn(gateway.url, { phoneNumber: out, sessionId: 'page', text });
    await eventually('the page by SMS', async () => textsOf(desk, out).length === 3, PATIENCE_MS);
    const page = await newestTo(desk, out);
    // The provider has it before its row says so.
    await become([page], 'sent');
    t.match(await one(page), { kind: 'single', state: 'sent' }, 'and so is a page');

    await query('update sms_opt_outs set ended_at = clock_timestamp()');
    t.equal(recipients(await send({ phone: out, message: 'Again' }))[0]?.status, 'Success', 'after START');
    t.equal(textsOf(desk, out).at(-1), 'Again');
  });

  for (const how of ['refuse', '503'] as const) {
    await t.test(`what is queued while the provider is away (${how})`, async (t) => {
      const phone = freshMany(3);
      const [stays = '', out = ''] = phone;
      await fake.down(how);
      const answer = await sendHastily({ phone, message: 'Waiting' });
      t.equal(answer.status, 202);
      const [, id = ''] = idsOf(answer);
      await optOut(desk, out, id);
      // A try that is under way has read who wants none already: the second that fails from now on has not.
      const attempts = async () =>
        (
          await query<{ attempts: number }>(
            'select attempts from outbox where id = (select call_id from messages where id = $1)',
            [id],
          )
        )[0]?.attempts ?? 0;
      const before = await attempts();
      await eventually('two more tries', async () => (await attempts()) >= before + 2, PATIENCE_MS);
      await fake.up();
      await become([id], 'rejected');
      await become(
        idsOf(answer).filter((each) => each !== id),
        'sent',
      );
      t.match(await one(id), { code: 'opted_out', providerId: null });
      t.same(textsOf(desk, out), [], 'nothing went there');
      t.same(textsOf(desk, stays), ['Waiting']);
    });
  }

  await t.test('while nobody knows whether it was sent', async (t) => {
    const phone = freshMany(3);
    const [stays = '', out = ''] = phone;
    fake.next('hang');
    const answer = await sendHastily({ phone, message: 'Unheard' });
    t.equal(answer.status, 202);
    const [, id = ''] = idsOf(answer);
    await optOut(desk, out, id);
    await become([id], 'rejected');
    await become(
      idsOf(answer).filter((each) => each !== id),
      'sent',
    );
    t.same(textsOf(desk, stays), ['Unheard'], 'nobody has it twice');
    t.same(textsOf(desk, out), ['Unheard'], 'that one had it before, and not again');
    const calls = fake.requests.filter(({ fields }) => fields.message === 'Unheard');
    t.notOk(
      calls.slice(1).some(({ fields }) => fields.to?.includes(out)),
      'nobody asked for it once more',
    );
  });
});

t.test('given up, and tried again by an operator', async (t) => {
  const desk = await openDesk(t);
  const { fake, gateway, query, sendHastily, one, become } = desk;
  const retry = (id: string) =>
    told(`${gateway.url}/api/effects/${id}/retry`, { method: 'POST', headers: ADMIN });
  const outbox = async (call: string) =>
    (
      await query<{ state: string; error: string }>('select state, error from outbox where id = $1', [call])
    )[0];

  /** A call of three that was tried for the last time. */
  const giveUp = async (message: string) => {
    const phone = freshMany(3);
    await fake.down('503');
    const answer = await sendHastily({ phone, message });
    const ids = idsOf(answer);
    const [row] = await query<{ call: string }>('select call_id as call from messages where id = $1', [
      ids[0],
    ]);
    const call = row?.call ?? '';
    // Its next try is the last one, and comes soon.
    await eventually(
      'the last try',
      async () =>
        (
          await query(
            `update pgboss.job set retry_limit = retry_count, start_after = now()
             where name = 'sms' and data ->> 'id' = $1 and state = 'retry' returning id`,
            [call],
          )
        ).length > 0 || (await outbox(call))?.state === 'dead',
      PATIENCE_MS,
    );
    await eventually('it to be given up', async () => (await outbox(call))?.state === 'dead', PATIENCE_MS);
    for (const id of ids) t.match(await one(id), { state: 'failed', code: 'gave_up', endedAt: /Z$/ });
    await fake.up();
    return { phone, ids, call };
  };

  const first = await giveUp('Given up');
  t.match(await outbox(first.call), { state: 'dead', error: 'http_503' });
  const [out = ''] = first.phone;
  await optOut(desk, out, first.ids[0] ?? '');
  const all = await Promise.all([retry(first.call), retry(first.call)]);
  t.same(all.map(({ status }) => status).toSorted(), [202, 404], 'asked twice at once');
  await become(first.ids.slice(1), 'sent');
  t.match(await one(first.ids[0] ?? ''), { state: 'rejected', code: 'opted_out' }, 'who opted out meanwhile');
  for (const number of first.phone) t.same(textsOf(desk, number), number === out ? [] : ['Given up'], 'once');
  const keys = fake.requests.filter(({ fields }) => fields.message === 'Given up');
  t.equal(
    new Set(keys.map(({ headers }) => headers['idempotency-key'])).size,
    1,
    'it is the same one at the provider',
  );
  t.equal((await retry(first.call)).status, 404, 'what is done is not done again');

  const second = await giveUp('Forgotten');
  await query('update sms_calls set body = null where id = $1', [second.call]);
  t.equal((await retry(second.call)).status, 409, 'where the text is gone there is nothing to send');
  for (const id of second.ids)
    t.match(await one(id), { state: 'failed', code: 'gave_up' }, 'and nothing waits');
  t.match(await outbox(second.call), { state: 'dead' });
});

t.test('who has no token, no short code and no provider', async (t) => {
  await t.test('no token: none is let in, from this machine neither', async (t) => {
    const { url: DATABASE_URL } = await database(t);
    const DATA_DIR = temporaryDirectory(t);
    const gateway = await startGateway(t, { DATABASE_URL, DATA_DIR });
    t.equal((await told(`${gateway.url}/api/sms/messages`, {})).status, 200, 'reading is open');
    for (const path of [BULK, TWO_WAY]) {
      t.equal((await told(`${gateway.url}${path}?phone=254711000111`, {})).status, 401);
      const asked = { method: 'POST', headers: JSON_TYPE, body: '{"phone":"254711000111"}' };
      t.equal((await told(gateway.url + path, asked)).status, 401);
    }
    const made = /all of them with the token (\S+) of/.exec(gateway.output())?.[1] ?? '';
    const headers = { authorization: `Bearer ${made}` };
    for (const path of [BULK, TWO_WAY]) {
      const answer = await told(`${gateway.url}${path}?phone=254711000111`, { headers });
      t.match(answer, {
        status: 200,
        body: {
          response: {
            SMSMessageData: {
              Message: 'Sent to 1/1 Total Cost: 0 (simulated: nothing was sent)',
              Recipients: [{ statusCode: 101, cost: '0', messageId: /^sim-/ }],
            },
          },
        },
      });
    }
  });

  await t.test('in production', async (t) => {
    const { url: DATABASE_URL } = await database(t);
    const gateway = await startGateway(t, { DATABASE_URL, NODE_ENV: 'production', HOST: '127.0.0.1' });
    for (const path of [`${BULK}?phone=254711000111`, `${TWO_WAY}?phone=254711000111`, '/api/sms/messages'])
      t.equal((await told(gateway.url + path, {})).status, 404, path);
    const asked = { method: 'POST', headers: JSON_TYPE, body: '{"phone":"254711000111"}' };
    t.equal((await told(gateway.url + BULK, asked)).status, 404);
    const query = await queryOn(t, DATABASE_URL);
    t.same(await query('select count(*)::int as n from messages'), [{ n: 0 }]);
  });

  await t.test('without a short code', async (t) => {
    const desk = await openDesk(t);
    const error = 'AT_SHORTCODE is not set: there is nothing to send from';
    t.match(await desk.get(`${TWO_WAY}?phone=254711000111`), { status: 503, body: { error } });
    t.match(
      await desk.send({ phone: '1' }, SEND, TWO_WAY),
      { status: 400 },
      'what is wrong with it comes first',
    );
    t.equal((await desk.get(`${BULK}?phone=254711000111`)).status, 200);
    t.notOk(
      desk.fake.requests.some(({ fields }) => 'from' in fields),
      "the provider's default",
    );
    t.equal(desk.fake.requestCount, 1);
  });
});

t.test('the list of messages', async (t) => {
  const desk = await openDesk(t, { AT_USERNAME: '', AT_API_KEY: '', AT_BASE_URL: '' });
  const { query, get, send, gateway } = desk;
  const list = async (words = '') =>
    (await get(`/api/sms/messages${words}`, READ)).body as unknown as {
      messages: Listed[];
      next: string | null;
    };
  t.strictSame(await list(), { messages: [], next: null });
  const phone = freshMany(60);
  t.equal((await send({ phone, message: 'CANARYTEXT' })).status, 200);
  // Many of one moment: only the id tells them apart.
  await query(
    `update messages m set created_at = timestamptz '2026-01-01' + (n / 25) * interval '1 microsecond',
       state = (array['queued', 'sent', 'submitted', 'buffered', 'delivered', 'failed', 'rejected', 'expired', 'promised', 'sent'])[1 + n % 10]
     from (select id, (row_number() over (order by id))::int - 1 as n from messages) numbered where numbered.id = m.id`,
  );
  const { messages: all } = await list('?limit=100');
  t.equal(all.length, 60);
  t.equal((await list()).messages.length, 50, 'fifty, where nothing is said');
  t.same(Object.keys(all[0] ?? {}).toSorted(), [
    'cause',
    'code',
    'cost',
    'createdAt',
    'endedAt',
    'id',
    'kind',
    'phoneNumber',
    'provider',
    'providerId',
    'segments',
    'sender',
    'sentAt',
    'state',
  ]);
  t.same(all.map(({ phoneNumber }) => phoneNumber).toSorted(), phone.toSorted());
  t.notMatch(JSON.stringify(all), /CANARY/, 'never what they say');

  await t.test('filters', async (t) => {
    for (const [state, count] of [
      ['queued', 6],
      ['sent', 12],
      ['delivered', 6],
      ['promised', 6],
      ['expired', 6],
    ] as const)
      t.equal((await list(`?state=${state}&limit=100`)).messages.length, count, state);
    const [one] = all;
    for (const spelt of [phone[0] ?? '', phone[0]?.slice(1) ?? '']
      .map(encodeURIComponent)
      .concat(`+${phone[0]?.slice(1)}`))
      t.same(
        (await list(`?phoneNumber=${spelt}`)).messages.map(({ phoneNumber }) => phoneNumber),
        [phone[0]],
        spelt,
      );
    t.same(
      (await list(`?phoneNumber=${encodeURIComponent(one?.phoneNumber ?? '')}&state=${one?.state}`)).messages,
      [one],
    );
    t.same((await list('?phoneNumber=254799999999')).messages, []);
    t.equal((await list('?from=2026-01-01T00:00:00Z&limit=100')).messages.length, 60);
    t.equal((await list('?until=2026-01-01T00:00:00Z')).messages.length, 0, 'up to an instant, without it');
    t.equal(
      (await list('?from=2026-01-01T03:00:00%2B03:00&until=2026-01-01T00:00:00.001Z&limit=100')).messages
        .length,
      60,
    );
    t.equal((await list('?from=2026-01-01T00:00:01Z')).messages.length, 0);
    for (const far of ['0000-01-01T00:00:00Z', '0001-01-01T00:00:00%2B14:00', '9999-12-31T23:59:59-14:00'])
      for (const side of ['from', 'until'])
        t.equal((await get(`/api/sms/messages?${side}=${far}`)).status, 200, far);
  });

  await t.test('page by page, while more are added', async (t) => {
    for (const [words, state] of [
      ['', undefined],
      ['&state=sent', 'sent'],
    ] as const) {
      const before = all.filter((each) => state === undefined || each.state === state).map(({ id }) => id);
      const seen: string[] = [];
      let cursor = '';
      for (let pages = 0; pages < 50; pages += 1) {
        const page = await list(`?limit=7${words}${cursor}`);
        t.ok(page.messages.length <= 7);
        seen.push(...page.messages.map(({ id }) => id));
        t.equal((await send({ phone: fresh() })).status, 200);
        if (page.next === null) break;
        cursor = `&cursor=${encodeURIComponent(page.next)}`;
      }
      t.equal(new Set(seen).size, seen.length, 'none twice');
      t.same(seen.filter((id) => before.includes(id)).toSorted(), before.toSorted(), 'none left out');
    }
  });

  await t.test('one of them', async (t) => {
    const [one] = all;
    t.same(await (await get(`/api/sms/messages/${one?.id}`, READ)).body, one);
    t.same(await (await get(`/api/sms/messages/${one?.id.toUpperCase()}`, READ)).body, one);
    for (const id of [randomUUID(), 'x', '%00', "'", `${one?.id}0`, 'x'.repeat(64)])
      t.match(
        await get(`/api/sms/messages/${id}`, READ),
        { status: 404, body: { error: 'Message not found' } },
        id,
      );
    t.equal((await get(`/api/sms/messages/${'x'.repeat(65)}`, READ)).status, 400);
  });

  await t.test('what is no question', async (t) => {
    const cursor = (text: string) => `cursor=${Buffer.from(text).toString('base64url')}`;
    for (const [field, words] of [
      ...['0', '101', '-1', '1.5', 'x', ''].map((limit) => ['limit', `limit=${limit}`]),
      ...['open', '', 'SENT', 'sent&state=queued'].map((state) => ['state', `state=${state}`]),
      ...['', 'x', '0711000111', '2547110001111111', "'", '254711000111,254711000112'].map((number) => [
        'phoneNumber',
        `phoneNumber=${number}`,
      ]),
      ...['', 'now', '2026-01-01', '2026-02-31T00:00:00Z', '2026-01-01T00:00:00'].map((at) => [
        'from',
        `from=${at}`,
      ]),
      ['until', 'until=1'],
      ...['', 'x', 'x'.repeat(300)].map((text) => ['cursor', `cursor=${text}`]),
      ['cursor', cursor(randomUUID())],
      ['cursor', cursor(`2026-02-31T00:00:00.000000Z ${randomUUID()}`)],
    ]) {
      const answer = await get(`/api/sms/messages?${words}`, READ);
      t.match(
        answer,
        { status: 400, body: { error: `Out of rule or missing: ${field}` } },
        words?.slice(0, 50) ?? '',
      );
    }
    for (const path of ['/api/sms/messages', `/api/sms/messages/${all[0]?.id}`]) {
      t.equal((await get(path, {})).status, 401);
      t.equal((await get(path, { authorization: 'Bearer wrong' })).status, 401);
      t.equal((await get(path, ADMIN)).status, 403, 'reading is a scope of its own');
    }
  });
  t.notMatch(gateway.output(), /CANARYTEXT/);
});

// The basic table and the extension table of 3GPP TS 23.038 §6.2.1, column by column, as printed there.
const TABLE =
  '@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !"#¤%&\'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà';
const ESCAPED = '\f^{}\\[~]|€';

/** The least number of SMS that hold the text in its order, tried out: none of its characters is in two of them. */
function segmentsByTrying(text: string): number {
  const characters = [...text];
  const gsm = characters.every((character) => (TABLE + ESCAPED).includes(character));
  const sizes = characters.map((character) =>
    gsm ? (ESCAPED.includes(character) ? 2 : 1) : character.length,
  );
  const whole = sizes.reduce((sum, size) => sum + size, 0);
  if (whole <= (gsm ? 160 : 70)) return 1;
  const room = gsm ? 153 : 67;
  const least = [0];
  for (let end = 1; end <= sizes.length; end += 1) {
    let best = Number.POSITIVE_INFINITY;
    for (let begin = end - 1, sum = 0; begin >= 0; begin -= 1) {
      sum += sizes[begin] ?? 0;
      if (sum > room) break;
      best = Math.min(best, (least[begin] ?? 0) + 1);
    }
    least[end] = best;
  }
  return least.at(-1) ?? 0;
}

t.test('how many SMS a text takes', async (t) => {
  const plain = fc.constantFrom(...TABLE);
  const escaped = fc.constantFrom(...ESCAPED);
  const foreign = fc.constantFrom('ş', 'ç', '`', '’', '…', 'ن');
  const pair = fc.constantFrom('😀', '𝒳', '👍');
  const long = (character: fc.Arbitrary<string>) =>
    fc.string({ unit: character, maxLength: 700, size: 'max' });
  fc.assert(
    fc.property(
      fc.oneof(
        long(plain),
        long(fc.oneof({ arbitrary: plain, weight: 9 }, { arbitrary: escaped, weight: 1 })),
        long(escaped),
        long(fc.oneof(foreign, plain)),
        long(fc.oneof(foreign, pair, escaped)),
      ),
      (text) => segmentsOf(text) === segmentsByTrying(text),
    ),
    { numRuns: scaled(1_500) },
  );
  // At every edge: a character of two units falls on it, before it and behind it.
  for (const [filler, wide, edges] of [
    ['x', '€', [153, 160, 306, 459]],
    ['ş', '😀', [67, 70, 134, 201]],
  ] as const)
    for (const edge of edges)
      for (let before = edge - 3; before <= edge + 1; before += 1)
        for (let behind = 0; behind <= 12; behind += 1) {
          const text = `${filler.repeat(before)}${wide}${filler.repeat(behind)}`;
          if (segmentsOf(text) !== segmentsByTrying(text)) t.fail(`${before} ${wide} ${behind}`);
        }
  t.pass('as many as by trying');
});
