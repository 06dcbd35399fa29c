import type { Keeping } from './engine.ts';
import type { Db } from './store/accounts.ts';
import { forgetEffects } from './store/effects.ts';
import { forgetSmsReports } from './store/message-reports.ts';
import { forgetDelivered } from './store/outbox.ts';
import { dropPartitions, makePartitions } from './store/partitions.ts';

/** Turns and notices are kept for this many days; then their partition is dropped, and they are deleted. */
const RETENTION_DAYS = 35;
/** Who looked up whose dials is kept for a year. */
const LOOKUP_DAYS = 365;
/** A partition of turns, which is dropped whole. */
const WEEK_DAYS = 7;

export type Housekeeping = Pick<
  Keeping,
  'notices' | 'attempts' | 'airtime' | 'messages' | 'incoming' | 'lookups' | 'tasks'
> & {
  db: Db;
  /** How long texts of messages and requests for help are kept. */
  messageDays: number;
  deskDays: number;
};

/** What was removed, by kind; `unclosed` counts the tasks among them that nobody had closed. */
export type Kept = { removed: Record<string, number>; unclosed: number };

/** Makes the partitions that are to come, and removes what has been kept for long enough. Safe to run twice. */
export async function keepHouse(parts: Housekeeping): Promise<Kept> {
  const { db, notices, attempts, airtime, messages, incoming, lookups, tasks } = parts;
  await makePartitions(db);
  const partitions = await dropPartitions(db, RETENTION_DAYS);
  const effects = await forgetEffects(db, RETENTION_DAYS + WEEK_DAYS);
  const told = await notices.forget(db, RETENTION_DAYS);
  await attempts.forget();
  const delivered = await forgetDelivered(db);
  await airtime.forgetReports(db);
  await forgetSmsReports(db);
  await messages.forget(db, parts.messageDays);
  const heard = await incoming.forget(db, parts.messageDays);
  const looked = await lookups.forget(db, LOOKUP_DAYS);
  const { open, assigned, closed } = await tasks.forget(db, parts.deskDays);
  return {
    removed: {
      'weeks of turns': partitions.length,
      effects,
      notices: told,
      deliveries: delivered,
      'messages that came in': heard,
      'look-ups': looked,
      tasks: open + assigned + closed,
    },
    unclosed: open + assigned,
  };
}
