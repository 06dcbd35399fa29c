import { createCipheriv, createDecipheriv, type KeyObject, randomFillSync } from 'node:crypto';
import { type KeyRing, type Purpose, subkey } from './keys.ts';

const IV_BYTES = 12;
const TAG_BYTES = 16;
/** IVs drawn at a time: drawing each by itself took as long as sealing with it. */
const IVS = 256;

/** A sealed record names a key that is not in the ring, or does not open under it. */
export class SealError extends Error {
  readonly code: 'key_missing' | 'seal_broken';
  constructor(code: 'key_missing' | 'seal_broken') {
    super(code);
    this.code = code;
  }
}

/**
 * Seals bytes for one purpose: AES-256-GCM, random 96-bit IV, 128-bit tag (NIST SP 800-38D §8.2.2).
 *
 * A record is `length of key id | key id | IV | tag | ciphertext`. `bound` is the additional data: a
 * record opens only where it was sealed, so rows cannot be swapped. `detail` gives a subkey of its own,
 * for purposes that would otherwise seal more than 2^32 times under one key.
 */
export class Box {
  readonly #ring: KeyRing;
  readonly #purpose: Purpose;
  /** Subkeys derived so far; details are days, so the newest few are all that is asked for. */
  readonly #subkeys = new Map<string, KeyObject>();

  readonly #ivs = Buffer.alloc(IVS * IV_BYTES);
  #used = IVS;

  constructor(ring: KeyRing, purpose: Purpose) {
    this.#ring = ring;
    this.#purpose = purpose;
  }

  seal(plain: Buffer, bound: Buffer, detail = ''): Buffer {
    const kid = Buffer.from(this.#ring.active, 'latin1');
    const iv = this.#iv();
    const cipher = createCipheriv('aes-256-gcm', this.#subkey(this.#ring.active, detail), iv, {
      authTagLength: TAG_BYTES,
    });
    cipher.setAAD(bound);
    const body = cipher.update(plain);
    cipher.final();
    return Buffer.concat([Buffer.of(kid.length), kid, iv, cipher.getAuthTag(), body]);
  }

  /** Throws `SealError`: `key_missing` for a key that left the ring, `seal_broken` for anything else. */
  open(record: Uint8Array, bound: Buffer, detail = ''): Buffer {
    const bytes = Buffer.from(record.buffer, record.byteOffset, record.byteLength);
    const kidEnd = 1 + (bytes[0] ?? 0);
    const ivEnd = kidEnd + IV_BYTES;
    const tagEnd = ivEnd + TAG_BYTES;
    if (bytes.length < tagEnd) throw new SealError('seal_broken');
    const key = this.#subkey(bytes.toString('latin1', 1, kidEnd), detail);
    try {
      const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(kidEnd, ivEnd), {
        authTagLength: TAG_BYTES,
      });
      decipher.setAAD(bound);
      decipher.setAuthTag(bytes.subarray(ivEnd, tagEnd));
      const plain = decipher.update(bytes.subarray(tagEnd));
      decipher.final();
      return plain;
    } catch {
      throw new SealError('seal_broken');
    }
  }

  /**
   * The same under the active key; undefined where it is already. For rotation, which must not touch what
   * needs no touching.
   */
  reseal(record: Uint8Array, bound: Buffer): Buffer | undefined {
    const kid = Buffer.from(record.subarray(1, 1 + (record[0] ?? 0))).toString('latin1');
    return kid === this.#ring.active ? undefined : this.seal(this.open(record, bound), bound);
  }

  /** Random, and used once: what comes of it is a copy. */
  #iv(): Buffer {
    if (this.#used === IVS) {
      randomFillSync(this.#ivs);
      this.#used = 0;
    }
    const at = this.#used * IV_BYTES;
    this.#used += 1;
    return this.#ivs.subarray(at, at + IV_BYTES);
  }

  #subkey(kid: string, detail: string): KeyObject {
    const name = `${kid}\0${detail}`;
    const known = this.#subkeys.get(name);
    if (known !== undefined) return known;
    const root = this.#ring.keys.get(kid);
    if (root === undefined) throw new SealError('key_missing');
    if (this.#subkeys.size >= 64) this.#subkeys.clear();
    const made = subkey(root, this.#purpose, detail);
    this.#subkeys.set(name, made);
    return made;
  }
}
