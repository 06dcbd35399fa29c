import { join } from 'node:path';
import { sql } from 'kysely';
import type { Logger } from 'pino';
import { buildApp } from './app.ts';
import { bind } from './bindings.ts';
import { checkUp } from './checkup.ts';
import { type Config, ConfigError, type Operator, readConfig, SCOPES } from './config.ts';
import { airtimeDelivery } from './effects/buy-airtime.ts';
import { EFFECTS, NEED_PHONE, QUIET } from './effects/effect.ts';
import { taskDelivery, tellUntold } from './effects/open-task.ts';
import { smsDelivery } from './effects/sms.ts';
import { tradeDelivery } from './effects/trade.ts';
import { openEngine, openKeeping } from './engine.ts';
import type { Known } from './flow/plan.ts';
import { route } from './flow/service-code.ts';
import { AFRICASTALKING } from './gateways/africastalking.ts';
import { JSON_GATEWAY } from './gateways/json.ts';
import { keepHouse } from './housekeeping.ts';
import { KeyLost, keptToken, tokenFile } from './kept.ts';
import { lastWords, leaveAtOnce, leaveWell } from './leaving.ts';
import { makeLog } from './log.ts';
import { MenuError, readMenus, watchMenus } from './menus.ts';
import { migrateAlone, openDatabase, StartRefused } from './opening.ts';
import { COMMANDS, CommandRefused } from './operator/commands.ts';
import { runReconciliation } from './operator/reconcile.ts';
import { chooseProviders } from './providers/choose.ts';
import { exchangeSimulator } from './providers/exchange.ts';
import { twilioTaskRouter } from './providers/twilio.ts';
import { startQueue } from './queue.ts';
import { KeyError } from './seal/keys.ts';
import { SHAPES } from './services/facts.ts';
import { RepliesError, readReplies } from './sms/replies.ts';
import { DirectoryInUse } from './store/embedded.ts';
import { WrongKeys } from './store/keyring.ts';
import type { Book } from './store/ledger.ts';
import { RightsMissing } from './store/migrate.ts';
import { simulatedTill } from './store/reconciliation.ts';
import { within } from './store/sql.ts';

const MIGRATIONS = join(import.meta.dirname, '..', 'migrations');
const SERVICES = join(import.meta.dirname, 'services');
const REPLIES = join(import.meta.dirname, 'sms', 'replies.yaml');

/**
 * For one call to a task router; in milliseconds. Three of them, which a task may take, are over before its lease is
 * (10 s), and before the queue gives the job to somebody else.
 */
const ROUTER_MS = 3_000;

/** What a JSON session opens that names no code (CONTRACT.md section 6); where it is missing, the default service. */
const JSON_SERVICE = 'invest';

/** What the document of a service may name. */
function knownOf(service: string): Known {
  return { facts: SHAPES[service] ?? {}, effects: EFFECTS, needPhone: NEED_PHONE, quiet: QUIET };
}

async function main(): Promise<void> {
  const [command, ...words] = process.argv.slice(2);
  if ((command === 'doctor' || command === 'migrate') && words.length > 0)
    throw new StartRefused(`say \`${command}\` alone`);
  if (command === 'doctor') return checkUp({ read: readExamined, inWords, migrations: MIGRATIONS });
  const documents = readMenus(SERVICES, knownOf);
  const services = documents.map((menu) => menu.service);
  const config = readConfig(process.env, services);
  const log = makeLog(config.logLevel);
  lastWords(log);
  process.once('SIGTERM', leaveAtOnce);
  const place = { ...config, migrations: MIGRATIONS };
  if (command === 'migrate') return void (await migrateAlone(place, log));
  if (command !== undefined) return runCommand({ config, log, services }, command, words);

  const replies = readReplies(config.smsReplies ?? REPLIES, config.smsFrom);
  const { database, ring, notes } = await openDatabase(place, log);
  const { kysely } = database;
  const queue = await startQueue(database, (error) =>
    log.warn({ err: error }, 'the queue could not reach the database'),
  );
  const providers = chooseProviders(config.africasTalking, simulatedTill(kysely));
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
  await queue.daily('reconcile', async () => {
    const { outcome } = await runReconciliation({ db: kysely, airtime, sales, enqueue: queue.enqueue });
    if (outcome === undefined) log.warn('airtime was not reconciled: no list of sales, and no reports');
  });

  watchMenus(SERVICES, knownOf, menus, {
    served: (service) => log.info({ service }, 'a document has changed: new dials see it'),
    refused: (problems) =>
      log.error({ problems }, 'a changed document is refused: the version before it stays'),
  });

  const stopLooking = switches.watch((error) =>
    log.warn({ err: error }, 'the switches of services could not be read: what was known stays'),
  );

  leaveWell(log, { app, drain, stopLooking, queue, database });
  await app.listen({
    port: config.port,
    host: config.host,
    listenTextResolver: (address) =>
      startLine(
        config,
        address,
        [
          ...notes,
          `SMS and airtime by ${providers.by}`,
          'shares by the simulator: no exchange is asked',
          router === undefined
            ? 'requests for help stay at the desk'
            : 'requests for help to Twilio TaskRouter',
        ],
        made,
      ),
  });
}

