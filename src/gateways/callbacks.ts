import type { FastifyInstance, FastifyReply } from 'fastify';
import { isTheirs } from './screens.ts';

/**
 * What all callbacks share: providers tell us something and only want to know whether to say it again. So
 * everything that arrives is acknowledged, rubbish included, and counted; what could not be kept because the
 * database is away or slow gets a 503, so that it comes again.
 */

/** What is said of a callback afterwards, in the log and the counts: nothing of what it held. */
export type CallbackFacts = { route: string; outcome: string; msisdn?: string };

declare module 'fastify' {
  interface FastifyRequest {
    callback?: CallbackFacts;
  }
  interface FastifyContextConfig {
    /** The route is a callback, counted under this name: over the rate limit it is answered as one. */
    callback?: string;
  }
}

/** Acknowledges what cannot be read, and says 503 where the fault is ours. */
export function acknowledge(app: FastifyInstance, route: string): void {
  app.setErrorHandler((error: Error & { statusCode?: number; validation?: unknown }, request, reply) => {
    const theirs = isTheirs(error);
    request.callback = { ...request.callback, route, outcome: theirs ? 'rubbish' : 'unavailable' };
    if (theirs) return inWords(reply, 200, 'OK');
    request.log.error({ err: error }, 'a callback failed');
    return inWords(reply, 503, 'Service unavailable');
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
