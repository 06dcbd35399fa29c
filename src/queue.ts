import { fromKysely, fromPglite, PgBoss } from 'pg-boss';
import type { Db } from './store/accounts.ts';
import type { Database } from './store/database.ts';

/** How long jobs under way may take to finish when the process drains; in milliseconds. */
const DRAIN_MS = 3_000;

/**
 * Queued work is tried again first within 5 s, then at growing intervals, never further apart than 5 min
 * (CONTRACT.md section 4): for about a day and a half in all.
 */
const RETRIES = { retryLimit: 450, retryDelay: 2, retryBackoff: true, retryDelayMax: 300 };

/** Once a day, after midnight UTC has passed for every dial. */
const DAILY = '17 2 * * *';

export type Queue = {
  /** Queues a job in a transaction: it is there when the transaction is. Its data are row ids only. */
  enqueue(tx: Db, queue: string, data: { id: string }): Promise<void>;
  /** Runs `deliver` for every job of a queue, at least once each. */
  work(queue: string, deliver: (id: string) => Promise<void>): Promise<void>;
  /** Runs once a day on one instance. */
  daily(name: string, run: () => Promise<void>): Promise<void>;
  stop(): Promise<void>;
};

/** The durable queue (pg-boss) on the same database: started and drained with the process. */
export async function startQueue(database: Database, onError: (error: Error) => void): Promise<Queue> {
  const common = { persistWarnings: false, monitorVacuum: false };
  const { boss: reach } = database;
  const boss =
    'embedded' in reach
      ? new PgBoss({ ...common, db: fromPglite(reach.embedded), backend: 'pglite' })
      : new PgBoss({
          ...common,
          connectionString: reach.connectionString,
          max: 2,
          connectionTimeoutMillis: 5_000,
          application_name: 'ussd-gateway queue',
          options: '-c statement_timeout=30000 -c lock_timeout=10000',
        });
  // Without a listener an error of a poll that found the database away ends the process.
  boss.on('error', onError);
  await boss.start();
  return {
    enqueue: async (tx, queue, data) => {
      await boss.send(queue, data, { db: fromKysely(tx) });
    },
    work: async (queue, deliver) => {
      await boss.createQueue(queue, { ...RETRIES, expireInSeconds: 60, deleteAfterSeconds: 86_400 });
      await boss.work<{ id: string }>(queue, { batchSize: 20, pollingIntervalSeconds: 1 }, async (jobs) => {
        await Promise.all(jobs.map((job) => deliver(job.data.id)));
      });
    },
    daily: async (name, run) => {
      await boss.createQueue(name, { retryLimit: 5, retryBackoff: true, expireInSeconds: 600 });
      await boss.work(name, { batchSize: 1, pollingIntervalSeconds: 30 }, run);
      await boss.schedule(name, DAILY);
    },
    stop: () => boss.stop({ graceful: true, timeout: DRAIN_MS, close: true }),
  };
}
