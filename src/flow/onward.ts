import { type Menu, nodeNamed, optionsOf, sameKey, type To, waysOf } from './menu.ts';
import type { Screen, ScreenOption } from './screen.ts';
import type { State } from './state.ts';

/** A line of a screen that can be chosen, with what choosing it means. */
export type Onward = ScreenOption & {
  /** The node that it leads to, where that is one node whatever else is so. */
  next?: string;
  /** What choosing it keeps: the values of what is listed. */
  keeps?: Readonly<Record<string, string>>;
};

/** What the options of a screen lead to, in the order in which `step` hears them: options, items, pages. */
export function onwardFrom(menu: Menu, state: State, { options }: Screen): Onward[] {
  return options.map((option) => ({ ...option, ...meaning(menu, state, option.key) }));
}

function meaning(menu: Menu, state: State, key: string): Omit<Onward, keyof ScreenOption> {
  const node = nodeNamed(menu, state.node);
  if (node === undefined) return {};
  const option = optionsOf(node).find((other) => sameKey(other.key, key));
  if (option !== undefined) return leadingTo(menu, state, option.to);
  const keeps = state.items[key];
  if ('list' in node && keeps !== undefined) {
    return { ...leadingTo(menu, state, node.to), ...(Object.keys(keeps).length > 0 && { keeps }) };
  }
  return {};
}

/** One node, or nothing where it depends on what is so when the choice comes. */
function leadingTo(menu: Menu, state: State, to: To): { next?: string } {
  const [next, ...others] = new Set(waysOf(to).map((way) => whereTo(menu, state, way.to)));
  return next === undefined || others.length > 0 ? {} : { next };
}

function whereTo(menu: Menu, state: State, target: string): string {
  if (target === 'home') return menu.root;
  if (target === 'back') return state.back.at(-1) ?? menu.root;
  return target;
}
