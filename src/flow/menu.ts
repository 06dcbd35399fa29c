import { z } from 'zod';
import { isRegExp } from './pattern.ts';
import { SEPTET_BUDGET, SEPTET_LIMIT } from './text.ts';
import { folded } from './typed.ts';

/** A language by its code (ISO 639-1). */
const Language = z.string().regex(/^[a-z]{2}$/, 'a language is two small letters, such as en');

/** A text as subscribers read it: one for all languages, or one per language of the document. */
const Text = z.union([z.string().min(1), z.record(Language, z.string().min(1))]);

/** A key as it is typed and printed: digits, `*`, or a word. Once published it does not move. */
const Key = z.union([
  z.int().min(0).transform(String),
  z
    .string()
    .regex(
      /^(\d{1,3}|\*|[\p{L}\p{N}]{1,20})$/u,
      'a key is digits, * or one word of up to 20 letters and digits',
    ),
]);

/** A key of the engine, or none: then what it would do is an answer like any other. */
const PlaceKey = z.union([Key, z.literal(false)]);

const Name = z.string().regex(/^[A-Za-z][A-Za-z0-9_]{0,39}$/, 'a name is letters, digits and _');

/** A variable of the session, or a value of a fact: `name`, `details.name`. */
const Value = z.string().regex(/^[A-Za-z][\w]*(\.[A-Za-z]\w*)?$/, 'a value is a name, or fact.name');

/** What happens on the way: the kind of the effect, and its arguments with `{placeholders}`. */
const Effect = z
  .record(Name, z.record(Name, Text))
  .refine(
    (effect) => Object.keys(effect).length === 1,
    'an effect is one name with its arguments: write { name: { argument: "text" } }, and each further effect in an entry of its own',
  );

/** What a value must be: this text, or a number below another value. */
const Condition = z.union([z.string(), z.strictObject({ below: Value })]);

/**
 * Where an answer leads. `when` names values that must be as said; the first way that holds is taken.
 * With `invalid` the answer counts as an invalid one, and the line stands above the next screen.
 */
const Way = z.strictObject({
  when: z.record(Value, Condition).optional(),
  to: Name,
  /** Values that the session keeps from here on: the effects and the screen that follow see them. */
  set: z.record(Name, z.string()).optional(),
  effects: z.array(Effect).optional(),
  invalid: Text.optional(),
});

/** A node, one of the engine's own places (`back`, `home`), or ways of which the first that holds is taken. */
const To = z.union([Name, z.array(Way).min(1)]);

const Option = z.strictObject({
  key: Key,
  label: Text,
  to: To,
  /** Values that the choice keeps in the session. */
  set: z.record(Name, z.string()).optional(),
  /** It can be chosen only on a screen that was sent: no walk passes it (docs/contract.md section 1). */
  seen: z.boolean().optional(),
  /** The session goes on in this language; the next dial knows nothing of it. */
  language: Language.optional(),
});

const Options = z.array(Option).min(1);

/** Facts that must be loaded before the screen can be shown. */
const facts = z.array(Name).optional();

/** CON: a question with fixed answers. */
const Choose = z.strictObject({
  choose: Text,
  facts,
  options: Options,
  /** The line above the screen when the choice was not on it, and the END after the last try: instead of the service's. */
  invalid: Text.optional(),
  farewell: Text.optional(),
});

/** CON: something to read, with ways onward. */
const Say = z.strictObject({ say: Text, facts, options: Options });

/**
 * What may be typed. Secrets (`pin`, `newPin`, `pinAgain`) never reach the core: the shell hands it a
 * verdict instead, which ways ask for as `verdict`.
 */
const Answer = z.discriminatedUnion('kind', [
  /** Anything, `*` included. */
  z.strictObject({
    kind: z.literal('text'),
    min: z.int().min(0).default(1),
    max: z.int().min(1).max(160),
  }),
  z.strictObject({ kind: z.literal('integer'), min: z.int().default(0), max: z.int() }),
  /** An amount of money in units of the currency, kept in minor units; at most two decimals. */
  z.strictObject({ kind: z.literal('amount'), min: z.int().min(0).default(1), max: z.int().min(1) }),
  /** What a regular expression matches from its first to its last character. */
  z.strictObject({
    kind: z.literal('pattern'),
    pattern: z.string().refine(isRegExp, 'is no regular expression'),
    max: z.int().min(1).max(160),
    /** An answer that matches, for the checks. */
    sample: z.string().min(1),
    /** The answer may contain `*`, so the screen hears the whole of what is left of a text. */
    stars: z.boolean().default(false),
  }),
  /** A person's name in any script: letters, spaces, `'`, `-`, `.`. */
  z.strictObject({ kind: z.literal('name'), max: z.int().min(1).max(80).default(40) }),
  z.strictObject({ kind: z.literal('email'), max: z.int().min(6).max(100).default(60) }),
  /** A phone number, kept in E.164; national ones are read in the country of the caller. */
  z.strictObject({ kind: z.literal('phone') }),
  /** A Customer ID or a code for linking a phone: 9 letters and digits, any case. */
  z.strictObject({ kind: z.literal('customerId') }),
  /** The PIN of the account: verdicts `right`, `change`, `link`, `linkAndChange`, `wrong`, `locked`. */
  z.strictObject({ kind: z.literal('pin') }),
  /** A PIN to be: verdicts `good`, `weak`, `same` as the one of the account that is logged in. */
  z.strictObject({ kind: z.literal('newPin') }),
  /** The same once more: verdicts `same`, `different`. */
  z.strictObject({ kind: z.literal('pinAgain'), of: Name }),
]);

