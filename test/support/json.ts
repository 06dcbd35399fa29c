/** JSON sessions: partners as they ask, and a gateway in this process that serves documents of the test's own. */
import type { Test } from 'tap';
import { buildApp } from '../../src/app.ts';
import type { Database } from '../../src/db/database.ts';
import { within } from '../../src/db/sql.ts';
import type { Engine } from '../../src/engine.ts';
import type { Menu } from '../../src/flow/menu.ts';
import { route } from '../../src/flow/service-code.ts';
import { JSON_GATEWAY } from '../../src/gateways/json.ts';
import { makeLog } from '../../src/log.ts';
import { parseNetworks } from '../../src/networks.ts';
import type { Fact } from '../../src/services/facts.ts';
import { ask, type Told } from './ask.ts';
import { engineOn } from './engine.ts';

export type Json = {
  status: number;
  headers: Told['headers'];
  /** As it came, and read. */
  text: string;
  // biome-ignore lint/suspicious/noExplicitAny: what came is what is to be tested.
  body: any;
};

export const SESSION = '/v1/ussd/session';
export const PROCESS = '/v1/ussd/process';

const JSON_TYPE = { 'content-type': 'application/json' };
export const FORM = { 'content-type': 'application/x-www-form-urlencoded' };

/** One request with a JSON body, or another one as it is given. */
export async function json(
  url: string,
  fields?: unknown,
  { method = 'POST', headers = {} }: { method?: string; headers?: Record<string, string> } = {},
): Promise<Json> {
  const sent =
    fields === undefined
      ? { method, headers }
      : { method, headers: { ...JSON_TYPE, ...headers }, body: write(fields) };
  const { status, headers: told, body } = await ask(url, sent);
  const text = body.toString();
  return { status, headers: told, text, body: text === '' ? undefined : JSON.parse(text) };
}

function write(fields: unknown): string {
  return typeof fields === 'string' ? fields : JSON.stringify(fields);
}

/** What a person carries with a key. */
export function bearing(key: string): { headers: Record<string, string> } {
  return { headers: { authorization: `Bearer ${key}` } };
}

/** A session from its opening on. */
export async function opened(url: string, fields: Record<string, unknown> = {}, key?: string) {
  const by = key === undefined ? {} : bearing(key);
  const first = await json(url + SESSION, { customerId: 7, ...fields }, by);
  if (first.status !== 201) throw new Error(`not opened: ${first.status} ${first.text}`);
  const sessionId = first.body.data.sessionId as string;
  return {
    first,
    sessionId,
    choose: (choice: unknown, requestId?: unknown, at = url) =>
      json(at + PROCESS, { sessionId, choice, requestId }, by),
    read: (at = url) => json(`${at}${SESSION}/${sessionId}`, undefined, { method: 'GET', ...by }),
    close: () => json(`${url}${SESSION}/${sessionId}`, undefined, { method: 'DELETE', ...by }),
  };
}

export type Served = { url: string; engine: Engine; log: string[] };

export type Serving = {
  documents: Menu[];
  facts?: Record<string, Record<string, Fact>>;
  ttl?: number;
  environment?: string;
  phoneMax?: number;
  allow?: string;
};

/** A gateway in this process, on a free port: the first document is the default service. */
export async function serve(t: Test, db: Database, serving: Serving): Promise<Served> {
  const { documents, facts = {}, ttl = 60_000, environment = 'test', phoneMax = 1_000, allow = '' } = serving;
  const fallback = documents[0]?.service ?? '';
  const codes = {
    codes: new Map(documents.map(({ service }, index) => [`*${index + 1}#`, service])),
    fallback,
  };
  const engine = await engineOn(db, { documents, codes, ttl, facts });
  const { digests, sessions, menus, apiKeys } = engine;
  const log: string[] = [];
  const never = async (): Promise<never> => {
    throw new Error('not in this test');
  };
  const { app } = await buildApp({
    log: makeLog('trace', { write: (line) => void log.push(line) }),
    environment,
    takeTurn: engine.takeTurn,
    takeNotice: engine.takeNotice,
    digests,
    operators: [],
    own: { name: 'ixo', mode: 'cumulative' },
    via: [],
    trustedProxies: [],
    rateLimit: { max: 1_000_000, windowMs: 60_000, phoneMax, allow: parseNetworks(allow) },
    gatewayAllow: parseNetworks(''),
    sessions: {
      active: (limit) => sessions.active(ttl, limit),
      count: () => sessions.count(ttl),
      find: async (sessionId) => {
        const found = await sessions.newest([digests.session(JSON_GATEWAY, sessionId)]);
        return found && { ...found, hidden: false };
      },
    },
    outbox: { list: never, retry: never, count: async () => [] },
    wallet: { book: 'demo', credit: never },
    sms: { send: never, messagesOf: never, list: never, find: never, hasShortCode: false },
    smsCallbacks: { hear: never, report: never, optOut: never, subscribe: never },
    airtime: { report: never, isExpected: never },
    telerivet: { askForHelp: never },
    twilio: { hear: never },
    desk: { list: never, find: never, assign: never, close: never, count: async () => [] },
    stats: { nodesOf: () => undefined, funnel: never, async *records() {} },
    lookup: { record: never, view: never, trail: never },
    json: {
      ttl,
      findKey: (key, deadline) => within(deadline, apiKeys.find(db.sql, key)),
      opens: (code) => {
        const service = code === undefined ? fallback : route(code, codes).service;
        return { service, needsPhone: menus.current(service).menu.needsPhone };
      },
      find: (sessionId, deadline) =>
        within(deadline, sessions.newest([digests.session(JSON_GATEWAY, sessionId)])),
      close: (sessionId, caller, deadline) =>
        within(
          deadline,
          engine.closeSession(digests.session(JSON_GATEWAY, sessionId), digests.caller(caller)),
        ),
      menuOf: (id) => menus.pinned(id),
    },
    connections: db.connections,
    services: () => [],
    pinChecks: () => engine.pinChecks,
    ping: async () => {},
  });
  t.teardown(() => app.close());
  const url = await app.listen({ port: 0, host: '127.0.0.1' });
  return { url, engine, log };
}
