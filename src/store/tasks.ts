import { randomUUID } from 'node:crypto';
import { type Selectable, sql } from 'kysely';
import type { Box } from '../seal/box.ts';
import type { Digests } from '../seal/digests.ts';
import { type Db, GuardFailed, lockDigest } from './accounts.ts';
import { type Cursor, isoTime } from './cursor.ts';
import { inPages } from './pages.ts';
import type { Tables } from './tables.ts';

/** Rows that a rotation reads at a time. */
const RESEAL_PAGE = 500;

/** What one phone asks for of one kind, one request behind the other: else two at once would be two tasks. */
const MATTER_LOCK = 7_011;

/** A repeat within this adds to the task that is open (RULINGS.md 33). */
const SAME_MATTER_HOURS = 48;

/**
 * For this long one process at a time speaks to the far side of a task, in seconds: longer than two calls may take
 * (8 s), so that nobody begins while another one may still be speaking.
 */
const LEASE_SECONDS = 10;

/**
 * For this long after creating a task was begun, its absence there proves nothing, in seconds: the call may be under
 * way. Then it is created again.
 */
const UNCERTAIN_SECONDS = 20;

/**
 * A task that the far side lets go is handed over anew so often; then it stays with the desk: a workflow that lets go
 * of everything would otherwise be asked for ever.
 */
const MOST_REOPENED = 5;

/** Tasks that are queued again at a time. */
const MOST_UNTOLD = 500;

/** Seven digits can be remembered, and read out on the telephone; a collision is refused and drawn again. */
export const REFERENCE_LENGTH = 7;

/** A reference that nobody has, most likely; never with a zero in front, which people leave out. */
export function freshReference(randomCode: (alphabet: string, length: number) => string): string {
  return randomCode('123456789', 1) + randomCode('0123456789', REFERENCE_LENGTH - 1);
}

/** What a caller asks for: both numbers as they are dialled, and the answers in the words that case workers read. */
export type Request = {
  from: string;
  to: string;
  language: string;
  location: string;
  supportType: string;
};

export type TaskState = 'open' | 'assigned' | 'closed';
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
export type EventKind = Tables['task_events']['kind'];

