import { type Db, GuardFailed } from '../db/db.ts';
import { ProviderError } from '../providers/provider.ts';
import type { TaskAttributes, TaskRouter } from '../providers/task-router.ts';
import type { FarTasks, Held } from '../store/far-tasks.ts';
import { endDelivery } from '../store/outbox.ts';
import type { Request } from '../store/task-rows.ts';
import { freshReference, type Tasks } from '../store/tasks.ts';
import { type Delivery, type Enqueue, eachAlone } from './delivery.ts';
import type { EffectKind } from './effect.ts';

/** The kind of what the far side of a task is to be told. */
export const TASK = 'task';

/** With growing intervals of at most 5 min: about a day and a half. The desk sees it all the while. */
const RETRIES = 450;

/** A raced request is asked again on what is so by then; more than this is no race. */
const ATTEMPTS = 4;

/** Priority by kind of support, highest first: no shelter tonight, then no food; legal papers can wait till morning. */
const PRIORITIES: Readonly<Record<string, number>> = { Shelter: 10, 'Food and Clothing': 5 };

function priorityOf(supportType: string): number {
  return PRIORITIES[supportType] ?? 0;
}

/**
 * `openTask { reference, language, location, supportType }`: the caller asks to be called back. A second request of
 * the same phone and support type within 48 h adds to the one that is open (decision 33).
 */
export function openTask(tasks: Tasks): EffectKind {
  return {
    commit: async (args, { tx, msisdn, serviceCode, enqueue }) => {
      const { reference = '', language = '', location = '', supportType = '' } = args;
      const request = { from: msisdn, to: serviceCode, language, location, supportType };
      const priority = priorityOf(supportType);
      await enqueue(TASK, { id: await tasks.ask(tx, { ...request, reference, source: 'ussd', priority }) });
    },
  };
}

export type Asking = {
  db: Db;
  tasks: Tasks;
  enqueue: Enqueue;
  randomCode(alphabet: string, length: number): string;
};

/** The same from outside a turn: another program has led the conversation. Returns the reference. */
export async function askForHelp(
  { db, tasks, enqueue, randomCode }: Asking,
  request: Request,
): Promise<string> {
  const { from, supportType } = request;
  const asked = { ...request, source: 'telerivet' as const, priority: priorityOf(supportType) };
  for (let attempt = 1; ; attempt += 1) {
    const open = await tasks.openReference(db, from, supportType);
    const reference = open ?? freshReference(randomCode);
    try {
      await db.transaction().execute(async (tx) => {
        await enqueue(tx, TASK, { id: await tasks.ask(tx, { ...asked, reference }) });
      });
      return reference;
    } catch (error) {
      if (!(error instanceof GuardFailed) || attempt === ATTEMPTS) throw error;
    }
  }
}

/**
 * Brings the far side in step with a task as it is now, whatever event is being told of: so events may be told in
 * any order, and more than once. Without a far side there is nothing to tell: the desk has it.
 */
export function taskDelivery(db: Db, farTasks: FarTasks, router?: TaskRouter): Delivery {
  const deliverOne = async (id: string): Promise<string | undefined> => {
    const end = (state: 'done' | 'refused', code?: string) => endDelivery(db, id, state, code);
    const held = router === undefined ? undefined : await farTasks.hold(db, id);
    if (held === 'busy') return 'busy';
    if (router === undefined || held === undefined) {
      // Without a router nothing is told now; when there is one again, it is (`tellUntold`).
      await end('done');
      return undefined;
    }
    try {
      const again = await bringInStep({ db, farTasks, router }, held);
      if (again !== undefined) return again;
      await end('done');
    } catch (error) {
      if (!(error instanceof ProviderError)) throw error;
      if (error.retryable) return error.code;
      await end('refused', error.code);
    } finally {
      await farTasks.letGo(db, held);
    }
    return undefined;
  };
  return {
    kind: TASK,
    batch: 5,
    workers: 2,
    retries: RETRIES,
    deliver: (ids) => eachAlone(ids, deliverOne),
  };
}

