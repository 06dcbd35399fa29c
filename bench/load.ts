/**
 * The callers: a process of its own that is told by its parent what to do (`callers.ts`). It speaks HTTP over plain
 * sockets, because it shares the machine with what it measures: a general client costs several times as much, and
 * none of those at hand walks through sessions and reads every screen.
 */
import { connect, type Socket } from 'node:net';
import { createHistogram } from 'node:perf_hooks';
import { type Account, PLANS, type Plan, type Step, type Walk } from './walks.ts';

/** Callers of one kind, at the same time as others. */
export type Crowd = {
  plan: Plan;
  /** Connections are spread over these in turn. */
  ports: number[];
  connections: number;
  /** Open at a time; whoever has waited longest is next, on whichever connection is free. */
  sessions: number;
  /** Turns a second that come whether or not the last ones were answered. Without: as many as are answered. */
  rate?: number;
  /** Ends after so many turns instead of after a time. */
  turns?: number;
  /** To be logged in to. */
  accounts?: Account[];
};

export type Task = { crowds: Crowd[]; warmMs: number; measureMs: number };

export type Tally = {
  seconds: number;
  turns: number;
  /** Sessions that came to their last screen. */
  walks: number;
  /** In milliseconds. At a rate: from when the turn was due. */
  p50: number;
  p99: number;
  worst: number;
  /** What was not the screen that was expected, by kind. */
  faults: Record<string, number>;
  /** Accounts that were opened; at most so many as anybody needs. */
  accounts: Account[];
};

export type Told = { window: 'begins' | 'ends' } | { done: Tally[]; clientCpu: number } | { failed: string };

/** Replies that are under way when the time is up are waited for, longer than any answer may take. */
const LAST_REPLY_MS = 6_000;
/** However long it takes to get warm: until everybody has dialled once, the load is dials only; no longer than this. */
const MIXING_MS = 4_000;
/** Connections are not opened faster than a listen queue takes them. */
const CONNECT_AT_ONCE = 64;
const MOST_ACCOUNTS = 64;

/** Sessions and phones of a run are nobody else's. */
const RUN = Math.random().toString(16).slice(2, 10).padEnd(8, '0');
let sessions = 0;
/** No two phones are the same, and the end of none is the PIN. */
let phones = Math.floor(Math.random() * 50_000_000);

function freshPhone(): string {
  phones += 1;
  return `+260${String(phones).padStart(8, '0')}606`;
}

/** One who dials, types through a walk, and dials again. */
class Caller {
  readonly #plan: Plan;
  /** Accounts that nobody uses just now: two log-ins at once would be tries of one account. */
  readonly #free: Account[];
  #lent: Account | undefined;
  #steps: Step[] = [];
  #at = 0;
  #text = '';
  #session = '';
  phone = '';
  sentAt = 0;
  /** Goes to the last screen of its walk. */
  isWhole = true;

  constructor(plan: Plan, free: Account[], stagger: boolean) {
    this.#plan = plan;
    this.#free = free;
    this.begin();
    const full = this.#steps.length;
    // Otherwise all would dial at once, and then all type their first input at once.
    if (stagger) this.#steps = this.#steps.slice(0, 1 + Math.floor(Math.random() * full));
    this.isWhole = this.#steps.length === full;
  }

  begin(): void {
    if (this.#lent !== undefined) this.#free.push(this.#lent);
    this.#lent = undefined;
    const { steps, phone }: Walk = PLANS[this.#plan](() => {
      this.#lent = this.#free.shift();
      return this.#lent;
    });
    sessions += 1;
    this.isWhole = true;
    this.#steps = steps;
    this.#at = 0;
    this.#text = '';
    // As long as the ids of real gateways.
    this.#session = `ATUid_${RUN}${sessions.toString(16).padStart(24, '0')}`;
    this.phone = phone ?? freshPhone();
  }

  body(): string {
    const { input } = this.#steps[this.#at] as Step;
    this.#text = this.#at < 2 ? input : `${this.#text}*${input}`;
    return `{"sessionId":"${this.#session}","serviceCode":"*1234#","phoneNumber":"${this.phone}","text":"${this.#text}"}`;
  }

  get expects(): string {
    return (this.#steps[this.#at] as Step).expect;
  }

  /** To the next step; true where there is none. */
  advance(): boolean {
    this.#at += 1;
    return this.#at === this.#steps.length;
  }
}

/** A connection that is kept alive, with at most one request under way. */
class Wire {
  readonly port: number;
  readonly #told: (wire: Wire, status: number, body: string) => void;
  #socket: Socket;
  #received = '';
  caller: Caller | undefined;

  constructor(port: number, told: Wire['hear']) {
    this.port = port;
    this.#told = told;
    this.#socket = this.#open();
  }

  get hear(): (wire: Wire, status: number, body: string) => void {
    return this.#told;
  }

