/**
 * What the public examples keep sessions in: Redis, read and written by every request, with an end after which it is
 * forgotten. Not durable: what the process of Redis holds is gone with it, and nobody tells a repeat from a second press.
 */
import { fastify } from 'fastify';
import { Redis } from 'ioredis';
import { FIXED } from '../walks.ts';

const SECONDS = 300;
const redis = new Redis(process.env.REDIS_URL ?? '');
redis.on('error', () => {});

type Body = { sessionId: string; phoneNumber: string; text: string };

const app = fastify();
app.post('/api/ussd', async (request, reply) => {
  const { sessionId, phoneNumber, text } = request.body as Body;
  const before = await redis.get(sessionId);
  const hops = before === null ? 0 : (JSON.parse(before) as { hops: number }).hops + 1;
  const state = {
    phoneNumber,
    node: 'preMenu',
    back: [],
    vars: {},
    language: 'en',
    text,
    hops,
    screen: FIXED,
  };
  await redis.setex(sessionId, SECONDS, JSON.stringify(state));
  return reply.header('content-type', 'text/plain; charset=utf-8').send(FIXED);
});
await app.listen({ port: Number(process.env.PORT), host: '127.0.0.1' });
