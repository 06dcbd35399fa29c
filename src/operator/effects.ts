import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { type Cursor, pageOf } from '../db/cursor.ts';
import type { Guard } from '../guard.ts';
import { Failure, paging, REFUSALS } from '../listed.ts';
import type { OutboxState, Outgoing } from '../store/outbox.ts';

export type EffectsParts = {
  guard: Guard;
  list(
    wanted: { state?: OutboxState | undefined; kind?: string | undefined; after?: Cursor | undefined },
    limit: number,
  ): Promise<Outgoing[]>;
  retry(id: string): Promise<'queued' | 'unknown' | 'refused'>;
};

const Effect = z.object({
  id: z.uuid(),
  kind: z.string(),
  state: z
    .enum(['queued', 'done', 'refused', 'dead'])
    .describe('dead: given up after the last try; refused: the far side said no for good'),
  attempts: z.int(),
  error: z.string().nullable().describe('Code of the last attempt, where that failed.'),
  queuedAt: z.string(),
  triedAt: z.string().nullable(),
  endedAt: z.string().nullable(),
});

const Wanted = z.object({
  state: z.enum(['queued', 'done', 'refused', 'dead']).optional(),
  kind: z
    .string()
    .regex(/^[a-z][a-z-]{0,29}$/)
    .optional(),
  ...paging,
});

/** What leaves the house: how it went, and once more for what was given up. Row ids only, nothing of its contents. */
export async function effects(app: FastifyInstance, parts: EffectsParts): Promise<void> {
  const typed = app.withTypeProvider<ZodTypeProvider>();
  const described = { tags: ['operator'], security: [{ operator: [] }] };

  typed.get(
    '/api/effects',
    {
      onRequest: parts.guard('read'),
      schema: {
        ...described,
        summary: 'What leaves the house, newest first',
        querystring: Wanted,
        response: { 200: z.object({ effects: z.array(Effect), next: z.string().nullable() }), ...REFUSALS },
      },
    },
    async (request) => {
      const { state, kind, limit, cursor } = request.query;
      const rows = await parts.list({ state, kind, after: cursor }, limit + 1);
      const { page, next } = pageOf(rows, limit, ({ queuedAt, id }) => ({ at: queuedAt, id }));
      return { effects: page, next };
    },
  );

  typed.post(
    '/api/effects/:id/retry',
    {
      onRequest: parts.guard('admin'),
      schema: {
        ...described,
        summary: 'Tries again what was given up or refused',
        params: z.object({ id: z.string().max(64) }),
        response: {
          202: z.object({ id: z.uuid(), state: z.literal('queued') }),
          409: Failure.describe('It cannot be done again: the money that it needs is spent'),
          ...REFUSALS,
        },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      const known = z.uuid().safeParse(id).success ? await parts.retry(id) : 'unknown';
      request.log.info(
        { operator: request.operator, effect: known === 'unknown' ? null : id, outcome: known },
        'retry',
      );
      if (known === 'unknown')
        return reply.code(404).send({ error: 'There is no dead or refused effect of this id' });
      if (known === 'refused') return reply.code(409).send({ error: 'It cannot be done any more' });
      return reply.code(202).send({ id, state: 'queued' as const });
    },
  );
}
