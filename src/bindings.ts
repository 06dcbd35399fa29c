import { CompiledQuery } from 'kysely';
import type { Db } from './db/db.ts';
import { type Row, type Sql, within } from './db/sql.ts';
import { askForHelp, TASK } from './effects/open-task.ts';
import { SMS, sendSms } from './effects/sms.ts';
import type { Engine } from './engine.ts';
import type { Deadline } from './flow/heard.ts';
import type { Queue } from './queue.ts';
import { randomCode } from './seal/pin.ts';
import { hearIncoming } from './sms/incoming.ts';
import type { Replies } from './sms/replies.ts';
import type { RouterEvent } from './store/far-tasks.ts';
import { stepStates } from './store/housekeeping.ts';
import { credit } from './store/ledger.ts';
import { hearReport, type SmsReport } from './store/message-reports.ts';
import type { WantedMessages } from './store/message-view.ts';
import { countDeliveries, listDeliveries } from './store/outbox.ts';
import { viewOf } from './store/phone-view.ts';
import { newestReconciliations } from './store/reconciliation.ts';
import { recordsOf } from './store/records.ts';
import { funnelOf } from './store/stats.ts';
import type { Request } from './store/task-rows.ts';

export type Bound = {
  /** What messages that come in are answered with. */
  replies: Replies;
  /** Phones that one call to the provider may name. */
  mostRecipients: number;
  /** Messages can be sent that can be answered. */
  hasShortCode: boolean;
  /** Requests for help are handed over to another system. */
  routed: boolean;
  /** Idle sessions expire after this; in milliseconds. */
  ttl: number;
  /** How long the senders wait for the provider. Default: that of `src/sms/senders.ts`. */
  smsWait?: { forMs: number; everyMs: number } | undefined;
};

/** What the routes beside the turns ask for, bound to the database and the queue: each in a transaction of its own. */
export function bind(db: Db, engine: Engine, queue: Queue, settings: Bound) {
  const { digests, columns, messages, incoming, optOuts, subscriptions, ledger, airtime, tasks } = engine;
  const { farTasks, lookups, menus, messageView } = engine;
  const { enqueue } = queue;
  const { replies, mostRecipients: most, hasShortCode, routed, ttl, smsWait } = settings;
  const hear = hearIncoming({ db, incoming, optOuts, messages, replies, enqueue });
  /** All of it in one transaction, as far as it goes by the deadline. */
  const transact = <T>(deadline: Deadline, run: (tx: Db) => Promise<T>): Promise<T> =>
    within(deadline, db.transaction().execute(run));
  /** What operators count goes through the pool of everything else: turns wait for none of it. */
  const slowly: Sql = async (_name, text, values) =>
    (await db.executeQuery<Row>(CompiledQuery.raw(text, values))).rows;
  return {
    outbox: {
      list: (wanted: Parameters<typeof listDeliveries>[1], limit: number) =>
        listDeliveries(db, wanted, limit),
      retry: queue.retry,
      count: () => countDeliveries(db),
    },
    sms: {
      send: (sending: Parameters<typeof sendSms>[1]) =>
        sendSms({ db, messages, digests, enqueue, most }, sending),
      messagesOf: (requestId: string) => messageView.ofRequest(db, requestId),
      list: (wanted: WantedMessages, limit: number) => messageView.list(db, wanted, limit),
      find: (id: string) => messageView.find(db, id),
      hasShortCode,
      ...(smsWait !== undefined && { wait: smsWait }),
    },
    smsCallbacks: {
      hear: (message: Parameters<typeof hear>[0], deadline: Deadline) => within(deadline, hear(message)),
      report: (report: SmsReport, deadline: Deadline) =>
        transact(deadline, (tx) => hearReport(tx, digests, report)),
      optOut: (msisdn: string, sender: string, deadline: Deadline) =>
        transact(deadline, async (tx) =>
          (await optOuts.optOut(tx, msisdn, sender)) ? ('stored' as const) : ('repeated' as const),
        ),
      subscribe: (change: Parameters<typeof subscriptions.change>[1], deadline: Deadline) =>
        transact(deadline, (tx) => subscriptions.change(tx, change)),
    },
    wallet: {
      book: ledger.book,
      credit: (wanted: Parameters<typeof credit>[3]) => credit(db, columns, ledger, wanted),
    },
    airtime: {
      report: (report: Parameters<typeof airtime.report>[1], deadline: Deadline) =>
        transact(deadline, async (tx) => {
          const { moved, repeated, tell } = await airtime.report(tx, report);
          for (const id of tell) await enqueue(tx, SMS, { id });
          if (repeated) return 'repeated' as const;
          return moved ? ('stored' as const) : ('unmatched' as const);
        }),
      isExpected: (recipient: string, currency: string, amount: bigint, deadline: Deadline) =>
        within(deadline, airtime.isExpected(db, recipient, currency, amount)),
      reconciled: () => newestReconciliations(db),
    },
    stats: {
      nodesOf: (service: string) => {
        if (!menus.services().includes(service)) return undefined;
        const { menu } = menus.current(service);
        return { nodes: Object.keys(menu.nodes), hidden: menu.private };
      },
      funnel: (wanted: { service: string; from: Date; until: Date }) => funnelOf(slowly, { ...wanted, ttl }),
      records: (day: string) => recordsOf(slowly, day, ttl),
    },
    lookup: {
      record: (lookup: Parameters<typeof lookups.add>[1]) =>
        db.transaction().execute((tx) => lookups.add(tx, lookup)),
      view: (msisdn: string) => viewOf(slowly, digests.phone(msisdn), ttl),
      trail: (after: Parameters<typeof lookups.list>[1], limit: number) => lookups.list(db, after, limit),
    },
    housekeeping: () => stepStates(db),
    /** A request for help from outside a turn. */
    askForHelp: async (request: Request, deadline: Deadline): Promise<void> => {
      await within(deadline, askForHelp({ db, tasks, enqueue, randomCode }, request));
    },
    /** What became of a task at the far side. */
    hearRouter: (event: RouterEvent, deadline: Deadline) =>
      transact(deadline, async (tx) => {
        const { outcome, handOver } = await farTasks.hear(tx, event);
        if (handOver !== undefined) await enqueue(tx, TASK, { id: handOver });
        return outcome;
      }),
    desk: {
      list: (wanted: Parameters<typeof tasks.list>[1], limit: number) => tasks.list(db, wanted, limit),
      find: (reference: string) => tasks.find(db, reference),
      count: () => tasks.count(db),
      assign: (reference: string, wanted: { to: string; by: string; instead: boolean }) =>
        db.transaction().execute((tx) => tasks.assign(tx, reference, { ...wanted, routed })),
      close: (reference: string, closing: Parameters<typeof tasks.close>[2]) =>
        db.transaction().execute(async (tx) => {
          const closed = await tasks.close(tx, reference, closing);
          if (typeof closed === 'string') return closed;
          await enqueue(tx, TASK, { id: closed.event });
          return 'done' as const;
        }),
    },
  };
}
