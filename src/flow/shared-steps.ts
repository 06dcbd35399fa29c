import { type Menu, nodeNamed } from './menu.ts';
import type { State, Step, World } from './state.ts';

/**
 * Steps that are the same for every subscriber. Where a step reads neither the caller nor a fact, has no effect, keeps
 * no value and hears no answer to a question, its result follows from the document, the state and the key alone. Most
 * turns of most services are such steps. Their results are kept and used again, as the same objects (decision 22).
 *
 * A state is shared if it is one of these objects. It is reached from an opening by shared steps only, because a step
 * from any other state makes a new object. So a shared state holds no answer, name or account of a subscriber.
 */

/** Of one document, in all its versions' languages; a document of a hundred screens has a few hundred of them. */
const MOST_STEPS = 4_096;
/** Characters of an input whose step is kept: keys are no longer, padded ones are cut to their key by `step`. */
const MOST_INPUT = 4;

const NEXT = new WeakMap<State, Map<string, Step>>();
const OPENINGS = new WeakMap<Menu, Map<string, Step>>();
const COUNTS = new WeakMap<Menu, number>();

/** What a step may read besides document, state and input; remembers whether it did. */
export class WatchedWorld implements World {
  readonly #facts: World['facts'];
  readonly #msisdn: string;
  wasRead = false;

  constructor({ facts, msisdn }: World) {
    this.#facts = facts;
    this.#msisdn = msisdn;
  }

  get facts(): World['facts'] {
    this.wasRead = true;
    return this.#facts;
  }

  get msisdn(): string {
    this.wasRead = true;
    return this.#msisdn;
  }
}

/** Returns whether a state is shared: reached from an opening by shared steps alone. */
export function isShared(state: State): boolean {
  return NEXT.has(state);
}

/** Returns the first screen of a document in a language where it is shared and known. */
export function sharedOpening(menu: Menu, language: string | undefined): Step | undefined {
  return OPENINGS.get(menu)?.get(language ?? '');
}

/** Returns the step from a state by an input where it is shared and known. */
export function sharedStep(state: State, input: string): Step | undefined {
  return NEXT.get(state)?.get(input);
}

/** Keeps the first screen of a document where it is shared. */
export function keepOpening(menu: Menu, language: string | undefined, step: Step, world: WatchedWorld): void {
  if (!isSame(step, world) || !countOne(menu)) return;
  const known = OPENINGS.get(menu) ?? new Map<string, Step>();
  OPENINGS.set(menu, known.set(language ?? '', step));
  NEXT.set(step.state, new Map());
}

/** Keeps the step from a state by an input where it is shared. */
export function keepStep(menu: Menu, state: State, input: string, step: Step, world: WatchedWorld): void {
  const known = NEXT.get(state);
  if (known === undefined || input.length > MOST_INPUT || !isSame(step, world)) return;
  // What is typed on a question may be its answer.
  if ('ask' in (nodeNamed(menu, state.node) ?? { ask: true }) || !countOne(menu)) return;
  known.set(input, step);
  NEXT.set(step.state, new Map());
}

/** Returns whether a step would have come out the same for any other subscriber. */
function isSame({ state, screen, effects, course, same }: Step, world: WatchedWorld): boolean {
  if (world.wasRead || effects.length > 0 || same === true || screen.notice !== undefined) return false;
  if (course !== 'moved' && course !== 'ended') return false;
  for (const _ in state.vars) return false;
  return state.account === undefined;
}

/** Counts a step that is to be kept; false where the document has as many as it may. */
function countOne(menu: Menu): boolean {
  const count = COUNTS.get(menu) ?? 0;
  if (count >= MOST_STEPS) return false;
  COUNTS.set(menu, count + 1);
  return true;
}
