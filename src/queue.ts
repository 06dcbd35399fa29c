import { fromKysely, fromPglite, type JobResult, PgBoss } from 'pg-boss';
import type { Database } from './db/database.ts';
import { type Db, GuardFailed } from './db/db.ts';
import { codeOf, type Delivery, type Enqueue } from './effects/delivery.ts';
import { type Failing, failures } from './effects/failing.ts';
import { endDelivery, kindOf, noteAttempts, putOut, reviveDelivery } from './store/outbox.ts';
import { ownsQueue } from './store/queue-schema.ts';

/** How long jobs under way may take to finish when the process drains; in milliseconds. */
const DRAIN_MS = 6_000;

/**
 * Queued work is tried again first within 5 s, then at growing intervals with some chance in them, never
 * further apart than 5 min (docs/contract.md section 4).
 */
const BACKOFF = { retryDelay: 2, retryBackoff: true, retryDelayMax: 300 };

/**
 * A job whose process is gone is tried again after this, in seconds: longer than any call to a provider takes,
 * so that it is rarely tried while it is still under way. (Where it is, the provider knows it by its key.)
 */
const EXPIRE_SECONDS = 10;
/** How often one of the instances looks for such jobs. */
const LOOK_SECONDS = 2;

/** How often a worker looks for jobs; in seconds. pg-boss takes no less than half a second. */
const POLL_SECONDS = 1;
/** How long the workers of a kind look more often after a job of it, where `wakeMs` is set; in milliseconds. */
const AWAKE_MS = 2_000;

/** Where the queue puts what it has tried for the last time. */
const DEAD_LETTERS = 'dead-letters';
/**
 * What is given up is to be undone, money with it: tried as often as it takes, once a minute. (With a backoff the
 * waits would double without end: pg-boss hands their maximum on to no dead letter.)
 */
const DEAD_BACKOFF = { retryDelay: 60, retryBackoff: false, retryLimit: 100_000, expireInSeconds: 60 };

/** What a test passes in where a process uses the production value. */
export type QueueSettings = {
  /** Tries after the first. Default: those of the delivery. */
  retries?: number;
  /** Default: `BACKOFF`. */
  backoff?: Partial<typeof BACKOFF>;
  /** Default: `EXPIRE_SECONDS`. */
  expireSeconds?: number;
  /** How often an instance looks for expired jobs; in whole seconds. Default: `LOOK_SECONDS`. */
  lookSeconds?: number;
  /** Default: `DEAD_BACKOFF`. */
  deadBackoff?: Partial<typeof DEAD_BACKOFF>;
  /** Is told which deliveries fail, at most once a minute for each kind and code. */
  onFailing?: (failing: Failing) => void;
  /**
   * Makes the workers of a kind look this often for two seconds after this instance queued or tried a job of it; in
   * milliseconds. Default: they look every `POLL_SECONDS` only.
   */
  wakeMs?: number;
};

/** Once a day, after midnight UTC has passed for every dial. */
const DAILY = '17 2 * * *';

/**
 * What failed is tried again after 5 min, then at growing intervals of at most an hour: a dump that held up the
 * housekeeping is over by then. It is another instance's after half an hour, in seconds: longer than the housekeeping
 * takes (housekeeping.ts).
 */
const DAILY_RETRIES = {
  retryLimit: 12,
  retryDelay: 300,
  retryBackoff: true,
  retryDelayMax: 3_600,
  expireInSeconds: 1_800,
};

/** A daily job failed; its message is the code of what failed. */
class DailyFailed extends Error {}

/** This process delivers nothing of that kind: another instance does. */
class UnknownKind extends Error {
  readonly code = 'unknown_kind';
}

type Job = { id: string };
type Fetched = { id: string; data: Job };

export type Queue = {
  /** Queues a delivery in a transaction, with its row in the outbox. The job's data are row ids only. */
  enqueue: Enqueue;
  /** Delivers what is queued of these kinds from now on, at least once each. */
  work(deliveries: readonly Delivery[]): Promise<void>;
  /** Tries again what was given up or refused: `unknown` where nothing of that id is, `refused` where it cannot be. */
  retry(id: string): Promise<'queued' | 'unknown' | 'refused'>;
  /** Runs once a day on one instance. */
  daily(name: string, run: () => Promise<void>): Promise<void>;
  /** Takes no new job from now on; those under way go on. */
  rest(): Promise<void>;
  stop(): Promise<void>;
};

