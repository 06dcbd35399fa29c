import type { Customer } from './heard.ts';
import type { Screen } from './screen.ts';
import type { State } from './state.ts';

/** What a turn's row seals: the session's memory, the reply, and what binds them to the request. */
export type Memory = {
  state: State;
  screen: Screen;
  /** The service code as dialled: another one on the same session is refused. */
  serviceCode: string;
  /**
   * The identity of the turn that first showed this screen, where it is not this one: what is done from it
   * is done once, however it is answered (RULINGS.md 9).
   */
  shown?: Buffer;
  /** Latest-input gateways: the keyed digest of the input, by which a repeat is told. */
  heard?: string;
  /** The screen asks whether to go on with this turn of an earlier dial. */
  resume?: { sessionKey: Buffer; day: string; dial: number; address: Buffer };
  /** Opening rows only: what an operator's debug answer shows, and whose the session is. */
  opening?: { sessionId: string; msisdn: string; customer?: Customer };
};

/** The first place says how to read the rest; a later layout takes the next number. */
const LAYOUT = 1;

/** Positions instead of names, and trailing defaults left out: the row is most of what a turn costs. */
type Packed = [
  layout: typeof LAYOUT,
  serviceCode: string,
  node: string,
  language: string,
  back: string[],
  misses: number,
  vars: Record<string, string>,
  end: 0 | 1,
  shown: string,
  words: string,
  options: string[],
  page: number,
  turns: number,
  items: Record<string, Record<string, string>>,
  shownAt: string | null,
  account: string | null,
  notice: string | null,
  heard: string | null,
  opening: [sessionId: string, msisdn: string, partner?: string, customer?: string] | null,
  resume: [sessionKey: string, day: string, dial: number, address: string] | null,
];

/** Memory as bytes, to be sealed. */
export function pack(memory: Memory): Buffer {
  const { state, screen, serviceCode, shown, heard, opening, resume } = memory;
  const packed: Packed = [
    LAYOUT,
    serviceCode,
    state.node,
    state.language,
    state.back,
    state.misses,
    state.vars,
    screen.end ? 1 : 0,
    screen.node === state.node ? '' : screen.node,
    screen.words,
    screen.options.flatMap(({ key, label }) => [key, label]),
    state.page,
    (state.turns.more ? 1 : 0) + (state.turns.previous ? 2 : 0),
    state.items,
    shown?.toString('base64') ?? null,
    state.account ?? null,
    screen.notice ?? null,
    heard ?? null,
    opening ? packedOpening(opening) : null,
    resume
      ? [resume.sessionKey.toString('base64'), resume.day, resume.dial, resume.address.toString('base64')]
      : null,
  ];
  let length = packed.length;
  while (packed[length - 1] === null) length -= 1;
  return Buffer.from(JSON.stringify(packed.slice(0, length)));
}

/** The reverse of `pack`. Throws on a layout that this version does not know. */
export function unpack(bytes: Buffer): Memory {
  const packed = JSON.parse(bytes.toString()) as Packed;
  if (packed[0] !== LAYOUT) throw new Error(`unknown layout ${String(packed[0])} of a turn's memory`);
  const [, serviceCode, node, language, back, misses, vars, end, shownNode, words, flat, ...rest] = packed;
  const [page, turning, items, shownAt, account, notice, heard, opening, resume] = rest;
  const options = [];
  for (let at = 0; at < flat.length; at += 2)
    options.push({ key: flat[at] ?? '', label: flat[at + 1] ?? '' });
  const screen: Screen = { end: end === 1, node: shownNode === '' ? node : shownNode, words, options };
  if (typeof notice === 'string') screen.notice = notice;
  const turns = { more: (turning & 1) > 0, previous: (turning & 2) > 0 };
  const state: State = { node, back, misses, vars, language, page, turns, items };
  if (typeof account === 'string') state.account = account;
  const memory: Memory = { state, screen, serviceCode };
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

function packedOpening({ sessionId, msisdn, customer }: NonNullable<Memory['opening']>): Packed[18] {
  return customer === undefined
    ? [sessionId, msisdn]
    : [sessionId, msisdn, customer.partner, customer.digest.toString('base64')];
}
