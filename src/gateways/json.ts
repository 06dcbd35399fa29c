import { randomBytes } from 'node:crypto';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { deadlineIn } from '../deadline.ts';
import type { Answer, Deadline, Heard, TakeTurn, Unheard } from '../flow/heard.ts';
import type { Memory, Unshown } from '../flow/memory.ts';
import type { Menu } from '../flow/menu.ts';
import { Answered } from './answered.ts';
import { answerInJson, inJson, JsonError, type JsonErrorCode, refuse, refuseFor } from './json-errors.ts';
import { JsonScreen, jsonScreen } from './json-screen.ts';
import { ANSWER_MS, refuseOthers, type TurnFacts, Typed, UssdRequest } from './screens.ts';

/** The gateway's name, and that of its session space. */
export const JSON_GATEWAY = 'json';

const CREATED = 'USSD session created successfully';
const PROCESSED = 'USSD request processed successfully';
const READ = 'USSD session read successfully';

/** An id of the partner's own: no space at its ends, and in ASCII, so that what looks equal is equal. */
const CustomerId = z.union([z.int(), z.string().regex(/^[!-~]([ -~]{0,62}[!-~])?$/)]).meta({
  description: "The partner's own id of the customer: 1 to 64 printable ASCII characters, or a number.",
});

const RequestId = z.union([z.string().regex(/^[!-~]{1,100}$/), z.int()]).meta({
  description: 'By which a repeat of this request is told from a second choice; or Idempotency-Key.',
});

const SessionRequest = z.object({
  customerId: CustomerId,
  serviceCode: UssdRequest.shape.serviceCode.optional(),
  phoneNumber: UssdRequest.shape.phoneNumber.optional(),
});

const ProcessRequest = z.object({
  sessionId: UssdRequest.shape.sessionId,
  choice: z.union([Typed, z.int()]).meta({ description: 'A key of the screen, or what it asks for.' }),
  requestId: RequestId.optional(),
});

/** A session as it stands. */
export type OpenSession = {
  opening: Unshown;
  last: Memory;
  closed: boolean;
  /** Milliseconds since the newest turn; when that was, since 1970; and its address. */
  age: number;
  at: number;
  address: Buffer;
  menu: number;
};

/** Whose customers callers are; the name is empty where no key is needed. */
export type Caller = { name: string; mayAssertPhone: boolean };

export type JsonParts = {
  takeTurn: TakeTurn;
  /** An idle session is expired after so many milliseconds. */
  ttl: number;
  /** Who asks; or why they may not. */
  admit(request: FastifyRequest, deadline: Deadline): Promise<Caller | 'unauthorized' | { wait: number }>;
  /** Where a code leads, or a session without one, and whether that needs a phone. */
  opens(serviceCode: string | undefined): { service: string; needsPhone: boolean };
  /** The newest dial of a session of this gateway. */
  find(sessionId: string, deadline: Deadline): Promise<OpenSession | undefined>;
  close(sessionId: string, caller: Pick<Heard, 'msisdn' | 'customer'>, deadline: Deadline): Promise<void>;
  /** A version of a document by its number. */
  menuOf(id: number, deadline: Deadline): Promise<Menu>;
  customerOf(partner: string, id: string): Buffer;
  /** Seconds to wait where a customer has asked too often, for partners that are not counted by address. */
  customerLimit(request: FastifyRequest, customer: Buffer): Promise<number | undefined>;
  pseudonym(msisdn: string): string;
  customerPseudonym(customer: Buffer): string;
};

declare module 'fastify' {
  interface FastifyRequest {
    /** JSON routes: when the answer is due, and who asks. */
    due?: Deadline;
    caller?: Caller;
  }
}

/**
 * Menus as structure (json-menu-response, docs/contract.md section 6), for apps and partners: a session is opened, answered
 * choice by choice, read and closed by requests of its own, as JSON or a form. A choice is a turn like any other; what
 * differs is that turns are linear: a choice that was under way while another one was heard is answered `busy`, because
 * whoever sent it had not seen the screen that it would have answered (decision 31).
 */
