import { type Document, isAlias, isMap, isScalar, LineCounter, type Pair, parseDocument, visit } from 'yaml';
import { unsendable } from './flow/outgoing.ts';
import { decodeUtf8 } from './flow/utf8.ts';

/** A YAML document as it was read. Paths are keys and indexes from its top. */
export type Yaml = {
  plain: unknown;
  /** `:7` for the value at a path, or for what stands above it; empty where it has no line. */
  lineOf(path: PropertyKey[]): string;
  /** The same for a key of the map at a path. */
  lineOfKey(path: PropertyKey[], key: string): string;
  /** A plain scalar as it is written in the file, without quotes: `00` where the value is 0. */
  writtenAt(path: PropertyKey[]): string | undefined;
  /** What YAML takes a value for that its writer did not mean: `&co` as an anchor, `# 1` as a comment. */
  lostAt(path: PropertyKey[]): string | undefined;
  /** The comment on the line of a text without quotes, `#2` behind `Room`: its writer may have meant it as text. */
  commentBehind(path: PropertyKey[]): string | undefined;
  /** The number that YAML reads a key without quotes as, where it is written otherwise: 20 for `020`, which is kept. */
  numberOfKey(path: PropertyKey[], key: string): number | undefined;
};

/** The document, or what is wrong with it: `file:line: what was found, and what to write`. */
export type Read = (Yaml & { problems?: undefined }) | { problems: string[] };

/** Deeper aliases than this would fill the memory. */
const MOST_ALIASES = 100;

/**
 * Reads one YAML document from a file in UTF-8. Refuses, in words that say what to write instead: another encoding, YAML
 * that is broken, several documents in one file, merge keys, keys that stand twice, and characters that must not reach a
 * handset. `source` is the file as it is, or its text.
 */
export function readYaml(source: string | Uint8Array, file: string): Read {
  const decoded = typeof source === 'string' ? { text: source.replace(/^\uFEFF/, '') } : decodeUtf8(source);
  if (decoded.problem !== undefined) return { problems: [`${file}:${decoded.line}: ${decoded.problem}`] };
  const { text } = decoded;
  const hidden = hiddenIn(text);
  if (hidden.length > 0) return { problems: hidden.map((problem) => `${file}${problem}`) };
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: isSameKey });
  const lineAt = (offset?: number) => (offset === undefined ? '' : `:${lines.linePos(offset).line}`);
  const slips = [...slipsOf(document, text, lineAt), ...aliasesOfNothing(document, text)].sort(
    (a, b) => a.at - b.at,
  );
  if (slips.length > 0)
    return { problems: slips.map(({ at, problem }) => `${file}${lineAt(at)}: ${problem}`) };
  const numbers = keepNumbers(document);
  let plain: unknown;
  try {
    plain = document.toJS({ maxAliasCount: MOST_ALIASES });
  } catch {
    return {
      problems: [
        `${file}: the aliases (*name) unfold to more than ${MOST_ALIASES} copies: write the lines out`,
      ],
    };
  }
  const yaml = yamlOf(document, plain, text, lineAt, numbers);
  const found = [...foreignKeys(document), ...unsendables(document)];
  if (found.length === 0) return yaml;
  return { problems: found.map(({ at, problem }) => `${file}${lineAt(at)}: ${problem}`) };
}

type Slip = { at: number; problem: string };

