import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Deadline } from './flow/heard.ts';
import { isSameSecret } from './http/same-secret.ts';
import type { Limit } from './limits.ts';
import { addressKey } from './limits.ts';
import { parseNetworks } from './networks.ts';

/** Who asks, once the guard has let them in. */
export type Operator = { name: string; scopes: ReadonlySet<string>; token: string };

export type GuardSettings = {
  operators: Operator[];
  /** Made by the process where none was given: it opens everything, and reading stays open to this machine. */
  made?: Operator;
  production: boolean;
  limit: Limit;
};

/** Returns a hook that lets in operators with a scope, and answers all others. */
export type Guard = (scope: string) => (request: FastifyRequest, reply: FastifyReply) => Promise<void>;

/** Wrong tokens that one address may try in a window of the rate limit. */
const WRONG_TOKENS = 10;

const LOOPBACK = parseNetworks('127.0.0.0/8,::1/128');

/** Who may use the routes of partners: whose customers callers are, and whether a phone that they name is believed. */
export type Partner = { name: string; mayAssertPhone: boolean };

/** Whoever needs no key: only where there is none. No key has this name. */
const NOBODY: Partner = { name: '', mayAssertPhone: true };

export type PartnerSettings = {
  /** The partner of a key, and whether there is any key at all; one that was revoked counts. */
  find(key: string | undefined, deadline: Deadline): Promise<{ any: boolean; partner?: Partner }>;
  production: boolean;
  limit: Limit;
};

/** The partner who asks; or `unauthorized`; or the seconds to wait after too many wrong keys. */
export type Admit = (
  request: FastifyRequest,
  deadline: Deadline,
) => Promise<Partner | 'unauthorized' | { wait: number }>;

/**
 * Who may use the routes that want an API key (docs/contract.md section 6): whoever has one; and, outside production and
 * only where there is none, this machine itself (decision 28). Keys are asked for each time, so that one that was
 * made or revoked just now counts.
 */
export function makeAdmission({ find, production, limit }: PartnerSettings): Admit {
  return async (request, deadline) => {
    const { authorization } = request.headers;
    const given = bearer(authorization);
    const { any, partner } = await find(given, deadline);
    if (partner !== undefined) return partner;
    if (authorization === undefined) return !any && !production && isHere(request) ? NOBODY : 'unauthorized';
    const wait = await limit(request, `key:${addressKey(request.ip)}`, WRONG_TOKENS);
    return wait === undefined ? 'unauthorized' : { wait };
  };
}

/** What proxies add, the standard and the widespread ones. */
const FORWARDED =
  /^(via|(x-original-)?(x-)?forwarded(-.+)?|x-original-forwarded-for|.*client-?ip|(x-real|cf-connecting)-ip|x-envoy-external-address)$/;

/**
 * Who may do what (decisions 27 and 28). With tokens: a bearer token that has the scope. Where none was given:
 * reading only, outside production only, and only from this machine itself, by the address of the socket; and
 * everything with the token that was made.
 */
export function makeGuard({ operators, made, production, limit }: GuardSettings): Guard {
  const all = made === undefined ? operators : [...operators, made];
  return (scope) => async (request, reply) => {
    const { authorization } = request.headers;
    if (operators.length === 0 && authorization === undefined) {
      if (production) return reply.callNotFound();
      if (scope === 'read' && isHere(request)) return;
      if (scope === 'read' || all.length === 0) return void reply.code(403).send({ error: 'Forbidden' });
    }
    if (all.length === 0) return production ? reply.callNotFound() : askForToken(reply);
    if (authorization === undefined) return askForToken(reply);
    const given = bearer(authorization);
    const operator = given === undefined ? undefined : find(all, given);
    if (operator === undefined) return refuse(request, reply, limit);
    if (!operator.scopes.has(scope)) return void reply.code(403).send({ error: 'Forbidden' });
    request.operator = operator.name;
  };
}

declare module 'fastify' {
  interface FastifyRequest {
    /** The name of the operator's token, behind the guard. */
    operator?: string;
  }
}

async function refuse(request: FastifyRequest, reply: FastifyReply, limit: Limit): Promise<void> {
  const wait = await limit(request, `token:${addressKey(request.ip)}`, WRONG_TOKENS);
  if (wait !== undefined) {
    return void reply.code(429).header('retry-after', wait).send({ error: 'Too many requests' });
  }
  return askForToken(reply);
}

function askForToken(reply: FastifyReply): void {
  reply.code(401).header('www-authenticate', 'Bearer').send({ error: 'Unauthorized' });
}

/** Finds the operator of a token. Compares all tokens, so that the time says nothing about any of them. */
function find(operators: readonly Operator[], given: string): Operator | undefined {
  let found: Operator | undefined;
  for (const operator of operators) if (isSameSecret(given, operator.token)) found = operator;
  return found;
}

function bearer(authorization = ''): string | undefined {
  return /^Bearer +(\S+)$/i.exec(authorization)?.[1];
}

/** From this machine itself, and not through anything that forwards or a page that was lured here. */
function isHere(request: FastifyRequest): boolean {
  const address = request.socket.remoteAddress ?? '';
  const host = hostName(request.headers.host ?? '');
  return (
    LOOPBACK.has(address) &&
    (host === 'localhost' || LOOPBACK.has(host)) &&
    !Object.keys(request.headers).some((header) => FORWARDED.test(header)) &&
    request.headers['sec-fetch-site'] !== 'cross-site'
  );
}

function hostName(host: string): string {
  return host
    .replace(/:\d+$/, '')
    .replace(/^\[(.*)\]$/, '$1')
    .toLowerCase();
}
