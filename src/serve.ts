import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { sql } from 'kysely';
import type { Logger } from 'pino';
import { buildApp } from './app.ts';
import { bind } from './bindings.ts';
import { type Config, type Operator, SCOPES } from './config.ts';
import { airtimeDelivery } from './effects/buy-airtime.ts';
import { EFFECTS, NEED_PHONE, QUIET } from './effects/effect.ts';
import { taskDelivery, tellUntold } from './effects/open-task.ts';
import { smsDelivery } from './effects/sms.ts';
import { tradeDelivery } from './effects/trade.ts';
import { openEngine } from './engine.ts';
import type { Menu } from './flow/menu.ts';
import type { Known } from './flow/plan.ts';
import { route } from './flow/service-code.ts';
import { AFRICASTALKING } from './gateways/africastalking.ts';
import { JSON_GATEWAY } from './gateways/json.ts';
import { keepHouse } from './housekeeping.ts';
import { keptToken, tokenFile } from './kept.ts';
import { type Running, shutDown } from './leaving.ts';
import { inWords, lookAt } from './listening.ts';
import { watchMenus } from './menus.ts';
import { type Opened, openDatabase, type Progress } from './opening.ts';
import { chooseProviders } from './providers/choose.ts';
import { exchangeSimulator } from './providers/exchange.ts';
import { twilioTaskRouter } from './providers/twilio.ts';
import { startQueue } from './queue.ts';
import { SHAPES } from './services/facts.ts';
import { type Replies, readReplies } from './sms/replies.ts';
import { type Row, startTable } from './start-table.ts';
import type { Book } from './store/ledger.ts';
import { within } from './store/sql.ts';

/** The folders of this code: its migrations, its services, the default automatic replies. */
export const MIGRATIONS = join(import.meta.dirname, '..', 'migrations');
export const SERVICES = join(import.meta.dirname, 'services');
export const REPLIES = join(import.meta.dirname, 'sms', 'replies.yaml');

/**
 * For one call to a task router; in milliseconds. Three of them, which a task may take, are over before its lease is
 * (10 s), and before the queue gives the job to somebody else.
 */
const ROUTER_MS = 3_000;

/** What a JSON session opens that names no code (CONTRACT.md section 6); where it is missing, the default service. */
const JSON_SERVICE = 'invest';

/** What the document of a service may name. */
export function knownOf(service: string): Known {
  return { facts: SHAPES[service] ?? {}, effects: EFFECTS, needPhone: NEED_PHONE, quiet: QUIET };
}

/** What a test may pass in where a process uses the production value. */
export type ServeOptions = {
  /** log2 of the cost of a new PIN's scrypt hash. Default: `PIN_COST`. */
  pinCost?: number;
  /** Tells a person what is being done, on a terminal. */
  progress?: Progress;
  /** Shows the start to a person, as a table; without it the start is a record of the log. */
  screen?(table: string): void;
  /** Files that settings were read from. */
  settings?: readonly string[];
};

/** A gateway that listens. */
export type Served = {
  /** The TCP port that it listens on. */
  port: number;
  /** Finishes what is under way and closes everything; `waits` shortens the pauses of a real shutdown. */
  shutDown(waits?: Parameters<typeof shutDown>[2]): Promise<void>;
};

/**
 * Starts a gateway inside this process: opens the database, wires the engine, the queue and the routes, and listens
 * on the configured address. Signals and the exit code are the caller's. Says when it listens, at every log level.
 * Throws `AddressRefused`, `StartRefused`, `KeyError`, `WrongKeys`, `DirectoryInUse`, `RightsMissing`, `KeyLost` or a listen error.
 */
export async function serve(
  config: Config,
  documents: Menu[],
  log: Logger,
  { pinCost, progress, screen, settings = [] }: ServeOptions = {},
): Promise<Served> {
  const services = documents.map((menu) => menu.service);
  const place = { ...config, migrations: MIGRATIONS, ...(progress && { progress }) };
  const replies = readReplies(config.smsReplies ?? REPLIES, config.smsFrom);
  await lookAt(config);
  const opened = await openDatabase(place, log);
  try {
    return await serveOn(opened, { config, services, documents, replies, log, pinCost, screen, settings });
  } catch (error) {
    await opened.database.close();
    throw error;
  }
}

type Parts = {
  config: Config;
  services: string[];
  documents: Menu[];
  replies: Replies;
  log: Logger;
  pinCost: number | undefined;
  screen: ServeOptions['screen'];
  settings: readonly string[];
};

