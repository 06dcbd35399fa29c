import { type Committed, commit } from './commit.ts';
import { GuardFailed } from './db/db.ts';
import { Unavailable, within } from './db/sql.ts';
import { MOST_PIECES, nextPiece } from './flow/address.ts';
import { decide, Outcome, type Ruling } from './flow/dial.ts';
import type { Answer, Deadline, Heard, TakeTurn, Unheard } from './flow/heard.ts';
import type { Memory } from './flow/memory.ts';
import type { Menu } from './flow/menu.ts';
import type { Screen } from './flow/screen.ts';
import { type Route, route, type ServiceCodes } from './flow/service-code.ts';
import type { Step } from './flow/state.ts';
import { refused } from './flow/step.ts';
import { type Ears, type Heeded, hearAll, hearShared, openOn, type Place } from './hear.ts';
import { type Located, locate, presumeNew, recall } from './locate.ts';
import type { Menus } from './menus.ts';
import { answerOffer, asksSecret, claimOf, missOffer, offer, type Resumable, resumable } from './resume.ts';
import { SealError } from './seal/box.ts';
import { type KnownTurn, rowKey } from './store/turn-rows.ts';

/** What a turn needs; times are in milliseconds. */
export type Parts = Omit<Ears & Committed, 'heard' | 'caller' | 'serviceCode' | 'deadline'> & {
  menus: Menus;
  codes: ServiceCodes;
  /** A session idle for longer is expired. */
  ttl: number;
  /** Whether an operator has switched the service off. Known without a query. */
  isOff(service: string): boolean;
  /**
   * Runs with this session's key locked across all instances, all of it on the connection that holds the
   * lock: waiting for another connection there can be waiting for a turn that waits for the lock.
   */
  underLock<T>(sessionKey: Buffer, run: (locked: Connected) => Promise<T>): Promise<T>;
};

/** What of a turn speaks to the database. */
type Connected = Pick<Ears & Committed, 'turns' | 'db' | 'transact'>;

/**
 * Losing a race means that another row is there now: the turn itself, or one more of those that a walk
 * passes. So a walk loses once for each of its pieces at most; more than this is no race.
 */
const ATTEMPTS = MOST_PIECES + 2;

/** A failed guard re-runs the turn at most so often (decision 9). */
const MOST_GUARDS = 3;

/** A gateway that sends one input at a time could go on for ever; no honest session is longer. */
const MOST_HOPS = 500;

/** More pieces in one text than a walk hears. */
const TOO_MANY: Answer = { outcome: 'invalid', fault: ['text'] };

const EXPIRED = 'Session expired. Please dial again.';
const SWITCHED_OFF = 'This service is switched off for now. Please try again later.';

/**
 * One subscriber turn from request to reply.
 *
 * 1. `locate`: one look-up finds the turn that the request names, or the one it follows. Where this instance has just
 *    taken that one itself it may be recalled instead, and the insert asks what the look-up would have been asked.
 * 2. `decide`: decision 4 says what is to be done about it; a known turn is replayed and nothing else.
 * 3. `hearAll`: every new input in order, one pure step each. A secret is judged before the core hears of
 *    it; facts that the core asks for are loaded, and the step taken again.
 * 4. One insert commits what was heard; with effects, one transaction for the rows and all that they make
 *    happen. Another request was first: its row is there now, so the turn begins again and finds it. The unique key
 *    decides; no lock is held between the statements.
 *
 * Throws `Unavailable` when the deadline passes; the turn may have happened then, and the same request
 * will replay it.
 */
export function makeTakeTurn(parts: Parts): TakeTurn {
  // What is not heard is told to linear sessions only.
  return ((heard: Heard, deadline: Deadline) =>
    within(deadline, takeTurn(parts, heard, deadline))) as TakeTurn;
}

