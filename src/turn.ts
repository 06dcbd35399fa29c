import { MOST_PIECES, nextPiece, piecesLeft } from './flow/address.ts';
import { decide, Outcome } from './flow/dial.ts';
import type { Answer, Deadline, Heard, TakeTurn } from './flow/heard.ts';
import type { Memory } from './flow/memory.ts';
import type { Menu } from './flow/menu.ts';
import type { Screen } from './flow/screen.ts';
import { type Route, route, type ServiceCodes } from './flow/service-code.ts';
import { begin, type Course, hearing, type State, type Step, step } from './flow/step.ts';
import { type Located, locate } from './locate.ts';
import type { Menus } from './menus.ts';
import type { Digests } from './seal/digests.ts';
import { Unavailable } from './store/sql.ts';
import type { KnownTurn, NewTurn, Turns } from './store/turns.ts';

/** What a turn needs; times are in milliseconds. */
export type Parts = {
  turns: Turns;
  menus: Menus;
  digests: Digests;
  codes: ServiceCodes;
  /** A session idle for longer is expired. */
  ttl: number;
  /** Runs with this session's key locked across all instances. */
  underLock<T>(sessionKey: Buffer, run: (turns: Turns) => Promise<T>): Promise<T>;
};

/**
 * Losing a race means that somebody's row is there now: the turn itself, or one more of those that a walk
 * passes. So a walk loses once for each of its pieces at most; more than this is no race.
 */
const ATTEMPTS = MOST_PIECES + 2;

/** A gateway that sends one input at a time could go on for ever; no honest session is longer. */
const MOST_HOPS = 500;

const EXPIRED = 'Session expired. Please dial again.';

const OUTCOMES: Record<Course, Outcome> = {
  moved: Outcome.shown,
  ended: Outcome.ended,
  invalid: Outcome.invalid,
  gaveUp: Outcome.gaveUp,
};

/**
 * One subscriber turn from request to reply.
 *
 * 1. `locate`: one look-up finds the turn that the request names, or the one it follows.
 * 2. `decide`: RULINGS.md 4 says what is to be done about it; a known turn is replayed and nothing else.
 * 3. `hearAll`: every new input in order, one pure step each.
 * 4. One insert commits what was heard. Somebody was first: their row is there now, so begin again, and
 *    find it. The unique key decides; no lock is held while anybody thinks.
 *
 * Throws `Unavailable` when the deadline passes; the turn may have happened then, and the same request
 * will replay it.
 */
export function makeTakeTurn(parts: Parts): TakeTurn {
  return (heard, deadline) => within(deadline, takeTurn(parts, heard, deadline));
}

async function takeTurn(parts: Parts, heard: Heard, deadline: Deadline): Promise<Answer> {
  for (let attempt = 1; attempt <= ATTEMPTS && deadline.left() > 0; attempt += 1) {
    const answer = await tryTurn({ ...parts, heard, deadline, route: route(heard.serviceCode, parts.codes) });
    if (answer !== 'contested') return answer;
  }
  throw new Unavailable('contested');
}

type Turn = Parts & { heard: Heard; deadline: Deadline; route: Route };

async function tryTurn(turn: Turn): Promise<Answer | 'contested'> {
  const { turns, digests, heard, deadline, ttl } = turn;
  const located = await locate(heard, { turns, digests, through: turn.route.through, deadline, ttl });
  const { found, turn: known } = located;
  const expired = found.dial !== undefined && found.dial.idle > ttl;
  const bound = known !== undefined && !isStranger(turn, known, expired);
  const ruling = decide(found.dial, { start: located.start, known: located.known, bound }, ttl);

  if (ruling.do === 'refuse') return { outcome: 'invalid' };
  if (ruling.do === 'open') {
    if (!found.nearMidnight) return open(turn, located, ruling.dial);
    // Around midnight two instances can hold different days for one opening: the only time at which the
    // key alone does not decide.
    return turn.underLock(located.sessionKey, (locked) => tryTurn({ ...turn, turns: locked }));
  }
  if (known === undefined || found.dial === undefined) throw new Unavailable('contested');
  if (ruling.do === 'replay') return replay(known);
  if (ruling.do === 'repeatEnd') return repeatEnd(turn, located, known);
  if (ruling.do === 'expire') return expire(turn, located, known, ruling.record);
  return goOn(turn, located, known);
}

