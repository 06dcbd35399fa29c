import { join } from 'node:path';
import { test } from 'tap';
import { EFFECTS, QUIET } from '../../src/effects/effect.ts';
import { MOST_PIECES, nextPiece, prefixes } from '../../src/flow/address.ts';
import { pack, unpack } from '../../src/flow/memory.ts';
import { screenText } from '../../src/flow/screen.ts';
import { route } from '../../src/flow/service-code.ts';
import type { State } from '../../src/flow/state.ts';
import { step as pure } from '../../src/flow/step.ts';
import { fits, measure } from '../../src/flow/text.ts';
import { parseMenu, readMenus } from '../../src/menus.ts';
import { SHAPES } from '../../src/services/facts.ts';
import { begun as begin, menuOf, stepped as step } from '../support/engine.ts';
import fc from '../support/property.ts';

const stars = fc.string({ unit: fc.constantFrom('1', '2', '*'), maxLength: 30 });

test('prefixes are those that end where a star follows', async (t) => {
  t.same(prefixes(''), ['']);
  t.same(prefixes('12'), ['', '12'], '12 is not below 1');
  t.same(prefixes('1**2'), ['', '1', '1*', '1**2']);
  t.same(prefixes('*'), ['', '*']);
  fc.assert(
    fc.property(stars, stars, (parent, more) => {
      const text = parent === '' ? more : `${parent}*${more}`;
      const found = prefixes(text);
      return found.includes(parent) && new Set(found).size === found.length && found.at(-1) === text;
    }),
  );
});

test('cutting always comes to the end of the text, whatever the screens are like', async () => {
  const ear = fc.record({ whole: fc.boolean(), star: fc.boolean() });
  fc.assert(
    fc.property(
      stars,
      fc.array(ear, { minLength: 40, maxLength: 40 }),
      fc.boolean(),
      (text, ears, through) => {
        let at = 0;
        for (const [index, hearing] of ears.entries()) {
          if (at >= text.length && index > 0) return true;
          const piece = nextPiece(text, at, { ...hearing, first: index === 0, through });
          if (piece.end < at || (piece.end === at && index > 0)) return false;
          at = piece.end;
        }
        return at >= text.length;
      },
    ),
  );
});

