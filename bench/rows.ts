import { availableParallelism } from 'node:os';
import { fill } from './fill.ts';
import type { Crowd, Tally } from './load.ts';
import { residentOf, type Server, type Stage } from './stage.ts';

/**
 * How long a row is measured in a round, and how long it runs before that; in milliseconds. What is measured by
 * count is to be done in `patienceMs`.
 */
export type Slot = { warmMs: number; measureMs: number; patienceMs?: number };

/** What a row was found to do in one round. */
export type Reading = {
  /** Per second. */
  rate: number;
  /** In milliseconds; of plain turns where there are others. */
  p50: number;
  p99: number;
  faults: Record<string, number>;
  /** Processors kept busy: by the servers, by Postgres, by the callers. */
  busy?: { servers: number; database: number; client: number };
  /** Other numbers that a row is there for, by what they are called. */
  more?: Record<string, number>;
};

/** One line of the table. */
export type Row = {
  id: string;
  name: string;
  /** What is counted. */
  unit: 'requests' | 'turns' | 'accounts' | 'log-ins' | 'dials';
  connections: number;
  /** The bare row that its rate is divided by; none where the rate is given, or counts something else. */
  of?: 'bare' | 'bare512';
  /** Measured once, after the rounds. */
  once?: true;
  /** What keeps it from being faster, to the best of our knowledge. */
  limit: string;
  /** Starts what it runs on; returns how it is measured. Throws `LeftOut`. */
  prepare(stage: Stage, rates: Rates): Promise<(slot: Slot) => Promise<Reading>>;
};

/** Rates that rows had so far in this run, medians. */
export type Rates = (id: string) => number | undefined;

/** Whoever thinks has a session but no connection: as many again wait while the others are answered. */
const SESSIONS_PER_CONNECTION = 2;
/** Enough to keep both PIN slots busy; more only wait longer, in a queue of 64 behind which one is sent away. */
const PIN_CALLERS = 8;
/** Accounts and log-ins are counted by their last turns, so all callers must have come to one before it counts. */
const PIN_MS = 2_000;
const ACCOUNTS = 24;
/** Accounts for the log-ins are opened by so few at once that even a busy machine keeps to its deadline. */
const OPENERS = 4;
/** Connections of loads that come at a rate. */
const OPEN_LOOP = 256;

const closed = (plan: Crowd['plan'], connections: number, ...servers: Server[]): Crowd => ({
  plan,
  ports: servers.map(({ port }) => port),
  connections,
  sessions: connections * SESSIONS_PER_CONNECTION,
});

/** Calls with all crowds at once; the reading is of the first one. */
async function called(
  stage: Stage,
  crowds: Crowd[],
  servers: Server[],
  slot: Slot,
): Promise<{ reading: Reading; walks: number[] }> {
  stage.only(servers);
  const { tallies, clientCpu, begin, end } = await stage.callers.call({ crowds, ...slot }, () =>
    stage.busy(servers),
  );
  const [first] = tallies as [Tally];
  const reading: Reading = {
    rate: first.turns / first.seconds,
    p50: first.p50,
    p99: first.p99,
    faults: faultsOf(tallies),
  };
  if (begin !== undefined && end !== undefined)
    reading.busy = {
      servers: (end.servers - begin.servers) / first.seconds,
      database: (end.database - begin.database) / first.seconds,
      client: clientCpu,
    };
  return { reading, walks: tallies.map(({ walks, seconds }) => walks / seconds) };
}

const patient = (slot: Slot): Slot => ({
  ...slot,
  warmMs: Math.max(slot.warmMs, PIN_MS),
  measureMs: Math.max(slot.measureMs, PIN_MS),
});

async function turnsOf(stage: Stage, crowd: Crowd, servers: Server[], slot: Slot): Promise<Reading> {
  return (await called(stage, [crowd], servers, slot)).reading;
}

function faultsOf(counted: { faults: Record<string, number> }[]): Record<string, number> {
  const all: Record<string, number> = {};
  for (const { faults } of counted)
    for (const [kind, count] of Object.entries(faults)) all[kind] = (all[kind] ?? 0) + count;
  return all;
}

