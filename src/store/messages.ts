import { randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import { olderThan, removeOld, type Sweep } from '../db/batches.ts';
import { type Db, GuardFailed, lockDigest } from '../db/db.ts';
import { bytes } from '../db/sql.ts';
import type { Tables } from '../db/tables.ts';
import { cutToSegments, segmentsOf } from '../flow/text.ts';
import type { Box } from '../seal/box.ts';
import type { Digests } from '../seal/digests.ts';
import { resealColumn } from './reseal.ts';

/** Messages that a subscriber may cause to one phone in a day (decision 14). */
const PER_PHONE_AND_DAY = 5;

/** The day's number is counted in so many parts at the most, none of them smaller than this. */
const MOST_PARTS = 64;
const LEAST_OF_A_PART = 100;

/** SMS of one text that the product writes by itself: what an operator may send as well (docs/sms.md). */
const MOST_SEGMENTS = 10;

const SMS_LOCK = 7_003;

/** Opt-outs stop bulk messages, not replies and receipts (decision 32). */
export type SmsKind = 'single' | 'bulk' | 'twoWay';
export type Cause = 'subscriber' | 'support' | 'operator';

export type MessageLimits = {
  /** Messages that subscribers may cause in a day, to all phones. */
  dailyMax: number;
  /** Numbers may begin with one of these; any, where there is none. */
  prefixes: string[];
};

/** One text to some phones, in one call to the provider. */
export type NewCall = {
  kind: SmsKind;
  body: string;
  /** E.164, each once. */
  to: string[];
  cause: Cause;
  /** Who it is from, where that is not the provider's default. */
  sender?: string | undefined;
  keyword?: string | undefined;
  /** Of the message that it answers. */
  linkId?: string | undefined;
  /** The operator's request that it is part of. */
  requestId?: string | undefined;
};

/** A call that is to be made: who has not had it yet. */
export type Call = {
  id: string;
  /** By which the provider knows a repeat. */
  key: string;
  kind: SmsKind;
  text: string;
  sender?: string;
  keyword?: string;
  linkId?: string;
  to: { id: string; msisdn: string }[];
};

/**
 * Every message is a row before it is sent (docs/contract.md section 5), one per recipient; what is sent together
 * stands in one call. Numbers and texts are sealed. A message only ever moves on:
 * queued → sent → submitted → buffered → delivered, failed, rejected or expired.
 */
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
    // A partner's customer has no phone.
    if (msisdn === '') return false;
    if (prefixes.length > 0 && !prefixes.some((prefix) => msisdn.startsWith(prefix))) return false;
    const { rows } = await sql<{ own: number; all: number }>`
      select
        (select count(*)::int from messages where phone = ${this.#digests.phone(msisdn)} and cause = 'subscriber'
          and created_at >= date_trunc('day', now() at time zone 'utc') at time zone 'utc') as own,
        (select coalesce(sum(count), 0)::int from sms_counts where day = (now() at time zone 'utc')::date) as all`.execute(
      db,
    );
    const [row] = rows;
    return row !== undefined && row.own < PER_PHONE_AND_DAY && row.all < dailyMax;
  }

  /** Writes a message to one phone, to be sent; returns the id of its call. Throws like `write`. */
  async add(tx: Db, message: { msisdn: string; body: string; cause: Cause }): Promise<string> {
    const { msisdn, ...rest } = message;
    const { call } = await this.write(tx, { kind: 'single', to: [msisdn], ...rest });
    return call;
  }

  /**
   * Writes a text to be sent, one row per phone; what is bulk goes to nobody who wants none. Throws `GuardFailed`
   * where a subscriber caused it and may cause no more.
   */
  async write(tx: Db, wanted: NewCall): Promise<{ call: string; ids: string[] }> {
    const written = await this.#insert(tx, wanted, 'queued');
    if (wanted.kind === 'bulk') await this.rejectOptedOut(tx, written.call);
    return written;
  }

  /**
   * A message whose words come later, when it is known how something went: it is counted now (decision 14).
   * Returns the id of its call. Throws like `write`.
   */
  async promise(tx: Db, msisdn: string, cause: 'subscriber' | 'support' = 'subscriber'): Promise<string> {
    const { call } = await this.#insert(tx, { kind: 'single', body: '', to: [msisdn], cause }, 'promised');
    return call;
  }

  /** Gives a promised message its words; false where it has some already. */
  async keep(tx: Db, call: string, body: string): Promise<boolean> {
    const words = cutToSegments(body, MOST_SEGMENTS);
    const kept = await tx
      .updateTable('messages')
      .set({ state: 'queued' })
      .where('call_id', '=', call)
      .where('state', '=', 'promised')
      .returning('id')
      .executeTakeFirst();
    if (kept === undefined) return false;
    await tx
      .updateTable('sms_calls')
      .set({ body: this.#seal(words, call), segments: segmentsOf(words) })
      .where('id', '=', call)
      .execute();
    return true;
  }

  /**
   * Whoever has opted out meanwhile is left out of what is bulk. The key stays: where an earlier try was heard after
   * all, nobody else is to have the text twice.
   */
  async rejectOptedOut(db: Db, call: string): Promise<void> {
    await sql`
      update messages m set state = 'rejected', code = 'opted_out', status_code = null,
        ended_at = clock_timestamp()
      from sms_calls c
      where c.id = ${call} and c.kind = 'bulk' and m.call_id = c.id and m.state = 'queued'
        and exists (select 1 from sms_opt_outs o where o.phone = m.phone and o.ended_at is null)`.execute(db);
  }

  /** A call with those who have not had it yet; undefined where no recipient is left, or the text is gone. */
  async toSend(db: Db, call: string): Promise<Call | undefined> {
    const row = await db.selectFrom('sms_calls').selectAll().where('id', '=', call).executeTakeFirst();
    const to = await db
      .selectFrom('messages')
      .select(['id', 'msisdn'])
      .where('call_id', '=', call)
      .where('state', '=', 'queued')
      .orderBy('id')
      .execute();
    if (row === undefined || row.body === null || to.length === 0) return undefined;
    return {
      id: call,
      key: row.key,
      kind: row.kind,
      text: this.#box.open(row.body, place('body', call)).toString(),
      ...(row.sender !== null && { sender: row.sender }),
      ...(row.keyword !== null && { keyword: row.keyword }),
      ...(row.link_id !== null && { linkId: row.link_id }),
      to: to.map((row) => ({ id: row.id, msisdn: msisdnOf(this.#box, row) })),
    };
  }

  /** The provider will not take what is left of a call, or the tries are over. */
  async failed(tx: Db, call: string, code: string): Promise<void> {
    await tx
      .updateTable('messages')
      .set({ state: 'failed', code, status_code: null, ended_at: sql<Date>`clock_timestamp()` })
      .where('call_id', '=', call)
      .where('state', '=', 'queued')
      .execute();
  }

  /**
   * An operator has tried again what was given up. Throws `GuardFailed` where there is nothing of it, or its text
   * is gone.
   */
  async again(tx: Db, call: string): Promise<void> {
    const text = await tx
      .selectFrom('sms_calls')
      .select('id')
      .where('id', '=', call)
      .where('body', 'is not', null)
      .forUpdate()
      .executeTakeFirst();
    if (text === undefined) throw new GuardFailed();
    const revived = await tx
      .updateTable('messages')
      .set({ state: 'queued', code: null, status_code: null, provider: null, ended_at: null })
      .where('call_id', '=', call)
      .where('state', '=', 'failed')
      .where('provider_id', 'is', null)
      .returning('id')
      .execute();
    if (revived.length === 0) throw new GuardFailed();
  }

  /** Removes texts that will not be sent or shown any more, and the keys of requests; after so many days. */
  async forget(db: Db, days: number, within?: Sweep): Promise<void> {
    const done = sql<boolean>`body is not null and ${olderThan('created_at', days)} and not exists (
      select 1 from messages m where m.call_id = sms_calls.id and m.state in ('promised', 'queued'))`;
    await removeOld(db, { table: 'sms_calls', by: 'created_at', where: done, set: sql`body = null` }, within);
    await removeOld(db, { table: 'sms_requests', by: 'at', where: olderThan('at', days) }, within);
  }

  /** Seals again, under the active key, what another key sealed. Returns how many rows. */
  async reseal(db: Db): Promise<number> {
    const numbers = { table: 'messages', key: 'id', column: 'msisdn', boundBy: 'id' } as const;
    const texts = { table: 'sms_calls', key: 'id', column: 'body', boundBy: 'id' } as const;
    return (
      (await resealColumn(db, this.#box, numbers, (id: string) => place('msisdn', id))) +
      (await resealColumn(db, this.#box, texts, (id: string) => place('body', id)))
    );
  }

  /**
   * The id of a request that carries a key: `fresh` where it is the first with it; undefined where the key belongs
   * to another request.
   */
  async request(
    tx: Db,
    { key, asked }: { key: Buffer; asked: Buffer },
  ): Promise<{ id: string; fresh: boolean } | undefined> {
    const id = randomUUID();
    const made = await tx
      .insertInto('sms_requests')
      .values({ key, id, asked })
      .onConflict((conflict) => conflict.doNothing())
      .returning('id')
      .executeTakeFirst();
    if (made !== undefined) return { id, fresh: true };
    const known = await tx
      .selectFrom('sms_requests')
      .select(['id', 'asked'])
      .where('key', '=', key)
      .executeTakeFirst();
    return known && bytes(known.asked).equals(asked) ? { id: known.id, fresh: false } : undefined;
  }

  /** Withdraws a text that waits to be sent and is not true any more. Returns whether it was still waiting. */
  async withdraw(tx: Db, call: string): Promise<boolean> {
    const withdrawn = await tx
      .updateTable('messages')
      .set({
        state: 'failed',
        code: 'withdrawn',
        status_code: null,
        ended_at: sql<Date>`clock_timestamp()`,
      })
      .where('call_id', '=', call)
      .where('state', '=', 'queued')
      .returning('id')
      .execute();
    return withdrawn.length > 0;
  }

  async #insert(
    tx: Db,
    wanted: NewCall,
    state: 'promised' | 'queued',
  ): Promise<{ call: string; ids: string[] }> {
    const { kind, to, cause, sender, keyword, linkId, requestId } = wanted;
    // An operator is told of a text that is too long; here it has no reader, and is cut.
    const body = cause === 'operator' ? wanted.body : cutToSegments(wanted.body, MOST_SEGMENTS);
    const phones = to.map((msisdn) => ({ msisdn, phone: this.#digests.phone(msisdn) }));
    if (cause === 'subscriber') {
      for (const { msisdn, phone } of phones) await this.#count(tx, msisdn, phone);
    }
    const call = randomUUID();
    await tx
      .insertInto('sms_calls')
      .values({
        id: call,
        key: call,
        body: this.#seal(body, call),
        kind,
        sender: sender ?? null,
        keyword: keyword ?? null,
        link_id: linkId ?? null,
        segments: segmentsOf(body),
        request_id: requestId ?? null,
      })
      .execute();
    const rows = phones.map(({ msisdn, phone }, index) => {
      // The first message of a call has its name: what is told of the only one is told of both; and an instance of
      // the version before, which knows messages only, does not take the call for one that is gone.
      const id = index === 0 ? call : randomUUID();
      const sealed = this.#box.seal(Buffer.from(msisdn), place('msisdn', id));
      const nothing = { provider: null, provider_id: null, sent_at: null };
      return { id, call_id: call, phone, msisdn: sealed, cause, state, ...nothing };
    });
    await tx.insertInto('messages').values(rows).execute();
    return { call, ids: rows.map(({ id }) => id) };
  }

  /** One more that a subscriber caused. Throws `GuardFailed` where they may cause no more. */
  async #count(tx: Db, msisdn: string, phone: Buffer): Promise<void> {
    await lockDigest(tx, SMS_LOCK, phone);
    if (!(await this.hasRoom(tx, msisdn))) throw new GuardFailed();
    // A part of the day's number each: one row of it would be everybody's, held until each of them has committed.
    const { dailyMax } = this.#limits;
    const parts = Math.min(MOST_PARTS, Math.max(1, Math.floor(dailyMax / LEAST_OF_A_PART)));
    for (let step = 0; step < parts; step += 1) {
      const part = ((phone[0] ?? 0) + step) % parts;
      const room = Math.floor(dailyMax / parts) + (part < dailyMax % parts ? 1 : 0);
      const { rows } = await sql<{ count: number }>`
        insert into sms_counts (day, part, count)
        select (now() at time zone 'utc')::date, ${part}, 1 where ${room} > 0
        on conflict (day, part) do update set count = sms_counts.count + 1
          where sms_counts.count < ${room} returning count`.execute(tx);
      if (rows.length > 0) return;
    }
    throw new GuardFailed();
  }

  #seal(body: string, call: string): Buffer {
    return this.#box.seal(Buffer.from(body), place('body', call));
  }
}

type SealedNumber = { id: string; msisdn: Uint8Array };
/** The phone of a message, in E.164. Throws `SealError`. */
export function msisdnOf(box: Box, { id, msisdn }: SealedNumber): string {
  return box.open(msisdn, place('msisdn', id)).toString();
}

/** What was sealed before there were calls was sealed as a message's body, under the same id. */
function place(column: keyof Pick<Tables['messages'], 'msisdn'> | 'body', id: string): Buffer {
  return Buffer.from(`messages.${column}\0${id}`);
}
