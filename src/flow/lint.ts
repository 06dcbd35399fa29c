import { readAnswer } from './answer.ts';
import { FORMATTER_NAMES, factOf, fill, isFormatter, placeholdersIn } from './format.ts';
import {
  type Ask,
  inLanguage,
  isSecret,
  type Menu,
  type Node,
  namesIn,
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
  wordsOf,
} from './menu.ts';
import { pathsOf } from './paths.ts';
import {
  depthsOf,
  type Edge,
  edgesOf,
  type Known,
  keptBy,
  leadingOut,
  lengthsOf,
  longestText,
  reachable,
  rowsOf,
  SAMPLE_PHONE,
  sampleOf,
  setsOf,
  shapeOf,
  VERDICTS,
  worstState,
  worstWorld,
} from './plan.ts';
import { screenText } from './screen.ts';
import { noticesOf, pagesIn, turners, wholeText } from './show.ts';
import type { State, World } from './state.ts';
import { fits, measure, ucs2Budget } from './text.ts';

/**
 * What is wrong with a document: where, what, and the shortest text that leads there. An error keeps the
 * document from answering anybody; a warning does not.
 */
export type Finding = { level: 'error' | 'warning'; node: string; problem: string; path?: string };

/** The longest text that a request can carry (3GPP TS 23.038: 182 septets in 160 octets). */
const TEXT_LIMIT = 182;
/** What an invalid answer adds to the text: a key and its `*` (RULINGS.md 35). */
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
          ...answers(menu),
          ...keys(menu),
          ...ways(menu),
          ...reach(menu),
        ];
  const lengths = found.some(({ level }) => level === 'error')
    ? []
    : [...screens(menu, known), ...sizes(menu)];
  const paths = pathsOf(menu, known);
  return [...found, ...lengths].map((finding) => {
    const path = finding.path ?? paths.get(finding.node);
    return path === undefined ? finding : { ...finding, path };
  });
}

function error(node: string, problem: string): Finding {
  return { level: 'error', node, problem };
}

function nodesOf(menu: Menu): [string, Node][] {
  return Object.entries(menu.nodes);
}

function targets(menu: Menu): Finding[] {
  const isPlace = (name: string) => PLACES.some((place) => place === name);
  const isNode = (name: string) => nodeNamed(menu, name) !== undefined;
  const problems = (what: string, to: To) =>
    waysOf(to).flatMap((way) => {
      const { to: target } = way;
      if (!isPlace(target) && !isNode(target))
        return [`${what} leads to ${target}, which is no node: add it or name another`];
      if (way.invalid === undefined) return [];
      if (isPlace(target) || 'end' in (menu.nodes[target] ?? {}))
        return [`${what} is invalid and leads to ${target}: ask again on a screen that can be answered`];
      return way.effects === undefined ? [] : [`${what} is invalid and has an effect: remove one of them`];
    });
  return [
    ...(isNode(menu.root) ? [] : [error(menu.root, 'the root is no node: name one of the nodes')]),
    ...nodesOf(menu).flatMap(([name, node]) => [
      ...(isPlace(name) ? [error(name, `${name} is a place of the engine: give the node another name`)] : []),
      ...[
        ...optionsOf(node).flatMap(({ key, to }) => problems(`key ${key}`, to)),
        ...('to' in node ? problems('the answer', node.to) : []),
      ].map((problem) => error(name, problem)),
    ]),
  ];
}

/** Every text of a node. */
function textsIn(node: Node): Text[] {
  const effects = waysFrom(node).flatMap(({ effects }) => effects ?? []);
  return [
    wordsOf(node),
    ...optionsOf(node).map(({ label }) => label),
    ...('list' in node ? [node.label, node.empty] : []),
    ...('list' in node && node.more ? [node.more.label] : []),
    ...('list' in node && node.previous ? [node.previous.label] : []),
    ...('ask' in node && node.invalid !== undefined ? [node.invalid] : []),
    ...waysFrom(node).flatMap(({ invalid }): Text[] => (invalid === undefined ? [] : [invalid])),
    ...effects.flatMap((effect) => Object.values(effect).flatMap((args): Text[] => Object.values(args))),
  ];
}

