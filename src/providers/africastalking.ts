import { africasTalkingAirtime } from './africastalking-airtime.ts';
import { africasTalkingSms } from './africastalking-sms.ts';
import type { Post } from './africastalking-wire.ts';
import { postForm } from './call.ts';
import { ProviderError, type Providers } from './provider.ts';

/**
 * Whose account, where, and how long a call may take as a whole (in milliseconds). `contentUrl` is the base
 * of two-way messages where it differs from `baseUrl`. Base URLs have no slash at the end.
 */
export type AfricasTalking = {
  username: string;
  apiKey: string;
  baseUrl: string;
  contentUrl?: string;
  timeoutMs: number;
};

/**
 * Africa's Talking over its HTTP API: airtime, and messages by the classic endpoint.
 * https://developers.africastalking.com/docs/airtime/sending, …/docs/sms/sending
 */
export function africasTalking({
  username,
  apiKey,
  baseUrl,
  contentUrl = baseUrl,
  timeoutMs,
}: AfricasTalking): Providers {
  const post: Post = async (url, key, fields) => {
    // A header cannot carry anything else, and the complaint of `fetch` would quote it.
    if (!/^[!-~]{1,255}$/.test(key)) throw new ProviderError('refused_key', false);
    const headers = { apiKey, 'Idempotency-Key': key };
    return postForm({ url, headers, fields: { username, ...fields }, timeoutMs });
  };
  return {
    by: username === 'sandbox' ? "Africa's Talking (sandbox)" : "Africa's Talking",
    airtime: africasTalkingAirtime(post, baseUrl),
    sms: africasTalkingSms(post, baseUrl, contentUrl),
  };
}
