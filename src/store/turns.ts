import { bytes, type Sql, SqlState, sqlState, Unavailable } from '../db/sql.ts';
import { type FoundDial, hasEnded, Outcome } from '../flow/dial.ts';
import type { Deadline } from '../flow/heard.ts';
import { isShared } from '../flow/shared-steps.ts';
import type { Box } from '../seal/box.ts';
import { Lane } from './lane.ts';
import type { Behind, NewTurn } from './new-turn.ts';
import { Parents } from './parents.ts';
import { type InsertSettings, insertParameters, readWritten } from './turn-columns.ts';
import {
  type Documents,
  type EndingDial,
  type Found,
  type FoundNewest,
  type KnownTurn,
  milliseconds,
  NOTHING,
  Reserved,
  rowKey,
  TurnRows,
  type WholeDial,
} from './turn-rows.ts';
import {
  DIAL_AT,
  ENDED_BY_ANOTHER,
  INSERT_ALL,
  INSERT_MANY,
  LAST_DIAL,
  LOOK_UP,
  NEWEST,
  READ,
  THE_END,
} from './turns-sql.ts';

/** After this the database is asked again what time it is; in milliseconds. */
const CLOCK_MS = 60_000;

type Question = { sessionKey: Buffer; addresses: Buffer[]; caller: Buffer };

/**
 * The table of turns. A plain turn costs one look-up and one insert, both batched with whatever else is
 * going on; no lock is held between them, because the unique key decides.
 */
export class Turns {
  readonly #sql: Sql;
  readonly #box: Box;
  readonly #rows: TurnRows;
  readonly #midnightSeconds: number;
  readonly #lookUps: Lane<Question, Found>;
  readonly #inserts: Lane<NewTurn, number | undefined>;
  readonly #ttl: number;
  /** The database's clock as it was last told, in seconds since 1970, and the process's own then, in milliseconds. */
  #clock: { epoch: number; at: number } | undefined;
  readonly #parents: Parents | undefined;
  readonly #documents: Documents;
  readonly #makePartitions: () => Promise<void>;

  /**
   * @param settings.midnightSeconds openings this close to midnight UTC are to be taken under a lock
   * @param settings.ttl a session idle for longer is expired; in milliseconds
   * @param settings.recalls turns that were inserted are kept for a moment, so that the next one needs no look-up
   * @param settings.documents what a screen says that is no more than the document does is not in the row
   * @param settings.makePartitions called when a row finds no partition, before it is tried once more
   */
  constructor(
    sql: Sql,
    laneSql: Sql,
    box: Box,
    settings: {
      midnightSeconds: number;
      ttl: number;
      recalls: boolean;
      documents: Documents;
      makePartitions: () => Promise<void>;
      /** How many statements may wait before newcomers are shed. Default: that of `Lane`. */
      mostWaiting?: number | undefined;
    },
  ) {
    this.#sql = sql;
    this.#box = box;
    this.#rows = new TurnRows(box, settings.documents, settings.midnightSeconds);
    this.#midnightSeconds = settings.midnightSeconds;
    this.#ttl = settings.ttl;
    this.#parents = settings.recalls ? new Parents() : undefined;
    this.#documents = settings.documents;
    this.#makePartitions = settings.makePartitions;
    this.#lookUps = new Lane(
      (questions) => this.#askMany(laneSql, questions),
      async (question) => first(await this.#askMany(sql, [question])),
      settings.mostWaiting,
    );
    this.#inserts = new Lane(
      (turns) => this.#insertMany(laneSql, turns),
      async (turn) => (await this.#insertSingly(turn))[0],
      settings.mostWaiting,
    );
  }

  /** The newest dial of a session and the longest known of `addresses` (shortest first) in it. */
  lookUp(question: Question, deadline: Deadline): Promise<Found> {
    return this.#lookUps.add(question, deadline);
  }