/** How long what is kept by days is kept. */
function daysOf({ messageRetentionDays: messageDays, deskRetentionDays: deskDays }: Config) {
  return { messageDays, deskDays };
}

/** What proves that an event is TaskRouter's. */
function signedBy({ authToken, workspaceSid, eventsUrl: url }: NonNullable<Config['twilio']>) {
  return { authToken, workspaceSid, ...(url !== undefined && { url }) };
}

/** What a command is run with. */
type Beside = { config: Config; log: Logger; services: string[] };

/** A command of an operator's: beside the running service, on the same database. */
async function runCommand(
  { config, log, services }: Beside,
  command: string,
  words: string[],
): Promise<void> {
  const run = Object.hasOwn(COMMANDS, command) ? COMMANDS[command] : undefined;
  if (run === undefined)
    throw new StartRefused(
      `there is no command ${command}: doctor, migrate, ${Object.keys(COMMANDS).join(', ')}`,
    );
  const { database, ring } = await openDatabase({ ...config, migrations: MIGRATIONS }, log);
  const queue = await startQueue(database, (error) =>
    log.warn({ err: error }, 'the queue could not reach the database'),
  );
  try {
    const keeping = await openKeeping(database, {
      ring,
      digestKey: config.digestKey,
      messages: config.messages,
      book: bookOf(config),
      airtimeCurrencies: config.airtimeCurrencies,
    });
    const house = () => keepHouse({ ...keeping, ...daysOf(config), db: database.kysely });
    const { airtime: seller } = chooseProviders(config.africasTalking, simulatedTill(database.kysely));
    const sales = { provider: seller.name, listSales: seller.listSales };
    const say = (said: string) => void process.stdout.write(`${said}\n`);
    say(
      await run(
        { ...keeping, services, house, db: database.kysely, ring, enqueue: queue.enqueue, sales, say },
        words,
      ),
    );
  } finally {
    await queue.stop();
    await database.close();
  }
}

/** What a start would read before it opens anything. */
function readExamined(): Config {
  const services = readMenus(SERVICES, knownOf).map((menu) => menu.service);
  const config = readConfig(process.env, services);
  readReplies(config.smsReplies ?? REPLIES, config.smsFrom);
  return config;
}

/** Without credentials the simulator serves, and what it is paid with is no money (CONTRACT.md section 4). */
function bookOf({ africasTalking }: Config): Book {
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

function startLine(config: Config, address: string, notes: string[], made?: Operator): string {
  const warnings: string[] = [];
  if (config.trustedProxies.length > 0)
    warnings.push(`proxies believed: ${config.trustedProxies.join(', ')} (narrow it with TRUSTED_PROXIES)`);
  if (config.environment === 'production') {
    if (config.gatewayAllow.empty && config.callbackSecret === undefined) {
      warnings.push('WARNING anybody may call the gateway routes: set GATEWAY_ALLOW or CALLBACK_SECRET');
    }
    if (config.rateLimit.allow.empty)
      warnings.push('WARNING set RATE_LIMIT_ALLOW to the networks of your aggregators');
  }
  const operator =
    config.operators.length > 0
      ? 'operators by token'
      : made === undefined
        ? 'operator routes closed: set OPERATOR_TOKEN'
        : `operator routes read by this machine only; all of them with the token ${made.token} of ${tokenFile(config.dataDir)}`;
  return [`ussd gateway on ${address}`, config.environment, ...notes, operator, ...warnings].join(' | ');
}

/** What a person is told who started this, where the fault is theirs to mend. */
function inWords(error: unknown): string[] | undefined {
  const listed = [ConfigError, MenuError, RepliesError].find((kind) => error instanceof kind);
  if (listed !== undefined) return (error as { problems: string[] }).problems;
  const plain = [KeyError, WrongKeys, DirectoryInUse, RightsMissing, KeyLost, StartRefused, CommandRefused];
  if (plain.some((kind) => error instanceof kind)) return [(error as Error).message];
  // A port that is taken, a directory that cannot be made; a user or a database that the server does not
  // know (classes 28 and 3D). These name addresses and users, nothing secret.
  const { syscall, code = '', message } = error as NodeJS.ErrnoException;
  return syscall !== undefined || /^(28|3D)/.test(code) ? [message] : undefined;
}

main().catch((error: unknown) => {
  const said = inWords(error);
  if (said === undefined) {
    makeLog('info').fatal({ err: error }, 'the start failed');
  } else {
    const what = error instanceof CommandRefused ? 'this cannot be done' : 'ussd gateway cannot start';
    process.stderr.write(`${what}:\n${said.map((line) => `  ${line}\n`).join('')}`);
  }
  process.exit(1);
});
