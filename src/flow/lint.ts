import { readAnswer } from './answer.ts';
import { error, type Finding, nodesOf, textsIn, untranslated } from './finding.ts';
import { names, phones, spoken, traces } from './lint-names.ts';
import { sizes } from './lint-sizes.ts';
import { blankEnds } from './lint-texts.ts';
import {
  type Ask,
  comparedKey,
  isSecret,
  type Menu,
  type Node,
  nodeNamed,
  optionsOf,
  PLACES,
  placeKeys,
  sameKey,
  type To,
  type Way,
  waysFrom,
  waysOf,
} from './menu.ts';
import { meaning } from './nearest.ts';
import { pathsOf } from './paths.ts';
import { isBounded } from './pattern.ts';
import { edgesOf, type Known, leadingOut, reachable, SAMPLE_PHONE, sampleOf } from './plan.ts';
import { turners } from './show.ts';
import { folded } from './typed.ts';

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
  const lengths = found.some(({ level }) => level === 'error') ? [] : sizes(menu, known);
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

const UNBOUNDED =
  'the pattern cannot be checked in bounded time: write it without look-ahead, look-behind, back-references and repeats above 1000 (the syntax of RE2)';

/** Finds questions whose answer cannot be given, and secrets that would be kept. */
function answers(menu: Menu): Finding[] {
  return nodesOf(menu).flatMap(([name, node]) => {
    if (!('ask' in node)) return [];
    const { answer } = node;
    if (isSecret(answer)) {
      return answer.kind === 'newPin' || node.save === undefined
        ? []
        : [error(name, 'a PIN is judged and not kept: remove save')];
    }
    // Not in the schema: documents of before are read by it too, for the sessions that are pinned to them.
    if (answer.kind === 'pattern' && !isBounded(answer.pattern)) return [error(name, UNBOUNDED)];
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
    // A dialled-through code reaches the root's options before any screen is sent.
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
