import type { Server } from 'node:net';
import rateLimit from '@fastify/rate-limit';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Redis } from 'ioredis';

/** Keys counted by one instance. At about 150 bytes each; few enough to hold, too many to push others out. */
const MOST_KEYS = 200_000;
/** A Redis that does not answer within this is away; a turn never waits longer for it. */
const REDIS_MS = 100;
/** For this long a Redis that was away is not asked again. */
const REDIS_REST_MS = 5_000;

/** INCR and its window in one step, so that no key is left without an end. */
const COUNT = `
  local count = redis.call('INCR', KEYS[1])
  if count == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
  return {count, redis.call('PTTL', KEYS[1])}`;

/** Counts one hit for a key. Seconds until the window ends where the limit is passed, else undefined. */
export type Limit = (
  request: FastifyRequest,
  key: string,
  max: number,
) => Promise<number | undefined> | number | undefined;

/**
 * One limiter for everything that is counted, with keys that say what (`ip:…`, `phone:…`, `token:…`).
 * Each instance counts for itself; with Redis the counts of all are added up, and the larger one holds,
 * so that a Redis that is away only makes the limit one per instance (decision 30); for `redisRestMs` it is then not
 * asked again.
 */
export async function addLimits(
  app: FastifyInstance,
  windowMs: number,
  redisUrl?: string,
  redisRestMs = REDIS_REST_MS,
): Promise<Limit> {
  const redis = redisUrl === undefined ? undefined : await connectRedis(redisUrl);
  if (redis !== undefined) app.addHook('onClose', async () => redis.disconnect());
  const own = new Windows(windowMs);
  // Without Redis counting is one look into a table, and the plugin's way there costs ten times as much.
  if (redis === undefined)
    return (_request, key, max) => {
      const { current, ttl } = own.hit(key);
      return current <= max ? undefined : Math.max(1, Math.ceil(ttl / 1000));
    };
  await app.register(rateLimit, {
    global: false,
    store: storeOf(new Counts(own, redis, redisRestMs)),
    timeWindow: windowMs,
  });
  // The plugin asks for the key before it first waits, so one variable serves all requests.
  let asked = '';
  const limiters = new Map<number, ReturnType<FastifyInstance['createRateLimit']>>();
  const limiter = (max: number) => {
    const known = limiters.get(max);
    if (known !== undefined) return known;
    const made = app.createRateLimit({ max, timeWindow: windowMs, keyGenerator: () => asked });
    limiters.set(max, made);
    return made;
  };
  return async (request, key, max) => {
    asked = key;
    const counted = await limiter(max)(request);
    if (counted.isAllowed || !counted.isExceeded) return undefined;
    return Math.max(1, counted.ttlInSeconds);
  };
}

/** The key of a client's address: IPv6 by its /64, which one client owns whole. */
export function addressKey(ip: string): string {
  return `ip:${rateLimit.normalizeIP(ip)}`;
}

/** How many connections there may be at a time; requests on one of them, 0 for any number. */
export type ConnectionLimits = { most: number; perAddress: number; requests: number };

/**
 * Ends connections above the limits at once, before anything is read of them. `isExempt`: addresses that stand for many
 * clients, which only the limit on all connections holds for.
 */
export function limitConnections(
  server: Server,
  { most, perAddress }: ConnectionLimits,
  isExempt: (address: string | undefined) => boolean,
): void {
  server.maxConnections = most;
  const open = new Map<string, number>();
  server.on('connection', (socket) => {
    const { remoteAddress: address } = socket;
    if (address === undefined || isExempt(address)) return;
    const key = addressKey(address);
    const count = open.get(key) ?? 0;
    if (count >= perAddress) return void socket.destroy();
    open.set(key, count + 1);
    socket.once('close', () => {
      const left = (open.get(key) ?? 1) - 1;
      if (left === 0) open.delete(key);
      else open.set(key, left);
    });
  });
}

/** How often in this window, and when it ends; in milliseconds from now. */
type Counted = { current: number; ttl: number };

/**
 * Counts hits per key; a key's window begins with its first hit. In two generations: the older one goes when all its
 * windows have ended, or, among very many keys, sooner. (One map whose oldest key is deleted for each new one would be
 * searched for it from the start: what is deleted leaves holes, tens of thousands of them.)
 */
export class Windows {
  readonly #windowMs: number;
  readonly #most: number;
  readonly #now: () => number;
  #young = new Map<string, { ends: number; current: number }>();
  #old = new Map<string, { ends: number; current: number }>();
  #since: number;

  /** Windows of `windowMs`; at most `most` keys are kept. `now` is in milliseconds and never goes back. */
  constructor(windowMs: number, most = MOST_KEYS, now = () => performance.now()) {
    this.#windowMs = windowMs;
    this.#most = most;
    this.#now = now;
    this.#since = now();
  }

  get size(): number {
    return this.#young.size + this.#old.size;
  }

  hit(key: string): Counted {
    const now = this.#now();
    if (now >= this.#since + this.#windowMs || this.#young.size >= this.#most / 2) this.#age(now);
    let window = this.#young.get(key) ?? this.#old.get(key);
    if (window === undefined || window.ends <= now) {
      window = { ends: now + this.#windowMs, current: 0 };
      this.#young.set(key, window);
    }
    window.current += 1;
    return { current: window.current, ttl: window.ends - now };
  }

  #age(now: number): void {
    // After a rest of two windows the young ones have ended as well.
    this.#old = now >= this.#since + 2 * this.#windowMs ? new Map() : this.#young;
    this.#young = new Map();
    this.#since = now;
  }
}

class Counts {
  readonly #own: Windows;
  readonly #redis: Redis | undefined;
  readonly #restMs: number;
  #restUntil = 0;

  constructor(own: Windows, redis: Redis | undefined, restMs: number) {
    this.#own = own;
    this.#redis = redis;
    this.#restMs = restMs;
  }

  async count(key: string, windowMs: number): Promise<Counted> {
    const own = this.#own.hit(key);
    const all = await this.#countTogether(key, windowMs);
    return all !== undefined && all.current > own.current ? all : own;
  }

  async #countTogether(key: string, windowMs: number): Promise<Counted | undefined> {
    if (this.#redis?.status !== 'ready' || performance.now() < this.#restUntil) return undefined;
    try {
      const [current, ttl] = (await this.#redis.call('EVAL', COUNT, 1, `ussd:${key}`, windowMs)) as [
        number,
        number,
      ];
      return { current, ttl: Math.max(0, ttl) };
    } catch {
      this.#restUntil = performance.now() + this.#restMs;
      return undefined;
    }
  }
}

/** The plugin makes its own stores, one per limit; ours share one table, because keys say what they are. */
function storeOf(counts: Counts) {
  return class Store {
    incr(key: string, done: (error: Error | null, counted?: Counted) => void, windowMs: number): void {
      counts.count(key, windowMs).then((counted) => done(null, counted), done);
    }
    child(): Store {
      return this;
    }
  };
}

/** Connects in the background. The package is loaded here, not above: without `REDIS_URL` it is not needed. */
async function connectRedis(url: string): Promise<Redis> {
  const { Redis } = await import('ioredis');
  const redis = new Redis(url, {
    maxRetriesPerRequest: 1,
    enableOfflineQueue: false,
    connectTimeout: 500,
    commandTimeout: REDIS_MS,
    retryStrategy: () => 2_000,
  });
  // Without a listener a lost connection ends the process. Being away is not worth a line per attempt.
  redis.on('error', () => {});
  return redis;
}