/** The durable queue (pg-boss) on the same database: started and drained with the process. */
export async function startQueue(
  database: Database,
  onError: (error: Error) => void,
  settings: QueueSettings = {},
): Promise<Queue> {
  const boss = await startBoss(database, onError, settings.lookSeconds ?? LOOK_SECONDS);
  const { kysely } = database;
  const workers = wakeful(boss, settings.wakeMs);
  const send = async (tx: Db, kind: string, { id }: Job) => {
    await boss.send(kind, { id }, { db: fromKysely(tx) });
    workers.stir(kind);
  };
  const known = new Map<string, Delivery>();
  const noteFailures = failures(settings.onFailing ?? (() => {}));
  return {
    enqueue: async (tx, kind, { id }) => {
      await putOut(tx, kind, id);
      await send(tx, kind, { id });
    },
    work: async (deliveries) => {
      for (const delivery of deliveries) known.set(delivery.kind, delivery);
      await createQueue(boss, DEAD_LETTERS, { ...DEAD_BACKOFF, ...settings.deadBackoff });
      const burier = await boss.work(
        DEAD_LETTERS,
        { batchSize: 20, pollingIntervalSeconds: POLL_SECONDS, perJobResults: true },
        async (jobs: Fetched[]) => {
          const results: JobResult[] = [];
          for (const { id, data } of jobs) {
            const error = await bury(kysely, known, data.id).catch((error: unknown) => error ?? 'none');
            if (error !== undefined) onError(error as Error);
            results.push({ id, status: error === undefined ? 'completed' : 'failed' });
          }
          return results;
        },
      );
      workers.add(DEAD_LETTERS, burier);
      for (const delivery of deliveries) {
        await createQueue(boss, delivery.kind, {
          ...BACKOFF,
          ...settings.backoff,
          retryLimit: settings.retries ?? delivery.retries,
          expireInSeconds: settings.expireSeconds ?? EXPIRE_SECONDS,
          deleteAfterSeconds: 3_600,
          deadLetter: DEAD_LETTERS,
        });
        const worker = await boss.work(
          delivery.kind,
          {
            batchSize: delivery.batch,
            localConcurrency: delivery.workers,
            pollingIntervalSeconds: POLL_SECONDS,
            burstWhenBatchFull: true,
            perJobResults: true,
          },
          async (jobs: Fetched[]) => {
            const results = await attempt(kysely, delivery, jobs, { onError, noteFailures });
            workers.stir(delivery.kind, DEAD_LETTERS);
            return results;
          },
        );
        workers.add(delivery.kind, worker);
      }
    },
    retry: (id) => revive(kysely, known, id, send),
    daily: async (name, run) => {
      await createQueue(boss, name, DAILY_RETRIES);
      await boss.work(name, { batchSize: 1, pollingIntervalSeconds: 30 }, async () => {
        // The queue keeps the error of a job as it is, and a message may quote values: a code only (decision 13).
        await run().catch((error: unknown) => {
          throw new DailyFailed(codeOf(error));
        });
      });
      await boss.schedule(name, DAILY);
    },
    rest: async () => {
      await Promise.all([...known.keys(), DEAD_LETTERS].map((name) => boss.offWork(name, { wait: false })));
    },
    stop: () => {
      workers.sleep();
      return boss.stop({ graceful: true, timeout: DRAIN_MS, close: true });
    },
  };
}

/**
 * Makes workers look for jobs more often than pg-boss polls, as `QueueSettings.wakeMs` says. When a transaction that
 * queued something commits is not known here, so they look several times.
 */
function wakeful(boss: PgBoss, everyMs: number | undefined) {
  const workers = new Map<string, string>();
  const awake = new Map<string, number>();
  let timer: NodeJS.Timeout | undefined;
  const wake = () => {
    const now = performance.now();
    for (const [kind, until] of awake) {
      const worker = workers.get(kind);
      if (until < now) awake.delete(kind);
      else if (worker !== undefined) boss.notifyWorker(worker);
    }
    if (awake.size === 0) sleep();
  };
  const sleep = () => {
    clearInterval(timer);
    timer = undefined;
  };
  return {
    /** Adds the worker (by the id that `boss.work` returned) of a kind. */
    add: (kind: string, worker: string) => workers.set(kind, worker),
    /** Makes the workers of these kinds look more often from now on. */
    stir: (...kinds: string[]) => {
      if (everyMs === undefined) return;
      for (const kind of kinds) awake.set(kind, performance.now() + AWAKE_MS);
      timer ??= setInterval(wake, everyMs);
    },
    sleep,
  };
}

