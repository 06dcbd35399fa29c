/** The reference that every row is divided by: fastify as it comes, one route that answers one fixed screen. */
import { fastify } from 'fastify';
import { FIXED } from '../walks.ts';

const app = fastify();
app.post('/api/ussd', (_request, reply) => {
  reply.header('content-type', 'text/plain; charset=utf-8').send(FIXED);
});
await app.listen({ port: Number(process.env.PORT), host: '127.0.0.1' });
