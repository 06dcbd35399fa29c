import type { FastifyInstance, FastifyReply } from 'fastify';
import { z } from 'zod';
import { faultOf, reasonOf, whatIsWrong } from './faults.ts';
import { isTheirs } from './screens.ts';

/**
 * How the JSON routes say that something did not happen (docs/contract.md section 6):
 * `{"message": "…", "error": {"code": "…"}}`. The words are for people and may change; the code does not.
 */
const ERRORS = {
  bad_request: { status: 400, message: 'The request cannot be read' },
  phone_required: { status: 400, message: 'This service needs a phoneNumber' },
  unauthorized: { status: 401, message: 'An API key is needed: Authorization: Bearer <key>' },
  phone_not_allowed: { status: 403, message: 'This API key may not name a phoneNumber' },
  session_not_found: { status: 404, message: 'There is no such session' },
  method_not_allowed: { status: 405, message: 'Method not allowed' },
  busy: { status: 409, message: 'Another choice of this session was being heard: nothing was done' },
  session_ended: { status: 409, message: 'The session has ended' },
  session_expired: { status: 410, message: 'The session has expired' },
  limited: { status: 429, message: 'Too many requests. Please try again later.' },
  unavailable: { status: 503, message: 'Service temporarily unavailable. Please try again later.' },
} as const;

export type JsonErrorCode = keyof typeof ERRORS;

/** The body of every error. */
export const JsonError = z.strictObject({
  message: z.string(),
  error: z.strictObject({ code: z.enum(Object.keys(ERRORS) as [JsonErrorCode, ...JsonErrorCode[]]) }),
});

/** The body of an error, with its own words where there are better ones. */
export function inJson(
  code: JsonErrorCode,
  message: string = ERRORS[code].message,
): z.infer<typeof JsonError> {
  return { message, error: { code } };
}

/** Says why nothing happened. */
export function refuse(reply: FastifyReply, code: JsonErrorCode, message?: string): FastifyReply {
  if (code === 'unauthorized') reply.header('www-authenticate', 'Bearer');
  return reply.code(ERRORS[code].status).header('cache-control', 'no-store').send(inJson(code, message));
}

/** The 429: over a limit for so many seconds. */
export function refuseFor(reply: FastifyReply, seconds: number): FastifyReply {
  return refuse(reply.header('retry-after', seconds), 'limited');
}

/** What cannot be read is the caller's fault, everything else ours. */
export function answerInJson(app: FastifyInstance): void {
  app.setErrorHandler((error: Error & { statusCode?: number; validation?: unknown }, request, reply) => {
    const theirs = isTheirs(error);
    if (request.turn !== undefined) {
      request.turn.outcome = theirs ? 'invalid' : 'unavailable';
      if (theirs) request.turn.fault = faultOf(error, request);
      else request.turn.reason = reasonOf(error);
    }
    if (theirs) return refuse(reply, 'bad_request', whatIsWrong(error, error.statusCode ?? 400));
    request.log.error({ err: error }, 'a request failed');
    return refuse(reply, 'unavailable');
  });
}
