/**
 * Five thousand messages (docs/contract.md section 5): operators' requests that are all made twice over two processes, a
 * provider that fails, is slow, repeats, hangs and drops what it has done, and a process that is killed with its
 * calls under way.
 */
import t from 'tap';
import type { ServeOptions } from '../../src/serve.ts';
import { ask } from '../support/ask.ts';
import { type FakeAfricasTalking, fakeAfricasTalking } from '../support/fake-africastalking.ts';
import { type GatewayProcess, startQuickProcess, TRIED_SOON } from '../support/gateway.ts';
import { eventually, queryOn } from '../support/phone.ts';
import { database } from '../support/postgres.ts';
import { scaled } from '../support/scale.ts';

const TOKEN = 'a-token-for-this-test';
/** Of four requests each. */
const ROUNDS = scaled(5);
/** Phones in a request: calls of a hundred and one that is not full. */
const PHONES = 250;
const REQUESTS = 4 * ROUNDS;
const MESSAGES = REQUESTS * PHONES;
/** Longer than a busy machine takes for all of it. */
const PATIENCE_MS = 170_000;
/** The provider is a bad one for so many calls; then it calms down, because nobody waits minutes for a last try. */
const BAD_CALLS = 22 * ROUNDS;
const KILLED_AFTER = 5 * ROUNDS;
/** A call that hangs is given up soon, and what a killed process had under way is looked for soon. */
const SOON: ServeOptions = {
  providerMs: 1_500,
  smsWait: { forMs: 1_000, everyMs: 50 },
  queue: { ...TRIED_SOON.queue, expireSeconds: 3, lookSeconds: 1 },
};

const phoneOf = (index: number) => `+2547330${String(index).padStart(5, '0')}`;
const textOf = (request: number) => `Notice ${request} to all`;

/** One request until somebody has taken it; whoever takes it says the same of its messages. */
async function request(gateways: GatewayProcess[], index: number, copy: number): Promise<number> {
  const phone = Array.from({ length: PHONES }, (_, each) => phoneOf(index * PHONES + each));
  const headers = {
    'content-type': 'application/json',
    authorization: `Bearer ${TOKEN}`,
    'idempotency-key': `request-${index}`,
  };
  const body = JSON.stringify({ phone, message: textOf(index) });
  for (let round = 0; round < 40; round += 1) {
    const { url = '' } = gateways[(index + copy + round) % gateways.length] ?? {};
    const told = await ask(`${url}/sms/invoke-bulk-sms`, { method: 'POST', headers, body }).catch(
      () => undefined,
    );
    if (told?.status === 200 || told?.status === 202) return told.status;
    // Whoever is asked may be gone, or still at the other copy.
    if (told !== undefined && told.status !== 503) throw new Error(`${told.status} ${told.body.toString()}`);
  }
  throw new Error(`nobody takes request ${index}`);
}

/** Resolves with the key of a call of the first process that the provider has done and not answered yet. */
async function underWay(fake: FakeAfricasTalking): Promise<string> {
  let key = '';
  await fake.when(() => {
    const last = fake.requests.at(-1);
    const found =
      fake.requestCount >= KILLED_AFTER && last?.fields.from === 'First' && last.fate === 'answer';
    if (found) key = last.headers['idempotency-key'] ?? '';
    return found;
  });
  return key;
}

