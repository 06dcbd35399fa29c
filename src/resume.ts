import { Outcome } from './flow/dial.ts';
import type { Memory } from './flow/memory.ts';
import { inLanguage, isSecret, type Menu, sameKey } from './flow/menu.ts';
import type { Screen } from './flow/screen.ts';
import type { State, Step } from './flow/state.ts';
import { gaveUp } from './flow/step.ts';
import type { Menus } from './menus.ts';
import type { NewTurn } from './store/new-turn.ts';
import { type KnownTurn, Reserved, type WholeDial } from './store/turn-rows.ts';
import type { Turns } from './store/turns.ts';

/** A turn of an earlier dial that can be gone on with. */
export type Resumable = NonNullable<Memory['resume']>;

/**
 * Where a subscriber who was cut off can go on (decision 25): in the newest dial of the phone on the
 * service, where it is over without an END and had at least one answer, on the last screen before any
 * secret. Times are in milliseconds.
 */
export async function resumable(
  { turns, menus }: { turns: Turns; menus: Menus },
  menu: Menu,
  phone: Buffer,
  ttl: number,
): Promise<Resumable | undefined> {
  if (menu.resume === undefined) return undefined;
  const dial = await turns.lastDial(phone, menu.service);
  if (dial === undefined || !brokeOff(dial, menu.resume * 1000, ttl)) return undefined;
  const shown = dial.turns.filter(({ outcome }) => outcome === Outcome.shown || outcome === Outcome.invalid);
  let last: KnownTurn | undefined;
  for (const turn of shown) {
    const { state, resume } = turn.memory();
    if (state.account !== undefined || resume !== undefined) break;
    if (asksSecret(await menus.pinned(turn.menu), state)) break;
    last = turn;
  }
  if (last === undefined || last.hop === 0) return undefined;
  return { sessionKey: dial.sessionKey, day: dial.day, dial: dial.dial, address: last.address };
}

function brokeOff({ turns }: WholeDial, within: number, ttl: number): boolean {
  const ended = turns.some(({ outcome }) => outcome === Outcome.ended || outcome === Outcome.gaveUp);
  const claimed = turns.some(({ address }) => address.equals(Reserved.claim));
  const closed = turns.some(({ outcome }) => outcome === Outcome.closed);
  const idle = Math.min(...turns.filter(({ outcome }) => outcome < Outcome.expired).map(({ age }) => age));
  return !ended && !claimed && idle <= within && (closed || idle > ttl);
}

/** Whether what is typed on a screen is a secret. */
export function asksSecret(menu: Menu, { node }: State): boolean {
  const at = menu.nodes[node];
  return at !== undefined && 'ask' in at && isSecret(at.answer);
}

/** The question of the first screen. */
export function offer(menu: Menu, { node, language }: State): Screen {
  return {
    end: false,
    node,
    words: inLanguage(menu.cutOff, language),
    options: [
      { key: '1', label: inLanguage(menu.goOn, language) },
      { key: '2', label: inLanguage(menu.startAgain, language) },
    ],
  };
}

/** Its answer: the earlier turn; `again` for the first screen of a new dial; undefined where it is none. */
export async function answerOffer(
  turns: Turns,
  input: string,
  at: Resumable,
): Promise<KnownTurn | 'again' | undefined> {
  if (sameKey('2', input)) return 'again';
  if (!sameKey('1', input)) return undefined;
  // Another dial has claimed it since: there is nothing to go on with any more.
  const claimed = await turns.read(at.sessionKey, at, Reserved.claim);
  return (claimed === undefined ? await turns.read(at.sessionKey, at, at.address) : undefined) ?? 'again';
}

/** The row that claims the earlier dial, to be inserted with the turn that goes on: the first one wins. */
export function claimOf(at: Resumable, earlier: KnownTurn, turn: NewTurn): NewTurn {
  return {
    ...turn,
    sessionKey: at.sessionKey,
    day: at.day,
    dial: at.dial,
    address: Reserved.claim,
    hop: earlier.hop + 1,
    outcome: Outcome.closed,
    memory: earlier.memory(),
  };
}

/** An answer that is neither: asked again, and after the last try the farewell, as on any screen. */
export function missOffer(menu: Menu, { state }: Step): Step {
  const misses = state.misses + 1;
  const again = { ...offer(menu, state), notice: inLanguage(menu.invalid, state.language) };
  if (misses < menu.tries)
    return { state: { ...state, misses }, screen: again, effects: [], course: 'invalid' };
  return gaveUp(menu, state);
}
