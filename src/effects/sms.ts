import { randomUUID } from 'node:crypto';
import type { Db } from '../db/db.ts';
import { ProviderError, type SmsBatch, type SmsProvider } from '../providers/provider.ts';
import type { Digests } from '../seal/digests.ts';
import { hearAnswer, type Judged } from '../store/message-reports.ts';
import type { Call, Messages } from '../store/messages.ts';
import { endDelivery } from '../store/outbox.ts';
import { type Delivery, type Enqueue, eachAlone } from './delivery.ts';
import type { EffectKind } from './effect.ts';

/** The kind of a queued call: one text to some phones. */
export const SMS = 'sms';

/** With growing intervals of at most 5 min: about a day and a half. */
const RETRIES = 450;

/** Who messages are from: a sender id, and the short code (with its keyword) of those that can be answered. */
export type Senders = { senderId?: string; shortCode?: string; keyword?: string };

/** `sms { text }`: a message to the caller, within the limits of decision 14. */
export function sms(messages: Messages): EffectKind {
  return {
    commit: async ({ text = '' }, { tx, msisdn, enqueue }) => {
      const id = await messages.add(tx, { msisdn, body: text, cause: 'subscriber' });
      await enqueue(SMS, { id });
    },
  };
}

/** What sending takes. `most`: recipients that one call to the provider may have. */
export type Sending = { db: Db; messages: Messages; digests: Digests; enqueue: Enqueue; most: number };

/**
 * A text that an operator sends to phones (E.164, each once): written and queued in one transaction, a call for
 * so many at a time as the provider takes. Returns the id of the request; a key that was used for the same makes
 * it the same request, and for another one `other`.
 */
export async function sendSms(
  { db, messages, digests, enqueue, most }: Sending,
  wanted: { kind: 'bulk' | 'twoWay'; to: string[]; text: string; key?: string | undefined },
): Promise<string | 'other'> {
  const { kind, to, text, key } = wanted;
  const keyed = {
    key: digests.key('sms', key ?? randomUUID()),
    asked: digests.key('sms asked', [kind, text, ...to].join('\0')),
  };
  return db.transaction().execute(async (tx) => {
    const request = await messages.request(tx, keyed);
    if (request === undefined) return 'other';
    for (let at = 0; request.fresh && at < to.length; at += most) {
      const call = { kind, body: text, to: to.slice(at, at + most), cause: 'operator' as const };
      const { call: id } = await messages.write(tx, { ...call, requestId: request.id });
      await enqueue(tx, SMS, { id });
    }
    return request.id;
  });
}

/**
 * Hands calls to the provider, at least once each: a kill between sending and writing that down may repeat one,
 * with the same key. Each recipient is judged by itself; those that may be taken later stay queued.
 */
export function smsDelivery(
  db: Db,
  messages: Messages,
  provider: SmsProvider,
  senders: Senders = {},
): Delivery {
  const deliverOne = async (id: string): Promise<string | undefined> => {
    await messages.rejectOptedOut(db, id);
    const call = await messages.toSend(db, id);
    if (call === undefined) {
      await endDelivery(db, id, 'done');
      return undefined;
    }
    const answer = await ask(provider, call, senders);
    if ('again' in answer) return answer.again;
    return db.transaction().execute(async (tx) => {
      // The outbox before the messages, as where they are given up or tried again: else the two could meet.
      if ('refused' in answer) {
        await endDelivery(tx, id, 'refused', answer.refused);
        await messages.failed(tx, id, answer.refused);
        return undefined;
      }
      const { judged } = answer;
      const later = judged.find(({ outcome }) => outcome === 'later');
      const accepted = judged.some(({ outcome }) => outcome === 'accepted');
      if (later === undefined) {
        if (accepted) await endDelivery(tx, id, 'done');
        else await endDelivery(tx, id, 'refused', judged[0]?.code);
      }
      await hearAnswer(tx, call, provider.name, judged);
      return later?.code;
    });
  };
  return {
    kind: SMS,
    batch: 10,
    workers: 2,
    retries: RETRIES,
    deliver: (ids) => eachAlone(ids, deliverOne),
    giveUp: (tx, id) => messages.failed(tx, id, 'gave_up'),
    revive: (tx, id) => messages.again(tx, id),
  };
}

type Answer = { judged: Judged[] } | { refused: string } | { again: string };

/** What the provider says; anything that is no word of its own is tried again. */
async function ask(provider: SmsProvider, call: Call, senders: Senders): Promise<Answer> {
  try {
    const verdicts = await provider.send(batchOf(call, senders));
    return {
      judged: verdicts.map(({ outcome, code, statusCode, providerId, cost }, index) => ({
        id: call.to[index]?.id ?? '',
        outcome,
        code,
        statusCode,
        providerId,
        cost,
      })),
    };
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error;
    return error.retryable ? { again: error.code } : { refused: error.code };
  }
}

function batchOf(call: Call, { senderId, shortCode, keyword }: Senders): SmsBatch {
  const { key, text, linkId } = call;
  const from = call.sender ?? (call.kind === 'twoWay' ? shortCode : senderId);
  // Our keyword is one of our own short code.
  const word = call.keyword ?? (from === shortCode ? keyword : undefined);
  return {
    key,
    text,
    to: call.to.map(({ msisdn }) => msisdn),
    ...(from !== undefined && { from }),
    ...(call.kind === 'twoWay' && {
      twoWay: { ...(word !== undefined && { keyword: word }), ...(linkId !== undefined && { linkId }) },
    }),
  };
}