  /**
   * What a look-up would say of a session that has no dial, and of a caller who has chosen no language; `opens` has the
   * insert ask whether that is so. The clock is the database's as it was last told, and what has passed since. Undefined
   * where that is not known or long ago, near midnight, and where this instance knows a turn of the session.
   */
  presumeNew(sessionKey: Buffer): Omit<Found, 'turn'> | undefined {
    if (this.#clock === undefined || this.#parents?.find(sessionKey) !== undefined) return undefined;
    if (this.#parents === undefined) return undefined;
    const passed = performance.now() - this.#clock.at;
    const asked = this.#clock.epoch + passed / 1000;
    if (passed > CLOCK_MS || this.#rows.isNearMidnight(asked)) return undefined;
    return { today: dayOf(asked), asked, nearMidnight: false };
  }

  /**
   * The newest turn that was inserted here in a session, where it has this address and is still kept. What is said of
   * the dial is no more than what was so then; the clock is the database's at that time, and what has passed since.
   */
  recall(
    sessionKey: Buffer,
    text: string,
    address: () => Buffer,
  ): { found: Omit<Found, 'turn'>; turn: KnownTurn; behind: Behind } | undefined {
    const kept = this.#parents?.find(sessionKey);
    if (kept === undefined) return undefined;
    const { day, dial, at, outcome, memory } = kept;
    if ('text' in memory ? memory.text !== text : !kept.address.equals(address())) return undefined;
    const age = performance.now() - kept.keptAt;
    return {
      found: {
        today: day,
        asked: at + age / 1000,
        nearMidnight: false,
        dial: { day, dial, age, idle: age, closed: false, untouched: false },
      },
      turn: {
        address: kept.address,
        hop: kept.hop,
        phone: kept.phone,
        service: kept.service,
        menu: kept.menu,
        age,
        at: milliseconds(at),
        outcome,
        ended: hasEnded(outcome),
        memory:
          'text' in memory
            ? () => memory.memory
            : this.#rows.memoryOf(
                { sealed: memory.sealed, menu: kept.menu },
                rowKey(sessionKey, kept, kept.address),
                day,
              ),
      },
      behind: { address: kept.address, at },
    };
  }

  /** Inserts one turn. When, in milliseconds since 1970; undefined where it exists already. */
  insert(turn: NewTurn, deadline: Deadline): Promise<number | undefined> {
    return this.#inserts.add(turn, deadline);
  }

  /** Inserts the turns of a walk, all or none. When, as above; undefined where one of them exists already. */
  async insertAll(turns: NewTurn[]): Promise<number | undefined> {
    const parameters = insertParameters(turns, this.#rows.sealed(turns), this.#settings);
    try {
      const [row] = await this.#withPartition(() => this.#sql('turns_insert_all', INSERT_ALL, parameters));
      return row?.written === turns.length ? milliseconds(row.epoch) : undefined;
    } catch (error) {
      if (sqlState(error) === SqlState.uniqueViolation) return undefined;
      throw error;
    }
  }

  /** The newest turn of a session's newest dial. */
  async newest(sessionKey: Buffer, caller: Buffer): Promise<FoundNewest> {
    const row = first(await this.#rows.read(this.#sql, 'turns_newest', NEWEST, [sessionKey, caller]));
    const { turn, ...found } = this.#rows.found(row, sessionKey);
    const addresses = ((row.addresses as Uint8Array[] | null) ?? []).map(bytes);
    return turn === undefined ? { ...found, addresses } : { ...found, turn, addresses };
  }

  /** One turn by its address. */
  async read(
    sessionKey: Buffer,
    dial: { day: string; dial: number },
    address: Buffer,
  ): Promise<KnownTurn | undefined> {
    const [row] = await this.#rows.read(this.#sql, 'turns_read', READ, [
      sessionKey,
      dial.day,
      dial.dial,
      address,
    ]);
    return row && this.#rows.turn(row, sessionKey, dial);
  }

  /** The turn with which the service ended a dial. */
  async theEnd(sessionKey: Buffer, dial: FoundDial): Promise<KnownTurn | undefined> {
    const [row] = await this.#rows.read(this.#sql, 'turns_end', THE_END, [sessionKey, dial.day, dial.dial]);
    return row && this.#rows.turn(row, sessionKey, dial);
  }

  /** Whether the service has ended a dial by another turn than these. */
  async endedByAnother(
    sessionKey: Buffer,
    dial: { day: string; dial: number },
    addresses: Buffer[],
  ): Promise<boolean> {
    const values = [sessionKey, dial.day, dial.dial, addresses];
    return (await this.#sql('turns_ended_by_another', ENDED_BY_ANOTHER, values)).length > 0;
  }

  /** The newest dial of a phone on a service, yesterday's or today's. */
  async lastDial(phone: Buffer, service: string): Promise<WholeDial | undefined> {
    const rows = await this.#rows.read(this.#sql, 'turns_last_dial', LAST_DIAL, [phone, service]);
    const [first] = rows;
    if (first === undefined) return undefined;
    const dial = {
      sessionKey: bytes(first.session_key),
      day: first.day as string,
      dial: first.dial as number,
    };
    const turns = rows.map((row) => this.#rows.turn(row, dial.sessionKey, dial));
    return { ...dial, turns };
  }

  /** The newest dial of a session, where this phone opened it no later than `date` (ISO 8601, whole seconds). */
  async dialAt(sessionKey: Buffer, phone: Buffer, date: string): Promise<EndingDial | undefined> {
    const [row] = await this.#sql('turns_dial_at', DIAL_AT, [sessionKey, phone, date]);
    if (row === undefined) return undefined;
    return {
      sessionKey,
      phone,
      day: row.day as string,
      dial: row.dial as number,
      over: row.over as boolean,
      hop: row.hop as number,
      menu: row.menu as number,
      service: row.service as string,
      asked: row.asked as number,
    };
  }

  /** Closes a dial without a screen; false where another notice did. */
  async close({ over: _, ...dial }: EndingDial): Promise<boolean> {
    const [written] = await this.#insertSingly({
      ...dial,
      address: Reserved.close,
      hop: dial.hop + 1,
      outcome: Outcome.closed,
      node: -1,
      network: null,
      memory: NOTHING,
    });
    return written !== undefined;
  }

  /** The same table through another connection, without the lane: for what happens under a lock. */
  through(sql: Sql): Turns {
    return new Turns(sql, sql, this.#box, {
      midnightSeconds: -1,
      ttl: this.#ttl,
      recalls: false,
      documents: this.#documents,
      makePartitions: this.#makePartitions,
    });
  }

  async #askMany(sql: Sql, questions: Question[]): Promise<Found[]> {
    const rows = await this.#rows.read(sql, 'turns_look_up', LOOK_UP, [
      questions.map((_, i) => i),
      questions.map((question) => question.sessionKey),
      questions.map((question) => Buffer.concat(question.addresses)),
      questions.map((question) => question.caller),
    ]);
    const found: Found[] = [];
    const now = performance.now();
    for (const row of rows) {
      this.#clock = { epoch: row.asked as number, at: now };
      const i = row.i as number;
      found[i] = this.#rows.found(row, (questions[i] as Question).sessionKey);
    }
    return found;
  }

  async #insertMany(sql: Sql, turns: NewTurn[]): Promise<(number | undefined)[]> {
    // Two of one batch may want one key with different contents (two phones, two inputs): only the first is
    // sent, so that only the turn whose row it is is told that it was written.
    const firsts = new Map<string, NewTurn>();
    for (const turn of turns) {
      const name = nameOf(turn);
      if (!firsts.has(name)) firsts.set(name, turn);
    }
    const sent = firsts.size === turns.length ? turns : [...firsts.values()];
    const sealed = this.#rows.sealed(sent);
    const parameters = insertParameters(sent, sealed, this.#settings);
    const rows = await this.#withPartition(() => sql('turns_insert_many', INSERT_MANY, parameters));
    const written = readWritten(first(rows));
    const now = performance.now();
    if (written.any) this.#clock = { epoch: written.at, at: now };
    for (const [i, turn] of sent.entries()) {
      if (written.has(turn)) this.#keep(turn, sealed[i] as Buffer, written.at, now);
      else if (turn.behind !== undefined) this.#parents?.forget(turn.sessionKey);
    }
    const at = milliseconds(written.at);
    return turns.map((turn) =>
      (sent === turns || firsts.get(nameOf(turn)) === turn) && written.has(turn) ? at : undefined,
    );
  }

  /** Keeps a turn that the next one may follow without a look-up. */
  #keep(turn: NewTurn, sealed: Buffer, at: number, keptAt: number): void {
    const { sessionKey, memory, day, dial, address, hop, outcome, phone, service, menu, text } = turn;
    if (this.#parents === undefined || hasEnded(outcome) || memory.heard !== undefined) return;
    const { state, screen, serviceCode } = memory;
    this.#parents.keep(sessionKey, {
      day,
      dial,
      address,
      hop,
      outcome,
      phone,
      service,
      menu,
      memory:
        text !== undefined && isShared(state) && memory.resume === undefined
          ? { memory: { state, screen, serviceCode }, text }
          : { sealed },
      at,
      keptAt,
    });
  }

  #insertSingly(turn: NewTurn): Promise<(number | undefined)[]> {
    return this.#insertMany(this.#sql, [turn]);
  }

  async #withPartition<T>(insert: () => Promise<T>): Promise<T> {
    try {
      return await insert();
    } catch (error) {
      if (sqlState(error) !== SqlState.checkViolation) throw error;
      await this.#makePartitions();
      return await insert();
    }
  }

  get #settings(): InsertSettings {
    return { ttl: this.#ttl, midnightSeconds: this.#midnightSeconds };
  }
}

/** The key of a row, as a name in memory. */
function nameOf({ sessionKey, day, dial, address }: NewTurn): string {
  return `${sessionKey.toString('latin1')}${day}\0${dial}\0${address.toString('latin1')}`;
}

/** The UTC day of a time in seconds since 1970, as `yyyy-mm-dd`. */
function dayOf(epoch: number): string {
  return new Date(epoch * 1000).toISOString().slice(0, 10);
}

function first<T>(list: T[]): T {
  const [item] = list;
  if (item === undefined) throw new Unavailable('database_away');
  return item;
}
