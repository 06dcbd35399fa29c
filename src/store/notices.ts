import { sql } from 'kysely';
import { countRemoved, olderThan, type Sweep } from '../db/batches.ts';
import type { Db } from '../db/db.ts';
import type { Notice, Noticed } from '../flow/notice.ts';
import { route, type ServiceCodes } from '../flow/service-code.ts';
import type { Box } from '../seal/box.ts';
import type { Digests } from '../seal/digests.ts';
import { inPages } from './pages.ts';
import type { Turns } from './turns.ts';

/** Rows that a rotation reads at a time. */
const RESEAL_PAGE = 500;

/**
 * Notices of sessions that are over. Gateways repeat them and sign none: one is kept for each session, phone and
 * date, the first, and it is of a dial of ours only where both are as they were when it was opened
 * (decision 23). Phones and session ids are digests; the error message, which may quote anything, is sealed.
 */
export class Notices {
  readonly #box: Box;
  readonly #digests: Digests;

  constructor(box: Box, digests: Digests) {
    this.#box = box;
    this.#digests = digests;
  }

  /**
   * Keeps a notice, and closes the dial that it is of unless that is over: both in the transaction `tx`, of which
   * `turns` is part too.
   */
  async add(tx: Db, turns: Turns, notice: Notice, codes: ServiceCodes): Promise<Noticed> {
    const { gateway, msisdn, date, cost, error } = notice;
    const sessionKey = this.#digests.session(gateway, notice.sessionId);
    const phone = this.#digests.phone(msisdn);
    const dial = await turns.dialAt(sessionKey, phone, date);
    // The row of the notice comes first: of two copies one waits here until the other has committed.
    const mine = await tx
      .insertInto('ussd_notices')
      .values({
        gateway,
        session_key: sessionKey,
        phone,
        ended_at: date,
        day: dial?.day ?? null,
        dial: dial?.dial ?? null,
        closed: dial?.over === false,
        service_code: route(notice.serviceCode, codes).code ?? null,
        network: notice.networkCode ?? null,
        status: notice.status,
        cost: cost?.amount ?? null,
        currency: cost?.currency ?? null,
        duration_ms: notice.duration ?? null,
        hops: notice.hops ?? null,
        error:
          error === undefined ? null : this.#box.seal(Buffer.from(error), place(sessionKey, phone, date)),
      })
      .onConflict((conflict) => conflict.doNothing())
      .returning('id')
      .executeTakeFirst();
    if (mine === undefined) return 'repeated';
    if (dial === undefined) return 'unmatched';
    // Another notice of the same dial may have closed it since it was looked up.
    if (!dial.over && !(await turns.close(dial))) {
      await tx.updateTable('ussd_notices').set({ closed: false }).where('id', '=', mine.id).execute();
    }
    return 'stored';
  }

  /** Deletes what came more than `days` ago. Returns how many. */
  async forget(db: Db, days: number, within?: Sweep): Promise<number> {
    const where = olderThan('received_at', days);
    return countRemoved(db, { table: 'ussd_notices', by: 'received_at', where }, within);
  }

  /** Seals again, under the active key, what another key sealed. Returns how many rows. */
  async reseal(db: Db): Promise<number> {
    let count = 0;
    for await (const row of inPages<Sealed>(RESEAL_PAGE, (after) => readAfter(db, after))) {
      const bound = place(row.session_key, row.phone, row.date);
      const error = this.#box.reseal(row.error, bound);
      if (error === undefined) continue;
      await db.updateTable('ussd_notices').set({ error }).where('id', '=', row.id).execute();
      count += 1;
    }
    return count;
  }
}

type Sealed = { id: string; session_key: Uint8Array; phone: Uint8Array; date: string; error: Uint8Array };

async function readAfter(db: Db, after: Sealed | undefined): Promise<Sealed[]> {
  const { rows } = await sql<Sealed>`
    select id::text as id, session_key, phone, error,
      to_char(ended_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as date
    from ussd_notices where error is not null and id > ${after?.id ?? '0'}::bigint
    order by ussd_notices.id limit ${RESEAL_PAGE}`.execute(db);
  return rows;
}

/** The additional data of the seal: what tells the row from every other. */
function place(sessionKey: Uint8Array, phone: Uint8Array, date: string): Buffer {
  return Buffer.concat([Buffer.from(`ussd_notices.error\0${date}\0`), sessionKey, phone]);
}
