import type { FastifyInstance, FastifyReply } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import type { Moved, Report } from '../store/airtime.ts';

export type AirtimeParts = {
  /** Hears a report, and queues the message that it makes due. */
  report(report: Report): Promise<Moved & { repeated: boolean }>;
  /** Whether we are buying this just now; the amount in hundredths. */
  isExpected(recipient: string, currency: string, amount: bigint): Promise<boolean>;
  /** Requests come by a way that only the provider has. */
  authenticated: boolean;
  count(route: string, outcome: string): void;
};

const Phone = z.string().regex(/^\+[1-9]\d{1,14}$/);

/** Africa's Talking's `{ phoneNumber, description, status, requestId, discount, value }`; the rest is dropped. */
const Status = z.object({
  phoneNumber: Phone,
  status: z.enum(['Success', 'Failed']),
  requestId: z.string().regex(/^[!-~]{1,100}$/),
});

/** `{ transactionId, phoneNumber, sourceIpAddress, currencyCode, amount }`: asked before anything is sent. */
const Validation = z.object({
  phoneNumber: Phone,
  currencyCode: z.string().regex(/^[A-Z]{3}$/),
  amount: z.union([z.string(), z.number()]).transform(String),
});

const VERDICT = z.object({ status: z.enum(['Validated', 'Failed']) });

/**
 * What the airtime provider calls (CONTRACT.md section 4, RULINGS.md 29): always answered as it expects. What is
 * no report of ours is counted and changes nothing; a database that is away is a 503, so that it comes again.
 */
export async function airtimeCallbacks(app: FastifyInstance, parts: AirtimeParts): Promise<void> {
  const typed = app.withTypeProvider<ZodTypeProvider>();
  app.setErrorHandler((error: Error & { statusCode?: number; validation?: unknown }, request, reply) => {
    const route = request.routeOptions.url?.endsWith('validation') ? 'airtime/validation' : 'airtime/status';
    const theirs = error.validation !== undefined || (error.statusCode ?? 500) < 500;
    parts.count(route, theirs ? 'rubbish' : 'unavailable');
    if (theirs && route === 'airtime/validation') return reply.code(200).send({ status: 'Failed' });
    if (theirs) return ok(reply);
    request.log.error({ err: error }, 'a callback failed');
    return reply.code(503).send({ error: 'Service unavailable' });
  });

  typed.post(
    '/airtime/status',
    {
      schema: {
        tags: ['callbacks'],
        summary: 'How an airtime order went, as the provider says later',
        consumes: ['application/json', 'application/x-www-form-urlencoded'],
        body: Status,
        response: { 200: z.string().describe('OK, whatever came') },
      },
    },
    async (request, reply) => {
      const { phoneNumber, status, requestId } = request.body;
      const { moved, repeated } = await parts.report({
        providerId: requestId,
        recipient: phoneNumber,
        status,
        authenticated: parts.authenticated,
      });
      parts.count('airtime/status', repeated ? 'repeated' : moved ? 'stored' : 'unmatched');
      return ok(reply);
    },
  );

  typed.post(
    '/airtime/validation',
    {
      schema: {
        tags: ['callbacks'],
        summary: 'Whether we asked for an airtime order, before the provider sends it',
        consumes: ['application/json', 'application/x-www-form-urlencoded'],
        body: Validation,
        response: { 200: VERDICT },
      },
    },
    async (request) => {
      const { phoneNumber, currencyCode, amount } = request.body;
      const minor = inMinor(amount);
      const expected = minor !== undefined && (await parts.isExpected(phoneNumber, currencyCode, minor));
      parts.count('airtime/validation', expected ? 'stored' : 'unmatched');
      return { status: expected ? ('Validated' as const) : ('Failed' as const) };
    },
  );
}

/** `500.00` as hundredths, exactly; undefined where it is no amount. */
function inMinor(amount: string): bigint | undefined {
  const [, units, cents = ''] = /^(\d{1,12})(?:\.(\d{1,2})0*)?$/.exec(amount) ?? [];
  return units === undefined ? undefined : BigInt(units) * 100n + BigInt(cents.padEnd(2, '0'));
}

function ok(reply: FastifyReply): FastifyReply {
  return reply.code(200).type('text/plain; charset=utf-8').send('OK');
}