export async function jsonGateway(app: FastifyInstance, parts: JsonParts): Promise<void> {
  answerInJson(app);
  const typed = app.withTypeProvider<ZodTypeProvider>();
  const config = { gateway: JSON_GATEWAY };
  const described = { tags: ['json'], security: [{ partner: [] }] };
  const takes = { consumes: ['application/json', 'application/x-www-form-urlencoded'] };
  const said = (...statuses: number[]) =>
    Object.fromEntries([401, 429, 503, ...statuses].map((status) => [status, JsonError]));
  const answered = new Answered(ANSWER_MS);
  const refused = inJson('method_not_allowed');
  const onRequest = (request: FastifyRequest, reply: FastifyReply) => begin(parts, request, reply);

  refuseOthers(app, '/v1/ussd/session', ['POST'], config, refused);
  typed.post(
    '/v1/ussd/session',
    {
      config,
      onRequest,
      schema: {
        ...described,
        ...takes,
        summary: 'Opens a session: its first screen',
        description: "A customer need not be known before: the id is the partner's own.",
        body: SessionRequest,
        response: { 201: JsonScreen, ...said(400, 403) },
      },
    },
    async (request, reply) => {
      const { serviceCode, phoneNumber, customerId } = request.body;
      const { caller, due, turn } = begun(request);
      const customer = { partner: caller.name, digest: parts.customerOf(caller.name, String(customerId)) };
      name(parts, turn, { msisdn: phoneNumber ?? '', customer });
      const wait = await parts.customerLimit(request, customer.digest);
      if (wait !== undefined) return refuseTurnFor(reply, turn, wait);
      if (phoneNumber !== undefined && !caller.mayAssertPhone)
        return refuseTurn(reply, turn, 'phone_not_allowed');
      const { service, needsPhone } = parts.opens(serviceCode);
      if (needsPhone && phoneNumber === undefined) {
        turn.fault = ['phoneNumber'];
        return refuseTurn(reply, turn, 'phone_required');
      }
      const sessionId = `ussd_${randomBytes(16).toString('hex')}`;
      const heard = {
        gateway: JSON_GATEWAY,
        mode: 'latest' as const,
        linear: 'open' as const,
        sessionId,
        customer,
        msisdn: phoneNumber ?? '',
        ...(serviceCode === undefined ? { serviceCode: '', service } : { serviceCode }),
        text: '',
      };
      return write(parts, reply.code(201), turn, CREATED, heard, await parts.takeTurn(heard, due));
    },
  );

  refuseOthers(app, '/v1/ussd/process', ['POST'], config, refused);
  typed.post(
    '/v1/ussd/process',
    {
      config,
      onRequest,
      schema: {
        ...described,
        ...takes,
        summary: 'One choice: the screen that follows',
        description:
          'A repeat with the same `requestId` is told what the first was told, and nothing is done twice. Without one, the same choice within 1.5 s, or while the first is being heard, is such a repeat.',
        body: ProcessRequest,
        response: { 200: JsonScreen, ...said(400, 404, 409, 410) },
      },
    },
    async (request, reply) => {
      const { sessionId, choice, requestId } = request.body;
      const { due, turn } = begun(request);
      const id = requestId === undefined ? idempotencyKey(request) : { key: String(requestId) };
      if (id === 'malformed') {
        turn.fault = ['Idempotency-Key'];
        return refuseTurn(reply, turn, 'bad_request', 'Out of rule: Idempotency-Key');
      }
      const session = await findOwn(parts, request, sessionId);
      if (session === undefined) return refuseTurn(reply, turn, 'session_not_found');
      const { msisdn, customer } = session.owner;
      name(parts, turn, session.owner);
      const wait = await parts.customerLimit(request, customer.digest);
      if (wait !== undefined) return refuseTurnFor(reply, turn, wait);
      const heard = {
        gateway: JSON_GATEWAY,
        mode: 'latest' as const,
        linear: { after: session.address, late: answered.since(sessionId, due) },
        sessionId,
        customer,
        msisdn,
        serviceCode: session.opening.serviceCode,
        text: String(choice),
        ...(id !== undefined && { requestId: id.key }),
      };
      const told = await parts.takeTurn(heard, due);
      if (told.outcome === 'ok') answered.note(sessionId);
      return write(parts, reply, turn, PROCESSED, heard, told);
    },
  );

  const params = z.object({ sessionId: z.string() });
  refuseOthers(app, '/v1/ussd/session/:sessionId', ['GET', 'HEAD', 'DELETE'], {}, refused);
  typed.get(
    '/v1/ussd/session/:sessionId',
    {
      onRequest,
      schema: {
        ...described,
        summary: 'The present screen of a session; nothing is done, and nothing prolonged',
        params,
        response: { 200: JsonScreen, ...said(404, 409, 410) },
      },
    },
    async (request, reply) => {
      const { sessionId } = request.params;
      const session = await findOwn(parts, request, sessionId);
      if (session === undefined) return refuse(reply, 'session_not_found');
      if (session.closed) return refuse(reply, 'session_ended');
      if (session.age > parts.ttl) return refuse(reply, 'session_expired');
      const { at, last, menu: number } = session;
      const menu = await parts.menuOf(number, dueOf(request));
      const standing = { state: last.state, menu: number, at, offer: last.resume !== undefined };
      return jsonScreen(READ, { sessionId, screen: last.screen, standing, menu, ttl: parts.ttl });
    },
  );
  typed.delete(
    '/v1/ussd/session/:sessionId',
    {
      onRequest,
      schema: {
        ...described,
        summary: 'Closes a session: it has ended; one that was over stays as it was',
        params,
        response: { 204: z.void(), ...said(404) },
      },
    },
    async (request, reply) => {
      const { sessionId } = request.params;
      const session = await findOwn(parts, request, sessionId);
      if (session === undefined) return refuse(reply, 'session_not_found');
      // One that has expired stays expired.
      if (session.age <= parts.ttl) await parts.close(sessionId, session.owner, dueOf(request));
      return reply.code(204).send();
    },
  );
}

