import { sql } from 'kysely';
import { PgBoss } from 'pg-boss';
import type { Db } from '../db/db.ts';

/** How long indexes that a new version of the queue builds beside the running service may take, in milliseconds. */
const INDEXES_MS = 300_000;

/**
 * Makes the queue's schema on a server, or brings one of an older version up to date; as the owner of the tables. The
 * service need not be allowed to then.
 */
export async function installQueue(url: string): Promise<void> {
  const boss = new PgBoss({
    connectionString: url,
    max: 2,
    connectionTimeoutMillis: 5_000,
    application_name: 'ussd-gateway migrations',
    supervise: false,
    schedule: false,
    bamIntervalSeconds: 10,
  });
  boss.on('error', () => {});
  const until = performance.now() + INDEXES_MS;
  try {
    await boss.start();
    while (await isBuilding(boss)) {
      if (performance.now() > until) return;
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    }
  } finally {
    await boss.stop({ graceful: false, close: true });
  }
}

async function isBuilding(boss: PgBoss): Promise<boolean> {
  const states = await boss.getBamStatus();
  return states.some(({ status }) => status === 'pending' || status === 'in_progress');
}

/** Whether this role may change the queue's schema: it owns it, or there is none yet. */
export async function ownsQueue(db: Db): Promise<boolean> {
  const { rows } = await sql<{ owns: boolean }>`
    select pg_has_role(nspowner, 'usage') as owns from pg_namespace where nspname = 'pgboss'`.execute(db);
  return rows[0]?.owns ?? true;
}
