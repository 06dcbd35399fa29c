import { prefixes } from './flow/address.ts';
import { isOver } from './flow/dial.ts';
import type { Deadline, Heard } from './flow/heard.ts';
import { isDialledCode } from './flow/service-code.ts';
import { SealError } from './seal/box.ts';
import type { Digests } from './seal/digests.ts';
import type { Behind } from './store/new-turn.ts';
import type { Found, KnownTurn } from './store/turn-rows.ts';
import type { Turns } from './store/turns.ts';

/** Where a request stands in its session: the dial, the turn it names or is to follow, and its address. */
export type Located = {
  sessionKey: Buffer;
  found: Omit<Found, 'turn'>;
  /** The turn itself where it is known, else the one it follows. */
  turn?: KnownTurn;
  known: boolean;
  /** It is known by the id of the request: the same request again, whatever its text. */
  named?: boolean;
  /** The request asks for the first screen. */
  start: boolean;
  /** What there is to hear in a new dial, and from where on in the dial that was found. */
  text: string;
  from: number;
  /** The text is one input, not an accumulation: nothing is cut. */
  whole: boolean;
  /** The address of the turn that hears the text up to a position. */
  addressAt(end: number): Buffer;
  /** The same for an opening. */
  openingAddressAt(end: number): Buffer;
  /** A second address of the same turn, by which a repeat of the request is told. */
  alias?: Buffer;
  /** Linear sessions: another turn was taken since the request came. */
  overtaken?: boolean;
  /** Stored with the turn where a repeat is told by its input. */
  heardDigest?: string;
  /** Nothing was looked up: the turn to follow was recalled, and the insert is to ask whether it may be. */
  behind?: Behind;
  /** Nothing was looked up: the insert is to ask whether the dial may be opened. */
  opens?: true;
};

/** For this long the same input from a gateway without request ids is a repeat (decision 7). */
const SAME_INPUT_MS = 1_500;
/** Stored with the opening of a dial by its code on a cumulative gateway, as `heardDigest`: no digest is as short. */
const BY_CODE = 'code';

type Where = {
  turns: Turns;
  digests: Digests;
  caller: Buffer;
  through: string[];
  deadline: Deadline;
  ttl: number;
};

/** Finds the turn that a request names, by one look-up. */
export function locate(heard: Heard, where: Where): Promise<Located> {
  return heard.mode === 'cumulative' ? byText(heard, where) : byNewest(heard, where);
}

/** The accumulated text is the address: the longest known prefix of it is the parent. */
async function byText(
  heard: Heard,
  { turns, digests, caller, through, deadline, ttl }: Where,
): Promise<Located> {
  const sessionKey = digests.session(heard.gateway, heard.sessionId);
  const text = joined(through, heard.text);
  const texts = prefixes(text);
  const addresses = texts.map((prefix) => digests.text(sessionKey, prefix));
  const { turn, ...found } = await turns.lookUp({ sessionKey, addresses, caller }, deadline);
  const own = addresses.at(-1);
  const addressAt = (end: number) =>
    end === text.length && own !== undefined ? own : digests.text(sessionKey, text.slice(0, end));
  const known = turn?.rank === texts.length;
  const { dial } = found;
  // The dialled code as a text: a start where no dial is open, or the dial was opened by it; else it was typed.
  const byCode =
    isDialledCode(heard.text, heard.serviceCode) &&
    (dial === undefined || (known ? hasOpened(turn) : isOver(dial, ttl)));
  if (byCode) {
    const heardDigest = BY_CODE;
    const opening = { text: joined(through, ''), from: 0, start: true, ...(own && { alias: own }) };
    const openingAddressAt = (end: number) => digests.text(sessionKey, opening.text.slice(0, end));
    const located = { sessionKey, found, known, whole: false, addressAt: openingAddressAt, openingAddressAt };
    return { ...located, ...opening, heardDigest, ...(turn !== undefined && { turn }) };
  }
  const located: Located = {
    sessionKey,
    found,
    known,
    start: heard.text === '',
    text,
    from: turn === undefined ? 0 : (texts[turn.rank - 1] ?? '').length,
    whole: false,
    addressAt,
    openingAddressAt: addressAt,
  };
  return turn === undefined ? located : { ...located, turn };
}

/** Whether a turn of a cumulative gateway is the opening of a dial by its code. */
function hasOpened(turn: KnownTurn | undefined): boolean {
  try {
    return turn?.memory().heard === BY_CODE;
  } catch (error) {
    // Its key has left the ring: a turn that cannot be read is not replayed, so a new dial begins.
    if (error instanceof SealError) return true;
    throw error;
  }
}

/**
 * The same without a look-up: for one input behind the newest turn that this instance took in the session, where it
 * still knows that one (decision 22). What it says of the dial is what was so then; the insert asks whether it still
 * is, and whether the text has become a turn meanwhile.
 */
export function recall(
  heard: Heard,
  { turns, digests, through }: Where,
): (Located & { turn: KnownTurn }) | undefined {
  if (heard.mode !== 'cumulative' || heard.text === '') return undefined;
  const text = joined(through, heard.text);
  const above = prefixes(text).at(-2) ?? '';
  // Behind its separator; more stars may be several inputs.
  if (text.indexOf('*', above === '' ? 0 : above.length + 1) !== -1) return undefined;
  const sessionKey = digests.session(heard.gateway, heard.sessionId);
  const recalled = turns.recall(sessionKey, above, () => digests.text(sessionKey, above));
  if (recalled === undefined) return undefined;
  const addressAt = (end: number) => digests.text(sessionKey, text.slice(0, end));
  return {
    ...recalled,
    sessionKey,
    known: false,
    start: false,
    text,
    from: above.length,
    whole: false,
    addressAt,
    openingAddressAt: addressAt,
  };
}

