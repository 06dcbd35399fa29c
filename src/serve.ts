import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { sql } from 'kysely';
import type { Logger } from 'pino';
import { buildApp } from './app.ts';
import { bind } from './bindings.ts';
import { type Config, type Operator, SCOPES } from './config.ts';
import { within } from './db/sql.ts';
import { airtimeDelivery } from './effects/buy-airtime.ts';
import { EFFECT_RULES } from './effects/effect.ts';
import { taskDelivery, tellUntold } from './effects/open-task.ts';
import { smsDelivery } from './effects/sms.ts';
import { tradeDelivery } from './effects/trade.ts';
import { openEngine } from './engine.ts';
import type { Menu } from './flow/menu.ts';
import type { Known } from './flow/plan.ts';
import { route } from './flow/service-code.ts';
import { AFRICASTALKING } from './gateways/africastalking.ts';
import { JSON_GATEWAY } from './gateways/json.ts';
import { HousekeepingFailed, keepHouse } from './housekeeping.ts';
import { keptToken } from './kept.ts';
import { type Running, shutDown } from './leaving.ts';
import { asRefusal, lookAt } from './listening.ts';
import { watchMenus } from './menus.ts';
import { type Opened, openDatabase, type Progress } from './opening.ts';
import { runReconciliation } from './operator/reconcile.ts';
import { chooseProviders } from './providers/choose.ts';
import { exchangeSimulator } from './providers/exchange.ts';
import { twilioTaskRouter } from './providers/twilio.ts';
import { type QueueSettings, startQueue } from './queue.ts';
import { SHAPES } from './services/facts.ts';
import { type Replies, readReplies } from './sms/replies.ts';
import { type Start, startLine, startScreen } from './start-line.ts';
import type { FarTaskTimes } from './store/far-tasks.ts';
import type { Book } from './store/ledger.ts';
import { simulatedTill } from './store/reconciliation.ts';

/** The folders of this code: its migrations, its services, the default automatic replies. */
export const MIGRATIONS = join(import.meta.dirname, '..', 'migrations');
export const SERVICES = join(import.meta.dirname, 'services');
export const REPLIES = join(import.meta.dirname, 'sms', 'replies.yaml');

/**
 * For one call to a task router; in milliseconds. Three of them, which a task may take, are over before its lease is
 * (10 s), and before the queue gives the job to another worker.
 */
const ROUTER_MS = 3_000;

/** What a JSON session opens that names no code (docs/contract.md section 6); where it is missing, the default service. */
const JSON_SERVICE = 'invest';

/** What the document of a service may name. */
export function knownOf(service: string): Known {
  return { facts: SHAPES[service] ?? {}, ...EFFECT_RULES };
}

/** What a test may pass in where a process uses the production value. */
export type ServeOptions = {
  /** log2 of the cost of a new PIN's scrypt hash. Default: `PIN_COST`. */
  pinCost?: number;
  /** For one attempt to reach the database at the start; in milliseconds. Default: that of `migrateServer`. */
  connectMs?: number;
  /** The folder of the documents that are watched for changes. Default: `SERVICES`. */
  services?: string;
  /** How often documents and switches are looked at; in milliseconds. Default: that of each. */
  lookMs?: number;
  /** Intervals and limits of the queue. Default: those of `src/queue.ts`. */
  queue?: QueueSettings;
  /** For one call to an SMS or airtime provider; in milliseconds. Default: that of `src/providers/choose.ts`. */
  providerMs?: number;
  /** How long a sender waits for the SMS provider, and how often it looks. Default: that of `src/sms/senders.ts`. */
  smsWait?: { forMs: number; everyMs: number };
  /** For how long a Redis that was away is not asked again; in milliseconds. Default: that of `addLimits`. */
  redisRestMs?: number;
  /** For one call to a task router; in milliseconds. Default: `ROUTER_MS`. */
  routerMs?: number;
  /** How long one process speaks to the task router about a task. Default: those of `src/store/far-tasks.ts`. */
  farTaskTimes?: FarTaskTimes;
  /** How many turns may wait for the database before newcomers are shed. Default: that of `Lane`. */
  mostWaiting?: number;
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
  options: ServeOptions = {},
): Promise<Served> {
  const services = documents.map((menu) => menu.service);
  const { progress } = options;
  const place = { ...config, migrations: MIGRATIONS, ...(progress && { progress }) };
  const replies = readReplies(config.smsReplies ?? REPLIES, config.smsFrom);
  await lookAt(config);
  const opened = await openDatabase(place, log, options.connectMs);
  const started: Undo[] = [() => opened.database.close()];
  try {
    return await serveOn(opened, { config, services, documents, replies, log, options, started });
  } catch (error) {
    // Left running, a queue would ask a database that is closed.
    for (const stop of started.reverse()) await Promise.resolve().then(stop).catch(noop);
    throw error;
  }
}

/** Stops what a start that fails has started already. */
type Undo = () => unknown;

/** What fails while a start is undone hides nothing: why it failed is said. */
function noop(): void {}

type Parts = {
  config: Config;
  services: string[];
  documents: Menu[];
  replies: Replies;
  log: Logger;
  options: ServeOptions;
  started: Undo[];
};

