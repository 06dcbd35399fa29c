import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { type Cursor, pageOf } from '../db/cursor.ts';
import type { Guard } from '../guard.ts';
import { paging, REFUSALS } from '../listed.ts';
import type { Lookup } from '../store/lookups.ts';
import type { PhoneView } from '../store/phone-view.ts';

export type LookupParts = {
  guard: Guard;
  pseudonym(msisdn: string): string;
  /** Writes down who looks. */
  record(lookup: { operator: string; msisdn: string; reason: string }): Promise<void>;
  view(msisdn: string): Promise<PhoneView>;
  trail(after: Cursor | undefined, limit: number): Promise<Lookup[]>;
};

const Wanted = z.object({
  msisdn: z.string().regex(/^\+[1-9]\d{1,14}$/),
  reason: z
    .string()
    .trim()
    .min(1)
    .max(200)
    .regex(/^\P{C}*$/u)
    .describe('Why it is looked up: one line, for whoever reads the trail.'),
});

const Answer = z.object({
  phone: z.string().describe('Its pseudonym, as logs have it.'),
  dials: z
    .array(
      z.object({
        session: z.string().describe('As in the sessions of a day (CSV).'),
        service: z.string(),
        began: z.string(),
        last: z.string(),
        nodes: z.array(z.string()).describe('What was shown, in its order; never what was typed.'),
        outcome: z.enum(['ended', 'gave_up', 'continued', 'closed', 'left', 'open']),
        ended: z.string().nullable(),
      }),
    )
    .describe('Newest first, 50 at the most; none of a private service.'),
  orders: z.array(
    z.object({
      kind: z.enum(['airtime', 'shares']),
      ref: z.string(),
      state: z.string(),
      orderedAt: z.string(),
      endedAt: z.string().nullable(),
    }),
  ),
  messages: z.array(
    z.object({
      id: z.uuid(),
      state: z.string(),
      cause: z.string(),
      createdAt: z.string(),
      endedAt: z.string().nullable(),
    }),
  ),
});

const Trail = z.object({
  lookups: z.array(
    z.object({
      id: z.uuid(),
      at: z.string(),
      operator: z.string(),
      phone: z
        .string()
        .nullable()
        .describe(
          'Its pseudonym; as the reason: empty where the person was erased, null where it does not open.',
        ),
      reason: z.string().nullable(),
    }),
  ),
  next: z.string().nullable(),
});

/** What support staff may see of a phone, and who saw it. A POST, so that the number is in no URL and no access log. */
export async function lookup(app: FastifyInstance, parts: LookupParts): Promise<void> {
  const typed = app.withTypeProvider<ZodTypeProvider>();
  const described = { tags: ['operator'], security: [{ operator: [] }] };

  typed.post(
    '/api/support/lookup',
    {
      onRequest: parts.guard('support'),
      schema: {
        ...described,
        summary: 'The dials of a phone and what came of them; each look is recorded',
        body: Wanted,
        response: { 200: Answer, ...REFUSALS },
      },
    },
    async (request, reply) => {
      const { msisdn, reason } = request.body;
      const operator = request.operator ?? '';
      const phone = parts.pseudonym(msisdn);
      // Committed before anything is read: what cannot be recorded is not shown.
      await parts.record({ operator, msisdn, reason });
      request.log.info({ operator, msisdn: phone }, 'lookup');
      reply.header('cache-control', 'no-store');
      return { phone, ...(await parts.view(msisdn)) };
    },
  );

  typed.get(
    '/api/support/lookups',
    {
      onRequest: parts.guard('admin'),
      schema: {
        ...described,
        summary: 'Who looked up whom, and why, newest first',
        querystring: z.object(paging),
        response: { 200: Trail, ...REFUSALS },
      },
    },
    async (request, reply) => {
      const { limit, cursor } = request.query;
      const { page, next } = pageOf(await parts.trail(cursor, limit + 1), limit, ({ at, id }) => ({
        at,
        id,
      }));
      reply.header('cache-control', 'no-store');
      return { lookups: page, next };
    },
  );
}
