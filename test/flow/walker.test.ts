import { test } from 'tap';
import { pack, unpack } from '../../src/flow/memory.ts';
import { type Menu, waysFrom } from '../../src/flow/menu.ts';
import { type Known, sampleOf, VERDICTS } from '../../src/flow/plan.ts';
import { screenText } from '../../src/flow/screen.ts';
import type { FactValue, Needs, State, Step, Verdict, World } from '../../src/flow/state.ts';
import { begin, secretOf, step } from '../../src/flow/step.ts';
import { fits } from '../../src/flow/text.ts';
import { findServices, knownOf, SERVICES } from '../../src/tools/project.ts';
import { meeting, menuOf } from '../support/engine.ts';
import { RICH, RICH_KNOWN } from '../support/rich.ts';
import { SCALE, scaled } from '../support/scale.ts';

/**
 * A hundred thousand turns (fewer in `npm test`) at random over every service: whatever is typed and whatever the facts are, what
 * is shown can be shown, and what is kept can be kept. The seed is printed, so that a fault can be walked to
 * again.
 */

const TURNS = scaled(100_000);
/** What is typed where a PIN is asked for; nothing else that is typed or known has its first digit. */
const PIN = '48213';

/** A small generator with a seed (mulberry32): fast-check would spend more on the choices than we on the turns. */
function dice(seed: number): (sides: number) => number {
  let state = seed;
  return (sides) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % sides;
  };
}

const LETTERS = ['a', 'Z', '0', ' ', 'é', '€', '[', 'ж', '王', 'ا', 'ß', '😀', '-', "'"];
const GARBAGE = [
  '',
  '*',
  '**',
  '#',
  '98',
  '99',
  '00',
  '0',
  'x'.repeat(182),
  '😀',
  'ب',
  '1*2',
  '-1',
  '1e9',
  '0.001',
  ' 1 ',
];

function lettersOf(roll: (sides: number) => number, most: number): string {
  return Array.from({ length: roll(most + 1) }, () => LETTERS[roll(LETTERS.length)]).join('');
}

/** Facts within the bounds that they promise; the few that ways ask for get the values they ask for as well. */
function worldOf(roll: (sides: number) => number, menu: Menu, known: Known): World {
  const wanted = wantedOf(menu);
  const facts: Record<string, FactValue> = {};
  for (const [name, { values, rows }] of Object.entries(known.facts)) {
    const one = () =>
      Object.fromEntries(
        Object.entries(values).map(([value, most]) => {
          const asked = wanted.filter((text) => text.length <= most);
          if (asked.length > 0 && roll(2) === 0) return [value, asked[roll(asked.length)] ?? ''];
          return [
            value,
            roll(3) === 0
              ? String(roll(10 ** Math.min(most, 9))).replaceAll('4', '5')
              : lettersOf(roll, most),
          ];
        }),
      );
    facts[name] = rows === undefined ? one() : Array.from({ length: roll(rows + 1) }, one);
  }
  return { facts, msisdn: `+26097${String(roll(10_000_000)).padStart(7, '0').replaceAll('4', '5')}` };
}

const wants = new Map<Menu, string[]>();

/** The values that the ways of a document ask for. */
function wantedOf(menu: Menu): string[] {
  const known = wants.get(menu);
  if (known !== undefined) return known;
  const ways = Object.values(menu.nodes).flatMap(waysFrom);
  const wanted = ways.flatMap(({ when }) => Object.values(meeting(when)));
  wants.set(menu, wanted);
  return wanted;
}

function settled(result: Step | Needs): Step {
  if ('needs' in result) throw new Error(`an unknown fact is asked for: ${result.needs.join(', ')}`);
  return result;
}

function inputAt(roll: (sides: number) => number, menu: Menu, { state, screen }: Step): string {
  const node = menu.nodes[state.node];
  const keys = screen.options.map(({ key }) => key);
  const kind = roll(10);
  if (kind < 5 && keys.length > 0) return keys[roll(keys.length)] ?? '';
  if (kind < 8 && node !== undefined && 'ask' in node) return sampleOf(node.answer);
  return GARBAGE[roll(GARBAGE.length)] ?? '';
}

