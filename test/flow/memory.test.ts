import { isDeepStrictEqual } from 'node:util';
import { test } from 'tap';
import { type Memory, pack, unpack, unpackState } from '../../src/flow/memory.ts';
import { inLanguage, type Menu, optionsOf, wordsOf } from '../../src/flow/menu.ts';
import { readMenus } from '../../src/menus.ts';
import { knownOf, SERVICES } from '../../src/tools/project.ts';
import fc from '../support/property.ts';

/** Every screen of every service, in every language, where nothing is filled in and nothing turns. */
const PRINTED = readMenus(SERVICES, knownOf).flatMap((menu) =>
  menu.languages.flatMap((language) => Object.keys(menu.nodes).map((node) => ({ menu, node, language }))),
);

function shownAt({ menu, node: name, language }: (typeof PRINTED)[number]): Memory {
  const node = menu.nodes[name] as Menu['nodes'][string];
  const options = optionsOf(node).map(({ key, label }) => ({ key, label: inLanguage(label, language) }));
  return {
    state: {
      node: name,
      back: [],
      misses: 0,
      vars: {},
      language,
      page: 0,
      turns: { more: false, previous: false },
      items: {},
    },
    screen: { end: 'end' in node, node: name, words: inLanguage(wordsOf(node), language), options },
    serviceCode: '*7#',
  };
}

test('what a screen says as the document does is not in the row', async (t) => {
  for (const at of PRINTED) {
    const memory = shownAt(at);
    const bytes = pack(memory, at.menu);
    t.match(
      JSON.parse(bytes.toString()).slice(9, 11),
      [1, 1],
      `${at.menu.service} ${at.node} ${at.language}`,
    );
    t.same(unpack(bytes, at.menu), memory);
    t.same(unpack(pack(memory)), memory, 'and without a document every word is');
  }
  t.ok(PRINTED.length > 50, `${PRINTED.length} screens`);
});

test('whatever differs from the document is kept as it was', async () => {
  const change = fc.record({
    which: fc.nat(PRINTED.length - 1),
    words: fc.option(fc.string({ unit: 'grapheme', maxLength: 8 })),
    notice: fc.option(fc.string({ maxLength: 8 })),
    left: fc.nat(9),
    label: fc.option(fc.string({ maxLength: 3 })),
    reversed: fc.boolean(),
    elsewhere: fc.boolean(),
  });
  fc.assert(
    fc.property(change, ({ which, words, notice, left, label, reversed, elsewhere }) => {
      const at = PRINTED[which] as (typeof PRINTED)[number];
      const memory = shownAt(at);
      const { screen } = memory;
      if (words !== null) screen.words += words;
      if (notice !== null) screen.notice = notice;
      screen.options = screen.options.slice(0, 9 - left);
      if (label !== null && screen.options[0] !== undefined) screen.options[0].label += label;
      if (reversed) screen.options.reverse();
      // A screen of a place that the document does not have, as of a session that has expired.
      if (elsewhere) screen.node = 'nowhere of the document';
      return isDeepStrictEqual(unpack(pack(memory, at.menu), at.menu), memory);
    }),
  );
});

test('a row in which every word is written out is read by whatever document', async (t) => {
  const row =
    '[1,"*7#","home","en",["start"],1,{"name":"Ann"},0,"","Hello Ann",["1","Go on","0","Back"],0,1,{},null,"7","Not that"]';
  for (const menu of [undefined, PRINTED[0]?.menu]) {
    const { state, screen } = unpack(Buffer.from(row), menu);
    t.same(screen, {
      end: false,
      node: 'home',
      words: 'Hello Ann',
      options: [
        { key: '1', label: 'Go on' },
        { key: '0', label: 'Back' },
      ],
      notice: 'Not that',
    });
    t.match(state, { node: 'home', account: '7', turns: { more: true, previous: false } });
  }
});

test('without its document a screen is missed, and what is not shown is not', async (t) => {
  const [at] = PRINTED;
  if (at === undefined) throw new Error('there are no services');
  const bytes = pack(shownAt(at), at.menu);
  t.throws(() => unpack(bytes), { message: 'the document of a turn is missing' });
  t.match(unpackState(bytes), { state: { node: at.node }, serviceCode: '*7#' });
  t.throws(() => unpackState(Buffer.from('[3,"*7#"]')), { message: /unknown layout 3/ });
});