/** Before any body is read: the deadline begins, and whoever may not ask is told so. */
async function begin(parts: JsonParts, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  request.due = deadlineIn(ANSWER_MS - reply.elapsedTime);
  const { gateway } = request.routeOptions.config;
  if (gateway !== undefined) request.turn = { gateway, outcome: 'refused' };
  const admitted = await parts.admit(request, request.due);
  if (admitted === 'unauthorized') return void refuse(reply, 'unauthorized');
  if ('wait' in admitted) {
    if (request.turn !== undefined) request.turn.outcome = 'limited';
    return void refuseFor(reply, admitted.wait);
  }
  request.caller = admitted;
}

function begun(request: FastifyRequest): { caller: Caller; due: Deadline; turn: TurnFacts } {
  const turn: TurnFacts = { gateway: JSON_GATEWAY, outcome: 'unavailable' };
  request.turn = turn;
  return { caller: callerOf(request), due: dueOf(request), turn };
}

function callerOf({ caller }: FastifyRequest): Caller {
  if (caller === undefined) throw new Error('nobody was admitted');
  return caller;
}

function dueOf({ due }: FastifyRequest): Deadline {
  if (due === undefined) throw new Error('the request has no deadline');
  return due;
}

/** A session of this partner's, and whose it is. That of another partner is as unknown as one that there is not. */
async function findOwn(parts: JsonParts, request: FastifyRequest, sessionId: string) {
  const session = await parts.find(sessionId, dueOf(request));
  const { msisdn = '', customer } = session?.opening.opening ?? {};
  if (session === undefined || customer?.partner !== callerOf(request).name) return undefined;
  return { ...session, owner: { msisdn, customer } };
}

/** What came of a turn. */
async function write(
  parts: JsonParts,
  reply: FastifyReply,
  turn: TurnFacts,
  message: string,
  { linear, sessionId }: Heard,
  told: Answer | Unheard,
) {
  switch (told.outcome) {
    case 'invalid':
      if (told.fault !== undefined) turn.fault = told.fault;
      return linear === 'open'
        ? refuseTurn(reply, turn, 'bad_request', 'Out of rule or missing: serviceCode')
        : refuseTurn(reply, turn, 'session_not_found');
    case 'busy':
      return refuseTurn(reply, turn, 'busy');
    case 'ended':
      return refuseTurn(reply, turn, 'session_ended');
    case 'expired':
      return refuseTurn(reply, turn, 'session_expired');
  }
  const { outcome, service, screen, standing } = told;
  if (standing === undefined) throw new Error('a turn without a session');
  turn.outcome = outcome;
  turn.service = service;
  turn.node = screen.node;
  const menu = await parts.menuOf(standing.menu, dueOf(reply.request));
  reply.header('x-ussd-outcome', outcome);
  return jsonScreen(message, { sessionId, screen, standing, menu, ttl: parts.ttl });
}

/** What the log may say of the caller. */
function name(
  parts: JsonParts,
  turn: TurnFacts,
  { msisdn, customer }: Required<Pick<Heard, 'msisdn' | 'customer'>>,
): void {
  turn.customer = parts.customerPseudonym(customer.digest);
  if (msisdn !== '') turn.msisdn = parts.pseudonym(msisdn);
}

/** What a refused turn counts as; what is not named here was refused before anything was looked at. */
const COUNTED: Partial<Record<JsonErrorCode, TurnFacts['outcome']>> = {
  bad_request: 'invalid',
  phone_required: 'invalid',
  busy: 'busy',
  session_ended: 'ended',
  session_expired: 'expired',
};

function refuseTurn(
  reply: FastifyReply,
  turn: TurnFacts,
  code: JsonErrorCode,
  message?: string,
): FastifyReply {
  turn.outcome = COUNTED[code] ?? 'refused';
  return refuse(reply, code, message);
}

function refuseTurnFor(reply: FastifyReply, turn: TurnFacts, seconds: number): FastifyReply {
  turn.outcome = 'limited';
  return refuseFor(reply, seconds);
}

/** The header; one that is out of rule must not be taken for none, or its repeat would be done twice. */
function idempotencyKey({ headers }: FastifyRequest): { key: string } | 'malformed' | undefined {
  const given = headers['idempotency-key'];
  if (given === undefined) return undefined;
  return typeof given === 'string' && /^[!-~]{1,100}$/.test(given) ? { key: given } : 'malformed';
}
