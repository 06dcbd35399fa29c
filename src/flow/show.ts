import { factOf, fill, fillLines, fillShown, placeholdersIn, type Scope } from './format.ts';
import { Lasting } from './lasting.ts';
import {
  inLanguage,
  invalidOf,
  type List,
  type Menu,
  type Node,
  nodeNamed,
  type Option,
  optionsOf,
  placeKeys,
  sameKey,
  type Text,
  waysFrom,
  wordsOf,
} from './menu.ts';
import { type Page, pagesOf, type Sheet } from './page.ts';
import { type Screen, type ScreenOption, screenText } from './screen.ts';
import type { FactValue, Needs, State, Step, World } from './state.ts';

/**
 * The screen of a state, in pages where it does not fit whole. Every page but the last of an END is a CON:
 * nothing is ever cut.
 */
export function show(menu: Menu, state: State, world: World): Step | Needs {
  const node = nodeAt(menu, state.node);
  const named = FACTS.of(menu, state.node, state.language, factsOf);
  const missing = named.filter((fact) => world.facts[fact] === undefined);
  if (missing.length > 0) return need(missing, state);

  const scopes = rowScopes(node, state, world);
  const pages = pagesIn(menu, state, world, scopes);
  const page = Math.min(state.page, pages.length - 1);
  const { words, options, items } = pages[page] as (typeof pages)[number];
  const last = page === pages.length - 1;
  const end = 'end' in node && last;
  const screen: Screen = { end, node: state.node, words, options };
  const turns = { more: !last, previous: page > 0 };
  const kept = 'list' in node ? keptBy(node, scopes.slice(items.from, items.to)) : {};
  return {
    state: { ...state, page, turns, items: kept },
    screen,
    effects: [],
    course: end ? 'ended' : 'moved',
  };
}

/** All pages of the screen of a state, whichever of them it is on. The facts that it names are there. */
export function pagesIn(
  menu: Menu,
  state: State,
  world: World,
  rows = rowScopes(nodeAt(menu, state.node), state, world),
): Page[] {
  const fixed = FIXED.of(menu, state.node, state.language, fixedPages);
  return fixed === 'filled' ? pagesOfSheet(menu, state.node, scopeOf(state, world), rows) : fixed;
}

/** The pages of a screen in which nothing is filled in: most screens, and the same for everybody. */
function fixedPages(menu: Menu, name: string, language: string): Page[] | 'filled' {
  const node = nodeAt(menu, name);
  const texts = [wordsOf(node), ...optionsOf(node).map(({ label }) => label)];
  const isFilled = texts.some((text) => placeholdersIn(inLanguage(text, language)).length > 0);
  return isFilled || 'list' in node ? 'filled' : pagesOfSheet(menu, name, { language }, []);
}

function pagesOfSheet(menu: Menu, name: string, scope: Scope, rows: Scope[]): Page[] {
  const node = nodeAt(menu, name);
  const { language = '' } = scope;
  return pagesOf(sheetOf(menu, node, scope, rows), {
    ...turners(menu, node, language),
    budget: menu.budget,
    notices: noticesOf(menu, name, language),
    most: 'list' in node ? node.per : 0,
    ends: 'end' in node,
  });
}

function sheetOf(menu: Menu, node: Node, scope: Scope, rows: Scope[]): Sheet {
  const { language = '' } = scope;
  const words = 'list' in node && rows.length === 0 ? node.empty : wordsOf(node);
  return {
    words: fillLines(inLanguage(words, language), scope),
    items: 'list' in node ? rows.map((row) => fillShown(inLanguage(node.label, language), row)) : [],
    options: optionsOf(node).map((option) => ({
      key: option.key,
      label: fillShown(inLanguage(option.label, language), scope),
      stays: 'list' in node || staysOn(menu, option),
    })),
  };
}

/** The facts that a node's screen needs. */
function factsOf(menu: Menu, name: string, language: string): string[] {
  const node = nodeAt(menu, name);
  const texts = [wordsOf(node), ...optionsOf(node).map(({ label }) => label)];
  const listed = 'list' in node ? [node.label, node.empty, ...Object.values(node.set)] : [];
  const from = 'list' in node ? [node.from] : [];
  const named = [...texts, ...listed].flatMap((text) => factsIn(text, language));
  return [...(node.facts ?? []), ...from, ...named];
}

