import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { readYaml } from '../documents.ts';
import { isBlank } from '../flow/outgoing.ts';
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

/** Four SMS: nobody writes more by itself. */
const LONGEST = 612;

/** What a part of our own answers must have to be known by; shorter ones are known whole. */
const TELLING = 12;
/** So much of that part is looked for: the far side may have cut it. */
const TELLING_MOST = 20;

const PLACES = /\{(text|shortCode)\}/g;

const Words = z
  .string()
  .max(LONGEST)
  .superRefine((words, context) => {
    if (words !== '' && isBlank(words))
      context.addIssue({ code: 'custom', message: 'is blank: write the words, or "" for no answer' });
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
  .refine((word) => wordsOf(word).length === 1, 'must be one word, of letters or digits');

const Command = z.strictObject({
  first: z.array(Word).min(1),
  alone: z.array(Word),
  reply: Unquoted,
});

const AnyOf = (name: z.ZodType<string>) => z.union([z.literal('*'), name]);

const Document = z.strictObject({
  stop: Command,
  start: Command,
  replies: z.record(
    AnyOf(
      z.string().regex(/^\d{3,8}$/, 'must be a short code of 3 to 8 digits, in quotes, or "*"'),
    ) as z.ZodType<string>,
    z.record(AnyOf(Word) as z.ZodType<string>, Reply),
  ),
});

type Document = z.output<typeof Document>;

/** What the document may hold, in words for those who write it. */
const WORDS: Vocabulary = {
  expected: new Map<z.ZodType, string>([
    [Command, 'a map: { first: [WORD], alone: [WORD], reply: … }'],
    [Reply, 'a text, or { reply: …, unquoted: … }'],
    [Word, 'a word in quotes'],
  ]),
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
        code,
        new Map(
          Object.entries(replies).map(([word, reply]) => [
            word === '*' ? word : (wordsOf(word)[0] ?? ''),
            reply,
          ]),
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

  /** What a text asks for: to be left alone, or no longer to be. */
  commandIn(text: string, shortCode: string): 'stop' | 'start' | undefined {
    const words = wordsOf(text);
    const { keyword } = this.#shared;
    const shared = keyword !== undefined && shortCode === this.#shared.shortCode;
    if (shared && words.length > 1 && words[0] === wordsOf(keyword)[0]) words.shift();
    return (['stop', 'start'] as const).find((command) => {
      const { first, alone } = this.#document[command];
      const [word = ''] = words;
      return has(first, word) || (words.length === 1 && has(alone, word));
    });
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
    const [word = ''] = wordsOf(text);
    const own = this.#byWord.get(shortCode);
    const any = this.#byWord.get('*');
    const found = own?.get(word) ?? own?.get('*') ?? any?.get(word) ?? any?.get('*');
    return found === undefined ? '' : filled(quotes ? found.reply : found.unquoted, text, shortCode);
  }
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
  const slips = slipsIn(Document, yaml, file, WORDS);
  if (slips.length > 0) throw new RepliesError(slips);
  return new Replies(Document.parse(yaml.plain), shared);
}

/** The words of a text as they are compared: without case, accents, or what stands between them. */
function wordsOf(text: string): string[] {
  return folded(text)
    .normalize('NFKD')
    .replaceAll(/\p{M}/gu, '')
    .toUpperCase()
    .split(/[^\p{L}\p{N}'’-]+/u)
    .map((word) => word.replaceAll(/[^\p{L}\p{N}]/gu, ''))
    .filter((word) => word !== '');
}

function has(words: string[], word: string): boolean {
  return words.some((each) => wordsOf(each)[0] === word);
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

/** What is quoted hides nothing: no control characters, and none that turn around what a person reads. */
function filled(words: string, text: string, shortCode: string): string {
  const quoted = text.replaceAll(/(?!\n)[\p{Cc}\u202A-\u202E\u2066-\u2069]/gu, '');
  return words.replaceAll(PLACES, (_, name) => (name === 'text' ? quoted : shortCode));
}
