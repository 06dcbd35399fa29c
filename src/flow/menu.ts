import { z } from 'zod';
import { SEPTET_BUDGET, SEPTET_LIMIT } from './text.ts';

/** A text as subscribers read it: one for all languages, or one per language of the document. */
const Text = z.union([z.string().min(1), z.record(z.string().regex(/^[a-z]{2}$/), z.string().min(1))]);

/** A key as it is typed and printed: digits, `*`, or a word. Once published it does not move. */
const Key = z.union([
  z.int().min(0).transform(String),
  z.string().regex(/^(\d{1,3}|\*|[\p{L}\p{N}]{1,20})$/u, 'a key is digits, * or one word'),
]);

const NodeName = z.string().regex(/^[A-Za-z][A-Za-z0-9_]{0,39}$/, 'a node name is letters, digits and _');

/** Where an option leads: a node, or one of the engine's own places, `back` and `home`. */
const Option = z.strictObject({ key: Key, label: Text, to: NodeName });

const Options = z.array(Option).min(1);

/** CON: a question with fixed answers. */
const Choose = z.strictObject({ choose: Text, options: Options });

/** CON: something to read, with ways onward. */
const Say = z.strictObject({ say: Text, options: Options });

/** CON: a typed answer, kept in the session under `save`. It may contain `*`. */
const Ask = z.strictObject({
  ask: Text,
  answer: z.strictObject({
    kind: z.literal('text'),
    min: z.int().min(0).default(1),
    max: z.int().min(1).max(160),
  }),
  save: NodeName,
  to: NodeName,
  options: z.array(Option).default([]),
});

/** END: the last words. */
const End = z.strictObject({ end: Text });

const Node = z.union([Choose, Say, Ask, End]);

/** Names that are places of the engine rather than nodes of a document. */
export const PLACES = ['back', 'home'] as const;

/**
 * A service as a document. `nodes` keeps the order of the file: the position of a node is the small
 * integer under which turns count it, so new nodes of a published service go at the end.
 */
export const Menu = z.strictObject({
  service: z.string().regex(/^[a-z][a-z0-9-]{0,29}$/),
  languages: z
    .array(z.string().regex(/^[a-z]{2}$/))
    .min(1)
    .default(['en']),
  root: NodeName,
  budget: z.int().min(40).max(SEPTET_LIMIT).default(SEPTET_BUDGET),
  /** One line above a screen that is shown again because the choice was not on it. */
  invalid: Text.default('Invalid choice. Reply with one of:'),
  /** The END after three invalid answers in a row. */
  farewell: Text.default('Too many invalid choices. Please dial again.'),
  nodes: z.record(NodeName, Node),
});

export type Menu = z.infer<typeof Menu>;
export type Node = z.infer<typeof Node>;
export type Option = z.infer<typeof Option>;
export type Text = z.infer<typeof Text>;

/** The text in one language; a document that misses a translation was refused when it was read. */
export function inLanguage(text: Text, language: string): string {
  return typeof text === 'string' ? text : (text[language] ?? Object.values(text)[0] ?? '');
}

/** The options that a node prints; an `end` has none. */
export function optionsOf(node: Node): Option[] {
  return 'end' in node ? [] : node.options;
}

/** The words of a node, without its options. */
export function wordsOf(node: Node): Text {
  if ('choose' in node) return node.choose;
  if ('say' in node) return node.say;
  if ('ask' in node) return node.ask;
  return node.end;
}
