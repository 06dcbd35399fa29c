import type { z } from 'zod';
import { escaped, type Yaml } from './documents.ts';
import { meaning, nearest, nearestAlone } from './flow/nearest.ts';
import { Respelt } from './respelt.ts';

/**
 * How a schema is spoken of: what is expected where, in words (`a text`, `a key: digits, "*" or one word`), which of
 * several kinds of maps one is, and what is said of a value that the schema would take for another.
 */
export type Vocabulary = {
  expected: ReadonlyMap<z.ZodType, string>;
  /** Keys of which a map has exactly one, by the schema that is one of several kinds: `choose`, `say`. */
  kinds?: { of: z.ZodType; keys: readonly string[] };
  /** Numbers under these schemas are kept as they are written: `00` is not 0. */
  asWritten?: ReadonlySet<z.ZodType>;
  /** Either a map or a text with placeholders. */
  placeholders?: ReadonlySet<z.ZodType>;
  /** What else is wrong with a key that a map does not have: where it belongs. */
  belongs?(key: string): string | undefined;
};

type Schema = z.ZodType & { def: Def; minValue?: number | null; maxValue?: number | null };
type Def = {
  type: string;
  innerType?: Schema;
  in?: Schema;
  options?: Schema[];
  discriminator?: string;
  element?: Schema;
  keyType?: Schema;
  valueType?: Schema;
  shape?: Record<string, Schema>;
  values?: unknown[];
  checks?: unknown[];
};

type Path = PropertyKey[];

/** `meant`: the document as it was meant, where nothing else is wrong with it than what is mended there. */
export type Compared = { slips: string[]; meant: Yaml | undefined };

/**
 * Compares a document with its schema and says everything that is wrong, one line each, in the words of a person: file,
 * line, place, what was found, what to write instead. It sees what zod would refuse, and numbers that are not kept as
 * they are written. A misspelt key, and a value in place of which one other is advised, is read on as it was meant.
 */
export function slipsIn(schema: z.ZodType, yaml: Yaml, file: string, vocabulary: Vocabulary): Compared {
  const respelt = new Respelt(yaml);
  const found = new Walker(respelt, vocabulary).walk(schema as Schema, yaml.plain, []);
  const meant = respelt.read();
  // A rule that the walk does not know: better in the words of the rule than not at all.
  const others = found.every(({ mended }) => mended)
    ? (schema.safeParse(meant.plain).error?.issues ?? [])
    : [];
  const slips = [
    ...found,
    ...others.map(({ path, message }) => ({
      path,
      problem: message,
      line: meant.lineOf(path),
      mended: false,
    })),
  ];
  // What is missing from the whole document has no line, and is said last.
  const rank = ({ line }: Slip) => (line === '' ? Number.MAX_SAFE_INTEGER : Number(line.slice(1)));
  const inOrder = slips.toSorted((a, b) => rank(a) - rank(b));
  const lines = inOrder.map(
    ({ path, problem, line }) => `${file}${line}: ${path.join('.') || 'document'}: ${problem}`,
  );
  return { slips: [...new Set(lines)], meant: slips.every(({ mended }) => mended) ? meant : undefined };
}

/** `line`: `:7`, or empty where there is none. `mended`: the rest of the document is read as if it were mended. */
type Slip = { path: Path; problem: string; line: string; mended: boolean };

class Walker {
  /** Looks places up in the file, by paths as they were meant. */
  readonly #yaml: Omit<Yaml, 'plain'>;
  readonly #respelt: Respelt;
  readonly #words: Vocabulary;

  constructor(respelt: Respelt, vocabulary: Vocabulary) {
    this.#yaml = respelt.read();
    this.#respelt = respelt;
    this.#words = vocabulary;
  }

