import type { Outcome } from '../flow/dial.ts';
import type { Memory } from '../flow/memory.ts';

/** A turn to be inserted. `asked` is the database's clock at its look-up, in seconds since 1970. */
export type NewTurn = {
  sessionKey: Buffer;
  day: string;
  dial: number;
  address: Buffer;
  hop: number;
  outcome: Outcome;
  node: number;
  menu: number;
  network: number | null;
  phone: Buffer;
  service: string;
  memory: Memory;
  asked: number;
  /** Its parent was recalled: the insert asks whether it may be followed. */
  behind?: Behind;
  /** It opens a dial that was not looked up: the insert asks whether it may be opened. */
  opens?: true;
  /** The text of its address, where the gateway accumulates one. */
  text?: string;
};

/** The row of a parent that was recalled: its address, and when it was inserted, exactly: seconds since 1970. */
export type Behind = { address: Buffer; at: number };