function translations(menu: Menu): Finding[] {
  const service: [string, Text][] = [
    ['invalid', menu.invalid],
    ['farewell', menu.farewell],
    ['more', menu.more],
    ['previous', menu.previous],
    ['cutOff', menu.cutOff],
    ['goOn', menu.goOn],
    ['startAgain', menu.startAgain],
  ];
  const all = [
    ...service,
    ...nodesOf(menu).flatMap(([name, node]) => textsIn(node).map((text) => [name, text] as const)),
  ];
  return all.flatMap(([name, text]) =>
    menu.languages.flatMap((language) =>
      typeof text === 'string' || language in text
        ? []
        : [error(name, `no ${language} for "${inLanguage(text, language).slice(0, 30)}": add it`)],
    ),
  );
}

/** Names that are given already: nothing can be kept under them. */
const GIVEN = ['phone', 'language', 'verdict'];

/** Facts, effects, values, formatters and verdicts that a document names are there. */
function names(menu: Menu, known: Known): Finding[] {
  const kept = new Set([...GIVEN, ...Object.values(menu.nodes).flatMap(keptBy)]);
  kept.delete('verdict');
  const secrets = new Set(Object.values(menu.nodes).flatMap(secretsKept));
  const lengths = lengthsOf(menu, known);
  const nameProblem = (name: string, rows: Record<string, number> | undefined): string | undefined => {
    if (!name.includes('.'))
      return kept.has(name) ? undefined : `{${name}} is kept by no node: save or set it, or name another`;
    const [fact = '', value = ''] = name.split('.');
    if (fact === 'row') return rowProblem(value, rows);
    const shape = shapeOf(known, fact);
    if (shape === undefined) return noFact(fact, known);
    if (shape.rows !== undefined) return `the fact ${fact} is a list: name one value of it in a list's label`;
    return Object.hasOwn(shape.values, value)
      ? undefined
      : `the fact ${fact} has no ${value}: it has ${Object.keys(shape.values).join(', ')}`;
  };
  const textProblems = (text: string, rows?: Record<string, number>) => [
    ...placeholdersIn(text).flatMap(({ name, formatter }) => [
      nameProblem(name, rows),
      formatter === undefined || isFormatter(formatter)
        ? undefined
        : `there is no formatter ${formatter}: there are ${FORMATTER_NAMES.join(', ')}`,
    ]),
    /[{}]/.test(fill(text, {})) ? `a brace in "${text.slice(0, 30)}" is no placeholder: mend it` : undefined,
  ];
  const seenProblems = (text: string, rows?: Record<string, number>) => [
    ...textProblems(text, rows),
    ...placeholdersIn(text).map(({ name }) =>
      secrets.has(name) ? `{${name}} is a secret: only an effect may have it` : undefined,
    ),
  ];
  const { invalid, farewell, more, previous, cutOff, goOn, startAgain } = menu;
  const notices = [invalid, farewell, more, previous, cutOff, goOn, startAgain].flatMap(plainProblems);
  return [
    ...notices.map((problem) => error(menu.root, problem)),
    ...nodesOf(menu).flatMap(([name, node]) => {
      const rows = rowsOf(node, known);
      const shown = [wordsOf(node), ...optionsOf(node).map(({ label }) => label)];
      const effects = waysFrom(node).flatMap(({ effects }) => effects ?? []);
      const problems = [
        ...[...shown, ...('list' in node ? [node.empty] : [])]
          .flatMap(wordings)
          .flatMap((text) => seenProblems(text)),
        ...('list' in node ? wordings(node.label).flatMap((text) => seenProblems(text, rows)) : []),
        ...linesOver(node).flatMap(plainProblems),
        ...setsOf(node).flatMap(([, value]) => seenProblems(value, 'list' in node ? rows : undefined)),
        ...keptBy(node).map((value) => {
          if (GIVEN.includes(value)) return `${value} is given already: keep it under another name`;
          return lengths(value) === Number.POSITIVE_INFINITY
            ? `${value} is set from itself and grows: set it from something else`
            : undefined;
        }),
        ...waysFrom(node)
          .flatMap(namesIn)
          .map((value) => (value === 'verdict' ? undefined : nameProblem(value, undefined))),
        ...verdictProblems(node),
        ...(node.facts ?? []).map((fact) =>
          shapeOf(known, fact) === undefined ? noFact(fact, known) : undefined,
        ),
        ...('list' in node ? [listProblem(node.from, known)] : []),
        ...('ask' in node && node.answer.kind === 'pinAgain' ? [againProblem(menu, node.answer.of)] : []),
        ...effects.flatMap((effect) => effectProblems(effect, menu, known)),
        ...effects
          .flatMap((effect) => Object.values(effect).flatMap((args): Text[] => Object.values(args)))
          .flatMap(wordings)
          .flatMap((text) => [...textProblems(text), shownProblem(text, shown)]),
      ];
      return [...new Set(problems)].flatMap((problem) =>
        problem === undefined ? [] : [error(name, problem)],
      );
    }),
  ];
}

