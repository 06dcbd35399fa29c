import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import type { Test } from 'tap';

/** Settings that PgBouncer lets through when a connection begins; others are refused. */
const ALLOWED = new Set(['user', 'database', 'client_encoding', 'application_name', 'datestyle', 'timezone']);
const SSL_REQUEST = 80_877_103;

/**
 * A pooler in transaction mode before a server that trusts everybody, as PgBouncer is seen from outside: one
 * connection of its own for each transaction, the next one for the next, so that nothing outlives a transaction.
 * Returns the URL through which the same database is reached.
 */
export async function startPooler(t: Test, url: string, size = 3): Promise<string> {
  const to = new URL(url);
  const servers: Server[] = [];
  const free: Server[] = [];
  const waiting: ((server: Server) => void)[] = [];
  const fresh = async (): Promise<Server> => {
    const server = new Server(to);
    servers.push(server);
    await server.ready;
    return server;
  };
  const take = async (): Promise<Server> => {
    if (servers.length < size) return fresh();
    // The one that has rested longest, so that two transactions of a client are never on the same.
    return free.shift() ?? new Promise((resolve) => waiting.push(resolve));
  };
  const give = (server: Server) => {
    const next = waiting.shift();
    if (next === undefined) free.push(server);
    else next(server);
  };
  /** A client went away within a transaction: what that connection was doing is nobody's. */
  const drop = (server: Server) => {
    server.end();
    servers.splice(servers.indexOf(server), 1);
    const next = waiting.shift();
    if (next !== undefined) void fresh().then(next);
  };
  const sockets = new Set<Socket>();
  const door = createServer((client) => {
    sockets.add(client);
    client.on('error', () => {});
    void serve(client, { take, give, drop }).catch(() => client.destroy());
  });
  door.listen(0, '127.0.0.1');
  await once(door, 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    for (const server of servers) server.end();
    door.close();
  });
  const through = new URL(url);
  through.hostname = '127.0.0.1';
  through.port = String((door.address() as AddressInfo).port);
  return through.href;
}

type Pool = { take(): Promise<Server>; give(server: Server): void; drop(server: Server): void };

async function serve(client: Socket, { take, give, drop }: Pool) {
  let server: Server | undefined;
  let begun = false;
  client.on('close', () => {
    if (server !== undefined) drop(server);
    server = undefined;
  });
  let left = Buffer.alloc(0);
  for await (const chunk of client) {
    left = Buffer.concat([left, chunk as Buffer]);
    for (;;) {
      const start = begun ? 1 : 0;
      if (left.length < start + 4 || left.length < start + left.readInt32BE(start)) break;
      const message = left.subarray(0, start + left.readInt32BE(start));
      left = left.subarray(message.length);
      if (!begun) {
        if (message.readInt32BE(4) === SSL_REQUEST) client.write('N');
        else begun = begin(client, message);
        continue;
      }
      if (message[0] === 0x58) return client.end();
      if (server === undefined) {
        const own = await take();
        if (client.destroyed) return give(own);
        server = own;
        own.listen((answer, idle) => {
          client.write(answer);
          if (!idle || server === undefined) return;
          server = undefined;
          give(own);
        });
      }
      server.send(message);
    }
  }
}

/** The answer to a startup packet: refused like PgBouncer does, or a connection that is ready. */
function begin(client: Socket, packet: Buffer): boolean {
  const words = packet.toString('utf8', 8).split('\0');
  const names = words.filter((_, i) => i % 2 === 0 && words[i] !== '');
  const refused = names.find((name) => !ALLOWED.has(name.toLowerCase()));
  if (refused !== undefined) {
    const text = `SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: ${refused}\0\0`;
    client.end(message('E', Buffer.from(text)));
    return false;
  }
  client.write(Buffer.concat([message('R', Buffer.alloc(4)), message('Z', Buffer.from('I'))]));
  return true;
}

/** One connection to the server. */
class Server {
  readonly ready: Promise<void>;
  readonly #socket: Socket;
  #hear: (answer: Buffer, idle: boolean) => void = () => {};

  constructor({ hostname, port, username, pathname }: URL) {
    this.#socket = connect(Number(port), hostname);
    this.#socket.on('error', () => {});
    const { promise, resolve } = Promise.withResolvers<void>();
    this.ready = promise;
    this.#hear = (_, idle) => idle && resolve();
    const words = Buffer.from(`user\0${username}\0database\0${pathname.slice(1)}\0\0`);
    const head = Buffer.alloc(8);
    head.writeInt32BE(8 + words.length, 0);
    head.writeInt32BE(196_608, 4);
    this.#socket.write(Buffer.concat([head, words]));
    let left = Buffer.alloc(0);
    this.#socket.on('data', (chunk) => {
      left = Buffer.concat([left, chunk as Buffer]);
      let end = 0;
      let idle = false;
      while (left.length >= end + 5 && left.length >= end + 1 + left.readInt32BE(end + 1)) {
        idle = left[end] === 0x5a && left[end + 5] === 0x49;
        end += 1 + left.readInt32BE(end + 1);
      }
      const whole = left.subarray(0, end);
      left = left.subarray(end);
      if (end > 0) this.#hear(whole, idle);
    });
  }

  send(message: Buffer): void {
    this.#socket.write(message);
  }

  listen(hear: (answer: Buffer, idle: boolean) => void): void {
    this.#hear = hear;
  }

  end(): void {
    this.#socket.destroy();
  }
}

function message(type: string, body: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.write(type);
  head.writeInt32BE(4 + body.length, 1);
  return Buffer.concat([head, body]);
}
