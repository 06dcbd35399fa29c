import { longestAnswer, longestShown } from './answer.ts';
import { factOf, fill, longestValue, placeholdersIn } from './format.ts';
import {
  type Answer,
  type Menu,
  type Node,
  nodeNamed,
  optionsOf,
  type To,
  type Way,
  waysFrom,
  waysOf,
} from './menu.ts';
import type { Facts, State, World } from './state.ts';
import { measure, speltAtMost } from './text.ts';

/**
 * What a fact promises: the longest that each of its values can be on a screen, in septets (`speltAtMost` for
 * values in any script), how many rows it lists at the most, and whether it wants the caller's phone.
 */
export type Shape = { values: Record<string, number>; rows?: number; needsPhone?: true };

/** What a document may name: facts with their shapes, effects with their arguments. */
export type Known = {
  facts: Record<string, Shape>;
  effects: Record<string, readonly string[]>;
  /** Effects that want the caller's phone. */
  needPhone?: ReadonlySet<string>;
  /** Effects that leave no trace on the phone: the only ones of a private document. */
  quiet?: ReadonlySet<string>;
  /** Arguments of effects that are sent as SMS. */
  messages?: Messages;
};

/** By effect: the names of its arguments that are sent as SMS. */
export type Messages = ReadonlyMap<string, readonly string[]>;

/** The verdicts on each kind of secret. */
export const VERDICTS: Readonly<Record<string, readonly string[]>> = {
  pin: ['right', 'change', 'link', 'linkAndChange', 'wrong', 'locked'],
  newPin: ['good', 'weak', 'same', 'locked'],
  pinAgain: ['same', 'different', 'locked'],
};

/** A step that a subscriber can take: what is typed on one screen, and the screen that follows. */
export type Edge = { from: string; input: string; to: string; way: Way };

/** Every step of a document, one for each way; `back` leads to wherever the screen was reached from. */
export function edgesOf(menu: Menu): Edge[] {
  const edges: Edge[] = [];
  const add = (from: string, input: string, to: To) => {
    for (const way of waysOf(to))
      edges.push({ from, input, to: way.to === 'home' ? menu.root : way.to, way });
  };
  for (const [from, node] of Object.entries(menu.nodes)) {
    for (const option of optionsOf(node)) add(from, option.key, option.to);
    if ('list' in node) add(from, '1', node.to);
    if ('ask' in node) add(from, sampleOf(node.answer), node.to);
  }
  const forward = edges.filter(({ to }) => to !== 'back');
  const backward = edges.filter(({ to }) => to === 'back');
  const returning = backward.flatMap((edge) =>
    forward
      .filter(({ to, from }) => to === edge.from && from !== edge.from)
      .map(({ from }) => ({ ...edge, to: from })),
  );
  return [...forward, ...returning];
}

/** The nodes to which some way leads from the first screen. Back leads only to a screen that was shown before. */
export function reachable(menu: Menu, edges: Edge[]): Set<string> {
  const reached = new Set([menu.root]);
  for (const node of reached) {
    for (const { from, to, way } of edges) {
      if (from === node && way.to !== 'back' && nodeNamed(menu, to) !== undefined) reached.add(to);
    }
  }
  return reached;
}

/** The nodes from which an END can be reached. */
export function leadingOut(menu: Menu, edges: Edge[]): Set<string> {
  const out = new Set(Object.entries(menu.nodes).flatMap(([name, node]) => ('end' in node ? [name] : [])));
  for (let size = -1; size !== out.size; ) {
    size = out.size;
    for (const { from, to } of edges) if (out.has(to)) out.add(from);
  }
  return out;
}

/** A caller of whom nothing is known. */
export const SAMPLE_PHONE = '+260971234567';

/** Something that a subscriber could type as an answer of this kind. */
export function sampleOf(answer: Answer): string {
  switch (answer.kind) {
    case 'text':
      return 'a'.repeat(Math.max(1, answer.min));
    case 'integer':
    case 'amount':
      return String(answer.min);
    case 'pattern':
      return answer.sample;
    case 'name':
      return 'Ann';
    case 'email':
      return 'a@b.co';
    case 'phone':
      return SAMPLE_PHONE;
    case 'customerId':
      return 'CABCDEFGH';
    default:
      return '48213';
  }
}

/**
 * The longest that every value of a session can be on a screen, in septets: what its question allows, or
 * what it is set from. A value that is set from itself and more has no longest: `Infinity`.
 */
export function lengthsOf(menu: Menu, known: Known): (name: string) => number {
  const kept = new Map([
    ['phone', 16],
    ['language', 2],
  ]);
  const length = (name: string): number => {
    const fact = factOf(name)[0];
    return (fact === undefined ? kept.get(name) : shapeOf(known, fact)?.values[valueIn(name)]) ?? 0;
  };
  const keep = (name: string, septets: number): boolean => {
    const longer = septets > (kept.get(name) ?? -1);
    if (longer) kept.set(name, septets);
    return longer;
  };
  const nodes = Object.values(menu.nodes);
  for (const node of nodes)
    if ('ask' in node && node.save !== undefined) keep(node.save, longestShown(node.answer));
  const sets = nodes.flatMap((node) =>
    setsOf(node).map(([name, value]) => ({ name, value, rows: rowsOf(node, known) })),
  );
  // Values are set from one another: what still grows after as many rounds as there are values grows always.
  for (let round = 0; round <= sets.length; round += 1) {
    const grown = sets.filter(({ name, value, rows }) => keep(name, longestSet(value, rows, length)));
    if (grown.length === 0) break;
    if (round === sets.length) for (const { name } of grown) kept.set(name, Number.POSITIVE_INFINITY);
  }
  return length;
}