test('inputs without stars come back as they were joined', async () => {
  const input = fc.string({ unit: fc.constantFrom('1', '2', 'a', ' '), minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(fc.array(input, { minLength: 1, maxLength: MOST_PIECES }), (inputs) => {
      const text = inputs.join('*');
      let at = 0;
      return inputs.every((wanted, index) => {
        const piece = nextPiece(text, at, {
          whole: false,
          star: index % 2 === 0,
          first: index === 0,
          through: false,
        });
        at = piece.end;
        return piece.input === wanted;
      });
    }),
  );
});

test('septets: basic characters one, extension two, anything else makes it UCS-2', async (t) => {
  t.same(measure('Hello @£$'), { alphabet: 'gsm', units: 9 });
  t.same(measure('[€]'), { alphabet: 'gsm', units: 6 });
  t.same(measure('façade'), { alphabet: 'ucs2', units: 6 }, 'the small c with a cedilla is not in the table');
  t.same(measure('`'), { alphabet: 'ucs2', units: 1 });
  t.ok(fits('a'.repeat(160)));
  t.notOk(fits('a'.repeat(161)));
  t.ok(fits('a'.repeat(182), 182));
  t.ok(fits('ж'.repeat(80)));
  t.notOk(fits('ж'.repeat(81)));
});

test('a code leads to the longest registered prefix of its segments', async (t) => {
  const services = {
    codes: new Map([
      ['*384#', 'invest'],
      ['*384*7#', 'other'],
      ['*12#', 'short'],
    ]),
    fallback: 'ixo',
  };
  t.same(route('*384#', services), { service: 'invest', code: '*384#', through: [] });
  t.same(route('*384*1*2#', services), { service: 'invest', code: '*384#', through: ['1', '2'] });
  t.same(route('*384*7*1#', services), { service: 'other', code: '*384*7#', through: ['1'] });
  t.same(
    route('*1234#', services),
    { service: 'ixo', through: [] },
    'segment by segment, not digit by digit',
  );
});

const PARROT_TEXT = `
service: parrot
languages: [en, fr]
root: ask
invalid: { en: Try again, fr: Encore }
farewell: { en: Bye, fr: Au revoir }
nodes:
  ask:
    ask: { en: 'Say it', fr: 'Dites' }
    answer: { kind: text, max: 5 }
    save: said
    to: say
  say:
    say: { en: 'You said {said}', fr: 'Vous avez dit {said}' }
    options:
      - { key: 7, label: { en: Over, fr: Encore }, to: home }
      - { key: '*', label: { en: Out, fr: Fin }, to: out }
  out:
    end: { en: Out, fr: Fin }
`;
const PARROT = menuOf(PARROT_TEXT);

test('a conversation', async (t) => {
  const first = begin(PARROT, 'fr');
  t.equal(screenText(first.screen), 'Dites');
  const tooLong = step(PARROT, first.state, 'abcdef');
  t.equal(screenText(tooLong.screen), 'Encore\nDites');
  t.equal(tooLong.course, 'invalid');
  const said = step(PARROT, tooLong.state, ' abc ');
  t.equal(screenText(said.screen), 'Vous avez dit abc\n7. Encore\n*. Fin');
  t.equal(said.state.misses, 0);
  t.equal(screenText(step(PARROT, said.state, '0').screen), 'Dites', 'back is the engine’s');
  t.equal(screenText(step(PARROT, said.state, '7').screen), 'Dites');
  let lost = said;
  for (let i = 0; i < 3; i += 1) lost = step(PARROT, lost.state, '5');
  t.same([lost.screen.end, screenText(lost.screen), lost.course], [true, 'Au revoir', 'gaveUp']);
});

test('so many tries as the document says, and no keys of the engine where it has none', async (t) => {
  const parrot = (more: string) => menuOf(PARROT_TEXT.replace('nodes:', `${more}\nnodes:`));
  const once = parrot('tries: 1');
  const gone = step(once, begin(once).state, 'abcdef');
  t.same([gone.course, gone.screen.end, screenText(gone.screen)], ['gaveUp', true, 'Bye'], 'the first one');
  t.equal(gone.screen.notice, undefined);
  const twice = parrot('tries: 2');
  const again = step(twice, begin(twice).state, 'abcdef');
  t.equal(again.course, 'invalid');
  t.equal(step(twice, again.state, 'abcdef').course, 'gaveUp', 'the second one');
  for (const tries of [0, 4, 1.5, '"1"']) t.throws(() => parrot(`tries: ${tries}`), /tries/);

  const keyless = parrot('keys: { back: false, home: false }');
  const said = step(keyless, begin(keyless).state, 'abc');
  for (const typed of ['0', '00', 'false', ''])
    t.equal(step(keyless, said.state, typed).course, 'invalid', typed);
  t.equal(step(keyless, said.state, '7').state.node, 'ask', 'what is printed still leads there');
  t.throws(() => parrot('keys: { more: false }'), /keys/, 'pages are turned by keys');
  t.throws(() => parrot('keys: { back: true }'), /keys/);
  const free = menuOf(
    PARROT_TEXT.replace('nodes:', 'keys: { back: false, home: false }\nnodes:').replace(
      "key: '*', label: { en: Out",
      'key: 0, label: { en: Out',
    ),
  );
  t.equal(step(free, step(free, begin(free).state, 'abc').state, '0').course, 'ended', 'its key is free');
});

test('memory survives being packed', async () => {
  const word = fc.string({ unit: 'binary', maxLength: 12 });
  const state = fc.record({
    node: word,
    back: fc.array(word, { maxLength: 3 }),
    misses: fc.nat({ max: 3 }),
    vars: fc.dictionary(word, word, { maxKeys: 3, noNullPrototype: true }),
    language: word,
    account: word,
    page: fc.nat({ max: 5 }),
    turns: fc.record({ more: fc.boolean(), previous: fc.boolean() }, { noNullPrototype: true }),
    items: fc.dictionary(word, fc.dictionary(word, word, { maxKeys: 2, noNullPrototype: true }), {
      maxKeys: 2,
      noNullPrototype: true,
    }),
  });
  const screen = fc.record(
    {
      end: fc.boolean(),
      node: fc.string({ minLength: 1, maxLength: 8 }),
      words: word,
      options: fc.array(fc.record({ key: word, label: word }, { noNullPrototype: true }), { maxLength: 4 }),
      notice: word,
    },
    { requiredKeys: ['end', 'node', 'words', 'options'], noNullPrototype: true },
  );
  const shown = fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => Buffer.from(bytes));
  const memory = fc.record(
    {
      state,
      screen,
      serviceCode: word,
      shown,
      heard: word,
      opening: fc.record({ sessionId: word, msisdn: word }),
    },
    { requiredKeys: ['state', 'screen', 'serviceCode', 'shown'], noNullPrototype: true },
  );
  fc.assert(
    fc.property(memory, (before) => {
      const after = unpack(pack(before));
      return JSON.stringify(sorted(after)) === JSON.stringify(sorted(before));
    }),
  );
});

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  return Object.entries(value)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, content]) => [key, sorted(content)]);
}