/** A row of one server, called flat out. */
function simple(
  row: Omit<Row, 'prepare' | 'unit'> & {
    unit?: Row['unit'];
    plan: Crowd['plan'];
    server(stage: Stage): Promise<Server>;
  },
): Row {
  const { plan, server, ...rest } = row;
  return {
    unit: 'turns',
    ...rest,
    prepare: async (stage) => {
      const on = await server(stage);
      return (slot) => turnsOf(stage, closed(plan, row.connections, on), [on], slot);
    },
  };
}

/** Accounts to log in to, opened before anything is measured. */
export async function accountsOn(stage: Stage, server: Server): Promise<void> {
  let faults: Tally['faults'] = {};
  for (let attempt = 1; stage.accounts.length < ACCOUNTS; attempt += 1) {
    if (attempt > 5)
      throw new Error(`only ${stage.accounts.length} accounts were opened: ${JSON.stringify(faults)}`);
    // Enough for those that are still under way when the last turn is spent.
    const turns = (ACCOUNTS - stage.accounts.length + OPENERS) * 7;
    const crowd: Crowd = { ...closed('create', OPENERS, server), sessions: OPENERS, turns };
    stage.only([server]);
    const { tallies } = await stage.callers.call(
      { crowds: [crowd], warmMs: 0, measureMs: 0 },
      () => undefined,
    );
    faults = tallies[0]?.faults ?? {};
    stage.accounts.push(...(tallies[0]?.accounts ?? []));
  }
}

/** The best rate that plain turns have had here, or, where that row does not run, have for a moment. */
async function fullLoad(stage: Stage, rates: Rates, server: Server): Promise<number> {
  const known = rates('walk');
  if (known !== undefined) return known;
  const slot = { warmMs: 500, measureMs: 1_000 };
  return (await turnsOf(stage, closed('walk', 64, server), [server], slot)).rate;
}

/** Plain turns that come at half of the rate at which they were answered flat out. */
const halfOf = (full: number, server: Server): Crowd & { rate: number } => ({
  ...closed('walk', OPEN_LOOP, server),
  rate: full / 2,
});

/** The walk on a table that holds so many turns already. */
function filled(id: string, turns: number, limit: string): Row {
  return {
    id,
    name: `ours, walk, ${words(turns)} turns stored`,
    unit: 'turns',
    connections: 64,
    of: 'bare',
    limit,
    prepare: async (stage) => {
      // About 400 bytes a turn, as much of the log, and room to grow.
      stage.needsDisk(turns * 1_000 + 2e9);
      const server = await stage.gateway(`filled ${turns}`);
      const crowd = closed('walk', 64, server);
      // Where the pattern of the rows comes from: a few whole walks.
      const sample = { ...crowd, sessions: 64, turns: 64 * 10 };
      await turnsOf(stage, sample, [server], { warmMs: 0, measureMs: 0 });
      const refill = () =>
        fill(server.url as string, turns, (done) => stage.tell(`${id}: ${words(done)} turns`));
      const bytes = await refill();
      let isFresh = true;
      return async (slot) => {
        // A small table would not be small any more after a round.
        if (turns <= 10_000 && !isFresh) await refill();
        isFresh = false;
        const reading = await turnsOf(stage, crowd, [server], slot);
        return { ...reading, ...(turns > 10_000 && { more: { 'bytes a turn': bytes } }) };
      };
    },
  };
}

export function words(count: number): string {
  return count >= 1e6 ? `${count / 1e6}M` : count >= 1e3 ? `${count / 1e3}k` : String(count);
}