async function takeTurn(parts: Parts, heard: Heard, deadline: Deadline): Promise<Answer | Unheard> {
  const caller = parts.digests.caller(heard);
  const route = routeOf(heard, parts.codes);
  const serviceCode = route.code ?? heard.serviceCode;
  const { through } = route;
  const turn: Turn = {
    ...parts,
    heard,
    caller,
    serviceCode,
    deadline,
    route,
    through,
    contested: false,
  };
  let guards = 0;
  for (let attempt = 1; attempt <= ATTEMPTS && deadline.left() > 0; attempt += 1) {
    try {
      const answer = await tryTurn(turn);
      if (answer !== 'contested') return answer;
      turn.contested = true;
    } catch (error) {
      // What an effect was told is no longer so: the turn is run again on fresh facts.
      guards += 1;
      if (!(error instanceof GuardFailed) || guards > MOST_GUARDS) throw error;
    }
  }
  throw new Unavailable('contested');
}

type Turn = Parts & {
  heard: Heard;
  caller: Buffer;
  serviceCode: string;
  deadline: Deadline;
  route: Route;
  /** Segments that are dialled through. */
  through: string[];
  /** It has lost a race. */
  contested: boolean;
};

function routeOf({ service, serviceCode }: Heard, codes: ServiceCodes): Route {
  return service === undefined ? route(serviceCode, codes) : { service, through: [] };
}

async function tryTurn(turn: Turn): Promise<Answer | Unheard | 'contested'> {
  const { heard, ttl } = turn;
  const recalled = recall(heard, turn);
  const followed = recalled && (await follow(turn, recalled));
  if (followed !== undefined) return followed;
  const presumed = turn.contested ? undefined : presumeNew(heard, turn);
  const opened = presumed && (await openPresumed(turn, presumed));
  if (opened !== undefined) return opened;
  const located = await locate(heard, turn);
  const { found, turn: known } = located;
  const expired = found.dial !== undefined && found.dial.idle > ttl;
  const foreign = known && foreignField(turn, known, expired);
  const asked = {
    start: located.start,
    known: located.known,
    bound: known !== undefined && foreign === undefined,
    named: located.named === true,
  };
  const ruling = decide(found.dial, asked, ttl);

  if (ruling.do === 'refuse') return { outcome: 'invalid', ...(foreign && { fault: [foreign] }) };
  if (typeof heard.linear === 'object') {
    const unheard = await unheardOf(turn, located, ruling);
    if (unheard !== undefined) return unheard;
  }
  if (ruling.do === 'open') {
    if (!found.nearMidnight) return open(turn, located, ruling.dial);
    // Around midnight two instances can hold different days for one opening: the only time at which the
    // key alone does not decide.
    return turn.underLock(located.sessionKey, (locked) => tryTurn({ ...turn, ...locked }));
  }
  if (known === undefined || found.dial === undefined) throw new Unavailable('contested');
  if (ruling.do === 'replay') return replay(known);
  if (ruling.do === 'repeatEnd') return repeatEnd(turn, located, known);
  if (ruling.do === 'expire') return expire(turn, located, known, ruling.record);
  return goOn(turn, located, known);
}

/**
 * Why the input of a linear session is not heard, where it is not (decision 31). What comes to a session that is
 * over is stored all the same, as on every gateway, so that a copy of it that is still under way is not heard either.
 */
async function unheardOf(
  turn: Turn,
  located: Located,
  ruling: Ruling,
): Promise<Answer | Unheard | 'contested' | undefined> {
  const { found, turn: known } = located;
  if (known === undefined || found.dial === undefined) return { outcome: 'invalid' };
  const isOver = found.dial.sinceEnd !== undefined || found.dial.closed;
  const unheard: Unheard = { outcome: isOver ? 'ended' : 'expired' };
  if (ruling.do === 'open') return unheard;
  // What was stored of a session that was over is no turn.
  if (ruling.do === 'replay') return known.outcome >= Outcome.expired ? unheard : undefined;
  if (ruling.do === 'hear') {
    if (turn.contested || located.overtaken === true) return { outcome: 'busy' };
    return known.hop >= MOST_HOPS ? { outcome: 'ended' } : undefined;
  }
  const stored = await (ruling.do === 'repeatEnd'
    ? repeatEnd(turn, located, known)
    : expire(turn, located, known, true));
  return stored === 'contested' ? stored : unheard;
}

