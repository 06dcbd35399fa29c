import { sql } from 'kysely';
import type { Db } from '../db/db.ts';
import type { Sql } from '../db/sql.ts';

/** An instance looks so often, in milliseconds: a switch is seen everywhere within 2 s. */
const LOOK_EVERY_MS = 1_000;

const OFF = 'select service from service_switches';

/**
 * Which services are switched off, as this instance saw it last. Openings ask this and not the database, so that a
 * turn carries no query for it, and a database that is away switches nothing on or off.
 */
export class Switches {
  readonly #sql: Sql;
  #off: ReadonlySet<string> = new Set();

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  isOff(service: string): boolean {
    return this.#off.has(service);
  }

  /** Looks now, within the limits of any single statement. What cannot be read leaves what was known. */
  async look(): Promise<void> {
    const rows = await this.#sql('service_switches', OFF, []);
    this.#off = new Set(rows.map(({ service }) => String(service)));
  }

  /** Looks again and again, one look at a time, so that a slow database is not asked more. Returns what ends it. */
  watch(onError: (error: Error) => void, every = LOOK_EVERY_MS): () => void {
    let looking = false;
    const timer = setInterval(() => {
      if (looking) return;
      looking = true;
      this.look()
        .catch(onError)
        .finally(() => {
          looking = false;
        });
    }, every);
    timer.unref();
    return () => clearInterval(timer);
  }
}

/** Since when services are switched off, by service. */
export async function switchedOff(db: Db): Promise<Map<string, Date>> {
  const rows = await db.selectFrom('service_switches').selectAll().execute();
  return new Map(rows.map((row) => [row.service, row.off_at]));
}

/** Switches a service off; one that is off already stays off since when it was. */
export async function switchOff(db: Db, service: string): Promise<void> {
  await db
    .insertInto('service_switches')
    .values({ service, off_at: sql<Date>`clock_timestamp()` })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
}

/** Switches a service on again. */
export async function switchOn(db: Db, service: string): Promise<void> {
  await db.deleteFrom('service_switches').where('service', '=', service).execute();
}
