/** One request on a connection of its own, which may be cut before it is whole or before its answer is read. */
import { request } from 'node:http';

/** `body`: half of the body is sent; `answer`: the answer is not read. */
export type Cut = 'body' | 'answer';

/**
 * What came of a request. `lost`: `cut`, as it was meant to be; `silent`, nobody answered for `PATIENCE_MS`; else the
 * code of what went wrong with the connection.
 */
export type Sent = { status: number; outcome: string | null; body: string; ms: number; lost?: string };

/** Longer than the contract's 5 s by what a busy machine may add. */
export const PATIENCE_MS = 8_000;

/** Posts a turn as JSON. Never rejects. */
export function sendOnce(
  url: string,
  { gateway, ...fields }: { gateway: string; [field: string]: string },
  cut?: Cut,
): Promise<Sent> {
  const path = gateway === 'ixo' ? '/api/ussd' : `/api/ussd/via/${gateway}`;
  const body = Buffer.from(JSON.stringify(fields));
  const headers = { 'content-type': 'application/json', 'content-length': `${body.length}` };
  const began = performance.now();
  const { promise, resolve } = Promise.withResolvers<Sent>();
  const lose = (lost: string) =>
    resolve({ status: 0, outcome: null, body: '', ms: performance.now() - began, lost });
  const asking = request(url + path, { method: 'POST', headers, agent: false });
  const patience = setTimeout(() => {
    lose('silent');
    asking.destroy();
  }, PATIENCE_MS);
  asking.on('error', (error: NodeJS.ErrnoException) => lose(cut ? 'cut' : (error.code ?? 'error')));
  asking.on('close', () => {
    clearTimeout(patience);
    lose(cut ? 'cut' : 'closed');
  });
  asking.on('response', async (response) => {
    if (cut) return void asking.destroy();
    const read = await response.toArray().catch(() => undefined);
    if (read === undefined) return lose('truncated');
    const { 'x-ussd-outcome': outcome } = response.headers;
    resolve({
      status: response.statusCode ?? 0,
      outcome: typeof outcome === 'string' ? outcome : null,
      body: Buffer.concat(read as Buffer[]).toString(),
      ms: performance.now() - began,
    });
  });
  if (cut !== 'body') asking.end(body);
  else asking.write(body.subarray(0, body.length / 2), () => asking.destroy());
  return promise;
}
