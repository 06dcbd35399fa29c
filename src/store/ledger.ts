import { randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import { type Db, GuardFailed, lockDigest } from '../db/db.ts';
import { bytes } from '../db/sql.ts';
import type { Box } from '../seal/box.ts';
import { resealColumn } from './reseal.ts';

/** Real money, that of a vendor's sandbox, or what the simulator hands out: the one never becomes the other. */
export type Book = 'real' | 'sandbox' | 'demo';

/** What a subscriber has, in hundredths of the currency. */
export type Balance = { free: bigint; held: bigint };

/** Where the other half of an entry stands: accounts of the house. */
export type House = 'funding' | 'airtime' | 'exchange';

type Side = 'cash' | 'held';

/** More than this no number of JSON tells exactly, and nobody has in a phone. */
const MOST_MINOR = 9_000_000_000_000_000n;

/** What a demonstration wallet begins with: 1,000 of its currency. */
export const DEMO_MINOR = 100_000n;

/** Currencies of money, and nothing else that is held: shares begin at zero in either book. */
const MONEY = /^[A-Z]{3}$/;

const NOBODY = Buffer.alloc(0);

/** Two requests with one key, one behind the other. */
const CREDIT_LOCK = 7_004;

/**
 * The wallet: a double-entry ledger in whole hundredths. What a subscriber may spend is their `cash`; what is
 * kept for something under way is moved to their `held` until it is settled or released. The database holds
 * that every entry sums to zero and that no balance is below zero.
 */
export class Ledger {
  readonly book: Book;

  constructor(book: Book) {
    this.book = book;
  }

  /** The balance of a phone; what a new wallet would begin with where there is none. */
  async balance(db: Db, owner: Buffer, currency: string): Promise<Balance> {
    const rows = await db
      .selectFrom('ledger_accounts')
      .select(['kind', sql<string>`balance::text`.as('balance')])
      .where('book', '=', this.book)
      .where('owner', '=', owner)
      .where('currency', '=', currency)
      .execute();
    const of = (kind: Side) => rows.find((row) => row.kind === kind)?.balance;
    return { free: BigInt(of('cash') ?? this.#start(currency)), held: BigInt(of('held') ?? 0) };
  }

  /** Money from outside, into the wallet of a phone. Returns the entry and the balance after it. */
  async fund(
    tx: Db,
    owner: Buffer,
    currency: string,
    amount: bigint,
  ): Promise<{ entry: string; free: bigint }> {
    const { cash } = await this.#open(tx, owner, currency);
    const house = await this.#house(tx, 'funding', currency);
    const entry = await post(tx, 'credit', [
      { account: house, amount: -amount },
      { account: cash, amount },
    ]);
    const { free } = await this.balance(tx, owner, currency);
    return { entry, free };
  }

  /** Keeps an amount for something under way; returns the hold. Throws `GuardFailed` where there is not enough. */
  async hold(tx: Db, owner: Buffer, currency: string, amount: bigint): Promise<string> {
    const { cash, held } = await this.#open(tx, owner, currency);
    const { rows } = await sql<{ enough: boolean }>`
      select balance >= ${String(amount)}::bigint as enough from ledger_accounts where id = ${cash} for no key update`.execute(
      tx,
    );
    if (rows[0]?.enough !== true) throw new GuardFailed();
    await post(tx, 'hold', [
      { account: cash, amount: -amount },
      { account: held, amount },
    ]);
    const id = randomUUID();
    await tx
      .insertInto('holds')
      .values({ id, account_id: cash, amount: String(amount) })
      .execute();
    return id;
  }

  /** What was held is spent; false where the hold was closed before. */
  settle(tx: Db, hold: string, to: House): Promise<boolean> {
    return this.#close(tx, hold, 'settled', async ({ held, currency, amount, book }) => [
      { account: held, amount: -amount },
      { account: await new Ledger(book).#house(tx, to, currency), amount },
    ]);
  }

  /** What was held is free again; false where the hold was closed before. */
  release(tx: Db, hold: string): Promise<boolean> {
    return this.#close(tx, hold, 'released', async ({ cash, held, amount }) => [
      { account: held, amount: -amount },
      { account: cash, amount },
    ]);
  }

  /** What was settled comes back. Its caller sees to it that it does so once. */
  async refund(tx: Db, hold: string, from: House): Promise<void> {
    const known = await this.#kept(tx, hold);
    const house = await new Ledger(known.book).#house(tx, from, known.currency);
    await post(tx, 'refund', [
      { account: house, amount: -known.amount },
      { account: known.cash, amount: known.amount },
    ]);
  }

  /**
   * What was held is given to the house, and so much of another currency comes for it, as the one who held it; false
   * where the hold was closed before. Two entries, because an entry is of one currency.
   *
   * The `cash` of both wallets is locked in the order of their ids: whoever buys takes them the other way round than
   * whoever sells. All that may wait for somebody's insert, the wallet that is new and the accounts of the house (in
   * the order of their currencies), is found before anything of the subscriber's is locked.
   */
  async trade(
    tx: Db,
    hold: string,
    house: House,
    comes: { currency: string; amount: bigint },
  ): Promise<boolean> {
    if (!(await this.#claim(tx, hold, 'settled'))) return false;
    const { owner, currency, book } = await walletOf(tx, hold);
    const ledger = new Ledger(book);
    const { cash } = await ledger.#open(tx, owner, comes.currency);
    const houses = new Map<string, string>();
    for (const one of [currency, comes.currency].toSorted())
      houses.set(one, await ledger.#house(tx, house, one));
    await sql`
      select id from ledger_accounts
      where book = ${book} and kind = 'cash' and owner = ${owner} and currency in (${currency}, ${comes.currency})
      order by id for no key update`.execute(tx);
    const kept = await this.#kept(tx, hold);
    await post(tx, 'settled', [
      { account: kept.held, amount: -kept.amount },
      { account: houses.get(currency) ?? '', amount: kept.amount },
    ]);
    await post(tx, 'traded', [
      { account: houses.get(comes.currency) ?? '', amount: -comes.amount },
      { account: cash, amount: comes.amount },
    ]);
    return true;
  }

  async #close(
    tx: Db,
    hold: string,
    state: 'settled' | 'released',
    postings: (kept: Kept) => Promise<Posting[]>,
  ): Promise<boolean> {
    if (!(await this.#claim(tx, hold, state))) return false;
    await post(tx, state, await postings(await this.#kept(tx, hold)));
    return true;
  }

  /** Closes a hold, once; its caller moves what was held. */
  async #claim(tx: Db, hold: string, state: 'settled' | 'released'): Promise<boolean> {
    const closed = await tx
      .updateTable('holds')
      .set({ state, closed_at: sql<Date>`clock_timestamp()` })
      .where('id', '=', hold)
      .where('state', '=', 'open')
      .returning('id')
      .executeTakeFirst();
    return closed !== undefined;
  }

  /**
   * What a hold keeps. The `cash` of a wallet is locked before its `held`, whatever is done to it: what is settled
   * and comes back in one transaction would otherwise take them the other way round, and meet a hold: a deadlock.
   * Not `for update`: it would wait for the share of the row that the foreign key of a posting takes as well.
   */
  async #kept(tx: Db, hold: string): Promise<Kept> {
    const row = await tx
      .selectFrom('holds')
      .innerJoin('ledger_accounts as cash', 'cash.id', 'holds.account_id')
      .innerJoin('ledger_accounts as held', (join) =>
        join
          .onRef('held.book', '=', 'cash.book')
          .onRef('held.owner', '=', 'cash.owner')
          .onRef('held.currency', '=', 'cash.currency')
          .on('held.kind', '=', 'held'),
      )
      .select([
        'cash.id as cash',
        'held.id as held',
        'cash.currency',
        'cash.book',
        sql<string>`holds.amount::text`.as('amount'),
      ])
      .where('holds.id', '=', hold)
      .forNoKeyUpdate('cash')
      .executeTakeFirstOrThrow();
    return { ...row, amount: BigInt(row.amount) };
  }

  /** The accounts of a subscriber, opened where there are none. A demonstration wallet begins with its balance. */
  async #open(tx: Db, owner: Buffer, currency: string): Promise<Record<Side, string>> {
    const known = await this.#sides(tx, owner, currency);
    if (known !== undefined) return known;
    const account = (kind: Side) => ({ book: this.book, kind, owner, currency, balance: '0' });
    const made = await tx
      .insertInto('ledger_accounts')
      .values([account('cash'), account('held')])
      .onConflict((conflict) => conflict.columns(['book', 'kind', 'owner', 'currency']).doNothing())
      .returning('id')
      .execute();
    const sides = await this.#sides(tx, owner, currency);
    if (sides === undefined) throw new GuardFailed();
    if (made.length > 0 && this.#start(currency) > 0n) {
      const house = await this.#house(tx, 'funding', currency);
      await post(tx, 'demonstration', [
        { account: house, amount: -this.#start(currency) },
        { account: sides.cash, amount: this.#start(currency) },
      ]);
    }
    return sides;
  }

  async #sides(tx: Db, owner: Buffer, currency: string): Promise<Record<Side, string> | undefined> {
    const rows = await tx
      .selectFrom('ledger_accounts')
      .select(['id', 'kind'])
      .where('book', '=', this.book)
      .where('owner', '=', owner)
      .where('currency', '=', currency)
      .execute();
    const id = (side: Side) => rows.find(({ kind }) => kind === side)?.id;
    const [cash, held] = [id('cash'), id('held')];
    return cash === undefined || held === undefined ? undefined : { cash, held };
  }

  async #house(tx: Db, kind: House, currency: string): Promise<string> {
    const find = () =>
      tx
        .selectFrom('ledger_accounts')
        .select('id')
        .where('book', '=', this.book)
        .where('kind', '=', kind)
        .where('owner', '=', NOBODY)
        .where('currency', '=', currency)
        .executeTakeFirst();
    const known = await find();
    if (known !== undefined) return known.id;
    await tx
      .insertInto('ledger_accounts')
      .values({ book: this.book, kind, owner: NOBODY, currency, balance: null })
      .onConflict((conflict) => conflict.columns(['book', 'kind', 'owner', 'currency']).doNothing())
      .execute();
    const made = await find();
    if (made === undefined) throw new GuardFailed();
    return made.id;
  }

  #start(currency: string): bigint {
    return this.book === 'demo' && MONEY.test(currency) ? DEMO_MINOR : 0n;
  }
}

type Kept = { cash: string; held: string; currency: string; book: Book; amount: bigint };

/** Whose a hold is, and of what. Nothing is locked. */
async function walletOf(tx: Db, hold: string): Promise<{ owner: Buffer; currency: string; book: Book }> {
  const row = await tx
    .selectFrom('holds')
    .innerJoin('ledger_accounts', 'ledger_accounts.id', 'holds.account_id')
    .select(['owner', 'currency', 'book'])
    .where('holds.id', '=', hold)
    .executeTakeFirstOrThrow();
  return { ...row, owner: bytes(row.owner) };
}

type Posting = { account: string; amount: bigint };

/** One entry of the ledger. Its postings go in by account, so that two entries of one wallet cannot deadlock. */
async function post(tx: Db, kind: string, postings: Posting[]): Promise<string> {
  const id = randomUUID();
  await tx.insertInto('ledger_entries').values({ id, kind }).execute();
  const inOrder = postings.toSorted((one, other) => Number(BigInt(one.account) - BigInt(other.account)));
  await tx
    .insertInto('ledger_postings')
    .values(
      inOrder.map(({ account, amount }) => ({ entry_id: id, account_id: account, amount: String(amount) })),
    )
    .execute();
  return id;
}

/** A credit that an operator gives (docs/contract.md section 4): once per idempotency key. */
export type Credit = {
  key: Buffer;
  /** Digest of what is asked for with the key. */
  asked: Buffer;
  owner: Buffer;
  currency: string;
  amountMinor: bigint;
  reason: string;
  operator: string;
};

/**
 * What came of a credit: made now, made before by the same request; the key belongs to another one; or the balance
 * would be more than can be told.
 */
export type Credited =
  | { id: string; balanceMinor: bigint; outcome: 'made' | 'repeated' }
  | 'other'
  | 'tooMuch';

/** Credits a wallet, once per key. */
export async function credit(db: Db, box: Box, ledger: Ledger, wanted: Credit): Promise<Credited> {
  return db.transaction().execute(async (tx) => {
    await lockDigest(tx, CREDIT_LOCK, wanted.key);
    const known = await tx
      .selectFrom('wallet_credits')
      .select(['id', 'asked', sql<string>`balance::text`.as('balance')])
      .where('key', '=', wanted.key)
      .executeTakeFirst();
    if (known !== undefined) {
      if (!bytes(known.asked).equals(wanted.asked)) return 'other';
      return { id: known.id, balanceMinor: BigInt(known.balance), outcome: 'repeated' };
    }
    const before = await ledger.balance(tx, wanted.owner, wanted.currency);
    if (before.free + wanted.amountMinor > MOST_MINOR) return 'tooMuch';
    const { entry, free } = await ledger.fund(tx, wanted.owner, wanted.currency, wanted.amountMinor);
    await tx
      .insertInto('wallet_credits')
      .values({
        key: wanted.key,
        id: entry,
        asked: wanted.asked,
        reason: box.seal(Buffer.from(wanted.reason), placeOf(wanted.key)),
        operator: wanted.operator,
        balance: String(free),
      })
      .execute();
    return { id: entry, balanceMinor: free, outcome: 'made' };
  });
}

/** Seals again, under the active key, the reasons that another key sealed. Returns how many rows. */
export async function resealCredits(db: Db, box: Box): Promise<number> {
  return resealColumn(
    db,
    box,
    { table: 'wallet_credits', key: 'key', column: 'reason', boundBy: 'key' },
    (key: Uint8Array) => placeOf(bytes(key)),
  );
}

function placeOf(key: Buffer): Buffer {
  return Buffer.concat([Buffer.from('wallet_credits.reason\0'), key]);
}
