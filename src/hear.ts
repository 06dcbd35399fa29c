import type { Db } from './db/db.ts';
import { MOST_PIECES, nextPiece, piecesLeft } from './flow/address.ts';
import type { Deadline, Heard } from './flow/heard.ts';
import type { Menu } from './flow/menu.ts';
import { keepOpening, keepStep, sharedOpening, sharedStep, WatchedWorld } from './flow/shared-steps.ts';
import type { Facts, Needs, State, Step, Verdict } from './flow/state.ts';
import { begin, hearing, isWalkable, secretOf, step, wantsSeeing } from './flow/step.ts';
import type { Judge } from './judge.ts';
import type { Located } from './locate.ts';
import type { Resumable } from './resume.ts';
import type { Digests } from './seal/digests.ts';
import type { Fact } from './services/facts.ts';
import { rowKey } from './store/turn-rows.ts';

/** What hearing needs besides the core: who judges secrets, and where facts come from. */
export type Ears = {
  heard: Heard;
  /** The digest by which the caller is known: made once, because every place that asks for it would make it again. */
  caller: Buffer;
  deadline: Deadline;
  db: Db;
  digests: Digests;
  /** Hears secrets instead of the core. */
  judge: Judge;
  /** Facts by service and name. */
  facts: Record<string, Record<string, Fact>>;
};

/** Where in a session turns are being added. */
export type Place = {
  day: string;
  dial: number;
  /** Of the first turn that is added. */
  hop: number;
  menu: { id: number; menu: Menu };
  service: string;
  /** Where in the text hearing begins, and whether a code is dialled through. */
  from: number;
  through: boolean;
  addressAt(end: number): Buffer;
};

/** One input heard: where it ends in the text, the turn that it makes, and what came of it. */
export type Heeded = {
  end: number;
  address: Buffer;
  step: Step;
  /** The identity of the turn that first showed this screen, where that is another one. */
  shown?: Buffer;
  /** The same for the screen that was answered, where answering it makes something happen. */
  answers?: Buffer;
  /** The screen asks whether to go on with an earlier dial. */
  resume?: Resumable;
};

/**
 * A walk: the inputs of a text, one by one, behind the screen it begins on, which is the first of the
 * answer. It stops where one is invalid or ends the session, and before one that would answer a secret or
 * make something happen, unless that is the first that is new in a live session; what stands behind is
 * forgotten (decisions 2 and 3).
 */
export async function hearAll(
  ears: Ears,
  { text, whole, sessionKey }: Located,
  place: Place,
  before: Heeded,
): Promise<Heeded[] | 'tooMany'> {
  const { menu } = place.menu;
  const { caller } = ears;
  const { msisdn } = ears.heard;
  const heeded = [before];
  let at = place.from;
  for (let pieces = 0; pieces < MOST_PIECES; pieces += 1) {
    const last = heeded.at(-1) ?? before;
    const { state } = last.step;
    const first = pieces === 0;
    const piece =
      whole && !place.through
        ? { input: text.slice(at), end: text.length }
        : nextPiece(text, at, { ...hearing(menu, state), first, through: place.through });
    const address = place.addressAt(piece.end);
    const careful = place.through || !first;
    const secret = secretOf(menu, state, piece.input);
    if (careful && (secret !== undefined || wantsSeeing(menu, state, piece.input))) break;
    const input =
      secret === undefined
        ? piece.input
        : await ears.judge({
            ask: secret,
            typed: piece.input,
            state,
            msisdn,
            caller,
            deadline: ears.deadline,
            // Where a gateway sends no accumulated text, two inputs may want one address.
            turn: rowKey(sessionKey, place, ears.digests.below(address, 'input', piece.input)),
          });
    const next = await stepOn(ears, place, state, input);
    if (careful && !isWalkable(next.effects)) break;
    const heard: Heeded = { end: piece.end, address, step: next };
    if (next.same || next.effects.length > 0) {
      const shown = last.shown ?? ears.digests.identity(rowKey(sessionKey, place, last.address));
      if (next.same) heard.shown = shown;
      else heard.answers = shown;
    }
    heeded.push(heard);
    at = piece.end;
    if (next.course !== 'moved' || at >= text.length) break;
  }
  return heeded.length - 1 + piecesLeft(text, at) > MOST_PIECES ? 'tooMany' : heeded;
}

/**
 * Hears one key behind a screen at once, where its step is shared: however the screen listens, all that is left of the
 * text is that key. Undefined elsewhere; `hearAll` hears it then.
 */
export function hearShared(text: string, place: Place, { step: { state } }: Heeded): Heeded | undefined {
  const { from, through } = place;
  if (through || (from > 0 && text[from] !== '*')) return undefined;
  const input = text.slice(from > 0 ? from + 1 : 0);
  const step = input.includes('*') ? undefined : sharedStep(state, input);
  return step && { end: text.length, address: place.addressAt(text.length), step };
}

/** The first screen of a document, with its facts. */
export async function openOn(
  ears: Ears,
  { menu, service }: { menu: Menu; service: string },
  language: string | undefined,
): Promise<Step> {
  const shared = sharedOpening(menu, language);
  if (shared !== undefined) return shared;
  const { step: first, world } = await withFacts(ears, service, (world) => begin(menu, world, language));
  keepOpening(menu, language, first, world);
  return first;
}

/** One step from a state, with its facts. */
async function stepOn(ears: Ears, place: Place, state: State, input: string | Verdict): Promise<Step> {
  const { menu } = place.menu;
  const { step: next, world } = await withFacts(ears, place.service, (world) =>
    step(menu, state, input, world),
  );
  if (typeof input === 'string') keepStep(menu, state, input, next, world);
  return next;
}

/** Steps, and loads what the core asks for until it asks for nothing more. */
async function withFacts(
  ears: Ears,
  service: string,
  run: (world: WatchedWorld) => Step | Needs,
): Promise<{ step: Step; world: WatchedWorld }> {
  const { db, caller, heard, facts: known } = ears;
  const { msisdn } = heard;
  const facts: Record<string, Facts[string]> = {};
  for (;;) {
    const world = new WatchedWorld({ facts, msisdn });
    const result = run(world);
    if (!('needs' in result)) return { step: result, world };
    const { needs, vars, account } = result;
    for (const name of needs) {
      const fact = known[service]?.[name];
      if (fact === undefined) throw new Error(`service ${service} has no fact ${name}`);
      facts[name] = await fact({
        db,
        msisdn,
        phone: caller,
        vars,
        ...(account !== undefined && { account }),
      });
    }
  }
}
