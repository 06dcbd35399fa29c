import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { faultOf } from './faults.ts';
import { dropped, isTheirs } from './screens.ts';

/**
 * What all callbacks share: providers tell us something and only want to know whether to say it again. So
 * everything that arrives is acknowledged, rubbish included, and counted; what could not be kept because the
 * database is away or slow gets a 503, so that it comes again.
 */

/** What is said of a callback afterwards, in the log and the counts: nothing of what it held. */
export type CallbackFacts = {
  route: string;
  outcome: string;
  msisdn?: string;
  answer?: string;
  /** Of what is `rubbish`: the fields that are out of rule. */
  fault?: string[];
};

/** Notes how a callback ended that failed before or in its handler. Returns whether it was at fault itself. */
export function noteFailure(error: Error, route: string, request: FastifyRequest): boolean {
  const theirs = isTheirs(error);
  request.callback = {
    ...request.callback,
    route,
    outcome: theirs ? 'rubbish' : 'unavailable',
    ...(theirs && { fault: faultOf(error, request) }),
  };
  if (!theirs) request.log.error({ err: error }, 'a callback failed');
  return theirs;
}

declare module 'fastify' {
  interface FastifyRequest {
    callback?: CallbackFacts;
  }
  interface FastifyContextConfig {
    /** The route is a callback, counted under this name: over the rate limit it is answered as one. */
    callback?: string;
    /**
     * Whoever calls proves who they are with what they send, and a country's requests may come from one address: the
     * route itself counts those that do not.
     */
    proves?: boolean;
    /** What a callback that anyone could have sent is told in production, where it is dropped (decision 29). */
    unproven?: string;
  }
}

/**
 * Bytes of a callback's body. Several texts of a USSD session may stand in one, with nine bytes for a letter in a form
 * and six in JSON; a longer body is acknowledged, counted and dropped, because the provider would repeat it for ever.
 */
export const CALLBACK_BYTES = 64 * 1024;

/** How rubbish is acknowledged, unless a route says otherwise. */
const ACKNOWLEDGED = { status: 200, words: 'OK' };

/** What is said to rubbish; a function may answer itself, and leaves it where it returns nothing. */
type ToRubbish =
  | { status: number; words: string }
  | ((request: FastifyRequest, reply: FastifyReply, isTooLong: boolean) => Promise<FastifyReply> | undefined);

/**
 * Acknowledges what cannot be read, and says 503 where the fault is ours. `tooLong` is said to a body above the limit,
 * which is the same however often it comes.
 */
export function acknowledge(
  app: FastifyInstance,
  route: string,
  rubbish: ToRubbish = ACKNOWLEDGED,
  tooLong = ACKNOWLEDGED,
): void {
  app.setErrorHandler((error: Error & { statusCode?: number; validation?: unknown }, request, reply) => {
    if (!noteFailure(error, route, request)) return inWords(reply, 503, 'Service unavailable');
    const isTooLong = error.statusCode === 413;
    const answered = typeof rubbish === 'function' ? rubbish(request, reply, isTooLong) : undefined;
    const { status, words } = isTooLong ? tooLong : typeof rubbish === 'function' ? ACKNOWLEDGED : rubbish;
    return answered ?? inWords(reply, status, words);
  });
}

/** The 429 of a callback, and of a page that is no turn. */
export function tooMany(reply: FastifyReply, seconds: number): FastifyReply {
  return inWords(reply.header('retry-after', seconds), 429, 'Too many requests');
}

/** A plain answer. */
export function inWords(reply: FastifyReply, status: number, words: string): FastifyReply {
  return reply
    .code(status)
    .header('content-type', 'text/plain; charset=utf-8')
    .header('cache-control', 'no-store')
    .send(words);
}

/** A whole number, as digits or as a number; what is none is left out, for the rest of the callback stands. */
export const whole = (most: number, description: string) =>
  dropped(
    z.union([
      z.int().min(0).max(most),
      z
        .string()
        .regex(/^\d{1,10}$/)
        .transform(Number)
        .pipe(z.int().max(most)),
    ]),
  ).meta({ description });

/** A date as providers write it: fractions are dropped; a plus that a form did not escape is a space. */
const DATE =
  /^(20\d\d-\d\d-\d\d)[Tt ](\d\d:\d\d)(:\d\d)?(?:[.,]\d{1,9})? ?(?:[Zz]|UTC|GMT|([+ -])(\d\d):?(\d\d)?)?$/;

/**
 * `2025-09-29 12:00:00` or ISO 8601 with or without an offset, as ISO 8601 in UTC with whole seconds; UTC where there is
 * no offset. Undefined where there is no such second in this century.
 */
export function toIso(date: string): string | undefined {
  const [, day, minute, second = ':00', sign, hours = '0', minutes = '0'] = DATE.exec(date.trim()) ?? [];
  if (day === undefined || Number(hours) > 14 || Number(minutes) > 59) return undefined;
  const iso = `${day}T${minute}${second}`;
  const read = new Date(`${iso}Z`);
  // The 30th of February is read as a day of March by some.
  if (Number.isNaN(read.getTime()) || read.toISOString() !== `${iso}.000Z`) return undefined;
  const offset = (Number(hours) * 60 + Number(minutes)) * (sign === '-' ? -1 : 1);
  return new Date(read.getTime() - offset * 60_000).toISOString().replace('.000Z', 'Z');
}
