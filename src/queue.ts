import { fromPglite, PgBoss } from 'pg-boss';
import type { Database } from './store/database.ts';

/** How long jobs under way may take to finish when the process drains; in milliseconds. */
const DRAIN_MS = 3_000;

export type Queue = { stop(): Promise<void> };

export type QueueParts = {
  database: Database;
  /** Runs once a day on one instance. */
  housekeeping(): Promise<void>;
  onError(error: Error): void;
};

/** Before the night's quiet ends, and after midnight UTC has passed everywhere it matters to turns. */
const DAILY = '17 2 * * *';

/** The durable queue (pg-boss) on the same database: started and drained with the process. */
export async function startQueue({ database, housekeeping, onError }: QueueParts): Promise<Queue> {
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
  await boss.createQueue('housekeeping', { retryLimit: 5, retryBackoff: true, expireInSeconds: 600 });
  await boss.work('housekeeping', { batchSize: 1, pollingIntervalSeconds: 30 }, housekeeping);
  await boss.schedule('housekeeping', DAILY);
  return {
    stop: () => boss.stop({ graceful: true, timeout: DRAIN_MS, close: true }),
  };
}
