import { type Db, GuardFailed } from '../db/db.ts';
import type { ExchangeAnswer, ExchangeProvider } from '../providers/exchange.ts';
import { ProviderError } from '../providers/provider.ts';
import type { Ended, Order, Orders, Side } from '../store/orders.ts';
import { endDelivery } from '../store/outbox.ts';
import { type Delivery, type Enqueue, eachAlone } from './delivery.ts';
import type { EffectKind } from './effect.ts';
import { SMS } from './sms.ts';

/** The kind of a queued order. */
export const TRADE = 'trade';

/** With growing intervals of at most 5 min: about two hours. A price that is older than that is not used. */
const RETRIES = 30;

/**
 * For one order at the exchange, in milliseconds: below the 10 s after which the queue gives it to another worker. It
 * may be done all the same: the same key is asked again.
 */
const PATIENCE_MS = 8_000;

/**
 * `buyStock { ref, stockId, amount, units, price, filled, rejected, tell }`: `amount` and `price` in hundredths,
 * `units` in millionths of a share; `filled` and `rejected` are the messages that tell how it went, sent where
 * `tell` is `yes`. The money is held in the turn's transaction.
 */
export function buyStock(orders: Orders): EffectKind {
  return trade(orders, 'buy');
}

/** `sellStock { ref, stockId, units, amount, price, filled, rejected, tell }`: the same, and the shares are held. */
export function sellStock(orders: Orders): EffectKind {
  return trade(orders, 'sell');
}

function trade(orders: Orders, side: Side): EffectKind {
  return {
    commit: async (args, { tx, msisdn, caller, enqueue }) => {
      const { ref = '', stockId = '', filled = '', rejected = '', tell } = args;
      const wanted = {
        ref,
        caller: msisdn,
        owner: caller,
        side,
        stockId,
        units: wholeOf(args.units),
        amountMinor: wholeOf(args.amount),
        priceMinor: wholeOf(args.price),
        filled,
        rejected,
      };
      await enqueue(TRADE, { id: await orders.order(tx, wanted, tell === 'yes') });
    },
  };
}

/** What a document hands over is text. Throws `GuardFailed` for what is no whole number above zero. */
function wholeOf(text = ''): bigint {
  if (!/^[1-9]\d{0,15}$/.test(text)) throw new GuardFailed();
  return BigInt(text);
}

/** Places what was ordered: filled, it is traded; rejected or given up, what was held is free again. */
export function tradeDelivery(
  db: Db,
  orders: Orders,
  exchange: ExchangeProvider,
  enqueue: Enqueue,
  patienceMs = PATIENCE_MS,
): Delivery {
  const end = async (tx: Db, { tell }: Ended) => {
    if (tell !== undefined) await enqueue(tx, SMS, { id: tell });
  };
  const deliverOne = async (id: string): Promise<string | undefined> => {
    const order = await orders.toPlace(db, id);
    if (order === undefined) return undefined;
    const answer = await ask(exchange, order, patienceMs);
    if (answer.outcome === 'again') return answer.code;
    await db.transaction().execute(async (tx) => {
      // The outbox before the order, as where it is given up or tried again: the other way round they could meet.
      if (answer.outcome === 'rejected') {
        await endDelivery(tx, id, 'refused', answer.code);
        await end(tx, await orders.rejected(tx, id, exchange.name, answer.code));
      } else {
        await endDelivery(tx, id, 'done');
        await end(tx, await orders.filled(tx, id, exchange.name, answer.code));
      }
    });
    return undefined;
  };
  return {
    kind: TRADE,
    batch: 5,
    workers: 4,
    retries: RETRIES,
    deliver: (ids) => eachAlone(ids, deliverOne),
    giveUp: async (tx, id) => end(tx, await orders.rejected(tx, id, null, null)),
    revive: (tx, id) => orders.revive(tx, id),
  };
}

type Answer = ExchangeAnswer | { outcome: 'again'; code: string };

/** What the exchange says; anything that is no word of its own is tried again. */
async function ask(exchange: ExchangeProvider, order: Order, patienceMs: number): Promise<Answer> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Answer>((resolve) => {
    timer = setTimeout(() => resolve({ outcome: 'again', code: 'timeout' }), patienceMs);
  });
  try {
    return await Promise.race([exchange.place(order), late]);
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error;
    return { outcome: error.retryable ? 'again' : 'rejected', code: error.code };
  } finally {
    clearTimeout(timer);
  }
}
