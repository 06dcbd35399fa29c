import { factOf } from './format.ts';
import {
  type Ask,
  type Condition,
  isSecret,
  type Menu,
  type Node,
  nodeNamed,
  optionsOf,
  PLACES,
  type To,
  waysOf,
} from './menu.ts';
import { edgesOf, type Known, sampleOf, setsOf, VERDICTS, worstWorld } from './plan.ts';
import { isRows, turners } from './show.ts';
import type { FactValue, Needs, State, Step, Verdict, World } from './state.ts';
import { begin, step } from './step.ts';

/** A document of which more is remembered than this is followed over the first of it only. */
const MOST_STATES = 5_000;

/**
 * The shortest texts that lead to each node from the first screen: inputs, joined by `*`. They are found by
 * playing, so they can be played again: with facts, rows and verdicts as the ways on the path ask for them.
 */
export function pathsOf(menu: Menu, known: Known): Map<string, string> {
  const paths = new Map<string, string>();
  if (nodeNamed(menu, menu.root) === undefined) return paths;
  const wanted = wantedBy(menu);
  const world = sampleWorld(menu, known, wanted);
  const seen = new Set<string>();
  const queue: { state: State; path: string }[] = [];
  const arrive = ({ state, screen, course }: Step, path: string) => {
    if (course === 'gaveUp') return;
    if (!paths.has(state.node)) paths.set(state.node, path);
    // Two states differ where a way asks for what one of them holds.
    const values = [...wanted].map(([name, asked]) => {
      const value = name === 'language' ? state.language : state.vars[name];
      return asked.find((each) => each === value) ?? null;
    });
    const key = JSON.stringify([state.node, state.page, ...values]);
    if (screen.end || seen.has(key) || seen.size >= MOST_STATES) return;
    seen.add(key);
    queue.push({ state, path });
  };
  arrive(
    settled(world, (all) => begin(menu, all)),
    '',
  );
  for (const { state, path } of queue) {
    for (const { input, heard, facts } of triesAt(menu, state, wanted)) {
      const next = settled(withValues(world, facts), (all) => step(menu, state, heard, all));
      arrive(next, path === '' ? input : `${path}*${input}`);
    }
  }
  return paths;
}

/** The values that ways ask for, by name. */
type Wanted = Map<string, string[]>;

/** Something to type on a screen, and the facts (`fact.value`) under which one of its ways is taken. */
type Try = { input: string; heard: string | Verdict; facts: Record<string, string> };

function wantedBy(menu: Menu): Wanted {
  const conditions = edgesOf(menu).flatMap(({ way }) => Object.entries(way.when ?? {}));
  return new Map(
    conditions.map(([name]) => [
      name,
      conditions.flatMap((other) => (other[0] === name ? [meeting(other[1])] : [])),
    ]),
  );
}

/** A value that a condition holds for; no amount that can be typed is below zero. */
function meeting(condition: Condition): string {
  return typeof condition === 'string' ? condition : '-1';
}

function triesAt(menu: Menu, state: State, wanted: Wanted): Try[] {
  const node = menu.nodes[state.node] as Node;
  const tries = (heard: string | Verdict, to: To, input = String(heard)): Try[] =>
    waysOf(to).every((way) => isTarget(menu, way))
      ? factsFor(node, to, wanted).map((facts) => ({ input, heard, facts }))
      : [];
  return [
    ...optionsOf(node).flatMap(({ key, to }) => tries(key, to)),
    ...('list' in node ? Object.keys(state.items).flatMap((key) => tries(key, node.to)) : []),
    // A row that a way asks for may stand on a further page.
    ...('list' in node && state.turns.more
      ? [turners(menu, node, state.language).more.key].map((key) => ({ input: key, heard: key, facts: {} }))
      : []),
    ...('ask' in node
      ? answersTo(node, wanted).flatMap((heard) => tries(heard, node.to, typedFor(node, heard)))
      : []),
  ];
}

function isTarget(menu: Menu, { to, invalid }: { to: string; invalid?: unknown }): boolean {
  const isPlace = PLACES.some((place) => place === to);
  return nodeNamed(menu, to) !== undefined || (isPlace && invalid === undefined);
}

function answersTo({ answer, save = '' }: Ask, wanted: Wanted): (string | Verdict)[] {
  if (!isSecret(answer)) return [sampleOf(answer), ...(wanted.get(save) ?? [])];
  return (VERDICTS[answer.kind] ?? []).map((verdict) => ({ verdict, keep: 'sealed', account: 'somebody' }));
}

function typedFor({ answer }: Ask, heard: string | Verdict): string {
  return typeof heard === 'string' ? heard : sampleOf(answer);
}

/** No facts in particular, those that each way asks for, and those from which wanted values are set. */
function factsFor(node: Node, to: To, wanted: Wanted): Record<string, string>[] {
  const asked = waysOf(to).map(({ when }) =>
    Object.fromEntries(
      Object.entries(when ?? {}).flatMap(([name, condition]) =>
        factOf(name).length > 0 ? [[name, meeting(condition)]] : [],
      ),
    ),
  );
  const set = setsOf(node).flatMap(([name, value]) => {
    const source = /^\{(\w+\.\w+)\}$/.exec(value)?.[1] ?? '';
    return factOf(source).length > 0 ? (wanted.get(name) ?? []).map((each) => ({ [source]: each })) : [];
  });
  return [{}, ...asked.filter((facts) => Object.keys(facts).length > 0), ...set];
}

function withValues(world: World, values: Record<string, string>): World {
  const facts: Record<string, FactValue> = { ...world.facts };
  for (const [name, value] of Object.entries(values)) {
    const [fact = '', key = ''] = name.split('.');
    const known = facts[fact] ?? {};
    if (!isRows(known)) facts[fact] = { ...known, [key]: value };
  }
  return { ...world, facts };
}

/** The worst world, in which the rows of lists have the values that ways ask for, one after the other. */
function sampleWorld(menu: Menu, known: Known, wanted: Wanted): World {
  const world = worstWorld(known);
  const facts: Record<string, FactValue> = { ...world.facts };
  for (const node of Object.values(menu.nodes)) {
    if (!('list' in node)) continue;
    const rows = facts[node.from];
    const sources = setsOf(node).map(([name, value]) => [/^\{row\.(\w+)\}$/.exec(value)?.[1], name] as const);
    facts[node.from] = (isRows(rows) ? rows : []).map((row, index) => {
      const values = sources.map(([value = '', name]): [string, string] => [
        value,
        wanted.get(name)?.[index] ?? row[value] ?? '',
      ]);
      return { ...row, ...Object.fromEntries(values) };
    });
  }
  return { ...world, facts };
}

/** Facts that there are not, as in a document with a mistake, have no values. */
function settled(world: World, run: (world: World) => Step | Needs): Step {
  let facts = world.facts;
  for (;;) {
    const result = run({ ...world, facts });
    if (!('needs' in result)) return result;
    facts = { ...facts, ...Object.fromEntries(result.needs.map((fact) => [fact, {}])) };
  }
}
