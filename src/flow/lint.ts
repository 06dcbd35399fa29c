import { readAnswer } from './answer.ts';
import { factOf, isFormatter, placeholdersIn } from './format.ts';
import {
  inLanguage,
  isSecret,
  type Menu,
  type Node,
  optionsOf,
  PLACES,
  type Text,
  waysFrom,
  waysOf,
  wordsOf,
} from './menu.ts';
import {
  depthsOf,
  type Edge,
  edgesOf,
  type Known,
  keptBy,
  leadingOut,
  longestText,
  pathsOf,
  worstState,
  worstWorld,
} from './plan.ts';
import { screenText } from './screen.ts';
import { longestNotice, show, turners } from './show.ts';
import type { Step } from './state.ts';
import { fits, measure } from './text.ts';

/**
 * What is wrong with a document: where, what, and the shortest text that leads there. An error keeps the
 * document from answering anybody; a warning does not.
 */
export type Finding = { level: 'error' | 'warning'; node: string; problem: string; path?: string };

/** The longest text that a request can carry (3GPP TS 23.038: 182 septets in 160 octets). */
const TEXT_LIMIT = 182;
/** Two invalid answers, each a key and its `*` (RULINGS.md 35); the third ends the session. */
const INVALID_ANSWERS = 4;
/** Beyond these subscribers give up: warnings, because a service may have its reasons. */
const DEEP = 6;
const MANY = 7;

/** The verdicts of each kind of secret. */
const VERDICTS: Record<string, string[]> = {
  pin: ['right', 'change', 'link', 'wrong', 'locked'],
  newPin: ['good', 'weak'],
  pinAgain: ['same', 'different'],
};

/**
 * Proves a document over every screen, way and language, with facts and answers at their longest: known
 * targets, names and verdicts; no key twice; every text in every language; a way out everywhere; every
 * screen in its budget; no text longer than a request.
 */
