import { AsyncLocalStorage } from 'node:async_hooks';
import { subscribe } from 'node:diagnostics_channel';
import { ProviderError } from './provider.ts';

/** Answers are some hundred bytes a recipient; what is longer than this is no answer to us. */
const MOST_BYTES = 256 * 1024;

/**
 * Answers that are not the last word. 401 and 403: our own key is wrong, 402: our own account is empty; an
 * operator can mend either, as a wrong address (404, 405). 408, 425, 429: too slow, too early, too often. 409: the same key is under way at
 * this moment (IETF draft-ietf-httpapi-idempotency-key-header, 2.7), so it may well be done.
 */
const NOT_FINAL = new Set([401, 402, 403, 404, 405, 408, 409, 425, 429]);

export type Call = {
  url: string;
  headers: Record<string, string>;
  fields: Record<string, string>;
  /** For everything: connecting, the answer's head, and its body; in milliseconds. */
  timeoutMs: number;
};

/** A call that only asks has no fields, and is a GET. */
export type Exchange = Omit<Call, 'fields'> & {
  fields?: Record<string, string>;
  /** Errors of this far side are JSON with a number in `code`: `StatusError.reason` is wanted. */
  reasons?: boolean;
};

/** The JSON of an answer, and its version where the far side numbers them (RFC 9110, 8.8.3). */
export type Answer = { json: unknown; etag?: string };

/** The far side answered with a status that is no success. Of what it said, `reason` is kept: its own number for it. */
export class StatusError extends ProviderError {
  readonly status: number;
  readonly reason: number | undefined;
  constructor(status: number, reason?: number) {
    super(`http_${status}`, status < 400 || status >= 500 || NOT_FINAL.has(status));
    this.status = status;
    this.reason = reason;
  }
}

/** Posts a form and reads the JSON of its answer. Throws as `exchange` does. */
export async function postForm(call: Call): Promise<unknown> {
  return (await exchange(call)).json;
}

/**
 * Calls the far side and reads the JSON of its answer. Follows no redirect, which would carry our key to a
 * stranger, and reads a bounded number of bytes. Throws `ProviderError`, and for a status `StatusError`:
 *
 * | code | retryable | when |
 * |---|---|---|
 * | `unreachable` | yes | the request never left: no connection, a certificate or a port that is refused: not done |
 * | `dropped` | yes | the connection ended without an answer: may be done |
 * | `timeout` | yes | no whole answer in time, the request having left: may be done |
 * | `http_401` … | yes | 401 to 405, 408, 409, 425, 429, any 3xx (the address is wrong), any 5xx |
 * | `http_400` … | no | any other 4xx |
 * | `truncated`, `malformed`, `too_large` | yes | a success that cannot be read: likely done |
 */
export async function exchange({ url, headers, fields, timeoutMs, reasons }: Exchange): Promise<Answer> {
  const signal = AbortSignal.timeout(timeoutMs);
  const sending: Sending = { begun: false, left: false };
  const request = () =>
    fetch(url, {
      headers: { accept: 'application/json', ...headers },
      ...(fields !== undefined && { method: 'POST', body: new URLSearchParams(fields) }),
      redirect: 'manual',
      signal,
    });
  const response = await under.run(sending, request).catch((error: unknown) => {
    if (isUnsent(error, sending)) throw new ProviderError('unreachable', true);
    throw new ProviderError(signal.aborted ? 'timeout' : 'dropped', true);
  });
  const { status, ok, body } = response;
  if (!ok) {
    if (reasons) throw new StatusError(status, await reasonIn(body));
    // What it says would be of no use: it may quote the request, and no rule depends on it.
    await body?.cancel().catch(() => {});
    throw new StatusError(status);
  }
  const bytes = await readAll(body).catch((error: unknown) => {
    if (error instanceof ProviderError) throw error;
    throw new ProviderError(signal.aborted ? 'timeout' : 'truncated', true);
  });
  const etag = response.headers.get('etag');
  try {
    return { json: JSON.parse(bytes.toString()), ...(etag !== null && { etag }) };
  } catch {
    // The parser's own message quotes the body.
    throw new ProviderError('malformed', true);
  }
}

/** The number in `{ "code": 20404, … }`. The status stands whatever the body holds, and whether or not it can be read. */
async function reasonIn(body: Response['body']): Promise<number | undefined> {
  try {
    const { code } = JSON.parse((await readAll(body)).toString()) as { code?: unknown };
    return Number.isSafeInteger(code) ? (code as number) : undefined;
  } catch {
    return undefined;
  }
}

/** How far a request has come: `begun`, undici has it; `left`, its head is being written to a connection. */
type Sending = { begun: boolean; left: boolean };

/**
 * The request that a fetch makes is told by undici's diagnostics channels, which Node's own fetch has as well
 * (https://undici.nodejs.org/#/docs/api/DiagnosticsChannel). The alternative, a list of codes of errors from before the
 * connection, cannot tell a connection that hangs from an answer that hangs, and misses every code that is new.
 */
const under = new AsyncLocalStorage<Sending>();
const sendings = new WeakMap<object, Sending>();
subscribe('undici:request:create', (message) => {
  const sending = under.getStore();
  if (sending === undefined) return;
  sending.begun = true;
  sendings.set((message as { request: object }).request, sending);
});
subscribe('undici:client:sendHeaders', (message) => {
  const sending = sendings.get((message as { request: object }).request);
  if (sending !== undefined) sending.left = true;
});

/** No address, no connection, or a certificate that cannot be believed. */
const NEVER_HEARD =
  /^(ENOTFOUND|EAI_\w+|ECONNREFUSED|EHOSTUNREACH|ENETUNREACH|EHOSTDOWN|ENETDOWN|EADDRNOTAVAIL|UND_ERR_CONNECT_TIMEOUT|UND_ERR_INVALID_ARG|ERR_INVALID_URL|CERT_\w+|DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_\w+|ERR_TLS_CERT_\w+)$/;
/** What fetch refuses by the URL alone; these have no code. */
const REFUSED_URL = new Set([
  'bad port',
  'unknown scheme',
  'invalid path',
  'URL scheme must be a HTTP(S) scheme',
]);

/**
 * Whether a request certainly never left. What is not surely from before it was heard may be from after it: an answer
 * that is no HTTP is an answer. The error's message and cause stay here, because they hold the request.
 */
function isUnsent(error: unknown, { begun, left }: Sending): boolean {
  if (left) return false;
  if (begun) return true;
  const { cause, name, message } = error as Error;
  const {
    code,
    syscall,
    message: why,
  } = (cause ?? {}) as { code?: unknown; syscall?: unknown; message?: unknown };
  if (NEVER_HEARD.test(String(code)) || syscall === 'connect' || syscall === 'getaddrinfo') return true;
  // The request could not even be made: its URL, or a header.
  return REFUSED_URL.has(String(why)) || (name === 'TypeError' && message !== 'fetch failed');
}

async function readAll(body: Response['body']): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of body ?? []) {
    length += chunk.byteLength;
    if (length > MOST_BYTES) throw new ProviderError('too_large', true);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
