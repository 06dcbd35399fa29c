import { randomUUID } from 'node:crypto';
import { METHODS } from 'node:http';
import helmet from '@fastify/helmet';
import {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  fastify,
  LogController,
  type preHandlerHookHandler,
} from 'fastify';
import { serializerCompiler, validatorCompiler } from 'fastify-type-provider-zod';
import type { Logger } from 'pino';
import { type DeskParts, desk } from './desk/tasks.ts';
import type { TakeTurn } from './flow/heard.ts';
import type { TakeNotice } from './flow/notice.ts';
import { africastalkingGateway } from './gateways/africastalking.ts';
import { type AirtimeParts, airtimeOfAfricastalking } from './gateways/africastalking-airtime.ts';
import { type SmsCallbackParts, smsOfAfricastalking } from './gateways/africastalking-sms.ts';
import { inWords, tooMany } from './gateways/callbacks.ts';
import { whatIsWrong } from './gateways/faults.ts';
import { type JsonParts, jsonGateway } from './gateways/json.ts';
import { refuseFor } from './gateways/json-errors.ts';
import { limited, type UssdGateway } from './gateways/screens.ts';
import { type TelerivetParts, telerivetListener } from './gateways/telerivet.ts';
import { type TwilioEventsParts, twilioEvents } from './gateways/twilio-events.ts';
import { ussdGateway } from './gateways/ussd.ts';
import { makeAdmission, makeGuard, type Operator, type PartnerSettings } from './guard.ts';
import { isSameSecret } from './http/same-secret.ts';
import { addLimits, addressKey, type ConnectionLimits, limitConnections } from './limits.ts';
import { lineWriter } from './log.ts';
import { type Networks, parseNetworks } from './networks.ts';
import { type DebugParts, debug } from './operator/debug.ts';
import { collectSchemas, docs } from './operator/docs.ts';
import { type EffectsParts, effects } from './operator/effects.ts';
import { type HealthParts, health } from './operator/health.ts';
import { type LookupParts, lookup } from './operator/lookup.ts';
import { type MetricsParts, makeMetrics } from './operator/metrics.ts';
import { type StatsParts, stats } from './operator/stats.ts';
import { type WalletParts, wallet } from './operator/wallet.ts';
import type { Digests } from './seal/digests.ts';
import { type ListParts, smsList } from './sms/list.ts';
import { type SendersParts, senders } from './sms/senders.ts';
import { readStrictly } from './wire.ts';

/** Bodies are one USSD string and its envelope (docs/contract.md section 1). */
const BODY_BYTES = 8 * 1024;
/** Headers and bodies that take longer are cut off; Node only looks every so often, hence the interval. */
const SLOW_MS = 8_000;
const LOOK_FOR_SLOW_MS = 1_000;
const TOO_LONG_WORDS = 'The URL and the headers are longer than 16 KiB: use POST';
const TOO_LONG = [
  'HTTP/1.1 431 Request Header Fields Too Large',
  'Connection: close',
  'Content-Type: text/plain; charset=utf-8',
  `Content-Length: ${TOO_LONG_WORDS.length}`,
  '',
  TOO_LONG_WORDS,
].join('\r\n');
/** The longest piece of a path that means something: a secret in it (CALLBACK_SECRET, GATEWAYS). */
const PARAM_LENGTH = 128;
/** The route under which wrong secrets in the path are counted; the path itself is in no log and no metric. */
const GUESSED = '/c/';

export type AppParts = {
  log: FastifyBaseLogger;
  environment: string;
  takeTurn: TakeTurn;
  takeNotice: TakeNotice;
  digests: Digests;
  operators: Operator[];
  /** The token that was made where none was given. */
  madeOperator?: Operator;
  own: UssdGateway;
  via: UssdGateway[];
  trustedProxies: string[];
  rateLimit: { max: number; windowMs: number; phoneMax: number; allow: Networks };
  gatewayAllow: Networks;
  connectionLimits?: ConnectionLimits;
  callbackSecret?: string;
  redisUrl?: string;
  /** For how long a Redis that was away is not asked again; in milliseconds. Default: that of `addLimits`. */
  redisRestMs?: number;
  sessions: Omit<DebugParts, 'guard'>;
  outbox: Omit<EffectsParts, 'guard'> & { count: MetricsParts['deliveries'] };
  sms: Omit<SendersParts, 'guard' | 'pseudonym'> & Omit<ListParts, 'guard'>;
  smsCallbacks: Omit<SmsCallbackParts, 'pseudonym' | 'production'>;
  wallet: Pick<WalletParts, 'credit' | 'book'>;
  telerivet: Omit<TelerivetParts, 'pseudonym' | 'limit'>;
  twilio: Omit<TwilioEventsParts, 'limit'>;
  desk: Omit<DeskParts, 'guard'> & { count: MetricsParts['tasks'] };
  stats: Omit<StatsParts, 'guard'>;
  lookup: Omit<LookupParts, 'guard' | 'pseudonym'>;
  airtime: Pick<AirtimeParts, 'report' | 'isExpected'> & Pick<MetricsParts, 'reconciled'>;
  json: Pick<JsonParts, 'ttl' | 'opens' | 'find' | 'close' | 'menuOf'> & { findKey: PartnerSettings['find'] };
  connections(): { total: number; idle: number; waiting: number };
  services: MetricsParts['services'];
  housekeeping?: MetricsParts['housekeeping'];
  pinChecks: MetricsParts['pinChecks'];
  ping: HealthParts['ping'];
};

