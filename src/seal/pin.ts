import { randomBytes, randomInt, scrypt, timingSafeEqual } from 'node:crypto';
import type { Box } from './box.ts';

/**
 * scrypt with N=2^14, r=8, p=1: 16 MB and about 50 ms (OWASP ASVS 5.0, 11.4.2). A five-digit PIN cannot
 * stand alone whatever it costs; the hash is sealed under a key that is not in the database.
 */
const BLOCK = { r: 8, p: 1 };
/** log2 of N, the cost that production hashes with. */
export const PIN_COST = 14;
const SALT_BYTES = 16;
const HASH_BYTES = 32;
/** The first byte of a verifier: log2 of the N that it was made with. Verifiers of the first layout say 1 for 14. */
const FIRST_LAYOUT = 1;
const HIGHEST_COST = 20;

/** Too many wait for a PIN to be checked; nothing was counted. */
export class PinsBusy extends Error {
  readonly code = 'pins_busy';
}

/** Makes a slow salted hash of a PIN: `cost | salt | hash`, with `cost` = log2(N). To be sealed before it is kept. */
export async function hashPin(pin: string, cost = PIN_COST): Promise<Buffer> {
  const salt = randomBytes(SALT_BYTES);
  return Buffer.concat([costByte(cost), salt, await derive(pin, salt, cost)]);
}

/** Tells whether a PIN is the one that a verifier was made of; false for a verifier of an unknown layout. */
export async function matchesPin(pin: string, verifier: Buffer): Promise<boolean> {
  const cost = verifier[0] === FIRST_LAYOUT ? PIN_COST : (verifier[0] ?? 0);
  if (cost < 2 || cost > HIGHEST_COST || verifier.length !== 1 + SALT_BYTES + HASH_BYTES) return false;
  const salt = verifier.subarray(1, 1 + SALT_BYTES);
  return timingSafeEqual(await derive(pin, salt, cost), verifier.subarray(1 + SALT_BYTES));
}

/** Makes a verifier that no PIN matches: an unknown ID is checked against it, so that it takes the same time. */
export function unmatchable(cost = PIN_COST): Buffer {
  return Buffer.concat([costByte(cost), randomBytes(SALT_BYTES + HASH_BYTES)]);
}

function costByte(cost: number): Buffer {
  // An instance of the version before, beside this one during an upgrade, knows the first layout only.
  return Buffer.of(cost === PIN_COST ? FIRST_LAYOUT : cost);
}

function derive(pin: string, salt: Buffer, cost: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    scrypt(pin, salt, HASH_BYTES, { ...BLOCK, N: 2 ** cost }, (error, key) =>
      error === null ? resolve(key) : reject(error),
    );
  });
}

/**
 * What a check needs of a request's time once it has a slot, in milliseconds: the account, the count of the try, scrypt,
 * and the turn's own transaction. A slot that comes later would count a try that cannot be answered any more.
 */
const WORK_MS = 1_500;

/** When an answer is due. */
type Due = { left(): number };

/**
 * Slots for PIN work: scrypt runs on libuv's four threads, which turns need for nothing, but names and files do, so
 * two of them are all it may take. A request waits for one as long as it can still be answered in time behind it, and
 * no more than `queue` requests wait.
 */
export class PinSlots {
  readonly #slots: number;
  readonly #queue: number;
  #held = 0;
  readonly #workMs: number;
  readonly #waiting = new Set<() => void>();

  constructor(slots = 2, queue = 64, workMs = WORK_MS) {
    this.#slots = slots;
    this.#queue = queue;
    this.#workMs = workMs;
  }

