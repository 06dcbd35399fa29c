import { createServer } from 'node:net';

/** The address cannot be listened on; the message says which setting to change. */
export class AddressRefused extends Error {
  readonly code = 'address_refused';
}

export type Address = { host: string; port: number };

/**
 * Looks whether an address can be listened on, before a start does anything that takes time. Another process may still
 * take it afterwards: the real listen goes through `asRefusal` as well. Throws `AddressRefused`.
 */
export async function lookAt({ host, port }: Address): Promise<void> {
  const server = createServer((socket) => socket.destroy());
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host, port, exclusive: true }, resolve);
    });
  } catch (error) {
    throw asRefusal(error, { host, port });
  }
  await new Promise((resolve) => server.close(resolve));
}

/** Turns an error of a listen into one for a person; any other error is returned as it is. */
export function asRefusal(error: unknown, { host, port }: Address): unknown {
  const { code, syscall } = error as NodeJS.ErrnoException;
  if (!/^(listen|bind|getaddrinfo)$/.test(syscall ?? '')) return error;
  const low = port > 0 && port < 1024;
  const said: Record<string, string> = {
    EADDRINUSE: `port ${port} is in use, set PORT to another one (or stop the process that listens on ${host}:${port})`,
    EACCES: low
      ? `port ${port} is for root only, set PORT to 1024 or above`
      : `port ${port} is closed to this user by the system, set PORT to another one`,
    EADDRNOTAVAIL: `this machine does not have the address ${host}, ${HOST}`,
    EAFNOSUPPORT: `this machine has no addresses like ${host}, ${HOST}`,
    ENOTFOUND: `${host} is the name of no machine, ${HOST}`,
    EAI_AGAIN: `the name ${host} cannot be looked up, ${HOST}`,
  };
  return new AddressRefused(
    said[code ?? ''] ?? `${host}:${port} cannot be listened on (${code}), set HOST and PORT`,
    { cause: error },
  );
}

const HOST = 'set HOST (127.0.0.1: this machine only, 0.0.0.0: every network)';
