import { type Db, GuardFailed } from '../db/db.ts';
import { type AirtimeProvider, didNothing, ProviderError } from '../providers/provider.ts';
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
  const end = async (tx: Db, { tell }: Moved) => {
    for (const id of tell) await enqueue(tx, SMS, { id });
  };
  /** Asks the provider; undefined where the order has gone on meanwhile. */
  const askFor = async (order: Order): Promise<Answer | undefined> => {
    // Real money buys nothing at the simulator, and other money nothing that is real.
    if (order.book !== airtime.book)
      return order.book === 'real' ? { again: 'no_credentials' } : { refused: 'demonstration' };
    if (!order.asked && !airtime.sellsTo(order.currency, order.recipient))
      return { refused: 'refused_country' };
    if (!(await airtime.asked(db, order.id, provider.name))) return undefined;
    const answer = await ask(provider, order);
    if ('nothing' in answer && answer.nothing) await airtime.denied(db, order.id);
    return answer;
  };
  /** Takes an answer over, with all that follows. Throws `SaleTaken` and `NotMoved`: then nothing is changed. */
  const takeOver = (id: string, answer: Answer) =>
    db.transaction().execute(async (tx) => {
      // The outbox before the order, as where it is given up or tried again: the other way round they could meet.
      if ('refused' in answer) await endDelivery(tx, id, 'refused', answer.refused);
      else await endDelivery(tx, id, 'done');
      if ('providerId' in answer)
        return end(tx, await airtime.sent(tx, id, provider.name, answer.providerId));
      if ('refused' in answer) return end(tx, await airtime.failed(tx, id));
      // The answer was lost and the sale reported.
      const sold = await airtime.soldUnheard(tx, id);
      if (!sold.moved) throw new NotMoved();
      await end(tx, sold);
    });
  const deliverOne = async (id: string): Promise<string | undefined> => {
    const order = await airtime.toBuy(db, id);
    const answer = order && (await askFor(order));
    if (answer === undefined) {
      // A report has told of it meanwhile.
      await endDelivery(db, id, 'done');
      return undefined;
    }
    if ('again' in answer && answer.again !== 'refused_duplicate') return answer.again;
    try {
      await takeOver(id, answer);
    } catch (error) {
      if (error instanceof NotMoved && 'again' in answer) return answer.again;
      throw error;
    }
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

/** `nothing`: it is certain that this try bought nothing. */
type Answer =
  | { providerId: string }
  | { refused: string; nothing?: boolean }
  | { again: string; nothing?: boolean };

/** It is not known that the order was sold: the transaction is taken back, and the order tried again. */
class NotMoved extends Error {}

/** What the provider says; anything that is no word of its own is tried again. */
async function ask(provider: AirtimeProvider, order: Order): Promise<Answer> {
  const { id: key, recipient: to, currency, amountMinor } = order;
  try {
    return await provider.send({ key, to, currency, amountMinor });
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error;
    const nothing = didNothing(error);
    return error.retryable ? { again: error.code, nothing } : { refused: error.code, nothing };
  }
}
