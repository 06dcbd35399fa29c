import { error, type Finding, nodesOf, untranslated } from './finding.ts';
import { messages } from './lint-messages.ts';
import { inLanguage, type Menu, optionsOf, type Text } from './menu.ts';
import { depthsOf, type Edge, edgesOf, type Known, longestText, worstStates, worstWorld } from './plan.ts';
import { screenText } from './screen.ts';
import { noticesOf, pagesIn, turners, wholeText } from './show.ts';
import type { State, World } from './state.ts';
import { fits, measure, ucs2Budget } from './text.ts';

/** The longest text that a request can carry (3GPP TS 23.038: 182 septets in 160 octets). */
const TEXT_LIMIT = 182;
/** What an invalid answer adds to the text: a key and its `*` (decision 35). */
const INVALID_ANSWER = 2;
/** Beyond these subscribers give up: warnings, because a service may have its reasons. */
const DEEP = 6;
const MANY = 7;

/** Measures what a document without errors can show, send, and be sent, with every value in it at its longest. */
export function sizes(menu: Menu, known: Known): Finding[] {
  return [
    ...turnersSpoken(menu, known),
    ...screens(menu, known),
    ...turns(menu, known),
    ...messages(menu, known),
    ...requests(menu),
  ];
}

/** What turns pages, where a screen has more than one in a language that it is not said in. */
function turnersSpoken(menu: Menu, known: Known): Finding[] {
  const world = worstWorld(known);
  const stateAt = worstStates(menu, known);
  return menu.languages.flatMap((language) => {
    const paged = nodesOf(menu).filter(([name]) => pagesIn(menu, stateAt(name, language), world).length > 1);
    return (['more', 'previous'] as const).flatMap((key) => {
      const own = paged.every(([, node]) => 'list' in node && node[key] !== undefined);
      return own ? [] : untranslated(key, menu[key], language, key);
    });
  });
}

/** Every END after too many invalid answers, and where it is said. */
function farewells(menu: Menu): [string, Text][] {
  const own = nodesOf(menu).flatMap(([name, node]): [string, Text][] =>
    'choose' in node && node.farewell !== undefined ? [[name, node.farewell]] : [],
  );
  return [[menu.root, menu.farewell], ...own];
}

/** Every page of every screen with everything at its longest, in every language, and with empty lists. */
function screens(menu: Menu, known: Known): Finding[] {
  const worlds = [worstWorld(known), worstWorld(known, 0)];
  const stateAt = worstStates(menu, known);
  return menu.languages.flatMap((language) => [
    ...farewells(menu).flatMap(([node, farewell]) =>
      tooLong(menu, node, language, inLanguage(farewell, language), 'the farewell'),
    ),
    ...tooLong(menu, menu.root, language, offerIn(menu, language), 'the offer to go on'),
    ...nodesOf(menu).flatMap(([name, node]) => {
      const state = stateAt(name, language);
      const [full, empty] = worlds as [World, World];
      // A question and an end are read in one piece; what is chosen from may have pages.
      if ('end' in node) return tooLong(menu, name, language, wholeText(menu, state, full));
      const shown =
        'ask' in node
          ? [wholeText(menu, state, full)]
          : [...pages(menu, state, full), ...pages(menu, state, empty)];
      const notices = noticesOf(menu, name, language);
      const over = shown.flatMap((text) =>
        notices.length === 0 ? [text] : notices.map((notice) => `${notice}\n${text}`),
      );
      return over.flatMap((text) => tooLong(menu, name, language, text)).slice(0, 1);
    }),
  ]);
}

/**
 * Finds screens whose last page cannot be reached: the keys that turn pages accumulate, and the text that reaches the page
 * is longer than a request may be. Pages with long labels have room for a few letters each, and are so many.
 */
function turns(menu: Menu, known: Known): Finding[] {
  const world = worstWorld(known);
  const stateAt = worstStates(menu, known);
  return menu.languages.flatMap((language) =>
    nodesOf(menu).flatMap(([name, node]) => {
      const { length } = pagesIn(menu, stateAt(name, language), world);
      const { key } = turners(menu, node, language).more;
      const turned = Array.from({ length: length - 1 }, () => key);
      const typed = turned.join('*').length;
      if (typed <= TEXT_LIMIT) return [];
      const last = `the last of them behind ${typed} characters of ${TEXT_LIMIT}`;
      const remedy = 'list' in node ? 'list fewer rows' : 'shorten it';
      return [error(name, `the screen in ${language} has ${length} pages, ${last}: ${remedy}`)];
    }),
  );
}

/** Returns the offer to go on where a session was cut off, under its notice; empty where the document makes none. */
function offerIn(menu: Menu, language: string): string {
  if (menu.resume === undefined) return '';
  const said = (text: Text) => inLanguage(text, language);
  return `${said(menu.invalid)}\n${said(menu.cutOff)}\n1. ${said(menu.goOn)}\n2. ${said(menu.startAgain)}`;
}

function pages(menu: Menu, state: State, world: World): string[] {
  const { node } = state;
  return pagesIn(menu, state, world).map((page) => screenText({ end: false, node, ...page }));
}

function tooLong(menu: Menu, node: string, language: string, text: string, what = 'the screen'): Finding[] {
  if (fits(text, menu.budget)) return [];
  const { alphabet, units } = measure(text);
  const foreign = [...text].find((character) => measure(character).alphabet === 'ucs2');
  const unit =
    alphabet === 'gsm'
      ? `septets of ${menu.budget}`
      : `UCS-2 characters of ${ucs2Budget(menu.budget)}, ${foreign} being in no handset's own alphabet`;
  return [error(node, `${what} in ${language} takes ${units} ${unit}: shorten it`)];
}

/** Texts as long as requests, and what subscribers find long. */
function requests(menu: Menu): Finding[] {
  const edges: Edge[] = edgesOf(menu);
  const { node: last, path, length } = longestText(menu, edges);
  // The last try ends the session: nothing is typed behind it.
  const whole = length + INVALID_ANSWER * (menu.tries - 1);
  const long: Finding[] =
    whole <= TEXT_LIMIT
      ? []
      : [
          {
            level: 'error',
            node: last,
            problem: `a conversation can take ${whole} characters of ${TEXT_LIMIT}: ask for less`,
            path,
          },
        ];
  const depths = depthsOf(menu, edges);
  return [
    ...long,
    ...nodesOf(menu).flatMap(([node, content]): Finding[] => {
      const depth = depths.get(node) ?? 0;
      const choices = optionsOf(content).filter(({ to }) => to !== 'back' && to !== 'home').length;
      return [
        ...(depth > DEEP
          ? [
              {
                level: 'warning' as const,
                node,
                problem: `is ${depth} choices deep, over ${DEEP}: bring it nearer`,
              },
            ]
          : []),
        ...(choices > MANY
          ? [{ level: 'warning' as const, node, problem: `has ${choices} choices, over ${MANY}: group them` }]
          : []),
      ];
    }),
  ];
}
