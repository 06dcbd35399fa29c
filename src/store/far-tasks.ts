import { sql } from 'kysely';
import type { Db } from '../db/db.ts';
import { now, type Request, type TaskRow, type TaskRows, type TaskState } from './task-rows.ts';

/**
 * For this long one process at a time speaks to the far side of a task, in seconds: longer than two calls may take
 * (8 s), so that no process begins while another one may still be in a call.
 */
export const LEASE_SECONDS = 10;

/**
 * For this long after creating a task was begun, its absence there proves nothing, in seconds: the call may be under
 * way. Then it is created again.
 */
export const UNCERTAIN_SECONDS = 20;

/** What a test passes in where a process uses `LEASE_SECONDS` and `UNCERTAIN_SECONDS`. */
export type FarTaskTimes = { leaseSeconds?: number; uncertainSeconds?: number };

/**
 * The same where the try was answered, but not with the task, in seconds: nothing is under way any more, and what was
 * created is listed by then. The first repeat of the queue comes about then; people in need wait for it.
 */
const ANSWERED_SECONDS = 3;

/**
 * A task that the far side lets go is handed over anew so often; then it stays with the desk: a workflow that lets go
 * of everything would otherwise be asked for ever.
 */
const MOST_REOPENED = 5;

/** Tasks that are queued again at a time. */
const MOST_UNTOLD = 500;

/** A task that is to be brought in step with the far side, held by this process for a while. */
export type Held = {
  id: string;
  reference: string;
  state: TaskState;
  priority: number;
  request: Request;
  routerId: string | null;
  /** Creating it there was begun and its outcome is unknown; `fresh`: it may even be under way. */
  tried: 'no' | 'fresh' | 'long ago';
  /** The far side knows of this event already. */
  told: boolean;
  /** What this is the state of, and the end of the lease by the database's clock. */
  version: number;
  until: string;
};

/** What the far side tells of a task, in its own order: `at` is its clock, in milliseconds since 1970. */
export type RouterEvent = {
  router: string;
  routerId: string;
  /** What its attributes say, where they can be read. */
  about?: { reference: string; from: string };
  at: number;
  move: 'assigned' | 'released' | 'closed' | 'lost';
  worker?: string;
};

/**
 * Tasks as the far side (a task router) has them. It is brought in step with a task as it is now, by one process at a
 * time, and what it says of a task moves the one that is here.
 */
export class FarTasks {
  readonly #rows: TaskRows;
  readonly #leaseSeconds: number;
  readonly #uncertainSeconds: number;

  constructor(
    rows: TaskRows,
    { leaseSeconds = LEASE_SECONDS, uncertainSeconds = UNCERTAIN_SECONDS }: FarTaskTimes = {},
  ) {
    this.#rows = rows;
    this.#leaseSeconds = leaseSeconds;
    this.#uncertainSeconds = uncertainSeconds;
  }

  /**
   * Leases the task of an event, so that no other process calls the task router about it. Returns `busy` where another
   * process has the lease, undefined where the task is gone.
   */
  async hold(db: Db, eventId: string): Promise<Held | 'busy' | undefined> {
    const event = await db
      .selectFrom('task_events')
      .select(['task_id', 'version'])
      .where('id', '=', eventId)
      .executeTakeFirst();
    if (event === undefined) return undefined;
    const row = await db
      .updateTable('tasks')
      .set({ leased_until: sql<Date>`clock_timestamp() + ${this.#leaseSeconds} * interval '1 second'` })
      .where('id', '=', event.task_id)
      .where(sql<boolean>`coalesce(leased_until <= clock_timestamp(), true)`)
      .returningAll()
      .returning([
        sql<boolean>`tried_at > clock_timestamp() - ${this.#uncertainSeconds} * interval '1 second'`.as(
          'fresh',
        ),
        sql<string>`leased_until::text`.as('until'),
      ])
      .executeTakeFirst();
    if (row === undefined) return 'busy';
    const { id, reference, state, priority, router_id: routerId, version, until } = row;
    const tried = row.tried_at === null ? 'no' : row.fresh ? 'fresh' : 'long ago';
    const told = row.told >= event.version;
    return {
      id,
      reference,
      state,
      priority,
      request: this.#rows.open(row),
      routerId,
      tried,
      told,
      version,
      until,
    };
  }

  /** Releases it for other processes; one whose lease has run out has nothing to let go. */
  async letGo(db: Db, { id, until }: Held): Promise<void> {
    await db
      .updateTable('tasks')
      .set({ leased_until: null })
      .where('id', '=', id)
      .where(sql<boolean>`leased_until = ${until}::timestamptz`)
      .execute();
  }

  /** The far side knows the task as it was held. */
  async told(db: Db, { id, version }: Held): Promise<void> {
    await db
      .updateTable('tasks')
      .set({ told: version })
      .where('id', '=', id)
      .where('told', '<', version)
      .execute();
  }

  /**
   * Records how a try to create it at the task router stands: it begins; it was answered, so that no call is under way
   * any more; or it has surely not happened: then the next try need not look first.
   */
  async tries(db: Db, id: string, how: 'begins' | 'answered' | 'not done'): Promise<void> {
    const left = UNCERTAIN_SECONDS - ANSWERED_SECONDS;
    const answered = sql<Date>`clock_timestamp() - ${left} * interval '1 second'`;
    await db
      .updateTable('tasks')
      .set({ tried_at: how === 'begins' ? now() : how === 'answered' ? answered : null })
      .where('id', '=', id)
      .execute();
  }

