/** A shop for airtime: gateways on one database, a fake provider, and what must hold of them. */
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { Test } from 'tap';
import type { ServeOptions } from '../../src/serve.ts';
import { ask } from './ask.ts';
import { type FakeAfricasTalking, type FakeOptions, fakeAfricasTalking } from './fake-africastalking.ts';
import {
  type Gateway,
  type GatewayProcess,
  post,
  startGateway,
  startQuickProcess,
  TRIED_SOON,
} from './gateway.ts';
import { database } from './postgres.ts';

const TOKEN = 'a-token-for-this-test';
const BODY = { 'content-type': 'application/json', authorization: `Bearer ${TOKEN}` };
/** Longer than a busy machine takes for anything here. */
const PATIENCE_MS = 240_000;

export type Shop<Instance extends Gateway = Gateway> = {
  urls: string[];
  gateways: Instance[];
  fake: FakeAfricasTalking;
  rows<T extends object>(sql: string): Promise<T[]>;
};

/** Opens a shop of several instances inside this process; `serve` are seams of `src/serve.ts`. */
export function openShop(
  t: Test,
  instances: number,
  options: FakeOptions = {},
  settings: Record<string, string> = {},
  serve: ServeOptions = {},
): Promise<Shop> {
  const start = (t: Test, all: Record<string, string>) => startGateway(t, all, { ...TRIED_SOON, ...serve });
  return open(t, instances, start, options, settings);
}

/** Opens a shop of several processes, for a test that kills one of them. */
export function openShopOfProcesses(
  t: Test,
  instances: number,
  options: FakeOptions = {},
  settings: Record<string, string> = {},
  serve: ServeOptions = TRIED_SOON,
): Promise<Shop<GatewayProcess>> {
  const start = (t: Test, all: Record<string, string>) => startQuickProcess(t, all, serve);
  return open(t, instances, start, options, settings);
}

async function open<Instance extends Gateway>(
  t: Test,
  instances: number,
  start: (t: Test, settings: Record<string, string>) => Promise<Instance>,
  options: FakeOptions,
  settings: Record<string, string>,
): Promise<Shop<Instance>> {
  const { url: DATABASE_URL } = await database(t);
  const fake = await fakeAfricasTalking(t, options);
  const gateways: Instance[] = [];
  // One after the other: inside this process two starts would only hold each other up.
  while (gateways.length < instances)
    gateways.push(await start(t, { DATABASE_URL, OPERATOR_TOKEN: TOKEN, ...fake.environment, ...settings }));
  const client = new pg.Client({ connectionString: DATABASE_URL });
  client.on('error', () => {});
  await client.connect();
  t.teardown(() => client.end());
  return {
    urls: gateways.map(({ url }) => url),
    gateways,
    fake,
    rows: async <T extends object>(sql: string) => (await client.query(sql)).rows as T[],
  };
}

export const phoneOf = (index: number) => `+2547110${String(index).padStart(5, '0')}`;

export async function credit(
  { urls: [url = ''] }: Shop,
  phoneNumber: string,
  amountMinor: number,
): Promise<void> {
  const idempotencyKey = `credit-of-${phoneNumber}-${amountMinor}`;
  const body = JSON.stringify({ phoneNumber, currency: 'KES', amountMinor, idempotencyKey, reason: 'test' });
  let told = await ask(`${url}/api/wallet/credits`, { method: 'POST', headers: BODY, body });
  // A busy machine; its key makes a repeat the same credit.
  for (let tries = 1; told.status === 503 && tries < 5; tries += 1)
    told = await ask(`${url}/api/wallet/credits`, { method: 'POST', headers: BODY, body });
  if (told.status !== 201 && told.status !== 200)
    throw new Error(`not credited: ${told.status} ${told.body.toString()}`);
}

/** One text, three times over all processes, until somebody has answered; nobody may answer otherwise. */
export async function say(
  t: Test,
  { urls }: Shop,
  phoneNumber: string,
  sessionId: string,
  text: string,
): Promise<string> {
  for (let round = 0; round < 20; round += 1) {
    const fields = { sessionId, serviceCode: '*144#', phoneNumber, text };
    const replies = await Promise.all(
      [0, 1, 2].map((copy) => post(urls[(copy + round) % urls.length] ?? '', fields).catch(() => undefined)),
    );
    const told = replies.flatMap((reply) =>
      reply?.outcome === 'ok' || reply?.outcome === 'replay' ? [reply.body] : [],
    );
    if (told.length > 0) {
      if (new Set(told).size > 1) t.fail(`${text} was answered in two ways: ${told.join(' / ')}`);
      return told[0] ?? '';
    }
  }
  throw new Error(`nobody answers ${text}`);
}

/** KES 50 for one's own number; the last words. */
export async function buy(
  t: Test,
  shop: Shop,
  phoneNumber: string,
  sessionId = `buy-${phoneNumber}`,
): Promise<string> {
  await choose(t, shop, phoneNumber, sessionId);
  return confirm(t, shop, phoneNumber, sessionId);
}

/** Walks to the question whether to buy KES 50. */
export async function choose(t: Test, shop: Shop, phoneNumber: string, sessionId: string): Promise<void> {
  for (const text of ['', '2', '2*1']) await say(t, shop, phoneNumber, sessionId, text);
}

export function confirm(t: Test, shop: Shop, phoneNumber: string, sessionId: string): Promise<string> {
  return say(t, shop, phoneNumber, sessionId, '2*1*1');
}

/** Until nothing is under way any more. */
export async function settled(shop: Shop): Promise<void> {
  const until = performance.now() + PATIENCE_MS;
  for (;;) {
    const [row] = await shop.rows<{ n: number }>(
      `select count(*)::int as n from outbox where state = 'queued'`,
    );
    if (row?.n === 0) return;
    if (performance.now() > until) throw new Error(`${row?.n} are still under way`);
    await sleep(30);
  }
}

/** What must hold of any ledger. */
export async function reconciles(t: Test, shop: Shop): Promise<void> {
  const sums = await shop.rows<{ sum: string }>(
    'select sum(amount)::text as sum from ledger_postings p join ledger_accounts a on a.id = p.account_id group by a.currency, a.book',
  );
  t.ok(sums.length > 0 && sums.every(({ sum }) => sum === '0'), 'the ledger sums to zero');
  t.same(
    await shop.rows(
      `select a.id from ledger_accounts a left join ledger_postings p on p.account_id = a.id
       where a.balance is not null group by a.id having a.balance <> coalesce(sum(p.amount), 0)`,
    ),
    [],
    'every balance is the sum of its postings',
  );
}
