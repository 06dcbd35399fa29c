import { z } from 'zod';
import { digitsOf, idOf, MSISDN, type Post } from './africastalking-wire.ts';
import { type AirtimeOrder, type AirtimeProvider, type AirtimeTaken, ProviderError } from './provider.ts';

/**
 * What the endpoint answers: `{ errorMessage, numSent, totalAmount, totalDiscount, responses[{ phoneNumber,
 * amount, status, requestId, discount, errorMessage }] }`. `errorMessage` is `None` where there is none; one
 * that holds for the whole call comes with no responses.
 */
const Answer = z.object({
  errorMessage: z.string().catch(''),
  responses: z.array(z.unknown()).default([]),
});
const Response = z.object({
  phoneNumber: z.string(),
  status: z.string().catch(''),
  requestId: z.unknown().optional(),
  errorMessage: z.string().catch(''),
});

/** `Sent` and `Queued` are on their way to the network, `Success` has arrived: taken in every case. */
const TAKEN = new Set(['sent', 'success', 'queued', 'processed']);

/**
 * Why an order was not taken, by the words of `errorMessage` or of `status`; there are no codes. The first
 * line that fits holds. Final is only what no later try and no operator can change: the number, the amount.
 */
const REASONS: [words: RegExp, code: string, retryable: boolean][] = [
  // The same amount to the same phone within five minutes. It says nothing about which call it was: an
  // earlier one of ours whose answer was lost, or another order. Either is over after five minutes.
  [/duplicate/i, 'refused_duplicate', true],
  [/invalid.*(phone|number|msisdn)|(phone|number|msisdn).*(invalid|not valid)/i, 'refused_number', false],
  // Our own account: topped up, or airtime enabled for it, by an operator.
  [/insufficient|not enough|credit|balance/i, 'refused_balance', true],
  [/not enabled|authenti|authoriz|permission/i, 'refused_account', true],
  [/not ?supported|unsupported/i, 'refused_number', false],
  [/invalid.*(amount|currency)|(amount|currency).*(invalid|must)/i, 'refused_amount', false],
  [/allowed limits|(min|max)imum/i, 'refused_amount', false],
  [/InvalidRequest|invalid request/i, 'refused_request', false],
];

/**
 * Airtime by `POST /version1/airtime/send`, one phone a call. There is no `listSales`: the API finds one transaction by
 * its id (`GET /version1/airtime/status`, `findTransactionStatus` of the vendor's SDK) and lists none; the list at
 * `/query/transaction/fetch` is of its payments product. What it sold is exported from its dashboard (docs/airtime.md).
 */
export function africasTalkingAirtime(post: Post, baseUrl: string): AirtimeProvider {
  return {
    name: 'africastalking',
    send: async (order) => {
      const recipients = JSON.stringify([{ phoneNumber: phoneOf(order), amount: amountOf(order) }]);
      return judge(order, await post(`${baseUrl}/version1/airtime/send`, order.key, { recipients }));
    },
  };
}

function phoneOf({ to }: AirtimeOrder): string {
  if (!MSISDN.test(to)) throw new ProviderError('refused_number', false);
  return to;
}

/** `KES 100` or `KES 100.50`: whole units and hundredths, without ever being a floating-point number. */
function amountOf({ currency, amountMinor }: AirtimeOrder): string {
  if (!/^[A-Z]{3}$/.test(currency) || amountMinor <= 0n) throw new ProviderError('refused_amount', false);
  const digits = `${amountMinor}`.padStart(3, '0');
  const hundredths = digits.slice(-2);
  return `${currency} ${digits.slice(0, -2)}${hundredths === '00' ? '' : `.${hundredths}`}`;
}

function judge({ key, to }: AirtimeOrder, answer: unknown): AirtimeTaken {
  const read = Answer.safeParse(answer);
  if (!read.success) throw new ProviderError('malformed', true);
  const mentions = read.data.responses
    .map((response) => Response.safeParse(response).data)
    .filter((response) => response !== undefined)
    .filter(({ phoneNumber }) => digitsOf(phoneNumber) === digitsOf(to));
  const taken = mentions.find(({ status }) => TAKEN.has(status.toLowerCase()));
  if (taken !== undefined) {
    // Taken, but without a name: its notice will never be matched, and asking again could buy it twice.
    return { providerId: idOf(taken.requestId) ?? `unnamed-${key}`, code: taken.status.toLowerCase() };
  }
  const [refused] = mentions;
  if (refused !== undefined) throw reasonOf(refused.errorMessage, refused.status);
  if (read.data.responses.length === 0) throw reasonOf(read.data.errorMessage, '');
  throw new ProviderError('missing', true);
}

/** The words stay here: they are the far side's, and may quote the number. */
function reasonOf(errorMessage: string, status: string): ProviderError {
  for (const said of [errorMessage, status]) {
    const reason = REASONS.find(([words]) => words.test(said));
    if (reason !== undefined) return new ProviderError(reason[1], reason[2]);
  }
  // A reason that is not known to be final: with the same key another try costs nothing.
  return new ProviderError(errorMessage === '' && status === '' ? 'malformed' : 'refused_unknown', true);
}
