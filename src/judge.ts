import type { Db } from './db/db.ts';
import { within } from './db/sql.ts';
import { PIN_DIGITS } from './flow/answer.ts';
import type { Deadline } from './flow/heard.ts';
import type { Ask } from './flow/menu.ts';
import type { State, Verdict } from './flow/state.ts';
import { folded } from './flow/typed.ts';
import type { Digests } from './seal/digests.ts';
import {
  hashPin,
  isWeakPin,
  matchesPin,
  type PendingPins,
  PIN_COST,
  type PinSlots,
  unmatchable,
} from './seal/pin.ts';
import type { Accounts, Known } from './store/accounts.ts';
import type { Attempts } from './store/attempts.ts';

/** A secret that was typed, and by whom: what `judge` hears instead of the core. */
export type Heard = {
  ask: Ask;
  typed: string;
  state: State;
  msisdn: string;
  /** The digest by which the caller is known. */
  caller: Buffer;
  /** When the answer is due. */
  deadline: Deadline;
  /** What names the turn among all turns, and what was typed in it: copies of it reach the same verdict. */
  turn: Buffer;
};

export type Judge = (heard: Heard) => Promise<Verdict>;

/** What the check of an account's PIN comes to. */
export const CHECKED = ['right', 'change', 'link', 'linkAndChange', 'wrong', 'locked', 'malformed'] as const;

export type JudgeParts = {
  /** log2 of the cost of a new PIN's hash. */
  pinCost: number;
  /** What the PIN of an unknown ID is checked against. */
  noPin: Buffer;
  db: Db;
  accounts: Accounts;
  attempts: Attempts;
  slots: PinSlots;
  /** Seals what is kept of a first new PIN until it has been typed again. */
  pending: PendingPins;
  digests: Digests;
  /** Told what each check of an account's PIN came to; not of what is set or typed again. */
  checked(verdict: string): void;
};

/** `pinCost` defaults to that of production. */
export type JudgeSettings = Omit<JudgeParts, 'pinCost' | 'noPin'> & { pinCost?: number | undefined };

/**
 * Secrets stop here: the core is told a verdict and, of a new PIN, a sealed slow hash. Throws `PinsBusy`; and
 * `Unavailable` at the deadline, so that a database that does not answer holds no slot for longer than the request.
 */
export function makeJudge({ pinCost = PIN_COST, ...given }: JudgeSettings): Judge {
  const parts = { ...given, pinCost, noPin: unmatchable(pinCost) };
  return async (heard) => {
    const judged = await judge(parts, heard);
    if (heard.ask.answer.kind === 'pin') parts.checked(judged.verdict);
    return judged;
  };
}

async function judge(parts: JudgeParts, heard: Heard): Promise<Verdict> {
  const { ask, state, msisdn } = heard;
  const pin = folded(heard.typed);
  if (!new RegExp(`^\\d{${PIN_DIGITS}}$`).test(pin)) return { verdict: 'malformed' };
  if (ask.answer.kind === 'pin') return checkPin(parts, heard, pin);
  const account = await within(heard.deadline, changing(parts, state));
  if (account === 'out') return { verdict: 'locked' };
  if (ask.answer.kind === 'pinAgain') {
    const first = parts.pending.open(state.vars[ask.answer.of] ?? '');
    return {
      verdict: (await parts.slots.run(() => matchesPin(pin, first), heard.deadline)) ? 'same' : 'different',
    };
  }
  if (isWeakPin(pin, msisdn)) return { verdict: 'weak' };
  return parts.slots.run(() => newPin(parts, account, pin), heard.deadline);
}

/** Judges a PIN that is chosen: `same` where it is the one that the account has now (a one-time PIN must be replaced). */
async function newPin(
  { pending, pinCost }: JudgeParts,
  account: Known | undefined,
  pin: string,
): Promise<Verdict> {
  if (account !== undefined && (await matchesPin(pin, account.verifier()))) return { verdict: 'same' };
  return { verdict: 'good', keep: pending.seal(await hashPin(pin, pinCost)) };
}

/**
 * The account whose PIN is to be changed; undefined while one is being opened. `out`: the PIN that let the
 * session in is not the account's any more, or the account is locked: whoever waits here with an old one may
 * neither set a new one nor learn anything about it.
 */
async function changing(
  { db, accounts, attempts }: JudgeParts,
  { account }: State,
): Promise<Known | undefined | 'out'> {
  if (account === undefined) return undefined;
  const known = await accounts.inSession(db, account);
  return known === undefined || (await attempts.isLocked(known.customer)) ? 'out' : known;
}

/**
 * The PIN of an account. From a phone that may not log in to it, as of an ID that does not exist, every PIN
 * is wrong, after the same work, and counts against that phone alone: so nobody can lock a stranger out
 * (decisions 15 and 16).
 */
async function checkPin(
  parts: JudgeParts,
  { state, msisdn, caller: phone, turn, deadline }: Heard,
  pin: string,
): Promise<Verdict> {
  return parts.slots.run(async () => {
    const { account, linked, typed } = await within(deadline, findAccount(parts, state, phone));
    // An ID that is nobody's is counted too, for nothing but the same work (decision 15): by phone, so that
    // what a stranger does is not felt, or seen, on another one.
    const id =
      account?.customer ?? parts.digests.customer(`nobody\0${typed}\0${msisdn || phone.toString('hex')}`);
    const keys = [
      { key: phone, nobody: false },
      { key: id, nobody: account === undefined },
    ];
    // Where the deadline passes while it is committed, the same request again finds it, and is not counted.
    if (!(await within(deadline, parts.attempts.begin(turn, keys, deadline)))) return { verdict: 'locked' };
    const right = await matchesPin(pin, account?.verifier() ?? parts.noPin);
    if (!right || account === undefined) return { verdict: 'wrong' };
    const change = account.mustChange;
    if (linked) return { verdict: change ? 'linkAndChange' : 'link', account: account.session };
    return { verdict: change ? 'change' : 'right', account: account.session };
  }, deadline);
}

/** The account that is logged in, or whose ID was typed, or to which a typed code links this phone. */
async function findAccount(
  { db, accounts }: JudgeParts,
  state: State,
  phone: Buffer,
): Promise<{ account?: Known; linked: boolean; typed: string }> {
  const typed = state.vars.customerId ?? '';
  if (state.account !== undefined) {
    const account = await accounts.inSession(db, state.account);
    return { linked: false, typed, ...(account !== undefined && { account }) };
  }
  const [own, byCode] = await Promise.all([
    accounts.byCustomerId(db, typed, phone),
    accounts.byLinkCode(db, typed, phone),
  ]);
  const account = own ?? byCode;
  return {
    linked: own === undefined && byCode !== undefined,
    typed,
    ...(account !== undefined && { account }),
  };
}
