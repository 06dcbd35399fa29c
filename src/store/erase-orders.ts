/** What is cut out of rows that the ledger needs: orders, wallets, and what was credited to them. */
import { randomBytes } from 'node:crypto';
import { type Selectable, sql } from 'kysely';
import type { Db } from '../db/db.ts';
import { bytes } from '../db/sql.ts';
import type { Tables } from '../db/tables.ts';
import { type Box, SealError } from '../seal/box.ts';
import { add, ChangedMeanwhile, type Person } from './erase-person.ts';

/** The message that is to tell of an order is written before it, in the same transaction. */
const BEFORE_ORDER = '1 minute';

/** Replaces the erased number in texts of other people. */
const ERASED = '(erased)';

/** A row as it was locked. */
export type AirtimeOrder = Selectable<Tables['airtime_orders']>;
/** A row as it was locked. */
export type StockOrder = Selectable<Tables['stock_orders']>;

/**
 * Orders stay: they are half of what the ledger says. As the buyer the person becomes `random`, with their wallet; as
 * somebody else's recipient a random id for each order, or the wallet would be known by who bought for it. Throws
 * `SealError` where the key of an order, or of what its buyer was told, has left the ring.
 */
export async function cutOrders(
  tx: Db,
  person: Person,
  orders: AirtimeOrder[],
  random: Buffer,
): Promise<void> {
  const { columns, phone, msisdn, cut } = person;
  for (const order of orders) {
    const bought = bytes(order.buyer).equals(phone);
    const got = bytes(order.recipient).equals(phone);
    const bound = Buffer.from(`airtime_orders.sealed\0${order.id}`);
    const was = JSON.parse(readable(columns, order.sealed, bound) ?? '{}') as Record<string, string>;
    // The words of the outcome were told to the buyer; what they are still needed for is a refund.
    const words = (text = '') => (bought ? '' : withoutNumber(text, msisdn));
    const sealed = {
      buyer: bought ? '' : (was.buyer ?? ''),
      recipient: got ? '' : (was.recipient ?? ''),
      sent: words(was.sent),
      failed: words(was.failed),
    };
    await tx
      .updateTable('airtime_orders')
      .set({
        ...(bought && { buyer: random, message_id: null }),
        ...(got && { recipient: bought ? random : randomBytes(16) }),
        sealed: columns.seal(Buffer.from(JSON.stringify(sealed)), bound),
      })
      .where('id', '=', order.id)
      .execute();
    if (!bought) await cutTexts(tx, person, order);
  }
  add(cut, 'airtime orders', orders.length);
}

/** What a buyer was told of an order for this phone: the message of the order, and those that followed it. */
async function cutTexts(
  tx: Db,
  { columns, msisdn, cut }: Person,
  { buyer, ordered_at }: AirtimeOrder,
): Promise<void> {
  const told = await tx
    .selectFrom('sms_calls')
    .innerJoin('messages', 'messages.call_id', 'sms_calls.id')
    .select(['sms_calls.id', 'sms_calls.body'])
    .where('messages.phone', '=', buyer)
    .where(sql<boolean>`messages.created_at >= ${ordered_at}::timestamptz - ${BEFORE_ORDER}::interval`)
    .where('sms_calls.body', 'is not', null)
    .execute();
  for (const { id, body } of told) {
    const bound = Buffer.from(`messages.body\0${id}`);
    const text = readable(columns, body as Uint8Array, bound) ?? '';
    const without = withoutNumber(text, msisdn);
    if (without === text) continue;
    const { numUpdatedRows } = await tx
      .updateTable('sms_calls')
      .set({ body: columns.seal(Buffer.from(without), bound) })
      .where('id', '=', id)
      .where('body', '=', body)
      .executeTakeFirst();
    if (numUpdatedRows === 0n) throw new ChangedMeanwhile();
    add(cut, 'texts to others', 1);
  }
}

/** Undefined where nobody can read it any more: there is nothing to cut. Throws `SealError` where its key is missing. */
function readable(box: Box, sealed: Uint8Array, bound: Buffer): string | undefined {
  try {
    return box.open(sealed, bound).toString();
  } catch (error) {
    if (error instanceof SealError && error.code === 'seal_broken') return undefined;
    throw error;
  }
}

/** With its plus and without. */
function withoutNumber(text: string, msisdn: string): string {
  return text.replaceAll(msisdn, ERASED).replaceAll(msisdn.slice(1), ERASED);
}

/** They stay with the wallet, as `random`. What is sealed in them is for telling whoever is gone how it went. */
export async function cutStockOrders(
  tx: Db,
  person: Person,
  orders: StockOrder[],
  random: Buffer,
): Promise<void> {
  const nothing = Buffer.from(JSON.stringify({ caller: null, filled: '', rejected: '' }));
  for (const { id } of orders) {
    await tx
      .updateTable('stock_orders')
      .set({
        owner: random,
        message_id: null,
        sealed: person.columns.seal(nothing, Buffer.from(`stock_orders.sealed\0${id}`)),
      })
      .where('id', '=', id)
      .execute();
  }
  add(person.cut, 'orders for shares', orders.length);
}

/** One id for all that somebody had, so that what is held still stands beside what it was held from. */
export async function cutWallets(tx: Db, person: Person, wallets: string[], random: Buffer): Promise<void> {
  if (wallets.length === 0) return;
  const { columns, cut } = person;
  const credits = await sql<{ key: Uint8Array }>`
    select c.key from wallet_credits c where c.id in (
      select p.entry_id from ledger_postings p where p.account_id = any (${wallets}::bigint[]))
    order by c.key for update`.execute(tx);
  for (const { key } of credits.rows) {
    const bound = Buffer.concat([Buffer.from('wallet_credits.reason\0'), bytes(key)]);
    // `asked` is a digest of the number too. Another one: the same request again is refused, never credited twice.
    await tx
      .updateTable('wallet_credits')
      .set({ asked: randomBytes(16), reason: columns.seal(Buffer.alloc(0), bound) })
      .where('key', '=', key)
      .execute();
  }
  await sql`update ledger_accounts set owner = ${random} where id = any (${wallets}::bigint[])`.execute(tx);
  add(cut, 'wallets', wallets.length);
  add(cut, 'credits', credits.rows.length);
}
