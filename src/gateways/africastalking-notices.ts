import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { deadlineIn } from '../deadline.ts';
import type { Notice, TakeNotice } from '../flow/notice.ts';
import { CallbackPhone, textOrInteger } from './callback-fields.ts';
import { acknowledge, CALLBACK_BYTES, inWords, toIso, whole } from './callbacks.ts';
import { ANSWER_MS, dropped, refuseOthers, UssdRequest } from './screens.ts';

const ROUTE = '/ussd/status';

/** No message needs more to say what went wrong; in characters. */
const ERROR_LENGTH = 200;

const DESCRIPTION = `Africa's Talking says that a session is over. Always \`OK\`, rubbish included: the first notice of a
session, phone and date stands. A notice that could not be stored because the database is away gets a 503, so that
it is sent again. What was typed is not kept.`;

/** The largest that the columns hold. */
const MOST = 2_147_483_647;

/** `KES 0.10`: exact to the last digit, so it is never made a float. */
const COST = /^(?:([A-Z]{3}) )?(\d{1,12}(?:\.\d{1,6})?)$/;

/** Characters of a status. Those that are documented are `Success`, `Incomplete` and `Failed`. */
const STATUS_LENGTH = 40;
/** Digits in a status: with more of them it could hold a PIN or a number, and is kept as `Unknown`. */
const MOST_DIGITS = 3;

function statusOf(said: string): string | undefined {
  const status = [...said.trim().toWellFormed()].slice(0, STATUS_LENGTH).join('').trimEnd();
  if (status === '') return undefined;
  const digits = status.match(/\p{N}/gu)?.length ?? 0;
  return digits > MOST_DIGITS || /[\p{C}\uFFFD@]/u.test(status) ? 'Unknown' : status;
}

/**
 * The fields that are read, and no others: `input`, `lastAppResponse` and `hopsMetadata` can hold a PIN. Who, when
 * and how make the notice; what is on the bill may be missing.
 */
const Status = z.object({
  date: z
    .string()
    .transform(toIso)
    .pipe(z.string())
    .meta({ description: 'yyyy-MM-dd HH:mm:ss in UTC, or ISO 8601.', example: '2025-09-29 12:00:00' }),
  ...UssdRequest.pick({ sessionId: true, serviceCode: true }).shape,
  phoneNumber: CallbackPhone,
  status: textOrInteger(z.string().transform(statusOf))
    .pipe(z.string())
    .meta({ description: 'Success, Incomplete, Failed, or another word.', example: 'Success' }),
  networkCode: whole(999_999_999, 'MCC and MNC of the network.'),
  cost: dropped(z.union([z.number().transform(String), z.string()]).pipe(z.string().regex(COST))).meta({
    description: 'Currency and amount.',
    example: 'KES 0.10',
  }),
  durationInMillis: whole(MOST, 'How long the session was.'),
  hopsCount: whole(32_767, 'How many screens there were.'),
  errorMessage: dropped(z.string()).meta({ description: 'What went wrong, where something did.' }),
});

export type NoticeParts = { takeNotice: TakeNotice; pseudonym(msisdn: string): string };

/**
 * `POST /ussd/status`: the notice of the end of a session (africastalking-ussd), a form or JSON. It bears no
 * signature, so it closes only a dial of that session and phone (decision 23).
 */
export async function noticesOfAfricastalking(
  app: FastifyInstance,
  parts: NoticeParts & { gateway: string },
): Promise<void> {
  acknowledge(app, ROUTE);
  refuseOthers(app, ROUTE, ['POST'], { callback: ROUTE });
  app.withTypeProvider<ZodTypeProvider>().route({
    method: 'POST',
    url: ROUTE,
    config: { callback: ROUTE, unproven: 'OK' },
    bodyLimit: CALLBACK_BYTES,
    schema: {
      summary: 'The end of a USSD session',
      description: DESCRIPTION,
      tags: ['ussd'],
      consumes: ['application/json', 'application/x-www-form-urlencoded'],
      produces: ['text/plain'],
      body: Status,
      response: {
        200: z.string().describe('OK'),
        429: z.string().describe('Over the rate limit; Retry-After says for how long'),
        503: z.string().describe('Not stored: it is to be sent again'),
      },
    },
    handler: async (request, reply) => {
      const deadline = deadlineIn(ANSWER_MS);
      const msisdn = parts.pseudonym(request.body.phoneNumber);
      request.callback = { route: ROUTE, outcome: 'unavailable', msisdn };
      const notice = noticeOf(parts.gateway, request.body);
      request.callback.outcome = await parts.takeNotice(notice, deadline);
      return inWords(reply, 200, 'OK');
    },
  });
}

function noticeOf(gateway: string, said: z.output<typeof Status>): Notice {
  const { sessionId, serviceCode, phoneNumber: msisdn, date, status } = said;
  const { networkCode, durationInMillis: duration, hopsCount: hops } = said;
  const [, currency, amount] = COST.exec(said.cost ?? '') ?? [];
  const error = [...(said.errorMessage ?? '').toWellFormed()].slice(0, ERROR_LENGTH).join('');
  return {
    gateway,
    sessionId,
    serviceCode,
    msisdn,
    date,
    status,
    ...(networkCode !== undefined && { networkCode }),
    ...(amount !== undefined && { cost: { amount, ...(currency !== undefined && { currency }) } }),
    ...(duration !== undefined && { duration }),
    ...(hops !== undefined && { hops }),
    ...(error !== '' && { error }),
  };
}