t.test(`${MESSAGES} messages, each asked for twice over two processes, one killed`, async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const chaos = { fail: 0.25, drop: 0.12, hang: 0.06, twice: 0.1, malformed: 0.05, truncated: 0.05 };
  const fake = await fakeAfricasTalking(t, { seed: 11, chaos, delayMs: [60, 600] });
  // Each of them at least once, also where there are few calls.
  fake.next('fail', 'drop', 'hang', 'twice', 'malformed', 'truncated');
  const settings = { DATABASE_URL, OPERATOR_TOKEN: TOKEN, LOG_LEVEL: 'info', ...fake.environment };
  // Whom a message is from says which process sent it.
  const gateways = await Promise.all(
    ['First', 'Second'].map((AT_SENDER_ID) => startQuickProcess(t, { ...settings, AT_SENDER_ID }, SOON)),
  );
  const query = await queryOn(t, DATABASE_URL);
  const killed = underWay(fake).then(async (key) => {
    await gateways[0]?.kill();
    return key;
  });
  // Not waited for: where much goes well there are fewer calls.
  void fake.when(() => fake.requestCount >= BAD_CALLS).then(() => fake.chaos({}));

  const statuses: number[] = [];
  for (let at = 0; at < REQUESTS; at += 4) {
    const some = [0, 1, 2, 3].flatMap((each) => [0, 1].map((copy) => request(gateways, at + each, copy)));
    statuses.push(...(await Promise.all(some)));
  }
  t.equal(
    statuses.length,
    2 * REQUESTS,
    `all were taken: ${statuses.filter((each) => each === 202).length} by 202`,
  );
  const interrupted = await killed;
  await eventually(
    'nothing to be under way',
    async () => {
      const rows = await query(`select id from outbox where state = 'queued' limit 1`);
      return rows.length === 0;
    },
    PATIENCE_MS,
  );

  t.same(
    await query(`
      select count(*)::int as rows, count(distinct phone)::int as phones, count(distinct call_id)::int as calls,
        count(*) filter (where state = 'sent')::int as sent, count(provider_id)::int as named,
        count(distinct provider_id)::int as names
      from messages`),
    [
      {
        rows: MESSAGES,
        phones: MESSAGES,
        calls: REQUESTS * Math.ceil(PHONES / 100),
        sent: MESSAGES,
        named: MESSAGES,
        names: MESSAGES,
      },
    ],
    'a row each, sent, and known by a name of its own',
  );
  t.same(await query('select state, count(*)::int from outbox group by 1'), [
    { state: 'done', count: REQUESTS * Math.ceil(PHONES / 100) },
  ]);

  t.equal(fake.messages.length, MESSAGES, 'the provider has done it so many times');
  const texts = new Map(fake.messages.map(({ number, text }) => [number, text]));
  t.equal(texts.size, MESSAGES, 'for so many phones');
  const wrong = Array.from({ length: MESSAGES }, (_, index) => index).filter(
    (index) => texts.get(phoneOf(index)) !== textOf(Math.floor(index / PHONES)),
  );
  t.same(wrong, [], 'each has the text that was meant for it');
  const names = await query<{ name: string }>('select provider_id as name from messages');
  t.same(
    names.map(({ name }) => name).toSorted(),
    fake.messages.map(({ messageId }) => messageId).toSorted(),
    'what is written down is what the provider says',
  );

  const sets = new Map<string, Set<string>>();
  for (const { headers, fields } of fake.requests) {
    const key = headers['idempotency-key'] ?? '';
    sets.set(key, (sets.get(key) ?? new Set()).add(`${fields.to} ${fields.message}`));
  }
  t.ok(
    [...sets.values()].every(({ size }) => size === 1),
    'a key that is repeated names the same text and phones',
  );
  t.ok(fake.requestCount > sets.size, `${fake.requestCount} calls under ${sets.size} keys`);
  t.same(
    (await query<{ key: string }>('select key from sms_calls')).map(({ key }) => key).toSorted(),
    [...sets.keys()].toSorted(),
    'every key is on record',
  );
  const senders = fake.requests
    .filter(({ headers }) => headers['idempotency-key'] === interrupted)
    .map(({ fields }) => fields.from);
  t.ok(
    senders.includes('First') && senders.includes('Second'),
    'what was under way in the killed one was taken up',
  );
  t.ok(
    ['fail', 'drop', 'hang', 'twice', 'malformed', 'truncated'].every((fate) =>
      fake.requests.some((each) => each.fate === fate),
    ),
    'everything has gone wrong',
  );
});
