import { error, type Finding, nodesOf } from './finding.ts';
import { placeholdersIn } from './format.ts';
import { type Menu, NODE_KINDS, type Node, optionsOf, type Text, type To, waysOf, wordsOf } from './menu.ts';
import { isBlank } from './outgoing.ts';
import type { Known, Messages } from './plan.ts';

/** A text of a document, and where it stands. `line`: it is one line of a screen, and a further one would be an option. */
export type Placed = { path: PropertyKey[]; text: Text; line: boolean };

/** What is wrong with a text, and where it stands. */
export type TextSlip = { path: PropertyKey[]; problem: string };

/**
 * Says which texts would show nothing, and which lines of a screen have a line break in them: a label `Pay\n9. Free`
 * makes an option that does not exist.
 */
export function textSlips(menu: Menu, { messages = new Map() }: Pick<Known, 'messages'> = {}): TextSlip[] {
  const texts = [...textsOf(menu)].flatMap(({ path, text, line }) =>
    wordings(text).flatMap(([language, wording]): TextSlip[] => {
      const at = [...path, ...language];
      if (isBlank(wording)) return [{ path: at, problem: 'is blank: write the words' }];
      return line && wording.includes('\n') ? [{ path: at, problem: BROKEN }] : [];
    }),
  );
  const values = [...valuesOf(menu)].flatMap(({ path, value }): TextSlip[] =>
    value.includes('\n') ? [{ path, problem: BROKEN }] : [],
  );
  return [...texts, ...values, ...blankTexts(menu, messages)];
}

/** Where the texts of a document stand, those of each language by themselves. */
export function textPaths(menu: Menu): PropertyKey[][] {
  return [...textsOf(menu)].flatMap(({ path, text }) =>
    wordings(text).map(([language]) => [...path, ...language]),
  );
}

const BROKEN = 'holds a line break: write it on one line, without | or >';

/**
 * Says which labels and messages can be blank: those that are values alone, where each of these was typed into an answer
 * that may be empty, or is set to nothing.
 */
function blankTexts(menu: Menu, messages: Messages): TextSlip[] {
  const typed = nodesOf(menu).flatMap(([, node]) =>
    'ask' in node && node.save !== undefined && node.answer.kind === 'text' && node.answer.min === 0
      ? [node.save]
      : [],
  );
  const set = [...valuesOf(menu)]
    .filter(({ value }) => isBlank(value))
    .map(({ path }) => String(path.at(-1)));
  const empty = new Set([...typed, ...set]);
  return [...textsOf(menu)].flatMap(({ path, text, line }) =>
    wordings(text).flatMap(([language, wording]): TextSlip[] => {
      const values = placeholdersIn(wording);
      const isMessage = messages.get(String(path.at(-2)))?.includes(String(path.at(-1))) === true;
      if ((!line && !isMessage) || values.length === 0 || !values.every(({ name }) => empty.has(name)))
        return [];
      if (!isBlank(wording.replaceAll(/\{[^}]*\}/g, ''))) return [];
      return [{ path: [...path, ...language], problem: 'is values alone, and they can be blank: add words' }];
    }),
  );
}

/** Last words that are values and nothing else: where all of them are empty the END would be. */
export function blankEnds(menu: Menu): Finding[] {
  return nodesOf(menu).flatMap(([name, node]) => {
    if (!('end' in node)) return [];
    const isValues = wordings(node.end).some(
      ([, wording]) => placeholdersIn(wording).length > 0 && isBlank(wording.replaceAll(/\{[^}]*\}/g, '')),
    );
    return isValues
      ? [error(name, 'the last words are values alone, and blank where the values are: add words')]
      : [];
  });
}

function wordings(text: Text): [language: string[], wording: string][] {
  return typeof text === 'string'
    ? [[[], text]]
    : Object.entries(text).map(([language, wording]) => [[language], wording]);
}

function* textsOf(menu: Menu): Generator<Placed> {
  const { invalid, farewell, more, previous, cutOff, goOn, startAgain } = menu;
  for (const [name, text] of Object.entries({ farewell, cutOff })) yield { path: [name], text, line: false };
  for (const [name, text] of Object.entries({ invalid, more, previous, goOn, startAgain }))
    yield { path: [name], text, line: true };
  for (const [name, node] of nodesOf(menu)) yield* textsOfNode(['nodes', name], node);
}

function* textsOfNode(path: PropertyKey[], node: Node): Generator<Placed> {
  const kind = NODE_KINDS.find((key) => key in node) ?? 'end';
  yield { path: [...path, kind], text: wordsOf(node), line: false };
  if ('list' in node) {
    yield { path: [...path, 'label'], text: node.label, line: true };
    yield { path: [...path, 'empty'], text: node.empty, line: false };
    for (const turner of ['more', 'previous'] as const) {
      const text = node[turner]?.label;
      if (text !== undefined) yield { path: [...path, turner, 'label'], text, line: true };
    }
  }
  if ('invalid' in node && node.invalid !== undefined)
    yield { path: [...path, 'invalid'], text: node.invalid, line: true };
  if ('farewell' in node && node.farewell !== undefined)
    yield { path: [...path, 'farewell'], text: node.farewell, line: false };
  for (const [index, option] of optionsOf(node).entries()) {
    const at = [...path, 'options', index];
    yield { path: [...at, 'label'], text: option.label, line: true };
    yield* textsOfWays([...at, 'to'], option.to);
  }
  if ('to' in node) yield* textsOfWays([...path, 'to'], node.to);
}

function* textsOfWays(path: PropertyKey[], to: To): Generator<Placed> {
  for (const [index, { invalid, effects = [] }] of waysOf(to).entries()) {
    const at = [...path, index];
    if (invalid !== undefined) yield { path: [...at, 'invalid'], text: invalid, line: true };
    for (const [number, effect] of effects.entries())
      for (const [kind, args] of Object.entries(effect))
        for (const [name, text] of Object.entries(args))
          yield { path: [...at, 'effects', number, kind, name], text, line: false };
  }
}

/** What options, ways and lists set: each is a value, and a value is one line. */
function* valuesOf(menu: Menu): Generator<{ path: PropertyKey[]; value: string }> {
  for (const [name, node] of nodesOf(menu)) {
    const path = ['nodes', name];
    if ('list' in node) yield* valuesIn([...path, 'set'], node.set);
    for (const [index, { set, to }] of optionsOf(node).entries()) {
      yield* valuesIn([...path, 'options', index, 'set'], set);
      yield* valuesInWays([...path, 'options', index, 'to'], to);
    }
    if ('to' in node) yield* valuesInWays([...path, 'to'], node.to);
  }
}

function* valuesInWays(path: PropertyKey[], to: To): Generator<{ path: PropertyKey[]; value: string }> {
  for (const [index, { set }] of waysOf(to).entries()) yield* valuesIn([...path, index, 'set'], set);
}

function* valuesIn(
  path: PropertyKey[],
  set: Record<string, string> = {},
): Generator<{ path: PropertyKey[]; value: string }> {
  for (const [name, value] of Object.entries(set)) yield { path: [...path, name], value };
}
