import { type Selectable, sql } from 'kysely';
import { olderThan, removeOld, type Sweep } from '../db/batches.ts';
import { type Db, GuardFailed, lockDigest } from '../db/db.ts';
import { bytes } from '../db/sql.ts';
import type { Tables } from '../db/tables.ts';
import type { Box } from '../seal/box.ts';
import type { Digests } from '../seal/digests.ts';
import { inPages } from './pages.ts';

/** An account as a PIN is checked against it. */
export type Known = {
  id: string;
  /** What a session keeps of having been let in: the account, and the PIN that did. */
  session: string;
  customer: Buffer;
  customerId: string;
  mustChange: boolean;
  /** Opens the PIN's record. Throws `SealError`: support can still help an account whose record is broken. */
  verifier(): Buffer;
};

export type NewAccount = {
  customerId: string;
  name: string;
  email: string;
  msisdn: string;
  verifier: Buffer;
};

/** docs/contract.md section 2, decision 14. */
export const ACCOUNTS_PER_PHONE = 3;

/** How long a code for linking a phone may be used. */
const LINK_MINUTES = 15;
/** Days that a code is kept after it expired: as long as the attempts to use it. */
const CODE_DAYS = 3;

/** Locks that are taken for one phone, so that two turns of it cannot both take the last place. */
const PHONE_LOCK = 7_002;

/** Rows that a rotation reads at a time. */
const RESEAL_PAGE = 500;

/**
 * Accounts, the phones that may log in to them, and the codes by which a phone is added. Everything that
 * names a person is sealed; a PIN is a slow hash, sealed with the Customer ID as additional data, so that
 * a record moved to another customer does not open.
 */
export class Accounts {
  readonly #columns: Box;
  readonly #pins: Box;
  readonly #digests: Digests;

  constructor(columns: Box, pins: Box, digests: Digests) {
    this.#columns = columns;
    this.#pins = pins;
    this.#digests = digests;
  }

  /**
   * Opens an account and binds the phone to it. Throws `GuardFailed` where the Customer ID is taken or the
   * phone has its accounts already.
   */
  async create(tx: Db, account: NewAccount): Promise<void> {
    const phone = this.#digests.phone(account.msisdn);
    if ((await this.countOf(tx, phone, true)) >= ACCOUNTS_PER_PHONE) throw new GuardFailed();
    const customer = this.#digests.customer(account.customerId);
    const created = await tx
      .insertInto('accounts')
      .values({
        customer,
        customer_id: this.#columns.seal(Buffer.from(account.customerId), place('customer_id', customer)),
        name: this.#columns.seal(Buffer.from(account.name), place('name', customer)),
        email:
          account.email === ''
            ? null
            : this.#columns.seal(Buffer.from(account.email), place('email', customer)),
        pin: this.#pins.seal(account.verifier, Buffer.from(account.customerId)),
      })
      .onConflict((conflict) => conflict.column('customer').doNothing())
      .returning('id')
      .executeTakeFirst();
    if (created === undefined) throw new GuardFailed();
    await this.#bind(tx, created.id, account.msisdn);
  }

  /** How many accounts a phone may log in to; `locked`: no other transaction can add one until this commits. */
  async countOf(db: Db, phone: Buffer, locked = false): Promise<number> {
    if (locked) await lockDigest(db, PHONE_LOCK, phone);
    const row = await db
      .selectFrom('account_phones')
      .select((select) => select.fn.countAll<string>().as('count'))
      .where('phone', '=', phone)
      .executeTakeFirstOrThrow();
    return Number(row.count);
  }

