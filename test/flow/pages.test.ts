import { test } from 'tap';
import { fillLines, fillShown } from '../../src/flow/format.ts';
import { lint } from '../../src/flow/lint.ts';
import { Menu, nodeNamed, optionsOf, wordsOf } from '../../src/flow/menu.ts';
import type { Known } from '../../src/flow/plan.ts';
import { type Screen, screenText } from '../../src/flow/screen.ts';
import { isRows, noticesOf, scopeOf, show } from '../../src/flow/show.ts';
import type { State, Step, World } from '../../src/flow/state.ts';
import { begin, step } from '../../src/flow/step.ts';
import { fits, measure, spelt } from '../../src/flow/text.ts';
import fc from '../support/property.ts';
import { scaled } from '../support/scale.ts';

/** Facts with every value at most so many septets. */
const KNOWN: Known = {
  facts: { some: { values: { a: 4, b: 30 } }, rows: { values: { name: 24, left: 7 }, rows: 14 } },
  effects: {},
};

const letter = fc.oneof(
  { weight: 30, arbitrary: fc.constantFrom(...'abcdefghijklmnoprstuvwxyzABC0123456789.,!?') },
  { weight: 2, arbitrary: fc.constantFrom(...'€[]|~^') },
  { weight: 2, arbitrary: fc.constantFrom(...'éàùÇñßØ') },
);
const foreign = fc.constantFrom(...'жшя日本語çêłअ', '🙂');
const word = fc.string({ unit: letter, minLength: 1, maxLength: 12 });
/** A word that fits no line, and one that costs the screen half its room. */
const rare = fc.oneof(
  fc.string({ unit: letter, minLength: 40, maxLength: 200 }),
  fc.string({ unit: foreign, minLength: 1, maxLength: 9 }),
  fc.constantFrom('{some.a}', '{some.b}', '{some.a|money:KES}', '{phone|masked}', '{some.b|number}'),
);
const line = (most: number) =>
  fc
    .array(fc.oneof({ weight: 15, arbitrary: word }, { weight: 1, arbitrary: rare }), {
      minLength: 1,
      maxLength: most,
    })
    .map((words) => words.join(' '));
const text = fc
  .array(fc.oneof({ weight: 4, arbitrary: line(30) }, { weight: 1, arbitrary: fc.constant('') }), {
    minLength: 1,
    maxLength: 5,
  })
  .map((lines) => lines.join('\n'))
  .filter((all) => all.trim() !== '');
const label = fc.oneof(
  { weight: 8, arbitrary: fc.array(word, { minLength: 1, maxLength: 3 }).map((words) => words.join(' ')) },
  { weight: 1, arbitrary: fc.string({ unit: foreign, minLength: 1, maxLength: 8 }) },
  { weight: 1, arbitrary: fc.constantFrom('{some.a|money:KES}', 'to {some.b}') },
);
const notice = fc.array(word, { minLength: 1, maxLength: 4 }).map((words) => words.join(' '));

type Shape = {
  kind: 'choose' | 'say' | 'list' | 'ask' | 'end';
  budget: number;
  words: string;
  labels: string[];
  fixed: string[];
  notices: [string, string];
  turning: [string, string];
  renamed: boolean;
  per: number;
};

const shape: fc.Arbitrary<Shape> = fc.record({
  kind: fc.constantFrom('choose', 'choose', 'say', 'list', 'list', 'ask', 'end'),
  budget: fc.constantFrom(160, 160, 182, 100, 60),
  words: text,
  labels: fc.array(label, { minLength: 1, maxLength: 12 }),
  fixed: fc.array(label, { maxLength: 3 }),
  notices: fc.tuple(notice, notice),
  turning: fc.constantFrom(['More', 'Previous'], ['Suite', 'Avant'], ['Ещё', 'Назад'], ['>', '<']),
  renamed: fc.boolean(),
  per: fc.integer({ min: 1, max: 9 }),
});

