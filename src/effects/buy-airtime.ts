import { type AirtimeProvider, ProviderError } from '../providers/provider.ts';
import { type Db, GuardFailed } from '../store/accounts.ts';
import type { Airtime, Moved, Order } from '../store/airtime.ts';
import { endDelivery } from '../store/outbox.ts';
import { type Delivery, type Enqueue, eachAlone } from './delivery.ts';
import type { EffectKind } from './effect.ts';
import { SMS } from './sms.ts';

/** The kind of a queued order. */
export const AIRTIME = 'airtime';

/** With growing intervals of at most 5 min: about two hours. A subscriber who waits longer has bought elsewhere. */
const RETRIES = 30;

/**
 * `buyAirtime { ref, to, currency, amount, sent, failed, tell }`: `amount` in hundredths; `sent` and `failed` are
 * the messages that tell how it went, sent where `tell` is `yes`. The money is held in the turn's transaction.
 */
export function buyAirtime(airtime: Airtime): EffectKind {
  return {
    commit: async (args, { tx, msisdn, enqueue }) => {
      const { ref = '', to = '', currency = '', amount = '', sent = '', failed = '', tell } = args;
      if (!/^[1-9]\d{0,15}$/.test(amount)) throw new GuardFailed();
      const order = { ref, buyer: msisdn, recipient: to, currency, amount: BigInt(amount), sent, failed };
      await enqueue(AIRTIME, { id: await airtime.order(tx, order, tell === 'yes') });
    },
  };
}

/** Buys what was ordered: taken, it is paid for; refused for good or given up, the money is free again. */
export function airtimeDelivery(
  db: Db,
  airtime: Airtime,
  provider: AirtimeProvider,
  enqueue: Enqueue,
): Delivery {
  const end = async (tx: Db, moved: Moved) => {
    if (moved.tell !== undefined) await enqueue(tx, SMS, { id: moved.tell });
  };
  /** Real money buys nothing at the simulator, and other money nothing that is real. */
  const askFor = async (order: Order): Promise<Answer> => {
    if (order.book !== airtime.book)
      return order.book === 'real' ? { again: 'no_credentials' } : { refused: 'demonstration' };
    await airtime.asked(db, order.id);
    return ask(provider, order);
  };
  /** It was done before, and its answer lost: a report has told that it was sold. */
  const soldUnheard = async (id: string, code: string): Promise<boolean> =>
    code === 'refused_duplicate' && (await airtime.soldUnheard(db, id)) !== undefined;
  const deliverOne = async (id: string): Promise<string | undefined> => {
    const order = await airtime.toBuy(db, id);
    if (order === undefined) {
      // A report has told of it meanwhile.
      await endDelivery(db, id, 'done');
      return undefined;
    }
    const answer = await askFor(order);
    if ('again' in answer && !(await soldUnheard(id, answer.again))) return answer.again;
    await db.transaction().execute(async (tx) => {
      // The outbox before the order, as where it is given up or tried again: the other way round they could meet.
      if ('refused' in answer) await endDelivery(tx, id, 'refused', answer.refused);
      else await endDelivery(tx, id, 'done');
      const moved =
        'providerId' in answer
          ? await airtime.sent(tx, id, provider.name, answer.providerId)
          : await airtime.failed(tx, id);
      await end(tx, moved);
    });
    return undefined;
  };
  return {
    kind: AIRTIME,
    batch: 5,
    workers: 4,
    retries: RETRIES,
    deliver: (ids) => eachAlone(ids, deliverOne),
    giveUp: async (tx, id) => end(tx, await airtime.failed(tx, id)),
    revive: (tx, id) => airtime.revive(tx, id),
  };
}

type Answer = { providerId: string } | { refused: string } | { again: string };

/** What the provider says; anything that is no word of its own is tried again. */
async function ask(provider: AirtimeProvider, order: Order): Promise<Answer> {
  const { id: key, recipient: to, currency, amountMinor } = order;
  try {
    return await provider.send({ key, to, currency, amountMinor });
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error;
    return error.retryable ? { again: error.code } : { refused: error.code };
  }
}
