/** Steps that are kept are those that would come out the same again, and none of them knows a subscriber. */
import t from 'tap';
import type { Menu } from '../../src/flow/menu.ts';
import {
  isShared,
  keepOpening,
  keepStep,
  sharedOpening,
  sharedStep,
  WatchedWorld,
} from '../../src/flow/shared-steps.ts';
import type { Step } from '../../src/flow/state.ts';
import { begin, step } from '../../src/flow/step.ts';
import { menuOf } from '../support/engine.ts';
import fc from '../support/property.ts';
import { scaled } from '../support/scale.ts';

const FACT = { values: { name: 20 } };
const MENU = () =>
  menuOf(
    `
service: hall
languages: [en, fr]
root: hall
nodes:
  hall:
    choose: { en: Hall, fr: Salle }
    options:
      - { key: 1, label: { en: Room, fr: Piece }, to: room }
      - { key: 2, label: { en: Ask, fr: Demande }, to: ask }
      - { key: 3, label: { en: Me, fr: Moi }, to: me }
      - { key: 4, label: { en: Phone, fr: Telephone }, to: phone }
      - { key: 5, label: { en: French, fr: Francais }, language: fr, to: home }
      - { key: 6, label: { en: Keep, fr: Garder }, set: { kept: this }, to: room }
      - { key: 7, label: { en: Out, fr: Sortie }, to: out }
  room:
    say: { en: Room, fr: Piece }
    options:
      - { key: 1, label: { en: Deeper, fr: Plus bas }, to: cellar }
      - { key: 2, label: { en: Hall, fr: Salle }, to: home }
  cellar:
    say: { en: Cellar, fr: Cave }
    options:
      - { key: 1, label: { en: Room, fr: Piece }, to: room }
      - { key: 2, label: { en: Hall, fr: Salle }, to: home }
  ask:
    ask: { en: Write, fr: Ecrivez }
    answer: { kind: text, min: 1, max: 12 }
    save: note
    to: wrote
  wrote:
    say: { en: 'You wrote {note}', fr: 'Vous {note}' }
    options: [{ key: 1, label: { en: Hall, fr: Salle }, to: home }]
  me:
    say: { en: 'You are {who.name}', fr: '{who.name}' }
    options: [{ key: 1, label: { en: Hall, fr: Salle }, to: home }]
  phone:
    say: { en: 'Phone {phone}', fr: '{phone} ici' }
    options: [{ key: 1, label: { en: Hall, fr: Salle }, to: home }]
  out:
    end: { en: Bye, fr: Adieu }
`,
    { facts: { who: FACT }, effects: {} },
  );

const worldOf = (name: string) => ({
  facts: { who: { name } },
  msisdn: `+26097${name.length}000${name.charCodeAt(0)}`,
});

/** A step as the shell takes it: the kept one where there is one. */
function open(menu: Menu, name: string): Step {
  const world = new WatchedWorld(worldOf(name));
  const shared = sharedOpening(menu, undefined);
  if (shared !== undefined) return shared;
  const first = begin(menu, world) as Step;
  keepOpening(menu, undefined, first, world);
  return first;
}

function hear(menu: Menu, { state }: Step, input: string, name: string): Step {
  const shared = sharedStep(state, input);
  if (shared !== undefined) return shared;
  const world = new WatchedWorld(worldOf(name));
  const next = step(menu, state, input, world) as Step;
  keepStep(menu, state, input, next, world);
  return next;
}

t.test('every conversation is as it would be without', (t) => {
  const menu = MENU();
  const inputs = fc.array(
    fc.constantFrom('1', '2', '3', '4', '5', '6', '7', '0', '00', 'x', ' 1', 'secret'),
    {
      maxLength: 12,
    },
  );
  let shared = 0;
  const story = fc.property(inputs, fc.constantFrom('ann', 'ben', 'cleo'), (inputs, name) => {
    let one = open(menu, name);
    let other = begin(menu, worldOf(name)) as Step;
    for (const input of inputs) {
      if (one.course === 'ended' || one.course === 'gaveUp') break;
      if (sharedStep(one.state, input) !== undefined) shared += 1;
      one = hear(menu, one, input, name);
      other = step(menu, other.state, input, worldOf(name)) as Step;
      if (JSON.stringify(one) !== JSON.stringify(other))
        throw new Error(`${inputs}\n${JSON.stringify(one)}\n${JSON.stringify(other)}`);
      if (!isShared(one.state)) continue;
      const said = JSON.stringify(one);
      if (/secret|ann|ben|cleo|26097|this/.test(said)) throw new Error(`shared: ${said}`);
    }
  });
  const numRuns = scaled(3_000);
  fc.assert(story, { numRuns });
  t.ok(shared > numRuns / 10, `${shared} steps were shared`);
  t.end();
});

t.test('what is shared', (t) => {
  const menu = MENU();
  const first = open(menu, 'ann');
  t.ok(isShared(first.state), 'the first screen');
  t.equal(open(menu, 'ben'), first, 'is one object for everybody');
  const room = hear(menu, first, '1', 'ann');
  t.equal(hear(menu, first, '1', 'ben'), room, 'a plain step');
  const asked = hear(menu, first, '2', 'ann');
  t.ok(isShared(asked.state), 'a question is shared');
  t.notOk(isShared(hear(menu, asked, 'x', 'ann').state), 'its answer is not');
  t.notOk(isShared(hear(menu, first, '3', 'ann').state), 'a screen with a fact is not');
  t.notOk(isShared(hear(menu, first, '4', 'ann').state), 'nor one with the phone');
  t.notOk(isShared(hear(menu, first, '6', 'ann').state), 'nor one behind a value that was kept');
  t.notOk(isShared(hear(menu, first, 'wrong', 'ann').state), 'nor an invalid answer');
  const home = hear(menu, hear(menu, asked, 'x', 'ann'), '1', 'ann');
  t.equal(home.state.node, 'hall');
  t.notOk(isShared(home.state), 'home again behind an answer is not: the chain was broken');
  t.end();
});

t.test('how many are kept is bounded', (t) => {
  const menu = MENU();
  const kept = new Set<Step>();
  // Each way down makes a path of its own to go back on.
  const waiting = [open(menu, 'ann')];
  for (let one = waiting.shift(); one !== undefined; one = waiting.shift()) {
    for (const input of ['1', ' 1', '1 ', ' 1 ', '0', ' 0', '00', ' 00']) {
      const next = hear(menu, one, input, 'ann');
      if (!isShared(next.state) || kept.has(next)) continue;
      kept.add(next);
      waiting.push(next);
    }
    if (kept.size > 10_000) break;
  }
  t.ok(kept.size > 1_000 && kept.size < 4_096, `${kept.size} steps`);
  t.end();
});
