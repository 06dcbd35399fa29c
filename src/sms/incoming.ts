import { type Db, GuardFailed } from '../db/db.ts';
import type { Enqueue } from '../effects/delivery.ts';
import { SMS } from '../effects/sms.ts';
import type { IncomingMessages } from '../store/incoming.ts';
import type { Messages } from '../store/messages.ts';
import type { OptOuts } from '../store/opt-outs.ts';
import type { Replies } from './replies.ts';

/** Answers in an hour to one phone: a person reads no more, and two machines would never stop. */
const PER_HOUR = 3;

/** No number of a subscriber is shorter, country code and all. */
const NUMBER = /^\+[1-9]\d{6,14}$/;

/** A message as the provider brings it. `quotes`: the answer may quote it (decision 29). */
export type Incoming = {
  id: string;
  from: string;
  msisdn?: string;
  to: string;
  text: string;
  linkId?: string;
  sentAt?: Date;
  quotes: boolean;
};

/** `repeated`: the first one stands. `answer`: what came of it, or why nothing did. */
export type HeardMessage = { outcome: 'stored' | 'repeated'; answer?: string };

export type IncomingParts = {
  db: Db;
  incoming: IncomingMessages;
  optOuts: OptOuts;
  messages: Messages;
  replies: Replies;
  enqueue: Enqueue;
};

/**
 * Hears a message: kept, obeyed where it says STOP or START, and answered at most once, all in one transaction.
 * Not answered: who is no phone, what is an answer of ours, and more than decision 14 or an hour has room for.
 */
export function hearIncoming(parts: IncomingParts): (message: Incoming) => Promise<HeardMessage> {
  const { db, incoming, optOuts, replies } = parts;
  return (message) =>
    db.transaction().execute(async (tx) => {
      const shortCode = optOuts.nameOf(message.to);
      const word = replies.commandIn(message.text, message.to);
      const kept = await incoming.add(tx, { ...message, shortCode, word });
      if (kept === undefined) return { outcome: 'repeated' };
      const answer = await answered(tx, parts, message, word, kept.sentAt);
      await incoming.answered(tx, kept.key, answer);
      return { outcome: 'stored', answer };
    });
}

async function answered(
  tx: Db,
  parts: IncomingParts,
  message: Incoming,
  word: 'stop' | 'start' | undefined,
  sentAt: Date | null,
): Promise<string> {
  const { incoming, optOuts, replies } = parts;
  const { msisdn, text, to } = message;
  if (msisdn === undefined || !NUMBER.test(msisdn)) return 'no_number';
  const confirm = async (command: 'stop' | 'start') =>
    (await send(tx, parts, { ...message, msisdn }, replies.confirmation(command, to))) === 'reply'
      ? command
      : `${command}_unsaid`;
  if (word === 'stop') {
    return (await optOuts.optOut(tx, msisdn, to, sentAt)) ? confirm('stop') : 'stop_again';
  }
  // Whatever else a machine says that repeats us, it asks for nothing.
  if (replies.isOurs(text)) return 'loop';
  if (word === 'start') {
    const { ended, before } = await optOuts.optIn(tx, msisdn, sentAt);
    if (ended > 0) return confirm('start');
    if (before) return 'start_again';
  }
  if ((await incoming.answersOfHour(tx, msisdn)) >= PER_HOUR) return 'over_hour';
  return send(tx, parts, { ...message, msisdn }, replies.answerTo(text, to, message.quotes));
}

/** Queues an answer; `reply`, or why there is none. */
async function send(
  tx: Db,
  { messages, enqueue, replies }: IncomingParts,
  { msisdn, to, linkId }: Incoming & { msisdn: string },
  body: string,
): Promise<'reply' | 'none' | 'no_sender' | 'over_day'> {
  if (body === '') return 'none';
  if (!replies.canAnswerFrom(to)) return 'no_sender';
  try {
    const answer = { kind: 'twoWay' as const, body, to: [msisdn], cause: 'subscriber' as const };
    const { call } = await messages.write(tx, { ...answer, sender: to, linkId });
    await enqueue(tx, SMS, { id: call });
    return 'reply';
  } catch (error) {
    if (error instanceof GuardFailed) return 'over_day';
    throw error;
  }
}