/** Wires a gateway on an open database and listens. */
async function serveOn(
  { database, ring, notes }: Opened,
  { config, services, documents, replies, log, pinCost, screen, settings }: Parts,
): Promise<Served> {
  const { kysely } = database;
  const queue = await startQueue(database, (error) =>
    log.warn({ err: error }, 'the queue could not reach the database'),
  );
  const providers = chooseProviders(config.africasTalking);
  const codes = { codes: config.serviceCodes, fallback: config.defaultService };
  const jsonService = services.includes(JSON_SERVICE) ? JSON_SERVICE : config.defaultService;
  const engine = await openEngine(database, {
    ring,
    digestKey: config.digestKey,
    documents,
    codes,
    ttl: config.sessionTtlMs,
    messages: config.messages,
    book: bookOf(config),
    enqueue: queue.enqueue,
    ...(pinCost !== undefined && { pinCost }),
  });
  const { takeTurn, takeNotice, sessions, menus, switches, digests, messages } = engine;
  const { airtime, orders, farTasks, apiKeys } = engine;
  const made = config.operators.length > 0 ? undefined : madeOperator(config);
  const router = config.twilio && twilioTaskRouter({ ...config.twilio, timeoutMs: ROUTER_MS });
  const bindings = bind(kysely, engine, queue, {
    replies,
    mostRecipients: providers.sms.most,
    hasShortCode: config.africasTalking === undefined || config.smsFrom.shortCode !== undefined,
    routed: router !== undefined,
    ttl: config.sessionTtlMs,
  });
  const gateways = ['ixo', AFRICASTALKING, JSON_GATEWAY, ...config.gateways.map((gateway) => gateway.name)];
  const { app, drain } = await buildApp({
    log,
    environment: config.environment,
    takeTurn,
    takeNotice,
    digests,
    operators: config.operators,
    ...(made !== undefined && { madeOperator: made }),
    own: { name: 'ixo', mode: config.inputMode },
    via: config.gateways,
    trustedProxies: config.trustedProxies,
    rateLimit: config.rateLimit,
    gatewayAllow: config.gatewayAllow,
    ...(config.callbackSecret !== undefined && { callbackSecret: config.callbackSecret }),
    ...(config.redisUrl !== undefined && { redisUrl: config.redisUrl }),
    sessions: {
      active: (limit) => sessions.active(config.sessionTtlMs, limit),
      count: () => sessions.count(config.sessionTtlMs),
      find: async (sessionId) => {
        const found = await sessions.newest(gateways.map((gateway) => digests.session(gateway, sessionId)));
        if (found === undefined || found.age > config.sessionTtlMs) return undefined;
        return { ...found, hidden: (await menus.pinned(found.menu)).private };
      },
    },
    ...bindings,
    telerivet: {
      askForHelp: bindings.askForHelp,
      ...(config.telerivetSecret !== undefined && { secret: config.telerivetSecret }),
    },
    twilio: {
      hear: bindings.hearRouter,
      ...(config.twilio !== undefined && { signed: signedBy(config.twilio) }),
    },
    json: {
      ttl: config.sessionTtlMs,
      findKey: (key, deadline) => within(deadline, apiKeys.find(database.sql, key)),
      opens: (serviceCode) => {
        const service = serviceCode === undefined ? jsonService : route(serviceCode, codes).service;
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
    connections: database.connections,
    services: () => menus.services().map((service) => ({ service, off: switches.isOff(service) })),
    pinChecks: () => engine.pinChecks,
    ping: () => sql`select 1`.execute(kysely),
  });
  await queue.work([
    smsDelivery(kysely, messages, providers.sms, config.smsFrom),
    airtimeDelivery(kysely, airtime, providers.airtime, queue.enqueue),
    tradeDelivery(kysely, orders, exchangeSimulator(), queue.enqueue),
    taskDelivery(kysely, farTasks, router),
  ]);
  const tell = async () => {
    if (router !== undefined) await tellUntold({ db: kysely, farTasks, enqueue: queue.enqueue });
  };
  // What was asked for, or closed, while there were no credentials.
  await tell();
  await queue.daily('housekeeping', async () => {
    await tell();
    const { unclosed } = await keepHouse({ ...engine, ...daysOf(config), db: kysely });
    if (unclosed > 0) log.warn({ unclosed }, 'tasks erased that nobody closed');
  });

  const stopWatching = watchMenus(SERVICES, knownOf, menus, {
    served: (service) => log.info({ service }, 'a document has changed: new dials see it'),
    refused: (problems) =>
      log.error({ problems }, 'a changed document is refused: the version before it stays'),
  });

  const stopLooking = switches.watch((error) =>
    log.warn({ err: error }, 'the switches of services could not be read: what was known stays'),
  );

  const running: Running = {
    app,
    drain,
    stopLooking: () => {
      stopWatching();
      stopLooking();
    },
    queue,
    database,
  };
  const addresses = await listen(app, config).catch(async (error: unknown) => {
    running.stopLooking();
    await queue.stop().catch(() => {});
    throw error;
  });
  const start: Start = {
    notes,
    providers: [
      `SMS and airtime by ${providers.by}`,
      'shares by the simulator: no exchange is asked',
      router === undefined ? 'requests for help stay at the desk' : 'requests for help to Twilio TaskRouter',
    ],
    settings,
    ...(made !== undefined && { made }),
  };
  if (screen !== undefined) screen(tableOf(config, addresses, start));
  // The token and the warnings are on it: whatever the level, it is said.
  else
    for (const address of addresses) log.child({}, { level: 'info' }).info(startLine(config, address, start));
  const { port } = app.server.address() as AddressInfo;
  return { port, shutDown: (waits) => shutDown(log, running, waits) };
}

/** How long what is kept by days is kept. */
export function daysOf({ messageRetentionDays: messageDays, deskRetentionDays: deskDays }: Config) {
  return { messageDays, deskDays };
}

/** What proves that an event is TaskRouter's. */
function signedBy({ authToken, workspaceSid, eventsUrl: url }: NonNullable<Config['twilio']>) {
  return { authToken, workspaceSid, ...(url !== undefined && { url }) };
}

/** Without credentials the simulator serves, and what it is paid with is no money (CONTRACT.md section 4). */
export function bookOf({ africasTalking }: Config): Book {
  if (africasTalking === undefined) return 'demo';
  return africasTalking.username === 'sandbox' ? 'sandbox' : 'real';
}

/**
 * Whatever sends or credits wants a token: where none is set, one is made and kept in the data directory, outside
 * production (RULINGS.md 28).
 */
function madeOperator({ environment, dataDir }: Config): Operator | undefined {
  if (environment === 'production') return undefined;
  return { name: 'operator', scopes: new Set(SCOPES), token: keptToken(dataDir) };
}

/** What a start says besides the configuration. */
type Start = {
  /** What was opened. */
  notes: string[];
  providers: string[];
  settings: readonly string[];
  made?: Operator;
};

/** Listens, without fastify's own line of the log. Returns the addresses as URLs. Throws `AddressRefused`. */
async function listen(
  app: Awaited<ReturnType<typeof buildApp>>['app'],
  { host, port }: Config,
): Promise<string[]> {
  const addresses: string[] = [];
  const { level } = app.log;
  app.log.level = 'silent';
  try {
    await app.listen({ host, port, listenTextResolver: (address) => `${addresses.push(address)}` });
  } catch (error) {
    throw inWords(error, { host, port });
  } finally {
    app.log.level = level;
  }
  return addresses;
}

/** What an operator has to know of this configuration, or to change. */
function warningsOf(config: Config): string[] {
  const warnings = [...config.warnings];
  if (config.trustedProxies.length > 0)
    warnings.push(`proxies believed: ${config.trustedProxies.join(', ')} (narrow it with TRUSTED_PROXIES)`);
  if (config.environment === 'production') {
    if (config.gatewayAllow.empty && config.callbackSecret === undefined) {
      warnings.push('WARNING anybody may call the gateway routes: set GATEWAY_ALLOW or CALLBACK_SECRET');
    }
    if (config.rateLimit.allow.empty)
      warnings.push('WARNING set RATE_LIMIT_ALLOW to the networks of your aggregators');
  }
  return warnings;
}

/** The start as a record of the log, for machines and for a log that is read later. */
function startLine(config: Config, address: string, { notes, providers, settings, made }: Start): string {
  const operator =
    config.operators.length > 0
      ? 'operators by token'
      : made === undefined
        ? 'operator routes closed: set OPERATOR_TOKEN'
        : `operator routes read by this machine only; all of them with the token ${made.token} of ${tokenFile(config.dataDir)}`;
  return [
    `ussd gateway on ${address}`,
    config.environment,
    ...notes,
    ...providers,
    operator,
    ...settings.map((file) => `settings of ${file}`),
    ...warningsOf(config),
  ].join(' | ');
}

/** The same for a person at a terminal. */
function tableOf(config: Config, addresses: string[], { notes, providers, settings, made }: Start): string {
  const codes = [...config.serviceCodes, ['any other code', config.defaultService] as const];
  const wide = Math.max(...codes.map(([code]) => code.length));
  const token: Row[] =
    made === undefined
      ? [
          [
            'operators',
            [config.operators.length > 0 ? 'by OPERATOR_TOKEN' : 'routes closed: set OPERATOR_TOKEN'],
          ],
        ]
      : [
          [
            'operator token',
            [made.token, `kept in ${tokenFile(config.dataDir)}; this machine may read without it`],
          ],
        ];
  return startTable(`ussd gateway on ${addresses[0]} (Ctrl-C stops it)`, [
    ['address', addresses],
    ['environment', [config.environment]],
    ['settings', settings.length > 0 ? [`${settings.join(', ')} and the environment`] : []],
    ['services', codes.map(([code, service]) => `${code.padEnd(wide)}  ${service}`)],
    ['database', notes],
    ['providers', providers],
    ...token,
    ['warnings', warningsOf(config)],
  ]);
}