/** Queues what the far side should know and nothing is on its way of. Returns how much. */
export async function tellUntold({
  db,
  farTasks,
  enqueue,
}: Pick<Asking, 'db' | 'enqueue'> & { farTasks: FarTasks }): Promise<number> {
  return db.transaction().execute(async (tx) => {
    const events = await farTasks.untold(tx);
    for (const id of events) await enqueue(tx, TASK, { id });
    return events.length;
  });
}

type Far = { db: Db; farTasks: FarTasks; router: TaskRouter };

/**
 * Why it is to be tried again, where nothing failed and yet nothing more can be done now. At most three calls, which
 * the lease outlasts.
 */
async function bringInStep(far: Far, held: Held): Promise<string | undefined> {
  const { db, farTasks, router } = far;
  const attributes = attributesOf(held);
  let { routerId } = held;
  if (routerId !== null && held.told) return undefined;
  if (routerId === null && held.tried !== 'no') {
    // Creating it was begun, and the answer was lost: the task under this reference is the one.
    routerId = (await router.find(attributes)) ?? null;
    if (routerId !== null && held.state === 'assigned') {
      // An agent took the task at the desk meanwhile: the task router must not offer it to a second one.
      await farTasks.disown(db, held.id, routerId);
      await router.close(routerId, 'taken at the desk');
      return undefined;
    }
    if (routerId !== null) await adopt(far, held, routerId);
  }
  if (held.state === 'closed') {
    // The far side may take it after all, a moment later.
    if (routerId === null) return held.tried === 'fresh' ? 'uncertain' : undefined;
    await router.close(routerId, 'closed at the desk');
    await farTasks.told(db, held);
    return undefined;
  }
  if (routerId !== null) {
    if (!(await router.update(routerId, attributes))) {
      await db.transaction().execute((tx) => farTasks.lost(tx, held.id, router.name));
      return 'reopened';
    }
    await farTasks.told(db, held);
    return undefined;
  }
  // An agent took the task at the desk before the task router had it: it stays at the desk.
  if (held.state === 'assigned') return undefined;
  if (held.tried === 'fresh') return 'uncertain';
  await farTasks.tries(db, held.id, 'begins');
  try {
    const made = await router.create({ attributes, priority: held.priority });
    await adopt(far, held, made, held.version);
  } catch (error) {
    if (error instanceof ProviderError && isNotDone(error)) await farTasks.tries(db, held.id, 'not done');
    else if (error instanceof ProviderError && isOver(error)) await farTasks.tries(db, held.id, 'answered');
    throw error;
  }
  return undefined;
}

function adopt(
  { db, farTasks, router }: Far,
  { id }: Held,
  routerId: string,
  version?: number,
): Promise<void> {
  return db.transaction().execute((tx) => farTasks.handed(tx, id, router.name, routerId, version));
}

/** The far side never heard of it, or said that it did nothing. */
function isNotDone({ code, retryable }: ProviderError): boolean {
  return !retryable || code === 'unreachable' || /^http_4(?!08|09)\d\d/.test(code);
}

/**
 * True where the call came to an end, whatever it did: it was answered. Then what is not there a few seconds later was
 * not created. After 504 and 408 a server behind the one that answered may still be at work, and after no answer at all
 * anybody may.
 */
function isOver({ code }: ProviderError): boolean {
  return /^(http_5(?!04)\d\d|malformed|truncated|too_large)/.test(code);
}

/** The eight names of the reference, and ours (decision 33). */
function attributesOf({ reference, request }: Held): TaskAttributes {
  const { from, to, language, location, supportType } = request;
  return {
    type: 'support',
    channel: 'ussd',
    to,
    from,
    language,
    location,
    callback: 'Yes',
    support_type: supportType,
    reference,
  };
}