/** The field by which a request is not the opener's: another phone or another service code (decision 4.2). */
function foreignField(
  { caller, heard }: Turn,
  known: KnownTurn,
  expired: boolean,
): 'phoneNumber' | 'serviceCode' | undefined {
  if (!known.phone.equals(caller)) return 'phoneNumber';
  try {
    return known.memory().serviceCode === heard.serviceCode ? undefined : 'serviceCode';
  } catch (error) {
    // In an expired dial a turn whose key has left the ring counts as another caller's, not as a fault.
    if (expired && error instanceof SealError) return 'serviceCode';
    throw error;
  }
}

function replay(known: KnownTurn | undefined): Answer | 'contested' {
  if (known === undefined) return 'contested';
  const { service, menu, at } = known;
  const { state, screen, resume } = known.memory();
  return { outcome: 'replay', service, screen, standing: { state, menu, at, offer: resume !== undefined } };
}

/** A new dial: the first screen, and whatever was dialled through with the code. */
async function open(turn: Turn, located: Located, dial: number): Promise<Answer | 'contested'> {
  const { id, menu } = turn.menus.current(turn.route.service);
  const { found, sessionKey, openingAddressAt } = located;
  const place: Place = {
    day: found.today,
    dial,
    hop: 0,
    menu: { id, menu },
    service: turn.route.service,
    from: 0,
    through: true,
    addressAt: openingAddressAt,
  };
  const chosen = menu.private ? undefined : found.language;
  const language = menu.languages.find((known) => known === chosen);
  const root = turn.digests.text(sessionKey, '');
  if (turn.isOff(place.service)) {
    // A turn like any other that ends, so that a copy of the request is told the same.
    const step = refused(menu, language ?? menu.languages[0] ?? 'en', SWITCHED_OFF);
    return commit(turn, located, [{ end: 0, address: root, step }], place);
  }
  const first = await openOn(turn, { menu, service: place.service }, language);
  const opening: Heeded = { end: 0, address: root, step: first };
  if (located.text === '') {
    const earlier = await resumable(turn, menu, turn.caller, turn.ttl);
    if (earlier !== undefined) {
      const step = { ...first, screen: offer(menu, first.state) };
      return commit(turn, located, [{ ...opening, step, resume: earlier }], place);
    }
  }
  const heeded = located.text === '' ? [opening] : await hearAll(turn, located, place, opening);
  return heeded === 'tooMany' ? TOO_MANY : commit(turn, located, heeded, place);
}

/** A dial of a session that is presumed to be new. Undefined where it is not, or more is to be known of the caller. */
async function openPresumed(turn: Turn, located: Located): Promise<Answer | undefined> {
  if (turn.menus.current(turn.route.service).menu.resume !== undefined) return undefined;
  const answer = await open(turn, located, 1);
  return answer === 'contested' ? undefined : answer;
}

/**
 * The next turn behind one that was recalled: one input, no secret and no effect, so that nothing has happened where
 * no row comes of it. Undefined then, and where any of that is not so: the look-up says what is to be done.
 */
async function follow(turn: Turn, located: Located & { turn: KnownTurn }): Promise<Answer | undefined> {
  const { turn: parent } = located;
  const { resume } = parent.memory();
  if (resume !== undefined || parent.hop >= MOST_HOPS) return undefined;
  if (foreignField(turn, parent, false) !== undefined) return undefined;
  const menu = turn.menus.known(parent.menu) ?? (await turn.menus.pinned(parent.menu));
  const { place, before } = placeBehind(located, parent, menu);
  const shared = hearShared(located.text, place, before);
  if (shared === undefined && asksSecret(menu, before.step.state)) return undefined;
  const heeded = shared === undefined ? await hearAll(turn, located, place, before) : [before, shared];
  if (heeded === 'tooMany' || heeded.length !== 2) return undefined;
  const next = heeded.slice(1);
  if (next.some(({ step: { effects } }) => effects.length > 0)) return undefined;
  const answer = await commit(turn, located, next, place, parent.address);
  return answer === 'contested' ? undefined : answer;
}

