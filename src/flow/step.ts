import { readAnswer } from './answer.ts';
import { factOf, fill, type Scope } from './format.ts';
import {
  type Ask,
  type Condition,
  inLanguage,
  invalidOf,
  isSecret,
  type Menu,
  type Node,
  namesIn,
  type Option,
  optionsOf,
  placeKeys,
  sameKey,
  type Text,
  type To,
  type Way,
  waysOf,
} from './menu.ts';
import type { Screen } from './screen.ts';
import { factsIn, need, nodeAt, scopeOf, show, turners } from './show.ts';
import type { Effect, Needs, State, Step, Verdict, World } from './state.ts';

/** How far `0` leads back; older places are forgotten so that a session's memory stays bounded. */
const BACK_DEPTH = 8;

/** Effects that change nothing but how the caller is spoken to: a walk may pass them (decision 3). */
const WALKABLE = new Set(['rememberLanguage']);

/** The first screen of a service. */
export function begin(menu: Menu, world: World, language = menu.languages[0] ?? 'en'): Step | Needs {
  return show(menu, fresh(menu, language), world);
}

/**
 * One input heard on one screen: a pure function of the document, the session's memory and the facts.
 * An invalid input shows the same screen again with one line above it; the last try in a row ends.
 */
export function step(menu: Menu, state: State, input: string | Verdict, world: World): Step | Needs {
  const node = nodeAt(menu, state.node);
  if (typeof input !== 'string') return judged(menu, state, node, input, world);
  const option = optionsOf(node).find(({ key }) => sameKey(key, input));
  if (option !== undefined) return choose(menu, state, option, world);
  const item = Object.entries(state.items).find(([key]) => sameKey(key, input));
  if ('list' in node && item !== undefined) {
    return follow(menu, { ...state, vars: { ...state.vars, ...item[1] } }, node.to, world);
  }
  const turned = turn(menu, state, node, input, world);
  if (turned !== undefined) return turned;
  // On a question only keys that stand on the screen are keys: anything else may be the answer.
  if ('ask' in node) return answered(menu, state, node, input, world);
  const led = placeKeys(menu).find(({ key }) => sameKey(key, input));
  if (led !== undefined && state.node !== menu.root) return go(menu, state, led.place, world);
  return miss(menu, state, invalidOf(menu, node), world);
}

function choose(menu: Menu, state: State, option: Option, world: World): Step | Needs {
  const { set = {}, language = state.language, to } = option;
  const next = keep({ ...state, language }, set, world);
  return 'needs' in next ? next : follow(menu, next, to, world);
}

/** Another page of the same screen, where the key turns to one. */
function turn(menu: Menu, state: State, node: Node, typed: string, world: World): Step | Needs | undefined {
  const { more, previous } = turners(menu, node, state.language);
  const forward = state.turns.more && sameKey(more.key, typed);
  const backward = state.turns.previous && sameKey(previous.key, typed);
  if (!forward && !backward) return undefined;
  const by = forward ? 1 : -1;
  const turned = show(menu, { ...state, page: state.page + by, misses: 0 }, world);
  return 'needs' in turned ? turned : { ...turned, same: true };
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
  const { more, previous } = turners(menu, node, state.language);
  const turning = [...(state.turns.more ? [more.key] : []), ...(state.turns.previous ? [previous.key] : [])];
  const places = 'ask' in node ? [] : placeKeys(menu).map(({ key }) => key);
  return {
    whole:
      'ask' in node && (node.answer.kind === 'text' || (node.answer.kind === 'pattern' && node.answer.stars)),
    star: [...optionsOf(node).map(({ key }) => key), ...turning, ...places].includes('*'),
  };
}

/** The question whose answer is a secret, where an input would be one: keys on its screen are not. */
export function secretOf(menu: Menu, state: State, input: string): Ask | undefined {
  const node = nodeAt(menu, state.node);
  if (!('ask' in node) || !isSecret(node.answer)) return undefined;
  return optionsOf(node).some(({ key }) => sameKey(key, input)) ? undefined : node;
}