/** A text in every language. */
function wordings(text: Text): string[] {
  return typeof text === 'string' ? [text] : Object.values(text);
}

/** The lines of a node that are written as they are: notices, and what turns the page. */
function linesOver(node: Node): Text[] {
  const { more, previous } = 'list' in node ? node : {};
  return [
    ...('ask' in node && node.invalid !== undefined ? [node.invalid] : []),
    ...waysFrom(node).flatMap(({ invalid }): Text[] => (invalid === undefined ? [] : [invalid])),
    ...[more, previous].flatMap((turner): Text[] => (turner === undefined ? [] : [turner.label])),
  ];
}

function plainProblems(text: Text): string[] {
  return wordings(text)
    .filter((wording) => /[{}]/.test(wording))
    .map((wording) => `"${wording.slice(0, 30)}" is written as it is: take the braces out`);
}

function secretsKept(node: Node): string[] {
  return 'ask' in node && isSecret(node.answer) && node.save !== undefined ? [node.save] : [];
}

function noFact(fact: string, known: Known): string {
  return `there is no fact ${fact}: there is ${Object.keys(known.facts).join(', ') || 'none'}`;
}

function rowProblem(value: string, rows: Record<string, number> | undefined): string | undefined {
  if (rows === undefined) return `{row.${value}} has no row here: set it under a name and use that`;
  return Object.hasOwn(rows, value)
    ? undefined
    : `{row.${value}} is no value of what is listed: it has ${Object.keys(rows).join(', ')}`;
}

/** What is done must be what was read: a value of a fact may be another by then (RULINGS.md 10). */
function shownProblem(argument: string, shown: Text[]): string | undefined {
  const read = shown.flatMap(wordings).flatMap(placeholdersIn);
  const again = placeholdersIn(argument).find(
    ({ name }) => factOf(name).length > 0 && read.some((other) => other.name === name),
  );
  return again === undefined
    ? undefined
    : `an effect takes {${again.name}}, which may be another than the screen showed: set it on the way here`;
}

function verdictProblems(node: Node): string[] {
  const wanted = (to: To) =>
    waysOf(to).flatMap(({ when }) => (typeof when?.verdict === 'string' ? [when.verdict] : []));
  const verdicts = 'ask' in node ? (VERDICTS[node.answer.kind] ?? []) : [];
  const on = (values: string[], possible: readonly string[]) =>
    values
      .filter((value) => !possible.includes(value))
      .map((value) => `${value} is no verdict here: use ${possible.join(', ') || 'none, nothing is secret'}`);
  return [
    ...on(
      optionsOf(node).flatMap(({ to }) => wanted(to)),
      [],
    ),
    ...('to' in node ? on(wanted(node.to), verdicts) : []),
  ];
}

function listProblem(from: string, known: Known): string | undefined {
  const shape = shapeOf(known, from);
  if (shape === undefined) return noFact(from, known);
  return shape.rows === undefined
    ? `the fact ${from} has no rows to list: list another, or declare its rows`
    : undefined;
}

function againProblem(menu: Menu, of: string): string | undefined {
  const kept = Object.values(menu.nodes).some(
    (node) => 'ask' in node && node.answer.kind === 'newPin' && node.save === of,
  );
  return kept ? undefined : `no new PIN is kept under ${of}: save one under that name`;
}

