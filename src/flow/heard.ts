import type { Screen } from './screen.ts';
import type { State } from './state.ts';

/**
 * A caller who is known to a partner and not by a phone: the name of the partner's API keys, and the digest of that
 * name and the partner's own id of the customer (decision 31). The digest is whose things are whose.
 */
export type Customer = { partner: string; digest: Buffer };

/** What a gateway heard, in one shape for every dialect. */
export type Heard = {
  /** The gateway's own name: every gateway has a session space of its own. */
  gateway: string;
  /** `cumulative`: text is all that was typed so far; `latest`: only the newest input. */
  mode: 'cumulative' | 'latest';
  sessionId: string;
  /** E.164 with its plus; empty where the caller is a customer of a partner and nothing else. */
  msisdn: string;
  /** Whose customer the caller is, on gateways whose callers are partners. */
  customer?: Customer;
  /** As dialled, for example `*1234#` or `*384*1#`; empty where `service` is opened without a code. */
  serviceCode: string;
  /** The service itself, on gateways that may leave the code out. */
  service?: string;
  text: string;
  /** The gateway's id of this request, where it sends one; a repeat of it is a replay. */
  requestId?: string;
  /**
   * Gateways whose sessions are opened by a request of their own and whose turns are linear (decision 31), in the
   * mode `latest`: `open`, or the address of the turn that was the newest one when the request came. What follows
   * another turn is not heard, nor what the gateway knows to be `late`: it came before that turn was answered.
   */
  linear?: 'open' | { after: Buffer; late: boolean };
  /** Mobile country and network code, digits. */
  networkCode?: number;
};

/** What the subscriber is to be shown, and how it came about. */
export type Answer =
  | { outcome: 'ok' | 'replay'; service: string; screen: Screen; standing?: Standing }
  /**
   * The request does not belong to the session it names, or asks for too much: docs/contract.md section 1. `fault`: the
   * fields that say so.
   */
  | { outcome: 'invalid'; fault?: string[] };

/**
 * What an input of a linear session is told where nothing was done: another one was being heard; the session is over;
 * nobody has answered it for too long.
 */
export type Unheard = { outcome: 'busy' | 'ended' | 'expired' };

/** Where a session stands with a screen, for dialects that say more of it than its words. */
export type Standing = {
  state: State;
  /** The number of the document that the session is on. */
  menu: number;
  /** When the turn was taken, by the database's clock: milliseconds since 1970. */
  at: number;
  /** The screen is the question whether to go on with an earlier dial, not one of the document. */
  offer: boolean;
};

/** One subscriber turn from request to reply; every wait inside ends with the deadline. */
export type TakeTurn = {
  (heard: Heard & Required<Pick<Heard, 'linear'>>, deadline: Deadline): Promise<Answer | Unheard>;
  (heard: Heard, deadline: Deadline): Promise<Answer>;
};

/**
 * Why a turn was answered that the service is unavailable, as operators count it: more waits than can be served in
 * time; too late; no database; a race without an end; too many PINs at once; and whatever else went wrong.
 */
export const REASONS = ['shed', 'deadline', 'database_away', 'contested', 'pins_busy', 'other'] as const;

export type Reason = (typeof REASONS)[number];

/** When an answer is due, on the monotonic clock, in milliseconds. */
export type Deadline = {
  /** Milliseconds left, never below zero. */
  left(): number;
  /** Milliseconds since the request was heard. */
  elapsed(): number;
};
