import { randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import { olderThan, removeOld, type Sweep } from '../db/batches.ts';
import type { Db } from '../db/db.ts';
import { bytes } from '../db/sql.ts';
import type { MessageState, ReportStatus } from '../db/tables.ts';
import type { Digests } from '../seal/digests.ts';
import type { Call } from './messages.ts';

/** A message that is sent and the report on it, one behind the other: else neither would see the other. */
const REPORT_LOCK = 7_006;

/** A report that came before its message is waited for so long (decision 32). */
const REPORT_HOURS = 24;

/** What the provider said of one message. */
export type Judged = {
  id: string;
  outcome: 'accepted' | 'refused' | 'later';
  code: string;
  statusCode?: number | undefined;
  providerId?: string | undefined;
  cost?: { currency: string; amount: string } | undefined;
};

/** What the provider reports later, or sooner than it answers. */
export type SmsReport = {
  providerId: string;
  msisdn: string;
  status: ReportStatus;
  reason?: string | undefined;
  network?: number | undefined;
};

/** A report as it is kept: of a phone by its digest. */
type KeptReport = {
  providerId: string;
  phone: Buffer;
  status: ReportStatus;
  reason: string | null;
  network: number | null;
};

/** How far a message is: it moves to a higher rank only, and of the last ones the first stands. */
const RANK: Record<MessageState, number> = {
  promised: 0,
  queued: 0,
  sent: 1,
  submitted: 2,
  buffered: 3,
  delivered: 4,
  failed: 4,
  rejected: 4,
  expired: 4,
};

const ANSWERED: Record<Judged['outcome'], MessageState> = {
  accepted: 'sent',
  refused: 'rejected',
  later: 'queued',
};

const REPORTED: Record<ReportStatus, MessageState> = {
  Sent: 'sent',
  Submitted: 'submitted',
  Buffered: 'buffered',
  Success: 'delivered',
  Failed: 'failed',
  AbsentSubscriber: 'failed',
  Rejected: 'rejected',
  Expired: 'expired',
};

/** What a message's code says after a report that gives no reason: the status itself. */
const CODES: Record<ReportStatus, string> = {
  Sent: 'sent',
  Submitted: 'submitted',
  Buffered: 'buffered',
  Success: 'success',
  Failed: 'failed',
  AbsentSubscriber: 'absent_subscriber',
  Rejected: 'rejected',
  Expired: 'expired',
};

/** Statuses that a reason explains: of one that went well it says nothing. */
const EXPLAINED = new Set<ReportStatus>(['Buffered', 'Failed', 'AbsentSubscriber', 'Rejected', 'Expired']);

/**
 * What the provider said of each message of a call. Those that are to be tried again stay queued, under another
 * key: they are another set, and the old key stands for an answer that was given. (Only the first answer under a
 * key does that: where two instances had the call, the other may be sending under the new one by now.) Reports
 * that came first are heard now.
 */
export async function hearAnswer(
  tx: Db,
  { id: call, key }: Pick<Call, 'id' | 'key'>,
  provider: string,
  judged: Judged[],
): Promise<void> {
  const accepted = judged.filter(({ outcome }) => outcome === 'accepted');
  const known = [...new Set(accepted.flatMap(({ providerId }) => providerId ?? []))];
  await lockReports(tx, known);
  await sql`
    update messages m set
      state = v.state, code = v.code, status_code = v.status_code,
      provider = ${provider},
      provider_id = v.provider_id, cost = v.cost::numeric, currency = v.currency,
      sent_at = case when v.state = 'sent' then clock_timestamp() end,
      ended_at = case when v.state = 'rejected' then clock_timestamp() end
    from unnest(
      ${judged.map(({ id }) => id)}::uuid[],
      ${judged.map(({ outcome }) => ANSWERED[outcome])}::text[],
      ${judged.map(({ code }) => code)}::text[],
      ${judged.map(({ statusCode }) => statusCode ?? null)}::smallint[],
      ${judged.map(({ providerId }) => providerId ?? null)}::text[],
      ${judged.map(({ cost }) => cost?.amount ?? null)}::text[],
      ${judged.map(({ cost }) => cost?.currency ?? null)}::text[])
      v(id, state, code, status_code, provider_id, cost, currency)
    where m.id = v.id and m.state = 'queued'`.execute(tx);
  if (judged.some(({ outcome }) => outcome === 'later')) {
    await tx
      .updateTable('sms_calls')
      .set({ key: randomUUID() })
      .where('id', '=', call)
      .where('key', '=', key)
      .execute();
  }
  if (known.length > 0) await hearEarly(tx, known);
}

/**
 * What the provider reports. It moves a message of that id and phone on, never back; where there is none yet
 * it is kept until there is.
 */
export async function hearReport(
  tx: Db,
  digests: Digests,
  report: SmsReport,
): Promise<'stored' | 'repeated' | 'unmatched'> {
  const { providerId, status, reason = null, network = null } = report;
  const phone = digests.phone(report.msisdn);
  await lockReports(tx, [providerId]);
  const fresh = await tx
    .insertInto('sms_reports')
    .values({ provider_id: providerId, phone, status, reason, network })
    .onConflict((conflict) => conflict.doNothing())
    .returning('status')
    .executeTakeFirst();
  if (fresh === undefined) return 'repeated';
  await apply(tx, { providerId, phone, status, reason, network });
  const known = await tx
    .selectFrom('messages')
    .select('id')
    .where('provider_id', '=', providerId)
    .where('phone', '=', phone)
    .executeTakeFirst();
  return known === undefined ? 'unmatched' : 'stored';
}

/** Removes reports that nothing waits for any more. */
export async function forgetSmsReports(db: Db, within?: Sweep): Promise<void> {
  await removeOld(db, { table: 'sms_reports', by: 'at', where: olderThan('at', REPORT_HOURS / 24) }, within);
}

/** In one order, so that two calls cannot wait for one another. */
async function lockReports(tx: Db, providerIds: string[]): Promise<void> {
  if (providerIds.length === 0) return;
  await sql`
    select pg_advisory_xact_lock(${REPORT_LOCK}, hash) from (
      select distinct hashtext(id) as hash from unnest(${providerIds}::text[]) ids(id) order by 1) ordered`.execute(
    tx,
  );
}

async function hearEarly(tx: Db, providerIds: string[]): Promise<void> {
  const early = await tx
    .selectFrom('sms_reports')
    .selectAll()
    .where('provider_id', 'in', providerIds)
    .orderBy('at')
    .execute();
  for (const { provider_id: providerId, phone, ...report } of early)
    await apply(tx, { providerId, phone: bytes(phone), ...report });
}

async function apply(tx: Db, { providerId, phone, status, reason, network }: KeptReport): Promise<void> {
  const state = REPORTED[status];
  const from = before(state);
  if (from.length === 0) return;
  await tx
    .updateTable('messages')
    .set({
      state,
      ...(RANK[state] === RANK.delivered && { ended_at: sql<Date>`clock_timestamp()` }),
      // The reason goes with the state: that of the state before does not stay behind.
      code: (EXPLAINED.has(status) ? reason : null) ?? CODES[status],
      ...(network !== null && { network }),
    })
    .where('provider_id', '=', providerId)
    .where('phone', '=', phone)
    .where('state', 'in', from)
    .execute();
}

/** The states from which a message can come to another one. */
function before(state: MessageState): MessageState[] {
  const states = Object.keys(RANK) as MessageState[];
  // What has not been sent has nothing to report; it is not known by any provider's id either.
  return states.filter((other) => RANK[other] > 0 && RANK[other] < RANK[state]);
}
