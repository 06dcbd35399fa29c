import type { Customer } from './heard.ts';
import { Lasting } from './lasting.ts';
import { inLanguage, type Menu, type Node, nodeNamed, optionsOf, wordsOf } from './menu.ts';
import type { Screen, ScreenOption } from './screen.ts';
import { isShared } from './shared-steps.ts';
import type { State } from './state.ts';

/** What a turn's row seals: the session's memory, the reply, and what binds them to the request. */
export type Memory = {
  state: State;
  screen: Screen;
  /** The service code as dialled: another one on the same session is refused. */
  serviceCode: string;
  /**
   * The identity of the turn that first showed this screen, where it is not this one: what is done from it
   * is done once, however it is answered (decision 9).
   */
  shown?: Buffer;
  /** Latest-input gateways: the keyed digest of the input, by which a repeat is told. */
  heard?: string;
  /** The screen asks whether to go on with this turn of an earlier dial. */
  resume?: { sessionKey: Buffer; day: string; dial: number; address: Buffer };
  /** Opening rows only: what an operator's debug answer shows, and whose the session is. */
  opening?: { sessionId: string; msisdn: string; customer?: Customer };
};

/** A memory without what was shown. */
export type Unshown = Omit<Memory, 'screen'>;

/**
 * The first place says how to read the rest; a later layout takes the next number. The first one had every word and
 * label in the row: it is still read, and no longer written.
 */
const WRITTEN_OUT = 1;
const LAYOUT = 2;

/** A text that stands in the document, word for word: what the dial is pinned to need not be in every row of it. */
const AS_IN_DOCUMENT = 1;

/** What only some rows have. */
type Rest = [
  shownAt: string | null,
  account: string | null,
  notice: string | null,
  heard: string | null,
  opening: [sessionId: string, msisdn: string, partner?: string, customer?: string] | null,
  resume: [sessionKey: string, day: string, dial: number, address: string] | null,
];

/** Positions instead of names, and trailing defaults left out: the row is most of what a turn costs. */
type Packed = [
  layout: typeof LAYOUT | typeof WRITTEN_OUT,
  serviceCode: string,
  node: string,
  language: string,
  back: string[],
  misses: number,
  vars: Record<string, string>,
  end: 0 | 1,
  shown: string,
  words: string | typeof AS_IN_DOCUMENT,
  options: string[] | typeof AS_IN_DOCUMENT,
  page: number,
  turns: number,
  items: Record<string, Record<string, string>>,
  ...rest: Rest,
];

/** What a screen says where nothing is filled in, and all of it fits: its words and options as the document has them. */
type Printed = { words: string; options: ScreenOption[] };

/** Memory as bytes, to be sealed in a row that names this document; without one every word is written out. */
export function pack(memory: Memory, menu?: Menu): Buffer {
  const { state, screen, serviceCode, shown, heard, opening, resume } = memory;
  const rest: Rest = [
    shown?.toString('base64') ?? null,
    state.account ?? null,
    screen.notice ?? null,
    heard ?? null,
    opening ? packedOpening(opening) : null,
    resume
      ? [resume.sessionKey.toString('base64'), resume.day, resume.dial, resume.address.toString('base64')]
      : null,
  ];
  let length: number = rest.length;
  while (rest[length - 1] === null) length -= 1;
  const tail = length === 0 ? '' : `,${itemsOf(rest.slice(0, length))}`;
  const core = isShared(state) ? sharedCore(state, screen, menu) : itemsOf(coreOf(state, screen, menu));
  return Buffer.from(`[${LAYOUT},${JSON.stringify(serviceCode)},${core}${tail}]`);
}

/** The part of `Packed` that follows from the session's state and its screen. */
function coreOf(state: State, screen: Screen, menu: Menu | undefined): unknown[] {
  const printed = menu && printedOf(menu, screen.node, state.language);
  return [
    state.node,
    state.language,
    state.back,
    state.misses,
    state.vars,
    screen.end ? 1 : 0,
    screen.node === state.node ? '' : screen.node,
    screen.words === printed?.words ? AS_IN_DOCUMENT : screen.words,
    isPrinted(screen.options, printed)
      ? AS_IN_DOCUMENT
      : screen.options.flatMap(({ key, label }) => [key, label]),
    state.page,
    (state.turns.more ? 1 : 0) + (state.turns.previous ? 2 : 0),
    state.items,
  ];
}

/** By screen: a shared state has one, which is an object of its own. */
const SHARED_CORES = new WeakMap<Screen, string>();