async function startBoss(
  database: Database,
  onError: (error: Error) => void,
  lookSeconds: number,
): Promise<PgBoss> {
  const { boss: reach } = database;
  const owns = await ownsQueue(database.kysely);
  const common = {
    // Else the owner has made it (`installQueue`), and what wants an owner is left alone.
    migrate: owns,
    ...(!owns && { reindex: false as const }),
    persistWarnings: false,
    monitorVacuum: false,
    superviseIntervalSeconds: lookSeconds,
    monitorIntervalSeconds: lookSeconds,
  };
  const boss =
    'embedded' in reach
      ? new PgBoss({ ...common, db: fromPglite(reach.embedded), backend: 'pglite' })
      : new PgBoss({
          ...common,
          connectionString: reach.connectionString,
          max: 4,
          connectionTimeoutMillis: 5_000,
          application_name: 'ussd-gateway queue',
          ...(reach.pooler === 'none' && { options: '-c statement_timeout=30000 -c lock_timeout=10000' }),
        });
  // Without a listener an error of a poll that found the database away ends the process.
  boss.on('error', onError);
  await boss.start();
  return boss;
}

/** Makes a queue, and brings one that an older version made up to date; one that is so already is only looked at. */
async function createQueue(
  boss: PgBoss,
  name: string,
  options: NonNullable<Parameters<PgBoss['createQueue']>[1]>,
): Promise<void> {
  const there: object | null = await boss.getQueue(name);
  const isSo = ([key, value]: [string, unknown]) => Reflect.get(there ?? {}, key) === value;
  if (there !== null && Object.entries(options).every(isSo)) return;
  await boss.createQueue(name, options);
  await boss.updateQueue(name, options);
}

/** One attempt at some jobs, each settled by itself. */
async function attempt(
  db: Db,
  delivery: Delivery,
  jobs: Fetched[],
  { onError, noteFailures }: { onError(error: Error): void; noteFailures: ReturnType<typeof failures> },
): Promise<JobResult[]> {
  let again: ReadonlyMap<string, string>;
  try {
    again = await delivery.deliver(jobs.map(({ data }) => data.id));
  } catch (error) {
    onError(error as Error);
    again = new Map(jobs.map(({ data }) => [data.id, 'internal']));
  }
  noteFailures(delivery.kind, again.values());
  for (const code of new Set(again.values())) {
    const ids = [...again].filter(([, own]) => own === code).map(([id]) => id);
    // Only what operators see: the attempt itself is the queue's to count.
    await noteAttempts(db, ids, code).catch(onError);
  }
  return jobs.map(({ id, data }) => {
    const code = again.get(data.id);
    return code === undefined ? { id, status: 'completed' } : { id, status: 'failed', output: { code } };
  });
}

/** After the last try: marked dead, and undone what was done in advance, once, in one transaction. */
async function bury(db: Db, known: ReadonlyMap<string, Delivery>, id: string): Promise<void> {
  const kind = await kindOf(db, id);
  if (kind === undefined) return;
  const delivery = known.get(kind);
  // An older instance beside a newer one: what it does not know it cannot undo.
  if (delivery === undefined) throw new UnknownKind();
  await db.transaction().execute(async (tx) => {
    if (await endDelivery(tx, id, 'dead')) await delivery.giveUp?.(tx, id);
  });
}

async function revive(
  db: Db,
  known: ReadonlyMap<string, Delivery>,
  id: string,
  send: (tx: Db, kind: string, job: Job) => Promise<void>,
): Promise<'queued' | 'unknown' | 'refused'> {
  try {
    return await db.transaction().execute(async (tx) => {
      const row = await reviveDelivery(tx, id);
      if (row === undefined) return 'unknown';
      // By the id as the row has it: however an operator spells it, to the far side it is one key.
      await known.get(row.kind)?.revive?.(tx, row.id);
      await send(tx, row.kind, { id: row.id });
      return 'queued';
    });
  } catch (error) {
    if (error instanceof GuardFailed) return 'refused';
    throw error;
  }
}
