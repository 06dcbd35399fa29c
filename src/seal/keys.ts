import { createHash, createSecretKey, hkdfSync, type KeyObject } from 'node:crypto';

/** A ring of 256-bit root keys by key id; the first is active, the others still open what they sealed. */
export type KeyRing = { active: string; keys: ReadonlyMap<string, Buffer> };

/** A key or a ring that cannot be read. The message never quotes the key. */
export class KeyError extends Error {
  readonly code = 'key_unreadable';
}

/** What subkeys are for. A key serves one purpose only (NIST SP 800-57 part 1 §5.2). */
export type Purpose =
  | 'turns'
  | 'columns'
  | 'pins'
  | 'wrap'
  | 'check'
  | 'digest session'
  | 'digest phone'
  | 'digest text'
  | 'digest customer'
  | 'pseudonym';

/**
 * Reads `PIN_ENCRYPTION_KEY`: a ring `kid:key[,kid:key…]` (first is active) or one bare key, whose id
 * is a fingerprint of it. Throws `KeyError`.
 */
export function parseKeyRing(text: string): KeyRing {
  const keys = new Map<string, Buffer>();
  const entries = text.split(',').map((entry) => entry.trim());
  for (const entry of entries) {
    const colon = entry.indexOf(':');
    if (colon === -1 && entries.length > 1)
      throw new KeyError('every key of a ring needs an id: kid:key,kid:key');
    const key = parseKey(entry.slice(colon + 1));
    const kid = colon === -1 ? fingerprint(key) : entry.slice(0, colon);
    if (!/^[A-Za-z0-9_-]{1,16}$/.test(kid)) throw new KeyError('a key id is 1 to 16 letters, digits, - or _');
    if (keys.has(kid)) throw new KeyError(`the key id ${kid} stands twice`);
    keys.set(kid, key);
  }
  const active = keys.keys().next().value;
  if (active === undefined) throw new KeyError('there is no key');
  return { active, keys };
}

/** Reads one key: 64 hex digits, base64 of 32 bytes, or 32 printable ASCII characters. Throws `KeyError`. */
export function parseKey(text: string): Buffer {
  if (/^[0-9a-fA-F]{64}$/.test(text)) return Buffer.from(text, 'hex');
  if (/^[A-Za-z0-9+/_-]{43}=?$/.test(text)) return Buffer.from(text, 'base64');
  if (/^[!-~]{32}$/.test(text) && !/[:,]/.test(text)) return Buffer.from(text, 'latin1');
  throw new KeyError('a key is 32 characters, 64 hex digits or base64 of 32 bytes');
}

/**
 * A 256-bit subkey for one purpose (HKDF-SHA256, RFC 5869; the purpose is the info field). A key object, because
 * node makes one of a Buffer anew on every use: measured, 12 us of the 15 that a digest or a seal took.
 */
export function subkey(root: Buffer, purpose: Purpose, detail = ''): KeyObject {
  const info = detail === '' ? purpose : `${purpose}\0${detail}`;
  return createSecretKey(Buffer.from(hkdfSync('sha256', root, Buffer.alloc(0), info, 32)));
}

function fingerprint(key: Buffer): string {
  return createHash('sha256').update('ussd key id\0').update(key).digest('hex').slice(0, 8);
}
