import { bytes, type Row, type Sql } from '../db/sql.ts';
import type { FoundDial, Outcome } from '../flow/dial.ts';
import { type Memory, pack, unpack } from '../flow/memory.ts';
import type { Menu } from '../flow/menu.ts';
import type { Box } from '../seal/box.ts';
import type { NewTurn } from './new-turn.ts';

/** A turn that is known. */
export type KnownTurn = {
  address: Buffer;
  hop: number;
  phone: Buffer;
  service: string;
  menu: number;
  /** Milliseconds since its commit. */
  age: number;
  /** The same by the clock: milliseconds since 1970. */
  at: number;
  outcome: Outcome;
  ended: boolean;
  /** Opens the seal. Throws `SealError`. */
  memory(): Memory;
};

/** A dial with all its turns, oldest first. */
export type WholeDial = {
  sessionKey: Buffer;
  day: string;
  dial: number;
  turns: KnownTurn[];
};

/** The answer of a look-up. */
export type Found = {
  /** The UTC day and the clock of the database. */
  today: string;
  asked: number;
  /** Within seconds of midnight UTC: the only time at which a key alone does not decide an opening. */
  nearMidnight: boolean;
  /** That the caller chose last, on any dial. */
  language?: string;
  dial?: FoundDial;
  /** The longest known of the addresses asked for; `rank` is its place in the list. */
  turn?: KnownTurn & { rank: number };
};

/** The newest turn of a dial and the addresses of all of them, oldest first. */
export type FoundNewest = Omit<Found, 'turn'> & { turn?: KnownTurn; addresses: Buffer[] };

/** A dial as a notice of its end finds it; `over` where it has ended or was closed before. */
export type EndingDial = {
  sessionKey: Buffer;
  day: string;
  dial: number;
  over: boolean;
  hop: number;
  menu: number;
  service: string;
  phone: Buffer;
  asked: number;
};

/** The documents that rows are pinned to, by number. */
export type Documents = {
  /** Where it is at hand. */
  known(id: number): Menu | undefined;
  /** From the database, where another instance stored it; at hand from then on. */
  pinned(id: number): Promise<Menu>;
};

/** Addresses that are no digest of a text: rows that say something of a dial, of which there is to be one. */
export const Reserved = {
  /** An earlier dial is claimed: the dial that inserts it goes on with it. */
  claim: Buffer.alloc(16, 0x01),
  /** The gateway said that the session is over. */
  close: Buffer.alloc(16, 0x02),
} as const;

/** The memory of a row that is no turn: nothing of its session. */
export const NOTHING: Memory = {
  state: {
    node: '',
    back: [],
    misses: 0,
    vars: {},
    language: '',
    page: 0,
    turns: { more: false, previous: false },
    items: {},
  },
  screen: { end: true, node: '', words: '', options: [] },
  serviceCode: '',
};

/** Reads and seals rows of turns: what a row says of a dial and a turn, and what it remembers. */
export class TurnRows {
  readonly #box: Box;
  readonly #documents: Documents;
  readonly #midnightSeconds: number;

  /** `midnightSeconds`: openings this close to midnight UTC are to be taken under a lock. */
  constructor(box: Box, documents: Documents, midnightSeconds: number) {
    this.#box = box;
    this.#documents = documents;
    this.#midnightSeconds = midnightSeconds;
  }

  /** Rows of turns, with the documents that they are pinned to at hand. */
  async read(sql: Sql, name: string, text: string, values: unknown[]): Promise<Row[]> {
    const rows = await sql(name, text, values);
    const wanted = new Set<number>();
    for (const { menu } of rows)
      if (typeof menu === 'number' && this.#documents.known(menu) === undefined) wanted.add(menu);
    // One that cannot be had is missed when its turn is opened: it must not hide all the others.
    if (wanted.size > 0) await Promise.allSettled(Array.from(wanted, (id) => this.#documents.pinned(id)));
    return rows;
  }

  /** Returns the memories of turns as their rows hold them. */
  sealed(turns: NewTurn[]): Buffer[] {
    return turns.map((turn) =>
      this.#box.seal(
        pack(turn.memory, this.#documents.known(turn.menu)),
        rowKey(turn.sessionKey, turn, turn.address),
        turn.day,
      ),
    );
  }

  /** Whether an opening at this time, in seconds since 1970, is to be taken under a lock. */
  isNearMidnight(clock: number): boolean {
    const inDay = clock % SECONDS_A_DAY;
    return Math.min(inDay, SECONDS_A_DAY - inDay) <= this.#midnightSeconds;
  }

  /** Reads the answer of a look-up. */
  found(row: Row, sessionKey: Buffer): Found {
    const found: Found = {
      today: row.today as string,
      asked: row.asked as number,
      nearMidnight: this.isNearMidnight(row.asked as number),
    };
    if (row.language !== null) found.language = row.language as string;
    if (row.day === null) return found;
    const dial: FoundDial = {
      day: row.day as string,
      dial: row.dial as number,
      age: row.age_ms as number,
      idle: (row.idle_ms ?? row.age_ms) as number,
      closed: row.closed as boolean,
      untouched: row.untouched === true,
    };
    if (row.since_end_ms !== null) dial.sinceEnd = row.since_end_ms as number;
    found.dial = dial;
    if (row.address !== null)
      found.turn = { ...this.turn(row, sessionKey, dial), rank: Number(row.rank ?? 0) };
    return found;
  }

  /** Reads the turn of a row. */
  turn(row: Row, sessionKey: Buffer, dial: { day: string; dial: number }): KnownTurn {
    const address = bytes(row.address);
    const menu = row.menu as number;
    return {
      address,
      hop: row.hop as number,
      phone: bytes(row.phone),
      service: row.service as string,
      menu,
      age: row.turn_age_ms as number,
      at: milliseconds(row.turn_epoch),
      outcome: row.turn_outcome as Outcome,
      ended: row.turn_ended as boolean,
      memory: this.memoryOf({ sealed: bytes(row.sealed), menu }, rowKey(sessionKey, dial, address), dial.day),
    };
  }

  /** Opens a seal when it is first asked for, and once. */
  memoryOf({ sealed, menu }: { sealed: Buffer; menu: number }, key: Buffer, day: string): () => Memory {
    let memory: Memory | undefined;
    return () => {
      memory ??= unpack(this.#box.open(sealed, key, day), this.#documents.known(menu));
      return memory;
    };
  }
}

const SECONDS_A_DAY = 86_400;

/** The additional data of a turn's seal: the row's key, so that a blob opens in its own row only. */
export function rowKey(sessionKey: Buffer, dial: { day: string; dial: number }, address: Buffer): Buffer {
  return Buffer.concat([sessionKey, Buffer.from(`\0${dial.day}\0${dial.dial}\0`), address]);
}

/** Seconds as the database has them, in whole milliseconds. */
export function milliseconds(epoch: unknown): number {
  return Math.round((epoch as number) * 1000);
}