/** Another phone or another service code than the opener's (RULINGS.md 4.2). */
function isStranger({ digests, heard }: Turn, known: KnownTurn, expired: boolean): boolean {
  if (!known.phone.equals(digests.phone(heard.msisdn))) return true;
  // Where the dial is over anyway, a turn whose key has left the ring is nobody's rather than a fault.
  return expired ? false : known.memory().serviceCode !== heard.serviceCode;
}

function replay(known: KnownTurn | undefined): Answer | 'contested' {
  if (known === undefined) return 'contested';
  return { outcome: 'replay', service: known.service, screen: known.memory().screen };
}

/** A new dial: the first screen, and whatever was dialled through with the code. */
async function open(turn: Turn, located: Located, dial: number): Promise<Answer | 'contested'> {
  const { id, menu } = turn.menus.current(turn.route.service);
  const first = begin(menu);
  const heard = located.text === '' ? [] : hearAll(menu, first.state, located, { from: 0, through: true });
  if (heard === 'tooMany') return { outcome: 'invalid' };
  const { found, openingAddressAt } = located;
  const steps = [{ end: 0, step: first }, ...heard];
  return commit(turn, located, steps, {
    day: found.today,
    dial,
    hop: 0,
    menu: { id, menu },
    service: turn.route.service,
    addressAt: openingAddressAt,
  });
}

/** The next turn of an open dial, or several where requests were lost. */
async function goOn(turn: Turn, located: Located, parent: KnownTurn): Promise<Answer | 'contested'> {
  const { found, addressAt } = located;
  if (found.dial === undefined || parent.hop >= MOST_HOPS) return { outcome: 'invalid' };
  const menu = await turn.menus.pinned(parent.menu);
  const heard = hearAll(menu, parent.memory().state, located, { from: located.from, through: false });
  if (heard === 'tooMany') return { outcome: 'invalid' };
  return commit(turn, located, heard, {
    day: found.dial.day,
    dial: found.dial.dial,
    hop: parent.hop + 1,
    menu: { id: parent.menu, menu },
    service: parent.service,
    parent: parent.address,
    addressAt,
  });
}

/** One input heard: where it ends in the text, and what came of it. */
type Heeded = { end: number; step: Step };

/**
 * A walk: the inputs of a text, one by one, until one is invalid or ends the session; what stands behind
 * that is forgotten (RULINGS.md 2 and 3).
 */
function hearAll(
  menu: Menu,
  state: State,
  { text, whole }: Located,
  { from, through }: { from: number; through: boolean },
): Heeded[] | 'tooMany' {
  if (whole && !through) return [{ end: text.length, step: step(menu, state, text) }];
  const heeded: Heeded[] = [];
  let at = from;
  do {
    const memory: State = heeded.at(-1)?.step.state ?? state;
    const piece = nextPiece(text, at, { ...hearing(menu, memory), first: heeded.length === 0, through });
    heeded.push({ end: piece.end, step: step(menu, memory, piece.input) });
    at = piece.end;
  } while (at < text.length && heeded.at(-1)?.step.course === 'moved' && heeded.length < MOST_PIECES);
  return heeded.length + piecesLeft(text, at) > MOST_PIECES ? 'tooMany' : heeded;
}

type Place = {
  day: string;
  dial: number;
  hop: number;
  menu: { id: number; menu: Menu };
  service: string;
  /** The address of the turn that is answered; an opening answers none. */
  parent?: Buffer;
  addressAt(end: number): Buffer;
};

const NOWHERE = Buffer.alloc(0);