  walk(schema: Schema, value: unknown, path: Path): Slip[] {
    const { def } = schema;
    if (def.innerType !== undefined) return value === undefined ? [] : this.walk(def.innerType, value, path);
    if (value === undefined) return this.#say(path, `is missing: write ${this.#expected(schema)}`);
    if (this.#words.kinds?.of === schema) return this.#kind(schema, value, path);
    if (def.type === 'union') return this.#union(schema, value, path);
    if (def.type === 'object') return this.#map(schema, value, path);
    if (def.type === 'record') return this.#record(schema, value, path);
    if (def.type === 'array') return this.#list(schema, value, path);
    return this.#leaf(schema, value, path);
  }

  #say(path: Path, problem: string, line = ''): Slip[] {
    return [{ path, problem, line: line || this.#yaml.lineOf(path), mended: false }];
  }

  /** Says what is wrong with a key of the map at a path, and reads on as if it were another one. */
  #sayKey(path: Path, problem: string, written: string, meant: string): Slip[] {
    const line = this.#yaml.lineOfKey(path, written);
    this.#respelt.takeKey(path, written, meant);
    return this.#say(path, problem, line).map((slip) => ({ ...slip, mended: true }));
  }

  /** Says what is wrong with a value, and reads on as if it were another one. */
  #sayValue(path: Path, problem: string, meant: unknown): Slip[] {
    this.#respelt.takeValue(path, meant);
    return this.#say(path, problem).map((slip) => ({ ...slip, mended: true }));
  }