  /** The far side has it, as it was in this version; 0 where that is not known. */
  async handed(tx: Db, id: string, router: string, routerId: string, version = 0): Promise<void> {
    const told = sql<number>`greatest(told, ${version}::int)`;
    const row = await tx
      .updateTable('tasks')
      .set({ router, router_id: routerId, told, changed_at: now() })
      .where('id', '=', id)
      .where('router_id', 'is', null)
      .returning('id')
      .executeTakeFirst();
    if (row !== undefined) await this.#rows.happened(tx, id, 'handed', router);
  }

  /**
   * Opens a task again that the task router no longer has and did not report as done. Returns the id of the new event
   * where the task is to be handed over once more.
   */
  async lost(tx: Db, id: string, router: string): Promise<string | undefined> {
    const row = await tx
      .updateTable('tasks')
      .set({
        state: 'open',
        assignee: null,
        router: null,
        router_id: null,
        former_ids: sql<string[]>`array_append(former_ids, router_id)`,
        tried_at: null,
        changed_at: now(),
      })
      .where('id', '=', id)
      .where('state', '<>', 'closed')
      .where('router_id', 'is not', null)
      .returning('id')
      .executeTakeFirst();
    if (row === undefined) return undefined;
    const event = await this.#rows.tellsOf(tx, id, 'reopened', router);
    const { count } = await tx
      .selectFrom('task_events')
      .select((select) => select.fn.countAll<string>().as('count'))
      .where('task_id', '=', id)
      .where('kind', '=', 'reopened')
      .executeTakeFirstOrThrow();
    return Number(count) > MOST_REOPENED ? undefined : event;
  }

  /** A task of the far side that is to be none: whatever is said of it does not count. */
  async disown(db: Db, id: string, routerId: string): Promise<void> {
    await db
      .updateTable('tasks')
      .set({ former_ids: sql<string[]>`array_append(former_ids, ${routerId})` })
      .where('id', '=', id)
      .execute();
  }

  /**
   * What the far side should know and nothing is on its way of: tasks that it never had, and changes of those that it
   * has. Of each an event by which it is to be told. For when credentials come, or come back.
   */
  async untold(tx: Db): Promise<string[]> {
    const { rows } = await sql<{ id: string }>`
      select t.id from tasks t
      where t.told < t.version and (t.state <> 'closed' or t.router_id is not null or t.tried_at is not null)
        and not (t.state = 'assigned' and t.router_id is null)
        and not exists (
          select from task_events e join outbox o on o.id = e.id where e.task_id = t.id and o.state = 'queued')
      order by t.opened_at limit ${MOST_UNTOLD} for update of t skip locked`.execute(tx);
    const events: string[] = [];
    for (const { id } of rows) events.push(await this.#rows.happened(tx, id, 'queued', 'gateway'));
    return events;
  }

  /**
   * What the far side says of one of its tasks. Events repeat and overtake one another: an older one moves nothing,
   * nor does one on a task that is closed. A task whose creating was never answered is known by its reference.
   * `move: 'lost'` is a task that ended there without anybody having dealt with it: it is open again, and the event by
   * which it is to be handed over anew is returned.
   */
  async hear(
    tx: Db,
    event: RouterEvent,
  ): Promise<{ outcome: 'stored' | 'stale' | 'unmatched'; handOver?: string }> {
    const row = await this.#rowOf(tx, event);
    if (row === undefined) return { outcome: 'unmatched' };
    const { router, routerId, at, worker = null } = event;
    const said = new Date(at);
    const former = row.former_ids.includes(routerId);
    if (former || row.state === 'closed' || (row.heard_at !== null && row.heard_at >= said))
      return { outcome: 'stale' };
    if (row.router_id === null) await this.handed(tx, row.id, router, routerId);
    const set = tx.updateTable('tasks').where('id', '=', row.id);
    // Asked again, and nobody there has seen it: whoever ended the task has not dealt with that.
    const unseen = row.router_id !== null && row.told < row.version;
    const move = event.move === 'closed' && unseen ? 'lost' : event.move;
    if (move === 'lost') {
      await set.set({ heard_at: said }).execute();
      const handOver = await this.lost(tx, row.id, router);
      return { outcome: 'stored', ...(handOver !== undefined && { handOver }) };
    }
    const state = move === 'released' ? 'open' : move;
    const assignee = move === 'closed' ? row.assignee : move === 'released' ? null : worker;
    const closed = move === 'closed' ? { closed_at: now() } : {};
    await set.set({ state, assignee, heard_at: said, changed_at: now(), ...closed }).execute();
    if (row.state !== state || row.assignee !== assignee)
      await this.#rows.happened(
        tx,
        row.id,
        move,
        move === 'assigned' && worker !== null ? `${router}: ${worker}` : router,
      );
    return { outcome: 'stored' };
  }

  /** The row that an event of the far side is of. */
  async #rowOf(tx: Db, { routerId, about }: RouterEvent): Promise<TaskRow | undefined> {
    const row = await tx
      .selectFrom('tasks')
      .selectAll()
      .where(sql<boolean>`(router_id = ${routerId} or former_ids @> array[${routerId}]::text[])`)
      .forUpdate()
      .executeTakeFirst();
    if (row !== undefined || about === undefined) return row;
    const untold = await tx
      .selectFrom('tasks')
      .selectAll()
      .where('reference', '=', about.reference)
      .where('router_id', 'is', null)
      .where('tried_at', 'is not', null)
      .forUpdate()
      .executeTakeFirst();
    // References are short: another database on the same account may have given the same one.
    return untold !== undefined && this.#rows.open(untold).from === about.from ? untold : undefined;
  }
}
