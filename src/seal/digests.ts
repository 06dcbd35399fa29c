import { type _HMAC, hmac } from '@noble/hashes/hmac.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { Recent } from '../recent.ts';
import { subkey } from './keys.ts';

/** 128 bits tell any two texts apart that one deployment will ever see, at half the index size of 256. */
const DIGEST_BYTES = 16;

const ZERO = Buffer.of(0);

/** Digests of one kind that are kept, twice so many at the most: callers of some minutes on a busy instance. */
const RECENT = 8_192;

/**
 * Keyed digests (HMAC-SHA256, cut to 128 bits): look-ups without the value on disk. Keyed because
 * phone numbers and five-digit PINs are few enough to be tried one by one. Every kind has a key of its
 * own, so that a digest of one kind says nothing about another (docs/contract.md section 2).
 */
export class Digests {
  readonly #session: KeyedHash;
  readonly #phone: KeyedHash;
  readonly #text: KeyedHash;
  readonly #customer: KeyedHash;
  readonly #pseudonym: KeyedHash;
  // A session asks for the same ones at every turn. The names are in memory only, as those of its requests are.
  readonly #sessions = new Recent<Buffer>(RECENT);
  readonly #phones = new Recent<Buffer>(RECENT);
  readonly #pseudonyms = new Recent<string>(RECENT);

  constructor(root: Buffer) {
    this.#session = new KeyedHash(root, 'digest session');
    this.#phone = new KeyedHash(root, 'digest phone');
    this.#text = new KeyedHash(root, 'digest text');
    this.#customer = new KeyedHash(root, 'digest customer');
    this.#pseudonym = new KeyedHash(root, 'pseudonym');
  }

  /** The key of a session: gateways have session spaces of their own (decision 18). */
  session(gateway: string, sessionId: string): Buffer {
    return this.#sessions.of(`${gateway}\0${sessionId}`, (name) => digest(this.#session, Buffer.from(name)));
  }

  /**
   * The look-up digest of a phone number (E.164 with its plus). Throws where there is none: otherwise all who have
   * no phone would own the same things.
   */
  phone(msisdn: string): Buffer {
    if (msisdn === '') throw new Error('the caller has no phone');
    return this.#phones.of(msisdn, () => digest(this.#phone, Buffer.from(msisdn)));
  }

  /** By what a caller is known, and owns things: the phone, else being a partner's customer. */
  caller({ msisdn, customer }: { msisdn: string; customer?: { digest: Buffer } }): Buffer {
    return msisdn === '' && customer !== undefined ? customer.digest : this.phone(msisdn);
  }

  /** A customer of a partner, by the partner's own id of it: ids of different partners are different people. */
  customerOf(partner: string, id: string): Buffer {
    return this.key('customer', `${partner}\0${id}`);
  }

  /** The look-up digest of a Customer ID or a link code, upper case. */
  customer(id: string): Buffer {
    return digest(this.#customer, Buffer.from(id));
  }

  /** The address of a turn: its accumulated text within its session (decision 18). */
  text(sessionKey: Buffer, text: string): Buffer {
    return digest(this.#text, sessionKey, ZERO, Buffer.from(text));
  }

  /**
   * The address of a turn below another where the gateway sends no accumulated text: the parent's
   * address and what tells this request from others (decision 7). `kind` keeps ids and hops
   * apart, and from the digest of an input by which its repeat is told.
   */
  below(parent: Buffer, kind: 'id' | 'hop' | 'input', name: string): Buffer {
    return digest(this.#text, parent, ZERO, Buffer.from(`${kind}\0${name}`));
  }

  /** What names a turn among all turns, in 16 bytes of what its row is keyed by. */
  identity(rowKey: Buffer): Buffer {
    return digest(this.#text, Buffer.from('identity\0'), rowKey);
  }

  /** A name that a client or a provider chose, among those of one kind: idempotency keys, ids of orders. */
  key(kind: string, name: string): Buffer {
    return digest(this.#text, Buffer.from(`key\0${kind}\0`), Buffer.from(name));
  }

  /** What stands in logs instead of a phone number: `m_` and 48 bits in hex. */
  pseudonym(msisdn: string): string {
    return this.#pseudonyms.of(msisdn, () => `m_${this.#hidden(Buffer.from(msisdn))}`);
  }

  /** What stands in logs instead of a partner's customer: `c_` and 48 bits in hex. */
  customerPseudonym(customer: Buffer): string {
    return `c_${this.#hidden(customer)}`;
  }

  #hidden(value: Buffer): string {
    return this.#pseudonym.of(value).toString('hex', 0, 6);
  }
}

/** Bytes of a message that is joined in the scratch buffer; longer ones are joined in one of their own. */
const SCRATCH_BYTES = 1_024;

type Hmac = InstanceType<typeof _HMAC>;

/**
 * HMAC-SHA256 under one key (RFC 2104). In JavaScript: what it hashes is two blocks, and making the native objects for
 * them takes several times as long as that (docs/performance.md).
 */
class KeyedHash {
  readonly #keyed: Hmac;
  readonly #scratch = Buffer.alloc(SCRATCH_BYTES);
  #working: Hmac;

  constructor(root: Buffer, purpose: Parameters<typeof subkey>[1]) {
    this.#keyed = hmac.create(sha256, subkey(root, purpose).export()).clone();
    this.#working = this.#keyed.clone();
  }

  /** Returns all 256 bits of the parts one behind the other. */
  of(...parts: Buffer[]): Buffer {
    this.#working = this.#keyed._cloneInto(this.#working);
    let length = 0;
    for (const part of parts) length += part.length;
    const message = length <= SCRATCH_BYTES ? this.#scratch : Buffer.alloc(length);
    let at = 0;
    for (const part of parts) {
      message.set(part, at);
      at += part.length;
    }
    const digest = Buffer.allocUnsafe(32);
    this.#working.update(message.subarray(0, length));
    this.#working.digestInto(digest);
    // What was typed is not left behind; noble clears its own blocks.
    message.fill(0, 0, length);
    return digest;
  }
}

function digest(key: KeyedHash, ...parts: Buffer[]): Buffer {
  return key.of(...parts).subarray(0, DIGEST_BYTES);
}