/** A task that is to be brought in step with the far side, held by this process for a while. */
export type Held = {
  id: string;
  reference: string;
  state: TaskState;
  priority: number;
  request: Request;
  routerId: string | null;
  /** Creating it there was begun and nobody knows what became of it; `fresh`: it may even be under way. */
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

type Row = Selectable<Tables['tasks']>;

/**
 * Requests for help. None is ever lost: what the far side does not take, or lets go, is open here. A task is `open`,
 * `assigned` to somebody, or `closed`; every step of it stands in `task_events` with who took it.
 */
export class Tasks {
  readonly #box: Box;
  readonly #digests: Digests;

  constructor(box: Box, digests: Digests) {
    this.#box = box;
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
          sealed: this.#seal(row.id, request),
          requests: sql<number>`requests + 1`,
          asked_at: now(),
          changed_at: now(),
        })
        .where('id', '=', row.id)
        .execute();
      return this.#tellsOf(tx, row.id, 'repeated', source, changedFrom(this.#open(row), request));
    }
    const id = randomUUID();
    const made = await tx
      .insertInto('tasks')
      .values({
        id,
        reference,
        phone: this.#digests.phone(request.from),
        matter,
        sealed: this.#seal(id, request),
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
    return this.#happened(tx, id, 'opened', source);
  }

  /**
   * Holds the task of an event, so that nobody else speaks to the far side of it: `busy` where somebody does,
   * undefined where it is gone.
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
      .set({ leased_until: sql<Date>`clock_timestamp() + ${LEASE_SECONDS} * interval '1 second'` })
      .where('id', '=', event.task_id)
      .where(sql<boolean>`coalesce(leased_until <= clock_timestamp(), true)`)
      .returningAll()
      .returning([
        sql<boolean>`tried_at > clock_timestamp() - ${UNCERTAIN_SECONDS} * interval '1 second'`.as('fresh'),
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
      request: this.#open(row),
      routerId,
      tried,
      told,
      version,
      until,
    };
  }

  /** Lets somebody else speak of it; one whose lease has run out has nothing to let go. */
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

  /** Creating it at the far side begins, or has surely not happened: then the next try need not ask first. */
  async tries(db: Db, id: string, begins: boolean): Promise<void> {
    await db
      .updateTable('tasks')
      .set({ tried_at: begins ? now() : null })
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
    if (row !== undefined) await this.#happened(tx, id, 'handed', router);
  }

  /**
   * The far side has it no more, and nobody has told us that it was dealt with: it is open here again. Returns the id
   * of that event where it is to be handed over anew.
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
    const event = await this.#tellsOf(tx, id, 'reopened', router);
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
    for (const { id } of rows) events.push(await this.#happened(tx, id, 'queued', 'gateway'));
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
    const row = await this.#told(tx, event);
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
      await this.#happened(
        tx,
        row.id,
        move,
        move === 'assigned' && worker !== null ? `${router}: ${worker}` : router,
      );
    return { outcome: 'stored' };
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
        note: sealed === null ? null : this.#box.open(sealed, notePlace(id)).toString(),
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
    await this.#happened(tx, row.id, 'assigned', wanted.by, `to ${wanted.to}`);
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
    return { event: await this.#tellsOf(tx, row.id, 'closed', by, note) };
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
  async forget(db: Db, days: number): Promise<Record<TaskState, number>> {
    const gone = await db
      .deleteFrom('tasks')
      .where('changed_at', '<', sql<Date>`now() - ${days} * interval '1 day'`)
      .returning('state')
      .execute();
    const count = (wanted: TaskState) => gone.filter(({ state }) => state === wanted).length;
    return { open: count('open'), assigned: count('assigned'), closed: count('closed') };
  }

  /** Seals again, under the active key, what another key sealed. Returns how many rows. */
  async reseal(db: Db): Promise<number> {
    return (
      (await this.#resealTable(db, 'tasks', place)) + (await this.#resealTable(db, 'task_events', notePlace))
    );
  }

  async #resealTable(
    db: Db,
    table: 'tasks' | 'task_events',
    placeOf: (id: string) => Buffer,
  ): Promise<number> {
    let count = 0;
    const page = (after: { id: string } | undefined) => {
      const all = db.selectFrom(table).select(['id', 'sealed']).orderBy('id').limit(RESEAL_PAGE);
      return (after === undefined ? all : all.where('id', '>', after.id)).execute();
    };
    for await (const { id, sealed } of inPages(RESEAL_PAGE, page)) {
      const again = sealed === null ? undefined : this.#box.reseal(sealed, placeOf(id));
      if (again === undefined || sealed === null) continue;
      // Only what was read: a request that came meanwhile has sealed newer answers, under the active key.
      await db
        .updateTable(table)
        .set({ sealed: again })
        .where('id', '=', id)
        .where('sealed', '=', sealed)
        .execute();
      count += 1;
    }
    return count;
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

  #locked(tx: Db, reference: string): Promise<Row | undefined> {
    return tx
      .selectFrom('tasks')
      .selectAll()
      .where('reference', '=', reference)
      .forUpdate()
      .executeTakeFirst();
  }

  /** The row that an event of the far side is of. */
  async #told(tx: Db, { routerId, about }: RouterEvent): Promise<Row | undefined> {
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
    return untold !== undefined && this.#open(untold).from === about.from ? untold : undefined;
  }

  /** Something that the far side is to know: what it knows by now is less. */
  async #tellsOf(tx: Db, taskId: string, kind: EventKind, by: string, note?: string): Promise<string> {
    await tx
      .updateTable('tasks')
      .set({ version: sql<number>`version + 1` })
      .where('id', '=', taskId)
      .execute();
    return this.#happened(tx, taskId, kind, by, note);
  }

  async #happened(tx: Db, taskId: string, kind: EventKind, by: string, note?: string): Promise<string> {
    const id = randomUUID();
    const sealed = note === undefined ? null : this.#box.seal(Buffer.from(note), notePlace(id));
    const version = sql<number>`(select version from tasks where id = ${taskId})`;
    await tx.insertInto('task_events').values({ id, task_id: taskId, kind, version, by, sealed }).execute();
    return id;
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

  #task(row: Row & { openedAt: string | null; askedAt: string | null; closedAt: string | null }): Task {
    const { id, reference, state, source, priority, requests, assignee, router, closedAt } = row;
    const openedAt = row.openedAt ?? '';
    const askedAt = row.askedAt ?? '';
    return {
      ...this.#open(row),
      ...{ id, reference, state, source, priority, requests, openedAt, askedAt, closedAt, assignee, router },
    };
  }

  #matter(msisdn: string, supportType: string): Buffer {
    return this.#digests.key('matter', `${msisdn}\0${supportType}`);
  }

  #seal(id: string, request: Request): Buffer {
    return this.#box.seal(Buffer.from(JSON.stringify(request)), place(id));
  }

  #open({ id, sealed }: Pick<Row, 'id' | 'sealed'>): Request {
    return JSON.parse(this.#box.open(sealed, place(id)).toString()) as Request;
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

function place(id: string): Buffer {
  return Buffer.from(`tasks.sealed\0${id}`);
}

function notePlace(id: string): Buffer {
  return Buffer.from(`task_events.sealed\0${id}`);
}

function now() {
  return sql<Date>`clock_timestamp()`;
}