/** Whether an input is a choice that can be made only on a screen that was sent (`seen`). */
export function wantsSeeing(menu: Menu, state: State, input: string): boolean {
  return optionsOf(nodeAt(menu, state.node)).some(({ key, seen }) => seen === true && sameKey(key, input));
}

/** Whether a walk may pass what would happen here (decision 3). */
export function isWalkable(effects: Effect[]): boolean {
  return effects.every(({ kind }) => WALKABLE.has(kind));
}

function answered(menu: Menu, state: State, node: Ask, input: string, world: World): Step | Needs {
  const value = readAnswer(node.answer, input, world.msisdn);
  if (value === undefined) return miss(menu, state, invalidOf(menu, node), world);
  const vars = node.save === undefined ? state.vars : { ...state.vars, [node.save]: value };
  return follow(menu, { ...state, vars }, node.to, world);
}

function judged(menu: Menu, state: State, node: Node, heard: Verdict, world: World): Step | Needs {
  if (!('ask' in node)) throw new Error(`${state.node} asks for no secret`);
  if (heard.verdict === 'malformed') return miss(menu, state, invalidOf(menu, node), world);
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
  const wanted = ways.flatMap(namesIn).flatMap(factOf);
  const missing = wanted.filter((fact) => world.facts[fact] === undefined);
  if (missing.length > 0) return need(missing, state);
  const way = ways.find(({ when }) => applies(when, () => ({ ...scopeOf(state, world), ...more })));
  if (way === undefined) return miss(menu, state, menu.invalid, world);
  const next = keep(state, way.set ?? {}, world);
  if ('needs' in next) return next;
  if (way.invalid !== undefined) return miss(menu, next, way.invalid, world, way.to);
  return travel(menu, next, way, world, more);
}

/** The session with values that it keeps from now on. */
function keep(state: State, set: Record<string, string>, world: World): State | Needs {
  const values = Object.values(set);
  if (values.length === 0) return state;
  const missing = missingIn(values, state, world);
  if (missing.length > 0) return need(missing, state);
  const scope = scopeOf(state, world);
  const kept = Object.entries(set).map(([name, value]) => [name, fill(value, scope)]);
  return { ...state, vars: { ...state.vars, ...Object.fromEntries(kept) } };
}

/** Whether all conditions of a way hold; the values are asked for only where there are conditions. */
function applies(when: Record<string, Condition> | undefined, scopeNow: () => Scope): boolean {
  const conditions = Object.entries(when ?? {});
  if (conditions.length === 0) return true;
  const scope = scopeNow();
  return conditions.every(([name, condition]) => holds(condition, scope[name], scope));
}

/** Whether a value is as a condition says. What is no whole number is below nothing. */
function holds(condition: Condition, value: string | undefined, scope: Scope): boolean {
  if (typeof condition === 'string') return value === condition;
  const other = scope[condition.below];
  const number = /^-?\d+$/;
  if (value === undefined || other === undefined || !number.test(value) || !number.test(other)) return false;
  return BigInt(value) < BigInt(other);
}

/** Goes where the way leads, and says what is to happen. */
function travel(
  menu: Menu,
  state: State,
  way: Way,
  world: World,
  more: Record<string, string>,
): Step | Needs {
  if (way.effects === undefined || way.effects.length === 0) return go(menu, state, way.to, world);
  const effects = (way.effects ?? []).flatMap((effect) => Object.entries(effect));
  const args = effects.flatMap(([, args]) => Object.values(args));
  const missing = missingIn(args, state, world);
  if (missing.length > 0) return need(missing, state);
  const scope = { ...scopeOf(state, world), ...more };
  const filled = effects.map(([kind, args]): Effect => {
    const entries = Object.entries(args).map(([name, text]) => [
      name,
      fill(inLanguage(text, state.language), scope),
    ]);
    const done: Effect = { kind, args: Object.fromEntries(entries) as Record<string, string> };
    return state.account === undefined ? done : { ...done, account: state.account };
  });
  const after = filled.reduce(settle, state);
  const went = go(menu, after, way.to, world);
  if ('needs' in went) return went;
  // What is done cannot be gone back behind: `0` leads home from here (decision 11).
  return { ...went, state: { ...went.state, back: [] }, effects: [...filled, ...went.effects] };
}

