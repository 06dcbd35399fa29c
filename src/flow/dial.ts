/**
 * The order of decision on the newest dial of a session (decision 4): pure, so that the rules can be
 * read in one place and tried against a model.
 */

/** How a turn's row counts: a small integer, because operators count them by the million. */
export const Outcome = {
  shown: 0,
  ended: 1,
  invalid: 2,
  gaveUp: 3,
  /** The expired answer, stored so that racing copies agree. It is an END, but no END of the service. */
  expired: 8,
  /** A dial closed without a screen, by the aggregator's end-of-session notice. It is no turn. */
  closed: 9,
  /** The END said again to another text, stored for the same reason. It is no END of its own. */
  repeated: 10,
} as const;

export type Outcome = (typeof Outcome)[keyof typeof Outcome];

/** Whether the dial is over after a turn of this outcome. */
export function hasEnded(outcome: Outcome): boolean {
  return outcome !== Outcome.invalid && outcome !== Outcome.shown;
}

/** The newest dial of a session, in milliseconds of the database's clock. */
export type FoundDial = {
  day: string;
  dial: number;
  /** Since the dial was opened. */
  age: number;
  /** Since its newest turn. */
  idle: number;
  /** Since the service said END; absent while it has not. */
  sinceEnd?: number;
  /** Closed without an END. */
  closed: boolean;
  /** Nothing was answered since the opening. */
  untouched: boolean;
};

/**
 * What is asked of the dial: is it a start, is its turn known, is it the opener's? `named`: the turn is known by an id
 * that the gateway gave the request, so that it is this very request again, whatever its text.
 */
export type Asked = { start: boolean; known: boolean; bound: boolean; named?: boolean };

export type Ruling =
  | { do: 'open'; dial: number }
  | { do: 'refuse' }
  | { do: 'replay' }
  | { do: 'repeatEnd' }
  /** `record`: store the expired answer at this address, as the opener's turn. */
  | { do: 'expire'; record: boolean }
  | { do: 'hear' };

/** After this a session id is a new session, whatever it was (decision 4.1). */
export const FORGOTTEN_MS = 24 * 3600 * 1000;
/** Gateways send several session starts; for this long a start is the same start. */
const SAME_START_MS = 30_000;
/** A start right behind an END is the gateway's repeat, not a new dial. */
const AFTER_END_MS = 5_000;

/** Whether nothing more is heard in a dial: it has ended, was closed, or is idle or old for too long. */
export function isOver(dial: FoundDial, ttl: number): boolean {
  return dial.sinceEnd !== undefined || dial.closed || dial.idle > ttl || dial.age > FORGOTTEN_MS;
}

/** decision 4, in its order. `ttl` is in milliseconds. */
export function decide(dial: FoundDial | undefined, asked: Asked, ttl: number): Ruling {
  if (dial === undefined) return { do: 'open', dial: 1 };
  if (dial.age > FORGOTTEN_MS) return { do: 'open', dial: dial.dial + 1 };
  const expired = dial.idle > ttl;
  if (!asked.bound && !expired) return { do: 'refuse' };
  if (asked.bound && asked.named === true) return { do: 'replay' };
  if (asked.start) {
    const again = asked.bound && asked.known && startsAgain(dial, expired);
    return again ? { do: 'replay' } : { do: 'open', dial: dial.dial + 1 };
  }
  // Another phone on an expired session gets the usual answer and leaves no row in it.
  if (!asked.bound) return { do: 'expire', record: false };
  if (asked.known) return { do: 'replay' };
  if (dial.sinceEnd !== undefined) return { do: 'repeatEnd' };
  // Recorded in both cases: a copy that was heard just before may be about to be inserted at this address.
  if (dial.closed || expired) return { do: 'expire', record: true };
  return { do: 'hear' };
}

function startsAgain(dial: FoundDial, expired: boolean): boolean {
  if (dial.sinceEnd !== undefined) return dial.sinceEnd <= AFTER_END_MS;
  if (dial.closed || expired) return false;
  return dial.untouched || dial.age <= SAME_START_MS;
}
