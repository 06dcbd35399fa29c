import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { deadlineIn } from '../deadline.ts';
import type { Deadline } from '../flow/heard.ts';
import { CallbackPhone, phoneIn, textOrInteger, wordInAnyCase } from './callback-fields.ts';
import { acknowledge, CALLBACK_BYTES, type CallbackFacts, inWords, toIso, whole } from './callbacks.ts';
import { ANSWER_MS, dropped, refuseOthers } from './screens.ts';

/** A message that came in; `msisdn` where it is from a phone, `quotes` where its answer may quote it. */
export type IncomingSms = {
  id: string;
  from: string;
  msisdn?: string;
  to: string;
  text: string;
  linkId?: string;
  sentAt?: Date;
  quotes: boolean;
};

const STATUSES = [
  'Sent',
  'Submitted',
  'Buffered',
  'Rejected',
  'Success',
  'Failed',
  'AbsentSubscriber',
  'Expired',
] as const;

/** What became of a message that we sent. */
export type SmsReport = {
  providerId: string;
  msisdn: string;
  status: (typeof STATUSES)[number];
  reason?: string;
  network?: number;
};

export type SmsCallbackParts = {
  /** Keeps a message and answers it: what came of it, for the counts. */
  hear(
    message: IncomingSms,
    deadline: Deadline,
  ): Promise<{ outcome: 'stored' | 'repeated'; answer?: string }>;
  report(report: SmsReport, deadline: Deadline): Promise<'stored' | 'repeated' | 'unmatched'>;
  /** `senderId` is empty where the callback names none. */
  optOut(msisdn: string, senderId: string, deadline: Deadline): Promise<'stored' | 'repeated'>;
  subscribe(
    change: { msisdn: string; shortCode: string; keyword: string; active: boolean },
    deadline: Deadline,
  ): Promise<'stored' | 'repeated'>;
  pseudonym(msisdn: string): string;
  /** In production nothing is quoted to a phone that an unauthenticated callback names (decision 29). */
  production: boolean;
};

const TWOWAY = '/sms/twoway';
const REPORTS = '/sms/delivery-reports';
const OPT_OUT = '/sms/opt-out';
const SUBSCRIPTION = '/sms/subscription';

/** Ten SMS in one, and some; in characters. The rest is cut off. */
const TEXT_LENGTH = 1_600;
/** Of a reason; in characters. */
const REASON_LENGTH = 40;

/**
 * Bytes of a message that comes in. No message has more than 255 parts of 153 septets or 67 UCS-2 code units
 * (3GPP TS 23.040 §9.2.3.24.1); as a form that is 234 KiB at the most, and twelve bytes for each of the `TEXT_LENGTH`
 * characters that are kept are 19.
 */
const MESSAGE_BYTES = 256 * 1024;

const ACCEPTED = ['application/json', 'application/x-www-form-urlencoded'];

const Given = textOrInteger(z.string().min(1));

const Message = z.object({
  linkId: dropped(z.string().regex(/^[!-~]{1,100}$/)).meta({
    description: 'Of the message that it answers, or that is to be named by its answer.',
  }),
  text: Given.transform((text) => [...text.toWellFormed()].slice(0, TEXT_LENGTH).join('')),
  to: Given.meta({ description: 'The short code that it was sent to.', example: '12345' }),
  id: Given.meta({ description: 'The same for every copy of the message.' }),
  date: Given.meta({ description: 'UTC, yyyy-MM-dd HH:mm:ss.', example: '2026-03-04 10:30:00' }),
  from: Given.meta({ description: 'Who sent it.', example: '+254711000111' }),
});

/** A reason of a failure in the provider's words: letters, and no digits enough for a phone number. */
const Reason = dropped(
  z
    .string()
    .regex(/^[A-Za-z0-9 _-]+$/)
    .refine((reason) => !/\d{6}/.test(reason))
    .transform((reason) => reason.slice(0, REASON_LENGTH)),
);

const Report = z.object({
  id: textOrInteger(z.string().regex(/^[!-~]{1,100}$/)),
  status: wordInAnyCase(STATUSES),
  phoneNumber: CallbackPhone,
  networkCode: whole(999_999_999, 'MCC and MNC of the network.'),
  failureReason: Reason.meta({ description: 'Why it failed, in one word.' }),
});

const OptOut = z.object({
  // A person said no: that is kept whatever else is missing or cannot be read.
  senderId: textOrInteger(z.string())
    .catch('')
    .transform((sender) => sender.toWellFormed().trim())
    .meta({
      description: 'Of whom the phone wants nothing more. Without one it wants nothing more of anyone.',
      example: 'MyBrand',
    }),
  phoneNumber: CallbackPhone,
});

const Subscription = z.object({
  phoneNumber: CallbackPhone,
  shortCode: textOrInteger(z.string().regex(/^\d{3,8}$/)),
  keyword: z
    .string()
    .regex(/^\P{C}{1,40}$/u)
    .refine((keyword) => keyword.trim() !== '')
    .refine((keyword) => !/\d{6}/.test(keyword)),
  updateType: wordInAnyCase(['addition', 'deletion']),
});

const AGAIN = z.string().describe('Not kept: it is to be sent again');
const LIMITED = z.string().describe('Over the rate limit; Retry-After says for how long');