/** A root that leads to one screen `x` of the kind, which leads to `bye` by every key. */
function menuOf({ kind, budget, words, labels, fixed, notices, turning, renamed, per }: Shape): Menu {
  const plain = labels.map((each, index) => ({
    key: `${'abcdefghijkl'[index]}`,
    label: each,
    to: 'bye',
    set: { chosen: each },
  }));
  const keys = renamed ? { back: 'R', home: 'H', more: 'Next', previous: '*' } : {};
  const stays = ['00', '0', '77'].map((key, index) => ({
    key: renamed && key !== '77' ? { '00': 'H', '0': 'r' }[key] : key,
    label: fixed[index] ?? '',
    to: ['home', 'back', 'back'][index],
  }));
  const around = stays.filter(({ label }) => label !== '');
  const out = { key: '9z', label: 'Out', to: 'bye' };
  const options = [...plain, ...around];
  const nodes = {
    choose: { choose: words, options },
    say: { say: words, options },
    list: {
      list: words,
      from: 'rows',
      label: '{row.name} {row.left|money:KES}',
      per,
      set: { chosen: '{row.name}' },
      to: 'bye',
      empty: words,
      options: [...around, out],
    },
    ask: {
      ask: words,
      answer: { kind: 'integer', min: 100, max: 999 },
      save: 'n',
      invalid: notices[1],
      to: 'bye',
      options: around,
    },
    end: { end: words },
  };
  return Menu.parse({
    service: 's',
    root: 'r',
    budget,
    invalid: notices[0],
    farewell: 'Bye',
    keys,
    more: turning[0],
    previous: turning[1],
    nodes: {
      r: {
        choose: 'R',
        options: [
          { key: 1, label: 'On', to: 'x' },
          { key: 2, label: 'Out', to: 'bye' },
        ],
      },
      x: nodes[kind],
      bye: { end: 'Bye' },
    },
  });
}

/** Values within what the facts declare. */
const value = (septets: number) =>
  fc
    .oneof(
      { weight: 3, arbitrary: fc.string({ unit: letter, maxLength: septets }) },
      { weight: 2, arbitrary: fc.string({ unit: fc.constantFrom(...'0123456789'), maxLength: septets }) },
      {
        weight: 1,
        arbitrary: fc.string({ unit: fc.constantFrom('日', 'ж', 'a', 'ß', '`', '€'), maxLength: septets }),
      },
      { weight: 1, arbitrary: fc.constant('9'.repeat(septets)) },
    )
    .filter((each) => measure(spelt(each)).units <= septets);
const world: fc.Arbitrary<World> = fc.record({
  facts: fc.record({
    some: fc.record({ a: value(4), b: value(30) }),
    rows: fc.array(fc.record({ name: value(24), left: value(7) }), { maxLength: 14 }),
  }),
  msisdn: fc.constantFrom('+260971234567', '+123456789012345'),
});

/** Every page of the screen `x`, turned forward as a subscriber does. */
function pagesOf(menu: Menu, all: World): Step[] {
  const opened = done(begin(menu, all));
  const pages = [done(step(menu, opened.state, '1', all))];
  for (let page = pages[0] as Step; page.state.turns.more; page = pages.at(-1) as Step) {
    // What lint refuses can have a page for every character of its words, and no more.
    if (pages.length > 5_000) throw new Error('the pages have no end');
    pages.push(done(step(menu, page.state, turner(menu, 'more'), all)));
  }
  return pages;
}

function turner(menu: Menu, which: 'more' | 'previous'): string {
  return menu.keys[which];
}

function done(result: ReturnType<typeof begin>): Step {
  if ('needs' in result) throw new Error(`the core asks for ${result.needs.join(', ')}`);
  return result;
}

/** Documents that lint lets pass, with values within what was declared. */
const sound = fc.tuple(shape.map(menuOf).filter(isSound), world);

function isSound(menu: Menu): boolean {
  return lint(menu, KNOWN).every(({ level }) => level !== 'error');
}

const RUNS = { numRuns: scaled(400, 40) };

