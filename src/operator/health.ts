import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';

export type HealthParts = {
  environment: string;
  /** Resolves when the database answers. */
  ping(): Promise<unknown>;
  draining(): boolean;
};

/** The database has this long to answer, and its answer holds for as long. */
const PING_MS = 1_000;

const Liveness = z.object({
  status: z.literal('ok'),
  message: z.literal('ixo-ussd-server running'),
  environment: z.string(),
  timestamp: z.iso.datetime(),
});

const Health = z.object({
  status: z.enum(['ok', 'error']),
  environment: z.string(),
  timestamp: z.iso.datetime(),
  uptime: z.int().describe('Whole seconds since the process started.'),
  database: z.enum(['connected', 'disconnected']),
});

/** `GET /` says that the process lives; `GET /health` that it can do its work. Neither is rate limited. */
export async function health(
  app: FastifyInstance,
  { environment, ping, draining }: HealthParts,
): Promise<void> {
  const typed = app.withTypeProvider<ZodTypeProvider>();
  const connected = cachedFor(PING_MS, () => answersWithin(PING_MS, ping));

  typed.get('/', { schema: { summary: 'Liveness', tags: ['health'], response: { 200: Liveness } } }, () => ({
    status: 'ok' as const,
    message: 'ixo-ussd-server running' as const,
    environment,
    timestamp: new Date().toISOString(),
  }));

  typed.get(
    '/health',
    { schema: { summary: 'Readiness', tags: ['health'], response: { 200: Health, 503: Health } } },
    async (_request, reply) => {
      const reached = await connected();
      const good = reached && !draining();
      return reply.code(good ? 200 : 503).send({
        status: good ? 'ok' : 'error',
        environment,
        timestamp: new Date().toISOString(),
        uptime: Math.floor(process.uptime()),
        database: reached ? 'connected' : 'disconnected',
      });
    },
  );
}

async function answersWithin(milliseconds: number, ping: () => Promise<unknown>): Promise<boolean> {
  const { promise: late, resolve } = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => resolve(false), milliseconds);
  const answered = ping().then(
    () => true,
    () => false,
  );
  try {
    return await Promise.race([answered, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** One question at a time, and its answer for everybody who asks within `milliseconds`. */
function cachedFor<T>(milliseconds: number, ask: () => Promise<T>): () => Promise<T> {
  let answer: Promise<T> | undefined;
  let until = 0;
  return () => {
    if (answer === undefined || performance.now() >= until) {
      until = Number.POSITIVE_INFINITY;
      answer = ask().finally(() => {
        until = performance.now() + milliseconds;
      });
    }
    return answer;
  };
}
