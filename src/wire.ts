import formbody from '@fastify/formbody';
import type { FastifyInstance } from 'fastify';

/** What cannot be read: answered as the caller's fault. */
class Unreadable extends Error {
  readonly statusCode = 400;
  readonly code = 'body_unreadable';
}

/**
 * Reads bodies as JSON or a form, as strictly as the contract asks: UTF-8 only, and nothing that decodes
 * to something else than was sent. A byte order mark is accepted. (Fastify's own JSON parser and the form
 * plugin's turn broken bytes into U+FFFD, so that different inputs compare equal.)
 */
export async function readStrictly(app: FastifyInstance): Promise<void> {
  const parseJson = app.getDefaultJsonParser('remove', 'remove');
  app.removeContentTypeParser('application/json');
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    // Routes that want none are asked with an empty one by clients that always say JSON; the others refuse it.
    if (body.length === 0) return done(null, undefined);
    try {
      parseJson(request, new TextDecoder('utf-8', { fatal: true }).decode(body as Buffer), done);
    } catch {
      done(new Unreadable('not UTF-8'), undefined);
    }
  });
  await app.register(formbody, { parser: parseForm });
  app.addHook('preParsing', (request, _reply, payload, done) => {
    const { 'content-type': type = '', 'content-encoding': encoding = 'identity' } = request.headers;
    const charsets = [...type.matchAll(/;\s*charset\s*=\s*"?([^\s";]+)/gi)].map(([, name = '']) => name);
    if (!charsets.every((name) => /^utf-?8$/i.test(name)))
      return done(new Unreadable('another charset than UTF-8'));
    if (encoding !== 'identity') return done(new Unreadable('a body in an encoding'));
    done(null, payload);
  });
}

/**
 * `a=1&b=2` with `+` for a space. A field that stands twice becomes an array, so that it is nobody's
 * string. Throws where an escape is no UTF-8, or a raw byte was none.
 */
export function parseForm(body: string): Record<string, unknown> {
  const text = body.startsWith('\uFEFF') ? body.slice(1) : body;
  // The plugin has decoded the bytes; what was no UTF-8 is this character now, and none is legal here raw.
  if (text.includes('\uFFFD')) throw new Unreadable('not UTF-8');
  const fields: Record<string, unknown> = Object.create(null) as Record<string, unknown>;
  for (const pair of text.split('&')) {
    if (pair === '') continue;
    const equals = pair.indexOf('=');
    const name = unescaped(equals === -1 ? pair : pair.slice(0, equals));
    const value = equals === -1 ? '' : unescaped(pair.slice(equals + 1));
    if (name === '__proto__') continue;
    const before = fields[name];
    if (before === undefined) fields[name] = value;
    else fields[name] = Array.isArray(before) ? [...(before as unknown[]), value] : [before, value];
  }
  return fields;
}

function unescaped(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    throw new Unreadable('not UTF-8');
  }
}