export function lint(menu: Menu, known: Known): Finding[] {
  // What follows needs a document whose targets and texts are there.
  const broken = [...targets(menu), ...translations(menu)];
  const found =
    broken.length > 0 ? broken : [...names(menu, known), ...keys(menu), ...ways(menu), ...reach(menu)];
  const lengths = found.some(({ level }) => level === 'error')
    ? []
    : [...screens(menu, known), ...sizes(menu)];
  const paths = pathsOf(menu, edgesOf(menu));
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
  const isKnown = (name: string) => isPlace(name) || name in menu.nodes;
  return [
    ...(menu.root in menu.nodes ? [] : [error(menu.root, 'the root is no node: name one of the nodes')]),
    ...nodesOf(menu).flatMap(([name, node]) => [
      ...(isPlace(name) ? [error(name, `${name} is a place of the engine: give the node another name`)] : []),
      ...optionsOf(node).flatMap(({ key, to }) =>
        waysOf(to).flatMap((way) =>
          isKnown(way.to) ? [] : [error(name, `key ${key} leads to ${way.to}, which is no node`)],
        ),
      ),
      ...('to' in node ? waysOf(node.to) : []).flatMap((way) =>
        isKnown(way.to) ? [] : [error(name, `the answer leads to ${way.to}, which is no node`)],
      ),
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

/** Facts, effects, values, formatters and verdicts that a document names are there. */
function names(menu: Menu, known: Known): Finding[] {
  const kept = new Set(['phone', 'language', ...Object.values(menu.nodes).flatMap(keptBy)]);
  const problemOf = (name: string, rows: Record<string, number>): string | undefined => {
    if (!name.includes('.')) return kept.has(name) ? undefined : `{${name}} is kept by no node`;
    const [fact = '', value = ''] = name.split('.');
    if (fact === 'row') return value in rows ? undefined : `{${name}} is no value of what is listed`;
    const shape = known.facts[fact];
    if (shape === undefined) return `there is no fact ${fact}`;
    return value in shape.values ? undefined : `the fact ${fact} has no ${value}`;
  };
  return nodesOf(menu).flatMap(([name, node]) => {
    const rows = 'list' in node ? (known.facts[node.from]?.values ?? {}) : {};
    const sets = [...optionsOf(node).map(({ set }) => set ?? {}), 'list' in node ? node.set : {}];
    const texts = [
      ...textsIn(node).flatMap((text) => (typeof text === 'string' ? [text] : Object.values(text))),
    ];
    const named = [...texts, ...sets.flatMap((set) => Object.values(set))].flatMap(placeholdersIn);
    const conditions = waysFrom(node).flatMap(({ when }) => Object.entries(when ?? {}));
    const problems = [
      ...named.map((placeholder) => problemOf(placeholder.name, rows)),
      ...named.map(({ formatter }) =>
        formatter === undefined || isFormatter(formatter) ? undefined : `there is no formatter ${formatter}`,
      ),
      ...conditions.map(([value, wanted]) =>
        value === 'verdict' ? verdictProblem(node, wanted) : problemOf(value, rows),
      ),
      ...(node.facts ?? []).map((fact) => (fact in known.facts ? undefined : `there is no fact ${fact}`)),
      ...('list' in node ? [listProblem(node.from, known)] : []),
      ...('ask' in node && node.answer.kind === 'pinAgain' ? [againProblem(menu, node.answer.of)] : []),
      ...waysFrom(node).flatMap(({ effects }) =>
        (effects ?? []).flatMap((effect) => effectProblems(effect, known)),
      ),
    ];
    return [...new Set(problems)].flatMap((problem) => (problem === undefined ? [] : [error(name, problem)]));
  });
}

function verdictProblem(node: Node, wanted: string): string | undefined {
  const verdicts = 'ask' in node ? (VERDICTS[node.answer.kind] ?? []) : [];
  return verdicts.includes(wanted)
    ? undefined
    : `${wanted} is no verdict here: ${verdicts.join(', ') || 'nothing is secret'}`;
}

function listProblem(from: string, known: Known): string | undefined {
  const shape = known.facts[from];
  if (shape === undefined) return `there is no fact ${from}`;
  return shape.rows === undefined ? `the fact ${from} has no rows to list` : undefined;
}

function againProblem(menu: Menu, of: string): string | undefined {
  const kept = Object.values(menu.nodes).some(
    (node) => 'ask' in node && node.answer.kind === 'newPin' && node.save === of,
  );
  return kept ? undefined : `no new PIN is kept under ${of}`;
}

function effectProblems(effect: Record<string, Record<string, unknown>>, known: Known): string[] {
  return Object.entries(effect).flatMap(([kind, args]) => {
    const wanted = known.effects[kind];
    if (wanted === undefined) return [`there is no effect ${kind}`];
    return [
      ...wanted.filter((name) => !(name in args)).map((name) => `the effect ${kind} wants ${name}`),
      ...Object.keys(args)
        .filter((name) => !wanted.includes(name))
        .map((name) => `the effect ${kind} takes no ${name}`),
    ];
  });
}

function keys(menu: Menu): Finding[] {
  const carriers = new Set(menu.carrierKeys);
  const engine = Object.values(menu.keys);
  const twice = (list: string[]) => list.filter((key, index) => list.indexOf(key) !== index);
  const service = [
    ...twice(engine).map((key) => error(menu.root, `${key} is two of the service's own keys`)),
    ...engine
      .filter((key) => carriers.has(key))
      .map((key) => error(menu.root, `${key} is the carrier's: rename it in keys`)),
  ];
  return [
    ...service,
    ...nodesOf(menu).flatMap(([name, node]) => {
      const printed = optionsOf(node).map(({ key }) => key.toLowerCase());
      const { more, previous } = turners(menu, node, menu.languages[0] ?? 'en');
      const items = 'list' in node ? Array.from({ length: node.per }, (_, index) => String(index + 1)) : [];
      const taken = 'end' in node ? [] : [...items, more.key, previous.key];
      const problems = [
        ...twice(printed).map((key) => `key ${key} stands twice`),
        ...twice(taken).map((key) => `key ${key} turns the page and is something else`),
        ...printed
          .filter((key) => taken.includes(key))
          .map((key) => `key ${key} is an item or turns the page`),
        ...printed
          .filter((key) => carriers.has(key))
          .map((key) => `key ${key} is the carrier's: choose another`),
        ...('ask' in node ? answerable(node, printed) : shadowed(menu, node)),
      ];
      return problems.map((problem) => error(name, problem));
    }),
  ];
}

/** A key on a question must not be an answer to it (RULINGS.md 12). */
function answerable(node: Extract<Node, { ask: unknown }>, printed: string[]): string[] {
  if (isSecret(node.answer))
    return printed.filter((key) => /^\d{5}$/.test(key)).map((key) => `key ${key} could be a PIN`);
  return printed
    .filter((key) => readAnswer(node.answer, key, '+260971234567') !== undefined)
    .map((key) => `key ${key} could be an answer: choose another`);
}

/** The keys of the engine mean the same on every screen of a service. */
function shadowed(menu: Menu, node: Node): string[] {
  const own = [menu.keys.back, menu.keys.home];
  return optionsOf(node)
    .filter(({ key, to }) => own.includes(key) && to !== 'back' && to !== 'home' && to !== menu.root)
    .map(({ key }) => `key ${key} is back or home everywhere: choose another`);
}

function ways(menu: Menu): Finding[] {
  return nodesOf(menu).flatMap(([name, node]) => {
    const lists = [...optionsOf(node).map(({ to }) => to), ...('to' in node ? [node.to] : [])].map(waysOf);
    const open = lists.filter((list) => list.at(-1)?.when !== undefined);
    const hidden = lists.filter((list) => list.slice(0, -1).some(({ when }) => when === undefined));
    // A dialled-through code reaches the root's options without anybody having read a screen.
    const early =
      name === menu.root && optionsOf(node).some(({ to }) => waysOf(to).some(({ effects }) => effects));
    return [
      ...open.map(() =>
        error(name, 'no way holds where none of the conditions do: end with one that has no when'),
      ),
      ...hidden.map(() => error(name, 'ways behind one without a when are never taken')),
      ...(early ? [error(name, 'an option of the root has an effect: put a screen before it')] : []),
    ];
  });
}

function reach(menu: Menu): Finding[] {
  const edges = edgesOf(menu);
  const paths = pathsOf(menu, edges);
  const invalid = new Set(edges.filter(({ way }) => way.invalid !== undefined).map(({ to }) => to));
  const out = leadingOut(menu, edges);
  return nodesOf(menu).flatMap(([name]) => [
    ...(paths.has(name) || invalid.has(name)
      ? []
      : [error(name, 'nothing leads here: remove it or lead to it')]),
    ...(paths.has(name) && !out.has(name) ? [error(name, 'no way leads out of here to an end')] : []),
  ]);
}

/** Every page of every screen with everything at its longest, in every language. */
function screens(menu: Menu, known: Known): Finding[] {
  const world = worstWorld(known);
  return menu.languages.flatMap((language) => [
    ...tooLong(menu, 'farewell', language, inLanguage(menu.farewell, language)),
    ...nodesOf(menu).flatMap(([name, node]) => {
      const findings: Finding[] = [];
      let state = worstState(menu, name, language, known);
      for (;;) {
        const shown = show(menu, state, world);
        if ('needs' in shown) return [error(name, `there is no fact ${shown.needs.join(', ')}`)];
        const notice = 'end' in node ? '' : longestNotice(menu, name, language);
        const screen = notice === '' ? shown.screen : { ...shown.screen, notice };
        findings.push(...tooLong(menu, name, language, screenText(screen)));
        if (!shown.state.turns.more) return findings;
        if ('ask' in node || 'end' in node) {
          const whole = show({ ...menu, budget: Number.POSITIVE_INFINITY }, state, world) as Step;
          return tooLong(
            menu,
            name,
            language,
            screenText({ ...whole.screen, ...(notice !== '' && { notice }) }),
          );
        }
        state = { ...shown.state, page: shown.state.page + 1 };
      }
    }),
  ]);
}

function tooLong(menu: Menu, node: string, language: string, text: string): Finding[] {
  if (fits(text, menu.budget)) return [];
  const { alphabet, units } = measure(text);
  const unit = alphabet === 'gsm' ? `septets of ${menu.budget}` : 'UCS-2 characters of 80';
  return [error(node, `the screen in ${language} takes ${units} ${unit}: shorten it`)];
}

/** Texts as long as requests, and what subscribers find long. */
function sizes(menu: Menu): Finding[] {
  const edges: Edge[] = edgesOf(menu);
  const { path, length } = longestText(menu, edges);
  const whole = length + INVALID_ANSWERS;
  const long: Finding[] =
    whole <= TEXT_LIMIT
      ? []
      : [
          {
            level: 'error',
            node: menu.root,
            problem: `a conversation can take ${whole} characters of ${TEXT_LIMIT}`,
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
          ? [{ level: 'warning' as const, node, problem: `is ${depth} choices deep, over ${DEEP}` }]
          : []),
        ...(choices > MANY
          ? [{ level: 'warning' as const, node, problem: `has ${choices} choices, over ${MANY}` }]
          : []),
      ];
    }),
  ];
}
