import { createHmac } from 'node:crypto';
import { isSameSecret } from '../http/same-secret.ts';

/** The fields of a form; one that is there several times has a list. */
export type Fields = Readonly<Record<string, string | readonly string[]>>;

/**
 * What Twilio says in `X-Twilio-Signature`: the HMAC-SHA1, in base64, of the whole URL as it was given to Twilio
 * and of the posted fields in the order of their names, name and value without anything in between. A field
 * that is there several times counts once for each different value, in their order.
 * https://www.twilio.com/docs/usage/webhooks/webhooks-security; repeated fields are not described there and are
 * taken as its own libraries take them.
 */
export function signatureOf(url: string, fields: Fields, authToken: string): string {
  const said = Object.keys(fields)
    .sort()
    .flatMap((name) => [...new Set([fields[name] ?? []].flat())].sort().map((value) => name + value));
  return createHmac('sha1', authToken).update(url).update(said.join('')).digest('base64');
}

/**
 * Whether Twilio signed this form for this URL, in constant time. The URL is to be ours as Twilio was told it. It holds
 * with its port and without, because Twilio's own signers differ in whether they name it.
 */
export function isSigned(given: unknown, url: string, fields: Fields, authToken: string): boolean {
  return spellingsOf(url).some((spelling) => isSameSecret(given, signatureOf(spelling, fields, authToken)));
}

/** The URL without a port, and with the one that it has or its scheme implies. */
function spellingsOf(url: string): string[] {
  const [, start, scheme, port, rest = ''] = /^((https?):\/\/[^/?#]*?)(?::(\d+))?([/?#].*)?$/.exec(url) ?? [];
  if (start === undefined) return [url];
  return [start + rest, `${start}:${port ?? (scheme === 'https' ? '443' : '80')}${rest}`];
}