  /** Runs with a slot held. Throws `PinsBusy`, and runs nothing, where too many wait or none is free in time. */
  async run<T>(work: () => Promise<T>, due?: Due): Promise<T> {
    if (this.#held >= this.#slots) {
      if (this.#waiting.size >= this.#queue) throw new PinsBusy();
      await this.#wait(due && due.left() - this.#workMs);
    } else {
      this.#held += 1;
    }
    try {
      return await work();
    } finally {
      const [next] = this.#waiting;
      if (next === undefined) this.#held -= 1;
      else next();
    }
  }

  /** Waits for a slot that is handed on, first come first served. */
  #wait(milliseconds?: number): Promise<void> {
    if (milliseconds !== undefined && milliseconds <= 0) return Promise.reject(new PinsBusy());
    return new Promise((resolve, reject) => {
      const take = () => {
        clearTimeout(timer);
        this.#waiting.delete(take);
        resolve();
      };
      const giveUp = () => {
        this.#waiting.delete(take);
        reject(new PinsBusy());
      };
      const timer = milliseconds === undefined ? undefined : setTimeout(giveUp, milliseconds);
      this.#waiting.add(take);
    });
  }
}

/** The commonest five-digit PINs of published lists that no rule below refuses by itself. */
const COMMON = new Set(
  `00700 00007 00123 00420 01230 01477 02580 04200 05050 06969 07070 07734 08520 09090 10000 10010 10020 10100 11000
   11112 11122 11222 11223 11233 12000 12013 12100 12121 12123 12124 12233 12300 12301 12312 12313 12323 12340 12341
   12344 12346 12347 12349 12358 12369 12378 12389 12399 12412 12512 12568 12578 12589 12712 13131 13333 13524 14141
   14256 14523 14725 14785 14789 15151 15926 15935 15963 16161 17171 18181 20000 20202 21212 22333 23232 24242 25802
   25800 26262 31313 31415 32323 33221 34343 35715 36987 38317 42042 42069 44556 45454 45678 50000 51515 52025 54545
   55123 55667 56565 64646 66600 66677 69420 69696 71717 74123 75321 75395 77788 78787 78963 80085 80808 82828 85207
   86753 90000 90210 91827 95175 95959 96321 98789`
    .trim()
    .split(/\s+/),
);

/**
 * PINs that are tried first: repeats, runs and even steps both ways, palindromes, years, the tail of the
 * caller's own number, the commonest (NIST SP 800-63B §5.1.1.2: compare against a blocklist).
 */
export function isWeakPin(pin: string, msisdn: string): boolean {
  const digits = [...pin].map(Number);
  const steps = digits.slice(1).map((digit, index) => (digit - (digits[index] ?? 0) + 10) % 10);
  const even = steps.every((step) => step === steps[0]);
  const reversed = [...pin].reverse().join('');
  const tail = msisdn.slice(-pin.length);
  return (
    even ||
    pin === reversed ||
    new Set(pin).size <= 2 ||
    /^(19[4-9]|20[0-3])\d/.test(pin) ||
    /(19[4-9]|20[0-3])\d$/.test(pin) ||
    pin === tail ||
    reversed === tail ||
    COMMON.has(pin)
  );
}

const PENDING = Buffer.from('pending');

/** A first new PIN until it has been typed again: its slow hash, sealed, as text for a session's memory. */
export class PendingPins {
  readonly #box: Box;

  constructor(box: Box) {
    this.#box = box;
  }

  seal(verifier: Buffer): string {
    return this.#box.seal(verifier, PENDING).toString('base64');
  }

  /** Throws `SealError`. */
  open(kept: string): Buffer {
    return this.#box.open(Buffer.from(kept, 'base64'), PENDING);
  }
}

/** Returns a random PIN for one use that is not among the usual guesses. */
export function oneTimePin(msisdn: string): string {
  for (;;) {
    const pin = String(randomInt(100_000)).padStart(5, '0');
    if (!isWeakPin(pin, msisdn)) return pin;
  }
}

/** A random code of letters and digits that are not mistaken for one another. */
export function randomCode(alphabet: string, length: number): string {
  return Array.from({ length }, () => alphabet[randomInt(alphabet.length)]).join('');
}
