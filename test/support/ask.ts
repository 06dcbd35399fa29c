import { type IncomingHttpHeaders, request } from 'node:http';

export type Asked = { method?: string; headers?: Record<string, string>; body?: string | Buffer };

export type Told = { status: number; headers: IncomingHttpHeaders; body: Buffer };

/**
 * One request exactly as it is given, on a connection of its own: any method, any header, any bytes.
 * (`fetch` sends no foreign Host, no TRACE and no body with GET, and adds headers of its own.)
 */
export function ask(
  url: string,
  { method = 'GET', headers = {}, body = Buffer.alloc(0) }: Asked = {},
): Promise<Told> {
  const { promise, resolve, reject } = Promise.withResolvers<Told>();
  const bytes = Buffer.from(body);
  const length: Record<string, string> =
    bytes.length === 0 || 'transfer-encoding' in headers ? {} : { 'content-length': `${bytes.length}` };
  const asking = request(url, { method, headers: { ...length, ...headers }, agent: false, timeout: 30_000 });
  asking.on('response', async (response) => {
    try {
      const read = Buffer.concat((await response.toArray()) as Buffer[]);
      resolve({ status: response.statusCode ?? 0, headers: response.headers, body: read });
    } catch (error) {
      reject(error);
    }
  });
  asking.on('timeout', () => asking.destroy(new Error(`no answer to ${method} ${url}`)));
  asking.on('error', reject);
  asking.end(bytes);
  return promise;
}
