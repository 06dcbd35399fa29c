import { type Sweep, sweep } from './db/batches.ts';
import type { House } from './db/database.ts';
import type { Db } from './db/db.ts';
import type { Keeping } from './engine.ts';
import { forgetEffects } from './store/effects.ts';
import { beginSteps, codeOf, failed, succeeded } from './store/housekeeping.ts';
import { forgetSmsReports } from './store/message-reports.ts';
import { forgetDelivered } from './store/outbox.ts';
import { dropPartitions, makePartitions, RETENTION_DAYS } from './store/partitions.ts';

/** Who looked up whose dials is kept for a year. */
const LOOKUP_DAYS = 365;
/** A partition of turns, which is dropped whole. */
const WEEK_DAYS = 7;

/**
 * The time that a step has before the next one gets its turn, and the time of the whole run, in milliseconds. A
 * backlog in one table so never keeps the others from theirs. With the longest single statement (65 s) the run is over
 * before the queue gives its job to another instance (queue.ts).
 */
const SLICE_MS = 60_000;
const RUN_MS = 20 * 60_000;

export type Housekeeping = Pick<
  Keeping,
  'accounts' | 'notices' | 'attempts' | 'airtime' | 'messages' | 'incoming' | 'lookups' | 'tasks'
> & {
  /** Opens the connection that all of it goes through. */
  house(): House;
  /** How long texts of messages and requests for help are kept. */
  messageDays: number;
  deskDays: number;
  /** What else is to be done daily, by name. */
  further?: Record<string, () => Promise<unknown>>;
  /** Milliseconds, and rows of a batch; for trying it out. */
  limits?: { sliceMs?: number; runMs?: number; rows?: number };
};

/** A step that left something undone, and why: an SQLSTATE, an error code, or `unfinished` where time ran out. */
export type FailedStep = { step: string; code: string };

/** What was removed, by kind; `unclosed` counts the tasks among them that were not closed. */
export type Kept = { removed: Record<string, number>; unclosed: number; failures: FailedStep[] };

/** Some step of the housekeeping failed; the others were done. Its message has steps and codes only. */
export class HousekeepingFailed extends Error {
  readonly code = 'housekeeping_failed';
  readonly failures: FailedStep[];
  constructor(failures: FailedStep[]) {
    super(failures.map(({ step, code }) => `${step} (${code})`).join(', '));
    this.failures = failures;
  }
}

type Step = {
  name: string;
  /** What its count is called; absent where none is told. */
  kind?: string;
  /** Returns how many it removed. */
  run(db: Db, within: Sweep): Promise<unknown>;
};

/**
 * Makes the partitions that are to come, and removes what has been kept for long enough. Each step is independent: one
 * that fails, or that has not finished in its time, keeps no other from its own; `failures` has them. When each step
 * succeeded last stands in the table `housekeeping`. Safe to run twice, and on two instances at once.
 */
export async function keepHouse(parts: Housekeeping): Promise<Kept> {
  const house = parts.house();
  const { sliceMs = SLICE_MS, runMs = RUN_MS, rows } = parts.limits ?? {};
  const until = performance.now() + runMs;
  const kept: Kept = { removed: {}, unclosed: 0, failures: [] };
  try {
    let steps = stepsOf(parts, house, kept);
    for (const { kind } of steps) if (kind !== undefined) kept.removed[kind] = 0;
    const names = steps.map(({ name }) => name);
    await beginSteps(house.db, names).catch((error: unknown) => {
      kept.failures.push({ step: 'record', code: codeOf(error) });
    });
    for (let round = 1; steps.length > 0 && (round === 1 || performance.now() < until); round += 1) {
      const unfinished: Step[] = [];
      for (const step of steps) {
        const end = performance.now() + sliceMs;
        const within = sweep(() => performance.now() > end, rows);
        const code = await runStep(house.db, step, within, kept);
        if (code !== undefined) kept.failures.push({ step: step.name, code });
        else if (within.unfinished) unfinished.push(step);
      }
      steps = unfinished;
    }
    for (const { name } of steps) {
      kept.failures.push({ step: name, code: 'unfinished' });
      await failed(house.db, name, 'unfinished').catch(() => {});
    }
    return kept;
  } finally {
    await house.close().catch(() => {});
  }
}

/** Runs a step and records how it went. Returns the code of its failure. */
async function runStep(db: Db, step: Step, within: Sweep, kept: Kept): Promise<string | undefined> {
  try {
    const count = await step.run(db, within);
    if (step.kind !== undefined) kept.removed[step.kind] = (kept.removed[step.kind] ?? 0) + Number(count);
    if (!within.unfinished) await succeeded(db, step.name);
    return undefined;
  } catch (error) {
    const code = codeOf(error);
    // Where even this cannot be written its last success stays old, which the alert sees.
    await failed(db, step.name, code).catch(() => {});
    return code;
  }
}

function stepsOf(parts: Housekeeping, { alone, lockMs }: House, kept: Kept): Step[] {
  const { accounts, notices, attempts, airtime, messages, incoming, lookups, tasks, messageDays, deskDays } =
    parts;
  return [
    { name: 'partitions', run: (db) => makePartitions(db) },
    {
      name: 'turns',
      kind: 'weeks of turns',
      run: async (db, within) => (await dropPartitions(db, RETENTION_DAYS, { within, alone, lockMs })).length,
    },
    {
      name: 'effects',
      kind: 'effects',
      run: (db, within) => forgetEffects(db, RETENTION_DAYS + WEEK_DAYS, within),
    },
    { name: 'notices', kind: 'notices', run: (db, within) => notices.forget(db, RETENTION_DAYS, within) },
    { name: 'attempts', run: (db, within) => attempts.forget(db, within) },
    { name: 'link-codes', run: (db, within) => accounts.forgetCodes(db, within) },
    { name: 'outbox', kind: 'deliveries', run: (db, within) => forgetDelivered(db, within) },
    { name: 'airtime-reports', run: (db, within) => airtime.forgetReports(db, within) },
    { name: 'sms-reports', run: (db, within) => forgetSmsReports(db, within) },
    { name: 'messages', run: (db, within) => messages.forget(db, messageDays, within) },
    {
      name: 'incoming',
      kind: 'messages that came in',
      run: (db, within) => incoming.forget(db, messageDays, within),
    },
    { name: 'lookups', kind: 'look-ups', run: (db, within) => lookups.forget(db, LOOKUP_DAYS, within) },
    {
      name: 'tasks',
      kind: 'tasks',
      run: async (db, within) => {
        const { open, assigned, closed } = await tasks.forget(db, deskDays, within);
        kept.unclosed += open + assigned;
        return open + assigned + closed;
      },
    },
    ...Object.entries(parts.further ?? {}).map(([name, run]) => ({ name, run: () => run() })),
  ];
}
