import { readAnswer } from './answer.ts';
import {
  type Ask,
  inLanguage,
  isSecret,
  type Menu,
  type Node,
  optionsOf,
  type Text,
  type To,
  type Way,
  waysOf,
  wordsOf,
} from './menu.ts';
import type { Screen } from './screen.ts';
import { spelt } from './text.ts';

/** A session's memory between two turns: everything `step` needs, and nothing that cannot be sealed. */
export type State = {
  node: string;
  /** Nodes that `0` leads back through, oldest first. */
  back: string[];
  /** Invalid answers in a row. */
  misses: number;
  vars: Record<string, string>;
  language: string;
  /** The account that is logged in. */
  account?: string;
};

/** What a turn wants to happen, as data; the shell commits it in the turn's own transaction. */
export type Effect = { kind: string; args: Record<string, string> };

/** How a turn went, for the operator's counts. */
export type Course = 'moved' | 'ended' | 'invalid' | 'gaveUp';

export type Step = { state: State; screen: Screen; effects: Effect[]; course: Course };

/** The shell is to load these facts, as this account sees them, and step again: the core has no way to. */
export type Needs = { needs: string[]; account?: string };

/**
 * What the shell heard where the core must not: the verdict on a secret, what is kept of it (sealed), and
 * whose account it opened.
 */
export type Verdict = { verdict: string; keep?: string; account?: string };

/** What is known beside the session's memory: facts by their name, and who is calling. */
export type World = { facts: Facts; msisdn: string };
export type Facts = Readonly<Record<string, Readonly<Record<string, string>>>>;

/** After this many invalid answers in a row the session ends politely (CONTRACT.md section 2). */
const MOST_MISSES = 3;

/** How far `0` leads back; older places are forgotten so that a session's memory stays bounded. */
const BACK_DEPTH = 8;

/** The engine's own keys on screens that are chosen from; a document that prints the key overrides it. */
const BACK_KEY = '0';
const HOME_KEY = '00';

/** Effects that change nothing but how the caller is spoken to: a walk may pass them (RULINGS.md 3). */
const WALKABLE = new Set(['rememberLanguage']);

/** The first screen of a service. */
export function begin(menu: Menu, world: World, language = menu.languages[0] ?? 'en'): Step | Needs {
  return show(menu, { node: menu.root, back: [], misses: 0, vars: {}, language }, world);
}

/**
 * One input heard on one screen: a pure function of the document, the session's memory and the facts.
 * An invalid input shows the same screen again with one line above it; the third in a row ends.
 */
export function step(menu: Menu, state: State, input: string | Verdict, world: World): Step | Needs {
  const node = nodeAt(menu, state.node);
  if (typeof input !== 'string') return judged(menu, state, node, input, world);
  const typed = input.trim();
  const option = optionsOf(node).find(({ key }) => key.toLowerCase() === typed.toLowerCase());
  if (option !== undefined) {
    const set = Object.entries(option.set ?? {});
    const filled = set.map(([name, value]) => [name, fill(value, scopeOf(state, world))]);
    return follow(
      menu,
      { ...state, vars: { ...state.vars, ...Object.fromEntries(filled) } },
      option.to,
      world,
    );
  }
  if ('ask' in node) return answered(menu, state, node, input, world);
  if (typed === BACK_KEY && (state.back.length > 0 || state.node !== menu.root))
    return go(menu, state, 'back', world);
  if (typed === HOME_KEY && state.node !== menu.root) return go(menu, state, 'home', world);
  return miss(menu, state, menu.invalid, world);
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
  return {
    whole: 'ask' in node && node.answer.kind === 'text',
    star: optionsOf(node).some((option) => option.key === '*'),
  };
}

/** The question whose answer is a secret, where an input would be one: keys on its screen are not. */
export function secretOf(menu: Menu, state: State, input: string): Ask | undefined {
  const node = nodeAt(menu, state.node);
  if (!('ask' in node) || !isSecret(node.answer)) return undefined;
  return optionsOf(node).some(({ key }) => key === input.trim()) ? undefined : node;
}

