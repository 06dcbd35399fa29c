/**
 * An aggregator at its worst: many subscribers at once walk the menus at random, and what they type is sent twice,
 * late, out of order, cut off, or not at all, and again when nobody answers. Everything that was asked and what came
 * of it is kept, so that test/support/checker.ts can hold it against the database.
 *
 * What a subscriber decides follows from the seed and from the screens; what the machine does in between does not.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Cut, type Sent, sendOnce } from './cut.ts';
import { randomFrom } from './far-side.ts';

/** A turn as the gateway names it: by all that was typed, or by the newest input and an id. */
export type Turn = {
  gateway: 'ixo' | 'latest';
  sessionId: string;
  serviceCode: string;
  phoneNumber: string;
  text: string;
  requestId?: string;
};

/** One request and its answer, or how it was lost; `dial` counts the calls that used this session id. */
export type Asked = Sent & { turn: Turn; dial: number; at: number };

export type StormOptions = {
  /** Where the instances are now: asked anew for every request. */
  urls(): string[];
  seed: number;
  subscribers: number;
  /** Dials of each of them, one after the other. */
  dials: number;
};

export type Storm = {
  history: Asked[];
  /** No new dial begins. */
  stop(): void;
  /** Resolves when the last subscriber has hung up and the last copy has been sent. */
  over: Promise<void>;
};

/** So often somebody dials again with the session id of a call that has ended. */
const SAME_ID = 0.04;
/** A start this long after an END is a new dial (decision 4.3), with some time for a slow machine. */
const AFTER_END_MS = 6_000;
/** Keys that a subscriber presses before hanging up. */
const MOST_KEYS = 9;
/** How often a request is sent again before the subscriber gives up. */
const TRIES = 12;
const CODES = ['*1234#', '*144#', '*144#', '*123#'];

export function startStorm({ urls, seed, subscribers, dials }: StormOptions): Storm {
  const history: Asked[] = [];
  let stopping = false;
  const subscriber = async (who: number) => {
    const caller = new Caller(who, randomFrom(seed * 10_007 + who), urls, history, () => stopping);
    for (let dial = 0; dial < dials && !stopping; dial += 1)
      await caller.dial(`storm-${seed}-${who}-${dial}`);
    await caller.settled();
  };
  const over = Promise.all(Array.from({ length: subscribers }, (_, who) => subscriber(who)));
  return {
    history,
    stop: () => {
      stopping = true;
    },
    over: over.then(() => {}),
  };
}

/** The phone of a subscriber. */
export const callerOf = (who: number) => `+2547120${String(who).padStart(5, '0')}`;

class Caller {
  readonly #phone: string;
  readonly #random: () => number;
  readonly #urls: () => string[];
  readonly #history: Asked[];
  readonly #stopping: () => boolean;
  /** Copies that are still under way, or not yet sent. */
  readonly #late = new Set<Promise<unknown>>();

  constructor(
    who: number,
    random: () => number,
    urls: () => string[],
    history: Asked[],
    stopping: () => boolean,
  ) {
    this.#stopping = stopping;
    this.#phone = callerOf(who);
    this.#random = random;
    this.#urls = urls;
    this.#history = history;
  }