/** The facts that texts name and that are not loaded yet. */
function missingIn(texts: Text[], state: State, world: World): string[] {
  return texts
    .flatMap((text) => factsIn(text, state.language))
    .filter((fact) => world.facts[fact] === undefined);
}

/** What an effect means to the session itself. */
function settle(state: State, { kind, args }: Effect): State {
  if (kind === 'rememberLanguage') return { ...state, language: args.language ?? state.language };
  // The session that changed the PIN stays logged in; every other one that the old PIN let in is logged out.
  if (kind === 'changePin' && state.account !== undefined)
    return { ...state, account: nextPin(state.account) };
  return state;
}

/** `account.version of its PIN`, one version on. */
function nextPin(account: string): string {
  const [id, version] = account.split('.');
  return `${id}.${Number(version) + 1}`;
}

function go(menu: Menu, state: State, target: string, world: World): Step | Needs {
  if (target === 'home' || target === menu.root) return home(menu, state, world);
  if (target === 'back') {
    const node = state.back.at(-1) ?? menu.root;
    if (node === menu.root) return home(menu, state, world);
    return show(menu, { ...state, node, back: state.back.slice(0, -1), misses: 0, page: 0 }, world);
  }
  const back = [...state.back, state.node].slice(-BACK_DEPTH);
  return show(menu, { ...state, node: target, back, misses: 0, page: 0 }, world);
}

/** Returns the first screen: the session is logged out, and what was typed is forgotten. */
function home(menu: Menu, state: State, world: World): Step | Needs {
  return show(menu, fresh(menu, state.language), world);
}

function fresh(menu: Menu, language: string): State {
  const turns = { more: false, previous: false };
  return { node: menu.root, back: [], misses: 0, vars: {}, language, page: 0, turns, items: {} };
}

function miss(menu: Menu, state: State, notice: Text, world: World, node = state.node): Step | Needs {
  const misses = state.misses + 1;
  if (misses < menu.tries) {
    const page = node === state.node ? state.page : 0;
    const again = show(menu, { ...state, node, back: backTo(state, node), misses, page }, world);
    if ('needs' in again) return again;
    const screen = { ...again.screen, notice: inLanguage(notice, state.language) };
    return { ...again, screen, course: 'invalid', same: node === state.node };
  }
  return gaveUp(menu, state);
}

/** The polite END after too many invalid answers. */
export function gaveUp(menu: Menu, state: State): Step {
  const node = menu.nodes[state.node];
  const own = node !== undefined && 'choose' in node ? node.farewell : undefined;
  const words = inLanguage(own ?? menu.farewell, state.language);
  const screen: Screen = { end: true, node: state.node, words, options: [] };
  return { state: { ...state, misses: menu.tries }, screen, effects: [], course: 'gaveUp' };
}

/** The END of a service that is switched off: nothing of its document is asked, and no fact is loaded for it. */
export function refused(menu: Menu, language: string, words: string): Step {
  const screen: Screen = { end: true, node: 'off', words, options: [] };
  return { state: fresh(menu, language), screen, effects: [], course: 'ended' };
}

/** Where `0` leads from a place that is returned to: not to the place itself. */
function backTo(state: State, node: string): string[] {
  const at = node === state.node ? -1 : state.back.lastIndexOf(node);
  return at === -1 ? state.back : state.back.slice(0, at);
}
