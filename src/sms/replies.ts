import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { commentProblem, readYaml } from '../documents.ts';
import { isBlank } from '../flow/outgoing.ts';
import { cutToSegments, segmentsOf } from '../flow/text.ts';
import { folded } from '../flow/typed.ts';
import { slipsIn, type Vocabulary } from '../slips.ts';

/** The document of automatic answers may not be used; every problem stands in `problems`, one readable line each. */
export class RepliesError extends Error {
  readonly code = 'replies_refused';
  readonly problems: string[];
  constructor(problems: string[]) {
    super(problems.join('\n'));
    this.problems = problems;
  }
}

/** SMS that the words of one answer may take, with any short code filled in. */
const MOST_SEGMENTS = 4;
/** SMS that an answer with a quotation takes; where its own words take more, the quotation adds none. */
const QUOTING_SEGMENTS = 2;
/** The longest number that stands for {shortCode}: E.164 with its plus. */
const LONGEST_CODE = '+000000000000000';

/** Words of a command or of a keyword, `OPT OUT`. */
const MOST_WORDS = 4;

/** What a part of our own answers must have to be known by; shorter ones are known whole. */
const TELLING = 12;
/** So much of that part is looked for: the far side may have cut it. */
const TELLING_MOST = 20;

const PLACES = /\{(text|shortCode)\}/g;

const Words = z.string().superRefine((words, context) => {
  if (words !== '' && isBlank(words))
    context.addIssue({ code: 'custom', message: 'is blank: write the words, or "" for no answer' });
  const segments = segmentsOf(filled(words, '', LONGEST_CODE));
  if (segments > MOST_SEGMENTS) {
    const message = `takes ${segments} SMS, at most ${MOST_SEGMENTS}: one SMS of several has 153 characters, or 67 where one of them is not in the GSM alphabet`;
    context.addIssue({ code: 'custom', message });
  }
  const odd = words.replaceAll(PLACES, '').match(/\{[^}]*\}?/)?.[0];
  if (odd !== undefined) {
    context.addIssue({ code: 'custom', message: `${odd} is no place: {text} and {shortCode} are` });
  }
});

const Unquoted = Words.refine((words) => !words.includes('{text}'), 'must not quote the {text}');

const Reply = z.union([
  Words.refine(
    (words) => !words.includes('{text}'),
    'what quotes the {text} is written { reply: …, unquoted: … }, with what to answer whoever cannot be told from others',
  ).transform((reply) => ({ reply, unquoted: reply })),
  z.strictObject({ reply: Words, unquoted: Unquoted }),
]);

const Word = z
  .string()
  .refine(
    (word) => wordsOf(word).length > 0 && wordsOf(word).length <= MOST_WORDS,
    `must be 1 to ${MOST_WORDS} words, of letters or digits`,
  );

const Command = z.strictObject({
  first: z.array(Word).min(1),
  alone: z.array(Word),
  reply: Unquoted,
});

const AnyOf = (name: z.ZodType<string>) => z.union([z.literal('*'), name]);

const ByWord = z.record(AnyOf(Word) as z.ZodType<string>, Reply);

const Document = z.strictObject({
  stop: Command,
  start: Command,
  replies: z.record(
    AnyOf(
      z
        .string()
        .regex(
          /^\+?\d{3,15}$/,
          'must be a short code or another number of 3 to 15 digits, in quotes, or "*"',
        ),
    ) as z.ZodType<string>,
    ByWord,
  ),
});

type Document = z.output<typeof Document>;

/** What the document may hold, in words for those who write it. */
const WORDS: Vocabulary = {
  expected: new Map<z.ZodType, string>([
    [Command, 'a map: { first: [WORD], alone: [WORD], reply: … }'],
    [Reply, 'a text, or { reply: …, unquoted: … }'],
    [Word, 'a word in quotes'],
    [ByWord, 'a map: WORD: reply, or "*": reply for any text'],
  ]),
  placeholders: new Set<z.ZodType>([Reply]),
};