/** CON: a typed answer, kept in the session under `save`. */
const Ask = z.strictObject({
  ask: Text,
  facts,
  answer: Answer,
  save: Name.optional(),
  /** The line above the screen when the answer was none of this kind. */
  invalid: Text.optional(),
  to: To,
  options: z.array(Option).default([]),
});

/**
 * CON: options from a fact, numbered from 1 on each page. What was shown under a key is what the key
 * means, whatever the fact says by then (decision 10).
 */
const List = z.strictObject({
  list: Text,
  facts,
  /** The fact whose rows are listed; texts name their values as `{row.value}`. */
  from: Name,
  label: Text,
  /** Rows on one page at the most; fewer where they do not fit. */
  per: z.int().min(1).max(9).default(5),
  /** Values of the chosen row that are kept in the session. */
  set: z.record(Name, z.string()),
  to: To,
  /** Keys that turn the page here, instead of the service's. */
  more: z.strictObject({ key: Key, label: Text }).optional(),
  previous: z.strictObject({ key: Key, label: Text }).optional(),
  /** The words where there is no row. */
  empty: Text,
  options: Options,
});

/** END: the last words. */
const End = z.strictObject({ end: Text, facts });

const Node = z.union([Choose, List, Say, Ask, End]);

/** A service is named like its folder. */
export const SERVICE_NAME = /^[a-z][a-z0-9-]{0,29}$/;
export const SERVICE_RULE = 'the name of a service is a small letter and up to 29 small letters, digits or -';

const ServiceName = z.string().regex(SERVICE_NAME, SERVICE_RULE);

/** Names that are places of the engine rather than nodes of a document. */
export const PLACES = ['back', 'home'] as const;

/**
 * A service as a document. `nodes` keeps the order of the file: the position of a node is the small
 * integer under which turns count it, so new nodes of a published service go at the end.
 */
export const Menu = z.strictObject({
  service: ServiceName,
  languages: z.array(Language).min(1).default(['en']),
  root: Name,
  /** Callers who are known by no phone, a partner's customers, may use it where this is false. */
  needsPhone: z.boolean().default(true),
  /**
   * The service leaves no trace on a phone that is lent or lost (docs/contract.md section 7): no message, no resume offer, no
   * remembered language; and operators' look at a session shows neither number nor screen.
   */
  private: z.boolean().default(false),
  budget: z.int().min(40).max(SEPTET_LIMIT).default(SEPTET_BUDGET),
  /** One line above a screen that is shown again because the choice was not on it. */
  invalid: Text.default({
    en: 'Invalid choice. Reply with one of:',
    fr: 'Choix non valable. Répondez par:',
  }),
  /** So many invalid answers in a row end the session; after a single one, nothing is shown again. */
  tries: z.int().min(1).max(3).default(3),
  /** The END after too many invalid answers in a row. */
  farewell: Text.default({
    en: 'Too many invalid choices. Please dial again.',
    fr: 'Trop de choix non valables. Composez le code à nouveau.',
  }),
  /** The engine's own keys, for services whose carriers take some for themselves. */
  keys: z
    .strictObject({
      back: PlaceKey.default('0'),
      home: PlaceKey.default('00'),
      more: Key.default('98'),
      previous: Key.default('99'),
    })
    .prefault({}),
  more: Text.default({ en: 'More', fr: 'Suite' }),
  previous: Text.default({ en: 'Previous', fr: 'Avant' }),
  /** Seconds in which a subscriber who was cut off and dials again is asked whether to go on (decision 25). Absent: never. */
  resume: z.int().min(30).max(86_400).optional(),
  cutOff: Text.default({ en: 'You were cut off.', fr: 'Vous avez été coupé.' }),
  goOn: Text.default({ en: 'Continue', fr: 'Continuer' }),
  startAgain: Text.default({ en: 'Start again', fr: 'Recommencer' }),
  /** Keys that carriers answer themselves: nothing of ours may be on them. */
  carrierKeys: z.array(Key).default([]),
  nodes: z.record(Name, Node),
});

