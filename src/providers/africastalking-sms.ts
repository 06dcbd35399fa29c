import { z } from 'zod';
import { digitsOf, idOf, MSISDN, type Post } from './africastalking-wire.ts';
import { type Money, ProviderError, type SmsBatch, type SmsProvider, type SmsVerdict } from './provider.ts';

/**
 * Recipients a call. The far side names no limit; ours bounds what is uncertain when one answer is lost.
 */
const MOST = 100;

/**
 * What the endpoint answers: `{ SMSMessageData: { Message, Recipients[{ statusCode, number, status, cost,
 * messageId }] } }`. Each recipient is read by itself, so that one oddity does not hide the others.
 */
const Answer = z.object({
  SMSMessageData: z.object({ Message: z.string().catch(''), Recipients: z.array(z.unknown()).default([]) }),
});
const Recipient = z.object({
  number: z.union([z.string(), z.number()]).transform(String),
  statusCode: z.union([z.number(), z.string()]).optional().catch(undefined),
  status: z.string().catch(''),
  messageId: z.unknown().optional(),
  cost: z.unknown().optional(),
});

type Judged = Pick<SmsVerdict, 'outcome' | 'code' | 'statusCode'>;

/**
 * What each code means for us (https://developers.africastalking.com/docs/sms/sending). `later` where a try
 * at another time can end differently without the message being another one.
 */
const CODES: [statusCode: number, status: string, outcome: Judged['outcome'], code: string][] = [
  [100, 'Processed', 'accepted', 'processed'],
  [101, 'Sent', 'accepted', 'sent'],
  [102, 'Queued', 'accepted', 'queued'],
  // Held by the far side for a look at it; it can be let go.
  [401, 'RiskHold', 'later', 'risk_hold'],
  // The sender id is not ours: registering one takes days, and by then the message is stale.
  [402, 'InvalidSenderId', 'refused', 'invalid_sender_id'],
  // These two are the number itself: none, or a line that cannot receive.
  [403, 'InvalidPhoneNumber', 'refused', 'invalid_phone_number'],
  [404, 'UnsupportedNumberType', 'refused', 'unsupported_number_type'],
  // Our account is empty; an operator tops it up.
  [405, 'InsufficientBalance', 'later', 'insufficient_balance'],
  // The subscriber opted out of us: to ask again would be to press.
  [406, 'UserInBlacklist', 'refused', 'user_in_blacklist'],
  // There is no route to this network from our account, and none appears by itself.
  [407, 'CouldNotRoute', 'refused', 'could_not_route'],
  // The subscriber is on the do-not-disturb list of the network.
  [409, 'DoNotDisturbRejection', 'refused', 'do_not_disturb'],
  [500, 'InternalServerError', 'later', 'internal_server_error'],
  [501, 'GatewayError', 'later', 'gateway_error'],
  // The network would not take it and does not say why; as often its load as our message.
  [502, 'RejectedByGateway', 'later', 'rejected_by_gateway'],
];
const BY_CODE = new Map(CODES.map(([number, , outcome, code]) => [number, { outcome, code }]));
const BY_STATUS = new Map<string, Judged>([
  ...CODES.map(([statusCode, status, outcome, code]): [string, Judged] => [
    status,
    { outcome, code, statusCode },
  ]),
  // Older answers have no statusCode, and this word for any that was taken.
  ['Success', { outcome: 'accepted', code: 'sent' }],
]);

/** Messages by `POST /version1/messaging`; from a short code that can be answered, on the content host. */
export function africasTalkingSms(post: Post, baseUrl: string, contentUrl: string): SmsProvider {
  return {
    name: 'africastalking',
    most: MOST,
    send: async (batch) => {
      if (batch.to.length > MOST) throw new ProviderError('refused_batch', false);
      // One text once to one phone, however often it is named.
      const numbers = [...new Set(batch.to.filter((number) => MSISDN.test(number)))];
      const verdicts = new Map<string, SmsVerdict>();
      if (numbers.length > 0) {
        const base = batch.twoWay === undefined ? baseUrl : contentUrl;
        const answer = await post(`${base}/version1/messaging`, batch.key, fieldsOf(batch, numbers));
        for (const verdict of judge(numbers, answer)) verdicts.set(verdict.to, verdict);
      }
      return batch.to.map(
        (to) => verdicts.get(to) ?? { to, outcome: 'refused', code: 'invalid_phone_number' },
      );
    },
  };
}

