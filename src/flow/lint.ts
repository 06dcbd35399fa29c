import { readAnswer } from './answer.ts';
import { error, type Finding, nodesOf, textsIn } from './finding.ts';
import { messages } from './lint-messages.ts';
import { names, phones, spoken, traces } from './lint-names.ts';
import { blankEnds } from './lint-texts.ts';
import {
  type Ask,
  comparedKey,
  inLanguage,
  isSecret,
  type Menu,
  type Node,
  nodeNamed,
  optionsOf,
  PLACES,
  placeKeys,
  sameKey,
  type Text,
  type To,
  type Way,
  waysFrom,
  waysOf,
} from './menu.ts';
import { meaning } from './nearest.ts';
import { pathsOf } from './paths.ts';
import {
  depthsOf,
  type Edge,
  edgesOf,
  type Known,
  leadingOut,
  longestText,
  reachable,
  SAMPLE_PHONE,
  sampleOf,
  worstStates,
  worstWorld,
} from './plan.ts';
import { screenText } from './screen.ts';
import { noticesOf, pagesIn, turners, wholeText } from './show.ts';
import type { State, World } from './state.ts';
import { fits, measure, ucs2Budget } from './text.ts';
import { folded } from './typed.ts';

/** The longest text that a request can carry (3GPP TS 23.038: 182 septets in 160 octets). */
const TEXT_LIMIT = 182;
/** What an invalid answer adds to the text: a key and its `*` (decision 35). */
const INVALID_ANSWER = 2;
/** Beyond these subscribers give up: warnings, because a service may have its reasons. */
const DEEP = 6;
const MANY = 7;

/**
 * Proves a document over every screen, way and language, with facts and answers at their longest: known
 * targets, names and verdicts; no key twice; every text in every language; a way out everywhere; every
 * screen in its budget; no text longer than a request.
 */
export function lint(menu: Menu, known: Known): Finding[] {
  // What follows needs a document whose targets and texts are there.
  const broken = [...targets(menu), ...translations(menu)];
  const found =
    broken.length > 0
      ? broken
      : [
          ...names(menu, known),
          ...phones(menu, known),
          ...traces(menu, known),
          ...spoken(menu),
          ...blankEnds(menu),
          ...answers(menu),
          ...keys(menu),
          ...ways(menu),
          ...reach(menu),
        ];
  const lengths = found.some(({ level }) => level === 'error')
    ? []
    : [
        ...turnersSpoken(menu, known),
        ...screens(menu, known),
        ...turns(menu, known),
        ...messages(menu, known),
        ...sizes(menu),
      ];
  const paths = pathsOf(menu, known);
  return [...found, ...lengths].map((finding) => {
    const path = finding.path ?? paths.get(finding.node);
    return path === undefined ? finding : { ...finding, path };
  });
}

function targets(menu: Menu): Finding[] {
  const isPlace = (name: string) => PLACES.some((place) => place === name);
  const isNode = (name: string) => nodeNamed(menu, name) !== undefined;
  const problems = (what: string, to: To) =>
    waysOf(to).flatMap((way) => {
      const { to: target } = way;
      if (!isPlace(target) && !isNode(target))
        return [
          `${what} leads to ${target}, which is no node: add it or name another${meaning(target, Object.keys(menu.nodes))}`,
        ];
      if (way.invalid === undefined) return [];
      if (isPlace(target) || 'end' in (menu.nodes[target] ?? {}))
        return [`${what} is invalid and leads to ${target}: ask again on a screen that can be answered`];
      return way.effects === undefined ? [] : [`${what} is invalid and has an effect: remove one of them`];
    });
  return [
    ...(isNode(menu.root)
      ? []
      : [
          error(
            menu.root,
            `the root is no node: name one of the nodes${meaning(menu.root, Object.keys(menu.nodes))}`,
          ),
        ]),
    ...nodesOf(menu).flatMap(([name, node]) => [
      ...(isPlace(name) ? [error(name, `${name} is a place of the engine: give the node another name`)] : []),
      ...[
        ...optionsOf(node).flatMap(({ key, to }) => problems(`key ${key}`, to)),
        ...('to' in node ? problems('the answer', node.to) : []),
      ].map((problem) => error(name, problem)),
    ]),
  ];
}

/** Texts that lack a language. Words of the engine are asked for only where they can come to be shown. */
function translations(menu: Menu): Finding[] {
  const { invalid, farewell, cutOff, goOn, startAgain } = menu;
  const service = {
    ...(menu.tries > 1 && { invalid }),
    farewell,
    ...(menu.resume !== undefined && { cutOff, goOn, startAgain }),
  };
  return [
    ...Object.entries(service).flatMap(([name, text]) =>
      menu.languages.flatMap((language) => untranslated(name, text, language, name)),
    ),
    ...nodesOf(menu).flatMap(([name, node]) =>
      textsIn(node).flatMap((text) =>
        menu.languages.flatMap((language) => untranslated(name, text, language)),
      ),
    ),
  ];
}