function yamlOf(
  document: Document,
  plain: unknown,
  text: string,
  lineAt: (offset: number | undefined) => string,
  numbers: ReadonlyMap<unknown, number>,
): Yaml {
  const nodeAt = (path: PropertyKey[]) =>
    (path.length === 0 ? document.contents : document.getIn(path, true)) as
      | { range?: [number, number, number]; anchor?: string; comment?: string | null; source?: string }
      | null
      | undefined;
  const pairAt = (path: PropertyKey[], key: string): Pair | undefined => {
    const map = nodeAt(path);
    return isMap(map)
      ? map.items.find((pair) => isScalar(pair.key) && String(pair.key.value) === key)
      : undefined;
  };
  return {
    plain,
    lineOf: (path) => {
      for (let length = path.length; length > 0; length -= 1) {
        const above = path.slice(0, length - 1);
        const node = nodeAt(path.slice(0, length));
        // What is empty begins wherever the next line does: its key is where it is missing.
        const isEmpty = isScalar(node) && node.value === null;
        const pair = isEmpty ? pairAt(above, String(path[length - 1])) : undefined;
        if (isScalar(pair?.key) && pair.key.range) return lineAt(pair.key.range[0]);
        if (node?.range) return lineAt(node.range[0]);
      }
      return '';
    },
    lineOfKey: (path, key) => {
      const pair = pairAt(path, key);
      return isScalar(pair?.key) ? lineAt(pair.key.range?.[0]) : '';
    },
    writtenAt: (path) => {
      const node = nodeAt(path);
      return isScalar(node) && node.type === 'PLAIN' ? node.source : undefined;
    },
    lostAt: (path) => {
      const node = nodeAt(path);
      if (!isScalar(node) || node.value !== null) return undefined;
      const { anchor, comment } = node as { anchor?: string; comment?: string | null };
      if (anchor !== undefined) return `&${anchor}`;
      return comment ? `#${comment.split('\n')[0] ?? ''}` : undefined;
    },
    commentBehind: (path) => {
      const node = nodeAt(path);
      if (!isScalar(node) || node.type !== 'PLAIN' || !node.range) return undefined;
      const [, end, last] = node.range;
      const [, comment] = /^[ \t]+(#[^\r\n]*)/.exec(text.slice(end, Math.max(end, last))) ?? [];
      return comment;
    },
    numberOfKey: (path, key) => numbers.get(pairAt(path, key)?.key),
  };
}

/** A key as a map of ours has it: a number as it is written, `020` and not 20. */
function keyText(key: unknown): string | undefined {
  if (!isScalar(key)) return undefined;
  return typeof key.value === 'number' ? key.source : String(key.value ?? '');
}

/** Whether two keys are one in a map of ours: 20880 and "20880" are, 20 and 020 are not. */
function isSameKey(one: unknown, two: unknown): boolean {
  return one === two || (keyText(one) !== undefined && keyText(one) === keyText(two));
}

/** Keeps keys that YAML reads as numbers as they are written. Returns the numbers of those that would be printed otherwise. */
function keepNumbers(document: Document): Map<unknown, number> {
  const numbers = new Map<unknown, number>();
  visit(document, {
    Pair: (_, { key }) => {
      if (!isScalar(key) || typeof key.value !== 'number') return;
      if (key.source !== String(key.value)) numbers.set(key, key.value);
      key.value = key.source ?? String(key.value);
    },
  });
  return numbers;
}

/** Characters of the file itself that no editor shows. */
function hiddenIn(text: string): string[] {
  const lines = text.split(/\r?\n/);
  return lines.flatMap((line, index) => {
    // A tab may stand behind a text or a comment; as indentation YAML refuses it.
    const problem = unsendable(line.replaceAll('\t', ' '));
    return problem === undefined ? [] : [`:${index + 1}: the line ${problem}`];
  });
}

/** What YAML itself refuses. What follows a broken line is told wrongly: only what stands by itself is told further. */
function slipsOf(document: Document, text: string, lineAt: (offset?: number) => string): Slip[] {
  const slips: Slip[] = [];
  const [first, second] = [document.errors[0], document.errors.slice(1)];
  for (const error of first === undefined ? [] : [first, ...second.filter(({ code }) => ALONE.has(code))]) {
    const at = error.pos[0];
    const dots = dotsBefore(text, at);
    if (dots !== undefined) {
      slips.push({ at: dots, problem: `... ends the document, and more follows: ${joining(text, dots)}` });
      break;
    }
    if (error.code === 'MULTIPLE_DOCS') {
      slips.push({ at, problem: `a second document begins here (---): ${joining(text, at)}` });
      break;
    }
    const opened = openedAt(document, text, error.code, at);
    if (opened !== undefined) {
      const problem = `what begins with ${text[opened] ?? ''} in "${lineAround(text, opened)}" is not closed: end it with ${CLOSING[text[opened] ?? ''] ?? ''}`;
      slips.push({ at: opened, problem });
      break;
    }
    const problem =
      error.code === 'DUPLICATE_KEY' ? duplicate(document, text, at, lineAt) : inWords(error.code, text, at);
    slips.push({ at, problem });
  }
  for (const warning of document.warnings) {
    if (warning.code !== 'TAG_RESOLVE_FAILED') continue;
    const at = warning.pos[0];
    slips.push({ at, problem: quoted(text, at, 'a text that begins with ! is a tag in YAML') });
  }
  const version = /^%YAML[ \t]+(\S+)/m.exec(text);
  if (version !== null && version[1] !== '1.2')
    slips.push({
      at: version.index,
      problem: `%YAML ${version[1]} reads words such as yes and no as something else: take the line out`,
    });
  return slips;
}

/** Where the line of three dots stands that ends a document before a place; undefined where none does. */
function dotsBefore(text: string, at: number): number | undefined {
  const dots = /^\.\.\.(?=\s|$)/m.exec(text);
  return dots !== null && dots.index < at ? dots.index : undefined;
}

/** What to do about a line that parts two documents: to remove it helps where both are one without it. */
function joining(text: string, at: number): string {
  const end = text.indexOf('\n', at);
  const joined = text.slice(0, at) + (end === -1 ? '' : text.slice(end + 1));
  const isOne = parseDocument(joined, { uniqueKeys: isSameKey }).errors.length === 0;
  return isOne ? 'remove the line' : 'move what follows to a file of its own';
}

/** Errors that say what they say whatever stands before them. */
const ALONE = new Set<string>([
  'BAD_ALIAS',
  'DUPLICATE_KEY',
  'BAD_DQ_ESCAPE',
  'BAD_SCALAR_START',
  'TAB_AS_INDENT',
]);

/** What a slip is called, by the code of the error of the package yaml, and what to write instead. */
function inWords(code: string, text: string, at: number): string {
  const line = lineAround(text, at);
  switch (code) {
    case 'BAD_ALIAS':
      return quoted(text, at, 'a text that begins with * is an alias in YAML');
    case 'BAD_SCALAR_START':
      return quoted(text, at, `a text cannot begin with ${text[at] ?? ''} in YAML`);
    case 'TAB_AS_INDENT':
      return 'a tab stands where the line is indented: indent with spaces';
    case 'BAD_DQ_ESCAPE':
      return `${text.slice(at, at + 2)} is not an escape: within double quotes write a backslash as \\\\`;
    case 'MISSING_CHAR':
      return `the line "${line}" has a key without a value: write key: value`;
    case 'BAD_INDENT':
      return `the line "${line}" is indented differently from those beside it: begin it in the same column`;
    case 'BLOCK_AS_IMPLICIT_KEY':
    case 'BLOCK_IN_FLOW':
    case 'MULTILINE_IMPLICIT_KEY':
      return colon(text, at, line);
    case 'UNEXPECTED_TOKEN':
      return unexpected(text, at, line);
    default:
      return `the line "${line}" cannot be read as YAML: look at its quotes, colons, brackets and indentation, and at those of the line above`;
  }
}

/** `label: *`: the text in quotes, behind its key where it has one. */
function quoted(text: string, at: number, why: string): string {
  const token = /^[^\s,\]}]*/.exec(text.slice(at))?.[0] ?? '';
  const before = text.slice(text.lastIndexOf('\n', at - 1) + 1, at);
  const inFlow = (before.match(/[{[]/g)?.length ?? 0) > (before.match(/[}\]]/g)?.length ?? 0);
  const [whole = token] = (inFlow ? /^[^\n,\]}]*/ : /^[^\n]*/).exec(text.slice(at)) ?? [];
  const [key = ''] = /[\w.-]+\s*:\s*$/.exec(text.slice(0, at)) ?? [];
  return `${why}: put it in quotes: ${key.trim() === '' ? '' : `${key.trim()} `}${JSON.stringify(whole.trimEnd())}`;
}