function fieldsOf({ text, from, twoWay }: SmsBatch, numbers: string[]): Record<string, string> {
  return {
    to: numbers.join(','),
    message: text,
    ...(from !== undefined && { from }),
    // `enqueue`: the answer does not wait for the network, whose word comes as a delivery report anyway.
    ...(twoWay === undefined ? { bulkSMSMode: '1', enqueue: '1' } : { bulkSMSMode: '0' }),
    ...(twoWay?.keyword !== undefined && { keyword: twoWay.keyword }),
    ...(twoWay?.linkId !== undefined && { linkId: twoWay.linkId }),
    ...(twoWay?.retryHours !== undefined && { retryDurationInHours: `${twoWay.retryHours}` }),
  };
}

function judge(numbers: string[], answer: unknown): SmsVerdict[] {
  const read = Answer.safeParse(answer);
  if (!read.success) throw new ProviderError('malformed', true);
  const { Message, Recipients } = read.data.SMSMessageData;
  const otherwise = Recipients.length === 0 ? ofAll(Message, numbers.length) : MISSING;
  const said = new Map<string, SmsVerdict>();
  const owner = ownerAmong(numbers);
  for (const each of Recipients) {
    const recipient = Recipient.safeParse(each).data;
    const to = recipient && owner(recipient.number);
    if (recipient === undefined || to === undefined) continue;
    const verdict = verdictOn(to, recipient);
    const before = said.get(to);
    if (before === undefined || WEIGHT[verdict.outcome] > WEIGHT[before.outcome]) said.set(to, verdict);
  }
  return numbers.map((to) => said.get(to) ?? { to, ...otherwise });
}

const MISSING: Judged = { outcome: 'later', code: 'missing' };

/**
 * Of two verdicts on one recipient: what was taken once is not sent again, and a message is rather tried
 * again than lost.
 */
const WEIGHT = { accepted: 2, later: 1, refused: 0 };

/** An answer without recipients may say in one word why: `{ Message: "InvalidSenderId", Recipients: [] }`. */
function ofAll(message: string, count: number): Judged {
  const judged = BY_STATUS.get(message.trim());
  if (judged === undefined || judged.outcome === 'accepted') return MISSING;
  // Of several numbers it does not say which one is meant; sent alone, each gets its own answer.
  const meansAll = count === 1 || judged.code === 'invalid_sender_id';
  return judged.outcome === 'refused' && !meansAll ? { ...judged, outcome: 'later' } : judged;
}

/**
 * Whose number this is, in whatever spelling: with or without `+`, `00` or spaces; or as dialled at home,
 * where that fits only one of them.
 */
function ownerAmong(numbers: string[]): (said: string) => string | undefined {
  const byDigits = new Map(numbers.map((number) => [digitsOf(number), number]));
  return (said) => {
    const digits = digitsOf(said);
    const whole = byDigits.get(digits);
    if (whole !== undefined) return whole;
    const [, local] = /^0(\d{7,})$/.exec(digits) ?? [];
    const fitting = local === undefined ? [] : numbers.filter((number) => number.endsWith(local));
    return fitting.length === 1 ? fitting[0] : undefined;
  };
}

function verdictOn(to: string, recipient: z.infer<typeof Recipient>): SmsVerdict {
  const { statusCode, status, messageId, cost } = recipient;
  const providerId = idOf(messageId);
  const number = statusCode === undefined ? Number.NaN : Number(statusCode);
  const judged = judgedOf(number, status, providerId);
  const money = moneyOf(cost);
  return {
    to,
    ...judged,
    ...(Number.isInteger(number) && Math.abs(number) < 1_000 && { statusCode: number }),
    ...(judged.outcome === 'accepted' && providerId !== undefined && { providerId }),
    ...(money !== undefined && { cost: money }),
  };
}

function judgedOf(statusCode: number, status: string, providerId: string | undefined): Judged {
  const known = BY_CODE.get(statusCode) ?? (Number.isNaN(statusCode) ? BY_STATUS.get(status) : undefined);
  if (known !== undefined) return known;
  const code = Number.isInteger(statusCode) ? `status_${Math.abs(statusCode) % 1000}` : 'status_unknown';
  // The hundreds are those that were taken. No other new code is documented as final.
  const taken = statusCode >= 100 && statusCode < 200 && providerId !== undefined;
  return { outcome: taken ? 'accepted' : 'later', code };
}

/** `KES 0.8000`; one that costs nothing says `0`, and that is no amount of any currency. (Nor is ten digits one.) */
function moneyOf(cost: unknown): Money | undefined {
  const said = typeof cost === 'string' ? cost : '';
  const [, currency, amount] = /^([A-Z]{3}) (\d{1,9}(?:\.\d{1,8})?)$/.exec(said) ?? [];
  return currency === undefined || amount === undefined ? undefined : { currency, amount };
}
