import { inLanguage, type Menu, type Node, optionsOf, wordsOf } from './menu.ts';
import type { Screen } from './screen.ts';

/** A session's memory between two turns: everything `step` needs, and nothing that cannot be sealed. */
export type State = {
  node: string;
  /** Nodes that `0` leads back through, oldest first. */
  back: string[];
  /** Invalid answers in a row. */
  misses: number;
  vars: Record<string, string>;
  language: string;
};

/** What a turn wants to happen, as data; the shell commits it in the turn's own transaction. */
export type Effect = { kind: string; args: Record<string, string>; walkable: boolean };

/** How a turn went, for the operator's counts. */
export type Course = 'moved' | 'ended' | 'invalid' | 'gaveUp';

export type Step = { state: State; screen: Screen; effects: Effect[]; course: Course };

/** After this many invalid answers in a row the session ends politely (CONTRACT.md section 2). */
const MOST_MISSES = 3;

/** How far `0` leads back; older places are forgotten so that a session's memory stays bounded. */
const BACK_DEPTH = 8;

/** The engine's own keys on screens that are chosen from; a document that prints the key overrides it. */
const BACK_KEY = '0';
const HOME_KEY = '00';

/** The first screen of a service. */
export function begin(menu: Menu, language = menu.languages[0] ?? 'en'): Step {
  return show(menu, { node: menu.root, back: [], misses: 0, vars: {}, language });
}

/**
 * One input heard on one screen: a pure function of the document and the session's memory.
 * An invalid input shows the same screen again with one line above it; the third in a row ends.
 */
export function step(menu: Menu, state: State, input: string): Step {
  const node = nodeAt(menu, state.node);
  const target = optionsOf(node).find((option) => option.key === input.trim())?.to;
  if (target !== undefined) return go(menu, state, target);
  if ('ask' in node) return answer(menu, state, node, input);
  if (input.trim() === BACK_KEY && state.back.length > 0) return go(menu, state, 'back');
  if (input.trim() === HOME_KEY && state.node !== menu.root) return go(menu, state, 'home');
  return miss(menu, state);
}

/** How the screen of a state listens: what addressing has to know before it cuts a text into inputs. */
export type Hearing = {
  /** The screen may be answered with a text that itself contains `*`. */
  whole: boolean;
  /** The screen offers the key `*`. */
  star: boolean;
};

/** How the current screen listens. */
export function hearing(menu: Menu, state: State): Hearing {
  const node = nodeAt(menu, state.node);
  return { whole: 'ask' in node, star: optionsOf(node).some((option) => option.key === '*') };
}

function answer(menu: Menu, state: State, node: Extract<Node, { ask: unknown }>, input: string): Step {
  const typed = input.trim();
  const length = [...typed].length;
  if (length < node.answer.min || length > node.answer.max) return miss(menu, state);
  return go(menu, { ...state, vars: { ...state.vars, [node.save]: typed } }, node.to);
}

function go(menu: Menu, state: State, target: string): Step {
  if (target === 'home') return show(menu, { ...state, node: menu.root, back: [], misses: 0 });
  if (target === 'back') {
    const node = state.back.at(-1) ?? menu.root;
    return show(menu, { ...state, node, back: state.back.slice(0, -1), misses: 0 });
  }
  const back = [...state.back, state.node].slice(-BACK_DEPTH);
  return show(menu, { ...state, node: target, back: target === menu.root ? [] : back, misses: 0 });
}

function miss(menu: Menu, state: State): Step {
  const misses = state.misses + 1;
  if (misses < MOST_MISSES) {
    const again = show(menu, { ...state, misses });
    const notice = inLanguage(menu.invalid, state.language);
    return { ...again, screen: { ...again.screen, notice }, course: 'invalid' };
  }
  const words = inLanguage(menu.farewell, state.language);
  const screen: Screen = { end: true, node: state.node, words, options: [] };
  return { state: { ...state, misses }, screen, effects: [], course: 'gaveUp' };
}

function show(menu: Menu, state: State): Step {
  const node = nodeAt(menu, state.node);
  const end = 'end' in node;
  const options = optionsOf(node).map(({ key, label }) => ({
    key,
    label: inLanguage(label, state.language),
  }));
  const words = fill(inLanguage(wordsOf(node), state.language), state.vars);
  const screen: Screen = { end, node: state.node, words, options };
  return { state, screen, effects: [], course: end ? 'ended' : 'moved' };
}

function fill(text: string, vars: Record<string, string>): string {
  return text.replaceAll(/\{(\w+)\}/g, (_, name: string) => vars[name] ?? '');
}

function nodeAt(menu: Menu, name: string): Node {
  const node = menu.nodes[name];
  if (node === undefined) throw new Error(`service ${menu.service} has no node ${name}`);
  return node;
}