/** The key that says of which kind a node is, in the order of the schema. */
export const NODE_KINDS = ['choose', 'list', 'say', 'ask', 'end'] as const;

/** What a document may hold, in words for those who write it; `KEYS` are kept as they are written. */
export const EXPECTED: ReadonlyMap<z.ZodType, string> = new Map<z.ZodType, string>([
  [Text, 'a text, or one for each language: { en: …, fr: … }'],
  [Key, 'a key: digits, "*" or one word of up to 20 letters and digits'],
  [PlaceKey, 'a key: digits, "*" or one word of up to 20 letters and digits; or false for none'],
  [Name, 'a name: letters, digits and _'],
  [Language, 'a language: two small letters, such as en'],
  [Value, 'the name of a value: name, or fact.name'],
  [Condition, 'the text that the value must be, in quotes, or { below: name of a value }'],
  [To, 'the name of a node, or a list of ways: [{ to: … }, …]'],
  [Way, 'a way: { to: … }, or { when: { name: "text" }, to: … }'],
  [Option, 'an option: { key: …, label: …, to: … }'],
  [Options, 'options, each on a line that begins with "- ": - { key: …, label: …, to: … }'],
  [Answer, 'what may be typed, answer: { kind: text, min: 1, max: 40 }'],
  [ServiceName, 'the name of the service: a small letter and up to 29 small letters, digits or -'],
  [Effect, 'an effect: { name: { argument: "text" } }'],
]);
export const KEYS: ReadonlySet<z.ZodType> = new Set<z.ZodType>([Key, PlaceKey]);
export const NODE = Node;

export type Menu = z.infer<typeof Menu>;
export type Node = z.infer<typeof Node>;
export type Ask = z.infer<typeof Ask>;
export type List = z.infer<typeof List>;
export type Answer = z.infer<typeof Answer>;
export type Option = z.infer<typeof Option>;
export type Way = z.infer<typeof Way>;
export type Condition = z.infer<typeof Condition>;
export type To = z.infer<typeof To>;
export type Text = z.infer<typeof Text>;

/** The line above a node's screen when what was typed is no answer, where it is not the service's. */
export function invalidOf(menu: Menu, node: Node): Text {
  return ('ask' in node || 'choose' in node ? node.invalid : undefined) ?? menu.invalid;
}

/** The text in one language; a document that misses a translation was refused when it was read. */
export function inLanguage(text: Text, language: string): string {
  return typeof text === 'string' ? text : (text[language] ?? Object.values(text)[0] ?? '');
}

/** The options that a node prints; an `end` has none. */
export function optionsOf(node: Node): Option[] {
  return 'end' in node ? [] : node.options;
}

/** The words of a node, without its options. */
export function wordsOf(node: Node): Text {
  if ('choose' in node) return node.choose;
  if ('list' in node) return node.list;
  if ('say' in node) return node.say;
  if ('ask' in node) return node.ask;
  return node.end;
}

/** Every way out of a place, the plain one written like the others. */
export function waysOf(to: To): Way[] {
  return typeof to === 'string' ? [{ to }] : to;
}

/** Whether a key was typed: letters count in either case, typographic variants as what they stand for. */
export function sameKey(key: string, typed: string): boolean {
  return comparedKey(key) === comparedKey(typed);
}

/** A key as it is compared. */
export function comparedKey(key: string): string {
  return folded(key).toLowerCase().normalize('NFC');
}

/** The values that a way's conditions name, on either side. */
export function namesIn({ when }: Way): string[] {
  return Object.entries(when ?? {}).flatMap(([name, condition]) =>
    typeof condition === 'string' ? [name] : [name, condition.below],
  );
}

/** The engine's own keys that lead somewhere, for services that have them, and where. */
export function placeKeys(menu: Menu): { place: (typeof PLACES)[number]; key: string }[] {
  return PLACES.flatMap((place) => {
    const key = menu.keys[place];
    return key === false ? [] : [{ place, key }];
  });
}

/** A node of the document by its name, where there is one. */
export function nodeNamed(menu: Menu, name: string): Node | undefined {
  return Object.hasOwn(menu.nodes, name) ? menu.nodes[name] : undefined;
}

/** Every way out of a node, by its options and by its answer. */
export function waysFrom(node: Node): Way[] {
  const byOption = optionsOf(node).flatMap((option) => waysOf(option.to));
  return 'to' in node ? [...byOption, ...waysOf(node.to)] : byOption;
}

/** The answer is a secret: the shell hears it, not the core. */
export function isSecret(answer: Answer): boolean {
  return answer.kind === 'pin' || answer.kind === 'newPin' || answer.kind === 'pinAgain';
}