/** The application without a process around it; `drain` makes it say goodbye before it is closed. */
export async function buildApp(parts: AppParts): Promise<{ app: FastifyInstance; drain(): void }> {
  let draining = false;
  const app: FastifyInstance = fastify({
    loggerInstance: parts.log,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: BODY_BYTES,
    requestTimeout: SLOW_MS,
    maxRequestsPerSocket: parts.connectionLimits?.requests ?? 0,
    http: { headersTimeout: SLOW_MS, connectionsCheckingInterval: LOOK_FOR_SLOW_MS },
    trustProxy: parts.trustedProxies.length > 0 ? parts.trustedProxies : false,
    genReqId: requestId,
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: PARAM_LENGTH },
    // A path that cannot be decoded, or is too long, leads nowhere; fastify's own words would quote it.
    frameworkErrors: (_error, request, reply) => void nowhere(request, reply as FastifyReply),
    // A request that cannot even be read gets no words: its sender does not speak HTTP.
    // A URL or headers above Node's 16 KiB are: a list of phones goes into a body.
    clientErrorHandler: (error, socket) => {
      if (error.code === 'HPE_HEADER_OVERFLOW' && socket.writable) socket.end(TOO_LONG);
      else socket.destroy();
    },
  });
  if (parts.connectionLimits !== undefined) {
    // An aggregator, or a proxy that is believed, has the connections of a whole country.
    const proxies = parseNetworks(parts.trustedProxies.join(','));
    const isMany = (address?: string) => parts.rateLimit.allow.has(address) || proxies.has(address);
    limitConnections(app.server, parts.connectionLimits, isMany);
  }
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(serializerCompiler);
  // Hooks of every request call back: measured, a promise for each of them is a few hundredths of a turn.
  app.addHook('onRequest', (request, reply, done) => {
    reply.header('x-request-id', request.id);
    // Before any body is read: nowhere is nowhere, whatever comes with the request.
    if (request.is404) return void nowhere(request, reply);
    done();
  });
  // At the end of a request: one that was under way when the draining began is to let go as well.
  app.addHook('onSend', (_request, reply, payload, done) => {
    if (draining) reply.header('connection', 'close');
    done(null, payload);
  });
  app.setNotFoundHandler(nowhere);
  // Fastify knows a few methods only; what Node lets in is to get its 405 (CONNECT never gets here).
  const unknown = METHODS.filter((method) => !app.supportedMethods.includes(method));
  for (const method of unknown) app.addHttpMethod(method, { hasBody: true });
  app.setErrorHandler((error: Error & { statusCode?: number }, request, reply) => {
    const status = error.statusCode ?? 500;
    if (status >= 500) request.log.error({ err: error }, 'a request failed');
    const words = status >= 500 ? 'Service unavailable' : whatIsWrong(error, status);
    return reply.code(status >= 500 ? 503 : status).send({ error: words });
  });

  await readStrictly(app);
  await collectSchemas(app);
  const limit = await addLimits(app, parts.rateLimit.windowMs, parts.redisUrl, parts.redisRestMs);
  const production = parts.environment === 'production';
  const guard = makeGuard({
    operators: parts.operators,
    ...(parts.madeOperator !== undefined && { made: parts.madeOperator }),
    production,
    limit,
  });
  // With a secret or a list of networks nothing else is answered (decision 29); with neither, everyone is.
  const closed = parts.callbackSecret !== undefined || !parts.gatewayAllow.empty;
  const metrics = makeMetrics({
    guard,
    activeSessions: parts.sessions.count,
    deliveries: parts.outbox.count,
    tasks: parts.desk.count,
    connections: parts.connections,
    services: parts.services,
    ...(parts.housekeeping !== undefined && { housekeeping: parts.housekeeping }),
    pinChecks: parts.pinChecks,
    gatewaysOpen: () => !closed,
    ...(parts.airtime.reconciled !== undefined && { reconciled: parts.airtime.reconciled }),
  });

  app.decorateRequest('authenticated', false);

  const logTurn = lineWriter(parts.log as Logger, 'turn');
  /** One line a turn or callback, and its counts. */
  const report = (request: FastifyRequest, reply: FastifyReply, done: () => void): void => {
    countAndLog(request, reply);
    done();
  };
  const countAndLog = (request: FastifyRequest, reply: FastifyReply): void => {
    const { turn, callback, authenticated } = request;
    const ms = Math.round(reply.elapsedTime * 10) / 10;
    if (callback !== undefined) {
      const { route, outcome, ...more } = callback;
      request.log.info({ route, outcome, authenticated, ...more, ms }, 'callback');
      metrics.countCallback(route, outcome, callback.answer);
    }
    if (turn === undefined) return;
    logTurn(request.id, { ...turn, ms });
    metrics.count(turn, reply.elapsedTime / 1000);
  };
  // One aggregator is one address for a whole country: its networks are limited by phone or customer instead.
  const isShared = (request: FastifyRequest) => parts.rateLimit.allow.has(request.ip);
  const addressLimit = async (request: FastifyRequest) =>
    isShared(request) ? undefined : limit(request, addressKey(request.ip), parts.rateLimit.max);
  // What proves itself is not counted, what does not is.
  const unproven = async (request: FastifyRequest) =>
    limit(request, `unproven:${addressKey(request.ip)}`, parts.rateLimit.max);
  /** Counts a request that was refused before it was read, by the gateway or the callback that it was for. */
  const countRefused = (request: FastifyRequest): void => {
    const { gateway, callback } = request.routeOptions.config;
    if (callback !== undefined) request.callback = { route: callback, outcome: 'refused' };
    if (gateway !== undefined) request.turn = { gateway, outcome: 'refused' };
  };
  /** Answers a wrong secret in the path: 404 as any unknown path, and 429 to an address that has tried too many. */
  const refuseGuess = async (request: FastifyRequest, reply: FastifyReply): Promise<void> => {
    const wait = await unproven(request);
    request.callback = { route: GUESSED, outcome: wait === undefined ? 'refused' : 'limited' };
    if (wait === undefined) reply.callNotFound();
    else tooMany(reply, wait);
  };
  // The connection closed before the request could be read: no answer can be sent, and no address counted.
  const isGone = (request: FastifyRequest) => request.socket.destroyed || request.ip === undefined;

  /** Everything that a telecom gateway calls: who may, how often, and one line a turn or callback. */
  const gateways = async (scope: FastifyInstance, { secret }: { secret?: string }): Promise<void> => {
    scope.addHook('onRequest', (request, reply, done) => {
      if (isGone(request)) return void reply.hijack();
      if (secret === undefined) {
        if (closed && !parts.gatewayAllow.has(request.ip)) {
          countRefused(request);
          return void reply.code(403).send({ error: 'Forbidden' });
        }
      } else if (!isSameSecret((request.params as { callback?: string }).callback, secret)) {
        return void refuseGuess(request, reply).catch(done);
      }
      request.authenticated = closed;
      const { gateway, callback, proves } = request.routeOptions.config;
      // Nothing is waited for where nothing is counted: most of what an aggregator sends.
      if (proves === true || isShared(request)) return done();
      void addressLimit(request).then((wait) => {
        if (wait === undefined) return done();
        if (callback !== undefined) request.callback = { route: callback, outcome: 'limited' };
        if (gateway === undefined) return void tooMany(reply, wait);
        request.turn = { gateway, outcome: 'limited' };
        limited(reply, request, wait);
      }, done);
    });
    // A callback that anyone could have sent leaves no row in production (decision 29): acknowledged, counted, dropped.
    scope.addHook('onRoute', (route) => {
      const { callback, unproven: answer } = route.config ?? {};
      if (!production || callback === undefined || answer === undefined) return;
      const drop: preHandlerHookHandler = (request, reply, done) => {
        if (request.authenticated) return done();
        request.callback = { route: callback, outcome: 'unproven' };
        inWords(reply, 200, answer);
      };
      route.preHandler = [drop, ...[route.preHandler ?? []].flat()];
    });
    scope.addHook('onResponse', report);
    const screens = {
      takeTurn: parts.takeTurn,
      pseudonym: (msisdn: string) => parts.digests.pseudonym(msisdn),
      phoneLimit: (request: FastifyRequest, pseudonym: string) =>
        isShared(request) ? limit(request, `phone:${pseudonym}`, parts.rateLimit.phoneMax) : undefined,
      unprovenLimit: unproven,
    };
    await scope.register(ussdGateway, { ...screens, own: parts.own, via: parts.via });
    await scope.register(africastalkingGateway, { ...screens, takeNotice: parts.takeNotice });
    const { pseudonym } = screens;
    await scope.register(airtimeOfAfricastalking, { ...parts.airtime, pseudonym, production });
    await scope.register(smsOfAfricastalking, { ...parts.smsCallbacks, pseudonym, production });
    await scope.register(telerivetListener, { ...parts.telerivet, pseudonym, limit: unproven });
    if (secret !== undefined) await scope.register(twilioEvents, { ...parts.twilio, limit: unproven });
  };

  await app.register(gateways, {});
  if (parts.callbackSecret !== undefined) {
    await app.register(gateways, { prefix: '/c/:callback', secret: parts.callbackSecret });
  }
  // Signed by who sends it, from anywhere: neither GATEWAY_ALLOW nor CALLBACK_SECRET closes it.
  await app.register(async (scope) => {
    scope.addHook('onRequest', async (request, reply) => {
      if (isGone(request)) return reply.hijack();
    });
    scope.addHook('onResponse', report);
    await scope.register(twilioEvents, { ...parts.twilio, limit: unproven });
  });
  const { findKey, ...json } = parts.json;
  // Partners prove themselves with a key and come from anywhere: neither GATEWAY_ALLOW nor the secret of callbacks,
  // which are for those that carry no credentials, opens or closes these routes.
  await app.register(async (scope) => {
    scope.addHook('onRequest', async (request, reply) => {
      if (isGone(request)) return reply.hijack();
      reply.header('cache-control', 'no-store');
      const wait = await addressLimit(request);
      if (wait === undefined) return;
      const { gateway } = request.routeOptions.config;
      if (gateway !== undefined) request.turn = { gateway, outcome: 'limited' };
      return refuseFor(reply, wait);
    });
    scope.addHook('onResponse', report);
    await scope.register(jsonGateway, {
      ...json,
      takeTurn: parts.takeTurn,
      admit: makeAdmission({ find: findKey, production, limit }),
      customerOf: (partner, id) => parts.digests.customerOf(partner, id),
      customerLimit: async (request, customer) =>
        isShared(request)
          ? limit(request, `customer:${customer.toString('hex')}`, parts.rateLimit.phoneMax)
          : undefined,
      pseudonym: (msisdn) => parts.digests.pseudonym(msisdn),
      customerPseudonym: (customer) => parts.digests.customerPseudonym(customer),
    });
  });
  await app.register(async (scope) => {
    await scope.register(helmet);
    await scope.register(health, {
      environment: parts.environment,
      ping: parts.ping,
      draining: () => draining,
    });
    await scope.register(debug, { ...parts.sessions, guard });
    await scope.register(metrics.routes);
    await scope.register(senders, {
      ...parts.sms,
      guard,
      pseudonym: (msisdn: string) => parts.digests.pseudonym(msisdn),
    });
    await scope.register(smsList, { guard, list: parts.sms.list, find: parts.sms.find });
    await scope.register(effects, { guard, list: parts.outbox.list, retry: parts.outbox.retry });
    await scope.register(desk, { guard, ...parts.desk });
    await scope.register(stats, { guard, ...parts.stats });
    await scope.register(lookup, {
      ...parts.lookup,
      guard,
      pseudonym: (msisdn: string) => parts.digests.pseudonym(msisdn),
    });
    await scope.register(wallet, { guard, digests: parts.digests, ...parts.wallet });
  });
  await app.register(docs);
  await app.ready();
  return {
    app,
    drain: () => {
      draining = true;
    },
  };
}

/** The 404 of a path that leads nowhere. */
function nowhere(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  return reply.code(404).header('x-request-id', request.id).send({ error: 'Not found' });
}

/** A caller's id is kept where it is a UUID: anything else could carry a phone number into the log. */
function requestId(request: { headers: Record<string, string | string[] | undefined> }): string {
  const given = request.headers['x-request-id'];
  const good = typeof given === 'string' && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(given);
  return good ? given : randomUUID();
}
