import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { deadlineIn } from '../deadline.ts';
import type { Deadline } from '../flow/heard.ts';
import { isSameSecret } from '../http/same-secret.ts';
import { textOrInteger, withPlus } from './callback-fields.ts';
import { inWords, noteFailure, tooMany } from './callbacks.ts';
import { ANSWER_MS, refuseOthers } from './screens.ts';

const ROUTE = '/telerivet/ussd-listener';

const LANGUAGES = ['English', 'French'] as const;
const LOCATIONS = ['Dakar', 'Touba', 'Thies'] as const;
const SUPPORT_TYPES = ['Shelter', 'Legal', 'Food and Clothing'] as const;
const CALLBACKS = ['Yes', 'No'] as const;

/** The number of an option, as a number or as text, and what it stands for. */
const option = <const T extends string>(names: readonly T[]) =>
  textOrInteger(z.enum(names.map((_, index) => String(index + 1))))
    .transform((number) => names[Number(number) - 1] as T)
    .meta({ description: names.map((name, index) => `${index + 1} ${name}`).join(', ') });

/**
 * A number in E.164. A form whose plus was not written as `%2B` has a space there, and JSON may have a number. Without
 * a plus it has at least 11 digits: fewer are a number of some country only, and somebody else would be called.
 */
const From = textOrInteger(
  z
    .string()
    .regex(/^([+ ][1-9]\d{6,14}|[1-9]\d{10,14})$/)
    .transform(withPlus),
);

/** What was called: a service code, a short code or a number. */
const To = textOrInteger(z.string().regex(/^[0-9*#+]{1,40}$/));

const Posted = z.object({
  from_number: From.meta({ description: 'Who is to be called, E.164.' }),
  to_number: To.meta({ description: 'The code or number that was dialled.' }),
  language_option: option(LANGUAGES),
  location_option: option(LOCATIONS),
  support_type_option: option(SUPPORT_TYPES),
  callback_option: option(CALLBACKS),
});

export type TelerivetParts = {
  /** Without one every request is refused. */
  secret?: string;
  /** Takes a request for help, by the deadline. */
  askForHelp(
    request: { from: string; to: string; language: string; location: string; supportType: string },
    deadline: Deadline,
  ): Promise<void>;
  pseudonym(msisdn: string): string;
  /** Seconds to wait for an address that has tried too many wrong secrets. */
  limit(request: FastifyRequest): Promise<number | undefined>;
};

/**
 * `POST /telerivet/ussd-listener`: what a Telerivet Cloud Script posts when somebody has answered its questions
 * (twilio-flex-telerivet-ussd), a form or JSON. `Success` says that the request is kept; whatever else it says, it is
 * not, and may be posted again: a repeat within 48 h adds to the same task.
 */
export async function telerivetListener(app: FastifyInstance, parts: TelerivetParts): Promise<void> {
  app.setErrorHandler((error: Error & { statusCode?: number; validation?: unknown }, request, reply) => {
    if (noteFailure(error, ROUTE, request)) return inWords(reply, error.statusCode ?? 400, 'Bad request');
    return inWords(reply, 503, 'Service unavailable');
  });
  refuseOthers(app, ROUTE, ['POST'], { callback: ROUTE });
  app.withTypeProvider<ZodTypeProvider>().route({
    method: 'POST',
    url: ROUTE,
    config: { callback: ROUTE, proves: true },
    // Before anything is said of the fields: who does not know the secret learns nothing.
    preValidation: async (request, reply) => {
      const { secret: given } = (request.body ?? {}) as { secret?: unknown };
      if (parts.secret !== undefined && isSameSecret(given, parts.secret)) return;
      request.callback = { route: ROUTE, outcome: 'refused' };
      const wait = await parts.limit(request);
      return wait === undefined ? inWords(reply, 401, 'Unauthorized') : tooMany(reply, wait);
    },
    schema: {
      summary: 'A request for help that a Telerivet Cloud Script has asked the questions for',
      description: 'With the field `secret`, which is that of TELERIVET_SECRET.',
      tags: ['callbacks'],
      consumes: ['application/json', 'application/x-www-form-urlencoded'],
      produces: ['text/plain'],
      body: Posted,
      response: {
        200: z.string().describe('Success: it is kept, or no call was wanted'),
        400: z.string().describe('A field is missing, or none of its values'),
        401: z.string().describe('The secret is wrong or missing'),
        403: z.object({ error: z.string() }).describe('Not from a network of GATEWAY_ALLOW'),
        413: z.string().describe('More than 8 KiB'),
        429: z.string().describe('Over the rate limit; Retry-After says for how long'),
        503: z.string().describe('Not kept: it is to be posted again'),
      },
    },
    handler: async (request, reply) => {
      const { from_number: from, to_number: to, callback_option: callback } = request.body;
      const {
        language_option: language,
        location_option: location,
        support_type_option: supportType,
      } = request.body;
      request.callback = { route: ROUTE, outcome: 'unavailable', msisdn: parts.pseudonym(from) };
      if (callback === 'Yes')
        await parts.askForHelp({ from, to, language, location, supportType }, deadlineIn(ANSWER_MS));
      request.callback.outcome = callback === 'Yes' ? 'stored' : 'ignored';
      return inWords(reply, 200, 'Success');
    },
  });
}
