import { randomBytes } from 'node:crypto';
import { openEmbeddedDatabase } from '../db/database.ts';
import { migrate } from '../db/migrate.ts';
import { deadlineIn } from '../deadline.ts';
import { airtimeDelivery } from '../effects/buy-airtime.ts';
import { smsDelivery } from '../effects/sms.ts';
import { tradeDelivery } from '../effects/trade.ts';
import { type EngineSettings, openEngine } from '../engine.ts';
import type { Answer, Heard } from '../flow/heard.ts';
import { isSecret, type Menu, wordsOf } from '../flow/menu.ts';
import { SEPTET_BUDGET } from '../flow/text.ts';
import { UssdRequest, WORDS, written } from '../gateways/screens.ts';
import { isBlockedPort } from '../networks.ts';
import { exchangeSimulator } from '../providers/exchange.ts';
import { simulator } from '../providers/simulator.ts';
import { parseKeyRing } from '../seal/keys.ts';
import { rememberLanguage } from '../store/subscribers.ts';
import { MIGRATIONS } from './project.ts';

/** One request of a session, as gateways send it. */
export type Request = { sessionId: string; serviceCode: string; phoneNumber: string; text: string };

/** What came back: the reply, whether its screen asks for a secret, and what the phone was sent meanwhile. */
export type Told = { body: string; secret: boolean; budget: number; name: string; messages: string[] };

/** What a phone is connected to. */
export type Line = { say(request: Request): Promise<Told>; close(): Promise<void> };

/** The far side could not be reached, or does not speak as a gateway expects. */
export class LineBroken extends Error {}

/** A session that is no longer waited for. */
const TTL_MS = 3_600_000;
/** A person at a keyboard waits for a busy machine. */
const PATIENCE_MS = 30_000;

/** What is dialled here: a document under a code, and the language that the phone chose before. */
export type Here = { menu: Menu; code: string; phone: string; language?: string };

/** The engine in this process, on a database in memory that is gone afterwards. */
export async function lineHere({ menu, code, phone, language }: Here): Promise<Line> {
  const database = await openEmbeddedDatabase();
  await migrate(database.kysely, MIGRATIONS);
  const queued: { kind: string; id: string }[] = [];
  const settings: EngineSettings = {
    ring: parseKeyRing(randomBytes(32).toString('hex')),
    documents: [menu],
    codes: { codes: new Map([[code, menu.service]]), fallback: menu.service },
    ttl: TTL_MS,
    messages: { dailyMax: 1_000, prefixes: [] },
    book: 'demo',
    enqueue: async (_tx, kind, { id }) => void queued.push({ kind, id }),
  };
  const { takeTurn, digests, messages, airtime, orders } = await openEngine(database, settings);
  const shops = [
    airtimeDelivery(database.kysely, airtime, simulator().airtime, settings.enqueue),
    tradeDelivery(database.kysely, orders, exchangeSimulator(), settings.enqueue),
  ];
  const carrier = smsDelivery(database.kysely, messages, simulator().sms);
  if (language !== undefined) await rememberLanguage(database.kysely, digests.phone(phone), language);

  /** What was queued and committed; a message of a turn that was rolled back is not there. */
  const delivered = async () => {
    const sent: string[] = [];
    for (let next = queued.shift(); next !== undefined; next = queued.shift()) {
      const { kind, id } = next;
      // What the simulator buys at once queues the message that tells of it.
      await shops.find((shop) => shop.kind === kind)?.deliver([id]);
      const message = await messages.toSend(database.kysely, id);
      if (message === undefined) continue;
      await carrier.deliver([id]);
      sent.push(...message.to.map((to) => `${to.msisdn}: ${message.text}`));
    }
    return sent;
  };
  const about = { budget: menu.budget, name: menu.service };
  return {
    say: async (request) => {
      const { sessionId, serviceCode, phoneNumber: msisdn, text } = request;
      const heard: Heard = { gateway: 'player', mode: 'cumulative', sessionId, serviceCode, msisdn, text };
      // The route's own schema: what a gateway may not send is answered as the server would.
      const answer: Answer = UssdRequest.safeParse(request).success
        ? await takeTurn(heard, deadlineIn(PATIENCE_MS))
        : { outcome: 'invalid' };
      if (answer.outcome === 'invalid') return { ...about, body: WORDS.invalid, secret: false, messages: [] };
      const node = menu.nodes[answer.screen.node];
      const secret = node !== undefined && 'ask' in node && isSecret(node.answer);
      return { ...about, body: written(answer.screen), secret, messages: await delivered() };
    },
    close: () => database.close(),
  };
}

/**
 * A running server, through `POST /api/ussd`. Which of its screens ask for a secret it does not say: those
 * of the documents at hand are known by their words, and what speaks of a PIN is taken for one.
 */
export function lineTo(server: string, documents: Menu[]): Line {
  const secrets = documents.flatMap(secretWords);
  return {
    say: async (request) => {
      const body = await post(new URL('/api/ussd', server), request);
      if (!/^(CON|END) /.test(body)) throw new LineBroken(`${server} answered neither CON nor END`);
      const secret = /\bPIN/i.test(body) || secrets.some((words) => body.includes(words));
      return { body, secret, budget: SEPTET_BUDGET, name: new URL(server).host, messages: [] };
    },
    close: async () => {},
  };
}

async function post(url: URL, request: Request): Promise<string> {
  if (url.port !== '' && isBlockedPort(Number(url.port)))
    throw new LineBroken(
      `${url.origin}: port ${url.port} is blocked by the Fetch standard, so no request would leave: let the gateway listen on another port (PORT), such as 8080`,
    );
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(request),
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    return await response.text();
  } catch (error) {
    const { message, cause } = error as Error;
    const code = (cause as { code?: string } | undefined)?.code;
    throw new LineBroken(`${url.origin} does not answer (${code ?? message}): is it running?`);
  }
}

/** The first line of every question whose answer is a secret, in every language. */
function secretWords({ nodes }: Menu): string[] {
  return Object.values(nodes).flatMap((node) => {
    if (!('ask' in node) || !isSecret(node.answer)) return [];
    const words = wordsOf(node);
    return (typeof words === 'string' ? [words] : Object.values(words)).map(
      (text) => text.split('\n')[0] ?? '',
    );
  });
}