  /** One of several kinds of maps: the key that stands there says which. */
  #kind(schema: Schema, value: unknown, path: Path): Slip[] {
    const keys = this.#words.kinds?.keys ?? [];
    const one = `${keys.slice(0, -1).join(', ')} or ${keys.at(-1)}`;
    if (!isMap(value)) return this.#wrongType(schema, value, path, `a map with one of ${one}`);
    const there = keys.filter((key) => Object.hasOwn(value, key));
    const [first, ...more] = there;
    if (first === undefined) return this.#misspelt(schema, value, path, one);
    if (more.length > 0) {
      const twice = `is ${there.join(' and ')} at once: keep one of them here, and make the other a node of its own`;
      return this.#say(path, twice, this.#yaml.lineOfKey(path, more[0] ?? first));
    }
    const branch = (schema.def.options ?? []).find(({ def }) => def.shape && Object.hasOwn(def.shape, first));
    return this.#map(branch ?? schema, value, path);
  }

  /** A map of no kind: where a key is a slip of one, the rest is read as what was meant. */
  #misspelt(schema: Schema, value: Record<string, unknown>, path: Path, one: string): Slip[] {
    const keys = this.#words.kinds?.keys ?? [];
    const near = Object.keys(value).find((key) => nearest(key, keys) !== undefined);
    const meant = near === undefined ? undefined : nearest(near, keys);
    if (near === undefined || meant === undefined)
      return this.#say(path, `has none of ${one}: write one of them with its words`);
    const said = `has none of ${one}: ${near}: did you mean ${meant}?`;
    if (nearestAlone(near, keys) === undefined)
      return this.#say(path, said, this.#yaml.lineOfKey(path, near));
    const { [near]: words, ...rest } = value;
    return [
      ...this.#sayKey(path, said, near, meant),
      ...this.#kind(schema, { ...rest, [meant]: words }, path),
    ];
  }

  #union(schema: Schema, value: unknown, path: Path): Slip[] {
    const { discriminator } = schema.def;
    if (discriminator !== undefined) return this.#discriminated(schema, discriminator, value, path);
    const options = flat(schema);
    if (options.some(({ def }) => def.type === 'literal' && def.values?.includes(value))) return [];
    const branch = options.find((option) => takes(option, value));
    if (branch === undefined) return this.#wrongType(schema, value, path);
    const odd = this.#miswritten(schema, value, path) ?? this.#placeholder(schema, branch, value, path);
    return odd ?? this.walk(branch, value, path);
  }

  #discriminated(schema: Schema, discriminator: string, value: unknown, path: Path): Slip[] {
    const options = schema.def.options ?? [];
    const kindOf = ({ def }: Schema) => String(def.shape?.[discriminator]?.def.values?.[0]);
    const kinds = options.map(kindOf);
    if (!isMap(value)) return this.#wrongType(schema, value, path, this.#expectedOf(schema, discriminator));
    const kind = value[discriminator];
    const branch = options.find((option) => kindOf(option) === kind);
    if (branch !== undefined) return this.#map(branch, value, path);
    const at = [...path, discriminator];
    const wanted = `write one of ${kinds.join(', ')}`;
    if (kind === null) return this.#say(at, `is empty: ${wanted}`);
    if (kind !== undefined) return this.#otherKind(schema, discriminator, value, path, kinds);
    const meant = spellings(value, [discriminator]);
    const [written] = meant.keys();
    if (written === undefined) return this.#say(at, `is missing: ${wanted}`);
    return [
      ...this.#sayKey(
        path,
        this.#unknown(written, value, { [discriminator]: schema }),
        written,
        discriminator,
      ),
      ...this.#discriminated(schema, discriminator, respell(value, meant), path),
    ];
  }

  /** A kind that there is not: where it is a slip of one, the rest is read as what was meant. */
  #otherKind(
    schema: Schema,
    discriminator: string,
    value: Record<string, unknown>,
    path: Path,
    kinds: string[],
  ): Slip[] {
    const at = [...path, discriminator];
    const kind = String(value[discriminator]);
    const said = `${told(value[discriminator])} is none of ${kinds.join(', ')}${meaning(kind, kinds)}`;
    const meant = nearestAlone(kind, kinds);
    if (meant === undefined) return this.#say(at, said);
    return [
      ...this.#sayValue(at, said, meant),
      ...this.#discriminated(schema, discriminator, { ...value, [discriminator]: meant }, path),
    ];
  }

  #map(schema: Schema, value: unknown, path: Path): Slip[] {
    const shape = schema.def.shape ?? {};
    if (!isMap(value)) return this.#wrongType(schema, value, path);
    const known = Object.keys(shape);
    const others = Object.keys(value).filter((key) => !Object.hasOwn(shape, key));
    const meant = spellings(value, known);
    const read = respell(value, meant);
    // A misspelt key is said once: not also that the right one is missing.
    const near = others.map((key) => nearestOf(key, value, known));
    return [
      ...others.flatMap((key) => this.#foreign(key, value, shape, path, meant.get(key))),
      ...Object.entries(shape).flatMap(([key, inner]) => {
        if (Object.hasOwn(read, key)) return this.walk(inner, read[key], [...path, key]);
        return near.includes(key) ? [] : this.walk(inner, undefined, [...path, key]);
      }),
      ...this.#own(schema, read, path),
    ];
  }

  /** A key that a map does not have. `meant`: the one that it is read as. */
  #foreign(
    key: string,
    map: Record<string, unknown>,
    shape: Record<string, Schema>,
    path: Path,
    meant: string | undefined,
  ): Slip[] {
    const { text, first } = commaText(key, map, shape);
    if (text !== undefined && first !== key) return [];
    const problem = text ?? this.#unknown(key, map, shape);
    return meant === undefined
      ? this.#say(path, problem, this.#yaml.lineOfKey(path, key))
      : this.#sayKey(path, problem, key, meant);
  }

  #unknown(key: string, map: Record<string, unknown>, shape: Record<string, Schema>): string {
    const is = `${escaped(key)} is not a key here`;
    const known = Object.keys(shape);
    const meant = nearestOf(key, map, known);
    if (meant !== undefined) return `${is}: did you mean ${meant}?`;
    return `${is}: ${this.#words.belongs?.(key) ?? 'remove it'}; keys here are ${known.join(', ')}`;
  }

  #record(schema: Schema, value: unknown, path: Path): Slip[] {
    const { keyType, valueType } = schema.def;
    if (!isMap(value)) return this.#wrongType(schema, value, path);
    const inner = Object.entries(value).flatMap(([key, each]) => {
      const name = this.#name(keyType, key, path);
      const isRefused = name.some(({ mended }) => !mended);
      // Below a name that stands on the wrong level everything would be wrong.
      if (valueType === undefined || (isRefused && !mayHold(valueType, each))) return name;
      return [...name, ...this.walk(valueType, each, [...path, key])];
    });
    return [...inner, ...this.#own(schema, value, path)];
  }

  /** A key of a map whose keys are names. One that YAML reads as a number is read on as it is written. */
  #name(keyType: Schema | undefined, key: string, path: Path): Slip[] {
    const issue = keyType?.safeParse(key).error?.issues[0];
    if (issue !== undefined)
      return this.#say([...path, key], keyProblem(key, issue as Issue), this.#yaml.lineOfKey(path, key));
    const number = this.#yaml.numberOfKey(path, key);
    if (number === undefined) return [];
    const said = `the key ${key} is read as the number ${number}: put it in quotes, ${JSON.stringify(key)}:`;
    return this.#sayKey(path, said, key, key);
  }

  #list(schema: Schema, value: unknown, path: Path): Slip[] {
    const { element } = schema.def;
    if (!Array.isArray(value)) return this.#wrongType(schema, value, path);
    if (value.length === 0 && !schema.safeParse(value).success)
      return this.#say(path, `is an empty list: write ${this.#expected(schema)}`);
    return value.flatMap((each, index) =>
      element === undefined ? [] : this.walk(element, each, [...path, index]),
    );
  }

  /** Rules of a map as a whole. */
  #own(schema: Schema, value: unknown, path: Path): Slip[] {
    if (schema.def.checks === undefined) return [];
    const issues = schema.safeParse(value).error?.issues ?? [];
    return issues
      .filter((issue) => issue.code === 'custom' && issue.path.length === 0)
      .flatMap(({ message }) => this.#say(path, message));
  }

  #leaf(schema: Schema, value: unknown, path: Path): Slip[] {
    const issues = schema.safeParse(value).error?.issues ?? [];
    if (issues[0]?.code === 'invalid_type') return this.#wrongType(schema, value, path);
    return issues.flatMap((issue) => this.#say(path, leafProblem(value, issue as LeafIssue)));
  }

  /** A key that YAML reads as a number and would print differently, `00` as 0, or that is no key as a number. */
  #miswritten(schema: Schema, value: unknown, path: Path): Slip[] | undefined {
    if (typeof value !== 'number' || this.#words.asWritten?.has(schema) !== true) return undefined;
    const written = this.#yaml.writtenAt(path);
    const isKept = written === String(value);
    if (written === undefined || (isKept && schema.safeParse(value).success)) return undefined;
    const is = isKept ? `${written} is a number` : `${written} is read as the number ${value}`;
    if (schema.safeParse(written).success)
      return this.#sayValue(path, `${is}: put it in quotes, ${inQuotes(path, written)}`, written);
    const letters = written.replaceAll(/[^\p{L}\p{N}]/gu, '').slice(0, 20);
    const fits = (text: string) => Number(text) !== 0 && schema.safeParse(text).success;
    const other = [String(value), letters].find(fits) ?? '1';
    const wanted = `${this.#expected(schema)}; for example ${inQuotes(path, other)}`;
    return this.#say(path, `${is}, and ${JSON.stringify(written)} is no key either: write ${wanted}`);
  }

  /** `label: {name}`: a placeholder without quotes is a map to YAML. `{ en: }` is a text that is missing. */
  #placeholder(schema: Schema, { def }: Schema, value: unknown, path: Path): Slip[] | undefined {
    const isMeant = def.type === 'record' || this.#words.placeholders?.has(schema) === true;
    if (!isMeant || !isMap(value)) return undefined;
    const [[name, inner] = ['', undefined], ...more] = Object.entries(value);
    if (inner !== null || more.length > 0 || this.#yaml.writtenAt([...path, name]) !== undefined)
      return undefined;
    if (def.shape !== undefined && Object.hasOwn(def.shape, name)) return undefined;
    const text = `{${name}}`;
    if (!schema.safeParse(text).success) return this.walk(schema, text, path);
    const why = `${text} is a map in YAML: put a text that begins with a brace in quotes`;
    return this.#sayValue(path, `${why}, ${inQuotes(path, text)}`, text);
  }

  #wrongType(schema: Schema, value: unknown, path: Path, wanted = this.#expected(schema)): Slip[] {
    const written = this.#yaml.writtenAt(path) ?? String(value);
    if (value === null) return this.#empty(schema, path, wanted);
    if (typeof value === 'number' || typeof value === 'boolean') {
      const what = typeof value === 'number' ? 'a number' : 'a boolean';
      if (!isText(schema, written)) return this.#say(path, `${written} is ${what}: write ${wanted}`);
      const said = `${written} is ${what}: put it in quotes, ${inQuotes(path, written)}`;
      return this.#sayValue(path, said, written);
    }
    if (typeof value === 'string') {
      if (/^-?\d+$/.test(value) && schema.safeParse(Number(value)).success)
        return this.#sayValue(path, `"${value}" is a text: write it without quotes`, Number(value));
      return this.#say(path, `${told(value)} is a text: write ${wanted}`);
    }
    if (Array.isArray(value)) return this.#say(path, `is a list: write ${wanted}`);
    if (!isMap(value)) return this.#say(path, `is of a kind that is not read here: write ${wanted}`);
    return this.#say(path, `is a map: write ${wanted}`);
  }

  #empty(schema: Schema, path: Path, wanted: string): Slip[] {
    const lost = this.#yaml.lostAt(path);
    if (lost === undefined || !isText(schema, lost)) return this.#say(path, `is empty: write ${wanted}`);
    const what = lost.startsWith('#') ? 'a comment' : 'an anchor';
    const quotes = `if it is meant as a text put it in quotes, ${inQuotes(path, lost)}`;
    return this.#say(path, `is empty, because ${lost} is ${what} in YAML: ${quotes}`);
  }

  /** The same for one of several kinds of maps that a value under `discriminator` tells apart. */
  #expectedOf(schema: Schema, discriminator: string): string {
    const [first] = schema.def.options ?? [];
    const kind = String(first?.def.shape?.[discriminator]?.def.values?.[0]);
    return this.#words.expected.get(schema) ?? `a map: { ${discriminator}: ${kind}, … }`;
  }

  #expected(schema: Schema): string {
    const words = this.#words.expected.get(schema);
    if (words !== undefined) return words;
    const { def } = schema;
    if (def.innerType !== undefined || def.in !== undefined)
      return this.#expected((def.innerType ?? def.in) as Schema);
    switch (def.type) {
      case 'array':
        return `a list, each entry beginning with "- ": ${this.#expected(def.element as Schema)}`;
      case 'record':
        return 'a map: name: value';
      case 'object':
        return `a map: ${example(def.shape ?? {})}`;
      case 'union':
        if (def.discriminator !== undefined) return this.#expectedOf(schema, def.discriminator);
        return flat(schema)
          .map((option) => this.#expected(option))
          .join(', or ');
      case 'literal':
        return (def.values ?? []).map(String).join(' or ');
      case 'number':
        return wholeNumber(schema);
      case 'boolean':
        return 'true or false';
      default:
        return 'a text';
    }
  }
}

