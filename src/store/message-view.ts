import { sql } from 'kysely';
import { type Cursor, isoTime } from '../db/cursor.ts';
import type { Db } from '../db/db.ts';
import type { MessageState } from '../db/tables.ts';
import type { Box } from '../seal/box.ts';
import type { Digests } from '../seal/digests.ts';
import { msisdnOf } from './messages.ts';

/** A message as support sees it; never its text. Times are ISO 8601 in UTC. */
export type SeenMessage = Omit<SeenRow, 'msisdn'> & { phoneNumber: string };

/** Which messages are asked for, all where nothing is said: `from` and `until` are instants. */
export type WantedMessages = {
  msisdn?: string | undefined;
  state?: MessageState | undefined;
  from?: Date | undefined;
  until?: Date | undefined;
  after?: Cursor | undefined;
};

/** Where messages are, as support sees them. */
export class MessageView {
  readonly #box: Box;
  readonly #digests: Digests;

  constructor(box: Box, digests: Digests) {
    this.#box = box;
    this.#digests = digests;
  }

  /** Newest first, behind `after`. */
  async list(db: Db, wanted: WantedMessages, limit: number): Promise<SeenMessage[]> {
    const { msisdn, state, from, until, after } = wanted;
    let query = seen(db);
    if (msisdn !== undefined) query = query.where('messages.phone', '=', this.#digests.phone(msisdn));
    if (state !== undefined) query = query.where('messages.state', '=', state);
    if (from !== undefined) query = query.where('messages.created_at', '>=', from);
    if (until !== undefined) query = query.where('messages.created_at', '<', until);
    if (after !== undefined) {
      query = query.where(
        sql<boolean>`(messages.created_at, messages.id) < (${after.at}::timestamptz, ${after.id}::uuid)`,
      );
    }
    const rows = await query
      .orderBy('messages.created_at', 'desc')
      .orderBy('messages.id', 'desc')
      .limit(limit)
      .execute();
    return rows.map((row) => this.#opened(row));
  }

  /** One message; undefined where there is none of this id. */
  async find(db: Db, id: string): Promise<SeenMessage | undefined> {
    const row = await seen(db).where('messages.id', '=', id).executeTakeFirst();
    return row && this.#opened(row);
  }

  /** The messages of an operator's request, in the order in which they were asked for. */
  async ofRequest(db: Db, requestId: string): Promise<SeenMessage[]> {
    const rows = await seen(db)
      .where('sms_calls.request_id', '=', requestId)
      .orderBy('sms_calls.created_at')
      .orderBy('messages.created_at')
      .orderBy('messages.id')
      .execute();
    return rows.map((row) => this.#opened(row));
  }

  #opened({ msisdn, ...row }: SeenRow): SeenMessage {
    return { ...row, phoneNumber: msisdnOf(this.#box, { id: row.id, msisdn }) };
  }
}

type SeenRow = Awaited<ReturnType<ReturnType<typeof seen>['execute']>>[number];

function seen(db: Db) {
  return db
    .selectFrom('messages')
    .innerJoin('sms_calls', 'sms_calls.id', 'messages.call_id')
    .select([
      'messages.id',
      'messages.msisdn',
      'messages.state',
      'messages.cause',
      'messages.code',
      'messages.status_code as statusCode',
      'messages.provider',
      'messages.provider_id as providerId',
      sql<string | null>`messages.cost::text`.as('cost'),
      'messages.currency',
      'sms_calls.kind',
      'sms_calls.sender',
      'sms_calls.segments',
      isoTime('messages.created_at').as('createdAt'),
      isoTime('messages.sent_at').as('sentAt'),
      isoTime('messages.ended_at').as('endedAt'),
    ]);
}