/** Wires a gateway on an open database and listens. */
async function serveOn(
  { database, ring, notes }: Opened,
  { config, services, documents, replies, log, options, started }: Parts,
): Promise<Served> {
  const { kysely } = database;
  const { pinCost, providerMs, routerMs = ROUTER_MS } = options;
  const queue = await startQueue(
    database,
    (error) => log.warn({ err: error }, 'the queue could not reach the database'),
    {
      onFailing: (failing) => log.warn(failing, 'deliveries failed and will be tried again'),
      ...options.queue,
    },
  );
  started.push(() => queue.stop());
  const providers = chooseProviders(config.africasTalking, simulatedTill(kysely), providerMs);
  const sales = { provider: providers.airtime.name, listSales: providers.airtime.listSales };
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
    airtimeCurrencies: config.airtimeCurrencies,
    enqueue: queue.enqueue,
    ...(pinCost !== undefined && { pinCost }),
    ...(options.mostWaiting !== undefined && { mostWaiting: options.mostWaiting }),
    ...(options.farTaskTimes !== undefined && { farTaskTimes: options.farTaskTimes }),
  });
  const { takeTurn, takeNotice, sessions, menus, switches, digests, messages } = engine;
  const { airtime, orders, farTasks, apiKeys } = engine;
  const made = config.operators.length > 0 ? undefined : madeOperator(config);
  const router = config.twilio && twilioTaskRouter({ ...config.twilio, timeoutMs: routerMs });
  const bindings = bind(kysely, engine, queue, {
    replies,
    mostRecipients: providers.sms.most,
    hasShortCode: config.africasTalking === undefined || config.smsFrom.shortCode !== undefined,
    routed: router !== undefined,
    ttl: config.sessionTtlMs,
    smsWait: options.smsWait,
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
    connectionLimits: config.connections,
    ...(config.callbackSecret !== undefined && { callbackSecret: config.callbackSecret }),
    ...(config.redisUrl !== undefined && { redisUrl: config.redisUrl }),
    ...(options.redisRestMs !== undefined && { redisRestMs: options.redisRestMs }),
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
      menuOf: (id, deadline) => within(deadline, menus.pinned(id)),
    },
    connections: database.connections,
    services: () => menus.services().map((service) => ({ service, off: switches.isOff(service) })),
    pinChecks: () => engine.pinChecks,
    ping: () => sql`select 1`.execute(kysely),
  });
  started.push(() => app.close());
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
    const further = { 'untold-tasks': tell };
    const { unclosed, failures } = await keepHouse({
      ...engine,
      ...daysOf(config),
      house: database.house,
      further,
    });
    if (unclosed > 0) log.warn({ unclosed }, 'tasks erased that nobody closed');
    if (failures.length === 0) return;
    log.error({ failures }, 'the housekeeping failed in part: it is tried again within the hour');
    throw new HousekeepingFailed(failures);
  });
  await queue.daily('reconcile', async () => {
    const { outcome } = await runReconciliation({ db: kysely, airtime, sales, enqueue: queue.enqueue });
    if (outcome === undefined) log.warn('airtime was not reconciled: no list of sales, and no reports');
  });

  const changes = {
    served: (service: string) => log.info({ service }, 'a document has changed: new dials see it'),
    refused: (problems: string[]) =>
      log.error({ problems }, 'a changed document is refused: the version before it stays'),
  };
  const stopWatching = watchMenus(options.services ?? SERVICES, knownOf, menus, changes, options.lookMs);

  const stopLooking = switches.watch(
    (error) => log.warn({ err: error }, 'the switches of services could not be read: what was known stays'),
    options.lookMs,
  );

  const stopTimers = () => {
    stopWatching();
    stopLooking();
  };
  started.push(stopTimers);
  const running: Running = { app, drain, stopLooking: stopTimers, queue, database };
  const addresses = await listen(app, config);
  const start: Start = {
    notes,
    providers: [
      `SMS and airtime by ${providers.by}`,
      'shares by the simulator: no exchange is asked',
      router === undefined ? 'requests for help stay at the desk' : 'requests for help to Twilio TaskRouter',
    ],
    settings: options.settings ?? [],
    ...(made !== undefined && { made }),
  };
  const { screen } = options;
  if (screen !== undefined) screen(startScreen(config, addresses, start));
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

/** Without credentials the simulator serves, and what it is paid with is no money (docs/contract.md section 4). */
export function bookOf({ africasTalking }: Config): Book {
  if (africasTalking === undefined) return 'demo';
  return africasTalking.username === 'sandbox' ? 'sandbox' : 'real';
}

/**
 * Whatever sends or credits wants a token: where none is set, one is made and kept in the data directory, outside
 * production (decision 28).
 */
function madeOperator({ environment, dataDir }: Config): Operator | undefined {
  if (environment === 'production') return undefined;
  return { name: 'operator', scopes: new Set(SCOPES), token: keptToken(dataDir) };
}

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
    throw asRefusal(error, { host, port });
  } finally {
    app.log.level = level;
  }
  return addresses;
}
