import type { Screen } from './screen.ts';

/** A session's memory between two turns: everything `step` needs, and nothing that cannot be sealed. */
export type State = {
  node: string;
  /** Nodes that `0` leads back through, oldest first. */
  back: string[];
  /** Invalid answers in a row. */
  misses: number;
  vars: Record<string, string>;
  language: string;
  /** The account that is logged in, and the version of the PIN that let it in: `7.0`. */
  account?: string;
  /** The page of the screen, from 0, and whether others can be turned to from it. */
  page: number;
  turns: { more: boolean; previous: boolean };
  /** What the keys of a list meant when it was shown: the values that each keeps. */
  items: Record<string, Record<string, string>>;
};

/** What a turn wants to happen, as data; the shell commits it in the turn's own transaction. */
export type Effect = {
  kind: string;
  args: Record<string, string>;
  /** The account that is logged in when it happens. */
  account?: string;
};

/** How a turn went, for the operator's counts. */
export type Course = 'moved' | 'ended' | 'invalid' | 'gaveUp';

export type Step = {
  state: State;
  screen: Screen;
  effects: Effect[];
  course: Course;
  /** It is still the screen that was answered: shown again, or another page of it. */
  same?: boolean;
};

/**
 * The shell is to load these facts, as this account sees them and for what the session has kept so far, and step
 * again: the core has no way to. A fact is loaded once in a step.
 */
export type Needs = { needs: string[]; vars: Record<string, string>; account?: string };

/**
 * What the shell heard where the core must not: the verdict on a secret, what is kept of it (sealed), and
 * whose account it opened.
 */
export type Verdict = { verdict: string; keep?: string; account?: string };

/** What is known beside the session's memory: facts by their name, and who is calling. */
export type World = { facts: Facts; msisdn: string };
export type Facts = Readonly<Record<string, FactValue>>;
/** The values of a fact, or the rows of one that is listed. */
export type FactValue = Readonly<Record<string, string>> | readonly Readonly<Record<string, string>>[];
