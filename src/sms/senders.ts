import { setTimeout as sleep } from 'node:timers/promises';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { segmentsOf } from '../flow/text.ts';
import type { Guard } from '../guard.ts';
import type { SeenMessage } from '../store/message-view.ts';
import type { SmsKind } from '../store/messages.ts';
import { answerOf, isAnswered } from './answer.ts';

/** What an operator wants sent: one text, to phones in E.164, each once. */
export type Sending = {
  kind: Extract<SmsKind, 'bulk' | 'twoWay'>;
  to: string[];
  text: string;
  /** By which a repeat is told. */
  key?: string | undefined;
};

export type SendersParts = {
  guard: Guard;
  pseudonym(msisdn: string): string;
  /** Writes and queues it; the id of the request, or `other` where its key belongs to another one. */
  send(sending: Sending): Promise<string | 'other'>;
  /** The messages of a request. */
  messagesOf(requestId: string): Promise<SeenMessage[]>;
  /** Whether there is a short code to send from that can be answered. */
  hasShortCode: boolean;
  /** How long the provider's word is waited for, and how often it is looked for. Default: `WAIT`. */
  wait?: { forMs: number; everyMs: number };
};

/** What is said where nothing is (africastalking-sms). */
const GREETING = "Hello from Africa's Talking!";

/** In one request; more is a campaign, and wants to be several. */
const MOST_PHONES = 10_000;
/** Longer texts are rather a mistake, and cost what they weigh. */
const MOST_SEGMENTS = 10;
/** Room for all of them as JSON that is indented, and for a text of ten SMS in escapes. */
const BODY_BYTES = 1024 * 1024;

/** The provider's word is waited for so long; then the answer is that it is queued (5 s are promised). */
export const WAIT = { forMs: 4_500, everyMs: 150 };

const Wanted = z.object({
  phone: z
    .union([z.string(), z.array(z.string())])
    .optional()
    .describe('With or without +; several by commas, or as an array.'),
  message: z.string().optional().describe(`Where there is none: ${GREETING}`),
});

const Failure = z.object({ error: z.string() });
const Sent = z.object({
  message: z.string(),
  response: z.object({
    SMSMessageData: z.object({
      Message: z.string(),
      Recipients: z.array(
        z.object({
          statusCode: z.int(),
          number: z.string(),
          cost: z.string(),
          status: z.string(),
          messageId: z.string(),
        }),
      ),
    }),
  }),
});
const Queued = z.object({
  message: z.string(),
  messages: z.array(z.object({ id: z.uuid(), phoneNumber: z.string(), state: z.string() })),
});

const RESPONSES = {
  200: Sent.describe('The provider has answered'),
  202: Queued.describe('It is queued: /api/sms/messages tells what becomes of it'),
  400: Failure,
  401: Failure,
  403: Failure,
  404: Failure,
  409: Failure.describe('The Idempotency-Key belongs to another request'),
  429: Failure,
  503: Failure,
};

/**
 * `invoke-bulk-sms` and `invoke-twoway-sms` (africastalking-sms, docs/contract.md section 5): GET as printed, and POST.
 * What is sent is a row before it is sent; `Idempotency-Key` makes a repeat the same messages (decision 32).
 */
export async function senders(app: FastifyInstance, parts: SendersParts): Promise<void> {
  const routes = [
    { url: '/sms/invoke-bulk-sms', kind: 'bulk', summary: 'Sends a text to phones that want it' },
    { url: '/sms/invoke-twoway-sms', kind: 'twoWay', summary: 'Sends a text that can be answered' },
  ] as const;
  const typed = app.withTypeProvider<ZodTypeProvider>();
  for (const { url, kind, summary } of routes) {
    const onRequest = parts.guard('send');
    const described = { tags: ['sms'], security: [{ operator: [] }], summary, response: RESPONSES };
    // HEAD only asks what an answer would look like: it is to send nothing.
    const schema = { ...described, querystring: Wanted };
    typed.get(url, { onRequest, schema, exposeHeadRoute: false }, async (request, reply) => {
      await answer(parts, kind, request, reply, request.query);
    });
    typed.post(
      url,
      {
        onRequest,
        bodyLimit: BODY_BYTES,
        schema: {
          ...described,
          consumes: ['application/json', 'application/x-www-form-urlencoded'],
          body: Wanted.nullish(),
          querystring: Wanted,
        },
      },
      async (request, reply) => {
        await answer(parts, kind, request, reply, { ...request.query, ...request.body });
      },
    );
  }
}

