import { error, type Finding, nodesOf, ownLines, textsIn } from './finding.ts';
import { FORMATTER_NAMES, factOf, fill, isFormatter, placeholdersIn } from './format.ts';
import {
  isSecret,
  type Menu,
  type Node,
  namesIn,
  optionsOf,
  type Text,
  type To,
  waysFrom,
  waysOf,
  wordsOf,
} from './menu.ts';
import { meaning } from './nearest.ts';
import { type Known, keptBy, lengthsOf, rowsOf, setsOf, shapeOf, VERDICTS } from './plan.ts';

/** Names that are given already: nothing can be kept under them. */
const GIVEN = ['phone', 'language', 'verdict'];

/** Facts, effects, values, formatters and verdicts that a document names are there. */
export function names(menu: Menu, known: Known): Finding[] {
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
    ...ownLines(node),
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
  return `there is no fact ${fact}: there is ${Object.keys(known.facts).join(', ') || 'none'}${meaning(fact, Object.keys(known.facts))}`;
}

function rowProblem(value: string, rows: Record<string, number> | undefined): string | undefined {
  if (rows === undefined) return `{row.${value}} has no row here: set it under a name and use that`;
  return Object.hasOwn(rows, value)
    ? undefined
    : `{row.${value}} is no value of what is listed: it has ${Object.keys(rows).join(', ')}`;
}

/** What is done must be what was read: a value of a fact may be another by then (decision 10). */
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
      return [
        `there is no effect ${kind}: there is ${Object.keys(known.effects).join(', ') || 'none'}${meaning(kind, Object.keys(known.effects))}`,
      ];
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
export function phones(menu: Menu, known: Known): Finding[] {
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
export function traces(menu: Menu, known: Known): Finding[] {
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
export function spoken(menu: Menu): Finding[] {
  return nodesOf(menu).flatMap(([name, node]) =>
    optionsOf(node).flatMap(({ key, language }) =>
      language === undefined || menu.languages.includes(language)
        ? []
        : [error(name, `key ${key} names ${language}: name one of ${menu.languages.join(', ')}`)],
    ),
  );
}
