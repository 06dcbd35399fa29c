import formbody from '@fastify/formbody';
import type { FastifyInstance } from 'fastify';

/** What cannot be read: answered as the caller's fault. */
class Unreadable extends Error {
  readonly statusCode = 400;
  readonly code = 'body_unreadable';
}

/** A key stands twice in an object of the body. `keys`: the keys of the outermost object in which that is so. */
export class KeyTwice extends Error {
  readonly statusCode = 400;
  readonly code = 'key_twice';
  readonly keys: string[];
  constructor(keys: string[]) {
    super('a key stands twice');
    this.keys = keys;
  }
}

/** Throws where the bytes are not UTF-8, and leaves out a byte order mark. */
const UTF_8 = new TextDecoder('utf-8', { fatal: true });

/**
 * Reads bodies as JSON or a form, as strictly as the contract asks: UTF-8 only, and nothing that decodes
 * to something else than was sent. A byte order mark is accepted. (Fastify's own JSON parser and the form
 * plugin's turn broken bytes into U+FFFD, so that different inputs compare equal.) In JSON a key that stands twice
 * in one object is refused, and a key whose value is `null` is left out (decision 39).
 */
export async function readStrictly(app: FastifyInstance): Promise<void> {
  const parseJson = app.getDefaultJsonParser('remove', 'remove');
  app.removeContentTypeParser('application/json');
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    // Routes that want none are asked with an empty one by clients that always say JSON; the others refuse it.
    if (body.length === 0) return done(null, undefined);
    let text: string;
    try {
      text = UTF_8.decode(body as Buffer);
    } catch {
      return done(new Unreadable('not UTF-8'), undefined);
    }
    parseJson(request, text, (error, value) => {
      if (error !== null) return done(error, undefined);
      const twice = keysIn(text) === withoutNulls(value) ? [] : keysTwice(text);
      return twice.length > 0 ? done(new KeyTwice(twice), undefined) : done(null, value);
    });
  });
  await app.register(formbody, { parser: parseForm });
  app.addHook('preParsing', (request, _reply, payload, done) => {
    const { 'content-type': type = '', 'content-encoding': encoding = 'identity' } = request.headers;
    if (type.includes(';') && !charsetsIn(type).every((name) => /^utf-?8$/i.test(name)))
      return done(new Unreadable('another charset than UTF-8'));
    if (encoding !== 'identity') return done(new Unreadable('a body in an encoding'));
    done(null, payload);
  });
}

function charsetsIn(contentType: string): string[] {
  return [...contentType.matchAll(/;\s*charset\s*=\s*"?([^\s";]+)/gi)].map(([, name = '']) => name);
}

const QUOTE = 34;
const COLON = 58;
const BACKSLASH = 92;

/**
 * Counts the keys of all objects of a text that is JSON: its strings with a colon behind them. A parsed value has as
 * many, unless a key stands twice: `JSON.parse` keeps the last one only. So keys are compared only where the counts
 * differ; counting both costs a turn about 1 µs (decision 39).
 */
function keysIn(text: string): number {
  let keys = 0;
  for (let at = text.indexOf('"'); at !== -1; at = text.indexOf('"', at)) {
    at = behindString(text, at);
    while (isSpace(text.charCodeAt(at))) at += 1;
    if (text.charCodeAt(at) === COLON) keys += 1;
  }
  return keys;
}

/** Counts the keys of a parsed value, and removes those that are `null`: as if they were absent (decision 39). */
function withoutNulls(value: unknown): number {
  let keys = 0;
  const open = [value];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (typeof next !== 'object' || next === null) continue;
    if (Array.isArray(next)) {
      for (const item of next) if (typeof item === 'object') open.push(item);
      continue;
    }
    const fields = next as Record<string, unknown>;
    for (const key of Object.keys(fields)) {
      keys += 1;
      const field = fields[key];
      if (field === null) delete fields[key];
      else if (typeof field === 'object') open.push(field);
    }
  }
  return keys;
}

/** The keys of the outermost object of a JSON text that stand twice, or in whose value a key does. */
function keysTwice(text: string): string[] {
  const found = new Set<string>();
  const open: (Set<string> | undefined)[] = [];
  let outermost = '';
  for (let at = 0; at < text.length; at += 1) {
    const char = text[at];
    if (char === '{') open.push(new Set());
    else if (char === '[') open.push(undefined);
    else if (char === '}' || char === ']') open.pop();
    if (text.charCodeAt(at) !== QUOTE) continue;
    const end = behindString(text, at);
    let behind = end;
    while (isSpace(text.charCodeAt(behind))) behind += 1;
    if (text.charCodeAt(behind) === COLON) {
      const key = JSON.parse(text.slice(at, end)) as string;
      const keys = open.at(-1);
      if (open.length === 1) outermost = key;
      if (keys?.has(key)) found.add(outermost);
      keys?.add(key);
    }
    at = end - 1;
  }
  return [...found];
}

/** The position behind the string of a JSON text whose first quote is at `at`. */
function behindString(text: string, at: number): number {
  for (let end = text.indexOf('"', at + 1); end !== -1; end = text.indexOf('"', end + 1)) {
    let backslashes = 0;
    while (text.charCodeAt(end - 1 - backslashes) === BACKSLASH) backslashes += 1;
    if (backslashes % 2 === 0) return end + 1;
  }
  return text.length;
}

function isSpace(code: number): boolean {
  return code === 32 || code === 10 || code === 13 || code === 9;
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