/** A key that stands twice, with the line of the first. */
function duplicate(
  document: Document,
  text: string,
  at: number,
  lineAt: (offset?: number) => string,
): string {
  const [, key = ''] = /^["']?([^"':\s]+)/.exec(text.slice(at)) ?? [];
  let first: number | undefined;
  visit(document, {
    Map: (_, { items }) => {
      const keys = items.map((pair) => pair.key).filter((each) => isScalar(each));
      const repeated = keys.find((each) => each.range?.[0] === at);
      if (repeated !== undefined) first = keys.find((each) => isSameKey(each, repeated))?.range?.[0];
    },
  });
  const there = first === undefined || first === at ? '' : ` (first in line ${lineAt(first).slice(1)})`;
  return `${key} stands twice in the same map${there}: rename one of them, or remove it`;
}

const CLOSING: Record<string, string> = { '"': '"', "'": "'", '{': '}', '[': ']' };

/**
 * Where a text in quotes, a map or a list begins that is not closed: YAML complains at the end of the file, or where a
 * later quote closed it by accident.
 */
function openedAt(document: Document, text: string, code: string, at: number): number | undefined {
  let opened: number | undefined;
  visit(document, {
    Node: (_, node) => {
      const [from, to] = node.range ?? [];
      if (from === undefined || to === undefined || from >= at) return;
      const mark = text[from] ?? '';
      if (CLOSING[mark] === undefined) return;
      const isQuoted = isScalar(node);
      const closed = to - from > 1 && text[to - 1] === CLOSING[mark];
      if (!closed && to >= at - 1 && (code === 'MISSING_CHAR' || code === 'BAD_INDENT')) opened = from;
      // Closed by the quote that was to open another text, lines below.
      const spans = isQuoted && closed && to <= at && text.slice(to, at).trim() === '';
      if (spans && code === 'UNEXPECTED_TOKEN' && text.slice(from, to).includes('\n')) opened = from;
    },
  });
  return opened;
}

function colon(text: string, at: number, line: string): string {
  const rest = lineFrom(text, at);
  // A key that is missing its space swallows the lines below.
  const [, tight] = /^(\w+):\S/.exec(rest) ?? [];
  if (tight !== undefined)
    return `the line "${line}" has no space behind ${tight}: write ${tight}: and then a space`;
  if (/^\?\s*$/.test(rest)) return quoted(text, at, 'a ? alone is a mark of YAML');
  if (!/:(\s|$)/.test(rest))
    return `the line below "${line}" is indented deeper than it: begin both in the same column, or put a text of several lines in quotes`;
  return quoted(text, at, 'a text that holds ": " is read as a key');
}

/** What stands behind a place on its line. */
function lineFrom(text: string, at: number): string {
  return text.slice(at).split(/\r?\n/)[0] ?? '';
}

function unexpected(text: string, at: number, line: string): string {
  const before = text.slice(text.lastIndexOf('\n', at - 1) + 1, at);
  if (/^- /.test(text.slice(at)) && /:\s*$/.test(before))
    return `a list cannot begin on the line of its key ("${line}"): begin it on the next line, or put a text that begins with - in quotes`;
  if (/'$/.test(before.trimEnd()))
    return `a text in single quotes ends too early in "${line}": write ' within it as '', or put the text in double quotes`;
  if (/"$/.test(before.trimEnd()))
    return `a text in double quotes ends too early in "${line}": put all of the text in one pair of quotes, and write " within it as \\"`;
  if (/[}\]]$/.test(before.trimEnd()) && !/^[}\]]/.test(text.slice(at)))
    return `a text that begins with a bracket is a map or a list in YAML ("${line}"): put all of the text in quotes`;
  if (/^[}\]]/.test(text.slice(at)))
    return `a ${text[at] ?? ''} closes nothing in "${line}": remove it, or put the text in quotes`;
  return `"${text.slice(at).split('\n')[0] ?? ''}" cannot stand here: look at the quotes, the brackets and the indentation of "${line}"`;
}