/**
 * What Africa's Talking calls about messages (africastalking-sms): one that came in, what became of one that we
 * sent, who wants no more, who subscribes. Forms or JSON; whatever cannot be kept is asked for again.
 */
export async function smsOfAfricastalking(app: FastifyInstance, parts: SmsCallbackParts): Promise<void> {
  app.withTypeProvider<ZodTypeProvider>().route({
    method: 'GET',
    url: '/sms/',
    schema: {
      summary: "Whether Africa's Talking reaches us",
      tags: ['sms'],
      response: { 200: z.object({ service: z.literal('sms'), status: z.literal('ready') }), 429: LIMITED },
    },
    handler: async () => ({ service: 'sms' as const, status: 'ready' as const }),
  });
  refuseOthers(app, '/sms/', ['GET', 'HEAD']);

  await app.register(async (scope) => incomingOf(scope, parts));
  await mount(app, REPORTS, 'What became of a message', Report, async (said, facts, deadline) => {
    const { id: providerId, status, phoneNumber: msisdn, failureReason: reason, networkCode: network } = said;
    facts.msisdn = parts.pseudonym(msisdn);
    const more = { ...(reason !== undefined && { reason }), ...(network !== undefined && { network }) };
    return parts.report({ providerId, msisdn, status, ...more }, deadline);
  });
  await mount(
    app,
    OPT_OUT,
    'A phone wants no more messages of a sender',
    OptOut,
    async (said, facts, deadline) => {
      facts.msisdn = parts.pseudonym(said.phoneNumber);
      return parts.optOut(said.phoneNumber, said.senderId, deadline);
    },
  );
  await mount(
    app,
    SUBSCRIPTION,
    'A phone subscribes, or does not any more',
    Subscription,
    async (said, facts, deadline) => {
      const { phoneNumber: msisdn, shortCode, keyword, updateType } = said;
      facts.msisdn = parts.pseudonym(msisdn);
      return parts.subscribe({ msisdn, shortCode, keyword, active: updateType === 'addition' }, deadline);
    },
  );
}

/** `POST /sms/twoway`: the one callback that says when it is not understood. */
function incomingOf(app: FastifyInstance, parts: SmsCallbackParts): void {
  acknowledge(app, TWOWAY, { status: 400, words: 'BAD' }, { status: 200, words: 'GOOD' });
  refuseOthers(app, TWOWAY, ['POST'], { callback: TWOWAY });
  app.withTypeProvider<ZodTypeProvider>().route({
    method: 'POST',
    url: TWOWAY,
    config: { callback: TWOWAY, unproven: 'GOOD' },
    bodyLimit: MESSAGE_BYTES,
    schema: {
      summary: 'A message that came in',
      description: `Kept once by its \`id\`, and answered once where there is an answer to it. \`GOOD\`, a repeat
included; \`BAD\` where a field is missing. A body above 256 KiB is \`GOOD\` and dropped.`,
      tags: ['sms'],
      consumes: ACCEPTED,
      produces: ['text/plain'],
      body: Message,
      response: {
        200: z.string().describe('GOOD'),
        400: z.string().describe('BAD'),
        429: LIMITED,
        503: AGAIN,
      },
    },
    handler: async (request, reply) => {
      const { linkId, text, to, id, date, from } = request.body;
      const msisdn = phoneIn(from);
      const facts = begin(request, TWOWAY);
      facts.msisdn = parts.pseudonym(msisdn ?? from);
      const sentAt = toIso(date);
      const message: IncomingSms = {
        id,
        from,
        to,
        text,
        quotes: request.authenticated || !parts.production,
        ...(msisdn !== undefined && { msisdn }),
        ...(linkId !== undefined && { linkId }),
        ...(sentAt !== undefined && { sentAt: new Date(sentAt) }),
      };
      Object.assign(facts, await parts.hear(message, deadlineIn(ANSWER_MS)));
      return inWords(reply, 200, 'GOOD');
    },
  });
}

/** A callback that is always told `OK`. */
async function mount<S extends z.ZodType>(
  app: FastifyInstance,
  url: string,
  summary: string,
  body: S,
  keep: (said: z.output<S>, facts: CallbackFacts, deadline: Deadline) => Promise<string>,
): Promise<void> {
  await app.register(async (scope) => {
    acknowledge(scope, url);
    refuseOthers(scope, url, ['POST'], { callback: url });
    scope.route({
      method: 'POST',
      url,
      config: { callback: url, unproven: 'OK' },
      bodyLimit: CALLBACK_BYTES,
      schema: {
        summary,
        description:
          'Always `OK`, rubbish included; 503 where it could not be kept, so that it is sent again.',
        tags: ['sms'],
        consumes: ACCEPTED,
        produces: ['text/plain'],
        body,
        response: { 200: z.string().describe('OK'), 429: LIMITED, 503: AGAIN },
      },
      handler: async (request, reply) => {
        const facts = begin(request, url);
        facts.outcome = await keep(request.body as z.output<S>, facts, deadlineIn(ANSWER_MS));
        return inWords(reply, 200, 'OK');
      },
    });
  });
}

function begin(request: FastifyRequest, route: string): CallbackFacts {
  const facts: CallbackFacts = { route, outcome: 'unavailable' };
  request.callback = facts;
  return facts;
}
