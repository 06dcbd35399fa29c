import { randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import { olderThan, removeOld, type Sweep } from '../db/batches.ts';
import { type Cursor, isoTime } from '../db/cursor.ts';
import { type Db, GuardFailed, lockDigest } from '../db/db.ts';
import type { Digests } from '../seal/digests.ts';
import {
  type EventKind,
  now,
  type Request,
  type TaskRow,
  type TaskRows,
  type TaskState,
} from './task-rows.ts';

/** What one phone asks for of one kind, one request behind the other: else two at once would be two tasks. */
const MATTER_LOCK = 7_011;

/** A repeat within this adds to the task that is open (decision 33). */
const SAME_MATTER_HOURS = 48;

/** Seven digits can be remembered, and read out on the telephone; a collision is refused and drawn again. */
export const REFERENCE_LENGTH = 7;

/** A reference that nobody has, most likely; never with a zero in front, which people leave out. */
export function freshReference(randomCode: (alphabet: string, length: number) => string): string {
  return randomCode('123456789', 1) + randomCode('0123456789', REFERENCE_LENGTH - 1);
}

export type TaskSource = 'ussd' | 'telerivet';

/** A task as the desk sees it. Times are ISO 8601 in UTC. */
export type Task = Request & {
  id: string;
  reference: string;
  state: TaskState;
  source: TaskSource;
  priority: number;
  /** How often it was asked for. */
  requests: number;
  openedAt: string;
  askedAt: string;
  closedAt: string | null;
  assignee: string | null;
  /** The far side that has it. */
  router: string | null;
};

/** What became of a task, and who did it. */
export type TaskEvent = { at: string; kind: EventKind; by: string; note: string | null };

/**
 * Requests for help, as callers and the desk have them. None is ever lost: what the far side (`FarTasks`) does not
 * take, or lets go, is open here. A task is `open`, `assigned` to an agent, or `closed`; every step of it stands in
 * `task_events` with who took it.
 */
export class Tasks {
  readonly #rows: TaskRows;
  readonly #digests: Digests;

  constructor(rows: TaskRows, digests: Digests) {
    this.#rows = rows;
    this.#digests = digests;
  }

  /** The reference of the task to which a request of this phone for this kind of support would be added. */
  async openReference(db: Db, msisdn: string, supportType: string): Promise<string | undefined> {
    return (await this.#openOne(db, this.#matter(msisdn, supportType)))?.reference;
  }

  /**
   * A request for help: a new task under `reference`, or one more request on the one that is open under it. Returns
   * the id of what happened, by which the far side is told. Throws `GuardFailed` where `reference` is not the one
   * that this request has by now.
   */
  async ask(
    tx: Db,
    asked: Request & { reference: string; source: TaskSource; priority: number },
  ): Promise<string> {
    const { reference, source, priority, ...request } = asked;
    const matter = this.#matter(request.from, request.supportType);
    await lockDigest(tx, MATTER_LOCK, matter);
    const open = await this.#openOne(tx, matter);
    if (open !== undefined) {
      if (open.reference !== reference) throw new GuardFailed();
      const row = await this.#locked(tx, reference);
      // Closed by the desk at this moment: it is a new task.
      if (row === undefined || row.state === 'closed') throw new GuardFailed();
      await tx
        .updateTable('tasks')
        .set({
          sealed: this.#rows.seal(row.id, request),
          requests: sql<number>`requests + 1`,
          asked_at: now(),
          changed_at: now(),
        })
        .where('id', '=', row.id)
        .execute();
      return this.#rows.tellsOf(tx, row.id, 'repeated', source, changedFrom(this.#rows.open(row), request));
    }
    const id = randomUUID();
    const made = await tx
      .insertInto('tasks')
      .values({
        id,
        reference,
        phone: this.#digests.phone(request.from),
        matter,
        sealed: this.#rows.seal(id, request),
        source,
        priority,
        assignee: null,
        closed_at: null,
        router: null,
        router_id: null,
        tried_at: null,
        leased_until: null,
        heard_at: null,
      })
      .onConflict((conflict) => conflict.column('reference').doNothing())
      .returning('id')
      .executeTakeFirst();
    if (made === undefined) throw new GuardFailed();
    return this.#rows.happened(tx, id, 'opened', source);
  }

  /** Tasks, those that have waited longest first. */
  async list(
    db: Db,
    wanted: { states: readonly TaskState[]; after?: Cursor | undefined },
    limit: number,
  ): Promise<Task[]> {
    let query = this.#tasks(db).where('state', 'in', wanted.states);
    const { after } = wanted;
    if (after !== undefined)
      query = query.where(sql<boolean>`(opened_at, id) > (${after.at}::timestamptz, ${after.id}::uuid)`);
    const rows = await query.orderBy('opened_at').orderBy('id').limit(limit).execute();
    return rows.map((row) => this.#task(row));
  }

  /** One task and what became of it, oldest first. */
  async find(db: Db, reference: string): Promise<{ task: Task; events: TaskEvent[] } | undefined> {
    const row = await this.#tasks(db).where('reference', '=', reference).executeTakeFirst();
    if (row === undefined) return undefined;
    const events = await db
      .selectFrom('task_events')
      .select(['id', 'kind', 'by', 'sealed', isoTime('at').as('isoAt')])
      .where('task_id', '=', row.id)
      .orderBy('at')
      .orderBy('id')
      .execute();
    return {
      task: this.#task(row),
      events: events.map(({ id, kind, by, sealed, isoAt }) => ({
        at: isoAt ?? '',
        kind,
        by,
        note: sealed === null ? null : this.#rows.note(id, sealed),
      })),
    };
  }

  /**
   * Somebody takes a task. `unknown`: there is none; `closed`; `taken`: by somebody else, and `instead` was not said;
   * `elsewhere`: the far side has it and gives it to its own people; or is about to have it, and `instead` was not
   * said, or it is being told of it at this moment.
   */
  async assign(
    tx: Db,
    reference: string,
    wanted: { to: string; by: string; instead: boolean; routed: boolean },
  ): Promise<'assigned' | 'unknown' | 'closed' | 'taken' | 'elsewhere'> {
    const row = await this.#locked(tx, reference);
    if (row === undefined) return 'unknown';
    if (row.state === 'closed') return 'closed';
    if (wanted.routed && row.router_id !== null) return 'elsewhere';
    if (wanted.routed && (await isOnItsWay(tx, row.id, wanted.instead))) return 'elsewhere';
    if (row.assignee === wanted.to) return 'assigned';
    if (row.assignee !== null && !wanted.instead) return 'taken';
    await tx
      .updateTable('tasks')
      .set({ state: 'assigned', assignee: wanted.to, changed_at: now() })
      .where('id', '=', row.id)
      .execute();
    await this.#rows.happened(tx, row.id, 'assigned', wanted.by, `to ${wanted.to}`);
    return 'assigned';
  }

  /**
   * The desk has dealt with it. Returns the id of what happened, by which the far side is told; `again` where the same
   * operator had closed it with the same note; `closed` where somebody else had; `asked` where the caller has asked
   * more often than `requests`, which is what the operator has seen.
   */
  async close(
    tx: Db,
    reference: string,
    { note, by, requests }: { note: string; by: string; requests?: number | undefined },
  ): Promise<{ event: string } | 'again' | 'unknown' | 'closed' | 'asked'> {
    const row = await this.#locked(tx, reference);
    if (row === undefined) return 'unknown';
    if (row.state === 'closed') {
      const last = (await this.find(tx, reference))?.events.findLast(({ kind }) => kind === 'closed');
      return last?.by === by && last.note === note ? 'again' : 'closed';
    }
    if (requests !== undefined && row.requests > requests) return 'asked';
    await tx
      .updateTable('tasks')
      .set({ state: 'closed', closed_at: now(), changed_at: now() })
      .where('id', '=', row.id)
      .execute();
    return { event: await this.#rows.tellsOf(tx, row.id, 'closed', by, note) };
  }

  /** How many there are in each state, and for how long the oldest has waited; in seconds. */
  async count(db: Db): Promise<{ state: TaskState; count: number; oldest: number }[]> {
    return db
      .selectFrom('tasks')
      .select([
        'state',
        sql<number>`count(*)::int`.as('count'),
        sql<number>`extract(epoch from clock_timestamp() - min(opened_at))::float8`.as('oldest'),
      ])
      .where('state', '<>', 'closed')
      .groupBy('state')
      .execute();
  }

  /** Removes tasks of which nothing was heard for so many days, whatever their state. Returns how many by state. */
  async forget(db: Db, days: number, within?: Sweep): Promise<Record<TaskState, number>> {
    const where = olderThan('changed_at', days);
    const gone = await removeOld(db, { table: 'tasks', by: 'changed_at', where, kind: 'state' }, within);
    const count = (wanted: TaskState) => gone.get(wanted) ?? 0;
    return { open: count('open'), assigned: count('assigned'), closed: count('closed') };
  }

  /** Seals again, under the active key, what another key sealed. Returns how many rows. */
  async reseal(db: Db): Promise<number> {
    return this.#rows.reseal(db);
  }

  #openOne(db: Db, matter: Buffer): Promise<{ id: string; reference: string } | undefined> {
    return db
      .selectFrom('tasks')
      .select(['id', 'reference'])
      .where('matter', '=', matter)
      .where('state', '<>', 'closed')
      .where('opened_at', '>', sql<Date>`clock_timestamp() - ${SAME_MATTER_HOURS} * interval '1 hour'`)
      .orderBy('opened_at', 'desc')
      .limit(1)
      .executeTakeFirst();
  }

  #locked(tx: Db, reference: string): Promise<TaskRow | undefined> {
    return tx
      .selectFrom('tasks')
      .selectAll()
      .where('reference', '=', reference)
      .forUpdate()
      .executeTakeFirst();
  }

  #tasks(db: Db) {
    return db
      .selectFrom('tasks')
      .selectAll()
      .select([
        isoTime('opened_at').as('openedAt'),
        isoTime('asked_at').as('askedAt'),
        isoTime('closed_at').as('closedAt'),
      ]);
  }

  #task(row: TaskRow & { openedAt: string | null; askedAt: string | null; closedAt: string | null }): Task {
    const { id, reference, state, source, priority, requests, assignee, router, closedAt } = row;
    const openedAt = row.openedAt ?? '';
    const askedAt = row.askedAt ?? '';
    return {
      ...this.#rows.open(row),
      ...{ id, reference, state, source, priority, requests, openedAt, askedAt, closedAt, assignee, router },
    };
  }

  #matter(msisdn: string, supportType: string): Buffer {
    return this.#digests.key('matter', `${msisdn}\0${supportType}`);
  }
}

/** Something of the task is still to be told to the far side; `now`: it is being told at this moment. */
async function isOnItsWay(tx: Db, taskId: string, now: boolean): Promise<boolean> {
  let query = tx
    .selectFrom('outbox')
    .innerJoin('task_events', 'task_events.id', 'outbox.id')
    .innerJoin('tasks', 'tasks.id', 'task_events.task_id')
    .select('outbox.id')
    .where('tasks.id', '=', taskId)
    .where('outbox.state', '=', 'queued');
  if (now) query = query.where(sql<boolean>`tasks.leased_until > clock_timestamp()`);
  return (await query.limit(1).executeTakeFirst()) !== undefined;
}

/** What the answers were before, where they were others: they are nowhere else. */
function changedFrom(before: Request, now: Request): string | undefined {
  const [was, is] = [before, now].map(({ language, location, to }) => `${language}, ${location}, ${to}`);
  return was === is ? undefined : `before: ${was}`;
}
