import { longestAnswer } from './answer.ts';
import { longest } from './format.ts';
import { type Answer, type Menu, type Node, optionsOf, type To, type Way, waysOf } from './menu.ts';
import type { Facts, State, World } from './state.ts';

/** What a fact promises: the longest that each of its values can be, and how many rows it lists at the most. */
export type Shape = { values: Record<string, number>; rows?: number };

/** What a document may name: facts with their shapes, effects with their arguments. */
export type Known = { facts: Record<string, Shape>; effects: Record<string, readonly string[]> };

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

/** The shortest texts that lead to each node from the first screen: inputs, joined by `*`. */
export function pathsOf(menu: Menu, edges: Edge[]): Map<string, string> {
  const paths = new Map([[menu.root, '']]);
  const queue = [menu.root];
  for (let node = queue.shift(); node !== undefined; node = queue.shift()) {
    const before = paths.get(node) ?? '';
    for (const { to, input } of edges.filter(({ from, way }) => from === node && way.invalid === undefined)) {
      if (paths.has(to) || !(to in menu.nodes)) continue;
      paths.set(to, before === '' ? input : `${before}*${input}`);
      queue.push(to);
    }
  }
  return paths;
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
      return '+260971234567';
    case 'customerId':
      return 'CABCDEFGH';
    default:
      return '48213';
  }
}

/** The longest that every value of a session can be: what its question allows, or what it is set from. */
export function lengthsOf(menu: Menu, known: Known): (name: string) => number {
  const kept = new Map<string, number>();
  const length = (name: string): number => {
    const [fact = '', value = ''] = name.includes('.') ? name.split('.') : ['', name];
    if (fact !== '' && fact !== 'row') return known.facts[fact]?.values[value] ?? 0;
    return kept.get(value) ?? (value === 'phone' ? 16 : 0);
  };
  for (const node of Object.values(menu.nodes)) {
    if ('ask' in node && node.save !== undefined) kept.set(node.save, longestAnswer(node.answer));
    const rows = 'list' in node ? (known.facts[node.from]?.values ?? {}) : {};
    const inRow = (name: string) => (name.startsWith('row.') ? (rows[name.slice(4)] ?? 0) : length(name));
    const sets = [...optionsOf(node).map(({ set }) => set ?? {}), 'list' in node ? node.set : {}];
    for (const [name, value] of sets.flatMap((set) => Object.entries(set))) {
      kept.set(name, Math.max(kept.get(name) ?? 0, longest(value, inRow).length));
    }
  }
  return length;
}

/** The world in which every value is as long as it can be, and every list as full. */
export function worstWorld(known: Known): World {
  const facts: Record<string, Facts[string]> = {};
  for (const [name, { values, rows }] of Object.entries(known.facts)) {
    const full = Object.fromEntries(Object.entries(values).map(([value, most]) => [value, 'm'.repeat(most)]));
    facts[name] = rows === undefined ? full : Array.from({ length: rows }, () => full);
  }
  return { facts, msisdn: '+123456789012345' };
}

/** A session on a node, with every value that it can hold at its longest. */
export function worstState(menu: Menu, node: string, language: string, known: Known): State {
  const length = lengthsOf(menu, known);
  const names = Object.values(menu.nodes).flatMap(keptBy);
  const vars = Object.fromEntries(names.map((name) => [name, 'm'.repeat(length(name))]));
  const turns = { more: false, previous: false };
  return { node, back: [], misses: 0, vars, language, page: 0, turns, items: {} };
}

/** The values that a node keeps. */
export function keptBy(node: Node): string[] {
  const sets = [...optionsOf(node).map(({ set }) => set ?? {}), 'list' in node ? node.set : {}];
  const saved = 'ask' in node && node.save !== undefined ? [node.save] : [];
  return [...saved, ...sets.flatMap((set) => Object.keys(set))];
}

/**
 * The longest text that an honest conversation can accumulate: over paths that come to no screen twice,
 * every answer at its longest (RULINGS.md 35). The text and its length in characters.
 */
export function longestText(menu: Menu, edges: Edge[]): { path: string; length: number } {
  const cost = new Map<string, number>();
  for (const [name, node] of Object.entries(menu.nodes))
    if ('ask' in node) cost.set(name, longestAnswer(node.answer));
  let most = { path: '', length: 0 };
  let steps = 0;
  const walk = (node: string, seen: Set<string>, path: string, length: number): void => {
    if (length > most.length) most = { path, length };
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
  const node = menu.nodes[name];
  return node !== undefined && !optionsOf(node).some(({ key }) => key === input);
}

/** How many screens with choices are passed on the shortest way to each node. */
export function depthsOf(menu: Menu, edges: Edge[]): Map<string, number> {
  const counts = (name: string) => {
    const node = menu.nodes[name];
    return node !== undefined && ('choose' in node || 'list' in node) ? 1 : 0;
  };
  const depths = new Map([[menu.root, counts(menu.root)]]);
  const queue = [menu.root];
  for (let node = queue.shift(); node !== undefined; node = queue.shift()) {
    for (const { to } of edges.filter(({ from }) => from === node)) {
      if (depths.has(to) || !(to in menu.nodes)) continue;
      depths.set(to, (depths.get(node) ?? 0) + counts(to));
      queue.push(to);
    }
  }
  return depths;
}