/** Inserts a row for every text that was passed, each with its own reply, all or none. */
async function commit(
  turn: Turn,
  located: Located,
  heeded: Heeded[],
  place: Place,
): Promise<Answer | 'contested'> {
  const { heard, digests } = turn;
  const last = heeded.at(-1);
  if (last === undefined) throw new Error('a turn heard nothing');
  // The whole text is an address too, where the walk stopped early.
  const stops = last.end < located.text.length ? [...heeded, { ...last, end: located.text.length }] : heeded;
  const rows = new Map<string, NewTurn>();
  const opening = place.hop === 0 ? { sessionId: heard.sessionId, msisdn: heard.msisdn } : undefined;
  const add = (address: Buffer, { state, screen, course }: Step) => {
    const name = address.toString('latin1');
    // An empty input on the first screen has no address of its own: it is where the walk began.
    if (rows.has(name) || address.equals(place.parent ?? NOWHERE)) return;
    const memory: Memory = { state, screen, serviceCode: heard.serviceCode };
    if (opening !== undefined && rows.size === 0) memory.opening = opening;
    if (located.heardDigest !== undefined) memory.heard = located.heardDigest;
    rows.set(name, {
      sessionKey: located.sessionKey,
      day: place.day,
      dial: place.dial,
      address,
      hop: place.hop + rows.size,
      outcome: OUTCOMES[course],
      node: Object.keys(place.menu.menu.nodes).indexOf(screen.node),
      menu: place.menu.id,
      network: heard.networkCode ?? null,
      phone: digests.phone(heard.msisdn),
      service: place.service,
      memory,
      asked: located.found.asked,
    });
  };
  if (opening !== undefined) add(digests.text(located.sessionKey, ''), heeded[0]?.step ?? last.step);
  for (const stop of stops) add(place.addressAt(stop.end), stop.step);

  const [first, ...more] = [...rows.values()];
  if (first === undefined || turn.deadline.left() <= 0) throw new Unavailable('deadline');
  const written =
    more.length === 0
      ? await turn.turns.insert(first, turn.deadline)
      : await turn.turns.insertAll([first, ...more]);
  if (!written) return 'contested';
  return { outcome: 'ok', service: place.service, screen: last.step.screen };
}

/** The expired answer, stored at its address so that copies racing over the limit agree (RULINGS.md 4.6). */
async function expire(
  turn: Turn,
  located: Located,
  parent: KnownTurn,
  record: boolean,
): Promise<Answer | 'contested'> {
  const screen: Screen = { end: true, node: 'expired', words: EXPIRED, options: [] };
  const answer: Answer = { outcome: 'ok', service: parent.service, screen };
  if (!record) return answer;
  const written = await settle(turn, located, parent, { ...parent.memory(), screen }, Outcome.expired);
  return written ? answer : 'contested';
}

/** The END once more, stored at this address: a copy may have been heard just before the END. */
async function repeatEnd(turn: Turn, located: Located, parent: KnownTurn): Promise<Answer | 'contested'> {
  const { dial } = located.found;
  const end = dial && (await turn.turns.theEnd(located.sessionKey, dial));
  if (end === undefined) return 'contested';
  const written = await settle(turn, located, parent, end.memory(), Outcome.repeated);
  return written ? replay(end) : 'contested';
}

/** Stores what a text is told that nobody hears any more; false where it was heard after all. */
async function settle(
  { heard, turns, deadline }: Turn,
  { sessionKey, found, text, addressAt }: Located,
  parent: KnownTurn,
  memory: Memory,
  outcome: Outcome,
): Promise<boolean> {
  const { dial, asked } = found;
  if (dial === undefined) throw new Error('nothing to settle without a dial');
  const { day } = dial;
  const address = addressAt(text.length);
  return turns.insert(
    {
      sessionKey,
      day,
      dial: dial.dial,
      address,
      hop: parent.hop + 1,
      outcome,
      node: -1,
      menu: parent.menu,
      network: heard.networkCode ?? null,
      phone: parent.phone,
      service: parent.service,
      memory,
      asked,
    },
    deadline,
  );
}

/** The promise, or `Unavailable` at the deadline, whichever is first. */
async function within<T>(deadline: Deadline, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Unavailable('deadline')), deadline.left());
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
