import { randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import type { Box } from '../seal/box.ts';
import type { Digests } from '../seal/digests.ts';
import { type Db, GuardFailed, lockDigest } from './accounts.ts';
import { inPages } from './pages.ts';

/** Messages that a subscriber may cause to one phone in a day (RULINGS.md 14). */
const PER_PHONE_AND_DAY = 5;

const SMS_LOCK = 7_003;

/** Rows that a rotation reads at a time. */
const RESEAL_PAGE = 500;

export type MessageLimits = {
  /** Messages that subscribers may cause in a day, to all phones. */
  dailyMax: number;
  /** Numbers may begin with one of these; any, where there is none. */
  prefixes: string[];
};

/** Every message is a row before it is sent (CONTRACT.md section 5); number and text are sealed. */
export class Messages {
  readonly #box: Box;
  readonly #digests: Digests;
  readonly #limits: MessageLimits;

  constructor(box: Box, digests: Digests, limits: MessageLimits) {
    this.#box = box;
    this.#digests = digests;
    this.#limits = limits;
  }

  /** Whether a subscriber may cause one more message to this phone today. */
  async hasRoom(db: Db, msisdn: string): Promise<boolean> {
    const { prefixes, dailyMax } = this.#limits;
    if (prefixes.length > 0 && !prefixes.some((prefix) => msisdn.startsWith(prefix))) return false;
    const { rows } = await sql<{ own: number; all: number }>`
      select
        (select count(*)::int from messages where phone = ${this.#digests.phone(msisdn)} and cause = 'subscriber'
          and created_at >= date_trunc('day', now() at time zone 'utc') at time zone 'utc') as own,
        coalesce((select count from sms_days where day = (now() at time zone 'utc')::date), 0) as all`.execute(
      db,
    );
    const [row] = rows;
    return row !== undefined && row.own < PER_PHONE_AND_DAY && row.all < dailyMax;
  }

  /**
   * Writes a message to be sent; returns its id. Throws `GuardFailed` where a subscriber caused it and may
   * cause no more.
   */
  async add(
    tx: Db,
    message: { msisdn: string; body: string; cause: 'subscriber' | 'support' },
  ): Promise<string> {
    return this.#insert(tx, { ...message, state: 'queued' });
  }

  /**
   * A message whose words come later, when it is known how something went: it is counted now (RULINGS.md 14).
   * Throws like `add`.
   */
  promise(tx: Db, msisdn: string, cause: 'subscriber' | 'support' = 'subscriber'): Promise<string> {
    return this.#insert(tx, { msisdn, body: '', cause, state: 'promised' });
  }

  /** Gives a promised message its words; false where it has some already. */
  async keep(tx: Db, id: string, body: string): Promise<boolean> {
    const kept = await tx
      .updateTable('messages')
      .set({ body: this.#box.seal(Buffer.from(body), place('body', id)), state: 'queued' })
      .where('id', '=', id)
      .where('state', '=', 'promised')
      .returning('id')
      .executeTakeFirst();
    return kept !== undefined;
  }

  /** What was promised or queued and is not so any more is not sent. */
  async withdraw(tx: Db, id: string): Promise<void> {
    await tx
      .updateTable('messages')
      .set({ state: 'failed' })
      .where('id', '=', id)
      .where('state', '=', 'queued')
      .execute();
  }

  async #insert(
    tx: Db,
    message: {
      msisdn: string;
      body: string;
      cause: 'subscriber' | 'support';
      state: 'promised' | 'queued';
    },
  ): Promise<string> {
    const { msisdn, body, cause, state } = message;
    const phone = this.#digests.phone(msisdn);
    if (cause === 'subscriber') await this.#count(tx, msisdn, phone);
    const id = randomUUID();
    await tx
      .insertInto('messages')
      .values({
        id,
        phone,
        msisdn: this.#box.seal(Buffer.from(msisdn), place('msisdn', id)),
        body: this.#box.seal(Buffer.from(body), place('body', id)),
        cause,
        state,
        provider: null,
        provider_id: null,
        sent_at: null,
      })
      .execute();
    return id;
  }

  /** One more that a subscriber caused. Throws `GuardFailed` where they may cause no more. */
  async #count(tx: Db, msisdn: string, phone: Buffer): Promise<void> {
    await lockDigest(tx, SMS_LOCK, phone);
    if (!(await this.hasRoom(tx, msisdn))) throw new GuardFailed();
    const { rows } = await sql<{ count: number }>`
      insert into sms_days (day, count) values ((now() at time zone 'utc')::date, 1)
      on conflict (day) do update set count = sms_days.count + 1 returning count`.execute(tx);
    if ((rows[0]?.count ?? 0) > this.#limits.dailyMax) throw new GuardFailed();
  }

  /** A message that has not been sent yet, opened; undefined where it has. */
  async toSend(db: Db, id: string): Promise<{ msisdn: string; body: string } | undefined> {
    const row = await db
      .selectFrom('messages')
      .select(['msisdn', 'body'])
      .where('id', '=', id)
      .where('state', '=', 'queued')
      .executeTakeFirst();
    if (row === undefined) return undefined;
    return {
      msisdn: this.#box.open(row.msisdn, place('msisdn', id)).toString(),
      body: this.#box.open(row.body, place('body', id)).toString(),
    };
  }

  /** The provider took it. */
  async sent(db: Db, id: string, provider: string, providerId: string | null): Promise<void> {
    await db
      .updateTable('messages')
      .set({ state: 'sent', provider, provider_id: providerId, sent_at: sql<Date>`clock_timestamp()` })
      .where('id', '=', id)
      .where('state', '=', 'queued')
      .execute();
  }

  /** The provider will not take it, or nobody tries any more. */
  async failed(db: Db, id: string): Promise<void> {
    await this.#move(db, id, 'queued', 'failed');
  }

  /** An operator has it tried again. Throws `GuardFailed` where it has not failed. */
  async again(db: Db, id: string): Promise<void> {
    if (!(await this.#move(db, id, 'failed', 'queued'))) throw new GuardFailed();
  }

  async #move(db: Db, id: string, from: 'queued' | 'failed', to: 'queued' | 'failed'): Promise<boolean> {
    const moved = await db
      .updateTable('messages')
      .set({ state: to })
      .where('id', '=', id)
      .where('state', '=', from)
      .returning('id')
      .executeTakeFirst();
    return moved !== undefined;
  }

  /** Seals again, under the active key, what another key sealed. Returns how many rows. */
  async reseal(db: Db): Promise<number> {
    let count = 0;
    for await (const row of inPages<Sealed>(RESEAL_PAGE, (after) => readAfter(db, after))) {
      const msisdn = this.#box.reseal(row.msisdn, place('msisdn', row.id));
      const body = this.#box.reseal(row.body, place('body', row.id));
      if (msisdn === undefined && body === undefined) continue;
      await db
        .updateTable('messages')
        .set({ msisdn: msisdn ?? row.msisdn, body: body ?? row.body })
        .where('id', '=', row.id)
        .execute();
      count += 1;
    }
    return count;
  }
}

type Sealed = { id: string; msisdn: Uint8Array; body: Uint8Array };

function readAfter(db: Db, after: Sealed | undefined): Promise<Sealed[]> {
  const all = db.selectFrom('messages').select(['id', 'msisdn', 'body']).orderBy('id').limit(RESEAL_PAGE);
  return (after === undefined ? all : all.where('id', '>', after.id)).execute();
}

function place(column: string, id: string): Buffer {
  return Buffer.from(`messages.${column}\0${id}`);
}