/** Where the turn behind a turn stands, and the screen that it answers. */
function placeBehind(
  { found, from, addressAt }: Located,
  parent: KnownTurn,
  menu: Menu,
): { place: Place; before: Heeded } {
  if (found.dial === undefined) throw new Error('a turn stands in no dial');
  const { day, dial } = found.dial;
  const { state, screen, shown } = parent.memory();
  const step: Step = { state, screen, effects: [], course: 'moved' };
  return {
    place: {
      day,
      dial,
      hop: parent.hop + 1,
      menu: { id: parent.menu, menu },
      service: parent.service,
      from,
      through: false,
      addressAt,
    },
    before: { end: from, address: parent.address, step, ...(shown !== undefined && { shown }) },
  };
}

/** The next turn of an open dial, or several where requests were lost. */
async function goOn(turn: Turn, located: Located, parent: KnownTurn): Promise<Answer | 'contested'> {
  if (parent.hop >= MOST_HOPS) return { outcome: 'invalid', fault: ['sessionId'] };
  const { place, before } = placeBehind(located, parent, await turn.menus.pinned(parent.menu));
  const { resume } = parent.memory();
  if (resume !== undefined) return answerOffered(turn, located, place, before, resume);
  const heeded = await hearAll(turn, located, place, before);
  return heeded === 'tooMany' ? TOO_MANY : commit(turn, located, heeded.slice(1), place, parent.address);
}

/** The answer to the question whether to go on with an earlier dial; what stands behind it is forgotten. */
async function answerOffered(
  turn: Turn,
  located: Located,
  place: Place,
  before: Heeded,
  at: Resumable,
): Promise<Answer | 'contested'> {
  const { menu } = place.menu;
  const { step } = before;
  const { input, end } = located.whole
    ? { input: located.text.slice(located.from), end: located.text.length }
    : nextPiece(located.text, located.from, { whole: false, star: false, first: true, through: false });
  const address = place.addressAt(end);
  const chosen = await answerOffer(turn.turns, input, at);
  if (chosen === undefined) {
    const missed = missOffer(menu, step);
    return commit(turn, located, [{ end, address, step: missed, resume: at }], place, before.address);
  }
  if (chosen === 'again') {
    const first = await openOn(turn, { menu, service: place.service }, step.state.language);
    return commit(turn, located, [{ end, address, step: first }], place, before.address);
  }
  const { state, screen, shown } = chosen.memory();
  const identity = shown ?? turn.digests.identity(rowKey(at.sessionKey, at, chosen.address));
  const back: Heeded = {
    end,
    address,
    step: { state, screen, effects: [], course: 'moved' },
    shown: identity,
  };
  const older = { ...place, menu: { id: chosen.menu, menu: await turn.menus.pinned(chosen.menu) } };
  return commit(turn, located, [back], older, before.address, (row) => [claimOf(at, chosen, row)]);
}

/** The expired answer, stored at its address so that copies racing over the limit agree (decision 4.6). */
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

/** Stores the answer to a text that comes after the end of a dial; false where it was a turn after all. */
async function settle(
  { heard, turns, deadline }: Turn,
  { sessionKey, found, text, addressAt, alias }: Located,
  parent: KnownTurn,
  memory: Memory,
  outcome: Outcome,
): Promise<boolean> {
  const { dial, asked } = found;
  if (dial === undefined) throw new Error('nothing to settle without a dial');
  const { day } = dial;
  const address = alias ?? addressAt(text.length);
  const at = await turns.insert(
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
  return at !== undefined;
}