  async dial(sessionId: string): Promise<void> {
    const serviceCode = this.#oneOf(CODES);
    const gateway = this.#random() < 0.25 ? 'latest' : 'ixo';
    const call = { gateway, sessionId, serviceCode, phoneNumber: this.#phone } as const;
    const ended = await this.#call(call, 0);
    if (!ended || gateway === 'latest' || this.#random() >= SAME_ID) return;
    // Copies of the first call would be heard in the second one.
    await this.settled();
    for (let waited = 0; waited < AFTER_END_MS && !this.#stopping(); waited += 200) await sleep(200);
    if (!this.#stopping()) await this.#call(call, 1);
  }

  async settled(): Promise<void> {
    while (this.#late.size > 0) await Promise.all(this.#late);
  }

  /** One call from its start to its END, or until the subscriber hangs up. True: it has ended. */
  async #call(call: Omit<Turn, 'text' | 'requestId'>, dial: number): Promise<boolean> {
    let typed = '';
    let input = '';
    for (let key = 0; key <= MOST_KEYS; key += 1) {
      if (key > 0) typed = typed === '' ? input : `${typed}*${input}`;
      const turn: Turn =
        call.gateway === 'ixo'
          ? { ...call, text: typed }
          : { ...call, text: input, ...(key > 0 && { requestId: `${call.sessionId}-${key}` }) };
      // The next key overtakes this one, which comes late: what follows is heard as two inputs. Not a start with an id
      // that was used before: what overtakes that is a text of the call before.
      const overtaken = this.#random() < 0.06 && key < MOST_KEYS && (key > 0 || dial === 0);
      if (call.gateway === 'ixo' && overtaken) {
        this.#later(turn, dial, 600);
        input = this.#oneOf(['1', '2', '0']);
        continue;
      }
      const screen = await this.#press(turn, dial);
      if (screen === undefined) return false;
      if (screen.startsWith('END')) return true;
      input = this.#answerTo(screen, call.gateway);
    }
    return false;
  }

  /** Sends a turn until it is answered, with everything that happens to requests on the way. */
  async #press(turn: Turn, dial: number): Promise<string | undefined> {
    // Nothing tells a late start on a latest-input gateway from an empty input (decision 7).
    const once = turn.gateway === 'latest' && turn.text === '';
    if (!once && this.#random() < 0.1) await this.#send(turn, dial, this.#random() < 0.5 ? 'body' : 'answer');
    if (!once && this.#random() < 0.25) this.#later(turn, dial, 40);
    if (!once && this.#random() < 0.1) this.#later(turn, dial, 1_500);
    for (let tries = 0; tries < TRIES; tries += 1) {
      const { outcome, body } = await this.#send(turn, dial);
      if (outcome === 'ok' || outcome === 'replay') return body;
      await sleep(100 + 400 * this.#random());
    }
    return undefined;
  }

  #later(turn: Turn, dial: number, within: number): void {
    const copies = Array.from({ length: this.#random() < 0.3 ? 3 : 1 }, async () => {
      await sleep(within * this.#random());
      await this.#send(turn, dial);
    });
    for (const copy of copies) {
      this.#late.add(copy);
      void copy.then(() => this.#late.delete(copy));
    }
  }

  async #send(turn: Turn, dial: number, cut?: Cut): Promise<Asked> {
    const at = performance.now();
    const sent = await sendOnce(this.#oneOf(this.#urls()), turn, cut);
    const asked = { ...sent, turn, dial, at };
    this.#history.push(asked);
    return asked;
  }

  #answerTo(screen: string, gateway: Turn['gateway']): string {
    // Behind an END an empty newest input is a new dial.
    if (this.#random() < 0.05) return this.#oneOf(gateway === 'ixo' ? ['7', 'x', '', '**'] : ['7', 'x']);
    if (screen.includes('Enter amount')) return this.#oneOf(['10', '75', '9']);
    if (screen.includes('phone number')) return '0711000111';
    if (screen.includes('full name')) return 'Ann Phiri';
    if (screen.includes('e-mail')) return '00';
    if (screen.includes('PIN')) return '48213';
    if (screen.includes('Customer ID')) return 'CABCDEFGH';
    const keys = [...screen.matchAll(/^(\d+|\*)\. /gm)].map(([, key = '']) => key);
    // Whoever is about to buy mostly does.
    if (keys.includes('1') && this.#random() < 0.5) return '1';
    return keys.length === 0 ? '1' : this.#oneOf(keys);
  }

  #oneOf(list: string[]): string {
    return list[Math.floor(this.#random() * list.length)] ?? '';
  }
}