function effectProblems(effect: Record<string, Record<string, Text>>, menu: Menu, known: Known): string[] {
  return Object.entries(effect).flatMap(([kind, args]) => {
    const wanted = Object.hasOwn(known.effects, kind) ? known.effects[kind] : undefined;
    if (wanted === undefined)
      return [`there is no effect ${kind}: there is ${Object.keys(known.effects).join(', ') || 'none'}`];
    const { language } = args;
    const spoken = kind !== 'rememberLanguage' || language === undefined || isSpoken(menu, language);
    return [
      ...wanted
        .filter((name) => !Object.hasOwn(args, name))
        .map((name) => `the effect ${kind} wants ${name}: add it`),
      ...Object.keys(args)
        .filter((name) => !wanted.includes(name))
        .map((name) => `the effect ${kind} takes no ${name}: it takes ${wanted.join(', ') || 'nothing'}`),
      ...(spoken ? [] : [`the effect ${kind} takes one of ${menu.languages.join(', ')}: name one`]),
    ];
  });
}

function isSpoken(menu: Menu, language: Text): boolean {
  return wordings(language).every((one) => placeholdersIn(one).length > 0 || menu.languages.includes(one));
}

/** What wants the caller's phone in a document that callers without one may use. */
function phones(menu: Menu, known: Known): Finding[] {
  if (menu.needsPhone) return [];
  return nodesOf(menu).flatMap(([name, node]) => {
    const effects = waysFrom(node).flatMap(({ effects }) => effects ?? []);
    const texts = [
      ...textsIn(node).flatMap(wordings),
      ...setsOf(node).map(([, value]) => value),
      ...waysFrom(node)
        .flatMap(namesIn)
        .map((value) => `{${value}}`),
    ];
    const named = texts.flatMap(placeholdersIn).map((placeholder) => placeholder.name);
    const listed = 'list' in node ? [node.from] : [];
    const facts = [...named.flatMap(factOf), ...(node.facts ?? []), ...listed];
    const wanting = [
      ...(named.includes('phone') ? ['{phone} has no value'] : []),
      ...('ask' in node && node.answer.kind === 'phone' ? ['an answer of the kind phone is read by it'] : []),
      ...facts
        .filter((fact) => shapeOf(known, fact)?.needsPhone === true)
        .map((fact) => `the fact ${fact} wants one`),
      ...effects
        .flatMap((effect) => Object.keys(effect))
        .filter((kind) => known.needPhone?.has(kind) === true)
        .map((kind) => `the effect ${kind} wants one`),
    ];
    return [...new Set(wanting)].map((problem) =>
      error(name, `the caller may have no phone, and ${problem}: take it out, or remove needsPhone`),
    );
  });
}

/** What a private document must not have: it would tell the next holder of the phone. */
function traces(menu: Menu, known: Known): Finding[] {
  const resume =
    menu.resume === undefined ? [] : [error(menu.root, 'a private service offers no resume: remove it')];
  if (!menu.private) return [];
  return [
    ...resume,
    ...nodesOf(menu).flatMap(([name, node]) => {
      const kinds = waysFrom(node).flatMap(({ effects }) =>
        (effects ?? []).flatMap((effect) => Object.keys(effect)),
      );
      return [...new Set(kinds)]
        .filter((kind) => known.quiet?.has(kind) !== true)
        .map((kind) =>
          error(name, `the effect ${kind} leaves a trace, and the service is private: take it out`),
        );
    }),
  ];
}

/** Languages that options name and the document does not speak. */
function spoken(menu: Menu): Finding[] {
  return nodesOf(menu).flatMap(([name, node]) =>
    optionsOf(node).flatMap(({ key, language }) =>
      language === undefined || menu.languages.includes(language)
        ? []
        : [error(name, `key ${key} names ${language}: name one of ${menu.languages.join(', ')}`)],
    ),
  );
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
  const lower = (key: string) => key.toLowerCase();
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

/** A key on a question must not be an answer to it (RULINGS.md 12). */
function answerable({ answer, options }: Ask): string[] {
  const isAnswer = (typed: string) =>
    isSecret(answer) ? /^\d{5}$/.test(typed) : readAnswer(answer, typed, SAMPLE_PHONE) !== undefined;
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

/** Every page of every screen with everything at its longest, in every language, and with empty lists. */
function screens(menu: Menu, known: Known): Finding[] {
  const worlds = [worstWorld(known), worstWorld(known, 0)];
  return menu.languages.flatMap((language) => [
    ...tooLong(menu, menu.root, language, inLanguage(menu.farewell, language), 'the farewell'),
    ...tooLong(menu, menu.root, language, offerIn(menu, language), 'the offer to go on'),
    ...nodesOf(menu).flatMap(([name, node]) => {
      const state = worstState(menu, name, language, known);
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
