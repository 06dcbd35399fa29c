import type { SeenMessage } from '../store/message-view.ts';

/** What Africa's Talking answers to a send (africastalking-sms): the two senders answer in its shape. */
export type SmsAnswer = {
  SMSMessageData: {
    Message: string;
    Recipients: { statusCode: number; number: string; cost: string; status: string; messageId: string }[];
  };
};

const STATUS: Record<number, string> = {
  401: 'RiskHold',
  402: 'InvalidSenderId',
  403: 'InvalidPhoneNumber',
  404: 'UnsupportedNumberType',
  405: 'InsufficientBalance',
  406: 'UserInBlacklist',
  407: 'CouldNotRoute',
  409: 'DoNotDisturbRejection',
  500: 'InternalServerError',
  501: 'GatewayError',
  502: 'RejectedByGateway',
};

/** Decimals that the vendor writes. */
const DECIMALS = 4;

/** Nobody waits for a message any more once the provider, or we, have said what becomes of it. */
export function isAnswered({ state }: SeenMessage): boolean {
  return state !== 'queued' && state !== 'promised';
}

/** The messages of a request as the vendor would have answered it. */
export function answerOf(messages: SeenMessage[]): SmsAnswer {
  const sent = messages.filter((message) => message.sentAt !== null);
  const simulated = sent.some(({ provider }) => provider === 'simulator');
  const total = totalOf(sent);
  const note = simulated ? ' (simulated: nothing was sent)' : '';
  return {
    SMSMessageData: {
      Message: `Sent to ${sent.length}/${messages.length} Total Cost: ${total}${note}`,
      Recipients: messages.map(recipientOf),
    },
  };
}

function recipientOf(message: SeenMessage): SmsAnswer['SMSMessageData']['Recipients'][number] {
  const { sentAt, phoneNumber: number, providerId, code } = message;
  if (sentAt !== null) {
    const messageId = providerId ?? 'None';
    return {
      statusCode: message.statusCode ?? 101,
      number,
      cost: costOf(message) ?? '0',
      status: 'Success',
      messageId,
    };
  }
  // The vendor's word for it, where it was us who left the number out.
  const statusCode = code === 'opted_out' ? 406 : (message.statusCode ?? 500);
  return {
    statusCode,
    number,
    cost: '0',
    status: STATUS[statusCode] ?? 'InternalServerError',
    messageId: 'None',
  };
}

function costOf({ cost, currency }: SeenMessage): string | undefined {
  return cost === null || currency === null ? undefined : `${currency} ${decimal(units(cost))}`;
}

/** The sum in each currency, exactly. */
function totalOf(messages: SeenMessage[]): string {
  const sums = new Map<string, bigint>();
  for (const { cost, currency } of messages) {
    if (cost !== null && currency !== null) sums.set(currency, (sums.get(currency) ?? 0n) + units(cost));
  }
  return [...sums].map(([currency, sum]) => `${currency} ${decimal(sum)}`).join(', ') || '0';
}

/** As the database keeps it: hundred-millionths. */
const SCALE = 8;

function units(cost: string): bigint {
  const [whole = '0', part = ''] = cost.split('.');
  return BigInt(`${whole}${part.padEnd(SCALE, '0').slice(0, SCALE)}`);
}

function decimal(value: bigint): string {
  const digits = String(value).padStart(SCALE + 1, '0');
  const part = digits.slice(-SCALE).replace(/0+$/, '').padEnd(DECIMALS, '0');
  return `${digits.slice(0, -SCALE)}.${part}`;
}
