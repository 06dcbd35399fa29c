import type { Deadline } from './heard.ts';

/** What a gateway says of a session that is over, in one shape for every dialect: nothing that was typed. */
export type Notice = {
  /** The gateway's own name: every gateway has a session space of its own. */
  gateway: string;
  sessionId: string;
  /** E.164 with its plus. */
  msisdn: string;
  /** As dialled. */
  serviceCode: string;
  /** When it ended, by the gateway's clock: ISO 8601, UTC, whole seconds. */
  date: string;
  /** `Success`, `Incomplete`, `Failed`, or another word of the gateway's, at most 40 characters. */
  status: string;
  /** Mobile country and network code, digits. */
  networkCode?: number;
  /** What the gateway bills for it: a decimal number as it was written, no float. */
  cost?: { amount: string; currency?: string };
  /** In milliseconds. */
  duration?: number;
  hops?: number;
  /** The gateway's own words where it went wrong; they may quote anything. */
  error?: string;
};

/** `unmatched`: stored, but of no dial of ours. `repeated`: the first one stands. */
export type Noticed = 'stored' | 'unmatched' | 'repeated';

/** Keeps a notice and closes the dial that it is of; every wait inside ends with the deadline. */
export type TakeNotice = (notice: Notice, deadline: Deadline) => Promise<Noticed>;