/** The branches of a union, and of those within it. */
function flat(schema: Schema): Schema[] {
  const { def } = schema;
  if (def.type === 'union') return (def.options ?? []).flatMap((option) => flat(option));
  if (def.innerType !== undefined) return flat(def.innerType);
  return [schema];
}

/** Whether a branch is for values of this type, whatever else is wrong with them. */
function takes({ def }: Schema, value: unknown): boolean {
  const type = leafOf(def);
  if (type === 'string') return typeof value === 'string';
  if (type === 'number') return typeof value === 'number';
  if (type === 'boolean') return typeof value === 'boolean';
  if (type === 'array') return Array.isArray(value);
  return (type === 'object' || type === 'record') && isMap(value);
}

/** Whether a value may be one of these with a slip in it: it is there, and a map where only maps are wanted. */
function mayHold(schema: Schema, value: unknown): boolean {
  const isMapOnly = flat(schema).every(({ def }) => def.type === 'object' || def.type === 'record');
  return isMapOnly ? isMap(value) : value !== null;
}

function leafOf(def: Def): string {
  return def.in === undefined ? def.type : leafOf(def.in.def);
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}

/** `{ key: …, label: …, to: … }`: what a map cannot do without. */
function example(shape: Record<string, Schema>): string {
  const needed = Object.entries(shape).filter(([, inner]) => !inner.safeParse(undefined).success);
  const shown = needed.length > 0 ? needed : Object.entries(shape);
  return `{ ${shown.map(([key]) => `${key}: …`).join(', ')} }`;
}