/** `key`: under which the text stands in the service, where it is one of the engine's. */
function untranslated(node: string, text: Text, language: string, key?: string): Finding[] {
  if (typeof text === 'string' || language in text) return [];
  const [spoken, words] = Object.entries(text)[0] ?? ['en', ''];
  const remedy = key === undefined ? 'add it' : `add it, ${key}: { ${spoken}: …, ${language}: … }`;
  return [error(node, `no ${language} for "${words.slice(0, 30)}": ${remedy}`)];
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

/** Answers that nobody can give, and secrets that are kept where they are not. */
function answers(menu: Menu): Finding[] {
  return nodesOf(menu).flatMap(([name, node]) => {
    if (!('ask' in node)) return [];
    const { answer } = node;
    if (isSecret(answer)) {
      return answer.kind === 'newPin' || node.save === undefined
        ? []
        : [error(name, 'a PIN is judged and not kept: remove save')];
    }
    if (readAnswer(answer, sampleOf(answer), SAMPLE_PHONE) !== undefined) return [];
    return answer.kind === 'pattern'
      ? [error(name, `the sample ${answer.sample} is no answer: write one that matches`)]
      : [error(name, 'no answer is long enough and short enough: mend min and max')];
  });
}

function keys(menu: Menu): Finding[] {
  const lower = comparedKey;
  const carriers = new Set(menu.carrierKeys.map(lower));
  const { more, previous } = menu.keys;
  const engine = [...placeKeys(menu).map(({ key }) => key), more, previous].map(lower);
  const twice = (list: string[]) => [...new Set(list.filter((key, index) => list.indexOf(key) !== index))];
  const service = [
    ...twice(engine).map((key) => error(menu.root, `${key} is two of the service's own keys: rename one`)),
    ...engine
      .filter((key) => carriers.has(key))
      .map((key) => error(menu.root, `${key} is the carrier's: rename it in keys`)),
  ];
  return [
    ...service,
    ...nodesOf(menu).flatMap(([name, node]) => {
      const printed = optionsOf(node).map(({ key }) => lower(key));
      const { more, previous } = turners(menu, node, menu.languages[0] ?? 'en');
      const items = 'list' in node ? Array.from({ length: node.per }, (_, index) => String(index + 1)) : [];
      const taken = 'end' in node ? [] : [...items, lower(more.key), lower(previous.key)];
      const places = 'ask' in node || 'end' in node ? [] : placeKeys(menu).map(({ key }) => lower(key));
      const problems = [
        ...twice(printed).map((key) => `key ${key} stands twice: choose another`),
        ...twice([...taken, ...places]).map(
          (key) => `key ${key} is an item or turns the page, and is something else: rename it`,
        ),
        ...printed
          .filter((key) => taken.includes(key))
          .map((key) => `key ${key} is an item or turns the page: choose another`),
        ...[...printed, ...items, ...('list' in node ? taken : [])]
          .filter((key) => carriers.has(key))
          .map((key) => `key ${key} is the carrier's: choose another`),
        ...('ask' in node ? answerable(node) : shadowed(menu, node)),
      ];
      return [...new Set(problems)].map((problem) => error(name, problem));
    }),
  ];
}

/** A key on a question must not be an answer to it (decision 12). */
function answerable({ answer, options }: Ask): string[] {
  const isAnswer = (typed: string) =>
    isSecret(answer) ? /^\d{5}$/.test(folded(typed)) : readAnswer(answer, typed, SAMPLE_PHONE) !== undefined;
  return options
    .filter(({ key }) => [key, key.toLowerCase(), key.toUpperCase()].some(isAnswer))
    .map(({ key }) => `key ${key} could be an answer: choose another`);
}

/** The keys of the engine mean the same on every screen of a service. */
function shadowed(menu: Menu, node: Node): string[] {
  const places = placeKeys(menu);
  const isPlace = ({ to }: Way) => to === 'back' || to === 'home' || to === menu.root;
  return optionsOf(node)
    .filter(({ key, to }) => places.some((place) => sameKey(place.key, key)) && !waysOf(to).every(isPlace))
    .map(({ key }) => `key ${key} is back or home everywhere: choose another`);
}

function ways(menu: Menu): Finding[] {
  return nodesOf(menu).flatMap(([name, node]) => {
    const lists = [...optionsOf(node).map(({ to }) => to), ...('to' in node ? [node.to] : [])].map(waysOf);
    const always = ({ when }: Way) => Object.keys(when ?? {}).length === 0;
    const open = lists.some((list) => !list.some(always));
    const hidden = lists.some((list) => list.slice(0, -1).some(always));
    // A dialled-through code reaches the root's options without anybody having read a screen.
    const early = name === menu.root && waysFrom(node).some(({ effects }) => effects);
    return [
      ...(open
        ? [error(name, 'no way holds where none of the conditions do: end with one that has no when')]
        : []),
      ...(hidden
        ? [error(name, 'ways behind one without a when are never taken: put it last or remove them')]
        : []),
      ...(early ? [error(name, 'an option of the root has an effect: put a screen before it')] : []),
    ];
  });
}

function reach(menu: Menu): Finding[] {
  const edges = edgesOf(menu);
  const reached = reachable(menu, edges);
  const out = leadingOut(menu, edges);
  return nodesOf(menu).flatMap(([name]) => [
    ...(reached.has(name) ? [] : [error(name, 'nothing leads here: remove it or lead to it')]),
    ...(reached.has(name) && !out.has(name)
      ? [error(name, 'no way leads out of here to an end: add an exit or a way back')]
      : []),
  ]);
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
 * Screens whose last page nobody comes to: the keys that turn pages are accumulated like everything that is typed.
 * Pages that have room for a few letters each, beside long labels, are so many.
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

/** What whoever was cut off is asked, under its notice; nothing where the document offers nothing. */
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
function sizes(menu: Menu): Finding[] {
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