/** Whether a walk may pass what would happen here (RULINGS.md 3). */
export function isWalkable(effects: Effect[]): boolean {
  return effects.every(({ kind }) => WALKABLE.has(kind));
}

function answered(menu: Menu, state: State, node: Ask, input: string, world: World): Step | Needs {
  const value = readAnswer(node.answer, input, world.msisdn);
  if (value === undefined) return miss(menu, state, node.invalid ?? menu.invalid, world);
  const vars = node.save === undefined ? state.vars : { ...state.vars, [node.save]: value };
  return follow(menu, { ...state, vars }, node.to, world);
}

function judged(menu: Menu, state: State, node: Node, heard: Verdict, world: World): Step | Needs {
  if (!('ask' in node)) throw new Error(`${state.node} asks for no secret`);
  if (heard.verdict === 'malformed') return miss(menu, state, node.invalid ?? menu.invalid, world);
  const kept = node.save !== undefined && heard.keep !== undefined ? { [node.save]: heard.keep } : {};
  const next: State = { ...state, vars: { ...state.vars, ...kept } };
  if (heard.account !== undefined) next.account = heard.account;
  return follow(menu, next, node.to, world, { verdict: heard.verdict });
}

/** Takes the first way that holds. */
function follow(
  menu: Menu,
  state: State,
  to: To,
  world: World,
  more: Record<string, string> = {},
): Step | Needs {
  const ways = waysOf(to);
  const wanted = ways.flatMap((way) => Object.keys(way.when ?? {})).flatMap(factOf);
  const missing = wanted.filter((fact) => world.facts[fact] === undefined);
  if (missing.length > 0) return need(missing, state);
  const scope = { ...scopeOf(state, world), ...more };
  const way = ways.find(({ when }) =>
    Object.entries(when ?? {}).every(([name, value]) => scope[name] === value),
  );
  if (way === undefined) return miss(menu, state, menu.invalid, world);
  if (way.invalid !== undefined) return miss(menu, state, way.invalid, world, way.to);
  return travel(menu, state, way, world, scope);
}

/** Goes where the way leads, and says what is to happen. */
function travel(menu: Menu, state: State, way: Way, world: World, scope: Scope): Step | Needs {
  const effects = (way.effects ?? []).flatMap((effect) => Object.entries(effect));
  const wanted = effects
    .flatMap(([, args]) => Object.values(args))
    .flatMap((text) => factsIn(text, state.language));
  const missing = wanted.filter((fact) => world.facts[fact] === undefined);
  if (missing.length > 0) return need(missing, state);
  const filled = effects.map(([kind, args]): Effect => {
    const entries = Object.entries(args).map(([name, text]) => [
      name,
      fill(inLanguage(text, state.language), scope),
    ]);
    return { kind, args: Object.fromEntries(entries) as Record<string, string> };
  });
  const after = filled.reduce(settle, state);
  const went = go(menu, after, way.to, world);
  if ('needs' in went) return went;
  // What is done cannot be gone back behind: `0` leads home from here (RULINGS.md 11).
  const cut = filled.length === 0 ? went.state : { ...went.state, back: [] };
  return { ...went, state: cut, effects: [...filled, ...went.effects] };
}

/** What an effect means to the session itself. */
function settle(state: State, { kind, args }: Effect): State {
  return kind === 'rememberLanguage' ? { ...state, language: args.language ?? state.language } : state;
}

function go(menu: Menu, state: State, target: string, world: World): Step | Needs {
  if (target === 'home' || target === menu.root) return home(menu, state, world);
  if (target === 'back') {
    const node = state.back.at(-1) ?? menu.root;
    if (node === menu.root) return home(menu, state, world);
    return show(menu, { ...state, node, back: state.back.slice(0, -1), misses: 0 }, world);
  }
  const back = [...state.back, state.node].slice(-BACK_DEPTH);
  return show(menu, { ...state, node: target, back, misses: 0 }, world);
}

