/**
 * What one would write first: a row per session, read and written by every request, each statement waited for. It
 * has the best of that design: prepared statements, a pool as pg makes it, an update that changes no index (HOT).
 * It is durable, and neither sealed nor once: what it saves by that it may keep.
 */
import { fastify } from 'fastify';
import pg from 'pg';
import { FIXED } from '../walks.ts';

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
pool.on('error', () => {});
await pool.query(
  `create table if not exists sessions (
     id text primary key, phone text not null, state json not null, at timestamptz not null)`,
);

const SELECT = { name: 'find', text: 'select state from sessions where id = $1' };
const UPSERT = {
  name: 'keep',
  text: `insert into sessions values ($1, $2, $3, now())
    on conflict (id) do update set state = excluded.state, at = excluded.at`,
};

type Body = { sessionId: string; phoneNumber: string; text: string };

const app = fastify();
app.post('/api/ussd', async (request, reply) => {
  const { sessionId, phoneNumber, text } = request.body as Body;
  const { rows } = await pool.query({ ...SELECT, values: [sessionId] });
  // About as much as our turns keep of a session.
  const state = { node: 'preMenu', back: [], vars: {}, language: 'en', text, hops: rows.length };
  await pool.query({ ...UPSERT, values: [sessionId, phoneNumber, { ...state, screen: FIXED }] });
  return reply.header('content-type', 'text/plain; charset=utf-8').send(FIXED);
});
await app.listen({ port: Number(process.env.PORT), host: '127.0.0.1' });