test(`${TURNS} turns at random`, (t) => {
  const seed = Date.now() | 0;
  const roll = dice(seed);
  t.comment(`seed ${seed}`);
  const services: [Menu, Known][] = [
    [menuOf(RICH, RICH_KNOWN), RICH_KNOWN],
    // Whatever services there are.
    ...findServices(SERVICES).flatMap(({ service, read: { menu } }): [Menu, Known][] =>
      menu === undefined ? [] : [[menu, knownOf(service)]],
    ),
  ];
  t.ok(services.length > 4);
  const began = performance.now();
  const seen = new Set<string>();
  const faults: unknown[] = [];
  const courses: Record<string, number> = {};
  let turns = 0;
  while (turns < TURNS && faults.length === 0) {
    const [menu, known] = services[roll(services.length)] as [Menu, Known];
    const language = menu.languages[roll(menu.languages.length)];
    let at = settled(begin(menu, worldOf(roll, menu, known), language));
    const typed: string[] = [];
    const check = (holds: boolean, what: string) => {
      if (!holds)
        faults.push({ what, service: menu.service, language, typed, state: at.state, screen: at.screen });
    };
    for (;;) {
      turns += 1;
      seen.add(`${menu.service} ${at.state.node}`);
      courses[at.course] = (courses[at.course] ?? 0) + 1;
      const text = screenText(at.screen);
      check(fits(text, menu.budget), `fits: ${text}`);
      check(at.screen.end === (at.course === 'ended' || at.course === 'gaveUp'), 'END is where it ends');
      check(
        at.screen.end || at.screen.options.length > 0 || 'ask' in (menu.nodes[at.state.node] ?? {}),
        'a way on',
      );
      check(at.state.misses <= menu.tries && at.state.back.length <= 8, 'bounded');
      check(at.state.node !== menu.root || at.state.account === undefined, 'nobody is logged in at home');
      const kept = { state: at.state, screen: at.screen, serviceCode: '*7#' };
      const bytes = pack(kept, menu);
      const back = unpack(bytes, menu);
      check(screenText(back.screen) === screenText(at.screen), 'shown as it was');
      check(JSON.stringify(back.state) === JSON.stringify(ordered(at.state, back.state)), 'kept as it was');
      check(!bytes.includes(PIN), 'no PIN is kept');
      if (at.screen.end || faults.length > 0 || turns >= TURNS) break;
      const input = inputAt(roll, menu, back as unknown as Step);
      typed.push(input);
      const secret = secretOf(menu, back.state, input);
      const verdicts = secret === undefined ? [] : ['malformed', ...(VERDICTS[secret.answer.kind] ?? [])];
      const verdict: Verdict = { verdict: verdicts[roll(verdicts.length)] ?? '', keep: 'sealed' };
      if (/^(right|change|link|linkAndChange)$/.test(verdict.verdict)) verdict.account = '7';
      const world = worldOf(roll, menu, known);
      at = settled(step(menu, back.state, secret === undefined ? input : verdict, world));
    }
  }
  t.same(faults, [], 'nothing went wrong');
  const seconds = (performance.now() - began) / 1000;
  t.comment(`${turns} turns, ${Math.round(turns / seconds)} a second`, courses);
  const all = services.flatMap(([menu]) => Object.keys(menu.nodes).map((node) => `${menu.service} ${node}`));
  const missed = all.filter((node) => !seen.has(node));
  // The deepest screens are seldom reached by chance; that most are is what makes the walk worth its time.
  const few = SCALE < 1 ? 4 : 20;
  t.ok(
    missed.length <= all.length / few,
    `nearly every screen was seen, all but ${missed.join(', ') || 'none'}`,
  );
  t.end();
});

/** The fields of one state in the order of another, to be compared as text. */
function ordered(state: State, like: State): State {
  const keys = Object.keys(like) as (keyof State)[];
  const fields = keys.filter((key) => key in state).map((key) => [key, state[key]]);
  return { ...Object.fromEntries(fields), ...state } as State;
}
