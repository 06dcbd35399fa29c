import type { Screen } from './screen.ts';

/** What a gateway heard, in one shape for every dialect. */
export type Heard = {
  /** The gateway's own name: every gateway has a session space of its own. */
  gateway: string;
  /** `cumulative`: text is all that was typed so far; `latest`: only the newest input. */
  mode: 'cumulative' | 'latest';
  sessionId: string;
  /** E.164 with its plus. */
  msisdn: string;
  /** As dialled, for example `*1234#` or `*384*1#`. */
  serviceCode: string;
  text: string;
  /** The gateway's id of this request, where it sends one; a repeat of it is a replay. */
  requestId?: string;
  /** Mobile country and network code, digits. */
  networkCode?: number;
};

/** What the subscriber is to be shown, and how it came about. */
export type Answer =
  | { outcome: 'ok' | 'replay'; service: string; screen: Screen }
  /** The request does not belong to the session it names, or asks for too much: CONTRACT.md section 1. */
  | { outcome: 'invalid' };

/** One subscriber turn from request to reply; every wait inside ends with the deadline. */
export type TakeTurn = (heard: Heard, deadline: Deadline) => Promise<Answer>;

/** When an answer is due, on the monotonic clock, in milliseconds. */
export type Deadline = {
  /** Milliseconds left, never below zero. */
  left(): number;
  /** Milliseconds since the request was heard. */
  elapsed(): number;
};
