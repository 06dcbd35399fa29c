import type { Digests } from '../seal/digests.ts';
import { rememberLanguage as remember } from '../store/subscribers.ts';
import type { EffectKind } from './effect.ts';

/** `rememberLanguage { language }`: for this session and for the next dial of the phone. */
export function rememberLanguage(digests: Digests): EffectKind {
  return { commit: ({ language = '' }, { tx, msisdn }) => remember(tx, digests.phone(msisdn), language) };
}