  ready(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#socket.once('connect', resolve);
      this.#socket.once('error', reject);
    });
  }

  send(caller: Caller): void {
    this.caller = caller;
    const body = caller.body();
    this.#socket.write(
      `POST /api/ussd HTTP/1.1\r\nhost: 127.0.0.1:${this.port}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
      'latin1',
    );
  }

  close(): void {
    this.#socket.removeAllListeners('close');
    this.#socket.destroy();
  }

  #open(): Socket {
    const socket = connect({ port: this.port, host: '127.0.0.1', noDelay: true });
    socket.setEncoding('latin1');
    socket.on('data', (chunk) => this.#read(chunk as unknown as string));
    socket.on('error', () => {});
    socket.on('close', () => {
      // Whoever waited here waits in vain; the next one gets a new connection.
      this.#received = '';
      this.#socket = this.#open();
      if (this.caller !== undefined) this.#told(this, 0, '');
    });
    return socket;
  }

  #read(chunk: string): void {
    const text = this.#received + chunk;
    const head = text.indexOf('\r\n\r\n');
    const length = head < 0 ? undefined : /\r\ncontent-length: (\d+)\r\n/i.exec(text.slice(0, head + 2))?.[1];
    if (length === undefined || text.length < head + 4 + Number(length)) {
      this.#received = text;
      return;
    }
    this.#received = '';
    this.#told(this, Number(text.slice(9, 12)), text.slice(head + 4));
  }
}

/** First in, first out, of a fixed size. */
class Ring<T> {
  readonly #items: (T | undefined)[];
  #first = 0;
  length = 0;

  constructor(size: number) {
    this.#items = new Array(size);
  }

  push(item: T): void {
    this.#items[(this.#first + this.length) % this.#items.length] = item;
    this.length += 1;
  }

  shift(): T | undefined {
    if (this.length === 0) return undefined;
    const item = this.#items[this.#first];
    this.#first = (this.#first + 1) % this.#items.length;
    this.length -= 1;
    return item;
  }
}

class Running {
  readonly #crowd: Crowd;
  readonly #waiting: Ring<Caller>;
  readonly #wires: Wire[] = [];
  #idle: Wire[] = [];
  readonly #times = createHistogram({ figures: 3 });
  readonly #faults: Record<string, number> = {};
  readonly #accounts: Account[] = [];
  #turns = 0;
  #walks = 0;
  #replies = 0;
  /** When the window of measurement is, by `performance.now()`. */
  #from = Number.POSITIVE_INFINITY;
  #to = Number.POSITIVE_INFINITY;
  #stopping = false;
  #timer: NodeJS.Timeout | undefined;
  #began = 0;
  #due = 0;
  #budget: number;
  readonly spent: Promise<void>;
  readonly #nothingLeft: () => void;

  constructor(crowd: Crowd) {
    this.#crowd = crowd;
    this.#budget = crowd.turns ?? Number.POSITIVE_INFINITY;
    this.#waiting = new Ring(crowd.sessions);
    const free = [...(crowd.accounts ?? [])];
    for (let n = 0; n < crowd.sessions; n += 1)
      this.#waiting.push(new Caller(crowd.plan, free, crowd.turns === undefined));
    const { promise, resolve } = Promise.withResolvers<void>();
    this.spent = promise;
    this.#nothingLeft = resolve;
  }

  async open(): Promise<void> {
    const { ports, connections } = this.#crowd;
    while (this.#wires.length < connections) {
      const some = Array.from(
        { length: Math.min(CONNECT_AT_ONCE, connections - this.#wires.length) },
        (_, n) => {
          const port = ports[(this.#wires.length + n) % ports.length] as number;
          return new Wire(port, (wire, status, body) => this.#heard(wire, status, body));
        },
      );
      await Promise.all(some.map((wire) => wire.ready()));
      this.#wires.push(...some);
    }
    this.#idle = [...this.#wires];
  }

  /** Everybody has had the first answer. */
  get isMixed(): boolean {
    return this.#replies >= this.#crowd.sessions;
  }

  start(): void {
    this.#began = performance.now();
    if (this.#crowd.rate === undefined) {
      for (const wire of this.#idle.splice(0)) this.#next(wire);
    } else {
      this.#timer = setInterval(() => this.#keepUp(), 1);
    }
  }

  measureFrom(at: number): void {
    this.#from = at;
  }

  measureUntil(at: number): void {
    this.#to = at;
  }

  /** Nothing more is asked; what is under way is waited for. */
  async stop(): Promise<Tally> {
    this.#stopping = true;
    clearInterval(this.#timer);
    const until = performance.now() + LAST_REPLY_MS;
    while (this.#wires.some((wire) => wire.caller !== undefined) && performance.now() < until)
      await new Promise((resolve) => setTimeout(resolve, 10));
    for (const wire of this.#wires) {
      if (wire.caller !== undefined) this.#fault('unanswered');
      wire.close();
    }
    return {
      seconds: (this.#to - this.#from) / 1000,
      turns: this.#turns,
      walks: this.#walks,
      p50: this.#times.percentile(50) / 1e6,
      p99: this.#times.percentile(99) / 1e6,
      worst: this.#times.max / 1e6,
      faults: this.#faults,
      accounts: this.#accounts,
    };
  }

  /** At a rate: sends what is due, where a connection is free. What has to wait for one has waited since it was due. */
  #keepUp(): void {
    const { rate = 0 } = this.#crowd;
    const interval = 1000 / rate;
    const now = performance.now();
    for (;;) {
      const at = this.#began + this.#due * interval;
      if (at > now || this.#idle.length === 0 || this.#waiting.length === 0) return;
      this.#due += 1;
      // In turn, so that none is unused for so long that it is closed in the moment in which it is used again.
      const wire = this.#idle.shift() as Wire;
      this.#send(wire, this.#waiting.shift() as Caller, at);
    }
  }

  #next(wire: Wire): void {
    if (this.#stopping) return;
    const caller = this.#budget > 0 ? this.#waiting.shift() : undefined;
    if (caller === undefined) {
      this.#idle.push(wire);
      if (this.#budget === 0 && this.#idle.length === this.#wires.length) this.#nothingLeft();
      return;
    }
    this.#budget -= 1;
    this.#send(wire, caller, performance.now());
  }

  #send(wire: Wire, caller: Caller, due: number): void {
    caller.sentAt = due;
    wire.send(caller);
  }

  #heard(wire: Wire, status: number, body: string): void {
    const caller = wire.caller as Caller;
    wire.caller = undefined;
    this.#replies += 1;
    const now = performance.now();
    const good = status === 200 && body.startsWith(caller.expects);
    if (now >= this.#from && now < this.#to && good) this.#turns += 1;
    if (caller.sentAt >= this.#from && caller.sentAt < this.#to)
      this.#times.record(Math.max(1, Math.round((now - caller.sentAt) * 1e6)));
    // Faults count whenever they happen: also while it is getting warm.
    if (!good) this.#fault(faultOf(status, body));
    const over = !good || caller.advance();
    if (over) {
      if (good && caller.isWhole && now >= this.#from && now < this.#to) this.#walks += 1;
      if (good) this.#remember(caller.phone, body);
      caller.begin();
    }
    this.#waiting.push(caller);
    if (this.#crowd.rate === undefined) this.#next(wire);
    else {
      this.#idle.push(wire);
      if (!this.#stopping) this.#keepUp();
    }
  }

  #remember(phone: string, body: string): void {
    if (this.#accounts.length >= MOST_ACCOUNTS) return;
    const id = /ID: (C[A-Z2-9]{8})/.exec(body)?.[1];
    if (id !== undefined) this.#accounts.push({ phone, id });
  }

  #fault(kind: string): void {
    this.#faults[kind] = (this.#faults[kind] ?? 0) + 1;
  }
}

function faultOf(status: number, body: string): string {
  if (status === 0) return 'connection lost';
  if (status !== 200) return String(status);
  if (body.startsWith('END Service temporarily unavailable')) return 'unavailable';
  // The first words of a screen say what it was: nobody is named before its first line ends.
  return `not the screen: ${body.split('\n', 1)[0]?.slice(0, 40)}`;
}

async function work({ crowds, warmMs, measureMs }: Task): Promise<void> {
  const running = crowds.map((crowd) => new Running(crowd));
  for (const each of running) await each.open();
  for (const each of running) each.start();
  const counted = crowds.some((crowd) => crowd.turns !== undefined);
  await rest(warmMs);
  const patience = performance.now() + MIXING_MS;
  while (!counted && running.some((each) => !each.isMixed) && performance.now() < patience) await rest(10);
  const from = performance.now();
  const before = process.cpuUsage();
  for (const each of running) each.measureFrom(from);
  tell({ window: 'begins' });
  await (counted ? Promise.all(running.map((each) => each.spent)) : rest(measureMs));
  const to = performance.now();
  for (const each of running) each.measureUntil(to);
  const { user, system } = process.cpuUsage(before);
  tell({ window: 'ends' });
  const done = await Promise.all(running.map((each) => each.stop()));
  tell({ done, clientCpu: (user + system) / 1000 / (to - from) });
}

function rest(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function tell(told: Told): void {
  process.send?.(told);
}

// Control-C goes to everybody in the terminal; the parent says when it is over.
process.on('SIGINT', () => {});
process.on('disconnect', () => process.exit(0));
process.on('message', (task: Task) => {
  work(task).catch((error: unknown) => tell({ failed: String(error) }));
});