/** The first screen again: whoever leaves for it is logged out, and what was typed is forgotten. */
function home(menu: Menu, state: State, world: World): Step | Needs {
  return show(menu, { node: menu.root, back: [], misses: 0, vars: {}, language: state.language }, world);
}

function miss(menu: Menu, state: State, notice: Text, world: World, node = state.node): Step | Needs {
  const misses = state.misses + 1;
  if (misses < MOST_MISSES) {
    const again = show(menu, { ...state, node, back: backTo(state, node), misses }, world);
    if ('needs' in again) return again;
    return {
      ...again,
      screen: { ...again.screen, notice: inLanguage(notice, state.language) },
      course: 'invalid',
    };
  }
  const words = inLanguage(menu.farewell, state.language);
  const screen: Screen = { end: true, node: state.node, words, options: [] };
  return { state: { ...state, misses }, screen, effects: [], course: 'gaveUp' };
}

/** Where `0` leads from a place that is returned to: not to the place itself. */
function backTo(state: State, node: string): string[] {
  const at = node === state.node ? -1 : state.back.lastIndexOf(node);
  return at === -1 ? state.back : state.back.slice(0, at);
}

function show(menu: Menu, state: State, world: World): Step | Needs {
  const node = nodeAt(menu, state.node);
  const texts = [wordsOf(node), ...optionsOf(node).map(({ label }) => label)];
  const wanted = [...(node.facts ?? []), ...texts.flatMap((text) => factsIn(text, state.language))];
  const missing = wanted.filter((fact) => world.facts[fact] === undefined);
  if (missing.length > 0) return need(missing, state);
  const scope = scopeOf(state, world);
  const end = 'end' in node;
  const options = optionsOf(node).map(({ key, label }) => ({
    key,
    label: fill(inLanguage(label, state.language), scope, spelt),
  }));
  const words = fillLines(inLanguage(wordsOf(node), state.language), scope);
  const screen: Screen = { end, node: state.node, words, options };
  return { state, screen, effects: [], course: end ? 'ended' : 'moved' };
}

/** Everything that a text may name: the session's values, and facts as `fact.value`. */
type Scope = Readonly<Record<string, string>>;

function scopeOf(state: State, world: World): Scope {
  const scope: Record<string, string> = { ...state.vars, phone: world.msisdn, language: state.language };
  for (const [fact, values] of Object.entries(world.facts)) {
    for (const [name, value] of Object.entries(values)) scope[`${fact}.${name}`] = value;
  }
  return scope;
}

const PLACEHOLDER = /\{([A-Za-z]\w*(?:\.[A-Za-z]\w*)?)\}/g;

function fill(text: string, scope: Scope, spell = (value: string) => value): string {
  return text.replaceAll(PLACEHOLDER, (_, name: string) => spell(scope[name] ?? ''));
}

/** The same for the words of a screen: a line of values that are all empty is left out. */
function fillLines(text: string, scope: Scope): string {
  const lines = text.split('\n').map((line) => [line, fill(line, scope, spelt)] as const);
  return lines.flatMap(([line, filled]) => (filled.trim() === '' && line !== '' ? [] : [filled])).join('\n');
}

/** The facts whose values a text names. */
function factsIn(text: Text, language: string): string[] {
  return [...inLanguage(text, language).matchAll(PLACEHOLDER)].flatMap(([, name = '']) => factOf(name));
}

function need(missing: string[], { account }: State): Needs {
  const needs = [...new Set(missing)];
  return account === undefined ? { needs } : { needs, account };
}

function factOf(name: string): string[] {
  const dot = name.indexOf('.');
  return dot === -1 ? [] : [name.slice(0, dot)];
}

function nodeAt(menu: Menu, name: string): Node {
  const node = menu.nodes[name];
  if (node === undefined) throw new Error(`service ${menu.service} has no node ${name}`);
  return node;
}