/** `a whole number from 1 to 160`, with the bounds that there are. */
function wholeNumber({ minValue, maxValue }: Schema): string {
  const isBound = (bound: number | null | undefined) =>
    typeof bound === 'number' && Number.isSafeInteger(bound);
  const isWide = (bound: number | null | undefined) =>
    !isBound(bound) || Math.abs(bound ?? 0) === Number.MAX_SAFE_INTEGER;
  const from = isWide(minValue) ? '' : ` from ${minValue}`;
  return `a whole number${from}${isWide(maxValue) ? '' : ` to ${maxValue}`}`;
}

/** Whether a schema takes a text, or its kind of value in quotes. */
function isText(schema: Schema, text: string): boolean {
  return flat(schema).some((branch) => leafOf(branch.def) === 'string' && branch.safeParse(text).success);
}

/** The known key that another one is a slip of, rather one that the map does not have. */
function nearestOf(key: string, map: Record<string, unknown>, known: readonly string[]): string | undefined {
  const missing = known.filter((name) => !Object.hasOwn(map, name));
  return nearest(key, missing) ?? nearest(key, known);
}

/** Keys of a map that stand for a known one which it does not have, and for which nothing else stands. */
function spellings(map: Record<string, unknown>, known: readonly string[]): Map<string, string> {
  const others = Object.keys(map).filter((key) => !known.includes(key));
  const near = others.map((key) => nearestOf(key, map, known));
  return new Map(
    others.flatMap((key, index): [string, string][] => {
      const meant = nearestAlone(key, known);
      const isOnly = near.indexOf(meant) === index && near.lastIndexOf(meant) === index;
      return meant !== undefined && isOnly && !Object.hasOwn(map, meant) ? [[key, meant]] : [];
    }),
  );
}

