/**
 * What every fake of a far side is: a server on a real socket that goes down and comes up, calls that meet their
 * fates, and a test that waits for what it sees.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';

/** Exactly these bytes as an answer; `does` says whether the call is done before them. */
export type Exactly = { status: number; headers?: Record<string, string>; body?: string; does?: boolean };

export type FarSideOptions<Fate extends string> = {
  /** Of the generator that deals out fates and delays, in the order in which requests arrive. */
  seed?: number;
  /** The share of calls that meet each fate, from 0 to 1 in all; the others are answered. */
  chaos?: Partial<Record<Exclude<Fate, 'answer'>, number>>;
};

export abstract class FarSide<Fate extends string> {
  protected readonly random: () => number;
  /** Every call is answered 503, undone. */
  protected isUnavailable = false;
  readonly #next: (Fate | Exactly)[] = [];
  readonly #sockets = new Set<Socket>();
  readonly #waiting: { condition: () => boolean; resolve: () => void }[] = [];
  #chaos: FarSideOptions<Fate>['chaos'];
  /** While it stands still: resolves when it goes on. */
  #still: PromiseWithResolvers<void> | undefined;
  #server = this.#serverOf();
  #port = 0;

  constructor({ seed = 1, chaos = {} }: FarSideOptions<Fate>) {
    this.random = randomFrom(seed);
    this.#chaos = chaos;
  }

  protected abstract hear(request: IncomingMessage, response: ServerResponse): Promise<void>;

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** The next calls meet these fates, in this order; after them chaos holds again. */
  next(...fates: (Fate | Exactly)[]): void {
    this.#next.push(...fates);
  }

  /** From now on this chaos, or none. */
  chaos(chaos: NonNullable<FarSideOptions<Fate>['chaos']>): void {
    this.#chaos = chaos;
  }

  /** Resolves when the condition holds; it is looked at after every request, answer and notice. */
  when(condition: () => boolean): Promise<void> {
    if (condition()) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push({ condition, resolve }));
  }

  /**
   * `refuse`: nobody listens, and open connections end; `503`: every call is answered 503, undone; `still`: connections
   * are taken and nothing comes, as of a process that was stopped, and when it is up again all of it is done, late,
   * whether or not somebody still waits for the answer.
   */
  async down(how: 'refuse' | '503' | 'still' = 'refuse'): Promise<void> {
    if (how === 'still') {
      this.#still ??= Promise.withResolvers();
      return;
    }
    if (how === '503') {
      this.isUnavailable = true;
      return;
    }
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  /** Back on the port that it had. */
  async up(): Promise<void> {
    this.isUnavailable = false;
    this.#still?.resolve();
    this.#still = undefined;
    if (this.#server.listening) return;
    this.#server = this.#serverOf();
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(this.#port, '127.0.0.1', resolve);
    });
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    this.#still?.resolve();
    if (this.#server.listening) await this.down();
  }

  /** Resolves at once, or when it goes on. */
  protected async moving(): Promise<void> {
    await this.#still?.promise;
  }

  /** What becomes of the call that has just come. */
  protected deal(): Fate | 'fail' | 'answer' | Exactly {
    if (this.isUnavailable) return 'fail';
    const next = this.#next.shift();
    if (next !== undefined) return next;
    let left = this.random();
    for (const [fate, share] of Object.entries<number | undefined>(this.#chaos ?? {})) {
      left -= share ?? 0;
      if (left < 0) return fate as Fate;
    }
    return 'answer';
  }

  /** Something has happened: whoever waits for it is told. */
  protected look(): void {
    for (const waiting of [...this.#waiting]) {
      if (!waiting.condition()) continue;
      this.#waiting.splice(this.#waiting.indexOf(waiting), 1);
      waiting.resolve();
    }
  }

  #serverOf() {
    const server = createServer((request, response) => void this.hear(request, response));
    server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
    return server;
  }
}

/**
 * Answers, or not, as the fate says: `drop`, the connection ends; `hang`, nothing comes; `malformed`, it is no JSON;
 * `truncated`, it ends before its end.
 */
export function tell(
  response: ServerResponse,
  fate: string,
  { status, body, headers = {} }: { status: number; body: string; headers?: Record<string, string> },
): void {
  if (fate === 'drop') response.destroy();
  if (fate === 'drop' || fate === 'hang') return;
  const said = fate === 'malformed' ? `<html>${body}` : body;
  const length = { 'content-length': Buffer.byteLength(said) };
  response.writeHead(status, { 'content-type': 'application/json', ...length, ...headers });
  if (fate !== 'truncated') return void response.end(said);
  response.write(said.slice(0, said.length / 2), () => response.destroy());
}

/** mulberry32: the same numbers from 0 to 1 for the same seed. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