async function answer(
  parts: SendersParts,
  kind: Sending['kind'],
  request: FastifyRequest,
  reply: FastifyReply,
  { phone, message: text = GREETING }: z.output<typeof Wanted>,
): Promise<FastifyReply> {
  const key = request.headers['idempotency-key'];
  const refused =
    refusal(listed(phone), text) ??
    (isKey(key) ? undefined : BAD_KEY) ??
    (kind === 'twoWay' && !parts.hasShortCode ? NO_SHORT_CODE : undefined);
  if (refused !== undefined) return reply.code(refused.status).send({ error: refused.error });
  const to = phonesIn(listed(phone));
  const id = await parts.send({ kind, to, text, ...(typeof key === 'string' && { key }) });
  request.log.info(
    {
      operator: request.operator,
      kind,
      count: to.length,
      ...(to.length === 1 && { msisdn: parts.pseudonym(to[0] ?? '') }),
      request: id,
    },
    'sms',
  );
  if (id === 'other') return reply.code(409).send({ error: 'Idempotency-Key belongs to another request' });
  const messages = await answered(parts, id);
  const phones = to.length > 10 ? `${to.length} phones` : to.join(', ');
  if (messages.every(isAnswered))
    return reply.send({ message: `SMS sent to ${phones}`, response: answerOf(messages) });
  return reply.code(202).send({
    message: `SMS queued for ${phones}`,
    messages: messages.map(({ id, phoneNumber, state }) => ({ id, phoneNumber, state })),
  });
}

/** The messages of a request when the provider has said what becomes of them, or after a while as they are. */
async function answered(parts: SendersParts, id: string): Promise<SeenMessage[]> {
  const { forMs, everyMs } = parts.wait ?? WAIT;
  const until = performance.now() + forMs;
  for (;;) {
    const messages = await parts.messagesOf(id);
    if (messages.every(isAnswered) || performance.now() > until) return messages;
    await sleep(everyMs);
  }
}

const NO_SHORT_CODE = { status: 503, error: 'AT_SHORTCODE is not set: there is nothing to send from' };

const BAD_KEY = { status: 400, error: 'Idempotency-Key must be 1 to 200 characters' };
const LONGEST_KEY = 200;

/** An empty one, as a template leaves it that was not filled in, would make everybody's requests one. */
function isKey(key: unknown): boolean {
  if (key === undefined) return true;
  if (typeof key !== 'string' || key.trim() === '') return false;
  // Node reads a header as Latin-1: each byte of a letter is a character of its own.
  return [...Buffer.from(key, 'latin1').toString()].length <= LONGEST_KEY;
}

/** Why nothing of it can be sent; every number that is none is named. */
function refusal(phones: string[], message: string): { status: number; error: string } | undefined {
  const bad = (error: string) => ({ status: 400, error });
  if (phones.length === 0) return bad("Missing 'phone' query parameter");
  if (phones.length > MOST_PHONES) return bad(`More than ${MOST_PHONES} phones in one request`);
  const none = phones.filter((number) => !PHONE.test(number));
  if (none.length > 0)
    return bad(`No phone numbers: ${none.map((number) => number.slice(0, 40)).join(', ')}`);
  if (message.trim() === '') return bad("Empty 'message'");
  if (!message.isWellFormed() || /[^\P{Cc}\n\r\t]/u.test(message)) return bad("'message' holds no text");
  const segments = segmentsOf(message);
  return segments > MOST_SEGMENTS
    ? bad(`'message' takes ${segments} SMS, at most ${MOST_SEGMENTS}`)
    : undefined;
}

const PHONE = /^\+?[1-9]\d{6,14}$/;

/** In E.164, each once. */
function phonesIn(phones: string[]): string[] {
  return [...new Set(phones.map((number) => `+${number.replace('+', '')}`))];
}

/** In a query a bare + is a space. */
function listed(phone: string | string[] | undefined): string[] {
  const all = typeof phone === 'string' ? [phone] : (phone ?? []);
  return all.flatMap((each) => each.split(',')).flatMap((each) => (each.trim() === '' ? [] : [each.trim()]));
}