/** A map with its keys as they were meant. */
function respell(map: Record<string, unknown>, meant: ReadonlyMap<string, string>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(map).map(([key, value]) => [meant.get(key) ?? key, value]));
}

/**
 * A text with commas that is without quotes in a map in braces: YAML reads `label: Tea, milk, sugar` as a text and two
 * keys. Returns what is said of it, and the first of these keys; nothing for other keys.
 */
function commaText(
  key: string,
  map: Record<string, unknown>,
  shape: Record<string, Schema>,
): { text?: string; first?: string } {
  const known = Object.keys(shape);
  const isPart = ([name, value]: [string, unknown] = ['', '']) =>
    value === null && !Object.hasOwn(shape, name) && nearest(name, known) === undefined;
  const entries = Object.entries(map);
  let first = entries.findIndex(([name]) => name === key);
  if (!isPart(entries[first])) return {};
  while (isPart(entries[first - 1])) first -= 1;
  const [before = '', words] = entries[first - 1] ?? [];
  const behind = entries.slice(first);
  const end = behind.findIndex((entry) => !isPart(entry));
  const parts = behind.slice(0, end === -1 ? undefined : end).map(([name]) => name);
  const whole = [words, ...parts].join(', ');
  if (typeof words !== 'string' || shape[before]?.safeParse(whole).success !== true) return {};
  const why = `${escaped(key)} is not a key here: a text with a comma in it needs quotes`;
  return { text: `${why}, perhaps ${before}: ${JSON.stringify(whole)}`, first: parts[0] ?? key };
}

function inQuotes(path: Path, text: string): string {
  const key = path.findLast((part) => typeof part === 'string');
  const quoted = JSON.stringify(text);
  return typeof path.at(-1) === 'number' || key === undefined ? quoted : `${String(key)}: ${quoted}`;
}

/** A value as it is told: cut short, with nothing in it that a terminal obeys. */
function told(value: unknown): string {
  return escaped(JSON.stringify(value) ?? '').slice(0, 60);
}

type LeafIssue = { code: string; message: string; minimum?: unknown; maximum?: unknown; origin?: string };

type Issue = { message: string; errors?: Issue[][] };

function keyProblem(key: string, issue: Issue): string {
  let inner = issue;
  for (let next = issue.errors?.at(-1)?.[0]; next !== undefined; next = next.errors?.at(-1)?.[0])
    inner = next;
  return `${told(key)} cannot be a key here: ${inner.message}`;
}

function leafProblem(value: unknown, { code, message, minimum, maximum, origin }: LeafIssue): string {
  if (code === 'too_small' && origin === 'string') return 'is empty: write a text';
  if (code === 'too_small') return `${String(value)} is too small: the least is ${String(minimum)}`;
  if (code === 'too_big' && origin === 'string')
    return `${told(value)} is too long: at most ${String(maximum)} characters`;
  if (code === 'too_big') return `${String(value)} is too large: the most is ${String(maximum)}`;
  if (code === 'invalid_value') return `${told(value)} cannot stand here: ${message}`;
  return `${told(value)}: ${message}`;
}