/** RSS over many distinct sessions: what has grown after the first fifth of them. */
function memory(sessions: number): Row {
  const slices = 20;
  const warm = 4;
  return {
    id: 'memory',
    name: `ours, memory over ${words(sessions)} sessions`,
    unit: 'dials',
    connections: 64,
    of: 'bare',
    once: true,
    limit: 'nothing of a session stays in the process; what grows first is the heap that V8 finds convenient',
    prepare: async (stage) => {
      const server = await stage.gateway('memory');
      return async ({ patienceMs = Number.POSITIVE_INFINITY }) => {
        const until = performance.now() + patienceMs;
        const perSlice: number[] = [];
        const crowd = { ...closed('dial', 64, server), turns: sessions / slices };
        const readings: Reading[] = [];
        for (let slice = 0; slice < slices && performance.now() < until; slice += 1) {
          const seen: number[] = [];
          const timer = setInterval(() => seen.push(residentOf(server.pid)), 100);
          readings.push(await turnsOf(stage, crowd, [server], { warmMs: 0, measureMs: 0 }));
          clearInterval(timer);
          seen.push(residentOf(server.pid));
          perSlice.push(median(seen));
          stage.tell(`memory: ${words(((slice + 1) * sessions) / slices)} sessions`);
        }
        const MB = 1024 * 1024;
        const after = perSlice[Math.min(warm, perSlice.length - 1)] as number;
        return {
          rate: median(readings.map((reading) => reading.rate)),
          p50: median(readings.map((reading) => reading.p50)),
          p99: Math.max(...readings.map((reading) => reading.p99)),
          faults: faultsOf(readings),
          ...(readings.at(-1)?.busy && { busy: readings.at(-1)?.busy }),
          more: {
            sessions: (readings.length * sessions) / slices,
            'MB after warm-up': after / MB,
            'MB at the end': (perSlice.at(-1) as number) / MB,
            'MB grown': ((perSlice.at(-1) as number) - after) / MB,
          },
        };
      };
    },
  };
}

export function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return sorted.length % 2 === 1
    ? (sorted[Math.floor(middle)] as number)
    : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2;
}