test('documents: the services are sound, and a bad one is refused with file, line and reason', async (t) => {
  t.ok(
    readMenus(join(import.meta.dirname, '..', '..', 'src', 'services'), (service) => ({
      facts: SHAPES[service] ?? {},
      effects: EFFECTS,
      quiet: QUIET,
    })).some((menu) => menu.service === 'ixo'),
  );
  const problemsOf = (yaml: string) => {
    const parsed = parseMenu(yaml, 'bad.yaml', { facts: {}, effects: {} });
    return parsed.menu === undefined ? parsed.problems.join('\n') : '';
  };
  const good = 'service: s\nroot: a\nnodes:\n  a:\n    end: Bye\n';
  t.equal(problemsOf(good), '');
  t.match(problemsOf('service: [s\n'), /^bad\.yaml:\d+: /, 'no YAML');
  t.match(problemsOf(good.replace('end: Bye', 'ned: Bye')), /^bad\.yaml:5: nodes\.a/, 'no kind of node');
  t.match(problemsOf(good.replace('root: a', 'root: b')), /b: the root is no node/);
  t.match(
    problemsOf(good.replace('Bye', 'a'.repeat(161))),
    /^bad\.yaml:5: a: the screen in en takes 161 septets of 160/,
  );
  const options = (list: string) =>
    `service: s\nroot: a\nnodes:\n  a:\n    choose: A\n    options: [${list}]\n`;
  t.match(problemsOf(options('{ key: 1, label: X, to: nowhere }')), /key 1 leads to nowhere/);
  t.match(
    problemsOf(options('{ key: 1, label: X, to: a }, { key: 1, label: Y, to: a }')),
    /key 1 stands twice/,
  );
  t.match(
    problemsOf(good.replace('service: s', 'service: s\nlanguages: [en, fr]').replace('Bye', '{ en: Bye }')),
    /no fr/,
  );
});

const SHOP = `service: shop
root: start
nodes:
  start:
    ask: How much?
    answer: { kind: amount, min: 1, max: 500 }
    save: amount
    to:
      - { when: { purse.money: { below: amount } }, to: poor }
      - { to: sure, set: { price: "{offer.price}", said: "{amount}/{offer.price}" } }
  sure:
    choose: "For {price|money:KES} ({said})?"
    options:
      - key: 1
        label: Yes
        to:
          - { when: { offer.same: "no" }, to: sure, set: { price: "{offer.price}" }, invalid: It is another price now. }
          - { to: done, set: { paid: "{price}" }, effects: [{ pay: { sum: "{paid}" } }] }
  poor:
    end: "Only {purse.money|money:KES}"
  done:
    end: "Paid {paid|money:KES}"
`;
const SHOP_KNOWN = {
  facts: { purse: { values: { money: 8 } }, offer: { values: { price: 8, same: 3 } } },
  effects: { pay: ['sum'] },
};

test('numbers are compared, ways keep values, and facts are asked for what is kept', async (t) => {
  const menu = menuOf(SHOP, SHOP_KNOWN);
  const asked: Record<string, string>[] = [];
  const at = (state: State, input: string, facts: Record<string, Record<string, string>>) => {
    const world = { facts: {} as Record<string, Record<string, string>>, msisdn: '+254711000111' };
    for (;;) {
      const result = pure(menu, state, input, world);
      if (!('needs' in result)) return result;
      asked.push(result.vars);
      for (const name of result.needs) world.facts[name] = facts[name] ?? {};
    }
  };
  const { state } = begin(menu);
  const offer = { price: '4000', same: 'yes' };
  const purses: [money: string, node: string][] = [
    ['4999', 'poor'],
    ['5000', 'sure'],
    ['500000000000000000000', 'sure'],
    ['-1', 'poor'],
    ['much', 'sure'],
    ['', 'sure'],
  ];
  for (const [money, node] of purses)
    t.equal(at(state, '50', { purse: { money }, offer }).state.node, node, money);
  t.ok(
    asked.every(({ amount }) => amount === '5000'),
    'with the answer that was just given',
  );
  const sure = at(state, '50', { purse: { money: '9999' }, offer });
  t.equal(screenText(sure.screen), 'For KES 40 (5000/4000)?\n1. Yes');
  const dearer = at(sure.state, '1', { offer: { price: '4100', same: 'no' } });
  t.equal(screenText(dearer.screen), 'It is another price now.\nFor KES 41 (5000/4000)?\n1. Yes');
  t.same(dearer.effects, []);
  const done = at(dearer.state, '1', { offer: { price: '4100', same: 'yes' } });
  t.equal(screenText(done.screen), 'Paid KES 41');
  t.same(done.effects, [{ kind: 'pay', args: { sum: '4100' } }], 'the effect sees what the way keeps');
});
