/** One form to one endpoint, with our credentials; the JSON of the answer. Throws `ProviderError`. */
export type Post = (url: string, key: string, fields: Record<string, string>) => Promise<unknown>;

/** docs/contract.md section 1. Anything else could name a second recipient, because lists are joined by commas. */
export const MSISDN = /^\+[1-9]\d{1,14}$/;

/** The number as digits with country code; spaces, dashes, `+` and `00` are a matter of spelling. */
export function digitsOf(number: string): string {
  return number.replace(/\D/g, '').replace(/^00/, '');
}

/** An id that the far side gave; `None` is how it says that there is none. */
export function idOf(given: unknown): string | undefined {
  return typeof given === 'string' && given !== 'None' && /^[!-~]{1,200}$/.test(given) ? given : undefined;
}
