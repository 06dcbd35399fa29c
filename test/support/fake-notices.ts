/** What Africa's Talking tells us afterwards: airtime status callbacks (JSON) and delivery reports (form). */
import { setTimeout as sleep } from 'node:timers/promises';

export type NoticeOptions = {
  /** Where status callbacks of airtime go; none are sent where it is not set. */
  airtimeUrl?: string;
  /** Where delivery reports go. */
  reportsUrl?: string;
  /** The shares of notices, from 0 to 1, that are sent twice, and that are sent before the call is answered. */
  duplicate?: number;
  before?: number;
  /** How long a notice that is not sent before the answer waits, at least and at most; in milliseconds. */
  delayMs?: [number, number];
  /** What reports say of a message, one after the other; reordered where `shuffle` is set. */
  reports?: string[];
  shuffle?: boolean;
  /** How often a notice is offered that nobody takes (no connection, or no 2xx), and how long in between. */
  tries?: number;
  pauseMs?: number;
};

export type Notice = { url: string; type: string; body: string; about: string };
/** One offer of a notice; `status` is 0 where nobody listened. */
export type Offered = Notice & { status: number };

type Sold = { phoneNumber: string; amount: string; requestId: string };
type Sent = { number: string; messageId: string };

export class Notices {
  /** Every offer that was made, in the order of its end. */
  readonly offered: Offered[] = [];
  /** By phone number: what the status callback of its airtime says; `Success` where it is not here. */
  readonly airtime = new Map<string, 'Success' | 'Failed'>();
  readonly #options: NoticeOptions;
  readonly #random: () => number;
  readonly #look: () => void;
  readonly #all: Notice[] = [];
  readonly #early: Promise<void>[] = [];
  readonly #pending = new Set<Promise<void>>();
  readonly #stop = new AbortController();

  constructor(options: NoticeOptions, random: () => number, look: () => void) {
    this.#options = options;
    this.#random = random;
    this.#look = look;
  }

  ofAirtime(sold: Sold[]): void {
    const { airtimeUrl: url } = this.#options;
    if (url === undefined) return;
    for (const { phoneNumber, amount, requestId } of sold) {
      const status = this.airtime.get(phoneNumber) ?? 'Success';
      const description = status === 'Success' ? 'Airtime Delivered Successfully' : 'Airtime Delivery Failed';
      const value = `${amount}${amount.includes('.') ? '00' : '.0000'}`;
      const body = { phoneNumber, description, status, requestId, discount: 'KES 0.6000', value };
      this.#plan({ url, type: 'application/json', body: JSON.stringify(body), about: requestId });
    }
  }

  ofMessages(sent: Sent[]): void {
    const { reportsUrl: url, reports = ['Success'], shuffle = false } = this.#options;
    if (url === undefined) return;
    const notices = sent.flatMap(({ number, messageId: id }) =>
      reports.map((status): Notice => {
        const fields = { id, status, phoneNumber: number, networkCode: '63902', retryCount: '0' };
        const reason: Record<string, string> = /Failed|Rejected/.test(status)
          ? { failureReason: 'DeliveryFailure' }
          : {};
        const body = new URLSearchParams({ ...fields, ...reason }).toString();
        return { url, type: 'application/x-www-form-urlencoded', body, about: id };
      }),
    );
    if (shuffle) this.#shuffle(notices);
    for (const notice of notices) this.#plan(notice);
  }

  /** Resolves when the notices have been offered that are to overtake the answer. */
  async before(): Promise<void> {
    await Promise.all(this.#early.splice(0));
  }

  /** Resolves when no notice is under way. */
  async settled(): Promise<void> {
    while (this.#pending.size > 0) await Promise.all(this.#pending);
  }

  /** Offers every notice once more, in another order: the far side found that it had not said it. */
  async again(): Promise<void> {
    const notices = [...this.#all];
    this.#shuffle(notices);
    for (const notice of notices) this.#start(notice, 0);
    await this.settled();
  }

  stop(): void {
    this.#stop.abort();
  }

  #plan(notice: Notice): void {
    const { before = 0, duplicate = 0, delayMs: [least, most] = [0, 0] } = this.#options;
    this.#all.push(notice);
    const early = this.#random() < before;
    const copies = this.#random() < duplicate ? 2 : 1;
    for (let copy = 0; copy < copies; copy++) {
      const wait = early ? 0 : least + this.#random() * (most - least);
      const offer = this.#start(notice, wait);
      if (early) this.#early.push(offer);
    }
  }

  #start(notice: Notice, wait: number): Promise<void> {
    const offer = this.#offer(notice, wait).finally(() => {
      this.#pending.delete(offer);
      this.#look();
    });
    this.#pending.add(offer);
    return offer;
  }

  async #offer(notice: Notice, wait: number): Promise<void> {
    const { tries = 1, pauseMs = 50 } = this.#options;
    await this.#pause(wait);
    for (let left = tries; left > 0 && !this.#stop.signal.aborted; left--) {
      const status = await post(notice, this.#stop.signal);
      this.offered.push({ ...notice, status });
      if (status >= 200 && status < 300) return;
      await this.#pause(left > 1 ? pauseMs : 0);
    }
  }

  async #pause(ms: number): Promise<void> {
    if (ms > 0) await sleep(ms, undefined, { signal: this.#stop.signal }).catch(() => {});
  }

  #shuffle<T>(list: T[]): void {
    for (let last = list.length - 1; last > 0; last--) {
      const other = Math.floor(this.#random() * (last + 1));
      [list[last], list[other]] = [list[other] as T, list[last] as T];
    }
  }
}

async function post({ url, type, body }: Notice, signal: AbortSignal): Promise<number> {
  try {
    const response = await fetch(url, { method: 'POST', headers: { 'content-type': type }, body, signal });
    await response.arrayBuffer();
    return response.status;
  } catch {
    return 0;
  }
}
