import type { Outcome } from '../flow/dial.ts';
import type { Memory } from '../flow/memory.ts';

/**
 * A turn as its row has it. What it holds of the session stays sealed, unless its state is shared (`isShared`): then
 * nothing of a subscriber stands in it, and in the text neither, which is the keys that led there.
 */
export type Kept = {
  day: string;
  dial: number;
  address: Buffer;
  hop: number;
  outcome: Outcome;
  phone: Buffer;
  service: string;
  menu: number;
  /** Its memory, sealed; or, of a shared state, as it is, with the whole text of its address. */
  memory: { sealed: Buffer } | { memory: Memory; text: string };
  /** When it was inserted, by the database's clock: seconds since 1970. */
  at: number;
  /** The same by the process's own clock, in milliseconds. */
  keptAt: number;
};

/**
 * What one generation holds at the most, and for how long it is the younger one: both together take about 25 MB, and
 * nothing is kept for more than a minute. Most screens are answered sooner.
 */
const BOUNDS = { sessions: 8_192, bytes: 4_000_000, generationMs: 30_000 };

/**
 * The newest turns that this instance has inserted, one a session, for a moment (decision 22). Two generations: what
 * the older one holds when the younger is full, or old, is forgotten. Nothing is kept that is not in the database as
 * well, nor in any clearer form but for shared states: memory holds no answer or name longer than a turn takes.
 */
export class Parents {
  readonly #bounds: typeof BOUNDS;
  #young = new Map<string, Kept>();
  #old = new Map<string, Kept>();
  #bytes = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(bounds: Partial<typeof BOUNDS> = {}) {
    this.#bounds = { ...BOUNDS, ...bounds };
  }

  keep(sessionKey: Buffer, turn: Kept): void {
    const { sessions, bytes } = this.#bounds;
    if (this.#young.size >= sessions || this.#bytes >= bytes) this.#age();
    this.#young.set(nameOf(sessionKey), turn);
    this.#bytes += 'sealed' in turn.memory ? turn.memory.sealed.length : turn.memory.text.length;
    this.#timer ??= this.#later();
  }

  find(sessionKey: Buffer): Kept | undefined {
    const name = nameOf(sessionKey);
    return this.#young.get(name) ?? this.#old.get(name);
  }

  forget(sessionKey: Buffer): void {
    const name = nameOf(sessionKey);
    this.#young.delete(name);
    this.#old.delete(name);
  }

  /** The young become the old ones. Goes on by itself until there are none. */
  #age(): void {
    clearTimeout(this.#timer);
    this.#timer = this.#young.size > 0 ? this.#later() : undefined;
    this.#old = this.#young;
    this.#young = new Map();
    this.#bytes = 0;
  }

  #later(): NodeJS.Timeout {
    return setTimeout(() => this.#age(), this.#bounds.generationMs).unref();
  }
}

function nameOf(sessionKey: Buffer): string {
  return sessionKey.toString('latin1');
}
