import { randomUUID } from 'node:crypto';
import { type Selectable, sql } from 'kysely';
import type { Db } from '../db/db.ts';
import type { Tables } from '../db/tables.ts';
import type { Box } from '../seal/box.ts';
import { resealColumn } from './reseal.ts';

/** What a caller asks for: both numbers as they are dialled, and the answers in the words that case workers read. */
export type Request = {
  from: string;
  to: string;
  language: string;
  location: string;
  supportType: string;
};

export type TaskState = 'open' | 'assigned' | 'closed';
export type EventKind = Tables['task_events']['kind'];
export type TaskRow = Selectable<Tables['tasks']>;

/** What the desk and the far side share of a task: its sealed answers, and the events that say what became of it. */
export class TaskRows {
  readonly #box: Box;

  constructor(box: Box) {
    this.#box = box;
  }

  /** Something that the far side is to know: what it knows by now is less. */
  async tellsOf(tx: Db, taskId: string, kind: EventKind, by: string, note?: string): Promise<string> {
    await tx
      .updateTable('tasks')
      .set({ version: sql<number>`version + 1` })
      .where('id', '=', taskId)
      .execute();
    return this.happened(tx, taskId, kind, by, note);
  }

  /** Something that became of a task, by whom; the note is sealed. Returns the id of the event. */
  async happened(tx: Db, taskId: string, kind: EventKind, by: string, note?: string): Promise<string> {
    const id = randomUUID();
    const sealed = note === undefined ? null : this.#box.seal(Buffer.from(note), notePlace(id));
    const version = sql<number>`(select version from tasks where id = ${taskId})`;
    await tx.insertInto('task_events').values({ id, task_id: taskId, kind, version, by, sealed }).execute();
    return id;
  }

  /** A note as it was written. Throws `SealError`. */
  note(eventId: string, sealed: Uint8Array): string {
    return this.#box.open(sealed, notePlace(eventId)).toString();
  }

  /** What was asked for, as the column of the task with this id. */
  seal(id: string, request: Request): Buffer {
    return this.#box.seal(Buffer.from(JSON.stringify(request)), place(id));
  }

  /** What was asked for. Throws `SealError`. */
  open({ id, sealed }: Pick<TaskRow, 'id' | 'sealed'>): Request {
    return JSON.parse(this.#box.open(sealed, place(id)).toString()) as Request;
  }

  /** Seals again, under the active key, what another key sealed. Returns how many rows. */
  async reseal(db: Db): Promise<number> {
    const box = this.#box;
    return (
      (await resealColumn(db, box, { table: 'tasks', key: 'id', column: 'sealed', boundBy: 'id' }, place)) +
      (await resealColumn(
        db,
        box,
        { table: 'task_events', key: 'id', column: 'sealed', boundBy: 'id' },
        notePlace,
      ))
    );
  }
}

function place(id: string): Buffer {
  return Buffer.from(`tasks.sealed\0${id}`);
}

function notePlace(id: string): Buffer {
  return Buffer.from(`task_events.sealed\0${id}`);
}

/** The clock of the database, which moves within a transaction as well. */
export function now() {
  return sql<Date>`clock_timestamp()`;
}
