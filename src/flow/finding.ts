import { type Menu, type Node, optionsOf, type Text, waysFrom, wordsOf } from './menu.ts';

/**
 * What is wrong with a document: where, what, and the shortest text that leads there. An error keeps the
 * document from being served; a warning does not.
 */
export type Finding = { level: 'error' | 'warning'; node: string; problem: string; path?: string };

/** Returns a finding that keeps a document from being served. */
export function error(node: string, problem: string): Finding {
  return { level: 'error', node, problem };
}

/** The nodes of a document, with their names. */
export function nodesOf(menu: Menu): [string, Node][] {
  return Object.entries(menu.nodes);
}

/** What a node says to an answer that is none, where that is its own. */
export function ownLines(node: Node): Text[] {
  const { invalid, farewell } = 'choose' in node ? node : { farewell: undefined, ...('ask' in node && node) };
  return [invalid, farewell].flatMap((line): Text[] => (line === undefined ? [] : [line]));
}

/** Every text of a node. */
export function textsIn(node: Node): Text[] {
  const effects = waysFrom(node).flatMap(({ effects }) => effects ?? []);
  return [
    wordsOf(node),
    ...optionsOf(node).map(({ label }) => label),
    ...('list' in node ? [node.label, node.empty] : []),
    ...('list' in node && node.more ? [node.more.label] : []),
    ...('list' in node && node.previous ? [node.previous.label] : []),
    ...ownLines(node),
    ...waysFrom(node).flatMap(({ invalid }): Text[] => (invalid === undefined ? [] : [invalid])),
    ...effects.flatMap((effect) => Object.values(effect).flatMap((args): Text[] => Object.values(args))),
  ];
}

/**
 * Returns an error where a text lacks a language. `key`: under which the text stands in the document, where it is one of
 * the engine's own.
 */
export function untranslated(node: string, text: Text, language: string, key?: string): Finding[] {
  if (typeof text === 'string' || language in text) return [];
  const [spoken, words] = Object.entries(text)[0] ?? ['en', ''];
  const remedy = key === undefined ? 'add it' : `add it, ${key}: { ${spoken}: …, ${language}: … }`;
  return [error(node, `no ${language} for "${words.slice(0, 30)}": ${remedy}`)];
}
