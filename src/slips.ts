import type { z } from 'zod';
import { escaped, type Yaml } from './documents.ts';

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
  /** What else is wrong with a key that a map does not have: where it belongs. */
  belongs?(key: string, schema: z.ZodType): string | undefined;
};

type Schema = z.ZodType & { def: Def };
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
  entries?: Record<string, unknown>;
};

type Path = PropertyKey[];

/**
 * Compares a document with its schema and says everything that is wrong, one line each, in the words of a person: file,
 * line, place, what was found, what to write instead. It sees what zod would refuse, and numbers that are not kept as
 * they are written.
 */
export function slipsIn(schema: z.ZodType, yaml: Yaml, file: string, vocabulary: Vocabulary): string[] {
  const slips: string[] = [];
  const say = (path: Path, problem: string, line = yaml.lineOf(path)) =>
    slips.push(`${file}${line}: ${path.join('.') || 'document'}: ${problem}`);
  const walker = new Walker(yaml, vocabulary, say);
  walker.walk(schema as Schema, yaml.plain, []);
  if (slips.length > 0) return [...new Set(slips)];
  // A rule that the walk does not know: better in the words of the rule than not at all.
  const parsed = schema.safeParse(yaml.plain);
  for (const { path, message } of parsed.error?.issues ?? []) say(path, message);
  return slips;
}

class Walker {
  readonly #yaml: Yaml;
  readonly #words: Vocabulary;
  readonly #say: (path: Path, problem: string, line?: string) => void;

  constructor(yaml: Yaml, vocabulary: Vocabulary, say: (path: Path, problem: string, line?: string) => void) {
    this.#yaml = yaml;
    this.#words = vocabulary;
    this.#say = say;
  }