test('what lint lets pass fits: every page, under every notice, whatever the values', async (t) => {
  let paged = 0;
  fc.assert(
    fc.property(sound, ([menu, all]) => {
      const pages = pagesOf(menu, all);
      if (pages.length > 1) paged += 1;
      const node = menu.nodes.x ?? {};
      // A question and an end stand in one piece.
      if (('ask' in node || 'end' in node) && pages.length > 1) return false;
      return pages.every(({ screen }) => {
        const text = screenText(screen);
        const over = noticesOf(menu, 'x', 'en').map((each) => `${each}\n${text}`);
        return [text, ...(screen.end ? [] : over)].every(
          (each) => fits(each, menu.budget) && fits(each, 182),
        );
      });
    }),
    RUNS,
  );
  t.ok(paged > RUNS.numRuns / 8, `${paged} of ${RUNS.numRuns} screens had pages`);
});

test('a smaller budget is smaller for UCS-2 as well, so that no text fits by a foreign character', async (t) => {
  t.ok(fits('ж'.repeat(40), 80));
  t.notOk(fits('ж'.repeat(41), 80));
  t.ok(fits('ж'.repeat(80), 160));
  t.ok(fits('ж'.repeat(80), 182));
  t.notOk(fits('ж'.repeat(81), 182));
  fc.assert(
    fc.property(text, fc.integer({ min: 40, max: 182 }), (words, budget) => {
      const plain = [...words].filter((character) => measure(character).alphabet === 'gsm').join('');
      return !fits(words, budget) || fits(plain, budget);
    }),
    { numRuns: scaled(1_000) },
  );
});

test('an invalid answer on any page shows that page again under its line, and it fits', async () => {
  fc.assert(
    fc.property(sound, ([menu, all]) =>
      pagesOf(menu, all).every(({ state, screen }) => {
        if (screen.end) return true;
        const again = done(step(menu, state, '!!', all));
        const plain: Screen = { ...again.screen };
        delete plain.notice;
        return (
          again.course === 'invalid' &&
          fits(screenText(again.screen), menu.budget) &&
          JSON.stringify(plain) === JSON.stringify(screen)
        );
      }),
    ),
    RUNS,
  );
});

test('every option and every row is reached by turning, once, in order, and what stays is on every page', async () => {
  fc.assert(
    fc.property(sound, ([menu, all]) => {
      const node = nodeNamed(menu, 'x');
      const pages = pagesOf(menu, all);
      if (node === undefined || pages[0] === undefined) return false;
      const scope = scopeOf(pages[0].state, all);
      const printed = optionsOf(node).map(({ key, label, to }) => ({
        line: `${key}. ${fillShown(String(label), scope)}`,
        to,
      }));
      const lines = pages.map(({ screen }) =>
        screen.options.map((option) => `${option.key}. ${option.label}`),
      );
      const turning = [turner(menu, 'more'), turner(menu, 'previous')];
      const isFixed = (to: unknown) => to === 'back' || to === 'home' || 'list' in node;
      const fixed = printed.filter(({ to }) => isFixed(to)).map((each) => each.line);
      const plain = printed.filter(({ to }) => !isFixed(to)).map((each) => each.line);
      const rest = pages.map(({ screen }, index) =>
        (lines[index] ?? []).filter((each, at) => {
          const key = screen.options[at]?.key ?? '';
          return !fixed.includes(each) && !(pages.length > 1 && turning.includes(key));
        }),
      );
      const everywhere = lines.every((page) => fixed.every((each) => page.includes(each)));
      if (!('list' in node)) return everywhere && JSON.stringify(rest.flat()) === JSON.stringify(plain);
      const rows = isRows(all.facts.rows ?? {}) ? (all.facts.rows as Record<string, string>[]) : [];
      const labels = rest.flat().map((each) => each.replace(/^\d\. /, ''));
      const expected = rows.map((row) =>
        fillShown(String(node.label), { 'row.name': row.name ?? '', 'row.left': row.left ?? '' }),
      );
      const kept = pages.flatMap(({ state }) => Object.values(state.items).map(({ chosen }) => chosen));
      return (
        everywhere &&
        JSON.stringify(labels) === JSON.stringify(expected) &&
        JSON.stringify(kept) === JSON.stringify(rows.map(({ name }) => name)) &&
        pages.every(
          ({ screen }) =>
            screen.options.filter(({ key }) => /^\d$/.test(key) && key !== '0').length <= node.per,
        )
      );
    }),
    RUNS,
  );
});

