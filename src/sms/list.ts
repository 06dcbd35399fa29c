import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { pageOf } from '../db/cursor.ts';
import type { Guard } from '../guard.ts';
import { paging, REFUSALS } from '../listed.ts';
import type { SeenMessage, WantedMessages } from '../store/message-view.ts';

export type ListParts = {
  guard: Guard;
  list(wanted: WantedMessages, limit: number): Promise<SeenMessage[]>;
  find(id: string): Promise<SeenMessage | undefined>;
};

const STATES = [
  'promised',
  'queued',
  'sent',
  'submitted',
  'buffered',
  'delivered',
  'failed',
  'rejected',
  'expired',
] as const;

const Message = z.object({
  id: z.uuid(),
  phoneNumber: z.string(),
  state: z.enum(STATES),
  kind: z.enum(['single', 'bulk', 'twoWay']),
  cause: z.enum(['subscriber', 'support', 'operator']),
  sender: z.string().nullable(),
  segments: z.int().describe('SMS that the text takes.'),
  code: z.string().nullable().describe('What the provider said last, or why it was not sent.'),
  provider: z.string().nullable(),
  providerId: z.string().nullable(),
  cost: z.object({ currency: z.string(), amount: z.string() }).nullable(),
  createdAt: z.string(),
  sentAt: z.string().nullable(),
  endedAt: z.string().nullable(),
});

const time = z.iso
  .datetime({ offset: true })
  .transform((text) => new Date(text))
  .optional()
  .meta({ type: 'string', format: 'date-time' });

const Wanted = z.object({
  phoneNumber: z
    .string()
    .trim()
    .regex(/^\+?[1-9]\d{1,14}$/)
    .transform((number) => `+${number.replace('+', '')}`)
    .optional()
    .meta({ type: 'string' }),
  state: z.enum(STATES).optional(),
  from: time,
  until: time,
  ...paging,
});

/** `GET /api/sms/messages` and `…/:id`, for support staff: where a message is, never what it says. */
export async function smsList(app: FastifyInstance, parts: ListParts): Promise<void> {
  const typed = app.withTypeProvider<ZodTypeProvider>();
  const onRequest = parts.guard('read');
  const described = { tags: ['sms'], security: [{ operator: [] }] };

  typed.get(
    '/api/sms/messages',
    {
      onRequest,
      schema: {
        ...described,
        summary: 'Messages, newest first',
        querystring: Wanted,
        response: { 200: z.object({ messages: z.array(Message), next: z.string().nullable() }), ...REFUSALS },
      },
    },
    async (request) => {
      const { phoneNumber, state, from, until, limit, cursor } = request.query;
      const rows = await parts.list({ msisdn: phoneNumber, state, from, until, after: cursor }, limit + 1);
      const { page, next } = pageOf(rows, limit, ({ createdAt, id }) => ({ at: createdAt ?? '', id }));
      return { messages: page.map(shown), next };
    },
  );

  typed.get(
    '/api/sms/messages/:id',
    {
      onRequest,
      schema: {
        ...described,
        summary: 'One message',
        params: z.object({ id: z.string().max(64) }),
        response: { 200: Message, ...REFUSALS },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      const message = z.uuid().safeParse(id).success ? await parts.find(id) : undefined;
      return message === undefined ? reply.code(404).send({ error: 'Message not found' }) : shown(message);
    },
  );
}

function shown({
  statusCode: _,
  cost,
  currency,
  createdAt,
  ...message
}: SeenMessage): z.input<typeof Message> {
  return {
    ...message,
    createdAt: createdAt ?? '',
    cost: cost === null || currency === null ? null : { currency, amount: cost.replace(/\.?0+$/, '') },
  };
}