  walk(schema: Schema, value: unknown, path: Path): void {
    const { def } = schema;
    if (def.innerType !== undefined) {
      if (value !== undefined) this.walk(def.innerType, value, path);
      return;
    }
    if (value === undefined) return this.#say(path, `is missing: write ${this.#expected(schema)}`);
    if (this.#words.kinds?.of === schema) return this.#kind(schema, value, path);
    if (def.type === 'union') return this.#union(schema, value, path);
    if (def.type === 'object') return this.#map(schema, value, path);
    if (def.type === 'record') return this.#record(schema, value, path);
    if (def.type === 'array') return this.#list(schema, value, path);
    this.#leaf(schema, value, path);
  }

  /** One of several kinds of maps: the key that stands there says which. */
  #kind(schema: Schema, value: unknown, path: Path): void {
    const keys = this.#words.kinds?.keys ?? [];
    const one = `${keys.slice(0, -1).join(', ')} or ${keys.at(-1)}`;
    if (!isMap(value)) return this.#wrongType(schema, value, path, `a map with one of ${one}`);
    const there = keys.filter((key) => Object.hasOwn(value, key));
    const [first, ...more] = there;
    if (first === undefined) {
      const near = Object.keys(value).find((key) => nearest(key, keys) !== undefined);
      const found = near === undefined ? '' : `; ${near}: did you mean ${nearest(near, keys)}?`;
      const line = near === undefined ? undefined : this.#yaml.lineOfKey(path, near);
      return this.#say(path, `has none of ${one}: write one of them with its words${found}`, line);
    }
    if (more.length > 0)
      this.#say(
        path,
        `is ${there.join(' and ')} at once: keep one of them here, and give the other a name of its own`,
        this.#yaml.lineOfKey(path, more[0] ?? first),
      );
    const branch = (schema.def.options ?? []).find(({ def }) => def.shape && Object.hasOwn(def.shape, first));
    if (branch === undefined) return;
    const others = Object.fromEntries(Object.entries(value).filter(([key]) => !more.includes(key)));
    this.#map(branch, others, path);
  }

  #union(schema: Schema, value: unknown, path: Path): void {
    const { discriminator } = schema.def;
    const options = flat(schema);
    if (discriminator !== undefined) return this.#discriminated(schema, discriminator, value, path);
    const literal = options.find(({ def }) => def.type === 'literal' && def.values?.includes(value));
    if (literal !== undefined) return;
    const fitting = options.filter((option) => takes(option, value));
    const [branch] = fitting;
    if (branch === undefined) return this.#wrongType(schema, value, path);
    if (typeof value === 'number' && this.#miswritten(schema, value, path)) return;
    if (isMap(value) && branch.def.type === 'record' && this.#placeholder(value, path)) return;
    // Of several ways to write a text one is enough.
    if (fitting.length > 1 && fitting.some((option) => option.safeParse(value).success)) return;
    this.walk(branch, value, path);
  }

  #discriminated(schema: Schema, discriminator: string, value: unknown, path: Path): void {
    const options = schema.def.options ?? [];
    const kindOf = ({ def }: Schema) => String(def.shape?.[discriminator]?.def.values?.[0]);
    const kinds = options.map(kindOf);
    const example = `{ ${discriminator}: ${kinds[0]}, … }`;
    if (!isMap(value)) return this.#wrongType(schema, value, path, `a map: ${example}`);
    const kind = value[discriminator];
    const branch = options.find((option) => kindOf(option) === kind);
    if (branch !== undefined) return this.#map(branch, value, path);
    const at = [...path, discriminator];
    if (kind === undefined) {
      const near = Object.keys(value).find((key) => nearest(key, [discriminator]) !== undefined);
      const meant = near === undefined ? '' : `; ${near}: did you mean ${discriminator}?`;
      return this.#say(at, `is missing: write one of ${kinds.join(', ')}${meant}`);
    }
    this.#say(at, `${told(kind)} is none of ${kinds.join(', ')}${meaning(String(kind), kinds)}`);
  }

  #map(schema: Schema, value: unknown, path: Path): void {
    const shape = schema.def.shape ?? {};
    if (!isMap(value)) return this.#wrongType(schema, value, path);
    const known = Object.keys(shape);
    const unknown = Object.keys(value).filter((key) => !Object.hasOwn(shape, key));
    for (const key of unknown) {
      const line = this.#yaml.lineOfKey(path, key);
      this.#say(path, this.#unknown(key, value[key], known, value, schema), line || undefined);
    }
    for (const [key, inner] of Object.entries(shape)) {
      const there = Object.hasOwn(value, key);
      // A misspelt key is said once: not also that the right one is missing.
      if (!there && unknown.some((other) => nearest(other, known) === key)) continue;
      this.walk(inner, there ? value[key] : undefined, [...path, key]);
    }
    this.#own(schema, value, path);
  }

  #unknown(key: string, value: unknown, known: string[], map: Record<string, unknown>, schema: Schema): string {
    const is = `${key} is not a key here`;
    if (value === null) {
      const texts = Object.entries(map).filter(([, text]) => typeof text === 'string');
      const [before, text] = texts.at(-1) ?? [];
      if (nearest(key, known) === undefined && before !== undefined)
        return `${is}: a text with a comma in it needs quotes, perhaps ${before}: ${JSON.stringify(`${String(text)}, ${key}`)}`;
    }
    const missing = known.filter((name) => !Object.hasOwn(map, name));
    const meant = nearest(key, missing) ?? nearest(key, known);
    if (meant !== undefined) return `${is}: did you mean ${meant}?`;
    const elsewhere = this.#words.belongs?.(key, schema);
    return `${is}: ${elsewhere ?? 'remove it'}; keys here are ${known.join(', ')}`;
  }

  #record(schema: Schema, value: unknown, path: Path): void {
    const { keyType, valueType } = schema.def;
    if (!isMap(value)) return this.#wrongType(schema, value, path);
    for (const [key, inner] of Object.entries(value)) {
      const at = [...path, key];
      const issue = keyType?.safeParse(key).error?.issues[0];
      if (issue !== undefined) this.#say(at, keyProblem(key, issue as Issue), this.#yaml.lineOfKey(path, key) || undefined);
      else if (valueType !== undefined) this.walk(valueType, inner, at);
    }
    this.#own(schema, value, path);
  }

  #list(schema: Schema, value: unknown, path: Path): void {
    const { element } = schema.def;
    if (!Array.isArray(value)) return this.#wrongType(schema, value, path);
    if (element !== undefined)
      for (const [index, inner] of value.entries()) this.walk(element, inner, [...path, index]);
    if (value.length === 0 && !schema.safeParse(value).success)
      this.#say(path, `is an empty list: write ${this.#expected(schema)}`);
  }

  /** Rules of a map as a whole, where everything in it is as it should be. */
  #own(schema: Schema, value: unknown, path: Path): void {
    for (const issue of schema.safeParse(value).error?.issues ?? [])
      if (issue.code === 'custom' && issue.path.length === 0) this.#say(path, issue.message);
  }

  #leaf(schema: Schema, value: unknown, path: Path): void {
    const issues = schema.safeParse(value).error?.issues ?? [];
    if (typeof value === 'number' && this.#miswritten(schema, value, path)) return;
    const [issue] = issues;
    if (issue === undefined) return;
    if (issue.code === 'invalid_type') return this.#wrongType(schema, value, path);
    this.#say(path, leafProblem(value, issue as LeafIssue));
  }

  /** A key that YAML reads as a number and would print differently: `00` as 0, `01` as 1. */
  #miswritten(schema: z.ZodType, value: number, path: Path): boolean {
    if (this.#words.asWritten?.has(schema) !== true) return false;
    const written = this.#yaml.writtenAt(path);
    if (written === undefined || written === String(value)) return false;
    this.#say(path, `${written} is read as the number ${value}: put it in quotes, ${inQuotes(path, written)}`);
    return true;
  }

  /** `label: {name}`: a placeholder without quotes is a map to YAML. */
  #placeholder(value: Record<string, unknown>, path: Path): boolean {
    const [[name, inner] = ['', undefined], ...more] = Object.entries(value);
    if (inner !== null || more.length > 0) return false;
    const text = `{${name}}`;
    this.#say(path, `${text} is a map in YAML: put a text that begins with a brace in quotes, ${inQuotes(path, text)}`);
    return true;
  }

  #wrongType(schema: Schema, value: unknown, path: Path, wanted = this.#expected(schema)): void {
    this.#say(path, this.#typeProblem(schema, value, path, wanted));
  }

  #typeProblem(schema: Schema, value: unknown, path: Path, wanted: string): string {
    const written = this.#yaml.writtenAt(path) ?? String(value);
    if (value === null) {
      const lost = this.#yaml.lostAt(path);
      if (lost === undefined) return `is empty: write ${wanted}`;
      const what = lost.startsWith('#') ? 'a comment' : 'an anchor';
      return `is empty, because ${lost} is ${what} in YAML: if it is meant as a text put it in quotes, ${inQuotes(path, lost)}`;
    }
    const texts = flat(schema).filter(({ def }) => leafOf(def) === 'string');
    const isText = texts.some((text) => text.safeParse(written).success);
    if (typeof value === 'number' || typeof value === 'boolean') {
      const what = typeof value === 'number' ? 'a number' : 'a boolean';
      return isText
        ? `${written} is ${what}: put it in quotes, ${inQuotes(path, written)}`
        : `${written} is ${what}: write ${wanted}`;
    }
    if (typeof value === 'string') {
      const isNumber = flat(schema).some(({ def }) => leafOf(def) === 'number');
      if (isNumber && /^-?\d+$/.test(value)) return `"${value}" is a text: write it without quotes`;
      return `${told(value)} is a text: write ${wanted}`;
    }
    if (Array.isArray(value)) return `is a list: write ${wanted}`;
    if (!isMap(value)) return `is of a kind that is not read here: write ${wanted}`;
    const list = flat(schema).some(({ def }) => def.type === 'array');
    return list ? `is a map: write ${wanted}; one entry is a list too: begin it with "- "` : `is a map: write ${wanted}`;
  }

  #expected(schema: Schema): string {
    const words = this.#words.expected.get(schema);
    if (words !== undefined) return words;
    const { def } = schema;
    if (def.innerType !== undefined || def.in !== undefined)
      return this.#expected((def.innerType ?? def.in) as Schema);
    switch (def.type) {
      case 'array':
        return `a list of at least one entry, each beginning with "- ": ${this.#expected(def.element as Schema)}`;
      case 'record':
        return 'a map: name: value';
      case 'object':
        return `a map: ${example(def.shape ?? {})}`;
      case 'union':
        return flat(schema)
          .map((option) => this.#expected(option))
          .join(', or ');
      case 'literal':
        return (def.values ?? []).map(String).join(' or ');
      case 'number':
        return 'a whole number';
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

function leafOf(def: Def): string {
  return def.in === undefined ? def.type : leafOf(def.in.def);
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}

/** `{ key: …, label: …, to: … }`: what a map cannot do without. */
function example(shape: Record<string, Schema>): string {
  const needed = Object.entries(shape).filter(([, inner]) => !inner.safeParse(undefined).success);
  return `{ ${needed.map(([key]) => `${key}: …`).join(', ')} }`;
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
  for (let next = issue.errors?.at(-1)?.[0]; next !== undefined; next = next.errors?.at(-1)?.[0]) inner = next;
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

function meaning(word: string, known: readonly string[]): string {
  const near = nearest(word, known);
  return near === undefined ? '' : `: did you mean ${near}?`;
}

/** The known word that another one is a slip of: at most a third of its letters differ, the case never counts. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const [best] = known
    .map((other) => ({ other, far: distance(word.toLowerCase(), other.toLowerCase()) }))
    .filter(({ other, far }) => far <= Math.max(1, Math.floor(Math.max(word.length, other.length) / 3)))
    .sort((a, b) => a.far - b.far);
  return best?.other;
}

/** Letters to insert, remove, replace or swap with the next one, until one word is the other. */
function distance(one: string, two: string): number {
  const rows: number[][] = [Array.from({ length: two.length + 1 }, (_, column) => column)];
  const at = (row: number, column: number) => rows[row]?.[column] ?? 0;
  for (let i = 1; i <= one.length; i += 1) {
    const row = [i];
    rows.push(row);
    for (let j = 1; j <= two.length; j += 1) {
      const same = one[i - 1] === two[j - 1] ? 0 : 1;
      let best = Math.min(at(i - 1, j) + 1, at(i, j - 1) + 1, at(i - 1, j - 1) + same);
      if (i > 1 && j > 1 && one[i - 1] === two[j - 2] && one[i - 2] === two[j - 1])
        best = Math.min(best, at(i - 2, j - 2) + 1);
      row[j] = best;
    }
  }
  return at(one.length, two.length);
}
