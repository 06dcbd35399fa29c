import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import type { Guard } from '../guard.ts';
import { Failure, REFUSALS } from '../listed.ts';
import type { Digests } from '../seal/digests.ts';
import type { Credit, Credited } from '../store/ledger.ts';

export type WalletParts = {
  guard: Guard;
  /** Whose money it is: a key that was used for other money is another key. */
  book: string;
  digests: Digests;
  credit(wanted: Credit): Promise<Credited>;
};

/** More than this in one credit is a slip of the finger: ten million of the currency. */
const MOST_MINOR = 1_000_000_000;

const Wanted = z.object({
  phoneNumber: z.string().regex(/^\+[1-9]\d{1,14}$/),
  currency: z.string().regex(/^[A-Z]{3}$/),
  amountMinor: z.int().min(1).max(MOST_MINOR).describe('Hundredths of the currency.'),
  idempotencyKey: z
    .string()
    .regex(/^[!-~]{8,100}$/)
    .describe('The same key is the same credit, however often it comes.'),
  reason: z.string().trim().min(1).max(200),
});

const Credited_ = z.object({
  id: z.uuid().describe('The entry of the ledger.'),
  currency: z.string(),
  amountMinor: z.int(),
  balanceMinor: z.int().describe('What could be spent right after it.'),
});

/** `POST /api/wallet/credits` (docs/contract.md section 4): puts money into the wallet of a phone, once per key. */
export async function wallet(
  app: FastifyInstance,
  { guard, digests, credit, book }: WalletParts,
): Promise<void> {
  app.withTypeProvider<ZodTypeProvider>().post(
    '/api/wallet/credits',
    {
      onRequest: guard('money'),
      preValidation: readForm,
      schema: {
        tags: ['operator'],
        security: [{ operator: [] }],
        summary: 'Credits the wallet of a phone',
        consumes: ['application/json', 'application/x-www-form-urlencoded'],
        body: Wanted,
        response: {
          200: Credited_.describe('It had been made before'),
          201: Credited_,
          409: Failure.describe('The key belongs to another credit, or the wallet would hold too much'),
          ...REFUSALS,
        },
      },
    },
    async (request, reply) => {
      const { phoneNumber, currency, amountMinor, idempotencyKey, reason } = request.body;
      const done = await credit({
        key: digests.key('credit', `${book}\0${idempotencyKey}`),
        asked: digests.key('credit asked', `${phoneNumber}\0${currency}\0${amountMinor}\0${reason}`),
        owner: digests.phone(phoneNumber),
        currency,
        amountMinor: BigInt(amountMinor),
        reason,
        operator: request.operator ?? '',
      });
      const outcome = typeof done === 'string' ? 'refused' : done.outcome;
      request.log.info(
        {
          operator: request.operator,
          msisdn: digests.pseudonym(phoneNumber),
          currency,
          amountMinor,
          outcome,
        },
        'credit',
      );
      if (done === 'tooMuch') return reply.code(409).send({ error: 'The wallet would hold too much' });
      if (done === 'other')
        return reply.code(409).send({ error: 'idempotencyKey belongs to another credit' });
      const body = { id: done.id, currency, amountMinor, balanceMinor: Number(done.balanceMinor) };
      return reply.code(done.outcome === 'made' ? 201 : 200).send(body);
    },
  );
}

/** A form knows no numbers: digits in it are one. In JSON they are text, and text is no amount. */
async function readForm(request: FastifyRequest): Promise<void> {
  if (!request.headers['content-type']?.toLowerCase().startsWith('application/x-www-form-urlencoded')) return;
  const body = request.body as { amountMinor?: unknown } | null | undefined;
  if (typeof body?.amountMinor === 'string' && /^\d{1,15}$/.test(body.amountMinor))
    body.amountMinor = Number(body.amountMinor);
}