/** All rows of a run, in the order of the table. */
export function allRows(quick: boolean): Row[] {
  const sizes = quick ? [1_000, 100_000] : [1_000, 1_000_000, 10_000_000];
  return [
    simple({
      id: 'bare',
      name: 'bare route',
      unit: 'requests',
      connections: 64,
      of: 'bare',
      plan: 'fixed',
      server: (stage) => stage.bare(),
      limit: 'HTTP in one thread of Node',
    }),
    simple({
      id: 'validated',
      name: 'bare route and our schema',
      unit: 'requests',
      connections: 64,
      of: 'bare',
      plan: 'fixed',
      server: (stage) => stage.validated(),
      limit: 'the same thread; zod reads six fields',
    }),
    simple({
      id: 'naive',
      name: 'SELECT and UPSERT per request',
      unit: 'requests',
      connections: 64,
      of: 'bare',
      plan: 'fixed',
      server: (stage) => stage.naive(),
      limit: 'two round trips a request, one flush of the log for each few requests, work of ten backends',
    }),
    simple({
      id: 'redis',
      name: 'sessions in Redis, not durable',
      unit: 'requests',
      connections: 64,
      of: 'bare',
      plan: 'fixed',
      server: (stage) => stage.redis(),
      limit: 'two round trips a request, pipelined by the client; nothing is flushed',
    }),
    simple({
      id: 'dial',
      name: 'ours, dials only',
      connections: 64,
      of: 'bare',
      plan: 'dial',
      server: (stage) => stage.gateway(),
      limit: 'the thread of the gateway; four digests of an opening, and a row that holds more',
    }),
    simple({
      id: 'walk',
      name: 'ours, walk of five steps',
      connections: 64,
      of: 'bare',
      plan: 'walk',
      server: (stage) => stage.gateway(),
      limit: 'the thread of the gateway: HTTP, the seal, the driver, and many small things (see below)',
    }),
    {
      id: 'create',
      name: 'ours, accounts opened',
      unit: 'accounts',
      connections: PIN_CALLERS,
      limit: 'scrypt: two hashes an account, two at a time, about 50 ms of a processor each',
      prepare: async (stage) => {
        const server = await stage.gateway();
        const crowd = { ...closed('create', PIN_CALLERS, server), sessions: PIN_CALLERS };
        return async (slot) => {
          const { reading, walks } = await called(stage, [crowd], [server], patient(slot));
          return { ...reading, rate: walks[0] ?? 0, more: { 'turns a second': reading.rate } };
        };
      },
    },
    {
      id: 'mixed',
      name: 'ours, 95 % plain and 5 % account turns',
      unit: 'turns',
      connections: 64,
      of: 'bare',
      limit: 'scrypt: callers here wait for their answers, so in the end all wait for a PIN',
      prepare: async (stage) => {
        const server = await stage.gateway();
        await accountsOn(stage, server);
        return (slot) => {
          const crowd = { ...closed('mixed', 64, server), accounts: stage.accounts };
          return turnsOf(stage, crowd, [server], slot);
        };
      },
    },
    {
      id: 'half',
      name: 'ours, walk at half load',
      unit: 'turns',
      connections: OPEN_LOOP,
      limit: 'the load is given; a turn waits for the batch under way, and then for its own two',
      prepare: async (stage, rates) => {
        const server = await stage.gateway();
        return async (slot) => {
          const crowd = halfOf(await fullLoad(stage, rates, server), server);
          const reading = await turnsOf(stage, crowd, [server], slot);
          return { ...reading, more: { 'asked for a second': crowd.rate } };
        };
      },
    },
    {
      id: 'logIns',
      name: 'ours, log-ins flat out beside half load',
      unit: 'log-ins',
      connections: OPEN_LOOP + PIN_CALLERS,
      limit: 'scrypt: one hash a log-in, two at a time; what it takes of the processors the plain turns lack',
      prepare: async (stage, rates) => {
        const server = await stage.gateway();
        await accountsOn(stage, server);
        return async (slot) => {
          const plain = halfOf(await fullLoad(stage, rates, server), server);
          const logIns: Crowd = {
            ...closed('logIn', PIN_CALLERS, server),
            sessions: PIN_CALLERS,
            accounts: stage.accounts,
          };
          const { reading, walks } = await called(stage, [plain, logIns], [server], patient(slot));
          return {
            ...reading,
            rate: walks[1] ?? 0,
            more: { 'plain turns a second': reading.rate, 'asked for': plain.rate },
          };
        };
      },
    },
    {
      id: 'two',
      name: 'ours, walk, two instances',
      unit: 'turns',
      connections: 64,
      of: 'bare',
      limit: cores() <= 4 ? 'the processors: a second instance brings none of its own' : 'Postgres',
      prepare: async (stage) => {
        const first = await stage.gateway();
        const second = await stage.gateway('ours', 'own disk', 'second');
        return (slot) => turnsOf(stage, closed('walk', 64, first, second), [first, second], slot);
      },
    },
    simple({
      id: 'bare512',
      name: 'bare route',
      unit: 'requests',
      connections: 512,
      of: 'bare512',
      plan: 'fixed',
      server: (stage) => stage.bare(),
      limit: 'HTTP in one thread of Node',
    }),
    simple({
      id: 'naive512',
      name: 'SELECT and UPSERT per request',
      unit: 'requests',
      connections: 512,
      of: 'bare512',
      plan: 'fixed',
      server: (stage) => stage.naive(),
      limit: 'as with 64: the pool has ten connections however many callers there are',
    }),
    simple({
      id: 'redis512',
      name: 'sessions in Redis, not durable',
      unit: 'requests',
      connections: 512,
      of: 'bare512',
      plan: 'fixed',
      server: (stage) => stage.redis(),
      limit: 'two round trips a request, pipelined by the client; nothing is flushed',
    }),
    simple({
      id: 'walk512',
      name: 'ours, walk of five steps',
      connections: 512,
      of: 'bare512',
      plan: 'walk',
      server: (stage) => stage.gateway(),
      limit: 'as with 64; larger batches, so less of Postgres for each turn',
    }),
    simple({
      id: 'embedded',
      name: 'ours, walk, embedded database',
      connections: 64,
      of: 'bare',
      plan: 'walk',
      server: (stage) => stage.embedded(),
      limit: 'Postgres in WebAssembly on the thread of the gateway',
    }),
    simple({
      id: 'naiveSlow',
      name: 'SELECT and UPSERT, flush of 2 ms',
      unit: 'requests',
      connections: 64,
      of: 'bare',
      plan: 'fixed',
      server: (stage) => stage.naive('slow disk'),
      limit: 'the flush: ten connections share one every 2 ms',
    }),
    simple({
      id: 'slow',
      name: 'ours, walk, flush of 2 ms',
      connections: 64,
      of: 'bare',
      plan: 'walk',
      server: (stage) => stage.gateway('ours', 'slow disk'),
      limit: 'the flush: a batch takes at least 2 ms, and 64 callers fill no larger one',
    }),
    ...sizes.map((turns) =>
      filled(
        `stored${words(turns)}`,
        turns,
        turns > 1e6
          ? 'as the walk; the index on keys is larger than shared_buffers, so its pages come from the system'
          : 'as the walk',
      ),
    ),
    memory(quick ? 50_000 : 1_000_000),
  ];
}

function cores(): number {
  return availableParallelism();
}