/** The short code that is shared with others, and the keyword by which texts on it are ours. */
export type Shared = { shortCode?: string; keyword?: string };

/** What is answered by itself to a message that comes in. */
export class Replies {
  readonly #document: Document;
  readonly #shared: Shared;
  readonly #byWord: ReadonlyMap<string, ReadonlyMap<string, { reply: string; unquoted: string }>>;
  readonly #ours: { part: string; whole: boolean }[];

  constructor(document: Document, shared: Shared = {}) {
    this.#document = document;
    this.#shared = shared;
    this.#byWord = new Map(
      Object.entries(document.replies).map(([code, replies]) => [
        digitsOf(code),
        new Map(
          Object.entries(replies).map(([word, reply]) => [word === '*' ? word : phraseOf(word), reply]),
        ),
      ]),
    );
    const { stop, start, replies } = document;
    const all = Object.values(replies).flatMap((each) => Object.values(each));
    this.#ours = [
      stop.reply,
      start.reply,
      ...all.flatMap(({ reply, unquoted }) => [reply, unquoted]),
    ].flatMap(tellingPart);
  }

  /** What a text asks for: to be left alone, or no longer to be. Of two commands that it begins with, the longer holds. */
  commandIn(text: string, shortCode: string): 'stop' | 'start' | undefined {
    const words = this.#commandWords(text, shortCode);
    const lengthOf = (command: 'stop' | 'start') => {
      const { first, alone } = this.#document[command];
      const whole = alone.filter((each) => phraseOf(each) === words.join(' '));
      const fitting = [...first.filter((each) => beginsWith(words, wordsOf(each))), ...whole];
      return Math.max(0, ...fitting.map((each) => wordsOf(each).length));
    };
    const [stop, start] = [lengthOf('stop'), lengthOf('start')];
    if (stop === 0 && start === 0) return undefined;
    return stop >= start ? 'stop' : 'start';
  }

  /**
   * Returns the word of `stop.first` that a text begins with, and which makes it STOP; undefined where there is none. A
   * keyword that begins so never brings its reply.
   */
  stopBefore(text: string, shortCode: string): string | undefined {
    if (this.commandIn(text, shortCode) !== 'stop') return undefined;
    const words = this.#commandWords(text, shortCode);
    return this.#document.stop.first.find((each) => beginsWith(words, wordsOf(each)));
  }

  /** The words of a text that a command is looked for in: on the shared short code those behind our keyword. */
  #commandWords(text: string, shortCode: string): string[] {
    const words = wordsOf(text);
    const own = wordsOf(this.#shared.keyword ?? '');
    const isShared = own.length > 0 && isSame(shortCode, this.#shared.shortCode);
    return isShared && words.length > own.length && beginsWith(words, own) ? words.slice(own.length) : words;
  }

  /** Whether a message to this number can be answered: short codes can, and the number that messages are sent from. */
  canAnswerFrom(to: string): boolean {
    return SHORT_CODE.test(to) || isSame(to, this.#shared.shortCode);
  }

  /** A text that is one of our own answers, or holds the beginning of one: a machine sends it. */
  isOurs(text: string): boolean {
    const known = plain(text);
    return this.#ours.some(({ part, whole }) => (whole ? known === part : known.includes(part)));
  }

  /** What STOP or START is confirmed with; empty where it is not. */
  confirmation(command: 'stop' | 'start', shortCode: string): string {
    return filled(this.#document[command].reply, '', shortCode);
  }

  /** What a text is answered with; empty where it is not. `quotes`: the answer may quote it. */
  answerTo(text: string, shortCode: string, quotes: boolean): string {
    const words = wordsOf(text);
    const any = this.#byWord.get('*');
    const found = replyIn(this.#byWord.get(digitsOf(shortCode)), words) ?? replyIn(any, words);
    return found === undefined ? '' : quoting(quotes ? found.reply : found.unquoted, text, shortCode);
  }
}

type RepliesByWord = ReadonlyMap<string, { reply: string; unquoted: string }>;

/** The reply by the longest keyword that a text begins with, else that for any text. */
function replyIn(byWord: RepliesByWord | undefined, words: string[]) {
  for (let count = Math.min(MOST_WORDS, words.length); count > 0; count -= 1) {
    const found = byWord?.get(words.slice(0, count).join(' '));
    if (found !== undefined) return found;
  }
  return byWord?.get('*');
}

/** Reads the document. Throws `RepliesError`: where it is wrong, nothing is answered wrongly. */
export function readReplies(file: string, shared?: Shared): Replies {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(file);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new RepliesError([`SMS_REPLIES: ${file} cannot be read (${code})`]);
  }
  const yaml = readYaml(bytes, file);
  if (yaml.problems !== undefined) throw new RepliesError(yaml.problems);
  const { slips, meant } = slipsIn(Document, yaml, file, WORDS);
  if (meant === undefined) throw new RepliesError(slips);
  const document = Document.parse(meant.plain);
  const cut = replyPaths(meant.plain).flatMap((path) => {
    const comment = meant.commentBehind(path);
    return comment === undefined
      ? []
      : [`${file}${meant.lineOf(path)}: ${path.join('.')}: ${commentProblem(comment)}`];
  });
  if (cut.length > 0) throw new RepliesError([...slips, ...cut]);
  const replies = new Replies(document, shared);
  const twice = wordsTwice(document, replies, meant.lineOf, meant.lineOfKey);
  const problems = [...slips, ...twice.map((problem) => `${file}${problem}`)];
  if (problems.length > 0) throw new RepliesError(problems);
  return replies;
}

/** Where the texts of a document stand that are sent: all but the words of commands, which are lists. */
function replyPaths(plain: unknown, path: string[] = []): string[][] {
  if (typeof plain === 'string') return [path];
  if (typeof plain !== 'object' || plain === null || Array.isArray(plain)) return [];
  return Object.entries(plain).flatMap(([key, value]) => replyPaths(value, [...path, key]));
}

/** A word of the document as it is written, where it stands, and what it is for. */
type Placed = { word: string; line: string; role: string };

/** Words that have two meanings, and keywords that begin with a word that ends messages: they are compared as texts are, so HELP and help are one. */
function wordsTwice(
  { stop, start, replies }: Document,
  made: Replies,
  lineOf: (path: PropertyKey[]) => string,
  lineOfKey: (path: PropertyKey[], key: string) => string,
): string[] {
  const commands = { stop, start };
  const listed = (command: 'stop' | 'start', list: 'first' | 'alone') =>
    commands[command][list].map((word, index): Placed => {
      return { word, line: lineOf([command, list, index]), role: `${command}.${list}` };
    });
  const ofStop = [...listed('stop', 'first'), ...listed('stop', 'alone')];
  const ofStart = [...listed('start', 'first'), ...listed('start', 'alone')];
  const problems = ofStart.flatMap((word) => sameWord(ofStop, word));
  const codes: Placed[] = [];
  for (const [code, byWord] of Object.entries(replies)) {
    const number = { word: code, line: lineOfKey(['replies'], code), role: 'replies' };
    if (code !== '*') problems.push(...sameWord(codes, number));
    codes.push(number);
    const before: Placed[] = [];
    for (const word of Object.keys(byWord)) {
      if (word === '*') continue;
      const placed = { word, line: lineOfKey(['replies', code], word), role: `replies.${code}` };
      // What ends messages is never answered otherwise.
      const same = sameWord([...ofStop, ...before], placed);
      const first = made.stopBefore(word, code === '*' ? '' : code);
      const begun = ofStop.find((each) => each.role === 'stop.first' && each.word === first);
      problems.push(...(same.length === 0 && begun !== undefined ? [neverSent(begun, placed)] : same));
      before.push(placed);
    }
  }
  return problems;
}

function sameWord(others: Placed[], { word, line, role }: Placed): string[] {
  const other = others.find((each) => phraseOf(each.word) === phraseOf(word));
  if (other === undefined) return [];
  const where = `${other.word} (${other.role}) and ${word} (${role}, line ${line.slice(1)})`;
  return [`${other.line}: ${where} are one word, with two meanings: keep one of the two`];
}

function neverSent(first: Placed, { word, line, role }: Placed): string {
  const where = `the keyword ${word} (${role}, line ${line.slice(1)})`;
  return `${first.line}: ${first.word} (${first.role}) begins ${where}: such a text ends messages and this reply is never sent: choose another keyword`;
}

/**
 * Marks that people write or leave out: accents (Unicode gives most of them to no script), Hebrew, Arabic and Syriac
 * points. Those of other scripts are part of the word: without its vowel sign काम (work) would be कम (less). So is the
 * voiced mark of Japanese.
 */
const ACCENTS =
  /[[\p{M}&&[\p{sc=Zinh}\p{sc=Latn}\p{sc=Grek}\p{sc=Cyrl}\p{sc=Hebr}\p{sc=Arab}\p{sc=Syrc}]]--\p{scx=Hira}]/gv;

/** The words of a text as they are compared: without case, accents, or what stands between them. */
function wordsOf(text: string): string[] {
  return folded(text)
    .normalize('NFKD')
    .replaceAll(ACCENTS, '')
    .replaceAll(/\u200C|\u200D/gu, '')
    .toUpperCase()
    .split(/[^\p{L}\p{M}\p{N}'’-]+/u)
    .map((word) => word.replaceAll(/[^\p{L}\p{M}\p{N}]/gu, ''))
    .filter((word) => word !== '');
}

/** A command or a keyword as it is compared: `OPT OUT`. */
function phraseOf(text: string): string {
  return wordsOf(text).join(' ');
}

function beginsWith(words: string[], first: string[]): boolean {
  return first.length > 0 && first.every((word, index) => word === words[index]);
}

/** Short codes can be answered from; names and long numbers are senders that we may not be. */
const SHORT_CODE = /^\d{3,8}$/;

/** Whether two numbers are one, with or without a plus. */
function isSame(one: string, other: string | undefined): boolean {
  return other !== undefined && digitsOf(one) === digitsOf(other);
}

function digitsOf(number: string): string {
  return number.replace('+', '');
}

function plain(text: string): string {
  return folded(text).normalize('NFKC').toLowerCase().replaceAll(/\s+/g, ' ').trim();
}

/** What an answer is known by: the beginning of its longest part that is the same for everybody. */
function tellingPart(answer: string): { part: string; whole: boolean }[] {
  const parts = answer.split(/\{(?:text|shortCode)\}/).map(plain);
  const [longest = ''] = parts.toSorted((one, two) => two.length - one.length);
  if (longest.length >= TELLING) return [{ part: longest.slice(0, TELLING_MOST).trim(), whole: false }];
  return parts.length === 1 && longest !== '' ? [{ part: longest, whole: true }] : [];
}

/**
 * Fills in a reply. Of the text it quotes as many characters as fit `QUOTING_SEGMENTS` SMS, with `...` behind a part; no
 * character is cut in two.
 */
function quoting(words: string, text: string, shortCode: string): string {
  const most = Math.max(QUOTING_SEGMENTS, segmentsOf(filled(words, '', shortCode)));
  return cutToSegments(text, most, (part) => filled(words, part, shortCode));
}

/** What is quoted hides nothing: no control characters, and none that turn around what a person reads. */
function filled(words: string, text: string, shortCode: string): string {
  const quoted = text.replaceAll(/(?!\n)[\p{Cc}\u202A-\u202E\u2066-\u2069]/gu, '');
  return words.replaceAll(PLACES, (_, name) => (name === 'text' ? quoted : shortCode));
}