/**
 * An opening without a look-up: for the first text of a session of which this instance knows no turn. That it has no
 * dial, and its caller has chosen no language, is presumed; the insert asks (decision 22).
 */
export function presumeNew(heard: Heard, { turns, digests, through }: Where): Located | undefined {
  if (heard.mode !== 'cumulative' || heard.text !== '' || through.length > 0) return undefined;
  const sessionKey = digests.session(heard.gateway, heard.sessionId);
  const found = turns.presumeNew(sessionKey);
  if (found === undefined) return undefined;
  const addressAt = () => digests.text(sessionKey, '');
  return {
    sessionKey,
    found,
    known: false,
    start: true,
    text: '',
    from: 0,
    whole: false,
    addressAt,
    openingAddressAt: addressAt,
    opens: true,
  };
}

/**
 * Only the newest input is sent: the turn follows the newest one, and a repeat is told by the id that the
 * gateway supplies, or else by the same input at the same moment (decision 7).
 */
async function byNewest(heard: Heard, where: Where): Promise<Located> {
  const { turns, digests, caller, through, deadline, ttl } = where;
  const sessionKey = digests.session(heard.gateway, heard.sessionId);
  const before = deadline.elapsed();
  const { turn: newest, addresses, ...found } = await turns.newest(sessionKey, caller);
  const { dial } = found;
  const id = heard.requestId;
  const root = digests.text(sessionKey, '');
  const heardDigest = digests.below(sessionKey, 'input', heard.text).toString('base64');

  const open = dial !== undefined && dial.sinceEnd === undefined && !dial.closed && dial.idle <= ttl;
  // The dialled code as a text is no input where no dial is open, or where the open one was opened by it.
  const byCode =
    heard.linear === undefined &&
    isDialledCode(heard.text, heard.serviceCode) &&
    (!open || (dial.untouched && newest?.memory().heard === heardDigest));
  const text = joined(through, byCode ? '' : heard.text);
  const begins = byCode || (heard.text === '' && !(open && !dial.untouched));
  const start = heard.linear === undefined ? begins : heard.linear === 'open';
  // One place for the turn that follows a turn, whatever it hears: two that come at once cannot both have it.
  const addressAt = () => digests.below(newest?.address ?? root, 'hop', String((newest?.hop ?? 0) + 1));
  // And one place in the dial for an id, whichever turn it came to follow.
  const alias = id === undefined ? undefined : digests.below(root, 'id', id);
  const named = alias !== undefined && addresses.some((taken) => taken.equals(alias));
  /** What the opening was answered: behind the segments that were dialled through, where there are any. */
  const opening = async (): Promise<KnownTurn | undefined> => {
    if (dial === undefined) return undefined;
    const last = through.length > 0 ? digests.text(sessionKey, joined(through, '')) : root;
    return (await turns.read(sessionKey, dial, last)) ?? turns.read(sessionKey, dial, root);
  };
  const repeated = (): Promise<KnownTurn | undefined> | KnownTurn | undefined => {
    if (dial === undefined || newest === undefined) return undefined;
    if (named) return turns.read(sessionKey, dial, alias as Buffer);
    if (start && !byCode) return opening();
    const window = Math.max(SAME_INPUT_MS, deadline.elapsed());
    if (id === undefined && newest.age <= window && newest.memory().heard === heardDigest) return newest;
    if (start) return opening();
    const own = alias ?? addressAt();
    return addresses.some((taken) => taken.equals(own)) ? turns.read(sessionKey, dial, own) : undefined;
  };
  const repeat = await repeated();
  const turn = repeat ?? newest;

  const located: Located = {
    sessionKey,
    found,
    known: repeat !== undefined,
    named: named && repeat !== undefined,
    start,
    text,
    // What was dialled through with the code was heard when the dial was opened.
    from: open && !byCode ? text.length - heard.text.length : 0,
    whole: true,
    addressAt,
    // The first screen always stands at the root, so that two starts at once are one dial.
    openingAddressAt: (end) => digests.text(sessionKey, text.slice(0, end)),
    ...(alias !== undefined && { alias }),
    overtaken: newest !== undefined && isOvertaken(heard, newest, before),
    heardDigest,
  };
  return turn === undefined ? located : { ...located, turn };
}

/**
 * A turn that is not the one that the request came upon, or that was taken after the request had come: who sent it
 * has not seen that screen. Only what is certain counts (`before`: milliseconds from the request to the look-up), so
 * that nobody who asks one thing after the other is refused.
 */
function isOvertaken({ linear }: Heard, newest: KnownTurn, before: number): boolean {
  if (linear === undefined || linear === 'open') return false;
  return linear.late || !newest.address.equals(linear.after) || newest.age <= before;
}

/** Segments behind a service code are dialled through before the text. */
function joined(through: string[], text: string): string {
  return [...through, ...(text === '' ? [] : [text])].join('*');
}