test('each key does on its page what stands behind it, and a key is never without its label', async () => {
  fc.assert(
    fc.property(sound, ([menu, all]) =>
      pagesOf(menu, all).every(({ state, screen }) =>
        screen.options.every(({ key, label }, at) => {
          const chosen = done(step(menu, state, key.toUpperCase(), all));
          const turns = [turner(menu, 'more'), turner(menu, 'previous')].includes(key);
          if (turns && chosen.same) return Math.abs(chosen.state.page - state.page) === 1;
          if (chosen.course === 'invalid') return false;
          const item = state.items[key];
          if (item !== undefined)
            return chosen.state.vars.chosen === item.chosen && at < Object.keys(state.items).length;
          return chosen.state.node !== 'x' && !label.includes('\n');
        }),
      ),
    ),
    RUNS,
  );
});

test('turning forward and back shows the same pages; beyond the first and the last no key turns', async () => {
  fc.assert(
    fc.property(sound, ([menu, all]) => {
      const pages = pagesOf(menu, all);
      const first = pages[0] as Step;
      const last = pages.at(-1) as Step;
      if (!last.screen.end) {
        const beyond = done(step(menu, last.state, turner(menu, 'more'), all));
        if (beyond.course !== 'invalid') return false;
      }
      if (first.state.turns.previous) return false;
      const before = done(step(menu, first.state, turner(menu, 'previous'), all));
      if (!first.screen.end && before.course !== 'invalid') return false;
      let page = last;
      for (let at = pages.length - 2; at >= 0; at -= 1) {
        page = done(step(menu, page.state, turner(menu, 'previous'), all));
        if (JSON.stringify(page) !== JSON.stringify({ ...pages[at], same: true, state: page.state }))
          return false;
        if (page.state.page !== at || page.state.misses !== 0) return false;
      }
      return true;
    }),
    RUNS,
  );
});

test('the words of all pages put together are the whole text', async () => {
  fc.assert(
    fc.property(sound, ([menu, all]) => {
      const pages = pagesOf(menu, all);
      const { state } = pages[0] as Step;
      const node = nodeNamed(menu, 'x');
      if (node === undefined) return false;
      const whole = fillLines(String(wordsOf(node)), scopeOf(state, all));
      return bare(pages.map(({ screen }) => screen.words).join('\n')) === bare(whole);
    }),
    RUNS,
  );
});

function bare(words: string): string {
  return words.replaceAll(/\s/g, '');
}

test('documents that lint refuses for their length cannot all be shown, and are shown whole nonetheless', async (t) => {
  let refused = 0;
  const numRuns = scaled(300, 40);
  fc.assert(
    fc.property(shape.map(menuOf), world, (menu, all) => {
      const tooLong = lint(menu, KNOWN).some(({ level }) => level === 'error');
      if (tooLong) refused += 1;
      const pages = pagesOf(menu, all);
      const node = nodeNamed(menu, 'x');
      if (node === undefined) return false;
      const words = fillLines(String(wordsOf(node)), scopeOf((pages[0] as Step).state, all));
      return bare(pages.map(({ screen }) => screen.words).join('\n')) === bare(words);
    }),
    { numRuns },
  );
  t.ok(refused > numRuns / 15, `${refused} of ${numRuns} refused`);
});

test('pages with room for two letters each are refused, and hold the whole text', async (t) => {
  const words = `${'ab'.repeat(450)} {some.a}`;
  const menu = Menu.parse({
    service: 's',
    root: 'r',
    budget: 60,
    invalid: 'No answer',
    more: 'Ещё',
    previous: 'Назад',
    nodes: {
      r: { choose: 'R', options: [{ key: 1, label: 'On', to: 'x' }] },
      x: { say: words, options: [{ key: 'a', label: 'b', to: 'bye' }] },
      bye: { end: 'Bye' },
    },
  });
  const all = { facts: { some: { a: 'ab', b: '' } }, msisdn: '+260971234567' };
  const pages = pagesOf(menu, all);
  t.equal(pages.length, 452);
  t.equal(pages.map(({ screen }) => screen.words).join(''), 'ab'.repeat(451));
  t.match(
    lint(menu, KNOWN).map(({ node, problem }) => `${node}: ${problem}`),
    [/^x: the screen in en has 453 pages, the last of them behind 1355 characters of 182: shorten it$/],
  );
});

