import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { deadlineIn } from '../deadline.ts';
import type { Deadline } from '../flow/heard.ts';
import { CallbackPhone, textOrInteger, wordInAnyCase } from './callback-fields.ts';
import { acknowledge, CALLBACK_BYTES, inWords, noteFailure } from './callbacks.ts';
import { ANSWER_MS, dropped, refuseOthers } from './screens.ts';

/** What the provider says of an order when it knows; `authenticated`: by a way that only the provider has. */
export type AirtimeReport = {
  providerId: string;
  recipient: string;
  status: 'Success' | 'Failed';
  /** What was bought, in hundredths, where it says so. */
  value?: { currency: string; amount: bigint };
  authenticated: boolean;
};

export type AirtimeParts = {
  /** Hears a report: what came of it, for the counts. */
  report(report: AirtimeReport, deadline: Deadline): Promise<'stored' | 'repeated' | 'unmatched'>;
  /** Whether we are buying this just now; the amount in hundredths. */
  isExpected(recipient: string, currency: string, amount: bigint, deadline: Deadline): Promise<boolean>;
  pseudonym(msisdn: string): string;
  /** In production an unauthenticated report moves no money (decision 29). */
  production: boolean;
};

const STATUS = '/airtime/status';
const VALIDATION = '/airtime/validation';

/** `{ phoneNumber, description, status, requestId, discount, value }`; what is not here is dropped. */
const Status = z.object({
  phoneNumber: CallbackPhone,
  status: wordInAnyCase(['Success', 'Failed']),
  requestId: textOrInteger(z.string().regex(/^[!-~]{1,100}$/)),
  value: dropped(z.string().max(40)),
});

/** `{ transactionId, phoneNumber, sourceIpAddress, currencyCode, amount }`; some write `currency`. */
const Validation = z
  .object({
    phoneNumber: CallbackPhone,
    currencyCode: z.string().optional(),
    currency: z.string().optional(),
    amount: z.union([z.string(), z.number().transform(String)]),
  })
  .transform(({ currencyCode, currency, ...rest }) => ({
    ...rest,
    currency: currencyCode ?? currency ?? '',
  }));

const Verdict = z.object({ status: z.enum(['Validated', 'Failed']) });

const ACCEPTED = ['application/json', 'application/x-www-form-urlencoded'];

/**
 * What Africa's Talking calls about airtime (docs/contract.md section 4, decision 29): how an order went, and
 * whether we asked for it at all. What is no report of ours is acknowledged, counted, and changes nothing.
 */
export async function airtimeOfAfricastalking(app: FastifyInstance, parts: AirtimeParts): Promise<void> {
  await app.register(async (scope) => statusOf(scope, parts));
  await app.register(async (scope) => validationOf(scope, parts));
}

function statusOf(app: FastifyInstance, parts: AirtimeParts): void {
  acknowledge(app, STATUS);
  refuseOthers(app, STATUS, ['POST'], { callback: STATUS });
  app.withTypeProvider<ZodTypeProvider>().route({
    method: 'POST',
    url: STATUS,
    bodyLimit: CALLBACK_BYTES,
    config: { callback: STATUS, unproven: 'OK' },
    schema: {
      summary: 'How an airtime order went',
      description: 'Always `OK`, rubbish included; 503 where it could not be kept, so that it is sent again.',
      tags: ['callbacks'],
      consumes: ACCEPTED,
      produces: ['text/plain'],
      body: Status,
      response: {
        200: z.string().describe('OK'),
        429: z.string().describe('Over the rate limit; Retry-After says for how long'),
        503: z.string().describe('To be sent again'),
      },
    },
    handler: async (request, reply) => {
      const { phoneNumber, status, requestId, value } = request.body;
      const facts = begin(request, STATUS, parts.pseudonym(phoneNumber));
      const authenticated = request.authenticated || !parts.production;
      // Unauthenticated: it leaves no row (decision 29).
      if (!authenticated) {
        facts.outcome = 'refused';
        return inWords(reply, 200, 'OK');
      }
      const [, currency, worth = ''] = /^([A-Z]{3}) (\S+)$/.exec(value ?? '') ?? [];
      const amount = inMinor(worth);
      const report = {
        providerId: requestId,
        recipient: phoneNumber,
        status,
        authenticated,
        ...(currency !== undefined && amount !== undefined && { value: { currency, amount } }),
      };
      facts.outcome = await parts.report(report, deadlineIn(ANSWER_MS));
      return inWords(reply, 200, 'OK');
    },
  });
}

function validationOf(app: FastifyInstance, parts: AirtimeParts): void {
  app.setErrorHandler((error: Error & { statusCode?: number; validation?: unknown }, request, reply) => {
    noteFailure(error, VALIDATION, request);
    // Nothing is sent that we cannot say we asked for: the order is tried again.
    return reply.code(200).send({ status: 'Failed' });
  });
  refuseOthers(app, VALIDATION, ['POST'], { callback: VALIDATION });
  app.withTypeProvider<ZodTypeProvider>().route({
    method: 'POST',
    url: VALIDATION,
    bodyLimit: CALLBACK_BYTES,
    config: { callback: VALIDATION },
    schema: {
      summary: 'Whether we asked for an airtime order',
      description: 'Asked before it is sent: `Validated` for what we are buying just now, else `Failed`.',
      tags: ['callbacks'],
      consumes: ACCEPTED,
      body: Validation,
      response: {
        200: Verdict,
        429: z.string().describe('Over the rate limit; Retry-After says for how long'),
      },
    },
    handler: async (request) => {
      const { phoneNumber, currency, amount } = request.body;
      const facts = begin(request, VALIDATION, parts.pseudonym(phoneNumber));
      const minor = inMinor(amount.replace(/^[A-Z]{3} /, ''));
      const expected =
        minor !== undefined && (await parts.isExpected(phoneNumber, currency, minor, deadlineIn(ANSWER_MS)));
      facts.outcome = expected ? 'stored' : 'unmatched';
      return { status: expected ? ('Validated' as const) : ('Failed' as const) };
    },
  });
}

function begin(request: FastifyRequest, route: string, msisdn: string): { outcome: string } {
  const facts = { route, outcome: 'unavailable', msisdn };
  request.callback = facts;
  return facts;
}

/** `500.00` as hundredths, exactly; undefined where it is no amount. */
function inMinor(amount: string): bigint | undefined {
  const [, units, cents = ''] = /^(\d{1,12})(?:\.(\d{1,2})0*)?$/.exec(amount) ?? [];
  return units === undefined ? undefined : BigInt(units) * 100n + BigInt(cents.padEnd(2, '0'));
}