function lineAround(text: string, at: number): string {
  const from = text.lastIndexOf('\n', at - 1) + 1;
  const to = text.indexOf('\n', at);
  return text.slice(from, to === -1 ? text.length : to).trim();
}

/** Aliases whose anchor does not stand before them: YAML is sound by then, but they stand for nothing. */
function aliasesOfNothing(document: Document, text: string): Slip[] {
  const slips: Slip[] = [];
  visit(document, {
    Alias: (_, alias) => {
      const at = alias.range?.[0];
      if (at === undefined || alias.source === '' || alias.resolve(document) !== undefined) return;
      slips.push({ at, problem: quoted(text, at, 'a text that begins with * is an alias in YAML') });
    },
  });
  return slips;
}

/** Keys that copy or hide something: merge keys, and the one by which JavaScript finds a prototype. */
function foreignKeys(document: Document): Slip[] {
  const slips: Slip[] = [];
  visit(document, {
    Pair: (_, { key }) => {
      const at = isScalar(key) ? (key.range?.[0] ?? 0) : 0;
      if (isScalar(key) && key.value === '<<')
        slips.push({
          at,
          problem: '<< (a merge key) is not read here: write the lines out where they are needed',
        });
      else if (isScalar(key) && key.value === '__proto__')
        slips.push({ at, problem: '__proto__ cannot be a name: choose another' });
      else if (!isScalar(key) && !isAlias(key))
        slips.push({
          at: (key as { range?: [number] } | null)?.range?.[0] ?? 0,
          problem: 'a map or a list stands as a key: put a text that begins with a bracket in quotes',
        });
    },
  });
  return slips;
}

/** Keys and values that must not reach a handset, written as escapes: in the file itself they do not stand. */
function unsendables(document: Document): Slip[] {
  const slips: Slip[] = [];
  visit(document, {
    Scalar: (_, { value, range }) => {
      const problem = typeof value === 'string' ? unsendable(value) : undefined;
      if (problem !== undefined)
        slips.push({
          at: range?.[0] ?? 0,
          problem: `the text ${escaped(JSON.stringify(value)).slice(0, 60)} ${problem}`,
        });
    },
  });
  return slips;
}

/** A text without anything that a terminal or a log would obey: such characters as escapes. */
export function escaped(text: string): string {
  return text.replaceAll(
    /[\p{Cc}\p{Cs}\u2028\u2029\u202A-\u202E\u2066-\u206F\uFFF9-\uFFFD\p{Noncharacter_Code_Point}]/gu,
    (character) => `\\u${(character.codePointAt(0) ?? 0).toString(16).padStart(4, '0')}`,
  );
}

/** What is said of a text for people that a comment follows. */
export function commentProblem(comment: string): string {
  return `what follows # is a comment, and ${escaped(JSON.stringify(comment))} is not shown: put all of the text in quotes, or the comment on a line of its own`;
}
