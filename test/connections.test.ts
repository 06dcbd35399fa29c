/** How many connections there may be: in all, and from one address. */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { limitConnections } from '../src/limits.ts';

/** A server with these limits; opens a connection and says whether it is kept. */
async function door(t: Test, most: number, perAddress: number, exempt = false) {
  const server = createServer();
  limitConnections(server, { most, perAddress, requests: 0 }, () => exempt);
  server.on('connection', (socket) => {
    socket.on('error', () => {});
    if (!socket.destroyed) socket.write('.');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const sockets: Socket[] = [];
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const { port } = server.address() as { port: number };
  return {
    sockets,
    knock: async () => {
      const socket = connect(port, '127.0.0.1');
      socket.on('error', () => {});
      sockets.push(socket);
      return Promise.race([
        once(socket, 'data').then(() => 'open'),
        once(socket, 'close').then(() => 'closed'),
      ]);
    },
    settled: async (left: number) => {
      const count = () => new Promise<number>((resolve) => server.getConnections((_, open) => resolve(open)));
      while ((await count()) > left) await new Promise((resolve) => setTimeout(resolve, 2));
    },
  };
}

t.test('from one address', async (t) => {
  const { knock, sockets, settled } = await door(t, 100, 2);
  t.same([await knock(), await knock(), await knock(), await knock()], ['open', 'open', 'closed', 'closed']);
  sockets[0]?.destroy();
  await settled(1);
  t.same([await knock(), await knock()], ['open', 'closed'], 'one that ends makes room for one');
});

t.test('an address that stands for many is held by the limit on all only', async (t) => {
  const { knock } = await door(t, 3, 1, true);
  t.same([await knock(), await knock(), await knock(), await knock()], ['open', 'open', 'open', 'closed']);
});
