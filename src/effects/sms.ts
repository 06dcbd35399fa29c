import type { SmsProvider } from '../providers/provider.ts';
import type { Db } from '../store/accounts.ts';
import type { Messages } from '../store/messages.ts';
import { endDelivery } from '../store/outbox.ts';
import { codeOf, type Delivery } from './delivery.ts';
import type { EffectKind } from './effect.ts';

/** The kind of a queued message. */
export const SMS = 'sms';

/** With growing intervals of at most 5 min: about a day and a half. */
const RETRIES = 450;

/** `sms { text }`: a message to the caller, within the limits of RULINGS.md 14. */
export function sms(messages: Messages): EffectKind {
  return {
    commit: async ({ text = '' }, { tx, msisdn, enqueue }) => {
      const id = await messages.add(tx, { msisdn, body: text, cause: 'subscriber' });
      await enqueue(SMS, { id });
    },
  };
}

/**
 * Hands messages to the provider, at least once each: a kill between sending and writing that down may repeat
 * one, with the same key. `senderId` is who they are from, where that is not the provider's default.
 */
export function smsDelivery(db: Db, messages: Messages, provider: SmsProvider, senderId?: string): Delivery {
  const deliverOne = async (id: string): Promise<string | undefined> => {
    const message = await messages.toSend(db, id);
    if (message === undefined) return undefined;
    const [verdict] = await provider.send({
      key: id,
      to: [message.msisdn],
      text: message.body,
      ...(senderId !== undefined && { from: senderId }),
    });
    if (verdict === undefined || verdict.outcome === 'later') return verdict?.code ?? 'missing';
    await db.transaction().execute(async (tx) => {
      if (verdict.outcome === 'refused') {
        await messages.failed(tx, id);
        await endDelivery(tx, id, 'refused', verdict.code);
      } else {
        await messages.sent(tx, id, provider.name, verdict.providerId ?? null);
        await endDelivery(tx, id, 'done');
      }
    });
    return undefined;
  };
  return {
    kind: SMS,
    batch: 20,
    workers: 2,
    retries: RETRIES,
    deliver: async (ids) => {
      const again = new Map<string, string>();
      await Promise.all(
        ids.map(async (id) => {
          const code = await deliverOne(id).catch(codeOf);
          if (code !== undefined) again.set(id, code);
        }),
      );
      return again;
    },
    giveUp: (tx, id) => messages.failed(tx, id),
    revive: (tx, id) => messages.again(tx, id),
  };
}