function keptBy(node: List, rows: Scope[]): Record<string, Record<string, string>> {
  const kept = rows.map((row, index) => {
    const values = Object.entries(node.set).map(([name, value]) => [name, fill(value, row)]);
    return [String(index + 1), Object.fromEntries(values) as Record<string, string>];
  });
  return Object.fromEntries(kept) as Record<string, Record<string, string>>;
}

function rowsOf(world: World, { from }: List): readonly Readonly<Record<string, string>>[] {
  const value = world.facts[from];
  if (!isRows(value)) throw new Error(`the fact ${from} has no rows`);
  return value;
}

/** Whether a fact is a list. */
export function isRows(value: FactValue | undefined): value is readonly Readonly<Record<string, string>>[] {
  return Array.isArray(value);
}

/** What the label of each row of a list may name. */
function rowScopes(node: Node, state: State, world: World): Scope[] {
  if (!('list' in node)) return [];
  const scope = scopeOf(state, world);
  return rowsOf(world, node).map((row) => inRow(scope, row));
}

function inRow(scope: Scope, row: Readonly<Record<string, string>>): Scope {
  const own: Record<string, string> = { ...scope };
  for (const [name, value] of Object.entries(row)) own[`row.${name}`] = value;
  return own;
}

/** Ways back, home and out stand on every page. */
function staysOn(menu: Menu, { key, to }: Option): boolean {
  const isPlace = placeKeys(menu).some((place) => sameKey(place.key, key));
  return key === '*' || isPlace || to === 'back' || to === 'home';
}

/** What turns the pages of a node. */
export function turners(
  menu: Menu,
  node: Node,
  language: string,
): { more: ScreenOption; previous: ScreenOption } {
  const own = 'list' in node ? node : undefined;
  const more = own?.more ?? { key: menu.keys.more, label: menu.more };
  const previous = own?.previous ?? { key: menu.keys.previous, label: menu.previous };
  return {
    more: { key: more.key, label: inLanguage(more.label, language) },
    previous: { key: previous.key, label: inLanguage(previous.label, language) },
  };
}

const NOTICES = new Lasting<string[]>();
const FACTS = new Lasting<string[]>();
const FIXED = new Lasting<Page[] | 'filled'>();

/** Every line that can come to stand above a node's screen; none where the first invalid answer ends. */
export function noticesOf(menu: Menu, name: string, language: string): string[] {
  return NOTICES.of(menu, name, language, findNotices);
}

function findNotices(menu: Menu, name: string, language: string): string[] {
  if (menu.tries === 1) return [];
  const node = nodeAt(menu, name);
  const leading = Object.values(menu.nodes).flatMap(waysFrom);
  const texts = [
    invalidOf(menu, node),
    ...leading.flatMap((way) => (way.to === name && way.invalid !== undefined ? [way.invalid] : [])),
  ];
  return [...new Set(texts.map((text) => inLanguage(text, language)))];
}

/** Everything that a text may name now. */
export function scopeOf(state: State, world: World): Scope {
  const scope: Record<string, string> = { ...state.vars, phone: world.msisdn, language: state.language };
  for (const [fact, values] of Object.entries(world.facts)) {
    if (isRows(values)) continue;
    for (const [name, value] of Object.entries(values)) scope[`${fact}.${name}`] = value;
  }
  return scope;
}

/** The screen of a state in one piece, whether it fits or not. */
export function wholeText(menu: Menu, state: State, world: World): string {
  const node = nodeAt(menu, state.node);
  const { words, options } = sheetOf(menu, node, scopeOf(state, world), []);
  return screenText({ end: false, node: state.node, words, options });
}

/** The facts whose values a text names. */
export function factsIn(text: Text, language: string): string[] {
  return placeholdersIn(inLanguage(text, language)).flatMap(({ name }) => factOf(name));
}

/** What the shell is to load first. */
export function need(missing: string[], { account, vars }: State): Needs {
  const needs = [...new Set(missing)];
  return account === undefined ? { needs, vars } : { needs, vars, account };
}

/** A node by its name. */
export function nodeAt(menu: Menu, name: string): Node {
  const node = nodeNamed(menu, name);
  if (node === undefined) throw new Error(`service ${menu.service} has no node ${name}`);
  return node;
}