test('more rows than can be turned to are refused', (t) => {
  const list = (per: number) =>
    Menu.parse({
      service: 's',
      root: 'r',
      nodes: {
        r: { choose: 'R', options: [{ key: 1, label: 'On', to: 'x' }] },
        x: {
          list: 'List',
          from: 'rows',
          label: '{row.name}',
          per,
          set: { chosen: '{row.name}' },
          to: 'bye',
          empty: 'None',
          options: [{ key: '9z', label: 'Out', to: 'bye' }],
        },
        bye: { end: 'Bye' },
      },
    });
  const known: Known = { facts: { rows: { values: { name: 4 }, rows: 63 } }, effects: {} };
  t.same(lint(list(2), known), []);
  t.match(
    lint(list(1), known).map(({ problem }) => problem),
    [/^the screen in en has 63 pages, the last of them behind 185 characters of 182: list fewer rows$/],
  );
  t.end();
});

test('an END that does not fit is CON pages and ends on the last', async (t) => {
  const menu = Menu.parse({
    service: 's',
    root: 'r',
    nodes: {
      r: { choose: 'R', options: [{ key: 1, label: 'On', to: 'x' }] },
      x: { end: 'This is the end. '.repeat(25) },
    },
  });
  const all = { facts: {}, msisdn: '+260971234567' };
  const pages = pagesOf(menu, all);
  t.ok(pages.length > 2);
  t.same(
    pages.map(({ screen, course }) => [screen.end, course]),
    pages.map((_, index) => (index < pages.length - 1 ? [false, 'moved'] : [true, 'ended'])),
  );
  t.equal(bare(pages.map(({ screen }) => screen.words).join(' ')), bare('This is the end. '.repeat(25)));
  const [first] = pages as [Step];
  const lost = done(step(menu, first.state, '5', all));
  t.equal(lost.course, 'invalid');
  t.ok(fits(screenText(lost.screen)), 'with the line above it too');
});

test('a further page of options only begins with its first option', async (t) => {
  const labels = Array.from({ length: 9 }, (_, index) => ({
    key: `a${index}`,
    label: 'x'.repeat(30),
    to: 'r',
  }));
  const menu = Menu.parse({ service: 's', root: 'r', nodes: { r: { choose: 'R', options: labels } } });
  const all = { facts: {}, msisdn: '+260971234567' };
  const second = done(step(menu, done(begin(menu, all)).state, '98', all));
  t.match(screenText(second.screen), /^a\d\. x/);
});

test('a row means what was shown, whatever the fact says by then (decision 10)', async () => {
  fc.assert(
    fc.property(sound, world, ([menu, shown], later) => {
      const node = nodeNamed(menu, 'x');
      if (node === undefined || !('list' in node)) return true;
      return pagesOf(menu, shown).every(({ state, screen }) => {
        // Between two turns a session's memory is bytes.
        const kept = JSON.parse(JSON.stringify(state)) as State;
        return Object.entries(state.items).every(([key, { chosen }]) => {
          const label = screen.options.find((option) => option.key === key)?.label ?? '';
          const { state: after } = done(step(menu, kept, key, later));
          return after.node === 'bye' && after.vars.chosen === chosen && label.includes(spelt(chosen ?? ''));
        });
      });
    }),
    RUNS,
  );
});

test('names that every object has are no rows and no nodes', async (t) => {
  const menu = menuOf({
    kind: 'list',
    budget: 160,
    words: 'List',
    labels: [],
    fixed: [],
    notices: ['No', 'No'],
    turning: ['More', 'Previous'],
    renamed: false,
    per: 3,
  });
  const rows = [{ name: 'Ann', left: '5' }];
  const all = { facts: { some: {}, rows }, msisdn: '+260971234567' };
  const { state } = done(show(menu, { ...done(begin(menu, all)).state, node: 'x' }, all));
  for (const input of ['constructor', '__proto__', 'toString', 'hasOwnProperty'])
    t.equal(done(step(menu, state, input, all)).course, 'invalid', input);
});
