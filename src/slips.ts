import type { z } from 'zod';
import { escaped, type Yaml } from './documents.ts';
import { meaning, nearest } from './flow/nearest.ts';

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
  belongs?(key: string): string | undefined;
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
  checks?: unknown[];
};

type Path = PropertyKey[];

/**
 * Compares a document with its schema and says everything that is wrong, one line each, in the words of a person: file,
 * line, place, what was found, what to write instead. It sees what zod would refuse, and numbers that are not kept as
 * they are written.
 */
export function slipsIn(schema: z.ZodType, yaml: Yaml, file: string, vocabulary: Vocabulary): string[] {
  const found = new Walker(yaml, vocabulary).walk(schema as Schema, yaml.plain, []);
  // A rule that the walk does not know: better in the words of the rule than not at all.
  const others = found.length > 0 ? [] : (schema.safeParse(yaml.plain).error?.issues ?? []);
  const slips = [
    ...found,
    ...others.map(({ path, message }) => ({ path, problem: message, line: yaml.lineOf(path) })),
  ];
  // What is missing from the whole document has no line, and is said last.
  const rank = ({ line }: Slip) => (line === '' ? Number.MAX_SAFE_INTEGER : Number(line.slice(1)));
  const inOrder = slips.toSorted((a, b) => rank(a) - rank(b));
  const lines = inOrder.map(
    ({ path, problem, line }) => `${file}${line}: ${path.join('.') || 'document'}: ${problem}`,
  );
  return [...new Set(lines)];
}

/** `line`: `:7`, or empty where there is none. */
type Slip = { path: Path; problem: string; line: string };

class Walker {
  readonly #yaml: Yaml;
  readonly #words: Vocabulary;

  constructor(yaml: Yaml, vocabulary: Vocabulary) {
    this.#yaml = yaml;
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
    return [{ path, problem, line: line || this.#yaml.lineOf(path) }];
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
    const { [near]: words, ...rest } = value;
    const said = `has none of ${one}: ${near}: did you mean ${meant}?`;
    return [
      ...this.#say(path, said, this.#yaml.lineOfKey(path, near)),
      ...this.#kind(schema, { ...rest, [meant]: words ?? near }, path),
    ];
  }

  #union(schema: Schema, value: unknown, path: Path): Slip[] {
    const { discriminator } = schema.def;
    if (discriminator !== undefined) return this.#discriminated(schema, discriminator, value, path);
    const options = flat(schema);
    if (options.some(({ def }) => def.type === 'literal' && def.values?.includes(value))) return [];
    const branch = options.find((option) => takes(option, value));
    if (branch === undefined) return this.#wrongType(schema, value, path);
    const odd = this.#miswritten(schema, value, path) ?? this.#placeholder(branch, value, path);
    return odd ?? this.walk(branch, value, path);
  }

  #discriminated(schema: Schema, discriminator: string, value: unknown, path: Path): Slip[] {
    const options = schema.def.options ?? [];
    const kindOf = ({ def }: Schema) => String(def.shape?.[discriminator]?.def.values?.[0]);
    const kinds = options.map(kindOf);
    if (!isMap(value))
      return this.#wrongType(schema, value, path, `a map: { ${discriminator}: ${kinds[0]}, … }`);
    const kind = value[discriminator];
    const branch = options.find((option) => kindOf(option) === kind);
    if (branch !== undefined) return this.#map(branch, value, path);
    const at = [...path, discriminator];
    if (kind !== undefined)
      return this.#say(at, `${told(kind)} is none of ${kinds.join(', ')}${meaning(String(kind), kinds)}`);
    const near = Object.keys(value).find((key) => nearest(key, [discriminator]) !== undefined);
    const meant = near === undefined ? '' : `; ${near}: did you mean ${discriminator}?`;
    return this.#say(at, `is missing: write one of ${kinds.join(', ')}${meant}`);
  }

  #map(schema: Schema, value: unknown, path: Path): Slip[] {
    const shape = schema.def.shape ?? {};
    if (!isMap(value)) return this.#wrongType(schema, value, path);
    const known = Object.keys(shape);
    const others = Object.keys(value).filter((key) => !Object.hasOwn(shape, key));
    // A misspelt key is said once: not also that the right one is missing.
    const meant = others.map((key) => nearest(key, known));
    return [
      ...others.flatMap((key) =>
        this.#say(path, this.#unknown(key, value, shape), this.#yaml.lineOfKey(path, key)),
      ),
      ...Object.entries(shape).flatMap(([key, inner]) => {
        if (Object.hasOwn(value, key)) return this.walk(inner, value[key], [...path, key]);
        return meant.includes(key) ? [] : this.walk(inner, undefined, [...path, key]);
      }),
      ...this.#own(schema, value, path),
    ];
  }

  #unknown(key: string, map: Record<string, unknown>, shape: Record<string, Schema>): string {
    const is = `${escaped(key)} is not a key here`;
    const known = Object.keys(shape);
    if (map[key] === null && nearest(key, known) === undefined) {
      const entries = Object.entries(map);
      const [before, text] = entries[entries.findIndex(([name]) => name === key) - 1] ?? [];
      if (typeof text === 'string')
        return `${is}: a text with a comma in it needs quotes, perhaps ${before}: ${JSON.stringify(`${text}, ${key}`)}`;
    }
    const missing = known.filter((name) => !Object.hasOwn(map, name));
    const meant = nearest(key, missing) ?? nearest(key, known);
    if (meant !== undefined) return `${is}: did you mean ${meant}?`;
    return `${is}: ${this.#words.belongs?.(key) ?? 'remove it'}; keys here are ${known.join(', ')}`;
  }

  #record(schema: Schema, value: unknown, path: Path): Slip[] {
    const { keyType, valueType } = schema.def;
    if (!isMap(value)) return this.#wrongType(schema, value, path);
    const inner = Object.entries(value).flatMap(([key, each]) => {
      const at = [...path, key];
      const issue = keyType?.safeParse(key).error?.issues[0];
      if (issue !== undefined)
        return this.#say(at, keyProblem(key, issue as Issue), this.#yaml.lineOfKey(path, key));
      return valueType === undefined ? [] : this.walk(valueType, each, at);
    });
    return [...inner, ...this.#own(schema, value, path)];
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

  /** A key that YAML reads as a number and would print differently: `00` as 0, `01` as 1. */
  #miswritten(schema: z.ZodType, value: unknown, path: Path): Slip[] | undefined {
    if (typeof value !== 'number' || this.#words.asWritten?.has(schema) !== true) return undefined;
    const written = this.#yaml.writtenAt(path);
    if (written === undefined || written === String(value)) return undefined;
    return this.#say(
      path,
      `${written} is read as the number ${value}: put it in quotes, ${inQuotes(path, written)}`,
    );
  }

  /** `label: {name}`: a placeholder without quotes is a map to YAML. */
  #placeholder({ def }: Schema, value: unknown, path: Path): Slip[] | undefined {
    if (def.type !== 'record' || !isMap(value)) return undefined;
    const [[name, inner] = ['', undefined], ...more] = Object.entries(value);
    if (inner !== null || more.length > 0) return undefined;
    const text = `{${name}}`;
    const why = `${text} is a map in YAML: put a text that begins with a brace in quotes`;
    return this.#say(path, `${why}, ${inQuotes(path, text)}`);
  }

  #wrongType(schema: Schema, value: unknown, path: Path, wanted = this.#expected(schema)): Slip[] {
    return this.#say(path, this.#typeProblem(schema, value, path, wanted));
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
    return `is a map: write ${wanted}`;
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
