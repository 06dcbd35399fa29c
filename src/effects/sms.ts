import { ProviderError, type SmsProvider } from '../providers/provider.ts';
import type { Db } from '../store/accounts.ts';
import type { Messages } from '../store/messages.ts';
import type { EffectKind } from './effect.ts';

/** The queue whose jobs name a message to be sent. */
export const SMS_QUEUE = 'sms';

/** `sms { text }`: a message to the caller, within the limits of RULINGS.md 14. */
export function sms(messages: Messages): EffectKind {
  return {
    commit: async ({ text = '' }, { tx, msisdn, enqueue }) => {
      const id = await messages.add(tx, { msisdn, body: text, cause: 'subscriber' });
      await enqueue(SMS_QUEUE, { id });
    },
  };
}

/**
 * Hands a message to the provider, at least once: a kill between sending and writing that down may repeat
 * it, with the same key. `from` is a sender id of ours. Throws `ProviderError` where it was not taken; the queue tries again.
 */
export async function deliverSms(
  db: Db,
  messages: Messages,
  provider: SmsProvider,
  id: string,
  from?: string,
): Promise<void> {
  const message = await messages.toSend(db, id);
  if (message === undefined) return;
  const { msisdn, body: text } = message;
  const [verdict] = await provider.send({ key: id, to: [msisdn], text, ...(from !== undefined && { from }) });
  if (verdict?.outcome !== 'accepted')
    throw new ProviderError(verdict?.code ?? 'missing', verdict?.outcome !== 'refused');
  await messages.sent(db, id, provider.name, verdict.providerId ?? `unnamed-${id}`);
}
