import { createHash, timingSafeEqual } from 'node:crypto';

/**
 * Returns whether a secret that a client sent (a path piece, a header, a token, a signature) is the expected one.
 * Compares SHA-256 digests, so that the time depends on neither the length nor the place of the first difference. A
 * value that is missing or not a string is compared as `''`.
 */
export function isSameSecret(given: unknown, expected: string): boolean {
  return timingSafeEqual(sha256(typeof given === 'string' ? given : ''), sha256(expected));
}

function sha256(value: string): Buffer {
  return createHash('sha256').update(value).digest();
}