function sharedCore(state: State, screen: Screen, menu: Menu | undefined): string {
  const known = SHARED_CORES.get(screen);
  if (known !== undefined) return known;
  const made = itemsOf(coreOf(state, screen, menu));
  SHARED_CORES.set(screen, made);
  return made;
}

/** The items of a list as JSON, without its brackets. */
function itemsOf(list: unknown[]): string {
  return JSON.stringify(list).slice(1, -1);
}

/**
 * The reverse of `pack`, with the document that the row names. Throws on a layout that this version does not know, and
 * where the document is wanted and missing.
 */
export function unpack(bytes: Buffer, menu?: Menu): Memory {
  const packed = parse(bytes);
  return { ...withoutScreen(packed), screen: screenOf(packed, menu) };
}

/** The same without what was shown, which needs no document. */
export function unpackState(bytes: Buffer): Unshown {
  return withoutScreen(parse(bytes));
}

function parse(bytes: Buffer): Packed {
  const packed = JSON.parse(bytes.toString()) as Packed;
  if (packed[0] !== LAYOUT && packed[0] !== WRITTEN_OUT)
    throw new Error(`unknown layout ${String(packed[0])} of a turn's memory`);
  return packed;
}

function withoutScreen(packed: Packed): Unshown {
  const [, serviceCode, node, language, back, misses, vars, , , , , page, turning, items, ...rest] = packed;
  const [shownAt, account, , heard, opening, resume] = rest;
  const turns = { more: (turning & 1) > 0, previous: (turning & 2) > 0 };
  const state: State = { node, back, misses, vars, language, page, turns, items };
  if (typeof account === 'string') state.account = account;
  const memory: Unshown = { state, serviceCode };
  if (typeof shownAt === 'string') memory.shown = Buffer.from(shownAt, 'base64');
  if (typeof heard === 'string') memory.heard = heard;
  if (opening) {
    const [sessionId, msisdn, partner, customer] = opening;
    memory.opening = { sessionId, msisdn };
    if (partner !== undefined && customer !== undefined)
      memory.opening.customer = { partner, digest: Buffer.from(customer, 'base64') };
  }
  if (resume) {
    const [sessionKey, day, dial, address] = resume;
    memory.resume = {
      sessionKey: Buffer.from(sessionKey, 'base64'),
      day,
      dial,
      address: Buffer.from(address, 'base64'),
    };
  }
  return memory;
}

function screenOf(packed: Packed, menu: Menu | undefined): Screen {
  const [, , at, language, , , , end, shown, words, flat, , , , , , notice] = packed;
  const node = shown === '' ? at : shown;
  const printed = () => {
    const found = menu && printedOf(menu, node, language);
    if (found === undefined) throw new Error('the document of a turn is missing');
    return found;
  };
  const screen: Screen = {
    end: end === 1,
    node,
    words: words === AS_IN_DOCUMENT ? printed().words : words,
    options: flat === AS_IN_DOCUMENT ? printed().options : pairs(flat),
  };
  if (typeof notice === 'string') screen.notice = notice;
  return screen;
}

function pairs(flat: string[]): ScreenOption[] {
  const options = [];
  for (let at = 0; at < flat.length; at += 2)
    options.push({ key: flat[at] ?? '', label: flat[at + 1] ?? '' });
  return options;
}

function isPrinted(options: ScreenOption[], printed: Printed | undefined): boolean {
  return (
    printed !== undefined &&
    options.length === printed.options.length &&
    options.every(({ key, label }, at) => {
      const other = printed.options[at] as ScreenOption;
      return key === other.key && label === other.label;
    })
  );
}

const PRINTED = new Lasting<Printed>();

/** Part of the layout: rows of years are read by it, so what a document and a node say must go on being this. */
function printedOf(menu: Menu, name: string, language: string): Printed | undefined {
  return nodeNamed(menu, name) && PRINTED.of(menu, name, language, print);
}

function print(menu: Menu, name: string, language: string): Printed {
  const node = nodeNamed(menu, name) as Node;
  return {
    words: inLanguage(wordsOf(node), language),
    options: optionsOf(node).map(({ key, label }) => ({ key, label: inLanguage(label, language) })),
  };
}

function packedOpening({ sessionId, msisdn, customer }: NonNullable<Memory['opening']>): Rest[4] {
  return customer === undefined
    ? [sessionId, msisdn]
    : [sessionId, msisdn, customer.partner, customer.digest.toString('base64')];
}
