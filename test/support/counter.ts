/**
 * A counter for airtime without queue, gateway or clock: orders, tries, reports and messages happen when a test says
 * so, on a real database; the provider is a far side whose every answer the test chooses.
 */
import { sql } from 'kysely';
import type { Test } from 'tap';
import type { Db } from '../../src/db/db.ts';
import { airtimeDelivery } from '../../src/effects/buy-airtime.ts';
import { openKeeping } from '../../src/engine.ts';
import {
  type AirtimeOrder,
  type AirtimeProvider,
  type AirtimeTaken,
  ProviderError,
} from '../../src/providers/provider.ts';
import { parseKeyRing } from '../../src/seal/keys.ts';
import { endDelivery, putOut, reviveDelivery } from '../../src/store/outbox.ts';
import { openDatabase } from './engine.ts';
import { TEST_KEY } from './gateway.ts';

/**
 * What becomes of one try. `sold`: done and answered; `lost`: done, and the answer is lost; `unheard`: not done, and no
 * answer comes; `refused`: 400, not done; `duplicate`: not done by this call; `other`: answered with the id of the sale
 * that was made last. A key that is known is told its first sale by `sold` and `lost`.
 */
export type Fate = 'sold' | 'lost' | 'unheard' | 'refused' | 'duplicate' | 'other' | 'nameless';

export type MadeSale = AirtimeOrder & { providerId: string; key: string };

/** The far side: what it sold, in the order in which it did. */
export class Seller implements AirtimeProvider {
  readonly name = 'africastalking';
  readonly sales: MadeSale[] = [];
  /** Keys that were told the id of their sale. */
  readonly answered = new Set<string>();
  next: Fate = 'sold';
  #ids = 0;
  /** Makes ids of one seller unlike those of another on the same database. */
  readonly #prefix: string;

  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  async send(order: AirtimeOrder): Promise<AirtimeTaken> {
    const fate = this.next;
    this.next = 'sold';
    if (fate === 'unheard') throw new ProviderError('timeout', true);
    if (fate === 'refused') throw new ProviderError('http_400', false);
    if (fate === 'duplicate') throw new ProviderError('refused_duplicate', true);
    if (fate === 'other') return { providerId: this.sales.at(-1)?.providerId ?? '', code: 'sent' };
    let sale = this.sales.find(({ key }) => key === order.key);
    if (sale === undefined) {
      this.#ids += 1;
      sale = { ...order, providerId: `ATQid_${this.#prefix}_${this.#ids}` };
      this.sales.push(sale);
    }
    if (fate === 'lost') throw new ProviderError('dropped', true);
    if (fate === 'sold') this.answered.add(order.key);
    const providerId = fate === 'nameless' ? `unnamed-${order.key}` : sale.providerId;
    return { providerId, code: 'sent' };
  }
}

export type Stand = Awaited<ReturnType<typeof openStand>>;

/** A database with what airtime needs; `counter` opens a counter for one phone with a wallet of its own. */
export async function openStand(t: Test) {
  const { db: database, url } = await openDatabase(t);
  const db = database.kysely;
  const keeping = await openKeeping(database, {
    ring: parseKeyRing(TEST_KEY),
    messages: { dailyMax: 1_000_000, prefixes: [] },
    book: 'real',
  });
  const { airtime, ledger, digests, messages } = keeping;
  let counters = 0;
  const counter = async (start: bigint, phones?: { buyer?: string; recipient?: string }) => {
    counters += 1;
    const number = `+2547${String(counters).padStart(8, '0')}`;
    const { buyer = number, recipient = number } = phones ?? {};
    const seller = new Seller(`${counters}`);
    const owner = digests.phone(buyer);
    const delivery = airtimeDelivery(db, airtime, seller, async () => {});
    await db.transaction().execute((tx) => ledger.fund(tx, owner, 'KES', start));
    const ids: string[] = [];
    const told: string[] = [];
    return {
      buyer,
      recipient,
      seller,
      told,
      /** Orders airtime; the id of the order. */
      order: (amount: bigint, to = recipient): Promise<string> =>
        db.transaction().execute(async (tx) => {
          const ref = `R${counters}-${ids.length}`;
          const words = { sent: `${ref} was sent`, failed: `${ref} failed` };
          const wanted = { ref, buyer, recipient: to, currency: 'KES', amount, ...words };
          const id = await airtime.order(tx, wanted, true);
          await putOut(tx, 'airtime', id);
          ids.push(id);
          return id;
        }),
      /** One try of the queue; why there is to be another one. */
      attempt: async (id: string, fate: Fate): Promise<string | undefined> => {
        seller.next = fate;
        return (await delivery.deliver([id])).get(id);
      },
      /** After the last try. */
      giveUp: (id: string): Promise<void> =>
        db.transaction().execute(async (tx) => {
          if (await endDelivery(tx, id, 'dead')) await delivery.giveUp?.(tx, id);
        }),
      /** An operator has it tried again; throws where that cannot be. */
      revive: (id: string): Promise<void> =>
        db.transaction().execute(async (tx) => {
          if ((await reviveDelivery(tx, id)) !== undefined) await delivery.revive?.(tx, id);
        }),
      /** The provider reports on a sale. */
      report: (
        { providerId, to, currency, amountMinor }: MadeSale,
        status: 'Success' | 'Failed' = 'Success',
      ): Promise<{ moved: boolean; repeated: boolean }> =>
        db.transaction().execute((tx) =>
          airtime.report(tx, {
            providerId,
            recipient: to,
            status,
            value: { currency, amount: amountMinor },
            authenticated: true,
          }),
        ),
      /** Sends the messages that wait, and keeps their words in `told`. */
      sendMessages: async (): Promise<void> => {
        const waiting = await db
          .selectFrom('messages')
          .select('call_id')
          .where('phone', '=', owner)
          .where('state', '=', 'queued')
          .orderBy('created_at')
          .execute();
        for (const { call_id } of waiting) {
          const message = await messages.toSend(db, call_id);
          if (message !== undefined) told.push(message.text);
          await db.updateTable('messages').set({ state: 'sent' }).where('call_id', '=', call_id).execute();
        }
      },
      /** The orders as they are now, in the order in which they were made. */
      orders: async () => {
        const rows = await db
          .selectFrom('airtime_orders')
          .select(['id', 'state', 'provider_id', sql<string>`amount::text`.as('amount')])
          .where('buyer', '=', owner)
          .execute();
        return ids.map((id) => {
          const row = rows.find((one) => one.id === id);
          if (row === undefined) throw new Error('an order is gone');
          return row;
        });
      },
      balance: async () => {
        const { free, held } = await ledger.balance(db, owner, 'KES');
        return [Number(free), Number(held)];
      },
    };
  };
  return { db: db as Db, database, url, keeping, counter };
}
