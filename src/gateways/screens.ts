import type {
  FastifyContextConfig,
  FastifyInstance,
  FastifyReply,
  FastifyRequest,
  HTTPMethods,
} from 'fastify';
import { validatorCompiler, type ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { deadlineIn } from '../deadline.ts';
import type { Answer, Heard, Reason, TakeTurn } from '../flow/heard.ts';
import { type Screen, screenText } from '../flow/screen.ts';
import { faultOf, reasonOf } from './faults.ts';

/**
 * What all gateways share that are answered in screens, `CON …` or `END …`: the fields of a request, the four
 * ways in which it can end, and the route on which turns are taken (docs/contract.md section 1).
 */

/** One deadline for all that a request waits for (decision 8); the contract promises 5 s. */
export const ANSWER_MS = 4_500;

/** Control characters, and the bidirectional controls that reorder what a person reads. */
const FORBIDDEN = /[\p{Cc}\u202A-\u202E\u2066-\u2069]/u;

/** 3GPP TS 23.038 §6.1.2.3: no more septets than this fit a USSD string. */
const TEXT_LIMIT = 182;

/** What a person typed: as long as a USSD string, and nothing that could hide in it. */
export const Typed = z
  .string()
  .refine((text) => [...text].length <= TEXT_LIMIT && text.isWellFormed() && !FORBIDDEN.test(text))
  .meta({ maxLength: TEXT_LIMIT });

const Text = Typed.meta({
  maxLength: TEXT_LIMIT,
  description: 'All that was typed so far, joined by *; empty on the first request.',
});

/** Dropped where it is anything else. */
export const dropped = <T extends z.ZodType>(schema: T) => schema.optional().catch(undefined as never);

/** The fields of a turn as most requests have them; read by the schema, and by hand (`readPlainly`). */
const PLAIN = {
  sessionId: /^[!-~]{1,100}$/,
  serviceCode: /^\*\d{1,10}(\*\d{1,10})*#$/,
  phoneNumber: /^\+[1-9]\d{1,14}$/,
  networkCode: /^\d{1,9}$/,
  /** ASCII without control characters, so that a character is a code unit. The schema takes every script. */
  text: /^[ -~]{0,182}$/,
} as const;
const SERVICE_CODE_LENGTH = 40;

/** The fields of a turn (docs/contract.md section 1). Others are dropped. */
export const UssdRequest = z.object({
  sessionId: z
    .string()
    .regex(PLAIN.sessionId)
    .meta({ description: 'The session id of the telecom gateway.' }),
  serviceCode: z
    .string()
    .max(SERVICE_CODE_LENGTH)
    .regex(PLAIN.serviceCode)
    .meta({ description: 'The code that was dialled.', example: '*1234#' }),
  phoneNumber: z
    .string()
    .regex(PLAIN.phoneNumber)
    .meta({ description: 'The subscriber in E.164.', example: '+260971234567' }),
  text: Text,
  networkCode: dropped(z.string().regex(PLAIN.networkCode)).meta({
    description: 'MCC and MNC of the network.',
  }),
  requestId: dropped(z.union([z.string().regex(/^[!-~]{1,100}$/), z.int()])).meta({
    description: 'Gateways that send only the newest input: an id by which a repeat is told.',
  }),
});

/**
 * Reads the fields of a turn by hand where they are plainly right, and leaves everything else to the schema. Returns
 * what the schema would, or undefined.
 */
export function readPlainly(body: unknown): z.output<typeof UssdRequest> | undefined {
  if (typeof body !== 'object' || body === null) return undefined;
  const { sessionId, serviceCode, phoneNumber, text, networkCode, requestId } = body as Record<
    string,
    unknown
  >;
  if (typeof sessionId !== 'string' || !PLAIN.sessionId.test(sessionId)) return undefined;
  if (typeof serviceCode !== 'string' || serviceCode.length > SERVICE_CODE_LENGTH) return undefined;
  if (!PLAIN.serviceCode.test(serviceCode)) return undefined;
  if (typeof phoneNumber !== 'string' || !PLAIN.phoneNumber.test(phoneNumber)) return undefined;
  if (typeof text !== 'string' || !PLAIN.text.test(text)) return undefined;
  if (requestId !== undefined) return undefined;
  const plain = { sessionId, serviceCode, phoneNumber, text };
  if (networkCode === undefined) return plain;
  if (typeof networkCode !== 'string' || !PLAIN.networkCode.test(networkCode)) return undefined;
  return { ...plain, networkCode };
}

type Validate = ReturnType<typeof validatorCompiler>;

/** A validator that reads by hand first. */
function plainlyFirst(validate: Validate): Validate {
  return (body) => {
    const value = readPlainly(body);
    return value === undefined ? validate(body) : { value };
  };
}

const Refused = z.object({ error: z.string() });

/** What a gateway of this wire format is called, how it sends input, and what it proves itself with. */
export type UssdGateway = { name: string; mode: Heard['mode']; secret?: string };

/**
 * The ways in which a request can end (docs/contract.md section 1), besides 405. On JSON routes also because of who asks,
 * or of the session (section 6).
 */
export type TurnOutcome =
  | 'ok'
  | 'replay'
  | 'invalid'
  | 'unavailable'
  | 'limited'
  | 'refused'
  | 'busy'
  | 'ended'
  | 'expired';

export const WORDS = {
  invalid: 'END Invalid input. Please try again.',
  unavailable: 'END Service temporarily unavailable. Please try again later.',
  limited: 'END Too many requests. Please try again later.',
} as const;

/** What is said of a request afterwards, in the log and the counts: nothing that was typed. */
export type TurnFacts = {
  gateway: string;
  outcome: TurnOutcome;
  /** Of what is `unavailable`. */
  reason?: Reason;
  /** Of what is `invalid`: the fields that are out of rule. */
  fault?: string[];
  service?: string;
  node?: string;
  msisdn?: string;
  customer?: string;
};

declare module 'fastify' {
  interface FastifyRequest {
    turn?: TurnFacts;
    /** It came through `/c/<secret>/`, or from a network of GATEWAY_ALLOW (decision 29). */
    authenticated: boolean;
  }
  interface FastifyContextConfig {
    /** Turns are taken on the route: what is refused before it is known whose it is counts for this gateway. */
    gateway?: string;
  }
}

/** What it takes to take turns. */
export type ScreenParts = {
  takeTurn: TakeTurn;
  /** Seconds to wait where a phone has asked too often, for callers that are not counted by address. */
  phoneLimit(request: FastifyRequest, pseudonym: string): Promise<number | undefined> | number | undefined;
  pseudonym(msisdn: string): string;
  /** Seconds to wait for an address that has named too many gateways it does not prove to be. */
  unprovenLimit(request: FastifyRequest): Promise<number | undefined>;
};

/** A route on which turns are taken, and how its wire format differs. */
export type TurnRoute = {
  url: string;
  /** The gateway that a request counts for while it is not known whose it is. */
  gateway: string;
  description: string;
  /** The fields of `UssdRequest`, some of which a gateway may leave out. */
  body: z.ZodType<z.output<typeof UssdRequest>>;
  /** Which gateway a request is from; undefined where there is none, or it does not prove itself. */
  from(request: FastifyRequest): UssdGateway | undefined;
  /** A reply header that names the screen, for gateways that chart where their sessions are. */
  nodeHeader?: string;
};

/** Takes turns on a route: `POST` only. */
export function mountTurns(app: FastifyInstance, parts: ScreenParts, turns: TurnRoute): void {
  const { url, from } = turns;
  const config = { gateway: turns.gateway };
  refuseOthers(app, url, ['POST'], config);
  app.withTypeProvider<ZodTypeProvider>().route({
    method: 'POST',
    url,
    config,
    onRequest: (request, reply, done) => {
      const gateway = from(request);
      if (gateway === undefined) return void refuseUnproven(parts, request, reply).catch(done);
      request.turn = { gateway: gateway.name, outcome: 'invalid' };
      done();
    },
    validatorCompiler: (route) => plainlyFirst(validatorCompiler(route as never)),
    schema: {
      summary: 'One turn of a USSD session',
      description: turns.description,
      tags: ['ussd'],
      consumes: ['application/json', 'application/x-www-form-urlencoded'],
      produces: ['text/plain'],
      body: turns.body,
      response: {
        200: z.string().describe('CON or END, and the screen'),
        403: Refused.describe('Not from a network of GATEWAY_ALLOW'),
        404: Refused.describe('No such gateway, or it did not prove itself'),
        429: z.string().describe('END: over the rate limit; Retry-After says for how long'),
      },
    },
    handler: async (request, reply) => {
      // What reading the body took is the subscriber's time as well.
      const deadline = deadlineIn(ANSWER_MS - reply.elapsedTime);
      const { sessionId, serviceCode, phoneNumber, text, networkCode, requestId } = request.body;
      const gateway = from(request) as UssdGateway;
      const msisdn = parts.pseudonym(phoneNumber);
      const turn: TurnFacts = { gateway: gateway.name, outcome: 'unavailable', msisdn };
      request.turn = turn;
      const counted = parts.phoneLimit(request, msisdn);
      const wait = counted instanceof Promise ? await counted : counted;
      if (wait !== undefined) return limited(reply, request, wait);
      const id = requestId === undefined ? idempotencyKey(request) : String(requestId);
      const heard: Heard = {
        gateway: gateway.name,
        mode: gateway.mode,
        sessionId,
        serviceCode,
        msisdn: phoneNumber,
        text,
        ...(id !== undefined && { requestId: id }),
        ...(networkCode !== undefined && { networkCode: Number(networkCode) }),
      };
      const answer = await parts.takeTurn(heard, deadline);
      // A node's name is letters, digits and _, at most 40: nothing that a header could not carry.
      if (turns.nodeHeader !== undefined && answer.outcome !== 'invalid')
        reply.header(turns.nodeHeader, answer.screen.node);
      return write(reply, turn, answer);
    },
  });
}

/** Answers a gateway that there is not, or that does not prove itself: 404, and 429 to an address with too many of them. */
async function refuseUnproven(
  parts: ScreenParts,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  const wait = await parts.unprovenLimit(request);
  if (wait === undefined) reply.callNotFound();
  else limited(reply, request, wait);
}

/** 405 and `Allow` to every other method, before any body is read: whatever comes with it. */
export function refuseOthers(
  app: FastifyInstance,
  url: string,
  allowed: HTTPMethods[],
  config: FastifyContextConfig = {},
  refusal: object = { error: 'Method not allowed' },
): void {
  app.route({
    method: app.supportedMethods.filter((method) => !allowed.includes(method)),
    url,
    config,
    schema: { hide: true },
    onRequest: async (_request, reply) => reply.code(405).header('allow', allowed.join(', ')).send(refusal),
    handler: async () => {},
  });
}

function write(reply: FastifyReply, turn: TurnFacts, answer: Answer): FastifyReply {
  turn.outcome = answer.outcome;
  if (answer.outcome === 'invalid') {
    if (answer.fault !== undefined) turn.fault = answer.fault;
    return plain(reply, 'invalid', WORDS.invalid);
  }
  turn.service = answer.service;
  turn.node = answer.screen.node;
  return plain(reply, answer.outcome, written(answer.screen));
}

/** The screen as these wire formats write it. */
export function written(screen: Screen): string {
  return `${screen.end ? 'END' : 'CON'} ${screenText(screen)}`;
}

/** The 429 of a turn. */
export function limited(reply: FastifyReply, request: FastifyRequest, seconds: number): FastifyReply {
  if (request.turn !== undefined) request.turn.outcome = 'limited';
  return plain(reply.code(429).header('retry-after', seconds), 'limited', WORDS.limited);
}

/**
 * The handset shows what we send only when the status is 200, so whatever goes wrong is said in a screen
 * (docs/contract.md section 1): the request's fault or ours.
 */
export function answerPlainly(app: FastifyInstance, name: string): void {
  app.setErrorHandler((error: Error & { statusCode?: number; validation?: unknown }, request, reply) => {
    const outcome = isTheirs(error) ? 'invalid' : 'unavailable';
    request.turn = { gateway: name, ...request.turn, outcome };
    if (outcome === 'unavailable') {
      request.turn.reason = reasonOf(error);
      request.log.error({ err: error }, 'a turn failed');
    } else {
      request.turn.fault = faultOf(error, request);
    }
    return plain(reply.code(200), outcome, WORDS[outcome]);
  });
}

/** The request is at fault, not we. */
export function isTheirs(error: Error & { statusCode?: number; validation?: unknown }): boolean {
  return error.validation !== undefined || (error.statusCode ?? 500) < 500;
}

function plain(reply: FastifyReply, outcome: TurnOutcome, body: string): FastifyReply {
  return reply
    .header('content-type', 'text/plain; charset=utf-8')
    .header('cache-control', 'no-store')
    .header('x-ussd-outcome', outcome)
    .send(body);
}

function idempotencyKey(request: FastifyRequest): string | undefined {
  const header = request.headers['idempotency-key'];
  return typeof header === 'string' && /^[!-~]{1,100}$/.test(header) ? header : undefined;
}