function longestSet(text: string, rows: Record<string, number>, length: (name: string) => number): number {
  const names = placeholdersIn(text).map(({ name }) => name);
  const septets = names.map((name) => (name.startsWith('row.') ? (rows[valueIn(name)] ?? 0) : length(name)));
  if (septets.includes(Number.POSITIVE_INFINITY)) return Number.POSITIVE_INFINITY;
  const scope = Object.fromEntries(names.map((name, index) => [name, longestValue(septets[index] ?? 0)]));
  const { alphabet, units } = measure(fill(text, scope));
  return alphabet === 'gsm' ? units : speltAtMost(2 * units);
}

/** The values of the rows that a node lists, with their longest. */
export function rowsOf(node: Node, known: Known): Record<string, number> {
  return 'list' in node ? (shapeOf(known, node.from)?.values ?? {}) : {};
}

/** What a fact promises, where there is such a fact. */
export function shapeOf(known: Known, fact: string): Shape | undefined {
  return Object.hasOwn(known.facts, fact) ? known.facts[fact] : undefined;
}

function valueIn(name: string): string {
  return name.slice(name.indexOf('.') + 1);
}

/** The world in which every value is as long as it can be, and every list as full, or of so many rows. */
export function worstWorld(known: Known, most = Number.POSITIVE_INFINITY): World {
  const facts: Record<string, Facts[string]> = {};
  for (const [name, { values, rows }] of Object.entries(known.facts)) {
    const full = mapped(values, longestValue);
    facts[name] = rows === undefined ? full : Array.from({ length: Math.min(rows, most) }, () => full);
  }
  return { facts, msisdn: '+123456789012345' };
}

/** Sessions on any node, with every value that they can hold at its longest. */
export function worstStates(menu: Menu, known: Known): (node: string, language: string) => State {
  const length = lengthsOf(menu, known);
  const names = Object.values(menu.nodes).flatMap(keptBy);
  const vars = Object.fromEntries(names.map((name) => [name, longestValue(length(name))]));
  const turns = { more: false, previous: false };
  return (node, language) => ({ node, back: [], misses: 0, vars, language, page: 0, turns, items: {} });
}

function mapped(values: Record<string, number>, write: (most: number) => string): Record<string, string> {
  return Object.fromEntries(Object.entries(values).map(([name, most]) => [name, write(most)]));
}

/** What a node's options, ways and items keep, and from what. */
export function setsOf(node: Node): [name: string, value: string][] {
  const sets = [
    ...optionsOf(node).map(({ set }) => set ?? {}),
    ...waysFrom(node).map(({ set }) => set ?? {}),
    'list' in node ? node.set : {},
  ];
  return sets.flatMap((set) => Object.entries(set));
}

/** The values that a node keeps. */
export function keptBy(node: Node): string[] {
  const saved = 'ask' in node && node.save !== undefined ? [node.save] : [];
  return [...saved, ...setsOf(node).map(([name]) => name)];
}

/**
 * The longest text that an honest conversation can accumulate: over paths that come to no screen twice,
 * every answer at its longest (decision 35). The text, where it ends, and its length in characters.
 */
export function longestText(menu: Menu, edges: Edge[]): { node: string; path: string; length: number } {
  const cost = new Map<string, number>();
  for (const [name, node] of Object.entries(menu.nodes))
    if ('ask' in node) cost.set(name, longestAnswer(node.answer));
  let most = { node: menu.root, path: '', length: 0 };
  let steps = 0;
  const walk = (node: string, seen: Set<string>, path: string, length: number): void => {
    if (length > most.length) most = { node, path, length };
    steps += 1;
    if (steps > MOST_STEPS) return;
    for (const { from, to, input, way } of edges) {
      if (from !== node || seen.has(to) || way.to === 'back' || way.to === 'home') continue;
      const typed = Math.max(input.length, isAnswer(menu, node, input) ? (cost.get(node) ?? 0) : 0);
      const joined = path === '' ? 0 : 1;
      walk(to, new Set([...seen, to]), path === '' ? input : `${path}*${input}`, length + joined + typed);
    }
  };
  walk(menu.root, new Set([menu.root]), '', 0);
  return most;
}

/** A document with more simple paths than this is proved over the first of them only. */
const MOST_STEPS = 200_000;

function isAnswer(menu: Menu, name: string, input: string): boolean {
  const node = nodeNamed(menu, name);
  return node !== undefined && !optionsOf(node).some(({ key }) => key === input);
}

/** How many screens with choices are passed on the shortest way to each node. */
export function depthsOf(menu: Menu, edges: Edge[]): Map<string, number> {
  const counts = (name: string) => {
    const node = nodeNamed(menu, name);
    return node !== undefined && ('choose' in node || 'list' in node) ? 1 : 0;
  };
  const depths = new Map([[menu.root, counts(menu.root)]]);
  const queue = [menu.root];
  for (let node = queue.shift(); node !== undefined; node = queue.shift()) {
    for (const { to, way } of edges.filter(({ from }) => from === node)) {
      if (depths.has(to) || way.to === 'back' || nodeNamed(menu, to) === undefined) continue;
      depths.set(to, (depths.get(node) ?? 0) + counts(to));
      queue.push(to);
    }
  }
  return depths;
}