  /** The account of a Customer ID, where this phone may log in to it. */
  async byCustomerId(db: Db, customerId: string, phone: Buffer): Promise<Known | undefined> {
    const row = await db
      .selectFrom('accounts')
      .innerJoin('account_phones', 'account_phones.account_id', 'accounts.id')
      .select(['id', 'customer', 'customer_id', 'pin', 'pin_must_change', 'pin_version'])
      .where('customer', '=', this.#digests.customer(customerId))
      .where('phone', '=', phone)
      .executeTakeFirst();
    return row && this.#known(row);
  }

  /** The account that a code of this phone links it to, while the code may be used. */
  async byLinkCode(db: Db, code: string, phone: Buffer): Promise<Known | undefined> {
    const row = await db
      .selectFrom('link_codes')
      .innerJoin('accounts', 'accounts.id', 'link_codes.account_id')
      .select(['id', 'customer', 'customer_id', 'pin', 'pin_must_change', 'pin_version'])
      .where('code', '=', this.#digests.customer(code))
      .where('phone', '=', phone)
      .where('used_at', 'is', null)
      .where('expires_at', '>', sql<Date>`clock_timestamp()`)
      .executeTakeFirst();
    return row && this.#known(row);
  }

  /** The account that is logged in; undefined where its PIN has been changed since. */
  async inSession(db: Db, session: string): Promise<Known | undefined> {
    const [id = '', version = ''] = session.split('.');
    const row = await db
      .selectFrom('accounts')
      .select(['id', 'customer', 'customer_id', 'pin', 'pin_must_change', 'pin_version'])
      .where('id', '=', id)
      .where('pin_version', '=', Number(version))
      .executeTakeFirst();
    return row && this.#known(row);
  }

  /** What the customer is shown of the own account; nothing where the PIN has been changed since. */
  async details(db: Db, session: string): Promise<{ customerId: string; name: string; email: string }> {
    const [id = '', version = ''] = session.split('.');
    const row = await db
      .selectFrom('accounts')
      .select(['customer', 'customer_id', 'name', 'email'])
      .where('id', '=', id)
      .where('pin_version', '=', Number(version))
      .executeTakeFirst();
    if (row === undefined) return { customerId: '', name: '', email: '' };
    const customer = bytes(row.customer);
    const open = (column: string, sealed: Uint8Array) =>
      this.#columns.open(sealed, place(column, customer)).toString();
    return {
      customerId: open('customer_id', row.customer_id),
      name: open('name', row.name),
      email: row.email === null ? '' : open('email', row.email),
    };
  }

  /**
   * Replaces a PIN; never removes one. Sessions that the old one let in are out. Throws `GuardFailed` where it
   * has been replaced since the account was read.
   */
  async changePin(tx: Db, account: Known, verifier: Buffer, mustChange = false): Promise<void> {
    const version = Number(account.session.split('.')[1]);
    const changed = await tx
      .updateTable('accounts')
      .set({
        pin: this.#pins.seal(verifier, Buffer.from(account.customerId)),
        pin_must_change: mustChange,
        pin_version: version + 1,
      })
      .where('id', '=', account.id)
      .where('pin_version', '=', version)
      .returning('id')
      .executeTakeFirst();
    if (changed === undefined) throw new GuardFailed();
  }

  /** Makes a code good for linking one phone to an account. */
  async addLinkCode(tx: Db, id: string, code: string, msisdn: string): Promise<void> {
    await tx
      .insertInto('link_codes')
      .values({
        code: this.#digests.customer(code),
        account_id: id,
        phone: this.#digests.phone(msisdn),
        expires_at: sql<Date>`clock_timestamp() + ${LINK_MINUTES} * interval '1 minute'`,
        used_at: null,
      })
      .execute();
  }

  /** Uses a code up and binds the phone. Throws `GuardFailed` where it is used up or too late. */
  async link(tx: Db, code: string, msisdn: string): Promise<void> {
    const phone = this.#digests.phone(msisdn);
    if ((await this.countOf(tx, phone, true)) >= ACCOUNTS_PER_PHONE) throw new GuardFailed();
    const used = await tx
      .updateTable('link_codes')
      .set({ used_at: sql<Date>`clock_timestamp()` })
      .where('code', '=', this.#digests.customer(code))
      .where('phone', '=', phone)
      .where('used_at', 'is', null)
      .where('expires_at', '>', sql<Date>`clock_timestamp()`)
      .returning('account_id')
      .executeTakeFirst();
    if (used === undefined) throw new GuardFailed();
    await this.#bind(tx, used.account_id, msisdn);
  }

  /** Removes codes that were of no use any more three days ago, used or not. */
  async forgetCodes(db: Db, within?: Sweep): Promise<void> {
    const where = olderThan('expires_at', CODE_DAYS);
    await removeOld(db, { table: 'link_codes', by: 'expires_at', where }, within);
  }

  /** The Customer ID of the oldest account that this phone may log in to. */
  async oldestOf(db: Db, phone: Buffer): Promise<string | undefined> {
    const row = await db
      .selectFrom('accounts')
      .innerJoin('account_phones', 'account_phones.account_id', 'accounts.id')
      .select(['customer', 'customer_id'])
      .where('phone', '=', phone)
      .orderBy('created_at')
      .orderBy('id')
      .limit(1)
      .executeTakeFirst();
    return row && this.#columns.open(row.customer_id, place('customer_id', bytes(row.customer))).toString();
  }

  /** The account of a Customer ID and the first phone bound to it, for support. */
  async forSupport(
    db: Db,
    customerId: string,
  ): Promise<{ account: Known; msisdn: string; phones: Buffer[] } | undefined> {
    const rows = await db
      .selectFrom('accounts')
      .innerJoin('account_phones', 'account_phones.account_id', 'accounts.id')
      .select(['id', 'customer', 'customer_id', 'pin', 'pin_must_change', 'pin_version', 'phone', 'msisdn'])
      .where('customer', '=', this.#digests.customer(customerId))
      .orderBy('bound_at')
      .execute();
    const [first] = rows;
    if (first === undefined) return undefined;
    const phone = bytes(first.phone);
    return {
      account: this.#known(first),
      msisdn: this.#columns.open(first.msisdn, place(`msisdn of ${first.id}`, phone)).toString(),
      phones: rows.map((row) => bytes(row.phone)),
    };
  }

  /** Seals again, under the active key, every record that another key sealed. Returns how many. */
  async reseal(db: Db): Promise<number> {
    let count = 0;
    for await (const row of inPages<Selectable<Tables['accounts']>>(RESEAL_PAGE, (after) =>
      this.#accountsAfter(db, after),
    )) {
      const customer = bytes(row.customer);
      const customerId = this.#columns.open(row.customer_id, place('customer_id', customer));
      const fresh = {
        customer_id: this.#columns.reseal(row.customer_id, place('customer_id', customer)),
        name: this.#columns.reseal(row.name, place('name', customer)),
        email: row.email === null ? undefined : this.#columns.reseal(row.email, place('email', customer)),
        pin: this.#pins.reseal(row.pin, customerId),
      };
      const set = Object.fromEntries(Object.entries(fresh).filter(([, sealed]) => sealed !== undefined));
      if (Object.keys(set).length === 0) continue;
      // A PIN that was changed since it was read must stay: the next pass seals the rest of its row.
      await db.updateTable('accounts').set(set).where('id', '=', row.id).where('pin', '=', row.pin).execute();
      count += 1;
    }
    for await (const row of inPages<Selectable<Tables['account_phones']>>(RESEAL_PAGE, (after) =>
      this.#phonesAfter(db, after),
    )) {
      const sealed = this.#columns.reseal(row.msisdn, place(`msisdn of ${row.account_id}`, bytes(row.phone)));
      if (sealed === undefined) continue;
      await db
        .updateTable('account_phones')
        .set({ msisdn: sealed })
        .where('account_id', '=', row.account_id)
        .where('phone', '=', row.phone)
        .execute();
      count += 1;
    }
    return count;
  }

  #accountsAfter(db: Db, after: { id: string } | undefined) {
    const all = db.selectFrom('accounts').selectAll().orderBy('id').limit(RESEAL_PAGE);
    return (after === undefined ? all : all.where('id', '>', after.id)).execute();
  }

  #phonesAfter(db: Db, after: { account_id: string; phone: Uint8Array } | undefined) {
    const all = db
      .selectFrom('account_phones')
      .selectAll()
      .orderBy('account_id')
      .orderBy('phone')
      .limit(RESEAL_PAGE);
    if (after === undefined) return all.execute();
    return all.where(sql<boolean>`(account_id, phone) > (${after.account_id}, ${after.phone})`).execute();
  }

  async #bind(tx: Db, id: string, msisdn: string): Promise<void> {
    const phone = this.#digests.phone(msisdn);
    await tx
      .insertInto('account_phones')
      .values({
        account_id: id,
        phone,
        msisdn: this.#columns.seal(Buffer.from(msisdn), place(`msisdn of ${id}`, phone)),
      })
      .onConflict((conflict) => conflict.doNothing())
      .execute();
  }

  #known(
    row: Pick<Stored, 'id' | 'customer' | 'customer_id' | 'pin' | 'pin_must_change' | 'pin_version'>,
  ): Known {
    const customer = bytes(row.customer);
    const customerId = this.#columns.open(row.customer_id, place('customer_id', customer)).toString();
    return {
      id: String(row.id),
      session: `${row.id}.${row.pin_version}`,
      customer,
      customerId,
      verifier: () => this.#pins.open(row.pin, Buffer.from(customerId)),
      mustChange: row.pin_must_change,
    };
  }
}

type Stored = {
  id: string;
  customer: Uint8Array;
  customer_id: Uint8Array;
  pin: Uint8Array;
  pin_must_change: boolean;
  pin_version: number;
};

/** What binds a sealed column to its row. */
function place(column: string, row: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`accounts.${column}\0`), row]);
}
